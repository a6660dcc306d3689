"""A stream in the database: what its rows say, and what they cost."""

import asyncio
from collections.abc import Sequence

import pytest
from conftest import StartServer
from driver import Server, User, eventually, restart

from chatapi.errors import ChatError, Code
from chatapi.models import Principal
from chatapi.protocol.stream_requests import StreamEnding
from chatapi.store import Transaction, streams

MAX_BYTES = 65_536


def principal_of(user: User) -> Principal:
    return user.server.services.auth.authenticate_key(user.headers["X-API-Key"], user.user_id, "")


async def rows(server: Server, sql: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await server.services.store.readers.fetch(sql, {})]


async def append_all(user: User, room_id: str, message_id: str, texts: list[str]) -> None:
    appends, principal = user.server.services.appends, principal_of(user)
    calls = [appends.append(principal, room_id, message_id, index, text) for index, text in enumerate(texts, 1)]
    await asyncio.gather(*calls)


async def test_appends_that_wait_together_are_one_row(start_server: StartServer) -> None:
    server = await start_server()
    alice = server.user("alice")
    room_id = await alice.make_room()
    opened = await alice.say(room_id, "", stream=True)
    await append_all(alice, room_id, opened["message_id"], ["é", "b", "𝄞"])
    assert await rows(server, "SELECT target_seq, last_index, text, sizes FROM stream_chunks") == [
        (1, 3, "éb𝄞", "[2,1,4]")
    ]
    server = await restart(start_server, server)
    alice = server.user("alice")
    appends, principal = server.services.appends, principal_of(alice)
    for index, text in enumerate(["é", "b", "𝄞"], 1):  # each is known again by its own text
        assert (await appends.append(principal, room_id, opened["message_id"], index, text)).index == index
        with pytest.raises(ChatError) as refused:
            await appends.append(principal, room_id, opened["message_id"], index, "other")
        assert (refused.value.code, refused.value.details) == (Code.CONFLICT, {"index": 3, "state": "open"})


async def test_streams_with_much_text_take_several_commits(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatapi.appends.COMMIT_CHARACTERS", 5)
    alice = server.user("alice")
    room_id = await alice.make_room()
    opened = [(await alice.say(room_id, "", stream=True))["message_id"] for _ in range(3)]
    insert, sizes = streams.insert_chunks, []

    async def note(transaction: Transaction, chunks: Sequence[streams.Chunk]) -> None:
        sizes.append(len(chunks))
        await insert(transaction, chunks)

    monkeypatch.setattr(streams, "insert_chunks", note)
    await asyncio.gather(*(append_all(alice, room_id, message_id, ["one", "two"]) for message_id in opened))
    assert await rows(server, "SELECT text FROM stream_chunks") == [("onetwo",)] * 3
    assert sizes == [1, 1, 1]


async def test_many_chunks_of_one_message_become_one(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatapi.appends.MERGED_CHUNKS", 4)
    monkeypatch.setattr("chatapi.appends.JOIN_SECONDS", 0.0)
    server = await start_server()
    alice = server.user("alice")
    room_id = await alice.make_room()
    message_ids = [(await alice.say(room_id, "", stream=True))["message_id"] for _ in range(2)]
    texts = ["é", "b", "c", "d", "e", "f", "g", "h", "i"]
    for index, text in enumerate(texts, 1):
        for message_id in message_ids:
            await server.services.appends.append(principal_of(alice), room_id, message_id, index, text)
    chunks = [(4, "ébcd", "[2,1,1,1]"), (8, "efgh", "[1,1,1,1]"), (9, "i", None)]
    assert await rows(server, "SELECT last_index, text, sizes FROM stream_chunks") == chunks * 2
    server = await restart(start_server, server)
    alice = server.user("alice")
    for index, text in enumerate([*texts, *"jklm"], 1):
        await server.services.appends.append(principal_of(alice), room_id, message_ids[0], index, text)
    chunks.append((13, "jklm", "[1,1,1,1]"))
    where = "WHERE target_seq = 1"
    assert await rows(server, f"SELECT last_index, text, sizes FROM stream_chunks {where}") == chunks
    path = f"/rooms/{room_id}/messages/{message_ids[0]}"
    assert (await alice.get(path)).data["content"] == "ébcdefghijklm"
    assert (await alice.post(f"{path}/finish", {"state": "done"})).data["content"] == "ébcdefghijklm"


async def test_all_that_are_open_are_taken_up_at_a_start(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STREAMS_PER_QUERY", 2)
    server = await start_server()
    alice = server.user("alice")
    rooms = [await alice.make_room() for _ in range(2)]
    opened = [(await alice.say(room_id, "a", stream=True))["message_id"] for room_id in rooms * 3]
    server = await restart(start_server, server)
    assert {stream.message.message_id for stream in server.services.rooms.streams.list_all()} == set(opened)


async def test_an_end_leaves_one_row_the_message(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    opened = await alice.say(room_id, "once ", stream=True)
    await append_all(alice, room_id, opened["message_id"], ["upon ", "a time"])
    assert await rows(server, "SELECT content, stream FROM messages") == [("once ", "open")]
    end = StreamEnding(state="done", index=2)
    await server.services.streams.finish(principal_of(alice), room_id, opened["message_id"], end)
    assert await rows(server, "SELECT content, stream FROM messages") == [("once upon a time", "done")]
    for table in ("open_streams", "stream_chunks"):
        assert await rows(server, f"SELECT count(*) FROM {table}") == [(0,)]
    assert await rows(server, "SELECT seq, frame, last_index FROM changes") == [(2, None, 2)]


async def test_the_cost_of_an_append_does_not_grow_with_the_message(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 KiB in 2,000 appends: each is written once, and once more at the end."""
    monkeypatch.setattr("chatapi.appends.JOIN_SECONDS", 0.0)
    alice = server.user("alice")
    room_id = await alice.make_room()
    opened = await alice.say(room_id, "", stream=True)
    texts = [f"{number:032}" for number in range(MAX_BYTES // 32)]
    appends, principal = server.services.appends, principal_of(alice)
    futures = []
    for index, text in enumerate(texts, 1):
        futures.append(asyncio.ensure_future(appends.append(principal, room_id, opened["message_id"], index, text)))
        if index % 20 == 0:
            await futures[-1]
    await asyncio.gather(*futures)
    [(stored, text_bytes)] = await rows(server, "SELECT count(*), sum(length(text)) FROM stream_chunks")
    assert stored <= len(texts) // 20 + 1
    assert text_bytes == MAX_BYTES
    await server.services.streams.finish(
        principal, room_id, opened["message_id"], StreamEnding(state="done", index=len(texts))
    )
    message = (await alice.get(f"/rooms/{room_id}/messages/{opened['message_id']}")).data
    assert message["content"] == "".join(texts)


async def test_a_commit_that_fails_fails_all_of_the_message(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    opened = await alice.say(room_id, "", stream=True)
    appends, principal = server.services.appends, principal_of(alice)
    await append_all(alice, room_id, opened["message_id"], ["one"])
    async with server.hold_writer():
        waiting = [asyncio.ensure_future(appends.append(principal, room_id, opened["message_id"], 2, "two"))]
        await eventually(lambda: appends._is_committing)
        waiting.append(asyncio.ensure_future(appends.append(principal, room_id, opened["message_id"], 3, "three")))
        await asyncio.sleep(0)
        server.services.store.writer._refuse_queue()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [outcome.status for outcome in outcomes if isinstance(outcome, ChatError)] == [503, 503]
    assert (await appends.append(principal, room_id, opened["message_id"], 2, "other")).index == 2
