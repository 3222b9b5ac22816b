from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from filelock import FileLock
from helpers import crack_photo, save_untrained

from heritage import Inspector
from heritage.backbones import BACKBONES, get_backbone
from heritage.cards import INT8, ModelCard, default_name, list_cards, read_card, write_card
from heritage.checkpoints import (
    load_checkpoint,
    load_features,
    round_as_stored,
    save_checkpoint,
    save_pointer,
    update_card,
)
from heritage.classifiers import build_classifier, parameter_count
from heritage.errors import CheckpointError
from heritage.pointing import PointingHead, tap_points


@pytest.fixture
def stored(weights_dir, tmp_path):
    """A copy of the untrained checkpoint that a test may spoil."""
    return Path(shutil.copytree(weights_dir, tmp_path / "stored"))


@pytest.fixture
def lived_in():
    """A ResNet-18 that has seen data, so that its running statistics are its own."""
    model = build_classifier(get_backbone("resnet18")).train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(4, 3, 64, 64) * 3 + 1)
    return model.eval()


def replace_weights(folder, data, name="mobilenet_v2"):
    """Puts `data` in the place of the weights and its hash into the card."""
    (folder / f"{name}.safetensors").write_bytes(data)
    change_card(folder, name, sha256=hashlib.sha256(data).hexdigest())


def change_card(folder, name="mobilenet_v2", **values):
    path = folder / f"{name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def resnet_card(name="net"):
    return ModelCard(name=name, backbone="resnet18", sha256="", parameters=0)


def test_a_checkpoint_comes_back_as_the_model_that_was_scored(lived_in, tmp_path):
    x = torch.randn(2, 3, 64, 96)
    round_as_stored(lived_in)
    saved = save_checkpoint(lived_in, resnet_card(), tmp_path / "new")
    loaded = load_checkpoint("net", tmp_path / "new")
    with torch.no_grad():
        assert torch.equal(loaded.model(x), lived_in(x))
    assert loaded.backbone is BACKBONES["resnet18"]
    assert loaded.card.parameters == saved.parameters == parameter_count(lived_in)
    data = (tmp_path / "new" / "net.safetensors").read_bytes()
    assert loaded.card.sha256 == saved.sha256 == hashlib.sha256(data).hexdigest()


def test_a_loaded_model_is_frozen_and_in_evaluation_mode(weights_dir):
    model = load_checkpoint("mobilenet_v2", weights_dir).model
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_weights_are_stored_in_half_precision_but_running_statistics_in_full(lived_in, tmp_path):
    save_checkpoint(lived_in, resnet_card(), tmp_path)
    tensors = safetensors.torch.load_file(tmp_path / "net.safetensors")
    statistics = {k for k in tensors if k.endswith(("running_mean", "running_var"))}
    floats = {k for k, v in tensors.items() if v.is_floating_point()}
    assert statistics
    assert {tensors[k].dtype for k in statistics} == {torch.float32}
    assert {tensors[k].dtype for k in floats - statistics} == {torch.float16}


def test_int8_weights_come_back_as_the_model_that_was_scored(lived_in, tmp_path):
    card = replace(resnet_card(), precision=INT8)
    round_as_stored(lived_in, INT8)
    x = torch.randn(2, 3, 64, 96)
    save_checkpoint(lived_in, card, tmp_path)
    with torch.no_grad():
        assert torch.equal(load_checkpoint("net", tmp_path).model(x), lived_in(x))


def test_int8_is_half_as_large_and_every_channel_keeps_its_own_scale(lived_in, tmp_path):
    with torch.no_grad():
        lived_in.features.conv1.weight[0] *= 1e-3  # lost with one scale for all channels
    exact = lived_in.features.conv1.weight.clone()
    save_checkpoint(lived_in, resnet_card("half"), tmp_path)
    save_checkpoint(lived_in, replace(resnet_card("eighth"), precision=INT8), tmp_path)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "eighth")]
    assert sizes[1] < 0.55 * sizes[0]
    loaded = load_checkpoint("eighth", tmp_path).model.features.conv1.weight
    largest = exact.abs().amax((1, 2, 3), keepdim=True)
    assert ((loaded - exact).abs() / largest).max() <= 0.5 / 127 + 1e-6


