"""Takes the screenshots of the guide and of README from an app of its own.

python scripts/make_guide.py

Draws two site visits from pictures that may be shipped (`samples/` and new renderings), starts the
app on a free port with surveys of its own, works through the guide in Chromium, and writes
`docs/inspect.jpg` and `docs/guide/*.jpg`. Takes some minutes; most of them go into the renderings.
"""

from __future__ import annotations

import io
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import psutil
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from PIL.ExifTags import GPS, IFD, Base
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import make_samples as draw  # noqa: E402
from browser import FLAGS, system_chromium  # noqa: E402

from heritage.cards import list_cards  # noqa: E402
from heritage.surveys import SurveyStore  # noqa: E402

README_PICTURE = ROOT / "docs" / "inspect.jpg"
OUT = ROOT / "docs" / "guide"
WIDTH, HEIGHT = 1280, 900
QUALITY = 80
FRAME = "#CFC8BA"
MOST_BYTES, MOST_BYTES_TOGETHER = 300_000, 1_500_000
PATIENCE_MS = 120_000  # a cold start reads gigabytes of libraries

AUTUMN, SPRING = datetime(2025, 10, 14, 10, 5), datetime(2026, 5, 6, 9, 30)
PLASTER, MASONRY = "Corn House", "Garden Tower"
PLACES = {PLASTER: (51.15642, 14.99170), MASONRY: (51.15688, 14.99311)}
SITE, EXPERT = "Old town", "A. Keller"

# --- the photos ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shot:
    """One demo photo: a picture, the part of it that is seen, and what the camera did."""

    picture: str
    part: tuple[float, float, float, float] = (0, 0, 1, 1)
    quarter_turns: int = 0
    brightness: float = 1.0
    blur_px: float = 0.0


WALL = 31
DRAWN = {
    "plaster": lambda: (draw.cracked_plaster(12), 12, 8, 12),
    "gable": lambda: (draw.cracked_plaster(17), 17, 8, 12),
    "spalled": lambda: (draw.spalled_plaster(33), 33, -20, 24),
    "wall": lambda: (draw.brick_wall(WALL), 4, 20, -10),
    "wall, cracked": lambda: (draw.crack(draw.brick_wall(WALL), 9)[0], 4, 20, -10),
}
AUTUMN_SHOTS = {
    PLASTER: (
        Shot("plaster", (0, 0.1, 0.3, 1)),
        Shot("plaster", (0.45, 0, 1, 0.5), brightness=1.2),
        Shot("gable", (0, 0, 0.3, 0.5)),
        Shot("gable", (0.65, 0, 1, 0.5)),
        Shot("spalled", (0.45, 0.3, 1, 1)),
    ),
    MASONRY: (
        Shot("wall"),
        Shot("wall", (0.1, 0.1, 0.8, 0.8), brightness=1.2),
        Shot("summer-palace.jpg"),
        Shot("summer-palace.jpg", (0.1, 0, 0.9, 0.75)),
        Shot("sound-masonry.jpg", brightness=1.3),
    ),
}
SPRING_SHOTS = {
    PLASTER: (
        Shot("plaster"),
        Shot("plaster", (0, 0, 0.25, 1)),
        Shot("plaster", (0, 0.4, 0.35, 1)),
        Shot("gable", quarter_turns=1, brightness=0.8),
        Shot("gable", (0, 0, 0.3, 0.5)),
        Shot("gable", (0.65, 0, 1, 0.5)),
        Shot("spalled"),
        Shot("spalled", (0, 0, 0.4, 0.4)),
        Shot("spalled-plaster.jpg"),
        Shot("cracked-plaster.jpg", (0, 0, 0.3, 0.6)),
        Shot("cracked-plaster.jpg", (0, 0.3, 0.3, 1)),
        Shot("cracked-plaster.jpg", (0.1, 0.2, 0.7, 1), blur_px=3),
        Shot("spalled", brightness=1.08),  # looks like the seventh
    ),
    MASONRY: (
        Shot("wall, cracked"),
        Shot("wall, cracked", (0, 0, 0.5, 1)),
        Shot("cracked-masonry.jpg"),
        Shot("cracked-masonry.jpg", (0.5, 0, 1, 1)),
        Shot("sound-masonry.jpg"),
        Shot("wall", brightness=1.3),
        Shot("wall", quarter_turns=1),
        Shot("wall", brightness=0.3),
        Shot("summer-palace.jpg"),
        Shot("summer-palace.jpg", (0.1, 0, 0.9, 0.75)),
        Shot("summer-palace.jpg", (0.25, 0.1, 0.75, 0.9)),
        Shot("summer-palace.jpg", (0.4, 0, 1, 1), brightness=1.2),
    ),
}


