"""Events to the tenant's backend: which are told, in which order, and what becomes of them when the endpoint fails."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from conftest import StartServer
from driver import Server, User, eventually, restart
from hooked import QUICK, Hooked, hook
from receiver import Call, Receiver, answer, hang
from server_process import ServerProcess
from standardwebhooks import Webhook

from chatapi.models import WebhookEvent
from chatapi.protocol.server_frames import LOG_EVENTS
from chatapi.protocol.webhook_calls import EVENT_CALLS
from chatapi.rest.documents.schemas import get_type
from chatapi.webhooks import pace, waiting_events, worker
from chatapi.webhooks.events import EVENT_OF_LOG

LOGGED = {str(frame.__struct_config__.tag): event for frame, event in EVENT_OF_LOG.items()}
NOT_IN_A_LOG = {
    WebhookEvent.MESSAGE_REPORTED,
    WebhookEvent.ROOM_CREATED,
    WebhookEvent.ROOM_DELETED,
    WebhookEvent.USER_ONLINE,
    WebhookEvent.USER_OFFLINE,
}


def events_of(receiver: Receiver, *types: str) -> list[Any]:
    """The calls' bodies, those of the offline kinds aside, each once."""
    bodies = {call.webhook_id: call.event for call in receiver.calls if "user_id" not in call.event["data"]}
    return [body for body in bodies.values() if not types or body["type"] in types]


def list_seqs(receiver: Receiver, room_id: str) -> list[int]:
    """Of the room's events, in the order in which they came first."""
    return [
        body["data"]["event"]["seq"]
        for body in events_of(receiver)
        if body["data"].get("room", {}).get("room_id") == room_id and "seq" in body["data"]["event"]
    ]


async def start(start_server: StartServer, receiver: Receiver, *names: str, **settings: object) -> Hooked:
    server = await start_server({**QUICK, **{f"webhooks.{name}": value for name, value in settings.items()}})
    return await hook(server, receiver.url, webhook_events=list(names) or ["*"])


# Every kind


class Stage:
    """A room, and those who do something in it."""

    def __init__(self, hooked: Hooked) -> None:
        self.server = hooked.server
        self.alice, self.bob, self.backend = hooked.user("alice"), hooked.user("bob"), hooked.user("backend")
        self.room_id = ""
        self.path = ""

    async def set_up(self, *members: str) -> "Stage":
        """Members who are offline get calls of their own."""
        self.room_id = await self.alice.make_room(*members, room_type="channel", name="Tea")
        self.path = f"/rooms/{self.room_id}"
        return self

    async def say(self, **fields: object) -> str:
        return str((await self.alice.say(self.room_id, **fields))["message_id"])

    async def by_socket(self, frame_type: str, user: User | None = None, **fields: object) -> None:
        socket = await (user or self.alice).connect()
        await socket.send(frame_type, request_id="r", room_id=self.room_id, **fields)
        await socket.answer_to("r")

    async def finish(self, **fields: object) -> None:
        message_id = await self.say(stream=True)
        await self.alice.post(f"{self.path}/messages/{message_id}/finish", {"state": "done", **fields})

    async def pipe(self) -> None:
        headers = {**self.alice.headers, "Content-Type": "text/plain"}
        reply = await self.server.session.post(
            f"{self.server.url}{self.path}/messages/stream", data=b"hi", headers=headers
        )
        assert reply.status == 201

    async def react(self) -> str:
        message_id = await self.say()
        assert (await self.bob.put(f"{self.path}/messages/{message_id}/reactions/x", None)).status == 200
        return message_id


async def edit(stage: Stage) -> None:
    assert (await stage.alice.put(f"{stage.path}/messages/{await stage.say()}", {"content": "b"})).status == 200


async def edit_by_socket(stage: Stage) -> None:
    await stage.by_socket("message.edit", message_id=await stage.say(), content="b")


async def delete(stage: Stage) -> None:
    await stage.alice.delete(f"{stage.path}/messages/{await stage.say()}")


async def delete_by_socket(stage: Stage) -> None:
    await stage.by_socket("message.delete", message_id=await stage.say())


async def delete_a_stream(stage: Stage) -> None:
    await stage.alice.delete(f"{stage.path}/messages/{await stage.say(stream=True)}")


