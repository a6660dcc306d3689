"""A small database as the server leaves it: two tenants, a group, a channel, a dm, edits, a pruned room."""

import sqlite3
from contextlib import closing
from pathlib import Path

from chatapi.models import encode_dm_key
from chatapi.store.epochs import renew_epochs
from chatapi.store.migrate import list_migrations
from chatapi.tenant_secrets import hash_key

NOW_US = 1_765_000_000_000_000

ROOMS = f"""
    INSERT INTO tenants (tenant_key, tenant_id, name, token_secret, created_at_us) VALUES
        (1, 'tenant_a', 'A', 'secret a', {NOW_US}), (2, 'tenant_b', 'B', 'secret b', {NOW_US});
    INSERT INTO api_keys (key_id, tenant_key, key_hash, created_at_us) VALUES ('key_a', 1, x'aa', {NOW_US});
    INSERT INTO rooms
        (room_key, tenant_key, room_id, type, unique_key, pruned_seq, created_by, created_at_us, updated_at_us)
        VALUES (1, 1, 'room_group', 'group', NULL, 0, 'alice', {NOW_US}, {NOW_US}),
               (2, 1, 'room_dm', 'dm', '{encode_dm_key("bob", "alice")}', 0, 'alice', {NOW_US}, {NOW_US}),
               (3, 2, 'room_pruned', 'channel', NULL, 7, 'carol', {NOW_US}, {NOW_US});
    INSERT INTO members (room_key, user_id, tenant_key, role, joined_at_us, last_ack, last_read) VALUES
        (1, 'alice', 1, 'admin', {NOW_US}, 5, 4), (1, 'bob', 1, 'member', {NOW_US}, 0, 0),
        (2, 'alice', 1, 'member', {NOW_US}, 0, 0), (2, 'bob', 1, 'member', {NOW_US}, 1, 1),
        (3, 'carol', 2, 'admin', {NOW_US}, 10, 10);
    INSERT INTO messages (message_key, room_key, seq, sender_id, content, created_at_us) VALUES
        (11, 1, 1, 'alice', 'one', {NOW_US}), (12, 1, 2, 'bob', 'two', {NOW_US}), (15, 1, 5, 'bob', 'five', {NOW_US}),
        (21, 2, 1, 'alice', 'hello', {NOW_US}),
        (38, 3, 8, 'carol', 'eight', {NOW_US}), (39, 3, 9, 'carol', 'nine', {NOW_US});
    INSERT INTO changes (room_key, seq, frame, message_key, created_at_us) VALUES
        (1, 3, NULL, 11, {NOW_US}), (1, 4, '{{"type": "member.joined"}}', NULL, {NOW_US}),
        (3, 10, NULL, 38, {NOW_US});
    INSERT INTO notifications (notification_key, tenant_key, topic, payload, created_at_us) VALUES
        (1, 1, 'news', '{{}}', {NOW_US});
    INSERT INTO notification_recipients (tenant_key, user_id, notification_key) VALUES (1, 'alice', 1);
"""


def make_database(path: Path, rows: str = ROOMS, *, newest: int | None = None) -> Path:
    """As a version made it whose newest schema that was; the present one, if none is given."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for _, script in list_migrations()[:newest]:
            connection.executescript(script)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.executescript(rows)
        renew_epochs(connection)
    return path


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def damage(path: Path, sql: str) -> None:
    """What no server would do."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(sql)


def add_big_room(path: Path, messages: int, *, api_key: str | None = None) -> str:
    """A room of tenant_a with that many messages of 1,000 characters and alice as its admin; `api_key` opens the tenant
    then. Returns the room's id."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(f"""
            BEGIN;
            INSERT INTO rooms (room_key, tenant_key, room_id, type, created_by, created_at_us, updated_at_us)
                VALUES (90, 1, 'room_big', 'group', 'alice', {NOW_US}, {NOW_US});
            INSERT INTO members (room_key, user_id, tenant_key, role, joined_at_us)
                VALUES (90, 'alice', 1, 'admin', {NOW_US});
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {messages})
                INSERT INTO messages (message_key, room_key, seq, sender_id, content, created_at_us)
                SELECT 1000 + i, 90, i, 'alice', hex(zeroblob(500)), {NOW_US} FROM n;
            COMMIT;
        """)
        if api_key is not None:
            connection.execute("UPDATE api_keys SET key_hash = ? WHERE key_id = 'key_a'", (hash_key(api_key),))
    return "room_big"
