"""Threads in SQL: the replies to a message, and what their root shows of them."""

from collections.abc import Iterable
from typing import NamedTuple

from chatapi.models import RoomKey, TenantKey
from chatapi.protocol.encoders import join_json
from chatapi.protocol.json import dumps_text
from chatapi.store.log import MESSAGE_JSON, Messages
from chatapi.store.readers import PAGE_BYTES, Readers
from chatapi.store.transaction import Transaction
from chatapi.store.writes import MessageWrite, Statement

# Rows of (room_key, root_seq, replies, seq of the last one, its time). Retention may have taken the root meanwhile.
NOTE_REPLIES = """
    INSERT INTO threads (room_key, root_seq, reply_count, last_reply_seq, last_reply_at_us)
    SELECT w.value ->> 0, w.value ->> 1, w.value ->> 2, w.value ->> 3, w.value ->> 4 FROM json_each(:rows) AS w
    WHERE EXISTS (SELECT 1 FROM messages WHERE room_key = w.value ->> 0 AND seq = w.value ->> 1)
    ON CONFLICT (room_key, root_seq) DO UPDATE SET
        reply_count = reply_count + excluded.reply_count,
        last_reply_seq = excluded.last_reply_seq, last_reply_at_us = excluded.last_reply_at_us
"""
MARK_ROOTS = """
    UPDATE messages SET annotated = 1 FROM json_each(:rows) AS w
    WHERE messages.room_key = w.value ->> 0 AND messages.seq = w.value ->> 1 AND messages.annotated IS NULL
"""
_FIND_LAST_REPLY = """
    SELECT m.seq, m.created_at_us
    FROM rooms AS r CROSS JOIN messages AS m INDEXED BY messages_present_replies ON m.room_key = r.room_key
    WHERE r.room_key = :room_key AND r.tenant_key = :tenant_key AND m.thread_id = :thread_id
      AND m.deleted_at_us IS NULL
    ORDER BY m.seq DESC LIMIT 1
"""
_TAKE_REPLY = """
    UPDATE threads SET reply_count = reply_count - 1, last_reply_seq = :last_seq, last_reply_at_us = :last_at_us
    WHERE root_seq = :root_seq
      AND room_key = (SELECT room_key FROM rooms WHERE room_key = :room_key AND tenant_key = :tenant_key)
"""
_DELETE = """
    DELETE FROM threads WHERE root_seq = :root_seq
      AND room_key = (SELECT room_key FROM rooms WHERE room_key = :room_key AND tenant_key = :tenant_key)
"""

_REPLIES = f"""
    SELECT CAST({MESSAGE_JSON} AS BLOB)
    FROM rooms AS r CROSS JOIN messages AS m INDEXED BY messages_replies ON m.room_key = r.room_key
    WHERE r.room_key = :room_key AND r.tenant_key = :tenant_key AND m.thread_id = :thread_id
"""
_REPLIES_AFTER = f"{_REPLIES} AND m.seq > :seq ORDER BY m.seq LIMIT :limit + 1"
_REPLIES_BEFORE = f"{_REPLIES} AND m.seq < :seq ORDER BY m.seq DESC LIMIT :limit + 1"
_HAS_REPLIES = """
    SELECT 1 FROM rooms AS r CROSS JOIN messages AS m INDEXED BY messages_replies ON m.room_key = r.room_key
    WHERE r.room_key = :room_key AND r.tenant_key = :tenant_key AND m.thread_id = :thread_id LIMIT 1
"""
# Of the next messages, of which so many are looked at, all except replies: an index of all of those would cost
# every message something. They come in the order of the subquery, which is the outermost loop.
_NEXT = "SELECT message_key, seq, thread_id FROM messages WHERE room_key = :room_key"
_NEXT_AFTER = f"{_NEXT} AND seq > :seq ORDER BY seq LIMIT :examined"
_NEXT_BEFORE = f"{_NEXT} AND seq < :seq ORDER BY seq DESC LIMIT :examined"
_TOP_LEVEL_START = f"SELECT n.seq, CAST({MESSAGE_JSON} AS BLOB) FROM"
_TOP_LEVEL_END = """
    AS n CROSS JOIN messages AS m ON m.message_key = n.message_key CROSS JOIN rooms AS r
    WHERE r.room_key = :room_key AND r.tenant_key = :tenant_key AND n.thread_id IS NULL
    LIMIT :limit + 1
"""
_TOP_LEVEL_AFTER = f"{_TOP_LEVEL_START} ({_NEXT_AFTER}) {_TOP_LEVEL_END}"
_TOP_LEVEL_BEFORE = f"{_TOP_LEVEL_START} ({_NEXT_BEFORE}) {_TOP_LEVEL_END}"
_END_AFTER = f"SELECT count(*), max(seq) FROM ({_NEXT_AFTER})"
_END_BEFORE = f"SELECT count(*), min(seq) FROM ({_NEXT_BEFORE})"

