"""transfer: a large tenant comes to the server as a file and leaves it as one, while others send."""

import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread

from chatapi.cli.bench.crew import CommandPipe, Crew, Measurement, Schedule, percentile
from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.reactor import Reactor
from chatapi.cli.bench.result import MEGABYTE, Outcome, check_stored
from chatapi.cli.bench.run import observe
from chatapi.cli.bench.scenarios.send import SendJob, SendResult, SendTally, finish_sockets, open_sockets, pace
from chatapi.cli.bench.stream import DRAIN_SECONDS, all_ready
from chatapi.cli.bench.target import Target
from chatapi.cli.bench.tenant import BenchTenant
from chatapi.protocol.json import loads_stored
from chatapi.store.check import check_database
from chatapi.store.standalone import UnusableDatabase

CHUNK_BYTES = 256 * 1024
SYNC_BYTES = 1024 * 1024  # of the copy: one long flush at the end would be felt by the server, on the same disk
ANSWER_SECONDS = 3600.0
SAMPLE_SECONDS = 0.1


def send_until_told(job: SendJob, pipe: CommandPipe) -> SendResult:
    """The work of the process that sends. All of it is measured."""
    reactor, tally = Reactor(), SendTally()
    rooms = open_sockets(reactor, tally, job)
    senders = [sender for room in rooms for sender in room]
    all_ready(reactor, senders)
    pipe.wait_for_start()
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    pace(reactor, tally, senders, job.options.rate)
    pipe.run_until_start(reactor)
    tally.is_over = True
    seconds, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
    reactor.run(lambda: not tally.in_flight, time.monotonic() + DRAIN_SECONDS)
    return finish_sockets(reactor, tally, rooms, Measurement(tally.count(), 0, seconds, cpu_s, began_s))


class _Transfer:
    def __init__(self, tenant: BenchTenant) -> None:
        self._tenant = tenant
        self.outcome = Outcome()
        self._confirmed: dict[str, dict[int, str]] = {}
        self._measurements: list[Measurement] = []

    @contextmanager
    def _sending(self, phase: str) -> Iterator[None]:
        """Others send inside; the figures of `phase` are theirs."""
        tenant, outcome, options = self._tenant, self.outcome, self._tenant.options
        rooms = tenant.make_rooms(-(-options.clients // options.members), options.members, phase)
        with Crew(send_until_told, [SendJob(tenant.login, rooms, options)]) as crew:
            crew.wait_until_ready(_ignore)
            schedule = Schedule(time.monotonic(), float("inf"))
            crew.start(schedule)
            crew.watch(time.monotonic() + options.warmup, _ignore)
            yield
            crew.wait_until_ready(_ignore)
            crew.start(schedule)
            [result] = crew.finish()
        ordered = sorted(result.latencies)
        outcome.figures[f"{phase}_sent_per_s"] = len(ordered) / result.measurement.seconds
        outcome.figures[f"{phase}_p99_ms"] = percentile(ordered, 99.0) * 1000
        outcome.figures[f"{phase}_max_ms"] = percentile(ordered, 100.0) * 1000
        self._measurements.append(result.measurement)
        outcome.check.add(result)
        check_stored(
            outcome.check,
            result.confirmed,
            tenant.read_messages({room: len(result.confirmed[room.room_id]) for room in rooms}),
        )

    def run(self, folder: Path) -> None:
        tenant, figures, options = self._tenant, self.outcome.figures, self._tenant.options
        source, copy = folder / "tenant.db", folder / "copy.db"
        tenant.progress.step(f"making a tenant of {options.messages:,} messages")
        _make_tenant(source, options.messages)
        tenant.progress.step(f"sending alone for {options.seconds:g} s")
        with self._sending("alone"):
            time.sleep(options.seconds)
        with _PeakProbe(tenant.target) as probe, observe(tenant, self.outcome):
            tenant.progress.step("importing")
            with self._sending("import"):
                began_s = time.monotonic()
                tenant_id = _import(tenant.target, source)
                figures["import_s"] = time.monotonic() - began_s
            try:
                tenant.progress.step("exporting")
                with self._sending("export"):
                    began_s = time.monotonic()
                    _export(tenant.target, tenant_id, copy)
                    figures["export_s"] = time.monotonic() - began_s
            finally:
                tenant.delete_other(tenant_id)
        if probe.peak_bytes:
            figures["server_rss_peak_mb"] = probe.peak_bytes / MEGABYTE
        self.outcome.add_generator(self._measurements)
        self._compare(copy)

    def _compare(self, copy: Path) -> None:
        self._tenant.progress.step("checking the copy")
        check = self.outcome.check
        try:
            report = check_database(str(copy))
        except UnusableDatabase as error:  # of a later version, for instance
            check.problems.append(str(error))
            return
        found, expected = report.counts["messages"], self._tenant.options.messages
        if found != expected:
            check.problems.append(f"{found:,} messages were exported, {expected:,} imported")
        check.problems += report.findings
        check.notes.append(f"{found:,} messages imported and exported, {copy.stat().st_size / MEGABYTE:,.0f} MB")


def run_transfer(tenant: BenchTenant) -> Outcome:
    transfer = _Transfer(tenant)
    with tempfile.TemporaryDirectory(prefix="chatapi-bench-") as folder:
        transfer.run(Path(folder))
    return transfer.outcome


def _ignore(_count: int) -> None:
    return


def _make_tenant(path: Path, messages: int) -> None:
    command = [sys.executable, "-m", "chatapi.store.prefill", "--words", str(path), str(messages)]
    made = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - this interpreter
    if made.returncode:
        raise BenchError(f"cannot make a tenant: {made.stderr.decode(errors='replace').splitlines()[-1:]}")
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)  # else the server's commits would wait for it
    os.close(descriptor)


def _import(target: Target, path: Path) -> str:
    headers = {"Content-Length": str(path.stat().st_size)}
    with path.open("rb") as file, _asking(target, "POST", "/admin/tenants/import", headers, file) as response:
        return str(loads_stored(response.read())["data"]["tenant_id"])


def _export(target: Target, tenant_id: str, path: Path) -> None:
    waiting = 0
    with path.open("wb") as file, _asking(target, "GET", f"/admin/tenants/{tenant_id}/export") as response:
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            waiting += len(chunk)
            if waiting >= SYNC_BYTES:
                waiting = 0
                file.flush()
                os.fdatasync(file.fileno())


@contextmanager
def _asking(
    target: Target, method: str, path: str, headers: Mapping[str, str] | None = None, body: object = None
) -> Iterator[http.client.HTTPResponse]:
    host, port = target.address[1][:2]
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS, blocksize=CHUNK_BYTES)
    with closing(connection):
        try:
            connection.request(method, path, body, {"X-Master-Key": target.master_key, **(headers or {})})  # type: ignore[arg-type]  # a file
            response = connection.getresponse()
            if response.status >= 300:
                text = response.read(1000).decode(errors="replace")
                raise BenchError(f"{method} {path}: {response.status} {text}")
            yield response
        except (OSError, http.client.HTTPException) as error:
            raise BenchError(f"{method} {path}: {error}") from error


class _PeakProbe:
    """Looks at the server's memory now and then."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._stop = Event()
        self._thread = Thread(target=self._run, name="memory probe", daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> "_PeakProbe":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            try:
                usage = self._target.usage()
            except BenchError:  # it has ended, as the command will say
                return
            self.peak_bytes = max(self.peak_bytes, usage.rss_bytes if usage is not None else 0)
