"""Heat over photo: colour maps, blending, and the regions where it is hot."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from plotly.colors import sample_colorscale
from scipy import ndimage

HOT_THRESHOLD = 0.5
MIN_REGION_SHARE_PERCENT = 1.0

# Title and plotly scale of each colour map; the first is the default, safe for colour blindness.
COLOUR_MAPS = {
    "inferno": "Inferno (colour-blind-safe)",
    "cividis": "Cividis (colour-blind-safe)",
    "viridis": "Viridis (colour-blind-safe)",
    "jet": "Jet (as in the literature)",
}


@dataclass(frozen=True)
class Region:
    """One connected hot area.

    Attributes:
        x: Left edge of its box in photo pixels.
        y: Top edge of its box in photo pixels.
        width: Width of its box in photo pixels.
        height: Height of its box in photo pixels.
        share_percent: Its share of all heat in the photo.
    """

    x: int
    y: int
    width: int
    height: int
    share_percent: float


@lru_cache(maxsize=len(COLOUR_MAPS))
def colour_table(name: str) -> np.ndarray:
    """The 256 RGB colours (256, 3) uint8 of the colour map called `name`.

    Raises:
        KeyError: There is no such colour map.
    """
    if name not in COLOUR_MAPS:
        raise KeyError(name)
    scale = sample_colorscale(name.capitalize(), np.linspace(0, 1, 256).tolist(), colortype="tuple")
    return np.round(np.array(scale) * 255).astype(np.uint8)


def colour_heat(heat: np.ndarray, colour_map: str, *, hot_only: bool = False) -> np.ndarray:
    """Paints heat (H, W) in [0, 1] as RGBA (H, W, 4) uint8.

    With `hot_only` cold places are transparent and opacity rises with heat, so that sound parts
    of the photo keep their own colours; otherwise the picture is opaque.
    """
    level = np.round(np.clip(heat, 0, 1) * 255).astype(np.uint8)
    painted = np.empty((*heat.shape, 4), np.uint8)
    painted[..., :3] = colour_table(colour_map)[level]
    painted[..., 3] = _rising_alpha()[level] if hot_only else 255
    return painted


def blend(
    pixels: np.ndarray,
    heat: np.ndarray,
    *,
    opacity: float,
    colour_map: str = "inferno",
    hot_only: bool = False,
) -> np.ndarray:
    """Lays coloured heat over a photo.

    Args:
        pixels: RGB (H, W, 3) uint8.
        heat: (H, W) in [0, 1].
        opacity: 0 shows the photo alone, 1 the heat alone (where it is opaque).
        colour_map: A key of `COLOUR_MAPS`.
        hot_only: Leave cold places clear.

    Returns:
        RGB (H, W, 3) uint8.
    """
    out = np.empty_like(pixels)
    band = max(1, 2**22 // max(1, pixels.shape[1]))  # rows at a time: a 50 MP photo stays cheap
    for top in range(0, len(pixels), band):
        rows = slice(top, top + band)
        painted = colour_heat(heat[rows], colour_map, hot_only=hot_only)
        alpha = np.float32(opacity / 255) * painted[..., 3:].astype(np.float32)
        under = pixels[rows].astype(np.float32)
        out[rows] = np.round(under + alpha * (painted[..., :3] - under)).astype(np.uint8)
    return out


def affected_percent(heat: np.ndarray, threshold: float = HOT_THRESHOLD) -> float:
    """Share of the pixels of `heat` (H, W) at or above the hot threshold, in percent."""
    return float((heat >= threshold).mean() * 100)


def find_regions(
    heat: np.ndarray,
    width: int,
    height: int,
    threshold: float = HOT_THRESHOLD,
    least_share_percent: float = MIN_REGION_SHARE_PERCENT,
) -> tuple[Region, ...]:
    """Connected hot areas of `heat` (h, w), largest share of the heat first.

    Boxes are in pixels of the upright photo of `width` × `height`; areas with less than
    `least_share_percent` of the heat are left out.
    """
    total = float(heat.sum())
    if total == 0:
        return ()
    labels, count = ndimage.label(heat >= threshold, structure=np.ones((3, 3)))
    shares = ndimage.sum_labels(heat, labels, range(1, count + 1)) / total * 100
    scale_x, scale_y = width / heat.shape[1], height / heat.shape[0]
    found = []
    for (rows, columns), share in zip(ndimage.find_objects(labels), shares, strict=True):
        if share < least_share_percent:
            continue
        left, right = round(columns.start * scale_x), round(columns.stop * scale_x)
        top, bottom = round(rows.start * scale_y), round(rows.stop * scale_y)
        found.append(Region(left, top, right - left, bottom - top, round(float(share), 1)))
    return tuple(sorted(found, key=lambda region: -region.share_percent))


def coarsened(heat: np.ndarray, longest: int) -> np.ndarray:
    """Heat (h, w) in at most `longest` cells a side, each as hot as its hottest place.

    The cells share the sides evenly, so that a place keeps its share of height and width.
    """
    factor = -(-max(heat.shape) // longest)
    if factor == 1:
        return heat
    for axis, length in enumerate(heat.shape):
        cells = -(-length // factor)
        edges = np.round(np.arange(cells) * length / cells).astype(int)
        heat = np.maximum.reduceat(heat, edges, axis=axis)
    return heat


@lru_cache(maxsize=1)
def _rising_alpha() -> np.ndarray:
    """Alpha (256,) uint8 by heat: clear below a fifth, a smooth step up to opaque at two thirds."""
    t = np.clip((np.linspace(0, 1, 256) - 0.2) / (0.67 - 0.2), 0, 1)
    return np.round((3 * t**2 - 2 * t**3) * 255).astype(np.uint8)
