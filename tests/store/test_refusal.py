"""What is no database of ours is refused before anything of it, or beside it, is changed."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from driver import HandClock
from go_database import make_go_database
from sample_database import damage, make_database, query

from chatapi.cli import main
from chatapi.clock import Clock
from chatapi.store import StoreError, check_usable, open_store
from chatapi.store.file import find_obstacle
from chatapi.store.importer import CredentialMakers, import_go_database
from chatapi.store.migrate import list_migrations
from chatapi.store.standalone import APPLICATION_ID, UnusableDatabase, open_snapshot
from chatapi.tenant_secrets import hash_key, make_key_id, make_secret

NEWEST = list_migrations()[-1][0]


def make_newer(path):
    damage(make_database(path), f"PRAGMA user_version = {NEWEST + 1}")


def make_newer_unmarked(path):
    make_newer(path)
    damage(path, "PRAGMA application_id = 0; PRAGMA journal_mode = DELETE")


def make_marked_by_another(path):
    damage(make_database(path), "PRAGMA application_id = 252006673")


UNUSABLE = {
    "a later version's": (make_newer, "made by a later version of ChatAPI"),
    "a later version's, without the mark": (make_newer_unmarked, "made by a later version of ChatAPI"),
    "the Go server's": (make_go_database, "not a ChatAPI database"),
    "another program's": (lambda path: damage(path, "CREATE TABLE t (x)"), "not a ChatAPI database"),
    "another program's of a version": (
        lambda path: damage(path, "CREATE TABLE rooms (x); PRAGMA user_version = 3"),
        "not a ChatAPI database",
    ),
    "another program's with a WAL": (
        lambda path: damage(path, "PRAGMA journal_mode = WAL; CREATE TABLE t (x)"),
        "not a ChatAPI database",
    ),
    "empty, but marked": (lambda path: damage(path, "PRAGMA application_id = 7"), r"\(its application_id is 0x7\)"),
    "our tables, another's mark": (make_marked_by_another, "its application_id is 0xf055111"),
    "text": (lambda path: path.write_text("not a database" * 100), "file is not a database"),
    "a few bytes": (lambda path: path.write_bytes(b"x" * 99), "file is not a database"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
}


def list_files(folder):
    return {path.name: path.read_bytes() if path.is_file() else None for path in folder.iterdir()}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_the_folder_stays_as_it_was(tmp_path, kind):
    make, reason = UNUSABLE[kind]
    (tmp_path / "here").mkdir()
    path = tmp_path / "here" / "chatapi.db"
    make(path)
    before = list_files(path.parent)
    with pytest.raises(StoreError, match=reason):
        check_usable(str(path))
    with pytest.raises(UnusableDatabase, match=reason), open_snapshot(str(path)):
        pass
    assert list_files(path.parent) == before


@pytest.mark.parametrize("command", ["serve", "import", "prefill"])
def test_no_command_leaves_a_trace(tmp_path, monkeypatch, capsys, command):
    (tmp_path / "here").mkdir()
    path = tmp_path / "here" / "chatapi.db"
    make_newer(path)
    before = list_files(path.parent)
    monkeypatch.chdir(tmp_path)
    if command == "serve":
        assert main(["serve", "--port", "0", "--db", str(path)]) == 1
        assert "made by a later version" in capsys.readouterr().err
    elif command == "import":
        go = make_go_database(tmp_path / "go.db")
        with pytest.raises(UnusableDatabase, match="made by a later version"):
            import_go_database(
                str(go), str(path), clock=HandClock(), credentials=CredentialMakers(make_key_id, make_secret, hash_key)
            )
    else:
        ended = subprocess.run([sys.executable, "-m", "chatapi.store.prefill", str(path), "1"], capture_output=True)
        assert ended.returncode == 1
        assert b"made by a later version" in ended.stderr
    assert list_files(path.parent) == before


async def test_tables_in_the_wal_alone_count(tmp_path):
    """A server that was killed before its first checkpoint: the tables are not in the file itself yet."""
    path = tmp_path / "chatapi.db"
    (tmp_path / "killed").mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as held:
        held.execute("PRAGMA journal_mode = WAL")
        held.execute("PRAGMA user_version").fetchone()
        make_database(path)
        for name in ("chatapi.db", "chatapi.db-wal"):
            (tmp_path / "killed" / name).write_bytes((tmp_path / name).read_bytes())
    killed = tmp_path / "killed" / "chatapi.db"
    store = await open_store(str(killed), synchronous="full", readers=1, clock=Clock())
    await store.close()
    assert query(killed, "SELECT count(*) FROM rooms") == [(3,)]


async def test_the_file_says_whose_it_is(tmp_path):
    path = tmp_path / "chatapi.db"
    path.touch()
    store = await open_store(str(path), synchronous="full", readers=1, clock=Clock())
    await store.close()
    assert query(path, "PRAGMA application_id") == [(APPLICATION_ID,)]


def test_a_missing_folder_and_a_foreign_owner_are_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_obstacle(str(tmp_path / "chatapi.db")) is None
    missing = find_obstacle(str(tmp_path / "no" / "chatapi.db"))
    assert missing == f"the folder {tmp_path / 'no'} does not exist: create it first"
    (tmp_path / "file").touch()
    assert find_obstacle(str(tmp_path / "file" / "chatapi.db")) == f"{tmp_path / 'file'} is not a folder"
    lock = tmp_path / "chatapi.db.lock"
    lock.touch(0o600)
    # Root may do everything, and tests may run as root.
    monkeypatch.setattr(os, "access", lambda path, _mode: path != lock)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    told = find_obstacle(str(tmp_path / "chatapi.db"))
    assert told is not None
    assert told.startswith(f"{lock} belongs to ")
    assert told.endswith("with mode 0600, and this process, which has to read and write it, runs as user 54321")


def test_serve_says_which_folder_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "no" / "chatapi.db"
    assert main(("serve", "--port", "0", "--db", str(path))) == 1
    error = capsys.readouterr().err
    assert (
        error == f"chatapi: cannot open the database {path}: the folder {path.parent} does not exist: create it first\n"
    )
