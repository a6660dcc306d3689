import asyncio
import base64
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from conftest import StartServer
from driver import Reply, Server, eventually
from hooked import QUICK, Hooked, hook
from raw_websocket import WAIT_SECONDS
from receiver import Call, Receiver, answer, close_early, hang, in_turn
from server_process import ServerProcess
from standardwebhooks import Webhook

from chatapi.errors import unavailable
from chatapi.store import webhooks as store_webhooks
from chatapi.webhooks import expansion, tenant_queues, worker


def find_event(call: Call) -> tuple[str, str]:
    data = call.event["data"]
    event_id = data["message"]["message_id"] if "message" in data else data["notification"]["notification_id"]
    return event_id, call.user_id


async def start(start_server: StartServer, receiver: Receiver, **settings: object) -> Hooked:
    server = await start_server({**QUICK, **{f"webhooks.{name}": value for name, value in settings.items()}})
    return await hook(server, receiver.url)


# What is sent


async def test_an_offline_member_gets_the_message_signed(start_server: StartServer, receiver: Receiver) -> None:
    hooked = await start(start_server, receiver)
    alice = hooked.user("alice")
    room_id = await alice.make_room("bob", name="Lunch", metadata={"floor": 3})
    message = await alice.say(room_id, "hungry? ü", meta={"a": [1]})
    [call] = await receiver.wait_for(1)
    event = Webhook(hooked.secret).verify(call.body, call.headers)
    assert event == {
        "type": "message.offline",
        "timestamp": message["created_at"],
        "data": {
            "tenant_id": hooked.tenant_id,
            "user_id": "bob",
            "room": {"room_id": room_id, "type": "group", "name": "Lunch", "metadata": {"floor": 3}},
            "message": message,
            "mentioned": False,
        },
    }
    assert call.headers["Content-Type"] == "application/json"
    assert call.headers["User-Agent"].startswith("ChatAPI/")
    assert "." not in call.webhook_id  # Standard Webhooks: it separates what is signed
    assert len(base64.b64decode(hooked.secret.removeprefix("whsec_"))) == 32
    await hooked.is_settled()
    assert len(receiver.calls) == 1
    assert await hooked.queues() == {"notifications": 0, "webhooks": 0, "dead_letters": 0}


async def test_an_offline_recipient_gets_the_notification(start_server: StartServer, receiver: Receiver) -> None:
    hooked = await start(start_server, receiver)
    body = {"topic": "news", "payload": {"a": None}, "targets": {"user_ids": ["bob", "app"]}}
    online = await hooked.user("carol").connect()
    body["targets"]["user_ids"].append("carol")
    sent = (await hooked.user("app").post("/notify", body)).data
    calls = await receiver.wait_for(2)
    assert sorted(call.user_id for call in calls) == ["app", "bob"]
    assert len(set(receiver.ids)) == 2
    for call in calls:
        event = Webhook(hooked.secret).verify(call.body, call.headers)
        assert (event["type"], event["timestamp"]) == ("notification.offline", sent["created_at"])
        assert event["data"] == {
            "tenant_id": hooked.tenant_id,
            "user_id": call.user_id,
            "notification": {
                "notification_id": sent["notification_id"],
                "topic": "news",
                "payload": {"a": None},
                "created_at": sent["created_at"],
            },
        }
    await online.expect("notification", notification_id=sent["notification_id"])
    await hooked.is_settled()
    assert len(receiver.calls) == 2
    # The calls are made; that the users have not acknowledged is another matter.
    assert await hooked.queues() == {"notifications": 3, "webhooks": 0, "dead_letters": 0}


