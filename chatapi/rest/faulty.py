"""Where faults strike requests and connections: the edge, the server and the transport that take the place of the usual
ones in `serve --dev` and `serve --test`. See `chatapi.faults`."""

import asyncio
import random
import re
from collections import deque
from collections.abc import Iterable
from typing import Any, cast

from aiohttp import web
from aiohttp.web_response import REASON_PHRASES

from chatapi.admission import Admission
from chatapi.callers import Headers, add_cors_headers, find_claimed_user, is_preflight
from chatapi.connection import TransportKind
from chatapi.faults import Faults
from chatapi.protocol.json import loads_stored
from chatapi.protocol.wire import FIN_TEXT, count_bytes, split_frames
from chatapi.rest.call import RawRoute, Route
from chatapi.rest.edge import SWITCHED, Edge, take_request_id
from chatapi.rest.server import EnvelopeProtocol, EnvelopeServer
from chatapi.services import Services
from chatapi.successor import Successor

# The operator's routes, pages and documents, by the first step of their paths: faults are for clients of the chat, and
# somebody has to be able to end them.
SPARED = frozenset(
    ("", "dev", "admin", "playground", "sdk", "health", "livez", "readyz", "metrics", "openapi.json", "asyncapi.json")
)
_FIRST_STEP = re.compile(r"/(?:v1(?=/|$)/?)?([^/]*)")
# These store no more than a cursor or a credential: SDKs send them by themselves, and no user would miss them.
_NO_WRITES = re.compile(r"(?:/v1)?/(?:acks|sync|tokens|ws/token|rooms/[^/]+/read|notifications/[^/]+/ack)")
_CONFIRMATIONS = ("message.sent", "message.appended")  # sent to the writer alone
_EVENTS = ("message.", "reaction.")  # frames of these types confirm a write if they have a `request_id`


class FaultyEdge(Edge):
    def __init__(
        self, services: Services, routes: tuple[Route, ...], raw_routes: tuple[RawRoute, ...], faults: Faults
    ) -> None:
        super().__init__(services, routes, raw_routes)
        self._faults = faults

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        protocol = cast(FaultyProtocol, request.protocol)
        protocol.is_spared = _is_spared(request)
        if protocol.is_spared:
            return await super().handle(request)
        protocol.user_id = find_claimed_user(self._services, request)
        protocol.is_running = True
        try:
            response = await self._handle_struck(request, protocol)
            if (response.status == SWITCHED or protocol.is_connection) and protocol.peer is not None:
                await protocol.peer.wait_until_lost()  # else aiohttp would close the transport
            return response
        finally:
            protocol.is_running = False

    async def _handle_struck(self, request: web.BaseRequest, protocol: "FaultyProtocol") -> web.StreamResponse:
        faults, user_id = self._faults, protocol.user_id
        await faults.outlast_stall(user_id)
        if (refusal := self._make_refusal(request, user_id)) is not None:
            return refusal
        response = await super().handle(request)
        if response.status < 300 and _is_write(request) and faults.may_lose(user_id):
            faults.count_lost()
            protocol.cut_off()
            raise ConnectionResetError("a fault: the answer is lost")
        return response

    def _make_refusal(self, request: web.BaseRequest, user_id: str | None) -> web.Response | None:
        if is_preflight(request) and not self._faults.speaks_html:
            return None
        error = self._faults.pick_error(user_id)
        if error is None:
            return None
        if self._faults.speaks_html:
            title = f"{error.status} {REASON_PHRASES.get(error.status, 'Error')}"
            page = f"<!doctype html>\n<title>{title}</title>\n<h1>{title}</h1>\n"
            return web.Response(status=error.status, text=page, content_type="text/html")
        headers: Headers = {"X-Request-Id": take_request_id(request)}
        add_cors_headers(self._services.origins, request, headers)
        return self._refuse(error, headers)


def _is_spared(request: web.BaseRequest) -> bool:
    step = _FIRST_STEP.match(request.rel_url.raw_path)
    return step is not None and step[1] in SPARED


