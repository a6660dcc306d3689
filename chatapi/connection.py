"""One connection as the server knows it, whatever carries it, and the only functions that change its state and its
cursors.

A connection is PAUSED until its backlog is asked for, RECOVERING while it is served from the log, and LIVE while it
gets what is published. Nothing here awaits, sends or reads: `Hub` sends, and `Recovery` serves from the log.
"""

from collections.abc import Callable, Iterator
from enum import Enum, StrEnum, auto
from typing import NamedTuple, Protocol

from chatapi.clock import Timer
from chatapi.models import Principal, TenantState, UserId
from chatapi.open_streams import OpenStream
from chatapi.peer_transport import PeerTransport
from chatapi.protocol.server_frames import ServerFrame
from chatapi.ratelimit import TokenBucket
from chatapi.room import RoomState

LIGHT_RATE_PER_S = 20.0  # acks, typing and pings of one connection (docs/contract.md, section 5)
LIGHT_BURST = 40

FrameKey = tuple[RoomState | OpenStream, type[ServerFrame]]
"""Of a frame outside the log that may not be dropped: a later one with the same key stands for it."""


class ConnectionState(Enum):
    PAUSED = auto()  # no `ready` yet, or `?sync=none` and no `sync` yet: nothing of any room is sent
    RECOVERING = auto()  # gets the log from its cursors on: at the start, after a `sync`, or when it was too slow
    LIVE = auto()  # gets what is published
    CLOSED = auto()


class TransportKind(StrEnum):
    """The carriers of connections."""

    WEBSOCKET = "websocket"
    EVENT_STREAM = "sse"
    LONG_POLL = "poll"


class Outlet(Protocol):
    """Where a connection's bytes go: a WebSocket's transport as it is, or what writes them in another form.

    They are frames as `chatapi.protocol.wire` makes them, a ping and a close frame among them. The close frame is the
    last thing that is written.
    """

    def write(self, data: bytes, /) -> None: ...

    def get_write_buffer_size(self) -> int:
        """Bytes that neither the peer nor the kernel has taken."""

    def is_closing(self) -> bool: ...

    def close(self) -> None:
        """Ends it once everything is sent."""


