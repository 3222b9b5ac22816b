"""Surveys, runs and verdicts are kept, counted once, and freed when deleted."""

import hashlib
import io
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import psutil
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from helpers import crack_photo, meanwhile, wait_until
from sqlalchemy import insert, text, update

from heritage.bands import BandThresholds
from heritage.cards import ModelCard
from heritage.errors import NoSurveyError, PhotoError, StoreError
from heritage.priority import once, ranked
from heritage.processes import process_stamp, worker_name
from heritage.sources import Source
from heritage.store.database import SERVED, connect
from heritage.store.files import PhotoFiles
from heritage.store.tables import Base, VerdictRow
from heritage.surveys import (
    FAILED,
    RUNNING,
    STOPPED,
    STOPPING,
    WAITING,
    Finding,
    PhotoFacts,
    SurveyStore,
    pack_heat,
    unpack_heat,
)
from heritage.words import no_scan

CARD = ModelCard(name="tower_net", backbone="mobilenet_v2", sha256="a" * 64, parameters=1)
ELSEWHERE = "another-computer:1"
SILENCE = timedelta(days=300)
NOBODY = f"{socket.gethostname()}:{2**22 + 1}:1"  # no process has so high a number


def upload(store, survey, name, data, building="tower"):
    sha256 = hashlib.sha256(data).hexdigest()
    store.add_upload(survey.id, name, building, data, sha256, "jpg")
    return sha256


def facts(sha256, near=""):
    return PhotoFacts(sha256, "jpg", width=40, height=30, perceptual_hash=near)


def answered(store, run, percents):
    """Gives the run's pending photos these damage %, the hash kept."""
    for photo, percent in zip(store.pending(run.id), percents, strict=True):
        store.record(run.id, photo.id, facts(photo.sha256), Finding(damage_percent=percent))


@pytest.fixture
def survey(store):
    return store.create_survey("Spring round", site="Old town", visited_on=date(2026, 4, 2))


@pytest.fixture
def run(store, survey):
    for index in range(4):
        upload(store, survey, f"{index}.jpg", bytes([index]), "tower" if index < 2 else "nave")
    return store.create_run(survey.id, CARD)


def test_a_survey_is_there_again_when_the_store_is_opened_anew(store, survey, open_store):
    store.edit_survey(survey.id, thresholds=BandThresholds(90, 60, 30))
    again = open_store().surveys()
    assert [(s.name, s.site, s.visited_on) for s in again] == [
        ("Spring round", "Old town", date(2026, 4, 2))
    ]
    assert again[0].thresholds == BandThresholds(90, 60, 30)


@pytest.mark.parametrize("name", ["", "   ", "x" * 201, "a\x00b"])
def test_a_survey_needs_a_name_that_can_be_shown(store, name):
    with pytest.raises(StoreError, match="no name for a survey"):
        store.create_survey(name)


def test_two_surveys_cannot_share_a_name(store, survey):
    other = store.create_survey("Autumn round")
    with pytest.raises(StoreError, match="there is a survey of this name"):
        store.create_survey("Spring round ")
    with pytest.raises(StoreError, match="there is a survey of this name"):
        store.edit_survey(other.id, name="Spring round")


def test_a_survey_that_is_gone_says_where_to_look(store):
    with pytest.raises(StoreError, match="choose one on the page Surveys"):
        store.survey(7)
    with pytest.raises(StoreError, match="choose one on the page Surveys"):
        store.edit_survey(7, name="x")
    with pytest.raises(StoreError, match="choose one on the page Surveys"):
        upload(store, type("Gone", (), {"id": 7}), "a.jpg", b"a")


def test_the_same_bytes_are_kept_once(store, survey):
    first = upload(store, survey, "a.jpg", b"same")
    upload(store, survey, "b.jpg", b"same")
    assert store.survey(survey.id).photos == 2
    assert [p.read_bytes() for p in store.folder.glob("photos/*/*")] == [b"same"]
    assert store.files.path(first, "jpg").exists()


def test_deleting_a_survey_frees_what_no_other_survey_has(store, survey):
    other = store.create_survey("Other")
    shared, own = upload(store, survey, "a.jpg", b"shared"), upload(store, survey, "b.jpg", b"own")
    upload(store, other, "a.jpg", b"shared")
    for sha256 in (shared, own):
        store.files.keep_thumbnail(sha256, b"small")
    run = store.create_run(survey.id, CARD)
    answered(store, run, [1, 2])
    store.give_verdict([p.id for p in store.pending(store.create_run(survey.id, CARD).id)], "sound")
    store.delete_survey(survey.id)
    assert [s.name for s in store.surveys()] == ["Other"]
    assert store.files.path(shared, "jpg").exists() and store.files.thumbnail(shared) == b"small"
    assert not store.files.path(own, "jpg").exists() and store.files.thumbnail(own) is None
    with store.engine.connect() as connection:
        for table in ("runs", "inspections", "verdicts"):
            assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0, table


