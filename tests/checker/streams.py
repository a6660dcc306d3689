"""Holds one connection's frames against the truth: everything that it was entitled to, in order, nothing twice."""

from collections.abc import Callable
from dataclasses import dataclass, field

from chatapi.protocol.server_frames import LOGGED
from checker.journal import Frame, Journal, Stream, is_leaving
from checker.truth import RoomTruth

SHARED_FIELDS = (
    "type",
    "room_id",
    "message_id",
    "sender_id",
    "reply_to",
    "client_message_id",
    "created_at",
    "target_seq",
    "user_id",
    "name",
    "emoji",
    "count",
    "pinned_at",
    "thread_id",
    "muted_until",
    "reason",
    "until",
    "posting",
    "slow_mode_seconds",
)
"""What an event says whenever it is read. A message shows its content as it then stands, so that is looked at apart."""

_MARKS = frozenset({"room.created", "subscribed", "unsubscribed", "sync.gap", "sync.reset", "sync.complete", "error"})
_REQUESTED = frozenset({"message.edited", "message.finished", "reaction.added", "reaction.removed"})
MARKS_SHOWN = 12


class Said(set[str | None]):
    """Everything that a message was ever asked to say; None once its deletion was asked for."""

    piped: str | None = None
    """Any beginning of this counts, too."""

    def __contains__(self, content: object) -> bool:
        if super().__contains__(content):
            return True
        return isinstance(content, str) and self.piped is not None and self.piped.startswith(content)


Contents = dict[str, Said]
"""By message."""


@dataclass(slots=True)
class LogPosition:
    """Where a stream stands in a room: the next event's seq has to be within these bounds, or one of `others`.

    The bounds differ only until the first event. `others` are the beginnings that the client has asked for with `sync`,
    until that is complete, or that a new membership gives.
    """

    low: int
    high: int
    others: set[int]
    is_optional: bool = False
    """The user has left, but a `sync` that is under way may have found it there before, or back again."""

    @classmethod
    def after(cls, seq: int) -> "LogPosition":
        return cls(seq + 1, seq + 1, set())

    def is_past(self, seq: int) -> bool:
        return seq < self.low and seq not in self.others

    def take(self, seq: int) -> str | None:
        """Moves on; returns what is wrong."""
        wrong = None
        if self.is_past(seq):
            wrong = f"seq {seq} came again, or late: {self.low} was due"
        elif seq not in self.others and seq > self.high:
            wrong = f"seq {seq} came, and {self.high} was due: something is missing"
        self.low = self.high = seq + 1
        return wrong


@dataclass(slots=True)
class _Sync:
    is_foreign: bool  # it named another epoch
    room_ids: frozenset[str]
    before: dict[str, LogPosition | None] = field(default_factory=dict)
    """Where the rooms stood that it names, as far as it alone decides where they begin."""