class Connection:
    """While it is LIVE it has been sent all that is published in its rooms; else `cursors` says how far."""

    __slots__ = (
        "awaited_ids",
        "bad_frames",
        "bad_since_s",
        "buffer_limit_bytes",
        "buffered_bytes",
        "close_code",
        "connection_id",
        "cursors",
        "heard_at_s",
        "is_ready",
        "is_recovering",
        "kind",
        "last_seqs",
        "light_bucket",
        "notifications_due",
        "notified_key",
        "orphaned_ids",
        "outbox",
        "peer",
        "pinged_at_s",
        "principal",
        "rooms",
        "shown",
        "state",
        "swept_heard_at_s",
        "swept_taken",
        "sync_requests",
        "transport",
        "undroppable",
        "unsubscribed",
    )

    def __init__(
        self,
        *,
        connection_id: str,
        principal: Principal,
        kind: TransportKind,
        transport: Outlet,
        peer: PeerTransport,
        buffer_limit_bytes: int,
        now_s: float,
    ) -> None:
        self.connection_id = connection_id
        self.principal = principal
        self.kind = kind
        self.transport = transport
        self.peer = peer
        self.buffer_limit_bytes = buffer_limit_bytes
        self.state = ConnectionState.PAUSED
        self.is_ready = False  # `ready` was sent
        self.is_recovering = False  # its recovery task runs
        self.outbox: list[bytes] = []
        self.undroppable: dict[FrameKey, bytes] = {}  # frames outside the log that wait
        self.buffered_bytes = 0  # unsent in the transport when it was last written to
        self.rooms: dict[RoomState, None] = {}
        self.unsubscribed: dict[RoomState, None] = {}  # rooms of its user's whose events it does not want
        self.cursors: dict[RoomState, int] = {}  # while not LIVE: the last seq sent, of each room
        self.last_seqs: dict[RoomState, int] = {}  # rooms that it has left, and the last seq it may still see there
        # While not LIVE: the open streams, with their rooms, that it has as they stand. It gets their deltas, too.
        self.shown: dict[OpenStream, RoomState] | None = None
        self.notifications_due = False  # there may be notifications to read from the store
        self.notified_key = 0  # the newest notification sent, by its key
        self.awaited_ids: dict[tuple[RoomState, int], str] = {}  # request ids that go into events still to be sent
        self.orphaned_ids: list[tuple[RoomState, int, str]] = []  # request ids whose events do not come, or have come
        self.sync_requests: list[str | None] = []  # request ids of the `sync`s to be answered
        self.heard_at_s = now_s
        self.pinged_at_s = now_s
        self.swept_taken = 0  # bytes that its peer had taken when its silence was last looked at...
        self.swept_heard_at_s = -1.0  # ...and the silence that this was
        self.light_bucket: TokenBucket | None = None
        self.bad_frames = 0
        self.bad_since_s = now_s
        self.close_code: int | None = None

    @property
    def tenant(self) -> TenantState:
        return self.principal.tenant

    @property
    def user_id(self) -> UserId:
        return self.principal.user_id

    def unsent_bytes(self) -> int:
        """The bytes in the outbox and the transport. Bytes that the kernel has taken do not count."""
        return self.transport.get_write_buffer_size() + sum(map(len, self.outbox))

    def take_small_frame_token(self, now_s: float) -> float:
        """One token of the connection's own bucket; see `TokenBucket.take`. Made late: most connections are idle."""
        if self.light_bucket is None:
            self.light_bucket = TokenBucket(LIGHT_RATE_PER_S, LIGHT_BURST, now_s)
        return self.light_bucket.take(now_s)

    # State

    def pause(self) -> None:
        """Its cursors are about to be set. The other cursors stay where the connection is."""
        if self.state is ConnectionState.LIVE:
            self._note_cursors()
        self.state = ConnectionState.PAUSED
        self.shown = None

    def fall_behind(self) -> None:
        """No longer LIVE: from here on it is served from the log."""
        self._note_cursors()
        self.state = ConnectionState.RECOVERING
        self.shown = None

    def recover(self) -> None:
        """From PAUSED: it is served from its cursors on."""
        self.state = ConnectionState.RECOVERING

    def go_live(self) -> None:
        """It lacks nothing: it `is_behind` in no room, and was shown every open stream."""
        for room in list(self.last_seqs):
            self.leave(room)
        self.state = ConnectionState.LIVE
        self.shown = None
        self.cursors.clear()
        self.awaited_ids.clear()

    def close(self) -> None:
        """Nothing more is sent to it."""
        self.state = ConnectionState.CLOSED
        self.shown = None

    def detach(self) -> None:
        """It has ended: no room knows it any more, and nothing waits for it."""
        self.state = ConnectionState.CLOSED
        for room in self.rooms:
            room.subscribers.pop(self, None)
        for room in self.unsubscribed:
            room.unsubscribed.pop(self, None)
        self.rooms.clear()
        self.unsubscribed.clear()
        self.cursors.clear()
        self.outbox.clear()
        self.undroppable.clear()
        self.shown = None

    def _note_cursors(self) -> None:
        self.cursors = {room: room.published_seq for room in self.rooms}

    # Rooms

    def enter(self, room: RoomState, cursor: int) -> tuple[int, int] | None:
        """From now on it gets the room's events after `cursor`; a LIVE one that lacks some of them falls behind.

        Returns the first and last seq of events that it will not get, if there are any: its user left the room and is
        back before it was served up to the leaving, so that it is treated as if it had been away.
        """
        missed = None
        left_at_seq = self.last_seqs.pop(room, None)
        if left_at_seq is not None:
            self.orphan_ids(room, cursor)
            if self.state is ConnectionState.RECOVERING and self.cursors[room] < left_at_seq:
                missed = self.cursors[room] + 1, cursor
            self.cursors[room] = cursor
        if room in self.rooms:
            return missed
        self._forget_unsubscribed(room)
        self.rooms[room] = None
        room.subscribers[self] = None
        if self.state is not ConnectionState.LIVE:
            self.cursors[room] = cursor
        elif cursor < room.published_seq:
            self.fall_behind()
            self.cursors[room] = cursor
        return missed

    def leave(self, room: RoomState, last_seq: int | None = None) -> None:
        """It gets no more of this room; one that is not LIVE is served up to `last_seq` before. Of a room that was left
        before `ready` it gets nothing: it is never told that it was there."""
        self._forget_unsubscribed(room)
        if room not in self.rooms:
            return
        if self.shown:
            self.shown = {stream: of_room for stream, of_room in self.shown.items() if of_room is not room}
        if last_seq is not None and self.is_ready and self.cursors.get(room, last_seq) < last_seq:
            self.last_seqs[room] = last_seq
            return
        self.orphan_ids(room, room.published_seq)
        room.subscribers.pop(self, None)
        del self.rooms[room]
        self.cursors.pop(room, None)
        self.last_seqs.pop(room, None)

    def follows(self, room: RoomState) -> bool:
        """Whether it is in the room, and its user has not left it."""
        return room in self.rooms and room not in self.last_seqs

    def unsubscribe(self, room: RoomState) -> None:
        """As `leave`, because the client asked for it: a member still shares the room with the others."""
        self.leave(room)
        if self.user_id in room.members:
            self.unsubscribed[room] = None
            room.unsubscribed[self] = None

    def _forget_unsubscribed(self, room: RoomState) -> None:
        if room in self.unsubscribed:
            del self.unsubscribed[room]
            del room.unsubscribed[self]

    # Cursors

    def find_last_seq(self, room: RoomState) -> int:
        """How far it may see: in a room that its user has left, up to that."""
        return self.last_seqs.get(room, room.published_seq)

    def is_behind(self, room: RoomState) -> bool:
        """Only for a connection that is not LIVE: others have no cursors."""
        return self.cursors[room] < self.find_last_seq(room)

    def list_behind(self) -> Iterator[RoomState]:
        """The rooms of which it lacks something. It looks at all of them, of which there may be 10,000."""
        if self.last_seqs:
            return (room for room in self.cursors if self.is_behind(room))
        return (room for room, cursor in self.cursors.items() if cursor < room.published_seq)

    def lacks_events(self) -> bool:
        """Whether it is behind in any room."""
        return next(self.list_behind(), None) is not None

    def set_all_cursors(self, find_seq: Callable[[RoomState], int]) -> None:
        """As `set_cursor`, for each of its rooms; only for a connection that awaits no event of a request."""
        self.cursors = {room: find_seq(room) for room in self.rooms}

    def set_cursor(self, room: RoomState, seq: int) -> None:
        """Makes recovery send the room's events after `seq`, whatever was sent before."""
        self.orphan_ids(room, seq)
        self.cursors[room] = seq

    def advance(self, room: RoomState, count: int) -> None:
        """The next `count` events of the room were sent to it."""
        cursor = self.cursors[room]
        self.cursors[room] = cursor + count
        if self.awaited_ids:
            for seq in range(cursor + 1, cursor + count + 1):
                self.awaited_ids.pop((room, seq), None)  # given: a later `sync` or gap must not give it again

    # Request ids that an event answers

    def await_event(self, room: RoomState, seq: int, request_id: str) -> None:
        """The event answers this request. An event takes one request id: a further one is answered apart."""
        if (room, seq) in self.awaited_ids:
            self.orphaned_ids.append((room, seq, request_id))
        else:
            self.awaited_ids[room, seq] = request_id

    def orphan_ids(self, room: RoomState, to_seq: int) -> None:
        """It will not get the room's events up to `to_seq`. The requests that they answer are answered apart, once
        recovery has come to the end."""
        if self.awaited_ids:
            for event in [event for event in self.awaited_ids if event[0] is room and event[1] <= to_seq]:
                self.orphaned_ids.append((*event, self.awaited_ids.pop(event)))


class Requester(NamedTuple):
    """The connection whose frame asked for something, and the frame's `request_id`: its answer goes there."""

    connection: Connection
    request_id: str | None
    is_one_of_many: bool = False  # the frame asks for many rooms: a refusal names its room


class OnlineUser:
    """A user who is online: their open connections, and whether the others were told. Within the grace of presence they
    have no connection."""

    __slots__ = ("announced", "connections", "last_rooms", "offline_timer", "tenant", "typing", "user_id")

    def __init__(self, tenant: TenantState, user_id: UserId) -> None:
        self.tenant = tenant
        self.user_id = user_id
        self.connections: dict[Connection, None] = {}
        self.announced = False
        self.offline_timer: Timer | None = None
        self.last_rooms: list[RoomState] = []  # rooms to announce the user in, while no connection is `ready`
        self.typing: dict[RoomState, Timer] = {}  # the server's own stop, by room
