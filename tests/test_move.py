"""A tenant moves between two running servers: nothing is lost or doubled, and exactly one of them serves it."""

import contextlib
import http.client
import json
import socket
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from server_process import ServerProcess

from chatapi.store.check import check_database

MOVED, UNKNOWN = 421, 401


class Pair:
    """Two servers, and a tenant that begins on the first one."""

    def __init__(self, directory: Path) -> None:
        self.servers = []
        for name in ("a", "b"):
            (directory / name).mkdir()
            self.servers.append(ServerProcess(directory / name, dev=False))
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


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.kill()


def read_log(pair: Pair, server: ServerProcess, room_id: str) -> list[Any]:
    events: list[Any] = []
    while True:
        page = pair.call(server, "GET", f"/rooms/{room_id}/events?after_seq={len(events)}&limit=100")
        events += page["events"]
        if not page["has_more"]:
            return events


@pytest.mark.slow
def test_a_tenant_moves_there_and_back(pair: Pair) -> None:
    room = pair.call(pair.source, "POST", "/rooms", {"type": "group", "members": ["bob"]})
    path = f"/rooms/{room['room_id']}"
    for number in range(20):
        pair.call(
            pair.source, "POST", f"{path}/messages", {"content": f"m {number}", "client_message_id": f"c{number}"}
        )
    log = read_log(pair, pair.source, room["room_id"])
    here, there = pair.source, pair.target
    for round_number in range(4):
        status, moved = pair.move(here, there)
        assert (status, moved.get("state")) == (200, "moved"), moved
        assert pair.status(here) == MOVED
        assert read_log(pair, there, room["room_id"]) == log
        sent = pair.call(there, "POST", f"{path}/messages", {"content": f"after move {round_number}"}, user="bob")
        log.append({**read_log(pair, there, room["room_id"])[-1]})
        assert sent["seq"] == len(log)
        assert [event["seq"] for event in log] == list(range(1, len(log) + 1))
        here, there = there, here
    for server in pair.servers:
        server.stop()
    there_and_back = ["move begun", "move done", "arrive begun", "arrive done"] * 2
    assert read_acts(pair, "a") == there_and_back
    assert read_acts(pair, "b") == there_and_back[2:] + there_and_back[:2]
    for name in ("a", "b"):
        assert check_database(str(pair.directory / name / "chatapi.db")).findings == []


def read_acts(pair: Pair, name: str) -> list[str]:
    """What a server's audit says of moves. The server has ended."""
    with contextlib.closing(sqlite3.connect(pair.directory / name / "chatapi.db")) as connection:
        rows = connection.execute(
            "SELECT substr(action, 8) || ' ' || (details ->> 'outcome'), kind, target FROM audit"
            " WHERE action IN ('tenant.move', 'tenant.arrive') ORDER BY audit_key"
        ).fetchall()
    assert {target for _, _, target in rows} <= {pair.tenant_id}
    assert {kind for act, kind, _ in rows if act.startswith("move") or act.endswith("begun")} <= {"master"}
    assert {kind for act, kind, _ in rows if act in ("arrive done", "arrive given_up")} <= {"server"}
    return [act for act, _, _ in rows]


class Gate:
    """A proxy before the target. At a named request it stops: `before` the target gets it, or `after` its answer, which
    the source then never gets. Meanwhile `on_stop` is called, in the gate's thread."""

    def __init__(self, target: ServerProcess, action: str, when: str, on_stop: Callable[[], None]) -> None:
        stopped = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                is_stop = self.path.endswith(action) and not stopped.is_set()
                if is_stop:
                    stopped.set()
                    if when == "before":
                        on_stop()
                        self.cut()
                        return
                status, data = self.forward(body)
                if is_stop:
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


