"""Training the cascade without showing stage 2 maps of photos that stage 1 knows by heart.

A network's heat maps on photos it was trained on are cleaner than on new ones. If stage 2 learns
from such maps it trusts them too much and looks better than it is. So the training photos are
split into folds of whole buildings, each fold's maps come from a stage 1 that has not seen it,
and only the maps of new photos come from the stage 1 that the checkpoint holds (out-of-fold
predictions as in stacking, Wolpert 1992). Photos without labels belong to no fold: where there are
any, the stage 1 of every fold begins with what a teacher has told of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import binomtest, permutation_test
from sklearn.model_selection import StratifiedGroupKFold

from heritage.backbones import CASCADE, CASCADE_STAGES, get_backbone
from heritage.cascade import CascadeFeatures, overlaid
from heritage.checkpoints import Checkpoint, load_checkpoint, load_features
from heritage.classifiers import DamageClassifier, build_classifier, normalise
from heritage.errors import DatasetError, TrainingError
from heritage.heatmaps import grad_cam
from heritage.inputs import network_input
from heritage.training.config import STAGE_TWO_EPOCHS, EpochRecord, Listener, TrainingConfig
from heritage.training.datasets import (
    CACHE_LIMIT_BYTES,
    TRAIN,
    VALIDATION,
    PhotoCache,
    Sample,
    check_both_classes,
)
from heritage.training.devices import ALONE, Devices
from heritage.training.evaluation import Predictions, predict
from heritage.training.fitting import fit

FOLDS = 3
OUT_OF_FOLD = "out-of-fold"
STAGES_TWO = (OUT_OF_FOLD, "leaky", "plain")
LEAKY = "a cascade trained on leaky maps"
START = "start"
PARTS = (START, *(f"fold-{fold}" for fold in range(FOLDS)), *STAGES_TWO)  # folders within a run
OVERLAYS = "overlays"
FOLD_SHARE, FOLD_RATE = 0.6, 0.3  # of the epochs and the rate, after photos without labels
STAGE_TWO_BATCH, STAGE_TWO_RATE, STAGE_TWO_PATIENCE = 16, 5e-5, 3


def epochs_in_all(
    config: TrainingConfig, second_epochs: int = STAGE_TWO_EPOCHS, *, unlabelled: bool = False
) -> int:
    """How many epochs a cascade takes at most: of the folds, then of three stages 2."""
    return _first_epochs(config, unlabelled) + len(STAGES_TWO) * second_epochs


def _first_epochs(config: TrainingConfig, unlabelled: bool) -> int:
    """Epochs of what comes before the stages 2."""
    start = config.epochs if unlabelled else 0
    return start + FOLDS * _fold_epochs(config, unlabelled)


def _fold_epochs(config: TrainingConfig, unlabelled: bool) -> int:
    """Fewer, where the photos without labels have gone before."""
    return max(1, round(FOLD_SHARE * config.epochs)) if unlabelled else config.epochs


@dataclass(frozen=True)
class CascadeRun:
    """What training a cascade leaves.

    Attributes:
        model: The leak-free cascade.
        history: Epochs of its stage 2.
        settings: How that was trained.
        rivals: What stage 1 alone, the same stage 2 on plain photos, and a cascade whose stage 2
            learned from maps of photos that stage 1 knew say of the photos held out.
    """

    model: DamageClassifier
    history: list[EpochRecord]
    settings: TrainingConfig
    rivals: dict[str, Predictions]


class OverlaidPhotos(PhotoCache):
    """A cache whose photos carry the heat of a stage 1, which may differ from photo to photo.

    What memory does not hold goes to the folder `beyond`: a forked worker cannot make it again on
    a GPU.
    """

    def __init__(
        self,
        plain: PhotoCache,
        reader_of: Callable[[Path], DamageClassifier],
        beyond: Path,
        limit_bytes: int = CACHE_LIMIT_BYTES,
    ) -> None:
        super().__init__(plain.short_side_px, limit_bytes)
        self._plain, self._reader_of, self._beyond = plain, reader_of, beyond
        self._written: dict[Path, Path] = {}

    def _make(self, path: Path) -> np.ndarray:
        """Upright RGB (h, w, 3) uint8 with heat over it."""
        if path in self._written:
            return np.asarray(np.load(self._written[path], allow_pickle=False))
        made = self._overlay(path)
        if made.nbytes > self._left:
            self._written[path] = self._put_by(made)
        return made

    def _put_by(self, pixels: np.ndarray) -> Path:
        file = self._beyond / f"{len(self._written)}.npy"
        try:
            self._beyond.mkdir(parents=True, exist_ok=True)
            np.save(file, pixels, allow_pickle=False)
        except OSError as error:
            raise TrainingError(
                str(self._beyond), f"it cannot be written to ({error.strerror})", "make room there"
            ) from error
        return file

    @torch.no_grad()
    def _overlay(self, path: Path) -> np.ndarray:
        backbone = get_backbone(CASCADE_STAGES[0])
        pixels = self._plain.pixels(path)
        _, maps = grad_cam(self._reader_of(path), network_input(pixels, backbone))
        photo = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (backbone.mean, backbone.std))
        rgb = overlaid(normalise(photo, backbone), maps) * std + mean
        return (rgb[0] * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def train_cascade(
    config: TrainingConfig,
    samples: list[Sample],
    run_dir: Path,
    *,
    first: str,
    second_start: str,
    second_epochs: int = STAGE_TWO_EPOCHS,
    folder: Path,
    cache: PhotoCache,
    devices: Devices = ALONE,
    listen: Listener = lambda event: None,
) -> CascadeRun:
    """Trains a cascade and what it has to be compared with.

    Args:
        config: How the stage 1 of each fold is trained; its backbone is not looked at. With
            photos that carry no label, these are learned for so many epochs, once, and each fold
            from there for fewer, at a lower rate.
        samples: Photos; stage 1 models of the folds see no photo of their fold.
        run_dir: Where the runs in progress are kept, each going on after a stop.
        first: Checkpoint in `folder` that is the cascade's stage 1.
        second_start: `imagenet`, `scratch` or a file that stage 2 starts from.
        second_epochs: Epochs of stage 2 at most.
        folder: Where checkpoints are.
        cache: The photos.
        devices: Where the arithmetic is done; one process.
        listen: Told of every batch and epoch.

    Raises:
        HeritageError: A checkpoint or the data cannot be used.
    """
    checkpoint = load_checkpoint(first, folder)
    if checkpoint.card.backbone != CASCADE_STAGES[0] or checkpoint.card.pruned:
        raise TrainingError(
            first, f"stage 1 must be a whole {CASCADE_STAGES[0]}", "choose another --stage-one"
        )
    reader = checkpoint.model
    settings = _second_settings(config, second_start, second_epochs)
    if second_start not in ("imagenet", "scratch"):
        load_features(build_classifier(get_backbone(CASCADE_STAGES[1])), Path(second_start))
    fold_of, readers = _fold_readers(config, samples, run_dir, folder, cache, devices, listen)
    leak_free = OverlaidPhotos(
        cache,
        lambda path: readers.get(fold_of.get(path, -1), reader),
        run_dir / OVERLAYS / OUT_OF_FOLD,
    )
    labelled = [sample for sample in samples if sample.label == sample.label]
    begun = _first_epochs(config, unlabelled=len(labelled) < len(samples))
    second, history = _fit_second(
        settings,
        labelled,
        run_dir / OUT_OF_FOLD,
        photos=leak_free,
        checkpoint=checkpoint,
        folder=folder,
        devices=devices,
        listen=_later(listen, begun),
    )
    rivals = train_rivals(
        settings,
        labelled,
        run_dir,
        first=checkpoint,
        folder=folder,
        cache=cache,
        devices=devices,
        listen=_later(listen, begun + second_epochs),
    )
    return CascadeRun(_joined(reader, second), history, settings, rivals)


def train_rivals(
    settings: TrainingConfig,
    samples: list[Sample],
    run_dir: Path,
    *,
    first: Checkpoint,
    folder: Path,
    cache: PhotoCache,
    devices: Devices = ALONE,
    listen: Listener = lambda event: None,
) -> dict[str, Predictions]:
    """Trains what a cascade has to be compared with, and asks it about the photos held out.

    Args:
        settings: Those of the cascade's stage 2.
        samples: Photos with labels, as the cascade learned from; with none held out, nothing is
            trained.
        run_dir: Where the runs in progress are kept, each going on after a stop.
        first: The cascade's stage 1.
        folder: Where checkpoints are.
        cache: The photos.
        devices: Where the arithmetic is done; one process.
        listen: Told of every batch and epoch.

    Returns:
        What stage 1 alone, the same stage 2 on plain photos, and a cascade whose stage 2 learned
        from maps of photos that stage 1 knew say of the photos held out.

    Raises:
        HeritageError: A checkpoint or the data cannot be used.
    """
    held_out = _held_out(samples)
    if not held_out:
        return {}
    reader = first.model
    leaky = OverlaidPhotos(cache, lambda path: reader, run_dir / OVERLAYS / "leaky")
    seconds = {
        name: _fit_second(
            settings,
            samples,
            run_dir / name,
            photos=photos,
            checkpoint=first,
            folder=folder,
            devices=devices,
            listen=_later(listen, number * settings.epochs),
        )[0]
        for number, (name, photos) in enumerate({"leaky": leaky, "plain": cache}.items())
    }
    return {
        title: predict(rival, get_backbone(backbone), held_out, cache)
        for title, rival, backbone in (
            (f"stage 1 alone ({first.card.name})", reader, CASCADE_STAGES[0]),
            ("the same ResNet on plain photos", seconds["plain"], CASCADE_STAGES[1]),
            (LEAKY, _joined(reader, seconds["leaky"]), CASCADE),
        )
    }


def _fit_second(
    settings: TrainingConfig,
    labelled: list[Sample],
    run_dir: Path,
    *,
    photos: PhotoCache,
    checkpoint: Checkpoint,
    folder: Path,
    devices: Devices,
    listen: Listener,
) -> tuple[DamageClassifier, list[EpochRecord]]:
    """A stage 2 on `photos`; `checkpoint` is the stage 1 whose heat may lie over them."""
    # A forked worker could not make them on a GPU once gradients have been taken.
    photos.warm(labelled)
    return fit(
        settings,
        labelled,
        run_dir,
        teacher_folder=folder,
        listen=listen,
        cache=photos,
        devices=devices,
        made_with=checkpoint.card.sha256,
    )


def _held_out(samples: list[Sample]) -> list[Sample]:
    return [s for s in samples if s.label == s.label and s.split not in (TRAIN, VALIDATION)]


def compare(
    model: DamageClassifier,
    rivals: dict[str, Predictions],
    samples: list[Sample],
    cache: PhotoCache,
) -> dict[str, dict[str, Any]]:
    """Paired tests of a cascade, its weights as they are stored, against its rivals.

    And of the leaky one among these against the others: what its gain would have been taken for.

    Returns:
        For each rival, for each split that was held out: as `paired_test`.
    """
    if not rivals:
        return {}
    held_out = _held_out(samples)
    ours = predict(model, get_backbone(CASCADE), held_out, cache)
    places: dict[str, list[int]] = {}
    for place, sample in enumerate(held_out):
        places.setdefault(sample.split, []).append(place)
    pairs = {title: (ours, theirs) for title, theirs in rivals.items()}
    pairs |= {
        f"with leaky maps, against {title}": (rivals[LEAKY], theirs)
        for title, theirs in rivals.items()
        if LEAKY in rivals and title != LEAKY
    }
    return {
        title: {
            split: paired_test(one.take(places[split]), other.take(places[split]))
            for split in sorted(places)
        }
        for title, (one, other) in pairs.items()
    }


def _second_settings(config: TrainingConfig, start: str, epochs: int) -> TrainingConfig:
    """The study's: batches of 16, 5e-5, early stopping. Crops are those of stage 1."""
    return replace(
        config,
        backbone=CASCADE_STAGES[1],
        init=start,
        epochs=epochs,
        batch_size=STAGE_TWO_BATCH,
        learning_rate=STAGE_TWO_RATE,
        head_rate_factor=1.0,
        patience=STAGE_TWO_PATIENCE,
        frozen_blocks=0,
        teacher="",
        prune=0.0,
    )


