import numpy as np
from helpers import wall
from PIL import Image

from heritage.duplicates import CLOSE_BITS, close_pairs, perceptual_hash


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
