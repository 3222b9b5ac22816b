"""Every checkpoint beside the published works, its card in plain words, and what is untrained."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from dataclasses import asdict
from typing import Any

import pandas as pd
import streamlit as st

from heritage.backbones import BACKBONES, CASCADE, get_backbone
from heritage.cards import ModelCard, file_size_mb, list_cards
from heritage.figures import (
    FIGURE_TITLES,
    KNOWN,
    OTHER,
    SPLIT_TITLES,
    VALIDATION,
    chance_text,
    counted,
    duration_text,
    in_told_order,
    interval_text,
    localisation_rows,
    p_text,
    shown_percent,
    told_accuracy,
    value_percent,
)
from heritage.photo_collections import SHOWS
from heritage.studies import PUBLISHED
from heritage.training.config import EpochRecord
from heritage.web.charts import (
    PLAIN,
    confusion_chart,
    faithfulness_chart,
    learning_curves,
    reliability_chart,
    trade_off_chart,
)
from heritage.web.frame import plain

OURS, ELSEWHERE = "Heritage", "Heritage, on other photos"
HELPFUL = 0.6  # share of one class told rightly; of a coin, half
NOT_YET = "not measured on held-out photos"


def show_backbones() -> None:
    """The comparison, accuracy against time and size, the cards, what is not trained yet."""
    st.title("Backbones")
    st.markdown(
        "A backbone is the neural network that reads the photo. Each was scored on photos that "
        "share no building with those it learned from. **Other sources** counts most: no photo it "
        "learned from comes from the same collection, as yours do not either."
    )
    cards = in_told_order(list_cards())
    if cards:
        _show_comparison(cards)
        _show_trade_off(cards)
        st.markdown("## Cards")
        for card in cards:
            _show_card(card)
    else:
        st.info("No checkpoint is installed yet. The commands below train one.")
    _show_untrained({card.backbone for card in cards})


def _show_comparison(cards: list[ModelCard]) -> None:
    peer = plain(next((card.speed["peer"] for card in cards if card.speed), "a named peer"))
    helps = {
        "Other sources": "Balanced accuracy on collections that it learned nothing from",
        "Known sources": "Accuracy on buildings it has not seen, from collections it knows",
        "F1": "Of damaged photos, on known sources",
        "Whole buildings": "Of other sources, buildings collapsed or intact after earthquakes: "
        "balanced accuracy",
        "Old masonry": "Of other sources, close-ups of an old city wall, stone by stone: balanced "
        "accuracy",
        "Turned": "Accuracy on photos of known sources, each turned by a random quarter",
        "Time": f"For one answer with its heat map, against {peer}",
    }
    formats = dict.fromkeys(helps, "%.1f %%") | {"Time": "%.2f ×"}
    formats |= {"Parameters": "%.1f M", "File": "%.1f MB"}
    st.dataframe(
        comparison(cards),
        hide_index=True,
        height="content",
        placeholder="–",
        column_config={
            "Backbone": st.column_config.TextColumn(pinned=True, width=255),
            **{
                name: st.column_config.NumberColumn(format=text, help=helps.get(name))
                for name, text in formats.items()
            },
        },
    )
    st.caption(
        "Click a heading to sort. Balanced accuracy is the mean of the shares of damaged and of "
        "sound photos told rightly; 50 % is guessing. In brackets, the 95 % interval over "
        "buildings. Lines that begin with *Published* are what the published works report of "
        "themselves, on other photos: they cannot be compared with ours point by point."
    )


def comparison(cards: list[ModelCard]) -> pd.DataFrame:
    """Our checkpoints and the published figures in one table, percentages as numbers.

    A checkpoint that was scored on other photos than most says so.
    """
    rows: list[dict[str, Any]] = []
    usual = _usual_photos(cards)
    for card in cards:
        known, other = card.metrics.get(KNOWN, {}), card.metrics.get(OTHER, {})
        sources = other.get("sources", {})
        rows.append(
            {
                "Backbone": card.title,
                "Other sources": value_percent(other, "balanced_accuracy"),
                "95 % interval": interval_text(other, "balanced_accuracy", value=False),
                "Known sources": value_percent(known, "accuracy"),
                "F1": value_percent(known, "f1"),
                "Time": card.speed.get("ratio"),
                "File": file_size_mb(card),
                "Whole buildings": value_percent(
                    sources.get("quake-triage", {}), "balanced_accuracy"
                ),
                "Old masonry": value_percent(sources.get("old-city-wall", {}), "balanced_accuracy"),
                "Turned": value_percent(known.get("turned", {}), "accuracy"),
                "Parameters": card.parameters / 1e6,
                "Measured by": _measured_by(card, usual),
            }
        )
    rows += [
        {
            "Backbone": f"Published: {figure.model}",
            "Known sources": figure.accuracy_percent,
            "F1": figure.f1_percent,
            "Measured by": f"{figure.study}, on its own photos",
        }
        for figure in PUBLISHED
    ]
    return pd.DataFrame(rows)


def _measured_by(card: ModelCard, usual: tuple[tuple[str, int, tuple[str, ...]], ...]) -> str:
    photos = _photos(card)
    if not photos:
        return NOT_YET
    return OURS if photos == usual else ELSEWHERE


def _photos(card: ModelCard) -> tuple[tuple[str, int, tuple[str, ...]], ...]:
    """What a card's figures in the table were made on, as far as the card tells."""
    return tuple(
        (split, found["n"], tuple(sorted(found.get("sources", {}))))
        for split in (KNOWN, OTHER)
        if (found := card.metrics.get(split))
    )


