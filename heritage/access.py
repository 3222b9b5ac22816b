"""Who may do what, and the record of who did it; the signing in itself is the web server's.

Without sign-in whoever reaches the app may do everything, as on a laptop. With it there are three
roles: a viewer looks, an inspector also triages and judges, an admin also deletes and trains.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from functools import wraps
from pathlib import Path
from typing import Any

from heritage.errors import AccessError, DatabaseAwayError, HeritageError, StoreError
from heritage.surveys import SurveyStore

AUDIT = "audit.jsonl"
SETTINGS = {"viewers", "inspectors", "admins", "role_claim", "everyone"}  # in [access]


class Role(IntEnum):
    """What somebody may do; each role includes those below it."""

    NOBODY = 0
    VIEWER = 1
    INSPECTOR = 2
    ADMIN = 3


@dataclass(frozen=True)
class Visitor:
    """Who is at the other end.

    Attributes:
        name: How the identity provider knows them; empty without sign-in.
        role: What they may do.
    """

    name: str = ""
    role: Role = Role.ADMIN

    def require(self, role: Role, what: str) -> None:
        """Passes whoever has at least `role`.

        Raises:
            AccessError: Their role is a lesser one.
        """
        if self.role < role:
            raise AccessError(
                what, f"this needs the role {role.name.lower()}", "ask who looks after this app"
            )


def role_of(claims: Mapping[str, Any], settings: Mapping[str, Any], *, providers: int = 1) -> Role:
    """The highest role that the settings give to somebody with these claims.

    Args:
        claims: Of the identity provider's token, such as `email`, `sub`, `roles`.
        settings: `viewers`, `inspectors` and `admins` list addresses or subjects, these also as
            `issuer|subject`; `role_claim` names a claim that holds roles; `everyone` is the role of
            whoever can sign in, `viewer` unless it is set, `nobody` to keep them out.
        providers: How many there are to sign in with. With several a subject counts only with its
            issuer, as each numbers people in its own way, and an address only where its provider
            says that it is verified.

    Raises:
        StoreError: A setting makes no sense; nobody is let in by mistake.
    """
    unknown = set(settings) - SETTINGS
    if unknown:
        raise StoreError("[access]", f"no setting is called {min(unknown)}", "see SECURITY.md")
    known_as = {name.lower() for name in _known_as(claims, providers)}
    found = [_role(settings.get("everyone", Role.VIEWER.name), strict=True)]
    for role in (Role.VIEWER, Role.INSPECTOR, Role.ADMIN):
        listed = settings.get(f"{role.name.lower()}s", ())
        if not isinstance(listed, list | tuple) or not all(isinstance(n, str) for n in listed):
            raise StoreError("[access]", f"{role.name.lower()}s is no list", "see SECURITY.md")
        if known_as & {name.lower() for name in listed}:
            found.append(role)
    claim = settings.get("role_claim", "")
    if not isinstance(claim, str):
        raise StoreError("[access]", "role_claim is no name", "see SECURITY.md")
    told = claims.get(claim, ())
    roles = [told] if isinstance(told, str) else told if isinstance(told, list | tuple) else ()
    return max(found + [_role(name) for name in roles])


def name_of(claims: Mapping[str, Any], *, providers: int = 1) -> str:
    """What somebody with these claims is called in verdicts and in the audit log."""
    return next(iter(_known_as(claims, providers)), "unnamed")


def _known_as(claims: Mapping[str, Any], providers: int) -> list[str]:
    """Address and subject; an address that nobody has verified anybody can claim."""
    names = []
    if claims.get("email") and claims.get("email_verified", providers == 1) is True:
        names.append(str(claims["email"]))
    if subject := claims.get("sub"):
        names += [str(subject)] if providers == 1 else []
        names.append(f"{claims.get('iss', '')}|{subject}")
    return names


def _role(name: object, *, strict: bool = False) -> Role:
    try:
        return Role[str(name).upper()]
    except KeyError:
        if strict:
            raise StoreError("[access]", f"{name!r} is no role", "see SECURITY.md") from None
        return Role.NOBODY


def note(folder: Path, visitor: Visitor, what: str, **facts: Any) -> None:
    """Appends a line to the audit log in `folder`: when, who, what, and the facts.

    Raises:
        StoreError: It cannot be written; then what it should tell must not happen.
    """
    line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "who": visitor.name}
    text = json.dumps(line | {"what": what} | facts, ensure_ascii=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # One write of a file opened for appending is not torn by others who do the same.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
        handle = os.open(folder / AUDIT, flags, 0o600)
        try:
            data = (b"\n" if _is_torn(handle) else b"") + text.encode()
            if os.write(handle, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise StoreError(
            AUDIT, f"it cannot be written ({error.strerror})", "make room on the server"
        ) from error


@contextmanager
def noted(folder: Path, visitor: Visitor, what: str, **facts: Any) -> Iterator[None]:
    """Appends a line before something is done, and another where it is refused or breaks off.

    Raises:
        StoreError: The first cannot be written.
    """
    note(folder, visitor, what, **facts)
    try:
        yield
    except HeritageError as error:
        how = "broken off" if isinstance(error, DatabaseAwayError) else "not done"
        with suppress(StoreError):  # the first reason is the one to tell
            note(folder, visitor, f"{what}: {how}, {error.reason}", **facts)
        raise


def _is_torn(handle: int) -> bool:
    """Whether the last line was cut off by a full disk, and is not just being written."""
    end = _open_end(handle)
    if end is None:
        return False
    time.sleep(0.05)
    return _open_end(handle) == end


def _open_end(handle: int) -> int | None:
    """Where the file ends in the middle of a line, if it does."""
    size = os.lseek(handle, 0, os.SEEK_END)
    os.lseek(handle, max(0, size - 1), os.SEEK_SET)
    return size if size and os.read(handle, 1) != b"\n" else None


class GuardedStore(SurveyStore):
    """The surveys as one visitor may use them; verdicts and deletions leave a line of audit.

    Args:
        store: The store behind it.
        visitor: Who uses it.
    """

    def __init__(self, store: SurveyStore, visitor: Visitor) -> None:
        self.folder, self.engine, self.files = store.folder, store.engine, store.files
        self.visitor = visitor


# Every method that changes something, and who may; a test finds one that is missing.
CHANGES = {
    "create_survey": Role.INSPECTOR,
    "edit_survey": Role.INSPECTOR,
    "rename_building": Role.INSPECTOR,
    "add_photos": Role.INSPECTOR,
    "add_upload": Role.INSPECTOR,
    "create_run": Role.INSPECTOR,
    "run_with": Role.INSPECTOR,
    "ask_to_stop": Role.INSPECTOR,
    "resume": Role.INSPECTOR,
    "retry_failed": Role.INSPECTOR,
    "give_verdict": Role.INSPECTOR,
    "remove_photos": Role.ADMIN,
    "delete_run": Role.ADMIN,
    "delete_survey": Role.ADMIN,
}
_NOTED = {
    "give_verdict": "verdict",
    "remove_photos": "photos removed",
    "delete_run": "run deleted",
    "delete_survey": "survey deleted",
}
_FACTS = {
    "give_verdict": ("photos", "verdict", "note", "given_by"),
    "remove_photos": ("survey", "photos"),
    "delete_run": ("run",),
    "delete_survey": ("survey",),
}


def _guarded(name: str, role: Role) -> Callable[..., Any]:
    plain = getattr(SurveyStore, name)

    @wraps(plain)
    def guarded(self: GuardedStore, *given: Any, **named: Any) -> Any:
        self.visitor.require(role, name.replace("_", " "))
        if name not in _NOTED:
            return plain(self, *given, **named)
        facts = dict(zip(_FACTS[name], given, strict=False)) | named
        with noted(self.folder, self.visitor, _NOTED[name], **facts | _called(self, facts)):
            return plain(self, *given, **named)

    return guarded


def _called(store: SurveyStore, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the numbers in a line stand for: nobody can look it up once it is deleted."""
    if "run" in facts:
        run = store.run(facts["run"])
        return {"survey_name": store.survey(run.survey_id).name, "reader": run.reader}
    if "survey" not in facts:
        return {}
    called: dict[str, Any] = {"survey_name": store.survey(facts["survey"]).name}
    if "photos" in facts:
        called["photo_names"] = [store.photo(photo_id).name for photo_id in facts["photos"]]
    return called


for _name, _least in CHANGES.items():
    setattr(GuardedStore, _name, _guarded(_name, _least))
