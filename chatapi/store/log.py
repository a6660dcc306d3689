"""A room's log in SQL: messages as they now stand, and the other durable events, which share the room's `seq`.

SQLite builds pages as JSON: that runs outside the GIL, and makes no Python object per row (docs/design.md, section 5).
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from chatapi.models import RoomId, RoomKey, TenantKey, encode_message_id, encode_time, find_key
from chatapi.protocol.answers import Message
from chatapi.protocol.encoders import join_json
from chatapi.protocol.fields import Annotations, StreamStatus
from chatapi.protocol.json import Encoded, dumps_text, encode, encoded, loads_stored
from chatapi.protocol.server_frames import LogEvent
from chatapi.store.readers import PAGE_BYTES, Readers
from chatapi.store.transaction import SeqCounter, Transaction
from chatapi.store.writes import MessageWrite

Row = tuple[Any, ...]
Messages = Encoded[list[Message]]

MAX_JSON_CHARACTERS = 1_000_000_000  # more than SQLite takes

MAX_INSERTED = 64  # rows of one statement: SQLite compiles one for each number of rows, and keeps the latest
INSERT_MESSAGE = """
    INSERT INTO messages (message_key, room_key, seq, sender_id, content, meta, reply_to, client_message_id,
                          body_digest, created_at_us)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_NEXT_ROW = ", (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


@functools.cache
def insert_messages(count: int) -> str:
    """The statement for up to `MAX_INSERTED` messages, which has the columns of all of them as its parameters. One row
    at a time, or as JSON, the same takes half as long again."""
    return INSERT_MESSAGE + _NEXT_ROW * (count - 1)


OPTIONAL_FIELDS: Mapping[str, str] = {
    "thread_id": "iif(m.thread_id IS NULL, NULL, json_quote(m.thread_id))",
    "mentions": "m.mentions",
    "mention_room": "iif(m.mention_room, 'true', NULL)",
    "stream": """iif(m.stream = 'open',
        (SELECT iif(cancel_requested, json_object('state', 'open', 'index', last_index,
                        'cancel_requested', json('true')),
                    json_object('state', 'open', 'index', last_index))
         FROM (SELECT o.cancel_requested AS cancel_requested, coalesce(
                   (SELECT max(last_index) FROM stream_chunks WHERE room_key = m.room_key AND target_seq = m.seq),
                   0) AS last_index
               FROM open_streams AS o WHERE o.room_key = m.room_key AND o.target_seq = m.seq)),
        iif(m.stream IS NULL, NULL, json_object('state', m.stream)))""",
}
"""Fields that not every message has, in the order of `MessageFields`: SQL of each one's JSON, NULL where it is absent.
A message without any of them is built as if there were no such fields."""

_QUICK = {"stream": "m.stream"}
"""SQL that is null for the same messages as a field's value, and costs less."""

_GROWING_CONTENT = """iif(m.stream = 'open',
    m.content || coalesce((
        SELECT group_concat(text, '') FROM (
            SELECT text FROM stream_chunks WHERE room_key = m.room_key AND target_seq = m.seq
            ORDER BY last_index)), ''),
    m.content)"""
"""A message's content with what was appended so far. Only a message with a `stream` can have any."""

ANNOTATIONS: Mapping[str, str] = {
    "reactions": """(
        SELECT iif(count(*) = 0, NULL, json_group_array(
            json_object('emoji', emoji, 'count', count, 'user_ids', json(user_ids))))
        FROM (SELECT emoji, count, user_ids FROM reaction_counts
              WHERE room_key = m.room_key AND target_seq = m.seq ORDER BY first_seq))""",
    "pinned_at": """(
        SELECT json_quote(strftime('%Y-%m-%dT%H:%M:%S', pinned_at_us / 1000000, 'unixepoch')
            || printf('.%06dZ', pinned_at_us % 1000000))
        FROM pins WHERE room_key = m.room_key AND target_seq = m.seq)""",
    "thread": """(
        SELECT json_object('reply_count', reply_count, 'last_reply_seq', last_reply_seq,
            'last_reply_at', strftime('%Y-%m-%dT%H:%M:%S', last_reply_at_us / 1000000, 'unixepoch')
                || printf('.%06dZ', last_reply_at_us % 1000000))
        FROM threads WHERE room_key = m.room_key AND root_seq = m.seq)""",
}
"""The same of what others have added to a message, in the order of `Annotations`: only where a message is read. Looked
for only where `messages.annotated` says that there is, or was, some."""

_NOT_ANNOTATED = "m.annotated IS NULL"


