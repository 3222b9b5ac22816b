"""Every backbone answers alike in ONNX Runtime and in PyTorch, whatever the photo's shape."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM

from heritage.backbones import BACKBONES, CASCADE
from heritage.cards import ModelCard
from heritage.checkpoints import Checkpoint
from heritage.classifiers import build_classifier
from heritage.engines import Engine, best_device
from heritage.heatmaps import grad_cam, to_photo_size

SHAPES = ((1, 96, 128), (3, 160, 96), (1, 96, 300))


def checkpoint(name):
    """An untrained classifier, its features as built: settled deep ones amplify rounding."""
    torch.manual_seed(3)
    model = build_classifier(BACKBONES[name]).eval()
    heads = [model, model.features.first] if name == CASCADE else [model]
    for part in reversed(heads):
        part.head.train()
        part.head.norm_in.momentum = part.head.norm_out.momentum = None
        with torch.no_grad():
            part(photos(8, 96, 128, seed=7))
        part.head.eval()
    model.requires_grad_(False)
    card = ModelCard(name=name, backbone=name, sha256="", parameters=1)
    return Checkpoint(model, BACKBONES[name], card)


def photos(batch, height, width, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, height, width, generator=generator)


@pytest.mark.parametrize("name", BACKBONES)
def test_it_says_what_pytorch_and_pytorch_grad_cam_say(name):
    ours = checkpoint(name)
    if not grad_cam(ours.model, photos(*SHAPES[0]))[1].any():
        ours.model.head.logit.weight.data.neg_()  # untrained, it saw no damage; now it does
    engine = Engine(ours, "cpu")
    assert engine.name == "ONNX Runtime"
    for shape in SHAPES:
        x = photos(*shape)
        logits, maps = grad_cam(ours.model, x)
        found = engine.answer(x)
        percents = 100 * torch.sigmoid(torch.stack([logits, found.logits]))
        assert (percents[0] - percents[1]).abs().max() <= 0.05
        assert found.maps.shape == maps.shape
        assert torch.allclose(found.maps, maps, rtol=1e-3, atol=1e-3 * float(maps.max()))
        size = shape[1:]
        for one, other in zip(found.maps.numpy(), maps.numpy(), strict=True):
            assert np.abs(to_photo_size(one, *size) - to_photo_size(other, *size)).max() <= 1e-4
    x = photos(*SHAPES[0])
    ours.model.requires_grad_(True)  # it needs that
    with GradCAM(model=ours.model, target_layers=[ours.model.features]) as reference:
        theirs = reference(input_tensor=x, targets=[lambda output: output[0]])[0]
    heat = to_photo_size(engine.answer(x).maps[0].numpy(), *SHAPES[0][1:])
    assert theirs.max() > 0.9, "the reference must hold heat, or equality says nothing"
    assert np.abs(heat - theirs).max() <= 1e-4


def test_threads_that_share_an_engine_get_what_each_would_get_alone():
    engine = Engine(checkpoint("mobilenet_v2"), "cpu")
    batches = [photos(1, 96 + 8 * n, 128, seed=n) for n in range(8)]
    alone = [engine.answer(x) for x in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(engine.answer, batches))
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.logits, other.logits)
        assert torch.equal(one.maps, other.maps)


def test_a_photo_gets_the_same_answer_in_a_batch_as_alone():
    engine = Engine(checkpoint("mobilenet_v2"), "cpu")
    x = photos(4, 96, 128)
    together = engine.answer(x)
    for index in range(4):
        alone = engine.answer(x[index : index + 1])
        assert torch.allclose(alone.logits[0], together.logits[index], atol=1e-4)
        assert torch.allclose(alone.maps[0], together.maps[index], atol=1e-4)


def test_what_cannot_be_exported_runs_in_pytorch(caplog):
    class Stubborn(torch.nn.Module):
        def forward(self, x):
            assert not torch.onnx.is_in_onnx_export(), "not me"
            return torch.nn.functional.avg_pool2d(x, 32)

    ours = checkpoint("mobilenet_v2")
    model = type(ours.model)(Stubborn(), 3).requires_grad_(False).eval()
    engine = Engine(replace(ours, model=model), "cpu")
    assert engine.name == "PyTorch"
    assert [record.reason for record in caplog.records] == ["not me"]
    x = photos(1, 96, 128)
    assert torch.equal(engine.answer(x).logits, grad_cam(model, x)[0])


def test_making_the_graph_leaves_the_model_as_it_was():
    ours = checkpoint("googlenet").model
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    Engine(replace(checkpoint("googlenet"), model=ours), "cpu")
    assert not ours.training
    assert not any(module.training for module in ours.modules())
    assert not any(parameter.requires_grad for parameter in ours.parameters())
    assert all(torch.equal(value, before[key]) for key, value in ours.state_dict().items())


def test_apples_gpu_which_two_threads_at_once_would_crash_is_left_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert best_device() == "cpu"
