"""What is outside the log and may not be dropped, to a connection that does not read: bounded, and not lost."""

import json
from typing import Any

import pytest
from conftest import StartServer
from driver import Server, User, eventually
from raw_websocket import TEXT, RawSocket

from chatapi.open_streams import OpenStream

BUFFER_BYTES = 65_536
SMALL: dict[str, object] = {"limits.send_buffer_bytes": BUFFER_BYTES}
METADATA = {"text": "x" * 15_000}  # 15 KB a room: a hundred are more than what the kernel takes


class Deaf:
    """`bob` on a connection that reads nothing until it is told to."""

    def __init__(self, server: Server, socket: RawSocket) -> None:
        self.server = server
        self.socket = socket
        [self.connection] = server.connections_of("bob")

    async def fill(self, alice: User) -> list[str]:
        """Rooms that are created with bob until some of them wait."""
        rooms = []
        while len(self.connection.undroppable) < 3:
            rooms.append(await alice.make_room("bob", metadata=METADATA))
            assert len(rooms) < 2_000
        assert self.connection.unsent_bytes() < BUFFER_BYTES + 20_000
        return rooms

    async def listen(self) -> list[dict[str, Any]]:
        """All that has come up to now."""
        self.socket.send_frame("ping", request_id="now")
        frames = []
        while True:
            opcode, payload = await self.socket.next()
            if opcode == TEXT:
                frame = json.loads(payload)
                if frame.get("request_id") == "now":
                    return frames
                frames.append(frame)


async def make_deaf(server: Server, query: str = "") -> Deaf:
    socket = await server.user("bob").connect_raw(query)
    await socket.expect("ready" if query else "sync.complete")
    return Deaf(server, socket)


def of_type(frames: list[dict[str, Any]], frame_type: str) -> list[str]:
    return [frame["room_id"] for frame in frames if frame["type"] == frame_type]


@pytest.mark.parametrize("query", ["", "?sync=none"])
async def test_rooms_that_come_and_go(start_server: StartServer, query: str) -> None:
    server = await start_server(SMALL)
    alice, bob = server.user("alice"), server.user("bob")
    before = await alice.make_room("bob")
    deaf = await make_deaf(server, query)
    rooms = await deaf.fill(alice)
    last = rooms[-1]
    fleeting = [await alice.make_room("bob", metadata=METADATA) for _ in range(20)]
    gone = [*fleeting, rooms[-2], rooms[0]]
    for room_id in (*gone, before):
        assert (await alice.delete(f"/rooms/{room_id}")).status == 204
    assert deaf.connection.unsent_bytes() < BUFFER_BYTES + 20_000
    assert len(deaf.connection.undroppable) < 10
    await alice.say(last, "first")
    frames: list[dict[str, Any]] = []
    if query:
        while deaf.connection.undroppable:
            frames += await deaf.listen()
        assert of_type(frames, "message") == []
        deaf.socket.send_frame("sync", rooms={})
    while of_type(frames, "message") == [] or deaf.connection.undroppable:
        frames += await deaf.listen()
    created, deleted = of_type(frames, "room.created"), of_type(frames, "room.deleted")
    assert (len(set(created)), len(set(deleted))) == (len(created), len(deleted))
    assert set(created) >= set(rooms) - {rooms[-2]}
    # Of each room it is told both or neither: here and there one has got through in time.
    assert set(created) & set(gone) == set(deleted) - {before}
    assert {rooms[0], before} <= set(deleted)
    assert len(deleted) < len(fleeting)
    order = [frame["type"] for frame in frames if frame.get("room_id") == last]
    assert order == ["room.created", "message"]
    assert [room["room_id"] for room in (await bob.get("/rooms", limit=1)).data["rooms"]] == [last]


@pytest.mark.slow
async def test_only_the_latest_read_position_of_another_device_is_owed(start_server: StartServer) -> None:
    server = await start_server(SMALL)
    alice, bob = server.user("alice"), server.user("bob")
    read, gone = await alice.make_room("bob"), await alice.make_room("bob")
    for _ in range(9):
        await alice.say(read)
        await alice.say(gone)
    deaf = await make_deaf(server)
    await deaf.fill(alice)
    for seq in range(1, 10):
        await bob.post(f"/rooms/{read}/read", {"seq": seq})
        await bob.post("/acks", {"rooms": {read: seq, gone: seq}})
    await alice.delete(f"/rooms/{gone}")
    frames: list[dict[str, Any]] = []
    while "room.deleted" not in [frame["type"] for frame in frames]:
        frames += await deaf.listen()
    assert [(frame["room_id"], frame["seq"]) for frame in frames if frame["type"] == "read.updated"] == [(read, 9)]
    assert "ack.received" not in [frame["type"] for frame in frames if frame["room_id"] == gone]
    await eventually(lambda: not deaf.connection.undroppable)
    await bob.post("/acks", {"room_id": read, "seq": 9})
    await alice.say(read)
    await deaf.socket.expect("message")


async def test_the_latest_view_of_a_room(start_server: StartServer) -> None:
    """Every change of it to a connection that reads, and of those that wait the last one."""
    server = await start_server(SMALL)
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    deaf = await make_deaf(server)
    await deaf.fill(alice)
    for notify in ("none", "mentions") * 3:
        await bob.patch(f"/rooms/{room_id}/me", {"notify": notify, "hidden": True})
    await alice.say(room_id)
    assert len(deaf.connection.undroppable) < 10
    frames: list[dict[str, Any]] = []
    while of_type(frames, "message") == [] or deaf.connection.undroppable:
        frames += await deaf.listen()
    views = [frame for frame in frames if frame["type"] == "room.me"]
    assert 1 <= len(views) < 7
    assert (views[-1]["notify"], views[-1]["hidden"]) == ("mentions", False)


async def test_every_wish_to_cancel_an_open_stream(start_server: StartServer) -> None:
    server = await start_server(SMALL)
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    path = f"/rooms/{room_id}/messages"
    streams = [(await bob.post(path, {"content": "", "stream": True})).data["message_id"] for _ in range(4)]
    deaf = await make_deaf(server)
    await deaf.fill(alice)
    for message_id in streams[:2]:
        assert (await alice.post(f"{path}/{message_id}/cancel")).status == 202
    assert (await bob.post(f"{path}/{streams[0]}/finish", {"state": "cancelled"})).status == 200
    assert (await alice.post(f"{path}/{streams[2]}/cancel")).status == 202
    kept = [subject for subject, _ in deaf.connection.undroppable if isinstance(subject, OpenStream)]
    assert all(stream.ended is None for stream in kept)  # so that those that wait are bounded
    frames: list[dict[str, Any]] = []
    while deaf.connection.undroppable:
        frames += await deaf.listen()
    frames += await deaf.listen()
    asked = [frame["message_id"] for frame in frames if frame["type"] == "message.cancel_requested"]
    assert [message_id for message_id in asked if message_id != streams[0]] == streams[1:3]
