"""streams and open-streams: messages that are being written, as they are read and as they lie in memory."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from chatapi.cli.bench.crew import CommandPipe, Crew, Measurement, Schedule, share
from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.growing import GrownTexts, Seat, StreamLoad, check_texts, require_streams
from chatapi.cli.bench.reactor import Reactor
from chatapi.cli.bench.result import MEGABYTE, Outcome
from chatapi.cli.bench.run import measure
from chatapi.cli.bench.stream import MemberSocket, all_ready
from chatapi.cli.bench.tenant import BenchOptions, BenchRoom, BenchTenant, TenantLogin
from chatapi.cli.bench.websocket import encode_text, parse_frame
from chatapi.protocol.json import dumps

PROGRESS_SECONDS = 0.5
OPEN_SECONDS = 50.0  # for all streams to be open: those that wait for longer than 60 s for an append fail
CACHE_MESSAGES, CACHE_MESSAGE_BYTES = 500, 60_000  # more than SQLite's caches hold
SETTLE_SECONDS = 2.0  # for the garbage of the work to be gone


# streams


@dataclass(frozen=True, slots=True)
class StreamsJob:
    login: TenantLogin
    seats: Sequence[Seat]
    options: BenchOptions


@dataclass(slots=True)
class StreamsResult:
    measurement: Measurement  # of appends that were confirmed
    texts: GrownTexts


def write_and_read(job: StreamsJob, pipe: CommandPipe) -> StreamsResult:
    """The work of one process."""
    reactor, options = Reactor(polls=job.options.busy_poll), job.options
    load = StreamLoad(reactor, job.login, job.seats, rate=options.rate, size=options.size)
    all_ready(reactor, load.members)
    schedule = pipe.wait_for_start()
    load.begin(schedule)
    measurement = pipe.measure(reactor, schedule, load.tally.count)
    return StreamsResult(measurement, load.end())


def run_streams(tenant: BenchTenant) -> Outcome:
    options = tenant.options
    require_streams(tenant, options.clients)
    rooms = tenant.make_rooms(options.clients, options.members)
    seats = [Seat(room, user) for room in rooms for user in room.users]
    jobs = [StreamsJob(tenant.login, part, options) for part in share(seats, options.processes)]
    outcome, results = measure(tenant, write_and_read, jobs, "appends")
    measurements, texts = [result.measurement for result in results], [result.texts for result in results]
    outcome.figures["appends_per_s"] = sum(measurement.count / measurement.seconds for measurement in measurements)
    outcome.figures["deltas_per_s"] = sum(part.deltas for part in texts) / options.seconds
    outcome.add_latencies([latency for part in texts for latency in part.delta_latencies])
    outcome.add_operations({"append": [latency for part in texts for latency in part.append_latencies]})
    outcome.add_generator(measurements)
    check_texts(tenant, outcome.check, rooms, texts)
    return outcome


# open-streams


@dataclass(frozen=True, slots=True)
class OpenJob:
    """`counts`: so many streams in each of the rooms, first and then."""

    login: TenantLogin
    rooms: Sequence[BenchRoom]
    counts: tuple[int, int]
    options: BenchOptions


@dataclass(slots=True)
class OpenResult:
    texts: dict[str, dict[str, str]]  # room id → message id → text
    problems: list[str] = field(default_factory=list)


class Opener(MemberSocket):
    """Opens streams, `window` of them at once, each with all its appends at once."""

    __slots__ = ("_confirmed", "_options", "_to_open", "_under_way", "opened")

    def __init__(self, reactor: Reactor, login: TenantLogin, room: BenchRoom, options: BenchOptions) -> None:
        super().__init__(reactor, login, room.room_id, room.users[0])
        self._options = options
        self._to_open = 0
        self._under_way = 0
        self._confirmed: Counter[str] = Counter()  # appends, by message id
        self.opened: dict[str, str] = {}

    @property
    def is_done(self) -> bool:
        return not (self._to_open or self._under_way)

    def open(self, count: int) -> None:
        """So many more."""
        self._to_open += count
        for _ in range(self._options.window):
            self._open_next()

    def _open_next(self) -> None:
        if self._to_open:
            self._to_open -= 1
            self._under_way += 1
            draft = {"type": "send_message", "room_id": self.room_id, "content": "", "stream": True}
            self.send(encode_text(dumps(draft)))

    def _list_appends(self, message_id: str) -> Iterator[str]:
        for index in range(1, self._options.appends + 1):
            yield f"{message_id} {index} ".ljust(self._options.size, ".")[-self._options.size :]

    def on_sent(self, seq: int, data: bytes, start: int, end: int) -> None:
        message_id = parse_frame(data[start:end])["message_id"]
        append = {"type": "message.append", "room_id": self.room_id, "message_id": message_id}
        frames = [
            encode_text(dumps({**append, "index": index, "text": text}))
            for index, text in enumerate(self._list_appends(message_id), start=1)
        ]
        self.send(b"".join(frames))

    def on_frame(self, frame: dict[str, Any]) -> None:
        super().on_frame(frame)
        if frame["type"] == "message.appended":
            message_id = frame["message_id"]
            self._confirmed[message_id] += 1
            if self._confirmed[message_id] == self._options.appends:
                del self._confirmed[message_id]
                self.opened[message_id] = "".join(self._list_appends(message_id))
                self._under_way -= 1
                self._open_next()


def open_and_leave(job: OpenJob, pipe: CommandPipe) -> OpenResult:
    """The work of one process. It waits after each part, so that the command can look at the server's memory."""
    reactor = Reactor()
    openers = [Opener(reactor, job.login, room, job.options) for room in job.rooms]
    all_ready(reactor, openers)
    for count in job.counts:
        pipe.wait_for_start()
        began_s = monotonic()
        for opener in openers:
            opener.open(count)
        while not reactor.run(lambda: all(opener.is_done for opener in openers), monotonic() + PROGRESS_SECONDS):
            pipe.progress(sum(len(opener.opened) for opener in openers))
            if monotonic() > began_s + OPEN_SECONDS:
                raise BenchError(f"the streams were not open within {OPEN_SECONDS:g} s")
        reactor.run_until(monotonic() + SETTLE_SECONDS)
    pipe.wait_for_start()
    result = OpenResult({opener.room_id: opener.opened for opener in openers})
    for opener in openers:
        result.problems += opener.problems
    return result


