"""From an HTTP request to a WebSocket: origin, credential, limits (docs/contract.md, section 11), then the session."""

import asyncio
import logging
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time

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
from chatapi.connecting import check_limits, make_connection, no_credential, take_over
from chatapi.connection import TransportKind
from chatapi.errors import ChatError, Code, invalid, unavailable
from chatapi.models import Principal
from chatapi.peer_transport import PeerTransport
from chatapi.protocol.encoders import encode_error_frame, encode_frame
from chatapi.protocol.server_frames import ServerShutdownFrame
from chatapi.protocol.wire import encode_close
from chatapi.services import Services
from chatapi.successor import Home
from chatapi.tenants import CREDENTIAL_GONE, GOING_AWAY
from chatapi.ws.client_socket import ClientSocket
from chatapi.ws.held_head import HeldHead
from chatapi.ws.session import Session

SUBPROTOCOL = "chatapi.v1"

CLOSE_SECONDS = 5.0  # for the peer to answer a close frame

# aiohttp logs the subprotocols offered when it knows none of them, and a token may stand among them.
logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)


# It judges handshakes, and opens none.
_judge = web.WebSocketResponse(protocols=(SUBPROTOCOL,), compress=False)


class Switched(web.StreamResponse):
    """The response of an accepted handshake: aiohttp has nothing to write any more."""

    def __init__(self) -> None:
        super().__init__(status=101)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> None:
        return

    async def write_eof(self, data: Any = b"") -> None:
        return


_SWITCHED = Switched()


async def serve_websocket(
    services: Services,
    request: web.BaseRequest,
    _path: Mapping[str, str],
    headers: Headers,
    session_type: type[Session] = Session,
) -> web.StreamResponse:
    """Handles `GET /ws` until `ready` is sent; then the connection is the socket's. Raises ChatError while it can still
    be answered over HTTP."""
    _check_upgrade(services, request)
    answer = _answer_handshake(request)
    try:
        principal, source = _authenticate(services, request)
        if principal.tenant.moved_to is not None and source is not _Source.HEADERS:
            return await _send_away(request, _encode_head(answer, headers), principal.tenant.moved_to)
        take_token(services, principal, headers, is_paid=source is _Source.TICKET)
        _check_ban(principal, source)
    except _RefusedInFrame as refusal:
        return await _refuse(request, _encode_head(answer, headers), refusal.error)
    check_limits(services, principal)
    address = client_address(request, services.config.server.trusted_proxies)
    transport, peer = take_over(request)
    connection = make_connection(services, principal, TransportKind.WEBSOCKET, transport, peer)
    session = session_type(services, connection, services.hub.attach(connection), address)
    try:
        HeldHead(connection, transport, _encode_head(answer, headers))
        home: Home = request.protocol.home  # type: ignore[attr-defined]  # what our own server makes
        socket = ClientSocket(home, transport, peer, session, services.frame_workers)
        request.protocol.give_way(socket)  # type: ignore[attr-defined]  # likewise
    except BaseException:
        session.end()
        raise
    await socket.open(wants_sync=request.query.get("sync") != "none")
    return _SWITCHED


def _answer_handshake(request: web.BaseRequest) -> Mapping[str, str]:
    """The headers that accept it. Raises ChatError."""
    try:
        answer, *_ = _judge._handshake(request)
    except (web.HTTPBadRequest, ValueError):  # the latter for a key of other characters than ASCII
        raise invalid(
            "Sec-WebSocket-Key, Sec-WebSocket-Version or Connection of the handshake does not follow RFC 6455"
        ) from None
    return answer


def _encode_head(answer: Mapping[str, str], headers: Headers) -> bytes:
    """The server chose or checked each of these values: none has a line break."""
    headers["Date"] = rfc822_formatted_time()
    lines = [f"{name}: {value}\r\n" for part in (answer, headers) for name, value in part.items()]
    return f"HTTP/1.1 101 Switching Protocols\r\n{''.join(lines)}\r\n".encode()


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


async def _send_away(request: web.BaseRequest, head: bytes, url: str) -> Switched:
    """The tenant is another server's, and a browser would not see a 421."""
    frame = encode_frame(ServerShutdownFrame(reconnect_after_ms=0, url=url))
    return await _end_at_once(request, head, frame + encode_close(GOING_AWAY, "the tenant has moved"))


async def _refuse(request: web.BaseRequest, head: bytes, error: ChatError) -> Switched:
    code = USER_BANNED if error.code is Code.AUTHORIZATION_ERROR else CREDENTIAL_GONE
    return await _end_at_once(request, head, encode_error_frame(error) + encode_close(code, error.message))


async def _end_at_once(request: web.BaseRequest, head: bytes, last_frames: bytes) -> Switched:
    """Waits for the first bytes of the peer, which are its answer to the close frame."""
    peer: PeerTransport = request.protocol.part()  # type: ignore[attr-defined]  # what our own server makes
    transport = request.transport
    if transport is not None:
        transport.write(head + last_frames)
        answered = asyncio.get_running_loop().create_future()
        request.protocol.ignore_input(answered)  # type: ignore[attr-defined]  # likewise
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await answered
        except TimeoutError:
            pass
        transport.close()
        peer.cut_off_later(CLOSE_SECONDS)
    return _SWITCHED
