"""A new triage: what photos, called what, read by which backbone."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import streamlit as st

from heritage.access import Role
from heritage.errors import PhotoError, StoreError
from heritage.exif import FIRST_PHOTO_YEAR
from heritage.figures import counted, duration_text
from heritage.photos import SUFFIXES, Limits, open_photo
from heritage.sources import (
    Source,
    below_root,
    is_hidden,
    list_folder,
    list_zip,
    natural_key,
    photo_root,
    too_large,
    upload_label,
)
from heritage.store.files import SUFFIX, UNKNOWN_SUFFIX
from heritage.surveys import Survey, SurveyStore
from heritage.web.access import may
from heritage.web.frame import errors_in_words
from heritage.web.inspection_view import say_how_it_scans
from heritage.web.models import (
    choose_checkpoint,
    scan_seconds,
    show_how_to_train,
)
from heritage.web.survey_data import (
    rows_of,
    set_going,
    store,
    undo_creation,
    worth_another_try,
)
from heritage.web.uploads import let_go

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

    from heritage.cards import ModelCard

TYPICAL_PX = (4000, 3000)
FILES, FOLDER, SERVER = "Photos or a ZIP", "A folder", "A folder on the server"


def new_triage() -> None:
    """The form; once it is sent, the survey opens and the work begins in the background."""
    st.title("Triage a photo set")
    if not may(Role.INSPECTOR):
        st.info(
            "You may look at surveys and take them away, but not begin one. That needs the role "
            "inspector.",
            icon=":material/visibility:",
        )
        return
    st.markdown(
        "Give all photos of a site visit at once. They become a table that says what to look at "
        "first; your own verdicts correct it, and it leaves as a table or a report."
    )
    ways = [FILES, FOLDER, *([SERVER] if photo_root() else [])]
    way = st.segmented_control(
        "Where the photos are", ways, default=FILES, required=True, label_visibility="collapsed"
    )
    form = st.session_state.setdefault("triage_form", 0)
    given: Sequence[Any] = ()
    folder = ""
    with st.container(key="dropzone"):
        if way == FILES:
            given = st.file_uploader(
                "Drop photos here, or one ZIP of them",
                type=[*SUFFIXES, "zip"],
                accept_multiple_files=True,
                key=f"triage_files_{form}",
            )
        elif way == FOLDER:
            given = st.file_uploader(
                "Choose a folder; its subfolders become buildings",
                type=list(SUFFIXES),
                accept_multiple_files="directory",
                key=f"triage_folder_{form}",
            )
        else:
            folder = st.text_input(
                "Folder below the photos of this server",
                placeholder="2026/old town",
                key="triage_server_folder",
                help="Photos are copied into the survey; the folder stays as it is.",
            ).strip()
    if way != SERVER:
        st.caption(
            "Photos are copied to the computer this app runs on and stay there until you delete "
            "the survey. For more than some 500 photos give a ZIP of up to 2 GB, or use "
            + (
                "a folder on the server."
                if photo_root()
                else "the command `triage`, which takes any number."
            )
        )
    _form_below(given, folder, form)


def _form_below(given: Sequence[UploadedFile], folder: str, form: int) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input(
            "Name of the survey",
            placeholder=_suggested(given, folder),
            key=f"triage_name_{form}",
            width=300,
        )
        site = st.text_input("Site", key=f"triage_site_{form}", width=260, help="Town or address.")
        day = visit_day(None, key=f"triage_day_{form}", width=180)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        card = choose_checkpoint()
        detail = detail_switch(card)
        start = st.button(
            "Start",
            type="primary",
            icon=":material/play_arrow:",
            disabled=card is None or not (given or folder),
            help=None if given or folder else "Give photos first.",
        )
    if card is None:
        show_how_to_train(st.session_state.get("checkpoint"))
        return
    say_how_it_scans(card)
    if detail:
        show_budget(card, _how_many(given))
    if start:
        with errors_in_words():
            survey = _enter(name.strip() or _free_name(given, folder), site, day, given, folder)
            store().run_with(survey.id, card, detail=detail)
            set_going()
            let_go(given)
            st.session_state["triage_form"] = form + 1
            st.query_params["survey"] = str(survey.id)
            st.rerun()


def visit_day(
    day: date | None, *, key: str, width: int | Literal["stretch"] = "stretch"
) -> date | None:
    """Asks when the photos were taken: any day since there are photos, `day` at first."""
    known = [day] if day else []
    tomorrow = date.today() + timedelta(days=1)  # where the visitor is, it may be that by now
    return st.date_input(
        "Date of the visit",
        day,
        min_value=min([date(FIRST_PHOTO_YEAR, 1, 1), *known]),
        max_value=max([tomorrow, *known]),
        key=key,
        width=width,
        format="YYYY-MM-DD",
    )


def detail_switch(card: ModelCard | None) -> bool:
    """Whether photos are to be scanned in detail."""
    wanted = st.toggle(
        "Detail scan",
        key="triage_detail",
        persist_state="session",
        disabled=card is None,
        help="Reads each photo at full size, tile by tile, so that fine cracks show in the heat "
        "map. Damage % and the order of the table stay those of the whole photos.",
    )
    return wanted and card is not None


def show_budget(card: ModelCard, photos: int) -> None:
    """How long a detail scan of so many photos would take here."""
    with errors_in_words():
        one_s = scan_seconds(card, *TYPICAL_PX)
        whole = f", so some {duration_text(one_s * photos)} for {photos:,}" if photos > 1 else ""
        st.caption(
            f"About {duration_text(one_s)} for a photo of 12 megapixels on this computer{whole}."
        )


def _how_many(given: Sequence[UploadedFile]) -> int:
    """Photos that were dropped; those in an archive are not counted yet."""
    return sum(
        not upload.name.lower().endswith(".zip") for upload in given if not is_hidden(upload.name)
    )


def _enter(
    name: str, site: str, day: date | None, given: Sequence[UploadedFile], folder: str
) -> Survey:
    """Makes the survey and enters its photos; nothing stays where that fails.

    Raises:
        HeritageError: There is no photo, or it cannot be kept.
    """
    kept = store()
    survey = kept.create_survey(name, site=site, visited_on=day)
    try:
        uploaded = partial(_from_uploads, given=given)
        enter = partial(_from_server, folder=folder) if folder else uploaded
        if not enter(kept, survey):
            raise PhotoError(folder or name, "there is no photo in it", "choose other photos")
    except BaseException:
        undo_creation(survey)
        raise
    return kept.survey(survey.id)


def _from_server(kept: SurveyStore, survey: Survey, folder: str) -> int:
    root = photo_root()
    if root is None:
        raise PhotoError(folder, "this server has no folder of photos", "upload the photos")
    return kept.add_photos(survey.id, list_folder(below_root(folder, root), root=root).sources)


def add_photos(survey: Survey) -> None:
    """Ways to add photos to a survey that is there; they are read at once by its last run."""
    form = st.session_state.setdefault("added_photos", 0)
    given = st.file_uploader(
        "Drop photos here, or a ZIP of them",
        type=[*SUFFIXES, "zip"],
        accept_multiple_files=True,
        key=f"add_{survey.id}_{form}",
    )
    if st.button("Add them", icon=":material/add:", disabled=not given):
        with errors_in_words():
            before = store().survey(survey.id).photos
            try:
                _from_uploads(store(), survey, given)
            finally:  # what came before a file that is refused is there, and is read
                added = store().survey(survey.id).photos - before
                again = _read_added(survey, added)
                if added:
                    st.toast(f"{counted(added)} added", icon=":material/check_circle:")
                if again:
                    st.toast(f"{counted(again)} to be read again", icon=":material/refresh:")
            if not (added or again):
                st.info("Nothing new in these files.", icon=":material/info:")
                return
            let_go(given)
            st.session_state["added_photos"] = form + 1
            st.rerun()


def _read_added(survey: Survey, added: int) -> int:
    """Has the last run read what is new, and try again what may be there now; how many of these."""
    again = 0
    for run in store().runs(survey.id)[:1]:
        again = worth_another_try(rows_of(survey, run))
        if again:
            store().retry_failed(run.id)
        elif added:
            store().resume(run.id)
    set_going()
    return again


def _from_uploads(kept: SurveyStore, survey: Survey, given: Sequence[UploadedFile]) -> int:
    added = 0
    seen = [upload for upload in given if not is_hidden(upload.name)]
    if len(seen) < len(given):
        st.toast(f"{counted(len(given) - len(seen), 'hidden file')} left out")
    given = sorted(seen, key=lambda upload: natural_key(upload.name))
    bar = st.progress(0.0, f"Keeping {counted(len(given), 'file')} …")
    try:
        for number, upload in enumerate(given, start=1):
            if upload.name.lower().endswith(".zip"):
                added += _from_zip(kept, survey, upload)
            else:
                _keep(kept, survey, upload)
                added += 1
            words = f"Keeping {number} of {counted(len(given), 'file')} …"
            bar.progress(number / len(given), words)
    except OSError as error:
        raise StoreError(
            survey.name, f"the photos cannot be kept ({error.strerror})", "make room on the server"
        ) from error
    finally:
        bar.empty()
    return added


def _keep(kept: SurveyStore, survey: Survey, upload: UploadedFile) -> None:
    photo, building = upload_label(upload.name)
    if upload.size > Limits().max_bytes:  # its row says so; nobody could read it, and it is large
        source = Source(photo, building, f"{photo}, {upload.size} bytes", error=too_large())
        kept.add_photos(survey.id, [source])
        return
    data = upload.getvalue()
    try:
        suffix = SUFFIX[open_photo(data, upload.name).format]
    except PhotoError:
        suffix = UNKNOWN_SUFFIX  # its row will say what is wrong
    sha256 = hashlib.sha256(data).hexdigest()
    kept.add_upload(survey.id, photo, building, data, sha256, suffix)


def _from_zip(kept: SurveyStore, survey: Survey, upload: UploadedFile) -> int:
    """Puts the archive aside, by the hash of its bytes so that its photos are entered once; the
    worker unpacks it photo by photo."""
    upload.seek(0)
    sha256 = hashlib.file_digest(upload, "sha256").hexdigest()
    own = kept.files.incoming(survey.id, upload.size)  # none who gives the same ZIP now has it
    unfinished, path = own.with_suffix(".partial"), own.with_name(f"{sha256}.zip").absolute()
    upload.seek(0)
    try:
        with unfinished.open("wb") as file:
            shutil.copyfileobj(upload, file, 2**20)
        sources = list_zip(unfinished, upload.name).sources
        if not path.exists() and sources:  # a run may be reading it
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return kept.add_photos(survey.id, [replace(source, path=str(path)) for source in sources])


def _free_name(given: Sequence[UploadedFile], folder: str) -> str:
    taken = {survey.name for survey in store().surveys()}
    name = _suggested(given, folder)
    numbered = (f"{name} ({number})" for number in count(2))
    return next(free for free in chain([name], numbered) if free not in taken)


def _suggested(given: Sequence[UploadedFile], folder: str) -> str:
    """A name for who does not care: the folder's or the ZIP's, else the date."""
    if folder:
        return Path(folder).name or folder
    first, below, _ = given[0].name.partition("/") if given else ("", "", "")
    if first and below:
        return first
    if first.lower().endswith(".zip"):
        return Path(first).stem
    return f"Photos of {date.today():%d %B %Y}".replace(" 0", " ")
