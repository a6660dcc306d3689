"""The messages of `chatapi serve` to systemd, at $NOTIFY_SOCKET. tests/test_systemd.py has a real systemd act on it."""

import asyncio
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from server_process import NO_AUTHORITIES

from chatapi.cli import systemd

WAIT_SECONDS = 60.0
INTERVAL_USEC = 200_000
LISTENING = re.compile(r"listening on (http://\S+)")


class Manager:
    """In place of systemd: hears what it is told."""

    def __init__(self, told: socket.socket) -> None:
        self._told = told

    def hear(self) -> str:
        self._told.settimeout(WAIT_SECONDS)
        return self._told.recv(1000).decode()

    def hear_until(self, expected: str) -> list[str]:
        heard = [self.hear()]
        while heard[-1] != expected:
            heard.append(self.hear())
        return heard

    def drain(self) -> list[str]:
        """All that it was told so far."""
        self._told.setblocking(False)
        heard = []
        try:
            while True:
                heard.append(self._told.recv(1000).decode())
        except BlockingIOError:
            return heard


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """At an abstract address, which systemd may have too."""
    name = f"chatapi-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        yield Manager(told)


@contextmanager
def serving(directory: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "chatapi", "serve", "--port", "0"],
        cwd=directory,
        env={**os.environ, **NO_AUTHORITIES},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def block_loop(seconds: float) -> None:
    threading.Event().wait(seconds)


async def test_a_loop_that_is_blocked_tells_nothing(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    with systemd.watched():
        await asyncio.to_thread(manager.hear_until, "WATCHDOG=1")
        await asyncio.to_thread(manager.hear_until, "WATCHDOG=1")
        manager.drain()
        block_loop(0.1)
        assert manager.drain() == []
        await asyncio.to_thread(manager.hear_until, "WATCHDOG=1")
    manager.drain()
    await asyncio.sleep(0.05)
    assert manager.drain() == [], "it is not watched any more"


@pytest.mark.parametrize(
    "variables",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "0"}],
    ids=["no watchdog", "an interval of 0", "no number", "another process"],
)
async def test_a_server_that_is_not_watched_tells_nothing(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with systemd.watched():
        assert manager.drain() == []


@pytest.mark.parametrize("address", [None, "", "/nowhere/notify", "@nobody"])
def test_nobody_needs_to_hear_it(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    systemd.tell_ready()


@pytest.mark.slow
def test_a_server_tells_of_its_start_its_life_and_its_end(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, migrated_database: Path
) -> None:
    (tmp_path / "chatapi.db").write_bytes(migrated_database.read_bytes())
    monkeypatch.setenv("WATCHDOG_USEC", str(INTERVAL_USEC))
    with serving(tmp_path) as process:
        assert set(manager.hear_until("READY=1")[:-1]) == {"EXTEND_TIMEOUT_USEC=60000000"}
        for _ in range(3):
            assert manager.hear() == "WATCHDOG=1"
        process.send_signal(signal.SIGTERM)
        _out, errors = process.communicate(timeout=WAIT_SECONDS)
        assert process.returncode == 0
    assert LISTENING.search(errors)
    assert set(manager.drain()) >= {"STOPPING=1\nEXTEND_TIMEOUT_USEC=20000000"}


@pytest.mark.slow
def test_a_server_whose_start_takes_long_is_not_ready_meanwhile(
    manager: Manager, tmp_path: Path, migrated_database: Path
) -> None:
    path = tmp_path / "chatapi.db"
    path.write_bytes(migrated_database.read_bytes())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        with serving(tmp_path):
            assert manager.hear() == "EXTEND_TIMEOUT_USEC=60000000"
            time.sleep(0.5)
            assert manager.drain() == []
            other.execute("COMMIT")
            manager.hear_until("READY=1")


@pytest.mark.slow
def test_a_server_that_the_watchdog_ends_logs_where_it_was(
    manager: Manager, tmp_path: Path, migrated_database: Path
) -> None:
    (tmp_path / "chatapi.db").write_bytes(migrated_database.read_bytes())
    with serving(tmp_path) as process:
        manager.hear_until("READY=1")
        process.send_signal(signal.SIGABRT)
        _out, errors = process.communicate(timeout=WAIT_SECONDS)
        assert process.returncode == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in errors
    assert re.search(r'File ".*/cli/serve\.py", line \d+ in run$', errors, re.MULTILINE)
