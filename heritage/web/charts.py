"""The charts of the pages; Streamlit gives them the theme's colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from heritage.cards import ENDS
from heritage.training.config import EpochRecord

HEIGHT_PX = 300
PLAIN = {"displayModeBar": False}


def learning_curves(history: Sequence[EpochRecord]) -> tuple[go.Figure, go.Figure]:
    """Loss on train and validation, and how well validation photos are told apart, by epoch."""
    epochs = [record.epoch for record in history]
    loss, skill = (
        new_figure("Loss (lower is better)"),
        new_figure("On validation (higher is better)"),
    )
    loss.add_scatter(x=epochs, y=[r.train_loss for r in history], name="Train")
    loss.add_scatter(x=epochs, y=[r.validation_loss for r in history], name="Validation")
    skill.add_scatter(x=epochs, y=[r.validation_auroc for r in history], name="AUROC")
    skill.add_scatter(
        x=epochs, y=[r.validation_balanced_accuracy for r in history], name="Balanced accuracy"
    )
    for figure in (loss, skill):
        figure.update_traces(mode="lines+markers")
        figure.update_xaxes(title="Epoch", rangemode="tozero", dtick=_whole_ticks(epochs))
    skill.update_yaxes(range=[min([0.5, *(t for s in skill.data for t in s.y)]) - 0.02, 1.01])
    return loss, skill


def confusion_chart(confusion: dict[str, int]) -> go.Figure:
    """Photos by what they are (rows) and what they were called (columns), with their numbers."""
    names = ("damaged", "sound")
    counts = [[confusion.get(f"{t}_called_{a}", 0) for a in names] for t in names]
    shares = [[n / max(1, sum(row)) for n in row] for row in counts]
    figure = new_figure("")
    figure.add_heatmap(
        z=shares,
        x=[f"called {name}" for name in names],
        y=[f"{name} ({sum(row)})" for name, row in zip(names, counts, strict=True)],
        text=[
            [f"{n}<br>{share:.0%}" for n, share in zip(row, part, strict=True)]
            for row, part in zip(counts, shares, strict=True)
        ],
        texttemplate="%{text}",
        textfont_size=16,
        zmin=0,
        zmax=1.2,  # the darkest step would swallow the numbers
        colorscale=_theme_colours("chartSequentialColors"),
        showscale=False,
        hoverinfo="skip",
        xgap=2,
        ygap=2,
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(side="top")
    return figure


def reliability_chart(
    after: Sequence[dict[str, float]], before: Sequence[dict[str, float]]
) -> go.Figure:
    """Share of damaged photos against the probability told; on the diagonal it is honest.

    Bars, where `after` has their ends `low` and `high`, are what chance makes of honest answers.
    """
    figure = new_figure("")
    figure.add_scatter(
        x=[0, 100],
        y=[0, 100],
        mode="lines",
        name="honest",
        line={"dash": "dot", "width": 1, "color": "#8a8378"},
        hoverinfo="skip",
    )
    for name, bins, dash in (("before", before, "dash"), ("calibrated", after, "solid")):
        figure.add_scatter(
            x=[100 * b["probability"] for b in bins],
            y=[100 * b["damaged"] for b in bins],
            mode="lines+markers",
            name=name,
            line={"dash": dash},
            marker={"size": [4 + 2 * b["n"] ** 0.4 for b in bins]},
            customdata=[b["n"] for b in bins],
            hovertemplate="told %{x:.0f} %, damaged %{y:.0f} % of %{customdata} photos",
        )
    bars = [b for b in after if set(ENDS) <= set(b)]
    if bars:
        figure.add_bar(
            x=[100 * b["probability"] for b in bars],
            base=[100 * b["low"] for b in bars],
            y=[100 * (b["high"] - b["low"]) for b in bars],
            width=2.4,
            name="by chance",
            marker={"color": "#8a8378", "opacity": 0.35, "line": {"width": 0}},
            customdata=[[100 * b["low"], 100 * b["high"]] for b in bars],
            hovertemplate="by chance %{customdata[0]:.0f} to %{customdata[1]:.0f} %<extra></extra>",
        )
    figure.update_xaxes(title="Damage % told", range=[-3, 103])
    figure.update_yaxes(title="Photos that are damaged, %", range=[-3, 103])
    return figure


def trade_off_chart(rows: Sequence[dict[str, Any]]) -> go.Figure:
    """Accuracy against time for one photo, one bubble per checkpoint, its area the file's size.

    Args:
        rows: `title`, `accuracy_percent` with `low` and `high`, `speed_ratio`, `size_mb` each.
    """
    figure = new_figure("", height_px=420)
    for row in rows:
        figure.add_scatter(
            x=[row["speed_ratio"]],
            y=[row["accuracy_percent"]],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [row["high"] - row["accuracy_percent"]],
                "arrayminus": [row["accuracy_percent"] - row["low"]],
                "thickness": 1,
                "width": 3,
            },
            mode="markers+text",
            text=[row["title"]],
            textposition="middle right",
            marker={"size": 6 + 3.2 * row["size_mb"] ** 0.5, "opacity": 0.85},
            customdata=[[row["size_mb"], row["low"], row["high"]]],
            hovertemplate="<b>%{text}</b><br>%{y:.1f} % [%{customdata[1]:.1f}–%{customdata[2]:.1f}]"
            "<br>%{x:.2f} × the peer's time<br>%{customdata[0]:.1f} MB<extra></extra>",
            showlegend=False,
        )
    times = [row["speed_ratio"] for row in rows]
    figure.update_xaxes(
        title="Time for one photo (× the peer's, log scale)",
        type="log",
        range=[math.log10(min(times) / 1.5), math.log10(max(times) * 2.2)],
        tickvals=[digit * 10**power for power in range(-3, 3) for digit in (1, 2, 5)],
    )
    figure.update_yaxes(title="Balanced accuracy on other sources, %")
    return figure


def faithfulness_chart(curves: dict[str, list[float]]) -> go.Figure:
    """Damage % while the hottest places are hidden or uncovered first, and in random order."""
    figure = new_figure("")
    names = {
        "deletion": "hottest hidden first",
        "deletion_random": "hidden at random",
        "insertion": "hottest shown first",
        "insertion_random": "shown at random",
    }
    for name, title in names.items():
        values = curves.get(name, [])
        figure.add_scatter(
            x=[100 * step / max(1, len(values) - 1) for step in range(len(values))],
            y=[100 * value for value in values],
            mode="lines",
            name=title,
            line={"dash": "dot" if name.endswith("random") else "solid"},
        )
    figure.update_xaxes(title="Share of the photo, %")
    figure.update_yaxes(title="Damage %, mean", range=[0, 100])
    return figure


def new_figure(title: str = "", height_px: int = HEIGHT_PX) -> go.Figure:
    """An empty figure in the look of all charts."""
    figure = go.Figure()
    figure.update_layout(
        title={"text": title, "font": {"size": 15}},
        height=height_px,
        margin={"l": 10, "r": 10, "t": 40 if title else 25, "b": 10},
        legend={"orientation": "h", "y": -0.3},
        hovermode="closest",
        colorway=_theme_colours("chartCategoricalColors"),
    )
    return figure


def _theme_colours(option: str) -> list[str] | None:
    """The colours that the theme in use sets; plotly's own would otherwise win."""
    shade = st.context.theme.type or "light"
    return st.get_option(f"theme.{shade}.{option}")


def _whole_ticks(epochs: Sequence[int]) -> int:
    return max(1, round(max(epochs, default=1) / 10))
