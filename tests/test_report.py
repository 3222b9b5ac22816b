import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pypdfium2
import pypdfium2.raw
import pytest
from helpers import wall

from heritage.bands import BandThresholds
from heritage.cards import ModelCard
from heritage.exports import encode_jpeg
from heritage.overlays import Region
from heritage.priority import PriorityRow, ranked
from heritage.report import _damage_chart, priority_pdf
from heritage.spreadsheets import SurveyFacts

THRESHOLDS = BandThresholds()
SURVEY = SurveyFacts(
    "Autumn round", "Abbey Lane", "2026-11-14", "MobileNetV2", THRESHOLDS, "2026-11-21T10:53:00"
)
ROW = PriorityRow(
    photo="tower/north.jpg",
    building="tower",
    damage_percent=91.3,
    affected_percent=12.5,
    taken_at="2026-11-14T10:02:12",
    warnings=("Dark photo: damage may hide in the shadow.",),
    evidence=True,
    regions=(Region(0, 0, 9, 9, 100.0),),
)
FIGURE = {"value": 0.812, "low": 0.754, "high": 0.869}
CARD = ModelCard(
    name="mobilenet_v2",
    backbone="mobilenet_v2",
    sha256="ab" * 32,
    parameters=1,
    unsure=(0.3, 0.6),
    data={"photos": {"train": {"sound": 20, "damaged": 10}}, "sources": ["old-walls"]},
    metrics={"test_other_source": {"n": 316, "balanced_accuracy": FIGURE}},
    licence="Apache-2.0",
    limits=("It cannot see behind the plaster.", "An expert decides."),
)
PICTURE = encode_jpeg(wall(True, (240, 180)))
HOSTILE = [
    "<b>bold</b> **stars** __lines__ {nb} [a](http://b)",
    "x" * 3000,
    "word " * 3000,
    "\n" * 50,
    "שלום (עולם)",
    "مرحبا",
    "大门 😀👨‍👩‍👧",
    "$\\frac{$",
    "a\u202egpj.exe \0\x1b\ud800\ufffe\u2028",
    "e" + "\u0301" * 200,
    "",
]


def report(rows, survey=SURVEY, card=CARD, overlay=lambda row: None, **options):
    rows = ranked(rows, survey.thresholds)
    return pypdfium2.PdfDocument(priority_pdf(rows, survey, card, overlay=overlay, **options))


def text_of(pdf):
    pages = [page.get_textpage().get_text_range() for page in pdf]
    return " ".join(" ".join(pages).split())


def pictures(page):
    return list(page.get_objects([pypdfium2.raw.FPDF_PAGEOBJ_IMAGE]))


def many(count, **fields):
    return [replace(ROW, photo=f"tower/{n}.jpg", **fields) for n in range(count)]


def test_the_report_names_the_survey_and_counts_the_bands():
    rows = [ROW, *many(3, damage_percent=60.0), *many(2, damage_percent=30.0)]
    pdf = report(rows)
    first = " ".join(pdf[0].get_textpage().get_text_range().split())
    for words in ("Autumn round", "Abbey Lane", "2026-11-14", "6 photos of 1 building"):
        assert words in first
    for words in ("▲ Urgent 1 85 % and above", "◆ High 3 50 to 85 %", "● Watch 2 20 to 50 %"):
        assert words in first
    assert len(pictures(pdf[0])) == 2  # the charts
    assert pdf.get_metadata_value("Title") == "Autumn round"
    assert b"/Lang (en-GB)" in priority_pdf([], SURVEY, CARD, overlay=lambda row: None)


def test_every_page_tells_its_number_and_the_date_of_the_report():
    pdf = report(many(5))
    for number, page in enumerate(pdf, start=1):
        text = " ".join(page.get_textpage().get_text_range().split())
        assert f"Page {number} of {len(pdf)}" in text
        assert "Report of 2026-11-21 (UTC)" in text


