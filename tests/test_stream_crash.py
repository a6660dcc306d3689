"""kill -9 while streams grow: what was confirmed is there, and senders go on with the index that they are told."""

import asyncio
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from server_process import ServerProcess

from chatapi.store.check import check_database

pytestmark = pytest.mark.slow

WRITERS = 8
KILLS = 5
LOAD_SECONDS = (0.05, 0.5)  # before a kill, at random


def text_of(name: str, index: int) -> str:
    """Of whatever length, and known again."""
    return f"{name}.{index}é" * (index % 7 + 1) + " "


@dataclass
class Growing:
    """One stream, as its writer knows it. It ends after `length` appends."""

    name: str
    length: int
    message_id: str = ""
    confirmed: int = 0
    has_ended: bool = False
    is_confirmed_end: bool = False

    def content(self, index: int) -> str:
        return "".join(text_of(self.name, number) for number in range(1, index + 1))


@dataclass
class Load:
    server: ServerProcess
    headers: dict[str, str]
    room_id: str
    streams: list[Growing] = field(default_factory=list)
    made: int = 0

    async def ask(self, session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        url = f"{self.server.url}/rooms/{self.room_id}/messages{path}"
        async with session.post(url, json=body, headers=self.headers) as answer:
            return answer.status, await answer.json()

    async def write(self, session: aiohttp.ClientSession, stream: Growing) -> None:
        """From wherever it stands, to its end; then the next one."""
        while True:
            draft = {"stream": True, "client_message_id": stream.name}
            status, body = await self.ask(session, "", draft)
            assert status in (200, 201), body
            stream.message_id = body["data"]["message_id"]
            index = stream.confirmed  # what came after it may be stored as well
            while index < stream.length:
                append = {"index": index + 1, "text": text_of(stream.name, index + 1)}
                status, body = await self.ask(session, f"/{stream.message_id}/append", append)
                assert status == 200, (stream, body)
                index = stream.confirmed = body["data"]["index"]
            stream.has_ended = True
            end = {"state": "done", "index": stream.length}
            status, body = await self.ask(session, f"/{stream.message_id}/finish", end)
            assert (status, body["data"]["content"]) == (200, stream.content(stream.length)), body
            stream.is_confirmed_end = True
            stream = self.make_stream()

    def make_stream(self) -> Growing:
        self.made += 1
        stream = Growing(f"s{self.made}", random.randint(0, 40))
        self.streams.append(stream)
        return stream

    async def run_until_killed(self, seconds: float) -> None:
        unfinished = [stream for stream in self.streams if not stream.is_confirmed_end]
        unfinished += [self.make_stream() for _ in range(WRITERS - len(unfinished))]
        async with aiohttp.ClientSession() as session:
            writers = [asyncio.ensure_future(self.write(session, stream)) for stream in unfinished]
            await asyncio.sleep(seconds)
            self.server.kill()
            outcomes = await asyncio.gather(*writers, return_exceptions=True)
        unexpected = [found for found in outcomes if not isinstance(found, aiohttp.ClientError | ConnectionError)]
        assert not unexpected

    async def check(self, session: aiohttp.ClientSession) -> None:
        """What each reader sees."""
        url = f"{self.server.url}/rooms/{self.room_id}/messages"
        for stream in self.streams:
            if not stream.message_id:
                continue
            async with session.get(f"{url}/{stream.message_id}", headers=self.headers) as answer:
                message = (await answer.json())["data"]
            if message["stream"]["state"] == "open":
                index = message["stream"]["index"]
                assert not stream.is_confirmed_end
            else:
                assert stream.has_ended
                index = stream.length
            assert stream.confirmed <= index <= stream.confirmed + 1
            assert message["content"] == stream.content(index)


async def test_confirmed_appends_survive_many_kills(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, {"streams.idle_seconds": "600"})
    await asyncio.to_thread(server.start)
    try:
        key = await asyncio.to_thread(server.create_tenant, "acme")
        room = await asyncio.to_thread(server.call, "POST", "/rooms", {"type": "group"}, key=key, user="alice")
        load = Load(server, {"X-API-Key": key, "X-User-Id": "alice"}, room["room_id"])
        for _ in range(KILLS):
            await load.run_until_killed(random.uniform(*LOAD_SECONDS))
            report = await asyncio.to_thread(check_database, str(tmp_path / "chatapi.db"))
            assert report.findings == []
            await asyncio.to_thread(server.start)
            async with aiohttp.ClientSession() as session:
                await load.check(session)
        assert any(stream.is_confirmed_end for stream in load.streams)
        server.kill()
    finally:
        if server._process is not None:
            server.kill()
