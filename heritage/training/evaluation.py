"""How well a checkpoint does: predictions over whole photos, figures with intervals, calibration.

Intervals are 95 % percentile bootstraps (Efron & Tibshirani 1993) that draw whole groups, so
that several photos of one building are not taken for independent evidence. A perfect score leaves
them no width, and neither does a single building: there, and with few groups, they are widened to
the exact interval of so many groups (Clopper & Pearson 1934, with an effective number of cases as
in Korn & Graubard 1998).
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.stats import beta, rankdata
from torch import nn

from heritage.backbones import Backbone
from heritage.inputs import network_input
from heritage.training.datasets import PhotoCache, Sample

BOOTSTRAP_DRAWS = 1000
FEW_GROUPS = 10
Figure = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Predictions:
    """Logits of N photos with their labels.

    Attributes:
        logits: (N,) float64, uncalibrated.
        labels: (N,) of 0 and 1.
        sources: N collection names.
        groups: N group names.
    """

    logits: np.ndarray
    labels: np.ndarray
    sources: tuple[str, ...]
    groups: tuple[str, ...]

    def take(self, chosen: Sequence[int] | np.ndarray) -> Predictions:
        """The predictions at the positions `chosen`."""
        return Predictions(
            self.logits[chosen],
            self.labels[chosen],
            tuple(self.sources[i] for i in chosen),
            tuple(self.groups[i] for i in chosen),
        )


def predict(
    model: nn.Module,
    backbone: Backbone,
    samples: Sequence[Sample],
    cache: PhotoCache | TurnedPhotos,
    *,
    batch_size: int = 32,
) -> Predictions:
    """Damage logits of whole photos by a network in PyTorch; see `answered`."""
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        with torch.no_grad():
            return answered(
                lambda x: model(x.to(device)), backbone, samples, cache, batch_size=batch_size
            )
    finally:
        model.train(was_training)


def answered(
    logits_of: Callable[[torch.Tensor], torch.Tensor],
    backbone: Backbone,
    samples: Sequence[Sample],
    cache: PhotoCache | TurnedPhotos,
    *,
    batch_size: int = 32,
    on_batch: Callable[[int], None] = lambda n: None,
) -> Predictions:
    """Damage logits of whole photos, aspect kept, photos of equal input shape in one batch.

    Args:
        logits_of: From normalised RGB (B, 3, H, W) to B logits.
        on_batch: Told how many photos more have been answered.
    """
    logits = np.zeros(len(samples))
    waiting: dict[tuple[int, ...], list[tuple[int, torch.Tensor]]] = defaultdict(list)

    def flush(shape: tuple[int, ...]) -> None:
        batch = waiting.pop(shape)
        x = torch.cat([x for _, x in batch]).contiguous(memory_format=torch.channels_last)
        logits[[i for i, _ in batch]] = logits_of(x).flatten().double().cpu().numpy()
        on_batch(len(batch))

    for index, sample in enumerate(samples):
        x = network_input(cache.pixels(sample.path), backbone)
        waiting[tuple(x.shape)].append((index, x))
        if len(waiting[tuple(x.shape)]) == batch_size:
            flush(tuple(x.shape))
    for shape in list(waiting):
        flush(shape)
    return Predictions(
        logits,
        np.array([sample.label for sample in samples]),
        tuple(sample.source for sample in samples),
        tuple(sample.group for sample in samples),
    )


def fit_temperature(predictions: Predictions) -> float:
    """The temperature that minimises the class-balanced log loss (Guo et al. 2017, section 4.2).

    Without a single mistake the loss falls for ever as answers get surer, so it is 1 at least.
    """
    mistaken = (predictions.logits > 0) != (predictions.labels == 1)
    found = minimize_scalar(
        lambda log_temperature: balanced_log_loss(predictions, float(np.exp(log_temperature))),
        bounds=(np.log(0.2) if mistaken.any() else 0.0, np.log(10.0)),
        method="bounded",
    )
    return float(np.exp(found.x))


def balanced_log_loss(predictions: Predictions, temperature: float = 1.0) -> float:
    """Log loss of logits / `temperature` in which both classes weigh the same; lower is better."""
    signed = np.where(predictions.labels == 1, predictions.logits, -predictions.logits)
    weights = _class_weights(predictions.labels)
    return float(np.average(np.logaddexp(0, -signed / temperature), weights=weights))


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 10
) -> list[dict[str, float]]:
    """The reliability diagram over equal-width bins of P(damaged) (Guo et al. 2017, figure 1).

    Returns:
        For each bin that holds photos: `n`, the mean `probability`, and the share `damaged`.
    """
    index = _bin_of(probabilities, bins)
    return [
        {
            "n": int((index == b).sum()),
            "probability": round(float(probabilities[index == b].mean()), 6),
            "damaged": round(float(labels[index == b].mean()), 6),
        }
        for b in range(bins)
        if (index == b).any()
    ]


def _bin_of(probabilities: np.ndarray, bins: int) -> np.ndarray:
    return np.minimum((probabilities * bins).astype(int), bins - 1)


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error over equal-width bins of P(damaged) (Naeini et al. 2015)."""
    found = reliability(probabilities, labels, bins)
    return sum(abs(b["probability"] - b["damaged"]) * b["n"] for b in found) / len(labels)


