"""A triage reads every photo once, whatever becomes of its process, and one bad file is one row."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers import (
    crack_photo,
    meanwhile,
    only_reduced_copies_fit,
    save_untrained,
    wait_until,
)
from onnxruntime import InferenceSession
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException as OrtError
from PIL import Image

from heritage.bands import BandThresholds
from heritage.cards import read_card
from heritage.cli import main
from heritage.errors import CheckpointError, HeritageError
from heritage.handover import Handover, stored_inspection, training_manifest, training_zip
from heritage.inspection import Inspector
from heritage.photos import open_photo
from heritage.sources import list_files, list_folder
from heritage.store.files import UNKNOWN_SUFFIX
from heritage.surveys import DONE, FAILED, RUNNING, STOPPED, Finding
from heritage.training.datasets import read_samples, with_validation
from heritage.triage import GIVEN_UP, MOST_TRIES, triage, work_off
from heritage.worker import LOCK, ensure_worker

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def photos(tmp_path):
    """Two buildings of three photos, one of them twice, one file that is no photo inside."""
    folder = tmp_path / "visit"
    for building in ("chapel", "mill"):
        for index in range(3):
            path = folder / building / f"{index}.jpg"
            crack_photo(path, cracked=index % 2 == 0, seed=index + 3 * (building == "mill"))
    (folder / "mill" / "again.jpg").write_bytes((folder / "chapel" / "0.jpg").read_bytes())
    (folder / "mill" / "torn.jpg").write_bytes(crack_photo()[:700])
    return folder


@pytest.fixture
def card(weights_dir):
    return read_card(weights_dir / "mobilenet_v2.json")


@pytest.fixture
def run(store, photos, card):
    survey = store.create_survey("Visit")
    store.add_photos(survey.id, list_folder(photos).sources)
    return store.create_run(survey.id, card)


def test_every_photo_becomes_a_row_and_a_torn_one_says_why(store, run, weights_dir):
    told = []
    ended = triage(store, run.id, weights=weights_dir, listen=told.append)
    assert (ended.status, ended.done, ended.failed, ended.photos) == (DONE, 8, 1, 8)
    assert [state.done for state in told] == list(range(1, 9))
    rows = {row.photo: row for row in store.rows(run.id)}
    assert rows["mill/torn.jpg"].error.startswith("the JPEG ends early; ")
    assert rows["mill/again.jpg"].duplicate_of == "chapel/0.jpg"
    assert rows["mill/again.jpg"].damage_percent == rows["chapel/0.jpg"].damage_percent
    assert {row.building for row in rows.values()} == {"chapel", "mill"}


def test_a_row_says_what_an_inspection_of_the_photo_says(store, run, photos, weights_dir):
    triage(store, run.id, weights=weights_dir)
    row = store.rows(run.id)[1]
    alone = Inspector("mobilenet_v2", folder=weights_dir).inspect(photos / row.photo)
    stored = stored_inspection(store, run.id, row)
    told, kept = alone.as_dict(), stored.as_dict()
    assert told.pop("photo") == Path(kept.pop("photo")).name
    told.pop("band"), kept.pop("band")  # the table's thresholds decide it
    assert kept == told
    assert abs(stored.heatmap - alone.heatmap).max() < 2e-3


def test_a_detail_scan_changes_the_heat_and_not_the_answer(store, run, photos, card, weights_dir):
    triage(store, run.id, weights=weights_dir)
    scan = store.run_with(run.survey_id, card, detail=True)
    assert scan.id != run.id
    ended = triage(store, scan.id, weights=weights_dir)
    assert (ended.done, ended.failed) == (8, 1)
    whole, close = store.rows(run.id), store.rows(scan.id)
    assert [row.damage_percent for row in close] == [row.damage_percent for row in whole]
    assert {row.heat_map for row in close} == {"detail_scan", ""}
    assert {row.heat_map for row in whole} == {"grad_cam", ""}
    alone = Inspector("mobilenet_v2", folder=weights_dir).scan(open_photo(photos / close[1].photo))
    stored = stored_inspection(store, scan.id, close[1])
    assert stored.regions == alone.regions
    assert stored.affected_percent == alone.affected_percent
    assert stored.grid.shape == alone.grid.shape


def test_a_photo_that_could_not_be_scanned_is_not_said_to_have_been(
    store, run, photos, card, weights_dir, monkeypatch
):
    crack_photo(photos / "chapel" / "0.jpg", size=(1800, 1400))
    only_reduced_copies_fit(monkeypatch, 1800 * 1400)
    scan = store.run_with(run.survey_id, card, detail=True)
    triage(store, scan.id, weights=weights_dir)
    made = {row.photo: row.heat_map for row in store.rows(scan.id)}
    assert made["chapel/0.jpg"] == "grad_cam"
    assert made["chapel/1.jpg"] == "detail_scan"


def test_the_photos_stay_readable_when_their_folder_is_gone(store, run, photos, weights_dir):
    triage(store, run.id, weights=weights_dir)
    (photos / "chapel" / "0.jpg").unlink()
    kept = store.photo(store.rows(run.id)[0].photo_id)
    assert open_photo(store.photo_bytes(kept)).width == 240
    assert store.files.thumbnail(kept.sha256)


def test_what_is_done_is_not_done_again(store, run, weights_dir):
    class CutError(Exception):
        pass

    def cut(state):
        if state.done == 3:
            raise CutError

    with pytest.raises(CutError):
        triage(store, run.id, weights=weights_dir, listen=cut)
    done = {row.photo for row in store.rows(run.id) if row.damage_percent is not None}
    assert len(done) == 3
    store.release(run.id, worker_of(store, run), FAILED)
    store.resume(run.id)
    seen = []
    triage(store, run.id, weights=weights_dir, listen=seen.append)
    assert [state.done for state in seen] == [4, 5, 6, 7, 8]


def test_a_run_asked_to_stop_stops_and_can_go_on(store, run, weights_dir, monkeypatch):
    monkeypatch.setattr("heritage.triage.HEARTBEAT_S", 0.0)

    def ask(state):
        if state.done == 2:
            store.ask_to_stop(run.id)

    ended = triage(store, run.id, weights=weights_dir, listen=ask)
    assert ended.status == STOPPED
    assert 2 <= ended.done < 8
    store.resume(run.id)
    assert triage(store, run.id, weights=weights_dir).status == DONE


def test_nothing_stays_of_a_survey_that_is_deleted_after_its_run_was_stopped(
    store, run, weights_dir, monkeypatch
):
    monkeypatch.setattr("heritage.triage.HEARTBEAT_S", 0.0)

    def ask(state):
        if state.done == 2:
            store.ask_to_stop(run.id)

    assert triage(store, run.id, weights=weights_dir, listen=ask).status == STOPPED
    assert hashes_kept(store) == {row.sha256 for row in store.rows(run.id) if row.sha256}
    store.delete_survey(run.survey_id)
    assert not hashes_kept(store)


def hashes_kept(store):
    files = (path for kind in ("photos", "thumbnails") for path in store.folder.glob(f"{kind}/*/*"))
    return {path.name.partition(".")[0] for path in files}


def test_what_is_known_of_a_photo_stays_where_a_later_run_cannot_read_it(
    store, run, card, weights_dir
):
    triage(store, run.id, weights=weights_dir)
    before = store.rows(run.id)
    first, second, *_ = before
    deadly, gone = (store.create_run(run.survey_id, card) for _ in range(2))
    store.claim(deadly.id, f"{socket.gethostname()}:{2**22 + 1}:1")
    (store.folder / f"in-hand-{deadly.id}").write_text(f"{first.photo_id} {MOST_TRIES}")
    assert triage(store, deadly.id, weights=weights_dir).failed == 2
    assert store.rows(deadly.id)[0].error == GIVEN_UP
    assert store.rows(run.id) == before
    store.files.forget(second.sha256)
    assert triage(store, gone.id, weights=weights_dir).failed == 2
    assert "the kept photo is gone" in store.rows(gone.id)[1].error
    assert (first.width, second.width) == (240, 240)
    assert store.rows(run.id) == before


def test_a_run_whose_checkpoint_is_gone_fails_with_the_reason(store, run, tmp_path):
    with pytest.raises(CheckpointError):
        triage(store, run.id, weights=tmp_path)
    assert store.run(run.id).status == FAILED
    assert "there is no such checkpoint" in store.run(run.id).error


def test_photos_of_one_run_are_never_read_by_two_checkpoints(store, run, tmp_path, weights_dir):
    def stop(state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        triage(store, run.id, weights=weights_dir, listen=stop)
    save_untrained(tmp_path / "new", "mobilenet_v2")
    store.resume(run.id)
    with pytest.raises(HeritageError, match="trained or calibrated anew"):
        triage(store, run.id, weights=tmp_path / "new")


def test_one_failing_run_does_not_keep_the_others_waiting(
    store, run, card, photos, weights_dir, monkeypatch
):
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(weights_dir))
    lost = store.create_run(run.survey_id, replace(card, name="lost"))
    other = store.create_survey("Other")
    store.add_photos(other.id, list_folder(photos / "chapel").sources)
    fine = store.create_run(other.id, card)
    work_off(store)
    states = [store.run(i).status for i in (run.id, lost.id, fine.id)]
    assert states == [DONE, FAILED, DONE]


def test_a_folder_outside_the_servers_is_not_read(store, card, photos, tmp_path, weights_dir):
    survey = store.create_survey("Visit")
    store.add_photos(survey.id, list_folder(photos).sources)
    run = store.create_run(survey.id, card)
    (tmp_path / "allowed").mkdir()
    triage(store, run.id, weights=weights_dir, root=tmp_path / "allowed")
    rows = store.rows(run.id)
    assert all("outside the photos of this server" in row.error for row in rows)
    assert not any(row.sha256 for row in rows)


def test_who_has_the_run_of_the_computer_may_name_any_folder(
    store, card, photos, tmp_path, weights_dir
):
    survey = store.create_survey("Visit")
    store.add_photos(survey.id, list_folder(photos).sources, trusted=True)
    run = store.create_run(survey.id, card)
    (tmp_path / "allowed").mkdir()
    assert triage(store, run.id, weights=weights_dir, root=tmp_path / "allowed").failed == 1


def test_photos_added_while_it_runs_are_read_too(store, run, photos, weights_dir):
    def add(state):
        if state.done == 2:
            crack_photo(photos / "late" / "1.jpg", seed=77)
            store.add_photos(run.survey_id, list_folder(photos).sources)

    assert triage(store, run.id, weights=weights_dir, listen=add).done == 9


def test_photos_added_in_the_last_moment_are_not_left_behind(store, run, photos, weights_dir):
    """Between a run's last look for photos and its end, when nobody need set it going again."""

    def last_moment(frame, event):
        return event == "call" and frame.f_code.co_name == "settle_incoming"

    def add():
        crack_photo(photos / "late" / "1.jpg", seed=77)
        store.add_photos(run.survey_id, list_folder(photos).sources)
        store.resume(run.id)

    with meanwhile(last_moment, add):
        ended = triage(store, run.id, weights=weights_dir)
    assert (ended.status, ended.done, ended.photos) == (DONE, 9, 9)


