"""Notifications, their recipients, and subscriptions to topics in SQL."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chatapi.errors import not_found
from chatapi.models import RoomKey, TenantKey, UserId
from chatapi.protocol.json import MAX_KEY, dumps_text, loads_stored
from chatapi.protocol.pages import Page, Value, Window
from chatapi.protocol.wire import encode_text
from chatapi.store.readers import Readers
from chatapi.store.transaction import Row, SqliteConnection, Transaction

# The fields of the frame `notification`, as `chatapi.notifications` makes them in Python.
FIELDS = """
    'notification_id', printf('notif_%016x', n.notification_key), 'topic', n.topic, 'payload', json(n.payload),
    'created_at', strftime('%Y-%m-%dT%H:%M:%S', n.created_at_us / 1000000, 'unixepoch')
        || printf('.%06dZ', n.created_at_us % 1000000)
"""

# Without INDEXED BY, SQLite takes the primary key and walks over all that the user has acknowledged.
_PENDING = "notification_recipients AS p INDEXED BY notification_recipients_pending"

# In the order of the index, so that payloads that do not fit are not read.
_READ_PENDING = f"""
    SELECT n.notification_key, CAST(json_object('type', 'notification', {FIELDS}) AS BLOB)
    FROM {_PENDING} CROSS JOIN notifications AS n
    WHERE p.tenant_key = :tenant_key AND p.user_id = :user_id AND p.acked_at_us IS NULL
      AND p.notification_key > :after_key AND n.notification_key = p.notification_key AND n.tenant_key = p.tenant_key
    ORDER BY p.notification_key LIMIT :limit + 1
"""

_HAVE_PENDING = f"""
    SELECT w.key FROM json_each(:users) AS w
    WHERE EXISTS (SELECT 1 FROM {_PENDING}
        WHERE p.tenant_key = w.value ->> 0 AND p.user_id = w.value ->> 1 AND p.acked_at_us IS NULL)
"""

_INSERT_NOTIFICATION = """
    INSERT INTO notifications (notification_key, tenant_key, topic, payload, created_at_us)
    VALUES (:notification_key, :tenant_key, :topic, :payload, :now_us)
"""
# Of each kind of target the next users, as one row: a row for each would wait for the GIL each time. The plus keeps
# SQLite from walking over all memberships of the tenant.
_NEXT_MEMBERS = """
    SELECT json_group_array(user_id), count(*), max(user_id) FROM (
        SELECT user_id FROM members
        WHERE room_key = :room_key AND +tenant_key = :tenant_key AND user_id > :last_user_id
        ORDER BY user_id LIMIT :limit)
"""
_NEXT_SUBSCRIBERS = """
    SELECT json_group_array(user_id), count(*), max(user_id) FROM (
        SELECT user_id FROM subscriptions
        WHERE tenant_key = :tenant_key AND topic = :topic AND user_id > :last_user_id
        ORDER BY user_id LIMIT :limit)
"""
# The primary key folds those who are named by several targets.
_INSERT_USERS = """
    INSERT OR IGNORE INTO notification_recipients (tenant_key, user_id, notification_key)
    SELECT :tenant_key, value, :notification_key FROM json_each(:user_ids)
"""
_COUNT_SUBSCRIBERS = """
    SELECT count(*) FROM (
        SELECT 1 FROM subscriptions WHERE tenant_key = :tenant_key AND topic = :topic LIMIT :limit)
"""
_INSERT_UNFINISHED = """
    INSERT INTO unfinished_notifications (tenant_key, notification_key, room_key, topic, last_user_id)
    VALUES (:tenant_key, :notification_key, :room_key, :topic, :last_user_id)
"""
_GET_UNFINISHED = """
    SELECT room_key, topic, last_user_id FROM unfinished_notifications
    WHERE tenant_key = :tenant_key AND notification_key = :notification_key
"""
_UPDATE_UNFINISHED = """
    UPDATE unfinished_notifications SET room_key = :room_key, topic = :topic, last_user_id = :last_user_id
    WHERE tenant_key = :tenant_key AND notification_key = :notification_key
"""
_DELETE_UNFINISHED = """
    DELETE FROM unfinished_notifications WHERE tenant_key = :tenant_key AND notification_key = :notification_key
"""
_LIST_UNFINISHED = """
    SELECT u.tenant_key, u.notification_key, n.topic, n.payload, n.created_at_us
    FROM unfinished_notifications AS u CROSS JOIN notifications AS n
    WHERE n.notification_key = u.notification_key AND n.tenant_key = u.tenant_key
