"""`python tests/soak.py --minutes 60`: the same load for long, and what memory makes of it.

Users of a fixed load come and go, send, react, answer in threads, search, are muted and banned, rooms are made and
deleted, tenants too, and webhooks are called, some of them in vain. Each minute prints what the server holds; in the
end stands the slope of the second half. It takes some 0.3 of a core. What only fills (rings, blocks of history, the
tokens that were verified) is filled before.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web

sys.path.insert(0, str(Path(__file__).parent))

from server_process import ServerProcess

USERS = 2_000
ROOMS = 150
TOKENS = 10_000  # the server remembers so many
MESSAGES = 150  # of each room at first, more than a ring holds
MEMBERS = 6
FILLERS = 20
VISITORS = 40  # at a time
CALLS_PER_SECOND = 40
VISIT_SECONDS = 6.0
NEWEST_MESSAGES = 20  # of a room, to which something is done
EMOJI = ("👍", "❤️", "🎉", ":ship:")
SETTINGS = {
    "webhooks.allow_private_addresses": "true",
    "webhooks.retry_schedule_seconds": "[0, 1, 5]",
    "websocket.presence_grace_seconds": "1",
    "log.level": "warning",
}


class Load:
    """All that is done to the server, with one random number generator."""

    def __init__(self, server: ServerProcess, session: aiohttp.ClientSession, hook: str, seed: int) -> None:
        self._server = server
        self._session = session
        self._hook = hook
        self._random = random.Random(seed)
        self.answers: Counter[str] = Counter()  # by operation and status: that all of them do something
        self._keys: list[str] = []
        self._rooms: list[tuple[str, str, list[str]]] = []  # key, id, members
        self._messages: dict[str, deque[str]] = {}  # by room: ids of the newest ones
        self.done = 0
        self.failed = 0

    async def set_up(self) -> None:
        for number in range(4):
            self._keys.append(await self._make_tenant(f"tenant {number}"))
        for _ in range(ROOMS):
            await self._make_room()
        async with asyncio.TaskGroup() as group:
            for part in range(FILLERS):
                group.create_task(self._fill(self._rooms[part::FILLERS]))

    async def _fill(self, rooms: list[tuple[str, str, list[str]]]) -> None:
        for key, room_id, members in rooms:
            for _ in range(MESSAGES):
                body = {"content": "x" * self._random.randint(10, 2_000)}
                await self._call("POST", f"/rooms/{room_id}/messages", body, key, members[0])
            await self._call("GET", f"/rooms/{room_id}/messages?limit=100", None, key, members[0])
        for _ in range(TOKENS // FILLERS):
            await self._mint()

    async def visit_for(self, seconds: float) -> None:
        """Visitors come one after the other, each for a while."""
        ends_at_s = time.monotonic() + seconds
        while time.monotonic() < ends_at_s:
            try:
                await self._visit()
            except aiohttp.WSMessageTypeError:  # closed: a user who was banned from the tenant meanwhile
                self.answers["visits that the server closed"] += 1
            except (aiohttp.ClientError, TimeoutError):
                self.answers["visits that failed"] += 1

    async def call_for(self, seconds: float) -> None:
        ends_at_s = time.monotonic() + seconds
        calls: list[Callable[[], Awaitable[object]]] = [self._read, self._read, self._say, self._say, self._say]
        calls += [self._list, self._mint, self._mint, self._guess]
        calls += [self._react, self._react, self._reply, self._edit, self._delete, self._pin, self._search]
        calls += [self._list_mentions, self._set_profile, self._set_view, self._moderate, self._block, self._report]
        while time.monotonic() < ends_at_s:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                await self._random.choice(calls)()
                if self._random.random() < 0.02:
                    await self._replace_room()
                if self._random.random() < 0.001:
                    await self._replace_tenant()
            await asyncio.sleep(1 / CALLS_PER_SECOND)

    async def _visit(self) -> None:
        key, room_id, members = self._pick_room()
        headers = {"X-API-Key": key, "X-User-Id": self._random.choice(members)}
        async with self._session.ws_connect(f"{self._server.url}/ws", headers=headers) as socket:
            ends_at_s = time.monotonic() + self._random.expovariate(1 / VISIT_SECONDS)
            while (left_s := ends_at_s - time.monotonic()) > 0:
                try:
                    frame = await socket.receive_json(timeout=min(left_s, 2))
                except TimeoutError:
                    await socket.send_json({"type": "typing.start", "room_id": room_id})
                    continue
                if frame["type"] == "message":
                    await socket.send_json({"type": "ack", "room_id": frame["room_id"], "seq": frame["seq"]})
            await socket.send_json({"type": "send_message", "room_id": room_id, "content": "bye " * 20})
            if self._random.random() < 0.3:
                socket._response.connection.transport.abort()  # type: ignore[union-attr]  # as when a network goes
        self.done += 1

    async def _read(self) -> None:
        key, room_id, members = self._pick_room()
        await self._call("GET", f"/rooms/{room_id}/messages?limit=50", None, key, members[0])

    async def _say(self) -> None:
        key, room_id, members = self._pick_room()
        await self._send(key, room_id, self._random.choice(members), {})

    async def _reply(self) -> None:
        """In a thread, and it mentions everybody."""
        key, room_id, members, message_id = self._pick_message()
        if message_id:
            await self._send(key, room_id, members[1], {"thread_id": message_id, "mentions": members})

    async def _send(self, key: str, room_id: str, user: str, fields: dict[str, object]) -> None:
        words = " ".join(f"word{self._random.randrange(5_000)}" for _ in range(self._random.randint(1, 100)))
        message = await self._call("POST", f"/rooms/{room_id}/messages", {"content": words, **fields}, key, user)
        if message is not None and "thread_id" not in fields:
            self._messages.setdefault(room_id, deque(maxlen=NEWEST_MESSAGES)).append(message["message_id"])

    async def _react(self) -> None:
        key, room_id, members, message_id = self._pick_message()
        path = f"/rooms/{room_id}/messages/{message_id}/reactions/{quote(self._random.choice(EMOJI))}"
        await self._call(self._random.choice(("PUT", "DELETE")), path, None, key, self._random.choice(members))

    async def _edit(self) -> None:
        key, room_id, members, message_id = self._pick_message()
        path = f"/rooms/{room_id}/messages/{message_id}"
        for user in set(members):  # one of them has sent it
            await self._call("PUT", path, {"content": f"edited {self.done}", "mentions": members[:2]}, key, user)

    async def _delete(self) -> None:
        key, room_id, members, message_id = self._pick_message()
        await self._call("DELETE", f"/rooms/{room_id}/messages/{message_id}", None, key, members[0])

    async def _pin(self) -> None:
        key, room_id, members, message_id = self._pick_message()
        method = self._random.choice(("PUT", "DELETE"))
        await self._call(method, f"/rooms/{room_id}/pins/{message_id}", None, key, members[0])

    async def _search(self) -> None:
        key, _, members = self._pick_room()
        path = f"/search?q=word{self._random.randrange(5_000)}"
        await self._call("GET", path, None, key, self._random.choice(members))

    async def _list_mentions(self) -> None:
        key, _, members = self._pick_room()
        await self._call("GET", "/mentions", None, key, self._random.choice(members))

    async def _set_profile(self) -> None:
        key, _, members = self._pick_room()
        user = self._random.choice(members)
        await self._call("PUT", f"/users/{user}", {"name": f"Name {self.done}"}, key, user)
        await self._call("GET", f"/users?q=Name%20{self._random.randrange(10)}", None, key, user)

    async def _set_view(self) -> None:
        key, room_id, members = self._pick_room()
        body = {"notify": self._random.choice(("all", "mentions", "none")), "hidden": self._random.random() < 0.5}
        await self._call("PATCH", f"/rooms/{room_id}/me", body, key, self._random.choice(members))

    async def _moderate(self) -> None:
        """Mutes, bans and slow mode, all of which soon end."""
        key, room_id, members = self._pick_room()
        user = self._random.choice(members)
        if user == members[0]:
            rules = {"slow_mode_seconds": self._random.choice((0, 1)), "posting": "members"}
            await self._call("PATCH", f"/rooms/{room_id}", rules, key, user)
            return
        await self._call("PATCH", f"/rooms/{room_id}/members/{user}", {"muted_for": 1}, key, members[0])
        await self._call("PUT", f"/rooms/{room_id}/bans/{user}", {"expires_in": 1}, key, members[0])
        await self._call("DELETE", f"/rooms/{room_id}/bans/{user}", None, key, members[0])
        await self._call("POST", f"/rooms/{room_id}/members", {"user_id": user}, key, members[0])
        await self._call("PUT", f"/users/{user}/ban", {"expires_in": 1}, key, members[0])

    async def _block(self) -> None:
        key, _, members = self._pick_room()
        method = self._random.choice(("PUT", "DELETE"))
        await self._call(method, f"/blocks/{members[1]}", None, key, members[0])

    async def _report(self) -> None:
        key, room_id, members, message_id = self._pick_message()
        path = f"/rooms/{room_id}/messages/{message_id}/report"
        report = await self._call("POST", path, {"reason": "a word"}, key, members[0])
        if report is not None:
            await self._call("POST", f"/reports/{report['report_id']}/resolve", None, key, members[0])

    async def _list(self) -> None:
        key, _, members = self._pick_room()
        await self._call("GET", "/rooms", None, key, self._random.choice(members))

    async def _mint(self) -> None:
        key, _, members = self._pick_room()
        token = (await self._call("POST", "/tokens", {"user_id": members[0]}, key, members[0]))["token"]
        url, headers = f"{self._server.url}/rooms", {"Authorization": f"Bearer {token}"}
        async with self._session.get(url, headers=headers) as answer:
            await answer.read()

    async def _guess(self) -> None:
        await self._call("GET", "/rooms", None, f"sk_{self._random.random()}", "mallory")

    async def _make_room(self) -> None:
        key = self._random.choice(self._keys)
        members = [f"user-{self._random.randrange(USERS)}" for _ in range(MEMBERS)]
        room = await self._call("POST", "/rooms", {"type": "group", "members": members}, key, members[0])
        self._rooms.append((key, room["room_id"], members))

    async def _replace_room(self) -> None:
        key, room_id, members = self._rooms.pop(self._random.randrange(len(self._rooms)))
        await self._call("DELETE", f"/rooms/{room_id}", None, key, members[0])
        self._messages.pop(room_id, None)
        await self._make_room()

    async def _make_tenant(self, name: str) -> str:
        config = {"rate_limit": 10_000, "user_rate_limit": 10_000, "webhook_url": self._hook}
        return str((await self._administer("POST", "/tenants", {"name": name, "config": config}))["api_key"])

    async def _replace_tenant(self) -> None:
        made = await self._administer("POST", "/tenants", {"name": "for a moment", "config": {}})
        await self._call("POST", "/rooms", {"type": "group", "members": ["a"]}, made["api_key"], "b")
        await self._administer("DELETE", f"/tenants/{made['tenant_id']}", None)

    def _pick_room(self) -> tuple[str, str, list[str]]:
        return self._random.choice(self._rooms)

    def _pick_message(self) -> tuple[str, str, list[str], str]:
        """A room and one of its newest messages. Where it has none the server is asked for one that is not there."""
        key, room_id, members = self._pick_room()
        newest = self._messages.get(room_id)
        return key, room_id, members, self._random.choice(newest) if newest else "msg_0"

    async def _call(self, method: str, path: str, body: object, key: str, user: str) -> Any:
        return await self._ask(method, path, body, {"X-API-Key": key, "X-User-Id": user})

    async def _administer(self, method: str, path: str, body: object) -> Any:
        return await self._ask(method, f"/admin{path}", body, {"X-Master-Key": self._server.master_key})

    async def _ask(self, method: str, path: str, body: object, headers: dict[str, str]) -> Any:
        self.done += 1
        async with self._session.request(method, self._server.url + path, json=body, headers=headers) as answer:
            self.answers[f"{method} {'/'.join(path.partition('?')[0].split('/')[1::2])} {answer.status}"] += 1
            if answer.status == 204:
                return None
            self.failed += answer.status >= 500
            return (await answer.json())["data"]


async def open_hook() -> tuple[web.AppRunner, str]:
    """Answers webhooks, one in five with an error."""
    dice = random.Random(1)

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=500 if dice.random() < 0.2 else 204)

    app = web.Application()
    app.router.add_post("/hook", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/hook"


def read_memory_mb(pid: int) -> dict[str, float]:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon")}


def read_size_mb(directory: Path) -> float:
    return sum(file.stat().st_size for file in directory.glob("chatapi.db*")) / 1e6


def find_slope(samples: list[float]) -> float:
    """Of the least squares, per sample."""
    middle, mean = (len(samples) - 1) / 2, sum(samples) / len(samples)
    above = sum((at - middle) * (value - mean) for at, value in enumerate(samples))
    return above / sum((at - middle) ** 2 for at in range(len(samples)))


async def soak(minutes: int, seed: int, directory: Path) -> float:
    """MB that the second half has added per 10 minutes."""
    runner, hook = await open_hook()
    samples: list[float] = []
    with ServerProcess(directory, SETTINGS, dev=False) as server:
        process = server._process
        assert process is not None
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as session:
            load = Load(server, session, hook, seed)
            await load.set_up()
            print(f"filled: RSS {read_memory_mb(process.pid)['VmRSS']:.1f} MB", flush=True)
            async with asyncio.TaskGroup() as group:
                for _ in range(VISITORS):
                    group.create_task(load.visit_for(minutes * 60))
                group.create_task(load.call_for(minutes * 60))
                for minute in range(1, minutes + 1):
                    await asyncio.sleep(60)
                    memory = read_memory_mb(process.pid)
                    samples.append(memory["VmRSS"])
                    size_mb = read_size_mb(directory)
                    told = f"RSS {memory['VmRSS']:.1f} MB, anonymous {memory['RssAnon']:.1f}, database {size_mb:.0f} MB"
                    print(f"{minute:3} min: {told}, done {load.done}, failed {load.failed}", flush=True)
        print(", ".join(f"{what}: {count}" for what, count in sorted(load.answers.items())))
        server.stop()
        print(server.log.read_text()[-2000:])
    await runner.cleanup()
    return find_slope(samples[len(samples) // 2 :]) * 10


def main() -> int:
    parser = argparse.ArgumentParser(description="Whether a server's memory levels off under a constant load.")
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        slope_mb = asyncio.run(soak(options.minutes, options.seed, Path(directory)))
    print(f"second half: {slope_mb:+.2f} MB per 10 minutes")
    return 0 if slope_mb <= 1 else 1


if __name__ == "__main__":
    sys.exit(main())
