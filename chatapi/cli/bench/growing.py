"""Messages that are still being written: users who write them, readers who see them grow, and whether all have the same
text in the end.

Each append has `size` bytes, of which the first are the time when it was sent. So its latency is known wherever it
arrives, and no two appends are alike.
"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from chatapi.cli.bench.crew import Schedule
from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.reactor import Reactor
from chatapi.cli.bench.result import Check
from chatapi.cli.bench.stream import DRAIN_SECONDS, MemberSocket
from chatapi.cli.bench.tenant import BenchRoom, BenchTenant, TenantLogin
from chatapi.cli.bench.websocket import encode_text, parse_frame
from chatapi.protocol.json import dumps
from chatapi.protocol.server_frames import LOGGED

TIME_BYTES = 17  # of the time in an append: monotonic seconds, to the microsecond
MESSAGE_BYTES = 60_000  # then a writer ends the message and opens the next one: the server takes 64 KiB
LAST = {"last": True}  # `meta` of a writer's last message: its readers need not wait for another one

_DELTA = b'{"type":"message.delta",'
_APPENDED = b'{"type":"message.appended",'

Texts = dict[str, str]
"""By message id."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A member of a room, who connects. The first user of each room writes, the others read."""

    room: BenchRoom
    user: str

    @property
    def writes(self) -> bool:
        return self.user == self.room.users[0]


@dataclass(slots=True)
class GrownTexts:
    """The streams that one process has written and read."""

    confirmed: dict[str, Texts] = field(default_factory=dict)  # by room id, of those that it wrote
    read: dict[str, tuple[str, Texts]] = field(default_factory=dict)  # user → room id, and the texts
    last_seqs: dict[str, int] = field(default_factory=dict)  # by room id
    append_latencies: "array[float]" = field(default_factory=lambda: array("d"))  # to the confirmation
    delta_latencies: "array[float]" = field(default_factory=lambda: array("d"))  # of each append at each reader
    deltas: int = 0  # within the schedule
    shown_again: int = 0  # readers were too slow for a delta, and got the whole instead
    problems: list[str] = field(default_factory=list)


