"""Trains the head that points, on damage painted where nobody need draw masks by hand.

Labelled photos say whether there is damage and not where. Painted damage says where: a view of a
sound photo with a painted crack teaches the place, the same wall untouched, or with a cable or a
straight joint, teaches what is none. Real damage keeps the head honest: of a damaged photo its
hottest places must be hot (multiple-instance pooling, Ilse et al. 2018, arXiv:1802.04712). The
backbone is frozen, so that damage % stays exactly what it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from heritage.cards import ModelCard, weights_dir
from heritage.checkpoints import (
    Checkpoint,
    check_writable,
    load_checkpoint,
    read_pointer,
    save_pointer,
)
from heritage.classifiers import normalise
from heritage.pointing import PointingHead, sequence_of, tap_points, tapped
from heritage.training.augmentation import Views
from heritage.training.config import PointingConfig
from heritage.training.datasets import (
    TRAIN,
    PhotoCache,
    Sample,
    check_both_classes,
    read_samples,
    sampling_weights,
)
from heritage.training.synthetic import cast_shadow, paint_damage_and_mask, paint_harmless

SMALLEST_CROP_PX = 72
HOTTEST_SHARE = 0.01  # of a damaged photo's places must be hot
UNKNOWN = -1.0  # of a place nobody has a mask for


def train_pointing(
    name: str,
    data: Path,
    config: PointingConfig,
    *,
    folder: Path | None = None,
    command: str = "",
    device: str = "cpu",
    listen: Callable[[int, float], None] = lambda step, loss: None,
    on_photo: Callable[[int], Callable[[], None]] = lambda total: lambda: None,
) -> ModelCard:
    """Gives the checkpoint called `name` a head that points, trained on the photos of `data`.

    Args:
        data: As for training a checkpoint; only photos of the split `train` are used.
        folder: Where the checkpoint is.
        listen: Told the step and its loss.
        on_photo: Told how many photos there are; what it returns is called for each one read.

    Returns:
        The checkpoint's card with what was made of it.

    Raises:
        HeritageError: The checkpoint or photos cannot be used.
    """
    folder = folder or weights_dir()
    checkpoint = load_checkpoint(name, folder, pointing=False)
    check_writable(folder)
    if config.init:  # before the photos are read
        read_pointer(Path(config.init), checkpoint)
    samples = [sample for sample in read_samples(data) if sample.split == TRAIN]
    check_both_classes(samples, TRAIN)
    cache = PhotoCache(2 * checkpoint.backbone.input_size_px)
    cache.warm(samples, on_photo(len(samples)))
    started = time.monotonic()
    head = fit_pointing(checkpoint, samples, cache, config, device=device, listen=listen)
    made = {
        "settings": asdict(replace(config, init=Path(config.init).name)),
        "photos": len(samples),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "command": command,
    }
    return save_pointer(checkpoint.card, head, made, folder)


def fit_pointing(
    checkpoint: Checkpoint,
    samples: Sequence[Sample],
    cache: PhotoCache,
    config: PointingConfig,
    *,
    device: str = "cpu",
    listen: Callable[[int, float], None] = lambda step, loss: None,
) -> PointingHead:
    """The head alone, in evaluation mode on the CPU; see `train_pointing`."""
    torch.manual_seed(config.seed)
    features = sequence_of(checkpoint.model.features, checkpoint.backbone).to(device)
    taps, depths = tap_points(features, checkpoint.backbone)
    head = PointingHead(depths)
    if config.init:
        head.load_state_dict(read_pointer(Path(config.init), checkpoint).state_dict())
    head.requires_grad_(True).to(device).train()
    averaged = torch.optim.swa_utils.AveragedModel(
        head,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema_decay),
        use_buffers=True,
    )
    optimiser = torch.optim.AdamW(
        head.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: (
            min(1, (step + 1) / 50) * (1 + math.cos(math.pi * min(1, step / config.steps))) / 2
        ),
    )
    views = DataLoader(
        _Views(samples, cache, config),
        batch_size=config.batch_size,
        num_workers=config.workers,
    )
    for step, (pixels, masks) in zip(range(1, config.steps + 1), views, strict=False):
        x = normalise(pixels.to(device), checkpoint.backbone)
        with torch.no_grad():
            found = tapped(features, taps, x)
        loss = _loss(head(found), masks.to(device), config)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        averaged.update_parameters(head)
        listen(step, float(loss.detach()))
    features.cpu()
    head.load_state_dict(averaged.module.state_dict())
    return head.cpu().requires_grad_(False).eval()


def _loss(logits: Tensor, masks: Tensor, config: PointingConfig) -> Tensor:
    """Loss of maps (B, h, w) against masks (B, S, S) in [0, 1], all `UNKNOWN` in damaged photos."""
    real = masks[:, 0, 0] < 0  # resized, `UNKNOWN` is not exact
    loss = logits.new_zeros(())
    if not real.all():
        size = masks.shape[-2:]
        grown = functional.interpolate(logits[~real, None], size, mode="bilinear")[:, 0]
        target = masks[~real]
        weight = grown.new_tensor(config.crack_weight)
        loss = loss + functional.binary_cross_entropy_with_logits(grown, target, pos_weight=weight)
        painted = target.amax((1, 2)) > 0
        if painted.any():
            heat, target = grown[painted].sigmoid(), target[painted]
            both = (heat * target).sum((1, 2))
            dice = (2 * both + 1) / ((heat + target).sum((1, 2)) + 1)
            loss = loss + config.overlap_share * (1 - dice).mean()
    if real.any():
        places = logits[real].flatten(1)
        hottest = places.topk(max(1, round(HOTTEST_SHARE * places.shape[1]))).values.mean(1)
        missed = functional.binary_cross_entropy_with_logits(hottest, torch.ones_like(hottest))
        loss = loss + config.hottest_share * missed
    return loss


class _Views(IterableDataset[tuple[Tensor, Tensor]]):
    """Endless views (3, S, S) uint8 with their masks (S, S) float32."""

    def __init__(
        self, samples: Sequence[Sample], cache: PhotoCache, config: PointingConfig
    ) -> None:
        self.samples, self.cache, self.config = samples, cache, config
        self.look = Views(config.side_px).look
        weights = sampling_weights(samples).numpy()
        damaged = np.array([sample.label == 1 for sample in samples])
        self.chances = [weights * kind / (weights * kind).sum() for kind in (~damaged, damaged)]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()
        rng = np.random.default_rng([self.config.seed, worker.id if worker else 0])
        while True:
            damaged = rng.random() < self.config.damaged_share
            sample = self.samples[rng.choice(len(self.samples), p=self.chances[damaged])]
            yield self._draw(self.cache.pixels(sample.path), bool(damaged), rng)

    def _draw(
        self, pixels: np.ndarray, damaged: bool, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        view = _square(pixels, rng, smallest_share=0.6 if damaged else 0.0)
        mask = np.full(view.shape[:2], UNKNOWN if damaged else 0.0, np.float32)
        if not damaged:
            if rng.random() < self.config.shadow_share:
                view = cast_shadow(view, rng)
            if rng.random() < self.config.harmless_share:
                view = paint_harmless(view, rng)
            if rng.random() < self.config.painted_share:
                view, covered = paint_damage_and_mask(view, rng)
                mask[covered] = 1.0
        side = self.config.side_px
        shown = self.look(torch.from_numpy(view.copy()).permute(2, 0, 1))
        small = functional.interpolate(
            torch.from_numpy(mask)[None, None], (side, side), mode="bilinear", antialias=True
        )
        return shown, small[0, 0]


def _square(pixels: np.ndarray, rng: np.random.Generator, smallest_share: float) -> np.ndarray:
    """A square of any scale out of RGB (h, w, 3), turned and mirrored at random."""
    height, width = pixels.shape[:2]
    most = min(height, width)
    least = min(most, max(SMALLEST_CROP_PX, round(most * smallest_share)))
    side = round(math.exp(rng.uniform(math.log(least), math.log(most))))
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    view = np.rot90(pixels[top : top + side, left : left + side], int(rng.integers(4)))
    return np.ascontiguousarray(view[:, ::-1] if rng.random() < 0.5 else view)
