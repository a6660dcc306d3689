"""One sweeper over all connections: pings and comments, silence, and credentials that expire (docs/contract.md,
section 11)."""

import asyncio

from chatapi.connection import Connection, TransportKind
from chatapi.errors import unauthenticated
from chatapi.protocol.wire import PING
from chatapi.services import Services
from chatapi.tenants import CREDENTIAL_GONE

MAX_SWEEP_SECONDS = 1.0  # 10,000 connections take about 2 ms
SWEEPS_PER_HEARTBEAT = 10
CONNECTIONS_AT_A_STRETCH = 2_000
COMMENT_SECONDS = 15.0  # between the comments of an event stream, whose client says nothing


async def watch_connections(services: Services) -> None:
    """Runs until it is cancelled."""
    heartbeat_s = services.config.websocket.heartbeat_seconds
    pause_s = min(MAX_SWEEP_SECONDS, heartbeat_s / SWEEPS_PER_HEARTBEAT)
    while True:
        await services.clock.sleep(pause_s)
        connections = list(services.hub.connections.values())
        for first in range(0, len(connections), CONNECTIONS_AT_A_STRETCH):
            _sweep(services, connections[first : first + CONNECTIONS_AT_A_STRETCH])
            await asyncio.sleep(0)


def _sweep(services: Services, connections: list[Connection]) -> None:
    now_s, now_us = services.clock.machine_s(), services.clock.now_us()
    for connection in connections:
        expires_at_us = connection.principal.expires_at_us
        if expires_at_us is not None and expires_at_us <= now_us:
            services.hub.close(connection, CREDENTIAL_GONE, unauthenticated("The user token has expired"))
        elif connection.kind is TransportKind.WEBSOCKET:
            _watch_silence(services, connection, now_s)
        elif connection.kind is TransportKind.EVENT_STREAM and now_s - connection.pinged_at_s >= COMMENT_SECONDS:
            connection.pinged_at_s = now_s
            services.hub.send(connection, PING)


def _watch_silence(services: Services, connection: Connection, now_s: float) -> None:
    settings = services.config.websocket
    if now_s - connection.heard_at_s > settings.heartbeat_seconds and _is_reading(connection):
        connection.heard_at_s = connection.swept_heard_at_s = now_s
    if now_s - connection.heard_at_s > settings.timeout_seconds:
        connection.peer.cut_off()  # nobody is there to be told
    elif now_s - connection.pinged_at_s >= settings.heartbeat_seconds:
        connection.pinged_at_s = now_s
        services.hub.send(connection, PING)


def _is_reading(connection: Connection) -> bool:
    """Whether a silent peer has taken some of what it had to read at the sweep before: behind that our ping still
    waits, for minutes where the network is slow."""
    peer = connection.peer
    is_same_silence = connection.swept_heard_at_s == connection.heard_at_s
    before, connection.swept_taken = connection.swept_taken, peer.count_taken()
    connection.swept_heard_at_s = connection.heard_at_s
    return is_same_silence and connection.swept_taken > before and peer.count_untaken() > 0
