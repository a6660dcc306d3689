"""Users in SQL: their profiles, and when they were last online."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from chatapi.folding import LAST, fold
from chatapi.models import RoomKey, TenantKey, UserId, encode_time
from chatapi.protocol.answers import User
from chatapi.protocol.json import dumps_text, encoded
from chatapi.store.readers import Readers, Rows
from chatapi.store.transaction import Transaction

Row = tuple[Any, ...]

ROOMS_PER_STEP = 500  # of one user: about 1 ms of a reader's time
PAIRS_PER_STEP = 2_000  # of a room and a user who may be in it: about 2 ms


def _encode_time(column: str) -> str:
    return f"strftime('%Y-%m-%dT%H:%M:%S', {column} / 1000000, 'unixepoch') || printf('.%06dZ', {column} % 1000000)"


# A user without a profile is known since they were last online, and changed then.
_KNOWN_SINCE = "coalesce(u.created_at_us, u.last_seen_at_us)"
_CHANGED = "coalesce(u.updated_at_us, u.last_seen_at_us)"
_FIND_USER = """
    SELECT user_id, name, avatar_url, metadata, last_seen_at_us, created_at_us, updated_at_us
    FROM users WHERE tenant_key = :tenant_key AND user_id = :user_id
"""
# `wanted` holds [user_id, whether last_seen_at is shown] each; a user of whom only that is known is left out otherwise.
_READ_USERS = f"""
    SELECT w.key, CAST(json_object('user_id', u.user_id, 'name', u.name, 'avatar_url', u.avatar_url,
        'metadata', json(u.metadata), 'last_seen_at', iif(w.value ->> 1, {_encode_time("u.last_seen_at_us")}, NULL),
        'created_at', {_encode_time(_KNOWN_SINCE)}, 'updated_at', {_encode_time(_CHANGED)}) AS BLOB)
    FROM json_each(:wanted) AS w CROSS JOIN users AS u
    WHERE u.tenant_key = :tenant_key AND u.user_id = w.value ->> 0 AND (w.value ->> 1 OR u.created_at_us IS NOT NULL)
"""
_PUT_USER = """
    INSERT INTO users (tenant_key, user_id, folded_id, name, avatar_url, metadata, sort_name, created_at_us,
                       updated_at_us)
    VALUES (:tenant_key, :user_id, lower(:user_id), :name, :avatar_url, :metadata, :sort_name, :now_us, :now_us)
    ON CONFLICT (tenant_key, user_id) DO UPDATE SET name = :name, avatar_url = :avatar_url, metadata = :metadata,
        sort_name = :sort_name, created_at_us = coalesce(created_at_us, :now_us), updated_at_us = :now_us
"""
# Rows of [tenant_key, user_id, last_seen_at_us]. A tenant may have been deleted meanwhile.
_NOTE_SEEN = """
    INSERT INTO users (tenant_key, user_id, folded_id, last_seen_at_us)
    SELECT t.tenant_key, w.value ->> 1, lower(w.value ->> 1), w.value ->> 2
    FROM json_each(:seen) AS w CROSS JOIN tenants AS t
    WHERE t.tenant_key = w.value ->> 0 AND t.deleted_at_us IS NULL
    ON CONFLICT (tenant_key, user_id) DO UPDATE
        SET last_seen_at_us = max(coalesce(last_seen_at_us, 0), excluded.last_seen_at_us)
"""
# The next rooms of a user after a room_key, and the id of each that has up to :most members.
_WALK_ROOMS = """
    SELECT m.room_key, iif(r.member_count <= :most AND r.deleted_at_us IS NULL, r.room_id, NULL)
    FROM members AS m CROSS JOIN rooms AS r
    WHERE m.tenant_key = :tenant_key AND m.user_id = :user_id AND m.room_key > :after_key AND r.room_key = m.room_key
    ORDER BY m.room_key LIMIT :limit
"""
# Which of these users are in one of these rooms.
_FIND_MEMBERS = """
    SELECT w.value FROM json_each(:user_ids) AS w
    WHERE EXISTS (SELECT 1 FROM json_each(:room_keys) AS k CROSS JOIN members AS m
        WHERE m.room_key = k.value AND m.user_id = w.value AND m.tenant_key = :tenant_key)
