"""What docs/webhooks.md says is held to what the server does."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from conftest import StartServer
from driver import eventually
from examples import example, examples
from hooked import QUICK, Hooked, hook
from receiver import Receiver, answer
from server_process import free_port

from chatapi.config import WebhooksConfig

DOCUMENT = (Path(__file__).parents[2] / "docs/webhooks.md").read_text(encoding="utf-8")


def shape(value: Any) -> Any:
    """The names of its fields."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items() if name != "payload"}
    return [shape(item) for item in value] if isinstance(value, list) else None


async def run_shell(command: str, **names: str) -> Any:
    run = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-euo", "pipefail", "-c", command],
        env={"PATH": os.environ["PATH"], **names},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert run.returncode == 0, run.stderr
    reply = json.loads(run.stdout)
    assert reply["success"], reply
    return reply["data"]


async def test_examples_of_the_webhook_document_work(start_server: StartServer, receiver: Receiver) -> None:
    server = await start_server({**QUICK, "webhooks.retry_schedule_seconds": [0]})
    notify, set_up, choose, rotate, list_dead = examples("docs/webhooks.md", "sh")
    frame, event, created, dead_letters = (json.loads(block) for block in examples("docs/webhooks.md", "json"))
    made = await server.make_tenant("example")
    names = {"URL": server.url, "KEY": made["api_key"], "MASTER": server.master_key, "TENANT": made["tenant_id"]}
    set_up = set_up.replace("https://app.example.com/chatapi", receiver.url)
    assert (await run_shell(set_up, **names))["webhook_secret"].startswith("whsec_")
    assert (await run_shell(choose, **names))["config"]["webhook_events"] == ["message.created", "member.joined"]
    assert (await run_shell(rotate, **names))["webhook_secret"].startswith("whsec_")
    socket = await server.user("bob", made["api_key"]).connect()
    assert (await run_shell(notify, **names))["recipients"] == 1
    assert shape(await socket.expect("notification")) == shape(frame)
    await socket.close()
    receiver.behave = answer(503)
    alice = server.user("alice", made["api_key"])
    room_id = await alice.make_room("carol", room_type="dm")
    await alice.say(room_id)
    calls = {call.event["type"]: call.event for call in await receiver.wait_for(2)}
    assert shape(calls["message.offline"]) == shape(event)
    assert shape(calls["message.created"]) == shape(created)
    await eventually(lambda: server.services.webhooks.dead == 2)
    await Hooked(server, {**made, "webhook_secret": ""}).is_settled()
    assert shape(await run_shell(list_dead, **names)) == shape(dead_letters)


async def test_documented_receiver_takes_only_signed_events(start_server: StartServer) -> None:
    server = await start_server(QUICK)
    port = free_port()
    hooked = await hook(server, f"http://127.0.0.1:{port}/")
    async with run_example(example("docs/webhooks.md", "python"), port, hooked.secret) as lines:
        alice = hooked.user("alice")
        await alice.say(await alice.make_room("bob"))
        assert await anext(lines) == "message.offline for bob"
        async with server.session.post(f"http://127.0.0.1:{port}/", data=b"{}") as reply:
            assert reply.status == 401


@asynccontextmanager
async def run_example(code: str, port: int, secret: str) -> AsyncIterator[AsyncIterator[str]]:
    """Its lines, once it listens."""
    environment = {**os.environ, "PORT": str(port), "WEBHOOK_SECRET": secret}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    output = process.stdout

    async def read() -> AsyncIterator[str]:
        async for line in output:
            yield line.decode().rstrip()

    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    _reader, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    break
        yield read()
    finally:
        process.kill()
        await process.wait()


def test_the_figures_are_the_settings() -> None:
    defaults = WebhooksConfig()
    words = {
        0: "at once",
        5: "5 s",
        30: "30 s",
        300: "5 min",
        1800: "30 min",
        7200: "2 h",
        18_000: "5 h",
        36_000: "10 h",
    }
    positions = [
        DOCUMENT.index(words[seconds], DOCUMENT.index("on a schedule")) for seconds in defaults.retry_schedule_seconds
    ]
    assert positions == sorted(positions)
    assert f"no answer within {defaults.timeout_seconds} seconds" in DOCUMENT
    assert f"for {defaults.dead_letter_days} days (`webhooks.dead_letter_days`)" in DOCUMENT
