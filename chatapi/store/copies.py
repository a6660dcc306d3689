"""Whether the database is the one that was served here last, or a copy of it: one that was restored, for instance, by
whatever program, byte for byte. A server of the copy may give a `seq` that the original gave to another event, so the
tenants of a copy get new epochs.

Each start gives the database a new random id, which the file of its lock notes: that stays where the database is. The
ids differ where the database comes from elsewhere, or is as it was before an earlier start. They are the same where a
copy of this very run replaces its original: so the file notes also which file the database was, by its inode,
and by an attribute that is set on it, since inodes are used again. And it notes its own inode: if that is another one,
both files were moved together, and the database is the original.

Not noticed: a snapshot of the whole disk, and a folder that is copied with all that is in it.
"""

import logging
import os
import secrets
from contextlib import suppress
from typing import NamedTuple

import aiosqlite

from chatapi.store.epochs import RENEW_EPOCHS

logger = logging.getLogger(__name__)

_ID_ATTRIBUTE = "user.chatapi.id"

GET_ID = "SELECT value FROM meta WHERE name = 'database_id'"
PUT_ID = """
    INSERT INTO meta (name, value) VALUES ('database_id', :database_id)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""

OFFSET = 20  # in the file of the lock, whose first bytes tell its holder
MAX_BYTES = 200


class _Note(NamedTuple):
    """The contents of the file. There are two `ids` while a start changes the id: a crash may leave either."""

    ids: tuple[str, ...]
    database_inode: int
    has_attribute: bool  # the database was given its id as an attribute; not every file system has them
    own_inode: int


class IdNote:
    """The note in the file of the lock, which is held."""

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._own_inode = os.fstat(descriptor).st_ino
        self._note = _parse(os.pread(descriptor, MAX_BYTES, OFFSET))

    def is_of_copy(self, database_id: str | None) -> bool:
        """Whether the database, whose id this is, is a copy of one that was served, here or elsewhere. One that never
        was, or by a version without ids only, has none."""
        note = self._note
        if note is None:
            return database_id is not None
        if database_id not in note.ids:
            return True
        return note.own_inode == self._own_inode and not self._is_same_file(note)

    def _is_same_file(self, note: _Note) -> bool:
        return os.stat(self._path).st_ino == note.database_inode and (
            not note.has_attribute or self._get_attribute() in note.ids
        )

    def note(self, *ids: str, has_attribute: bool) -> None:
        """On disk when it returns. Raises OSError."""
        inode = os.stat(self._path).st_ino
        text = " ".join((",".join(ids), str(inode), "yes" if has_attribute else "no", str(self._own_inode)))
        os.pwrite(self._descriptor, f"{text}\n".ljust(MAX_BYTES, "\n").encode("ascii"), OFFSET)
        os.fsync(self._descriptor)

    def begin(self, old_id: str, new_id: str) -> None:
        """The database is about to get another id. Raises OSError."""
        self.note(old_id, new_id, has_attribute=self._get_attribute() == old_id)
        self._set_attribute(new_id)

    def end(self, new_id: str) -> None:
        """The database has this id. Raises OSError."""
        self._set_attribute(new_id)
        self.note(new_id, has_attribute=self._get_attribute() == new_id)

    def _set_attribute(self, database_id: str) -> None:
        if hasattr(os, "setxattr"):  # Linux
            with suppress(OSError):
                os.setxattr(self._path, _ID_ATTRIBUTE, database_id.encode("ascii"))

    def _get_attribute(self) -> str | None:
        if not hasattr(os, "getxattr"):
            return None
        try:
            return os.getxattr(self._path, _ID_ATTRIBUTE).decode("ascii", errors="replace")
        except OSError:
            return None


def _parse(text: bytes) -> _Note | None:
    """None for what `IdNote.note` did not write: nothing, in a new file or that of an earlier version."""
    try:
        ids, inode, has_attribute, own_inode = text.decode("ascii").split()
        return _Note(tuple(ids.split(",")), int(inode), has_attribute == "yes", int(own_inode))
    except ValueError:
        return None


async def recognise_copy(connection: aiosqlite.Connection, noted: IdNote) -> None:
    """Gives the database, which is migrated and not served yet, the id of this start, and its tenants new epochs if it
    is a copy. A crash at any point leaves a database that the next start judges rightly. Raises OSError."""
    rows = list(await connection.execute_fetchall(GET_ID))
    old_id = str(rows[0][0]) if rows else None
    is_copy = noted.is_of_copy(old_id)
    new_id = secrets.token_hex(12)
    if old_id is not None and not is_copy:
        noted.begin(old_id, new_id)
    await connection.execute("BEGIN IMMEDIATE")
    if is_copy:
        await connection.execute(RENEW_EPOCHS)
    await connection.execute(PUT_ID, {"database_id": new_id})
    await connection.execute("COMMIT")
    noted.end(new_id)
    if is_copy:
        logger.warning("the database was restored or copied: its tenants have new epochs")
