"""Clients that stop reading: bounded memory, caught up from the log in order, given up after their grace."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from conftest import StartServer
from driver import HandClock, Server, User, eventually
from raw_websocket import CLOSE, PING, WAIT_SECONDS, RawSocket

from chatapi import connecting, hub
from chatapi.connection import ConnectionState
from chatapi.recovery import SLOW_CONSUMER

SMALL: dict[str, object] = {"limits.send_buffer_bytes": 8192, "websocket.presence_grace_seconds": 0}
CONTENT = "x" * 2000
GOODBYE = (1000).to_bytes(2, "big")  # what a close frame holds
ENOUGH = 400  # messages of CONTENT: more than the kernel's buffers at both ends and the server's bound take


async def flood(user: User, room_id: str, count: int = ENOUGH) -> None:
    """Messages that are confirmed; their sender reads."""
    sender = await user.connect(sync="none", ready=False)
    for _ in range(count):
        await sender.send("send_message", room_id=room_id, content=CONTENT)
    for _ in range(count):
        await sender.expect("message.sent")
    await sender.close()


async def start_with_a_stalled_bob(
    start_server: StartServer, **settings: object
) -> tuple[Server, User, str, RawSocket]:
    server = await start_server({**SMALL, **settings})
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    bob = await server.user("bob").connect_raw(ready=True, is_narrow=True)
    await flood(alice, room_id)
    return server, alice, room_id, bob


async def test_it_leaves_live_delivery_and_catches_up_in_order(start_server: StartServer) -> None:
    server, alice, room_id, bob = await start_with_a_stalled_bob(start_server)
    [connection] = server.connections_of("bob")
    assert connection.state is ConnectionState.RECOVERING
    seqs = []
    while len(seqs) < ENOUGH:
        seqs.append((await bob.expect("message"))["seq"])
    assert seqs == list(range(1, ENOUGH + 1))
    await eventually(lambda: connection.state is ConnectionState.LIVE)
    await alice.say(room_id, "live again")
    assert (await bob.expect("message"))["seq"] == ENOUGH + 1
    bob.abort()


async def test_events_during_the_catch_up_are_neither_lost_nor_doubled(start_server: StartServer) -> None:
    _, alice, room_id, bob = await start_with_a_stalled_bob(start_server)
    other_room = await alice.make_room("bob")
    seqs: dict[str, list[int]] = {room_id: [], other_room: []}
    async with asyncio.TaskGroup() as group:
        group.create_task(flood(alice, room_id, 100))
        group.create_task(flood(alice, other_room, 50))
        while sum(map(len, seqs.values())) < ENOUGH + 150:
            frame = await bob.expect("message")
            seqs[frame["room_id"]].append(frame["seq"])
    assert seqs == {room_id: list(range(1, ENOUGH + 101)), other_room: list(range(1, 51))}
    bob.abort()


async def test_its_memory_is_bounded(start_server: StartServer) -> None:
    server, alice, room_id, bob = await start_with_a_stalled_bob(start_server)
    [connection] = server.connections_of("bob")
    for _ in range(3):
        await flood(alice, room_id, 100)
        assert connection.unsent_bytes() <= 8192
    bob.abort()


async def test_it_delays_nobody(start_server: StartServer) -> None:
    server, alice, room_id, bob = await start_with_a_stalled_bob(start_server)
    socket = await server.user("bob").connect(sync="none", ready=False)
    await socket.send("sync", rooms={room_id: ENOUGH})
    await socket.expect("sync.complete")
    lagged = server.services.hub.lagged
    await alice.say(room_id)
    await socket.expect("message", seq=ENOUGH + 1)
    assert server.services.hub.lagged == lagged
    bob.abort()


async def test_ephemeral_frames_are_dropped_first(start_server: StartServer) -> None:
    server, alice, room_id, bob = await start_with_a_stalled_bob(start_server)
    typist = await alice.connect(sync="none", ready=False)
    await typist.send("typing.start", room_id=room_id)
    await typist.send("typing.stop", room_id=room_id)
    await typist.expect_nothing("error")
    frames = []
    bob.send_frame("ping")
    while (frame := await bob.next_text()).get("seq") != ENOUGH:
        frames.append(frame["type"])
    assert "typing" not in frames
    assert frames.count("message") == ENOUGH - 1
    await eventually(lambda: server.connections_of("bob")[0].state is ConnectionState.LIVE)
    await typist.send("typing.start", room_id=room_id)
    assert (await bob.expect("typing"))["action"] == "start"
    bob.abort()


@pytest.mark.slow
async def test_it_is_given_up_after_its_grace(start_server: StartServer) -> None:
    server, _alice, room_id, bob = await start_with_a_stalled_bob(start_server, **{"limits.slow_consumer_seconds": 0.2})
    [connection] = server.connections_of("bob")
    await eventually(lambda: connection.state is ConnectionState.CLOSED)
    frames, code = await bob.read_to_close()
    assert (frames[-1]["type"], frames[-1]["code"], code) == ("error", "RATE_LIMIT_EXCEEDED", 4009)
    seqs = [frame["seq"] for frame in frames if frame["type"] == "message"]
    assert seqs == list(range(1, len(seqs) + 1))
    bob.abort()
    # Nothing is lost: it goes on where it stopped.
    await eventually(lambda: not server.connections_of("bob"))
    again = await server.user("bob").connect(sync="none", ready=False)
    await again.send("sync", rooms={room_id: seqs[-1]})
    for seq in range(len(seqs) + 1, ENOUGH + 1):
        await again.expect("message", seq=seq)


@pytest.mark.slow  # the grace is long enough for a busy machine
@pytest.mark.parametrize(("grace_s", "pause_s", "size"), [(1.5, 0.15, 1500), (3.0, 2.7, 16_384)])
async def test_one_that_reads_slowly_is_kept_and_misses_nothing(
    start_server: StartServer, grace_s: float, pause_s: float, size: int
) -> None:
    """Steadily, or with pauses of nine tenths of its grace; more is said in the room meanwhile."""
    settings = {"limits.slow_consumer_seconds": grace_s, "limits.send_buffer_bytes": 65536}
    server = await start_server({**SMALL, **settings})  # what it has to read at a time takes longer than its grace
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    bob = await server.user("bob").connect_raw(ready=True, is_narrow=True)
    [connection] = server.connections_of("bob")

    async def read_slowly() -> None:
        for _ in range(round(3 * grace_s / pause_s)):
            await asyncio.sleep(pause_s)
            await bob.look_away(size)
            assert connection.close_code is None

    async with asyncio.TaskGroup() as group:
        group.create_task(read_slowly())
        group.create_task(flood(alice, room_id))
    assert connection.state is ConnectionState.RECOVERING
    assert [(await bob.expect("message"))["seq"] for _ in range(ENOUGH)] == list(range(1, ENOUGH + 1))
    await eventually(lambda: connection.state is ConnectionState.LIVE)
    bob.abort()


async def test_one_whose_answers_wait_unread_is_given_up_too(start_server: StartServer) -> None:
    """It is not read from meanwhile, so that its silence was all that ended it, without a word."""
    server = await start_server({**SMALL, "limits.slow_consumer_seconds": 0.2, "limits.send_buffer_bytes": 65536})
    room_id = await server.user("alice").make_room("bob")
    bob = await server.user("bob").connect_raw(ready=True, is_narrow=True)
    [connection] = server.connections_of("bob")

    async def ask_on() -> None:
        with suppress(ConnectionError):
            while connection.close_code is None:
                bob.send_frame("subscribe", room_id=room_id, request_id="r" * 20)
                await bob.writer.drain()
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        asking = group.create_task(ask_on())
        await eventually(lambda: connection.close_code is not None)
        asking.cancel()
    assert connection.close_code == 4009
    bob.abort()


@pytest.mark.slow
async def test_one_that_sends_and_does_not_read_is_not_read_from(start_server: StartServer) -> None:
    server = await start_server({**SMALL, "limits.slow_consumer_seconds": 3600})
    bob = await server.user("bob").connect_raw(ready=True, is_narrow=True)
    [connection] = server.connections_of("bob")
    with suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            while True:  # it blocks once the server does not read any more
                bob.send_frame("sync", request_id="r" * 60)
                await bob.writer.drain()
    assert connection.unsent_bytes() <= 2 * 8192
    bob.abort()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["told to go", "says goodbye"])
async def test_one_that_reads_its_backlog_after_the_end_leaves_no_trace(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What was to cut it off later called a transport that asyncio had let go: a traceback in the log."""
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
    monkeypatch.setattr(hub, "CLOSE_LINGER_SECONDS", 0.3)
    monkeypatch.setattr(connecting, "LEAVE_SECONDS", 0.3)
    server, _, _, bob = await start_with_a_stalled_bob(start_server)
    [connection] = server.connections_of("bob")
    await eventually(connection.transport.get_write_buffer_size)
    if how == "told to go":
        server.services.hub.close(connection, 4001)
    bob.send(CLOSE, GOODBYE)
    await eventually(lambda: not server.connections_of("bob"))
    assert connection.transport.get_write_buffer_size()
    with suppress(EOFError, ConnectionResetError):
        await bob.read_to_close()
    await asyncio.sleep(0.4)
    assert not failures
    bob.abort()


