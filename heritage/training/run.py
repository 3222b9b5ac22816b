"""From labelled photos to a checkpoint with its card: read, fit, calibrate, score, save."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from heritage.backbones import get_backbone
from heritage.cards import ModelCard, check_name
from heritage.checkpoints import load_checkpoint, round_as_stored, save_checkpoint
from heritage.classifiers import DamageClassifier
from heritage.errors import DatasetError, TrainingError
from heritage.inputs import working_side_px
from heritage.training.config import Listener, TrainingConfig
from heritage.training.datasets import (
    TRAIN,
    VALIDATION,
    PhotoCache,
    Sample,
    count_by,
    read_samples,
    read_unlabelled,
    with_validation,
)
from heritage.training.evaluation import fit_temperature, predict, report
from heritage.training.fitting import RUN_FILES, fit

LIMITS = (
    "It sees the surface in one photo: nothing behind it, nothing of how a crack moves.",
    "The percentage is a probability that damage shows, not a share of the building.",
    "Photos unlike those it learned from (night, drone, drawings) can mislead it.",
    "An expert decides.",
)


def train(
    config: TrainingConfig,
    data: Path,
    *,
    out: Path,
    name: str = "",
    run_dir: Path | None = None,
    unlabelled: Path | None = None,
    restart: bool = False,
    overwrite: bool = False,
    licence: str = "",
    command: str = "",
    listen: Listener = lambda event: None,
    on_photo: Callable[[int], Callable[[], None]] = lambda total: lambda: None,
) -> ModelCard:
    """Trains `config.backbone` on `data` and writes `NAME.safetensors` and `NAME.json` to `out`.

    Every split of `data` other than `train` is scored with the weights as stored. The finished
    run's working files are removed; a run that was cut off goes on when called again.

    Raises:
        HeritageError: The data, the start or the run is not usable; the message says why.
    """
    name = name or config.backbone
    run_dir = run_dir or Path("runs") / name
    check_name(name)
    if not overwrite and any((out / f"{name}{end}").exists() for end in (".json", ".safetensors")):
        raise TrainingError(
            name, f"{out.name} holds a checkpoint of this name", "choose a --name or --overwrite it"
        )
    if unlabelled and not config.teacher:
        raise TrainingError(
            unlabelled.name, "only a teacher can label these photos", "name one with --teacher"
        )
    _check_writable(out)
    if restart:
        remove_run(run_dir)
    samples = with_validation(read_samples(data), share=config.validation_share, seed=config.seed)
    extra = read_unlabelled(unlabelled) if unlabelled else []
    backbone = get_backbone(config.backbone)
    cache = PhotoCache(working_side_px(backbone))
    cache.warm([*samples, *extra], on_photo(len(samples) + len(extra)))
    model, history = fit(
        config,
        samples + extra,
        run_dir,
        teacher_folder=out,
        listen=listen,
        cache=cache,
    )
    data_note: dict[str, Any] = {
        "photos": count_by(samples),
        "sources": sorted({s.source for s in samples if s.split == TRAIN}),
    }
    if extra:
        data_note["unlabelled"] = len(extra)
    card = ModelCard(
        name=name,
        backbone=config.backbone,
        sha256="",
        parameters=0,
        training={
            "config": portable(config),
            "history": [asdict(record) for record in history],
            "seconds": round(sum(record.seconds for record in history)),
        },
        data=data_note,
        licence=licence or "Yours: trained on your own photos",
        limits=LIMITS,
        command=command,
        created=datetime.now(UTC).date().isoformat(),
    )
    round_as_stored(model)
    card = score(model, card, samples, cache)
    card = save_checkpoint(model, card, out)
    remove_run(run_dir)
    return card


def _check_writable(out: Path) -> None:
    """Finds out before hours of training, not after, that the checkpoint has nowhere to go."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise TrainingError(
            str(out), f"it cannot be written to ({error.strerror})", "choose another --out"
        ) from error


def remove_run(run_dir: Path) -> None:
    """Removes a run's own files and, if nothing else is in it, its folder."""
    for name in RUN_FILES:
        (run_dir / name).unlink(missing_ok=True)
    with suppress(OSError):
        run_dir.rmdir()


def score(
    model: DamageClassifier,
    card: ModelCard,
    samples: list[Sample],
    cache: PhotoCache,
    *,
    recalibrate: bool = True,
) -> ModelCard:
    """Returns `card` with the temperature fitted on validation and every split's figures."""
    backbone = get_backbone(card.backbone)
    splits = sorted({s.split for s in samples} - {TRAIN}, key=lambda s: (s != VALIDATION, s))
    predictions = {
        split: predict(model, backbone, [s for s in samples if s.split == split], cache)
        for split in splits
    }
    temperature = card.temperature
    if recalibrate:
        temperature = round(fit_temperature(predictions[VALIDATION]), 4)
    metrics: dict[str, Any] = {
        split: report(found, temperature, card.threshold) for split, found in predictions.items()
    }
    return replace(card, temperature=temperature, metrics=metrics)


def evaluate(name: str, data: Path, folder: Path, *, recalibrate: bool = False) -> ModelCard:
    """Scores the checkpoint `name` on every split of `data` but `train`.

    Labelled photos without splits are scored together, as the split `all`.

    Args:
        recalibrate: Fit the temperature anew on the validation split; otherwise the card's holds.

    Returns:
        The checkpoint's card with these figures; nothing is written.

    Raises:
        HeritageError: The checkpoint or the data cannot be used.
    """
    checkpoint = load_checkpoint(name, folder)
    samples = read_samples(data)
    if all(sample.split == TRAIN for sample in samples):
        samples = [replace(sample, split="all") for sample in samples]
    if recalibrate and not any(sample.split == VALIDATION for sample in samples):
        raise DatasetError(data.name, "it has no validation split", "leave out --update-cards")
    cache = PhotoCache(working_side_px(checkpoint.backbone))
    cache.warm([sample for sample in samples if sample.split != TRAIN])
    return score(checkpoint.model, checkpoint.card, samples, cache, recalibrate=recalibrate)


def portable(config: TrainingConfig) -> dict[str, Any]:
    """The configuration as it is stored in a card: file names without their folders."""
    values = asdict(config)
    values["init"] = Path(config.init).name
    values["teacher"] = Path(config.teacher).stem if config.teacher else ""
    return values