def calibration_by_chance(
    probabilities: np.ndarray, bins: int = 10, *, draws: int = 1000, seed: int = 0
) -> tuple[list[dict[str, float]], dict[str, float]]:
    """What chance alone would show were each of `probabilities` (N,) exactly right.

    Labels are drawn from the probabilities themselves, each photo for itself: the consistency
    bars of Bröcker & Smith (2007). Without them the calibration error says little, as that of few
    photos is never zero. Where photos of one building share a label, chance does more than this.

    Returns:
        For each bin of `reliability` the `low` and `high` end of the middle 95 % of the share
        damaged, and the same two for the calibration error.
    """
    rng = np.random.default_rng(seed)
    _, index, counts = np.unique(
        _bin_of(probabilities, bins), return_inverse=True, return_counts=True
    )
    told = np.bincount(index, probabilities) / counts
    shares = np.array(
        [np.bincount(index, rng.random(len(index)) < probabilities) for _ in range(draws)]
    )
    shares = shares / counts  # (draws, bins)
    errors = np.abs(shares - told) @ counts / len(probabilities)  # (draws,)
    ends = np.percentile(shares, [2.5, 97.5], axis=0).T
    low, high = np.percentile(errors, [2.5, 97.5])
    return (
        [{"low": round(float(a), 6), "high": round(float(b), 6)} for a, b in ends],
        {"low": round(float(low), 4), "high": round(float(high), 4)},
    )


def confusion(
    probabilities: np.ndarray, labels: np.ndarray, threshold: float = 0.5
) -> dict[str, int]:
    """Photos by what they are and what they were called, such as `damaged_called_sound`."""
    called = probabilities >= threshold
    return {
        f"{truth}_called_{answer}": int(((labels == is_damaged) & (called == says_damaged)).sum())
        for truth, is_damaged in (("damaged", 1), ("sound", 0))
        for answer, says_damaged in (("damaged", True), ("sound", False))
    }


def unsure_band(
    probabilities: np.ndarray,
    labels: np.ndarray,
    threshold: float = 0.5,
    wrong_share: float = 0.05,
) -> tuple[float, float]:
    """The probabilities between which an answer is too often wrong to go by it.

    Below the band at most `wrong_share` of the photos are damaged, above it at most that share
    are sound, both classes weighed alike; reject option after Chow (1970).

    Returns:
        Its two ends; both the threshold where the answers are good enough right up to it.
    """
    weights = _class_weights(labels)
    called = probabilities >= threshold
    if all(
        np.average(labels[part] != answer, weights=weights[part]) <= wrong_share
        for part, answer in ((called, 1), (~called, 0))
        if part.any()
    ):
        return threshold, threshold
    order = np.argsort(probabilities, kind="stable")

    def first_good(order: np.ndarray, wrong: np.ndarray, side: np.ndarray) -> float | None:
        """The innermost probability on its side up to which few enough are wrong."""
        share = np.cumsum((weights * wrong)[order]) / np.cumsum(weights[order])
        ends_tie = np.append(np.diff(probabilities[order]) != 0, True)
        good = np.flatnonzero((share <= wrong_share) & ends_tie & side[order])
        return float(probabilities[order[good[-1]]]) if len(good) else None

    low = first_good(order, labels == 1, ~called)
    high = first_good(order[::-1], labels == 0, called)
    low, high = 0.0 if low is None else low, 1.0 if high is None else high
    return round(low, 4), round(high, 4)


