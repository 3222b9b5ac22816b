"""Fits one backbone to labelled photos: one loop, resumable after every epoch.

The defaults are the second study's: Adam 1e-4 with a schedule, batches of 32, 15 epochs, binary
cross-entropy, early stopping; only its square 224 × 224 input is replaced by the photo's aspect.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import BatchSampler, DataLoader, Sampler, WeightedRandomSampler

from heritage.backbones import Backbone, get_backbone
from heritage.cards import write_atomically
from heritage.checkpoints import Checkpoint, load_checkpoint, load_features
from heritage.classifiers import DamageClassifier, build_classifier, normalise
from heritage.errors import TrainingError, one_line
from heritage.inputs import working_side_px
from heritage.training.augmentation import Views
from heritage.training.config import STATE, EpochRecord, Listener, Step, TrainingConfig
from heritage.training.datasets import (
    TRAIN,
    VALIDATION,
    PhotoCache,
    Sample,
    TrainingPhotos,
    sampling_weights,
)
from heritage.training.devices import ALONE, Devices
from heritage.training.evaluation import Predictions, balanced_log_loss, figures, predict
from heritage.training.folding import fold_norms, insert_norms, lacks_norms
from heritage.training.precision import half_precision

BEST = "best.safetensors"
FEWEST_STEPS = 8
FEWEST_PHOTOS = 2  # of a step, for one process: batch norm compares photos
SAVING = "saving"  # there once the checkpoint itself is being written
RUN_FILES = (SAVING, *(name + end for name in (STATE, BEST) for end in ("", ".partial")))


@dataclass
class FitState:
    """What a run needs to go on after being killed."""

    epoch: int
    best_loss: float
    best_epoch: int
    history: list[EpochRecord]


def fit(
    config: TrainingConfig,
    samples: list[Sample],
    run_dir: Path,
    *,
    teacher_folder: Path,
    listen: Listener = lambda event: None,
    cache: PhotoCache | None = None,
    devices: Devices = ALONE,
    start: DamageClassifier | None = None,
    teacher: DamageClassifier | None = None,
    made_with: str = "",
) -> tuple[DamageClassifier, list[EpochRecord]]:
    """Trains on the `train` samples and keeps the epoch with the least validation loss.

    The last one, where no photo of `train` carries a label: what a teacher tells of their features
    leaves the head as it was, and the answers to validation photos say nothing of it.

    A run killed at any moment goes on from its last finished epoch when called again with the
    same configuration and `run_dir`.

    Args:
        devices: Where the arithmetic is done, and by how many processes. Each of them calls this
            with the same arguments and returns the same; the main one alone writes to `run_dir`.
        start: The model to go on from, in place of `config.init`.
        teacher: Of the same backbone, in place of the one that `config.teacher` names.
        made_with: What else decides the photos; a run is not resumed with another.

    Returns:
        The best model, in evaluation mode on the CPU, and the history.

    Raises:
        TrainingError: `run_dir` holds another run, the loss stopped being a number, or the
            processes differ in their photos or weights.
        CheckpointError: The starting weights or the teacher cannot be loaded.
    """
    backbone = get_backbone(config.backbone)
    cache = cache or PhotoCache(working_side_px(backbone))
    train = [s for s in samples if s.split == TRAIN]
    validation = [s for s in samples if s.split == VALIDATION]
    labelled = any(sample.label == sample.label for sample in train)
    torch.manual_seed(config.seed)
    run = _Run(config, backbone, train, cache, run_dir, teacher_folder, devices, start, teacher)
    photos = _fingerprint(samples) + made_with
    if len(set(devices.gather(photos))) > 1:
        raise TrainingError(
            "the photos", "the processes see different ones", "give every machine the same DATA"
        )
    state = run.resume(photos)
    for epoch in range(state.epoch, config.epochs):
        if epoch - state.best_epoch > config.patience:
            break
        started = time.monotonic()
        train_loss = run.train_epoch(epoch, listen)
        run.check_weights()
        held_out = run.answers(validation)
        loss = balanced_log_loss(held_out)
        if not math.isfinite(loss):
            raise _diverged(config)
        probabilities, labels = torch.from_numpy(held_out.logits).sigmoid().numpy(), held_out.labels
        chosen = figures(0.5)
        record = EpochRecord(
            epoch=epoch + 1,
            train_loss=round(train_loss, 5),
            validation_loss=round(loss, 5),
            validation_balanced_accuracy=round(
                chosen["balanced_accuracy"](probabilities, labels), 5
            ),
            validation_auroc=round(chosen["auroc"](probabilities, labels), 5),
            seconds=round(time.monotonic() - started, 1),
        )
        state.history.append(record)
        if loss < state.best_loss or not labelled:
            state.best_loss, state.best_epoch = loss, epoch
            if devices.is_main:
                best = run.averaged.module.state_dict()
                write_atomically(run_dir / BEST, save(_packed(best)))
        state.epoch = epoch + 1
        if devices.is_main:
            run.save(state, photos)
        listen(record)
    run.model.load_state_dict(devices.from_main(lambda: _read(run_dir / BEST)[0]))
    model = run.model.to("cpu").requires_grad_(False).eval()
    fold_norms(model.features)
    return model, state.history


class _Run:
    """The tensors of a run in progress, and how they go to disk and come back."""

    def __init__(
        self,
        config: TrainingConfig,
        backbone: Backbone,
        train: list[Sample],
        cache: PhotoCache,
        run_dir: Path,
        teacher_folder: Path,
        devices: Devices,
        start: DamageClassifier | None,
        teacher: DamageClassifier | None,
    ) -> None:
        self.config, self.backbone, self.run_dir = config, backbone, run_dir
        self.devices = devices
        # What it started from may be gone by the time it goes on, and is not needed then.
        goes_on = devices.count == 1 and (run_dir / STATE).exists()
        if config.keep_head and not start and not goes_on:
            start = load_named(config.init, teacher_folder).model
        if start:
            self.model = copy.deepcopy(start).requires_grad_(True)
        else:
            imagenet = config.init == "imagenet" and not goes_on
            self.model = build_classifier(backbone, imagenet=imagenet)
        if not start and config.init not in ("imagenet", "scratch"):
            if not goes_on:
                load_features(self.model, Path(config.init))
        elif not start and config.init == "scratch" and lacks_norms(self.model.features):
            insert_norms(self.model.features)
        self.device = torch.device(devices.device)
        self.model.to(self.device)
        self.model.to(memory_format=torch.channels_last)
        self.averaged = AveragedModel(
            self.model, multi_avg_fn=_growing_average(config.ema_decay), use_buffers=True
        )
        self.teacher, self.teacher_backbone = copy.deepcopy(teacher), backbone
        if config.teacher and not teacher:
            named = load_named(config.teacher, teacher_folder)
            self.teacher, self.teacher_backbone = named.model, named.backbone
        self.projection: nn.Module = nn.Identity()
        if self.teacher:
            self.teacher.to(self.device).to(memory_format=torch.channels_last)
            self.projection = nn.Conv2d(self.model.channels, self.teacher.channels, 1)
        self.projection.to(self.device)
        self.frozen = list(self.model.features.children())[: config.frozen_blocks]
        for block in self.frozen:
            block.requires_grad_(False)
        learning = [p for p in self.model.features.parameters() if p.requires_grad]
        fast = [*self.model.head.parameters(), *self.projection.parameters()]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": learning, "lr": config.learning_rate},
                {"params": fast, "lr": config.learning_rate * config.head_rate_factor},
            ],
            weight_decay=config.weight_decay,
        )
        self.train, self.cache = train, cache
        self.weights = sampling_weights(train, config.painted_share, config.rendered_share)
        # With few photos smaller batches, or an epoch would be a step or two.
        self.batch_size = min(config.batch_size, max(4, len(train) // FEWEST_STEPS))
        self.steps = max(1, len(train) // self.batch_size)
        if self.batch_size < FEWEST_PHOTOS * devices.count:
            raise TrainingError(
                "batch_size",
                f"{self.batch_size} photos a step are too few for {devices.count} processes",
                "start fewer, or give more photos or a larger --batch-size",
            )
        self.student = devices.prepare(_Student(self.model, self.projection))

    def train_epoch(self, epoch: int, listen: Listener) -> float:
        """One pass over as many drawn photos as there are; returns the mean loss."""
        # Seeding by epoch makes a resumed run draw what an unbroken one would have drawn.
        torch.manual_seed(self.devices.own_seed(self.config.seed * 100_003 + epoch))
        self.model.train()
        for block in self._settled():
            block.eval()
        total = 0.0
        for step, batch in enumerate(_readable(self._batches(epoch))):
            self._set_rate(epoch * self.steps + step)
            loss = self._loss(*(part.to(self.device) for part in batch))
            told = float(self.devices.total(loss.detach())) / self.devices.count
            if not math.isfinite(told):
                raise _diverged(self.config)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
            self.optimizer.step()
            self.devices.average(self._statistics())
            self.averaged.update_parameters(self.model)
            total += told
            listen(Step(epoch + 1, step + 1, self.steps, told))
        return total / self.steps

    def _settled(self) -> list[nn.Module]:
        """What stays in evaluation mode."""
        if not self.config.keep_norms:
            return self.frozen
        norms = (nn.modules.batchnorm._BatchNorm,)
        return [*self.frozen, *(part for part in self.model.modules() if isinstance(part, norms))]

    def _statistics(self) -> list[Tensor]:
        """What the batch norms that learn know of the photos: means and variances."""
        return [
            buffer
            for module in self.model.modules()
            for buffer in module.buffers(recurse=False)
            if module.training and buffer.is_floating_point()
        ]

    def _loss(self, pixels: Tensor, labels: Tensor, asked: Tensor) -> Tensor:
        """Loss of this process's share; the mean over all processes is that of the batch.

        Args:
            pixels: (B, 3, S, S) uint8.
            labels: (B,), NaN where only the teacher knows.
            asked: (B,) bool, whether the teacher is asked; else the label alone counts.
        """
        x = normalise(pixels, self.backbone).contiguous(memory_format=torch.channels_last)
        with self.precision():
            logits, projected = self.student(x)  # (B, 1), (B, C, h, w)
        logits = logits.float().flatten()
        known = ~labels.isnan()
        # A batch may hold no labelled photo at all, and the mean of nothing is not a number.
        missed = functional.binary_cross_entropy_with_logits(
            logits[known], labels[known], reduction="none"
        )
        count = self.devices.count
        share = self.config.teacher_share if self.teacher else 0.0
        missed = missed * torch.where(asked[known], 1 - share, 1.0)
        loss = missed.sum() * count / self.devices.total(known.sum()).clamp(min=1)
        if self.teacher is None:
            return loss
        # Shares may differ by a photo, and by how many of it the teacher is asked about.
        weight = count / self.devices.total(asked.sum()).clamp(min=1)
        if not asked.any():  # in this process: the others wait for its gradients all the same
            return loss + 0 * projected.sum()
        logits, projected = logits[asked], projected[asked].float()
        with torch.no_grad(), self.precision():
            taught = self.teacher.features(self._as_the_teacher_sees(pixels[asked], x[asked]))
            soft = self.teacher.head(taught).float().flatten()
        heat = self.config.teacher_temperature
        told = functional.binary_cross_entropy_with_logits(
            logits / heat, (soft / heat).sigmoid(), reduction="sum"
        )
        # The student's grid may be finer or coarser than the teacher's.
        projected = functional.adaptive_avg_pool2d(projected, taught.shape[-2:])
        alike = functional.cosine_similarity(projected, taught.float(), dim=1)  # (B, h, w)
        unlike = (1 - alike).mean((1, 2)).sum()
        return loss + weight * (share * heat**2 * told + self.config.feature_share * unlike)

    def _as_the_teacher_sees(self, pixels: Tensor, x: Tensor) -> Tensor:
        """The batch in the teacher's own size and normalisation."""
        teacher, student = self.teacher_backbone, self.backbone
        if (teacher.mean, teacher.std) != (student.mean, student.std):
            x = normalise(pixels, teacher)
        if student.input_size_px != teacher.input_size_px:
            scale = teacher.input_size_px / student.input_size_px
            side = max(teacher.smallest_input_px, round(x.shape[-1] * scale))
            x = functional.interpolate(x, (side, side), mode="bilinear", antialias=True)
        return x.contiguous(memory_format=torch.channels_last)

    def answers(self, samples: list[Sample]) -> Predictions:
        """Predictions of the averaged weights, the same in all processes: each makes its share."""
        with self.precision():
            own = predict(
                self.averaged.module, self.backbone, samples[self.devices.share], self.cache
            )
        logits = np.zeros(len(samples))
        for index, part in enumerate(self.devices.gather(own.logits)):
            logits[index :: self.devices.count] = part
        return Predictions(
            logits,
            np.array([sample.label for sample in samples]),
            tuple(sample.source for sample in samples),
            tuple(sample.group for sample in samples),
        )

    def check_weights(self) -> None:
        """Makes sure that all processes hold the same weights, bit for bit.

        Raises:
            TrainingError: They do not, and what they learn is not what one process would.
        """
        if self.devices.count == 1:
            return
        held = {f"{part}.{k}": v for part, m in self._modules() for k, v in m.state_dict().items()}
        digest = hashlib.sha256(save(_packed(held))).hexdigest()
        if len(set(self.devices.gather(digest))) > 1:
            raise TrainingError(
                self.config.backbone,
                "the processes do not hold the same weights",
                "use devices of one kind; what the epochs before learned is kept",
            )

    def precision(self) -> AbstractContextManager[Any]:
        """Half precision, where it is asked for and the device is quick at it."""
        if not self.config.half_precision:
            return nullcontext()
        return half_precision(self.device)

    def _photos(self, epoch: int) -> TrainingPhotos:
        config, full = self.config, self.backbone.input_size_px
        last = epoch >= config.epochs - config.full_size_epochs
        side_px = (config.full_size_px if last else config.crop_side_px) or full
        return TrainingPhotos(self.train, self.cache, views(config, side_px))

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        generator = torch.Generator().manual_seed(self.config.seed * 100_003 + epoch)
        sampler = WeightedRandomSampler(
            self.weights.tolist(), self.steps * self.batch_size, generator=generator
        )
        batches = _Shares(BatchSampler(sampler, self.batch_size, drop_last=True), self.devices)
        # Workers share the decoded photos by forking; elsewhere each would get its own copy.
        workers = self.config.workers if sys.platform == "linux" else 0
        return iter(
            DataLoader(
                self._photos(epoch),
                batch_sampler=batches,
                num_workers=workers,
                multiprocessing_context="fork" if workers else None,
                generator=generator,
                worker_init_fn=self._seed_worker,
            )
        )

    def _seed_worker(self, worker: int) -> None:
        torch.manual_seed(self.devices.own_seed(torch.initial_seed()))

    def _set_rate(self, step: int) -> None:
        """Linear warm-up, then half a cosine down to zero (Loshchilov & Hutter 2017)."""
        total = self.steps * self.config.epochs
        warm = max(1, int(total * self.config.warmup_share))
        progress = torch.tensor((step - warm) / max(1, total - warm))
        factor = (
            (step + 1) / warm if step < warm else float(0.5 * (1 + torch.cos(torch.pi * progress)))
        )
        rates = (
            self.config.learning_rate,
            self.config.learning_rate * self.config.head_rate_factor,
        )
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor

    def save(self, state: FitState, photos: str) -> None:
        """Writes the whole run as one file, atomically."""
        tensors = {
            f"{part}.{key}": value
            for part, module in self._modules()
            for key, value in module.state_dict().items()
        }
        for index, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{slot}": value for slot, value in slots.items()}
        notes = {
            "config": json.dumps(asdict(self.config)),
            "photos": photos,
            "progress": json.dumps(
                {
                    "epoch": state.epoch,
                    "best_loss": state.best_loss,
                    "best_epoch": state.best_epoch,
                    "history": [asdict(record) for record in state.history],
                }
            ),
        }
        write_atomically(self.run_dir / STATE, save(_packed(tensors), notes))

    def resume(self, photos: str) -> FitState:
        """Loads what an earlier call with the same configuration left, or starts afresh."""
        found = self.devices.from_main(self._left_behind)
        if found is None:
            return FitState(0, float("inf"), 0, [])
        tensors, notes = found
        left = asdict(TrainingConfig()) | json.loads(notes["config"])  # of an earlier version, too
        if left != asdict(self.config) or notes["photos"] != photos:
            raise TrainingError(
                self.run_dir.name,
                "it was begun with other settings or other photos",
                "repeat these, or discard it and begin anew (in a shell: --restart)",
            )
        for part, module in self._modules():
            module.load_state_dict(_below(f"{part}.", tensors))
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in _below("optimizer.", tensors).items():
            index, slot = key.split(".")
            slots.setdefault(int(index), {})[slot] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": slots})
        progress = json.loads(notes["progress"])
        history = [EpochRecord(**record) for record in progress["history"]]
        return FitState(progress["epoch"], progress["best_loss"], progress["best_epoch"], history)

    def _left_behind(self) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        path = self.run_dir / STATE
        self.run_dir.mkdir(parents=True, exist_ok=True)
        try:
            return _read(path) if path.exists() else None
        except (SafetensorError, OSError) as error:
            raise TrainingError(
                self.run_dir.name,
                f"what it has learned cannot be read ({error})",
                "discard it and begin anew (in a shell: --restart)",
            ) from error

    def _modules(self) -> tuple[tuple[str, nn.Module], ...]:
        return (
            ("model", self.model),
            ("averaged", self.averaged),
            ("projection", self.projection),
        )


