"""What leaves a survey: tables, report, map, everything as one archive, and labels to train on."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from heritage.errors import PhotoError
from heritage.exports import blended, draw_regions, encode_jpeg, safe_name, safe_stem
from heritage.inspection import Inspection
from heritage.photos import Photo, open_photo
from heritage.priority import DAMAGED, SOUND, PriorityRow, ranked
from heritage.report import priority_pdf
from heritage.spreadsheets import (
    MOST_OVERLAYS,
    SurveyFacts,
    free_name,
    priority_csv,
    priority_geojson,
    priority_xlsx,
    survey_zip,
    urgent_rows,
)
from heritage.store.files import SUFFIX, UNKNOWN_SUFFIX
from heritage.surveys import Run, Survey, SurveyStore

REPORT_SIDE_PX = 1000
OVERLAY_SIDE_PX = 1600
OPACITY_PERCENT = 60
LARGEST_ZIP_BYTES = 2 * 2**30  # of photos to train on: it is made in memory


def stored_inspection(store: SurveyStore, run_id: int, row: PriorityRow) -> Inspection | None:
    """What a run found in a photo, as if it had been inspected just now; None without an answer."""
    if row.damage_percent is None or row.width is None or row.height is None:
        return None
    heat = store.heat(run_id, row.photo_id)
    grid, absolute = heat or (np.zeros((1, 1), np.float32), False)
    return Inspection(
        photo=row.photo,
        sha256=row.sha256,
        width=row.width,
        height=row.height,
        backbone=row.backbone,
        damage_percent=row.damage_percent,
        affected_percent=row.affected_percent or 0.0,
        band=row.band,
        unsure=row.unsure,
        evidence=row.evidence,
        regions=row.regions,
        taken_at=row.taken_at,
        camera=row.camera,
        latitude=row.latitude,
        longitude=row.longitude,
        warnings=row.warnings,
        grid=grid,
        absolute=absolute,
        method=row.heat_map,
    )


def stored_photo(store: SurveyStore, row: PriorityRow, root: Path | None = None) -> Photo:
    """The photo of a row.

    Raises:
        HeritageError: It is gone or cannot be read.
    """
    return open_photo(store.photo_bytes(store.photo(row.photo_id), root), row.photo)


def overlay_jpeg(photo: Photo, inspection: Inspection, side_px: int) -> bytes:
    """The photo under its heat and numbered boxes, its long side at most `side_px`, as JPEG bytes.

    Raises:
        PhotoError: The photo cannot be decoded.
    """
    picture = Image.fromarray(
        blended(photo, inspection, opacity_percent=OPACITY_PERCENT, side_px=side_px)
    )
    draw_regions(picture, inspection.regions, scale=picture.width / photo.width)
    return encode_jpeg(np.asarray(picture))


@dataclass(frozen=True)
class Handover:
    """One run of one survey on its way out; each method makes one file.

    Attributes:
        rows: The photos in order of urgency.
        root: The only folder that photos may be read from where they lie.
    """

    store: SurveyStore
    survey: Survey
    run: Run
    rows: Sequence[PriorityRow]
    root: Path | None = None

    @classmethod
    def of(cls, store: SurveyStore, run_id: int, root: Path | None = None) -> Handover:
        """The run with its rows ranked by the survey's thresholds.

        Raises:
            StoreError: There is no such run.
        """
        run = store.run(run_id)
        survey = store.survey(run.survey_id)
        return cls(store, survey, run, ranked(store.rows(run_id), survey.thresholds), root)

    @property
    def facts(self) -> SurveyFacts:
        """What stands at the head of tables and report."""
        day = self.survey.visited_on
        return SurveyFacts(
            name=self.survey.name,
            site=self.survey.site,
            date=day.isoformat() if day else None,
            checkpoint_title=self.run.reader,
            absolute_heat=self.run.absolute
            and all(row.absolute for row in self.rows if row.damage_percent is not None),
            thresholds=self.survey.thresholds,
            made_at=datetime.now(UTC).isoformat(timespec="minutes"),
        )

    def csv(self) -> bytes:
        """The priority table as CSV."""
        return priority_csv(self.rows)

    def xlsx(self) -> bytes:
        """The priority table as a workbook with thumbnails."""
        return priority_xlsx(
            self.rows, self.facts, thumbnail=lambda row: self.store.files.thumbnail(row.sha256)
        )

    def geojson(self) -> str:
        """The photos that have a position."""
        return priority_geojson(self.rows)

    def pdf(self) -> bytes:
        """The report for people."""
        return priority_pdf(self.rows, self.facts, self.run.card, overlay=self.overlay)

    def zip(self) -> bytes:
        """Everything, with the overlays of the most urgent photos."""
        overlays = (
            (row, picture)
            for row in urgent_rows(self.rows)[:MOST_OVERLAYS]
            if (picture := self.overlay(row, OVERLAY_SIDE_PX)) is not None
        )
        files = {
            "survey.csv": self.csv(),
            "survey.xlsx": self.xlsx(),
            "survey.pdf": self.pdf(),
            "survey.geojson": self.geojson().encode(),
        }
        return survey_zip(files, overlays)

    def overlay(self, row: PriorityRow, side_px: int = REPORT_SIDE_PX) -> bytes | None:
        """The photo with its heat and boxes as JPEG bytes; None where it cannot be had."""
        inspection = stored_inspection(self.store, self.run.id, row)
        if inspection is None:
            return None
        try:
            return overlay_jpeg(self.photo(row), inspection, side_px)
        except PhotoError:
            return None

    def photo(self, row: PriorityRow) -> Photo:
        """The photo itself.

        Raises:
            PhotoError: It is gone or cannot be read.
        """
        return stored_photo(self.store, row, self.root)


def labelled_rows(rows: Sequence[PriorityRow]) -> list[PriorityRow]:
    """The photos whose verdict can be learned from, each only once: not what cannot be read."""
    found: dict[str, PriorityRow] = {}
    for row in rows:
        if row.verdict in (DAMAGED, SOUND) and row.sha256 and not row.error:
            found.setdefault(row.sha256, row)
    return list(found.values())


def training_manifest(store: SurveyStore, runs: Sequence[int]) -> str:
    """A manifest of all kept photos with a verdict, for `heritage train` on this computer.

    The columns are `path, label, source, group`: a survey is a source and a building a group, so
    that no building is learned from and tested on. Of several verdicts on the same bytes the latest
    counts; photos that are gone are left out.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "source", "group"))
    latest: dict[str, tuple[str, Sequence[object]]] = {}
    for run_id in runs:
        survey = store.survey(store.run(run_id).survey_id)
        for row in labelled_rows(store.rows(run_id)):
            kept, at = store.photo(row.photo_id), row.verdict_at or ""
            if at <= latest.get(row.sha256, ("", ()))[0] or kept.suffix in ("", UNKNOWN_SUFFIX):
                continue
            path = store.files.path(kept.sha256, kept.suffix)
            if path.exists():
                line = path, row.verdict, survey.name, row.building or survey.name
                latest[row.sha256] = at, line
    lines = [line for _, line in latest.values()]
    if len({group for *_, group in lines}) == 1 and lines[0][2] == lines[0][3]:
        # One survey without buildings is all there is: each photo by itself, or none is kept aside.
        lines = [(*line[:-1], "") for line in lines]
    writer.writerows(lines)
    return text.getvalue()


