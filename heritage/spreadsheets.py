"""A survey as tables for other programs: CSV, XLSX, GeoJSON, and one ZIP with everything."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import xlsxwriter
from xlsxwriter.exceptions import XlsxFileError
from xlsxwriter.image import Image

from heritage.bands import BANDS, URGENT, Band, BandThresholds
from heritage.errors import one_line
from heritage.exports import safe_stem
from heritage.figures import counted
from heritage.priority import DAMAGED, SOUND, UNSURE, PriorityRow, agreement, once

# The order is a promise to those who read the CSV by position: new columns go to the end.
COLUMNS: dict[str, str] = {
    "rank": "Place in the order of urgency, from 1; an expert's verdict outranks the model.",
    "photo": "Name of the photo, with the folders it lay in.",
    "building": "Folder name, or what the building was called in the app.",
    "damage_percent": "Calibrated probability that the photo shows damage, 0 to 100.",
    "affected_percent": "Share of the photo where the heat map is hot, 0 to 100.",
    "band": "Urgent, High, Watch or Sound, from damage % and the survey's thresholds.",
    "verdict": "What an expert says of the photo: damaged, sound or unsure.",
    "note": "What the expert wrote, with a verdict or alone.",
    "backbone": "Name of the checkpoint that answered.",
    "width": "Upright width of the photo in pixels.",
    "height": "Upright height of the photo in pixels.",
    "taken_at": "Date and time by the camera's clock, ISO 8601.",
    "latitude": "Degrees north (WGS 84) by the camera's GPS.",
    "longitude": "Degrees east (WGS 84) by the camera's GPS.",
    "sha256": "SHA-256 hash of the file's bytes: the same hash is the same file.",
    "duplicate_of": "Name of the first photo with the same bytes.",
    "warnings": "What about the photo makes the answer less trustworthy, joined by '; '.",
    "error": "Why the photo could not be read.",
    "similar_group": "Number shared by photos that look nearly the same, from 1.",
    "unsure": "true where answers like this one were too often wrong on validation, else empty.",
    "verdict_by": "Who gave the verdict, or wrote the note.",
    "verdict_at": "Date and time of the verdict, UTC, ISO 8601.",
    "camera": "Make and model of the camera.",
    "regions": "How many separate hot areas the heat map of the photo has.",
    "heat_map": "How the heat map was made: grad_cam of the whole photo, or detail_scan.",
}

MEANING = (
    "Damage % is the calibrated probability that damage shows in the photo, not a share of the "
    "building.",
    "Affected area % is the share of the photo where the heat map is hot. It tells where the model "
    "looks, not how grave the damage is.",
    "The model sees the surface in one photo: nothing behind it, and nothing of how a crack moves.",
    "Photos unlike those it learned from (night, drone, drawings) can mislead it.",
    "An expert decides. A verdict outranks the model in the order of the table.",
)

CELL_LIMIT = 32_767  # UTF-16 code units in one Excel cell
NO_BUILDING = "no building"
MOST_PICTURED = 40  # photos with their picture in the report
MOST_OVERLAYS = 200  # pictures in the ZIP


class Tone(NamedTuple):
    """Colours of a band on light ground: for bars, for a cell, and for text on that cell."""

    solid: str
    fill: str
    ink: str


# The light theme of .streamlit/config.toml, by the colour's name there.
TONES = {
    "red": Tone("#A8322A", "#F6E0DA", "#8A2A22"),
    "orange": Tone("#B8621B", "#F6E5D3", "#8A4413"),
    "yellow": Tone("#A87A12", "#F3EACB", "#70530A"),
    "green": Tone("#3F7A56", "#E0EBDF", "#2F5A3F"),
}
INK, MUTED, ACCENT, STONE, LINE = "#161412", "#5F594F", "#A2452B", "#EBE7DE", "#CFC8BA"


@dataclass(frozen=True)
class SurveyFacts:
    """What tables and reports say of the survey as a whole.

    Attributes:
        name: What the survey is called.
        site: Where the photos were taken, or empty.
        date: ISO 8601 date of the visit, None where it is not known.
        checkpoint_title: What the checkpoint that answered is called.
        thresholds: Damage % at which the bands begin.
        made_at: ISO 8601 date and time of the export, UTC.
        absolute_heat: Whether heat means the same in every photo, not within one only.
    """

    name: str
    site: str
    date: str | None
    checkpoint_title: str
    thresholds: BandThresholds
    made_at: str
    absolute_heat: bool = False


def priority_csv(rows: Sequence[PriorityRow]) -> bytes:
    """The priority table as CSV, with the columns of `COLUMNS`.

    UTF-8 with byte order mark, CRLF, decimal points, empty for what is not known, `true` or empty
    for yes and no. Text that a spreadsheet would take for a formula gets a leading apostrophe.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows([_csv_cell(value) for value in _record(row).values()] for row in rows)
    return buffer.getvalue().encode("utf-8-sig")


