import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import crack_photo, save_untrained
from safetensors.torch import save

from heritage import Inspector
from heritage.backbones import BACKBONES, get_backbone
from heritage.checkpoints import load_checkpoint
from heritage.classifiers import build_classifier, parameter_count
from heritage.errors import CheckpointError, TrainingError
from heritage.inputs import network_input
from heritage.photos import open_photo
from heritage.training.config import TrainingConfig
from heritage.training.pruning import pruned
from heritage.training.run import evaluate, train

SHIPPED = Path(__file__).resolve().parent.parent / "weights"
LIGHT = ["mobilenet_v3_small", "resnet18", "googlenet", "alexnet", "mobilenet_v2"]
QUICK = TrainingConfig(
    backbone="mobilenet_v2", init="scratch", epochs=1, crop_side_px=64, batch_size=8, workers=0,
    learning_rate=1e-3, prune=0.2, prune_epochs=2,
)  # fmt: skip


@pytest.mark.parametrize("name", LIGHT)
def test_at_least_the_asked_share_goes_and_the_network_still_answers(name):
    model = build_classifier(get_backbone(name)).eval()
    before = parameter_count(model)
    smaller = pruned(model, 0.3)
    assert parameter_count(model) == before, "the network that was given stays whole"
    assert 0.5 * before < parameter_count(smaller) <= 0.7 * before
    with torch.no_grad():
        assert smaller(torch.randn(2, 3, 96, 128)).shape == (2, 1)


def test_the_least_important_channels_go_first():
    model = build_classifier(get_backbone("alexnet")).eval()
    faint = torch.zeros(64, dtype=torch.bool)
    faint[::2] = True
    with torch.no_grad():
        first, second = model.features[0], model.features[3]
        first.weight[faint] *= 1e-3
        first.bias[faint] *= 1e-3
        second.weight[:, faint] *= 1e-3
    kept = pruned(model, 0.2).features[0].weight.abs().amax((1, 2, 3))
    assert len(kept) < 64
    assert (kept > 1e-3).sum() == 32, "only faint channels have gone"


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18"])
def test_a_trained_network_orders_photos_as_before_without_a_fifth_of_it(name):
    whole = load_checkpoint(name, SHIPPED)
    smaller = pruned(whole.model, 0.2)
    answers = []
    for seed in range(16):
        photo = open_photo(crack_photo(cracked=seed % 2 == 0, seed=seed), "wall.jpg")
        x = network_input(photo.pixels(short_side_px=448), whole.backbone)
        with torch.no_grad():
            answers.append([model(x).item() for model in (whole.model, smaller)])
    assert np.corrcoef(np.transpose(answers))[0, 1] > 0.9, "before any fine-tuning"


def test_more_than_can_go_is_an_error():
    with pytest.raises(TrainingError, match="cannot be removed"):
        pruned(build_classifier(get_backbone("alexnet")), 0.9999)


def test_a_pruned_checkpoint_loads_inspects_and_evaluates_like_any_other(toy_data, tmp_path):
    seen = []
    card = train(
        QUICK, toy_data, out=tmp_path / "out", run_dir=tmp_path / "run", listen=seen.append
    )
    whole = parameter_count(build_classifier(BACKBONES["mobilenet_v2"]))
    assert card.parameters <= 0.8 * whole
    assert card.pruned == pytest.approx(1 - card.parameters / whole, abs=1e-3)
    assert [record["epoch"] for record in card.training["history"]] == [1, 2, 3]
    assert max(event.epoch for event in seen) == 3
    assert not (tmp_path / "run").exists()
    file = tmp_path / "out" / "mobilenet_v2.safetensors"
    save_untrained(tmp_path / "whole", "mobilenet_v2")
    assert file.stat().st_size < 0.85 * (tmp_path / "whole" / file.name).stat().st_size
    crack_photo(tmp_path / "a.png")
    found = Inspector("mobilenet_v2", folder=tmp_path / "out").inspect(tmp_path / "a.png")
    assert found.heatmap.shape == (180, 240)
    assert evaluate("mobilenet_v2", toy_data, tmp_path / "out").metrics["all"]["n"] == 24


