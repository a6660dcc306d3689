"""Every call of the Python SDK once against the real server, and a slow application on a real socket."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from driver import Server

from chatapi.client import AdminAPI, ApiError, ChatAPI
from chatapi.errors import Code


@pytest.fixture
async def alice(server: Server) -> AsyncIterator[ChatAPI]:
    async with ChatAPI(server.url, api_key=server.api_key, user_id="alice") as client:
        yield client


@pytest.fixture
async def admin(server: Server) -> AsyncIterator[AdminAPI]:
    async with AdminAPI(server.url, server.master_key) as admin:
        yield admin


async def test_rooms_and_members(alice: ChatAPI) -> None:
    room = await alice.create_room("group", ["bob/1"], name="Team", metadata={"a": 1})
    room_id = room["room_id"]
    assert (room["type"], room["member_count"], room["last_seq"]) == ("group", 2, 0)
    assert (await alice.get_room(room_id))["metadata"] == {"a": 1}
    assert (await alice.update_room(room_id, name=None))["name"] is None
    assert (await alice.add_member(room_id, "carol"))["role"] == "member"
    assert (await alice.update_member(room_id, "bob/1", "admin"))["role"] == "admin"
    await alice.remove_member(room_id, "carol")
    page = await alice.list_members(room_id, limit=1, offset=1)
    assert [member["user_id"] for member in page["members"]] == ["bob/1"]
    page = await alice.list_members(room_id, limit=1)
    page = await alice.list_members(room_id, limit=1, cursor=page["next_cursor"])
    assert [member["user_id"] for member in page["members"]] == ["bob/1"]
    assert not page["has_more"]
    [own] = (await alice.list_rooms())["rooms"]
    assert (own["room_id"], own["role"], own["unread_count"]) == (room_id, "admin", 0)
    await alice.create_room("channel", name="news")
    assert [channel["name"] for channel in (await alice.list_channels())["rooms"]] == ["news"]
    await alice.delete_room(room_id)
    with pytest.raises(ApiError) as caught:
        await alice.get_room(room_id)
    assert caught.value.code is Code.NOT_FOUND


async def test_messages_and_positions(alice: ChatAPI) -> None:
    bob = alice.as_user("bob")
    room_id = (await alice.create_room("dm", ["bob"]))["room_id"]
    first = await alice.send_message(room_id, "one", meta={"a": 1})
    await bob.send_message(room_id, "two", reply_to=first["message_id"])
    assert (await alice.edit_message(room_id, first["message_id"], "uno"))["meta"] == {"a": 1}
    assert (await bob.get_message(room_id, first["message_id"]))["content"] == "uno"
    await alice.delete_message(room_id, first["message_id"])
    page = await bob.list_messages(room_id, after_seq=0, limit=1)
    assert (page["messages"][0]["content"], page["has_more"]) == (None, True)
    assert [message["seq"] for message in (await bob.list_messages(room_id, before_seq=3))["messages"]] == [1, 2]
    events = await bob.list_events(room_id, after_seq=1)
    assert [event["type"] for event in events["events"]] == ["message", "message.edited", "message.deleted"]
    assert (await bob.ack(room_id, 3))["seq"] == 3
    acks = await bob.ack_rooms({**{f"room_{number}": 1 for number in range(1000)}, room_id: 2})  # two calls
    assert acks["rooms"] == {room_id: 3}
    assert {error["code"] for error in acks["errors"].values()} == {"NOT_FOUND"}
    assert len(acks["errors"]) == 1000
    assert (await bob.mark_read(room_id, 2))["seq"] == 2
    receipts = {receipt["user_id"]: receipt for receipt in (await alice.list_receipts(room_id))["receipts"]}
    assert (receipts["bob"]["last_ack"], receipts["bob"]["last_read"]) == (3, 2)
    assert (await alice.get_presence(room_id))["online"] == []


async def test_notifications_and_topics(alice: ChatAPI) -> None:
    subscription = await alice.subscribe_topic("news")
    assert (await alice.subscribe_topic("news"))["subscription_id"] == subscription["subscription_id"]
    assert (await alice.list_subscriptions())["subscriptions"] == [subscription]
    notified = await alice.notify("news", {"n": 1}, {"topic_subscribers": True})
    assert notified["recipients"] == 1
    [pending] = (await alice.list_notifications("pending", limit=10))["notifications"]
    assert pending["notification_id"] == notified["notification_id"]
    await alice.ack_notification(pending["notification_id"])
    assert (await alice.list_notifications("pending"))["notifications"] == []
    await alice.unsubscribe_topic(subscription["subscription_id"])
    assert (await alice.list_subscriptions())["subscriptions"] == []


async def test_tokens_and_the_server_itself(alice: ChatAPI, server: Server) -> None:
    token = await alice.create_token("bob", expires_in_s=60)
    async with ChatAPI(server.url, token=token["token"]) as bob:
        assert (await bob.list_rooms())["rooms"] == []
        async with bob.connect() as connection:
            assert connection.ready["user_id"] == "bob"
        with pytest.raises(ApiError) as caught:
            await bob.notify("news", 1, {"user_ids": ["alice"]})
        assert caught.value.code is Code.AUTHORIZATION_ERROR
    assert (await alice.create_ticket())["expires_in"] == 60
    health = await alice.health()
    assert (health["status"], health["db_writable"]) == ("ok", True)
    assert (await alice.info())["links"]["websocket"] == "/ws"
    assert (await alice.livez(), await alice.readyz()) == ({"status": "ok"}, {"status": "ok"})
    assert "chatapi_connections" in await alice.metrics()
    assert "/rooms" in (await alice.openapi())["paths"]
    assert "asyncapi" in await alice.asyncapi()
    assert '"openapi"' in await alice.read_text("/openapi.json")
    with pytest.raises(ApiError) as caught:
        await alice.read_text("/unknown")
    assert caught.value.code is Code.NOT_FOUND


async def test_the_operators_calls(admin: AdminAPI, server: Server) -> None:
    tenant = await admin.create_tenant("acme", {"rate_limit": 50})
    tenant_id = tenant["tenant_id"]
    assert tenant["api_key"].startswith("sk_")
    assert tenant_id in [one["tenant_id"] for one in (await admin.list_tenants(limit=100))["tenants"]]
    assert (await admin.get_tenant(tenant_id))["config"]["rate_limit"] == 50
    assert (await admin.update_tenant(tenant_id, name="Acme"))["name"] == "Acme"
    key = await admin.create_key(tenant_id)
    assert key["key_id"] in [one["key_id"] for one in (await admin.list_keys(tenant_id))["keys"]]
    await admin.revoke_key(tenant_id, key["key_id"])
    async with ChatAPI(server.url, api_key=key["api_key"], user_id="alice") as revoked:
        with pytest.raises(ApiError) as caught:
            await revoked.list_rooms()
    assert caught.value.code is Code.AUTHENTICATION_ERROR
    assert (await admin.rotate_token_secret(tenant_id))["token_secret"] != tenant["token_secret"]
    assert (await admin.list_dead_letters(tenant_id=tenant_id))["failed_messages"] == []
    with pytest.raises(ApiError) as caught:
        await admin.retry_dead_letter("notif_0000000000000000")
    assert caught.value.code is Code.NOT_FOUND
    with pytest.raises(ApiError) as caught:
        await admin.retry_dead_letters(tenant_id)
    assert caught.value.code is Code.CONFLICT  # without a webhook_url
    events = ["message.created", "user.online"]
    hooked: dict[str, object] = {"webhook_url": "https://hooks.example.com/", "webhook_events": events}
    assert (await admin.update_tenant(tenant_id, config=hooked))["config"] == {"rate_limit": 50, **hooked}
    assert await admin.retry_dead_letters(tenant_id) == {"retried": 0}
    assert any(one["tenant_id"] == tenant_id for one in (await admin.get_stats())["tenants"])
    await admin.delete_tenant(tenant_id)
    with pytest.raises(ApiError) as caught:
        await admin.get_tenant(tenant_id)
    assert caught.value.code is Code.NOT_FOUND


async def test_edit_delete_and_read_over_the_connection(alice: ChatAPI) -> None:
    room_id = (await alice.create_room("group"))["room_id"]
    async with alice.connect() as connection:
        sent = await connection.send(room_id, "one", meta={"a": 1})
        edited = await connection.edit(room_id, sent["message_id"], "two", meta=None)
        assert (edited["content"], edited["meta"], edited["target_seq"]) == ("two", None, 1)
        assert (await connection.delete(room_id, sent["message_id"]))["seq"] == 3
        assert (await connection.read(room_id, 3))["seq"] == 3
        assert await connection.ping() < 5.0


async def test_a_message_beyond_a_frame_goes_over_http(alice: ChatAPI) -> None:
    room_id = (await alice.create_room("group"))["room_id"]
    content = "\x01" * 30_000  # six bytes each in JSON
    async with alice.connect() as connection:
        assert (await connection.send(room_id, content))["seq"] == 1
        async for event in connection:
            if event["type"] == "message":
                assert event["content"] == content
                break


async def test_too_many_connections_are_told_and_waited_out(server: Server, admin: AdminAPI) -> None:
    tenant = await admin.create_tenant("acme", {"connections_per_user": 1})
    told: asyncio.Queue[Exception] = asyncio.Queue()
    async with ChatAPI(server.url, api_key=tenant["api_key"], user_id="alice") as client:
        first = await client.connect().open()
        second = client.connect(min_delay_s=0.001, max_delay_s=0.01, on_error=told.put_nowait)
        async with asyncio.TaskGroup() as opening:
            opening.create_task(second.open())
            error = await told.get()
            assert str(error) == "RATE_LIMIT_EXCEEDED: A user may hold 1 connections"
            assert second.error is error
            assert second.state == "waiting"
            await first.close()
            await second.resume()  # the server asked for a second
        assert second.error is None
        await second.close()
    assert told.empty()


async def test_a_reconnect_takes_one_token(server: Server, admin: AdminAPI) -> None:
    tenant = await admin.create_tenant("acme", {"rate_limit": 1, "rate_burst": 1000})
    bucket = server.services.tenants._buckets[server.services.tenants.get(tenant["tenant_id"]).tenant_key].shared
    async with ChatAPI(server.url, api_key=tenant["api_key"], user_id="alice") as alice:
        bob = alice.as_user("bob")
        rooms = [(await bob.create_room("group", ["alice"]))["room_id"] for _ in range(3)]
        channel = (await bob.create_room("channel"))["room_id"]
        async with alice.connect() as connection:
            await connection.subscribe(channel)
            await connection.unsubscribe(rooms[0])
            for room_id in (*rooms, channel):
                await bob.send_message(room_id, "hello")
            seen = 0
            async for event in connection:
                seen += event["type"] == "message"
                if seen == 3:
                    break
            await connection.pause()
            before = bucket.level().remaining
            await connection.resume()
            async for event in connection:
                if event["type"] == "sync.complete" and connection.state == "live":
                    break
            assert before - bucket.level().remaining <= 1


async def test_a_revoked_key_ends_the_connection(server: Server, admin: AdminAPI) -> None:
    tenant = await admin.create_tenant("acme")
    key = await admin.create_key(tenant["tenant_id"])
    async with ChatAPI(server.url, api_key=key["api_key"], user_id="alice") as client:
        connection = await client.connect(min_delay_s=0.01).open()
        await admin.revoke_key(tenant["tenant_id"], key["key_id"])
        with pytest.raises(ApiError) as caught:
            _ = [event async for event in connection]
        assert caught.value.code is Code.AUTHENTICATION_ERROR


async def test_an_echo_that_is_slower_than_its_queue_answers_everything_once(alice: ChatAPI) -> None:
    """It waits, in its loop, for confirmations that stand behind events for which there is no space."""
    bob = alice.as_user("bob")
    room_id = (await alice.create_room("dm", ["bob"]))["room_id"]
    echoed: list[Any] = []
    async with alice.connect() as speaker, bob.connect(max_pending=3) as echo:
        async with asyncio.TaskGroup() as sending:
            for number in range(60):
                sending.create_task(speaker.send(room_id, str(number)))
        async for event in echo:
            if event["type"] == "message" and event["sender_id"] == "alice":
                echoed.append(event["content"])
                await echo.send(room_id, f"echo {event['content']}")
                if len(echoed) == 60:
                    break
    assert echoed == [str(number) for number in range(60)]
    stored = await alice.list_messages(room_id, after_seq=60, limit=100)
    assert [message["content"] for message in stored["messages"]] == [f"echo {content}" for content in echoed]
