"""The detail scan: a photo read as overlapping tiles at several scales, one heat map over all.

A network sees a photo at some 224 pixels a side; a hairline crack in a photo of 24 megapixels is
gone by then. Here the photo is read at its full size, at half and at a quarter of it, tile by tile,
and the answers are stitched together. Damage % stays that of the whole photo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from heritage.backbones import Backbone
from heritage.classifiers import normalise

CELL_PX = 4  # side of a cell of the heat map, in pixels of the finest level
TILE_IN, OVERLAP_IN = 2, 0.25  # sides of tiles and of what they share, in input sides
MAX_PIXELS = 64_000_000  # of the finest level; larger photos are reduced to it
ENLARGED = 2  # at most; a small photo is read larger than it is
LEVELS = 3  # a crack that shows at full size only is outvoted by more
BATCH = 4
Reader = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ScanPlan:
    """What a scan of one photo will read.

    Attributes:
        levels: Sizes (height, width) in pixels at which the photo is read, the largest first.
        tile_px: Side of the square tiles; less where a level is smaller.
        overlap_px: What neighbours share at least.
    """

    levels: tuple[tuple[int, int], ...]
    tile_px: int
    overlap_px: int

    @property
    def tiles(self) -> int:
        """How many tiles there are on all levels together."""
        return sum(len(self.places(level)) for level in range(len(self.levels)))

    @property
    def cells(self) -> tuple[int, int]:
        """Size (h, w) of the heat map."""
        height, width = self.levels[0]
        return height // CELL_PX, width // CELL_PX

    def places(self, level: int) -> list[tuple[int, int]]:
        """Upper left corners (top, left) of the tiles of a level."""
        height, width = self.levels[level]
        return [(top, left) for top in self._starts(height) for left in self._starts(width)]

    def _starts(self, length: int) -> list[int]:
        if length <= self.tile_px:
            return [0]
        count = -(-(length - self.overlap_px) // (self.tile_px - self.overlap_px))
        last = length - self.tile_px
        starts = {last * i // (count - 1) // CELL_PX * CELL_PX for i in range(count)}
        return sorted(starts)


def plan_scan(width: int, height: int, backbone: Backbone) -> ScanPlan:
    """What a scan of a photo of `width` × `height` pixels reads for `backbone`."""
    side, least = backbone.input_size_px, backbone.smallest_input_px
    tile = TILE_IN * side // CELL_PX * CELL_PX  # so that the tiles' cells fall on the map's
    short = min(width, height)
    scale = min(1.0, (MAX_PIXELS / (width * height)) ** 0.5)
    if short * scale < tile:
        scale = max(min(ENLARGED, tile / short), least / short)
    levels: list[tuple[int, int]] = []
    while not levels or (len(levels) < LEVELS and round(short * scale) >= least):
        levels.append((round(height * scale), round(width * scale)))
        scale /= 2
    return ScanPlan(tuple(levels), tile, int(OVERLAP_IN * side) // CELL_PX * CELL_PX)


def at_levels(pixels: np.ndarray, plan: ScanPlan) -> list[np.ndarray]:
    """Upright RGB (H, W, 3) uint8 at each size of a plan.

    The first is `pixels` itself where it has that size, so that a large photo is held once.
    """
    picture = Image.fromarray(pixels)
    return [
        pixels
        if (height, width) == pixels.shape[:2]
        else np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3))
        for height, width in plan.levels
    ]


def scan(
    levels: Sequence[np.ndarray],
    plan: ScanPlan,
    read: Reader,
    backbone: Backbone,
    on_tiles: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Reads a photo as planned.

    Args:
        levels: The photo as `at_levels` gives it.
        read: Maps normalised RGB (B, 3, s, s') to heat (B, h, w) that may be compared between
            tiles.
        on_tiles: Told after each batch how many tiles are done.

    Returns:
        Heat (h, w) float32 of the size of `plan.cells`: of all levels the mean.
    """
    total = np.zeros(plan.cells, np.float32)
    done = 0
    for level, ((height, width), pixels) in enumerate(zip(plan.levels, levels, strict=True)):
        stitched = np.zeros((height // CELL_PX, width // CELL_PX), np.float32)
        weights = np.zeros_like(stitched)
        for places, x in _batches(pixels, plan, level, backbone):
            heat = read(x)
            done += len(places)
            on_tiles(done)
            for (top, left), tile in zip(places, heat, strict=True):
                _lay(stitched, weights, tile, top // CELL_PX, left // CELL_PX, x.shape[-2:])
        stitched /= weights
        grown = Image.fromarray(stitched).resize(plan.cells[::-1], Image.Resampling.BILINEAR)
        total += np.asarray(grown) / len(plan.levels)
    return total


def _batches(
    pixels: np.ndarray, plan: ScanPlan, level: int, backbone: Backbone
) -> Iterator[tuple[list[tuple[int, int]], Tensor]]:
    places, side = plan.places(level), plan.tile_px
    for start in range(0, len(places), BATCH):
        some = places[start : start + BATCH]
        tiles = np.stack([pixels[top : top + side, left : left + side] for top, left in some])
        yield some, normalise(torch.from_numpy(tiles).permute(0, 3, 1, 2), backbone)


def _lay(
    stitched: np.ndarray,
    weights: np.ndarray,
    tile: Tensor,
    top: int,
    left: int,
    size_px: Sequence[int],
) -> None:
    """Adds a tile's heat, fading out towards its edges, where it saw no surroundings."""
    height, width = (length // CELL_PX for length in size_px)
    whole = torch.nn.functional.interpolate(
        tile[None, None], (height, width), mode="bilinear", align_corners=False
    )[0, 0]
    fade = np.minimum.outer(_ramp(height), _ramp(width))
    there = (slice(top, top + height), slice(left, left + width))
    stitched[there] += whole.numpy() * fade
    weights[there] += fade


def _ramp(length: int) -> np.ndarray:
    from_edge = np.arange(length, dtype=np.float32)
    return np.clip(np.minimum(from_edge + 1, length - from_edge) / 16, 1 / 16, 1)
