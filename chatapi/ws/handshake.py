"""From an HTTP request to a WebSocket: origin, credential, limits (docs/contract.md, section 11), then the session."""

import asyncio
import logging
from collections.abc import Mapping
from enum import Enum, auto

from aiohttp import WSCloseCode, web

from chatapi.banned_users import USER_BANNED, check_user_not_banned
from chatapi.callers import (
    Headers,
    authenticate_headers,
    authenticate_query,
    client_address,
    find_offered_token,
    is_origin_allowed,
    take_token,
)
from chatapi.connecting import check_limits, end_connection, make_connection, no_credential, take_over
from chatapi.connection import TransportKind
from chatapi.errors import ChatError, Code, invalid, unavailable
from chatapi.models import Principal
from chatapi.peer_transport import PeerTransport
from chatapi.protocol.encoders import encode_error_frame, encode_frame
from chatapi.protocol.frames import MAX_FRAME_BYTES
from chatapi.protocol.server_frames import ServerShutdownFrame
from chatapi.protocol.wire import encode_close
from chatapi.services import Services
from chatapi.tenants import CREDENTIAL_GONE, GOING_AWAY
from chatapi.ws.session import Session

SUBPROTOCOL = "chatapi.v1"

CLOSE_SECONDS = 5.0  # for the peer to answer a close frame

# aiohttp logs the subprotocols offered when it knows none of them, and a token may stand among them.
logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)


class ClientSocket(web.WebSocketResponse):
    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Does nothing: every close frame is the session's. aiohttp would send one ahead of frames that still wait, and
        keep a failure with its traceback in the socket: a cycle that holds all there was of the connection until a full
        collection, days later."""
        return False


async def serve_websocket(
    services: Services,
    request: web.BaseRequest,
    _path: Mapping[str, str],
    headers: Headers,
    socket_type: type[ClientSocket] = ClientSocket,
) -> web.StreamResponse:
    """Handles `GET /ws` to the end of the connection. Raises ChatError while it can still be answered over HTTP."""
    _check_upgrade(services, request)
    socket = socket_type(
        protocols=(SUBPROTOCOL,),
        autoclose=False,
        autoping=False,
        compress=False,
        max_msg_size=MAX_FRAME_BYTES + 1,  # aiohttp refuses what reaches it
        timeout=CLOSE_SECONDS,
        decode_text=False,
    )
    if not _is_handshake(socket, request):
        raise invalid(
            "Sec-WebSocket-Key, Sec-WebSocket-Version or Connection of the handshake does not follow RFC 6455"
        )
    try:
        principal, source = _authenticate(services, request)
        if principal.tenant.moved_to is not None and source is not _Source.HEADERS:
            return await _send_away(socket, request, headers, principal.tenant.moved_to)
        take_token(services, principal, headers, is_paid=source is _Source.TICKET)
        _check_ban(principal, source)
    except _RefusedInFrame as refusal:
        socket.headers.update(headers)
        return await _refuse(socket, request, refusal.error)
    check_limits(services, principal)
    socket.headers.update(headers)
    transport, peer = take_over(request)
    connection = make_connection(services, principal, TransportKind.WEBSOCKET, transport, peer)
    user = services.hub.attach(connection)
    try:
        await socket.prepare(request)
        # Sent: an idle connection would keep both for hours, 1.6 KB of its 19.
        socket.headers.clear()
        headers.clear()
        address = client_address(request, services.config.server.trusted_proxies)
        session = Session(services, connection, user, socket, address)
        await session.open(wants_sync=request.query.get("sync") != "none")
        await session.read()
    finally:
        end_connection(services, connection)
    return socket


def _is_handshake(socket: ClientSocket, request: web.BaseRequest) -> bool:
    try:
        return bool(socket.can_prepare(request))
    except ValueError:  # its key has other characters than ASCII
        return False


class _RefusedInFrame(Exception):
    """A browser does not see a handshake's status: a credential in the subprotocol or query is refused in a frame."""

    def __init__(self, error: ChatError) -> None:
        super().__init__(error.message)
        self.error = error


