"""aiohttp's server with the product's envelope also for what is not even HTTP."""

import asyncio
import logging
from typing import Any, TypeVar, cast

from aiohttp import StreamReader, web
from aiohttp.http import StreamWriter
from aiohttp.web_protocol import _PAYLOAD_ACCESS_ERROR, ERROR, _ErrInfo

from chatapi.admission import Accepted, Admission, Tier
from chatapi.errors import ChatError, Code
from chatapi.memory_watch import LARGE_BYTES, REFUSED_BYTES
from chatapi.peer_transport import PeerTransport
from chatapi.protocol.encoders import encode_error_envelope
from chatapi.rest.call import JSON
from chatapi.rest.edge import MAX_BODY_BYTES, Edge, make_request_id
from chatapi.rest.outflow import SMALL_BYTES, LargeResponse
from chatapi.successor import Successor

KEEPALIVE_SECONDS = 75.0  # longer than the 60 s after which the usual proxies reuse a connection no more
FIRST_POLL_SECONDS, POLL_SECONDS = 0.001, 0.01  # most connections end at once when all is read
END_SECONDS = 0.1  # for handlers to end when all is over
MAX_WAITING_BYTES = 128 * 1024  # of a WebSocket, while frames before them are carried out: above it nothing is read
MAX_LINE_BYTES = 16 * 1024  # of a request: the cursors of an event stream take 8 KiB of it
# For the rest of a body that was answered without an error, or of what is not HTTP: its client writes until it is cut
# off.
PART_SECONDS = 1.0
UNREAD_SECONDS = 30.0  # a client that reads nothing of its response for this long is cut off: it is held in memory

P = TypeVar("P", bound="EnvelopeProtocol")

# Its lines repeat what the client sent, a credential in a malformed header included.
_silent = logging.getLogger("chatapi.malformed")
_silent.propagate = False
_silent.addHandler(logging.NullHandler())


class EnvelopeServer(web.Server):
    def __init__(self, edge: Edge, admission: Admission) -> None:
        super().__init__(edge.handle, request_factory=self._make_bounded_request)
        self.outflow = edge.outflow
        self.admission = admission
        self.max_waiting_bytes = admission.memory.scale(MAX_WAITING_BYTES)
        self._successors: set[Successor] = set()

    def __call__(self) -> "EnvelopeProtocol":
        return self._make_protocol(EnvelopeProtocol)

    def _make_protocol(self, kind: type[P]) -> P:
        return kind(
            self,
            loop=self._loop,
            access_log=None,  # aiohttp's own way to have none: it halves the throughput; the edge has a line of its own
            logger=_silent,
            keepalive_timeout=KEEPALIVE_SECONDS,
            tcp_keepalive=False,  # the listening socket says so for all
            auto_decompress=False,
            max_line_size=MAX_LINE_BYTES,
        )

    async def finish(self) -> None:
        """Returns when all requests are answered, those whose bodies are still arriving included, and the responses are
        read."""
        while any(protocol.is_serving() for protocol in self._list_open()):  # noqa: ASYNC110 - as below
            await asyncio.sleep(POLL_SECONDS)
        for protocol in self._list_open():
            protocol.force_close()
        pause_seconds = FIRST_POLL_SECONDS
        while self.connections or self._successors:  # an event for this would have to be kept by every connection
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, POLL_SECONDS)

    def refuse_bodies(self, error: ChatError) -> None:
        """Answers all requests whose bodies are still arriving."""
        for protocol in self._list_open():
            protocol.refuse_body(error)

    async def end(self) -> None:
        """Ends whatever is left."""
        for protocol in self._list_open():
            protocol.cut_off()
        for successor in self._successors:
            successor.cut_off()
        await self.shutdown(END_SECONDS)
        while self._successors:  # noqa: ASYNC110 - as above; they hear of it in the next turn of the loop
            await asyncio.sleep(FIRST_POLL_SECONDS)

    def adopt(self, successor: Successor, admitted: Accepted) -> None:
        """It takes the place of a connection that was admitted, until it is forgotten."""
        self._successors.add(successor)
        self.admission.replace(admitted, successor)

    def forget(self, successor: Successor) -> None:
        """It is lost."""
        self._successors.discard(successor)
        self.admission.leave(successor)

    def _list_open(self) -> "list[EnvelopeProtocol]":
        return cast("list[EnvelopeProtocol]", self.connections)  # it makes no others

    def _make_bounded_request(
        self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any
    ) -> web.BaseRequest:
        return _Request(message, payload, protocol, writer, task, self._loop, client_max_size=MAX_BODY_BYTES)


class _Request(web.BaseRequest):
    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        """Called when a response's headers are complete. aiohttp's own name and version, and Python's, help attackers
        alone."""
        response.headers.popall("Server", None)


