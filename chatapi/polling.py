"""Long polls: the events after each cursor, at once or as soon as there is one (docs/contract.md, section 20).

A poll that may wait is a connection of the hub. It is PAUSED while its answer is read from the log, LIVE while it
waits, and stays for the grace of presence afterwards, so that its user is connected between two polls: the next one
takes it over. Only one connection remains of a client that asks again and again.
"""

import asyncio
import heapq
import secrets
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from chatapi.access import can_read, check_may_read
from chatapi.banned_users import check_user_not_banned
from chatapi.connecting import check_limits, end_connection
from chatapi.connection import Connection, ConnectionState, TransportKind
from chatapi.doorbell import Doorbell
from chatapi.errors import ChatError, invalid, unauthenticated
from chatapi.models import Principal, find_key
from chatapi.peer_transport import PeerTransport
from chatapi.protocol.answers import ErrorBody
from chatapi.protocol.encoders import error_body, join_json
from chatapi.protocol.json import loads_stored
from chatapi.protocol.sync_records import SkippedEvents, Synced, SyncRequest
from chatapi.protocol.wire import decode_text
from chatapi.room import RoomState
from chatapi.services import Services

GOING_AWAY = 1001
MAX_ANSWER_BYTES = 1024 * 1024
ROOM_BYTES = 128  # of an answer: the cursor of a room, or its error


class _Want(NamedTuple):
    room: RoomState
    after_seq: int
    events: int


async def poll(services: Services, principal: Principal, request: SyncRequest, peer: PeerTransport) -> Synced:
    """Raises ChatError, also when the connection is closed while it waits; ConnectionResetError if the client has
    gone."""
    check_user_not_banned(principal.tenant, principal.user_id)  # their request took its time to arrive
    wait_s = 0 if services.health.is_draining else request.wait
    notified_key = _find_notification(request)
    connection = _take(services, principal) if wait_s else _make_connection(services, principal)
    reading = _Reading(services, connection, request, notified_key)
    try:
        await _enter_rooms(services, connection)
        await reading.begin()
        await reading.read()
        await _wait(reading, wait_s, peer)
        if connection.close_code not in (None, GOING_AWAY):
            services.hub.flush()  # the reason may still be in the outbox
            raise _get_doorbell(connection).error or unauthenticated("The connection was closed")
        check_user_not_banned(principal.tenant, principal.user_id)  # the hub closes only a connection that may wait
        return reading.make_answer()
    finally:
        reading.leave_channels()
        if wait_s:
            _give_back(services, connection)
        else:
            connection.detach()


async def _wait(reading: "_Reading", wait_s: float, peer: PeerTransport) -> None:
    """Returns once there is something to answer, the time is over, or the connection is closed."""
    clock = reading.clock
    end_s = clock.monotonic_s() + wait_s
    while reading.is_empty and not reading.is_closed:
        left_s = end_s - clock.monotonic_s()
        if left_s <= 0:
            return
        if not reading.is_behind:
            await reading.wait_for_event(left_s, peer)
        if peer.is_lost:
            raise ConnectionResetError("The client is gone")
        if not reading.is_closed:
            await reading.read()


def _find_notification(request: SyncRequest) -> int:
    if request.after_notification is None:
        return 0
    key = find_key("notif_", request.after_notification)
    if key is None:
        raise invalid("Must be the id of a notification", "after_notification")
    return key


# The connection


def _get_doorbell(connection: Connection) -> Doorbell:
    assert isinstance(connection.transport, Doorbell)
    return connection.transport


def _make_connection(services: Services, principal: Principal) -> Connection:
    def end() -> None:
        if connection.connection_id in services.hub.connections:
            end_connection(services, connection, has_lingered=True)

    connection = Connection(
        connection_id=f"conn_{secrets.token_hex(8)}",
        principal=principal,
        kind=TransportKind.LONG_POLL,
        transport=Doorbell(end),
        peer=PeerTransport(None, 0.0),
        buffer_limit_bytes=services.config.limits.send_buffer_bytes,
        now_s=services.clock.machine_s(),
    )
    return connection


def _take(services: Services, principal: Principal) -> Connection:
    """A connection that an earlier poll of the user has left, or a new one. Raises ChatError if there are too many."""
    for connection in services.hub.connections_of(principal.tenant.tenant_key, principal.user_id):
        if connection.kind is TransportKind.LONG_POLL and connection.state is not ConnectionState.CLOSED:
            doorbell = _get_doorbell(connection)
            if not doorbell.is_taken:
                doorbell.is_taken = True
                if doorbell.linger is not None:
                    doorbell.linger.cancel()
                    doorbell.linger = None
                connection.principal = principal
                return connection
    check_limits(services, principal)
    connection = _make_connection(services, principal)
    services.hub.attach(connection)
    return connection


