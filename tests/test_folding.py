import pytest
import torch
from torch import nn

from heritage.backbones import BACKBONES, get_backbone
from heritage.classifiers import build_classifier
from heritage.training.config import TrainingConfig
from heritage.training.datasets import read_samples, with_validation
from heritage.training.fitting import fit
from heritage.training.folding import fold_norms, insert_norms, lacks_norms


def norms(module):
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def test_only_the_backbones_published_without_norms_lack_them():
    with torch.device("meta"):
        lacking = {n for n, b in BACKBONES.items() if lacks_norms(build_classifier(b).features)}
    assert lacking == {"alexnet", "vgg16"}


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_folding_gives_the_published_layers_back_and_the_same_features(name):
    torch.manual_seed(0)
    features = build_classifier(get_backbone(name)).features
    published = {key: value.shape for key, value in features.state_dict().items()}
    insert_norms(features)
    assert len(norms(features)) == sum(isinstance(m, nn.Conv2d) for m in features.modules())
    features.train()
    with torch.no_grad():
        for _ in range(3):
            features(torch.randn(4, 3, 96, 96) * 2 + 1)
        x = torch.randn(2, 3, 96, 128)
        before = features.eval()(x)
        fold_norms(features)
        after = features(x)
    assert not norms(features)
    assert {key: value.shape for key, value in features.state_dict().items()} == published
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_a_network_without_norms_is_trained_with_them_and_given_back_without(toy_data, tmp_path):
    config = TrainingConfig(
        backbone="alexnet", init="scratch", epochs=2, crop_side_px=64, batch_size=8, workers=0,
        learning_rate=1e-3,
    )  # fmt: skip
    samples = with_validation(read_samples(toy_data))
    model, history = fit(config, samples, tmp_path / "run", teacher_folder=tmp_path)
    assert not norms(model.features)
    assert len(history) == 2
    assert set(model.state_dict()) == set(build_classifier(get_backbone("alexnet")).state_dict())
