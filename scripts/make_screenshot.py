"""Takes the README's screenshot from the running app, so that it cannot go stale.

python scripts/make_screenshot.py http://localhost:8501
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from browser import FLAGS, system_chromium  # noqa: E402


def main(url: str) -> None:
    """Opens the sample photo on Inspect and saves the window as docs/inspect.jpg."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=system_chromium(), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.goto(url)
        page.get_by_role("button", name="Try a sample").click()
        page.get_by_role("slider", name="Opacity").wait_for()
        page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
        page.wait_for_timeout(1500)
        (ROOT / "docs").mkdir(exist_ok=True)
        page.screenshot(path=ROOT / "docs" / "inspect.jpg", type="jpeg", quality=85)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8501")
