"""What a cluster answers, as Parquet: one row a photo, in files of many rows.

    OUT/run.json         the checkpoint's card, the source and the options
    OUT/parts/*.parquet  the rows, in no order

A photo is done once its row is in a whole file; nothing else is kept of a run, so that what is done
cannot differ from what is there. A file torn by a crash of the whole cluster has no footer; it is
removed when the run goes on, and its photos are read again. Rows are known by `key`, the photo's
path below the source.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
from pyarrow.fs import FileSelector, FileType

from heritage.buckets import Place, patiently
from heritage.cards import ModelCard, card_from_values
from heritage.errors import StoreError, first_line
from heritage.methods import DETAIL_SCAN
from heritage.overlays import Region
from heritage.priority import PriorityRow, with_relatives
from heritage.sources import natural_key
from heritage.surveys import answers_alike

RUN, PARTS = "run.json", "parts"
READERS = 32  # of files at once; behind a URL each waits most of the time
_REGION = pa.struct(
    [(name, pa.int32()) for name in ("x", "y", "width", "height")]
    + [("share_percent", pa.float64())]
)
SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "photo": pa.string(),
        "building": pa.string(),
        "sha256": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "taken_at": pa.string(),
        "camera": pa.string(),
        "latitude": pa.float64(),
        "longitude": pa.float64(),
        "perceptual_hash": pa.string(),
        "backbone": pa.string(),
        "heat_map": pa.string(),
        "damage_percent": pa.float64(),
        "affected_percent": pa.float64(),
        "unsure": pa.bool_(),
        "evidence": pa.bool_(),
        "regions": pa.list_(_REGION),
        "warnings": pa.list_(pa.string()),
        "heat": pa.binary(),  # as `surveys.pack_heat` makes it
        "error": pa.string(),
    }
)


@dataclass(frozen=True)
class Request:
    """What is asked of a run: answers to two different ones are never mixed.

    Attributes:
        source: The folder or URL of the photos.
        detail: Whether each photo is also scanned in detail.
    """

    source: str
    card: ModelCard
    detail: bool


@dataclass(frozen=True)
class Answers:
    """The answers in one folder, here or behind a URL."""

    place: Place

    def begin(self, request: Request, *, resume: bool, restart: bool) -> None:
        """Makes the folder ready for a run, or for going on with one.

        Raises:
            StoreError: It holds another run's answers, or those of one that is not to go on; or
                it cannot be written.
        """
        with self._told():
            self.place.files.create_dir(self.parts, recursive=True)
            if restart:
                self._check_ours()
                self._clear()
            before = self._request()
            if before is None:
                self._write_request(request)
                return
            if not resume:
                raise StoreError(
                    self.place.name,
                    "an earlier triage wrote its answers here",
                    "add --resume to go on with it, or --restart to begin anew",
                )
            self._check_same(before, request)
            self._remove_torn()

    def write(self, rows: pa.Table) -> None:
        """Writes a file of rows, once `begin` has been called; the same photos again go into the
        same file.

        Raises:
            OSError: It cannot be written.
        """
        keys = "\n".join(rows["key"].to_pylist())
        path = f"{self.parts}/{hashlib.sha256(keys.encode()).hexdigest()[:32]}.parquet"
        patiently(lambda: pa.parquet.write_table(rows, path, filesystem=self.place.files))

    def keys(self) -> set[str]:
        """The photos that are done."""
        return set(self._table(["key"])["key"].to_pylist())

    def counted(self, before: dict[str, int]) -> dict[str, int]:
        """Rows by file, those of `before` not looked at again; a file being written is left out."""
        found = dict(before)
        for path in self._files():
            if path not in found:
                with (
                    suppress(OSError, pa.ArrowInvalid),
                    self.place.files.open_input_file(path) as file,
                ):
                    found[path] = pa.parquet.read_metadata(file).num_rows
        return found

    def failures(self) -> list[PriorityRow]:
        """The photos that could not be read, in natural order, with no more than their error."""
        table = self._table(["key", "photo", "error"], pa.dataset.field("error") != "")
        found = {row["key"]: row for row in table.to_pylist()}
        rows = sorted(found.values(), key=_place)
        return [PriorityRow(photo=row["photo"], error=row["error"]) for row in rows]

    def rows(self) -> list[PriorityRow]:
        """All rows in natural order, with duplicates and similar groups told; without ranks.

        They are held in memory, about 3 KB a photo, and all photos are compared with each other:
        good for some 100,000 photos. Of more, the Parquet itself is the table.
        """
        table = self._table([name for name in SCHEMA.names if name != "heat"])
        found = {row["key"]: row for row in table.to_pylist()}
        ordered = sorted(found.values(), key=_place)
        hashes = [
            (number, row["photo"], row["sha256"], row["perceptual_hash"])
            for number, row in enumerate(ordered)
            if row["sha256"]
        ]
        asked = self._request()
        points = asked is not None and asked.detail and bool(asked.card.pointing)
        rows = [_priority_row(number, row, points) for number, row in enumerate(ordered)]
        return with_relatives(rows, hashes)

    def doubled(self) -> int:
        """How many rows are there once too often."""
        table = self._table(["key"])
        return len(table) - len(set(table["key"].to_pylist()))

    @property
    def parts(self) -> str:
        """Path of the folder of Parquet files."""
        return self.place.below(PARTS)

    def _files(self) -> list[str]:
        selector = FileSelector(self.parts, allow_not_found=True)
        infos = self.place.files.get_file_info(selector)
        files = [info.path for info in infos if info.type == FileType.File]
        return sorted(path for path in files if path.endswith(".parquet"))

    def _table(self, columns: Sequence[str], filtered: Any = None) -> pa.Table:
        with self._told():
            files = self._files()
            found = pa.dataset.dataset(
                files, schema=SCHEMA, format="parquet", filesystem=self.place.files
            )
            return found.to_table(columns=list(columns), filter=filtered)

    def _request(self) -> Request | None:
        path = self.place.below(RUN)
        if not self._check_ours():
            return None
        try:
            with self.place.files.open_input_stream(path) as stream:
                values = json.loads(stream.read())
            card = card_from_values(values["card"])
            return Request(values["source"], card, values["detail"])
        except (ValueError, TypeError, LookupError) as error:
            raise StoreError(
                f"{self.place.name}/{RUN}", f"it cannot be read ({error})", "add --restart"
            ) from error

    def _check_ours(self) -> bool:
        """Whether a run began here; raises StoreError where there are only Parquet files."""
        there = self.place.files.get_file_info(self.place.below(RUN)).type != FileType.NotFound
        if not there and self._files():
            raise StoreError(
                self.place.name, "its Parquet files are not ours", "name another folder"
            )
        return there

    def _write_request(self, request: Request) -> None:
        text = json.dumps(asdict(request), indent=1, ensure_ascii=False) + "\n"
        path = self.place.below(RUN)
        with self.place.files.open_output_stream(path + ".partial") as stream:
            stream.write(text.encode())
        self.place.files.move(path + ".partial", path)

    def _check_same(self, before: Request, now: Request) -> None:
        if before.source != now.source:
            reason = f"its answers are of the photos in {before.source}"
        elif before.detail != now.detail:
            reason = f"its answers were asked for {'with' if before.detail else 'without'} --detail"
        elif not answers_alike(before.card, now.card, detail=now.detail):
            reason = "its answers are of another checkpoint, or it was trained or calibrated anew"
        else:
            return
        raise StoreError(
            self.place.name,
            reason,
            "name another folder or add --restart, so that all photos are read by the same one",
        )

    def _clear(self) -> None:
        for path in self._files():
            self.place.files.delete_file(path)
        run = self.place.below(RUN)
        if self.place.files.get_file_info(run).type == FileType.File:
            self.place.files.delete_file(run)

    def _remove_torn(self) -> None:
        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(self._remove_if_torn, self._files()))

    def _remove_if_torn(self, path: str) -> None:
        with self.place.files.open_input_file(path) as file:
            try:
                pa.parquet.read_metadata(file)
            except pa.ArrowInvalid:
                self.place.files.delete_file(path)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = first_line(error)
            raise StoreError(
                self.place.name,
                f"it cannot be read or written ({reason})",
                "check the address, your permissions and the room left",
            ) from error


class Write:
    """An actor that writes answers down; not among `actors`, as it needs no torch to start.

    Ray's own `write_parquet` starts a process for every file or so, which costs more than the
    photos in it.
    """

    def __init__(self, out: Place) -> None:
        self._answers = Answers(out)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """How many rows of answers were written."""
        self._answers.write(rows)
        return pa.table({"rows": [len(rows)]})


def _place(row: dict[str, Any]) -> tuple[list, str]:
    return natural_key(row["key"]), row["key"]


def _priority_row(number: int, row: dict[str, Any], points: bool) -> PriorityRow:
    shared = set(row) & set(PriorityRow.__dataclass_fields__)
    values = {name: row[name] for name in shared}
    values["regions"] = tuple(Region(**region) for region in row["regions"])
    values["warnings"] = tuple(row["warnings"])
    absolute = points and row["heat_map"] == DETAIL_SCAN
    return PriorityRow(**values, absolute=absolute, photo_id=number)
