"""The heart: a photo goes in, an inspection comes out. Pages, commands and tables all call this."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from heritage.bands import BandThresholds
from heritage.cards import ModelCard, default_name
from heritage.checkpoints import Checkpoint, load_checkpoint
from heritage.engines import Engine
from heritage.heatmaps import has_evidence, to_photo_size
from heritage.inputs import network_input, working_side_px
from heritage.overlays import Region, affected_percent, find_regions
from heritage.photos import Photo, open_photo
from heritage.quality import photo_warnings

HEAT = ("grid", "first_stage")  # not in the JSON
CELL_PX = 48  # of the heat map that regions and the affected area are read off; it is smooth


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
        evidence: False when the heat map is empty: nothing in the photo speaks for damage.
        regions: Connected hot areas, largest share of the heat first.
        taken_at: ISO 8601 date and time by the camera's clock.
        camera: Make and model.
        latitude: Degrees north.
        longitude: Degrees east.
        warnings: What about the photo makes the answer less trustworthy.
        grid: Raw heat (h, w) at the heat-map layer's resolution, not scaled.
        first_stage: Of a cascade, the same with the heat that stage 1 laid over the photo.
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
    first_stage: Inspection | None = field(default=None, repr=False, compare=False)

    @cached_property
    def heatmap(self) -> np.ndarray:
        """Heat (height, width) float32 in [0, 1], aligned to the upright photo at full size."""
        return self.heat_at(self.height, self.width)

    def heat_at(self, height: int, width: int) -> np.ndarray:
        """Heat (height, width) float32 in [0, 1] for a copy of the photo of another size."""
        return to_photo_size(self.grid, height, width)

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

    @property
    def card(self) -> ModelCard:
        """The card of the checkpoint in use."""
        return self._checkpoint.card

    def inspect(self, source: Photo | str | Path | bytes | BinaryIO) -> Inspection:
        """Inspects one photo.

        Raises:
            PhotoError: The photo cannot be read.
        """
        photo = source if isinstance(source, Photo) else open_photo(source)
        return self.answer(photo, photo.pixels(short_side_px=self.working_side_px))

    @property
    def working_side_px(self) -> int:
        """Short side at which photos are to be decoded for `answer`."""
        return working_side_px(self._checkpoint.backbone)

    def answer(self, photo: Photo, pixels: np.ndarray) -> Inspection:
        """Inspects a photo that has been decoded to RGB (h, w, 3) uint8 at `working_side_px`."""
        found = self._engine.answer(network_input(pixels, self._checkpoint.backbone))
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
            **_found_in(found.maps[0].numpy(), photo),
        )
        if found.first_maps is not None:
            first = replace(inspection, **_found_in(found.first_maps[0].numpy(), photo))
            inspection = replace(inspection, first_stage=first)
        return inspection


def _found_in(grid: np.ndarray, photo: Photo) -> dict[str, Any]:
    """What an inspection reads off the raw heat (h, w)."""
    scale = min(1.0, CELL_PX * max(grid.shape) / max(photo.width, photo.height))
    size = (max(1, round(photo.height * scale)), max(1, round(photo.width * scale)))
    heat = to_photo_size(grid, *size)
    return {
        "grid": grid,
        "evidence": has_evidence(grid),
        "affected_percent": round(affected_percent(heat), 2),
        "regions": find_regions(heat, photo.width, photo.height),
    }
