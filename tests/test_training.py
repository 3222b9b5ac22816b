from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, fields, replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from helpers import crack_photo, labelled_folder, save_untrained
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score
from torch import nn
from torch._utils import ExceptionWrapper
from torch.nn.modules.module import register_module_forward_pre_hook

from heritage.backbones import get_backbone
from heritage.cards import read_card
from heritage.checkpoints import load_checkpoint
from heritage.engines import Engine
from heritage.errors import (
    CheckpointError,
    DatasetError,
    HeritageError,
    PhotoError,
    TrainingError,
)
from heritage.inputs import working_side_px
from heritage.inspection import Inspector
from heritage.training import precision
from heritage.training.config import EpochRecord, PointingConfig, Step, TrainingConfig
from heritage.training.datasets import (
    VALIDATION,
    PhotoCache,
    read_samples,
    read_unlabelled,
    with_validation,
)
from heritage.training.evaluation import balanced_log_loss, predict
from heritage.training.fitting import _readable, fit
from heritage.training.run import LabelledPhotos, evaluate, score, train

QUICK = TrainingConfig(
    backbone="mobilenet_v2",
    init="scratch",
    epochs=2,
    batch_size=4,
    learning_rate=1e-3,
    head_rate_factor=1.0,
    ema_decay=0.5,
    workers=0,
)


class StoppedError(Exception):
    """Raised by a listener, as a user's Ctrl-C or a power cut would end the run."""


def stop_at(epoch):
    def listen(event):
        if isinstance(event, Step) and event.epoch == epoch:
            raise StoppedError

    return listen


def without_times(history):
    return [replace(record, seconds=0.0) for record in history]


@pytest.fixture
def samples(tmp_path):
    return with_validation(read_samples(labelled_folder(tmp_path / "few", per_class=5)))


def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(samples, tmp_path, weights_dir):
    whole, history = fit(QUICK, samples, tmp_path / "whole", teacher_folder=weights_dir)
    with pytest.raises(StoppedError):
        fit(QUICK, samples, tmp_path / "cut", teacher_folder=weights_dir, listen=stop_at(2))
    seen = []
    resumed, resumed_history = fit(
        QUICK, samples, tmp_path / "cut", teacher_folder=weights_dir, listen=seen.append
    )
    assert {event.epoch for event in seen} == {2}
    assert without_times(resumed_history) == without_times(history)
    state = resumed.state_dict()
    assert all(torch.equal(state[key], value) for key, value in whole.state_dict().items())


