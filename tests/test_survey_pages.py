"""Triage and Surveys as Streamlit runs them, without a browser."""

import hashlib
import io
import os
import re
import shutil
import zipfile
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import openpyxl
import pytest
import streamlit as st
from helpers import crack_photo, wait_until
from onnxruntime import InferenceSession
from PIL import ImageFile
from sqlalchemy import insert, text, update
from sqlalchemy.orm import Session
from streamlit.testing.v1 import AppTest

from heritage.access import Visitor
from heritage.bands import BandThresholds
from heritage.cards import read_card, weights_dir
from heritage.handover import LARGEST_ZIP_BYTES, Handover
from heritage.photos import Limits, open_photo
from heritage.processes import is_locked
from heritage.sources import Source, list_folder
from heritage.spreadsheets import MOST_OVERLAYS, MOST_PICTURED
from heritage.store.tables import InspectionRow, PhotoRow, RunRow
from heritage.surveys import DONE, Finding, SurveyStore
from heritage.triage import triage
from heritage.web import priority_table, triage_input
from heritage.web.survey_charts import bands_per_building
from heritage.web.survey_view import _file
from heritage.worker import LOCK

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch, request):
    st.cache_resource.clear()
    st.cache_data.clear()
    monkeypatch.setenv("HERITAGE_SURVEYS", str(tmp_path / "surveys"))
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(request.getfixturevalue("weights_dir")))
    monkeypatch.setenv("HERITAGE_RUNS", str(tmp_path / "runs"))
    for name in ("HERITAGE_DATABASE_URL", "HERITAGE_PHOTO_ROOT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def visited(tmp_path_factory, weights_dir):
    """A folder with two surveys of two buildings, read by the untrained backbone."""
    home = tmp_path_factory.mktemp("visited")
    with closing(SurveyStore(home / "surveys")) as store:
        for name, day in (("Spring", date(2026, 4, 2)), ("Autumn", date(2026, 9, 3))):
            for building in ("chapel", "mill"):
                for index in range(3):
                    seed = index + 10 * (building == "mill") + 100 * day.month
                    path = home / name / building / f"{index}.jpg"
                    crack_photo(path, cracked=index % 2 == 0, seed=seed)
            (home / name / "mill" / "torn.jpg").write_bytes(crack_photo()[:700])
            survey = store.create_survey(name, site="Old town", visited_on=day)
            store.add_photos(survey.id, list_folder(home / name).sources)
            run = store.create_run(survey.id, read_card(weights_dir / "mobilenet_v2.json"))
            triage(store, run.id, weights=weights_dir)
    return home / "surveys"


@pytest.fixture
def kept(tmp_path):
    """An empty store, the one that the pages use."""
    with closing(SurveyStore(tmp_path / "surveys")) as store:
        yield store


@pytest.fixture
def spring(visited, kept):
    """The survey of spring and its run, in `kept`."""
    kept.close()
    shutil.copytree(visited, kept.folder, dirs_exist_ok=True)
    survey = kept.find_survey("Spring")
    return survey, kept.runs(survey.id)[0]


def card():
    return read_card(weights_dir() / "mobilenet_v2.json")


def page(name, **query):
    app = AppTest.from_file(str(ROOT / "pages" / name), default_timeout=300)
    for key, value in query.items():
        app.query_params[key] = str(value)
    return app.run()


def texts(app):
    elements = (*app.markdown, *app.caption, *app.title, *app.info, *app.error, *app.warning)
    return " ".join(element.value for element in elements)


def button(app, label):
    return next(b for b in app.button if b.label == label)


def view(app, name):
    group = next(g for g in app.button_group if g.label == "View")
    group.set_value(name)
    return app.run()


def test_triage_says_what_to_give_and_cannot_start_without():
    app = page("2_Triage.py")
    assert not app.exception
    assert "Drop photos here" in app.file_uploader[0].label
    assert button(app, "Start").disabled


def test_uploads_become_a_survey_that_a_worker_reads(kept):
    app = page("2_Triage.py")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("nave/1.jpg", crack_photo(seed=4))
    app.file_uploader[0].set_value(
        [
            ("a.jpg", crack_photo(seed=1), "image/jpeg"),
            ("torn.jpg", crack_photo()[:500], "image/jpeg"),
            ("more.zip", archive.getvalue(), "application/zip"),
        ]
    )
    app.run()
    next(t for t in app.text_input if t.label == "Name of the survey").set_value("Autumn")
    button(app, "Start").click().run()
    assert not app.exception
    (survey,) = kept.surveys()
    assert (survey.name, survey.photos) == ("Autumn", 3)
    (run,) = kept.runs(survey.id)
    wait_until(lambda: not app.run().exception and kept.run(run.id).status == DONE)
    rows = {row.photo: row for row in kept.rows(run.id)}
    assert rows["torn.jpg"].error
    assert rows["a.jpg"].damage_percent is not None
    nave = next(row for row in rows.values() if row.building == "nave")
    assert nave.damage_percent is not None
    app.run()
    assert not app.exception
    assert "Autumn" in texts(app)


def test_a_folder_on_the_server_is_offered_only_below_the_root(kept, tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    crack_photo(tmp_path / "photos" / "2026" / "tower" / "1.jpg")
    crack_photo(tmp_path / "elsewhere" / "1.jpg")
    monkeypatch.setenv("HERITAGE_PHOTO_ROOT", str(tmp_path / "photos"))
    app = page("2_Triage.py")
    app.button_group[0].set_value("A folder on the server")
    app.run()
    folder = next(t for t in app.text_input if t.label.startswith("Folder below"))
    for outside in ("../elsewhere", str(tmp_path / "elsewhere")):
        folder.set_value(outside).run()
        button(app, "Start").click().run()
        assert "outside the photos of this server" in texts(app)
        assert str(tmp_path) not in app.error[0].value or outside in app.error[0].value
        assert kept.surveys() == []
    folder.set_value("2026").run()
    button(app, "Start").click().run()
    (survey,) = kept.surveys()
    assert (survey.name, survey.photos) == ("2026", 1)
    wait_until(lambda: not app.run().exception and kept.runs(survey.id)[0].status == DONE)


def test_a_survey_that_is_not_there_leads_to_those_that_are():
    app = page("2_Triage.py", survey=99)
    assert not app.exception
    assert "This survey is not here" in texts(app)


def test_the_table_is_the_priority_table(kept, spring):
    survey, run = spring
    app = page("2_Triage.py", survey=survey.id)
    assert not app.exception
    table = app.dataframe[0].value
    rows = Handover.of(kept, run.id).rows
    assert list(table["Photo"]) == [row.photo for row in rows]
    assert list(table["Rank"]) == list(range(1, 8))
    assert "ends early" in " ".join(table["Remarks"].astype(str))


@pytest.mark.parametrize(
    ("key", "value", "left"),
    [
        ("find_text", "chapel", lambda row: row.building == "chapel"),
        ("find_bands", ["No answer"], lambda row: row.error),
        ("find_only", ["not readable"], lambda row: row.error),
        ("find_buildings", ["mill"], lambda row: row.building == "mill"),
        ("find_damage_percent", (0, 0), lambda row: row.damage_percent == 0),
    ],
)
def test_filters_leave_what_they_say(kept, spring, key, value, left):
    survey, run = spring
    app = page("2_Triage.py", survey=survey.id)
    app.session_state[key] = value
    app.run()
    assert not app.exception
    wanted = [row.photo for row in Handover.of(kept, run.id).rows if left(row)]
    shown = list(app.dataframe[0].value["Photo"]) if app.dataframe else []
    assert shown == wanted
    button(app, "Clear").click().run()
    assert len(app.dataframe[0].value) == 7


@pytest.mark.parametrize("order", list(priority_table.ORDERS))
def test_every_order_shows_every_photo(kept, spring, order):
    survey, _ = spring
    app = page("2_Triage.py", survey=survey.id)
    next(s for s in app.selectbox if s.label == "Order").set_value(order).run()
    assert not app.exception
    assert len(app.dataframe[0].value) == 7


def test_a_chosen_photo_takes_a_verdict_and_the_next_comes(kept, spring):
    survey, run = spring
    rows = Handover.of(kept, run.id).rows
    app = page("2_Triage.py", survey=survey.id)
    app.session_state["chosen_photo"] = rows[2].photo_id
    app.run()
    assert rows[2].photo.rsplit("/")[-1].replace(".", "\\.") in texts(app)
    app.text_area[0].set_value("salt at the base").run()
    next(t for t in app.text_input if t.label == "Your name").set_value("Ana").run()
    button(app, "Damaged").click().run()
    assert not app.exception
    assert app.session_state["chosen_photo"] == rows[3].photo_id
    first = Handover.of(kept, run.id).rows[0]
    assert (first.photo, first.verdict, first.note, first.verdict_by) == (
        rows[2].photo,
        "damaged",
        "salt at the base",
        "Ana",
    )
    button(app, "Previous").click().run()
    button(app, "Next").click().run()
    assert not app.exception


def test_a_photo_can_be_moved_to_another_building(kept, spring):
    survey, run = spring
    row = next(row for row in kept.rows(run.id) if row.building == "mill")
    app = page("2_Triage.py", survey=survey.id)
    app.session_state["chosen_photo"] = row.photo_id
    app.run()
    app.text_input(key=f"building_of_{row.photo_id}").set_value("bridge").run()
    button(app, "Move it there").click().run()
    assert not app.exception
    assert {r.photo for r in kept.rows(run.id) if r.building == "bridge"} == {row.photo}


def test_a_database_of_a_newer_program_is_not_called_a_deleted_survey(kept, spring):
    survey, _ = spring
    with kept.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'from-tomorrow'"))
    app = page("2_Triage.py", survey=survey.id)
    assert "made by a newer Heritage" in app.error[0].value
    assert "not here" not in texts(app)


def test_a_photo_too_large_to_be_read_is_a_row_and_is_not_kept(kept, spring, monkeypatch):
    survey, run = spring
    monkeypatch.setattr(triage_input, "Limits", partial(Limits, max_bytes=20_000))
    app = view(page("2_Triage.py", survey=survey.id), "Settings")
    before = set(kept.folder.glob("photos/*/*"))
    add(app, ("panorama.jpg", crack_photo(seed=8) + bytes(20_000)))
    assert not app.exception
    wait_until(lambda: kept.run(run.id).done == 8)
    (row,) = (row for row in kept.rows(run.id) if row.photo == "panorama.jpg")
    assert row.error.startswith("the file is larger than")
    assert set(kept.folder.glob("photos/*/*")) == before


def test_buildings_whose_names_end_alike_stay_two_in_the_chart(kept, spring):
    _, run = spring
    ends = "tower, cathedral close of Saint Mary"
    names = [f"North {ends}", f"South {ends}", '<a href="http://ev.il">Mill</a>']
    row = replace(kept.rows(run.id)[0], band="High")
    chart = bands_per_building([replace(row, building=name) for name in names])
    assert sum(sum(bar.x) for bar in chart.data) == 3
    assert {len(set(bar.y)) for bar in chart.data} == {3}
    labels = chart.layout.yaxis.ticktext
    assert len(set(labels)) == 3
    hovered = [label for bar in chart.data for label in bar.hovertext]
    assert not any("<" in label for label in (*labels, *hovered))


def test_moving_a_threshold_moves_the_bands_and_reads_no_photo_again(kept, spring):
    survey, run = spring
    app = view(page("2_Triage.py", survey=survey.id), "Settings")
    next(s for s in app.slider if s.label.startswith("Watch")).set_value(0.0).run()
    assert not app.exception
    assert kept.survey(survey.id).thresholds == BandThresholds(85, 50, 0)
    assert not any(row.band == "Sound" for row in Handover.of(kept, run.id).rows)
    assert kept.run(run.id).seconds == run.seconds


@pytest.mark.parametrize("name", ["Pictures", "Charts", "Verdicts", "Runs", "Hand on", "Settings"])
@pytest.mark.parametrize("judged", [False, True])
def test_every_view_shows(kept, spring, name, judged):
    survey, run = spring
    if judged:
        rows = kept.rows(run.id)
        for row, verdict in zip(rows, ("damaged", "sound", "unsure"), strict=False):
            kept.give_verdict([row.photo_id], verdict, "*note* <b>", "A & B")
        kept.create_run(survey.id, card())
        triage(kept, kept.runs(survey.id)[0].id)
    app = view(page("2_Triage.py", survey=survey.id), name)
    assert not app.exception


def test_verdicts_lead_to_training(kept, spring, tmp_path, monkeypatch):
    (tmp_path / "root").mkdir()
    monkeypatch.setenv("HERITAGE_PHOTO_ROOT", str(tmp_path / "root"))
    survey, run = spring
    for row in kept.rows(run.id)[:6]:
        kept.give_verdict([row.photo_id], "sound" if row.photo.endswith("1.jpg") else "damaged")
    app = view(page("2_Triage.py", survey=survey.id), "Verdicts")
    button(app, "Train on all verdicts").click().run()
    app = page("5_Train.py")
    button(app, "Take the verdicts given in surveys").click().run()
    assert not app.exception
    assert {metric.label: metric.value for metric in app.metric} == {
        "Damaged photos": "4",
        "Sound photos": "2",
        "Buildings or scenes": "2",
    }
    begun = app.text_input(key="training_data").value
    labels = Path(begun).read_bytes()
    kept.give_verdict([kept.rows(run.id)[0].photo_id], "unsure")
    app = page("5_Train.py")
    button(app, "Take the verdicts given in surveys").click().run()
    assert app.text_input(key="training_data").value != begun
    assert Path(begun).read_bytes() == labels, "a training that is stopped goes on from these"


def test_verdicts_move_the_bands_and_settings_moves_them_back(kept):
    survey = thousands(kept, 80)
    rows = kept.rows(kept.runs(survey.id)[0].id)
    kept.give_verdict([rows[0].photo_id], "sound")
    app = view(page("2_Triage.py", survey=survey.id), "Verdicts")
    assert "With 10 photos found damaged and 10 found sound" in texts(app)
    for row in rows:
        kept.give_verdict([row.photo_id], "damaged" if row.damage_percent >= 80 else "sound")
    app = view(page("2_Triage.py", survey=survey.id), "Verdicts")
    (move,) = (b for b in app.button if b.label.startswith("Move the bands"))
    move.click().run()
    assert not app.exception
    moved = kept.survey(survey.id).thresholds
    assert 65 < moved.high_percent < 90
    assert f"High {moved.high_percent:g}," in move.label
    assert "The bands fit your verdicts" in texts(app)
    app = view(app, "Settings")
    next(b for b in app.button if b.label.startswith("Back to the usual")).click().run()
    assert not app.exception
    assert kept.survey(survey.id).thresholds == BandThresholds()


def test_surveys_is_empty_at_first_and_says_how_to_fill_it():
    app = page("3_Surveys.py")
    assert not app.exception
    assert "There is none yet" in texts(app)


def test_surveys_lists_them_and_shows_a_building_over_time(kept, spring):
    app = page("3_Surveys.py")
    assert not app.exception
    assert list(app.dataframe[0].value["Survey"]) == ["Autumn", "Spring"]
    assert "2 April 2026" in texts(app)
    assert "3 September 2026" in texts(app)
    app.selectbox[0].set_value("mill").run()
    assert not app.exception


def test_a_building_over_time_keeps_detail_scans_apart(kept, spring):
    survey, run = spring
    scan = kept.create_run(survey.id, card(), detail=True)
    for photo in kept.pending(scan.id):
        kept.record(scan.id, photo.id, None, Finding(damage_percent=12.5))
    app = page("3_Surveys.py")
    reader = next(box for box in app.selectbox if box.label == "Read by")
    assert reader.options == [run.card.title, f"{run.card.title}, detail scan"]
    assert "Only one survey shows it" not in texts(app)
    reader.set_value(reader.options[1]).run()
    assert not app.exception
    assert "Only one survey shows it" in texts(app)
    assert f"read by {reader.options[1]}" in texts(app)


def test_home_leads_back_to_the_last_surveys(kept, spring):
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=300).run()
    assert not app.exception
    assert "**Spring**" in texts(app)


def test_names_from_outside_are_shown_as_they_are(kept, tmp_path):
    crack_photo(tmp_path / "in" / "*x* <b>" / "[a](b) $x$.jpg")
    survey = kept.create_survey("<script> *bold*")
    kept.add_photos(survey.id, list_folder(tmp_path / "in").sources)
    run = kept.create_run(survey.id, card())
    triage(kept, run.id)
    app = page("2_Triage.py", survey=survey.id)
    app.session_state["chosen_photo"] = kept.rows(run.id)[0].photo_id
    app.run()
    assert not app.exception
    told = texts(app)
    assert "<script>" not in told
    assert "\\<script\\>" in told
    assert "[a](b)" not in told


def test_five_thousand_photos_are_shown(kept):
    survey = thousands(kept, 5000)
    app = page("2_Triage.py", survey=survey.id)
    assert not app.exception
    assert len(app.dataframe[0].value) == 5000


def thousands(store, count):
    """A survey as large as asked for, its photos made up."""
    survey = store.create_survey("Large")
    run = store.create_run(survey.id, card())
    rng = np.random.default_rng(0)
    hashes = [f"{n:064x}" for n in range(count)]
    with store.engine.begin() as connection:
        connection.execute(
            insert(PhotoRow),
            [
                {
                    "survey_id": survey.id,
                    "position": n,
                    "name": f"building {n // 100}/IMG_{n}.jpg",
                    "building": f"building {n // 100}",
                    "source_path": "",
                    "source_error": "",
                    "sha256": hashes[n],
                    "suffix": "jpg",
                    "width": 4000,
                    "height": 3000,
                    "latitude": 48 + n / 1e5,
                    "longitude": 11 + (n % 100) / 1e4,
                    "taken_at": f"2026-0{1 + n % 9}-01T10:00:00",
                    "perceptual_hash": f"{int(rng.integers(2**63)):016x}",
                }
                for n in range(count)
            ],
        )
    photos = store.pending(run.id)
    with store.engine.begin() as connection:
        connection.execute(
            insert(InspectionRow),
            [
                {
                    "run_id": run.id,
                    "photo_id": photo.id,
                    "damage_percent": round(float(rng.uniform(0, 100)), 2),
                    "affected_percent": round(float(rng.uniform(0, 60)), 2),
                    "evidence": True,
                    "unsure": False,
                    "regions": [],
                    "warnings": [],
                    "error": "",
                }
                for photo in photos
            ],
        )
    store.release(run.id, "", DONE)
    return survey


def picture_urls(app):
    return [image.url for found in app.get("image") for image in found.proto.imgs]


def test_pictures_of_stored_photos_travel_with_the_page(spring):
    """Streamlit's own addresses for pictures ask nobody who they are."""
    survey, _ = spring
    app = page("2_Triage.py", survey=survey.id)
    view(app, "Pictures")
    small = picture_urls(app)
    assert small
    next(button for button in app.button if str(button.key).startswith("open_")).click().run()
    view(app, "Table")
    large = picture_urls(app)
    visits = picture_urls(page("3_Surveys.py"))
    assert all(url.startswith("data:image/jpeg;base64,") for url in [*small, *large, *visits])


def test_a_chosen_survey_stays_chosen_when_another_comes_in_above_it(kept):
    kept.create_survey("Chosen")
    kept.create_survey("Other")
    app = page("3_Surveys.py")
    choice = {"rows": [1], "columns": [], "cells": []}
    app.session_state["surveys"] = {"selection": choice}
    app.run()
    kept.create_survey("Newest")
    app.run()
    assert app.session_state["surveys"]["selection"]["rows"] == [2]
    kept.delete_survey(kept.find_survey("Chosen").id)
    app.run()
    assert app.session_state["surveys"]["selection"]["rows"] == []


def test_a_third_run_begins_and_is_the_one_shown(kept, spring):
    survey, first = spring
    second = stopped_run(kept, survey)
    app = view(page("2_Triage.py", survey=survey.id), "Runs")
    app.toggle(key="triage_detail").set_value(True).run()
    button(app, "Read with this backbone").click().run()
    assert not app.exception
    third = kept.runs(survey.id)[0]
    assert third.id not in (first.id, second.id)
    assert app.session_state["survey_run"] == third.id
    wait_until(lambda: kept.run(third.id).status == DONE)  # it was started, too


@pytest.fixture
def twins(kept):
    """A read survey of two photos with the same bytes."""
    survey = kept.create_survey("Twins")
    data = crack_photo(seed=5)
    for name in ("a.jpg", "again.jpg"):
        kept.add_upload(survey.id, name, "", data, hashlib.sha256(data).hexdigest(), "jpg")
    run = kept.create_run(survey.id, card())
    triage(kept, run.id)
    return survey, [row.photo_id for row in kept.rows(run.id)]


def look_at(app, photo_id):
    app.session_state["chosen_photo"] = photo_id
    return app.run()


def test_a_note_in_hand_outlives_one_that_somebody_else_writes(kept, spring):
    survey, run = spring
    row = next(row for row in kept.rows(run.id) if row.sha256)
    app = look_at(page("2_Triage.py", survey=survey.id), row.photo_id)
    kept.give_verdict([row.photo_id], "", "only dirt", "ben")
    app.text_area[0].set_value("open crack, call the scaffolder")
    button(app, "Damaged").click().run()
    assert app.text_area[0].value == "open crack, call the scaffolder"
    assert "somebody else has left “only dirt”" in texts(app)
    assert [said.given_by for said in kept.verdicts(row.photo_id)] == ["ben"], "seen first"
    button(app, "Damaged").click().run()
    latest = kept.verdicts(row.photo_id)[0]
    assert (latest.verdict, latest.note) == ("damaged", "open crack, call the scaffolder")
    assert "somebody else" not in texts(look_at(app, row.photo_id))


def test_a_note_is_kept_when_another_photo_is_chosen_in_the_same_breath(kept, spring):
    survey, run = spring
    row = next(row for row in kept.rows(run.id) if row.sha256)
    app = look_at(page("2_Triage.py", survey=survey.id), row.photo_id)
    app.text_area[0].set_value("salt at the base")
    button(app, "Next").click().run()
    assert not app.exception
    assert app.text_area[0].value == ""
    assert look_at(app, row.photo_id).text_area[0].value == "salt at the base"


def test_a_note_that_is_kept_on_is_said_by_its_writer_only(kept, spring):
    survey, run = spring
    row = next(row for row in kept.rows(run.id) if row.sha256)
    app = look_at(page("2_Triage.py", survey=survey.id), row.photo_id)
    kept.give_verdict([row.photo_id], "", "only dirt", "ben")
    button(app, "Damaged").click().run()
    assert kept.verdicts(row.photo_id)[0].note == "only dirt", "nothing is lost"
    told = texts(look_at(app, row.photo_id))
    assert told.count(": only dirt") == 1
    assert "by ben" in told


def test_a_note_given_elsewhere_is_not_overwritten_by_an_empty_field(kept, twins):
    survey, (one, other) = twins
    app = look_at(page("2_Triage.py", survey=survey.id), other)
    look_at(app, one)
    app.text_area[0].set_value("salt").run()
    button(app, "Damaged").click().run()
    look_at(app, other)
    assert app.text_area[0].value == "salt", "what was said of its twin"
    kept.give_verdict([one, other], "sound", "old repair", "a colleague")
    app.run()
    assert app.text_area[0].value == "salt", "somebody may be writing in it"
    assert "somebody else has left “old repair”" in texts(app)
    button(app, "Unsure").click().run()
    assert not app.exception
    assert look_at(app, other).text_area[0].value == "old repair"
    assert [kept.verdicts(n)[0].note for n in (one, other)] == ["old repair"] * 2


def test_a_note_that_is_not_saved_yet_waits_until_its_photo_is_judged(kept, twins):
    survey, (one, other) = twins
    app = look_at(page("2_Triage.py", survey=survey.id), one)
    app.text_area[0].set_value("salt").run()
    look_at(app, other)
    look_at(app, one)
    assert app.text_area[0].value == "salt"
    look_at(app, other)
    button(app, "Sound").click().run()
    look_at(app, one)
    assert app.text_area[0].value == "", "a verdict on one is one on its twin"


def test_copies_count_once_above_the_table_and_in_the_list_of_surveys(kept, twins):
    survey, _ = twins
    app = page("2_Triage.py", survey=survey.id)
    counts = next(m.value for m in app.markdown if "-badge[Duplicates]" in m.value)
    assert sum(int(n) for n in re.findall(r"badge\[[^D]+?\] \*\*(\d+)\*\*", counts)) == 1
    listed = page("3_Surveys.py").dataframe[0].value.iloc[0]
    assert sum(count for name, count in listed.items() if name[0] in "▲◆●○") == 1


@pytest.mark.parametrize("name", ["Table", "Pictures"])
def test_filters_and_order_outlast_a_look_at_another_view(kept, spring, name):
    survey, _ = spring
    app = view(page("2_Triage.py", survey=survey.id), name)
    wanted = {"find_text": "chapel", "find_buildings": ["chapel"], "find_damage_percent": (0, 99)}
    for key, value in (wanted | {"find_order": "Building and name"}).items():
        app.session_state[key] = value
    app.run()
    view(app, "Charts")
    app.run()
    view(app, name)
    assert not app.exception
    assert {key: app.session_state[key] for key in wanted} == wanted
    assert next(s for s in app.selectbox if s.label == "Order").value == "Building and name"


def test_filters_outlast_a_closer_look_on_another_page_but_are_not_of_the_next(kept, spring, twins):
    (survey, run), (other, _) = spring, twins
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=300).run()
    app.query_params["survey"] = str(survey.id)
    app.switch_page("pages/2_Triage.py").run()
    view(app, "Pictures")
    wanted = {"find_text": "chapel", "find_order": "Building and name"}
    for key, value in (wanted | {"find_damage_percent": (0, 99)}).items():
        app.session_state[key] = value
    look_at(app, next(row for row in kept.rows(run.id) if row.building == "chapel").photo_id)
    button(app, "Look closer").click().run()
    app.switch_page("pages/1_Inspect.py").run()
    app.run()
    button(app, "Back to Spring").click().run()
    app.switch_page("pages/2_Triage.py").run()
    assert not app.exception
    assert app.text_input(key="find_text").value == "chapel"
    assert button(app, "Back to the pictures")
    assert app.session_state["find_order"] == "Building and name"
    app.query_params["survey"] = str(other.id)
    app.run()
    assert not app.exception
    assert not app.session_state["find_text"]
    assert app.session_state["find_damage_percent"] == (0, 100)
    assert app.session_state["find_order"] == "Priority"
    assert app.session_state["survey_view"] == "Table"


