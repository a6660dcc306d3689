"""A tenant as a ChatAPI database of its own, copied from the live one.

All of it is of one moment: one read transaction, of a connection that only reads the live file. While it lasts, SQLite
cannot start the log of the live database (the WAL) over. SQLite copies outside Python's global lock; the copy goes to
the disk in small pieces, or a commit of the server would wait behind one long flush (`store/backup.py`).
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from chatapi.models import TenantKey
from chatapi.store.epochs import renew_epochs
from chatapi.store.migrate import list_migrations
from chatapi.store.standalone import SQLITE_ERRORS, one_line
from chatapi.store.tenant_tables import MESSAGES, TENANT_TABLES, list_rows

PACE_OPERATIONS = 10_000  # of SQLite's machine, less than a millisecond
WORK_SECONDS, REST_SECONDS = 0.002, 0.001  # the disk and the second core are the server's
SYNC_EVERY = 16  # rests: pages are written again too, so that the size does not tell how much waits for the disk
SPARE_BYTES = 256 * 1024 * 1024  # of the disk, which the server needs for its own writes

_OPEN = (
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA journal_mode = OFF",  # nobody has this file yet; a copy that fails is removed
    "PRAGMA synchronous = OFF",
    "PRAGMA cache_size = -4096",  # 4 MiB: the last of them go to the disk at once
    "PRAGMA temp_store = FILE",
)
_ATTACH = "ATTACH :uri AS source"
# Messages are stored by their keys, and found by their rooms. Among so many that follow one another by key those of a
# room are copied together; else nearly each row would write other pages of one or of the other.
WINDOW_ROWS = 16_384
_PLACES = "CREATE TEMP TABLE places (place INTEGER PRIMARY KEY, message_key INTEGER NOT NULL)"
_PLACE_MESSAGES = f"""
    INSERT INTO temp.places
    SELECT row_number() OVER (ORDER BY number / {WINDOW_ROWS}, room_key, seq), message_key
    FROM (SELECT x.room_key, x.seq, x.message_key, row_number() OVER (ORDER BY x.message_key) AS number
          {list_rows(MESSAGES, "source")})
"""
_IN_PLACES = "FROM temp.places AS p CROSS JOIN source.messages AS x ON x.message_key = p.message_key ORDER BY p.place"
_COPY_TIME = "INSERT OR REPLACE INTO main.meta SELECT name, value FROM source.meta WHERE name = 'latest_us'"


class ExportStopped(Exception):
    """The copy could not be finished; the message says why."""


def export_tenant(
    path: str,
    target: str,
    tenant_key: TenantKey,
    is_cancelled: Callable[[], bool],
    *,
    keeps_epoch: bool = False,
) -> int:
    """Copies what the tenant has in the live database to the new file `target`, which is for its owner only; returns
    its bytes. The copy has no index of search: a server builds it. Its epoch is a new one, unless the tenant moves with
    it. Blocks. Raises ExportStopped or OSError; then there is no file."""
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    pace = _Pace(descriptor, str(Path(target).parent), is_cancelled)
    try:
        with closing(sqlite3.connect(f"file:{quote(target)}", uri=True, isolation_level=None)) as copy:
            _make_schema(copy)
            copy.set_progress_handler(pace.take, PACE_OPERATIONS)
            _copy(copy, path, tenant_key)
            if not keeps_epoch:
                renew_epochs(copy)
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    except BaseException as error:
        os.unlink(target)
        if isinstance(error, SQLITE_ERRORS):
            raise ExportStopped(pace.reason or one_line(error)) from error
        raise
    finally:
        os.close(descriptor)


def _make_schema(copy: sqlite3.Connection) -> None:
    for pragma in _OPEN:
        copy.execute(pragma)
    for _, script in list_migrations():
        copy.executescript(script)


def _copy(copy: sqlite3.Connection, path: str, tenant_key: TenantKey) -> None:
    copy.execute(_ATTACH, {"uri": f"file:{quote(os.path.abspath(path))}?mode=ro"})
    scope = {"tenant_key": tenant_key}
    copy.execute("BEGIN")
    for table in TENANT_TABLES:
        columns = ", ".join(table.columns)
        rows = list_rows(table, "source")
        if table is MESSAGES:
            copy.execute(_PLACES)
            copy.execute(_PLACE_MESSAGES, scope)
            rows = _IN_PLACES
        if table.name == "tenants":
            rows += " AND x.deleted_at_us IS NULL"
        copy.execute(f"INSERT INTO main.{table.name} ({columns}) SELECT x.{', x.'.join(table.columns)} {rows}", scope)
        if table.name == "tenants" and not copy.execute("SELECT count(*) FROM main.tenants").fetchone()[0]:
            raise ExportStopped("the tenant was deleted meanwhile")
    copy.execute(_COPY_TIME)
    copy.execute("COMMIT")


class _Pace:
    """Called by SQLite now and then, in the thread that copies."""

    def __init__(self, descriptor: int, folder: str, is_cancelled: Callable[[], bool]) -> None:
        self._descriptor = descriptor
        self._folder = folder
        self._is_cancelled = is_cancelled
        self._rests = 0
        self._rested_s = time.monotonic()
        self.reason: str | None = None  # why it has stopped the copy

    def take(self) -> int:
        """Rests, when it is time. Anything but 0 stops the copy."""
        if time.monotonic() - self._rested_s < WORK_SECONDS:
            return 0
        self._rests += 1
        if self._rests % SYNC_EVERY == 0:
            os.fdatasync(self._descriptor)
            if shutil.disk_usage(self._folder).free < SPARE_BYTES:
                self.reason = "there is too little space on the disk"
        if self._is_cancelled():
            self.reason = "cancelled"
        time.sleep(REST_SECONDS)
        self._rested_s = time.monotonic()
        return int(self.reason is not None)
