import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest
from conftest import StartServer
from driver import Server, Socket, User, eventually
from receiver import Receiver

from chatapi.connection import Connection, ConnectionState
from chatapi.recovery import ConnectData
from chatapi.store import Transaction


async def notify(caller: User, topic: str = "news", payload: object = None, **targets: object) -> dict[str, Any]:
    reply = await caller.post("/notify", {"topic": topic, "payload": payload, "targets": targets})
    assert reply.status == 202, reply.body
    return dict(reply.data)


async def read_list(user: User, **params: object) -> list[dict[str, Any]]:
    return list((await user.get("/notifications", **params)).data["notifications"])


async def test_targets_are_a_union_and_each_user_once(shared_server: Server) -> None:
    app = shared_server.user("app")
    room_id = await shared_server.user("alice").make_room("bob", "carol")
    for user_id in ("carol", "dave"):
        await shared_server.user(user_id).post("/subscriptions", {"topic": "news"})
    await shared_server.user("erin").post("/subscriptions", {"topic": "weather"})
    sent = await notify(
        app, user_ids=["bob", "frank", "frank"], room_id=room_id, topic_subscribers=True, payload={"n": [1, None]}
    )
    assert sent["recipients"] == 5
    assert sent["notification_id"].startswith("notif_")
    for user_id in ("alice", "bob", "carol", "dave", "frank"):
        [found] = await read_list(shared_server.user(user_id))
        assert found == {
            "notification_id": sent["notification_id"],
            "topic": "news",
            "payload": {"n": [1, None]},
            "created_at": sent["created_at"],
            "status": "pending",
            "acked_at": None,
        }
    assert await read_list(shared_server.user("erin")) == []


async def test_nobody_may_be_concerned(shared_server: Server) -> None:
    assert (await notify(shared_server.user("app"), topic_subscribers=True))["recipients"] == 0
    assert (await notify(shared_server.user("app"), user_ids=[]))["recipients"] == 0


async def test_online_ones_get_the_frame_at_once_and_the_others_at_their_next_connect(shared_server: Server) -> None:
    phone, laptop = await shared_server.user("bob").connect(), await shared_server.user("bob").connect()
    sent = await notify(shared_server.user("app"), payload={"a": "ü"}, user_ids=["bob", "carol"])
    del sent["recipients"]
    for socket in (phone, laptop, await shared_server.user("carol").connect(ready=False)):
        frame = await socket.expect("notification")
        assert frame == {"type": "notification", "topic": "news", "payload": {"a": "ü"}, **sent}


async def test_an_acknowledgement_ends_it(shared_server: Server) -> None:
    bob = shared_server.user("bob")
    first = (await notify(shared_server.user("app"), payload=1, user_ids=["bob"]))["notification_id"]
    second = (await notify(shared_server.user("app"), payload=2, user_ids=["bob"]))["notification_id"]
    socket = await bob.connect(ready=False)
    assert [(await socket.expect("notification"))["payload"] for _ in range(2)] == [1, 2]
    await socket.send("notification.ack", notification_id=first)
    await socket.expect_nothing("error")
    for _ in range(2):  # again changes nothing
        reply = await bob.post(f"/notifications/{second}/ack")
        assert (reply.status, reply.data) == (200, {"notification_id": second, "status": "delivered"})
    again = await bob.connect(ready=False)
    assert "notification" not in [frame["type"] for frame in await again.collect("sync.complete")]
    delivered = await read_list(bob, status="delivered")
    assert [item["notification_id"] for item in delivered] == [second, first]
    assert all(item["status"] == "delivered" and item["acked_at"].endswith("Z") for item in delivered)


async def test_it_comes_again_at_each_connect_until_then(shared_server: Server) -> None:
    bob = shared_server.user("bob")
    await notify(shared_server.user("app"), user_ids=["bob"])
    for _ in range(2):
        socket = await bob.connect(ready=False)
        frames = await socket.collect("sync.complete")
        assert [frame["type"] for frame in frames].count("notification") == 1
        await socket.close()


