"""A run: two servers, a tenant that moves between them, kills, clients that go on, and the verdict."""

import asyncio
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from server_process import ServerProcess

from chatapi.client.options import TRANSPORTS
from chatapi.store.check import check_database
from move_checker import chatters
from move_checker.chatters import Chatters
from move_checker.journal import Journal
from move_checker.verdict import Log, find_violations

ROOMS = 3
JS_PROCESSES = (("js-websocket", "js-rest"), ("js-sse", "js-poll", "js-stream"))
LISTENING = (*chatters.LISTENING, *(f"js-{transport}" for transport in TRANSPORTS))
USERS = (*chatters.USERS, *(user for users in JS_PROCESSES for user in users))

KILLS = (0.9, 0.4)  # how likely a kill is in the first try of a move, and in the second; the others are left alone
PARTIES = ("source", "target", "command")
PROGRESS = 10  # messages that each sender has confirmed between two moves; one, of those who write streams
PATIENCE_SECONDS = 300.0  # a machine that is busy may take its time
COMMAND_SECONDS = 300.0
START_SECONDS = 300.0
PROBE_SECONDS = 0.01
MOVED, SERVED = 421, 200
SETTINGS = {"limits.rate_limit": "100000", "limits.user_rate_limit": "100000"}


@dataclass
class Report:
    seed: int
    moves: int
    seconds: float
    events: int
    counts: Counter[str]
    held_ms: list[int]
    violations: list[str]

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        held = sorted(self.held_ms) or [0]
        return "\n".join(
            [
                f"seed {self.seed}: {self.moves} moves, {self.seconds:.0f} s, {self.events} events in the logs",
                counts,
                f"writes were held for {held[len(held) // 2]} ms (median), {held[-1]} ms at most",
                f"{len(self.violations)} violations",
                *self.violations[:20],
            ]
        )


class Stuck(Exception):
    """Nobody goes on: the run has to end."""


