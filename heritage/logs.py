"""Structured logs: one JSON object a line, for whoever looks after an installation.

They tell what was done, when and how long it took. They hold nothing of a photo but the beginning
of its hash, no name of a photo, survey or building, and no path of this computer.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from heritage.errors import HeritageError

LOGS = "logs"
FILE_BYTES, FILES_KEPT = 5_000_000, 4
SHOWN_HASH = 12  # hexadecimal digits of a photo's hash: enough to find it in a table
ROOT = Path(__file__).resolve().parents[1]
# Of ours, and of Streamlit's what it could not handle.
_LEVELS = {"heritage": logging.INFO, "streamlit": logging.ERROR}


def start_logging(process: str, folder: Path) -> None:
    """Has what this process does logged to `FOLDER/logs/PROCESS.jsonl`, four older files kept.

    With `HERITAGE_LOG=stderr` the lines go there instead, for a service manager to collect; with
    `HERITAGE_LOG=off` nowhere. Where the folder cannot be written they go to stderr as well.

    Args:
        process: `server`, `worker` or `training-NAME`; one process writes a file.
        folder: Where surveys are kept.
    """
    handler = _handler(process, folder, os.environ.get("HERITAGE_LOG", ""))
    handler.setFormatter(_Formatter(process))
    handler.addFilter(lambda record: record.levelno >= _LEVELS[record.name.split(".")[0]])
    for name, level in _LEVELS.items():
        logger = logging.getLogger(name)
        for old in [old for old in logger.handlers if isinstance(old.formatter, _Formatter)]:
            logger.removeHandler(old)
            old.close()
        logger.addHandler(handler)
        if name == "heritage":
            logger.setLevel(level)


def _handler(process: str, folder: Path, wanted: str) -> logging.Handler:
    if wanted == "off":
        return logging.NullHandler()
    if wanted != "stderr":
        with suppress(OSError):
            (folder / LOGS).mkdir(parents=True, exist_ok=True)
            return RotatingFileHandler(
                folder / LOGS / f"{process}.jsonl",
                maxBytes=FILE_BYTES,
                backupCount=FILES_KEPT,
                encoding="utf-8",
            )
    return logging.StreamHandler(sys.stderr)


class _Formatter(JsonFormatter):
    """Writes a record as JSON, its traceback without a path of this computer."""

    def __init__(self, process: str) -> None:
        super().__init__("%(message)s", rename_fields={"message": "event"})
        self._process = process

    def process_log_record(self, log_data: dict[str, object]) -> dict[str, object]:
        """Puts what every line has in front, and takes out what must not be told."""
        head = {key: log_data.pop(key) for key in ("at", "level", "by") if key in log_data}
        return {key: _clean(value) for key, value in (head | log_data).items()}

    def add_fields(
        self,
        log_data: dict[str, object],
        record: logging.LogRecord,
        message_dict: dict[str, object],
    ) -> None:
        """Adds when, how grave and by which process."""
        log_data["at"] = datetime.fromtimestamp(record.created, UTC).isoformat(
            timespec="milliseconds"
        )
        log_data["level"] = record.levelname.lower()
        log_data["by"] = f"{self._process}:{record.process}"
        super().add_fields(log_data, record, message_dict)

    def formatException(self, ei: Any) -> Any:  # noqa: N802
        """Where it happened, by module and line, and what; no source and no local value."""
        kind, error, trace = ei
        frames = traceback.extract_tb(trace)
        places = [f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames]
        told = error.reason if isinstance(error, HeritageError) else str(error)
        return [*places, f"{kind.__name__}: {_clean(told)}"]


def _short(filename: str) -> str:
    """A module's file below the project or the library it is of."""
    path = filename.replace("\\", "/")
    for start in (f"{ROOT.as_posix()}/", "/site-packages/", "/lib/"):
        _, found, rest = path.rpartition(start)
        if found:
            return rest
    return path.rpartition("/")[2]


_PATH = re.compile(r"(?:[A-Za-z]:)?(?:[\\/][^\\/\s'\":,;]+){2,}[\\/]?|~[\\/]\S+")


def _clean(value: object) -> object:
    """`value` with every path of this computer taken out of its texts."""
    if isinstance(value, str):
        return _PATH.sub("(a path)", value.replace(str(Path.home()), "/home/(home)"))
    return value
