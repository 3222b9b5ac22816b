"""The Monday job as a conservator does it, in a real browser."""

from __future__ import annotations

import io

import pandas as pd
import psutil
from helpers import crack_photo, wait_until
from playwright.sync_api import Page, expect


def settle(page: Page) -> None:
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')


def press(page: Page, key: str) -> None:
    """Presses a key as a person does: once the page stands still."""
    settle(page)
    page.wait_for_timeout(700)
    page.keyboard.press(key)


def photos(count: int, first: int = 0) -> list[dict]:
    return [
        {
            "name": f"wall {index}.jpg",
            "mimeType": "image/jpeg",
            "buffer": crack_photo(cracked=index % 2 == 0, seed=first + index),
        }
        for index in range(count)
    ]


def start(page: Page, app_url: str, name: str, files: list[dict]) -> None:
    page.goto(f"{app_url}/Triage")
    page.locator("input[type=file]").set_input_files(files)
    expect(page.get_by_role("button", name="Start")).to_be_enabled()
    page.get_by_role("textbox", name="Name of the survey").fill(name)
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()


def table(page: Page) -> pd.DataFrame:
    page.get_by_role("radio", name="Hand on").click()
    with page.expect_download() as caught:
        page.get_by_role("button", name="Table (CSV)").click()
    return pd.read_csv(io.BytesIO(caught.value.path().read_bytes()), encoding="utf-8-sig")


def open_first_row(page: Page) -> None:
    box = page.get_by_test_id("stDataFrame").bounding_box()
    page.mouse.click(box["x"] + 16, box["y"] + 36 + 28)
    expect(page.get_by_role("heading", name="Your verdict")).to_be_visible()


def test_a_set_is_triaged_judged_by_keyboard_and_handed_on(page: Page, app_url):
    torn = {"name": "torn.jpg", "mimeType": "image/jpeg", "buffer": crack_photo()[:700]}
    start(page, app_url, "Round one", [*photos(6), torn])
    wait_until(workers)
    wait_until(lambda: not workers())
    page.reload()
    expect(page.get_by_text("Not readable 1")).to_be_visible()
    expect(page.get_by_role("button", name="More filters")).to_be_visible()
    settle(page)
    open_first_row(page)
    first = page.get_by_text("1 of 7")
    expect(first).to_be_visible()
    press(page, "ArrowRight")
    expect(page.get_by_text("2 of 7")).to_be_visible()
    press(page, "ArrowLeft")
    expect(first).to_be_visible()
    press(page, "s")
    expect(page.get_by_text("Your verdicts 1")).to_be_visible()
    press(page, "Escape")
    expect(page.get_by_role("heading", name="Your verdict")).to_be_hidden()
    rows = table(page)
    assert len(rows) == 7
    assert rows["error"].notna().sum() == 1
    assert list(rows["verdict"].dropna()) == ["sound"]
    judged = rows[rows["verdict"] == "sound"].iloc[0]
    assert judged["rank"] == 6, "found sound: after the rest, before what cannot be read"

    page.goto(app_url)
    expect(page.get_by_text("Round one")).to_be_visible()


def test_a_closed_tab_and_a_killed_worker_lose_nothing(page: Page, app_url):
    start(page, app_url, "Round two", photos(60, first=100))
    address = page.url
    page.goto("about:blank")
    wait_until(workers)
    for worker in workers():
        worker.kill()
    page.goto(address)  # whoever looks sets it going again
    wait_until(workers)
    wait_until(lambda: not workers())
    page.reload()
    expect(page.get_by_role("button", name="More filters")).to_be_visible()
    settle(page)
    rows = table(page)
    assert len(rows) == len(set(rows["photo"])) == 60
    assert rows["damage_percent"].notna().all()


def workers() -> list[psutil.Process]:
    """The processes of this test's app that work on triages."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "heritage.worker" in " ".join(command_of(child))
    ]


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_survey_is_deleted_only_when_confirmed(page: Page, app_url):
    start(page, app_url, "Round three", photos(1, first=300))
    wait_until(workers)
    wait_until(lambda: not workers())
    page.goto(f"{app_url}/Surveys")
    settle(page)
    box = page.get_by_test_id("stDataFrame").first.bounding_box()
    page.mouse.click(box["x"] + 16, box["y"] + 36 + 18)
    page.get_by_role("button", name="Delete …").click()
    expect(page.get_by_text("will be gone")).to_be_visible()
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_text("will be gone")).to_be_hidden()
    page.get_by_role("button", name="Delete …").click()
    expect(page.get_by_role("dialog")).to_contain_text("Round three")
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.goto(app_url)
    expect(page.get_by_role("button", name="Triage a photo set")).to_be_visible()
    settle(page)
    expect(page.get_by_text("Round three")).to_be_hidden()


def test_a_run_is_removed_only_when_confirmed(page: Page, app_url):
    start(page, app_url, "Round four", photos(1, first=400))
    wait_until(workers)
    wait_until(lambda: not workers())
    page.get_by_role("radio", name="Runs").click()
    settle(page)
    page.get_by_test_id("stCheckbox").filter(has_text="Detail scan").locator("label").click()
    settle(page)
    page.get_by_role("button", name="Read with this backbone").click()
    expect(page.get_by_text("Remove a run")).to_be_visible()
    wait_until(lambda: not workers())
    expect(page.get_by_text("Compare two runs")).to_be_visible()
    settle(page)
    page.get_by_text("Remove a run").click()
    page.get_by_role("button", name="Remove what it found").click()
    expect(page.get_by_role("dialog")).to_contain_text("Photos and verdicts stay.")
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Remove what it found").click()
    page.get_by_role("button", name="Remove it", exact=True).click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_text("Remove a run")).to_be_hidden()
