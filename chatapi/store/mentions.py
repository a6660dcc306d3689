"""Mentions in SQL: a row for each user whom a message mentions, and one with an empty `user_id` for the whole room."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from chatapi.models import OptionalFields, RoomKey, TenantKey
from chatapi.protocol.json import dumps_text
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
