from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    crack_photo,
    labelled_folder,
    meanwhile,
    only_reduced_copies_fit,
    save_untrained,
)
from PIL import Image

from heritage.backbones import BACKBONES
from heritage.bands import BandThresholds
from heritage.cards import read_card, write_card
from heritage.classifiers import parameters_when_built
from heritage.cli import _line, main
from heritage.figures import percent_text
from heritage.inspection import Inspection, Inspector
from heritage.methods import METHODS
from heritage.photos import open_photo
from heritage.training.config import TrainingConfig
from heritage.triage import finding_of

SCRATCH = ["--init", "scratch", "--epochs", "1", "--batch-size", "4"]


def pixels_of(path):
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "visit" / "tower wall.jpg"
    crack_photo(path, size=(320, 240), seed=5)
    return path


@pytest.fixture
def run(capsys):
    """Runs the command; gives its exit status, stdout and stderr."""

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def test_inspect_prints_one_line_per_photo(run, photo, weights_dir):
    other = photo.with_name("gate.png")
    crack_photo(other, cracked=False)
    status, out, err = run("inspect", photo, other, "--weights", weights_dir)
    assert (status, err) == (0, "")
    lines = [line for line in out.splitlines() if not line.startswith(" " * 4)]
    inspector = Inspector(folder=weights_dir)
    for line, path in zip(lines, (photo, other), strict=True):
        found = inspector.inspect(path)
        assert path.name in line
        assert percent_text(found.damage_percent) in line
        assert found.band in line


def test_inspect_prints_the_inspections_as_json(run, photo, weights_dir):
    status, out, _ = run("inspect", photo, "--weights", weights_dir, "--json")
    (printed,) = json.loads(out)
    expected = Inspector("mobilenet_v2", folder=weights_dir).inspect(photo).as_dict()
    assert status == 0
    assert printed == json.loads(json.dumps(expected))
    kept = {field.name for field in fields(Inspection)} - {"grid", "first_stage", "whole"}
    assert set(printed) == kept
    assert printed["photo"] == "tower wall.jpg"
    assert printed["band"] == BandThresholds().band(printed["damage_percent"]).name


def test_inspect_scans_in_detail_and_makes_other_heat_maps(run, photo, weights_dir):
    command = ("inspect", photo, "--weights", weights_dir, "--json")
    (plain,), (scan,), (layer,) = (
        json.loads(run(*command, *more)[1])
        for more in ((), ("--detail",), ("--heat-map", "layer_cam"))
    )
    assert [found["method"] for found in (plain, scan, layer)] == [
        *("grad_cam", "detail_scan", "layer_cam")
    ]
    assert plain["damage_percent"] == scan["damage_percent"] == layer["damage_percent"]
    assert "about" in run(*command, "--detail")[2]  # the time it will take


def test_where_there_can_be_no_detail_scan_the_whole_photo_is_answered(
    run, tmp_path, weights_dir, monkeypatch
):
    path = tmp_path / "large.jpg"
    crack_photo(path, size=(1800, 1400))
    only_reduced_copies_fit(monkeypatch, 1800 * 1400)
    command = ("inspect", path, "--weights", weights_dir, "--json")
    (whole,) = json.loads(run(*command)[1])
    status, out, err = run(*command, "--detail")
    (found,) = json.loads(out)
    assert status == 0, err
    (warning,) = set(found.pop("warnings")) - set(whole.pop("warnings"))
    assert found == whole
    inspector = Inspector(folder=weights_dir)
    photo = open_photo(path)
    kept = finding_of(inspector, photo, inspector.inspect(photo), detail=True)
    assert warning in kept.warnings, "a triage says the same"
    assert warning.startswith("No detail scan: the photo does not fit into memory; ")


