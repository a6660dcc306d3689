"""Streams that tests of the Python SDK write piece by piece, and follow."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from client_rig import PATIENCE_S, Inbox

from chatapi.client import ChatAPI, Connection, GrowingMessage


class Source:
    """Gives the pieces that a test puts into it."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self.has_ended = asyncio.Event()

    def put(self, *pieces: str | None) -> None:
        """None ends it."""
        for piece in pieces:
            self._pieces.put_nowait(piece)

    async def read(self) -> AsyncIterator[str]:
        try:
            while (piece := await self._pieces.get()) is not None:
                yield piece
        finally:
            self.has_ended.set()


class Stream:
    """A stream that is being written, by a client over REST or by a connection."""

    def __init__(self, writer: ChatAPI | Connection, room: str, **fields: Any) -> None:
        self.source = Source()
        self.writing = asyncio.create_task(writer.stream(room, self.source.read(), **fields))

    async def done(self) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            return await self.writing


def show(message: Any) -> tuple[Any, Any]:
    """What it holds, and how it has ended: a newer server adds to both."""
    return message["content"], message["stream"]["state"]


async def follow(inbox: Inbox, room: str, count: int = 1) -> GrowingMessage:
    """The newest message of a room, as it grows."""
    return inbox.connection.follow((await inbox.messages(room, count))[-1])


async def grown_to(growing: GrowingMessage, text: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        async for shown in growing.text():
            assert text.startswith(shown)
            if shown == text:
                return
    raise AssertionError(f"it ended with {growing.message}")
