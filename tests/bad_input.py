"""Bad input, the same on every call: photos, ZIPs, checkpoints and manifests that do harm.

Each family is a function that yields named cases and says what must become of them. Torch-free,
so that a process that only reads photos can be given them.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import random
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

REFUSED, READS, EITHER = "refused", "reads", "either"
SIZE = (120, 90)
SUFFIX = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "TIFF": "tif", "BMP": "bmp", "HEIF": "heic"}
GOOD = {  # format and options of the sound photos that are spoilt
    "jpeg": ("JPEG", {"quality": 80}),
    "progressive": ("JPEG", {"progressive": True}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {"quality": 80}),
    "lossless": ("WEBP", {"lossless": True}),
    "tiff": ("TIFF", {}),
    "lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "bmp": ("BMP", {}),
    "heif": ("HEIF", {}),
}


@dataclass(frozen=True)
class Case:
    """A file, what it is called, and what must become of it."""

    family: str
    what: str
    name: str
    data: bytes
    expected: str
    size: tuple[int, int] | None = SIZE


@dataclass(frozen=True)
class ZipCase:
    """A ZIP that is refused as a whole, or lists photos of which each is read or refused."""

    what: str
    data: bytes
    expected: str | dict[str, str]


@dataclass(frozen=True)
class CheckpointCase:
    """The two files of a checkpoint."""

    what: str
    card: bytes
    weights: bytes
    expected: str = REFUSED


# --- sound photos ----------------------------------------------------------------------------


@cache
def picture(size: tuple[int, int] = SIZE, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A coarse pattern with grain: no two bytes of a file made from it are for nothing."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(60, 200, (5, 6, 3), np.uint8))
    smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).astype(int)
    grain = rng.integers(-9, 10, (size[1], size[0], 1))
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).convert(mode)


def encoded(im: Image.Image, fmt: str, **options: Any) -> bytes:
    out = io.BytesIO()
    if fmt == "HEIF":
        pillow_heif.from_pillow(im).save(out, quality=60, **options)
    else:
        im.save(out, fmt, **options)
    return out.getvalue()


@cache
def good(kind: str) -> bytes:
    """A sound photo of `SIZE`, by its name in `GOOD`."""
    fmt, options = GOOD[kind]
    return encoded(picture(), fmt, **options)


def suffix(kind: str) -> str:
    return SUFFIX[GOOD[kind][0]]


# --- files laid out by hand ------------------------------------------------------------------


def png_chunk(kind: bytes, payload: bytes = b"") -> bytes:
    crc = struct.pack(">L", zlib.crc32(kind + payload))
    return struct.pack(">L", len(payload)) + kind + payload + crc


def png(width: int, height: int, pixels: bytes = b"", *between: bytes, colour: int = 2) -> bytes:
    """A PNG that states any size, whatever its pixels are."""
    header = struct.pack(">LLBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = (png_chunk(b"IHDR", header), *between, png_chunk(b"IDAT", zlib.compress(pixels)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + png_chunk(b"IEND")


def png_with(*chunks: bytes) -> bytes:
    """The sound PNG with chunks behind its header."""
    return good("png")[:33] + b"".join(chunks) + good("png")[33:]


def tiff(tags: dict[int, int | tuple[int, int, int]], payload: bytes = b"") -> bytes:
    """A little-endian TIFF: tag to a number, or to its type, count and value or place.

    The payload begins at 8; the directory follows it.
    """
    entries = b"".join(
        struct.pack("<HHLL", tag, *(value if isinstance(value, tuple) else (4, 1, value)))
        for tag, value in sorted(tags.items())
    )
    payload += bytes(len(payload) % 2)
    start = struct.pack("<L", 8 + len(payload))
    return b"II*\0" + start + payload + struct.pack("<H", len(tags)) + entries + bytes(4)


def grey_tiff(width: int, height: int, payload: bytes, compression: int = 1, **more: Any) -> bytes:
    """A grey TIFF of one strip; further tags as `t277=1`."""
    tags: dict[int, Any] = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 277: 1}
    tags |= {273: 8, 278: height, 279: len(payload)}
    return tiff(tags | {int(key[1:]): value for key, value in more.items()}, payload)


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        kind + struct.pack("<L", len(payload)) + payload + bytes(len(payload) % 2)
        for kind, payload in chunks
    )
    return b"RIFF" + struct.pack("<L", 4 + len(body)) + b"WEBP" + body


def bmp(
    width: int, height: int, bits: int = 24, compression: int = 0, pixels: bytes = b""
) -> bytes:
    facts = struct.pack("<LllHHLLllLL", 40, width, height, 1, bits, compression, 0, 1, 1, 0, 0)
    palette = bytes(4 * 2**bits) if bits <= 8 else b""
    start = 14 + len(facts) + len(palette)
    size = struct.pack("<LLL", start + len(pixels), 0, start)
    return b"BM" + size + facts + palette + pixels


def jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    """The sound JPEG with segments, each a marker and its content, at its beginning."""
    made = b"".join(b"\xff%c" % kind + struct.pack(">H", len(s) + 2) + s for kind, s in segments)
    return good("jpeg")[:2] + made + good("jpeg")[2:]


def jpeg_stating(width: int, height: int, data: bytes = b"") -> bytes:
    data = data or good("jpeg")
    at = re.search(rb"\xff[\xc0\xc2]\0", data).start()  # type: ignore[union-attr]
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def jpeg_of_scans(count: int) -> bytes:
    """A progressive JPEG that refines the same coefficients over and over."""
    data = good("progressive")
    scans = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    tables = data.rindex(b"\xff\xc4", 0, scans[1])
    end = re.compile(rb"\xff[^\0\xd0-\xd7\xff]", re.DOTALL).search(data, scans[1] + 10)
    assert end
    return data[:-2] + data[tables : end.start()] * count + data[-2:]


def jpeg_steps(data: bytes) -> list[int]:
    """Where the segments of a JPEG begin."""
    at, found = 2, []
    while data[at] == 0xFF and data[at + 1] != 0xDA:
        found.append(at)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return [*found, at]


def png_steps(data: bytes) -> list[int]:
    at, found = 8, []
    while at < len(data):
        found.append(at)
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return found


def riff_steps(data: bytes) -> list[int]:
    at, found = 12, []
    while at < len(data):
        found.append(at)
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return found


def box_steps(data: bytes, at: int = 0, end: int | None = None) -> list[int]:
    """Where the boxes of a HEIC begin, those within boxes too."""
    inner = {b"meta": 12, b"iprp": 8, b"ipco": 8}
    found = []
    while at + 8 <= (len(data) if end is None else end):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        found.append(at)
        if kind in inner:
            found += box_steps(data, at + inner[kind], at + size)
        at += max(size, 8)
    return found


def tiff_steps(data: bytes) -> list[int]:
    """Where the directory and each of its entries begin."""
    at = int.from_bytes(data[4:8], "little")
    return [4, at, *(at + 2 + 12 * n for n in range(int.from_bytes(data[at : at + 2], "little")))]


STEPS = {
    "JPEG": jpeg_steps,
    "PNG": png_steps,
    "WEBP": riff_steps,
    "TIFF": tiff_steps,
    "BMP": lambda data: [2, 10, 14, 18, 54],
    "HEIF": box_steps,
}


def heic_stating(width: int, height: int) -> bytes:
    """A HEIC whose box states any size, whatever its stream holds."""
    data = good("heif")
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">LL", width, height) + data[at + 8 :]


def heic_streaming(width: int, height: int) -> bytes:
    """A HEIC of 120 × 90 pixels by its boxes, whose HEVC stream states any size."""
    data = good("heif")
    at = data.index(b"\x61\0\1", data.index(b"hvcC")) + 3  # one sequence parameter set
    length = int.from_bytes(data[at : at + 2], "big")
    old = data[at + 2 : at + 2 + length]
    plain = old.replace(b"\0\0\3", b"\0\0")
    bits = f"{int.from_bytes(plain, 'big'):0{8 * len(plain)}b}".rstrip("0")
    place = 16 + 8 + 96  # header, ids, profile and level of a stream without sublayers
    for _ in range(2):  # its own number and the kind of chroma
        place = _golomb_end(bits, place)
    rest = _golomb_end(bits, _golomb_end(bits, place))
    bits = bits[:place] + "".join(_golomb(side) for side in (width, height)) + bits[rest:]
    bits += "0" * (-len(bits) % 8)
    new = int(bits, 2).to_bytes(len(bits) // 8, "big")
    new = re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", new)
    more = len(new) - length
    grown = bytearray(data)
    for box in (b"meta", b"iprp", b"ipco", b"hvcC"):
        start = data.index(box) - 4
        size = int.from_bytes(data[start : start + 4], "big") + more
        grown[start : start + 4] = struct.pack(">L", size)
    stream = struct.pack(">L", data.index(b"mdat") + 4)
    moved = data.index(stream, data.index(b"iloc"))
    grown[moved : moved + 4] = struct.pack(">L", data.index(b"mdat") + 4 + more)
    grown[at : at + 2 + length] = struct.pack(">H", len(new)) + new
    return bytes(grown)


def _golomb(number: int) -> str:
    digits = f"{number + 1:b}"
    return "0" * (len(digits) - 1) + digits


def _golomb_end(bits: str, at: int) -> int:
    return 2 * bits.index("1", at) - at + 1


def exif(*entries: tuple[int, int, int, int], more: bytes = b"", pages: int = 0) -> bytes:
    """EXIF of (tag, type, count, value or place) entries; `more` begins behind the directory."""
    packed = b"".join(struct.pack("<HHLL", *entry) for entry in entries)
    head = struct.pack("<LH", 8, len(entries))
    return b"Exif\0\0II*\0" + head + packed + struct.pack("<L", pages) + more


def gps(latitude: bytes, longitude: bytes, kind: int = 5, north: bytes = b"N", east: bytes = b"E"):
    """EXIF with a position of any bytes, three parts of eight bytes where they are rationals."""
    inner = 8 + 2 + 12 + 4
    place = inner + 2 + 4 * 12 + 4
    part = {5: 8, 10: 8, 3: 2, 4: 4, 2: 1, 12: 8}[kind]
    entries = [
        (1, 2, 2, int.from_bytes(north, "little")),
        (2, kind, len(latitude) // part, place),
        (3, 2, 2, int.from_bytes(east, "little")),
        (4, kind, len(longitude) // part, place + len(latitude)),
    ]
    directory = struct.pack("<H", 4) + b"".join(struct.pack("<HHLL", *e) for e in entries)
    return exif((0x8825, 4, 1, inner), more=directory + bytes(4) + latitude + longitude)


def degrees(*parts: tuple[int, int]) -> bytes:
    return b"".join(struct.pack("<LL", *part) for part in parts)


# --- photos ----------------------------------------------------------------------------------


def photos() -> Iterator[Case]:
    """Every bad photo, each under a name of its own."""
    families = (
        *(empty, truncated, flipped, noise, wrong_suffix, no_photo, polyglots, bombs, shapes),
        *(odd_exif, odd_structure, odd_names),
    )
    for family in families:
        yield from family()


def empty() -> Iterator[Case]:
    """No byte at all, or the first few that tell a format."""
    for end in SUFFIX.values():
        yield Case("empty", f"no byte, {end}", f"empty.{end}", b"", REFUSED)
    for kind in ("jpeg", "png", "webp", "tiff", "bmp", "heif"):
        for length in (1, 2, 3, 4, 8, 12, 16):
            name = f"first-{length}.{suffix(kind)}"
            yield Case("empty", f"{length} bytes, {kind}", name, good(kind)[:length], REFUSED)


def truncated() -> Iterator[Case]:
    """Cut where a part begins, within one, within the pixels, and just before the end."""
    for kind in GOOD:
        data = good(kind)
        steps = STEPS[GOOD[kind][0]](data)
        cuts = {*steps, *(step + 3 for step in steps), *(len(data) * n // 10 for n in range(1, 10))}
        for cut in sorted(cut for cut in cuts if 16 < cut < 0.99 * len(data)):
            name = f"cut-{kind}-{cut}.{suffix(kind)}"
            # What a TIFF says of itself may stand behind its pixels, and the last of it be idle.
            idle = GOOD[kind][0] == "TIFF" and cut > steps[1]
            expected = EITHER if idle else REFUSED
            yield Case("truncated", f"{kind} at {cut}", name, data[:cut], expected)
        for missing in (1, 2, 4):
            name = f"short-{kind}-{missing}.{suffix(kind)}"
            yield Case("truncated", f"{kind} less {missing}", name, data[:-missing], EITHER)


def flipped() -> Iterator[Case]:
    """One bit, or some in a row of bytes: in the header and anywhere."""
    for kind in GOOD:
        for n in range(14):
            rng = random.Random(f"{kind}{n}")
            data = bytearray(good(kind))
            reach = (64, 400, len(data))[n % 3]
            for _ in range((1, 1, 5, 40)[n % 4]):
                data[rng.randrange(min(reach, len(data)))] ^= 1 << rng.randrange(8)
            name = f"flip-{kind}-{n}.{suffix(kind)}"
            yield Case("bits flipped", f"{kind} {n}", name, bytes(data), EITHER, size=None)


def noise() -> Iterator[Case]:
    """Noise or zeros behind the bytes that tell a format."""
    for kind in ("jpeg", "png", "webp", "tiff", "bmp", "heif"):
        for n, length in enumerate((40, 4000, 60_000)):
            rest = random.Random(f"{kind}{n}").randbytes(length)
            for what, body in (("noise", rest), ("zeros", bytes(length))):
                name = f"{what}-{kind}-{length}.{suffix(kind)}"
                yield Case("noise", f"{what}, {kind}", name, good(kind)[:12] + body, REFUSED)


def wrong_suffix() -> Iterator[Case]:
    """A sound photo called by the suffix of another format: its content is what counts."""
    for kind in ("jpeg", "png", "webp", "tiff", "bmp", "heif"):
        for other in ("jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "heic", "heif"):
            if not other.startswith(suffix(kind)[:3]):
                name = f"really-{kind}.{other}"
                yield Case("wrong suffix", f"{kind} as {other}", name, good(kind), READS)


def no_photo() -> Iterator[Case]:
    """Other kinds of file under a photo's name."""
    gif = encoded(picture(), "GIF")
    frames = [picture(seed=1)]
    for what, data in {
        "gif": gif,
        "pdf": b"%PDF-1.7\n1 0 obj\n<</Type/Catalog>>\nendobj\n",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        "svg bomb": b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'aa'>]><svg>&a;</svg>",
        "html": b"<!DOCTYPE html><script>alert(1)</script>",
        "text": "Grüße vom Turm\n".encode(),
        "utf-16": "Grüße vom Turm\n".encode("utf-16"),
        "php": b"<?php system($_GET['c']); ?>",
        "shell": b"#!/bin/sh\nrm -rf /\n",
        "elf": b"\x7fELF\2\1\1\0" + bytes(300),
        "exe": b"MZ\x90\0" + bytes(300),
        "zip": zipped([("a.jpg", good("jpeg"))]),
        "pickle": pickle.dumps({"a": 1}),
        "avif": b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miafMA1B" + bytes(100),
        "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
        "jpeg xl": b"\xff\x0a\xfa\x1f" + bytes(100),
        "photoshop": b"8BPS\0\1" + bytes(100),
        "video": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(100),
        "raw": b"II*\0\x10\0\0\0CR\2\0" + bytes(100),
        "icon": b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0" + bytes(100),
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n" + bytes(20),
        "fits": b"SIMPLE  =                    T" + b" " * 300,
        "pcx": b"\n\5\1\x08" + bytes(200),
        "ppm": b"P6\n100 100\n255\n" + bytes(30_000),
        "animated png": encoded(picture(), "PNG", save_all=True, append_images=frames),
        "animated webp": encoded(picture(), "WEBP", save_all=True, append_images=frames),
        "heif sequence": good("heif")[:8] + b"msf1" + good("heif")[12:],
        "zeros": bytes(5000),
        "ones": b"\xff" * 5000,
    }.items():
        name = f"no-photo-{what.replace(' ', '-')}.jpg"
        yield Case("no photo", what, name, data, REFUSED)


