"""Opening a database outside the server: to copy it, to check it, to import from it.

A live file is only ever read: SQLite before 3.51.3 can corrupt a WAL when two connections write or checkpoint at once.
A connection opened with `mode=ro` does neither, not even as the last one to close.
"""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from chatapi.store.file import find_other_wal, find_wal, has_content
from chatapi.store.migrate import list_migrations

BUSY_TIMEOUT_SECONDS = 5.0  # a server that starts or recovers holds the file for a moment

# sqlite3 decodes what SQLite says strictly, and that may quote a damaged file.
SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)

# "chat", set by a migration: the file is ours, whatever a later version makes of its tables. Databases from before that
# migration are known by their tables.
APPLICATION_ID = 0x63686174
_OUR_TABLES = frozenset({"meta", "tenants", "rooms", "members", "messages", "changes"})

_HEADER_BYTES = 100
_NOT_OURS = "not a ChatAPI database"
_CANNOT_MAKE_FILES = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


class UnusableDatabase(Exception):
    """The file cannot be worked with; the message is one line for the operator."""


@contextmanager
def open_snapshot(path: str) -> Iterator[sqlite3.Connection]:
    """A read-only connection to a ChatAPI database, live or not, inside a read transaction: all that is read is of one
    moment, unless the user of the connection ends it and begins another, as a check does. Raises UnusableDatabase, also
    for what SQLite says later."""
    if objection := find_objection(path):
        raise UnusableDatabase(f"{path}: {objection}")
    with explain_errors(path), closing(_connect(find_read_uri(path))) as connection:
        connection.execute("BEGIN")
        if objection := _judge(connection):
            raise UnusableDatabase(f"{path}: {objection}")
        if not _get_number(connection, "user_version"):
            raise UnusableDatabase(f"{path}: {_NOT_OURS}")
        yield connection


def checkpoint(path: str) -> None:
    """Copies the log into the database, as far as nobody reads what was before. For a file of which nothing depends on
    it, since SQLite before 3.51.3 can corrupt it beside a server that writes."""
    with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS)) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def find_objection(path: str) -> str | None:
    """Why the file must not be opened as a database of ours; None when it is one, or is new: not there, or empty.

    The file stays as it is, and none is made beside it, unless another program was killed while it wrote. Must not be
    called while this process has the database open: closing the file would drop the locks that SQLite holds on it.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror
    if stat.S_ISDIR(status.st_mode):
        return "is a folder"
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if objection := find_other_wal(path):
        return objection
    uri = f"file:{quote(os.path.abspath(path))}?mode=ro"
    if not has_content(find_wal(path)):
        if status.st_size < _HEADER_BYTES:  # SQLite would take a short file for an empty database, and overwrite it
            return "file is not a database" if status.st_size else None
        uri += "&immutable=1"  # the file says it all; else SQLite would make files beside it
    try:
        with closing(_connect(uri)) as connection:
            return _judge(connection)
    except SQLITE_ERRORS as error:
        return one_line(error)


@contextmanager
def explain_errors(path: str) -> Iterator[None]:
    """Turns what SQLite says about the file into UnusableDatabase."""
    try:
        yield
    except SQLITE_ERRORS as error:
        raise UnusableDatabase(f"{path}: {one_line(error)}") from error


def one_line(text: object) -> str:
    """SQLite's message about a damaged file may quote any of its bytes."""
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
            if error.sqlite_errorcode & 0xFF not in _CANNOT_MAKE_FILES or os.path.exists(find_wal(path)):
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


def _judge(connection: sqlite3.Connection) -> str | None:
    """Begins the read transaction, too."""
    application_id, version = (_get_number(connection, name) for name in ("application_id", "user_version"))
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if application_id not in (0, APPLICATION_ID):
        return f"{_NOT_OURS} (its application_id is {application_id:#x})"
    is_new = not application_id and not version and not tables
    if not is_new and (version < 1 or not (application_id or tables >= _OUR_TABLES)):
        return _NOT_OURS
    newest = list_migrations()[-1][0]
    if version > newest:
        return f"made by a later version of ChatAPI (its schema is {version}, the newest known here {newest})"
    return None


def _get_number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])
