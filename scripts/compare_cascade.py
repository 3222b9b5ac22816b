"""Compares a cascade with its rivals, which are trained for that and not kept.

    python scripts/compare_cascade.py DATA [--backbone cascade] [--runs FOLDER]

`train` does the same for a new cascade. Here its stage 1 alone, its stage 2 on plain photos and a
cascade on leaky maps are made with the settings in the card, and the paired tests go into the card.
DATA are the photos that the cascade has learned from. Takes about two hours on two slow cores; it
can be stopped at any time, and goes on where it was.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from heritage.backbones import CASCADE, CASCADE_STAGES  # noqa: E402
from heritage.cards import ModelCard, weights_dir  # noqa: E402
from heritage.checkpoints import (  # noqa: E402
    Checkpoint,
    check_writable,
    load_checkpoint,
    round_as_stored,
    update_card,
)
from heritage.cli import show_step  # noqa: E402
from heritage.errors import HeritageError, TrainingError  # noqa: E402
from heritage.inputs import working_side_px  # noqa: E402
from heritage.terminal import progress_bar  # noqa: E402
from heritage.training.cascade import compare, train_rivals  # noqa: E402
from heritage.training.config import EpochRecord, Step, TrainingConfig  # noqa: E402
from heritage.training.datasets import (  # noqa: E402
    TRAIN,
    VALIDATION,
    PhotoCache,
    count_by,
    read_samples,
    with_validation,
)
from heritage.training.jobs import reporting, runs_dir  # noqa: E402
from heritage.training.run import remove_run  # noqa: E402

NOTHING = 3
DRAWN_BY = {"share": "validation_share", "seed": "seed"}  # how the validation photos were drawn


class NothingToCompareError(HeritageError):
    """There is no such cascade, or not the photos or the stage 1 that it was made of."""


def main() -> int:
    """Returns 0, or with the reason on stderr 3 if there is nothing to compare, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default=CASCADE, help="the cascade's checkpoint")
    parser.add_argument("--stage-one", default=CASCADE_STAGES[0], help="checkpoint it was made of")
    parser.add_argument("--runs", type=Path, help="by default NAME-rivals among the runs")
    given = parser.parse_args()
    runs = given.runs or runs_dir() / f"{given.backbone}-rivals"
    try:
        card = rescored(given.backbone, given.data, runs, first=given.stage_one)
    except HeritageError as error:
        print(f"compare_cascade: {error}", file=sys.stderr)
        return NOTHING if isinstance(error, NothingToCompareError) else 1
    for other, splits in card.comparison.items():
        for split, found in splits.items():
            print(
                f"{other}, {split}: {found['only_this_right']} : {found['only_other_right']} of "
                f"{found['n']}, p = {found['p']}, by building {found['p_by_building']}"
            )
    return 0


def rescored(name: str, data: Path, runs: Path, *, first: str) -> ModelCard:
    """The card of the cascade `name`, its paired tests made anew from `data`.

    Raises:
        HeritageError: It is no cascade, or not of the stage 1 `first`; `data` are not the photos
            it learned from, or hold none aside.
    """
    folder = weights_dir()
    check_writable(folder)
    if not (folder / f"{name}.json").exists():
        raise NothingToCompareError(name, f"{folder.name} holds no such cascade", "train one")
    checkpoint = load_checkpoint(name, folder)
    card = checkpoint.card
    settings = stage_two(card, folder)
    stage_one = load_checkpoint(first, folder)
    _check_stage_one(checkpoint, stage_one)
    config = card.training.get("config", {})
    drawn = {key: config[of] for key, of in DRAWN_BY.items() if of in config}
    samples = read_samples(data)
    others = NothingToCompareError(
        data.name, f"{name} has learned from other photos", "name the folder it was trained on"
    )
    if in_all(count_by(samples)) != in_all(card.data.get("photos", {})):
        raise others
    samples = with_validation(samples, **drawn)
    if count_by(samples) != card.data.get("photos"):
        raise others
    if not {sample.split for sample in samples} - {TRAIN, VALIDATION}:
        raise NothingToCompareError(data.name, "it holds no photos aside", "add a split for them")
    cache = PhotoCache(working_side_px(checkpoint.backbone))
    with progress_bar() as progress, reporting(runs):
        reading = progress.add_task("reading photos", total=len(samples))
        cache.warm(samples, lambda: progress.advance(reading))
        fitting = progress.add_task("training", total=None, visible=False)

        def listen(event: Step | EpochRecord) -> None:
            if isinstance(event, Step):
                show_step(progress, fitting, event, 2 * settings.epochs)

        rivals = train_rivals(
            settings, samples, runs, first=stage_one, folder=folder, cache=cache, listen=listen
        )
        found = compare(checkpoint.model, rivals, samples, cache)
    card = update_card(replace(card, comparison=found), ["comparison"], folder)
    remove_run(runs)
    return card


def in_all(counts: dict[str, dict[str, int]]) -> Counter[str]:
    """Photos of each class, whatever their split."""
    return sum((Counter(of_split) for of_split in counts.values()), Counter())


def _check_stage_one(cascade: Checkpoint, first: Checkpoint) -> None:
    """Raises an error unless the stage 1 of `cascade` is `first`, as it is stored."""
    stored = copy.deepcopy(first.model)
    round_as_stored(stored, cascade.card.precision)
    theirs, ours = stored.state_dict(), cascade.model.features.first.state_dict()
    if theirs.keys() != ours.keys() or not all(torch.equal(theirs[k], v) for k, v in ours.items()):
        raise NothingToCompareError(
            first.card.name,
            f"it is not the stage 1 of {cascade.card.name}",
            "name the checkpoint it was made of with --stage-one",
        )


def stage_two(card: ModelCard, folder: Path) -> TrainingConfig:
    """How the stage 2 of a cascade was trained, by its card.

    Raises:
        TrainingError: It is no cascade's card.
    """
    told = card.training.get("stage_two")
    if card.backbone != CASCADE or not told:
        raise TrainingError(card.name, "it is no trained cascade", "choose another --backbone")
    known = {field.name for field in fields(TrainingConfig)}
    settings = TrainingConfig(**{key: value for key, value in told.items() if key in known})
    if settings.init in ("imagenet", "scratch"):
        return settings
    return replace(settings, init=str(folder / settings.init))


if __name__ == "__main__":
    sys.exit(main())