async def test_neither_the_sender_nor_anyone_online_gets_one(start_server: StartServer, receiver: Receiver) -> None:
    hooked = await start(start_server, receiver)
    alice = hooked.user("alice")
    room_id = await alice.make_room("bob", "carol")
    phone, laptop = await hooked.user("bob").connect(), await hooked.user("bob").connect(sync="none", ready=False)
    await laptop.expect("ready")
    await phone.close()
    await eventually(lambda: len(hooked.server.connections_of("bob")) == 1)
    await alice.say(room_id)
    [call] = await receiver.wait_for(1)
    assert call.user_id == "carol"
    await laptop.close()
    await eventually(lambda: not hooked.server.connections_of("bob"))
    await alice.say(room_id)
    await receiver.wait_for(3)
    assert sorted(call.user_id for call in receiver.calls[1:]) == ["bob", "carol"]
    await hooked.is_settled()
    assert len(receiver.calls) == 3


async def test_without_a_webhook_nothing_is_queued(server: Server) -> None:
    alice = server.user("alice")
    await alice.say(await alice.make_room("bob"))
    await alice.post("/notify", {"topic": "t", "payload": 1, "targets": {"user_ids": ["bob"]}})
    rows = await server.services.store.readers.fetch(
        "SELECT (SELECT count(*) FROM webhook_deliveries) + (SELECT count(*) FROM webhook_events)", {}
    )
    assert rows == [(0,)]


async def test_a_message_sent_again_is_called_for_once(start_server: StartServer, receiver: Receiver) -> None:
    """Also where retries and first ones are committed together: the index refuses that batch at first."""
    hooked = await start(start_server, receiver)
    alice = hooked.user("alice")
    room_id = await alice.make_room("bob")
    await alice.say(room_id, "0", client_message_id="0")
    names = [f"{number % 10}" for number in range(30)]
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(alice.say(room_id, name, client_message_id=name))
    await receiver.wait_for(10)
    await hooked.is_settled()
    assert sorted(call.content for call in receiver.calls) == sorted(set(names))
    history = (await alice.get(f"/rooms/{room_id}/messages")).data["messages"]
    assert [message["seq"] for message in history] == list(range(1, 11))


@pytest.mark.slow
async def test_many_recipients_are_reached_in_steps(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion, "EXPAND_ROWS", 7)
    hooked = await start(start_server, receiver)
    alice = hooked.user("alice")
    members = [f"member-{number}" for number in range(50)]
    room_id = await alice.make_room(*members)
    online = await hooked.user("member-3").connect()
    first = await alice.say(room_id, "first")
    await alice.say(room_id, "second")
    await alice.post("/notify", {"topic": "t", "payload": 1, "targets": {"room_id": room_id}})
    await receiver.wait_for(49 + 49 + 50)
    await hooked.is_settled()
    expected = sorted({*members} - {"member-3"})
    assert sorted(c.user_id for c in receiver.calls if c.event["data"].get("message") == first) == expected
    assert sorted(c.user_id for c in receiver.calls if "notification" in c.event["data"]) == [*["alice"], *expected]
    assert len(receiver.calls) == len(set(receiver.ids)) == 148
    await online.expect("notification")


@pytest.mark.slow
async def test_recipient_that_left_or_acknowledged_before_its_turn_is_skipped(
    start_server: StartServer, receiver: Receiver
) -> None:
    hooked = await start(start_server, receiver, concurrency=1)
    alice = hooked.user("alice")
    room_id = await alice.make_room(*[f"m{number:02}" for number in range(30)])
    receiver.behave = hang
    blocker = await alice.make_room("zed")
    await alice.say(blocker)
    await receiver.wait_for(1)  # the only call that may be under way hangs
    message = await alice.say(room_id)
    await hooked.user("m07").post("/acks", {"room_id": room_id, "seq": message["seq"]})
    await hooked.user("m08").delete(f"/rooms/{room_id}/members/m08")
    receiver.behave = answer(204)
    await hooked.is_settled()
    got = {call.user_id for call in receiver.calls if call.event["data"]["room"]["room_id"] == room_id}
    assert got == {f"m{number:02}" for number in range(30)} - {"m07", "m08"}


