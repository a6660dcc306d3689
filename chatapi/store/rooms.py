"""Rooms and members in SQL."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from chatapi.models import MemberState, NotifyLevel, Role, RoomKey, TenantKey, UserId
from chatapi.protocol.json import MAX_KEY, dumps_text, loads_stored
from chatapi.protocol.pages import Page, Value, Window
from chatapi.store.keys import KEY_EPOCH_US
from chatapi.store.log import MESSAGE_JSON, message_object
from chatapi.store.readers import Readers, Rows
from chatapi.store.transaction import Transaction

Row = tuple[Any, ...]

_NOTIFIES = {str(notify): notify for notify in NotifyLevel}

# The newest seq: of the messages, of the other events, or of what retention has removed.
LAST_SEQ = """
    max(r.pruned_seq,
        coalesce((SELECT max(seq) FROM messages WHERE room_key = r.room_key), 0),
        coalesce((SELECT max(seq) FROM changes WHERE room_key = r.room_key), 0))
"""
# Of a member `m` of the room `r`: whether they have hidden it, and nobody else has posted since.
IS_HIDDEN = """
    (m.hidden_seq IS NOT NULL AND m.hidden_seq >= iif(r.poster IS m.user_id, r.other_posted_seq, r.posted_seq))
"""
_ROOM_JSON_FIELDS = f"""
    'room_id', r.room_id, 'type', r.type, 'unique_key', r.unique_key, 'name', r.name, 'metadata', json(r.metadata),
    'posting', r.posting, 'slow_mode_seconds', r.slow_mode_seconds,
    'last_seq', {LAST_SEQ}, 'member_count', r.member_count, 'created_by', r.created_by,
    'created_at', strftime('%Y-%m-%dT%H:%M:%S', r.created_at_us / 1000000, 'unixepoch')
        || printf('.%06dZ', r.created_at_us % 1000000),
    'updated_at', strftime('%Y-%m-%dT%H:%M:%S', r.updated_at_us / 1000000, 'unixepoch')
        || printf('.%06dZ', r.updated_at_us % 1000000)
"""
ROOM_FRAME_FIELDS = _ROOM_JSON_FIELDS.replace("'type', r.type", "'room_type', r.type")
"""As a frame has them, whose `type` is another."""

_LOAD_ROOMS = f"""
    SELECT r.room_key, r.tenant_key, r.room_id, r.type, r.unique_key, r.name, r.metadata, r.created_by,
           r.created_at_us, r.updated_at_us, r.pruned_seq, {LAST_SEQ}, r.last_mention_seq, r.posting,
           r.slow_mode_seconds,
           r.posting <> 'members' OR r.slow_mode_seconds OR EXISTS (SELECT 1 FROM mutes WHERE room_key = r.room_key)
               OR EXISTS (SELECT 1 FROM bans WHERE room_key = r.room_key)
               OR r.type = 'dm' AND EXISTS (
                   SELECT 1 FROM blocks WHERE tenant_key = r.tenant_key AND dm_key = r.unique_key),
           r.member_count
    FROM json_each(:wanted) AS w CROSS JOIN rooms AS r
    WHERE r.tenant_key = w.value ->> 0 AND r.room_id = w.value ->> 1 AND r.deleted_at_us IS NULL
"""
# Longest-standing first: that is who becomes admin when the last admin leaves.
_MEMBER = f"""
    m.room_key, m.user_id, m.role, m.joined_at_us, m.last_ack, m.last_read, m.last_mention_seq, m.notify,
    iif(m.hidden_seq IS NULL, 0, (SELECT {IS_HIDDEN} FROM rooms AS r WHERE r.room_key = m.room_key))
"""
_LOAD_MEMBERS = f"""
    SELECT {_MEMBER}
    FROM json_each(:room_keys) AS w CROSS JOIN members AS m
    WHERE m.room_key = w.value ORDER BY m.room_key, m.joined_at_us, m.user_id
