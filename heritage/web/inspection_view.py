"""One inspection on the page: the number first, then where, then what to take away."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from heritage.bands import BANDS, SOUND, Band
from heritage.cards import ModelCard
from heritage.errors import PhotoError
from heritage.figures import duration_text, percent_text, size_text
from heritage.methods import DETAIL_SCAN, METHODS
from heritage.overlays import COLOUR_MAPS, colour_table
from heritage.photos import Photo
from heritage.priority import PriorityRow
from heritage.surveys import Run, Survey, answers_alike
from heritage.web.frame import plain
from heritage.web.models import heat_url, photo_url, scan, scan_seconds
from heritage.web.viewer import Box, compare_viewer
from heritage.words import no_scan, nothing_hot

if TYPE_CHECKING:
    from heritage.inspection import Inspection

START_OPACITY_PERCENT = 60


def show_inspection(photo: Photo, whole: Inspection, card: ModelCard) -> None:
    """Shows damage %, overlay, regions, facts and downloads of one inspection.

    A detail scan is made where it is wanted, with the answer to the whole photo above it; where it
    cannot be made, that answer stays, with the reason as a warning.

    Raises:
        HeritageError: The checkpoint cannot be loaded.
    """
    inspection = whole
    answer = st.empty()
    with answer:
        show_answer(whole)
    detail = detail_wanted()
    if detail:
        progress = st.empty()
        try:
            with progress.container():
                inspection = scan(photo, card, whole)
        except PhotoError as error:
            inspection = replace(whole, warnings=(*whole.warnings, no_scan(error)))
            progress.empty()
        else:
            with answer:
                show_answer(inspection, key="answer-scan")
    _say_where_it_came_from(whole, card)
    for warning in inspection.warnings:
        st.warning(plain(warning), icon=":material/warning:")
    opacity = st.session_state.get("opacity", START_OPACITY_PERCENT)
    _show_overlay(photo, inspection, card, opacity, detail)


def came_from(row: PriorityRow, survey: Survey, run: Run) -> None:
    """Tells Inspect that this photo is looked at from a survey, maybe with bands of its own, and
    has it made the heat map that stands there."""
    st.session_state["came_from"] = (row, survey, run)
    st.session_state["checkpoint"] = run.checkpoint
    st.session_state["detail_scan"] = row.heat_map == DETAIL_SCAN
    if row.heat_map in METHODS:
        st.session_state["heat_method"] = row.heat_map


def show_way_back(photo: Photo) -> None:
    """A button to the survey that led here, where one did."""
    behind = _survey_behind(photo.sha256)
    if not behind:
        return
    _, survey, _ = behind
    if st.button(f"Back to {plain(survey.name)}", icon=":material/arrow_back:", type="tertiary"):
        st.session_state["open_survey"] = str(survey.id)
        st.switch_page("pages/2_Triage.py")


def _survey_behind(sha256: str) -> tuple[PriorityRow, Survey, Run] | None:
    """The row, the survey and the run from which this photo is looked at."""
    behind: tuple[PriorityRow, Survey, Run] | None = st.session_state.get("came_from")
    return behind if behind and behind[0].sha256 == sha256 else None


def _say_where_it_came_from(inspection: Inspection, card: ModelCard) -> None:
    """What the survey that led here says of the photo, where that is not what is said here."""
    behind = _survey_behind(inspection.sha256)
    if not behind:
        return
    row, survey, run = behind
    band = survey.thresholds.band(inspection.damage_percent)
    if run.checkpoint != card.name or not answers_alike(run.card, card):
        since = " before it was trained or calibrated anew" if run.checkpoint == card.name else ""
        st.caption(
            f"In the survey {plain(survey.name)} the photo has "
            f"{percent_text(row.damage_percent or 0.0)}, read by {plain(run.reader)}{since}."
        )
        return
    if run.detail and not answers_alike(run.card, card, detail=True):
        st.caption(
            f"In the survey {plain(survey.name)} a scan shows other heat: the head that points was "
            "trained or set anew since."
        )
    if band.name != inspection.band:
        st.caption(
            f"{inspection.band} is by the usual bands; in the survey {plain(survey.name)}, whose "
            f"bands were moved, the photo is {band_badge(band)}."
        )


def chosen_method() -> str:
    """How the heat map of the whole photo is to be made."""
    method = st.session_state.get("heat_method")
    return method if method in METHODS else next(iter(METHODS))


def detail_wanted() -> bool:
    """Whether the photo is to be scanned in detail."""
    return bool(st.session_state.get("detail_scan"))


def show_answer(inspection: Inspection, key: str = "answer") -> None:
    """The damage percentage with its band and what it means."""
    band = BANDS[inspection.band]
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key=key):
        st.metric("Damage", percent_text(inspection.damage_percent), width="content")
        st.metric(
            "Affected area",
            f"{inspection.affected_percent:.1f} %" if inspection.evidence else "–",
            width="content",
            help="Share of the photo that is hot in the heat map."
            if inspection.absolute
            else "Share of the photo that is hot in the heat map. Heat is relative within one "
            "photo: use it to compare places, not photos.",
        )
        with st.container(width=560, gap=None):
            st.markdown(f"{band_badge(band)} &nbsp; **{band.meaning}**")
            st.caption(
                "The probability that damage shows in this photo, not how much of the building is "
                "damaged. The model sees the surface in one picture; an expert decides."
            )
            if inspection.unsure:
                st.markdown(
                    ":gray-badge[:material/help: Unsure] &nbsp; Answers like this one were too "
                    "often wrong on photos kept aside while it learned. Look yourself."
                )


def band_badge(band: Band) -> str:
    """The band as Markdown: icon and word on its colour."""
    return f":{band.colour}-badge[{band.icon} {band.name}]"


@st.fragment
def _show_overlay(
    photo: Photo, inspection: Inspection, card: ModelCard, start_opacity: int, detail: bool
) -> None:
    """A fragment: changing colours or opacity repeats this part only, and never the inspection.

    `start_opacity` is where the slider stood at the last full run: as long as it stays the same,
    the viewer's message does, and its pictures are not sent again. `detail` is whether a detail
    scan was wanted then.
    """
    for key in ("hot_only", "boxes"):
        st.session_state.setdefault(key, True)
    look = st.container()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        _choose_heat(photo, inspection, card, detail)
        colour_map = st.selectbox(
            "Colours",
            list(COLOUR_MAPS),
            format_func=COLOUR_MAPS.__getitem__,
            width=280,
            key="colour_map",
            persist_state="session",
            disabled=not inspection.evidence,
        )
        hot_only = st.toggle(
            "Only where it is hot",
            key="hot_only",
            persist_state="session",
            disabled=not inspection.evidence,
            help="Leaves cold parts of the photo in their own colours. Off: the whole photo is "
            "tinted, as in the literature.",
        )
        show_boxes = st.toggle(
            "Boxes", key="boxes", persist_state="session", disabled=not inspection.regions
        )
        answer = inspection
        inspection, stage = _chosen_stage(answer)
    say_how_it_scans(card)
    with look:
        opacity = compare_viewer(
            photo_url=photo_url(photo.sha256, photo),
            heat_url=heat_url(inspection, card, stage, colour_map=colour_map, hot_only=hot_only)
            if inspection.evidence
            else None,
            aspect=photo.width / photo.height,
            title=photo.name,
            boxes=_boxes(inspection),
            opacity_percent=start_opacity,
            show_boxes=show_boxes,
            scale_note="the same in every photo"
            if inspection.absolute
            else "relative, within this photo",
            colour_bar=[f"rgb({r} {g} {b})" for r, g, b in colour_table(colour_map)[::15]],
            key="viewer",
        )
    st.session_state["opacity"] = opacity
    where, facts = st.columns((3, 2), gap="large")
    with where:
        _show_regions(inspection)
    with facts:
        _show_facts(photo, inspection, card)
    _show_downloads(photo, answer, inspection, opacity, colour_map, hot_only, show_boxes)


def _choose_heat(photo: Photo, inspection: Inspection, card: ModelCard, scanned: bool) -> None:
    """How the heat map is made; another choice inspects the photo anew."""
    detail = st.toggle(
        f"Detail scan, about {duration_text(scan_seconds(card, photo.width, photo.height))}",
        key="detail_scan",
        persist_state="session",
        help="Reads the photo at full size, tile by tile and at several scales, so that fine "
        "cracks show. Damage % stays that of the whole photo.",
    )
    method = st.selectbox(
        "Heat map",
        list(METHODS),
        format_func=METHODS.__getitem__,
        key="heat_method",
        persist_state="session",
        width=170,
        disabled=detail,
        help="How the heat of the whole photo is worked out. Grad-CAM is the one of the studies; "
        "how well each finds cracks is told under Backbones.",
    )
    if detail != scanned or (not detail and method != inspection.method):
        st.rerun()


def say_how_it_scans(card: ModelCard) -> None:
    """What a detail scan by this checkpoint cannot do, where it has no head that points."""
    if not card.pointing:
        st.caption(
            "This backbone has no head that points: its detail scan only compares the places of "
            "one photo with each other."
        )


def _chosen_stage(inspection: Inspection) -> tuple[Inspection, int]:
    """Of a cascade, the inspection with the heat of the stage that is chosen, and its number."""
    if not inspection.first_stage:
        return inspection, 2
    stage = st.segmented_control(
        "Heat map of",
        [2, 1],
        format_func=lambda number: f"stage {number}",
        default=2,
        required=True,
        key="stage",
        help="Stage 1 lays its heat over the photo; stage 2 reads that and gives the answer.",
    )
    return (inspection.first_stage, 1) if stage == 1 else (inspection, 2)


def _show_regions(inspection: Inspection) -> None:
    st.markdown("#### Where to look")
    if not inspection.evidence:
        st.markdown(nothing_hot(inspection.method))
        return
    if not inspection.regions:
        st.markdown("The heat is spread thinly: no single place stands out.")
        return
    if inspection.band == SOUND.name and not inspection.absolute:
        st.caption(
            "At so low a damage %, heat shows where the little that speaks for damage comes from. "
            "It is no finding."
        )
    st.dataframe(
        pd.DataFrame(
            [
                {
                    "Region": number,
                    "Share of heat": region.share_percent,
                    "From left": region.x,
                    "From top": region.y,
                    "Width": region.width,
                    "Height": region.height,
                }
                for number, region in enumerate(inspection.regions, start=1)
            ]
        ),
        hide_index=True,
        height="content",
        column_config={
            "Share of heat": st.column_config.NumberColumn(format="%.1f %%"),
            **{
                name: st.column_config.NumberColumn(format="%d px")
                for name in ("From left", "From top", "Width", "Height")
            },
        },
    )


def _show_facts(photo: Photo, inspection: Inspection, card: ModelCard) -> None:
    st.markdown("#### About the photo")
    place = (
        f"{inspection.latitude:.5f}, {inspection.longitude:.5f}"
        if inspection.latitude is not None and inspection.longitude is not None
        else "not recorded"
    )
    moment = photo.taken_at
    taken = f"{moment.day} {moment:%B %Y, %H:%M}" if moment else "not recorded"
    facts = {
        "Taken": taken,
        "Camera": plain(photo.camera) if photo.camera else "not recorded",
        "Place": place,
        "Size": f"{photo.width:,} × {photo.height:,} px".replace(",", "\u202f"),
        "File": f"{photo.format}, {size_text(len(photo.data))}",
        "Read by": plain(card.title),
    }
    st.markdown("\n".join(f"- {label}: **{value}**" for label, value in facts.items()))


def _show_downloads(
    photo: Photo,
    answer: Inspection,
    inspection: Inspection,
    opacity: int,
    colour_map: str,
    hot_only: bool,
    show_boxes: bool,
) -> None:
    """The overlay is of the heat that is shown; of a cascade, the JSON is of its answer always."""
    from heritage.exports import inspection_json, overlay_png, safe_stem

    stem = safe_stem(photo.name)
    with st.container(horizontal=True):
        st.download_button(
            "Overlay (PNG)",
            partial(
                overlay_png,
                photo,
                inspection,
                opacity_percent=opacity,
                colour_map=colour_map,
                hot_only=hot_only,
                boxes=show_boxes,
            ),
            f"{stem}.overlay.png",
            "image/png",
            on_click="ignore",
            icon=":material/image:",
            help="At the photo's full size, with the opacity and colours set above.",
        )
        st.download_button(
            "Inspection (JSON)",
            inspection_json(answer),
            f"{stem}.inspection.json",
            "application/json",
            on_click="ignore",
            icon=":material/data_object:",
        )


def _boxes(inspection: Inspection) -> list[Box]:
    return [
        Box(
            region.x / inspection.width,
            region.y / inspection.height,
            region.width / inspection.width,
            region.height / inspection.height,
            str(number),
        )
        for number, region in enumerate(inspection.regions, start=1)
    ]
