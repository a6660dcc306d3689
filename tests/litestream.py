"""Litestream beside a server, with a replica in a directory or on an S3 server; and what a lost machine costs."""

import asyncio
import contextlib
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driver import eventually
from examples import example
from server_process import ServerProcess, free_port

from chatapi.client import ChatAPI

BINARY = shutil.which("litestream", path=str(Path(sys.executable).parent)) or "litestream"
S3_SERVER = str(Path(sys.executable).with_name("moto_server"))
BUCKET = "chatapi"
WAIT_SECONDS = 120.0
COMMAND_SECONDS = 600.0  # to restore a large database
S3_KEYS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": "us-east-1"}
SETTINGS = {"database.checkpoints": "external"}
[INTERVAL] = set(re.findall(r"-interval: (\w+)", example("docs/operations.md", "yaml", "/etc/litestream.yml")))


@contextlib.contextmanager
def start_s3(directory: Path) -> Iterator[str]:
    """Its address. It keeps everything in memory."""
    port = free_port()
    with (directory / "s3.log").open("wb") as log:
        process = subprocess.Popen([S3_SERVER, "-p", str(port)], stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            with contextlib.suppress(urllib.error.URLError):
                make = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
                urllib.request.urlopen(make, timeout=WAIT_SECONDS).close()
                break
            assert time.monotonic() < deadline, (directory / "s3.log").read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


class Litestream:
    """`replica` is an S3 server's address, or a directory."""

    def __init__(self, directory: Path, database: Path, replica: str | Path, interval: str = INTERVAL) -> None:
        self.log = directory / "litestream.log"
        self._config = directory / "litestream.yml"
        self._database = database
        target = (
            f"{{type: file, path: {replica}, sync-interval: {interval}}}"
            if isinstance(replica, Path)
            else f"{{type: s3, bucket: {BUCKET}, path: db, endpoint: '{replica}', force-path-style: true,"
            f" sync-interval: {interval}}}"
        )
        self._config.write_text(
            f"dbs:\n  - path: {database}\n    monitor-interval: {interval}\n    replica: {target}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, wait_seconds: float = WAIT_SECONDS) -> None:
        """Returns once the database is replicated."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [BINARY, "replicate", "-config", self._config], env=S3_KEYS, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + wait_seconds
        while len(self._run("ltx", str(self._database)).splitlines()) < 2:
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restore(self, target: Path) -> None:
        done = self._run("restore", "-o", str(target), str(self._database))
        assert target.exists(), done

    def has_messages(self, probe: Path) -> bool:
        """Whether what could be restored now has some. It is put into `probe`."""
        probe.unlink(missing_ok=True)
        self.restore(probe)
        with contextlib.closing(sqlite3.connect(probe)) as connection:
            [(count,)] = connection.execute("SELECT count(*) FROM messages")
        return bool(count)

    def _run(self, command: str, *arguments: str) -> str:
        done = subprocess.run(
            [BINARY, command, "-config", self._config, *arguments],
            env=S3_KEYS,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        return done.stdout + done.stderr


@dataclass
class Chatting:
    """A user who sends, and one who listens and keeps what they have, as an application does."""

    url: str
    key: str
    confirmed: list[tuple[float, int, str]] = field(default_factory=list)  # when, seq, content
    kept: dict[int, str] = field(default_factory=dict)  # by seq
    resets: int = 0
    room_id: str = ""
    is_over: bool = False

    async def run(self) -> None:
        async with ChatAPI(self.url, api_key=self.key, user_id="alice") as alice:
            self.room_id = (await alice.create_room("group", ["bob"]))["room_id"]
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(self._listen())
                await self._send(alice)
                last = self.confirmed[-1][1]
                await eventually(lambda: self.resets > 0 and max(self.kept, default=0) >= last)
                listening.cancel()

    async def _send(self, alice: ChatAPI) -> None:
        number = 0
        async with alice.connect(max_delay_s=0.5) as connection:
            while not self.is_over:
                number += 1
                sent: Any = await connection.send(self.room_id, f"message {number}")
                self.confirmed.append((time.monotonic(), sent["seq"], f"message {number}"))

    async def _listen(self) -> None:
        async with (
            ChatAPI(self.url, api_key=self.key, user_id="bob") as bob,
            bob.connect(max_delay_s=0.5) as connection,
        ):
            async for event in connection:
                if event["type"] == "sync.reset":
                    self.resets += 1
                    begin = event["rooms"].get(self.room_id, 0)
                    self.kept = {seq: content for seq, content in self.kept.items() if seq <= begin}
                elif event["type"] == "message":
                    assert event["seq"] not in self.kept, "shown twice"
                    assert event["seq"] > max(self.kept, default=0)
                    self.kept[event["seq"]] = event["content"]


@dataclass
class Loss:
    messages: int  # confirmed, and not in what was restored
    seconds: float  # from when the first of them was confirmed to the kill


def lose_machine(first: ServerProcess, litestream: Litestream, directory: Path) -> float:
    """Both are killed at once, and the disk is gone. Returns when."""
    litestream.kill()
    first.kill()
    killed_s = time.monotonic()
    shutil.rmtree(directory)
    return killed_s


def count_loss(chatting: Chatting, stored: set[str], killed_s: float) -> Loss:
    lost = [when for when, _, content in chatting.confirmed if when <= killed_s and content not in stored]
    return Loss(len(lost), killed_s - min(lost) if lost else 0.0)
