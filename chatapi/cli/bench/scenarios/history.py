"""history: clients that page through rooms over REST, at random places."""

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

from chatapi.cli.bench.crew import CommandPipe, Measurement, share
from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.http import HttpPeer, encode_request
from chatapi.cli.bench.reactor import Reactor
from chatapi.cli.bench.result import Outcome
from chatapi.cli.bench.run import measure
from chatapi.cli.bench.stream import DRAIN_SECONDS
from chatapi.cli.bench.tenant import BenchRoom, BenchTenant, TenantLogin
from chatapi.cli.bench.websocket import find_seq

MESSAGES_PER_ROOM = 1000
PAGE = 50

_PLACE = b"@@@@"
_SEQ = b'"seq":'


@dataclass(frozen=True, slots=True)
class HistoryJob:
    login: TenantLogin
    rooms: Sequence[BenchRoom]  # one per client


@dataclass(slots=True)
class HistoryResult:
    measurement: Measurement
    latencies: "array[float]"
    pages: int
    problems: list[str] = field(default_factory=list)


class HistoryReader:
    """One client, one page at a time, from its own room."""

    def __init__(self, reactor: Reactor, login: TenantLogin, room: BenchRoom, result: HistoryResult) -> None:
        path = f"/rooms/{room.room_id}/messages?limit={PAGE}&after_seq={_PLACE.decode()}"
        request = encode_request("GET", path, login.host, login.headers(room.users[0]))
        self._before, _, self._after = request.partition(_PLACE)
        self._result = result
        self._random = random.Random(room.room_id)  # noqa: S311 - it only spreads the load
        self._after_seq = 0
        self._asked_s = 0.0
        self.is_over = False
        self.is_waiting = False
        self._peer = HttpPeer(reactor, login.address, self._take_page)

    def ask(self) -> None:
        """Asks for a page at a random place; until `is_over`, each answer asks for the next one."""
        self._after_seq = self._random.randrange(MESSAGES_PER_ROOM - PAGE + 1)
        self.is_waiting = True
        self._asked_s = monotonic()
        self._peer.send(self._before + b"%d" % self._after_seq + self._after)

    def _take_page(self, status: int, body: bytes) -> None:
        self._result.latencies.append(monotonic() - self._asked_s)
        if status != 200:
            raise BenchError(f"history was answered {status}: {body[:200].decode(errors='replace')}")
        first_seq = find_seq(body, 0, len(body))
        last_seq = find_seq(body, body.rfind(_SEQ), len(body))
        if (body.count(_SEQ), first_seq, last_seq) != (PAGE, self._after_seq + 1, self._after_seq + PAGE):
            self._result.problems.append(f"after seq {self._after_seq} came {first_seq} to {last_seq}")
        self._result.pages += 1
        self.is_waiting = False
        if not self.is_over:
            self.ask()


def read_history(job: HistoryJob, pipe: CommandPipe) -> HistoryResult:
    reactor, result = Reactor(), HistoryResult(Measurement(), array("d"), 0)
    readers = [HistoryReader(reactor, job.login, room, result) for room in job.rooms]
    schedule = pipe.wait_for_start()
    for reader in readers:
        reader.ask()
    measurement = result.measurement = pipe.measure(reactor, schedule, lambda: result.pages)
    for reader in readers:
        reader.is_over = True
    if not reactor.run(lambda: not any(reader.is_waiting for reader in readers), monotonic() + DRAIN_SECONDS):
        result.problems.append("pages were never answered")
    result.latencies = result.latencies[measurement.first : measurement.first + measurement.count]
    return result


def run_history(tenant: BenchTenant) -> Outcome:
    rooms = tenant.make_rooms(tenant.options.clients, 1)
    tenant.seed(rooms, MESSAGES_PER_ROOM)
    jobs = [HistoryJob(tenant.login, part) for part in share(rooms, tenant.options.processes)]
    outcome, results = measure(tenant, read_history, jobs, "pages")
    measurements = [result.measurement for result in results]
    outcome.figures["requests_per_s"] = sum(measurement.count / measurement.seconds for measurement in measurements)
    outcome.add_latencies([latency for result in results for latency in result.latencies])
    outcome.add_generator(measurements)
    outcome.check.notes.append(f"{sum(result.pages for result in results):,} pages of {PAGE}, each whole and in order")
    for result in results:
        outcome.check.problems += result.problems
    return outcome
