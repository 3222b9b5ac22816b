"""The parts of the home page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from heritage.cards import list_cards
from heritage.exports import blended, encode_jpeg
from heritage.figures import counted
from heritage.photos import Photo
from heritage.surveys import Run, Survey
from heritage.web.frame import errors_in_words, go_to_new_triage, plain
from heritage.web.inspection_view import START_OPACITY_PERCENT, show_answer
from heritage.web.models import inspect
from heritage.web.photo_input import keep_photo
from heritage.web.samples import SamplePhoto, sample_photos
from heritage.web.survey_data import set_going, store

if TYPE_CHECKING:
    from heritage.inspection import Inspection

EXAMPLE_FILE = "cracked-plaster.jpg"
VIEW_SIDE_PX = 960
SURVEYS_SHOWN = 3


def show_way_in() -> None:
    """The next step: an own photo, or a sample."""
    with st.container(horizontal=True):
        if st.button("Inspect a photo", type="primary", icon=":material/add_photo_alternate:"):
            st.switch_page("pages/1_Inspect.py")
        if st.button("Triage a photo set", icon=":material/format_list_numbered:"):
            go_to_new_triage()
        if st.button("Try a sample", icon=":material/image_search:"):
            keep_photo(_example().open())
            st.switch_page("pages/1_Inspect.py")


def show_recent_surveys() -> None:
    """The surveys last entered, for who comes back; nothing where there is none."""
    with errors_in_words():
        surveys = store().surveys()[:SURVEYS_SHOWN]
        if not surveys:
            return
        st.markdown("## Go on with")
        with st.container(horizontal=True):
            for survey in surveys:
                runs = store().runs(survey.id)
                _survey_tile(survey, runs[0] if runs else None)
        set_going()


def _survey_tile(survey: Survey, run: Run | None) -> None:
    with st.container(border=True, width=300, gap="small"):
        st.markdown(f"**{plain(survey.name)}**")
        when = survey.visited_on or survey.created_at
        facts = [plain(survey.site), f"{when.day} {when:%B %Y}", counted(survey.photos)]
        st.caption(" · ".join(fact for fact in facts if fact))
        if run and run.unfinished:
            st.caption(f"{run.done:,} of {run.photos:,} read so far")
        if st.button("Open", key=f"survey_{survey.id}", icon=":material/folder_open:"):
            st.switch_page("pages/2_Triage.py", query_params={"survey": str(survey.id)})


def show_example() -> None:
    """A sample photo beside its overlay, answered by the best checkpoint right now."""
    cards = list_cards()
    sample = _example()
    photo = sample.open()
    st.markdown("## For example")
    left, right = st.columns(2, gap="medium")
    with left:
        caption = f"{sample.title} ({sample.kind.lower()})"
        st.image(_view(photo.sha256, photo), caption=caption, alt=sample.caption, width="stretch")
    if not cards:
        with right:
            st.info("No checkpoint is installed yet, so there is no answer to show.")
        return
    with errors_in_words():
        with right, st.spinner("Reading the sample …"):
            inspection = inspect(photo, cards[0])
            st.image(
                _overlaid_view(photo.sha256, cards[0].sha256, photo, inspection),
                caption=f"As {plain(cards[0].title)} sees it: brighter is hotter",
                alt="The same picture with heat where damage shows",
                width="stretch",
            )
        show_answer(inspection)
    st.caption(f"{sample.caption} {sample.credit_line}.")


def show_limits() -> None:
    """What the model cannot know, in plain words."""
    st.markdown("## What it cannot do")
    for column, (title, text) in zip(st.columns(3, gap="large"), _LIMITS, strict=True):
        with column:
            st.markdown(f"**{title}**\n\n{text}")


_LIMITS = (
    (
        "See behind the surface",
        "It reads one photo. Damp in the core, a loose anchor, a crack that moves: none of these "
        "shows in a single picture.",
    ),
    (
        "Measure",
        "80 % means that damage very probably shows. It does not mean that 80 % of the wall is "
        "broken, and it is no crack width.",
    ),
    (
        "Decide",
        "It sorts photos so that you begin in the right place. What is urgent is for the expert "
        "who stands before the wall.",
    ),
)


def _example() -> SamplePhoto:
    return next(sample for sample in sample_photos() if sample.file == EXAMPLE_FILE)


@st.cache_data(show_spinner=False)
def _view(sha256: str, _photo: Photo) -> bytes:
    return encode_jpeg(_photo.pixels(long_side_px=VIEW_SIDE_PX))


@st.cache_data(show_spinner=False)
def _overlaid_view(
    sha256: str, weights_sha256: str, _photo: Photo, _inspection: Inspection
) -> bytes:
    return encode_jpeg(
        blended(_photo, _inspection, opacity_percent=START_OPACITY_PERCENT, side_px=VIEW_SIDE_PX)
    )
