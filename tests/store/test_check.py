import os
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from sample_database import ROOMS, damage, make_database

from chatapi.folding import LAST
from chatapi.models import encode_dm_key
from chatapi.store import check
from chatapi.store.check import check_database
from chatapi.store.migrate import list_migrations
from chatapi.store.standalone import UnusableDatabase


@pytest.fixture
def database(tmp_path):
    return make_database(tmp_path / "chat.db")


def findings(path):
    return check_database(str(path)).findings


def test_a_sound_database(database):
    report = check_database(str(database))
    assert report.findings == []
    assert report.counts == {
        "tenants": 2,
        "rooms": 3,
        "members": 5,
        "messages": 6,
        "other events": 3,
        "notifications": 1,
    }


def test_an_empty_database_is_sound(tmp_path):
    assert findings(make_database(tmp_path / "chat.db", "")) == []


@pytest.mark.parametrize(
    ("sql", "finding"),
    [
        ("DELETE FROM changes WHERE room_key = 1 AND seq = 4", "room_group: seq 4 is missing from the log"),
        ("DELETE FROM changes WHERE room_key = 1", "room_group: seq 3 to 4 are missing from the log"),
        ("DELETE FROM messages WHERE seq = 1 AND room_key = 1", "room_group: seq 1 is missing from the log"),
        ("INSERT INTO changes VALUES (1, 2, NULL, 12, 0, NULL, NULL)", "room_group: seq 2 is in the log twice"),
        ("DELETE FROM messages WHERE seq = 8", "room_pruned: seq 8 is missing from the log"),
        ("UPDATE rooms SET pruned_seq = 5 WHERE room_key = 3", "room_pruned: seq 6 to 7 are missing from the log"),
        (
            "UPDATE members SET last_ack = 6 WHERE room_key = 1 AND user_id = 'alice'",
            "room_group: last_ack 6 or last_read 4 of alice is above last_seq 5",
        ),
        (
            "UPDATE members SET last_read = 11 WHERE room_key = 3",
            "room_pruned: last_ack 10 or last_read 11 of carol is above last_seq 10",
        ),
        ("UPDATE rooms SET member_count = 9 WHERE room_key = 1", "room_group: member_count is 9, but it has 2 members"),
        (
            "UPDATE rooms SET unique_key = 'dm:alice:bob' WHERE room_key = 2",
            "room_dm: its unique_key is not that of its members",
        ),
        ("UPDATE rooms SET unique_key = NULL WHERE room_key = 2", "room_dm: its unique_key is not that of its members"),
        ("DELETE FROM members WHERE room_key = 2 AND user_id = 'bob'", "room_dm: a dm with 1 members"),
        ("UPDATE rooms SET unique_key = 'x' WHERE room_key = 1", "room_group: has a unique_key, but is not a dm"),
        (
            "UPDATE members SET tenant_key = 2 WHERE room_key = 1 AND user_id = 'bob'",
            "room_group: member bob is stored with another tenant than the room",
        ),
        (
            "UPDATE notification_recipients SET tenant_key = 2",
            "notif_0000000000000001: recipient alice is stored with another tenant than the notification",
        ),
        ("DELETE FROM notifications", "notification_recipients: 1 rows refer to notifications that do not exist"),
        (
            "UPDATE messages SET mentions = '[\"bob\"]' WHERE message_key = 11",
            "room_group: the mention of bob by msg_000000000000000b is not among those of its user",
        ),
        (
            "INSERT INTO mentions VALUES (1, '', 11, 1, 'alice')",
            "room_group: a mention of the room by msg_000000000000000b, which does not mention them",
        ),
        (
            "INSERT INTO reactions VALUES (1, 1, 9, '👍', 'bob', 0); UPDATE messages SET annotated = 1",
            "room_group: message 1 shows 0 reactions with 👍, but has 1",
        ),
        (
            "INSERT INTO reactions VALUES (1, 1, 9, '👍', 'bob', 0);"
            " INSERT INTO reaction_counts VALUES (1, 1, 9, '👍', 1, '[\"bob\"]')",
            "room_group: message 1 does not say that it has reactions",
        ),
        (
            "INSERT INTO reactions VALUES (1, 7, 9, '👍', 'bob', 0);"
            " INSERT INTO reaction_counts VALUES (1, 7, 9, '👍', 1, '[\"bob\"]')",
            "room_group: message 7 has 1 reactions, but is not there",
        ),
        ("INSERT INTO pins VALUES (1, 9, 7, 'bob', 0)", "room_group: message 7 is pinned, but is not there"),
        ("INSERT INTO pins VALUES (1, 9, 1, 'bob', 0)", "room_group: message 1 does not say that it is pinned"),
        (
            "UPDATE messages SET thread_id = 'msg_000000000000000b' WHERE message_key = 12",
            "room_group: the thread of seq 1 has 1 replies up to seq 2, which is not what it shows",
        ),
        (
            "UPDATE messages SET imported_id = 'old' WHERE message_key = 11;"
            " UPDATE messages SET thread_id = 'old' WHERE message_key = 12",
            "room_group: the thread of seq 1 has 1 replies up to seq 2, which is not what it shows",
        ),
        ("INSERT INTO threads VALUES (1, 1, 1, 2, 0)", "room_group: seq 1 shows a thread without replies"),
        (
            "INSERT INTO users (tenant_key, user_id, folded_id, name, sort_name) VALUES (1, 'bob', 'bob', 'Bób', 'b')",
            "user bob: is not found by the name 'Bób'",
        ),
        (
            "INSERT INTO users (tenant_key, user_id, folded_id) VALUES (1, 'Bob', 'Bob')",
            "user Bob: is not found by the name NULL",
        ),
        (
            "INSERT INTO blocks VALUES (1, 'alice', 'bob', 'dm:1:a:b', 0)",
            "user alice: the block of bob does not name the dm of the two",
        ),
        (
            "INSERT INTO reports"
            " (report_key, tenant_key, room_key, target_seq, user_id, reason, message, created_at_us)"
            " VALUES (1, 1, 1, 7, 'bob', 'x', '{}', 0)",
            "room_group: report_0000000000000001 is about message 7, which is not there",
        ),
        (
            "INSERT INTO webhook_deliveries (event_key, ordinal, tenant_key, user_id) VALUES (1, 1, 9, 'bob')",
            "webhook_deliveries: 1 rows refer to tenants that do not exist",
        ),
        ("UPDATE tenants SET epoch = '' WHERE tenant_key = 2", "tenant_b: the tenant has no epoch"),
    ],
)
def test_each_damage_is_found_and_named(database, sql, finding):
    damage(database, sql)
    assert findings(database) == [finding]


