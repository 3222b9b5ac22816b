"""The worker of a computer of another name, which does not see the locks of this one.

`python tests/another_computer.py NAME FOLDER [N]` works off what waits, as `python -m
heritage.worker FOLDER` does, once it is given a line to read; having written down N photos, it
stands still until it is told to continue.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from itertools import count
from pathlib import Path
from typing import Any


def main(name: str, folder: Path, last: int) -> None:
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from heritage import triage, worker

    socket.gethostname = lambda: name
    worker.LOCK = f"{name}.lock"
    real, written = triage.SurveyStore.record, count(1)

    def record(*given: Any, **named: Any) -> bool:
        done = real(*given, **named)
        if next(written) == last:
            os.kill(os.getpid(), signal.SIGSTOP)
        return done

    triage.SurveyStore.record = record  # type: ignore[method-assign]
    print("ready", flush=True)
    input()
    worker.main(folder)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
