"""What leaves the app: the overlay as PNG, the inspection as JSON, and names safe to write to."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from heritage.cards import is_reserved
from heritage.overlays import Region, blend
from heritage.photos import Limits, Photo, open_photo

if TYPE_CHECKING:
    from heritage.inspection import Inspection

BOX_COLOUR = (255, 255, 255)
BOX_SHADOW = (30, 26, 23)


# At full size a picture and its heat take some 30 bytes a pixel; one download at a time does.
_FULL_SIZE = Lock()


def overlay_png(
    photo: Photo,
    inspection: Inspection,
    *,
    opacity_percent: float = 60,
    colour_map: str = "inferno",
    hot_only: bool = True,
    boxes: bool = True,
) -> bytes:
    """The photo at full size with the heat laid over it and its regions boxed, as PNG bytes.

    Raises:
        PhotoError: The photo cannot be decoded at full size.
    """
    with _FULL_SIZE:
        picture = Image.fromarray(
            blended(
                photo,
                inspection,
                opacity_percent=opacity_percent,
                colour_map=colour_map,
                hot_only=hot_only,
            )
        )
        if boxes:
            draw_regions(picture, inspection.regions)
        return encode_png(np.asarray(picture))


def blended(
    photo: Photo,
    inspection: Inspection,
    *,
    opacity_percent: float,
    colour_map: str = "inferno",
    hot_only: bool = True,
    side_px: int | None = None,
) -> np.ndarray:
    """The photo, its long side at most `side_px`, under its heat: RGB (h, w, 3) uint8.

    Without evidence it is the photo alone.
    """
    pixels = photo.pixels(long_side_px=side_px)
    if not inspection.evidence:
        return pixels
    heat = inspection.heat_at(*pixels.shape[:2])
    return blend(
        pixels, heat, opacity=opacity_percent / 100, colour_map=colour_map, hot_only=hot_only
    )


def encode_png(pixels: np.ndarray) -> bytes:
    """PNG bytes of RGB or RGBA pixels (H, W, 3 or 4) uint8; quick rather than small."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def encode_jpeg(pixels: np.ndarray, quality: int = 88) -> bytes:
    """JPEG bytes of RGB pixels (H, W, 3) uint8."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def draw_regions(picture: Image.Image, regions: tuple[Region, ...], *, scale: float = 1.0) -> None:
    """Draws numbered boxes on `picture` in place, light on dark so that they show on any wall.

    `scale` is that of the picture against the photo in whose pixels the regions are.
    """
    pen = ImageDraw.Draw(picture)
    line_px = max(2, round(max(picture.size) / 500))
    font = ImageFont.load_default(size=line_px * 8)
    for number, region in enumerate(regions, start=1):
        right, bottom = region.x + region.width, region.y + region.height
        box = (
            region.x * scale,
            region.y * scale,
            max(region.x * scale, right * scale - 1),
            max(region.y * scale, bottom * scale - 1),
        )
        pen.rectangle(box, outline=BOX_SHADOW, width=2 * line_px)
        pen.rectangle(box, outline=BOX_COLOUR, width=line_px)
        corner = (box[0] + 3 * line_px, box[1] + 2 * line_px)
        pen.text(
            corner,
            str(number),
            fill=BOX_COLOUR,
            font=font,
            stroke_width=line_px,
            stroke_fill=BOX_SHADOW,
        )


def inspection_json(inspection: Inspection) -> str:
    """The inspection as indented JSON."""
    return json.dumps(inspection.as_dict(), indent=2, ensure_ascii=False)


def safe_stem(name: str) -> str:
    """A file stem made from an untrusted photo name: no separators, dots first, or controls."""
    return safe_name(Path(name).stem)


def safe_name(name: str) -> str:
    """The same from a name that is no file's, such as a building's: its dots end nothing.

    It fits any file system, with something added to it: 80 characters and 160 bytes at most, and
    none of the names that are devices on Windows.
    """
    plain = re.sub(r"[^\w.-]+", "_", name).strip("._-")
    short = plain[:80].encode()[:160].decode(errors="ignore").rstrip("._-") or "photo"
    return f"_{short}" if is_reserved(short) else short


def heated_thumbnail(
    jpeg: bytes, grid: np.ndarray, absolute: bool, colour_map: str = "inferno"
) -> bytes:
    """A kept thumbnail under its kept heat (h, w), as JPEG bytes."""
    from heritage.heatmaps import heat_at_size

    pixels = open_photo(jpeg, limits=Limits(min_side_px=1, max_aspect=1000)).pixels()
    heat = heat_at_size(grid, *pixels.shape[:2], absolute=absolute)
    return encode_jpeg(blend(pixels, heat, opacity=0.6, colour_map=colour_map, hot_only=True), 80)
