from typing import Any

import pytest
from conftest import StartServer
from driver import HandClock, Server, eventually
from hooked import QUICK, Hooked, find_stats, hook
from receiver import Receiver, answer, in_turn

from chatapi.errors import held
from chatapi.store import webhooks as store_webhooks
from chatapi.store.webhooks import DeliveryKey, encode_delivery_id, parse_delivery_id

ONCE = {**QUICK, "webhooks.retry_schedule_seconds": [0]}


async def make_dead(hooked: Hooked, count: int = 1) -> str:
    """Messages to bob that are not taken; the room."""
    alice = hooked.user("alice")
    room_id = await alice.make_room("bob")
    for number in range(count):
        await alice.say(room_id, f"{number}")
    await hooked.is_settled()
    return room_id


async def list_dead(server: Server, **params: object) -> Any:
    reply = await server.admin("GET", "/dead-letters", params={name: str(value) for name, value in params.items()})
    return reply.data


async def test_they_are_listed_by_kind_the_latest_first(start_server: StartServer, receiver: Receiver) -> None:
    server = await start_server(ONCE)
    hooked = await hook(server, receiver.url)
    receiver.behave = answer(500)
    room_id = await make_dead(hooked, 3)
    alice = hooked.user("alice")
    body = {"topic": "news", "payload": 1, "targets": {"user_ids": ["carol"]}}
    notification_id = (await alice.post("/notify", body)).data["notification_id"]
    await hooked.is_settled()
    page = await list_dead(server)
    times = [letter["last_attempt_at"] for letter in page["failed_messages"]]
    assert times == sorted(times, reverse=True)
    assert {letter["room_id"] for letter in page["failed_messages"]} == {room_id}
    [letter] = page["failed_notifications"]
    assert letter.pop("last_attempt_at") > times[0]
    assert letter == {
        "id": receiver.ids[3],
        "tenant_id": hooked.tenant_id,
        "user_id": "carol",
        "notification_id": notification_id,
        "topic": "news",
        "attempts": 1,
        "error": "HTTP 500",
    }
    assert page["failed_events"] == []
    # A page is of both kinds together.
    first = await list_dead(server, limit=2)
    assert (len(first["failed_messages"]), len(first["failed_notifications"]), first["has_more"]) == (1, 1, True)
    rest = await list_dead(server, limit=2, offset=2)
    assert (len(rest["failed_messages"]), len(rest["failed_notifications"]), rest["has_more"]) == (2, 0, False)


async def test_they_are_listed_by_tenant(start_server: StartServer, receiver: Receiver) -> None:
    server = await start_server(ONCE)
    receiver.behave = answer(500)
    one, other = await hook(server, receiver.url), await hook(server, receiver.url)
    await make_dead(one, 1)
    await make_dead(other, 2)
    assert len((await list_dead(server))["failed_messages"]) == 3
    letters = (await list_dead(server, tenant_id=other.tenant_id))["failed_messages"]
    assert [letter["tenant_id"] for letter in letters] == [other.tenant_id] * 2
    unknown = await server.admin("GET", "/dead-letters", params={"tenant_id": "tenant_unknown"})
    assert unknown.status == 404
    # A deleted tenant's are gone with it.
    await server.admin("DELETE", f"/tenants/{other.tenant_id}")
    assert len((await list_dead(server))["failed_messages"]) == 1


async def test_a_retry_starts_the_schedule_anew_with_the_same_id(start_server: StartServer, receiver: Receiver) -> None:
    server = await start_server(QUICK)
    hooked = await hook(server, receiver.url)
    receiver.behave = in_turn(answer(410), answer(500), answer(204))
    await make_dead(hooked)
    [letter] = (await list_dead(server))["failed_messages"]
    reply = await server.admin("POST", f"/dead-letters/{letter['id']}/retry")
    assert (reply.status, reply.data) == (202, {"id": letter["id"]})
    await receiver.wait_for(3)
    await hooked.is_settled()
    assert receiver.ids == [letter["id"]] * 3
    assert (await list_dead(server))["failed_messages"] == []
    assert (await hooked.queues())["dead_letters"] == 0