def test_an_archive_that_arrives_meanwhile_is_left_alone(store, run, weights_dir):
    arriving = store.files.incoming(run.survey_id, 1)
    arriving.write_bytes(b"still being written")
    triage(store, run.id, weights=weights_dir)
    assert arriving.exists()


def put_aside(store, survey, photos):
    """Gives a survey an archive of the photos of a folder, as an upload does."""
    path = store.files.incoming(survey.id, 1)
    with zipfile.ZipFile(path, "w") as archive:
        for photo in sorted(photos.rglob("*.jpg")):
            archive.write(photo, photo.relative_to(photos))
    store.add_photos(survey.id, list_files([path]).sources)
    return path


def test_an_archive_is_taken_in_and_then_removed(store, card, photos, tmp_path, weights_dir):
    survey = store.create_survey("Visit")
    path = put_aside(store, survey, photos)
    run = store.create_run(survey.id, card)
    (tmp_path / "root").mkdir()  # that of the server's own folder; an upload lies elsewhere
    assert triage(store, run.id, weights=weights_dir, root=tmp_path / "root").failed == 1
    assert not path.exists()
    again = triage(store, store.create_run(survey.id, card).id, weights=weights_dir)
    assert (again.done, again.failed) == (8, 1)
    errors = [{row.photo: row.error for row in store.rows(r.id)} for r in (run, again)]
    assert errors[0] == errors[1]