def test_an_urgent_photo_is_shown_with_all_that_is_known_of_it():
    judged = replace(
        ROW,
        verdict="damaged",
        note="Monitor with a gauge.",
        verdict_by="Anna",
        verdict_at="2026-11-16T09:12:00",
    )
    pdf = report([judged], overlay=lambda row: PICTURE)
    assert len(pictures(pdf[1])) == 1
    text = " ".join(pdf[1].get_textpage().get_text_range().split())
    for words in (
        "tower/north.jpg",
        "tower · 2026-11-14 10:02",
        "91.3 %",
        "▲ Urgent",
        "Affected area 12.5 % of the photo, 1 hot area",
        "Verdict: damaged",
        "Anna · 2026-11-16 09:12 UTC",
        "Monitor with a gauge.",
        "Dark photo: damage may hide in the shadow.",
    ):
        assert words in text


def test_a_scan_that_finds_no_place_does_not_speak_against_the_damage_of_the_whole():
    found = {
        method: text_of(report([replace(ROW, evidence=False, regions=(), heat_map=method)]))
        for method in ("detail_scan", "grad_cam")
    }
    close_by = "Close by, no place stands out; damage % is of the whole photo."
    assert [close_by in text for text in found.values()] == [True, False]
    speaks = [text.count("nothing in this photo speaks for damage") for text in found.values()]
    assert speaks == [0, 1]


def test_the_summary_is_told_to_its_end_and_no_building_is_none():
    rows = many(400)
    rows = [replace(row, building=f"house {n % 12}") for n, row in enumerate(rows)]
    rows[:2] = [replace(row, error="cut short", damage_percent=None, band="") for row in rows[:2]]
    rows[2:5] = [replace(row, duplicate_of="0.jpg") for row in rows[2:5]]
    told = text_of(report(rows))
    assert "400 photos of 12 buildings, 398 inspected. 2 photos could not be read." in told
    assert "Below, copies count once: 3 fewer." in told
    loose = text_of(report([replace(row, building="") for row in many(3)]))
    assert "3 photos, 3 inspected." in loose


def test_damage_is_never_rounded_to_certainty():
    text = text_of(report([replace(ROW, damage_percent=99.98)]))
    assert "> 99.9 %" in text
    assert "100.0 %" not in text


def test_pictures_are_asked_for_only_where_they_are_shown_and_the_report_says_how_many_are_not():
    asked = []
    rows = [*many(5), *many(3, damage_percent=10.0)]
    pdf = report(rows, overlay=lambda row: asked.append(row.photo) or PICTURE, most=2)
    assert asked == ["tower/0.jpg", "tower/1.jpg"]
    assert sum(len(pictures(page)) for page in pdf) == 2 + 2
    text = text_of(pdf)
    assert "The first 2 are shown; the other 3 are in the list" in text
    assert "6 photos, most urgent first" in text


def test_a_note_without_a_verdict_is_in_the_report():
    row = replace(ROW, verdict="", verdict_at=None, note="scaffold in front", verdict_by="Ana")
    told = text_of(report([row]))
    assert "scaffold in front" in told and "Ana" in told and "Verdict:" not in told


def test_a_verdict_outranks_the_model_in_what_to_look_at_first():
    found = replace(ROW, photo="found.jpg", damage_percent=3.0, verdict="damaged")
    cleared = replace(ROW, photo="cleared.jpg", verdict="sound")
    asked = []
    report([found, cleared], overlay=lambda row: asked.append(row.photo))
    assert asked == ["found.jpg"]


def test_what_is_no_picture_is_said_in_words():
    assert "No picture" in text_of(report([ROW], overlay=lambda row: None))
    assert "No picture" in text_of(report([ROW], overlay=lambda row: b"no picture at all"))


def test_a_long_list_says_how_much_of_it_is_shown():
    text = text_of(report(many(230, damage_percent=10.0)))
    assert "230 photos, most urgent first. The first 200 are listed" in text
    assert "tower/199.jpg" in text
    assert "tower/200.jpg" not in text


def test_verdicts_are_compared_with_the_model():
    text = text_of(report([replace(ROW, verdict="damaged"), replace(ROW, verdict="sound")]))
    assert "agree on 1 of 2 photos (50.0 %)" in text


def test_the_model_is_told_with_its_figures_intervals_and_limits():
    text = text_of(report([ROW]))
    for words in (
        "MobileNetV2 is a neural network that learned from 30 photos (20 sound, 10 damaged)",
        "old-walls",
        "Other sources 316 81.2 % [75.4–86.9]",
        "It cannot see behind the plaster.",
        "Answers between 30 % and 60 % were too often wrong",
    ):
        assert words in text
    assert text.count("An expert decides. Checkpoint") == 1