# Trying again


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (answer(500), "HTTP 500"),
        (answer(301, Location="/elsewhere"), "HTTP 301"),
        (answer(404), "HTTP 404"),
        (close_early, "closed without an answer"),
    ],
)
async def test_failed_call_is_tried_again_with_the_same_id(
    start_server: StartServer, receiver: Receiver, behaviour: Any, error: str
) -> None:
    hooked = await start(start_server, receiver)
    receiver.behave = in_turn(behaviour, behaviour, answer(200))
    alice = hooked.user("alice")
    await alice.say(await alice.make_room("bob"))
    calls = await receiver.wait_for(3)
    assert len(set(receiver.ids)) == 1
    assert len({call.body for call in calls}) == 1
    for call in calls:
        Webhook(hooked.secret).verify(call.body, call.headers)
    assert calls[1].at_s - calls[0].at_s >= 0.05
    assert calls[2].at_s - calls[1].at_s >= 0.1
    await hooked.is_settled()
    assert len(receiver.calls) == 3
    assert (await hooked.queues())["dead_letters"] == 0
    services = hooked.server.services.webhooks
    assert (services.delivered, services.failed, services.dead) == (1, 2, 0)


async def test_after_the_last_try_it_is_a_dead_letter(start_server: StartServer, receiver: Receiver) -> None:
    hooked = await start(start_server, receiver)
    receiver.behave = answer(503)
    alice = hooked.user("alice")
    message = await alice.say(await alice.make_room("bob"))
    await receiver.wait_for(3)
    await hooked.is_settled()
    [letter] = (await hooked.dead_letters())["failed_messages"]
    assert letter.pop("last_attempt_at") > message["created_at"]
    assert letter == {
        "id": receiver.ids[0],
        "tenant_id": hooked.tenant_id,
        "user_id": "bob",
        "message_id": message["message_id"],
        "room_id": message["room_id"],
        "attempts": 3,
        "error": "HTTP 503",
    }
    assert len(receiver.calls) == 3


async def test_gone_stops_at_once(start_server: StartServer, receiver: Receiver) -> None:
    hooked = await start(start_server, receiver)
    receiver.behave = answer(410)
    alice = hooked.user("alice")
    await alice.say(await alice.make_room("bob"))
    await receiver.wait_for(1)
    await hooked.is_settled()
    [letter] = (await hooked.dead_letters())["failed_messages"]
    assert (letter["attempts"], letter["error"], len(receiver.calls)) == (1, "HTTP 410", 1)


@pytest.mark.slow
async def test_a_longer_retry_after_is_obeyed(start_server: StartServer, receiver: Receiver) -> None:
    hooked = await start(start_server, receiver)
    receiver.behave = in_turn(answer(429, Retry_After="1"), answer(200))
    alice = hooked.user("alice")
    await alice.say(await alice.make_room("bob"))
    first, second = await receiver.wait_for(2)
    assert second.at_s - first.at_s >= 1.0


async def test_an_endpoint_that_hangs_is_given_up_after_the_timeout(
    start_server: StartServer, receiver: Receiver
) -> None:
    hooked = await start(start_server, receiver, timeout_seconds=0.2, retry_schedule_seconds=[0, 0])
    receiver.behave = hang
    alice = hooked.user("alice")
    await alice.say(await alice.make_room("bob"))
    await receiver.wait_for(2)
    await hooked.is_settled()
    [letter] = (await hooked.dead_letters())["failed_messages"]
    assert (letter["attempts"], letter["error"]) == (2, "no answer within 0.2 s")


