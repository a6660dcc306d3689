"""Mentions in SQL: a row for each user whom a message mentions, and one with an empty `user_id` for the whole room."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from chatapi.models import OptionalFields, RoomKey, TenantKey, UserId
from chatapi.protocol.fields import MAX_UNREAD
from chatapi.protocol.json import MAX_KEY, dumps_text, loads_stored
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
# Rows of (message_key, thread_id, mentions as JSON, mention_room, stream).
SET_OPTIONAL_FIELDS = """
    UPDATE messages SET thread_id = w.value ->> 1, mentions = w.value ->> 2, mention_room = w.value ->> 3,
                        stream = w.value ->> 4
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
    fields: list[tuple[int, str | None, str | None, int | None, str | None]] = []
    rows: list[MentionRow] = []
    for write in messages:
        optional = write.optional
        if optional is not None:
            mention_room = 1 if optional.mention_room else None
            stream = "open" if optional.stream else None
            fields.append((write.message_key, optional.thread_id, encode_mentions(optional), mention_room, stream))
            if not optional.stream:  # else it mentions them once it has ended
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


async def insert_mentions(transaction: Transaction, message: Mentioning) -> None:
    """Of a stream, when it has ended."""
    for sql, parameters in _insert_all(_list_rows(message)):
        await transaction.execute(sql, parameters)


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
# The next rooms of a user after a room_key, and in each, before a key, the newest message that mentions them, and the
# newest one that mentions the room, as [key, whether it is their own].
_FIND_NEWEST = f"""
    SELECT b.room_key,
        coalesce((SELECT message_key FROM mentions
            WHERE room_key = b.room_key AND user_id = :user_id AND message_key < :before_key
            ORDER BY message_key DESC LIMIT 1), 0),
        (SELECT json_array(message_key, sender_id = :user_id) FROM mentions
            WHERE room_key = b.room_key AND user_id = '' AND message_key < :before_key AND message_key > {_JOINED_KEY}
            ORDER BY message_key DESC LIMIT 1),
        (SELECT deleted_at_us FROM rooms WHERE room_key = b.room_key) IS NOT NULL
    FROM members AS b
    WHERE b.user_id = :user_id AND +b.tenant_key = :tenant_key AND b.room_key IN (
        SELECT room_key FROM members WHERE tenant_key = :tenant_key AND user_id = :user_id AND room_key > :after_key
        ORDER BY room_key LIMIT :limit)
    ORDER BY b.room_key
"""
# `wanted` holds [room_key, before_key, after_key] each: of the room's mentions before the one key and after the other
# how many were looked at, the last of them, and the newest one by somebody else.
_SKIP_OWN = f"""
    SELECT w.key, (
        SELECT json_array(count(*), min(message_key), max(iif(sender_id = :user_id, 0, message_key))) FROM (
            SELECT message_key, sender_id FROM mentions
            WHERE room_key = b.room_key AND user_id = '' AND message_key < w.value ->> 1
              AND message_key > max(w.value ->> 2, {_JOINED_KEY})
            ORDER BY message_key DESC LIMIT :examined))
    FROM json_each(:wanted) AS w CROSS JOIN members AS b
    WHERE b.room_key = w.value ->> 0 AND b.user_id = :user_id AND +b.tenant_key = :tenant_key
"""
_OF_ROOM = f"""
    SELECT message_key FROM mentions
    WHERE room_key = b.room_key AND user_id = '' AND message_key < w.value ->> 1 AND message_key > {_JOINED_KEY}
    ORDER BY message_key DESC
"""
# The newest messages that mention the user, in each room before a key: `wanted` holds [room_key, before_key] each.
_LIST_KEYS = f"""
    SELECT n.message_key FROM json_each(:wanted) AS w CROSS JOIN mentions AS n
    WHERE n.room_key = w.value ->> 0 AND n.user_id = :user_id AND n.message_key IN (
        SELECT message_key FROM mentions
        WHERE room_key = w.value ->> 0 AND user_id = :user_id AND message_key < w.value ->> 1
        ORDER BY message_key DESC LIMIT :limit)
    UNION
    SELECT n.message_key FROM json_each(:wanted) AS w CROSS JOIN members AS b CROSS JOIN mentions AS n
    WHERE b.room_key = w.value ->> 0 AND b.user_id = :user_id AND +b.tenant_key = :tenant_key
      AND n.room_key = b.room_key AND n.user_id = '' AND n.sender_id <> :user_id
      AND n.message_key IN ({_OF_ROOM} LIMIT :examined)
    ORDER BY message_key DESC LIMIT :limit
"""
# Down to this key all of them were looked at; 0 if there are no others.
_END_OF_KEYS = f"""
    SELECT coalesce(max(({_OF_ROOM} LIMIT 1 OFFSET :examined - 1)), 0)
    FROM json_each(:wanted) AS w CROSS JOIN members AS b
    WHERE b.room_key = w.value ->> 0 AND b.user_id = :user_id AND +b.tenant_key = :tenant_key
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
EXAMINED_TIMES = 4  # as many mentions of a room as a page has messages: some are the user's own


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


class _OwnRun(NamedTuple):
    """The user's own mentions of a room, which are passed over, from before one key down to another."""

    room_key: RoomKey
    before_key: int
    after_key: int


