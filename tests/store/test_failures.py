"""Errors of the database as a whole: 503 for everybody at once, one line in the log, and on it goes by itself."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conftest import StartServer
from driver import HandClock, Server, checkpoint, eventually

from chatapi import log_lines
from chatapi.store.failures import is_store_failure
from chatapi.store.writer import MAX_BATCH

# Codes that blame one statement or its values: such a write fails alone, as 500.
ALONE = {
    "SQLITE_ERROR",
    "SQLITE_INTERNAL",
    "SQLITE_ABORT",
    "SQLITE_INTERRUPT",
    "SQLITE_NOTFOUND",
    "SQLITE_EMPTY",
    "SQLITE_TOOBIG",
    "SQLITE_CONSTRAINT",
    "SQLITE_MISMATCH",
    "SQLITE_MISUSE",
    "SQLITE_AUTH",
    "SQLITE_FORMAT",
    "SQLITE_RANGE",
}
OF_ALL = {
    "SQLITE_PERM",
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_NOMEM",
    "SQLITE_READONLY",
    "SQLITE_IOERR",
    "SQLITE_CORRUPT",
    "SQLITE_FULL",
    "SQLITE_CANTOPEN",
    "SQLITE_PROTOCOL",
    "SQLITE_SCHEMA",
    "SQLITE_NOLFS",
    "SQLITE_NOTADB",
}


def make_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("x")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize("name", sorted(OF_ALL | ALONE))
def test_every_primary_code_is_judged_with_its_extended_ones(name: str) -> None:
    code = getattr(sqlite3, name)
    for extended in (code, code | 1 << 8, code | 33 << 8):
        assert is_store_failure(make_error(extended)) is (name in OF_ALL)


def test_errors_that_are_not_sqlites_are_no_store_failures() -> None:
    assert is_store_failure(MemoryError())  # what Python makes of SQLITE_NOMEM
    assert not is_store_failure(sqlite3.ProgrammingError("wrong number of bindings"))
    assert not is_store_failure(RuntimeError())


@contextlib.asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Another connection holds the right to write."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")  # the server may be writing
        yield
        other.execute("ROLLBACK")


async def set_patience(server: Server, milliseconds: int) -> None:
    await server.services.store._connection.execute(f"PRAGMA busy_timeout = {milliseconds}")


async def test_a_locked_database_refuses_all_at_once_and_goes_on_by_itself(
    start_server: StartServer, database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    await set_patience(server, 200)
    async with locked(database):
        # Three batches: the first waits for the lock, those behind it are refused with it.
        sends = [alice.post(f"/rooms/{room_id}/messages", {"content": f"{n}"}) for n in range(3)]
        for status in await asyncio.gather(*(send for send in sends)):
            assert (status.status, status.error["code"]) == (503, "INTERNAL_ERROR")
        [(patience,)] = await server.services.store._connection.execute_fetchall("PRAGMA busy_timeout")
        assert patience == 0  # nobody waits again for nothing
        for path in ("/readyz", "/health"):
            assert (await server.request("GET", path)).status == 503
        assert (await alice.post("/rooms", {"type": "group"})).status == 503
        assert (await alice.get(f"/rooms/{room_id}/messages")).data["messages"] == []  # reads go on
        socket = await alice.connect()
        await socket.send("send_message", room_id=room_id, content="x", request_id="r")
        assert (await socket.expect("error"))["code"] == "INTERNAL_ERROR"
    clock.advance(2)
    assert (await server.request("GET", "/health")).status == 200
    assert (await server.request("GET", "/readyz")).status == 200
    assert (await alice.say(room_id, "at last"))["seq"] == 1
    [(patience,)] = await server.services.store._connection.execute_fetchall("PRAGMA busy_timeout")
    assert patience == 5000
    assert caplog.text.count("the database refuses writes: database is locked (SQLITE_BUSY)") == 1
    assert "Traceback" not in caplog.text


@pytest.mark.slow
async def test_writes_behind_a_refused_batch_are_refused_with_it(server: Server, database: Path) -> None:
    await set_patience(server, 300)
    writer = server.services.store.writer

    async def nothing(_: object) -> None:
        return

    async with locked(database):
        async with asyncio.timeout(15):  # 40 batches would wait 12 seconds one by one
            changes = [asyncio.ensure_future(writer.change(nothing)) for _ in range(40 * MAX_BATCH)]
            errors = await asyncio.gather(*changes, return_exceptions=True)
    assert {getattr(error, "status", None) for error in errors} == {503}


async def test_a_commit_that_does_not_end_is_waited_for_by_nobody_else(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatapi.health.WRITE_TIMEOUT_SECONDS", 0.05)
    clock = HandClock()
    server = await start_server(clock=clock)
    stuck = threading.Event()
    store = server.services.store
    await store._connection.create_function("wait_for_disk", 0, lambda: stuck.wait(20))

    begun = asyncio.Event()

    async def hang(transaction: object) -> None:
        begun.set()
        await store._connection.execute("SELECT wait_for_disk()")

    hanging = asyncio.ensure_future(store.writer.change(hang))
    await begun.wait()
    queued = asyncio.ensure_future(server.user("alice").post("/rooms", {"type": "group"}))
    await eventually(lambda: len(store.writer) >= 1)
    assert (await server.request("GET", "/health")).status == 503
    assert (await queued).status == 503
    assert (await server.request("GET", "/readyz")).status == 503
    assert (await server.user("alice").post("/rooms", {"type": "group"})).status == 503
    monkeypatch.undo()  # from here on a slow disk is no failure
    stuck.set()
    await hanging
    clock.advance(2)
    assert (await server.request("GET", "/health")).status == 200
    assert (await server.user("alice").post("/rooms", {"type": "group"})).status == 201


async def test_a_damaged_database_is_503_for_readers_without_a_traceback(
    server: Server, database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    store = server.services.store
    await checkpoint(server)
    with database.open("r+b") as file:  # in place: the pages of all tables, not the header
        size = file.seek(0, 2)
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    for reader in store.readers._readers:
        assert reader._connection is not None
        reader._connection.execute("PRAGMA shrink_memory").close()
    for _ in range(3):
        reply = await alice.get("/rooms")
        assert (reply.status, reply.error["message"]) == (503, "The database cannot be read")
    assert caplog.text.count("the database cannot be read: ") == 1
    assert "Traceback" not in caplog.text
    assert room_id


def test_the_log_says_it_once_a_minute(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr("chatapi.log_lines.time.monotonic", lambda: now_s)
    seldom = log_lines.Seldom(log_lines.logging.getLogger("x"))
    for _ in range(5):
        seldom.error("it happens: %s", 1)
        seldom.error("another")
    assert [record.getMessage() for record in caplog.records] == ["it happens: 1", "another"]
    now_s += log_lines.SELDOM_SECONDS
    seldom.error("it happens: %s", 2)
    assert (caplog.records[-1].getMessage(), caplog.records[-1].__dict__["omitted"]) == ("it happens: 2", 4)
