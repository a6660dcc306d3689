"""The transaction in which the writer applies changes, and the counters of `seq` that it moves."""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import aiosqlite

Row = tuple[Any, ...]
T = TypeVar("T")

SqliteConnection = sqlite3.Connection
"""For functions that `Transaction.run` calls with the connection."""


class SeqCounter:
    """The last `seq` given in one room. Only the writer moves it; it may be ahead of what is committed."""

    __slots__ = ("last_seq", "room_key")

    def __init__(self, room_key: int, last_seq: int) -> None:
        self.room_key = room_key
        self.last_seq = last_seq


class Transaction:
    """Valid only while the `apply` of a change runs."""

    def __init__(self, connection: aiosqlite.Connection, now_us: int) -> None:
        self._connection = connection
        self._before: dict[SeqCounter, int] = {}
        self.now_us = now_us

    async def execute(self, sql: str, parameters: Mapping[str, object]) -> int:
        """Runs one statement; returns how many rows it changed."""
        cursor = await self._connection.execute(sql, parameters)
        return cursor.rowcount

    async def run(self, work: Callable[[SqliteConnection], T]) -> T:
        """Runs many statements in one hop to the connection's thread."""
        # aiosqlite has no public way to run a function there: each hop would be a chance for the loop to be busy.
        result: T = await self._connection._execute(work, self._connection._conn)  # type: ignore[no-untyped-call]
        return result

    async def fetch(self, sql: str, parameters: Mapping[str, object] | Sequence[object]) -> list[Row]:
        """All rows, the uncommitted ones of this transaction included."""
        return list(await self._connection.execute_fetchall(sql, parameters))  # type: ignore[arg-type]  # plain tuples

    async def fetch_one(self, sql: str, parameters: Mapping[str, object]) -> Row | None:
        rows = await self.fetch(sql, parameters)
        return rows[0] if rows else None

    def take_seq(self, counter: SeqCounter) -> int:
        """The room's next `seq`."""
        self._before.setdefault(counter, counter.last_seq)
        counter.last_seq += 1
        return counter.last_seq

    def mark(self, counters: Iterable[SeqCounter]) -> dict[SeqCounter, int]:
        """Where these counters stand, for `reset` when one statement fails and the transaction goes on."""
        return {counter: counter.last_seq for counter in counters}

    def reset(self, mark: Mapping[SeqCounter, int]) -> None:
        """Puts the counters back to a `mark` of this transaction."""
        for counter, last_seq in mark.items():
            counter.last_seq = last_seq

    def give_back(self) -> None:
        """The transaction has failed: every counter stands again where it was."""
        self.reset(self._before)