class StreamCheck:
    def __init__(self, stream: Stream, journal: Journal, truth: dict[str, RoomTruth], contents: Contents) -> None:
        self._stream = stream
        self._journal = journal
        self._truth = truth
        self._contents = contents
        self._positions: dict[str, LogPosition] = {}
        self._paused = stream.mode == "cursors"
        self._syncs: dict[str, _Sync] = {}  # those that are not complete yet, by request id
        self._got: set[tuple[str, int]] = set()  # events delivered on this connection
        self._found: list[str] = []

    def run(self) -> list[str]:
        """Everything that is wrong with the stream."""
        takers: dict[str, Callable[[Frame], None]] = {
            "ready": self._take_ready,
            "room.created": self._take_created,
            "subscribed": self._take_subscribed,
            "unsubscribed": lambda frame: self._forget(frame["room_id"]),
            "sync.gap": self._take_gap,
            "sync.reset": self._take_reset,
            "sync.complete": self._take_complete,
            "error": self._take_error,
        }
        for tick, is_sent, frame in self._stream.entries:
            before = len(self._found)
            if is_sent:
                self._send(frame)
            elif frame["type"] in LOGGED and "seq" in frame:  # without it, an answer to a repetition
                self._take_event(frame)
            elif frame["type"] in takers:
                takers[frame["type"]](frame)
            if len(self._found) > before:
                # What follows would only repeat it.
                return [f"{self._tell_where(tick)}: {wrong}: {frame}" for wrong in self._found]
        return []

    def _tell_where(self, tick: int) -> str:
        """The stream, and what began and ended its rooms."""
        marks = [
            f"{at} {'sent' if is_sent else 'got'} {frame}"
            for at, is_sent, frame in self._stream.entries
            if at <= tick and (is_sent or frame["type"] in _MARKS or frame.get("user_id") == self._stream.user_id)
        ]
        stream = f"{self._stream.user_id}'s stream begun at tick {self._stream.begun} ({self._stream.mode})"
        return "\n  ".join([stream, *marks[-MARKS_SHOWN:], f"at tick {tick}"])

    def _send(self, frame: Frame) -> None:
        if frame["type"] != "sync":
            return
        sync = self._syncs[frame["request_id"]] = _Sync(frame["epoch"] == "another", frozenset(frame["rooms"]))
        for room_id, seq in frame["rooms"].items():
            position = self._positions.get(room_id)
            if position is not None and not self._paused:
                position.others.add(seq + 1)
                continue
            sync.before[room_id] = position
            self._positions[room_id] = LogPosition(seq + 1, seq + 1, {seq + 1, *(position.others if position else ())})
        self._paused = False

    def _take_ready(self, frame: Frame) -> None:
        for room in frame["rooms"]:
            room_id, last_ack, last_seq = room["room_id"], room["last_ack"], room["last_seq"]
            known_seq = self._journal.known_seq(room_id, self._stream.begun)
            if last_seq < known_seq:
                self._found.append(f"{room_id} ends at {last_seq}, but {known_seq} was seen before")
            truth = self._truth.get(room_id)
            if truth is None or not truth.is_member(self._stream.user_id, last_seq):
                self._found.append(f"{room_id} is shown to somebody who is not in it")
            # Another device may have acknowledged more between the look at last_ack and `ready`.
            acked = self._journal.acked_seq(self._stream.user_id, room_id, self._stream.begun)
            joined = (seq for seq in truth.joined(self._stream.user_id) if seq <= last_ack) if truth else ()
            if last_ack < acked:
                self._found.append(f"last_ack in {room_id} is {last_ack}, but {acked} was confirmed before")
            self._positions[room_id] = LogPosition(max(acked, *joined, 0) + 1, last_ack + 1, set())

    def _take_created(self, frame: Frame) -> None:
        """The user is in the room from now on, and its stream begins after its own `member.joined`."""
        room_id = frame["room_id"]
        truth = self._truth.get(room_id)
        beginnings = {seq + 1 for seq in truth.joined(self._stream.user_id)} if truth else set()
        if not beginnings:
            self._found.append("no such room was made for this user")
        elif room_id in self._positions:
            position = self._positions[room_id]
            position.others |= {seq for seq in beginnings if seq >= position.low}
            position.is_optional = False
        else:
            # Nothing is due in particular: one of the beginnings is.
            self._positions[room_id] = LogPosition(1 << 53, 0, beginnings)

    def _take_subscribed(self, frame: Frame) -> None:
        self._positions.setdefault(frame["room_id"], LogPosition.after(frame["last_seq"]))

    def _take_event(self, frame: Frame) -> None:
        room_id, seq = frame["room_id"], frame["seq"]
        position = self._positions.get(room_id)
        if "request_id" in frame and (position is None or (self._is_answer_only(frame) and position.is_past(seq))):
            return  # to somebody who does not listen there, or who is past it
        if self._paused or position is None:
            self._found.append("nothing of this room was to come")
            return
        self._got.add((room_id, seq))
        if wrong := position.take(seq):
            self._found.append(wrong)
        self._compare(frame)
        if is_leaving(frame, self._stream.user_id):
            if any(room_id in sync.room_ids for sync in self._syncs.values()):
                position.is_optional = True
            else:
                self._forget(room_id)

    def _is_answer_only(self, frame: Frame) -> bool:
        """To a deletion of what was deleted before; or to an edit, a reaction or the end of a stream whose event the
        connection never got, since a `sync` or a gap led past it."""
        is_new = (frame["room_id"], frame["seq"]) not in self._got
        return frame["type"] == "message.deleted" or (frame["type"] in _REQUESTED and is_new)

    def _compare(self, frame: Frame) -> None:
        truth = self._truth.get(frame["room_id"])
        logged = truth.find(frame["seq"]) if truth else None
        if logged is None:
            self._found.append("what was delivered is not in the log")
            return
        self._found.extend(find_differences(frame, logged, self._contents))

    def _take_gap(self, frame: Frame) -> None:
        position = self._positions.get(frame["room_id"])
        if position is None:
            self._found.append("a gap in a room of which nothing was to come")
            return
        if wrong := position.take(frame["from_seq"]):
            self._found.append(f"a gap at the wrong position: {wrong}")
        position.low = position.high = frame["to_seq"] + 1
        self._journal.counts["gaps"] += 1

    def _take_reset(self, frame: Frame) -> None:
        if not self._syncs[frame["request_id"]].is_foreign:
            self._found.append("a cursor was beyond the log's end")
        for room_id, seq in frame["rooms"].items():
            self._positions.setdefault(room_id, LogPosition.after(seq)).others.add(seq + 1)
        self._journal.counts["resets"] += 1

    def _take_complete(self, frame: Frame) -> None:
        if "request_id" in frame:
            self._syncs.pop(frame["request_id"])
        if not self._syncs:
            for room_id in [room_id for room_id, position in self._positions.items() if position.is_optional]:
                if room_id not in frame["rooms"]:
                    self._forget(room_id)
        begun_later = {
            room_id for sync in self._syncs.values() for room_id, position in sync.before.items() if not position
        }
        due = {room_id for room_id, position in self._positions.items() if not position.is_optional} - begun_later
        if not due <= frame["rooms"].keys() <= self._positions.keys():
            self._found.append(f"complete for other rooms than {sorted(self._positions)}")
            return
        for room_id, seq in frame["rooms"].items():
            position = self._positions[room_id]
            if not (position.low <= seq + 1 <= position.high or seq + 1 in position.others):
                self._found.append(f"complete with {room_id} at {seq}, and {position.high} is still due")
            if not self._syncs:
                self._positions[room_id] = LogPosition.after(seq)
        self._journal.counts["syncs completed"] += 1

    def _take_error(self, frame: Frame) -> None:
        """A room that the user may not read any more: its stream stays as it was."""
        named = frame.get("field") or ""
        sync = self._syncs.get(frame.get("request_id") or "")
        if sync is None or not named.startswith("rooms."):
            return
        room_id = named.removeprefix("rooms.")
        truth = self._truth.get(room_id)
        if truth is not None and truth.stays.get(self._stream.user_id) == [(0, None)]:
            self._found.append("a room that the user has always been in was refused")
        if room_id in sync.before:
            before = sync.before[room_id]
            self._forget(room_id)
            if before is not None:
                self._positions[room_id] = before

    def _forget(self, room_id: str) -> None:
        self._positions.pop(room_id, None)


def find_differences(seen: Frame, logged: Frame, contents: Contents) -> list[str]:
    found = [
        f"its {name} is {logged.get(name)!r} in the log" for name in SHARED_FIELDS if seen.get(name) != logged.get(name)
    ]
    if "content" in seen and seen["content"] not in contents.get(seen["message_id"], ()):
        found.append("nobody ever wrote this content")
    return found