def _usual_photos(cards: list[ModelCard]) -> tuple[tuple[str, int, tuple[str, ...]], ...]:
    """What most of the cards that have such figures were scored on."""
    most = Counter(filter(None, map(_photos, cards))).most_common(1)
    return most[0][0] if most else ()


def _show_trade_off(cards: list[ModelCard]) -> None:
    rows = []
    usual = _usual_photos(cards)
    for card in cards:
        if _photos(card) != usual:
            continue
        figure = card.metrics.get(OTHER, {}).get("balanced_accuracy")
        if figure and card.speed:
            rows.append(
                {
                    "title": card.title,
                    "accuracy_percent": 100 * figure["value"],
                    "low": 100 * figure["low"],
                    "high": 100 * figure["high"],
                    "speed_ratio": card.speed["ratio"],
                    "size_mb": file_size_mb(card),
                }
            )
    if len(rows) < 2:
        return
    st.markdown("## Accuracy, time and size")
    st.plotly_chart(trade_off_chart(rows), config=PLAIN, key="trade-off")
    st.caption(
        "Higher is more often right, further left is quicker, a larger spot is a larger file. The "
        "bars are 95 % intervals: where they overlap widely, choose by time."
    )


def _show_card(card: ModelCard) -> None:
    with st.expander(f"{plain(card.title)}: its card"):
        st.markdown(_in_words(card))
        st.markdown("#### How well it does")
        st.table(pd.DataFrame({_split(name): _figures(f) for name, f in card.metrics.items()}))
        if set(card.metrics) == {VALIDATION}:
            st.caption(
                "Only its own validation photos, which also decided when the training stopped: "
                "figures on photos of other buildings may be lower. They are made by"
            )
            st.code(
                f"python -m heritage evaluate DATA --backbone {shlex.quote(card.name)}",
                language="bash",
            )
        for split in _telling(card):
            _show_split(card, split)
        if card.heat_maps:
            _show_faithfulness(card)
        if card.localisation:
            _show_localisation(card)
        _show_sources(card)
        _show_mistakes(card)
        _show_comparison_with_others(card)
        st.markdown("#### What it learned from")
        counts = card.data.get("photos", {}).get("train", {})
        more = "".join(
            f", and {card.data[kind]:,} {words}"
            for kind, words in (
                ("unlabelled", "photos without labels that a teacher answered for"),
                ("rendered", "close-ups of walls that a program drew"),
            )
            if card.data.get(kind)
        )
        sources = [source for source in card.data.get("sources", []) if source]
        names = ", ".join(map(plain, sources))
        listed = any(source in SHOWS for source in sources)
        st.markdown(
            f"{counts.get('damaged', 0):,} damaged and {counts.get('sound', 0):,} sound photos"
            f"{f' from {names}' if names and not listed else ''}{more}."
            + (" The photos show:" if listed else "")
        )
        if listed:
            st.markdown("\n".join(f"- {_shows(source)}" for source in sources))
        _show_training(card)
        st.markdown("#### What it cannot see")
        limits = [*weak_sources(card), *map(plain, card.limits)]
        st.markdown("\n".join(f"- {limit}" for limit in limits))
        st.caption(f"Licence: {plain(card.licence)}. Made {plain(card.created)} by:")
        st.code(card.command, language="bash", wrap_lines=True)