def test_a_card_without_figures_or_limits_still_has_its_limits_told():
    text = text_of(
        report([], card=replace(CARD, data={}, metrics={}, limits=(), unsure=(0.5, 0.5)))
    )
    assert "Its card holds no figures" in text
    assert "The model sees the surface in one photo" in text


def test_an_empty_survey_says_what_to_do():
    pdf = report([])
    assert "no photos yet: add some" in text_of(pdf)
    assert pictures(pdf[0]) == []


def test_photos_that_all_failed_are_listed_with_their_reasons():
    failed = PriorityRow(photo="cut.jpg", error="cut.jpg: the JPEG ends early; copy it again")
    text = text_of(report([failed, replace(failed, photo="b.jpg")]))
    assert "2 photos could not be read" in text
    assert text.count("the JPEG ends early; copy it again") == 2


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_breaks_neither_the_layout_nor_the_log(text, caplog):
    row = replace(ROW, photo=text, building=text, note=text, verdict="damaged", verdict_by=text)
    row = replace(row, warnings=(text,) * 9, taken_at=text)
    rows = [row, replace(row, verdict="", error=text, damage_percent=None, duplicate_of=text)]
    survey = replace(SURVEY, name=text, site=text, date=text, checkpoint_title=text, made_at=text)
    card = replace(CARD, name=text, limits=(text,) * 9, licence=text)
    with caplog.at_level(logging.WARNING):
        pdf = report(rows, survey, card, overlay=lambda row: PICTURE)
    assert not caplog.records
    assert 3 <= len(pdf) <= 5
    for page in pdf:
        width, height = page.get_size()
        shown = page.get_textpage()
        boxes = np.array([shown.get_charbox(n) for n in range(shown.count_chars())])
        assert boxes.min() >= 20
        assert boxes[:, 2].max() <= width - 45
        assert boxes[:, 3].max() <= height - 45


def test_markup_is_shown_as_it_was_written():
    text = text_of(report([replace(ROW, note=HOSTILE[0], verdict="damaged")]))
    assert HOSTILE[0] in text


def test_right_to_left_names_read_from_the_right_within_brackets_that_face_them():
    pdf = report([replace(ROW, photo="שלום (עד)", damage_percent=10.0)])
    page = next(p for p in pdf if "All photos" in p.get_textpage().get_text_range())
    shown = page.get_textpage()
    places = [
        (shown.get_charbox(n)[0], shown.get_text_range(n, 1)) for n in range(shown.count_chars())
    ]
    drawn = [sign for _, sign in sorted(place for place in places if place[1] in "שלוםעד()")]
    assert drawn[0] == "("
    assert [sign for sign in drawn if sign not in "()"] == list("דעםולש")


def test_signs_without_a_glyph_become_boxes_and_leave_the_rest():
    text = text_of(report([replace(ROW, photo="大门-7.jpg")]))
    assert "□□-7.jpg" in text


def test_of_a_long_path_the_end_is_shown():
    name = f"{'survey of the north side/' * 20}IMG_0412.jpg"
    text = text_of(report([replace(ROW, photo=name)]))
    assert "IMG_0412.jpg" in text
    assert name not in text


def test_reports_made_at_the_same_time_are_whole():
    rows = [*many(4), *many(4, damage_percent=10.0, building="mill")]
    alone = text_of(report(rows))
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: text_of(report(rows)), range(4)))
    assert made == [alone] * 4


def test_copies_count_once_and_their_pictures_are_shown_once():
    found = replace(ROW, verdict="damaged")
    copies = [replace(found, photo=f"copy{n}.jpg", duplicate_of=ROW.photo) for n in range(2)]
    asked = []
    pdf = report([found, *copies], overlay=lambda row: asked.append(row.photo))
    assert asked == [ROW.photo]
    first = " ".join(pdf[0].get_textpage().get_text_range().split())
    assert "▲ Urgent 1 85 % and above" in first
    assert "Below, copies count once: 2 fewer." in first
    assert "copy1.jpg" in text_of(pdf)


def test_the_chart_of_damage_counts_copies_once():
    copy = replace(ROW, photo="copy.jpg", duplicate_of=ROW.photo)
    alone, both = (
        _damage_chart(ranked(rows, THRESHOLDS), THRESHOLDS) for rows in ([ROW], [ROW, copy])
    )
    assert alone == both
