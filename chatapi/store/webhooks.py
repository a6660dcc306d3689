"""The calls that tenants' webhooks are still to get, and the dead letters, in SQL.

A row of `webhook_deliveries` is one call for one recipient of one event. It goes when the call has succeeded or has
become pointless, and is a dead letter when `next_attempt_at_us` is null.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple

from chatapi.models import TenantKey, UserId
from chatapi.protocol.json import MAX_KEY, dumps_text
from chatapi.protocol.pages import Page, Value, Window
from chatapi.store import backend_events
from chatapi.store.backend_events import BODY as EVENT_BODY
from chatapi.store.backend_events import ROOM_OF_CALL
from chatapi.store.backend_events import TIME as _TIME
from chatapi.store.background import CHUNK_ROWS
from chatapi.store.log import EVENT_JSON
from chatapi.store.notifications import FIELDS as NOTIFICATION_FIELDS
from chatapi.store.readers import Readers
from chatapi.store.transaction import SqliteConnection, Transaction

ID_PREFIX = "dlv_"
NOBODY = ""
"""The recipient of a call that tells the tenant's backend, unless it is about a user."""
AFTER_ALL = "\x7f"  # every user id comes before it
SHORT_LIST = 16_384  # characters of JSON, read in each step: less than 1 ms
PART_USERS = 500  # of a long list


class DeliveryKey(NamedTuple):
    """The key of a delivery: its event's, and which of the event's deliveries it is."""

    event_key: int
    ordinal: int


class WaitingDelivery(NamedTuple):
    """A call that waits to be made, due or not yet. `attempts` were made so far; `step` is its step of the schedule."""

    key: DeliveryKey
    user_id: UserId
    attempts: int
    step: int
    next_attempt_at_us: int


class Expansion(Enum):
    """The outcome of one step of making an event's calls."""

    NO_EVENT = auto()
    NEEDS_LIST = auto()  # nothing is done: `read_excluded` has to be given
    STEP = auto()
    DONE = auto()  # it was the last step of this event


class ExcludedUsers(NamedTuple):
    """Those who get no call of an event, in the order of their ids: parts, each a JSON array, and the last id of each
    part."""

    event_key: int
    last_ids: Sequence[str]
    parts: Sequence[str]

    def find_parts(self, after: str, until: str) -> str:
        """A JSON array of the parts in which the ids after the first one, and up to the second one, are."""
        start, end = bisect_right(self.last_ids, after), bisect_left(self.last_ids, until) + 1
        return f"[{','.join(self.parts[start:end])}]"


class Delay(NamedTuple):
    """A try that was put off."""

    key: DeliveryKey
    step: int
    next_attempt_at_us: int


class Failure(NamedTuple):
    """A try that failed; no `next_attempt_at_us` makes a dead letter."""

    key: DeliveryKey
    attempts: int
    step: int
    next_attempt_at_us: int | None
    last_attempt_at_us: int
    error: str


# Run by the writer beside the messages that they are for; rows of (event_key, ordinal, tenant_key, room_key, user_id,
# due_at_us), and of a message whether it mentions the user.
INSERT_DELIVERIES = """
    INSERT INTO webhook_deliveries (event_key, ordinal, tenant_key, room_key, user_id, next_attempt_at_us, mentioned)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, coalesce(value ->> 6, 0)
    FROM json_each(:rows)
"""
# Rows of (event_key, tenant_key, room_key, seq, excluded, due_at_us), and of a message (mentioned, mention_room,
# decided_key).
INSERT_EVENTS = """
    INSERT INTO webhook_events (event_key, tenant_key, room_key, seq, excluded, due_at_us, mentioned, mention_room,
                                decided_key)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value -> 4, value ->> 5, coalesce(value -> 6, '[]'),
           coalesce(value ->> 7, 0), value ->> 8
    FROM json_each(:rows)
"""