def _in_words(card: ModelCard) -> str:
    """What the figures mean for someone who has to rely on them."""
    other = card.metrics.get(OTHER, {})
    parts = []
    if "recall_damaged" in other and "recall_sound" in other:
        missed = round(10 * (1 - other["recall_damaged"]["value"]))
        alarms = round(10 * (1 - other["recall_sound"]["value"]))
        parts.append(
            f"Of ten damaged photos from a collection new to it, it misses about **{missed}**; of "
            f"ten sound ones it calls about **{alarms}** damaged."
        )
    low, high = card.unsure
    if low < high:
        parts.append(
            f"Between {100 * low:.0f} % and {100 * high:.0f} % it is **unsure**: look yourself."
        )
    if card.pruned:
        parts.append(f"{100 * card.pruned:.0f} % of the network was cut away after training.")
    return " ".join(parts)


def _shows(source: str) -> str:
    """A collection in words, where it is one of those that the shipped checkpoints know."""
    return f"{SHOWS[source]} ({plain(source)})" if source in SHOWS else plain(source)


def weak_sources(card: ModelCard) -> list[str]:
    """Where it is surely wrong so often that it is no help, by collection, as Markdown."""
    told = []
    for split in _telling(card):
        for source, figures in card.metrics[split].get("sources", {}).items():
            shows = _shows(source)
            for key, words in (
                ("recall_damaged", "of ten damaged ones it misses about"),
                ("recall_sound", "of ten sound ones it calls damaged about"),
            ):
                found = figures.get(key, {})
                if found.get("high", 1.0) < HELPFUL:
                    wrong = f"**{10 * (1 - found['value']):.0f}**"
                    told.append(f"{shows[:1].upper()}{shows[1:]}: {words} {wrong}.")
    return told


def _show_training(card: ModelCard) -> None:
    """How long it learned and on what crops, with the curves of its last run."""
    settings = card.training.get("stage_two" if card.backbone == CASCADE else "config")
    settings = settings if isinstance(settings, dict) else {}
    history = card_history(card)
    if not history:
        st.markdown(_beginning(card))
        return
    lowest = min(history, key=lambda record: record.validation_loss)
    st.markdown(
        f"{_beginning(card)} Its last run: {counted(len(history), 'epoch')} on crops of "
        f"{crops_text(card, settings, len(history))}, "
        f"{duration_text(sum(record.seconds for record in history))} where it was trained."
        + (
            " Its validation loss was lowest at the end, so longer training would probably help."
            if lowest is history[-1]
            else ""
        )
    )
    for column, figure in zip(st.columns(2), learning_curves(history), strict=True):
        column.plotly_chart(
            figure, config=PLAIN, key=f"{card.name}-{figure.layout.title.text[:4]}-card"
        )


def crops_text(card: ModelCard, settings: dict[str, Any], epochs: int) -> str:
    """The sides of the crops of so many epochs, such as `128 pixels and at the end of 224`.

    Args:
        settings: As in the card; a run that stopped early has not come to the larger crops.
    """
    name = str(settings.get("backbone"))
    full_px = get_backbone(name if name in BACKBONES else card.backbone).input_size_px
    small_px = settings.get("crop_side_px") or full_px
    large_px = settings.get("full_size_px") or full_px
    whole, closing = settings.get("epochs"), settings.get("full_size_epochs") or 0
    if small_px == large_px or not isinstance(whole, int) or not isinstance(closing, int):
        return f"{plain(str(small_px))} pixels"
    if whole <= closing:
        return f"{plain(str(large_px))} pixels"
    ended = f" and at the end of {plain(str(large_px))}" if epochs > whole - closing else ""
    return f"{plain(str(small_px))} pixels{ended}"


def card_history(card: ModelCard) -> list[EpochRecord]:
    """The epochs of its last run; none where the card does not tell them rightly."""
    told = card.training.get("history")
    try:
        history = [EpochRecord(**record) for record in told or []]
        numbers = [value for record in history for value in asdict(record).values()]
        fine = all(isinstance(n, int | float) and math.isfinite(n) for n in numbers)
    except (TypeError, OverflowError):
        return []
    return history if fine else []


