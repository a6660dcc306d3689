"""The one owner of tasks. Each has a name, is kept, and is awaited at the end; a long-lived one that dies begins the
shutdown."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
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
    """Tasks that are used again and again, for work that is short and frequent: making a task for each piece of it
    would cost more than most of the pieces."""

    def __init__(self, tasks: Tasks, name: str) -> None:
        self._tasks = tasks
        self._name = name
        self._due: deque[Coroutine[Any, Any, None]] = deque()
        self._idle: list[asyncio.Future[None]] = []

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Begins it in the next turn of the loop, in the order of the calls. A failure is logged, and harms no other
        work. Each call wakes a worker of its own: one that finds its work done by others rests again."""
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


def _log_failure(task: asyncio.Task[None]) -> None:
    if task.cancelled() or (error := task.exception()) is None:
        return
    if isinstance(error, ChatError):  # the database refuses, which is logged there: not a bug, and may be every task's
        logger.debug("task ended: %s", error.message, extra={"task": task.get_name()})
    else:
        logger.error("task failed", exc_info=error, extra={"task": task.get_name()})
