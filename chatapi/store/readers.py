"""The read connections: `query_only`, short transactions, never awaited by the writer."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

import aiosqlite

from chatapi.errors import unavailable
from chatapi.log import Seldom
from chatapi.store.failures import describe, is_store_failure

logger = logging.getLogger(__name__)

Row = tuple[Any, ...]


class Readers:
    """A read raises ChatError 503 when the database cannot be read.

    `hold` keeps new reads back, so that the log (the WAL) can begin anew: a read that is under way keeps what was
    written since it began.
    """

    def __init__(self, connections: Sequence[aiosqlite.Connection]) -> None:
        self._connections = connections
        self._turns = cycle(connections)
        self._seldom = Seldom(logger)
        self._running = 0  # statements handed to a connection
        self._held: asyncio.Future[None] | None = None
        self.on_quiet: Callable[[], None] = _do_nothing
        """Called when the last read has ended while the others are held back."""

    async def fetch(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        """All rows of one statement, in one hop to a connection's thread. They see what is committed by then."""
        while self._held is not None:
            await asyncio.shield(self._held)
        self._running += 1
        try:
            return list(await next(self._turns).execute_fetchall(sql, parameters))  # type: ignore[arg-type]  # plain tuples
        except (sqlite3.Error, MemoryError) as error:
            if not is_store_failure(error):
                raise
            self._seldom.error("the database cannot be read: %s", describe(error))
            raise unavailable("The database cannot be read") from error
        finally:
            self._running -= 1
            if self.is_held and self.is_quiet:
                self.on_quiet()

    async def fetch_one(self, sql: str, parameters: Mapping[str, object]) -> Row | None:
        rows = await self.fetch(sql, parameters)
        return rows[0] if rows else None

    @property
    def is_held(self) -> bool:
        return self._held is not None

    @property
    def is_quiet(self) -> bool:
        return not self._running

    def hold(self) -> None:
        """No new read begins until `release`. Does nothing when they are held already."""
        if self._held is None:
            self._held = asyncio.get_running_loop().create_future()

    def release(self) -> None:
        if self._held is not None:
            self._held.set_result(None)
            self._held = None

    async def close(self) -> None:
        for connection in self._connections:
            await connection.close()


def _do_nothing() -> None:
    return
