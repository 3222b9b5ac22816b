"""From a photo to what a backbone is fed: one scale in both directions, never squashed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from heritage.backbones import Backbone
from heritage.classifiers import normalise

MAX_ASPECT_IN = 8  # longer panoramas are read at a smaller scale, so that memory stays bounded


def input_size(width: int, height: int, backbone: Backbone) -> tuple[int, int]:
    """Size (h, w) in pixels at which a photo of `width` × `height` enters the network."""
    side, least = backbone.input_size_px, backbone.smallest_input_px
    scale = min(side / min(width, height), MAX_ASPECT_IN * side / max(width, height))
    return max(least, round(height * scale)), max(least, round(width * scale))


def network_input(pixels: np.ndarray, backbone: Backbone) -> Tensor:
    """Resizes upright RGB (h, w, 3) uint8 to the backbone's short side and normalises it.

    Returns:
        float32 (1, 3, H, W) with the photo's aspect.
    """
    size = input_size(pixels.shape[1], pixels.shape[0], backbone)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    if tuple(x.shape[-2:]) != size:
        x = functional.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
    return normalise(x, backbone)


def working_side_px(backbone: Backbone) -> int:
    """Short side at which photos are decoded for `backbone`: twice its input, so that the final
    antialiased reduction, not the decoder's, decides what the network sees."""
    return 2 * backbone.input_size_px
