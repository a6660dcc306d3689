"""What is answered while a tenant is held for a move, and how what is open then goes on."""

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from move_rig import MOVED, Gate, Pair, eventually_true
from server_process import ServerProcess

REFUSED = 503


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.kill()


class Held:
    """What the source answers while it is held."""

    def __init__(self, pair: Pair, path: str, message_id: str) -> None:
        self._pair = pair
        self._path = path
        self._message_id = message_id
        self.url = ""  # to which it moves
        self.waiting = Waiting(pair, path.removeprefix("/rooms/"), 3)  # the pipe's end
        self.failure: BaseException | None = None

    def look(self) -> None:
        """In the gate's thread."""
        self.waiting.start()
        try:
            self._look()
        except BaseException as failure:  # noqa: BLE001 - the test's thread fails with it
            self.failure = failure

    def _look(self) -> None:
        pair, path = self._pair, self._path
        message = f"{path}/messages/{self._message_id}"
        for method, route, body in [
            ("POST", f"{path}/messages", {"content": "held"}),  # as that of a client without a client_message_id
            ("PUT", message, {"content": "held"}),
            ("DELETE", message, None),
            ("POST", "/acks", {"rooms": {path.removeprefix("/rooms/"): 1}}),
            ("POST", "/rooms", {"type": "group", "members": ["bob"]}),
            ("PUT", "/users/alice", {"name": "Alice"}),
            ("DELETE", "/users/bob", None),  # an erasure
            ("POST", "/subscriptions", {"topic": "held"}),
            ("POST", "/notify", {"topic": "held", "payload": 1, "targets": {"user_ids": ["bob"]}}),
        ]:
            self._check_refused(method, route, body)
        for route in ("/rooms", path, f"{path}/messages", f"{path}/events", "/users/alice/export"):
            assert read(pair, pair.source, route).status == 200, route
        tenant = f"/admin/tenants/{pair.tenant_id}"
        assert read(pair, pair.source, f"{tenant}/export").read()[:6] == b"SQLite"
        for method, route, body in [
            ("PATCH", tenant, {"name": "held"}),
            ("POST", f"{tenant}/keys", {}),
            ("DELETE", tenant, None),
        ]:
            self._check_refused(method, route, body)
        [shown] = json.load(read(pair, pair.source, "/admin/stats"))["data"]["tenants"]
        assert (shown["move"]["state"], shown["move"]["url"]) == ("held", self.url)
        assert 'chatapi_tenants_moving{state="held"} 1.0' in read_metrics(pair, pair.source)
        assert 'chatapi_tenants_moving{state="arriving"} 1.0' in read_metrics(pair, pair.target)

    def _check_refused(self, method: str, route: str, body: Any) -> None:
        try:
            answer = request(self._pair, self._pair.source, method, route, body)
        except urllib.error.HTTPError as refused:
            error = refused
        else:
            raise AssertionError(f"{method} {route} was answered {answer.status}: {answer.read()!r}")
        assert (error.code, error.headers["Retry-After"]) == (REFUSED, "1"), (method, route, error.read())
        assert json.load(error)["error"]["code"] == "INTERNAL_ERROR"


def request(pair: Pair, server: ServerProcess, method: str, route: str, body: Any = None) -> http.client.HTTPResponse:
    headers = {"X-API-Key": pair.key, "X-User-Id": "alice", "Content-Type": "application/json"}
    if route.startswith(("/admin", "/metrics")):
        headers["X-Master-Key"] = server.master_key
    data = None if body is None else json.dumps(body).encode()
    made = urllib.request.Request(server.url + route, data, headers, method=method)
    answer: http.client.HTTPResponse = urllib.request.urlopen(made, timeout=120)
    return answer


def read(pair: Pair, server: ServerProcess, route: str) -> http.client.HTTPResponse:
    return request(pair, server, "GET", route)


def read_metrics(pair: Pair, server: ServerProcess) -> str:
    return read(pair, server, "/metrics").read().decode()


class OpenPipe:
    """A pipe that stays open."""

    def __init__(self, pair: Pair, path: str, text: bytes) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", pair.source.port, timeout=120)
        self._connection.putrequest("POST", f"{path}/messages/stream")
        for name, value in (("X-API-Key", pair.key), ("X-User-Id", "alice"), ("Transfer-Encoding", "chunked")):
            self._connection.putheader(name, value)
        self._connection.endheaders()
        self._connection.send(b"%x\r\n%s\r\n" % (len(text), text))

    def __enter__(self) -> "OpenPipe":
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def read_error(self) -> tuple[int, str | None, Any]:
        answer = self._connection.getresponse()
        return answer.status, answer.headers["Retry-After"], json.load(answer)["error"]


