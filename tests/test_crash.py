"""kill -9 in the middle of load: what was confirmed is there, once, and the log has no gap."""

import asyncio
import contextlib
import json
import random
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from driver import eventually
from server_process import ServerProcess

from chatapi.store.check import check_database

SENDERS = 8  # over each transport
LOAD_SECONDS = (0.2, 0.6)  # before the kill, at random
FEWEST = 21  # messages that are confirmed before a kill, however busy the machine is


@dataclass
class Load:
    """Users who send as fast as they are answered, and what they were told."""

    server: ServerProcess
    headers: dict[str, str]
    room_id: str = ""
    confirmed: dict[str, int] = field(default_factory=dict)  # seq by client_message_id
    unconfirmed: list[str] = field(default_factory=list)
    sent: int = 0

    def next_id(self) -> str:
        self.sent += 1
        return f"m-{self.sent}"

    def body(self, message_id: str) -> dict[str, str]:
        return {"content": f"content of {message_id}", "client_message_id": message_id}

    async def post(self, session: aiohttp.ClientSession, message_id: str) -> int:
        """The message's seq."""
        url = f"{self.server.url}/rooms/{self.room_id}/messages"
        async with session.post(url, json=self.body(message_id), headers=self.headers) as answer:
            assert answer.status in (200, 201), await answer.text()
            return int((await answer.json())["data"]["seq"])

    async def send_over_rest(self, session: aiohttp.ClientSession) -> None:
        while True:
            message_id = self.next_id()
            self.unconfirmed.append(message_id)
            self.confirm(message_id, await self.post(session, message_id))

    async def send_over_websocket(self, session: aiohttp.ClientSession) -> None:
        async with session.ws_connect(f"{self.server.url}/ws?sync=none", headers=self.headers) as socket:
            while True:
                message_id = self.next_id()
                self.unconfirmed.append(message_id)
                await socket.send_json({"type": "send_message", "room_id": self.room_id, **self.body(message_id)})
                while (frame := json.loads(await socket.receive_str()))["type"] != "message.sent":
                    assert frame["type"] != "error", frame
                self.confirm(message_id, frame["seq"])

    def confirm(self, message_id: str, seq: int) -> None:
        self.confirmed[message_id] = seq
        self.unconfirmed.remove(message_id)

    async def run_until_killed(self, seconds: float) -> None:
        async with aiohttp.ClientSession() as session:
            senders = [
                asyncio.ensure_future(send(session))
                for send in (self.send_over_rest, self.send_over_websocket)
                for _ in range(SENDERS)
            ]
            enough = len(self.confirmed) + FEWEST
            await asyncio.sleep(seconds)  # the load itself, not a wait for something
            await eventually(lambda: len(self.confirmed) >= enough)
            self.server.kill()
            outcomes = await asyncio.gather(*senders, return_exceptions=True)
        # The connection broke, and nothing else.
        broken = (aiohttp.ClientError, ConnectionError, TypeError)  # TypeError: a frame that is the connection's end
        assert all(isinstance(outcome, broken) for outcome in outcomes), outcomes

    async def read_log(self, session: aiohttp.ClientSession) -> list[dict[str, object]]:
        events: list[dict[str, object]] = []
        while True:
            url = f"{self.server.url}/rooms/{self.room_id}/events?after_seq={len(events)}&limit=100"
            async with session.get(url, headers=self.headers) as answer:
                page = (await answer.json())["data"]
            events += page["events"]
            if not page["has_more"]:
                return events


async def survive(directory: Path, kills: int) -> None:
    server = ServerProcess(directory, {"limits.connections_per_user": str(SENDERS)})
    await asyncio.to_thread(server.start)
    try:
        key = await asyncio.to_thread(server.create_tenant, "acme")
        load = Load(server, {"X-API-Key": key, "X-User-Id": "alice"})
        room = await asyncio.to_thread(server.call, "POST", "/rooms", {"type": "group"}, key=key, user="alice")
        load.room_id = room["room_id"]
        for _ in range(kills):
            await load.run_until_killed(random.uniform(*LOAD_SECONDS))
            # Users who copy the file of a killed server, with its WAL, have everything in it.
            report = await asyncio.to_thread(check_database, str(directory / "chatapi.db"))
            assert report.findings == []
            assert server.read_stored() >= {f"content of {name}" for name in load.confirmed}
            await asyncio.to_thread(server.start)
            async with aiohttp.ClientSession() as session:
                await check(load, await load.read_log(session))
                # Users who got no answer ask again, and so do those who got one.
                again = [*load.unconfirmed, *random.sample(sorted(load.confirmed), FEWEST)]
                for message_id in again:
                    seq = await load.post(session, message_id)
                    assert load.confirmed.setdefault(message_id, seq) == seq
                load.unconfirmed.clear()
                await check(load, await load.read_log(session))
        assert len(load.confirmed) >= FEWEST * kills
    finally:
        with contextlib.suppress(AssertionError):
            server.kill()


async def check(load: Load, log: list[dict[str, object]]) -> None:
    assert [event["seq"] for event in log] == list(range(1, len(log) + 1))
    stored = [event["client_message_id"] for event in log]
    assert len(stored) == len(set(stored))
    assert {event["client_message_id"]: event["seq"] for event in log}.items() >= load.confirmed.items()
    for event in log:
        assert event["content"] == f"content of {event['client_message_id']}"


async def test_confirmed_messages_survive_a_kill(tmp_path: Path) -> None:
    await survive(tmp_path, kills=1)


@pytest.mark.slow
async def test_confirmed_messages_survive_many_kills(tmp_path: Path) -> None:
    await survive(tmp_path, kills=10)
