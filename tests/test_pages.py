"""Every page as Streamlit runs it, without a browser."""

import gc
import json
import weakref
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from helpers import (
    crack_photo,
    labelled_folder,
    only_reduced_copies_fit,
    save_untrained,
    wait_until,
)
from streamlit.testing.v1 import AppTest

from heritage.access import AUDIT
from heritage.bands import BandThresholds
from heritage.cards import list_cards, read_card
from heritage.figures import in_told_order, p_text, percent_text, size_text
from heritage.inspection import Inspection, found_in
from heritage.methods import DETAIL_SCAN, METHODS
from heritage.photos import open_photo
from heritage.store.database import surveys_dir
from heritage.studies import PUBLISHED
from heritage.training import jobs
from heritage.training.config import TrainingConfig
from heritage.training.run import train
from heritage.web import inspection_view, models, training_view

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def fresh_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("HERITAGE_SURVEYS", str(tmp_path / "surveys"))
    monkeypatch.setenv("HERITAGE_RUNS", str(tmp_path / "runs"))
    st.cache_resource.clear()
    st.cache_data.clear()


def page(name: str) -> AppTest:
    return AppTest.from_file(str(ROOT / name), default_timeout=300).run()


def texts(app: AppTest) -> str:
    return " ".join(element.value for element in [*app.markdown, *app.caption, *app.title])


def inspect_page(data: bytes, name: str = "wall.jpg") -> AppTest:
    app = page("pages/1_Inspect.py")
    app.file_uploader[0].set_value((name, data, "image/jpeg"))
    return app.run()


def test_home_says_what_it_does_and_shows_a_worked_example():
    app = page("app.py")
    assert not app.exception
    assert "damage" in texts(app)
    assert app.metric[0].label == "Damage"
    assert [button.label for button in app.button][:3] == [
        "Inspect a photo",
        "Triage a photo set",
        "Try a sample",
    ]


def test_home_leads_to_every_page():
    app = page("app.py")
    for name in ("1_Inspect", "2_Triage", "3_Surveys", "4_Backbones", "5_Train", "6_Guide"):
        app.switch_page(f"pages/{name}.py").run()
        assert not app.exception


def test_inspect_without_a_photo_says_how_to_give_one():
    app = page("pages/1_Inspect.py")
    assert not app.exception
    assert app.file_uploader[0].label.startswith("Drop one photo here")
    assert len([b for b in app.button if b.key and b.key.startswith("sample-")]) >= 3
    assert not app.metric


def test_inspect_shows_damage_band_and_affected_area():
    app = inspect_page(crack_photo(size=(800, 600)))
    assert not app.exception
    assert [metric.label for metric in app.metric] == ["Damage", "Affected area"]
    assert app.metric[0].value.endswith(" %")
    assert any(word in texts(app) for word in ("Urgent", "High", "Watch", "Sound"))


@pytest.mark.parametrize("sample", range(5))
def test_every_sample_is_one_click_away(sample):
    app = page("pages/1_Inspect.py")
    [b for b in app.button if b.key and b.key.startswith("sample-")][sample].click().run()
    assert not app.exception
    assert app.metric[0].label == "Damage"


def test_another_backbone_answers_anew_and_colours_do_not(monkeypatch):
    app = inspect_page(crack_photo(size=(800, 600)))
    from heritage.engines import Engine

    runs = []
    real = Engine.answer
    monkeypatch.setattr(Engine, "answer", lambda *given: (runs.append(1), real(*given))[1])
    app.selectbox(key="colour_map").set_value("jet").run()
    app.toggle(key="hot_only").set_value(False).run()
    app.toggle(key="boxes").set_value(False).run()
    assert not app.exception
    assert runs == []
    for number, card in enumerate(list_cards()[1:], start=1):
        app.selectbox(key="checkpoint").set_value(card.name).run()
        assert len(runs) == number


def test_a_detail_scan_keeps_the_answer_and_colours_do_not_repeat_it(monkeypatch):
    app = inspect_page(crack_photo(size=(1200, 900)))
    from heritage.inspection import Inspector

    damage = app.metric[0].value
    scans = []
    real = Inspector.scan
    monkeypatch.setattr(Inspector, "scan", lambda *given: (scans.append(1), real(*given))[1])
    assert app.toggle(key="detail_scan").label.startswith("Detail scan, about ")
    app.toggle(key="detail_scan").set_value(True).run()
    assert not app.exception
    assert scans == [1]
    assert [metric.label for metric in app.metric] == ["Damage", "Affected area"]
    assert app.metric[0].value == damage
    assert app.selectbox(key="heat_method").disabled
    app.selectbox(key="colour_map").set_value("jet").run()
    app.toggle(key="detail_scan").set_value(False).run()
    app.toggle(key="detail_scan").set_value(True).run()
    assert not app.exception
    assert scans == [1]


