"""Photos kept by the hash of their bytes, and small pictures of them."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from uuid import uuid4

from heritage.cards import write_atomically
from heritage.errors import PhotoError
from heritage.words import GONE

SUFFIX = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "TIFF": "tif", "BMP": "bmp", "HEIF": "heic"}
SPARE_BYTES = 64 * 2**20  # left on the disk, so that it can still be written down that it is full
PARTIAL = ".partial"  # of a file until it is whole
UNKNOWN_SUFFIX = "bin"  # kept all the same: the user gave it, and may ask why it was not read


class PhotoFiles:
    """A folder of photos by content: the same bytes are there once, however often they are given.

    Names are made of the hash and never of what the user called the file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha256: str, suffix: str) -> Path:
        """Where the photo with this hash is or would be."""
        if not re.fullmatch(r"[0-9a-f]{64}", sha256) or not suffix.isalnum():
            raise ValueError("this is no hash of a kept photo")
        return self.folder / "photos" / sha256[:2] / f"{sha256}.{suffix}"

    def has_room(self, size: int = 0) -> bool:
        """Whether the disk takes a file of `size` bytes and stays usable."""
        if not self.folder.exists():
            return True
        return shutil.disk_usage(self.folder).free >= size + SPARE_BYTES

    def keep(self, data: bytes, sha256: str, suffix: str) -> None:
        """Writes the photo unless it is there; whole or not at all.

        Raises:
            OSError: The disk is full or cannot be written.
        """
        self._write(self.path(sha256, suffix), data)

    def read(self, name: str, sha256: str, suffix: str) -> bytes:
        """The bytes of a kept photo.

        Raises:
            PhotoError: It is gone or cannot be read.
        """
        try:
            return self.path(sha256, suffix).read_bytes()
        except OSError as error:
            raise PhotoError(name, GONE, "add it to the survey again") from error

    def keep_thumbnail(self, sha256: str, jpeg: bytes) -> None:
        """Writes the small picture of a photo unless it is there."""
        self._write(self._thumbnail_path(sha256), jpeg)

    def thumbnail(self, sha256: str) -> bytes | None:
        """JPEG bytes of the small picture; None where there is none."""
        with suppress(OSError, ValueError):
            return self._thumbnail_path(sha256).read_bytes()
        return None

    def forget(self, sha256: str, unless: Callable[[], bool] = lambda: False) -> None:
        """Removes the photo and its small picture.

        Args:
            unless: Asked while they are out of the way, so that who comes for the photo now keeps
                it anew: whether they are to be put back.
        """
        kept = self.folder.glob(f"photos/{sha256[:2]}/{sha256}.*")
        aside: dict[Path, Path] = {}
        wanted = True
        try:
            for path in (*kept, self._thumbnail_path(sha256)):
                if path.suffix != PARTIAL:  # another is writing it
                    with suppress(FileNotFoundError):
                        aside[path] = path.rename(_partial(path))
            wanted = unless()
        finally:
            for path, away in aside.items():
                if wanted:
                    away.replace(path)
                else:
                    away.unlink(missing_ok=True)

    def idle(self, idle_s: float) -> list[tuple[str, Path]]:
        """Hash and path of every file that nobody has written to for `idle_s` seconds."""
        latest = time.time() - idle_s
        found = []
        for path in chain(self.folder.glob("photos/*/*"), self.folder.glob("thumbnails/*/*")):
            with suppress(OSError):
                if path.stat().st_mtime < latest:
                    found.append((path.name.partition(".")[0], path))
        return found

    def idle_incoming(self, idle_s: float) -> list[tuple[int, Path]]:
        """Survey and path of every archive put aside that nobody has written to for so long."""
        latest = time.time() - idle_s
        found = []
        for path in self.folder.glob("incoming/*/*"):
            with suppress(OSError, ValueError):
                if path.stat().st_mtime < latest:
                    found.append((int(path.parent.name), path))
        return found

    def incoming(self, survey_id: int, size: int) -> Path:
        """A new path for an archive of `size` bytes whose photos are being taken into a survey.

        Raises:
            OSError: The disk is full or cannot be written.
        """
        self._need_room(size)
        folder = self._incoming_folder(survey_id)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{uuid4().hex}.zip"

    def is_incoming(self, path: str) -> bool:
        """Whether a path is that of an archive put aside here."""
        return Path(path).is_relative_to(self.folder / "incoming")

    def drop_incoming(self, survey_id: int) -> None:
        """Removes the archives of a survey."""
        shutil.rmtree(self._incoming_folder(survey_id), ignore_errors=True)

    def _incoming_folder(self, survey_id: int) -> Path:
        return self.folder / "incoming" / str(survey_id)

    def _thumbnail_path(self, sha256: str) -> Path:
        return self.folder / "thumbnails" / sha256[:2] / f"{sha256}.jpg"

    def _need_room(self, size: int) -> None:
        if not self.has_room(size):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _write(self, path: Path, data: bytes) -> None:
        if path.exists():
            return
        self._need_room(len(data))
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_atomically(path, data, _partial(path))
        except PermissionError:  # of two who write it at once, Windows may refuse one
            if not path.exists():
                raise


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.{uuid4().hex}{PARTIAL}")
