"""What every page begins with: its title, the way between the pages, and errors in plain words."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import streamlit as st
from streamlit.errors import StreamlitPageNotFoundError

from heritage import __version__
from heritage.errors import DatabaseAwayError, DatasetError, HeritageError
from heritage.logs import start_logging
from heritage.store.database import surveys_dir
from heritage.web.access import admit, show_who

LOG = logging.getLogger(__name__)
_HERE = Path(__file__).parent
_PAGES = (
    ("app.py", "Home", ":material/home:"),
    ("pages/1_Inspect.py", "Inspect", ":material/search:"),
    ("pages/2_Triage.py", "Triage", ":material/format_list_numbered:"),
    ("pages/3_Surveys.py", "Surveys", ":material/folder_open:"),
    ("pages/4_Backbones.py", "Backbones", ":material/leaderboard:"),
    ("pages/5_Train.py", "Train", ":material/model_training:"),
    ("pages/6_Guide.py", "Guide", ":material/menu_book:"),
)


def frame(title: str) -> None:
    """Sets up the page called `title`: browser tab, style sheet, and links to all pages."""
    st.set_page_config(
        page_title=f"{title} · Heritage" if title != "Home" else "Heritage",
        page_icon=str(_HERE / "icon.svg"),  # a named icon would be fetched from the internet
        layout="wide",
        initial_sidebar_state="collapsed",
    )
    _start_log()
    admit()
    st.html(_HERE / "style.css")
    with st.container(horizontal=True, vertical_alignment="center", key="masthead"):
        with st.container(key="wordmark", width="content"):
            st.markdown("Heritage")
        # A page started by itself knows no other page.
        with suppress(StreamlitPageNotFoundError):
            for page, label, icon in _PAGES:
                st.page_link(page, label=label, icon=icon, width="content")
        show_who()


@st.cache_resource(show_spinner=False)
def _start_log() -> None:
    """Once for the whole server."""
    start_logging("server", surveys_dir())
    LOG.info("server begins", extra={"version": __version__, "python": platform.python_version()})


def go_to_new_triage() -> None:
    """Leads to the empty form of Triage, whatever survey was open."""
    st.session_state.pop("open_survey", None)
    st.switch_page("pages/2_Triage.py")


@contextmanager
def errors_in_words() -> Iterator[None]:
    """Shows a `HeritageError` raised inside as a message that says what to do, and goes on."""
    try:
        yield
    except HeritageError as error:
        # What is wrong with labelled photos names them, and logs hold no names.
        reason = "" if isinstance(error, DatasetError) else error.reason
        LOG.info("refused", extra={"reason": reason, "kind": type(error).__name__})
        advice = error.advice[:1].upper() + error.advice[1:]
        st.error(
            f"**{plain(error.subject)}**: {plain(for_visitors(error))}. {plain(advice)}.",
            icon=":material/error:",
        )


def for_visitors(error: HeritageError) -> str:
    """The reason of an error, without where the database is: that is in the log."""
    away = isinstance(error, DatabaseAwayError)
    return error.reason.partition(" (")[0] if away else error.reason


def plain(text: str) -> str:
    """`text` from outside, with every character that Markdown would act on escaped."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()<>#+-.!|~$:&" else c for c in text)
