"""Streams as their readers see them: the deltas by which they grow, and their state for those who catch up.

A live connection has all that was published. Another one is shown each open stream as it stands (`Recovery`), and gets
its deltas from there on; one that misses a delta is shown the stream again.
"""

import asyncio
from collections import deque
from collections.abc import Iterator

import msgspec

from chatapi.connection import Connection
from chatapi.hub import Hub
from chatapi.open_streams import OpenStream, OpenStreams
from chatapi.protocol.answers import Message
from chatapi.protocol.encoders import encode_frame
from chatapi.protocol.server_frames import MessageDeltaFrame, MessageStateFrame
from chatapi.room import RoomState

JOIN_SUBSCRIBERS = 1_000  # beyond so many a delta is most of the loop's work for a stream...
JOIN_SECONDS = 0.5  # ...and those of this time go out as one
TURN_DELIVERIES = 10_000  # copies of deltas at a stretch, some 10 ms of the loop's time: then others have their turn


class Deltas:
    """Everything here changes state synchronously, as in the hub."""

    def __init__(self, hub: Hub, streams: OpenStreams) -> None:
        self._hub = hub
        self._streams = streams
        self._published: dict[OpenStream, int] = {}  # the last index, of streams that have more to publish soon
        self._late: deque[tuple[RoomState, OpenStream]] = deque()  # those of them that are next
        self._deliveries = 0  # of this turn
        hub.begin_showing = self._begin_showing

    def deliver(self, room: RoomState, stream: OpenStream, after: int, index: int, text: str) -> None:
        """The stream's appends after the one and up to the other index are committed; that is their text. Called while
        the committer publishes a batch; `Hub.flush` follows."""
        if stream in self._published:
            return  # those that wait take them along
        if len(room.subscribers) > JOIN_SUBSCRIBERS:
            self._published[stream] = after
            asyncio.get_running_loop().call_later(JOIN_SECONDS, self._publish_joined, room, stream)
        elif self._late or self._deliveries >= TURN_DELIVERIES:
            self._published[stream] = after
            self._late.append((room, stream))
        else:
            self._count_deliveries(room)
            self._publish(room, stream, after, index, text)

    def _publish_joined(self, room: RoomState, stream: OpenStream) -> None:
        self._publish_waiting(room, stream)
        self._hub.flush()

    def _publish_waiting(self, room: RoomState, stream: OpenStream) -> None:
        after = self._published.pop(stream)
        if is_open(room, stream):  # else its end has brought the whole
            index = stream.stored_index
            self._publish(room, stream, after, index, stream.get_text(after, index))

    def _count_deliveries(self, room: RoomState) -> None:
        if not self._deliveries:
            asyncio.get_running_loop().call_soon(self._begin_turn)
        self._deliveries += max(1, len(room.subscribers))

    def _begin_turn(self) -> None:
        """Publishes some of those that were too many for the turn before."""
        self._deliveries = 0
        if not self._late:
            return
        while self._late and self._deliveries < TURN_DELIVERIES:
            room, stream = self._late.popleft()
            self._count_deliveries(room)
            self._publish_waiting(room, stream)
        if not self._late:
            self._hub.flush()

    def _publish(self, room: RoomState, stream: OpenStream, after: int, index: int, text: str) -> None:
        frame = MessageDeltaFrame(
            room_id=room.room_id, message_id=stream.message.message_id, after=after, index=index, text=text
        )
        self._hub.publish_delta(room, stream, encode_frame(frame))

    def find_published(self, stream: OpenStream) -> int:
        """The index from which the next delta goes on."""
        return self._published.get(stream, stream.stored_index)

    def count_waiting(self) -> int:
        """Streams that have more to publish soon."""
        return len(self._published)

    # Connections that are not live

    def list_unshown(self, connection: Connection) -> Iterator[tuple[RoomState, OpenStream]]:
        """The open streams that this connection, which is not live, has not been shown. Looks at its rooms, unless
        nothing of the tenant's is open."""
        if not self._streams.count_of_tenant(connection.tenant.tenant_key):
            return
        shown = connection.shown or {}
        for room in connection.rooms:
            if room.ring.streams and connection.follows(room):
                for stream in room.ring.streams.values():
                    if stream not in shown:
                        yield room, stream

    def has_unshown(self, connection: Connection) -> bool:
        return next(self.list_unshown(connection), None) is not None

    def _begin_showing(self, connection: Connection, entered: RoomState) -> bool:
        """A live connection has entered a room, of which it has everything but the open streams. Returns whether there
        are any: then the connection is served these alone, and is not live any more."""
        if not entered.ring.streams:
            return False
        connection.fall_behind()
        connection.shown = {stream: room for room, stream in self.list_unshown(connection) if room is not entered}
        return True


class ShownState:
    """A message as it was read for those who catch up. It is encoded once for all who get the same."""

    __slots__ = ("_frame", "_index", "_message")

    def __init__(self, message: Message) -> None:
        self._message = message
        self._index = -1
        self._frame = b""

    def encode(self, stream: OpenStream, index: int) -> bytes:
        """The frame `message.state`, with the appends up to this index."""
        if self._index != index:
            self._index = index
            shown = stream.read(index)
            message = msgspec.structs.replace(self._message, content=shown.content, stream=shown.stream)
            self._frame = encode_frame(MessageStateFrame(room_id=message.room_id, message=message))
        return self._frame


def is_open(room: RoomState, stream: OpenStream) -> bool:
    """Whether the stream has not ended."""
    return room.ring.streams.get(stream.message.seq) is stream
