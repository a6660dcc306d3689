import sqlite3
from contextlib import closing

import pytest
from driver import HandClock
from go_database import KEYS, VERSIONS, make_go_database
from sample_database import damage, make_database, query

from chatapi.models import encode_dm_key
from chatapi.store import importer, litestream
from chatapi.store.check import check_database
from chatapi.store.importer import CredentialMakers, import_go_database
from chatapi.store.keys import KEY_EPOCH_US
from chatapi.store.lock import DatabaseLock
from chatapi.store.standalone import UnusableDatabase
from chatapi.tenant_secrets import hash_key, make_key_id, make_secret

CREDENTIALS = CredentialMakers(make_key_id, make_secret, hash_key)

MESSAGES = """
    SELECT r.room_id, m.seq, m.imported_id, m.sender_id, m.content FROM messages AS m JOIN rooms AS r USING (room_key)
    ORDER BY r.room_id, m.seq
"""
GROUP = [
    ("room_group", 1, "9d2e-1", "alice", "first"),
    ("room_group", 2, "0c0d-2", "bob smith", "second"),
    ("room_group", 3, "1a2b-3", "carol", "third"),
    ("room_group", 4, "ffff-4", "alice", ""),
]
CURSORS = """
    SELECT r.room_id, m.user_id, m.role, m.last_ack, m.last_read FROM members AS m JOIN rooms AS r USING (room_key)
    ORDER BY r.room_id, m.user_id
"""


@pytest.fixture
def old(tmp_path):
    return make_go_database(tmp_path / "go.db")


@pytest.fixture
def new(tmp_path):
    return tmp_path / "chatapi.db"


def take_over(source, target):
    """The report; the database must be sound, and the counts must add up."""
    report = import_go_database(str(source), str(target), clock=HandClock(), credentials=CREDENTIALS)
    assert check_database(str(target)).findings == []
    for kind, count in report.counts.items():
        assert min(count.found, count.imported, count.present, count.skipped) >= 0, kind
    for kind in report.counts:
        skipped = [number for (about, what), number in report.remarks.items() if about == kind and "skipped" in what]
        assert sum(skipped) == report.counts[kind].skipped, kind
    return report


