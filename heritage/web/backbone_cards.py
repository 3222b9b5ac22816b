"""Every checkpoint's card in plain words, and how to train the backbones that have none."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from heritage.backbones import BACKBONES
from heritage.cards import ModelCard, list_cards, weights_dir
from heritage.figures import FIGURE_TITLES, SPLIT_TITLES, interval_text
from heritage.web.frame import plain


def show_backbones() -> None:
    """The comparison table, then one card per checkpoint, then what is not trained yet."""
    st.title("Backbones")
    st.markdown(
        "A backbone is the neural network that reads the photo. Each was scored on photos that "
        "share no building with those it learned from. **Other sources** counts most: no photo it "
        "learned from comes from the same collection, as yours do not either."
    )
    cards = list_cards()
    if cards:
        st.dataframe(
            _comparison(cards),
            hide_index=True,
            column_config={
                "Parameters": st.column_config.NumberColumn(format="%.1f M"),
                "File": st.column_config.NumberColumn(format="%.1f MB"),
            },
        )
        st.caption(
            "Balanced accuracy is the mean of the shares of damaged and of sound photos told "
            "rightly; 50 % is guessing. In brackets, the 95 % interval over buildings."
        )
        for card in cards:
            _show_card(card)
    else:
        st.info("No checkpoint is installed yet. The commands below train one.")
    _show_untrained({card.backbone for card in cards})


def _comparison(cards: list[ModelCard]) -> pd.DataFrame:
    rows = []
    for card in cards:
        row: dict[str, Any] = {"Backbone": card.title}
        for split in ("test_other_source", "test"):
            for figure in ("balanced_accuracy", "auroc"):
                title = f"{SPLIT_TITLES[split]}: {FIGURE_TITLES[figure]}"
                row[title] = interval_text(card.metrics.get(split, {}), figure)
        row["Parameters"] = card.parameters / 1e6
        row["File"] = (weights_dir() / f"{card.name}.safetensors").stat().st_size / 2**20
        rows.append(row)
    return pd.DataFrame(rows)


def _show_card(card: ModelCard) -> None:
    with st.expander(f"{plain(card.title)}: its card"):
        table = {
            SPLIT_TITLES.get(split, plain(split)): {
                "Photos": str(figures["n"]),
                **{title: interval_text(figures, key) for key, title in FIGURE_TITLES.items()},
            }
            for split, figures in card.metrics.items()
        }
        st.markdown("#### How well it does")
        st.table(pd.DataFrame(table))
        per_source = card.metrics.get("test_other_source", {}).get(
            "sources", {}
        ) | card.metrics.get("test", {}).get("sources", {})
        if per_source:
            st.markdown("#### Per source")
            shown = ("balanced_accuracy", "auroc", "recall_damaged", "recall_sound")
            st.table(
                pd.DataFrame(
                    {
                        plain(source): {
                            "Photos": str(figures["n"]),
                            **{FIGURE_TITLES[key]: interval_text(figures, key) for key in shown},
                        }
                        for source, figures in per_source.items()
                    }
                ).T
            )
        st.markdown("#### What it learned from")
        counts = card.data.get("photos", {}).get("train", {})
        st.markdown(
            f"{counts.get('damaged', 0):,} damaged and {counts.get('sound', 0):,} sound photos "
            f"from {', '.join(plain(source) for source in card.data.get('sources', []))}."
        )
        st.markdown("#### What it cannot see")
        st.markdown("\n".join(f"- {plain(limit)}" for limit in card.limits))
        st.caption(f"Licence: {plain(card.licence)}. Made {plain(card.created)} by:")
        st.code(card.command, language="bash", wrap_lines=True)


def _show_untrained(trained: set[str]) -> None:
    missing = [entry for name, entry in BACKBONES.items() if name not in trained]
    if not missing:
        return
    st.markdown("## Not trained yet")
    for entry in missing:
        st.markdown(f"**{entry.title}** · {entry.paper}")
        st.code(
            f"python -m heritage train DATA --backbone {entry.name} --name my_{entry.name}",
            language="bash",
        )