def test_the_run_looked_at_stays_until_there_is_a_newer_one(kept, spring):
    survey, first = spring
    detail = stopped_run(kept, survey)
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=300).run()
    app.query_params["survey"] = str(survey.id)
    app.switch_page("pages/2_Triage.py").run()
    assert app.session_state["survey_run"] == detail.id, "the newest"
    app.selectbox(key="survey_run").select_index(1).run()

    def after_another_page():
        app.switch_page("pages/6_Guide.py").run()
        app.switch_page("pages/2_Triage.py").run()
        assert not app.exception
        return app.session_state["survey_run"]

    assert after_another_page() == first.id
    newest = stopped_run(kept, survey)
    assert after_another_page() == newest.id


def stopped_run(store, survey):
    """Another run of the survey, stopped before it read anything."""
    run = store.create_run(survey.id, card())
    store.ask_to_stop(run.id)
    return run


def test_a_session_that_was_lost_does_not_overrule_the_browser(kept, spring):
    survey, _ = spring
    app = page("2_Triage.py", survey=survey.id)
    del app.session_state["filters_of"]  # as after a restart of the server
    view(app, "Charts")
    assert app.session_state["survey_view"] == "Charts"


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("1_Inspect", "checkpoint", "googlenet"),
        ("1_Inspect", "colour_map", "jet"),
        ("1_Inspect", "hot_only", False),
        ("1_Inspect", "boxes", False),
        ("1_Inspect", "heat_method", "eigen_cam"),
        ("1_Inspect", "detail_scan", True),
        ("2_Triage", "table_thumbnails", "none"),
        ("2_Triage", "verdict_by", "Anna"),
        ("2_Triage", "verdict_onwards", False),
        ("5_Train", "training_data", "/photos"),
    ],
)
def test_a_choice_outlasts_another_page(kept, spring, name, key, value):
    survey, run = spring
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=300).run()
    app.session_state["photo"] = open_photo(crack_photo(seed=3), "wall.jpg")
    app.session_state["chosen_photo"] = kept.rows(run.id)[0].photo_id
    app.session_state["open_survey"] = str(survey.id)
    app.switch_page(f"pages/{name}.py").run()
    assert app.session_state[key] != value
    app.session_state[key] = value
    app.run()
    app.switch_page("pages/6_Guide.py").run()
    app.run()
    app.switch_page(f"pages/{name}.py").run()
    assert not app.exception
    assert app.session_state[key] == value


