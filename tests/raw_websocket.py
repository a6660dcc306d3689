"""WebSockets frame by frame (RFC 6455): the one reader and the one encoder of frames in the tests, for what no
well-behaved client sends, and for clients that read nothing."""

import asyncio
import base64
import json
from typing import Any, cast

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA  # opcodes of RFC 6455
WAIT_SECONDS = 60.0  # for something that has to happen, also on a busy machine; a test that fails waits no longer

HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}


def encode_frame(first_byte: int, payload: bytes = b"", *, masked: bool = True, size: int | None = None) -> bytes:
    """A frame with this opcode and these bits beside it. A mask of zeros changes nothing; `size` is what it says."""
    size = len(payload) if size is None else size
    mask_bit = masked << 7
    if size < 126:
        length = bytes((size | mask_bit,))
    elif size < 1 << 16:
        length = bytes((126 | mask_bit,)) + size.to_bytes(2, "big")
    else:
        length = bytes((127 | mask_bit,)) + size.to_bytes(8, "big")
    return bytes((first_byte,)) + length + bytes(4 * masked) + payload


class RawSocket:
    """A client's side of one WebSocket. On a narrow connection it reads only when it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._buffer = bytearray()
        self.writer = writer

    def send(self, opcode: int, payload: bytes = b"", *, first_byte: int = 0x80, masked: bool = True) -> None:
        self.writer.write(encode_frame(first_byte | opcode, payload, masked=masked))

    def send_frame(self, frame_type: str, **fields: object) -> None:
        self.send(TEXT, json.dumps({"type": frame_type, **fields}).encode())

    async def open(self, path: str, headers: dict[str, str]) -> None:
        """The handshake, which has to be accepted."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "chat", **HANDSHAKE, **headers}.items())
        self.writer.write(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        async with asyncio.timeout(WAIT_SECONDS):
            while (end := self._buffer.find(b"\r\n\r\n")) < 0:
                await self._read()
        assert self._buffer.startswith(b"HTTP/1.1 101 "), self._buffer
        del self._buffer[: end + 4]

    async def next(self) -> tuple[int, bytes]:
        """The next frame: its opcode and payload. The server's are unmasked and unfragmented."""
        async with asyncio.timeout(WAIT_SECONDS):
            first, second = await self._take(2)
            assert first & 0x70 == 0, "reserved bits"
            assert first & 0x80, "a fragment"
            assert second < 128, "a mask"
            size = second
            if size >= 126:
                size = int.from_bytes(await self._take(2 if size == 126 else 8), "big")
            return first & 0x0F, await self._take(size)

    async def next_text(self) -> dict[str, Any]:
        """The next frame of ours; fails at a close frame."""
        while (frame := await self.next())[0] != TEXT:
            assert frame[0] != CLOSE, frame[1]
        return cast(dict[str, Any], json.loads(frame[1]))

    async def expect(self, frame_type: str) -> dict[str, Any]:
        """The next frame of this type; others before it are passed over."""
        while (frame := await self.next_text())["type"] != frame_type:
            pass
        return frame

    async def read_to_close(self) -> tuple[list[dict[str, Any]], int]:
        """All frames up to the close frame, and its code. Raises EOFError when the connection ends without one."""
        frames = []
        while (frame := await self.next())[0] != CLOSE:
            frames += [json.loads(frame[1])] if frame[0] == TEXT else []
        return frames, int.from_bytes(frame[1][:2], "big")

    async def close_code(self) -> int:
        """Reads up to the close frame, answers it, and sees the connection end."""
        _frames, code = await self.read_to_close()
        self.send(CLOSE, code.to_bytes(2, "big") if code else b"")
        assert await self.end() == b""
        self.writer.close()  # the server waits for this as well
        return code

    async def end(self) -> bytes:
        """What still comes until the server closes the connection."""
        async with asyncio.timeout(WAIT_SECONDS):
            try:
                return bytes(self._buffer) + await self._reader.read()
            except ConnectionResetError:  # it had not read all that was sent
                return b""

    async def look_away(self, size: int) -> None:
        """Takes at most so many bytes from the connection, and looks at none of them yet."""
        self._buffer += await self._reader.read(size)

    async def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._read()
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def _read(self) -> None:
        data = await self._reader.read(65_536)
        if not data:
            raise EOFError(bytes(self._buffer))
        self._buffer += data

    def abort(self) -> None:
        self.writer.transport.abort()
