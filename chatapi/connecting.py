"""How a connection begins and ends, whatever carries it: its limits, `ready`, and what it leaves behind."""

import asyncio
import secrets

from aiohttp import web

from chatapi.connection import Connection, OnlineUser, Outlet, TransportKind
from chatapi.errors import ChatError, rate_limited, unauthenticated, unavailable
from chatapi.mentions import UnreadMentions
from chatapi.models import Principal, encode_time
from chatapi.peer_transport import PeerTransport
from chatapi.protocol.encoders import encode_ready
from chatapi.protocol.server_frames import ReadyFrame, RoomInReady
from chatapi.services import Services

MAX_UNDRAINED_BYTES = 64 * 1024  # unsent; above it `drain` waits, and what recovers is written no further
MIN_BUFFER_BYTES = 64 * 1024  # unsent, of one connection: with less, one long message is too much
LEAVE_SECONDS = 5.0  # for the peer to read the rest, or to answer a close frame


def no_credential() -> ChatError:
    return unauthenticated("A credential is required: X-API-Key and X-User-Id, a Bearer token, or ?token=")


def check_limits(services: Services, principal: Principal) -> None:
    """Raises ChatError if the user, the tenant or the server has as many connections as it may."""
    tenant = principal.tenant
    hub = services.hub
    if hub.count_of_user(tenant.tenant_key, principal.user_id) >= tenant.settings.connections_per_user:
        raise rate_limited(1.0, f"A user may hold {tenant.settings.connections_per_user} connections")
    if 0 < tenant.settings.connections_per_tenant <= hub.count_of_tenant(tenant.tenant_key):
        raise rate_limited(1.0, f"This tenant may hold {tenant.settings.connections_per_tenant} connections")
    services.admission.check_memory()
    if len(hub.connections) >= services.admission.max_websockets:
        raise unavailable("The server has no descriptor left for another connection")


def take_over(request: web.BaseRequest) -> tuple[asyncio.Transport, PeerTransport]:
    """The transport of a request that becomes a connection. Raises ConnectionResetError if the client is gone."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("The client is gone")
    peer: PeerTransport = request.protocol.hand_over()  # type: ignore[attr-defined]  # what our own server makes
    return transport, peer


def find_buffer_limit(services: Services) -> int:
    """Unsent bytes of one connection: on a small machine a share of the setting."""
    limit_bytes = services.config.limits.send_buffer_bytes
    return services.admission.memory.scale(limit_bytes, min(limit_bytes, MIN_BUFFER_BYTES))


def make_connection(
    services: Services, principal: Principal, kind: TransportKind, outlet: Outlet, peer: PeerTransport
) -> Connection:
    buffer_limit_bytes = find_buffer_limit(services)
    peer.limit_buffer(min(MAX_UNDRAINED_BYTES, buffer_limit_bytes // 2))
    return Connection(
        connection_id=f"conn_{secrets.token_hex(8)}",
        principal=principal,
        kind=kind,
        transport=outlet,
        peer=peer,
        buffer_limit_bytes=buffer_limit_bytes,
        now_s=services.clock.machine_s(),
    )


async def send_ready(services: Services, connection: Connection, user: OnlineUser) -> None:
    """Sends `ready`, with all rooms that the connection has entered, and tells `presence`."""
    unread = UnreadMentions(services.store.readers, connection.principal)
    rooms = _list_rooms(connection, unread)
    while not unread.is_complete:
        await unread.count()
        rooms = _list_rooms(connection, unread)
    ready = ReadyFrame(
        connection_id=connection.connection_id,
        user_id=connection.user_id,
        epoch=connection.tenant.epoch,
        server_time=encode_time(services.clock.now_us()),
        heartbeat_seconds=services.config.websocket.heartbeat_seconds,
        rooms=rooms,
    )
    for frame in encode_ready(ready):
        services.hub.send(connection, frame)
    connection.is_ready = True
    services.presence.connected(connection, user)


def _list_rooms(connection: Connection, unread: UnreadMentions) -> list[RoomInReady]:
    rooms = []
    for room in connection.rooms:
        member = room.members.get(connection.user_id)
        if member is not None:
            rooms.append(
                RoomInReady(
                    room_id=room.room_id,
                    type=room.type,
                    last_seq=room.published_seq,
                    last_ack=member.last_ack,
                    last_read=member.last_read,
                    unread_mentions=unread.find(room, member),
                    notify=member.notify,
                    hidden=connection.user_id in room.hidden_by,
                )
            )
    return rooms


def end_connection(services: Services, connection: Connection, *, has_lingered: bool = False) -> None:
    """Sends what waits, and removes the connection from everywhere. One that `has_lingered` has had the grace of
    presence already."""
    services.hub.flush()
    rooms = [*connection.rooms, *connection.unsubscribed]
    services.presence.disconnected(services.hub.detach(connection), rooms, has_grace=not has_lingered)
    # aiohttp would send a close frame of its own to a WebSocket, and wait for its answer; ours has been sent.
    connection.transport.close()
    # That waits for a peer to read the rest, which one that says goodbye and stays may never do.
    connection.peer.cut_off_later(LEAVE_SECONDS)
