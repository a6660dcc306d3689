"""How far one device has come in each room's log. No I/O and no clock: what to ask for, and what to hand over."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from chatapi.client.events import LogEvent, ReadyRoom
from chatapi.client.records import Cursors

MAX_HELD = 200  # events per room kept behind a gap; what is beyond is read from the log too
MAX_SYNC_BYTES = 100 * 1024  # of cursors in one `sync`, so that the frame stays below the server's 128 KiB
NAME_BYTES = 24  # of a room in a `sync` beside its id: quotes, colon, comma and a seq


class RoomCursor:
    """One room. Replaced, not changed, when the server resets it, so that an event of the log before the reset cannot
    move the cursor in the log after it."""

    __slots__ = ("acked", "gap_end", "handled", "held", "is_filling", "is_member", "received")

    def __init__(self, seq: int | None, *, is_member: bool) -> None:
        self.received = seq  # taken in up to here; None: the next event is the first
        self.handled = seq  # the caller is done with it up to here
        self.acked = seq
        self.is_member = is_member
        self.gap_end = 0  # above `received`: up to here the log has to be read
        self.is_filling = False
        self.held: deque[LogEvent] = deque()  # what comes after the gap

    @property
    def has_gap(self) -> bool:
        return self.received is not None and self.gap_end > self.received

    @property
    def is_behind(self) -> bool:
        """Something has to be handed over before the next live event."""
        return self.has_gap or bool(self.held)

    def take(self, event: LogEvent) -> bool:
        """True when the event is the next one and is to be handed over now. Otherwise it was taken in before, or it
        waits: see `is_behind`."""
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
        """Everything up to `seq` is to be read from the log, and what is held with it."""
        if self.held:
            seq = max(seq, self.held[-1]["seq"])
            self.held.clear()
        if self.received is None:
            self.received = self.handled = seq - 1
        self.gap_end = max(self.gap_end, seq)

    def take_page(self, events: Sequence[LogEvent], *, has_more: bool) -> Iterator[LogEvent]:
        """Of a page of the log after `received` what belongs into the gap."""
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
        for room_id, seq in (cursors["rooms"] if cursors else {}).items():
            self.rooms[room_id] = RoomCursor(seq, is_member=False)

    def export(self) -> Cursors:
        handled = {room_id: room.handled for room_id, room in self.rooms.items()}
        return {"epoch": self.epoch, "rooms": {room_id: seq for room_id, seq in handled.items() if seq is not None}}

    def get(self, room_id: str) -> RoomCursor:
        room = self.rooms.get(room_id)
        if room is None:
            room = self.rooms[room_id] = RoomCursor(None, is_member=False)
        return room

    def is_current(self, room_id: str, room: RoomCursor) -> bool:
        return self.rooms.get(room_id) is room

    def drop(self, room_id: str) -> None:
        self.rooms.pop(room_id, None)
        self.unacked.pop(room_id, None)

    def meet(self, epoch: str, listed: Sequence[ReadyRoom]) -> dict[str, int]:
        """Brings the book in line with the server's list of the user's rooms. Returns the cursors to name in `sync`:
        those that differ from `last_ack`, where the server begins anyway, as many as fit. A room that had no place
        heals by itself: what comes too often is known, what is left out shows as a gap."""
        present = {room["room_id"] for room in listed}
        for room_id in [room_id for room_id, room in self.rooms.items() if room.is_member and room_id not in present]:
            self.drop(room_id)
        is_same_log = self.epoch in (None, epoch)
        named: dict[str, int] = {}
        size = 0
        for entry in listed:
            room_id, last_ack = entry["room_id"], entry["last_ack"]
            room = self.get(room_id)
            room.is_member = True
            if room.received is None:
                room.received = last_ack
            if room.handled is None:
                room.handled = last_ack
            room.acked = last_ack
            if is_same_log and room.handled > last_ack:
                self.unacked[room_id] = room  # the last ack got lost
            if room_id in self.unwanted or (is_same_log and room.received == last_ack):
                continue
            size += len(room_id) + NAME_BYTES
            if size <= MAX_SYNC_BYTES:
                named[room_id] = room.received
        return named

    def reset(self, epoch: str, rooms: Mapping[str, int]) -> None:
        """The server has another log than the one the cursors came from: it begins at what was acknowledged there."""
        if epoch != self.epoch:
            for room_id, room in list(self.rooms.items()):
                if not room.is_member:
                    self.drop(room_id)
                elif room_id not in rooms:  # one that had no place in the `sync`; `acked` is from this `ready`
                    self.rooms[room_id] = RoomCursor(room.acked, is_member=True)
        self.epoch = epoch
        for room_id, last_ack in rooms.items():
            self.rooms[room_id] = RoomCursor(last_ack, is_member=True)
            self.unacked.pop(room_id, None)

    def join(self, room_id: str, last_seq: int) -> None:
        """The user is a member from now on, and gets what follows `last_seq`."""
        if room_id not in self.rooms:
            self.rooms[room_id] = RoomCursor(last_seq, is_member=True)
        self.rooms[room_id].is_member = True

    def note_last(self, room_id: str, last_seq: int) -> RoomCursor:
        """What the server said to be the newest event so far: opens a gap when that has not come."""
        room = self.get(room_id)
        if room.received is None:
            room.received = room.handled = last_seq
        elif last_seq > room.received and not room.is_behind:
            room.skip_to(last_seq)
        return room

    def handle(self, room_id: str, room: RoomCursor, seq: int) -> None:
        """The caller is done with the event."""
        room.handled = seq
        if self.is_current(room_id, room):
            self.unacked[room_id] = room

    def take_acks(self) -> Iterator[tuple[str, int]]:
        """What is to be acknowledged, each room once; taken as it is sent."""
        while self.unacked:
            room_id, room = self.unacked.popitem()
            if room.is_member and room.handled is not None and room.handled > (room.acked or 0):
                room.acked = room.handled
                yield room_id, room.handled

    def interrupt(self) -> None:
        for room in self.rooms.values():
            room.interrupt()