def test_a_filter_by_a_building_that_is_called_otherwise_by_now_goes(kept, spring):
    survey, run = spring
    app = page("2_Triage.py", survey=survey.id)
    app.session_state["find_buildings"] = ["mill"]
    app.run()
    view(app, "Settings")
    mill = [row.photo_id for row in kept.rows(run.id) if row.building == "mill"]
    kept.rename_building(survey.id, mill, "bridge")
    view(app, "Table")
    assert not app.exception
    assert len(app.dataframe[0].value) == 7


def test_the_page_of_the_pictures_outlasts_a_look_at_one_of_them(kept):
    survey = thousands(kept, 60)
    app = view(page("2_Triage.py", survey=survey.id), "Pictures")
    app.number_input(key="pictures_page").set_value(2).run()
    next(b for b in app.button if str(b.key).startswith("open_")).click().run()
    app.run()
    button(app, "Back to the pictures").click().run()
    assert not app.exception
    assert app.number_input(key="pictures_page").value == 2


def test_a_visit_can_be_of_any_day_since_there_are_photos(kept):
    long_ago = date(1905, 5, 1)
    app = page("2_Triage.py")
    app.date_input[0].set_value(long_ago).run()
    assert not app.exception
    assert app.date_input[0].min == date(1826, 1, 1)
    assert date.today() <= app.date_input[0].max < date.today() + timedelta(days=3)
    survey = thousands(kept, 1)
    kept.edit_survey(survey.id, name="Old", visited_on=date(1820, 1, 1))
    app = view(page("2_Triage.py", survey=survey.id), "Settings")
    assert not app.exception
    assert app.date_input[0].value == app.date_input[0].min == date(1820, 1, 1)
    app.date_input[0].set_value(long_ago).run()
    button(app, "Save").click().run()
    assert kept.survey(survey.id).visited_on == long_ago


