"""rest-send and ws-send: clients that keep some messages under way, and send one more for each that is confirmed."""

from array import array
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from itertools import cycle
from time import monotonic

from chatapi.cli.bench.crew import CommandPipe, Measurement, Schedule, share
from chatapi.cli.bench.endpoint import BenchEndpoint
from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.growing import GrownTexts, Seat, StreamLoad, check_texts, require_streams
from chatapi.cli.bench.http import HttpPeer, encode_request
from chatapi.cli.bench.reactor import Reactor
from chatapi.cli.bench.result import Outcome, check_stored
from chatapi.cli.bench.run import measure
from chatapi.cli.bench.stream import DRAIN_SECONDS, MemberSocket, all_ready
from chatapi.cli.bench.tenant import BenchOptions, BenchRoom, BenchTenant, TenantLogin
from chatapi.cli.bench.websocket import encode_text, find_seq
from chatapi.protocol.json import dumps

_SPLIT = b"@@@@@@@@"
APPEND_BYTES = 20
ID_DIGITS = len(_SPLIT)  # fixed, so that a request's length is too


@dataclass(frozen=True, slots=True)
class SendJob:
    login: TenantLogin
    rooms: Sequence[BenchRoom]
    options: BenchOptions
    seats: Sequence[Seat] = ()  # of those who write and read streams meanwhile


@dataclass(slots=True)
class SendResult:
    measurement: Measurement
    latencies: "array[float]"  # of the measurement
    confirmed: dict[str, dict[int, str]]  # room id → seq → client_message_id
    texts: GrownTexts = field(default_factory=GrownTexts)
    delivered: int = 0
    missing: int = 0
    doubled: int = 0
    problems: list[str] = field(default_factory=list)

    def count(self) -> int:
        """Of all messages that were confirmed."""
        return sum(map(len, self.confirmed.values()))


class SendTally:
    """State that the senders of one process share."""

    def __init__(self) -> None:
        self.latencies: array[float] = array("d")
        self.in_flight = 0
        self.is_over = False
        self.is_paced = False  # messages are sent at a rate, not each after the last one's confirmation

    def count(self) -> int:
        return len(self.latencies)


def message_parts(room_id: str, user: str, options: BenchOptions, kind: str = "") -> tuple[bytes, bytes]:
    """A message's JSON before and after the number that makes its client_message_id unique."""
    body: dict[str, object] = {"type": kind, "room_id": room_id} if kind else {}
    body |= {"content": options.content, "client_message_id": f"{user}.{_SPLIT.decode()}"}
    before, _, after = dumps(body).partition(_SPLIT)
    return before, after


def number_text(number: int) -> bytes:
    """Always `ID_DIGITS` long."""
    return b"%0*d" % (ID_DIGITS, number)


class RestSender:
    """One connection of a user's pool, which sends one message at a time. `name` is its own in the tenant, and begins
    its messages' ids."""

    def __init__(
        self,
        reactor: Reactor,
        tally: SendTally,
        login: TenantLogin,
        room_id: str,
        user: str,
        name: str,
        options: BenchOptions,
    ) -> None:
        self.name = name
        before, after = message_parts(room_id, name, options)
        path = f"/rooms/{room_id}/messages"
        whole = encode_request("POST", path, login.host, login.headers(user), before + _SPLIT + after)
        self._before, _, self._after = whole.partition(_SPLIT)
        self._tally = tally
        self._sent_s = 0.0
        self.room_id = room_id
        self.seqs: array[int] = array("Q")  # of the messages, in the order sent
        self._peer = HttpPeer(reactor, login.address, self._take_response)

    def send(self) -> None:
        self._tally.in_flight += 1
        self._sent_s = monotonic()
        self._peer.send(self._before + number_text(len(self.seqs)) + self._after)

    def _take_response(self, status: int, body: bytes) -> None:
        tally = self._tally
        tally.latencies.append(monotonic() - self._sent_s)
        tally.in_flight -= 1
        if status != 201:
            raise BenchError(f"a message was answered {status}: {body[:200].decode(errors='replace')}")
        self.seqs.append(find_seq(body, 0, len(body)))
        if not tally.is_over:
            self.send()