_FIND_EVENT = """
    SELECT event_key, room_key, seq, due_at_us, last_user_id, deliveries, mentioned, mention_room,
           coalesce(decided_key, event_key)
    FROM webhook_events WHERE tenant_key = :tenant_key ORDER BY event_key LIMIT 1
"""
# Where the next step of an event ends; none if it is the last one. A step looks at a bounded number of recipients, also
# where most of them are told nothing.
_END_OF_MEMBERS = """
    SELECT user_id FROM members WHERE room_key = :room_key AND +tenant_key = :tenant_key AND user_id > :last_user_id
    ORDER BY user_id LIMIT 1 OFFSET :limit - 1
"""
_END_OF_RECIPIENTS = """
    SELECT user_id FROM notification_recipients
    WHERE notification_key = :event_key AND tenant_key = :tenant_key AND user_id > :last_user_id
    ORDER BY user_id LIMIT 1 OFFSET :limit - 1
"""
# Of those who get no call: whether they are so many that they are read once for all steps, and a short list of them.
_IS_LONG = """
    SELECT length(excluded) > :most FROM webhook_events WHERE event_key = :event_key AND tenant_key = :tenant_key
"""
_GET_EXCLUDED = "SELECT excluded FROM webhook_events WHERE event_key = :event_key AND tenant_key = :tenant_key"
# A long list is sorted by SQLite, which lets others have the GIL meanwhile.
_LIST_EXCLUDED = """
    SELECT event_key, max(user_id), json_group_array(user_id) FROM (
        SELECT e.event_key, x.value AS user_id, row_number() OVER (ORDER BY x.value) - 1 AS place
        FROM (SELECT event_key, excluded FROM webhook_events
              WHERE tenant_key = :tenant_key ORDER BY event_key LIMIT 1) AS e CROSS JOIN json_each(e.excluded) AS x)
    GROUP BY place / :size ORDER BY place / :size
"""
_EXCLUDED = "SELECT x.value FROM json_each(:excluded) AS part CROSS JOIN json_each(part.value) AS x"
# Only those who wanted to be told when the message was stored, or had ended as a stream.
_EXPAND_MESSAGE = f"""
    INSERT INTO webhook_deliveries (event_key, ordinal, tenant_key, room_key, user_id, next_attempt_at_us, mentioned)
    SELECT :event_key, :deliveries + row_number() OVER (), :tenant_key, :room_key, user_id, :due_at_us, mentioned FROM (
        SELECT user_id, mentioned FROM (
            SELECT user_id, iif(notify_key < :decided_key, notify, notify_before) AS notify,
                   :mention_room OR user_id IN (SELECT value FROM json_each(:mentioned)) AS mentioned
            FROM members
            WHERE room_key = :room_key AND +tenant_key = :tenant_key AND user_id > :last_user_id
              AND user_id <= :end_user_id AND last_ack < :seq AND user_id NOT IN ({_EXCLUDED}))
        WHERE notify = 'all' OR notify = 'mentions' AND mentioned
        ORDER BY user_id)
"""
_EXPAND_NOTIFICATION = f"""
    INSERT INTO webhook_deliveries (event_key, ordinal, tenant_key, user_id, next_attempt_at_us)
    SELECT :event_key, :deliveries + row_number() OVER (), :tenant_key, user_id, :due_at_us FROM (
        SELECT user_id FROM notification_recipients
        WHERE notification_key = :event_key AND tenant_key = :tenant_key AND user_id > :last_user_id
          AND user_id <= :end_user_id AND acked_at_us IS NULL AND user_id NOT IN ({_EXCLUDED})
        ORDER BY user_id)
"""
_ADVANCE_EVENT = """
    UPDATE webhook_events SET last_user_id = :last_user_id, deliveries = :deliveries
    WHERE event_key = :event_key AND tenant_key = :tenant_key
"""
_DELETE_EVENT = "DELETE FROM webhook_events WHERE event_key = :event_key AND tenant_key = :tenant_key"