def add(app, *files):
    app.file_uploader[0].set_value([(name, data, "image/jpeg") for name, data in files])
    app.run()
    return button(app, "Add them").click().run()


def test_photos_before_a_torn_zip_are_added_and_read_and_the_zip_goes(kept, spring):
    survey, run = spring
    app = view(page("2_Triage.py", survey=survey.id), "Settings")
    add(app, ("a.jpg", crack_photo(seed=8)), ("torn.zip", b"PK\3\4 and no more"))
    assert not app.exception
    assert "torn\\.zip" in app.error[0].value
    assert not [path for path in kept.folder.glob("incoming/*/*") if path.is_file()]
    wait_until(lambda: kept.run(run.id).status == DONE and kept.run(run.id).done == 8)


def test_adding_says_how_many_photos_were_new(kept, spring):
    survey, run = spring
    app = view(page("2_Triage.py", survey=survey.id), "Settings")
    photo = ("a.jpg", crack_photo(seed=8))
    add(app, photo)
    assert [toast.value for toast in app.toast] == ["1 photo added"]
    wait_until(lambda: kept.run(run.id).done == 8)
    add(app, photo)
    assert not app.exception
    assert "Nothing new in these files." in texts(app)
    assert kept.survey(survey.id).photos == 8


def test_a_zip_added_again_brings_nothing_new_although_it_has_been_read(kept, spring):
    survey, run = spring
    app = view(page("2_Triage.py", survey=survey.id), "Settings")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("nave/1.jpg", crack_photo(seed=4))

    def put_aside():
        return [path for path in kept.folder.glob("incoming/*/*") if path.is_file()]

    add(app, ("more.zip", archive.getvalue()))
    wait_until(lambda: kept.run(run.id).status == DONE and kept.run(run.id).done == 8)
    assert not put_aside()
    add(app, ("more.zip", archive.getvalue()))
    assert not app.exception
    assert "Nothing new in these files." in texts(app)
    assert kept.survey(survey.id).photos == 8
    assert not put_aside()


