"""docs/agents.md: its commands run as they stand, one after the other, with stand-ins for the models."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from driver import Server
from examples import example
from language_model import Fault, Json, Refuse, Speak, open_model
from server_process import NO_AUTHORITIES

ROOM = example("docs/agents.md", "sh", "ROOM=")
WORDS = example("docs/agents.md", "sh", "for WORD")
OLLAMA = example("docs/agents.md", "sh", "ollama run")
COMPLETION = example("docs/agents.md", "sh", "/chat/completions")
QUESTION = example("docs/agents.md", "sh", '"mentions": ["robot"]')
AGENTS = {
    "http://localhost:11434/v1": example("docs/agents.md", "sh", "--model llama3.2"),
    "https://api.openai.com/v1": example("docs/agents.md", "sh", '--model "$MODEL"'),
}

ADDRESS = "http://localhost:8080"
ENDPOINT = "https://api.openai.com/v1"


STAND_INS = {
    "sleep": "exit 0",
    "ollama": 'test "$1" = run && printf "They save " && printf "power."',
    "chatapi": f'exec "{sys.executable}" -m chatapi "$@"',
}


class Page:
    """Scripts of the page in an own directory, which share their variables."""

    def __init__(self, server: Server, directory: Path) -> None:
        self._server = server
        self._directory = directory / ".venv" / "bin"
        self._directory.mkdir(parents=True)
        for name, script in STAND_INS.items():
            (self._directory / name).write_text(f"#!/bin/sh\n{script}\n")
            (self._directory / name).chmod(0o755)
        path = f"{self._directory}:{os.environ['PATH']}"
        self._names = {**NO_AUTHORITIES, "KEY": server.api_key, "OPENAI_API_KEY": "k", "MODEL": "fake", "PATH": path}

    def start(self, *scripts: str, replacing: dict[str, str]) -> subprocess.Popen[str]:
        script = "\n".join(scripts)
        for old, new in {ADDRESS: self._server.url, **replacing}.items():
            script = script.replace(old, new)
        return subprocess.Popen(
            ["sh", "-eu", "-c", script],
            env={**os.environ, **self._names},
            cwd=self._directory.parents[1],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    async def run(self, *scripts: str, endpoint: str = "") -> list[dict[str, Any]]:
        """What they print, as lines of JSON."""
        with self.start(*scripts, replacing={ENDPOINT: endpoint}) as process:
            output, errors = await asyncio.to_thread(process.communicate, timeout=150)
        assert process.returncode == 0, errors
        return [json.loads(line) for line in output.splitlines()]


@pytest.fixture
def page(shared_server: Server, tmp_path: Path) -> Page:
    return Page(shared_server, tmp_path)


@pytest.mark.parametrize(("script", "text"), [(WORDS, "Once upon a time "), (OLLAMA, "They save power.")])
async def test_a_pipe_writes_into_the_room(shared_server: Server, page: Page, script: str, text: str) -> None:
    [answer] = await page.run(ROOM, script)
    message = answer["data"]
    assert (message["sender_id"], message["content"], message["stream"]) == ("robot", text, {"state": "done"})
    room = (await shared_server.user("alice").get(f"/rooms/{message['room_id']}")).data
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
    shared_server: Server, page: Page, speak: Speak, text: str, state: str
) -> None:
    async with open_model(speak) as model:
        [answer] = await page.run(ROOM, COMPLETION, endpoint=f"{model.url}/v1")
    assert answer["success"] is (state == "done")
    [room] = (await shared_server.user("robot").get("/rooms")).data["rooms"]
    [message] = (await shared_server.user("alice").get(f"/rooms/{room['room_id']}/messages")).data["messages"]
    assert (message["sender_id"], message["content"], message["stream"]) == ("robot", text, {"state": state})


async def refuse(_: Json) -> AsyncIterator[str]:
    raise Refuse(401)
    yield


async def test_a_completion_that_is_refused_writes_nothing(shared_server: Server, page: Page) -> None:
    async with open_model(refuse) as model:
        [answer] = await page.run(ROOM, COMPLETION, endpoint=f"{model.url}/v1")
    assert answer["error"]["message"] == "The body is empty"
    [room] = (await shared_server.user("robot").get("/rooms")).data["rooms"]
    assert room["last_seq"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("address", AGENTS)
async def test_an_agent_answers_the_question(shared_server: Server, page: Page, address: str) -> None:
    async def speak(_: Json) -> AsyncIterator[str]:
        yield "They save power."

    async with open_model(speak) as model:
        room_id = await shared_server.user("alice").make_room("robot")
        listening = await shared_server.user("alice").connect()
        variables = f"URL={ADDRESS} ROOM={room_id}"
        exporting = AGENTS["http://localhost:11434/v1"].splitlines()[0]
        replacing = {address: f"{model.url}/v1", ".venv": "exec .venv"}  # `exec`: the shell is the agent
        with page.start(variables, exporting, AGENTS[address], replacing=replacing) as agent:
            try:
                [question] = await page.run(variables, QUESTION)
                ended = await listening.expect("message.finished")
            finally:
                agent.terminate()
                await asyncio.to_thread(agent.communicate, timeout=150)
        assert agent.returncode == 0
    assert (ended["sender_id"], ended["reply_to"]) == ("robot", question["data"]["message_id"])
    assert (ended["content"], ended["stream"]) == ("They save power.", {"state": "done"})
    assert (await shared_server.user("alice").get("/users/robot")).data["name"] == "Robot"