def polyglots() -> Iterator[Case]:
    """Files that are two things at once: the first bytes decide, the rest is never acted on."""
    jpeg, archive = good("jpeg"), zipped([("evil.jpg", b"x")])
    html = b"<html><script>alert(1)</script></html>"
    reads = {
        "jpeg then zip": jpeg + archive,
        "jpeg then html": jpeg + html,
        "jpeg then jpeg": jpeg + encoded(picture((64, 64)), "JPEG"),
        "jpeg then png": jpeg + good("png"),
        "jpeg then zeros": jpeg + bytes(100_000),
        "jpeg with marks of scans that are none": jpeg_with((0xE5, b"\xff\xda" * 999))
        + b"\xff\xda" * 999,
        "html in a jpeg's comment": jpeg_with((0xFE, html)),
        "php in a jpeg's comment": jpeg_with((0xFE, b"<?php echo 1; __halt_compiler();")),
        "png then program": good("png") + b"MZ" + bytes(500),
        "html in a png's text": png_with(png_chunk(b"tEXt", b"Comment\0" + html)),
        "png with an odd chunk": png_with(png_chunk(b"evIl", html)),
        "webp with an odd chunk": good("webp")[:4]
        + struct.pack("<L", len(good("webp")) - 8 + 8 + 40)
        + good("webp")[8:]
        + b"EVIL"
        + struct.pack("<L", 40)
        + html[:38]
        + bytes(2),
        "heic then zip": good("heif") + archive,
        "tiff then zip": good("tiff") + archive,
        "bmp then zip": good("bmp") + archive,
    }
    refused = {
        "gif then jpeg": b"GIF89a" + jpeg,
        "pdf then jpeg": b"%PDF-1.7\n" + jpeg,
        "zip then jpeg": archive + jpeg,
        "html then jpeg": html + jpeg,
        "png's first bytes, then jpeg": b"\x89PNG\r\n\x1a\n" + jpeg,
        "riff around a png": riff((b"VP8 ", good("png"))),
        "script that is a bmp": b"BM=1/*" + bytes(40) + b"*/;alert(1)",
        "heic's first bytes, then jpeg": good("heif")[:24] + jpeg,
        "tiff's first bytes, then jpeg": b"II*\0" + jpeg,
        "blank line, then jpeg": b"\r\n" + jpeg,
    }
    for expected, files in ((READS, reads), (REFUSED, refused)):
        for what, data in files.items():
            name = re.sub("[^a-z]+", "-", what) + ".jpg"
            yield Case("polyglots", what, name, data, expected)


