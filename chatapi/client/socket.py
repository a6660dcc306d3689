"""One WebSocket, from its handshake up to `ready`, with its frames, to its end."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import Any, Literal, cast

import aiohttp

from chatapi.client.credentials import Credentials
from chatapi.client.envelope import parse_response
from chatapi.client.errors import ApiError, NotChatAPI, parse_error
from chatapi.client.events import ReadyEvent
from chatapi.client.frames import find_number, parse_frame
from chatapi.client.http import Http, read_answer
from chatapi.errors import Code
from chatapi.protocol.json import dumps

logger: logging.Logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 15.0  # from the first byte to `ready`, and for each further part of it
CLOSE_TIMEOUT_S = 2.0  # for the server's half of the goodbye
MAX_FRAME_BYTES = 64 * 1024 * 1024  # an older server names every room in one `ready`: enough for some hundred thousand
UNAUTHENTICATED = 4001  # the close code for a credential that is none, expired or was revoked
HEARTBEAT_S = 30.0  # where `ready` does not say


class SocketEnded(Exception):
    """Ends the tasks that live with one socket. `delay_s`: when to come back, where that is known; `error`: why, where
    it was not the network."""

    def __init__(self, *, delay_s: float | None = None, error: Exception | None = None) -> None:
        super().__init__()
        self.delay_s = delay_s
        self.error = error


class CallAnswer(dict[str, Any]):
    """An answer that is not handed over as an event: its event comes apart from it, if one comes at all."""


class Socket(ABC):
    """A WebSocket, or what stands in for one over HTTP alone."""

    ack_delay_s: float = 0.1  # so that a burst of messages is one ack

    def __init__(self) -> None:
        self.ready: ReadyEvent | None = None
        self.heartbeat_s: float = HEARTBEAT_S
        self.heard_at_s: float = now_s()
        self.refusal: ApiError | None = None  # the newest `error` frame that answered nothing
        self._early: deque[tuple[dict[str, Any], int]] = deque()  # frames that came between the parts of `ready`

    async def receive(self) -> tuple[dict[str, Any], int]:
        """The next frame, and its size in bytes. Raises SocketEnded."""
        return self._early.popleft() if self._early else await self._receive()

    @abstractmethod
    async def _receive(self) -> tuple[dict[str, Any], int]:
        """The next frame, also one that comes between the parts of `ready`."""

    @abstractmethod
    async def send(self, frame: Mapping[str, Any]) -> None:
        """A frame that gets lost with the socket is the sender's to repeat."""

    @abstractmethod
    async def close(self) -> None:
        """Says goodbye, and waits a moment for the server's half of it."""

    @property
    @abstractmethod
    def close_code(self) -> int | None:
        """None while the server has not closed it."""

    async def receive_ready(self, deadline: asyncio.Timeout) -> None:
        """Returns once `ready` and all its parts are there. Raises SocketEnded, ApiError when the server refuses."""
        ready: dict[str, Any] | None = None
        while ready is None or ready.pop("more", False):
            try:
                frame, size_bytes = await self._receive()
            except SocketEnded as ended:
                raise self.find_refusal() or ended from None
            if ready is None:
                if frame["type"] == "ready":
                    ready = frame
                elif frame["type"] == "error":
                    self.refusal = parse_error(frame)
            elif frame["type"] == "ready.rooms":
                ready["rooms"] += frame["rooms"]
                ready["more"] = frame["more"]
            else:
                ready["more"] = True
                self._early.append((frame, size_bytes))
            deadline.reschedule(now_s() + CONNECT_TIMEOUT_S)
        self.ready = cast(ReadyEvent, ready)
        self.heartbeat_s = find_number(ready, "heartbeat_seconds", 0.0) or HEARTBEAT_S

    def find_refusal(self) -> ApiError | None:
        """Why the server did not accept the credential of a socket that has ended, if that was the reason. A close code
        alone could be anybody's, unless it was the server that had said `ready`."""
        if self.close_code != UNAUTHENTICATED:
            return None
        if self.refusal is not None and self.refusal.code is Code.AUTHENTICATION_ERROR:
            return self.refusal
        if self.ready is None:
            return None
        return ApiError(Code.AUTHENTICATION_ERROR, "The server refused the credential")


class WebSocket(Socket):
    def __init__(self, socket: aiohttp.ClientWebSocketResponse[Literal[False]]) -> None:
        super().__init__()
        self._socket = socket

    async def _receive(self) -> tuple[dict[str, Any], int]:
        while True:
            message = await self._socket.receive()
            self.heard_at_s: float = now_s()
            if message.type is aiohttp.WSMsgType.TEXT:
                data = cast(bytes, message.data)
                try:
                    return parse_frame(data), len(data)
                except NotChatAPI as error:
                    raise SocketEnded(error=error) from None
            if message.type is aiohttp.WSMsgType.PING:
                await self._socket.pong(message.data)
            elif message.type is not aiohttp.WSMsgType.PONG:
                raise SocketEnded

    async def send(self, frame: Mapping[str, Any]) -> None:
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

    @property
    def close_code(self) -> int | None:
        return self._socket.close_code


async def open_socket(http: Http, credentials: Credentials) -> Socket:
    """A socket that is `ready`, and gets nothing before it sends `sync`.

    Raises ApiError when the server refuses; NotChatAPI, NoToken, OSError, TimeoutError, aiohttp.ClientError or
    SocketEnded when it does not get that far.
    """
    async with asyncio.timeout(CONNECT_TIMEOUT_S) as deadline:
        try:
            socket = WebSocket(await _dial(http, await credentials.headers()))
        except _Refused as refused:
            raise _judge(refused) from None
        except aiohttp.WSServerHandshakeError as error:  # a 101 that does not open a WebSocket
            raise NotChatAPI(f"the handshake: {error.message}", http_status=error.status) from None
        try:
            await socket.receive_ready(deadline)
        except BaseException:
            await socket.close()
            raise
    return socket


class _Refused(Exception):
    """The answer to a handshake that was not 101."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        super().__init__(response.status)
        self.response = response
        self.body = body


async def _look_at_answer(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """aiohttp's handshake would follow a redirect, credential and all, and drop the body of a refusal unread."""
    response = await handler(request)
    if response.status == 101:
        return response
    async with response:
        raise _Refused(response, await read_answer("the handshake", response))


def _judge(refused: _Refused) -> Exception:
    response = refused.response
    try:
        parse_response("the handshake", response.status, response.headers, refused.body)
    except (ApiError, NotChatAPI) as error:
        return error
    return NotChatAPI(f"the handshake: HTTP {response.status} instead of a WebSocket", http_status=response.status)


async def _dial(http: Http, headers: Mapping[str, str]) -> aiohttp.ClientWebSocketResponse[Literal[False]]:
    return await http.handshake_session(_look_at_answer).ws_connect(
        http.address("/v1/ws", {"sync": "none"}),
        headers=headers,
        protocols=("chatapi.v1",),
        timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
        max_msg_size=MAX_FRAME_BYTES,
        autoping=False,
        decode_text=False,
    )


def now_s() -> float:
    return asyncio.get_running_loop().time()
