"""`chatapi serve --test`, and `/dev` of it and of `--dev`."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dev_program import WAIT_SECONDS, DevProgram, run_dev_program
from driver import Server
from examples import example

from chatapi import dev_tools
from chatapi.rest import DEV_ROUTES, ROUTES
from chatapi.rest.call import Credential
from chatapi.rest.dev import HOOK_ROUTE

DEV_PATHS = [(route.method, route.path) for route in (*DEV_ROUTES, HOOK_ROUTE)]


@pytest.fixture(scope="module")
def started() -> Iterator[DevProgram]:
    with run_dev_program() as program:
        yield program


@pytest.fixture
def program(started: DevProgram) -> DevProgram:
    started.reset()
    return started


# The route table


def test_no_route_of_dev_is_in_the_usual_table() -> None:
    assert {path for _, path in DEV_PATHS} >= {"/dev/clock", "/dev/faults", "/dev/reset", "/dev/webhooks", "/dev/hook"}
    assert all(path.startswith("/dev/") for _, path in DEV_PATHS)
    assert not [route for route in ROUTES if route.path.startswith("/dev")]
    assert {route.credential for route in DEV_ROUTES} == {Credential.MASTER}


async def test_dev_is_unknown_in_any_other_mode(shared_server: Server) -> None:
    headers = {"X-Master-Key": shared_server.master_key}
    for prefix in ("", "/v1"):
        for method, path in DEV_PATHS:
            reply = await shared_server.request(method, prefix + path, {}, headers=headers)
            assert (reply.status, reply.error["code"]) == (404, "NOT_FOUND"), path
    assert "/dev" not in (await shared_server.request("GET", "/openapi.json")).body["paths"]
    assert not [path for path in (await shared_server.request("GET", "/openapi.json")).body["paths"] if "/dev" in path]


def test_dev_takes_the_master_key_alone(program: DevProgram) -> None:
    of_tenant = {"X-API-Key": program.printed["api_key"], "X-User-Id": "alice"}
    for route in DEV_ROUTES:
        for headers in ({}, of_tenant, {"X-Master-Key": "wrong"}):
            status, envelope = program.call(route.method, route.path, {}, **headers)
            assert (status, envelope["error"]["code"]) == (401, "AUTHENTICATION_ERROR"), route.path


def test_its_document_lists_dev(program: DevProgram) -> None:
    _status, document = program.call("GET", "/openapi.json")
    assert {"/dev/clock", "/dev/reset", "/dev/webhooks"} <= set(document["paths"])


# The start and the end


def test_the_first_line_has_all_that_a_test_needs(program: DevProgram) -> None:
    assert list(program.printed) == ["url", "master_key", "tenant_id", "api_key", "token_secret", "webhook_secret"]
    status, envelope = program.call("GET", "/admin/tenants", **{"X-Master-Key": program.printed["master_key"]})
    assert status == 200
    [tenant] = envelope["data"]["tenants"]
    assert tenant["tenant_id"] == program.printed["tenant_id"]
    assert tenant["config"] == {"webhook_url": f"{program.url}/dev/hook"}
    assert program.user("GET", "/rooms")[0] == 200


# Faults, of which test_faults.py shows what they do


def test_a_reset_ends_the_faults(program: DevProgram) -> None:
    nothing = program.dev("GET", "/faults")
    assert program.dev("POST", "/faults", {"stall_seconds": 600, "delay_ms": 60_000}) != nothing
    program.reset()
    assert program.dev("GET", "/faults") == nothing
    assert program.user("GET", "/rooms")[0] == 200


# The clock


def test_the_clock_goes_forward_only(program: DevProgram) -> None:
    for advance in (-1, 10**9, "1", None):
        status, envelope = program.call(
            "POST", "/dev/clock", {"advance": advance}, **{"X-Master-Key": program.printed["master_key"]}
        )
        assert (status, envelope["error"]["field"]) == (400, "advance"), advance
    assert program.advance(0.5)["advanced"] == 0.5
    assert program.advance(86_400)["advanced"] == 86_400.5
    assert program.dev("GET", "/clock")["advanced"] == 86_400.5


# The document


@pytest.mark.slow
def test_the_examples_of_the_document(tmp_path: Path) -> None:
    (tmp_path / "chatapi").write_text(f'#!/bin/sh\nexec {sys.executable} -m chatapi "$@"\n')
    (tmp_path / "chatapi").chmod(0o755)
    blocks = [
        example("docs/testing.md", "sh", "serve --test"),
        example("docs/testing.md", "sh", "jq -r"),
        example("docs/testing.md", "sh", "/rooms"),
        example("docs/testing.md", "sh", "/dev/clock"),
        example("docs/testing.md", "sh", "/dev/webhooks"),
        example("docs/testing.md", "sh", "/dev/faults"),
        example("docs/testing.md", "sh", "/dev/reset"),
    ]
    script = "\necho\n".join([*blocks, "kill %1; wait %1"])
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    shell = subprocess.run(
        ["bash", "-emc", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=WAIT_SECONDS
    )
    printed, room, clock, webhooks, faults = (line for line in shell.stdout.splitlines() if line)
    documented = json.loads(example("docs/testing.md", "json", "master_key"))
    assert list(json.loads(printed)) == list(documented)
    assert json.loads(room)["data"]["type"] == "group"
    assert json.loads(clock)["data"]["advanced"] == 86_400
    assert json.loads(webhooks)["data"]["calls"] == []
    assert json.loads(faults)["data"]["lose_confirmations"] == 2


# The inbox


def test_the_inbox_holds_the_webhooks_and_judges_them(program: DevProgram) -> None:
    room_id = program.make_room("bob")
    for content in ("one", "two"):
        program.user("POST", f"/rooms/{room_id}/messages", {"content": content})
    program.advance(30)
    first, second = program.list_calls()
    assert [first["body"]["data"]["message"]["content"], second["body"]["data"]["message"]["content"]] == ["one", "two"]
    assert [first["type"], first["valid"], first["body"]["type"]] == ["message.offline", True, "message.offline"]
    assert first["id"].startswith("dlv_")
    forged = {"webhook-id": first["id"], "webhook-timestamp": f"{time.time():.0f}", "webhook-signature": "v1,AAAA"}
    assert program.call("POST", "/dev/hook", {"type": "message.offline"}, **forged)[0] == 204
    assert program.call("POST", "/dev/hook", {"type": "message.offline"})[0] == 204
    assert [call["valid"] for call in program.list_calls()] == [True, True, False, False]
    for wrong in ({}, [], {"type": 1}):
        status, envelope = program.call("POST", "/dev/hook", wrong)
        assert (status, envelope["error"]["field"]) == (400, "type")
    program.reset()
    assert program.list_calls() == []


def test_the_inbox_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev_tools, "MAX_CALLS", 3)
    monkeypatch.setattr(dev_tools, "MAX_CALL_BYTES", 100)
    inbox = dev_tools.WebhookInbox()
    for number in range(5):
        inbox.add(dev_tools.InboxCall(str(number), "x", b"{}", True, 0))
    assert [call.webhook_id for call in inbox.list_calls()] == ["2", "3", "4"]
    inbox.add(dev_tools.InboxCall("large", "x", bytes(97), True, 0))
    assert [call.webhook_id for call in inbox.list_calls()] == ["4", "large"]


# The end


@pytest.mark.slow
@pytest.mark.parametrize("end", ["SIGTERM", "SIGINT", "standard input"])
def test_nothing_is_left_of_it(end: str, tmp_path: Path) -> None:
    with run_dev_program(TMPDIR=str(tmp_path)) as program:
        program.make_room("bob")
        program.reset()
        stdin, stderr = program.process.stdin, program.process.stderr
        assert stdin is not None
        assert stderr is not None
        if end == "standard input":
            stdin.close()
            program.process.stdin = None  # for `communicate`
        else:
            program.process.send_signal(signal.Signals[end])
        assert program.process.wait(WAIT_SECONDS) == 0
        log = stderr.read()
        assert program.process.stdout.read() == ""  # type: ignore[union-attr]  # it is a pipe
    [folder] = re.findall(r"database=(\S+)/0\.db", log)
    assert not Path(folder).exists()
    assert not re.search(r"Z (warning|error) (?!no master)", log)


@pytest.mark.slow
def test_folder_of_a_killed_server_is_removed_by_the_next() -> None:
    with run_dev_program() as running, run_dev_program() as killed, run_dev_program() as young:
        folders = [find_folder(program) for program in (running, killed, young)]
        for program in (killed, young):
            program.process.kill()
            program.process.wait()
        for folder in folders[:2]:
            os.utime(folder, (0, 0))
        with run_dev_program():
            assert [folder.exists() for folder in folders] == [True, False, True]
    shutil.rmtree(folders[2])


def find_folder(program: DevProgram) -> Path:
    """Where its database is: only its log tells."""
    assert program.process.stderr is not None
    for line in program.process.stderr:
        if found := re.search(r"database=(\S+)/0\.db", line):
            return Path(found[1])
    raise AssertionError("its log does not tell")


@pytest.mark.slow
def test_neither_dev_nor_db_goes_with_test() -> None:
    for flags in (["--dev"], ["--db", "x.db"]):
        command = [sys.executable, "-m", "chatapi", "serve", "--test", *flags]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS)
        assert ended.returncode != 0
        assert "--test" in ended.stderr
