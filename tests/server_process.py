"""`chatapi serve` as a process of its own, which can be killed and come back with the same database and port."""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from proxy import Proxy
from raw_websocket import HANDSHAKE, WAIT_SECONDS

START_SECONDS = 180.0  # a machine that is busy may take its time
STOP_SECONDS = 60.0  # more than shutdown_grace_seconds
POLL_SECONDS = 0.02
CALL_SECONDS = 60.0
MOVE_SECONDS = 120.0
NO_CONTENT = 204
NO_AUTHORITIES = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
"""What tests call is signed by none of the system's authorities, and to load those takes a fifth of a start."""


class ServerProcess:
    """Settings are those of `chatapi.toml`: `{"limits.sync_limit": "20"}`."""

    def __init__(
        self,
        directory: Path,
        settings: dict[str, str] | None = None,
        *,
        dev: bool = True,
        command: Sequence[str] = (sys.executable, "-m", "chatapi"),
        debug: bool = False,
        max_descriptors: int | None = None,
        start_seconds: float = START_SECONDS,
        port: int | None = None,
    ) -> None:
        """`debug`: asyncio's own checks are on. A start that takes longer than `start_seconds` fails."""
        self._start_seconds = start_seconds
        self.log = directory / "server.log"
        self.master_key = "master-key-of-the-tests-0123456789"
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._database = str(directory / "chatapi.db")
        self._command = [*command, "serve", "--port", str(self.port), "--db", self._database]
        if dev:
            self._command.append("--dev")
        if max_descriptors is not None:
            self._command = ["sh", "-c", f'ulimit -n {max_descriptors} && exec "$@"', "sh", *self._command]
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CHATAPI_")},
            **NO_AUTHORITIES,
            "CHATAPI_AUTH_MASTER_KEY": self.master_key,
            **({"PYTHONASYNCIODEBUG": "1"} if debug else {}),
        }
        self.choose(settings or {})
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "ServerProcess":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            self.kill()

    def choose(self, settings: Mapping[str, str]) -> None:
        """From the next start on."""
        for key, value in settings.items():
            self._environment[f"CHATAPI_{key.replace('.', '_').upper()}"] = value

    @property
    def is_running(self) -> bool:
        """As far as it was started, and not ended, here."""
        return self._process is not None

    def start(self) -> None:
        """Returns when requests are answered."""
        assert self._process is None
        self.started_s = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, cwd=self._directory, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + self._start_seconds
        while not self._is_ready():
            assert self._process.poll() is None, f"the server ended:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"the server did not start:\n{self.log.read_text()}"
            time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def find_cpu_seconds(self) -> float:
        """Of the processor, that the server has taken since its start."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """As an operator stops it. It has to end in time and with exit status 0."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(STOP_SECONDS)
        self._process = None
        assert status == 0, self.log.read_text()

    def read_stored(self) -> set[str]:
        """The contents of all messages, as SQLite reads them in the file and its WAL. For a server that has ended."""
        assert self._process is None
        with contextlib.closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
            return {content for (content,) in connection.execute("SELECT content FROM messages")}

    def create_tenant(self, name: str) -> str:
        """Its API key."""
        return str(self.make_tenant(name)["api_key"])

    def make_tenant(self, name: str, **config: object) -> dict[str, Any]:
        """The answer: tenant_id, api_key, token_secret, …"""
        body = {"name": name, "config": {"rate_limit": 10_000, "user_rate_limit": 10_000, **config}}
        return self._call("POST", "/admin/tenants", body, {"X-Master-Key": self.master_key})

    def count_waiting(self, tenant_id: str) -> int:
        """The calls for the tenant's webhook that wait."""
        stats = self._call("GET", "/admin/stats", None, {"X-Master-Key": self.master_key})
        [queues] = [tenant["queues"] for tenant in stats["tenants"] if tenant["tenant_id"] == tenant_id]
        return int(queues["webhooks"])

    def call(
        self, method: str, path: str, body: dict[str, object] | None = None, *, key: str, user: str
    ) -> dict[str, Any]:
        """The `data` of a REST call's answer; nothing of a 204."""
        return self._call(method, path, body, {"X-API-Key": key, "X-User-Id": user})

    def open_websocket(self, key: str, user: str = "alice") -> socket.socket:
        """One whose backlog is read, and which answers nothing. Raises ConnectionRefusedError if it is not let in."""
        headers = {**HANDSHAKE, "Host": "chat", "X-API-Key": key, "X-User-Id": user}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with contextlib.ExitStack() as undo:
            opened = undo.enter_context(socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_SECONDS))
            opened.sendall(f"GET /ws HTTP/1.1\r\n{lines}\r\n".encode())
            if opened.recv(13) != b"HTTP/1.1 101 ":
                raise ConnectionRefusedError
            read_until(opened, b"sync.complete")
            undo.pop_all()
        return opened

    def _call(
        self,
        method: str,
        path: str,
        body: dict[str, object] | None,
        headers: dict[str, str],
        seconds: float = CALL_SECONDS,
    ) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {**headers, "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return {} if answer.status == NO_CONTENT else json.load(answer)["data"]

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5):
                return True
        except OSError:  # no answer, or 503 while it starts
            return False


class Control:
    """Lets another process kill, stop and start the server: POST /kill, /stop, /start. POST /proxy, with or without
    `{method, path, answers}`, tells a proxy before it what to answer itself, and how many of these answers are left.
    POST /move with a tenant's id moves it to `other`, or back, and returns when it is there."""

    def __init__(self, server: ServerProcess, proxy: Proxy | None = None, other: ServerProcess | None = None) -> None:
        actions = {"/kill": server.kill, "/stop": server.stop, "/start": server.start}

        def instruct(body: bytes) -> bytes:
            assert proxy is not None
            if body:
                proxy.answer(**json.loads(body))
            return str(proxy.left).encode()

        mover = None if other is None else Mover(server, other)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                status, text = 200, b""
                try:
                    body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                    if self.path == "/proxy":
                        text = instruct(body)
                    elif self.path == "/move":
                        assert mover is not None
                        mover.move(body.decode())
                    else:
                        actions[self.path]()
                except (AssertionError, OSError, subprocess.SubprocessError) as error:
                    status, text = 500, str(error).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._listener.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._listener.server_port}"

    def __enter__(self) -> "Control":
        self._thread = Thread(target=self._listener.serve_forever, name="control", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()


class Mover:
    """Moves tenants to and fro between two servers. The other one starts when it is needed first, and its owner ends
    it."""

    def __init__(self, server: ServerProcess, other: ServerProcess) -> None:
        self._servers = server, other
        self._places: dict[str, int] = {}
        self._lock = Lock()

    def move(self, tenant_id: str) -> str:
        """Returns the URL of the server that has it now."""
        with self._lock:
            if not self._servers[1].is_running:
                self._servers[1].start()
        at = self._places.get(tenant_id, 0)
        source, target = self._servers[at], self._servers[1 - at]
        keys = {"X-Master-Key": source.master_key, "X-To-Master-Key": target.master_key}
        moved = source._call("POST", f"/admin/tenants/{tenant_id}/move", {"to": target.url}, keys, MOVE_SECONDS)
        assert moved["state"] == "moved", moved
        self._places[tenant_id] = 1 - at
        return target.url


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


def read_until(opened: socket.socket, expected: bytes) -> None:
    """Reads from a socket that blocks until this has come."""
    data = b""
    while expected not in data:
        received = opened.recv(65536)
        assert received, data
        data += received
