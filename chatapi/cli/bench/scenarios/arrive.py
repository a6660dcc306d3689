"""connect, idle and recovery: many users connect, as fast as they are let in."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic, process_time
from typing import Any

from chatapi.cli.bench.crew import PROGRESS_SECONDS, CommandPipe, Crew, Measurement, Schedule, share
from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.event_stream import EventSplitter
from chatapi.cli.bench.event_stream import encode_opening as encode_stream_opening
from chatapi.cli.bench.reactor import Reactor
from chatapi.cli.bench.result import MEGABYTE, Outcome
from chatapi.cli.bench.run import observe
from chatapi.cli.bench.stream import SYNCED, MemberSocket
from chatapi.cli.bench.target import ThrowAwayServer, Usage
from chatapi.cli.bench.tenant import BenchOptions, BenchRoom, BenchTenant, TenantLogin

ARRIVE_SECONDS = 150.0  # for all to be served
SETTLE_SECONDS = 2.0  # after the last one is there: the garbage of the connecting is gone then
SEED_SENDER = 1  # of each room in `recovery`: it does not connect


@dataclass(frozen=True, slots=True)
class ArriveJob:
    """The users of one process. `window` of them are on the way in at once."""

    login: TenantLogin
    users: Sequence[tuple[str, str]]  # room id, user
    last_seq: int  # of each room
    window: int
    transport: str


@dataclass(slots=True)
class ArriveResult:
    """Monotonic seconds; the latencies are from a connection's beginning."""

    first_s: float = 0.0
    last_ready_s: float = 0.0
    last_served_s: float = 0.0
    cpu_s: float = 0.0
    ready_latencies: "array[float]" = field(default_factory=lambda: array("d"))
    served_latencies: "array[float]" = field(default_factory=lambda: array("d"))
    delivered: int = 0
    missing: int = 0
    doubled: int = 0
    problems: list[str] = field(default_factory=list)


class Arrivals:
    """The users of one process, of whom a bounded number is on the way in at once."""

    def __init__(self, reactor: Reactor, job: ArriveJob, result: ArriveResult) -> None:
        self._reactor = reactor
        self._job = job
        self._waiting: Iterator[tuple[str, str]] = iter(job.users)
        self.result = result
        self.members: list[Arrival] = []
        self.served = 0

    def let_in(self) -> None:
        """Lets the first ones in; each that has been served makes room for the next."""
        for _ in range(self._job.window):
            self._let_in_next()

    def _let_in_next(self) -> None:
        following = next(self._waiting, None)
        if following is not None:
            kind = StreamArrival if self._job.transport == "sse" else Arrival
            self.members.append(kind(self._reactor, self._job.login, *following, self))

    def on_ready(self, member: "Arrival") -> None:
        self.result.last_ready_s = monotonic()
        self.result.ready_latencies.append(self.result.last_ready_s - member.began_s)

    def on_served(self, member: "Arrival") -> None:
        self.served += 1
        self.result.last_served_s = monotonic()
        self.result.served_latencies.append(self.result.last_served_s - member.began_s)
        if member.next_seq != self._job.last_seq + 1:
            self.result.problems.append(f"{member.user}: sync.complete after seq {member.next_seq - 1}")
        self._let_in_next()


class Arrival(MemberSocket):
    __slots__ = ("_arrivals", "began_s")

    def __init__(self, reactor: Reactor, login: TenantLogin, room_id: str, user: str, arrivals: Arrivals) -> None:
        self.began_s = monotonic()
        self._arrivals = arrivals
        super().__init__(reactor, login, room_id, user)

    def on_frame(self, frame: dict[str, Any]) -> None:
        super().on_frame(frame)
        if frame["type"] == "ready":
            self._arrivals.on_ready(self)
        elif frame["type"] == "sync.complete":
            self._arrivals.on_served(self)


class StreamArrival(Arrival):
    """One over Server-Sent Events."""

    __slots__ = ("_splitter",)

    def encode_opening(self, login: TenantLogin, user: str, query: str) -> bytes:
        self._splitter = EventSplitter()
        return encode_stream_opening(login.host, login.headers(user))

    def on_data(self, data: bytes) -> None:
        for frame in self._splitter.split(data):
            self.take_text(frame, 0, len(frame))


def arrive(job: ArriveJob, pipe: CommandPipe) -> ArriveResult:
    """The work of one process. It waits twice after all are served, so that the command can look at the server's
    memory."""
    reactor, result = Reactor(), ArriveResult()
    arrivals = Arrivals(reactor, job, result)
    pipe.wait_for_start()
    result.first_s, cpu_s = monotonic(), process_time()
    arrivals.let_in()
    while not reactor.run(lambda: arrivals.served == len(job.users), monotonic() + PROGRESS_SECONDS):
        pipe.progress(arrivals.served)
        if monotonic() > result.first_s + ARRIVE_SECONDS:
            raise BenchError(f"{arrivals.served} of {len(job.users)} were served within {ARRIVE_SECONDS:g} s")
    result.cpu_s = process_time() - cpu_s
    pipe.wait_for_start()  # the command looks at the server meanwhile
    reactor.run_until(monotonic() + SETTLE_SECONDS)
    pipe.wait_for_start()  # and again
    for member in arrivals.members:
        if member.phase is not SYNCED:
            result.problems.append(f"{member.user}: not served")
        member.add_to(result, job.last_seq)
    return result