@pytest.mark.parametrize(
    ("given", "name"),
    [("06.05.2026 Kirche/1.jpg", "06.05.2026 Kirche"), ("St. Anna 1.5.zip", "St. Anna 1.5")],
)
def test_a_survey_is_called_like_its_folder_or_zip(given, name):
    app = page("2_Triage.py")
    app.file_uploader[0].set_value([(given, crack_photo(), "image/jpeg")]).run()
    assert not app.exception
    field = next(t for t in app.text_input if t.label == "Name of the survey")
    assert field.placeholder == name


def test_verdicts_on_photos_that_cannot_be_read_are_said_to_be_left_out(kept, spring):
    survey, run = spring
    for row in kept.rows(run.id):
        kept.give_verdict([row.photo_id], "damaged")
    app = view(page("2_Triage.py", survey=survey.id), "Verdicts")
    assert "could not be read: 1 photo with a verdict" in texts(app)


def test_inspect_says_which_band_a_photo_has_in_its_survey(kept, spring):
    survey, run = spring
    kept.edit_survey(survey.id, thresholds=BandThresholds(0, 0, 0))
    row = kept.rows(run.id)[0]
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=300).run()
    app.query_params["survey"] = str(survey.id)
    app.switch_page("pages/2_Triage.py").run()
    look_at(app, row.photo_id)
    button(app, "Look closer").click().run()
    app.switch_page("pages/1_Inspect.py").run()
    assert not app.exception
    assert app.metric[0].label == "Damage"
    assert "in the survey Spring, whose bands were moved, the photo is :red-badge" in texts(app)


