"""Whatever happens to a process, a disk or a database: nothing that was done is lost or doubled."""

from __future__ import annotations

import os
import resource
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

import pandas as pd
import pytest
import streamlit as st
from helpers import POSTGRESQL, crack_photo, labelled_folder, wait_until
from sqlalchemy.engine import make_url
from streamlit.testing.v1 import AppTest

from heritage.cards import ModelCard, read_card, weights_dir
from heritage.checkpoints import load_checkpoint
from heritage.cli import main
from heritage.errors import DatabaseAwayError
from heritage.sources import list_folder
from heritage.store.database import DATABASE
from heritage.surveys import DONE, FAILED, RUNNING, SurveyStore
from heritage.triage import triage
from heritage.web import survey_data

ROOT = Path(__file__).resolve().parent.parent
KILLED = -9
GONE_S = 30.0
CARD = ModelCard(name="net", backbone="mobilenet_v2", sha256="a" * 64, parameters=1)


def visit(folder):
    """Nine good photos of two buildings, one of them twice, and one that is torn."""
    for index in range(8):
        crack_photo(folder / f"house {index % 2}" / f"{index}.jpg", index % 2 == 0, seed=index)
    (folder / "house 1" / "again.jpg").write_bytes((folder / "house 0" / "0.jpg").read_bytes())
    (folder / "torn.jpg").write_bytes(crack_photo()[:700])
    return folder


@pytest.fixture
def photos(tmp_path):
    return visit(tmp_path / "visit")


