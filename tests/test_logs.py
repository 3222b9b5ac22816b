"""What the logs tell, and what they must not."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import crack_photo
from pythonjsonlogger.json import JsonFormatter
from streamlit.testing.v1 import AppTest

from heritage.cards import read_card
from heritage.errors import PhotoError
from heritage.logs import LOGS, start_logging
from heritage.sources import list_folder
from heritage.surveys import DONE
from heritage.worker import main as work

ROOT = Path(__file__).resolve().parent.parent
SECRET = "Maison de Madame Lefèvre"


@pytest.fixture(autouse=True)
def closed():
    """No handler of one test outlives it."""
    yield
    for name in ("heritage", "streamlit"):
        logger = logging.getLogger(name)
        for handler in [h for h in logger.handlers if isinstance(h.formatter, JsonFormatter)]:
            logger.removeHandler(handler)
            handler.close()


def lines(folder, process):
    text = (folder / LOGS / f"{process}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_says_when_how_grave_by_whom_and_what(tmp_path):
    start_logging("server", tmp_path)
    logging.getLogger("heritage.web").info("inspected", extra={"milliseconds": 12})
    (line,) = lines(tmp_path, "server")
    assert list(line)[:3] == ["at", "level", "by"]
    assert line["by"] == f"server:{os.getpid()}"
    assert (line["level"], line["event"], line["milliseconds"]) == ("info", "inspected", 12)
    assert line["at"].endswith("+00:00")


def test_started_twice_it_writes_each_line_once(tmp_path):
    start_logging("server", tmp_path)
    start_logging("server", tmp_path)
    logging.getLogger("heritage.web").info("once")
    assert len(lines(tmp_path, "server")) == 1


def test_an_error_is_told_by_its_places_and_without_names_or_paths(tmp_path):
    start_logging("worker", tmp_path)
    for open_it in (
        lambda: (tmp_path / SECRET).read_bytes(),
        lambda: list_folder(tmp_path / SECRET),
        lambda: json.loads("{"),
    ):
        try:
            open_it()
        except (OSError, PhotoError, ValueError):
            logging.getLogger("heritage.triage").exception("run broke off")
    text = (tmp_path / LOGS / "worker.jsonl").read_text(encoding="utf-8")
    assert SECRET not in text
    assert str(tmp_path) not in text
    assert str(ROOT) not in text
    first, second, third = lines(tmp_path, "worker")
    assert "FileNotFoundError" in first["exc_info"][-1]
    assert "PhotoError: there is no such file" in second["exc_info"][-1]
    assert any(place.startswith("heritage/sources.py:") for place in second["exc_info"])
    assert any("json/decoder.py" in place for place in third["exc_info"])


@pytest.mark.parametrize(("wanted", "there"), [("stderr", True), ("off", False)])
def test_where_the_lines_go_can_be_said(tmp_path, wanted, there):
    code = (
        "import logging, sys; from pathlib import Path; from heritage.logs import start_logging;"
        "start_logging('server', Path(sys.argv[1]));"
        "logging.getLogger('heritage.web').warning('here')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"HERITAGE_LOG": wanted},
    )
    told = [json.loads(line)["event"] for line in ended.stderr.splitlines()]
    assert told == ["here"] * there
    assert not (tmp_path / LOGS).exists()


def test_a_triage_leaves_lines_and_nothing_of_what_the_photos_are_called(
    store, tmp_path, weights_dir, monkeypatch
):
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(weights_dir))
    monkeypatch.setenv("HERITAGE_DATABASE_URL", str(store.engine.url.render_as_string(False)))
    crack_photo(tmp_path / SECRET / "chapel" / f"{SECRET}.jpg")
    (tmp_path / SECRET / "torn.jpg").write_bytes(crack_photo()[:700])
    survey = store.create_survey(SECRET)
    store.add_photos(survey.id, list_folder(tmp_path / SECRET).sources, trusted=True)
    run = store.create_run(survey.id, read_card(weights_dir / "mobilenet_v2.json"))
    work(store.folder)
    assert store.run(run.id).status == DONE
    told = {line["event"]: line for line in lines(store.folder, "worker")}
    assert told["run begins"]["photos"] == 2
    assert (told["run ends"]["status"], told["run ends"]["failed"]) == (DONE, 1)
    assert told["photo refused"]["reason"] == "the JPEG ends early"
    text = (store.folder / LOGS / "worker.jsonl").read_text(encoding="utf-8")
    assert "Lef" not in text
    assert str(tmp_path) not in text


def test_an_inspection_on_the_page_leaves_a_line(tmp_path, monkeypatch, weights_dir):
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(weights_dir))
    monkeypatch.setenv("HERITAGE_SURVEYS", str(tmp_path))
    page = AppTest.from_file(ROOT / "pages" / "1_Inspect.py", default_timeout=120).run()
    start_logging("server", tmp_path)  # it was begun for an earlier test's folder
    page.button[0].click().run()
    assert not page.exception
    told = [line for line in lines(tmp_path, "server") if line["event"] == "inspected"]
    assert len(told) == 1
    assert len(told[0]["photo"]) == 12
    assert told[0]["checkpoint"] == "mobilenet_v2"