_TENANTS_WITH_WORK = """
    SELECT w.value FROM json_each(:tenant_keys) AS w
    WHERE EXISTS (SELECT 1 FROM webhook_events WHERE tenant_key = w.value)
       OR EXISTS (SELECT 1 FROM webhook_deliveries
           WHERE tenant_key = w.value AND next_attempt_at_us IS NOT NULL AND ordinal > 0)
       OR EXISTS (SELECT 1 FROM webhook_deliveries
           WHERE tenant_key = w.value AND next_attempt_at_us IS NOT NULL AND ordinal = 0)
"""
_COUNT_WAITING = """
    SELECT count(*) FROM (
        SELECT 1 FROM webhook_deliveries WHERE tenant_key > 0 AND next_attempt_at_us IS NOT NULL AND ordinal > 0
        UNION ALL
        SELECT 1 FROM webhook_deliveries WHERE tenant_key > 0 AND next_attempt_at_us IS NOT NULL AND ordinal = 0
        LIMIT :limit)
"""
_LIST_NEXT = """
    SELECT event_key, ordinal, user_id, attempts, step, next_attempt_at_us FROM webhook_deliveries
    WHERE tenant_key = :tenant_key AND next_attempt_at_us IS NOT NULL AND ordinal > 0
      AND (event_key, ordinal) NOT IN (SELECT value ->> 0, value ->> 1 FROM json_each(:under_way))
    ORDER BY next_attempt_at_us LIMIT :limit
"""

# The body to POST; null once it is pointless: acknowledged, deleted, or the user has left. CROSS JOIN makes SQLite take
# the tables in the order written, each by its key.
_MESSAGE_BODY = f"""
    SELECT json_object('type', 'message.offline', 'timestamp', {_TIME.format("m.created_at_us")},
        'data', json_object('tenant_id', t.tenant_id, 'user_id', d.user_id,
            'room', {ROOM_OF_CALL}, 'message', {EVENT_JSON}, 'mentioned', json(iif(d.mentioned, 'true', 'false'))))
    FROM tenants AS t CROSS JOIN rooms AS r CROSS JOIN members AS b CROSS JOIN messages AS m
    WHERE t.tenant_key = d.tenant_key AND t.deleted_at_us IS NULL
      AND r.room_key = d.room_key AND r.tenant_key = t.tenant_key AND r.deleted_at_us IS NULL
      AND b.room_key = r.room_key AND b.user_id = d.user_id
      AND m.message_key = d.event_key AND m.room_key = r.room_key AND m.deleted_at_us IS NULL
      AND b.last_ack < iif(m.stream IS NULL, m.seq, coalesce(
          (SELECT seq FROM changes INDEXED BY changes_endings
           WHERE room_key = m.room_key AND message_key = m.message_key AND last_index IS NOT NULL), m.seq))
"""
_NOTIFICATION_BODY = f"""
    SELECT json_object('type', 'notification.offline', 'timestamp', {_TIME.format("n.created_at_us")},
        'data', json_object('tenant_id', t.tenant_id, 'user_id', d.user_id,
            'notification', json_object({NOTIFICATION_FIELDS})))
    FROM tenants AS t CROSS JOIN notification_recipients AS p CROSS JOIN notifications AS n
    WHERE t.tenant_key = d.tenant_key AND t.deleted_at_us IS NULL
      AND p.tenant_key = t.tenant_key AND p.user_id = d.user_id AND p.notification_key = d.event_key
      AND p.acked_at_us IS NULL AND n.notification_key = p.notification_key AND n.tenant_key = t.tenant_key
"""
# `wanted` holds [tenant_key, event_key, ordinal] each; a row is [which of them, body].
_READ_BODIES = f"""
    SELECT w.key, CASE WHEN d.event IS NOT NULL THEN {EVENT_BODY}
        WHEN d.room_key IS NULL THEN ({_NOTIFICATION_BODY}) ELSE ({_MESSAGE_BODY}) END
    FROM json_each(:wanted) AS w CROSS JOIN webhook_deliveries AS d
    WHERE d.tenant_key = w.value ->> 0 AND d.event_key = w.value ->> 1 AND d.ordinal = w.value ->> 2
"""