@pytest.mark.parametrize(
    ("where", "event"), [(PhotoFiles.forget, "call"), (SurveyStore._has, "return")]
)
def test_a_photo_uploaded_while_its_last_survey_is_deleted_stays(store, survey, where, event):
    other = store.create_survey("Other")
    sha256 = upload(store, survey, "a.jpg", b"same")
    with meanwhile(
        lambda frame, now: (frame.f_code, now) == (where.__code__, event),
        lambda: upload(store, other, "a.jpg", b"same"),
    ):
        store.delete_survey(survey.id)
    assert store.survey(other.id).photos == 1
    assert store.files.read("a.jpg", sha256, "jpg") == b"same"
    assert not list(store.folder.rglob("*.partial"))


def test_what_is_uploaded_into_a_survey_deleted_meanwhile_leaves_nothing(store, survey):
    archive = store.files.incoming(survey.id, 1)
    archive.write_bytes(b"zip")
    put_aside = [Source("a.jpg", "", str(archive), 0)]
    store.delete_survey(survey.id)
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.write_bytes(b"zip")
    with pytest.raises(NoSurveyError):
        upload(store, survey, "a.jpg", b"late")
    with pytest.raises(NoSurveyError):
        store.add_photos(survey.id, put_aside)
    assert not [path for path in store.folder.glob("photos/*/*") if path.is_file()]
    assert not archive.exists()


def test_a_verdict_on_a_photo_that_was_taken_out_says_so(store, survey):
    upload(store, survey, "a.jpg", b"a")
    (photo,) = store.pending(store.create_run(survey.id, CARD).id)
    store.remove_photos(survey.id, [photo.id])
    with pytest.raises(StoreError, match="not in a survey any more; reload the page"):
        store.give_verdict([photo.id], "sound")


def test_sqlite_does_not_begin_where_photos_belong_to_another_database(tmp_path, monkeypatch):
    monkeypatch.delenv("HERITAGE_DATABASE_URL", raising=False)
    (tmp_path / SERVED).touch()
    with pytest.raises(
        StoreError, match=r"belong to a database on a server.*HERITAGE_DATABASE_URL"
    ):
        connect(folder=tmp_path)
    (tmp_path / SERVED).unlink()
    connect(folder=tmp_path).dispose()
    (tmp_path / SERVED).touch()  # who has moved to a server and comes back to what was there
    connect(folder=tmp_path).dispose()


def test_a_database_on_a_server_marks_the_folder_of_its_photos(store, database_url):
    assert (store.folder / SERVED).exists() == bool(database_url)


def test_what_was_confirmed_outlives_a_power_cut(tmp_path):
    with closing(SurveyStore(tmp_path)) as store, store.engine.connect() as connection:
        assert connection.scalar(text("PRAGMA synchronous")) == 2, "FULL"


def test_the_number_of_a_deleted_survey_is_not_given_again(store, survey):
    store.delete_survey(survey.id)
    assert store.create_survey("Next").id != survey.id


def test_a_survey_in_work_is_not_deleted(store, survey, run):
    assert store.claim(run.id, worker_name())
    with pytest.raises(StoreError, match="stop the run"):
        store.delete_survey(survey.id)
    with pytest.raises(StoreError, match="stop it first"):
        store.delete_run(run.id)
    assert store.survey(survey.id).photos == 4


def test_sources_are_entered_once_however_often_they_are_given(store, survey):
    sources = [
        Source("a.jpg", "tower", "/photos/a.jpg"),
        Source("b.jpg", "tower", "/photos/x.zip", 0),
        Source("c.jpg", "tower", "/photos/x.zip", 1, error="locked; unpack it"),
    ]
    assert store.add_photos(survey.id, sources) == 3
    assert store.add_photos(survey.id, [*sources, Source("d.jpg", "", "/photos/d.jpg")]) == 1
    pending = store.pending(store.create_run(survey.id, CARD).id)
    assert [photo.name for photo in pending] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert pending[2].source == sources[2]


def test_an_archive_given_again_stays_only_while_it_is_to_be_read(store, survey):
    path = store.files.incoming(survey.id, 7)
    sources = [Source(f"{index}.jpg", "", str(path), index) for index in range(2)]

    def give():
        path.write_bytes(b"archive")
        return store.add_photos(survey.id, sources)

    for number in "12":
        store.files.keep(b"a photo", number * 64, "jpg")
    assert [give(), give()] == [2, 0]
    run = store.create_run(survey.id, CARD)
    first, second = store.pending(run.id)
    store.record(run.id, first.id, facts("1" * 64), Finding(damage_percent=1.0))
    assert give() == 0
    assert path.exists()
    store.record(run.id, second.id, facts("2" * 64), Finding(damage_percent=1.0))
    assert give() == 0
    assert not path.exists()


def test_photos_added_at_the_same_time_all_arrive(store, survey, open_store):
    def add(number):
        own = open_store()
        for index in range(8):
            upload(own, survey, f"{number}-{index}.jpg", f"{number}-{index}".encode())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    assert store.survey(survey.id).photos == 32
    names = [photo.name for photo in store.pending(store.create_run(survey.id, CARD).id)]
    assert len(set(names)) == 32
    assert [n for n in names if n.startswith("2-")] == [f"2-{index}.jpg" for index in range(8)]