def test_an_archive_that_was_out_of_reach_for_a_while_is_there_for_another_try(
    store, card, photos, tmp_path, weights_dir
):
    survey = store.create_survey("Visit")
    path = put_aside(store, survey, photos)
    away = path.rename(tmp_path / "away.zip")
    run = store.create_run(survey.id, card)

    def bring_back(state):
        if state.done == state.photos:
            away.rename(path)

    assert triage(store, run.id, weights=weights_dir, listen=bring_back).failed == 8
    assert path.exists()
    store.retry_failed(run.id)
    assert triage(store, run.id, weights=weights_dir).failed == 1
    assert not path.exists()


def test_a_photo_that_is_damaged_in_its_archive_does_not_keep_it_there(
    store, card, photos, weights_dir
):
    survey = store.create_survey("Visit")
    path = put_aside(store, survey, photos)
    data = bytearray(path.read_bytes())
    data[data.index((photos / "mill" / "0.jpg").read_bytes()) + 500] ^= 1
    path.write_bytes(data)
    run, again = (store.create_run(survey.id, card) for _ in range(2))
    assert triage(store, run.id, weights=weights_dir).failed == 2
    assert not path.exists()
    assert triage(store, again.id, weights=weights_dir).failed == 2
    told = [{row.photo: row.error for row in store.rows(r.id)} for r in (run, again)]
    assert told[0] == told[1]
    assert any(error.startswith("the photo is damaged in the ZIP") for error in told[0].values())


def test_an_archive_that_is_entered_while_others_are_removed_is_read(
    store, card, photos, weights_dir
):
    survey = store.create_survey("Visit")
    put_aside(store, survey, photos / "chapel")
    run = store.create_run(survey.id, card)

    def settled(frame, event):
        over = event == "return" and frame.f_code.co_name == "commit"
        return over and frame.f_back.f_code.co_name == "settle_incoming"

    with meanwhile(settled, lambda: put_aside(store, survey, photos / "mill")):
        ended = triage(store, run.id, weights=weights_dir)
    assert (ended.status, ended.done, ended.failed) == (DONE, 8, 1)
    assert not list(store.folder.glob("incoming/*/*"))


def test_where_nothing_can_be_written_the_run_says_so_and_can_go_on(store, run, weights_dir):
    store.folder.mkdir(exist_ok=True)
    (store.folder / "photos").write_bytes(b"in the way of the folder")
    with pytest.raises(HeritageError, match="make room and resume"):
        triage(store, run.id, weights=weights_dir)
    assert store.run(run.id).status == FAILED
    assert store.run(run.id).done == 0
    (store.folder / "photos").unlink()
    store.resume(run.id)
    assert triage(store, run.id, weights=weights_dir).done == 8


# --- a photo that the backbone cannot do ------------------------------------------------------


