"""Do verdicts on some photos of a set put the bands right for the rest of it?

    python -m benchmarks.verdicts DATA [--backbone mobilenet_v2] [--draws 200]

For each held-out source with damaged and sound photos: some of each are drawn, whole groups of
near duplicates at a time, their labels given as verdicts. Where `edges.propose` sees a gain, its
edges are taken, else the usual ones. The figure is the balanced accuracy on the photos without a
verdict; brackets are the middle 95 % of the draws.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from heritage.bands import BandThresholds
from heritage.edges import propose
from heritage.inspection import Inspector
from heritage.priority import DAMAGED, SOUND, PriorityRow
from heritage.training.datasets import Sample, read_samples
from heritage.training.evaluation import figures

HELD_OUT = ("test", "test_other_source")
VERDICTS_EACH = (10, 20, 40)
Photos = dict[str, list[PriorityRow]]  # by group


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--draws", type=int, default=200)
    given = parser.parse_args()
    inspector = Inspector(given.backbone)
    print(
        f"{inspector.card.title}, {given.draws} draws\n\n"
        "| source | photos | verdicts | bands moved | without them | with them | gain, points |\n"
        "|---|--:|--:|--:|--:|--:|--:|"
    )
    for source, samples in both_kinds(read_samples(given.data)).items():
        photos = inspected(inspector, samples)
        for each in VERDICTS_EACH:
            if each > most_each(samples):
                continue
            rng = np.random.default_rng(0)
            found = np.array([one_draw(photos, each, rng) for _ in range(given.draws)])
            before, after = 100 * found[:, 1], 100 * found[:, 2]
            low, high = np.percentile(after - before, (2.5, 97.5))
            print(
                f"| {source} | {len(samples)} | {each} + {each} | {found[:, 0].mean():.0%} "
                f"| {before.mean():.1f} % | {after.mean():.1f} % "
                f"| {(after - before).mean():+.1f} [{low:+.1f} to {high:+.1f}] |",
                flush=True,
            )


def both_kinds(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Held-out photos by source, of sources that hold damaged and sound ones."""
    found = defaultdict(list)
    for sample in samples:
        if sample.split in HELD_OUT:
            found[sample.source].append(sample)
    return {name: held for name, held in sorted(found.items()) if most_each(held) > 0}


def most_each(samples: Sequence[Sample]) -> int:
    """How many verdicts of each kind leave half of the rarer kind to be scored."""
    damaged = sum(sample.label for sample in samples)
    return min(damaged, len(samples) - damaged) // 2


def inspected(inspector: Inspector, samples: Sequence[Sample]) -> Photos:
    """Each photo with its damage %, and its label as the verdict."""
    photos: Photos = defaultdict(list)
    for sample in samples:
        row = PriorityRow(
            sample.path.name,
            damage_percent=inspector.inspect(sample.path).damage_percent,
            verdict=DAMAGED if sample.label else SOUND,
        )
        photos[sample.group].append(row)
    return photos


def one_draw(photos: Photos, each: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Whether the bands move, and the balanced accuracy on the rest before and after."""
    wanted = {DAMAGED: each, SOUND: each}
    judged: list[PriorityRow] = []
    rest: list[PriorityRow] = []
    for group in rng.permutation(sorted(photos)):
        rows = photos[group]
        if any(wanted[row.verdict] <= 0 for row in rows):
            rest += rows
            continue
        judged += rows
        for row in rows:
            wanted[row.verdict] -= 1
    usual = BandThresholds()
    found = propose(judged, usual)
    line = found.thresholds if found and found.helps else usual
    return float(line != usual), right(rest, usual), right(rest, line)


def right(rows: Sequence[PriorityRow], thresholds: BandThresholds) -> float:
    """Balanced accuracy with the line at High."""
    percent = np.array([row.damage_percent for row in rows])
    damaged = np.array([row.verdict == DAMAGED for row in rows])
    return figures(thresholds.high_percent)["balanced_accuracy"](percent, damaged)


if __name__ == "__main__":
    main()
