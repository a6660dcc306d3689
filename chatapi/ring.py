"""The newest events of one room in memory, as they were encoded."""

from collections.abc import Callable, Mapping, Sequence

from chatapi.open_streams import NO_STREAMS, StreamsOfRoom
from chatapi.protocol.encoders import annotate_frame

RING_EVENTS = 128  # per room: a client that was away for a moment is served from memory
RING_BYTES = 256 * 1024  # per room


class Ring:
    """The newest events of a room, encoded, without a gap: those from `first_seq` to the room's `published_seq`.

    `streams` are the room's messages that are still being written: those are encoded when they are read.
    """

    __slots__ = ("_annotations", "_frames", "_message_seqs", "first_seq", "size_bytes", "streams", "version")

    def __init__(self, first_seq: int) -> None:
        self.first_seq = first_seq
        self._frames: list[bytes] = []
        self._message_seqs: list[int] = []  # the seq of the message that an entry shows, 0 for other events
        self._annotations: dict[int, bytes] = {}  # by the seq of the message, beside its frame
        self.size_bytes = 0
        self.streams: StreamsOfRoom = NO_STREAMS
        self.version = 0  # grows when an entry changes: events read from the store before that are stale

    def __len__(self) -> int:
        return len(self._frames)

    def append(self, frame: bytes, message_seq: int) -> None:
        """`message_seq` is the seq of the message that the event shows as that now stands, and 0 for other events. Old
        events are dropped in steps: up to twice `RING_EVENTS` and `RING_BYTES` may be here."""
        self._frames.append(frame)
        self._message_seqs.append(message_seq)
        self.size_bytes += len(frame)
        # In steps, since each removal from the front of a list moves the rest.
        if len(self._frames) > 2 * RING_EVENTS or self.size_bytes > 2 * RING_BYTES:
            self._shrink()

    def _shrink(self) -> None:
        while self._frames and (len(self._frames) > RING_EVENTS or self.size_bytes > RING_BYTES):
            drop = max(1, len(self._frames) - RING_EVENTS)
            self.size_bytes -= sum(map(len, self._frames[:drop]))
            del self._frames[:drop], self._message_seqs[:drop]
            self.first_seq += drop
            for seq in [seq for seq in self._annotations if seq < self.first_seq]:
                self.size_bytes -= len(self._annotations.pop(seq))

    def after(self, seq: int) -> list[bytes] | None:
        """Every event after `seq`, or None when the ring does not go back that far."""
        if seq + 1 < self.first_seq:
            return None
        frames = self._frames[seq + 1 - self.first_seq :]
        if self.streams:
            for stream_seq, stream in self.streams.items():
                if seq < stream_seq <= seq + len(frames):
                    frames[stream_seq - seq - 1] = stream.encode_frame()
        return frames

    def messages(self, seqs: range, limit: int) -> list[bytes]:
        """Frames of the first `limit` messages among these events, all of which must be here: as they are read, with
        their annotations."""
        found: list[bytes] = []
        annotations = self._annotations
        for seq in seqs:
            index = seq - self.first_seq
            if self._message_seqs[index] == seq:  # an edit shows a message too, but under another seq
                frame = self.streams[seq].encode_frame() if seq in self.streams else self._frames[index]
                found.append(annotate_frame(frame, annotations[seq]) if annotations and seq in annotations else frame)
                if len(found) == limit:
                    break
        return found

    def replace(self, message_seq: int, encode: Callable[[int, bytes], bytes]) -> None:
        """A message was edited or deleted, or has ended as a stream: each entry that shows it is encoded again, as the
        message is now (docs/contract.md, section 8).

        `encode` makes the frame of the event with the given `seq`, whose frame was the given one.
        """
        self.version += 1
        for index, shown_seq in enumerate(self._message_seqs):
            if shown_seq == message_seq:
                frame = encode(self.first_seq + index, self._frames[index])
                self.size_bytes += len(frame) - len(self._frames[index])
                self._frames[index] = frame

    def annotate(self, message_seq: int, annotations: bytes) -> None:
        """The message's annotations have changed to these, as `protocol.encoders.encode_annotations` makes them."""
        self.version += 1
        self.size_bytes -= len(self._annotations.pop(message_seq, b""))
        if annotations and message_seq >= self.first_seq:
            self._annotations[message_seq] = annotations
            self.size_bytes += len(annotations)
            if self.size_bytes > 2 * RING_BYTES:
                self._shrink()

    def find_annotations(self, message_seq: int) -> bytes:
        """Nothing for a message that is not here, or has none."""
        return self._annotations.get(message_seq, b"")

    def fill(self, frames: Sequence[bytes], message_seqs: Sequence[int], annotations: Mapping[int, bytes]) -> None:
        """Puts the events that came just before the oldest one, read from the store, in front of it, with the
        annotations of the messages among them."""
        self._annotations.update(annotations)
        self.size_bytes += sum(map(len, annotations.values()))
        self._frames[:0] = frames
        self._message_seqs[:0] = message_seqs
        self.first_seq -= len(frames)
        self.size_bytes += sum(map(len, frames))

    def clear(self) -> None:
        """The next event that is appended is then the first one."""
        self.first_seq += len(self._frames)
        self._frames.clear()
        self._message_seqs.clear()
        self._annotations.clear()
        self.size_bytes = 0
