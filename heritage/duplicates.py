"""Photos that show the same thing: perceptual hashes and the pairs that are close by them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from imagehash import phash
from PIL import Image

HASH_BITS = 64
CLOSE_BITS = 6  # at most this many differing bits: resized, recompressed, slightly retouched copies


def perceptual_hash(pixels: np.ndarray) -> int:
    """The photo's 64-bit perceptual hash (DCT, Zauner 2010), from RGB (h, w, 3) uint8."""
    bits = phash(Image.fromarray(pixels)).hash.flatten()
    return int(np.packbits(bits).view(">u8")[0])


def close_pairs(
    left: Sequence[int], right: Sequence[int], *, within_bits: int = CLOSE_BITS
) -> list[tuple[int, int, int]]:
    """Pairs of a hash in `left` and one in `right` that differ in few bits.

    Returns:
        (index in `left`, index in `right`, differing bits), the closest first.
    """
    if not left or not right:
        return []
    other = np.array(right, np.uint64)
    pairs = []
    for i, value in enumerate(left):  # row by row: all against all at once would fill the memory
        apart = np.bitwise_count(np.uint64(value) ^ other)
        pairs += [(i, int(j), int(apart[j])) for j in np.flatnonzero(apart <= within_bits)]
    return sorted(pairs, key=lambda pair: pair[2])
