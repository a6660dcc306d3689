"""How far one device has come in each room's log. It says which events to ask for and which to hand over, without I/O
or clock."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from chatapi.client.events import LogEvent, ReadyRoom
from chatapi.client.records import Cursors

MAX_HELD = 200  # events per room kept behind a gap; later ones are read from the log too
MAX_SYNC_BYTES = 100 * 1024  # of cursors in one `sync`, so that the frame stays below the server's 128 KiB
NAME_BYTES = 24  # of a room in a `sync` beside its id: quotes, colon, comma and a seq


class RoomCursor:
    """One room. Replaced, not changed, when the server resets it, so that an event of the log before the reset cannot
    move the cursor in the log after it."""

    __slots__ = ("acked", "gap_end", "handled", "held", "is_filling", "is_member", "member_at", "received")

    def __init__(self, seq: int | None, *, is_member: bool) -> None:
        self.received = seq  # taken in up to here; None: the next event is the first
        self.handled = seq  # the application is done with it up to here
        self.acked: int | None = seq
        self.is_member: bool = is_member
        self.member_at: int = 0  # the log up to here is older than the server's word that the user is a member
        self.gap_end: int = 0  # above `received`: up to here the log has to be read
        self.is_filling: bool = False
        self.held: deque[LogEvent] = deque()  # the events after the gap

    @property
    def has_gap(self) -> bool:
        return self.received is not None and self.gap_end > self.received

    @property
    def is_behind(self) -> bool:
        """Something has to be handed over before the next live event."""
        return self.has_gap or bool(self.held)

    def take(self, event: LogEvent) -> bool:
        """True when the event is the next one, to hand over now. Otherwise it is known already, or it waits: see
        `is_behind`."""
        seq = event["seq"]
        if self.received is None:
            self.received = seq
            return True
        if seq <= self.received:
            return False
        if self.is_behind or seq > self.received + 1:
            self._hold(event)
            return False
        self.received = seq
        return True

    def _hold(self, event: LogEvent) -> None:
        assert self.received is not None  # `take` has looked
        seq = event["seq"]
        if not self.is_behind:
            self.gap_end = seq - 1
        expected = max(self.gap_end, self.received) + len(self.held) + 1
        if seq == expected and len(self.held) < MAX_HELD:
            self.held.append(event)
        elif seq >= expected:
            self.skip_to(seq)

    def skip_to(self, seq: int) -> None:
        """Everything up to `seq` has to be read from the log, including the events that are held."""
        if self.held:
            seq = max(seq, self.held[-1]["seq"])
            self.held.clear()
        if self.received is None:
            self.received = self.handled = seq - 1
        self.gap_end = max(self.gap_end, seq)

    def take_page(self, events: Sequence[LogEvent], *, has_more: bool) -> Iterator[LogEvent]:
        """The events of a page of the log after `received` that belong into the gap."""
        assert self.received is not None  # there is a gap
        end = self.gap_end
        for event in events:
            if self.received < event["seq"] <= end:
                self.received = event["seq"]
                yield event
        # Where retention has removed events the log has nothing more below the end of the gap.
        if not has_more or not events or events[-1]["seq"] >= end:
            self.received = max(self.received, end)

    def take_held(self) -> LogEvent:
        """The next event behind the gap. There has to be one, and no gap before it."""
        event = self.held.popleft()
        self.received = event["seq"]
        return event

    def interrupt(self) -> None:
        """The socket is gone: the next `sync` brings what is missing."""
        self.is_filling = False  # its task may have been cancelled before it began
        self.gap_end = 0
        self.held.clear()


class CursorBook:
    """Every room that a connection knows of."""

    def __init__(self, cursors: Cursors | None) -> None:
        self.epoch = cursors["epoch"] if cursors else None
        self.rooms: dict[str, RoomCursor] = {}
        self.wanted: dict[str, None] = {}  # channels subscribed to without being a member
        self.unwanted: set[str] = set()  # rooms that this connection does not want
        self.unacked: dict[str, RoomCursor] = {}
        self.unanswered: dict[str, int | None] = {}  # rooms whose ack was sent on this socket: their `acked` before
        for room_id, seq in (cursors["rooms"] if cursors else {}).items():
            self.rooms[room_id] = RoomCursor(seq, is_member=False)

    def export(self) -> Cursors:
        """How far the application has handled each room; rooms of which that is not known yet are left out."""
        handled = {room_id: room.handled for room_id, room in self.rooms.items()}
        return {"epoch": self.epoch, "rooms": {room_id: seq for room_id, seq in handled.items() if seq is not None}}

    def get(self, room_id: str) -> RoomCursor:
        """Of a room that is not followed, the server tells members only."""
        room = self.rooms.get(room_id)
        if room is None:
            room = self.rooms[room_id] = RoomCursor(None, is_member=room_id not in self.wanted)
        return room

    def is_current(self, room_id: str, room: RoomCursor) -> bool:
        """False once the server has reset the room, or the user has left it: events of the old log then move
        nothing."""
        return self.rooms.get(room_id) is room

    def drop(self, room_id: str) -> None:
        self.rooms.pop(room_id, None)
        self.unacked.pop(room_id, None)
        self.unanswered.pop(room_id, None)

    def take_ready(self, epoch: str, listed: Sequence[ReadyRoom]) -> dict[str, int]:
        """Brings the book in line with the server's list of the user's rooms. Returns the cursors to name in `sync`:
        those of followed channels, which are followed by it, and those that differ from `last_ack`, where the server
        begins anyway, as many as fit. A room that was not named heals by itself: events that come twice are known, and
        missing ones show as a gap."""
        self.unanswered.clear()
        self._forget_left({room["room_id"] for room in listed})
        is_same_log = self.epoch in (None, epoch)
        named = self._name_followed()
        size = sum(len(room_id) + NAME_BYTES for room_id in named)
        for entry in listed:
            room_id, last_ack = entry["room_id"], entry["last_ack"]
            room = self.get(room_id)
            room.is_member = True
            room.member_at = entry["last_seq"]
            if room.received is None:
                room.received = last_ack
            if room.handled is None:
                room.handled = last_ack
            room.acked = last_ack
            if is_same_log and room.handled > last_ack:
                self.unacked[room_id] = room  # the last ack got lost
            after_seq = entry["last_seq"] if room_id in self.unwanted else room.received
            if room_id in named or (is_same_log and after_seq == last_ack):
                continue
            size += len(room_id) + NAME_BYTES
            if size <= MAX_SYNC_BYTES:
                named[room_id] = after_seq
        return named

    def _forget_left(self, present: set[str]) -> None:
        """Forgets the rooms of which the user is no longer a member."""
        for room_id, room in list(self.rooms.items()):
            if not room.is_member or room_id in present:
                continue
            if room_id in self.wanted:
                room.is_member = False  # a channel that goes on being followed
            else:
                self.drop(room_id)

    def _name_followed(self) -> dict[str, int]:
        named: dict[str, int] = {}
        size = 0
        for room_id in self.wanted:
            room = self.rooms.get(room_id)
            size += len(room_id) + NAME_BYTES
            if room is not None and room.received is not None and size <= MAX_SYNC_BYTES:
                named[room_id] = room.received
        return named

    def reset(self, epoch: str, rooms: Mapping[str, int]) -> None:
        """The server has another log than the one the cursors came from: it begins at what was acknowledged there."""
        if epoch != self.epoch:
            for room_id, room in list(self.rooms.items()):
                if not room.is_member:
                    self.drop(room_id)
                elif room_id not in rooms:  # one that the `sync` did not name; `acked` is from this `ready`
                    self._begin_anew(room_id, room.acked, room.member_at)
        self.epoch = epoch
        for room_id, last_ack in rooms.items():
            self._begin_anew(room_id, last_ack, self.get(room_id).member_at)

    def _begin_anew(self, room_id: str, seq: int | None, member_at: int) -> None:
        room = RoomCursor(seq, is_member=self.get(room_id).is_member)
        room.member_at = member_at
        self.rooms[room_id] = room
        self.unacked.pop(room_id, None)
        self.unanswered.pop(room_id, None)

    def join(self, room_id: str, last_seq: int) -> None:
        """The user is a member from now on, and gets what follows `last_seq`."""
        room = self.rooms.get(room_id)
        if room is None:
            room = self.rooms[room_id] = RoomCursor(last_seq, is_member=True)
        room.is_member = True
        room.member_at = max(room.member_at, last_seq)

    def leave(self, room_id: str, room: RoomCursor, seq: int) -> None:
        """The log says that the user has left, or was removed, at `seq`: history, where the server has said since then
        that they are a member."""
        if seq <= room.member_at or not self.is_current(room_id, room):
            return
        if room_id in self.wanted:
            room.is_member = False
        else:
            self.drop(room_id)

    def note_last(self, room_id: str, last_seq: int) -> RoomCursor:
        """Notes the newest event so far, as the server gives it. Opens a gap when that has not come."""
        room = self.rooms.setdefault(room_id, RoomCursor(None, is_member=False))
        if room.received is None:
            room.received = room.handled = last_seq
        elif last_seq > room.received and not room.is_behind:
            room.skip_to(last_seq)
        return room

    def handle(self, room_id: str, room: RoomCursor, seq: int) -> None:
        """The application is done with the event."""
        room.handled = seq
        if self.is_current(room_id, room):
            self.unacked[room_id] = room

    def take_acks(self) -> Iterator[tuple[str, int]]:
        """The acknowledgements that are due, one for each room. They are taken as they are sent."""
        while self.unacked:
            room_id, room = self.unacked.popitem()
            if room.is_member and room.handled is not None and room.handled > (room.acked or 0):
                self.unanswered.setdefault(room_id, room.acked)
                room.acked = room.handled
                yield room_id, room.handled

    def note_acked(self, room_id: str, seq: int) -> None:
        """The server has stored an ack of the user's."""
        room = self.rooms.get(room_id)
        if room is not None and seq >= (room.acked or 0):
            self.unanswered.pop(room_id, None)

    def repeat_acks(self) -> None:
        """Those that have no answer are due again: one of them was refused."""
        for room_id, acked in self.unanswered.items():
            room = self.rooms[room_id]
            room.acked = acked
            self.unacked[room_id] = room
        self.unanswered.clear()

    def interrupt(self) -> None:
        """As `RoomCursor.interrupt`, for every room."""
        for room in self.rooms.values():
            room.interrupt()
