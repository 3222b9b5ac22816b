"""Signing in, where `[auth]` is configured: before anything else of a page, and who it is after."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from heritage.access import SETTINGS, Role, Visitor, name_of, role_of
from heritage.errors import HeritageError, StoreError

MEND = "set it up as SECURITY.md tells; until then nobody gets in"
UNREADABLE = "mend it; until then nobody gets in"
# Streamlit reads the secrets anew when they change: a file lost meanwhile must not open the door.
_seen: set[str] = set()


def visitor() -> Visitor:
    """Who is at the other end; everybody may do everything where nobody has to sign in.

    Raises:
        HeritageError: The settings make no sense.
    """
    settings = _settings()
    if "auth" not in settings:
        return Visitor()
    claims = st.user.to_dict()
    if not claims.get("is_logged_in"):
        return Visitor("", Role.NOBODY)
    providers = _provider_count(settings)
    role = role_of(claims, settings.get("access", {}), providers=providers)
    return Visitor(name_of(claims, providers=providers), role)


def may(role: Role) -> bool:
    """Whether this visitor has at least `role`."""
    return visitor().role >= role


def only_for_admins() -> str | None:
    """What a button that is for admins tells others; None for admins."""
    return None if may(Role.ADMIN) else "For this you need the role admin."


def admit() -> None:
    """Goes on for those who may see the page; for others it ends here, with a way to sign in."""
    try:
        settings, who = _settings(), visitor()
    except HeritageError as error:
        # Half a configuration must not open the door.
        st.title("This app is not set up")
        advice = error.advice[:1].upper() + error.advice[1:]
        st.error(f"{error.subject}: {error.reason}. {advice}.", icon=":material/lock:")
        st.stop()
    if "auth" not in settings or who.role > Role.NOBODY:
        return
    st.space("large")
    st.title("Heritage")
    if who.name:
        st.markdown("You are signed in, but nobody has given you access to this app yet.")
        st.caption("Ask who looks after it.")
        st.button("Sign out", icon=":material/logout:", on_click=st.logout)
    else:
        st.markdown("Surveys and photos here are for people your office knows. Please sign in.")
        for name in _providers(settings) or [""]:
            st.button(
                f"Sign in with {name.capitalize()}" if name else "Sign in",
                type="primary",
                icon=":material/login:",
                on_click=st.login,
                args=(name,) if name else (),
            )
    st.stop()


def show_who() -> None:
    """The visitor's name and the way out, where people sign in."""
    who = visitor()
    if who.name:
        with st.popover(who.name, icon=":material/person:", type="tertiary"):
            st.caption(f"Signed in as {who.role.name.lower()}.")
            st.button("Sign out", icon=":material/logout:", on_click=st.logout)


def _settings() -> Mapping[str, Any]:
    """The secrets, empty where there are none.

    Raises:
        StoreError: Nobody would have to sign in though somebody had to before, or was meant to.
    """
    settings: Mapping[str, Any] = {}
    try:
        if st.secrets.load_if_toml_exists():
            settings = st.secrets.to_dict()
        elif any(Path(path).exists() for path in st.get_option("secrets.files")):
            raise StoreError("secrets.toml", "it cannot be read", UNREADABLE)
    except (OSError, UnicodeError) as error:
        raise StoreError("secrets.toml", "it cannot be read", UNREADABLE) from error
    sections = {name for name in ("auth", "access") if name in settings}
    for name in sections:
        if not isinstance(settings[name], Mapping):
            raise StoreError("secrets.toml", f"{name} is no section", MEND)
    if "auth" in sections:
        _seen.update(sections)
    elif sections and settings["access"].keys() & SETTINGS:
        raise StoreError("secrets.toml", "it has [access] and no [auth]", MEND)
    if gone := sorted(_seen - sections):
        raise StoreError("secrets.toml", f"[{gone[0]}] was there and is gone", MEND)
    if "auth" not in sections and os.environ.get("HERITAGE_SIGN_IN"):
        raise StoreError("secrets.toml", "it has no [auth], and sign-in is required", MEND)
    return settings


def _providers(settings: Mapping[str, Any]) -> list[str]:
    """Names of the providers to choose from; none where there is just one, without a name."""
    return [name for name, value in settings["auth"].items() if isinstance(value, Mapping)]


def _provider_count(settings: Mapping[str, Any]) -> int:
    return len(_providers(settings)) + ("client_id" in settings["auth"])
