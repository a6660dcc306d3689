"""Reactions in SQL: each one, and a summary of each emoji, from which messages are read (`log.ANNOTATIONS`)."""

from collections.abc import Mapping, Sequence

import msgspec

from chatapi.models import RoomKey, TenantKey, UserId
from chatapi.protocol.fields import ReactionSummary
from chatapi.protocol.pages import Page, Value, Window
from chatapi.protocol.requests import SHOWN_USERS
from chatapi.store.log import ANNOTATIONS
from chatapi.store.readers import Readers
from chatapi.store.transaction import SqliteConnection, Transaction

_ROOM = "(SELECT room_key FROM rooms WHERE room_key = :room_key AND tenant_key = :tenant_key)"

_LIST_OWN = f"""
    SELECT emoji, created_at_us FROM reactions INDEXED BY reactions_of_user
    WHERE room_key = {_ROOM} AND target_seq = :target_seq AND user_id = :user_id
"""
_INSERT = f"""
    INSERT INTO reactions (room_key, target_seq, seq, emoji, user_id, created_at_us)
    VALUES ({_ROOM}, :target_seq, :seq, :emoji, :user_id, :now_us)
"""
_DELETE = f"""
    DELETE FROM reactions
    WHERE room_key = {_ROOM} AND target_seq = :target_seq AND user_id = :user_id AND emoji = :emoji
"""
_FIRST_USERS = f"""
    (SELECT json_group_array(user_id) FROM (
        SELECT user_id FROM reactions
        WHERE room_key = :room_key AND target_seq = :target_seq AND emoji = :emoji ORDER BY seq LIMIT {SHOWN_USERS}))
"""
_COUNT_UP = f"""
    INSERT INTO reaction_counts (room_key, target_seq, first_seq, emoji, count, user_ids)
    VALUES ({_ROOM}, :target_seq, :seq, :emoji, 1, json_array(:user_id))
    ON CONFLICT (room_key, target_seq, emoji) DO UPDATE SET count = count + 1, user_ids = {_FIRST_USERS}
"""
_COUNT_DOWN = f"""
    UPDATE reaction_counts SET count = count - 1, user_ids = {_FIRST_USERS}
    WHERE room_key = {_ROOM} AND target_seq = :target_seq AND emoji = :emoji
"""
_DROP_UNUSED = f"""
    DELETE FROM reaction_counts
    WHERE room_key = {_ROOM} AND target_seq = :target_seq AND emoji = :emoji AND count = 0
"""
_READ = f"SELECT {ANNOTATIONS['reactions']} FROM messages AS m WHERE m.room_key = {_ROOM} AND m.seq = :target_seq"
_DROP_COUNTS = f"DELETE FROM reaction_counts WHERE room_key = {_ROOM} AND target_seq = :target_seq"
_NOTE_EMPTIED = f"INSERT INTO emptied_messages (room_key, target_seq) VALUES ({_ROOM}, :target_seq)"

_ITEM = """
    CAST(json_object('emoji', x.emoji, 'user_id', x.user_id,
        'created_at', strftime('%Y-%m-%dT%H:%M:%S', x.created_at_us / 1000000, 'unixepoch')
            || printf('.%06dZ', x.created_at_us % 1000000)) AS BLOB)
"""
_LIST = f"""
    SELECT x.seq, {_ITEM} FROM reactions AS x
    WHERE x.room_key = {_ROOM} AND x.target_seq = :target_seq AND x.seq > :seq
    ORDER BY x.seq LIMIT :limit + 1 OFFSET :offset
"""
_LIST_OF_EMOJI = f"""
    SELECT x.seq, {_ITEM} FROM reactions AS x INDEXED BY reactions_of_emoji
    WHERE x.room_key = {_ROOM} AND x.target_seq = :target_seq AND x.emoji = :emoji AND x.seq > :seq
    ORDER BY x.seq LIMIT :limit + 1 OFFSET :offset
"""
REACTIONS_START: Mapping[str, Value] = {"seq": 0}

