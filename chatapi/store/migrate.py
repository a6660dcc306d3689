"""Brings a database to the newest schema. A migration and its version are one transaction, stated in the script."""

import re
from functools import cache
from pathlib import Path

import aiosqlite

_NAME = re.compile(r"^(?P<version>\d{4})_[a-z_]+\.sql$")


class DatabaseTooNew(Exception):
    """The database was made by a later version of ChatAPI."""


@cache  # a start asks several times
def list_migrations() -> tuple[tuple[int, str], ...]:
    """(version, script), ascending and without a gap."""
    folder = Path(__file__).parent / "migrations"
    found = [(match, entry) for entry in folder.iterdir() if (match := _NAME.match(entry.name))]
    return tuple(sorted((int(match["version"]), entry.read_text(encoding="utf-8")) for match, entry in found))


async def migrate(connection: aiosqlite.Connection) -> int:
    """Applies what is missing, in order; returns the version reached. Raises DatabaseTooNew."""
    rows = list(await connection.execute_fetchall("PRAGMA user_version"))
    version = int(rows[0][0])
    migrations = list_migrations()
    newest = migrations[-1][0]
    if version > newest:
        raise DatabaseTooNew(f"the database has schema version {version}, this ChatAPI knows {newest}")
    for number, script in migrations:
        if number > version:
            await connection.executescript(script)
    return newest