async def react_by_socket(stage: Stage) -> None:
    await stage.by_socket("reaction.add", message_id=await stage.say(), emoji="x")


async def take_back(stage: Stage) -> None:
    await stage.bob.delete(f"{stage.path}/messages/{await stage.react()}/reactions/x")


async def report(stage: Stage) -> None:
    await stage.bob.post(f"{stage.path}/messages/{await stage.say()}/report", {"reason": "bad"})


async def open_dm(stage: Stage) -> None:
    await stage.alice.make_room("bob", room_type="dm")


async def delete_room(stage: Stage) -> None:
    assert (await stage.alice.delete(stage.path)).status == 204


async def go_online_and_leave(stage: Stage) -> None:
    socket = await stage.bob.connect()
    await eventually(lambda: not stage.server.services.presence._arrivals)
    await socket.close()


WAYS: dict[WebhookEvent, list[Callable[[Stage], Awaitable[object]]]] = {
    WebhookEvent.MESSAGE_CREATED: [
        lambda stage: stage.say(),
        lambda stage: stage.by_socket("send_message", content="hi"),
        lambda stage: stage.say(mentions=["bob"]),
    ],
    WebhookEvent.MESSAGE_EDITED: [edit, edit_by_socket],
    WebhookEvent.MESSAGE_DELETED: [delete, delete_by_socket, delete_a_stream],
    WebhookEvent.MESSAGE_FINISHED: [lambda stage: stage.finish(content="x"), lambda stage: stage.finish(), Stage.pipe],
    WebhookEvent.MESSAGE_REPORTED: [report],
    WebhookEvent.REACTION_ADDED: [Stage.react, react_by_socket],
    WebhookEvent.REACTION_REMOVED: [take_back],
    WebhookEvent.ROOM_CREATED: [Stage.set_up, open_dm],
    WebhookEvent.ROOM_UPDATED: [lambda stage: stage.alice.patch(stage.path, {"name": "Coffee"})],
    WebhookEvent.ROOM_DELETED: [delete_room],
    WebhookEvent.MEMBER_JOINED: [
        lambda stage: stage.alice.post(f"{stage.path}/members", {"user_id": "eve"}),
        lambda stage: stage.backend.post(f"{stage.path}/members", {"user_id": "backend"}),
    ],
    WebhookEvent.MEMBER_LEFT: [
        lambda stage: stage.bob.delete(f"{stage.path}/members/bob"),
        lambda stage: stage.alice.delete(f"{stage.path}/members/carol"),
    ],
    WebhookEvent.MEMBER_BANNED: [
        lambda stage: stage.alice.put(f"{stage.path}/bans/dave", {}),
        lambda stage: stage.alice.put(f"{stage.path}/bans/stranger", {"reason": "x"}),
    ],
    WebhookEvent.USER_ONLINE: [go_online_and_leave],
    WebhookEvent.USER_OFFLINE: [go_online_and_leave],
}


def test_each_event_of_the_log_is_told_or_is_not() -> None:
    assert set(EVENT_OF_LOG) == set(LOG_EVENTS)
    told = {event for event in EVENT_OF_LOG.values() if event is not None}
    assert told | NOT_IN_A_LOG == set(WebhookEvent) == set(WAYS)
    assert not told & NOT_IN_A_LOG


@pytest.mark.parametrize("event", [pytest.param(event, id=event) for event in WAYS])
@pytest.mark.slow
async def test_it_is_told_in_each_way(start_server: StartServer, receiver: Receiver, event: WebhookEvent) -> None:
    """Once, as the log shows it, and where it is not in the list of the config not at all."""
    server = await start_server({**QUICK, "websocket.presence_grace_seconds": 0.05})
    for names, count in (([event], 1), ([name for name in WebhookEvent if name is not event], 0)):
        for way in WAYS[event]:
            hooked = await hook(server, receiver.url, webhook_events=names)
            stage = await Stage(hooked).set_up("bob", "carol", "dave")
            await hooked.is_settled()
            receiver.calls.clear()
            await way(stage)
            if count:
                await eventually(lambda: events_of(receiver, event))
            await hooked.is_settled()
            found = events_of(receiver, event)
            assert len(found) == count, way
            if count:
                await check(stage, hooked, found[0])


