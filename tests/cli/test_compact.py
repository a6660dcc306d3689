"""`chatapi compact`, as an operator runs it: by the server that has the database, or by the command itself."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from threading import Event, Thread

import pytest
from go_database import make_go_database
from sample_database import ROOMS, add_big_room, damage, make_database, query
from server_process import ServerProcess

from chatapi.cli import main
from chatapi.store.epochs import renew_epochs
from chatapi.store.lock import DatabaseLock

KEY = "sk_of_the_tests"
MESSAGES = 3_000  # 3.6 MB
DEADLINE_SECONDS = 60.0
DELETED_TENANT = """
    INSERT INTO tenants (tenant_id, name, token_secret, created_at_us, deleted_at_us)
        VALUES ('tenant_a', 'A', 's', 1, 2)
"""


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    """The working directory: where chatapi.toml and chatapi.db are looked for."""
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def run(capsys):
    """(exit status, stdout, stderr)"""

    def run(*arguments):
        status = main(["compact", *map(str, arguments)])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def old(directory):
    """As versions before this command made it: it cannot give back single pages."""
    database = make_database(directory / "chatapi.db")
    add_big_room(database, MESSAGES)
    return database


@pytest.fixture
def database(directory, migrated_database):
    """As this version makes it, with nothing in it."""
    return shutil.copy(migrated_database, directory / "chatapi.db")


@pytest.fixture
def new(database):
    """The same with one room that is large."""
    fill(database, MESSAGES)
    return database


def fill(database, messages):
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.executescript(ROOMS)
        renew_epochs(connection)
    add_big_room(database, messages, api_key=KEY)


def delete_room(database):
    """What a server has deleted and not yet removed."""
    damage(database, "UPDATE rooms SET deleted_at_us = 1 WHERE room_id = 'room_big'")


def prune(database, seq):
    """As retention leaves it."""
    damage(database, f"DELETE FROM messages WHERE room_key = 90 AND seq <= {seq}")
    damage(database, f"UPDATE rooms SET pruned_seq = {seq} WHERE room_key = 90")


def is_incremental(database):
    return query(database, "PRAGMA auto_vacuum") == [(2,)]


def read_free_pages(database):
    return query(database, "PRAGMA freelist_count")[0][0]


def count_messages(database):
    return query(database, "SELECT count(*) FROM messages")[0][0]


@contextmanager
def sending(server):
    """Another tenant's messages, one after the other, for as long as it is open."""
    key = server.create_tenant("other")
    room_id = server.call("POST", "/rooms", {"type": "group"}, key=key, user="carol")["room_id"]
    done, seqs = Event(), []

    def send():
        while not done.is_set():
            path = f"/rooms/{room_id}/messages"
            seqs.append(server.call("POST", path, {"content": "hello"}, key=key, user="carol")["seq"])

    thread = Thread(target=send)
    thread.start()
    yield seqs
    done.set()
    thread.join()


@contextmanager
def serving(directory, monkeypatch):
    """A server that the settings lead to."""
    with ServerProcess(directory, dev=False) as server:
        monkeypatch.setenv("CHATAPI_SERVER_PORT", str(server.port))
        monkeypatch.setenv("CHATAPI_AUTH_MASTER_KEY", server.master_key)
        yield server
        server.stop()


def compact_beside_senders(server, database, run, capsys):
    """Deletes the big room and compacts; the other tenant loses nothing. Returns the file's size before and after."""
    before_bytes = os.path.getsize(database)
    with sending(server) as seqs:
        server.call("DELETE", "/rooms/room_big", key=KEY, user="alice")
        status, out, err = run()
    assert (status, out.count("\n")) == (0, 1)
    assert " of it free\n" in err  # how far it was
    after_bytes = os.path.getsize(database)
    assert main(["check"]) == 0
    assert f", {6 + len(seqs)} messages, " in capsys.readouterr().out
    assert seqs == list(range(1, len(seqs) + 1))
    return before_bytes, after_bytes


