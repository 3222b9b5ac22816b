"""The guide says what the app does: its pictures, columns, keys and commands are the real ones."""

import inspect
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from heritage.bands import BANDS, BandThresholds
from heritage.cli import _parser
from heritage.photos import SUFFIXES, Limits
from heritage.spreadsheets import COLUMNS, MOST_OVERLAYS, MOST_PICTURED, band_range
from heritage.web import priority_table
from heritage.web.guide import GUIDE, anchor, guide_parts

ROOT = Path(__file__).resolve().parent.parent
TEXT = GUIDE.read_text(encoding="utf-8")
PICTURES = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXT)
MOST_BYTES, MOST_BYTES_TOGETHER = 300_000, 1_500_000
ARROWS = {"Left": "←", "Right": "→"}


def section(heading):
    """The text below a heading of the guide."""
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)[1]


def rows(text):
    """The cells of each line of the tables in a text, the rule below the head left out."""
    lines = re.findall(r"^\|(.+)\|$", text, re.MULTILINE)
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    return [row for row in cells if not set("".join(row)) <= set("-: ")]


def commands():
    """Every command line in the guide's blocks of code."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line]


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_there_and_small(name):
    assert (GUIDE.parent / name).stat().st_size <= MOST_BYTES


def test_no_picture_is_missing_or_left_over():
    assert 7 <= len(PICTURES) <= 9
    lying = list((GUIDE.parent / "guide").iterdir())
    assert {path.name for path in lying} == {Path(name).name for name in PICTURES}
    assert sum(path.stat().st_size for path in lying) <= MOST_BYTES_TOGETHER


def test_every_column_of_the_csv_is_explained_in_its_order():
    told = rows(section("What the columns mean"))[1:]
    assert {name.strip("`"): meaning for name, meaning in told} == COLUMNS
    assert [name.strip("`") for name, _ in told] == list(COLUMNS)


@pytest.mark.parametrize("command", commands())
def test_every_command_is_understood(command):
    words = shlex.split(command, comments=True)
    assert words[:3] == ["python", "-m", "heritage"]
    assert _parser().parse_args(words[3:]).run


def test_commands_within_the_text_are_there_too():
    for command in re.findall(r"`python -m heritage (\w+)", TEXT):
        assert _parser().parse_args([command, *(["x"] if command != "backbones" else [])]).run


def test_the_keys_are_those_of_the_page():
    told = dict(rows(section("Look at one photo and give a verdict"))[1:])
    told = {key.strip("`"): does for key, does in told.items()}
    for verdict, key in priority_table.KEYS.items():
        assert told.pop(key).endswith(verdict)
    others = re.findall(r'shortcut="(\w+)"', inspect.getsource(priority_table))
    assert set(told) == {ARROWS.get(name, name) for name in others}


def test_the_bands_are_those_of_the_app():
    told = rows(section("Read the table"))[1:]
    thresholds = BandThresholds()
    assert told == [
        [f"{band.icon} {band.name}", band_range(band, thresholds).replace(" %", ""), band.meaning]
        for band in BANDS.values()
    ]


def test_what_may_be_handed_in():
    text = section("Hand in a site visit")
    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    words = " ".join(text.split())
    assert f"ZIP up to {config['server']['maxUploadSize'] // 1024} GB" in words
    assert f"photo may have up to {Limits().max_bytes // 2**20} MB" in words
    named = {"jpeg", "png", "webp", "tiff", "bmp", "heic"}
    assert all(name in text.lower() for name in named)
    assert set(SUFFIXES) - named == {"jpg", "tif", "heif"}


def test_links_lead_to_sections_or_out():
    anchors = {anchor(part.text) for part in guide_parts() if part.kind == "heading"}
    links = re.findall(r"(?<!!)\[[^\]]*\]\(([^)]+)\)", re.sub(r"!\[[^\]]*\]\([^)]+\)", "", TEXT))
    for link in links:
        assert link.removeprefix("#") in anchors or link.startswith("https://"), link


def test_the_page_shows_it_all():
    st.cache_data.clear()
    app = AppTest.from_file(str(ROOT / "pages" / "6_Guide.py"), default_timeout=30).run()
    assert not app.exception
    assert app.title[0].value == re.search(r"^# (.+)$", TEXT, re.MULTILINE)[1]
    headings = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    assert [heading.value for heading in app.header] == headings
    assert len(app.get("image")) == len(PICTURES)
    shown = [element.value for element in app.markdown]
    assert "\n".join(f"- [{heading}](#{anchor(heading)})" for heading in headings) in shown
    assert "`sha256`" in "".join(shown) and "![" not in "".join(shown)


def test_the_numbers_of_pictures_that_leave_are_those_of_the_program():
    told = dict(rows(section("Hand the survey on")))
    assert f"the first {MOST_PICTURED} urgent" in told["Report (PDF)"]
    assert f"the first {MOST_OVERLAYS} urgent" in told["Everything (ZIP)"]
