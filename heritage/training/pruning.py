"""Structured pruning: whole channels go, so that the checkpoint is smaller and faster as it is.

Channels that depend on each other are found and removed together by Torch-Pruning (Fang et al.
2023, DepGraph, arXiv:2301.12900), the least important of each group first, by their L2 norm.
"""

from __future__ import annotations

import copy

import torch
import torch_pruning
from torch import nn

from heritage.classifiers import DamageClassifier, parameter_count
from heritage.errors import TrainingError

STEP = 0.01
ROUND_TO_CHANNELS = 8  # odd widths are slow on most processors
EXAMPLE_SIDE_PX = 128


def pruned(model: DamageClassifier, share: float) -> DamageClassifier:
    """A copy of `model` with at least `share` of the parameters removed; it needs fine-tuning.

    Args:
        model: A trained classifier.
        share: Above 0, below 1.

    Raises:
        TrainingError: So much cannot be removed.
    """
    enough = (1 - share) * parameter_count(model)
    # Between two pruned layers the parameters fall with the square of the channels.
    ratio = max(STEP, 1 - (1 - share) ** 0.5 - 2 * STEP)
    while ratio < 1:
        smaller = copy.deepcopy(model).eval().requires_grad_(True)
        last = [module for module in smaller.head if isinstance(module, nn.Linear)][-1]
        torch_pruning.pruner.BasePruner(
            smaller,
            torch.zeros(1, 3, EXAMPLE_SIDE_PX, EXAMPLE_SIDE_PX),
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=[last],
            round_to=ROUND_TO_CHANNELS,
        ).step()
        if parameter_count(smaller) <= enough:
            return smaller.requires_grad_(False)
        ratio += STEP
    raise TrainingError("prune", f"{share:.0%} of this network cannot be removed", "ask for less")
