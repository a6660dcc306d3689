"""lively: people talk in rooms, react to messages, correct their own, answer in threads, and search.

Every reader makes their own picture of the reactions, edits and threads from the events. At the end all pictures of a
room have to be the same, and what the server shows.
"""

import random
from array import array
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from time import monotonic
from typing import Any
from urllib.parse import quote

from chatapi.cli.bench.conversation import ConversationRecord, EventName, Replica, check_room, name_event
from chatapi.cli.bench.crew import CommandPipe, Measurement, share
from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.http import HttpPeer, encode_request
from chatapi.cli.bench.reactor import Reactor
from chatapi.cli.bench.result import OPERATIONS, Outcome
from chatapi.cli.bench.run import measure
from chatapi.cli.bench.stream import DRAIN_SECONDS, MemberSocket, all_ready
from chatapi.cli.bench.tenant import BenchOptions, BenchRoom, BenchTenant, TenantLogin
from chatapi.cli.bench.websocket import encode_text, parse_frame
from chatapi.protocol.json import dumps, loads_stored
from chatapi.protocol.server_frames import LOGGED

_WEIGHTS = {"message": 70, "reaction": 20, "edit": 5, "reply": 3, "search": 2}  # in percent

EMOJI = ("👍", "❤️", "😂", "🎉", "👀", ":ship:")
TAKEN_BACK = 0.25  # of the reactions
NEWEST_MESSAGES = 20  # of a room, that are reacted to and answered; of a person, that are edited
QUERIES = ("quick", "lazy dog", '"pack my box"', "jug*")  # words of each message's content, unless it is short


@dataclass(frozen=True, slots=True)
class LivelyJob:
    login: TenantLogin
    rooms: Sequence[BenchRoom]
    rate: float  # operations per second of this process; 0 = as many as the server takes
    options: BenchOptions


@dataclass(slots=True)
class LivelyResult:
    measurement: Measurement
    latencies: dict[str, "array[float]"]  # of the measurement, by operation
    records: dict[str, ConversationRecord]  # by room id
    delivered: int = 0
    missing: int = 0
    doubled: int = 0
    problems: list[str] = field(default_factory=list)


class LivelyTally:
    """State that the people of one process share."""

    def __init__(self) -> None:
        self.done: list[tuple[str, float]] = []  # operations and their latencies
        self.busy = 0  # operations under way
        self.is_over = False

    def latencies_of(self, measurement: Measurement) -> dict[str, "array[float]"]:
        found = {kind: array("d") for kind in OPERATIONS}
        for kind, latency_s in self.done[measurement.first : measurement.first + measurement.count]:
            found[kind].append(latency_s)
        return found


@dataclass(slots=True)
class LivelyRoom:
    """State that the members share. All of them are of one process."""

    room_id: str
    record: ConversationRecord = field(default_factory=ConversationRecord)
    newest: deque[str] = field(default_factory=lambda: deque(maxlen=NEWEST_MESSAGES))  # ids of messages, no replies

    def take(self, user: str, event: dict[str, Any]) -> str:
        """Reorder what is wrong with the event, which `user` got in its turn."""
        name = name_event(event)
        if self.record.seen.setdefault(event["seq"], name) is name:
            if event["type"] == "message" and "thread_id" not in event:
                self.newest.append(event["message_id"])
        elif self.record.seen[event["seq"]] != name:
            return f"{user}: seq {event['seq']} is {name}, but others got {self.record.seen[event['seq']]}"
        return ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One that is under way. `expects` names the event that it makes."""

    kind: str
    begun_s: float
    expects: EventName = ()
    content: str = ""


class LivelySocket(MemberSocket):
    """A person's connection. Every frame is parsed."""

    __slots__ = ("_person", "_room", "replica")

    def __init__(
        self, reactor: Reactor, login: TenantLogin, room: LivelyRoom, user: str, person: "Participant"
    ) -> None:
        self._person = person
        self._room = room
        self.replica = Replica()
        super().__init__(reactor, login, room.room_id, user)

    def take_text(self, data: bytes, start: int, end: int) -> None:
        self.on_frame(parse_frame(data[start:end]))

    def on_frame(self, frame: dict[str, Any]) -> None:
        super().on_frame(frame)
        request_id = frame.pop("request_id", "")
        if frame["type"] in LOGGED and "seq" in frame:
            if frame["seq"] >= self.next_seq:  # else it is a double
                self.replica.take(frame)
                if wrong := self._room.take(self.user, frame):
                    self.problems.append(wrong)
            self.on_message(frame["seq"])
        if request_id:
            self._person.take_answer(request_id, frame)


