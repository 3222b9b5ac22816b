"""Sentences that pages, files and commands share; importing this costs nothing."""

from __future__ import annotations

from pathlib import Path

from heritage.errors import PhotoError
from heritage.methods import DETAIL_SCAN

# Reasons why a photo could not be read that may be gone at another try.
NO_MEMORY = "it needs more memory than there is"
NO_ROOM = "the photo does not fit into memory"
SAVE_MEMORY = "close other programs, or save a smaller copy"
GONE = "the kept photo is gone from this computer"

# The warning beside a photo that is called sound, where a head that points has found places.
PASSED_OVER = (
    "Close by, the detail scan finds places that damage % of the whole photo passes over; "
    "look at them."
)


def short_path(path: Path) -> str:
    """Enough of a path to find a labelled photo by: class, building, file."""
    return "/".join(path.parts[-3:])


def nothing_hot(method: str) -> str:
    """What an empty heat map says.

    Of a detail scan that is nothing about the photo as a whole: a head that points may find no
    place in a photo whose damage % is high.

    Args:
        method: How the heat map was made, one of `methods.METHODS` or `DETAIL_SCAN`.
    """
    if method == DETAIL_SCAN:
        return "Close by, no place stands out; damage % is of the whole photo."
    return "No evidence: nothing in this photo speaks for damage."


def no_scan(error: PhotoError) -> str:
    """The warning beside the answer to a photo that could not be read at its full size."""
    return f"No detail scan: {error.reason}; {error.advice}."