def priority_geojson(rows: Sequence[PriorityRow]) -> str:
    """The photos with a position as an RFC 7946 FeatureCollection, to lay over a map.

    Properties are the columns of the CSV but for the position; warnings are a list.
    """
    features = []
    for row in rows:
        values = _record(row)
        latitude, longitude = values.pop("latitude"), values.pop("longitude")
        if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
            continue
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Point", "coordinates": [longitude, latitude]},
                "properties": values,
            }
        )
    collection = {"type": "FeatureCollection", "features": features}
    return json.dumps(collection, ensure_ascii=False, allow_nan=False)


def priority_xlsx(
    rows: Sequence[PriorityRow],
    survey: SurveyFacts,
    *,
    thumbnail: Callable[[PriorityRow], bytes | None],
) -> bytes:
    """The priority table as an Excel workbook, with a summary and what the columns mean.

    All text is written as text: nothing in it becomes a formula or a link.

    Args:
        rows: The table as `heritage.priority.ranked` gives it.
        survey: Facts about the survey.
        thumbnail: Gives a row's small picture as JPEG or PNG bytes, None where there is none.
    """
    buffer = io.BytesIO()
    # One temporary file per thumbnail would take several times as long.
    with xlsxwriter.Workbook(buffer, {"in_memory": True}) as book:
        book.set_properties({"title": one_line(survey.name), "comments": MEANING[0]})
        _priority_sheet(book, rows, thumbnail)
        _summary_sheet(book, rows, survey)
        _columns_sheet(book)
    return buffer.getvalue()


def survey_zip(
    files: Mapping[str, bytes], overlays: Iterable[tuple[PriorityRow, bytes]] = ()
) -> bytes:
    """One ZIP of `files` by name, and a folder `overlays` with the pictures of some rows.

    Names inside are safe to unpack anywhere: no folders of their own, and none that differ from
    another only by case.

    Args:
        files: Content by file name, such as `survey.csv`.
        overlays: Rows with their pictures as JPEG bytes; taken one at a time.
    """
    buffer, taken = io.BytesIO(), set[str]()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            suffix = PurePosixPath(name).suffix
            archive.writestr(free_name("", safe_stem(name), suffix, taken), data)
        for row, data in overlays:
            stem = f"{row.rank:04d}-{safe_stem(row.photo)}"
            # A JPEG grows when it is compressed again.
            name = free_name("overlays/", stem, ".jpg", taken)
            archive.writestr(name, data, zipfile.ZIP_STORED)
    return buffer.getvalue()


def urgent_rows(rows: Sequence[PriorityRow]) -> list[PriorityRow]:
    """The rows to look at first: found damaged, or Urgent and not found sound; copies once."""
    return [
        row
        for row in once(rows)
        if (row.verdict == DAMAGED or (row.band == URGENT.name and row.verdict != SOUND))
    ]


