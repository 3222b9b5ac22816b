"""The cascade of the second study: one network's heat map is laid over the photo for another.

Stage 1 reads the photo; its Grad-CAM map, in colours, is blended over it; stage 2 reads that.
Both stages together are the `features` of an ordinary classifier, so that whatever works with a
backbone works with the cascade: its own heat map is stage 2's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from heritage.backbones import CASCADE_STAGES, IMAGENET_MEAN, IMAGENET_STD, get_backbone
from heritage.classifiers import DamageClassifier
from heritage.heatmaps import grad_cam

OVERLAY_OPACITY = 0.4


class CascadeFeatures(nn.Module):
    """Stage 1, frozen, and the features of stage 2; both take ImageNet-normalised RGB.

    Args:
        first: Classifier whose heat maps are laid over the photos.
        second: Feature extractor that reads the result.
    """

    def __init__(self, first: DamageClassifier, second: nn.Module) -> None:
        super().__init__()
        self.first = first.requires_grad_(False).eval()
        self.second = second

    def forward(self, x: Tensor) -> Tensor:
        """Maps normalised RGB (B, 3, H, W) to stage 2's features (B, C, h, w)."""
        _, maps = grad_cam(self.first, x)
        return self.second(overlaid(x, maps))

    def train(self, mode: bool = True) -> CascadeFeatures:
        """Sets stage 2's mode; stage 1 stays in evaluation mode, as its maps must not change."""
        super().train(mode)
        self.first.eval()
        return self


def build_features(imagenet: bool) -> CascadeFeatures:
    """Both stages, untrained; with `imagenet` their convolutions start from ImageNet weights."""
    first, second = (get_backbone(name) for name in CASCADE_STAGES)
    reader = DamageClassifier(first.build(imagenet), first.channels)
    return CascadeFeatures(reader, second.build(imagenet))


def overlaid(x: Tensor, maps: Tensor) -> Tensor:
    """Lays heat in colours over normalised photos, and normalises again.

    Args:
        x: ImageNet-normalised RGB (B, 3, H, W).
        maps: Raw heat (B, h, w); each is scaled to [0, 1] by itself.

    Returns:
        (B, 3, H, W); a photo without evidence is tinted evenly.
    """
    mean = torch.tensor(IMAGENET_MEAN, device=x.device, dtype=x.dtype).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=x.device, dtype=x.dtype).view(1, 3, 1, 1)
    heat = functional.interpolate(_scaled(maps)[:, None], x.shape[-2:], mode="bilinear")
    blended = (1 - OVERLAY_OPACITY) * (x * std + mean) + OVERLAY_OPACITY * jet(heat[:, 0])
    return ((blended - mean) / std).to(x.dtype)


def jet(heat: Tensor) -> Tensor:
    """Colours heat (B, H, W) in [0, 1] as the study does, blue to red: RGB (B, 3, H, W)."""
    channels = [1.5 - (4 * heat - centre).abs() for centre in (3, 2, 1)]
    return torch.stack(channels, 1).clamp(0, 1)


def _scaled(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-7)
