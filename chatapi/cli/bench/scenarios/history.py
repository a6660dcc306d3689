"""history: clients that page through rooms over REST, at random places."""

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

from chatapi.cli.bench.crew import Link, Window, share
from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.http import HttpPeer, encode_request
from chatapi.cli.bench.reactor import Reactor
from chatapi.cli.bench.result import Outcome
from chatapi.cli.bench.run import measure
from chatapi.cli.bench.stage import Access, Room, Stage
from chatapi.cli.bench.stream import DRAIN_SECONDS
from chatapi.cli.bench.websocket import find_seq

MESSAGES_PER_ROOM = 1000
PAGE = 50

_PLACE = b"@@@@"
_SEQ = b'"seq":'


@dataclass(frozen=True, slots=True)
class HistoryJob:
    access: Access
    rooms: Sequence[Room]  # one per client


@dataclass(slots=True)
class HistoryResult:
    window: Window
    latencies: "array[float]"
    pages: int
    problems: list[str] = field(default_factory=list)


class Reader:
    """One client, one page at a time, from its own room."""

    def __init__(self, reactor: Reactor, access: Access, room: Room, result: HistoryResult) -> None:
        path = f"/rooms/{room.room_id}/messages?limit={PAGE}&after_seq={_PLACE.decode()}"
        request = encode_request("GET", path, access.host, access.headers(room.users[0]))
        self._before, _, self._after = request.partition(_PLACE)
        self._result = result
        self._random = random.Random(room.room_id)  # noqa: S311 - it only spreads the load
        self._after_seq = 0
        self._asked_s = 0.0
        self.is_over = False
        self.is_waiting = False
        self._peer = HttpPeer(reactor, access.address, self._take_page)

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


def read_history(job: HistoryJob, link: Link) -> HistoryResult:
    reactor, result = Reactor(), HistoryResult(Window(), array("d"), 0)
    readers = [Reader(reactor, job.access, room, result) for room in job.rooms]
    schedule = link.wait_for_start()
    for reader in readers:
        reader.ask()
    window = result.window = link.measure(reactor, schedule, lambda: result.pages)
    for reader in readers:
        reader.is_over = True
    if not reactor.run(lambda: not any(reader.is_waiting for reader in readers), monotonic() + DRAIN_SECONDS):
        result.problems.append("pages were never answered")
    result.latencies = result.latencies[window.first : window.first + window.count]
    return result


def run_history(stage: Stage) -> Outcome:
    rooms = stage.make_rooms(stage.options.clients, 1)
    stage.seed(rooms, MESSAGES_PER_ROOM)
    jobs = [HistoryJob(stage.access, part) for part in share(rooms, stage.options.processes)]
    outcome, results = measure(stage, read_history, jobs, "pages")
    windows = [result.window for result in results]
    outcome.figures["requests_per_s"] = sum(window.count / window.seconds for window in windows)
    outcome.add_latencies([latency for result in results for latency in result.latencies])
    outcome.add_generator(windows)
    outcome.check.notes.append(f"{sum(result.pages for result in results):,} pages of {PAGE}, each whole and in order")
    for result in results:
        outcome.check.problems += result.problems
    return outcome