def test_what_is_recorded_is_not_pending_any_more(store, run):
    first = store.pending(run.id)[0]
    store.record(run.id, first.id, facts(first.sha256), Finding(damage_percent=10.0))
    assert first.id not in [photo.id for photo in store.pending(run.id)]
    assert (store.run(run.id).done, store.run(run.id).photos) == (1, 4)


def test_recording_twice_counts_once(store, run):
    first = store.pending(run.id)[0]
    for percent in (10.0, 20.0):
        store.record(run.id, first.id, facts(first.sha256), Finding(damage_percent=percent))
    assert store.run(run.id).done == 1
    assert store.rows(run.id)[0].damage_percent == 20.0


def test_a_photo_that_cannot_be_read_is_a_row_with_its_error(store, run):
    first = store.pending(run.id)[0]
    store.record(run.id, first.id, None, Finding(error="the JPEG ends early; copy it again"))
    row = store.rows(run.id)[0]
    assert (row.error, row.damage_percent) == ("the JPEG ends early; copy it again", None)
    assert store.run(run.id).failed == 1
    store.release(run.id, "", STOPPED)
    store.retry_failed(run.id)
    assert store.run(run.id).status == WAITING
    assert first.id in [photo.id for photo in store.pending(run.id)]


def test_a_twin_gets_the_same_answer_and_says_whose(store, survey):
    upload(store, survey, "a.jpg", b"same")
    upload(store, survey, "b.jpg", b"same")
    run = store.create_run(survey.id, CARD)
    one, two = store.pending(run.id)
    heat = np.array([[0.1, 0.9]], np.float32)
    found = Finding(damage_percent=70.0, affected_percent=5.0, evidence=True, heat=heat)
    store.record(run.id, one.id, facts(one.sha256), found)
    assert store.inspected(run.id) == {one.sha256: one.id}
    store.record(run.id, two.id, facts(two.sha256), one.id)
    first, second = store.rows(run.id)
    assert (first.duplicate_of, second.duplicate_of) == ("", "a.jpg")
    assert second.damage_percent == 70.0
    assert np.array_equal(store.heat(run.id, two.id)[0], store.heat(run.id, one.id)[0])


def test_photos_that_look_alike_share_a_group(store, run):
    hashes = ["ffff0000ffff0000", "ffff0000ffff0001", "0123456789abcdef", "ffff0000ffff0003"]
    for photo, near in zip(store.pending(run.id), hashes, strict=True):
        store.record(run.id, photo.id, facts(photo.sha256, near), Finding(damage_percent=1.0))
    assert [row.similar_group for row in store.rows(run.id)] == [1, 1, None, 1]


def test_heat_comes_back_as_it_was_but_for_its_scale():
    heat = np.random.default_rng(0).random((7, 11)).astype(np.float32) * 40 + 3
    back, absolute = unpack_heat(pack_heat(heat))
    assert not absolute
    assert back.shape == (7, 11)
    assert np.allclose(back, (heat - heat.min()) / (heat.max() - heat.min()), atol=1e-3)
    assert not unpack_heat(pack_heat(np.zeros((7, 7), np.float32)))[0].any()


def test_the_heat_of_a_scan_keeps_its_scale_and_its_thinnest_crack():
    heat = np.full((1500, 2000), 0.1, np.float32)
    heat[700, 400:1500] = 0.8
    packed = pack_heat(heat, absolute=True)
    back, absolute = unpack_heat(packed)
    assert absolute
    assert max(back.shape) <= 768
    assert back.shape[0] / back.shape[1] == pytest.approx(0.75, abs=0.01)
    assert back.max() == pytest.approx(0.8, abs=0.003)
    assert np.median(back) == pytest.approx(0.1, abs=0.003)
    hot = (back > 0.5).any(0).mean()
    assert hot == pytest.approx(1100 / 2000, abs=0.01)
    assert len(packed) < 100_000


def test_the_heat_of_a_scan_without_a_scale_is_kept_as_small():
    y, x = np.mgrid[:1000, :1500]
    heat = 5 + 40 * np.exp(-((y - 250) ** 2 + (x - 1200) ** 2) / 2e4).astype(np.float32)
    packed = pack_heat(heat)
    back, absolute = unpack_heat(packed)
    assert not absolute
    assert max(back.shape) <= 768
    assert (back.min(), back.max()) == (0.0, 1.0)
    spot = np.argwhere(back > 0.95).mean(0) / back.shape
    assert spot == pytest.approx((0.25, 0.8), abs=0.01)
    assert len(packed) < 100_000


def test_heat_that_was_kept_earlier_comes_back():
    heat = np.random.default_rng(0).random((1000, 1500)).astype(np.float16)
    relative, steps = io.BytesIO(), io.BytesIO()
    np.save(relative, heat)
    back, absolute = unpack_heat(relative.getvalue())
    assert np.array_equal(back, heat) and not absolute
    np.savez_compressed(steps, heat=np.full((3, 4), 51, np.uint8))
    back, absolute = unpack_heat(steps.getvalue())
    assert np.allclose(back, 0.2) and absolute


