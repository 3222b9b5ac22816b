from __future__ import annotations

import subprocess
import sys
from urllib.error import URLError

import pytest
import torch
from timm.models import get_pretrained_cfg
from torch.nn import functional
from torchvision.models import get_model_weights

from heritage.backbones import BACKBONES, CASCADE, CASCADE_STAGES, get_backbone
from heritage.classifiers import (
    build_classifier,
    normalise,
    parameter_count,
    parameters_when_built,
)
from heritage.errors import BackboneError
from heritage.inputs import input_size

every_backbone = pytest.mark.parametrize("backbone", BACKBONES.values(), ids=list(BACKBONES))


@every_backbone
def test_a_backbone_keeps_the_promises_of_its_entry(backbone):
    side, least = backbone.input_size_px, backbone.smallest_input_px
    with torch.device("meta"):
        model = build_classifier(backbone).eval()
        features = model.features(torch.zeros(1, 3, side, side))
        smallest = model(torch.zeros(2, 3, least, least))
    assert features.shape[:2] == (1, backbone.channels)
    assert min(features.shape[2:]) >= 7, "a coarser heat map says little about the place"
    assert smallest.shape == (2, 1)
    assert parameters_when_built(backbone) == parameter_count(model)


@every_backbone
def test_size_and_normalisation_are_those_of_the_published_weights(backbone):
    told = backbone.input_size_px, backbone.mean, backbone.std
    half = (0.5, 0.5, 0.5)
    if backbone.name == CASCADE:
        stages = {(s.input_size_px, s.mean, s.std) for s in map(get_backbone, CASCADE_STAGES)}
        assert stages == {told}
    elif backbone.name == "xception":
        theirs = get_pretrained_cfg("legacy_xception")
        assert told == (theirs.input_size[-1], theirs.mean, theirs.std)
    else:
        theirs = get_model_weights(backbone.name).DEFAULT.transforms()
        # These two bring their input from ImageNet's normalisation to this one themselves.
        own = backbone.name in ("googlenet", "inception_v3")
        mean, std = (half, half) if own else (tuple(theirs.mean), tuple(theirs.std))
        assert told == (theirs.crop_size[0], mean, std)


def test_a_sliver_of_a_photo_is_never_smaller_than_the_layers_can_take():
    for backbone in BACKBONES.values():
        size = input_size(20_000, 30, backbone)
        assert min(size) == max(backbone.smallest_input_px, min(size))
        assert max(size) <= 8 * backbone.input_size_px


@every_backbone
def test_a_training_step_moves_every_weight_of_a_backbone(backbone):
    model = build_classifier(backbone).train()
    before = {name: value.clone() for name, value in model.named_parameters()}
    side = max(64, backbone.smallest_input_px)
    loss = functional.softplus(model(torch.randn(2, 3, side, side))).sum()
    loss.backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    learning = [value for value in model.parameters() if value.requires_grad]
    assert all(value.grad is not None for value in learning)
    if backbone.name != CASCADE:
        assert len(learning) == len(list(model.parameters()))
    assert any(
        not torch.equal(before[n], v) for n, v in model.features.named_parameters("features")
    )
    assert not torch.equal(before["head.logit.weight"], model.head.logit.weight)


def test_names_are_the_keys_of_the_registry_and_titles_are_unique():
    assert all(name == entry.name for name, entry in BACKBONES.items())
    assert len({entry.title for entry in BACKBONES.values()}) == len(BACKBONES)
    assert all(entry.paper for entry in BACKBONES.values())


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(BackboneError) as caught:
        get_backbone("lenet")
    assert "lenet" in str(caught.value)
    assert all(name in caught.value.advice for name in BACKBONES)


def test_the_registry_is_read_without_loading_torch():
    code = "import heritage.backbones, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@every_backbone
def test_without_network_the_error_says_how_to_go_on(backbone, monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # so that no earlier download is found
    monkeypatch.setattr("torch.hub.urlopen", offline)
    with pytest.raises(BackboneError) as caught:
        build_classifier(backbone, imagenet=True)
    assert caught.value.subject == backbone.name
    assert "Name or service not known" in caught.value.reason
    assert "--init scratch" in caught.value.advice


def test_downloaded_weights_reach_the_features(monkeypatch):
    from torchvision.models import resnet18

    downloaded = resnet18().state_dict()
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *args, **kwargs: downloaded
    )
    features = build_classifier(get_backbone("resnet18"), imagenet=True).features
    assert torch.equal(features.conv1.weight, downloaded["conv1.weight"])
    assert torch.equal(features.layer4[1].conv2.weight, downloaded["layer4.1.conv2.weight"])


def test_normalising_brings_the_mean_colour_to_zero_and_keeps_the_channels_apart():
    backbone = get_backbone("resnet18")
    mean = (torch.tensor(backbone.mean) * 255).round().to(torch.uint8)
    pixels = mean.view(1, 3, 1, 1).expand(1, 3, 4, 6).clone()
    pixels[0, 1, 0, 0] = 255
    x = normalise(pixels, backbone)
    assert x.shape == pixels.shape and x.dtype == torch.float32
    assert x[0, 0].abs().max() < 0.02
    assert x[0, 1, 0, 0] == pytest.approx((1 - backbone.mean[1]) / backbone.std[1], abs=1e-5)
