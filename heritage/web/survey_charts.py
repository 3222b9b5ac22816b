"""Charts of a survey; Streamlit gives them the theme's colours, bands keep theirs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from html import escape

import plotly.graph_objects as go
import streamlit as st

from heritage.bands import BANDS, BandThresholds
from heritage.figures import percent_text, shown_percent
from heritage.priority import PriorityRow
from heritage.web.charts import HEIGHT_PX, new_figure

BUILDINGS_SHOWN = 20
BIN_PERCENT = 5
DEGREE_KM = 111.32


def damage_histogram(rows: Sequence[PriorityRow], edges: BandThresholds) -> go.Figure:
    """How many photos there are at each damage %, coloured by band."""
    chart = new_figure()
    for name in reversed(BANDS):
        chart.add_histogram(
            # 100 itself would begin a bin of its own, beyond the axis.
            x=[shown_percent(row.damage_percent or 0.0) for row in rows if row.band == name],
            xbins={"start": 0, "end": 100, "size": BIN_PERCENT},
            name=name,
            marker_color=band_colour(name),
            hovertemplate="%{x} %: %{y} photos<extra>" + name + "</extra>",
        )
    chart.update_layout(barmode="stack", bargap=0.04)
    chart.update_xaxes(title="Damage %", range=[0, 100])
    chart.update_yaxes(title="Photos")
    for edge in (edges.watch_percent, edges.high_percent, edges.urgent_percent):
        chart.add_vline(x=edge, line={"width": 1, "dash": "dot", "color": "#8a8378"})
    return chart


def bands_per_building(rows: Sequence[PriorityRow]) -> go.Figure:
    """Photos per band for the buildings with the most urgent ones, the worst on top."""
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        bands = counts.setdefault(row.building or "no folder", dict.fromkeys(BANDS, 0))
        bands[row.band] += 1
    worst = sorted(counts, key=lambda name: tuple(-n for n in counts[name].values()))
    shown = worst[:BUILDINGS_SHOWN][::-1]
    chart = new_figure()
    for name in BANDS:
        chart.add_bar(
            y=shown,
            x=[counts[building][name] for building in shown],
            hovertext=[escape(building, quote=False) for building in shown],
            name=name,
            orientation="h",
            marker_color=band_colour(name),
            hovertemplate="%{hovertext}: %{x} photos<extra>" + name + "</extra>",
        )
    chart.update_layout(
        barmode="stack", legend_traceorder="normal", height=max(HEIGHT_PX, 60 + 26 * len(shown))
    )
    chart.update_xaxes(title="Photos")
    labels = [escape(_cut(building), quote=False) for building in shown]
    chart.update_yaxes(type="category", tickvals=shown, ticktext=labels)
    if len(worst) > len(shown):
        chart.update_layout(title=f"The {len(shown)} of {len(worst)} with the most urgent photos")
    return chart


def affected_scatter(rows: Sequence[PriorityRow]) -> go.Figure:
    """Affected area against damage %, a dot per photo."""
    chart = new_figure()
    for name in BANDS:
        some = [row for row in rows if row.band == name and row.evidence]
        chart.add_scattergl(
            x=[shown_percent(row.damage_percent or 0.0) for row in some],
            y=[row.affected_percent for row in some],
            text=[escape(row.photo, quote=False) for row in some],
            mode="markers",
            name=name,
            marker={"color": band_colour(name), "size": 6},
            hovertemplate="%{text}<br>%{x:.1f} %, %{y:.1f} % affected<extra></extra>",
        )
    chart.update_xaxes(title="Damage %", range=[-1, 101])
    chart.update_yaxes(title="Affected area, %", rangemode="tozero")
    return chart


def photo_map(rows: Sequence[PriorityRow]) -> go.Figure:
    """Photos with a position, north up, in metres from their middle; no map tiles needed."""
    placed = [r for r in rows if r.latitude is not None and r.longitude is not None]
    middle = sum(r.latitude or 0.0 for r in placed) / len(placed)
    east = sum(r.longitude or 0.0 for r in placed) / len(placed)
    metres = 1000 * DEGREE_KM
    chart = new_figure()
    for name in BANDS:
        some = [row for row in placed if row.band == name]
        chart.add_scattergl(
            x=[
                ((row.longitude or 0.0) - east) * metres * math.cos(math.radians(middle))
                for row in some
            ],
            y=[((row.latitude or 0.0) - middle) * metres for row in some],
            text=[escape(row.photo, quote=False) for row in some],
            customdata=[
                (percent_text(row.damage_percent or 0.0), row.latitude, row.longitude)
                for row in some
            ],
            mode="markers",
            name=name,
            marker={"color": band_colour(name), "size": 9},
            hovertemplate="%{text}<br>%{customdata[0]}<br>"
            "%{customdata[1]:.5f}, %{customdata[2]:.5f}<extra></extra>",
        )
    chart.update_xaxes(title="Metres east", zeroline=False)
    chart.update_yaxes(title="Metres north", scaleanchor="x", zeroline=False)
    chart.update_layout(height=HEIGHT_PX + 80)
    return chart


def run_against_run(
    pairs: Sequence[tuple[PriorityRow, PriorityRow]], titles: tuple[str, str]
) -> go.Figure:
    """Damage % by one run against that by another; photos on the line have not moved."""
    chart = new_figure()
    chart.add_scatter(
        x=[0, 100],
        y=[0, 100],
        mode="lines",
        line={"dash": "dot", "width": 1, "color": "#8a8378"},
        hoverinfo="skip",
        showlegend=False,
    )
    chart.add_scattergl(
        x=[shown_percent(before.damage_percent or 0.0) for before, _ in pairs],
        y=[shown_percent(after.damage_percent or 0.0) for _, after in pairs],
        text=[escape(after.photo, quote=False) for _, after in pairs],
        mode="markers",
        marker_size=6,
        hovertemplate="%{text}<br>%{x:.1f} % → %{y:.1f} %<extra></extra>",
        showlegend=False,
    )
    chart.update_xaxes(title=f"{titles[0]}, damage %", range=[-1, 101])
    chart.update_yaxes(title=f"{titles[1]}, damage %", range=[-1, 101])
    return chart


def building_over_time(points: Sequence[tuple[date, float, float, float]], title: str) -> go.Figure:
    """A figure of one building by visit: its highest value, and the middle half of its photos.

    Args:
        points: Date, lower quartile, median and highest value, in percent.
        title: What the values are.
    """
    chart = new_figure()
    days = [day for day, *_ in points]
    for name, index, dash in (("highest", 3, "solid"), ("median", 2, "dash")):
        chart.add_scatter(
            x=days,
            y=[point[index] for point in points],
            name=name,
            mode="lines+markers",
            line_dash=dash,
            hovertemplate="%{x|%Y-%m-%d}: %{y:.1f} %<extra>" + name + "</extra>",
        )
    chart.update_yaxes(title=f"{title}, %", range=[0, 101])
    chart.update_xaxes(tickformat="%Y-%m-%d", nticks=6)
    return chart


def band_colour(name: str) -> str:
    """The theme's colour of a band, as its badge has it."""
    theme = getattr(st.context.theme, "type", None) or "light"
    return str(st.get_option(f"theme.{theme}.{BANDS[name].colour}Color") or BANDS[name].colour)


def _cut(text: str, most: int = 32) -> str:
    """A long name by both its ends, as towers of one church differ in the one or the other."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"
