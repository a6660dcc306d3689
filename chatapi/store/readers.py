"""The read connections: `query_only`, short transactions, never awaited by the writer. Tenants have them in turns."""

import asyncio
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, TypeVar, cast

from chatapi.batching import FairQueue
from chatapi.errors import ChatError, Code, unavailable
from chatapi.log_lines import Seldom
from chatapi.protocol.pages import Page, Value, Window
from chatapi.store.failures import describe, is_store_failure

logger = logging.getLogger(__name__)

MAX_WAITING_OF_TENANT = 1_000  # reads: more are refused with 503, a second's work for one reader
NO_LIMIT = 1 << 30  # rows
STOPPING = "The server is shutting down"
HOP_SECONDS = 0.001  # of reads that a reader gets at once; one that may take longer goes alone
HOLD_SECONDS = 1.0  # that a read under way may keep the others waiting: then it is ended
MAX_USUAL = 1_000  # tenants of which it is known how long a read takes: those that read lately
PAGE_BYTES = 1024 * 1024 - 4096  # of a page's items: with the envelope around them 1 MiB (docs/contract.md, section 6)

Row = tuple[Any, ...]
Parameters = Mapping[str, object]
T = TypeVar("T")


class Rows(NamedTuple):
    """The first ones, and whether there are more."""

    rows: list[Row]
    has_more: bool


class Reader:
    """One connection in a thread of its own, which is there from `open` to `close`."""

    def __init__(self, path: str, pragmas: Sequence[str], busy_seconds: float) -> None:
        self._path = path
        self._pragmas = pragmas
        self._busy_seconds = busy_seconds
        self._connection: sqlite3.Connection | None = None  # used by its own thread, while that is there
        self._inbox: SimpleQueue[Sequence[_Job] | None] = SimpleQueue()
        self._ended: asyncio.Future[None] | None = None  # done once the thread ends

    async def open(self, on_done: Callable[["Reader", Sequence["_Job"]], None]) -> None:
        """`on_done(self, jobs)` is called in the loop when these jobs have ended. Raises sqlite3.Error."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        ended = self._ended = loop.create_future()

        def serve() -> None:
            try:
                self._serve(
                    lambda: loop.call_soon_threadsafe(_end_wait, opened, None),
                    lambda jobs: loop.call_soon_threadsafe(on_done, self, jobs),
                )
            except sqlite3.Error as error:  # of the connection: those of a job are its own
                loop.call_soon_threadsafe(_end_wait, opened, error)
            finally:
                loop.call_soon_threadsafe(_end_wait, ended, None)

        # It only reads: the end of the process need not wait for it.
        Thread(target=serve, name="reader", daemon=True).start()
        await opened

    def interrupt(self) -> None:
        """Ends the statement that is under way, if there is one."""
        if self._connection is not None:
            self._connection.interrupt()

    def submit(self, jobs: Sequence["_Job"]) -> None:
        """The thread does these one after the other, then `on_done` is called once for all. `open` comes first."""
        self._inbox.put(jobs)

    def _serve(self, note_open: Callable[[], object], note_done: Callable[[Sequence["_Job"]], object]) -> None:
        self._connection = connection = sqlite3.connect(
            self._path, isolation_level=None, timeout=self._busy_seconds, check_same_thread=False
        )
        for pragma in self._pragmas:
            connection.execute(pragma).fetchall()
        note_open()
        while (jobs := self._inbox.get()) is not None:
            for job in jobs:
                job.run(connection)
            note_done(jobs)
            del jobs, job  # results are not kept until the next ones come

    async def close(self) -> None:
        """Ends the thread, once it has done what it was given, and the connection."""
        if self._ended is not None:
            self._inbox.put(None)
            await self._ended
        if self._connection is not None:
            self._connection.close()


class _Job:
    """One read, from a request to a reader's thread and back."""

    __slots__ = ("error", "finished", "result", "seconds", "tenant_key", "work")

    def __init__(self, tenant_key: int | None, work: Callable[[sqlite3.Connection], Any]) -> None:
        self.tenant_key = tenant_key
        self.work = work
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.result: Any = None
        self.error: Exception | None = None
        self.seconds = 0.0

    def run(self, connection: sqlite3.Connection) -> None:
        started_s = time.perf_counter()
        try:
            self.result = self.work(connection)
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
            self.error = error
        self.seconds = time.perf_counter() - started_s


