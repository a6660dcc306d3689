"""RFC 6455 framing of what the server sends: unmasked, unfragmented, uncompressed, so that one event is the same bytes
for every connection."""

import struct
from collections.abc import Iterator

_PACK_16 = struct.Struct("!BBH").pack
_PACK_64 = struct.Struct("!BBQ").pack

FIN_TEXT = 0x81
FIN_CLOSE = 0x88
_FIN_PONG = 0x8A

_PAYLOAD_STARTS = {126: 4, 127: 10}  # by the length's first byte

PING = b"\x89\x00"
MAX_CLOSE_REASON_BYTES = 123  # a control frame's payload is at most 125, two of them the code (section 5.5)


def encode_text(payload: bytes) -> bytes:
    """One text frame (section 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((FIN_TEXT, size)) + payload
    if size < 65536:
        return _PACK_16(FIN_TEXT, 126, size) + payload
    return _PACK_64(FIN_TEXT, 127, size) + payload


def encode_pong(payload: bytes) -> bytes:
    """The answer to a ping, with its payload of at most 125 bytes (section 5.5.3)."""
    return bytes((_FIN_PONG, len(payload))) + payload


def decode_text(frame: bytes) -> bytes:
    """The payload of a frame that `encode_text` made."""
    return frame[_PAYLOAD_STARTS.get(frame[1], 2) :]


def encode_close(code: int, reason: str) -> bytes:
    """One close frame (section 5.5.1); the reason is cut to what fits."""
    payload = struct.pack("!H", code) + reason.encode()[:MAX_CLOSE_REASON_BYTES].decode(errors="ignore").encode()
    return bytes((FIN_CLOSE, len(payload))) + payload


def decode_close(payload: bytes) -> tuple[int, str]:
    """The code and the reason in the payload of a frame that `encode_close` made."""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


def split_frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The first byte and the payload of each of these whole frames, which the functions above made."""
    at = 0
    while at < len(data):
        length, start = data[at + 1], at + _PAYLOAD_STARTS.get(data[at + 1], 2)
        size = length if length < 126 else int.from_bytes(data[at + 2 : start], "big")
        yield data[at], data[start : start + size]
        at = start + size


def count_bytes(payload: bytes) -> int:
    """The size of the frame that has this payload."""
    size = len(payload)
    return size + (2 if size < 126 else 4 if size < 65536 else 10)


def may_be_sent(code: int) -> bool:
    """Whether this code may stand in a close frame: those that RFC 6455 (section 7.4) or IANA's registry defines, and
    those of libraries and applications. The others only tell an application how a connection ended."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
