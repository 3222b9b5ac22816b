import csv
import io
import json
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
from helpers import wall

from heritage.bands import BANDS, BandThresholds
from heritage.exports import encode_jpeg
from heritage.overlays import Region
from heritage.priority import PriorityRow, ranked
from heritage.spreadsheets import (
    COLUMNS,
    TONES,
    SurveyFacts,
    agreement_lines,
    band_counts,
    by_building,
    priority_csv,
    priority_geojson,
    priority_xlsx,
    survey_zip,
    urgent_rows,
)

ROOT = Path(__file__).resolve().parent.parent
THRESHOLDS = BandThresholds()
SURVEY = SurveyFacts(
    "Autumn round", "Abbey Lane", "2026-11-14", "MobileNetV3-Large", THRESHOLDS, "2026-11-21T10:53"
)
FULL = PriorityRow(
    photo="tower/north.jpg",
    building="tower",
    damage_percent=91.25,
    affected_percent=12.5,
    verdict="damaged",
    note="Crack at the lintel,\n3 mm wide",
    backbone="mobilenet_v3_large",
    width=4032,
    height=3024,
    taken_at="2026-11-14T10:02:12",
    latitude=50.1,
    longitude=-8.25,
    sha256="ab" * 32,
    warnings=("Dark photo: use flash.", "Tiny photo."),
    similar_group=1,
    unsure=True,
    verdict_by="Anna",
    verdict_at="2026-11-16T09:12:00+00:00",
    camera="Canon EOS R6",
    regions=(Region(0, 0, 9, 9, 60.0), Region(20, 0, 9, 9, 40.0)),
    heat_map="grad_cam",
)
FAILED = PriorityRow(photo="tower/cut.jpg", building="tower", error="cut.jpg: it ends early")
FORMULAS = [
    "=1+1",
    "+1",
    "-1+cmd|' /C calc'!A0",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\x01=1",
    "  =1",
    "\u00a0=1",
    "＝1",
    "＋1",
    "－1",
    "＠A1",
]
HOSTILE = ["\0 NUL", "half \ud83d a pair", "\x1b[31m", "\ufffe", "<r>x</r>", "_x0041_", "a\u2028b"]


def rows_of(*rows):
    return ranked(rows, THRESHOLDS)


def read_csv(rows):
    return pd.read_csv(io.BytesIO(priority_csv(rows)), encoding="utf-8-sig")


def cells(rows):
    text = priority_csv(rows).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def read_xlsx(rows, thumbnail=lambda row: None, survey=SURVEY):
    return openpyxl.load_workbook(io.BytesIO(priority_xlsx(rows, survey, thumbnail=thumbnail)))


def by_heading(sheet, line):
    return {head.value: cell for head, cell in zip(sheet[1], sheet[line], strict=True)}


def values(sheet):
    return [cell.value for line in sheet.iter_rows() for cell in line if cell.value is not None]


def test_the_columns_are_those_that_readers_rely_on():
    assert ", ".join(COLUMNS) == (
        "rank, photo, building, damage_percent, affected_percent, band, verdict, note, backbone, "
        "width, height, taken_at, latitude, longitude, sha256, duplicate_of, warnings, error, "
        "similar_group, unsure, verdict_by, verdict_at, camera, regions, heat_map"
    )
    assert set(COLUMNS) <= {field.name for field in fields(PriorityRow)}
    assert priority_csv([]).decode("utf-8-sig") == ",".join(COLUMNS) + "\r\n"


def test_pandas_reads_the_csv_back_with_numbers_as_numbers():
    table = read_csv(rows_of(FULL, FAILED, replace(FULL, photo="b.jpg", damage_percent=3.0)))
    for name in ("damage_percent", "affected_percent", "latitude", "longitude", "width"):
        assert table[name].dtype == np.float64, name  # a photo that failed has none
    for name in ("rank", "regions"):
        assert table[name].dtype == np.int64, name
    first = table.iloc[0]
    assert first.damage_percent == 91.25
    assert first.longitude == -8.25
    assert first.regions == 2
    assert first.note == FULL.note
    assert first.warnings == "Dark photo: use flash.; Tiny photo."
    assert table.iloc[2].isna().damage_percent
    assert table.iloc[2].error == FAILED.error


def test_yes_is_true_and_no_is_empty():
    found = cells(rows_of(FULL, replace(FULL, photo="b.jpg", unsure=False)))
    assert [row["unsure"] for row in found] == ["true", ""]


