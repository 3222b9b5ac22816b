"""Errors a user can act on: each message says what happened, to which file, and what to do next."""

from __future__ import annotations


class HeritageError(Exception):
    """Base of every error this package raises on purpose.

    Args:
        subject: The file, backbone or folder the error is about.
        reason: What is wrong, in plain words, lower case, without a full stop.
        advice: What the user can do next, in the same style.
    """

    def __init__(self, subject: str, reason: str, advice: str) -> None:
        self.subject = one_line(subject)
        self.reason = reason
        self.advice = advice
        super().__init__(f"{self.subject}: {reason}; {advice}")


class AccessError(HeritageError):
    """Something that this visitor's role does not allow."""


class PhotoError(HeritageError):
    """A photo that cannot be read, or should not be."""


class BackboneError(HeritageError):
    """A backbone that is not in the registry, or cannot be built."""


class CheckpointError(HeritageError):
    """A checkpoint that is missing, damaged, or belongs to another backbone."""


class DatasetError(HeritageError):
    """A labelled folder or manifest that cannot be trained or scored on."""


class TrainingError(HeritageError):
    """A training run that cannot start, go on, or be resumed."""


class StoreError(HeritageError):
    """A survey that is not there, or a database or folder that cannot be used."""


class NoSurveyError(StoreError):
    """A survey that is not there, or not any more."""


class DatabaseAwayError(StoreError):
    """A survey database that does not answer now and may do so again: busy, stopped, restarted."""


def one_line(text: str, limit: int = 120) -> str:
    """Returns `text` on one line, control characters made visible, at most `limit` characters."""
    clean = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its kind where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)