def test_a_scan_that_finds_no_place_does_not_say_that_nothing_speaks_for_damage():
    words = "nothing in this photo speaks for damage"
    result = {"photo": "wall.jpg", "damage_percent": 97.0, "band": "Urgent", "warnings": []}
    whole, scan = (
        _line(result | {"evidence": False, "method": method})
        for method in ("grad_cam", "detail_scan")
    )
    assert words in whole
    assert words not in scan and "damage % is of the whole photo" in scan


@pytest.mark.parametrize("method", METHODS)
def test_a_heat_map_that_a_detail_scan_would_not_make_is_wrong_use(run, photo, weights_dir, method):
    given = ("inspect", photo, "--weights", weights_dir, "--detail", "--heat-map", method)
    status, out, err = run(*given)
    assert (status, out) == (2, "")
    assert "--detail makes a heat map of its own" in err and "leave one of them out" in err


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_a_bad_photo_is_one_line_on_stderr_and_the_others_are_done(
    run, photo, weights_dir, json_flag
):
    bad, gone = photo.with_name("bad.jpg"), photo.with_name("gone.jpg")
    bad.write_bytes(photo.read_bytes()[:800])
    status, out, err = run("inspect", bad, gone, photo, "--weights", weights_dir, *json_flag)
    assert status == 1
    assert [line.split(":")[0] for line in err.splitlines()] == ["bad.jpg", "gone.jpg"]
    assert all(";" in line for line in err.splitlines())  # what to do next
    assert "tower wall.jpg" in out and "bad.jpg" not in out
    if json_flag:
        assert len(json.loads(out)) == 1


def test_a_name_that_is_too_long_for_a_file_does_not_stop_the_others(run, photo, weights_dir):
    status, out, err = run("inspect", "x" * 300, photo, "--weights", weights_dir, "--json")
    assert status == 1
    assert [found["photo"] for found in json.loads(out)] == [photo.name]
    assert "Traceback" not in err and len(err.splitlines()) == 1


def test_an_overlay_has_the_photos_full_size(run, photo, weights_dir, tmp_path):
    folder = tmp_path / "deep" / "overlays"
    status, *_ = run("inspect", photo, "--weights", weights_dir, "--overlay", folder)
    (written,) = folder.iterdir()
    with Image.open(written) as picture:
        assert (status, picture.format, picture.size) == (0, "PNG", (320, 240))
    assert written.name == "tower_wall.overlay.png"


def test_opacity_zero_leaves_the_photo_and_more_opacity_changes_it_more(
    run, photo, weights_dir, tmp_path
):
    def change(percent):
        folder = tmp_path / str(percent)
        run(
            *("inspect", photo, "--weights", weights_dir),
            *("--overlay", folder, "--opacity", percent, "--colour-map", "viridis"),
        )
        return np.abs(pixels_of(folder / "tower_wall.overlay.png") - pixels_of(photo)).sum()

    assert change(0) < change(40) < change(90)


def test_photos_of_the_same_name_get_an_overlay_each(run, photo, weights_dir, tmp_path):
    twin = tmp_path / "earlier" / photo.name
    crack_photo(twin, size=(200, 300), seed=6)
    folder = tmp_path / "overlays"
    run("inspect", photo, twin, "--weights", weights_dir, "--overlay", folder)
    sizes = {path.name: pixels_of(path).shape for path in folder.iterdir()}
    assert sizes == {
        "tower_wall.overlay.png": (240, 320, 3),
        "tower_wall-2.overlay.png": (300, 200, 3),
    }


def test_wildcards_are_filled_in_where_the_shell_did_not(run, photo, weights_dir):
    pattern = str(photo.parent / "*.jpg")
    status, told, _ = run("inspect", pattern, "--weights", weights_dir)
    assert status == 0
    assert photo.name in told


def test_overlays_into_what_is_no_folder_are_refused(run, photo, weights_dir, tmp_path):
    (tmp_path / "file").write_text("x")
    status, out, err = run(
        "inspect", photo, "--weights", weights_dir, "--overlay", tmp_path / "file"
    )
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 1 and "name another folder" in err