def test_the_csv_has_a_byte_order_mark_and_windows_line_ends():
    data = priority_csv(rows_of(replace(FULL, note="")))
    assert data.startswith(b"\xef\xbb\xbf")
    assert data.count(b"\r\n") == data.count(b"\n") == 2


@pytest.mark.parametrize("text", FORMULAS)
def test_a_note_that_looks_like_a_formula_stays_text(text):
    row = cells(rows_of(replace(FULL, note=text, photo=text, warnings=(text, "b"))))[0]
    for name in ("note", "photo", "warnings"):
        assert row[name].startswith("'"), name
    assert row["note"][-1] == text[-1]


def test_numbers_and_harmless_text_get_no_apostrophe():
    row = cells(rows_of(replace(FULL, note="3 - 4 mm = wide")))[0]
    assert row["longitude"] == "-8.25"
    assert row["note"] == "3 - 4 mm = wide"


def test_tiny_numbers_are_written_without_an_exponent_and_nan_is_empty():
    row = cells([replace(FULL, damage_percent=1e-7, affected_percent=float("nan"))])[0]
    assert row["damage_percent"] == "0.0000001"
    assert row["affected_percent"] == ""


@pytest.mark.parametrize("text", HOSTILE)
def test_text_that_no_format_can_hold_breaks_none_of_them(text):
    rows = rows_of(replace(FULL, note=text, photo=text, building=text, warnings=(text,)))
    assert len(read_csv(rows)) == 1
    assert len(json.loads(priority_geojson(rows).encode())["features"]) == 1
    book = read_xlsx(rows, survey=replace(SURVEY, name=text, site=text))
    assert by_heading(book["Priority"], 2)["Rank"].value == 1


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_no_program_takes_the_rest_of_a_text_for_a_formula(delimiter):
    rows = rows_of(replace(FULL, note=f"loose{delimiter}=1+1{delimiter} @SUM(A1)"))
    table = priority_csv(rows).decode("utf-8-sig").splitlines()
    fields = [field for line in csv.reader(table[1:], delimiter=delimiter) for field in line]
    assert fields
    assert not any(field.strip().startswith(("=", "+", "@")) for field in fields)


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize(
    "text",
    [
        'x;"=1+1;y.jpg',
        'x\t "" @SUM(A1)\ty.jpg',
        "damp\n=1+1",
        "damp\r\n\r\n -1+cmd|' /C calc'!A0",
        'damp\n"+1',
        "damp;＝1",
    ],
)
def test_neither_a_quote_nor_a_line_end_lets_a_formula_begin_a_cell(text, delimiter):
    rows = rows_of(replace(FULL, photo=text, building=text, note=text))
    table = io.StringIO(priority_csv(rows).decode("utf-8-sig"), newline="")
    fields = [field for line in csv.reader(table, delimiter=delimiter) for field in line]
    assert fields
    assert not any(field.strip(' \r\n"').startswith(tuple("=+-@＝")) for field in fields)


def test_a_note_of_several_lines_stays_as_it_was_written():
    note = 'North side: "Gate"; 3 - 4 mm\nwest = dry;\n\n 2 cracks + salt'
    assert cells(rows_of(replace(FULL, note=note)))[0]["note"] == note


def test_in_excel_nothing_is_a_formula_or_a_link():
    texts = [*FORMULAS, "http://example.org", "mailto:a@b.c", "internal:Summary!A1", "<r>x</r>"]
    rows = rows_of(*(replace(FULL, photo=t, note=t, building=t, verdict_by=t) for t in texts))
    book = read_xlsx(rows, survey=replace(SURVEY, name="=1+1", site="http://example.org"))
    for sheet in book:
        for line in sheet.iter_rows():
            assert not any(cell.data_type == "f" or cell.hyperlink for cell in line)
    notes = {by_heading(book["Priority"], line)["Note"].value for line in range(2, len(rows) + 2)}
    assert {"=1+1", "-1+cmd|' /C calc'!A0", "http://example.org", "<r>x</r> "} <= notes


def test_excel_gets_numbers_dates_and_the_band_in_word_icon_and_colour():
    sheet = read_xlsx(rows_of(FULL))["Priority"]
    row = by_heading(sheet, 2)
    assert row["Damage %"].value == 91.25
    assert row["Damage %"].number_format.endswith("0.00")
    assert row["Taken at"].value == datetime(2026, 11, 14, 10, 2, 12)
    assert row["Band"].value == "▲ Urgent"
    assert row["Band"].fill.fgColor.rgb == f"FF{TONES['red'].fill[1:]}"
    assert row["Unsure"].value is True
    assert row["Regions"].value == 2


