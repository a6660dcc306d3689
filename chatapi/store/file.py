"""Whether the database's files can be used, and whether they are still where they were: SQLite goes on writing into a
file that was removed or replaced under it, and what it confirms then is gone at the next start."""

import os
import pwd
import stat
from pathlib import Path


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


def find_obstacle(path: str) -> str | None:
    """Why this process cannot write a database at this path, in words for the operator; None when nothing is seen."""
    database = Path(os.path.realpath(path))
    folder = database.parent
    if not folder.is_dir():
        return f"{folder} is no folder" if folder.exists() else f"the folder {folder} does not exist: create it first"
    # Left behind by a command of root, each of them stops a server that is not.
    files = [Path(f"{database}{suffix}") for suffix in ("", "-wal", "-shm", ".lock")]
    for place in (folder, *(file for file in files if file.is_file())):
        if not os.access(place, os.R_OK | os.W_OK):
            return _explain_refusal(place)
    return None


def _explain_refusal(place: Path) -> str:
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return f"{place} is on a file system that can only be read"
    status = place.stat()
    return (
        f"{place} belongs to {_name_user(status.st_uid)} with mode {stat.S_IMODE(status.st_mode):04o},"
        f" and this process, which has to read and write it, runs as {_name_user(os.geteuid())}"
    )


def _name_user(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"user {user_id}"