class GrowthTally:
    """State that the writers and readers of one process share."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.texts = GrownTexts()
        self.appends = 0  # confirmed
        self.schedule = Schedule(0.0, 0.0)
        self._delta = b""
        self._parsed: dict[str, Any] = {}
        self._sent_s: Sequence[float] = ()  # when its appends were sent

    def take_delta(self, payload: bytes) -> dict[str, Any]:
        """The frame. All readers of a room get the same bytes one after the other: they are taken apart once."""
        if payload != self._delta:
            self._delta, self._parsed = payload, parse_frame(payload)
            self._sent_s = _read_times(self._parsed["text"], self.size)
        schedule, now_s = self.schedule, monotonic()
        self.texts.deltas += schedule.begin_s <= now_s < schedule.end_s
        self.texts.delta_latencies.extend(
            now_s - sent_s for sent_s in self._sent_s if schedule.begin_s <= sent_s < schedule.end_s
        )
        return self._parsed

    def note_confirmed(self, sent_s: float) -> None:
        self.appends += 1
        if self.schedule.begin_s <= sent_s < self.schedule.end_s:
            self.texts.append_latencies.append(monotonic() - sent_s)

    def count(self) -> int:
        return self.appends


def _read_times(text: str, size: int) -> Sequence[float]:
    return [float(text[start : start + TIME_BYTES]) for start in range(0, len(text), size)]


class GrowingReader(MemberSocket):
    """Takes a message as any client does: opening, deltas, perhaps its state, end."""

    __slots__ = ("_index", "_parts", "_tally", "is_done", "texts")

    def __init__(self, reactor: Reactor, login: TenantLogin, seat: Seat, tally: GrowthTally) -> None:
        super().__init__(reactor, login, seat.room.room_id, seat.user)
        self._tally = tally
        self._parts: dict[str, list[str]] = {}  # of messages that are open
        self._index: dict[str, int] = {}
        self.texts: Texts = {}  # of those that have ended
        self.is_done = False

    def take_text(self, data: bytes, start: int, end: int) -> None:
        if data.startswith(_DELTA, start, end):
            self._grow(self._tally.take_delta(data[start:end]))
        else:
            self.on_frame(parse_frame(data[start:end]))

    def _grow(self, delta: dict[str, Any]) -> None:
        message_id = delta["message_id"]
        if self._index.get(message_id) != delta["after"]:
            self.problems.append(f"{self.user}: a delta after {delta['after']}, not {self._index.get(message_id)}")
        else:
            self._index[message_id] = delta["index"]
            self._parts[message_id].append(delta["text"])

    def on_frame(self, frame: dict[str, Any]) -> None:
        super().on_frame(frame)
        kind = frame["type"]
        if kind == "ready":
            self.next_seq = frame["rooms"][0]["last_ack"] + 1  # users who were added later do not get what was before
        elif kind in LOGGED and "seq" in frame:
            self.on_message(frame["seq"])
        if kind == "message":
            self._show(frame)
        elif kind == "message.state":
            self._tally.texts.shown_again += 1
            self._show(frame["message"])
        elif kind == "message.finished":
            self.on_finished(frame)

    def _show(self, message: dict[str, Any]) -> None:
        self._index[message["message_id"]] = message["stream"]["index"]
        self._parts[message["message_id"]] = [message["content"]]

    def on_finished(self, frame: dict[str, Any]) -> None:
        """The text that has grown counts, not the one that the end brings, unless something was missed before it."""
        message_id = frame["message_id"]
        text = "".join(self._parts.pop(message_id, ()))
        del self._index[message_id]
        if not frame["content"].startswith(text):
            self.problems.append(f"{self.user}: {message_id} grew to another text than it ends with")
        self.texts[message_id] = text if len(text) == len(frame["content"]) else frame["content"]
        self._tally.texts.shown_again += len(text) < len(frame["content"])
        self.is_done = frame["meta"] == LAST


class GrowingWriter(GrowingReader):
    """Opens a message, appends to it, ends it when it is long, and opens the next one. It reads them itself, too."""

    __slots__ = (
        "_before",
        "_confirmed",
        "_message_id",
        "_number",
        "_owed",
        "_sent",
        "_sent_s",
        "confirmed",
        "is_over",
    )

    def __init__(self, reactor: Reactor, login: TenantLogin, seat: Seat, tally: GrowthTally) -> None:
        super().__init__(reactor, login, seat, tally)
        self._number = 0  # of messages
        self._message_id = ""  # while one is open
        self._before = b""
        self._owed = 0  # appends that were due while no message was open
        self._sent: list[str] = []
        self._sent_s: array[float] = array("d")
        self._confirmed = 0
        self.confirmed: Texts = {}
        self.is_over = False

    def open(self) -> None:
        self._number += 1
        draft = {"type": "send_message", "room_id": self.room_id, "client_message_id": f"{self.user}.{self._number}"}
        self.send(encode_text(dumps({**draft, "content": "", "stream": True})))

    def write(self) -> None:
        if not self._message_id:
            self._owed += 1
            return
        size = self._tally.size
        sent_s = monotonic()
        text = f"{sent_s:0{TIME_BYTES}.6f}".ljust(size, ".")
        self._sent.append(text)
        self._sent_s.append(sent_s)
        self.send(encode_text(b'%s%d,"text":"%s"}' % (self._before, len(self._sent), text.encode())))
        if (len(self._sent) + 1) * size > MESSAGE_BYTES:
            self._finish()

    def end(self) -> None:
        """This was the last message."""
        self.is_over = True
        if self._message_id:
            self._finish()

    def _finish(self) -> None:
        end = {"type": "message.finish", "room_id": self.room_id, "message_id": self._message_id, "state": "done"}
        meta = {"meta": LAST} if self.is_over else {}
        self.send(encode_text(dumps({**end, "index": len(self._sent), **meta})))
        self._message_id = ""

    def take_text(self, data: bytes, start: int, end: int) -> None:
        if data.startswith(_APPENDED, start, end):
            self._take_confirmation(parse_frame(data[start:end]))
        else:
            super().take_text(data, start, end)

    def _take_confirmation(self, frame: dict[str, Any]) -> None:
        self._confirmed += 1
        if frame["index"] != self._confirmed:
            self.problems.append(f"{self.user}: append {self._confirmed} was confirmed as {frame['index']}")
        self._tally.note_confirmed(self._sent_s[self._confirmed - 1])

    def on_frame(self, frame: dict[str, Any]) -> None:
        super().on_frame(frame)
        if frame["type"] == "message.sent":
            message_id = self._message_id = frame["message_id"]
            append = {"type": "message.append", "room_id": self.room_id, "message_id": message_id, "index": 0}
            self._before = dumps(append).removesuffix(b"0}")
            owed, self._owed = self._owed, 0
            if self.is_over:
                self._finish()
            for _ in range(0 if self.is_over else owed):
                self.write()

    def on_finished(self, frame: dict[str, Any]) -> None:
        super().on_finished(frame)
        if self._confirmed < len(self._sent):
            self.problems.append(f"{self.user}: {len(self._sent) - self._confirmed} appends were never confirmed")
        self.confirmed[frame["message_id"]] = "".join(self._sent[: self._confirmed])
        self._sent.clear()
        del self._sent_s[:]
        self._confirmed = 0
        if not self.is_over:
            self.open()


class StreamLoad:
    """The writers and readers of one process. Each writer makes `rate` appends a second."""

    def __init__(self, reactor: Reactor, login: TenantLogin, seats: Sequence[Seat], *, rate: float, size: int) -> None:
        self._reactor = reactor
        self._rate = rate
        self.tally = GrowthTally(size)
        self.writers = [GrowingWriter(reactor, login, seat, self.tally) for seat in seats if seat.writes]
        readers = [GrowingReader(reactor, login, seat, self.tally) for seat in seats if not seat.writes]
        self.members: list[GrowingReader] = [*self.writers, *readers]

    def begin(self, schedule: Schedule) -> None:
        self.tally.schedule = schedule
        begin_s = monotonic()
        for number, writer in enumerate(self.writers):
            writer.open()
            self._write_in_time(writer, begin_s + (1 + number / len(self.writers)) / self._rate)

    def _write_in_time(self, writer: GrowingWriter, due_s: float) -> None:
        def write() -> None:
            if not writer.is_over:
                writer.write()
                self._write_in_time(writer, due_s + 1 / self._rate)

        self._reactor.call_at(due_s, write)

    def end(self) -> GrownTexts:
        """Ends all messages, and returns when all readers have seen their ends."""
        for writer in self.writers:
            writer.end()
        self._reactor.run(lambda: all(member.is_done for member in self.members), monotonic() + DRAIN_SECONDS)
        texts = self.tally.texts
        for member in self.members:
            texts.read[member.user] = member.room_id, member.texts
            texts.last_seqs[member.room_id] = member.next_seq - 1
            texts.problems += member.problems
            if member.missing or member.doubled:
                texts.problems.append(f"{member.user}: {member.missing} events missing, {member.doubled} doubled")
        for writer in self.writers:
            texts.confirmed[writer.room_id] = writer.confirmed
        return texts


def check_texts(tenant: BenchTenant, check: Check, rooms: Sequence[BenchRoom], parts: Sequence[GrownTexts]) -> None:
    """That the server has stored every text, and every reader has got it, just as the writers know it."""
    confirmed: dict[str, Texts] = {}
    last_seqs: dict[str, int] = {}
    for part in parts:
        confirmed |= part.confirmed
        last_seqs |= part.last_seqs
        check.problems += part.problems
    stored = tenant.read_messages({room: last_seqs[room.room_id] for room in rooms})
    for room in rooms:
        read = {message["message_id"]: message["content"] for message in stored[room.room_id]}
        _compare(check, f"{room.room_id} as it is stored", confirmed[room.room_id], read)
    readers = [(user, room_id, texts) for part in parts for user, (room_id, texts) in part.read.items()]
    for user, room_id, texts in readers:
        _compare(check, f"{room_id} as {user} has it", confirmed[room_id], texts)
    expected = sum(len(room.users) for room in rooms)
    if len(readers) != expected:
        check.problems.append(f"{len(readers)} of {expected} users read")
    written = sum(len(text) for texts in confirmed.values() for text in texts.values())
    check.notes.append(
        f"{sum(map(len, confirmed.values())):,} streams with {written:,} bytes, the same for {len(readers):,} readers"
        f" ({sum(part.shown_again for part in parts):,} times shown again)"
    )


def _compare(check: Check, which: str, confirmed: Mapping[str, str], found: Mapping[str, str]) -> None:
    if found == confirmed:
        return
    wrong = [
        message_id
        for message_id in confirmed.keys() | found.keys()
        if confirmed.get(message_id) != found.get(message_id)
    ]
    check.problems.append(f"{which}: {len(wrong)} texts are not those that were confirmed, such as {min(wrong)}")


def require_streams(tenant: BenchTenant, count: int) -> None:
    """Lets the tenant have so many open. Raises BenchError for a server of a version that has no streams."""
    try:
        tenant.configure({"open_streams": max(256, count)})
    except BenchError as error:
        raise BenchError(f"this needs a server with streams; {error}") from None