def make_photos(folder: Path) -> tuple[Path, Path]:
    """Draws both visits; their folders, the earlier one first."""
    pictures = {path.name: Image.open(path).convert("RGB") for path in ROOT.glob("samples/*.jpg")}
    for name, made in DRAWN.items():
        print(f"drawing the {name} …", flush=True)
        wall, *view = made()
        pictures[name] = draw.camera(draw.light(wall), *view)
    autumn = _make_visit(folder / "Autumn 2025", AUTUMN, AUTUMN_SHOTS, pictures, first=1801)
    spring = _make_visit(folder / "Spring 2026", SPRING, SPRING_SHOTS, pictures, first=2101)
    plaster = spring / PLASTER
    data = sorted(plaster.iterdir())[0].read_bytes()
    (plaster / "IMG_2101 copy.jpg").write_bytes(data)
    (plaster / "IMG_2114.jpg").write_bytes(data[: len(data) // 3])  # the card was pulled too soon
    return autumn, spring


def _make_visit(
    folder: Path,
    begun: datetime,
    shots: dict[str, tuple[Shot, ...]],
    pictures: dict[str, Image.Image],
    first: int,
) -> Path:
    number = first
    for building, taken in shots.items():
        (folder / building).mkdir(parents=True)
        for shot in taken:
            minutes = 2 * (number - first)
            exif = _exif(begun + timedelta(minutes=minutes), *_step(PLACES[building], number))
            photo = _photograph(pictures[shot.picture], shot)
            photo.save(folder / building / f"IMG_{number}.jpg", quality=88, exif=exif)
            number += 1
        number += 1  # the torn photo's number, in spring
    return folder


def _photograph(picture: Image.Image, shot: Shot) -> Image.Image:
    width, height = picture.size
    left, top, right, bottom = shot.part
    box = (left * width, top * height, right * width, bottom * height)
    photo = picture.crop([round(side) for side in box]).rotate(90 * shot.quarter_turns, expand=True)
    photo = ImageEnhance.Brightness(photo).enhance(shot.brightness)
    return photo.filter(ImageFilter.GaussianBlur(shot.blur_px)) if shot.blur_px else photo


def _step(place: tuple[float, float], number: int) -> tuple[float, float]:
    """Some metres along the building for each photo."""
    return place[0] + 0.00004 * (number % 4), place[1] + 0.00006 * (number % 5)


def _exif(moment: datetime, latitude: float, longitude: float) -> Image.Exif:
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Model] = "Demo", "Demo camera"
    exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = moment.strftime("%Y:%m:%d %H:%M:%S")
    exif.get_ifd(IFD.GPSInfo).update(
        {
            GPS.GPSLatitudeRef: "N",
            GPS.GPSLatitude: _degrees(latitude),
            GPS.GPSLongitudeRef: "E",
            GPS.GPSLongitude: _degrees(longitude),
        }
    )
    return exif


def _degrees(value: float) -> tuple[float, float, float]:
    minutes = value % 1 * 60
    return float(int(value)), float(int(minutes)), round(minutes % 1 * 60, 3)


# --- the app ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class App:
    """The app while it runs."""

    url: str
    home: Path
    process: psutil.Popen

    @contextmanager
    def held_when_done(self, photos: int) -> Iterator[int]:
        """Halts the worker once it is through with so many photos of the last survey.

        Yields:
            How many it is through with.
        """
        store = SurveyStore(self.home / "surveys")
        last = store.surveys()[0].id
        end = time.monotonic() + PATIENCE_MS / 1000
        while store.runs(last)[0].done < photos:
            if time.monotonic() > end:
                sys.exit("The survey is not read; see the worker's log.")
            time.sleep(0.02)
        workers = [one for one in self._started() if "heritage.worker" in one.cmdline()]
        for worker in workers:
            worker.suspend()
        try:
            run = store.runs(last)[0]
            if not workers or not run.unfinished:
                sys.exit("running: the survey was read at once; give it more photos.")
            yield run.done
        finally:
            for worker in workers:
                worker.resume()
            store.close()

    def end(self) -> None:
        """Ends the app and all it has started."""
        started = [*self._started(), self.process]
        for one in started:
            one.terminate()
        psutil.wait_procs(started, timeout=20)

    def _started(self) -> list[psutil.Process]:
        return self.process.children(recursive=True)


@contextmanager
def running_app(home: Path) -> Iterator[App]:
    """The app as a user starts it, on a free port, with surveys of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    left_out = ("HERITAGE_DATABASE_URL", "HERITAGE_PHOTO_ROOT", "HERITAGE_WEIGHTS")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    log = home / "app.log"
    with log.open("w") as file:
        process = psutil.Popen(
            [
                *(sys.executable, "-m", "streamlit", "run", "app.py"),
                *("--server.headless=true", f"--server.port={port}"),
            ],
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=kept | {"HOME": str(home), "HERITAGE_SURVEYS": str(home / "surveys")},
        )
    app = App(f"http://localhost:{port}", home, process)
    try:
        _wait_for(f"{app.url}/_stcore/health", process, log)
        yield app
    finally:
        app.end()


def _wait_for(url: str, process: psutil.Popen, log: Path) -> None:
    end = time.monotonic() + PATIENCE_MS / 1000
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # nosec B310
                return
        except OSError:
            time.sleep(0.5)
    sys.exit(f"The app did not start. It said:\n{log.read_text()}")


# --- the browser -----------------------------------------------------------------------------

QUIET = """() =>
  document.querySelector('[data-testid="stApp"]')?.dataset.testScriptState === 'notRunning'
  && !document.querySelector('[data-testid="stSpinner"], [data-testid="stSkeleton"]')
  && !document.querySelector('[data-stale="true"]')
  && [...document.images].every(image => image.complete && image.naturalWidth)
  && [...document.querySelectorAll('.stPlotlyChart')].every(c => c.querySelector('.main-svg'))
"""


def settle(page: Page) -> None:
    """Waits until the page is through: script, pictures and charts, and nothing moves any more."""
    before, end = b"", time.monotonic() + PATIENCE_MS / 1000
    while time.monotonic() < end:
        page.wait_for_function(QUIET)
        now = page.screenshot()
        if now == before:
            return
        before = now
        page.wait_for_timeout(400)  # between two looks: what is drawn on a canvas tells nothing
    sys.exit(f"{page.url} does not come to rest.")


def take(page: Page, name: str, *, height: int = HEIGHT, below: Locator | None = None) -> None:
    """Saves the window, from the masthead or from where `below` begins, as `name`.jpg."""
    page.set_viewport_size({"width": WIDTH, "height": height})
    settle(page)
    start = below or page.get_by_text("Heritage", exact=True)
    start.evaluate("node => { node.style.scrollMarginTop = '16px'; node.scrollIntoView(true) }")
    page.mouse.move(0, 0)  # the table shows tools under the mouse
    settle(page)
    _save(page, OUT / f"{name}.jpg")


def _save(page: Page, path: Path) -> None:
    for wrong in page.get_by_test_id("stException").all():
        sys.exit(f"{path.name}: the page shows an error: {wrong.inner_text()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    edge = (0, 0, picture.width - 1, picture.height - 1)
    ImageDraw.Draw(picture).rectangle(edge, outline=FRAME)  # or it melts into the guide's own page
    picture.save(path, quality=QUALITY, optimize=True, progressive=True)
    size = path.stat().st_size
    if size > MOST_BYTES:
        sys.exit(f"{path.name} has {size:,} bytes; at most {MOST_BYTES:,} are wanted.")
    print(f"{path.relative_to(ROOT)}  {size:,} bytes", flush=True)


def button(page: Page, name: str) -> Locator:
    """The button whose words are exactly `name`; its icon counts as no word."""
    return page.get_by_role("button", name=re.compile(rf"(^|\s){re.escape(name)}$"))


def fill(page: Page, label: str, text: str) -> None:
    """Writes into a field and leaves it, which is when the app takes notice."""
    field = page.get_by_label(label, exact=True)
    field.fill(text)
    field.press("Tab")
    settle(page)


def views(page: Page) -> Locator:
    """The row of a survey's views."""
    return page.get_by_test_id("stButtonGroup").filter(has_text="Hand on")


def view(page: Page, name: str) -> None:
    """Turns to one of the views of a survey."""
    settle(page)
    views(page).get_by_text(name, exact=True).click()
    settle(page)


def choose(page: Page, label: str, option: str | re.Pattern[str]) -> None:
    """Picks from a select box."""
    page.get_by_role("combobox", name=re.compile(label)).click()
    page.get_by_role("option", name=option).click()
    settle(page)


# --- the tour --------------------------------------------------------------------------------


def tour(page: Page, app: App, autumn: Path, spring: Path) -> None:
    """Goes through the guide from the first section to the last."""
    enter(page, app, autumn)
    wait_until_read(page)
    enter(page, app, spring, picture="hand-in")
    take_progress(page, app)
    wait_until_read(page)
    take(page, "table", height=1000)
    give_verdicts(page)
    view(page, "Settings")
    take(page, "bands", height=900)
    view(page, "Charts")
    take(page, "charts", height=960, below=views(page))
    survey = page.url
    show_a_building(page)
    page.goto(survey)
    compare_two_runs(page)


def inspect_a_sample(page: Page, app: App) -> None:
    """What README shows: a sample on Inspect."""
    page.goto(app.url)
    settle(page)
    button(page, "Try a sample").click()
    expect(page.get_by_role("slider", name="Opacity")).to_be_visible()
    settle(page)
    _save(page, README_PICTURE)


def enter(page: Page, app: App, folder: Path, picture: str = "") -> None:
    """Hands in one visit and starts."""
    page.goto(f"{app.url}/Triage")
    settle(page)
    page.get_by_test_id("stButtonGroup").get_by_text("A folder", exact=True).click()
    settle(page)
    page.locator("input[type=file]").set_input_files(folder)
    day = AUTUMN if folder.name == "Autumn 2025" else SPRING
    fill(page, "Name of the survey", folder.name)
    fill(page, "Site", SITE)
    page.get_by_role("group", name="Date of the visit").get_by_role("spinbutton").first.click()
    page.keyboard.type(f"{day:%Y%m%d}")
    page.keyboard.press("Escape")
    expect(page.get_by_role("grid")).to_have_count(0)  # the calendar
    expect(button(page, "Start")).to_be_enabled()
    if picture:
        take(page, picture, height=720)
    button(page, "Start").click()
    expect(page.get_by_role("heading", name=folder.name)).to_be_visible()


def take_progress(page: Page, app: App) -> None:
    """The survey while it is read: its worker is held until the page has shown the half."""
    half = sum(map(len, SPRING_SHOTS.values())) // 2
    with app.held_when_done(half) as done:
        expect(page.get_by_text(re.compile(rf"^{done} of \d+ photos"))).to_be_visible()
        expect(page.get_by_text(re.compile(r"Urgent\s+[1-9]"))).to_be_visible()
        take(page, "running", height=800)


def wait_until_read(page: Page) -> None:
    """Until the progress bar has gone and the bands are counted."""
    expect(page.get_by_test_id("stProgress")).to_have_count(0)
    expect(page.get_by_text(re.compile(r"Urgent\s+[1-9]"))).to_be_visible()
    settle(page)


def give_verdicts(page: Page) -> None:
    """Verdicts by keyboard; takes the photo in hand beside the table, then a filtered sheet."""
    open_photo(page, "IMG_2107.jpg")
    fill(page, "Your name", EXPERT)
    say(page, "d", verdicts=1)
    open_photo(page, "IMG_2119.jpg")
    fill(page, "Note", "Weathered faces, joints whole. No crack.")
    say(page, "s", verdicts=2)
    open_photo(page, "IMG_2101.jpg")
    fill(page, "Note", "Settlement crack, open 4 mm at the sill. Gauge fitted.")
    say(page, "d", verdicts=3)  # its copy counts with it
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_text("Said so far (1)")).to_be_visible()
    view(page, "Table")
    take(page, "photo", height=1300, below=views(page))
    page.keyboard.press("Escape")
    expect(page.get_by_text("Choose a row to see its photo")).to_be_visible()
    view(page, "Pictures")
    for band in ("Urgent", "High"):
        page.get_by_role("button", name=re.compile(band)).click()
    expect(page.get_by_text(re.compile(r"^\d+ of \d+ photos$"))).to_be_visible()
    take(page, "pictures", below=views(page))
    button(page, "Clear").click()


