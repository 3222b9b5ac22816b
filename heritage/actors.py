"""What runs on the nodes of a cluster: actors that decode photos, inspect them, or do both.

Photos go through the network one by one, never in batches that would change an answer in its last
digit: the rows are those of the local engine.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from pyarrow.fs import FileType
from ray.data.extensions import ArrowPythonObjectArray

from heritage.answers import SCHEMA
from heritage.buckets import Place, read_photo
from heritage.duplicates import perceptual_hash
from heritage.errors import CheckpointError, HeritageError, PhotoError
from heritage.inspection import Inspector
from heritage.photos import Photo, open_photo
from heritage.sources import Source
from heritage.surveys import pack_heat
from heritage.triage import (
    GIVEN_UP,
    MOST_BROKEN,
    MOST_TRIES,
    failed_in_a_row,
    failure,
    finding_of,
    share_cores,
    thumbnail,
    told_by,
    unforeseen,
)

TASKS_AHEAD = 2  # that an actor is given at a time
CAREFUL_TASKS = 2 * TASKS_AHEAD  # after a restart: what brought the process down is among them
DECODED = 16  # photos that an actor which only decodes holds at a time, about 1 MB each
IN_HAND = "in-hand"


@dataclass(frozen=True)
class Work:
    """What an actor must know.

    Attributes:
        files: Reference to the checkpoint's files by name, in Ray's object store.
        side_px: Short side that photos are decoded to.
    """

    photos: Place
    out: Place
    checkpoint: str
    files: Any
    side_px: int
    detail: bool

    def inspector(self) -> Inspector:
        """The checkpoint, loaded; its hash is checked as ever."""
        with tempfile.TemporaryDirectory() as folder:
            for name, data in ray.get(self.files).items():
                Path(folder, name).write_bytes(data)
            return Inspector(self.checkpoint, folder=Path(folder))


@dataclass(frozen=True)
class Read:
    """A photo on its way: its row so far, and unless that tells an error, what to inspect."""

    row: dict[str, Any]
    photo: Photo | None = None
    pixels: np.ndarray | None = None


class Decode:
    """Reads and decodes photos; one that brings the process down again and again is given up."""

    def __init__(self, work: Work, *, restarted: bool | None = None) -> None:
        if restarted is None:
            restarted = ray.get_runtime_context().was_current_actor_reconstructed
        self._work = work
        self._careful = CAREFUL_TASKS if restarted else 0

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """One `Read` for each of the photos, a few at a time."""
        reads = self.each(batch)
        while some := list(islice(reads, DECODED)):
            yield pa.table({"read": ArrowPythonObjectArray.from_objects(some)})

    def each(self, batch: pa.Table) -> Iterator[Read]:
        """Reads photo by photo, the next when whoever asks is through with the last."""
        careful, self._careful = self._careful > 0, max(0, self._careful - 1)
        for values in batch.to_pylist():
            source = Source(
                values["photo"], values["building"], values["key"], error=values["error"]
            )
            if not careful:
                yield self._read(source)
                continue
            mark = Mark(self._work.out, source.path)
            if mark.set() > MOST_TRIES:
                yield Read(_row(source, error=GIVEN_UP))
            else:
                yield self._read(source)
            mark.remove()

    def _read(self, source: Source) -> Read:
        row = _row(source)
        try:
            data = read_photo(source, self._work.photos)
            row["sha256"] = hashlib.sha256(data).hexdigest()
            photo = open_photo(data, source.photo)
            pixels = photo.pixels(short_side_px=self._work.side_px)
        except PhotoError as error:
            return Read(row | {"error": failure(error).error})
        row |= told_by(photo)
        row["perceptual_hash"] = f"{perceptual_hash(thumbnail(pixels)):016x}"
        # Only a detail scan needs more than the pixels from here on.
        return Read(row, photo if self._work.detail else replace(photo, data=b""), pixels)


def _row(source: Source, error: str = "") -> dict[str, Any]:
    return dict.fromkeys(SCHEMA.names) | {
        "key": source.path,
        "photo": source.photo,
        "building": source.building,
        "sha256": "",
        "perceptual_hash": "",
        "backbone": "",
        "heat_map": "",
        "unsure": False,
        "evidence": False,
        "regions": [],
        "warnings": [],
        "error": error,
    }


class Mark:
    """Tells the next process, on whatever node, which photo the last one had in hand."""

    def __init__(self, out: Place, key: str) -> None:
        self._files, self._folder = out.files, out.below(IN_HAND)
        self._path = f"{self._folder}/{hashlib.sha256(key.encode()).hexdigest()}"

    @staticmethod
    def remove_all(out: Place) -> None:
        """Forgets the marks of runs that were killed."""
        folder = out.below(IN_HAND)
        if out.files.get_file_info(folder).type == FileType.Directory:
            out.files.delete_dir(folder)

    def set(self) -> int:
        """Returns how often this photo has now been taken in hand."""
        tries = 0
        with (
            suppress(FileNotFoundError, ValueError),
            self._files.open_input_stream(self._path) as file,
        ):
            tries = int(file.read())
        self._files.create_dir(self._folder)
        with self._files.open_output_stream(self._path) as file:
            file.write(str(tries + 1).encode())
        return tries + 1

    def remove(self) -> None:
        """Takes it back."""
        if self._files.get_file_info(self._path).type == FileType.File:
            self._files.delete_file(self._path)


class Answer:
    """Inspects what was decoded."""

    def __init__(self, work: Work) -> None:
        share_cores()
        self._detail = work.detail
        self._inspector = work.inspector()
        self._broken = 0  # photos in a row that ended in what was not foreseen

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The rows of what `Decode` made."""
        return self.table(batch["read"].to_pylist())

    def table(self, reads: Iterable[Read]) -> pa.Table:
        """The rows, as they are written."""
        return pa.Table.from_pylist([self._row(read) for read in reads], schema=SCHEMA)

    def _row(self, read: Read) -> dict[str, Any]:
        if read.photo is None or read.pixels is None:
            return read.row
        try:
            whole = self._inspector.answer(read.photo, read.pixels)
            finding = finding_of(self._inspector, read.photo, whole, detail=self._detail)
        except CheckpointError as error:  # if it does so at every photo, the run ends
            return read.row | {"error": self._one_photos_fault(error)}
        except (HeritageError, OSError):
            raise
        except Exception as error:
            return read.row | {"error": self._one_photos_fault(error)}
        self._broken = 0
        assert finding.heat is not None
        return read.row | {
            "backbone": self._inspector.card.name,
            "heat_map": finding.method,
            "damage_percent": finding.damage_percent,
            "affected_percent": finding.affected_percent,
            "unsure": finding.unsure,
            "evidence": finding.evidence,
            "regions": [asdict(region) for region in finding.regions],
            "warnings": list(finding.warnings),
            "heat": pack_heat(finding.heat, finding.absolute),
        }

    def _one_photos_fault(self, error: Exception) -> str:
        """What is told of the photo, unless it is the fault of the engine."""
        words = unforeseen(error)
        self._broken += 1
        if self._broken == MOST_BROKEN:
            # An error of ours would not come through to the driver in one piece.
            raise RuntimeError(f"{self._inspector.card.name} {failed_in_a_row(words)}") from error
        return words


class Inspect:
    """Decodes and inspects, in one process."""

    def __init__(self, work: Work) -> None:
        self._decode, self._answer = Decode(work), Answer(work)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The rows of the photos."""
        return self._answer.table(self._decode.each(batch))