@pytest.mark.parametrize("name", ["lenet", "../mobilenet_v2"])
def test_an_unknown_checkpoint_is_answered_with_advice(run, photo, weights_dir, name):
    status, out, err = run("inspect", photo, "--weights", weights_dir, "--backbone", name)
    assert (status, out) == (1, "")
    assert err.startswith(f"{name}: ") and len(err.splitlines()) == 1
    assert "mobilenet_v2" in err if name == "lenet" else "use letters" in err


def test_without_any_checkpoint_every_command_says_how_to_train_one(run, photo, tmp_path):
    for arguments in (["inspect", photo], ["evaluate", tmp_path]):
        status, _, err = run(*arguments, "--weights", tmp_path / "empty")
        assert status == 1
        assert "python -m heritage train" in err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["paint"],
        ["inspect"],
        ["inspect", "a.jpg", "--colour-map", "no-such-map"],
        ["inspect", "a.jpg", "--opacity", "much"],
        ["train"],
        ["train", "data", "--backbone", "lenet"],
        ["train", "data", "--epochs", "many"],
        ["evaluate"],
    ],
    ids=" ".join,
)
def test_wrong_use_ends_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m heritage" in capsys.readouterr().err


@pytest.mark.parametrize("percent", ["-1", "101", "nan"])
def test_an_opacity_beyond_its_range_is_wrong_use(run, photo, weights_dir, percent):
    status, out, err = run("inspect", photo, "--weights", weights_dir, "--opacity", percent)
    assert (status, out) == (2, "")
    assert "--opacity must be from 0 to 100" in err


def test_backbones_lists_every_backbone_trained_or_not(run, weights_dir):
    status, out, _ = run("backbones", "--json", "--weights", weights_dir)
    listing = {entry["name"]: entry for entry in json.loads(out)}
    assert status == 0
    assert set(listing) == set(BACKBONES)
    for name, entry in listing.items():
        assert entry["title"] == BACKBONES[name].title
        assert entry["input_size"] == BACKBONES[name].input_size_px
        assert entry["parameters"] == parameters_when_built(BACKBONES[name])
        assert entry["trained"] is (name == "mobilenet_v2")
    status, out, _ = run("backbones", "--weights", weights_dir)
    assert status == 0
    assert len(out.splitlines()) == len(BACKBONES)
    assert all(f"{name} " in out for name in BACKBONES)
    assert out.count("not trained yet") == len(BACKBONES) - 1


def test_backbones_keeps_names_and_titles_apart_and_the_select_boxs_order(run, tmp_path):
    splits = ("validation", "test_other_source")

    def scored(value):
        figure = dict.fromkeys(("value", "low", "high"), value)
        return {split: {"n": 9, "balanced_accuracy": figure, "auroc": figure} for split in splits}

    own = "my_mobilenet_v3_large_2"
    save_untrained(tmp_path, "mobilenet_v3_large", name=own, metrics=scored(0.7))
    save_untrained(tmp_path, "alexnet", metrics=scored(0.6))
    save_untrained(tmp_path, "mobilenet_v2", metrics=scored(0.9))
    lines = run("backbones", "--weights", tmp_path)[1].splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["mobilenet_v2", own, "alexnet"]
    assert lines[1].startswith(f"{own}  MobileNetV3-Large ({own})   224 px ")


def test_backbones_tells_first_how_right_each_is_on_other_sources(run, tmp_path):
    splits = {"test": (0.9, 539), "test_other_source": (0.8, 316)}
    metrics = {
        split: {"n": n, "balanced_accuracy": dict.fromkeys(("value", "low", "high"), value)}
        for split, (value, n) in splits.items()
    }
    save_untrained(tmp_path, metrics=metrics)
    status, out, _ = run("backbones", "--weights", tmp_path)
    assert status == 0
    assert out.splitlines()[0].endswith(
        "other sources: balanced accuracy 0.800, n=316; "
        "known sources: balanced accuracy 0.900, n=539"
    )


