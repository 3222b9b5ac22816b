"""The heart: a photo goes in, an inspection comes out. Pages, commands and tables all call this."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
import torch
from scipy.special import expit, logit
from torch import Tensor

from heritage.bands import SOUND, BandThresholds
from heritage.cards import ModelCard, default_name
from heritage.checkpoints import Checkpoint, load_checkpoint
from heritage.engines import Answer, Engine, out_of_memory
from heritage.errors import CheckpointError, HeritageError, PhotoError
from heritage.heatmaps import has_evidence, heat_at_size, to_photo_size
from heritage.inputs import network_input, working_side_px
from heritage.methods import DETAIL_SCAN, GRAD_CAM
from heritage.overlays import HOT_THRESHOLD, Region, affected_percent, coarsened, find_regions
from heritage.photos import Photo, open_photo
from heritage.quality import photo_warnings
from heritage.scanning import at_levels, plan_scan, scan
from heritage.words import NO_MEMORY, PASSED_OVER, SAVE_MEMORY

HEAT = ("grid", "first_stage", "whole")  # not in the JSON
CELL_PX = 48  # of the heat map that regions and the affected area are read off; it is smooth
READ_PX = 1024  # at most along the long side of it, however fine the heat is
SCAN_SHARE_PERCENT = 3.0  # of the heat, below which a place of a detail scan gets no box,
MANY_PLACES = 12  # unless it is one of the hottest, and of many alike
REGION_CELLS = 64  # along the long side, for the regions of a detail scan
POINTING_COST = 1.3  # of a tile against an inspection of its size
LARGE_PIXELS = 32_000_000  # photos above it are made ready for a scan one at a time
DECODE_S_PER_MP = 0.04  # decoding and reducing, roughly; the tiles are what takes time
_one_at_a_time = Lock()


@dataclass(frozen=True)
class Inspection:
    """What one checkpoint says of one photo.

    Attributes:
        photo: Name of the photo.
        sha256: Hash of its bytes.
        width: Upright width in pixels.
        height: Upright height in pixels.
        backbone: Name of the checkpoint that answered.
        damage_percent: Calibrated probability × 100 that the photo shows damage.
        affected_percent: Share of the photo's pixels at or above the hot threshold.
        band: Urgent, High, Watch or Sound.
        unsure: Whether answers like this were too often wrong on validation to go by them.
        evidence: False when the heat map is empty: nothing in the photo speaks for damage. In a
            scan by a head that points it says nothing of damage %, only that no place is hot.
        regions: Connected hot areas, largest share of the heat first.
        taken_at: ISO 8601 date and time by the camera's clock.
        camera: Make and model.
        latitude: Degrees north.
        longitude: Degrees east.
        warnings: What about the photo makes the answer less trustworthy.
        method: How the heat map was made: one of `methods.METHODS`, or `DETAIL_SCAN`.
        grid: Raw heat (h, w) at the heat-map layer's resolution, not scaled; of a detail scan
            by a head that points it is what the page shows, in [0, 1].
        absolute: Whether heat means the same in every photo, as a head that points says it.
        first_stage: Of a cascade, the same with the heat that stage 1 laid over the photo.
        whole: Of a detail scan, the inspection of the photo as a whole.
    """

    photo: str
    sha256: str
    width: int
    height: int
    backbone: str
    damage_percent: float
    affected_percent: float
    band: str
    unsure: bool
    evidence: bool
    regions: tuple[Region, ...]
    taken_at: str | None
    camera: str | None
    latitude: float | None
    longitude: float | None
    warnings: tuple[str, ...]
    grid: np.ndarray = field(repr=False, compare=False)
    method: str = GRAD_CAM
    absolute: bool = False
    first_stage: Inspection | None = field(default=None, repr=False, compare=False)
    whole: Inspection | None = field(default=None, repr=False, compare=False)

    @cached_property
    def heatmap(self) -> np.ndarray:
        """Heat (height, width) float32 in [0, 1], aligned to the upright photo at full size."""
        return self.heat_at(self.height, self.width)

    def heat_at(self, height: int, width: int) -> np.ndarray:
        """Heat (height, width) float32 in [0, 1] for a copy of the photo of another size."""
        return heat_at_size(self.grid, height, width, absolute=self.absolute)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: every field but the heat."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in HEAT}
        values["regions"] = [asdict(region) for region in self.regions]
        values["warnings"] = list(self.warnings)
        return values


class Inspector:
    """Inspects photos with one checkpoint; safe to share between threads.

    Args:
        backbone: Name of a checkpoint in `folder`; by default the best there on validation.
        folder: Where the checkpoints are.
        thresholds: Damage % at which the bands begin.

    Raises:
        CheckpointError: The checkpoint is missing, damaged, or does not fit.
    """

    def __init__(
        self,
        backbone: str | None = None,
        *,
        folder: Path | None = None,
        thresholds: BandThresholds = BandThresholds(),
    ) -> None:
        self._checkpoint: Checkpoint = load_checkpoint(backbone or default_name(folder), folder)
        self._engine = Engine(self._checkpoint)
        self.thresholds = thresholds
        self._pixel_s: float | None = None  # of an inspection, at its quickest

    @property
    def card(self) -> ModelCard:
        """The card of the checkpoint in use."""
        return self._checkpoint.card

    def inspect(
        self, source: Photo | str | Path | bytes | BinaryIO, method: str = GRAD_CAM
    ) -> Inspection:
        """Inspects one photo as a whole.

        Args:
            method: How the heat map is made, one of `methods.METHODS`.

        Raises:
            PhotoError: The photo cannot be read.
        """
        photo = source if isinstance(source, Photo) else open_photo(source)
        return self.answer(photo, photo.pixels(short_side_px=self.working_side_px), method)

    def scan_seconds(self, width: int, height: int) -> float:
        """About how long a detail scan of a photo takes here, by the inspections so far."""
        plan = plan_scan(width, height, self._checkpoint.backbone)
        if self._pixel_s is None:
            self._timed_answer(torch.zeros(1, 3, plan.tile_px, plan.tile_px), GRAD_CAM)
        assert self._pixel_s is not None
        read_px = plan.tiles * plan.tile_px**2
        return POINTING_COST * read_px * self._pixel_s + DECODE_S_PER_MP * width * height / 1e6

    def _timed_answer(self, x: Tensor, method: str) -> Answer:
        started = time.perf_counter()
        found = self._engine.answer(x, method)
        pixel_s = (time.perf_counter() - started) / x[0, 0].numel()
        self._pixel_s = min(pixel_s, self._pixel_s or pixel_s)
        return found

    def scan(
        self,
        photo: Photo,
        whole: Inspection | None = None,
        on_tiles: Callable[[int, int], None] = lambda done, tiles: None,
    ) -> Inspection:
        """Scans one photo in detail; damage % and band stay those of the whole photo.

        Args:
            whole: The inspection of the whole photo, where it is there already.
            on_tiles: Told after each batch how many tiles are done, and how many there are.

        Raises:
            PhotoError: The photo cannot be read, or there is not enough memory for the scan.
        """
        try:
            return self._scan(photo, whole or self.inspect(photo), on_tiles)
        except HeritageError:
            raise
        except Exception as error:
            if out_of_memory(error):
                raise PhotoError(photo.name, NO_MEMORY, SAVE_MEMORY) from error
            raise

    def _scan(
        self, photo: Photo, whole: Inspection, on_tiles: Callable[[int, int], None]
    ) -> Inspection:
        plan = plan_scan(photo.width, photo.height, self._checkpoint.backbone)
        with _one_at_a_time if photo.width * photo.height > LARGE_PIXELS else nullcontext():
            levels = at_levels(photo.pixels(long_side_px=max(plan.levels[0])), plan)
        grid = scan(
            levels,
            plan,
            self._read_tiles,
            self._checkpoint.backbone,
            lambda done: on_tiles(done, plan.tiles),
        )
        self._check_finite(torch.from_numpy(grid))
        points = self._checkpoint.pointer is not None
        if points:
            # What was found to be the best place to cut becomes the hot threshold.
            grid = expit(grid - logit(self.card.pointing["hot"])).astype(np.float32)
        found = found_in(grid, photo, absolute=points)
        warnings = whole.warnings
        if points and found["evidence"] and whole.band == SOUND.name:
            warnings = (*warnings, PASSED_OVER)
        return replace(
            whole, **found, method=DETAIL_SCAN, whole=whole, first_stage=None, warnings=warnings
        )

    def _check_finite(self, *answers: Tensor) -> None:
        if not all(torch.isfinite(answer).all() for answer in answers):
            raise CheckpointError(
                self.card.name, "its answer is no number", "restore its files, or train it again"
            )

    def _read_tiles(self, x: Tensor) -> Tensor:
        """Logits or heat (B, h, w) of tiles, comparable between tiles."""
        if self._checkpoint.pointer is not None:
            return self._engine.point(x)
        found = self._engine.answer(x)
        chance = torch.sigmoid(found.logits / self.card.temperature)
        return found.maps * chance[:, None, None]

    @property
    def working_side_px(self) -> int:
        """Short side at which photos are to be decoded for `answer`."""
        return working_side_px(self._checkpoint.backbone)

    def answer(self, photo: Photo, pixels: np.ndarray, method: str = GRAD_CAM) -> Inspection:
        """Inspects a photo that has been decoded to RGB (h, w, 3) uint8 at `working_side_px`.

        Raises:
            CheckpointError: Its answer is no number, as with weights that are finite and absurd.
        """
        found = self._timed_answer(network_input(pixels, self._checkpoint.backbone), method)
        self._check_finite(found.logits, found.maps)
        probability = torch.sigmoid(found.logits.double() / self.card.temperature).item()
        damage_percent = round(probability * 100, 2)
        inspection = Inspection(
            photo=photo.name,
            sha256=photo.sha256,
            width=photo.width,
            height=photo.height,
            backbone=self.card.name,
            damage_percent=damage_percent,
            band=self.thresholds.band(damage_percent).name,
            unsure=self.card.unsure[0] < probability < self.card.unsure[1],
            taken_at=photo.taken_at.isoformat() if photo.taken_at else None,
            camera=photo.camera,
            latitude=photo.latitude,
            longitude=photo.longitude,
            warnings=photo_warnings(photo, pixels),
            method=method,
            **found_in(found.maps[0].numpy(), photo),
        )
        if found.first_maps is not None:
            # Its heat is Grad-CAM's, however that of stage 2 is made.
            seen = found_in(found.first_maps[0].numpy(), photo)
            first = replace(inspection, method=GRAD_CAM, **seen)
            inspection = replace(inspection, first_stage=first)
        return inspection


def found_in(grid: np.ndarray, photo: Photo, *, absolute: bool = False) -> dict[str, Any]:
    """What an inspection reads off the raw heat (h, w)."""
    if absolute:
        return {
            "grid": grid,
            "absolute": True,
            "evidence": bool(grid.max() >= HOT_THRESHOLD),
            "affected_percent": round(affected_percent(grid), 2),
            "regions": _places(grid, photo),
        }
    read_px = min(CELL_PX * max(grid.shape), READ_PX)
    scale = min(1.0, read_px / max(photo.width, photo.height))
    size = (max(1, round(photo.height * scale)), max(1, round(photo.width * scale)))
    heat = to_photo_size(grid, *size)
    return {
        "grid": grid,
        "evidence": has_evidence(grid),
        "affected_percent": round(affected_percent(heat), 2),
        "regions": find_regions(heat, photo.width, photo.height),
    }


def _places(grid: np.ndarray, photo: Photo) -> tuple[Region, ...]:
    """Hot places of a scan, in coarse cells: a crack that comes and goes becomes one region."""
    coarse = coarsened(grid, REGION_CELLS)
    hot = np.where(coarse >= HOT_THRESHOLD, coarse, 0)
    found = find_regions(hot, photo.width, photo.height, least_share_percent=0)
    # Where there are many alike, none has a large share, and all the same they are the hottest.
    alike = min(SCAN_SHARE_PERCENT, found[0].share_percent / 2) if found else 0
    return tuple(
        place
        for number, place in enumerate(found)
        if place.share_percent >= (alike if number < MANY_PLACES else SCAN_SHARE_PERCENT)
    )
