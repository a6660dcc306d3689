"""The clients of the Python SDK: each sends, listens or writes streams, and carries on by itself."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from chatapi.client import ChatAPI
from chatapi.client.errors import ApiError, NoAnswer
from chatapi.client.options import TRANSPORTS, Transport

PACE_SECONDS = 0.02  # between two messages of a client, on average half of it
PIECES = 40  # of a stream
LISTENING = tuple(f"py-{transport}" for transport in TRANSPORTS)
USERS = ("py-rest", "py-stream", *LISTENING)


class Chatters:
    """All of them. `stop` ends sending; those who listen go on until the task is cancelled."""

    def __init__(self, url: str, key: str, rooms: list[str], note: Callable[[dict[str, Any]], None], seed: int) -> None:
        self._url = url
        self._key = key
        self._rooms = rooms
        self._note = note
        self._random = random.Random(f"{seed}/python")
        self._is_over = asyncio.Event()

    def list_all(self) -> list[Coroutine[Any, Any, None]]:
        return [
            self._guard("py-rest", self._send_by_rest("py-rest")),
            self._guard("py-stream", self._write_streams("py-stream")),
            *(self._guard(f"py-{transport}", self._chat(f"py-{transport}", transport)) for transport in TRANSPORTS),
        ]

    def stop(self) -> None:
        self._is_over.set()

    async def _guard(self, who: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whatever it is, the client has not carried on
            self._note({"who": who, "kind": "error", "text": repr(error)})

    def _client(self, who: str) -> ChatAPI:
        return ChatAPI(self._url, api_key=self._key, user_id=who)

    async def _rest(self) -> None:
        await asyncio.sleep(self._random.random() * PACE_SECONDS)

    async def _send_by_rest(self, who: str) -> None:
        async with self._client(who) as client:
            for number in itertools.count():
                if self._is_over.is_set():
                    return
                room, text = self._random.choice(self._rooms), f"{who} {number}"
                sent = None
                while sent is None:
                    try:
                        sent = await client.send_message(room, text, client_message_id=text)
                    except NoAnswer:
                        self._note({"who": who, "kind": "repeated"})
                    except ApiError as error:
                        if error.status not in (429, 503):
                            raise
                        self._note({"who": who, "kind": "repeated"})
                self._note({"who": who, "kind": "confirmed", "room": room, "seq": sent["seq"], "text": text})
                await self._rest()

    async def _chat(self, who: str, transport: Transport) -> None:
        async with self._client(who) as client, client.connect(transports=[transport]) as connection:

            async def send() -> None:
                for number in itertools.count():
                    if self._is_over.is_set():
                        return
                    room, text = self._random.choice(self._rooms), f"{who} {number}"
                    sent = await connection.send(room, text, client_message_id=text)
                    self._note({"who": who, "kind": "confirmed", "room": room, "seq": sent["seq"], "text": text})
                    await self._rest()

            async with asyncio.TaskGroup() as group:
                group.create_task(send())
                async for event in connection:
                    if event["type"] in ("message", "message.finished"):
                        self._note({"who": who, "kind": "heard", "room": event["room_id"], "seq": event["seq"]})

    async def _write_streams(self, who: str) -> None:
        async with self._client(who) as client, client.connect(transports=["websocket"]) as connection:
            for number in itertools.count():
                if self._is_over.is_set():
                    return
                room, name = self._random.choice(self._rooms), f"{who} {number}"
                message = await connection.stream(room, self._write(name), client_message_id=name)
                if message["content"] != "".join([piece async for piece in self._write(name, paced=False)]):
                    raise AssertionError(f"{name} reads {message['content']!r}")
                record = {"room": room, "message_id": message["message_id"], "text": message["content"]}
                self._note({"who": who, "kind": "streamed", **record})

    async def _write(self, name: str, *, paced: bool = True) -> AsyncIterator[str]:
        for piece in range(PIECES):
            yield f"{name}: {piece} é. "
            if paced:
                await self._rest()