"""
_LOAD_MEMBERS_AFTER = f"""
    SELECT {_MEMBER}
    FROM members AS m INDEXED BY members_standing
    WHERE m.room_key = :room_key AND (m.joined_at_us, m.user_id) > (:joined_at_us, :user_id)
    ORDER BY m.joined_at_us, m.user_id LIMIT :limit
"""
# The next rooms of each user after a room_key; those that are deleted have no id any more.
_ROOMS_OF_USERS = """
    SELECT w.key, m.room_key, iif(r.deleted_at_us IS NULL, r.room_id, NULL)
    FROM json_each(:users) AS w CROSS JOIN members AS m CROSS JOIN rooms AS r
    WHERE m.tenant_key = w.value ->> 0 AND m.user_id = w.value ->> 1 AND m.room_key IN (
            SELECT room_key FROM members
            WHERE tenant_key = w.value ->> 0 AND user_id = w.value ->> 1 AND room_key > w.value ->> 2
            ORDER BY room_key LIMIT :limit)
      AND r.room_key = m.room_key
"""
_INSERT_ROOM = """
    INSERT INTO rooms (tenant_key, room_id, type, unique_key, name, metadata, posting, slow_mode_seconds, created_by,
                       created_at_us, updated_at_us)
    VALUES (:tenant_key, :room_id, :type, :unique_key, :name, :metadata, :posting, :slow_mode_seconds, :created_by,
            :now_us, :now_us)
    RETURNING room_key
"""
_FIND_DM = """
    SELECT room_id FROM rooms WHERE tenant_key = :tenant_key AND unique_key = :unique_key AND deleted_at_us IS NULL
"""
_INSERT_MEMBERS = """
    INSERT INTO members (room_key, user_id, tenant_key, role, joined_at_us, last_ack, last_read, joined_key)
    SELECT :room_key, value ->> 0, :tenant_key, value ->> 1, :now_us, :seq, :seq, :now_key FROM json_each(:members)
"""
_UPDATE_ROOM = """
    UPDATE rooms SET name = :name, metadata = :metadata, posting = :posting, slow_mode_seconds = :slow_mode_seconds,
        updated_at_us = :now_us
    WHERE room_key = :room_key AND tenant_key = :tenant_key
"""
_MARK_DELETED = """
    UPDATE rooms SET deleted_at_us = :now_us, unique_key = NULL
    WHERE room_key = :room_key AND tenant_key = :tenant_key AND deleted_at_us IS NULL
"""
_UPDATE_ROLE = """
    UPDATE members SET role = :role
    WHERE room_key = :room_key AND user_id = :user_id AND tenant_key = :tenant_key
"""
_DELETE_MEMBER = """
    DELETE FROM members WHERE room_key = :room_key AND user_id = :user_id AND tenant_key = :tenant_key
"""
# One row per member: of several that match, UPDATE … FROM would take any one and leave out the others.
_UPDATE_CURSORS = """
    UPDATE members SET last_ack = max(last_ack, w.acked), last_read = max(last_read, w.read)
    FROM (
        SELECT value ->> 0 AS room_key, value ->> 1 AS user_id, max(value ->> 2) AS acked, max(value ->> 3) AS read
        FROM json_each(:cursors) GROUP BY 1, 2
    ) AS w
    WHERE members.room_key = w.room_key AND members.user_id = w.user_id
"""

# The next rooms of a user after a room_key, and when each was last active; null for those that are deleted. A message's
# time is taken from its key, so that its row is not read.
_RANK_ROOMS = f"""
    SELECT m.room_key, r.room_id, iif(r.deleted_at_us IS NULL, max(r.created_at_us,
        coalesce((SELECT (message_key >> 12) + {KEY_EPOCH_US} FROM messages
            WHERE room_key = r.room_key ORDER BY seq DESC LIMIT 1), 0),
        coalesce((SELECT created_at_us FROM changes WHERE room_key = r.room_key AND quiet IS NULL
            ORDER BY seq DESC LIMIT 1), 0)), NULL)
    FROM (SELECT room_key FROM members WHERE tenant_key = :tenant_key AND user_id = :user_id AND room_key > :after_key
        ORDER BY room_key LIMIT :limit) AS m CROSS JOIN rooms AS r ON r.room_key = m.room_key
