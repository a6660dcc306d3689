"""aiohttp's server with the product's envelope also for what is not even HTTP."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web

from chatapi.errors import ChatError, Code
from chatapi.link import Link
from chatapi.protocol.frame_check import FrameCheck
from chatapi.protocol.replies import encode_error_envelope
from chatapi.rest.call import JSON
from chatapi.rest.edge import MAX_BODY_BYTES, OWNER, Edge, count_bytes, make_request_id
from chatapi.rest.outflow import SMALL_BYTES

KEEPALIVE_SECONDS = 75.0  # longer than the 60 s after which the usual proxies reuse a connection no more
UNREAD_SECONDS = 30.0  # a client that reads nothing of its answer for this long is cut off: it is held in memory

# Its lines repeat what the client sent, a credential in a malformed header included.
_silent = logging.getLogger("chatapi.malformed")
_silent.propagate = False
_silent.addHandler(logging.NullHandler())


class EnvelopeServer(web.Server):
    def __init__(self, edge: Edge) -> None:
        super().__init__(edge.handle, request_factory=self._make_bounded_request)
        self.outflow = edge.outflow

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
    __slots__ = ("link",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.link = Link(cast(asyncio.Transport, transport), UNREAD_SECONDS)
        cast(asyncio.Transport, transport).set_write_buffer_limits(SMALL_BYTES)
        super().connection_made(transport)
        assert self._task_handler is not None  # it serves the requests of this connection
        self._task_handler.add_done_callback(self._end)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.link.lose()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.link.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.link.resume()

    def set_parser(self, parser: Any, data_received_cb: Callable[[], None] | None = None) -> None:
        """From here on it is a WebSocket."""
        super().set_parser(cast(Any, FrameCheck(parser)), data_received_cb)

    def _end(self, _task: object) -> None:
        """No more is served; a transport that closes still waits for its peer to read the rest."""
        self.link.look_for_stall()

    async def _drain_helper(self) -> None:
        """Waits while much is unread. aiohttp's own way leaves an error that holds itself, and with it the answer, when
        the peer has gone: a megabyte each, until the collector looks at what is old, days later."""
        while self._paused and self.transport is not None:
            await self.link.wait_for_room(UNREAD_SECONDS)
        if self.transport is None:
            raise ConnectionResetError("The client is gone")

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Returns when the peer has taken most of it. A large answer counts meanwhile."""
        if not len(request):  # no state: a large one has its owner
            return await super().finish_response(request, resp, start_time)
        owner, size = request[OWNER], count_bytes(resp)
        outflow = cast(EnvelopeServer, self._manager).outflow
        outflow.begin(owner, size)
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            outflow.end(owner, size)

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
