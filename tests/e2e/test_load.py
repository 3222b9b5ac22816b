"""Many visitors at once get what each would get alone, and nobody gets past the doors."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from contextlib import closing

import psutil
import pytest
from conftest import ROOT
from helpers import crack_photo
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from benchmarks.load import crowd
from benchmarks.server import served
from benchmarks.visitors import Visitor, finished
from heritage.surveys import SurveyStore

BEYOND_THE_CAP = 3 * 2**30


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A server of its own, its address and its home folder."""
    home = tmp_path_factory.mktemp("house")
    shutil.copytree(ROOT / "weights", home / "weights")
    with served(home) as url:
        yield url, home


def test_sixteen_visitors_at_once_get_what_each_gets_alone(house):
    outcome = crowd(*house, visitors=16, photos=2)
    assert outcome.answers == 32
    assert outcome.different == []
    assert outcome.strangers == []
    assert outcome.asked > 0
    assert outcome.unwell == 0


def test_what_was_uploaded_does_not_stay_in_memory(house):
    url, home = house
    server = psutil.Process(int((home / "app.pid").read_text()))
    ballast = bytes(10_000_000)  # behind the end of the JPEG, where nobody reads it

    async def inspect_many():
        marks = []
        async with Visitor(url) as visitor:
            await visitor.open("Inspect")
            for number in range(30):
                if number:
                    await visitor.press("Another photo")
                photo = crack_photo(seed=number) + ballast + bytes([number])
                await visitor.upload((f"{number}.jpg", photo))
                await visitor.download("Inspection (JSON)")
                marks.append(server.memory_info().rss)
        return marks

    marks = finished(inspect_many())
    assert marks[-1] - marks[9] < 5 * len(ballast), "of twenty photos hardly any is still there"


def test_the_server_listens_to_this_computer_only(house):
    _, home = house
    server = psutil.Process(int((home / "app.pid").read_text()))
    heard = {c.laddr.ip for c in server.net_connections() if c.status == psutil.CONN_LISTEN}
    assert heard
    assert heard <= {"127.0.0.1", "::1"}


def test_a_forged_upload_is_refused(house):
    async def forge():
        async with Visitor(house[0]) as visitor:
            await visitor.open("Inspect")
            (place,) = await visitor.upload_places("wall.jpg")
            forged = await visitor.put(place.upload_url, "wall.jpg", crack_photo(), token=False)
            real = await visitor.put(place.upload_url, "wall.jpg", crack_photo())
            return forged.status_code, real.status_code

    assert finished(forge()) == (403, 204)


def test_an_upload_beyond_the_cap_is_refused_before_it_is_sent(house):
    port = int(house[0].rpartition(":")[2])

    def announce(address, token):
        with closing(socket.create_connection(("localhost", port), timeout=60)) as line:
            line.sendall(
                f"PUT {address} HTTP/1.1\r\nHost: localhost:{port}\r\nX-Xsrftoken: {token}\r\n"
                f"Cookie: _streamlit_xsrf={token}\r\nContent-Length: {BEYOND_THE_CAP}\r\n"
                "Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode()
            )
            return line.recv(1000)

    async def begin():
        async with Visitor(house[0]) as visitor:
            await visitor.open("Triage")
            (place,) = await visitor.upload_places("walls.zip")
            return await asyncio.to_thread(announce, place.upload_url, visitor.token)

    assert finished(begin()).startswith(b"HTTP/1.1 413")


def test_another_web_page_cannot_open_a_session(house):
    async def knock():
        await connect(
            house[0].replace("http", "ws") + "/_stcore/stream",
            subprotocols=["streamlit"],
            origin="https://evil.example.org",
        )

    with pytest.raises(InvalidStatus, match="403"):
        finished(knock())


def test_names_that_attack_are_shown_as_they_are(house):
    name = "<script>alert(1)</script><img src=x onerror=alert(2)>=cmd|'x'!A1.jpg"

    async def visit():
        async with Visitor(house[0]) as visitor:
            await visitor.open("Inspect")
            await visitor.upload((name, crack_photo(seed=5)))
            shown = visitor.text(), [e for e in visitor.elements.values() if e.HasField("html")]
            await visitor.open("Triage")
            await visitor.upload((name, crack_photo(seed=5)))
            await visitor.write("Name of the survey", "<b>Bold</b> [link](javascript:alert(3))")
            await visitor.press("Start")
            return *shown, visitor.text()

    inspected, html, triaged = finished(visit())
    for text in (inspected, triaged):
        assert "alert" in text
        assert not re.search(r"(?<!\\)<(script|img|b)|(?<!\\)\]\(javascript", text)
    assert not any("alert" in element.html.body for element in html)
    with closing(SurveyStore(house[1] / "surveys")) as store:
        paths = [str(path) for path in store.folder.rglob("*")]
    assert not any("script" in path or "cmd" in path for path in paths)
