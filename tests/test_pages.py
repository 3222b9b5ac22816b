"""Every page as Streamlit runs it, without a browser."""

from pathlib import Path

import pytest
import streamlit as st
from helpers import crack_photo, save_untrained
from streamlit.testing.v1 import AppTest

from heritage.cards import list_cards
from heritage.figures import percent_text
from heritage.web import inspection_view

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def fresh_caches():
    st.cache_resource.clear()
    st.cache_data.clear()


def page(name: str) -> AppTest:
    return AppTest.from_file(str(ROOT / name), default_timeout=60).run()


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
    assert [button.label for button in app.button][:2] == ["Inspect a photo", "Try a sample"]


def test_home_leads_to_every_page():
    app = page("app.py")
    for name in ("1_Inspect", "4_Backbones"):
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
    from heritage import heatmaps, inspection

    runs = []
    real = heatmaps.grad_cam
    monkeypatch.setattr(inspection, "grad_cam", lambda *given: (runs.append(1), real(*given))[1])
    app.selectbox(key="colour_map").set_value("jet").run()
    app.toggle(key="hot_only").set_value(False).run()
    app.toggle(key="boxes").set_value(False).run()
    assert not app.exception
    assert runs == []
    for number, card in enumerate(list_cards()[1:], start=1):
        app.selectbox(key="checkpoint").set_value(card.name).run()
        assert len(runs) == number


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
    assert list(app.dataframe[0].value["Backbone"]) == [card.title for card in list_cards()]
    assert len(app.expander) == len(list_cards())


@pytest.mark.parametrize(
    ("percent", "text"), [(100, "> 99.9 %"), (0, "< 0.1 %"), (42.24, "42.2 %"), (0.1, "0.1 %")]
)
def test_a_probability_is_never_shown_as_certainty(percent, text):
    assert percent_text(percent) == text


def test_start_opacity_leaves_the_photo_visible():
    assert 30 <= inspection_view.START_OPACITY_PERCENT <= 70