def open_photo(page: Page, name: str) -> None:
    """Takes a photo in hand."""
    view(page, "Pictures")
    back = button(page, "Back to the pictures")
    if back.count():
        back.click()
        expect(back).to_have_count(0)
    button(page, name).click()
    expect(page.get_by_role("heading", name="Your verdict")).to_be_visible()
    settle(page)


def say(page: Page, key: str, *, verdicts: int) -> None:
    """Gives a verdict by its key, and waits until so many are counted."""
    page.get_by_role("heading", name="Your verdict").click()  # out of fields and switches
    page.keyboard.press(key)
    expect(page.get_by_text(re.compile(rf"Your verdicts\s+{verdicts}\b"))).to_be_visible()
    settle(page)


def compare_two_runs(page: Page) -> None:
    """Has the next best backbone read the same photos, and sets both runs side by side."""
    view(page, "Runs")
    choose(page, "Backbone", re.compile(re.escape(list_cards()[1].title)))
    button(page, "Read with this backbone").click()
    expect(page.get_by_test_id("stProgress")).to_have_count(1)
    wait_until_read(page)
    heading = page.get_by_role("heading", name="Compare two runs")
    expect(heading).to_be_visible()
    take(page, "compare", height=960, below=views(page))


def show_a_building(page: Page) -> None:
    """The building of both visits, side by side."""
    button(page, "All surveys").click()
    heading = page.get_by_role("heading", name="A building over time")
    expect(heading).to_be_visible()
    choose(page, "Building", PLASTER)
    take(page, "building", height=960, below=heading)