def _beginning(card: ModelCard) -> str:
    """What it knew before it learned from these photos."""
    part = "stage_two" if card.backbone == CASCADE else "config"
    settings = card.training.get(part)
    init = str(settings.get("init", "")) if isinstance(settings, dict) else ""
    if isinstance(settings, dict) and settings.get("prune_of"):
        init = str(settings["prune_of"])
    if init and card.backbone == CASCADE:
        return f"Its stage 2 began from {plain(init)}."
    if init == "scratch":
        return "It began from nothing."
    if init == "imagenet":
        return "It began from weights trained on ImageNet."
    return f"It began from {plain(init)}, and what that one had learned from." if init else ""


def _figures(figures: dict[str, Any]) -> dict[str, str]:
    told = {}
    for key, title in FIGURE_TITLES.items():
        told[title] = interval_text(figures, key)
        if key == "ece":
            told["ECE that chance alone would show"] = chance_text(figures)
    turned = interval_text(figures.get("turned", {}), "accuracy")
    return {
        "Photos": str(figures["n"]),
        **told,
        "Accuracy, photos turned at random": turned,
    }


def _telling(card: ModelCard) -> list[str]:
    """The splits to look at closely: those held out, or all there are."""
    return [split for split in (OTHER, KNOWN) if split in card.metrics] or list(card.metrics)


def _show_split(card: ModelCard, split: str) -> None:
    figures = card.metrics.get(split, {})
    if "confusion" not in figures:
        return
    matrix, honesty = st.columns(2, gap="large")
    with matrix:
        st.markdown(f"#### {_split(split)}: what it called them")
        st.plotly_chart(
            confusion_chart(figures["confusion"]),
            config=PLAIN,
            key=f"{card.name}-{split}-confusion",
        )
    with honesty:
        st.markdown(f"#### {_split(split)}: is the percentage honest?")
        st.plotly_chart(
            reliability_chart(figures["reliability"], figures["reliability_before"]),
            config=PLAIN,
            key=f"{card.name}-{split}-reliability",
        )
        if "ece_by_chance" in figures:
            st.caption(
                "Grey bars: where the calibrated spots would lie, 95 times in 100, were every "
                "percentage exactly right and each photo a building of its own. Calibration error "
                f"{figures['ece']['value']:.3f}; chance alone would show {chance_text(figures)} "
                f"on these {figures['n']} photos."
            )


def _show_faithfulness(card: ModelCard) -> None:
    st.markdown("#### Does the answer rest on the hot places?")
    st.plotly_chart(
        faithfulness_chart(card.heat_maps.get("curves", {})), config=PLAIN, key=f"{card.name}-heat"
    )
    st.caption(
        f"{card.heat_maps.get('n', 0)} damaged photos. Where the hottest places are blurred first "
        "the damage % should fall sooner than where places are blurred at random, and rise sooner "
        f"when they are shown first.{_areas(card.heat_maps)}"
    )


def _areas(figures: dict[str, Any]) -> str:
    """The areas under the curves in words, and whether chance alone does as well."""
    words = ""
    for name, sign in (("deletion", -1), ("insertion", 1)):
        ours, chance = figures.get(name), figures.get(f"{name}_random")
        if not isinstance(ours, dict) or not isinstance(chance, dict):
            continue
        words += (
            f" Area under {name}: {ours['value']:.3f} [{ours['low']:.3f}–{ours['high']:.3f}], at "
            f"random {chance['value']:.3f}; {'more' if sign > 0 else 'less'} is better."
        )
        if sign * (ours["value"] - chance["value"]) <= 0:
            words += " **Here the heat map is no better than chance.**"
    return words


def _show_localisation(card: ModelCard) -> None:
    st.markdown("#### Does the heat lie on the crack?")
    st.table(
        pd.DataFrame(
            [
                {title: plain(words) for title, words in row.items()}
                for row in localisation_rows(card)
            ]
        ).set_index("Photos")
    )
    st.caption(
        "On photos whose cracks somebody has outlined. Pointing game: how often the hottest place "
        "lies on the crack. Energy: how much of the heat does. IoU: how far crack and hot area "
        "cover each other."
    )


