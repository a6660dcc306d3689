"""The one task that writes: group commit, seq assignment, and publication in commit order (docs/design.md, section 5).

Requests append writes to a list. The task takes what waits, gives each durable event its room's next `seq` at that
moment, commits, and then hands the whole batch to the committer, in order. Nobody else awaits the write connection.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import aiosqlite

from chatapi.clock import Clock, judge_as_of
from chatapi.errors import ChatError, Code, held, unavailable
from chatapi.log_lines import Seldom
from chatapi.metrics import Histogram, Total
from chatapi.store import backend_events, log
from chatapi.store.background import Background, Work
from chatapi.store.failures import describe, is_lock_failure, is_store_failure
from chatapi.store.file import DatabaseFiles, DatabaseGone
from chatapi.store.gathering import Gathering
from chatapi.store.keys import KeyMaker
from chatapi.store.moves import HELD
from chatapi.store.transaction import SqliteConnection, Transaction
from chatapi.store.wal import WalBound
from chatapi.store.writes import AnyCommitter, Change, MessageWrite, Write, resolve

logger = logging.getLogger(__name__)

MAX_BATCH = 512  # writes per commit: past this the commit's latency grows faster than its throughput
MAX_QUEUED = 20_000  # writes: more are refused with 503 rather than kept waiting for seconds
MAX_QUEUED_CHARACTERS = 64 * 1024 * 1024  # of what clients wrote, which is most of their memory
MAX_GATHERED_CHARACTERS = 1024 * 1024  # past this a commit waits for no more: its own pages are most of what it writes

COMMIT_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # writes; MAX_BATCH ends the last one

T = TypeVar("T")

# How long SQLite waits for a lock of another process. After a wait that failed, writes are refused at once, until one
# of them succeeds.
BUSY_SECONDS = 5.0
_FULL = 2  # the value of `synchronous`
NOT_WRITABLE = "The database cannot accept writes"


class Writer:
    """Owns the write connection. `run` is its one task."""

    _committer: AnyCommitter  # from `run` on

    def __init__(
        self, connection: aiosqlite.Connection, clock: Clock, keys: KeyMaker, wal_bound: WalBound, files: DatabaseFiles
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._keys = keys
        self.checkpoints_itself = True  # else another program does, unless the WAL grows past its bound
        self._wal_bound = wal_bound
        self.files = files
        self._queue: list[Write] = []
        self._background = Background()
        self._queued_characters = 0
        self.memory_share = 1.0  # of those bounds
        self._wake = asyncio.Event()
        self._gathering: Gathering | None = None  # commits wait for more writes
        self._closing = False
        self._seldom = Seldom(logger)
        self._is_patient = True  # SQLite waits for locks
        self._is_synchronous = False  # each commit waits for the disk; known once `run` runs
        self._is_committing = False
        self._is_stuck = False  # a commit is under way that nobody waits for any more
        self.writable = True
        self.pinned_wal_pages = 0  # which a reader still needed after the last checkpoint
        self.commit_writes = Histogram(COMMIT_BUCKETS)
        self.commit_seconds = Total()

    def __len__(self) -> int:
        return len(self._queue)

    def next_key(self) -> int:
        """A new time-ordered key, for a notification or a subscription."""
        return self._keys.next_key()

    def note_key(self, key: int) -> None:
        """Keys made from now on are greater, as after those of a tenant that has arrived."""
        self._keys.note(key)

    def submit(self, write: Write) -> None:
        """Queues one write; the outcome arrives through it. Raises ChatError 503 when the server is closing, the queue
        is full, or a commit does not end."""
        if self._closing:
            raise unavailable("The server is shutting down")
        if self._is_stuck:
            raise unavailable(NOT_WRITABLE)
        if max(len(self._queue) / MAX_QUEUED, self._queued_characters / MAX_QUEUED_CHARACTERS) >= self.memory_share:
            raise unavailable("Too many writes are waiting")
        if self._gathering is not None and not self._queue:
            self._gathering.begin()
        self._queued_characters += write.characters
        self._queue.append(write)
        self._wake.set()

    async def change(
        self,
        apply: Callable[[Transaction], Awaitable[T]],
        publish: Callable[[T], None] | None = None,
        *,
        barrier: bool = False,
        characters: int = 0,
    ) -> T:
        """Applies a change; on return it is committed and published. Raises the ChatError that `apply` raised, or
        another ChatError: 503 when the database takes no writes, 500 for any other failure of `apply`.

        A request that is cancelled meanwhile loses only its answer: the change is committed and published all the same.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.submit(Change(apply, publish, barrier, future, characters))
        if barrier and self._gathering is not None:  # others wait for it
            self._gathering.end()
        return await future

    def hurry(self) -> None:
        """Jobs that nobody waits for take their steps without rests: for tests, which wait for them."""
        self._background.rests = False

    @property
    def has_work(self) -> bool:
        """A write waits, or is under way."""
        return bool(self._queue) or self._is_committing or bool(self._background)

    @property
    def is_busy(self) -> bool:
        """Others write, or have done so a moment ago."""
        return self._background.is_busy

    @property
    def is_loaded(self) -> bool:
        """Others write much."""
        return self._background.is_loaded

    async def step(
        self,
        work: Work[T],
        publish: Callable[[T], None] | None = None,
        *,
        is_repeatable: bool = False,
        is_awaited: bool = False,
        moves_pages: bool = False,
    ) -> T:
        """One step of a job that nobody waits for, when it is its turn; of one that is awaited, by an operator for
        instance, it is soon. Raises what `change` raises.

        A power loss may undo the last steps that are repeatable, and nothing else: they do not wait for the disk.
        """
        if self._closing:
            raise unavailable("The server is shutting down")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        limited = self._background.limit_time
        step = Change(
            lambda transaction: transaction.run(limited(work, is_repeatable=is_repeatable, is_awaited=is_awaited)),
            publish,
            False,
            future,
        )
        self._background.put(step, is_repeatable=is_repeatable, is_awaited=is_awaited, moves_pages=moves_pages)
        self._wake.set()
        return await future

    def set_commit_interval(self, seconds: float) -> None:
        """From now on a commit waits so long for more writes, counted from the first one. 0: none does, and those in
        the queue are committed at once."""
        if self._gathering is not None:
            self._gathering.end()
        self._gathering = Gathering(seconds, self._wake) if seconds else None

    def _has_gathered(self, gathering: Gathering) -> bool:
        """Enough for a commit; or it must not wait any longer, perhaps since reads do for the checkpoint after it."""
        return (
            gathering.has_ended
            or len(self._queue) >= MAX_BATCH
            or self._queued_characters >= MAX_GATHERED_CHARACTERS
            or self._wal_bound.is_due
        )

    def give_up_waiting(self) -> None:
        """The commit under way takes too long: the writes queued behind it, and all that come until it ends, are
        refused. Does nothing when there is none."""
        if not self._is_committing or self._is_stuck:
            return
        self._is_stuck = True
        self.writable = False
        logger.error("a commit takes too long: the server refuses writes until it ends")
        self._refuse_queue()

    def close(self) -> None:
        """No more writes are taken; `run` returns when all that was queued is committed."""
        self._closing = True
        self.set_commit_interval(0)
        self._wake.set()

    async def run(self, committer: AnyCommitter) -> None:
        """Runs until `close` was called and all that was queued is committed. Raises DatabaseGone, which ends the
        server, if the files have gone during a commit.

        However it ends, writes that are left get 503, so that nobody waits for them.
        """
        self._committer = committer
        [(level,)] = await self._connection.execute_fetchall("PRAGMA synchronous")
        self._is_synchronous = level == _FULL
        try:
            while self._queue or not self._closing:
                step = self._background.take()
                if step is not None:
                    await self._take_step(step)
                if self._queue and (self._gathering is None or self._has_gathered(self._gathering)):
                    started_s = time.perf_counter()
                    await self._write(self._take_batch())
                    self._background.note_foreground(time.perf_counter() - started_s)
                elif step is None:
                    await self._rest()
                if self._wal_bound.is_due:
                    self._tell_who_checkpoints()
                    self._wal_bound.end(await self._checkpoint())
        finally:
            self._wal_bound.end(False)
            # It may have crashed: nobody may wait for a writer that is gone, the shutdown least of all.
            self._closing = True
            left = [*self._queue, *self._background.take_all()]
            for write in left:
                write.error = unavailable("The server is shutting down")
            resolve(left)

    async def _take_step(self, step: Change[Any]) -> None:
        changes_before = self._connection.total_changes
        if self._background.is_repeatable and self._is_synchronous:
            await self._connection.execute("PRAGMA synchronous = NORMAL")
            await self._write([step])
            await self._connection.execute("PRAGMA synchronous = FULL")
        else:
            await self._write([step])
        changes = self._connection.total_changes - changes_before
        if self.checkpoints_itself and self._background.wants_checkpoint(changes) and self.writable:
            started_s = time.perf_counter()
            await self._checkpoint()
            self._background.note_checkpoint(time.perf_counter() - started_s)
        self._background.end()

    def wake(self) -> None:
        """A checkpoint may be due."""
        self._wake.set()

    def _tell_who_checkpoints(self) -> None:
        if not self.checkpoints_itself:
            self._seldom.error(
                "the write-ahead log has grown past its bound: does Litestream run? (database.checkpoints)"
            )

    async def _checkpoint(self) -> bool:
        """Copies the WAL into the database; whether that was all of it, since no reader needs it to stay."""
        try:
            rows = await self._connection.execute_fetchall("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error as error:
            self._seldom.error("the write-ahead log cannot be copied into the database: %s", describe(error))
            return False
        [(_, frames, copied)] = rows
        self.pinned_wal_pages = int(frames) - int(copied)
        return self.pinned_wal_pages == 0

    async def _rest(self) -> None:
        self._wake.clear()
        timer = self._background.call_when_due(self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _write(self, batch: Sequence[Write]) -> None:
        self._is_committing = True
        changes_before = self._connection.total_changes
        try:
            was_refused = await self._commit(batch)
            if self._connection.total_changes > changes_before:
                self._check_files()  # again: only a restart can tell what went into a file that has gone meanwhile
                self._wal_bound.note_size(self.files.wal_bytes)
        except BaseException:
            # The task ends, and with it the process: nobody is told that this was stored, which only a restart can say.
            for write in batch:
                write.error = unavailable(NOT_WRITABLE)
            resolve(batch)
            raise
        self._is_committing = self._is_stuck = False
        self._committer.publish(batch)
        if was_refused:  # the waiting writes would find the same, and a lock only after seconds
            self._refuse_queue()

    def _take_batch(self) -> list[Write]:
        size = 0
        for write in self._queue[:MAX_BATCH]:
            size += 1
            self._queued_characters -= write.characters
            if isinstance(write, Change) and write.barrier:
                break
        batch = self._queue[:size]
        del self._queue[:size]
        return batch

    async def _commit(self, batch: Sequence[Write]) -> bool:
        """Whether the database refused; then every write of the batch says so."""
        started_s = self._clock.machine_s()
        changes_before = self._connection.total_changes
        try:
            await self._commit_together(batch)
        except Exception as error:  # a write that does something wrong must fail alone
            await self._roll_back()
            if is_store_failure(error):
                await self._refuse(batch, error)
                return True
            if len(batch) == 1:
                logger.error("write failed", exc_info=error)
                batch[0].error = ChatError(Code.INTERNAL_ERROR, "The write failed")
            else:
                return any([await self._commit([write]) for write in batch])
        else:
            self.commit_writes.add(len(batch))
            self.commit_seconds.add(self._clock.machine_s() - started_s)
            # A transaction that wrote nothing also succeeds on a full disk.
            if not self.writable and self._connection.total_changes > changes_before:
                await self._accept_again()
        return False

    async def _commit_together(self, batch: Sequence[Write]) -> None:
        self._check_files()
        transaction = Transaction(self._connection, self._clock.now_us())
        messages = [write for write in batch if isinstance(write, MessageWrite)]
        try:
            with judge_as_of(transaction.now_us):
                if len(messages) == len(batch) <= log.MAX_INSERTED:
                    await self._insert(messages, transaction)
                    if self._connection.in_transaction:  # else it was one statement, a transaction of its own
                        await self._connection.execute("COMMIT")
                else:
                    await self._connection.execute("BEGIN IMMEDIATE")
                    await self._apply_in_order(batch, transaction)
                    await self._connection.execute("COMMIT")
        except BaseException:
            transaction.give_back()
            raise

    def _check_files(self) -> None:
        """Raises DatabaseGone: rows written now would be lost at the next start."""
        if not self.files.is_there():
            raise DatabaseGone(self.files.path)

    async def _apply_in_order(self, batch: Sequence[Write], transaction: Transaction) -> None:
        messages: list[MessageWrite] = []
        for write in batch:
            if isinstance(write, MessageWrite):
                if len(messages) == log.MAX_INSERTED:
                    await self._insert(messages, transaction)
                    messages = []
                messages.append(write)
                continue
            await self._insert(messages, transaction)
            messages = []
            write.error = None
            write.stored_us = transaction.now_us
            try:
                write.result = await write.apply(transaction)
            except ChatError as refusal:
                write.error = refusal
            except sqlite3.IntegrityError as error:
                if str(error) != HELD:
                    raise
                write.error = held("The tenant is on its way to another server")
        await self._insert(messages, transaction)

    async def _insert(self, messages: Sequence[MessageWrite], transaction: Transaction) -> None:
        """That a `client_message_id` is new is presumed, and the unique index is the judge: only when it refuses are
        the earlier messages looked up, so that the common case pays nothing for it."""
        for write in messages:
            write.error = write.stored = write.repeats = write.told_at_us = None
        counted = self._committer.list_counted(messages)
        if counted:
            await log.set_aside_known(counted, transaction)
        fresh, doubtful = self._select_fresh(messages)
        if doubtful:
            await log.set_aside_known(doubtful, transaction)
            for write in doubtful:
                if write.stored is not None:
                    write.error = None
        if not fresh:
            return
        mark = transaction.mark(write.counter for write in fresh)
        try:
            await self._insert_rows(fresh, transaction)
        except sqlite3.IntegrityError:
            transaction.reset(mark)
            if fresh := await log.set_aside_known(fresh, transaction):
                await self._insert_rows(fresh, transaction)

    def _select_fresh(self, messages: Sequence[MessageWrite]) -> tuple[list[MessageWrite], list[MessageWrite]]:
        """The messages to store now, and those that are refused unless they repeat one that is stored: a sender may
        have left the room meanwhile, or repeat a message."""
        fresh, doubtful = [], []
        firsts: dict[tuple[int, str, str | None] | None, MessageWrite] = {}
        for write in messages:
            try:
                self._committer.check_sender(write)
            except ChatError as refusal:
                write.error = refusal
                continue
            if write.stored is not None:
                continue
            identity = None if write.client_message_id is None else write.identity
            if identity in firsts:
                write.repeats = firsts[identity]
                continue
            try:
                self._committer.judge(write)
            except ChatError as refusal:
                write.error = refusal
                if identity is not None:
                    doubtful.append(write)
                continue
            if identity is not None:
                firsts[identity] = write
            fresh.append(write)
        return fresh, doubtful

    async def _insert_rows(self, fresh: Sequence[MessageWrite], transaction: Transaction) -> None:
        now_us = transaction.now_us
        values: list[object] = []
        for write in fresh:
            write.seq = transaction.take_seq(write.counter)
            write.message_key = self._keys.next_key()
            write.created_at_us = now_us
            values += (
                write.message_key,
                write.counter.room_key,
                write.seq,
                write.sender_id,
                write.content,
                write.meta_text,
                write.reply_to,
                write.client_message_id,
                write.body_digest,
                now_us,
            )
        beside, sql = self._committer.list_statements(fresh), log.insert_messages(len(fresh))
        if any(write.told_at_us for write in fresh):
            sql, values = backend_events.insert_told_messages(len(fresh)), backend_events.add_told(fresh, values)
        is_whole = bool(beside) and not self._connection.in_transaction  # one statement is a transaction of its own

        def insert(connection: SqliteConnection) -> None:
            if is_whole:
                connection.execute("BEGIN IMMEDIATE")
            connection.execute(sql, values)
            for statement in beside:
                connection.execute(*statement)
            if is_whole:
                connection.execute("COMMIT")

        await transaction.run(insert)

    async def _roll_back(self) -> None:
        if self._connection.in_transaction:
            await self._connection.execute("ROLLBACK")

    async def _refuse(self, batch: Sequence[Write], error: Exception) -> None:
        self._seldom.error("the database refuses writes: %s", describe(error))
        self.writable = False
        for write in batch:
            write.error = unavailable(NOT_WRITABLE)
        if is_lock_failure(error):
            await self._set_patience(False)

    def _refuse_queue(self) -> None:
        refused, self._queue = self._queue, []
        self._queued_characters = 0
        for write in refused:
            write.error = unavailable(NOT_WRITABLE)
        self._committer.publish(refused)

    async def _accept_again(self) -> None:
        logger.info("the database accepts writes again")
        self.writable = True
        await self._set_patience(True)

    async def _set_patience(self, is_patient: bool) -> None:
        if is_patient is not self._is_patient:
            self._is_patient = is_patient
            await self._connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000) if is_patient else 0}")