class _Student(nn.Module):
    """What a step needs of the networks that learn, in one call."""

    def __init__(self, model: DamageClassifier, projection: nn.Module) -> None:
        super().__init__()
        self.model, self.projection = model, projection

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.model.features(x)
        return self.model.head(features), self.projection(features)


class _Shares(Sampler[list[int]]):
    """Of each batch that all processes draw alike, what is this one's."""

    def __init__(self, batches: BatchSampler, devices: Devices) -> None:
        self.batches, self.devices = batches, devices

    def __iter__(self) -> Iterator[list[int]]:
        return (batch[self.devices.share] for batch in self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def _growing_average(decay: float) -> Callable[..., None]:
    """A running average that in the first steps follows quickly, or a short run stays its start."""

    def update(averaged: Any, current: Any, steps: Tensor) -> None:
        warm = (1 + int(steps)) / (10 + int(steps))
        get_ema_multi_avg_fn(min(decay, warm))(averaged, current, steps)

    return update


def views(config: TrainingConfig, side_px: int) -> Views:
    """The random views that a run with `config` learns from."""
    return Views(
        side_px,
        smallest_crop=config.smallest_crop,
        smallest_crop_sound=config.smallest_crop_sound,
        painted_share=config.painted_share,
        turned_share=config.turned_share,
        rotation_degrees=config.rotation_degrees,
        jitter=config.jitter,
    )


def _readable(batches: Iterator[tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
    """The same; a photo that a worker could not read again is told as that."""
    try:
        yield from batches
    except RuntimeError as error:  # all that is left of an error that crossed from a worker
        _, found, why = str(error).rpartition("PhotoError: ")
        if not found:
            raise
        raise TrainingError(
            "the photos",
            f"one can no longer be read ({one_line(why.strip())})",
            "put it back, or connect its drive, and resume",
        ) from error


def _fingerprint(samples: list[Sample]) -> str:
    """Tells one set of labelled photos from another, wherever the folder stands."""
    lines = sorted(f"{s.path.name} {s.label} {s.split} {s.source} {s.group}" for s in samples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _diverged(config: TrainingConfig) -> TrainingError:
    return TrainingError(
        config.backbone,
        "the loss is no longer a number",
        "begin anew with a lower learning rate (in a shell: --learning-rate, --restart)",
    )


def _packed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undoes channels-last storage, which safetensors does not know."""
    return {key: value.detach().cpu().contiguous() for key, value in tensors.items()}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        # Cloned, or the file stays mapped and Windows will not have it replaced.
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        return tensors, file.metadata() or {}


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def load_named(name: str, folder: Path) -> Checkpoint:
    """The checkpoint `name` in `folder`, or the file that `name` is the path of.

    Raises:
        CheckpointError: It is missing, damaged, or does not fit.
    """
    path = Path(name)
    if path.suffix == ".safetensors":
        folder, name = path.parent, path.stem
    return load_checkpoint(name, folder, pointing=False)
