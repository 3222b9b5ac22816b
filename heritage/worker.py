"""The process that works on runs while pages come and go: one per computer and folder.

`python -m heritage.worker` works on whatever waits and ends; a page starts it when something
does. It belongs to no browser tab, and what a killed one left is taken up by the next.
Importing this loads no torch.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from heritage.errors import StoreError
from heritage.surveys import SurveyStore

LOCK, LOG = "worker.lock", "worker.log"
LOG_BYTES = 1_000_000
_CHILDREN: dict[Path, subprocess.Popen[bytes]] = {}  # asked how they do, or they stay zombies
ROOT = Path(__file__).resolve().parents[1]


def ensure_worker(store: SurveyStore) -> None:
    """Starts the worker if a run waits, or was left by a dead one, and none is there.

    Raises:
        StoreError: The process cannot be started.
    """
    child = _CHILDREN.get(store.folder)
    if (child and child.poll() is None) or _is_there(store.folder):
        return
    if not any(not store.alive(run.id) for run in store.unfinished_runs()):
        return
    apart: dict[str, Any] = (
        {"creationflags": 0x0800_0200}  # CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP
        if sys.platform == "win32"
        else {"start_new_session": True}
    )
    path = store.folder / LOG
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        fresh = not path.exists() or path.stat().st_size > LOG_BYTES
        with path.open("wb" if fresh else "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "heritage.worker", str(store.folder)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **apart,
            )
    except OSError as error:
        raise StoreError(
            "triage", f"its process cannot be started ({error.strerror})", "try again"
        ) from error
    _CHILDREN[store.folder] = process


def _is_there(folder: Path) -> bool:
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def main(folder: Path) -> None:
    """Works until nothing waits; returns at once where another process does."""
    from heritage.sources import photo_root
    from heritage.triage import share_cores, work_off

    folder.mkdir(parents=True, exist_ok=True)
    share_cores()
    try:
        with FileLock(folder / LOCK, timeout=1):
            work_off(SurveyStore(folder), root=photo_root())
    except Timeout:
        return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