class SocketSender(MemberSocket):
    """One user that sends over its WebSocket and gets the room's messages there, its own included. Messages that become
    due together leave in one write, as from any client that writes what it has."""

    __slots__ = ("_after", "_before", "_due", "_id_before", "_sent_s", "_tally", "name", "seqs")

    def __init__(
        self, reactor: Reactor, tally: SendTally, login: TenantLogin, room_id: str, user: str, options: BenchOptions
    ) -> None:
        super().__init__(reactor, login, room_id, user)
        frame = encode_text(_SPLIT.join(message_parts(room_id, user, options, "send_message")))
        self._before, _, self._after = frame.partition(_SPLIT)
        self._id_before = f'"client_message_id":"{user}.'.encode()
        self._due = 0  # messages to send when all that has arrived is read
        self._tally = tally
        self.name = user
        self._sent_s: deque[float] = deque()
        self.seqs: array[int] = array("Q")

    def send_messages(self, count: int) -> None:
        sent_s, before, after = self._sent_s, self._before, self._after
        first = len(self.seqs) + len(sent_s)
        self._tally.in_flight += count
        sent_s.extend([monotonic()] * count)
        self.send(b"".join([before + number_text(number) + after for number in range(first, first + count)]))

    def on_data(self, data: bytes) -> None:
        super().on_data(data)
        if self._due:
            count, self._due = self._due, 0
            self.send_messages(count)

    def on_sent(self, seq: int, data: bytes, start: int, end: int) -> None:
        tally = self._tally
        tally.latencies.append(monotonic() - self._sent_s.popleft())
        tally.in_flight -= 1
        # Confirmations come in the order in which it was sent: the room has one order for all.
        if data.find(self._id_before + number_text(len(self.seqs)), start, end) < 0:
            self.problems.append(f"{self.user}: confirmed out of turn: {data[start:end].decode()}")
        self.seqs.append(seq)
        if not (tally.is_over or tally.is_paced):
            self._due += 1


def confirmed_ids(senders: Sequence[RestSender] | Sequence[SocketSender]) -> dict[str, dict[int, str]]:
    """BenchRoom id → seq → client_message_id, of all messages that were confirmed."""
    found: dict[str, dict[int, str]] = {}
    for sender in senders:
        of_room = found.setdefault(sender.room_id, {})
        for number, seq in enumerate(sender.seqs):
            of_room[seq] = f"{sender.name}.{number_text(number).decode()}"
    return found


def send_over_rest(job: SendJob, pipe: CommandPipe) -> SendResult:
    reactor, tally = Reactor(polls=job.options.busy_poll), SendTally()
    senders = [
        RestSender(reactor, tally, job.login, room.room_id, user, f"{user}.{number}", job.options)
        for room in job.rooms
        for user in room.users
        for number in range(job.options.window)
    ]
    schedule = pipe.wait_for_start()
    for sender in senders:
        sender.send()
    measurement = measure_sends(reactor, tally, pipe, schedule)
    result = SendResult(measurement, _latencies(tally, measurement), confirmed_ids(senders))
    if tally.in_flight:
        result.problems.append(f"{tally.in_flight} requests were never answered")
    return result


def send_over_sockets(job: SendJob, pipe: CommandPipe) -> SendResult:
    reactor, tally = Reactor(polls=job.options.busy_poll), SendTally()
    rooms = open_sockets(reactor, tally, job)
    senders = [sender for room in rooms for sender in room]
    load = StreamLoad(reactor, job.login, job.seats, rate=job.options.append_rate, size=APPEND_BYTES)
    all_ready(reactor, [*senders, *load.members])
    schedule = pipe.wait_for_start()
    load.begin(schedule)
    if job.options.rate:
        pace(reactor, tally, senders, job.options.rate)
    else:
        for sender in senders:
            sender.send_messages(job.options.window)
    measurement = measure_sends(reactor, tally, pipe, schedule)
    result = finish_sockets(reactor, tally, rooms, measurement)
    result.texts = load.end()
    return result


def pace(reactor: Reactor, tally: SendTally, senders: Sequence[SocketSender], rate: float) -> None:
    """They send in turn, `rate` messages per second together, until it is over."""
    next_sender, next_s = cycle(senders).__next__, monotonic()
    tally.is_paced = True

    def send() -> None:
        nonlocal next_s
        while not tally.is_over and next_s <= monotonic():
            next_sender().send_messages(1)
            next_s += 1 / rate
        if not tally.is_over:
            reactor.call_at(next_s, send)

    send()


