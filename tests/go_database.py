"""Databases as the Go ChatAPI v0.1 leaves them, of every version that can be imported."""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

VERSIONS = (8, 9, 10, 11)
KEYS = {"tenant_one": "sk_one_0123456789", "tenant_two": "sk_two_0123456789"}

_SCHEMA = """
    CREATE TABLE schema_migrations (version TEXT PRIMARY KEY, applied_at DATETIME DEFAULT CURRENT_TIMESTAMP);
    CREATE TABLE tenants (
        tenant_id TEXT PRIMARY KEY, api_key TEXT NOT NULL UNIQUE, name TEXT NOT NULL, config TEXT,
        created_at DATETIME DEFAULT CURRENT_TIMESTAMP);
    CREATE TABLE rooms (
        room_id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, type TEXT NOT NULL, unique_key TEXT, name TEXT,
        last_seq INTEGER DEFAULT 0, created_at DATETIME DEFAULT CURRENT_TIMESTAMP);
    CREATE TABLE room_members (
        chatroom_id TEXT NOT NULL, user_id TEXT NOT NULL, tenant_id TEXT NOT NULL, role TEXT DEFAULT 'member',
        joined_at DATETIME DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (chatroom_id, user_id));
    CREATE TABLE messages (
        message_id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, chatroom_id TEXT NOT NULL, sender_id TEXT NOT NULL,
        seq INTEGER NOT NULL, content TEXT NOT NULL, meta TEXT, created_at DATETIME DEFAULT CURRENT_TIMESTAMP);
    CREATE TABLE delivery_state (
        tenant_id TEXT NOT NULL, user_id TEXT NOT NULL, chatroom_id TEXT NOT NULL, last_ack INTEGER DEFAULT 0,
        updated_at DATETIME DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (tenant_id, user_id, chatroom_id));
    CREATE TABLE undelivered_messages (
        id INTEGER PRIMARY KEY, tenant_id TEXT, user_id TEXT, chatroom_id TEXT, message_id TEXT, seq INTEGER,
        attempts INTEGER DEFAULT 0, created_at DATETIME DEFAULT CURRENT_TIMESTAMP, last_attempt_at DATETIME);
    CREATE TABLE notifications (
        notification_id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, topic TEXT NOT NULL, payload TEXT NOT NULL,
        created_at DATETIME DEFAULT CURRENT_TIMESTAMP, status TEXT DEFAULT 'pending', attempts INTEGER DEFAULT 0,
        last_attempt_at DATETIME);
    CREATE TABLE notification_subscriptions (
        id INTEGER PRIMARY KEY, tenant_id TEXT NOT NULL, subscriber_id TEXT NOT NULL, topic TEXT NOT NULL,
        endpoint TEXT, metadata TEXT, created_at DATETIME DEFAULT CURRENT_TIMESTAMP);
"""

