"""Bytes to upright sRGB photos: the only place that decodes images.

`open_photo` reads the header, checks it against `Limits` and reads the EXIF facts; no pixel is
decoded. `Photo.pixels` decodes anew on each call, so a `Photo` can be shared between threads.
Everything a file can do wrong ends in a `PhotoError` that names the file.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import re
import threading
import warnings
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ExifTags import Base
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile
from pillow_heif import HeifImageFile

from heritage.errors import PhotoError, one_line
from heritage.exif import Entries, camera, directory, position, read_exif, taken_at, whole_number
from heritage.words import NO_ROOM

SUFFIXES: tuple[str, ...] = ("jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "heic", "heif")

_CHOOSE = "choose a JPEG, PNG, WebP, TIFF, BMP or HEIC photo, or save it as one"
_COPY_AGAIN = "copy it from the camera again"
_SMALLER = "save a smaller copy and use that"


@dataclass(frozen=True)
class Limits:
    """What a photo may be, checked on its size and header before anything is decoded.

    Attributes:
        max_bytes: Largest file.
        max_pixels: Most pixels; WebP ends at Pillow's own 179 million all the same.
        max_side_px: Longest side.
        min_side_px: Shortest side.
        max_aspect: Long side over short side, at most.
    """

    max_bytes: int = 200 * 2**20
    max_pixels: int = 250_000_000
    max_side_px: int = 65_000
    min_side_px: int = 32
    max_aspect: float = 20.0


@dataclass(frozen=True)
class Photo:
    """One image file whose header has been read and found in order.

    Attributes:
        name: Label for people, the base name of what was given; never a path to write to.
        data: The file's bytes.
        sha256: Hex digest of `data`.
        width: Upright width in pixels, at full size.
        height: Upright height in pixels, at full size.
        format: "JPEG", "PNG", "WEBP", "TIFF", "BMP" or "HEIF".
        taken_at: When it was taken by the camera's clock, without a time zone.
        camera: Make and model, at most 80 characters.
        latitude: Degrees, north positive; None together with `longitude`.
        longitude: Degrees, east positive.
    """

    name: str
    data: bytes = field(repr=False, compare=False)
    sha256: str
    width: int
    height: int
    format: str
    taken_at: datetime | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None

    def pixels(
        self, *, short_side_px: int | None = None, long_side_px: int | None = None
    ) -> np.ndarray:
        """Decodes the photo, upright and in sRGB, with its aspect kept and never enlarged.

        Args:
            short_side_px: Length the short side is reduced to, if it is longer.
            long_side_px: Length the long side is reduced to, if it is longer.

        Returns:
            (height, width, 3) uint8 RGB, writable; the full size if neither side is asked for.

        Raises:
            PhotoError: The file ends early, is damaged, or does not fit into memory.
            ValueError: Both sides are asked for, or a side below one pixel.
        """
        width, height = _reduced(self.width, self.height, short_side_px, long_side_px)
        large = self.width * self.height > _LARGE_PIXELS
        try:
            with _one_at_a_time if large else contextlib.nullcontext():
                im, orientation, _ = _open_header(self.format, self.data)
                size = (height, width) if orientation >= 5 else (width, height)
                return _decode(im, size, orientation)
        except Exception as exc:
            raise _unreadable(self.name, self.format, self.data, exc) from exc


def open_photo(
    source: str | Path | bytes | BinaryIO, name: str | None = None, *, limits: Limits = Limits()
) -> Photo:
    """Reads a photo's bytes, header and EXIF facts; its pixels are left undecoded.

    Args:
        source: A path, the file's bytes, or a binary file object (read from its start).
        name: Label for people; by default the base name of the path or file object.
        limits: Caps checked before decoding.

    Raises:
        PhotoError: There is no such file, it is no photo we read, it is damaged, or over a cap.
    """
    given = name or (source if isinstance(source, str | Path) else getattr(source, "name", ""))
    label = one_line(re.split(r"[\\/]", str(given).rstrip("\\/"))[-1].strip()) or "photo"
    data = _read(source, label, limits)
    fmt = _identify(label, data)
    try:
        im, orientation, facts = _open_header(fmt, data)
        width, height = im.size[::-1] if orientation >= 5 else im.size
        tile_px = _tile_px(im)
    except Exception as exc:
        raise _unreadable(label, fmt, data, exc) from exc
    _check_size(label, width, height, limits)
    if tile_px > max(2**22, 4 * width * height):  # libtiff would make room for all of it
        raise PhotoError(label, "the TIFF has tiles far larger than the photo", _SMALLER)
    if fmt == "JPEG" and _scans(data) > _MOST_SCANS:  # each takes as long as a whole photo
        reason = f"the JPEG is built up in more than {_MOST_SCANS} scans"
        raise PhotoError(label, reason, "save it anew and use that")
    if fmt == "WEBP" and getattr(im, "n_frames", 1) > 1:
        raise _animated(label, fmt)
    return Photo(
        name=label,
        data=data,
        sha256=hashlib.sha256(data).hexdigest(),
        width=width,
        height=height,
        format=fmt,
        taken_at=taken_at(facts),
        camera=camera(facts),
        **position(facts),
    )


# --- bytes -----------------------------------------------------------------------------------


def _read(source: str | Path | bytes | BinaryIO, name: str, limits: Limits) -> bytes:
    try:
        if isinstance(source, str | Path):
            path = Path(source)
            if path.is_dir():
                raise PhotoError(name, "this is a folder", "choose a photo inside it")
            if path.exists() and not path.is_file():
                raise PhotoError(name, "this is not a regular file", _CHOOSE)
            with path.open("rb") as file:
                return _read(file, name, limits)
        if isinstance(source, bytes | bytearray | memoryview):
            data, size = bytes(source), len(source)
        else:
            size = source.seek(0, io.SEEK_END) if source.seekable() else 0
            if size:
                source.seek(0)
            data = source.read(limits.max_bytes + 1) if size <= limits.max_bytes else b""
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise PhotoError(name, "there is no such file", "check the path") from exc
    except (OSError, ValueError) as exc:
        reason = f"the file cannot be opened ({getattr(exc, 'strerror', None) or exc})"
        raise PhotoError(name, reason, "check the path and your permissions") from exc
    if max(size, len(data)) > limits.max_bytes:
        cap_mb = limits.max_bytes / 2**20
        raise PhotoError(name, f"the file is larger than {cap_mb:.4g} MB", _SMALLER)
    if not data:
        raise PhotoError(name, "the file is empty", _COPY_AGAIN)
    return data


_MAGIC: tuple[tuple[str, bytes], ...] = (
    ("JPEG", rb"\xff\xd8\xff"),
    ("PNG", rb"\x89PNG\r\n\x1a\n"),
    ("WEBP", rb"RIFF....WEBP"),
    ("HEIF", rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)"),
    ("BMP", rb"BM"),
    ("a camera raw file", rb"FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0|II\*\0.{4}CR|....ftypcrx"),
    ("TIFF", rb"II[*+]\0|MM\0[*+]"),
    ("a GIF picture", rb"GIF8"),
    ("an AVIF picture", rb"....ftypavi[fs]"),
    ("a JPEG 2000 picture", rb"....jP  "),
    ("a JPEG XL picture", rb"....JXL |\xff\x0a"),
    ("a Photoshop file", rb"8BPS"),
    ("a video", rb"....ftyp|RIFF....AVI |\x1aE\xdf\xa3|\0\0\x01\xba"),
    ("a PDF", rb"%PDF"),
    ("a ZIP archive or office document", rb"PK\x03\x04"),
    ("an SVG drawing", rb"(?i:\s*<[^\0]{0,1000}?<?svg[\s>])"),
    ("a web page", rb"(?i:\s*<(!doctype )?html)"),
)
_RAW_SUFFIXES = (".nef", ".nrw", ".arw", ".sr2", ".cr2", ".dng", ".pef", ".srw", ".3fr", ".iiq")


def _identify(name: str, data: bytes) -> str:
    """Tells the format by content, whatever the suffix says; refuses what is no still photo."""
    found = next((f for f, magic in _MAGIC if re.match(magic, data[:1100], re.DOTALL)), None)
    if found is None:
        text = not re.search(rb"[\0-\x08\x0e-\x1f]", data[:1100])
        raise PhotoError(name, "this is text" if text else "this is no image we know", _CHOOSE)
    if found == "TIFF":
        ifd = directory(data)
        # Raw files are TIFFs that show a thumbnail to whoever reads only their first page.
        thumbnail_first = whole_number(ifd, Base.NewSubfileType) & 1 and Base.SubIFDs in ifd
        if Base.DNGVersion in ifd or thumbnail_first or name.lower().endswith(_RAW_SUFFIXES):
            found = "a camera raw file"
    elif found == "HEIF":
        brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
        if b"avif" in brands and b"hei" not in brands:
            found = "an AVIF picture"
        elif brands.startswith((b"hev", b"msf")):
            raise _animated(name, "HEIF")
    elif found == "PNG" and _png_chunk(data, b"acTL")[:4] not in (b"", b"\0\0\0\1"):
        raise _animated(name, "PNG")
    if found not in _OPENERS:
        raise PhotoError(name, f"this is {found}", _CHOOSE)
    return found


def _png_chunk(data: bytes, wanted: bytes) -> bytes:
    """Finds a chunk anywhere; Pillow would decode the pixels to see the EXIF behind them."""
    at = 8
    for _ in range(100_000):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind == wanted:
            return data[at + 8 : at + 8 + length]
        at += 12 + length
        if at >= len(data):
            break
    return b""


_MOST_SCANS = 100  # progressive JPEGs have about ten
_SCAN = re.compile(rb"\xff\xda")
_MARKER = re.compile(rb"\xff[^\0\1\xff\xd0-\xd8]")


def _scans(data: bytes) -> int:
    """How many scans a JPEG has; the bytes of their marker also occur in thumbnails and noise."""
    at_most = sum(1 for _ in islice(_SCAN.finditer(data), _MOST_SCANS + 1))  # bytes.count is slow
    if at_most <= _MOST_SCANS:
        return at_most
    scans, at = 0, 2
    while (found := _MARKER.search(data, at)) and found[0] != b"\xff\xd9":
        scans += found[0] == b"\xff\xda"
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return scans


# --- header ----------------------------------------------------------------------------------


# What Pillow and libtiff say of a broken TIFF, a line for each of up to 65,000 places, would bury
# every other line of a log. Windows keeps libtiff's functions to itself.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")
with contextlib.suppress(AttributeError, OSError):
    ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)


class _Jpeg(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Nobody needs the resolution, and looking for it trips over broken EXIF."""


