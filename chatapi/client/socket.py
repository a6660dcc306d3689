"""One WebSocket: its handshake up to `ready`, frames, and its end."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Literal, cast

import aiohttp

from chatapi.client.errors import ApiError, parse_error
from chatapi.client.events import ReadyEvent
from chatapi.client.http import Credentials, Http, parse_retry_after
from chatapi.protocol.json import dumps, loads_stored

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 15.0  # from the first byte to `ready`
CLOSE_TIMEOUT_S = 2.0  # for the server's half of the goodbye
MAX_FRAME_BYTES = 64 * 1024 * 1024  # `ready` names every room of the user: room for some hundred thousand
UNAUTHENTICATED = 4001  # the close code for a credential that is none, expired or was revoked


class SocketEnded(Exception):
    """Ends the tasks that live with one socket. `delay_s`: when to come back, where that is known."""

    def __init__(self, delay_s: float | None = None) -> None:
        super().__init__()
        self.delay_s = delay_s


class Socket:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse[Literal[False]]) -> None:
        self._socket = socket
        self.ready: ReadyEvent
        self.heard_at_s = now_s()
        self.refusal: ApiError | None = None  # the newest `error` frame that answered nothing

    async def receive(self) -> bytes:
        """The next frame. Raises SocketEnded."""
        while True:
            message = await self._socket.receive()
            self.heard_at_s = now_s()
            if message.type is aiohttp.WSMsgType.TEXT:
                return cast(bytes, message.data)
            if message.type is aiohttp.WSMsgType.PING:
                await self._socket.pong(message.data)
            elif message.type is not aiohttp.WSMsgType.PONG:
                raise SocketEnded

    async def send(self, frame: Mapping[str, Any]) -> None:
        """A frame that gets lost with the socket is the sender's to repeat."""
        try:
            await self._socket.send_frame(dumps(frame), aiohttp.WSMsgType.TEXT)
        except (aiohttp.ClientError, OSError):
            logger.debug("frame lost with its socket", extra={"frame": frame["type"]})

    async def close(self) -> None:
        try:
            async with asyncio.timeout(2 * CLOSE_TIMEOUT_S):
                await self._socket.close()
        except (aiohttp.ClientError, OSError, TimeoutError):
            logger.debug("socket ended without a goodbye")

    def find_refusal(self) -> ApiError | None:
        """Of a socket that has ended: why the server does not accept its credential (any more), if that was it."""
        if self._socket.close_code != UNAUTHENTICATED:
            return None
        return self.refusal or parse_error({"message": "The server refused the credential"}, status=401)


async def open_socket(http: Http, credentials: Credentials) -> Socket:
    """A socket that is `ready`, and gets nothing before it sends `sync`.

    Raises ApiError when the server refuses, OSError, TimeoutError, aiohttp.ClientError or SocketEnded when it does not
    get that far.
    """
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        try:
            socket = Socket(await _dial(http, await credentials.headers()))
        except aiohttp.WSServerHandshakeError as error:
            raise parse_error(
                {"message": f"The server refused the connection: HTTP {error.status} {error.message}"},
                status=error.status,
                retry_after_s=parse_retry_after(error.headers),
            ) from error
        try:
            await _receive_ready(socket)
        except BaseException:
            await socket.close()
            raise
    return socket


async def _dial(http: Http, headers: Mapping[str, str]) -> aiohttp.ClientWebSocketResponse[Literal[False]]:
    return await http.session().ws_connect(
        http.address("/v1/ws", {"sync": "none"}),
        headers=headers,
        protocols=("chatapi.v1",),
        timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
        max_msg_size=MAX_FRAME_BYTES,
        autoping=False,
        decode_text=False,
    )


async def _receive_ready(socket: Socket) -> None:
    while True:
        try:
            frame = loads_stored(await socket.receive())
        except SocketEnded:
            if (refusal := socket.find_refusal()) is not None:
                raise refusal from None
            raise
        if frame["type"] == "ready":
            socket.ready = cast(ReadyEvent, frame)
            return
        if frame["type"] == "error":
            socket.refusal = parse_error(frame)


def now_s() -> float:
    return asyncio.get_running_loop().time()
