"""The lock on the database: `serve` holds it, so that no second server and no command writes beside it."""

import fcntl
import logging
import os
import struct
import sys
from types import TracebackType

from chatapi.store.copies import OFFSET, IdNote
from chatapi.store.file import find_other_wal, note_name

logger = logging.getLogger(__name__)

# The byte after those by which SQLite locks (0x40000000 to 0x400001ff). Bytes need not exist to be locked.
_LOCKED_BYTE = 0x4000_0200
_encode_lock = struct.Struct("hhqqi4x").pack  # Linux's `struct flock`: type, whence, start, length, process


class DatabaseInUse(Exception):
    """Another process holds the database; the message is for the operator."""


class DatabaseLock:
    """Exclusive; it ends with the process, however that ends.

    It is two locks. That on `PATH.lock` tells who holds it, and stays the same when the database is replaced. The file
    is left in place, since another process may wait for just this one. That on a byte of the database itself is the
    same for all names of the file, hard links and other mounts included. It belongs to the open file, not to the
    process (an "open file description lock" of Linux), so that it neither meets SQLite's locks nor ends with them.

    Both are held from before SQLite opens the database until after it has closed it: to close any descriptor of that
    file drops the locks that SQLite holds on it in this process (its "How To Corrupt", section 2.2).
    """

    def __init__(self, path: str) -> None:
        self._database = path
        # Two paths to one name of the database are one lock.
        self._path = os.path.realpath(path)
        self._descriptors: list[int] = []

    def acquire(self) -> None:
        """At once or not at all; a database that does not exist is made, empty. Raises DatabaseInUse, or OSError when
        the folder cannot be written to."""
        try:
            self._lock_name()
            self._lock_file()
        except BaseException:
            self.release()
            raise

    def _lock_name(self) -> None:
        descriptor = self._open(f"{self._path}.lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, OFFSET, 0).decode("ascii", errors="replace").strip()
            by = f" by process {holder}" if holder.isdigit() else ""
            raise DatabaseInUse(f"the database {self._database} is in use{by}") from None
        os.pwrite(descriptor, f"{os.getpid()}".ljust(OFFSET - 1).encode() + b"\n", 0)  # keeps the note behind it

    @property
    def id_note(self) -> IdNote:
        """Which database was served here last. The lock is held, and the database is there."""
        return IdNote(self._path, self._descriptors[0])

    def _lock_file(self) -> None:
        descriptor = self._open(self._path)
        if sys.platform == "linux":
            try:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _encode_lock(fcntl.F_WRLCK, os.SEEK_SET, _LOCKED_BYTE, 1, 0))
            except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as the file system likes
                raise DatabaseInUse(
                    f"the database {self._database} is in use by another name of the same file (a hard link)"
                ) from None
            except OSError as error:  # a file system, or an imitation of Linux, that does not have it
                logger.warning(
                    "the server cannot see whether the database has other names (hard links): %s", error.strerror
                )
        if objection := find_other_wal(self._path):
            raise DatabaseInUse(f"the database {self._database} {objection}")
        note_name(self._path)
        names = os.fstat(descriptor).st_nlink
        if names > 1:
            logger.warning("the database has %d names (hard links): always start the server by the same one", names)

    def _open(self, path: str) -> int:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._descriptors.append(descriptor)
        return descriptor

    def release(self) -> None:
        """Does nothing when it is not held."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def __enter__(self) -> "DatabaseLock":
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
