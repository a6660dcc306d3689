"""Regressions that fit no other file: what a review of the whole core has found."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import quote

import pytest
import yarl
from conftest import StartServer
from driver import CLOSE, HANDSHAKE, PING, WAIT_SECONDS, HandClock, RawSocket, Server, eventually
from test_recovery import Gate, restart, say_many, seqs

from chatapi import rooms
from chatapi.connection import State
from chatapi.errors import ChatError
from chatapi.housekeeping import apply_retention
from chatapi.recovery import SLOW_CONSUMER
from chatapi.rest import server as server_module
from chatapi.store import Transaction, Write
from chatapi.ws import handshake


async def open_narrow(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A bare connection for which neither kernel nor test hold much that is unread."""
    bare = socket.socket()
    bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    bare.setblocking(False)
    await asyncio.get_running_loop().sock_connect(bare, (server.host, server.port))
    return await asyncio.open_connection(sock=bare, limit=1)


async def connect_without_reading(server: Server, user_id: str) -> RawSocket:
    """A WebSocket whose peer reads its handshake and nothing more."""
    reader, writer = await open_narrow(server)
    lines = [f"{name}: {value}" for name, value in {**HANDSHAKE, **server.user(user_id).headers}.items()]
    writer.write("\r\n".join(["GET /ws HTTP/1.1", "Host: chat", *lines, "", ""]).encode())
    await eventually(lambda: server.connections_of(user_id))
    return RawSocket(reader, writer)