def band_counts(rows: Iterable[PriorityRow]) -> dict[str, int]:
    """Number of photos per band, most urgent band first: copies once, none without an answer."""
    counts = dict.fromkeys(BANDS, 0)
    for row in once(rows):
        if row.band:
            counts[row.band] += 1
    return counts


def by_building(rows: Iterable[PriorityRow]) -> dict[str, list[PriorityRow]]:
    """Rows per building, the building with the most Urgent photos first, then the most High."""
    groups: dict[str, list[PriorityRow]] = {}
    for row in rows:
        groups.setdefault(row.building or NO_BUILDING, []).append(row)
    counts = {name: [-n for n in band_counts(found).values()] for name, found in groups.items()}
    return dict(sorted(groups.items(), key=lambda item: (counts[item[0]], item[0])))


def band_range(band: Band, thresholds: BandThresholds) -> str:
    """The damage % that make up `band`, in words."""
    urgent, high, watch = (
        f"{percent:g}"
        for percent in (
            thresholds.urgent_percent,
            thresholds.high_percent,
            thresholds.watch_percent,
        )
    )
    return {
        "Urgent": f"{urgent} % and above",
        "High": f"{high} to {urgent} %",
        "Watch": f"{watch} to {high} %",
        "Sound": f"below {watch} %",
    }[band.name]


def agreement_lines(rows: Sequence[PriorityRow], survey: SurveyFacts) -> list[str]:
    """How often the expert's verdicts and the model agree, in words; empty without verdicts."""
    threshold = survey.thresholds.high_percent
    counts = agreement(rows, threshold)
    total = sum(counts.values())
    if not total:
        return []
    agreed = counts["damaged_as_damaged"] + counts["sound_as_sound"]
    lines = [
        f"Model and expert agree on {agreed} of {counted(total)} ({100 * agreed / total:.1f} %). "
        f"From {threshold:g} % on, the model's answer counts as damaged."
    ]
    for verdict in (DAMAGED, SOUND):
        found = counts[f"{verdict}_as_damaged"] + counts[f"{verdict}_as_sound"]
        lines.append(
            f"Found {verdict} by an expert: {counted(found)}, of which the model agrees on "
            f"{counts[f'{verdict}_as_{verdict}']}."
        )
    return lines


def moment_text(iso: str) -> str:
    """An ISO 8601 date and time to the minute, as people write it: `2026-05-03 14:22`."""
    return iso[:16].replace("T", " ")


def utc_text(iso: str) -> str:
    """The same of a moment by this program's clock, which is not that of a camera."""
    return f"{moment_text(iso)} UTC" if iso else ""


def clean(text: str) -> str:
    """`text` without what no file format can hold: control characters, halves of surrogates."""
    return _UNWRITABLE.sub("\ufffd", text)


_UNWRITABLE = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def _record(row: PriorityRow) -> dict[str, Any]:
    """The values of `COLUMNS` as JSON knows them: clean text, None for nan and infinity."""
    values: dict[str, Any] = {name: getattr(row, name) for name in COLUMNS}
    values |= {"warnings": [clean(words) for words in row.warnings], "regions": len(row.regions)}
    for name, value in values.items():
        if isinstance(value, str):
            values[name] = clean(value)
        elif isinstance(value, float) and not math.isfinite(value):
            values[name] = None
    return values


def _csv_cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else ""
    if isinstance(value, float):
        return np.format_float_positional(value, trim="0")  # never 1e-05
    text = "; ".join(value) if isinstance(value, list) else str("" if value is None else value)
    if isinstance(value, int):
        return text
    text = _CELL_START.sub(lambda at: f"{at[1]}{_guard(at[2])}{at[2]}", text)
    first = text.lstrip(" \u00a0\u3000\ufeff")[:1]
    return f"'{text}" if first in tuple("\t\r\n") else _guard(first) + text


# A program set to semicolons or tabs begins a cell there, and after a line end, quotes or not.
_CELL_START = re.compile(r'([;\t\r\n](?:[^\S\t\r\n]|[\ufeff"])*)([^\s\ufeff";])')


