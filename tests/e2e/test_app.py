"""The app as a conservator uses it, in a real browser."""

from __future__ import annotations

import io
import json
import re

import numpy as np
from conftest import PATIENCE_MS
from helpers import crack_photo, wait_until
from PIL import Image
from playwright.sync_api import Page, expect

from heritage import Inspector
from heritage.cards import list_cards
from heritage.figures import percent_text


def damage_shown(page: Page) -> str:
    metric = page.get_by_test_id("stMetric").filter(has_text="Damage")
    expect(metric).to_be_visible()
    return metric.get_by_test_id("stMetricValue").inner_text()


def settle(page: Page) -> None:
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')


def upload(page: Page, app_url: str, data: bytes, name: str) -> None:
    page.goto(f"{app_url}/Inspect")
    page.locator("input[type=file]").set_input_files(
        {"name": name, "mimeType": "image/jpeg", "buffer": data}
    )


def download(page: Page, label: str) -> bytes:
    settle(page)
    with page.expect_download() as caught:
        page.get_by_role("button", name=label).click()
    return caught.value.path().read_bytes()


def test_upload_read_opacity_backbone_download(page, app_url):
    data = crack_photo(size=(1200, 900), seed=5)
    upload(page, app_url, data, "west wall.jpg")

    cards = list_cards()
    assert len(cards) > 1, "there must be another backbone to switch to"
    shown = damage_shown(page)
    told = json.loads(download(page, "Inspection (JSON)"))
    inspection = Inspector(cards[0].name).inspect(data)
    assert told["damage_percent"] == inspection.damage_percent
    assert shown == percent_text(inspection.damage_percent)
    assert told["photo"] == "west wall.jpg"

    slider = page.get_by_role("slider", name="Opacity")
    expect(slider).to_be_enabled()
    before = Image.open(io.BytesIO(download(page, "Overlay (PNG)")))
    slider.focus()
    page.keyboard.press("Home")
    expect(page.locator(".opacity output")).to_have_text("0 %")
    moved = []

    def follows():
        page.wait_for_timeout(800)
        after = Image.open(io.BytesIO(download(page, "Overlay (PNG)")))
        assert before.size == after.size == (1200, 900)
        moved.append(np.abs(np.asarray(before).astype(int) - np.asarray(after)).sum())
        return moved[-1] > 0

    wait_until(follows)

    for card in cards[1:]:
        select = page.get_by_role("combobox", name=re.compile("Backbone"))
        select.scroll_into_view_if_needed()
        page.wait_for_timeout(500)  # the list closes when the page scrolls under it
        select.click()
        page.get_by_role("option", name=re.compile(f"^{re.escape(card.title)}")).click()
        expect(page.get_by_text(f"Read by: {card.title}")).to_be_visible()
        told = json.loads(download(page, "Inspection (JSON)"))
        assert told["backbone"] == card.name
        assert told["damage_percent"] == Inspector(card.name).inspect(data).damage_percent
        assert damage_shown(page) == percent_text(told["damage_percent"])


def test_a_visitor_reaches_a_first_result_in_one_click(page, app_url):
    page.goto(app_url)
    page.get_by_role("button", name="Try a sample").click()
    damage_shown(page)
    expect(page.get_by_role("img", name=re.compile("heat", re.I)).first).to_be_visible()


def test_zoom_moves_both_pictures_together(page, app_url):
    upload(page, app_url, crack_photo(size=(1200, 900), seed=5), "wall.jpg")
    damage_shown(page)
    page.get_by_role("button", name="Zoom in").click()
    boxes = [page.locator(f".{side} .stage").bounding_box() for side in ("original", "overlay")]
    frames = [page.locator(f".{side} .pane").bounding_box() for side in ("original", "overlay")]
    assert boxes[0]["width"] > frames[0]["width"]
    assert abs(boxes[0]["width"] - boxes[1]["width"]) < 1
    offsets = [box["x"] - frame["x"] for box, frame in zip(boxes, frames, strict=True)]
    assert abs(offsets[0] - offsets[1]) < 1


def test_a_broken_photo_is_named_and_the_page_goes_on(page, app_url):
    good = crack_photo(size=(600, 400))
    upload(page, app_url, good[: len(good) // 2], "broken.jpg")
    alert = page.get_by_test_id("stAlert")
    expect(alert).to_contain_text("broken.jpg")
    expect(alert).to_contain_text("ends early")
    page.locator("input[type=file]").set_input_files(
        {"name": "good.jpg", "mimeType": "image/jpeg", "buffer": good}
    )
    damage_shown(page)


def test_a_name_full_of_markup_is_shown_as_text(page, app_url):
    name = "<img src=x onerror=alert(1)> **bold** [a](b).jpg"
    upload(page, app_url, crack_photo(size=(600, 400)), name)
    damage_shown(page)
    expect(page.get_by_role("heading", name=name)).to_be_visible()


def test_the_photo_is_still_there_after_a_look_at_another_page(page, app_url):
    upload(page, app_url, crack_photo(size=(600, 400)), "kept.jpg")
    first = damage_shown(page)
    page.get_by_role("link", name="Backbones").click()
    expect(page.get_by_role("heading", name="Backbones")).to_be_visible()
    page.get_by_role("link", name="Inspect").click()
    assert damage_shown(page) == first
    expect(page.get_by_role("heading", name="kept.jpg")).to_be_visible()


def test_a_phone_shows_everything_without_sideways_scrolling(chromium, app_url):
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    for path in ("", "Inspect", "Triage", "Surveys", "Backbones"):
        page.goto(f"{app_url}/{path}")
        settle(page)
        main = page.get_by_test_id("stMain")
        assert main.evaluate("node => node.scrollWidth <= node.clientWidth + 1"), path
    context.close()


def test_nothing_is_asked_from_the_internet(page, app_url):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(app_url)
    damage_shown(page)
    outside = [url for url in asked if not url.startswith((app_url, "data:", "blob:"))]
    assert outside == []