def test_a_run_killed_with_sigkill_goes_on_where_it_was(toy_data, tmp_path):
    flags = [
        f"--{key.replace('_', '-')}={value}"
        for key, value in asdict(replace(QUICK, epochs=4)).items()
        if value != "" and not isinstance(value, bool)
    ]
    run_dir, out = tmp_path / "run", tmp_path / "out"
    places = [str(toy_data), "--run", str(run_dir), "--out", str(out)]
    root = Path(__file__).parent.parent
    process = subprocess.Popen(
        [sys.executable, "-m", "heritage", "train", *places, *flags],
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with process:
        while not (run_dir / "state.safetensors").exists() and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        told = process.stderr.read().decode()
    assert process.returncode == -signal.SIGKILL, told
    assert not list(out.glob("*"))
    seen = []
    card = train(replace(QUICK, epochs=4), toy_data, out=out, run_dir=run_dir, listen=seen.append)
    assert min(event.epoch for event in seen) >= 2
    assert [record["epoch"] for record in card.training["history"]] == [1, 2, 3, 4]
    assert load_checkpoint("mobilenet_v2", out).card.sha256 == card.sha256
    assert not run_dir.exists()


def test_other_settings_in_the_same_run_folder_are_refused(samples, tmp_path, weights_dir):
    with pytest.raises(StoppedError):
        fit(QUICK, samples, tmp_path / "run", teacher_folder=weights_dir, listen=stop_at(2))
    state = (tmp_path / "run" / "state.safetensors").read_bytes()
    other = replace(QUICK, learning_rate=2e-3)
    with pytest.raises(TrainingError, match=r"other settings or other photos; .* --restart"):
        fit(other, samples, tmp_path / "run", teacher_folder=weights_dir)
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == state


def test_a_run_that_an_earlier_version_left_goes_on(samples, tmp_path, weights_dir):
    with pytest.raises(StoppedError):
        fit(QUICK, samples, tmp_path / "run", teacher_folder=weights_dir, listen=stop_at(2))
    path = tmp_path / "run" / "state.safetensors"
    with safe_open(path, "pt") as file:
        notes, tensors = file.metadata(), load_file(path)
    settings = json.loads(notes["config"])
    del settings["full_size_px"]  # it came with version 0.4
    save_file(tensors, path, notes | {"config": json.dumps(settings)})
    seen = []
    fit(QUICK, samples, tmp_path / "run", teacher_folder=weights_dir, listen=seen.append)
    assert {event.epoch for event in seen} == {2}


@pytest.mark.parametrize(("last_px", "side"), [(0, 224), (128, 128)])
def test_crops_grow_in_the_closing_epochs(samples, tmp_path, weights_dir, last_px, side):
    sides = []

    def look(module, inputs):
        if isinstance(module, nn.Conv2d) and module.in_channels == 3 and module.training:
            sides.append(inputs[0].shape[-2:])

    growing = replace(QUICK, crop_side_px=64, full_size_epochs=1, full_size_px=last_px)
    hook = register_module_forward_pre_hook(look)
    try:
        fit(growing, samples, tmp_path / "run", teacher_folder=weights_dir)
    finally:
        hook.remove()
    half = len(sides) // 2
    assert half
    assert set(sides[:half]) == {(64, 64)} and set(sides[half:]) == {(side, side)}


def test_restart_forgets_the_run_but_touches_nothing_else_in_its_folder(toy_data, tmp_path):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "thesis.docx").write_text("three years of work")
    (run_dir / "other run").mkdir()
    (run_dir / "other run" / "best.safetensors").write_bytes(b"somebody else's")
    with pytest.raises(StoppedError):
        train(QUICK, toy_data, out=tmp_path, run_dir=run_dir, listen=stop_at(2))
    first = []
    train(
        replace(QUICK, epochs=1),
        toy_data,
        out=tmp_path,
        run_dir=run_dir,
        restart=True,
        listen=first.append,
    )
    assert first[0].epoch == 1
    assert {path.name for path in run_dir.iterdir()} == {"thesis.docx", "other run"}
    assert (run_dir / "other run" / "best.safetensors").exists()


def test_a_run_file_that_cannot_be_read_is_an_error_that_says_restart(
    samples, tmp_path, weights_dir
):
    (tmp_path / "state.safetensors").write_bytes(b"rubbish")
    with pytest.raises(TrainingError, match=r"what it has learned cannot be read.*--restart"):
        fit(QUICK, samples, tmp_path, teacher_folder=weights_dir)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("smallest_crop", 0.0),
        ("smallest_crop_sound", 1.5),
        ("validation_share", 0.0),
        ("validation_share", 1.0),
        ("teacher_temperature", 0.0),
        ("frozen_blocks", -1),
        ("full_size_px", 128),
        ("workers", -1),
        ("patience", -1),
        ("head_rate_factor", 0.0),
        ("warmup_share", 1.0),
        ("ema_decay", 1.5),
        ("teacher_share", 1.5),
        ("feature_share", -2.0),
        ("weight_decay", -0.1),
        ("jitter", -1.0),
        ("rotation_degrees", -5.0),
        ("seed", -1),
    ],
)
def test_a_setting_with_which_no_run_can_be_made_is_refused_at_once(field, value):
    with pytest.raises(TrainingError, match=f"{field}: it cannot be {value}; choose"):
        replace(QUICK, **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("steps", -1), ("batch_size", 0), ("workers", -1), ("painted_share", 1.5)],
)
def test_a_head_that_points_is_not_made_without_training(field, value):
    with pytest.raises(TrainingError, match=f"{field}: it cannot be {value}; choose"):
        PointingConfig(**{field: value})