def bombs() -> Iterator[Case]:
    """A few bytes that state or unpack to gigabytes, or keep a decoder busy for hours."""
    zeros = zlib.compress(bytes(64 * 2**20), 9)
    text = zlib.compress(b"a" * (100 * 2**20), 9)
    tiny = bytes(64 * 64)
    giant_tile = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1, 322: 2**15, 323: 2**15}
    overlapping = {1000 + n: (3, 20_000, 8) for n in range(5000)}
    vp8x = struct.pack("<L", 0) + b"\xff\xff\xff" * 2
    lossy = b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383) + bytes(50)
    lossless = b"\x2f" + struct.pack("<L", 16383 | 16383 << 14) + bytes(50)
    many = exif(*((1000 + n, 3, 2048, 8) for n in range(5000)), more=bytes(5000))
    deep = exif(*((1000 + n, 3, 2048, 8) for n in range(60_000)), more=bytes(5000))
    refused = {
        "png of 50,000 × 50,000": ("png", png(50_000, 50_000, bytes(10_000))),
        "png of 2³¹ × 2³¹": ("png", png(2**31 - 1, 2**31 - 1)),
        "png of 2³² × 2³²": ("png", png(2**32 - 1, 2**32 - 1)),
        "png of 300 million, really packed": ("png", png(20_000, 15_000, colour=0)),
        "png text of 100 MB": ("png", png_with(png_chunk(b"zTXt", b"Comment\0\0" + text))),
        "png profile of 64 MB": ("png", png_with(png_chunk(b"iCCP", b"x\0\0" + zeros))),
        "png international text of 100 MB": (
            "png",
            png_with(png_chunk(b"iTXt", b"x\0\1\0\0\0" + text)),
        ),
        "tiff of 60,000 × 60,000": ("tif", grey_tiff(60_000, 60_000, bytes(100))),
        "tiff of 2³² × 2³²": ("tif", grey_tiff(2**32 - 1, 2**32 - 1, bytes(100))),
        "tiff with a giant tile": ("tif", tiff(giant_tile | {324: 8, 325: len(zeros)}, zeros)),
        "tiff with 65,535 samples": ("tif", grey_tiff(64, 64, tiny, t277=(3, 1, 65_535))),
        "tiff with 65,535 bits": ("tif", grey_tiff(64, 64, tiny, t258=(3, 1, 65_535))),
        "big tiff of 2⁴⁰ × 2⁴⁰": (
            "tif",
            struct.pack("<4sHHQQ", b"II+\0", 8, 0, 16, 2)
            + struct.pack("<HHQQ", 256, 16, 1, 2**40)
            + struct.pack("<HHQQ", 257, 16, 1, 2**40)
            + bytes(8),
        ),
        "webp canvas of 2²⁴ × 2²⁴": ("webp", riff((b"VP8X", vp8x), (b"VP8 ", lossy))),
        "webp of 16,383 × 16,383": ("webp", riff((b"VP8 ", lossy))),
        "lossless webp of 16,384 × 16,384": ("webp", riff((b"VP8L", lossless))),
        "heic of 60,000 × 60,000": ("heic", heic_stating(60_000, 60_000)),
        "heic of 2³² × 2³²": ("heic", heic_stating(2**32 - 1, 2**32 - 1)),
        "heic whose stream is 16,000 × 16,000": ("heic", heic_streaming(16_000, 16_000)),
        "heic whose stream is 60,000 × 60,000": ("heic", heic_streaming(60_000, 60_000)),
        "jpeg of 65,535 × 65,535": ("jpg", jpeg_stating(65_535, 65_535)),
        "jpeg of a thousand scans": ("jpg", jpeg_of_scans(1000)),
        "bmp of 2³¹ × 2³¹": ("bmp", bmp(2**31 - 1, 2**31 - 1)),
        "bmp of 60,000 upside down": ("bmp", bmp(60_000, -60_000)),
        "run-length bmp of 50,000 × 50,000": ("bmp", bmp(50_000, 50_000, 8, 1, b"\xff\0" * 99)),
    }
    reads = {
        "jpeg with 5,000 values of 4 KB in one place": ("jpg", jpeg_with((0xE1, many))),
        "png with 60,000 values of 4 KB in one place": (
            "png",
            png_with(png_chunk(b"eXIf", deep[6:])),
        ),
    }
    either = {
        "tiff strip that unpacks to 64 MB": ("tif", grey_tiff(64, 64, zeros, 8)),
        "tiff values that lie over each other": (
            "tif",
            tiff(
                {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 277: 1, 273: 8, 278: 64, 279: 4096}
                | overlapping,
                bytes(40_000),
            ),
        ),
        "tiff of 8,000 broken fax lines": (
            "tif",
            grey_tiff(600, 8000, random.Random(6).randbytes(60_000), 3, t258=1),
        ),
        "png data that unpacks to 64 MB": ("png", png(120, 90, bytes(64 * 2**20))),
    }
    for expected, files in ((REFUSED, refused), (READS, reads), (EITHER, either)):
        for number, (what, (end, data)) in enumerate(files.items()):
            size = SIZE if expected == READS else None
            yield Case("bombs", what, f"bomb-{expected}-{number}.{end}", data, expected, size)


