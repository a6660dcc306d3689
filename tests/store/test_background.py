"""Steps of work that nobody waits for, beside the writes of others."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from driver import eventually
from writer_bench import Bench, bench, running

from chatapi.errors import ChatError
from chatapi.store import background

__all__ = ["bench"]  # a fixture


async def take_steps(bench: Bench, name: str, log: list[str], count: int) -> None:
    for _ in range(count):
        await bench.writer.step(lambda _connection, _is_over: log.append(name))


async def test_steps_are_taken_though_others_never_stop_writing(bench: Bench) -> None:
    done = asyncio.Event()

    async def write() -> None:
        while not done.is_set():
            await bench.message()

    log: list[str] = []
    async with running(bench), asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(write())
        async with asyncio.timeout(20):
            await take_steps(bench, "step", log, 5)
        done.set()
    assert log == ["step"] * 5


async def test_each_job_has_every_nth_step(bench: Bench) -> None:
    log: list[str] = []
    async with running(bench), asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(take_steps(bench, name, log, 5))
    assert log == list("abc") * 5


async def test_a_step_rests_and_ends_in_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "IDLE_STEP_SECONDS", 0.02)

    def work(_connection: Any, is_over: Any) -> int:
        turns = 0
        while not is_over():
            turns += 1
        return turns

    async with running(bench):
        started_s = asyncio.get_running_loop().time()
        assert await bench.writer.step(work) > 10
        # Then the writer is left alone for a while...
        await eventually(lambda: bench.writer._background._due_s > started_s + 0.02)
        second = asyncio.ensure_future(bench.writer.step(work))
        assert (await bench.message()).seq == 1  # ...and others are not kept
        assert await second > 0
        assert bench.writer._background._is_busy(asyncio.get_running_loop().time())


async def test_a_step_that_fails_is_rolled_back_and_tells(bench: Bench) -> None:
    def work(connection: sqlite3.Connection, _is_over: Any) -> None:
        connection.execute("INSERT INTO meta VALUES ('x', 'y')")
        connection.execute("INSERT INTO nowhere VALUES (1)")

    async with running(bench):
        with pytest.raises(ChatError) as failure:
            await bench.writer.step(work)
        assert failure.value.status == 500
        assert await bench.writer.step(lambda _connection, _is_over: 7) == 7
    assert await bench.store.readers.fetch("SELECT * FROM meta WHERE name = 'x'", {}) == []


async def test_steps_that_wait_at_the_end_are_told(bench: Bench) -> None:
    step = asyncio.ensure_future(bench.writer.step(lambda _connection, _is_over: 7))
    await asyncio.sleep(0)
    bench.writer._background._due_s = float("inf")
    async with running(bench):
        pass
    with pytest.raises(ChatError) as refusal:
        await step
    assert refusal.value.status == 503
    with pytest.raises(ChatError):
        await bench.writer.step(lambda _connection, _is_over: 7)


@pytest.mark.parametrize("is_busy", [False, True])
async def test_the_log_is_checkpointed_bit_by_bit(bench: Bench, database: Path, is_busy: bool) -> None:
    steps = background.CHECKPOINT_STEPS if is_busy else background.IDLE_CHECKPOINT_STEPS
    seen: list[int] = []

    def insert(connection: sqlite3.Connection, _is_over: Any) -> None:
        first = len(seen) * background.CHECKPOINT_ROWS
        connection.executemany(
            "INSERT INTO messages (message_key, room_key, seq, sender_id, content, created_at_us)"
            " VALUES (:key, 1, :key, 'a', :content, 1)",
            [
                {"key": first + number, "content": "x" * (60_000 // background.CHECKPOINT_ROWS)}
                for number in range(1, background.CHECKPOINT_ROWS + 1)
            ],
        )
        seen.append(1)

    async with running(bench):
        for _ in range(3 * steps):
            if is_busy:
                bench.writer._background.note_foreground()
            await bench.writer.step(insert)
        size = await asyncio.to_thread(lambda: Path(f"{database}-wal").stat().st_size)
    # One after the other the same frames are written again: all of it would be 3 times as long.
    assert size < 2 * steps * 80_000


async def test_steps_that_change_little_leave_the_log_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints: list[int] = []

    async def checkpoint() -> bool:
        checkpoints.append(len(bench.batches))
        return True

    monkeypatch.setattr(bench.writer, "_checkpoint", checkpoint)
    bench.writer._background.rests = False
    async with running(bench):
        for rows in (0, 0, 1, background.CHECKPOINT_ROWS - 2, 1, 0):
            bench.writer._background.note_foreground()
            await bench.writer.step(
                lambda connection, _is_over, rows=rows: connection.execute(
                    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)"
                    " INSERT INTO meta SELECT 'note ' || random(), 'x' FROM n WHERE ?1 > 0",
                    (rows,),
                )
            )
    assert checkpoints == [5]  # together they are enough


async def test_an_awaited_step_rests_less_and_not_at_all_when_nobody_else_writes() -> None:
    def choose(*, seconds: float | None) -> tuple[float, float, float, float]:
        times = background.Background()
        if seconds is not None:
            times.note_foreground(seconds)
        awaited = times._choose_pace(is_repeatable=True, is_awaited=True)
        return *awaited, *times._choose_pace(is_repeatable=True, is_awaited=False)

    for seconds in (None, 0.0, 2.0):  # nobody writes, somebody does, somebody does so all the time
        step_s, rest, other_step_s, other_rest = choose(seconds=seconds)
        assert rest < other_rest
        assert (rest == 0) is (seconds is None)
        assert step_s <= max(other_step_s, background.AWAITED_STEP_SECONDS)


def test_awaited_steps_are_checkpointed_as_often_as_a_short_checkpoint_asks_for() -> None:
    times = background.Background()
    times._is_awaited = True

    def count_until_wanted(seconds: float) -> int:
        steps = 1
        while not times.wants_checkpoint(0):
            steps += 1
        times.note_checkpoint(seconds)
        return steps

    long, short = background.CHECKPOINT_SECONDS * 10, background.CHECKPOINT_SECONDS / 10
    assert [count_until_wanted(long) for _ in range(4)] == [4, 2, 1, 1]
    assert [count_until_wanted(short) for _ in range(6)] == [1, 2, 4, 8, 8, 8]
