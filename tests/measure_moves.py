"""`python tests/measure_moves.py --messages 100000 --moves 20`: how long a move of a tenant keeps its senders waiting.

The tenant moves to and fro between two servers, while four clients of the Python SDK send over WebSockets. Each move
prints how long writes were held, and the longest wait for a confirmation. At the end the room's log is read, and held
to what was confirmed.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from server_process import ServerProcess

from chatapi.client import AdminAPI, ChatAPI
from chatapi.clock import Clock
from chatapi.store.prefill import prefill

USER = "alice"
SENDERS = 4
INTERVAL_SECONDS = 0.02  # between the messages of one sender: 50 a second
QUIET_SECONDS = 2.0  # before and after each move
RETRIES = 10


class Sender:
    def __init__(self, url: str, key: str, room_id: str) -> None:
        self._url = url
        self._key = key
        self._room_id = room_id
        self.confirmed = 0
        self.slowest_ms = 0.0  # since the move began

    async def send(self, is_over: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            api = await stack.enter_async_context(ChatAPI(self._url, api_key=self._key, user_id=USER, retries=RETRIES))
            connection = await stack.enter_async_context(api.connect())
            while not is_over.is_set():
                started_s = time.perf_counter()
                await connection.send(self._room_id, f"message {self.confirmed}")
                self.slowest_ms = max(self.slowest_ms, (time.perf_counter() - started_s) * 1000)
                self.confirmed += 1
                await asyncio.sleep(INTERVAL_SECONDS)


async def take_key(server: ServerProcess) -> tuple[str, str]:
    """The tenant that was filled, and a key of it."""
    async with AdminAPI(server.url, server.master_key) as admin:
        tenant_id = (await admin.list_tenants())["tenants"][0]["tenant_id"]
        await admin.update_tenant(tenant_id, config={"rate_limit": 10_000, "user_rate_limit": 10_000})
        return tenant_id, (await admin.create_key(tenant_id))["api_key"]


async def move(here: ServerProcess, there: ServerProcess, tenant_id: str) -> float:
    """For how many milliseconds its writes were held."""
    async with AdminAPI(here.url, here.master_key) as admin:
        return float((await admin.move_tenant(tenant_id, there.url, there.master_key))["held_ms"])


async def count_stored(url: str, key: str, room_id: str) -> int:
    """The events of the room, of which none may be missing."""
    last_seq = 0
    async with ChatAPI(url, api_key=key, user_id=USER, retries=RETRIES) as api:
        has_more = True
        while has_more:
            page = await api.list_events(room_id, after_seq=last_seq, limit=100)
            for event in page["events"]:
                assert event["seq"] == last_seq + 1, (last_seq, event)
                last_seq += 1
            has_more = page["has_more"]
    return last_seq


async def measure(servers: list[ServerProcess], moves: int) -> None:
    tenant_id, key = await take_key(servers[0])
    async with ChatAPI(servers[0].url, api_key=key, user_id=USER) as api:
        room_id = (await api.create_room("group", ["bob"]))["room_id"]
    senders = [Sender(servers[0].url, key, room_id) for _ in range(SENDERS)]
    held_ms, waits_ms, seconds = [], [], []
    is_over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for sender in senders:
            group.create_task(sender.send(is_over))
        for number in range(moves):
            await asyncio.sleep(QUIET_SECONDS)
            for sender in senders:
                sender.slowest_ms = 0.0
            started_s = time.perf_counter()
            held_ms.append(await move(servers[number % 2], servers[1 - number % 2], tenant_id))
            seconds.append(time.perf_counter() - started_s)
            await asyncio.sleep(QUIET_SECONDS)
            waits_ms.append(max(sender.slowest_ms for sender in senders))
            times = f"{seconds[-1]:.1f} s, held {held_ms[-1]:.0f} ms, longest wait {waits_ms[-1]:.0f} ms"
            print(f"move {number + 1}: {times}", flush=True)
        is_over.set()
    confirmed = sum(sender.confirmed for sender in senders)
    stored = await count_stored(servers[moves % 2].url, key, room_id)
    print(f"confirmed {confirmed}, stored {stored}")
    assert stored == confirmed
    for name, values, unit in (
        ("writes held", held_ms, "ms"),
        ("longest wait", waits_ms, "ms"),
        ("move", seconds, "s"),
    ):
        print(f"{name:14} p50 {find(values, 0.5):.1f}, p95 {find(values, 0.95):.1f}, most {max(values):.1f} {unit}")


def find(values: list[float], quantile: float) -> float:
    ordered = sorted(values)
    return ordered[max(0, -int(-quantile * len(ordered) // 1) - 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000, help="of the tenant")
    parser.add_argument("--moves", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        places = [Path(folder) / name for name in ("first", "second")]
        for place in places:
            place.mkdir()
        prefill(str(places[0] / "chatapi.db"), args.messages, Clock())
        servers = [stack.enter_context(ServerProcess(place, dev=False)) for place in places]
        asyncio.run(measure(servers, args.moves))


if __name__ == "__main__":
    main()
