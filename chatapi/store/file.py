"""Whether the database's files can be used, and whether they are still where they were: SQLite goes on writing into a
file that was removed or replaced under it, and what it confirms then is gone at the next start. Nor would it be found
under another name of the file: the WAL is beside the name by which the database was opened."""

import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path

# An extended attribute of the file, which all its names share: the one by which it was opened last. Not every file
# system has them.
_NAME_ATTRIBUTE = "user.chatapi.name"


class DatabaseGone(Exception):
    """The database's files were removed, replaced or cut off under the running server; the message is for the
    operator."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the database {path} was removed or replaced under the running server")


class DatabaseFiles:
    """The database and its WAL, by device and inode. To look takes a few microseconds."""

    def __init__(self, path: str) -> None:
        """Both files exist: the database is open. Raises OSError."""
        self.path = os.path.abspath(path)
        self._wal = find_wal(path)
        self.wal_bytes = 0  # of its file, at the last look
        self._identities = _identify(os.stat(self.path)), _identify(os.stat(self._wal))

    @property
    def identity(self) -> str:
        """As `name_identity` has it of the database."""
        return _format_identity(self._identities[0])

    def is_there(self) -> bool:
        """Whether both names still lead to these files, and the database was not cut to nothing."""
        try:
            database, wal = os.stat(self.path), os.stat(self._wal)
        except OSError:
            return False
        self.wal_bytes = wal.st_size
        return database.st_size > 0 and (_identify(database), _identify(wal)) == self._identities


def find_wal(path: str) -> str:
    """Where SQLite has the WAL of the database: beside the file itself, where the path leads to one by a
    symbolic link."""
    return f"{os.path.realpath(path)}-wal"


def has_content(path: str) -> bool:
    """False also when there is no such file."""
    try:
        return os.path.getsize(path) > 0
    except OSError:
        return False


def note_name(path: str) -> None:
    """The database is about to be opened by this name; see `find_other_wal`."""
    if hasattr(os, "setxattr"):  # Linux
        with suppress(OSError):
            os.setxattr(path, _NAME_ATTRIBUTE, os.fsencode(os.path.realpath(path)))


def find_other_wal(path: str) -> str | None:
    """Whether what was written last is beside another name of the file, in words for the operator: the other name is a
    hard link to it, or the file was moved without its WAL. None when there is no such WAL, or none is known of."""
    other, own_wal = _get_noted_name(path), find_wal(path)
    if other is None or not has_content(other_wal := f"{other}-wal") or _is_same(other_wal, own_wal):
        return None
    if _is_same(other, path):
        return f"is another name (a hard link) of {other}, which has a log of its own, {other_wal}: use that name"
    if os.path.lexists(other) or has_content(own_wal):
        return None  # a copy, or moved together with its WAL
    return f"was moved here without its log, {other_wal}, which has what was written last: move that to {own_wal}"


def _is_same(first: str, second: str) -> bool:
    """Whether both are names of one file that exists."""
    try:
        return os.path.samefile(first, second)
    except OSError:
        return False


def _get_noted_name(path: str) -> str | None:
    if not hasattr(os, "getxattr"):
        return None
    try:
        return os.fsdecode(os.getxattr(path, _NAME_ATTRIBUTE))
    except OSError:
        return None


def name_identity(path: str) -> str:
    """Device and inode, which tell the file from every other one on this machine, by whatever path it is
    reached. Raises OSError."""
    return _format_identity(_identify(os.stat(path)))


def _identify(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _format_identity(identity: tuple[int, int]) -> str:
    return "{}:{}".format(*identity)


def find_obstacle(path: str) -> str | None:
    """Why this process cannot write a database at this path, in words for the operator; None when nothing is seen."""
    database = Path(os.path.realpath(path))
    folder = database.parent
    try:
        if not stat.S_ISDIR(folder.stat().st_mode):
            return f"{folder} is not a folder"
    except (FileNotFoundError, NotADirectoryError):
        return f"the folder {folder} does not exist: create it first"
    # Left behind by a command of root, each of them stops a server that is not.
    files = [Path(f"{database}{suffix}") for suffix in ("", "-wal", "-shm", ".lock")]
    for needed in (folder, *(file for file in files if file.is_file())):
        if not os.access(needed, os.R_OK | os.W_OK):
            return _explain_refusal(needed)
    return None


def _explain_refusal(path: Path) -> str:
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return f"{path} is on a file system that can only be read"
    status = path.stat()
    return (
        f"{path} belongs to {_name_user(status.st_uid)} with mode {stat.S_IMODE(status.st_mode):04o},"
        f" and this process, which has to read and write it, runs as {_name_user(os.geteuid())}"
    )


def _name_user(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"user {user_id}"