def _is_write(request: web.BaseRequest) -> bool:
    return request.method in ("POST", "PUT", "PATCH", "DELETE") and not _NO_WRITES.fullmatch(request.rel_url.raw_path)


class FaultyServer(EnvelopeServer):
    def __init__(self, edge: Edge, admission: Admission, faults: Faults) -> None:
        super().__init__(edge, admission)
        self.faults = faults
        faults.cut, faults.renew = self._cut, self._renew

    def __call__(self) -> "FaultyProtocol":
        return self._make_protocol(FaultyProtocol)

    def _cut(self, share: float) -> int:
        struck = [protocol for protocol in self._list_faulty() if protocol.is_struck()]
        # At least one: half of one connection is it.
        chosen = random.sample(struck, min(len(struck), max(1, round(share * len(struck)))))
        for protocol in chosen:
            protocol.cut_off()
        return len(chosen)

    def _renew(self) -> None:
        for protocol in self._list_faulty():
            protocol.renew()

    def _list_faulty(self) -> "list[FaultyProtocol]":
        return cast("list[FaultyProtocol]", self.connections)


class FaultyProtocol(EnvelopeProtocol):
    """One connection. `user_id` is whom its latest request came from."""

    __slots__ = (
        "_holds_much",
        "_is_kernel_full",
        "_successor",
        "faults",
        "is_connection",
        "is_running",
        "is_spared",
        "is_websocket",
        "user_id",
    )

    def __init__(self, server: FaultyServer, **settings: Any) -> None:
        super().__init__(server, **settings)
        self.faults = server.faults
        self._is_kernel_full = False
        self._holds_much = False
        self._successor: Successor | None = None
        self.user_id: str | None = None
        self.is_spared = False  # by its latest request
        self.is_connection = False  # of the hub: no request comes any more
        self.is_running = False  # a request that is not spared
        self.is_websocket = False

    def is_struck(self) -> bool:
        """Only while it has something to do: the operator's next request may come over one that is idle."""
        is_used = self.is_connection or self.is_running or self._holds()
        return is_used and self.faults.strikes(self.user_id)

    def _holds(self) -> bool:
        return isinstance(self.transport, FaultyTransport) and self.transport.holds_any

    def renew(self) -> None:
        if isinstance(self.transport, FaultyTransport):
            self.transport.renew(is_stalled=self.is_connection and self.faults.is_stalled(self.user_id))

    # Told by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(FaultyTransport(cast(asyncio.Transport, transport), self, self.faults))

    def connection_lost(self, exc: BaseException | None) -> None:
        if isinstance(self.transport, FaultyTransport):
            self.transport.forget()
        super().connection_lost(exc)
        if self._successor is not None:
            self._successor.connection_lost(cast(Exception | None, exc))

    def data_received(self, data: bytes) -> None:
        if self._successor is None:
            super().data_received(data)
        else:
            self._successor.data_received(data)

    def pause_writing(self) -> None:
        self._is_kernel_full = True
        self._tell_peer()

    def resume_writing(self) -> None:
        self._is_kernel_full = False
        self._tell_peer()

    def note_held(self, *, holds_much: bool) -> None:
        """As `pause_writing` and `resume_writing`, for bytes that a fault holds back."""
        self._holds_much = holds_much
        self._tell_peer()

    def _tell_peer(self) -> None:
        if (self._is_kernel_full or self._holds_much) is not self._paused:
            if self._paused:
                super().resume_writing()
            else:
                super().pause_writing()

    # Told by the edge

    def hand_over(self) -> Any:
        self.is_connection = True
        return super().hand_over()

    def give_way(self, successor: Successor) -> None:
        """It stays between the transport and the successor, so that faults find it."""
        transport, early = self._take_transport()
        self.is_websocket = successor.kind is TransportKind.WEBSOCKET
        self.home.adopt(successor, self)
        self._successor = successor
        self._pass_on(transport, early, successor)