def test_where_there_can_be_no_detail_scan_the_whole_photo_and_the_way_back_stay(monkeypatch):
    monkeypatch.setattr(models, "VIEW_SIDE_PX", 600)
    app = inspect_page(crack_photo(size=(1800, 1400)))
    damage = app.metric[0].value
    only_reduced_copies_fit(monkeypatch, 1800 * 1400)
    app.toggle(key="detail_scan").set_value(True).run()
    assert not app.exception
    assert not app.error
    assert app.metric[0].value == damage
    assert "No detail scan: the photo does not fit into memory" in warnings(app)
    assert not [bar.value for bar in app.get("progress")]
    assert [b.proto.label for b in app.get("download_button")] == [
        *("Overlay (PNG)", "Inspection (JSON)")
    ]
    app.toggle(key="detail_scan").set_value(False).run()
    assert not app.exception
    assert "No detail scan" not in warnings(app)


def warnings(app: AppTest) -> str:
    return " ".join(element.value for element in app.warning).replace("\\", "")


@pytest.mark.parametrize("points", [False, True])
def test_only_a_backbone_without_a_head_that_points_is_said_to_have_none(
    points, monkeypatch, tmp_path
):
    (card,) = [card for card in list_cards() if card.name == "mobilenet_v2"]
    assert card.pointing
    if not points:
        save_untrained(tmp_path, "mobilenet_v2")
        monkeypatch.setenv("HERITAGE_WEIGHTS", str(tmp_path))
    app = inspect_page(crack_photo())
    if points:
        app.selectbox(key="checkpoint").set_value("mobilenet_v2").run()
    assert not app.exception
    assert ("no head that points" in texts(app)) is not points


def where_to_look(damage_percent: float, heat: float) -> str:
    """What the page says of a detail scan whose one hot cell has this heat."""

    def script(inspection):
        from heritage.web.inspection_view import _show_regions

        _show_regions(inspection)

    grid = np.zeros((8, 8), np.float32)
    grid[2, 2] = heat
    photo = open_photo(crack_photo(size=(80, 80)))
    found = Inspection(
        *("wall.jpg", photo.sha256, 80, 80, "mobilenet_v2", damage_percent),
        band=BandThresholds().band(damage_percent).name,
        unsure=False,
        **dict.fromkeys(("taken_at", "camera", "latitude", "longitude")),
        warnings=(),
        method=DETAIL_SCAN,
        **found_in(grid, photo, absolute=True),
    )
    app = AppTest.from_function(script, kwargs={"inspection": found}, default_timeout=300).run()
    assert not app.exception
    return texts(app)


def test_what_a_scan_finds_close_by_is_not_said_of_the_whole_photo():
    told = where_to_look(97.0, 0.1)
    assert "Close by, no place stands out; damage % is of the whole photo." in told
    assert "speaks for damage" not in told
    assert "It is no finding" not in where_to_look(3.0, 0.9)


def test_every_heat_map_can_be_chosen_and_leaves_damage_percent_alone():
    app = inspect_page(crack_photo(size=(800, 600)))
    damage = app.metric[0].value
    for method in METHODS:
        app.selectbox(key="heat_method").set_value(method).run()
        assert not app.exception
        assert app.metric[0].value == damage


