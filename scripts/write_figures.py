"""Writes the cards' figures into the README; with --check, only says whether they agree."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from heritage.cards import list_cards  # noqa: E402
from heritage.figures import figures_table, replace_figures  # noqa: E402

README = ROOT / "README.md"


def main() -> int:
    """Returns 0, or 1 if --check finds that README and cards disagree."""
    text = README.read_text(encoding="utf-8")
    fresh = replace_figures(text, figures_table(list_cards(ROOT / "weights")))
    if "--check" in sys.argv:
        return int(fresh != text)
    README.write_text(fresh, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
