"""The one owner of tasks. Each has a name, is kept, and is awaited at the end; a long-lived one that dies begins the
shutdown."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from chatapi.errors import ChatError

logger = logging.getLogger(__name__)


class Tasks:
    def __init__(self, on_crash: Callable[[str], None]) -> None:
        """`on_crash(name)` is called once a long-lived task has ended by itself."""
        self._on_crash = on_crash
        self._tasks: set[asyncio.Task[Any]] = set()

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
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._tasks.difference_update(tasks)


def _log_failure(task: asyncio.Task[None]) -> None:
    if task.cancelled() or (error := task.exception()) is None:
        return
    if isinstance(error, ChatError):  # the database refuses, which is logged there: not a bug, and may be every task's
        logger.debug("task ended: %s", error.message, extra={"task": task.get_name()})
    else:
        logger.error("task failed", exc_info=error, extra={"task": task.get_name()})
