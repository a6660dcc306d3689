"""The open connections, and the fan-out from rooms to connections, with no database and no await (docs/design.md,
section 6).

Everything here changes state synchronously, so that no lock is needed. Frames to a connection go through its outbox
alone, and an outbox is written once per iteration of the loop: the send system call is most of a delivery's cost.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from chatapi.clock import Clock
from chatapi.connection import Connection, ConnectionState, FrameKey, OnlineUser, Requester
from chatapi.errors import ChatError
from chatapi.memory_watch import LARGE_BYTES, MemoryWatch
from chatapi.models import TenantKey, UserId
from chatapi.protocol.encoders import add_request_id, encode_error_frame, encode_frame
from chatapi.protocol.server_frames import (
    AckReceivedFrame,
    ReadUpdatedFrame,
    RoomCreatedFrame,
    RoomDeletedFrame,
    RoomMeFrame,
    SyncGapFrame,
)
from chatapi.protocol.wire import encode_close
from chatapi.room import RoomState

if TYPE_CHECKING:
    from chatapi.open_streams import OpenStream

DISCARDED_AT_A_STRETCH = 1_000  # connections told of a room's end: some 10 ms of the loop's time, with their writes
CLOSE_LINGER_SECONDS = 5.0  # how long a peer that was told to go may take to read that before it is cut off


class Hub:
    """The connections of all tenants. `opened`, `deliveries` and `lagged` count since the start; see their metrics.

    `recover(connection)` is called when a connection has to be served from the log; `begin_showing(connection, room)`
    when a live one has entered a room, of which it has everything that is in the log.
    """

    def __init__(self, clock: Clock, memory: MemoryWatch | None = None) -> None:
        self._clock = clock
        self._memory = memory or MemoryWatch()
        self._users: dict[TenantKey, dict[UserId, OnlineUser]] = {}
        self._tenant_counts: dict[TenantKey, int] = {}
        self._dirty: list[Connection] = []
        self._is_flush_due = False
        self.connections: dict[str, Connection] = {}
        self.recover: Callable[[Connection], None] = _nobody_recovers
        self.begin_showing: Callable[[Connection, RoomState], bool] = _nothing_grows
        self.opened = 0
        self.deliveries = 0
        self.lagged = 0

    # Open connections

    def attach(self, connection: Connection) -> OnlineUser:
        """Registers a connection that was let in, still PAUSED; its rooms come with `enter`."""
        tenant_key = connection.tenant.tenant_key
        users = self._users.setdefault(tenant_key, {})
        user = users.get(connection.user_id)
        if user is None:
            user = users[connection.user_id] = OnlineUser(connection.tenant, connection.user_id)
        user.connections[connection] = None
        self.connections[connection.connection_id] = connection
        self._tenant_counts[tenant_key] = self._tenant_counts.get(tenant_key, 0) + 1
        self.opened += 1
        return user

    def detach(self, connection: Connection) -> OnlineUser:
        """Removes a connection that has ended. The user stays, perhaps without a connection, until `forget`."""
        connection.detach()
        tenant_key = connection.tenant.tenant_key
        user = self._users[tenant_key][connection.user_id]
        user.connections.pop(connection, None)
        self.connections.pop(connection.connection_id, None)
        self._tenant_counts[tenant_key] -= 1
        if not self._tenant_counts[tenant_key]:
            del self._tenant_counts[tenant_key]
        return user

    def forget(self, user: OnlineUser) -> None:
        """Removes a user whose grace has ended."""
        tenant_key = user.tenant.tenant_key
        users = self._users.get(tenant_key, {})
        users.pop(user.user_id, None)
        if not users:
            self._users.pop(tenant_key, None)

    def online_of_tenant(self, tenant_key: TenantKey) -> Mapping[UserId, OnlineUser]:
        """The users who are online, those within their grace included."""
        return self._users.get(tenant_key, {})

    def list_online(self) -> list[OnlineUser]:
        """The users of all tenants who are online, those within their grace included."""
        return [user for users in self._users.values() for user in users.values()]

    def find_online(self, tenant_key: TenantKey, user_id: UserId) -> OnlineUser | None:
        """None unless the user is online. Within the grace of presence they have no connection."""
        users = self._users.get(tenant_key)
        return None if users is None else users.get(user_id)

    def connections_of(self, tenant_key: TenantKey, user_id: UserId) -> Iterable[Connection]:
        """A live view: copy it before a step that may end one of them."""
        user = self.find_online(tenant_key, user_id)
        return user.connections if user else ()

    def is_connected(self, tenant_key: TenantKey, user_id: UserId) -> bool:
        """Whether the user has a connection now; within the grace of presence they are online without one."""
        user = self.find_online(tenant_key, user_id)
        return user is not None and bool(user.connections)

    def list_connected(self, tenant_key: TenantKey, user_ids: Collection[UserId]) -> list[UserId]:
        """The given users who have an open connection, each once. The cost is that of the smaller: `user_ids`, in which
        a look-up is fast, or all connections."""
        if len(user_ids) <= len(self.connections):
            return [user_id for user_id in user_ids if self.is_connected(tenant_key, user_id)]
        connected = {
            connection.user_id: None
            for connection in self.connections.values()
            if connection.tenant.tenant_key == tenant_key and connection.user_id in user_ids
        }
        return list(connected)

    def count_of_tenant(self, tenant_key: TenantKey) -> int:
        """The tenant's connections, from `attach` to `detach`."""
        return self._tenant_counts.get(tenant_key, 0)

    def count_connections(self) -> Mapping[TenantKey, int]:
        """The number of connections of each tenant that has any."""
        return self._tenant_counts

    def count_users(self) -> Mapping[TenantKey, int]:
        """How many users of each tenant have a connection. Looks at every one: for metrics."""
        return {
            tenant_key: sum(bool(user.connections) for user in users.values())
            for tenant_key, users in self._users.items()
        }

    def count_of_user(self, tenant_key: TenantKey, user_id: UserId) -> int:
        """The user's connections, from `attach` to `detach`."""
        user = self.find_online(tenant_key, user_id)
        return len(user.connections) if user else 0

    # Rooms

    def enter(self, connection: Connection, room: RoomState, cursor: int) -> None:
        """From now on the connection gets the room's events after `cursor`."""
        was_live = connection.state is ConnectionState.LIVE
        missed = connection.enter(room, cursor)
        if missed is not None:
            self.send_gap(connection, room, *missed)
        if was_live and connection.state is ConnectionState.RECOVERING:
            self._recover(connection)
        elif was_live and self.begin_showing(connection, room):
            self.recover(connection)

    # Sending

    def send(self, connection: Connection, frame: bytes) -> None:
        """An answer, or a frame that only this connection gets. It keeps its order among the others."""
        if connection.state is ConnectionState.CLOSED:
            return
        if not connection.outbox:
            self._dirty.append(connection)
            if not self._is_flush_due:
                self._is_flush_due = True
                asyncio.get_running_loop().call_soon(self.flush)
        connection.outbox.append(frame)

    def send_gap(self, connection: Connection, room: RoomState, from_seq: int, to_seq: int) -> None:
        """Names the events that are not streamed, both ends included."""
        self.send(connection, encode_frame(SyncGapFrame(room_id=room.room_id, from_seq=from_seq, to_seq=to_seq)))

    def send_ephemeral(self, connection: Connection, frame: bytes) -> None:
        """A frame that may be dropped: when the connection is not live, or already has half of its bound to read."""
        if connection.state is ConnectionState.LIVE and self._has_space(connection):
            self.send(connection, frame)

    def send_within_bound(self, connection: Connection, frame: bytes) -> None:
        """Sends another user's receipt. It goes out also during a recovery, which would not bring it, and is dropped
        only for a connection that does not read: a later receipt makes up for it."""
        if connection.is_ready and connection.unsent_bytes() < connection.buffer_limit_bytes:
            self.send(connection, frame)

    def send_undroppable(self, connection: Connection, frames: Mapping[FrameKey, bytes]) -> None:
        """Sends frames outside the log that may not be dropped. They go out at once. For a connection that does not
        read they wait, only the latest of each type in each room, and for each open stream, so that they are bounded.
        """
        if not connection.is_ready:
            return  # `ready` will show it
        if connection.undroppable:
            self.flush_undroppable(connection)
        if not connection.undroppable and connection.unsent_bytes() < connection.buffer_limit_bytes:
            self.send(connection, b"".join(frames.values()))
            return
        connection.undroppable.update(frames)
        if connection.state is ConnectionState.LIVE:
            self.leave_live(connection)

    def flush_undroppable(self, connection: Connection) -> None:
        """Sends the undroppable frames that wait, as far as there is space."""
        left_bytes = connection.buffer_limit_bytes // 2 - connection.unsent_bytes()
        frames = []
        while connection.undroppable and left_bytes > 0:
            key = next(iter(connection.undroppable))
            frames.append(connection.undroppable.pop(key))
            left_bytes -= len(frames[-1])
        if frames:
            self.send(connection, b"".join(frames))

    def discard(self, room: RoomState, frame: bytes) -> None:
        """The room was deleted, and nothing is published in it any more: tells those who listen, and takes it from
        them. If they are many, others have their turn in between."""
        self._discard_some(room, frame, deque([*room.subscribers, *room.unsubscribed]))

    def _discard_some(self, room: RoomState, frame: bytes, left: deque[Connection]) -> None:
        for _ in range(min(len(left), DISCARDED_AT_A_STRETCH)):
            connection = left.popleft()
            if connection.state is not ConnectionState.CLOSED:
                self._tell_deleted(connection, room, frame)
                connection.leave(room)
        if left:
            asyncio.get_running_loop().call_soon(self._discard_some, room, frame, left)

    def _tell_deleted(self, connection: Connection, room: RoomState, frame: bytes) -> None:
        """Unless the connection was not told of the room yet: then it never is."""
        is_unknown = connection.undroppable.pop((room, RoomCreatedFrame), None) is not None
        for record in (AckReceivedFrame, ReadUpdatedFrame, RoomMeFrame):
            connection.undroppable.pop((room, record), None)
        if not is_unknown:
            self.send_undroppable(connection, {(room, RoomDeletedFrame): frame})

    def publish_requested(self, room: RoomState, frame: bytes, requester: Requester | None) -> None:
        """As `publish`, of one event. The copy for the connection that requested it has the `request_id`."""
        if requester is None:
            self.publish(room, [frame])
            return
        connection, request_id = requester.connection, requester.request_id
        if connection not in room.subscribers or connection.state is ConnectionState.PAUSED:
            self.publish(room, [frame])
            self.send(connection, add_request_id(frame, request_id))
        elif request_id is None:
            self.publish(room, [frame])
        elif connection.state is not ConnectionState.LIVE:
            connection.await_event(room, room.published_seq + 1, request_id)
            self.publish(room, [frame])
        else:
            # Taken out while the others get their copy. The order of the subscribers matters to nobody.
            del room.subscribers[connection]
            self.publish(room, [frame])
            room.subscribers[connection] = None
            self.send(connection, add_request_id(frame, request_id))

    def answer_with_past_event(self, requester: Requester, room: RoomState, seq: int, frame: bytes) -> None:
        """Answers a request that changed nothing with the event of the change. If the connection has yet to get that
        event from the log, it is the answer when it comes: sent early, it would look like a gap."""
        connection, request_id = requester.connection, requester.request_id
        if connection.cursors.get(room, seq) >= seq:
            self.send(connection, add_request_id(frame, request_id))
        elif request_id is not None:
            connection.await_event(room, seq, request_id)

    def publish(self, room: RoomState, frames: Sequence[bytes]) -> None:
        """The room's next durable events, committed and encoded, to every live subscriber.

        Called only while the committer publishes a batch, in commit order; `flush` follows.
        """
        chunk = frames[0] if len(frames) == 1 else b"".join(frames)
        size = len(chunk)
        if self._memory.is_short_of(size * len(room.subscribers)):
            self._spare_memory(room, size)
        dirty = self._dirty
        slow: list[Connection] = []
        for connection in room.subscribers:
            if connection.state is not ConnectionState.LIVE:
                continue
            outbox = connection.outbox
            # Nearly all have nothing unsent: only the others, and a batch larger than the bound itself, are looked at.
            if (connection.buffered_bytes or outbox or size > connection.buffer_limit_bytes) and self._is_full(
                connection, size
            ):
                slow.append(connection)
            elif outbox:
                outbox.append(chunk)
            else:
                dirty.append(connection)
                outbox.append(chunk)
        for connection in slow:
            self.leave_live(connection)
        self.deliveries += len(frames) * len(room.subscribers)
        room.published_seq += len(frames)

    def publish_delta(self, room: RoomState, stream: "OpenStream", frame: bytes) -> None:
        """The next delta of a stream, to every subscriber that has the stream as it stood before. One that has
        too much to read misses it, and is shown the stream again. Called as `publish` is; `flush` follows."""
        dirty = self._dirty
        slow: list[Connection] = []
        for connection in room.subscribers:
            is_live = connection.state is ConnectionState.LIVE
            if not is_live and (connection.shown is None or stream not in connection.shown):
                continue
            outbox = connection.outbox
            if (connection.buffered_bytes or outbox) and not self._has_space(connection):
                slow.append(connection)
                continue
            if not outbox:
                dirty.append(connection)
            outbox.append(frame)
        for connection in slow:
            if connection.state is ConnectionState.LIVE:
                self.leave_live(connection)
            elif connection.shown is not None:
                connection.shown.pop(stream, None)

    def _spare_memory(self, room: RoomState, size: int) -> None:
        """Peers that do not take it all at once are served from the log: nothing is kept for them."""
        for connection in list(room.subscribers):
            is_slow = connection.outbox or connection.transport.get_write_buffer_size()
            if connection.state is ConnectionState.LIVE and (is_slow or size > LARGE_BYTES):
                self.leave_live(connection)

    def _has_space(self, connection: Connection) -> bool:
        """Whether it has less than half of its bound to read: with more, frames that may be dropped are."""
        return connection.unsent_bytes() < connection.buffer_limit_bytes // 2

    def _is_full(self, connection: Connection, more_bytes: int) -> bool:
        if connection.buffered_bytes:  # else the transport has had nothing unsent since it was last written to
            connection.buffered_bytes = connection.transport.get_write_buffer_size()
        unsent_bytes = connection.buffered_bytes + sum(map(len, connection.outbox))
        return unsent_bytes + more_bytes > connection.buffer_limit_bytes

    def leave_live(self, connection: Connection) -> None:
        """Too slow: from here on it is served from the log."""
        connection.fall_behind()
        self._recover(connection)

    def _recover(self, connection: Connection) -> None:
        self.lagged += 1
        self.recover(connection)

    def flush(self) -> None:
        """Writes every outbox, each in one call."""
        self._is_flush_due = False
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            outbox = connection.outbox
            if not outbox:
                continue
            data = outbox[0] if len(outbox) == 1 else b"".join(outbox)
            outbox.clear()
            transport = connection.transport
            if not transport.is_closing():
                transport.write(data)
                connection.buffered_bytes = transport.get_write_buffer_size()
                if (
                    connection.buffered_bytes > connection.buffer_limit_bytes
                    and connection.state is ConnectionState.LIVE
                ):
                    self.leave_live(connection)  # by frames that only it got: it has its grace to read them

    # Ending

    def close(self, connection: Connection, code: int, error: ChatError | None = None, reason: str = "") -> None:
        """Tells the peer why, and ends the connection; a peer that does not read it is cut off."""
        if connection.state is ConnectionState.CLOSED or connection.close_code is not None:
            return
        if error is not None:
            self.send(connection, encode_error_frame(error))
        self.send(connection, encode_close(code, reason))
        connection.close_code = code
        connection.close()
        connection.peer.cut_off_later(CLOSE_LINGER_SECONDS)

    def close_where(
        self, tenant_key: TenantKey, should_close: Callable[[Connection], bool], code: int, error: ChatError
    ) -> int:
        """Closes the tenant's connections that match; returns how many. Looks at no other's."""
        matching = [
            connection
            for user in self.online_of_tenant(tenant_key).values()
            for connection in user.connections
            if should_close(connection)
        ]
        for connection in matching:
            self.close(connection, code, error)
        return len(matching)


def _nothing_grows(_connection: Connection, _room: RoomState) -> bool:
    return False


def _nobody_recovers(_connection: Connection) -> None:
    raise AssertionError("the composition root sets Hub.recover")