def message_object(
    fields: str, tail: str = "", optional: Mapping[str, str] = OPTIONAL_FIELDS, is_plain: str | None = None
) -> str:
    """SQL of a JSON object: a message's plain fields, those of `optional` that it has, and the tail. `is_plain` is SQL
    that is true of a message that has none of them; by default all are looked at."""
    whole = f"json_object({fields}, {tail})" if tail else f"json_object({fields})"
    if not optional:
        return whole
    fields = fields.replace("m.content", _GROWING_CONTENT)
    end = f"',' || substr(json_object({tail}), 2)" if tail else "'}'"
    # All but the last character, the brace.
    opened = f"substr(json_object({fields}), -1, -{MAX_JSON_CHARACTERS})"
    return f"iif({is_plain or _has_none(optional)}, {whole}, json({opened} || {_join_optional(optional)} || {end}))"


def optional_object(optional: Mapping[str, str] = OPTIONAL_FIELDS, is_plain: str | None = None) -> str:
    """SQL of a JSON object of those of `optional` that a message has; NULL for one without any. `is_plain` as above."""
    if not optional:
        return "NULL"
    return f"iif({is_plain or _has_none(optional)}, NULL, '{{' || substr({_join_optional(optional)}, 2) || '}}')"


def read_object(fields: str) -> str:
    """SQL of a message's JSON as it is read."""
    is_plain = f"{_has_none(OPTIONAL_FIELDS)} AND {_NOT_ANNOTATED}" if OPTIONAL_FIELDS else _NOT_ANNOTATED
    return message_object(fields, optional={**OPTIONAL_FIELDS, **ANNOTATIONS}, is_plain=is_plain)


def _has_none(optional: Mapping[str, str]) -> str:
    return " AND ".join(f"{_QUICK.get(name, value)} IS NULL" for name, value in optional.items())


def _join_optional(optional: Mapping[str, str]) -> str:
    fields = (f"""coalesce(',"{name}":' || {value}, '')""" for name, value in optional.items())
    return f"({' || '.join(fields)})"


# Of a message as it was stored: an open stream as it was opened, though with the index of its last append.
STORED_COLUMNS = f"""
    m.message_key, m.imported_id, m.seq, m.sender_id, m.content, m.meta, m.reply_to, m.client_message_id,
    m.created_at_us, m.edited_at_us, m.deleted_at_us, {optional_object()},
    {optional_object(ANNOTATIONS, _NOT_ANNOTATED)}
"""
COLUMNS = STORED_COLUMNS.replace("m.content", _GROWING_CONTENT)

FIND_CLIENT_MESSAGES = f"""
    SELECT m.room_key, m.sender_id, m.client_message_id, m.body_digest, {COLUMNS}
    FROM json_each(:wanted) AS w CROSS JOIN messages AS m
    WHERE m.room_key = w.value ->> 0 AND m.sender_id = w.value ->> 1 AND m.client_message_id = w.value ->> 2
"""

# The fields of `protocol.fields.MessageFields`, in their order; times as `models.encode_time` writes them.
_IDS = "'message_id', coalesce(m.imported_id, printf('msg_%016x', m.message_key)), 'room_id', r.room_id"
_CONTENT = """
    'sender_id', m.sender_id,
    'content', m.content,
    'meta', json(m.meta),
    'reply_to', m.reply_to,
    'client_message_id', m.client_message_id,
    'created_at', strftime('%Y-%m-%dT%H:%M:%S', m.created_at_us / 1000000, 'unixepoch')
        || printf('.%06dZ', m.created_at_us % 1000000),
    'edited_at', iif(m.edited_at_us IS NULL, NULL, strftime('%Y-%m-%dT%H:%M:%S', m.edited_at_us / 1000000, 'unixepoch')
        || printf('.%06dZ', m.edited_at_us % 1000000)),
    'deleted_at', iif(m.deleted_at_us IS NULL, NULL,
        strftime('%Y-%m-%dT%H:%M:%S', m.deleted_at_us / 1000000, 'unixepoch')
        || printf('.%06dZ', m.deleted_at_us % 1000000))
"""
MESSAGE_JSON = read_object(f"{_IDS}, 'seq', m.seq, {_CONTENT}")
EVENT_JSON = message_object(f"{_IDS}, 'seq', m.seq, {_CONTENT}")
"""The message without what others have added to it."""
MESSAGE_EVENT = message_object(f"'type', 'message', {_IDS}, 'seq', m.seq, {_CONTENT}")
_MESSAGE_READ = read_object(f"'type', 'message', {_IDS}, 'seq', m.seq, {_CONTENT}")
# Of an edit the message itself may be gone already: retention removes the older of the two first.
_EDITED_IDS = "'message_id', coalesce(m.imported_id, printf('msg_%016x', c.message_key)), 'room_id', r.room_id"
_CHANGE_TYPE = "iif(c.last_index IS NULL, 'message.edited', 'message.finished')"
CHANGE_EVENT = message_object(f"'type', {_CHANGE_TYPE}, {_EDITED_IDS}, 'seq', c.seq, {_CONTENT}", "'target_seq', m.seq")

