"""The streams that are open, in memory: the text of each, with the appends that wait for their commit.

Their text is here too, since whatever is read of an open stream from memory is encoded when it is read. Nothing here
awaits; `streams.py` has the operations.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType

import msgspec
from msgspec import UNSET

from chatapi.errors import ChatError, conflict, not_found
from chatapi.models import RoomKey, TenantKey, TenantState
from chatapi.protocol.answers import Message
from chatapi.protocol.encoders import encode_frame, message_frame
from chatapi.protocol.fields import StreamStatus


@dataclass(frozen=True, slots=True)
class AppendResult:
    """The appends up to `index` are stored. `cancel_requested`: somebody has asked the sender to stop."""

    index: int
    cancel_requested: bool


Confirm = Callable[[AppendResult | ChatError], None]
"""Called once, with what became of an append."""


class OpenStream:
    """`message` is as it was opened. Of the appends that were accepted, those up to `stored_index` are committed.

    Appends are bytes of UTF-8, one after the other, and in another array the end of each: 64 KiB in 2,000 appends take
    8 KB more than their text.
    """

    __slots__ = (
        "_ends",
        "_text",
        "_waiting",
        "cancel_requested",
        "ended",
        "heard_at_s",
        "loose_chunks",
        "merged_index",
        "message",
        "opened_bytes",
        "room_key",
        "stored_index",
        "tenant",
        "watcher",
    )

    def __init__(self, tenant: TenantState, room_key: RoomKey, message: Message, heard_at_s: float) -> None:
        self.tenant = tenant
        self.room_key = room_key
        self.message = message
        self.opened_bytes = len((message.content or "").encode())
        self.heard_at_s = heard_at_s  # when its sender was last heard of
        self.stored_index = 0
        self.loose_chunks = 0  # stored since chunks were last made one...
        self.merged_index = 0  # ...of the appends up to this one
        self.cancel_requested = False
        self.ended: ChatError | None = None  # the error of appends since then
        self.watcher: Callable[[], None] | None = None  # called when one of these two changes
        self._text = bytearray()
        self._ends = array("I")
        self._waiting: list[tuple[int, Confirm]] = []

    @property
    def key(self) -> tuple[RoomKey, int]:
        return self.room_key, self.message.seq

    @property
    def accepted_index(self) -> int:
        """The last append that was taken, and may still wait for its commit."""
        return len(self._ends)

    @property
    def size_bytes(self) -> int:
        """Of the content with all that was accepted."""
        return self.opened_bytes + len(self._text)

    def accept(self, text: bytes) -> None:
        """The next append."""
        self._text += text
        self._ends.append(len(self._text))

    def get_append(self, index: int) -> bytes:
        return bytes(self._text[self._end_of(index - 1) : self._end_of(index)])

    def get_text(self, after: int, index: int) -> str:
        """Of the appends after one and up to another."""
        return self._text[self._end_of(after) : self._end_of(index)].decode()

    def list_texts(self, after: int, index: int) -> Sequence[str]:
        """The text of each of these appends."""
        return [self.get_append(number).decode() for number in range(after + 1, index + 1)]

    def list_sizes(self, after: int, index: int) -> Sequence[int]:
        """The bytes of each of these appends."""
        return [self._end_of(number) - self._end_of(number - 1) for number in range(after + 1, index + 1)]

    def read(self, index: int | None = None) -> Message:
        """The message as it now stands, as far as it is committed, or as it was after the append with this index."""
        if index is None:
            index = self.stored_index
        info = StreamStatus(state="open", index=index, cancel_requested=True if self.cancel_requested else UNSET)
        content = (self.message.content or "") + self.get_text(0, index)
        return msgspec.structs.replace(self.message, content=content, stream=info)

    def encode_frame(self) -> bytes:
        """The frame of its `message` event, the same way."""
        return encode_frame(message_frame(self.read()))

    # Waiting

    def wait(self, index: int, confirm: Confirm) -> None:
        """Calls `confirm` once the append with this index is committed, or cannot be."""
        if index <= self.stored_index:
            confirm(self._confirm(index))
        else:
            self._waiting.append((index, confirm))

    def note_stored(self, index: int) -> None:
        """The appends up to this one are committed: tells those who wait for them, in the order in which they came."""
        self.stored_index = index
        waiting, self._waiting = self._waiting, []
        for number, confirm in waiting:
            if number <= index:
                confirm(self._confirm(number))
            else:
                self._waiting.append((number, confirm))

    def count_chunk(self, index: int, merged_chunks: int) -> None:
        """The appends up to this one are stored in one chunk more, or with the others in one instead of
        `merged_chunks`."""
        self.loose_chunks += 1
        if self.loose_chunks == merged_chunks:
            self.loose_chunks, self.merged_index = 0, index

    def fail(self, error: ChatError) -> None:
        """None of the appends that wait is stored."""
        del self._text[self._end_of(self.stored_index) :]
        del self._ends[self.stored_index :]
        waiting, self._waiting = self._waiting, []
        for _, confirm in waiting:
            confirm(error)

    def ask_to_stop(self) -> None:
        """Somebody wants it to end. Its sender decides."""
        self.cancel_requested = True
        self._tell_watcher()

    def end(self, error: ChatError) -> None:
        """Appends that still wait fail with this error."""
        self.ended = error
        self.fail(error)
        self._tell_watcher()

    def _tell_watcher(self) -> None:
        if self.watcher is not None:
            self.watcher()

    def load(self, text: bytes, sizes: Iterable[int]) -> None:
        """The appends that were stored before this start: their text, and the bytes of each."""
        self._text += text
        self._ends.extend(accumulate(sizes))
        self.stored_index = self.merged_index = self.accepted_index

    def _confirm(self, index: int) -> AppendResult:
        return AppendResult(index, self.cancel_requested)

    def _end_of(self, index: int) -> int:
        return self._ends[index - 1] if index else 0


StreamsOfRoom = Mapping[int, OpenStream]
"""By the seq of their messages."""
NO_STREAMS: StreamsOfRoom = MappingProxyType({})


class OpenStreams:
    """All of the server, those of rooms that are not in memory included."""

    def __init__(self) -> None:
        self._of_rooms: dict[RoomKey, dict[int, OpenStream]] = {}
        self._by_id: dict[tuple[RoomKey, str], OpenStream] = {}
        self._counts: Counter[TenantKey] = Counter()

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, stream: OpenStream) -> StreamsOfRoom:
        """Returns the streams of its room, which change with each that comes or goes until none is left."""
        streams = self._of_rooms.setdefault(stream.room_key, {})
        streams[stream.message.seq] = stream
        self._by_id[stream.room_key, stream.message.message_id] = stream
        self._counts[stream.tenant.tenant_key] += 1
        return streams

    def find(self, room_key: RoomKey, message_id: str) -> OpenStream | None:
        return self._by_id.get((room_key, message_id))

    def of_room(self, room_key: RoomKey) -> StreamsOfRoom:
        return self._of_rooms.get(room_key, NO_STREAMS)

    def count_of_tenant(self, tenant_key: TenantKey) -> int:
        return self._counts[tenant_key]

    def count_per_tenant(self) -> Mapping[TenantKey, int]:
        return self._counts

    def list_all(self) -> list[OpenStream]:
        return list(self._by_id.values())

    def remove(self, stream: OpenStream, error: ChatError) -> None:
        """It has ended: appends that still wait fail."""
        streams = self._of_rooms.get(stream.room_key, {})
        if streams.pop(stream.message.seq, None) is None:
            return
        if not streams:
            del self._of_rooms[stream.room_key]
        del self._by_id[stream.room_key, stream.message.message_id]
        self._counts[stream.tenant.tenant_key] -= 1
        if not self._counts[stream.tenant.tenant_key]:
            del self._counts[stream.tenant.tenant_key]
        stream.end(error)

    def remove_room(self, room_key: RoomKey) -> None:
        """The room was deleted."""
        for stream in list(self.of_room(room_key).values()):
            self.remove(stream, not_found("Room"))

    def remove_tenant(self, tenant_key: TenantKey) -> None:
        """The tenant was deleted, or has moved away."""
        for stream in self._list_of_tenant(tenant_key):
            self.remove(stream, stream.tenant.away or not_found("Room"))

    def prune(self, tenant_key: TenantKey, room_id: str, last_seq: int) -> None:
        """Retention has removed the beginning of this room's log."""
        for stream in self._list_of_tenant(tenant_key):
            if stream.message.room_id == room_id and stream.message.seq <= last_seq:
                self.remove(stream, not_found("Message"))

    def _list_of_tenant(self, tenant_key: TenantKey) -> list[OpenStream]:
        if tenant_key not in self._counts:
            return []
        return [stream for stream in self._by_id.values() if stream.tenant.tenant_key == tenant_key]


def is_open(message: Message) -> bool:
    """Whether it is still being written."""
    return message.stream is not UNSET and message.stream.state == "open"


def check_ended(message: Message) -> None:
    """Raises ChatError for a message that is still being written."""
    if is_open(message):
        raise refuse("The message is still being written", find_index(message), "open")


def find_index(message: Message) -> int:
    """Of the last append that is stored."""
    return 0 if message.stream is UNSET or message.stream.index is UNSET else message.stream.index


def refuse(text: str, index: int | None, state: str | None) -> ChatError:
    """The error of an append, an edit or an end that does not fit. `index` is the last one that is stored, `state` that
    of the stream; both are None for a message that never was one."""
    return conflict(text, {"index": index, "state": state})
