"""`POST /admin/compact`: free space of the database goes back while others are served."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import StartServer
from driver import Server, checkpoint
from sample_database import add_big_room, make_database

from chatapi.store import free_space
from chatapi.store.check import check_database
from chatapi.store.file import name_identity

MIB = 1024 * 1024
MESSAGE = "x" * 60_000


@pytest.fixture(autouse=True)
def short_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_space, "CALL_SECONDS", 0.2)


async def find_size(database: Path) -> int:
    return (await asyncio.to_thread(database.stat)).st_size


async def compact(server: Server) -> dict[str, Any]:
    reply = await server.admin("POST", "/compact")
    assert reply.status == 200, reply
    return dict(reply.data)


async def compact_to_the_end(server: Server) -> dict[str, Any]:
    async with asyncio.timeout(60):  # each call takes longer on a busy machine
        while (told := await compact(server))["stage"] != "done":
            pass
    return told


async def fill(server: Server, mebibytes: int) -> str:
    """A room of alice's with so much in it, all of which is in the file and not only in the log."""
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    for _ in range(1 + mebibytes * MIB // len(MESSAGE)):
        await alice.say(room_id, MESSAGE)
    await checkpoint(server)
    return room_id


@asynccontextmanager
async def another(database: Path, *statements: str) -> AsyncIterator[None]:
    """Another process has the database open, and has run these."""
    connection = await asyncio.to_thread(sqlite3.connect, database, isolation_level=None, check_same_thread=False)
    for statement in statements:
        await asyncio.to_thread(lambda sql: connection.execute(sql).fetchall(), statement)
    yield
    await asyncio.to_thread(connection.close)


READING = ("BEGIN", "SELECT count(*) FROM messages")  # of the database as it was, as a backup or a check does


async def test_deleted_rows_are_given_back_beside_others_who_write(server: Server, database: Path) -> None:
    alice = server.user("alice")
    big, kept = await fill(server, 2), await alice.make_room("bob")
    done = asyncio.Event()

    async def write() -> int:
        sent = 0
        while not done.is_set():
            sent += 1
            assert (await alice.say(kept, f"{sent}"))["seq"] == sent
        return sent

    before_bytes = await find_size(database)
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(write())
        assert (await alice.delete(f"/rooms/{big}")).status == 204
        told = await compact_to_the_end(server)
        done.set()
    assert told["free_bytes"] == 0
    assert before_bytes > 2 * MIB
    assert await find_size(database) < MIB
    page = (await alice.get(f"/rooms/{kept}/messages")).data["messages"]
    assert page[-1]["seq"] == writing.result()
    assert (await asyncio.to_thread(check_database, str(database))).findings == []


async def test_two_at_the_same_time_share_the_work(server: Server, database: Path) -> None:
    alice = server.user("alice")
    room_id = await fill(server, 2)
    await alice.delete(f"/rooms/{room_id}")
    for told in await asyncio.gather(compact_to_the_end(server), compact_to_the_end(server)):
        assert told["free_bytes"] == 0
    assert await find_size(database) < MIB


async def test_where_nothing_is_free_there_is_nothing_to_do(server: Server, database: Path) -> None:
    told = await compact_to_the_end(server)
    assert told == {
        "stage": "done",
        "before_bytes": await find_size(database),
        "file_bytes": await find_size(database),
        "free_bytes": 0,
    }


@pytest.mark.slow
async def test_the_file_is_cut_off_once_nobody_reads_the_old_pages(server: Server, database: Path) -> None:
    alice = server.user("alice")
    room_id = await fill(server, 2)
    async with another(database, *READING):
        await alice.delete(f"/rooms/{room_id}")
        while (told := await compact(server))["free_bytes"]:
            pass
        assert (told["stage"], told["file_bytes"]) == ("waiting", told["before_bytes"])
        assert told["file_bytes"] > 2 * MIB
    assert (await compact_to_the_end(server))["file_bytes"] < MIB


async def test_nothing_moves_while_somebody_needs_the_log(
    start_server: StartServer, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(free_space, "MAX_PINNED_PAGES", 0)
    server = await start_server({"search.enabled": False})  # the index grows in the background
    alice, writer = server.user("alice"), server.services.store.writer
    room_id = await fill(server, 1)
    async with another(database, *READING):
        await alice.delete(f"/rooms/{room_id}")
        while not writer.pinned_wal_pages:  # found by a checkpoint, which follows every few steps
            await writer.step(lambda _connection, _is_over: None)
        pages = await server.services.store.readers.fetch("PRAGMA page_count", {})
        assert (await compact(server))["stage"] == "waiting"
        assert await server.services.store.readers.fetch("PRAGMA page_count", {}) == pages
    told = await compact_to_the_end(server)
    assert (told["free_bytes"], told["file_bytes"] < MIB) == (0, True)


async def test_a_database_of_an_earlier_version_is_refused_with_a_hint(
    start_server: StartServer, database: Path
) -> None:
    await asyncio.to_thread(database.unlink)
    await asyncio.to_thread(make_database, database)
    await asyncio.to_thread(add_big_room, database, 10)
    server = await start_server()
    reply = await server.admin("POST", "/compact")
    assert (reply.status, reply.error["code"]) == (409, "CONFLICT")
    assert "stop the server, run `chatapi compact` once" in reply.error["message"]


async def test_a_database_that_is_not_the_one_meant_is_left_alone(server: Server, database: Path) -> None:
    reply = await server.admin("POST", "/compact", params={"database": "1:2"})
    assert (reply.status, reply.error["code"]) == (409, "CONFLICT")
    for text in ("", "1", "1:", "1:2\n", "a:b", "1:2:3", "1" * 21 + ":2", "²:2"):
        reply = await server.admin("POST", "/compact", params={"database": text})
        assert (reply.status, reply.error["code"], reply.error["field"]) == (400, "VALIDATION_ERROR", "database"), text
    identity = await asyncio.to_thread(name_identity, str(database))
    assert (await server.admin("POST", "/compact", params={"database": identity})).status == 200


async def test_a_locked_database_is_503(server: Server, database: Path) -> None:
    await server.services.store._connection.execute("PRAGMA busy_timeout = 100")
    async with another(database, "BEGIN IMMEDIATE"):
        assert (await server.admin("POST", "/compact")).status == 503
    await compact_to_the_end(server)


async def test_it_is_the_operators_alone(server: Server) -> None:
    for headers in ({}, server.user("alice").headers, {"X-Master-Key": "wrong"}):
        assert (await server.request("POST", "/admin/compact", headers=headers)).status == 401