_DELETE_DELIVERIES = """
    DELETE FROM webhook_deliveries
    WHERE (event_key, ordinal) IN (SELECT value ->> 0, value ->> 1 FROM json_each(:delivery_keys))
"""
_NOTE_FAILURES = """
    UPDATE webhook_deliveries SET attempts = w.value ->> 2, step = w.value ->> 3, next_attempt_at_us = w.value ->> 4,
                                  last_attempt_at_us = w.value ->> 5, error = w.value ->> 6
    FROM json_each(:failures) AS w
    WHERE event_key = w.value ->> 0 AND ordinal = w.value ->> 1
"""
_NOTE_DELAYS = """
    UPDATE webhook_deliveries SET step = w.value ->> 2, next_attempt_at_us = w.value ->> 3
    FROM json_each(:delays) AS w
    WHERE event_key = w.value ->> 0 AND ordinal = w.value ->> 1
"""
_DROP_QUEUE = """
    DELETE FROM webhook_deliveries WHERE (event_key, ordinal) IN (
        SELECT event_key, ordinal FROM webhook_deliveries
        WHERE tenant_key = :tenant_key AND next_attempt_at_us IS NOT NULL AND ordinal > 0 LIMIT :limit)
"""
_DROP_EVENTS = """
    DELETE FROM webhook_events WHERE event_key IN (
        SELECT event_key FROM webhook_events WHERE tenant_key = :tenant_key LIMIT :limit)
"""

_DEAD_LETTER = f"""
    SELECT d.last_attempt_at_us, d.event_key, d.ordinal, iif(d.event IS NOT NULL, 2, d.room_key IS NULL),
        CAST(iif(t.deleted_at_us IS NOT NULL, '', iif(d.event IS NOT NULL,
        json_patch('{{}}', json_object('id', printf('{ID_PREFIX}%016x%08x', d.event_key, d.ordinal),
            'tenant_id', t.tenant_id, 'event', d.event, 'room_id', r.room_id, 'seq', d.seq,
            'user_id', nullif(d.user_id, '{NOBODY}'),
            'report_id', iif(d.event = 'message.reported', printf('report_%016x', d.event_key), NULL),
            'attempts', d.attempts, 'last_attempt_at', {_TIME.format("d.last_attempt_at_us")}, 'error', d.error)),
        iif(d.room_key IS NULL,
        json_object('id', printf('{ID_PREFIX}%016x%08x', d.event_key, d.ordinal), 'tenant_id', t.tenant_id,
            'user_id', d.user_id, 'notification_id', printf('notif_%016x', d.event_key), 'topic', n.topic,
            'attempts', d.attempts, 'last_attempt_at', {_TIME.format("d.last_attempt_at_us")}, 'error', d.error),
        json_object('id', printf('{ID_PREFIX}%016x%08x', d.event_key, d.ordinal), 'tenant_id', t.tenant_id,
            'user_id', d.user_id, 'message_id', printf('msg_%016x', d.event_key), 'room_id', r.room_id,
            'attempts', d.attempts, 'last_attempt_at', {_TIME.format("d.last_attempt_at_us")}, 'error', d.error))))
        AS BLOB)
"""
_DEAD_LETTER_PARTS = """
    CROSS JOIN tenants AS t ON t.tenant_key = d.tenant_key
    LEFT JOIN rooms AS r ON r.room_key = d.room_key
    LEFT JOIN notifications AS n ON d.room_key IS NULL AND n.notification_key = d.event_key
"""
_PAGE_OF_DEAD = """
    AND last_attempt_at_us > 0
    AND (last_attempt_at_us, event_key, ordinal) < (:last_attempt_at_us, :event_key, :ordinal)
    ORDER BY last_attempt_at_us DESC, event_key DESC, ordinal DESC LIMIT :limit + 1 OFFSET :offset
"""
_LIST_DEAD = f"""
    {_DEAD_LETTER} FROM (
        SELECT * FROM webhook_deliveries WHERE next_attempt_at_us IS NULL {_PAGE_OF_DEAD}
    ) AS d {_DEAD_LETTER_PARTS}
"""
_LIST_DEAD_OF_TENANT = f"""
    {_DEAD_LETTER} FROM (
        SELECT * FROM webhook_deliveries WHERE tenant_key = :tenant_key AND next_attempt_at_us IS NULL {_PAGE_OF_DEAD}
    ) AS d {_DEAD_LETTER_PARTS}
"""
DEAD_START: Mapping[str, Value] = {"last_attempt_at_us": MAX_KEY, "event_key": MAX_KEY, "ordinal": MAX_KEY}
_FIND_DEAD = """
    SELECT tenant_key FROM webhook_deliveries
    WHERE event_key = :event_key AND ordinal = :ordinal AND next_attempt_at_us IS NULL
"""
_REQUEUE = """
    UPDATE webhook_deliveries SET attempts = 0, step = 0, next_attempt_at_us = :due_at_us
    WHERE event_key = :event_key AND ordinal = :ordinal AND tenant_key = :tenant_key AND next_attempt_at_us IS NULL
"""
_REQUEUE_OF_TENANT = """
    UPDATE webhook_deliveries SET attempts = 0, step = 0, next_attempt_at_us = :due_at_us
    WHERE (event_key, ordinal) IN (
        SELECT event_key, ordinal FROM webhook_deliveries
        WHERE tenant_key = :tenant_key AND next_attempt_at_us IS NULL AND last_attempt_at_us <= :until_us
        ORDER BY last_attempt_at_us LIMIT :limit)
"""
_NEWEST_DEAD = """
    SELECT coalesce(max(last_attempt_at_us), 0) FROM webhook_deliveries
    WHERE tenant_key = :tenant_key AND next_attempt_at_us IS NULL
"""
_EXPIRE = """
    DELETE FROM webhook_deliveries WHERE (event_key, ordinal) IN (
        SELECT event_key, ordinal FROM webhook_deliveries
        WHERE next_attempt_at_us IS NULL AND last_attempt_at_us < :before_us
          AND tenant_key NOT IN (SELECT value FROM json_each(:held)) LIMIT :limit)
"""


