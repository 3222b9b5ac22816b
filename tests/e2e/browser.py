"""A Chromium to drive: the system's own, else the one Playwright downloads."""

from __future__ import annotations

import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def system_chromium() -> str | None:
    """Path of an installed Chromium or Chrome; None means Playwright's own."""
    return next(filter(None, map(shutil.which, NAMES)), None)


if __name__ == "__main__":
    if "--install" in sys.argv and not system_chromium():
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=True)
