"""The owner of tasks, and tasks that are used again."""

import asyncio
import logging

import pytest
from driver import eventually

from chatapi.tasks import Tasks, Workers


def crashed(name: str) -> None:
    raise AssertionError(f"{name} was to run on")


async def test_workers_begin_in_order_and_one_that_waits_holds_up_no_other() -> None:
    tasks = Tasks(crashed)
    workers, begun, release = Workers(tasks, "work"), list[int](), asyncio.Event()

    async def work(number: int, *, waits: bool) -> None:
        begun.append(number)
        if waits:
            await release.wait()
            begun.append(-number)

    for number in range(1, 7):
        workers.run(work(number, waits=number % 2 == 0))
    await eventually(lambda: begun == [1, 2, 3, 4, 5, 6])
    workers.run(work(7, waits=False))
    await eventually(lambda: begun[6:] == [7])
    release.set()
    await eventually(lambda: sorted(begun[7:]) == [-6, -4, -2])
    before = len(tasks)
    for number in range(before):
        workers.run(work(number, waits=False))
    await eventually(lambda: len(begun) == 10 + before)
    assert len(tasks) == before  # each was used again
    await tasks.close()


async def test_a_failure_is_logged_and_harms_no_other_work(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks(crashed)
    workers, done = Workers(tasks, "work"), list[int]()

    async def work(number: int) -> None:
        if number == 1:
            raise ValueError("no good")
        done.append(number)

    for number in range(3):
        workers.run(work(number))
    await eventually(lambda: done == [0, 2])
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == ["task failed"]
    await tasks.close()


async def test_work_that_comes_as_the_tasks_are_closed_is_dropped() -> None:
    tasks = Tasks(crashed)
    workers, done = Workers(tasks, "work"), list[int]()

    async def work(number: int) -> None:
        done.append(number)

    workers.run(work(1))
    await eventually(lambda: done == [1])
    workers.run(work(2))  # a coroutine that nobody awaits would be a warning, and with it an error
    await tasks.close()
    assert len(tasks) == 0


async def test_worker_that_begins_after_the_end_does_not_stay() -> None:
    """As after a reset, when a client of the old world answers that it is sent away."""
    tasks = Tasks(crashed)
    workers, done = Workers(tasks, "work"), list[int]()

    async def work() -> None:
        done.append(1)

    await tasks.close()
    workers.run(work())
    await eventually(lambda: done == [1] and len(tasks) == 0)