STEPS = [
    # The request between two durable writes, and whether S1 is on disk at that moment.
    ("/admin/arrivals", "before", False),
    ("/admin/arrivals", "after", False),
    ("/rows", "before", False),
    ("/rows", "after", False),
    ("/seal", "before", False),
    ("/seal", "after", False),
    ("/live", "before", True),
    ("/live", "after", True),
]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["source", "target", "network"])
@pytest.mark.parametrize(("action", "when", "is_moved"), STEPS)
def test_a_break_at_each_step_leaves_one_that_serves(
    pair: Pair, action: str, when: str, is_moved: bool, victim: str
) -> None:
    room = pair.call(pair.source, "POST", "/rooms", {"type": "group", "members": ["bob"]})
    path = f"/rooms/{room['room_id']}"
    for number in range(3):
        pair.call(
            pair.source, "POST", f"{path}/messages", {"content": f"m {number}", "client_message_id": f"c{number}"}
        )
    log = read_log(pair, pair.source, room["room_id"])
    killed = None if victim == "network" else pair.source if victim == "source" else pair.target
    with Gate(pair.target, action, when, killed.kill if killed is not None else lambda: None) as gate:
        moving = threading.Thread(target=lambda: pair.try_move(gate.url), daemon=True)
        moving.start()
        assert gate.stopped.wait(60), pair.answer
        if killed is not None:
            eventually_true(lambda: killed._process is None)
            killed.start()
        if is_moved:  # it goes on by itself
            eventually_true(lambda: pair.status(pair.source) == MOVED)
            assert read_log(pair, pair.target, room["room_id"]) == log
        else:
            eventually_true(lambda: pair.can_write(pair.source, path))
            assert pair.status(pair.target) == UNKNOWN
            log = read_log(pair, pair.source, room["room_id"])
            # The same again ends it.
            eventually_true(lambda: pair.try_move(gate.url) == 200, about=pair)
            assert pair.status(pair.source) == MOVED
            assert read_log(pair, pair.target, room["room_id"]) == log
        moving.join(60)
    pair.call(pair.target, "POST", f"{path}/messages", {"content": "goes on"}, user="bob")
    for server in pair.servers:
        server.stop()
    left, came = read_acts(pair, "a"), read_acts(pair, "b")
    assert left[-2:] == ["move begun", "move done"]
    assert came[-2:] == ["arrive begun", "arrive done"]
    assert came[:-2] == ["arrive begun", "arrive given_up"] * (len(came) // 2 - 1)
    assert len(left) == 2 or not is_moved
    if victim != "source":  # a source that is killed writes no end
        assert left[:-2] == ["move begun", "move given_up"] * (len(left) // 2 - 1)
    for name in ("a", "b"):
        assert check_database(str(pair.directory / name / "chatapi.db")).findings == []


def eventually_true(is_so: Callable[[], bool], seconds: float = 20.0, about: Pair | None = None) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, about and about.answer
        time.sleep(0.02)


@pytest.mark.slow
def test_a_tenant_that_cannot_move_stays(pair: Pair) -> None:
    tenant_id = pair.tenant_id
    refused = [
        pair.move(pair.source, pair.target, "ftp://example.com"),
        pair.move(pair.source, pair.target, "http://127.0.0.1:1"),
        pair.move(pair.source, pair.source),
        pair.move(pair.source, pair.target, **{"X-To-Master-Key": "wrong"}),
    ]
    assert [status for status, _ in refused] == [400, 503, 409, 409]
    pair.tenant_id = "tenant_unknown"
    assert pair.move(pair.source, pair.target)[0] == 404
    pair.tenant_id = tenant_id
    assert pair.status(pair.source) == 200
    for path, secret in (("/admin/arrivals", ""), ("/admin/arrivals/arrival_0/live", "Bearer x")):
        headers = {"Authorization": secret, "Content-Type": "application/json"}
        request = urllib.request.Request(pair.target.url + path, b"{}", headers, method="POST")
        with pytest.raises(urllib.error.HTTPError, match=r"401|404"):
            urllib.request.urlopen(request, timeout=60)
    assert pair.move(pair.source, pair.target)[0] == 200
    assert pair.move(pair.source, pair.target)[0] == 200  # the same again
    status, error = pair.move(pair.source, pair.target, "http://elsewhere.example.com")
    assert (status, error["details"]) == (409, {"url": pair.target.url})
    made = pair.target.make_tenant("another")
    assert made["tenant_id"] != tenant_id