def test_a_full_disk_is_told_where_files_are_to_leave(kept, spring, monkeypatch):
    survey, _ = spring
    app = view(page("2_Triage.py", survey=survey.id), "Hand on")
    assert not app.error
    monkeypatch.setattr("heritage.store.files.SPARE_BYTES", 2**60)
    app.run()
    assert "The disk of this computer is full" in app.error[0].value


def test_what_leaves_says_how_many_photos_have_their_picture(kept, spring):
    survey, _ = spring
    told = texts(view(page("2_Triage.py", survey=survey.id), "Hand on"))
    assert f"the first {MOST_PICTURED} urgent photos" in told
    assert f"the first {MOST_OVERLAYS} urgent photos" in told


def test_one_photo_is_not_called_photos(kept):
    survey = thousands(kept, 1)
    assert "1 photo" in texts(page("2_Triage.py", survey=survey.id))
    home = AppTest.from_file(str(ROOT / "app.py"), default_timeout=300).run()
    assert "1 photo" in texts(home)
    assert "1 photos" not in texts(page("2_Triage.py", survey=survey.id)) + texts(home)


@pytest.mark.parametrize("what", [(InferenceSession, "run"), (ImageFile.ImageFile, "load")])
def test_what_there_was_no_memory_for_can_be_tried_again(kept, monkeypatch, what):
    survey = kept.create_survey("Large photos")
    data = crack_photo(seed=5)
    kept.add_upload(survey.id, "a.jpg", "", data, hashlib.sha256(data).hexdigest(), "jpg")
    run = kept.create_run(survey.id, card())
    with monkeypatch.context() as patch:
        patch.setattr(*what, out_of_memory)
        assert triage(kept, run.id).failed == 1
    app = page("2_Triage.py", survey=survey.id)
    button(app, "Try again to read 1").click().run()
    assert not app.exception
    wait_until(lambda: kept.run(run.id).status == DONE)
    assert kept.run(run.id).failed == 0