class Participant:
    """A user of one room, who begins operations and is told how they ended."""

    def __init__(
        self, reactor: Reactor, tally: LivelyTally, login: TenantLogin, room: LivelyRoom, user: str, job: LivelyJob
    ) -> None:
        self.user = user
        self.room = room
        self._login = login
        self._tally = tally
        self._content = job.options.content
        self._is_steady = not job.rate
        self._random = random.Random(user)  # noqa: S311 - it only spreads the load
        self._asked: dict[str, Operation] = {}  # by request id
        self._number = 0
        self._own: deque[str] = deque(maxlen=NEWEST_MESSAGES)  # ids of messages that may be edited
        self._reactions: dict[tuple[str, str], None] = {}  # message id and emoji, in their order
        self._search: Operation | None = None
        self.socket = LivelySocket(reactor, login, room, user, self)
        self._http = HttpPeer(reactor, login.address, self._take_results)

    def act(self, begun_s: float) -> None:
        """Begins an operation, whose latency counts from `begun_s` on."""
        kind = self._choose()
        self._tally.busy += 1
        self._number += 1
        getattr(self, f"_begin_{kind}")(begun_s)

    def _choose(self) -> str:
        kind = self._random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        has_object = {
            "reaction": bool(self.room.newest),
            "reply": bool(self.room.newest),
            "edit": bool(self._own),
            "search": self._search is None,
        }
        return kind if has_object.get(kind, True) else "message"

    def _done(self, operation: Operation) -> None:
        now_s = monotonic()
        self._tally.done.append((operation.kind, now_s - operation.begun_s))
        self._tally.busy -= 1
        if self._is_steady and not self._tally.is_over:
            self.act(now_s)

    def _ask(self, operation: Operation, frame_type: str, **fields: object) -> None:
        request_id = str(self._number)
        self._asked[request_id] = operation
        frame = {"type": frame_type, "room_id": self.room.room_id, "request_id": request_id, **fields}
        self.socket.send(encode_text(dumps(frame)))

    def _begin_message(self, begun_s: float) -> None:
        name = f"{self.user}.{self._number}"
        operation = Operation("message", begun_s, ("message", name, ""))
        self._ask(operation, "send_message", content=self._content, client_message_id=name)

    def _begin_reply(self, begun_s: float) -> None:
        name, root_id = f"{self.user}.{self._number}", self._random.choice(self.room.newest)
        operation = Operation("reply", begun_s, ("message", name, root_id))
        self._ask(operation, "send_message", content=self._content, client_message_id=name, thread_id=root_id)

    def _begin_edit(self, begun_s: float) -> None:
        message_id, content = self._random.choice(self._own), f"{self.user} edited this: {self._number}"
        operation = Operation("edit", begun_s, ("message.edited", message_id), content)
        self._ask(operation, "message.edit", message_id=message_id, content=content)

    def _begin_reaction(self, begun_s: float) -> None:
        """Reacting again as before would change nothing: it is taken back then."""
        reaction = (self._random.choice(self.room.newest), self._random.choice(EMOJI))
        if self._reactions and self._random.random() < TAKEN_BACK:
            reaction = next(reversed(self._reactions))
        message_id, emoji = reaction
        done, frame_type = "reaction.added", "reaction.add"
        if reaction in self._reactions:
            del self._reactions[reaction]
            done, frame_type = "reaction.removed", "reaction.remove"
        else:
            self._reactions[reaction] = None
        operation = Operation("reaction", begun_s, (done, message_id, self.user, emoji))
        self._ask(operation, frame_type, message_id=message_id, emoji=emoji)

    def _begin_search(self, begun_s: float) -> None:
        self._search = Operation("search", begun_s)
        path = f"/search?q={quote(self._random.choice(QUERIES))}"
        self._http.send(encode_request("GET", path, self._login.host, self._login.headers(self.user)))

    def take_answer(self, request_id: str, frame: dict[str, Any]) -> None:
        operation = self._asked.pop(request_id, None)
        if operation is None:
            self.socket.problems.append(f"{self.user}: {frame} answers nothing")
            return
        seq = frame.get("seq", 0)
        if frame["type"] == "message.sent":
            name: EventName = ("message", frame["client_message_id"], *operation.expects[2:])
            self._own.append(frame["message_id"])
        else:
            name = name_event(frame)
        if name != operation.expects or (operation.content and frame["content"] != operation.content):
            self.socket.problems.append(f"{self.user}: {operation.expects} was answered {frame}")
        self.room.record.confirmed[seq] = name
        self._done(operation)

    def _take_results(self, status: int, body: bytes) -> None:
        if status != 200:
            raise BenchError(f"a search was answered {status}: {body[:200].decode(errors='replace')}")
        messages = [result["message"] for result in loads_stored(body)["data"]["results"]]
        if {message["room_id"] for message in messages} - {self.room.room_id}:
            self.socket.problems.append(f"{self.user} found messages of a room that they are not in")
        if any(newer["seq"] <= older["seq"] for newer, older in pairwise(messages)):
            self.socket.problems.append(f"{self.user} found messages that are not in order")
        operation, self._search = self._search, None
        assert operation is not None
        self._done(operation)


