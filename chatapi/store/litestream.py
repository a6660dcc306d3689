"""Litestream beside the server: it reads the WAL to replicate it, so it does the checkpoints.

SQLite before 3.51.3 has a fault in the function that checkpoints: if another connection has done the same just before,
and a third one commits meanwhile and starts the WAL over, frames are taken for copied that are not, and the database is
corrupt. The fault is in the one that checkpoints, whoever the others are. So an old SQLite is safe beside a newer one
in Litestream, as long as this process never checkpoints; SQLite's checkpoint at the last connection's close is none of
these, because it takes place only when no other process has the database.
"""

import os
import sqlite3

SQLITE = sqlite3.sqlite_version_info
SAFE_SQLITE = (3, 51, 3)
OFFLINE_ADVICE = "Stop Litestream and move that folder away; it makes a new one, and sends the database as a whole"
"""For commands, which checkpoint as they end."""


def find_folder(path: str) -> str | None:
    """Where Litestream keeps what it has read of this database: it replicates it, or did so once."""
    folder, name = os.path.split(os.path.realpath(path))
    found = os.path.join(folder, f".{name}-litestream")
    return found if os.path.isdir(found) else None


def find_conflict(path: str) -> str | None:
    """Why this process must not checkpoint the database, in words for the operator; None when it may."""
    folder = find_folder(path)
    if folder is None or SQLITE >= SAFE_SQLITE:
        return None
    return (
        f"Litestream replicates it (there is {folder}), and SQLite {sqlite3.sqlite_version}, which this process has,"
        " can corrupt a database that another program checkpoints too"
    )
