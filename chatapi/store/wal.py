"""Keeps the WAL (write-ahead log) from growing: it restarts once all of it is in the database and no reader
still needs it.

A read that is under way keeps what was written since it began, and where reads never stop there is always one. So past
a size new reads are held back until those under way have ended, for the moment that a checkpoint takes.
"""

import asyncio

from chatapi.store.readers import Readers

MAX_WAL_BYTES = 24 * 1024 * 1024  # one and a half times what SQLite's own checkpoints let it grow to
# Where another program checkpoints: Litestream cuts the WAL off at half of it, so nobody checkpoints any more.
MAX_EXTERNAL_WAL_BYTES = 1024 * 1024 * 1024
# When the WAL is still needed after a checkpoint, by a backup for instance, holding reads back does not help.
IN_VAIN_SECONDS = 5.0


class WalBound:
    """For the writer alone, which checkpoints when `is_due`."""

    def __init__(self, readers: Readers, *, is_external: bool) -> None:
        self._readers = readers
        self._max_bytes = MAX_EXTERNAL_WAL_BYTES if is_external else MAX_WAL_BYTES
        self._pause_ends_s = 0.0  # of the loop's clock

    def note_size(self, wal_bytes: int) -> None:
        """Called after commits: holds reads back when the WAL is too long."""
        if wal_bytes <= self._max_bytes or self._readers.is_held:
            return
        if asyncio.get_running_loop().time() >= self._pause_ends_s:
            self._readers.hold()

    @property
    def is_due(self) -> bool:
        return self._readers.is_held and self._readers.is_quiet

    def end(self, is_whole: bool) -> None:
        """A checkpoint has ended. Whether all of the WAL is in the database: then the next commit restarts it."""
        if not is_whole:
            self._pause_ends_s = asyncio.get_running_loop().time() + IN_VAIN_SECONDS
        self._readers.release()
