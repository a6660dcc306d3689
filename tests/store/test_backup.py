import os
import sqlite3
import threading
from contextlib import closing

import pytest
from sample_database import make_database, query

from chatapi.store import backup
from chatapi.store.backup import back_up
from chatapi.store.standalone import UnusableDatabase

EPOCHS = "SELECT epoch FROM tenants ORDER BY tenant_key"
CONTENT = "SELECT group_concat(content) FROM (SELECT content FROM messages ORDER BY message_key)"


@pytest.fixture
def database(tmp_path):
    (tmp_path / "live").mkdir()
    return make_database(tmp_path / "live" / "chat.db")


@pytest.fixture
def target(tmp_path):
    (tmp_path / "copies").mkdir()
    return tmp_path / "copies" / "copy.db"


@pytest.fixture
def writer(database):
    """The server's own connection: it stays open, so that the newest rows are only in the WAL."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        yield connection


def files(folder):
    return sorted(os.listdir(folder))


def test_copy_holds_committed_rows_that_are_only_in_the_wal_too(database, writer, target):
    writer.execute("UPDATE messages SET content = 'in the WAL' WHERE message_key = 11")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE messages SET content = 'not committed' WHERE message_key = 12")
    size_bytes = back_up(str(database), str(target))
    assert query(target, CONTENT) == [("in the WAL,two,five,hello,eight,nine",)]
    assert query(target, "PRAGMA integrity_check") == [("ok",)]
    assert size_bytes == target.stat().st_size
    assert size_bytes > 0


def test_the_copy_is_one_private_file(database, writer, target):
    back_up(str(database), str(target))
    with closing(sqlite3.connect(target)) as copy:
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        copy.execute(CONTENT)
        assert files(target.parent) == ["copy.db"]
    assert target.stat().st_mode & 0o777 == 0o600


def test_each_tenant_of_the_copy_has_a_new_epoch(database, target):
    back_up(str(database), str(target))
    epochs = [epoch for (epoch,) in query(database, EPOCHS) + query(target, EPOCHS)]
    assert len(set(epochs)) == 4
    assert {len(epoch) for epoch in epochs} == {24}


def test_a_database_of_an_earlier_version_is_copied_too(tmp_path, target):
    old = make_database(tmp_path / "old.db", newest=23)
    back_up(str(old), str(target))
    assert query(target, CONTENT) == query(old, CONTENT)


def test_an_existing_target_is_refused_and_left_alone(database, target):
    target.write_text("mine")
    with pytest.raises(FileExistsError):
        back_up(str(database), str(target))
    assert target.read_text() == "mine"
    assert files(target.parent) == ["copy.db"]


def test_a_target_that_appears_meanwhile_is_left_alone(database, target, monkeypatch):
    standalone = backup._make_standalone

    def make_standalone_late(partial):
        standalone(partial)
        target.write_text("mine")

    monkeypatch.setattr(backup, "_make_standalone", make_standalone_late)
    with pytest.raises(FileExistsError):
        back_up(str(database), str(target))
    assert target.read_text() == "mine"
    assert files(target.parent) == ["copy.db"]


def test_without_hard_links_the_copy_is_renamed(database, target, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    back_up(str(database), str(target))
    assert files(target.parent) == ["copy.db"]
    with pytest.raises(FileExistsError):
        back_up(str(database), str(target))


@pytest.mark.parametrize("trouble", [KeyboardInterrupt, OSError])
def test_an_interrupted_copy_leaves_nothing(database, target, monkeypatch, trouble):
    def interrupt(_seconds):
        assert len(files(target.parent)) == 1
        raise trouble

    monkeypatch.setattr("time.sleep", interrupt)
    monkeypatch.setattr(backup, "STEP_PAGES", 1)
    with pytest.raises(trouble):
        back_up(str(database), str(target))
    assert files(target.parent) == []


def test_the_live_file_is_only_read(database, writer, target):
    """Not even a checkpoint, which SQLite before 3.51.3 may not do beside the server's."""
    writer.execute("UPDATE messages SET content = 'in the WAL'")
    before = database.read_bytes(), database.with_name("chat.db-wal").read_bytes()
    back_up(str(database), str(target))
    assert (database.read_bytes(), database.with_name("chat.db-wal").read_bytes()) == before


def test_a_busy_server_neither_waits_nor_delays_the_copy(database, target, monkeypatch):
    """Each commit between two steps would restart a copy without a snapshot, and the copy would mix moments."""
    monkeypatch.setattr(backup, "STEP_PAGES", 1)
    monkeypatch.setattr(backup, "SYNC_EVERY_STEPS", 1)
    commits = 0
    with closing(sqlite3.connect(database, isolation_level=None, timeout=0)) as writer:

        def write_between_steps(_seconds):
            nonlocal commits
            commits += 1
            assert commits < 1000, "the copy never ends"
            writer.execute("UPDATE messages SET content = :n", {"n": str(commits)})

        monkeypatch.setattr("time.sleep", write_between_steps)
        back_up(str(database), str(target))
    assert commits > 10
    assert query(target, CONTENT) == [("one,two,five,hello,eight,nine",)]


def test_a_copy_beside_a_real_writer_is_whole(database, target):
    insert = """
        INSERT INTO messages (message_key, room_key, seq, sender_id, content, created_at_us)
        VALUES (1000 + :seq, 2, :seq, 'bob', :content, 0)
    """
    writing, stop = threading.Event(), threading.Event()

    def write():
        with closing(sqlite3.connect(database, isolation_level=None)) as writer:
            seq = 1
            while not stop.is_set():
                seq += 1
                writer.execute("BEGIN IMMEDIATE")
                writer.execute(insert, {"seq": seq, "content": "x" * 3000})
                writer.execute("UPDATE members SET last_ack = :seq WHERE room_key = 2", {"seq": seq})
                writer.execute("COMMIT")
                writing.set()

    thread = threading.Thread(target=write)
    thread.start()
    copied = []
    try:
        assert writing.wait(60)
        for number in range(5):
            copy = target.with_name(f"{number}.db")
            back_up(str(database), str(copy))
            assert query(copy, "PRAGMA integrity_check") == [("ok",)]
            [(last_seq,)] = query(copy, "SELECT max(seq) FROM messages WHERE room_key = 2")
            assert query(copy, "SELECT DISTINCT last_ack FROM members WHERE room_key = 2") == [(last_seq,)]
            copied.append(last_seq)
    finally:
        stop.set()
        thread.join()
    assert copied == sorted(copied)


def test_a_folder_that_does_not_exist(database, tmp_path):
    with pytest.raises(FileNotFoundError):
        back_up(str(database), str(tmp_path / "nowhere" / "copy.db"))


def test_file_that_is_no_database_is_refused_before_a_copy_is_made(tmp_path, target):
    other = tmp_path / "notes.txt"
    other.write_text("not a database" * 100)
    with pytest.raises(UnusableDatabase, match=r"notes\.txt: file is not a database"):
        back_up(str(other), str(target))
    with pytest.raises(UnusableDatabase, match=r"missing\.db: no such file"):
        back_up(str(tmp_path / "missing.db"), str(target))
    assert files(target.parent) == []
