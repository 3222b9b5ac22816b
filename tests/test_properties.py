"""What holds for any input, tried on many that nobody thought of; the same ones on every run."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from dataclasses import asdict, fields, replace

import bad_input
import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml

from heritage.bands import BandThresholds
from heritage.cards import ModelCard, card_from_values, list_cards, read_card, write_card
from heritage.errors import HeritageError
from heritage.photos import open_photo
from heritage.priority import PriorityRow, ranked
from heritage.sources import below_root, list_zip, read_source, upload_label
from heritage.spreadsheets import SurveyFacts, clean, priority_csv, priority_xlsx
from heritage.training.datasets import read_samples
from heritage.web.frame import plain

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")


def examples(count):
    """So many inputs, the same on every run, however long each takes."""
    shared_folder = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(
        max_examples=count, derandomize=True, deadline=None, suppress_health_check=shared_folder
    )


def refused(call):
    """Whether `call` ends in an error, which then is one line for people."""
    try:
        call()
    except HeritageError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 500
        return True
    return False


@st.composite
def spoilt(draw, whole):
    """`whole` with a few bytes overwritten, taken out, put in or doubled, and perhaps cut."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(0, 40))
        new = draw(st.binary(max_size=16) | st.sampled_from((b"\0" * 4, b"\xff" * 4, b"\x7f\xff")))
        match draw(st.integers(0, 3)):
            case 0:
                data[at : at + len(new)] = new
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = new
            case 3:
                data[at:at] = data[at : at + length]
    return bytes(data[: draw(st.just(len(data)) | st.integers(0, len(data)))])


ATTACKS = [*bad_input.NAMES.values(), "..", "/", "\\", "~", "=", "+", "@", "\t", "\ufeff", "<r>"]
texts = st.lists(st.sampled_from(ATTACKS) | st.text(max_size=8), max_size=5).map("".join)
writable = texts.map(lambda text: text.encode("utf-8", "replace").decode())


# --- photos and ZIPs -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", bad_input.GOOD)
@examples(60)
@given(st.data())
def test_any_damage_to_a_photo_leaves_a_picture_or_an_error(kind, data):
    stored = data.draw(spoilt(bad_input.good(kind)))

    def read():
        photo = open_photo(stored, "tower.jpg")
        if photo.width * photo.height < 1_000_000:
            assert photo.pixels().shape == (photo.height, photo.width, 3)

    refused(read)


@examples(200)
@given(st.binary(max_size=200), st.sampled_from([b"", *map(bad_input.good, bad_input.GOOD)]))
def test_any_bytes_are_a_picture_or_an_error(noise, sound):
    for stored in (noise, sound[:12] + noise, noise + sound):
        refused(lambda stored=stored: open_photo(stored, "tower.jpg").pixels())


ZIP = bad_input.zipped([(f"house {n}/{n}.jpg", bad_input.good("jpeg")[:400]) for n in range(3)])


@examples(250)
@given(spoilt(ZIP) | st.binary(max_size=200))
def test_any_damage_to_a_zip_leaves_photos_or_errors(tmp_path, stored):
    path = tmp_path / "visit.zip"
    path.unlink(missing_ok=True)
    path.write_bytes(stored)

    def read():
        for source in list_zip(path).sources:
            assert source.photo.isprintable()
            refused(lambda source=source: read_source(source))

    refused(read)
    assert list(tmp_path.iterdir()) == [path]


@examples(100)
@given(st.lists(writable, min_size=1, max_size=5))
def test_any_names_in_a_zip_are_labels_of_their_own(tmp_path, names):
    entries = [(f"{name}.jpg", b"%d" % number) for number, name in enumerate(names)]
    (tmp_path / "visit.zip").write_bytes(bad_input.zipped(entries))
    listing = list_zip(tmp_path / "visit.zip")
    assert len(listing.sources) + listing.left_out <= len(names)  # a folder is neither
    assert len({source.photo for source in listing.sources}) == len(listing.sources)
    for source in listing.sources:
        assert source.photo.isprintable()
        assert 0 < len(source.photo) <= 300
        assert read_source(source) == b"%d" % source.member


# --- cards and manifests ---------------------------------------------------------------------

numbers = st.integers() | st.floats() | st.sampled_from((10**400, -1, 0, 1e308))
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
CARD = ModelCard(name="x", backbone="resnet18", sha256="0", parameters=1)
NAMES = [field.name for field in fields(ModelCard)]
FIGURE = {"value": 0.5, "low": 0.4, "high": 0.6}
parts = st.sampled_from(
    (
        {"validation": {"n": 3, "auroc": FIGURE}},
        {"photos": {"train": {"sound": 1}}, "sources": ["x"]},
        {"ratio": 1.5, "peer": "x"},
        {"sha256": "0", "hot": 0.5},
        {"cracks": {"n": 3, "chance": 0.1, "methods": {}}},
        [0.4, 0.6],
    )
)


