"""docs/conversations.md: its examples run, and do the same in each language."""

import asyncio
import json
import re
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driver import Server
from examples import ROOT, examples, read_blocks, run_calls

from chatapi.client import ChatAPI

PAGE = "docs/conversations.md"
SHELL = examples("docs/conversations.md", "sh")
FRAMES = [json.loads(text) for text in examples("docs/conversations.md", "json")]
PYTHON = examples("docs/conversations.md", "python")
SCRIPTS = examples("docs/conversations.md", "js")
SDK = ROOT / "chatapi" / "web" / "sdk" / "chatapi.js"
SAID = "Where is the lamp? In the lighthouse."

Results = dict[str, Any]


def check_mentions(found: Results) -> bool:
    return found["asked"]["mentions"] == ["bob"] and found["mentions"]["messages"] == [found["asked"]]


def check_moderation(found: Results) -> bool:
    return bool(found["muted"]["muted_until"]) and found["slow"]["slow_mode_seconds"] == 30 and bool(found["ban"])


def check_reports(found: Results) -> bool:
    [report] = found["reports"]["reports"]
    return report["report_id"] == found["report"]["report_id"] and found["block"]["user_id"] == "mallory"


# By the order of the page: whether what its example gives is right.
CHECKS: list[Callable[[Results], bool]] = [
    lambda found: found["replies"]["messages"] == [found["reply"]],
    check_mentions,
    lambda found: found["reacted"]["reactions"] == [{"emoji": "🚢", "count": 1, "user_ids": ["bob"]}],
    lambda found: found["pins"]["messages"] == [found["pinned"]],
    lambda found: found["profiles"]["users"] == [found["profile"]],
    lambda found: [result["message"]["content"] for result in found["found"]["results"]] == [SAID],
    check_moderation,
    check_reports,
]


class Place:
    """A room of alice and bob in a tenant of its own, with one message."""

    def __init__(self, server: Server, api_key: str, room_id: str, message_id: str) -> None:
        self.server, self.api_key, self.room_id, self.message_id = server, api_key, room_id, message_id

    @classmethod
    async def make(cls, server: Server, name: str, number: int) -> "Place":
        api_key = (await server.make_tenant(f"{name}-{number}"))["api_key"]
        alice = server.user("alice", api_key)
        room_id = await alice.make_room("bob")
        message = await alice.say(room_id, SAID)
        if number == SEARCHING:
            await server.services.indexer.update()
        return cls(server, api_key, room_id, message["message_id"])

    def fill(self, frame: dict[str, Any]) -> dict[str, Any]:
        text = json.dumps(frame).replace("$ROOM", self.room_id).replace("$MESSAGE", self.message_id)
        return json.loads(text)


def names_of(code: str) -> list[str]:
    return re.findall(r"^(?:const )?(\w+) = await", code, re.MULTILINE)


SEARCHING = next(number for number, code in enumerate(PYTHON) if ".search(" in code)


async def test_each_subject_has_an_example_in_each_language(server: Server) -> None:
    assert len(SHELL) == len(PYTHON) == len(SCRIPTS) == len(CHECKS)
    for python, script in zip(PYTHON, SCRIPTS, strict=True):
        assert names_of(python) == names_of(script)


async def test_the_calls(server: Server) -> None:
    for number, script in enumerate(SHELL):
        place = await Place.make(server, "calls", number)
        names = {"URL": server.url, "KEY": place.api_key, "ROOM": place.room_id, "MESSAGE": place.message_id}
        answers = await run_calls(script, **names)
        assert CHECKS[number](dict(zip(names_of(PYTHON[number]), answers, strict=True))), script


async def test_the_frames(server: Server) -> None:
    """Those that are sent are answered, and those that come have these fields."""
    for number, frame in enumerate(FRAMES):
        place = await Place.make(server, "frames", number)
        sockets = {name: await server.user(name, place.api_key).connect() for name in ("alice", "bob")}
        filled = place.fill(frame)
        if "request_id" in filled:
            sender = "alice" if "mentions" in filled else "bob"
            await sockets[sender].send(filled.pop("type"), **filled)
            assert (await sockets[sender].answer_to(filled["request_id"]))["type"] != "error", filled
            continue
        await cause(filled["type"], place)
        came = await sockets["alice"].expect(filled["type"])
        assert shape_of(came) == shape_of(filled)


async def cause(event: str, place: Place) -> None:
    alice, bob = (place.server.user(name, place.api_key) for name in ("alice", "bob"))
    if event == "message.pinned":
        await alice.put(f"/rooms/{place.room_id}/pins/{place.message_id}", {})
    elif event == "user.updated":
        await bob.put("/users/bob", {"name": "Bob Boatman"})
    else:
        await alice.patch(f"/rooms/{place.room_id}/members/bob", {"muted_for": 600})


def shape_of(frame: dict[str, Any]) -> dict[str, Any]:
    """Times are whatever they are."""
    return {
        name: shape_of(value) if isinstance(value, dict) else bool(value) if name.endswith("_at") else value
        for name, value in frame.items()
        if name != "muted_until"
    }


async def test_the_python_sdk(server: Server) -> None:
    for number, code in enumerate(PYTHON):
        place = await Place.make(server, "python", number)
        names: dict[str, Any] = {}
        body = textwrap.indent(code, "    ")
        exec(f"async def run(alice, bob, room_id, message_id):\n{body}    return locals()", names)
        async with (
            ChatAPI(server.url, api_key=place.api_key, user_id="alice") as alice,
            ChatAPI(server.url, api_key=place.api_key, user_id="bob") as bob,
        ):
            assert CHECKS[number](await names["run"](alice, bob, place.room_id, place.message_id)), code


@pytest.mark.browser
async def test_the_javascript_sdk(server: Server, tmp_path: Path) -> None:
    for number, code in enumerate(SCRIPTS):
        place = await Place.make(server, "js", number)
        script = tmp_path / "example.mjs"
        script.write_text(
            f"import {{ ChatAPI }} from {json.dumps(str(SDK))};\n"
            f"const of = (userId) => new ChatAPI({{ url: {json.dumps(server.url)},"
            f" apiKey: {json.dumps(place.api_key)}, userId }});\n"
            "const [alice, bob] = [of('alice'), of('bob')];\n"
            f"const [roomId, messageId] = {json.dumps([place.room_id, place.message_id])};\n"
            f"{code}\nconsole.log(JSON.stringify({{ {', '.join(names_of(code))} }}));\n"
        )
        run = await asyncio.to_thread(
            subprocess.run, ["node", script.name], cwd=tmp_path, capture_output=True, text=True, timeout=150
        )
        assert run.returncode == 0, run.stderr
        assert CHECKS[number](json.loads(run.stdout)), code


def test_each_section_is_complete() -> None:
    """Search, and reports and blocks, have no frame."""
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    sections = text.split("\n## ")[1:]
    languages = [re.findall(r"^```(\w+)$", section, re.MULTILINE) for section in sections]
    assert languages == [["sh", *(["json"] if "```json" in section else []), "python", "js"] for section in sections]
    assert sum(len(found) for found in languages) == len(read_blocks(PAGE))
    assert all("In the playground, " in re.sub(r"\s+", " ", section) for section in sections)
