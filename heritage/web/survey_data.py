"""Surveys as the pages read them: one store for all sessions, rows kept until they change."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from heritage.access import GuardedStore, Role, Visitor, note
from heritage.bands import BANDS
from heritage.cards import write_atomically
from heritage.errors import DatasetError, StoreError
from heritage.priority import PriorityRow, once, ranked
from heritage.sources import photo_root
from heritage.store.database import LABELS
from heritage.surveys import IDLE_S, Run, Survey, SurveyStore
from heritage.web.access import visitor
from heritage.words import GONE, NO_MEMORY, NO_ROOM
from heritage.worker import ensure_worker

if TYPE_CHECKING:
    from heritage.handover import Handover
    from heritage.inspection import Inspection
    from heritage.photos import Photo

KEPT_FOR = "1h"
PICTURE_SIDE_PX = 1280


def store() -> GuardedStore:
    """The store of all surveys, as this visitor may use it.

    Raises:
        StoreError: The database cannot be opened.
    """
    return GuardedStore(_store(), visitor())


@st.cache_resource(show_spinner=False)
def _store() -> SurveyStore:
    return SurveyStore()


def undo_creation(survey: Survey) -> None:
    """Removes a survey that could not be filled, whoever began it."""
    _store().delete_survey(survey.id)


def note_export(who: Visitor, survey: Survey, run: Run, kind: str) -> None:
    """Writes down that somebody took a survey away.

    Raises:
        StoreError: It cannot be written.
    """
    note(_store().folder, who, "export", kind=kind, survey=survey.name, run=run.id)


def set_going() -> None:
    """Sees to it that somebody works on what waits, also after the server was restarted.

    Raises:
        StoreError: The worker cannot be started.
    """
    ensure_worker(_store())


def rows_of(survey: Survey, run: Run) -> tuple[PriorityRow, ...]:
    """The ranked photos of a run; read anew only when something changed."""
    return _rows(run.id, store().state(survey.id, run.id))


@st.cache_resource(max_entries=16, ttl=KEPT_FOR, show_spinner=False)
def _rows(run_id: int, state: tuple[int, ...]) -> tuple[PriorityRow, ...]:
    run = store().run(run_id)
    return tuple(ranked(store().rows(run_id), store().survey(run.survey_id).thresholds))


def band_counts(survey: Survey, run: Run) -> dict[str, int]:
    """How many photos of a run are in each band, copies once; counted when something changed."""
    return _band_counts(run.id, store().state(survey.id, run.id))


@st.cache_data(max_entries=1000, ttl=KEPT_FOR, show_spinner=False)
def _band_counts(run_id: int, state: tuple[int, ...]) -> dict[str, int]:
    found = Counter(row.band for row in once(_rows(run_id, state)))
    return {name: found[name] for name in BANDS}


def handover(run_id: int) -> Handover:
    """A run on its way out, with its survey and rows as they are now, not when a page was drawn.

    Raises:
        StoreError: It is gone.
    """
    from heritage.handover import Handover

    run = store().run(run_id)
    survey = store().survey(run.survey_id)
    return Handover(store(), survey, run, rows_of(survey, run), photo_root())


def labelled_bytes(survey: Survey, run: Run) -> int:
    """How large the photos with a verdict to learn from are together; asked when one changed."""
    return _labelled_bytes(run.id, store().state(survey.id, run.id))


@st.cache_data(max_entries=100, ttl=KEPT_FOR, show_spinner=False)
def _labelled_bytes(run_id: int, state: tuple[int, ...]) -> int:
    from heritage.handover import training_bytes

    return training_bytes(handover(run_id))


def run_titles(runs: Iterable[Run]) -> dict[int, str]:
    """Runs by who read and when; runs of one reader within a minute are numbered, the first first.

    No two are alike: Streamlit tells the options of a select box by their texts.

    Returns:
        Run to title, in the order given.
    """
    runs = list(runs)
    titles = {run.id: _reader_and_time(run) for run in runs}
    alike = Counter(titles.values())
    given: Counter[str] = Counter()
    for number in sorted(titles):
        title = titles[number]
        given[title] += 1
        if alike[title] > 1:
            titles[number] = f"{title}, no. {given[title]}"
    return titles


def _reader_and_time(run: Run) -> str:
    when = run.created_at
    return f"{run.reader}, {when.day} {when:%B %Y, %H:%M} UTC"


def worth_another_try(rows: Sequence[PriorityRow]) -> int:
    """How many photos could not be read for a reason that may be gone by now.

    What was kept stays as it is; memory, or what could not be had, may be there.
    """
    return sum(
        bool(row.error)
        and not row.lasting
        and (not row.sha256 or row.error.startswith((NO_MEMORY, NO_ROOM, GONE)))
        for row in rows
    )


def inspection_of(run_id: int, row: PriorityRow) -> Inspection | None:
    """What the run found in a photo, without running the network."""
    from heritage.handover import stored_inspection

    return stored_inspection(store(), run_id, row)


def photo_of(row: PriorityRow) -> Photo:
    """The photo of a row.

    Raises:
        HeritageError: It is gone or cannot be read.
    """
    from heritage.handover import stored_photo

    return stored_photo(store(), row, photo_root())


def thumbnail(run_id: int, row: PriorityRow, *, heat: bool) -> bytes | None:
    """A small JPEG of a photo, under its heat where asked for; None where there is none."""
    small = store().files.thumbnail(row.sha256) if row.sha256 else None
    if small is None or not (heat and row.evidence):
        return small
    return _heated(row.sha256, run_id, row.photo_id, small)


@st.cache_data(max_entries=2000, ttl=KEPT_FOR, show_spinner=False)
def _heated(sha256: str, run_id: int, _photo_id: int, _small: bytes) -> bytes:
    from heritage.exports import heated_thumbnail

    heat = store().heat(run_id, _photo_id)
    return _small if heat is None else heated_thumbnail(_small, *heat)


@st.cache_data(max_entries=32, ttl=KEPT_FOR, show_spinner=False)
def picture(sha256: str, run_id: int, heat: bool, _row: PriorityRow) -> bytes:
    """The photo of a row as a JPEG for the page, under its heat and boxes where asked for.

    Raises:
        HeritageError: It is gone or cannot be read.
    """
    from heritage.exports import encode_jpeg
    from heritage.handover import overlay_jpeg

    photo = photo_of(_row)
    inspection = inspection_of(run_id, _row) if heat else None
    if inspection is None:
        return encode_jpeg(photo.pixels(long_side_px=PICTURE_SIDE_PX))
    return overlay_jpeg(photo, inspection, PICTURE_SIDE_PX)


def labels_manifest() -> str:
    """Writes the manifest of every verdict in every survey; its path.

    Each state of the verdicts has a file of its own, as a training that is stopped goes on from the
    one it began with. Those of days ago that no training names are removed.

    Raises:
        AccessError: Only admins train.
        DatasetError: There is nothing to learn from.
        StoreError: It cannot be written.
    """
    visitor().require(Role.ADMIN, "train")
    from heritage.handover import training_manifest
    from heritage.training.jobs import list_jobs

    latest = [runs[0].id for survey in store().surveys() if (runs := store().runs(survey.id))]
    text = training_manifest(store(), latest)
    if text.count("\n") < 2:
        raise DatasetError(
            "the verdicts",
            "none of damaged or sound is on a photo that was read and is kept",
            "give some under Surveys",
        )
    data = text.encode()
    path = store().folder / LABELS.replace("*", f"-{hashlib.sha256(data).hexdigest()[:12]}")
    named = {Path(job.data) for job in list_jobs()} | {path}
    try:
        for old in store().folder.glob(LABELS):
            if old not in named and time.time() - old.stat().st_mtime > IDLE_S:
                old.unlink()
        write_atomically(path, data)
    except OSError as error:
        raise StoreError(
            path.name, f"it cannot be written ({error.strerror})", "make room on the server"
        ) from error
    return str(path)
