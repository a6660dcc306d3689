"""A real HAProxy in front of servers, with the configuration of docs/operations.md."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from examples import example
from server_process import free_port

CONFIGURATION = example("docs/operations.md", "haproxy")
NAMES = ("a", "b", "c")
START_SECONDS = 60.0
RELOAD_SECONDS = 3.0
MAX_CLIENTS = 2000  # with two descriptors each, which a test may have

OPERATORS_PATHS = (
    "/admin/stats",
    "/v1/admin/tenants",
    "/metrics",
    "/v1/metrics",
    "/%61dmin/stats",
    "/x/../admin/stats",
)


class HAProxy:
    """`ports` are those of the servers a, b and c. Plain HTTP takes the place of TLS, and the test's user of HAProxy's
    own."""

    def __init__(self, folder: Path, ports: list[int], settings: str = "") -> None:
        self._program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
        assert self._program is not None, "this takes haproxy"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.socket = str(folder / "admin.sock")
        self.map = folder / "chatapi-tenants.map"
        self.log = folder / "haproxy.log"
        self.file = folder / "haproxy.cfg"
        addresses = dict(zip(NAMES, ports, strict=True))
        text = re.sub(r"^    (user|group) .*\n", "", CONFIGURATION, flags=re.MULTILINE)
        for old, new in (
            ("maxconn 20000", f"maxconn {MAX_CLIENTS}"),
            ("log /dev/log local0", f"log stdout format raw local0{settings}"),
            (r"bind :443 ssl crt \S+", f"bind 127.0.0.1:{self.port}"),
            ("/run/haproxy/admin.sock", self.socket),
            ("/etc/haproxy/", f"{folder}/"),
            *((rf"server {name} \S+", f"server {name} 127.0.0.1:{port}") for name, port in addresses.items()),
        ):
            text, count = re.subn(old, new.replace("\\", r"\\"), text)
            assert count, f"the configuration has no {old}"
        self.file.write_text(text)
        for name in ("chatapi-tenants.map", "chatapi-hosts.map"):
            (folder / name).touch()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "HAProxy":
        assert self._program is not None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-W", "-f", self.file], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._wait_until_it_listens()
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def reload(self) -> None:
        """As `systemctl reload haproxy` does. Returns when a new worker serves."""
        assert self._process is not None
        before = self._count_loads()
        deadline = time.monotonic() + START_SECONDS
        while self._count_loads() == before:
            assert time.monotonic() < deadline, self.log.read_text()
            self._process.send_signal(signal.SIGUSR2)  # again: on a busy machine it misses one soon after a reload
            self._wait_for_load(before)
        self._wait_until_it_listens()

    def _wait_for_load(self, before: int) -> None:
        until = time.monotonic() + RELOAD_SECONDS
        while self._count_loads() == before and time.monotonic() < until:
            time.sleep(0.02)

    def _count_loads(self) -> int:
        return self.log.read_text().count("Loading success")

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert self._process is not None
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                with socket.socket(socket.AF_UNIX) as admin:
                    admin.connect(self.socket)
                return
            except OSError:
                time.sleep(0.02)
