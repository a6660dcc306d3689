"""The sweeper: pings, and an end for connections that are silent."""

from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from conftest import StartServer
from driver import Server, eventually
from raw_websocket import WAIT_SECONDS

from chatapi.clock import Clock

Connect = Callable[[Server], Awaitable[aiohttp.ClientWebSocketResponse]]

QUICK: dict[str, object] = {"websocket.heartbeat_seconds": 0.2, "websocket.timeout_seconds": 3600}


class MovableClock(Clock):
    """Real time and what the test adds to it."""

    def __init__(self) -> None:
        self.added_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.added_s

    machine_s = monotonic_s


@pytest.fixture
async def connect_by_hand() -> AsyncIterator[Connect]:
    """Of clients that show pings, and answer none by themselves. It comes after the server among a test's arguments."""
    opened = []

    async def connect(server: Server) -> aiohttp.ClientWebSocketResponse:
        websocket = await server.session.ws_connect(
            f"{server.url}/ws", headers=server.user("alice").headers, autoping=False
        )
        opened.append(websocket)
        for _ in ("ready", "sync.complete"):
            await websocket.receive(timeout=WAIT_SECONDS)
        return websocket

    yield connect
    for websocket in opened:
        await websocket.close()


async def test_every_connection_is_pinged(start_server: StartServer, connect_by_hand: Connect) -> None:
    server = await start_server(QUICK)
    websockets = [await connect_by_hand(server) for _ in range(3)]
    for websocket in websockets:
        for _ in range(2):
            assert (await websocket.receive(timeout=WAIT_SECONDS)).type is aiohttp.WSMsgType.PING


async def test_ready_says_how_often(start_server: StartServer) -> None:
    server = await start_server(QUICK)
    socket = await server.user("alice").connect(ready=False)
    assert (await socket.expect("ready"))["heartbeat_seconds"] == 0.2


async def test_silence_ends_a_connection_and_any_sign_of_life_keeps_it(
    start_server: StartServer, connect_by_hand: Connect
) -> None:
    clock = MovableClock()
    server = await start_server({"websocket.heartbeat_seconds": 0.2, "websocket.timeout_seconds": 60}, clock=clock)
    silent, answering, talking = [await connect_by_hand(server) for _ in range(3)]
    heard = list(server.services.hub.connections.values())
    clock.added_s += 40
    since_s = clock.monotonic_s()
    await answering.pong()
    await talking.send_str('{"type": "ping"}')
    await eventually(lambda: sum(connection.heard_at_s >= since_s for connection in heard) == 2)
    clock.added_s += 40
    await eventually(lambda: len(server.services.hub.connections) == 2)
    while (message := await silent.receive(timeout=WAIT_SECONDS)).type is aiohttp.WSMsgType.PING:
        pass
    assert message.type is aiohttp.WSMsgType.CLOSED
    for websocket in (answering, talking):
        assert (await websocket.receive(timeout=WAIT_SECONDS)).type in (
            aiohttp.WSMsgType.PING,
            aiohttp.WSMsgType.TEXT,
        )


async def test_a_client_may_ping_as_well(server: Server, connect_by_hand: Connect) -> None:
    websocket = await connect_by_hand(server)
    await websocket.ping(b"are you there")
    message = await websocket.receive(timeout=WAIT_SECONDS)
    assert (message.type, bytes(message.data)) == (aiohttp.WSMsgType.PONG, b"are you there")
    socket = await server.user("alice").connect()
    await socket.send("ping", request_id="r-1")
    assert await socket.next() == {"type": "pong", "request_id": "r-1"}
