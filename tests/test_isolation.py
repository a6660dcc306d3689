"""Two tenants never meet. That no route and no frame takes another tenant's ids is in `test_authorization.py`."""

from typing import Any

import pytest
from conftest import StartServer
from driver import Server, User

pytestmark = pytest.mark.filterwarnings("error")


async def test_lists_hold_nothing_of_another_tenant(server: Server) -> None:
    alice = server.user("alice")
    await alice.make_room(room_type="channel")
    await alice.post("/subscriptions", {"topic": "news"})
    await alice.post("/notify", {"topic": "news", "payload": 1, "targets": {"user_ids": ["alice"]}})
    # The same user id in both tenants is two users.
    namesake = server.user("alice", (await server.make_tenant("other"))["api_key"])
    assert await snapshot_of_lists(namesake) == [
        {"rooms": [], "has_more": False},
        {"rooms": [], "has_more": False},
        {"subscriptions": [], "has_more": False},
        {"notifications": [], "has_more": False},
    ]


async def snapshot_of_lists(user: User) -> list[Any]:
    return [(await user.get(path)).data for path in ("/rooms", "/channels", "/subscriptions", "/notifications")]


async def test_sync_serves_no_room_of_another_tenant(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room(room_type="channel")
    eve = server.user("eve", (await server.make_tenant("other"))["api_key"])
    socket = await eve.connect()
    await socket.send("sync", rooms={room_id: 0}, request_id="s")
    await socket.expect("error", request_id="s", code="NOT_FOUND", field=f"rooms.{room_id}")
    assert (await socket.expect("sync.complete"))["rooms"] == {}
    await alice.say(room_id, "still ours")
    await socket.expect_nothing("message", "presence.update")


async def test_the_same_ids_in_two_tenants_are_strangers(server: Server) -> None:
    tenant = await server.make_tenant("other")
    alices = [server.user("alice"), server.user("alice", tenant["api_key"])]
    sockets = [await alice.connect(ready=False) for alice in alices]
    epochs = [(await socket.expect("ready"))["epoch"] for socket in sockets]
    assert epochs[0] != epochs[1]
    rooms = [await alice.make_room("bob", room_type="dm") for alice in alices]
    assert rooms[0] != rooms[1]
    await alices[0].say(rooms[0], "one", client_message_id="same")
    await alices[1].say(rooms[1], "two", client_message_id="same")
    for socket, room_id, content in zip(sockets, rooms, ("one", "two"), strict=True):
        await socket.expect("message", room_id=room_id, content=content)
        await socket.expect_nothing("message", "presence.update")
    bob = server.user("bob", tenant["api_key"])
    assert (await bob.get("/notifications")).data["notifications"] == []


async def test_a_topic_is_a_tenants_own(server: Server) -> None:
    alice, eve = server.user("alice"), server.user("eve", (await server.make_tenant("other"))["api_key"])
    for user in (alice, eve):
        await user.post("/subscriptions", {"topic": "news"})
    reply = await alice.post("/notify", {"topic": "news", "payload": 1, "targets": {"topic_subscribers": True}})
    assert reply.data["recipients"] == 1
    assert (await eve.get("/notifications")).data["notifications"] == []


async def test_the_operators_routes_keep_tenants_apart_as_well(server: Server) -> None:
    [mine] = (await server.admin("GET", "/tenants")).data["tenants"]
    [key] = (await server.admin("GET", f"/tenants/{mine['tenant_id']}/keys")).data["keys"]
    other = await server.make_tenant("other")
    reply = await server.admin("DELETE", f"/tenants/{other['tenant_id']}/keys/{key['key_id']}")
    assert (reply.status, reply.error["code"]) == (404, "NOT_FOUND")
    assert (await server.user("alice").get("/rooms")).status == 200


async def test_rates_and_limits_are_each_tenants_own(start_server: StartServer) -> None:
    server = await start_server()
    busy = await server.make_tenant("busy", rate_limit=1, rate_burst=1, connections_per_tenant=1)
    alice = server.user("alice", busy["api_key"])
    assert [(await alice.get("/rooms")).status for _ in range(3)] == [200, 429, 429]
    assert (await server.user("alice").get("/rooms")).status == 200
