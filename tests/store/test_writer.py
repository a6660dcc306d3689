"""The one writer: batches, order, and what happens to a batch that fails."""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Sequence

import pytest
from driver import HandClock
from writer_bench import Bench, bench, running

from chatapi.errors import ChatError, conflict, forbidden
from chatapi.models import RoomKey, TenantKey, UserId
from chatapi.store import MessageWrite, Transaction, rooms
from chatapi.store.keys import KeyMaker
from chatapi.store.writer import MAX_BATCH, MAX_QUEUED, MAX_QUEUED_CHARACTERS
from chatapi.store.writes import Statement

__all__ = ["bench"]  # a fixture


@pytest.mark.parametrize(("count", "commits"), [(64, 0), (65, 1), (500, 1)])  # one statement is its own transaction
async def test_waiting_writes_are_one_batch(bench: Bench, count: int, commits: int) -> None:
    messages = [bench.message(f"{n}") for n in range(count)]
    async with running(bench):
        settled = [await message for message in messages]
    assert [write.seq for write in settled] == list(range(1, count + 1))
    assert [len(batch) for batch in bench.batches] == [count]
    assert bench.commits == commits
    assert await bench.seqs() == list(range(1, count + 1))


async def test_batches_are_bounded(bench: Bench) -> None:
    messages = [bench.message() for _ in range(2 * MAX_BATCH + 1)]
    async with running(bench):
        for message in messages:
            await message
    assert [len(batch) for batch in bench.batches] == [MAX_BATCH, MAX_BATCH, 1]


async def test_messages_and_changes_share_one_transaction_and_keep_their_order(bench: Bench) -> None:
    first, change, second, last = bench.message(), bench.change(), bench.message(), bench.change()
    await asyncio.sleep(0)  # the changes queue themselves when they begin
    third = bench.message()
    async with running(bench):
        seqs = [(await first).seq, (await second).seq, await change, await last, (await third).seq]
    assert seqs == [1, 2, 3, 4, 5]
    assert [len(batch) for batch in bench.batches] == [5]
    assert bench.commits == 1


async def test_a_barrier_ends_its_batch(bench: Bench) -> None:
    seen: list[str] = []

    async def apply(_: Transaction) -> None:
        seen.append("applied")

    tasks = [bench.change(apply, lambda _: seen.append("published"), barrier=True) for _ in range(3)]
    async with running(bench):
        for task in tasks:
            await task
    assert seen == ["applied", "published"] * 3
    assert [len(batch) for batch in bench.batches] == [1, 1, 1]


async def test_nothing_is_published_before_it_is_committed(bench: Bench) -> None:
    visible: list[int] = []
    path = (await bench.store._connection.execute_fetchall("PRAGMA database_list"))[0][2]

    def look(_: object) -> None:
        with contextlib.closing(sqlite3.connect(path)) as other:
            visible.append(other.execute("SELECT count(*) FROM changes").fetchone()[0])

    tasks = [bench.change(publish=look) for _ in range(3)]
    async with running(bench):
        for task in tasks:
            await task
    assert visible == [3, 3, 3]  # one commit, then all three


# What goes wrong


async def test_a_refusal_concerns_one_write_alone(bench: Bench) -> None:
    async def refuse(_: Transaction) -> None:
        raise conflict("no")

    before, refused, after = bench.change(), bench.change(refuse), bench.change()
    async with running(bench):
        assert [await before, await after] == [1, 2]
        with pytest.raises(ChatError, match="no"):
            await refused
    assert [len(batch) for batch in bench.batches] == [3]


