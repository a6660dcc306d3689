"""`python tests/measure_machine.py --memory 64,128,256,512 --cores 0.25,0.5,1`: the table "How big a machine" of
docs/operations.md. It takes about a minute for each cell, root, and cgroups.

A server runs in a cgroup of that size, this program outside of it. Users connect, each to a room of ten, until the
first is refused, and then 2,000 more. With half of them connected, 50 send, and the highest rate is looked for at which
99 of 100 messages are confirmed within 100 ms. Then too much is asked for at once: twice that rate, 500 clients that
read nothing, 200 large bodies, 50 pages, half of which nobody reads, an export, and the connections again. At the end
the server has to serve half of the rate within 100 ms again. If it does not, or the kernel has killed it, the command
fails.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from machine_cgroup import Cgroup, NoCgroup
from machine_crowd import LIMIT_MS, MEMBERS, SENDERS, Asking, Crew, Crowd
from server_process import ServerProcess, free_port

from chatapi.cli.bench.http import exchange
from chatapi.cli.bench.reactor import find_address, raise_descriptor_limit

HOST = "127.0.0.1"
CONNECT_SECONDS = 60.0
TRIES = 2  # of each rate: something else may have had the machine
RECOVERY_SECONDS = 60.0
MORE_CONNECTIONS = 2_000
FIRST_RATE, MAX_RATE = 100.0, 25_600.0
STEPS = (2.0, 1.25)  # by which the rate grows, until it is too high; then the second one
SLOW_READERS = 500
LARGE_BODIES = 200
LARGE_BODY = json.dumps({"content": "x" * 60_000, "metadata": {"padding": "y" * 15_000}, "padding": "z" * 120_000})
PAGES = 50
NO_CGROUP = 2  # the exit status
SETTINGS = {
    "limits.rate_limit": "1000000",
    "limits.rate_burst": "1000000",
    "limits.user_rate_limit": "0",
    "limits.connections_per_user": "100",
}


@dataclass
class Cell:
    """A row of the table."""

    memory_mb: int
    cores: float
    held: int = 0
    is_full: bool = False  # the first was refused; else there were no more descriptors, or no more time
    refused: Counter[str] = field(default_factory=Counter)
    rate: float = 0.0
    beyond: Counter[str] = field(default_factory=Counter)
    recovery_seconds: float = float("inf")  # until it serves as before
    kills: int = 0

    @property
    def is_served(self) -> bool:
        return not self.kills and self.rate > 0 and self.recovery_seconds < float("inf")

    def format(self) -> str:
        limit = "memory" if self.is_full else "descriptors"
        held = f"{self.held:,}" if self.is_full else f"{self.held:,} or more"
        refused = f"{self.refused['503']:,} of {self.refused.total():,}"
        return (
            f"| {self.memory_mb} MB | {self.cores:g} | {held} | {limit} | {self.rate:,.0f} | {refused} |"
            f" {self.recovery_seconds:.0f} s | {self.kills} |"
        )


TITLE = "| memory | cores | connections | limit | messages/s | more refused with 503 | recovers within | killed |"


def make_template(folder: Path, rooms: int) -> tuple[str, str, list[str]]:
    """A database with the rooms. Returns its tenant, a key, and the rooms."""
    with ServerProcess(folder, SETTINGS, dev=False) as server:
        made = server.make_tenant("machine", rate_limit=1_000_000, user_rate_limit=0)
        crew = Crew(find_address(HOST, server.port), made["api_key"], ())
        requests = []
        for first in range(0, rooms * MEMBERS, MEMBERS):
            body = {"type": "group", "members": [f"u{first + number}" for number in range(MEMBERS)]}
            requests.append(crew.request("POST", "/rooms", crew.headers(first), json.dumps(body).encode()))
        found = {}

        def keep(index: int, status: int, answer: bytes) -> None:
            assert status == 201, answer
            found[index] = json.loads(answer)["data"]["room_id"]

        exchange(crew.address, requests, keep)
        server.stop()
    return made["tenant_id"], made["api_key"], [found[index] for index in range(rooms)]


def find_rate(crowd: Crowd, seconds: float) -> float:
    """The highest rate within the limit; 0 if there is none."""
    crowd.send(FIRST_RATE, seconds)  # the first ones load the rooms
    best, rate = 0.0, FIRST_RATE
    for step in STEPS:
        while rate <= MAX_RATE and any(crowd.send(rate, seconds) <= LIMIT_MS for _ in range(TRIES)):
            best, rate = rate, rate * step
        rate = best * STEPS[1]
        if not best:
            break
    return best


def ask_for_too_much(crowd: Crowd, cell: Cell, export: bytes, seconds: float) -> None:
    crew, statuses = crowd.crew, Counter[str]()
    for member in [member for member in crowd.ready if not member.sends][:SLOW_READERS]:
        member.stop_reading()
    asking = [Asking(crowd, export, statuses)]
    for number in range(LARGE_BODIES):
        room = number % SENDERS
        path, headers = f"/rooms/{crew.rooms[room]}/messages", crew.headers(room * MEMBERS)
        asking.append(Asking(crowd, crew.request("POST", path, headers, LARGE_BODY.encode()), statuses))
        if number < PAGES:
            page = crew.request("GET", f"{path}?limit=100", headers)
            asking.append(Asking(crowd, page, statuses, reads=number % 2 == 0))
    crowd.refused.clear()
    crowd.send(2 * max(cell.rate, FIRST_RATE), seconds)
    crowd.connect(min(cell.held, MORE_CONNECTIONS), CONNECT_SECONDS / 4)
    cell.beyond.update({f"requests {status}": count for status, count in statuses.items()})
    cell.beyond.update({f"handshakes {reason}": count for reason, count in crowd.refused.items()})
    cell.beyond.update({f"connections {reason}": count for reason, count in crowd.lost.items()})
    cell.beyond.update({f"messages refused: {reason}": count for reason, count in crowd.errors.items()})
    for one in asking:
        if one.socket.fileno() >= 0:
            one.close()


def fill_cell(
    cell: Cell, server: ServerProcess, crowd: Crowd, export: bytes, most: int, given_rate: float, seconds: float
) -> None:
    crowd.connect(most, CONNECT_SECONDS, until_refused=True)
    cell.held, cell.is_full = len(crowd.ready), bool(crowd.refused)
    crowd.refused.clear()
    if cell.is_full:
        crowd.connect(min(cell.held, MORE_CONNECTIONS), CONNECT_SECONDS / 4)
    cell.refused = crowd.refused.copy()
    crowd.leave(cell.held // 2)
    crowd.wait(seconds)
    cell.rate = given_rate or find_rate(crowd, seconds)
    ask_for_too_much(crowd, cell, export, 2 * seconds)
    crowd.leave(cell.held // 2)
    began_s = time.monotonic()
    while time.monotonic() < began_s + RECOVERY_SECONDS:
        since_s = time.monotonic() - began_s
        if crowd.send(max(cell.rate, FIRST_RATE) / 2, 1.0) <= LIMIT_MS:
            cell.recovery_seconds = since_s
            break
    crowd.reactor.close()
    server.stop()


def measure(
    cell: Cell, template: Path, made: tuple[str, str, Sequence[str]], most: int, given_rate: float, seconds: float
) -> None:
    """Raises NoCgroup."""
    tenant_id, key, rooms = made
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shutil.copy(template / "chatapi.db", folder / "chatapi.db")
        cgroup = Cgroup(cell.memory_mb, cell.cores)
        stack.callback(cgroup.close)
        command = [*cgroup.launcher, sys.executable, "-m", "chatapi"]
        server = stack.enter_context(ServerProcess(folder, SETTINGS, dev=False, command=command, port=free_port()))
        crowd = Crowd(Crew(find_address(HOST, server.port), key, rooms))
        path, headers = f"/admin/tenants/{tenant_id}/export", f"X-Master-Key: {server.master_key}\r\n"
        try:
            fill_cell(cell, server, crowd, crowd.crew.request("GET", path, headers), most, given_rate, seconds)
        except (OSError, AssertionError, ZeroDivisionError):  # the server is gone
            print(server.log.read_text(), file=sys.stderr)
            raise
        finally:
            cell.kills = cgroup.count_kills()
            print(f"{cell.format()} {dict(cell.beyond)}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", default="64,128,256,512", help="in MB, separated by commas")
    parser.add_argument("--cores", default="0.25,0.5,1", help="likewise")
    parser.add_argument("--connections", type=int, default=19_500, help="at most; each takes a descriptor here too")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each rate that is tried")
    parser.add_argument("--rate", type=float, default=0.0, help="messages/s, if the highest is not to be looked for")
    args = parser.parse_args()
    raise_descriptor_limit()
    cells = [
        Cell(memory_mb, cores)
        for memory_mb in map(int, args.memory.split(","))
        for cores in map(float, args.cores.split(","))
    ]
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        made = make_template(Path(folder), -(-args.connections // MEMBERS))
        try:
            for cell in cells:
                measure(cell, Path(folder), made, args.connections, args.rate, args.seconds)
        except NoCgroup as error:
            print(error, file=sys.stderr)
            return NO_CGROUP
    print(TITLE, "|---|---|---|---|---|---|---|---|", *(cell.format() for cell in cells), sep="\n")
    print(f"{time.monotonic() - began_s:.0f} seconds", file=sys.stderr)
    return 0 if all(cell.is_served for cell in cells) else 1


if __name__ == "__main__":
    sys.exit(main())