def _guard(sign: str) -> str:
    """An apostrophe where a cell that begins with `sign` may be taken for a formula."""
    # NFKC makes a plain sign of its full-width, small and raised variants.
    return "'" if unicodedata.normalize("NFKC", sign) in tuple("=+-@\ufffd") else ""


def _excel_text(value: str) -> str:
    text = clean(value.replace("\r\n", "\n").replace("\r", "\n"))
    if len(text.encode("utf-16-le")) > 2 * CELL_LIMIT:
        text = text.encode("utf-16-le")[: 2 * (CELL_LIMIT - 1)].decode("utf-16-le", "ignore") + "…"
    # XlsxWriter writes what is wrapped in <r> tags into the file as it stands.
    return f"{text} " if text.startswith("<r>") and text.endswith("</r>") else text


def _heading(name: str) -> str:
    special = {
        "affected_percent": "Affected area %",
        "sha256": "SHA-256",
        "verdict_at": "Verdict at, UTC",
    }
    return special.get(name) or name.replace("_percent", " %").replace("_", " ").capitalize()


WIDTHS = {
    **{"photo": 34, "building": 22, "note": 42, "warnings": 42, "error": 42, "backbone": 22},
    **{"taken_at": 16, "verdict_at": 16, "sha256": 68, "duplicate_of": 28, "camera": 22},
}
NUMBER_FORMATS = {
    # As `percent_text`: never rounded to certainty, nor, as one decimal might be, to another band.
    **{"damage_percent": '[>99.9]"> 99.9";[<0.1]"< 0.1";0.00', "affected_percent": "0.0"},
    **{"latitude": "0.000000", "longitude": "0.000000"},
}
NUMBERS = (
    *("rank", "damage_percent", "affected_percent", "width", "height", "latitude", "longitude"),
    *("similar_group", "regions"),
)
NUMBER_HEADINGS = {_heading(name) for name in NUMBERS}
WRAPPED = ("photo", "building", "note", "duplicate_of", "warnings", "error")
THUMBNAIL_PX = (112, 84)


def _priority_sheet(
    book: Any, rows: Sequence[PriorityRow], thumbnail: Callable[[PriorityRow], bytes | None]
) -> None:
    sheet = book.add_worksheet("Priority")
    number = {"valign": "top", "font_color": INK}
    plain = number | {"align": "left", "indent": 1}
    text, wrapped = book.add_format(plain), book.add_format(plain | {"text_wrap": True})
    numbers = {
        name: book.add_format(number | {"num_format": NUMBER_FORMATS.get(name, "0")})
        for name in COLUMNS
    }
    moment = book.add_format(plain | {"num_format": "yyyy-mm-dd hh:mm"})
    bands = {
        name: book.add_format(
            plain
            | {"bold": True, "bg_color": tone.fill, "font_color": tone.ink, "border": 1}
            | {"border_color": LINE}
        )
        for name, tone in ((band.name, TONES[band.colour]) for band in BANDS.values())
    }
    _header(book, sheet, ["Picture", *map(_heading, COLUMNS)])
    sheet.set_column_pixels(0, 0, THUMBNAIL_PX[0] + 8)
    for column, name in enumerate(COLUMNS, start=1):
        sheet.set_column(column, column, WIDTHS.get(name, max(9, len(_heading(name)) + 3)))
    for line, row in enumerate(rows, start=1):
        if _insert_thumbnail(sheet, line, row, thumbnail(row)):
            sheet.set_row_pixels(line, THUMBNAIL_PX[1] + 8)
        for column, (name, value) in enumerate(_record(row).items(), start=1):
            when = _date(value) if name in ("taken_at", "verdict_at") else None
            if name == "band" and value:
                band = BANDS[value]
                sheet.write_string(line, column, f"{band.icon} {band.name}", bands[value])
            elif when is not None:
                sheet.write_datetime(line, column, when, moment)
            elif isinstance(value, bool):
                if value:
                    sheet.write_boolean(line, column, value, text)
            elif isinstance(value, int | float):
                sheet.write_number(line, column, value, numbers[name])
            elif value:
                told = "; ".join(value) if isinstance(value, list) else value
                style = wrapped if name in WRAPPED else text
                sheet.write_string(line, column, _excel_text(told), style)
    sheet.autofilter(0, 0, len(rows), len(COLUMNS))
    sheet.freeze_panes(1, 3)
    sheet.print_area(0, 0, len(rows), list(COLUMNS).index("note") + 1)
    sheet.repeat_rows(0)
    _print_on_a4(sheet)