class Backbone:
    """Wraps ONNX Runtime, which breaks where photos are `wide`, as often as `times` says."""

    def __init__(self, monkeypatch, error, times=10**9):
        self.error, self.left, self.calls = error, times, 0
        self.real, self.together = InferenceSession.run, []
        monkeypatch.setattr(InferenceSession, "run", lambda *given: self.run(*given))

    def run(self, session, outputs, given):
        wide = given["x"].shape[3] > 2 * given["x"].shape[2]
        self.calls += 1
        before = self.calls
        if wide and self.left:
            self.left -= 1
            end = time.monotonic() + (0.5 if self.together else 30)
            while self.calls == before and time.monotonic() < end:
                time.sleep(0.05)
            self.together.append(self.calls > before)
            raise self.error
        return self.real(session, outputs, given)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "it needs more memory than there is; "),
        (torch.OutOfMemoryError("CUDA out of memory"), "it needs more memory than there is; "),
        (OrtError("Failed to allocate memory for requested buffer"), "it needs more memory"),
        (RuntimeError("no kernel\nat 0x1"), "it could not be read by the backbone (no kernel); "),
    ],
)
def test_a_photo_that_the_backbone_cannot_do_is_one_row(
    store, run, photos, weights_dir, monkeypatch, error, words
):
    crack_photo(photos / "chapel" / "1.jpg", size=(900, 180), seed=70)
    Backbone(monkeypatch, error)
    ended = triage(store, run.id, weights=weights_dir)
    assert (ended.status, ended.done, ended.failed) == (DONE, 8, 2)
    rows = {row.photo: row for row in store.rows(run.id)}
    assert rows["chapel/1.jpg"].error.startswith(words)
    kept = store.photo(rows["chapel/1.jpg"].photo_id)
    assert open_photo(store.photo_bytes(kept)).width == 900, "it can still be looked at"


def test_what_there_was_no_memory_for_is_tried_once_more_with_nothing_beside_it(
    store, run, photos, weights_dir, monkeypatch
):
    for index in range(12):
        crack_photo(photos / "tower" / f"{index}.jpg", seed=100 + index)
    crack_photo(photos / "mill" / "1.jpg", size=(900, 180), seed=70)
    store.add_photos(run.survey_id, list_folder(photos).sources)
    backbone = Backbone(monkeypatch, MemoryError(), times=2)
    ended = triage(store, run.id, weights=weights_dir)
    assert (ended.status, ended.failed) == (DONE, 2)
    assert backbone.together == [True, False]
    store.retry_failed(run.id)
    backbone.left = 1
    assert triage(store, run.id, weights=weights_dir).failed == 1


def test_a_backbone_that_breaks_at_every_photo_stops_the_run(
    store, card, tmp_path, weights_dir, monkeypatch
):
    for index in range(8):
        crack_photo(tmp_path / "wide" / f"{index}.jpg", size=(900, 180), seed=index)
    survey = store.create_survey("Wide")
    store.add_photos(survey.id, list_folder(tmp_path / "wide").sources)
    run = store.create_run(survey.id, card)
    Backbone(monkeypatch, RuntimeError("CUDA error: device-side assert triggered"))
    with pytest.raises(CheckpointError, match=r"3 photos in a row.*device-side assert"):
        triage(store, run.id, weights=weights_dir)
    ended = store.run(run.id)
    assert (ended.status, ended.done) == (FAILED, 2)
    monkeypatch.undo()
    store.resume(run.id)
    ended = triage(store, run.id, weights=weights_dir)
    assert (ended.status, ended.done, ended.failed) == (DONE, 8, 2)


# --- the worker ------------------------------------------------------------------------------


def test_a_killed_workers_run_is_finished_by_the_next(
    store, run, photos, weights_dir, database_url, monkeypatch
):
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(weights_dir))
    monkeypatch.setenv("HERITAGE_DATABASE_URL", database_url)
    for index in range(40):
        crack_photo(photos / "tower" / f"{index}.jpg", seed=100 + index)
    store.add_photos(run.survey_id, list_folder(photos).sources)
    ensure_worker(store)
    wait_until(lambda: store.run(run.id).done >= 3)
    process = int(worker_of(store, run).split(":")[1])
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    left = store.run(run.id)
    assert left.status == RUNNING
    assert 3 <= left.done < 48
    answers = {row.photo: row.damage_percent for row in store.rows(run.id)}
    ensure_worker(store)
    wait_until(lambda: store.run(run.id).status == DONE)
    assert (store.run(run.id).done, store.run(run.id).failed) == (48, 1)
    now = {row.photo: row.damage_percent for row in store.rows(run.id)}
    assert all(now[name] == percent for name, percent in answers.items() if percent is not None)
    wait_until(lambda: not (store.folder / LOCK).exists() or not worker_of(store, run))


DEADLY = """
import os, sys
from heritage.photos import Photo
from heritage.sources import photo_root
from heritage.surveys import SurveyStore
from heritage.triage import triage
from pathlib import Path

real = Photo.pixels

def pixels(self, **sides):
    if self.name == "3.jpg":
        os.kill(os.getpid(), 9)  # as a decoder that breaks does
    return real(self, **sides)

Photo.pixels = pixels
triage(SurveyStore(Path(sys.argv[1])), int(sys.argv[2]), weights=Path(sys.argv[3]))
"""