async def test_only_a_dead_letter_can_be_retried(start_server: StartServer, receiver: Receiver) -> None:
    server = await start_server({**QUICK, "webhooks.retry_schedule_seconds": [0, 60]})
    hooked = await hook(server, receiver.url)
    receiver.behave = answer(500)
    alice = hooked.user("alice")
    await alice.say(await alice.make_room("bob"))
    [call] = await receiver.wait_for(1)  # it waits for its second try
    for delivery_id in (call.webhook_id, "dlv_x", encode_delivery_id(DeliveryKey(1, 1)), "msg_" + "0" * 24):
        assert (await server.admin("POST", f"/dead-letters/{delivery_id}/retry")).status == 404


async def test_all_of_a_tenants_can_be_retried(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatapi.webhooks.dead_letters.REQUEUE_ROWS", 2)
    server = await start_server(ONCE)
    receiver.behave = answer(500)
    one, other = await hook(server, receiver.url), await hook(server, receiver.url)
    await make_dead(one, 5)
    await make_dead(other, 1)
    dead = {letter["id"] for letter in (await list_dead(server, tenant_id=one.tenant_id))["failed_messages"]}
    receiver.calls.clear()
    receiver.behave = answer(204)
    reply = await server.admin("POST", "/dead-letters/retry", {"tenant_id": one.tenant_id})
    assert (reply.status, reply.data) == (202, {"retried": 5})
    await receiver.wait_for(5)
    await one.is_settled()
    assert set(receiver.ids) == dead
    assert len((await list_dead(server))["failed_messages"]) == 1
    assert (await server.admin("POST", "/dead-letters/retry", {"tenant_id": "tenant_x"})).status == 404
    assert (await server.admin("POST", "/dead-letters/retry", {})).error["field"] == "tenant_id"


async def test_without_a_webhook_they_stay_as_they_are(start_server: StartServer, receiver: Receiver) -> None:
    server = await start_server(ONCE)
    hooked = await hook(server, receiver.url)
    receiver.behave = answer(500)
    await make_dead(hooked)
    await server.admin("PATCH", f"/tenants/{hooked.tenant_id}", {"config": {"webhook_url": None}})
    one = await server.admin("POST", f"/dead-letters/{receiver.ids[0]}/retry")
    all_of_them = await server.admin("POST", "/dead-letters/retry", {"tenant_id": hooked.tenant_id})
    assert (one.status, all_of_them.status) == (409, 409)
    assert (await hooked.queues())["dead_letters"] == 1


async def test_one_that_dies_again_while_all_are_retried_stays_dead(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatapi.webhooks.dead_letters.REQUEUE_ROWS", 1)
    server = await start_server(ONCE)
    hooked = await hook(server, receiver.url)
    receiver.behave = answer(500)
    await make_dead(hooked, 4)
    reply = await server.admin("POST", "/dead-letters/retry", {"tenant_id": hooked.tenant_id})
    assert reply.data == {"retried": 4}
    await hooked.is_settled()
    assert len(receiver.calls) == 8
    assert (await hooked.queues())["dead_letters"] == 4


async def test_dead_letter_acknowledged_meanwhile_is_dropped_when_retried(
    start_server: StartServer, receiver: Receiver
) -> None:
    server = await start_server(ONCE)
    hooked = await hook(server, receiver.url)
    receiver.behave = answer(500)
    room_id = await make_dead(hooked)
    await hooked.user("bob").post("/acks", {"room_id": room_id, "seq": 1})
    await server.admin("POST", f"/dead-letters/{receiver.ids[0]}/retry")
    await hooked.is_settled()
    assert len(receiver.calls) == 1
    assert (await hooked.queues())["dead_letters"] == 0


async def test_they_expire(start_server: StartServer, receiver: Receiver) -> None:
    clock = HandClock()
    server = await start_server({**ONCE, "webhooks.dead_letter_days": 2}, clock=clock)
    hooked = await hook(server, receiver.url)
    receiver.behave = answer(500)
    await make_dead(hooked, 5)
    dead_letters = server.services.dead_letters
    clock.advance(2 * 86_400 - 1)
    await dead_letters.expire()
    assert (await hooked.queues())["dead_letters"] == 5
    clock.set_forward(86_400 * 400)  # a clock that is wrong for a while costs nothing
    await dead_letters.expire()
    clock.set_forward(-86_400 * 400)
    assert (await hooked.queues())["dead_letters"] == 5
    clock.advance(2)
    await make_dead(hooked, 1)
    tenant = server.services.tenants.get(hooked.tenant_id)
    tenant.hold = held("The tenant is on its way to another server")
    await dead_letters.expire()
    assert (await hooked.queues())["dead_letters"] == 6
    tenant.hold = None
    await dead_letters.expire()
    assert (await hooked.queues())["dead_letters"] == 1


async def test_they_take_the_master_key(server: Server) -> None:
    for method, path in (
        ("GET", "/admin/dead-letters"),
        ("POST", "/admin/dead-letters/retry"),
        ("POST", f"/admin/dead-letters/{encode_delivery_id(DeliveryKey(1, 1))}/retry"),
        ("GET", "/admin/stats"),
    ):
        reply = await server.user("alice").request(method, path, {"tenant_id": "x"} if method == "POST" else None)
        assert (reply.status, reply.error["code"]) == (401, "AUTHENTICATION_ERROR")
    assert (await server.admin("GET", "/dead-letters", params={"limit": "1000"})).status == 200
    assert (await server.admin("GET", "/dead-letters", params={"limit": "1001"})).error["field"] == "limit"


async def test_stats_count_rooms_messages_connections_and_queues(start_server: StartServer) -> None:
    server = await start_server({"search.enabled": False})  # the index would write now and then
    other = await server.make_tenant("other")
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    channel = await alice.make_room(room_type="channel")
    messages = [await alice.say(room_id, f"{number}") for number in range(5)]
    await alice.say(channel)
    # Events of the log that are no messages.
    await alice.put(f"/rooms/{room_id}/messages/{messages[0]['message_id']}", {"content": "edited"})
    await alice.delete(f"/rooms/{room_id}/messages/{messages[1]['message_id']}")
    await alice.post(f"/rooms/{room_id}/members", {"user_id": "carol"})
    await bob.post(f"/rooms/{channel}/members", {"user_id": "bob"})
    gone = await alice.make_room("bob")
    await alice.say(gone)
    await alice.delete(f"/rooms/{gone}")
    sent = await alice.post("/notify", {"topic": "t", "payload": 1, "targets": {"user_ids": ["bob", "carol"]}})
    await bob.post(f"/notifications/{sent.data['notification_id']}/ack")
    sockets = [await bob.connect(), await bob.connect()]
    tenant_id = server.services.tenants.all()[0].tenant_id
    assert await find_stats(server, tenant_id) == {
        "tenant_id": tenant_id,
        "name": "acme",
        "rooms": 2,
        "messages": 6,
        "connections": len(sockets),
        "queues": {"notifications": 1, "webhooks": 0, "dead_letters": 0},
    }
    stats = await find_stats(server, other["tenant_id"])
    assert (stats["rooms"], stats["messages"], stats["connections"]) == (0, 0, 0)
    eve = server.user("eve", other["api_key"])
    await eve.post("/notify", {"topic": "t", "payload": 1, "targets": {"user_ids": ["eve", "zoe"]}})
    await eventually(lambda: not server.services.store.writer)
    queues = (await server.admin("GET", "/stats")).data["queues"]
    assert queues == {"writes": 0, "notifications": 3, "webhooks": 0, "dead_letters": 0}


@pytest.mark.parametrize(
    "text", ["", "dlv_", "dlv_" + "g" * 24, "dlv_" + "F" * 24, "dlv_" + "f" * 24, "dlv_" + "0" * 23, "dlv_+" + "0" * 23]
)
def test_no_other_text_is_an_id(text: str) -> None:
    assert parse_delivery_id(text) is None


def test_an_id_names_its_key() -> None:
    key = DeliveryKey((1 << 63) - 1, (1 << 32) - 1)
    assert parse_delivery_id(encode_delivery_id(key)) == key
    assert encode_delivery_id(key).startswith(store_webhooks.ID_PREFIX)
