from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import FLAGS, system_chromium
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_MS = 180_000  # a cold start reads gigabytes of libraries, and a slow machine trains slowly


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def app_url(tmp_path_factory):
    """The app as a user starts it, on a free port of localhost."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(ROOT / "weights", home / "weights")  # what is trained here stays here
    with served(home, free_port()) as url:
        yield url


@contextmanager
def served(home, port):
    """The app on `port`, with `home` as its home folder and its weights in there."""
    log = (home / "app.log").open("w")
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true"]
    process = subprocess.Popen(
        [*command, f"--server.port={port}"],
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=os.environ
        | {
            "HOME": str(home),
            "HERITAGE_WEIGHTS": str(home / "weights"),
            "HERITAGE_RUNS": str(home / "runs"),
            "HERITAGE_SURVEYS": str(home / "surveys"),
        },
    )
    url = f"http://localhost:{port}"
    try:
        for _ in range(240):
            try:
                with urllib.request.urlopen(f"{url}/_stcore/health", timeout=5) as answer:
                    if answer.status == 200:
                        break
            except OSError:
                assert process.poll() is None, (home / "app.log").read_text()
                time.sleep(0.5)
        else:
            pytest.fail((home / "app.log").read_text())
        yield url
    finally:
        process.terminate()
        process.wait(20)
        log.close()


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
