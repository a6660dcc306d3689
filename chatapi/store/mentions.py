"""Mentions in SQL: a row for each user whom a message mentions, and one with an empty `user_id` for the whole room."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from chatapi.models import OptionalFields, RoomKey, TenantKey, UserId
from chatapi.protocol.json import dumps_text, loads_stored
from chatapi.protocol.pages import Page
from chatapi.store.keys import KEY_EPOCH_US
from chatapi.store.log import MESSAGE_JSON
from chatapi.store.readers import Readers
from chatapi.store.transaction import Transaction
from chatapi.store.writes import MessageWrite, Statement

WHOLE_ROOM = ""
"""The `user_id` of a mention of the room, which no user can have."""

# Rows of (room_key, user_id, message_key, seq, sender_id).
INSERT_MENTIONS = """
    INSERT INTO mentions (room_key, user_id, message_key, seq, sender_id)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each(:rows)
"""
# One's own mentions count nothing.
NOTE_MEMBERS = """
    UPDATE members SET last_mention_seq = max(last_mention_seq, w.seq)
    FROM (
        SELECT value ->> 0 AS room_key, value ->> 1 AS user_id, max(value ->> 3) AS seq
        FROM json_each(:rows) WHERE value ->> 1 <> value ->> 4 GROUP BY 1, 2
    ) AS w
    WHERE members.room_key = w.room_key AND members.user_id = w.user_id
"""
NOTE_ROOMS = """
    UPDATE rooms SET last_mention_seq = max(last_mention_seq, w.seq)
    FROM (
        SELECT value ->> 0 AS room_key, max(value ->> 3) AS seq
        FROM json_each(:rows) WHERE value ->> 1 = '' GROUP BY 1
    ) AS w
    WHERE rooms.room_key = w.room_key
"""
# Rows of (message_key, thread_id, mentions as JSON, mention_room).
SET_OPTIONAL_FIELDS = """
    UPDATE messages SET thread_id = w.value ->> 1, mentions = w.value ->> 2, mention_room = w.value ->> 3
    FROM json_each(:rows) AS w WHERE messages.message_key = w.value ->> 0
"""
_SET_MENTIONS = """
    UPDATE messages SET mentions = :mentions, mention_room = :mention_room
    WHERE message_key = :message_key
      AND room_key = (SELECT room_key FROM rooms WHERE room_key = :room_key AND tenant_key = :tenant_key)
"""
_DELETE_MENTIONS = """
    DELETE FROM mentions
    WHERE room_key = (SELECT room_key FROM rooms WHERE room_key = :room_key AND tenant_key = :tenant_key)
      AND user_id IN (SELECT value FROM json_each(:user_ids)) AND message_key = :message_key
"""

MentionRow = tuple[RoomKey, str, int, int, str]


class Mentioning(NamedTuple):
    """A message that is stored, and what it has beside its plain fields."""

    room_key: RoomKey
    message_key: int
    seq: int
    sender_id: str
    optional: OptionalFields


def encode_mentions(optional: OptionalFields) -> str | None:
    """For the column of that name."""
    return dumps_text(optional.mentions) if optional.mentions else None


def list_user_ids(optional: OptionalFields) -> set[str]:
    """The `user_id` of each row."""
    return {*optional.mentions, WHOLE_ROOM} if optional.mention_room else set(optional.mentions)


def list_statements(messages: Iterable[MessageWrite]) -> list[Statement]:
    """Statements to run after the messages are stored: none for those that have nothing but plain fields."""
    fields: list[tuple[int, str | None, str | None, int | None]] = []
    rows: list[MentionRow] = []
    for write in messages:
        optional = write.optional
        if optional is not None:
            mention_room = 1 if optional.mention_room else None
            fields.append((write.message_key, optional.thread_id, encode_mentions(optional), mention_room))
            room_key = RoomKey(write.counter.room_key)
            rows += _list_rows(Mentioning(room_key, write.message_key, write.seq, write.sender_id, optional))
    if not fields:
        return []
    return [(SET_OPTIONAL_FIELDS, {"rows": dumps_text(fields)}), *_insert_all(rows)]


def _list_rows(message: Mentioning, user_ids: Iterable[str] | None = None) -> list[MentionRow]:
    chosen = list_user_ids(message.optional) if user_ids is None else user_ids
    return [
        (message.room_key, user_id, message.message_key, message.seq, message.sender_id) for user_id in sorted(chosen)
    ]


def _insert_all(rows: Sequence[MentionRow]) -> list[Statement]:
    if not rows:
        return []
    given = {"rows": dumps_text(rows)}
    statements: list[Statement] = [(INSERT_MENTIONS, given), (NOTE_MEMBERS, given)]
    if any(user_id == WHOLE_ROOM for _, user_id, *_ in rows):
        statements.append((NOTE_ROOMS, given))
    return statements


async def replace_mentions(
    transaction: Transaction, tenant_key: TenantKey, message: Mentioning, before: OptionalFields
) -> None:
    """The message has these mentions from now on, in place of those `before`."""
    scope: dict[str, object] = {
        "tenant_key": tenant_key,
        "room_key": message.room_key,
        "message_key": message.message_key,
    }
    optional = message.optional
    mention_room = 1 if optional.mention_room else None
    await transaction.execute(
        _SET_MENTIONS, {**scope, "mentions": encode_mentions(optional), "mention_room": mention_room}
    )
    gone, come = list_user_ids(before) - list_user_ids(optional), list_user_ids(optional) - list_user_ids(before)
    if gone:
        await transaction.execute(_DELETE_MENTIONS, {**scope, "user_ids": dumps_text(sorted(gone))})
    for sql, parameters in _insert_all(_list_rows(message, come)):
        await transaction.execute(sql, parameters)


# Reading

# Of the mentions after a seq how many were looked at, how many of them are of others, and the seq of the last one. A
# message that mentions the user and the room counts once. Messages from before the user joined count as read.
_COUNT = """
    (SELECT json_array(count(*), coalesce(sum(is_others), 0), coalesce(max(seq), 0)) FROM (
        SELECT seq, sender_id <> :user_id AS is_others FROM mentions
        WHERE room_key = r.room_key AND user_id = :user_id AND seq > w.value ->> 1 AND seq <= w.value ->> 2
        UNION
        SELECT seq, sender_id <> :user_id AS is_others FROM mentions
        WHERE room_key = r.room_key AND user_id = '' AND seq > w.value ->> 1 AND seq <= w.value ->> 2
        ORDER BY seq LIMIT :examined))
