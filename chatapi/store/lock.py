"""Who has the database: an advisory lock that `serve` holds, so that an offline command cannot write beside it."""

import fcntl
import os
from pathlib import Path
from types import TracebackType


class DatabaseInUse(Exception):
    """Another process holds the database; the message is for the operator."""


class DatabaseLock:
    """Exclusive, on `PATH.lock`; it ends with the process, however that ends.

    The lock is not on the database itself: closing any descriptor of that file would drop the locks that SQLite holds
    on it in this process (its "How To Corrupt", section 2.2). The file is left in place, since another process may
    wait for just this one.
    """

    def __init__(self, path: str) -> None:
        self._database = path
        # Two names of one database are one lock.
        self._path = Path(f"{os.path.realpath(path)}.lock")
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """At once or not at all. Raises DatabaseInUse, or OSError when the folder cannot be written to."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", errors="replace").strip()
            os.close(descriptor)
            by = f" by process {holder}" if holder.isdigit() else ""
            raise DatabaseInUse(f"the database {self._database} is in use{by}") from None
        except OSError:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Does nothing when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "DatabaseLock":
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
