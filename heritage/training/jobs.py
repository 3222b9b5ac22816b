"""Training runs that live in a process of their own, and what others can see of them.

A run is a folder. The process that trains holds a lock on it and keeps `progress.json` there up
to date, so that a page, or the shell, or another page tomorrow sees the same run; whoever started
it may go away. Importing this loads no torch.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from heritage.backbones import get_backbone
from heritage.cards import check_name, is_taken, weights_dir, write_atomically
from heritage.errors import HeritageError, TrainingError, one_line
from heritage.logs import start_logging
from heritage.processes import ROOT, is_locked, lives_here, named, start_apart, worker_name
from heritage.training.config import STATE, EpochRecord, Step, TrainingConfig

EVENTS = logging.getLogger(__name__)
JOB, PROGRESS, LOCK, LOG = "job.json", "progress.json", "running.lock", "log.txt"
STOPPED = "stopped-by-user"
STARTING = "starting"
FILES = (JOB, PROGRESS, LOG, STOPPED, f"{JOB}.partial", f"{PROGRESS}.partial")
ENDED_UNEXPECTEDLY = "it ended unexpectedly; what finished epochs learned is kept"
SECONDS_BETWEEN_WRITES = 1.0
Status = Literal["running", "stopped", "failed", "done"]
_CHILDREN: list[subprocess.Popen[bytes]] = []  # kept until they end, or they would stay zombies


def runs_dir() -> Path:
    """The folder of runs in progress: `HERITAGE_RUNS` where it is set, else `runs/` here."""
    return Path(os.environ.get("HERITAGE_RUNS") or ROOT / "runs").resolve()


OF_A_CASCADE = ("stage_one", "stage_two_init")  # fields of its Job, and options of `train`


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        phase: `starting`, `reading`, `training`, `scoring`, `done` or `failed`.
        epoch: The epoch in progress, from 1.
        epochs: Epochs there will be at most.
        step: Batches done in this epoch.
        steps: Batches in an epoch.
        photos: Photos read so far.
        photos_in_all: Photos to read.
        seconds: Time of training so far, pauses left out.
        history: Finished epochs.
        error: Why the run failed, in words.
        worker: Name of the process that writes this; see `processes.worker_name`.
    """

    phase: str = "reading"
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    photos: int = 0
    photos_in_all: int = 0
    seconds: float = 0.0
    history: tuple[EpochRecord, ...] = ()
    error: str = ""
    worker: str = ""

    @property
    def share(self) -> float:
        """Share of the epochs that is done, from 0 to 1."""
        if self.phase in ("scoring", "done"):
            return 1.0
        whole = max(1, self.epochs) * max(1, self.steps)
        return min(1.0, (max(0, self.epoch - 1) * self.steps + self.step) / whole)

    @property
    def seconds_left(self) -> float | None:
        """Time until all epochs are done at the pace so far; None before anything is known."""
        if self.phase != "training" or self.share < 0.001:
            return None
        return self.seconds * (1 - self.share) / self.share


