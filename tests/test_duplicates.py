import tracemalloc

import numpy as np
from helpers import wall
from PIL import Image

from heritage.duplicates import CLOSE_BITS, close_pairs, perceptual_hash
from heritage.priority import similar_groups


def test_a_resized_and_recompressed_copy_is_close_and_another_wall_is_not():
    photo = wall(True, (640, 480), seed=1)
    copy = np.asarray(Image.fromarray(photo).resize((300, 225)))
    others = [wall(True, (640, 480), seed) for seed in range(2, 8)]
    hashes = [perceptual_hash(p) for p in [copy, *others]]
    pairs = close_pairs([perceptual_hash(photo)], hashes)
    assert [(i, j) for i, j, _ in pairs] == [(0, 0)]
    assert 0 <= pairs[0][2] <= CLOSE_BITS


def test_pairs_come_closest_first_and_only_within_the_limit():
    left, right = [0b1111], [0b1111, 0b0111, 0b0000, 0b0011]
    assert close_pairs(left, right, within_bits=2) == [(0, 0, 0), (0, 1, 1), (0, 3, 2)]
    assert close_pairs([], right) == close_pairs(left, []) == []


def test_the_highest_bit_counts_like_any_other():
    assert close_pairs([2**63], [2**63 + 1], within_bits=1) == [(0, 0, 1)]


def test_a_group_is_all_that_a_chain_of_look_alikes_leads_to():
    chain = [0, 0b111111, 0b111111_111111]  # the first and the last are 12 bits apart
    assert similar_groups([2**60 - 1, *chain, 2**63, 2**60 - 1]) == [1, 2, 2, 2, 2, 1]
    assert similar_groups([2**64 - 1, 0, 2**32 - 1]) == [None] * 3
    assert similar_groups([]) == []


def test_many_look_alikes_take_no_more_memory_than_as_many_strangers():
    rng = np.random.default_rng(0)
    strangers = rng.integers(0, 2**64, 4000, np.uint64).tolist()
    alike = [1 << int(bit) for bit in rng.integers(0, 64, 4000)]
    peaks = []
    for hashes in (strangers, alike):
        tracemalloc.start()
        groups = similar_groups(hashes)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(groups) == 4000
    assert set(groups) == {1}
    assert peaks[1] < 2 * peaks[0]