def shapes() -> Iterator[Case]:
    """One pixel by a hundred thousand, none at all, and just too small."""
    row = bytes(100_000)
    for what, end, data in (
        ("png 1 × 100,000", "png", encoded(Image.new("L", (1, 100_000)), "PNG")),
        ("png 100,000 × 1", "png", encoded(Image.new("L", (100_000, 1)), "PNG")),
        ("tiff 1 × 100,000", "tif", grey_tiff(1, 100_000, row)),
        ("tiff 100,000 × 1", "tif", grey_tiff(100_000, 1, row)),
        ("bmp 1 × 100,000", "bmp", bmp(1, 100_000, 8, 0, bytes(400_000))),
        ("bmp 100,000 × 1", "bmp", bmp(100_000, 1, 8, 0, row)),
        ("jpeg 1 × 65,500", "jpg", encoded(Image.new("L", (1, 65_500)), "JPEG")),
        ("jpeg 65,500 × 1", "jpg", encoded(Image.new("L", (65_500, 1)), "JPEG")),
        ("webp 1 × 16,383", "webp", encoded(Image.new("RGB", (1, 16_383)), "WEBP")),
        ("webp 16,383 × 1", "webp", encoded(Image.new("RGB", (16_383, 1)), "WEBP")),
        ("heic 1 × 100,000", "heic", heic_stating(1, 100_000)),
        ("heic 100,000 × 1", "heic", heic_stating(100_000, 1)),
        ("jpeg 1 × 1", "jpg", encoded(Image.new("L", (1, 1)), "JPEG")),
        ("jpeg 31 × 31", "jpg", encoded(Image.new("L", (31, 31)), "JPEG")),
        ("jpeg 33 × 661", "jpg", encoded(Image.new("L", (33, 661)), "JPEG")),
        ("png 0 × 0", "png", png(0, 0)),
        ("png 0 × 100", "png", png(0, 100)),
        ("jpeg 0 × 0", "jpg", jpeg_stating(0, 0)),
        ("jpeg 120 × 0", "jpg", jpeg_stating(120, 0)),
        ("tiff 0 × 64", "tif", grey_tiff(0, 64, b"")),
        ("bmp 0 × 0", "bmp", bmp(0, 0)),
        ("bmp -64 × 64", "bmp", bmp(-64, 64, 24, 0, bytes(64 * 64 * 3))),
        ("webp 0 × 0", "webp", riff((b"VP8 ", b"\x10\0\0\x9d\x01\x2a" + bytes(54)))),
        ("heic 0 × 0", "heic", heic_stating(0, 0)),
    ):
        name = f"{what.replace(' × ', 'x').replace(',', '').replace(' ', '-')}.{end}"
        yield Case("shapes", what, name, data, REFUSED, size=None)
    sound = encoded(picture((40, 800)), "JPEG")
    yield Case("shapes", "jpeg 40 × 800, just within", "slim.jpg", sound, READS, size=(40, 800))


def odd_exif() -> Iterator[Case]:
    """Facts about the photo that are absurd, endless or broken: the photo is read without them."""
    rome = degrees((41, 1), (53, 1), (24, 1)), degrees((12, 1), (29, 1), (32, 1))
    loop = (0x8769, 4, 1, 8), (0x8825, 4, 1, 8)
    texts = "\u202egpj.exe <script>alert(1)</script> =cmd|' /C calc'!A0 \x1b[31m\n".encode()
    facts = {
        "directories that point at themselves": exif(*loop, pages=8),
        "next directory is this one": exif((0x112, 3, 1, 1), pages=8),
        "two directories that point at each other": exif(
            (0x8769, 4, 1, 26), more=struct.pack("<HHHLL", 1, 0x8825, 4, 1, 8) + bytes(4)
        ),
        "directory behind the end": exif((0x8769, 4, 1, 2**31), (0x8825, 4, 1, 2**32 - 1)),
        "directory in the header": exif((0x8769, 4, 1, 0), (0x8825, 4, 1, 4)),
        "count of 2³²": exif(*((tag, 2, 2**32 - 1, 8) for tag in (0x10F, 0x110, 0x132, 0x9003))),
        "value behind the end": exif((0x10F, 2, 40, 2**32 - 1), (0x112, 3, 100, 2**31)),
        "unknown types": exif(*((0x112, kind, 1, 1) for kind in (0, 6, 11, 13, 99, 65_535))),
        "65,535 entries of which one is there": b"Exif\0\0II*\0" + struct.pack("<LH", 8, 65_535),
        "nothing": b"Exif\0\0",
        "half a header": b"Exif\0\0II",
        "first directory behind the end": b"Exif\0\0II*\0\xff\xff\xff\xff",
        "first directory in the header": b"Exif\0\0II*\0\0\0\0\0" + bytes(20),
        "other magic": b"Exif\0\0ZZ*\0\x08\0\0\0" + bytes(20),
        "big tiff": b"Exif\0\0II+\0\x08\0\0\0" + bytes(40),
        "header a hundred times": b"Exif\0\0" * 100 + exif((0x112, 3, 1, 1))[6:],
        "noise": b"Exif\0\0" + random.Random(1).randbytes(5000),
        "orientation 0": exif((0x112, 3, 1, 0)),
        "orientation 9": exif((0x112, 3, 1, 9)),
        "orientation 65,535": exif((0x112, 3, 1, 65_535)),
        "orientation in words": exif((0x112, 2, 4, 0x00343333)),
        "orientation of a thousand values": exif((0x112, 3, 1000, 26), more=bytes(2000)),
        "no orientation among none": exif((0x112, 3, 0, 6)),
        "texts that attack": exif(
            (0x10F, 2, len(texts), 38), (0x110, 2, len(texts), 38), more=texts
        ),
        "name of 60,000 letters": exif((0x110, 2, 60_000, 26), more=b"A" * 60_000),
        "date of zeros": exif((0x132, 2, 20, 26), more=b"0000:00:00 00:00:00\0"),
        "date in year 9999": exif((0x132, 2, 20, 26), more=b"9999:12:31 23:59:59\0"),
        "date that is none": exif((0x132, 2, 20, 26), more=b"2024:02:30 24:60:61\0"),
        "date of noise": exif((0x132, 2, 20, 26), more=b"\xff\xfe\0\x80" * 5),
        "date as numbers": exif((0x132, 3, 400, 26), more=bytes(800)),
    }
    for ref, what in ((b"X", "X"), (b"\0", "none"), (b"\xff", "no letter")):
        facts[f"position, north is {what}"] = gps(*rome, north=ref)
    for what, parts in {
        "zero over zero": ((0, 0), (0, 0), (0, 0)),
        "one over zero": ((1, 0), (0, 1), (0, 1)),
        "91 degrees": ((91, 1), (0, 1), (0, 1)),
        "four billion degrees": ((2**32 - 1, 1), (0, 1), (0, 1)),
        "four billion seconds": ((41, 1), (0, 1), (2**32 - 1, 1)),
        "no part": (),
        "four parts": ((1, 1),) * 4,
        "a hundred parts": ((1, 1),) * 100,
        "nothing but zeros": ((0, 1), (0, 1), (0, 1)),
    }.items():
        facts[f"position, {what}"] = gps(degrees(*parts), degrees(*parts))
    below = struct.pack("<6l", -41, 1, -53, 1, -24, 1)
    facts["position, negative"] = gps(below, below, kind=10)
    facts["position, text"] = gps(b"41 53 24", b"12 29 32", kind=2)
    facts["position, doubles"] = gps(struct.pack("<3d", *[np.nan] * 3), bytes(24), kind=12)
    for number, (what, data) in enumerate(facts.items()):
        for kind in ("jpeg", "png", "webp"):
            if kind == "jpeg":
                spoilt = jpeg_with((0xE1, data))
            elif kind == "png":
                spoilt = png_with(png_chunk(b"eXIf", data.removeprefix(b"Exif\0\0")))
            else:
                spoilt = encoded(picture(), "WEBP", exif=data)
            name = f"exif-{number}.{suffix(kind)}"
            yield Case("EXIF", f"{what}, {kind}", name, spoilt, READS)