def auroc(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Chance that a damaged photo scores above a sound one, ties half (Mann & Whitney 1947)."""
    damaged = labels == 1
    n_damaged, n_sound = damaged.sum(), (~damaged).sum()
    above = rankdata(probabilities)[damaged].sum() - n_damaged * (n_damaged + 1) / 2
    return float(above / (n_damaged * n_sound))


def figures(threshold: float) -> dict[str, Figure]:
    """The figures every card reports, each a function of (probabilities, labels)."""

    def hit(p: np.ndarray, y: np.ndarray, positive: bool) -> float:
        of_class = y == (1 if positive else 0)
        return float(((p >= threshold) == positive)[of_class].mean())

    def f1(p: np.ndarray, y: np.ndarray) -> float:
        called, true = p >= threshold, y == 1
        return float(2 * (called & true).sum() / (called.sum() + true.sum()))

    def precision(p: np.ndarray, y: np.ndarray) -> float:
        called = p >= threshold
        return float((y[called] == 1).mean()) if called.any() else 0.0

    return {
        "accuracy": lambda p, y: float(((p >= threshold) == (y == 1)).mean()),
        "balanced_accuracy": lambda p, y: (hit(p, y, True) + hit(p, y, False)) / 2,
        "auroc": auroc,
        "precision": precision,
        "f1": f1,
        "recall_damaged": lambda p, y: hit(p, y, True),
        "recall_sound": lambda p, y: hit(p, y, False),
        "ece": lambda p, y: calibration_error(p, y),
        "brier": lambda p, y: float(((p - y) ** 2).mean()),
    }


class TurnedPhotos:
    """The photos of a cache, each turned by quarter turns that its file name decides.

    In a collection whose two classes were filed in different orientations, figures fall when all
    are turned at random if the network went by that.
    """

    def __init__(self, cache: PhotoCache) -> None:
        self.cache = cache

    def pixels(self, path: Path) -> np.ndarray:
        """RGB (h, w, 3) or (w, h, 3) uint8."""
        turns = hashlib.sha256(path.name.encode()).digest()[0] % 4
        return np.ascontiguousarray(np.rot90(self.cache.pixels(path), turns))


def headline(
    predictions: Predictions, temperature: float, threshold: float = 0.5, *, seed: int = 0
) -> dict[str, Any]:
    """The figures that are also given for turned photos, with their intervals."""
    table = _figures_with_intervals(predictions, temperature, threshold, seed)
    kept = ("n", "accuracy", "balanced_accuracy", "auroc")
    return {name: table[name] for name in kept if name in table}


ONE_CLASS_FIGURES = {0: ("recall_sound",), 1: ("recall_damaged",)}


def report(
    predictions: Predictions, temperature: float, threshold: float = 0.5, *, seed: int = 0
) -> dict[str, Any]:
    """Figures with 95 % intervals over all photos and, under `sources`, for each source.

    A source that holds one class only gets that class's recall and no other figure. Of all
    photos together there are also the `confusion` matrix and the `reliability` diagram, as it is
    and `reliability_before` the temperature; `ece_by_chance` and the `low` and `high` of its bins
    are what chance would leave of a perfect calibration.
    """
    table = _figures_with_intervals(predictions, temperature, threshold, seed)
    if len(set(predictions.labels)) < 2:
        return table
    probabilities = expit(predictions.logits / temperature)
    table["confusion"] = confusion(probabilities, predictions.labels, threshold)
    bars, table["ece_by_chance"] = calibration_by_chance(probabilities, seed=seed)
    found = reliability(probabilities, predictions.labels)
    table["reliability"] = [one | bar for one, bar in zip(found, bars, strict=True)]
    table["reliability_before"] = reliability(expit(predictions.logits), predictions.labels)
    sources = sorted(set(predictions.sources))
    if len(sources) > 1:
        names = np.array(predictions.sources)
        table["sources"] = {
            source: _figures_with_intervals(
                predictions.take(np.flatnonzero(names == source)), temperature, threshold, seed
            )
            for source in sources
        }
    return table


def _figures_with_intervals(
    predictions: Predictions, temperature: float, threshold: float, seed: int
) -> dict[str, Any]:
    probabilities = expit(predictions.logits / temperature)
    labels = predictions.labels
    present = sorted({int(label) for label in labels})
    chosen = figures(threshold)
    if len(present) == 1:
        chosen = {name: chosen[name] for name in ONE_CLASS_FIGURES[present[0]]}
    draws: dict[str, list[float]] = {name: [] for name in chosen}
    rng = np.random.default_rng(seed)
    _, group_of = np.unique(np.array(predictions.groups), return_inverse=True)
    members = [np.flatnonzero(group_of == g) for g in range(group_of.max() + 1)]
    fewest = min(len(set(group_of[labels == label])) for label in present)
    for _ in range(BOOTSTRAP_DRAWS):
        drawn = rng.integers(0, len(members), len(members))
        index = np.concatenate([members[g] for g in drawn])
        if len(set(labels[index])) < len(present):
            continue
        for name, figure in chosen.items():
            draws[name].append(figure(probabilities[index], labels[index]))
    table: dict[str, Any] = {
        "n": len(labels),
        "n_damaged": int((labels == 1).sum()),
        "n_sound": int((labels == 0).sum()),
    }
    for name, figure in chosen.items():
        value = figure(probabilities, labels)
        # Redrawing biases the calibration error upwards, at times past the value itself.
        low, high = np.percentile(draws[name], [2.5, 97.5])
        low, high = _wide_enough(value, min(low, value), max(high, value), fewest)
        table[name] = {"value": round(value, 4), "low": round(low, 4), "high": round(high, 4)}
    if len(present) == 2:
        _widen_by_class(table)
    return table


def _widen_by_class(table: dict[str, Any]) -> None:
    """Widens the interval of the balanced accuracy to what those of its two halves leave of it.

    A class without a mistake is the same in every draw, so that the bootstrap of the mean takes
    it for certain. The ends are those of a sum of independent estimates (Zou & Donner 2008,
    doi 10.1002/sim.3095).
    """
    mean, halves = table["balanced_accuracy"], (table["recall_damaged"], table["recall_sound"])
    below, above = (
        math.hypot(*(half["value"] - half[end] for half in halves)) / 2 for end in ("low", "high")
    )
    mean["low"] = round(min(mean["low"], mean["value"] - below), 4)
    mean["high"] = round(max(mean["high"], mean["value"] + above), 4)


def _wide_enough(value: float, low: float, high: float, cases: int) -> tuple[float, float]:
    """A bootstrap's ends, widened to those of a share of so many `cases` where it cannot tell."""
    if cases >= FEW_GROUPS and high - low > 0:
        return float(low), float(high)
    hits = value * cases
    least = beta.ppf(0.025, hits, cases - hits + 1) if value > 0 else 0.0
    most = beta.ppf(0.975, hits + 1, cases - hits) if value < 1 else 1.0
    return float(min(low, least)), float(max(high, most))


def bootstrap_interval(values: np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """Mean of independent `values` (N,) in [0, 1] with its 95 % interval."""
    rng = np.random.default_rng(seed)
    drawn = values[rng.integers(0, len(values), (BOOTSTRAP_DRAWS, len(values)))].mean(1)
    value = float(values.mean())
    low, high = np.percentile(drawn, [2.5, 97.5])
    low, high = _wide_enough(value, low, high, len(values))
    return {"value": round(value, 4), "low": round(low, 4), "high": round(high, 4)}


def _class_weights(labels: np.ndarray) -> np.ndarray:
    damaged = labels == 1
    return np.where(damaged, 0.5 / max(damaged.sum(), 1), 0.5 / max((~damaged).sum(), 1))
