"""Clients go on while their tenant moves to and fro: both servers are real, and so are the clients."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from driver import eventually
from server_process import ServerProcess

from chatapi.client import AdminAPI, ChatAPI
from chatapi.client.options import TRANSPORTS, Transport
from chatapi.store.check import check_database

MOVES = 3
PROGRESS = 15  # messages that each sender has confirmed between two moves


class Town:
    """Two servers, a tenant that moves between them, a room, and what each sender had confirmed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.servers = []
        for name in ("a", "b"):
            (directory / name).mkdir()
            self.servers.append(ServerProcess(directory / name, dev=False))
        self.confirmed: dict[str, list[str]] = defaultdict(list)
        self.is_over = asyncio.Event()
        self.heard: dict[str, list[int]] = defaultdict(list)

    async def open(self) -> None:
        for server in self.servers:
            await asyncio.to_thread(server.start)
        made = await asyncio.to_thread(self.servers[0].make_tenant, "acme")
        self.tenant_id, self.key = made["tenant_id"], made["api_key"]
        async with self.client("owner") as owner:
            room = await owner.create_room("group", ["rest", "socket", "streamer", *TRANSPORTS])
            self.room_id = room["room_id"]

    def close(self) -> None:
        for server in self.servers:
            if server._process is not None:
                server.kill()

    def client(self, user: str) -> ChatAPI:
        """It begins at the first server, wherever the tenant is."""
        return ChatAPI(self.servers[0].url, api_key=self.key, user_id=user)

    async def move(self, number: int) -> dict[str, object]:
        here, there = self.servers[number % 2], self.servers[1 - number % 2]
        async with AdminAPI(here.url, here.master_key) as admin:
            return dict(await admin.move_tenant(self.tenant_id, there.url, there.master_key))

    async def send_by_rest(self, user: str) -> None:
        async with self.client(user) as client:
            for number in itertools.count():
                text = f"{user} {number}"
                await client.send_message(self.room_id, text, client_message_id=text)
                self.confirmed[user].append(text)

    async def send_by_socket(self, user: str) -> None:
        async with self.client(user) as client, client.connect() as connection:
            for number in itertools.count():
                text = f"{user} {number}"
                await connection.send(self.room_id, text, client_message_id=text)
                self.confirmed[user].append(text)

    async def listen(self, transport: Transport) -> None:
        user = transport
        async with self.client(user) as client, client.connect(transports=[transport]) as connection:
            async for event in connection:
                if event["type"] in ("message", "message.finished"):
                    self.heard[user].append(event["seq"])

    async def write_stream(self) -> str:
        """One message that is open during all moves; the text that its author wrote."""
        pieces: list[str] = []

        async def write() -> AsyncIterator[str]:
            while not self.is_over.is_set():
                pieces.append(f"{len(pieces)} ")
                yield pieces[-1]
                await asyncio.sleep(0.01)

        async with self.client("streamer") as client, client.connect() as connection:
            message = await connection.stream(self.room_id, write())
        assert message["content"] == "".join(pieces)
        return str(message["content"])

    async def wait_for_progress(self) -> None:
        wanted = {user: len(self.confirmed[user]) + PROGRESS for user in ("rest", "socket")}
        await eventually(lambda: all(len(self.confirmed[user]) >= count for user, count in wanted.items()))

    async def read_log(self) -> list[tuple[int, str | None]]:
        log: list[tuple[int, str | None]] = []
        async with self.client("owner") as owner:
            while True:
                page = await owner.list_events(self.room_id, after_seq=len(log), limit=100)
                log += [(event["seq"], event.get("content")) for event in page["events"]]
                if not page["has_more"]:
                    return log

    def check(self, log: list[tuple[int, str | None]], streamed: str) -> None:
        numbers = list(range(1, len(log) + 1))
        assert [seq for seq, _ in log] == numbers
        for transport in TRANSPORTS:
            assert self.heard[transport] == numbers, transport
        for user, confirmed in self.confirmed.items():
            stored = [text for _, text in log if text and text.startswith(f"{user} ")]
            # One more may be stored whose confirmation nobody took.
            assert stored[: len(confirmed)] == confirmed
            assert len(stored) <= len(confirmed) + 1
        assert [text for _, text in log].count(streamed) >= 1


@asynccontextmanager
async def open_town(directory: Path) -> AsyncIterator[Town]:
    town = Town(directory)
    try:
        await town.open()
        yield town
    finally:
        await asyncio.to_thread(town.close)


@pytest.mark.slow
async def test_clients_follow_and_nothing_is_lost(tmp_path: Path) -> None:
    async with open_town(tmp_path) as town:
        async with asyncio.TaskGroup() as group:
            streaming = group.create_task(town.write_stream())
            senders = [group.create_task(town.send_by_rest("rest")), group.create_task(town.send_by_socket("socket"))]
            listeners = [group.create_task(town.listen(transport)) for transport in TRANSPORTS]
            for number in range(MOVES):
                await town.wait_for_progress()
                moved = await town.move(number)
                assert moved["held_ms"] < 5_000
            await town.wait_for_progress()
            town.is_over.set()
            streamed = await streaming
            for sender in senders:
                sender.cancel()
            await asyncio.wait(senders)
            log = await town.read_log()
            await eventually(lambda: all(town.heard[transport][-1:] == [len(log)] for transport in TRANSPORTS))
            for listener in listeners:
                listener.cancel()
        town.check(log, streamed)
        await check_answers_of_the_server_before(town)
        for server in town.servers:
            await asyncio.to_thread(server.stop)
        for name in ("a", "b"):
            assert check_database(str(tmp_path / name / "chatapi.db")).findings == []


async def check_answers_of_the_server_before(town: Town) -> None:
    """The tenant is at the second server. Only valid credentials are told."""
    before, after = (server.url for server in town.servers)
    async with aiohttp.ClientSession() as session:
        own = {"X-API-Key": town.key, "X-User-Id": "owner"}
        async with session.get(f"{before}/rooms", headers=own) as answer:
            error = (await answer.json())["error"]
            assert (answer.status, error["code"], error["details"]) == (421, "TENANT_MOVED", {"url": after})
        async with session.get(f"{before}/rooms", headers={**own, "X-API-Key": f"{town.key}x"}) as answer:
            assert answer.status == 401
        with pytest.raises(aiohttp.WSServerHandshakeError, match="421"):
            await session.ws_connect(f"{before}/ws", headers=own)
        async with session.post(f"{after}/tokens", headers=own, json={}) as answer:
            token = (await answer.json())["data"]["token"]
        async with session.ws_connect(f"{before}/ws?token={token}") as socket:
            frame = await socket.receive_json()
            assert frame == {"type": "server.shutdown", "reconnect_after_ms": 0, "url": after}
            await socket.receive()
            assert socket.close_code == 1001
        async with session.ws_connect(f"{before}/ws?token={token}x") as socket:
            assert (await socket.receive_json())["type"] == "error"
