"""The database of the Go ChatAPI v0.1, whatever its version, as the schema `old` and one set of views."""

import sqlite3
from collections.abc import Mapping, Sequence

from chatapi.store.go.values import is_user_id, parse_time
from chatapi.store.standalone import UnusableDatabase, find_read_uri

_COLUMNS = """
    SELECT t.name || '.' || c.name FROM old.sqlite_schema AS t, pragma_table_info(t.name, 'old') AS c
    WHERE t.type = 'table'
"""

# For each view the ways to make it, the first of which has the column that it needs: from migration 009 on keys are
# hashes, from 010 on rooms have metadata, from 011 on notifications have targets. JSON may have been stored as a BLOB,
# which is what Go's driver makes of bytes.
_VIEWS: Mapping[str, Sequence[tuple[str, str]]] = {
    "tenants": (
        (
            "tenants.api_key_hash",
            """
            CREATE TEMP VIEW old_tenants AS
            SELECT tenant_id, NULL AS api_key, api_key_hash, name, CAST(config AS TEXT) AS config, created_at
            FROM old.tenants
            """,
        ),
        (
            "tenants.api_key",
            """
            CREATE TEMP VIEW old_tenants AS
            SELECT tenant_id, api_key, NULL AS api_key_hash, name, CAST(config AS TEXT) AS config, created_at
            FROM old.tenants
            """,
        ),
    ),
    "rooms": (
        (
            "rooms.metadata",
            """
            CREATE TEMP VIEW old_rooms AS
            SELECT room_id, tenant_id, type, name, CAST(metadata AS TEXT) AS metadata, created_at FROM old.rooms
            """,
        ),
        (
            "rooms.room_id",
            """
            CREATE TEMP VIEW old_rooms AS
            SELECT room_id, tenant_id, type, name, NULL AS metadata, created_at FROM old.rooms
            """,
        ),
    ),
    "room_members": (
        (
            "room_members.chatroom_id",
            """
            CREATE TEMP VIEW old_members AS
            SELECT chatroom_id AS room_id, user_id, tenant_id, role, joined_at FROM old.room_members
            """,
        ),
    ),
    "messages": (
        (
            "messages.chatroom_id",
            """
            CREATE TEMP VIEW old_messages AS
            SELECT rowid AS source, message_id, tenant_id, chatroom_id AS room_id, CAST(sender_id AS TEXT) AS sender_id,
                   seq, CAST(content AS TEXT) AS content, CAST(meta AS TEXT) AS meta, created_at
            FROM old.messages
            """,
        ),
    ),
    "delivery_state": (
        (
            "delivery_state.last_ack",
            """
            CREATE TEMP VIEW old_acks AS
            SELECT tenant_id, user_id, chatroom_id AS room_id, last_ack FROM old.delivery_state
            """,
        ),
    ),
    "notifications": (
        (
            "notifications.targets",
            """
            CREATE TEMP VIEW old_notifications AS
            SELECT tenant_id, topic, CAST(payload AS TEXT) AS payload, created_at, status,
                   CAST(targets AS TEXT) AS targets
            FROM old.notifications
            """,
        ),
        (
            "notifications.topic",
            """
            CREATE TEMP VIEW old_notifications AS
            SELECT tenant_id, topic, CAST(payload AS TEXT) AS payload, created_at, status, NULL AS targets
            FROM old.notifications
            """,
        ),
    ),
    "notification_subscriptions": (
        (
            "notification_subscriptions.subscriber_id",
            """
            CREATE TEMP VIEW old_subscriptions AS
            SELECT tenant_id, CAST(subscriber_id AS TEXT) AS user_id, topic, endpoint, created_at
            FROM old.notification_subscriptions
            """,
        ),
    ),
}


def attach_old(connection: sqlite3.Connection, path: str) -> None:
    """Makes the old database readable, and only that: as views `old_tenants`, `old_rooms`, `old_members`,
    `old_messages`, `old_acks`, `old_notifications` and `old_subscriptions`, and times with `go_time(text)`.

    Raises UnusableDatabase.
    """
    connection.execute("ATTACH :uri AS old", {"uri": find_read_uri(path)})
    columns = {name for (name,) in connection.execute(_COLUMNS)}
    for table, ways in _VIEWS.items():
        statement = next((statement for column, statement in ways if column in columns), None)
        if statement is None:
            raise UnusableDatabase(f"{path}: not a database of the Go ChatAPI v0.1 (there is no usable table {table})")
        connection.execute(statement)
    # User ids are looked at as bytes: text that is not UTF-8 would not even get here.
    connection.create_function("go_time", 1, parse_time, deterministic=True)
    connection.create_function("is_user_id", 1, is_user_id, deterministic=True)
