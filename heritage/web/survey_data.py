"""Surveys as the pages read them: one store for all sessions, rows kept until they change."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import streamlit as st

from heritage.access import GuardedStore, Visitor, note
from heritage.bands import BANDS
from heritage.cards import write_atomically
from heritage.errors import StoreError
from heritage.priority import PriorityRow, once, ranked
from heritage.sources import photo_root
from heritage.store.database import LABELS
from heritage.surveys import Run, Survey, SurveyStore
from heritage.web.access import visitor
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


def handover(survey: Survey, run: Run) -> Handover:
    """The run on its way out, with the rows as they are now."""
    from heritage.handover import Handover

    return Handover(store(), survey, run, rows_of(survey, run), photo_root())


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

    Raises:
        StoreError: It cannot be written.
    """
    from heritage.handover import training_manifest

    latest = [runs[0].id for survey in store().surveys() if (runs := store().runs(survey.id))]
    path = store().folder / LABELS
    try:
        write_atomically(path, training_manifest(store(), latest).encode())
    except OSError as error:
        raise StoreError(
            LABELS, f"it cannot be written ({error.strerror})", "make room on the server"
        ) from error
    return str(path)