@pytest.mark.slow
async def test_endpoints_that_hang_delay_nobody_else(start_server: StartServer, receiver: Receiver) -> None:
    hooked = await start(start_server, receiver, concurrency=8, timeout_seconds=60)
    server = hooked.server
    good = [await hook(server, f"{receiver.url}/good{number}") for number in range(3)]

    async def behave(call: Call, request: Any) -> Any:
        return await (answer(204) if "/good" in request.path else hang)(call, request)

    receiver.behave = behave
    alice = hooked.user("alice")
    room_id = await alice.make_room("bob")
    for _ in range(20):
        await alice.say(room_id)
    await eventually(lambda: len(receiver.calls) == 2)  # a quarter of 8
    for other in good:
        alice = other.user("alice")
        room_id = await alice.make_room("bob")
        for _ in range(20):
            await alice.say(room_id)
    async with asyncio.timeout(30):  # half of the time after which the first one's calls end
        for other in good:
            await other.is_settled()
    assert len(receiver.calls) == 2 + 3 * 20
    assert (await hooked.queues())["webhooks"] == 20


@pytest.mark.slow
async def test_however_many_endpoints_give_no_answer_the_others_go_on(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant_queues, "FAILING_AFTER", 1)
    settings = {"concurrency": 4, "timeout_seconds": 0.5, "retry_schedule_seconds": [0] * 50}
    hooked = await start(start_server, receiver, **settings)
    server = hooked.server
    bad = [await hook(server, f"{receiver.url}/bad{number}") for number in range(8)]

    async def behave(call: Call, request: Any) -> Any:
        return await (hang if "/bad" in request.path else answer(204))(call, request)

    receiver.behave = behave
    for tenant in bad:
        alice = tenant.user("alice")
        await alice.say(await alice.make_room("bob"))
    await receiver.wait_for(16)  # each has hung once to its end
    alice = hooked.user("alice")
    room_id = await alice.make_room("bob")
    for number in range(10):
        before = asyncio.get_running_loop().time()
        await alice.say(room_id, f"{number}")
        await eventually(
            lambda number=number: any(c.user_id == "bob" and c.content == f"{number}" for c in receiver.calls)
        )
        # Not a timeout's time: half of the calls are not for those who do not answer.
        assert asyncio.get_running_loop().time() - before < 0.4


# Dropped before a try


async def test_failed_call_is_not_retried_after_an_acknowledgement(
    start_server: StartServer, receiver: Receiver
) -> None:
    hooked = await start(start_server, receiver, retry_schedule_seconds=[0, 0.5, 0.5])
    receiver.behave = answer(500)
    alice, bob = hooked.user("alice"), hooked.user("bob")
    message = await alice.say(await alice.make_room("bob"))
    notification = {"topic": "t", "payload": 1, "targets": {"user_ids": ["bob"]}}
    sent = (await alice.post("/notify", notification)).data
    await receiver.wait_for(2)
    await bob.post("/acks", {"room_id": message["room_id"], "seq": message["seq"]})
    await bob.post(f"/notifications/{sent['notification_id']}/ack")
    await hooked.is_settled()
    assert len(receiver.calls) == 2
    assert await hooked.queues() == {"notifications": 0, "webhooks": 0, "dead_letters": 0}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["message", "room", "member"])
async def test_failed_call_is_not_retried_after_a_deletion(
    start_server: StartServer, receiver: Receiver, how: str
) -> None:
    hooked = await start(start_server, receiver, retry_schedule_seconds=[0, 0.4, 0.4])
    receiver.behave = answer(500)
    alice = hooked.user("alice")
    room_id = await alice.make_room("bob")
    message = await alice.say(room_id)
    await receiver.wait_for(1)
    paths = {"message": f"/messages/{message['message_id']}", "room": "", "member": "/members/bob"}
    assert (await alice.delete(f"/rooms/{room_id}{paths[how]}")).status == 204
    await hooked.is_settled()
    assert len(receiver.calls) == 1