@pytest.mark.slow
def test_the_server_gives_back_the_space_of_a_deleted_room(new, directory, run, capsys, monkeypatch):
    with serving(directory, monkeypatch) as server:
        before_bytes, after_bytes = compact_beside_senders(server, new, run, capsys)
        assert before_bytes > 3_500_000
        assert after_bytes < 500_000
        status, out, _ = run("--url", server.url, "--master-key", server.master_key, "--json")
        assert (status, json.loads(out)["file_bytes"]) == (0, os.path.getsize(new))
        # It is not mistaken for the server of another database.
        other = make_database(directory / "other.db")
        with DatabaseLock(str(other)):
            status, out, err = run("--db", other)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert f"other.db is in use by process {os.getpid()} (a server, another `compact` or an `import`); " in err
        assert "This server has another database" in err
        at_server = ("--url", server.url, "--master-key", server.master_key)
        status, out, err = run(*at_server, "--db", other)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert err.endswith("This server has another database\n")
        assert run(*at_server, "--db", directory / "none.db")[2].endswith("none.db: No such file or directory\n")
        assert run(*at_server, "--db", new)[0] == 0


@pytest.mark.slow
def test_a_deleted_room_of_50000_messages(database, directory, run, capsys, monkeypatch):
    fill(database, 50_000)
    with serving(directory, monkeypatch) as server:
        before_bytes, after_bytes = compact_beside_senders(server, database, run, capsys)
    assert before_bytes > 55_000_000
    assert after_bytes < 1_000_000


# Without a server


def test_deleted_rows_are_removed_and_given_back(new, run):
    delete_room(new)
    before_bytes = os.path.getsize(new)
    status, out, _ = run()
    assert (status, out) == (
        0,
        f"chatapi.db: {before_bytes / 1e6:.1f} MB before, {os.path.getsize(new) / 1e3:.0f} kB now\n",
    )
    assert os.path.getsize(new) < 500_000
    assert (count_messages(new), read_free_pages(new)) == (6, 0)
    assert main(["check"]) == 0
    assert run()[1].endswith(" kB, none of it free\n")


