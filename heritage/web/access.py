"""Signing in, where `[auth]` is configured: before anything else of a page, and who it is after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from heritage.access import Role, Visitor, name_of, role_of
from heritage.errors import HeritageError, StoreError


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
    return Visitor(name_of(claims), role_of(claims, settings.get("access", {})))


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
        providers = [name for name, value in settings["auth"].items() if isinstance(value, Mapping)]
        for name in providers or [None]:
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
        StoreError: A file of secrets is there and cannot be read.
    """
    if st.secrets.load_if_toml_exists():
        return st.secrets.to_dict()
    there = [path for path in st.get_option("secrets.files") if Path(path).exists()]
    if there:
        raise StoreError("secrets.toml", "it cannot be read", "mend it; until then nobody gets in")
    return {}