def test_what_was_trained_can_be_used_at_once(run, toy_data, photo, tmp_path):
    out_dir = tmp_path / "weights"
    command = [
        *("train", toy_data, f"--out={out_dir}", "--run", tmp_path / "run", "--name", "mine"),
        *("--backbone", "mobilenet_v2", "--licence", "CC BY 4.0 / me", *SCRATCH),
    ]
    status, out, err = run(*command)
    assert status == 0, err
    assert str(out_dir / "mine.safetensors") in out
    assert "balanced_accuracy" in out
    assert "epoch 1: train loss" in err
    assert not (tmp_path / "run").exists()

    card = read_card(out_dir / "mine.json")
    assert card.licence == "CC BY 4.0 / me"
    assert card.command.startswith("python -m heritage train toy --out=weights --run run")
    assert "'CC BY 4.0 / me'" in card.command
    assert str(tmp_path) not in (out_dir / "mine.json").read_text()

    status, out, _ = run("inspect", photo, "--weights", out_dir, "--json")
    assert status == 0
    assert json.loads(out)[0]["backbone"] == "mine"
    _, out, _ = run("backbones", "--weights", out_dir, "--json")
    assert json.loads(out)[0]["name"] == "mine"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--epochs", "0"], "epochs: it cannot be 0"),
        (["--batch-size", "1"], "batch_size: it cannot be 1"),
        (["--name", "../mine"], "no name for a checkpoint"),
        (["--name", "ours.Pointer"], "would be taken for the head that points"),
        (["--unlabelled", "."], "name one with --teacher"),
        (["--init", "none.safetensors"], "none.safetensors: it cannot be opened"),
        (["--teacher", "nobody"], "nobody: there is no such checkpoint"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_run_that_cannot_start_is_one_line_with_advice(run, tmp_path, monkeypatch, flags, words):
    monkeypatch.chdir(tmp_path)
    data = labelled_folder(tmp_path / "toy", per_class=2)
    status, out, err = run("train", data, "--out", tmp_path / "o", *SCRATCH, *flags)
    told = [line for line in err.splitlines() if words in line]
    assert (status, out) == (1, "")
    assert len(told) == 1 and ";" in told[0]
    assert "Traceback" not in err


def test_data_that_is_not_there_is_one_line_with_advice(run, tmp_path, weights_dir):
    for arguments in (
        ["train", tmp_path / "none", "--out", tmp_path, "--run", tmp_path / "run"],
        ["evaluate", tmp_path / "none", "--weights", weights_dir],
    ):
        status, _, err = run(*arguments)
        assert status == 1
        assert "there is no such folder or manifest; check the path" in err


def test_every_setting_of_a_run_is_a_flag_with_help(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "--help"])
    assert caught.value.code == 0
    # After the usage, one paragraph per flag: "--flag VALUE   what it is for (default: …)".
    told = capsys.readouterr().out.split("options:")[1]
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n  (?=-)", told)]
    for field in fields(TrainingConfig):
        flag = "--" + field.name.replace("_", "-")
        (paragraph,) = (p for p in paragraphs if re.match(rf"{flag}[ ,]", p))
        help_text = re.sub(r"^(--[\w-]+,? ?)+([A-Z_]+ |{\S+} )?|\(default: .*\)$", "", paragraph)
        assert len(help_text) > 5
        assert f"(default: {field.default})" in paragraph


def test_evaluate_prints_figures_with_intervals(run, toy_data, weights_dir):
    status, out, err = run("evaluate", toy_data, "--weights", weights_dir)
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "MobileNetV2, all, n=24"
    (line,) = (line for line in out.splitlines() if "balanced_accuracy" in line)
    value, low, high = (float(part.strip("[],")) for part in line.split()[1:])
    assert 0 <= low <= value <= high <= 1