class _Tiff(TiffImageFile):
    def _setup(self) -> None:
        """Pillow's own, but that takes uncompressed planes of 16 bits for planes of eight, and
        does not read a lone plane of so many."""
        if self.tag_v2.get(Base.SamplesPerPixel, 1) == 1:
            self.tag_v2.pop(Base.PlanarConfiguration, None)
        super()._setup()
        if self._planar_configuration == 2 and max(self.bits) == 16:
            deep = ";16B" if self.tag_v2.prefix == b"MM" else ";16L"
            self.tile = [
                tile._replace(args=(f"{tile.args[0]}{deep}", *tile.args[1:]))
                if tile.codec_name == "raw" and isinstance(tile.args, tuple)
                else tile
                for tile in self.tile
            ]

    @property
    def bits(self) -> tuple[int, ...]:
        """Bits of each channel."""
        return tuple(self.tag_v2.get(Base.BitsPerSample, (1,)))

    def load_prepare(self) -> None:
        if self._im is None:  # made here, so that Pillow does not warn of its size
            self.im = Image.core.new(self.mode, self._tile_size)
        super().load_prepare()

    def load_end(self) -> None:
        """Pillow's own, less the visit to every EXIF directory, which trips over broken ones."""
        ImageOps.exif_transpose(self, in_place=True)


