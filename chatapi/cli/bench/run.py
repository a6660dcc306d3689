"""A measurement as most scenarios make it: start the generator, warm up, measure both sides for a while."""

from collections.abc import Callable, Sequence
from time import monotonic
from typing import TypeVar

from chatapi.cli.bench.crew import Crew, Link, Schedule
from chatapi.cli.bench.result import Outcome
from chatapi.cli.bench.stage import Stage

START_DELAY_SECONDS = 0.1  # so that all processes have heard of the start when it comes

Job = TypeVar("Job")
Result = TypeVar("Result")


def measure(
    stage: Stage, function: Callable[[Job, Link], Result], jobs: Sequence[Job], noun: str
) -> tuple[Outcome, list[Result]]:
    """The server's side is in the outcome; the results are the generator's."""
    options, progress, target = stage.options, stage.progress, stage.target
    outcome = Outcome()
    progress.step("connecting")
    with Crew(function, jobs) as crew:
        crew.wait_until_ready(lambda count: progress.show(f"{count:,}"))
        begin_s = monotonic() + START_DELAY_SECONDS + options.warmup
        schedule = Schedule(begin_s, begin_s + options.seconds)
        crew.start(schedule)
        progress.step("warming up")
        crew.watch(schedule.begin_s, lambda count: progress.show(f"{count:,} {noun}"))
        before, began_s = target.usage(), monotonic()
        progress.step(f"measuring for {options.seconds:g} s")
        crew.watch(schedule.end_s, lambda count: progress.show(f"{count:,} {noun}"))
        after = target.usage()
        outcome.add_server(before, after, monotonic() - began_s)
        progress.step("waiting for what is under way")
        results = crew.finish()
    return outcome, results
