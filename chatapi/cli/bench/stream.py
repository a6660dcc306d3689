"""One user's connection, and whether it gets the room's log as promised: seq by seq, none left out, none twice."""

from collections.abc import Sequence
from time import monotonic
from typing import Any

from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.reactor import Reactor
from chatapi.cli.bench.result import Delivered
from chatapi.cli.bench.tenant import TenantLogin
from chatapi.cli.bench.websocket import WebSocketPeer, encode_handshake

CONNECT_SECONDS = 120.0  # for all connections of a process to be ready
DRAIN_SECONDS = 30.0  # at the end, for what was sent to arrive

CONNECTING, READY, SYNCED = range(3)


class MemberSocket(WebSocketPeer):
    """A user's connection. The user is in one room only."""

    __slots__ = ("doubled", "missing", "next_seq", "phase", "problems", "room_id", "user")

    def __init__(
        self,
        reactor: Reactor,
        login: TenantLogin,
        room_id: str,
        user: str,
        *,
        query: str = "",
        next_seq: int = 1,
        receive_buffer_bytes: int = 0,
    ) -> None:
        opening = self.encode_opening(login, user, query)
        super().__init__(reactor, login.address, opening, receive_buffer_bytes)
        self.room_id = room_id
        self.user = user
        self.next_seq = next_seq
        self.missing = 0
        self.doubled = 0
        self.problems: list[str] = []
        self.phase = CONNECTING

    def encode_opening(self, login: TenantLogin, user: str, query: str) -> bytes:
        return encode_handshake(login.host, login.headers(user), query)

    def on_message(self, seq: int) -> None:
        """A seq beyond the next one counts all between as missing: the server keeps a room's order."""
        if seq == self.next_seq:
            self.next_seq = seq + 1
        elif seq < self.next_seq:
            self.doubled += 1
        else:
            self.missing += seq - self.next_seq
            self.next_seq = seq + 1

    def on_frame(self, frame: dict[str, Any]) -> None:
        kind = frame["type"]
        if kind == "ready":
            if self.phase is not CONNECTING or frame["user_id"] != self.user:
                self.problems.append(f"{self.user}: an unexpected ready")
            self.phase = READY
        elif kind == "sync.complete":
            if self.phase is not READY:
                self.problems.append(f"{self.user}: an unexpected sync.complete")
            self.phase = SYNCED
        elif kind in ("sync.gap", "sync.reset"):
            self.problems.append(f"{self.user}: {kind}")

    def add_to(self, result: Delivered, last_seq: int, first_seq: int = 1) -> None:
        """Counts what it got of the room's `first_seq` to `last_seq`."""
        result.delivered += self.next_seq - first_seq - self.missing
        result.missing += self.missing + max(0, last_seq + 1 - self.next_seq)
        result.doubled += self.doubled
        result.problems += self.problems
        if self.next_seq > last_seq + 1:
            result.problems.append(f"{self.user}: got seq {self.next_seq - 1}, the last one is {last_seq}")


def all_ready(reactor: Reactor, members: Sequence[MemberSocket]) -> None:
    """Returns when each has been served its backlog. Raises BenchError."""
    if not reactor.run(lambda: all(member.phase is SYNCED for member in members), monotonic() + CONNECT_SECONDS):
        raise BenchError(f"not every connection was ready after {CONNECT_SECONDS:g} s")
