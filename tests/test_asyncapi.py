"""The AsyncAPI document against the records of the frames, and against frames of a real server."""

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from conftest import StartServer
from driver import Server, Socket

from chatapi import app, banned_users, recovery, tenants
from chatapi.errors import Code
from chatapi.protocol import encoders
from chatapi.protocol.frames import CLIENT_FRAMES, parse_frame
from chatapi.protocol.server_frames import SERVER_FRAMES, ServerFrame
from chatapi.rest.documents.asyncapi import ANSWERS, CLOSE_CODES, build_asyncapi
from chatapi.rest.documents.schemas import get_type
from chatapi.ws import session

DOCUMENT = build_asyncapi("http://localhost:8080")
MESSAGES = {message["name"]: message for message in DOCUMENT["components"]["messages"].values()}
RECORDS: dict[str, type[ServerFrame]] = {get_type(record): record for record in SERVER_FRAMES}


def list_references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from list_references(value)
    elif isinstance(part, list):
        for value in part:
            yield from list_references(value)


def test_every_frame_is_in_it_and_back() -> None:
    assert set(MESSAGES) == {*CLIENT_FRAMES, *RECORDS}
    assert len(MESSAGES) == len(CLIENT_FRAMES) + len(RECORDS)
    assert set(ANSWERS) == set(CLIENT_FRAMES)
    assert {answer for answers in ANSWERS.values() for answer in answers} <= set(RECORDS)
    sent = DOCUMENT["operations"]["events"]["messages"]
    assert len(sent) == len(RECORDS)


def test_every_reference_leads_somewhere() -> None:
    for reference in set(list_references(DOCUMENT)):
        part: Any = DOCUMENT
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]
        assert part


def test_every_component_is_used() -> None:
    references = set(list_references(DOCUMENT))
    for kind in ("schemas", "messages"):
        for name in DOCUMENT["components"][kind]:
            assert f"#/components/{kind}/{name}" in references


@pytest.mark.parametrize("frame_type", CLIENT_FRAMES)
def test_each_example_of_a_client_frame_is_taken(frame_type: str) -> None:
    [example] = MESSAGES[frame_type]["examples"]
    frame = parse_frame(msgspec.json.encode(example["payload"]))
    assert frame.type == frame_type
    check_schema(frame_type, example["payload"])


@pytest.mark.parametrize("frame_type", RECORDS)
def test_each_example_of_a_server_frame_is_one(frame_type: str) -> None:
    [example] = MESSAGES[frame_type]["examples"]
    check_frame(example["payload"])
    check_schema(frame_type, example["payload"])


def check_schema(frame_type: str, payload: dict[str, Any]) -> None:
    from jsonschema import Draft7Validator  # which takes 0.1 s, in each process that collects the tests

    schema = {**MESSAGES[frame_type]["payload"], "components": DOCUMENT["components"]}
    if "$ref" in schema:
        schema = {"allOf": [{"$ref": schema["$ref"]}], "components": DOCUMENT["components"]}
    Draft7Validator(schema).validate(payload)


def check_frame(frame: dict[str, Any]) -> None:
    """Through its record and back: a field that it does not know would be lost, one that it lacks is an error."""
    record = RECORDS[frame["type"]]
    assert msgspec.to_builtins(msgspec.convert(frame, record)) == frame


def test_every_close_code_is_documented() -> None:
    ours = {
        app.GOING_AWAY,
        session.PROTOCOL_ERROR,
        session.BINARY_FRAME,
        session.NOT_UTF8,
        session.TOO_MANY_BAD_FRAMES,
        tenants.CREDENTIAL_GONE,
        banned_users.USER_BANNED,
        recovery.SLOW_CONSUMER,
    }
    by_the_protocol = {1000, 1008, 1009, 1011}
    assert set(CLOSE_CODES) == ours | by_the_protocol
    for code in CLOSE_CODES:
        assert f"- {code}: " in DOCUMENT["info"]["description"]


def test_server_is_where_clients_reach_it() -> None:
    assert DOCUMENT["servers"]["chat"]["host"] == "localhost:8080"
    behind_proxy = build_asyncapi("https://chat.example.com/base/")["servers"]["chat"]
    assert (behind_proxy["protocol"], behind_proxy["host"], behind_proxy["pathname"]) == (
        "wss",
        "chat.example.com",
        "/base",
    )


async def test_it_is_served_the_same_under_both_prefixes(server: Server) -> None:
    plain, prefixed = await server.request("GET", "/asyncapi.json"), await server.request("GET", "/v1/asyncapi.json")
    assert plain.status == 200
    assert plain.body == prefixed.body == msgspec.to_builtins(build_asyncapi(server.url))


