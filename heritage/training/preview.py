"""What to look at before training: the views a network will get, and photos in both classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from heritage.backbones import get_backbone
from heritage.duplicates import close_pairs, perceptual_hash
from heritage.errors import PhotoError
from heritage.photos import open_photo
from heritage.training.config import TrainingConfig
from heritage.training.datasets import Sample
from heritage.training.fitting import views

LOOK_SIDE_PX = 256


@dataclass(frozen=True)
class Double:
    """Two photos of different classes that look alike; `bits` of their hashes differ."""

    damaged: Path
    sound: Path
    bits: int


def random_views(
    sample: Sample, config: TrainingConfig, *, count: int = 9, seed: int = 0
) -> list[np.ndarray]:
    """Random views of a photo as a run with `config` draws them.

    Returns:
        `count` pictures (S, S, 3) uint8 of the backbone's input size.

    Raises:
        PhotoError: The photo cannot be read.
    """
    side_px = get_backbone(config.backbone).input_size_px
    pixels = open_photo(sample.path).pixels(short_side_px=2 * side_px)
    photo = torch.from_numpy(pixels).permute(2, 0, 1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        drawn = [views(config, side_px).draw(photo, sample.label)[0] for _ in range(count)]
    return [view.permute(1, 2, 0).numpy() for view in drawn]


def find_doubles(
    samples: Sequence[Sample], on_each: Callable[[int], None] = lambda done: None
) -> tuple[list[Double], int]:
    """Near-duplicates across the two classes.

    Args:
        samples: Labelled photos.
        on_each: Told how many photos are done.

    Returns:
        The pairs, the closest first, and the number of photos that could not be read.
    """
    hashes: dict[float, list[tuple[int, Path]]] = {0.0: [], 1.0: []}
    unread = 0
    for done, sample in enumerate(samples, start=1):
        try:
            pixels = open_photo(sample.path).pixels(short_side_px=LOOK_SIDE_PX)
            hashes[sample.label].append((perceptual_hash(pixels), sample.path))
        except PhotoError:
            unread += 1
        on_each(done)
    damaged, sound = hashes[1.0], hashes[0.0]
    pairs = close_pairs([value for value, _ in damaged], [value for value, _ in sound])
    return [Double(damaged[i][1], sound[j][1], bits) for i, j, bits in pairs], unread
