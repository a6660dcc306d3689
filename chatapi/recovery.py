"""Serves a connection from the log until it has caught up: at the start, after a `sync`, and when it was too slow.

One machine for all three (docs/design.md, section 4): a cursor per room, the ring first and then the store, and back to
live delivery in the same step of the loop in which nothing is missing, so that nothing is missed or doubled.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence

from chatapi.access import Access, check_may_read
from chatapi.batching import Batcher
from chatapi.connection import Connection, ConnectionState
from chatapi.deltas import Deltas, ShownState, is_open
from chatapi.doorbell import Doorbell
from chatapi.errors import ChatError, Code, not_found
from chatapi.hub import Hub
from chatapi.models import RoomKey, TenantKey, UserId
from chatapi.open_streams import OpenStream
from chatapi.protocol.encoders import add_request_id, encode_error_frame, encode_frame
from chatapi.protocol.fields import or_unset
from chatapi.protocol.server_frames import SyncCompleteFrame, SyncResetFrame
from chatapi.protocol.wire import encode_text
from chatapi.ring import RING_EVENTS
from chatapi.room import RoomState
from chatapi.rooms import Rooms
from chatapi.store import Readers, log, notifications
from chatapi.store import rooms as store_rooms
from chatapi.tasks import Tasks

logger = logging.getLogger(__name__)

CONCURRENT_STEPS = 64  # connections that read the log at once; the others of a storm wait their turn
STEP_BYTES = 256 * 1024  # written to one connection at a stretch, before others get their turn
PAGE_EVENTS = 100  # read from the store at a time
PAGE_NOTIFICATIONS = 25  # of up to 64 KiB each
ROOMS_OF_USER = 500  # of one user in one look-up: about 1 ms of a reader's time, and of the loop's to enter them
BATCH_USERS = 256  # users per look-up of rooms
BATCH_PAGES = 32  # pages per query of the log
BATCH_STATES = 8  # open streams read one after the other, of up to 64 KiB each

SLOW_CONSUMER = 4009
"""The close code for a connection whose peer took nothing during its grace."""

PageKey = tuple[RoomState, int]
StreamOfRoom = tuple[RoomState, OpenStream]
LogPage = tuple[int, list[bytes]]
"""Its first event's seq, and the frames; shared by all who asked for it."""
ConnectKey = tuple[TenantKey, UserId, RoomKey]
"""A user who connects, and the room after which their rooms are looked up."""
ConnectData = tuple[store_rooms.OfUser, bool]
"""Some of their rooms, and whether notifications wait for them."""


