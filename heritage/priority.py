"""The priority table: what to look at first, by the expert's word before the model's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from heritage.bands import SOUND as SOUND_BAND
from heritage.bands import BandThresholds
from heritage.duplicates import CLOSE_BITS
from heritage.overlays import Region
from heritage.words import PASSED_OVER

DAMAGED, SOUND, UNSURE = "damaged", "sound", "unsure"
VERDICTS = (DAMAGED, SOUND, UNSURE)


@dataclass(frozen=True)
class PriorityRow:
    """One photo of a survey as the table, the CSV and the report show it.

    Attributes:
        rank: Place in the order of urgency, from 1.
        photo: What the photo is called: its name, with the folders it lay in.
        building: Folder name, or what the user called it.
        damage_percent: Calibrated probability × 100; None where the photo was not (yet) inspected.
        affected_percent: Share of the photo at or above the hot threshold, in percent.
        band: Urgent, High, Watch or Sound; empty where there is no damage %.
        verdict: `damaged`, `sound`, `unsure`, or empty.
        note: What the expert wrote, with a verdict or alone.
        backbone: Name of the checkpoint that answered.
        width: Upright width in pixels.
        height: Upright height in pixels.
        taken_at: ISO 8601 date and time by the camera's clock.
        latitude: Degrees north.
        longitude: Degrees east.
        sha256: Hash of the file's bytes; empty where it could not be read at all.
        duplicate_of: Name of the first photo with the same bytes, or empty.
        warnings: What about the photo makes the answer less trustworthy.
        error: Why the photo could not be read, in words, or empty.
        similar_group: Number shared by photos that look nearly the same, from 1; None alone.
        unsure: Whether answers like this were too often wrong on validation to go by them.
        verdict_by: Who gave the verdict, or wrote the note.
        verdict_at: ISO 8601 time of the verdict, UTC.
        camera: Make and model.
        evidence: False when nothing in the photo speaks for damage.
        regions: Hot areas in photo pixels, hottest first.
        heat_map: How the heat map was made, `grad_cam` or `detail_scan`; empty without one.
        absolute: Whether heat means the same in every photo, not within this one only.
        lasting: Whether the error was known when the photo was entered, so that no other try helps.
        photo_id: Key in the store.
    """

    photo: str
    building: str = ""
    rank: int = 0
    damage_percent: float | None = None
    affected_percent: float | None = None
    band: str = ""
    verdict: str = ""
    note: str = ""
    backbone: str = ""
    width: int | None = None
    height: int | None = None
    taken_at: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    sha256: str = ""
    duplicate_of: str = ""
    warnings: tuple[str, ...] = ()
    error: str = ""
    similar_group: int | None = None
    unsure: bool = False
    verdict_by: str = ""
    verdict_at: str | None = None
    camera: str | None = None
    evidence: bool = False
    regions: tuple[Region, ...] = ()
    heat_map: str = ""
    absolute: bool = False
    lasting: bool = False
    photo_id: int = field(default=0, compare=False)


def ranked(rows: Iterable[PriorityRow], thresholds: BandThresholds) -> list[PriorityRow]:
    """`rows` in order of urgency with `rank` and `band` filled in, and warned of where a photo is
    called sound although places were found in it.

    A verdict outranks the model: photos found damaged come first, those found sound last, the
    rest between them; within each by damage %. Photos without an answer follow those found
    sound, errors at the very end. Equal photos keep the order they came in.
    """
    return [
        _banded(replace(row, rank=rank), thresholds)
        for rank, row in enumerate(sorted(rows, key=_urgency), start=1)
    ]


def _banded(row: PriorityRow, thresholds: BandThresholds) -> PriorityRow:
    if row.damage_percent is None:
        return replace(row, band="")
    band = thresholds.band(row.damage_percent)
    warnings = row.warnings
    if row.absolute:  # what was kept was said by the usual bands
        warnings = tuple(warning for warning in warnings if warning != PASSED_OVER)
        warnings += (PASSED_OVER,) if row.evidence and band is SOUND_BAND else ()
    return replace(row, band=band.name, warnings=warnings)


def _urgency(row: PriorityRow) -> tuple[int, float]:
    percent = row.damage_percent
    if row.verdict == DAMAGED:
        tier = 0
    elif row.verdict == SOUND:
        tier = 2
    elif percent is None:
        tier = 4 if row.error else 3
    else:
        tier = 1
    return tier, -(percent if percent is not None else -1.0)


def similar_groups(hashes: Sequence[int]) -> list[int | None]:
    """Numbers the groups of photos whose perceptual hashes are close, from 1.

    Returns:
        One entry per hash: the number of its group, None where it stands alone.
    """
    values, place, copies = np.unique(
        np.array(hashes, np.uint64), return_inverse=True, return_counts=True
    )
    groups = np.zeros(len(values), int)
    left, others = np.arange(len(values)), values
    while len(left):  # of those left, all that are near the first, near one of them, and so on
        groups[left[0]] = group = left[0]
        near_to = [values[group]]
        left, others = left[1:], others[1:]
        while near_to and len(left):
            near = np.bitwise_count(others ^ near_to.pop()) <= CLOSE_BITS
            if near.any():
                groups[left[near]] = group
                near_to += others[near].tolist()
                left, others = left[~near], others[~near]
    sizes = np.bincount(groups, copies, len(values))
    numbers: dict[int, int] = {}
    return [
        numbers.setdefault(int(group), len(numbers) + 1) if sizes[group] > 1 else None
        for group in groups[place]
    ]


def once(rows: Iterable[PriorityRow]) -> list[PriorityRow]:
    """The rows without the copies of photos that stand in another row."""
    return [row for row in rows if not row.duplicate_of]


def judged(rows: Iterable[PriorityRow]) -> list[PriorityRow]:
    """The photos that expert and model can be compared on: found damaged or sound, and inspected.

    Verdicts of `unsure` are left out; duplicates count once.
    """
    return [
        row
        for row in once(rows)
        if row.damage_percent is not None and row.verdict in (DAMAGED, SOUND)
    ]


def answer_at(row: PriorityRow, threshold_percent: float) -> str:
    """What the model says of an inspected photo: `damaged` from `threshold_percent` on."""
    assert row.damage_percent is not None
    return DAMAGED if row.damage_percent >= threshold_percent else SOUND


def agreement(rows: Sequence[PriorityRow], threshold_percent: float) -> dict[str, int]:
    """How often verdicts and model agree on what was `judged`: counts of `VERDICT_as_ANSWER`."""
    counts = {f"{verdict}_as_{answer}": 0 for verdict in VERDICTS[:2] for answer in VERDICTS[:2]}
    for row in judged(rows):
        counts[f"{row.verdict}_as_{answer_at(row, threshold_percent)}"] += 1
    return counts


def with_relatives(
    rows: Sequence[PriorityRow], hashes: Sequence[tuple[int, str, str, str]]
) -> list[PriorityRow]:
    """Marks the same bytes as duplicates of the first, and nearly equal photos as one group.

    The first that has an answer: of copies one may have failed where another was inspected.
    """
    answered = {row.photo_id for row in rows if row.damage_percent is not None}
    first: dict[str, tuple[int, str]] = {}
    for photo_id, name, sha256, _ in sorted(hashes, key=lambda found: found[0] not in answered):
        first.setdefault(sha256, (photo_id, name))
    seen = {sha256: near for _, _, sha256, near in hashes if near}
    unique = list(seen)
    values = [int(seen[sha256], 16) for sha256 in unique]
    group = dict(zip(unique, similar_groups(values), strict=True))
    return [
        replace(
            row,
            duplicate_of=(
                first[row.sha256][1]
                if row.sha256 in first and first[row.sha256][0] != row.photo_id
                else ""
            ),
            similar_group=group.get(row.sha256),
        )
        for row in rows
    ]
