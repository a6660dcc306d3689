"""Chooses what carries the connection: a WebSocket, and where none passes Server-Sent Events, then long polls."""

import asyncio
from typing import TYPE_CHECKING

import aiohttp

from chatapi.client.attempts import PASSING_STATUSES
from chatapi.client.credentials import Credentials
from chatapi.client.errors import ApiError, NoAnswer, NoToken
from chatapi.client.event_stream import open_stream
from chatapi.client.http import MAX_HOPS, Http
from chatapi.client.options import Options, Transport
from chatapi.client.poll_socket import open_poll
from chatapi.client.socket import Socket, SocketEnded, open_socket

if TYPE_CHECKING:
    from chatapi.client.api import ChatAPI

FAILED_UPGRADES = 3  # in a row, REST answering after each; then the next transport is tried
FAILED_STREAMS = 1
REST_TIMEOUT_S = 5.0


class Carrier:
    def __init__(self, client: "ChatAPI", http: Http, credentials: Credentials, options: Options) -> None:
        self._client = client
        self._http = http
        self._credentials = credentials
        self._options = options
        self._transports = options.transports
        self._at = 0
        self._failed = 0

    @property
    def transport(self) -> Transport:
        return self._transports[self._at]

    async def open(self) -> Socket:
        """Raises as `open_socket`."""
        try:
            socket = await self._open_where_served()
        except (ApiError, NoAnswer, SocketEnded, aiohttp.ClientError, OSError, TimeoutError) as error:
            await self._note_failure(error)
            raise
        self._failed = 0
        return socket

    async def _open_where_served(self) -> Socket:
        hops = 0
        while True:
            asked = self._http.base
            try:
                return await self._open(self.transport)
            except ApiError as error:
                if self.transport == "poll":
                    raise  # its calls have followed by themselves
                if hops == MAX_HOPS or not self._http.follow(error, asked):
                    raise
                hops += 1

    def move_to(self, url: object) -> bool:
        """The next socket is opened at this server, if it may be. The server's word for it was its goodbye."""
        return self._http.move_to(url)

    async def _open(self, transport: Transport) -> Socket:
        if transport == "sse":
            return await open_stream(self._client, self._http, self._credentials)
        if transport == "poll":
            return await open_poll(self._client, self._credentials)
        return await open_socket(self._http, self._credentials)

    async def _note_failure(self, error: Exception) -> None:
        is_refusal = isinstance(error, ApiError) and error.status not in PASSING_STATUSES
        if len(self._transports) == 1 or is_refusal or isinstance(error, NoToken):
            return  # the server refuses, or was not asked, whatever carries it
        if not await self._has_rest():  # the server is away, or restarts: this is not the transport's fault
            self._at = self._failed = 0
            return
        self._failed += 1
        if self._failed == (FAILED_UPGRADES if self.transport == "websocket" else FAILED_STREAMS):
            self._at = (self._at + 1) % len(self._transports)
            self._failed = 0

    async def _has_rest(self) -> bool:
        try:
            async with asyncio.timeout(REST_TIMEOUT_S):
                await self._client.livez()
        except (ApiError, NoAnswer, TimeoutError):
            return False
        return True

    async def return_to_websocket(self) -> None:
        """Looks after twice the longest delay of a reconnect, again and again. Raises SocketEnded once a WebSocket
        comes up, so that the next socket is one."""
        if self._at == 0 or self._transports[0] != "websocket":
            return
        while True:
            await asyncio.sleep(2 * self._options.max_delay_s)
            try:
                socket = await self._open(self._transports[0])
            except (ApiError, NoAnswer, SocketEnded, aiohttp.ClientError, OSError, TimeoutError):
                continue
            await socket.close()
            self._at = 0
            raise SocketEnded(delay_s=0.0)