def test_a_broken_photo_is_an_error_in_words_and_no_traceback():
    data = crack_photo(size=(800, 600))
    app = inspect_page(data[: len(data) // 2], "tower.jpg")
    assert not app.exception
    assert "tower" in app.error[0].value
    assert "ends early" in app.error[0].value
    assert app.file_uploader


def test_advice_keeps_its_own_capitals():
    app = inspect_page(b"%PDF-1.7", "plan.jpg")
    assert "JPEG" in app.error[0].value


def test_names_from_a_card_are_shown_as_text(tmp_path, monkeypatch):
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(tmp_path))
    figure = {"value": 0.9, "low": 0.8, "high": 1.0}
    table = {"n": 3, "n_damaged": 1, "n_sound": 2, "auroc": figure}
    hostile = "![x](http://example.org/x.png)"
    metrics = {"test": {**table, "sources": {hostile: table, "b": table}}, hostile: table}
    save_untrained(tmp_path, name="mine", metrics=metrics, licence=hostile)
    app = page("pages/4_Backbones.py")
    assert not app.exception
    shown = [*app.markdown, *app.caption, *app.table]
    assert shown
    for element in shown:
        value = element.value
        text = value if isinstance(value, str) else value.to_csv()
        assert "![x]" not in text


def test_another_photo_leads_back_to_the_drop_zone():
    app = inspect_page(crack_photo())
    next(button for button in app.button if button.label == "Another photo").click().run()
    assert not app.metric
    assert app.file_uploader


@pytest.mark.parametrize("name", ["app.py", "pages/1_Inspect.py", "pages/4_Backbones.py"])
def test_without_any_checkpoint_every_page_says_how_to_get_one(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(tmp_path))
    app = inspect_page(crack_photo()) if "Inspect" in name else page(name)
    assert not app.exception
    told = " ".join(e.value for e in [*app.warning, *app.info])
    assert "No checkpoint is installed" in told


def test_backbones_lists_every_checkpoint_with_its_card():
    app = page("pages/4_Backbones.py")
    assert not app.exception
    table = app.dataframe[0].value
    ours = [card.title for card in in_told_order(list_cards())]
    assert list(table["Backbone"]) == ours + [f"Published: {f.model}" for f in PUBLISHED]
    assert set(table["Measured by"][: len(ours)]) == {"Heritage"}
    assert all("on its own photos" in source for source in table["Measured by"][len(ours) :])
    assert table["Known sources"].dtype.kind == "f", "numbers sort as numbers"
    assert len(app.expander) == len(list_cards())


def test_a_cascade_is_trained_on_the_page_once_there_is_a_stage_one(
    own_runs, toy_data, monkeypatch
):
    weights = toy_data.parent / "weights"
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(weights))
    save_untrained(weights, "mobilenet_v2")
    app = train_page(toy_data)
    app.selectbox(key="train_backbone").set_value("cascade").run()
    assert "there is no stage 1 for it yet" in app.error[0].value
    assert not any(button.label == "Start training" for button in app.button)

    save_untrained(weights, "mobilenet_v3_large", name="first")
    app.run()
    assert not app.error
    assert app.selectbox(key="train_stage_one").value == "first"
    starts = app.selectbox(key="train_start_cascade")
    assert "first" not in " ".join(starts.options), "it knows the photos of every fold"
    starts.set_value("scratch").run()
    app.selectbox(key="train_stage_two").set_value("scratch").run()
    app.selectbox(key="train_crops_cascade").set_value(96).run()
    next(n for n in app.number_input if n.label == "Epochs").set_value(1).run()
    next(b for b in app.button if b.label == "Start training").click().run()
    assert not app.exception
    (job,) = jobs.list_jobs()
    assert "--stage-one first --stage-two-init scratch" in job.command
    wait_until(lambda: (weights / f"{job.name}.json").exists())
    card = read_card(weights / f"{job.name}.json")
    assert (card.backbone, card.training["stage_two"]["init"]) == ("cascade", "scratch")
    assert job.name in {each.name for each in list_cards(weights)}


@pytest.mark.parametrize(
    ("percent", "text"), [(100, "> 99.9 %"), (0, "< 0.1 %"), (42.24, "42.2 %"), (0.1, "0.1 %")]
)
def test_a_probability_is_never_shown_as_certainty(percent, text):
    assert percent_text(percent) == text


def test_start_opacity_leaves_the_photo_visible():
    assert 30 <= inspection_view.START_OPACITY_PERCENT <= 70


def test_a_backbone_without_a_checkpoint_says_how_to_train_it(monkeypatch, tmp_path):
    save_untrained(tmp_path, "mobilenet_v2")
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(tmp_path))
    app = inspect_page(crack_photo())
    app.selectbox(key="checkpoint").set_value("vgg16").run()
    assert not app.exception
    assert not app.metric
    assert "VGG16" in app.info[0].value and "no checkpoint yet" in app.info[0].value
    assert "train DATA --backbone vgg16" in app.code[0].value
    app.selectbox(key="checkpoint").set_value("mobilenet_v2").run()
    assert app.metric[0].label == "Damage"


def test_an_unsure_answer_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(tmp_path))
    save_untrained(tmp_path, "mobilenet_v2", unsure=(0.0, 1.0))
    assert "Unsure" in texts(inspect_page(crack_photo()))
    st.cache_resource.clear()
    save_untrained(tmp_path, "mobilenet_v2", unsure=(0.5, 0.5))
    assert "Unsure" not in texts(inspect_page(crack_photo()))


