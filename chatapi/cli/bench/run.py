"""A measurement as most scenarios make it: start the generator, warm up, measure both sides for a while."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

from chatapi.cli.bench.crew import CommandPipe, Crew, Schedule
from chatapi.cli.bench.limit import LimitProbe
from chatapi.cli.bench.probe import PauseProbe
from chatapi.cli.bench.result import Outcome
from chatapi.cli.bench.tenant import BenchTenant

START_DELAY_SECONDS = 0.1  # so that all processes have heard of the start when it comes

Job = TypeVar("Job")
Result = TypeVar("Result")


@contextmanager
def observe(tenant: BenchTenant, outcome: Outcome) -> Iterator[None]:
    """Puts what the server takes inside into the outcome."""
    before, began_s = tenant.target.usage(), monotonic()
    if tenant.options.pauses:
        with PauseProbe(tenant.target) as probe:
            yield
        outcome.figures["longest_pause_ms"] = probe.longest_s * 1000
        outcome.check.problems += [probe.failure] if probe.failure else []
    else:
        yield
    outcome.add_server(before, tenant.target.usage(), monotonic() - began_s)


def measure(
    tenant: BenchTenant, function: Callable[[Job, CommandPipe], Result], jobs: Sequence[Job], noun: str
) -> tuple[Outcome, list[Result]]:
    """The server's side is in the outcome; the results are the generator's."""
    options, progress = tenant.options, tenant.progress
    outcome = Outcome()
    progress.step("connecting")
    with Crew(function, jobs) as crew:
        crew.wait_until_ready(lambda count: progress.show(f"{count:,}"))
        begin_s = monotonic() + START_DELAY_SECONDS + options.warmup
        schedule = Schedule(begin_s, begin_s + options.seconds)
        crew.start(schedule)
        progress.step("warming up")
        crew.watch(schedule.begin_s, lambda count: progress.show(f"{count:,} {noun}"))
        progress.step(f"measuring for {options.seconds:g} s")
        # A generator that polls is always busy, and that says nothing.
        ours = [] if options.busy_poll else crew.find_pids()
        with LimitProbe(tenant.target.find_pids(), ours) as probe, observe(tenant, outcome):
            crew.watch(schedule.end_s, lambda count: progress.show(f"{count:,} {noun}"))
        outcome.add_limits(probe.shares())
        progress.step("waiting for what is under way")
        results = crew.finish()
    return outcome, results
