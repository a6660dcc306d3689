"""A prompt endpoint in a process of its own, which takes the tenant's events and remembers in which order they came."""

import asyncio
import multiprocessing
import re
import signal
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.connection import Connection
from typing import Any

from chatapi.cli.bench.crew import Measurement
from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.result import Outcome
from chatapi.cli.bench.tenant import BenchTenant
from chatapi.protocol.json import loads_stored

EVENT_NAMES = ["message.created"]
WAIT_SECONDS = 60.0  # for the calls that are still to come once all messages are confirmed
POLL_SECONDS = 0.1
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


@dataclass(slots=True)
class ToldEvents:
    """Each event once; `arrived_s` and `latencies` (from the event's own time) belong together."""

    count: int = 0
    repeated: int = 0
    out_of_order: int = 0
    last_seqs: Counter[str] = field(default_factory=Counter)  # by room
    arrived_s: "array[float]" = field(default_factory=lambda: array("d"))  # monotonic
    latencies: "array[float]" = field(default_factory=lambda: array("d"))

    def take(self, body: bytes) -> None:
        call: dict[str, Any] = loads_stored(body)
        event = call["data"]["event"]
        room_id, seq = event["room_id"], event["seq"]
        if seq <= self.last_seqs[room_id]:
            self.repeated += 1
            return
        self.out_of_order += seq != self.last_seqs[room_id] + 1
        self.last_seqs[room_id] = seq
        self.count += 1
        self.arrived_s.append(time.monotonic())
        self.latencies.append(time.time() - datetime.fromisoformat(call["timestamp"]).timestamp())


class _Peer(asyncio.Protocol):
    """A connection of the server's, one call after the other."""

    def __init__(self, arrivals: ToldEvents) -> None:
        self._arrivals = arrivals
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._data, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._data) < whole:
                return
            self._arrivals.take(self._data[end + 4 : whole])
            self._data = self._data[whole:]
            self._transport.write(_ANSWER)


def _serve(pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command ends its processes
    asyncio.run(_answer_until_closed(pipe))


async def _answer_until_closed(pipe: Connection) -> None:
    loop, arrivals, closed = asyncio.get_running_loop(), ToldEvents(), asyncio.Event()
    server = await loop.create_server(lambda: _Peer(arrivals), "127.0.0.1", 0)

    def reply() -> None:
        try:
            wants_all = pipe.recv()
        except EOFError:
            loop.remove_reader(pipe.fileno())
            closed.set()
        else:
            pipe.send(arrivals if wants_all else arrivals.count)

    loop.add_reader(pipe.fileno(), reply)
    pipe.send(server.sockets[0].getsockname()[1])
    await closed.wait()


class BenchEndpoint:
    """Takes the tenant's events from its start to `close`."""

    def __init__(self, tenant: BenchTenant) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        port = self._pipe.recv()
        tenant.configure({"webhook_url": f"http://127.0.0.1:{port}/", "webhook_events": EVENT_NAMES})

    def close(self) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join()

    def wait_for(self, count: int) -> ToldEvents:
        """The arrivals, once there are so many or `WAIT_SECONDS` have passed. Raises BenchError if it has died."""
        try:
            came, deadline_s = 0, time.monotonic() + WAIT_SECONDS
            while came < count and time.monotonic() < deadline_s:
                time.sleep(POLL_SECONDS)
                self._pipe.send(False)
                came = self._pipe.recv()
            self._pipe.send(True)
            arrivals = self._pipe.recv()
        except (EOFError, OSError):
            raise BenchError("the endpoint's process died") from None
        assert isinstance(arrivals, ToldEvents)
        return arrivals

    def add_to(self, outcome: Outcome, confirmed: int, measurement: Measurement) -> None:
        """The figures of the measurement's time, and whether every confirmed message was told, in order."""
        began_s, ended_s = measurement.began_s, measurement.began_s + measurement.seconds
        arrivals = self.wait_for(confirmed)
        during = [index for index, at_s in enumerate(arrivals.arrived_s) if began_s <= at_s < ended_s]
        outcome.figures["events_per_s"] = len(during) / (ended_s - began_s)
        outcome.add_operations({"event": [arrivals.latencies[index] for index in during]})
        check = outcome.check
        check.notes.append(f"{arrivals.count:,} events told, {arrivals.repeated:,} calls repeated")
        if arrivals.count != confirmed:
            check.problems.append(f"{confirmed - arrivals.count} events were not told")
        if arrivals.out_of_order:
            check.problems.append(f"{arrivals.out_of_order} events were told out of order")
