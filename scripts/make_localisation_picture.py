"""Draws docs/localisation.jpg: a large photo with a small crack, by Grad-CAM and by detail scan.

The photo is samples/summer-palace.jpg, six times enlarged, with fine grain; the crack is painted.
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
ENLARGED = 6
CRACK_AT, CRACK_SIDE = (1830, 1180), 360  # left, top and side in pixels
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
        picture = seen(photo, found)
        pane = picture.resize((PANE_PX, height), Image.Resampling.LANCZOS)
        scale = PANE_PX / photo.width
        box = [round(v * scale) for v in (*CRACK_AT, *(at + CRACK_SIDE for at in CRACK_AT))]
        ImageDraw.Draw(pane).rectangle(box, outline=(255, 255, 255), width=2)
        sheet.paste(pane, (left, LINE_PX))
        close = picture.crop((*CRACK_AT, *(at + CRACK_SIDE for at in CRACK_AT)))
        close = close.resize((CLOSE_PX, CLOSE_PX), Image.Resampling.LANCZOS)
        sheet.paste(close, (left, LINE_PX + height + GAP_PX))
        if found is not None and not found.evidence:
            pen.text((left + CLOSE_PX + 16, LINE_PX + height + GAP_PX), "no evidence", INK, font)
    sheet.save(OUT, quality=85)
    print(OUT.relative_to(ROOT), f"{OUT.stat().st_size:,} bytes")


def large_photo() -> Photo:
    """A sharp-grained photo of some 10 megapixels with one crack, 4 px wide."""
    rng = np.random.default_rng(4)
    small = open_photo(ROOT / "samples" / "summer-palace.jpg").pixels()
    size = (small.shape[1] * ENLARGED, small.shape[0] * ENLARGED)
    wide = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    mask = Image.new("L", size)
    pen = ImageDraw.Draw(mask)
    at = np.array([CRACK_AT[0] + 0.2 * CRACK_SIDE, CRACK_AT[1] + 0.1 * CRACK_SIDE])
    heading = 0.9
    for _ in range(42):
        heading = 0.9 * heading + 0.1 * 1.0 + rng.normal(0, 0.3)
        to = at + 8 * np.array([np.cos(heading), np.sin(heading)])
        pen.line([*at, *to], fill=255, width=int(rng.integers(3, 6)))
        at = to
    cover = np.asarray(mask, np.float32)[..., None] / 255 * 0.75
    pixels = np.asarray(wide, np.float32) * (1 - cover) + 25 * cover
    pixels += rng.normal(0, 5, pixels.shape[:2])[..., None]
    return open_photo(encode_png(pixels.clip(0, 255).astype(np.uint8)), "palace.png")


def seen(photo: Photo, found: Inspection | None) -> Image.Image:
    """The photo at full size, under the heat where there is any."""
    pixels = photo.pixels()
    if found is not None and found.evidence:
        pixels = blend(pixels, found.heatmap, opacity=0.7, hot_only=True)
    return Image.fromarray(pixels)


if __name__ == "__main__":
    main()
