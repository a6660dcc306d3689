"""Examples that need no more than a few lines each: calls of the guide, settings of other tools, command lines."""

import asyncio
import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from conftest import StartServer
from driver import Server, say_many
from examples import ROOT, example, examples, run_calls

from chatapi.cli import load_command, main
from chatapi.client import ChatAPI

BAN = example("docs/guide.md", "sh", "/users/mallory/ban")
BLOCK = example("docs/guide.md", "sh", "/blocks/")
PROFILE = example("docs/guide.md", "sh", "/users/alice")
SEARCH = example("docs/guide.md", "sh", "/search")
TOKENS = example("docs/guide.md", "sh", "/tokens")
STREAM = example("docs/guide.md", "sh", '/events/stream" -H')
STREAM_FROM = example("docs/guide.md", "sh", "?cursors=$CURSORS")
PIPE = example("docs/guide.md", "sh", "printf 'The lamp")
POLL = example("docs/guide.md", "sh", "/sync")
SIGNED = example("docs/guide.md", "python", "jwt.encode")
MODERATION = example("docs/guide.md", "sh", "muted_for")
REACTIONS = example("docs/guide.md", "sh", "/reactions/")
REPORTS = example("docs/guide.md", "sh", "/report")
SYNC = example("docs/guide.md", "json", '"sync"')
THREADS = example("docs/guide.md", "sh", "/mentions")
SCRAPE = example("docs/metrics.md", "yaml")
BENCHMARKS = examples("docs/benchmarks.md", "sh")
SET_UP = example("CONTRIBUTING.md", "sh", "pip install -e")
RELEASE = example("CONTRIBUTING.md", "sh", ".ci/release")
AUDIT = example("docs/operations.md", "sh", "/admin/audit")
RUN_TESTS = example("README.md", "sh", "-m pytest")
INSTALL = example("README.md", "sh", "pipx install")
INSTALL_SDK = example("packaging/chatapi-python/README.md", "sh", "pip install")


async def run_shell(script: str, **names: str) -> Any:
    """The `data` of the one answer that it prints."""
    [data] = await run_calls(script, **names)
    return data


async def test_the_guides_reactions_and_pins(server: Server) -> None:
    alice = server.user("alice")
    message = await alice.say(await alice.make_room("bob"))
    names = {"ROOM": message["room_id"], "MESSAGE": message["message_id"]}
    reacted, pinned, read = await run_calls(REACTIONS, URL=server.url, KEY=server.api_key, **names)
    assert reacted["reactions"] == [{"emoji": "👍", "count": 1, "user_ids": ["bob"]}]
    assert read == pinned == {**message, **reacted, "pinned_at": pinned["pinned_at"]}


async def test_the_audit_of_the_operations(server: Server) -> None:
    tenant = await server.make_tenant()
    shown = await run_shell(AUDIT, URL=server.url, MASTER=server.master_key)
    assert shown["entries"][-1]["target"] == tenant["tenant_id"]


async def test_the_guides_pipe(server: Server) -> None:
    room_id = await server.user("alice").make_room()
    message = await run_shell(PIPE, URL=server.url, KEY=server.api_key, ROOM=room_id)
    assert (message["content"], message["stream"]) == ("The lamp is lit", {"state": "done"})


@pytest.mark.parametrize(("script", "seqs"), [(STREAM, [1, 2]), (STREAM_FROM, [42])], ids=["acked", "cursors"])
async def test_the_guides_event_stream(server: Server, script: str, seqs: list[int]) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    await say_many(alice, room_id, max(seqs))
    script = script.replace("curl -sN", "curl -sN --max-time 20")
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "URL": server.url, "KEY": server.api_key, "ROOM": room_id},
    )
    assert process.stdout is not None
    printed = (await process.stdout.readuntil(b'"sync.complete"') + await process.stdout.readline()).decode()
    server.services.hub.close(server.connections_of("bob")[0], 1001)
    assert b'"type":"close"' in await process.stdout.read()
    assert await process.wait() == 0
    frames = [json.loads(line[6:]) for line in printed.splitlines() if line.startswith("data: ")]
    assert [frame["seq"] for frame in frames if frame["type"] == "message"] == seqs