@pytest.mark.parametrize("table", ["members", "messages", "changes"])
def test_rows_of_a_missing_room_are_found(database, table):
    damage(database, "DELETE FROM rooms WHERE room_key = 1")
    [line] = [line for line in findings(database) if line.startswith(f"{table}:")]
    assert line.endswith("rows refer to rooms that do not exist")


def test_rows_of_every_table_are_found_after_their_room_or_tenant(database):
    """By the references that tables declare, except for queues, whose rows end by themselves."""
    with closing(sqlite3.connect(database)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {name: {row[1] for row in connection.execute(f"PRAGMA table_info({name})")} for name in names}
        parents = {name: {row[2] for row in connection.execute(f"PRAGMA foreign_key_list({name})")} for name in names}
    of_rooms = {name for name in names if "room_key" in columns[name] and name != "rooms"}
    of_tenants = {name for name in names if "tenant_key" in columns[name] and name != "tenants"}
    queues = {"webhook_events", "webhook_deliveries", "unfinished_notifications", "search_outdated"}
    assert {name for name in of_rooms if "rooms" not in parents[name]} == queues
    assert {name for name in of_tenants if not parents[name] & {"tenants", "rooms", "notifications"}} == {
        "webhook_deliveries",  # which have a check of their own
        "search_outdated",
    }


def test_rows_being_purged_are_no_finding(database):
    damage(
        database,
        """
        UPDATE rooms SET deleted_at_us = 1, unique_key = NULL WHERE room_key IN (1, 2);
        DELETE FROM messages WHERE message_key IN (11, 15);
        DELETE FROM members WHERE room_key = 2 AND user_id = 'bob';
        UPDATE rooms SET pruned_seq = 9 WHERE room_key = 3;
        INSERT INTO reactions VALUES (3, 7, 9, '👍', 'bob', 0);
        INSERT INTO stream_chunks VALUES (3, 7, 2, 'x', NULL);
        INSERT INTO emptied_messages VALUES (3, 7);
        """,
    )
    assert findings(database) == []


def test_rooms_of_a_tenant_that_is_not_whole_yet_are_no_finding(database):
    damage(
        database,
        """
        UPDATE tenants SET deleted_at_us = 1;
        UPDATE members SET last_ack = 100, last_read = 100;
        DELETE FROM messages;
        DELETE FROM changes WHERE seq % 2;
        DELETE FROM members WHERE user_id = 'bob';
        """,
    )
    report = check_database(str(database))
    assert report.findings == []
    assert (report.counts["tenants"], report.counts["rooms"]) == (0, 0)


def test_a_deleted_tenant_is_not_counted(database):
    damage(
        database,
        "UPDATE tenants SET deleted_at_us = 1 WHERE tenant_key = 1;"
        " UPDATE rooms SET deleted_at_us = 1, unique_key = NULL WHERE tenant_key = 1",
    )
    report = check_database(str(database))
    assert report.findings == []
    assert (report.counts["tenants"], report.counts["rooms"]) == (1, 1)


@pytest.mark.parametrize(
    ("values", "finding"),
    [
        ("'key', 'key_1', NULL, '::1', NULL", "audit_0000000000000007: the actor is not whole"),
        ("'user', NULL, NULL, '::1', NULL", "audit_0000000000000007: the actor is not whole"),
        ("'master', 'key_1', NULL, '::1', NULL", "audit_0000000000000007: the actor is not whole"),
        ("'master', NULL, NULL, NULL, NULL", "audit_0000000000000007: the actor is not whole"),
        ("'server', NULL, NULL, '::1', NULL", "audit_0000000000000007: the actor is not whole"),
        ("'server', NULL, NULL, NULL, '[1]'", "audit_0000000000000007: the details are no JSON object"),
        ("'server', NULL, NULL, NULL, '{'", "audit_0000000000000007: the details are no JSON object"),
        ("'server', NULL, NULL, NULL, '{}'", None),
        ("'key', 'key_1', 'bob', '::1', NULL", None),
        ("'user', NULL, 'bob', 'unknown', NULL", None),
    ],
)
def test_wrong_entries_of_the_audit_are_found(database, values, finding):
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        columns = "audit_key, at_us, action, kind, key_id, user_id, address, details"
        connection.execute(f"INSERT INTO audit ({columns}) VALUES (7, 0, 'a.b', {values})")
        assert findings(database) == ([] if finding is None else [finding])
        if finding is None:
            connection.execute("DELETE FROM sqlite_sequence")
            assert findings(database) == ["audit_0000000000000007: this id may be given again"]


def test_sound_users_and_blocks_are_no_finding(database):
    with closing(sqlite3.connect(database)) as connection, connection:
        for user_id, name, sort_name in (("Bob", "Bób", "bob"), ("carol", None, LAST), ("dave", "\u0301", LAST)):
            connection.execute(
                "INSERT INTO users (tenant_key, user_id, folded_id, name, sort_name) VALUES (1, ?1, lower(?1), ?, ?)",
                (user_id, name, sort_name),
            )
        connection.execute("INSERT INTO users (tenant_key, user_id, folded_id) VALUES (1, 'eve', 'eve')")
        connection.execute("INSERT INTO blocks VALUES (1, 'bob', 'alice', ?, 0)", (encode_dm_key("bob", "alice"),))
    assert findings(database) == []


def test_user_ids_with_the_separator_in_them_are_no_finding(tmp_path):
    pair = "a:b", "c"
    rows = ROOMS.replace(encode_dm_key("bob", "alice"), encode_dm_key(*pair))
    rows = rows.replace("(2, 'alice',", "(2, 'a:b',").replace("(2, 'bob',", "(2, 'c',")
    assert findings(make_database(tmp_path / "chat.db", rows)) == []


def test_findings_of_one_kind_are_bounded(database, monkeypatch):
    monkeypatch.setattr(check, "MAX_FINDINGS", 2)
    damage(database, "UPDATE rooms SET member_count = 9")
    lines = findings(database)
    assert len(lines) == 3
    assert lines[-1] == "member counts: there is more of this kind"


def test_damaged_pages_are_findings(database):
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'messages'").fetchone()[0]
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
    with open(database, "r+b") as file:
        file.seek((root - 1) * page_bytes)
        file.write(b"\xff" * page_bytes)
    lines = findings(database)
    assert lines
    assert all(line.count("\n") == 0 for line in lines)
    assert any("malformed" in line for line in lines)


@pytest.mark.slow
def test_any_damage_is_a_finding_or_one_line(database, tmp_path):
    """Whatever bytes a damaged file holds, and SQLite quotes."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    sound = database.read_bytes()
    random = Random(7)
    refused = found = 0
    for _ in range(200):
        data = bytearray(sound)
        for _ in range(random.choice((1, 20, 200))):
            data[random.randrange(len(data))] = random.randrange(256)
        database.write_bytes(data)
        try:
            lines = findings(database)
        except UnusableDatabase as error:
            refused += 1
            lines = [str(error)]
        found += bool(lines)
        assert all(len(line.splitlines()) == 1 for line in lines)
    assert 0 < refused < found < 200


def test_between_checks_the_log_of_a_live_database_can_start_over(database, monkeypatch):
    copied = []
    run = check._run

    def write_first(*arguments):
        writer.execute("UPDATE messages SET content = 'another'")
        _, pages, done = writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        copied.append(pages == done)
        return run(*arguments)

    monkeypatch.setattr(check, "_run", write_first)
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        assert findings(database) == []
    assert copied[1:] == [True] * len(check._CHECKS)


def test_a_live_database_is_seen_at_one_moment_and_only_read(database):
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute("UPDATE messages SET content = 'in the WAL'")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM changes")  # not committed
        before = database.read_bytes(), database.with_name("chat.db-wal").read_bytes()
        assert findings(database) == []
        assert (database.read_bytes(), database.with_name("chat.db-wal").read_bytes()) == before


def test_a_database_of_a_killed_server_is_read_with_its_wal(database, tmp_path):
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("DELETE FROM changes WHERE room_key = 3")
        for name in ("chat.db", "chat.db-wal"):
            (tmp_path / f"killed-{name}").write_bytes((tmp_path / name).read_bytes())
    assert findings(tmp_path / "killed-chat.db") == [
        "room_pruned: last_ack 10 or last_read 10 of carol is above last_seq 9"
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_folder_that_cannot_be_written_to():
    """A mounted snapshot, say: SQLite cannot make the files of the WAL there."""
    with TemporaryDirectory() as folder:
        database = make_database(Path(folder) / "chat.db")
        os.chmod(folder, 0o755)
        os.seteuid(65534)
        try:
            with pytest.raises(PermissionError):
                (Path(folder) / "new").touch()
            assert findings(database) == []
        finally:
            os.seteuid(0)
        assert os.listdir(folder) == ["chat.db"]


def test_file_that_is_no_database_of_ours_is_one_line(tmp_path):
    newest = list_migrations()[-1][0]
    newer = make_database(tmp_path / "newer.db")
    damage(newer, f"PRAGMA user_version = {newest + 1}")
    (tmp_path / "notes.txt").write_text("no database" * 1000)
    (tmp_path / "empty.db").write_bytes(b"")
    damage(tmp_path / "other.db", "CREATE TABLE t (x)")
    for name, expected in {
        "newer.db": rf"by a later version of ChatAPI \(its schema is {newest + 1}, the newest known here {newest}\)",
        "notes.txt": "file is not a database",
        "empty.db": "not a ChatAPI database",
        "other.db": "not a ChatAPI database",
        "missing.db": "no such file",
        ".": "is a folder",
    }.items():
        with pytest.raises(UnusableDatabase, match=f"{expected}$") as caught:
            check_database(str(tmp_path / name))
        assert "\n" not in str(caught.value)
