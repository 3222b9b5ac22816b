import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import crack_photo, save_untrained, wall

from heritage.backbones import BACKBONES, CASCADE
from heritage.cards import ModelCard, read_card
from heritage.checkpoints import Checkpoint, load_checkpoint, save_checkpoint, save_pointer
from heritage.classifiers import build_classifier
from heritage.cli import main
from heritage.engines import Engine
from heritage.errors import BackboneError, CheckpointError
from heritage.pointing import PointingFeatures, PointingHead, sequence_of, tap_points
from heritage.training.config import PointingConfig
from heritage.training.datasets import PhotoCache, Sample, read_samples
from heritage.training.pointing import _loss, _Views, fit_pointing
from heritage.training.synthetic import cast_shadow, paint_damage_and_mask, paint_harmless

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", sorted(set(BACKBONES) - {CASCADE}))
def test_every_backbone_can_be_given_a_head(name):
    backbone = BACKBONES[name]
    torch.manual_seed(0)
    model = build_classifier(backbone).requires_grad_(False).eval()
    taps, depths = tap_points(model.features, backbone)
    assert list(taps) == sorted(taps)
    assert len(taps) >= 3
    head = PointingHead(depths).requires_grad_(False).eval()
    x = torch.randn(2, 3, 160, 224, generator=torch.Generator().manual_seed(1))
    heat = PointingFeatures(model.features, taps, head)(x)
    assert heat.shape[0] == 2
    for got, side in zip(heat.shape[1:], (160, 224), strict=True):
        assert side / 4 * 0.85 <= got <= side / 4
    card = ModelCard(name=name, backbone=name, sha256="", parameters=1)
    engine = Engine(Checkpoint(model, backbone, card, head), "cpu")
    assert (engine.point(x) - heat).abs().max() <= 1e-3 * heat.abs().max()


def test_a_cascade_is_no_sequence_to_be_read():
    features = build_classifier(BACKBONES[CASCADE]).features
    with pytest.raises(BackboneError, match="no head that points"):
        sequence_of(features, BACKBONES[CASCADE])


@pytest.fixture(scope="module")
def pointed(tmp_path_factory):
    """A checkpoint, and toy photos in a folder."""
    from helpers import labelled_folder

    root = tmp_path_factory.mktemp("pointed")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_untrained(root / "weights", auroc=0.5)
    return root / "weights", labelled_folder(root / "toy")


def test_the_command_leaves_the_checkpoint_as_it_is_but_for_its_head(pointed, capsys):
    weights, toy = pointed
    before = (weights / "mobilenet_v2.safetensors").read_bytes()
    command = ["train-pointing", str(toy), "--backbone", "mobilenet_v2", "--weights", str(weights)]
    assert main([*command, "--steps", "3", "--batch-size", "2"]) == 0
    assert capsys.readouterr().out.strip().endswith("mobilenet_v2.pointer.safetensors")
    assert (weights / "mobilenet_v2.safetensors").read_bytes() == before
    checkpoint = load_checkpoint("mobilenet_v2", weights)
    assert checkpoint.pointer is not None
    assert not checkpoint.pointer.training
    made = checkpoint.card.pointing
    assert made["settings"]["steps"] == 3
    assert made["photos"] == 24
    assert made["command"].startswith("python -m heritage train-pointing toy")

    # A checkpoint trained anew has other features, which the old head cannot read.
    save_checkpoint(checkpoint.model, checkpoint.card, weights)
    assert load_checkpoint("mobilenet_v2", weights).pointer is None


def test_it_goes_on_from_a_head_of_the_same_backbone_alone(pointed, tmp_path, capsys):
    weights, toy = Path(shutil.copytree(pointed[0], tmp_path / "weights")), pointed[1]
    command = ["train-pointing", str(toy), "--weights", str(weights), "--batch-size", "2"]
    of_ours = [*command, "--backbone", "mobilenet_v2"]
    assert main([*of_ours, "--steps", "3", "--learning-rate", "0.05"]) == 0
    first = load_checkpoint("mobilenet_v2", weights).pointer.state_dict()
    old = tmp_path / "old.safetensors"
    (weights / "mobilenet_v2.pointer.safetensors").rename(old)
    assert main([*of_ours, "--steps", "1", "--learning-rate", "1e-9", "--init", str(old)]) == 0
    found = load_checkpoint("mobilenet_v2", weights)
    assert found.card.pointing["settings"]["init"] == "old.safetensors"
    weight = next(key for key in first if key.endswith("weight") and first[key].dim() == 4)
    assert torch.allclose(found.pointer.state_dict()[weight], first[weight], atol=1e-3)

    save_untrained(weights, "resnet18")
    capsys.readouterr()
    assert main([*command, "--backbone", "resnet18", "--init", str(old)]) == 1
    assert "the weights do not fit the backbone" in capsys.readouterr().err
    assert main([*of_ours, "--init", str(tmp_path / "none")]) == 1
    assert "none: it cannot be read" in capsys.readouterr().err


