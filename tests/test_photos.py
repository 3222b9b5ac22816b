from __future__ import annotations

import dataclasses
import io
import os
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms, ImageFile, TiffImagePlugin

from heritage.errors import PhotoError
from heritage.photos import SUFFIXES, Limits, open_photo

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's own files")

RED, GREEN, BLUE, WHITE = (200, 30, 30), (30, 180, 40), (30, 40, 200), (250, 250, 250)
UNTURN = {  # how an upright picture is laid into a file of that EXIF orientation
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def corners(width=96, height=64):
    """Red, green / blue, white quarters: no turn or flip leaves them in place."""
    im = Image.new("RGB", (width, height), RED)
    im.paste(GREEN, (width // 2, 0, width, height // 2))
    im.paste(BLUE, (0, height // 2, width // 2, height))
    im.paste(WHITE, (width // 2, height // 2, width, height))
    return im


def textured(width, height):
    """A smooth picture with some grain, cheap to make at any size."""
    rng = np.random.default_rng(3)
    small = Image.fromarray(rng.integers(0, 256, (height // 40, width // 40, 3), np.uint8))
    pixels = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    grain = rng.integers(-12, 13, (height, width, 1), np.int8)
    return Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8))


def encoded(im, fmt, **options):
    out = io.BytesIO()
    if fmt == "HEIF":
        pillow_heif.from_pillow(im).save(out, quality=95, **options)
    else:
        im.save(out, fmt, **options)
    return out.getvalue()


def exif_of(first=(), exif=(), gps=()):
    """EXIF bytes from {tag: value} of the three directories."""
    made = Image.Exif()
    made.update(dict(first))
    if exif:
        made.get_ifd(0x8769).update(dict(exif))
    if gps:
        made.get_ifd(0x8825).update(dict(gps))
    return made.tobytes()


def jpeg(im=None, **options):
    return encoded(im or corners(), "JPEG", **({"quality": 95, "subsampling": 0} | options))


def png_chunk(kind, payload=b""):
    crc = struct.pack(">L", zlib.crc32(kind + payload))
    return struct.pack(">L", len(payload)) + kind + payload + crc


def png_claiming(width, height):
    """A PNG of a few bytes whose header claims any size."""
    header = struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(b"")), png_chunk(b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def assert_corners(pixels, tolerance=12):
    h, w = pixels.shape[:2]
    places = {RED: (0.2, 0.2), GREEN: (0.2, 0.8), BLUE: (0.8, 0.2), WHITE: (0.8, 0.8)}
    for colour, (y, x) in places.items():
        found = pixels[int(y * h), int(x * w)].astype(int)
        assert np.abs(found - colour).max() <= tolerance, (colour, found)


def refusal(data, name="tower.jpg", **options):
    with pytest.raises(PhotoError) as caught:
        open_photo(data, name, **options).pixels()
    assert str(caught.value).startswith(f"{name}: ")
    return str(caught.value)


# --- formats and modes ------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "HEIF"])
def test_every_format_gives_upright_rgb_of_its_stated_size(fmt):
    photo = open_photo(encoded(corners(), fmt), "x")
    pixels = photo.pixels()
    assert (photo.format, photo.width, photo.height) == (fmt, 96, 64)
    assert (pixels.shape, pixels.dtype) == ((64, 96, 3), np.uint8)
    assert pixels.flags.writeable
    assert_corners(pixels)


@pytest.mark.parametrize(
    ("fmt", "mode"),
    [
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("PNG", "1"),
        ("PNG", "L"),
        ("PNG", "LA"),
        ("PNG", "P"),
        ("PNG", "RGBA"),
        ("PNG", "I;16"),
        ("WEBP", "RGBA"),
        ("BMP", "1"),
        ("BMP", "L"),
        ("BMP", "P"),
        ("BMP", "RGBA"),
        ("TIFF", "1"),
        ("TIFF", "L"),
        ("TIFF", "LA"),
        ("TIFF", "P"),
        ("TIFF", "RGBA"),
        ("TIFF", "CMYK"),
        ("TIFF", "YCbCr"),
        ("TIFF", "I;16"),
        ("TIFF", "I"),
        ("TIFF", "F"),
        ("HEIF", "L"),
        ("HEIF", "RGBA"),
    ],
)
def test_every_mode_becomes_rgb_of_the_same_picture(fmt, mode):
    im = Image.new("L", (80, 40), 255)
    im.paste(0, (0, 0, 40, 40))
    if mode in ("I", "I;16"):
        im = Image.fromarray((np.asarray(im).astype(np.int32 if mode == "I" else np.uint16)) * 257)
    elif mode in ("CMYK", "YCbCr", "P", "RGBA"):
        im = im.convert("RGB").convert(mode)
    else:
        im = im.convert(mode)
    pixels = open_photo(encoded(im, fmt), "x").pixels()
    assert pixels.shape == (40, 80, 3)
    assert pixels[:, :36].max() <= 8
    assert pixels[:, 44:].min() >= 247


@pytest.mark.parametrize("fmt", ["PNG", "WEBP", "TIFF", "HEIF"])
def test_what_is_transparent_shows_white(fmt):
    im = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    im.paste((200, 30, 30, 255), (0, 0, 32, 64))
    pixels = open_photo(encoded(im, fmt), "x").pixels()
    assert np.abs(pixels[32, 10].astype(int) - RED).max() <= 12
    assert pixels[32, 54].min() >= 250


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_a_png_colour_marked_as_transparent_shows_white(mode):
    im = Image.new("L", (64, 64), 0)
    im.paste(255, (0, 0, 32, 64))
    im = im.convert("RGB").convert("P") if mode == "P" else im.convert(mode)
    black = im.getpixel((60, 5))
    pixels = open_photo(encoded(im, "PNG", transparency=black), "x").pixels()
    assert (pixels == 255).all()


def test_hidden_colour_under_alpha_does_not_bleed_when_reduced():
    im = Image.new("RGBA", (400, 400), (255, 255, 255, 255))
    im.paste((0, 0, 0, 0), (100, 100, 300, 300))
    assert open_photo(encoded(im, "PNG"), "x").pixels(short_side_px=33).min() >= 254


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0, 1], np.float32), [0, 255]),
        (np.array([0, 0.5], np.float32), [0, 128]),
        (np.array([10, 200], np.float32), [10, 200]),
        (np.array([0, 65535], np.float32), [0, 255]),
        (np.array([-3, 5], np.float32), [0, 255]),
        (np.array([np.nan, 1], np.float32), [0, 255]),
        (np.array([np.nan, np.nan], np.float32), [0, 0]),
        (np.array([-np.inf, np.inf], np.float32), [0, 255]),
        (np.array([9e9, 9e9], np.float32), [0, 0]),
        (np.array([0, 257 * 100], np.int32), [0, 100]),
        (np.array([0, 100], np.int32), [0, 100]),
        (np.array([-(2**31), 2**31 - 1], np.int32), [0, 255]),
        (np.array([256 * 7, 65535], np.uint16), [7, 255]),
    ],
)
def test_deep_grey_keeps_its_tones(values, expected):
    deep = np.repeat(np.tile(values, (40, 1)), 20, axis=1)
    pixels = open_photo(encoded(Image.fromarray(deep), "TIFF"), "x").pixels()
    assert pixels[0, [0, 39], 0].tolist() == expected


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_rgb_tiff_reads_as_eight_bits(order):
    # Pillow cannot write these, so the TIFF is laid out by hand.
    deep = (np.asarray(corners()).astype(np.uint16) * 257).astype(order + "u2")
    pixels = open_photo(tiff_by_hand(deep.tobytes(), 96, 64, (16, 16, 16), 2, order), "x").pixels()
    assert np.array_equal(pixels, np.asarray(corners()))


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_rgb_tiff_in_planes_keeps_its_colours(order):
    deep = (np.asarray(corners()).astype(np.uint16) * 257).astype(order + "u2")
    planes, size = deep.transpose(2, 0, 1).tobytes(), 64 * 96 * 2
    apart = {284: 2, 273: (0, size, 2 * size), 279: (size,) * 3}
    data = tiff_by_hand(planes, 96, 64, (16, 16, 16), 2, order, apart)
    assert np.array_equal(open_photo(data, "x").pixels(), np.asarray(corners()))


@pytest.mark.parametrize("planar", [1, 2])
def test_twelve_bit_grey_tiff_is_as_bright_as_it_was(planar):
    values = np.tile(np.linspace(0, 4095, 96).astype(np.uint16), (64, 1))
    one, other = values[:, ::2], values[:, 1::2]  # two values share three bytes
    packed = np.stack([one >> 4, (one & 15) << 4 | other >> 8, other & 255], -1).astype(np.uint8)
    data = tiff_by_hand(packed.tobytes(), 96, 64, (12,), 1, "<", {284: planar})
    assert np.array_equal(open_photo(data, "x").pixels()[..., 0], values >> 4)


def test_grey_tiff_with_white_as_zero_is_not_a_negative():
    deep = np.zeros((64, 96), "<u2")
    deep[:, 48:] = 65535
    pixels = open_photo(tiff_by_hand(deep.tobytes(), 96, 64, (16,), 0, "<"), "x").pixels()
    assert (pixels[0, 0, 0], pixels[0, 95, 0]) == (255, 0)


def tiff_by_hand(strip, width, height, bits, photometric, order, extra=()):
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 277: len(bits)}
    tags |= {273: 0, 278: height, 279: len(strip)} | dict(extra)  # 273 counts from the strip here
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", 8)
    ifd = TiffImagePlugin.ImageFileDirectory_v2(header)
    ifd.update(tags)
    return header + ifd.tobytes(8) + strip


def test_multi_page_tiff_gives_its_first_page():
    pages = [Image.new("RGB", (50, 50), colour) for colour in (GREEN, BLUE)]
    data = encoded(corners(), "TIFF", save_all=True, append_images=pages)
    photo = open_photo(data, "x")
    assert (photo.width, photo.height) == (96, 64)
    assert_corners(photo.pixels())


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiffs_read(compression):
    assert_corners(open_photo(encoded(corners(), "TIFF", compression=compression), "x").pixels())


def test_mpo_reads_as_its_first_jpeg():
    data = encoded(corners(), "MPO", save_all=True, append_images=[corners(48, 32)], quality=95)
    photo = open_photo(data, "x")
    assert (photo.format, photo.width) == ("JPEG", 96)
    assert_corners(photo.pixels(), tolerance=25)


def test_heif_of_several_stills_gives_the_primary_one():
    file = pillow_heif.HeifFile()
    for im in (Image.new("RGB", (64, 64)), corners()):
        file.add_from_pillow(im)
    out = io.BytesIO()
    file.save(out, primary_index=1, quality=95)
    assert_corners(open_photo(out.getvalue(), "x").pixels())


# --- orientation ------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF"])
@pytest.mark.parametrize("orientation", UNTURN)
def test_all_eight_orientations_come_out_upright(fmt, orientation):
    turn = UNTURN[orientation]
    stored = corners() if turn is None else corners().transpose(turn)
    photo = open_photo(encoded(stored, fmt, exif=exif_of({0x112: orientation})), "x")
    assert (photo.width, photo.height) == (96, 64)
    assert photo.pixels().shape == (64, 96, 3)
    assert_corners(photo.pixels())
    small = photo.pixels(short_side_px=33)
    assert small.shape == (33, 50, 3)
    assert_corners(small)


def test_an_orientation_that_does_not_exist_is_ignored():
    assert_corners(open_photo(jpeg(exif=exif_of({0x112: 9})), "x").pixels())


def test_png_exif_behind_the_pixels_still_turns_the_photo():
    stored = corners().transpose(UNTURN[6])
    plain = encoded(stored, "PNG")
    exif = exif_of({0x112: 6}).removeprefix(b"Exif\0\0")
    photo = open_photo(plain[:-12] + png_chunk(b"eXIf", exif) + plain[-12:], "x")
    assert (photo.width, photo.height) == (96, 64)
    assert_corners(photo.pixels())


# --- colour -----------------------------------------------------------------------------------


def swapping_profile():
    """An sRGB profile whose red and blue primaries have changed places."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for i in range(struct.unpack_from(">L", data, 128)[0]):
        at = 132 + 12 * i
        if bytes(data[at : at + 4]) in (b"rXYZ", b"bXYZ"):
            data[at : at + 1] = b"b" if data[at] == ord("r") else b"r"
    return bytes(data)


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF"])
def test_an_embedded_profile_is_converted_to_srgb(fmt):
    pixels = open_photo(encoded(corners(), fmt, icc_profile=swapping_profile()), "x").pixels()
    found = pixels[10, 10].astype(int)
    assert np.abs(found - RED[::-1]).max() <= 14


def test_profile_and_alpha_work_together():
    im = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    im.paste((200, 30, 30, 255), (0, 0, 32, 64))
    pixels = open_photo(encoded(im, "PNG", icc_profile=swapping_profile()), "x").pixels()
    assert np.abs(pixels[5, 5].astype(int) - RED[::-1]).max() <= 3
    assert (pixels[5, 60] == 255).all()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK"])
def test_an_srgb_profile_changes_nothing(mode):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    im = corners().convert(mode)
    plain, profiled = (
        open_photo(encoded(im, "TIFF", **o), "x").pixels().astype(int)
        for o in ({}, {"icc_profile": srgb})
    )
    assert np.abs(plain - profiled).max() <= 1


D50 = struct.pack(">3l", 63190, 65536, 54061)


def profile_of(kind, space, connection, tag, content):
    """A minimal ICC v2 profile: a white point and one tag that says what the numbers mean."""
    content += bytes(-len(content) % 4)
    white = b"XYZ " + bytes(4) + D50
    tags = b"wtpt" + struct.pack(">2L", 156, len(white))
    tags += tag + struct.pack(">2L", 156 + len(white), len(content))
    header = bytearray(128)
    header[:4] = struct.pack(">L", 156 + len(white) + len(content))
    header[8:12] = b"\x02\x40\0\0"
    header[12:24] = kind + space + connection
    header[36:40] = b"acsp"
    header[68:80] = D50
    return bytes(header) + struct.pack(">L", 2) + tags + white + content


def cmyk_profile(lab_of):
    """A press whose inks, each all or nothing, print as the Lab colours of `lab_of(bits)`."""
    ramp = struct.pack(">256H", *(i * 257 for i in range(256)))
    grid = b""
    for i in range(16):
        lightness, a, b = lab_of(tuple(i >> bit & 1 for bit in (3, 2, 1, 0)))
        words = lightness * 652.8, (a + 128) * 256, (b + 128) * 256
        grid += struct.pack(">3H", *map(int, words))
    unity = struct.pack(">9l", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    table = b"mft2" + bytes(4) + bytes((4, 3, 2, 0)) + unity + struct.pack(">2H", 256, 2)
    table += ramp * 4 + grid + struct.pack(">2H", 0, 65535) * 3
    return profile_of(b"prtr", b"CMYK", b"Lab ", b"A2B0", table)


@pytest.mark.parametrize("fmt", ["JPEG", "TIFF"])
def test_a_cmyk_profile_decides_what_the_inks_look_like(fmt):
    def green_cyan(bits):  # full cyan prints as mid green here
        return (60, -60, 50) if bits == (1, 0, 0, 0) else (100 * (not any(bits)), 0, 0)

    im = Image.new("CMYK", (64, 64), (255, 0, 0, 0))
    naive = open_photo(encoded(im, fmt), "x").pixels()[5, 5].astype(int)
    profile = cmyk_profile(green_cyan)
    managed = open_photo(encoded(im, fmt, icc_profile=profile), "x").pixels()[5, 5].astype(int)
    assert naive[2] > 200
    assert managed[1] > managed[0] + 50
    assert managed[1] > managed[2] + 50


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_grey_profile_applies_to_grey(mode):
    linear = b"curv" + bytes(4) + struct.pack(">LH", 1, 256)  # gamma 1
    profile = profile_of(b"mntr", b"GRAY", b"XYZ ", b"kTRC", linear)
    im = Image.new("L", (64, 64), 128).convert(mode)
    pixels = open_photo(encoded(im, "PNG", icc_profile=profile), "x").pixels()
    assert 185 <= pixels[5, 5, 0] <= 191  # half the light is 188 in sRGB


@pytest.mark.parametrize("profile", [b"rubbish", swapping_profile()[:200], bytes(500)])
def test_a_broken_profile_is_ignored(profile):
    assert_corners(open_photo(jpeg(icc_profile=profile), "x").pixels())


def test_a_profile_for_another_colour_space_is_ignored():
    profile = cmyk_profile(lambda bits: (0, 0, 0))
    assert_corners(open_photo(jpeg(icc_profile=profile), "x").pixels())


# --- size -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "shape"),
    [
        ({}, (600, 901, 3)),
        ({"short_side_px": 224}, (224, 336, 3)),
        ({"long_side_px": 100}, (67, 100, 3)),
        ({"short_side_px": 600}, (600, 901, 3)),
        ({"short_side_px": 5000}, (600, 901, 3)),
        ({"long_side_px": 901}, (600, 901, 3)),
        ({"long_side_px": 1}, (1, 1, 3)),
    ],
)
@pytest.mark.parametrize("fmt", ["JPEG", "BMP"])
def test_the_asked_side_is_exact_and_nothing_is_enlarged(fmt, asked, shape):
    photo = open_photo(encoded(textured(901, 600), fmt), "x")
    assert photo.pixels(**asked).shape == shape


@pytest.mark.parametrize(
    "asked", [{"short_side_px": 0}, {"long_side_px": -5}, {"short_side_px": 9, "long_side_px": 9}]
)
def test_a_size_that_makes_no_sense_is_a_value_error(asked):
    with pytest.raises(ValueError, match="short or the long side"):
        open_photo(jpeg(), "x").pixels(**asked)


def test_reduction_does_not_alias():
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    for fmt in ("PNG", "JPEG"):
        small = open_photo(encoded(Image.fromarray(stripes), fmt), "x").pixels(short_side_px=50)
        assert np.abs(small[:, 2:-2].astype(int) - 127).max() <= 6


@pytest.fixture(scope="module")
def photo_12mp():
    return open_photo(encoded(textured(4000, 3000), "JPEG", quality=85), "x")


def test_a_big_jpeg_is_reduced_while_decoding_and_still_looks_the_same(photo_12mp):
    small = photo_12mp.pixels(short_side_px=224)
    bilinear = Image.Resampling.BILINEAR
    with Image.open(io.BytesIO(photo_12mp.data)) as im:
        full = np.asarray(im.resize((299, 224), bilinear))
    with Image.open(io.BytesIO(photo_12mp.data)) as im:
        _, box = im.draft(None, (299, 224))
        assert im.size == (500, 375)
        drafted = np.asarray(im.resize((299, 224), bilinear, box=box))
    assert np.array_equal(small, drafted)  # the scaled decode, to the bit
    assert not np.array_equal(small, full)
    assert np.abs(small.astype(int) - full).mean() < 1.5
    assert np.abs(small.astype(int) - full).max() <= 20


def test_a_reduced_jpeg_is_not_shifted():
    # 1001 px do not divide by 8: the scaled decode is a fraction of a pixel wider than the photo.
    ramp = np.tile(np.linspace(0, 255, 1001), (1001, 1)).astype(np.uint8)
    data = encoded(Image.fromarray(ramp), "JPEG", quality=98)
    small = open_photo(data, "x").pixels(long_side_px=60)[30, :, 0].astype(float)
    expected = np.asarray(Image.fromarray(ramp).resize((60, 60), Image.Resampling.BILINEAR))[30]
    assert np.abs(small - expected).max() <= 1.5


def test_opening_decodes_nothing(photo_12mp):
    head = photo_12mp.data[: photo_12mp.data.index(b"\xff\xda") + 400]
    photo = open_photo(head, "tower.jpg")
    assert (photo.width, photo.height) == (4000, 3000)
    with pytest.raises(PhotoError, match="the JPEG ends early"):
        photo.pixels()


def test_threads_get_identical_pixels():
    files = [
        jpeg(textured(1200, 800)),
        encoded(textured(640, 480), "HEIF"),
        encoded(corners(), "TIFF"),
    ]
    photos = [open_photo(data, "x") for data in files]
    alone = [photo.pixels(short_side_px=60) for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda photo: photo.pixels(short_side_px=60), photos * 6))
    for i, pixels in enumerate(together):
        assert np.array_equal(pixels, alone[i % len(photos)])


# --- EXIF facts -------------------------------------------------------------------------------


def taken_at(first=(), exif=()):
    return open_photo(jpeg(exif=exif_of(first, exif)), "x").taken_at


def test_the_capture_date_outranks_later_dates():
    dates = {0x9003: "2021:05:01 10:20:30", 0x9004: "2022:01:01 00:00:00"}
    changed = {0x132: "2023:01:01 00:00:00"}
    assert taken_at(changed, dates) == datetime(2021, 5, 1, 10, 20, 30)
    assert taken_at(changed, {0x9004: dates[0x9004]}) == datetime(2022, 1, 1)
    assert taken_at(changed) == datetime(2023, 1, 1)


@pytest.mark.parametrize(
    "text",
    [
        "0000:00:00 00:00:00",
        "    :  :     :  :  ",
        "2021:13:40 10:00:00",
        "0021:05:01 10:00:00",
        "9021:05:01 10:00:00",
        "yesterday",
    ],
)
def test_an_absurd_date_is_no_date(text):
    assert taken_at({0x132: text}) is None


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("NIKON CORPORATION", "NIKON D850", "NIKON D850"),
        ("Apple", "iPhone 15 Pro", "Apple iPhone 15 Pro"),
        ("Apple\n", " iPhone\t15 ", "Apple iPhone 15"),
        ("\x01\x02", "\x03", None),
        ("Make", None, "Make"),
        (None, "Model", "Model"),
        ("A" * 60, "B" * 60, "A" * 60 + " " + "B" * 19),
    ],
)
def test_the_camera_is_named_once_and_printable(make, model, camera):
    tags = {tag: value for tag, value in ((0x10F, make), (0x110, model)) if value is not None}
    assert open_photo(jpeg(exif=exif_of(tags)), "x").camera == camera


def position(gps):
    photo = open_photo(jpeg(exif=exif_of(gps=gps)), "x")
    return photo.latitude, photo.longitude


ROME = {1: "N", 2: (41.0, 53.0, 24.0), 3: "E", 4: (12.0, 29.0, 32.0)}


def test_gps_becomes_decimal_degrees():
    assert position(ROME) == pytest.approx((41.89, 12.49222), abs=1e-4)
    assert position(ROME | {1: "S", 3: "W"}) == pytest.approx((-41.89, -12.49222), abs=1e-4)


NAN = float("nan")


@pytest.mark.parametrize(
    "broken",
    [
        {2: (91.0, 0.0, 0.0)},
        {4: (181.0, 0.0, 0.0)},
        {2: (TiffImagePlugin.IFDRational(41, 0), 0.0, 0.0)},
        {2: (41.0, TiffImagePlugin.IFDRational(0, 0), 0.0)},
        {1: "X"},
        {3: ""},
        {2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)},
    ],
)
def test_a_broken_position_is_no_position(broken):
    assert position(ROME | broken) == (None, None)


@pytest.mark.parametrize("missing", ROME)
def test_half_a_position_is_no_position(missing):
    assert position({tag: value for tag, value in ROME.items() if tag != missing}) == (None, None)


def test_a_position_of_nan_is_no_position():
    good = exif_of(gps=ROME)
    bad = good.replace(b"\x00\x02\x00\x05\x00\x00\x00\x03", b"\x00\x02\x00\x0c\x00\x00\x00\x03")
    bad = bad.replace(b"\x02\x00\x05\x00\x03\x00\x00\x00", b"\x02\x00\x0c\x00\x03\x00\x00\x00")
    assert bad != good
    photo = open_photo(jpeg(exif=bad), "x")
    assert (photo.latitude, photo.longitude) == (None, None)


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF"])
def test_every_format_that_carries_exif_tells_it(fmt):
    exif = exif_of({0x110: "X100"}, {0x9003: "2021:05:01 10:20:30"}, ROME)
    photo = open_photo(encoded(corners(), fmt, exif=exif), "x")
    assert photo.taken_at == datetime(2021, 5, 1, 10, 20, 30)
    assert photo.camera == "X100"
    assert photo.latitude == pytest.approx(41.89, abs=1e-4)


def looping_exif():
    """Directories that point at themselves, in both byte orders' favourite: little-endian."""
    pointers = struct.pack("<HHLL", 0x8769, 4, 1, 8) + struct.pack("<HHLL", 0x8825, 4, 1, 8)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + pointers + struct.pack("<L", 8)


@pytest.mark.parametrize(
    "exif",
    [
        looping_exif(),
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(20),
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x0f\0\x02\xff\xff\xff\xff" * 40,
        b"Exif\0\0" + bytes(range(256)),
        exif_of({0x112: 1, 0x110: "A long model name"}, {0x9003: "2021:05:01 10:20:30"})[:-30],
    ],
)
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_never_fails_the_photo(fmt, exif):
    photo = open_photo(encoded(corners(), fmt, exif=exif), "x")
    assert_corners(photo.pixels())
    assert photo.latitude is None


def test_random_damage_to_exif_never_fails_the_photo():
    good = exif_of({0x10F: "Make", 0x112: 1}, {0x9003: "2021:05:01 10:20:30"}, ROME)
    rng = np.random.default_rng(5)
    for _ in range(150):
        bad = np.frombuffer(good, np.uint8).copy()
        bad[rng.integers(6, len(bad), 6)] = rng.integers(0, 256, 6)
        photo = open_photo(jpeg(exif=bad.tobytes()), "x")
        assert sorted((photo.width, photo.height)) == [64, 96]


def test_broken_directories_in_a_tiff_never_fail_the_photo():
    strip = np.asarray(corners()).tobytes()
    for pointer in (0x8769, 0x8825, 330):
        data = tiff_by_hand(strip, 96, 64, (8, 8, 8), 2, "<", {pointer: 8_000_000})
        assert_corners(open_photo(data, "x").pixels())


# --- sources and names ------------------------------------------------------------------------


def test_paths_bytes_and_file_objects_give_the_same_photo(tmp_path):
    path = tmp_path / "tower.jpg"
    path.write_bytes(jpeg())
    with path.open("rb") as file:
        file.read(10)
        photos = [open_photo(path), open_photo(str(path)), open_photo(file)]
    photos += [open_photo(jpeg(), "tower.jpg"), open_photo(io.BytesIO(jpeg()), "tower.jpg")]
    assert len(set(photos)) == 1
    assert photos[0].name == "tower.jpg"
    assert len(photos[0].sha256) == 64


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../etc/tower.jpg", "tower.jpg"),
        ("C:\\fotos\\tower.jpg", "tower.jpg"),
        ("site/north/", "north"),
        ("a\nb\u202e.jpg", "a\ufffdb\ufffd.jpg"),
        ("", "photo"),
        (None, "photo"),
        ("/", "photo"),
    ],
)
def test_the_name_is_a_label_without_folders(given, shown):
    assert open_photo(jpeg(), given).name == shown


