"""Server-Sent Events from the client's side: the request that opens a stream, and the stream's frames."""

from collections.abc import Iterator

from chatapi.cli.bench.errors import BenchError

_DATA = b"data: "


def encode_opening(host: str, headers: str) -> bytes:
    """`headers` are whole lines, each with its line end."""
    return f"GET /events/stream HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n".encode()


class EventSplitter:
    """Splits the answer of one event stream into frames, whatever pieces it comes in. Raises BenchError if it is
    refused."""

    __slots__ = ("_is_open", "_rest")

    def __init__(self) -> None:
        self._is_open = False
        self._rest = b""

    def split(self, data: bytes) -> Iterator[bytes]:
        data = self._rest + data
        if not self._is_open:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            if not head.startswith(b"HTTP/1.1 200 "):
                raise BenchError(f"event stream refused: {head.splitlines()[0].decode(errors='replace')}")
            self._is_open = True
        *events, self._rest = data.split(b"\n\n")
        for event in events:
            if event.startswith(_DATA):
                yield event.removeprefix(_DATA)
