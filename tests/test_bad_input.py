"""Whatever is given to it: one clear error that names the file, and the process goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
import unicodedata
import zlib
from pathlib import Path

import bad_input
import pytest
from bad_input import EITHER, READS, REFUSED
from helpers import crack_photo, save_untrained

from heritage.cards import list_cards, read_card
from heritage.checkpoints import load_checkpoint
from heritage.errors import HeritageError, PhotoError
from heritage.inspection import Inspector
from heritage.photos import open_photo
from heritage.sources import list_folder, list_zip, read_source, upload_label
from heritage.surveys import DONE
from heritage.training.datasets import read_samples
from heritage.triage import triage

# In the app `heritage.photos` silences it; pytest sets its own filters after that.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's own files")

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = list(bad_input.photos())
ZIPS = list(bad_input.zips())


def outcome(call, name=""):
    """What became of it: "reads", or "refused" with one clear error, that of the file `name`."""
    try:
        call()
    except HeritageError as error:
        words = str(error)
        assert words == f"{error.subject}: {error.reason}; {error.advice}"
        assert error.subject == (name or error.subject)
        assert error.reason
        assert error.advice
        assert words.isprintable()  # and so on one line
        assert len(words) < 500
        assert not any(part in words for part in (str(ROOT), "site-packages", "/tmp", "pytest-of"))
        return REFUSED
    return READS


@pytest.mark.parametrize("case", PHOTOS, ids=lambda case: f"{case.family}: {case.what}")
def test_a_bad_photo_is_one_clear_error_or_the_picture_it_should_be(case):
    def read():
        photo = open_photo(case.data, case.name)
        pixels = photo.pixels()
        assert pixels.shape == (photo.height, photo.width, 3)
        assert photo.name.isprintable()
        if case.expected == READS:
            assert (photo.width, photo.height) == case.size
        if case.family == "EXIF":
            assert photo.latitude is photo.longitude is photo.taken_at is None
            assert (photo.camera or "").isprintable()

    label = open_photo(bad_input.good("jpeg"), case.name).name
    assert not set(label) & {"/", "\\", "\n"}
    assert label == case.name or case.family == "names"
    assert case.expected in (outcome(read, label), EITHER)


def test_the_corpus_is_the_same_on_every_call():
    assert list(bad_input.photos()) == PHOTOS
    assert list(bad_input.zips()) == ZIPS
    assert len(PHOTOS) > 500
    # What is laid into the HEVC stream by hand is what the encoder would have written there.
    assert bad_input.heic_streaming(120, 96) == bad_input.good("heif")


# --- all at once -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder of every bad photo, and what each file is."""
    folder = tmp_path_factory.mktemp("corpus")
    files = {bad_input.file_name(case, number): case for number, case in enumerate(PHOTOS)}
    for name, case in files.items():
        (folder / name).write_bytes(case.data)
    return folder, files


def test_a_folder_of_harm_is_one_source_a_file(corpus):
    folder, files = corpus
    listing = list_folder(folder)
    assert len(listing.sources) == len(files) == len(PHOTOS)
    assert listing.left_out == 0
    assert {Path(source.path).name for source in listing.sources} == set(files)
    assert all(source.photo.isprintable() for source in listing.sources)


def test_a_zip_of_harm_gives_back_every_photo_as_it_was_put_in(tmp_path):
    path = tmp_path / "visit.zip"
    names = [case.name.encode("utf-8", "replace").decode() for case in PHOTOS]
    entries = [(name, case.data) for name, case in zip(names, PHOTOS, strict=True)]
    path.write_bytes(bad_input.zipped(entries))
    listing = list_zip(path)
    assert len(listing.sources) + listing.left_out == len(PHOTOS)
    no_photos = ("tower", "\0", "...jpg", "....//....//evil.jpg")  # without a suffix, or hidden
    assert listing.left_out == sum(name in no_photos for name in names)
    assert len({source.photo for source in listing.sources}) == len(listing.sources)
    for source in listing.sources:
        assert source.member is not None
        given = PHOTOS[source.member]
        if source.error or not given.data:
            assert outcome(lambda source=source: read_source(source)) == REFUSED
        else:
            assert read_source(source) == given.data
    assert list(tmp_path.iterdir()) == [path]


def test_an_upload_of_harm_has_labels_that_are_only_labels():
    for case in PHOTOS:
        label, building = upload_label(f"visit/{case.name}")
        for text in (label, building):
            assert text.isprintable()
            assert len(text) <= 300
            assert not text.startswith("/")
            assert ".." not in text.split("/")


