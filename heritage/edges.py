"""Where the bands should begin for photos like these, as the verdicts on some of them say.

On masonry unlike what a checkpoint learned from, the order of the photos is often right and the
place of the line wrong. Verdicts put it right without training: all edges move by one step on the
scale of log odds, while damage % and the order stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit

from heritage.bands import EDGE_STEP_PERCENT, BandThresholds
from heritage.priority import DAMAGED, PriorityRow, judged

LEAST_EACH = 10  # verdicts of damaged, and as many of sound, below which nothing is proposed
LEAST_GAIN_PERCENT = 2.0  # below it nothing is proposed
_FOLDS = 10
_FARTHEST = 0.1  # percent from 0 or 100 that the log odds are taken at, at most
_WITHIN_95 = 1.96


@dataclass(frozen=True)
class Proposal:
    """Edges that fit the verdicts, and how well they do.

    Attributes:
        thresholds: The edges.
        damaged: Photos found damaged that it rests on.
        sound: Photos found sound.
        now_percent: Mean share of damaged and of sound photos that the model sees as the expert
            does, with the edges as they are (balanced accuracy).
        then_percent: The same with edges found in this way from nine tenths of the verdicts, on the
            tenth left out, each in turn.
        gain_percent: Lower and upper end of the 95 % interval of their difference.
    """

    thresholds: BandThresholds
    damaged: int
    sound: int
    now_percent: float
    then_percent: float
    gain_percent: tuple[float, float]

    @property
    def helps(self) -> bool:
        """Whether verdicts that were left out are met better; how surely is for others to weigh."""
        return self.then_percent - self.now_percent >= LEAST_GAIN_PERCENT


def propose(rows: Sequence[PriorityRow], now: BandThresholds) -> Proposal | None:
    """The edges that the verdicts in `rows` speak for; None with too few of either kind."""
    counted = judged(rows)
    percent = np.array([row.damage_percent for row in counted], dtype=float)
    damaged = np.array([row.verdict == DAMAGED for row in counted], dtype=bool)
    if min(damaged.sum(), (~damaged).sum()) < LEAST_EACH:
        return None
    line = balanced_line(percent, damaged)
    as_now = (percent >= now.high_percent) == damaged
    as_then = np.zeros_like(as_now)
    fold = np.zeros(len(counted), int)
    for kind in (damaged, ~damaged):
        fold[kind] = np.arange(kind.sum()) % _FOLDS
    for number in range(_FOLDS):
        out = fold == number
        found = moved(now, balanced_line(percent[~out], damaged[~out])).high_percent
        as_then[out] = (percent[out] >= found) == damaged[out]
    gain, spread = _balanced(as_then.astype(float) - as_now, damaged)
    return Proposal(
        moved(now, line),
        int(damaged.sum()),
        int((~damaged).sum()),
        100 * _balanced(as_now.astype(float), damaged)[0],
        100 * _balanced(as_then.astype(float), damaged)[0],
        (100 * (gain - _WITHIN_95 * spread), 100 * (gain + _WITHIN_95 * spread)),
    )


def balanced_line(percent: np.ndarray, damaged: np.ndarray) -> float:
    """Damage % at which logistic regression puts the line between damaged and sound photos.

    The slope is the model's own and both kinds weigh the same, whatever their numbers, so that a
    few verdicts are enough: only the intercept is found (recalibration in the large; King & Zeng
    2001, doi:10.1093/oxfordjournals.pan.a004868, for the weights).

    Args:
        percent: Damage % (N,).
        damaged: (N,) of bool, with both kinds among them.
    """
    odds = _log_odds(percent)

    def excess(step: float) -> float:
        chance = expit(odds + step)
        return float(chance[damaged].mean() + chance[~damaged].mean() - 1)

    farthest = float(np.abs(odds).max()) + 1
    return float(100 * expit(-brentq(excess, -farthest, farthest)))


def moved(thresholds: BandThresholds, high_percent: float) -> BandThresholds:
    """The edges with High at `high_percent`, the others as far from it in log odds as before.

    Watch from 0 % and Urgent from 100 % switch a band off, and stay.
    """
    step = _log_odds(high_percent) - _log_odds(thresholds.high_percent)
    edges = np.array([thresholds.watch_percent, thresholds.high_percent, thresholds.urgent_percent])
    moved_percent = 100 * expit(_log_odds(edges) + step)
    rounded = EDGE_STEP_PERCENT * np.round(moved_percent / EDGE_STEP_PERCENT)
    watch, high, urgent = (float(edge) for edge in rounded)
    return BandThresholds(
        100.0 if thresholds.urgent_percent == 100 else urgent,
        high,
        0.0 if thresholds.watch_percent == 0 else watch,
    )


def _log_odds(percent: np.ndarray | float) -> np.ndarray:
    return np.asarray(logit(np.clip(percent, _FARTHEST, 100 - _FARTHEST) / 100))


def _balanced(values: np.ndarray, damaged: np.ndarray) -> tuple[float, float]:
    """Mean over both kinds of their means, and its standard error."""
    kinds = values[damaged], values[~damaged]
    variance = sum(kind.var() / len(kind) for kind in kinds) / 4
    return float(np.mean([kind.mean() for kind in kinds])), float(np.sqrt(variance))