@pytest.fixture
def own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("HERITAGE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("HERITAGE_SURVEYS", str(tmp_path / "surveys"))
    yield
    for job in jobs.list_jobs():
        job.stop()


def train_page(folder) -> AppTest:
    app = page("pages/5_Train.py")
    return app.text_input(key="training_data").set_value(str(folder)).run()


def test_train_without_a_folder_shows_how_to_sort_photos(own_runs):
    app = page("pages/5_Train.py")
    assert not app.exception
    assert "damaged/" in app.code[0].value
    assert not app.button


def test_train_tells_the_counts_and_what_is_too_few(own_runs, toy_data):
    app = train_page(toy_data)
    assert not app.exception
    assert [(m.label, m.value) for m in app.metric] == [
        ("Damaged photos", "12"),
        ("Sound photos", "12"),
        ("Buildings or scenes", "4"),
    ]
    assert app.dataframe[0].value.loc["Train"].to_dict() == {"Damaged": 9, "Sound": 9}
    assert "will be a guess" in app.warning[0].value
    assert len(app.get("image")) == 1


def test_train_finds_the_photo_that_is_in_both_classes(own_runs, toy_data):
    copied = toy_data / "sound" / "house1" / "copy.jpg"
    copied.write_bytes((toy_data / "damaged" / "house1" / "1.jpg").read_bytes())
    app = train_page(toy_data)
    next(b for b in app.button if b.label == "Look for them").click().run()
    assert not app.exception
    assert "1 pair looks alike" in " ".join(w.value for w in app.warning)


@pytest.mark.parametrize("folder", ["/no/such/folder", "."])
def test_train_says_what_is_wrong_with_a_folder(own_runs, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app = train_page(folder)
    assert not app.exception
    assert app.error
    assert not app.metric


@pytest.mark.parametrize("named", ["/etc", "..", "inside/../.."])
def test_train_reads_nothing_outside_the_root_that_is_set(own_runs, named, tmp_path, monkeypatch):
    root = tmp_path / "photos"
    labelled_folder(root / "inside", per_class=4)
    monkeypatch.setenv("HERITAGE_PHOTO_ROOT", str(root))
    app = train_page(named)
    assert "outside the photos" in app.error[0].value
    assert train_page("inside").metric


@pytest.mark.parametrize("typed", ["~nobody-here/x", "x" * 5000, "a\0b"])
def test_train_answers_in_words_whatever_is_typed(own_runs, typed):
    app = train_page(typed)
    assert not app.exception
    assert app.error


def test_a_manifest_cannot_reach_outside_the_root(own_runs, tmp_path, monkeypatch):
    root = tmp_path / "photos"
    labelled_folder(root / "a", per_class=4)
    crack_photo(tmp_path / "secret.jpg")
    rows = [f"{p.relative_to(root)},{p.parts[-3]}" for p in sorted(root.rglob("*.jpg"))]
    (root / "manifest.csv").write_text("\n".join(["path,label", *rows, "../secret.jpg,sound"]))
    monkeypatch.setenv("HERITAGE_PHOTO_ROOT", str(root))
    app = train_page("manifest.csv")
    assert "outside the photos" in app.error[0].value
    assert str(tmp_path) not in app.error[0].value


def test_a_server_with_a_root_does_not_tell_where_it_is(own_runs, tmp_path, monkeypatch):
    monkeypatch.setenv("HERITAGE_PHOTO_ROOT", str(tmp_path))
    app = train_page("nowhere")
    assert "nowhere" in app.error[0].value
    assert str(tmp_path) not in app.error[0].value


def test_a_photo_that_was_taken_out_leaves_the_list_of_doubles(own_runs, toy_data):
    copied = toy_data / "sound" / "house1" / "copy.jpg"
    copied.write_bytes((toy_data / "damaged" / "house1" / "1.jpg").read_bytes())
    app = train_page(toy_data)
    next(b for b in app.button if b.label == "Look for them").click().run()
    copied.unlink()
    app.run()
    assert not app.exception
    assert "No photo is in both classes" in app.success[0].value


def test_a_run_of_the_train_page_is_listed_stopped_and_discarded(own_runs, toy_data, monkeypatch):
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(toy_data.parent / "weights"))
    (jobs.runs_dir() / "my_mobilenet_v3_small").mkdir(parents=True)  # a run of the shell
    app = train_page(toy_data)
    app.selectbox(key="train_backbone").set_value("mobilenet_v3_small").run()
    app.selectbox(key="train_start_mobilenet_v3_small").set_value("scratch").run()
    next(b for b in app.button if b.label == "Start training").click().run()
    assert not app.exception
    (job,) = jobs.list_jobs()
    assert (job.name, job.config.backbone) == ("my_mobilenet_v3_small_2", "mobilenet_v3_small")
    assert "Running" in texts(app)
    app.button(key=f"stop-{job.name}").click().run()
    wait_until(lambda: job.status() == "stopped")
    app.run()
    assert "Stopped" in texts(app)
    app.button(key=f"discard-{job.name}").click().run()
    assert not app.exception
    assert not jobs.list_jobs()
    lines = (surveys_dir() / AUDIT).read_text().splitlines()
    done = [line["what"] for line in map(json.loads, lines) if line.get("name") == job.name]
    assert done == ["training begun", "training stopped", "training discarded"]


def test_pressing_start_twice_begins_one_training(own_runs, toy_data, monkeypatch):
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(toy_data.parent / "weights"))
    app = train_page(toy_data)
    app.selectbox(key="train_backbone").set_value("mobilenet_v3_small").run()
    app.selectbox(key="train_start_mobilenet_v3_small").set_value("scratch").run()
    app.text_input(key="train_name").set_value("walls").run()
    for _ in range(2):
        app.button(key="train_start_now").click().run()
        assert not app.exception and not app.error
    assert [job.name for job in jobs.list_jobs()] == ["walls"]
    assert app.text_input(key="train_name").value == "", "the next one has another name"
    assert "walls has begun and is shown at the top" in texts(app)