async def check(stage: Stage, hooked: Hooked, body: Any) -> None:
    [record] = [record for record in EVENT_CALLS if get_type(record) == body["type"]]
    assert msgspec.to_builtins(msgspec.convert(body, record)) == body
    data = body["data"]
    assert (data["tenant_id"], body["timestamp"][-1]) == (hooked.tenant_id, "Z")
    if body["type"].startswith("user."):
        status = body["type"].removeprefix("user.")
        assert data["event"] == {"type": "presence.update", "user_id": "bob", "status": status}
        assert "room" not in data
        return
    assert set(data) == {"tenant_id", "event", "room"}
    if data["event"].get("seq") is None:
        return
    assert data["room"]["room_id"] == stage.room_id
    events = (await stage.alice.get(f"{stage.path}/events", after_seq=data["event"]["seq"] - 1, limit=1)).data["events"]
    assert events == [data["event"]]


async def test_all_of_a_room_is_told_in_its_order(start_server: StartServer, receiver: Receiver) -> None:
    hooked = await start(start_server, receiver)
    stage = await Stage(hooked).set_up("bob", "carol", "dave")
    for event, ways in WAYS.items():
        if event not in {WebhookEvent.ROOM_CREATED, WebhookEvent.ROOM_DELETED, WebhookEvent.USER_ONLINE}:
            for way in ways:
                if way is not delete_a_stream:  # of which the log does not say any more that it was one
                    await way(stage)
    log = (await stage.alice.get(f"{stage.path}/events", after_seq=0, limit=100)).data["events"]
    await hooked.is_settled()
    streams = {entry["target_seq"] for entry in log if entry["type"] == "message.finished"}
    told = [
        entry["seq"]
        for entry in log
        if (LOGGED[entry["type"]] is not None and "stream" not in entry) or entry["type"] == "message.finished"
    ]
    assert streams
    first, *_ = events_of(receiver, "room.created")
    assert (first["data"]["event"]["type"], first["data"]["event"]["room_type"]) == ("room.created", "channel")
    assert first["data"]["room"] == {"room_id": stage.room_id, "type": "channel", "name": "Tea", "metadata": None}
    assert list_seqs(receiver, stage.room_id) == sorted(told)
    call = next(call for call in receiver.calls if b"message.created" in call.body)
    assert Webhook(hooked.secret).verify(call.body, call.headers) == call.event


# The setting


async def test_the_list_is_kept_without_a_url_and_judged_by_name(server: Server) -> None:
    made = await server.make_tenant(webhook_events=["message.created", "*"])
    path = f"/tenants/{made['tenant_id']}"
    assert made["config"] == {"webhook_events": ["message.created", "*"]}
    for value, field in (
        (["message.created", "message"], "config.webhook_events[1]"),
        (["member.left", 7], "config.webhook_events[1]"),
        ("message.created", "config.webhook_events"),
        ({}, "config.webhook_events"),
    ):
        reply = await server.admin("PATCH", path, {"config": {"webhook_events": value}})
        assert (reply.status, reply.error["code"], reply.error["field"]) == (400, "VALIDATION_ERROR", field)
    for value, kept in (("*", {"webhook_events": ["*"]}), ([], {"webhook_events": []}), (None, {})):
        reply = await server.admin("PATCH", path, {"config": {"webhook_events": value}})
        assert reply.data["config"] == kept


async def test_a_changed_list_holds_from_the_next_commit(start_server: StartServer, receiver: Receiver) -> None:
    hooked = await start(start_server, receiver, "message.edited")
    stage = await Stage(hooked).set_up()

    async def choose(*names: str) -> None:
        reply = await hooked.server.admin(
            "PATCH", f"/tenants/{hooked.tenant_id}", {"config": {"webhook_events": list(names)}}
        )
        assert reply.status == 200

    await stage.say(content="before")
    await choose("message.created")
    await stage.say(content="within")
    await choose()
    await stage.say(content="after")
    await hooked.is_settled()
    assert [body["data"]["event"]["content"] for body in events_of(receiver)] == ["within"]