def test_a_triage_of_harm_is_done_with_a_row_a_file_and_the_good_answered_as_alone(
    store, corpus, tmp_path, weights_dir
):
    folder, files = corpus
    for index in range(6):
        crack_photo(tmp_path / "good" / f"{index}.jpg", cracked=index % 2 == 0, seed=index)
    survey = store.create_survey("Harm")
    store.add_photos(survey.id, list_folder(folder).sources)
    store.add_photos(survey.id, list_folder(tmp_path / "good").sources)
    run = store.create_run(survey.id, read_card(weights_dir / "mobilenet_v2.json"))
    ended = triage(store, run.id, weights=weights_dir)
    assert (ended.status, ended.done, ended.photos) == (DONE, len(files) + 6, len(files) + 6)
    rows = {row.photo: row for row in store.rows(run.id)}
    assert len(rows) == len(files) + 6
    for row in rows.values():
        assert (row.damage_percent is None) == bool(row.error)
        assert row.error.isprintable()
        assert "; " in row.error or not row.error
    labels = {Path(source.path).name: source.photo for source in list_folder(folder).sources}
    for name, case in files.items():
        expected = {REFUSED: (True,), READS: (False,), EITHER: (True, False)}[case.expected]
        assert bool(rows[labels[name]].error) in expected, case.what
    assert ended.failed == sum(bool(row.error) for row in rows.values())
    inspector = Inspector("mobilenet_v2", folder=weights_dir)
    for index in range(6):
        alone = inspector.inspect(tmp_path / "good" / f"{index}.jpg")
        assert rows[f"{index}.jpg"].damage_percent == alone.damage_percent


PEAK_MB, LEFT_MB, OUTPUT_BYTES = 250, 10, 2000


# Runs in a process of its own: memory of this one, with torch, would hide what is looked for.
MEMORY = r"""
import gc, re, sys
from pathlib import Path
from heritage.errors import PhotoError
from heritage.photos import open_photo

def mb(what="VmRSS"):
    gc.collect()
    return int(re.search(what + r":\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
"""


def in_a_process(code, argument):
    """What `code` prints, and what it writes to the log."""
    return subprocess.run(
        [sys.executable, "-c", MEMORY + code, str(argument)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )


@linux_only
def test_large_photos_are_decoded_one_at_a_time_and_threads_give_their_memory_back(tmp_path):
    # 200 KB that state 66 million pixels: 260 MB once decoded.
    packer, row = zlib.compressobj(), bytes(1 + 3 * 8800)
    packed = b"".join([packer.compress(row) for _ in range(7500)] + [packer.flush()])
    whole = bad_input.png(8800, 7500)
    pixels = bad_input.png_chunk(b"IDAT", packed) + bad_input.png_chunk(b"IEND")
    (tmp_path / "large.png").write_bytes(whole[:33] + pixels)
    code = """
from concurrent.futures import ThreadPoolExecutor
photo = open_photo(sys.argv[1])
with ThreadPoolExecutor(2) as pool:
    small = list(pool.map(lambda n: photo.pixels(short_side_px=75), range(2)))
    assert [pixels.shape for pixels in small] == [(75, 88, 3)] * 2
    print(mb("VmHWM"), mb())
"""
    peak_mb, left_mb = map(float, in_a_process(code, tmp_path / "large.png").stdout.split())
    assert peak_mb < 450
    assert left_mb < 150


@linux_only
def test_memory_returns_and_logs_stay_short_when_a_process_reads_all_harm_twice(corpus):
    code = """
import json
from heritage.sources import list_folder, read_source

def read_all():
    for source in list_folder(Path(sys.argv[1])).sources:
        try:
            open_photo(read_source(source), source.photo).pixels()
        except PhotoError:
            pass
    return mb()

facts = {"before": mb(), "first": read_all(), "second": read_all()}
facts["peak"] = mb("VmHWM")  # its own; ru_maxrss begins with that of the parent
facts["torch"] = "torch" in sys.modules
print(json.dumps(facts))
"""
    done = in_a_process(code, corpus[0])
    facts = json.loads(done.stdout)
    assert not facts["torch"]
    assert facts["peak"] < PEAK_MB
    assert facts["second"] < facts["first"] + LEFT_MB
    assert len(done.stderr) < OUTPUT_BYTES


# --- what was found --------------------------------------------------------------------------


def test_values_that_lie_over_each_other_take_no_gigabytes():
    # 60,000 entries that all show the same 4 KB: two gigabytes of numbers, from 700 KB.
    (case,) = (case for case in PHOTOS if "60,000 values" in case.what)
    tracemalloc.start()
    open_photo(case.data, case.name)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 100 * 2**20


def test_a_jpeg_that_keeps_a_decoder_busy_for_hours_is_refused():
    with pytest.raises(PhotoError, match="more than 100 scans; save it anew"):
        open_photo(bad_input.jpeg_of_scans(100), "slow.jpg")
    assert open_photo(bad_input.jpeg_of_scans(80), "slow.jpg").pixels().shape == (90, 120, 3)


def test_a_broken_tiff_writes_nothing_to_the_log(capfd):
    for case in PHOTOS:
        if "fax" in case.what or "lie over each other" in case.what:
            outcome(open_photo(case.data, case.name).pixels)
    assert capfd.readouterr() == ("", "")


def test_a_name_of_thousands_of_marks_is_composed_as_short_ones_are():
    label, _ = upload_label("visit/" + "e\u0301" * 140 + ".jpg")
    assert label == "é" * 140 + ".jpg"
    label, _ = upload_label("visit/" + "a" + "\u0315\u0300" * 30_000 + ".jpg")
    assert unicodedata.is_normalized("NFC", label[:100])
    assert len(label) == 300


def test_a_card_that_is_broken_in_any_way_does_not_take_the_others_along(tmp_path):
    save_untrained(tmp_path, name="good", auroc=0.9)
    weights = (tmp_path / "good.safetensors").read_bytes()
    bad = bad_input.bad_cards((tmp_path / "good.json").read_bytes())
    for number, (_, card, expected) in enumerate(bad):
        if expected == REFUSED:
            (tmp_path / f"{number}.json").write_bytes(card)
            (tmp_path / f"{number}.safetensors").write_bytes(weights[:9])
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "folder.safetensors").touch()
    readable = {card.name for card in list_cards(tmp_path)}
    assert "good" in readable
    assert outcome(lambda: read_card(tmp_path / "folder.json")) == REFUSED
    for name in readable - {"good"}:  # what is wrong with these shows beside the weights only
        assert outcome(lambda name=name: load_checkpoint(name, tmp_path)) == REFUSED


