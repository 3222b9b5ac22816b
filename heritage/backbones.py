"""The registry of backbones: one entry per CNN architecture, the only list of them in the project.

Importing it costs nothing: torchvision is loaded when a backbone is built, so that the app and
the commands can list backbones at once. Another backbone is one more entry here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heritage.errors import BackboneError

if TYPE_CHECKING:
    from torch import nn

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
    from torchvision.models import mobilenet_v2

    return mobilenet_v2(weights="IMAGENET1K_V2" if imagenet else None).features


def _mobilenet_v3_large(imagenet: bool) -> nn.Module:
    from torchvision.models import mobilenet_v3_large

    return mobilenet_v3_large(weights="IMAGENET1K_V2" if imagenet else None).features


def _resnet18(imagenet: bool) -> nn.Module:
    from torch.nn import Sequential
    from torchvision.models import resnet18

    net = resnet18(weights="IMAGENET1K_V1" if imagenet else None)
    layers = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    return Sequential(OrderedDict((name, getattr(net, name)) for name in layers))


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
