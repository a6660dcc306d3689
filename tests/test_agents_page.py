"""docs/agents.md: its pipes run as they stand, one after the other, with stand-ins for the models."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from driver import Server
from examples import example
from language_model import Fault, Json, Speak, open_model

ROOM = example("docs/agents.md", "sh", "ROOM=")
WORDS = example("docs/agents.md", "sh", "for WORD")
OLLAMA = example("docs/agents.md", "sh", "ollama run")
COMPLETION = example("docs/agents.md", "sh", "/chat/completions")

ADDRESS = "http://localhost:8080"
ENDPOINT = "https://api.openai.com/v1"


async def run_page(server: Server, tmp_path: Path, *scripts: str, endpoint: str = "") -> list[dict[str, Any]]:
    """The last one's output, as lines of JSON. `sleep` and `ollama` are stand-ins."""
    for name, script in (("sleep", "exit 0"), ("ollama", 'test "$1" = run && printf "They save " && printf "power."')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    names = {"KEY": server.api_key, "OPENAI_API_KEY": "k", "MODEL": "fake", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = "\n".join(scripts).replace(ADDRESS, server.url).replace(ENDPOINT, endpoint)
    run = await asyncio.to_thread(
        subprocess.run, ["sh", "-eu", "-c", script], env=names, capture_output=True, text=True, timeout=30
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.mark.parametrize(("script", "text"), [(WORDS, "Once upon a time "), (OLLAMA, "They save power.")])
async def test_a_pipe_writes_into_the_room(server: Server, tmp_path: Path, script: str, text: str) -> None:
    [answer] = await run_page(server, tmp_path, ROOM, script)
    message = answer["data"]
    assert (message["sender_id"], message["content"], message["stream"]) == ("robot", text, {"state": "done"})
    room = (await server.user("alice").get(f"/rooms/{message['room_id']}")).data
    assert room["name"] == "Robots"


async def blink(body: Json) -> AsyncIterator[str]:
    assert (body["model"], body["stream"]) == ("fake", True)
    yield "They save "
    yield "power."


async def fail(_: Json) -> AsyncIterator[str]:
    yield "They save "
    raise Fault


@pytest.mark.parametrize(
    ("speak", "text", "state"), [(blink, "They save power.", "done"), (fail, "They save ", "failed")]
)
async def test_a_completion_writes_into_the_room(
    server: Server, tmp_path: Path, speak: Speak, text: str, state: str
) -> None:
    async with open_model(speak) as model:
        [answer] = await run_page(server, tmp_path, ROOM, COMPLETION, endpoint=f"{model.url}/v1")
    assert answer["success"] is (state == "done")
    [room] = (await server.user("robot").get("/rooms")).data["rooms"]
    [message] = (await server.user("alice").get(f"/rooms/{room['room_id']}/messages")).data["messages"]
    assert (message["sender_id"], message["content"], message["stream"]) == ("robot", text, {"state": state})