def test_photos_that_are_held_out_are_not_learned_from_without_their_labels(toy_data, tmp_path):
    more = tmp_path / "more"
    for n in range(3):
        crack_photo(more / f"{n}.jpg", seed=500 + n)
    for number, sample in enumerate(read_samples(toy_data)):
        shutil.copy(sample.path, more / f"copy {number}.jpg")
    save_untrained(tmp_path, "mobilenet_v3_small", name="teacher")
    config = replace(QUICK, epochs=1, teacher="teacher", batch_size=8)
    card = train(config, toy_data, out=tmp_path, name="mine", unlabelled=more)
    assert card.data["unlabelled"] == 3 + sum(card.data["photos"]["train"].values())
    for copy in more.glob("?.jpg"):
        copy.unlink()
    for number, sample in enumerate(with_validation(read_samples(toy_data))):
        if sample.split == "train":
            (more / f"copy {number}.jpg").unlink()
    with pytest.raises(DatasetError, match="all its photos are among those kept aside"):
        train(config, toy_data, out=tmp_path, name="other", unlabelled=more)


def test_a_card_says_that_nothing_told_the_buildings(tmp_path):
    data = tmp_path / "flat"
    for n in range(8):
        for label in ("damaged", "sound"):
            crack_photo(data / label / f"{n}.jpg", label == "damaged", seed=2 * n + len(label))
    card = train(replace(QUICK, epochs=1), data, out=tmp_path, name="flat")
    assert card.data["without_building"] == 16
    assert "Nothing tells which building 16 photos" in card.limits[-1]


def test_a_checkpoint_that_came_meanwhile_is_not_replaced(toy_data, tmp_path):
    run = {"out": tmp_path / "out", "name": "walls", "run_dir": tmp_path / "run"}

    def meanwhile(event):
        if isinstance(event, EpochRecord):
            save_untrained(tmp_path / "out", "mobilenet_v2", name="walls")

    config = replace(QUICK, epochs=1)
    with pytest.raises(CheckpointError, match="out holds a checkpoint of this name"):
        train(config, toy_data, listen=meanwhile, **run)
    assert read_card(tmp_path / "out" / "walls.json").backbone == "mobilenet_v2"
    epochs = []
    card = train(config, toy_data, listen=epochs.append, overwrite=True, **run)
    assert card.backbone == QUICK.backbone
    assert not epochs, "what it had learned was kept"


def test_a_network_learns_what_a_crack_is(tmp_path, weights_dir):
    config = replace(QUICK, backbone="resnet18", epochs=5, batch_size=8)
    samples = with_validation(read_samples(labelled_folder(tmp_path / "seen")))
    model, _ = fit(config, samples, tmp_path / "run", teacher_folder=weights_dir)
    unseen = read_samples(labelled_folder(tmp_path / "unseen", per_class=8, first_seed=1000))
    backbone = get_backbone("resnet18")
    found = predict(model, backbone, unseen, PhotoCache(working_side_px(backbone)))
    assert roc_auc_score(found.labels, found.logits) > 0.9


def test_the_best_epoch_is_kept_and_a_run_that_gets_worse_stops(toy_data, tmp_path, weights_dir):
    samples = with_validation(read_samples(toy_data))
    # With the answers of the validation photos swapped, learning makes validation worse.
    swapped = [replace(s, label=1 - s.label) if s.split == VALIDATION else s for s in samples]
    config = replace(
        QUICK, backbone="resnet18", epochs=12, batch_size=8, patience=2, half_precision=False
    )
    backbone = get_backbone("resnet18")
    cache = PhotoCache(working_side_px(backbone))
    model, history = fit(config, swapped, tmp_path / "run", teacher_folder=weights_dir, cache=cache)
    losses = [record.validation_loss for record in history]
    assert len(history) < config.epochs
    assert len(history) - 1 - int(np.argmin(losses)) == config.patience
    validation = [s for s in swapped if s.split == VALIDATION]
    kept = balanced_log_loss(predict(model, backbone, validation, cache))
    assert kept == pytest.approx(min(losses), abs=1e-4)
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_a_teacher_that_is_missing_is_told_before_the_photos_are_read(toy_data, tmp_path):
    read = []
    with pytest.raises(CheckpointError, match="no_such_teacher"):
        train(
            replace(QUICK, teacher="no_such_teacher"), toy_data, out=tmp_path, on_photo=read.append
        )
    assert not read


