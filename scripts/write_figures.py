"""Writes the cards' figures into README and docs; with --check, only says whether they agree."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from heritage.cards import list_cards  # noqa: E402
from heritage.figures import (  # noqa: E402
    README_SOURCES,
    figures_table,
    found_tables,
    in_told_order,
    localisation_tables,
    replace_figures,
)

TABLES = {
    ROOT / "README.md": figures_table,
    ROOT / "docs/localisation.md": localisation_tables,
    ROOT / "weights/README.md": found_tables,
}


def main() -> int:
    """Returns 0, or 1 if --check finds that a text and the cards disagree."""
    # A checkpoint of one's own lies there too, and was not scored on these photos.
    cards = [
        card
        for card in in_told_order(list_cards(ROOT / "weights"))
        if card.metrics.get("test_other_source", {}).get("sources", {}).keys() >= {*README_SOURCES}
    ]
    stale = 0
    for path, table in TABLES.items():
        text = path.read_text(encoding="utf-8")
        fresh = replace_figures(text, table(cards))
        stale |= int(fresh != text)
        if "--check" not in sys.argv:
            path.write_text(fresh, encoding="utf-8", newline="\n")
    return stale if "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