# Image.open() warns from 89 million pixels and refuses from 179 million, by a limit that belongs
# to the whole process, and filtering warnings is not thread-safe. So the chosen plugin is called
# directly, which also leaves every other format shut, and `Limits` guards the header's size.
_OPENERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": _Jpeg,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "TIFF": _Tiff,
    "BMP": BmpImageFile,
    "HEIF": HeifImageFile,
}


def _open_header(fmt: str, data: bytes) -> tuple[ImageFile.ImageFile, int, Entries]:
    """Returns the undecoded image, the orientation (1 if the plugin itself turns), EXIF facts."""
    im = _OPENERS[fmt](io.BytesIO(data))
    if fmt == "TIFF":
        return im, 1, read_exif(data)
    facts = read_exif(_png_chunk(data, b"eXIf") if fmt == "PNG" else im.info.get("exif") or b"")
    orientation = whole_number(facts, Base.Orientation)
    return im, orientation if orientation in _TURNS and fmt != "HEIF" else 1, facts


def _tile_px(im: ImageFile.ImageFile) -> int:
    if not isinstance(im, _Tiff):
        return 0
    return int(im.tag_v2.get(Base.TileWidth, 0)) * int(im.tag_v2.get(Base.TileLength, 0))


def _check_size(name: str, width: int, height: int, limits: Limits) -> None:
    short, long = sorted((width, height))
    most, least = f"{limits.max_pixels / 1e6:.4g} million", limits.min_side_px
    for over, why, advice in (
        (width * height > limits.max_pixels, f"more than {most}", _SMALLER),
        (long > limits.max_side_px, f"a side longer than {limits.max_side_px:,}", _SMALLER),
        (short < least, "too small to judge", f"use one of at least {least} on each side"),
        (
            long > limits.max_aspect * short,
            f"more than {limits.max_aspect:g} times as long as wide",
            "cut it into shorter pieces",
        ),
    ):
        if over:
            raise PhotoError(name, f"the photo has {width:,} × {height:,} pixels, {why}", advice)


def _animated(name: str, fmt: str) -> PhotoError:
    return PhotoError(name, f"this {fmt} is animated", "save the one picture you mean as a JPEG")


