"""A client that writes a message from a pipe, byte by byte: requests to `/rooms/{room_id}/messages/stream`."""

import asyncio
import json
from typing import Any

from driver import Reply, User
from raw_websocket import WAIT_SECONDS

CHUNK = 'data: {"choices": [{"index": 0, "delta": {"content": "%s"}}]}\n\n'
AS_EVENTS = {"Content_Type": "text/event-stream"}


class Piper:
    """One request, in chunks unless its head gives a length."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._is_chunked = True

    def send_head(self, user: User, path: str, *, method: str = "POST", version: str = "1.1", **headers: str) -> None:
        """A header's name has underscores for its hyphens. One of Content_Length makes a body that is not chunked."""
        given = {"Host": "chat", **user.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        self._is_chunked = "Content-Length" not in given and version == "1.1"
        if self._is_chunked:
            given["Transfer-Encoding"] = "chunked"
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        self.writer.write(f"{method} {path} HTTP/{version}\r\n{lines}\r\n".encode())

    def write(self, data: bytes | str) -> None:
        data = data.encode() if isinstance(data, str) else data
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data) if self._is_chunked else data)

    def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")

    def leave(self) -> None:
        """As a process that was killed."""
        self.writer.close()

    async def read_head(self) -> tuple[int, dict[str, str]]:
        """The status, and the headers by their names in small letters."""
        async with asyncio.timeout(WAIT_SECONDS):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), headers

    async def read_reply(self) -> Reply:
        status, headers = await self.read_head()
        async with asyncio.timeout(WAIT_SECONDS):
            body: Any = json.loads(await self.reader.readexactly(int(headers["content-length"])))
        return Reply(status, headers, body)

    async def is_closed(self) -> bool:
        """Whether the server sends nothing more, and closes."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.reader.read() == b""


async def open_pipe(user: User, room_id: str, query: str = "", **head: str) -> Piper:
    """The head is sent, and nothing else."""
    piper = Piper(*await user.server.open())
    piper.send_head(user, f"/rooms/{room_id}/messages/stream{query}", **head)
    return piper


async def list_messages(user: User, room_id: str) -> list[dict[str, Any]]:
    return list((await user.get(f"/rooms/{room_id}/messages")).data["messages"])


async def get_message(user: User, room_id: str, message_id: str) -> dict[str, Any]:
    return dict((await user.get(f"/rooms/{room_id}/messages/{message_id}")).data)


async def wait_for_content(user: User, room_id: str, content: str) -> dict[str, Any]:
    """The newest message, once it has this content."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            messages = await list_messages(user, room_id)
            if messages and messages[-1]["content"] == content:
                return messages[-1]
            await asyncio.sleep(0.005)