async def test_messages_of_others_in_the_same_commit_are_not_told(
    start_server: StartServer, receiver: Receiver
) -> None:
    server = await start_server(QUICK)
    told = await hook(server, receiver.url, webhook_events=["message.created"])
    plain = Hooked(server, {"webhook_secret": "", **await server.make_tenant("plain")})
    others = [await hook(server, receiver.url, webhook_events=["message.edited"]), plain]
    rooms = [(hooked.user("alice"), await hooked.user("alice").make_room()) for hooked in (told, *others)]
    await asyncio.gather(*(alice.say(room_id, str(number)) for number in range(20) for alice, room_id in rooms))
    for hooked in (told, *others):
        await hooked.is_settled()
    assert await server.services.store.readers.fetch("SELECT * FROM webhook_deliveries", {}) == []
    assert list_seqs(receiver, rooms[0][1]) == list(range(1, 21))
    assert len(receiver.calls) == 20


async def test_without_a_url_nothing_waits(start_server: StartServer, receiver: Receiver) -> None:
    hooked = await start(start_server, receiver)
    await hooked.server.admin("PATCH", f"/tenants/{hooked.tenant_id}", {"config": {"webhook_url": None}})
    await hooked.is_settled()
    stage = await Stage(hooked).set_up()
    await stage.say()
    assert (await hooked.queues())["webhooks"] == 0
    assert receiver.calls == []


# Failures


async def test_a_failed_one_is_tried_again_and_the_next_do_not_wait(
    start_server: StartServer, receiver: Receiver
) -> None:
    hooked = await start(start_server, receiver, "message.created", retry_schedule_seconds=[0, 0.3])
    stage = await Stage(hooked).set_up()

    async def refuse_one(call: Call, _request: web.Request) -> web.StreamResponse:
        is_first = receiver.ids.count(call.webhook_id) == 1
        return web.Response(status=500 if call.event["data"]["event"]["seq"] == 3 and is_first else 204)

    receiver.behave = refuse_one
    await stage.alice.post(f"{stage.path}/members", {"user_id": "bob"})
    socket = await stage.bob.connect()  # presence puts none off, acknowledgements drop none
    for number in range(1, 5):
        await stage.say(content=str(number))
    await socket.send("ack", room_id=stage.room_id, seq=5)
    await hooked.is_settled()
    calls = [call.event["data"]["event"]["seq"] for call in receiver.calls if b"message.created" in call.body]
    assert calls == [2, 3, 4, 5, 3]
    assert len(set(receiver.ids)) == 4


async def test_calls_that_wait_go_with_their_room(start_server: StartServer, receiver: Receiver) -> None:
    hooked = await start(start_server, receiver, retry_schedule_seconds=[0.3, 0.3])
    stage = await Stage(hooked).set_up()
    await stage.say()
    await delete_room(stage)
    await hooked.is_settled()
    [body] = events_of(receiver)
    assert (body["type"], body["data"]["event"]["room_type"]) == ("room.deleted", "channel")
    assert body["data"]["room"] == {"room_id": stage.room_id, "type": "channel", "name": "Tea", "metadata": None}


async def test_dead_ones_are_the_third_list(start_server: StartServer, receiver: Receiver) -> None:
    hooked = await start(start_server, receiver, "message.created", "room.created", retry_schedule_seconds=[0])
    receiver.behave = answer(500)
    stage = await Stage(hooked).set_up()
    await stage.say()
    await hooked.is_settled()
    page = await hooked.dead_letters()
    assert (page["failed_messages"], page["failed_notifications"]) == ([], [])
    message, room = page["failed_events"]
    assert (message["event"], message["room_id"], message["seq"]) == ("message.created", stage.room_id, 1)
    assert (room["event"], room["room_id"], room["error"], room["attempts"]) == (
        "room.created", stage.room_id, "HTTP 500", 1,
    )  # fmt: skip
    assert "seq" not in room
    receiver.behave = answer(204)
    receiver.calls.clear()
    retried = await hooked.server.admin("POST", "/dead-letters/retry", {"tenant_id": hooked.tenant_id})
    assert retried.data == {"retried": 2}
    await hooked.is_settled()
    assert receiver.ids == [room["id"], message["id"]]  # in the room's order


async def test_too_many_that_wait_become_dead_letters(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_events, "MOST_WAITING", 5)
    hooked = await start(start_server, receiver, "message.created", retry_schedule_seconds=[600])
    stage = await Stage(hooked).set_up()
    for number in range(1, 9):
        await stage.say(content=str(number))
    await eventually(lambda: hooked.server.services.webhooks.given_up == 3)
    dead = (await hooked.dead_letters())["failed_events"]
    assert sorted((letter["seq"], letter["attempts"]) for letter in dead) == [(1, 0), (2, 0), (3, 0)]
    assert {letter["error"] for letter in dead} == {"too many events were waiting"}
    assert (await hooked.queues())["webhooks"] == 5
    text = (await hooked.server.request("GET", "/metrics")).body
    assert "chatapi_webhook_events_given_up_total 3.0" in text