class Run:
    def __init__(self, directory: Path, seed: int, tell: Callable[[str], None] = lambda _line: None) -> None:
        self._seed = seed
        self._tell = tell
        self._random = random.Random(f"{seed}/moves")
        self._journal = Journal()
        self._databases = [directory / name / "chatapi.db" for name in ("a", "b")]
        for database in self._databases:
            database.parent.mkdir()
        self._servers = [
            ServerProcess(database.parent, SETTINGS, dev=False, start_seconds=START_SECONDS)
            for database in self._databases
        ]
        self._nodes: list[asyncio.subprocess.Process] = []
        self._move_seconds = 1.0  # that a move takes, about
        self._held_ms: list[int] = []

    async def run(self, moves: int) -> Report:
        begun_s = time.monotonic()
        logs: dict[str, Log] = {}
        try:
            await self._open()
            logs = await self._chat(moves)
            for server in self._servers:
                await asyncio.to_thread(server.stop)
        except* Stuck as stuck:
            self._journal.faults += [str(error) for error in stuck.exceptions]
        finally:
            for node in self._nodes:
                with suppress(ProcessLookupError):
                    node.kill()
                await node.wait()
            await self._session.close()
            for server in self._servers:
                await asyncio.to_thread(server.__exit__)
        violations = find_violations(self._journal, logs, LISTENING) if logs else self._journal.faults
        for server, database in zip(self._servers, self._databases, strict=True):
            violations += [str(finding) for finding in check_database(str(database)).findings]
            log = server.log.read_text()
            violations += (
                [f"a server logged a traceback:\n{log[log.index('Traceback') :][:3000]}"] if "Traceback" in log else []
            )
        return Report(
            seed=self._seed,
            moves=moves,
            seconds=time.monotonic() - begun_s,
            events=sum(map(len, logs.values())),
            counts=self._journal.counts,
            held_ms=self._held_ms,
            violations=violations,
        )

    async def _open(self) -> None:
        self._session = aiohttp.ClientSession()
        for server in self._servers:
            await asyncio.to_thread(server.start)
        made = await asyncio.to_thread(self._servers[0].make_tenant, "mover")
        self._tenant_id, self._key = made["tenant_id"], made["api_key"]
        self._rooms = []
        for _ in range(ROOMS):
            room = await self._call(self._servers[0], "POST", "/rooms", {"type": "group", "members": list(USERS)})
            self._rooms.append(str(room["room_id"]))

    async def _chat(self, moves: int) -> dict[str, Log]:
        """The logs at the end."""
        url = self._servers[0].url
        python = Chatters(url, self._key, self._rooms, self._journal.note, self._seed)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(chatter) for chatter in python.list_all()]
            for users in JS_PROCESSES:
                tasks.append(group.create_task(self._run_node(url, users)))
            probe = group.create_task(self._probe())
            for number in range(moves):
                await self._wait_for_progress()
                await self._move(number)
            await self._wait_for_progress()
            probe.cancel()
            python.stop()
            for node in self._nodes:
                assert node.stdin is not None
                node.stdin.close()
            logs = await self._settle(self._servers[moves % 2])
            for task in tasks:
                task.cancel()
        return logs

    async def _run_node(self, url: str, users: tuple[str, ...]) -> None:
        options = {"url": url, "key": self._key, "rooms": self._rooms, "users": users}
        program = Path(__file__).with_name("chatter.mjs")
        node = await asyncio.create_subprocess_exec(
            "node", program, json.dumps(options), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        self._nodes.append(node)
        assert node.stdout is not None
        async for line in node.stdout:
            self._journal.note(json.loads(line))
        self._journal.faults.append(f"the process of {users} ended with {await node.wait()}")

    # Moving

    async def _move(self, number: int) -> None:
        """Tries until the command says that the tenant has moved."""
        here, there = self._servers[number % 2], self._servers[1 - number % 2]
        kills: list[str] = []
        for tries in range(20):
            begun_s = time.monotonic()
            chance = KILLS[tries] if tries < len(KILLS) else 0.0
            party = self._random.choice(PARTIES) if self._random.random() < chance else None
            status, text = await self._try_move(here, there, party)
            if party is not None:
                kills.append(party)
            elif status == 0:
                self._move_seconds += (time.monotonic() - begun_s - self._move_seconds) / 3
            if status == 0:
                self._held_ms.append(json.loads(text)["held_ms"])
                break
        else:
            raise Stuck(f"move {number} does not end: {text}")
        self._journal.counts["tries"] += tries + 1
        self._tell(f"move {number}: killed {', '.join(kills) or 'nobody'}; {tries + 1} tries; {text.strip()[-120:]}")
        statuses = [await self._read_status(server) for server in (here, there)]
        if statuses != [MOVED, SERVED]:
            self._journal.faults.append(f"after move {number} the servers answer {statuses}")

    async def _try_move(self, here: ServerProcess, there: ServerProcess, party: str | None) -> tuple[int, str]:
        """The command's status and what it said. Whoever is killed is back on return."""
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "chatapi", "tenant", "move", self._tenant_id, "--to", there.url),
            *("--url", here.url, "--json"),
            env={**here._environment, "CHATAPI_TO_MASTER_KEY": there.master_key},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            if party is not None:
                await asyncio.sleep(self._random.random() * 1.2 * self._move_seconds)
                self._journal.counts[f"kills of the {party}"] += 1
                if party == "command":
                    with suppress(ProcessLookupError):
                        command.kill()
                else:
                    server = here if party == "source" else there
                    await asyncio.to_thread(server.kill)
                    await asyncio.sleep(self._random.random() * 0.5)
                    await asyncio.to_thread(server.start)
            async with asyncio.timeout(COMMAND_SECONDS):
                output, errors = await command.communicate()
        finally:
            with suppress(ProcessLookupError):
                command.kill()
        assert command.returncode is not None
        return command.returncode, (output if command.returncode == 0 else errors).decode()

    # Looking

    async def _probe(self) -> None:
        """Never both: one server serves the tenant before and after the other one does, and not at that moment."""
        a, b = self._servers
        while True:
            for one, other in ((a, b), (b, a)):
                statuses = [await self._read_status(server) for server in (one, other, one)]
                if statuses == [SERVED, SERVED, SERVED]:
                    self._journal.faults.append("both servers serve the tenant")
                self._journal.counts["probes"] += 1
            await asyncio.sleep(PROBE_SECONDS)

    async def _read_status(self, server: ServerProcess) -> int:
        """0 without an answer."""
        headers = {"X-API-Key": self._key, "X-User-Id": "py-rest"}
        try:
            async with self._session.get(f"{server.url}/rooms", headers=headers) as answer:
                return answer.status
        except (aiohttp.ClientError, OSError):
            return 0

    async def _call(self, server: ServerProcess, method: str, path: str, body: Any = None) -> Any:
        return await asyncio.to_thread(server.call, method, path, body, key=self._key, user="py-rest")

    async def _wait_for_progress(self) -> None:
        """Every sender has carried on by itself."""
        before = {user: self._journal.clients[user].progress for user in USERS}

        def find_idle() -> list[str]:
            return [
                user
                for user, count in before.items()
                if self._journal.clients[user].progress < count + (1 if user.endswith("stream") else PROGRESS)
            ]

        await self._wait_while(find_idle, "those who send no more")

    async def _settle(self, server: ServerProcess) -> dict[str, Log]:
        """Once nobody sends any more, everybody who listens has to get all of it."""
        logs: dict[str, Log] = {}
        while True:
            ends = {room: len(log) for room, log in logs.items()}
            for room in self._rooms:
                logs[room] = await self._read_log(server, room, logs.get(room, []))
            if ends == {room: len(log) for room, log in logs.items()} and not any(map(_is_open, logs.values())):
                break
            await asyncio.sleep(2.0)  # for calls that are still under way
        clients = self._journal.clients

        def find_behind() -> list[str]:
            return [
                f"{who} in {room}"
                for who in LISTENING
                for room, log in logs.items()
                if clients[who].heard[room][-1:] != [len(log)]
            ]

        await self._wait_while(find_behind, "those who do not get the end")
        return {room: await self._read_log(server, room, []) for room in self._rooms}

    async def _read_log(self, server: ServerProcess, room: str, known: Log) -> Log:
        log = list(known)
        while True:
            page = await self._call(server, "GET", f"/rooms/{room}/events?after_seq={len(log)}&limit=100")
            log += page["events"]
            if not page["has_more"]:
                return log

    async def _wait_while(self, find_fault: Callable[[], object], what: str) -> None:
        deadline_s = time.monotonic() + PATIENCE_SECONDS
        while found := find_fault():
            if time.monotonic() > deadline_s or self._journal.faults:
                for node in self._nodes:
                    node.send_signal(signal.SIGUSR2)
                await asyncio.sleep(1.0)
                traces = [f"{who}: {text}" for who, text in self._journal.traces.items() if who in str(found)]
                raise Stuck("\n".join([f"{what}: {found}", *traces]))
            await asyncio.sleep(0.02)


def _is_open(log: Log) -> bool:
    """Whether a stream has no end yet."""
    opened = {event["message_id"] for event in log if event["type"] == "message" and event.get("stream")}
    return bool(opened - {event["message_id"] for event in log if event["type"] == "message.finished"})
