"""mixed: people do everything in a chat at once: they send, edit, read history, acknowledge, type, lose the
connection."""

import random
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from time import monotonic
from typing import Any

from chatapi.cli.bench.crew import CommandPipe, Measurement, percentile, share
from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.http import HttpPeer, encode_request
from chatapi.cli.bench.reactor import Reactor
from chatapi.cli.bench.result import Check, Outcome
from chatapi.cli.bench.run import measure
from chatapi.cli.bench.stream import DRAIN_SECONDS, MemberSocket, all_ready
from chatapi.cli.bench.tenant import BenchOptions, BenchRoom, BenchTenant, TenantLogin
from chatapi.cli.bench.websocket import encode_text
from chatapi.protocol.json import dumps, loads_stored
from chatapi.protocol.server_frames import LOGGED

# The next action of a person, in percent.
_WEIGHTS = {"send": 50, "edit": 12, "history": 12, "ack": 14, "typing": 10, "reconnect": 2}
LIGHT_SECONDS = 0.1  # between acks or typing frames of one: more than 20 a second are held back, and that by design

_LOGGED = LOGGED - {"message"}  # messages themselves are taken by the line


@dataclass(frozen=True, slots=True)
class MixedJob:
    login: TenantLogin
    rooms: Sequence[BenchRoom]
    options: BenchOptions


@dataclass(slots=True)
class RoomRecord:
    """The events of a room that the server has confirmed."""

    sent: dict[int, str] = field(default_factory=dict)  # seq → client_message_id
    edits: dict[int, tuple[str, str]] = field(default_factory=dict)  # seq → message id and content

    @property
    def last_seq(self) -> int:
        """Of the log: sends and edits are the only events that these rooms have."""
        return len(self.sent) + len(self.edits)


@dataclass(slots=True)
class MixedResult:
    measurement: Measurement
    latencies: "array[float]"  # of the measurement
    records: dict[str, RoomRecord]  # by room id
    kinds: dict[str, "array[float]"]  # latencies by kind, the warm-up's included
    delivered: int = 0
    missing: int = 0
    doubled: int = 0
    problems: list[str] = field(default_factory=list)


class MixedTally:
    """State that the people of one process share."""

    def __init__(self) -> None:
        self.latencies: array[float] = array("d")
        self.kinds: dict[str, array[float]] = {kind: array("d") for kind in _WEIGHTS}
        self.busy = 0  # people who wait for an answer
        self.is_over = False


class PersonSocket(MemberSocket):
    """The connection that a person has at the moment."""

    __slots__ = ("_person",)

    def __init__(self, reactor: Reactor, person: "Person", query: str = "", next_seq: int = 1) -> None:
        self._person = person
        super().__init__(reactor, person.login, person.room_id, person.user, query=query, next_seq=next_seq)

    def on_sent(self, seq: int, data: bytes, start: int, end: int) -> None:
        self._person.on_frame(loads_stored(data[start:end]))

    def on_frame(self, frame: dict[str, Any]) -> None:
        super().on_frame(frame)
        if frame["type"] in _LOGGED:
            self.on_message(frame["seq"])
        self._person.on_frame(frame)


class Person:
    """A user who does one thing after the other."""

    def __init__(
        self, reactor: Reactor, tally: MixedTally, job: MixedJob, room_id: str, user: str, record: RoomRecord
    ) -> None:
        login = self.login = job.login
        self.room_id = room_id
        self.user = user
        self._reactor = reactor
        self._tally = tally
        self._content = job.options.content
        self._record = record
        self._random = random.Random(user)  # noqa: S311 - it only spreads the load
        self._own: list[str] = []  # ids of messages that may be edited
        self._doing = ""
        self._request_id = 0
        self._began_s = 0.0
        self._light_s = 0.0
        self._edit: tuple[str, str] = ("", "")
        self._epoch = ""
        self.line = PersonSocket(reactor, self)
        self._http = HttpPeer(reactor, login.address, self._take_page)
        self._history = encode_request("GET", f"/rooms/{room_id}/messages?limit=50", login.host, login.headers(user))

    def act(self) -> None:
        """Begins an action; when it ends, the next one begins at once, until the tally is over."""
        if self._tally.is_over:
            return
        kind = self._choose()
        self._doing = kind
        self._tally.busy += 1
        self._request_id += 1
        self._began_s = monotonic()
        getattr(self, f"_do_{kind}")()

    def _choose(self) -> str:
        kind = self._random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        if kind in ("ack", "typing"):
            if self.line.next_seq == 1 or monotonic() < self._light_s + LIGHT_SECONDS:
                return "send"
            self._light_s = monotonic()
        return "send" if kind == "edit" and not self._own else kind

    def _done(self) -> None:
        tally = self._tally
        latency_s = monotonic() - self._began_s
        tally.latencies.append(latency_s)
        tally.kinds[self._doing].append(latency_s)
        tally.busy -= 1
        self._doing = ""
        self._reactor.call_at(monotonic(), self.act)

    def _send_frame(self, kind: str, **fields: object) -> None:
        body = {"type": kind, "room_id": self.room_id, "request_id": str(self._request_id), **fields}
        self.line.send(encode_text(dumps(body)))

    def _do_send(self) -> None:
        self._send_frame("send_message", content=self._content, client_message_id=f"{self.user}.{self._request_id}")

    def _do_edit(self) -> None:
        self._edit = (self._random.choice(self._own), f"{self.user} edited this: {self._request_id}")
        self._send_frame("message.edit", message_id=self._edit[0], content=self._edit[1])

    def _do_history(self) -> None:
        self._http.send(self._history)

    def _do_ack(self) -> None:
        self._send_frame("ack", seq=self.line.next_seq - 1)

    def _do_typing(self) -> None:
        self._send_frame("typing.start")
        self._done()  # nobody answers

    def _do_reconnect(self) -> None:
        """As a client that keeps its own cursor: nothing may be missing or doubled across the two connections."""
        old = self.line
        old.close()
        self.line = PersonSocket(self._reactor, self, "?sync=none", old.next_seq)
        self.line.missing, self.line.doubled, self.line.problems = old.missing, old.doubled, old.problems

    def on_frame(self, frame: dict[str, Any]) -> None:
        kind = frame["type"]
        if kind == "ready":
            self._epoch = frame["epoch"]
            if self._doing == "reconnect":
                cursors = {self.room_id: self.line.next_seq - 1}
                self.line.send(encode_text(dumps({"type": "sync", "epoch": self._epoch, "rooms": cursors})))
        elif kind == "sync.complete":
            if self._doing == "reconnect":
                self._done()
        elif frame.get("request_id") == str(self._request_id) and self._doing:
            self._take_answer(kind, frame)

    def _take_answer(self, kind: str, frame: dict[str, Any]) -> None:
        expected = {"send": "message.sent", "edit": "message.edited", "ack": "ack.received"}.get(self._doing)
        if kind != expected:
            self.line.problems.append(f"{self.user}: {self._doing} was answered {kind}")
        elif kind == "message.sent":
            self._record.sent[frame["seq"]] = frame["client_message_id"]
            self._own.append(frame["message_id"])
        elif kind == "message.edited":
            self._record.edits[frame["seq"]] = self._edit
        self._done()

    def _take_page(self, status: int, body: bytes) -> None:
        if status != 200:
            raise BenchError(f"history was answered {status}: {body[:200].decode(errors='replace')}")
        seqs = [message["seq"] for message in loads_stored(body)["data"]["messages"]]
        if any(seq >= following for seq, following in pairwise(seqs)):
            self.line.problems.append(f"{self.user}: a page of history is not in order")
        self._done()