def main() -> None:
    """Makes every picture of the guide, and README's, anew."""
    if len(list_cards()) < 2:
        sys.exit("The guide compares two backbones: weights/ needs two checkpoints.")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder)
        visits = make_photos(home / "photos")
        browser = playwright.chromium.launch(executable_path=system_chromium(), args=list(FLAGS))
        with running_app(home) as app:
            page = open_page(browser)
            try:
                inspect_a_sample(page, app)
                tour(page, app, *visits)
            except (AssertionError, PlaywrightError) as error:
                page.screenshot(path=(seen := Path(tempfile.gettempdir()) / "make_guide.png"))
                told = str(error).split("Aria snapshot")[0].strip()
                sys.exit(f"What the guide expects was not there; {seen} shows what was.\n{told}")
        browser.close()
    together = sum(path.stat().st_size for path in OUT.glob("*.jpg"))
    if together > MOST_BYTES_TOGETHER:
        sys.exit(f"The pictures have {together:,} bytes; {MOST_BYTES_TOGETHER:,} are wanted.")


def open_page(browser: Browser) -> Page:
    """A fresh light window, nothing moving in it."""
    context = browser.new_context(
        viewport={"width": WIDTH, "height": HEIGHT}, reduced_motion="reduce", color_scheme="light"
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    return page


if __name__ == "__main__":
    main()
