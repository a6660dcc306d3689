"""The machine that a connection is, without sockets and without a database: whatever happens to it, it gets each event
of a room once and in order, or is told which ones it does not get."""

import asyncio
import json
import random
from collections.abc import Sequence
from typing import Any, cast

import pytest
from driver import HandClock

from chatapi.access import Access
from chatapi.config import Config, resolve_settings
from chatapi.connection import Connection, ConnectionState, TransportKind
from chatapi.deltas import Deltas, ShownState
from chatapi.errors import not_found
from chatapi.hub import Hub
from chatapi.models import (
    MemberState,
    Principal,
    Role,
    RoomId,
    RoomKey,
    RoomType,
    TenantId,
    TenantKey,
    TenantState,
    UserId,
)
from chatapi.open_streams import OpenStream
from chatapi.peer_transport import PeerTransport
from chatapi.protocol.answers import Message
from chatapi.protocol.encoders import encode_message_frame
from chatapi.protocol.fields import StreamStatus
from chatapi.protocol.json import dumps
from chatapi.protocol.wire import encode_text
from chatapi.recovery import Recovery
from chatapi.room import RoomState
from chatapi.rooms import Rooms
from chatapi.store import Readers
from chatapi.tasks import Tasks

LIMIT_BYTES = 2_000
BOB = UserId("bob")


class Transport(asyncio.Transport):
    """Holds what is written until it is read, and tells the `PeerTransport` of both."""

    peer: PeerTransport

    def __init__(self) -> None:
        super().__init__()
        self.unread = b""
        self.frames: list[dict[str, Any]] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.unread += data
        if len(self.unread) > LIMIT_BYTES:
            self.peer.pause()

    def read(self) -> None:
        """The peer takes all; each frame is short enough for one or two bytes of length (RFC 6455, section 5.2)."""
        self.peer.resume()
        data, self.unread = self.unread, b""
        while data:
            size, start = data[1], 2
            if size == 126:
                size, start = int.from_bytes(data[2:4], "big"), 4
            self.frames.append(json.loads(data[start : start + size]))
            data = data[start + size :]

    def get_write_buffer_size(self) -> int:
        return len(self.unread)

    def is_closing(self) -> bool:
        return False


class UncountedTransport(PeerTransport):
    """There is no socket that could tell what the peer has taken."""

    def count_taken(self) -> int:
        return 0


class StorelessRecovery(Recovery):
    async def _read_states(self, wants: Sequence[tuple[RoomState, OpenStream]]) -> list[ShownState | None]:
        await asyncio.sleep(0)
        return [ShownState(stream.read()) for _, stream in wants]