"""
# `wanted` holds [room_key, after_seq, to_seq] each.
_COUNT_UNREAD = f"""
    SELECT r.room_key, {_COUNT} FROM json_each(:wanted) AS w CROSS JOIN rooms AS r
    WHERE r.room_key = w.value ->> 0 AND r.tenant_key = :tenant_key
"""
_JOINED_KEY = f"coalesce(b.joined_key, (b.joined_at_us - {KEY_EPOCH_US}) << 12)"
# The next rooms of a user after a room_key, and the newest message in each, before a key, that mentions them.
_FIND_NEWEST = f"""
    SELECT b.room_key, iif((SELECT deleted_at_us FROM rooms WHERE room_key = b.room_key) IS NOT NULL, 0, max(
        coalesce((SELECT message_key FROM mentions
            WHERE room_key = b.room_key AND user_id = :user_id AND message_key < :before_key
            ORDER BY message_key DESC LIMIT 1), 0),
        coalesce((SELECT message_key FROM mentions
            WHERE room_key = b.room_key AND user_id = '' AND message_key < :before_key
              AND message_key > {_JOINED_KEY} AND sender_id <> :user_id
            ORDER BY message_key DESC LIMIT 1), 0)))
    FROM members AS b
    WHERE b.user_id = :user_id AND +b.tenant_key = :tenant_key AND b.room_key IN (
        SELECT room_key FROM members WHERE tenant_key = :tenant_key AND user_id = :user_id AND room_key > :after_key
        ORDER BY room_key LIMIT :limit)
    ORDER BY b.room_key
"""
# The newest messages of these rooms that mention the user, before a key.
_LIST_KEYS = f"""
    SELECT n.message_key FROM json_each(:room_keys) AS w CROSS JOIN mentions AS n
    WHERE n.room_key = w.value AND n.user_id = :user_id AND n.message_key IN (
        SELECT message_key FROM mentions
        WHERE room_key = w.value AND user_id = :user_id AND message_key < :before_key
        ORDER BY message_key DESC LIMIT :limit)
    UNION
    SELECT n.message_key FROM json_each(:room_keys) AS w CROSS JOIN members AS b CROSS JOIN mentions AS n
    WHERE b.room_key = w.value AND b.user_id = :user_id AND +b.tenant_key = :tenant_key
      AND n.room_key = w.value AND n.user_id = '' AND n.message_key IN (
        SELECT message_key FROM mentions
        WHERE room_key = w.value AND user_id = '' AND message_key < :before_key
          AND message_key > {_JOINED_KEY} AND sender_id <> :user_id
        ORDER BY message_key DESC LIMIT :limit)
    ORDER BY message_key DESC LIMIT :limit
