"""Deletion and insertion: they reward heat that lies where the answer comes from."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from heritage.backbones import get_backbone
from heritage.checkpoints import load_checkpoint
from heritage.classifiers import DamageClassifier
from heritage.engines import Answer
from heritage.heatmaps import grad_cam
from heritage.training.datasets import PhotoCache, Sample
from heritage.training.faithfulness import heat_map_figures
from heritage.training.speed import PEER_TITLE, speed_figures


class Darkness(nn.Module):
    """A backbone that sees how dark each 32 px cell is; what is blurred is not dark."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d((-x.mean(1, keepdim=True)).relu(), 32) + self.nothing


def darkness_classifier() -> Callable[[Tensor], Answer]:
    """Answers "damaged" where the photo holds a dark place."""
    model = DamageClassifier(Darkness(), channels=1)
    with torch.no_grad():
        model.head.dense.weight.fill_(1.0)
        model.head.dense.bias.fill_(0.0)
        model.head.logit.weight.fill_(300 / 512)
        model.head.logit.bias.fill_(-5.0)
    model.requires_grad_(False).eval()
    return lambda x: Answer(*grad_cam(model, x))


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    samples = []
    for number in range(6):
        wall = np.full((224, 288, 3), 250, np.uint8)
        top, left = rng.integers(0, 7) * 32, rng.integers(0, 9) * 32
        wall[top : top + 32, left : left + 32] = 0
        path = tmp_path / f"{number}.png"
        Image.fromarray(wall).save(path)
        samples.append(Sample(path, float(number < 5), "test"))
    return samples


def test_heat_on_the_dark_place_beats_places_at_random(photos):
    found = heat_map_figures(
        darkness_classifier(), get_backbone("resnet18"), 1.0, photos, PhotoCache(448), photos=9
    )
    assert found["n"] == 5, "only damaged photos are looked at"
    assert found["insertion"]["value"] > found["insertion_random"]["value"] + 0.1
    for name in ("deletion", "insertion", "deletion_random", "insertion_random"):
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"]
        curve = found["curves"][name]
        assert len(curve) == 11
        assert all(0 <= value <= 1 for value in curve)
    whole, hidden = found["curves"]["deletion"][0], found["curves"]["deletion"][-1]
    assert found["curves"]["insertion"][-1] == pytest.approx(whole, abs=1e-3)
    assert found["curves"]["insertion"][0] == pytest.approx(hidden, abs=1e-3)


def test_the_figures_can_be_repeated_and_the_number_of_photos_is_kept(photos):
    told = []

    def on_photo(total):
        return lambda: told.append(total)

    def run(count):
        answer, backbone = darkness_classifier(), get_backbone("resnet18")
        return heat_map_figures(
            answer, backbone, 1.0, photos, PhotoCache(448), photos=count, on_photo=on_photo
        )

    assert run(3) == run(3)
    assert run(3)["n"] == 3
    assert told == [3] * 9, "of how many, at each"


def test_speed_is_a_ratio_to_a_named_peer(weights_dir):
    found = speed_figures(load_checkpoint("mobilenet_v2", weights_dir), rounds=3)
    assert 0 < found["low"] <= found["ratio"] <= found["high"]
    assert found["peer"] == PEER_TITLE
    assert "ResNet-50" in found["peer"]
