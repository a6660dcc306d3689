"""SQLite's errors: tells which of them concern the whole database, and describes those."""

import sqlite3

from chatapi.store.file import DatabaseGone

# Of SQLite's primary result codes those that speak of the file, the disk, memory, or another process. The others speak
# of one statement and its values: ERROR, INTERNAL, ABORT, INTERRUPT, NOTFOUND, EMPTY, TOOBIG, CONSTRAINT, MISMATCH,
# MISUSE, AUTH, FORMAT and RANGE.
_STORE_CODES = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_SCHEMA,
        sqlite3.SQLITE_NOLFS,
        sqlite3.SQLITE_NOTADB,
    }
)
_WAITED_FOR_LOCK = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})


def is_store_failure(error: BaseException) -> bool:
    """Whether the error would be the same for every request."""
    return isinstance(error, MemoryError | DatabaseGone) or _find_code(error) in _STORE_CODES


def is_lock_failure(error: BaseException) -> bool:
    """Whether another process had the database for longer than SQLite was told to wait."""
    return _find_code(error) in _WAITED_FOR_LOCK


def describe(error: BaseException) -> str:
    """One line for the operator, with SQLite's name of the error."""
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    return f"{' '.join(str(error).split())} ({name})"


def _find_code(error: BaseException) -> int:
    # An extended code holds the primary one in its low byte.
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF if isinstance(error, sqlite3.Error) else 0