"""
_READ_MESSAGES = f"""
    SELECT m.message_key, CAST({MESSAGE_JSON} AS BLOB)
    FROM json_each(:message_keys) AS w CROSS JOIN messages AS m CROSS JOIN rooms AS r
    WHERE m.message_key = w.value AND r.room_key = m.room_key AND r.tenant_key = :tenant_key
      AND r.deleted_at_us IS NULL
"""
_FIND_ROOM_OF = """
    SELECT r.room_id FROM messages AS m CROSS JOIN rooms AS r
    WHERE m.message_key = :message_key AND m.imported_id IS NULL
      AND r.room_key = m.room_key AND r.tenant_key = :tenant_key AND r.deleted_at_us IS NULL
"""
_FIND_IMPORTED = """
    SELECT m.message_key FROM json_each(:room_keys) AS w CROSS JOIN messages AS m
    WHERE m.room_key = w.value AND m.imported_id = :message_id LIMIT 1
"""

EXAMINED_MENTIONS = 10_000  # per statement, of all its rooms together: about 3 ms of a reader's time
COUNTED_ROOMS = 500  # per statement
MAX_UNREAD = 1_000  # counted (docs/contract.md, section 7)


class CountWant(NamedTuple):
    """The mentions of a user in one room, after one and up to another seq."""

    room_key: RoomKey
    after_seq: int
    to_seq: int


async def count_unread(
    readers: Readers, tenant_key: TenantKey, user_id: UserId, wants: Sequence[CountWant]
) -> dict[RoomKey, int]:
    """How many messages of others mention the user, counted to `MAX_UNREAD` in each room; in steps, so that other
    requests have their turn in between."""
    counts: dict[RoomKey, int] = {want.room_key: 0 for want in wants}
    left = deque(wants)
    while left:
        step = [left.popleft() for _ in range(min(len(left), COUNTED_ROOMS))]
        examined = max(1, EXAMINED_MENTIONS // len(step))
        scope = {"tenant_key": tenant_key, "user_id": user_id, "examined": examined}
        rows = await readers.fetch(_COUNT_UNREAD, {**scope, "wanted": dumps_text([tuple(want) for want in step])})
        found = {room_key: loads_stored(counted) for room_key, counted in rows}
        for want in step:
            seen, unread, last_seq = found.get(want.room_key, (0, 0, 0))  # the room may have been deleted
            counts[want.room_key] = min(counts[want.room_key] + unread, MAX_UNREAD)
            if seen == examined and counts[want.room_key] < MAX_UNREAD:
                left.append(want._replace(after_seq=last_seq))
    return counts


async def find_newest(
    readers: Readers, tenant_key: TenantKey, user_id: UserId, before_key: int, after_key: RoomKey, limit: int
) -> list[tuple[RoomKey, int]]:
    """The user's next rooms after that key, `limit` at most, each with the key of the newest message before
    `before_key` that mentions them; 0 for none."""
    scope = {"tenant_key": tenant_key, "user_id": user_id, "before_key": before_key}
    rows = await readers.fetch(_FIND_NEWEST, {**scope, "after_key": after_key, "limit": limit})
    return [(RoomKey(room_key), message_key) for room_key, message_key in rows]


async def list_page(
    readers: Readers, tenant_key: TenantKey, user_id: UserId, room_keys: Sequence[RoomKey], before_key: int, limit: int
) -> Page:
    """Of the messages in these rooms that mention the user those before that key, the newest first."""
    scope = {"tenant_key": tenant_key, "user_id": user_id, "before_key": before_key, "limit": limit + 1}
    rows = await readers.fetch(_LIST_KEYS, {**scope, "room_keys": dumps_text(room_keys)})
    keys = [row[0] for row in rows]
    wanted = {"tenant_key": tenant_key, "message_keys": dumps_text(keys[:limit])}
    found, was_full = await readers.fetch_page(_READ_MESSAGES, wanted, limit)
    has_more = was_full or len(keys) > limit
    last_key = found[-1][0] if was_full else keys[limit - 1] if has_more else 0
    return Page([row[1] for row in found], (last_key,) if has_more else None)


async def find_room_of(readers: Readers, tenant_key: TenantKey, message_key: int) -> str | None:
    """The id of the room in which the message with this key is, perhaps as a tombstone."""
    row = await readers.fetch_one(_FIND_ROOM_OF, {"tenant_key": tenant_key, "message_key": message_key})
    return None if row is None else str(row[0])


async def find_imported(readers: Readers, room_keys: Sequence[RoomKey], message_id: str) -> int | None:
    """The key of the message in one of these rooms that had this id before its import."""
    row = await readers.fetch_one(_FIND_IMPORTED, {"room_keys": dumps_text(room_keys), "message_id": message_id})
    return None if row is None else int(row[0])