def test_it_learns_where_painted_damage_is(pointed):
    _, toy = pointed
    checkpoint = load_checkpoint("mobilenet_v2", ROOT / "weights")
    config = PointingConfig(steps=150, batch_size=6, side_px=96, ema_decay=0.8)
    samples = read_samples(toy)
    cache = PhotoCache(448)
    head = fit_pointing(checkpoint, samples, cache, config)
    engine = Engine(Checkpoint(checkpoint.model, checkpoint.backbone, checkpoint.card, head), "cpu")
    rng = np.random.default_rng(5)
    inside, outside = [], []
    for seed in range(8):
        painted, mask = paint_damage_and_mask(wall(False, (96, 96), seed), rng)
        x = torch.from_numpy(painted).permute(2, 0, 1)[None]
        heat = engine.point((x.float() / 255 - 0.45) / 0.225)[0]
        near = torch.nn.functional.adaptive_max_pool2d(
            torch.from_numpy(mask.astype(np.float32))[None, None], heat.shape
        )[0, 0].bool()
        inside.append(heat[near].mean().item())
        outside.append(heat[~near].mean().item())
    assert np.mean(inside) > np.mean(outside) + 0.3


def test_of_a_damaged_photo_of_any_size_only_the_hottest_places_are_asked_for(tmp_path):
    path = tmp_path / "wall.jpg"
    crack_photo(path, size=(500, 420))
    config = PointingConfig(side_px=96, damaged_share=1.0)
    samples = [Sample(path, 1.0), Sample(path, 0.0)]
    views = iter(_Views(samples, PhotoCache(448), config))
    masks = torch.stack([next(views)[1] for _ in range(40)])
    logits = torch.zeros(40, 24, 24)
    # Cold places cost nothing: only that none is hot does.
    hottest = torch.tensor(2.0).log().item() * config.hottest_share
    assert _loss(logits, masks, config).item() == pytest.approx(hottest)
    logits[:, 0, :6] = 30.0
    assert _loss(logits, masks, config).item() == pytest.approx(0, abs=1e-6)


def test_photos_of_one_class_are_refused_before_they_are_read(pointed, tmp_path, capsys):
    weights, toy = pointed
    shutil.copytree(toy / "damaged", tmp_path / "damaged")
    command = ["train-pointing", str(tmp_path), "--backbone", "mobilenet_v2"]
    assert main([*command, "--weights", str(weights)]) == 1
    assert "do not hold both classes" in capsys.readouterr().err


@pytest.mark.parametrize("harm", ["gone", "another", "other layers"])
def test_a_head_that_does_not_belong_is_refused(pointed, tmp_path, harm):
    weights, _ = pointed
    for name in ("mobilenet_v2.safetensors", "mobilenet_v2.json"):
        (tmp_path / name).write_bytes((weights / name).read_bytes())
    card = read_card(tmp_path / "mobilenet_v2.json")
    depths = (24, 32, 96, 1280) if harm != "other layers" else (24, 32, 96, 640)
    save_pointer(card, PointingHead(depths), {}, tmp_path)
    path = tmp_path / "mobilenet_v2.pointer.safetensors"
    if harm == "gone":
        path.unlink()
    elif harm == "another":
        path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(CheckpointError, match=r"mobilenet_v2\.pointer\.safetensors"):
        load_checkpoint("mobilenet_v2", tmp_path)
    assert load_checkpoint("mobilenet_v2", tmp_path, pointing=False).pointer is None


def test_a_lost_head_is_mended_by_training_it_anew(pointed, tmp_path, capsys):
    weights, toy = pointed
    for name in ("mobilenet_v2.safetensors", "mobilenet_v2.json"):
        shutil.copy(weights / name, tmp_path)
    save_pointer(
        read_card(tmp_path / "mobilenet_v2.json"), PointingHead((24, 32, 96, 1280)), {}, tmp_path
    )
    (tmp_path / "mobilenet_v2.pointer.safetensors").unlink()
    with pytest.raises(CheckpointError, match="train-pointing DATA --backbone mobilenet_v2"):
        load_checkpoint("mobilenet_v2", tmp_path)
    command = ["train-pointing", str(toy), "--backbone", "mobilenet_v2", "--steps", "2"]
    assert main([*command, "--batch-size", "2", "--weights", str(tmp_path)]) == 0
    assert load_checkpoint("mobilenet_v2", tmp_path).pointer is not None


@pytest.mark.parametrize("hot", [0, 1, "half", None])
def test_a_card_whose_hot_threshold_makes_no_sense_is_refused(pointed, tmp_path, hot):
    weights, _ = pointed
    values = json.loads((weights / "mobilenet_v2.json").read_text())
    values["pointing"] = {"sha256": "0" * 64, "hot": hot}
    (tmp_path / "mobilenet_v2.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError):
        read_card(tmp_path / "mobilenet_v2.json")


def test_paint_lies_where_the_mask_says():
    within = without = 0.0
    for seed in range(30):
        view = wall(False, (160, 160), seed)
        painted, mask = paint_damage_and_mask(view, np.random.default_rng(seed))
        changed = np.abs(painted.astype(int) - view).max(2)
        within += changed[mask].sum() / max(mask.sum(), 1)  # a crack may begin and end at the rim
        without += changed[~mask].mean()
    assert within > 8 * without


@pytest.mark.parametrize("paint", [paint_harmless, cast_shadow])
def test_harmless_paint_changes_the_view_and_keeps_its_form(paint):
    view = wall(False, (160, 160))
    painted = paint(view, np.random.default_rng(2))
    assert painted.shape == view.shape
    assert painted.dtype == np.uint8
    assert (painted != view).any()