# --- ZIPs, checkpoints and manifests ---------------------------------------------------------


@pytest.mark.parametrize("case", ZIPS, ids=lambda case: case.what)
def test_a_bad_zip_is_one_clear_error_or_each_of_its_photos_is(case, tmp_path):
    path = tmp_path / "visit.zip"
    path.write_bytes(case.data)
    found = {}

    def read():
        for source in list_zip(path).sources:
            found[source.photo] = outcome(
                lambda source=source: open_photo(read_source(source), source.photo).pixels()
            )

    whole = outcome(read)
    if case.expected in (READS, EITHER):
        assert whole == READS
        assert set(found.values()) == {READS}
    else:
        assert (found if whole == READS else REFUSED) == case.expected
    assert list(tmp_path.iterdir()) == [path]


def test_a_bad_checkpoint_is_one_clear_error_and_runs_no_code(weights_dir, tmp_path):
    folder = tmp_path / "stored"
    folder.mkdir()
    files = [weights_dir / f"mobilenet_v2.{end}" for end in ("json", "safetensors")]
    harm = f"open({str(tmp_path / 'ran')!r}, 'w')"
    found = {}
    for case in bad_input.checkpoints(*(file.read_bytes() for file in files), harm):
        (folder / "mobilenet_v2.json").write_bytes(case.card)
        (folder / "mobilenet_v2.safetensors").write_bytes(case.weights)
        became = outcome(lambda: load_checkpoint("mobilenet_v2", folder))
        found[case.what] = (became, case.expected)
    assert len(found) > 60
    assert {what: pair for what, pair in found.items() if pair[0] != pair[1]} == {}
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.zip", "manifest.csv.gz"])
@pytest.mark.parametrize(
    ("data", "expected"),
    [case[1:] for case in bad_input.manifests()],
    ids=[case[0] for case in bad_input.manifests()],
)
def test_a_bad_manifest_is_one_clear_error_whatever_it_is_called(name, data, expected, tmp_path):
    (tmp_path / "0.jpg").write_bytes(bad_input.good("jpeg"))
    (tmp_path / name).write_bytes(data)
    assert outcome(lambda: read_samples(tmp_path / name)) == expected