@pytest.fixture
def places(tmp_path, monkeypatch, request):
    """Folders of its own for all that this test's processes keep."""
    for name in ("SURVEYS", "RUNS"):
        monkeypatch.setenv(f"HERITAGE_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(request.getfixturevalue("weights_dir")))
    monkeypatch.delenv("HERITAGE_DATABASE_URL", raising=False)
    return tmp_path


def card_in_use():
    return read_card(weights_dir() / "mobilenet_v2.json")


def heritage(*arguments, **how):
    command = [sys.executable, "-m", "heritage", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **how)


def killed(where, number, *arguments):
    """Runs a command that is killed at `where`, see `kill_at.py`."""
    kill_at = [sys.executable, str(ROOT / "tests" / "kill_at.py"), where, str(number)]
    command = [*kill_at, *map(str, arguments)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == KILLED, ended.stderr[-2000:]


# --- kill -9 in a triage ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, weights_dir):
    """The table of a run that nothing befell."""
    folder = tmp_path_factory.mktemp("unbroken")
    table = folder / "table.csv"
    environment = os.environ | {"HERITAGE_WEIGHTS": str(weights_dir)}
    heritage("triage", visit(folder / "visit"), "--csv", table, env=environment)
    return table.read_text()


@pytest.mark.parametrize(
    ("where", "number", "done"),
    [
        ("sources.py:storable", 4, 0),
        ("surveys.py:run_with:return", 1, 0),
        ("surveys.py:claim:return", 1, 0),
        ("pathlib:replace", 5, None),
        ("surveys.py:_inspection", 3, 2),
        ("surveys.py:record:return", 6, 6),
        ("surveys.py:settle_incoming", 1, 10),
        ("surveys.py:release:return", 1, 10),
        ("handover.py:csv", 1, 10),
    ],
)
def test_a_triage_killed_at_any_stage_goes_on_and_counts_nothing_twice(
    unbroken, photos, places, where, number, done
):
    table = places / "table.csv"
    given = ("triage", photos, "--survey", "Visit", "--csv", table)
    killed(where, number, *given)
    assert not table.exists()
    store = SurveyStore()
    survey = store.find_survey("Visit")
    before = [row for run in store.runs(survey.id) for row in answered(store, run)]
    assert done is None or len(before) == done
    assert sum(run.done for run in store.runs(survey.id)) == len(before)
    assert main([*map(str, given), "--resume"]) == 1
    assert table.read_text() == unbroken
    (run,) = store.runs(survey.id)
    assert (run.status, run.done, run.failed, run.photos) == (DONE, 10, 1, 10)
    assert set(map(answer, before)) <= set(map(answer, store.rows(run.id)))
    store.close()


def answered(store, run):
    return [row for row in store.rows(run.id) if row.error or row.damage_percent is not None]


def answer(row):
    return row.photo, row.damage_percent, row.error


# --- kill -9 in a training -------------------------------------------------------------------

RECIPE = (
    *("--backbone=mobilenet_v3_small", "--init=scratch", "--epochs=3", "--crop-side-px=64"),
    *("--batch-size=4", "--learning-rate=1e-3", "--workers=0", "--name=walls"),
)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A labelled folder, and what an unbroken run learns from it."""
    folder = tmp_path_factory.mktemp("learned")
    labelled_folder(folder / "toy", per_class=8)
    ended = heritage("train", folder / "toy", *RECIPE, f"--out={folder / 'out'}")
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.mark.parametrize(
    ("where", "number"),
    [
        ("photos.py:pixels:return", 5),
        ("training/fitting.py:_loss", 3),
        ("training/evaluation.py:predict", 2),
        ("training/fitting.py:save", 2),
        ("training/fitting.py:save:return", 3),
        ("training/run.py:score", 1),
        ("cards.py:write_card", 1),
        ("training/run.py:remove_run", 1),
    ],
)
def test_a_training_killed_at_any_stage_goes_on_to_the_same_checkpoint(
    learned, places, where, number
):
    given = ("train", learned / "toy", *RECIPE, f"--out={places / 'out'}")
    given = (*given, f"--run={places / 'run'}")
    killed(where, number, *given)
    assert main([*map(str, given)]) == 0
    one, other = (read_card(folder / "out" / "walls.json") for folder in (learned, places))
    assert other.sha256 == one.sha256
    assert other.metrics == one.metrics
    assert [record["epoch"] for record in other.training["history"]] == [1, 2, 3]
    assert load_checkpoint("walls", places / "out").card == other
    assert not (places / "run").exists()


# --- a full disk -----------------------------------------------------------------------------


def at_most(size):
    """No file may grow beyond `size`: what a full disk is to a process, without filling one."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("size", [120_000, 400_000])
def test_a_triage_that_cannot_write_more_says_so_and_goes_on_when_there_is_room(
    photos, places, size
):
    crack_photo(photos / "house 2" / "large.png", size=(800, 600))
    for index in range(30):
        crack_photo(photos / "house 3" / f"{index}.jpg", seed=100 + index)
    given = ("triage", photos, "--survey", "Full", "--csv", places / "out.csv")
    ended = heritage(*given, preexec_fn=at_most(size))
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "room" in ended.stderr
    store = SurveyStore()
    survey = store.find_survey("Full")
    for run in store.runs(survey.id):
        before = answered(store, run)
        assert len(before) == run.done < run.photos
        assert run.status in (FAILED, RUNNING)
    assert not list(store.folder.rglob("*.partial"))
    assert main([*map(str, given), "--resume"]) == 1
    (run,) = store.runs(survey.id)
    assert (run.status, run.done, run.failed) == (DONE, 41, 1)
    assert pd.read_csv(places / "out.csv")["photo"].is_unique
    store.close()


def test_a_training_that_cannot_write_more_keeps_its_epochs(learned, places):
    given = (
        "train",
        learned / "toy",
        *RECIPE,
        f"--out={places / 'out'}",
        f"--run={places / 'run'}",
    )
    killed("training/fitting.py:save:return", 1, *given)
    ended = heritage(*given, preexec_fn=at_most(1_000_000))
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "what finished epochs learned is kept" in ended.stderr
    assert not list((places / "run").glob("*.partial"))
    assert main([*map(str, given)]) == 0
    one, other = (read_card(folder / "out" / "walls.json") for folder in (learned, places))
    assert other.sha256 == one.sha256


# --- weights that cannot be written ----------------------------------------------------------


def test_with_a_read_only_weights_folder_all_but_training_goes_on(learned, photos, places):
    weights = learned / "out"
    weights.chmod(0o555)
    # Who is root writes everywhere, unless they lay that power down.
    humble = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []

    def run(*arguments):
        command = [*humble, sys.executable, "-m", "heritage", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    try:
        told = run("inspect", photos / "house 0" / "0.jpg", f"--weights={weights}", "--json")
        assert told.returncode == 0, told.stderr
        whole = places / "out.csv"
        assert run("triage", photos, f"--weights={weights}", "--csv", whole).returncode == 1
        assert pd.read_csv(whole)["damage_percent"].notna().sum() == 9
        refused = run("train", learned / "toy", *RECIPE, f"--out={weights}", "--overwrite")
        assert refused.returncode == 1
        assert "cannot be written to" in refused.stderr
        assert "epoch" not in refused.stderr + refused.stdout, "told before hours of training"
        refused = run("train-pointing", learned / "toy", f"--weights={weights}", "--backbone=walls")
        assert refused.returncode == 1
        assert "cannot be written to" in refused.stderr
        refused = run("evaluate", learned / "toy", f"--weights={weights}", "--update-cards")
        assert refused.returncode == 1
        assert "cannot be written to" in refused.stderr
        assert "accuracy" not in refused.stdout, "told before all is scored"
    finally:
        weights.chmod(0o755)


# --- a database that is away -----------------------------------------------------------------


def test_a_triage_waits_for_a_database_that_another_has_locked(photos, places):
    store = SurveyStore()
    survey = store.create_survey("Locked")
    store.add_photos(survey.id, list_folder(photos).sources)
    run = store.create_run(
        survey.id, read_card(Path(os.environ["HERITAGE_WEIGHTS"]) / "mobilenet_v2.json")
    )
    database = store.folder / DATABASE
    holder = sqlite3.connect(database, check_same_thread=False, isolation_level=None)

    def lock(run):
        if run.done == 3:
            holder.execute("BEGIN IMMEDIATE")
            threading.Timer(GONE_S, lambda: holder.execute("ROLLBACK")).start()

    began = time.monotonic()
    ended = triage(store, run.id, listen=lock)
    assert time.monotonic() - began >= GONE_S
    assert (ended.status, ended.done, ended.failed) == (DONE, 10, 1)
    holder.close()
    store.close()


class Gate:
    """A way to a server on loopback that can be shut: open connections break, new ones fail."""

    def __init__(self, port):
        self.to, self.port = port, 0
        self.links, self.listener = [], None

    def open(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._welcome, args=(self.listener,), daemon=True).start()

    def shut(self):
        if self.listener is None:
            return
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for link in self.links:
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()
        self.links, self.listener = [], None

    def _welcome(self, listener):
        with suppress(OSError):
            for _ in count():
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self.to))
                self.links += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, one, other):
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)