# CROSS JOIN makes SQLite take the tables in the order written: the one room, then its log by seq.
_ROOM_MESSAGES = """
    rooms AS r CROSS JOIN messages AS m ON m.room_key = r.room_key
    WHERE r.room_key = :room_key AND r.tenant_key = :tenant_key
"""

# Both in an order that an index has, so that what does not fit into a page is not read.
_HISTORY_AFTER = f"""
    SELECT CAST({MESSAGE_JSON} AS BLOB) FROM {_ROOM_MESSAGES} AND m.seq > :seq ORDER BY m.seq LIMIT :limit + 1
"""
_HISTORY_BEFORE = f"""
    SELECT CAST({MESSAGE_JSON} AS BLOB) FROM {_ROOM_MESSAGES} AND m.seq < :seq ORDER BY m.seq DESC LIMIT :limit + 1
"""


def _events_of_room(message: str, annotations: str) -> str:
    """SQL of rows of (seq, the seq of the message that the event shows or 0, annotations, event), in no order."""
    return f"""
        SELECT m.seq AS seq, m.seq AS message_seq, {annotations}, CAST({message} AS BLOB) AS event
        FROM rooms AS r CROSS JOIN messages AS m
        WHERE r.room_key = :room_key AND r.tenant_key = :tenant_key
          AND m.room_key = r.room_key AND m.seq > :after_seq AND m.seq <= :to_seq
        UNION ALL
        SELECT c.seq, iif(c.frame IS NULL, m.seq, 0), NULL, CAST(coalesce(c.frame, {CHANGE_EVENT}) AS BLOB)
        FROM rooms AS r CROSS JOIN changes AS c LEFT JOIN messages AS m ON m.message_key = c.message_key
        WHERE r.room_key = :room_key AND r.tenant_key = :tenant_key
          AND c.room_key = r.room_key AND c.seq > :after_seq AND c.seq <= :to_seq
    """


_EVENTS = f"{_events_of_room(MESSAGE_EVENT, 'NULL')} ORDER BY seq ASC"
# With a message's annotations in its event, and once more beside it, as an object.
_SHOWN_EVENTS = _events_of_room(_MESSAGE_READ, optional_object(ANNOTATIONS, _NOT_ANNOTATED))
_ANNOTATED_EVENTS = f"{_SHOWN_EVENTS} ORDER BY seq ASC"
_NEWEST_EVENTS = f"{_SHOWN_EVENTS} ORDER BY seq DESC"

_GET_MESSAGE = f"SELECT {COLUMNS} FROM {_ROOM_MESSAGES} AND m.message_key = :message_key"
_GET_IMPORTED_MESSAGE = f"SELECT {COLUMNS} FROM {_ROOM_MESSAGES} AND m.imported_id = :message_id"

_EDIT_MESSAGE = """
    UPDATE messages SET content = :content, meta = :meta, edited_at_us = :now_us
    WHERE message_key = :message_key
      AND room_key = (SELECT room_key FROM rooms WHERE room_key = :room_key AND tenant_key = :tenant_key)
"""
_DELETE_MESSAGE = """
    UPDATE messages SET content = NULL, meta = NULL, deleted_at_us = :now_us, mentions = NULL, mention_room = NULL,
                        stream = NULL
    WHERE message_key = :message_key
      AND room_key = (SELECT room_key FROM rooms WHERE room_key = :room_key AND tenant_key = :tenant_key)
"""
_INSERT_CHANGE = """
    INSERT INTO changes (room_key, seq, frame, message_key, created_at_us, quiet, last_index)
    VALUES (:room_key, :seq, :frame, :message_key, :now_us, :quiet, :last_index)
"""
_ANNOTATE = """
    UPDATE messages SET annotated = 1
    WHERE message_key = :message_key AND annotated IS NULL
      AND room_key = (SELECT room_key FROM rooms WHERE room_key = :room_key AND tenant_key = :tenant_key)
"""
_FIND_DELETION = """
    SELECT c.seq FROM rooms AS r CROSS JOIN changes AS c INDEXED BY changes_deletions ON c.room_key = r.room_key
    WHERE r.room_key = :room_key AND r.tenant_key = :tenant_key
      AND c.seq > :seq AND c.message_key = :message_key AND c.frame IS NOT NULL
    ORDER BY c.seq LIMIT 1
"""
_MAX_KEY = """
    SELECT max(coalesce((SELECT max(message_key) FROM messages), 0),
               coalesce((SELECT max(notification_key) FROM notifications), 0),
               coalesce((SELECT max(subscription_key) FROM subscriptions), 0),
               coalesce((SELECT max(report_key) FROM reports), 0),
               coalesce((SELECT max(event_key) FROM webhook_deliveries), 0))
"""


