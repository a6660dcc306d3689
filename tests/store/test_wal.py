"""The log (the WAL) stays short, whatever is read beside the writes."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conftest import StartServer
from driver import eventually
from writer_bench import Bench, bench, running

from chatapi.errors import ChatError
from chatapi.store import readers, wal

__all__ = ["bench"]  # a fixture

# Looks at the table for some ten milliseconds, and keeps the log for as long.
SLOW = """
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
    SELECT max(i), (SELECT count(*) FROM messages) FROM n
"""
ENDLESS = """
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
    SELECT max(i), (SELECT count(*) FROM messages) FROM n
"""
MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "MAX_WAL_BYTES", 2 * MIB)


@pytest.fixture
async def busy(bench: Bench) -> AsyncIterator[Bench]:
    """Its readers are never all idle."""
    await bench.store._connection.execute_fetchall(f"PRAGMA journal_size_limit = {MIB}")

    async def read() -> None:
        while True:
            await bench.store.readers.fetch(SLOW, {})

    reading = [asyncio.ensure_future(read()) for _ in range(3)]
    yield bench
    for task in reading:
        task.cancel()


async def find_size(database: Path) -> int:
    return await asyncio.to_thread(lambda: Path(f"{database}-wal").stat().st_size)


@pytest.mark.slow
async def test_reads_that_never_stop_do_not_let_it_grow(busy: Bench, database: Path) -> None:
    largest = 0
    async with running(busy):
        for _ in range(40):  # 24 MB
            # A slow machine reads for as long as it takes: meanwhile nothing is written here.
            await eventually(lambda: not busy.store.readers.is_held)
            for message in [busy.message("x" * 60_000) for _ in range(10)]:
                await message
            largest = max(largest, await find_size(database))
    assert largest < 8 * MIB


async def test_a_read_that_does_not_end_is_ended(bench: Bench, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "HOLD_SECONDS", 0.05)
    endless = asyncio.ensure_future(bench.store.readers.fetch(ENDLESS, {}))
    await asyncio.sleep(0)
    async with running(bench):
        for message in [bench.message("x" * 60_000) for _ in range(50)]:
            await message
        with pytest.raises(ChatError, match="took too long") as refusal:
            await endless
        assert refusal.value.status == 503
        # Reads that were held back meanwhile go on.
        assert await bench.store.readers.fetch("SELECT count(*) FROM messages", {}) == [(50,)]
        await eventually(lambda: not bench.store.readers.is_held)


async def test_while_somebody_else_needs_it_reads_are_not_held_back_in_vain(bench: Bench, database: Path) -> None:
    backup = await asyncio.to_thread(sqlite3.connect, database, isolation_level=None, check_same_thread=False)
    await asyncio.to_thread(backup.execute, "BEGIN")
    await asyncio.to_thread(lambda: backup.execute("SELECT count(*) FROM messages").fetchall())
    async with running(bench):
        for message in [bench.message("x" * 60_000) for _ in range(100)]:
            await message
        await eventually(lambda: bench.writer._wal_bound._pause_ends_s > asyncio.get_running_loop().time() + 1)
        assert not bench.store.readers.is_held
        assert (await bench.message("and on it goes")).seq == 101
    backup.close()


@pytest.mark.slow
async def test_a_log_that_nobody_else_checkpoints_ends_at_its_bound(
    start_server: StartServer, database: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`database.checkpoints = "external"`, and Litestream does not run."""
    monkeypatch.setattr(wal, "MAX_EXTERNAL_WAL_BYTES", 2 * MIB)
    server = await start_server({"database.checkpoints": "external"})
    alice = server.user("alice")
    room_id = await alice.make_room()
    before = await asyncio.to_thread(lambda: database.stat().st_size)
    while await find_size(database) <= 2 * MIB:
        assert await asyncio.to_thread(lambda: database.stat().st_size) == before, "the server does not checkpoint"
        await alice.say(room_id, "x" * 60_000)
    for _ in range(60):  # 3.6 MB, which go where the log begins again
        await alice.say(room_id, "x" * 60_000)
    assert await find_size(database) < 3 * MIB
    assert await asyncio.to_thread(lambda: database.stat().st_size) > before
    assert "grown past its bound: does Litestream run? (database.checkpoints)" in caplog.text
