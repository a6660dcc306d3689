"""Pins in SQL: the messages of a room that somebody has pinned."""

from collections.abc import Mapping

from chatapi.models import RoomKey, TenantKey, UserId
from chatapi.protocol.json import MAX_KEY
from chatapi.protocol.pages import Page, Value, Window
from chatapi.store.log import MESSAGE_JSON
from chatapi.store.readers import Readers
from chatapi.store.transaction import Transaction

_ROOM = "(SELECT room_key FROM rooms WHERE room_key = :room_key AND tenant_key = :tenant_key)"

_COUNT = f"SELECT count(*) FROM (SELECT 1 FROM pins WHERE room_key = {_ROOM} LIMIT :limit)"
_INSERT = f"""
    INSERT INTO pins (room_key, seq, target_seq, user_id, pinned_at_us)
    VALUES ({_ROOM}, :seq, :target_seq, :user_id, :now_us)
"""
_DELETE = f"DELETE FROM pins WHERE room_key = {_ROOM} AND target_seq = :target_seq"
_LIST = f"""
    SELECT p.seq, CAST({MESSAGE_JSON} AS BLOB)
    FROM rooms AS r CROSS JOIN pins AS p CROSS JOIN messages AS m
    WHERE r.room_key = :room_key AND r.tenant_key = :tenant_key
      AND p.room_key = r.room_key AND p.seq < :seq AND m.room_key = p.room_key AND m.seq = p.target_seq
    ORDER BY p.seq DESC LIMIT :limit + 1 OFFSET :offset
"""
PINS_START: Mapping[str, Value] = {"seq": MAX_KEY}


async def count_pins(transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, limit: int) -> int:
    """How many messages of the room are pinned, counted to `limit`."""
    scope = {"tenant_key": tenant_key, "room_key": room_key, "limit": limit}
    [(count,)] = await transaction.fetch(_COUNT, scope)
    return int(count)


async def insert(
    transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, target_seq: int, user_id: UserId, seq: int
) -> None:
    """`seq` is that of the event which tells of it."""
    scope = {"tenant_key": tenant_key, "room_key": room_key, "target_seq": target_seq, "user_id": user_id}
    await transaction.execute(_INSERT, {**scope, "seq": seq, "now_us": transaction.now_us})


async def delete(transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, target_seq: int) -> None:
    scope = {"tenant_key": tenant_key, "room_key": room_key, "target_seq": target_seq}
    await transaction.execute(_DELETE, scope)


async def list_pins(readers: Readers, tenant_key: TenantKey, room_key: RoomKey, window: Window) -> Page:
    """The pinned messages, the newest pin first."""
    return await readers.fetch_list(_LIST, {"tenant_key": tenant_key, "room_key": room_key}, window, PINS_START)
