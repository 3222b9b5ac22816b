"""Folders here and behind a URL (`s3://`, `gs://`, `file://`, …), by one set of rules.

What lies behind a URL is listed and read by the rules of `sources`: hidden files and what is no
photo are left out, archives are rows with an error, the order is natural. pyarrow's own file
systems are used where it has one, as they read in parallel and travel to other machines; fsspec's
are the rest. Credentials, regions and endpoints come from where those look for them
(`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, …).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import fsspec
from pyarrow import ArrowInvalid
from pyarrow.fs import FileSelector, FileSystem, FileType, FSSpecHandler, LocalFileSystem
from pyarrow.fs import PyFileSystem as OtherFileSystem

from heritage.errors import PhotoError, StoreError, first_line
from heritage.photos import Limits
from heritage.sources import (
    Listing,
    Source,
    as_error,
    checked_bytes,
    list_folder,
    list_names,
    read_source,
)

ADVICE = "check the address and your permissions"
NOT_THERE = ("there is no such file or folder", "check the path")
T = TypeVar("T")
TRIES = 3  # a storage that is busy says so; it is asked again before a photo counts as unreadable
WAIT_S = 1.0


@dataclass(frozen=True)
class Place:
    """A folder, here or behind a URL; it travels to other processes.

    Attributes:
        name: What the user calls it.
        files: The file system it is in.
        path: Where in that, with forward slashes and none at the end.
    """

    name: str
    files: FileSystem
    path: str

    @property
    def here(self) -> bool:
        """Whether it is an ordinary folder of this computer, or one shared with it."""
        return isinstance(self.files, LocalFileSystem)

    @property
    def identity(self) -> str:
        """What tells it from other places, however it was given; holds no secrets."""
        return self.path if self.here else f"{self.files.type_name}://{self.path}"

    def below(self, *parts: str) -> str:
        """Path of what lies in it."""
        return "/".join((self.path, *parts))


def place(given: str) -> Place:
    """The folder that `given`, a path or a URL, names; it need not be there.

    Raises:
        StoreError: It is a URL of a kind that cannot be read here.
    """
    if "://" not in given:
        return Place(given, LocalFileSystem(), Path(os.path.realpath(given)).as_posix())
    try:
        files, path = _resolved(given)
    except (ImportError, OSError, ValueError) as error:
        reason = first_line(error)
        raise StoreError(
            given,
            f"such an address cannot be opened here ({reason})",
            "name a folder, or an address like s3://BUCKET/FOLDER",
        ) from error
    found = Place(re.sub("//[^/@]*@", "//", given), files, path.rstrip("/"))  # no secrets
    return replace(found, path=os.path.realpath(found.path)) if found.here else found


def _resolved(url: str) -> tuple[FileSystem, str]:
    try:
        return FileSystem.from_uri(url)
    except ArrowInvalid:  # pyarrow knows no such kind
        other, path = fsspec.core.url_to_fs(url)
        return OtherFileSystem(FSSpecHandler(other)), path


def list_photos(place: Place) -> Listing:
    """Lists the photos in a folder and all below it; behind a URL, `Source.path` is relative.

    Raises:
        PhotoError: There is no such folder, or it cannot be opened.
    """
    if place.here:
        return list_folder(Path(place.path))
    try:
        infos = place.files.get_file_info(FileSelector(place.path, recursive=True))
    except FileNotFoundError as error:
        raise PhotoError(place.name, *NOT_THERE) from error
    except OSError as error:
        raise PhotoError(
            place.name, f"it cannot be listed ({first_line(error)})", ADVICE
        ) from error
    names = (info.path for info in infos if info.type == FileType.File)
    below = (name.removeprefix(place.path).lstrip("/") for name in names)
    return list_names(below, place.path.rpartition("/")[2])


def key_of(source: Source, place: Place) -> str:
    """What a photo is known by in the answers: its path below the place, as valid text."""
    key = os.path.relpath(source.path, place.path) if place.here else source.path
    return Path(key).as_posix().encode(errors="backslashreplace").decode()


def read_photo(source: Source, place: Place, *, limits: Limits = Limits()) -> bytes:
    """Reads the bytes of one photo, never more than `limits.max_bytes` of them.

    Args:
        source: From `list_photos`, or one made of its key: `path` may be relative to the place.

    Raises:
        PhotoError: Whatever keeps the photo from being read.
    """
    if place.here:
        path = str(Path(place.path, source.path))
        return read_source(replace(source, path=path), limits=limits)
    if source.error:
        raise as_error(source)
    data = _fetch(place, source, limits.max_bytes + 1)
    return checked_bytes(source, data, len(data), limits)


def _fetch(place: Place, source: Source, most_bytes: int) -> bytes:
    def read() -> bytes:
        with place.files.open_input_stream(place.below(source.path)) as stream:
            return stream.read(most_bytes)

    try:
        return patiently(read)
    except FileNotFoundError as error:
        raise PhotoError(source.photo, *NOT_THERE) from error
    except OSError as error:
        words = f"it cannot be read ({first_line(error)})"
        raise PhotoError(source.photo, words, ADVICE) from error


def patiently(act: Callable[[], T]) -> T:
    """Does something with a storage, again where it fails; the last failure is raised.

    Raises:
        OSError: What it met with in the last of `TRIES`; at once where nothing is there, or it may
            not be touched.
    """
    for tried in range(1, TRIES):
        try:
            return act()
        except (FileNotFoundError, PermissionError):
            raise
        except OSError:
            time.sleep(tried * WAIT_S)
    return act()
