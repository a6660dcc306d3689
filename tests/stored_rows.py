"""All tables of a database, looked through by their columns, so that a new table cannot be forgotten."""

import sqlite3
from typing import Any

# Their rows end by themselves: calls of webhooks that are still to be made, and notifications that are being stored.
TRANSIENT = {"webhook_events", "webhook_deliveries", "unfinished_notifications"}


class Database:
    """The file of a running server, as anybody may read it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, *parameters: object) -> list[Any]:
        return self._connection.execute(sql, parameters).fetchall()

    def list_tables(self) -> list[str]:
        """Without those in which FTS5 keeps its index."""
        names = [name for (name,) in self.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [name for name in names if not name.startswith(("search_index", "search_vocabulary", "search_entries"))]

    def columns_of(self, table: str) -> set[str]:
        return {row[1] for row in self.rows(f"PRAGMA table_xinfo({table})")}

    def find(self, column: str, value: object) -> set[str]:
        """The tables that have rows with this value in this column."""
        return {table for table in self.having(column) if self.rows(f"SELECT 1 FROM {table} WHERE {column} = ?", value)}

    def having(self, column: str) -> set[str]:
        return {table for table in self.list_tables() if column in self.columns_of(table)} - TRANSIENT

    def find_text(self, text: str) -> set[str]:
        """The columns that hold it, perhaps within JSON."""
        return {
            f"{table}.{column}"
            for table in self.list_tables()
            for column in self.columns_of(table)
            if self.rows(f"SELECT 1 FROM {table} WHERE instr(CAST({column} AS TEXT), ?)", text)
        }
