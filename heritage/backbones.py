"""The registry of backbones: one entry per CNN architecture, the only list of them in the project.

Every model is `features` (the backbone up to its heat-map layer) followed by the same `head`, so
the heat map needs no hooks: it lives between the two.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from urllib.error import URLError

import torch
import torchvision.models as tv
from torch import Tensor, nn

from heritage.errors import BackboneError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """One CNN architecture.

    Attributes:
        name: Identifier used in files, commands and the API.
        title: Name as its authors print it.
        build: Makes the feature extractor, (B, 3, H, W) → (B, channels, h, w); with `True` its
            convolutions carry ImageNet weights, downloaded by torchvision.
        channels: Depth of the heat-map layer.
        input_size_px: Short side of the network's input; the aspect is kept.
        paper: Where the architecture was published.
        mean: Per-channel mean of the normalised RGB input.
        std: Per-channel standard deviation of the same.
    """

    name: str
    title: str
    build: Callable[[bool], nn.Module]
    channels: int
    input_size_px: int
    paper: str
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


def _mobilenet_v2(imagenet: bool) -> nn.Module:
    return tv.mobilenet_v2(weights="IMAGENET1K_V2" if imagenet else None).features


def _mobilenet_v3_large(imagenet: bool) -> nn.Module:
    return tv.mobilenet_v3_large(weights="IMAGENET1K_V2" if imagenet else None).features


def _resnet18(imagenet: bool) -> nn.Module:
    net = tv.resnet18(weights="IMAGENET1K_V1" if imagenet else None)
    layers = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    return nn.Sequential(OrderedDict((name, getattr(net, name)) for name in layers))


_ENTRIES = (
    Backbone(
        "mobilenet_v3_large",
        "MobileNetV3-Large",
        _mobilenet_v3_large,
        channels=960,
        input_size_px=224,
        paper="Howard et al. 2019, Searching for MobileNetV3, arXiv:1905.02244",
    ),
    Backbone(
        "mobilenet_v2",
        "MobileNetV2",
        _mobilenet_v2,
        channels=1280,
        input_size_px=224,
        paper="Sandler et al. 2018, MobileNetV2, arXiv:1801.04381",
    ),
    Backbone(
        "resnet18",
        "ResNet-18",
        _resnet18,
        channels=512,
        input_size_px=224,
        paper="He et al. 2016, Deep Residual Learning, arXiv:1512.03385",
    ),
)
BACKBONES: dict[str, Backbone] = {entry.name: entry for entry in _ENTRIES}


def get_backbone(name: str) -> Backbone:
    """Returns the registry entry called `name`.

    Raises:
        BackboneError: There is no such entry.
    """
    try:
        return BACKBONES[name]
    except KeyError:
        known = ", ".join(BACKBONES)
        raise BackboneError(name, "there is no such backbone", f"choose one of {known}") from None


class DamageClassifier(nn.Module):
    """A backbone and the head that turns its last feature map into one "damage" logit.

    The head is that of the first study: global average pooling → dropout 0.4 → batch norm →
    dense 512, ReLU → batch norm → dropout 0.4 → one logit (a sigmoid makes it a probability).
    Fully convolutional, so any input of at least 32 px a side is accepted and the aspect is kept.
    """

    def __init__(self, features: nn.Module, channels: int, hidden: int = 512) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                dropout_in=nn.Dropout(0.4),
                norm_in=nn.BatchNorm1d(channels),
                dense=nn.Linear(channels, hidden),
                relu=nn.ReLU(),
                norm_out=nn.BatchNorm1d(hidden),
                dropout_out=nn.Dropout(0.4),
                logit=nn.Linear(hidden, 1),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps normalised RGB (B, 3, H, W) to damage logits (B, 1)."""
        return self.head(self.features(x))


def build_classifier(backbone: Backbone, *, imagenet: bool = False) -> DamageClassifier:
    """Builds an untrained classifier; with `imagenet` its features start from ImageNet weights.

    Raises:
        BackboneError: The ImageNet weights could not be downloaded.
    """
    try:
        features = backbone.build(imagenet)
    except (URLError, OSError, RuntimeError) as error:
        if not imagenet:
            raise
        raise BackboneError(
            backbone.name,
            f"its ImageNet weights could not be downloaded ({error})",
            "connect to the internet, or start with --init scratch or --init FILE.safetensors",
        ) from error
    return DamageClassifier(features, backbone.channels)


def parameter_count(model: nn.Module) -> int:
    """Number of trainable scalars in `model`."""
    return sum(parameter.numel() for parameter in model.parameters())


def normalise(pixels: Tensor, backbone: Backbone) -> Tensor:
    """Turns uint8 RGB (B, 3, H, W) into the backbone's float32 input of the same shape."""
    mean = torch.tensor(backbone.mean).view(1, 3, 1, 1)
    std = torch.tensor(backbone.std).view(1, 3, 1, 1)
    return (pixels.float() / 255 - mean) / std
