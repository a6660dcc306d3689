"""Two servers between which a tenant moves, and a proxy before one of them that breaks moves off."""

import contextlib
import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from server_process import ServerProcess

MOVED, UNKNOWN = 421, 401


class Pair:
    """Two servers, and a tenant that begins on the first one."""

    def __init__(self, directory: Path, settings: dict[str, str] | None = None) -> None:
        self.servers = []
        for name in ("a", "b"):
            (directory / name).mkdir()
            self.servers.append(ServerProcess(directory / name, settings, dev=False))
        self.source, self.target = self.servers
        self.answer: Any = None
        self.directory = directory

    def start(self) -> None:
        for server in self.servers:
            server.start()
        made = self.source.make_tenant("acme")
        self.tenant_id, self.key = made["tenant_id"], made["api_key"]

    def kill(self) -> None:
        for server in self.servers:
            with contextlib.suppress(AssertionError):
                server.kill()

    def call(self, server: ServerProcess, method: str, path: str, body: Any = None, user: str = "alice") -> Any:
        return server.call(method, path, body, key=self.key, user=user)

    def status(self, server: ServerProcess, path: str = "/rooms") -> int:
        """Of a read by the tenant."""
        try:
            self.call(server, "GET", path)
        except urllib.error.HTTPError as error:
            return error.code
        return 200

    def move(self, source: ServerProcess, target: ServerProcess, to: str | None = None, **headers: str) -> Any:
        """The answer's body and status."""
        request = urllib.request.Request(
            f"{source.url}/admin/tenants/{self.tenant_id}/move",
            json.dumps({"to": to or target.url}).encode(),
            {
                "X-Master-Key": source.master_key,
                "X-To-Master-Key": target.master_key,
                "Content-Type": "application/json",
                **headers,
            },
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["error"]

    def try_move(self, to: str) -> int:
        """The answer's status, 0 without one."""
        try:
            status, self.answer = self.move(self.source, self.target, to)
            return int(status)
        except (OSError, http.client.HTTPException):
            return 0

    def can_write(self, server: ServerProcess, path: str) -> bool:
        try:
            self.call(server, "POST", f"{path}/messages", {"content": "still here"})
        except (OSError, http.client.HTTPException):
            return False
        return True


def read_log(pair: Pair, server: ServerProcess, room_id: str) -> list[Any]:
    events: list[Any] = []
    while True:
        page = pair.call(server, "GET", f"/rooms/{room_id}/events?after_seq={len(events)}&limit=100")
        events += page["events"]
        if not page["has_more"]:
            return events


class Gate:
    """A proxy before the target. At a named request it stops: `before` the target gets it, or `after` its answer, which
    the source then never gets; or `between`, and then it goes on. Meanwhile `on_stop` is called, in the gate's
    thread."""

    def __init__(self, target: ServerProcess, action: str, when: str, on_stop: Callable[[], None]) -> None:
        stopped = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                is_stop = self.path.endswith(action) and not stopped.is_set()
                if is_stop:
                    stopped.set()
                    if when != "after":
                        on_stop()
                    if when == "before":
                        self.cut()
                        return
                status, data = self.forward(body)
                if is_stop and when == "after":
                    on_stop()
                    self.cut()
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def cut(self) -> None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

            def forward(self, body: bytes) -> tuple[int, bytes]:
                headers = {
                    name: value for name, value in self.headers.items() if name not in ("Host", "Content-Length")
                }
                request = urllib.request.Request(target.url + self.path, body, headers, method="POST")
                try:
                    with urllib.request.urlopen(request, timeout=30) as answer:
                        return answer.status, answer.read()
                except urllib.error.HTTPError as error:
                    return error.code, error.read()
                except OSError:
                    return 502, b""

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.stopped = stopped
        self._listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._listener.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._listener.server_port}"

    def __enter__(self) -> "Gate":
        threading.Thread(target=self._listener.serve_forever, name="gate", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown()
        self._listener.server_close()


def eventually_true(is_so: Callable[[], bool], seconds: float = 120.0, about: Pair | None = None) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, about and about.answer
        time.sleep(0.02)