@dataclass(slots=True)
class Storm:
    """How it went, from all processes, and the server before and a while after the last one was served."""

    results: Sequence[ArriveResult]
    before: Usage | None
    after: Usage | None

    @property
    def first_s(self) -> float:
        """When the first process began, in monotonic seconds."""
        return min(result.first_s for result in self.results)

    @property
    def seconds(self) -> float:
        """From the beginning until the last user had their backlog."""
        return max(result.last_served_s for result in self.results) - self.first_s

    @property
    def ready_seconds(self) -> float:
        """From the beginning until the last user had their `ready`."""
        return max(result.last_ready_s for result in self.results) - self.first_s


def _let_all_in(tenant: BenchTenant, outcome: Outcome, users: Sequence[tuple[str, str]], last_seq: int = 0) -> Storm:
    """The server's side is in the outcome."""
    options, progress, target = tenant.options, tenant.progress, tenant.target
    parts = share(users, options.processes)
    window = max(1, options.window // len(parts))
    progress.step(f"connecting {len(users)} users")
    with Crew(arrive, [ArriveJob(tenant.login, part, last_seq, window, options.transport) for part in parts]) as crew:
        now = Schedule(0.0, 0.0)
        crew.wait_until_ready(_ignore)
        before = target.usage()
        with observe(tenant, outcome):
            crew.start(now)
            crew.wait_until_ready(lambda count: progress.show(f"{count:,}"))
        crew.start(now)
        crew.wait_until_ready(_ignore)
        after = target.usage()
        crew.start(now)
        return Storm(crew.finish(), before, after)


def _ignore(_count: int) -> None:
    return


def _report(tenant: BenchTenant, storm: Storm, outcome: Outcome) -> None:
    if storm.before is not None and storm.after is not None:
        outcome.figures["server_rss_before_mb"] = storm.before.rss_bytes / MEGABYTE
        outcome.figures["server_rss_mb"] = storm.after.rss_bytes / MEGABYTE
    outcome.add_generator([Measurement(seconds=storm.seconds, cpu_s=result.cpu_s) for result in storm.results])
    for result in storm.results:
        outcome.check.add(result)
    outcome.check.notes.append(f"{tenant.options.connections:,} connections, each ready and served")


def run_connect(tenant: BenchTenant) -> Outcome:
    """Each user is in one room, which is in the server's memory."""
    outcome = Outcome()
    storm = _let_all_in(tenant, outcome, _users_of(_make_rooms(tenant.options, tenant), tenant.options))
    _report(tenant, storm, outcome)
    outcome.figures["handshakes_per_s"] = tenant.options.connections / storm.ready_seconds
    outcome.add_latencies([latency for result in storm.results for latency in result.ready_latencies])
    return outcome


def run_idle(tenant: BenchTenant) -> Outcome:
    """A throw-away server is restarted for it, so that memory left over from the preparation serves no connection."""
    rooms = _make_rooms(tenant.options, tenant)
    if isinstance(tenant.target, ThrowAwayServer):
        tenant.progress.step("restarting the server")
        tenant.target.restart()
    outcome = Outcome()
    storm = _let_all_in(tenant, outcome, _users_of(rooms, tenant.options))
    _report(tenant, storm, outcome)
    outcome.figures["handshakes_per_s"] = tenant.options.connections / storm.ready_seconds
    if storm.before is not None and storm.after is not None:
        grown_bytes = storm.after.rss_bytes - storm.before.rss_bytes
        outcome.figures["bytes_per_connection"] = grown_bytes / tenant.options.connections
    return outcome


def run_recovery(tenant: BenchTenant) -> Outcome:
    """All were away while messages came, and return at once when the server does."""
    options = tenant.options
    rooms = _make_rooms(options, tenant, SEED_SENDER)
    tenant.seed(rooms, options.missed)
    tenant.progress.step("restarting the server")
    tenant.target.restart()
    outcome = Outcome()
    storm = _let_all_in(tenant, outcome, _users_of(rooms, options, SEED_SENDER), options.missed)
    _report(tenant, storm, outcome)
    outcome.figures["caught_up_s"] = storm.seconds
    outcome.add_latencies([latency for result in storm.results for latency in result.served_latencies])
    return outcome


def _make_rooms(options: BenchOptions, tenant: BenchTenant, absent: int = 0) -> list[BenchRoom]:
    return tenant.make_rooms(-(-options.connections // options.members), options.members + absent)


def _users_of(rooms: Sequence[BenchRoom], options: BenchOptions, absent: int = 0) -> list[tuple[str, str]]:
    """The room and the name of each who connects. One of each room in turn: neighbours do not come together."""
    users = [(room.room_id, room.users[absent + index]) for index in range(options.members) for room in rooms]
    return users[: options.connections]