async def find_newest(
    readers: Readers, tenant_key: TenantKey, user_id: UserId, before_key: int, after_key: RoomKey, limit: int
) -> list[tuple[RoomKey, int]]:
    """The user's next rooms after that key, `limit` at most, each with the key of the newest message before
    `before_key` that mentions them; 0 for none."""
    scope: dict[str, object] = {"tenant_key": tenant_key, "user_id": user_id}
    given = {**scope, "before_key": before_key, "after_key": after_key, "limit": limit}
    newest: dict[RoomKey, int] = {}
    runs: list[_OwnRun] = []
    for room_key, personal_key, of_room, is_deleted in await readers.fetch(_FIND_NEWEST, given):
        newest[room_key] = 0 if is_deleted else personal_key
        room_mention_key, is_own = (0, False) if of_room is None or is_deleted else loads_stored(of_room)
        if room_mention_key > personal_key and is_own:
            runs.append(_OwnRun(room_key, room_mention_key, personal_key))
        elif room_mention_key > personal_key:
            newest[room_key] = room_mention_key
    while runs:
        examined = max(1, EXAMINED_MENTIONS // len(runs))
        wanted = {"wanted": dumps_text([tuple(run) for run in runs]), "examined": examined}
        left: list[_OwnRun] = []
        for index, found in await readers.fetch(_SKIP_OWN, {**scope, **wanted}):
            seen, last_key, others_key = loads_stored(found)
            if others_key:
                newest[runs[index].room_key] = others_key
            elif seen == examined:
                left.append(runs[index]._replace(before_key=last_key))
        runs = left
    return list(newest.items())


async def list_page(
    readers: Readers, tenant_key: TenantKey, user_id: UserId, newest: Sequence[tuple[int, RoomKey]], limit: int
) -> Page:
    """The messages that mention the user, the newest first, in rooms of which the newest one is given. A page ends
    early where very many mentions of a room are the user's own."""
    keys, end_key = await _list_keys(readers, tenant_key, user_id, newest, limit + 1)
    wanted = {"tenant_key": tenant_key, "message_keys": dumps_text(keys[:limit])}
    found, was_full = await readers.fetch_page(_READ_MESSAGES, wanted, limit)
    last_key = found[-1][0] if was_full else keys[limit - 1] if len(keys) > limit else end_key
    return Page([row[1] for row in found], (last_key,) if last_key else None)


async def _list_keys(
    readers: Readers, tenant_key: TenantKey, user_id: UserId, newest: Sequence[tuple[int, RoomKey]], count: int
) -> tuple[list[int], int]:
    """The next `count` keys, the newest first. If these are fewer and there may be more, also the key before which they
    are."""
    examined = EXAMINED_TIMES * count  # of each room
    scope = {"tenant_key": tenant_key, "user_id": user_id, "examined": examined, "limit": count}
    keys: list[int] = []
    end_key = MAX_KEY
    for _ in range(max(1, EXAMINED_MENTIONS // (examined * max(1, len(newest))))):
        wanted = dumps_text([(room_key, min(newest_key + 1, end_key)) for newest_key, room_key in newest])
        rows = await readers.fetch(_LIST_KEYS, {**scope, "wanted": wanted})
        [(end_key,)] = await readers.fetch(_END_OF_KEYS, {**scope, "wanted": wanted})
        keys += [row[0] for row in rows if row[0] >= end_key]
        if len(keys) >= count or not end_key:
            break
    return keys[:count], end_key


async def find_room_of(readers: Readers, tenant_key: TenantKey, message_key: int) -> str | None:
    """The id of the room in which the message with this key is, perhaps as a tombstone."""
    row = await readers.fetch_one(_FIND_ROOM_OF, {"tenant_key": tenant_key, "message_key": message_key})
    return None if row is None else str(row[0])


async def find_imported(readers: Readers, room_keys: Sequence[RoomKey], message_id: str) -> int | None:
    """The key of the message in one of these rooms that had this id before its import."""
    row = await readers.fetch_one(_FIND_IMPORTED, {"room_keys": dumps_text(room_keys), "message_id": message_id})
    return None if row is None else int(row[0])
