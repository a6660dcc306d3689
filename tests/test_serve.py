"""`chatapi serve` as an operator meets it."""

import contextlib
import logging
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from server_process import NO_AUTHORITIES

from chatapi import __version__
from chatapi.cli import main
from chatapi.store.migrate import list_migrations

END_SECONDS = 60.0
LISTENING = re.compile(r"listening on (http://127\.0\.0\.1:\d+)$")


class Serve:
    """One `chatapi serve`, whose output is read line by line."""

    def __init__(self, directory: Path, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chatapi", "serve", "--port", "0", *arguments],
            cwd=directory,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("CHATAPI_")},
                **NO_AUTHORITIES,
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.errors: list[str] = []

    def wait_until_it_listens(self) -> str:
        """Its address."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line)
            if match := LISTENING.search(line):
                return match[1]
        raise AssertionError(f"it ended: {self.errors}")

    def read_first_steps(self) -> str:
        """What `--dev` prints."""
        assert self.process.stdout is not None
        text = ""
        while "Hello, Bob" not in text:
            line = self.process.stdout.readline()
            assert line, text
            text += line
        return text

    def end(self, number: signal.Signals) -> int:
        """Sends the signal; the exit status."""
        self.process.send_signal(number)
        _out, errors = self.process.communicate(timeout=END_SECONDS)
        self.errors += errors.splitlines()
        return self.process.returncode


@contextlib.contextmanager
def serving(directory: Path, *arguments: str, **environment: str) -> Iterator[Serve]:
    serve = Serve(directory, *arguments, **environment)
    try:
        yield serve
    finally:
        if serve.process.poll() is None:
            serve.process.kill()
        serve.process.communicate()


@pytest.fixture
def directory(tmp_path: Path, migrated_database: Path) -> Path:
    shutil.copy(migrated_database, tmp_path / "chatapi.db")
    return tmp_path


@dataclass(frozen=True)
class Ended:
    directory: Path
    status: int
    errors: list[str]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A server with a master key and no other setting, which listened and was ended by SIGTERM."""
    directory = tmp_path_factory.mktemp("ended")
    with serving(directory, CHATAPI_AUTH_MASTER_KEY="master-key-of-the-tests") as serve:
        url = serve.wait_until_it_listens()
        assert not url.endswith(":0")
        with urllib.request.urlopen(f"{url}/readyz", timeout=60) as answer:
            assert answer.status == 200
        return Ended(directory, serve.end(signal.SIGTERM), serve.errors)


def test_it_says_where_it_listens_and_ends_with_0(ended: Ended) -> None:
    assert ended.status == 0
    assert sum("listening on" in line for line in ended.errors) == 1
    assert sum("shutting down" in line for line in ended.errors) == 1
    assert (ended.directory / "chatapi.db").exists()  # ./chatapi.db by default
    assert not [line for line in ended.errors if "Traceback" in line]


def test_it_warns_of_no_master_key_only_where_there_is_none(ended: Ended) -> None:
    assert not [line for line in ended.errors if "master key" in line]


def test_without_dev_there_is_no_dev_tenant(ended: Ended) -> None:
    with contextlib.closing(sqlite3.connect(ended.directory / "chatapi.db")) as connection:
        assert connection.execute("SELECT count(*) FROM tenants").fetchone() == (0,)