@pytest.fixture
def gate(database_url):
    """A gate before the test's PostgreSQL, whose database is empty."""
    way = Gate(make_url(database_url).port)
    way.open()
    yield way
    way.shut()


@pytest.mark.parametrize("database_url", ["postgresql"] if POSTGRESQL else [], indirect=True)
def test_a_database_gone_for_half_a_minute_costs_nothing_but_the_time(
    gate, database_url, photos, places, monkeypatch
):
    url = make_url(database_url).set(port=gate.port).render_as_string(hide_password=False)
    monkeypatch.setenv("HERITAGE_DATABASE_URL", url)
    # What it loads at first must not take until the database is back.
    AppTest.from_file(ROOT / "pages" / "2_Triage.py", default_timeout=120).run()
    store = SurveyStore()
    survey = store.create_survey("Away")
    store.add_photos(survey.id, list_folder(photos).sources)
    run = store.create_run(survey.id, card_in_use())
    looked = []

    def shut(run):
        if run.done == 3 and not looked:
            looked.append(run)
            gate.shut()
            threading.Timer(GONE_S, gate.open).start()

    page = AppTest.from_file(ROOT / "pages" / "2_Triage.py", default_timeout=120)
    page.query_params["survey"] = str(survey.id)
    began = time.monotonic()
    worker = threading.Thread(target=triage, args=(store, run.id), kwargs={"listen": shut})
    worker.start()
    wait_until(lambda: looked)
    page.run()
    assert not page.exception
    (told,) = page.error
    assert "the database cannot be opened" in told.value
    assert "127" not in told.value, "where the database is, is not for visitors"
    with pytest.raises(DatabaseAwayError):
        store.surveys()
    worker.join()
    assert time.monotonic() - began >= GONE_S
    ended = store.run(run.id)
    assert (ended.status, ended.done, ended.failed) == (DONE, 10, 1)
    page.run()
    assert not page.error
    assert page.title[0].value == "Away"
    survey_data._store().close()  # the page's own
    st.cache_resource.clear()
    store.close()


@pytest.mark.parametrize("database_url", ["postgresql"] if POSTGRESQL else [], indirect=True)
def test_a_database_that_was_restarted_between_two_clicks_is_not_noticed(
    gate, database_url, places
):
    url = make_url(database_url).set(port=gate.port).render_as_string(hide_password=False)
    store = SurveyStore(url=url)
    store.create_survey("Before")
    gate.shut()
    gate.open()
    assert [survey.name for survey in store.surveys()] == ["Before"]
    store.close()


# --- a clock that is set back ----------------------------------------------------------------


def test_the_last_verdict_counts_although_the_clock_was_set_back(store, photos):
    survey = store.create_survey("Clock")
    store.add_photos(survey.id, list_folder(photos).sources)
    photo = store.pending(store.create_run(survey.id, CARD).id)[0]
    store.give_verdict([photo.id], "damaged")
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE verdicts SET given_at = '2999-01-01 00:00:00'")
    store.give_verdict([photo.id], "sound")
    assert [said.verdict for said in store.verdicts(photo.id)] == ["sound", "damaged"]
    (run,) = store.runs(survey.id)
    assert {row.verdict for row in store.rows(run.id)} == {"sound", ""}