@pytest.mark.slow
async def test_backlogs_longer_than_a_page_are_complete_and_in_order(shared_server: Server) -> None:
    app = shared_server.user("app")
    for number in range(230):
        await notify(app, payload=number, user_ids=["bob"])
    socket = await shared_server.user("bob").connect(ready=False)
    frames = await socket.collect("sync.complete")
    assert [frame["payload"] for frame in frames if frame["type"] == "notification"] == list(range(230))


async def test_with_sync_none_they_wait_for_the_first_sync(shared_server: Server) -> None:
    await notify(shared_server.user("app"), payload="old", user_ids=["bob"])
    socket = await shared_server.user("bob").connect(ready=False, sync="none")
    await socket.expect("ready")
    await notify(shared_server.user("app"), payload="new", user_ids=["bob"])
    await socket.expect_nothing("notification")
    await socket.send("sync", rooms={})
    frames = await socket.collect("sync.complete")
    assert [frame["payload"] for frame in frames if frame["type"] == "notification"] == ["old", "new"]


@pytest.mark.slow
async def test_a_slow_connection_gets_all_of_them_in_order_and_once(start_server: StartServer) -> None:
    server = await start_server({"limits.send_buffer_bytes": 65_536})
    socket = await server.user("bob").connect()
    [connection] = server.connections_of("bob")
    for number in range(150):  # 9 MB, more than the buffers between the two hold
        await notify(server.user("app"), payload=[number, "x" * 60_000], user_ids=["bob"])
        assert connection.unsent_bytes() < 2 * 65_536
    assert connection.state is ConnectionState.RECOVERING
    numbers = [(await socket.expect("notification"))["payload"][0] for _ in range(150)]
    assert numbers == list(range(150))
    await socket.expect_nothing("notification")