"""
# Unread are others' messages that are not deleted: `deleted_at_us` tells without a look at a long content. It is an
# array of how many messages were looked at, how many of them are unread, and the seq of the last one.
_COUNT_UNREAD = """
    (SELECT json_array(count(*), coalesce(sum(is_unread), 0), coalesce(max(seq), 0)) FROM (
        SELECT seq, sender_id <> :user_id AND deleted_at_us IS NULL AS is_unread
        FROM messages WHERE room_key = {room_key} AND seq > {after_seq} ORDER BY seq LIMIT :examined))
"""
# `wanted` holds [room_key, the seq up to which it is known what is unread] each. The item lacks its `unread_count`.
_LIST_ROOMS = f"""
    SELECT w.key, r.room_key, m.last_read, r.pruned_seq, max(m.last_mention_seq, r.last_mention_seq) > m.last_read,
        {_COUNT_UNREAD.format(room_key="r.room_key", after_seq="max(m.last_read, w.value ->> 1)")},
        CAST(json_object({_ROOM_JSON_FIELDS},
            'role', m.role, 'last_ack', m.last_ack, 'last_read', m.last_read, 'notify', m.notify,
            'hidden', json(iif({IS_HIDDEN}, 'true', 'false')),
            'last_message', json((SELECT {MESSAGE_JSON} FROM messages AS m WHERE m.room_key = r.room_key
                ORDER BY m.seq DESC LIMIT 1))) AS BLOB)
    FROM json_each(:wanted) AS w CROSS JOIN members AS m CROSS JOIN rooms AS r
    WHERE m.room_key = w.value ->> 0 AND m.user_id = :user_id AND +m.tenant_key = :tenant_key
      AND r.room_key = m.room_key AND r.deleted_at_us IS NULL
"""
# `wanted` holds [room_key, after_seq] each.
_COUNT_MORE = f"""
    SELECT w.value ->> 0, {_COUNT_UNREAD.format(room_key="r.room_key", after_seq="(w.value ->> 1)")}
    FROM json_each(:wanted) AS w CROSS JOIN rooms AS r
    WHERE r.room_key = w.value ->> 0 AND r.tenant_key = :tenant_key
"""
_LIST_CHANNELS = f"""
    SELECT r.created_at_us, r.room_id, CAST(json_object({_ROOM_JSON_FIELDS}) AS BLOB) FROM rooms AS r
    WHERE r.tenant_key = :tenant_key AND r.type = 'channel' AND r.deleted_at_us IS NULL
      AND (r.created_at_us, r.room_id) < (:created_at_us, :room_id)
    ORDER BY r.created_at_us DESC, r.room_id DESC LIMIT :limit + 1 OFFSET :offset
"""
# Not by `room_key`, which is another one once the tenant has moved to another server.
CHANNELS_START: Mapping[str, Value] = {"created_at_us": MAX_KEY, "room_id": ""}
# An offset passes over entries of the index, and over no members. SQLite joins in the order of the first table; to ask
# for that order once more would have it read the whole page before its first row.
_MEMBERS_PAGE = """
    FROM (
        SELECT joined_at_us, user_id FROM members INDEXED BY members_standing
        WHERE room_key = :room_key AND (joined_at_us, user_id) > (:joined_at_us, :user_id)
        ORDER BY joined_at_us, user_id LIMIT :limit + 1 OFFSET :offset
    ) AS w CROSS JOIN members AS m
    WHERE m.room_key = :room_key AND m.user_id = w.user_id AND +m.tenant_key = :tenant_key
"""
_MEMBER_FIELDS = """
    'user_id', m.user_id, 'role', m.role,
    'joined_at', strftime('%Y-%m-%dT%H:%M:%S', m.joined_at_us / 1000000, 'unixepoch')
        || printf('.%06dZ', m.joined_at_us % 1000000)
