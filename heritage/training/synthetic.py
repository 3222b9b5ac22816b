"""Damage painted onto sound masonry, so that both classes hold the same walls at the same scale.

Collections of photos seldom show one wall with and without damage: their close-ups are damaged
and their whole buildings are sound, and a network learns the distance instead of the damage.
A view of a sound photo with a painted crack, spalled patch or bloom of salt differs from the
untouched view in the damage alone (compare CutPaste, Li et al. 2021, arXiv:2104.04015).
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

Rng = np.random.Generator


def paint_damage(view: np.ndarray, rng: Rng) -> np.ndarray:
    """Paints one to three kinds of damage on a view of sound masonry.

    Args:
        view: RGB (S, S, 3) uint8, at the photo's own resolution, so that the paint is no sharper
            than the wall once both are enlarged.
        rng: Source of all randomness.

    Returns:
        A damaged copy (S, S, 3) uint8.
    """
    painted = view.astype(np.float32)
    kinds = rng.choice(("crack", "spall", "bloom"), rng.choice((1, 1, 1, 2)), p=(0.55, 0.3, 0.15))
    for kind in kinds:
        painted = {"crack": _crack, "spall": _spall, "bloom": _bloom}[kind](painted, rng)
    return painted.clip(0, 255).astype(np.uint8)


def _crack(view: np.ndarray, rng: Rng) -> np.ndarray:
    """A dark branching line with a faint bright lip, as light falls over a broken edge."""
    side = view.shape[0]
    width_px = side * rng.choice((rng.uniform(0.006, 0.014), rng.uniform(0.012, 0.04)))
    mask = Image.new("L", (side, side))
    pen = ImageDraw.Draw(mask)
    start = rng.uniform(0.15, 0.85, 2) * side
    if rng.random() < 0.5:
        start[rng.integers(2)] = rng.choice((0, side))
    heading = np.arctan2(*(side / 2 - start)[::-1]) + rng.normal(0, 0.5)
    _walk(pen, start, heading, side * rng.uniform(0.4, 1.2), width_px, rng)
    dark = _blurred(mask, max(0.4, width_px * 0.12)) * rng.uniform(0.55, 0.95)
    lip = _blurred(mask, width_px * 0.3)
    shift = max(1, round(width_px * 0.6))
    lip = np.roll(lip, rng.choice((-shift, shift), 2), (0, 1)) * rng.uniform(0, 0.25)
    floor = view.mean((0, 1)) * rng.uniform(0.1, 0.4)
    lit = view + (255 - view) * (lip * (1 - dark))[..., None]
    return lit + (floor - lit) * dark[..., None]


def _walk(
    pen: ImageDraw.ImageDraw, at: np.ndarray, heading: float, left_px: float, width_px: float,
    rng: Rng, depth: int = 0,
) -> None:  # fmt: skip
    """Draws a jagged line that thins out and now and then forks."""
    whole_px = left_px
    while left_px > 0:
        step = rng.uniform(0.5, 2.5) * max(3.0, width_px)
        heading += rng.normal(0, 0.35)
        kink = heading + rng.normal(0, 0.5)
        to = at + step * np.array([np.cos(kink), np.sin(kink)])
        taper = 0.35 + 0.65 * left_px / whole_px
        drawn_px = max(1, round(width_px * taper * rng.uniform(0.6, 1.3)))
        pen.line([*at, *to], fill=255, width=drawn_px)
        if depth < 2 and rng.random() < 0.04:
            _walk(pen, to, heading + rng.choice((-1, 1)) * rng.uniform(0.5, 1.2),
                  left_px * rng.uniform(0.2, 0.6), width_px * 0.6, rng, depth + 1)  # fmt: skip
        at, left_px = to, left_px - step


def _spall(view: np.ndarray, rng: Rng) -> np.ndarray:
    """A patch whose face has come off: another colour and grain, with a shadow along its rim."""
    side = view.shape[0]
    patch = _blob(side, rng, rng.uniform(0.03, 0.35))
    under = np.roll(view, rng.integers(side // 4, side * 3 // 4, 2), (0, 1))
    grain = _noise(side, rng.integers(12, 60), rng) * rng.uniform(5, 35)
    grain += _noise(side, rng.integers(4, 10), rng) * rng.uniform(5, 30)
    tone = view.mean((0, 1)) * rng.uniform(0.45, 1.35) + rng.normal(0, 8, 3)
    keep = rng.uniform(0.1, 0.5)
    inner = keep * (under - under.mean((0, 1))) + tone + grain[..., None]
    depth_px = rng.uniform(1.5, 5) * side / 224
    angle = rng.uniform(0, 2 * np.pi)
    shifted = ndimage.shift(patch, depth_px * np.array([np.sin(angle), np.cos(angle)]), order=1)
    shadow = np.clip(patch - shifted, 0, 1) * rng.uniform(0.4, 0.9)
    light = np.clip(shifted - patch, 0, 1) * rng.uniform(0, 0.35)
    out = view + (inner - view) * patch[..., None]
    out *= 1 - shadow[..., None]
    return out + (255 - out) * light[..., None]


def _bloom(view: np.ndarray, rng: Rng) -> np.ndarray:
    """Salts on the face: a whitish crust, patchy and rough."""
    side = view.shape[0]
    patch = _blob(side, rng, rng.uniform(0.08, 0.5), side * rng.uniform(0.01, 0.05))
    crust = np.clip(_noise(side, rng.integers(8, 24), rng) * rng.uniform(0.2, 0.8) + 0.6, 0, 1)
    cover = patch * crust * rng.uniform(0.4, 0.95)
    white = rng.uniform(170, 245) + rng.normal(0, 5, 3)
    grain = _noise(side, 60, rng)[..., None] * rng.uniform(5, 25)
    return view + (white + grain - view) * cover[..., None]


def _blob(side: int, rng: Rng, share: float, softness_px: float = 0.6) -> np.ndarray:
    """An irregular patch (S, S) in [0, 1] that covers about `share` of the view."""
    rows, columns = np.mgrid[0:side, 0:side] / side
    centre = rng.uniform(0.15, 0.85, 2)
    stretch = rng.uniform(0.6, 1.6)
    distance = np.hypot((rows - centre[0]) * stretch, (columns - centre[1]) / stretch)
    field = _noise(side, rng.integers(3, 7), rng) * 0.2 + _noise(side, 14, rng) * 0.06
    field -= distance * 3
    cut = np.quantile(field, 1 - share)
    return ndimage.gaussian_filter((field > cut).astype(np.float32), softness_px)


def _noise(side: int, cells: int | np.integer, rng: Rng) -> np.ndarray:
    """Smooth noise (S, S) of unit variance with about `cells` bumps a side."""
    coarse = Image.fromarray(rng.normal(0, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))


def _blurred(mask: Image.Image, radius_px: float) -> np.ndarray:
    return np.asarray(mask.filter(ImageFilter.GaussianBlur(float(radius_px))), np.float32) / 255
