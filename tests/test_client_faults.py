"""The faults of sdk_cases.json, from which the Python SDK recovers by itself."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from client_rig import TRANSPORTS, Inbox, Rig, contents, eventually, make_rig, seqs, stored_messages
from sdk_stage import SHORT_LIVES
from server_process import ServerProcess

pytestmark = pytest.mark.slow

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "sdk_cases.json").read_text())["faults"]["cases"]
CASE_SECONDS = 50.0


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server"), SHORT_LIVES) as process:
        yield process


@pytest.fixture
async def rig(process: ServerProcess, transport: str) -> AsyncIterator[Rig]:
    async with make_rig(process.url, process.master_key) as rig:
        if transport != "websocket":
            rig.options["transports"] = (transport,)
        yield rig


async def set_faults(process: ServerProcess, faults: dict[str, Any]) -> dict[str, Any]:
    """The faults that are on then."""
    headers = {"X-Master-Key": process.master_key}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{process.url}/dev/faults", json=faults) as response,
    ):
        assert response.status == 200, await response.text()
        return dict((await response.json())["data"])


class Crew:
    """Alice, who sends in the order of the steps, and bob."""

    def __init__(self, process: ServerProcess, room: str, alice: Inbox, bob: Inbox, sending: asyncio.TaskGroup) -> None:
        self._process = process
        self._room = room
        self.alice = alice
        self.bob = bob
        self._sending = sending
        self._calls: list[asyncio.Task[Any]] = []
        self.texts: list[str] = []
        self.streams = 0

    async def take(self, step: dict[str, Any]) -> None:
        [(kind, value)] = step.items()
        match kind:
            case "fault":
                await set_faults(self._process, value)
            case "send":
                for _ in range(value):
                    self.texts.append(f"message {len(self.texts) + 1}")
                    self._begin(self.alice.connection.send(self._room, self.texts[-1]))
            case "stream":
                pieces = [f"piece {number} " for number in range(value)]
                self.texts.append("".join(pieces))
                self.streams += 1
                self._begin(self.alice.connection.stream(self._room, _chunks(pieces)))
            case "confirmed":
                await asyncio.gather(*self._calls)
            case "wait_ms":
                await asyncio.sleep(value / 1000)
            case _:
                raise AssertionError(f"an unknown step: {kind}")

    def _begin(self, call: Any) -> None:
        self._calls.append(self._sending.create_task(call))


async def _chunks(pieces: list[str]) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0.01)  # as a model writes: not all in one append


def test_steps_are_known_kinds() -> None:
    kinds = {kind for case in CASES for step in case["steps"] for kind in step}
    assert kinds == {"fault", "send", "stream", "confirmed", "wait_ms"}


@pytest.mark.parametrize(
    ("case", "transport"),
    [
        pytest.param(case, transport, id=f"{case['name']}-{transport}")
        for case in CASES
        for transport in case.get("over", ("websocket", *TRANSPORTS))
    ],
)
async def test_sdk_recovers(rig: Rig, process: ServerProcess, case: dict[str, Any]) -> None:
    room = await rig.group("alice", "bob")
    async with asyncio.timeout(CASE_SECONDS):
        async with asyncio.TaskGroup() as sending:
            crew = Crew(process, room, await rig.connect("alice"), await rig.connect("bob"), sending)
            try:
                for step in case["steps"]:
                    await crew.take(step)
            finally:
                await set_faults(process, {})
        stored = await stored_messages(rig.client("alice"), room)
        assert contents(stored) == crew.texts
        for inbox in (crew.alice, crew.bob):
            messages = await inbox.messages(room, len(crew.texts))
            await inbox.until("message.finished", crew.streams)
            assert seqs(messages) == seqs(stored)
            assert [one["message_id"] for one in messages] == [one["message_id"] for one in stored]

            async def is_live(inbox: Inbox = inbox) -> bool:
                return inbox.connection.state == "live"

            await eventually(is_live)
            assert len(await inbox.messages(room, 1)) == len(crew.texts)
            assert len(await inbox.until("message.finished", 0)) == crew.streams


@pytest.mark.parametrize("transport", ["websocket", *TRANSPORTS])
async def test_change_whose_confirmation_was_lost_is_made_once(rig: Rig, process: ServerProcess) -> None:
    room = await rig.group("alice", "bob")
    alice, bob = await rig.connect("alice"), await rig.connect("bob")
    connection, client = alice.connection, rig.client("alice")
    first, second = [(await connection.send(room, text))["message_id"] for text in ("first", "second")]
    changes: dict[str, Callable[[], Awaitable[object]]] = {
        "message.edited": lambda: connection.edit(room, first, "edited"),
        "reaction.added": lambda: connection.react(room, first, "👍"),
        "reaction.removed": lambda: connection.unreact(room, first, "👍"),
        "message.deleted": lambda: connection.delete(room, second),
        "room.updated": lambda: client.update_room(room, name="renamed"),
        "message.pinned": lambda: client.pin_message(room, first),
        "message.unpinned": lambda: client.unpin_message(room, first),
        "member.left": lambda: client.remove_member(room, "bob"),
    }
    try:
        for event_type, change in changes.items():
            await set_faults(process, {"lose_confirmations": 1})
            async with asyncio.timeout(CASE_SECONDS):
                await change()
            assert (await set_faults(process, {}))["lose_confirmations"] == 0, event_type
    finally:
        await set_faults(process, {})
    for event_type in changes:
        await bob.until(event_type)
    events = await rig.client("alice").list_events(room, after_seq=0, limit=100)
    log = [event["type"] for event in events["events"]]
    counts = {event_type: log.count(event_type) for event_type in changes}
    assert counts.pop("message.edited") == 2  # docs/python-sdk.md says so: an edit has no id of its own
    assert set(counts.values()) == {1}, counts
    assert (await client.get_message(room, first))["content"] == "edited"