"""
# As one row, since a row for each would wait for the GIL each time.
_LIST_RECIPIENTS = """
    SELECT json_group_array(user_id) FROM (
        SELECT user_id FROM notification_recipients
        WHERE notification_key = :notification_key AND tenant_key = :tenant_key AND user_id > :last_user_id
        ORDER BY user_id LIMIT :limit)
"""
_ACKNOWLEDGE = """
    UPDATE notification_recipients SET acked_at_us = coalesce(acked_at_us, :now_us)
    WHERE tenant_key = :tenant_key AND user_id = :user_id AND notification_key = :notification_key
"""

_ITEM = f"""
    json_object({FIELDS},
        'status', iif(page.acked_at_us IS NULL, 'pending', 'delivered'),
        'acked_at', iif(page.acked_at_us IS NULL, NULL,
            strftime('%Y-%m-%dT%H:%M:%S', page.acked_at_us / 1000000, 'unixepoch')
                || printf('.%06dZ', page.acked_at_us % 1000000)))
"""
# The newest first. The page is cut before its payloads are read.
_OF_USER = "p.tenant_key = :tenant_key AND p.user_id = :user_id AND p.notification_key < :notification_key"
_NEWEST_FIRST = "ORDER BY p.notification_key DESC LIMIT :limit + 1 OFFSET :offset"
# In the page's own order: to sort them, all payloads would be read before the first one is returned.
_PAGE = """
    AS page CROSS JOIN notifications AS n
    WHERE n.notification_key = page.notification_key AND n.tenant_key = :tenant_key
"""
_LIST_ALL = f"""
    SELECT page.notification_key, CAST({_ITEM} AS BLOB) FROM (
        SELECT * FROM notification_recipients AS p WHERE {_OF_USER} {_NEWEST_FIRST}
    ) {_PAGE}
"""
_LIST_PENDING = f"""
    SELECT page.notification_key, CAST({_ITEM} AS BLOB) FROM (
        SELECT * FROM {_PENDING} WHERE {_OF_USER} AND p.acked_at_us IS NULL {_NEWEST_FIRST}
    ) {_PAGE}
"""
_LIST_DELIVERED = f"""
    SELECT page.notification_key, CAST({_ITEM} AS BLOB) FROM (
        SELECT * FROM notification_recipients AS p INDEXED BY notification_recipients_delivered
        WHERE {_OF_USER} AND p.acked_at_us IS NOT NULL {_NEWEST_FIRST}
    ) {_PAGE}
"""
LIST_START: Mapping[str, Value] = {"notification_key": MAX_KEY}
_LISTS: Mapping[str, str] = {"all": _LIST_ALL, "pending": _LIST_PENDING, "delivered": _LIST_DELIVERED}

_FIND_SUBSCRIPTION = """
    SELECT subscription_key, created_at_us FROM subscriptions
    WHERE tenant_key = :tenant_key AND topic = :topic AND user_id = :user_id
"""
_INSERT_SUBSCRIPTION = """
    INSERT INTO subscriptions (subscription_key, tenant_key, user_id, topic, created_at_us)
    VALUES (:subscription_key, :tenant_key, :user_id, :topic, :now_us)
"""
_LIST_SUBSCRIPTIONS = """
    SELECT s.subscription_key, CAST(json_object('subscription_id', printf('sub_%016x', s.subscription_key),
        'topic', s.topic, 'created_at', strftime('%Y-%m-%dT%H:%M:%S', s.created_at_us / 1000000, 'unixepoch')
            || printf('.%06dZ', s.created_at_us % 1000000)) AS BLOB)
    FROM subscriptions AS s
    WHERE s.tenant_key = :tenant_key AND s.user_id = :user_id AND s.subscription_key > :subscription_key
    ORDER BY s.subscription_key LIMIT :limit + 1 OFFSET :offset
"""
SUBSCRIPTIONS_START: Mapping[str, Value] = {"subscription_key": 0}
_DELETE_SUBSCRIPTION = """
    DELETE FROM subscriptions
    WHERE subscription_key = :subscription_key AND tenant_key = :tenant_key AND user_id = :user_id
