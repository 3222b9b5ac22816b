"""Many visitors at once, and many photos one after the other.

    python -m benchmarks.load                  # 16 sessions inspect and triage at once
    python -m benchmarks.load --memory 2000    # memory at the 200th and at the 2,000th photo

The visitors are real HTTP and websocket sessions of a real server. What each of them gets is
compared with the same job run alone.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import shutil
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image

from benchmarks.server import ROOT, served
from benchmarks.visitors import Visitor, finished
from heritage.cards import ModelCard, list_cards
from heritage.exports import inspection_json
from heritage.inspection import Inspector
from heritage.photos import open_photo
from heritage.sources import list_folder
from heritage.surveys import DONE, Run, SurveyStore
from heritage.triage import triage
from heritage.worker import ensure_worker

HEALTH_EVERY_S = 0.2
FEW = 200  # after so many photos every cache is full
Files = list[tuple[str, bytes]]


@dataclass
class Outcome:
    """What a crowd of visitors met with.

    Attributes:
        answers: Inspections and rows that were compared.
        different: Those that differ from the same job run alone.
        strangers: Pages that showed the name of another visitor's photo.
        asked: How often the server was asked how it is.
        unwell: How often it did not say that it is well.
        slowest_s: The longest that it took to say so.
        seconds: How long it all took.
    """

    answers: int = 0
    different: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    asked: int = 0
    unwell: int = 0
    slowest_s: float = 0.0
    seconds: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--visitors", type=int, default=16)
    parser.add_argument("--photos", type=int, default=6, help="of each visitor")
    parser.add_argument("--memory", type=int, default=0, metavar="PHOTOS")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        shutil.copytree(ROOT / "weights", home / "weights")
        with served(home) as url:
            if options.memory:
                print_memory(url, home, options.memory)
            else:
                print_crowd(crowd(url, home, options.visitors, options.photos))


# --- many at once ----------------------------------------------------------------------------


def crowd(url: str, home: Path, visitors: int, photos: int) -> Outcome:
    """Has every second visitor inspect photos and the others triage a set of them, all at once."""
    cards = list_cards(home / "weights")
    jobs = [(n, cards[n // 2 % len(cards)], files_of(n, photos)) for n in range(visitors)]
    outcome = Outcome()
    began = time.monotonic()
    told = finished(_all(url, jobs, outcome))
    with closing(SurveyStore(home / "surveys")) as store:
        for number, _, _ in jobs[1::2]:
            _wait_until_done(store, _run_of(store, number))
        outcome.seconds = time.monotonic() - began
        for number, card, files in jobs:
            if number % 2:
                _compare_rows(store, number, card, files, home, outcome)
            else:
                _compare_inspections(told[number], card, files, home, outcome)
    return outcome


async def _all(
    url: str, jobs: list[tuple[int, ModelCard, Files]], outcome: Outcome
) -> list[list[bytes]]:
    watch = asyncio.create_task(_watch(url, outcome))
    try:
        return await asyncio.gather(*(_visit(url, *job, outcome) for job in jobs))
    finally:
        watch.cancel()


async def _visit(
    url: str, number: int, card: ModelCard, files: Files, outcome: Outcome
) -> list[bytes]:
    """One visitor's job; the JSON of each inspection, nothing for a triage."""
    told = []
    async with Visitor(url) as visitor:
        if number % 2:
            await visitor.open("Triage")
            await visitor.upload(*files)
            await visitor.choose("Backbone", card.title)
            await visitor.write("Name of the survey", f"Visitor {number}")
            await visitor.press("Start")
            _look_for_strangers(visitor, number, outcome)
            return []
        for position, file in enumerate(files):
            if position:
                await visitor.press("Another photo")
            else:
                await visitor.open("Inspect")
            await visitor.upload(file)
            if not position:
                await visitor.choose("Backbone", card.title)
            told.append(await visitor.download("Inspection (JSON)"))
            _look_for_strangers(visitor, number, outcome)
    return told


def _look_for_strangers(visitor: Visitor, number: int, outcome: Outcome) -> None:
    own = f"photo of {number} "
    text = visitor.text().replace("\\", "")
    for line in text.splitlines():
        if "photo of " in line and own not in line:
            outcome.strangers.append(line)


async def _watch(url: str, outcome: Outcome) -> None:
    async with httpx.AsyncClient(timeout=60) as client:
        while True:
            began = time.monotonic()
            answer = await client.get(f"{url}/_stcore/health")
            outcome.asked += 1
            outcome.unwell += answer.status_code != 200
            outcome.slowest_s = max(outcome.slowest_s, time.monotonic() - began)
            await asyncio.sleep(HEALTH_EVERY_S)


def _compare_inspections(
    told: list[bytes], card: ModelCard, files: Files, home: Path, outcome: Outcome
) -> None:
    inspector = Inspector(card.name, folder=home / "weights")
    for (name, data), got in zip(files, told, strict=True):
        alone = inspection_json(inspector.inspect(open_photo(data, name)))
        outcome.answers += 1
        if alone.encode() != got:
            outcome.different.append(f"{card.name}: {name}")


