"""How figures and splits are called and printed: on pages, in the README, in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from heritage.cards import ModelCard

KNOWN, OTHER, VALIDATION = "test", "test_other_source", "validation"
FIGURE_TITLES = {
    "balanced_accuracy": "Balanced accuracy",
    "accuracy": "Accuracy",
    "auroc": "AUROC",
    "precision": "Precision, damaged",
    "f1": "F1",
    "recall_damaged": "Recall, damaged",
    "recall_sound": "Recall, sound",
    "ece": "Calibration error (ECE)",
    "brier": "Brier score",
}
SPLIT_TITLES = {
    OTHER: "Other sources",
    KNOWN: "Known sources",
    VALIDATION: "Validation",
    "all": "All photos",
}
AS_FRACTION = {"auroc", "ece", "f1", "brier"}


def interval_text(figures: dict[str, Any], name: str, *, value: bool = True) -> str:
    """A figure with its 95 % interval, such as `91.2 % [88.0–94.1]`; a dash where there is none.

    Without `value`, the interval alone.
    """
    found = figures.get(name)
    if not isinstance(found, dict):
        return "–"
    if name in AS_FRACTION:
        told, interval = f"{found['value']:.3f}", f"[{found['low']:.3f}–{found['high']:.3f}]"
    else:
        told = f"{found['value'] * 100:.1f} %"
        interval = f"[{found['low'] * 100:.1f}–{found['high'] * 100:.1f}]"
    return f"{told} {interval}" if value else interval


def chance_text(figures: dict[str, Any]) -> str:
    """The calibration error that chance would show of honest answers, such as `0.014–0.039`."""
    found = figures.get("ece_by_chance")
    return f"{found['low']:.3f}–{found['high']:.3f}" if found else "–"


def value_percent(figures: dict[str, Any], name: str) -> float | None:
    """A figure × 100 as a number, for tables that sort; None where there is none.

    With one decimal, rounded as `interval_text` does, so that page and README say the same.
    """
    found = figures.get(name)
    return float(f"{100 * found['value']:.1f}") if isinstance(found, dict) else None


def told_accuracy(card: ModelCard) -> tuple[str, float | None]:
    """The split whose balanced accuracy, in percent, speaks for a checkpoint, and that."""
    for split in (OTHER, KNOWN, VALIDATION):
        accuracy = value_percent(card.metrics.get(split, {}), "balanced_accuracy")
        if accuracy is not None:
            return split, accuracy
    return "", None


def in_told_order(cards: Sequence[ModelCard]) -> list[ModelCard]:
    """The one that the app begins with, then the others by the accuracy that is told of them."""

    def told(card: ModelCard) -> tuple[bool, float]:
        split, accuracy = told_accuracy(card)
        return split != OTHER, -(accuracy or 0.0)

    return [*cards[:1], *sorted(cards[1:], key=told)]


def duration_text(seconds: float) -> str:
    """A time for people, roughly."""
    if seconds < 1.5:
        return "a second"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def counted(count: int, noun: str = "photo") -> str:
    """`1 photo`, `2 photos`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size_text(size_bytes: int) -> str:
    """The size of a file as text, `3.2 MB` or `36 kB`."""
    if size_bytes < 100_000:
        return f"{max(1, round(size_bytes / 1000))} kB"
    return f"{size_bytes / 1e6:.1f} MB"