"""

RECIPIENTS_AT_ONCE = 500  # stored by one statement, 2 to 6 ms

Pending = tuple[list[tuple[int, bytes]], bool]


class RemainingTargets(NamedTuple):
    """The rest of a notification's targets: the members of a room after a user, then the subscribers of a topic."""

    room_key: RoomKey | None
    topic: str | None
    last_user_id: str = ""

    @property
    def is_empty(self) -> bool:
        return self.room_key is None and self.topic is None

    def after(self, user_id: str) -> "RemainingTargets":
        return self._replace(last_user_id=user_id)

    def without_first(self) -> "RemainingTargets":
        return RemainingTargets(None, None if self.room_key is None else self.topic)


class Unfinished(NamedTuple):
    """A notification some of whose recipients have still to be stored."""

    tenant_key: TenantKey
    notification_key: int
    topic: str
    payload: str  # JSON
    created_at_us: int


async def have_pending(readers: Readers, users: Sequence[tuple[TenantKey, UserId]]) -> list[bool]:
    """For each (tenant_key, user_id) whether there is anything that the user has not acknowledged."""
    found = {user for (user,) in await readers.fetch(_HAVE_PENDING, {"users": dumps_text(users)})}
    return [user in found for user in range(len(users))]


async def read_pending(
    readers: Readers, wants: Sequence[tuple[TenantKey, UserId, int]], limit: int, max_bytes: int
) -> list[Pending]:
    """For each (tenant_key, user_id, after_key) what the user has not acknowledged, oldest first, at most `limit` and
    `max_bytes` but at least one: (notification_key, encoded frame); and whether there is more."""
    names = ("tenant_key", "user_id", "after_key")
    parameters = [{**dict(zip(names, want, strict=True)), "limit": limit} for want in wants]
    pages = await readers.fetch_pages(_READ_PENDING, parameters, max_bytes)
    return [([(key, encode_text(frame)) for key, frame in rows], has_more) for rows, has_more in pages]


async def insert_notification(
    transaction: Transaction, tenant_key: TenantKey, notification_key: int, topic: str, payload: str
) -> None:
    """`payload` is JSON."""
    await transaction.execute(
        _INSERT_NOTIFICATION,
        {
            "tenant_key": tenant_key,
            "notification_key": notification_key,
            "topic": topic,
            "payload": payload,
            "now_us": transaction.now_us,
        },
    )


def insert_recipients(
    tenant_key: TenantKey, notification_key: int, remaining: RemainingTargets, connection: SqliteConnection
) -> tuple[list[UserId], RemainingTargets]:
    """Stores the next recipients. Returns them, some of whom may have been recipients before, and what remains."""
    scope = {"tenant_key": tenant_key, "notification_key": notification_key}
    statement = _NEXT_SUBSCRIBERS if remaining.room_key is None else _NEXT_MEMBERS
    parameters = {**scope, **remaining._asdict(), "limit": RECIPIENTS_AT_ONCE}
    user_ids, count, last = connection.execute(statement, parameters).fetchone()
    connection.execute(_INSERT_USERS, {**scope, "user_ids": user_ids})
    return loads_stored(user_ids), remaining.after(last) if count == RECIPIENTS_AT_ONCE else remaining.without_first()


def insert_all_recipients(
    tenant_key: TenantKey, notification_key: int, remaining: RemainingTargets, connection: SqliteConnection
) -> list[UserId]:
    """As `insert_recipients`, until nothing remains."""
    recipients: list[UserId] = []
    while not remaining.is_empty:
        found, remaining = insert_recipients(tenant_key, notification_key, remaining, connection)
        recipients += found
    return recipients


async def count_subscribers(readers: Readers, tenant_key: TenantKey, topic: str, limit: int) -> int:
    """Counted to `limit`."""
    row = await readers.fetch_one(_COUNT_SUBSCRIBERS, {"tenant_key": tenant_key, "topic": topic, "limit": limit})
    assert row is not None  # an aggregate
    return int(row[0])


async def insert_users(
    transaction: Transaction, tenant_key: TenantKey, notification_key: int, user_ids: Sequence[str]
) -> None:
    """The recipients who are named one by one."""
    scope = {"tenant_key": tenant_key, "notification_key": notification_key}
    await transaction.execute(_INSERT_USERS, {**scope, "user_ids": dumps_text(user_ids)})


async def insert_unfinished(
    transaction: Transaction, tenant_key: TenantKey, notification_key: int, remaining: RemainingTargets
) -> None:
    """Notes what remains of the targets. `insert_more_recipients` goes on with it, also after a restart."""
    scope = {"tenant_key": tenant_key, "notification_key": notification_key}
    await transaction.execute(_INSERT_UNFINISHED, {**scope, **remaining._asdict()})


