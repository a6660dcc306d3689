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

    for number in range(1, 8):
        workers.run(work(number, waits=number % 2 == 0))
    assert begun == [1, 2, 3, 4, 5, 6, 7]  # in this turn of the loop
    assert len(tasks) == 3  # for those that wait
    release.set()
    await eventually(lambda: begun[7:] == [-2, -4, -6])
    release.clear()
    for number in range(8, 11):
        workers.run(work(number, waits=True))
    assert len(tasks) == 3  # each is used again
    release.set()
    await eventually(lambda: begun[10:] == [8, 9, 10, -8, -9, -10])
    await tasks.close()


async def test_a_worker_passes_on_outcomes_and_its_own_end_to_work_that_waits() -> None:
    tasks = Tasks(crashed)
    workers, heard = Workers(tasks, "work"), list[object]()
    futures = [asyncio.get_running_loop().create_future() for _ in range(3)]

    async def work() -> None:
        await asyncio.sleep(0)
        heard.append(asyncio.current_task() is not None)
        for future in futures:
            try:
                heard.append(await future)
            except ValueError as error:
                heard.append(error.args)
            except asyncio.CancelledError:
                heard.append("cancelled")
                raise

    workers.run(work())
    futures[1].set_exception(ValueError("no"))
    futures[0].set_result("yes")
    await eventually(lambda: heard == [True, "yes", ("no",)])
    await tasks.close()
    assert heard[3:] == ["cancelled"]


async def test_a_failure_is_logged_and_harms_no_other_work(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks(crashed)
    workers, done = Workers(tasks, "work"), list[int]()

    async def work(number: int) -> None:
        if number == 3:
            await asyncio.sleep(0)
        if number % 2:
            raise ValueError("no good")
        done.append(number)

    for number in range(5):
        workers.run(work(number))
    failed = ["task failed", "task failed"]  # at once, and after a wait
    await eventually(lambda: [line.getMessage() for line in caplog.records if line.levelno >= logging.ERROR] == failed)
    assert done == [0, 2, 4]
    await tasks.close()


async def test_work_that_comes_as_the_tasks_are_closed_is_dropped() -> None:
    tasks = Tasks(crashed)
    workers, done = Workers(tasks, "work"), list[int]()

    async def work(number: int) -> None:
        await asyncio.sleep(0)
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
        await asyncio.sleep(0)
        done.append(1)

    await tasks.close()
    workers.run(work())
    await eventually(lambda: done == [1] and len(tasks) == 0)