"""


class StoredUser(NamedTuple):
    """A row of a user; `created_at_us` is None without a profile."""

    user_id: UserId
    name: str | None
    avatar_url: str | None
    metadata: str | None  # as JSON
    last_seen_at_us: int | None
    created_at_us: int | None
    updated_at_us: int | None

    def record(self, *, shows_last_seen: bool) -> User:
        """The user as clients see them."""
        known_since_us = self.created_at_us or self.last_seen_at_us or 0
        return User(
            user_id=self.user_id,
            name=self.name,
            avatar_url=self.avatar_url,
            metadata=encoded(self.metadata),
            last_seen_at=encode_time(self.last_seen_at_us) if shows_last_seen and self.last_seen_at_us else None,
            created_at=encode_time(known_since_us),
            updated_at=encode_time(self.updated_at_us or known_since_us),
        )


async def find_user(source: Transaction | Readers, tenant_key: TenantKey, user_id: str) -> StoredUser | None:
    """None for a user who has no profile and was never online."""
    row = await source.fetch_one(_FIND_USER, {"tenant_key": tenant_key, "user_id": user_id})
    return None if row is None else StoredUser(*row)


async def read_users(readers: Readers, tenant_key: TenantKey, wanted: Sequence[tuple[str, bool]]) -> Rows:
    """Rows of (index in `wanted`, the user as JSON), as far as they fit in a page. `wanted` says of each user whether
    `last_seen_at` is shown."""
    scope = {"tenant_key": tenant_key, "wanted": dumps_text(wanted)}
    return await readers.fetch_page(_READ_USERS, scope, len(wanted))


async def put_user(transaction: Transaction, tenant_key: TenantKey, user: StoredUser) -> StoredUser:
    """Stores the profile; returns it with its times."""
    fields = {"name": user.name, "avatar_url": user.avatar_url, "metadata": user.metadata}
    scope = {"tenant_key": tenant_key, "user_id": user.user_id, "now_us": transaction.now_us}
    await transaction.execute(_PUT_USER, {**scope, **fields, "sort_name": make_sort_name(user.name)})
    return user._replace(created_at_us=user.created_at_us or transaction.now_us, updated_at_us=transaction.now_us)


def make_sort_name(name: str | None) -> str:
    """By which users are searched and ordered; those without a name come last."""
    return LAST if name is None else fold(name) or LAST


async def note_seen(transaction: Transaction, seen: Mapping[tuple[TenantKey, UserId], int]) -> None:
    """When each user was last online, in microseconds."""
    rows = [(tenant_key, user_id, seen_us) for (tenant_key, user_id), seen_us in seen.items()]
    await transaction.execute(_NOTE_SEEN, {"seen": dumps_text(rows)})


async def find_sharers(
    readers: Readers, tenant_key: TenantKey, user_id: UserId, others: Collection[str], most: int
) -> set[str]:
    """Those of the others who share a room of up to `most` members with the user; in steps, so that other requests have
    their turn in between."""
    found: set[str] = set()
    async for rooms in _walk_small_rooms(readers, tenant_key, user_id, most):
        left = [other for other in others if other not in found]
        at_once = max(1, PAIRS_PER_STEP // max(1, len(rooms)))
        room_keys = dumps_text([room_key for room_key, _ in rooms])
        for start in range(0, len(left) if rooms else 0, at_once):
            user_ids = dumps_text(left[start : start + at_once])
            scope = {"tenant_key": tenant_key, "user_ids": user_ids, "room_keys": room_keys}
            found.update(row[0] for row in await readers.fetch(_FIND_MEMBERS, scope))
        if len(found) == len(others):
            break
    return found


async def list_small_rooms(readers: Readers, tenant_key: TenantKey, user_id: UserId, most: int) -> list[str]:
    """The ids of the user's rooms that have up to `most` members; in steps, too."""
    return [room_id async for rooms in _walk_small_rooms(readers, tenant_key, user_id, most) for _, room_id in rooms]


async def _walk_small_rooms(
    readers: Readers, tenant_key: TenantKey, user_id: UserId, most: int
) -> AsyncIterator[list[tuple[RoomKey, str]]]:
    scope = {"tenant_key": tenant_key, "user_id": user_id, "most": most, "limit": ROOMS_PER_STEP}
    after_key, has_more = 0, True
    while has_more:
        rows = await readers.fetch(_WALK_ROOMS, {**scope, "after_key": after_key})
        yield [(RoomKey(room_key), room_id) for room_key, room_id in rows if room_id is not None]
        has_more = len(rows) == ROOMS_PER_STEP
        after_key = rows[-1][0] if rows else 0
