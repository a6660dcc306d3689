"""The one owner of tasks. Each has a name, is kept, and is awaited at the end; a long-lived one that dies begins the
shutdown."""

import asyncio
import logging
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from chatapi.errors import ChatError

logger = logging.getLogger(__name__)

MAX_IDLE_WORKERS = 64  # each takes 1 KB


class Tasks:
    def __init__(self, on_crash: Callable[[str], None]) -> None:
        """`on_crash(name)` is called once a long-lived task has ended by itself."""
        self._on_crash = on_crash
        self._tasks: set[asyncio.Task[Any]] = set()
        self.is_closed = False  # work that comes later has to end by itself: nobody cancels it

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A long-lived task: it is expected to run until it is cancelled or told to end."""
        task = self._spawn(name, work)
        task.add_done_callback(self._watch)
        return task

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts a task that ends by itself. A failure is logged, and harms no other task."""
        task = self._spawn(name, work)
        task.add_done_callback(_log_failure)
        return task

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _watch(self, task: asyncio.Task[None]) -> None:
        _log_failure(task)
        if not task.cancelled() and task.exception() is not None:
            self._on_crash(task.get_name())

    async def close(self) -> None:
        """Cancels what still runs and waits for its end."""
        self.is_closed = True
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._tasks.difference_update(tasks)


class Workers:
    """Tasks that are used again and again, for work that is short and frequent, and seldom waits: making a task for
    each piece of it would cost more than most of the pieces."""

    def __init__(self, tasks: Tasks, name: str) -> None:
        self._tasks = tasks
        self._name = name
        self._due: deque[Coroutine[Any, Any, None]] = deque()
        self._idle: list[asyncio.Future[None]] = []

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Does it at once, in the caller's turn of the loop, as far as the first place where it waits; a worker goes on
        from there. Up to there it is in no task, which `asyncio.timeout` for one would need. A failure is logged, and
        harms no other work."""
        try:
            awaited = work.send(None)
        except StopIteration:
            return
        except Exception as error:  # noqa: BLE001 - it is logged, as a task's is
            _log_error(error, self._name)
            return
        self._hand_over(_go_on(work, awaited))

    def _hand_over(self, work: Coroutine[Any, Any, None]) -> None:
        """Each call wakes a worker of its own: one that finds its work done by others rests again."""
        self._due.append(work)
        while self._idle:
            waiter = self._idle.pop()
            if not waiter.done():  # else it was cancelled
                waiter.set_result(None)
                return
        self._tasks.spawn(self._name, self._work())

    async def _work(self) -> None:
        try:
            while True:
                while self._due:
                    await self._due.popleft()
                if self._tasks.is_closed or len(self._idle) >= MAX_IDLE_WORKERS:
                    return
                waiter = asyncio.get_running_loop().create_future()
                self._idle.append(waiter)
                await waiter
        except asyncio.CancelledError:
            while self._due:
                self._due.popleft().close()
            raise


async def _go_on(work: Coroutine[Any, Any, None], awaited: Any) -> None:
    """The rest of work that was begun without a task, and has come to where it waits for `awaited`."""
    await _pass_on(work, awaited)


@types.coroutine
def _pass_on(work: Coroutine[Any, Any, None], awaited: Any) -> Generator[Any, None, None]:
    try:
        while True:
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001 - that the worker is cancelled: it is the work's to hear
                awaited = work.throw(error)
            else:
                awaited = work.send(None)
    except StopIteration:
        return


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log_error(error, task.get_name())


def _log_error(error: BaseException, name: str) -> None:
    if isinstance(error, ChatError):  # the database refuses, which is logged there: not a bug, and may be every task's
        logger.debug("task ended: %s", error.message, extra={"task": name})
    else:
        logger.error("task failed", exc_info=error, extra={"task": name})
