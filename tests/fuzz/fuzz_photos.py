"""Fuzzes the decoder: `python tests/fuzz/fuzz_photos.py SECONDS`."""

from __future__ import annotations

import struct
import zlib

import atheris
from harness import fuzz

with atheris.instrument_imports(include=["heritage", "PIL", "pillow_heif"]):
    from PIL import ImageCms

    from heritage.errors import HeritageError
    from heritage.photos import open_photo

import bad_input

MOST_BYTES = 9000
MOST_PIXELS = 1_000_000  # to decode more is allowed, and takes its time


def read(data: bytes) -> None:
    """A photo is upright pixels of the stated size, or one error on one line."""
    try:
        photo = open_photo(data, "tower.jpg")
        if photo.width * photo.height <= MOST_PIXELS:
            assert photo.pixels().shape == (photo.height, photo.width, 3)
            small = photo.pixels(long_side_px=40)
            assert max(small.shape) == 40
    except HeritageError as error:
        words = str(error)
        assert words.startswith("tower.jpg: ") and words.isprintable() and len(words) < 300


def mutate(data: bytes, most: int, seed: int) -> bytes:
    """libFuzzer's own, with the checksums of a PNG put right: behind them nothing else is tried."""
    changed = bytearray(atheris.Mutate(data, most))
    at = 8
    while seed % 8 and changed.startswith(b"\x89PNG") and at + 12 <= len(changed):
        end = at + 8 + int.from_bytes(changed[at : at + 4], "big")
        if end + 4 > len(changed):
            break
        changed[end : end + 4] = struct.pack(">L", zlib.crc32(changed[at + 4 : end]))
        at = end + 4
    return bytes(changed)


if __name__ == "__main__":
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    small = bad_input.picture((40, 40))
    profiled = [
        bad_input.encoded(small, fmt, icc_profile=srgb) for fmt in ("JPEG", "PNG", "TIFF", "HEIF")
    ]
    seeds = [case.data for case in bad_input.photos() if len(case.data) <= MOST_BYTES]
    fuzz(read, [*map(bad_input.good, bad_input.GOOD), *profiled, *seeds], mutate)