def run_open_streams(tenant: BenchTenant) -> Outcome:
    """The memory that the second half takes: caches have grown during the first one."""
    options, progress = tenant.options, tenant.progress
    half = max(1, options.streams // 2 // options.clients)  # of each client's
    require_streams(tenant, 2 * half * options.clients)
    rooms = tenant.make_rooms(options.clients, 1)
    _fill_cache(tenant)
    outcome = Outcome()
    jobs = [OpenJob(tenant.login, part, (half, half), options) for part in share(rooms, options.processes)]
    now = Schedule(0.0, 0.0)
    usages = []
    with Crew(open_and_leave, jobs) as crew:
        crew.wait_until_ready(lambda _count: None)
        for number in ("first", "second"):
            progress.step(f"opening the {number} {half * options.clients} streams")
            crew.start(now)
            crew.wait_until_ready(lambda opened: progress.show(f"{opened:,}"))
            usages.append(tenant.target.usage())
        _check_open(tenant, outcome, rooms, crew, now)
    before, after = usages
    if before is not None and after is not None:
        outcome.figures["server_rss_before_mb"] = before.rss_bytes / MEGABYTE
        outcome.figures["server_rss_mb"] = after.rss_bytes / MEGABYTE
        grown = (after.rss_bytes - before.rss_bytes) / (half * options.clients)
        outcome.figures["bytes_per_stream"] = grown - options.appends * options.size
    return outcome


def _fill_cache(tenant: BenchTenant) -> None:
    """SQLite keeps the pages that were written last: up to a bound, which does not depend on streams."""
    room = tenant.make_rooms(1, 1, "w")[0]
    content = "." * CACHE_MESSAGE_BYTES
    sends = [(room.users[0], f"/rooms/{room.room_id}/messages", {"content": content})] * CACHE_MESSAGES
    tenant.ask_many("POST", sends)


def _check_open(
    tenant: BenchTenant,
    outcome: Outcome,
    rooms: Sequence[BenchRoom],
    crew: Crew[OpenJob, OpenResult],
    now: Schedule,
) -> None:
    crew.start(now)
    check = outcome.check
    confirmed: dict[str, dict[str, str]] = {}
    for result in crew.finish():
        confirmed |= result.texts
        check.problems += result.problems
    stored = tenant.read_messages({room: len(confirmed[room.room_id]) for room in rooms})
    for room_id, texts in confirmed.items():
        check.confirmed += len(texts)
        check.stored += len(stored[room_id])
        if {message["message_id"]: message["content"] for message in stored[room_id]} != texts:
            check.problems.append(f"{room_id}: the texts as they are read are not those that were confirmed")
        if any(message["stream"]["state"] != "open" for message in stored[room_id]):
            check.problems.append(f"{room_id}: a stream has ended")
