"""Takes the bytes of a client apart into frames (RFC 6455, section 5). Extensions are not negotiated, so that reserved
bits are refused, and with them everything compressed."""

from aiohttp._websocket.helpers import websocket_mask

from chatapi.protocol.frames import MAX_FRAME_BYTES

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
PROTOCOL_ERROR = 1002
TOO_BIG = 1009

_FIN = 0x80
_RESERVED = 0x70
_CONTROL = 0x08
_OPCODE = 0x0F
_MASKED = 0x80
_WHOLE_TEXT = _FIN | TEXT
_OPCODES = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))
_MAX_CONTROL_BYTES = 125


Frame = tuple[int, bytes]
"""The opcode and payload of a whole message, its fragments put together, or of a control frame. A fragment with others
to come is a CONTINUATION without a payload: a sign of life."""


class Violation(Exception):
    """The client breaks the protocol: `code` is that of the close frame."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class FrameReader:
    """Holds bytes only until their frame is whole and asked for; the fragments of a message beside them."""

    __slots__ = ("_at", "_data", "_fragments", "_opcode")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0  # where the next frame begins
        self._opcode = CONTINUATION  # of a message that has begun, and whose last fragment is still to come
        self._fragments: bytearray | None = None

    @property
    def waiting_bytes(self) -> int:
        """Those that have come, and that `next` has not given yet."""
        return len(self._data) - self._at

    @property
    def held_bytes(self) -> int:
        """Those, and the fragments of a message that is not whole."""
        return len(self._data) + (len(self._fragments) if self._fragments else 0)

    def feed(self, data: bytes) -> None:
        self._data = self._data[self._at :] + data if self._data else data
        self._at = 0

    def next(self) -> Frame | None:
        """None until the next one is whole. Raises Violation, in the place of the frame that is one, and again when it
        is asked again. Written out at length: each frame of each client passes here."""
        data, at = self._data, self._at
        size = len(data)
        if size < at + 2:
            return self._wait()
        first, length = data[at], data[at + 1] - _MASKED
        if length < 0:
            raise Violation(PROTOCOL_ERROR)
        if first != _WHOLE_TEXT or self._opcode:
            self._check(first, length)
        if length < 126:
            start = at + 6
        elif length == 126:
            start = at + 8
            if size < start:
                return self._wait()
            length = data[at + 2] << 8 | data[at + 3]
        else:
            start = at + 14
            if size < start:
                return self._wait()
            length = int.from_bytes(data[at + 2 : at + 10], "big")
        if length > MAX_FRAME_BYTES - (len(self._fragments) if self._fragments else 0) and not first & _CONTROL:
            raise Violation(TOO_BIG)
        end = start + length
        if size < end:
            return self._wait()
        payload = bytearray(data[start:end])
        websocket_mask(data[start - 4 : start], payload)
        self._at = end
        if first == _WHOLE_TEXT:
            return TEXT, bytes(payload)
        return self._put_together(first, payload)

    def _wait(self) -> Frame | None:
        """None, and what is held begins with the next frame."""
        if self._at:
            self._data, self._at = self._data[self._at :], 0
        return None

    def _check(self, first: int, length: int) -> None:
        """The first byte of a frame, and its length as the second byte has it. Raises Violation."""
        opcode = first & _OPCODE
        if first & _RESERVED or opcode not in _OPCODES:
            raise Violation(PROTOCOL_ERROR)
        if opcode & _CONTROL:
            if not first & _FIN or length > _MAX_CONTROL_BYTES:
                raise Violation(PROTOCOL_ERROR)
        elif (opcode == CONTINUATION) != (self._opcode != CONTINUATION):
            raise Violation(PROTOCOL_ERROR)  # it continues nothing, or begins within another message

    def _put_together(self, first: int, payload: bytearray) -> Frame:
        opcode = first & _OPCODE
        if opcode & _CONTROL:
            return opcode, bytes(payload)
        if opcode:
            self._opcode = opcode
        if self._fragments is None:
            self._fragments = payload
        else:
            self._fragments += payload
        if not first & _FIN:
            return CONTINUATION, b""
        whole = self._opcode, bytes(self._fragments)
        self._opcode, self._fragments = CONTINUATION, None
        return whole
