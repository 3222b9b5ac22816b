"""The user guide inside the app: the same Markdown, its pictures, and a list of its sections."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide.md"
READABLE_WIDTH_PX = 820
_PARTS = re.compile(r"^(#{1,2} .+|!\[[^\]]*\]\([^)]+\))$", re.MULTILINE)
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")


@dataclass(frozen=True)
class Part:
    """A piece of the guide: a title, the heading of a section, a picture, or text between them.

    Attributes:
        kind: `title`, `heading`, `picture` or `text`.
        text: What it says; of a picture, what it shows.
        path: Of a picture, where it lies.
    """

    kind: str
    text: str
    path: Path | None = None


def show_guide() -> None:
    """The guide, with a list of sections that leads to each."""
    parts = guide_parts()
    sections = [part.text for part in parts if part.kind == "heading"]
    with st.container(width=READABLE_WIDTH_PX):
        for part in parts:
            if part.kind == "title":
                st.title(part.text)
            elif part.kind == "heading":
                if part.text == sections[0]:
                    st.markdown("\n".join(f"- [{name}](#{anchor(name)})" for name in sections))
                st.header(part.text, anchor=anchor(part.text))
            elif part.path:
                st.image(part.path, caption=part.text, alt=part.text, width="stretch")
            else:
                st.markdown(part.text)


@st.cache_data(show_spinner=False)
def guide_parts() -> tuple[Part, ...]:
    """The guide in the order it is read."""
    pieces = _PARTS.split(GUIDE.read_text(encoding="utf-8"))
    return tuple(_part(piece.strip()) for piece in pieces if piece.strip())


def anchor(heading: str) -> str:
    """What a link to a section ends with, here as on GitHub."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _part(piece: str) -> Part:
    picture = _PICTURE.fullmatch(piece)
    if picture:
        return Part("picture", picture[1], GUIDE.parent / picture[2])
    if piece.startswith("## "):
        return Part("heading", piece[3:])
    return Part("title", piece[2:]) if piece.startswith("# ") else Part("text", piece)