# Many rooms, restarts, and slow endpoints


@pytest.mark.slow
async def test_many_rooms_keep_their_order_across_a_restart(start_server: StartServer, receiver: Receiver) -> None:
    hooked = await start(start_server, receiver, "message.created", "reaction.added")
    alice = hooked.user("alice")
    rooms = [await alice.make_room() for _ in range(20)]

    async def answer_late(_call: Call, _request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.005)
        return web.Response(status=204)

    receiver.behave = answer_late

    async def fill(room_id: str) -> None:
        for number in range(10):
            message = await alice.say(room_id, str(number))
            if number % 3 == 0:
                await alice.put(f"/rooms/{room_id}/messages/{message['message_id']}/reactions/x", None)

    await asyncio.gather(*(fill(room_id) for room_id in rooms))
    assert len(receiver.calls) < 280  # some wait
    server = await restart(start_server, hooked.server, {**QUICK})
    again = Hooked(server, {"tenant_id": hooked.tenant_id, "webhook_secret": "", "api_key": hooked.api_key})
    await again.is_settled()
    for room_id in rooms:
        assert list_seqs(receiver, room_id) == list(range(1, 15))
    assert len(receiver.ids) == len(set(receiver.ids))  # the outcomes were stored before the server ended


@pytest.mark.slow
async def test_a_slow_endpoint_holds_up_neither_others_nor_its_offline_calls(
    start_server: StartServer, receiver: Receiver
) -> None:
    server = await start_server({**QUICK, "webhooks.timeout_seconds": 20, "webhooks.concurrency": 8})
    calls: dict[str, list[str]] = defaultdict(list)

    async def behave(call: Call, request: web.Request) -> web.StreamResponse:
        calls[request.path].append(call.event["type"])
        if request.path == "/slow" and call.event["type"] == "message.created":
            return await hang(call, request)
        return web.Response(status=204)

    receiver.behave = behave
    base = receiver.url.removesuffix("/hook")
    slow = await hook(server, f"{base}/slow", webhook_events=["message.created"])
    prompt = await hook(server, f"{base}/prompt", webhook_events=["message.created"])
    for hooked in (slow, prompt):
        for _ in range(5):
            room_id = await hooked.user("alice").make_room("bob")
            for number in range(4):
                await hooked.user("alice").say(room_id, str(number))
    await eventually(lambda: calls["/prompt"].count("message.created") == 20)
    await eventually(lambda: calls["/slow"].count("message.offline") == 20)
    assert calls["/slow"].count("message.created") == 2  # its share: a quarter of 8


async def test_an_unchanged_room_of_many_is_not_held_up_by_a_busy_one(
    start_server: StartServer, receiver: Receiver
) -> None:
    hooked = await start(start_server, receiver, "message.created")
    alice = hooked.user("alice")
    busy, quiet = await alice.make_room(), await alice.make_room()
    gate = asyncio.Event()

    async def hold_busy(call: Call, _request: web.Request) -> web.StreamResponse:
        if call.event["data"]["room"]["room_id"] == busy:
            await gate.wait()
        return web.Response(status=204)

    receiver.behave = hold_busy
    for number in range(20):
        await alice.say(busy, str(number))
    await alice.say(quiet)
    await eventually(lambda: list_seqs(receiver, quiet) == [1])
    assert list_seqs(receiver, busy) == [1]
    gate.set()
    await hooked.is_settled()
    assert list_seqs(receiver, busy) == list(range(1, 21))


