"""All surveys, and one building through several of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date

import numpy as np
import pandas as pd
import streamlit as st

from heritage.access import Role
from heritage.bands import BANDS
from heritage.figures import counted, percent_text
from heritage.priority import PriorityRow, once, ranked
from heritage.surveys import Run, Survey, Visit
from heritage.web.access import may, only_for_admins
from heritage.web.charts import PLAIN
from heritage.web.frame import errors_in_words, go_to_new_triage, plain
from heritage.web.inspection_view import band_badge
from heritage.web.models import data_url
from heritage.web.priority_table import verdict_badge
from heritage.web.survey_charts import building_over_time
from heritage.web.survey_data import band_counts, run_titles, set_going, store, thumbnail

PICTURES_A_VISIT = 8


def show_surveys() -> None:
    """The list of surveys; a chosen one is opened, renamed or deleted."""
    st.title("Surveys")
    surveys = store().surveys()
    if not surveys:
        st.markdown(
            "A survey is a photo set triaged together: its priority table, your verdicts, and what "
            "left it. There is none yet."
        )
        if st.button("Triage a photo set", type="primary", icon=":material/add:"):
            go_to_new_triage()
        return
    set_going()
    runs = {survey.id: store().runs(survey.id) for survey in surveys}
    _keep_choice([survey.id for survey in surveys])
    chosen = st.dataframe(
        pd.DataFrame([_line(survey, runs[survey.id]) for survey in surveys]),
        key="surveys",
        hide_index=True,
        height="content",
        on_select="rerun",
        selection_mode="single-row",
        placeholder="",
        column_config={
            "Visited": st.column_config.DateColumn(format="YYYY-MM-DD"),
            "Entered": st.column_config.DatetimeColumn("Entered, UTC", format="YYYY-MM-DD HH:mm"),
            "Read": st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1),
        },
    )
    picked = chosen["selection"]["rows"]
    survey = surveys[picked[0]] if picked and picked[0] < len(surveys) else None
    with st.container(horizontal=True):
        if st.button("Open", type="primary", icon=":material/folder_open:", disabled=not survey):
            assert survey
            st.switch_page("pages/2_Triage.py", query_params={"survey": str(survey.id)})
        deletable = survey is not None and may(Role.ADMIN)
        if st.button(
            "Delete …", icon=":material/delete:", disabled=not deletable, help=only_for_admins()
        ):
            assert survey
            _confirm_deletion(survey)
        if st.button("New triage", icon=":material/add:"):
            go_to_new_triage()
    if not survey:
        st.caption("Choose a survey in the table to open or delete it.")


def _keep_choice(ids: Sequence[int]) -> None:
    """Moves the choice along with its survey, where others came or went meanwhile."""
    before = st.session_state.get("surveys_shown", ids)
    st.session_state["surveys_shown"] = ids
    rows = st.session_state.get("surveys", {}).get("selection", {}).get("rows", [])
    if before == ids or not rows:
        return
    there = [ids.index(before[row]) for row in rows if row < len(before) and before[row] in ids]
    st.session_state["surveys"] = {"selection": {"rows": there, "columns": [], "cells": []}}


def _line(survey: Survey, runs: Sequence[Run]) -> dict[str, object]:
    run = runs[0] if runs else None
    bands = band_counts(survey, run) if run else dict.fromkeys(BANDS, 0)
    return {
        "Survey": survey.name,
        "Site": survey.site,
        "Visited": survey.visited_on,
        "Photos": survey.photos,
        **{f"{BANDS[name].icon} {name}": count for name, count in bands.items()},
        "Read by": run.reader if run else "",
        "Read": run.done / survey.photos if run and survey.photos else 0.0,
        "State": run.status if run else "not begun",
        "Entered": survey.created_at,
    }


@st.dialog("Delete this survey?")
def _confirm_deletion(survey: Survey) -> None:
    st.markdown(
        f"**{plain(survey.name)}** with its {counted(survey.photos)}, what was found in them, and "
        "all verdicts will be gone. Photos that no other survey holds are removed from this "
        "computer. Your own files stay where they are."
    )
    with st.container(horizontal=True):
        agreed = st.button("Delete it", type="primary", icon=":material/delete:")
        if st.button("Keep it"):
            st.rerun()
    if agreed:
        with errors_in_words():
            store().delete_survey(survey.id)
            st.session_state.pop("surveys", None)
            st.rerun()


def show_buildings() -> None:
    """A building in all surveys that show it: figures by date, and its photos side by side."""
    buildings = store().buildings()
    if not buildings:
        return
    st.markdown("## A building over time")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        building = st.selectbox("Building", buildings, key="building", width=420)
        reader = _chosen_reader(store().readers(building))
    visits = store().visits(building, reader) if reader else []
    if not visits:
        st.caption("Its photos have not been read yet.")
        return
    if len(visits) == 1:
        st.caption(
            "Only one survey shows it. Triage photos of another visit whose folder has the same "
            "name, or call the building the same under Settings there, and they stand side by side."
        )
    else:
        _show_course(visits)
    for column, visit in zip(
        st.columns(max(2, min(4, len(visits))), gap="large"), visits[-4:], strict=False
    ):
        with column:
            _show_visit(visit)


def _chosen_reader(readers: Sequence[Run]) -> Run | None:
    """Whose answers are shown; asked where several have read the building."""
    if len(readers) < 2:
        return readers[0] if readers else None
    times = Counter(run.reader for run in readers)
    # Trained anew, a checkpoint keeps its name.
    titles = run_titles(readers)
    by_name = {titles[run.id] if times[run.reader] > 1 else run.reader: run for run in readers}
    chosen = st.selectbox(
        "Read by",
        list(by_name),
        width=300,
        help="Only answers of one backbone compare, and those of its detail scan only with one "
        "another. Surveys that it has not read are left out; let it read them under Runs.",
    )
    return by_name[chosen]


def _show_course(visits: Sequence[Visit]) -> None:
    left, right = st.columns(2, gap="large")
    for column, title, field in (
        (left, "Damage", "damage_percent"),
        (right, "Affected area", "affected_percent"),
    ):
        with column:
            st.markdown(f"#### {title}")
            chart = building_over_time(_points(visits, field), title)
            st.plotly_chart(chart, config=PLAIN, key=f"course_{field}")
    st.caption(
        "The highest photo and the middle one of each visit. Different photos were taken on each: "
        "a line that rises is a reason to look, not a measurement of decay."
    )
    if not all(visit.survey.visited_on for visit in visits):
        st.caption(
            "A survey without the date of its visit stands on the day it was entered; its Settings "
            "take the date."
        )


def _points(visits: Sequence[Visit], field: str) -> list[tuple[date, float, float, float]]:
    points = []
    for visit in visits:
        values = [v for row in once(visit.rows) if (v := getattr(row, field)) is not None]
        if values:
            low, middle, high = np.percentile(values, (25, 50, 100))
            points.append((visit.when, float(low), float(middle), float(high)))
    return points


def _show_visit(visit: Visit) -> None:
    entered = "" if visit.survey.visited_on else "Entered "
    st.markdown(f"#### {entered}{visit.when.day} {visit.when:%B %Y}")
    st.caption(
        f"{plain(visit.survey.name)}, {counted(len(visit.rows))}, read by {plain(visit.run.reader)}"
    )
    for row in once(ranked(visit.rows, visit.survey.thresholds))[:PICTURES_A_VISIT]:
        _show_photo(visit.run, row)
    if st.button("Open the survey", key=f"visit_{visit.survey.id}", icon=":material/folder_open:"):
        st.switch_page("pages/2_Triage.py", query_params={"survey": str(visit.survey.id)})


def _show_photo(run: Run, row: PriorityRow) -> None:
    small = thumbnail(run.id, row, heat=True)
    if small:
        st.image(data_url("image/jpeg", small), width=256, alt=row.photo)
    told = "not read" if row.damage_percent is None else percent_text(row.damage_percent)
    badge = band_badge(BANDS[row.band]) if row.band else ""
    said = verdict_badge(row.verdict) if row.verdict else ""
    st.markdown(f"{badge} **{told}** {said}")
    st.caption(plain(row.photo.rsplit("/", 1)[-1]))