@pytest.mark.slow
async def test_who_fails_to_come_back_is_told_offline_once(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that ends before its `ready` left two graces running; the second one forgot a newer session."""
    server = await start_server({"websocket.presence_grace_seconds": 0.3})
    alice, bob = server.user("alice"), server.user("bob")
    await bob.make_room("alice")
    watcher = await bob.connect()
    socket = await alice.connect()
    await watcher.expect("presence.update", status="online")
    await socket.close()
    await eventually(lambda: not server.connections_of("alice"))
    await asyncio.sleep(0.1)

    async def fail(_connection: object) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr(server.services.recovery, "enter_rooms", fail)
        await (await alice.connect(ready=False)).close_code()
    await watcher.expect("presence.update", status="offline")
    socket = await alice.connect()
    await watcher.expect("presence.update", status="online")
    await asyncio.sleep(0.3)
    await watcher.expect_nothing("presence.update")
    await socket.close()


@pytest.mark.slow
async def test_pings_of_who_reads_nothing_are_not_all_answered(server: Server) -> None:
    """Each pong is memory until it is read: who does not read is not read from."""
    flooder = await connect_without_reading(server, "alice")
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
    flooder.writer.transport.abort()


async def test_who_says_goodbye_and_reads_nothing_is_cut_off(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it left unread was kept for as long as it kept its end open, and counted for nobody."""
    monkeypatch.setattr(handshake, "CLOSE_SECONDS", 0.1)
    bob = server.user("bob")
    room_id = await bob.make_room("alice")
    leaver = await connect_without_reading(server, "alice")
    [connection] = server.connections_of("alice")
    while not connection.transport.get_write_buffer_size():
        await bob.say(room_id, "x" * 60_000)
    leaver.send(CLOSE, b"\x03\xe8")
    await eventually(lambda: not server.connections_of("alice"))
    assert connection.transport.get_write_buffer_size()
    await eventually(lambda: not connection.transport.get_write_buffer_size())
    leaver.writer.transport.abort()


async def test_a_writer_that_crashes_keeps_nobody_waiting(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shutdown that follows notes when keys were last used: it waited for the writer, for ever."""
    crashed: list[str] = []
    monkeypatch.setattr(server.services.tasks, "_on_crash", crashed.append)
    writer = server.services.store.writer

    def fail(_batch: Sequence[Write]) -> None:
        raise RuntimeError

    monkeypatch.setattr(server.services.committer, "publish", fail)
    writing = [asyncio.ensure_future(writer.change(nothing, barrier=True)) for _ in range(2)]
    with pytest.raises(ChatError, match="shutting down"):
        await writing[1]
    assert crashed == ["writer"]
    assert (await server.user("alice").get("/rooms")).status == 200
    async with asyncio.timeout(WAIT_SECONDS):
        await server.app.close()
    writing[0].cancel()


async def nothing(_transaction: Transaction) -> None:
    """A change that changes nothing."""


async def test_retention_reaches_a_room_that_is_being_loaded(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was read before and kept after, so that its beginning was looked for in vain, over and over."""
    clock = HandClock()
    server = await start_server(clock=clock)
    room_id = await server.user("alice").make_room("bob")
    await say_many(server.user("alice"), room_id, 250)
    clock.advance(2 * 86_400)
    await say_many(server.user("alice"), room_id, 150)
    await server.app.close()
    server = await start_server(clock=clock)
    [tenant] = server.services.tenants.all()
    tenant.settings = replace(tenant.settings, retention_days=1)
    gate = Gate(rooms.store_rooms.load_members)
    monkeypatch.setattr(rooms.store_rooms, "load_members", gate)
    connecting = asyncio.ensure_future(server.user("bob").connect(ready=False))
    await gate.arrived.wait()
    await apply_retention(server.services, tenant)
    gate.open()
    bob = await connecting
    frames = await bob.collect("sync.complete")
    gap = next(frame for frame in frames if frame["type"] == "sync.gap")
    assert (gap["from_seq"], gap["to_seq"]) == (1, 250)
    assert seqs(frames, room_id) == list(range(251, 401))


async def test_what_is_read_into_memory_for_a_reconnect_is_bounded(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "ALL_RINGS_BYTES", 200_000)
    server = await start_server()
    alice = server.user("alice")
    for _ in range(10):
        room_id = await alice.make_room("bob")
        for _ in range(8):
            await alice.say(room_id, "x" * 10_000)
    server = await restart(start_server, server)
    await server.user("bob").connect()
    loaded = server.services.rooms.of_tenant(server.services.tenants.all()[0].tenant_key)
    assert sum(room.ring.size_bytes for room in loaded) <= 200_000


async def test_a_room_that_is_deleted_while_it_is_read_takes_no_memory(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server()
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    await alice.say(room_id)
    server = await restart(start_server, server)
    gate = Gate(rooms.log.read_newest_events)
    monkeypatch.setattr(rooms.log, "read_newest_events", gate)
    connecting = asyncio.ensure_future(server.user("bob").connect())
    await gate.arrived.wait()
    assert (await server.user("alice").delete(f"/rooms/{room_id}")).status == 204
    gate.open()
    await connecting
    assert server.services.rooms._ring_bytes == 0


async def test_who_waits_with_its_sync_still_gets_its_answers(server: Server) -> None:
    """They were kept for the backlog, which may never be asked for."""
    alice = server.user("alice")
    room_id = await alice.make_room()
    message = await alice.say(room_id)
    waiting = await alice.connect(sync="none", ready=False)
    target = {"room_id": room_id, "message_id": message["message_id"]}
    await waiting.send("message.edit", **target, content="edited", request_id="edit")
    await waiting.expect("message.edited", seq=2, request_id="edit")
    await waiting.send("message.delete", **target, request_id="delete")
    await waiting.expect("message.deleted", seq=3, request_id="delete")
    await waiting.expect_nothing("message.deleted")


async def test_retention_shows_no_more_to_who_was_removed_while_it_was_behind(start_server: StartServer) -> None:
    """The cursor was moved past the member's own leaving, and what came after was counted from there."""
    clock = HandClock()
    server = await start_server(clock=clock)
    alice, bob = server.user("alice"), server.user("bob")
    clock.set_forward(-2 * 86_400)  # two days ago
    room_id = await alice.make_room("bob")
    behind = await bob.connect(sync="none", ready=False)
    await behind.expect("ready")
    await alice.delete(f"/rooms/{room_id}/members/bob")
    for _ in range(5):
        await alice.say(room_id, "secret")
    clock.set_forward(2 * 86_400)
    for _ in range(20):
        await alice.say(room_id, "secret")
    [tenant] = server.services.tenants.all()
    tenant.settings = replace(tenant.settings, retention_days=1)
    await apply_retention(server.services, tenant)
    await behind.send("sync", rooms={})
    frames = await behind.collect("sync.complete")
    assert [(frame["type"], frame["from_seq"], frame["to_seq"]) for frame in frames] == [("sync.gap", 1, 1)]


async def test_who_waits_to_be_asked_for_its_body_is_asked(server: Server) -> None:
    reader, writer = await server.open()
    body = b'{"type":"group"}'
    head = ["POST /rooms HTTP/1.1", "Host: chat", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    credential = [f"{name}: {value}" for name, value in server.user("alice").headers.items()]
    writer.write("\r\n".join([*head, *credential, "Expect: 100-continue", "Connection: close", "", ""]).encode())
    async with asyncio.timeout(WAIT_SECONDS):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.read()).startswith(b"HTTP/1.1 201 Created")
    writer.close()


@pytest.mark.slow
async def test_frames_of_its_own_make_a_connection_slow_too(start_server: StartServer) -> None:
    """`room.created` is published to nobody, so nobody noticed that it piled up."""
    server = await start_server({"limits.slow_consumer_seconds": 1})
    alice = server.user("alice")
    reluctant = await connect_without_reading(server, "bob")
    [connection] = server.connections_of("bob")
    await eventually(lambda: connection.state is State.LIVE)
    while connection.unsent_bytes() <= connection.buffer_limit_bytes:
        await alice.make_room("bob", metadata={"x": "y" * 16_000})
    await eventually(lambda: connection.state is State.RECOVERING)
    await eventually(lambda: connection.close_code == SLOW_CONSUMER)
    reluctant.writer.transport.abort()


@pytest.mark.slow
@pytest.mark.parametrize("reads", [False, True])
async def test_an_answer_that_nobody_reads_is_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    """It was held for as long as the client kept its end open."""
    monkeypatch.setattr(server_module, "UNREAD_SECONDS", 0.2)
    alice = server.user("alice")
    room_id = await alice.make_room()
    for _ in range(20):
        await alice.say(room_id, "x" * 60_000)
    reader, writer = await open_narrow(server)
    lines = [f"{name}: {value}" for name, value in alice.headers.items()]
    head = [f"GET /rooms/{room_id}/messages HTTP/1.1", "Host: chat", *lines, "Connection: close", "", ""]
    writer.write("\r\n".join(head).encode())
    received = 0
    with contextlib.suppress(ConnectionResetError):
        if not reads:
            await asyncio.sleep(1)
        while data := await reader.read(20_000):
            received += len(data)
            if reads:
                await asyncio.sleep(0.004)  # 1.2 MB take far longer than UNREAD_SECONDS
    assert (received > 1_000_000) is reads  # a page ends at 1 MiB
    writer.close()


async def test_a_room_that_is_read_before_its_creation_is_published_is_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two objects of one room would each give its next `seq`."""
    alice, bob = server.user("alice"), server.user("bob")
    writer = server.services.store.writer
    gate, commit = asyncio.Event(), writer._commit
    committed = asyncio.Event()

    async def commit_and_wait(batch: Sequence[Write]) -> None:
        await commit(batch)
        committed.set()
        await gate.wait()

    monkeypatch.setattr(writer, "_commit", commit_and_wait)
    creating = asyncio.ensure_future(alice.make_room("bob"))
    await committed.wait()
    listener = await bob.connect()
    gate.set()
    room_id = await creating
    [connection] = server.connections_of("bob")
    assert len(connection.rooms) == 1
    await alice.say(room_id)
    await listener.expect("message", seq=1)


async def test_who_reads_slowly_is_not_silent(start_server: StartServer) -> None:
    """Pings wait behind what it has to read, and so do its answers: it was dropped in the middle of a long backlog."""
    clock = HandClock()
    server = await start_server({"websocket.heartbeat_seconds": 0.2, "websocket.timeout_seconds": 10}, clock=clock)
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    slow = await connect_without_reading(server, "bob")
    [connection] = server.connections_of("bob")
    while connection.transport.get_write_buffer_size() < 500_000:
        await alice.say(room_id, "x" * 60_000)
    for _ in range(5):
        clock.advance(4)
        heard_at_s = connection.heard_at_s
        async with asyncio.timeout(WAIT_SECONDS):
            while connection.heard_at_s == heard_at_s:
                await slow._reader.read(4096)
                await asyncio.sleep(0.005)
    assert server.connections_of("bob") == [connection]

    def is_dropped() -> bool:
        clock.advance(11)  # again, since it may have taken something since the sweep before
        return not server.connections_of("bob")

    await eventually(is_dropped)
    slow.writer.transport.abort()


@pytest.mark.parametrize("user_id", ["{", "}", "{x}", "a/b", "100%", "a+b?c#d"])
async def test_every_user_id_fits_into_a_path(server: Server, user_id: str) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room(user_id)
    path = yarl.URL(f"{server.url}/rooms/{room_id}/members/{quote(user_id, safe='')}", encoded=True)
    async with server.session.delete(path, headers=alice.headers) as response:
        assert response.status == 204
