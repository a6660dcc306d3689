"""A connection over Server-Sent Events: frames come in one response that does not end."""

import asyncio
import base64
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import aiohttp

from chatapi.client.credentials import Credentials
from chatapi.client.envelope import parse_response
from chatapi.client.errors import NotChatAPI
from chatapi.client.frames import parse_frame
from chatapi.client.http import Http, read_answer
from chatapi.client.http_socket import HttpSocket, Json
from chatapi.client.socket import CONNECT_TIMEOUT_S, MAX_FRAME_BYTES, SocketEnded
from chatapi.protocol.json import dumps

if TYPE_CHECKING:
    from chatapi.client.api import ChatAPI

MAX_CURSORS_BYTES = 6000  # of JSON: 8,000 characters of base64, of which the server takes 8 KiB
_PATH = "/v1/events/stream"


class StreamSocket(HttpSocket):
    def __init__(self, client: "ChatAPI", http: Http, credentials: Credentials) -> None:
        super().__init__(client)
        self._http = http
        self._credentials = credentials
        self._sync: Json = {}
        self._is_begun = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Raises ApiError, NotChatAPI, or what aiohttp raises."""
        await self._read_anew(await self._dial(None))

    async def _dial(self, cursors: Json | None) -> "_EventReader":
        text = None if cursors is None else base64.urlsafe_b64encode(_cut(cursors)).decode()
        response = await self._http.session().get(
            self._http.address(_PATH, {"cursors": text}),
            headers=await self._credentials.headers(),
            allow_redirects=False,
            raise_for_status=False,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        if response.status != 200 or response.content_type != "text/event-stream":
            async with response:
                body = await read_answer("the event stream", response)
            parse_response("the event stream", response.status, response.headers, body)
            raise NotChatAPI("the event stream: another answer", http_status=response.status)
        return _EventReader(response)

    async def _read_anew(self, events: "_EventReader", *, skips_ready: bool = False) -> None:
        if self._reader is not None:
            self._reader.cancel()
        task = asyncio.create_task(self._guard(self._read(events, skips_ready=skips_ready)))
        self._reader = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, events: "_EventReader", *, skips_ready: bool) -> None:
        async with AsyncExitStack() as stack:
            stack.callback(events.close)
            is_ready = skips_ready
            while True:
                frame, size_bytes = await self._next_frame(events)
                if frame["type"] in ("ready", "ready.rooms"):
                    is_ready = True
                    if not skips_ready:
                        await self.put(frame, size_bytes)
                    continue
                if is_ready:  # a newer server may send frames before
                    await self._is_begun.wait()
                if frame["type"] == "sync.complete" and "request_id" in self._sync:
                    frame["request_id"] = self._sync.pop("request_id")
                if frame["type"] == "close":
                    self._close_code = frame.get("code")
                    raise SocketEnded
                if frame["type"] == "error" and frame.get("field", "").startswith("rooms."):
                    frame["request_id"] = self._sync.get("request_id")
                await self.put(frame, size_bytes)

    async def _next_frame(self, events: "_EventReader") -> tuple[Json, int]:
        while True:
            try:
                event = await events.next()
            except (aiohttp.ClientError, OSError):
                raise SocketEnded from None
            self.heard()
            if event.startswith(b"data: "):
                try:
                    return parse_frame(event[6:]), len(event)
                except NotChatAPI as error:
                    raise SocketEnded(error=error) from None

    def begin(self, sync: Json) -> None:
        assert self.ready is not None  # `sync` answers it
        self._sync = sync
        if sync["rooms"] or sync.get("epoch", self.ready["epoch"]) != self.ready["epoch"]:
            self.run(self._begin_at(sync))  # elsewhere than at `last_ack`, where this stream began
        else:
            self._is_begun.set()

    async def _begin_at(self, cursors: Json) -> None:
        try:
            events = await self._dial(cursors)
        except (aiohttp.ClientError, OSError, TimeoutError):
            raise SocketEnded from None
        await self._read_anew(events, skips_ready=True)
        self._is_begun.set()

    async def follow(self, room_id: str, last_seq: int) -> None:
        rooms = self._sync.setdefault("rooms", {})
        rooms[room_id] = last_seq
        await self._begin_at({"type": "sync", "rooms": dict(rooms)})


def _cut(sync: Json) -> bytes:
    """As many rooms as fit into an address: events of the others come twice, or show as a gap, and either heals."""
    fields = {name: value for name, value in sync.items() if name in ("type", "epoch")}
    size, rooms = 200, {}
    for room_id, seq in sync["rooms"].items():
        size += len(dumps(room_id)) + 20
        if size > MAX_CURSORS_BYTES:
            break
        rooms[room_id] = seq
    return dumps({**fields, "rooms": rooms})


class _EventReader:
    """Splits the bytes of a response into events."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._rest = b""
        self._events: list[bytes] = []

    async def next(self) -> bytes:
        """Raises SocketEnded at the end, aiohttp.ClientError."""
        while not self._events:
            chunk = await self._response.content.readany()
            if not chunk or len(self._rest) > MAX_FRAME_BYTES:
                raise SocketEnded
            *events, self._rest = (self._rest + chunk).split(b"\n\n")
            # Each has one line of data; a `retry:` may come before it.
            self._events = [line for event in events for line in event.split(b"\n")][::-1]
        return self._events.pop()

    def close(self) -> None:
        self._response.close()


async def open_stream(client: "ChatAPI", http: Http, credentials: Credentials) -> StreamSocket:
    """As `open_socket`."""
    socket = StreamSocket(client, http, credentials)
    async with asyncio.timeout(CONNECT_TIMEOUT_S) as deadline:
        try:
            await socket.open()
            await socket.receive_ready(deadline)
        except BaseException:
            await socket.close()
            raise
    return socket