class World:
    """Two rooms, bob in both, and one connection of bob's."""

    def __init__(self) -> None:
        tenant = TenantState(
            tenant_key=TenantKey(1),
            tenant_id=TenantId("t"),
            name="t",
            token_secret="",
            config={},
            settings=resolve_settings({}, Config()),
            created_at_us=0,
            epoch="e1",
        )
        self.crashed: list[str] = []
        self.hub = Hub(HandClock())
        no_readers = cast(Readers, None)  # all that is asked for is in the rings
        self.rooms = Rooms(no_readers, HandClock())
        self.deltas = Deltas(self.hub, self.rooms.streams)
        self.recovery = StorelessRecovery(
            readers=no_readers,
            rooms=self.rooms,
            access=Access(self.rooms),
            hub=self.hub,
            deltas=self.deltas,
            tasks=Tasks(self.crashed.append),
            sync_limit=60,
            slow_consumer_seconds=10,
        )
        self.hub.recover = self.recovery.start
        self.all = [self._make_room(tenant, number) for number in (1, 2)]
        self.left_at = dict.fromkeys(self.all, 0)  # the last event that bob may see, of each room that he has left
        self.transport = Transport()
        self.transport.peer = UncountedTransport(self.transport, 10)
        self.transport.peer.release()
        self.connection = Connection(
            connection_id="c",
            principal=Principal(tenant, BOB, "api_key"),
            kind=TransportKind.WEBSOCKET,
            transport=self.transport,
            peer=self.transport.peer,
            buffer_limit_bytes=LIMIT_BYTES,
            now_s=0,
        )
        self.connection.is_ready = True
        self.hub.attach(self.connection)

    def _make_room(self, tenant: TenantState, number: int) -> RoomState:
        room = RoomState(
            tenant=tenant,
            room_key=RoomKey(number),
            room_id=RoomId(f"room_{number}"),
            room_type=RoomType.CHANNEL,
            unique_key=None,
            name=None,
            metadata=None,
            created_by=BOB,
            created_at_us=0,
            updated_at_us=0,
        )
        return self.rooms.add(room)

    def join(self, room: RoomState) -> None:
        room.add_member(MemberState(BOB, Role.MEMBER, 0, room.published_seq, room.published_seq))
        self.hub.enter(self.connection, room, room.published_seq)
        fields = {"room_id": room.room_id, "left_at": self.left_at[room], "last_seq": room.published_seq}
        self.hub.send(self.connection, encode_text(dumps({"type": "joined", **fields})))

    def leave(self, room: RoomState) -> None:
        """As a removal: its event is the last that bob gets."""
        room.remove_member(BOB)
        self.left_at[room] = room.published_seq
        self.connection.leave(room, last_seq=room.published_seq)

    def unsubscribe(self, room: RoomState) -> None:
        self.connection.unsubscribe(room)
        self.hub.send(self.connection, encode_text(dumps({"type": "unsubscribed", "room_id": room.room_id})))

    def subscribe(self, room: RoomState) -> None:
        last_seq = room.published_seq
        self.hub.enter(self.connection, room, last_seq)
        fields = {"room_id": room.room_id, "last_seq": last_seq}
        self.hub.send(self.connection, encode_text(dumps({"type": "subscribed", **fields})))

    def say(self, room: RoomState) -> None:
        seq = room.published_seq + 1
        frame = encode_text(dumps({"type": "message", "room_id": room.room_id, "seq": seq, "content": "x" * 1_000}))
        self.rooms.remember(room, frame, seq)
        self.hub.publish(room, [frame])
        self.hub.flush()

    def open_stream(self, room: RoomState) -> None:
        seq = room.published_seq + 1
        message = Message(
            f"m{room.room_id}{seq}",
            room.room_id,
            seq,
            "alice",
            "",
            None,
            None,
            None,
            "",
            None,
            None,
            stream=StreamStatus(state="open", index=0),
        )
        frame = encode_message_frame(message)
        self.rooms.open_stream(room, message)
        self.rooms.remember(room, frame, seq)
        self.hub.publish(room, [frame])
        self.hub.flush()

    def append(self, room: RoomState, text: str) -> None:
        """To each of the room's streams."""
        for stream in room.ring.streams.values():
            after = stream.stored_index
            stream.accept(text.encode())
            stream.note_stored(stream.accepted_index)
            self.deltas.deliver(room, stream, after, stream.stored_index, text)
        self.hub.flush()

    def end_stream(self, room: RoomState) -> None:
        """The oldest."""
        stream = next(iter(room.ring.streams.values()), None)
        if stream is not None:
            self.rooms.end_stream(room, stream.message, not_found("Message"))
            self.say(room)  # whatever it is that has ended it

    async def resolve_settings(self) -> None:
        """The peer reads until there is nothing left to do."""
        for _ in range(300):
            await asyncio.sleep(0)
            self.transport.read()
        assert self.connection.state is ConnectionState.LIVE


