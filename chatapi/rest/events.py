"""Live events over HTTP alone: Server-Sent Events, and long polls."""

import asyncio

from aiohttp import web

from chatapi.callers import Headers, is_origin_allowed
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

_HEADERS = {
    "Content-Type": Media.EVENTS.value,
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx passes each event on at once, also with `proxy_buffering on`
}


class EventStream:
    """The outlet of a connection whose client reads Server-Sent Events."""

    __slots__ = ("_transport",)

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        events, is_end = encode_events(data)
        self._transport.write(events)
        if is_end:
            self._transport.close()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
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
    await _serve(services, call.principal, request, response, headers, sync)
    return Response(200, b"", lasting=response)


async def sync(call: Call[SyncRequest, None]) -> Response[Synced]:
    """Get the events after the client's cursors, as soon as there is one (long poll)."""
    assert call.exchange is not None
    peer: PeerTransport = call.exchange.request.protocol.peer  # type: ignore[attr-defined]  # what our own server makes
    return ok(await poll(call.services, call.principal, call.body, peer))


async def _serve(
    services: Services,
    principal: Principal,
    request: web.BaseRequest,
    response: LastingResponse,
    headers: Headers,
    sync: tuple[Sync, str | None] | None,
) -> None:
    """To the end of the connection."""
    transport, peer = take_over(request)
    connection = make_connection(services, principal, TransportKind.EVENT_STREAM, EventStream(transport), peer)
    peer.limit_silence(services.config.websocket.timeout_seconds)
    user = services.hub.attach(connection)
    try:
        await response.prepare(request)
        # Sent: an idle connection would keep both for hours.
        response.headers.clear()
        headers.clear()
        request.protocol.ignore_input()  # type: ignore[attr-defined]  # what our own server makes
        transport.write(encode_retry(RETRY_MS))
        await services.recovery.enter_rooms(connection)
        await send_ready(services, connection, user)
        if sync is None:
            services.recovery.begin(connection, None)
        else:
            frame, request_id = sync
            await services.recovery.sync(connection, frame.cursors, frame.epoch, request_id)
        await peer.wait_until_lost()
    finally:
        end_connection(services, connection)
