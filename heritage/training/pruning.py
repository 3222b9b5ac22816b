"""Structured pruning: whole channels go, so that the checkpoint is smaller and faster as it is.

Channels that depend on each other are found and removed together by Torch-Pruning (Fang et al.
2023, DepGraph, arXiv:2301.12900). Those go first, in whatever layer, that matter least beside the
others of their layer that stay (LAMP, Lee et al. 2021, arXiv:2010.07611): the same share of every
layer would cost far more, as a narrow early one can spare nothing and a wide late one much.
"""

from __future__ import annotations

import copy

import torch
import torch_pruning
from torch import nn

from heritage.classifiers import DamageClassifier, parameter_count
from heritage.errors import TrainingError

STEPS = 100  # of a hundredth of the channels each
MOST_OF_A_LAYER = 0.8
NARROW = 32  # layers with no more channels stay whole: few parameters, and all later ones need them
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
    smaller = copy.deepcopy(model).eval().requires_grad_(True)
    last = [module for module in smaller.head if isinstance(module, nn.Linear)][-1]
    narrow = [
        module
        for module in smaller.features.modules()
        if isinstance(module, nn.Conv2d) and module.out_channels <= NARROW
    ]
    pruner = torch_pruning.pruner.BasePruner(
        smaller,
        torch.zeros(1, 3, EXAMPLE_SIDE_PX, EXAMPLE_SIDE_PX),
        importance=torch_pruning.importance.LAMPImportance(p=2),
        global_pruning=True,
        pruning_ratio=1.0,
        max_pruning_ratio=MOST_OF_A_LAYER,
        iterative_steps=STEPS,
        ignored_layers=[last, *narrow],
        round_to=ROUND_TO_CHANNELS,
    )
    for _ in range(STEPS):
        pruner.step()
        if parameter_count(smaller) <= enough:
            return smaller.requires_grad_(False)
    raise TrainingError("prune", f"{share:.0%} of this network cannot be removed", "ask for less")