def test_a_photo_cannot_be_changed_and_hides_its_bytes():
    photo = open_photo(jpeg(), "x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        photo.width = 1
    assert len(repr(photo)) < 400


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_content_outranks_the_suffix(suffix, tmp_path):
    for fmt in ("PNG", "HEIF"):
        path = tmp_path / f"tower.{suffix}"
        path.write_bytes(encoded(corners(), fmt))
        assert open_photo(path).format == fmt


# --- refusals ---------------------------------------------------------------------------------


def test_a_missing_file_a_folder_and_an_empty_file_are_told_apart(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    cases = {"missing": "no such file", "folder": "folder", "empty": "the file is empty"}
    for name, reason in cases.items():
        with pytest.raises(PhotoError, match=rf"^{name}\.jpg: .*{reason}.*; "):
            open_photo(tmp_path / f"{name}.jpg")
    with pytest.raises(PhotoError, match="no such file"):
        open_photo(tmp_path / "empty.jpg" / "x.jpg")


@linux_only
def test_odd_paths_are_refused_and_not_waited_for(tmp_path):
    with pytest.raises(PhotoError, match="cannot be opened"):
        open_photo("a\0b.jpg")
    with pytest.raises(PhotoError, match="not a regular file"):
        open_photo("/dev/zero")
    with pytest.raises(PhotoError, match="cannot be opened"):
        open_photo(tmp_path / ("x" * 300 + ".jpg"))


@linux_only
def test_too_many_bytes_are_refused_and_not_read(tmp_path):
    limits = Limits(max_bytes=2**20)
    path = tmp_path / "tower.jpg"
    with path.open("wb") as file:
        file.truncate(2**34)  # sparse: reading it whole would not fit into memory
    for source in (path, io.BytesIO(bytes(2**20 + 1)), bytes(2**20 + 1)):
        with pytest.raises(PhotoError, match=r"tower\.jpg: the file is larger than 1 MB; "):
            open_photo(source, "tower.jpg", limits=limits)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (encoded(corners(), "GIF"), "a GIF picture"),
        (b"%PDF-1.7\n...", "a PDF"),
        (b"<?xml version='1.0'?>\n<svg xmlns='x'/>", "an SVG drawing"),
        (b"<svg width='3'>", "an SVG drawing"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\0\0\0\x20ftypisom\0\0\0\0", "a video"),
        (b"\0\0\0\x14ftypqt  ", "a video"),
        (b"RIFF\0\0\0\0AVI LIST", "a video"),
        (b"\x1aE\xdf\xa3\x01", "a video"),
        (b"\0\0\0\x20ftypavif\0\0\0\0", "an AVIF picture"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1miaf" + bytes(40), "an AVIF picture"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
        (b"\xff\x0a\x00", "a JPEG XL picture"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"PK\x03\x04abc", "a ZIP archive or office document"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(50), "a camera raw file"),
        (b"\0\0\0\x18ftypcrx \0\0", "a camera raw file"),
        (b"FUJIFILMCCD-RAW 0201", "a camera raw file"),
        (b"IIU\0\x18\0\0\0", "a camera raw file"),
        ("Gr\u00fc\u00dfe aus N\u00fcrnberg\n".encode(), "text"),
        (bytes(200), "no image we know"),
        (b"\x7fELF\2\1\1\0" + bytes(200), "no image we know"),
    ],
)
def test_what_is_no_photo_is_named(data, what):
    message = refusal(data)
    assert message.startswith(f"tower.jpg: this is {what}; choose a JPEG")


@pytest.mark.parametrize("extra", [{50706: b"\1\4\0\0"}, {254: 1, 330: 8}])
def test_camera_raw_files_shaped_like_tiffs_are_refused(extra):
    strip = np.asarray(corners()).tobytes()
    data = tiff_by_hand(strip, 96, 64, (8, 8, 8), 2, "<", extra)
    assert "a camera raw file" in refusal(data)


def test_a_raw_suffix_on_a_tiff_means_camera_raw():
    assert "a camera raw file" in refusal(encoded(corners(), "TIFF"), "tower.NEF")
    assert open_photo(encoded(corners(), "PNG"), "tower.nef").format == "PNG"


@pytest.mark.parametrize("fmt", ["PNG", "WEBP"])
def test_animations_are_refused(fmt):
    frames = [corners().transpose(Image.Transpose.ROTATE_180)]
    data = encoded(corners(), fmt, save_all=True, append_images=frames, duration=100)
    assert f"this {fmt} is animated" in refusal(data)


def test_a_heif_sequence_is_refused():
    data = encoded(corners(), "HEIF")
    assert "this HEIF is animated" in refusal(data[:8] + b"msf1" + data[12:])


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "HEIF"])
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9])
def test_a_truncated_photo_is_refused_whole(fmt, kept):
    data = encoded(textured(400, 300), fmt)
    message = refusal(data[: int(kept * len(data))])
    assert fmt in message
    if fmt in ("JPEG", "PNG", "WEBP"):
        assert message == f"tower.jpg: the {fmt} ends early; copy it from the camera again"


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg"])
def test_a_truncated_compressed_tiff_is_refused(compression, capfd):
    data = encoded(textured(400, 300), "TIFF", compression=compression)
    assert "the TIFF" in refusal(data[: len(data) // 2])


def test_a_damaged_body_is_refused():
    data = bytearray(encoded(textured(400, 300), "PNG"))
    middle = len(data) // 2
    data[middle : middle + 2000] = b"\xff" * 2000
    assert "tower.jpg: the PNG is damaged; copy it" in refusal(bytes(data))


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "HEIF"])
def test_random_damage_gives_pixels_or_a_photo_error(fmt, recwarn):
    good = np.frombuffer(encoded(corners(), fmt), np.uint8)
    rng = np.random.default_rng(9)  # `recwarn` because Pillow may warn of what it finds in a TIFF
    limits = Limits(max_pixels=1_000_000)
    for _ in range(120):
        bad = good.copy()
        bad[rng.integers(0, len(bad), 8)] = rng.integers(0, 256, 8)
        try:
            photo = open_photo(bad.tobytes(), "x", limits=limits)
            assert photo.pixels().shape == (photo.height, photo.width, 3)
        except PhotoError as error:
            assert str(error).startswith("x: ")