@pytest.mark.parametrize("groups", [12, 1])
def test_gradients_in_half_precision_are_those_in_full(groups, monkeypatch):
    monkeypatch.setattr(precision, "cpu_multiplies_bfloat16", lambda: True)
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(12, 12, 5, 2, 2, groups=groups, bias=False), nn.BatchNorm2d(12), nn.ReLU()
    )
    x = torch.randn(4, 12, 20, 20, requires_grad=True)

    def gradients():
        return torch.autograd.grad(network(x).float()[:, :, ::2].square().sum(), [x, *weights])

    weights = list(network.parameters())
    full = gradients()
    with precision.half_precision(torch.device("cpu")):
        half = gradients()
        way = type(network[0](x).grad_fn).__name__
    assert ("_QuickDepthwise" in way) == (groups == 12), "else it would be slow and nobody noticed"
    for one, other in zip(full, half, strict=True):
        assert one.dtype == other.dtype
        assert (one - other).norm() < 0.02 * one.norm()


def test_a_teacher_teaches_even_where_no_photo_of_a_batch_is_labelled(tmp_path, weights_dir):
    labelled_folder(tmp_path / "few", per_class=3)
    for n in range(24):
        crack_photo(tmp_path / "more" / f"{n}.jpg", cracked=n % 2, seed=500 + n)
    samples = with_validation(read_samples(tmp_path / "few"))
    samples += read_unlabelled(tmp_path / "more")
    config = replace(QUICK, epochs=1, batch_size=2, teacher="mobilenet_v2")
    steps = []
    _, history = fit(
        config, samples, tmp_path / "run", teacher_folder=weights_dir, listen=steps.append
    )
    assert sum(isinstance(event, Step) for event in steps) == 14
    assert np.isfinite([event.loss for event in steps if isinstance(event, Step)]).all()
    assert np.isfinite(history[0].train_loss)


def test_a_student_comes_closer_to_its_teacher(samples, tmp_path, weights_dir):
    taught = replace(QUICK, epochs=3, teacher="mobilenet_v2", teacher_share=1.0, feature_share=1.0)
    _, history = fit(taught, samples, tmp_path / "run", teacher_folder=weights_dir)
    assert history[-1].train_loss < history[0].train_loss


def test_where_nothing_is_labelled_the_last_epoch_is_kept(samples, tmp_path, weights_dir):
    labelled_folder(tmp_path / "more", per_class=6)
    told = read_unlabelled(tmp_path / "more")
    told += [sample for sample in samples if sample.split == VALIDATION]
    config = replace(
        QUICK, epochs=4, patience=1, teacher="mobilenet_v2", teacher_share=0.0, feature_share=1.0
    )
    _, history = fit(config, told, tmp_path / "run", teacher_folder=weights_dir)
    assert len(history) == 4, "an untaught head's answers must not choose the epoch"
    assert history[-1].train_loss < history[0].train_loss


def test_a_teacher_may_be_a_file_elsewhere_and_must_exist(samples, tmp_path, weights_dir):
    file = replace(QUICK, epochs=1, teacher=str(weights_dir / "mobilenet_v2.safetensors"))
    fit(file, samples, tmp_path / "run", teacher_folder=tmp_path)
    with pytest.raises(CheckpointError, match="no_such_teacher"):
        fit(
            replace(QUICK, teacher="no_such_teacher"),
            samples,
            tmp_path / "other",
            teacher_folder=weights_dir,
        )


def test_unlabelled_photos_without_a_teacher_are_refused(toy_data, tmp_path):
    with pytest.raises(TrainingError, match="only a teacher can label these photos"):
        train(QUICK, toy_data, out=tmp_path, unlabelled=toy_data / "sound")