@pytest.mark.slow
async def test_pings_of_a_client_that_reads_nothing_are_not_all_answered(server: Server) -> None:
    """Each pong is memory until it is read: who does not read is not read from."""
    flooder = await server.user("alice").connect_raw(is_narrow=True)
    [connection] = server.connections_of("alice")
    unsent = []

    async def flood() -> None:
        while True:
            for _ in range(1000):
                flooder.send(PING, b"x" * 125)
            await flooder.writer.drain()
            unsent.append(connection.unsent_bytes())

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(flood(), 2)
    assert max(unsent) < connection.buffer_limit_bytes
    flooder.abort()


async def test_client_that_says_goodbye_and_reads_nothing_is_cut_off(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it left unread was kept for as long as it kept its end open, and counted for nobody."""
    monkeypatch.setattr(connecting, "LEAVE_SECONDS", 0.1)
    bob = server.user("bob")
    room_id = await bob.make_room("alice")
    leaver = await server.user("alice").connect_raw(is_narrow=True)
    [connection] = server.connections_of("alice")
    while not connection.transport.get_write_buffer_size():
        await bob.say(room_id, "x" * 60_000)
    leaver.send(CLOSE, GOODBYE)
    await eventually(lambda: not server.connections_of("alice"))
    assert connection.transport.get_write_buffer_size()
    await eventually(lambda: not connection.transport.get_write_buffer_size())
    leaver.abort()


@pytest.mark.slow
async def test_frames_to_one_connection_alone_make_it_slow_too(start_server: StartServer) -> None:
    """`room.created` is published to nobody, so nobody noticed that it piled up."""
    server = await start_server({"limits.slow_consumer_seconds": 1})
    alice = server.user("alice")
    reluctant = await server.user("bob").connect_raw(is_narrow=True)
    [connection] = server.connections_of("bob")
    await eventually(lambda: connection.state is ConnectionState.LIVE)
    while connection.unsent_bytes() <= connection.buffer_limit_bytes:
        await alice.make_room("bob", metadata={"x": "y" * 16_000})
    await eventually(lambda: connection.state is ConnectionState.RECOVERING)
    await eventually(lambda: connection.close_code == SLOW_CONSUMER)
    reluctant.abort()


async def test_client_that_reads_slowly_is_not_silent(start_server: StartServer) -> None:
    """Pings wait behind what it has to read, and so do its answers: it was dropped in the middle of a long backlog."""
    clock = HandClock()
    server = await start_server({"websocket.heartbeat_seconds": 0.2, "websocket.timeout_seconds": 10}, clock=clock)
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    slow = await server.user("bob").connect_raw(is_narrow=True)
    [connection] = server.connections_of("bob")
    while connection.transport.get_write_buffer_size() < 500_000:
        await alice.say(room_id, "x" * 60_000)
    for _ in range(5):
        clock.advance(4)
        heard_at_s = connection.heard_at_s
        async with asyncio.timeout(WAIT_SECONDS):
            while connection.heard_at_s == heard_at_s:
                await slow.look_away(4096)
                await asyncio.sleep(0.005)
    assert server.connections_of("bob") == [connection]

    def is_dropped() -> bool:
        clock.advance(11)  # again, since it may have taken something since the sweep before
        return not server.connections_of("bob")

    await eventually(is_dropped)
    slow.abort()