class StoredMessage(NamedTuple):
    message_key: int
    message: Message


def read_message(room_id: RoomId, row: Row) -> StoredMessage:
    """The record of a row of `COLUMNS`."""
    (
        message_key,
        imported_id,
        seq,
        sender_id,
        content,
        meta,
        reply_to,
        client_message_id,
        created,
        edited,
        deleted,
        optional,
        annotations,
    ) = row
    message = Message(
        message_id=encode_message_id(message_key) if imported_id is None else imported_id,
        room_id=room_id,
        seq=seq,
        sender_id=sender_id,
        content=content,
        meta=encoded(meta),
        reply_to=reply_to,
        client_message_id=client_message_id,
        created_at=encode_time(created),
        edited_at=None if edited is None else encode_time(edited),
        deleted_at=None if deleted is None else encode_time(deleted),
        **({} if optional is None else _read_optional(optional)),
        **({} if annotations is None else _read_annotations(annotations)),
    )
    return StoredMessage(message_key, message)


def _read_optional(text: str) -> dict[str, Any]:
    fields: dict[str, Any] = loads_stored(text)
    if "stream" in fields:
        fields["stream"] = StreamStatus(**fields["stream"])
    return fields


def _read_annotations(text: str) -> dict[str, Any]:
    return msgspec.structs.asdict(msgspec.json.decode(text, type=Annotations))


class HistoryWant(NamedTuple):
    """One page of history: at most `limit` messages just after, or just before, `seq`."""

    room_key: RoomKey
    tenant_key: TenantKey
    is_after: bool
    seq: int
    limit: int


class EventsWant(NamedTuple):
    """The events of a room after one and up to another `seq`, both bounded already."""

    room_key: RoomKey
    tenant_key: TenantKey
    after_seq: int
    to_seq: int


class Event(NamedTuple):
    seq: int
    message_seq: int  # of the message that it shows, or 0
    annotations: bytes  # of a message, if they were asked for: `encoders.annotate` adds them to its JSON
    json: bytes


async def set_aside_known(messages: Sequence[MessageWrite], transaction: Transaction) -> list[MessageWrite]:
    """Finds what retries repeat; returns the others."""
    identities = [write.identity for write in messages if write.client_message_id is not None]
    rows = await transaction.fetch(FIND_CLIENT_MESSAGES, {"wanted": dumps_text(identities)})
    known = {row[:3]: row[3:] for row in rows}
    for write in messages:
        write.stored = known.get(write.identity)
    return [write for write in messages if write.stored is None]


async def history_pages(readers: Readers, wants: Sequence[HistoryWant]) -> list[tuple[Messages, bool]]:
    """For each its messages, ascending, and whether there are more in the direction asked for."""
    pages: list[tuple[Messages, bool]] = [(join_json(()), False)] * len(wants)
    for is_after, statement in ((True, _HISTORY_AFTER), (False, _HISTORY_BEFORE)):
        indexes = [index for index, want in enumerate(wants) if want.is_after is is_after]
        if indexes:
            found = await readers.fetch_pages(statement, [wants[index]._asdict() for index in indexes], PAGE_BYTES)
            for index, (rows, has_more) in zip(indexes, found, strict=True):
                items = [row[0] for row in rows]
                pages[index] = (join_json(items if is_after else items[::-1]), has_more)
    return pages


async def read_events(readers: Readers, wants: Sequence[EventsWant], max_bytes: int) -> list[list[Event]]:
    """For each its events, ascending: the first `max_bytes` of them, and at least one."""
    pages = await readers.fetch_pages(_EVENTS, [want._asdict() for want in wants], max_bytes)
    return [[Event(seq, message_seq, b"", json) for seq, message_seq, _, json in rows] for rows, _ in pages]


