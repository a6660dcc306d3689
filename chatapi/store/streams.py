"""Streams in SQL: which messages are still being written, and what has been appended to each."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from chatapi.models import RoomId, RoomKey, TenantKey
from chatapi.protocol.answers import Message
from chatapi.protocol.json import dumps_text, loads_stored
from chatapi.store.log import STORED_COLUMNS, read_message
from chatapi.store.readers import Readers
from chatapi.store.transaction import Transaction
from chatapi.store.writes import MessageWrite, Statement

STREAMS_PER_QUERY = 500  # at the start: up to 64 KiB of each, which stay in memory

StreamKey = tuple[RoomKey, int]
"""The room, and the seq of the message."""

# Rows of (room_key, target_seq).
INSERT_OPEN = """
    INSERT INTO open_streams (room_key, target_seq) SELECT value ->> 0, value ->> 1 FROM json_each(:rows)
"""
# The index of the last append of each that is open.
_FIND_OPEN = """
    SELECT o.room_key, o.target_seq, coalesce(
        (SELECT max(last_index) FROM stream_chunks WHERE room_key = o.room_key AND target_seq = o.target_seq), 0)
    FROM json_each(:keys) AS w CROSS JOIN open_streams AS o
    WHERE o.room_key = w.value ->> 0 AND o.target_seq = w.value ->> 1
"""
_INSERT_CHUNKS = """
    INSERT INTO stream_chunks (room_key, target_seq, last_index, text, sizes)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each(:rows)
"""
# Rows of (room_key, target_seq, after): the chunks of each after that index, which one takes the place of.
_DELETE_MERGED = """
    DELETE FROM stream_chunks WHERE (room_key, target_seq, last_index) IN (
        SELECT c.room_key, c.target_seq, c.last_index FROM json_each(:rows) AS w CROSS JOIN stream_chunks AS c
        WHERE c.room_key = w.value ->> 0 AND c.target_seq = w.value ->> 1 AND c.last_index > w.value ->> 2)
"""
_ROOM = "(SELECT room_key FROM rooms WHERE room_key = :room_key AND tenant_key = :tenant_key)"
_ASK_TO_STOP = f"""
    UPDATE open_streams SET cancel_requested = 1
    WHERE room_key = {_ROOM} AND target_seq = :seq AND cancel_requested IS NULL
"""
_END = f"""
    UPDATE messages SET content = :content, meta = :meta, stream = :state
    WHERE message_key = :message_key AND room_key = {_ROOM}
"""
_DELETE_CHUNKS = f"DELETE FROM stream_chunks WHERE room_key = {_ROOM} AND target_seq = :seq"
_DELETE_OPEN = f"DELETE FROM open_streams WHERE room_key = {_ROOM} AND target_seq = :seq"
_FIND_ENDING = """
    SELECT c.seq, c.last_index
    FROM rooms AS r CROSS JOIN changes AS c INDEXED BY changes_endings ON c.room_key = r.room_key
    WHERE r.room_key = :room_key AND r.tenant_key = :tenant_key
      AND c.message_key = :message_key AND c.last_index IS NOT NULL
"""
# Streams after one.
_LIST_OPEN = f"""
    SELECT r.tenant_key, r.room_id, r.room_key, {STORED_COLUMNS}
    FROM open_streams AS o CROSS JOIN rooms AS r CROSS JOIN messages AS m
    WHERE (o.room_key, o.target_seq) > (:room_key, :seq) AND r.room_key = o.room_key AND r.deleted_at_us IS NULL
      AND m.room_key = o.room_key AND m.seq = o.target_seq
    ORDER BY o.room_key, o.target_seq LIMIT :limit
"""
# Of each stream, what was appended to it, and the bytes of each append, as a JSON array without its brackets. Half a
# million small chunks take a fifth of the time that they would take as rows.
_READ_APPENDS = """
    SELECT w.value ->> 0, w.value ->> 1, (
        SELECT json_array(group_concat(text, ''), group_concat(sizes)) FROM (
            SELECT text, coalesce(trim(sizes, '[]'), length(CAST(text AS BLOB))) AS sizes FROM stream_chunks
            WHERE room_key = w.value ->> 0 AND target_seq = w.value ->> 1 ORDER BY last_index))
    FROM json_each(:keys) AS w