def test_scales_that_do_not_fit_their_weights_are_refused(lived_in, tmp_path):
    save_checkpoint(lived_in, replace(resnet_card(), precision=INT8), tmp_path)
    tensors = safetensors.torch.load((tmp_path / "net.safetensors").read_bytes())
    for wrong in ({"features.conv1.weight.scale": torch.ones(3)}, {"no.such.scale": torch.ones(3)}):
        data = safetensors.torch.save(tensors | wrong)
        replace_weights(tmp_path, data, "net")
        with pytest.raises(CheckpointError, match="does not fit its scales"):
            load_checkpoint("net", tmp_path)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_is_saved_loaded_and_inspects_a_photo(name, tmp_path):
    model = build_classifier(get_backbone(name))
    card = ModelCard(name=name, backbone=name, sha256="", parameters=0)
    saved = save_checkpoint(model, card, tmp_path)
    assert saved.parameters == parameter_count(model)
    found = Inspector(name, folder=tmp_path).inspect(crack_photo(size=(200, 150)))
    assert found.heatmap.shape == (150, 200)
    assert 0 <= found.damage_percent <= 100


@pytest.mark.parametrize(
    "tensors",
    [
        {"features.0.0.weight": torch.ones(3)},
        {"head.dense.weight": torch.ones(3)},
        {"head.norm_in.weight": torch.tensor(1.0)},
        {"head.dense.weight": torch.ones(4, 4, dtype=torch.float8_e4m3fn)},
        {"head.dense.weight.scale": torch.tensor(1.0)},
        {
            "head.dense.weight": torch.full((512, 1280), 127, dtype=torch.int8),
            "head.dense.weight.scale": torch.full((512,), 3e38),
        },
    ],
    ids=["conv", "dense", "norm", "8-bit floats", "scale", "overflow"],
)
def test_weights_of_odd_shapes_are_an_error_in_words(stored, tensors):
    whole = safetensors.torch.load((stored / "mobilenet_v2.safetensors").read_bytes())
    replace_weights(stored, safetensors.torch.save(whole | tensors))
    change_card(stored, pruned=0.1)
    with pytest.raises(CheckpointError):
        load_checkpoint("mobilenet_v2", stored)


FIGURE = {"value": 0.5, "low": 0.4, "high": 0.6}
AT_ONCE = {"pointing_game": FIGURE, "energy": FIGURE, "iou": FIGURE, "seconds_a_photo": 0}
COMPARED = {"n": 1, "p": 0.5, "only_this_right": 1, "only_other_right": 0}
BIN = {"n": -1, "probability": 0.5, "damaged": 0.5}


@pytest.mark.parametrize(
    "values",
    [
        {"metrics": {"test": {"n": 3, "accuracy": {**FIGURE, "value": "0.5"}}}},
        {"metrics": {"test": {"n": 3, "recall_damaged": 0.5}}},
        {"metrics": {"test": {"n": 3, "confusion": {"damaged_called_sound": 1}}}},
        {"metrics": {"test": {"n": 3, "turned": {"n": "three"}}}},
        {"speed": {"ratio": "1.5", "peer": "x"}},
        {"speed": {"ratio": 0, "peer": "x"}},
        {"speed": {"ratio": 1.0}},
        {"pruned": "yes"},
        {"unsure": [0.9, 0.1]},
        {"data": {"photos": {"train": [1]}}},
        {"data": {"sources": [1]}},
        {"heat_maps": {"n": "![x](http://example.org)"}},
        {"heat_maps": {"n": 3, "deletion": {}, "deletion_random": FIGURE}},
        {"comparison": {"another": {"test": {"n": 1, "p": "0.5"}}}},
        {"comparison": {"another": {"test": COMPARED | {"n": 0}}}},
        {"comparison": {"another": {"n": 1, "p": 0.5}}},
        {"localisation": {"cracks": {"n": 3, "chance": "<b>", "methods": {}}}},
        {"localisation": {"cracks": {"n": 3, "chance": 0.1, "methods": {"x": {"iou": FIGURE}}}}},
        {"localisation": {"cracks": {"n": 3, "chance": 0.1, "methods": {}}}},
        {"localisation": {"cracks": {"n": 3, "chance": 0.1, "methods": {"x": AT_ONCE}}}},
        {
            "metrics": {
                "test": {"n": 3, "confusion": {}, "reliability": [BIN], "reliability_before": []}
            }
        },
    ],
    ids=str,
)
def test_a_card_that_pages_could_not_show_is_refused(stored, values):
    change_card(stored, **values)
    with pytest.raises(CheckpointError, match="the card cannot be read"):
        read_card(stored / "mobilenet_v2.json")


