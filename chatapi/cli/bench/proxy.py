"""HAProxy before throw-away servers, which leads each request to its tenant's server by the API key."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.reactor import find_address
from chatapi.cli.bench.target import Target, Usage, read_usage
from chatapi.tenant_secrets import encode_routing_name

START_SECONDS = 20.0
POLL_SECONDS = 0.02
DESCRIPTORS_PER_CLIENT = 2
SPARE_DESCRIPTORS = 200  # of HAProxy's own, and of its connections to the servers' health checks

_CONFIGURATION = """
global
    maxconn {clients}
defaults
    mode http
    maxconn {clients}
    timeout connect 5s
    timeout client 75s
    timeout server 75s
    timeout tunnel 75s
frontend chatapi
    bind 127.0.0.1:{port}
    use_backend %[req.fhdr(X-API-Key),'regsub("^sk_(.+)_[0-9a-f]+$","\\1")',map({folder}/tenants.map)]
"""
_BACKEND = "backend s{number}\n    server s{number} {host}:{port}\n"


class BenchProxy:
    """`host` and `address` are for the clients of all tenants."""

    def __init__(self, tenants: Mapping[str, Target]) -> None:
        """By tenant id, the server that has it."""
        program = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise BenchError("this scenario takes HAProxy: install it, or use --servers 0 for one server without it")
        self._folder = Path(tempfile.mkdtemp(prefix="chatapi-bench-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        self.host = f"127.0.0.1:{port}"
        self.address = find_address("127.0.0.1", port)
        clients = (os.sysconf("SC_OPEN_MAX") - SPARE_DESCRIPTORS) // DESCRIPTORS_PER_CLIENT
        text = _CONFIGURATION.format(clients=clients, port=port, folder=self._folder)
        entries = []
        for number, (tenant_id, target) in enumerate(tenants.items()):
            host, server_port = target.address[1][:2]
            text += _BACKEND.format(number=number, host=host, port=server_port)
            entries.append(f"{encode_routing_name(tenant_id)} s{number}\n")
        (self._folder / "tenants.map").write_text("".join(entries), encoding="ascii")
        (self._folder / "haproxy.cfg").write_text(text, encoding="ascii")
        self._log = self._folder / "haproxy.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - found on the operator's path
                [program, "-db", "-f", self._folder / "haproxy.cfg"],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_it_listens(port)
        except BaseException:
            self.close()
            raise

    def usage(self) -> Usage | None:
        return read_usage(self._process.pid)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait_until_it_listens(self, port: int) -> None:
        deadline_s = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline_s:
                    said = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
                    raise BenchError(f"HAProxy did not start: {' | '.join(said[-3:])}") from None
                time.sleep(POLL_SECONDS)
