"""Calls that tell a tenant's backend of an event, whoever is online, in SQL.

They are rows of `webhook_deliveries` with the ordinal 0, and end as the others do (`store.webhooks`). The order of
their keys is that of the events: by it those of one room follow each other.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from chatapi.models import RoomKey, TenantKey, UserId
from chatapi.protocol.json import dumps_text
from chatapi.store.background import CHUNK_ROWS
from chatapi.store.keys import KEY_EPOCH_US
from chatapi.store.log import CHANGE_EVENT, MESSAGE_EVENT
from chatapi.store.readers import Readers
from chatapi.store.reports import REPORT_JSON
from chatapi.store.rooms import ROOM_FRAME_FIELDS
from chatapi.store.transaction import SqliteConnection, Transaction
from chatapi.store.writes import MessageWrite

EVENT_ORDINAL = 0
TOO_MANY = "too many events were waiting"

# Rows of (event_key, tenant_key, room_key, user_id, seq, event, frame, due_at_us).
INSERT_EVENTS = f"""
    INSERT INTO webhook_deliveries (event_key, ordinal, tenant_key, room_key, user_id, seq, event, frame,
                                    next_attempt_at_us)
    SELECT value ->> 0, {EVENT_ORDINAL}, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
           value ->> 7
    FROM json_each(:rows)
"""
# Of the writer's connection alone: a message, and the call that tells the backend of it unless `due_at_us` is null, in
# one statement. So it is a transaction by itself, as messages alone are: a BEGIN costs each message half as much again,
# with its trips to the connection's thread and SQLite's notes of how to take back one of many statements.
_MESSAGE = """message_key, room_key, seq, sender_id, content, meta, reply_to, client_message_id, body_digest,
    created_at_us"""
CREATE_TOLD_MESSAGES = f"""
    CREATE TEMP VIEW told_messages AS SELECT {_MESSAGE}, 0 AS tenant_key, 0 AS due_at_us FROM messages;
    CREATE TEMP TRIGGER insert_told_message INSTEAD OF INSERT ON told_messages BEGIN
        INSERT INTO messages ({_MESSAGE}) VALUES (NEW.message_key, NEW.room_key, NEW.seq, NEW.sender_id, NEW.content,
            NEW.meta, NEW.reply_to, NEW.client_message_id, NEW.body_digest, NEW.created_at_us);
        INSERT INTO webhook_deliveries (event_key, ordinal, tenant_key, room_key, user_id, seq, event,
                                        next_attempt_at_us)
        SELECT NEW.message_key, {EVENT_ORDINAL}, NEW.tenant_key, NEW.room_key, '', NEW.seq, 'message.created',
               NEW.due_at_us
        WHERE NEW.due_at_us IS NOT NULL;
    END;
"""

_WAITS = "next_attempt_at_us IS NOT NULL AND ordinal = 0"
_LIST_EVENTS = f"""
    SELECT event_key, room_key, user_id, attempts, step, next_attempt_at_us FROM webhook_deliveries
    WHERE tenant_key = :tenant_key AND event_key > :after_key AND {_WAITS} AND step = 0
    ORDER BY event_key LIMIT :limit
"""
_LIST_RETRIES = f"""
    SELECT event_key, room_key, user_id, attempts, step, next_attempt_at_us FROM webhook_deliveries
    WHERE tenant_key = :tenant_key AND {_WAITS} AND step > 0
    ORDER BY next_attempt_at_us LIMIT :limit
"""
_COUNT_EVENTS = f"""
    SELECT count(*) FROM (
        SELECT 1 FROM webhook_deliveries WHERE tenant_key = :tenant_key AND {_WAITS} LIMIT :limit)
"""
_GIVE_UP_OLDEST = f"""
    UPDATE webhook_deliveries SET next_attempt_at_us = NULL, last_attempt_at_us = :now_us, error = '{TOO_MANY}'
    WHERE (event_key, ordinal) IN (
        SELECT event_key, ordinal FROM webhook_deliveries
        WHERE tenant_key = :tenant_key AND {_WAITS} ORDER BY event_key LIMIT :limit)
"""
DROP_EVENTS = f"""
    DELETE FROM webhook_deliveries WHERE (event_key, ordinal) IN (
        SELECT event_key, ordinal FROM webhook_deliveries WHERE tenant_key = :tenant_key AND {_WAITS} LIMIT :limit)
"""

TIME = "strftime('%Y-%m-%dT%H:%M:%S', {0} / 1000000, 'unixepoch') || printf('.%06dZ', {0} % 1000000)"
ROOM_OF_CALL = "json_object('room_id', r.room_id, 'type', r.type, 'name', r.name, 'metadata', json(r.metadata))"
_KEY_TIME = TIME.format(f"((d.event_key >> 12) + {KEY_EPOCH_US})")


def _call(event: str, timestamp: str, room: str | None) -> str:
    """SQL of a body."""
    about = f"'tenant_id', t.tenant_id, 'event', {event}"
    data = f"json_object({about})" if room is None else f"json_object({about}, 'room', {room})"
    return f"json_object('type', d.event, 'timestamp', {timestamp}, 'data', {data})"


_FRAME_OF_ROOM = """json_object('room_id', d.frame ->> 'room_id', 'type', d.frame ->> 'room_type',
    'name', d.frame ->> 'name', 'metadata', json(d.frame -> 'metadata'))"""
_OF_TENANT = "FROM tenants AS t WHERE t.tenant_key = d.tenant_key AND t.deleted_at_us IS NULL"
_OF_ROOM = """
    FROM tenants AS t CROSS JOIN rooms AS r
    WHERE t.tenant_key = d.tenant_key AND t.deleted_at_us IS NULL
      AND r.room_key = d.room_key AND r.tenant_key = t.tenant_key AND r.deleted_at_us IS NULL
