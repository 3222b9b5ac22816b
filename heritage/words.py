"""Sentences that pages, files and commands share; importing this costs nothing."""

from __future__ import annotations

from collections.abc import Iterable

from heritage.errors import PhotoError
from heritage.methods import DETAIL_SCAN, GRAD_CAM

_NO_SCAN = "No detail scan: "

# Reasons why a photo could not be read that may be gone at another try.
NO_MEMORY = "it needs more memory than there is"
NO_ROOM = "the photo does not fit into memory"
SAVE_MEMORY = "close other programs, or save a smaller copy"
GONE = "the kept photo is gone from this computer"


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
    return f"{_NO_SCAN}{error.reason}; {error.advice}."


def heat_map_made(detail: bool, warnings: Iterable[str]) -> str:
    """How a heat map was made: the whole photo's, where a scan was wanted and could not be made.

    Args:
        detail: Whether a detail scan was wanted.
        warnings: Those of the answer, `no_scan` among them where it applies.
    """
    scanned = detail and not any(warning.startswith(_NO_SCAN) for warning in warnings)
    return DETAIL_SCAN if scanned else GRAD_CAM
