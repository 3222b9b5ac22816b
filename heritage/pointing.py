"""A head that points: a damage heat map at a quarter of the input's size, from a frozen backbone.

Grad-CAM explains one answer on a grid of 32-pixel cells, too coarse for a crack. This head reads
several depths of the same backbone, merges them from coarse to fine (a feature pyramid, Lin et al.
2017, arXiv:1612.03144) and says for every place how likely it is damaged. The classifier stays as
it is, and so does its damage %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from heritage.backbones import Backbone
from heritage.errors import BackboneError

FINEST_STRIDE, COARSEST_STRIDE = 4, 32
WIDTH = 32


class PointingHead(nn.Module):
    """Merges feature maps of several depths into one map of damage logits.

    Args:
        depths: Channels of the feature maps, finest first.
        width: Channels in between.
    """

    def __init__(self, depths: Sequence[int], width: int = WIDTH) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(depth, width, 1, bias=False), nn.BatchNorm2d(width))
            for depth in depths
        )
        self.merges = nn.ModuleList(_separable(width) for _ in depths[1:])
        self.last = _separable(width)
        self.logit = nn.Conv2d(width, 1, 1)

    def forward(self, taps: Sequence[Tensor]) -> Tensor:
        """Maps features [(B, C_i, h_i, w_i)], finest first, to damage logits (B, h_0, w_0)."""
        x = self.laterals[-1](taps[-1])
        for level in reversed(range(len(taps) - 1)):
            tap = taps[level]
            grown = functional.interpolate(x, tap.shape[-2:], mode="bilinear", align_corners=False)
            x = self.merges[level](self.laterals[level](tap) + grown)
        return self.logit(self.last(x))[:, 0]


class PointingFeatures(nn.Module):
    """A backbone with its pointing head.

    Args:
        features: The backbone's layers, run one after the other.
        taps: Positions of the layers whose outputs the head reads, finest first.
        pointer: The head.
    """

    def __init__(self, features: nn.Sequential, taps: Sequence[int], pointer: PointingHead) -> None:
        super().__init__()
        self.features, self.taps, self.pointer = features, tuple(taps), pointer

    def forward(self, x: Tensor) -> Tensor:
        """Maps normalised RGB (B, 3, H, W) to damage logits (B, h, w), h about H/4."""
        return self.pointer(tapped(self.features, self.taps, x))


def tapped(features: nn.Sequential, taps: Sequence[int], x: Tensor) -> list[Tensor]:
    """What the layers at positions `taps` give for normalised RGB `x` (B, 3, H, W)."""
    found = []
    for position, layer in enumerate(features):
        x = layer(x)
        if position in taps:
            found.append(x)
    return found


def tap_points(
    features: nn.Sequential, backbone: Backbone
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where a head can read a backbone: the last layer at each stride from 4 to 32.

    Returns:
        Positions and channels of these layers, finest first.
    """
    side = backbone.input_size_px
    last: dict[int, tuple[int, int]] = {}
    with torch.no_grad():
        x = torch.zeros(1, 3, side, side, device=next(features.parameters()).device)
        for position, layer in enumerate(features):
            x = layer(x)
            stride = 2 ** round(math.log2(side / x.shape[-1]))
            if FINEST_STRIDE <= stride <= COARSEST_STRIDE:
                last[stride] = position, x.shape[1]
    positions, depths = zip(*(last[stride] for stride in sorted(last)), strict=True)
    return positions, depths


def sequence_of(features: nn.Module, backbone: Backbone) -> nn.Sequential:
    """The features of a classifier as the sequence of layers that a head can read.

    Raises:
        BackboneError: They are no sequence, as a cascade's.
    """
    if not isinstance(features, nn.Sequential):
        raise BackboneError(
            backbone.name,
            "no head that points can be put on it",
            "give one to a checkpoint of a single backbone",
        )
    return features


def _separable(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )
