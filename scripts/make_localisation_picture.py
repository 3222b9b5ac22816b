"""Draws docs/localisation.jpg: a large photo with a small crack, by Grad-CAM and by detail scan.

The photo is made of the rendered samples/sound-masonry.jpg, mirrored into a wall of four; the crack
is painted.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from heritage.exports import encode_png  # noqa: E402
from heritage.inspection import Inspection, Inspector  # noqa: E402
from heritage.overlays import blend  # noqa: E402
from heritage.photos import Photo, open_photo  # noqa: E402

OUT = ROOT / "docs" / "localisation.jpg"
CRACK_AT, CRACK_SIDE = (1840, 560), 380  # left, top and side in pixels
PANE_PX, CLOSE_PX, GAP_PX, LINE_PX = 640, 300, 20, 44
STONE, INK = (246, 244, 239), (34, 30, 26)


def main() -> None:
    """Writes the picture."""
    photo = large_photo()
    inspector = Inspector()
    whole = inspector.inspect(photo)
    scan = inspector.scan(photo, whole)
    height = round(PANE_PX * photo.height / photo.width)
    size = (3 * PANE_PX + 4 * GAP_PX, LINE_PX + height + GAP_PX + CLOSE_PX + GAP_PX)
    sheet = Image.new("RGB", size, STONE)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=22)
    megapixels = photo.width * photo.height / 1e6
    titles = (f"Photo, {megapixels:.0f} megapixels", "Grad-CAM, whole photo", "Detail scan")
    for column, (title, found) in enumerate(zip(titles, (None, whole, scan), strict=True)):
        left = GAP_PX + column * (PANE_PX + GAP_PX)
        pen.text((left, 10), title, fill=INK, font=font)
        pane = seen(photo, found, PANE_PX)
        scale = PANE_PX / photo.width
        box = [round(v * scale) for v in (*CRACK_AT, *(at + CRACK_SIDE for at in CRACK_AT))]
        ImageDraw.Draw(pane).rectangle(box, outline=(255, 255, 255), width=2)
        sheet.paste(pane, (left, LINE_PX))
        left_px, top_px = CRACK_AT
        close = seen(photo, found, photo.width).crop(
            (left_px, top_px, left_px + CRACK_SIDE, top_px + CRACK_SIDE)
        )
        close = close.resize((CLOSE_PX, CLOSE_PX), Image.Resampling.LANCZOS)
        sheet.paste(close, (left, LINE_PX + height + GAP_PX))
        if found is not None and not found.evidence:
            pen.text((left + CLOSE_PX + 16, LINE_PX + height + GAP_PX), "no evidence", INK, font)
    sheet.save(OUT, quality=85)
    print(OUT.relative_to(ROOT), f"{OUT.stat().st_size:,} bytes")


def large_photo() -> Photo:
    """A wall of some 6 megapixels with one crack, 4 px wide."""
    rng = np.random.default_rng(4)
    part = open_photo(ROOT / "samples" / "sound-masonry.jpg").pixels()
    half = np.concatenate([part, part[:, ::-1]], 1)
    wall = np.concatenate([half, half[::-1]], 0)
    mask = Image.new("L", wall.shape[1::-1])
    pen = ImageDraw.Draw(mask)
    at = np.array([CRACK_AT[0] + 0.2 * CRACK_SIDE, CRACK_AT[1] + 0.1 * CRACK_SIDE])
    heading = 0.9
    for _ in range(42):
        heading = 0.9 * heading + 0.1 * 1.0 + rng.normal(0, 0.3)
        to = at + 8 * np.array([np.cos(heading), np.sin(heading)])
        pen.line([*at, *to], fill=255, width=int(rng.integers(3, 6)))
        at = to
    cover = np.asarray(mask, np.float32)[..., None] / 255 * 0.75
    pixels = wall * (1 - cover) + 25 * cover
    return open_photo(encode_png(pixels.clip(0, 255).astype(np.uint8)), "wall.png")


def seen(photo: Photo, found: Inspection | None, width: int) -> Image.Image:
    """The photo as the app shows it at some width, under the heat where there is any."""
    pixels = photo.pixels(long_side_px=width)
    if found is not None and found.evidence:
        heat = found.heat_at(*pixels.shape[:2])
        pixels = blend(pixels, heat, opacity=0.7, hot_only=True)
    return Image.fromarray(pixels)


if __name__ == "__main__":
    main()
