"""HTTP/1.1 over one kept-alive connection, one request at a time, by hand."""

from collections.abc import Callable, Iterator, Sequence
from time import monotonic

from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.reactor import Address, Peer, Reactor

REQUEST_SECONDS = 30.0  # for one answer, however busy the machine is

OnResponse = Callable[[int, bytes], None]
"""Gets the status and the body."""


def encode_request(method: str, path: str, host: str, headers: str, body: bytes = b"") -> bytes:
    """`headers` are whole lines, each with its line end."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}"
    if body or method not in ("GET", "DELETE"):
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class HttpPeer(Peer):
    """The next request may be sent once `on_response` was called. Raises BenchError for an answer in chunks."""

    __slots__ = ("_rest", "on_response")

    def __init__(self, reactor: Reactor, address: Address, on_response: OnResponse) -> None:
        super().__init__(reactor, address)
        self._rest = b""
        self.on_response = on_response

    def on_data(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        head_end = data.find(b"\r\n\r\n")
        if head_end < 0:
            self._rest = data
            return
        body_start = head_end + 4
        body_end = body_start + _content_length(data, head_end)
        if len(data) < body_end:
            self._rest = data
            return
        self._rest = b""
        self.on_response(int(data[9:12]), data[body_start:body_end])


def _content_length(data: bytes, head_end: int) -> int:
    at = data.find(b"\r\nContent-Length: ", 0, head_end)
    if at < 0:
        for line in data[:head_end].lower().split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name == b"content-length":
                return int(value)
            if name == b"transfer-encoding":
                raise BenchError("the server sent a chunked body, which the benchmark does not read")
        return 0
    return int(data[at + 18 : data.find(b"\r", at + 18, head_end + 2)])


def exchange(
    address: Address, requests: Sequence[bytes], on_response: Callable[[int, int, bytes], None], connections: int = 16
) -> None:
    """Sends all requests over a few connections. `on_response` gets a request's index, the status and the body."""
    reactor = Reactor()
    waiting: Iterator[tuple[int, bytes]] = iter(enumerate(requests))
    responses = 0

    def open_peer() -> None:
        index = -1

        def send_next() -> None:
            nonlocal index
            following = next(waiting, None)
            if following is not None:
                index, request = following
                peer.send(request)

        def take_response(status: int, body: bytes) -> None:
            nonlocal responses
            responses += 1
            on_response(index, status, body)
            send_next()

        peer = HttpPeer(reactor, address, take_response)
        send_next()

    try:
        for _ in range(min(connections, len(requests))):
            open_peer()
        while responses < len(requests):
            before = responses
            if (
                not reactor.run(lambda: responses >= len(requests), monotonic() + REQUEST_SECONDS)
                and responses == before
            ):
                raise BenchError(f"no answer within {REQUEST_SECONDS:g} s")
    finally:
        reactor.close()