def test_a_scan_is_another_run_than_one_without(store, survey):
    plain = store.run_with(survey.id, CARD)
    scan = store.run_with(survey.id, CARD, detail=True)
    assert (plain.detail, scan.detail) == (False, True)
    assert store.run_with(survey.id, CARD).id == plain.id
    assert store.run_with(survey.id, CARD, detail=True).id == scan.id
    sharper = replace(CARD, pointing={"sha256": "b" * 64, "hot": 0.4})
    assert store.run_with(survey.id, sharper).id == plain.id
    assert store.run_with(survey.id, sharper, detail=True).id != scan.id


def test_only_one_worker_gets_a_run(store, run, open_store):
    stores = [open_store() for _ in range(4)]
    barrier, got = threading.Barrier(4), []

    def claim(index):
        barrier.wait()
        if stores[index].claim(run.id, f"another-computer:{index}"):
            got.append(index)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(claim, range(4)))
    assert len(got) == 1
    assert store.run(run.id).status == RUNNING


def test_a_dead_workers_run_is_taken_up_and_a_living_ones_is_not(store, run):
    assert store.claim(run.id, NOBODY)
    assert store.claim(run.id, worker_name())
    assert not store.claim(run.id, ELSEWHERE)
    store.release(run.id, worker_name(), FAILED)
    store.resume(run.id)
    assert store.claim(run.id, ELSEWHERE)
    assert store.alive(run.id)
    silence(store)
    assert store.claim(run.id, worker_name())


def silence(store, since=SILENCE):
    with store.engine.begin() as connection:
        connection.execute(
            text("UPDATE runs SET heartbeat_at = :then"),
            {"then": datetime.now(UTC).replace(tzinfo=None) - since},
        )


def test_a_worker_of_this_computer_keeps_its_run_however_the_clock_is_set(store, run):
    assert store.claim(run.id, worker_name())
    for since in (SILENCE, -SILENCE):
        silence(store, since)
        assert store.alive(run.id)
        assert not store.claim(run.id, ELSEWHERE)


def test_a_process_that_has_the_number_of_a_dead_worker_is_not_taken_for_it(store, run):
    assert store.claim(run.id, f"{socket.gethostname()}:{os.getpid()}:1")
    assert not store.alive(run.id)
    assert store.claim(run.id, worker_name())


def test_a_killed_worker_counts_as_dead_before_anybody_asked_after_it(store, run):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    worker = f"{socket.gethostname()}:{process.pid}:{process_stamp(process.pid)}"
    assert store.claim(run.id, worker)
    assert store.alive(run.id)
    process.kill()
    wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    assert not store.alive(run.id)
    process.communicate()
    assert process_stamp(process.pid) == ""


def test_a_word_from_the_future_is_of_a_worker_elsewhere_whose_clock_was_set_back(store, run):
    assert store.claim(run.id, ELSEWHERE)
    assert store.alive(run.id)
    silence(store, -SILENCE)
    assert not store.alive(run.id)
    assert store.claim(run.id, worker_name())


def test_who_lost_a_run_neither_goes_on_nor_ends_it(store, run):
    assert store.claim(run.id, NOBODY)
    assert store.claim(run.id, worker_name())
    assert not store.heartbeat(run.id, NOBODY, 5.0)
    store.release(run.id, NOBODY, STOPPED)
    assert (store.run(run.id).status, store.run(run.id).seconds) == (RUNNING, 0.0)
    assert store.heartbeat(run.id, worker_name(), 5.0)


def test_who_lost_a_run_writes_nothing_more_into_it(store, run):
    first, second, *_ = store.pending(run.id)
    found = Finding(damage_percent=10.0)
    assert store.claim(run.id, NOBODY)
    assert store.record(run.id, first.id, facts(first.sha256), found, worker=NOBODY)
    assert store.claim(run.id, worker_name())
    other = Finding(damage_percent=90.0)
    for photo in (first, second):
        assert not store.record(run.id, photo.id, facts(photo.sha256), other, worker=NOBODY)
    assert [row.damage_percent for row in store.rows(run.id)] == [10.0, None, None, None]
    assert store.record(run.id, second.id, facts(second.sha256), found, worker=worker_name())
    assert store.run(run.id).done == 2


def test_what_is_written_down_is_a_word_of_the_worker(store, run):
    first, *_ = store.pending(run.id)
    assert store.claim(run.id, ELSEWHERE)
    silence(store)
    assert not store.alive(run.id)
    found = Finding(damage_percent=10.0)
    assert store.record(run.id, first.id, facts(first.sha256), found, worker=ELSEWHERE)
    assert store.alive(run.id)