"""
_OPTIONAL_MEMBER_FIELDS = {
    "muted_until": """
        (SELECT json_quote(strftime('%Y-%m-%dT%H:%M:%S', until_us / 1000000, 'unixepoch')
            || printf('.%06dZ', until_us % 1000000))
        FROM mutes WHERE room_key = m.room_key AND user_id = m.user_id AND until_us > :now_us)"""
}
# With the name and the avatar where the user's profile has them: the patch leaves nulls out.
_MEMBER_JSON = f"""
    CAST(json_patch({message_object(_MEMBER_FIELDS, optional=_OPTIONAL_MEMBER_FIELDS)},
        coalesce((SELECT json_object('name', u.name, 'avatar_url', u.avatar_url) FROM users AS u
            WHERE u.tenant_key = m.tenant_key AND u.user_id = m.user_id), '{{}}')) AS BLOB)
"""
_LIST_MEMBERS = f"SELECT m.joined_at_us, m.user_id, {_MEMBER_JSON} {_MEMBERS_PAGE}"
_READ_MEMBERS = f"""
    SELECT w.key, {_MEMBER_JSON} FROM json_each(:user_ids) AS w CROSS JOIN members AS m
    WHERE m.room_key = :room_key AND m.user_id = w.value AND +m.tenant_key = :tenant_key
"""
_LIST_RECEIPTS = f"""
    SELECT m.joined_at_us, m.user_id, CAST(json_object(
        'user_id', m.user_id, 'last_ack', m.last_ack, 'last_read', m.last_read) AS BLOB)
    {_MEMBERS_PAGE}
"""
MEMBERS_START: Mapping[str, Value] = {"joined_at_us": -1, "user_id": ""}


class OfUser(NamedTuple):
    """The next rooms of a user: the ids of those that are not deleted, and the key after which there may be more."""

    room_ids: list[str]
    last_key: RoomKey | None


async def load_rooms(readers: Readers, wanted: Sequence[tuple[TenantKey, str]]) -> list[Row]:
    """Rows of (room_key, tenant_key, room_id, type, unique_key, name, metadata, created_by, created_at_us,
    updated_at_us, pruned_seq, last_seq, last_mention_seq, posting, slow_mode_seconds, has_rules, member_count), for
    those of the wanted (tenant_key, room_id) that exist."""
    return await readers.fetch(_LOAD_ROOMS, {"wanted": dumps_text(wanted)})


async def load_members(readers: Readers, room_keys: Sequence[RoomKey]) -> list[Row]:
    """Rows for `read_member`, each room's longest-standing first."""
    return await readers.fetch(_LOAD_MEMBERS, {"room_keys": dumps_text(room_keys)})


async def load_members_after(readers: Readers, room_key: RoomKey, last: MemberState | None, limit: int) -> list[Row]:
    """As `load_members`: the next `limit` of one room's."""
    after = {"joined_at_us": -1, "user_id": ""}
    if last is not None:
        after = {"joined_at_us": last.joined_at_us, "user_id": last.user_id}
    return await readers.fetch(_LOAD_MEMBERS_AFTER, {**after, "room_key": room_key, "limit": limit})


async def list_room_ids(
    readers: Readers, users: Sequence[tuple[TenantKey, UserId, RoomKey]], limit: int
) -> list[OfUser]:
    """For each (tenant_key, user_id, after_key) the next rooms that the user is a member of, `limit` at most."""
    found: list[list[str]] = [[] for _ in users]
    keys: list[list[RoomKey]] = [[] for _ in users]
    for user, room_key, room_id in await readers.fetch(_ROOMS_OF_USERS, {"users": dumps_text(users), "limit": limit}):
        keys[user].append(room_key)
        if room_id is not None:
            found[user].append(room_id)
    last_keys = [max(some) if len(some) == limit else None for some in keys]
    return [OfUser(room_ids, last_key) for room_ids, last_key in zip(found, last_keys, strict=True)]