def test_one_flipped_bit_is_noticed(stored):
    path = stored / "mobilenet_v2.safetensors"
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"mobilenet_v2\.safetensors: its hash .* its card"):
        load_checkpoint("mobilenet_v2", stored)


class Payload:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return (os.mkdir, (self.target,))


def test_a_pickle_is_refused_and_its_code_does_not_run(stored, tmp_path):
    replace_weights(stored, pickle.dumps(Payload(tmp_path / "ran")))
    with pytest.raises(CheckpointError, match="no safetensors file"):
        load_checkpoint("mobilenet_v2", stored)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("length", [0, 5, 1000, -1000])
def test_a_file_that_ends_early_is_refused(stored, length):
    data = (stored / "mobilenet_v2.safetensors").read_bytes()[:length]
    replace_weights(stored, data)
    with pytest.raises(CheckpointError, match="no safetensors file"):
        load_checkpoint("mobilenet_v2", stored)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(stored, value):
    tensors = safetensors.torch.load_file(stored / "mobilenet_v2.safetensors")
    tensors["head.logit.bias"][0] = value
    replace_weights(stored, safetensors.torch.save(tensors))
    with pytest.raises(CheckpointError, match=r"head\.logit\.bias .* not finite"):
        load_checkpoint("mobilenet_v2", stored)


def test_a_file_with_a_name_that_cannot_be_shown_hides_no_other(stored):
    for end in (".json", ".safetensors"):
        odd = os.fsencode(stored) + b"/ch\xe2teau" + end.encode()
        Path(os.fsdecode(odd)).write_bytes((stored / f"mobilenet_v2{end}").read_bytes())
    assert [card.name for card in list_cards(stored)] == ["mobilenet_v2"]


def test_a_card_never_holds_what_no_database_takes(stored):
    path = stored / "mobilenet_v2.json"
    whole = path.read_text()
    values = json.loads(whole)
    values["training"] = {"history": [{"seconds": float("nan")}]}
    path.write_text(json.dumps(values))
    assert read_card(path).training == {"history": [{"seconds": None}]}
    path.write_text(json.dumps(values).replace("NaN", "1e999"))
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_card(path)


def absurd(stored):
    """Finite weights whose answer is none: the root of a negative variance."""
    tensors = safetensors.torch.load_file(stored / "mobilenet_v2.safetensors")
    name = next(name for name in tensors if name.endswith("running_var"))
    tensors[name].fill_(-1.0)
    replace_weights(stored, safetensors.torch.save(tensors))


def test_an_answer_that_is_no_number_is_an_error_and_not_a_sound_photo(stored):
    absurd(stored)
    with pytest.raises(CheckpointError, match="its answer is no number"):
        Inspector("mobilenet_v2", folder=stored).inspect(crack_photo())


def test_weights_of_another_backbone_are_refused(stored):
    change_card(stored, backbone="resnet18")
    with pytest.raises(CheckpointError, match="do not fit the backbone"):
        load_checkpoint("mobilenet_v2", stored)


def test_a_card_without_its_weights_is_an_error(stored):
    (stored / "mobilenet_v2.safetensors").unlink()
    with pytest.raises(CheckpointError, match="the weights are not"):
        load_checkpoint("mobilenet_v2", stored)


def test_a_missing_checkpoint_is_answered_with_those_there(weights_dir):
    with pytest.raises(CheckpointError, match="no such checkpoint; choose one of: mobilenet_v2"):
        load_checkpoint("nothing", weights_dir)


