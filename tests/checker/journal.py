"""What the clients did and were told, in the order in which they noticed it."""

import json
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from chatapi.protocol.server_frames import LOGGED

Frame = dict[str, Any]


def is_leaving(event: Frame, user_id: str) -> bool:
    """Whether the user is in the room no more: it is the last event of the room that their connections get."""
    return event["type"] in ("member.left", "member.banned") and event["user_id"] == user_id


class Outcome(Enum):
    UNKNOWN = auto()  # the connection or the server went first: it may have happened, or not
    CONFIRMED = auto()
    REFUSED = auto()


@dataclass(slots=True)
class Attempt:
    """One thing that a client asked for. `begun` and `settled` are ticks of the journal."""

    kind: str
    user_id: str
    room_id: str
    begun: int
    outcome: Outcome = Outcome.UNKNOWN
    settled: int = 0
    client_message_id: str | None = None
    message_id: str | None = None
    content: str | None = None
    seq: int | None = None
    thread_id: str | None = None
    mentions: tuple[str, ...] | None = ()  # None in an edit that leaves them as they are
    mention_room: bool = False
    state: str | None = None  # of a stream: open, or how it is to end

    @property
    def draft(self) -> dict[str, Any]:
        """The message as it is sent, each time."""
        fields = {"content": self.content, "client_message_id": self.client_message_id, "thread_id": self.thread_id}
        fields |= {"stream": True} if self.state else {}
        return {**fields, "mentions": list(self.mentions or ()), "mention_room": self.mention_room}


@dataclass(slots=True)
class Growing:
    """A message that its sender wrote bit by bit."""

    room_id: str
    message_id: str
    opening: str
    texts: list[str] = field(default_factory=list)  # of the appends that were ever asked for, the first one's first
    confirmed: int = 0  # the last of them that is known to be stored
    is_cancel_stored: bool = False

    def read(self, index: int) -> str:
        """The content after the append with this index."""
        return self.opening + "".join(self.texts[:index])

    def list_contents(self, after: int = 0) -> list[str]:
        """All that it may have said since an append."""
        return [self.read(index) for index in range(after, len(self.texts) + 1)]


@dataclass(slots=True)
class Pipe:
    """A message that its sender wrote through a pipe."""

    room_id: str
    client_message_id: str
    whole_state: str  # in which it ends if all of it arrives: done or failed
    text: str = ""  # all that was written into it so far
    is_whole: bool = False
    is_cancel_asked: bool = False
    message_id: str | None = None  # once somebody has heard of it
    answer: Frame | None = None  # the message of a 201


@dataclass(slots=True)
class Stream:
    """One connection: what came in, and the `sync` and `subscribe` frames that went out, in order.

    `mode` is "backlog" or "cursors" (`?sync=none`, then a `sync`).
    """

    user_id: str
    mode: str
    begun: int
    entries: list[tuple[int, bool, Frame]] = field(default_factory=list)  # (tick, was it sent by the client, frame)


@dataclass(slots=True)
class Page:
    """A page of a room's log that somebody read meanwhile."""

    user_id: str
    room_id: str
    after_seq: int
    known_seq: int  # the greatest seq of the room that anybody knew of when the page was asked for
    events: list[Frame]


@dataclass(slots=True)
class Poll:
    """A long poll that was answered."""

    user_id: str
    begun: int
    cursors: dict[str, int]
    limit: int
    is_foreign: bool  # it named another epoch
    answer: Frame


class Journal:
    def __init__(self) -> None:
        self.now = 0
        self.attempts: list[Attempt] = []
        self.streams: list[Stream] = []
        self.growing: dict[str, Growing] = {}  # by message
        self.pipes: dict[str, Pipe] = {}  # by client_message_id
        self.pages: list[Page] = []
        self.polls: list[Poll] = []
        self.faults: list[str] = []  # what is wrong whatever else happened
        self.counts: Counter[str] = Counter()
        self._events: dict[str, Frame] = {}
        self._acked: dict[
            tuple[str, str], list[tuple[int, int]]
        ] = {}  # by user and room: (tick, the most that was confirmed)
        self.known: dict[str, list[tuple[int, int]]] = {}  # by room: (tick, a new greatest seq that somebody knew of)

    def tick(self) -> int:
        self.now += 1
        return self.now

    def begin(self, kind: str, user_id: str, room_id: str, **fields: Any) -> Attempt:
        attempt = Attempt(kind, user_id, room_id, self.tick(), **fields)
        self.attempts.append(attempt)
        return attempt

    def settle(self, attempt: Attempt, outcome: Outcome, **fields: Any) -> None:
        attempt.outcome = outcome
        attempt.settled = self.tick()
        for name, value in fields.items():
            setattr(attempt, name, value)
        self.counts[f"{attempt.kind} {outcome.name.lower()}"] += 1
        if attempt.kind in ("ack", "read") and outcome is Outcome.CONFIRMED and attempt.seq is not None:
            acked = self._acked.setdefault((attempt.user_id, attempt.room_id), [])
            acked.append((self.now, max(attempt.seq, find_at(acked))))
        if outcome is Outcome.CONFIRMED and attempt.seq is not None:
            self.learn(attempt.room_id, attempt.seq)

    def note_page(self, user_id: str, room_id: str, after_seq: int, known_seq: int, events: list[Frame]) -> None:
        self.pages.append(Page(user_id, room_id, after_seq, known_seq, events))
        self.counts["pages read"] += 1

    def read(self, text: str) -> Frame:
        """What was received. All who got the same event share one object: else a long run would not fit in memory."""
        frame: Frame | None = self._events.get(text)
        if frame is None:
            frame = json.loads(text)
            if frame["type"] in LOGGED:
                self._events[text] = frame
        return frame

    def keep(self, stream: Stream, frame: Frame, *, is_sent: bool = False) -> None:
        stream.entries.append((self.tick(), is_sent, frame))

    def learn(self, room_id: str, seq: int) -> None:
        """Somebody was shown this seq: from now on it has to exist forever."""
        known = self.known.setdefault(room_id, [])
        if not known or known[-1][1] < seq:
            known.append((self.now, seq))

    def known_seq(self, room_id: str, tick: int | None = None) -> int:
        """The greatest seq of the room that anybody knew of at that time."""
        return find_at(self.known.get(room_id, []), tick)

    def fault(self, text: str) -> None:
        self.faults.append(f"at tick {self.now}: {text}")

    def acked_seq(self, user_id: str, room_id: str, tick: int) -> int:
        """What the user had acknowledged for sure at that time."""
        return find_at(self._acked.get((user_id, room_id), []), tick)


def find_at(values: list[tuple[int, int]], tick: int | None = None) -> int:
    """Of values that only grow, each with the tick since when it holds, the one just before a tick, or the last one."""
    index = len(values) if tick is None else bisect_left(values, (tick,))
    return values[index - 1][1] if index else 0
