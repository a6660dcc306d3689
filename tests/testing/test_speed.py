"""How fast the server of a test is there and forgets: contract, section 14.

What is printed says something on a quiet machine. What is asserted is the processor's time, which grows by less than
a half while the machine does much else.
"""

import os
import time
from pathlib import Path

import pytest

from chatapi.testing.server import Server

pytestmark = pytest.mark.bench

START_SECONDS = 0.5
RESET_SECONDS = 0.02
RESETS = 20
BUSY = 2  # times as much at most


def cpu_seconds_of(server: Server) -> float:
    """Of the server's process."""
    child = server._process._process
    assert child is not None
    # The name in parentheses may hold anything; numbers follow it. Fields 14 and 15 are utime and stime.
    fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_it_starts_and_forgets_fast() -> None:
    begun_s = time.monotonic()
    server = Server({})
    server.start()
    started_s = time.monotonic() - begun_s
    try:
        start_cpu_s = cpu_seconds_of(server)
        resets_s, reset_cpu_s = [], 0.0
        for _ in range(RESETS):
            server.user("alice").create_room("group", ["bob"])
            begun_s, begun_cpu_s = time.monotonic(), cpu_seconds_of(server)
            server.reset()
            resets_s.append(time.monotonic() - begun_s)
            reset_cpu_s += cpu_seconds_of(server) - begun_cpu_s
    finally:
        server.close()
    median_s = sorted(resets_s)[RESETS // 2]
    print(f"start {started_s:.3f} s, of the processor's {start_cpu_s:.2f}")
    print(f"reset {median_s * 1000:.1f} ms, of the processor's {reset_cpu_s / RESETS * 1000:.1f}")
    assert start_cpu_s <= BUSY * START_SECONDS
    assert reset_cpu_s / RESETS <= BUSY * RESET_SECONDS