def test_frozen_blocks_keep_weights_and_statistics(samples, tmp_path, weights_dir):
    start = weights_dir / "mobilenet_v2.safetensors"
    config = replace(QUICK, epochs=1, init=str(start), frozen_blocks=5)
    model, _ = fit(config, samples, tmp_path / "run", teacher_folder=weights_dir)
    start = load_checkpoint("mobilenet_v2", weights_dir).model.features.state_dict()
    end = model.features.state_dict()
    floats = [key for key, value in start.items() if value.is_floating_point()]
    frozen = [key for key in floats if int(key.split(".")[0]) < 5]
    assert frozen
    assert all(torch.equal(start[key], end[key]) for key in frozen)
    assert not any(
        torch.equal(start[key], end[key]) for key in set(floats) - set(frozen) if "conv" in key
    )


def test_what_a_run_started_from_may_be_gone_when_it_goes_on(samples, tmp_path, weights_dir):
    start = tmp_path / "start.safetensors"
    shutil.copy(weights_dir / "mobilenet_v2.safetensors", start)
    config = replace(QUICK, init=str(start))
    with pytest.raises(StoppedError):
        fit(config, samples, tmp_path / "run", teacher_folder=weights_dir, listen=stop_at(2))
    start.unlink()
    _, history = fit(config, samples, tmp_path / "run", teacher_folder=weights_dir)
    assert len(history) == 2


def test_a_start_that_is_not_to_be_had_is_told_before_the_photos_are_read(
    toy_data, tmp_path, monkeypatch
):
    def offline(*args, **kwargs):
        raise URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", offline)
    for init, words in (("imagenet", "connect to the internet"), ("gone.safetensors", "opened")):
        read = []
        with pytest.raises(HeritageError, match=words):
            train(
                replace(QUICK, init=init),
                toy_data,
                out=tmp_path / "out",
                run_dir=tmp_path / "run",
                on_photo=read.append,
            )
        assert not read


def test_the_name_of_another_backbone_is_not_taken(toy_data, tmp_path):
    with pytest.raises(CheckpointError, match="the name of another backbone"):
        train(QUICK, toy_data, out=tmp_path / "out", name="vgg16", run_dir=tmp_path / "run")


def test_a_photo_that_a_worker_cannot_read_again_is_told_by_name():
    def batches():
        yield torch.zeros(1), torch.zeros(1)
        try:
            raise PhotoError("wall.jpg", "it cannot be opened", "check the path")
        except PhotoError:
            ExceptionWrapper(where="in DataLoader worker process 0").reraise()

    read = _readable(batches())
    next(read)
    with pytest.raises(TrainingError, match=r"one can no longer be read \(wall\.jpg: it cannot"):
        next(read)


def test_one_unreadable_photo_stops_the_run_before_it_starts(toy_data, tmp_path):
    (toy_data / "sound" / "house1" / "1.jpg").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"1\.jpg: the file is empty"):
        train(QUICK, toy_data, out=tmp_path / "out", run_dir=tmp_path / "run")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["../escaped", "a/b"])
def test_a_name_that_leaves_the_folder_is_refused_before_training(toy_data, tmp_path, name):
    with pytest.raises(CheckpointError, match="no name for a checkpoint"):
        train(QUICK, toy_data, out=tmp_path / "out", name=name, restart=True)


