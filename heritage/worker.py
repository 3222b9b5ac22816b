"""The process that works on runs while pages come and go: one per computer and folder.

`python -m heritage.worker` works on whatever waits and ends; a page starts it when something
does. It belongs to no browser tab, and what a killed one left is taken up by the next.
Importing this loads no torch.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from filelock import FileLock, Timeout

from heritage.errors import StoreError
from heritage.logs import start_logging
from heritage.processes import is_locked, start_apart
from heritage.surveys import SurveyStore

LOCK, LOG = "worker.lock", "worker.log"
LOG_BYTES = 1_000_000
_CHILDREN: dict[Path, subprocess.Popen[bytes]] = {}  # asked how they do, or they stay zombies


def ensure_worker(store: SurveyStore) -> None:
    """Starts the worker if a run waits, or was left by a dead one, and none is there.

    Raises:
        StoreError: The process cannot be started.
    """
    child = _CHILDREN.get(store.folder)
    if (child and child.poll() is None) or is_locked(store.folder / LOCK):
        return
    if not any(not store.alive(run.id) for run in store.unfinished_runs()):
        return
    path = store.folder / LOG
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        fresh = not path.exists() or path.stat().st_size > LOG_BYTES
        with path.open("wb" if fresh else "ab") as log:
            process = start_apart(["-m", "heritage.worker", str(store.folder)], log)
    except OSError as error:
        raise StoreError(
            "triage", f"its process cannot be started ({error.strerror})", "try again"
        ) from error
    _CHILDREN[store.folder] = process


def main(folder: Path) -> None:
    """Works until nothing waits; returns at once where another process does."""
    from heritage.sources import photo_root
    from heritage.triage import share_cores, work_off

    folder.mkdir(parents=True, exist_ok=True)
    share_cores()
    try:
        with FileLock(folder / LOCK, timeout=1):
            start_logging("worker", folder)
            with closing(SurveyStore(folder)) as store:
                work_off(store, root=photo_root())
    except Timeout:
        return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    # Nobody waits for what is left: freeing models takes seconds, in which no other is started.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