def test_a_backbone_that_is_not_trained_yet_is_answered_with_how_to_train_it(weights_dir):
    with pytest.raises(CheckpointError, match="train DATA --backbone resnet18"):
        load_checkpoint("resnet18", weights_dir)


BROKEN_CARDS = {
    "half a file": '{"name": "mobilenet_v2", "back',
    "empty": "",
    "a list": "[1, 2]",
    "without a field": '{"name": "x", "backbone": "mobilenet_v2", "parameters": 1}',
    "another backbone": '{"name":"x","backbone":"lenet","sha256":"0","parameters":1}',
    "backbone of another type": '{"name":"x","backbone":["a"],"sha256":"0","parameters":1}',
}


@pytest.mark.parametrize("text", BROKEN_CARDS.values(), ids=BROKEN_CARDS)
def test_a_broken_card_is_an_error_that_names_it(stored, text):
    (stored / "mobilenet_v2.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"mobilenet_v2\.json: the card cannot be read"):
        load_checkpoint("mobilenet_v2", stored)


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 0},
        {"temperature": -1.0},
        {"temperature": "1.5"},
        {"temperature": None},
        {"temperature": float("nan")},
        {"threshold": 50},
    ],
    ids=str,
)
def test_a_card_with_figures_that_make_no_sense_is_refused(stored, values):
    change_card(stored, **values)
    with pytest.raises(CheckpointError, match=r"mobilenet_v2\.json: the card cannot be read"):
        read_card(stored / "mobilenet_v2.json")


def test_a_card_may_hold_fields_of_a_later_version(stored):
    change_card(stored, invented_later=1)
    assert load_checkpoint("mobilenet_v2", stored).card.backbone == "mobilenet_v2"


def test_cards_are_listed_best_on_validation_first_and_broken_ones_left_out(tmp_path):
    save_untrained(tmp_path, name="good", auroc=0.9)
    save_untrained(tmp_path, name="better", auroc=0.95)
    save_untrained(tmp_path, name="a-worst", auroc=0.6)
    save_untrained(tmp_path, name="unscored")
    (tmp_path / "broken.json").write_text("{")
    assert [card.name for card in list_cards(tmp_path)] == ["better", "good", "a-worst", "unscored"]
    assert default_name(tmp_path) == "better"


def test_easy_photos_of_its_own_do_not_make_a_checkpoint_everybodys_default(tmp_path):
    save_untrained(tmp_path, name="shipped", auroc=0.9)
    card = read_card(tmp_path / "shipped.json")
    write_card(
        replace(card, metrics=card.metrics | {"test_other_source": card.metrics["validation"]}),
        tmp_path,
    )
    save_untrained(tmp_path, name="our_town", auroc=0.99)
    assert [card.name for card in list_cards(tmp_path)] == ["shipped", "our_town"]


def test_a_source_may_have_any_name(stored):
    table = {"n": 2, "recall_sound": {"value": 1.0, "low": 0.5, "high": 1.0}}
    change_card(stored, metrics={"test": table | {"sources": {"value": table, "b": table}}})
    assert set(read_card(stored / "mobilenet_v2.json").metrics["test"]["sources"]) == {"value", "b"}


def test_an_empty_folder_is_answered_with_how_to_train(tmp_path):
    assert list_cards(tmp_path) == []
    with pytest.raises(CheckpointError, match="python -m heritage train"):
        default_name(tmp_path)


def test_the_environment_can_move_the_weights_folder(weights_dir, monkeypatch):
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(weights_dir))
    assert [card.name for card in list_cards()] == ["mobilenet_v2"]
    assert load_checkpoint("mobilenet_v2").card.name == "mobilenet_v2"


def test_a_renamed_checkpoint_is_listed_under_the_name_it_can_be_loaded_by(stored):
    for path in list(stored.iterdir()):
        path.rename(path.with_stem("town_hall"))
    (card,) = list_cards(stored)
    assert card.title == "MobileNetV2 (town_hall)"
    assert load_checkpoint(card.name, stored).card == card


