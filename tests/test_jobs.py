"""Runs in a process of their own: started, watched, stopped, resumed, and never lost."""

import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from filelock import FileLock
from helpers import wait_until

from heritage.cards import read_card
from heritage.errors import CheckpointError, TrainingError
from heritage.processes import named, process_stamp, worker_name
from heritage.training import jobs
from heritage.training.config import STATE, EpochRecord, Step, TrainingConfig

TINY = TrainingConfig(
    backbone="mobilenet_v3_small", init="scratch", epochs=2, crop_side_px=64, batch_size=4,
    learning_rate=1e-3, workers=0,
)  # fmt: skip
LONG = TrainingConfig(
    backbone="mobilenet_v3_small", init="scratch", epochs=400, patience=400, crop_side_px=64,
    batch_size=4, learning_rate=1e-4, workers=0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("HERITAGE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(tmp_path / "weights"))
    yield
    for job in jobs.list_jobs():
        job.stop()


def log_of(job):
    return (job.folder / jobs.LOG).read_text()


def test_a_job_trains_in_its_own_process_and_leaves_a_checkpoint(toy_data, tmp_path):
    job = jobs.start(TINY, str(toy_data), "walls")
    assert [found.name for found in jobs.list_jobs()] == ["walls"]
    wait_until(lambda: job.status() != "running")
    assert job.status() == "done", log_of(job)
    progress = job.progress()
    assert progress.share == 1
    assert [record.epoch for record in progress.history] == [1, 2]
    assert progress.photos == progress.photos_in_all == 24
    assert read_card(tmp_path / "weights" / "walls.json").backbone == "mobilenet_v3_small"
    job.discard()
    assert not jobs.list_jobs() and not job.folder.exists()
    assert (tmp_path / "weights" / "walls.safetensors").exists()


def test_a_stopped_job_keeps_its_epochs_and_goes_on_from_there(toy_data):
    job = jobs.start(LONG, str(toy_data), "walls")
    wait_until(lambda: len(job.progress().history) >= 2)
    job.stop()
    wait_until(lambda: job.status() == "stopped")
    before = [record.epoch for record in job.progress().history]
    assert before == list(range(1, len(before) + 1))
    assert len(before) >= 2
    job.launch()
    wait_until(lambda: len(job.progress().history) > len(before))
    epochs = [record.epoch for record in job.progress().history]
    assert epochs[: len(before)] == before
    assert epochs == sorted(set(epochs)), "none is told twice"
    with pytest.raises(TrainingError, match="in progress"):
        job.launch()
    with pytest.raises(TrainingError, match="in progress"):
        job.discard()
    job.stop()
    wait_until(lambda: job.status() == "stopped")
    job.discard()
    assert not jobs.list_jobs()


def test_a_job_outlives_whoever_started_it(toy_data, tmp_path):
    code = (
        "from heritage.training import jobs, config;"
        f"jobs.start(config.TrainingConfig(**{jobs.asdict(TINY)!r}), {str(toy_data)!r}, 'orphan')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=jobs.ROOT)
    (job,) = jobs.list_jobs()
    wait_until(lambda: job.status() != "running")
    assert job.status() == "done", log_of(job)


def test_what_goes_wrong_is_told_in_words(tmp_path):
    job = jobs.start(TINY, str(tmp_path / "nowhere"), "lost")
    wait_until(lambda: job.status() != "running")
    assert job.status() == "failed"
    assert "there is no such folder or manifest" in job.progress().error


def test_a_name_that_is_taken_or_leaves_the_folder_is_refused(toy_data, tmp_path, weights_dir):
    v2 = replace(TINY, backbone="mobilenet_v2")
    with pytest.raises(TrainingError, match="checkpoint of this name"):
        jobs.start(v2, str(toy_data), "mobilenet_v2", out=weights_dir)
    with pytest.raises(CheckpointError, match="the name of another backbone"):
        jobs.start(TINY, str(toy_data), "vgg16")
    with pytest.raises(Exception, match="no name for a checkpoint"):
        jobs.start(TINY, str(toy_data), "../escaped")
    folder = jobs.runs_dir() / "walls"
    folder.mkdir(parents=True)
    (folder / jobs.JOB).write_text("{}")
    with pytest.raises(TrainingError, match="run of this name"):
        jobs.start(TINY, str(toy_data), "walls")
    assert not jobs.list_jobs(), "a job file that cannot be read is left out"


@pytest.mark.parametrize("part", [".", "fold-0"])
def test_what_a_run_of_the_shell_has_learned_is_not_taken_over(toy_data, part):
    learned = jobs.runs_dir() / "walls" / part / STATE
    learned.parent.mkdir(parents=True)
    learned.write_bytes(b"eight epochs")
    with pytest.raises(TrainingError, match="started in the shell"):
        jobs.start(TINY, str(toy_data), "walls")
    assert learned.read_bytes() == b"eight epochs" and not jobs.list_jobs()


def test_a_run_that_died_by_itself_says_so_and_can_be_resumed(toy_data):
    job = jobs.start(LONG, str(toy_data), "walls")
    wait_until(lambda: len(job.progress().history) >= 1)
    os.killpg(named(job.progress().worker)[1], signal.SIGKILL)
    wait_until(lambda: job.status() != "running")
    assert job.status() == "failed"
    assert job.error == jobs.ENDED_UNEXPECTEDLY
    done = len(job.progress().history)
    job.launch()
    wait_until(lambda: len(job.progress().history) > done)
    job.stop()
    wait_until(lambda: job.status() == "stopped")


@pytest.fixture
def sleeper():
    """A process that has nothing to do with us, and how it is told from others of its number."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    yield process, process_stamp(process.pid)
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("elsewhere:{pid}:{stamp}", "walls: it runs on elsewhere; stop it there"),
        ("{host}:{pid}:1", "is not known yet; try again"),
    ],
)
def test_a_process_of_the_same_number_on_another_computer_is_left_alone(sleeper, name, words):
    process, stamp = sleeper
    worker = name.format(host=socket.gethostname(), pid=process.pid, stamp=stamp)
    folder = jobs.runs_dir() / "walls"
    folder.mkdir(parents=True)
    job = jobs.Job("walls", "data", TINY, "out", "", folder)
    (folder / jobs.PROGRESS).write_text(json.dumps({"history": [], "worker": worker}))
    with FileLock(folder / jobs.LOCK):
        with pytest.raises(TrainingError, match=words):
            job.stop()
        assert process.poll() is None
        assert not (folder / jobs.STOPPED).exists(), "nobody has stopped it"
    assert process_stamp(process.pid) == stamp


def test_a_run_that_is_starting_is_running_for_everybody(sleeper):
    process, _ = sleeper
    folder = jobs.runs_dir() / "walls"
    folder.mkdir(parents=True)
    job = jobs.Job("walls", "data", TINY, "out", "", folder)
    begun = jobs.Progress(phase=jobs.STARTING, worker=worker_name(process.pid))
    (folder / jobs.PROGRESS).write_text(json.dumps(jobs.asdict(begun)))
    assert job.status() == "running"
    for act in (job.launch, job.discard):
        with pytest.raises(TrainingError, match="in progress"):
            act()
    job.stop()
    process.wait(30)
    assert job.status() == "stopped"
    (folder / jobs.STOPPED).unlink()
    assert (job.status(), job.error) == ("failed", jobs.ENDED_UNEXPECTEDLY)


def test_what_an_earlier_version_reported_is_still_read():
    folder = jobs.runs_dir() / "walls"
    folder.mkdir(parents=True)
    (folder / jobs.PROGRESS).write_text('{"history": [], "seconds": 7.5, "process": 12}')
    assert jobs.read_progress(folder) == jobs.Progress(seconds=7.5)


def test_looking_at_a_run_from_many_sides_does_not_make_it_look_busy(toy_data):
    folder = jobs.runs_dir() / "walls"
    folder.mkdir(parents=True)
    (folder / jobs.LOCK).touch()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: jobs.is_running(folder), range(200)))
    assert not any(found)


@pytest.mark.parametrize(
    "text",
    [
        '"x"',
        "3",
        "[]",
        '{"data": "a", "out": "b", "created": 5}',
        '{"data": "a", "out": "b", "created": "", "config": {"backbone": "lenet"}}',
        '{"data": "a", "out": "b", "created": "", "config": {"epochs": -1}}',
    ],
)
def test_a_run_folder_with_odd_content_is_left_out(text):
    folder = jobs.runs_dir() / "odd"
    folder.mkdir(parents=True)
    (folder / jobs.JOB).write_text(text)
    (folder / jobs.PROGRESS).write_text("3")
    assert jobs.list_jobs() == []
    assert jobs.read_progress(folder) == jobs.Progress()


@pytest.mark.parametrize("name", ["-walls", "x" * 101, "a*b", 'a"b', "a?b"])
def test_names_that_a_shell_or_a_file_system_would_mistake_are_refused(toy_data, name):
    with pytest.raises(CheckpointError, match="no name for a checkpoint"):
        jobs.start(TINY, str(toy_data), name)


def test_time_spent_reading_photos_is_not_taken_for_training(tmp_path, monkeypatch):
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(jobs.time, "monotonic", lambda: next(clock))
    (tmp_path / jobs.JOB).write_text("{}")
    with jobs.reporting(tmp_path) as reporter:
        for photo in range(5):
            reporter.photos(photo + 1, 5)
        assert jobs.read_progress(tmp_path).seconds == 0
        reporter.event(Step(1, 1, 10, 0.7), epochs=2)
        reporter.event(Step(1, 2, 10, 0.7), epochs=2)
        assert 0 < jobs.read_progress(tmp_path).seconds <= 400


def test_an_epoch_that_was_broken_off_does_not_make_the_rest_seem_longer(tmp_path):
    (tmp_path / jobs.JOB).write_text("{}")
    epoch = {"epoch": 1, "train_loss": 1.0, "validation_loss": 1.0, "seconds": 60.0}
    epoch |= {"validation_balanced_accuracy": 0.5, "validation_auroc": 0.5}
    before = {"phase": "training", "epoch": 2, "epochs": 4, "step": 9, "steps": 10}
    before |= {"seconds": 114.0, "history": [epoch]}
    (tmp_path / jobs.PROGRESS).write_text(json.dumps(before))
    with jobs.reporting(tmp_path) as reporter:
        reporter.event(Step(2, 1, 10, 0.7), epochs=4)
        reporter.phase("training")
        left = jobs.read_progress(tmp_path).seconds_left
    assert left == pytest.approx(60 * 2.9 / 1.1, rel=0.02)


def test_two_processes_never_train_in_one_folder(tmp_path):
    with (
        jobs.reporting(tmp_path / "run"),
        pytest.raises(TrainingError, match="another process"),
        jobs.reporting(tmp_path / "run"),
    ):
        pass
    assert not jobs.is_running(tmp_path / "run")


def test_a_run_folder_that_cannot_be_written_is_an_error_in_words(tmp_path):
    (tmp_path / "run" / jobs.LOCK).mkdir(parents=True)
    with (
        pytest.raises(TrainingError, match=r"it cannot be written to \(.*\); choose another --run"),
        jobs.reporting(tmp_path / "run"),
    ):
        pass


def test_weights_without_a_card_are_not_trained_over(tmp_path, monkeypatch):
    monkeypatch.setenv("HERITAGE_RUNS", str(tmp_path / "runs"))
    (tmp_path / "mine.safetensors").touch()
    with pytest.raises(TrainingError, match="there is a checkpoint of this name"):
        jobs.start(TINY, "photos", "mine", out=tmp_path)


def test_progress_goes_to_disk_and_a_resumed_epoch_replaces_what_came_after(tmp_path):
    def record(epoch, loss):
        return EpochRecord(epoch, loss, loss, 0.5, 0.5, 1.0)

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / jobs.JOB).write_text("{}")
    with jobs.reporting(tmp_path / "run") as reporter:
        reporter.event(Step(1, 5, 10, 0.7), epochs=4)
        for epoch in (1, 2, 3):
            reporter.event(record(epoch, 1.0), epochs=4)
    with jobs.reporting(tmp_path / "run") as reporter:
        reporter.event(record(2, 0.5), epochs=4)
    history = jobs.read_progress(tmp_path / "run").history
    assert [(r.epoch, r.train_loss) for r in history] == [(1, 1.0), (2, 0.5)]


def test_time_left_follows_the_share_that_is_done():
    early = jobs.Progress(phase="training", epoch=1, epochs=4, step=5, steps=10, seconds=10)
    assert early.share == pytest.approx(0.125)
    assert early.seconds_left == pytest.approx(70)
    assert jobs.Progress().seconds_left is None
    assert jobs.Progress(phase="scoring").share == 1


def test_the_shown_command_does_the_same(toy_data):
    from heritage.cli import _parser

    job = jobs.Job("walls", str(toy_data), LONG, "out", "", jobs.runs_dir())
    options = _parser().parse_args(job.arguments)
    told = {name: getattr(options, name) for name in jobs.asdict(LONG)}
    assert TrainingConfig(**told) == LONG
    assert (str(options.data), options.name) == (str(toy_data), "walls")
