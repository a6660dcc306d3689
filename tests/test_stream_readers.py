"""Streams as their readers see them: whoever is away, slow, or comes in the middle has the writer's text in the end."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from conftest import StartServer
from driver import EventStream, Server, Socket, User, eventually, restart
from raw_websocket import RawSocket

from chatapi import appends, deltas, housekeeping, recovery
from chatapi.connection import ConnectionState

Frame = dict[str, Any]

SMALL: dict[str, object] = {"limits.send_buffer_bytes": 8192, "websocket.presence_grace_seconds": 0}
STATE_BYTES = 70_000  # of the largest here: it is sent whole, once a connection has taken what was before it
WORDS = [f"word {number} " for number in range(40)]


@pytest.fixture(autouse=True)
def appending_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An append waits for no other to share its commit."""
    monkeypatch.setattr(appends, "JOIN_SECONDS", 0.0)


class Writer:
    """Writes one message. `text` is what the server has confirmed."""

    def __init__(self, user: User, room_id: str, message: Frame) -> None:
        self.user = user
        self.room_id = room_id
        self.message_id = str(message["message_id"])
        self.index = int(message["stream"]["index"])
        self.text = str(message["content"])

    @classmethod
    async def open(cls, user: User, room_id: str, content: str = "") -> "Writer":
        return cls(user, room_id, await user.say(room_id, content, stream=True))

    async def append(self, *texts: str) -> None:
        for text in texts:
            path = f"/rooms/{self.room_id}/messages/{self.message_id}/append"
            reply = await self.user.post(path, {"index": self.index + 1, "text": text})
            assert reply.data == {"index": self.index + 1}
            self.index += 1
            self.text += text

    async def finish(self, state: str = "done") -> None:
        path = f"/rooms/{self.room_id}/messages/{self.message_id}/finish"
        assert (await self.user.post(path, {"state": state})).data["content"] == self.text


class Reader:
    """What a client makes of its frames. Every delta goes on where the message stands: none is older, none newer."""

    def __init__(self, socket: Socket | EventStream | RawSocket) -> None:
        self.socket = socket
        self.seen: list[str] = []
        self.messages: dict[str, Frame] = {}

    async def next(self) -> Frame:
        frame = await (self.socket.next_text() if isinstance(self.socket, RawSocket) else self.socket.next())
        self.take(frame)
        return frame

    def take(self, frame: Frame) -> None:
        kind = frame["type"]
        self.seen.append(kind)
        if kind in ("message", "message.finished"):
            self.messages[frame["message_id"]] = frame
        elif kind == "message.state":
            assert frame["room_id"] == frame["message"]["room_id"]
            self.messages[frame["message"]["message_id"]] = frame["message"]
        elif kind == "message.delta":
            message = self.messages[frame["message_id"]]
            stream = message["stream"]
            assert (stream["state"], stream["index"]) == ("open", frame["after"]), frame
            self.messages[frame["message_id"]] = {
                **message,
                "content": message["content"] + frame["text"],
                "stream": {**stream, "index": frame["index"]},
            }

    async def until(self, kind: str) -> Frame:
        while (frame := await self.next())["type"] != kind:
            pass
        return frame

    async def until_as_far_as(self, writer: Writer) -> None:
        """Reads until it has the writer's text."""
        while True:
            message = self.messages.get(writer.message_id)
            if message is not None and message["stream"].get("index", writer.index) == writer.index:
                assert message["content"] == writer.text
                return
            await self.next()


async def connect(user: User) -> Reader:
    """A reader that has caught up."""
    reader = Reader(await user.connect(ready=False))
    await reader.until("sync.complete")
    return reader


# While it is written


