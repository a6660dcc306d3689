"""The regular job that keeps the index of search up with the messages, at little cost to those that are sent.

A search itself reads the messages that came last, up to `LONG_TAIL` of them (`store/search.py`), so the index may be
behind by so many: they are put in when there is time for it, many at once, which takes a fraction of what one by one
would.
"""

import asyncio
from functools import partial
from typing import TypeVar

from chatapi.store import Store, search_index, search_tail
from chatapi.store.background import Work
from chatapi.store.search_index import IDLE_MERGED_PAGES, LONG_TAIL, MERGED_PAGES, IndexStep

PAUSE_SECONDS = 1.0  # between two looks at what has come
# A step writes whole pages, however few messages it puts in: on a quiet server they wait for each other, for so long.
FEW_MESSAGES, GATHER_SECONDS = 200, 30.0
CHUNK_SECONDS, IDLE_CHUNK_SECONDS = 0.003, 0.01  # that the writer may be kept from others
LEAST_ROWS, MOST_ROWS = 50, 1_000  # of a chunk
# While others write much, a step is followed by a rest of so many times as long: it takes 2.4 % of the time, so that
# sending loses no more. As the tail grows from half of what a search reads to all of it, that becomes a sixth.
REST, LEAST_REST = 40.0, 5.0
MOST_REST_SECONDS = 1.0
MERGED_CHUNKS = 8  # each is a segment of the index, and so many of one size are merged
CHUNKS_PER_MERGE = 2  # while there is more to put in

T = TypeVar("T")


class Indexer:
    def __init__(self, store: Store, *, is_enabled: bool) -> None:
        self._store = store
        self._is_enabled = is_enabled
        self._steps = 0
        self._seen = -1  # writes of others when the index had all that was new
        self._base = 0  # the same, and what has been put in since then
        self._due_s = 0.0  # of the loop's clock: when to look for newer messages
        self._gathers_until_s = 0.0  # of the same: until then a few new ones can wait
        self._is_started = False
        self._is_behind = False  # there are older messages that are not in the index
        self._is_outdated = False  # more rows of the index are no longer right than a step takes out
        self._row_seconds = 30e-6  # that a row takes, about
        self._unmerged = MERGED_CHUNKS  # chunks since there was nothing to merge
        self._since_merge = 0  # chunks since segments were merged
        self._forgetting = asyncio.Lock()
        self._merges_begun = self._merges_done = 0  # of everything; the number of the last one that is done

    async def tend(self) -> None:
        """`update`, unless only a few new messages have come, and a moment ago."""
        if not await self._can_wait():
            await self.update()
            self._gathers_until_s = asyncio.get_running_loop().time() + GATHER_SECONDS

    async def _can_wait(self) -> bool:
        if not (self._is_enabled and self._is_started) or self._is_behind or self._unmerged >= MERGED_CHUNKS:
            return False
        if self._seen == self._written:
            return True
        if asyncio.get_running_loop().time() >= self._gathers_until_s:
            return False
        return not await search_tail.has_work(self._store.readers, FEW_MESSAGES)

    async def update(self) -> None:
        """Takes out what has gone, puts in what has come, and catches up with older messages. On return the index has
        all that was written before the call."""
        if not self._store.can_search:
            return
        if not self._is_enabled:
            await self._clear()
            return
        if not self._is_started:
            self._is_behind = await self._step(search_index.skip_long_tail)
            self._is_started = True
        self._due_s = 0.0
        while (seconds := await self._go_on()) is not None:
            if self._store.writer.is_loaded:
                await asyncio.sleep(min(seconds * self._find_rest(), MOST_REST_SECONDS))

    async def forget_removed(self) -> None:
        """On return no word of a message that was removed before the call is left in the index's own tables. That
        merges all of the index into one, which takes as long as the index is large: callers who come together share
        it. An SQLite without FTS5 empties it."""
        if not self._store.can_search:
            while await self._step(search_index.empty_unreadable):
                pass
            return
        before = self._merges_begun
        async with self._forgetting:
            if self._merges_done > before:  # another has begun, and ended, since this was called
                return
            self._merges_begun += 1
            while await self._step(search_index.forget_removed):
                pass
            while (await self._step(partial(search_index.merge_segments, MERGED_PAGES))).has_more:
                pass
            self._merges_done = self._merges_begun

    async def _go_on(self) -> float | None:
        """Takes the next step, and says how long it took; None when there is nothing to do."""
        if self._unmerged >= MERGED_CHUNKS and self._since_merge >= CHUNKS_PER_MERGE:
            return await self._merge()
        if self._seen != self._written and asyncio.get_running_loop().time() >= self._due_s:
            return await self._add()
        if self._is_behind:
            return await self._fill()
        if self._unmerged >= MERGED_CHUNKS:
            return await self._merge()
        return None

    async def _add(self) -> float:
        seen = self._written
        step = await self._step(partial(search_index.add_newest, self._count_rows()))
        self._note(step)
        self._base += step.rows
        self._is_outdated = step.has_more and not step.rows
        if not step.has_more:
            self._seen = self._base = seen
            self._due_s = asyncio.get_running_loop().time() + PAUSE_SECONDS
        return step.seconds

    async def _fill(self) -> float:
        step = await self._step(partial(search_index.fill_gap, self._count_rows()))
        self._note(step)
        self._is_behind = step.has_more
        return step.seconds

    def _count_rows(self) -> int:
        """Of the next chunk."""
        seconds = CHUNK_SECONDS if self._store.writer.is_busy else IDLE_CHUNK_SECONDS
        return max(LEAST_ROWS, min(int(seconds / self._row_seconds), MOST_ROWS))

    def _note(self, step: IndexStep) -> None:
        if step.rows >= LEAST_ROWS:
            self._row_seconds += (max(step.seconds / step.rows, 1e-6) - self._row_seconds) / 4
        self._unmerged += 1
        self._since_merge += 1

    async def _merge(self) -> float:
        pages = MERGED_PAGES if self._store.writer.is_busy else IDLE_MERGED_PAGES
        step = await self._step(partial(search_index.merge_segments, pages))
        self._since_merge = 0
        if not step.has_more:
            self._unmerged = 0
        return step.seconds

    async def _clear(self) -> None:
        while self._seen != self._written:
            seen = self._written
            if not await self._step(search_index.clear_outdated):
                self._seen = seen

    def _find_rest(self) -> float:
        """For how many times as long as a step took the writer is left to others."""
        if self._is_outdated:
            return LEAST_REST
        tail = self._written - self._base
        return REST - (REST - LEAST_REST) * max(0.0, min(2 * tail / LONG_TAIL - 1, 1.0))

    @property
    def _written(self) -> int:
        """Writes of others."""
        return self._store.writer.commit_writes.sum - self._steps

    async def _step(self, work: Work[T]) -> T:
        result = await self._store.writer.step(work, is_repeatable=True)
        self._steps += 1
        return result
