"""How well a checkpoint does: predictions over whole photos, figures with intervals, calibration.

Intervals are 95 % percentile bootstraps (Efron & Tibshirani 1993) that draw whole groups, so
that several photos of one building are not taken for independent evidence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.stats import rankdata
from torch import nn

from heritage.backbones import Backbone
from heritage.inputs import network_input
from heritage.training.datasets import PhotoCache, Sample

BOOTSTRAP_DRAWS = 1000
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


@torch.no_grad()
def predict(
    model: nn.Module,
    backbone: Backbone,
    samples: Sequence[Sample],
    cache: PhotoCache,
    *,
    batch_size: int = 32,
    on_batch: Callable[[int], None] = lambda n: None,
) -> Predictions:
    """Damage logits of whole photos, aspect kept, photos of equal input shape in one batch."""
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    logits = np.zeros(len(samples))
    waiting: dict[tuple[int, ...], list[tuple[int, torch.Tensor]]] = defaultdict(list)

    def flush(shape: tuple[int, ...]) -> None:
        batch = waiting.pop(shape)
        x = torch.cat([x for _, x in batch]).contiguous(memory_format=torch.channels_last)
        logits[[i for i, _ in batch]] = model(x.to(device)).flatten().double().cpu().numpy()
        on_batch(len(batch))

    try:
        for index, sample in enumerate(samples):
            x = network_input(cache.pixels(sample.path), backbone)
            waiting[tuple(x.shape)].append((index, x))
            if len(waiting[tuple(x.shape)]) == batch_size:
                flush(tuple(x.shape))
        for shape in list(waiting):
            flush(shape)
    finally:
        model.train(was_training)
    return Predictions(
        logits,
        np.array([sample.label for sample in samples]),
        tuple(sample.source for sample in samples),
        tuple(sample.group for sample in samples),
    )


def fit_temperature(predictions: Predictions) -> float:
    """The temperature that minimises the class-balanced log loss (Guo et al. 2017, section 4.2)."""
    found = minimize_scalar(
        lambda log_temperature: balanced_log_loss(predictions, float(np.exp(log_temperature))),
        bounds=(np.log(0.2), np.log(10.0)),
        method="bounded",
    )
    return float(np.exp(found.x))


def balanced_log_loss(predictions: Predictions, temperature: float = 1.0) -> float:
    """Log loss of logits / `temperature` in which both classes weigh the same; lower is better."""
    signed = np.where(predictions.labels == 1, predictions.logits, -predictions.logits)
    weights = _class_weights(predictions.labels)
    return float(np.average(np.logaddexp(0, -signed / temperature), weights=weights))


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error over equal-width bins of P(damaged) (Naeini et al. 2015)."""
    index = np.minimum((probabilities * bins).astype(int), bins - 1)
    gaps = [
        abs(probabilities[index == b].mean() - labels[index == b].mean()) * (index == b).mean()
        for b in range(bins)
        if (index == b).any()
    ]
    return float(sum(gaps))


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

    return {
        "accuracy": lambda p, y: float(((p >= threshold) == (y == 1)).mean()),
        "balanced_accuracy": lambda p, y: (hit(p, y, True) + hit(p, y, False)) / 2,
        "auroc": auroc,
        "f1": f1,
        "recall_damaged": lambda p, y: hit(p, y, True),
        "recall_sound": lambda p, y: hit(p, y, False),
        "ece": lambda p, y: calibration_error(p, y),
    }


ONE_CLASS_FIGURES = {0: ("recall_sound",), 1: ("recall_damaged",)}


def report(
    predictions: Predictions, temperature: float, threshold: float = 0.5, *, seed: int = 0
) -> dict[str, Any]:
    """Figures with 95 % intervals over all photos and, under `sources`, for each source.

    A source that holds one class only gets that class's recall and no other figure.
    """
    table = _figures_with_intervals(predictions, temperature, threshold, seed)
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
        table[name] = {
            "value": round(value, 4),
            "low": round(min(float(low), value), 4),
            "high": round(max(float(high), value), 4),
        }
    return table


def _class_weights(labels: np.ndarray) -> np.ndarray:
    damaged = labels == 1
    return np.where(damaged, 0.5 / max(damaged.sum(), 1), 0.5 / max((~damaged).sum(), 1))