def test_the_card_tells_how_the_checkpoint_was_made_and_how_good_it_is(tmp_path, weights_dir):
    lines = ["path,label,split,source,group"]
    for split, sources in {
        "train": ["archive"],
        "validation": ["archive"],
        "test": ["archive", "visit"],
    }.items():
        for source in sources:
            for n in range(6):
                name = f"{split}-{source}-{n}.jpg"
                crack_photo(tmp_path / name, cracked=n % 2, seed=len(lines))
                label = ("sound", "damaged")[n % 2]
                lines.append(f"{name},{label},{split},{source},{split}{source}{n // 2}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    config = replace(QUICK, epochs=1, teacher=str(weights_dir / "mobilenet_v2.safetensors"))
    train(
        config,
        tmp_path / "manifest.csv",
        out=tmp_path / "out",
        name="mine",
        run_dir=tmp_path / "run",
        licence="CC BY 4.0",
    )
    card = read_card(tmp_path / "out" / "mine.json")
    assert set(card.training["config"]) == {field.name for field in fields(TrainingConfig)}
    assert card.training["config"]["teacher"] == "mobilenet_v2"
    assert card.training["config"]["learning_rate"] == config.learning_rate
    (record,) = card.training["history"]
    assert set(record) == {field.name for field in fields(EpochRecord)}
    assert card.data["photos"] == {
        "train": {"sound": 3, "damaged": 3},
        "validation": {"sound": 3, "damaged": 3},
        "test": {"sound": 6, "damaged": 6},
    }
    assert card.data["sources"] == ["archive"]  # what it learned from; "visit" was never seen
    assert set(card.metrics) == {"validation", "test"}
    for table in (
        card.metrics["validation"],
        card.metrics["test"],
        *card.metrics["test"]["sources"].values(),
    ):
        for figure in ("balanced_accuracy", "auroc", "f1", "recall_sound", "ece"):
            found = table[figure]
            assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1
    assert set(card.metrics["test"]["sources"]) == {"archive", "visit"}
    assert card.licence == "CC BY 4.0" and card.limits and card.created
    assert 0.2 <= card.temperature <= 10
    text = (tmp_path / "out" / "mine.json").read_text()
    assert str(tmp_path) not in text and str(weights_dir) not in text and os.sep * 2 not in text
    assert json.loads(text)["backbone"] == "mobilenet_v2"


def test_a_checkpoint_whose_answers_are_no_numbers_gets_no_figures(samples, weights_dir):
    broken = load_checkpoint("mobilenet_v2", weights_dir)
    broken.model.head.logit.bias.data.fill_(float("nan"))
    with pytest.raises(CheckpointError, match="mobilenet_v2: its answers are no numbers"):
        score(Engine(broken), broken.card, samples, PhotoCache(64))


def test_a_validation_split_of_one_class_calibrates_nothing(toy_data, weights_dir):
    lines = ["path,label,split"]
    for path in sorted(toy_data.rglob("*.jpg")):
        where = path.relative_to(toy_data)
        split = "validation" if where.parts[:2] == ("sound", "house0") else "test"
        lines.append(f"{where},{where.parts[0]},{split}")
    (toy_data / "manifest.csv").write_text("\n".join(lines))
    with pytest.raises(DatasetError, match="no validation split with both classes"):
        evaluate("mobilenet_v2", toy_data, weights_dir, recalibrate=True)


def test_evaluating_again_gives_the_figures_of_the_card(tmp_path):
    """The weights scored are the weights stored, so anybody can repeat the card's figures."""
    lines = ["path,label,split"]
    for n in range(18):
        crack_photo(tmp_path / f"{n}.jpg", cracked=n % 2, seed=n)
        split = "train" if n < 8 else "validation" if n < 12 else "test"
        lines.append(f"{n}.jpg,{('sound', 'damaged')[n % 2]},{split}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    card = train(QUICK, tmp_path, out=tmp_path / "out", run_dir=tmp_path / "run")
    again = evaluate("mobilenet_v2", tmp_path, tmp_path / "out")
    assert again.metrics == card.metrics
    assert again.temperature == card.temperature


def test_what_is_drawn_is_learned_from_and_no_teacher_is_asked_about_it(tmp_path, weights_dir):
    """Stripes are damage in what is drawn alone; the teacher and the photos know nothing of it."""
    photos = labelled_folder(tmp_path / "photos", per_class=4)
    drawn, lines = tmp_path / "drawn", ["path,label,split,group"]
    drawn.mkdir()
    for number in range(20):
        label = ("sound", "damaged")[number % 2]
        wall = np.full((120, 160, 3), 90 + 6 * number, np.uint8)
        wall[:: 8 if label == "damaged" else 200] //= 3
        Image.fromarray(wall).save(drawn / f"{number}.png")
        split = "validation" if number < 4 else "train"
        lines.append(f"{number}.png,{label},{split},wall{number}")
    (drawn / "manifest.csv").write_text("\n".join(lines))
    config = replace(
        QUICK,
        epochs=20,
        batch_size=8,
        learning_rate=2e-3,
        init=str(weights_dir / "mobilenet_v2.safetensors"),
        keep_head=True,
        teacher="mobilenet_v2",
        teacher_share=1.0,
        rendered_share=0.5,
    )
    folder = Path(shutil.copytree(weights_dir, tmp_path / "out"))
    card = train(
        config,
        photos,
        out=folder,
        name="taught",
        run_dir=tmp_path / "run",
        rendered=drawn,
    )
    assert card.data["rendered"] == 20
    assert "rendered" not in card.data["sources"], "it is no photo"
    assert sum(map(sum, (n.values() for n in card.data["photos"].values()))) == 8, "nor counted"
    striped = Inspector("taught", folder=folder)
    answers = [striped.inspect(drawn / f"{n}.png").damage_percent for n in range(20)]
    assert roc_auc_score([n % 2 for n in range(20)], answers) > 0.9


def test_batch_norms_that_are_kept_hold_the_statistics_they_start_with(tmp_path, weights_dir):
    start = load_checkpoint("mobilenet_v2", weights_dir).model
    config = replace(
        QUICK,
        epochs=1,
        init=str(weights_dir / "mobilenet_v2.safetensors"),
        keep_head=True,
        keep_norms=True,
    )
    samples = with_validation(read_samples(labelled_folder(tmp_path / "photos", per_class=4)))
    model, _ = fit(config, samples, tmp_path / "run", teacher_folder=weights_dir)
    kept, learned = dict(start.named_buffers()), dict(model.named_buffers())
    assert all(torch.equal(learned[name], value) for name, value in kept.items())
    assert not torch.equal(model.head.dense.weight, start.head.dense.weight)
    # With so low a rate the head that was kept answers almost as before.
    config = replace(config, learning_rate=1e-9)
    model, _ = fit(config, samples, tmp_path / "slow", teacher_folder=weights_dir)
    assert torch.allclose(model.head.logit.weight, start.head.logit.weight, atol=1e-5)


@pytest.mark.parametrize("init", ["scratch", "imagenet"])
def test_a_head_can_only_be_kept_where_there_is_one(init):
    with pytest.raises(TrainingError, match="name the checkpoint to go on from with --init"):
        replace(QUICK, init=init, keep_head=True)


def test_a_head_of_another_backbone_is_not_kept(toy_data, weights_dir, tmp_path):
    init = str(weights_dir / "mobilenet_v2.safetensors")
    config = replace(QUICK, backbone="resnet18", init=init, keep_head=True)
    with pytest.raises(TrainingError, match="mobilenet_v2: it is no whole ResNet-18"):
        train(config, toy_data, out=tmp_path / "out", run_dir=tmp_path / "run")


def test_photos_are_read_once_for_all_checkpoints(toy_data, weights_dir):
    alone = evaluate("mobilenet_v2", toy_data, weights_dir)
    photos, answers = LabelledPhotos(toy_data), []
    evaluate("mobilenet_v2", photos, weights_dir, on_answers=answers.append)
    assert sum(answers) == photos.answers == 2 * len(photos.held_out), "each as filed, and turned"
    shutil.rmtree(toy_data)
    assert evaluate("mobilenet_v2", photos, weights_dir).metrics == alone.metrics


def test_photos_of_one_class_are_asked_about_once(toy_data, weights_dir):
    shutil.rmtree(toy_data / "sound")
    photos, answers = LabelledPhotos(toy_data), []
    evaluate("mobilenet_v2", photos, weights_dir, on_answers=answers.append)
    assert sum(answers) == photos.answers == len(photos.held_out)


def test_a_checkpoint_of_the_same_name_is_not_overwritten_unasked(toy_data, tmp_path):
    save_untrained(tmp_path, "mobilenet_v2")
    before = (tmp_path / "mobilenet_v2.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match=r"holds a checkpoint of this name; .*--overwrite"):
        train(QUICK, toy_data, out=tmp_path, run_dir=tmp_path / "run")
    assert (tmp_path / "mobilenet_v2.safetensors").read_bytes() == before
    train(QUICK, toy_data, out=tmp_path, run_dir=tmp_path / "run", overwrite=True)
    assert (tmp_path / "mobilenet_v2.safetensors").read_bytes() != before
