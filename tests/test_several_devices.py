"""Two processes that train together learn what one learns, and nothing they did is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from helpers import crack_photo, labelled_folder, save_untrained, wait_until

from heritage.cards import read_card
from heritage.checkpoints import load_checkpoint
from heritage.cli import main
from heritage.inspection import Inspector
from heritage.photos import open_photo

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = (
    *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"),
    *("--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"),
)
RECIPE = (
    *("--backbone=resnet18", "--init=scratch", "--epochs=3", "--crop-side-px=64"),
    *("--batch-size=8", "--learning-rate=1e-3", "--head-rate-factor=1", "--ema-decay=0.5"),
    *("--turned-share=0", "--smallest-crop=0.8", "--smallest-crop-sound=0.8", "--workers=0"),
    *("--name=walls", "--device=cpu"),
)
PATIENCE_S = 900  # with a launch that hangs


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A labelled folder, and what two processes learn from it that nothing befalls."""
    folder = tmp_path_factory.mktemp("learned")
    labelled_folder(folder / "toy", per_class=40)
    ended = launched(*train(folder / "toy", folder))
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.count("balanced_accuracy") == 1, "told by one of the two"
    return folder


def train(data, folder):
    places = (f"--out={folder / 'out'}", f"--run={folder / 'run'}")
    return "-m", "heritage", "train", data, *RECIPE, *places


def launched(*arguments):
    command = [*LAUNCH, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)


def balanced_accuracy(folder):
    return read_card(folder / "out" / "walls.json").metrics["validation"]["balanced_accuracy"][
        "value"
    ]


def test_two_processes_learn_what_one_learns(learned, tmp_path):
    assert main([*map(str, train(learned / "toy", tmp_path)[2:])]) == 0
    for folder in (tmp_path, learned):
        assert balanced_accuracy(folder) >= 0.9
    inspector = Inspector("walls", folder=learned / "out")
    photos = [open_photo(crack_photo(cracked=cracked, seed=2000)) for cracked in (True, False)]
    cracked, sound = [inspector.inspect(photo).damage_percent for photo in photos]
    assert cracked > 50 > sound


def test_a_process_whose_share_is_drawn_alone_keeps_step_with_the_other(tmp_path):
    data = labelled_folder(tmp_path / "toy", per_class=8)
    drawn = labelled_folder(tmp_path / "drawn", per_class=8, first_seed=100)
    lines = [
        f"{path.relative_to(drawn)},{path.parts[-3]},{path.parent.name}"
        for path in sorted(drawn.rglob("*.jpg"))
    ]
    (drawn / "manifest.csv").write_text("\n".join(["path,label,group", *lines]))
    save_untrained(tmp_path / "out")
    # Of two pictures in a share, both are drawn four times out of five.
    more = ("--teacher=mobilenet_v2", f"--rendered={drawn}", "--rendered-share=0.9")
    ended = launched(*train(data, tmp_path), *more, "--batch-size=4", "--epochs=1")
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert read_card(tmp_path / "out" / "walls.json").data["rendered"] == 16


def test_a_process_that_is_killed_ends_the_others_and_the_run_goes_on_to_the_same_checkpoint(
    learned, tmp_path
):
    given = train(learned / "toy", tmp_path)
    with subprocess.Popen(
        [*LAUNCH, *map(str, given)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as launch:
        wait_until((tmp_path / "run" / "state.safetensors").exists)
        both = {
            process.environ()["RANK"]: process
            for process in psutil.Process(launch.pid).children()
            if "heritage" in process.cmdline()
        }
        assert sorted(both) == ["0", "1"]
        both["1"].send_signal(signal.SIGKILL)
        launch.communicate(timeout=PATIENCE_S)
    assert launch.returncode != 0
    assert not any(process.is_running() for process in both.values())
    assert not (tmp_path / "out" / "walls.json").exists()
    ended = launched(*given)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "epoch 1:" not in ended.stderr
    one, other = (read_card(folder / "out" / "walls.json") for folder in (learned, tmp_path))
    assert [record["epoch"] for record in other.training["history"]] == [1, 2, 3]
    assert other.sha256 == one.sha256
    assert other.metrics == one.metrics
    assert load_checkpoint("walls", tmp_path / "out").card == other
    assert not (tmp_path / "run").exists()


def test_processes_that_could_not_learn_the_same_are_refused_alike(tmp_path):
    labelled_folder(tmp_path / "toy", per_class=5)
    ended = launched(ROOT / "tests" / "refused_together.py", tmp_path / "toy", tmp_path)
    assert ended.returncode == 0, ended.stderr[-3000:]
    said, by_other = (json.loads((tmp_path / f"{index}.json").read_text()) for index in (0, 1))
    assert said == by_other
    assert "several processes cannot train it" in said["cascade"]
    assert "3 photos a step are too few for 2 processes" in said["small batch"]
    assert "the processes see different ones" in said["other photos"]
    assert "the processes do not hold the same weights" in said["other weights"]
    assert said["nothing"] == ""


def test_a_head_that_points_is_trained_by_one_process(toy_data, weights_dir, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    given = ("train-pointing", toy_data, "--backbone=mobilenet_v2", f"--weights={weights_dir}")
    assert main([*map(str, given)]) == 1
    assert "several processes cannot train the head" in capsys.readouterr().err


def test_a_launch_that_starts_one_process_in_place_of_several_is_told(
    toy_data, tmp_path, monkeypatch, capsys
):
    # What `accelerate launch --cpu --num_processes 2` leaves to the one process it starts.
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert main([*map(str, train(toy_data, tmp_path)[2:])]) == 1
    assert "give it --multi_gpu in place of --cpu" in capsys.readouterr().err


def test_without_accelerate_several_processes_are_told_what_to_install(toy_data, tmp_path):
    (tmp_path / "blocked" / "accelerate").mkdir(parents=True)
    blocker = "raise ModuleNotFoundError(\"No module named 'accelerate'\", name='accelerate')"
    (tmp_path / "blocked" / "accelerate" / "__init__.py").write_text(blocker)
    ended = subprocess.run(
        [sys.executable, *map(str, train(toy_data, tmp_path))],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "blocked"), "WORLD_SIZE": "2"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert "pip install -r requirements-cluster.txt" in ended.stderr
    assert "Traceback" not in ended.stderr
