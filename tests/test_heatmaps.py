from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM
from sklearn.linear_model import Ridge
from torch import Tensor, nn
from torch.nn import functional

from heritage.backbones import BACKBONES
from heritage.classifiers import DamageClassifier, build_classifier
from heritage.heatmaps import grad_cam, has_evidence, to_photo_size


class Darkness(nn.Module):
    """A backbone that sees one thing: how dark each 32 px cell is."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d((-x).relu().mean(1, keepdim=True), 32)


def darkness_classifier(sign: float = 1.0) -> DamageClassifier:
    model = DamageClassifier(Darkness(), channels=1)
    with torch.no_grad():
        model.head.dense.weight.fill_(1.0)
        model.head.dense.bias.fill_(0.0)
        model.head.logit.weight.fill_(sign / 512)
    return model.requires_grad_(False).eval()


def settled_classifier(name: str) -> DamageClassifier:
    """An untrained classifier whose batch-norm statistics fit its own activations."""
    torch.manual_seed(3)
    model = build_classifier(BACKBONES[name])
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the plain average, or the start of 1 outweighs small variances
    with torch.no_grad():
        for seed in range(3):
            model(walls_with_a_patch(seed, 8)[0][..., :128, :])
    return model.eval()


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("size", [(96, 128), (160, 96)])
def test_equals_pytorch_grad_cam_on_every_backbone(name, size):
    model = settled_classifier(name).double()  # deep untrained networks amplify rounding
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1)).double()
    if not grad_cam(model, x)[1].any():
        model.head.logit.weight.data.neg_()  # untrained, it saw no damage; now it does
    with GradCAM(model=model, target_layers=[model.features]) as reference:
        theirs = reference(input_tensor=x.clone(), targets=[lambda output: output[0]])[0]
    _, maps = grad_cam(model, x)
    ours = to_photo_size(maps[0].numpy(), *size)
    assert theirs.max() > 0.9, "the reference must hold heat, or equality says nothing"
    assert np.abs(ours - theirs).max() <= 1e-4


def walls_with_a_patch(seed, count):
    """Noise (N, 3, 192, 192) with a bright patch of 64 px each, and the patches (N, 192, 192)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, 192, 192, generator=generator) * 0.2
    patches = torch.zeros(count, 192, 192)
    corners = torch.randint(0, 129, (count, 2), generator=generator).tolist()
    for patch, (top, left) in zip(patches, corners, strict=True):
        patch[top : top + 64, left : left + 64] = 1
    return x + 3 * patches[:, None], patches


def taught_what_the_patch_looks_like(name):
    """An untrained backbone whose head answers to the features that tell patch from wall."""
    model = settled_classifier(name).requires_grad_(False)
    x, patches = walls_with_a_patch(5, 16)
    features = torch.cat([model.features(part) for part in x.split(4)])  # (16, C, h, w)
    there = functional.adaptive_avg_pool2d(patches[:, None], features.shape[-2:]).flatten()
    places = features.movedim(1, -1).flatten(0, 2)  # (16 h w, C)
    direction = torch.from_numpy(Ridge(alpha=float(places.var(0).sum())).fit(places, there).coef_)
    head = DamageClassifier(nn.Identity(), len(direction)).head.requires_grad_(False).eval()
    head.dense.weight.copy_(direction / direction.norm())
    head.dense.bias.fill_(1e3)  # keeps the ReLU open
    head.logit.weight.fill_(1 / 512)
    model.head = head
    return model


@pytest.mark.parametrize("name", BACKBONES)
def test_heat_peaks_on_the_planted_patch_on_every_backbone(name):
    model = taught_what_the_patch_looks_like(name)
    x, patches = walls_with_a_patch(6, 4)
    _, maps = grad_cam(model, x)
    for raw, patch in zip(maps.numpy(), patches.numpy(), strict=True):
        heat = to_photo_size(raw, 192, 192)
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        rows, columns = patch.nonzero()
        # At most one cell of the grid (32 px) beside the patch.
        assert np.hypot(row - rows.mean(), column - columns.mean()) <= 45 + 32
        assert heat[patch == 1].mean() > heat[patch == 0].mean()


def test_heat_peaks_on_the_only_dark_patch():
    x = torch.ones(1, 3, 224, 320)
    x[..., 64:96, 192:224] = -2
    _, maps = grad_cam(darkness_classifier(), x)
    heat = to_photo_size(maps[0].numpy(), 1120, 1600)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 320 <= row < 480
    assert 960 <= column < 1120
    assert heat.dtype == np.float32
    assert heat.min() == 0
    assert heat.max() == pytest.approx(1, abs=1e-6)


def test_what_speaks_against_damage_is_no_evidence_for_it():
    x = torch.ones(1, 3, 224, 224)
    x[..., 64:96, 64:96] = -2
    _, maps = grad_cam(darkness_classifier(sign=-1.0), x)
    assert not has_evidence(maps[0].numpy())
    assert not to_photo_size(maps[0].numpy(), 300, 400).any()


def test_a_batch_gives_the_maps_of_its_photos_one_by_one():
    model = settled_classifier("mobilenet_v2").requires_grad_(False)
    x = torch.randn(3, 3, 96, 128, generator=torch.Generator().manual_seed(2))
    logits, maps = grad_cam(model, x)
    for i in range(3):
        logit, single = grad_cam(model, x[i : i + 1])
        torch.testing.assert_close(logits[i : i + 1], logit, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(maps[i : i + 1], single, atol=1e-4, rtol=1e-4)


def test_two_threads_on_one_model_give_the_maps_of_one():
    model = settled_classifier("mobilenet_v2").requires_grad_(False)
    generator = torch.Generator().manual_seed(4)
    photos = [torch.randn(1, 3, 128, 160, generator=generator) for _ in range(8)]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # as in the app, where each request may itself use several cores
    try:
        alone = [grad_cam(model, x)[1].numpy() for x in photos]
        with ThreadPoolExecutor(2) as pool:
            together = list(pool.map(lambda x: grad_cam(model, x)[1].numpy(), photos * 3))
    finally:
        torch.set_num_threads(threads)
    for i, found in enumerate(together):
        assert np.array_equal(found, alone[i % len(photos)])


def test_an_error_leaves_model_flags_and_hooks_as_they_were():
    model = settled_classifier("mobilenet_v2")
    flags = [parameter.requires_grad for parameter in model.parameters()]
    with pytest.raises(RuntimeError), torch.no_grad():
        grad_cam(model, torch.randn(1, 5, 64, 64))
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert not model.training
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    grad_cam(model, torch.randn(1, 3, 64, 64))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_works_inside_no_grad():
    with torch.no_grad():
        logits, maps = grad_cam(darkness_classifier(), -torch.rand(1, 3, 64, 64))
    assert not logits.requires_grad
    assert not maps.requires_grad
    assert maps.max() > 0