def test_evaluate_prints_json_per_checkpoint_and_leaves_the_cards_alone(run, toy_data, weights_dir):
    card = (weights_dir / "mobilenet_v2.json").read_bytes()
    status, out, _ = run(
        *("evaluate", toy_data, "--weights", weights_dir),
        *("--backbone", "mobilenet_v2", "--json"),
    )
    figures = json.loads(out)["mobilenet_v2"]["all"]
    assert status == 0
    assert (figures["n"], figures["n_damaged"]) == (24, 12)
    assert set(figures["auroc"]) == {"value", "low", "high"}
    assert (weights_dir / "mobilenet_v2.json").read_bytes() == card


def test_evaluate_tells_each_source(run, toy_data, weights_dir, tmp_path):
    lines = ["path,label,split,source"]
    for path in sorted(toy_data.rglob("*.jpg")):
        source = "value" if "house0" in path.parts else "visit"
        lines.append(f"{path.relative_to(toy_data)},{path.parts[-3]},test,{source}")
    (toy_data / "manifest.csv").write_text("\n".join(lines))
    status, out, _ = run("evaluate", toy_data, "--weights", weights_dir)
    assert status == 0
    assert "  value, n=6" in out.splitlines() and "  visit, n=18" in out.splitlines()


def test_fewer_than_no_heat_maps_are_wrong_use(run, toy_data, weights_dir):
    with pytest.raises(SystemExit) as caught:
        run("evaluate", toy_data, "--weights", weights_dir, "--heat-maps", "-5")
    assert caught.value.code == 2


def test_figures_that_the_photos_cannot_replace_are_not_dropped_from_a_card(
    run, toy_data, weights_dir, tmp_path
):
    folder = Path(shutil.copytree(weights_dir, tmp_path / "weights"))
    card = read_card(folder / "mobilenet_v2.json")
    card = replace(card, metrics=card.metrics | {"test_other_source": card.metrics["validation"]})
    write_card(card, folder)
    photos = sorted(toy_data.rglob("*.jpg"))
    lines = (f"{path.relative_to(toy_data)},{path.parts[-3]},validation" for path in photos)
    (toy_data / "manifest.csv").write_text("\n".join(["path,label,split", *lines]))
    status, _, err = run("evaluate", toy_data, "--weights", folder, "--update-cards")
    assert status == 1 and "has no photos for: test_other_source" in err
    assert read_card(folder / "mobilenet_v2.json") == card


def test_evaluate_takes_several_checkpoints_at_once(run, toy_data, weights_dir, tmp_path):
    folder = Path(shutil.copytree(weights_dir, tmp_path / "weights"))
    for name in ("second", "third"):
        save_untrained(folder, "mobilenet_v3_small", name=name)
    command = ("evaluate", toy_data, "--weights", folder, "--json")
    for given in (["third", "second"], ["third", "--backbone", "second"]):
        status, out, _ = run(*command, "--backbone", *given)
        assert (status, list(json.loads(out))) == (0, ["third", "second"])


def test_evaluate_prints_only_what_it_has_measured_now(run, toy_data, weights_dir, tmp_path):
    folder = Path(shutil.copytree(weights_dir, tmp_path / "weights"))
    card = read_card(folder / "mobilenet_v2.json")
    known = {"deletion": {"value": 0.5, "low": 0.4, "high": 0.6}, "n": 3}
    write_card(replace(card, heat_maps=known, speed={"ratio": 0.1, "peer": "Grad-CAM"}), folder)
    _, out, _ = run("evaluate", toy_data, "--weights", folder)
    assert "heat maps" not in out and "one inspection takes" not in out
    _, out, _ = run("evaluate", toy_data, "--weights", folder, "--heat-maps", "2")
    assert "heat maps, deletion" in out and "one inspection takes" not in out