async def test_none_comes_twice_when_a_recovery_reads_it_before_it_is_published(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recovery reads the store between the commit and the publication."""
    socket = await server.user("bob").connect()
    [connection] = server.connections_of("bob")
    committer = server.services.committer
    publish = committer.publish

    def publish_late(batch: Any) -> None:
        # The commit is done. As if the connection had just become live with what it has read:
        connection.notified_key = 1 << 62
        publish(batch)

    monkeypatch.setattr(committer, "publish", publish_late)
    await notify(server.user("app"), user_ids=["bob"])
    await socket.expect_nothing("notification")


async def test_one_that_comes_during_the_handshake_is_not_missed(server: Server) -> None:
    """It is committed after the look-up of what waits for bob, and published before its answer is taken."""
    connects = server.services.recovery._connects
    load_many = connects._load_many

    async def load_and_notify(keys: Sequence[Any]) -> Sequence[ConnectData]:
        values = await load_many(keys)
        await notify(server.user("app"), user_ids=["bob"])
        return values

    connects._load_many = load_and_notify
    socket = await server.user("bob").connect(ready=False)
    assert len(await socket.collect("notification")) == 1  # `ready` only
    await socket.expect("sync.complete")


async def test_connection_with_no_backlog_is_live_at_once(server: Server) -> None:
    """One look-up for all that a connect needs, and no recovery where nothing is missing."""
    alice = server.user("alice")
    room_id = await alice.make_room()
    sent = await notify(server.user("app"), user_ids=["alice"])
    await alice.post(f"/notifications/{sent['notification_id']}/ack")
    started: list[Connection] = []
    server.services.recovery.start = started.append  # type: ignore[method-assign]
    socket = await alice.connect(ready=False)
    assert [(await socket.next())["type"] for _ in range(2)] == ["ready", "sync.complete"]
    await alice.say(room_id)
    await socket.expect("message")
    assert started == []


async def test_the_list_is_paged_and_filtered(shared_server: Server) -> None:
    bob, app = shared_server.user("bob"), shared_server.user("app")
    ids = [(await notify(app, payload=number, user_ids=["bob"]))["notification_id"] for number in range(5)]
    for notification_id in ids[:2]:
        await bob.post(f"/notifications/{notification_id}/ack")
    page = (await bob.get("/notifications", limit=2)).data
    assert ([item["payload"] for item in page["notifications"]], page["has_more"]) == ([4, 3], True)
    page = (await bob.get("/notifications", limit=2, offset=3)).data
    assert ([item["payload"] for item in page["notifications"]], page["has_more"]) == ([1, 0], False)
    assert [item["payload"] for item in await read_list(bob, status="pending")] == [4, 3, 2]
    assert [item["payload"] for item in await read_list(bob, status="delivered")] == [1, 0]
    assert (await bob.get("/notifications", status="other")).error["field"] == "status"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"payload": 1, "targets": {"user_ids": ["a"]}}, "topic"),
        ({"topic": "t", "targets": {"user_ids": ["a"]}}, "payload"),
        ({"topic": "t", "payload": 1}, "targets"),
        ({"topic": "t", "payload": 1, "targets": {}}, "targets"),
        ({"topic": "t", "payload": 1, "targets": {"topic_subscribers": False}}, "targets"),
        ({"topic": "t", "payload": 1, "targets": {"topic_subscribers": "yes"}}, "targets.topic_subscribers"),
        ({"topic": "t", "payload": 1, "targets": {"user_ids": ["a", "b", "c", "d e"]}}, "targets.user_ids[3]"),
        ({"topic": "t", "payload": 1, "targets": {"user_ids": ["a"] * 1001}}, "targets.user_ids"),
        ({"topic": "t", "payload": "x" * 65_537, "targets": {"user_ids": ["a"]}}, "payload"),
        ({"topic": "", "payload": 1, "targets": {"user_ids": ["a"]}}, "topic"),
    ],
)
async def test_invalid_field_of_notify_is_named(shared_server: Server, body: object, field: str) -> None:
    reply = await shared_server.user("app").post("/notify", body)
    assert (reply.status, reply.error["code"], reply.error["field"]) == (400, "VALIDATION_ERROR", field)


async def test_it_takes_the_tenants_key(shared_server: Server) -> None:
    token = (await shared_server.user("alice").post("/tokens")).data["token"]
    body = {"topic": "t", "payload": 1, "targets": {"user_ids": ["a"]}}
    reply = await shared_server.request("POST", "/notify", body, headers={"Authorization": f"Bearer {token}"})
    assert (reply.status, reply.error["code"]) == (403, "AUTHORIZATION_ERROR")


async def test_a_target_room_must_be_the_tenants(shared_server: Server) -> None:
    other = (await shared_server.make_tenant("other"))["api_key"]
    foreign = await shared_server.user("alice", other).make_room("bob")
    for room_id in (foreign, "room_unknown"):
        reply = await shared_server.user("app").post(
            "/notify", {"topic": "t", "payload": 1, "targets": {"room_id": room_id}}
        )
        assert reply.status == 404
    # The caller need not be in it.
    own = await shared_server.user("alice").make_room("bob")
    assert (await notify(shared_server.user("app"), room_id=own))["recipients"] == 2


async def test_others_and_other_tenants_see_nothing_of_it(shared_server: Server) -> None:
    other = (await shared_server.make_tenant("other"))["api_key"]
    await shared_server.user("bob", other).post("/subscriptions", {"topic": "news"})
    await shared_server.user("bob").post("/subscriptions", {"topic": "news"})
    stranger: Socket = await shared_server.user("bob", other).connect()
    sent = await notify(shared_server.user("app"), topic_subscribers=True)
    assert sent["recipients"] == 1
    await stranger.expect_nothing("notification")
    for user in (shared_server.user("carol"), shared_server.user("bob", other)):
        assert await read_list(user) == []
        reply = await user.post(f"/notifications/{sent['notification_id']}/ack")
        assert (reply.status, reply.error["code"]) == (404, "NOT_FOUND")
    assert (await read_list(shared_server.user("bob")))[0]["status"] == "pending"


async def test_acknowledging_an_unknown_notification_is_refused(shared_server: Server) -> None:
    bob = shared_server.user("bob")
    socket = await bob.connect()
    for notification_id in ("notif_0000000000000001", "notif_", "msg_0000000000000001", "notif_000000000000000g"):
        assert (await bob.post(f"/notifications/{notification_id}/ack")).status == 404
        await socket.send("notification.ack", notification_id=notification_id, request_id="r")
        await socket.expect("error", code="NOT_FOUND", request_id="r")


async def test_subscribing_is_idempotent_and_of_the_user(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    first = await alice.post("/subscriptions", {"topic": "news"})
    again = await alice.post("/subscriptions", {"topic": "news"})
    assert (first.status, again.status) == (201, 200)
    assert first.data == again.data
    assert set(first.data) == {"subscription_id", "topic", "created_at"}
    weather = (await alice.post("/subscriptions", {"topic": "weather"})).data
    listed = (await alice.get("/subscriptions")).data
    assert listed == {"subscriptions": [first.data, weather], "has_more": False}
    assert (await alice.get("/subscriptions", limit=1, offset=1)).data["subscriptions"] == [weather]
    assert (await bob.get("/subscriptions")).data["subscriptions"] == []


async def test_no_notification_comes_after_unsubscribing(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    subscription_id = (await alice.post("/subscriptions", {"topic": "news"})).data["subscription_id"]
    other = (await shared_server.make_tenant("other"))["api_key"]
    for stranger in (bob, shared_server.user("alice", other)):
        assert (await stranger.delete(f"/subscriptions/{subscription_id}")).status == 404
    assert (await alice.delete(f"/subscriptions/{subscription_id}")).status == 204
    assert (await alice.delete(f"/subscriptions/{subscription_id}")).status == 404
    assert (await alice.delete("/subscriptions/sub_x")).status == 404
    assert (await notify(bob, topic_subscribers=True))["recipients"] == 0
    # Subscribing again is a new subscription.
    assert (await alice.post("/subscriptions", {"topic": "news"})).status == 201


async def test_it_survives_the_server(start_server: StartServer) -> None:
    server = await start_server()
    sent = await notify(server.user("app"), user_ids=["bob"])
    await server.app.close()
    server = await start_server()
    socket = await server.user("bob").connect(ready=False)
    await socket.expect("notification", notification_id=sent["notification_id"])


async def test_a_room_deleted_meanwhile_is_not_found(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    room = await server.services.rooms.get(server.services.tenants.all()[0], room_id)
    room.gone = True  # what the deletion's publication does, while the notification waits its turn
    reply = await server.user("app").post("/notify", {"topic": "t", "payload": 1, "targets": {"room_id": room_id}})
    room.gone = False
    assert reply.status == 404
    await eventually(lambda: not len(server.services.store.writer))


MANY_SUBSCRIBERS = """
    INSERT INTO subscriptions (subscription_key, tenant_key, user_id, topic, created_at_us)
    WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 50000)
    SELECT number, :tenant_key, 'user-' || (number * 7919 % 1000003), 'news', 0 FROM numbers