@dataclass(frozen=True)
class Job:
    """A run that was started in a process of its own.

    Attributes:
        name: Name of the checkpoint it makes, and of its folder.
        data: The labelled folder or manifest.
        config: What it learns.
        out: Where the checkpoint goes.
        created: ISO 8601 time of the first start.
        stage_one: Of a cascade, the checkpoint that is its stage 1.
        stage_two_init: Of a cascade, what its stage 2 starts from.
    """

    name: str
    data: str
    config: TrainingConfig
    out: str
    created: str
    folder: Path = field(compare=False)
    stage_one: str = ""
    stage_two_init: str = ""

    @property
    def arguments(self) -> list[str]:
        """What follows `python -m heritage` to do the same in the shell."""
        arguments = ["train", self.data, f"--name={self.name}", f"--out={self.out}"]
        for option in fields(TrainingConfig):
            value = getattr(self.config, option.name)
            flag = "--" + option.name.replace("_", "-")
            if value == option.default:
                continue
            if isinstance(value, bool):
                arguments.append(flag if value else "--no-" + flag.removeprefix("--"))
            else:
                arguments += [flag, str(value)]
        for name in OF_A_CASCADE:
            if value := getattr(self, name):
                arguments += ["--" + name.replace("_", "-"), value]
        return arguments

    @property
    def command(self) -> str:
        """The same as one line for people."""
        return "python -m heritage " + shlex.join(self.arguments)

    def progress(self) -> Progress:
        """How far it is, as last written."""
        return read_progress(self.folder)

    def status(self) -> Status:
        """Whether it runs, was stopped, failed, or is done."""
        progress = self.progress()
        starting = progress.phase == STARTING and lives_here(progress.worker)
        if starting or is_running(self.folder):
            return "running"
        progress = self.progress()
        if progress.phase == "done":
            return "done"
        stopped = (self.folder / STOPPED).exists() and not progress.error
        return "stopped" if stopped else "failed"

    @property
    def error(self) -> str:
        """Why it failed, in words."""
        return self.progress().error or ENDED_UNEXPECTEDLY

    def launch(self) -> None:
        """Starts the process, or starts it again where it left off.

        Raises:
            TrainingError: It runs already, or the process cannot be started.
        """
        if self.status() == "running":
            raise TrainingError(self.name, "this run is in progress", "stop it first")
        before = self.progress()
        begun = Progress(phase=STARTING, history=before.history, seconds=before.seconds)
        try:
            _write_progress(self.folder, begun)
            (self.folder / STOPPED).unlink(missing_ok=True)
            with (self.folder / LOG).open("ab") as log:
                _CHILDREN[:] = [child for child in _CHILDREN if child.poll() is None]
                process = start_apart(
                    ["-m", "heritage", *self.arguments, f"--run={self.folder}"], log
                )
        except OSError as error:
            raise TrainingError(
                self.name, f"it cannot be started ({error.strerror})", "try again"
            ) from error
        _CHILDREN.append(process)
        # It loads its libraries for some seconds before it holds the run and tells of itself.
        with suppress(OSError):
            _write_progress(self.folder, replace(begun, worker=worker_name(process.pid)))
        while process.poll() is None and not is_running(self.folder):
            time.sleep(0.05)

    def stop(self) -> None:
        """Asks the process to end; what finished epochs learned is kept.

        Raises:
            TrainingError: It belongs to somebody else, or runs on another computer.
        """
        worker = self.progress().worker
        if not worker or self.status() != "running":
            return
        host, process, _ = named(worker)
        here = lives_here(worker)
        if here is None:
            raise TrainingError(self.name, f"it runs on {one_line(host)}", "stop it there")
        if not here:
            raise TrainingError(
                self.name, "the process that runs it is not known yet", "try again in a minute"
            )
        try:
            (self.folder / STOPPED).touch()
            _end(process)
        except ProcessLookupError:
            pass
        except OSError as error:
            raise TrainingError(
                self.name,
                f"it cannot be stopped ({error.strerror})",
                "stop it where it was started",
            ) from error

    def discard(self) -> None:
        """Removes the run's files, but not a checkpoint it has made.

        Raises:
            TrainingError: It is in progress.
        """
        from heritage.training.run import remove_run

        if self.status() == "running":
            raise TrainingError(self.name, "this run is in progress", "stop it first")
        for name in (*FILES, LOCK):
            (self.folder / name).unlink(missing_ok=True)
        remove_run(self.folder)


def start(
    config: TrainingConfig,
    data: str,
    name: str,
    *,
    out: Path | None = None,
    stage_one: str = "",
    stage_two_init: str = "",
) -> Job:
    """Starts training `config` on `data` in a process of its own.

    Args:
        stage_one: Of a cascade, as in `Job`; so is `stage_two_init`.

    Raises:
        TrainingError: A run or a checkpoint of this name exists, or it cannot be started.
    """
    check_name(name, config.backbone)
    out = out or weights_dir()
    folder = runs_dir() / name
    if (folder / JOB).exists():
        raise TrainingError(name, "there is a run of this name", "choose another name")
    if is_taken(name, out):
        raise TrainingError(name, "there is a checkpoint of this name", "choose another name")
    if is_running(folder) or any(folder.glob(f"**/{STATE}")):
        raise TrainingError(
            name, "a run that was started in the shell has this name", "choose another name"
        )
    created = datetime.now(UTC).isoformat(timespec="seconds")
    job = Job(name, data, config, str(out), created, folder, stage_one, stage_two_init)
    values = {key: value for key, value in asdict(job).items() if key != "folder"}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / JOB, json.dumps(values, indent=1).encode())
    except OSError as error:
        raise TrainingError(
            name, f"its folder cannot be written ({error.strerror})", "check the server's disk"
        ) from error
    try:
        job.launch()
    except TrainingError:
        job.discard()  # it has learned nothing, and its name is to be free
        raise
    return job


def list_jobs() -> list[Job]:
    """All runs that were started as jobs, the newest first; unreadable ones are left out."""
    jobs = []
    for path in runs_dir().glob(f"*/{JOB}"):
        with suppress(OSError, ValueError, TypeError, LookupError, AttributeError, HeritageError):
            values = json.loads(path.read_text(encoding="utf-8"))
            config = TrainingConfig(**values["config"])
            get_backbone(config.backbone)
            data, out, created = (str(values[key]) for key in ("data", "out", "created"))
            stages = (str(values.get(key, "")) for key in OF_A_CASCADE)
            jobs.append(Job(path.parent.name, data, config, out, created, path.parent, *stages))
    return sorted(jobs, key=lambda job: job.created, reverse=True)