@examples(300)
@given(st.dictionaries(st.sampled_from(NAMES), values | parts, max_size=4))
def test_any_card_is_refused_or_can_be_listed_shown_and_written_again(tmp_path, changed):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(asdict(CARD) | changed), encoding="utf-8")
    (tmp_path / "x.safetensors").touch()
    if refused(lambda: read_card(path)):
        assert list_cards(tmp_path) == []
        return
    card = read_card(path)
    assert [found.title for found in list_cards(tmp_path)] == [card.title]
    assert f"{card.parameters / 1e6:.1f} {card.temperature:.2f} {card.threshold:.2f}"
    write_card(card, tmp_path)
    again = read_card(path)
    assert json.dumps(asdict(again)) == json.dumps(asdict(card))


@examples(200)
@given(values, texts)
def test_any_json_is_a_card_or_refused(tmp_path, value, text):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    refused(lambda: read_card(path))
    path.write_text(text, encoding="utf-8", errors="replace")
    assert refused(lambda: read_card(path))


@examples(100)
@given(st.dictionaries(texts, values, max_size=4))
def test_what_a_card_does_not_know_is_left_out(unknown):
    unknown = {key: value for key, value in unknown.items() if key not in NAMES}
    assert card_from_values(asdict(CARD) | unknown) == CARD


cells = st.sampled_from(("0.jpg", "sound", "damaged", "path", "label", "split", "")) | texts
lines = st.lists(st.lists(cells, max_size=4).map(",".join), max_size=4).map("\n".join)


@examples(250)
@given(lines | lines.map(lambda text: f"path,label\n0.jpg,sound\n{text}"))
def test_any_manifest_lists_photos_or_is_refused(tmp_path, text):
    (tmp_path / "0.jpg").write_bytes(b"x")
    path = tmp_path / "manifest.csv"
    path.write_text(text, encoding="utf-8", errors="replace", newline="")
    if not refused(lambda: read_samples(path)):
        assert all(sample.path.is_file() for sample in read_samples(path))


# --- names -----------------------------------------------------------------------------------


@examples(300)
@given(texts)
def test_any_name_of_a_photo_becomes_a_short_label_without_folders(name):
    label = open_photo(bad_input.good("jpeg"), name).name
    assert label.isprintable()
    assert 0 < len(label) <= 120
    assert not set(label) & {"/", "\\"}


@examples(300)
@given(texts)
def test_any_name_of_an_upload_becomes_labels_that_lead_nowhere(name):
    label, building = upload_label(name)
    assert label
    for text in (label, building):
        assert text.isprintable()
        assert len(text) <= 300
        assert ".." not in text.split("/")
        assert not text.startswith("/")
        assert "\\" not in text


@examples(300)
@given(texts)
def test_any_path_of_a_visitor_stays_below_the_root_or_is_refused(tmp_path, given):
    root = tmp_path / "the-root"
    root.mkdir(exist_ok=True)
    if not (root / "out").is_symlink():
        (root / "out").symlink_to("..")
    for path in (given, f"out/{given}", f"{root}/{given}"):
        try:
            found = below_root(path, root)
        except HeritageError as error:
            assert str(error).isprintable()
            assert "the-root" not in str(error) or str(root) in path
        else:
            assert found.is_relative_to(root)


# --- what leaves the app ---------------------------------------------------------------------

SURVEY = SurveyFacts("A", "B", None, "C", BandThresholds(), "2026-11-21T10:53")
ROW = PriorityRow(photo="tower.jpg", building="tower", damage_percent=50.0)


@examples(300)
@given(texts)
def test_no_text_is_a_formula_in_a_csv(text):
    row = replace(ROW, photo=text, building=text, note=text, camera=text, verdict_by=text)
    stored = priority_csv(ranked([row], BandThresholds())).decode("utf-8-sig")
    (found,) = csv.DictReader(io.StringIO(stored, newline=""))
    for name in ("photo", "building", "note", "camera", "verdict_by"):
        cell = found[name]
        shown = unicodedata.normalize("NFKC", cell).strip()
        assert not shown.startswith(("=", "+", "-", "@"))
        assert not cell.startswith(("\t", "\r", "\n"))
        assert cell.replace("'", "") == clean(text).replace("'", "")


@examples(60)
@given(st.lists(texts, min_size=1, max_size=4))
def test_no_text_is_a_formula_or_a_link_in_a_workbook(given):
    rows = [replace(ROW, photo=t, building=t, note=t, camera=t, warnings=(t,)) for t in given]
    survey = replace(SURVEY, name=given[0], site=given[-1])
    stored = priority_xlsx(ranked(rows, BandThresholds()), survey, thumbnail=lambda row: None)
    for sheet in openpyxl.load_workbook(io.BytesIO(stored)):
        for line in sheet.iter_rows():
            assert not any(cell.data_type == "f" or cell.hyperlink for cell in line)


MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


@examples(400)
@given(texts | st.text(alphabet="*_`~[]()<>!#+-.=|&:$\\ a1\u202e"))
def test_any_text_reads_in_markdown_as_it_is(text):
    line = " ".join(clean(text).split())
    assert MARKDOWN.render(plain(line)) == (f"<p>{escapeHtml(line)}</p>\n" if line else "")
    for mark in ":$":  # what Streamlit adds to Markdown: colours, icons, formulas
        assert plain(line).count(f"\\{mark}") == line.count(mark)