@pytest.mark.slow
async def test_rooms_are_not_held_up_by_one_of_which_a_call_hangs(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in a run with it: each of the two is of several rooms. After a while they go back, with nothing else to
    wake the worker."""
    monkeypatch.setattr(worker, "RUN_SECONDS", 1.0)
    monkeypatch.setattr(pace, "LEAST", 0)
    monkeypatch.setattr(pace, "MOST", 0)
    server = await start_server({**QUICK, "webhooks.timeout_seconds": 20, "webhooks.concurrency": 8})
    hooked = await hook(server, receiver.url, webhook_events=["message.created"])
    alice = hooked.user("alice")
    rooms = [await alice.make_room() for _ in range(6)]

    async def hang_in_the_first(call: Call, request: web.Request) -> web.StreamResponse:
        if call.event["data"]["room"]["room_id"] == rooms[0]:
            return await hang(call, request)
        return web.Response(status=204)

    receiver.behave = hang_in_the_first
    for number in range(2):
        for room_id in rooms:
            await alice.say(room_id, str(number))
    assert receiver.calls == []
    monkeypatch.setattr(pace, "LEAST", 100)
    monkeypatch.setattr(pace, "MOST", 100)
    server.services.webhooks._pace._allowed = 100
    for room_id in rooms[1:]:
        await eventually(lambda room_id=room_id: list_seqs(receiver, room_id) == [1, 2])
    assert list_seqs(receiver, rooms[0]) == [1]


async def test_a_busy_server_tells_events_a_little_later(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And at once before too many wait, though it is busy."""
    monkeypatch.setattr(pace, "LEAST", 2)
    monkeypatch.setattr(pace, "MOST", 2)
    hooked = await start(start_server, receiver, "message.created")
    stage = await Stage(hooked).set_up()
    for number in range(6):
        await stage.say(content=str(number))
    await hooked.is_settled()
    assert list_seqs(receiver, stage.room_id) == list(range(1, 7))
    hooked.server.services.webhooks._pace._allowed = 0
    monkeypatch.setattr(pace, "LEAST", 0)
    monkeypatch.setattr(pace, "MOST", 0)
    monkeypatch.setattr(waiting_events, "MOST_WAITING", 8)
    for number in range(6):
        await stage.say(content=str(number))
    assert len(receiver.calls) == 6
    await stage.say()
    await eventually(lambda: len(receiver.calls) > 6)


@pytest.mark.slow
async def test_a_killed_server_tells_every_event_at_least_once_and_in_order(tmp_path: Path, receiver: Receiver) -> None:
    """Killed between commits and calls, and between calls and what is noted of them."""
    settings = {
        "webhooks.allow_private_addresses": "true",
        "webhooks.retry_schedule_seconds": "[0" + ", 0.1" * 20 + "]",
        "limits.rate_limit": "10000",
    }

    before, is_over = 0, asyncio.Event()

    async def answer_late(_call: Call, _request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.01)
        if len(receiver.calls) - before > 50:
            await is_over.wait()  # so that some wait for the kill, however slow those are who send
        return web.Response(status=204)

    receiver.behave = answer_late
    server = ServerProcess(tmp_path, settings, dev=False)
    async with aiohttp.ClientSession(raise_for_status=True) as session:

        async def call(method: str, path: str, headers: dict[str, str], body: object = None) -> Any:
            async with session.request(method, server.url + path, headers=headers, json=body) as reply:
                return (await reply.json())["data"]

        with server:
            admin = {"X-Master-Key": server.master_key}
            config = {"webhook_url": receiver.url, "webhook_events": ["message.created", "message.edited"]}
            made = await call("POST", "/admin/tenants", admin, {"name": "hooked", "config": config})
            key = {"X-API-Key": made["api_key"], "X-User-Id": "alice"}

            async def fill(room_id: str) -> None:
                for number in range(10):
                    message = await call("POST", f"/rooms/{room_id}/messages", key, {"content": str(number)})
                    path = f"/rooms/{room_id}/messages/{message['message_id']}"
                    await call("PUT", path, key, {"content": "edited"})

            rooms = [(await call("POST", "/rooms", key, {"type": "group", "members": []}))["room_id"] for _ in range(5)]
            for _ in range(3):
                before = len(receiver.calls)
                await asyncio.gather(*(fill(room_id) for room_id in rooms))
                stats = await call("GET", "/admin/stats", admin)
                assert stats["tenants"][0]["queues"]["webhooks"], "none waits"
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
            is_over.set()

            async with asyncio.timeout(200):
                while (await call("GET", "/admin/stats", admin))["tenants"][0]["queues"]["webhooks"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
    for room_id in rooms:
        assert list_seqs(receiver, room_id) == list(range(1, 61))
