"""`python tests/checker/storm.py`: how long a reconnect storm takes, and what live traffic feels of it meanwhile.

The server is killed and restarted with nothing in memory; then many users come back at once, each with a backlog, while
a process of its own goes on talking in another room and measures how long each message takes to its other member.
"""

import argparse
import asyncio
import multiprocessing
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from server_process import ServerProcess

from checker.journal import Journal
from checker.wire import Unreachable, Wire, receive, send

ROOM_MEMBERS = 10
PAUSE_SECONDS = 0.01  # between two live messages
QUIET_SECONDS = 2.0  # of live traffic alone, before the storm, to compare with
PREFILLS = 50  # rooms that are filled at once

SETTINGS = {"limits.rate_limit": "1000000"}


async def talk(url: str, api_key: str, room_id: str, link: Connection) -> None:
    """Sends to the room until it is told to stop; tells (when, how long) of each message."""
    wire = Wire(url, api_key)
    speaker, listener = await wire.connect("speaker", sync="none"), await wire.connect("listener")
    journal = Journal()
    while journal.read(await receive(listener) or "")["type"] != "sync.complete":
        pass
    link.send("ready")
    took: list[tuple[float, float]] = []
    while not link.poll():
        begun_s = time.monotonic()
        await send(speaker, {"type": "send_message", "room_id": room_id, "content": "live"})
        while journal.read(await receive(listener) or "")["type"] != "message":
            pass
        took.append((begun_s, time.monotonic() - begun_s))
        await asyncio.sleep(PAUSE_SECONDS)
    link.send(took)
    await speaker.close()
    await listener.close()
    await wire.close()


def run_talk(url: str, api_key: str, room_id: str, link: Connection) -> None:
    asyncio.run(talk(url, api_key, room_id, link))


async def fill_room(wire: Wire, members: list[str], messages: int, turn: asyncio.Semaphore) -> None:
    async with turn:
        reply = await wire.call("owner", "POST", "/rooms", {"type": "group", "members": members})
        for number in range(messages):
            path = f"/rooms/{reply.data['room_id']}/messages"
            await wire.call("owner", "POST", path, {"content": f"missed {number}"})


async def come_back(wire: Wire, user_id: str, messages: int) -> float:
    """When the user had its whole backlog. It tries again until it is let in, as any client does."""
    journal = Journal()
    while True:
        try:
            websocket = await wire.connect(user_id)
            break
        except Unreachable:
            await asyncio.sleep(0.1)
    got = 0
    while (frame := journal.read(await receive(websocket) or ""))["type"] != "sync.complete":
        got += frame["type"] == "message"
    assert got == messages, f"{user_id} got {got}"
    return time.monotonic()


async def measure(directory: Path, clients: int, messages: int) -> None:
    server = ServerProcess(directory, SETTINGS)
    await asyncio.to_thread(server.start)
    api_key = await asyncio.to_thread(server.create_tenant, "storm")
    wire = Wire(server.url, api_key)
    users = [f"user{number}" for number in range(clients)]
    turn = asyncio.Semaphore(PREFILLS)
    async with asyncio.TaskGroup() as group:
        for first in range(0, clients, ROOM_MEMBERS):
            group.create_task(fill_room(wire, users[first : first + ROOM_MEMBERS], messages, turn))
    live_room = (await wire.call("speaker", "POST", "/rooms", {"type": "group", "members": ["listener"]})).data
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    link, other_end = multiprocessing.Pipe()
    talking = multiprocessing.Process(target=run_talk, args=(server.url, api_key, live_room["room_id"], other_end))
    talking.start()
    await asyncio.to_thread(link.recv)
    await asyncio.sleep(QUIET_SECONDS)
    begun_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(come_back(wire, user_id, messages)) for user_id in users]
    caught_up_s = sorted(task.result() - begun_s for task in tasks)
    link.send("stop")
    took = await asyncio.to_thread(link.recv)
    talking.join()
    print(f"{clients} clients with {messages} missed messages each: all caught up after {caught_up_s[-1]:.2f} s")
    print(f"half of them after {caught_up_s[clients // 2]:.2f} s")
    show("live messages before", [seconds for at_s, seconds in took if at_s < begun_s])
    show("live messages meanwhile", [seconds for at_s, seconds in took if at_s >= begun_s])
    await wire.close()
    await asyncio.to_thread(server.__exit__)


def show(what: str, seconds: list[float]) -> None:
    cuts = statistics.quantiles(seconds, n=100)
    print(
        f"{what}: {len(seconds)}, p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms,"
        f" max {max(seconds) * 1000:.1f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="A reconnect storm after a restart, with live traffic.")
    parser.add_argument("--clients", type=int, default=5000)
    parser.add_argument("--messages", type=int, default=20, help="that each has missed (default: 20)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(measure(Path(directory), options.clients, options.messages))


if __name__ == "__main__":
    main()
