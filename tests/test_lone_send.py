"""What one message costs that is alone, in turns of the loop and in trips to the database's thread: counts, since times
are another machine's tomorrow."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import pytest
from driver import Server
from raw_websocket import TEXT, encode_frame

from chatapi.store import MessageWrite, Write
from chatapi.ws.client_socket import ClientSocket


class Commit(NamedTuple):
    """One with messages. Those of the housekeeping, which come at any time, are not looked at."""

    turn: int
    trips: int
    messages: int


class Record:
    """The turns of the running loop, the commits, and when frames came."""

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        self.turn = self._trips = 0
        self.commits: list[Commit] = []
        self._handle = asyncio.get_running_loop().call_soon(self._begin_turn)
        writer = server.services.store.writer
        commit_together, execute = writer._commit_together, writer._connection._execute

        async def note_commit(batch: Sequence[Write]) -> None:
            turn, before = self.turn, self._trips
            await commit_together(batch)
            if messages := sum(isinstance(write, MessageWrite) for write in batch):
                self.commits.append(Commit(turn, self._trips - before, messages))

        async def note_trip(*args: Any) -> Any:
            self._trips += 1
            return await execute(*args)  # type: ignore[no-untyped-call]

        monkeypatch.setattr(writer, "_commit_together", note_commit)
        monkeypatch.setattr(writer._connection, "_execute", note_trip)

    def _begin_turn(self) -> None:
        self.turn += 1
        self._handle = asyncio.get_running_loop().call_soon(self._begin_turn)

    def end(self) -> None:
        self._handle.cancel()


@pytest.fixture
async def record(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Record]:
    record = Record(server, monkeypatch)
    yield record
    record.end()


async def connect(server: Server, count: int) -> tuple[str, list[Any], list[ClientSocket]]:
    """A room, a member's sockets, and the server's ends of them."""
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    sockets = [await alice.connect() for _ in range(count)]
    ends = [connection.transport.get_protocol() for connection in server.connections_of("alice")]  # type: ignore[attr-defined]
    assert len(ends) == count
    return room_id, sockets, ends


def encode_send(room_id: str) -> bytes:
    return encode_frame(
        0x80 | TEXT, json.dumps({"type": "send_message", "room_id": room_id, "content": "hello"}).encode()
    )


async def test_a_lone_message_takes_one_trip_and_begins_it_two_turns_after_it_came(
    server: Server, record: Record
) -> None:
    room_id, [socket], [end] = await connect(server, 1)
    came = []
    for _ in range(5):
        came.append(record.turn)
        end.data_received(encode_send(room_id))
        await socket.expect("message.sent")
    assert [commit.messages for commit in record.commits] == [1] * 5
    # The least of them, since the housekeeping may be before one, or in its commit.
    assert min(commit.trips for commit in record.commits) == 1
    # One turn is the worker's, and one the writer's, in which the frames of others join (docs/design.md).
    assert min(commit.turn - turn for commit, turn in zip(record.commits, came, strict=True)) == 2


async def test_messages_that_come_in_one_turn_share_one_commit(server: Server, record: Record) -> None:
    room_id, sockets, ends = await connect(server, 8)
    for end in ends:
        end.data_received(encode_send(room_id))
    for socket in sockets:
        await socket.expect("message.sent")
    assert [commit.messages for commit in record.commits] == [8]