"""


@pytest.mark.bench
async def test_fifty_thousand_recipients_do_not_block_the_loop(
    start_server: StartServer, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half a second would be a pause that users notice; measured are about 10 ms."""
    server = await start_server({"webhooks.allow_private_addresses": True})
    made = await server.make_tenant("hooked", webhook_url=receiver.url)
    tenant_key = server.services.tenants.get(made["tenant_id"]).tenant_key

    async def subscribe(transaction: Transaction) -> None:
        await transaction.execute(MANY_SUBSCRIBERS, {"tenant_key": tenant_key})

    await server.services.store.writer.change(subscribe)
    socket = await server.user("user-7919", made["api_key"]).connect()
    loop, longest_s, done = asyncio.get_running_loop(), 0.0, False

    async def watch() -> None:
        nonlocal longest_s
        while not done:
            before_s = time.thread_time()  # which stands still while the machine does something else
            await asyncio.sleep(0.001)
            longest_s = max(longest_s, time.thread_time() - before_s)

    watching = asyncio.create_task(watch())
    start_s = loop.time()
    sent = await notify(server.user("app", made["api_key"]), topic_subscribers=True)
    took_s = loop.time() - start_s
    await socket.expect("notification", notification_id=sent["notification_id"])
    await receiver.wait_for(1000)
    done = True
    await watching
    with capsys.disabled():
        print(f"\n50,000 recipients: stored in {took_s * 1000:.0f} ms, longest pause {longest_s * 1000:.1f} ms")
    assert sent["recipients"] == 50_000
    assert longest_s < 0.5