class Listener:
    """Reads a socket and keeps what came, each frame compared with its record."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self.types: set[str] = set()

    async def until(self, frame_type: str, **fields: object) -> dict[str, Any]:
        while True:
            frame = await self._socket.next_of_any_type()
            check_frame(frame)
            check_schema(frame["type"], frame)
            self.types.add(frame["type"])
            if frame["type"] == frame_type and {name: frame.get(name) for name in fields} == fields:
                return frame

    async def ask(self, frame_type: str, answer: str, **fields: object) -> dict[str, Any]:
        await self._socket.send(frame_type, request_id=f"r-{frame_type}", **fields)
        return await self.until(answer, request_id=f"r-{frame_type}")


async def test_every_frame_of_a_server_is_as_documented(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server({"limits.sync_limit": 3})
    alice, bob = server.user("alice"), server.user("bob")
    here, there = await alice.connect(ready=False), await bob.connect(ready=False)
    listener, other = Listener(here), Listener(there)
    await listener.until("sync.complete")
    await other.until("sync.complete")
    room_id = await alice.make_room("bob", name="x", metadata={"a": 1})
    await listener.until("room.created")
    await other.until("room.created")
    with monkeypatch.context() as patch:
        patch.setattr(encoders, "MAX_READY_BYTES", 300)
        await alice.make_room()
        await listener.until("room.created")
        third = await alice.connect(ready=False)
        crowded = Listener(third)
        await crowded.until("ready", more=True)
        await crowded.until("ready.rooms", more=False)
        await crowded.until("sync.complete")
        await third.close()
    sent = await listener.ask("send_message", "message.sent", room_id=room_id, content="hi", client_message_id="c-1")
    await listener.until("message")
    one = {"room_id": room_id, "message_id": sent["message_id"]}
    await listener.ask("message.edit", "message.edited", **one, content="ho", meta={"k": [1]})
    await listener.ask("reaction.add", "reaction.added", **one, emoji="👍")
    await listener.ask("reaction.add", "reaction.added", **one, emoji="👍")
    await other.ask("reaction.remove", "reaction.removed", **one, emoji="👍")
    await listener.ask("reaction.remove", "reaction.removed", **one, emoji="👍")
    await alice.request("PUT", f"/rooms/{room_id}/pins/{one['message_id']}")
    await alice.request("DELETE", f"/rooms/{room_id}/pins/{one['message_id']}")
    await listener.until("message.pinned")
    await listener.until("message.unpinned")
    opened = await listener.ask("send_message", "message.sent", room_id=room_id, stream=True)
    growing = {"room_id": room_id, "message_id": opened["message_id"]}
    await listener.ask("message.append", "message.appended", **growing, index=1, text="hi")
    await listener.until("message.delta")
    await listener.ask("message.cancel", "message.cancel_requested", **growing)
    await listener.ask("sync", "sync.complete", rooms={room_id: 0})
    await listener.ask("message.append", "message.appended", **growing, index=2, text=" there")
    await listener.ask("message.finish", "message.finished", **growing, state="cancelled", index=2)
    await listener.ask("message.delete", "message.deleted", **one)
    await other.until("message.deleted")
    await other.ask("ack", "ack.received", room_id=room_id, seq=1)
    await other.ask("ack", "ack.received", rooms={room_id: 1})
    await other.ask("read", "read.updated", room_id=room_id, seq=2)
    await listener.until("read.updated", user_id="bob")
    await there.send("typing.start", room_id=room_id)
    await listener.until("typing", action="start")
    await there.send("typing.stop", room_id=room_id)
    await listener.until("typing", action="stop")
    await alice.patch(f"/rooms/{room_id}", {"name": "y"})
    await listener.until("room.updated")
    await alice.post(f"/rooms/{room_id}/members", {"user_id": "carol"})
    await listener.until("member.joined")
    await alice.patch(f"/rooms/{room_id}/members/carol", {"role": "admin"})
    await listener.until("member.updated")
    await alice.delete(f"/rooms/{room_id}/members/carol")
    await listener.until("member.left")
    await alice.put("/users/alice", {"name": "Alice", "metadata": {"n": 1}})
    await listener.until("user.updated")
    await alice.patch(f"/rooms/{room_id}/me", {"hidden": True})
    await listener.until("room.me")
    await alice.put(f"/rooms/{room_id}/bans/carol", {})
    await listener.until("member.banned")
    await alice.delete(f"/rooms/{room_id}/bans/carol")
    await listener.until("member.unbanned")
    await alice.post("/notify", {"topic": "t", "payload": {"n": 1}, "targets": {"user_ids": ["alice"]}})
    notification = await listener.until("notification")
    await here.send("notification.ack", notification_id=notification["notification_id"])
    await listener.ask("unsubscribe", "unsubscribed", room_id=room_id)
    await listener.ask("subscribe", "subscribed", room_id=room_id)
    await listener.ask("ping", "pong")
    await listener.ask("ack", "error", room_id=room_id, seq=10_000)
    await listener.ask("sync", "sync.complete", epoch="another", rooms={room_id: 1})
    await there.close()
    await listener.until("presence.update", status="offline")
    await listener.ask("sync", "sync.complete", rooms={room_id: 0})
    await alice.delete(f"/rooms/{room_id}")
    await listener.until("room.deleted")
    async with asyncio.TaskGroup() as group:
        group.create_task(server.app.close())
        await listener.until("server.shutdown")
        assert await here.close_code() in CLOSE_CODES
    assert listener.types | crowded.types == set(RECORDS)


async def test_the_log_holds_the_frames(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    await alice.patch(f"/rooms/{room_id}", {"name": "y"})
    message = await alice.say(room_id)
    await alice.put(f"/rooms/{room_id}/messages/{message['message_id']}", {"content": "ho"})
    events = (await alice.get(f"/rooms/{room_id}/events")).data["events"]
    assert [event["type"] for event in events] == ["room.updated", "message", "message.edited"]
    for event in events:
        check_frame(event)


async def test_every_error_code_may_come_in_a_frame() -> None:
    schema = DOCUMENT["components"]["schemas"]["Code"]
    assert set(schema["enum"]) == set(Code)