"""


class Chunk(NamedTuple):
    """Appends of one message that are stored together: the last one's index, and the bytes of each."""

    key: StreamKey
    last_index: int
    text: str
    sizes: Sequence[int]
    merged_after: int | None = None  # it takes the place of those that are stored after this index, if it is not None


class StoredStream(NamedTuple):
    tenant_key: TenantKey
    room_key: RoomKey
    message: Message  # as it was opened
    text: bytes  # of all appends...
    sizes: Sequence[int]  # ...and the bytes of each


class Ending(NamedTuple):
    """The event that ended a stream, and the index of its last append."""

    seq: int
    last_index: int


def list_statements(messages: Iterable[MessageWrite]) -> list[Statement]:
    """Statements to run after these messages are stored, each the beginning of a stream."""
    rows = [(write.counter.room_key, write.seq) for write in messages]
    return [(INSERT_OPEN, {"rows": dumps_text(rows)})] if rows else []


async def find_open(transaction: Transaction, keys: Iterable[StreamKey]) -> dict[StreamKey, int]:
    """Those of the streams that are open, each with the index of its last append."""
    rows = await transaction.fetch(_FIND_OPEN, {"keys": dumps_text(list(keys))})
    return {(RoomKey(room_key), seq): last_index for room_key, seq, last_index in rows}


async def insert_chunks(transaction: Transaction, chunks: Sequence[Chunk]) -> None:
    merged = [(*chunk.key, chunk.merged_after) for chunk in chunks if chunk.merged_after is not None]
    if merged:
        await transaction.execute(_DELETE_MERGED, {"rows": dumps_text(merged)})
    rows = [
        (*chunk.key, chunk.last_index, chunk.text, dumps_text(chunk.sizes) if len(chunk.sizes) > 1 else None)
        for chunk in chunks
    ]
    if rows:
        await transaction.execute(_INSERT_CHUNKS, {"rows": dumps_text(rows)})


async def ask_to_stop(transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, seq: int) -> bool:
    """Whether nobody had asked before."""
    return await transaction.execute(_ASK_TO_STOP, {"tenant_key": tenant_key, "room_key": room_key, "seq": seq}) > 0


async def end(
    transaction: Transaction,
    tenant_key: TenantKey,
    room_key: RoomKey,
    message_key: int,
    *,
    seq: int,
    state: str,
    content: str,
    meta: str | None,
) -> None:
    """The message is an ordinary one from now on. `seq` is the message's own, `meta` is JSON."""
    scope: dict[str, object] = {"tenant_key": tenant_key, "room_key": room_key}
    given = {"message_key": message_key, "state": state, "content": content, "meta": meta}
    await transaction.execute(_END, {**scope, **given})
    await remove(transaction, tenant_key, room_key, seq)


async def remove(transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, seq: int) -> None:
    """All that stands outside the message itself."""
    for statement in (_DELETE_CHUNKS, _DELETE_OPEN):
        await transaction.execute(statement, {"tenant_key": tenant_key, "room_key": room_key, "seq": seq})


async def find_ending(
    source: Readers | Transaction, tenant_key: TenantKey, room_key: RoomKey, message_key: int
) -> Ending | None:
    """None for other messages, for a stream that is still open, and where retention has removed the event."""
    scope = {"tenant_key": tenant_key, "room_key": room_key, "message_key": message_key}
    row = await source.fetch_one(_FIND_ENDING, scope)
    return None if row is None else Ending(*row)


async def list_open(readers: Readers) -> list[StoredStream]:
    """All of the server, for its start."""
    found: list[StoredStream] = []
    after: StreamKey = (RoomKey(0), 0)
    while True:
        scope = {"room_key": after[0], "seq": after[1], "limit": STREAMS_PER_QUERY}
        rows = await readers.fetch(_LIST_OPEN, scope)
        opened: dict[StreamKey, tuple[TenantKey, Message]] = {}
        for tenant_key, room_id, room_key, *columns in rows:
            _, message = read_message(RoomId(room_id), tuple(columns))
            after = (RoomKey(room_key), message.seq)
            opened[after] = TenantKey(tenant_key), message
        for room_key, seq, appends in await readers.fetch(_READ_APPENDS, {"keys": dumps_text(list(opened))}):
            tenant_key, message = opened[room_key, seq]
            text, sizes = loads_stored(appends)
            found.append(
                StoredStream(tenant_key, room_key, message, (text or "").encode(), loads_stored(f"[{sizes or ''}]"))
            )
        if len(rows) < STREAMS_PER_QUERY:
            return found
