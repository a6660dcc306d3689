"""Users and members whose id or name begins so, by name, then id, without case and diacritics.

The users whose names match stand together in that order: before and after them come others whose ids match. If those
are few, an index of ids gives them, to be sorted. Else a search walks the users whose ids have the same first
character, which an index has in the order of their names. If that finds too few, the page ends early, with the key
after which the next one goes on: a page looks at a bounded number of users, however many the tenant has.
"""

import sqlite3
from collections.abc import Callable, Mapping
from typing import NamedTuple

from chatapi.folding import LAST, end_prefix, fold
from chatapi.models import RoomKey, TenantKey
from chatapi.protocol.pages import SortKey, Value, Window
from chatapi.store.readers import Readers

WALKED = 2_000  # users looked at in the order of names: 1 to 3 ms of a reader's time
SORTED_IDS = 2_000  # users whose id begins so that are sorted by name: about 1 ms
SMALL_ROOM = 2_000  # members: all those of a room with fewer are looked at, in about 3 ms

PREFIX_START: Mapping[str, Value] = {"sort_name": "", "folded_id": "", "user_id": ""}
"""The sort key of these lists."""

_END = LAST + LAST  # after all names, and after those who have none
_KEY = "sort_name, folded_id, user_id"
_AFTER = f"({_KEY}) > (:sort_name, :folded_id, :user_id)"
_RANGE = f"tenant_key = :tenant_key AND {_AFTER} AND sort_name < :before"
_NAME_MATCHES = "(sort_name >= :low AND sort_name < :high)"
_ID_MATCHES = "(folded_id >= :low AND folded_id < :high)"
_IS_MEMBER = """EXISTS (SELECT 1 FROM members AS m
    WHERE m.room_key = :room_key AND m.user_id = f.user_id AND m.tenant_key = :tenant_key)
"""
_NAMES = f"SELECT {_KEY} FROM users INDEXED BY users_names WHERE {_RANGE} ORDER BY {_KEY} LIMIT :walked"
_INITIALS = f"""
    SELECT {_KEY} FROM users INDEXED BY users_initials
    WHERE {_RANGE} AND substr(folded_id, 1, 1) = :initial ORDER BY {_KEY} LIMIT :walked
"""
_IDS = f"SELECT {_KEY} FROM users INDEXED BY users_ids WHERE {_RANGE} AND {_ID_MATCHES}"
_COUNT_IDS = f"""
    SELECT count(*) FROM (
        SELECT 1 FROM users INDEXED BY users_ids WHERE tenant_key = :tenant_key AND {_ID_MATCHES} LIMIT :most + 1)
"""


class _NameRange(NamedTuple):
    """Statements that find users, or members, within a range of names. `seen` and `last` tell how many a walk has
    looked at, and the last of them."""

    users: str
    members: str
    seen: str | None = None
    last: str | None = None


_OF_NAMES = _NameRange(
    users=f"SELECT {_KEY} FROM ({_NAMES}) AS f LIMIT :count",
    members=f"SELECT {_KEY} FROM ({_NAMES}) AS f WHERE {_IS_MEMBER} LIMIT :count",
    seen=f"SELECT count(*) FROM ({_NAMES})",
    last=f"SELECT {_KEY} FROM ({_NAMES}) LIMIT 1 OFFSET :walked - 1",
)
_OF_INITIALS = _NameRange(
    users=f"SELECT {_KEY} FROM ({_INITIALS}) AS f WHERE {_ID_MATCHES} LIMIT :count",
    members=f"SELECT {_KEY} FROM ({_INITIALS}) AS f WHERE {_ID_MATCHES} AND {_IS_MEMBER} LIMIT :count",
    seen=f"SELECT count(*) FROM ({_INITIALS})",
    last=f"SELECT {_KEY} FROM ({_INITIALS}) LIMIT 1 OFFSET :walked - 1",
)
_OF_IDS = _NameRange(
    users=f"{_IDS} ORDER BY {_KEY} LIMIT :count",
    members=f"SELECT {_KEY} FROM ({_IDS}) AS f WHERE {_IS_MEMBER} ORDER BY {_KEY} LIMIT :count",
)
_SCAN_ROOM = f"""
    SELECT {_KEY} FROM (
        SELECT coalesce(u.sort_name, char(1114111)) AS sort_name, m.folded_id AS folded_id, m.user_id AS user_id
        FROM members AS m LEFT JOIN users AS u ON u.tenant_key = :tenant_key AND u.user_id = m.user_id
        WHERE m.room_key = :room_key AND m.tenant_key = :tenant_key)
    WHERE ({_NAME_MATCHES} OR {_ID_MATCHES}) AND {_AFTER} ORDER BY {_KEY} LIMIT :count
"""
_NAMELESS_IDS = f"""
    SELECT folded_id, user_id FROM members INDEXED BY members_ids
    WHERE room_key = :room_key AND +tenant_key = :tenant_key AND {_ID_MATCHES}
      AND (folded_id, user_id) > (:folded_id, :user_id) ORDER BY folded_id, user_id
"""
_WALK_NAMELESS = f"""
    SELECT char(1114111), f.folded_id, f.user_id FROM ({_NAMELESS_IDS} LIMIT :walked) AS f
    LEFT JOIN users AS u ON u.tenant_key = :tenant_key AND u.user_id = f.user_id
    WHERE coalesce(u.sort_name, char(1114111)) = char(1114111) LIMIT :count
"""
_END_OF_NAMELESS = f"SELECT char(1114111), folded_id, user_id FROM ({_NAMELESS_IDS} LIMIT 1 OFFSET :walked - 1)"


