"""Checks what RFC 6455 forbids a client and aiohttp's reader lets pass: frames without a mask (section 5.1), and a new
message within an unfinished one (section 5.4)."""

from typing import Protocol

_MASKED = 0x80
_FIN = 0x80
_CONTROL = 0x08
_OPCODE = 0x0F
_WHOLE_TEXT = 0x81
_ILLEGAL = b"\x83\x80\x00\x00\x00\x00"  # a frame of a reserved opcode: the reader ends the connection with 1002


class FrameReader(Protocol):
    """The parser that takes the bytes of a WebSocket apart."""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]: ...

    def feed_eof(self) -> None: ...


class FrameCheck:
    """Looks at the header of each frame on its way to the reader; a forbidden one is replaced by one that it refuses,
    so that what came before is still served."""

    __slots__ = ("_ahead", "_held", "_is_refused", "_is_unfinished", "_reader")

    def __init__(self, reader: FrameReader) -> None:
        self._reader = reader
        self._ahead = 0  # bytes of the present frame that are still to come
        self._held = b""  # the beginning of a header, until the rest of it has come
        self._is_unfinished = False  # a message has begun whose last fragment is still to come
        self._is_refused = False

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """As the reader's own: whether it wants no more, and what it has left over."""
        if self._is_refused:
            return True, b""
        return self._reader.feed_data(self._check(self._held + data if self._held else data))

    def feed_eof(self) -> None:
        self._reader.feed_eof()

    def _check(self, data: bytes) -> bytes:
        """The bytes of it that the reader gets. Written out at length: each frame of each client passes here."""
        size, at = len(data), self._ahead
        while at + 1 < size:
            first, second = data[at], data[at + 1]
            if second < _MASKED:
                return self._refuse(data[:at])
            length = second - _MASKED
            if length < 126:
                end = at + 6 + length
            elif length == 126:
                if at + 4 > size:
                    break
                end = at + 8 + (data[at + 2] << 8 | data[at + 3])
            else:
                if at + 10 > size:
                    break
                end = at + 14 + int.from_bytes(data[at + 2 : at + 10], "big")
            if (first != _WHOLE_TEXT or self._is_unfinished) and not first & _CONTROL:
                if self._is_unfinished and first & _OPCODE:
                    return self._refuse(data[:at])
                self._is_unfinished = first < _FIN
            at = end
        if at >= size:
            self._ahead, self._held = at - size, b""
            return data
        self._ahead, self._held = 0, data[at:]
        return data[:at]

    def _refuse(self, before: bytes) -> bytes:
        self._is_refused = True
        return before + _ILLEGAL