def test_a_worker_learns_that_it_is_to_stop(store, run):
    store.claim(run.id, worker_name())
    assert store.heartbeat(run.id, worker_name(), 2.0)
    store.ask_to_stop(run.id)
    assert store.run(run.id).status == STOPPING
    assert not store.heartbeat(run.id, worker_name(), 1.5)
    store.release(run.id, worker_name(), STOPPED)
    assert (store.run(run.id).status, store.run(run.id).seconds) == (STOPPED, 3.5)
    store.resume(run.id)
    assert store.run(run.id).status == WAITING


def test_a_run_nobody_works_on_stops_at_once(store, run):
    store.ask_to_stop(run.id)
    assert store.run(run.id).status == STOPPED


def test_the_same_checkpoint_goes_on_in_its_run_and_another_gets_its_own(store, survey, run):
    store.release(run.id, "", FAILED, "the disk is full")
    assert store.run_with(survey.id, CARD).id == run.id
    assert store.run(run.id).status == WAITING
    retrained = ModelCard(name="tower_net", backbone="mobilenet_v2", sha256="b" * 64, parameters=1)
    assert store.run_with(survey.id, retrained).id != run.id


def test_all_who_ask_at_once_for_the_same_run_get_one(survey, open_store):
    stores = [open_store() for _ in range(4)]
    barrier = threading.Barrier(4)

    def ask(index):
        barrier.wait()
        return stores[index].run_with(survey.id, card).id

    with ThreadPoolExecutor(4) as pool:
        for name in ("tower_net", "nave_net", "crypt_net"):
            card = replace(CARD, name=name)
            assert len(set(pool.map(ask, range(4)))) == 1


def test_the_same_weights_calibrated_anew_get_their_own_run(store, survey, run):
    store.release(run.id, "", STOPPED)
    assert store.run_with(survey.id, replace(CARD, temperature=1.4)).id != run.id
    assert store.run_with(survey.id, replace(CARD, metrics={"test": {"n": 1}})).id == run.id


def test_an_upload_given_again_is_entered_once(store, survey):
    for _ in range(2):
        upload(store, survey, "a.jpg", b"same")
    upload(store, survey, "b.jpg", b"same")
    assert store.survey(survey.id).photos == 2


def test_a_retry_changes_the_state_although_the_counts_stay(store, survey, run):
    photo = store.pending(run.id)[0]
    store.record(run.id, photo.id, None, Finding(error="gone; copy it again"))
    store.release(run.id, "", STOPPED)
    before = store.state(survey.id, run.id)
    store.retry_failed(run.id)
    store.record(run.id, photo.id, facts(photo.sha256), Finding(damage_percent=3.0))
    assert store.state(survey.id, run.id) != before


def test_a_name_that_is_no_text_is_one_row_with_its_error(store, survey):
    odd = Source("caf\ufffd.jpg", "tower", "/photos/caf\udce9.jpg")
    assert store.add_photos(survey.id, [odd, Source("a.jpg", "tower", "/photos/a.jpg")]) == 2
    first, second = store.pending(store.create_run(survey.id, CARD).id)
    assert "give the file another name" in first.source.error
    assert not second.source.error


def test_a_survey_is_found_by_its_name_however_it_is_spaced(store):
    made = store.create_survey("Old  town ")
    assert store.find_survey(" Old   town").id == made.id


def test_a_database_that_stops_answering_is_told_in_words(store, survey):
    with store.engine.begin() as connection:
        connection.execute(text("DROP TABLE verdicts"))
    if store.engine.dialect.name == "sqlite":
        with pytest.raises(StoreError, match="the database does not answer"):
            store.has_verdicts()


def test_a_verdict_outranks_the_model_and_keeps_its_history(store, survey, run):
    answered(store, run, [95, 60, 30, 5])
    rows = store.rows(run.id)
    store.give_verdict([rows[3].photo_id], "damaged", "salt behind the pier", "Ana")
    store.give_verdict([rows[0].photo_id], "sound", given_by="Ana")
    store.give_verdict([rows[0].photo_id], "sound", "shadow of a wire", "Ben")
    table = ranked(store.rows(run.id), survey.thresholds)
    assert [row.photo for row in table] == ["3.jpg", "1.jpg", "2.jpg", "0.jpg"]
    assert [row.rank for row in table] == [1, 2, 3, 4]
    assert (table[0].verdict, table[0].note, table[0].verdict_by) == (
        "damaged",
        "salt behind the pier",
        "Ana",
    )
    assert table[0].verdict_at
    said = store.verdicts(rows[0].photo_id)
    assert [(v.verdict, v.note, v.given_by) for v in said] == [
        ("sound", "shadow of a wire", "Ben"),
        ("sound", "", "Ana"),
    ]


def test_a_verdict_can_be_taken_back(store, run):
    answered(store, run, [95, 60, 30, 5])
    photo = store.rows(run.id)[0].photo_id
    store.give_verdict([photo], "sound", "a mistake", "Ana")
    store.give_verdict([photo], "")
    row = store.rows(run.id)[0]
    assert (row.verdict, row.verdict_at) == ("", None)
    with pytest.raises(ValueError, match="damaged, sound, unsure"):
        store.give_verdict([photo], "broken")


