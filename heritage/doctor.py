"""`python -m heritage doctor`: can this installation do its work, and what to do where not?"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pillow_heif
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from PIL import Image

from heritage.cards import weights_dir
from heritage.errors import HeritageError, StoreError
from heritage.photos import open_photo
from heritage.store.database import connect, surveys_dir
from heritage.store.files import PARTIAL
from heritage.surveys import SurveyStore

ROOT = Path(__file__).resolve().parent.parent
PYTHON = SpecifierSet(">=3.11,<3.15,!=3.14.1")  # what torch and torchvision are built for
LEAST_FREE_GB = 2.0
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "HEIF")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: What it is.
        good: Whether it is in order.
        words: What was found.
        advice: What to do, where it is not in order.
    """

    what: str
    good: bool
    words: str
    advice: str = ""


def examine() -> Iterator[Finding]:
    """Looks at everything, one thing after the other; never raises."""
    checks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("Python", _python),
        ("libraries", _libraries),
        ("decoders", _decoders),
        ("weights", _weights),
        ("database", _database),
        ("disk", _disk),
        ("leftovers", _leftovers),
    )
    for what, check in checks:
        try:
            yield from check()
        except Exception as error:
            yield Finding(what, False, f"could not be looked at ({error!r})", "report this")


def _python() -> Iterator[Finding]:
    told = ".".join(map(str, sys.version_info[:3]))
    good = PYTHON.contains(told)
    advice = "" if good else "install a Python that README names, and the libraries for it"
    yield Finding("Python", good, told, advice)


def _libraries() -> Iterator[Finding]:
    wrong = []
    wanted = [Requirement(line) for line in _requirement_lines()]
    for requirement in wanted:
        try:
            there = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(there, prereleases=True):
            wrong.append(f"{requirement.name} is {there}, wanted {requirement.specifier}")
    advice = "python -m pip install -r requirements.txt" if wrong else ""
    words = "; ".join(wrong) or f"{len(wanted)} as required"
    yield Finding("libraries", not wrong, words, advice)


def _requirement_lines() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


def _decoders() -> Iterator[Finding]:
    """Writes a small photo in each format and reads it back through the only way in."""
    broken = []
    pixels = np.full((64, 80, 3), (180, 90, 60), np.uint8)
    for name in FORMATS:
        try:
            buffer = io.BytesIO()
            picture = Image.fromarray(pixels)
            if name == "HEIF":
                pillow_heif.from_pillow(picture).save(buffer)
            else:
                picture.save(buffer, name)
            back = open_photo(buffer.getvalue(), f"test.{name.lower()}").pixels()
            if back.shape != pixels.shape or np.abs(back.astype(int) - pixels).max() > 24:
                broken.append(f"{name} comes back changed")
        except (HeritageError, OSError, KeyError) as error:
            broken.append(f"{name} ({error})")
    words = "; ".join(broken) or ", ".join(FORMATS)
    advice = "python -m pip install --force-reinstall pillow pillow-heif" if broken else ""
    yield Finding("decoders", not broken, words, advice)


def _weights() -> Iterator[Finding]:
    from heritage.checkpoints import load_checkpoint

    folder = weights_dir()
    names = sorted(path.stem for path in folder.glob("*.json"))
    if not names:
        advice = "restore weights/ or train one: python -m heritage train DATA"
        yield Finding("weights", False, f"no checkpoint in {folder.name}/", advice)
    for name in names:
        try:
            card = load_checkpoint(name, folder).card
        except HeritageError as error:
            yield Finding("weights", False, _told(error), error.advice)
        else:
            head = ", with a head that points" if card.pointing else ""
            yield Finding("weights", True, f"{name}{head}")


def _database() -> Iterator[Finding]:
    from sqlalchemy import text

    try:
        engine = connect()
        with engine.begin() as connection:
            connection.execute(text("UPDATE surveys SET edits = edits WHERE id = -1"))
            surveys = connection.execute(text("SELECT count(*) FROM surveys")).scalar()
        engine.dispose()
    except HeritageError as error:
        yield Finding("database", False, _told(error), error.advice)
        return
    yield Finding("database", True, f"{engine.dialect.name}, {surveys} surveys, can be written")


def _disk() -> Iterator[Finding]:
    folder = surveys_dir()
    folder.mkdir(parents=True, exist_ok=True)
    for what, place in (("surveys", folder), ("temporary files", Path(tempfile.gettempdir()))):
        free_gb = shutil.disk_usage(place).free / 1e9
        good = free_gb >= LEAST_FREE_GB and os.access(place, os.W_OK)
        words = f"{free_gb:.1f} GB free for {what}"
        advice = "" if good else "make room, or name another folder with HERITAGE_SURVEYS"
        yield Finding("disk", good, words, advice)


def _leftovers() -> Iterator[Finding]:
    try:
        with closing(SurveyStore()) as store:
            paths = store.leftovers()
    except HeritageError:
        return  # told of the database
    mb = sum(path.stat().st_size for path in paths) / 1e6
    words = (
        f"{len(paths)} files ({mb:.1f} MB) that no survey of this database has; unless another "
        "database uses the folder: python -m heritage doctor --remove-leftovers"
    )
    yield Finding("leftovers", True, words if paths else "none")


def remove_leftovers() -> int:
    """Removes what processes killed at the wrong moment left; returns how many files.

    Raises:
        StoreError: The database cannot be opened, or is not the one that the folder belongs to.
    """
    with closing(SurveyStore()) as store:
        paths = store.leftovers()
        there = (*store.files.idle(-1), *store.files.idle_incoming(-1))  # the newest, too
        whole = {path for _, path in there if path.suffix != PARTIAL}
        if whole and whole <= set(store.leftovers(idle_s=-1)):
            raise StoreError(
                store.engine.dialect.name,
                f"this database knows none of the {len(whole)} files in {store.folder}",
                "set HERITAGE_DATABASE_URL as the app has it; if they really are nobody's, remove "
                "them from the folders photos, thumbnails and incoming there",
            )
    for path in paths:
        path.unlink(missing_ok=True)
    return len(paths)


def _told(error: HeritageError) -> str:
    return f"{error.subject}: {error.reason}"
