"""aiohttp's server with the product's envelope also for what is not even HTTP."""

import asyncio
import logging
from typing import Any

from aiohttp import web

from chatapi.errors import ChatError, Code
from chatapi.protocol.replies import encode_error_envelope
from chatapi.rest.call import JSON
from chatapi.rest.edge import MAX_BODY_BYTES, Edge, make_request_id

KEEPALIVE_SECONDS = 75.0  # longer than the 60 s after which the usual proxies reuse a connection no more
UNREAD_SECONDS = 30.0  # a client that reads nothing of its answer for this long is cut off: it is held in memory

# Its lines repeat what the client sent, a credential in a malformed header included.
_silent = logging.getLogger("chatapi.malformed")
_silent.propagate = False
_silent.addHandler(logging.NullHandler())


class EnvelopeServer(web.Server):
    def __init__(self, edge: Edge) -> None:
        super().__init__(edge.handle, request_factory=self._make_bounded_request)

    def __call__(self) -> web.RequestHandler:
        return _EnvelopeProtocol(
            self,
            loop=self._loop,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own way to have none: it halves the throughput; the edge has a line of its own
            logger=_silent,
            keepalive_timeout=KEEPALIVE_SECONDS,
            auto_decompress=False,
        )

    def _make_bounded_request(
        self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any
    ) -> web.BaseRequest:
        return _Request(message, payload, protocol, writer, task, self._loop, client_max_size=MAX_BODY_BYTES)


class _Request(web.BaseRequest):
    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        """Called when an answer's headers are complete. aiohttp's own name and version, and Python's, help attackers
        alone."""
        response.headers.popall("Server", None)


class _EnvelopeProtocol(web.RequestHandler):
    __slots__ = ("_unread_check",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._unread_check: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_checking()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Much is unread. A WebSocket has bounds and a grace of its own (`Hub`, `Recovery`)."""
        super().pause_writing()
        if not self._upgraded:
            self._check_later()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_checking()

    def _check_later(self) -> None:
        assert self.transport is not None  # it is being written to
        unread = self.transport.get_write_buffer_size()
        self._unread_check = self._loop.call_later(UNREAD_SECONDS, self._check_progress, unread)

    def _check_progress(self, before: int) -> None:
        assert self.transport is not None  # connection_lost stops the checks
        if self.transport.get_write_buffer_size() >= before:
            self.transport.abort()
        else:
            self._check_later()

    def _stop_checking(self) -> None:
        if self._unread_check is not None:
            self._unread_check.cancel()
            self._unread_check = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What the parser refused: the connection closes after the answer."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun")
        if status >= 500:
            error = ChatError(Code.INTERNAL_ERROR, "Internal error", status=status)
        else:
            error = ChatError(Code.VALIDATION_ERROR, "Malformed HTTP request", status=status)
        headers = {"Content-Type": JSON, "X-Request-Id": make_request_id()}
        response = web.Response(status=status, body=encode_error_envelope(error), headers=headers)
        response.force_close()
        return response