def test_where_most_of_it_stays_single_pages_are_given_back(new, directory, run, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", None)  # no need to ask: no copy is made
    prune(new, 1_000)
    free_pages, before_bytes = read_free_pages(new), os.path.getsize(new)
    assert free_pages > 200
    assert run("--json")[0] == 0
    assert os.path.getsize(new) <= before_bytes - 4096 * free_pages
    assert (count_messages(new), read_free_pages(new)) == (2_006, 0)
    assert main(["check"]) == 0


def test_a_database_of_an_earlier_version_is_rewritten_once(old, run):
    delete_room(old)
    owner = os.stat(old)
    marks = [query(old, f"PRAGMA {name}") for name in ("user_version", "application_id", "journal_mode")]
    epoch = query(old, "SELECT epoch FROM tenants")
    assert not is_incremental(old)
    assert run()[0] == 0
    assert is_incremental(old)
    assert os.path.getsize(old) < 500_000
    assert marks == [query(old, f"PRAGMA {name}") for name in ("user_version", "application_id", "journal_mode")]
    assert epoch == query(old, "SELECT epoch FROM tenants")  # it is the same database
    assert (os.stat(old).st_ino, os.stat(old).st_mode) == (owner.st_ino, owner.st_mode)
    assert main(["check"]) == 0


def test_a_schema_of_an_earlier_version_stays_as_it_is(directory, run):
    database = make_database(directory / "chatapi.db", newest=1, rows=DELETED_TENANT)
    assert run()[0] == 0
    assert is_incremental(database)
    assert query(database, "PRAGMA user_version") == [(1,)]


def test_without_disk_space_for_a_copy_nothing_is_changed(old, run, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _place: shutil._ntuple_diskusage(10**9, 10**9, 1_000_000))
    content = old.read_bytes()
    status, out, err = run()
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "a rewrite needs " in err
    assert "1.0 MB are free; nothing was changed\n" in err
    assert old.read_bytes() == content


def test_without_disk_space_single_pages_are_given_back(new, run, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _place: shutil._ntuple_diskusage(10**9, 10**9, 0))
    delete_room(new)
    assert run()[0] == 0
    assert os.path.getsize(new) < 500_000


def test_while_somebody_reads_it_waits_and_can_be_interrupted(new, run, monkeypatch):
    delete_room(new)
    with closing(sqlite3.connect(new, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchall()
        Thread(target=interrupt_when, args=(lambda: (count_messages(new), read_free_pages(new)) == (6, 0),)).start()
        status, out, err = run()
    assert (status, out) == (1, "")
    assert err.splitlines()[-1].startswith("chatapi: interrupted")
    assert run()[0] == 0
    assert os.path.getsize(new) < 500_000


def interrupt_when(condition):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("make", [make_go_database, lambda path: path.write_text("notes" * 1000), lambda path: None])
def test_another_programs_file_stays_as_it_is(directory, run, make):
    path = directory / "foreign.db"
    make(path)
    before = path.read_bytes() if path.exists() else None
    status, out, err = run("--db", path)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert (path.read_bytes() if path.exists() else None) == before
    assert not list(directory.glob("foreign.db?*"))


def test_two_at_the_same_time_do_not_meet(old, run, directory):
    """The second one is told of the first, and changes nothing."""
    with DatabaseLock(str(old)):
        content = old.read_bytes()
        status, out, err = run()
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert f"chatapi.db is in use by process {os.getpid()} (a server, another `compact` or an `import`); " in err
        assert old.read_bytes() == content
    assert run()[0] == 0


# Other commands


def test_a_copy_can_give_back_single_pages_too(new, directory, capsys):
    assert main(["backup", "copy.db"]) == 0
    assert is_incremental(directory / "copy.db")


def test_an_import_makes_a_database_that_can(directory, capsys):
    make_go_database(directory / "go.db")
    assert main(["import", "go.db"]) == 0
    assert is_incremental(directory / "chatapi.db")
    assert main(["compact"]) == 0
    assert main(["check"]) == 0


# Broken off


def compact_until(directory, number, seconds):
    """In a process that gets a signal then. Returns its exit status and what it says at last."""
    command = [sys.executable, "-m", "chatapi", "compact"]
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            _, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            _, err = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, err.decode().splitlines()[-1:]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "moments"), [(signal.SIGKILL, 10), (signal.SIGINT, 4), (signal.SIGTERM, 4)])
def test_breaking_it_off_loses_nothing(directory, run, number, moments):
    """At some moments of one that is rewritten; then it is run to its end."""
    original = make_database(directory / "original.db")
    add_big_room(original, 70_000)
    prune(original, 20_000)
    database = directory / "chatapi.db"
    shutil.copy(original, database)
    started_s = time.monotonic()
    assert compact_until(directory, number, DEADLINE_SECONDS)[0] == 0
    whole_s = time.monotonic() - started_s
    statuses = []
    for moment in range(moments):
        for file in directory.glob("chatapi.db*"):
            file.unlink()
        shutil.copy(original, database)
        started_s = time.monotonic()
        status, said = compact_until(directory, number, whole_s * moment / moments)
        statuses.append(status)
        if status == 0:  # the machine is less busy than it was
            whole_s = min(whole_s, time.monotonic() - started_s)
        if status == 1:
            assert said[0].startswith("chatapi: interrupted; ")
        assert main(["check"]) == 0
        assert count_messages(database) == 50_006
    assert statuses.count(0) < moments / 2
    assert run()[0] == 0
    assert is_incremental(database)
    assert main(["check"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("limit_bytes", [1_000_000, 20_000_000, 60_000_000])
def test_a_disk_that_fills_loses_nothing(directory, limit_bytes):
    """No file may get longer than that: SQLite is told so in the middle of its copy, or of the log."""
    database = make_database(directory / "chatapi.db")
    add_big_room(database, 60_000)
    script = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2);"
    script += "from chatapi.cli import main; sys.exit(main(['compact']))"
    ended = subprocess.run(
        [sys.executable, "-c", script, str(limit_bytes)], cwd=directory, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines()[-1].startswith("chatapi: chatapi.db: ")
    assert "Traceback" not in ended.stderr
    assert main(["check"]) == 0
    assert count_messages(database) == 60_006
    assert not is_incremental(database)
