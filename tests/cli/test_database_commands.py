"""`chatapi backup`, `check` and `import`, as an operator runs them."""

import os
import signal
import subprocess
import sys
import time

import pytest
from go_database import KEYS, make_go_database
from sample_database import damage, make_database, query
from server_process import ServerProcess

from chatapi.cli import main

DEADLINE_SECONDS = 20.0
POLL_SECONDS = 0.01

BACKUP_THAT_PAUSES = """
import sys
from chatapi.cli import main
from chatapi.store import backup

backup.STEP_PAUSE_SECONDS = 60.0
sys.exit(main(sys.argv[1:]))
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
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def server(directory):
    """`chatapi serve --dev` on chatapi.db of the working directory."""
    with ServerProcess(directory) as server:
        yield server


# backup


@pytest.mark.slow
def test_a_running_server_is_checked_and_backed_up_and_the_copy_is_served(server, run, directory):
    api_key = server.create_tenant("Acme")
    status, out, _ = run("check")
    assert status == 0
    assert "2 tenants" in out
    status, out, err = run("backup", "copy.db")
    assert (status, err) == (0, "")
    assert out.startswith("copy.db: ")
    assert out.count("\n") == 1
    assert run("check", "copy.db")[0] == 0
    assert query(directory / "copy.db", "SELECT name FROM tenants ORDER BY name") == [("Acme",), ("dev",)]
    epochs = {row for name in ("chatapi.db", "copy.db") for row in query(directory / name, "SELECT epoch FROM tenants")}
    assert len(epochs) == 4
    server.stop()
    os.replace("copy.db", "chatapi.db")
    server.start()
    assert api_key.startswith("sk_")
    status, out, _ = run("tenant", "list", "--url", server.url, "--master-key", server.master_key)
    assert status == 0
    assert "Acme" in out
    server.stop()
    assert query(directory / "chatapi.db", "PRAGMA journal_mode") == [("wal",)]


def test_the_database_is_the_configured_one_or_the_given_one(run, directory):
    make_database(directory / "chatapi.db", "")
    make_database(directory / "other.db")
    (directory / "other.toml").write_text('[database]\npath = "other.db"\n')
    for arguments, tenants in (((), 0), (("--config", "other.toml"), 2), (("--db", "other.db"), 2)):
        target = f"copy-{len(arguments)}-{arguments[:1]}.db"
        assert run("backup", *arguments, target)[0] == 0
        assert query(directory / target, "SELECT count(*) FROM tenants") == [(tenants,)]
        assert f" {tenants} tenants" in run("check", *arguments)[1]


def test_backup_failure_is_one_line(run, directory):
    assert run("backup", "copy.db") == (1, "", "chatapi: chatapi.db: no such file\n")
    make_database(directory / "chatapi.db")
    (directory / "copy.db").touch()
    assert run("backup", "copy.db") == (1, "", "chatapi: copy.db: exists already\n")
    assert run("backup", "nowhere/copy.db") == (
        1,
        "",
        "chatapi: cannot write nowhere/copy.db: No such file or directory\n",
    )
    assert [name for name in os.listdir(directory) if "chatapi.db" not in name] == ["copy.db"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_backup_that_is_stopped_leaves_nothing(directory, number):
    database = make_database(directory / "chatapi.db")
    damage(database, "CREATE TABLE ballast (x); INSERT INTO ballast VALUES (zeroblob(3000000))")  # more than one step
    (directory / "copies").mkdir()
    command = [sys.executable, "-c", BACKUP_THAT_PAUSES, "backup", "copies/copy.db"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not os.listdir("copies"):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(POLL_SECONDS)
        process.send_signal(number)
        assert process.wait(DEADLINE_SECONDS) == 1
        assert process.stderr.read() == "chatapi: interrupted; nothing was left behind\n"
    assert os.listdir("copies") == []


# check


def test_a_sound_database_is_one_line(run, directory):
    make_database(directory / "chatapi.db")
    assert run("check") == (
        0,
        "chatapi.db: ok: 2 tenants, 3 rooms, 5 members, 6 messages, 3 other events, 1 notifications\n",
        "",
    )


def test_findings_are_a_line_each_and_a_failure(run, directory):
    make_database(directory / "chatapi.db")
    damage(directory / "chatapi.db", "UPDATE rooms SET member_count = 9; DELETE FROM changes WHERE room_key = 1")
    status, out, err = run("check", "chatapi.db")
    assert status == 1
    assert len(out.splitlines()) == 4
    assert err == "chatapi: chatapi.db: damaged, findings: 4\n"


def test_check_failure_is_one_line(run, directory):
    (directory / "notes.txt").write_text("no database" * 1000)
    assert run("check", "notes.txt") == (1, "", "chatapi: notes.txt: file is not a database\n")
    assert run("check", "--db", "missing.db") == (1, "", "chatapi: missing.db: no such file\n")
    status, out, err = run("check", "a.db", "--db", "b.db")
    assert (status, out) == (1, "")
    assert "name the database once" in err


# import


def test_an_import_is_reported_as_a_table(run, directory):
    make_go_database(directory / "go.db")
    status, out, err = run("import", "go.db")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["found", "imported", "here", "already", "skipped"]
    assert lines[1].split() == ["tenants", "2", "2", "0", "0"]
    assert "messages: 2 skipped: there is no such room of their tenant, or it was skipped" in lines
    assert not any(key in out for key in KEYS.values())
    assert run("check")[0] == 0


@pytest.mark.slow
def test_the_imported_database_is_served_under_the_old_keys(run, directory):
    make_go_database(directory / "go.db", 8)
    assert run("import", "go.db")[0] == 0
    with ServerProcess(directory, dev=False) as server:
        listed = run("key", "list", "tenant_one", "--url", server.url, "--master-key", server.master_key)
        assert listed[0] == 0
        server.stop()


@pytest.mark.slow
def test_a_running_server_keeps_an_import_out(server, run, directory):
    make_go_database(directory / "go.db")
    status, out, err = run("import", "go.db")
    assert (status, out) == (1, "")
    assert err.startswith("chatapi: the database chatapi.db is in use by process ")
    server.stop()
    assert run("import", "go.db")[0] == 0


def test_import_failure_is_one_line(run, directory):
    assert run("import", "go.db") == (1, "", "chatapi: go.db: no such file\n")
    make_database(directory / "chatapi.db")
    status, _, err = run("import", "chatapi.db")
    assert status == 1
    assert err.startswith("chatapi: chatapi.db: not a database of the Go ChatAPI v0.1 ")


def test_an_import_that_is_interrupted_is_one_line(run, directory, monkeypatch):
    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    make_go_database(directory / "go.db")
    monkeypatch.setattr("chatapi.store.importer.Run", interrupt)
    assert run("import", "go.db") == (1, "", "chatapi: interrupted; nothing was imported\n")
    assert query(directory / "chatapi.db", "SELECT count(*) FROM tenants") == [(0,)]