def open_sockets(reactor: Reactor, tally: SendTally, job: SendJob) -> list[list[SocketSender]]:
    """The members of each room."""
    return [
        [SocketSender(reactor, tally, job.login, room.room_id, user, job.options) for user in room.users]
        for room in job.rooms
    ]


def finish_sockets(
    reactor: Reactor, tally: SendTally, rooms: Sequence[Sequence[SocketSender]], measurement: Measurement
) -> SendResult:
    """When everybody has what was sent, or after `DRAIN_SECONDS`."""
    senders = [sender for room in rooms for sender in room]
    last_seqs = {room[0].room_id: sum(len(sender.seqs) for sender in room) for room in rooms}
    reactor.run(
        lambda: all(sender.next_seq > last_seqs[sender.room_id] for sender in senders), monotonic() + DRAIN_SECONDS
    )
    result = SendResult(measurement, _latencies(tally, measurement), confirmed_ids(senders))
    if tally.in_flight:
        result.problems.append(f"{tally.in_flight} messages were never confirmed")
    for sender in senders:
        sender.add_to(result, last_seqs[sender.room_id])
    return result


def measure_sends(reactor: Reactor, tally: SendTally, pipe: CommandPipe, schedule: Schedule) -> Measurement:
    measurement = pipe.measure(reactor, schedule, tally.count)
    tally.is_over = True
    reactor.run(lambda: not tally.in_flight, monotonic() + DRAIN_SECONDS)
    return measurement


def _latencies(tally: SendTally, measurement: Measurement) -> "array[float]":
    return tally.latencies[measurement.first : measurement.first + measurement.count]


def run_rest_send(tenant: BenchTenant) -> Outcome:
    return _run(tenant, send_over_rest)


def run_ws_send(tenant: BenchTenant) -> Outcome:
    return _run(tenant, send_over_sockets)


def _run(tenant: BenchTenant, function: "Callable[[SendJob, CommandPipe], SendResult]") -> Outcome:
    options = tenant.options
    members = min(options.members, options.clients)
    return run_sends(tenant, tenant.make_rooms(-(-options.clients // members), members), function)


def run_sends(
    tenant: BenchTenant, rooms: Sequence[BenchRoom], function: "Callable[[SendJob, CommandPipe], SendResult]"
) -> Outcome:
    """All members of these rooms send."""
    options = tenant.options
    parts = share(rooms, options.processes)
    stream_rooms = _make_stream_rooms(tenant)
    seats = [Seat(room, user) for room in stream_rooms for user in room.users]
    jobs = [
        SendJob(
            tenant.login, part, replace(options, rate=options.rate * len(part) / len(rooms)), seats[at :: len(parts)]
        )
        for at, part in enumerate(parts)
    ]
    with ExitStack() as stack:
        endpoint = stack.enter_context(closing(BenchEndpoint(tenant))) if options.events else None
        outcome, results = measure(tenant, function, jobs, "messages")
        if endpoint is not None:
            tenant.progress.step("waiting for the events that are still to be told")
            endpoint.add_to(outcome, sum(result.count() for result in results), results[0].measurement)
    measurements = [result.measurement for result in results]
    outcome.figures["messages_per_s"] = sum(measurement.count / measurement.seconds for measurement in measurements)
    outcome.add_latencies([latency for result in results for latency in result.latencies])
    outcome.add_generator(measurements)
    confirmed: dict[str, dict[int, str]] = {}
    for result in results:
        confirmed |= result.confirmed
        outcome.check.add(result)
    last_seqs = {room: len(confirmed[room.room_id]) for room in rooms}
    check_stored(outcome.check, confirmed, tenant.read_messages(last_seqs))
    if stream_rooms:
        check_texts(tenant, outcome.check, stream_rooms, [result.texts for result in results])
    return outcome


def _make_stream_rooms(tenant: BenchTenant) -> list[BenchRoom]:
    count = tenant.options.streams
    if not count:
        return []
    require_streams(tenant, count)
    return tenant.make_rooms(count, 2, "s")