async def insert_room(
    transaction: Transaction,
    tenant_key: TenantKey,
    *,
    room_id: str,
    room_type: str,
    unique_key: str | None,
    name: str | None,
    metadata: str | None,
    created_by: str,
    posting: str = "members",
    slow_mode_seconds: int = 0,
) -> RoomKey:
    """The room alone, without members. `metadata` is JSON. Returns its internal key."""
    row = await transaction.fetch_one(
        _INSERT_ROOM,
        {
            "tenant_key": tenant_key,
            "room_id": room_id,
            "type": room_type,
            "unique_key": unique_key,
            "name": name,
            "metadata": metadata,
            "posting": posting,
            "slow_mode_seconds": slow_mode_seconds,
            "created_by": created_by,
            "now_us": transaction.now_us,
        },
    )
    assert row is not None  # RETURNING
    return RoomKey(row[0])


async def find_dm(source: Transaction | Readers, tenant_key: TenantKey, unique_key: str) -> str | None:
    """The id of the tenant's dm with this `encode_dm_key`, or None."""
    row = await source.fetch_one(_FIND_DM, {"tenant_key": tenant_key, "unique_key": unique_key})
    return None if row is None else row[0]


async def insert_members(
    transaction: Transaction,
    tenant_key: TenantKey,
    room_key: RoomKey,
    members: Iterable[tuple[UserId, Role]],
    seq: int,
    now_key: int,
) -> None:
    """`seq` is where their last_ack and last_read start, `now_key` greater than the keys of all messages up to now."""
    await transaction.execute(
        _INSERT_MEMBERS,
        {
            "tenant_key": tenant_key,
            "room_key": room_key,
            "members": dumps_text(list(members)),
            "seq": seq,
            "now_key": now_key,
            "now_us": transaction.now_us,
        },
    )


async def update_room(
    transaction: Transaction,
    tenant_key: TenantKey,
    room_key: RoomKey,
    *,
    name: str | None,
    metadata: str | None,
    posting: str,
    slow_mode_seconds: int,
) -> None:
    """`metadata` is JSON. Moves `updated_at`."""
    await transaction.execute(
        _UPDATE_ROOM,
        {
            "tenant_key": tenant_key,
            "room_key": room_key,
            "name": name,
            "metadata": metadata,
            "posting": posting,
            "slow_mode_seconds": slow_mode_seconds,
            "now_us": transaction.now_us,
        },
    )


async def mark_room_deleted(transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey) -> None:
    """Gone for everybody from this commit on; `store.purge` removes the rows afterwards."""
    await transaction.execute(
        _MARK_DELETED, {"tenant_key": tenant_key, "room_key": room_key, "now_us": transaction.now_us}
    )


async def update_role(
    transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, user_id: UserId, role: Role
) -> None:
    await transaction.execute(
        _UPDATE_ROLE, {"tenant_key": tenant_key, "room_key": room_key, "user_id": user_id, "role": role}
    )


async def delete_member(transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, user_id: UserId) -> None:
    await transaction.execute(_DELETE_MEMBER, {"tenant_key": tenant_key, "room_key": room_key, "user_id": user_id})


async def update_cursors(transaction: Transaction, cursors: Sequence[tuple[RoomKey, UserId, int, int]]) -> None:
    """Rows of (room_key, user_id, last_ack, last_read). Monotonic: a lower one changes nothing."""
    await transaction.execute(_UPDATE_CURSORS, {"cursors": dumps_text(cursors)})


class ListedRoom(NamedTuple):
    """`item` is the room as JSON without what is unread; `counted` is of the messages after the known count."""

    room_key: RoomKey
    last_read: int
    pruned_seq: int
    may_have_mentions: bool  # that are unread
    counted: "Counted"
    item: bytes


class Counted(NamedTuple):
    """Of `examined` messages, up to `seq`, `unread` are unread."""

    examined: int
    unread: int
    seq: int


class RankedRoom(NamedTuple):
    """Later ones are greater. Rooms that were active in the same microsecond stand in the order of their ids, which a
    tenant keeps when it moves to another server."""

    active_us: int
    room_id: str
    room_key: RoomKey


