"""From labelled photos to a checkpoint with its card: read, fit, calibrate, score, save."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit
from torch import Tensor

from heritage.backbones import CASCADE, CASCADE_STAGES, Backbone, get_backbone
from heritage.cards import FLOAT16, WEIGHTS, ModelCard, check_name
from heritage.checkpoints import (
    Checkpoint,
    check_free,
    check_writable,
    load_checkpoint,
    load_features,
    round_as_stored,
    save_checkpoint,
)
from heritage.classifiers import (
    DamageClassifier,
    build_classifier,
    parameter_count,
    parameters_when_built,
)
from heritage.engines import Engine
from heritage.errors import CheckpointError, DatasetError, TrainingError, one_line
from heritage.inputs import working_side_px
from heritage.training.cascade import OVERLAYS, compare, train_cascade
from heritage.training.cascade import PARTS as CASCADE_PARTS
from heritage.training.config import (
    STAGE_TWO_EPOCHS,
    STATE,
    EpochRecord,
    Listener,
    TrainingConfig,
)
from heritage.training.datasets import (
    CLASSES,
    TRAIN,
    VALIDATION,
    PhotoCache,
    Sample,
    count_by,
    no_building_text,
    read_rendered,
    read_samples,
    read_unlabelled,
    with_validation,
    without,
)
from heritage.training.devices import ALONE, Devices
from heritage.training.evaluation import (
    Predictions,
    TurnedPhotos,
    answered,
    fit_temperature,
    headline,
    report,
    unsure_band,
)
from heritage.training.faithfulness import heat_map_figures
from heritage.training.fitting import RUN_FILES, SAVING, fit, load_named
from heritage.training.jobs import JOB, LOCK, PROGRESS
from heritage.training.pruning import pruned
from heritage.training.speed import speed_figures

WORST_KEPT = 6
PRUNED = "pruned"  # folder of the fine-tuning, within that of the run
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
    rendered: Path | None = None,
    restart: bool = False,
    overwrite: bool = False,
    licence: str = "",
    command: str = "",
    precision: str = FLOAT16,
    devices: Devices = ALONE,
    stage_one: str = CASCADE_STAGES[0],
    stage_two_init: str = "imagenet",
    stage_two_epochs: int = STAGE_TWO_EPOCHS,
    listen: Listener = lambda event: None,
    on_photo: Callable[[int], Callable[[], None]] = lambda total: lambda: None,
    on_scoring: Callable[[], None] = lambda: None,
) -> ModelCard:
    """Trains `config.backbone` on `data` and writes `NAME.safetensors` and `NAME.json` to `out`.

    With `config.prune`, channels of the trained network are removed and the rest is tuned on.
    Every split of `data` other than `train` is scored with the weights as stored. The finished
    run's working files are removed; a run that was cut off goes on when called again.

    A cascade is made of the checkpoint `stage_one` in `out` and a stage 2 that starts from
    `stage_two_init`; `config` then tells how the stage 1 of each fold is trained.

    Of several `devices`, each process calls this with the same arguments.

    Returns:
        The card as written; in another process than the main one, as it is before scoring.

    Raises:
        HeritageError: The data, the start or the run is not usable; the message says why.
    """
    name = name or config.backbone
    run_dir = run_dir or Path("runs") / name
    check_name(name, config.backbone)
    check_writable(out)
    # What this very run was about to write when it was cut off is not in its way.
    mine = overwrite or (run_dir / SAVING).exists()
    if not mine:
        check_free(name, out)
    if config.prune_of and not config.teacher:
        config = replace(config, teacher=config.prune_of, teacher_share=1.0)
    if unlabelled and not config.teacher:
        raise TrainingError(
            unlabelled.name, "only a teacher can label these photos", "name one with --teacher"
        )
    if config.backbone == CASCADE and (config.keep_head or rendered):
        raise TrainingError(
            "keep_head" if config.keep_head else "rendered",
            "a cascade is not trained so",
            "train its stage 1 so before",
        )
    if config.prune and config.backbone == CASCADE:
        raise TrainingError("prune", "a cascade cannot be pruned", "prune its stages before")
    if devices.count > 1 and config.backbone == CASCADE:
        raise TrainingError(
            CASCADE,
            "several processes cannot train it",
            "train it with one process",
        )
    # Before the photos are read, which may take minutes.
    whole = _whole(config, out) if config.prune_of else None
    if config.teacher and config.teacher != config.prune_of:
        load_named(config.teacher, out)
    if config.backbone == CASCADE:
        load_named(stage_one, out)
    if restart and devices.is_main:
        remove_run(run_dir, in_progress=True)
    samples = with_validation(read_samples(data), share=config.validation_share, seed=config.seed)
    if not whole and not any(run_dir.glob(f"**/{STATE}")):
        _check_starts(config, stage_two_init, out)
    extra = _unlabelled(unlabelled, samples, config.backbone) if unlabelled else []
    drawn = read_rendered(rendered) if rendered else []
    backbone = get_backbone(config.backbone)
    cache = PhotoCache(working_side_px(backbone))
    learned = [*samples, *extra, *drawn]
    cache.warm(learned, on_photo(len(learned)))
    rivals: dict[str, Predictions] = {}
    stage_two: dict[str, Any] = {}
    if config.backbone == CASCADE:
        cascade = train_cascade(
            config,
            samples + extra,
            run_dir,
            first=stage_one,
            second_start=stage_two_init,
            second_epochs=stage_two_epochs,
            folder=out,
            cache=cache,
            devices=devices,
            listen=listen,
        )
        model, history, rivals = cascade.model, cascade.history, cascade.rivals
        stage_two = {"stage_two": portable(cascade.settings)}
    else:
        with devices.together():
            model, history = _fit_and_prune(
                config, learned, run_dir, out, cache, devices, listen, whole
            )
    on_scoring()
    data_note: dict[str, Any] = {
        "photos": count_by(samples),
        "sources": sorted({s.source for s in samples if s.split == TRAIN}),
    }
    if extra:
        data_note["unlabelled"] = len(extra)
    if drawn:
        data_note["rendered"] = len(drawn)
    lone = sum(sample.lone for sample in samples)
    if lone:
        data_note["without_building"] = lone
    card = ModelCard(
        name=name,
        backbone=config.backbone,
        sha256="",
        parameters=0,
        precision=precision,
        pruned=_share_removed(model, backbone) if config.prune else 0.0,
        training={
            "config": portable(config),
            "history": [asdict(record) for record in history],
            "seconds": round(sum(record.seconds for record in history)),
        }
        | stage_two,
        data=data_note,
        licence=licence or "Yours: trained on your own photos",
        limits=(*LIMITS, no_building_text(lone)) if lone else LIMITS,
        command=command,
        created=datetime.now(UTC).date().isoformat(),
    )
    if not devices.is_main:
        return card
    round_as_stored(model, precision)
    engine = Engine(Checkpoint(model, backbone, card), devices.device)
    card = replace(
        score(engine, card, samples, cache), comparison=compare(model, rivals, samples, cache)
    )
    if not mine:
        # Another may have made one meanwhile; what was learned is kept.
        check_free(name, out, "remove or rename that one, then resume (in a shell: --overwrite)")
    (run_dir / SAVING).touch()
    card = save_checkpoint(model, card, out)
    remove_run(run_dir)
    return card


def _fit_and_prune(
    config: TrainingConfig,
    samples: list[Sample],
    run_dir: Path,
    out: Path,
    cache: PhotoCache,
    devices: Devices,
    listen: Listener,
    whole: Checkpoint | None,
) -> tuple[DamageClassifier, list[EpochRecord]]:
    """Fits, or takes the `whole` as it is; where asked, prunes and tunes on."""
    history: list[EpochRecord] = []
    made_with = ""
    if whole:
        model, made_with = whole.model, whole.card.sha256
    else:
        model, history = fit(
            config,
            samples,
            run_dir,
            teacher_folder=out,
            listen=listen,
            cache=cache,
            devices=devices,
        )
    if not config.prune:
        return model, history
    done = len(history)
    tuning = replace(config, epochs=config.prune_epochs, head_rate_factor=1.0, frozen_blocks=0)
    if not config.teacher:  # labels of few photos would unlearn what it knows of others
        tuning = replace(tuning, teacher_share=1.0)
    model, more = fit(
        tuning,
        samples,
        run_dir / PRUNED,
        teacher_folder=out,
        listen=lambda event: listen(replace(event, epoch=event.epoch + done)),
        cache=cache,
        devices=devices,
        start=pruned(model, config.prune),
        teacher=None if config.teacher else model,
        made_with=made_with,
    )
    return model, history + [replace(record, epoch=record.epoch + done) for record in more]


def _unlabelled(folder: Path, samples: list[Sample], backbone: str) -> list[Sample]:
    """The photos for a teacher, but those that are held out; from a fold of a cascade, any is."""
    held = [sample for sample in samples if backbone == CASCADE or sample.split != TRAIN]
    found = without(held, read_unlabelled(folder))
    if not found:
        raise DatasetError(
            folder.name, "all its photos are among those kept aside", "add others, or leave it out"
        )
    return found


def _whole(config: TrainingConfig, folder: Path) -> Checkpoint:
    """The checkpoint that is pruned as it is."""
    found = load_named(config.prune_of, folder)
    if found.card.backbone != config.backbone:
        raise TrainingError(
            found.card.name,
            f"it is no {get_backbone(config.backbone).title}",
            f"add --backbone {found.card.backbone}",
        )
    return found


def remove_run(run_dir: Path, *, in_progress: bool = False) -> None:
    """Removes a run's own files and, if nothing else is in it, its folder.

    While a process is about to go on in it (`in_progress`), its lock and its report stay.
    """
    if not in_progress and not (run_dir / JOB).exists():
        for name in (PROGRESS, f"{PROGRESS}.partial", LOCK):
            with suppress(OSError):  # Windows leaves a lock that this process holds
                (run_dir / name).unlink(missing_ok=True)
    shutil.rmtree(run_dir / OVERLAYS, ignore_errors=True)
    for folder in (*(run_dir / part for part in (PRUNED, *CASCADE_PARTS)), run_dir):
        for name in RUN_FILES:
            (folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()


def _check_starts(config: TrainingConfig, stage_two_init: str, folder: Path) -> None:
    """Raises a HeritageError if what the features start from is not to be had."""
    if config.keep_head:
        found = load_named(config.init, folder).card
        if found.backbone != config.backbone or found.pruned:
            raise TrainingError(
                found.name,
                f"it is no whole {get_backbone(config.backbone).title}",
                "leave out --keep-head",
            )
        return
    starts = {config.backbone: config.init}
    if config.backbone == CASCADE:
        starts = dict(zip(CASCADE_STAGES, (config.init, stage_two_init), strict=True))
    for name, init in starts.items():
        if init == "imagenet":
            build_classifier(get_backbone(name), imagenet=True)
        elif init != "scratch":
            load_features(build_classifier(get_backbone(name)), Path(init))


def _share_removed(model: DamageClassifier, backbone: Backbone) -> float:
    return round(1 - parameter_count(model) / parameters_when_built(backbone), 4)


def score(
    engine: Engine,
    card: ModelCard,
    samples: list[Sample],
    cache: PhotoCache,
    *,
    recalibrate: bool = True,
    on_answers: Callable[[int], None] = lambda n: None,
) -> ModelCard:
    """Returns `card` with the temperature fitted on validation and every split's figures.

    Args:
        engine: The checkpoint as it will answer people.
        on_answers: Told how many photos more have been answered, those turned once more.
    """
    backbone = get_backbone(card.backbone)

    def said(samples: list[Sample], photos: PhotoCache | TurnedPhotos = cache) -> Predictions:
        def logits_of(x: Tensor) -> Tensor:
            return engine.answer(x).logits

        return answered(logits_of, backbone, samples, photos, on_batch=on_answers)

    splits = sorted({s.split for s in samples} - {TRAIN}, key=lambda s: (s != VALIDATION, s))
    of_split = {split: [s for s in samples if s.split == split] for split in splits}
    predictions = {split: said(chosen) for split, chosen in of_split.items()}
    if not all(np.isfinite(found.logits).all() for found in predictions.values()):
        raise CheckpointError(card.name, "its answers are no numbers", "train it again")
    temperature, unsure = card.temperature, card.unsure
    if recalibrate:
        chosen = predictions[VALIDATION]
        temperature = round(fit_temperature(chosen), 4)
        unsure = unsure_band(expit(chosen.logits / temperature), chosen.labels, card.threshold)
    metrics: dict[str, Any] = {}
    for split, found in predictions.items():
        metrics[split] = report(found, temperature, card.threshold)
        metrics[split]["worst"] = _worst(of_split[split], found, temperature, card.threshold)
        if _also_turned(of_split[split]):
            turned = said(of_split[split], TurnedPhotos(cache))
            metrics[split]["turned"] = headline(turned, temperature, card.threshold)
    return replace(card, temperature=temperature, unsure=unsure, metrics=metrics)


def _also_turned(samples: list[Sample]) -> bool:
    """Whether photos of a split are also asked about turned: of one class that tells nothing."""
    return len({sample.label for sample in samples}) == 2


def _worst(
    samples: list[Sample], found: Predictions, temperature: float, threshold: float
) -> list[dict[str, Any]]:
    """The mistakes made with the greatest certainty, by the photo's folder and name."""
    probabilities = expit(found.logits / temperature)
    wrong = [
        (abs(float(p) - threshold), sample, float(p))
        for sample, p in zip(samples, probabilities, strict=True)
        if (p >= threshold) != (sample.label == 1)
    ]
    return [
        {
            "photo": "/".join(
                filter(None, (sample.source, sample.path.parent.name, sample.path.name))
            ),
            "label": CLASSES[int(sample.label)],
            "damage_percent": round(100 * p, 2),
        }
        for _, sample, p in sorted(wrong, key=lambda mistake: -mistake[0])[:WORST_KEPT]
    ]


