"""slow: readers that stop reading in a busy room. The others must not feel it, the server's memory must not show it,
and when the slow ones read again, they must get all that they have missed."""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic, process_time

from chatapi.cli.bench.crew import CommandPipe, Crew, Measurement, Schedule
from chatapi.cli.bench.reactor import Reactor
from chatapi.cli.bench.result import MEGABYTE, Outcome, check_stored
from chatapi.cli.bench.run import START_DELAY_SECONDS, observe
from chatapi.cli.bench.scenarios.fanout import QUIET_SECONDS, Audience, Recipient, Speaker, drain, start_speaking
from chatapi.cli.bench.stream import DRAIN_SECONDS, MemberSocket, all_ready
from chatapi.cli.bench.target import Usage
from chatapi.cli.bench.tenant import BenchOptions, BenchRoom, BenchTenant, TenantLogin

PROMPT_READERS = 10
RECEIVE_BUFFER_BYTES = 65_536  # of a slow reader: the server does not see the bytes that a client's kernel holds
SAMPLE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class SlowJob:
    """The users of one process: all its readers but one are slow, or its first user sends and all are prompt."""

    login: TenantLogin
    room: BenchRoom
    users: Sequence[str]
    is_slow: bool
    options: BenchOptions


@dataclass(slots=True)
class SlowResult:
    measurement: Measurement  # of the slow ones: from when they read again until they had caught up
    confirmed: dict[int, str] = field(default_factory=dict)  # seq → client_message_id, of the process that sends
    reached: list[int] = field(default_factory=list)  # each reader's last seq
    latencies: "array[float]" = field(default_factory=lambda: array("d"))  # to the last of the prompt readers
    caught_up_s: float = 0.0
    delivered: int = 0
    missing: int = 0
    doubled: int = 0
    problems: list[str] = field(default_factory=list)


def play(job: SlowJob, pipe: CommandPipe) -> SlowResult:
    return _read_slowly(job, pipe) if job.is_slow else _send_and_read(job, pipe)


def _send_and_read(job: SlowJob, pipe: CommandPipe) -> SlowResult:
    reactor, audience, options = Reactor(), Audience(), job.options
    login, room_id = job.login, job.room.room_id
    speaker = Speaker(reactor, login, room_id, job.users[0], audience, options)
    recipients: list[Recipient] = [
        speaker,
        *(Recipient(reactor, login, room_id, user, audience) for user in job.users[1:]),
    ]
    all_ready(reactor, recipients)
    schedule = pipe.wait_for_start()
    start_speaking(reactor, speaker, audience, options, schedule.end_s)
    result = SlowResult(pipe.measure(reactor, schedule, lambda: audience.complete))
    reactor.run(lambda: len(speaker.ids) == len(speaker.sent_s), monotonic() + DRAIN_SECONDS)
    drain(reactor, audience, len(speaker.sent_s))
    for seq in range(result.measurement.first + 1, result.measurement.first + result.measurement.count + 1):
        result.latencies.append(audience.arrived_s[seq] - speaker.sent_s[seq - 1])
    result.confirmed = speaker.ids
    _report_reached(reactor, pipe, recipients, result)
    return result


def _read_slowly(job: SlowJob, pipe: CommandPipe) -> SlowResult:
    reactor, options = Reactor(), job.options
    login, room_id = job.login, job.room.room_id
    # A member that reads on knows how far the others have to catch up.
    witness = MemberSocket(reactor, login, room_id, job.users[0])
    readers = [
        MemberSocket(reactor, login, room_id, user, receive_buffer_bytes=RECEIVE_BUFFER_BYTES) for user in job.users[1:]
    ]
    all_ready(reactor, [witness, *readers])
    schedule = pipe.wait_for_start()
    reactor.run_until(schedule.begin_s)
    for reader in readers:
        reader.stop_reading()
    reactor.run_until(schedule.begin_s + options.stall)
    result = SlowResult(Measurement())
    for reader in readers:
        reader.start_reading()
    resumed_s, resumed_cpu_s, last_seq = monotonic(), process_time(), witness.next_seq - 1
    if reactor.run(lambda: all(reader.next_seq > last_seq for reader in readers), resumed_s + DRAIN_SECONDS):
        result.caught_up_s = monotonic() - resumed_s
    else:
        behind = sum(reader.next_seq <= last_seq for reader in readers)
        result.problems.append(f"{behind} slow readers had not caught up after {DRAIN_SECONDS:g} s")
    result.measurement.seconds, result.measurement.cpu_s = monotonic() - resumed_s, process_time() - resumed_cpu_s
    reactor.run_until(schedule.end_s)
    _wait_for_quiet(reactor, witness)
    _report_reached(reactor, pipe, [witness, *readers], result)
    return result