def test_a_damaged_checkpoint_does_not_cost_what_is_found_of_the_others(
    run, toy_data, weights_dir, tmp_path
):
    folder = Path(shutil.copytree(weights_dir, tmp_path / "weights"))
    save_untrained(folder, "mobilenet_v3_small", name="torn")
    (folder / "torn.safetensors").write_bytes(b"half a file")
    status, out, err = run("evaluate", toy_data, "--weights", folder, "--json")
    assert status == 1
    assert "mobilenet_v2" in json.loads(out) and "torn" not in json.loads(out)
    assert err.startswith("torn.safetensors: its hash is not the one in its card")


def test_evaluate_can_score_photos_of_one_class(run, toy_data, weights_dir):
    shutil.rmtree(toy_data / "damaged")
    status, out, _ = run("evaluate", toy_data, "--weights", weights_dir, "--json")
    assert status == 0
    assert set(json.loads(out)["mobilenet_v2"]["all"]) == {
        "n",
        "n_damaged",
        "n_sound",
        "recall_sound",
        "worst",
    }


def test_cards_are_updated_only_from_a_validation_split(run, toy_data, weights_dir, tmp_path):
    folder = Path(shutil.copytree(weights_dir, tmp_path / "weights"))
    before = (folder / "mobilenet_v2.json").read_bytes()
    status, _, err = run("evaluate", toy_data, "--weights", folder, "--update-cards")
    assert status == 1 and "no validation split" in err
    assert (folder / "mobilenet_v2.json").read_bytes() == before

    lines = ["path,label,split"]
    for path in sorted(toy_data.rglob("*.jpg")):
        split = "validation" if "house0" in path.parts else "test"
        lines.append(f"{path.relative_to(toy_data)},{path.parts[-3]},{split}")
    (toy_data / "manifest.csv").write_text("\n".join(lines))
    status, *_ = run("evaluate", toy_data, "--weights", folder, "--update-cards")
    card = read_card(folder / "mobilenet_v2.json")
    assert status == 0
    assert {split: figures["n"] for split, figures in card.metrics.items()} == {
        "validation": 6,
        "test": 18,
    }
    assert card.sha256 == read_card(weights_dir / "mobilenet_v2.json").sha256


def test_updating_a_card_leaves_what_another_command_wrote_meanwhile(
    run, toy_data, weights_dir, tmp_path
):
    folder = Path(shutil.copytree(weights_dir, tmp_path / "weights"))
    photos = sorted(toy_data.rglob("*.jpg"))
    lines = (f"{path.relative_to(toy_data)},{path.parts[-3]},validation" for path in photos)
    (toy_data / "manifest.csv").write_text("\n".join(["path,label,split", *lines]))
    card = read_card(folder / "mobilenet_v2.json")
    speed = {"ratio": 0.5, "peer": "Grad-CAM"}
    with meanwhile(
        lambda frame, event: event == "call" and frame.f_code.co_name == "score",
        lambda: write_card(replace(card, licence="CC0", speed=speed, temperature=9.0), folder),
    ):
        status, *_ = run("evaluate", toy_data, "--weights", folder, "--update-cards")
    now = read_card(folder / "mobilenet_v2.json")
    assert status == 0
    assert (now.licence, now.speed) == ("CC0", speed)
    assert now.metrics["validation"]["n"] == 24
    assert now.temperature != 9.0


def test_python_m_heritage_tells_its_commands():
    told = subprocess.run(
        [sys.executable, "-m", "heritage", "--help"],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stderr == ""
    assert all(f"  {name} " in told.stdout for name in ("inspect", "train", "evaluate"))
    assert "  backbones" in told.stdout


def test_the_exit_status_reaches_the_shell(tmp_path, weights_dir):
    told = subprocess.run(
        [sys.executable, "-m", "heritage", "inspect", "gone.jpg", "--weights", weights_dir],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert told.stderr.splitlines() == ["gone.jpg: there is no such file; check the path"]
