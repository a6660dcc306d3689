"""fanout: one sender in a room whose members are all connected."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

from chatapi.cli.bench.crew import CommandPipe, Measurement, share
from chatapi.cli.bench.reactor import Reactor
from chatapi.cli.bench.result import Outcome, check_stored
from chatapi.cli.bench.run import measure
from chatapi.cli.bench.scenarios.send import message_parts, number_text
from chatapi.cli.bench.stream import DRAIN_SECONDS, SYNCED, MemberSocket, all_ready
from chatapi.cli.bench.tenant import BenchOptions, BenchRoom, BenchTenant, TenantLogin
from chatapi.cli.bench.websocket import encode_text

QUIET_SECONDS = 1.0  # without a delivery: then everything has arrived, or is not coming


@dataclass(frozen=True, slots=True)
class FanoutJob:
    login: TenantLogin
    room: BenchRoom
    users: Sequence[str]  # those of this process
    options: BenchOptions


@dataclass(slots=True)
class FanoutResult:
    measurement: Measurement
    sent_s: "array[float]"  # monotonic, by seq - 1; only of the process that sends
    arrived_s: "array[float]"  # by seq - 1: when the last member of this process got it
    confirmed: dict[int, str]
    delivered: int = 0
    missing: int = 0
    doubled: int = 0
    problems: list[str] = field(default_factory=list)


class Audience:
    """The members of one process. All get the same bytes, so that a chunk that the one before has got is not taken
    apart again: its frames are known."""

    def __init__(self) -> None:
        self.chunk = b""
        self.first_seq = 0
        self.last_seq = 0
        self.deliveries = 0
        self.size = 0
        self.arrivals: array[int] = array("L", [0])  # by seq: how many have it
        self.arrived_s: array[float] = array("d", [0.0])
        self.complete = 0  # up to here all have everything

    def count(self) -> int:
        return self.deliveries

    def take(self, first_seq: int, last_seq: int) -> None:
        """One member got these, in order."""
        arrivals = self.arrivals
        self.deliveries += last_seq - first_seq + 1
        while len(arrivals) <= last_seq:
            arrivals.append(0)
            self.arrived_s.append(0.0)
        for seq in range(first_seq, last_seq + 1):
            arrivals[seq] += 1
            if arrivals[seq] == self.size:
                self.arrived_s[seq] = monotonic()
                self.complete = seq
                self.on_complete()

    def on_complete(self) -> None:
        """All members have the next message."""


class Recipient(MemberSocket):
    """A member who tells the audience what they got."""

    __slots__ = ("_audience", "_first_of_chunk", "_is_plain")

    def __init__(self, reactor: Reactor, login: TenantLogin, room_id: str, user: str, audience: Audience) -> None:
        super().__init__(reactor, login, room_id, user)
        self._audience = audience
        self._is_plain = True
        audience.size += 1

    def on_data(self, data: bytes) -> None:
        audience = self._audience
        next_seq = self.next_seq
        if data == audience.chunk and next_seq == audience.first_seq and not self._rest:
            self.next_seq = audience.last_seq + 1
            audience.take(next_seq, audience.last_seq)
            return
        was_whole = not self._rest
        super().on_data(data)
        if self.next_seq > next_seq and self.phase is SYNCED:
            audience.take(next_seq, self.next_seq - 1)
            if was_whole and not self._rest and self._is_plain:
                audience.chunk, audience.first_seq, audience.last_seq = data, next_seq, self.next_seq - 1
        self._is_plain = True

    def on_frame(self, frame: dict[str, object]) -> None:
        self._is_plain = False
        super().on_frame(frame)


class Speaker(Recipient):
    """The member that sends."""

    __slots__ = ("_after", "_before", "ids", "sent_s")

    def __init__(
        self, reactor: Reactor, login: TenantLogin, room_id: str, user: str, audience: Audience, options: BenchOptions
    ) -> None:
        super().__init__(reactor, login, room_id, user, audience)
        before, after = message_parts(room_id, user, options, "send_message")
        frame = encode_text(before + number_text(0) + after)
        self._before, _, self._after = frame.rpartition(number_text(0))
        self.sent_s: array[float] = array("d")
        self.ids: dict[int, str] = {}

    def speak(self) -> None:
        self.send(self._before + number_text(len(self.sent_s)) + self._after)
        self.sent_s.append(monotonic())

    def on_sent(self, seq: int, data: bytes, start: int, end: int) -> None:
        # It is the only one who sends: the seq tells which of its messages it is, and history whether that is so.
        self._is_plain = False
        self.ids[seq] = f"{self.user}.{number_text(seq - 1).decode()}"


def fan_out(job: FanoutJob, pipe: CommandPipe) -> FanoutResult:
    """The work of one process: it has the sender if the room's first user is among its own."""
    reactor, audience, options = Reactor(polls=job.options.busy_poll), Audience(), job.options
    speaker: Speaker | None = None
    recipients: list[Recipient] = []
    for user in job.users:
        if user == job.room.users[0]:
            speaker = Speaker(reactor, job.login, job.room.room_id, user, audience, options)
            recipients.append(speaker)
        else:
            recipients.append(Recipient(reactor, job.login, job.room.room_id, user, audience))
    all_ready(reactor, recipients)
    schedule = pipe.wait_for_start()
    if speaker is not None:
        start_speaking(reactor, speaker, audience, options, schedule.end_s)
    measurement = pipe.measure(reactor, schedule, audience.count)
    last_seq = 0
    if speaker is not None:
        sent = len(speaker.sent_s)
        reactor.run(lambda: len(speaker.ids) == sent, monotonic() + DRAIN_SECONDS)
        last_seq = sent
    # The other processes do not know how much was sent: they stop when nothing more arrives.
    drain(reactor, audience, last_seq)
    last_seq = len(audience.arrivals) - 1
    result = FanoutResult(
        measurement,
        array("d") if speaker is None else speaker.sent_s,
        audience.arrived_s[1:],
        {} if speaker is None else speaker.ids,
    )
    for recipient in recipients:
        recipient.add_to(result, last_seq)
    return result