def test_a_photo_that_brings_the_process_down_is_given_up_and_no_other(
    store, card, tmp_path, weights_dir, database_url
):
    for index in range(12):
        crack_photo(tmp_path / "photos" / "tower" / f"{index}.jpg", seed=index)
    survey = store.create_survey("Deadly")
    store.add_photos(survey.id, list_folder(tmp_path / "photos").sources)
    run = store.create_run(survey.id, card)
    command = [sys.executable, "-c", DEADLY, store.folder, run.id, weights_dir]
    deaths = 0
    while subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env=os.environ | {"HERITAGE_DATABASE_URL": database_url},
    ).returncode:
        deaths += 1
        assert deaths < 8
    ended = store.run(run.id)
    assert (ended.status, ended.done, ended.failed) == (DONE, 12, 1)
    rows = {row.photo: row.error for row in store.rows(run.id)}
    assert "brought the program down" in rows.pop("tower/3.jpg")
    assert not any(rows.values())
    assert not list(store.folder.glob("in-hand-*"))


def worker_of(store, run):
    return store._run_row(run.id).worker


def test_no_process_is_started_where_nothing_waits(store, run):
    store.release(run.id, "", STOPPED)
    ensure_worker(store)
    assert not (store.folder / "worker.log").exists()


# --- the command -----------------------------------------------------------------------------


def command(weights_dir, *arguments):
    return main(["triage", "--weights", str(weights_dir), *map(str, arguments)])


def test_the_table_is_complete_although_a_photo_cannot_be_read(
    photos, tmp_path, weights_dir, capsys
):
    out = tmp_path / "out.csv"
    assert command(weights_dir, photos, "--csv", out) == 1
    table = pd.read_csv(out, encoding="utf-8-sig")
    assert len(table) == 8
    assert list(table["rank"]) == list(range(1, 9))
    assert table["damage_percent"].dropna().is_monotonic_decreasing
    assert table["error"].notna().sum() == 1
    told = capsys.readouterr()
    assert told.out.strip() == str(out)
    assert "mill/torn.jpg: the JPEG ends early" in told.err
    assert not list(tmp_path.glob("*.unfinished"))


def test_all_files_at_once_and_no_error_is_success(photos, tmp_path, weights_dir):
    (photos / "mill" / "torn.jpg").unlink()
    kinds = ("csv", "xlsx", "pdf", "geojson", "zip")
    outs = [part for kind in kinds for part in (f"--{kind}", tmp_path / f"out.{kind}")]
    assert command(weights_dir, photos, *outs) == 0
    assert (tmp_path / "out.pdf").read_bytes().startswith(b"%PDF")
    assert json.loads((tmp_path / "out.geojson").read_text())["type"] == "FeatureCollection"
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        names = archive.namelist()
    assert {"survey.csv", "survey.xlsx", "survey.pdf", "survey.geojson"} <= set(names)


@pytest.mark.parametrize(
    ("twice", "told"),
    [
        ("source", "photos are read from this file"),
        ("photo", "photos are read from this file"),
        ("output", "two outputs have this name"),
    ],
)
def test_what_is_read_from_is_never_written_over(
    photos, tmp_path, weights_dir, capsys, twice, told
):
    visit = tmp_path / "visit.zip"
    with zipfile.ZipFile(visit, "w") as archive:
        archive.write(photos / "chapel" / "0.jpg", "chapel/0.jpg")
    before = visit.read_bytes()
    out = tmp_path / "out.csv"
    photo = photos / "chapel" / "0.jpg"
    outs = {
        "source": ("--zip", visit),
        "photo": ("--pdf", photo),
        "output": ("--csv", out, "--pdf", out),
    }[twice]
    assert command(weights_dir, photos if twice == "photo" else visit, *outs) == 1
    assert told in capsys.readouterr().err
    assert photo.read_bytes().startswith(b"\xff\xd8")
    assert visit.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} & {"out.csv", "visit.zip"} == {"visit.zip"}