def encode_delivery_id(key: DeliveryKey) -> str:
    """The `webhook-id`, and the `id` of a dead letter."""
    return f"{ID_PREFIX}{key.event_key:016x}{key.ordinal:08x}"


def parse_delivery_id(delivery_id: str) -> DeliveryKey | None:
    """The key in an id that `encode_delivery_id` made, or None for any other text."""
    digits = delivery_id.removeprefix(ID_PREFIX)
    if len(digits) != 24 or not digits.isascii() or not digits.isalnum():
        return None
    try:
        key = DeliveryKey(int(digits[:16], 16), int(digits[16:], 16))
    except ValueError:
        return None
    return key if encode_delivery_id(key) == delivery_id and key.event_key < 1 << 63 else None


def _encode(keys: Sequence[DeliveryKey]) -> str:
    return dumps_text([tuple(key) for key in keys])


async def insert_deliveries(transaction: Transaction, rows: Sequence[Sequence[object]]) -> None:
    """`rows` have the columns that `INSERT_DELIVERIES` names."""
    await transaction.execute(INSERT_DELIVERIES, {"rows": dumps_text(rows)})


async def insert_event(transaction: Transaction, row: Sequence[object]) -> None:
    """`row` has the columns that `INSERT_EVENTS` names."""
    await transaction.execute(INSERT_EVENTS, {"rows": dumps_text([row])})


async def read_excluded(readers: Readers, tenant_key: TenantKey) -> ExcludedUsers | None:
    """Of the tenant's oldest event that is not done; None if there is no event, or nobody is excluded."""
    rows = await readers.fetch(_LIST_EXCLUDED, {"tenant_key": tenant_key, "size": PART_USERS})
    return ExcludedUsers(rows[0][0], [row[1] for row in rows], [row[2] for row in rows]) if rows else None