def start_speaking(reactor: Reactor, speaker: Speaker, audience: Audience, options: BenchOptions, end_s: float) -> None:
    """Sends until `end_s`, which is monotonic: `rate` messages a second or, where that is 0, as many as keep `window`
    under way, each until all members have it."""
    if options.rate:
        begin_s = monotonic()

        def speak_in_time() -> None:
            speaker.speak()
            next_s = begin_s + len(speaker.sent_s) / options.rate
            if next_s < end_s:
                reactor.call_at(next_s, speak_in_time)

        speak_in_time()
        return

    def speak_again() -> None:
        if monotonic() < end_s:
            speaker.speak()

    audience.on_complete = speak_again  # type: ignore[method-assign]  # the process that sends is the one that cares
    for _ in range(options.window):
        speaker.speak()


def drain(reactor: Reactor, audience: Audience, last_seq: int) -> None:
    """Returns when all members of the process have what was sent; `last_seq` is 0 where that is not known."""
    until_s = monotonic() + DRAIN_SECONDS
    while monotonic() < until_s and (not last_seq or audience.complete < last_seq):
        before = audience.deliveries
        reactor.run(lambda: 0 < last_seq <= audience.complete, monotonic() + QUIET_SECONDS)
        if audience.deliveries == before:
            return


def run_fanout(tenant: BenchTenant) -> Outcome:
    options = tenant.options
    room = tenant.make_rooms(1, options.members)[0]
    jobs = [FanoutJob(tenant.login, room, users, options) for users in share(room.users, options.processes)]
    outcome, results = measure(tenant, fan_out, jobs, "deliveries")
    measurements = [result.measurement for result in results]
    outcome.figures["deliveries_per_s"] = sum(measurement.count / measurement.seconds for measurement in measurements)
    outcome.add_latencies(_latencies(results, options))
    outcome.add_generator(measurements)
    check, confirmed = outcome.check, results[0].confirmed
    for result in results:
        check.add(result)
        if len(result.arrived_s) != len(confirmed):
            check.problems.append(f"{len(confirmed)} confirmed, a process got {len(result.arrived_s)} of them")
    check_stored(check, {room.room_id: confirmed}, tenant.read_messages({room: len(confirmed)}))
    return outcome


def _latencies(results: Sequence[FanoutResult], options: BenchOptions) -> list[float]:
    """From each message's sending to its arrival at the last member, without the warm-up's."""
    sent_s = results[0].sent_s
    begin_s = sent_s[0] + options.warmup if sent_s else 0.0
    found = []
    for index, start_s in enumerate(sent_s):
        ends_s = [result.arrived_s[index] for result in results if index < len(result.arrived_s)]
        if start_s >= begin_s and len(ends_s) == len(results) and all(ends_s):
            found.append(max(ends_s) - start_s)
    return found