_ROWS = """
    INSERT INTO tenants VALUES
        ('tenant_one', 'sk_one_0123456789', 'One', '{"rate_limit": 50, "webhook_url": "https://example.com/", "x": 1}',
         '2024-01-01 00:00:00'),
        ('tenant_two', 'sk_two_0123456789', 'Two', NULL, '2024-01-02 00:00:00');
    INSERT INTO rooms VALUES
        ('room_dm', 'tenant_one', 'dm', 'dm:a:b:c', NULL, 1, '2024-02-01 00:00:00'),
        ('room_group', 'tenant_one', 'group', NULL, 'Team', 9, '2024-02-01T12:00:00.5Z'),
        ('room_channel', 'tenant_two', 'channel', NULL, 'News', 0, '2024-02-02 00:00:00');
    INSERT INTO room_members VALUES
        ('room_dm', 'c', 'tenant_one', 'member', '2024-02-01 00:00:00'),
        ('room_dm', 'a:b', 'tenant_one', 'admin', '2024-02-01 00:00:00'),
        ('room_group', 'carol', 'tenant_one', 'member', '2024-02-03 00:00:00'),
        ('room_group', 'alice', 'tenant_one', 'member', '2024-02-02 00:00:00'),
        ('room_group', 'bob smith', 'tenant_one', 'member', '2024-02-01 00:00:00'),
        ('room_channel', 'dora', 'tenant_two', 'member', '2024-02-02 00:00:00'),
        ('room_channel', 'erik', 'tenant_two', 'admin', '2024-02-03 00:00:00'),
        ('room_gone', 'alice', 'tenant_one', 'member', '2024-02-02 00:00:00');
    -- Gaps, a seq given twice, one second for several messages; stored in another order than sent.
    INSERT INTO messages VALUES
        ('9d2e-1', 'tenant_one', 'room_group', 'alice', 2, 'first', NULL, '2024-03-01 10:00:00'),
        ('1a2b-3', 'tenant_one', 'room_group', 'carol', 5, 'third', '{"a": 1}', '2024-03-01 10:00:00'),
        ('0c0d-2', 'tenant_one', 'room_group', 'bob smith', 5, 'second', 'not JSON', '2024-03-01 09:59:59'),
        ('ffff-4', 'tenant_one', 'room_group', 'alice', 9, '', '[1, 2]', '2024-03-01 10:00:01.25+01:00'),
        ('dddd-1', 'tenant_one', 'room_dm', 'c', 1, 'hi', NULL, '2024-03-01 10:00:00'),
        ('eeee-0', 'tenant_one', 'room_gone', 'c', 1, 'lost', NULL, '2024-03-01 10:00:00'),
        ('eeee-1', 'tenant_two', 'room_group', 'c', 1, 'of another tenant', NULL, '2024-03-01 10:00:00');
    INSERT INTO delivery_state VALUES
        ('tenant_one', 'alice', 'room_group', 7, '2024-03-02 00:00:00'),
        ('tenant_one', 'carol', 'room_group', 99, '2024-03-02 00:00:00'),
        ('tenant_one', 'bob smith', 'room_group', 2, '2024-03-02 00:00:00'),
        ('tenant_one', 'c', 'room_dm', 0, '2024-03-02 00:00:00');
    INSERT INTO notification_subscriptions (tenant_id, subscriber_id, topic, endpoint, created_at) VALUES
        ('tenant_one', 'alice', 'news', '', '2024-03-01 00:00:00'),
        ('tenant_one', 'alice', 'news', 'https://example.com/', '2024-03-02 00:00:00'),
        ('tenant_two', 'dora', 'news', 'https://example.com/', '2024-03-02 00:00:00'),
        ('tenant_two', 'do ra', 'news', NULL, '2024-03-02 00:00:00');
    INSERT INTO notifications (notification_id, tenant_id, topic, payload, created_at, status) VALUES
        ('n-1', 'tenant_one', 'news', '{"n": 1}', '2024-03-01 00:00:00', 'pending'),
        ('n-2', 'tenant_one', 'news', '{"n": 2}', '2024-03-02 00:00:00', 'delivered'),
        ('n-3', 'tenant_two', 'news', 'not JSON', '2024-03-03 00:00:00', 'processing');
"""

_MIGRATIONS = {
    10: """
        ALTER TABLE rooms ADD COLUMN metadata TEXT;
        UPDATE rooms SET metadata = CAST('{"colour": "red"}' AS BLOB) WHERE room_id = 'room_group';
        UPDATE rooms SET metadata = '"plain"' WHERE room_id = 'room_channel';
    """,
    11: """
        ALTER TABLE notifications ADD COLUMN targets TEXT;
        UPDATE notifications SET targets = '{"user_ids": ["zoe", "no id"], "room_id": "room_group"}'
        WHERE notification_id = 'n-1';
        UPDATE notifications SET targets = '{"topic_subscribers": true}' WHERE notification_id = 'n-3';
    """,
}


def make_go_database(path: Path, version: int = 11) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_SCHEMA + _ROWS)
        for number in range(9, version + 1):
            if number == 9:
                _hash_keys(connection)
            else:
                connection.executescript(_MIGRATIONS[number])
        for number in range(1, version + 1):
            connection.execute("INSERT INTO schema_migrations (version) VALUES (:name)", {"name": f"{number:03}_step"})
    return path


def _hash_keys(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE tenants RENAME COLUMN api_key TO api_key_hash")
    for tenant_id, key in KEYS.items():
        row = {"tenant_id": tenant_id, "hash": hashlib.sha256(key.encode()).hexdigest()}
        connection.execute("UPDATE tenants SET api_key_hash = :hash WHERE tenant_id = :tenant_id", row)
