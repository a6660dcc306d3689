"""Moves that are cut off by the operator, refused by the target, or made while webhooks wait."""

import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from move_rig import MOVED, Gate, Pair, eventually_true, read_log
from server_process import ServerProcess

from chatapi.store.check import check_database

SETTINGS = {
    "webhooks.allow_private_addresses": "true",
    "webhooks.retry_schedule_seconds": str([0, 0.2, 0.5, 1] + 46 * [2]),  # longer than the endpoint is down
}
MESSAGES = 40
LIMITED = (
    "sh",
    "-c",
    'ulimit -f 4000 && exec "$@"',
    "sh",
    sys.executable,
    "-m",
    "chatapi",
)  # 2 MB: a disk that is full
LARGE_MESSAGES = 100  # of 30 KB


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path, SETTINGS)
    try:
        made.start()
        yield made
    finally:
        made.kill()


def make_room(pair: Pair) -> str:
    return str(pair.call(pair.source, "POST", "/rooms", {"type": "group", "members": ["bob"]})["room_id"])


class Command:
    """`chatapi tenant move`, as an operator runs it."""

    def __init__(self, pair: Pair, to: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chatapi", "tenant", "move", pair.tenant_id, "--to", to, "--url", pair.source.url],
            env={
                **os.environ,
                "CHATAPI_AUTH_MASTER_KEY": pair.source.master_key,
                "CHATAPI_TO_MASTER_KEY": pair.target.master_key,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def wait(self) -> int:
        return self._process.wait(120)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_move_goes_on_without_the_command(pair: Pair) -> None:
    room_id = make_room(pair)
    for number in range(3):
        pair.call(pair.source, "POST", f"/rooms/{room_id}/messages", {"content": f"m {number}"})
    log = read_log(pair, pair.source, room_id)
    for action in ("/admin/arrivals", "/rows", "/seal", "/live"):
        commands: list[Command] = []
        with Gate(pair.target, action, "between", lambda commands=commands: commands[0].kill()) as gate:
            commands.append(Command(pair, gate.url))
            eventually_true(lambda: pair.status(pair.source) == MOVED)
            assert gate.stopped.is_set()
            assert Command(pair, gate.url).wait() == 0  # the same again says that it is done
        assert read_log(pair, pair.target, room_id) == log, action
        pair.source, pair.target = pair.target, pair.source


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_target_of_another_schema_or_without_space_takes_no_tenant(pair: Pair) -> None:
    room_id = make_room(pair)
    begin = {"tenant_id": "tenant_1", "source": "s", "instance": "i", "schema": 1, "now_us": 0}
    request = urllib.request.Request(
        f"{pair.target.url}/admin/arrivals",
        json.dumps(begin).encode(),
        {"X-Master-Key": pair.target.master_key, "Content-Type": "application/json"},
        method="POST",
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=120)
    assert (refused.value.code, "The schemas differ: 1 there" in refused.value.read().decode()) == (409, True)
    with Gate(pair.target, "/rows", "before", lambda: None) as gate:  # as a target that is gone in the middle
        status, error = pair.move(pair.source, pair.target, gate.url)
        assert (status, error["message"]) == (503, "The other server: no answer (ServerDisconnectedError)")
    target = pair.target
    target.kill()
    status, error = pair.move(pair.source, target)
    assert (status, error["message"]) == (503, "The other server: no answer (ClientConnectorError)")
    for number in range(LARGE_MESSAGES):
        pair.call(pair.source, "POST", f"/rooms/{room_id}/messages", {"content": f"{number} {'x' * 30_000}"})
    with ServerProcess(pair.directory / "b", dev=False, command=LIMITED, port=target.port):
        status, error = pair.move(pair.source, target)
        assert status == 503, error
        assert pair.can_write(pair.source, f"/rooms/{room_id}")
    log = read_log(pair, pair.source, room_id)
    target.start()
    status, error = pair.move(pair.source, target)
    assert status == 200, error
    assert read_log(pair, target, room_id) == log
    for server in pair.servers:
        server.stop()
    for name in ("a", "b"):
        assert check_database(str(pair.directory / name / "chatapi.db")).findings == []


class Endpoint:
    """The tenant's endpoint for webhooks. While `is_down` it refuses all."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.contents: list[str] = []
        self.is_down = True
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not endpoint.is_down:
                    endpoint.take(self.headers["webhook-id"], body)
                self.send_response(503 if endpoint.is_down else 204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._listener.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._listener.server_port}/"

    def take(self, webhook_id: str, body: Any) -> None:
        if body["type"] != "message.created":
            return  # of a message for those who are offline
        self.ids.append(webhook_id)
        self.contents.append(body["data"]["event"]["content"])

    def __enter__(self) -> "Endpoint":
        threading.Thread(target=self._listener.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown()
        self._listener.server_close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_webhooks_that_wait_move_along_and_are_made_once(pair: Pair) -> None:
    room_id = make_room(pair)
    with Endpoint() as endpoint:
        request = urllib.request.Request(
            f"{pair.source.url}/admin/tenants/{pair.tenant_id}",
            json.dumps({"config": {"webhook_url": endpoint.url, "webhook_events": ["message.created"]}}).encode(),
            {"X-Master-Key": pair.source.master_key, "Content-Type": "application/json"},
            method="PATCH",
        )
        urllib.request.urlopen(request, timeout=120).close()
        for number in range(MESSAGES):
            pair.call(pair.source, "POST", f"/rooms/{room_id}/messages", {"content": f"m {number}"})
        assert pair.move(pair.source, pair.target)[0] == 200
        endpoint.is_down = False
        sent = [f"m {number}" for number in range(MESSAGES)]
        eventually_true(lambda: len(set(endpoint.contents)) == MESSAGES)
        for number in range(MESSAGES, 2 * MESSAGES):  # and to and fro while calls are made
            pair.call(pair.target, "POST", f"/rooms/{room_id}/messages", {"content": f"m {number}"})
            sent.append(f"m {number}")
        assert pair.move(pair.target, pair.source)[0] == 200
        eventually_true(lambda: len(set(endpoint.contents)) == 2 * MESSAGES)
        # Those that were under way at a hold may come twice, with the same id (M4).
        assert sorted(set(endpoint.contents)) == sorted(sent)
        assert len(set(endpoint.ids)) == len(sent)
        assert Counter(endpoint.ids).most_common(1)[0][1] <= 2
