"""The sample photos that ship with the app."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from heritage.photos import Photo, open_photo

SAMPLES_DIR = Path(__file__).resolve().parents[2] / "samples"


@dataclass(frozen=True)
class SamplePhoto:
    """One entry of `samples/samples.json`."""

    file: str
    title: str
    caption: str
    credit: str
    licence: str
    rendering: bool

    @property
    def kind(self) -> str:
        """Whether this is a photograph at all."""
        return "Computer rendering" if self.rendering else "Photograph"

    def open(self) -> Photo:
        """The photo itself."""
        return open_photo(SAMPLES_DIR / self.file)

    @property
    def credit_line(self) -> str:
        """Who made it and under which terms it may be used."""
        return f"{self.credit}, {self.licence}"


@lru_cache(maxsize=1)
def sample_photos() -> tuple[SamplePhoto, ...]:
    """All samples, in the order they are offered."""
    raw = json.loads((SAMPLES_DIR / "samples.json").read_text(encoding="utf-8"))
    return tuple(SamplePhoto(**entry) for entry in raw)
