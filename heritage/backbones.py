"""The registry of backbones: one entry per CNN architecture, the only list of them in the project.

Importing it costs nothing: torchvision or timm is loaded when a backbone is built, so that the
app and the commands can list backbones at once. Another backbone is one more entry here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from heritage.errors import BackboneError

if TYPE_CHECKING:
    from torch import nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INCEPTION_MEAN = INCEPTION_STD = (0.5, 0.5, 0.5)
Builder = Callable[[bool], "nn.Module"]


@dataclass(frozen=True)
class Backbone:
    """One CNN architecture.

    Attributes:
        name: Identifier used in files, commands and the API.
        title: Name as its authors print it.
        build: Makes the feature extractor, (B, 3, H, W) → (B, channels, h, w); with `True` its
            convolutions carry ImageNet weights, downloaded when first asked for.
        channels: Depth of the heat-map layer.
        input_size_px: Short side of the network's input; the aspect is kept.
        paper: Where the architecture was published.
        mean: Per-channel mean of the normalised RGB input.
        std: Per-channel standard deviation of the same.
        smallest_input_px: Least side the layers can take.
    """

    name: str
    title: str
    build: Builder
    channels: int
    input_size_px: int
    paper: str
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    smallest_input_px: int = 32


def _features_of(model: str, weights: str, without_last: int = 0) -> Builder:
    """Builder for the torchvision models whose feature extractor is called `features`.

    `without_last` leaves out closing layers; a max-pool there would halve the heat map.
    """

    def build(imagenet: bool) -> nn.Module:
        from torchvision import models

        features = models.get_model(model, weights=weights if imagenet else None).features
        return features[: len(features) - without_last]

    return build


def _resnet(model: str, weights: str) -> Builder:
    def build(imagenet: bool) -> nn.Module:
        from torchvision import models

        net = models.get_model(model, weights=weights if imagenet else None)
        return _in_order(net, "conv1 bn1 relu maxpool layer1 layer2 layer3 layer4")

    return build


def _googlenet(imagenet: bool) -> nn.Module:
    from torchvision.models import googlenet

    start = {"weights": "IMAGENET1K_V1"} if imagenet else {"init_weights": True}
    return _in_order(
        googlenet(aux_logits=imagenet, **start),
        "conv1 maxpool1 conv2 conv3 maxpool2 inception3a inception3b maxpool3 inception4a "
        "inception4b inception4c inception4d inception4e maxpool4 inception5a inception5b",
    )


def _inception_v3(imagenet: bool) -> nn.Module:
    from torchvision.models import inception_v3

    start = {"weights": "IMAGENET1K_V1"} if imagenet else {"init_weights": True}
    return _in_order(
        inception_v3(aux_logits=imagenet, **start),
        "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 maxpool1 Conv2d_3b_1x1 Conv2d_4a_3x3 maxpool2 "
        "Mixed_5b Mixed_5c Mixed_5d Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e Mixed_7a "
        "Mixed_7b Mixed_7c",
    )


def _xception(imagenet: bool) -> nn.Module:
    from timm import create_model

    blocks = " ".join(f"block{number}" for number in range(1, 13))
    return _in_order(
        create_model("legacy_xception", pretrained=imagenet),
        f"conv1 bn1 act1 conv2 bn2 act2 {blocks} conv3 bn3 act3 conv4 bn4 act4",
    )


def _cascade(imagenet: bool) -> nn.Module:
    # By name: the cascade is made of classifiers, which stand above this list.
    return import_module("heritage.cascade").build_features(imagenet)


def _in_order(net: nn.Module, layers: str) -> nn.Module:
    """The named children of `net` as one sequence, in which they are also run."""
    from torch.nn import Sequential

    return Sequential(OrderedDict((name, getattr(net, name)) for name in layers.split()))


CASCADE = "cascade"
CASCADE_STAGES = ("mobilenet_v3_large", "resnet18")
_ENTRIES = (
    Backbone(
        "mobilenet_v3_large",
        "MobileNetV3-Large",
        _features_of("mobilenet_v3_large", "IMAGENET1K_V2"),
        channels=960,
        input_size_px=224,
        paper="Howard et al. 2019, Searching for MobileNetV3, arXiv:1905.02244",
    ),
    Backbone(
        "mobilenet_v3_small",
        "MobileNetV3-Small",
        _features_of("mobilenet_v3_small", "IMAGENET1K_V1"),
        channels=576,
        input_size_px=224,
        paper="Howard et al. 2019, Searching for MobileNetV3, arXiv:1905.02244",
    ),
    Backbone(
        "mobilenet_v2",
        "MobileNetV2",
        _features_of("mobilenet_v2", "IMAGENET1K_V2"),
        channels=1280,
        input_size_px=224,
        paper="Sandler et al. 2018, MobileNetV2, arXiv:1801.04381",
    ),
    Backbone(
        "resnet18",
        "ResNet-18",
        _resnet("resnet18", "IMAGENET1K_V1"),
        channels=512,
        input_size_px=224,
        paper="He et al. 2016, Deep Residual Learning, arXiv:1512.03385",
    ),
    Backbone(
        "resnet50",
        "ResNet-50",
        _resnet("resnet50", "IMAGENET1K_V2"),
        channels=2048,
        input_size_px=224,
        paper="He et al. 2016, Deep Residual Learning, arXiv:1512.03385",
    ),
    Backbone(
        "resnet101",
        "ResNet-101",
        _resnet("resnet101", "IMAGENET1K_V2"),
        channels=2048,
        input_size_px=224,
        paper="He et al. 2016, Deep Residual Learning, arXiv:1512.03385",
    ),
    Backbone(
        "efficientnet_b0",
        "EfficientNet-B0",
        _features_of("efficientnet_b0", "IMAGENET1K_V1"),
        channels=1280,
        input_size_px=224,
        paper="Tan & Le 2019, EfficientNet, arXiv:1905.11946",
    ),
    Backbone(
        "efficientnet_b2",
        "EfficientNet-B2",
        _features_of("efficientnet_b2", "IMAGENET1K_V1"),
        channels=1408,
        input_size_px=288,
        paper="Tan & Le 2019, EfficientNet, arXiv:1905.11946",
    ),
    Backbone(
        "efficientnet_b7",
        "EfficientNet-B7",
        _features_of("efficientnet_b7", "IMAGENET1K_V1"),
        channels=2560,
        input_size_px=600,
        paper="Tan & Le 2019, EfficientNet, arXiv:1905.11946",
    ),
    Backbone(
        "xception",
        "Xception",
        _xception,
        channels=2048,
        input_size_px=299,
        paper="Chollet 2017, Xception, arXiv:1610.02357",
        mean=INCEPTION_MEAN,
        std=INCEPTION_STD,
    ),
    Backbone(
        "inception_v3",
        "InceptionV3",
        _inception_v3,
        channels=2048,
        input_size_px=299,
        paper="Szegedy et al. 2016, Rethinking the Inception Architecture, arXiv:1512.00567",
        mean=INCEPTION_MEAN,
        std=INCEPTION_STD,
        smallest_input_px=75,
    ),
    Backbone(
        "googlenet",
        "GoogLeNet",
        _googlenet,
        channels=1024,
        input_size_px=224,
        paper="Szegedy et al. 2015, Going Deeper with Convolutions, arXiv:1409.4842",
        mean=INCEPTION_MEAN,
        std=INCEPTION_STD,
    ),
    Backbone(
        "vgg16",
        "VGG16",
        _features_of("vgg16", "IMAGENET1K_V1", without_last=1),
        channels=512,
        input_size_px=224,
        paper="Simonyan & Zisserman 2015, Very Deep Convolutional Networks, arXiv:1409.1556",
    ),
    Backbone(
        "alexnet",
        "AlexNet",
        _features_of("alexnet", "IMAGENET1K_V1", without_last=1),
        channels=256,
        input_size_px=224,
        paper="Krizhevsky et al. 2012, ImageNet Classification; layers as in arXiv:1404.5997",
        smallest_input_px=64,
    ),
    Backbone(
        CASCADE,
        "MobileNetV3 → ResNet-18",
        _cascade,
        channels=512,
        input_size_px=224,
        paper="Gokak et al. 2025, Defect Detection and Classification of Cultural Heritage "
        "Buildings Using Deep Learning, doi:10.5220/0013633700004664",
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
