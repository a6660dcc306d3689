"""Users and members whose id or name begins so, by name, then id, without case and diacritics.

An index has either the names in order or the ids. So a search first walks some users by name, which fills a page where
many match. Where few do, it sorts those that two indexes give. If even those are many, the page ends early, with the
key after which the next one goes on: a page looks at a bounded number of users, however many the tenant has.
"""

import sqlite3
from collections.abc import Callable, Mapping
from typing import NamedTuple

from chatapi.folding import LAST, end_prefix, fold
from chatapi.models import RoomKey, TenantKey
from chatapi.protocol.pages import SortKey, Value, Window
from chatapi.store.readers import Readers

WALKED = 2_000  # users looked at in the order of names: 1 to 2 ms of a reader's time
SORTED_IDS = 10_000  # users whose id begins so that are sorted by name: about 5 ms
SMALL_ROOM = 3_000  # members: all those of a room with fewer are looked at, in about 5 ms

PREFIX_START: Mapping[str, Value] = {"sort_name": "", "folded_id": "", "user_id": ""}
"""The sort key of these lists."""

_NAMED_FROM = ("name_from", "id_from", "user_from")
_KEY = "sort_name, folded_id, user_id"
_AFTER = f"({_KEY}) > (:sort_name, :folded_id, :user_id)"
_NAME_MATCHES = "(sort_name >= :low AND sort_name < :high)"
_ID_MATCHES = "(folded_id >= :low AND folded_id < :high)"
_IS_MEMBER = """
    sort_name < char(1114111) AND EXISTS (SELECT 1 FROM members AS m
        WHERE m.room_key = :room_key AND m.user_id = f.user_id AND m.tenant_key = :tenant_key)
"""
_BY_NAME = f"SELECT {_KEY} FROM users INDEXED BY users_names WHERE tenant_key = :tenant_key AND {_AFTER}"
# From the first one after the page before that is named so: SQLite takes only one lower bound for its search.
_NAMED_SO = f"""
    SELECT {_KEY} FROM users INDEXED BY users_names
    WHERE tenant_key = :tenant_key AND ({_KEY}) > (:name_from, :id_from, :user_from) AND sort_name < :high
    ORDER BY {_KEY}
"""
_WALK_USERS = f"""
    SELECT {_KEY} FROM ({_BY_NAME} ORDER BY {_KEY} LIMIT :walked) AS f
    WHERE ({_NAME_MATCHES} OR {_ID_MATCHES}) LIMIT :count
"""
_WALK_MEMBERS = f"""
    SELECT {_KEY} FROM ({_BY_NAME} ORDER BY {_KEY} LIMIT :walked) AS f
    WHERE ({_NAME_MATCHES} OR {_ID_MATCHES}) AND {_IS_MEMBER} LIMIT :count
"""
_MATCHING = f"""
    SELECT {_KEY} FROM ({_NAMED_SO} LIMIT :walked)
    UNION ALL
    SELECT {_KEY} FROM users INDEXED BY users_ids
    WHERE tenant_key = :tenant_key AND {_ID_MATCHES} AND NOT {_NAME_MATCHES} AND {_AFTER}
"""
_SORT_USERS = f"SELECT {_KEY} FROM ({_MATCHING}) AS f ORDER BY {_KEY} LIMIT :count"
_SORT_MEMBERS = f"SELECT {_KEY} FROM ({_MATCHING}) AS f WHERE {_IS_MEMBER} ORDER BY {_KEY} LIMIT :count"
_COUNT_IDS = f"""
    SELECT count(*) FROM (
        SELECT 1 FROM users INDEXED BY users_ids WHERE tenant_key = :tenant_key AND {_ID_MATCHES} LIMIT :most + 1)
"""
# Where a walk of :walked users ended; none if there were fewer.
_END_OF_WALK = f"{_BY_NAME} ORDER BY {_KEY} LIMIT 1 OFFSET :walked - 1"
_END_OF_NAMED = f"{_NAMED_SO} LIMIT 1 OFFSET :walked - 1"
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
    parameters = {**scope, "tenant_key": tenant_key, "low": prefix, "high": end_prefix(prefix), "most": SORTED_IDS}
    return await readers.look(tenant_key, lambda connection: find(_Search(connection, parameters, window)))


class _Search:
    """One search, in a reader's thread. Each statement finds one more than the page has, unless there are no more."""

    def __init__(self, connection: sqlite3.Connection, scope: Mapping[str, Value], window: Window) -> None:
        self._connection = connection
        self._scope = scope
        self._start: SortKey = window.after or tuple(PREFIX_START.values())
        self._window = window
        self._count = window.offset + window.limit + 1

    def find_users(self) -> FoundUsers:
        found = self._run(_WALK_USERS)
        if len(found) == self._count:
            return self._cut(found, None)
        if self._has_many_ids():
            return self._cut(found, self._find_end(_END_OF_WALK))
        return self._cut(self._run(_SORT_USERS), None)

    def scan_room(self) -> FoundUsers:
        return self._cut(self._run(_SCAN_ROOM), None)

    def find_members(self) -> FoundUsers:
        """Those with a name first: the others may have no row among the users."""
        found, end = ([], None) if self._start[0] == LAST else self._find_named_members()
        if len(found) == self._count or end is not None:
            return self._cut(found, end)
        if self._start[0] != LAST:
            self._start = (LAST, "", "")
        found += self._run(_WALK_NAMELESS)[: self._count - len(found)]
        return self._cut(found, None if len(found) == self._count else self._find_end(_END_OF_NAMELESS))

    def _find_named_members(self) -> tuple[list[SortKey], SortKey | None]:
        """The members found, and where the search ended if it did not come to the end."""
        found = self._run(_WALK_MEMBERS)
        if len(found) == self._count:
            return found, None
        if self._has_many_ids():
            end = self._find_end(_END_OF_WALK)
            return found, None if end is None or end[0] == LAST else end
        found = self._run(_SORT_MEMBERS)
        end = None if len(found) == self._count else self._find_end(_END_OF_NAMED)
        return found if end is None else [key for key in found if key <= end], end

    def _run(self, sql: str) -> list[SortKey]:
        start = dict(zip(PREFIX_START, self._start, strict=True))
        named_from = dict(zip(_NAMED_FROM, max(self._start, (self._scope["low"], "", "")), strict=True))
        bounds = {"count": self._count, "walked": max(WALKED, self._count)}
        return self._connection.execute(sql, {**self._scope, **start, **named_from, **bounds}).fetchall()

    def _has_many_ids(self) -> bool:
        [(count,)] = self._run(_COUNT_IDS)
        return int(count) > SORTED_IDS

    def _find_end(self, sql: str) -> SortKey | None:
        rows = self._run(sql)
        return rows[0] if rows else None

    def _cut(self, found: list[SortKey], end: SortKey | None) -> FoundUsers:
        """The page. `end`: where a search that found too few ended early."""
        keys = found[self._window.offset : self._count - 1]
        return FoundUsers(keys, keys[-1] if len(found) == self._count else end)


_Find = Callable[[_Search], FoundUsers]