EXAMINED_MESSAGES = 2_000  # at a stretch: about 2 ms of a reader's time


class Span(NamedTuple):
    """One page: at most `limit` messages just after, or just before, `seq`."""

    is_after: bool
    seq: int
    limit: int


def list_statements(replies: Iterable[MessageWrite]) -> list[Statement]:
    """Statements to run after these messages are stored, each a reply."""
    sums: dict[tuple[int, int], tuple[int, int, int]] = {}
    for write in replies:
        thread = write.counter.room_key, write.root_seq
        count = sums[thread][0] if thread in sums else 0
        sums[thread] = count + 1, write.seq, write.created_at_us
    if not sums:
        return []
    given = {"rows": dumps_text([(*thread, *found) for thread, found in sums.items()])}
    return [(NOTE_REPLIES, given), (MARK_ROOTS, given)]


async def take_reply(
    transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, thread_id: str, root_seq: int
) -> None:
    """A reply was deleted, and counts no more."""
    scope: dict[str, object] = {"tenant_key": tenant_key, "room_key": room_key}
    last = await transaction.fetch_one(_FIND_LAST_REPLY, {**scope, "thread_id": thread_id})
    if last is None:
        await transaction.execute(_DELETE, {**scope, "root_seq": root_seq})
    else:
        await transaction.execute(
            _TAKE_REPLY, {**scope, "root_seq": root_seq, "last_seq": last[0], "last_at_us": last[1]}
        )


async def list_replies(
    readers: Readers, tenant_key: TenantKey, room_key: RoomKey, thread_id: str, span: Span
) -> tuple[Messages, bool]:
    """Ascending, and whether there are more in the direction asked for."""
    scope = {"tenant_key": tenant_key, "room_key": room_key, "thread_id": thread_id}
    statement = _REPLIES_AFTER if span.is_after else _REPLIES_BEFORE
    rows, has_more = await readers.fetch_page(statement, {**scope, "seq": span.seq, "limit": span.limit}, span.limit)
    items = [row[0] for row in rows]
    return join_json(items if span.is_after else items[::-1]), has_more


async def has_replies(readers: Readers, tenant_key: TenantKey, room_key: RoomKey, thread_id: str) -> bool:
    scope = {"tenant_key": tenant_key, "room_key": room_key, "thread_id": thread_id}
    return await readers.fetch_one(_HAS_REPLIES, scope) is not None


async def list_top_level(
    readers: Readers, tenant_key: TenantKey, room_key: RoomKey, span: Span
) -> tuple[Messages, bool]:
    """The room without its replies: ascending, and whether there are more in the direction asked for. Many replies in a
    row are passed over in steps, so that other requests have their turn in between."""
    scope: dict[str, object] = {"tenant_key": tenant_key, "room_key": room_key, "examined": EXAMINED_MESSAGES}
    page, end = (_TOP_LEVEL_AFTER, _END_AFTER) if span.is_after else (_TOP_LEVEL_BEFORE, _END_BEFORE)
    items: list[bytes] = []
    seq, size = span.seq, 0
    while True:
        wanted = span.limit - len(items)
        given = {**scope, "seq": seq, "limit": wanted}
        rows, has_more = await readers.fetch_page(page, given, wanted)
        found = [row[1] for row in rows]
        size += sum(map(len, found))
        items += found
        if not has_more:
            row = await readers.fetch_one(end, given)
            assert row is not None  # an aggregate
            examined, seq = row
            if examined == EXAMINED_MESSAGES and size < PAGE_BYTES:
                continue
            has_more = examined == EXAMINED_MESSAGES
        return join_json(items if span.is_after else items[::-1]), has_more
