"""The server that is measured: a throw-away one in a process of its own, or one that runs already."""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.reactor import Address, find_address

START_SECONDS = 60.0  # a machine that is busy may take its time
STOP_SECONDS = 60.0
POLL_SECONDS = 0.02
LOG_LINES_SHOWN = 5

_LISTENING = re.compile(r"listening on (http://\S+)")
_CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

# The limits protect a server from its clients; here both sides mean it.
RAISED_LIMITS = {
    "CHATAPI_LIMITS_RATE_LIMIT": "1000000",
    "CHATAPI_LIMITS_RATE_BURST": "1000000",
    "CHATAPI_LIMITS_CONNECTIONS_PER_USER": "1000",
    "CHATAPI_WEBHOOKS_ALLOW_PRIVATE_ADDRESSES": "true",  # the endpoint is on this machine
}
TENANT_CONFIG = {"rate_limit": 1_000_000, "rate_burst": 1_000_000, "connections_per_user": 1000}

# `chatapi serve` takes uvloop where it is installed; None in sys.modules stands for a module that is not.
_START_WITHOUT_UVLOOP = "import sys; sys.modules['uvloop'] = None; from chatapi.cli import main; sys.exit(main())"


@dataclass(frozen=True, slots=True)
class Variant:
    """Which server. Without `url` it is a throw-away one, of that interpreter and source tree."""

    name: str
    url: str = ""
    master_key: str = ""
    python: str = sys.executable
    tree: str = ""
    loop: str = "asyncio"
    prefill: int = 0
    streams: int | None = None  # that are open beside the load; None is what the scenario says
    servers: int | None = None  # behind a proxy; None likewise
    events: int | None = None  # whether an endpoint is told of them; None likewise
    settings: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Usage:
    """The resources that the server's process has used so far. None when it is not on this machine, or is another
    user's."""

    cpu_s: float
    rss_bytes: int
    machine_s: float  # of processor time that anything on this machine has taken


class Target:
    """A running server. `url` and `address` stay the same over `restart`."""

    def __init__(self, url: str, master_key: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise BenchError(f"{url}: expected http://HOST:PORT")
        self.url = url
        self.master_key = master_key
        self.address: Address = find_address(parts.hostname, parts.port or 80)
        self.host = parts.netloc

    def usage(self) -> Usage | None:
        """None unless the server runs on this machine, as a process that this user may look at."""
        pid = self.find_pid()
        return None if pid is None else read_usage(pid)

    def find_pid(self) -> int | None:
        """By the port that it listens on; None where that is not found."""
        return find_listener(self.address[1][1])

    def find_pids(self) -> list[int]:
        """Of all servers that it stands for."""
        pid = self.find_pid()
        return [] if pid is None else [pid]

    def restart(self) -> None:
        """Ends the server's process and starts another one on the same database. Raises BenchError where it cannot."""
        raise BenchError("this scenario restarts the server: it needs a throw-away one, without --url")

    def close(self) -> None:
        """Ends what was started."""


class ThrowAwayServer(Target):
    """`chatapi serve` with raised limits and an empty (or prefilled) database, both gone at the end."""

    def __init__(self, variant: Variant, template: Path | None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="chatapi-bench-"))
        self._log = self._folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.variant = variant
        if template is not None:
            _copy(template, self._folder / "chatapi.db")
        master_key = f"mk_{secrets.token_urlsafe(32)}"
        self._environment = {**server_environment(variant), **RAISED_LIMITS, "CHATAPI_AUTH_MASTER_KEY": master_key}
        self._environment.update(variant.settings)
        try:
            super().__init__(self._start(0), master_key)
        except BaseException:
            self.close()
            raise

    @property
    def database(self) -> Path:
        return self._folder / "chatapi.db"

    def _start(self, port: int) -> str:
        self._log.write_bytes(b"")
        launch = ["-m", "chatapi"] if self.variant.loop == "uvloop" else ["-c", _START_WITHOUT_UVLOOP]
        command = [self.variant.python, *launch, "serve", "--port", str(port), "--db", "chatapi.db"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the operator's own interpreter
                command,
                env=self._environment,
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the command, which then ends the server
            )
        deadline_s = time.monotonic() + START_SECONDS
        while True:
            if (said := _LISTENING.search(self._read_log())) is not None:
                return said[1]
            if self._process.poll() is not None:
                raise BenchError(f"the server did not start: {self._last_lines()}")
            if time.monotonic() > deadline_s:
                raise BenchError(f"the server did not start within {START_SECONDS:g} s")
            time.sleep(POLL_SECONDS)

    def find_pid(self) -> int | None:
        """Raises BenchError if the server has ended."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise BenchError(f"the server ended: {self._last_lines()}")
        return self._process.pid

    def restart(self) -> None:
        self._stop()
        self._start(self.address[1][1])

    def close(self) -> None:
        try:
            self._stop()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise BenchError(f"the server did not stop within {STOP_SECONDS:g} s") from None

    def complaints(self) -> list[str]:
        """The errors that the server logged."""
        return [line for line in self._read_log().splitlines() if " error " in line or line.startswith("Traceback")]

    def _read_log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def _last_lines(self) -> str:
        return " | ".join(self._read_log().splitlines()[-LOG_LINES_SHOWN:]) or "it said nothing"


def _copy(source: Path, target: Path) -> None:
    """On return the copy is on the disk: else the server's commits would wait for its pages to be written."""
    shutil.copy(source, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())