def test_a_checkpoint_of_ones_own_shows_what_was_measured_on_its_own_photos(
    toy_data, tmp_path, monkeypatch
):
    weights = tmp_path / "weights"
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(weights))
    config = TrainingConfig(
        backbone="mobilenet_v3_small", init="scratch", epochs=1, crop_side_px=64, workers=0
    )
    train(config, toy_data, out=weights, name="our_town", run_dir=tmp_path / "run")
    app = page("pages/4_Backbones.py")
    told = texts(app)
    assert not app.exception
    assert "Validation: what it called them" in told
    assert "Validation: is the percentage honest?" in told
    assert "Only its own validation photos" in told
    assert "It began from nothing" in told
    assert "Its last run: 1 epoch on crops of 64 pixels, " in told
    assert app.dataframe[0].value["Measured by"][0] == "not measured on held-out photos"


def test_a_checkpoint_is_pruned_as_it_is_from_the_train_page(own_runs, toy_data, monkeypatch):
    weights = toy_data.parent / "weights"
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(weights))
    save_untrained(weights, "mobilenet_v3_small", name="ours")
    app = train_page(toy_data)
    app.selectbox(key="train_backbone").set_value("mobilenet_v3_small").run()

    def toggle():
        return next((t for t in app.toggle if t.label == "Prune it as it is"), None)

    starts = app.selectbox(key="train_start_mobilenet_v3_small")
    assert starts.value == str(weights / "ours.safetensors"), "the best start first"
    starts.set_value("scratch").run()
    next(s for s in app.slider if s.label == "Prune, %").set_value(20).run()
    assert toggle() is None, "nothing is there that could be pruned"
    app.selectbox(key="train_start_mobilenet_v3_small").set_value(
        str(weights / "ours.safetensors")
    ).run()
    toggle().set_value(True).run()
    next(b for b in app.button if b.label == "Start training").click().run()
    assert not app.exception
    (job,) = jobs.list_jobs()
    wait_until(lambda: (weights / f"{job.name}.json").exists())
    card = next(card for card in list_cards(weights) if card.name == job.name)
    assert card.pruned >= 0.2
    assert len(card.training["history"]) == job.config.prune_epochs, "it was tuned and not trained"
    assert "It began from ours, and what that one had learned from" in texts(
        page("pages/4_Backbones.py")
    )


