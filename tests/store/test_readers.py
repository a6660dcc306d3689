"""The read connections: shared by the tenants in turns, held back for the log, and freed whatever is cancelled."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from driver import eventually

from chatapi.errors import ChatError
from chatapi.store import readers as store_readers
from chatapi.store.readers import Reader, Readers


@pytest.fixture
async def readers(database: Path) -> AsyncIterator[Readers]:
    opened = Readers([Reader(str(database), ("PRAGMA query_only = ON",), 5.0)])
    await opened.open()
    yield opened
    await opened.close()


async def read_in_order(readers: Readers, tenant_keys: list[int | None]) -> list[int | None]:
    """Who is served when, of those who wait together."""
    order: list[int | None] = []

    async def read(tenant_key: int | None) -> None:
        await readers.fetch("SELECT 1", {} if tenant_key is None else {"tenant_key": tenant_key})
        order.append(tenant_key)

    readers.hold()
    async with asyncio.TaskGroup() as group:
        for tenant_key in tenant_keys:
            group.create_task(read(tenant_key))
        await asyncio.sleep(0)
        assert order == []
        readers.release()
    return order


async def test_many_reads_of_one_tenant_hold_up_no_other(readers: Readers) -> None:
    assert await read_in_order(readers, [1, 1, 1, 1, 2, 3, 3]) == [1, 2, 3, 1, 3, 1, 1]


async def test_reads_of_no_tenant_have_every_second_turn(readers: Readers) -> None:
    order = await read_in_order(readers, [1, 1, 1, 2, 3, None, None, None])
    assert order.count(None) == 3
    assert [index for index, tenant_key in enumerate(order) if tenant_key is None] in ([0, 2, 4], [1, 3, 5])
    assert await read_in_order(readers, [None, None]) == [None, None]


async def test_a_tenant_with_too_many_waiting_reads_is_refused(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_readers, "MAX_WAITING_OF_TENANT", 2)
    readers.hold()
    waiting = [asyncio.create_task(readers.fetch("SELECT 1", {"tenant_key": 1})) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(ChatError, match="Too many reads") as refused:
        await readers.fetch("SELECT 1", {"tenant_key": 1})
    assert (refused.value.status, refused.value.retry_after_s) == (503, 1.0)
    other = asyncio.create_task(readers.fetch("SELECT 2", {"tenant_key": 2}))
    readers.release()
    assert [await task for task in (*waiting, other)] == [[(1,)], [(1,)], [(2,)]]


async def test_a_statement_whose_request_is_cancelled_keeps_its_reader_until_it_ends(readers: Readers) -> None:
    long = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT max(i) FROM n"
    running = asyncio.create_task(readers.fetch(long, {"tenant_key": 1}))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not readers.is_quiet
    await eventually(lambda: readers.is_quiet)
    assert await readers.fetch_one("SELECT 1", {}) == (1,)


async def test_turn_of_a_cancelled_read_goes_to_the_next(readers: Readers) -> None:
    readers.hold()
    tasks = [asyncio.create_task(readers.fetch("SELECT 1", {"tenant_key": 1})) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()  # while it waits
    readers.release()
    tasks[1].cancel()  # when it has just been given the reader
    assert await tasks[2] == [(1,)]
    assert readers.is_quiet


async def test_it_tells_when_it_is_quiet(readers: Readers) -> None:
    told: list[bool] = []
    readers.on_quiet = lambda: told.append(readers.is_quiet)
    await readers.fetch("SELECT 1", {})
    assert told == []
    reading = asyncio.create_task(readers.fetch("SELECT 1", {}))
    await asyncio.sleep(0)
    readers.hold()
    await reading
    await eventually(lambda: told)
    assert told == [True]


async def test_a_page_ends_at_its_rows_or_at_its_bytes(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    sql = """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :last)
             SELECT i, printf('%.*c', :size, 'x') FROM n"""

    async def page(limit: int, last: int, size: int) -> tuple[int, bool]:
        found = await readers.fetch_page(sql, {"tenant_key": 1, "last": last, "size": size}, limit)
        return len(found.rows), found.has_more

    assert await page(3, 3, 10) == (3, False)
    assert await page(3, 4, 10) == (3, True)
    assert await page(3, 0, 10) == (1, False)
    monkeypatch.setattr(store_readers, "PAGE_BYTES", 100)
    assert await page(50, 10, 10) == (10, False)
    assert await page(50, 11, 10) == (10, True)
    assert await page(50, 9, 60) == (1, True)
    assert await page(50, 9, 1000) == (1, True)  # at least one, or nobody would ever get past it
    assert await page(50, 1, 1000) == (1, False)
    wants = [{"tenant_key": 1, "last": 3, "size": size} for size in (1, 200)]
    pages = await readers.fetch_pages(sql, wants, 100)
    assert [(len(found.rows), found.has_more) for found in pages] == [(3, False), (1, True)]


async def test_one_that_cannot_be_opened_is_closed_quietly(tmp_path: Path) -> None:
    broken = Readers([Reader(str(tmp_path / "no" / "such.db"), (), 5.0)])
    with pytest.raises(sqlite3.OperationalError):
        await broken.open()
    await broken.close()


async def test_failing_statement_is_reported_and_ends_no_job(
    readers: Readers, caplog: pytest.LogCaptureFixture
) -> None:
    for sql in ("SELECT json('{')", "SELECT * FROM nowhere", "SELECT CAST(x'ff' AS TEXT)", "SELECT zeroblob(1 << 31)"):
        with pytest.raises(ChatError, match="The read failed") as failed:
            await readers.fetch(sql, {})
        assert failed.value.status == 500
    assert caplog.text.count("read failed") == 4
    assert caplog.text.count("Traceback") == 4


async def test_memory_of_tenants_usual_read_times_is_bounded(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_readers, "MAX_USUAL", 3)
    for tenant_key in (1, 2, 3, 1, 4):
        await readers.fetch("SELECT 1", {"tenant_key": tenant_key})
    assert list(readers._usual_s) == [3, 1, 4]  # the one that has not read for longest is forgotten
