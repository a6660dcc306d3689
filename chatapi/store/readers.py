"""The read connections: `query_only`, short transactions, never awaited by the writer."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import aiosqlite

Row = tuple[Any, ...]


class Readers:
    def __init__(self, connections: Sequence[aiosqlite.Connection]) -> None:
        self._connections = connections
        self._turns = cycle(connections)

    async def fetch(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        """All rows of one statement, in one hop to a connection's thread. They see what is committed by then."""
        return list(await next(self._turns).execute_fetchall(sql, parameters))  # type: ignore[arg-type]  # plain tuples

    async def fetch_one(self, sql: str, parameters: Mapping[str, object]) -> Row | None:
        rows = await self.fetch(sql, parameters)
        return rows[0] if rows else None

    async def close(self) -> None:
        for connection in self._connections:
            await connection.close()