def _unreadable(name: str, fmt: str, data: bytes, exc: Exception) -> PhotoError:
    if isinstance(exc, MemoryError):
        return PhotoError(name, NO_ROOM, _SMALLER)
    if isinstance(exc, Image.DecompressionBombError):
        return PhotoError(name, f"the {fmt} has too many pixels", _SMALLER)
    end = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}.get(fmt, b"")
    cut = "truncated" in str(exc).lower() or end not in data[-65_536:]
    cut = cut or (fmt == "WEBP" and int.from_bytes(data[4:8], "little") + 8 > len(data))
    return PhotoError(name, f"the {fmt} {'ends early' if cut else 'is damaged'}", _COPY_AGAIN)


# --- pixels ----------------------------------------------------------------------------------

# A few bytes can state 250 million pixels, which take up to 5 GB: enough for one, not for eight.
_LARGE_PIXELS = 64_000_000
_one_at_a_time = threading.Lock()
# Above 32 MB the C library gives memory back at once; smaller blocks each thread would keep.
Image.core.set_block_size(64 * 2**20)

_TURNS: dict[int, Image.Transpose | None] = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _reduced(
    width: int, height: int, short_side_px: int | None, long_side_px: int | None
) -> tuple[int, int]:
    if short_side_px is None and long_side_px is None:
        return width, height
    asked = short_side_px if long_side_px is None else long_side_px
    if asked is None or asked < 1 or (short_side_px and long_side_px):
        raise ValueError("ask for the short or the long side, of at least one pixel")
    own = min(width, height) if long_side_px is None else max(width, height)
    if asked >= own:
        return width, height
    new_width, new_height = ((2 * side * asked + own) // (2 * own) for side in (width, height))
    return max(1, new_width), max(1, new_height)


def _decode(im: ImageFile.ImageFile, size: tuple[int, int], orientation: int) -> np.ndarray:
    """Decodes to `size`, (width, height) before turning; (height, width, 3) uint8 after it."""
    box: tuple[float, float, float, float] | None = None
    if isinstance(im, _Jpeg) and (drafted := im.draft(None, size)):
        box = drafted[1]
    im.load()
    plain = _plain(im)
    if plain.size != size:
        plain = plain.resize(size, Image.Resampling.BILINEAR, box=box)
    rgb = _flat_srgb(plain, im.info.get("icc_profile"))
    turn = _TURNS[orientation]
    return np.array(rgb if turn is None else rgb.transpose(turn))


def _plain(im: ImageFile.ImageFile) -> Image.Image:
    """Brings any mode to L, LA, RGB, RGBA or CMYK, eight bits each."""
    if im.mode.startswith(("I", "F")):
        bits = max(im.bits) if isinstance(im, _Tiff) else 16
        grey = _grey8(np.asarray(im), bits)
        inverted = isinstance(im, _Tiff) and im.tag_v2.get(262) == 0  # white is zero
        return Image.fromarray(255 - grey if inverted else grey)
    if im.has_transparency_data:
        mode = "LA" if im.mode in ("1", "L", "LA", "La") else "RGBA"
        return im if im.mode == mode else im.convert(mode)
    if im.mode == "1":
        return im.convert("L")
    return im if im.mode in ("L", "RGB", "CMYK") else im.convert("RGB")


def _grey8(values: np.ndarray, bits: int) -> np.ndarray:
    """Scales (h, w) grey of more than eight bits to uint8: by its full range, else from its own."""
    if values.dtype.kind == "u":
        return (values >> (bits - 8)).astype(np.uint8)
    known = values[np.isfinite(values)].astype(np.float64)
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    ranges = (1.0, 255.0, 65_535.0) if values.dtype.kind == "f" else (255.0, 65_535.0)
    top = next((top for top in ranges if low >= 0 and high <= top), None)
    low, span = (low, high - low or 1.0) if top is None else (0.0, top)
    scaled = (np.nan_to_num(values.astype(np.float64), nan=low) - low) / span
    return (scaled.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _flat_srgb(im: Image.Image, icc: bytes | None) -> Image.Image:
    """Converts by the embedded profile if it is sound and fits, and lays alpha over white."""
    alpha = im.getchannel("A") if im.mode in ("LA", "RGBA") else None
    rgb = None
    if icc:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[profile.profile.xcolor_space.strip()]
            fits = {"RGB": ("L", "LA", "RGB", "RGBA"), "L": ("L", "LA"), "CMYK": ("CMYK",)}
            if im.mode in fits[mode]:
                srgb = ImageCms.createProfile("sRGB")
                rgb = ImageCms.profileToProfile(im.convert(mode), profile, srgb, outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError, KeyError):
            rgb = None
    rgb = rgb or im.convert("RGB")
    if alpha is None:
        return rgb
    white = Image.new("RGB", im.size, "white")
    white.paste(rgb, mask=alpha)
    return white
