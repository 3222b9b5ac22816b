"""Two computers that share a database and the photos, and nothing else, lose and double nothing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import zipfile
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import psutil
import pytest
from helpers import crack_photo, wait_until
from sqlalchemy import update

from heritage import triage as triaging
from heritage.cards import read_card
from heritage.sources import list_zip
from heritage.store.tables import RunRow
from heritage.surveys import DONE, RUNNING, SurveyStore
from heritage.triage import triage

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = 8


@pytest.fixture
def card(weights_dir):
    return read_card(weights_dir / "mobilenet_v2.json")


def fill(store, survey, first):
    """Gives a survey an uploaded archive of photos, one of them twice and one torn."""
    path = store.files.incoming(survey.id, 1)
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(PHOTOS - 2):
            archive.writestr(f"house/{index}.jpg", crack_photo(seed=first + index))
        archive.writestr("house/again.jpg", crack_photo(seed=first))
        archive.writestr("house/torn.jpg", crack_photo(seed=first)[:700])
    store.add_photos(survey.id, list_zip(path).sources)


def alone(folder, weights, first, card):
    """What one computer by itself says of the same photos."""
    with closing(SurveyStore(folder)) as own:
        survey = own.create_survey("Alone")
        fill(own, survey, first)
        run = own.create_run(survey.id, card)
        triage(own, run.id, weights=weights)
        return answers(own, run)


def answers(store, run):
    """Of each photo the row, without what tells databases apart, and the heat."""
    found = []
    for row in store.rows(run.id):
        heat = store.heat(run.id, row.photo_id)
        found.append((replace(row, photo_id=0), heat[0].tobytes() if heat else b""))
    return found


@pytest.fixture
def computer(store, tmp_path, weights_dir, database_url):
    """Switches on a computer, see `another_computer.py`; it begins when given a line."""
    started = []

    def switch_on(name, last=0):
        with (tmp_path / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, ROOT / "tests" / "another_computer.py"),
                    *(name, store.folder, str(last)),
                ],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ
                | {"HERITAGE_WEIGHTS": str(weights_dir), "HERITAGE_LOG": "stderr"}
                | {"HERITAGE_DATABASE_URL": database_url},
            )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield switch_on
    for process in started:
        with suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def begin(process):
    process.stdin.write("\n")
    process.stdin.flush()


def runs_begun(tmp_path, name):
    lines = map(json.loads, (tmp_path / f"{name}.log").read_text().splitlines())
    return [line["run"] for line in lines if line["event"] == "run begins"]


def test_two_computers_at_once_answer_each_photo_once_and_as_one_alone_does(
    store, card, computer, tmp_path, weights_dir
):
    runs = []
    for name, first in (("Gate", 100), ("Tower", 200)):
        survey = store.create_survey(name)
        fill(store, survey, first)
        runs += [(store.create_run(survey.id, card), first) for _ in range(2)]
    both = [computer("north"), computer("south")]
    for process in both:
        begin(process)
    assert [process.wait() for process in both] == [0, 0]
    north, south = (runs_begun(tmp_path, name) for name in ("north", "south"))
    assert north and south
    assert sorted(north + south) == [run.id for run, _ in runs]
    wanted = {first: alone(tmp_path / f"{first}", weights_dir, first, card) for first in (100, 200)}
    for run, first in runs:
        ended = store.run(run.id)
        assert (ended.status, ended.done, ended.failed) == (DONE, PHOTOS, 1)
        assert answers(store, run) == wanted[first]
    assert not list(store.folder.rglob("*.zip"))
    assert not list(store.folder.rglob("*.partial"))


def test_a_computer_that_stood_still_finds_its_run_taken_up_and_spoils_nothing(
    store, card, computer, tmp_path, weights_dir
):
    survey = store.create_survey("Gate")
    fill(store, survey, 100)
    run = store.create_run(survey.id, card)
    north, south = computer("north", 3), computer("south", 2)
    begin(north)
    wait_until(lambda: psutil.Process(north.pid).status() == psutil.STATUS_STOPPED)
    assert store.run(run.id).done == 3
    silence(store)
    begin(south)
    wait_until(lambda: psutil.Process(south.pid).status() == psutil.STATUS_STOPPED)
    assert store.run(run.id).done == 5
    north.send_signal(signal.SIGCONT)
    assert north.wait() == 0
    left = store.run(run.id)
    assert (left.status, left.done) == (RUNNING, 5), "it wrote into a run that is another's"
    south.send_signal(signal.SIGCONT)
    assert south.wait() == 0
    ended = store.run(run.id)
    assert (ended.status, ended.done, ended.failed) == (DONE, PHOTOS, 1)
    assert answers(store, run) == alone(tmp_path / "alone", weights_dir, 100, card)


def silence(store):
    with store.engine.begin() as connection:
        connection.execute(update(RunRow).values(heartbeat_at=datetime(2026, 1, 1)))


def test_a_photo_that_takes_long_is_not_taken_for_a_dead_computer(
    store, card, weights_dir, monkeypatch
):
    monkeypatch.setattr(triaging, "PULSE_S", 0.05)
    survey = store.create_survey("Gate")
    fill(store, survey, 100)
    run = store.create_run(survey.id, card)

    def word():
        return store._run_row(run.id).heartbeat_at

    def take_long(state):
        for _ in range(2 if state.done == 3 else 0):
            last = word()
            wait_until(lambda: word() > last)  # noqa: B023

    assert triage(store, run.id, weights=weights_dir, listen=take_long).status == DONE


def test_an_archive_that_another_run_is_through_with_is_not_missed(store, card, weights_dir):
    survey = store.create_survey("Gate")
    fill(store, survey, 100)
    one, other = (store.create_run(survey.id, card) for _ in range(2))
    pending = store.pending(other.id)
    triage(store, one.id, weights=weights_dir)
    assert not list(store.folder.rglob("*.zip"))
    assert all(not kept.suffix for kept in pending)
    for kept in pending:
        sha256 = hashlib.sha256(store.photo_bytes(kept)).hexdigest()
        assert sha256 == store.photo(kept.id).sha256
