"""`python tests/measure_user_data.py --messages 100000`: what exporting and erasing a user costs the others.

A tenant has rooms of 1,000 messages, of which the user has sent some; eight others send at a fixed rate all the time.
Each phase prints its seconds, how long the others waited for their confirmations, and `GET /livez` for its answer:
that is how long the server's loop was held.
"""

import argparse
import asyncio
import contextlib
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).parent))

from server_process import ServerProcess

from chatapi.store.user_check import check_user

USER = "alice"
MESSAGES_PER_ROOM = 1_000
SENDERS = 8
INTERVAL_SECONDS = 0.08  # between the messages of one sender: 100 a second together
PING_SECONDS = 0.005
QUIET_SECONDS = 10.0
SETTINGS = {"log.level": "warning"}

_NUMBERS = "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :count)"
_WORD = "abs(random()) % 20000"
_FILL = (
    f"""{_NUMBERS} INSERT INTO rooms (tenant_key, room_id, type, created_by, created_at_us, updated_at_us)
        SELECT :tenant_key, 'filled_' || n, 'group', 'bob', :now_us, :now_us FROM numbers WHERE n < :count / :size""",
    """INSERT INTO members (room_key, user_id, tenant_key, role, joined_at_us)
        SELECT room_key, u.value, tenant_key, iif(u.value = 'bob', 'admin', 'member'), :now_us
        FROM rooms CROSS JOIN json_each(:members) AS u WHERE room_id GLOB 'filled_*'""",
    f"""{_NUMBERS} INSERT INTO messages (message_key, room_key, seq, sender_id, content, client_message_id, body_digest,
                                        created_at_us)
        SELECT n + 1, (SELECT room_key FROM rooms WHERE room_id = 'filled_' || (n / :size)), n % :size + 1,
            iif(n % :share = 0, :user, 'u' || n % 7),
            printf('word%d word%d word%d word%d word%d word%d word%d word%d', {", ".join([_WORD] * 8)}),
            hex(randomblob(8)), n, :now_us
        FROM numbers""",
    "UPDATE search_progress SET done_key = 0, gap_end_key = :count + 1, head_key = :count + 1",
)


def fill(path: Path, messages: int, share: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        [(tenant_key,)] = connection.execute("SELECT tenant_key FROM tenants")
        scope = {
            "tenant_key": tenant_key,
            "count": messages,
            "size": MESSAGES_PER_ROOM,
            "share": share,
            "user": USER,
            "members": json.dumps(["bob", USER, *(f"u{number}" for number in range(7))]),
            "now_us": time.time_ns() // 1000,
        }
        connection.execute("BEGIN")
        for statement in _FILL:
            connection.execute(statement, scope)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class Others:
    """Their waits, in milliseconds, since the phase began."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str) -> None:
        self._session = session
        self._url = url
        self._key = key
        self._sends: list[float] = []
        self._pings: list[float] = []

    async def send(self, number: int) -> None:
        headers = {"X-API-Key": self._key, "X-User-Id": f"u{number % 7}"}
        due_s = time.perf_counter() + INTERVAL_SECONDS * number / SENDERS
        while True:
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            due_s += INTERVAL_SECONDS
            started_s = time.perf_counter()
            body = {"content": f"message {number}"}
            async with self._session.post(
                f"{self._url}/rooms/filled_{number}/messages", json=body, headers=headers
            ) as reply:
                assert reply.status == 201, await reply.text()
            self._sends.append((time.perf_counter() - started_s) * 1000)

    async def ping(self) -> None:
        while True:
            started_s = time.perf_counter()
            async with self._session.get(f"{self._url}/livez") as reply:
                assert reply.status == 200
            self._pings.append((time.perf_counter() - started_s) * 1000)
            await asyncio.sleep(PING_SECONDS)

    @contextlib.asynccontextmanager
    async def measure(self, name: str) -> AsyncIterator[None]:
        self._sends, self._pings = [], []
        started_s = time.perf_counter()
        yield
        seconds = time.perf_counter() - started_s
        waits = "  ".join(
            f"{what}: p50 {_find(waits, 0.5):.1f}, p99 {_find(waits, 0.99):.1f}, most {_find(waits, 1.0):.1f} ms"
            for what, waits in (("sends", self._sends), ("loop", self._pings))
        )
        print(f"{name:24} {seconds:7.2f} s  {waits}", flush=True)


def _find(values: list[float], quantile: float) -> float:
    ordered = sorted(values) or [0.0]
    return ordered[min(len(ordered) - 1, int(len(ordered) * quantile))]


async def measure(server: ServerProcess, key: str) -> None:
    timeout = aiohttp.ClientTimeout(total=600)
    headers = {"X-API-Key": key, "X-User-Id": "bob"}
    async with aiohttp.ClientSession(timeout=timeout) as session:
        others = Others(session, server.url, key)
        tasks = [asyncio.ensure_future(others.send(number)) for number in range(SENDERS)]
        tasks.append(asyncio.ensure_future(others.ping()))
        async with others.measure("nothing else"):
            await asyncio.sleep(QUIET_SECONDS)
        async with (
            others.measure("export"),
            session.get(f"{server.url}/users/{USER}/export", headers=headers) as reply,
        ):
            size = len(await reply.read())
        print(f"  of {size:,} bytes")
        for user in ("nobody", USER):
            async with others.measure(f"erasure of {user}"):
                is_erased = False
                while not is_erased:
                    async with session.delete(f"{server.url}/users/{user}", headers=headers) as reply:
                        is_erased = (await reply.json())["data"]["erased"]
        for task in tasks:
            assert not task.done() or task.exception() is None, task.exception()
            task.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000, help="of the tenant")
    parser.add_argument("--share", type=int, default=50, help="one of so many messages is the user's")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder), SETTINGS, dev=False) as server:
        tenant = server.make_tenant("measured")
        server.stop()
        fill(Path(folder) / "chatapi.db", args.messages, args.share)
        server.start()
        started_s = time.monotonic()
        while server.call("GET", "/health", key=tenant["api_key"], user="bob")["search"]["lag"]:
            time.sleep(0.5)
        print(
            f"{args.messages} messages, {args.messages // args.share} of the user; indexed in "
            f"{time.monotonic() - started_s:.0f} s"
        )
        asyncio.run(measure(server, tenant["api_key"]))
        server.stop()
        found = check_user(str(Path(folder) / "chatapi.db"), tenant["tenant_id"], USER, ())
        print("left:", found or "nothing")


if __name__ == "__main__":
    main()
