"""Runs a command of Heritage and kills it, as `kill -9` does, at a chosen moment.

`python tests/kill_at.py FILE:FUNCTION N COMMAND …` runs `python -m heritage COMMAND …` until a
function of that name in a file whose path holds FILE is entered for the Nth time; with
`FILE:FUNCTION:return`, until it is left.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from itertools import count
from pathlib import Path
from typing import Any


def main(where: str, number: int, arguments: list[str]) -> int:
    file, function, *left = where.split(":")
    wanted = "return" if left else "call"
    seen = count(1)

    def watch(frame: Any, event: str, argument: Any) -> None:
        code = frame.f_code
        hit = event == wanted and code.co_name == function and file in code.co_filename
        if hit and next(seen) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.path.insert(0, str(Path(__file__).parent.parent))
    from heritage.cli import main as heritage

    threading.setprofile(watch)
    sys.setprofile(watch)
    return heritage(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
