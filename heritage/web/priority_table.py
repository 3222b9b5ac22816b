"""The priority table and what hangs on it: filters, pictures, and the photo in hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any

import pandas as pd
import streamlit as st

from heritage.access import Role
from heritage.bands import BANDS
from heritage.figures import counted, percent_text, shown_percent
from heritage.priority import DAMAGED, SOUND, UNSURE, VERDICTS, PriorityRow
from heritage.sources import natural_key
from heritage.surveys import LONGEST_NAME, LONGEST_NOTE, Run, Survey, Verdict
from heritage.web.access import may, only_for_admins, visitor
from heritage.web.frame import errors_in_words, plain
from heritage.web.inspection_view import band_badge, came_from
from heritage.web.models import data_url
from heritage.web.photo_input import keep_photo
from heritage.web.survey_data import photo_of, picture, store, thumbnail
from heritage.words import nothing_hot

MOST_WITH_THUMBNAILS = 200  # each weighs some 10 KB and travels on every click
PICTURES_A_PAGE = 24
TABLE_PX, ROW_PX, PICTURED_ROW_PX = 640, 35, 56  # at most; fewer photos leave no empty rows
PICTURES_SHOWN = {"heat": "With heat", "photo": "Photo", "none": "No pictures"}
NO_ANSWER = "No answer"
NO_VERDICT = "none"
OPTIONAL = ("Verdict", "Building", "Taken", "Remarks")  # not shown where all are empty
WORDS = {DAMAGED: "Damaged", SOUND: "Sound", UNSURE: "Unsure"}
KEYS = {DAMAGED: "D", SOUND: "S", UNSURE: "U"}
ICONS = {
    DAMAGED: ":material/report:",
    SOUND: ":material/check_circle:",
    UNSURE: ":material/help:",
}
STARTS = {
    "table_thumbnails": "heat",
    "pictures_heat": True,
    "detail_heat": True,
    "verdict_onwards": True,
}
ORDERS: dict[str, Callable[[PriorityRow], Any]] = {
    "Priority": lambda row: row.rank,
    "Damage %, highest first": lambda row: -_or(row.damage_percent, -1),
    "Damage %, lowest first": lambda row: _or(row.damage_percent, 101),
    "Affected area, largest first": lambda row: -_or(row.affected_percent, -1),
    "Building and name": lambda row: (natural_key(row.building), natural_key(row.photo)),
    "Date taken": lambda row: row.taken_at or "9999",
    "Last verdict first": lambda row: _falling(row.verdict_at or ""),
    "Look-alikes together": lambda row: (row.similar_group or 10**9, row.rank),
}
NO_FILTER: dict[str, Any] = {
    "find_text": "",
    "find_bands": [],
    "find_buildings": [],
    "find_verdicts": [],
    "find_damage_percent": (0, 100),
    "find_affected_percent": (0, 100),
    "find_only": [],
}
UNREADABLE, UNSURE_ONES, TWINS, NO_TWINS = (
    "not readable",
    "model unsure",
    "look-alikes",
    "without duplicates",
)


def show_table(survey: Survey, run: Run, rows: Sequence[PriorityRow]) -> None:
    """The table and, where a row is chosen, the photo beside it."""
    shown = _filtered(rows)
    if not shown:
        _say_empty(rows)
        return
    chosen = _chosen(shown)
    if chosen is None:
        _table(shown, run)
        st.caption("Choose a row to see its photo beside the table.")
        return
    table, detail = st.columns((3, 2), gap="large")
    with table:
        _table(shown, run)
    with detail:
        _detail(survey, run, shown, chosen)


def show_pictures(survey: Survey, run: Run, rows: Sequence[PriorityRow]) -> None:
    """Small pictures in the same order, a page at a time."""
    shown = _filtered(rows)
    if not shown:
        _say_empty(rows)
        return
    chosen = _chosen(shown)
    if chosen is not None:
        _detail(survey, run, shown, chosen)
        if st.button("Back to the pictures", icon=":material/grid_view:"):
            _choose(None)
            st.rerun()
        return
    pages = -(-len(shown) // PICTURES_A_PAGE)
    with st.container(horizontal=True, vertical_alignment="center"):
        heat = st.toggle("Heat", key="pictures_heat", persist_state="session")
        page = 1
        if pages > 1:
            st.session_state["pictures_page"] = min(st.session_state.get("pictures_page", 1), pages)
            page = st.number_input(
                f"Page of {pages:,}",
                1,
                pages,
                key="pictures_page",
                persist_state="session",
                width=150,
            )
    start = (int(page) - 1) * PICTURES_A_PAGE
    with st.container(horizontal=True, gap="medium", key="contact_sheet"):
        for row in shown[start : start + PICTURES_A_PAGE]:
            _tile(run, row, heat=heat)


def _tile(run: Run, row: PriorityRow, *, heat: bool) -> None:
    with st.container(key=f"tile_{row.photo_id}", gap="small", width=200):
        small = thumbnail(run.id, row, heat=heat)
        if small:
            st.image(data_url("image/jpeg", small), width="stretch", alt=_spoken(row))
        else:
            st.caption("not readable" if row.error else "not read yet")
        if st.button(plain(_short(row.photo)), key=f"open_{row.photo_id}", width="stretch"):
            _choose(row.photo_id)
            st.rerun()
        st.markdown(_badges(row))


def whole_table(rows: Sequence[PriorityRow]) -> pd.DataFrame:
    """The rows as a frame for the page, in the order given."""
    return pd.DataFrame(
        {
            "Rank": [row.rank for row in rows],
            "Photo": [row.photo for row in rows],
            "Damage %": [
                None if row.damage_percent is None else shown_percent(row.damage_percent)
                for row in rows
            ],
            "Band": [_band(row.band) for row in rows],
            "Verdict": [WORDS.get(row.verdict, "") for row in rows],
            "Affected %": [row.affected_percent if row.evidence else None for row in rows],
            "Building": [row.building for row in rows],
            "Taken": pd.to_datetime([row.taken_at for row in rows], errors="coerce"),
            "Remarks": [_remarks(row) for row in rows],
        }
    )


# --- filters ---------------------------------------------------------------------------------


def start_filters_anew() -> None:
    """Forgets filters, order and page: they were of another survey."""
    _clear_filters()
    if "find_order" in st.session_state:
        st.session_state["find_order"] = next(iter(ORDERS))
    if "pictures_page" in st.session_state:
        st.session_state["pictures_page"] = 1


def _filtered(rows: Sequence[PriorityRow]) -> list[PriorityRow]:
    """The row of controls above table and pictures, and what they leave, in order."""
    for key, start in STARTS.items():
        st.session_state.setdefault(key, start)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input(
            "Find",
            key="find_text",
            persist_state="session",
            placeholder="name, building, note, error",
            width=240,
        ).casefold()
        bands = st.pills(
            "Band",
            [*BANDS, NO_ANSWER],
            selection_mode="multi",
            key="find_bands",
            persist_state="session",
            format_func=_band,
        )
        order = st.selectbox(
            "Order", list(ORDERS), key="find_order", persist_state="session", width=230
        )
        with st.popover("More filters", icon=":material/tune:"):
            tests = _more_filters(rows)
        if text:
            tests.append(lambda row: text in _searched(row))
        if bands:
            tests.append(lambda row: (row.band or NO_ANSWER) in bands)
        if tests:
            st.button("Clear", icon=":material/filter_alt_off:", on_click=_clear_filters)
    kept = [row for row in rows if all(test(row) for test in tests)]
    if len(kept) < len(rows):
        st.caption(f"{len(kept):,} of {counted(len(rows))}")
    return sorted(kept, key=ORDERS[order])


def _more_filters(rows: Sequence[PriorityRow]) -> list[Callable[[PriorityRow], bool]]:
    tests: list[Callable[[PriorityRow], bool]] = []
    buildings = sorted({row.building for row in rows}, key=str.casefold)
    if len(buildings) > 1:
        some = st.multiselect("Building", buildings, key="find_buildings", persist_state="session")
        if some:
            tests.append(lambda row: row.building in some)
    verdicts = st.pills(
        "Verdict",
        [*VERDICTS, NO_VERDICT],
        selection_mode="multi",
        key="find_verdicts",
        persist_state="session",
        format_func=lambda name: WORDS.get(name, "None yet"),
    )
    if verdicts:
        tests.append(lambda row: (row.verdict or NO_VERDICT) in verdicts)
    for title, field in (("Damage %", "damage_percent"), ("Affected area %", "affected_percent")):
        low, high = st.slider(title, 0, 100, (0, 100), key=f"find_{field}", persist_state="session")
        if (low, high) != (0, 100):
            tests.append(partial(_within, field=field, low=low, high=high))
    dates = sorted({row.taken_at[:10] for row in rows if row.taken_at})
    if len(dates) > 1:
        # The dates grow while photos are read: another range is another slider.
        key = f"find_dates_{dates[0]}_{dates[-1]}"
        first, last = st.select_slider(
            "Date taken", dates, (dates[0], dates[-1]), key=key, persist_state="session"
        )
        if (first, last) != (dates[0], dates[-1]):
            tests.append(lambda row: first <= (row.taken_at or "")[:10] <= last)
    only = st.pills(
        "Only",
        (UNREADABLE, UNSURE_ONES, TWINS, NO_TWINS),
        selection_mode="multi",
        key="find_only",
        persist_state="session",
    )
    kinds: dict[str, Callable[[PriorityRow], bool]] = {
        UNREADABLE: lambda row: bool(row.error),
        UNSURE_ONES: lambda row: row.unsure,
        TWINS: lambda row: row.similar_group is not None,
        NO_TWINS: lambda row: not row.duplicate_of,
    }
    return tests + [kinds[name] for name in only]


def _within(row: PriorityRow, *, field: str, low: float, high: float) -> bool:
    value = getattr(row, field)
    return value is not None and low <= value <= high


def _clear_filters() -> None:
    for key, start in NO_FILTER.items():  # assigned, as the browser would bring back what is popped
        if key in st.session_state:
            st.session_state[key] = start
    for key in [key for key in st.session_state if str(key).startswith("find_dates_")]:
        first, last = str(key).removeprefix("find_dates_").split("_")
        st.session_state[key] = (first, last)


def _say_empty(rows: Sequence[PriorityRow]) -> None:
    if rows:
        st.info("No photo fits these filters.", icon=":material/filter_alt:")
    else:
        st.info("This survey has no photos.", icon=":material/photo_library:")


# --- the table -------------------------------------------------------------------------------


def _table(shown: Sequence[PriorityRow], run: Run) -> None:
    frame = whole_table(shown)
    empty = [name for name in OPTIONAL if (frame[name].isna() | (frame[name] == "")).all()]
    frame = frame.drop(columns=empty)
    small = st.session_state["table_thumbnails"] or "none"
    few = len(shown) <= MOST_WITH_THUMBNAILS
    if few and small != "none":
        pictures = [thumbnail(run.id, row, heat=small == "heat") for row in shown]
        frame.insert(1, "Picture", [data_url("image/jpeg", p) if p else None for p in pictures])
    row_px = PICTURED_ROW_PX if "Picture" in frame else ROW_PX
    key = f"table_{run.id}"
    ids = [row.photo_id for row in shown]
    chosen = st.session_state.get("chosen_photo")
    where = [ids.index(chosen)] if chosen in ids else []
    # The table is told which row the arrows have come to; a row clicked comes back the same way.
    st.session_state[key] = {"selection": {"rows": where, "columns": [], "cells": []}}
    st.dataframe(
        frame,
        key=key,
        hide_index=True,
        height="content" if len(shown) * row_px < TABLE_PX else TABLE_PX,
        row_height=row_px,
        on_select=lambda: _clicked(key, ids),
        selection_mode="single-row",
        placeholder="",
        column_config={
            "Rank": st.column_config.NumberColumn(width=50, format="%d"),
            "Picture": st.column_config.ImageColumn(width=90),
            "Photo": st.column_config.TextColumn(width="medium"),
            "Damage %": st.column_config.NumberColumn(format="%.1f", width=80),
            "Affected %": st.column_config.NumberColumn(
                format="%.1f",
                width=80,
                help="Share of the photo that is hot."
                if run.absolute
                else "Share of the photo that is hot. Relative within each photo: it says where, "
                "not how bad.",
            ),
            "Band": st.column_config.TextColumn(width=95),
            "Verdict": st.column_config.TextColumn(width=85),
            "Building": st.column_config.TextColumn(width=120),
            "Taken": st.column_config.DatetimeColumn(format="YYYY-MM-DD"),
            "Remarks": st.column_config.TextColumn(width="large"),
        },
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        if few:
            st.segmented_control(
                "Pictures in the table",
                list(PICTURES_SHOWN),
                format_func=PICTURES_SHOWN.__getitem__,
                key="table_thumbnails",
                persist_state="session",
                label_visibility="collapsed",
            )
        else:
            st.caption(
                f"Up to {MOST_WITH_THUMBNAILS} rows show pictures: filter, or look under "
                "**Pictures**."
            )


def _clicked(key: str, ids: Sequence[int]) -> None:
    rows = st.session_state[key]["selection"]["rows"]
    _choose(ids[rows[0]] if rows and rows[0] < len(ids) else None)


def _choose(photo_id: int | None) -> None:
    st.session_state["chosen_photo"] = photo_id


def _chosen(shown: Sequence[PriorityRow]) -> int | None:
    """Place in `shown` of the photo in hand."""
    wanted = st.session_state.get("chosen_photo")
    return next((i for i, row in enumerate(shown) if row.photo_id == wanted), None)


# --- the photo in hand -----------------------------------------------------------------------


def _detail(survey: Survey, run: Run, shown: Sequence[PriorityRow], place: int) -> None:
    row = shown[place]
    with st.container(horizontal=True, vertical_alignment="center"):
        step = None
        if st.button(
            "Previous", icon=":material/arrow_back:", shortcut="Left", disabled=place == 0
        ):
            step = place - 1
        if st.button(
            "Next",
            icon=":material/arrow_forward:",
            shortcut="Right",
            disabled=place == len(shown) - 1,
        ):
            step = place + 1
        st.caption(f"{place + 1:,} of {len(shown):,}")
        if step is not None:
            _choose(shown[step].photo_id)
            st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{plain(row.photo)}**", width="stretch")
        if st.button("Close", icon=":material/close:", shortcut="Esc", type="tertiary"):
            _choose(None)
            st.rerun()
    if row.error:
        st.error(plain(row.error[:1].upper() + row.error[1:]) + ".", icon=":material/error:")
    elif row.damage_percent is None:
        st.info("This photo has not been read yet.", icon=":material/hourglass_top:")
    else:
        _show_picture(survey, run, row)
        _show_answer(row)
    _ask_verdict(row, shown, place)
    _show_relatives(row, shown)
    with st.expander("Another building"):
        building = st.text_input(
            "Building", row.building, max_chars=LONGEST_NAME, key=f"building_of_{row.photo_id}"
        )
        if st.button(
            "Move it there",
            key=f"move_{row.photo_id}",
            icon=":material/edit:",
            disabled=not may(Role.INSPECTOR),
        ):
            with errors_in_words():
                store().rename_building(survey.id, [row.photo_id], building)
                st.rerun()
    with st.expander("Out of this survey"):
        st.markdown(
            "What was found in it, and said of it, goes with it, and so does the copy kept here, "
            "unless another photo is the same file. Your own file stays where it is; given again, "
            "it comes back."
        )
        sure = st.checkbox("Remove it for good", key=f"sure_{row.photo_id}")
        if st.button(
            "Remove this photo",
            key=f"remove_{row.photo_id}",
            icon=":material/delete:",
            disabled=not sure or run.unfinished or not may(Role.ADMIN),
            help=only_for_admins() or ("First stop the triage." if run.unfinished else None),
        ):
            with errors_in_words():
                store().remove_photos(survey.id, [row.photo_id])
                onwards = shown[place + 1 :] or shown[:place][-1:]
                _choose(onwards[0].photo_id if onwards else None)
                st.toast(f"{plain(_short(row.photo))} removed", icon=":material/delete:")
                st.rerun()


def _show_picture(survey: Survey, run: Run, row: PriorityRow) -> None:
    heat = st.session_state["detail_heat"] and row.evidence
    with errors_in_words():
        shown = data_url("image/jpeg", picture(row.sha256, run.id, heat, row))
        st.image(shown, width="stretch", alt=_spoken(row))
    with st.container(horizontal=True, vertical_alignment="center"):
        # No switch: while one has the focus, the keys of the buttons are dead.
        if st.button(
            "Hide heat" if heat else "Show heat",
            key="toggle_heat",
            icon=":material/local_fire_department:",
            shortcut="H",
            disabled=not row.evidence,
        ):
            st.session_state["detail_heat"] = not st.session_state["detail_heat"]
            st.rerun()
        if not row.evidence:
            st.caption(nothing_hot(row.heat_map))
        if st.button("Look closer", icon=":material/search:", help="Opens it on Inspect."):
            with errors_in_words():
                keep_photo(photo_of(row))
                came_from(row, survey, run)
                st.switch_page("pages/1_Inspect.py")


def _show_answer(row: PriorityRow) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="answer"):
        st.metric("Damage", percent_text(row.damage_percent or 0.0), width="content")
        st.metric(
            "Affected area",
            f"{row.affected_percent:.1f} %" if row.evidence else "–",
            width="content",
        )
        st.markdown(_badges(row, percent=False))
    facts = [
        plain(row.building),
        row.taken_at[:10] if row.taken_at else "",
        plain(row.camera or ""),
        f"{row.width} × {row.height} px",
        f"{row.latitude:.5f}, {row.longitude:.5f}"
        if row.latitude is not None and row.longitude is not None
        else "",
    ]
    st.caption(" · ".join(fact for fact in facts if fact))
    for warning in row.warnings:
        st.warning(plain(warning), icon=":material/warning:")


def _ask_verdict(row: PriorityRow, shown: Sequence[PriorityRow], place: int) -> None:
    st.markdown("#### Your verdict")
    if may(Role.INSPECTOR):
        _ask_for_one(row, shown, place)
    else:
        st.caption(plain(row.note) or "Verdicts are given by inspectors.")
    with errors_in_words():
        earlier = store().verdicts(row.photo_id)
        if earlier:
            with st.expander(f"Said so far ({len(earlier)})"):
                for said, before in zip_longest(earlier, earlier[1:]):
                    st.markdown(_said(said, before))


def _said(said: Verdict, before: Verdict | None) -> str:
    taken_back = "Taken back" if before and before.verdict else "Note"
    by = f" by {plain(said.given_by)}" if said.given_by else ""
    new = said.note and not (before and before.note == said.note)
    note = f": {plain(said.note)}" if new else ""
    words = WORDS.get(said.verdict, taken_back)
    return f"**{words}**{by}, {said.given_at:%Y-%m-%d %H:%M} UTC{note}"


def _ask_for_one(row: PriorityRow, shown: Sequence[PriorityRow], place: int) -> None:
    who = visitor().name or st.text_input(
        "Your name",
        key="verdict_by",
        persist_state="session",
        width=240,
        placeholder="who says so",
    )
    note, unseen = _ask_note(row)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        given = None
        for verdict in VERDICTS:
            if st.button(
                WORDS[verdict],
                key=f"say_{verdict}_{row.photo_id}",  # a second press must not judge the next photo
                icon=ICONS[verdict],
                type="primary" if row.verdict == verdict else "secondary",
                shortcut=KEYS[verdict],
            ):
                given = verdict
        if row.verdict and st.button("Take back", icon=":material/undo:"):
            given = ""
    onwards = st.toggle(
        "Go to the next photo after a verdict", key="verdict_onwards", persist_state="session"
    )
    if note.strip() != row.note and (given is None or unseen):
        with st.container(horizontal=True, vertical_alignment="center"):
            if st.button("Save the note", icon=":material/save:"):
                given, onwards = row.verdict, False
            st.caption("Not kept yet; a verdict keeps it as well.", width="content")
        if unseen and given is not None:
            st.info("Your verdict waits for you to see the other note.", icon=":material/info:")
    if given is not None and not unseen:
        with errors_in_words():
            twins = store().twins(row.photo_id)
            store().give_verdict(twins, given, note, who)
            others = [o for o in shown[place + 1 :] if o.sha256 != row.sha256 or not o.sha256]
            if given and onwards and others:
                _choose(others[0].photo_id)
            for photo_id in twins:
                st.session_state["note_fields"].pop(photo_id, None)
            st.rerun()


@dataclass
class _NoteField:
    """What stands in the field of a note, kept while other photos are looked at.

    Attributes:
        began: The kept note that the field began with.
        text: What stands in it.
        beside: The kept note that was last shown with it.
    """

    began: str
    text: str
    beside: str


def _ask_note(row: PriorityRow) -> tuple[str, bool]:
    """The note that a verdict keeps, and whether it would take the place of one that somebody else
    has left and nobody here has seen until now."""
    fields: dict[int, _NoteField] = st.session_state.setdefault("note_fields", {})
    key = f"note_{row.photo_id}"
    field = fields.get(row.photo_id)
    if field is None or (key not in st.session_state and field.text.strip() == field.began):
        field = fields[row.photo_id] = _NoteField(row.note, row.note, row.note)
        st.session_state[key] = row.note
    st.session_state.setdefault(key, field.text)
    field.text = st.text_area(
        "Note",
        key=key,
        max_chars=LONGEST_NOTE,
        height=80,
        placeholder="What you see",
        on_change=_keep_text,
        args=(row.photo_id,),
    )
    own = field.text.strip() != field.began
    if field.text.strip() == row.note:
        field.began, own = row.note, False
    unseen = own and field.began != row.note != field.beside
    field.beside = row.note
    if field.began != row.note:
        theirs = f"left “{plain(row.note)}”" if row.note else "taken the note away"
        place = "Yours takes its place" if own else "It stays, unless you write another"
        how = " with a verdict, or with **Save the note**." if own else "."
        st.warning(
            f"Meanwhile somebody else has {theirs}. {place}{how}", icon=":material/edit_note:"
        )
    return field.text if own else row.note, unseen


def _keep_text(photo_id: int) -> None:
    """Before the page runs: what it runs for may be another photo."""
    field = st.session_state.get("note_fields", {}).get(photo_id)
    if field is not None:
        field.text = st.session_state[f"note_{photo_id}"]


def _show_relatives(row: PriorityRow, shown: Sequence[PriorityRow]) -> None:
    if row.duplicate_of:
        st.caption(f"The same file as {plain(row.duplicate_of)}.")
    if row.similar_group is None:
        return
    others = [o for o in shown if o.similar_group == row.similar_group and o is not row]
    if others:
        names = ", ".join(plain(_short(o.photo)) for o in others[:5])
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        st.caption(f"Looks like {names}{more}.")


# --- words -----------------------------------------------------------------------------------


def _badges(row: PriorityRow, *, percent: bool = True) -> str:
    badges = [band_badge(BANDS[row.band])] if row.band else []
    if percent and row.damage_percent is not None:
        badges.append(f"**{percent_text(row.damage_percent)}**")
    if row.verdict:
        badges.append(verdict_badge(row.verdict))
    if row.unsure:
        badges.append(":gray-badge[:material/help: Model unsure]")
    return " ".join(badges)


def verdict_badge(verdict: str) -> str:
    """A verdict as Markdown."""
    return f":blue-badge[{ICONS[verdict]} {WORDS[verdict]}]"


def _remarks(row: PriorityRow) -> str:
    parts = [
        row.note,
        row.error,
        f"same file as {row.duplicate_of}" if row.duplicate_of else "",
        f"look-alikes {row.similar_group}" if row.similar_group and not row.duplicate_of else "",
        "model unsure" if row.unsure else "",
        *(warning.split(":")[0] for warning in row.warnings),
    ]
    return "; ".join(part for part in parts if part)


def _searched(row: PriorityRow) -> str:
    return " ".join((row.photo, row.building, row.note, row.error, row.camera or "")).casefold()


def _spoken(row: PriorityRow) -> str:
    told = "" if row.damage_percent is None else f", damage {percent_text(row.damage_percent)}"
    return f"{row.photo}{told}"


def _short(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _band(name: str) -> str:
    return f"{BANDS[name].icon} {name}" if name in BANDS else name


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


def _falling(text: str) -> tuple[int, ...]:
    """Sorts text from the last to the first."""
    return tuple(-ord(c) for c in text) or (1,)