def test_a_checkpoint_that_is_there_is_pruned_as_it_is_and_teaches_the_smaller_one(
    toy_data, tmp_path
):
    save_untrained(tmp_path / "out", "mobilenet_v2")
    seen = []
    card = train(
        replace(QUICK, prune_of="mobilenet_v2"),
        toy_data,
        out=tmp_path / "out",
        name="small",
        run_dir=tmp_path / "run",
        unlabelled=toy_data / "sound",
        listen=seen.append,
    )
    assert card.pruned >= 0.2
    assert [record["epoch"] for record in card.training["history"]] == [1, 2]
    assert max(event.epoch for event in seen) == 2
    assert card.training["config"]["prune_of"] == "mobilenet_v2"
    assert card.data["unlabelled"] > 0, "the whole network answers for these"
    assert not (tmp_path / "run").exists()


def test_a_pruned_network_is_tuned_on_what_the_whole_one_says_not_on_labels(toy_data, tmp_path):
    save_untrained(tmp_path / "out", "mobilenet_v2")
    settings = replace(QUICK, prune_of="mobilenet_v2", prune_epochs=1)
    taught = {
        "by itself": settings,
        "alone": replace(settings, teacher="mobilenet_v2", teacher_share=1.0),
        "and by labels": replace(settings, teacher="mobilenet_v2", teacher_share=0.5),
    }
    made = {
        name: train(each, toy_data, out=tmp_path / "out", name=name, run_dir=tmp_path / name)
        for name, each in taught.items()
    }
    assert made["by itself"].sha256 == made["alone"].sha256
    assert made["by itself"].sha256 != made["and by labels"].sha256
    assert made["by itself"].training["config"]["teacher_share"] == 1.0, "and the card says so"


def test_only_a_checkpoint_of_the_same_backbone_is_pruned(toy_data, tmp_path):
    save_untrained(tmp_path, "resnet18")
    settings = replace(QUICK, prune_of="resnet18")
    read = []
    with pytest.raises(TrainingError, match=r"resnet18: it is no MobileNetV2; add --backbone"):
        train(settings, toy_data, out=tmp_path, name="small", on_photo=read.append)
    assert not read, "it is told before the photos are read"
    with pytest.raises(CheckpointError, match="nowhere"):
        train(replace(settings, prune_of="nowhere"), toy_data, out=tmp_path, name="small")
    with pytest.raises(TrainingError, match="say with --prune"):
        replace(settings, prune=0.0)


def test_a_run_stopped_while_tuning_the_pruned_network_goes_on_there(toy_data, tmp_path):
    class StoppedError(Exception):
        pass

    def stop(event):
        if event.epoch == 3:
            raise StoppedError

    places = {"out": tmp_path / "out", "run_dir": tmp_path / "run"}
    with pytest.raises(StoppedError):
        train(QUICK, toy_data, **places, listen=stop)
    seen = []
    card = train(QUICK, toy_data, **places, listen=seen.append)
    assert min(event.epoch for event in seen) == 3
    whole = train(QUICK, toy_data, out=tmp_path / "b", run_dir=tmp_path / "run b")
    assert card.sha256 == whole.sha256


def test_widths_that_do_not_fit_each_other_are_refused(tmp_path):
    save_untrained(tmp_path, "resnet18", name="broken")
    card = json.loads((tmp_path / "broken.json").read_text())
    model = load_checkpoint("broken", tmp_path).model
    state = model.state_dict()
    for key in [k for k in state if k.startswith("features.layer1.0.conv1")]:
        state[key] = state[key][:40]
    data = save({key: value.contiguous() for key, value in state.items()})
    (tmp_path / "broken.safetensors").write_bytes(data)
    card |= {"sha256": sha256(data).hexdigest(), "pruned": 0.1}
    (tmp_path / "broken.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="do not fit each other"):
        load_checkpoint("broken", tmp_path)
