"""Fuzzes the ZIP reader: `python tests/fuzz/fuzz_zips.py SECONDS`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import atheris
from harness import fuzz

with atheris.instrument_imports(include=["heritage", "zipfile"]):
    from heritage import sources
    from heritage.errors import HeritageError
    from heritage.sources import list_zip, read_source

import bad_input

FOLDER = Path(tempfile.mkdtemp())


def read(data: bytes) -> None:
    """A ZIP is a list of photos with labels of their own, each read or with one error."""
    path = FOLDER / "visit.zip"
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    sources._recent.clear()  # a file of the same size and moment is taken for the same
    try:
        listing = list_zip(path)
    except HeritageError as error:
        _check(error)
        return
    labels = [source.photo for source in listing.sources]
    assert len(labels) == len(set(labels))
    assert all(label.isprintable() and len(label) <= 300 for label in labels)
    for source in listing.sources[:50]:
        try:
            assert read_source(source)
        except HeritageError as error:
            _check(error)
    assert list(FOLDER.iterdir()) == [path]


def _check(error: HeritageError) -> None:
    assert str(error).isprintable() and len(str(error)) < 500 and str(FOLDER) not in str(error)


if __name__ == "__main__":
    fuzz(read, [case.data for case in bad_input.zips() if len(case.data) <= 70_000])
