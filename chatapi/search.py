"""Search within the limits of the caller's rights."""

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
from chatapi.store import Store, search, search_tail
from chatapi.store.search_few import SearchWant
from chatapi.words import MAX_TERMS, parse_terms

MAX_SECONDS = 2.0  # of one search

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
        want = SearchWant(
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

    async def _run(self, want: SearchWant) -> FoundPage:
        work = search.SearchRun(want)
        deadline_s = time.perf_counter() + MAX_SECONDS
        while not await self._store.readers.run_step(want.tenant_key, partial(work.take_step, deadline_s)):
            if time.perf_counter() > deadline_s:
                raise unavailable("The search took too long")
        return FoundPage(work.found, work.has_more)

    async def count_lag(self) -> int:
        """How many messages and edits are not in the index yet, counted to 10,000; 0 where search is off."""
        return await search_tail.count_lag(self._store.readers) if self.is_enabled else 0


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