def paired_test(ours: Predictions, theirs: Predictions) -> dict[str, Any]:
    """McNemar's exact test on the photos that only one of two models gets right (1947).

    Returns:
        `n`, `only_this_right`, `only_other_right`, the two-sided `p`, which takes photos for
        independent, and `p_by_building`: of a permutation test that swaps the two models'
        answers for all photos of a building at once.
    """
    right = (ours.logits > 0) == (ours.labels == 1)
    other = (theirs.logits > 0) == (theirs.labels == 1)
    only_ours, only_theirs = right & ~other, ~right & other
    gains = pd.Series(only_ours.astype(int) - only_theirs, dtype=int)
    by_building = gains.groupby(list(ours.groups)).sum()
    differ = int(only_ours.sum() + only_theirs.sum())
    return {
        "n": len(right),
        "only_this_right": int(only_ours.sum()),
        "only_other_right": int(only_theirs.sum()),
        "p": round(float(binomtest(int(only_ours.sum()), differ).pvalue), 4) if differ else 1.0,
        "p_by_building": round(_permuted(by_building[by_building != 0].to_numpy()), 4),
    }


def _permuted(gains: np.ndarray) -> float:
    """Two-sided p of the sum of `gains` (B,), had each the other sign as easily."""
    if len(gains) == 0:
        return 1.0
    gains = np.append(gains, 0)  # which changes nothing, but SciPy asks for two at least
    found = permutation_test(
        (gains, np.zeros(len(gains))),
        lambda one, other, axis: np.sum(one - other, axis=axis),
        permutation_type="samples",
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def _fold_readers(
    config: TrainingConfig,
    samples: list[Sample],
    run_dir: Path,
    folder: Path,
    cache: PhotoCache,
    devices: Devices,
    listen: Listener,
) -> tuple[dict[Path, int], dict[int, DamageClassifier]]:
    """The fold of every training photo, and for each fold a stage 1 that has not seen it."""
    labelled = [s for s in samples if s.label == s.label]
    unlabelled = [s for s in samples if s.label != s.label]
    train = [s for s in labelled if s.split == TRAIN]
    rest = [s for s in labelled if s.split != TRAIN]
    groups = [sample.group for sample in train]
    of_class = ({s.group for s in train if s.label == label} for label in (0.0, 1.0))
    if min(map(len, of_class)) < FOLDS:
        raise DatasetError(
            "the train photos",
            f"a cascade needs {FOLDS} buildings at least of damaged and of sound photos each",
            "add photos of others",
        )
    settings = replace(config, backbone=CASCADE_STAGES[0], prune=0.0)
    begun, start = 0, None
    if unlabelled:
        begun = config.epochs
        start, _ = fit(
            replace(settings, full_size_epochs=0, full_size_px=0),
            unlabelled + rest,
            run_dir / START,
            teacher_folder=folder,
            listen=listen,
            cache=cache,
            devices=devices,
        )
        # Only the head starts from nothing.
        settings = replace(
            settings,
            epochs=_fold_epochs(config, True),
            learning_rate=config.learning_rate * FOLD_RATE,
            head_rate_factor=config.head_rate_factor / FOLD_RATE,
        )
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=config.seed)
    labels = [sample.label for sample in train]
    fold_of: dict[Path, int] = {}
    readers: dict[int, DamageClassifier] = {}
    folds = list(splitter.split(np.zeros(len(train)), labels, groups))
    for kept, _ in folds:
        check_both_classes([train[index] for index in kept], TRAIN)
    for fold, (kept, held) in enumerate(folds):
        fold_of |= {train[index].path: fold for index in held}
        readers[fold], _ = fit(
            settings,
            [train[index] for index in kept] + rest,
            run_dir / f"fold-{fold}",
            teacher_folder=folder,
            listen=_later(listen, begun + fold * settings.epochs),
            cache=cache,
            devices=devices,
            start=start,
            made_with=START if start else "",
        )
    return fold_of, readers


def _later(listen: Listener, epochs: int) -> Listener:
    """A listener that counts epochs on from those of the runs before."""
    return lambda event: listen(replace(event, epoch=event.epoch + epochs))


def _joined(reader: DamageClassifier, second: DamageClassifier) -> DamageClassifier:
    """One classifier of the two stages."""
    model = build_classifier(get_backbone(CASCADE))
    features = model.features
    assert isinstance(features, CascadeFeatures)
    features.first.load_state_dict(reader.state_dict())
    features.second.load_state_dict(second.features.state_dict())
    model.head.load_state_dict(second.head.state_dict())
    return model.requires_grad_(False).eval()