def test_a_bomb_is_refused_by_its_header():
    assert refusal(png_claiming(50_000, 50_000)) == (
        "tower.jpg: the photo has 50,000 × 50,000 pixels, more than 250 million; "
        "save a smaller copy and use that"
    )


def test_sizes_that_cannot_be_judged_are_refused():
    assert "a side longer than 65,000" in refusal(png_claiming(65_001, 3300))
    assert "31 × 400 pixels, too small to judge" in refusal(png_claiming(31, 400))
    assert "more than 20 times as long as wide" in refusal(png_claiming(40, 801))
    assert open_photo(png_claiming(40, 800), "x").height == 800
    assert "more than 0.001 million" in refusal(jpeg(), limits=Limits(max_pixels=1000))


def test_a_turned_photo_is_named_by_its_upright_size():
    data = jpeg(Image.new("RGB", (1000, 40)), exif=exif_of({0x112: 6}))
    assert "40 × 1,000 pixels" in refusal(data)


def test_a_hundred_megapixels_open_without_a_warning():
    stored = encoded(Image.new("L", (12_000, 8_400), 90), "JPEG")
    assert open_photo(stored, "x").pixels(short_side_px=32).shape == (32, 46, 3)
    assert open_photo(png_claiming(20_000, 12_000), "x").width == 20_000  # over Pillow's error, too
    fax = encoded(Image.new("1", (12_000, 8_400), 1), "TIFF", compression="group4")
    assert open_photo(fax, "x").pixels(short_side_px=32).min() == 255