@pytest.mark.parametrize("moment", ["1826-01-01T00:00:00", "yesterday", ""])
def test_a_date_that_excel_does_not_know_is_text(moment):
    row = by_heading(read_xlsx(rows_of(replace(FULL, taken_at=moment)))["Priority"], 2)
    assert row["Taken at"].value == (moment or None)


def test_the_header_stays_in_view_and_every_column_can_be_filtered():
    sheet = read_xlsx(rows_of(FULL, FAILED))["Priority"]
    assert sheet.freeze_panes.endswith("2")
    assert sheet.auto_filter.ref == sheet.dimensions


def test_each_thumbnail_lies_in_its_row_and_is_no_larger_than_its_cell():
    pictures = {
        "wide.jpg": encode_jpeg(wall(True, (320, 80))),
        "high.jpg": encode_jpeg(wall(False, (60, 240))),
        "broken.jpg": b"no picture at all" * 9,
    }
    rows = rows_of(*(replace(FULL, photo=name) for name in pictures), FAILED)
    book = read_xlsx(rows, thumbnail=lambda row: pictures.get(row.photo))
    sheet = book["Priority"]
    assert [image.anchor._from.row for image in sheet._images] == [1, 2]
    for image in sheet._images:
        assert image.anchor._from.col == image.anchor.to.col == 0
        assert image.anchor._from.row == image.anchor.to.row
        assert image.anchor.editAs in (None, "twoCell")  # it moves and hides with its row
    assert by_heading(sheet, 4)["Photo"].value == "broken.jpg"


@pytest.mark.parametrize("sign", ["x", "🏛"])
def test_a_note_longer_than_a_cell_ends_in_dots(sign):
    row = by_heading(read_xlsx(rows_of(replace(FULL, note=sign * 40_000)))["Priority"], 2)
    note = row["Note"].value
    assert note.endswith(f"{sign}…")
    assert 32_760 < len(note.encode("utf-16-le")) / 2 <= 32_767


def test_the_summary_counts_bands_and_buildings():
    rows = rows_of(
        FULL,
        replace(FULL, photo="b", building="", damage_percent=60.0, verdict="sound"),
        replace(FULL, photo="c", building="", damage_percent=5.0, verdict=""),
        FAILED,
    )
    sheet = read_xlsx(rows)["Summary"]
    lines = [[cell.value for cell in line] for line in sheet.iter_rows()]
    assert ["tower", 2, 1, 0, 0, 0, 1, 91.25, 1] in lines
    assert ["no building", 2, 0, 1, 0, 1, 0, 60, 0] in lines
    assert ["▲ Urgent", "85 % and above", 1] in [line[:3] for line in lines]
    assert ["Photos", 4] in [line[:2] for line in lines]
    told = " ".join(str(value) for value in values(sheet))
    assert "agree on 1 of 2 photos (50.0 %)" in told
    assert "An expert decides" in told


def test_the_columns_sheet_explains_every_column_of_the_csv():
    told = values(read_xlsx([])["Columns"])
    assert set(COLUMNS) <= set(told)
    assert set(COLUMNS.values()) <= set(told)


def test_a_survey_without_photos_is_a_workbook_too():
    book = read_xlsx([])
    assert book.sheetnames == ["Priority", "Summary", "Columns"]
    assert book["Priority"].max_row == 1


def test_bands_have_the_colours_of_the_light_theme():
    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    theme = config["theme"]["light"]
    for band in BANDS.values():
        name = band.colour
        shown = theme[f"{name}Color"], theme[f"{name}BackgroundColor"], theme[f"{name}TextColor"]
        assert TONES[name] == shown


def test_geojson_puts_longitude_first_and_leaves_out_photos_without_a_position():
    lost = [replace(FULL, latitude=None), replace(FULL, latitude=91.0), FAILED]
    found = json.loads(priority_geojson(rows_of(FULL, *lost)))
    assert found["type"] == "FeatureCollection"
    (feature,) = found["features"]
    assert feature["type"] == "Feature"
    assert feature["geometry"] == {"type": "Point", "coordinates": [-8.25, 50.1]}
    assert list(feature["properties"]) == [
        name for name in COLUMNS if name not in ("latitude", "longitude")
    ]