def _compare_rows(
    store: SurveyStore, number: int, card: ModelCard, files: Files, home: Path, outcome: Outcome
) -> None:
    folder = home / f"alone {number}"
    for name, data in files:
        (folder / "photos").mkdir(parents=True, exist_ok=True)
        (folder / "photos" / name).write_bytes(data)
    with closing(SurveyStore(folder / "surveys")) as own:
        survey = own.create_survey("Alone")
        own.add_photos(survey.id, list_folder(folder / "photos").sources)
        alone = triage(own, own.create_run(survey.id, card).id, weights=home / "weights")
        wanted = _answers(own, alone)
    for name, answer in _answers(store, _run_of(store, number)).items():
        outcome.answers += 1
        if wanted.pop(name) != answer:
            outcome.different.append(f"{card.name}: {name}")
    outcome.different += [f"{card.name}: {name} is missing" for name in wanted]


def _answers(store: SurveyStore, run: Run) -> dict[str, tuple[object, bytes]]:
    """Of each photo the row, without what tells databases apart, and the heat."""
    found = {}
    for row in store.rows(run.id):
        heat = store.heat(run.id, row.photo_id)
        bare = replace(row, photo_id=0, building="", similar_group=None)
        found[row.photo] = (bare, heat[0].tobytes() if heat else b"")
    return found


def _run_of(store: SurveyStore, number: int) -> Run:
    survey = store.find_survey(f"Visitor {number}")
    if survey is None:
        raise RuntimeError(f"visitor {number} has no survey")
    return store.runs(survey.id)[0]


def _wait_until_done(store: SurveyStore, run: Run, patience_s: float = 1800) -> None:
    end = time.monotonic() + patience_s
    while store.run(run.id).status != DONE:
        if time.monotonic() > end:
            raise RuntimeError(f"run {run.id} is {store.run(run.id).status}")
        ensure_worker(store)
        time.sleep(0.2)


def print_crowd(outcome: Outcome) -> None:
    print("| answers | different | strangers' photos | asked for health | unwell | slowest | all |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    print(
        f"| {outcome.answers} | {len(outcome.different)} | {len(outcome.strangers)} "
        f"| {outcome.asked} | {outcome.unwell} | {outcome.slowest_s:.1f} s "
        f"| {outcome.seconds:.0f} s |"
    )
    for line in (*outcome.different, *outcome.strangers):
        print(line)


# --- many one after the other ----------------------------------------------------------------


def print_memory(url: str, home: Path, photos: int) -> None:
    print("| memory (MB) of | first photo | 200th | last | last against 200th, % |")
    print("|---|--:|--:|--:|--:|")
    for title, marks in (
        ("the server, photos on Inspect", finished(inspected(url, home, photos))),
        ("the worker, one triage", triaged(home, photos)),
    ):
        first, few, last = (mark / 1e6 for mark in marks)
        change = 100 * (last / few - 1)
        print(
            f"| {title}, {photos:,} | {first:,.0f} | {few:,.0f} | {last:,.0f} | {change:+.1f} % |"
        )


async def inspected(url: str, home: Path, photos: int) -> tuple[int, int, int]:
    """Memory of the server in bytes after the first, the 200th and the last photo on Inspect."""
    server = psutil.Process(int((home / "app.pid").read_text()))
    marks = []
    async with Visitor(url) as visitor:
        await visitor.open("Inspect")
        for number in range(photos):
            if number:
                await visitor.press("Another photo")
            await visitor.upload((f"{number}.jpg", photo(number)))
            await visitor.download("Inspection (JSON)")
            if number + 1 in (1, FEW, photos):
                marks.append(server.memory_info().rss)
    return marks[0], marks[1], marks[-1]


def triaged(home: Path, photos: int) -> tuple[int, int, int]:
    """Memory of the worker in bytes after the first, the 200th and the last photo of a triage."""
    folder = home / "many"
    folder.mkdir()
    for number in range(photos):
        (folder / f"{number}.jpg").write_bytes(photo(number))
    marks: dict[int, int] = {}
    with closing(SurveyStore(home / "many surveys")) as store:
        survey = store.create_survey("Many")
        store.add_photos(survey.id, list_folder(folder).sources)
        run = triage_in_process(store, store.create_run(survey.id, _default_card()).id, marks)
        assert run.done == photos
    return marks[1], marks[min(FEW, photos)], marks[photos]


def triage_in_process(store: SurveyStore, run_id: int, marks: dict[int, int]) -> Run:
    """A triage that notes this process's memory at each photo."""
    me = psutil.Process()

    def listen(run: Run) -> None:
        marks[run.done] = me.memory_info().rss

    return triage(store, run_id, listen=listen)


def _default_card() -> ModelCard:
    return list_cards(ROOT / "weights")[0]


# --- photos ----------------------------------------------------------------------------------


def files_of(number: int, photos: int) -> Files:
    """Photos that only this visitor has."""
    return [
        (f"photo of {number} no {index}.jpg", photo(1000 * number + index))
        for index in range(photos)
    ]


def photo(seed: int, size: tuple[int, int] = (1600, 1200)) -> bytes:
    """A JPEG of a wall with stains, another for each seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 200, (9, 12, 3), dtype=np.uint8)
    wall = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    wall.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