"""
_FOUND_IN_ROOM = _OF_ROOM.replace("CROSS JOIN rooms AS r", "CROSS JOIN rooms AS r CROSS JOIN {} ")
_BODIES = {
    "d.event IN ('user.online', 'user.offline')": f"SELECT {_call('json(d.frame)', _KEY_TIME, None)} {_OF_TENANT}",
    "d.event = 'room.deleted'": f"SELECT {_call('json(d.frame)', _KEY_TIME, _FRAME_OF_ROOM)} {_OF_TENANT}",
    "d.event = 'room.created'": f"""
        SELECT {_call(f"json_object('type', d.event, {ROOM_FRAME_FIELDS})", _KEY_TIME, ROOM_OF_CALL)} {_OF_ROOM}""",
    "d.event = 'message.created'": f"""
        SELECT {_call(MESSAGE_EVENT, TIME.format("m.created_at_us"), ROOM_OF_CALL)}
        {_FOUND_IN_ROOM.format("messages AS m")} AND m.room_key = r.room_key AND m.seq = d.seq""",
    "d.event = 'message.reported'": f"""
        SELECT {_call(REPORT_JSON, TIME.format("p.created_at_us"), ROOM_OF_CALL)}
        FROM tenants AS t CROSS JOIN reports AS p CROSS JOIN rooms AS r
        WHERE t.tenant_key = d.tenant_key AND t.deleted_at_us IS NULL
          AND p.report_key = d.event_key AND p.tenant_key = t.tenant_key
          AND r.room_key = p.room_key AND r.deleted_at_us IS NULL""",
    "d.seq": f"""
        SELECT {_call(f"json(coalesce(c.frame, {CHANGE_EVENT}))", TIME.format("c.created_at_us"), ROOM_OF_CALL)}
        {_FOUND_IN_ROOM.format("changes AS c LEFT JOIN messages AS m ON m.message_key = c.message_key")}
          AND c.room_key = r.room_key AND c.seq = d.seq""",
}
BODY = f"CASE {' '.join(f'WHEN {when} THEN ({body})' for when, body in _BODIES.items())} END"
"""SQL of what to POST for the row `d`; null once it is pointless: the tenant, the room or the event has gone."""


@functools.cache
def insert_told_messages(count: int) -> str:
    """As `log.insert_messages`, with `tenant_key` and `due_at_us` besides."""
    return f"INSERT INTO told_messages VALUES {', '.join(['(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)'] * count)}"


def add_told(messages: Sequence[MessageWrite], values: Sequence[object]) -> list[object]:
    """The parameters of `insert_told_messages` from those of `log.insert_messages`."""
    added: list[object] = []
    size = len(values) // len(messages)
    for number, write in enumerate(messages):
        added += (*values[number * size : (number + 1) * size], write.room.tenant.tenant_key, write.told_at_us)
    return added


class WaitingEvent(NamedTuple):
    """An event whose call waits, as `store.webhooks.WaitingDelivery`. Those with the same room, or the same user, are
    sent one after the other."""

    event_key: int
    room_key: RoomKey | None
    user_id: UserId
    attempts: int
    step: int
    next_attempt_at_us: int


async def insert_events(transaction: Transaction, rows: Sequence[Sequence[object]]) -> None:
    """`rows` have the columns that `INSERT_EVENTS` names."""
    await transaction.execute(INSERT_EVENTS, {"rows": dumps_text(rows)})


async def list_events(readers: Readers, tenant_key: TenantKey, after_key: int, limit: int) -> list[WaitingEvent]:
    """The tenant's next events after a key that were not tried yet, in their order."""
    scope = {"tenant_key": tenant_key, "after_key": after_key, "limit": limit}
    return [WaitingEvent(*row) for row in await readers.fetch(_LIST_EVENTS, scope)]


async def list_retries(readers: Readers, tenant_key: TenantKey, limit: int) -> list[WaitingEvent]:
    """The tenant's events whose last try has failed, in the order of their next one."""
    scope = {"tenant_key": tenant_key, "limit": limit}
    return [WaitingEvent(*row) for row in await readers.fetch(_LIST_RETRIES, scope)]


async def count_events(readers: Readers, tenant_key: TenantKey, limit: int) -> int:
    """How many of the tenant's events wait, counted to `limit`."""
    row = await readers.fetch_one(_COUNT_EVENTS, {"tenant_key": tenant_key, "limit": limit})
    assert row is not None  # an aggregate
    return int(row[0])


def give_up_oldest(
    tenant_key: TenantKey, excess: int, now_us: int, connection: SqliteConnection, is_over: Callable[[], bool]
) -> int:
    """One step of making dead letters of the tenant's oldest events; how many it made."""
    done = 0
    while done < excess:
        scope = {"tenant_key": tenant_key, "now_us": now_us, "limit": min(CHUNK_ROWS, excess - done)}
        made = connection.execute(_GIVE_UP_OLDEST, scope).rowcount
        done += made
        if not made or is_over():
            break
    return done