def test_a_detail_scan_tells_its_time_before_it_starts(photos, tmp_path, weights_dir, capsys):
    out = tmp_path / "out.csv"
    assert command(weights_dir, photos / "chapel", "--csv", out, "--detail") == 0
    assert "for a photo of 12 megapixels" in capsys.readouterr().err
    assert set(pd.read_csv(out, encoding="utf-8-sig")["heat_map"]) == {"detail_scan"}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--csv", "out.csv", "--resume", "--restart"],
        ["--csv", "out.csv", "--urgent", "10"],
    ],
)
def test_wrong_use_is_told_apart(photos, weights_dir, arguments, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        command(weights_dir, photos, *arguments)
    assert stopped.value.code == 2
    assert "error" in capsys.readouterr().err


def test_a_file_with_nowhere_to_go_is_told_before_the_work(photos, weights_dir, tmp_path, capsys):
    assert command(weights_dir, photos, "--csv", tmp_path / "no" / "out.csv") == 1
    assert "its folder is not there" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that even root cannot write to")
@pytest.mark.parametrize("more", [(), ("--survey", "Spring")])
def test_a_folder_that_nothing_can_be_written_to_is_told_before_the_work(
    photos, weights_dir, tmp_path, capsys, monkeypatch, more
):
    monkeypatch.setenv("HERITAGE_SURVEYS", str(tmp_path / "surveys"))
    assert command(weights_dir, photos, "--csv", "/proc/self/out.csv", *more) == 1
    told = capsys.readouterr().err
    assert "no such file can be made in this folder" in told
    assert "/proc/" in told and "name another file, or one in another folder" in told
    assert not (tmp_path / "surveys").exists()


def test_an_output_whose_name_leaves_no_room_for_the_journal_is_told(
    photos, weights_dir, tmp_path, capsys
):
    out = tmp_path / f"{'o' * 247}.csv"
    assert command(weights_dir, photos, "--csv", out) == 1
    assert "no such file can be made in this folder (File name too long)" in capsys.readouterr().err


def test_a_table_beside_its_photos_is_the_same_after_a_kill_and_with_restart(
    photos, tmp_path, weights_dir
):
    plain = tmp_path / "plain.csv"
    assert command(weights_dir, photos, "--csv", plain) == 1
    given = [f"--weights={weights_dir}", "--csv", "triage.csv"]
    for again, sources in (("--resume", ["."]), ("--restart", None)):
        kill_at = [str(ROOT / "tests" / "kill_at.py"), "handover.py:csv", "1"]
        start = [sys.executable, *kill_at, "triage", ".", *given]
        assert subprocess.run(start, cwd=photos, capture_output=True).returncode == -9
        journal = photos / "triage.csv.unfinished"
        assert len(list(journal.glob("thumbnails/*/*.jpg"))) == 6
        named = sources or sorted(path.name for path in photos.iterdir())
        start = [sys.executable, "-m", "heritage", "triage", *named, *given, again]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        ended = subprocess.run(start, cwd=photos, env=environment, capture_output=True, text=True)
        assert ended.returncode == 1, ended.stderr
        assert not journal.exists()
        assert (photos / "triage.csv").read_text() == plain.read_text()
        (photos / "triage.csv").unlink()


@pytest.mark.parametrize("name", ["out?mode=ro.csv", "out#1.csv", "out%41.csv"])
def test_the_journal_lies_beside_its_table_whatever_that_is_called(
    photos, tmp_path, weights_dir, name
):
    before = set(tmp_path.iterdir())
    kill_at = [str(ROOT / "tests" / "kill_at.py"), "surveys.py:record:return", "3"]
    folder = tmp_path / "of ? # %41"
    folder.mkdir()
    given = ["triage", str(photos), f"--weights={weights_dir}", "--csv", str(folder / name)]
    assert subprocess.run([sys.executable, *kill_at, *given], cwd=ROOT).returncode == -9
    assert [path.name for path in folder.iterdir()] == [f"{name}.unfinished"]
    assert (folder / f"{name}.unfinished" / "journal.sqlite3").exists()
    assert set(tmp_path.iterdir()) == before | {folder}
    assert main([*given, "--resume"]) == 1
    assert [path.name for path in folder.iterdir()] == [name]
    assert len(pd.read_csv(folder / name)) == 8


def test_an_empty_folder_is_told(tmp_path, weights_dir, capsys):
    (tmp_path / "empty").mkdir()
    assert command(weights_dir, tmp_path / "empty", "--csv", tmp_path / "out.csv") == 1
    assert "there is no photo in it" in capsys.readouterr().err


def test_a_killed_command_goes_on_where_it_was(photos, tmp_path, weights_dir, capsys):
    for index in range(60):
        crack_photo(photos / "tower" / f"{index}.jpg", seed=100 + index)
    out = tmp_path / "out.csv"
    arguments = ["triage", str(photos), "--csv", str(out), "--weights", str(weights_dir)]
    process = subprocess.Popen(
        [sys.executable, "-m", "heritage", *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    journal = tmp_path / "out.csv.unfinished"
    wait_until(lambda: len(list(journal.glob("thumbnails/*/*.jpg"))) > 5)
    process.kill()
    process.wait()
    assert not out.exists()
    assert main(arguments) == 1
    assert "add --resume to go on" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 1
    assert not journal.exists()
    table = pd.read_csv(out, encoding="utf-8-sig")
    assert len(table) == len(set(table["photo"])) == 68
    assert table["error"].notna().sum() == 1


def test_a_survey_made_in_the_shell_is_one_like_any_other(
    photos, tmp_path, weights_dir, database_url, open_store, monkeypatch, capsys
):
    monkeypatch.setenv("HERITAGE_SURVEYS", str(tmp_path / "surveys"))
    monkeypatch.setenv("HERITAGE_DATABASE_URL", database_url)
    given = (photos, "--survey", "Spring", "--site", "Old town", "--date", "2026-04-02")
    assert command(weights_dir, *given) == 1
    capsys.readouterr()
    assert command(weights_dir, *given) == 1
    assert "there is a survey of this name; add --resume" in capsys.readouterr().err
    crack_photo(photos / "chapel" / "new.jpg", seed=50)
    assert command(weights_dir, *given, "--resume", "--csv", tmp_path / "o.csv") == 1
    store = open_store()
    (survey,) = store.surveys()
    assert (survey.name, survey.site, str(survey.visited_on)) == (
        "Spring",
        "Old town",
        "2026-04-02",
    )
    assert survey.photos == 9
    (run,) = store.runs(survey.id)
    assert (run.status, run.done) == (DONE, 9)


def test_what_is_said_of_a_survey_that_goes_on_is_entered(
    photos, tmp_path, weights_dir, database_url, open_store, monkeypatch
):
    monkeypatch.setenv("HERITAGE_SURVEYS", str(tmp_path / "surveys"))
    monkeypatch.setenv("HERITAGE_DATABASE_URL", database_url)
    given = (photos / "chapel", "--survey", "Spring")
    assert command(weights_dir, *given, "--site", "Old town", "--urgent", "90", "--high", "80") == 0
    store = open_store()

    def now():
        (survey,) = store.surveys()
        bands = survey.thresholds
        return (
            *(survey.site, survey.visited_on and str(survey.visited_on), bands.urgent_percent),
            *(bands.high_percent, bands.watch_percent),
        )

    watch = BandThresholds().watch_percent
    assert now() == ("Old town", None, 90, 80, watch)
    assert command(weights_dir, *given, "--resume") == 0
    assert now() == ("Old town", None, 90, 80, watch)
    more = ("--date", "2026-04-02", "--watch", "70", "--resume", "--csv", tmp_path / "o.csv")
    assert command(weights_dir, *given, *more) == 0
    assert now() == ("Old town", "2026-04-02", 90, 80, 70)
    bands = set(pd.read_csv(tmp_path / "o.csv")["band"])
    assert command(weights_dir, *given, "--site", "Harbour", "--urgent", "100", "--resume") == 0
    assert now() == ("Harbour", "2026-04-02", 100, 80, 70)
    assert bands <= {"Urgent", "High", "Watch", "Sound"}
    with pytest.raises(SystemExit):
        command(weights_dir, *given, "--urgent", "75", "--resume")
    assert now() == ("Harbour", "2026-04-02", 100, 80, 70)


@pytest.fixture
def spring(store, photos, card, tmp_path, database_url, monkeypatch):
    """A survey that the shell finds, asked for before the chapel's disc was unplugged."""
    monkeypatch.setenv("HERITAGE_SURVEYS", str(tmp_path / "surveys"))
    monkeypatch.setenv("HERITAGE_DATABASE_URL", database_url)
    survey = store.create_survey("Spring")
    store.add_photos(survey.id, list_folder(photos).sources, trusted=True)
    (photos / "chapel").rename(tmp_path / "unplugged")
    return store.create_run(survey.id, card)


def test_what_could_not_be_read_is_read_when_the_command_is_given_again(
    store, spring, photos, tmp_path, weights_dir
):
    assert triage(store, spring.id, weights=weights_dir).failed == 4
    (deadly,) = (row for row in store.rows(spring.id) if row.photo == "mill/1.jpg")
    store.record(spring.id, deadly.photo_id, None, Finding(error=GIVEN_UP))
    good = crack_photo(photos / "mill" / "torn.jpg", seed=90)
    given = (photos, "--survey", "Spring", "--resume")
    assert command(weights_dir, *given) == 1
    rows = {row.photo: row for row in store.rows(spring.id)}
    assert {name for name, row in rows.items() if row.error} == {
        *("chapel/0.jpg", "chapel/1.jpg", "chapel/2.jpg", "mill/1.jpg")
    }
    assert rows["mill/torn.jpg"].sha256 == hashlib.sha256(good).hexdigest()
    assert not list(store.folder.glob("photos/*/*.bin")), "no survey has the torn one any more"
    (tmp_path / "unplugged").rename(photos / "chapel")
    assert command(weights_dir, *given) == 1
    errors = {row.photo: row.error for row in store.rows(spring.id) if row.error}
    assert errors == {"mill/1.jpg": GIVEN_UP}, "it would bring the program down again"
    assert [run.id for run in store.runs(spring.survey_id)] == [spring.id]


def test_what_another_run_has_read_stays_what_it_read(store, run, photos, card, weights_dir):
    triage(store, run.id, weights=weights_dir)
    row = store.rows(run.id)[0]
    other = store.create_run(run.survey_id, card, detail=True)
    store.record(other.id, row.photo_id, None, Finding(error="no memory; try again"))
    crack_photo(photos / row.photo, seed=91)
    store.retry_failed(other.id, [row.photo_id])
    assert triage(store, other.id, weights=weights_dir).failed == 1
    for ended in (run, other):
        now = store.rows(ended.id)[0]
        assert (now.sha256, now.damage_percent) == (row.sha256, row.damage_percent)


def test_a_zip_that_became_another_is_not_taken_for_the_one_entered(
    photos, tmp_path, weights_dir, database_url, open_store, monkeypatch, capsys
):
    monkeypatch.setenv("HERITAGE_SURVEYS", str(tmp_path / "surveys"))
    monkeypatch.setenv("HERITAGE_DATABASE_URL", database_url)

    def pack(*names):
        with zipfile.ZipFile(tmp_path / "visit.zip", "w") as archive:
            for name in names:
                archive.write(photos / name, name)

    def table():
        (survey,) = store.surveys()
        (run,) = store.runs(survey.id)
        return [row.photo for row in store.rows(run.id)]

    first = ["chapel/0.jpg", "mill/1.jpg"]
    pack(*first)
    given = (tmp_path / "visit.zip", "--survey", "Spring")
    assert command(weights_dir, *given) == 0
    store = open_store()
    pack("chapel/1.jpg", *first)
    assert command(weights_dir, *given, "--resume") == 1
    told = capsys.readouterr().err
    assert "visit.zip: it is no longer the ZIP whose photos this survey has; " in told
    assert table() == first
    pack(*first, "chapel/1.jpg")
    assert command(weights_dir, photos / "mill" / "2.jpg", *given, "--resume") == 0
    assert table() == [*first, "2.jpg", "visit/chapel/1.jpg"]


# --- the way out -----------------------------------------------------------------------------


@pytest.fixture
def judged(store, run, weights_dir):
    """The run with a verdict on four photos: one with a twin, one unsure."""
    triage(store, run.id, weights=weights_dir)
    rows = {row.photo: row for row in store.rows(run.id)}
    store.give_verdict([rows["chapel/0.jpg"].photo_id, rows["mill/again.jpg"].photo_id], "damaged")
    store.give_verdict([rows["chapel/1.jpg"].photo_id], "sound", "old repair")
    store.give_verdict([rows["mill/2.jpg"].photo_id], "damaged")
    store.give_verdict([rows["mill/1.jpg"].photo_id], "unsure")
    return run


def test_verdicts_become_a_manifest_to_train_on(store, judged, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(training_manifest(store, [judged.id]))
    samples = read_samples(path)
    assert sorted((s.label, s.group) for s in samples) == [
        (0, "chapel"),
        (1, "chapel"),
        (1, "mill"),
    ]


def test_verdicts_of_one_survey_without_buildings_can_be_trained_on(store, card, tmp_path):
    survey = store.create_survey("Loose photos")
    for seed in range(8):
        data = crack_photo(cracked=seed % 2 == 0, seed=seed)
        store.add_upload(survey.id, f"{seed}.jpg", "", data, sha256(data).hexdigest(), "jpg")
    run = store.create_run(survey.id, card)
    photos = store.pending(run.id)
    store.give_verdict([photo.id for photo in photos[::2]], "damaged")
    store.give_verdict([photo.id for photo in photos[1::2]], "sound")
    path = tmp_path / "labels.csv"
    path.write_text(training_manifest(store, [run.id]))
    samples = with_validation(read_samples(path))
    assert {sample.split for sample in samples} == {"train", "validation"}
    assert all(sample.lone for sample in samples), "which is told on the page"


def test_verdicts_become_a_folder_to_train_on(store, judged, tmp_path):
    (tmp_path / "labels.zip").write_bytes(training_zip(Handover.of(store, judged.id)))
    with zipfile.ZipFile(tmp_path / "labels.zip") as archive:
        archive.extractall(tmp_path / "labels")
    samples = read_samples(tmp_path / "labels")
    assert sorted((s.label, s.path.parent.name) for s in samples) == [
        (0, "chapel"),
        (1, "chapel"),
        (1, "mill"),
    ]


def test_the_overlay_of_the_report_has_the_photos_aspect(store, judged):
    handover = Handover.of(store, judged.id)
    row = next(row for row in handover.rows if row.photo == "mill/2.jpg")
    picture = Image.open(BytesIO(handover.overlay(row)))
    assert picture.size == (240, 180)
    torn = next(row for row in handover.rows if row.error)
    assert handover.overlay(torn) is None


def test_photos_that_cannot_be_read_are_no_labels(store, judged):
    torn = next(row for row in store.rows(judged.id) if row.error)
    before = training_manifest(store, [judged.id])
    store.give_verdict([torn.photo_id], "damaged")
    assert training_manifest(store, [judged.id]) == before
    with zipfile.ZipFile(BytesIO(training_zip(Handover.of(store, judged.id)))) as archive:
        assert not [name for name in archive.namelist() if "torn" in name]


def test_a_file_that_is_no_photo_is_no_label_before_any_run_has_read_it(store, card):
    survey = store.create_survey("Visit")
    data = b"%PDF-1.7"
    store.add_upload(survey.id, "a.pdf", "", data, sha256(data).hexdigest(), UNKNOWN_SUFFIX)
    run = store.create_run(survey.id, card)
    store.give_verdict([photo.id for photo in store.pending(run.id)], "damaged")
    assert training_manifest(store, [run.id]).count("\n") == 1


def test_two_buildings_never_share_a_folder_whatever_they_are_called(store, card, tmp_path):
    survey = store.create_survey("Visit")
    names = ["St. Anna", "St. Peter", "st. anna", "Haus 5/7", "Haus 6/7", "photos", "", "?"]
    for seed, building in enumerate(names):
        for data in (crack_photo(seed=seed), crack_photo(seed=100 + seed)):
            name = f"{len(data)}.jpg"
            store.add_upload(survey.id, name, building, data, sha256(data).hexdigest(), "jpg")
    run = store.create_run(survey.id, card)
    for photo in store.pending(run.id):
        store.give_verdict([photo.id], "damaged" if photo.id % 2 else "sound")
    with zipfile.ZipFile(BytesIO(training_zip(Handover.of(store, run.id)))) as archive:
        found = [name.split("/")[:2] for name in archive.namelist()]
    assert len(found) == 2 * len(names)
    folders = {folder for _, folder in found}
    assert len({folder.casefold() for folder in folders}) == len(folders) == len(names)
    assert {"St._Anna", "St._Peter", "Haus_5_7"} <= folders
    for label in ("damaged", "sound"):
        assert {folder for kind, folder in found if kind == label} == folders
