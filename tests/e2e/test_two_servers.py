"""Two servers on one database and one folder of photos: what is begun on one is there on both."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, closing
from dataclasses import replace

import pyarrow as pa
import pytest
from helpers import crack_photo
from sqlalchemy import func, select

from benchmarks.server import served
from benchmarks.visitors import Visitor, finished
from heritage.cards import read_card
from heritage.sources import list_folder
from heritage.store.tables import InspectionRow
from heritage.surveys import DONE, FAILED, SurveyStore
from heritage.triage import triage

PHOTOS = 8
NAMES = ("North facade", "South facade")


@pytest.fixture
def office(tmp_path, weights_dir, database_url):
    """The addresses of two servers, and a way to open the store that both keep."""
    shared = {
        "HERITAGE_SURVEYS": str(tmp_path / "surveys"),
        "HERITAGE_WEIGHTS": str(weights_dir),
        "HERITAGE_DATABASE_URL": database_url,
    }
    with ExitStack() as stack:
        urls = []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            urls.append(stack.enter_context(served(tmp_path / name, **shared)))

        def open_store():
            store = SurveyStore(tmp_path / "surveys", database_url)
            return stack.enter_context(closing(store))

        yield urls, open_store


def files(number):
    """Photos of one visitor's; the first is also given by another name."""
    given = [
        (f"{number} {index}.jpg", crack_photo(seed=100 * number + index))
        for index in range(PHOTOS - 1)
    ]
    return [*given, (f"{number} again.jpg", given[0][1])]


async def begin(url, name, given):
    """Has a server triage photos as a new survey."""
    async with Visitor(url) as visitor:
        await visitor.open("Triage")
        await visitor.upload(*given)
        await visitor.write("Name of the survey", name)
        await visitor.press("Start")
        assert name in visitor.text()


async def table(url, store, survey):
    """Text and table that a server shows of a survey once it is done; who looks sets it going."""
    async with Visitor(url) as visitor:
        while True:
            await visitor.open("Triage", survey=str(survey.id))
            (run,) = store.runs(survey.id)
            assert run.status != FAILED, run.error
            if run.status == DONE:
                await visitor.open("Triage", survey=str(survey.id))
                shown = next(
                    element.dataframe
                    for element in visitor.elements.values()
                    if element.HasField("dataframe")
                )
                with pa.ipc.open_stream(shown.arrow_data.data) as stream:
                    return visitor.text(), stream.read_pandas()
            await asyncio.sleep(0.2)


def answers(store, run):
    """Of each photo the row, without what tells databases apart, and the heat."""
    found = {}
    for row in store.rows(run.id):
        heat = store.heat(run.id, row.photo_id)
        found[row.photo] = (replace(row, photo_id=0, building=""), heat[0].tobytes())
    return found


def alone(folder, weights, given):
    """What the same photos get where nobody else is at work."""
    for name, data in given:
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    with closing(SurveyStore(folder / "surveys", "")) as own:
        survey = own.create_survey("Alone")
        own.add_photos(survey.id, list_folder(folder).sources)
        run = own.create_run(survey.id, read_card(weights / "mobilenet_v2.json"))
        triage(own, run.id, weights=weights)
        return answers(own, run)


def test_what_is_begun_on_either_server_is_done_once_and_shown_by_both(
    office, tmp_path, weights_dir
):
    urls, store = office[0], office[1]()
    given = [files(1), files(2)]

    async def all_at_once():
        await asyncio.gather(*map(begin, urls, NAMES, given))
        surveys = [store.find_survey(name) for name in NAMES]
        return [
            await asyncio.gather(*(table(url, store, survey) for url in urls)) for survey in surveys
        ]

    for name, photos, ((text, here), (other_text, there)) in zip(
        NAMES, given, finished(all_at_once()), strict=True
    ):
        assert name in text and name in other_text
        assert len(here) == PHOTOS
        assert here.equals(there)
        (run,) = store.runs(store.find_survey(name).id)
        assert (run.status, run.done, run.failed) == (DONE, PHOTOS, 0)
        with store.engine.connect() as connection:
            count = select(func.count(), func.count(InspectionRow.photo_id.distinct()))
            found = connection.execute(count.where(InspectionRow.run_id == run.id)).one()
        assert tuple(found) == (PHOTOS, PHOTOS)
        assert answers(store, run) == alone(tmp_path / name, weights_dir, photos)
    assert not list(store.folder.rglob("*.partial"))


def test_both_servers_may_be_the_first_of_an_empty_database(office):
    urls, open_store = office

    async def visit(url):
        async with Visitor(url) as visitor:
            await visitor.open("Surveys")
            return visitor.text()

    async def both():
        return await asyncio.gather(*map(visit, urls))

    one, other = finished(both())
    assert one == other
    assert "Surveys" in one
    assert open_store().surveys() == []
