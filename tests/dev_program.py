"""`chatapi serve --test` as a process: what its tests ask it."""

import contextlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from server_process import NO_AUTHORITIES

WAIT_SECONDS = 60.0


class DevProgram:
    """`printed` is its first line. Requests are made one after the other, as a test in any language makes them."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        assert process.stdout is not None
        self.printed: dict[str, str] = json.loads(process.stdout.readline())
        self.url = self.printed["url"]

    def call(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """The status, and the envelope of the answer or None."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:
                text, status = answer.read(), answer.status
        except urllib.error.HTTPError as error:
            with error:
                text, status = error.read(), error.code
        return status, json.loads(text) if text else None

    def dev(self, method: str, path: str, body: object = None) -> Any:
        """The `data` of an answer of `/dev`."""
        status, envelope = self.call(method, f"/dev{path}", body, **{"X-Master-Key": self.printed["master_key"]})
        assert status < 300, envelope
        return envelope and envelope["data"]

    def advance(self, seconds: float) -> Any:
        return self.dev("POST", "/clock", {"advance": seconds})

    def reset(self) -> None:
        self.dev("POST", "/reset")

    def list_calls(self) -> list[dict[str, Any]]:
        return list(self.dev("GET", "/webhooks")["calls"])

    def user(self, method: str, path: str, body: object = None, *, user_id: str = "alice") -> tuple[int, Any]:
        """Of the printed tenant."""
        return self.call(method, path, body, **{"X-API-Key": self.printed["api_key"], "X-User-Id": user_id})

    def make_room(self, *members: str, **fields: object) -> str:
        _status, envelope = self.user("POST", "/rooms", {"type": "group", "members": members, **fields})
        return str(envelope["data"]["room_id"])


@contextlib.contextmanager
def run_dev_program(*arguments: str, **environment: str) -> Iterator[DevProgram]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CHATAPI_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "chatapi", "serve", "--test", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**inherited, **NO_AUTHORITIES, **environment},
    )
    try:
        yield DevProgram(process)
    finally:
        try:
            process.communicate(timeout=WAIT_SECONDS)  # closes standard input; one that is killed leaves its database
        finally:
            process.kill()