class LabelledPhotos:
    """The photos of a folder or manifest that checkpoints are scored on, read once for all.

    Photos without splits are scored together, as the split `all`.

    Raises:
        DatasetError: They cannot be used.
    """

    def __init__(self, data: Path) -> None:
        self.title = data.name
        self.samples = read_samples(data)
        if all(sample.split == TRAIN for sample in self.samples):
            self.samples = [replace(sample, split="all") for sample in self.samples]
        self.held_out = [sample for sample in self.samples if sample.split != TRAIN]
        self._caches: dict[int, PhotoCache] = {}

    @property
    def answers(self) -> int:
        """How many answers `score` asks for, of photos as filed and turned."""
        of_split: dict[str, list[Sample]] = {}
        for sample in self.held_out:
            of_split.setdefault(sample.split, []).append(sample)
        return sum(len(photos) * (1 + _also_turned(photos)) for photos in of_split.values())

    def decoded(
        self, backbone: Backbone, on_photo: Callable[[int], Callable[[], None]]
    ) -> PhotoCache:
        """The photos held out, at the size that `backbone` is fed from."""
        side_px = working_side_px(backbone)
        if side_px not in self._caches:
            self._caches[side_px] = PhotoCache(side_px)
            self._caches[side_px].warm(self.held_out, on_photo(len(self.held_out)))
        return self._caches[side_px]