@pytest.mark.slow
def test_start_is_logged_with_its_version_database_and_config(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("[database]\npath = 'own.db'\n")
    with serving(tmp_path, "--config", "own.toml") as serve:
        serve.wait_until_it_listens()
        assert serve.end(signal.SIGINT) == 0
    assert sum("shutting down" in line for line in serve.errors) == 1
    assert not [line for line in serve.errors if "Traceback" in line]
    (line,) = [line for line in serve.errors if " started " in line]
    for part in (f"version={__version__}", f"database={tmp_path}/own.db", f"config={tmp_path}/own.toml"):
        assert part in line
    (warning,) = [line for line in serve.errors if "master key" in line]
    assert "CHATAPI_AUTH_MASTER_KEY" in warning


@pytest.mark.slow
def test_it_starts_where_nobody_hears_it(directory: Path) -> None:
    with serving(directory, NOTIFY_SOCKET=str(directory / "nobody")) as serve:
        serve.wait_until_it_listens()
        assert serve.end(signal.SIGHUP) == 0
    assert sum("shutting down" in line for line in serve.errors) == 1


@pytest.mark.slow
def test_commands_printed_by_dev_work_when_pasted(directory: Path) -> None:
    keys = []
    for _ in range(2):
        with serving(directory, "--dev") as serve:
            url = serve.wait_until_it_listens()
            text = serve.read_first_steps()
            assert f"{url}/playground" in text
            found = re.search(r"API key +(sk_\S+)", text)
            assert found is not None
            keys.append(found[1])
            lines = [line for line in text.splitlines() if "curl " in line]
            assert len(lines) == 2
            pasted = subprocess.run(["bash", "-ec", "\n".join(lines)], capture_output=True, text=True, timeout=100)
            assert (pasted.returncode, pasted.stderr) == (0, "")
            assert '"success":true' in pasted.stdout
            assert '"content":"Hello, Bob"' in pasted.stdout
            master_key = re.search(r"Master key +(\S+)", text)
            assert master_key is not None
            request = urllib.request.Request(f"{url}/admin/tenants", headers={"X-Master-Key": master_key[1]})
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert b'"name":"dev"' in answer.read()
            assert serve.end(signal.SIGTERM) == 0
            assert not [line for line in serve.errors if "master key" in line]
    assert keys[0] == keys[1]


@pytest.mark.slow
def test_a_second_server_on_the_same_database_is_refused(directory: Path) -> None:
    with serving(directory) as first:
        first.wait_until_it_listens()
        with serving(directory) as second:
            out, errors = second.process.communicate(timeout=END_SECONDS)
        assert second.process.returncode == 1
        assert errors == f"chatapi: the database chatapi.db is in use by process {first.process.pid}\n"
        assert out == ""
        assert first.end(signal.SIGTERM) == 0


@pytest.mark.slow
def test_a_database_that_cannot_be_opened_leaves_no_hanging_process(tmp_path: Path) -> None:
    (tmp_path / "chatapi.db").mkdir()
    with serving(tmp_path) as serve:
        _out, errors = serve.process.communicate(timeout=END_SECONDS)
    assert serve.process.returncode == 1
    assert errors == "chatapi: cannot open the database chatapi.db: is a folder\n"


# The same in this process: what is refused before anything runs.


@pytest.fixture
def refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator["Refused"]:
    monkeypatch.chdir(directory)
    for name in [name for name in os.environ if name.startswith("CHATAPI_")]:
        monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Refused(capsys)
    root.handlers[:] = handlers
    root.setLevel(level)


class Refused:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> str:
        """The one line with which `serve` refuses to start."""
        assert main(["serve", "--port", "0", *arguments]) == 1
        captured = self._capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1, captured.err
        assert captured.err.startswith("chatapi: ")
        return captured.err


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("[server]\nprot = 1\n", "server.prot"),
        ("[nothing]\nx = 1\n", "nothing"),
        ("[server]\nport = '80'\n", "server.port"),
        ("[limits]\nrate_limit = 0\n", "limits.rate_limit"),
        ("[database]\nsynchronous = 'off'\n", "database.synchronous"),
        ("not toml", "chatapi.toml"),
    ],
)
def test_bad_settings_stop_the_start(refused: Refused, directory: Path, toml: str, named: str) -> None:
    (directory / "chatapi.toml").write_text(toml)
    message = refused()
    assert "chatapi.toml" in message
    assert named in message


def test_a_bad_variable_stops_the_start(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATAPI_LIMITS_RATE_LIMIT", "fast")
    assert "CHATAPI_LIMITS_RATE_LIMIT" in refused()


def test_a_missing_file_stops_the_start(refused: Refused) -> None:
    assert "nowhere.toml" in refused("--config", "nowhere.toml")


def test_a_port_in_use(refused: Refused, directory: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = refused("--port", str(port))
        assert message == f"chatapi: cannot start: 127.0.0.1 port {port}: Address already in use\n"
    # The database is free again.
    assert "in use" not in refused("--host", "no.such.host.invalid")


def test_a_host_that_does_not_exist(refused: Refused) -> None:
    assert "cannot start: no.such.host.invalid: " in refused("--host", "no.such.host.invalid")


@pytest.mark.parametrize("kind", ["a newer schema", "no database", "no folder"])
def test_a_database_of_no_use(refused: Refused, directory: Path, kind: str) -> None:
    path = directory / "chatapi.db"
    if kind == "a newer schema":
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA user_version = {len(list_migrations()) + 1}")
        assert "by a later version of ChatAPI" in refused()
    elif kind == "no database":
        path.write_bytes(b"x" * 4096)
        assert "not a database" in refused()
    else:
        assert "nowhere" in refused("--db", "nowhere/chatapi.db")


def test_a_certificate_that_is_none(refused: Refused, directory: Path) -> None:
    for name in ("cert", "key"):
        (directory / f"{name}.pem").write_text("nonsense")
    (directory / "chatapi.toml").write_text('[server]\ntls_cert = "cert.pem"\ntls_key = "key.pem"\n')
    assert "certificate" in refused()


def test_bad_arguments_are_refused_by_name(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--port", "x"], ["--nonsense"]):
        with pytest.raises(SystemExit) as ended:
            main(["serve", *arguments])
        assert ended.value.code == 2
        assert arguments[0] in capsys.readouterr().err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in (
        (["--help"], "serve"),
        (["serve", "--help"], "--dev"),
        (["--version"], f"chatapi {__version__}"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        assert expected in capsys.readouterr().out