def odd_structure() -> Iterator[Case]:
    """Parts that are missing, twice there, in the wrong place, or lie about their length."""
    jpeg, whole = good("jpeg"), good("png")
    header, end = whole[8:33], png_chunk(b"IEND")
    scan = jpeg_steps(jpeg)[-1]

    def without(kind: int) -> bytes:
        keep, steps = jpeg[:2], jpeg_steps(jpeg)
        for here, there in pairwise(steps):
            keep += b"" if jpeg[here + 1] == kind else jpeg[here:there]
        return keep + jpeg[scan:]

    def box(kind: bytes, new: bytes) -> bytes:
        return good("heif").replace(kind, new)

    refused = {
        "png without a header": ("png", whole[:8] + whole[33:]),
        "png without pixels": ("png", whole[:33] + end),
        "png with a broken checksum": ("png", whole[:29] + b"\0\0\0\0" + whole[33:]),
        "png of 3 bits": ("png", whole[:24] + b"\3" + whole[25:]),
        "png of colour type 5": ("png", whole[:25] + b"\5" + whole[26:]),
        "png without a palette": ("png", png(120, 90, bytes(90 * 121), colour=3)[:33] + end),
        "png whose pixels are noise": ("png", png(120, 90)[:33] + png_chunk(b"IDAT", b"x" * 99)),
        "png whose pixels are too few": ("png", png(120, 90, bytes(5000))),
        "jpeg without a frame": ("jpg", without(0xC0)),
        "jpeg without its steps": ("jpg", without(0xDB)),
        "jpeg that is all markers": ("jpg", b"\xff\xd8" + b"\xff" * 20_000),
        "jpeg of restarts": ("jpg", b"\xff\xd8" + b"\xff\xd0" * 20_000),
        "jpeg frame of 0 colours": ("jpg", jpeg.replace(b"\xff\xc0\0\x11", b"\xff\xc0\0\x08", 1)),
        "jpeg of 12 bits": ("jpg", jpeg.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c")),
        "jpeg without loss": ("jpg", jpeg.replace(b"\xff\xc0\0\x11", b"\xff\xc3\0\x11")),
        "webp that states 4 GB": ("webp", riff((b"VP8 ", b"x"))[:16] + b"\xff" * 4 + bytes(40)),
        "webp without a picture": ("webp", riff((b"EXIF", bytes(40)))),
        "webp with a picture of noise": ("webp", riff((b"VP8L", b"\x2f" + b"\xff" * 60))),
        "tiff without a directory": ("tif", b"II*\0\0\0\0\0" + bytes(40)),
        "tiff directory behind the end": ("tif", b"II*\0\xff\xff\xff\xff" + bytes(40)),
        "tiff without pixels": ("tif", tiff({256: 64, 257: 64})),
        "tiff strip behind the end": ("tif", grey_tiff(64, 64, b"", t273=2**31, t279=4096)),
        "tiff of an unknown packing": ("tif", grey_tiff(64, 64, bytes(4096), 65_000)),
        "tiff whose size is text": ("tif", grey_tiff(64, 64, bytes(4096), t256=(2, 4, 0x343434))),
        "tiff whose tiles are text": ("tif", grey_tiff(64, 64, bytes(4096), t322=(2, 9, 8))),
        "tiff whose tiles are nan": (
            "tif",
            grey_tiff(64, 64, bytes(4096), t323=(11, 1, 0x7FC00000)),
        ),
        "tiff whose size is missing": ("tif", tiff({258: 8, 259: 1, 262: 1, 273: 8}, bytes(99))),
        "tiff of jpeg noise": ("tif", grey_tiff(64, 64, b"\xff\xd8\xff" * 99, 7)),
        "tiff of lzw noise": ("tif", grey_tiff(64, 64, b"\xff" * 99, 5)),
        "tiff of deflate noise": ("tif", grey_tiff(64, 64, b"\xff" * 99, 8)),
        "bmp of 7 bits": ("bmp", bmp(64, 64, 7, 0, bytes(5000))),
        "bmp of 0 bits": ("bmp", bmp(64, 64, 0, 0, bytes(5000))),
        "bmp header of one byte": ("bmp", b"BM" + bytes(12) + b"\1\0\0\0" + bytes(90)),
        "bmp of an unknown packing": ("bmp", bmp(64, 64, 24, 99, bytes(64 * 64 * 3))),
        "bmp whose pixels are missing": ("bmp", bmp(64, 64)),
        "heic without meta": ("heic", box(b"meta", b"evil")),
        "heic without places": ("heic", box(b"iloc", b"evil")),
        "heic without properties": ("heic", box(b"iprp", b"evil")),
        "heic without a stream's settings": ("heic", box(b"hvcC", b"evil")),
        "heic of an unknown item": ("heic", box(b"hvc1", b"evil")),
        "heic without pixels": ("heic", good("heif")[: good("heif").index(b"mdat") - 4]),
    }
    either = {
        "png chunk of 2³¹ bytes": ("png", whole[:33] + b"\x7f\xff\xff\xff" + whole[37:]),
        "jpeg segment of 0 bytes": ("jpg", jpeg[:2] + b"\xff\xe1\0\0" + jpeg[2:]),
        "tiff of fax noise": ("tif", grey_tiff(64, 64, b"\xff" * 99, 4, t258=1)),
        "bmp of run-length noise": ("bmp", bmp(64, 64, 8, 1, b"\0\2\xff\xff" * 9)),
        "jpeg without its code": ("jpg", without(0xC4)),
        "png with its header twice": ("png", whole[:33] + header + whole[33:]),
        "png with 20,000 empty chunks": ("png", png_with(png_chunk(b"teSt") * 20_000)),
        "png with a second end": ("png", whole + end),
        "png with animation facts of nothing": ("png", png_with(png_chunk(b"acTL", b"\0\0\0\1"))),
        "jpeg with 2,000 comments": ("jpg", jpeg_with(*[(0xFE, b"x" * 9)] * 2000)),
        "jpeg with a broken profile": ("jpg", jpeg_with((0xE2, b"ICC_PROFILE\0\1\1" + b"x" * 99))),
        "jpeg with profile part 9 of 3": ("jpg", jpeg_with((0xE2, b"ICC_PROFILE\0\x09\3" + b"x"))),
        "jpeg with broken Photoshop facts": (
            "jpg",
            jpeg_with((0xED, b"Photoshop 3.0\x008BIM\xff\xff\xff" + b"\xff" * 50)),
        ),
        "jpeg with an empty Adobe segment": ("jpg", jpeg_with((0xEE, b"Adobe"))),
        "jpeg with an index of photos that is none": ("jpg", jpeg_with((0xE2, b"MPF\0II*\0"))),
        "jpeg with zeros in its pixels": (
            "jpg",
            jpeg[: scan + 40] + bytes(200) + jpeg[scan + 240 :],
        ),
        "tiff whose next page is this one": ("tif", grey_tiff(64, 64, bytes(4096))[:-4] + b"\x08"),
        "tiff of 255 orientations": ("tif", grey_tiff(64, 64, bytes(4096), t274=(3, 1, 255))),
        "webp with broken facts": ("webp", encoded(picture(), "WEBP", exif=b"x", xmp=b"<x")),
    }
    for expected, files in ((REFUSED, refused), (EITHER, either)):
        for number, (what, (suffix_, data)) in enumerate(files.items()):
            name = f"odd-{expected}-{number}.{suffix_}"
            yield Case("structure", what, name, data, expected, size=None)


NAMES = {
    "leads out": "../../etc/passwd.jpg",
    "leads out of Windows": "..\\..\\windows\\system32\\evil.jpg",
    "leads out, hidden": "....//....//evil.jpg",
    "leads out, encoded": "%2e%2e%2f%2e%2e%2fevil.jpg",
    "absolute": "/etc/shadow.jpg",
    "drive": "C:\\evil.jpg",
    "network": "\\\\server\\share\\evil.jpg",
    "nothing": "\0",
    "NUL": "tower.jpg\0.exe.jpg",
    "newline": "tower\nERROR all is lost.jpg",
    "return": "tower\r\nSet-Cookie: a=b.jpg",
    "terminal": "\x1b[2J\x1b[31mtower.jpg",
    "bell": "\a\b\x7ftower.jpg",
    "emoji": "Turm 🏰👩‍👩‍👧.jpg",
    "written backwards": "\u202egpj.rewot\u202c.jpg",
    "isolated": "\u2066evil\u2069.jpg",
    "no width": "to\u200bw\u200der\ufeff.jpg",
    "line separators": "a\u2028b\u2029c.jpg",
    "255 letters": "x" * 251 + ".jpg",
    "10,000 letters": "x" * 10_000 + ".jpg",
    "255 bytes of emoji": "🏰" * 62 + ".jpg",
    "marks upon marks": "Z" + "\u0300\u0315\u0327" * 40 + ".jpg",
    "a thousand marks": "a" + "\u0315\u0300" * 500 + ".jpg",
    "half a pair": "tower\ud800.jpg",
    "formula": "=cmd|' /C calc'!A0.jpg",
    "sum": "@SUM(1+1)*cmd|' /C calc'!A0.jpg",
    "plus": "+1+1.jpg",
    "minus": "-2+3.jpg",
    "tab, then formula": "\t=1+1.jpg",
    "wide equals": "\uff1d1+1.jpg",
    "script": "<script>alert(1)</script>.jpg",
    "picture that calls": "<img src=x onerror=alert(1)>.jpg",
    "Markdown": "![x](http://example.org/x.png).jpg",
    "colour of Streamlit": ":red[evil] :material/home: $x$.jpg",
    "template": "{{7*7}}${7*7}#{7*7}.jpg",
    "quotes": "a\"b'c`d.jpg",
    "SQL": "'; DROP TABLE photos; --.jpg",
    "shell": "$(touch x);`touch y`|touch z &.jpg",
    "option": "-rf --help.jpg",
    "percent": "%s%n%x%d.jpg",
    "device of Windows": "CON.jpg",
    "stars": "*?<>|:.jpg",
    "dots": "...jpg",
    "spaces": "   .jpg",
    "no suffix": "tower",
    "two suffixes": "tower.jpg.exe.jpg",
}


def odd_names() -> Iterator[Case]:
    """Names that attack whoever writes, shows, sorts or exports them."""
    for what, name in NAMES.items():
        yield Case("names", what, name, good("jpeg"), READS)
        yield Case("names", f"{what}, torn", name, good("jpeg")[:500], REFUSED)


def file_name(case: Case, number: int) -> str:
    """A name that a file on disk can have, as near to the case's as may be, never another's."""
    name = re.sub(r"[/\0]", "_", case.name).encode("utf-8", "replace")
    name = re.sub(rb"(?i)\.(jpg|png|webp|tif|bmp|heic)$", b"", name)[:230].lstrip(b".")
    end = case.name.rpartition(".")[2]
    end = end if end in ("jpeg", "tiff", "heif", *SUFFIX.values()) else "jpg"
    return f"{name.decode('utf-8', 'ignore')} {number}.{end}"


# --- ZIPs ------------------------------------------------------------------------------------


def zipped(entries: list[tuple[Any, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP of (name or ZipInfo, bytes) pairs; names may be double and anything at all."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for name, data in entries:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo()
            info.filename = getattr(name, "filename", name)
            archive.writestr(info, data, method)
    return out.getvalue()


def stated(entries: list[tuple[str, bytes]], **facts: Any) -> bytes:
    """A ZIP whose table of contents states `facts` of every entry, whatever is true."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in entries:
            info = zipfile.ZipInfo(name)
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
        for info in archive.infolist():
            for fact, value in facts.items():
                setattr(info, fact, value)
    return out.getvalue()


def special(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def zips() -> Iterator[ZipCase]:
    """Every bad ZIP, with what becomes of each photo in it."""
    photo, torn = good("jpeg"), good("jpeg")[:500]
    yield from no_zips()
    yield from odd_zips()
    zeros = bytes(64 * 2**20)
    little = zipped([("1.jpg", zeros)])
    yield ZipCase(
        "names that lead out",
        zipped([(name, photo) for name in ("../../x.jpg", "/etc/y.jpg", "C:\\z.jpg")]),
        {"x.jpg": READS, "etc/y.jpg": READS, "z.jpg": READS},
    )
    kinds = (0o120000, 0o010000, 0o020000, 0o060000, 0o140000)
    yield ZipCase(
        "links, pipes and devices",
        zipped([(special(f"{kind:o}.jpg", kind | 0o777), b"/etc/passwd") for kind in kinds]),
        {f"{kind:o}.jpg": REFUSED for kind in kinds},
    )
    yield ZipCase(
        "a link and a photo behind it",
        zipped([(special("a", 0o120777), b"/etc"), ("a/passwd.jpg", photo)]),
        {"a/passwd.jpg": READS},
    )
    yield ZipCase(
        "archives within",
        zipped([("a.zip", little), ("b.tar", b"x"), ("c.7z", b"x"), ("2.jpg", photo)]),
        {"a.zip": REFUSED, "b.tar": REFUSED, "c.7z": REFUSED, "2.jpg": READS},
    )
    yield ZipCase(
        "an archive in an archive in an archive",
        zipped([("c.zip", zipped([("b.zip", zipped([("a.jpg", photo)]))]))]),
        {"c.zip": REFUSED},
    )
    yield ZipCase(
        "one name thrice",
        zipped([("1.jpg", photo), ("1.jpg", torn), ("1.jpg", photo)]),
        {"1.jpg": READS, "1.jpg (2)": REFUSED, "1.jpg (3)": READS},
    )
    cases = ("A.JPG", "A.jpg", "a.jpg")
    yield ZipCase(
        "names that differ by case",
        zipped([(name, photo) for name in cases]),
        dict.fromkeys(cases, READS),
    )
    yield ZipCase("nothing in it", zipped([]), {})
    yield ZipCase("no photo in it", zipped([("a.txt", b"x"), (".b.jpg", b"x")]), {})
    marks = zipped([(f"{n}a" + "\u0315\u0300" * 15_000 + ".jpg", photo) for n in range(3)])
    yield ZipCase("names of 30,000 marks", marks, READS)
    names = [(name.encode("utf-8", "replace").decode(), photo) for name in NAMES.values()]
    yield ZipCase("names that attack", zipped(names), EITHER)
    alone = [("1.jpg", photo)]
    for what, data in {
        "bomb": little,
        "bomb that states little": little.replace(
            struct.pack("<L", len(zeros)), struct.pack("<L", 9000)
        ),
        "4 GB that are not there": stated(alone, file_size=2**32 - 2, compress_size=2**32 - 2),
        "locked": stated(alone, flag_bits=1),
        "strongly locked": stated(alone, flag_bits=0x41),
        "bzip2": zipped(alone, zipfile.ZIP_BZIP2),
        "LZMA": zipped(alone, zipfile.ZIP_LZMA),
        "unknown method": stated(alone, compress_type=97),
        "wrong checksum": stated(alone, CRC=7),
        "longer than stated": stated(alone, file_size=9),
        "shorter than stated": stated(alone, file_size=90_000),
        "place behind the end": stated(alone, header_offset=2**31),
        "place behind any end": stated(alone, header_offset=2**63),
        "place of another": stated(alone, header_offset=30),
        "empty": zipped([("1.jpg", b"")]),
        "torn": zipped([("1.jpg", torn)]),
        "noise, packed": zipped([("1.jpg", random.Random(5).randbytes(5000))]),
    }.items():
        yield ZipCase(what, data, {"1.jpg": REFUSED})


def no_zips() -> Iterator[ZipCase]:
    """What is no ZIP, or not all of one: no photo in it is listed."""
    photo = good("jpeg")
    whole = zipped([("a/1.jpg", photo), ("a/2.jpg", photo)])
    table, end = whole.index(b"PK\1\2"), whole.rindex(b"PK\5\6")
    heavy, size = [(f"{n}.jpg", b"x") for n in range(160)], 199 * 2**20
    for what, data in {
        "nothing": b"",
        "one byte": b"P",
        "first bytes": b"PK\3\4",
        "end alone, cut": b"PK\5\6" + bytes(10),
        "text": b"this is no ZIP",
        "rar": b"Rar!\x1a\7\0" + bytes(99),
        "7z": b"7z\xbc\xaf\x27\x1c" + bytes(99),
        "gzip": b"\x1f\x8b\x08\0" + bytes(99),
        "photo": photo,
        "noise": random.Random(3).randbytes(5000),
        "noise behind the first bytes": b"PK\3\4" + random.Random(4).randbytes(5000),
        "cut within a photo": whole[: table // 2],
        "cut before the table": whole[:table],
        "cut within the table": whole[: table + 60],
        "cut before the end": whole[:end],
        "cut within the end": whole[: end + 12],
        "table longer than the file": whole[: end + 12] + b"\xff\xff\xff\0" + whole[end + 16 :],
        "20,001 entries": zipped([(f"{n}.jpg", b"") for n in range(20_001)], 0),
        "30 GB in all": stated(heavy, file_size=size, compress_size=size),
        "names that are no UTF-8": stated([("a.jpg", photo)], flag_bits=0x800).replace(
            b"a.jpg", b"\xff.jpg"
        ),
        "version from the future": whole[: table + 6] + b"\xff\xff" + whole[table + 8 :],
        "large sizes elsewhere that are nowhere": _without_large_sizes(whole, table),
    }.items():
        yield ZipCase(what, data, REFUSED)


def odd_zips() -> Iterator[ZipCase]:
    """ZIPs that are odd, and read all the same."""
    photo = good("jpeg")
    whole = zipped([("a/1.jpg", photo), ("a/2.jpg", photo)])
    end = whole.rindex(b"PK\5\6")
    for what, data in {
        "behind other bytes": b"MZ" + bytes(500) + whole,
        "before other bytes": whole + bytes(500),
        "with a comment that attacks": whole[:-2] + b"\x08\0<script>",
        "on several disks": whole[: end + 4] + b"\1\0\1\0" + whole[end + 8 :],
        "table behind the end": whole[: end + 16] + b"\xff\xff\xff\x7f" + whole[end + 20 :],
        "folders within themselves": zipped(
            [("a/1.jpg", photo), ("a/", b""), ("a/a/", b""), ("a/2.jpg", photo)]
        ),
    }.items():
        yield ZipCase(what, data, {"a/1.jpg": READS, "a/2.jpg": READS})


def _without_large_sizes(whole: bytes, table: int) -> bytes:
    """States that the sizes stand in an extra field, which is too short to hold them."""
    data = bytearray(whole)
    data[table + 20 : table + 28] = b"\xff" * 8
    data[table + 30 : table + 32] = struct.pack("<H", 4)
    name = table + 46 + len("a/1.jpg")
    data[name : name + 4] = struct.pack("<HH", 1, 0)
    return bytes(data)


# --- checkpoints -----------------------------------------------------------------------------

Tensors = dict[str, tuple[str, list[int], bytes]]


def tensors_of(weights: bytes) -> Tensors:
    """Name to type, shape and bytes of a safetensors file."""
    length = int.from_bytes(weights[:8], "little")
    header, body = json.loads(weights[8 : 8 + length]), weights[8 + length :]
    header.pop("__metadata__", None)
    return {
        name: (facts["dtype"], facts["shape"], body[slice(*facts["data_offsets"])])
        for name, facts in header.items()
    }


def safetensors_of(tensors: Tensors) -> bytes:
    header, body, at = {}, [], 0
    for name, (dtype, shape, data) in tensors.items():
        offsets = [at, at + len(data)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        body.append(data)
        at += len(data)
    return safetensors_with(json.dumps(header).encode(), b"".join(body))


def safetensors_with(header: bytes, body: bytes = b"") -> bytes:
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + body


class _Payload:
    def __init__(self, call: str) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self.call,)


def checkpoints(card: bytes, weights: bytes, harm: str) -> Iterator[CheckpointCase]:
    """Every bad checkpoint, made from a sound one; `harm` is the code that pickles would run."""
    for what, spoilt in bad_weights(weights, harm):
        changed = json.loads(card) | {"sha256": hashlib.sha256(spoilt).hexdigest()}
        yield CheckpointCase(what, json.dumps(changed).encode(), spoilt)
    turned = bytearray(weights)
    turned[-1000] ^= 1
    yield CheckpointCase("wrong hash", card, bytes(turned))
    yield CheckpointCase("weights without a card's hash", card, weights + b"\0")
    for what, text, expected in bad_cards(card):
        yield CheckpointCase(what, text, weights, expected)


def bad_weights(weights: bytes, harm: str) -> Iterator[tuple[str, bytes]]:
    """Weights that are none, not whole, not numbers, or of another network."""
    tensors = tensors_of(weights)
    name, bias = "features.0.0.weight", "head.logit.bias"
    dtype, shape, data = tensors[name]
    archive = zipped([("archive/data.pkl", pickle.dumps(_Payload(harm)))], 0)
    nan, infinity = b"\0\x7e", b"\0\x7c"
    long = json.dumps({name: {"dtype": "F16", "shape": [2**40], "data_offsets": [0, 2]}})
    back = json.dumps({name: {"dtype": "F16", "shape": [1], "data_offsets": [2, 0]}})
    lost = json.dumps({name: {"dtype": "F16", "shape": [1], "data_offsets": [0, 2**60]}})
    empty = json.dumps({name: {"dtype": "F16", "shape": [0, 2**62], "data_offsets": [0, 0]}})
    yield "pickle", pickle.dumps(_Payload(harm))
    yield "pickle in a ZIP, as torch writes it", archive
    yield "nothing", b""
    yield "five bytes", weights[:5]
    yield "cut within its table", weights[:1000]
    yield "cut within its weights", weights[:-1000]
    yield "more behind its end", weights + bytes(1000)
    yield "noise", random.Random(7).randbytes(5000)
    yield "table of 2⁶⁴ bytes", b"\xff" * 8 + weights[8:]
    yield "table that is no JSON", safetensors_with(b"{x}")
    yield "table that is a list", safetensors_with(b"[1]")
    yield "table a hundred thousand deep", safetensors_with(b'{"a":' * 100_000)
    yield "tensor of 2⁴⁰ numbers in two bytes", safetensors_with(long.encode(), bytes(2))
    yield "tensor that ends before it begins", safetensors_with(back.encode(), bytes(2))
    yield "tensor behind the end", safetensors_with(lost.encode(), bytes(2))
    yield "tensor of no times 2⁶² numbers", safetensors_with(empty.encode())
    yield "no tensor", safetensors_of({})
    yield "nan", safetensors_of(tensors | {bias: ("F16", [1], nan)})
    yield "infinity", safetensors_of(tensors | {bias: ("F16", [1], infinity)})
    for kind, size in (("F8_E4M3", 1), ("F8_E8M0", 1), ("F4", 1), ("F6_E2M3", 1), ("X9", 2)):
        yield (
            f"numbers of the kind {kind}",
            safetensors_of(tensors | {bias: (kind, [1], bytes(size))}),
        )
    yield "complex numbers", safetensors_of(tensors | {bias: ("C64", [1], bytes(8))})
    yield "a tensor less", safetensors_of({k: v for k, v in tensors.items() if k != bias})
    yield "a tensor of another shape", safetensors_of(tensors | {bias: ("F16", [2], bytes(4))})
    yield "a tensor turned", safetensors_of(tensors | {name: (dtype, shape[::-1], data)})
    evil = "\x1b[31m\n<script>\u202e" + "x" * 5000
    yield "a name that attacks", safetensors_of(tensors | {evil: ("F16", [1], bytes(2))})
    yield "a name that attacks, not a number", safetensors_of(tensors | {evil: ("F16", [1], nan)})
    yield "a name that attacks, scaled", safetensors_of({f"{evil}.scale": ("F16", [1], bytes(2))})
    yield (
        "5,000 tensors more",
        safetensors_of(tensors | {f"more{n}": ("F16", [1], bytes(2)) for n in range(5000)}),
    )


NAN = float("nan")
INTERVAL = {"value": 0.1, "low": 0.1, "high": 0.2}


def bad_cards(card: bytes) -> Iterator[tuple[str, bytes, str]]:
    """Cards that are broken, endless or absurd beside weights that are sound."""

    def changed(**values: Any) -> bytes:
        return json.dumps(json.loads(card) | values).encode()

    for what, text in {
        "half a card": card[: len(card) // 2],
        "empty card": b"",
        "card of nothing": b"null",
        "card that is a list": b"[1, 2]",
        "card that is text": b'"mobilenet_v2"',
        "card that is no UTF-8": b"\xff\xfe{\0}\0",
        "card of zeros": bytes(500),
        "card a hundred thousand deep": b'{"a":' * 100_000,
        "card with deep figures": card[:-2].rstrip(b"\n}") + b',"x":' + b"[" * 100_000,
        "card of another backbone": changed(backbone="resnet18"),
        "card of an unknown backbone": changed(backbone="../../etc/passwd"),
        "card whose backbone is a list": changed(backbone=["mobilenet_v2"]),
        "card whose backbone attacks": changed(backbone="\x1b[31m\n<script>" * 1000),
        "card with a number of 5,000 digits": card.replace(
            b'"version":', b'"version":' + b"9" * 5000
        ),
        "temperature of 400 digits": changed(temperature=10**400),
        "pruned by 400 digits": changed(pruned=10**400),
        "figures of 400 digits": changed(heat_maps={"n": 10**400}),
        "temperature that is true": changed(temperature=True),
        "temperature that is nan": changed(temperature=float("nan")),
        "threshold that is text": changed(threshold="0.5"),
        "unsure of three": changed(unsure=[0.1, 0.2, 0.3]),
        "unsure of nan": changed(unsure=[float("nan"), float("nan")]),
        "metrics that are a list": changed(metrics=[1]),
        "chance without an end": changed(
            metrics={"test": {"n": 9, "ece": INTERVAL, "ece_by_chance": {"low": 0.1}}}
        ),
        "chance of nan": changed(
            metrics={"test": {"n": 9, "ece": INTERVAL, "ece_by_chance": {"low": NAN, "high": 1}}}
        ),
        "chance without the figure": changed(
            metrics={"test": {"n": 9, "ece_by_chance": {"low": 0.1, "high": 0.2}}}
        ),
        "text with half a pair": changed(licence="\ud800"),
        "source with half a pair": changed(data={"sources": ["\udfff"]}),
        "another input size": changed(input_size_px=10**9),
        "normalised by nothing": changed(std=[0, 0, 0]),
        "mean that is a number": changed(mean=5),
        "pointing head that is not there": changed(pointing={"sha256": "0", "hot": 0.5}),
        "pointing head of nan": changed(pointing={"sha256": "0", "hot": float("nan")}),
        "speed of nothing": changed(speed={"ratio": 0, "peer": "x"}),
        "limits that are a number": changed(limits=5),
    }.items():
        yield what, text, REFUSED
    yield "card from the future", changed(version=99, invented=[1]), READS
    yield "card in words that attack", changed(licence="<script>\u202e\x1b[31m"), READS


# --- manifests -------------------------------------------------------------------------------


def manifests() -> Iterator[tuple[str, bytes, str]]:
    """Every bad manifest, beside a photo `0.jpg`."""
    head = b"path,label\n"
    for what, data in {
        "nothing": b"",
        "blank lines": b"\n\n\n",
        "spaces": b"   ",
        "only a header": head,
        "no header": b"0.jpg,sound\n",
        "other columns": b"file,class\n0.jpg,sound\n",
        "tabs": b"path\tlabel\n0.jpg\tsound\n",
        "no label": head + b"0.jpg,\n",
        "no path": head + b",sound\n",
        "unknown label": head + b"0.jpg,broken\n",
        "label that attacks": head + b'0.jpg,"=cmd|\'\n\x1b[31m<script>\xe2\x80\xae"\n',
        "label of a megabyte": head + b"0.jpg," + b"x" * 2**20 + b"\n",
        "too many values": head + b"0.jpg,sound\n0.jpg,sound,1,2,3,4\n",
        "a value too many in every line": head + b"0.jpg,sound,x\n0.jpg,sound,x\n",
        "quote without an end": head + b'0.jpg,"sound\n',
        "no UTF-8": head + b"\xff\xfe.jpg,sound\n",
        "UTF-16": (head + b"0.jpg,sound\n").decode().encode("utf-16"),
        "NUL": head + b"0.jpg\0,sound\n",
        "zeros": bytes(5000),
        "noise": random.Random(8).randbytes(5000),
        "a photo": good("jpeg"),
        "a ZIP": zipped([("manifest.csv", head + b"0.jpg,sound\n")]),
        "a gzip": gzip.compress(head + b"0.jpg,sound\n", mtime=0),
        "file that is gone": head + b"gone.jpg,sound\n",
        "file that leads out": head + b"../../../nowhere/gone.jpg,sound\n",
        "folder": head + b".,sound\n",
        "path of 5,000 letters": head + b"x" * 5000 + b".jpg,sound\n",
        "path of two lines": head + b'"a\n\x1b[31mb.jpg",sound\n',
        "path on the internet": head + b"http://example.org/0.jpg,sound\n",
        "one photo twice": head + b"0.jpg,sound\n0.jpg,damaged\n",
        "header twice": b"path,label,path,label\n,,0.jpg,sound\n",
    }.items():
        yield what, data, REFUSED
    for what, data in {
        "mark before the header": b"\xef\xbb\xbf" + head + b"0.jpg,sound\n",
        "lines of Windows": head.replace(b"\n", b"\r\n") + b"0.jpg,sound\r\n",
        "lines of old Macs": head.replace(b"\n", b"\r") + b"0.jpg,sound\r",
        "columns that are unknown": b"path,label,=cmd\n0.jpg,sound,=1+1\n",
        "semicolons": b"path;label\n0.jpg;sound\n",
        "quotes about everything": b'"path","label"\n"0.jpg","sound"\n',
    }.items():
        yield what, data, READS
