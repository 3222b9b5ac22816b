"""Whether heat maps show what the answer rests on: deletion and insertion curves.

The hottest places of a photo are hidden first and the probability of damage is watched: it falls
early if the heat lies where the answer comes from (deletion, lower is better). The other way
round, they are uncovered first on a blurred photo (insertion, higher is better). After Petsiuk,
Das & Saenko 2018, RISE, arXiv:1806.07421, section 4.1; hidden means blurred, as in their
insertion game, because a grey hole would itself look like damage. Beside it stands the same with
places in random order, without which the numbers say nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2.functional import gaussian_blur

from heritage.backbones import Backbone
from heritage.engines import Answer
from heritage.inputs import network_input
from heritage.training.datasets import PhotoCache, Sample
from heritage.training.evaluation import bootstrap_interval

STEPS = 10
BLUR_SHARE = 0.06  # of the short side: cracks vanish, light and shade stay


def heat_map_figures(
    answer: Callable[[Tensor], Answer],
    backbone: Backbone,
    temperature: float,
    samples: Sequence[Sample],
    cache: PhotoCache,
    *,
    photos: int,
    on_photo: Callable[[int], Callable[[], None]] = lambda total: lambda: None,
) -> dict[str, Any]:
    """Deletion and insertion over up to `photos` damaged photos of `samples`.

    Args:
        answer: What says damage logits and heat of normalised RGB (B, 3, H, W), as an `Engine`.
        on_photo: Told how many photos there are; what it returns is called after each.

    Returns:
        `n`; `deletion`, `insertion` and the same `_random`, each the area under the curve with
        its 95 % interval over photos; and `curves`, the mean probability at each step.
    """
    damaged = sorted(
        (s for s in samples if s.label == 1), key=lambda s: zlib.crc32(s.path.name.encode())
    )[:photos]
    found: dict[str, list[np.ndarray]] = {}
    examined = on_photo(len(damaged))
    for index, sample in enumerate(damaged):
        x = network_input(cache.pixels(sample.path), backbone)
        for name, curve in _curves(answer, x, temperature, seed=index).items():
            found.setdefault(name, []).append(curve)
        examined()
    figures: dict[str, Any] = {"n": len(damaged)}
    for name, curves in found.items():
        areas = np.trapezoid(np.stack(curves), dx=1 / STEPS, axis=1)
        figures[name] = bootstrap_interval(areas)
    figures["curves"] = {
        name: [round(float(value), 4) for value in np.mean(curves, axis=0)]
        for name, curves in found.items()
    }
    return figures


def _curves(
    answer: Callable[[Tensor], Answer], x: Tensor, temperature: float, seed: int
) -> dict[str, np.ndarray]:
    """P(damaged) (STEPS + 1,) for each way of hiding places of x (1, 3, H, W)."""
    maps = answer(x).maps
    generator = torch.Generator().manual_seed(seed)
    orders = {"": maps, "_random": torch.rand(maps.shape, generator=generator)}
    side = min(x.shape[-2:])
    hidden = gaussian_blur(x, [round(side * BLUR_SHARE) * 4 + 1] * 2, [side * BLUR_SHARE] * 2)
    curves = {}
    for ending, order in orders.items():
        size = tuple(x.shape[-2:])
        heat = functional.interpolate(order[:, None], size, mode="bilinear").flatten()
        ranks = torch.empty_like(heat)
        ranks[heat.argsort(descending=True, stable=True)] = torch.linspace(0, 1, len(heat))
        shares = torch.linspace(0, 1, STEPS + 1).view(-1, 1, 1, 1)
        first = ranks.view(1, 1, *size) < shares  # (STEPS + 1, 1, H, W)
        for name, shown in (("deletion", ~first), ("insertion", first)):
            logits = answer(torch.where(shown, x, hidden)).logits.double().numpy()
            curves[name + ending] = expit(logits / temperature)
    return curves
