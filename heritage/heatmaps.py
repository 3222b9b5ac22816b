"""Where in the photo the "damage" logit comes from: Grad-CAM, exact and without hooks, and others.

A classifier here is `features` followed by `head`, so the gradient is taken between the two and
never runs through the backbone. Nothing in the model is changed, so nothing has to be restored,
and any number of threads may share one model.
"""

from __future__ import annotations

from operator import itemgetter

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from heritage.classifiers import DamageClassifier
from heritage.overlays import coarsened

_CLASSES = {  # in pytorch-grad-cam
    "grad_cam_plus_plus": "GradCAMPlusPlus",
    "layer_cam": "LayerCAM",
    "hires_cam": "HiResCAM",
    "eigen_cam": "EigenCAM",
}
_EPSILON = 1e-7  # pytorch-grad-cam's, so that the maps stay comparable with its


def grad_cam(model: DamageClassifier, x: Tensor) -> tuple[Tensor, Tensor]:
    """Grad-CAM for +logit of "damage" (Selvaraju et al. 2017, equations 1 and 2).

    Args:
        model: Classifier in evaluation mode.
        x: Normalised RGB (B, 3, H, W).

    Returns:
        Logits (B,) and the maps (B, h, w) at the heat-map layer's resolution: non-negative, not
        scaled; all zero where nothing speaks for damage.
    """
    with torch.no_grad():
        features = model.features(x)  # (B, C, h, w)
    return grad_cam_between(features, model.head)


def grad_cam_between(features: Tensor, head: nn.Module) -> tuple[Tensor, Tensor]:
    """Grad-CAM from the features (B, C, h, w) of the heat-map layer and the `head` above them.

    Returns:
        As `grad_cam`.
    """
    with torch.enable_grad():
        features = features.detach().requires_grad_(True)
        logits = head(features)[:, 0]  # (B,)
        (grads,) = torch.autograd.grad(logits.sum(), features)
    weights = grads.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
    maps = (weights * features.detach()).sum(1).relu()  # (B, h, w)
    return logits.detach(), maps


def grad_cam_written_out(features: Tensor, head: nn.Module) -> tuple[Tensor, Tensor]:
    """`grad_cam_between` for the head of `DamageClassifier`, without autograd.

    Between pooling and logit that head is u = a·p + b, then r = ReLU(Wu + b'), then w·(c·r + d).
    So the logit's gradient by p is a·Wᵀ(1[r > 0]·c·w), and each of the h·w places of a channel
    has an equal share of it. Plain arithmetic can be exported into the backbone's graph.
    """
    norm_in, norm_out = head.get_submodule("norm_in"), head.get_submodule("norm_out")
    dense, logit = head.get_submodule("dense"), head.get_submodule("logit")
    shown = functional.relu(dense(norm_in(features.mean((2, 3)))))  # (B, 512)
    logits = logit(norm_out(shown))[:, 0]  # (B,)
    at_shown = (shown > 0) * (_slope(norm_out) * logit.get_parameter("weight")[0])  # (B, 512)
    grads = at_shown @ (dense.get_parameter("weight") * _slope(norm_in))  # (B, C)
    weights = grads / (features.shape[2] * features.shape[3])
    return logits, (weights[:, :, None, None] * features).sum(1).relu()  # (B, h, w)


def _slope(norm: nn.Module) -> Tensor:
    """What a batch norm in evaluation mode multiplies by, (C,)."""
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_var is not None
    return norm.weight / (norm.running_var + norm.eps).sqrt()


def other_maps(features: Tensor, head: nn.Module, method: str) -> Tensor:
    """Heat by another of `methods.METHODS` than Grad-CAM, through pytorch-grad-cam.

    The library is given the head alone, with the features as its input: its hooks sit on a layer
    of this call's own, so that threads may share the head.

    Args:
        features: (B, C, h, w) of the heat-map layer.
        head: What makes a damage logit of them.

    Returns:
        Maps (B, h, w), each scaled to [0, 1].

    Raises:
        KeyError: There is no such method.
    """
    import pytorch_grad_cam

    kind = getattr(pytorch_grad_cam, _CLASSES[method])
    here = nn.Identity()
    with kind(model=nn.Sequential(here, head), target_layers=[here]) as cam:
        cam.compute_input_gradient = True  # the head itself is frozen
        found = cam(features.detach(), targets=[itemgetter(0)] * len(features))
    return torch.from_numpy(found)


def to_photo_size(raw: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scales one raw map (h, w) to [0, 1] and stretches it bilinearly over the photo.

    The scaling is pytorch-grad-cam's (minimum to 0, maximum to 1, before and after resizing), so
    heat is relative to the photo and must not be compared between photos.

    Returns:
        float32 (height, width) in [0, 1]; all zero for an all-zero map.
    """
    return _min_max(stretched(_min_max(raw.astype(np.float32)), height, width))


def heat_at_size(grid: np.ndarray, height: int, width: int, *, absolute: bool) -> np.ndarray:
    """A kept heat map (h, w) at another size, float32 in [0, 1].

    Args:
        absolute: Its values stay as they are; else it is scaled as by `to_photo_size`.
    """
    if not absolute:
        return to_photo_size(grid, height, width)
    return stretched(coarsened(grid, max(height, width)), height, width)


def stretched(heat: np.ndarray, height: int, width: int) -> np.ndarray:
    """Stretches heat (h, w) float32 bilinearly to (height, width), its values as they are."""
    whole = torch.from_numpy(heat)[None, None]
    grown = functional.interpolate(whole, (height, width), mode="bilinear", align_corners=False)
    return grown[0, 0].numpy()


def has_evidence(raw: np.ndarray) -> bool:
    """Whether the raw map (h, w) holds any heat; a flat map says nothing about the place."""
    return bool(raw.max() - raw.min() > _EPSILON)


def _min_max(values: np.ndarray) -> np.ndarray:
    """Scales float32 `values` in place, because a full-size map is large."""
    values -= values.min()
    values /= np.float32(_EPSILON + values.max())
    return values