async def expand_event(
    transaction: Transaction, tenant_key: TenantKey, limit: int, excluded: ExcludedUsers | None
) -> Expansion:
    """Looks at the next `limit` recipients of the tenant's oldest event that is not done, and makes their deliveries.
    Users who have acknowledged it or left the room meanwhile are passed over. `excluded` may be of another event."""
    event = await transaction.fetch_one(_FIND_EVENT, {"tenant_key": tenant_key})
    if event is None:
        return Expansion.NO_EVENT
    event_key, room_key, seq, due_at_us, last_user_id, deliveries, mentioned, mention_room, decided_key = event
    scope = {"tenant_key": tenant_key, "event_key": event_key}
    given = {**scope, "room_key": room_key, "last_user_id": last_user_id, "limit": limit}
    end = await transaction.fetch_one(_END_OF_RECIPIENTS if room_key is None else _END_OF_MEMBERS, given)
    end_user_id = AFTER_ALL if end is None else end[0]
    left_out = await _find_excluded(transaction, scope, excluded, last_user_id, end_user_id)
    if left_out is None:
        return Expansion.NEEDS_LIST
    given = {**given, "end_user_id": end_user_id, "due_at_us": due_at_us, "deliveries": deliveries}
    if room_key is None:
        made = await transaction.execute(_EXPAND_NOTIFICATION, {**given, "excluded": left_out})
    else:
        message = {"seq": seq, "mentioned": mentioned, "mention_room": mention_room, "decided_key": decided_key}
        made = await transaction.execute(_EXPAND_MESSAGE, {**given, **message, "excluded": left_out})
    if end is None:
        await transaction.execute(_DELETE_EVENT, scope)
        return Expansion.DONE
    progress = {"last_user_id": end_user_id, "deliveries": deliveries + made}
    await transaction.execute(_ADVANCE_EVENT, {**scope, **progress})
    return Expansion.STEP


async def _find_excluded(
    transaction: Transaction, scope: Mapping[str, int], excluded: ExcludedUsers | None, after: str, until: str
) -> str | None:
    """JSON arrays in one, with all of the event's excluded users between two ids; None if they have to be read."""
    if excluded is not None and excluded.event_key == scope["event_key"]:
        return excluded.find_parts(after, until)
    row = await transaction.fetch_one(_IS_LONG, {**scope, "most": SHORT_LIST})
    if row is not None and row[0]:
        return None
    row = await transaction.fetch_one(_GET_EXCLUDED, scope)
    return "[]" if row is None else f"[{row[0]}]"


async def list_tenants_with_work(readers: Readers, tenant_keys: Sequence[TenantKey]) -> set[TenantKey]:
    """The tenants that have calls to make, now or later."""
    rows = await readers.fetch(_TENANTS_WITH_WORK, {"tenant_keys": dumps_text(tenant_keys)})
    return {TenantKey(row[0]) for row in rows}


async def count_waiting(readers: Readers, limit: int) -> int:
    """How many deliveries of all tenants wait, due or not, counted to `limit`."""
    row = await readers.fetch_one(_COUNT_WAITING, {"limit": limit})
    assert row is not None  # an aggregate
    return int(row[0])


async def list_next(
    readers: Readers, tenant_key: TenantKey, under_way: Sequence[DeliveryKey], limit: int
) -> list[WaitingDelivery]:
    """The tenant's next deliveries in the order of time, due or not, except those that are under way."""
    rows = await readers.fetch(_LIST_NEXT, {"tenant_key": tenant_key, "under_way": _encode(under_way), "limit": limit})
    return [WaitingDelivery(DeliveryKey(row[0], row[1]), UserId(row[2]), *row[3:]) for row in rows]


async def read_bodies(readers: Readers, wants: Sequence[tuple[TenantKey, DeliveryKey]]) -> list[bytes | None]:
    """The body to POST for each delivery, as the message is now; None where a call has become pointless."""
    bodies: list[bytes | None] = [None] * len(wants)
    wanted = dumps_text([(tenant_key, *key) for tenant_key, key in wants])
    for want, body in await readers.fetch(_READ_BODIES, {"wanted": wanted}):
        bodies[want] = None if body is None else body.encode()
    return bodies