class Waiting(threading.Thread):
    """A long poll that waits at the source."""

    def __init__(self, pair: Pair, room_id: str, after_seq: int) -> None:
        super().__init__(daemon=True)
        self._pair = pair
        self._body = {"rooms": {room_id: after_seq}, "wait": 60}
        self.seconds = 0.0
        self.answer: Any = None

    def run(self) -> None:
        begun_s = time.monotonic()
        try:
            self.answer = json.load(request(self._pair, self._pair.source, "POST", "/sync", self._body))["data"]
        except urllib.error.HTTPError as error:
            self.answer = json.load(error)["error"]
        self.seconds = time.monotonic() - begun_s


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_held_tenant_refuses_writes_and_ends_open_pipes(pair: Pair) -> None:
    room_id = pair.call(pair.source, "POST", "/rooms", {"type": "group", "members": ["bob"]})["room_id"]
    path = f"/rooms/{room_id}"
    message = pair.call(pair.source, "POST", f"{path}/messages", {"content": "first"})
    with ExitStack() as undo:
        pipe = undo.enter_context(OpenPipe(pair, path, b"piped"))
        eventually_true(lambda: find_piped(pair, pair.source, path)["content"] == "piped")
        stream = undo.enter_context(read(pair, pair.source, "/events/stream"))
        lines = [stream.readline()]
        while b"sync.complete" not in lines[-1]:
            lines.append(stream.readline())
        ended_by_pipe = Waiting(pair, room_id, 2)
        ended_by_pipe.start()
        held = Held(pair, path, message["message_id"])
        with Gate(pair.target, "/seal", "between", held.look) as gate:
            held.url = gate.url
            status, moved = pair.move(pair.source, pair.target, gate.url)
            assert (status, held.failure) == (200, None), moved
            status, retry_after, error = pipe.read_error()
            assert (status, retry_after) == (REFUSED, "1")
            there = find_piped(pair, pair.target, path)
            assert error["details"] == {"message_id": there["message_id"]}
            assert (there["content"], there["stream"]) == ("piped", {"state": "failed"})
            # The stream has the whole log until then, is told the address, and ends.
            frames = [json.loads(line.removeprefix(b"data: ")) for line in stream if line.startswith(b"data: ")]
            assert (frames[-2]["type"], frames[-2]["url"]) == ("server.shutdown", gate.url)
            assert (frames[-1]["type"], frames[-1]["code"]) == ("close", 1001)
            assert [frame["stream"] for frame in frames if frame["type"] == "message.finished"] == [{"state": "failed"}]
            for waiting, types in ((ended_by_pipe, ["message.finished"]), (held.waiting, [])):
                waiting.join(120)
                assert [event["type"] for event in waiting.answer["events"]] == types, waiting.answer
                assert waiting.seconds < 60
            assert pair.status(pair.source) == MOVED
        assert 'chatapi_tenant_moves_total{outcome="departed"} 1.0' in read_metrics(pair, pair.source)
        assert 'chatapi_tenant_moves_total{outcome="arrived"} 1.0' in read_metrics(pair, pair.target)
        assert 'chatapi_tenants_moving{state="held"} 0.0' in read_metrics(pair, pair.source)
    # Pipes are taken again where the tenant is.
    pair.source, pair.target = pair.target, pair.source
    with OpenPipe(pair, path, b"again"):
        eventually_true(lambda: find_piped(pair, pair.source, path)["content"] == "again")


def find_piped(pair: Pair, server: ServerProcess, path: str) -> Any:
    """The newest message, if there is one."""
    messages = json.load(read(pair, server, f"{path}/messages"))["data"]["messages"]
    return max(messages, key=lambda message: message["message_id"], default={"content": None})


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pipes_go_on_after_a_hold_that_was_given_up(pair: Pair) -> None:
    room_id = pair.call(pair.source, "POST", "/rooms", {"type": "group", "members": ["bob"]})["room_id"]
    path = f"/rooms/{room_id}"
    with Gate(pair.target, "/seal", "before", lambda: None) as gate:
        assert pair.move(pair.source, pair.target, gate.url)[0] == REFUSED
    with OpenPipe(pair, path, b"piped"):
        eventually_true(lambda: find_piped(pair, pair.source, path)["content"] == "piped")
    assert 'chatapi_tenant_moves_total{outcome="given_up"} 1.0' in read_metrics(pair, pair.source)
