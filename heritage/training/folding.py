"""Batch norm for networks that were published without it: trained with, stored without.

AlexNet and VGG16 hardly train from scratch without normalisation (VGG's authors started theirs
from shallower ones). A batch norm after each convolution cures that, and once training is over
it is a scale and a shift that the convolution can take over exactly, so that the checkpoint is
the network as published (Ioffe & Szegedy 2015, arXiv:1502.03167).
"""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class NormedConv(nn.Sequential):
    """A convolution and the batch norm that it takes over in the end."""


def lacks_norms(features: nn.Module) -> bool:
    """Whether `features` holds convolutions but nothing that normalises their output."""
    norms = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
    return not any(isinstance(module, norms) for module in features.modules()) and any(
        isinstance(module, nn.Conv2d) for module in features.modules()
    )


def insert_norms(features: nn.Module) -> None:
    """Puts a batch norm after every convolution of `features`, in place."""
    for name, child in list(features.named_children()):
        if isinstance(child, nn.Conv2d):
            setattr(features, name, NormedConv(child, nn.BatchNorm2d(child.out_channels)))
        else:
            insert_norms(child)


def fold_norms(features: nn.Module) -> None:
    """Lets the convolutions take over what `insert_norms` put in; the output in evaluation mode
    stays the same to float precision."""
    for name, child in list(features.named_children()):
        if isinstance(child, NormedConv):
            conv, norm = child
            assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            setattr(features, name, fuse_conv_bn_eval(conv.eval(), norm.eval()))
        else:
            fold_norms(child)