@linux_only
def test_a_decoder_out_of_memory_is_a_photo_error():
    # A few bytes that claim 720 MB of pixels, in a process that may take 100 MB more.
    code = """
import resource, sys
from heritage.errors import PhotoError
from heritage.photos import open_photo
photo = open_photo(sys.stdin.buffer.read(), "big.png")
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 100 * 2**20,) * 2)
try:
    photo.pixels()
except PhotoError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=png_claiming(24_000, 10_000),
        capture_output=True,
        check=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        cwd=Path(__file__).parent.parent,
    )
    assert done.stdout.decode().startswith("big.png: the photo does not fit into memory; ")


def test_nothing_in_pillow_is_loosened():
    assert Image.MAX_IMAGE_PIXELS == 1024**3 // 4 // 3
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert pillow_heif.options.DISABLE_SECURITY_LIMITS is False
    assert "HEIF" not in Image.OPEN


def test_a_small_tiff_with_a_giant_tile_is_refused_before_room_is_made_for_it():
    # Width, height, bits, deflate, black is zero, samples, tile width and height, offset, bytes.
    tags = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1}
    tags |= {322: 8192, 323: 8192, 324: 8, 325: 0}
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags.items())
    stored = b"II*\0" + struct.pack("<LH", 8, len(tags)) + entries + bytes(4)
    with pytest.raises(PhotoError, match="tiles far larger than the photo"):
        open_photo(stored, "bomb.tif")