async def test_a_message_grows_on_every_device_and_is_whole_in_the_end(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    readers = [await connect(user) for user in (alice, bob, bob)]
    writer = await Writer.open(alice, room_id, "Once: ")
    for text in WORDS[:5]:
        await writer.append(text)
        for reader in readers:
            await reader.until_as_far_as(writer)
    await writer.finish()
    for reader in readers:
        finished = await reader.until("message.finished")
        assert (finished["content"], finished["stream"]) == (writer.text, {"state": "done"})
        assert reader.seen.count("message.delta") == 5
        assert "message.state" not in reader.seen


async def test_appends_that_come_together_are_one_delta(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    reader = await connect(bob)
    writer = await Writer.open(alice, room_id)
    socket = await alice.connect()
    async with server.hold_writer():
        for index, text in enumerate(WORDS, start=1):
            await socket.send("message.append", room_id=room_id, message_id=writer.message_id, index=index, text=text)
        await socket.send("ping", request_id="taken")
        await socket.answer_to("taken")
    while (await socket.expect("message.appended"))["index"] < len(WORDS):
        pass
    writer.index, writer.text = len(WORDS), "".join(WORDS)
    await reader.until_as_far_as(writer)
    assert reader.seen.count("message.delta") <= 2


# Who comes in the middle, or comes back


async def test_a_reader_who_returns_in_the_middle_gets_the_state_after_the_backlog(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    first, second = await Writer.open(alice, room_id), await Writer.open(alice, room_id, "Two: ")
    await alice.say(room_id, "between")
    await first.append(*WORDS[:3])
    reader = await connect(bob)
    assert reader.seen[-6:] == ["message", "message", "message", "message.state", "message.state", "sync.complete"]
    for writer in (second, first):
        await writer.append(*WORDS[:4])
        await reader.until_as_far_as(writer)
        await writer.finish()
        assert (await reader.until("message.finished"))["content"] == writer.text


async def test_a_reader_who_was_away_until_the_end_finds_an_ordinary_message(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    before = await connect(bob)
    writer = await Writer.open(alice, room_id)
    await writer.append(WORDS[0])
    await before.until_as_far_as(writer)
    assert isinstance(before.socket, Socket)
    await before.socket.close()
    await writer.append(*WORDS[1:4])
    await writer.finish("cancelled")
    after = await connect(bob)
    assert after.seen[-3:] == ["message", "message.finished", "sync.complete"]
    assert after.messages[writer.message_id]["content"] == writer.text
    assert after.messages[writer.message_id]["stream"] == {"state": "cancelled"}


async def test_no_state_and_no_delta_comes_before_the_first_sync_and_a_state_after_each(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    writer = await Writer.open(alice, room_id)
    socket = await bob.connect(sync="none", ready=False)
    reader = Reader(socket)
    await reader.until("ready")
    await writer.append(WORDS[0])
    await socket.send("ping")
    await reader.until("pong")
    assert reader.seen == ["ready", "pong"]
    for count in range(1, 4):
        await socket.send("sync", rooms={room_id: 0} if count < 3 else {})
        await reader.until("sync.complete")
        assert reader.seen.count("message.state") == count
        await reader.until_as_far_as(writer)
        await writer.append(WORDS[count])
        await reader.until_as_far_as(writer)


async def test_a_sync_while_a_state_is_read_comes_first(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    writer = await Writer.open(alice, room_id)
    await writer.append(WORDS[0])
    socket = await bob.connect(sync="none", ready=False)
    reader = Reader(socket)
    await reader.until("ready")
    reads, release, find = asyncio.Event(), asyncio.Event(), recovery.log.find_message

    async def hold(*given: Any) -> Any:
        reads.set()
        await release.wait()
        return await find(*given)

    monkeypatch.setattr(recovery.log, "find_message", hold)
    await socket.send("sync", rooms={room_id: 1})
    await reads.wait()
    await socket.send("sync", rooms={room_id: 0})
    await socket.send("ping")
    await reader.until("pong")
    reader.seen.clear()
    release.set()
    await reader.until("sync.complete")
    assert reader.seen == ["message", "message.state", "sync.complete"]
    await reader.until_as_far_as(writer)


async def test_a_room_that_is_unsubscribed_while_a_state_is_read_is_not_shown(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    writer = await Writer.open(alice, room_id)
    socket = await bob.connect(sync="none", ready=False)
    reader = Reader(socket)
    reads, release, find = asyncio.Event(), asyncio.Event(), recovery.log.find_message

    async def hold(*given: Any) -> Any:
        reads.set()
        await release.wait()
        return await find(*given)

    with monkeypatch.context() as patch:
        patch.setattr(recovery.log, "find_message", hold)
        await socket.send("sync", rooms={room_id: 1})
        await reads.wait()
        await socket.send("unsubscribe", room_id=room_id)
        await reader.until("unsubscribed")
        release.set()
    await reader.until("sync.complete")
    assert "message.state" not in reader.seen
    await writer.append(WORDS[0])
    await socket.send("subscribe", room_id=room_id)
    await reader.until("message.state")
    await writer.append(WORDS[1])
    await reader.until_as_far_as(writer)


async def test_a_user_added_to_the_room_in_the_middle_gets_the_state(server: Server) -> None:
    alice, carol = server.user("alice"), server.user("carol")
    room_id, other_id = await alice.make_room("bob"), await alice.make_room("carol")
    reader = await connect(carol)
    other = await Writer.open(alice, other_id)
    writer = await Writer.open(alice, room_id)
    await writer.append(*WORDS[:3])
    await alice.post(f"/rooms/{room_id}/members", {"user_id": "carol"})
    await reader.until("message.state")
    assert "room.created" in reader.seen
    await reader.until_as_far_as(writer)
    for text in WORDS[3:6]:
        await writer.append(text)
        await other.append(text)
    await reader.until_as_far_as(writer)
    await reader.until_as_far_as(other)
    assert reader.seen.count("message.state") == 1  # of the other room it has everything


async def test_a_subscriber_in_the_middle_gets_the_state_after_the_answer(server: Server) -> None:
    alice, carol = server.user("alice"), server.user("carol")
    room_id = await alice.make_room(room_type="channel")
    reader = await connect(carol)
    assert isinstance(reader.socket, Socket)
    writer = await Writer.open(alice, room_id)
    await writer.append(*WORDS[:3])
    await reader.socket.send("subscribe", room_id=room_id)
    await reader.until("message.state")
    assert reader.seen[-2:] == ["subscribed", "message.state"]
    await writer.append(WORDS[3])
    await reader.until_as_far_as(writer)
    await reader.socket.send("unsubscribe", room_id=room_id)
    await reader.until("unsubscribed")
    await writer.append(WORDS[4])
    await reader.socket.expect_nothing("message.delta", "message.state")


async def test_a_member_who_is_removed_gets_nothing_more_of_it(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    reader = await connect(bob)
    assert isinstance(reader.socket, Socket)
    writer = await Writer.open(alice, room_id)
    await writer.append(WORDS[0])
    await reader.until_as_far_as(writer)
    await alice.delete(f"/rooms/{room_id}/members/bob")
    await reader.until("member.left")
    await writer.append(WORDS[1])
    await reader.socket.send("sync", rooms={})
    assert (await reader.socket.collect("sync.complete")) == []


async def test_a_member_who_is_removed_before_the_sync_is_shown_none(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    await Writer.open(alice, room_id)
    socket = await bob.connect(sync="none", ready=False)
    reader = Reader(socket)
    await reader.until("ready")
    await alice.delete(f"/rooms/{room_id}/members/bob")
    await socket.send("sync", rooms={})
    await reader.until("sync.complete")
    assert reader.seen == ["ready", "message", "member.left", "sync.complete"]


async def test_a_stream_outlives_a_restart_for_its_readers(start_server: StartServer) -> None:
    server = await start_server()
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    writer = await Writer.open(alice, room_id)
    await writer.append(*WORDS[:3])
    again = await restart(start_server, server)
    writer.user = again.user("alice")
    reader = await connect(again.user("bob"))
    assert reader.seen[-3:] == ["message", "message.state", "sync.complete"]
    await reader.until_as_far_as(writer)
    await writer.append(WORDS[3])
    await reader.until_as_far_as(writer)


async def test_a_state_has_the_reactions_of_others(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    writer = await Writer.open(alice, room_id)
    await writer.append(WORDS[0])
    await bob.put(f"/rooms/{room_id}/messages/{writer.message_id}/reactions/👍", {})
    reader = Reader(await bob.connect(ready=False))
    state = (await reader.until("message.state"))["message"]
    assert state == (await bob.get(f"/rooms/{room_id}/messages/{writer.message_id}")).data
    assert state["reactions"] == [{"emoji": "👍", "count": 1, "user_ids": ["bob"]}]


# Over HTTP alone


async def test_a_state_is_encoded_once_for_all_who_get_the_same(server: Server) -> None:
    writer = await Writer.open(server.user("alice"), await server.user("alice").make_room(), "a")
    [stream] = server.services.rooms.streams.list_all()
    state = deltas.ShownState(stream.message)
    assert b'"content":"a"' in state.encode(stream, 0)
    await writer.append("b")
    moved = state.encode(stream, 1)
    assert b'"content":"ab"' in moved
    assert state.encode(stream, 1) is moved


async def test_server_sent_events_bring_the_state_and_the_deltas(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    writer = await Writer.open(alice, room_id)
    await writer.append(*WORDS[:3])
    reader = Reader(await bob.stream(ready=False))
    await reader.until("sync.complete")
    assert reader.seen[-3:] == ["message", "message.state", "sync.complete"]
    await writer.append(*WORDS[3:6])
    await reader.until_as_far_as(writer)
    assert reader.seen.count("message.delta") == 3
    await writer.finish()
    assert (await reader.until("message.finished"))["content"] == writer.text


async def test_appends_end_no_long_poll_and_the_end_does(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    writer = await Writer.open(alice, room_id)
    polling = asyncio.create_task(bob.post("/sync", {"rooms": {room_id: 1}, "wait": 20}))
    await eventually(lambda: any(found.state is ConnectionState.LIVE for found in server.connections_of("bob")))
    await writer.append(*WORDS[:3])
    await writer.finish()
    answer = (await polling).data
    assert [event["type"] for event in answer["events"]] == ["message.finished"]
    assert (answer["events"][0]["content"], answer["rooms"]) == (writer.text, {room_id: 2})


# Slow readers


async def test_a_slow_reader_misses_deltas_and_has_the_whole_text_in_the_end(start_server: StartServer) -> None:
    server = await start_server(SMALL)
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    raw = await server.user("bob").connect_raw(is_narrow=True)
    slow = Reader(raw)
    await slow.until("sync.complete")
    quick = await connect(alice)
    [connection] = server.connections_of("bob")
    writers: list[Writer] = []
    while connection.state is ConnectionState.LIVE:
        writers.append(await Writer.open(alice, room_id))
        for _ in range(16):
            await writers[-1].append("x" * 4_000)
            assert connection.unsent_bytes() <= 8192 + STATE_BYTES
    written = sum(writer.index for writer in writers)
    for writer in writers:
        await writer.append("after that")
    for writer in writers:
        await quick.until_as_far_as(writer)
        await slow.until_as_far_as(writer)
    assert quick.seen.count("message.delta") == written + len(writers)
    assert slow.seen.count("message.delta") < written
    while connection.state is not ConnectionState.LIVE:
        raw.send_frame("ping")
        await slow.until("pong")
    states = slow.seen.count("message.state")
    assert states >= len(writers)
    for writer in writers:
        await writer.append("live again")
        await slow.until_as_far_as(writer)
    assert slow.seen.count("message.state") == states
    for writer in writers:
        await writer.finish()
        assert (await slow.until("message.finished"))["content"] == writer.text
    assert "message.state" not in quick.seen


async def test_one_that_reads_nothing_is_bounded_and_given_up(start_server: StartServer) -> None:
    server = await start_server({**SMALL, "limits.slow_consumer_seconds": 0.2})
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    bob = await server.user("bob").connect_raw(ready=True, is_narrow=True)
    [connection] = server.connections_of("bob")
    writer = await Writer.open(alice, room_id)
    most = 0
    while connection.state is not ConnectionState.CLOSED:
        if len(writer.text) > 60_000:
            writer = await Writer.open(alice, room_id)
        await writer.append("x" * 3_000)
        most = max(most, connection.unsent_bytes())
    assert most <= 8192 + STATE_BYTES
    bob.abort()


async def test_states_are_paced_and_streams_that_move_meanwhile_are_complete(start_server: StartServer) -> None:
    """More than its buffer takes at a time; each stream moves while the reader is shown the others."""
    server = await start_server({**SMALL, "limits.send_buffer_bytes": 65_536})
    alice = server.user("alice")
    rooms = [await alice.make_room("bob") for _ in range(3)]
    writers = [await Writer.open(alice, room_id) for room_id in rooms * 4]
    for writer in writers:
        await writer.append("x" * 15_000, "y" * 15_000)
    reader = Reader(await server.user("bob").connect_raw(is_narrow=True))
    [connection] = server.connections_of("bob")
    await reader.until("message.state")
    for number, writer in enumerate(writers * 2):
        await writer.append(f"z{number}")
        assert connection.unsent_bytes() <= 65_536 + 31_000
        await reader.next()
    await reader.until("sync.complete")
    for writer in writers:
        await reader.until_as_far_as(writer)
        await writer.append("end")
        await reader.until_as_far_as(writer)


# Many subscribers


@pytest.fixture
def joining(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rooms of two subscribers are large."""
    monkeypatch.setattr(deltas, "JOIN_SUBSCRIBERS", 1)
    monkeypatch.setattr(deltas, "JOIN_SECONDS", 0.1)


async def start_quietly(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Neither a job nor a ping of it flushes what waits for its readers."""
    monkeypatch.setattr(housekeeping, "list_jobs", lambda _services: [])
    return await start_server({"websocket.heartbeat_seconds": 300, "websocket.timeout_seconds": 600})


@pytest.mark.usefixtures("joining")
async def test_deltas_to_many_are_joined_and_a_newcomer_lacks_nothing(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_quietly(start_server, monkeypatch)
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    readers = [await connect(alice), await connect(bob)]
    writer = await Writer.open(alice, room_id)
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    for number in range(12):
        await writer.append(f"{number} ")
        if number == 4:
            readers.append(await connect(bob))
    for reader in readers:
        await reader.until_as_far_as(writer)
    assert readers[0].seen.count("message.delta") <= (loop.time() - started_s) / deltas.JOIN_SECONDS + 1
    await writer.append("more")
    await writer.finish()
    for reader in readers:
        assert (await reader.until("message.finished"))["content"] == writer.text


@pytest.mark.slow
async def test_many_deltas_are_published_in_turns(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await start_quietly(start_server, monkeypatch)
    monkeypatch.setattr(deltas, "TURN_DELIVERIES", 2)
    monkeypatch.setattr(appends, "JOIN_SECONDS", 0.1)
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    readers = [await connect(alice), await connect(bob)]
    writers = [await Writer.open(alice, room_id) for _ in range(8)]
    published: list[object] = []
    hub = server.services.hub
    publish_delta = hub.publish_delta
    monkeypatch.setattr(hub, "publish_delta", lambda *given: (published.append(given), publish_delta(*given)))
    counts = [0]
    loop = asyncio.get_running_loop()
    is_over = False

    def look() -> None:
        """In each iteration of the loop."""
        counts.append(len(published))
        if not is_over:
            loop.call_soon(look)

    look()
    for text in ("one ", "two ", "three"):
        await asyncio.gather(*(writer.append(text) for writer in writers))
    readers.append(await connect(bob))
    await asyncio.gather(*(writer.append(" and more") for writer in writers))
    for reader in readers:
        for writer in writers:
            await reader.until_as_far_as(writer)
    is_over = True
    assert len(published) >= 2 * len(writers)
    assert max(after - before for before, after in pairwise(counts)) <= 2  # one by the commit, one by a turn
    await asyncio.gather(*(writer.append(", and the end") for writer in writers))
    await asyncio.gather(*(writer.finish() for writer in writers))
    for reader in readers:
        for _ in writers:
            await reader.until("message.finished")
        assert {message["content"] for message in reader.messages.values()} == {writers[0].text}


@pytest.mark.usefixtures("joining")
async def test_a_delta_that_waits_when_the_message_is_deleted_never_comes(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    reader = await connect(bob)
    await alice.connect()
    writer = await Writer.open(alice, room_id)
    await writer.append("waits")
    await alice.delete(f"/rooms/{room_id}/messages/{writer.message_id}")
    await reader.until("message.deleted")
    await eventually(lambda: not server.services.deltas.count_waiting())
    assert isinstance(reader.socket, Socket)
    await reader.socket.expect_nothing("message.delta", "message.finished")
