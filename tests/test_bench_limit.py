"""Which side was the limit, as `chatapi bench` tells it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chatapi.cli import main
from chatapi.cli.bench import limit
from chatapi.cli.bench.limit import LimitProbe, find_limits, read_busy_seconds
from chatapi.cli.bench.report import Series, format_json, format_table
from chatapi.cli.bench.result import Outcome


@pytest.mark.parametrize(
    ("server", "generator", "limits"),
    [
        (1.0, 0.2, (1.0, 0.0)),
        (0.5, 1.0, (0.0, 1.0)),
        (0.95, 1.0, (1.0, 0.0)),  # a faster generator would bring nothing
        (0.5, 0.5, (0.0, 0.0)),
    ],
)
def test_the_limit_is_the_side_with_no_time_left(server: float, generator: float, limits: tuple[float, float]) -> None:
    assert find_limits([(server, generator)]) == limits


def test_it_is_told_as_shares_of_the_time() -> None:
    assert find_limits([(1.0, 0.1), (0.3, 0.95), (0.3, 0.92), (0.3, 0.3)]) == (0.25, 0.5)
    series = [Series(name, [Outcome()]) for name in "ab"]
    for one in series:
        one.outcomes[0].add_limits((0.25, 0.5))
    lines = format_table("title", series).splitlines()
    assert " ".join(lines[2].split()) == "the server was the limit 25 % of time 25 % of time"
    assert " ".join(lines[3].split()) == "the generator was the limit 50 % of time 50 % of time"
    assert json.loads(format_json("ws-send", {}, series))["ratios"] == {"b": {}}


def test_nothing_is_told_of_processes_that_are_unknown() -> None:
    assert len(read_busy_seconds([os.getpid()])) == 1
    assert read_busy_seconds([os.getpid(), 2**30]) == []
    for server, generator in [([], [os.getpid()]), ([os.getpid()], []), ([2**30], [os.getpid()])]:
        with LimitProbe(server, generator) as probe:
            pass
        assert probe.shares() is None
    outcome = Outcome()
    outcome.add_limits(None)
    assert not outcome.figures


@contextmanager
def process(code: str) -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", f"print(flush=True)\n{code}"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()  # it has started
        try:
            yield child.pid
        finally:
            child.kill()


@pytest.mark.slow
def test_a_busy_process_is_told_from_one_that_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit, "SLICE_SECONDS", 0.5)
    with (
        process("while True: pass") as busy,
        process("import time; time.sleep(600)") as asleep,
        LimitProbe([busy, asleep], [asleep]) as first,
        LimitProbe([asleep], [asleep, busy]) as second,
    ):
        while min(len(first._slices), len(second._slices)) < 3:
            time.sleep(0.05)
    server, others = first.shares() or (0, 0)
    assert server > 0
    assert others == 0
    others, generator = second.shares() or (0, 0)
    assert generator > 0
    assert others == 0


@pytest.mark.slow
@pytest.mark.parametrize(("option", "is_told"), [([], True), (["--busy-poll"], False)])
def test_a_run_tells_it(option: list[str], is_told: bool, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--clients", "4", "--seconds", "0.7", "--warmup", "0.2", "--processes", "2", "--json", *option]
    assert main(["bench", "ws-send", *arguments]) == 0
    figures = json.loads(capsys.readouterr().out)["servers"][0]["figures"]
    shares = [figures[key] for key in ("server_limit_percent", "generator_limit_percent") if key in figures]
    assert len(shares) == 2 * is_told
    assert 0 <= sum(shares) <= 100