async def test_one_bad_write_fails_alone_and_skips_no_seq(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async def fail_late(transaction: Transaction) -> None:
        await bench.append(transaction)
        raise RuntimeError("a bug")

    async def fail_in_sql(transaction: Transaction) -> None:
        await bench.append(transaction)
        await transaction.execute("INSERT INTO nowhere VALUES (1)", {})

    tasks = [bench.change(), bench.change(fail_late), bench.change(), bench.change(fail_in_sql), bench.change()]
    await asyncio.sleep(0)
    message = bench.message()
    async with running(bench):
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert (await message).seq == 4
    assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [1, 2, 3]
    failures = [outcome for outcome in outcomes if not isinstance(outcome, int)]
    assert [(type(failure), failure.status) for failure in failures] == [(ChatError, 500)] * 2
    assert await bench.seqs() == [1, 2, 3, 4]
    assert [record.message for record in caplog.records] == ["write failed"] * 2
    assert bench.writer.writable


async def test_one_bad_message_fails_alone(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    messages = [bench.message("1"), bench.message(sender_id=None), bench.message("2")]
    bad = messages[1]
    async with running(bench):
        settled = [await message for message in messages]
    assert [(write.error is None, write.seq) for write in settled if write is not await bad] == [(True, 1), (True, 2)]
    assert (await bad).error is not None
    assert await bench.seqs() == [1, 2]
    assert "write failed" in caplog.text


async def test_a_message_that_is_refused_takes_no_seq(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def check_sender(write: MessageWrite) -> None:
        if write.content == "late":
            raise forbidden("not a member any more")

    monkeypatch.setattr(bench, "check_sender", check_sender)
    messages = [bench.message("1"), bench.message("late"), bench.message("2")]
    async with running(bench):
        settled = [await message for message in messages]
    assert [write.error and write.error.status for write in settled] == [None, 403, None]
    assert await bench.seqs() == [1, 2]


async def test_a_known_client_message_id_is_set_aside(bench: Bench) -> None:
    async with running(bench):
        first = await bench.message("first", client_message_id="m-1", digest=7)
        later = [bench.message("before"), bench.message("again", client_message_id="m-1"), bench.message("after")]
        settled = [await message for message in later]
    assert [write.seq for write in (settled[0], settled[2])] == [2, 3]
    assert settled[1].stored is not None
    assert (settled[1].stored[0], settled[1].stored[1]) == (7, first.message_key)
    assert await bench.seqs() == [1, 2, 3]


async def test_a_retry_is_known_wherever_it_is_in_a_large_batch(bench: Bench) -> None:
    """Of 200 messages the last 100 repeat the first ones: three statements store them."""
    texts = [f"{number % 100}" for number in range(200)]
    messages = [bench.message(text, client_message_id=f"m-{text}") for text in texts]
    async with running(bench):
        settled = [await message for message in messages]
    assert await bench.seqs() == list(range(1, 101))
    for first, retry in zip(settled[:100], settled[100:], strict=True):
        assert first.stored is first.repeats is first.error is retry.error is None
        repeated = retry.stored[1] if retry.stored is not None else retry.repeats and retry.repeats.message_key
        assert repeated == first.message_key


async def test_a_full_disk_refuses_the_batch_and_heals(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    big = "x" * 60_000

    async def limit(transaction: Transaction) -> None:
        [(pages,)] = await transaction.fetch("PRAGMA page_count", {})
        await transaction.fetch(f"PRAGMA max_page_count = {pages + 4}", {})

    async def lift(transaction: Transaction) -> None:
        await transaction.fetch("PRAGMA max_page_count = 1000000", {})

    async with running(bench):
        assert (await bench.message()).seq == 1
        await bench.change(limit)
        refused = [await message for message in [bench.message(big) for _ in range(20)]]
        assert {write.error.status for write in refused if write.error} == {503}
        assert all(write.error for write in refused)
        assert not bench.writer.writable
        change = bench.change()
        await asyncio.sleep(0)
        message = bench.message(big)  # in one batch with it
        with pytest.raises(ChatError) as refusal:
            await change
        assert refusal.value.status == 503
        assert (await message).error is not None
        assert bench.counter.last_seq == 1
        await bench.change(lift)
        assert not bench.writer.writable  # nothing was written yet, which says nothing of the disk
        assert [(await message).seq for message in [bench.message(big) for _ in range(20)]] == list(range(2, 22))
        assert bench.writer.writable
    assert await bench.seqs() == list(range(1, 22))
    levels = [record.levelno for record in caplog.records]
    assert levels[0] == logging.ERROR  # said once, not for each batch that is refused


async def test_a_request_that_is_cancelled_loses_only_the_answer(bench: Bench) -> None:
    published: list[int] = []
    task = bench.change(publish=published.append)
    await asyncio.sleep(0)
    task.cancel()
    follower = bench.change(publish=published.append)
    async with running(bench):
        assert await follower == 2
    assert task.cancelled()
    assert published == [1, 2]
    assert await bench.seqs() == [1, 2]


async def test_a_request_that_is_cancelled_in_the_middle_leaves_no_transaction_open(bench: Bench) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow(transaction: Transaction) -> int:
        seq = await bench.append(transaction)
        started.set()
        await go_on.wait()
        return seq

    async with running(bench):
        task = bench.change(slow)
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        assert await bench.change() == 2
    assert await bench.seqs() == [1, 2]


async def test_the_queue_is_bounded(bench: Bench) -> None:
    for _ in range(MAX_QUEUED):
        bench.message()
    with pytest.raises(ChatError) as refusal:
        bench.message()
    assert refusal.value.status == 503
    bench.writer._queue.clear()


@pytest.mark.slow
async def test_the_queue_is_bounded_in_size_too(bench: Bench) -> None:
    size = MAX_QUEUED_CHARACTERS // 4
    settled = [bench.message("x" * size) for _ in range(4)]
    with pytest.raises(ChatError) as refusal:
        bench.message("x")
    assert refusal.value.status == 503
    async with running(bench):
        await asyncio.wait(settled)
        await bench.message("there is room again")


async def test_closing_writes_the_queue_and_takes_no_more(bench: Bench) -> None:
    messages = [bench.message() for _ in range(MAX_BATCH + 1)]
    bench.writer.close()
    with pytest.raises(ChatError) as refusal:
        bench.message()
    assert refusal.value.status == 503
    await bench.writer.run(bench)
    assert all(message.done() for message in messages)
    assert len(await bench.seqs()) == MAX_BATCH + 1


async def test_statements_beside_a_message_are_in_its_transaction(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are stored with the messages, or not at all."""

    def list_statements(messages: Sequence[MessageWrite]) -> Sequence[Statement]:
        return [
            ("INSERT INTO meta VALUES (:name, :value)", {"name": f"of {write.content}", "value": str(write.seq)})
            for write in messages
        ]

    monkeypatch.setattr(bench, "list_statements", list_statements)
    async with running(bench):
        assert (await bench.message("a")).error is None
        failed = await bench.message("a")  # the same name again: the statement beside it fails
    assert failed.error is not None
    rows = await bench.store.readers.fetch("SELECT value FROM meta WHERE name LIKE 'of %'", {})
    assert rows == [("1",)]
    assert await bench.seqs() == [1]


# Keys


def test_keys_grow_also_when_the_clock_steps_back() -> None:
    clock = HandClock()
    maker = KeyMaker(clock, last_key=0)
    keys = [maker.next_key() for _ in range(3)]
    clock.advance(-3600)
    keys += [maker.next_key() for _ in range(3)]
    clock.advance(7200)
    keys += [maker.next_key() for _ in range(3)]
    assert keys == sorted(set(keys))
    assert all(0 < key < 1 << 63 for key in keys)


def test_keys_grow_beyond_those_in_the_database() -> None:
    ahead = KeyMaker(HandClock(), last_key=0).next_key() + (3600 * 1_000_000 << 12)
    assert KeyMaker(HandClock(), last_key=ahead).next_key() > ahead


async def test_cursors_in_bulk_only_grow(bench: Bench) -> None:
    room_key = RoomKey(bench.counter.room_key)

    async def join(transaction: Transaction) -> None:
        await rooms.insert_members(transaction, TenantKey(1), room_key, [(UserId("alice"), "member")], 5, 1)  # type: ignore[list-item]

    async with running(bench):
        await bench.change(join)
        for ack, read in ((7, 6), (3, 2), (8, 0)):
            row = (room_key, UserId("alice"), ack, read)
            await bench.change(lambda transaction, row=row: rooms.update_cursors(transaction, [row]))
    assert await bench.store.readers.fetch("SELECT last_ack, last_read FROM members", {}) == [(8, 6)]