def test_a_verdict_on_a_photo_is_one_on_copies_that_are_read_later(store, survey):
    for name in "abc":
        store.add_photos(survey.id, [Source(f"{name}.jpg", "tower", f"/photos/{name}.jpg")])
    run = store.create_run(survey.id, CARD)
    first, copy, other = store.pending(run.id)
    store.record(run.id, copy.id, facts("f" * 64), Finding(damage_percent=90))
    store.give_verdict([copy.id], "sound", "a shadow", "Ana")
    assert [row.verdict for row in store.rows(run.id)] == ["", "sound", ""]
    before = store.state(survey.id, run.id)
    store.record(run.id, first.id, facts("f" * 64), Finding(damage_percent=90))
    store.record(run.id, other.id, facts("e" * 64), Finding(damage_percent=80))
    assert store.state(survey.id, run.id) != before
    rows = store.rows(run.id)
    assert [row.verdict for row in rows] == ["sound", "sound", ""]
    assert [row.verdict for row in once(rows)] == ["sound", ""]
    assert store.verdicts(first.id) == store.verdicts(copy.id)
    store.give_verdict(store.twins(first.id), "damaged")
    assert [row.verdict for row in store.rows(run.id)] == ["damaged", "damaged", ""]
    assert [said.verdict for said in store.verdicts(copy.id)] == ["damaged", "sound"]


def test_what_is_said_of_a_photo_stays_in_its_survey(store, survey):
    upload(store, survey, "a.jpg", b"a")
    run = store.create_run(survey.id, CARD)
    elsewhere = store.create_survey("Another")
    upload(store, elsewhere, "a.jpg", b"a")
    theirs = store.create_run(elsewhere.id, CARD)
    (photo,) = store.pending(run.id)
    store.give_verdict([photo.id], "damaged")
    assert store.rows(run.id)[0].verdict == "damaged"
    assert store.rows(theirs.id)[0].verdict == ""


def test_a_photo_taken_out_is_gone_with_all_that_was_said_of_it(store, survey, run):
    answered(store, run, [95, 60, 30, 5])
    again = store.create_survey("Another")
    upload(store, again, "shared.jpg", bytes([1]))
    first, shared, *_ = store.pending(store.create_run(survey.id, CARD).id)
    store.give_verdict([first.id], "damaged")
    state = store.state(survey.id, run.id)
    store.remove_photos(survey.id, [first.id, shared.id])
    assert store.state(survey.id, run.id) != state
    assert [row.photo for row in store.rows(run.id)] == ["2.jpg", "3.jpg"]
    assert (store.run(run.id).photos, store.run(run.id).done) == (2, 2)
    assert not store.files.path(first.sha256, "jpg").exists()
    assert store.files.path(shared.sha256, "jpg").exists(), "another survey has it"
    # Whoever had it in hand meanwhile goes on.
    assert store.record(run.id, first.id, facts(first.sha256), Finding(damage_percent=1.0))
    assert len(store.rows(run.id)) == 2


def test_what_was_said_of_a_photo_taken_out_stays_with_its_copy(store, survey):
    first, copy = (Source(f"{name}.jpg", "tower", f"/photos/{name}.jpg") for name in "ab")
    store.add_photos(survey.id, [first, copy])
    run = store.create_run(survey.id, CARD)
    one, other = store.pending(run.id)
    store.record(run.id, one.id, facts("f" * 64), Finding(damage_percent=90))
    store.give_verdict([one.id], "sound", "a shadow", "Ana")
    store.record(run.id, other.id, facts("f" * 64), Finding(damage_percent=90))
    store.remove_photos(survey.id, [one.id])
    (row,) = store.rows(run.id)
    assert (row.photo, row.verdict, row.note) == ("b.jpg", "sound", "a shadow")


def test_an_archive_goes_with_the_last_photo_that_waits_in_it(store, survey):
    path = store.files.incoming(survey.id, 7)
    path.write_bytes(b"archive")
    store.add_photos(survey.id, [Source(f"{n}.jpg", "", str(path), n) for n in range(2)])
    one, other = store.pending(store.create_run(survey.id, CARD).id)
    store.remove_photos(survey.id, [one.id])
    assert path.exists()
    store.remove_photos(survey.id, [other.id])
    assert not path.exists()


def test_verdicts_of_copies_of_an_earlier_version_are_told_once(store, survey, run):
    upload(store, survey, "copy.jpg", bytes([0]))
    first, copy = store.twins(store.pending(run.id)[0].id)
    store.give_verdict([first, copy], "damaged")
    with store.engine.begin() as connection:
        for n, photo_id in enumerate((first, copy)):
            at = datetime(2026, 5, 1, 12, 0, 0, 1000 + n)
            connection.execute(
                update(VerdictRow).where(VerdictRow.photo_id == photo_id).values(given_at=at)
            )
    assert [said.verdict for said in store.verdicts(copy)] == ["damaged"]


