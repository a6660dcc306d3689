"""Live events over HTTP alone: Server-Sent Events, and long polls."""

import asyncio
from typing import ClassVar

from aiohttp import web

from chatapi.callers import is_origin_allowed
from chatapi.connecting import check_limits, end_connection, make_connection, send_ready, take_over
from chatapi.connection import TransportKind
from chatapi.errors import ChatError, Code, invalid, unavailable
from chatapi.models import Principal
from chatapi.peer_transport import PeerTransport
from chatapi.polling import poll
from chatapi.protocol.event_stream import RETRY_MS, encode_events, encode_retry
from chatapi.protocol.frames import Sync
from chatapi.protocol.sync_records import EventStreamQuery, Synced, SyncRequest
from chatapi.rest.call import Call, Media, Response, ok
from chatapi.rest.web_response import LastingResponse
from chatapi.services import Services
from chatapi.successor import Home, Successor

_HEADERS = {
    "Content-Type": Media.EVENTS.value,
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx passes each event on at once, also with `proxy_buffering on`
}


class EventStream(Successor):
    """A connection whose client reads Server-Sent Events: its outlet, and from the head of the response on the protocol
    of its transport. Bytes that the client still sends are dropped, and an end of file ends it."""

    __slots__ = ("_connection", "_services")

    kind: ClassVar[TransportKind] = TransportKind.EVENT_STREAM

    def __init__(
        self, services: Services, principal: Principal, home: Home, transport: asyncio.Transport, peer: PeerTransport
    ) -> None:
        super().__init__(home, transport, peer)
        self._services = services
        self._connection = make_connection(services, principal, self.kind, self, peer)
        peer.limit_silence(services.config.websocket.timeout_seconds)

    async def open(
        self, request: web.BaseRequest, response: LastingResponse, sync: tuple[Sync, str | None] | None
    ) -> None:
        """Sends the head of the response and `ready`, and begins with the backlog."""
        services, connection = self._services, self._connection
        user = services.hub.attach(connection)
        is_open = False
        try:
            await response.prepare(request)
            request.protocol.give_way(self)  # type: ignore[attr-defined]  # what our own server makes
            if self._transport is not None:
                self._transport.write(encode_retry(RETRY_MS))
            await services.recovery.enter_rooms(connection)
            await send_ready(services, connection, user)
            if sync is None:
                services.recovery.begin(connection, None)
            else:
                frame, request_id = sync
                await services.recovery.sync(connection, frame.cursors, frame.epoch, request_id)
            is_open = True
        finally:
            self._is_busy = False
            if not is_open or self._transport is None:
                self._end()

    def _leave(self) -> None:
        end_connection(self._services, self._connection)
        del self._connection  # which holds this: else both would stay until the collector looks at what is old

    # The outlet

    def write(self, data: bytes) -> None:
        if self._transport is None:
            return
        events, is_end = encode_events(data)
        self._transport.write(events)
        if is_end:
            self._transport.close()

    def get_write_buffer_size(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def stream_events(call: Call[None, EventStreamQuery]) -> Response[None]:
    """Open a connection that gets the frames of the WebSocket, as Server-Sent Events."""
    assert call.exchange is not None
    request, headers = call.exchange
    services = call.services
    if not is_origin_allowed(services.origins, request):
        raise ChatError(Code.AUTHORIZATION_ERROR, "This origin is not allowed")
    if services.health.is_draining:
        raise unavailable("The server is shutting down")
    if "sync" in request.query:
        raise invalid("An event stream has no sync: give its cursors in `cursors`", "sync")
    sync = call.query.read_cursors()
    check_limits(services, call.principal)
    response = LastingResponse(headers={**headers, **_HEADERS})
    if request.method == "HEAD":
        return Response(200, b"", lasting=response)
    transport, peer = take_over(request)
    home: Home = request.protocol.home  # type: ignore[attr-defined]  # what our own server makes
    await EventStream(services, call.principal, home, transport, peer).open(request, response, sync)
    return Response(200, b"", lasting=response)


async def sync(call: Call[SyncRequest, None]) -> Response[Synced]:
    """Get the events after the client's cursors, as soon as there is one (long poll)."""
    assert call.exchange is not None
    peer: PeerTransport = call.exchange.request.protocol.peer  # type: ignore[attr-defined]  # what our own server makes
    return ok(await poll(call.services, call.principal, call.body, peer))