async def _enter_rooms(services: Services, connection: Connection) -> None:
    """Unless an earlier poll has done it: since then its membership has been kept up to date."""
    doorbell = _get_doorbell(connection)
    if doorbell.has_rooms:
        return
    await services.recovery.enter_rooms(connection)
    doorbell.has_rooms = True
    connection.is_ready = True  # to be told of deleted rooms
    user = services.hub.find_online(connection.tenant.tenant_key, connection.user_id)
    if user is not None and connection in user.connections:
        services.presence.connected(connection, user)


def _give_back(services: Services, connection: Connection) -> None:
    doorbell = _get_doorbell(connection)
    doorbell.is_taken = False
    if connection.state is ConnectionState.CLOSED:
        doorbell.on_end()
    else:
        grace_s = services.config.websocket.presence_grace_seconds
        doorbell.linger = services.clock.call_later(grace_s, doorbell.on_end)


# The answer


class _Reading:
    """The answer of one poll in the making. The connection's cursors say how far it has come in each room."""

    def __init__(self, services: Services, connection: Connection, request: SyncRequest, notified_key: int) -> None:
        self.clock = services.clock
        self._services = services
        self._connection = connection
        self._user_id = connection.user_id
        self._request = request
        self._after_key = notified_key
        self._named: dict[RoomState, int] = {}  # rooms whose cursor the answer holds
        self._errors: dict[str, ErrorBody] = {}
        self._reset: dict[str, int] = {}
        self._gaps: list[SkippedEvents] = []
        self._events: list[bytes] = []
        self._notifications: list[bytes] = []
        self._has_more_notifications = False
        self._left_bytes = MAX_ANSWER_BYTES - ROOM_BYTES * len(request.rooms)

    @property
    def is_empty(self) -> bool:
        return not (
            self._events or self._notifications or self._gaps or self._reset or self._errors or any(self._list_lost())
        )

    @property
    def is_closed(self) -> bool:
        return self._connection.state is ConnectionState.CLOSED

    @property
    def is_behind(self) -> bool:
        connection = self._connection
        return connection.notifications_due or next(self._list_behind(), None) is not None

    async def begin(self) -> None:
        """Sets the cursors: those of the request, and `last_ack` where it names none."""
        connection, services = self._connection, self._services
        connection.notified_key = self._after_key
        connection.notifications_due = True
        rooms: list[tuple[RoomState, int]] = []
        for room_id, after_seq in self._request.cursors.items():
            try:
                rooms.append((await services.access.access_reader(connection.principal, room_id), after_seq))
            except ChatError as error:
                self._errors[room_id] = error_body(error)
        if self.is_closed:
            self._named.update(rooms)
            return
        for room in list(connection.last_seqs):
            connection.leave(room)  # it was left between two polls
        connection.set_all_cursors(self._find_ack)
        epoch = self._request.epoch
        is_foreign = epoch is not None and epoch != connection.tenant.epoch
        for room, after_seq in rooms:
            try:
                check_may_read(room, connection.user_id)  # it was left or deleted while another one was loaded
            except ChatError as error:
                self._errors[room.room_id] = error_body(error)
                continue
            cursor = after_seq
            if is_foreign or after_seq > room.published_seq:
                cursor = self._reset[room.room_id] = self._find_ack(room)
            connection.enter(room, cursor)
            self._named[room] = cursor

    def _list_behind(self) -> Iterator[RoomState]:
        """The rooms of which it lacks something that it may give. A room stands in the answer or in its errors, however
        often the user comes and goes; and a connection that does not wait is not told of rooms that its user leaves."""
        for room in self._connection.list_behind():
            if room.room_id not in self._errors and self._may_give(room):
                yield room

    def _may_give(self, room: RoomState) -> bool:
        return room in self._connection.last_seqs or can_read(room, self._user_id)

    def _find_ack(self, room: RoomState) -> int:
        member = room.members.get(self._user_id)
        return room.published_seq if member is None else member.last_ack

    def _list_lost(self) -> Iterator[RoomState]:
        """Rooms of the answer that the user may not read any more."""
        if not self.is_closed:
            rooms = self._connection.rooms
            yield from (room for room in self._named if room not in rooms or not self._may_give(room))

    def leave_channels(self) -> None:
        """Those that the request named, if the user is not a member of them."""
        for room in self._named:
            if self._connection.user_id not in room.members:
                self._connection.leave(room)

    async def read(self) -> None:
        """Takes what there is, up to the bounds of one answer: of the rooms that are least behind first, so that a busy
        one holds up no quiet one."""
        if self._connection.notifications_due:
            await self._read_notifications()
        for want in list(self._plan()):
            if self._left_bytes <= 0 or self.is_closed:
                return
            self._take(want, await self._read_room(want))

    def _plan(self) -> Iterator[_Want]:
        """A log has no gaps, so that it is known beforehand how many events each room gives."""
        connection = self._connection
        for room, seq in self._named.items():
            # The connection may have been in the room before, and its user may leave and join again.
            if connection.cursors.get(room, seq) != seq:
                connection.set_cursor(room, seq)
        rooms = self._list_behind()
        behind = ((connection.find_last_seq(room) - connection.cursors[room], room) for room in rooms)
        left = self._request.limit - len(self._events)
        for lag, room in heapq.nsmallest(left, behind, key=lambda one: one[0]):
            if left <= 0:
                return
            cursor, last_seq = connection.cursors[room], connection.find_last_seq(room)
            kept_seq = min(max(cursor, room.pruned_seq), last_seq)
            if cursor < kept_seq:
                self._gaps.append(SkippedEvents(room_id=room.room_id, from_seq=cursor + 1, to_seq=kept_seq))
                connection.set_cursor(room, kept_seq)
                self._named[room] = kept_seq
            count = min(left, lag - (kept_seq - cursor))
            left -= max(1, count)
            if count:
                yield _Want(room, kept_seq, count)

    async def _read_room(self, want: _Want) -> Sequence[bytes]:
        """Fewer than wanted if they are many bytes, or if retention has removed some meanwhile."""
        frames: list[bytes] = []
        size = 0
        while len(frames) < want.events and size < self._left_bytes:
            page = await self._services.recovery.read_frames(want.room, want.after_seq + len(frames))
            if not page:
                break
            frames += page
            size += sum(map(len, page))
        return frames[: want.events]

    def _take(self, want: _Want, frames: Sequence[bytes]) -> None:
        connection, room = self._connection, want.room
        if connection.cursors.get(room) != want.after_seq or not self._may_give(room):
            return  # the user has left it meanwhile
        for frame in frames[: connection.find_last_seq(room) - want.after_seq]:
            if self._left_bytes <= 0:
                return
            self._events.append(decode_text(frame))
            self._left_bytes -= len(frame)
            connection.advance(room, 1)
            self._named[room] = connection.cursors[room]

    async def _read_notifications(self) -> None:
        connection = self._connection
        connection.notifications_due = False  # first: one that is published meanwhile sets it again
        page, self._has_more_notifications = await self._services.recovery.read_notifications(
            connection, self._after_key
        )
        self._notifications = [decode_text(frame) for _, frame in page]
        self._left_bytes -= sum(map(len, self._notifications))

    async def wait_for_event(self, seconds: float, peer: PeerTransport) -> None:
        """Returns at the first durable event or notification, when the time is over, or when either side has ended the
        connection."""
        connection, loop = self._connection, asyncio.get_running_loop()
        doorbell = _get_doorbell(connection)
        cursors = dict(connection.cursors)
        waiter: asyncio.Future[None] = loop.create_future()
        connection.go_live()
        doorbell.wait_with(waiter)
        timer = self.clock.call_later(seconds, doorbell.ring)
        peer.watch(waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            peer.unwatch(waiter)
            kept = doorbell.disarm()
            if not self.is_closed:
                connection.pause()
                connection.set_all_cursors(lambda room: cursors[room] if room in cursors else self._find_ack(room))
                connection.notifications_due = True
                self._take_last_events(kept, [room for room in cursors if room not in connection.rooms])

    def _take_last_events(self, kept: Sequence[bytes], rooms: Sequence[RoomState]) -> None:
        """Of rooms that the user has left while it waited: it is not served from their logs any more."""
        left = {room.room_id: room for room in rooms}
        for event in kept if left else ():
            fields = loads_stored(event)
            room = left.get(fields.get("room_id"))
            if room is not None and len(self._events) < self._request.limit:
                self._events.append(event)
                if room in self._named:
                    self._named[room] = fields.get("seq", self._named[room])

    def make_answer(self) -> Synced:
        connection = self._connection
        for room in list(self._list_lost()):
            try:
                check_may_read(room, connection.user_id)  # channels are open to those who have left
            except ChatError as error:
                del self._named[room]
                self._errors[room.room_id] = error_body(error)
        return Synced(
            epoch=connection.tenant.epoch,
            events=join_json(self._events),
            rooms={room.room_id: cursor for room, cursor in self._named.items()},
            reset=self._reset,
            gaps=self._gaps,
            notifications=join_json(self._notifications),
            errors=self._errors,
            has_more=self._has_more_notifications or next(self._list_behind(), None) is not None,
        )
