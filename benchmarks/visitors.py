"""Browser sessions without a browser: the HTTP and websocket requests that a browser makes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import httpx
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect

T = TypeVar("T")
LOOKS_EVERY_S = 0.05
PATIENCE_S = 600.0


def finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns; in a thread of its own, as this one's loop may be in use."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


class Visitor:
    """One session of the app at `url`; use `async with`.

    Attributes:
        elements: What the page shows, by its place on it.
        token: Against forged requests, as the server gave it.
    """

    token: str

    def __init__(self, url: str) -> None:
        self.url = url
        self.elements: dict[tuple[int, ...], Any] = {}
        self._new: dict[tuple[int, ...], Any] = {}
        self._states: dict[str, WidgetState] = {}
        self._page = self._query = self._session = ""
        self._busy = False
        self._places: list[Any] = []
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        # The server hangs up on idle connections, now and then as one is about to be used again. A
        # browser then asks once more; here each request has a connection of its own.
        alone = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, limits=alone)

    async def __aenter__(self) -> Visitor:
        """Connects as a browser does, with the token against forged requests."""
        await self._http.get("/_stcore/health")
        self.token = self._http.cookies.get("_streamlit_xsrf") or ""
        self._socket = await connect(
            f"ws://{urlsplit(self.url).netloc}/_stcore/stream",
            subprotocols=["streamlit", self.token],  # type: ignore[list-item]
            additional_headers={"Cookie": f"_streamlit_xsrf={self.token}"},
            max_size=None,
            open_timeout=PATIENCE_S,
            ping_interval=None,
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the tab."""
        if self._reader:
            self._reader.cancel()
        if self._socket:
            await self._socket.close()
        await self._http.aclose()

    async def open(self, page: str = "", **query: str) -> None:
        """Goes to a page; what was entered on the one before is forgotten."""
        self._page, self._query, self._states = page, urlencode(query), {}
        await self._run()

    async def upload(self, *files: tuple[str, bytes]) -> None:
        """Gives files, as (name, bytes), to the page's only uploader."""
        uploader = await self._find("file_uploader")
        urls = await self.upload_places(*(name for name, _ in files))
        state = WidgetState(id=uploader.id)
        for (name, data), place in zip(files, urls, strict=True):
            sent = await self.put(place.upload_url, name, data)
            sent.raise_for_status()
            info = state.file_uploader_state_value.uploaded_file_info.add()
            info.name, info.size, info.file_id = name, len(data), place.file_id
            info.file_urls.CopyFrom(place)
        self._states[uploader.id] = state
        await self._run()

    async def upload_places(self, *names: str) -> list[Any]:
        """Where the server wants files of these names to be sent."""
        ask = BackMsg()
        ask.file_urls_request.request_id = "files"
        ask.file_urls_request.file_names.extend(names)
        ask.file_urls_request.session_id = self._session
        self._places = []
        await self._send(ask)
        await self._until(lambda: self._places)
        return self._places

    async def put(self, address: str, name: str, data: bytes, *, token: bool = True) -> Any:
        """Sends one file to an address that the server gave; its answer."""
        headers = {"X-Xsrftoken": self.token} if token else {}
        return await self._http.put(address, files={name: (name, data)}, headers=headers)

    async def choose(self, label: str, starts: str) -> None:
        """Chooses the option of a select box that starts with `starts`."""
        box = await self._find("selectbox", label)
        option = next(option for option in box.options if option.startswith(starts))
        self._states[box.id] = WidgetState(id=box.id, string_value=option)
        await self._run()

    async def write(self, label: str, text: str) -> None:
        """Writes into a text field."""
        field = await self._find("text_input", label)
        self._states[field.id] = WidgetState(id=field.id, string_value=text)
        await self._run()

    async def press(self, label: str) -> None:
        """Presses a button."""
        button = await self._find("button", label)
        await self._run(WidgetState(id=button.id, trigger_value=True))

    async def download(self, label: str) -> bytes:
        """What a download button gives."""
        button = await self._find("download_button", label)
        found = await self._http.get(button.url)
        found.raise_for_status()
        return found.content

    def text(self) -> str:
        """All that is written on the page."""
        parts = [e.markdown.body for e in self.elements.values() if e.HasField("markdown")]
        parts += [e.heading.body for e in self.elements.values() if e.HasField("heading")]
        parts += [e.alert.body for e in self.elements.values() if e.HasField("alert")]
        return "\n".join(parts)

    async def _find(self, kind: str, label: str | None = None) -> Any:
        """The element of a kind, once the page stands still and shows it."""

        def there() -> Any:
            for element in self.elements.values():
                if not self._busy and element.WhichOneof("type") == kind:
                    found = getattr(element, kind)
                    if label in (None, found.label):
                        return found
            return None

        return await self._until(there, f"no {kind} {label or ''} on {self._page}")

    async def _until(self, there: Callable[[], Any], missing: str = "no answer") -> Any:
        end = asyncio.get_running_loop().time() + PATIENCE_S
        while not (found := there()):
            if self._reader and self._reader.done():
                await self._reader  # raises what ended it
            if asyncio.get_running_loop().time() > end:
                raise LookupError(f"{missing}: {self.text()[:500]}")
            await asyncio.sleep(LOOKS_EVERY_S)
        return found

    async def _run(self, trigger: WidgetState | None = None) -> None:
        """Has the script run, and waits until it, and what it starts again, is through."""
        ask = BackMsg()
        ask.rerun_script.page_name = self._page
        ask.rerun_script.query_string = self._query
        ask.rerun_script.context_info.timezone = "UTC"
        ask.rerun_script.widget_states.widgets.extend(self._states.values())
        if trigger:
            ask.rerun_script.widget_states.widgets.append(trigger)
        self._busy = True
        await self._send(ask)
        await self._until(lambda: not self._busy, "the script does not end")

    async def _read(self) -> None:
        """Takes in what the server sends, for as long as the tab is open."""
        while True:
            message = await self._receive()
            kind = message.WhichOneof("type")
            if kind == "new_session":
                self._session = message.new_session.initialize.session_id or self._session
                self._busy, self._new = True, {}
            elif kind == "delta":
                self._take(message)
            elif kind == "script_finished":
                if message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                    self.elements, self._busy = self._new, False
                    self._forget_what_is_gone()
            elif kind == "page_info_changed":
                self._query = message.page_info_changed.query_string
            elif kind == "file_urls_response":
                self._places = list(message.file_urls_response.file_urls)

    def _forget_what_is_gone(self) -> None:
        """A browser does not send what was entered into a widget that is no longer shown."""
        shown = [getattr(e, e.WhichOneof("type") or "", None) for e in self.elements.values()]
        there = {getattr(element, "id", "") for element in shown}
        self._states = {name: state for name, state in self._states.items() if name in there}

    def _take(self, message: ForwardMsg) -> None:
        path = tuple(message.metadata.delta_path)
        if message.delta.HasField("new_element"):
            self._new[path] = message.delta.new_element
        elif message.delta.HasField("add_block"):
            self._new = {at: e for at, e in self._new.items() if at[: len(path)] != path}

    async def _send(self, message: BackMsg) -> None:
        assert self._socket
        await self._socket.send(message.SerializeToString())

    async def _receive(self) -> ForwardMsg:
        assert self._socket
        message = ForwardMsg()
        data = await self._socket.recv()
        assert isinstance(data, bytes)
        message.ParseFromString(data)
        return message
