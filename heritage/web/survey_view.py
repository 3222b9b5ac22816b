"""One survey: how far it is, its table, pictures, charts, verdicts, runs, and the way out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from functools import partial

import pandas as pd
import streamlit as st

from heritage.access import Role, Visitor
from heritage.bands import BANDS, EDGE_STEP_PERCENT, BandThresholds
from heritage.errors import DatabaseAwayError, HeritageError, NoSurveyError
from heritage.figures import counted, shown_percent
from heritage.priority import (
    DAMAGED,
    SOUND,
    PriorityRow,
    agreement,
    answer_at,
    judged,
    once,
)
from heritage.surveys import DONE, FAILED, STOPPED, WAITING, Run, Survey
from heritage.web.access import may, only_for_admins, visitor
from heritage.web.charts import PLAIN, confusion_chart
from heritage.web.frame import errors_in_words, for_visitors, plain
from heritage.web.inspection_view import band_badge, say_how_it_scans
from heritage.web.models import choose_checkpoint, show_how_to_train
from heritage.web.priority_table import show_pictures, show_table, start_filters_anew
from heritage.web.survey_charts import (
    affected_scatter,
    bands_per_building,
    damage_histogram,
    photo_map,
    run_against_run,
)
from heritage.web.survey_data import (
    handover,
    labelled_bytes,
    labels_manifest,
    note_export,
    rows_of,
    run_titles,
    set_going,
    store,
    worth_another_try,
)
from heritage.web.triage_input import add_photos, detail_switch, show_budget, visit_day

SHOWN_EVERY_S = 2.0
TABLE_FOLLOWS_S = 5.0
TABLE, PICTURES, CHARTS = "Table", "Pictures", "Charts"
VERDICTS, RUNS, OUT, SETTINGS = "Verdicts", "Runs", "Hand on", "Settings"
FASTEST_KNOWN_S = 3.0  # before that, a pace says nothing yet


def chosen_survey() -> int | None:
    """The number of the survey that the address names, or else of the one open before.

    The browser's way back does not bring the rest of the address along.
    """
    given = st.query_params.get("survey", "") or st.session_state.get("open_survey", "")
    if not (given.isascii() and given.isdigit() and len(given) < 10):
        return None
    st.session_state["open_survey"] = st.query_params["survey"] = given
    return int(given)


def show_survey(survey_id: int) -> None:
    """The whole view of one survey."""
    try:
        survey = store().survey(survey_id)
    except NoSurveyError:
        st.session_state.pop("open_survey", None)
        st.title("This survey is not here")
        st.markdown("It may have been deleted, or the link is of another computer.")
        if st.button("All surveys", type="primary", icon=":material/folder_open:"):
            st.switch_page("pages/3_Surveys.py")
        return
    if st.session_state.get("filters_of", survey_id) != survey_id:
        start_filters_anew()
        st.session_state["survey_view"] = TABLE
    st.session_state["filters_of"] = survey_id
    set_going()
    _heading(survey)
    runs = store().runs(survey.id)
    run = _chosen_run(runs)
    if run is None:
        st.info("No backbone has read these photos yet.", icon=":material/info:")
        _show_runs(survey, runs)
        return
    rows = rows_of(survey, run)
    if run.unfinished:
        st.session_state["shown"] = (run.done, time.monotonic())
        st.session_state["page_runs"] = True
        try:
            _show_progress(run.id)
        finally:
            st.session_state["page_runs"] = False
    elif run.status != DONE or run.failed or run.done < run.photos:
        _show_end(run, rows)
    _show_counts(rows, survey)
    view = st.segmented_control(
        "View",
        (TABLE, PICTURES, CHARTS, VERDICTS, RUNS, OUT, SETTINGS),
        default=TABLE,
        required=True,
        key="survey_view",
        persist_state="session",
        label_visibility="collapsed",
    )
    if view == TABLE:
        show_table(survey, run, rows)
    elif view == PICTURES:
        show_pictures(survey, run, rows)
    elif view == CHARTS:
        _show_charts(rows, survey, run)
    elif view == VERDICTS:
        _show_agreement(survey, run, rows)
    elif view == RUNS:
        _show_runs(survey, runs)
    elif view == OUT:
        _show_downloads(survey, run, rows)
    else:
        _show_settings(survey, rows)


def _heading(survey: Survey) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.title(plain(survey.name))
        st.space("stretch")
        if st.button("New triage", icon=":material/add:"):
            st.query_params.clear()
            st.session_state.pop("open_survey", None)
            st.rerun()
        if st.button("All surveys", icon=":material/folder_open:"):
            st.switch_page("pages/3_Surveys.py")
    day = survey.visited_on
    facts = [
        plain(survey.site),
        f"visited {day.day} {day:%B %Y}" if day else "",
        counted(survey.photos),
    ]
    st.caption(" · ".join(fact for fact in facts if fact))


def _chosen_run(runs: Sequence[Run]) -> Run | None:
    if not runs:
        return None
    by_id = {run.id: run for run in runs}
    begun = st.session_state.pop("begun_run", None)
    if len(runs) == 1:
        return runs[0]
    newest = runs[0].id
    looked_at, newest_then = st.session_state.get("run_looked_at", (None, None))
    if begun in by_id:
        st.session_state["survey_run"] = begun
    elif "survey_run" not in st.session_state and newest_then == newest:
        st.session_state["survey_run"] = looked_at
    if st.session_state.get("survey_run", newest) not in by_id:
        st.session_state["survey_run"] = newest
    chosen = st.selectbox(
        "Read by",
        list(by_id),
        format_func=run_titles(runs).__getitem__,
        key="survey_run",
        width=420,
    )
    st.session_state["run_looked_at"] = (chosen, newest)
    return by_id[chosen]


# --- progress --------------------------------------------------------------------------------


@st.fragment(run_every=SHOWN_EVERY_S)
def _show_progress(run_id: int) -> None:
    """A fragment: it looks every few seconds, and the page follows when there is news.

    Not while the page itself runs: what was clicked, further down, would be lost.
    """
    by_itself = not st.session_state["page_runs"]
    try:
        run = store().run(run_id)
        set_going()
    except DatabaseAwayError as error:
        st.warning(
            f"{plain(for_visitors(error).capitalize())}. The triage waits for it and goes on by "
            "itself.",
            icon=":material/cloud_off:",
        )
        return
    except HeritageError:
        if by_itself:
            st.rerun()
        return
    if not store().files.has_room():
        st.error(
            "The disk of this computer is full. Make room; the triage then goes on where it was.",
            icon=":material/disc_full:",
        )
    if not run.unfinished:
        if by_itself:
            st.rerun()
        return
    pace = _pace(run)
    words = [f"{run.done:,} of {counted(run.photos)}"]
    if pace:
        words += [f"{pace:.1f} photos/s", f"about {_duration((run.photos - run.done) / pace)} left"]
    elif run.status == WAITING and run.done == 0:
        words.append("waiting for its turn")
    if run.failed:
        words.append(f"{run.failed} not readable")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(run.done / max(1, run.photos), " · ".join(words))
        if st.button(
            "Stop",
            icon=":material/stop:",
            key=f"stop_{run.id}",
            disabled=run.status == "stopping" or not may(Role.INSPECTOR),
            help="What is done is kept; it can go on later.",
        ):
            store().ask_to_stop(run.id)
            st.rerun()
    done, at = st.session_state["shown"]
    # Not at every photo, or the page would begin anew before it has drawn the table.
    if by_itself and run.done != done and time.monotonic() - at > TABLE_FOLLOWS_S:
        st.rerun()


def _pace(run: Run) -> float | None:
    """Photos a second in this stretch of work; None until it can be told."""
    first = st.session_state.setdefault("pace_from", {})
    if run.id not in first or first[run.id][0] > run.done:
        first[run.id] = (run.done, run.seconds)
    done, seconds = first[run.id]
    worked = run.seconds - seconds
    return (run.done - done) / worked if worked > FASTEST_KNOWN_S and run.done > done else None


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return "a minute"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _show_end(run: Run, rows: Sequence[PriorityRow]) -> None:
    left = run.photos - run.done
    if run.status == FAILED:
        st.error(f"The triage broke off: {plain(run.error)}.", icon=":material/error:")
    elif run.status == STOPPED:
        st.info(f"Stopped; {counted(left)} not read yet.", icon=":material/pause_circle:")
    elif run.status == DONE and left:
        st.info(f"{counted(left)} added and not read yet.", icon=":material/info:")
    with st.container(horizontal=True, gap="small"):
        if (left or run.status in (FAILED, STOPPED)) and st.button(
            "Go on",
            type="primary",
            icon=":material/play_arrow:",
            disabled=not may(Role.INSPECTOR),
        ):
            store().resume(run.id)
            set_going()
            st.rerun()
        again = worth_another_try(rows)
        if again and st.button(
            f"Try again to read {again}",
            icon=":material/refresh:",
            type="tertiary",
            disabled=not may(Role.INSPECTOR),
        ):
            store().retry_failed(run.id)
            set_going()
            st.rerun()


# --- counts and charts -----------------------------------------------------------------------


def _show_counts(rows: Sequence[PriorityRow], survey: Survey) -> None:
    edges = survey.thresholds
    above = {
        "Urgent": f"≥ {edges.urgent_percent:g} %",
        "High": f"≥ {edges.high_percent:g} %",
        "Watch": f"≥ {edges.watch_percent:g} %",
        "Sound": f"< {edges.watch_percent:g} %",
    }
    photos = once(rows)
    lines = [
        f"{band_badge(band)} **{sum(row.band == name for row in photos):,}** "
        f":small[:gray[{above[name]}]]"
        for name, band in BANDS.items()
    ]
    for title, count in (
        ("Your verdicts", sum(bool(row.verdict) for row in photos)),
        ("Duplicates", sum(bool(row.duplicate_of) for row in rows)),
        ("Not readable", sum(bool(row.error) for row in rows)),
    ):
        if count:
            lines.append(f":gray-badge[{title}] **{count:,}**")
    st.markdown(" &emsp; ".join(lines))


def _show_charts(rows: Sequence[PriorityRow], survey: Survey, run: Run) -> None:
    answered = [row for row in once(rows) if row.damage_percent is not None]
    if not answered:
        st.info("The charts fill as photos are read.", icon=":material/bar_chart:")
        return
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("#### How damage % is spread")
        st.plotly_chart(damage_histogram(answered, survey.thresholds), config=PLAIN)
        st.markdown("#### Damage % and affected area")
        st.plotly_chart(affected_scatter(answered), config=PLAIN)
        if not run.absolute:
            st.caption("Affected area is relative within each photo: it says where, not how bad.")
    with right:
        st.markdown("#### Bands by building")
        st.plotly_chart(bands_per_building(answered), config=PLAIN)
        st.markdown("#### Where the photos were taken")
        placed = [row for row in answered if row.latitude is not None]
        if placed:
            st.plotly_chart(photo_map(placed), config=PLAIN)
            st.caption(
                f"{counted(len(placed))} with a position, north up, distances true. No map is "
                "drawn beneath, so that this works without internet; for that, hand on GeoJSON."
            )
        else:
            st.caption("None of these photos has a GPS position.")
    st.caption("Photos with the same bytes count once.")


# --- verdicts --------------------------------------------------------------------------------


def _show_agreement(survey: Survey, run: Run, rows: Sequence[PriorityRow]) -> None:
    threshold = survey.thresholds.high_percent
    counts = agreement(rows, threshold)
    total = sum(counts.values())
    if total:
        _show_where_they_agree(rows, threshold, counts)
    elif any(row.verdict for row in rows):
        st.info(
            "No photo that has been read was found damaged or sound yet; only these are compared "
            "with the model.",
            icon=":material/gavel:",
        )
    else:
        st.info(
            "Nobody has said yet what these photos show. Open one in **Table** and press **D** "
            "(damaged), **S** (sound) or **U** (unsure).",
            icon=":material/gavel:",
        )
    if any(row.verdict for row in rows) or store().has_verdicts():
        _show_proposal(survey, rows)
        _show_learning(survey, run, rows)


def _show_where_they_agree(
    rows: Sequence[PriorityRow], threshold: float, counts: dict[str, int]
) -> None:
    total = sum(counts.values())
    differing = [row for row in judged(rows) if answer_at(row, threshold) != row.verdict]
    left, right = st.columns((2, 3), gap="large")
    with left:
        st.markdown("#### Your verdicts and the model")
        st.plotly_chart(
            confusion_chart(
                {
                    f"{verdict}_called_{answer}": counts[f"{verdict}_as_{answer}"]
                    for verdict in (DAMAGED, SOUND)
                    for answer in (DAMAGED, SOUND)
                }
            ),
            config=PLAIN,
        )
        same = total - len(differing)
        st.caption(
            f"They agree on {same:,} of {counted(total)} ({same / total:.0%}). The model counts "
            f"as saying damaged from {threshold:g} % (High). Verdicts of unsure are left out."
        )
    with right:
        st.markdown("#### Where they differ")
        if differing:
            st.dataframe(
                pd.DataFrame(
                    {
                        "Photo": [row.photo for row in differing],
                        "Damage %": [shown_percent(row.damage_percent or 0) for row in differing],
                        "Verdict": [row.verdict for row in differing],
                        "Note": [row.note for row in differing],
                        "By": [row.verdict_by for row in differing],
                    }
                ),
                hide_index=True,
                column_config={"Damage %": st.column_config.NumberColumn(format="%.1f")},
            )
        else:
            st.caption("Nowhere.")


def _show_learning(survey: Survey, run: Run, rows: Sequence[PriorityRow]) -> None:
    st.markdown("#### Learn from them")
    st.markdown(
        "Photos you found damaged or sound are labels. Train a backbone on them here, or take them "
        "along as a folder that `python -m heritage train` reads."
    )
    lost = {
        row.sha256 or row.photo for row in rows if row.error and row.verdict in (DAMAGED, SOUND)
    }
    if lost:
        st.caption(f"Left out, as it could not be read: {counted(len(lost))} with a verdict.")
    from heritage.handover import LARGEST_ZIP_BYTES

    size = labelled_bytes(survey, run)
    labelled = any(row.verdict in (DAMAGED, SOUND) and not row.error for row in rows)
    with st.container(horizontal=True):
        if st.button(
            "Train on all verdicts",
            icon=":material/model_training:",
            disabled=not may(Role.ADMIN),
            help=only_for_admins(),
        ):
            with errors_in_words():
                st.session_state["training_data"] = labels_manifest()
                st.switch_page("pages/5_Train.py")
        st.download_button(
            "Labelled photos (ZIP)",
            partial(_training_zip, survey, run, visitor()),
            "labelled-photos.zip",
            "application/zip",
            on_click="ignore",
            icon=":material/folder_zip:",
            disabled=size > LARGEST_ZIP_BYTES or not labelled,
        )
    if size > LARGEST_ZIP_BYTES:
        st.caption(
            f"These photos are {size / 2**30:.1f} GB, more than one ZIP is made of "
            f"({LARGEST_ZIP_BYTES / 2**30:.0f} GB): use **Train on all verdicts**, which reads "
            "them where they are kept."
        )
    st.caption(
        "The ZIP holds the files as they were given, with all that cameras write into them, such "
        "as the position and the camera's serial number."
    )


def _show_proposal(survey: Survey, rows: Sequence[PriorityRow]) -> None:
    from heritage.edges import LEAST_EACH, propose

    now = survey.thresholds
    found = propose(rows, now)
    st.markdown("#### Bands for photos like these")
    if found is None:
        st.caption(
            f"With {LEAST_EACH} photos found damaged and {LEAST_EACH} found sound, your verdicts "
            "also tell where the bands should begin for photos like these."
        )
        return
    basis = f"{found.damaged:,} damaged and {found.sound:,} sound"
    if not found.helps:
        st.caption(
            f"The bands fit your verdicts ({basis}): no other place is better than High from "
            f"{now.high_percent:g}\u00a0%."
        )
        return
    low, high = found.gain_percent
    st.markdown(
        f"Your verdicts ({basis}) put the line between sound and damaged at "
        f"**{found.thresholds.high_percent:g}\u00a0%** rather than {now.high_percent:g}\u00a0%. "
        f"The model would then see **{found.then_percent:.0f}\u00a0%** of them as you do, instead "
        f"of {found.now_percent:.0f}\u00a0%.",
        help="Both kinds count half, whatever their numbers. Checked on verdicts that were left "
        "out in turn.",
    )
    st.caption(
        f"The gain lies between {low:+.0f} and {high:+.0f} points (95 %)"
        f"{'' if low > 0 else '; more verdicts make it more certain'}. Damage % and the order of "
        "the photos stay as they are; the bands move, for this survey, and **Settings** moves them "
        "back."
    )
    if may(Role.INSPECTOR) and st.button(
        f"Move the bands: {_edges(found.thresholds)}", icon=":material/tune:"
    ):
        with errors_in_words():
            store().edit_survey(survey.id, thresholds=found.thresholds)
            st.rerun()


def _edges(thresholds: BandThresholds) -> str:
    return (
        f"Watch {thresholds.watch_percent:g}, High {thresholds.high_percent:g}, "
        f"Urgent {thresholds.urgent_percent:g} %"
    )


def _training_zip(survey: Survey, run: Run, who: Visitor) -> bytes:
    from heritage.handover import training_zip

    note_export(who, survey, run, "labelled photos")
    return training_zip(handover(run.id))


# --- runs ------------------------------------------------------------------------------------


def _show_runs(survey: Survey, runs: Sequence[Run]) -> None:
    st.markdown("#### Read by")
    if runs:
        st.dataframe(
            pd.DataFrame(
                {
                    "Backbone": [run.reader for run in runs],
                    "Started": [run.created_at for run in runs],
                    "State": [run.status for run in runs],
                    "Photos": [run.done for run in runs],
                    "Not readable": [run.failed for run in runs],
                    "Minutes": [run.seconds / 60 for run in runs],
                }
            ),
            hide_index=True,
            column_config={
                "Started": st.column_config.DatetimeColumn(
                    "Started, UTC", format="YYYY-MM-DD HH:mm"
                ),
                "Minutes": st.column_config.NumberColumn(format="%.1f"),
            },
        )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        card = choose_checkpoint()
        detail = detail_switch(card)
        if (
            st.button(
                "Read with this backbone",
                icon=":material/play_arrow:",
                disabled=card is None
                or any(run.unfinished for run in runs)
                or not may(Role.INSPECTOR),
                help="The photos are read again; the runs before stay, to be compared.",
            )
            and card
        ):
            run = store().run_with(survey.id, card, detail=detail)
            st.session_state["begun_run"] = run.id  # the box that shows it is drawn already
            set_going()
            st.rerun()
    if card:
        say_how_it_scans(card)
    if detail and card:
        show_budget(card, survey.photos)
    if card is None:
        show_how_to_train(st.session_state.get("checkpoint"))
    finished = {run.id: run for run in runs if run.done > run.failed}
    if len(finished) > 1:
        _compare(survey, finished)
    if finished and len(runs) > 1:
        _offer_removal(runs)


def _compare(survey: Survey, finished: dict[int, Run]) -> None:
    st.markdown("#### Compare two runs")
    ids = list(finished)
    titles = run_titles(finished.values())
    with st.container(horizontal=True):
        left, right = (
            st.selectbox(
                label,
                ids,
                index=index,
                format_func=titles.__getitem__,
                key=f"compare_{index}",
                width=380,
            )
            for index, label in ((1, "Earlier"), (0, "Later"))
        )
    before = {row.photo_id: row for row in rows_of(survey, finished[left])}
    pairs = [
        (before[row.photo_id], row)
        for row in once(rows_of(survey, finished[right]))
        if row.photo_id in before
        and row.damage_percent is not None
        and before[row.photo_id].damage_percent is not None
    ]
    if left == right or not pairs:
        st.caption("Choose two different runs that have read the same photos.")
        return
    moved = sum(a.band != b.band for a, b in pairs)
    chart, table = st.columns(2, gap="large")
    with chart:
        readers = finished[left].reader, finished[right].reader
        st.plotly_chart(run_against_run(pairs, readers), config=PLAIN)
    with table:
        st.markdown(f"In another band: **{moved:,}** of {counted(len(pairs))}.")
        st.dataframe(
            pd.DataFrame(
                {
                    "Photo": [b.photo for _, b in pairs],
                    "Earlier, %": [shown_percent(a.damage_percent or 0.0) for a, _ in pairs],
                    "Later, %": [shown_percent(b.damage_percent or 0.0) for _, b in pairs],
                    "Change": [_change(a, b) for a, b in pairs],
                    "Verdict": [b.verdict for _, b in pairs],
                }
            ).sort_values("Change", key=abs, ascending=False),
            hide_index=True,
            column_config={
                name: st.column_config.NumberColumn(format="%.1f")
                for name in ("Earlier, %", "Later, %", "Change")
            },
        )


def _change(before: PriorityRow, after: PriorityRow) -> float:
    return (after.damage_percent or 0.0) - (before.damage_percent or 0.0)


def _offer_removal(runs: Sequence[Run]) -> None:
    with st.expander("Remove a run", key="remove_a_run"):
        by_id = {run.id: run for run in runs}
        titles = run_titles(runs)
        chosen = st.selectbox(
            "Run", list(by_id), format_func=titles.__getitem__, key="run_to_remove"
        )
        if st.button(
            "Remove what it found",
            icon=":material/delete:",
            disabled=not may(Role.ADMIN),
            help=only_for_admins(),
        ):
            _confirm_removal(by_id[chosen], titles[chosen])


@st.dialog("Remove a run?")
def _confirm_removal(run: Run, title: str) -> None:
    st.markdown(
        f"What **{plain(title)}** found in {counted(run.done)} goes; it took "
        f"{_duration(run.seconds)}. Photos and verdicts stay."
    )
    with st.container(horizontal=True):
        if st.button("Remove it", type="primary", icon=":material/delete:"):
            with errors_in_words():
                store().delete_run(run.id)
                st.rerun()
        if st.button("Keep it"):
            st.rerun()


# --- the way out -----------------------------------------------------------------------------


def _show_downloads(survey: Survey, run: Run, rows: Sequence[PriorityRow]) -> None:
    from heritage.exports import safe_name
    from heritage.spreadsheets import MOST_OVERLAYS, MOST_PICTURED

    if not store().files.has_room():
        st.error(
            "The disk of this computer is full, and each file that leaves is written down first. "
            "Make room, then reload the page.",
            icon=":material/disc_full:",
        )
    if run.unfinished:
        st.info("Files made now hold what is done so far.", icon=":material/hourglass_top:")
    stem = safe_name(survey.name)
    placed = sum(row.latitude is not None for row in rows)
    for title, kind, mime, icon, words in (
        ("Table (CSV)", "csv", "text/csv", "table", "For spreadsheets and databases."),
        (
            "Workbook (XLSX)",
            "xlsx",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            "grid_on",
            "For Excel and LibreOffice, with thumbnails, a summary, and what the columns mean.",
        ),
        (
            "Report (PDF)",
            "pdf",
            "application/pdf",
            "picture_as_pdf",
            f"For people: summary, charts, the first {MOST_PICTURED} urgent photos with their "
            "overlays, and what the model cannot see.",
        ),
        (
            "Map (GeoJSON)",
            "geojson",
            "application/geo+json",
            "map",
            f"For QGIS and other GIS: {counted(placed)} with a position.",
        ),
        (
            "Everything (ZIP)",
            "zip",
            "application/zip",
            "folder_zip",
            f"All of these, and the overlays of the first {MOST_OVERLAYS} urgent photos.",
        ),
    ):
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            st.download_button(
                title,
                partial(_file, survey, run, kind, visitor()),
                f"{stem}.{kind}",
                mime,
                key=f"out_{kind}",
                on_click="ignore",
                icon=f":material/{icon}:",
                width=220,
            )
            st.caption(words)
    st.caption("Report and ZIP decode the urgent photos anew and take some seconds.")


def _file(survey: Survey, run: Run, kind: str, who: Visitor) -> bytes | str:
    note_export(who, survey, run, kind)
    return getattr(handover(run.id), kind)()


# --- settings --------------------------------------------------------------------------------


def _show_settings(survey: Survey, rows: Sequence[PriorityRow]) -> None:
    if not may(Role.INSPECTOR):
        st.info("Settings are changed by inspectors.", icon=":material/lock:")
        return
    bands, facts = st.columns(2, gap="large")
    with bands:
        st.markdown("#### Where the bands begin")
        now = survey.thresholds
        watch, high, urgent = (
            st.slider(
                f"{name}, from damage %",
                0.0,
                100.0,
                start,
                EDGE_STEP_PERCENT,
                format="%g %%",
                key=f"edge_{name}_{survey.id}_{now}",  # moved by others, it is another slider
            )
            for name, start in (
                ("Watch", now.watch_percent),
                ("High", now.high_percent),
                ("Urgent", now.urgent_percent),
            )
        )
        try:
            asked = BandThresholds(urgent, high, watch)
        except ValueError:
            st.warning("They must rise from Watch over High to Urgent.", icon=":material/warning:")
        else:
            if asked != now:
                store().edit_survey(survey.id, thresholds=asked)
                st.rerun()
        usual = BandThresholds()
        if now != usual and st.button(
            f"Back to the usual: {_edges(usual)}", icon=":material/restart_alt:"
        ):
            store().edit_survey(survey.id, thresholds=usual)
            st.rerun()
        st.caption("The table follows at once; no photo is read again.")
    with facts:
        st.markdown("#### About the survey")
        # Changed by others, each is another field, like the sliders.
        name = st.text_input("Name", survey.name, key=f"name_{survey.id}_{survey.name}")
        site = st.text_input("Site", survey.site, key=f"site_{survey.id}_{survey.site}")
        day = visit_day(survey.visited_on, key=f"day_{survey.id}_{survey.visited_on}")
        if st.button("Save", icon=":material/save:"):
            with errors_in_words():
                store().edit_survey(survey.id, name=name, site=site, visited_on=day)
                st.rerun()
        with st.expander("Add photos"):
            add_photos(survey)
        st.markdown("#### Buildings")
        _rename_buildings(survey, rows)


def _rename_buildings(survey: Survey, rows: Sequence[PriorityRow]) -> None:
    counts = Counter(row.building for row in rows)
    edited = st.data_editor(
        pd.DataFrame(
            {
                "Folder": list(counts),
                "Building": list(counts),
                "Photos": list(counts.values()),
            }
        ),
        hide_index=True,
        disabled=("Folder", "Photos"),
        key=f"buildings_{survey.id}_{survey.edits}",
        column_config={
            "Folder": st.column_config.TextColumn("Now"),
            "Building": st.column_config.TextColumn("Called", max_chars=200),
        },
    )
    st.caption("Photos of one building in several surveys are compared under **Surveys**.")
    called = edited["Building"].fillna("").str.strip()
    changed = edited[called != edited["Folder"]]
    for name, folders in edited.groupby(called)["Folder"]:
        if len(folders) > 1:
            together = " and ".join(plain(folder or "no building") for folder in folders)
            st.caption(
                f"{together} become one building, {plain(name) or 'none'}; only photo by photo "
                "could they be told apart again."
            )
    if len(changed) and st.button("Rename", icon=":material/edit:"):
        for old, new in zip(changed["Folder"], changed["Building"].fillna(""), strict=True):
            ids = [row.photo_id for row in rows if row.building == old]
            store().rename_building(survey.id, ids, new)
        st.rerun()
