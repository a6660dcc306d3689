"""An exported tenant as JSON lines, for people: no hashes, no secrets, and nothing that only a server needs."""

import sqlite3
from collections.abc import Iterator

from chatapi.store.log import MESSAGE_JSON
from chatapi.store.standalone import open_snapshot

_TIMES = "strftime('%Y-%m-%dT%H:%M:%S', {0} / 1000000, 'unixepoch') || printf('.%06dZ', {0} % 1000000)"


def _time(column: str) -> str:
    return f"iif({column} IS NULL, NULL, {_TIMES.format(column)})"


def _flag(condition: str) -> str:
    return f"json(iif({condition}, 'true', 'false'))"


_ROOM = "CROSS JOIN rooms AS r ON r.room_key = x.room_key"

# By table. A message's reactions, thread and mentions are in the message too, as a client gets it.
LINES = {
    "tenants": f"""
        json_object('type', 'tenant', 'tenant_id', x.tenant_id, 'name', x.name, 'config', json(x.config),
            'created_at', {_time("x.created_at_us")})
        FROM tenants AS x
    """,
    "api_keys": f"""
        json_object('type', 'key', 'key_id', x.key_id, 'created_at', {_time("x.created_at_us")},
            'last_used_at', {_time("x.last_used_at_us")})
        FROM api_keys AS x ORDER BY x.created_at_us, x.key_id
    """,
    "users": f"""
        json_object('type', 'profile', 'user_id', x.user_id, 'name', x.name, 'avatar_url', x.avatar_url,
            'metadata', json(x.metadata), 'last_seen', {_time("x.last_seen_at_us")},
            'created_at', {_time("x.created_at_us")}, 'updated_at', {_time("x.updated_at_us")})
        FROM users AS x ORDER BY x.user_id
    """,
    "blocks": f"""
        json_object('type', 'block', 'user_id', x.user_id, 'blocked_id', x.blocked_id,
            'created_at', {_time("x.created_at_us")})
        FROM blocks AS x ORDER BY x.user_id, x.blocked_id
    """,
    "user_bans": f"""
        json_object('type', 'ban', 'room_id', NULL, 'user_id', x.user_id, 'reason', x.reason,
            'until', {_time("x.until_us")}, 'created_by', NULL, 'created_at', NULL)
        FROM user_bans AS x ORDER BY x.user_id
    """,
    "rooms": f"""
        json_object('type', 'room', 'room_id', x.room_id, 'room_type', x.type, 'name', x.name,
            'unique_key', x.unique_key, 'metadata', json(x.metadata), 'posting', x.posting,
            'slow_mode_seconds', x.slow_mode_seconds, 'created_by', x.created_by,
            'created_at', {_time("x.created_at_us")}, 'updated_at', {_time("x.updated_at_us")})
        FROM rooms AS x ORDER BY x.room_key
    """,
    "members": f"""
        json_object('type', 'membership', 'room_id', r.room_id, 'user_id', x.user_id, 'role', x.role,
            'joined_at', {_time("x.joined_at_us")}, 'last_ack', x.last_ack, 'last_read', x.last_read,
            'notify', x.notify, 'hidden', {_flag("x.hidden_seq IS NOT NULL")})
        FROM members AS x {_ROOM} ORDER BY x.room_key, x.user_id
    """,
    "mutes": f"""
        json_object('type', 'mute', 'room_id', r.room_id, 'user_id', x.user_id, 'until', {_time("x.until_us")})
        FROM mutes AS x {_ROOM} ORDER BY x.room_key, x.user_id
    """,
    "bans": f"""
        json_object('type', 'ban', 'room_id', r.room_id, 'user_id', x.user_id, 'reason', x.reason,
            'until', {_time("x.until_us")}, 'created_by', x.created_by, 'created_at', {_time("x.created_at_us")})
        FROM bans AS x {_ROOM} ORDER BY x.room_key, x.user_id
    """,
    "messages": f"""
        json_insert({MESSAGE_JSON}, '$.type', 'message')
        FROM messages AS m CROSS JOIN rooms AS r ON r.room_key = m.room_key ORDER BY m.room_key, m.seq
    """,
    "reactions": f"""
        json_object('type', 'reaction', 'room_id', r.room_id, 'target_seq', x.target_seq, 'user_id', x.user_id,
            'emoji', x.emoji, 'created_at', {_time("x.created_at_us")})
        FROM reactions AS x {_ROOM} ORDER BY x.room_key, x.target_seq, x.seq
    """,
    "pins": f"""
        json_object('type', 'pin', 'room_id', r.room_id, 'target_seq', x.target_seq, 'user_id', x.user_id,
            'pinned_at', {_time("x.pinned_at_us")})
        FROM pins AS x {_ROOM} ORDER BY x.room_key, x.seq
    """,
    "reports": f"""
        json_object('type', 'report', 'report_id', printf('report_%016x', x.report_key), 'room_id', r.room_id,
            'target_seq', x.target_seq, 'user_id', x.user_id, 'reason', x.reason, 'message', json(x.message),
            'created_at', {_time("x.created_at_us")}, 'resolved_by', x.resolved_by,
            'resolved_at', {_time("x.resolved_at_us")})
        FROM reports AS x {_ROOM} ORDER BY x.report_key
    """,
    "subscriptions": f"""
        json_object('type', 'subscription', 'subscription_id', printf('sub_%016x', x.subscription_key),
            'user_id', x.user_id, 'topic', x.topic, 'created_at', {_time("x.created_at_us")})
        FROM subscriptions AS x ORDER BY x.subscription_key
    """,
    "notifications": f"""
        json_object('type', 'notification', 'notification_id', printf('notif_%016x', x.notification_key),
            'topic', x.topic, 'payload', json(x.payload), 'created_at', {_time("x.created_at_us")})
        FROM notifications AS x ORDER BY x.notification_key
    """,
    "notification_recipients": f"""
        json_object('type', 'recipient', 'notification_id', printf('notif_%016x', x.notification_key),
            'user_id', x.user_id, 'acked_at', {_time("x.acked_at_us")})
        FROM notification_recipients AS x ORDER BY x.notification_key, x.user_id
    """,
    "webhook_deliveries": f"""
        json_object('type', 'waiting_webhook', 'event_id', printf('%016x', x.event_key), 'room_id', r.room_id,
            'user_id', x.user_id, 'attempts', x.attempts, 'next_attempt_at', {_time("x.next_attempt_at_us")},
            'error', x.error, 'event', x.event)
        FROM webhook_deliveries AS x LEFT JOIN rooms AS r ON r.room_key = x.room_key
        ORDER BY x.event_key, x.ordinal
    """,
}

# Why these have no lines.
WITHOUT_LINES = {
    "traces": "only find a user's messages",
    "changes": "what they changed is told by what there is now",
    "mentions": "are in their messages",
    "threads": "the same",
    "reaction_counts": "the same",
    "emptied_messages": "rows that the server has yet to remove",
    "open_streams": "are told by their messages",
    "stream_chunks": "are in their messages",
    "erasures": "who was erased stays among the operators",
    "unfinished_notifications": "where the server was",
    "webhook_events": "the same",
}


def list_lines(path: str) -> Iterator[str]:
    """Lines without their ends, of a database that an export has made. Blocks. Raises UnusableDatabase."""
    with open_snapshot(path) as connection:
        for select in LINES.values():
            yield from _list(connection, select)
    yield '{"type":"end"}'


def _list(connection: sqlite3.Connection, select: str) -> Iterator[str]:
    for row in connection.execute(f"SELECT {select}"):
        yield row[0]
