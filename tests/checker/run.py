"""A run: a server that is killed again and again, clients that go on, and the verdict."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from server_process import ServerProcess

from checker.backend import SETTINGS as BACKEND_SETTINGS
from checker.backend import Backend, check_told, open_backend
from checker.clients import World
from checker.growing import IDLE_SECONDS
from checker.journal import Journal
from checker.listeners import Listener
from checker.pollers import Poller
from checker.truth import read_truth
from checker.verdict import find_violations
from checker.warden import TENANT_BAN_SECONDS, Warden
from checker.wire import Wire

USERS = 10
DEVICES_PER_USER = 2
POLLERS = 4  # users who have a third one, which polls
GROUPS = 4
CHANNELS = 2
DMS = 3

MAX_UP_SECONDS = 2.5  # the server's life, at random: three in ten live for longer than half of it...
SHORT_LIVES = 2  # ...and as many die while the clients still reconnect, which takes them up to 0.25 s
STOPS = 0.1  # of its ends: gracefully, with exit status 0
SETTLES = 0.15  # of its lives end only after everybody has got everything
SETTLE_SECONDS = 60.0  # a run by hand leaves the processors to others
START_SECONDS = 300.0  # likewise
POLL_SECONDS = 0.02

COMMIT_INTERVALS_MS = ("0", "0", "20", "100")

SETTINGS = {
    "limits.send_buffer_bytes": "16384",  # a client that stalls for a moment falls behind
    "limits.sync_limit": "300",  # some backlogs are longer
    "limits.connections_per_user": "50",  # the server may not know yet that the others are gone
    "limits.rate_limit": "100000",
    "streams.idle_seconds": str(IDLE_SECONDS),
    **BACKEND_SETTINGS,
}


@dataclass
class Report:
    seed: int
    cycles: int
    kills: int
    stops: int
    settles: int
    seconds: float
    events: int
    counts: Counter[str]
    violations: list[str]

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        lines = [
            f"seed {self.seed}: {self.cycles} cycles ({self.kills} kills, {self.stops} stops), {self.settles} pauses in"
            f" which everybody caught up, {self.seconds:.0f} s",
            f"{self.counts['send confirmed']} messages confirmed, {self.events} events in the logs,"
            f" {self.counts['events received']} received over {self.counts['connections']} connections",
            counts,
            f"{len(self.violations)} violations",
            *self.violations[:20],
        ]
        return "\n".join(lines)


class Run:
    def __init__(self, directory: Path, seed: int, settings: Mapping[str, str] | None = None) -> None:
        """`settings` are in force in each life of the server; some others change from one to the next."""
        self._settings = settings or {}
        self._server = ServerProcess(directory, {**SETTINGS, **self._settings}, start_seconds=START_SECONDS)
        self._random = random.Random(f"{seed}/run")
        self._seed = seed
        self._journal = Journal()
        self._counts: Counter[str] = Counter()
        self._pollers: list[Poller] = []

    async def run(self, is_enough: Callable[[int], bool]) -> Report:
        """Ends after the first cycle for which `is_enough(cycles so far)`."""
        async with open_backend(self._seed) as backend:
            return await self._run(is_enough, backend)

    async def _run(self, is_enough: Callable[[int], bool], backend: Backend) -> Report:
        begun_s = time.monotonic()
        await asyncio.to_thread(self._server.start)
        config = {"webhook_url": backend.url, "webhook_events": ["*"]}
        made = await asyncio.to_thread(partial(self._server.make_tenant, "checker", **config))
        backend.secret = made["webhook_secret"]
        wire = Wire(self._server.url, made["api_key"])
        user_ids = [f"user{number}" for number in range(USERS)]
        world = World(self._journal, wire, self._seed, user_ids)
        warden = Warden(world)
        devices = [Listener(world, user_id, number) for user_id in user_ids for number in range(DEVICES_PER_USER)]
        try:
            await warden.make_rooms(GROUPS, CHANNELS, DMS)
            world.acting.set()
            async with asyncio.TaskGroup() as group:
                self._pollers = [Poller(world, user_id) for user_id in user_ids[:POLLERS]]
                for client in (warden, *devices, *self._pollers):
                    group.create_task(client.run())
                while not is_enough(self._counts["cycles"]):
                    await self._cycle(world, warden, devices)
                world.ending = True
            await self._finish(world, warden, devices)
            truth = await read_truth(warden, [warden, *devices[::DEVICES_PER_USER]])
            await self._wait_while(
                lambda: self._server.count_waiting(made["tenant_id"]), "calls for the backend that wait"
            )
        finally:
            await wire.close()
            await asyncio.to_thread(self._server.__exit__)
        self._journal.counts["connections"] = len(self._journal.streams)
        self._journal.counts["calls of the backend"] = len(backend.told)
        return Report(
            seed=self._seed,
            cycles=self._counts["cycles"],
            kills=self._counts["kills"],
            stops=self._counts["stops"],
            settles=self._counts["settles"],
            seconds=time.monotonic() - begun_s,
            events=sum(room.last_seq for room in truth.rooms.values()),
            counts=self._journal.counts,
            violations=[
                *find_violations(self._journal, truth, world.dm_ids),
                *check_told(backend, truth.rooms),
                *self._read_server_log(),
            ],
        )

    async def _cycle(self, world: World, warden: Warden, devices: list[Listener]) -> None:
        await asyncio.sleep(MAX_UP_SECONDS * self._random.random() ** SHORT_LIVES)
        if self._random.random() < SETTLES:
            world.acting.clear()
            await self._settle(world, warden, devices)
            world.acting.set()
        if self._random.random() < STOPS:
            await asyncio.to_thread(self._server.stop)
            self._counts["stops"] += 1
        else:
            await asyncio.to_thread(self._server.kill)
            self._counts["kills"] += 1
        self._server.choose({"database.commit_interval_ms": self._random.choice(COMMIT_INTERVALS_MS), **self._settings})
        await asyncio.to_thread(self._server.start)
        self._counts["cycles"] += 1

    async def _settle(self, world: World, warden: Warden, devices: list[Listener]) -> None:
        """With nobody acting, every connection has to get the last message of every room."""
        self._counts["settles"] += 1
        await self._wait_while(lambda: world.busy, "actions that did not end")
        streams = [(device, device.stream) for device in devices if device.stream is not None]
        for room_id in world.room_ids:
            await warden.greet(room_id)
        seqs = {room_id: self._journal.known_seq(room_id) for room_id in world.room_ids}
        for device, stream in streams:
            find_missing = partial(device.find_missing, stream, seqs)
            await self._wait_while(find_missing, f"{device.name}'s stream begun at tick {stream.begun} waits")
        for poller in self._pollers:
            await self._wait_while(partial(poller.find_missing, seqs), f"{poller.user_id}'s poll waits")

    async def _wait_while(self, find_fault: Callable[[], object], what: str) -> None:
        """Until there is nothing to be found any more."""
        deadline_s = time.monotonic() + SETTLE_SECONDS
        while found := find_fault():
            if time.monotonic() > deadline_s:
                self._journal.fault(f"{what}: {found}")
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _finish(self, world: World, warden: Warden, devices: list[Listener]) -> None:
        """Everybody comes back once more, after a last restart."""
        await asyncio.sleep(TENANT_BAN_SECONDS)
        await asyncio.to_thread(self._server.kill)
        await asyncio.to_thread(self._server.start)
        for device in (warden, *devices):
            await device.retry_all()
        for device in devices:
            await device.finish_all()
        world.acting.clear()
        async with asyncio.TaskGroup() as group:
            for number, device in enumerate(devices):
                group.create_task(device.live("backlog" if number % 2 else "cursors", device.listen))
            await self._wait_while(
                lambda: [device.name for device in devices if device.stream is None], "those who did not come back"
            )
            await self._settle(world, warden, devices)
            world.acting.set()
        for device in (warden, *devices):
            await device.hide_some()
        await asyncio.to_thread(self._server.kill)
        await asyncio.to_thread(self._server.start)

    def _read_server_log(self) -> list[str]:
        log = self._server.log.read_text()
        return [f"the server logged a traceback:\n{log}"] if "Traceback" in log else []
