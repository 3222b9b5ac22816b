"""How urgently a photo asks for a look: four bands of damage %, with thresholds the user moves."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

EDGE_STEP_PERCENT = 0.5  # what the edges between bands are rounded to


@dataclass(frozen=True)
class Band:
    """A priority band as it is shown everywhere: word, icon, colour (by theme name), meaning."""

    name: str
    icon: str
    colour: str
    meaning: str


URGENT = Band("Urgent", "▲", "red", "Damage very probably shows; look at this photo first.")
HIGH = Band("High", "◆", "orange", "Damage probably shows; have it looked at soon.")
WATCH = Band("Watch", "●", "yellow", "The model is unsure; look again or photograph it closer.")
SOUND = Band("Sound", "○", "green", "The model sees no sign of damage in this photo.")
BANDS: dict[str, Band] = {band.name: band for band in (URGENT, HIGH, WATCH, SOUND)}


@dataclass(frozen=True)
class BandThresholds:
    """Damage % from which a photo is Urgent, High or Watch; below, it is Sound."""

    urgent_percent: float = 85.0
    high_percent: float = 50.0
    watch_percent: float = 20.0

    def __post_init__(self) -> None:
        order = (0, self.watch_percent, self.high_percent, self.urgent_percent, 100)
        if not all(lower <= upper for lower, upper in pairwise(order)):  # not so of NaN
            raise ValueError("thresholds must rise from Watch over High to Urgent within 0-100 %")

    def band(self, damage_percent: float) -> Band:
        """The band of a photo with `damage_percent`."""
        if damage_percent >= self.urgent_percent:
            return URGENT
        if damage_percent >= self.high_percent:
            return HIGH
        return WATCH if damage_percent >= self.watch_percent else SOUND
