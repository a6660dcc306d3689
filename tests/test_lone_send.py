"""What one message costs that is alone, in turns of the loop and in trips to the database's thread: counts, since times
are another machine's tomorrow."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from driver import Server

from chatapi.ws.client_socket import ClientSocket


class Turns:
    """The turns of the running loop."""

    def __init__(self) -> None:
        self.count = 0
        self._handle = asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self.count += 1
        self._handle = asyncio.get_running_loop().call_soon(self._turn)

    def end(self) -> None:
        self._handle.cancel()


@contextmanager
def counted_turns() -> Iterator[Turns]:
    turns = Turns()
    try:
        yield turns
    finally:
        turns.end()


def note_turns(
    monkeypatch: pytest.MonkeyPatch, turns: Turns, owner: type, name: str, noted: list[tuple[str, int]]
) -> None:
    """From now on each call is noted with its turn."""
    method: Callable[..., Any] = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        noted.append((name, turns.count))
        return method(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)


async def test_a_lone_message_is_in_the_databases_thread_one_turn_after_it_came(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    socket = await alice.connect()
    connection = server.services.store.writer._connection
    noted: list[tuple[str, int]] = []
    with counted_turns() as turns:
        note_turns(monkeypatch, turns, ClientSocket, "data_received", noted)
        note_turns(monkeypatch, turns, type(connection), "_execute", noted)
        await socket.send("send_message", room_id=room_id, content="hello", client_message_id="once")
        await socket.expect("message.sent")
    (first, came), *trips = noted
    # One trip, in which the statement is its own commit. It begins in the next turn, so that whatever else has come
    # in this one shares it.
    assert (first, trips) == ("data_received", [("_execute", came + 1)])


async def test_messages_that_come_together_share_one_commit(server: Server) -> None:
    alice, writer = server.user("alice"), server.services.store.writer
    room_id = await alice.make_room()
    sockets = [await alice.connect() for _ in range(8)]

    def count_commits() -> float:
        return dict(writer.commit_writes.cumulate())["+Inf"]

    before = count_commits()
    for number, socket in enumerate(sockets):  # nothing here waits: all of them are there in one turn
        await socket.send("send_message", room_id=room_id, content=f"number {number}")
    for socket in sockets:
        await socket.expect("message.sent")
    assert count_commits() == before + 1