def _show_sources(card: ModelCard) -> None:
    sources = [
        (split, source, figures)
        for split in _telling(card)
        for source, figures in card.metrics[split].get("sources", {}).items()
    ]
    if not sources:
        return
    splits_of = Counter(source for _, source, _ in sources)
    st.markdown("#### Per source")
    shown = ("balanced_accuracy", "auroc", "recall_damaged", "recall_sound")
    rows = {
        plain(source) + (f", {_split(split)}" if splits_of[source] > 1 else ""): {
            "Photos": str(figures["n"]),
            **{FIGURE_TITLES[key]: interval_text(figures, key) for key in shown},
        }
        for split, source, figures in sources
    }
    st.table(pd.DataFrame(rows).T)
    learned = card.data.get("sources", [])
    new = [source for source in splits_of if source in SHOWS and source not in learned]
    if new:
        told = "; ".join(f"{plain(source)}: {SHOWS[source]}" for source in new)
        st.caption(f"{told}. Nothing it learned from is of these.")


def _show_mistakes(card: ModelCard) -> None:
    mistakes = [m for split in _telling(card) for m in card.metrics[split].get("worst", [])]
    if mistakes:
        st.markdown("#### Its worst mistakes")
        st.dataframe(
            pd.DataFrame(
                {
                    "Photo": [mistake["photo"] for mistake in mistakes],
                    "It is": [mistake["label"] for mistake in mistakes],
                    "Damage": [shown_percent(mistake["damage_percent"]) for mistake in mistakes],
                }
            ),
            hide_index=True,
            height="content",
            column_config={"Damage": st.column_config.NumberColumn(format="%.1f %%")},
        )
        st.caption(
            "By name only: a card holds no photos, and most of those that the shipped checkpoints "
            "were scored on carry no licence that would allow it."
        )


def _show_comparison_with_others(card: ModelCard) -> None:
    if not card.comparison:
        return
    st.markdown("#### Against others on the same photos")
    rows = [
        {
            "Against": plain(str(other)),
            "Photos": f"{_split(split)}, n = {found['n']}",
            "This one is": _gain_text(found),
            "Only this one right": str(found["only_this_right"]),
            "Only the other right": str(found["only_other_right"]),
            "p (McNemar, exact)": p_text(found["p"]),
            "p by building": p_text(found.get("p_by_building")),
        }
        for other, splits in card.comparison.items()
        for split, found in splits.items()
    ]
    st.table(pd.DataFrame(rows))
    st.caption(
        "p is how often so great a difference comes about by chance between two that are equally "
        "good; below 0.05 it is taken for real, though of many lines one may be so by chance. The "
        "first takes photos for independent, the second buildings."
        + (
            " Lines that begin *with leaky maps* are of the cascade that was trained on those, in "
            "place of this one."
            if any(str(other).startswith("with leaky maps") for other in card.comparison)
            else ""
        )
    )


def _gain_text(found: dict[str, Any]) -> str:
    """Better or worse by how many points of accuracy, and whether chance explains it."""
    gain = 100 * (found["only_this_right"] - found["only_other_right"]) / found["n"]
    if max(found["p"], found.get("p_by_building", 0)) >= 0.05:
        told = f"{gain:+.1f}".replace("-", "−")
        return f"no different, measurably ({told} points)"
    return f"{'better' if gain > 0 else 'worse'} by {abs(gain):.1f} points"


def _split(name: str) -> str:
    return SPLIT_TITLES.get(name, plain(name))


def _show_untrained(trained: set[str]) -> None:
    missing = [entry for name, entry in BACKBONES.items() if name not in trained]
    if not missing:
        return
    st.markdown("## Not trained yet")
    st.markdown("Train these on the page **Train**, or with a command:")
    for entry in missing:
        st.markdown(f"**{entry.title}** · {entry.paper}")
        st.code(
            f"python -m heritage train DATA --backbone {entry.name} --name my_{entry.name}",
            language="bash",
        )


def option_text(card: ModelCard) -> str:
    """A checkpoint in a select box: name, accuracy on other sources, time, size.

    Where no photos of other sources were scored, the accuracy on those that were, and which.
    """
    parts = [card.title]
    split, accuracy = told_accuracy(card)
    if accuracy is not None:
        of = "" if split == OTHER else f" ({_split(split).lower()})"
        # Rounded once: 67.46 would become 67.5, and that 68.
        parts.append(f"{100 * card.metrics[split]['balanced_accuracy']['value']:.0f} %{of}")
    if card.speed:
        parts.append(f"{card.speed['ratio']:.2f}× time")
    parts.append(f"{file_size_mb(card):.0f} MB")
    return " · ".join(parts)


def untrained_text(name: str) -> str:
    """A backbone without a checkpoint in a select box."""
    return f"{get_backbone(name).title} · not trained yet"