def _insert_thumbnail(sheet: Any, line: int, row: PriorityRow, data: bytes | None) -> bool:
    """Fits the picture into the first cell of `line`; False where there is none to show."""
    if not data:
        return False
    with suppress(XlsxFileError):  # no picture, or one of another format
        picture = Image(io.BytesIO(data))
        width_px, height_px = (
            picture.width * 96 / picture.x_dpi,
            picture.height * 96 / picture.y_dpi,
        )
        scale = min(THUMBNAIL_PX[0] / width_px, THUMBNAIL_PX[1] / height_px)
        sheet.insert_image(
            *(line, 0, picture),
            {
                **{"x_scale": scale, "y_scale": scale, "x_offset": 4, "y_offset": 4},
                "object_position": 1,  # moves and hides with its row when sorted or filtered
                "description": one_line(row.photo),
            },
        )
        return True
    return False


def _summary_sheet(book: Any, rows: Sequence[PriorityRow], survey: SurveyFacts) -> None:
    sheet = book.add_worksheet("Summary")
    text = {"font_color": INK, "align": "left"}
    title = book.add_format({"bold": True, "font_size": 16, "font_color": ACCENT})
    heading = book.add_format({"bold": True, "font_size": 12, "bottom": 1, "bottom_color": LINE})
    left, word = book.add_format(text | {"font_color": MUTED}), book.add_format(text)
    right = book.add_format({"font_color": MUTED, "align": "right"})
    facts = book.add_format(text | {"num_format": "#,##0"})
    whole = book.add_format({"num_format": "#,##0"})
    percent = book.add_format({"num_format": NUMBER_FORMATS["damage_percent"]})
    bands = {
        band: book.add_format({"bold": True, "bg_color": tone.fill, "font_color": tone.ink})
        for band, tone in ((band, TONES[band.colour]) for band in BANDS.values())
    }
    sheet.set_column(0, 0, 30)
    sheet.set_column(1, SUMMARY_COLUMNS - 1, 14)
    sheet.hide_gridlines(2)
    _print_on_a4(sheet)
    sheet.write_string(0, 0, _excel_text(survey.name), title)
    line = 2
    for words, header, lines in _summary(rows, survey):
        for column in range(SUMMARY_COLUMNS):
            sheet.write_blank(line, column, None, heading)
        sheet.write_string(line, 0, words, heading)
        for column, head in enumerate(header):
            above_numbers = lines and isinstance(lines[0][column], int | float)
            sheet.write_string(line + 1, column, head, right if above_numbers else left)
        line += bool(header)
        for cells in lines:
            line += 1
            for column, cell in enumerate(cells):
                if isinstance(cell, Band):
                    sheet.write_string(line, column, f"{cell.icon} {cell.name}", bands[cell])
                elif isinstance(cell, int | float):
                    style = percent if isinstance(cell, float) else whole
                    sheet.write_number(line, column, cell, style if header else facts)
                else:
                    sheet.write_string(line, column, _excel_text(cell), word)
        line += 2


SUMMARY_COLUMNS = 9
Cells = Sequence[str | int | float | Band]