async def rank_rooms(
    readers: Readers, tenant_key: TenantKey, user_id: UserId, after_key: RoomKey, limit: int
) -> tuple[list[RankedRoom], RoomKey | None]:
    """When the next rooms of the user after that key were last active, and the key after which there may be more."""
    scope = {"tenant_key": tenant_key, "user_id": user_id, "after_key": after_key, "limit": limit}
    rows = await readers.fetch(_RANK_ROOMS, scope)
    ranked = [
        RankedRoom(active_us, room_id, room_key) for room_key, room_id, active_us in rows if active_us is not None
    ]
    return ranked, max(row[0] for row in rows) if len(rows) == limit else None


async def list_rooms(
    readers: Readers, tenant_key: TenantKey, user_id: UserId, wanted: Sequence[tuple[RoomKey, int]], examined: int
) -> tuple[list[ListedRoom], bool]:
    """Those of the wanted (room_key, known_seq) that the user is a member of, in that order, and whether the page was
    full before the last one. Unread is counted in `examined` messages of each."""
    scope = {"tenant_key": tenant_key, "user_id": user_id, "examined": examined}
    found, was_full = await readers.fetch_page(_LIST_ROOMS, {**scope, "wanted": dumps_text(wanted)}, len(wanted))
    rows = sorted(found, key=lambda row: int(row[0]))
    return [
        ListedRoom(row[1], row[2], row[3], bool(row[4]), Counted(*loads_stored(row[5])), row[6]) for row in rows
    ], was_full


async def count_unread(
    readers: Readers, tenant_key: TenantKey, user_id: UserId, wanted: Sequence[tuple[RoomKey, int]], examined: int
) -> dict[RoomKey, Counted]:
    """For each (room_key, after_seq) what is unread in the next `examined` messages."""
    scope = {"tenant_key": tenant_key, "user_id": user_id, "examined": examined}
    rows = await readers.fetch(_COUNT_MORE, {**scope, "wanted": dumps_text(wanted)})
    return {room_key: Counted(*loads_stored(counted)) for room_key, counted in rows}


async def list_channels(readers: Readers, tenant_key: TenantKey, window: Window) -> Page:
    """The tenant's channels, the newest first."""
    return await readers.fetch_list(_LIST_CHANNELS, {"tenant_key": tenant_key}, window, CHANNELS_START)


async def list_members(readers: Readers, tenant_key: TenantKey, room_key: RoomKey, now_us: int, window: Window) -> Page:
    """The longest-standing first; mutes that have ended by then are not shown."""
    scope = {"tenant_key": tenant_key, "room_key": room_key, "now_us": now_us}
    return await readers.fetch_list(_LIST_MEMBERS, scope, window, MEMBERS_START)


async def read_members(
    readers: Readers, tenant_key: TenantKey, room_key: RoomKey, now_us: int, user_ids: Sequence[str]
) -> Rows:
    """Rows of (index in `user_ids`, the member as JSON), as far as they fit in a page."""
    scope = {"tenant_key": tenant_key, "room_key": room_key, "now_us": now_us, "user_ids": dumps_text(user_ids)}
    return await readers.fetch_page(_READ_MEMBERS, scope, len(user_ids))


async def list_receipts(readers: Readers, tenant_key: TenantKey, room_key: RoomKey, window: Window) -> Page:
    """How far each member has got and read, in the same order."""
    scope = {"tenant_key": tenant_key, "room_key": room_key}
    return await readers.fetch_list(_LIST_RECEIPTS, scope, window, MEMBERS_START)


def read_member(row: Row) -> tuple[MemberState, bool]:
    """The record of a row of `load_members`, and whether they have hidden the room."""
    _room_key, user_id, role, joined_at_us, last_ack, last_read, last_mention_seq, notify, is_hidden = row
    member = MemberState(
        UserId(user_id), Role(role), joined_at_us, last_ack, last_read, last_mention_seq, _NOTIFIES[notify]
    )
    return member, bool(is_hidden)