@pytest.mark.parametrize("part", ["safetensors", "json"])
def test_a_write_that_is_interrupted_leaves_the_old_file(stored, monkeypatch, part):
    def power_cut(descriptor):
        raise OSError("no space left on device")

    path = stored / f"mobilenet_v2.{part}"
    old = path.read_bytes()
    if part == "safetensors":
        monkeypatch.setattr(os, "fsync", power_cut)
    else:
        replace = Path.replace

        def cut_before_the_card(self, target):
            if "json" in self.name:
                raise OSError("power cut")
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", cut_before_the_card)
    with pytest.raises(OSError):
        save_untrained(stored, "mobilenet_v2")
    assert path.read_bytes() == old


FIGURE = {"value": 0.5, "low": 0.4, "high": 0.6}
FOUND = {
    "masonry cracks": {
        "n": 2,
        "chance": 0.04,
        "methods": {
            "Detail scan": dict.fromkeys(("pointing_game", "energy", "iou"), FIGURE)
            | {"threshold": 0.5, "seconds_a_photo": 1.0}
        },
    }
}


@pytest.fixture
def head():
    backbone = get_backbone("mobilenet_v2")
    return PointingHead(tap_points(build_classifier(backbone).features, backbone)[1]).eval()


def test_of_two_commands_on_one_checkpoint_neither_undoes_the_other(stored, head):
    begun = load_checkpoint("mobilenet_v2", stored).card
    pointed = save_pointer(begun, head, {"command": "one"}, stored)
    scored = replace(begun, temperature=1.5, speed={"ratio": 0.5, "peer": "Grad-CAM"}, licence="x")
    update_card(scored, ["temperature"], stored)
    now = load_checkpoint("mobilenet_v2", stored).card
    assert now == replace(pointed, temperature=1.5)
    again = save_pointer(begun, head, {"command": "two"}, stored)
    assert again == replace(now, pointing=now.pointing | {"command": "two"})
    assert load_checkpoint("mobilenet_v2", stored).card == again


def test_what_was_found_is_not_written_to_weights_trained_anew(stored, head):
    begun = load_checkpoint("mobilenet_v2", stored).card
    save_untrained(stored, "mobilenet_v2")
    before = {path.name: path.read_bytes() for path in stored.iterdir()}
    for write in (
        lambda: update_card(replace(begun, temperature=1.5), ["temperature"], stored),
        lambda: save_pointer(begun, head, {}, stored),
    ):
        with pytest.raises(CheckpointError, match=r"trained anew meanwhile.*give the command"):
            write()
    assert {path.name: path.read_bytes() for path in stored.iterdir()} == before


def test_what_was_found_of_a_head_is_not_said_of_the_next(stored, head):
    begun = save_pointer(load_checkpoint("mobilenet_v2", stored).card, head, {}, stored)
    chosen = replace(begun, pointing=begun.pointing | {"hot": 0.25}, localisation=FOUND)
    assert update_card(chosen, ["pointing", "localisation"], stored) == chosen
    with torch.no_grad():
        next(head.parameters()).add_(1)
    again = save_pointer(begun, head, {}, stored)
    assert (again.pointing["hot"], again.localisation) == (0.5, {})
    for field in ("pointing", "localisation"):
        with pytest.raises(CheckpointError, match="trained anew meanwhile"):
            update_card(chosen, [field], stored)
    assert update_card(replace(chosen, temperature=1.5), ["temperature"], stored).temperature == 1.5
    assert read_card(stored / "mobilenet_v2.json") == replace(again, temperature=1.5)


def test_who_writes_a_card_waits_for_who_is_writing_it(stored):
    begun = read_card(stored / "mobilenet_v2.json")
    with ThreadPoolExecutor(1) as pool:
        with FileLock(stored / ".mobilenet_v2.lock"):
            writing = pool.submit(
                update_card, replace(begun, temperature=1.5), ["temperature"], stored
            )
            assert not wait([writing], timeout=0.5).done
            change_card(stored, licence="CC0")
        written = writing.result(30)
    assert (written.temperature, written.licence) == (1.5, "CC0")
    assert read_card(stored / "mobilenet_v2.json") == written


