"""The thinnest client there is: one HTTP call, one WebSocket, and one exception for a server that is not there."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp

CALL_SECONDS = 45.0  # an answer that takes longer is a fault of the server, unless it was killed
PIPE_TIMEOUT = aiohttp.ClientTimeout(total=60.0)  # likewise, for a body that takes a second or two
NO_TIMEOUT = aiohttp.ClientTimeout(total=None)
MAX_FRAME_BYTES = 2**20  # of an event stream: of twice that much a line may be
CLOSING = aiohttp.ClientWSTimeout(ws_close=2.0)
SMALL_RECEIVE_BYTES = 8 * 1024  # of a client that does not hide behind the kernel's buffers when it stops reading


class Unreachable(Exception):
    """The server went away: whether it did what was asked is not known."""


@dataclass(slots=True)
class Reply:
    status: int
    data: Any
    code: str | None
    details: Any = None


class EventSource:
    """The frames of a connection that came as Server-Sent Events."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def receive(self) -> str | None:
        """The next frame's text, or None at the end."""
        try:
            while line := await self._response.content.readline():
                if line.startswith(b"data: "):
                    return line[6:].decode().rstrip("\n") if line.endswith(b"\n") else None
        except (aiohttp.ClientError, OSError):
            pass
        return None

    def close(self) -> None:
        self._response.close()


Source = aiohttp.ClientWebSocketResponse | EventSource


class Wire:
    """One tenant's connections to the server."""

    def __init__(self, url: str, api_key: str) -> None:
        self._url = url
        self._api_key = api_key
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS)
        # A connection per call: on a kept one aiohttp would repeat a PUT by itself, and hide that from the journal.
        self._calls = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True), timeout=timeout)
        self._sockets = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=_make_socket), timeout=timeout
        )

    async def close(self) -> None:
        await self._calls.close()
        await self._sockets.close()

    async def call(self, user_id: str, method: str, path: str, body: object = None, **params: object) -> Reply:
        """Raises Unreachable."""
        headers, data = {}, None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        query = {name: str(value) for name, value in params.items()}
        return await self._request(user_id, method, path, data=data, headers=headers, params=query)

    async def pipe(self, user_id: str, path: str, body: AsyncIterator[bytes], headers: dict[str, str]) -> Reply:
        """Whatever the body takes. Raises Unreachable."""
        return await self._request(user_id, "PUT", path, data=body, headers=headers, timeout=PIPE_TIMEOUT)

    async def _request(self, user_id: str, method: str, path: str, *, headers: dict[str, str], **options: Any) -> Reply:
        headers = {**self._headers(user_id), **headers}
        try:
            async with self._calls.request(method, self._url + path, headers=headers, **options) as response:
                text = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable from error
        envelope = json.loads(text) if text else {"data": None, "error": None}
        error = envelope["error"] or {}
        return Reply(response.status, envelope["data"], error.get("code"), error.get("details"))

    async def connect(self, user_id: str, **params: str) -> aiohttp.ClientWebSocketResponse:
        """Raises Unreachable."""
        try:
            return await self._sockets.ws_connect(
                f"{self._url}/ws", headers=self._headers(user_id), params=params, max_msg_size=0, timeout=CLOSING
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable from error

    async def listen(self, user_id: str, **params: str) -> EventSource:
        """Raises Unreachable."""
        headers = self._headers(user_id)
        url = f"{self._url}/events/stream"
        try:
            response = await self._sockets.get(
                url, headers=headers, params=params, timeout=NO_TIMEOUT, read_bufsize=MAX_FRAME_BYTES
            )
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable from error
        if response.status != 200:
            response.close()
            assert response.status in (403, 429, 503), response  # banned, too many, or it shuts down
            raise Unreachable
        return EventSource(response)

    def _headers(self, user_id: str) -> dict[str, str]:
        return {"X-API-Key": self._api_key, "X-User-Id": user_id}


async def send(websocket: aiohttp.ClientWebSocketResponse, frame: dict[str, Any]) -> None:
    """Raises Unreachable."""
    try:
        async with asyncio.timeout(CALL_SECONDS):
            await websocket.send_str(json.dumps(frame))
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unreachable from error


async def receive(source: Source) -> str | None:
    """The next frame's text, or None at the end of the connection."""
    if isinstance(source, EventSource):
        return await source.receive()
    message = await source.receive()
    return str(message.data) if message.type is aiohttp.WSMsgType.TEXT else None


async def hang_up(source: Source, *, politely: bool) -> None:
    """Ends a connection, with the closing handshake, if it has one, or as a lost network does."""
    if isinstance(source, EventSource):
        source.close()
        return
    if not politely and (connected := source.get_extra_info("socket")) is not None:
        with suppress(OSError):  # it is closed already
            connected.shutdown(socket.SHUT_RDWR)
    await source.close()


def _make_socket(address: Any) -> socket.socket:
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_RECEIVE_BYTES)
    made.setblocking(False)
    return made
