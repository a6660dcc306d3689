"""RFC 6455 from the client's side, as lean as it gets: the mask is 0, which changes no byte and is legal."""

import struct
from typing import Any

from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.reactor import Address, Peer, Reactor
from chatapi.protocol.json import loads_stored

_PACK_16 = struct.Struct("!BBHxxxx").pack
_PACK_64 = struct.Struct("!BBQxxxx").pack
_UNPACK_64 = struct.Struct("!Q").unpack_from

_MASKED = 0x80
_FIN_TEXT = 0x81
_FIN_CLOSE = 0x88
_FIN_PING = 0x89
_FIN_PONG = 0x8A

_MESSAGE = b'{"type":"message",'
_SENT = b'{"type":"message.sent",'
_SEQ = b'"seq":'


def encode_text(payload: bytes) -> bytes:
    """A whole text frame of a client (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((_FIN_TEXT, _MASKED | size, 0, 0, 0, 0)) + payload
    if size < 65536:
        return _PACK_16(_FIN_TEXT, _MASKED | 126, size) + payload
    return _PACK_64(_FIN_TEXT, _MASKED | 127, size) + payload


def encode_handshake(host: str, headers: str, query: str = "") -> bytes:
    """`headers` are whole lines, each with its line end."""
    return (
        f"GET /ws{query} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{headers}\r\n"
    ).encode()


def find_seq(data: bytes, start: int, end: int) -> int:
    """The first `seq` of a frame. Inside a string its quotes would be escaped, so that it is never content."""
    start = data.find(_SEQ, start, end) + len(_SEQ)
    stop = data.find(b",", start, end)
    return int(data[start : stop if stop >= 0 else end - 1])


def parse_frame(payload: bytes) -> dict[str, Any]:
    """Raises BenchError for an `error` of the server."""
    frame: dict[str, Any] = loads_stored(payload)
    if frame["type"] == "error":
        raise BenchError(f"the server answered {frame['code']}: {frame['message']}")
    return frame


class WebSocketPeer(Peer):
    """Splits what arrives into frames; the frequent ones are told by their first bytes, the others are parsed."""

    __slots__ = ("_is_open", "_rest")

    def __init__(self, reactor: Reactor, address: Address, handshake: bytes, receive_buffer_bytes: int = 0) -> None:
        super().__init__(reactor, address, receive_buffer_bytes)
        self._is_open = False
        self._rest = b""
        self.send(handshake)

    def on_data(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        position = 0
        if not self._is_open:
            position = self._take_handshake(data)
            if not position:
                self._rest = data
                return
        size = len(data)
        while size - position >= 2:
            length = data[position + 1]
            start = position + 2
            if length == 126:
                start += 2
                length = data[position + 2] << 8 | data[position + 3] if size >= start else size
            elif length == 127:
                start += 8
                length = _UNPACK_64(data, position + 2)[0] if size >= start else size
            end = start + length
            if end > size:
                break
            if data[position] == _FIN_TEXT:
                self.take_text(data, start, end)
            else:
                self._take_control(data[position], data[start:end])
            position = end
        if position < size:
            self._rest = data[position:]

    def _take_handshake(self, data: bytes) -> int:
        """Where the frames begin; 0 while the answer is not whole."""
        head_end = data.find(b"\r\n\r\n")
        if head_end < 0:
            return 0
        if not data.startswith(b"HTTP/1.1 101 "):
            raise BenchError(f"handshake refused: {data[:head_end].splitlines()[0].decode(errors='replace')}")
        self._is_open = True
        return head_end + 4

    def take_text(self, data: bytes, start: int, end: int) -> None:
        """`data[start:end]` is a text frame's payload."""
        if data.startswith(_MESSAGE, start, end):
            self.on_message(find_seq(data, start, end))
        elif data.startswith(_SENT, start, end):
            self.on_sent(find_seq(data, start, end), data, start, end)
        else:
            frame = parse_frame(data[start:end])
            if frame["type"] == "message":
                self.on_message(frame["seq"])
            elif frame["type"] == "message.sent":
                self.on_sent(frame["seq"], data, start, end)
            else:
                self.on_frame(frame)

    def _take_control(self, first_byte: int, payload: bytes) -> None:
        if first_byte == _FIN_PING:
            self.send(bytes((_FIN_PONG, _MASKED | len(payload), 0, 0, 0, 0)) + payload)
        elif first_byte == _FIN_CLOSE:
            self.on_end(f"close code {int.from_bytes(payload[:2])}")
        elif first_byte != _FIN_PONG:
            raise BenchError(f"a frame that no server should send: {first_byte:#x}")

    def on_message(self, seq: int) -> None:
        """A message of the room was delivered."""

    def on_sent(self, seq: int, data: bytes, start: int, end: int) -> None:
        """`data[start:end]` confirms a message that this connection sent."""

    def on_frame(self, frame: dict[str, Any]) -> None:
        """Any other frame."""