class FoundUsers(NamedTuple):
    """The sort keys of a page, whose last value is the user id; and the key after which there may be more."""

    keys: list[SortKey]
    resume: SortKey | None


async def find_users(readers: Readers, tenant_key: TenantKey, q: str, window: Window) -> FoundUsers:
    """The tenant's users whose id or name begins so."""
    return await _find(readers, tenant_key, q, window, {}, _Search.find_users)


async def find_members(
    readers: Readers, tenant_key: TenantKey, room_key: RoomKey, member_count: int, q: str, window: Window
) -> FoundUsers:
    """The room's members whose id or name begins so."""
    find = _Search.scan_room if member_count < SMALL_ROOM else _Search.find_members
    return await _find(readers, tenant_key, q, window, {"room_key": room_key}, find)


async def _find(
    readers: Readers, tenant_key: TenantKey, q: str, window: Window, scope: Mapping[str, Value], find: "_Find"
) -> FoundUsers:
    prefix = fold(q)
    if not prefix:
        return FoundUsers([], None)  # marks alone: every name begins with nothing
    parameters = {**scope, "tenant_key": tenant_key, "low": prefix, "high": end_prefix(prefix)}
    return await readers.look(tenant_key, lambda connection: find(_Search(connection, parameters, window)))


class _Search:
    """One search, in a reader's thread. Each statement finds one more than the page has, unless there are no more."""

    def __init__(self, connection: sqlite3.Connection, scope: Mapping[str, Value], window: Window) -> None:
        self._connection = connection
        self._scope = {**scope, "initial": str(scope["low"])[0], "most": SORTED_IDS}
        self._start: SortKey = window.after or tuple(PREFIX_START.values())
        self._window = window
        self._count = window.offset + window.limit + 1
        self._walked = max(WALKED, self._count)
        self._found: list[SortKey] = []
        self._end: SortKey | None = None  # where a search that found too few ended early

    def find_users(self) -> FoundUsers:
        self._walk("users", _END)
        return self._cut()

    def scan_room(self) -> FoundUsers:
        self._found = self._run(_SCAN_ROOM, self._start)
        return self._cut()

    def find_members(self) -> FoundUsers:
        """Those with a name first: the others may have no row among the users."""
        self._walk("members", LAST)
        if not self._is_over():
            start = max(self._start, (LAST, "", ""))
            self._found += self._run(_WALK_NAMELESS, start)
            if not self._is_over():
                self._end = next(iter(self._run(_END_OF_NAMELESS, start)), None)
        return self._cut()

    def _walk(self, kind: str, end: str) -> None:
        """Those named before the names that match, then these, then those after them, before `end`."""
        low, high = str(self._scope["low"]), str(self._scope["high"])
        others = _OF_IDS if self._count_rows(_COUNT_IDS, self._start) <= SORTED_IDS else _OF_INITIALS
        for source, first, before in ((others, "", low), (_OF_NAMES, low, high), (others, high, end)):
            start = max(self._start, (first, "", ""))
            if self._is_over() or str(start[0]) >= before:
                continue
            sql = source.users if kind == "users" else source.members
            self._found += self._run(sql, start, before)
            if source.seen is not None and source.last is not None and not self._is_over():
                seen = self._count_rows(source.seen, start, before)
                if seen == self._walked:
                    [self._end] = self._run(source.last, start, before)
                self._walked -= seen

    def _is_over(self) -> bool:
        return self._end is not None or len(self._found) == self._count

    def _count_rows(self, sql: str, start: SortKey, before: str = _END) -> int:
        [(count,)] = self._run(sql, start, before)
        return int(count)

    def _run(self, sql: str, start: SortKey, before: str = _END) -> list[SortKey]:
        bounds = {"count": self._count - len(self._found), "walked": self._walked, "before": before}
        after = dict(zip(PREFIX_START, start, strict=True))
        return self._connection.execute(sql, {**self._scope, **after, **bounds}).fetchall()

    def _cut(self) -> FoundUsers:
        """The page."""
        keys = self._found[self._window.offset : self._count - 1]
        return FoundUsers(keys, keys[-1] if len(self._found) == self._count else self._end)


_Find = Callable[[_Search], FoundUsers]