async def test_the_guides_long_poll(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    await say_many(alice, room_id, 42)
    answer = await run_shell(POLL, URL=server.url, KEY=server.api_key, ROOM=room_id)
    assert [event["seq"] for event in answer["events"]] == [42]
    assert answer["rooms"] == {room_id: 42}


async def test_the_guides_tokens(server: Server) -> None:
    made = await server.make_tenant("shop")
    minted = await run_shell(TOKENS, URL=server.url, KEY=made["api_key"])
    names: dict[str, Any] = {"tenant_id": made["tenant_id"], "token_secret": made["token_secret"]}
    exec(SIGNED, names)
    for token in (minted["token"], names["token"]):
        async with ChatAPI(server.url, token=token) as alice:
            assert (await alice.create_room("group"))["created_by"] == "alice"
    assert jwt.decode(minted["token"], made["token_secret"], algorithms=["HS256"])["sub"] == "alice"


async def test_the_guides_ban(server: Server) -> None:
    made = await run_shell(BAN, URL=server.url, KEY=server.api_key)
    assert made == (await server.user("alice").get("/users/mallory/ban")).data
    assert made["banned_until"] is not None


async def test_the_guides_block(server: Server) -> None:
    made = await run_shell(BLOCK, URL=server.url, KEY=server.api_key)
    assert (await server.user("alice").get("/blocks")).data["blocks"] == [made]
    assert made["user_id"] == "mallory"


async def test_the_guides_search(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    await alice.say(room_id, "The lighthouse cafe opens next week")
    await server.services.indexer.update()
    page = await run_shell(SEARCH, URL=server.url, KEY=server.api_key)
    assert page["results"][0]["snippet"]["hits"] == [[4, 14], [15, 19], [26, 35]]


async def test_the_guides_profile(server: Server) -> None:
    made = await run_shell(PROFILE, URL=server.url, KEY=server.api_key)
    assert (await server.user("bob").get("/users", q="alice arch")).data["users"] == [made]
    assert made["metadata"] == {"team": "keepers"}


async def test_the_guides_moderation(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    muted, closed, slow, ban = await run_calls(MODERATION, URL=server.url, KEY=server.api_key, ROOM=room_id)
    assert muted["user_id"] == "bob"
    assert muted["muted_until"]
    assert (closed["posting"], closed["slow_mode_seconds"]) == ("admins", 0)
    assert (slow["posting"], slow["slow_mode_seconds"]) == ("members", 30)
    assert (ban["user_id"], ban["reason"]) == ("mallory", "spam")


async def test_the_guides_thread(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    root = await alice.say(room_id)
    names = {"URL": server.url, "KEY": server.api_key, "ROOM": room_id, "MESSAGE": root["message_id"]}
    reply, thread, mentions, view = await run_calls(THREADS, **names)
    assert reply["thread_id"] == root["message_id"]
    assert thread["messages"] == mentions["messages"] == [reply]
    assert (view["notify"], view["hidden"]) == ("mentions", False)


async def test_the_guides_reports(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    message = await alice.say(room_id)
    names = {"URL": server.url, "KEY": server.api_key, "ROOM": room_id, "MESSAGE": message["message_id"]}
    reported, listed = await run_calls(REPORTS, **names)
    [report] = listed["reports"]
    assert (report["report_id"], report["message"], report["user_id"]) == (reported["report_id"], message, "bob")


async def test_the_guides_sync(server: Server) -> None:
    alice = server.user("alice")
    rooms = [await alice.make_room(), await alice.make_room()]
    await alice.say(rooms[0])
    socket = await alice.connect(ready=False, sync="none")
    ready = await socket.expect("ready")
    frame = json.loads(SYNC)
    assert set(frame) == {"type", "epoch", "rooms"}
    assert {type(cursor) for cursor in frame["rooms"].values()} == {int}
    await socket.send("sync", epoch=ready["epoch"], rooms=dict.fromkeys(rooms, 0))
    assert (await socket.expect("message"))["room_id"] == rooms[0]
    assert (await socket.expect("sync.complete"))["rooms"] == {rooms[0]: 1, rooms[1]: 0}


async def test_prometheus_gets_in_with_its_header(start_server: StartServer) -> None:
    server = await start_server({"metrics.require_master_key": True})
    [job] = yaml.safe_load(SCRAPE)["scrape_configs"]
    [[name, values]] = job["http_headers"].items()
    assert list(values) == ["secrets"]
    assert (await server.request("GET", "/metrics")).status == 401
    assert (await server.request("GET", "/metrics", headers={name: server.master_key})).status == 200
    [[target]] = [config["targets"] for config in job["static_configs"]]
    assert re.fullmatch(r"[\w.]+:\d+", target)


BENCH_DOCUMENTS = ("README.md", "docs/benchmarks.md")


def bench_lines() -> list[str]:
    quoted = re.findall(
        r"`chatapi (bench [a-z][^`…]*)`", "".join((ROOT / name).read_text() for name in BENCH_DOCUMENTS)
    )
    fenced = re.findall(r"^chatapi (.+)$", "".join(BENCHMARKS), re.MULTILINE)
    return sorted({*quoted, *fenced})


@pytest.mark.parametrize("line", bench_lines())
def test_each_measurement_is_understood(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr(load_command("bench"), "run", lambda args: ran.append(args) or 0)
    assert main(shlex.split(line)) == 0
    assert len(ran) == 1


def test_the_first_commands_of_a_contributor_are_those_of_ci() -> None:
    ci = (ROOT / ".ci/run").read_text()
    make, _activate, install, test = SET_UP.splitlines()
    assert make == "python3 -m venv .venv"
    assert install.replace("install", "install --quiet") in ci
    assert f"\n{test} " in ci
    assert RUN_TESTS.strip() == f".venv/bin/{install} && .venv/bin/{test}"
    assert os.access(ROOT / shlex.split(RELEASE)[0], os.X_OK)


@pytest.mark.parametrize("line", [*INSTALL.splitlines(), *INSTALL_SDK.splitlines()])
def test_documented_install_lines_name_existing_packages(line: str) -> None:
    """tests/test_release.py installs them."""
    tool = r"(pip install|pipx install|uv tool install)"
    [what] = re.findall(rf"^{tool} (?P<what>.+)$", line)
    name = what[1].strip("'")
    if name.endswith(".whl"):
        assert f"{Path(name).name.split('-')[0]}-" in (ROOT / "tests/test_release.py").read_text()
    elif "@" in name:
        address = re.fullmatch(
            r"chatapi-(server|python) @ git\+https://git\.example\.com/chatapi\.git(?:#subdirectory=(.+))?", name
        )
        assert address is not None
        assert (ROOT / (address[2] or ".") / "pyproject.toml").exists()
    else:
        assert (ROOT / name / "pyproject.toml").exists()
