"""Decides which connections stay when there are more of them than descriptors, or than memory. The database, webhooks
and requests that are being served come first; connections that nobody uses are closed."""

import logging
from operator import itemgetter
from typing import Protocol

from chatapi.log_lines import Seldom
from chatapi.memory_watch import MemoryWatch

logger = logging.getLogger(__name__)

MIN_CONNECTIONS = 8
REST_CONNECTIONS = 32  # kept from WebSockets, which stay for hours, so that REST always finds one
LOW_MEMORY_CONNECTIONS = 128  # at most, of those that are not WebSockets, while memory is low: else idle ones go
MIN_HELD_BYTES = 4 * 1024  # for less, nobody is cut off
RETURNING_SHARE = 0.9  # of the most WebSockets that there have been: memory for so many is there


class Accepted(Protocol):
    """An accepted connection, from its acceptance to its end."""

    tier: "Tier | None"

    def is_unused(self) -> bool:
        """It serves no request, and its client has read every answer."""

    def is_waited_for(self) -> bool:
        """It only waits for its client: for the rest of a body, or until the client reads an answer."""

    def count_held(self) -> int:
        """Bytes that are kept for it: those that its client has not read, and those of a frame that is not whole."""

    def cut_off(self) -> None:
        """Ends the connection at once, its TLS handshake included."""


Tier = dict[Accepted, None]
"""Connections of one kind, the oldest first."""


class Admission:
    """Which connections there are, at most `capacity`. `shed` counts those that had to go since the start."""

    def __init__(self, max_descriptors: int, reserved_descriptors: int, memory: MemoryWatch | None = None) -> None:
        """`reserved_descriptors` are for everything but clients. Of a small limit they are at most half."""
        self.memory = memory or MemoryWatch()
        self.capacity = max(MIN_CONNECTIONS, max_descriptors - min(reserved_descriptors, max_descriptors // 2))
        self.max_websockets = self.capacity - min(REST_CONNECTIONS, self.capacity // 8)
        self.shed = 0
        self._seldom = Seldom(logger)
        # Oldest first: those that have sent no whole request yet, and those that have, by their last one.
        self._newcomers: Tier = {}
        self._known: Tier = {}
        self._websockets: Tier = {}
        self._most_websockets = 0  # so far
        self._tiers = self._newcomers, self._known, self._websockets

    def __len__(self) -> int:
        return len(self._newcomers) + len(self._known) + len(self._websockets)

    def enter(self, accepted: Accepted) -> None:
        self._move(accepted, self._newcomers)

    def note_request(self, accepted: Accepted) -> None:
        """The connection has sent a whole request: it goes after all that have not, and after those whose last one is
        older."""
        if accepted.tier is not None:  # else it has been shed, and is about to hear of it
            # As `_move`, without two calls for each request.
            del accepted.tier[accepted]
            self._known[accepted] = None
            accepted.tier = self._known

    def note_websocket(self, accepted: Accepted) -> None:
        if accepted.tier is not None:
            self._move(accepted, self._websockets)
            self._most_websockets = max(self._most_websockets, len(self._websockets))

    def check_memory(self) -> None:
        """Raises ChatError 503 unless there is memory for one more WebSocket. The process keeps the memory of those
        that are gone, in pieces, and uses it again: for so many, half of the reserve is enough."""
        has_held_more = len(self._websockets) < RETURNING_SHARE * self._most_websockets
        if self.memory.lacking_bytes or (self.memory.is_low and not has_held_more):
            raise self.memory.refuse()

    def replace(self, accepted: Accepted, successor: Accepted) -> None:
        """The successor goes on in its place; nowhere, if that has been shed."""
        if accepted.tier is not None:
            self._move(successor, accepted.tier)
            self.leave(accepted)

    def leave(self, accepted: Accepted) -> None:
        if accepted.tier is not None:
            del accepted.tier[accepted]
            accepted.tier = None

    def make_space(self) -> bool:
        """Whether one more may be accepted. If all are taken, the connection that matters least goes: one
        without a request, then one that is idle, then one that only waits for its client; the oldest first."""
        if (
            self.memory.is_low
            and len(self._newcomers) + len(self._known) >= LOW_MEMORY_CONNECTIONS
            and not self._shed_for_memory()
            and self.memory.lacking_bytes
        ):
            return False  # until memory is scarce, requests such as probes are answered beside those that are served
        return len(self) < self.capacity or self.shed_one()

    def shed_idle(self, count: int) -> None:
        """Up to so many that nobody uses, while memory is low."""
        while count > 0 and len(self._newcomers) + len(self._known) > LOW_MEMORY_CONNECTIONS:
            if not self._shed_for_memory():
                return
            count -= 1

    def shed_one(self) -> bool:
        """False if nobody can go."""
        accepted = self._find_least()
        if accepted is None:
            self._seldom.warning("all %d connections are in use: the server accepts no more until one ends", len(self))
            return False
        self._seldom.warning("all %d connections are taken: the server closes idle ones to make room", len(self))
        self._shed(accepted)
        return True

    def _shed_for_memory(self) -> bool:
        accepted = self._find_least()
        if accepted is None:
            return False
        self._seldom.warning("memory is low: the server closes idle connections, of %d", len(self))
        self._shed(accepted)
        return True

    def _find_least(self) -> Accepted | None:
        unused = _find_unused(self._newcomers) or _find_unused(self._known)
        return unused or next((known for known in self._known if known.is_waited_for()), None)

    def _shed(self, accepted: Accepted) -> None:
        self.leave(accepted)
        self.shed += 1
        accepted.cut_off()

    def cut_off_heaviest(self, bytes_to_free: int) -> int:
        """Cuts off those for which most is kept, until so much is free; returns how many."""
        held = [(accepted.count_held(), accepted) for tier in self._tiers for accepted in tier]
        held = sorted((pair for pair in held if pair[0] > MIN_HELD_BYTES), key=itemgetter(0), reverse=True)
        count = 0
        for size, accepted in held:
            if bytes_to_free <= 0:
                break
            bytes_to_free -= size
            self._shed(accepted)
            count += 1
        return count

    def _move(self, accepted: Accepted, tier: Tier) -> None:
        self.leave(accepted)
        tier[accepted] = None
        accepted.tier = tier


def _find_unused(tier: Tier) -> Accepted | None:
    """The oldest that is unused. Those before it become the youngest, so that nobody looks at them again and again."""
    for _ in range(len(tier)):
        accepted = next(iter(tier))
        if accepted.is_unused():
            return accepted
        del tier[accepted]
        tier[accepted] = None
    return None
