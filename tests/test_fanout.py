"""Delivery: what is committed reaches every connection, in order, once."""

import asyncio
import json
from typing import Any

import pytest
from driver import Server
from raw_websocket import PONG, TEXT, RawSocket

from chatapi import committer
from chatapi.protocol import encoders
from chatapi.protocol.wire import encode_pong


async def messages(socket: RawSocket, count: int) -> list[dict[str, Any]]:
    return [await socket.expect("message") for _ in range(count)]


async def test_everybody_gets_everything_in_order(server: Server) -> None:
    users = [server.user(f"user-{n}") for n in range(10)]
    rooms = [await users[0].make_room(*(user.user_id for user in users)) for _ in range(3)]
    sockets = [await user.connect() for user in users for _ in range(2)]
    senders = [await user.connect_raw() for user in users]
    for n in range(10):
        for sender in senders:
            for room_id in rooms:
                sender.send_frame("send_message", room_id=room_id, content=f"{n}")
    for socket in sockets:
        seqs: dict[str, list[int]] = {room_id: [] for room_id in rooms}
        for _ in range(300):
            frame = await socket.expect("message")
            seqs[frame["room_id"]].append(frame["seq"])
        assert seqs == {room_id: list(range(1, 101)) for room_id in rooms}


async def test_the_messages_of_a_batch_go_out_as_one_chunk(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    socket = await bob.connect()
    [connection] = server.connections_of("bob")
    writes: list[bytes] = []
    write = connection.transport.write

    def record(data: bytes) -> None:
        writes.append(data)
        write(data)

    class Recorder:
        def __getattr__(self, name: str) -> Any:
            return record if name == "write" else getattr(transport, name)

    transport, connection.transport = connection.transport, Recorder()
    await server.together(*(alice.post(f"/rooms/{room_id}/messages", {"content": f"{n}"}) for n in range(8)))
    assert [(await socket.next())["content"] for _ in range(8)] == [f"{n}" for n in range(8)]
    assert len(writes) == 1
    connection.transport = transport


async def test_changes_keep_their_place_among_the_messages_of_their_batch(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id, other = await alice.make_room("bob"), await alice.make_room("bob")
    message = await alice.say(room_id, "old")
    socket = await bob.connect()
    path = f"/rooms/{room_id}"
    await server.together(
        alice.post(f"{path}/messages", {"content": "a"}),
        alice.post(f"/rooms/{other}/messages", {"content": "elsewhere"}),
        alice.put(f"{path}/messages/{message['message_id']}", {"content": "new"}),
        alice.post(f"{path}/messages", {"content": "b"}),
        alice.patch(path, {"name": "x"}),
        alice.post(f"{path}/messages", {"content": "c"}),
        alice.delete(f"{path}/messages/{message['message_id']}"),
    )
    frames = [await socket.next() for _ in range(7)]
    here = [(frame["seq"], frame["type"], frame.get("content")) for frame in frames if frame["room_id"] == room_id]
    assert here == [
        (2, "message", "a"),
        (3, "message.edited", "new"),
        (4, "message", "b"),
        (5, "room.updated", None),
        (6, "message", "c"),
        (7, "message.deleted", None),
    ]


async def test_removed_member_gets_no_later_event_of_the_same_batch(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    socket, watcher = await bob.connect(), await alice.connect()
    path = f"/rooms/{room_id}"
    replies = await server.together(
        alice.post(f"{path}/messages", {"content": "before"}),
        alice.delete(f"{path}/members/bob"),
        alice.post(f"{path}/messages", {"content": "after"}),
        bob.post(f"{path}/messages", {"content": "from outside"}),
        alice.patch(path, {"name": "x"}),
        alice.post(f"{path}/members", {"user_id": "bob"}),
        bob.post(f"{path}/messages", {"content": "back"}),
    )
    assert [reply.status for reply in replies] == [201, 204, 201, 403, 200, 201, 201]
    seen = [(await socket.next()) for _ in range(4)]
    assert [(frame["type"], frame.get("seq"), frame.get("content")) for frame in seen] == [
        ("message", 1, "before"),
        ("member.left", 2, None),
        ("room.created", None, None),
        ("message", 6, "back"),
    ]
    assert [(await watcher.next())["seq"] for _ in range(6)] == [1, 2, 3, 4, 5, 6]


async def test_new_member_gets_later_events_of_the_same_batch(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room()
    socket = await bob.connect()
    await server.together(
        alice.post(f"/rooms/{room_id}/messages", {"content": "before"}),
        alice.post(f"/rooms/{room_id}/members", {"user_id": "bob"}),
        alice.post(f"/rooms/{room_id}/messages", {"content": "after"}),
    )
    assert [(frame["type"], frame.get("content")) for frame in (await socket.next(), await socket.next())] == [
        ("room.created", None),
        ("message", "after"),
    ]


async def test_frames_of_all_kinds_keep_their_order_on_the_wire(server: Server) -> None:
    """Text, pongs and answers all go through the connection's outbox: thousands of them, mixed."""
    alice = server.user("alice")
    room_id = await alice.make_room()
    socket, sender = await alice.connect_raw(ready=True), await alice.connect_raw(ready=True)
    [connection] = [
        found
        for found in server.connections_of("alice")
        if found.transport.get_extra_info("peername") == socket.writer.get_extra_info("sockname")
    ]
    expected: list[str] = []
    hub = server.services.hub

    def mix(_: object) -> None:
        for n in range(100):
            hub.send(connection, encode_pong(f"pong {n}".encode()))
            expected.append(f"pong {n}")

    for round_number in range(20):
        sender.send_frame("send_message", room_id=room_id, content=f"message {round_number}")
        expected.append(f"message {round_number}")
        await sender.expect("message")
        mix(None)
    seen: list[str] = []
    while len(seen) < len(expected):
        opcode, payload = await socket.next()
        assert opcode in (TEXT, PONG)
        seen.append(payload.decode() if opcode == PONG else json.loads(payload)["content"])
    assert seen == expected


async def test_one_event_is_encoded_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = server.user("alice")
    names = [f"user-{n}" for n in range(20)]
    room_id = await alice.make_room(*names)
    sockets = [await server.user(name).connect() for name in names]
    encoded: list[object] = []
    encode = encoders.encode_message_frame
    monkeypatch.setattr(committer, "encode_message_frame", lambda message: encoded.append(message) or encode(message))
    await alice.say(room_id)
    for socket in sockets:
        await socket.expect("message")
    assert len(encoded) == 1


async def test_a_connection_that_has_gone_holds_nobody_up(server: Server) -> None:
    alice, bob, carol = (server.user(name) for name in ("alice", "bob", "carol"))
    room_id = await alice.make_room("bob", "carol")
    gone, there = await bob.connect_raw(ready=True), await carol.connect()
    gone.writer.transport.abort()
    await asyncio.gather(*(alice.say(room_id, f"{n}") for n in range(20)))
    for seq in range(1, 21):
        await there.expect("message", seq=seq)
    # Nothing of it is lost for who has gone: its next connection gets all.
    back = await bob.connect(ready=False)
    frames = await back.collect("sync.complete")
    assert [frame["seq"] for frame in frames if frame["type"] == "message"] == list(range(1, 21))
