"""What both targets share: seeds, where finds go, and what counts as one besides a crash."""

from __future__ import annotations

import hashlib
import os
import resource
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import atheris

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

MOST_MEMORY_MB, MOST_OUTPUT_BYTES, MOST_SECONDS = 1024, 2000, 5


def fuzz(
    target: Callable[[bytes], None],
    seeds: Iterable[bytes],
    mutate: Callable[[bytes, int, int], bytes] | None = None,
) -> None:
    """Runs `target` for the seconds given as first argument; what it finds is kept as a file.

    A find is an exception, a crash, an input that takes longer than `MOST_SECONDS`, more than
    `MOST_MEMORY_MB` at once, or an input that has C libraries write pages to the output.
    """
    home = ROOT / "tests" / "fuzz" / "corpus" / Path(sys.argv[0]).stem
    finds = home.with_name(f"{home.name}_finds")
    for folder in (home, finds):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (home / f"seed-{number}").write_bytes(seed)
    before_mb = _peak_mb()
    print(f"what is found is kept in {finds}", flush=True)

    def checked(data: bytes) -> None:
        try:
            with _Output() as output:
                target(data)
            if output.written > MOST_OUTPUT_BYTES:
                raise RuntimeError(f"{output.written} bytes of output")
            if _peak_mb() - before_mb > MOST_MEMORY_MB:
                raise MemoryError(f"{_peak_mb()} MB at once")
        except BaseException:
            find = finds / hashlib.sha256(data).hexdigest()[:16]
            find.write_bytes(data)
            print(f"{traceback.format_exc()}\nkept as {find}", file=sys.stderr, flush=True)
            os._exit(1)  # libFuzzer's own way out hangs, and keeps nothing

    seconds = sys.argv[1] if len(sys.argv) > 1 else "300"
    options = [f"-max_total_time={seconds}", f"-timeout={MOST_SECONDS}", "-max_len=70000"]
    options += [f"-artifact_prefix={finds}/", "-print_final_stats=1", "-rss_limit_mb=4096"]
    more: dict[str, Any] = {"custom_mutator": mutate} if mutate else {}
    atheris.Setup([sys.argv[0], *options, *sys.argv[2:], str(home)], checked, **more)
    atheris.Fuzz()


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


class _Output:
    """Counts what is written to the standard outputs meanwhile, by C libraries too."""

    _file = tempfile.TemporaryFile()  # noqa: SIM115
    _kept = (os.dup(1), os.dup(2))

    def __enter__(self) -> _Output:
        os.lseek(self._file.fileno(), 0, os.SEEK_SET)
        for descriptor in (1, 2):
            os.dup2(self._file.fileno(), descriptor)
        return self

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.written = os.lseek(self._file.fileno(), 0, os.SEEK_CUR)
        for descriptor, kept in zip((1, 2), self._kept, strict=True):
            os.dup2(kept, descriptor)