class Recovery:
    """The only way by which a connection gets events that were published before. `sync_limit` is the number of events
    of a room that are streamed at most, `slow_consumer_seconds` the grace of a peer that takes nothing."""

    def __init__(
        self,
        *,
        readers: Readers,
        rooms: Rooms,
        access: Access,
        hub: Hub,
        deltas: Deltas,
        tasks: Tasks,
        sync_limit: int,
        slow_consumer_seconds: float,
    ) -> None:
        self._readers = readers
        self._rooms = rooms
        self._access = access
        self._hub = hub
        self._deltas = deltas
        self._tasks = tasks
        self._sync_limit = sync_limit
        self._slow_consumer_seconds = slow_consumer_seconds
        self._steps = asyncio.Semaphore(CONCURRENT_STEPS)
        self._connects: Batcher[ConnectKey, ConnectData] = Batcher(
            self._read_connects, BATCH_USERS, lambda user: user[0]
        )
        self._pages: Batcher[PageKey, LogPage] = Batcher(self._read_pages, BATCH_PAGES, lambda want: want[0].tenant)
        self._pending: Batcher[tuple[TenantKey, UserId, int], notifications.Pending] = Batcher(
            self._read_notifications, BATCH_USERS, lambda want: want[0]
        )
        self._states: Batcher[StreamOfRoom, ShownState | None] = Batcher(
            self._read_states, BATCH_STATES, lambda want: want[0].tenant
        )

    async def enter_rooms(self, connection: Connection) -> None:
        """Subscribes a new connection to all rooms of its user, from `last_ack` on.

        The hub knows the connection already: a membership that changes meanwhile reaches it on its own.
        """
        tenant, user_id = connection.tenant, connection.user_id
        last_key: RoomKey | None = RoomKey(0)
        while last_key is not None:
            (room_ids, last_key), have_pending = await self._connects.get((tenant.tenant_key, user_id, last_key))
            connection.notifications_due |= have_pending  # one that was published meanwhile may have set it
            await self._rooms.load_many(tenant, room_ids)
            for room_id in room_ids:
                room = self._rooms.find_loaded(tenant.tenant_key, room_id)
                member = None if room is None else room.members.get(user_id)
                if room is not None and member is not None:  # else it was deleted or left meanwhile
                    self._hub.enter(connection, room, member.last_ack)

    def start(self, connection: Connection) -> None:
        """Begins, or goes on with, recovery of a connection that is RECOVERING."""
        if isinstance(connection.transport, Doorbell):
            connection.transport.ring()  # its poll reads the log itself
        elif not connection.is_recovering:
            connection.is_recovering = True
            self._tasks.spawn(f"recovery {connection.connection_id}", self._run(connection))

    async def sync(
        self, connection: Connection, cursors: Mapping[str, int], epoch: str | None, request_id: str | None
    ) -> None:
        """Streams again from the client's own cursors, or from `last_ack` where they cannot be right."""
        rooms: list[tuple[RoomState, int]] = []
        for room_id, after_seq in cursors.items():
            try:
                rooms.append((await self._access.access_reader(connection.principal, room_id), after_seq))
            except ChatError as error:
                self._refuse_room(connection, room_id, error, request_id)
        if connection.state is ConnectionState.CLOSED:
            return  # while a room was loaded
        own_epoch = connection.tenant.epoch
        is_foreign = epoch is not None and epoch != own_epoch
        connection.pause()
        reset: dict[str, int] = {}
        for room, after_seq in rooms:
            try:
                check_may_read(room, connection.user_id)  # it was left or deleted while another one was loaded
            except ChatError as error:
                self._refuse_room(connection, room.room_id, error, request_id)
                continue
            cursor = after_seq
            if is_foreign or after_seq > room.published_seq:
                member = room.members.get(connection.user_id)
                cursor = reset[room.room_id] = room.published_seq if member is None else member.last_ack
            connection.set_cursor(room, cursor)
            connection.enter(room, cursor)
        if reset or is_foreign:
            frame = SyncResetFrame(epoch=own_epoch, rooms=reset, request_id=or_unset(request_id))
            self._hub.send(connection, encode_frame(frame))
        self.begin(connection, request_id)

    def _refuse_room(self, connection: Connection, room_id: str, error: ChatError, request_id: str | None) -> None:
        error.field = f"rooms.{room_id}"
        self._hub.send(connection, encode_error_frame(error, request_id))

    def begin(self, connection: Connection, request_id: str | None) -> None:
        """The backlog, as asked for at the connect or by a `sync`; `sync.complete` follows it."""
        connection.sync_requests.append(request_id)
        for room in connection.cursors:
            self._skip(connection, room, max(room.pruned_seq, connection.find_last_seq(room) - self._sync_limit))
        connection.recover()
        if not self._finish_if_caught_up(connection):
            self.start(connection)

    async def _run(self, connection: Connection) -> None:
        behind: deque[RoomState] = deque()  # its rooms that are still to serve, as far as is known
        unshown: deque[StreamOfRoom] = deque()  # open streams likewise
        try:
            while connection.state is ConnectionState.RECOVERING:
                if not await self.let_drain(connection):
                    return
                async with self._steps:
                    await self._step(connection, behind, unshown)
                if behind or unshown or connection.unsent_bytes() > connection.buffer_limit_bytes:
                    continue  # the last state may be larger than its bound: live, it would be too slow at once
                if self._finish_if_caught_up(connection):
                    return
        finally:
            connection.is_recovering = False
            if connection.state is ConnectionState.RECOVERING:
                # The store failed. The client reconnects and is served then, rather than waiting here forever.
                connection.peer.cut_off()

    async def let_drain(self, connection: Connection) -> bool:
        """Returns once the peer has taken most of what it was sent: True, unless the connection has ended. A connection
        that takes no byte during its grace is closed."""
        await asyncio.sleep(0)  # lets the outbox be written, and others have their turn
        if not await connection.peer.wait_for_space(self._slow_consumer_seconds):
            error = ChatError(Code.RATE_LIMIT_EXCEEDED, "Too slow: reconnect to continue where you stopped")
            self._hub.close(connection, SLOW_CONSUMER, error, "slow consumer")
        elif connection.peer.is_lost:
            connection.close()  # the session's own loop hears of it too, and ends the connection
        return connection.state is not ConnectionState.CLOSED

    async def _step(self, connection: Connection, behind: deque[RoomState], unshown: deque[StreamOfRoom]) -> None:
        if connection.undroppable:
            self._hub.flush_undroppable(connection)
            if connection.undroppable:
                return
        if not behind:  # only then are all of its rooms looked at, however many steps they take
            behind.extend(connection.list_behind())
        if behind:
            await self._serve_rooms(connection, behind)
        elif connection.orphaned_ids:
            await self._answer_orphan(connection)
        elif connection.notifications_due:
            await self._serve_notifications(connection)
        else:
            await self._show_open(connection, unshown)

    async def _serve_rooms(self, connection: Connection, behind: deque[RoomState]) -> None:
        """Serves the next of these rooms, until `STEP_BYTES` are written. A room that has more gets its next turn after
        the others."""
        written = 0
        for _ in range(len(behind)):
            room = behind.popleft()
            size = await self._serve_room(connection, room)
            if size and room in connection.cursors and connection.is_behind(room):
                behind.append(room)
            written += size
            if written >= STEP_BYTES or connection.unsent_bytes() >= connection.buffer_limit_bytes // 2:
                return

    async def _serve_room(self, connection: Connection, room: RoomState) -> int:
        """Sends the next events after the connection's cursor, as many as its buffer takes; returns their bytes."""
        if room not in connection.cursors:
            return 0  # deleted or unsubscribed from, or the connection closed, while another room was served
        self._skip(connection, room, room.pruned_seq)
        if not connection.is_behind(room):
            return 0  # it has got all that it may see
        cursor = connection.cursors[room]
        if room.ring.after(cursor) is None and room.published_seq - cursor <= RING_EVENTS:
            await self._rooms.fill_ring(room)
        frames = await self.read_frames(room, cursor)
        if connection.state is not ConnectionState.RECOVERING or connection.cursors.get(room) != cursor:
            return 0  # closed, removed or synced again while the store was read
        if cursor < room.pruned_seq:
            return 0  # retention has removed some of it meanwhile
        frames = frames[: connection.find_last_seq(room) - cursor]
        if connection.awaited_ids:
            frames = _add_request_ids(connection, room, cursor, frames)
        fitting = _fitting(frames, connection.buffer_limit_bytes // 2 - connection.unsent_bytes())
        data = b"".join(frames[:fitting])
        if data:
            self._hub.send(connection, data)
            connection.advance(room, fitting)
        return len(data)

    async def read_frames(self, room: RoomState, cursor: int) -> list[bytes]:
        """The next events after this cursor, from memory or in a page of the store. None of them if retention has
        removed the next one, and is about to say so."""
        frames = room.ring.after(cursor)
        if frames is None:
            first_seq, frames = await self._pages.get((room, cursor))
            if first_seq != cursor + 1:
                return []
        return frames

    async def read_notifications(self, connection: Connection, after_key: int) -> notifications.Pending:
        """The next ones that the user has not acknowledged, and whether there are more."""
        return await self._pending.get((connection.tenant.tenant_key, connection.user_id, after_key))

    def _skip(self, connection: Connection, room: RoomState, to_seq: int) -> None:
        """Names the events that are not streamed: there are too many, or they are gone."""
        cursor, to_seq = connection.cursors[room], min(to_seq, connection.find_last_seq(room))
        if cursor < to_seq:
            self._hub.send_gap(connection, room, cursor + 1, to_seq)
            connection.set_cursor(room, to_seq)

    async def _answer_orphan(self, connection: Connection) -> None:
        """Answers with the requested event, which is read again: events kept for a slow connection would have no
        bound."""
        room, seq, request_id = connection.orphaned_ids[0]
        frames = room.ring.after(seq - 1)
        if not frames:
            first_seq, frames = await self._pages.get((room, seq - 1))
            if first_seq != seq:
                frames = []  # retention has removed it, or the room was deleted
        if connection.state is not ConnectionState.RECOVERING:
            return
        del connection.orphaned_ids[0]
        if frames:
            self._hub.send(connection, add_request_id(frames[0], request_id))
        else:
            self._hub.send(connection, encode_error_frame(not_found("Message"), request_id))

    async def _serve_notifications(self, connection: Connection) -> None:
        # Cleared first: one that is published while the store is read sets it again.
        connection.notifications_due = False
        page, has_more = await self.read_notifications(connection, connection.notified_key)
        allowed_bytes = connection.buffer_limit_bytes // 2 - connection.unsent_bytes()
        fitting = _fitting([frame for _, frame in page], allowed_bytes)
        for notification_key, frame in page[:fitting]:
            if notification_key > connection.notified_key:
                self._hub.send(connection, frame)
                connection.notified_key = notification_key
        if fitting < len(page) or has_more:
            connection.notifications_due = True

    async def _show_open(self, connection: Connection, unshown: deque[StreamOfRoom]) -> None:
        """Sends the next open streams as they stand, until `STEP_BYTES` are written."""
        if connection.shown is None:
            connection.shown = {}
        shown = connection.shown
        unshown.extend(() if unshown else self._deltas.list_unshown(connection))
        written = 0
        while unshown and written < STEP_BYTES and connection.unsent_bytes() < connection.buffer_limit_bytes // 2:
            room, stream = unshown[0]
            state = await self._states.get((room, stream))
            if connection.shown is not shown:
                unshown.clear()  # closed, or synced again: its backlog comes first
                return
            unshown.popleft()
            if state is None or not is_open(room, stream) or not connection.follows(room):
                continue  # it has ended, or the connection has left its room meanwhile
            frame = state.encode(stream, self._deltas.find_published(stream))
            self._hub.send(connection, frame)
            shown[stream] = room
            written += len(frame)

    def _finish_if_caught_up(self, connection: Connection) -> bool:
        """Switches to live delivery in this very step, unless something is missing."""
        if connection.state is not ConnectionState.RECOVERING:
            return True
        if (
            connection.notifications_due
            or connection.orphaned_ids
            or connection.lacks_events()
            or self._deltas.has_unshown(connection)
        ):
            return False
        connection.go_live()
        if connection.sync_requests:
            seqs: dict[str, int] = {room.room_id: room.published_seq for room in connection.rooms}
            for request_id in connection.sync_requests:
                frame = SyncCompleteFrame(rooms=seqs, request_id=or_unset(request_id))
                self._hub.send(connection, encode_frame(frame))
            connection.sync_requests.clear()
        return True

    async def _read_connects(self, keys: Sequence[ConnectKey]) -> list[ConnectData]:
        rooms = await store_rooms.list_room_ids(self._readers, keys, ROOMS_OF_USER)
        have_pending = await notifications.have_pending(self._readers, [key[:2] for key in keys])
        return list(zip(rooms, have_pending, strict=True))

    async def _read_pages(self, wants: Sequence[PageKey]) -> list[LogPage]:
        """Pages end at multiples of `PAGE_EVENTS`: those who have stalled in one room soon read the same ones."""
        ranges = []
        for room, cursor in wants:
            page_end = (cursor // PAGE_EVENTS + 1) * PAGE_EVENTS
            to_seq = min(page_end, room.published_seq)
            ranges.append(log.EventsWant(room.room_key, room.tenant.tenant_key, cursor, to_seq))
        pages = await log.read_events(self._readers, ranges, STEP_BYTES)
        return [(page[0].seq if page else 0, [encode_text(event.json) for event in page]) for page in pages]

    async def _read_notifications(self, wants: Sequence[tuple[TenantKey, UserId, int]]) -> list[notifications.Pending]:
        return await notifications.read_pending(self._readers, wants, PAGE_NOTIFICATIONS, STEP_BYTES)

    async def _read_states(self, wants: Sequence[StreamOfRoom]) -> list[ShownState | None]:
        states: list[ShownState | None] = []
        for room, stream in wants:
            found = await log.find_message(
                self._readers, room.tenant.tenant_key, room.room_key, room.room_id, stream.message.message_id
            )
            states.append(None if found is None else ShownState(found.message))
        return states


def _add_request_ids(connection: Connection, room: RoomState, cursor: int, frames: list[bytes]) -> list[bytes]:
    """The same frames, with the connection's own request ids in those that answer them."""
    ids = connection.awaited_ids
    return [add_request_id(frame, ids.get((room, seq))) for seq, frame in enumerate(frames, start=cursor + 1)]


def _fitting(frames: Sequence[bytes], allowed_bytes: int) -> int:
    """How many of the frames fit; at least one, so that a drained connection makes progress."""
    size = 0
    for count, frame in enumerate(frames):
        size += len(frame)
        if count and size > allowed_bytes:
            return count
    return len(frames)
