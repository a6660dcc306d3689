"""The users of `measure_machine.py`: thousands of connections of one process, some of which send."""

import contextlib
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from chatapi.cli.bench.http import encode_request
from chatapi.cli.bench.reactor import Address, Peer, Reactor
from chatapi.cli.bench.websocket import WebSocketPeer, encode_handshake, encode_text

MEMBERS = 10  # of each room; the first one may send
SENDERS = 50
WINDOW = 64  # handshakes under way
SETTLE_SECONDS = 1.0
LATE_SECONDS = 5.0  # for the confirmations of a rate that was too high
LIMIT_MS = 100.0
NARROW_BYTES = 4096  # the receive buffer of a client that reads nothing
PING, PONG = b"\x89\x00", b"\x8a\x80\x00\x00\x00\x00"  # RFC 6455, section 5.5.2
CONTENT = b"The quick brown fox jumps over the lazy dog; pack my box with five dozen jugs. One hundred in all..."


class Crew(NamedTuple):
    """All that is needed to come as a user of the tenant."""

    address: Address
    api_key: str
    rooms: Sequence[str]

    def headers(self, number: int) -> str:
        return f"X-API-Key: {self.api_key}\r\nX-User-Id: u{number}\r\n"

    def request(self, method: str, path: str, headers: str, body: bytes = b"") -> bytes:
        return encode_request(method, path, "chat", headers, body)


class Member(WebSocketPeer):
    """One connection of a user. Only the frames of those who send are taken apart."""

    __slots__ = ("_crowd", "_is_ready", "_message", "_waiting", "sends")

    def __init__(self, crowd: "Crowd", number: int) -> None:
        self._crowd = crowd
        self._is_ready = False
        self._waiting: dict[str, float] = {}  # when each message that is not confirmed yet should have been sent
        self.sends = number % MEMBERS == 0
        room_id = crowd.crew.rooms[number // MEMBERS].encode()
        self._message = b'{"type":"send_message","room_id":"%b","content":"%b","request_id":"' % (room_id, CONTENT)
        handshake = encode_handshake("chat", crowd.crew.headers(number))
        super().__init__(crowd.reactor, crowd.crew.address, handshake)

    def on_data(self, data: bytes) -> None:
        if not self._is_ready or self.sends:
            super().on_data(data)
        elif PING in data:  # no JSON has these bytes
            self.send(PONG)

    def _take_handshake(self, data: bytes) -> int:
        end = data.find(b"\r\n\r\n")
        if end < 0 or data.startswith(b"HTTP/1.1 101 "):
            return super()._take_handshake(data)
        self._crowd.lose(self, data[9:12].decode())
        return 0

    def take_text(self, data: bytes, start: int, end: int) -> None:
        if data.startswith((b'{"type":"message.sent"', b'{"type":"error"'), start):
            frame = json.loads(data[start:end])
            due_s = self._waiting.pop(frame.get("request_id", ""), None)
            if frame["type"] == "error":
                self._crowd.errors[frame["message"]] += 1
            elif due_s is not None:
                self._crowd.latencies.append(time.monotonic() - due_s)
        elif not self._is_ready and b'"sync.complete"' in data[start:end]:
            self._is_ready = True
            self._crowd.note_ready(self)

    def say(self, request_id: str, due_s: float) -> None:
        """`due_s` is when it should have been sent, so that a late generator counts against the server."""
        self._waiting[request_id] = due_s
        self.send(encode_text(b'%b%b"}' % (self._message, request_id.encode())))

    def forget(self) -> None:
        """It waits for no confirmation any more."""
        self._waiting.clear()

    def on_end(self, reason: str) -> None:
        self._crowd.lose(self, "cut off")


class Crowd:
    """All of them. `refused` counts handshakes by their status, `lost` those who were connected."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self.reactor = Reactor()
        self.ready: dict[Member, None] = {}
        self.refused: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.latencies: list[float] = []
        self._coming: dict[Member, None] = {}
        self._came = 0
        self._said = 0

    # Told by the members

    def note_ready(self, member: Member) -> None:
        self._coming.pop(member, None)
        self.ready[member] = None

    def lose(self, member: Member, reason: str) -> None:
        if member in self._coming:
            self.refused[reason] += 1
            del self._coming[member]
        else:
            self.lost[reason] += 1
            self.ready.pop(member, None)
        with contextlib.suppress(KeyError):
            member.close()

    # Connecting

    def connect(self, count: int, seconds: float, *, until_refused: bool = False) -> None:
        """Users come, `WINDOW` at once, until there are so many more, or the first is refused."""
        goal, refused_before = self._came + count, self.refused.total()

        def is_over() -> bool:
            if until_refused and self.refused.total() > refused_before:
                return not self._coming
            while len(self._coming) < WINDOW and self._came < goal:
                self._come()
            return not self._coming

        self._run(is_over, seconds)
        self.wait(SETTLE_SECONDS)

    def _come(self) -> None:
        number = self._came % (len(self.crew.rooms) * MEMBERS)
        self._came += 1
        self._coming[Member(self, number)] = None

    def leave(self, kept: int) -> None:
        """All but those who came first."""
        for member in list(self.ready)[kept:]:
            del self.ready[member]
            member.close()

    def wait(self, seconds: float) -> None:
        self.reactor.run_until(time.monotonic() + seconds)

    def _run(self, is_over: Callable[[], bool], seconds: float) -> None:
        deadline_s = time.monotonic() + seconds
        while not self.reactor.run(is_over, time.monotonic() + 0.05) and time.monotonic() < deadline_s:
            pass

    # Sending

    def send(self, rate: float, seconds: float) -> float:
        """The time within which 99 of 100 messages were confirmed, in milliseconds; infinite if more than one of 100
        was refused, or not confirmed within `LATE_SECONDS`."""
        senders = [member for member in self.ready if member.sends][:SENDERS]
        self.latencies.clear()
        began_s, sent = time.monotonic(), 0
        while (now_s := time.monotonic()) < began_s + seconds:
            while (due_s := began_s + sent / rate) <= now_s:
                if (sender := senders[sent % len(senders)]) in self.ready:
                    self._said += 1
                    sender.say(str(self._said), due_s)
                sent += 1
            self.reactor.run_until(min(began_s + seconds, due_s))
        self._run(lambda: len(self.latencies) >= sent, LATE_SECONDS)
        for member in senders:
            member.forget()
        ordered = sorted(self.latencies) + [float("inf")] * (sent - len(self.latencies))
        return ordered[max(0, -(-99 * len(ordered) // 100) - 1)] * 1000


class Asking(Peer):
    """A connection with one request, whose status is counted. The answer is passed over, or not read at all."""

    __slots__ = ("_is_answered", "_statuses")

    def __init__(self, crowd: Crowd, request: bytes, statuses: Counter[str], *, reads: bool = True) -> None:
        self._statuses = statuses
        self._is_answered = False
        super().__init__(crowd.reactor, crowd.crew.address)
        if not reads:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)
        self.send(request)
        if not reads:
            crowd.wait(0)
            self.stop_reading()

    def on_data(self, data: bytes) -> None:
        self._note(data[9:12].decode(errors="replace"))

    def on_end(self, reason: str) -> None:
        self._note("cut off")
        self.close()

    def _note(self, status: str) -> None:
        if not self._is_answered:
            self._is_answered = True
            self._statuses[status] += 1