class EnvelopeProtocol(web.RequestHandler):
    """One connection. `tier` is where the admission keeps it."""

    __slots__ = ("_admission", "_body", "_is_parting", "_outflow", "home", "large_response", "opening", "peer", "tier")

    def __init__(self, server: EnvelopeServer, **settings: Any) -> None:
        super().__init__(server, **settings)
        self.home = server
        self._admission = server.admission
        self._outflow = server.outflow
        self._is_parting = False
        self._messages = cast(Any, _Messages())
        self._body: StreamReader | None = None  # of the last request, also once that is answered
        self.tier: Tier | None = None
        self.large_response: LargeResponse | None = None
        self.opening: asyncio.Task[None] | None = None  # a TLS handshake that is under way
        self.peer: PeerTransport | None = None

    # Told by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.peer = PeerTransport(cast(asyncio.Transport, transport), UNREAD_SECONDS)
        cast(asyncio.Transport, transport).set_write_buffer_limits(SMALL_BYTES)
        super().connection_made(transport)
        assert self._task_handler is not None  # it serves the requests of this connection
        self._task_handler.add_done_callback(self._end)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._made_peer.lose()
        self._admission.leave(self)
        task = self._task_handler
        super().connection_lost(exc)
        if task is not None and not self._request_in_progress:
            task.cancel()  # it would wait on for the rest of a body whose request has been answered

    def data_received(self, data: bytes) -> None:
        if len(data) > LARGE_BYTES and self._admission.memory.is_short_of(len(data), REFUSED_BYTES):
            self.cut_off()
            return
        super().data_received(data)
        if self._messages and isinstance(self._messages[-1][0], _ErrInfo):
            self._refuse_broken_body()

    def _refuse_broken_body(self) -> None:
        """The parser has given up within a body, or between requests. A body would never end."""
        content = self._messages[-2][1] if len(self._messages) > 1 else self._body
        if content is not None and not content.is_eof() and content.exception() is None:
            content.set_exception(ChatError(Code.VALIDATION_ERROR, "Malformed HTTP body"))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._made_peer.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._made_peer.resume()

    @property
    def _made_peer(self) -> PeerTransport:
        assert self.peer is not None
        return self.peer

    # Told by aiohttp

    def resume_reading(self, resume_parser: bool = True) -> None:
        """When a body has been read. Nearly always nothing was paused, and the parser has no more to give."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    async def start(self) -> None:
        """Serves the requests of this connection, in its one task. aiohttp's own method makes a task for each request:
        two turns of the loop more, which a client that waits for each answer feels, and 1 KB while a poll waits."""
        while not self._force_close:
            if not self._messages:
                self._waiter = self._loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            if not await self._serve(*self._take_message()):
                break
            self._await_next()
            if self._messages:  # others have their turn: this client may have sent thousands in one go
                await asyncio.sleep(0)
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    def _take_message(self) -> tuple[Any, StreamReader]:
        """The next one, and its body. The parser may go on with those behind it."""
        message, payload = self._messages.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        return message, payload

    async def _serve(self, message: Any, payload: StreamReader) -> bool:
        """Whether the connection may serve another request."""
        handler: Any = self._request_handler
        if isinstance(message, _ErrInfo):
            handler, message = self._make_error_handler(message), ERROR
        writer, task = StreamWriter(self, self._loop), self._task_handler or asyncio.current_task()
        assert self._request_factory is not None
        request = self._request_factory(message, payload, self, writer, cast(Any, task))
        try:
            response, is_gone = await self._respond(request, handler)
            if is_gone:
                return False
            self._keepalive = bool(response.keep_alive)
            if message is ERROR:
                await self._pass_over_all()
            if not payload.is_eof() and not self._force_close:
                await self._pass_over(payload)
            payload.set_exception(_PAYLOAD_ACCESS_ERROR)
        except ConnectionError:
            return False
        except BaseException:
            self.force_close()
            raise
        finally:
            request._task = cast(Any, None)  # else it would hold itself when there was an error
        return self._keepalive and not self._close and not self._force_close

    async def _respond(self, request: Any, handler: Any) -> tuple[web.StreamResponse, bool]:
        """The response, and whether the client had gone before it was sent."""
        self._request_in_progress = True
        self._current_request = request
        self._body = request.content
        self._admission.note_request(self)
        self.large_response = None
        try:
            try:
                response = await handler(request)
            finally:
                self._current_request = None
            return await self.finish_response(request, response, None)
        finally:
            self._request_in_progress = False
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)

    async def _pass_over(self, payload: StreamReader) -> None:
        """The rest of a body that has been answered, for a while: a client that still sends might lose the response."""
        try:
            async with asyncio.timeout(self._lingering_time):
                while not payload.is_eof():
                    await payload.readany()
        except (TimeoutError, web.RequestPayloadError, ChatError):  # too long, or not HTTP any more
            self.close()

    async def _pass_over_all(self) -> None:
        """The rest of a head that is far too long, or whatever else is not HTTP: for the same reason."""
        self.close()
        self._made_peer.cut_off_later(PART_SECONDS)
        await self._made_peer.close_gently()

    def _await_next(self) -> None:
        """One timer serves all requests of a connection: when it is due, it looks whether there was another one."""
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)

    # Connections of the hub

    def hand_over(self) -> PeerTransport:
        """To a connection, which judges its peer itself."""
        self._made_peer.release()
        self._admission.note_websocket(self)
        return self._made_peer

    def give_way(self, successor: Successor) -> None:
        """From here on the transport is the successor's. aiohttp is told that the connection is lost, and lets go of
        everything when the request that was served ends. Raises ConnectionResetError if the client is gone."""
        transport, early = self._take_transport()
        self.home.adopt(successor, self)
        transport.set_protocol(successor)
        self.transport = None  # else it would be closed
        super().connection_lost(None)
        self._pass_on(transport, early, successor)

    def _take_transport(self) -> tuple[asyncio.Transport, bytes]:
        """And what has come behind the request. Raises ConnectionResetError if the client is gone."""
        if self.transport is None:
            raise ConnectionResetError("The client is gone")
        early, self._message_tail = self._message_tail, b""
        return self.transport, early

    def _pass_on(self, transport: asyncio.Transport, early: bytes, successor: Successor) -> None:
        if early:
            successor.data_received(early)
        if self._buffer_paused:  # aiohttp has taken in no more
            transport.resume_reading()

    def ignore_input(self, heard: "asyncio.Future[None]") -> None:
        """The client has nothing more to say: `heard` is completed by the first bytes that still come, or by an end of
        file, and later ones are dropped."""
        super().set_parser(cast(Any, _Ignored(heard)))

    def part_from_body(self) -> None:
        """The response comes before the end of the body, and tells of success."""
        self._lingering_time = PART_SECONDS

    def part(self) -> PeerTransport:
        """All is said: only the peer's goodbye is waited for."""
        self._is_parting = True
        return self._made_peer

    # Asked by the admission, and at the end

    def is_serving(self) -> bool:
        """From a request's head until its response is written, and while requests wait behind it."""
        return self._request_in_progress or bool(self._messages)

    def is_unused(self) -> bool:
        if self.peer is None:
            return self.opening is not None  # its TLS handshake may be cut off; all others are made at once
        if self.transport is None:
            return True  # it is closing
        return not self.is_serving() and not self.transport.get_write_buffer_size()

    def is_waited_for(self) -> bool:
        return not self.is_serving() or self._is_parting or self._awaits_body() or self._made_peer.is_paused

    def refuse_body(self, error: ChatError) -> None:
        if self._awaits_body():
            assert self._current_request is not None
            self._current_request.content.set_exception(error)

    def count_held(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def cut_off(self) -> None:
        if self.opening is not None:
            self.opening.cancel()
        if self.peer is not None:
            self.peer.cut_off()

    def _awaits_body(self) -> bool:
        return self._current_request is not None and not self._current_request.content.is_eof()

    def _end(self, _task: object) -> None:
        """No more is served; a transport that closes still waits for its peer to read the rest."""
        self._made_peer.look_for_stall()

    async def _drain_helper(self) -> None:
        """Waits while much is unread; a large response counts meanwhile. aiohttp's own way leaves an error that holds
        itself, and with it the response, when the peer has gone: a megabyte each, until the collector looks at what is
        old, days later."""
        large, self.large_response = self.large_response, None
        if large is not None:
            self._outflow.begin(*large)
        try:
            while self._paused and self.transport is not None:
                await self._made_peer.wait_for_space(UNREAD_SECONDS)
        finally:
            if large is not None:
                self._outflow.end(*large)
        if self.transport is None:
            raise ConnectionResetError("The client is gone")

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The response to bytes that the parser refused; the connection closes after it."""
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


class _Messages(list[Any]):
    """The requests that have come and wait: nearly always none, or one. aiohttp's deque takes 0.7 KB each time."""

    def popleft(self) -> Any:
        return self.pop(0)


class _Ignored:
    """A parser that takes nothing apart."""

    def __init__(self, heard: "asyncio.Future[None]") -> None:
        self._heard = heard

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.feed_eof()
        return False, b""

    def feed_eof(self) -> None:
        if not self._heard.done():
            self._heard.set_result(None)