async def test_an_edit_is_shown_by_the_next_try(start_server: StartServer, receiver: Receiver) -> None:
    hooked = await start(start_server, receiver, retry_schedule_seconds=[0, 0.3])
    receiver.behave = in_turn(answer(500), answer(200))
    alice = hooked.user("alice")
    message = await alice.say(await alice.make_room("bob"), "teh")
    await receiver.wait_for(1)
    await alice.put(f"/rooms/{message['room_id']}/messages/{message['message_id']}", {"content": "the"})
    calls = await receiver.wait_for(2)
    assert [call.content for call in calls] == ["teh", "the"]
    Webhook(hooked.secret).verify(calls[1].body, calls[1].headers)


async def test_removing_the_webhook_drops_waiting_calls(start_server: StartServer, receiver: Receiver) -> None:
    hooked = await start(start_server, receiver, retry_schedule_seconds=[0, 0.2, 60])
    receiver.behave = answer(500)
    alice = hooked.user("alice")
    await alice.say(await alice.make_room("bob", "carol"))
    await receiver.wait_for(2)
    await hooked.server.admin("PATCH", f"/tenants/{hooked.tenant_id}", {"config": {"webhook_url": None}})
    await hooked.is_settled()
    assert len(receiver.calls) == 2


# Secrets and addresses


async def test_a_private_address_is_not_called(start_server: StartServer, receiver: Receiver) -> None:
    server = await start_server({**QUICK, "webhooks.allow_private_addresses": False})
    port = receiver.url.rsplit(":", 1)[1]
    for literal in ("127.0.0.1", "0x7f.1", "[::ffff:127.0.0.1]"):
        body = {"name": "x", "config": {"webhook_url": f"http://{literal}:{port}"}}
        refused: Reply = await server.admin("POST", "/tenants", body)
        assert (refused.status, refused.error["field"]) == (400, "config.webhook_url")
    # A name says nothing before it is resolved.
    hooked = await hook(server, f"http://localhost:{port}")
    alice = hooked.user("alice")
    await alice.say(await alice.make_room("bob"))
    await hooked.is_settled()
    [letter] = (await hooked.dead_letters())["failed_messages"]
    assert letter["attempts"] == 3
    assert "is not a public address" in letter["error"]
    assert receiver.calls == []


# Ends and starts


async def test_waiting_calls_are_made_after_a_restart(start_server: StartServer, receiver: Receiver) -> None:
    hooked = await start(start_server, receiver, retry_schedule_seconds=[0, 0.5])
    receiver.behave = in_turn(answer(500), answer(200))
    alice = hooked.user("alice")
    await alice.say(await alice.make_room("bob"))
    await receiver.wait_for(1)
    await eventually(lambda: hooked.server.services.webhooks.failed == 1)
    await hooked.server.app.close()
    server = await start_server({**QUICK, "webhooks.retry_schedule_seconds": [0, 0.5]})
    await receiver.wait_for(2)
    assert len(set(receiver.ids)) == 1
    await eventually(lambda: server.services.webhooks.delivered == 1)


async def test_a_call_that_hangs_does_not_keep_the_server_from_ending(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "CLOSE_SECONDS", 0.1)
    hooked = await start(start_server, receiver, timeout_seconds=60)
    receiver.behave = hang
    alice = hooked.user("alice")
    await alice.say(await alice.make_room("bob"))
    await receiver.wait_for(1)
    async with asyncio.timeout(WAIT_SECONDS):
        await hooked.server.app.close()
    receiver.behave = answer(204)
    await start_server(QUICK)
    await receiver.wait_for(2)
    assert len(set(receiver.ids)) == 1


