"""What decides a training run, and what it tells while it goes; readable without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from heritage.errors import TrainingError

STAGE_TWO_EPOCHS = 10  # of a cascade, as in the study
STATE = "state.safetensors"  # of a run in progress, in its folder or one of its parts


def _check(settings: object, *rules: tuple[str, object, str]) -> None:
    """Raises a TrainingError at the first rule (name, whether it is kept, advice) that is not."""
    for name, fine, advice in rules:
        if not fine:
            raise TrainingError(name, f"it cannot be {getattr(settings, name)}", advice)


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides what a run learns; it is saved in the card of what it made.

    Attributes:
        backbone: Registry name.
        init: `imagenet`, `scratch`, or the path of a safetensors file for the features.
        keep_head: Go on from the head of `init`, too, which must be a checkpoint of the backbone.
        keep_norms: Batch norms keep the statistics that they start with: with few photos, or of
            another kind, those of a batch would change what the rest has learned.
        batch_size: Photos per step, at most; fewer where there are few photos.
        learning_rate: Adam's peak rate for the features.
        head_rate_factor: The head starts untrained and learns this many times faster.
        prune: Share of the parameters to remove after training, whole channels at a time.
        prune_epochs: Epochs of fine-tuning after that. Where no teacher is named, this is the
            network as it was before, and its answers count in place of the labels.
        prune_of: Checkpoint that is pruned as it is, instead of one that is trained first.
        teacher: Checkpoint name or path whose logits and feature map the student also learns.
        teacher_share: Weight of the teacher's soft labels against the true ones.
        feature_share: Weight of the teacher's feature map.
        ema_decay: Decay of the running average of the weights that is evaluated and kept.
        patience: Epochs without a better validation loss before the run stops.
        crop_side_px: Side of the square training crops; 0 takes the backbone's own input size.
            Smaller ones train several times faster.
        full_size_epochs: Closing epochs with crops of the backbone's own input size
            (progressive resizing); only where `crop_side_px` is smaller.
        full_size_px: Side of the crops in the closing epochs; 0 takes the backbone's own input
            size. A smaller one, though at least `crop_side_px`, where that takes too long.
        frozen_blocks: Leading parts of the features that keep their starting weights: quicker,
            and what ImageNet taught of edges and textures is not unlearned on few photos.
        smallest_crop: Least share of a damaged photo's area in a crop; a smaller one may miss it.
        smallest_crop_sound: The same for sound photos, of which every part is sound. Tight crops
            teach that a close look at rough masonry is no damage yet.
        painted_share: Share of the views of sound photos on which cracks, spalling or salts are
            painted, which makes them damaged: the same walls at the same scale in both classes.
        turned_share: Share of the photos that are turned at random by quarter turns, so that a
            class whose photos lie on their side is not known by that.
        rendered_share: Share of the views that are of drawn pictures, where some are given.

    Raises:
        TrainingError: A value with which no run can be made.
    """

    backbone: str = "mobilenet_v3_large"
    init: str = "imagenet"
    keep_head: bool = False
    keep_norms: bool = False
    epochs: int = 15
    batch_size: int = 32
    learning_rate: float = 1e-4
    head_rate_factor: float = 10.0
    weight_decay: float = 1e-4
    warmup_share: float = 0.05
    ema_decay: float = 0.99
    patience: int = 5
    crop_side_px: int = 0
    full_size_epochs: int = 0
    full_size_px: int = 0
    frozen_blocks: int = 0
    smallest_crop: float = 0.3
    smallest_crop_sound: float = 0.3
    painted_share: float = 0.0
    turned_share: float = 1.0
    rendered_share: float = 0.35
    rotation_degrees: float = 15.0
    jitter: float = 0.25
    prune: float = 0.0
    prune_epochs: int = 5
    prune_of: str = ""
    validation_share: float = 0.2
    teacher: str = ""
    teacher_share: float = 0.5
    teacher_temperature: float = 2.0
    feature_share: float = 1.0
    seed: int = 0
    workers: int = 2
    half_precision: bool = True

    def __post_init__(self) -> None:
        _check(
            self,
            ("epochs", self.epochs >= 1, "choose 1 or more"),
            ("batch_size", self.batch_size >= 2, "choose 2 or more: batch norm compares photos"),
            ("learning_rate", self.learning_rate > 0, "choose a small number above 0"),
            ("weight_decay", self.weight_decay >= 0, "choose 0 or more"),
            ("head_rate_factor", self.head_rate_factor > 0, "choose a number above 0"),
            ("warmup_share", 0 <= self.warmup_share < 1, "choose a share from 0, below 1"),
            ("ema_decay", 0 <= self.ema_decay < 1, "choose a share from 0, below 1"),
            ("teacher_share", 0 <= self.teacher_share <= 1, "choose a share from 0 to 1"),
            ("feature_share", self.feature_share >= 0, "choose 0 or more"),
            ("patience", self.patience >= 0, "choose 0 or more"),
            ("jitter", 0 <= self.jitter <= 1, "choose a share from 0 to 1"),
            ("rotation_degrees", 0 <= self.rotation_degrees <= 180, "choose 0 to 180"),
            ("seed", self.seed >= 0, "choose 0 or more"),
            (
                "crop_side_px",
                self.crop_side_px == 0 or self.crop_side_px >= 64,
                "choose 64 or more",
            ),
            ("full_size_epochs", self.full_size_epochs >= 0, "choose 0 or more"),
            (
                "full_size_px",
                self.full_size_px == 0
                or (self.full_size_epochs and self.full_size_px >= self.crop_side_px > 0),
                "choose at least the crop side, and how many closing epochs have it",
            ),
            ("frozen_blocks", self.frozen_blocks >= 0, "choose 0 or more"),
            ("smallest_crop", 0 < self.smallest_crop <= 1, "choose a share above 0, at most 1"),
            (
                "smallest_crop_sound",
                0 < self.smallest_crop_sound <= 1,
                "choose a share above 0, at most 1",
            ),
            ("prune", 0 <= self.prune <= 0.9, "choose a share from 0 to 0.9"),
            ("prune_epochs", self.prune_epochs >= 1, "choose 1 or more"),
            (
                "prune_of",
                not self.prune_of or self.prune > 0,
                "say with --prune how much to remove",
            ),
            ("painted_share", 0 <= self.painted_share <= 0.4, "choose a share from 0 to 0.4"),
            (
                "keep_head",
                not self.keep_head or self.init not in ("imagenet", "scratch"),
                "name the checkpoint to go on from with --init",
            ),
            ("rendered_share", 0 <= self.rendered_share < 1, "choose a share from 0, below 1"),
            ("turned_share", 0 <= self.turned_share <= 1, "choose a share from 0 to 1"),
            ("validation_share", 0 < self.validation_share < 1, "choose a share between 0 and 1"),
            ("teacher_temperature", self.teacher_temperature > 0, "choose a number above 0"),
            ("workers", self.workers >= 0, "choose 0 or more"),
        )


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch did; the run's history is a list of these."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation_balanced_accuracy: float
    validation_auroc: float
    seconds: float


