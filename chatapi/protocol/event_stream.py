"""Server-Sent Events (HTML Living Standard, section 9.2): the frames of a WebSocket in another form."""

from functools import lru_cache

from chatapi.protocol.json import encode, loads_stored
from chatapi.protocol.server_frames import CloseFrame
from chatapi.protocol.wire import FIN_CLOSE, FIN_TEXT, decode_close, split_frames

RETRY_MS = 2_000  # how long a client waits before it connects again, unless a stop gives it another time
SHARED_BYTES = 4 * 1024  # events up to this size, which is nearly all, are encoded once for all who get them
_COMMENT = b":\n\n"
_SHUTDOWN = b'{"type":"server.shutdown",'


def encode_retry(delay_ms: int) -> bytes:
    return b"retry: %d\n\n" % delay_ms


def encode_events(frames: bytes) -> tuple[bytes, bool]:
    """These frames as events, a ping as a comment; and whether they are the last ones, since a close frame is among
    them."""
    return _encode_shared(frames) if len(frames) <= SHARED_BYTES else _encode(frames)


def _encode(frames: bytes) -> tuple[bytes, bool]:
    events = []
    is_end = False
    for first_byte, payload in split_frames(frames):
        if first_byte == FIN_TEXT:
            if payload.startswith(_SHUTDOWN):
                events.append(encode_retry(loads_stored(payload)["reconnect_after_ms"]))
            events.append(b"data: %s\n\n" % payload)
        elif first_byte == FIN_CLOSE:
            code, reason = decode_close(payload)
            events.append(b"data: %s\n\n" % encode(CloseFrame(code=code, reason=reason)))
            is_end = True
        else:
            events.append(_COMMENT)
    return b"".join(events), is_end


_encode_shared = lru_cache(maxsize=32)(_encode)
