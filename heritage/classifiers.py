"""The model: a backbone's features up to the heat-map layer, then the same head for all.

The heat map needs no hooks, because it lives between `features` and `head`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from urllib.error import URLError

import torch
from torch import Tensor, nn

from heritage.backbones import Backbone
from heritage.errors import BackboneError


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

    @property
    def channels(self) -> int:
        """Depth of the heat-map layer; less than the backbone's where channels were pruned."""
        return int(self.head.get_submodule("norm_in").get_buffer("running_mean").numel())

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
            "connect to the internet, or start from a checkpoint or from nothing "
            "(--init FILE.safetensors, --init scratch)",
        ) from error
    return DamageClassifier(features, backbone.channels)


def parameters_when_built(backbone: Backbone) -> int:
    """Number of trainable scalars a classifier on `backbone` has, found without allocating them."""
    with torch.device("meta"):
        return parameter_count(build_classifier(backbone))


def parameter_count(model: nn.Module) -> int:
    """Number of trainable scalars in `model`."""
    return sum(parameter.numel() for parameter in model.parameters())


def normalise(pixels: Tensor, backbone: Backbone) -> Tensor:
    """Turns uint8 RGB (B, 3, H, W) into the backbone's float32 input of the same shape."""
    mean = torch.tensor(backbone.mean, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(backbone.std, device=pixels.device).view(1, 3, 1, 1)
    return (pixels.float() / 255 - mean) / std


def fit_widths(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Gives the layers of `model`, in place, the widths that `tensors` have.

    A pruned checkpoint is its backbone with fewer channels here and there; its own weights say
    how many. What the layers held before is lost.
    """
    for name, module in model.named_modules():
        weight = tensors.get(f"{name}.weight")
        if weight is None:
            continue
        if isinstance(module, nn.Conv2d) and weight.shape != module.weight.shape:
            if module.groups > 1:  # only depthwise convolutions are grouped here
                module.groups = weight.shape[0] // (module.out_channels // module.groups)
            module.out_channels = weight.shape[0]
            module.in_channels = weight.shape[1] * module.groups
        elif isinstance(module, nn.Linear):
            module.out_features, module.in_features = weight.shape
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.num_features = weight.shape[0]
        else:
            continue
        _resize(module, name, tensors)


def _resize(module: nn.Module, name: str, tensors: Mapping[str, Tensor]) -> None:
    for key, old in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
        new = tensors.get(f"{name}.{key}")
        if new is None or new.shape == old.shape:
            continue
        if isinstance(old, nn.Parameter):
            setattr(module, key, nn.Parameter(torch.empty_like(new)))
        else:
            module.register_buffer(key, torch.empty_like(new))
