"""Whether the database's files are still where they were: SQLite goes on writing into a file that was removed or
replaced under it, and what it confirms then is gone at the next start."""

import os


class DatabaseGone(Exception):
    """The database's files were removed, replaced or cut off under the running server; the message is for the
    operator."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the database {path} was removed or replaced under the running server")


class DatabaseFiles:
    """The database and its log (the WAL), by device and inode. To look takes a few microseconds."""

    def __init__(self, path: str) -> None:
        """Both files exist: the database is open. Raises OSError."""
        self.path = os.path.abspath(path)
        self._identities = [(name, _identify(name)) for name in (self.path, f"{self.path}-wal")]

    def is_there(self) -> bool:
        try:
            return os.path.getsize(self.path) > 0 and all(
                _identify(name) == identity for name, identity in self._identities
            )
        except OSError:
            return False


def _identify(name: str) -> tuple[int, int]:
    status = os.stat(name)
    return status.st_dev, status.st_ino