@pytest.mark.parametrize(
    "name",
    [
        *("../x", "sub/x", "..", ".", "", "a\\b", "/x", "x\0", "C:x"),
        *("NUL", "aux.2", "com1", "x."),
    ],
)
def test_a_name_cannot_leave_its_folder(weights_dir, tmp_path, name):
    inner = tmp_path / "inner"
    for folder in (inner / "sub", inner):
        folder.mkdir(parents=True, exist_ok=True)
    for folder in (tmp_path, inner / "sub"):
        for path in weights_dir.iterdir():
            shutil.copy(path, folder / f"x{path.suffix}")
    there = sorted(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match="no name for a checkpoint"):
        load_checkpoint(name, inner)
    with pytest.raises(CheckpointError, match="no name for a checkpoint"):
        save_untrained(inner, "resnet18", **{"name": name} if name else {"name": " "})
    assert sorted(tmp_path.rglob("*")) == there


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "resnet18"])
def test_features_start_from_a_file_with_torchvisions_own_names(backbone, tmp_path):
    import torchvision

    net = getattr(torchvision.models, backbone)().eval()
    safetensors.torch.save_file(net.state_dict(), tmp_path / "net.safetensors")
    model = build_classifier(get_backbone(backbone)).eval()
    head = {key: value.clone() for key, value in model.head.state_dict().items()}
    load_features(model, tmp_path / "net.safetensors")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        features = model.features(x)
        if backbone == "mobilenet_v2":
            assert torch.equal(features, net.features(x))
        else:
            assert torch.equal(net.fc(features.mean((2, 3))), net(x))
    assert all(torch.equal(head[key], value) for key, value in model.head.state_dict().items())


def test_features_start_from_one_of_our_checkpoints(weights_dir):
    trained = load_checkpoint("mobilenet_v2", weights_dir).model
    model = build_classifier(get_backbone("mobilenet_v2")).eval()
    load_features(model, weights_dir / "mobilenet_v2.safetensors")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.features(x), trained.features(x))
        assert not torch.equal(model(x), trained(x))


def test_features_of_another_backbone_are_refused(weights_dir):
    model = build_classifier(get_backbone("resnet18"))
    with pytest.raises(CheckpointError, match="do not fit the backbone"):
        load_features(model, weights_dir / "mobilenet_v2.safetensors")


def test_a_start_that_is_missing_or_a_pickle_is_refused(tmp_path):
    model = build_classifier(get_backbone("resnet18"))
    with pytest.raises(CheckpointError, match="cannot be opened"):
        load_features(model, tmp_path / "none.safetensors")
    torch.save(model.state_dict(), tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="never read from pickles"):
        load_features(model, tmp_path / "net.pth")


def validated(low, value):
    return {"validation": {"n": 9, "auroc": {"value": value, "low": low, "high": 1.0}}}


def test_a_perfect_score_on_a_few_photos_does_not_outrank_a_sure_one_on_many(tmp_path):
    save_untrained(tmp_path, name="few", metrics=validated(low=0.6, value=1.0))
    save_untrained(tmp_path, name="many", metrics=validated(low=0.98, value=0.99))
    assert default_name(tmp_path) == "many"


def test_a_card_without_weights_is_not_offered(tmp_path):
    save_untrained(tmp_path, name="gone", auroc=0.9)
    (tmp_path / "gone.safetensors").unlink()
    assert list_cards(tmp_path) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"parameters": "many"},
        {"metrics": {"test": {}}},
        {"metrics": {"test": {"n": 3, "auroc": {"value": "high"}}}},
        {"data": {"sources": 3}},
        {"created": 5},
        {"limits": [1]},
    ],
)
def test_a_card_with_parts_of_the_wrong_kind_is_refused(tmp_path, wrong):
    save_untrained(tmp_path, name="odd", auroc=0.9)
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    with pytest.raises(CheckpointError, match="the card cannot be read"):
        read_card(path)


@pytest.mark.parametrize("wrong", [{"input_size_px": 299}, {"mean": [0.5, 0.5, 0.5]}])
def test_weights_made_for_another_input_are_refused(tmp_path, wrong):
    save_untrained(tmp_path, name="other", auroc=0.9)
    path = tmp_path / "other.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    with pytest.raises(CheckpointError, match="another input size or normalisation"):
        load_checkpoint("other", tmp_path)
