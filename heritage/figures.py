"""How figures and splits are called and printed: on pages, in the README, in the terminal."""

from __future__ import annotations

from typing import Any

FIGURE_TITLES = {
    "balanced_accuracy": "Balanced accuracy",
    "accuracy": "Accuracy",
    "auroc": "AUROC",
    "f1": "F1",
    "recall_damaged": "Recall, damaged",
    "recall_sound": "Recall, sound",
    "ece": "Calibration error (ECE)",
}
SPLIT_TITLES = {
    "test_other_source": "Other sources",
    "test": "Known sources",
    "validation": "Validation",
    "all": "All photos",
}
AS_FRACTION = {"auroc", "ece", "f1"}


def interval_text(figures: dict[str, Any], name: str) -> str:
    """A figure with its 95 % interval, such as `91.2 % [88.0–94.1]`; a dash where there is none."""
    found = figures.get(name)
    if not isinstance(found, dict):
        return "–"
    value, low, high = found["value"], found["low"], found["high"]
    if name in AS_FRACTION:
        return f"{value:.3f} [{low:.3f}–{high:.3f}]"
    return f"{value * 100:.1f} % [{low * 100:.1f}–{high * 100:.1f}]"
