"""Two tenants never meet: whatever one of them names, the other gets as little of it as of what does not exist."""

from typing import Any

import pytest
from conftest import StartServer
from driver import Reply, Server, User

from chatapi.protocol import requests as req
from chatapi.rest import ROUTES
from chatapi.rest.call import Credential, Route

pytestmark = pytest.mark.filterwarnings("error")


class World:
    """Everything that a tenant can have, in one tenant; and `eve`, of another one, who knows all its ids."""

    def __init__(self, eve: User, alice: User, ids: dict[str, str]) -> None:
        self.eve = eve
        self.alice = alice
        self.ids = ids

    def path(self, route: Route) -> str:
        return route.path.format(**self.ids)

    def body(self, route: Route) -> dict[str, object] | None:
        """One that would be right for the owner."""
        bodies: dict[type[req.Body], dict[str, object]] = {
            req.CreateRoom: {"type": "group"},
            req.PatchRoom: {"name": "taken over"},
            req.AddMember: {"user_id": "eve"},
            req.PatchMember: {"role": "admin"},
            req.MessageDraft: {"content": "intrusion"},
            req.MessageRevision: {"content": "intrusion"},
            req.ReadUpTo: {"seq": 1},
            req.AckUpTo: {"room_id": self.ids["room_id"], "seq": 1},
            req.Notify: {"topic": "news", "payload": 1, "targets": {"room_id": self.ids["room_id"]}},
            req.Subscribe: {"topic": "news"},
            req.MintToken: {},
        }
        return None if route.body is None else bodies[route.body]


@pytest.fixture
async def world(server: Server) -> World:
    alice = server.user("alice")
    room_id = await alice.make_room("bob", room_type="channel", name="ours")  # open to all of its own tenant
    message = await alice.say(room_id, "ours")
    other = await server.make_tenant("other")
    [mine, _theirs] = (await server.admin("GET", "/tenants")).data["tenants"]
    [key] = (await server.admin("GET", f"/tenants/{mine['tenant_id']}/keys")).data["keys"]
    subscription = (await alice.post("/subscriptions", {"topic": "news"})).data
    notification = (
        await alice.post("/notify", {"topic": "news", "payload": 1, "targets": {"user_ids": ["alice", "eve"]}})
    ).data
    ids = {
        "room_id": room_id,
        "user_id": "bob",
        "message_id": message["message_id"],
        "subscription_id": subscription["subscription_id"],
        "notification_id": notification["notification_id"],
        "tenant_id": mine["tenant_id"],
        "key_id": key["key_id"],
        "id": "x",
    }
    return World(server.user("eve", other["api_key"]), alice, ids)


async def snapshot(alice: User, room_id: str) -> list[Any]:
    """Everything that can be seen of the tenant."""
    paths = ("", "/members", "/messages", "/events", "/receipts", "/presence")
    replies = [await alice.get(f"/rooms/{room_id}{path}") for path in paths]
    replies += [await alice.get(path) for path in ("/rooms", "/channels", "/subscriptions", "/notifications")]
    return [reply.data for reply in replies]


NAMING = [
    route
    for route in ROUTES
    if route.credential in (Credential.USER, Credential.API_KEY)
    and ("{" in route.path or route.body in (req.AckUpTo, req.Notify))
]


def test_the_routes_that_name_something_are_known() -> None:
    assert len(NAMING) >= 19


async def call(user: User, world: World, route: Route) -> Reply:
    return await user.request(route.method, world.path(route), world.body(route))


async def test_every_route_answers_404_to_another_tenants_ids(world: World) -> None:
    before = await snapshot(world.alice, world.ids["room_id"])
    for route in NAMING:
        reply = await call(world.eve, world, route)
        assert (reply.status, reply.error["code"]) == (404, "NOT_FOUND"), f"{route.method} {route.path}"
        assert "details" not in reply.error
    assert await snapshot(world.alice, world.ids["room_id"]) == before


async def test_another_tenants_ids_are_answered_like_made_up_ones(world: World) -> None:
    made_up = {name: "x" * len(value) for name, value in world.ids.items()}
    nothing = World(world.eve, world.alice, made_up)
    for route in NAMING:
        reply, other = await call(world.eve, world, route), await call(world.eve, nothing, route)
        assert (reply.status, reply.body) == (other.status, other.body), f"{route.method} {route.path}"