def out_of_memory(*given):
    raise MemoryError


def test_a_photo_that_was_gone_and_is_added_again_is_read(kept, twins):
    survey, (one, _) = twins
    photo = kept.photo(one)
    path = kept.files.path(photo.sha256, photo.suffix)
    data = path.read_bytes()
    path.unlink()
    run = kept.create_run(survey.id, card())
    assert triage(kept, run.id).failed == 2
    app = page("2_Triage.py", survey=survey.id)
    assert button(app, "Try again to read 2")
    add(view(app, "Settings"), (photo.name, data))
    assert not app.exception
    assert [toast.value for toast in app.toast] == ["2 photos to be read again"]
    wait_until(lambda: kept.run(run.id).status == DONE)
    assert kept.run(run.id).failed == 0
    assert kept.survey(survey.id).photos == 2


def test_photos_of_a_zip_that_were_gone_are_read_when_it_is_added_again(kept):
    survey = kept.create_survey("From a ZIP")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        for n in range(2):
            packed.writestr(f"nave/{n}.jpg", crack_photo(seed=n))
    given = ("visit.zip", archive.getvalue())
    kept.release(kept.create_run(survey.id, card()).id, "", DONE)
    add(view(page("2_Triage.py", survey=survey.id), "Settings"), given)
    run = kept.runs(survey.id)[0]
    wait_until(lambda: kept.run(run.id).status == DONE and kept.run(run.id).done == 2)
    for path in kept.folder.glob("photos/*/*"):
        path.unlink()
    wait_until(lambda: not is_locked(kept.folder / LOCK))  # or the worker takes up the next one
    again = kept.create_run(survey.id, card())
    assert triage(kept, again.id).failed == 2
    app = add(view(page("2_Triage.py", survey=survey.id), "Settings"), given)
    wait_until(lambda: not app.run().exception and kept.run(again.id).status == DONE)
    assert (kept.run(again.id).failed, kept.survey(survey.id).photos) == (0, 2)
    for path in kept.folder.glob("photos/*/*"):
        path.unlink()
    add(view(page("2_Triage.py", survey=survey.id), "Settings"), given)
    assert len(list(kept.folder.glob("photos/*/*"))) == 2
    wait_until(lambda: not list(kept.folder.glob("incoming/*/*.zip")))


def test_what_a_colleague_has_set_meanwhile_is_not_overwritten(kept, spring):
    survey, _ = spring
    app = view(page("2_Triage.py", survey=survey.id), "Settings")
    day = date(2026, 5, 8)
    kept.edit_survey(survey.id, name="Spring round", site="New town", visited_on=day)
    button(app, "Save").click().run()
    assert not app.exception
    now = kept.survey(survey.id)
    assert (now.name, now.site, now.visited_on) == ("Spring round", "New town", day)


def test_what_leaves_has_one_state_of_the_survey_at_its_head_and_in_its_rows(kept, spring):
    survey, run = spring
    kept.edit_survey(survey.id, name="Spring round", thresholds=BandThresholds(0, 0, 0))
    book = openpyxl.load_workbook(io.BytesIO(_file(survey, run, "xlsx", Visitor())))
    assert book["Summary"]["A1"].value == "Spring round"
    lines = [[cell.value for cell in line][:3] for line in book["Summary"].iter_rows()]
    assert ["▲ Urgent", "0 % and above", 6] in lines


def test_more_labelled_photos_than_memory_takes_are_not_zipped(kept, spring):
    survey, run = spring
    row = next(row for row in kept.rows(run.id) if not row.error)
    kept.give_verdict([row.photo_id], "damaged")

    def shown():
        app = view(page("2_Triage.py", survey=survey.id), "Verdicts")
        assert not app.exception
        (download,) = (b for b in app.get("download_button") if "ZIP" in b.proto.label)
        return download.proto.disabled, texts(app)

    disabled, told = shown()
    assert not disabled
    assert "serial number" in told
    photo = kept.photo(row.photo_id)
    os.truncate(kept.files.path(photo.sha256, photo.suffix), LARGEST_ZIP_BYTES + 1)  # a hole
    st.cache_data.clear()
    disabled, told = shown()
    assert disabled
    assert "more than one ZIP is made of (2 GB): use **Train on all verdicts**" in told


def test_a_backbone_without_a_head_that_points_says_so_before_a_scan_is_begun(kept, spring):
    survey, _ = spring
    words = "This backbone has no head that points"
    assert words in texts(view(page("2_Triage.py", survey=survey.id), "Runs"))
    assert words in texts(page("2_Triage.py"))


def test_hidden_files_of_a_folder_are_left_out_and_told(kept, spring):
    survey, run = spring
    app = view(page("2_Triage.py", survey=survey.id), "Settings")
    hidden = ("card/._a.jpg", "card/@eaDir/a.jpg", "card/.thumbnails/a.jpg")
    add(app, ("card/a.jpg", crack_photo(seed=8)), *((name, b"no photo") for name in hidden))
    assert not app.exception
    assert [toast.value for toast in app.toast] == ["3 hidden files left out", "1 photo added"]
    wait_until(lambda: kept.run(run.id).done == 8)
    assert kept.run(run.id).failed == 1, "the torn one that was there before"


def look_closer(survey, photo_id):
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=300).run()
    app.query_params["survey"] = str(survey.id)
    app.switch_page("pages/2_Triage.py").run()
    look_at(app, photo_id)
    return app


def on_inspect(app):
    button(app, "Look closer").click().run()
    app.switch_page("pages/1_Inspect.py").run()
    assert not app.exception