def dump(path):
    """All but the index of search, which SQLite does not read row by row."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(":memory:")) as copy:
        source.backup(copy)
        for table in ("search_entries", "search_vocabulary", "search_index"):
            copy.execute(f"DROP TABLE IF EXISTS {table}")
        return list(copy.iterdump())


def imported(report):
    return {kind: (count.found, count.imported, count.present, count.skipped) for kind, count in report.counts.items()}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_is_taken_over(tmp_path, new, version):
    report = take_over(make_go_database(tmp_path / "go.db", version), new)
    pending = 2 if version >= 11 else 0
    assert imported(report) == {
        "tenants": (2, 2, 0, 0),
        "API keys": (2, 2, 0, 0),
        "rooms": (3, 3, 0, 0),
        "members": (8, 6, 0, 2),
        "messages": (7, 5, 0, 2),
        "acks": (4, 3, 0, 1),
        "subscriptions": (4, 2, 1, 1),
        "notifications": (3, pending, 0, 3 - pending),
    }
    hashes = query(new, "SELECT tenant_id, key_hash FROM api_keys JOIN tenants USING (tenant_key) ORDER BY tenant_id")
    assert hashes == [(tenant_id, hash_key(key)) for tenant_id, key in KEYS.items()]
    assert query(new, MESSAGES) == [("room_dm", 1, "dddd-1", "c", "hi"), *GROUP]


def test_no_plain_key_gets_into_the_database(tmp_path, new):
    take_over(make_go_database(tmp_path / "go.db", 8), new)
    assert not any(key in line for line in dump(new) for key in KEYS.values())


def test_keys_of_messages_follow_the_time_and_the_old_order(old, new):
    take_over(old, new)
    ids = query(new, "SELECT imported_id FROM messages WHERE room_key = 2 ORDER BY message_key")
    assert ids == [("ffff-4",), ("0c0d-2",), ("9d2e-1",), ("1a2b-3",)]  # the first was sent in another time zone
    for message_key, created_at_us in query(new, "SELECT message_key, created_at_us FROM messages"):
        assert 0 <= (message_key >> 12) - (created_at_us - KEY_EPOCH_US) < 1000


def test_senders_who_are_no_members_are_found_by_their_traces(old, new):
    take_over(old, new)
    strangers = """
        SELECT DISTINCT m.room_key, m.sender_id, r.tenant_key FROM messages AS m JOIN rooms AS r USING (room_key)
        WHERE NOT EXISTS (SELECT 1 FROM members WHERE room_key = m.room_key AND user_id = m.sender_id) ORDER BY 1, 2
    """
    found = query(new, strangers)
    assert found
    assert query(new, "SELECT room_key, user_id, tenant_key FROM traces ORDER BY 1, 2") == found


def test_times_of_the_future_do_not_push_keys_ahead_of_the_clock(old, new):
    damage(old, "UPDATE messages SET created_at = '2090-01-01 00:00:00'")
    take_over(old, new)
    [(latest,)] = query(new, "SELECT max(message_key) FROM messages")
    assert (latest >> 12) + KEY_EPOCH_US < HandClock().now_us() + 1_000_000
    assert query(new, "SELECT DISTINCT created_at_us FROM messages") == [(3786912000000000,)]


def test_acks_follow_the_new_numbers(old, new):
    take_over(old, new)
    assert query(new, CURSORS) == [
        ("room_channel", "dora", "member", 0, 0),
        ("room_channel", "erik", "admin", 0, 0),
        ("room_dm", "a:b", "member", 0, 0),
        ("room_dm", "c", "member", 0, 0),
        ("room_group", "alice", "admin", 3, 3),  # 7 of 2, 5, 5, 9; and the longest-standing of those who may be here
        ("room_group", "carol", "member", 4, 4),
    ]


def test_rooms_keep_type_name_metadata_and_creator(old, new):
    take_over(old, new)
    assert query(new, "SELECT room_id, type, unique_key, name, metadata, created_by FROM rooms ORDER BY room_id") == [
        ("room_channel", "channel", None, "News", '{"imported":"plain"}', "dora"),
        ("room_dm", "dm", encode_dm_key("a:b", "c"), None, None, "a:b"),
        ("room_group", "group", None, "Team", '{"colour":"red"}', "alice"),
    ]
    assert query(new, "SELECT created_at_us FROM rooms WHERE room_id = 'room_group'") == [(1706788800500000,)]


def test_settings_that_hold_here_are_kept(old, new):
    report = take_over(old, new)
    assert query(new, "SELECT tenant_id, name, config FROM tenants ORDER BY tenant_id") == [
        ("tenant_one", "One", '{"rate_limit":50}'),
        ("tenant_two", "Two", "{}"),
    ]
    assert {what.split(":")[0] for kind, what in report.remarks if kind == "tenants"} == {
        "without the setting webhook_url",
        "without the setting x",
    }
    [(first,), (second,)] = query(new, "SELECT token_secret FROM tenants")
    assert first != second
    assert len(first) >= 32


def test_meta_that_is_no_object_is_kept_in_one(old, new):
    take_over(old, new)
    assert query(new, "SELECT imported_id, meta FROM messages WHERE meta IS NOT NULL ORDER BY imported_id") == [
        ("0c0d-2", '{"imported":"not JSON"}'),
        ("1a2b-3", '{"a":1}'),
        ("ffff-4", '{"imported":[1,2]}'),
    ]


def test_strange_text_does_not_stop_an_import(old, new):
    damage(
        old,
        """
        UPDATE messages SET content = 'a' || char(0) || 'b' WHERE message_id = '9d2e-1';
        UPDATE messages SET content = x'c3a9ff', created_at = 'yesterday' WHERE message_id = '1a2b-3';
        UPDATE messages SET meta = CAST('{"b": 2}' AS BLOB) WHERE message_id = 'ffff-4';
        UPDATE room_members SET user_id = CAST(x'616cff' AS TEXT) WHERE user_id = 'carol';
        UPDATE rooms SET type = 'thread' WHERE room_id = 'room_channel';
        """,
    )
    report = take_over(old, new)
    assert query(new, "SELECT imported_id, content, meta FROM messages WHERE room_key = 2 ORDER BY imported_id") == [
        ("0c0d-2", "second", '{"imported":"not JSON"}'),
        ("1a2b-3", "\u00e9\ufffd", '{"a":1}'),
        ("9d2e-1", "a\ufffdb", None),
        ("ffff-4", "", '{"b":2}'),
    ]
    assert query(new, "SELECT type FROM rooms WHERE room_id = 'room_channel'") == [("group",)]
    [(at, room_at)] = query(
        new,
        "SELECT m.created_at_us, r.created_at_us FROM messages AS m JOIN rooms AS r USING (room_key)"
        " WHERE imported_id = '1a2b-3'",
    )
    assert at == room_at
    assert report.counts["messages"].imported == 5


def test_dms_that_cannot_be_one_here_keep_their_messages_as_groups(old, new):
    damage(
        old,
        """
        INSERT INTO rooms (room_id, tenant_id, type, unique_key, created_at) VALUES
            ('room_again', 'tenant_one', 'dm', 'dm:a:b:c:2', '2024-02-02 00:00:00'),
            ('room_three', 'tenant_one', 'dm', NULL, '2024-02-03 00:00:00'),
            ('room_bad', 'tenant_one', 'dm', NULL, '2024-02-03 00:00:00');
        INSERT INTO room_members (chatroom_id, user_id, tenant_id) VALUES
            ('room_again', 'c', 'tenant_one'), ('room_again', 'a:b', 'tenant_one'),
            ('room_three', 'x', 'tenant_one'), ('room_three', 'y', 'tenant_one'), ('room_three', 'z', 'tenant_one'),
            ('room_bad', 'x', 'tenant_one'), ('room_bad', 'no id', 'tenant_one');
        INSERT INTO messages (message_id, tenant_id, chatroom_id, sender_id, seq, content) VALUES
            ('m-again', 'tenant_one', 'room_again', 'c', 1, ''), ('m-bad', 'tenant_one', 'room_bad', 'no id', 1, '');
        """,
    )
    report = take_over(old, new)
    assert query(new, "SELECT room_id, type FROM rooms WHERE unique_key IS NOT NULL") == [("room_dm", "dm")]
    assert query(new, "SELECT room_id FROM rooms WHERE type = 'group' ORDER BY 1") == [
        ("room_again",),
        ("room_bad",),
        ("room_group",),
        ("room_three",),
    ]
    assert report.counts["messages"].imported == 7
    assert (
        query(new, "SELECT count(*) FROM members WHERE role = 'admin' GROUP BY room_key ORDER BY room_key")
        == [(1,)] * 5
    )


def test_rows_of_no_usable_tenant_are_skipped_and_counted(old, new):
    damage(
        old,
        """
        INSERT INTO tenants (tenant_id, api_key_hash, name) VALUES ('', 'x', 'Nobody'), ('tenant_odd', 'no hash', '');
        INSERT INTO rooms (room_id, tenant_id, type) VALUES
            ('room_lost', 'tenant_gone', 'group'), ('', 'tenant_one', 'group');
        INSERT INTO messages (message_id, tenant_id, chatroom_id, sender_id, seq, content) VALUES
            ('m-lost', 'tenant_gone', 'room_lost', 'a', 1, '');
        INSERT INTO notification_subscriptions (tenant_id, subscriber_id, topic) VALUES ('tenant_gone', 'a', 'news');
        INSERT INTO notifications (notification_id, tenant_id, topic, payload) VALUES ('n-9', 'tenant_gone', 'x', '{}');
        """,
    )
    report = take_over(old, new)
    assert imported(report) == {
        "tenants": (4, 3, 0, 1),
        "API keys": (4, 2, 0, 2),
        "rooms": (5, 3, 0, 2),
        "members": (8, 6, 0, 2),
        "messages": (8, 5, 0, 3),
        "acks": (4, 3, 0, 1),
        "subscriptions": (5, 2, 1, 2),
        "notifications": (4, 2, 0, 2),
    }
    assert query(new, "SELECT name FROM tenants WHERE tenant_id = 'tenant_odd'") == [("tenant_odd",)]


def test_a_key_that_another_tenant_has_here_stays_theirs(old, new):
    make_database(new)
    row = {"hash": hash_key(KEYS["tenant_one"])}
    with closing(sqlite3.connect(new)) as connection, connection:
        connection.execute("UPDATE api_keys SET key_hash = :hash", row)
    report = take_over(old, new)
    assert imported(report)["API keys"] == (2, 1, 0, 1)
    assert query(new, "SELECT tenant_key, key_id FROM api_keys WHERE key_id = 'key_a'") == [(1, "key_a")]


def test_notifications_reach_their_recipients(old, new):
    take_over(old, new)
    assert query(
        new,
        "SELECT n.topic, n.payload, p.user_id FROM notifications AS n JOIN notification_recipients AS p"
        " USING (notification_key) ORDER BY n.notification_key, p.user_id",
    ) == [
        ("news", '{"n":1}', "alice"),
        ("news", '{"n":1}', "carol"),
        ("news", '{"n":1}', "zoe"),
        ("news", '"not JSON"', "dora"),
    ]


# Once more


def test_a_second_run_changes_nothing(old, new):
    take_over(old, new)
    before = dump(new)
    report = take_over(old, new)
    assert dump(new) == before
    assert [count.imported for count in report.counts.values()] == [0] * len(report.counts)


@pytest.mark.parametrize("part", range(6))
def test_an_interrupted_run_leaves_nothing_and_can_be_repeated(old, new, monkeypatch, part):
    make_database(new, "")
    before = dump(new)

    def fail(_run):
        raise KeyboardInterrupt

    parts = importer._PARTS
    monkeypatch.setattr(importer, "_PARTS", (*parts[: part + 1], fail))
    with pytest.raises(KeyboardInterrupt):
        take_over(old, new)
    assert dump(new) == before
    monkeypatch.setattr(importer, "_PARTS", parts)
    assert take_over(old, new).counts["messages"].imported == 5


def test_messages_after_the_first_run_are_appended(old, new):
    take_over(old, new)
    damage(
        old,
        """
        INSERT INTO messages (message_id, tenant_id, chatroom_id, sender_id, seq, content, created_at) VALUES
            ('new-2', 'tenant_one', 'room_group', 'dan', 12, 'sixth', '2024-03-01 10:00:00'),
            ('new-1', 'tenant_one', 'room_group', 'dan', 11, 'fifth', '2024-03-01 10:00:00');
        INSERT INTO room_members (chatroom_id, user_id, tenant_id) VALUES ('room_group', 'dan', 'tenant_one');
        UPDATE delivery_state SET last_ack = 11 WHERE user_id = 'alice';
        """,
    )
    report = take_over(old, new)
    assert imported(report)["messages"] == (9, 2, 5, 2)
    assert query(new, MESSAGES)[1:] == [
        *GROUP,
        ("room_group", 5, "new-1", "dan", "fifth"),
        ("room_group", 6, "new-2", "dan", "sixth"),
    ]
    assert query(new, CURSORS)[-3:] == [
        ("room_group", "alice", "admin", 5, 5),
        ("room_group", "carol", "member", 6, 6),  # 99, which is all of it
        ("room_group", "dan", "member", 0, 0),
    ]


@pytest.mark.parametrize(
    "event",
    [
        "INSERT INTO messages (message_key, room_key, seq, sender_id, content, created_at_us)"
        " VALUES (1, 2, 5, 'x', 'y', 0)",
        "INSERT INTO changes VALUES (2, 5, '{}', NULL, 0, NULL, NULL); DELETE FROM members WHERE user_id = 'carol'",
        "UPDATE rooms SET pruned_seq = 1 WHERE room_key = 2; DELETE FROM messages WHERE room_key = 2 AND seq = 1",
        "UPDATE rooms SET deleted_at_us = 1 WHERE room_key = 2",
    ],
)
def test_a_room_in_which_something_has_happened_is_left_alone(old, new, event):
    take_over(old, new)
    damage(new, event)
    before = dump(new)
    damage(
        old,
        """
        INSERT INTO messages (message_id, tenant_id, chatroom_id, sender_id, seq, content) VALUES
            ('late', 'tenant_one', 'room_group', 'alice', 12, 'too late');
        UPDATE delivery_state SET last_ack = 99;
        """,
    )
    report = take_over(old, new)
    assert [line for line in dump(new) if "room_dm" not in line and "(1,'" not in line] == [
        line for line in before if "room_dm" not in line and "(1,'" not in line
    ]
    assert any("something else has happened" in what for kind, what in report.remarks if kind == "messages")


def test_keys_tenants_and_subscriptions_removed_here_do_not_come_back(old, new):
    take_over(old, new)
    damage(
        new,
        """
        DELETE FROM api_keys WHERE tenant_key = 1;
        DELETE FROM subscriptions;
        UPDATE tenants SET deleted_at_us = 1 WHERE tenant_key = 2;
        UPDATE rooms SET deleted_at_us = 1 WHERE tenant_key = 2;
        DELETE FROM api_keys WHERE tenant_key = 2;
        """,
    )
    before = dump(new)
    report = take_over(old, new)
    assert dump(new) == before
    assert report.counts["tenants"].skipped == 1
    assert report.counts["subscriptions"].skipped == 4


def test_a_database_that_is_in_use_beside_it_is_kept(old, new):
    make_database(new)
    before = query(new, "SELECT * FROM messages")
    take_over(old, new)
    assert set(before) < set(query(new, "SELECT * FROM messages"))
    assert query(new, "SELECT count(*) FROM tenants") == [(4,)]


# Refusals


def test_an_old_sqlite_does_not_import_beside_litestream(old, new, monkeypatch):
    """Its checkpoint at the end could corrupt what Litestream checkpoints too."""
    monkeypatch.setattr(litestream, "SQLITE", (3, 51, 2))
    (folder := new.with_name(f".{new.name}-litestream")).mkdir()
    with pytest.raises(UnusableDatabase, match="Stop Litestream and move that folder away"):
        take_over(old, new)
    assert not new.exists()
    monkeypatch.setattr(litestream, "SQLITE", (3, 51, 3))
    take_over(old, new)
    monkeypatch.setattr(litestream, "SQLITE", (3, 51, 2))
    folder.rmdir()
    take_over(old, new)


def test_a_running_server_keeps_the_import_out(old, new):
    with DatabaseLock(str(new)), pytest.raises(UnusableDatabase, match=r"chatapi\.db is in use by process \d+$"):
        take_over(old, new)
    assert new.stat().st_size == 0  # as the lock has made it


def test_the_old_database_is_only_read(old, new):
    before = old.read_bytes()
    take_over(old, new)
    assert old.read_bytes() == before


def test_file_that_is_no_go_database_is_refused_and_nothing_is_made(tmp_path, new):
    (tmp_path / "notes.txt").write_text("no database" * 1000)
    other = make_database(tmp_path / "other.db")
    for path, expected in {
        tmp_path / "missing.db": "no such file",
        tmp_path / "notes.txt": "file is not a database",
        other: r"not a database of the Go ChatAPI v0\.1 \(there is no usable table tenants\)",
    }.items():
        with pytest.raises(UnusableDatabase, match=f"{expected}$"):
            import_go_database(str(path), str(new), clock=HandClock(), credentials=CREDENTIALS)
    assert not new.exists()


def test_a_damaged_database_is_refused_and_nothing_is_made(old, new):
    """An index that misses a row: everything can be read, but not everything is found."""
    damage(
        old,
        """
        CREATE INDEX members_user ON room_members (user_id);
        PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET sql = 'CREATE INDEX members_user ON room_members (role)' WHERE name = 'members_user';
        """,
    )
    with pytest.raises(UnusableDatabase, match=r"go\.db: damaged: "):
        take_over(old, new)
    assert not new.exists()


def test_a_target_that_cannot_be_used_is_one_line(old, tmp_path):
    (tmp_path / "notes.txt").write_text("no database" * 1000)
    for target in (tmp_path / "notes.txt", tmp_path / "nowhere" / "chatapi.db"):
        with pytest.raises(UnusableDatabase) as caught:
            import_go_database(str(old), str(target), clock=HandClock(), credentials=CREDENTIALS)
        assert str(target) in str(caught.value)
        assert "\n" not in str(caught.value)


# What a client then sees


@pytest.fixture
def served(old, database):
    take_over(old, database)


async def test_an_imported_database_is_served(served, start_server):
    server = await start_server()
    alice = server.user("alice", KEYS["tenant_one"])
    history = (await alice.get("/rooms/room_group/messages")).data["messages"]
    assert [
        ("room_group", *(message[name] for name in ("seq", "message_id", "sender_id", "content")))
        for message in history
    ] == GROUP
    assert (await alice.get("/rooms/room_group/messages/1a2b-3")).data["meta"] == {"a": 1}
    sent = await alice.say("room_group", "new", reply_to="1a2b-3")
    assert (sent["seq"], sent["reply_to"]) == (5, "1a2b-3")
    again = await alice.post("/rooms", {"type": "dm", "members": ["a:b", "c"]})
    assert (again.status, again.error["details"]) == (409, {"room_id": "room_dm"})
    socket = await alice.connect(ready=False)
    frames = await socket.collect("sync.complete")
    assert [frame["seq"] for frame in frames if frame["type"] == "message"] == [4, 5]
    assert [frame["payload"] for frame in frames if frame["type"] == "notification"] == [{"n": 1}]
    await socket.close()