def insert_more_recipients(
    tenant_key: TenantKey, notification_key: int, connection: SqliteConnection
) -> tuple[list[UserId], bool]:
    """As `insert_recipients` of one that is unfinished; and whether something remains. Raises ChatError NOT_FOUND if it
    was deleted meanwhile, since it was too old."""
    scope = {"tenant_key": tenant_key, "notification_key": notification_key}
    row = connection.execute(_GET_UNFINISHED, scope).fetchone()
    if row is None:
        raise not_found("Notification")
    recipients, remaining = insert_recipients(tenant_key, notification_key, RemainingTargets(*row), connection)
    connection.execute(_UPDATE_UNFINISHED, {**scope, **remaining._asdict()})
    return recipients, not remaining.is_empty


async def finish(transaction: Transaction, tenant_key: TenantKey, notification_key: int) -> None:
    """All of its recipients are stored. Raises as `insert_more_recipients`."""
    scope = {"tenant_key": tenant_key, "notification_key": notification_key}
    if not await transaction.execute(_DELETE_UNFINISHED, scope):
        raise not_found("Notification")


async def give_up(transaction: Transaction, tenant_key: TenantKey, notification_key: int) -> None:
    """No more recipients are stored."""
    scope = {"tenant_key": tenant_key, "notification_key": notification_key}
    await transaction.execute(_DELETE_UNFINISHED, scope)


async def list_unfinished(readers: Readers) -> list[Unfinished]:
    """Of all tenants those that a stop has interrupted."""
    return [Unfinished(TenantKey(row[0]), *row[1:]) for row in await readers.fetch(_LIST_UNFINISHED, {})]


async def list_recipients(
    readers: Readers, tenant_key: TenantKey, notification_key: int, last_user_id: UserId, limit: int
) -> list[UserId]:
    """The next of those who are stored, in the order of their ids."""
    scope = {"tenant_key": tenant_key, "notification_key": notification_key}
    row = await readers.fetch_one(_LIST_RECIPIENTS, {**scope, "last_user_id": last_user_id, "limit": limit})
    assert row is not None  # an aggregate
    recipients: list[UserId] = loads_stored(row[0])
    return recipients


async def acknowledge(transaction: Transaction, tenant_key: TenantKey, user_id: UserId, notification_key: int) -> bool:
    """False when the user has no such notification. The first acknowledgement's time stays."""
    changed = await transaction.execute(
        _ACKNOWLEDGE,
        {
            "tenant_key": tenant_key,
            "user_id": user_id,
            "notification_key": notification_key,
            "now_us": transaction.now_us,
        },
    )
    return changed > 0


async def list_of_user(readers: Readers, tenant_key: TenantKey, user_id: UserId, status: str, window: Window) -> Page:
    """The user's notifications, the newest first. `status`: pending, delivered or all."""
    scope = {"tenant_key": tenant_key, "user_id": user_id}
    return await readers.fetch_list(_LISTS[status], scope, window, LIST_START)


async def find_subscription(transaction: Transaction, tenant_key: TenantKey, user_id: UserId, topic: str) -> Row | None:
    """(subscription_key, created_at_us)"""
    return await transaction.fetch_one(
        _FIND_SUBSCRIPTION, {"tenant_key": tenant_key, "user_id": user_id, "topic": topic}
    )


async def insert_subscription(
    transaction: Transaction, tenant_key: TenantKey, user_id: UserId, topic: str, subscription_key: int
) -> None:
    await transaction.execute(
        _INSERT_SUBSCRIPTION,
        {
            "tenant_key": tenant_key,
            "user_id": user_id,
            "topic": topic,
            "subscription_key": subscription_key,
            "now_us": transaction.now_us,
        },
    )


async def list_subscriptions(readers: Readers, tenant_key: TenantKey, user_id: UserId, window: Window) -> Page:
    """The user's, the oldest first."""
    scope = {"tenant_key": tenant_key, "user_id": user_id}
    return await readers.fetch_list(_LIST_SUBSCRIPTIONS, scope, window, SUBSCRIPTIONS_START)


async def delete_subscription(
    transaction: Transaction, tenant_key: TenantKey, user_id: UserId, subscription_key: int
) -> bool:
    """False when the user has no such subscription."""
    changed = await transaction.execute(
        _DELETE_SUBSCRIPTION,
        {"tenant_key": tenant_key, "user_id": user_id, "subscription_key": subscription_key},
    )
    return changed > 0