async def record(
    transaction: Transaction, done: Sequence[DeliveryKey], delays: Sequence[Delay], failures: Sequence[Failure]
) -> None:
    """Stores what tries came to: calls that are done are deleted, the others noted with their next time."""
    if done:
        await transaction.execute(_DELETE_DELIVERIES, {"delivery_keys": _encode(done)})
    if delays:
        await transaction.execute(_NOTE_DELAYS, {"delays": dumps_text([(*row.key, *row[1:]) for row in delays])})
    if failures:
        await transaction.execute(_NOTE_FAILURES, {"failures": dumps_text([(*row.key, *row[1:]) for row in failures])})


def drop_queue(tenant_key: TenantKey, connection: SqliteConnection, is_over: Callable[[], bool]) -> tuple[int, bool]:
    """One step of forgetting what a tenant's webhook was still to get: how many calls, and whether there may be more.
    Dead letters stay."""
    scope = {"tenant_key": tenant_key, "limit": CHUNK_ROWS}
    dropped = 0
    for statement in (_DROP_EVENTS, _DROP_QUEUE, backend_events.DROP_EVENTS):
        while gone := connection.execute(statement, scope).rowcount:
            dropped += gone
            if is_over():
                return dropped, True
    return dropped, False


async def list_dead(readers: Readers, tenant_key: TenantKey | None, window: Window) -> tuple[Page, Page, Page]:
    """Messages, notifications and other events of one page, the latest first, of one tenant or of all."""
    if tenant_key is None:
        rows, has_more = await readers.fetch_window(_LIST_DEAD, {}, window, DEAD_START)
    else:
        scope = {"tenant_key": tenant_key}
        rows, has_more = await readers.fetch_window(_LIST_DEAD_OF_TENANT, scope, window, DEAD_START)
    last = rows[-1][: len(DEAD_START)] if has_more else None
    # Those of a deleted tenant are shown to nobody, but count as items of the page until they are purged.
    messages, notifications, events = ([row[-1] for row in rows if row[-2] == kind and row[-1]] for kind in range(3))
    return Page(messages, last), Page(notifications, last), Page(events, last)


async def find_dead(transaction: Transaction, key: DeliveryKey) -> TenantKey | None:
    """The tenant whose dead letter this is, or None if it is none."""
    row = await transaction.fetch_one(_FIND_DEAD, key._asdict())
    return None if row is None else TenantKey(row[0])


async def requeue(transaction: Transaction, tenant_key: TenantKey, key: DeliveryKey, due_at_us: int) -> None:
    """Puts a dead letter back into the queue."""
    await transaction.execute(_REQUEUE, {**key._asdict(), "tenant_key": tenant_key, "due_at_us": due_at_us})


async def find_newest_dead_us(readers: Readers, tenant_key: TenantKey) -> int:
    """The last attempt of the tenant's newest dead letter, in microseconds; 0 when it has none."""
    row = await readers.fetch_one(_NEWEST_DEAD, {"tenant_key": tenant_key})
    assert row is not None  # an aggregate
    return int(row[0])


async def requeue_of_tenant(
    transaction: Transaction, tenant_key: TenantKey, until_us: int, due_at_us: int, limit: int
) -> int:
    """Puts dead letters whose last attempt was not after `until_us` back into the queue; returns how many."""
    return await transaction.execute(
        _REQUEUE_OF_TENANT,
        {"tenant_key": tenant_key, "until_us": until_us, "due_at_us": due_at_us, "limit": limit},
    )


def expire_dead(
    before_us: int, held: list[TenantKey], connection: SqliteConnection, is_over: Callable[[], bool]
) -> bool:
    """One step of deleting dead letters whose last attempt was before that; whether there may be more to do. Those of
    tenants that are held stay."""
    scope = {"before_us": before_us, "held": dumps_text(held), "limit": CHUNK_ROWS}
    while connection.execute(_EXPIRE, scope).rowcount:
        if is_over():
            return True
    return False