def p_text(p: float | None) -> str:
    """A p value as text with three decimals, never as none at all; a dash where there is no p."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def percent_text(percent: float) -> str:
    """A probability in percent with one decimal, never rounded to certainty or to another band."""
    if percent > 99.9:
        return "> 99.9 %"
    return "< 0.1 %" if percent < 0.1 else f"{shown_percent(percent):.1f} %"


def shown_percent(percent: float) -> float:
    """The same as a number, for tables and charts: 0.1 and 99.9 stand for all beyond them.

    Further decimals are cut off, as 84.96 % is not yet the 85.0 % that a band begins with.
    """
    return min(max(math.floor(round(10 * percent, 6)) / 10, 0.1), 99.9)


LOCALISATION_TITLES = {
    "pointing_game": "Pointing game",
    "energy": "Energy",
    "iou": "IoU",
}


def localisation_rows(card: ModelCard) -> list[dict[str, str]]:
    """How well each kind of heat map finds the crack, a line each, for tables."""
    rows = []
    for photos, found in card.localisation.items():
        for method, figures in found["methods"].items():
            told = {
                title: "{value:.3f} [{low:.3f}–{high:.3f}]".format(**figures[key])
                for key, title in LOCALISATION_TITLES.items()
            }
            first = next(iter(found["methods"].values()))
            ratio = f"{figures['seconds_a_photo'] / first['seconds_a_photo']:.1f} ×"
            rows.append(
                {"Photos": f"{photos}, n = {found['n']}", "Heat map": method}
                | told
                | {"Time": ratio}
            )
    return rows


def localisation_tables(cards: list[ModelCard]) -> str:
    """The tables of docs/localisation.md, one per checkpoint that was measured."""
    parts = []
    for card in cards:
        rows = localisation_rows(card)
        if not rows:
            continue
        chances = "; ".join(
            f"{photos}: {found['chance']:.4f}" for photos, found in card.localisation.items()
        )
        lines = [
            f"| {' | '.join(rows[0])} |",
            "|---|---|--:|--:|--:|--:|",
            *(f"| {' | '.join(row.values())} |" for row in rows),
        ]
        parts.append(f"### {card.title}\n\n" + "\n".join(lines) + f"\n\nChance: {chances}.")
    return "\n\n".join(parts)


BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
README_SOURCES = ("quake-triage", "old-city-wall")


def figures_table(cards: list[ModelCard]) -> str:
    """The README's table: one line per checkpoint, figures on photos it never saw."""
    lines = [
        "| Backbone | Parameters | Time | Other sources: balanced accuracy | whole buildings | "
        "close-ups of old masonry | Known sources: accuracy | AUROC | the same, turned: accuracy | "
        "Calibration error: known, other sources |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for card in cards:
        known, other = card.metrics.get(KNOWN, {}), card.metrics.get(OTHER, {})
        per_source = other.get("sources", {})
        cells = [
            card.title,
            f"{card.parameters / 1e6:.1f} M",
            f"{card.speed['ratio']:.2f} ×" if card.speed else "–",
            interval_text(other, "balanced_accuracy"),
            *(
                interval_text(per_source.get(name, {}), "balanced_accuracy")
                for name in README_SOURCES
            ),
            interval_text(known, "accuracy"),
            interval_text(known, "auroc"),
            interval_text(known.get("turned", {}), "accuracy"),
            ", ".join(f"{found['ece']['value']:.3f}" for found in (known, other) if "ece" in found),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if cards:
        known_n = cards[0].metrics.get(KNOWN, {}).get("n", 0)
        other = cards[0].metrics.get(OTHER, {})
        per_source = other.get("sources", {})
        parts = ", ".join(
            f"{name} n = {per_source.get(name, {}).get('n', 0)}" for name in README_SOURCES
        )
        peer = next((card.speed["peer"] for card in cards if card.speed), "")
        lines += [
            "",
            f"Known sources n = {known_n}; other sources n = {other.get('n', 0)} ({parts})."
            + (f" Time: answer and heat map against {peer}, same run." if peer else ""),
        ]
    return "\n".join(lines)


# What we aimed at: words, split, source, figure, aim, and whether more is better.
AIMS: tuple[tuple[str, str, str, str, float, bool], ...] = (
    ("known sources: accuracy", KNOWN, "", "accuracy", 0.96, True),
    ("known sources: AUROC", KNOWN, "", "auroc", 0.985, True),
    ("whole buildings: balanced accuracy", OTHER, "quake-triage", "balanced_accuracy", 0.92, True),
    ("old masonry: balanced accuracy", OTHER, "old-city-wall", "balanced_accuracy", 0.85, True),
    ("known sources: calibration error", KNOWN, "", "ece", 0.03, False),
)


def found_tables(cards: list[ModelCard]) -> str:
    """The tables of `weights/README.md`: aims, calibration and old masonry, paired tests."""
    return "\n\n".join((_aims_table(cards), _weakness_table(cards), _paired_table(cards)))


def _aims_table(cards: list[ModelCard]) -> str:
    default = cards[0].title if cards else "–"
    lines = [f"| Aim | {default} | the best checkpoint | reached |", "|---|--:|--:|---|"]
    for words, split, source, name, aim, more in AIMS:
        found = []
        for card in cards:
            of_split = card.metrics.get(split, {})
            figures = of_split.get("sources", {}).get(source, {}) if source else of_split
            if isinstance(figures.get(name), dict):
                found.append((figures[name]["value"], interval_text(figures, name), card.title))
        if not found:
            continue
        value, text, title = (max if more else min)(found)
        told = f"{aim:.3f}" if name in AS_FRACTION else f"{100 * aim:.0f} %"
        ours = next((text for _, text, title in found if title == default), "–")
        lines.append(
            f"| {words} {'≥' if more else '≤'} {told} | {ours} | {text}"
            f"{f' ({title})' if title != default else ''} | "
            f"{'yes' if (value >= aim if more else value <= aim) else 'no'} |"
        )
    return "\n".join(lines)


def _weakness_table(cards: list[ModelCard]) -> str:
    lines = [
        "| Checkpoint | calibration error, known sources (by chance) | other sources (by chance) | "
        "old masonry: damaged ones called so | sound ones called so | AUROC |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for card in cards:
        splits = [card.metrics.get(split, {}) for split in (KNOWN, OTHER)]
        wall = splits[1].get("sources", {}).get("old-city-wall", {})
        honest = [
            f"{found['ece']['value']:.3f} ({chance_text(found)})" if "ece" in found else "–"
            for found in splits
        ]
        shown = [
            f"{wall[name]['value']:.2f}" if isinstance(wall.get(name), dict) else "–"
            for name in ("recall_damaged", "recall_sound", "auroc")
        ]
        lines.append(f"| {' | '.join((card.title, *honest, *shown))} |")
    return "\n".join(lines)


def _paired_table(cards: list[ModelCard]) -> str:
    lines = []
    for card in cards:
        for other, splits in card.comparison.items():
            cells = []
            for split in (KNOWN, OTHER):
                found = splits.get(split)
                cells += (
                    [
                        f"{found['only_this_right']} : {found['only_other_right']} of {found['n']}",
                        f"{p_text(found['p'])}, {p_text(found.get('p_by_building'))}",
                    ]
                    if found
                    else ["–", "–"]
                )
            lines.append(f"| {' | '.join((card.title, other, *cells))} |")
    head = [
        "| Checkpoint | Against | known sources: only it right, only the other | p, by building | "
        "other sources | p, by building |",
        "|---|---|--:|--:|--:|--:|",
    ]
    return "\n".join([*head, *lines])


def replace_figures(text: str, table: str) -> str:
    """`text` with what stands between the two markers replaced by `table`."""
    before, rest = text.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"
