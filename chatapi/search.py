"""Search within the limits of the caller's rights, and the regular job that keeps the index up with the messages."""

import datetime
import re
import time
from functools import partial
from typing import NamedTuple

from chatapi.access import Access
from chatapi.errors import ChatError, Code, invalid, not_found, unavailable
from chatapi.models import Principal, RoomKey
from chatapi.protocol.json import MAX_KEY
from chatapi.protocol.pages import Window
from chatapi.protocol.search_records import SearchQuery
from chatapi.store import Store, search, search_index
from chatapi.store.background import Work
from chatapi.words import MAX_TERMS, parse_terms

MAX_SECONDS = 2.0  # of one search
UPDATE_STEPS = 20  # before segments are merged
MERGE_STEPS = 20  # before there is a look for newer messages

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d):([0-5]\d|60)(?:\.(\d+))?(?:[Zz]|([+\- ])(\d\d):([0-5]\d))", re.ASCII
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_US = datetime.timedelta(microseconds=1)


class FoundPage(NamedTuple):
    found: list[search.Found]
    has_more: bool


NOTHING = FoundPage([], False)


class Search:
    def __init__(self, store: Store, access: Access, *, is_enabled: bool) -> None:
        self._store = store
        self._access = access
        self.is_enabled = is_enabled and store.can_search
        self._own_commits = 0
        self._seen = -1  # commits of others when the index had all that was new
        self._is_behind = True  # there may be older messages that are not in the index
        self._is_merging = False  # there may be segments to merge

    async def find(self, principal: Principal, query: SearchQuery, window: Window) -> FoundPage:
        """The messages that have all terms, in rooms that the user is a member of, or in the one room, if they may read
        it. Raises ChatError: NOT_FOUND where search is off, 400, 503 for a search that takes too long."""
        if not self.is_enabled or not principal.tenant.settings.search:
            raise not_found("Search")
        terms = parse_terms(query.q)
        if not terms:
            raise invalid("Must have a word to look for", "q")
        if len(terms) > MAX_TERMS:
            raise invalid(f"Must have at most {MAX_TERMS} words and phrases", "q")
        want = search.SearchWant(
            tenant_key=principal.tenant.tenant_key,
            user_id=principal.user_id,
            terms=terms,
            room_key=None,
            sender_id=query.sender_id,
            after_us=-MAX_KEY if query.after is None else _parse_time(query.after, "after")[0],
            before_us=MAX_KEY if query.before is None else _parse_time(query.before, "before")[1],
            before_key=MAX_KEY if window.after is None else int(window.after[0]),
            offset=window.offset,
            limit=window.limit,
        )
        if query.room_id is not None:
            room_key = await self._find_room(principal, query.room_id)
            if room_key is None:
                return NOTHING
            want = want._replace(room_key=room_key)
        return await self._run(want)

    async def _find_room(self, principal: Principal, room_id: str) -> RoomKey | None:
        """None for a room that the user may not read, known or not: the answer must not say which."""
        try:
            return (await self._access.access_reader(principal, room_id)).room_key
        except ChatError as error:
            if error.code in (Code.NOT_FOUND, Code.AUTHORIZATION_ERROR):
                return None
            raise

    async def _run(self, want: search.SearchWant) -> FoundPage:
        work = search.SearchRun(want)
        deadline_s = time.perf_counter() + MAX_SECONDS
        while not await self._store.readers.run_step(want.tenant_key, partial(work.take_step, deadline_s)):
            if time.perf_counter() > deadline_s:
                raise unavailable("The search took too long")
        return FoundPage(work.found, work.has_more)

    async def count_lag(self) -> int:
        """How many messages and edits are not found yet, counted to 10,000; 0 where search is off."""
        return await search.count_lag(self._store.readers) if self.is_enabled else 0

    async def update_index(self) -> None:
        """Puts in what has come and takes out what has gone, then catches up with older messages."""
        if not self._store.can_search:
            return
        writer = self._store.writer
        while await self._keep_up():
            if self._is_behind and self.is_enabled:
                rows = search_index.CHUNK_ROWS if writer.is_busy else search_index.LARGE_CHUNK_ROWS
                self._is_behind = await self._step(partial(search_index.fill_gap, rows))
                self._is_merging = True
            elif self._is_merging:
                self._is_merging = await self._step(search_index.merge_segments)
            else:
                return
            if writer.is_loaded:
                return  # the next round is soon

    async def _keep_up(self) -> bool:
        """Whether the index has all that is new."""
        work = search_index.update_index if self.is_enabled else search_index.clear_outdated
        if self._seen == self._others:
            return True
        for _ in range(UPDATE_STEPS):
            seen = self._others
            if not await self._step(work):
                self._seen = seen
                await self._merge()
                return True
        await self._merge()
        return False

    async def _merge(self) -> None:
        for _ in range(MERGE_STEPS):
            self._is_merging = await self._step(search_index.merge_segments)
            if not self._is_merging:
                return

    @property
    def _others(self) -> int:
        """Commits of others."""
        return self._store.writer.commit_seconds.count - self._own_commits

    async def _step(self, work: Work[bool]) -> bool:
        result = await self._store.writer.step(work, is_repeatable=True)
        self._own_commits += 1
        return result


def _parse_time(text: str, field: str) -> tuple[int, int]:
    """The microseconds that a time of RFC 3339 lies between: the same twice, unless it has more digits. A space stands
    for a `+` that was not escaped."""
    found = _TIME.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        day, minute, second, fraction, sign, hours, minutes = found.groups()
        # A leap second is the first one of the next minute here.
        time_ = datetime.datetime.fromisoformat(f"{day}T{minute}:00+00:00") + datetime.timedelta(seconds=int(second))
        if sign is not None:
            away = datetime.timedelta(hours=int(hours), minutes=int(minutes))
            time_ += away if sign == "-" else -away
    except (ValueError, OverflowError):
        raise invalid("Must be a time as RFC 3339 has it, such as 2025-12-13T12:00:00Z", field) from None
    digits = (fraction or "").ljust(6, "0")
    low = (time_ - _EPOCH) // _US + int(digits[:6])
    return low, low + (int(digits[6:] or "0") > 0)