def _summary(
    rows: Sequence[PriorityRow], survey: SurveyFacts
) -> Iterable[tuple[str, Cells, list[Cells]]]:
    """The parts of the summary: heading, words above the columns, lines."""
    yield (
        "Survey",
        (),
        [
            ("Site", survey.site or "–"),
            ("Date of the visit", survey.date or "–"),
            ("Checkpoint", survey.checkpoint_title),
            ("Exported at", utc_text(survey.made_at)),
            ("Photos", len(rows)),
            ("– inspected", sum(row.damage_percent is not None for row in rows)),
            ("– could not be read", sum(bool(row.error) for row in rows)),
            ("– copies (once in the bands)", sum(bool(row.duplicate_of) for row in rows)),
            ("Verdicts (copies once)", sum(bool(row.verdict) for row in once(rows))),
            ("– of these unsure", sum(row.verdict == UNSURE for row in once(rows))),
        ],
    )
    bands: list[Cells] = [
        (band, band_range(band, survey.thresholds), count, "", band.meaning)
        for band, count in zip(BANDS.values(), band_counts(rows).values(), strict=True)
    ]
    yield "Bands", ("Band", "Damage %", "Photos", "", "Meaning"), bands
    buildings: list[Cells] = []
    for name, with_copies in by_building(rows).items():
        found = once(with_copies)
        counts = list(band_counts(found).values())
        answers = [row.damage_percent for row in found if row.damage_percent is not None]
        highest = max(answers) if answers else "–"
        verdicts = sum(row.verdict == DAMAGED for row in found)
        buildings.append((name, len(found), *counts, len(found) - sum(counts), highest, verdicts))
    headings = ("Building", "Photos", *BANDS, "No answer", "Highest %", "Found damaged")
    yield "Buildings", headings, buildings
    agreed = agreement_lines(rows, survey) or ["Nobody has judged an inspected photo yet."]
    yield "Verdicts and the model", (), [[words] for words in agreed]
    yield "What the numbers mean", (), [[words] for words in MEANING]


def _columns_sheet(book: Any) -> None:
    sheet = book.add_worksheet("Columns")
    _header(book, sheet, ["Column", "In CSV and GeoJSON", "Meaning"])
    plain = {"valign": "top", "align": "left", "indent": 1, "font_color": INK}
    wrapped = book.add_format(plain | {"text_wrap": True})
    code = book.add_format(plain | {"font_color": MUTED})
    sheet.set_column(0, 1, 22)
    sheet.set_column(2, 2, 90)
    for line, (name, meaning) in enumerate(COLUMNS.items(), start=1):
        sheet.write_string(line, 0, _heading(name), wrapped)
        sheet.write_string(line, 1, name, code)
        sheet.write_string(line, 2, meaning, wrapped)
    sheet.freeze_panes(1, 0)
    _print_on_a4(sheet)


def _print_on_a4(sheet: Any) -> None:
    sheet.set_landscape()
    sheet.set_paper(9)  # A4
    sheet.fit_to_pages(1, 0)
    sheet.set_footer("&L&F&RPage &P of &N")


def _header(book: Any, sheet: Any, words: list[str]) -> None:
    look = {"bold": True, "bg_color": STONE, "font_color": MUTED, "bottom": 1, "bottom_color": LINE}
    left = book.add_format(look | {"align": "left", "indent": 1})
    right = book.add_format(look | {"align": "right"})
    for column, word in enumerate(words):
        sheet.write_string(0, column, word, right if word in NUMBER_HEADINGS else left)


def _date(value: str | None) -> datetime | None:
    """The moment that `value` names, without its time zone; None where Excel knows no such day."""
    try:
        moment = datetime.fromisoformat(value or "")
    except ValueError:
        return None
    return moment.replace(tzinfo=None) if moment.year >= 1900 else None


def free_name(folder: str, stem: str, suffix: str, taken: set[str]) -> str:
    """A path that is not in `taken` by any spelling; it is put there."""
    suffix = suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", suffix) else ""
    number, name = 1, f"{folder}{stem}{suffix}"
    while unicodedata.normalize("NFKC", name).casefold() in taken:
        number += 1
        name = f"{folder}{stem}-{number}{suffix}"
    taken.add(unicodedata.normalize("NFKC", name).casefold())
    return name