class Reader:
    """What the peer makes of the frames. Raises AssertionError for a gap that is not named, and for a repetition."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._taken = 0
        self.cursors = {room.room_id: 0 for room in world.all}
        self.streams: dict[str, tuple[int, str]] = {}
        self.unsubscribed: set[str] = set()

    async def catch_up(self) -> None:
        await self._world.resolve_settings()
        frames = self._world.transport.frames
        for frame in frames[self._taken :]:
            self._take(frame)
        self._taken = len(frames)

    def _take(self, frame: dict[str, Any]) -> None:
        room_id = frame.get("room_id", "")
        assert room_id not in self.unsubscribed or frame["type"] in ("subscribed", "joined", "unsubscribed"), frame
        self._take_stream(frame)
        if frame["type"] == "message":
            assert frame["seq"] == self.cursors[room_id] + 1
            self.cursors[room_id] = frame["seq"]
        elif frame["type"] == "sync.gap":
            assert frame["from_seq"] == self.cursors[room_id] + 1
            assert frame["to_seq"] >= frame["from_seq"]
            self.cursors[room_id] = frame["to_seq"]
        elif frame["type"] == "joined":
            assert self.cursors[room_id] >= frame["left_at"] or room_id in self.unsubscribed
            self.unsubscribed.discard(room_id)
            self.cursors[room_id] = frame["last_seq"]
        elif frame["type"] == "unsubscribed":
            self.unsubscribed.add(room_id)
        elif frame["type"] == "subscribed":
            self.unsubscribed.discard(room_id)
            self.cursors[room_id] = max(self.cursors[room_id], frame["last_seq"])
        elif frame["type"] == "sync.reset":
            self.cursors |= frame["rooms"]

    def _take_stream(self, frame: dict[str, Any]) -> None:
        """A delta always goes on where the message stands."""
        shown = frame["message"] if frame["type"] == "message.state" else frame
        if "stream" in shown:
            self.streams[shown["message_id"]] = shown["stream"]["index"], shown["content"]
        elif frame["type"] == "message.delta":
            index, content = self.streams[frame["message_id"]]
            assert frame["after"] == index
            self.streams[frame["message_id"]] = frame["index"], content + frame["text"]


OPERATIONS = ("say", "say", "say", "burst", "read", "turn", "leave", "join", "sync", "sync ahead")


async def act(operation: str, room: RoomState, chance: random.Random, world: World, reader: Reader) -> None:
    is_member = BOB in room.members
    if operation == "say":
        world.say(room)
    elif operation == "open":
        world.open_stream(room)
    elif operation == "append":
        world.append(room, "y" * chance.choice((1, 300)))
    elif operation == "end":
        world.end_stream(room)
    elif operation == "burst":
        for _ in range(8):  # so few that a ring holds all of a test
            world.say(room)
    elif operation == "read":
        world.transport.read()
    elif operation == "turn":
        await asyncio.sleep(0)
    elif operation == "leave" and is_member:
        world.leave(room)
    elif operation == "join" and not is_member:
        world.join(room)
    elif operation == "unsubscribe" and is_member and room in world.connection.rooms:
        world.unsubscribe(room)
    elif operation == "subscribe" and is_member and room in world.connection.unsubscribed:
        world.subscribe(room)
    elif operation.startswith("sync") and is_member and room in world.connection.rooms:
        await reader.catch_up()
        cursor = reader.cursors[room.room_id] = max(0, room.published_seq - chance.randint(0, 40))
        after_seq = room.published_seq + 5 if operation == "sync ahead" else cursor
        await world.recovery.sync(world.connection, {room.room_id: after_seq}, "e1", "s")


@pytest.mark.parametrize("seed", range(25))
async def test_each_event_comes_once_or_is_named_as_skipped(seed: int) -> None:
    chance, world = random.Random(seed), World()
    for room in world.all:
        world.join(room)
    reader = Reader(world)
    world.recovery.begin(world.connection, None)
    await act("burst", world.all[0], chance, world, reader)
    for _ in range(150):
        await act(chance.choice(OPERATIONS), chance.choice(world.all), chance, world, reader)
    await reader.catch_up()
    assert world.connection.cursors == {}
    assert world.crashed == []
    assert world.hub.lagged > 0
    for room in world.all:
        last_seq = room.published_seq if BOB in room.members else world.left_at[room]
        assert reader.cursors[room.room_id] == last_seq


async def test_a_room_that_is_left_before_ready_gives_nothing() -> None:
    world = World()
    world.connection.is_ready = False
    first, second = world.all
    for room in world.all:
        room.add_member(MemberState(BOB, Role.MEMBER, 0, 0, 0))
        world.say(room)
        world.hub.enter(world.connection, room, 0)
    world.leave(first)
    world.connection.is_ready = True
    reader = Reader(world)
    world.recovery.begin(world.connection, None)
    await reader.catch_up()
    assert [frame["room_id"] for frame in world.transport.frames if frame["type"] == "message"] == [second.room_id]


@pytest.mark.parametrize("seed", range(25))
async def test_each_stream_is_whole_and_every_delta_goes_on_where_it_stood(seed: int) -> None:
    chance, world = random.Random(seed), World()
    for room in world.all:
        world.join(room)
    reader = Reader(world)
    world.recovery.begin(world.connection, None)
    operations = ["say", "open", "end", "read", "leave", "join", "sync", "unsubscribe", "subscribe"]
    operations += ["turn"] * 3 + ["append"] * 8
    for _ in range(200):
        await act(chance.choice(operations), chance.choice(world.all), chance, world, reader)
    await reader.catch_up()
    for room in world.all:
        if BOB not in room.members:
            world.join(room)
        elif room in world.connection.unsubscribed:
            world.subscribe(room)
    await reader.catch_up()
    for room in world.all:
        for stream in room.ring.streams.values():
            read = stream.read()
            assert reader.streams[read.message_id] == (stream.stored_index, read.content)
    assert world.crashed == []
    assert world.connection.shown is None