def test_a_note_alone_is_no_verdict(store, run):
    photo = store.pending(run.id)[0].id
    store.give_verdict([photo], "", "scaffold", "Ana")
    assert not store.has_verdicts()
    store.give_verdict([photo], "unsure")
    assert store.has_verdicts() and not store.has_verdicts(("damaged", "sound"))


def test_of_copies_the_one_that_has_an_answer_counts(store, survey, run):
    copy = upload(store, survey, "copy.jpg", bytes([0]))
    rerun = store.create_run(survey.id, CARD)
    photos = store.pending(rerun.id)
    same = [photo for photo in photos if photo.sha256 == copy]
    store.record(rerun.id, same[0].id, facts(copy), Finding(error="it does not fit into memory"))
    store.record(rerun.id, same[1].id, facts(copy), Finding(damage_percent=97.0))
    rows = {row.photo_id: row for row in store.rows(rerun.id)}
    assert rows[same[1].id].duplicate_of == ""
    assert rows[same[0].id].duplicate_of == rows[same[1].id].photo


def test_no_photo_is_taken_out_under_the_hands_of_a_worker(store, survey, run):
    assert store.claim(run.id, worker_name())
    with pytest.raises(StoreError, match="stop the run, then remove the photo"):
        store.remove_photos(survey.id, [store.pending(run.id)[0].id])
    assert len(store.rows(run.id)) == 4


def test_the_state_changes_with_everything_the_table_shows(store, survey, run):
    states = [store.state(survey.id, run.id)]
    answered(store, run, [95, 60, 30, 5])
    states.append(store.state(survey.id, run.id))
    photo = store.rows(run.id)[0].photo_id
    store.give_verdict([photo], "sound")
    states.append(store.state(survey.id, run.id))
    store.rename_building(survey.id, [photo], "chapel")
    states.append(store.state(survey.id, run.id))
    store.edit_survey(survey.id, thresholds=BandThresholds(80, 40, 10))
    states.append(store.state(survey.id, run.id))
    assert len(set(states)) == 5
    assert store.rows(run.id)[0].building == "chapel"


def test_a_verdict_that_is_written_down_late_changes_the_state(store, survey, run):
    photo = store.pending(run.id)[0]
    states = []
    for number in (20, 10):  # on PostgreSQL the numbers are given before the transactions end
        said = {"id": number, "photo_id": photo.id, "verdict": "sound", "given_at": datetime.now()}
        with store.engine.begin() as connection:
            connection.execute(insert(VerdictRow).values(note="", given_by="", **said))
        states.append(store.state(survey.id, run.id))
    assert states[0] != states[1]


def test_a_building_is_seen_over_all_its_surveys_in_the_order_of_the_visits(store):
    for name, day, percent in (("later", 9, 80.0), ("earlier", 3, 20.0)):
        survey = store.create_survey(name, visited_on=date(2026, day, 1))
        upload(store, survey, "t.jpg", name.encode(), "tower")
        upload(store, survey, "n.jpg", (name + "n").encode(), "nave")
        answered(store, store.create_run(survey.id, CARD), [percent, 1.0])
    assert store.buildings() == ["nave", "tower"]
    visits = store.visits("tower")
    assert [visit.survey.name for visit in visits] == ["earlier", "later"]
    assert [[row.damage_percent for row in visit.rows] for visit in visits] == [[20.0], [80.0]]


def test_the_course_of_a_building_is_that_of_one_reader(store):
    retrained = replace(CARD, sha256="b" * 64)
    percents = iter(range(1, 10))
    for year in (2024, 2025, 2026):
        survey = store.create_survey(f"{year}", visited_on=date(year, 5, 1))
        upload(store, survey, "t.jpg", str(year).encode(), "tower")
        readers = [(CARD, False)]
        readers += [(CARD, True)] if year > 2024 else []
        readers += [(retrained, True)] if year > 2025 else []
        for card, detail in readers:
            again = store.create_run(survey.id, card, detail=detail)
            answered(store, again, [float(next(percents))])
    found = store.readers("tower")
    assert [(run.card.sha256[0], run.detail) for run in found] == [
        *(("a", False), ("a", True), ("b", True)),
    ]
    assert len({run.reader for run in found}) == 2
    courses = [
        [visit.rows[0].damage_percent for visit in store.visits("tower", run)] for run in found
    ]
    assert courses == [[1, 2, 4], [3, 5], [6]]


def test_a_building_whose_photos_also_lie_in_another_folder_has_all_of_them(store, survey):
    for building in ("00 selection", "tower"):
        for name in ("a", "b", "b again"):
            upload(store, survey, f"{building}/{name}.jpg", name[:1].encode(), building)
    run = store.create_run(survey.id, CARD)
    answered(store, run, [40.0, 70.0, 70.0] * 2)
    for building in ("00 selection", "tower"):
        (visit,) = store.visits(building)
        assert [row.damage_percent for row in once(visit.rows)] == [40.0, 70.0]
    assert len(once(store.rows(run.id))) == 2