def converse(job: LivelyJob, pipe: CommandPipe) -> LivelyResult:
    """The work of one process."""
    reactor, tally = Reactor(polls=job.options.busy_poll), LivelyTally()
    people = [
        Participant(reactor, tally, job.login, room, user, job)
        for room, users in ((LivelyRoom(one.room_id), one.users) for one in job.rooms)
        for user in users
    ]
    all_ready(reactor, [person.socket for person in people])
    schedule = pipe.wait_for_start()
    if job.rate:
        _act_in_time(reactor, tally, people, job.rate)
    else:
        for person in people * job.options.window:
            person.act(monotonic())
    measurement = pipe.measure(reactor, schedule, lambda: len(tally.done))
    tally.is_over = True
    finished = reactor.run(lambda: not tally.busy, monotonic() + DRAIN_SECONDS)
    last_seqs = {person.room.room_id: person.room.record.last_seq for person in people}
    reactor.run(
        lambda: all(person.socket.next_seq > last_seqs[person.room.room_id] for person in people),
        monotonic() + DRAIN_SECONDS,
    )
    result = LivelyResult(measurement, tally.latencies_of(measurement), {})
    if not finished:
        result.problems.append(f"{tally.busy} operations were never answered")
    for person in people:
        _report_participant(person, last_seqs[person.room.room_id], result)
    return result


def _act_in_time(reactor: Reactor, tally: LivelyTally, people: Sequence[Participant], rate: float) -> None:
    """One after the other begins an operation when its time has come, whatever is still under way."""
    begin_s, order = monotonic(), cycle(people)
    begun = 0

    def act() -> None:
        nonlocal begun
        if not tally.is_over:
            next(order).act(begin_s + begun / rate)
            begun += 1
            reactor.call_at(begin_s + begun / rate, act)

    act()


def _report_participant(person: Participant, last_seq: int, result: LivelyResult) -> None:
    room, shown = person.room, person.socket.replica.show()
    person.socket.add_to(result, last_seq)
    if room.room_id not in result.records:
        result.records[room.room_id] = room.record
        room.record.shown = shown
    elif room.record.shown != shown:
        result.problems.append(f"{person.user} knows other edits, reactions or threads than the room's first member")


def run_lively(tenant: BenchTenant) -> Outcome:
    options = tenant.options
    _require_conversations(tenant)
    members = min(options.members, options.clients)
    rooms = tenant.make_rooms(-(-options.clients // members), members)
    jobs = [
        LivelyJob(tenant.login, part, options.rate * len(part) / len(rooms), options)
        for part in share(rooms, options.processes)
    ]
    outcome, results = measure(tenant, converse, jobs, "operations")
    measurements = [result.measurement for result in results]
    outcome.figures["operations_per_s"] = sum(measurement.count / measurement.seconds for measurement in measurements)
    by_kind = {kind: [one for result in results for one in result.latencies[kind]] for kind in OPERATIONS}
    outcome.add_latencies([latency for latencies in by_kind.values() for latency in latencies])
    outcome.add_operations(by_kind)
    outcome.add_generator(measurements)
    records: dict[str, ConversationRecord] = {}
    for result in results:
        records |= result.records
        outcome.check.add(result)
    _check_rooms(tenant, outcome, rooms, records)
    return outcome


def _require_conversations(tenant: BenchTenant) -> None:
    """Raises BenchError for a server of a version that has none of this."""
    user = "visitor"  # of a room that nobody else is in
    try:
        room_id = tenant.ask_many("POST", [(user, "/rooms", {"type": "group"})])[0]["room_id"]
        path = f"/rooms/{room_id}/messages"
        message_id = tenant.ask_many("POST", [(user, path, {"content": "Hello"})])[0]["message_id"]
        tenant.ask_many("PUT", [(user, f"{path}/{message_id}/reactions/{quote(EMOJI[0])}", None)])
        tenant.ask_many("GET", [(user, f"{path}?thread_id={message_id}", None), (user, "/search?q=hello", None)])
    except BenchError as error:
        raise BenchError(f"lively needs a server with reactions, threads and search; {error}") from None


def _check_rooms(
    tenant: BenchTenant, outcome: Outcome, rooms: Sequence[BenchRoom], records: dict[str, ConversationRecord]
) -> None:
    last_seqs = {room: records[room.room_id].last_seq for room in rooms}
    logs, histories = tenant.read_events(last_seqs), tenant.read_messages(last_seqs)
    kinds: Counter[str] = Counter()
    for room_id, record in records.items():
        check_room(outcome.check, room_id, record, logs[room_id], histories[room_id])
        kinds.update(name[0] for name in record.confirmed.values())
    outcome.check.notes += [f"{count:,} {kind}" for kind, count in sorted(kinds.items())]