@dataclass(frozen=True)
class Step:
    """Progress inside an epoch, for bars and live curves."""

    epoch: int
    step: int
    steps: int
    loss: float


Listener = Callable[[Step | EpochRecord], None]


@dataclass(frozen=True)
class PointingConfig:
    """Settings of a run that gives a checkpoint a head that points.

    Attributes:
        init: File of a head that points to go on from, of the same backbone; empty for none.
        steps: Optimiser steps.
        batch_size: Views per step.
        damaged_share: Share of views of really damaged photos, whose places are unknown.
        painted_share: Share of the views of sound photos on which damage is painted.
        harmless_share: Share on which something is painted that only looks like a crack.
        shadow_share: Share over which a shadow is laid.
        learning_rate: Peak rate of AdamW; it rises over the first steps and falls as a cosine.
        weight_decay: Decoupled weight decay.
        ema_decay: Decay of the running average of the weights, which is what is kept.
        crack_weight: Weight of a painted pixel against one that is none.
        overlap_share: Weight of the overlap (Dice) loss.
        hottest_share: Weight of the loss on really damaged photos.
        side_px: Side of a view.
        seed: Seed of everything random.
        workers: Processes that prepare views.
    """

    init: str = ""
    steps: int = 3000
    batch_size: int = 12
    damaged_share: float = 0.25
    painted_share: float = 0.7
    harmless_share: float = 0.35
    shadow_share: float = 0.25
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    ema_decay: float = 0.995
    crack_weight: float = 3.0
    overlap_share: float = 0.25
    hottest_share: float = 0.05
    side_px: int = 256
    seed: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        _check(
            self,
            ("steps", self.steps >= 1, "choose 1 or more"),
            ("batch_size", self.batch_size >= 2, "choose 2 or more: batch norm compares views"),
            ("learning_rate", self.learning_rate > 0, "choose a small number above 0"),
            ("weight_decay", self.weight_decay >= 0, "choose 0 or more"),
            ("ema_decay", 0 <= self.ema_decay < 1, "choose a share from 0, below 1"),
            ("side_px", self.side_px >= 64, "choose 64 or more"),
            ("seed", self.seed >= 0, "choose 0 or more"),
            ("workers", self.workers >= 0, "choose 0 or more"),
            *(
                (name, 0 <= getattr(self, name) <= 1, "choose a share from 0 to 1")
                for name in ("damaged_share", "painted_share", "harmless_share", "shadow_share")
            ),
        )