def test_geojson_keeps_the_types_of_json():
    row = replace(FULL, affected_percent=float("inf"), duplicate_of="=a.jpg")
    (feature,) = json.loads(priority_geojson(rows_of(row)))["features"]
    properties = feature["properties"]
    assert properties["damage_percent"] == 91.25
    assert properties["affected_percent"] is None
    assert properties["unsure"] is True
    assert properties["regions"] == 2
    assert properties["warnings"] == ["Dark photo: use flash.", "Tiny photo."]
    assert properties["duplicate_of"] == "=a.jpg"


def test_names_in_the_zip_are_safe_and_differ_in_more_than_case():
    files = {"survey.csv": b"1", "../../etc/passwd": b"2", "Survey.CSV": b"3", "C:\\a\\b.pdf": b"4"}
    twins = [
        replace(FULL, photo="a/Tower.jpg"),
        replace(FULL, photo="b/tower.HEIC"),
        replace(FULL, photo="/etc/../ \0\ud800\u202e"),
        replace(FULL, photo="é.jpg"),
        replace(FULL, photo="e\u0301.jpg"),
    ]
    data = survey_zip(files, ((row, b"jpeg") for row in twins))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert archive.read("survey.csv") == b"1"
    assert len({name.casefold() for name in names}) == len(files) + len(twins)
    for name in names:
        folder, _, stem = name.rpartition("/")
        assert folder in ("", "overlays")
        assert stem[0].isalnum()
        assert not set(stem) & set('\\:*?"<>|') and stem.isprintable()
    assert sum(name.startswith("overlays/") for name in names) == len(twins)


def test_first_come_photos_found_damaged_and_urgent_ones_that_no_expert_found_sound():
    rows = rows_of(
        replace(FULL, photo="found", damage_percent=3.0, verdict="damaged"),
        replace(FULL, photo="urgent", verdict=""),
        replace(FULL, photo="copy", verdict="", duplicate_of="urgent"),
        replace(FULL, photo="cleared", verdict="sound"),
        replace(FULL, photo="high", damage_percent=60.0, verdict=""),
    )
    assert [row.photo for row in urgent_rows(rows)] == ["found", "urgent"]


def test_buildings_come_by_their_urgent_photos():
    rows = rows_of(
        *(replace(FULL, photo=f"{n}", building="many sound", damage_percent=1.0) for n in range(9)),
        replace(FULL, building="one high", damage_percent=60.0),
        replace(FULL, building="one urgent"),
    )
    assert list(by_building(rows)) == ["one urgent", "one high", "many sound"]


def test_agreement_is_told_from_the_threshold_of_high_on_and_only_where_there_are_verdicts():
    found = replace(FULL, damage_percent=40.0)
    assert "0 of 1 photo (" in agreement_lines([found], SURVEY)[0]
    lower = replace(SURVEY, thresholds=BandThresholds(85, 40, 20))
    assert "1 of 1 photo (100.0 %)" in agreement_lines([found], lower)[0]
    assert agreement_lines([replace(found, verdict="unsure")], SURVEY) == []


def test_exports_need_neither_torch_nor_streamlit():
    code = (
        "import sys, heritage.spreadsheets, heritage.report\n"
        "assert not {'torch', 'streamlit', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_copies_count_once_in_all_that_is_counted_by_band():
    copy = replace(FULL, photo="copy", duplicate_of=FULL.photo)
    rows = rows_of(FULL, copy, replace(copy, building="mill"), FAILED)
    assert [row.photo for row in urgent_rows(rows)] == [FULL.photo]
    assert band_counts(rows) == {"Urgent": 1, "High": 0, "Watch": 0, "Sound": 0}
    sheet = read_xlsx(rows)["Summary"]
    lines = [[cell.value for cell in line] for line in sheet.iter_rows()]
    assert ["tower", 2, 1, 0, 0, 0, 1, 91.25, 1] in lines
    assert ["mill", 0, 0, 0, 0, 0, 0, "–", 0] in lines
    assert ["– copies (once in the bands)", 2] in [line[:2] for line in lines]


def test_moments_by_our_own_clock_say_that_they_are_utc():
    book = read_xlsx(rows_of(FULL))
    assert by_heading(book["Priority"], 2)["Verdict at, UTC"].value == datetime(2026, 11, 16, 9, 12)
    assert "2026-11-21 10:53 UTC" in values(book["Summary"])