async def read_annotated_events(readers: Readers, wants: Sequence[EventsWant], max_bytes: int) -> list[list[Event]]:
    """As `read_events`, with the messages' annotations, which count too."""
    pages = await readers.fetch_pages(_ANNOTATED_EVENTS, [want._asdict() for want in wants], max_bytes)
    return [[_split_event(*row) for row in rows] for rows, _ in pages]


async def read_newest_events(readers: Readers, wants: Sequence[EventsWant], max_bytes: int) -> list[list[Event]]:
    """As `read_annotated_events`, ascending too, but of each the last `max_bytes`."""
    pages = await readers.fetch_pages(_NEWEST_EVENTS, [want._asdict() for want in wants], max_bytes)
    return [[_split_event(*row) for row in reversed(rows)] for rows, _ in pages]


def _split_event(seq: int, message_seq: int, annotations: str | None, json: bytes) -> Event:
    """Takes a message's annotations, which come last in it, out of its event."""
    added = b"" if annotations is None else annotations.encode()[1:-1]
    return Event(seq, message_seq, added, json[: -len(added) - 2] + b"}" if added else json)


async def find_message(
    source: Readers | Transaction, tenant_key: TenantKey, room_key: RoomKey, room_id: RoomId, message_id: str
) -> StoredMessage | None:
    """By its public id, which may be an imported one; None unless it is in this room. The message as it now stands."""
    scope: dict[str, object] = {"tenant_key": tenant_key, "room_key": room_key}
    message_key = find_key("msg_", message_id)
    if message_key is not None:
        row = await source.fetch_one(_GET_MESSAGE, {**scope, "message_key": message_key})
    else:
        row = await source.fetch_one(_GET_IMPORTED_MESSAGE, {**scope, "message_id": message_id})
    return None if row is None else read_message(room_id, row)


async def update_content(
    transaction: Transaction,
    tenant_key: TenantKey,
    room_key: RoomKey,
    message_key: int,
    content: str,
    meta: str | None,
) -> None:
    """`meta` is JSON."""
    await transaction.execute(
        _EDIT_MESSAGE,
        {
            "tenant_key": tenant_key,
            "room_key": room_key,
            "message_key": message_key,
            "content": content,
            "meta": meta,
            "now_us": transaction.now_us,
        },
    )


async def mark_message_deleted(
    transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, message_key: int
) -> None:
    """Leaves the tombstone."""
    await transaction.execute(
        _DELETE_MESSAGE,
        {"tenant_key": tenant_key, "room_key": room_key, "message_key": message_key, "now_us": transaction.now_us},
    )


async def mark_annotated(transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, message_key: int) -> None:
    """From now on readers look for the message's annotations. That stays so, and nothing has to be counted."""
    await transaction.execute(_ANNOTATE, {"tenant_key": tenant_key, "room_key": room_key, "message_key": message_key})


async def append_change(
    transaction: Transaction,
    counter: SeqCounter,
    seq: int,
    frame: LogEvent | None,
    message_key: int | None,
    *,
    is_quiet: bool = False,
    last_index: int | None = None,
) -> None:
    """An event of the log that is not a message. `seq` was taken from the room's counter in this transaction. A quiet
    one does not move the room to the top of its members' lists.

    An edit has no `frame`: it is shown with the message as it then stands. So is the end of a stream, which has the
    `last_index` that was appended. Only these and deletions have a `message_key`, since by that a message's deletion is
    found; other events name a message in their frame alone.
    """
    await transaction.execute(
        _INSERT_CHANGE,
        {
            "room_key": counter.room_key,
            "seq": seq,
            "frame": None if frame is None else encode(frame).decode(),
            "message_key": message_key,
            "now_us": transaction.now_us,
            "quiet": 1 if is_quiet else None,
            "last_index": last_index,
        },
    )


async def get_deletion_seq(
    transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, found: StoredMessage
) -> int:
    """The `seq` of the event that deleted this message; the message's own once retention has removed that."""
    row = await transaction.fetch_one(
        _FIND_DELETION,
        {"tenant_key": tenant_key, "room_key": room_key, "seq": found.message.seq, "message_key": found.message_key},
    )
    return found.message.seq if row is None else int(row[0])


async def get_last_key(readers: Readers) -> int:
    """The greatest key of all messages, notifications, subscriptions, reports and calls; 0 when there is none."""
    row = await readers.fetch_one(_MAX_KEY, {})
    assert row is not None
    return int(row[0])