def test_a_kept_photo_that_is_gone_says_so(store, survey):
    sha256 = upload(store, survey, "a.jpg", crack_photo())
    photo = store.pending(store.create_run(survey.id, CARD).id)[0]
    assert store.photo_bytes(photo) == crack_photo()
    store.files.forget(sha256)
    with pytest.raises(PhotoError, match=r"a\.jpg: the kept photo is gone"):
        store.photo_bytes(photo)


@pytest.mark.parametrize("sha256", ["../../etc/passwd", "A" * 64, "a" * 63, ""])
def test_no_path_is_made_of_what_is_no_hash(store, sha256):
    with pytest.raises(ValueError, match="no hash"):
        store.files.path(sha256, "jpg")
    assert store.files.thumbnail(sha256) is None


def test_the_migrations_make_the_tables_that_the_program_expects(store):
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_a_newer_database_is_not_touched(store, database_url):
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'from-tomorrow'"))
    with pytest.raises(StoreError, match="made by a newer Heritage; update this program"):
        connect(database_url, store.folder)


@pytest.mark.parametrize("url", ["nonsense", "oracle+none://x", "sqlite:////no/such/folder/x.db"])
def test_a_database_that_cannot_be_opened_says_why(tmp_path, url):
    with pytest.raises(StoreError, match="the database cannot be opened"):
        SurveyStore(tmp_path, url)


@pytest.mark.parametrize("again", range(4))  # who comes between whom differs each time
def test_the_first_visitors_of_a_new_installation_can_come_at_once(open_store, again):
    barrier = threading.Barrier(8)

    def first(index):
        barrier.wait()
        return open_store().create_survey(f"round {index}").name

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(first, range(8)))) == 8


def test_the_folder_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.delenv("HERITAGE_DATABASE_URL", raising=False)
    monkeypatch.setenv("HERITAGE_SURVEYS", str(tmp_path / "office"))
    with closing(SurveyStore()) as store:
        store.create_survey("here")
    assert (tmp_path / "office" / "surveys.sqlite3").exists()


def set_back(store, version, *columns):
    with store.engine.begin() as connection:
        for table, column in columns:
            connection.execute(text(f"ALTER TABLE {table} DROP COLUMN {column}"))
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{version}'"))


def test_an_older_database_is_brought_up_to_date_and_keeps_what_was_found(store, run, open_store):
    (photo, *_) = store.pending(run.id)
    store.record(run.id, photo.id, facts(photo.sha256), Finding(damage_percent=70.0))
    set_back(store, "0001", ("inspections", "method"), ("runs", "detail"))
    newer = open_store()
    assert newer.rows(run.id)[0].damage_percent == 70.0
    assert newer.rows(run.id)[0].heat_map == "grad_cam"
    assert newer.run(run.id).detail is False


def test_an_older_database_tells_scans_from_those_that_could_not_be(store, survey, open_store):
    for name in "abc":
        upload(store, survey, f"{name}.jpg", name.encode())
    run = store.create_run(survey.id, CARD, detail=True)
    given_up = no_scan(PhotoError("b.jpg", "it does not fit", "save a smaller copy"))
    for photo, finding in zip(
        store.pending(run.id),
        [
            Finding(damage_percent=70.0, warnings=("Blurred.",)),
            Finding(damage_percent=60.0, warnings=("Blurred.", given_up)),
            Finding(error="no photo"),
        ],
        strict=True,
    ):
        store.record(run.id, photo.id, facts(photo.sha256), finding)
    set_back(store, "0002", ("inspections", "method"))
    found = {row.photo: row.heat_map for row in open_store().rows(run.id)}
    assert found == {"a.jpg": "detail_scan", "b.jpg": "grad_cam", "c.jpg": ""}


def test_files_that_no_survey_has_are_found_and_no_others(store, survey):
    kept = upload(store, survey, "1.jpg", crack_photo())
    store.files.keep_thumbnail(kept, b"small")
    lost = "f" * 64
    store.files.keep(b"left by a process that was killed", lost, "jpg")
    store.files.keep_thumbnail(lost, b"small")
    half = store.files.path(kept, "jpg").with_name(f"{kept}.jpg.0123.partial")
    half.write_bytes(b"half a photo")
    assert store.leftovers() == [], "their rows may be about to be written"
    found = {path.name for path in store.leftovers(idle_s=-1)}
    assert found == {half.name, f"{lost}.jpg"}
    assert len(store.leftovers(idle_s=-1)) == 3


def test_archives_that_no_photo_names_are_found_and_no_others(store, survey):
    def put_aside():
        path = store.files.incoming(survey.id, 9)
        path.write_bytes(b"archive")
        return path

    named, refused = put_aside(), put_aside()
    half = refused.with_suffix(".partial")
    half.write_bytes(b"arch")
    store.add_photos(survey.id, [Source("1.jpg", "", str(named), 0)])
    gone = store.files.incoming(survey.id + 1, 9)
    gone.write_bytes(b"of a survey that was deleted meanwhile")
    assert store.leftovers() == [], "their rows may be about to be written"
    assert set(store.leftovers(idle_s=-1)) == {refused, half, gone}