@pytest.mark.parametrize("detail", [False, True])
def test_a_closer_look_shows_the_heat_of_the_survey(kept, spring, detail):
    survey, _ = spring
    run = kept.create_run(survey.id, card(), detail=detail)
    triage(kept, run.id)
    row = next(row for row in kept.rows(run.id) if not row.error)
    app = look_closer(survey, row.photo_id)
    app.session_state["detail_scan"] = not detail
    app.session_state["heat_method"] = "eigen_cam"
    on_inspect(app)
    assert app.toggle(key="detail_scan").value == detail
    shown = next(metric.value for metric in app.metric if metric.label == "Affected area")
    assert shown == (f"{row.affected_percent:.1f} %" if row.evidence else "–")


def test_a_closer_look_by_weights_that_are_others_by_now_says_what_the_survey_has(kept, spring):
    survey, _ = spring
    run = kept.create_run(survey.id, replace(card(), temperature=2.5))
    for photo in kept.pending(run.id):
        kept.record(run.id, photo.id, None, Finding(damage_percent=33.3, evidence=True))
    kept.release(run.id, "", DONE)  # or a worker would take it up while the pages are looked at
    row = next(row for row in kept.rows(run.id) if row.sha256)
    app = look_closer(survey, row.photo_id)
    on_inspect(app)
    assert "In the survey Spring the photo has 33.3 %" in texts(app)
    assert "before it was trained or calibrated anew" in texts(app)


def test_runs_of_one_minute_are_told_apart(kept, spring):
    survey, run = spring
    triage(kept, kept.create_run(survey.id, card()).id)
    with Session(kept.engine) as session:
        session.execute(update(RunRow).values(created_at=run.created_at))
        session.commit()
    newer, older = kept.runs(survey.id)
    app = page("2_Triage.py", survey=survey.id)
    assert app.selectbox(key="survey_run").value == newer.id
    for wanted in (older, newer):
        app.selectbox(key="survey_run").select(wanted.id).run()
        assert not app.exception
        assert app.session_state["run_looked_at"] == (wanted.id, newer.id)
    titles = app.selectbox(key="survey_run").options
    assert titles[0].endswith("UTC, no. 2")
    assert titles[1].endswith("UTC, no. 1")


def test_a_closer_look_by_another_head_that_points_says_so(kept, spring):
    survey, _ = spring
    pointing = {"sha256": "f" * 64, "hot": 0.5}
    run = kept.create_run(survey.id, replace(card(), pointing=pointing), detail=True)
    for photo in kept.pending(run.id):
        found = Finding(damage_percent=33.3, evidence=True, method="detail_scan")
        kept.record(run.id, photo.id, None, found)
    kept.release(run.id, "", DONE)  # or a worker would take it up while the pages are looked at
    row = next(row for row in kept.rows(run.id) if row.sha256)
    app = look_closer(survey, row.photo_id)
    on_inspect(app)
    assert "the head that points was trained or set anew since" in texts(app)


def test_a_note_is_kept_without_a_verdict(kept, spring):
    survey, run = spring
    photo_id = kept.rows(run.id)[0].photo_id
    app = look_at(page("2_Triage.py", survey=survey.id), photo_id)
    app.text_area[0].set_value("scaffold in front").run()
    assert "Not kept yet" in texts(app)
    button(app, "Save the note").click().run()
    assert not app.exception
    assert app.session_state["chosen_photo"] == photo_id
    row = kept.rows(run.id)[0]
    assert (row.verdict, row.note) == ("", "scaffold in front")
    assert "**Note**" in texts(app) and "Not kept yet" not in texts(app)
    button(app, "Damaged").click().run()
    look_at(app, photo_id)
    button(app, "Take back").click().run()
    assert "**Taken back**" in texts(app)


def test_a_photo_can_be_taken_out_of_the_survey(kept, spring):
    survey, run = spring
    rows = Handover.of(kept, run.id).rows
    app = look_at(page("2_Triage.py", survey=survey.id), rows[0].photo_id)
    assert button(app, "Remove this photo").disabled
    app.checkbox(key=f"sure_{rows[0].photo_id}").check().run()
    button(app, "Remove this photo").click().run()
    assert not app.exception
    assert [row.photo for row in Handover.of(kept, run.id).rows] == [r.photo for r in rows[1:]]
    assert app.session_state["chosen_photo"] == rows[1].photo_id
    assert app.toast[0].value.endswith("removed")


def test_no_try_is_offered_where_none_can_help(kept):
    survey = kept.create_survey("Locked")
    kept.add_photos(
        survey.id, [Source("a.jpg", "tower", "/photos.zip", 0, "it is locked with a password; x")]
    )
    run = kept.create_run(survey.id, card())
    assert triage(kept, run.id).failed == 1
    app = page("2_Triage.py", survey=survey.id)
    assert not [b.label for b in app.button if b.label.startswith("Try again")]


def test_verdicts_of_unsure_alone_are_not_called_none(kept, spring):
    survey, run = spring
    kept.give_verdict([kept.rows(run.id)[0].photo_id], "unsure")
    app = view(page("2_Triage.py", survey=survey.id), "Verdicts")
    assert "Nobody has said yet" not in texts(app)
    assert button(app, "Train on all verdicts")


def test_a_run_goes_only_after_a_second_word(kept, spring):
    survey, run = spring
    kept.create_run(survey.id, card())
    triage(kept, kept.runs(survey.id)[0].id)
    app = view(page("2_Triage.py", survey=survey.id), "Runs")
    app.selectbox(key="run_to_remove").set_value(run.id).run()
    button(app, "Remove what it found").click().run()
    assert not app.exception
    assert "Photos and verdicts stay." in texts(app)
    assert button(app, "Remove it") and button(app, "Keep it")
    assert len(kept.runs(survey.id)) == 2


def test_a_building_over_time_counts_copies_once_and_shows_verdicts(kept, twins):
    survey, (one, other) = twins
    kept.give_verdict([one, other], "damaged")
    kept.rename_building(survey.id, [one, other], "mill")
    app = page("3_Surveys.py")
    assert not app.exception
    assert sum("Damaged]" in m.value for m in app.markdown) == 1
    assert "#### Entered " in texts(app)