def _check_upgrade(services: Services, request: web.BaseRequest) -> None:
    if not is_origin_allowed(services.origins, request):
        # For the page to read, over a plain GET: a browser shows it nothing of a refused handshake.
        readable = {"Access-Control-Allow-Origin": "*"}
        raise ChatError(Code.AUTHORIZATION_ERROR, "This origin is not allowed", headers=readable)
    if request.method != "GET" or request.headers.get("Upgrade", "").lower() != "websocket":
        _check_limits_of_plain_get(services, request)
        raise ChatError(
            Code.VALIDATION_ERROR,
            "This route is for WebSockets: connect with a WebSocket client",
            status=426,
            headers={"Upgrade": "websocket", "Connection": "Upgrade"},
        )
    if services.health.is_draining:
        raise unavailable("The server is shutting down")


def _check_limits_of_plain_get(services: Services, request: web.BaseRequest) -> None:
    """Tells a page why its handshakes are refused, which it cannot see. A bad credential is told by the handshake, in a
    frame. Raises ChatError."""
    address = client_address(request, services.config.server.trusted_proxies)
    try:
        principal = authenticate_headers(services, request, address)
    except ChatError:
        return
    if principal is not None:
        check_limits(services, principal)


class _Source(Enum):
    """The part of the request that held the credential."""

    HEADERS = auto()
    PAGE = auto()  # the subprotocol or the query, which a page can set
    TICKET = auto()  # likewise; making it has taken the token of the handshake


def _check_ban(principal: Principal, source: _Source) -> None:
    """Raises ChatError or _RefusedInFrame for a user who is banned from the tenant."""
    try:
        check_user_not_banned(principal.tenant, principal.user_id)
    except ChatError as error:
        if source is _Source.HEADERS:
            raise
        raise _RefusedInFrame(error) from None


def _authenticate(services: Services, request: web.BaseRequest) -> tuple[Principal, _Source]:
    """The first kind of credential that is there is the only one looked at. Raises ChatError or _RefusedInFrame."""
    address = client_address(request, services.config.server.trusted_proxies)
    principal = authenticate_headers(services, request, address)
    if principal is not None:
        return principal, _Source.HEADERS
    try:
        token = find_offered_token(request)
        if token is not None:
            return services.auth.authenticate_token(token, address), _Source.PAGE
        found = authenticate_query(services, request, address)
    except ChatError as error:
        raise _RefusedInFrame(error) from None
    if found is None:
        raise no_credential()
    principal, is_paid = found
    return principal, _Source.TICKET if is_paid else _Source.PAGE


async def _send_away(
    socket: web.WebSocketResponse, request: web.BaseRequest, headers: Headers, url: str
) -> web.WebSocketResponse:
    """The tenant is another server's, and a browser would not see a 421."""
    socket.headers.update(headers)
    frame = encode_frame(ServerShutdownFrame(reconnect_after_ms=0, url=url))
    return await _end_at_once(socket, request, frame + encode_close(GOING_AWAY, "the tenant has moved"))


async def _refuse(socket: web.WebSocketResponse, request: web.BaseRequest, error: ChatError) -> web.WebSocketResponse:
    code = USER_BANNED if error.code is Code.AUTHORIZATION_ERROR else CREDENTIAL_GONE
    return await _end_at_once(socket, request, encode_error_frame(error) + encode_close(code, error.message))


async def _end_at_once(
    socket: web.WebSocketResponse, request: web.BaseRequest, last_frames: bytes
) -> web.WebSocketResponse:
    peer: PeerTransport = request.protocol.part()  # type: ignore[attr-defined]
    await socket.prepare(request)
    transport = request.transport
    if transport is not None:
        transport.write(last_frames)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await socket.receive()
        except TimeoutError:
            pass
        transport.close()
        peer.cut_off_later(CLOSE_SECONDS)
    return socket