def _wait_for_quiet(reactor: Reactor, witness: MemberSocket) -> None:
    last_seq = -1
    until_s = monotonic() + DRAIN_SECONDS
    while witness.next_seq != last_seq and monotonic() < until_s:
        last_seq = witness.next_seq
        reactor.run_until(monotonic() + QUIET_SECONDS)


def _report_reached(reactor: Reactor, pipe: CommandPipe, members: Sequence[MemberSocket], result: SlowResult) -> None:
    """The command looks at the server's memory while all are still connected."""
    pipe.wait_for_start()
    for member in members:
        result.reached.append(member.next_seq - 1)
        member.add_to(result, member.next_seq - 1)
    reactor.close()


def run_slow(tenant: BenchTenant) -> Outcome:
    options = tenant.options
    room = tenant.make_rooms(1, options.connections + PROMPT_READERS + 1)[0]
    prompt, slow = room.users[:PROMPT_READERS], room.users[PROMPT_READERS:]
    jobs = [
        SlowJob(tenant.login, room, prompt, is_slow=False, options=options),
        SlowJob(tenant.login, room, slow, is_slow=True, options=options),
    ]
    with Crew(play, jobs) as crew:
        tenant.progress.step("connecting")
        crew.wait_until_ready(_ignore)
        begin_s = monotonic() + START_DELAY_SECONDS + options.warmup
        schedule = Schedule(begin_s, begin_s + options.stall + options.seconds)
        crew.start(schedule)
        crew.watch(schedule.begin_s, _ignore)
        tenant.progress.step(f"{options.connections} readers stop for {options.stall:g} s")
        outcome = Outcome()
        with observe(tenant, outcome):
            usages = _sample(tenant, schedule, lambda until_s: crew.watch(until_s, _ignore))
        tenant.progress.step("waiting for all to catch up")
        crew.wait_until_ready(_ignore)
        after = tenant.target.usage()
        crew.start(schedule)
        results = crew.finish()
    _report(outcome, results, usages, after)
    last_seqs = {room: len(results[0].confirmed)}
    check_stored(outcome.check, {room.room_id: results[0].confirmed}, tenant.read_messages(last_seqs))
    return outcome


def _sample(tenant: BenchTenant, schedule: Schedule, wait_until: Callable[[float], None]) -> list[Usage]:
    usages = []
    while monotonic() < schedule.end_s:
        if (usage := tenant.target.usage()) is not None:
            usages.append(usage)
        wait_until(min(schedule.end_s, monotonic() + SAMPLE_SECONDS))
    return usages


def _ignore(_count: int) -> None:
    return


def _report(outcome: Outcome, results: Sequence[SlowResult], usages: Sequence[Usage], after: Usage | None) -> None:
    prompt, slow = results
    if usages and after is not None:
        outcome.figures["server_rss_before_mb"] = usages[0].rss_bytes / MEGABYTE
        outcome.figures["server_rss_peak_mb"] = max(usage.rss_bytes for usage in usages) / MEGABYTE
        outcome.figures["server_rss_mb"] = after.rss_bytes / MEGABYTE
    outcome.figures["messages_per_s"] = prompt.measurement.count / prompt.measurement.seconds
    outcome.figures["caught_up_s"] = slow.caught_up_s
    outcome.add_latencies(prompt.latencies)
    outcome.add_generator([prompt.measurement, slow.measurement])
    last_seq = len(prompt.confirmed)
    for result in results:
        outcome.check.add(result)
        outcome.check.missing += sum(max(0, last_seq - reached) for reached in result.reached)
        if max(result.reached) > last_seq:
            outcome.check.problems.append(f"seq {max(result.reached)} was delivered, {last_seq} were confirmed")
