"""wear: bytes that the server writes to the disk for each message, when few come and when many do."""

import copy
import os
import time
import urllib.request
from dataclasses import dataclass, replace

from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.result import MEGABYTE, Outcome
from chatapi.cli.bench.scenarios.send import run_sends, send_over_sockets
from chatapi.cli.bench.target import ThrowAwayServer, read_written_bytes
from chatapi.cli.bench.tenant import BenchOptions, BenchTenant
from chatapi.store.standalone import checkpoint

# Messages per second, and for which part of --seconds: the fewer, the more the regular jobs count beside them, of which
# the slowest come twice a minute.
RATES = ((1.0, 1.0), (10.0, 1 / 2), (100.0, 1 / 4), (1000.0, 1 / 6))
QUIET_PART = 1 / 3
OWN_RATE = "own"  # in the names of figures: that of --rate

DAY_SECONDS = 86_400
METRIC = "chatapi_commit_writes_count "


@dataclass(slots=True)
class Reading:
    """So far. `written_bytes` are those that the server has given to the disk, and the checkpoint that was made for
    this reading."""

    written_bytes: int
    file_bytes: int
    commits: float
    at_s: float


class Disk:
    def __init__(self, server: ThrowAwayServer) -> None:
        self._server = server
        self._checkpoints_bytes = 0

    def read(self) -> Reading:
        """All that was stored is in the database then: else the copying would be left to others."""
        at_s = time.monotonic()
        own_pid, pid = os.getpid(), self._server.find_pid()
        assert pid is not None
        database = self._server.database
        before = read_written_bytes(own_pid)
        checkpoint(str(database))
        after, servers = read_written_bytes(own_pid), read_written_bytes(pid)
        if before is None or after is None or servers is None:
            raise BenchError("wear needs /proc/PID/io, which only Linux has")
        self._checkpoints_bytes += after - before
        written = servers + self._checkpoints_bytes
        return Reading(written, database.stat().st_size, self._count_commits(), at_s)

    def _count_commits(self) -> float:
        with urllib.request.urlopen(f"{self._server.url}/metrics") as answer:  # noqa: S310 - our own server's
            lines = answer.read().decode().splitlines()
        return next(float(line.removeprefix(METRIC)) for line in lines if line.startswith(METRIC))


def run_wear(tenant: BenchTenant) -> Outcome:
    options, server = tenant.options, tenant.target
    if not isinstance(server, ThrowAwayServer):
        raise BenchError("wear looks at the server's files: it needs a throw-away one, without --url")
    disk, outcome = Disk(server), Outcome()
    rates = [(OWN_RATE, options.rate, 1.0)] if options.rate else [(f"{rate:g}", rate, part) for rate, part in RATES]
    tenant.progress.step("looking at a server that does nothing")
    before = disk.read()
    time.sleep(options.seconds * QUIET_PART)
    after = disk.read()
    # Jobs that find nothing to do make commits that write nothing.
    quiet_per_s = (after.commits - before.commits) / (after.at_s - before.at_s)
    for name, rate, part in rates:
        _measure(tenant, disk, outcome, quiet_per_s, name, replace(options, rate=rate, seconds=options.seconds * part))
    return outcome


def _measure(
    tenant: BenchTenant, disk: Disk, outcome: Outcome, quiet_per_s: float, name: str, options: BenchOptions
) -> None:
    members = min(options.members, options.clients)
    rooms = tenant.make_rooms(-(-options.clients // members), members, f"w{name}u")
    sender = copy.copy(tenant)
    sender.options = options
    before = disk.read()
    sent = run_sends(sender, rooms, send_over_sockets)
    after = disk.read()
    outcome.check.join(sent.check)
    count = sent.check.confirmed
    if not count:
        raise BenchError("no message was confirmed")
    written, seconds = after.written_bytes - before.written_bytes, after.at_s - before.at_s
    figures = {
        "kb_each": written / count / 1000,
        "growth_each": (after.file_bytes - before.file_bytes) / count,
        "commits_each": max(0.0, after.commits - before.commits - quiet_per_s * seconds) / count,
        "mb_day": written / count * options.rate * DAY_SECONDS / MEGABYTE,
        "p50_ms": sent.figures["p50_ms"],
        "p99_ms": sent.figures["p99_ms"],
    }
    outcome.figures |= {f"wear_{name}_{key}": value for key, value in figures.items()}