def live(job: MixedJob, pipe: CommandPipe) -> MixedResult:
    reactor, tally = Reactor(polls=job.options.busy_poll), MixedTally()
    records = {room.room_id: RoomRecord() for room in job.rooms}
    people = [
        Person(reactor, tally, job, room.room_id, user, records[room.room_id])
        for room in job.rooms
        for user in room.users
    ]
    all_ready(reactor, [person.line for person in people])
    schedule = pipe.wait_for_start()
    for person in people:
        person.act()
    measurement = pipe.measure(reactor, schedule, lambda: len(tally.latencies))
    tally.is_over = True
    finished = reactor.run(lambda: not tally.busy, monotonic() + DRAIN_SECONDS)
    reactor.run(
        lambda: all(person.line.next_seq > records[person.room_id].last_seq for person in people),
        monotonic() + DRAIN_SECONDS,
    )
    latencies = tally.latencies[measurement.first : measurement.first + measurement.count]
    result = MixedResult(measurement, latencies, records, tally.kinds)
    if not finished:
        result.problems.append(f"{tally.busy} operations were never answered")
    for person in people:
        person.line.add_to(result, records[person.room_id].last_seq)
    return result


def run_mixed(tenant: BenchTenant) -> Outcome:
    options = tenant.options
    members = min(options.members, options.clients)
    rooms = tenant.make_rooms(-(-options.clients // members), members)
    jobs = [MixedJob(tenant.login, part, options) for part in share(rooms, options.processes)]
    outcome, results = measure(tenant, live, jobs, "operations")
    measurements = [result.measurement for result in results]
    outcome.figures["operations_per_s"] = sum(measurement.count / measurement.seconds for measurement in measurements)
    outcome.add_latencies([latency for result in results for latency in result.latencies])
    outcome.add_generator(measurements)
    records: dict[str, RoomRecord] = {}
    for result in results:
        records |= result.records
        outcome.check.add(result)
    outcome.check.notes += [
        _format_kind(kind, [one for result in results for one in result.kinds[kind]]) for kind in _WEIGHTS
    ]
    logs = tenant.read_events({room: records[room.room_id].last_seq for room in rooms})
    for room_id, record in records.items():
        _check_log(outcome.check, room_id, record, logs[room_id])
    return outcome


def _format_kind(kind: str, latencies: list[float]) -> str:
    latencies.sort()
    return f"{len(latencies):,} {kind} (p99 {percentile(latencies, 99) * 1000:.1f} ms)"


def _check_log(check: Check, room_id: str, record: RoomRecord, events: Sequence[Mapping[str, Any]]) -> None:
    """The room's log holds what was confirmed, at the confirmed places, and messages stand as they were last edited."""
    check.confirmed += record.last_seq
    check.stored += len(events)
    if [event["seq"] for event in events] != list(range(1, len(events) + 1)):
        check.problems.append(f"{room_id}: the seqs of the log are not 1 to {len(events)}")
    sent = {event["seq"]: event["client_message_id"] for event in events if event["type"] == "message"}
    edits = {event["seq"]: event["message_id"] for event in events if event["type"] == "message.edited"}
    if sent != record.sent or edits != {seq: message_id for seq, (message_id, _) in record.edits.items()}:
        check.problems.append(f"{room_id}: the log differs from what was confirmed")
    newest = {message_id: content for _, (message_id, content) in sorted(record.edits.items())}
    for event in events:
        if event["message_id"] in newest and event["content"] != newest[event["message_id"]]:
            check.problems.append(f"{room_id}: seq {event['seq']} does not show its newest edit")