def evaluate(
    name: str,
    data: Path | LabelledPhotos,
    folder: Path,
    *,
    recalibrate: bool = False,
    heat_map_photos: int = 0,
    speed: bool = False,
    on_photo: Callable[[int], Callable[[], None]] = lambda total: lambda: None,
    on_answers: Callable[[int], None] = lambda n: None,
    on_heat_map: Callable[[int], Callable[[], None]] = lambda total: lambda: None,
    device: str = "",
) -> ModelCard:
    """Scores the checkpoint `name` on every split of `data` but `train`.

    Args:
        data: A folder or manifest, or what was read of it for the checkpoint before.
        recalibrate: Fit temperature and unsure band anew on the validation split; otherwise the
            card's hold.
        heat_map_photos: Damaged photos of `test`, or of the last split, on which the heat maps
            are examined by deletion and insertion.
        speed: Time an inspection against a named peer.
        on_photo: Told how many photos there are to read; what it returns is called at each.
        on_answers: As in `score`.
        on_heat_map: As `on_photo`, for the photos whose heat maps are examined.
        device: As in `Engine`.

    Returns:
        The checkpoint's card with these figures; nothing is written.

    Raises:
        HeritageError: The checkpoint or the data cannot be used.
    """
    checkpoint = load_checkpoint(name, folder, pointing=False)
    photos = LabelledPhotos(data) if isinstance(data, Path) else data
    samples = photos.samples
    if recalibrate and {s.label for s in samples if s.split == VALIDATION} != {0.0, 1.0}:
        raise DatasetError(
            photos.title,
            "it has no validation split with both classes",
            "leave out --update-cards",
        )
    lost = sorted(set(checkpoint.card.metrics) - {sample.split for sample in photos.held_out})
    if recalibrate and lost:
        raise CheckpointError(
            name,
            f"its card holds figures that {one_line(photos.title)} has no photos for: "
            f"{', '.join(map(one_line, lost))}",
            "leave out --update-cards, or score a copy of it (--weights)",
        )
    cache = photos.decoded(checkpoint.backbone, on_photo)
    engine = Engine(checkpoint, device)
    card = score(
        engine,
        checkpoint.card,
        samples,
        cache,
        recalibrate=recalibrate,
        on_answers=on_answers,
    )
    if heat_map_photos:
        split = "test" if "test" in card.metrics else list(card.metrics)[-1]
        figures = heat_map_figures(
            engine.answer,
            checkpoint.backbone,
            card.temperature,
            [sample for sample in samples if sample.split == split],
            cache,
            photos=heat_map_photos,
            on_photo=on_heat_map,
        )
        card = replace(card, heat_maps={"split": split} | figures)
    if speed:
        card = replace(card, speed=speed_figures(checkpoint))
    return card


def portable(config: TrainingConfig) -> dict[str, Any]:
    """The configuration as it is stored in a card: file names without their folders."""
    values = asdict(config)
    values["init"] = Path(config.init).name
    for key in ("teacher", "prune_of"):
        values[key] = Path(values[key]).name.removesuffix(WEIGHTS)
    return values
