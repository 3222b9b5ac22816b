"""Processes that outlive whoever started them, and the locks that tell whether they live."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

import psutil
from filelock import FileLock, Timeout

ROOT = Path(__file__).resolve().parents[1]


def start_apart(arguments: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Starts `python ARGUMENTS` in the project's folder, apart from this process's terminal.

    Raises:
        OSError: It cannot be started.
    """
    apart: dict[str, Any] = (
        {"creationflags": 0x0800_0200}  # CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP
        if sys.platform == "win32"
        else {"start_new_session": True}
    )
    # Our own modules, and no shell in between.
    return subprocess.Popen(  # nosec B603
        [sys.executable, *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        **apart,
    )


def is_locked(path: Path, *, patience_s: float = 0.0) -> bool:
    """Whether a process holds the lock at `path`; the system frees it when the process dies.

    Args:
        patience_s: How long a lock must be held, so that others who look at the same moment are
            not taken for the process.
    """
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=patience_s, poll_interval=0.02):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def process_stamp(process: int) -> str:
    """Tells a living process from an earlier or later one of the same number.

    Does not change when the clock is set. Empty where there is no such process, or a dead one
    that nobody has asked after.
    """
    try:
        found = psutil.Process(process)
        if found.status() == psutil.STATUS_ZOMBIE:
            return ""
        if sys.platform == "linux":  # where psutil's time of birth moves with the clock
            return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
        return f"{found.create_time():.0f}"
    except (psutil.Error, OSError):
        return ""


def worker_name(process: int | None = None) -> str:
    """Names a process, by default this one, among those of all computers that share a folder or a
    database: computer, number, and which of the processes of that number."""
    return _own_name(os.getpid()) if process is None else _name(process)


@cache  # it is asked for with every photo; a forked process has another number
def _own_name(process: int) -> str:
    return _name(process)


def _name(process: int) -> str:
    return f"{socket.gethostname()}:{process}:{process_stamp(process)}"


def lives_here(worker: str) -> bool | None:
    """Whether the process of this name lives; None where it is another computer's."""
    host, process, stamp = named(worker)
    if host != socket.gethostname() or not process:
        return None
    return bool(stamp) and process_stamp(process) == stamp


def named(worker: str) -> tuple[str, int, str]:
    """Computer, number and stamp out of a name; 0 where it has no number."""
    host, _, rest = worker.partition(":")
    process, _, stamp = rest.partition(":")
    return host, int(process) if process.isdecimal() else 0, stamp