def training_folder(handover: Handover) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of `damaged/BUILDING/PHOTO` and `sound/…`, as `heritage train` takes them.

    Photos that are gone are left out.
    """
    taken: set[str] = set()
    folders = {  # of all photos, so that another verdict does not rename them
        building: free_name("", safe_name(building or "photos"), "", taken)
        for building in sorted({row.building for row in handover.rows})
    }
    used: set[str] = set()
    for row in labelled_rows(handover.rows):
        try:
            photo = handover.photo(row)
        except PhotoError:
            continue
        stem = safe_stem(PurePosixPath(row.photo).name)
        folder = f"{row.verdict}/{folders[row.building]}"
        name = f"{folder}/{stem}-{row.sha256[:8]}.{SUFFIX[photo.format]}"
        if name.casefold() not in used:
            used.add(name.casefold())
            yield name, photo.data


def training_bytes(handover: Handover) -> int:
    """How large the photos of `training_zip` are together, in bytes; those in archives left out."""
    size = 0
    for row in labelled_rows(handover.rows):
        kept = handover.store.photo(row.photo_id)
        if kept.suffix or kept.source.member is None:
            path = (
                handover.store.files.path(kept.sha256, kept.suffix)
                if kept.suffix
                else Path(kept.source.path)
            )
            with suppress(OSError):
                size += path.stat().st_size
    return size


def training_zip(handover: Handover) -> bytes:
    """The photos with a verdict as one archive of the folders that `heritage train` takes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in training_folder(handover):
            archive.writestr(name, data)
    return buffer.getvalue()