class FaultyTransport(asyncio.Transport):
    """Gives everything that is written to the transport beneath, later if a fault holds it back, in the same order."""

    def __init__(self, beneath: asyncio.Transport, protocol: FaultyProtocol, faults: Faults) -> None:
        super().__init__()
        self._beneath = beneath
        self._protocol = protocol
        self._faults = faults
        self._loop = asyncio.get_running_loop()
        self._held: deque[tuple[float, bytes]] = deque()  # when each is due, in the loop's time
        self._held_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_closing = False  # once what is held is written
        self._wants_eof = False  # likewise
        self._is_stalled = False
        self._wants_to_read = True

    # Faults

    @property
    def holds_any(self) -> bool:
        return bool(self._held)

    def renew(self, *, is_stalled: bool) -> None:
        """After a change of the faults: it writes everything that it held, and reads on or stops."""
        self._write_until(float("inf"))
        self._is_stalled = is_stalled
        if self.is_closing():
            return
        if is_stalled:
            self._beneath.pause_reading()
        elif self._wants_to_read:
            self._beneath.resume_reading()

    def forget(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._held.clear()
        self._held_bytes = 0

    def _hold(self, data: bytes, seconds: float) -> None:
        due_s = self._loop.time() + seconds
        self._held.append((due_s, data))
        self._held_bytes += len(data)
        if self._held_bytes > self._beneath.get_write_buffer_limits()[1]:
            self._protocol.note_held(holds_much=True)
        if self._timer is None:
            self._timer = self._loop.call_at(due_s, self._write_due)

    def _write_due(self) -> None:
        self._timer = None
        self._write_until(self._loop.time() + 0.001)  # a timer may be early by the clock's resolution
        if self._held:
            self._timer = self._loop.call_at(self._held[0][0], self._write_due)

    def _write_until(self, due_s: float) -> None:
        while self._held and self._held[0][0] <= due_s:
            data = self._held.popleft()[1]
            self._held_bytes -= len(data)
            self._beneath.write(data)
        if self._held:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._protocol.note_held(holds_much=False)
        if self._wants_eof:
            self._beneath.write_eof()
        if self._is_closing:
            self._beneath.close()

    # Of a transport

    def write(self, data: Any) -> None:
        if self._beneath.is_closing():
            return
        protocol = self._protocol
        if not protocol.is_spared:
            if protocol.is_websocket and self._faults.may_lose(protocol.user_id):
                data, is_lost = cut_at_confirmation(bytes(data))
                if is_lost:
                    self._faults.count_lost()
                    self._beneath.write(data)
                    self.abort()
                    return
            hold_s = self._faults.find_hold_s(protocol.user_id)
            if hold_s or self._held:
                self._hold(bytes(data), hold_s)
                return
        elif self._held:
            self._write_until(float("inf"))  # responses keep the order of their requests
        self._beneath.write(data)

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        if self._held:
            self._wants_eof = True
        else:
            self._beneath.write_eof()

    def close(self) -> None:
        if self._held:
            self._is_closing = True
        else:
            self._beneath.close()

    def abort(self) -> None:
        self.forget()
        self._beneath.abort()

    def is_closing(self) -> bool:
        return self._is_closing or self._beneath.is_closing()

    def pause_reading(self) -> None:
        self._wants_to_read = False
        self._beneath.pause_reading()

    def resume_reading(self) -> None:
        self._wants_to_read = True
        if not self._is_stalled:
            self._beneath.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._beneath.get_write_buffer_size() + self._held_bytes

    def can_write_eof(self) -> bool:
        return self._beneath.can_write_eof()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._beneath.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._beneath.get_extra_info(name, default)


def cut_at_confirmation(frames: bytes) -> tuple[bytes, bool]:
    """The frames before the first one that confirms a write, and whether there is one."""
    at = 0
    for first_byte, payload in split_frames(frames):
        if first_byte == FIN_TEXT and _confirms_write(loads_stored(payload)):
            return frames[:at], True
        at += count_bytes(payload)
    return frames, False


def _confirms_write(frame: dict[str, Any]) -> bool:
    frame_type: str = frame["type"]
    return frame_type in _CONFIRMATIONS or ("request_id" in frame and frame_type.startswith(_EVENTS))