def test_a_teacher_and_smaller_crops_can_be_chosen_on_the_train_page(
    own_runs, toy_data, monkeypatch
):
    weights = toy_data.parent / "weights"
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(weights))
    save_untrained(weights, "mobilenet_v3_small", name="ours")
    save_untrained(weights, "cascade")
    app = train_page(toy_data)
    app.selectbox(key="train_backbone").set_value("mobilenet_v3_small").run()
    app.selectbox(key="train_start_mobilenet_v3_small").set_value("scratch").run()
    teacher = app.selectbox(key="train_teacher")
    assert teacher.value == "" and len(teacher.options) == 2, "nobody, or ours"
    teacher.set_value("ours").run()
    app.selectbox(key="train_crops_mobilenet_v3_small").set_value(96).run()
    next(n for n in app.number_input if n.label == "Epochs").set_value(1).run()
    next(b for b in app.button if b.label == "Start training").click().run()
    assert not app.exception
    (job,) = jobs.list_jobs()
    wait_until(lambda: (weights / f"{job.name}.json").exists())
    config = read_card(weights / f"{job.name}.json").training["config"]
    told = ("teacher", "crop_side_px", "full_size_epochs", "init")
    assert [config[key] for key in told] == ["ours", 96, 1, "scratch"]


def test_the_nine_views_stand_in_three_rows_with_clear_gaps():
    views = [np.full((40, 40, 3), 20 * n, np.uint8) for n in range(9)]
    sheet = training_view._sheet(views)
    assert sheet.shape == (124, 124, 4)
    assert [int(sheet[20 + 42 * (n // 3), 20 + 42 * (n % 3), 0]) for n in range(9)] == [
        20 * n for n in range(9)
    ]
    assert not sheet[40:42, :, 3].any() and not sheet[:, 82:84, 3].any()


def test_no_more_models_stay_loaded_than_are_meant_to(tmp_path, monkeypatch):
    monkeypatch.setenv("HERITAGE_WEIGHTS", str(tmp_path))
    loaded = []
    for number in range(models.MODELS_KEPT + 2):
        save_untrained(tmp_path, "mobilenet_v3_small", name=f"net{number}")
        card = next(card for card in list_cards(tmp_path) if card.name == f"net{number}")
        loaded.append(weakref.ref(models.inspector(card.name, models._state(card))))
    gc.collect()
    there = [number for number, reference in enumerate(loaded) if reference() is not None]
    assert there == [2, 3, 4], "the ones used last"


def test_a_scan_by_a_head_that_was_taught_anew_is_drawn_anew():
    card = list_cards()[0]
    again = replace(card, pointing={"sha256": "b" * 64, "hot": 0.5})
    before, after = (
        Inspection(
            *("wall.jpg", "a" * 64, 80, 80, card.name, 90.0, 10.0, "Urgent", False, True, ()),
            *(None, None, None, None, ()),
            grid=grid.astype(np.float32),
            method=DETAIL_SCAN,
            absolute=True,
        )
        for grid in (np.eye(8), 1 - np.eye(8))
    )
    shown = models.heat_url(before, card, 2, colour_map="jet", hot_only=False)
    assert models.heat_url(before, card, 2, colour_map="jet", hot_only=False) == shown
    assert models.heat_url(after, again, 2, colour_map="jet", hot_only=False) != shown


@pytest.mark.parametrize("server", [False, True])
def test_a_failed_run_shows_the_end_of_its_log_but_not_to_visitors_of_a_server(
    own_runs, tmp_path, monkeypatch, server
):
    folder = tmp_path / "runs" / "walls"
    folder.mkdir(parents=True)
    job = jobs.Job("walls", "photos", TrainingConfig(), "weights", "2026-05-06", folder)
    values = {key: value for key, value in asdict(job).items() if key != "folder"}
    (folder / jobs.JOB).write_text(json.dumps(values))
    lines = [f"line {n} of <b>{tmp_path}</b>" for n in range(100)]
    (folder / jobs.LOG).write_text("\n".join(lines))
    if server:
        monkeypatch.setenv("HERITAGE_PHOTO_ROOT", str(tmp_path))
    app = page("pages/5_Train.py")
    assert not app.exception
    told = "\n".join(code.value for code in app.code)
    assert (lines[-1] in told) is not server
    assert lines[50] not in told
    assert not server or str(tmp_path) not in told + texts(app)


@pytest.mark.parametrize(
    ("p", "text"), [(0.0004, "< 0.001"), (0.0153, "0.015"), (1.0, "1.000"), (None, "–")]
)
def test_a_p_value_is_never_none_at_all(p, text):
    assert p_text(p) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(12, "1 kB"), (38_912, "39 kB"), (3_250_000, "3.2 MB")]
)
def test_a_small_file_is_not_said_to_have_no_size(size_bytes, text):
    assert size_text(size_bytes) == text
