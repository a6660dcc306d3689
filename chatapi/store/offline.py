"""Opening a database outside the server: to copy it, to check it, to import from it.

A live file is only ever read: SQLite before 3.51.3 can corrupt a WAL when two connections write or checkpoint at once.
A connection opened with `mode=ro` does neither, not even as the last one to close.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from chatapi.store.migrate import list_migrations

BUSY_TIMEOUT_SECONDS = 5.0  # a server that starts or recovers holds the file for a moment

# sqlite3 decodes what SQLite says strictly, and that may quote a damaged file.
SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)

_CANNOT_MAKE_FILES = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


class UnusableDatabase(Exception):
    """The file cannot be worked with; the message is one line for the operator."""


@contextmanager
def open_snapshot(path: str) -> Iterator[sqlite3.Connection]:
    """A read-only connection to a ChatAPI database, live or not, inside one read transaction: all that is read is of
    one moment. Raises UnusableDatabase, also for what SQLite says later."""
    with explain_errors(path), closing(_connect(find_read_uri(path))) as connection:
        connection.execute("BEGIN")
        _check_schema(connection, path)
        yield connection


@contextmanager
def explain_errors(path: str) -> Iterator[None]:
    """Turns what SQLite says about the file into UnusableDatabase."""
    try:
        yield
    except SQLITE_ERRORS as error:
        raise UnusableDatabase(f"{path}: {one_line(error)}") from error


def one_line(text: object) -> str:
    """What SQLite says of a damaged file may quote any of its bytes."""
    return " ".join(str(text).split())


def decode_text(text: bytes) -> str:
    """The `text_factory` for databases that may hold anything."""
    return text.decode("utf-8", errors="replace")


def find_read_uri(path: str) -> str:
    """How SQLite can read the file without ever writing to it. Raises UnusableDatabase when it cannot."""
    if not Path(path).is_file():
        raise UnusableDatabase(f"{path}: no such file")
    uri = f"file:{quote(os.path.abspath(path))}?mode=ro"
    with explain_errors(path):
        try:
            _try_reading(uri)
        except sqlite3.OperationalError as error:
            # A WAL database where the files beside it cannot be made. With no WAL there, nobody is using it.
            if error.sqlite_errorcode & 0xFF not in _CANNOT_MAKE_FILES or Path(f"{path}-wal").exists():
                raise
            uri += "&immutable=1"
            _try_reading(uri)
    return uri


def _try_reading(uri: str) -> None:
    with closing(_connect(uri)) as connection:
        connection.execute("SELECT 1 FROM sqlite_schema").fetchone()


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_SECONDS)
    connection.text_factory = decode_text
    return connection


def _check_schema(connection: sqlite3.Connection, path: str) -> None:
    """Begins the read transaction, too."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    newest = list_migrations()[-1][0]
    if version > newest:
        raise UnusableDatabase(
            f"{path}: made by a later version of ChatAPI (its schema is {version}, the newest known here {newest})"
        )
    has_meta = connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'meta'").fetchone()
    if version < 1 or has_meta is None:
        raise UnusableDatabase(f"{path}: not a ChatAPI database")
