"""Damage painted onto sound masonry, so that both classes hold the same walls at the same scale.

Collections of photos seldom show one wall with and without damage: their close-ups are damaged
and their whole buildings are sound, and a network learns the distance instead of the damage.
A view of a sound photo with a painted crack, spalled patch or bloom of salt differs from the
untouched view in the damage alone (compare CutPaste, Li et al. 2021, arXiv:2104.04015).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

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
    kinds = rng.choice(("crack", "spall", "bloom"), rng.choice((1, 1, 1, 2)), p=(0.55, 0.3, 0.15))
    return _painted(view, kinds, rng)[0]


def paint_damage_and_mask(view: np.ndarray, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Paints as `paint_damage` does, mostly cracks, some of which climb along joints.

    Returns:
        A damaged copy (S, S, 3) uint8, and where it was painted, (S, S) bool.
    """
    kinds = rng.choice(
        ("crack", "stepped crack", "spall", "bloom"),
        rng.choice((1, 1, 1, 2)),
        p=(0.42, 0.33, 0.17, 0.08),
    )
    return _painted(view, kinds, rng)


def paint_harmless(view: np.ndarray, rng: Rng) -> np.ndarray:
    """Paints what looks like a crack and is none: straight joints, cables, rods.

    Args:
        view: RGB (S, S, 3) uint8.

    Returns:
        A copy (S, S, 3) uint8, as sound as it was.
    """
    side = view.shape[0]
    mask = Image.new("L", (2 * side, 2 * side))
    pen = ImageDraw.Draw(mask)
    for _ in range(rng.integers(1, 4)):
        start, end = rng.uniform(-0.1, 1.1, (2, 2)) * 2 * side
        middle = (start + end) / 2
        if rng.random() < 0.5:  # upright or level, from edge to edge
            along = rng.integers(2)
            end = start.copy()
            start[along], end[along] = -1, 2 * side + 1
            middle = (start + end) / 2
        elif rng.random() < 0.6:
            middle = middle + rng.normal(0, 0.12, 2) * 2 * side
        t = np.linspace(0, 1, 30)[:, None]
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
        width_px = max(2, round(2 * side * rng.uniform(0.004, 0.04)))
        pen.line([tuple(point) for point in curve], fill=255, width=width_px, joint="curve")
    small = mask.resize((side, side), Image.Resampling.BILINEAR)
    cover = np.asarray(small, np.float32)[..., None] / 255 * rng.uniform(0.4, 0.95)
    dark = view.mean((0, 1)) * rng.uniform(0.05, 0.6)
    tone = dark if rng.random() < 0.7 else np.full(3, rng.uniform(150, 255))
    return (view + (tone - view) * cover).clip(0, 255).astype(np.uint8)


def cast_shadow(view: np.ndarray, rng: Rng) -> np.ndarray:
    """Lays a shadow over part of a view, its edge soft or sharp.

    Args:
        view: RGB (S, S, 3) uint8.

    Returns:
        A darker copy (S, S, 3) uint8, as sound as it was.
    """
    edge = np.clip(_noise(view.shape[0], rng.integers(2, 6), rng) * rng.uniform(3, 60), -30, 30)
    shade = rng.uniform(0.2, 0.6) / (1 + np.exp(-edge))
    return (view * (1 - shade[..., None])).clip(0, 255).astype(np.uint8)


def _painted(view: np.ndarray, kinds: Iterable[str], rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    painted = view.astype(np.float32)
    covered = np.zeros(view.shape[:2], bool)
    for kind in kinds:
        painted, cover = _KINDS[kind](painted, rng)
        covered |= cover
    return painted.clip(0, 255).astype(np.uint8), covered


def _crack(view: np.ndarray, rng: Rng, stepped: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A dark branching line with a faint bright lip, as light falls over a broken edge."""
    side = view.shape[0]
    width_px = side * rng.choice((rng.uniform(0.006, 0.014), rng.uniform(0.012, 0.04)))
    mask = Image.new("L", (side, side))
    pen = ImageDraw.Draw(mask)
    start = rng.uniform(0.15, 0.85, 2) * side
    if rng.random() < 0.5:
        start[rng.integers(2)] = rng.choice((0, side))
    if stepped:
        _climb(pen, start, side, side * rng.uniform(0.3, 1.3), width_px, rng)
    else:
        heading = np.arctan2(*(side / 2 - start)[::-1]) + rng.normal(0, 0.5)
        _walk(pen, start, heading, side * rng.uniform(0.4, 1.2), width_px, rng)
    dark = _blurred(mask, max(0.4, width_px * 0.12)) * rng.uniform(0.55, 0.95)
    lip = _blurred(mask, width_px * 0.3)
    shift = max(1, round(width_px * 0.6))
    lip = np.roll(lip, rng.choice((-shift, shift), 2), (0, 1)) * rng.uniform(0, 0.25)
    floor = view.mean((0, 1)) * rng.uniform(0.1, 0.4)
    lit = view + (255 - view) * (lip * (1 - dark))[..., None]
    return lit + (floor - lit) * dark[..., None], np.asarray(mask) > 127


def _stepped_crack(view: np.ndarray, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    return _crack(view, rng, stepped=True)


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


def _climb(
    pen: ImageDraw.ImageDraw, at: np.ndarray, side: int, left_px: float, width_px: float, rng: Rng
) -> None:
    """Draws a rough staircase, as a crack that follows the joints of brickwork."""
    course_px = rng.uniform(0.06, 0.3) * side
    brick_px = course_px * rng.uniform(0.8, 2.2)
    across, along = rng.choice((-1, 1), 2)
    upright = rng.random() < 0.5
    while left_px > 0:
        step = (course_px if upright else brick_px) * rng.choice((1, 1, 1, 0.5, 2))
        way = np.array([0, along]) if upright else np.array([across, 0])
        parts = max(2, int(step / max(3, width_px * 1.5))) + 1
        points = at + step * way * np.linspace(0, 1, parts)[:, None]
        points += rng.normal(0, width_px * 0.25, points.shape)
        for start, end in pairwise(points):
            drawn_px = max(1, round(width_px * rng.uniform(0.5, 1.4)))
            pen.line([*start, *end], fill=255, width=drawn_px)
        at, left_px, upright = points[-1], left_px - step, not upright
        if rng.random() < 0.1:
            across = -across


def _spall(view: np.ndarray, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
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
    return out + (255 - out) * light[..., None], patch > 0.5


def _bloom(view: np.ndarray, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Salts on the face: a whitish crust, patchy and rough."""
    side = view.shape[0]
    patch = _blob(side, rng, rng.uniform(0.08, 0.5), side * rng.uniform(0.01, 0.05))
    crust = np.clip(_noise(side, rng.integers(8, 24), rng) * rng.uniform(0.2, 0.8) + 0.6, 0, 1)
    cover = patch * crust * rng.uniform(0.4, 0.95)
    white = rng.uniform(170, 245) + rng.normal(0, 5, 3)
    grain = _noise(side, 60, rng)[..., None] * rng.uniform(5, 25)
    return view + (white + grain - view) * cover[..., None], patch > 0.5


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


_KINDS = {"crack": _crack, "stepped crack": _stepped_crack, "spall": _spall, "bloom": _bloom}