async def test_user_tokens_are_confined_too(server: Server, world: World) -> None:
    token = (await world.eve.post("/tokens")).data["token"]
    eve = server.bearer("eve", token)
    for route in NAMING:
        reply = await call(eve, world, route)
        assert reply.status == (403 if route.credential is Credential.API_KEY else 404), f"{route.method} {route.path}"


async def test_lists_hold_nothing_of_another_tenant(server: Server, world: World) -> None:
    # The same user id in both tenants is two users.
    namesake = server.user("alice", world.eve.headers["X-API-Key"])
    assert await snapshot_of_lists(namesake) == [
        {"rooms": [], "has_more": False},
        {"rooms": [], "has_more": False},
        {"subscriptions": [], "has_more": False},
        {"notifications": [], "has_more": False},
    ]


async def snapshot_of_lists(user: User) -> list[Any]:
    return [(await user.get(path)).data for path in ("/rooms", "/channels", "/subscriptions", "/notifications")]


async def test_frames_that_name_another_tenants_ids_are_not_found(world: World) -> None:
    socket = await world.eve.connect()
    ids = world.ids
    before = await snapshot(world.alice, ids["room_id"])
    for frame_type, fields in (
        ("send_message", {"content": "intrusion"}),
        ("message.edit", {"message_id": ids["message_id"], "content": "intrusion"}),
        ("message.delete", {"message_id": ids["message_id"]}),
        ("ack", {"seq": 1}),
        ("read", {"seq": 1}),
        ("typing.start", {}),
        ("typing.stop", {}),
        ("subscribe", {}),
        ("unsubscribe", {}),
    ):
        await socket.send(frame_type, room_id=ids["room_id"], request_id=frame_type, **fields)
        await socket.expect("error", request_id=frame_type, code="NOT_FOUND")
    await socket.send("notification.ack", notification_id=ids["notification_id"], request_id="n")
    await socket.expect("error", request_id="n", code="NOT_FOUND")
    await socket.send("sync", rooms={ids["room_id"]: 0}, request_id="s")
    await socket.expect("error", request_id="s", code="NOT_FOUND", field=f"rooms.{ids['room_id']}")
    assert (await socket.expect("sync.complete"))["rooms"] == {}
    await world.alice.say(ids["room_id"], "still ours")
    await socket.expect_nothing("message", "typing", "presence.update")
    after = await snapshot(world.alice, ids["room_id"])
    assert after[3]["events"][:-1] == before[3]["events"]


async def test_the_same_ids_in_two_tenants_are_strangers(server: Server) -> None:
    tenant = await server.make_tenant("other")
    alices = [server.user("alice"), server.user("alice", tenant["api_key"])]
    sockets = [await alice.connect() for alice in alices]
    rooms = [await alice.make_room("bob", room_type="dm") for alice in alices]
    assert rooms[0] != rooms[1]
    await alices[0].say(rooms[0], "one", client_message_id="same")
    await alices[1].say(rooms[1], "two", client_message_id="same")
    for socket, room_id, content in zip(sockets, rooms, ("one", "two"), strict=True):
        await socket.expect("message", room_id=room_id, content=content)
        await socket.expect_nothing("message", "presence.update")
    bob = server.user("bob", tenant["api_key"])
    assert (await bob.get("/notifications")).data["notifications"] == []


async def test_a_topic_is_a_tenants_own(server: Server, world: World) -> None:
    await world.eve.post("/subscriptions", {"topic": "news"})
    reply = await world.alice.post("/notify", {"topic": "news", "payload": 1, "targets": {"topic_subscribers": True}})
    assert reply.data["recipients"] == 1
    assert (await world.eve.get("/notifications")).data["notifications"] == []


async def test_the_operators_routes_keep_tenants_apart_as_well(server: Server, world: World) -> None:
    other = (await server.admin("GET", "/tenants")).data["tenants"][1]["tenant_id"]
    reply = await server.admin("DELETE", f"/tenants/{other}/keys/{world.ids['key_id']}")
    assert (reply.status, reply.error["code"]) == (404, "NOT_FOUND")
    assert (await world.alice.get("/rooms")).status == 200


async def test_rates_and_limits_are_each_tenants_own(start_server: StartServer) -> None:
    server = await start_server()
    busy = await server.make_tenant("busy", rate_limit=1, rate_burst=1, connections_per_tenant=1)
    alice = server.user("alice", busy["api_key"])
    assert [(await alice.get("/rooms")).status for _ in range(3)] == [200, 429, 429]
    assert (await server.user("alice").get("/rooms")).status == 200