# The same page, found from the end of the list, the last one first: an offset passes over every reaction before it.
_TOTAL = f"""
    (SELECT coalesce(sum(count), 0) FROM reaction_counts
     WHERE room_key = {_ROOM} AND target_seq = :target_seq AND (:emoji IS NULL OR emoji = :emoji))
"""
_FROM_END = f"LIMIT max(0, min(:limit + 1, {_TOTAL} - :offset)) OFFSET max(0, {_TOTAL} - :offset - :limit - 1)"
_LIST_FROM_END = f"""
    SELECT x.seq, {_ITEM} FROM reactions AS x
    WHERE x.room_key = {_ROOM} AND x.target_seq = :target_seq ORDER BY x.seq DESC {_FROM_END}
"""
_LIST_OF_EMOJI_FROM_END = f"""
    SELECT x.seq, {_ITEM} FROM reactions AS x INDEXED BY reactions_of_emoji
    WHERE x.room_key = {_ROOM} AND x.target_seq = :target_seq AND x.emoji = :emoji ORDER BY x.seq DESC {_FROM_END}
"""


async def list_own(
    transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, target_seq: int, user_id: UserId
) -> dict[str, int]:
    """The emoji with which the user has reacted to a message, and when, in microseconds."""
    scope = {**_name(tenant_key, room_key, target_seq), "user_id": user_id}
    return dict(await transaction.fetch(_LIST_OWN, scope))


async def insert(
    transaction: Transaction,
    tenant_key: TenantKey,
    room_key: RoomKey,
    target_seq: int,
    *,
    user_id: UserId,
    emoji: str,
    seq: int,
) -> list[ReactionSummary]:
    """The message's reactions afterwards. `seq` is that of the event which tells of it."""
    scope = {**_name(tenant_key, room_key, target_seq), "user_id": user_id, "emoji": emoji, "seq": seq}
    return await _write(transaction, (_INSERT, _COUNT_UP), {**scope, "now_us": transaction.now_us})


async def delete(
    transaction: Transaction,
    tenant_key: TenantKey,
    room_key: RoomKey,
    target_seq: int,
    *,
    user_id: UserId,
    emoji: str,
) -> list[ReactionSummary]:
    """The message's reactions after one that is there was removed."""
    scope = {**_name(tenant_key, room_key, target_seq), "user_id": user_id, "emoji": emoji}
    return await _write(transaction, (_DELETE, _COUNT_DOWN, _DROP_UNUSED), scope)


async def _write(
    transaction: Transaction, statements: Sequence[str], scope: Mapping[str, object]
) -> list[ReactionSummary]:
    """In one hop to the connection's thread."""

    def write(connection: SqliteConnection) -> str | None:
        for statement in statements:
            connection.execute(statement, scope)
        row = connection.execute(_READ, scope).fetchone()
        return None if row is None else row[0]

    shown = await transaction.run(write)
    return [] if shown is None else msgspec.json.decode(shown, type=list[ReactionSummary])


def _name(tenant_key: TenantKey, room_key: RoomKey, target_seq: int) -> dict[str, object]:
    """The parameters that name a message."""
    return {"tenant_key": tenant_key, "room_key": room_key, "target_seq": target_seq}


async def remove_all(transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, target_seq: int) -> None:
    """The message was deleted. It shows none from now on; the rows, which may be many, are left to `store.purge`."""
    scope = _name(tenant_key, room_key, target_seq)
    await transaction.execute(_DROP_COUNTS, scope)
    await transaction.execute(_NOTE_EMPTIED, scope)


async def list_reactions(
    readers: Readers,
    tenant_key: TenantKey,
    room_key: RoomKey,
    target_seq: int,
    emoji: str | None,
    window: Window,
    about: int,
) -> Page:
    """The reactions to a message, with any emoji or with this one, in the order of reacting. `about` is how many there
    are, or were a moment ago: a page is found from the nearer end."""
    scope = {**_name(tenant_key, room_key, target_seq), "emoji": emoji}
    if 2 * window.offset <= about:
        sql = _LIST if emoji is None else _LIST_OF_EMOJI
        return await readers.fetch_list(sql, scope, window, REACTIONS_START)
    sql = _LIST_FROM_END if emoji is None else _LIST_OF_EMOJI_FROM_END
    rows = await readers.fetch(sql, {**scope, "limit": window.limit, "offset": window.offset})
    page = rows[::-1][: window.limit]
    return Page([item for _, item in page], page[-1][:1] if len(rows) > window.limit else None)
