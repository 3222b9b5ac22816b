from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from browser import FLAGS, system_chromium
from playwright.sync_api import Browser, Page, expect, sync_playwright

from benchmarks.server import served

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_MS = 180_000  # a cold start reads gigabytes of libraries, and a slow machine trains slowly


@pytest.fixture(scope="session")
def app_url(tmp_path_factory):
    """The app as a user starts it, on a free port of localhost."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(ROOT / "weights", home / "weights")  # what is trained here stays here
    with served(home) as url:
        yield url


@pytest.fixture(scope="session")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=system_chromium(), args=list(FLAGS), headless=True
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, app_url: str):
    """A fresh browser session at 1280 × 900 that fails the test on any script error."""
    context = chromium.new_context(
        viewport={"width": 1280, "height": 900}, accept_downloads=True, reduced_motion="reduce"
    )
    page: Page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert not errors, errors