class Readers:
    """Reads wait for a connection in one queue per tenant, which have their turns, so that many reads of one tenant
    hold up no other. A read is of the tenant that its parameter `tenant_key` names; those that serve several at once
    (`Batcher`) have every second turn.

    A read raises ChatError: 503 when the database cannot be read or too many of its tenant wait, 500 for what SQLite
    says of the statement or its values alone. So a job that nobody waits for tries again, and does not end.

    A read that takes many milliseconds is made in steps (`run_step`). Of all such reads one step is under way at a
    time, so that the other readers are left to the others.

    `hold` keeps new reads back, so that the WAL can restart: a read that is under way keeps what was written
    since it began.
    """

    def __init__(self, readers: Sequence[Reader]) -> None:
        self._readers = readers
        self._idle = list(readers)
        self._shared: deque[_Job] = deque()
        self._of_tenants: FairQueue[int, _Job] = FairQueue()
        self._is_turn_of_shared = True
        self._steps: FairQueue[int, _Job] = FairQueue()  # of long reads
        self._step: _Job | None = None  # the one under way
        self._is_turn_of_steps = True
        self._usual_s: dict[int | None, float] = {}  # how long a read of each tenant takes
        self._seldom = Seldom(logger)
        self._is_held = False
        self._is_closed = False
        self._deadline: asyncio.TimerHandle | None = None  # of the reads under way while the others are held back
        self.on_quiet: Callable[[], None] = _do_nothing
        """Called when the last read has ended while the others are held back."""

    async def open(self) -> None:
        """Returns once all connections are open. Raises sqlite3.Error."""
        for reader in self._readers:
            await reader.open(self._end)

    async def fetch(self, sql: str, parameters: Parameters) -> list[Row]:
        """All rows of one statement, in one hop to a connection's thread. They see what is committed by then."""
        return await self._run(parameters, lambda connection: connection.execute(sql, parameters).fetchall())

    async def fetch_one(self, sql: str, parameters: Parameters) -> Row | None:
        """The first of the rows that `fetch` would return: for statements that return one at most."""
        rows = await self.fetch(sql, parameters)
        return rows[0] if rows else None

    async def fetch_page(self, sql: str, parameters: Parameters, limit: int) -> Rows:
        """The first `limit` rows, or fewer, as `read_rows` has it."""
        return await self._run(parameters, partial(read_rows, sql, parameters, limit, PAGE_BYTES))

    async def look(self, tenant_key: int, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of several statements, in one hop: for those that depend on one another."""
        return await self._run({"tenant_key": tenant_key}, work)

    async def fetch_list(self, sql: str, scope: Parameters, window: Window, start: Mapping[str, Value]) -> Page:
        """The page of a list in this window, as far as it fits. The statement begins after the sort key that the
        parameters of `start` name, whose values are those before everything; its first columns are those of a sort key,
        in the same order."""
        rows, has_more = await self.fetch_window(sql, scope, window, start)
        return Page([row[-1] for row in rows], rows[-1][: len(start)] if has_more else None)

    async def fetch_window(self, sql: str, scope: Parameters, window: Window, start: Mapping[str, Value]) -> Rows:
        """As `fetch_list`, with all columns."""
        sort_key = start if window.after is None else dict(zip(start, window.after, strict=True))
        parameters = {**scope, **sort_key, "limit": window.limit, "offset": window.offset}
        return await self.fetch_page(sql, parameters, window.limit)

    async def fetch_pages(self, sql: str, wants: Sequence[Parameters], max_bytes: int) -> list[Rows]:
        """`read_rows` of one statement with each of these parameters, in one hop. A `limit` is one of them, or the
        statement is bounded otherwise."""

        def read(connection: sqlite3.Connection) -> list[Rows]:
            return [
                read_rows(sql, want, cast(int, want.get("limit", NO_LIMIT)), max_bytes, connection) for want in wants
            ]

        tenants = {want["tenant_key"] for want in wants}
        return await self._run({"tenant_key": tenants.pop()} if len(tenants) == 1 else {}, read)

    async def run_step(self, tenant_key: int, work: Callable[[sqlite3.Connection], T]) -> T:
        """One step of a long read, which leaves no statement open; raises what other reads raise."""
        return cast(T, await self._serve(_Job(tenant_key, work), self._steps))

    async def _run(self, parameters: Parameters, work: Callable[[sqlite3.Connection], T]) -> T:
        job = _Job(cast(int | None, parameters.get("tenant_key")), work)
        return cast(T, await self._serve(job, self._of_tenants))

    async def _serve(self, job: _Job, queue: FairQueue[int, _Job]) -> Any:
        self._queue(job, queue)
        self._serve_waiting()
        await job.finished
        if job.error is None:
            return job.result
        if getattr(job.error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_INTERRUPT:
            raise unavailable("The read took too long") from job.error
        if isinstance(job.error, sqlite3.Error) and not is_store_failure(job.error):
            logger.error("read failed", exc_info=job.error)
            raise ChatError(Code.INTERNAL_ERROR, "The read failed") from job.error
        if not is_store_failure(job.error):
            raise job.error
        self._seldom.error("the database cannot be read: %s", describe(job.error))
        raise unavailable("The database cannot be read") from job.error

    def _queue(self, job: _Job, queue: FairQueue[int, _Job]) -> None:
        if self._is_closed:
            raise unavailable(STOPPING)
        if job.tenant_key is None:
            self._shared.append(job)
        elif queue.count(job.tenant_key) < MAX_WAITING_OF_TENANT:
            queue.put(job.tenant_key, job)
        else:
            raise ChatError(
                Code.INTERNAL_ERROR, "Too many reads of this tenant are waiting", status=503, retry_after_s=1.0
            )

    def _serve_waiting(self) -> None:
        while self._idle and not self._is_held and (jobs := self._take_jobs()):
            self._idle.pop().submit(jobs)

    def _take_jobs(self) -> list[_Job]:
        """The jobs that a reader gets at once: more than one if they are short, since waking its thread costs more than
        they do."""
        if self._steps and self._step is None:
            self._is_turn_of_steps = not self._is_turn_of_steps
            if self._is_turn_of_steps or not (self._shared or self._of_tenants):
                self._step = self._steps.take()
                return [self._step]
        jobs: list[_Job] = []
        expected_s = 0.0
        while (self._shared or self._of_tenants) and expected_s < HOP_SECONDS:
            self._is_turn_of_shared = not self._is_turn_of_shared
            if self._shared and (self._is_turn_of_shared or not self._of_tenants):
                job = self._shared.popleft()
            else:
                job = self._of_tenants.take()
            if not job.finished.done():  # else its request was cancelled
                jobs.append(job)
                expected_s += self._usual_s.get(job.tenant_key, HOP_SECONDS)
        return jobs

    # A reader is free when its thread says so: a request that is cancelled does not stop its statement.
    def _end(self, reader: Reader, jobs: Sequence[_Job]) -> None:
        self._idle.append(reader)
        if self._step is not None and self._step in jobs:
            self._step = None
        else:
            self._note_seconds(jobs)
        for job in jobs:
            if not job.finished.done():
                job.finished.set_result(None)
        self._serve_waiting()
        if self._is_held and self.is_quiet:
            self.on_quiet()

    def _note_seconds(self, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            usual_s = self._usual_s.pop(job.tenant_key, 0.0)
            self._usual_s[job.tenant_key] = max(job.seconds, 0.9 * usual_s + 0.1 * job.seconds)  # put at the end
            if len(self._usual_s) > MAX_USUAL:
                del self._usual_s[next(iter(self._usual_s))]

    @property
    def is_held(self) -> bool:
        return self._is_held

    @property
    def is_quiet(self) -> bool:
        """No read is under way."""
        return len(self._idle) == len(self._readers)

    def hold(self) -> None:
        """No new read begins until `release`, and those under way have `HOLD_SECONDS` to end. Does nothing when they
        are held already."""
        if not self._is_held:
            self._is_held = True
            self._deadline = asyncio.get_running_loop().call_later(HOLD_SECONDS, self._interrupt)

    def _interrupt(self) -> None:
        for reader in self._readers:
            if reader not in self._idle:
                reader.interrupt()
        self._deadline = asyncio.get_running_loop().call_later(HOLD_SECONDS, self._interrupt)

    def release(self) -> None:
        """Does nothing when they are not held."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._is_held = False
        self._serve_waiting()

    async def close(self) -> None:
        """Returns when the reads under way have ended. Those that wait, and those that come, get 503."""
        self._is_closed = True
        for queue in (self._of_tenants, self._steps):
            while queue:
                self._shared.append(queue.take())
        for job in self._shared:
            _end_wait(job.finished, unavailable(STOPPING))
        self._shared.clear()
        for reader in self._readers:
            await reader.close()


def read_rows(sql: str, parameters: Parameters, limit: int, max_bytes: int, connection: sqlite3.Connection) -> Rows:
    """The statement's first rows, at most `limit`, and whether there are more. The last column is JSON: of that there
    are at most `max_bytes`, unless the first row has more. Other rows are not read from the file either, as long as the
    statement sorts nothing."""
    rows: list[Row] = []
    size = 0
    cursor = connection.execute(sql, parameters)
    for row in cursor:
        size += len(row[-1])
        if len(rows) == limit or (rows and size > max_bytes):
            cursor.close()
            return Rows(rows, True)
        rows.append(row)
    return Rows(rows, False)


def _end_wait(future: asyncio.Future[None], error: Exception | None) -> None:
    """Does nothing when the one that waited was cancelled."""
    if not future.done():
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def _do_nothing() -> None:
    return
