"""Generator processes: one per core that the server leaves, each with its part of the clients."""

import gc
import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.reactor import Reactor, raise_descriptor_limit

PROGRESS_SECONDS = 0.5
READY_SECONDS = 180.0  # for all clients of a process to be connected
FINISH_SECONDS = 120.0  # after the end of the measurement, for what was under way
END_SECONDS = 5.0  # for a process that has delivered its result

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Monotonic seconds, which are the same in all processes. The time before `begin_s` is warm-up."""

    begin_s: float
    end_s: float


@dataclass(slots=True)
class Measurement:
    """The work of one process between the begin and the end."""

    count: int = 0
    first: int = 0  # the count at the begin; everything before was warm-up
    seconds: float = 0.0
    cpu_s: float = 0.0
    began_s: float = 0.0  # monotonic


class CommandPipe:
    """A process's end of the line to the command."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def wait_for_start(self) -> Schedule:
        """Says that all clients are there, and returns when the others are too."""
        self._connection.send(("ready", None))
        schedule = self._connection.recv()
        assert isinstance(schedule, Schedule)
        return schedule

    def run_until_start(self, reactor: Reactor) -> None:
        """As `wait_for_start`, while the reactor goes on. Its timers must not be far apart."""
        self._connection.send(("ready", None))
        reactor.run(self._connection.poll, float("inf"))
        self._connection.recv()

    def progress(self, count: int) -> None:
        """`count` is the process's total so far, not what was added."""
        self._connection.send(("progress", count))

    def measure(self, reactor: Reactor, schedule: Schedule, count: Callable[[], int]) -> Measurement:
        """Runs the reactor to the schedule's end; `count` tells what has been done so far."""
        measurement = Measurement()

        def report() -> None:
            self.progress(count())
            reactor.call_at(time.monotonic() + PROGRESS_SECONDS, report)

        reactor.run_until(schedule.begin_s)
        report()
        began_s, began_cpu_s, measurement.first = time.monotonic(), time.process_time(), count()
        measurement.began_s = began_s
        reactor.run_until(schedule.end_s)
        measurement.seconds = time.monotonic() - began_s
        measurement.cpu_s = time.process_time() - began_cpu_s
        measurement.count = count() - measurement.first
        return measurement


def _work(connection: Connection, function: Callable[[Any, CommandPipe], Any], job: Any) -> None:
    raise_descriptor_limit()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command ends its processes
    gc.disable()  # a pause of the generator would look like one of the server; it lives for seconds
    try:
        connection.send(("done", function(job, CommandPipe(connection))))
    except BenchError as error:
        connection.send(("failed", str(error)))
    except Exception:  # noqa: BLE001 - it is raised again by the command
        connection.send(("failed", traceback.format_exc()))


@dataclass(slots=True)
class Crew(Generic[Job, Result]):
    """One process per job. `function` is a module's own, since the processes import it."""

    function: Callable[[Job, CommandPipe], Result]
    jobs: Sequence[Job]
    _processes: list[Any] = field(default_factory=list)
    _pipes: list[Connection] = field(default_factory=list)
    _counts: dict[Connection, int] = field(default_factory=dict)
    _results: dict[Connection, Result] = field(default_factory=dict)
    _ready: set[Connection] = field(default_factory=set)

    def __enter__(self) -> "Crew[Job, Result]":
        context = multiprocessing.get_context("spawn")
        for job in self.jobs:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, self.function, job), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)
        return self

    def __exit__(self, *_error: object) -> None:
        is_finished = len(self._results) == len(self._pipes)
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            if is_finished:
                process.join(END_SECONDS)  # it ends by itself
            process.terminate()
            process.join()

    def find_pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def wait_until_ready(self, show: Callable[[int], None]) -> None:
        """Returns when every process waits for its (next) start."""
        deadline_s = time.monotonic() + READY_SECONDS
        while len(self._ready) < len(self._pipes):
            self._receive(deadline_s)
            show(sum(self._counts.values()))

    def start(self, schedule: Schedule) -> None:
        """Lets all processes go on, each of which waits in `wait_for_start`; see `wait_until_ready`."""
        self._ready.clear()
        for pipe in self._pipes:
            pipe.send(schedule)

    def watch(self, until_s: float, show: Callable[[int], None]) -> None:
        """Returns at that time; shows meanwhile what all have counted together."""
        while (now_s := time.monotonic()) < until_s and len(self._results) < len(self._pipes):
            self._receive_some(until_s - now_s)
            show(sum(self._counts.values()))

    def finish(self, seconds: float = FINISH_SECONDS) -> list[Result]:
        """All results, in the jobs' order. Raises BenchError for what went wrong in a process."""
        deadline_s = time.monotonic() + seconds
        while len(self._results) < len(self._pipes):
            self._receive(deadline_s)
        return [self._results[pipe] for pipe in self._pipes]

    def _receive(self, deadline_s: float) -> None:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise BenchError("the generator's processes make no progress: is the server stuck?")
        self._receive_some(left_s)

    def _receive_some(self, seconds: float) -> None:
        waiting = [pipe for pipe in self._pipes if pipe not in self._results]
        for pipe in wait(waiting, seconds):
            assert isinstance(pipe, Connection)
            try:
                kind, value = pipe.recv()
            except EOFError:
                raise BenchError("a generator process died") from None
            if kind == "failed":
                raise BenchError(value)
            if kind == "progress":
                self._counts[pipe] = value
            elif kind == "ready":
                self._ready.add(pipe)
            else:
                self._results[pipe] = value


def share(items: Sequence[Any], processes: int) -> list[list[Any]]:
    """The items in as many parts, of which none is empty."""
    return [list(items[part::processes]) for part in range(min(processes, len(items)))]


def percentile(ordered: Sequence[float], percent: float) -> float:
    """By nearest rank."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, max(0, -int(-len(ordered) * percent // 100) - 1))]