@pytest.mark.parametrize("refused", ["record", "expand_event"])
async def test_results_refused_by_the_store_are_stored_later(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """Meanwhile no call is made twice, and none is forgotten."""
    monkeypatch.setattr(worker, "STORE_PAUSE_SECONDS", 0.05)
    work, refusals = getattr(store_webhooks, refused), [1, 2, 3]

    async def refuse(*args: Any) -> Any:
        if refusals:
            refusals.pop()
            raise unavailable("The database cannot accept writes")
        return await work(*args)

    monkeypatch.setattr(store_webhooks, refused, refuse)
    hooked = await start(start_server, receiver)
    alice = hooked.user("alice")
    members = [f"m{number}" for number in range(30)]
    await alice.say(await alice.make_room(*members))
    await receiver.wait_for(30)
    await hooked.is_settled()
    assert sorted(call.user_id for call in receiver.calls) == sorted(members)
    assert refusals == []


@pytest.mark.slow
async def test_nothing_is_lost_when_the_server_is_killed_again_and_again(tmp_path: Path, receiver: Receiver) -> None:
    """Each event arrives at least once under one id, and what the operator sees adds up."""
    settings = {
        "webhooks.allow_private_addresses": "true",
        "webhooks.retry_schedule_seconds": "[0" + ", 0.1" * 40 + "]",
        "webhooks.timeout_seconds": "0.5",
        "limits.rate_limit": "10000",
    }
    count = 0

    def is_gone(call: Call) -> bool:
        return call.event["type"] == "message.offline" and call.content.endswith("7")

    async def behave(call: Call, request: Any) -> Any:
        nonlocal count
        count += 1
        if is_gone(call):
            return await answer(410)(call, request)
        behaviours = (answer(500), answer(204), close_early, answer(204), hang if count % 15 == 4 else answer(204))
        return await behaviours[count % 5](call, request)

    receiver.behave = behave
    server = ServerProcess(tmp_path, settings, dev=False)
    admin = {"X-Master-Key": server.master_key}
    sent: set[tuple[str, str]] = set()
    async with aiohttp.ClientSession(raise_for_status=True) as session:

        async def call(method: str, path: str, headers: dict[str, str], body: object = None) -> Any:
            async with session.request(method, server.url + path, headers=headers, json=body) as reply:
                return (await reply.json())["data"]

        with ExitStack() as stack:
            await asyncio.to_thread(stack.enter_context, server)
            body = {"name": "hooked", "config": {"webhook_url": receiver.url}}
            made = await call("POST", "/admin/tenants", admin, body)
            key = {"X-API-Key": made["api_key"], "X-User-Id": "alice"}
            pair = (await call("POST", "/rooms", key, {"type": "dm", "members": ["bob"]}))["room_id"]
            many = [f"u{number}" for number in range(30)]
            crowd = (await call("POST", "/rooms", key, {"type": "group", "members": many}))["room_id"]
            for turn in range(3):
                for number in range(20):
                    message = await call("POST", f"/rooms/{pair}/messages", key, {"content": f"{turn}.{number}"})
                    sent.add((message["message_id"], "bob"))
                message = await call("POST", f"/rooms/{crowd}/messages", key, {"content": "all"})
                sent.update((message["message_id"], user_id) for user_id in many)
                body = {"topic": "t", "payload": turn, "targets": {"user_ids": many}}
                notification = await call("POST", "/notify", key, body)
                sent.update((notification["notification_id"], user_id) for user_id in many)
                await receiver.wait_for(len(receiver.calls) + 15)
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
            async with asyncio.timeout(60):
                while (await call("GET", "/admin/stats", admin))["tenants"][0]["queues"]["webhooks"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            stats = (await call("GET", "/admin/stats", admin))["tenants"][0]
            letters = await call("GET", "/admin/dead-letters?limit=1000", admin)
    events = {found.webhook_id: find_event(found) for found in receiver.calls}
    assert set(events.values()) == sent  # all of them arrived...
    assert len(events) == len(sent)  # ...each under one id
    gone = {found.webhook_id for found in receiver.calls if is_gone(found)}
    assert {letter["id"] for letter in letters["failed_messages"]} == gone
    assert letters["failed_notifications"] == []
    assert stats["queues"] == {"notifications": 90, "webhooks": 0, "dead_letters": 6}
    assert (stats["rooms"], stats["messages"], len(gone)) == (2, 63, 6)
    assert max(Counter(receiver.ids).values()) > 1