def is_running(folder: Path) -> bool:
    """Whether a process holds the run in `folder`; the system frees it when the process dies."""
    return is_locked(folder / LOCK, patience_s=0.3)


def read_progress(folder: Path) -> Progress:
    """What the run in `folder` last wrote; an empty one where there is nothing to be read."""
    try:
        values = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        history = tuple(EpochRecord(**record) for record in values.pop("history"))
        values.pop("process", None)  # of earlier versions, which named no computer
        return Progress(**values, history=history)
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return Progress()


class Reporter:
    """Keeps `progress.json` of a run up to date; made by `reporting`."""

    def __init__(self, folder: Path, *, afresh: bool = False) -> None:
        self.folder = folder
        before = Progress() if afresh else read_progress(folder)
        # What an epoch had taken that was broken off says nothing of how long the rest takes.
        self._earlier_s, self._started = sum(epoch.seconds for epoch in before.history), 0.0
        self._now: dict[str, Any] = {"history": before.history, "worker": worker_name()}
        self._written = 0.0
        self._tell(force=True)

    def photos(self, done: int, in_all: int) -> None:
        """Tells how many photos were read."""
        self._tell(photos=done, photos_in_all=in_all, force=done == in_all)

    def event(self, event: Step | EpochRecord, epochs: int) -> None:
        """Tells of a batch or of a finished epoch."""
        if isinstance(event, Step):
            self._started = self._started or time.monotonic()
            self._tell(
                phase="training",
                epoch=event.epoch,
                epochs=epochs,
                step=event.step,
                steps=event.steps,
            )
        else:
            EVENTS.info("epoch", extra=asdict(event))
            kept = [r for r in self._now["history"] if r.epoch < event.epoch]
            self._tell(history=(*kept, event), force=True)

    def phase(self, name: str, error: str = "") -> None:
        """Tells that something else begins, or that the run failed."""
        EVENTS.info("phase", extra={"phase": name, "epochs": len(self._now["history"])})
        self._tell(phase=name, error=error, force=True)

    def _tell(self, *, force: bool = False, **values: Any) -> None:
        self._now |= values
        now = time.monotonic()
        if force or now - self._written > SECONDS_BETWEEN_WRITES:
            self._written = now
            trained_s = now - self._started if self._started else 0.0
            progress = Progress(**self._now | {"seconds": round(self._earlier_s + trained_s, 1)})
            for _ in range(5 if force else 1):
                # A report that cannot be written, because it is being read or the disk is full,
                # must not end the training.
                with suppress(OSError):
                    _write_progress(self.folder, progress)
                    break
                time.sleep(0.05)


@contextmanager
def reporting(folder: Path, *, afresh: bool = False) -> Iterator[Reporter]:
    """Holds the run in `folder` for this process and reports on it.

    Args:
        afresh: Forget what an earlier process reported.

    Raises:
        TrainingError: Another process holds it, the folder cannot be made, or the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            str(folder), f"it cannot be made ({error.strerror})", "choose another --run"
        ) from error
    lock = FileLock(folder / LOCK, timeout=0.5)
    try:
        lock.acquire()
    except Timeout:
        raise TrainingError(
            str(folder), "another process trains in it", "wait for it, or choose another --run"
        ) from None
    except OSError as error:
        raise TrainingError(
            str(folder), f"it cannot be written to ({error.strerror})", "choose another --run"
        ) from error
    if (folder / JOB).exists():  # a shell has a terminal to tell it to
        start_logging(f"training-{folder.name}", folder.parent)
    reporter = Reporter(folder, afresh=afresh)
    try:
        yield reporter
    except HeritageError as error:
        reporter.phase("failed", str(error))
        raise
    except OSError as error:
        reason = f"it cannot go on ({error.strerror or error})"
        advice = "make room on the disk and resume; what finished epochs learned is kept"
        told = TrainingError(folder.name, reason, advice)
        reporter.phase("failed", str(told))
        raise told from error
    except Exception:
        reporter.phase("failed", f"something unforeseen happened; {LOG} has the details")
        raise
    else:
        if (folder / JOB).exists():
            reporter.phase("done")
    finally:
        lock.release()
        if folder.exists() and not (folder / JOB).exists():  # a shell has told all there is
            with suppress(OSError):
                for name in (PROGRESS, f"{PROGRESS}.partial", LOCK):
                    (folder / name).unlink(missing_ok=True)
                folder.rmdir()


def _end(process: int) -> None:
    """Ends a process and, where it leads a group, the ones that prepare photos for it."""
    if sys.platform != "win32" and os.getpgid(process) == process:
        os.killpg(process, signal.SIGTERM)
    else:
        os.kill(process, signal.SIGTERM)


def _write_progress(folder: Path, progress: Progress) -> None:
    write_atomically(folder / PROGRESS, json.dumps(asdict(progress)).encode())