@dataclass(slots=True)
class Launcher:
    """Starts the servers of a run; a prefilled database is made once and copied for each."""

    _templates: dict[Variant, Path] = field(default_factory=dict)
    _folder: Path | None = None

    def start(self, variant: Variant) -> Target:
        """A server that is ready. Raises BenchError."""
        if variant.url:
            return Target(variant.url, variant.master_key)
        return ThrowAwayServer(variant, self._make_template(variant) if variant.prefill else None)

    def _make_template(self, variant: Variant) -> Path:
        if variant not in self._templates:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="chatapi-bench-"))
            path = self._folder / f"{len(self._templates)}.db"
            command = [variant.python, "-m", "chatapi.store.prefill", str(path), str(variant.prefill)]
            made = subprocess.run(  # noqa: S603 - the operator's own interpreter
                command, env=server_environment(variant), cwd=self._folder, capture_output=True, check=False
            )
            if made.returncode:
                said = made.stderr.decode(errors="replace").splitlines()
                raise BenchError(f"cannot prefill: {said[-1] if said else f'it ended with {made.returncode}'}")
            self._templates[variant] = path
        return self._templates[variant]

    def close(self) -> None:
        """Removes the prefilled databases; each server is closed apart."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def server_environment(variant: Variant) -> Mapping[str, str]:
    """This process's, without settings of ChatAPI that are meant for another server."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CHATAPI_")}
    if variant.tree:
        environment["PYTHONPATH"] = os.path.abspath(variant.tree)
    return environment


def read_usage(pid: int) -> Usage | None:
    """From /proc, which only Linux has. None for a process that has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # The name in parentheses may hold anything; numbers follow it. Fields 14 and 15 are utime and stime.
    user, system = stat.rpartition(")")[2].split()[11:13]
    resident = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    rss_bytes = int(resident[1]) * 1024 if resident else 0
    return Usage((int(user) + int(system)) / _CLOCK_TICKS_PER_S, rss_bytes, _machine_seconds())


def read_written_bytes(pid: int) -> int | None:
    """How many bytes the process has given to the disk so far, as the kernel counts them: whole pages of files, each
    time that they are synced. None where that is not known."""
    try:
        fields = Path(f"/proc/{pid}/io").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"^write_bytes: (\d+)$", fields, re.MULTILINE)
    return int(found[1]) if found else None


def _machine_seconds() -> float:
    with open("/proc/stat", encoding="ascii") as file:
        # user, nice, system, idle, iowait, irq, softirq, steal: https://man7.org/linux/man-pages/man5/proc_stat.5.html
        user, nice, system, _idle, _iowait, *rest = (int(ticks) for ticks in file.readline().split()[1:9])
    return (user + nice + system + sum(rest)) / _CLOCK_TICKS_PER_S


def find_listener(port: int) -> int | None:
    """The process that listens on this TCP port of this machine, as far as this user may see it."""
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for descriptor in Path("/proc").glob("[0-9]*/fd/*") if inodes else ():
        try:
            if os.readlink(descriptor) in inodes:
                return int(descriptor.parts[2])
        except OSError:
            continue  # gone meanwhile, or somebody else's
    return None


def _listening_inodes(port: int) -> list[str]:
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:  # 0A: LISTEN
                found.append(fields[9])
    return found
