"""Users' profiles: writing and reading them, those who hear of a change, and when users were last online."""

import asyncio
import sqlite3
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest
from conftest import StartServer
from driver import HandClock, Server, User, eventually, restart

from chatapi import housekeeping
from chatapi.housekeeping import purge_deleted
from chatapi.models import UserId, encode_time
from chatapi.store import users as store_users

PROFILE = {"name": "Zoë", "avatar_url": "https://cdn.example.com/zoe.png", "metadata": {"team": ["a", 1]}}
TIMES = ("last_seen_at", "created_at", "updated_at")


async def make_bearer(server: Server, user_id: str) -> User:
    reply = await server.user("backend").post("/tokens", {"user_id": user_id})
    return server.bearer(user_id, reply.data["token"])


async def put(user: User, user_id: str, **fields: object) -> dict[str, Any]:
    return dict((await user.put(f"/users/{quote(user_id, safe='')}", fields)).data)


def without_times(user: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in user.items() if name not in TIMES}


async def go_offline(server: Server, user: User) -> None:
    """Connects and leaves again; returns once that is stored."""
    socket = await user.connect()
    await socket.close()
    await eventually(lambda: not server.services.hub.online_of_tenant(find_tenant_key(server)))
    await server.services.last_seen.write()


# Writing and reading


async def test_an_absent_field_stays_and_null_clears(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    made = await put(alice, "zoe", **PROFILE)
    assert without_times(made) == {"user_id": "zoe", **PROFILE}
    assert (made["last_seen_at"], made["created_at"]) == (None, made["updated_at"])
    assert (await alice.get("/users/zoe")).data == made
    changed = await put(alice, "zoe", name="Zoé")
    assert without_times(changed) == {"user_id": "zoe", **PROFILE, "name": "Zoé"}
    assert changed["created_at"] == made["created_at"] < changed["updated_at"]
    assert (await alice.get("/users/zoe")).data == changed
    cleared = await put(alice, "zoe", name=None, avatar_url=None, metadata=None)
    assert without_times(cleared) == {"user_id": "zoe", "name": None, "avatar_url": None, "metadata": None}
    assert (await alice.get("/users/zoe")).status == 200


async def test_a_put_that_changes_nothing_is_no_change(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    socket = await alice.connect()
    made = await put(alice, "alice", **{**PROFILE, "metadata": {"team": ["a", 1], "age": 7}})
    await socket.expect("user.updated", user=made)
    assert await put(alice, "alice", name=PROFILE["name"]) == made
    assert await put(alice, "alice") == made
    assert await put(alice, "alice", metadata={"age": 7, "team": ["a", 1]}) == made
    await socket.expect_nothing("user.updated")
    assert (await put(alice, "alice", metadata={"age": 7, "team": ["a", 1.0]}))["updated_at"] > made["updated_at"]
    await socket.expect("user.updated")


async def test_the_user_and_the_key_write_and_everybody_reads(shared_server: Server) -> None:
    zoe, eve = await make_bearer(shared_server, "zoe"), await make_bearer(shared_server, "eve")
    made = await put(zoe, "zoe", name="Zoë")
    assert (await eve.get("/users/zoe")).data == made
    reply = await eve.put("/users/zoe", {"name": "Eve"})
    assert (reply.status, reply.error["code"]) == (403, "AUTHORIZATION_ERROR")
    assert (await shared_server.user("eve").put("/users/zoe", {"name": "Z"})).data["name"] == "Z"
    other = await shared_server.make_tenant("other")
    assert (await shared_server.user("zoe", other["api_key"]).get("/users/zoe")).status == 404


async def test_users_without_profile_and_last_seen_are_not_found(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    await alice.make_room("bob")
    for user_id in ("bob", "alice", "nobody", "%00", "x" * 129, "a%20b"):
        assert (await alice.get(f"/users/{user_id}")).status == 404, user_id


@pytest.mark.parametrize(
    ("field", "right", "wrong"),
    [
        ("name", ["x", "é" * 200], ["", "x" * 201, 1, True, []]),
        (
            "avatar_url",
            ["http://a", "HTTPS://a/é?x=1#y", "https://a/" + "x" * (2048 - len("https://a/"))],
            [
                *(
                    "",
                    "ftp://a",
                    "https://",
                    "https:///x",
                    "//a/b",
                    "javascript:alert(1)",
                    "https://a b",
                    "https://a\n",
                ),
                *("https://a/" + "x" * (2049 - len("https://a/")), 1),
            ],
        ),
        (
            "metadata",
            [{}, {"x": "y" * (16 * 1024 - len('{"x":""}'))}],
            [[], "x", 1, {"x": "y" * (16 * 1024 - len('{"x":""}') + 1)}],
        ),
    ],
)
async def test_the_bounds_of_a_profile(
    shared_server: Server, field: str, right: list[object], wrong: list[object]
) -> None:
    alice = shared_server.user("alice")
    for value in right:
        assert (await put(alice, "alice", **{field: value}))[field] == value
    before = (await alice.get("/users/alice")).data
    for value in wrong:
        reply = await alice.put("/users/alice", {field: value})
        assert (reply.status, reply.error["field"]) == (400, field), value
    assert (await alice.get("/users/alice")).data == before


async def test_only_a_user_id_can_have_a_profile(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    odd = "a/b:c|@,%2C?&=+#é".removesuffix("é") + "~" * 100
    assert (await put(alice, odd, name="Odd"))["user_id"] == odd
    assert (await alice.get(f"/users/{quote(odd, safe='')}")).data["name"] == "Odd"
    for wrong in ("x" * 129, "%C3%A9", "a%20b", "a%0Ab"):
        reply = await alice.put(f"/users/{wrong}", {})
        assert (reply.status, reply.error["field"]) == (400, "user_id"), wrong


async def test_profiles_outlive_the_server_and_end_with_the_tenant(
    start_server: StartServer, server: Server, database: Any
) -> None:
    tenant = await server.make_tenant("other")
    made = await put(server.user("alice"), "zoe", **PROFILE)
    await put(server.user("alice", tenant["api_key"]), "zoe", name="other's")
    server = await restart(start_server, server)
    assert (await server.user("alice").get("/users/zoe")).data == made
    await server.admin("DELETE", f"/tenants/{tenant['tenant_id']}")

    await purge_deleted(server.services)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT user_id, name FROM users").fetchall() == [("zoe", "Zoë")]


# Several


async def test_profiles_by_their_ids_come_in_that_order(shared_server: Server) -> None:
    alice, eve = shared_server.user("alice"), await make_bearer(shared_server, "eve")
    ids = ["carol", "a,b", "bob", "50%", "x+y/z", "a%2Cb"]
    made = [await put(alice, user_id, name=f"is {user_id}") for user_id in ids]
    asked = ["nobody", *ids, "carol"]
    in_order = ",".join(quote(user_id, safe="") for user_id in asked)
    for reader in (alice, eve):
        reply = await reader.get("/users", ids=in_order)  # the whole is encoded once more, as a query is
        assert reply.data == {"users": made, "has_more": False}
        reply = await reader.request("GET", f"/users?ids={quote(in_order, safe='')}")
        assert reply.data["users"] == made
    reply = await alice.get("/users", ids=in_order, limit=2, offset=1)
    assert (reply.data["users"], reply.data["has_more"]) == (made[:2], True)
    pages = []
    while True:
        pages.append(reply.data["users"])
        if not reply.data["has_more"]:
            break
        reply = await alice.get("/users", ids=in_order, limit=2, cursor=reply.data["next_cursor"])
    assert [user for page in pages for user in page] == made


async def test_ids_that_are_encoded_once_are_understood(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    for user_id in ("a,b", "bob"):
        await put(alice, user_id)
    reader, writer = await shared_server.open()
    head = "".join(f"{name}: {value}\r\n" for name, value in {**alice.headers, "Host": "x"}.items())
    writer.write(f"GET /users?ids=a%2Cb,bob HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
    text = (await reader.read()).decode()
    assert '"user_id":"a,b"' in text
    assert '"user_id":"bob"' in text


async def test_which_users_are_asked_for_is_said_in_one_way(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    for params, field in (
        ({}, "ids"),
        ({"ids": "alice", "q": "a"}, "q"),
        ({"ids": ""}, "ids[0]"),
        ({"ids": "alice,,bob"}, "ids[1]"),
        ({"ids": "alice,b b"}, "ids[1]"),
        ({"ids": ",".join(f"u{n}" for n in range(101))}, "ids"),
        ({"ids": "alice", "limit": 101}, "limit"),
        ({"ids": "alice", "cursor": "x"}, "cursor"),
        ({"q": ""}, "q"),
        ({"q": "x" * 101}, "q"),
    ):
        reply = await alice.get("/users", **params)
        assert (reply.status, reply.error["field"]) == (400, field), params
    assert (await alice.get("/users", ids=",".join(f"u{n}" for n in range(100)))).data == {
        "users": [],
        "has_more": False,
    }
    assert (await alice.get("/users", q="x" * 100)).data["users"] == []


@pytest.mark.slow
async def test_a_page_of_large_profiles_ends_early(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    ids = [f"u{n:02}" for n in range(80)]
    for user_id in ids:
        await put(alice, user_id, name="x", metadata={"x": "y" * 16_000})
    for params in ({"ids": ",".join(ids)}, {"q": "U", "limit": 100}):
        reply = await alice.get("/users", **params)
        found = [user["user_id"] for user in reply.data["users"]]
        assert 60 < len(found) < 70
        rest = await alice.get("/users", **params, cursor=reply.data["next_cursor"])
        assert found + [user["user_id"] for user in rest.data["users"]] == ids


# Members


async def test_members_are_shown_with_name_and_avatar(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room("bob", "carol")
    await put(alice, "bob", name="Bob", avatar_url="https://a/b.png", metadata={"x": 1})
    await put(alice, "carol", avatar_url="https://a/c.png")
    await put(alice, "dave", name="Dave")
    added = (await alice.post(f"/rooms/{room_id}/members", {"user_id": "dave"})).data
    assert (added["name"], "avatar_url" in added) == ("Dave", False)
    changed = (await alice.patch(f"/rooms/{room_id}/members/bob", {"role": "admin"})).data
    assert (changed["name"], changed["avatar_url"]) == ("Bob", "https://a/b.png")
    members = (await (await make_bearer(shared_server, "bob")).get(f"/rooms/{room_id}/members")).data["members"]
    faces = {member.pop("user_id"): member for member in members}
    assert all(set(member) <= {"role", "joined_at", "name", "avatar_url"} for member in members)
    assert {user_id: (member.get("name"), member.get("avatar_url")) for user_id, member in faces.items()} == {
        "alice": (None, None),
        "bob": ("Bob", "https://a/b.png"),
        "carol": (None, "https://a/c.png"),
        "dave": ("Dave", None),
    }
    assert "name" not in faces["carol"]


# Those who hear of a change


async def test_users_who_hear_of_a_change(start_server: StartServer) -> None:
    server = await start_server()
    backend, zoe = server.user("backend"), server.user("zoe")
    own, other_own = await zoe.connect(), await zoe.connect(sync="none", ready=False)
    await other_own.expect("ready")
    await zoe.make_room("friend")
    await zoe.make_room("friend", "quiet")
    await zoe.make_room(*(f"u{n}" for n in range(200)), "crowd")
    room_id = await zoe.make_room("former")
    await zoe.delete(f"/rooms/{room_id}/members/former")
    channel = await zoe.make_room(room_type="channel")
    friend, crowd, former = [await server.user(name).connect() for name in ("friend", "crowd", "former")]
    quiet = await server.user("quiet").connect()
    [quiet_room] = [room["room_id"] for room in (await server.user("quiet").get("/rooms")).data["rooms"]]
    await quiet.send("unsubscribe", room_id=quiet_room)
    await quiet.expect("unsubscribed")
    spectator = await server.user("spectator").connect()
    await spectator.send("subscribe", room_id=channel)
    await spectator.expect("subscribed")
    made = await put(backend, "zoe", **PROFILE)
    for socket in (own, other_own, friend, quiet):
        frame = await socket.expect("user.updated")
        assert frame == {"type": "user.updated", "user": made}
        await socket.expect_nothing("user.updated")  # once, however many rooms they share
    for socket in (crowd, former, spectator):
        await socket.expect_nothing("user.updated")


async def test_changes_of_a_user_who_is_away_are_told_in_order(shared_server: Server) -> None:
    zoe = shared_server.user("zoe")
    await zoe.make_room("friend")
    friend = await shared_server.user("friend").connect()
    for n in range(20):
        await put(zoe, "zoe", name=f"{n}")
    names = []
    while not names or names[-1] != 19:
        names.append(int((await friend.expect("user.updated"))["user"]["name"]))
    assert names == sorted(names)


# Last seen


async def test_last_seen_is_when_the_last_connection_ended(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server({"websocket.presence_grace_seconds": 0.25}, clock=clock)
    zoe = server.user("zoe")
    first, second = await zoe.connect(), await zoe.connect()
    assert (await zoe.get("/users/zoe")).status == 404
    await first.close()
    await eventually(lambda: len(server.connections_of("zoe")) == 1)
    clock.advance(100)
    ended_us = clock.now_us()
    await second.close()
    await eventually(lambda: not server.services.hub.online_of_tenant(find_tenant_key(server)))
    await server.services.last_seen.write()
    seen = (await zoe.get("/users/zoe")).data
    assert without_times(seen) == {"user_id": "zoe", "name": None, "avatar_url": None, "metadata": None}
    assert seen["last_seen_at"] == encode_time(ended_us - 250_000)
    assert seen["created_at"] == seen["updated_at"] == seen["last_seen_at"]
    clock.advance(5)
    made = await put(zoe, "zoe", name="Zoë")
    assert made["last_seen_at"] == seen["last_seen_at"] < made["created_at"] == made["updated_at"]


def find_tenant_key(server: Server) -> Any:
    return server.services.tenants.all()[0].tenant_key


async def test_last_seen_alone_is_no_news(server: Server) -> None:
    zoe = server.user("zoe")
    await zoe.make_room("friend")
    made = await put(zoe, "zoe", name="Zoë")
    friend = await server.user("friend").connect()
    socket = await zoe.connect()
    await friend.expect("presence.update", user_id="zoe", status="online")
    await socket.close()
    await friend.expect("presence.update", user_id="zoe", status="offline")
    await server.services.last_seen.write()
    await friend.expect_nothing("user.updated")
    seen = (await zoe.get("/users/zoe")).data
    assert seen == {**made, "last_seen_at": seen["last_seen_at"]}
    assert seen["last_seen_at"] is not None
    server.services.last_seen.note(find_tenant_key(server), UserId("zoe"), 3600)  # an earlier time, which comes late
    await server.services.last_seen.write()
    assert (await zoe.get("/users/zoe")).data == seen


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """No job runs by itself."""
    monkeypatch.setattr(housekeeping, "list_jobs", lambda _services: [])


@pytest.mark.parametrize("is_stepwise", [False, True])
async def test_those_who_see_when_a_user_was_last_online(
    by_hand: None, server: Server, monkeypatch: pytest.MonkeyPatch, is_stepwise: bool
) -> None:
    """The key, the user, and those who hear of the user's presence."""
    if is_stepwise:
        monkeypatch.setattr(store_users, "ROOMS_PER_STEP", 1)
        monkeypatch.setattr(store_users, "PAIRS_PER_STEP", 1)
    zoe = server.user("zoe")
    await zoe.make_room(*(f"u{n}" for n in range(200)), "crowd")
    room_id = await zoe.make_room("former")
    await zoe.delete(f"/rooms/{room_id}/members/former")
    gone = await zoe.make_room("widow")
    await zoe.delete(f"/rooms/{gone}")
    await zoe.make_room("friend")
    await go_offline(server, zoe)
    bearers = {name: await make_bearer(server, name) for name in ("zoe", "friend", "crowd", "former", "widow", "eve")}
    for name in ("zoe", "friend"):
        assert (await bearers[name].get("/users/zoe")).data["last_seen_at"], name
        assert (await bearers[name].get("/users", ids="zoe")).data["users"][0]["last_seen_at"], name
    for name in ("crowd", "former", "widow", "eve"):
        assert (await bearers[name].get("/users/zoe")).status == 404, name  # there is no profile either
        assert (await bearers[name].get("/users", ids="zoe")).data["users"] == [], name
    shown = (await bearers["zoe"].get("/users", ids="zoe,friend,eve,crowd")).data["users"]
    assert [user["user_id"] for user in shown] == ["zoe"]  # the others were never online
    await put(zoe, "zoe", name="Zoë")
    for name in ("crowd", "former", "widow", "eve"):
        assert (await bearers[name].get("/users/zoe")).data["last_seen_at"] is None, name
        assert (await bearers[name].get("/users", ids="zoe")).data["users"][0]["last_seen_at"] is None, name
    assert (await server.user("eve").get("/users/zoe")).data["last_seen_at"]
    assert (await server.user("eve").get("/users", q="ZO")).data["users"][0]["last_seen_at"]


async def test_last_seen_survives_the_end_of_the_server(start_server: StartServer) -> None:
    """Of users who are connected, and of those within their grace."""
    server = await start_server({"websocket.presence_grace_seconds": 100})
    stays, leaves = await server.user("stays").connect(), await server.user("leaves").connect()
    await leaves.close()
    await eventually(lambda: not server.connections_of("leaves"))
    await asyncio.gather(server.app.close(), stays.close_code())
    server = await start_server()
    seen = {name: (await server.user("x").get(f"/users/{name}")).data["last_seen_at"] for name in ("stays", "leaves")}
    assert seen["leaves"] < seen["stays"]


def count_commits(server: Server) -> float:
    return server.services.store.writer.commit_writes.cumulate()[-1][1]


async def test_thousands_who_leave_are_a_few_writes(server: Server) -> None:
    services = server.services
    tenant_key = find_tenant_key(server)
    await eventually(lambda: not services.store.writer)
    commits, rows = count_commits(server), 5_000
    for n in range(rows):
        services.last_seen.note(tenant_key, f"u{n:04}")
    await services.last_seen.write()
    assert count_commits(server) - commits <= 100  # with those of the server's regular jobs
    assert len((await server.user("x").get("/users", q="u", limit=100)).data["users"]) == 100


async def test_a_crowd_that_leaves_together_is_one_write(by_hand: None, start_server: StartServer) -> None:
    server = await start_server({"websocket.presence_grace_seconds": 0})
    services, users = server.services, [server.user(f"u{n:02}") for n in range(60)]
    sockets = [await user.connect() for user in users]
    await eventually(lambda: not services.store.writer)
    commits = count_commits(server)
    await asyncio.gather(*(socket.close() for socket in sockets))
    tenant_key = find_tenant_key(server)
    await eventually(lambda: not services.hub.online_of_tenant(tenant_key))
    assert count_commits(server) == commits
    await services.last_seen.write()
    assert count_commits(server) == commits + 1
    found = (await users[0].get("/users", q="u", limit=100)).data["users"]
    assert [user["user_id"] for user in found if user["last_seen_at"]] == [user.user_id for user in users]


async def test_a_deleted_tenants_users_keep_nobody_elses_from_being_noted(by_hand: None, server: Server) -> None:
    tenant = await server.make_tenant("other")
    services = server.services
    other_key = services.tenants.get(tenant["tenant_id"]).tenant_key
    services.last_seen.note(other_key, "u")
    services.last_seen.note(find_tenant_key(server), "zoe")
    await server.admin("DELETE", f"/tenants/{tenant['tenant_id']}")
    for _ in range(2):  # before and after the tenant's rows are purged
        services.last_seen.note(other_key, "u")
        await services.last_seen.write()
        of_other = {"tenant_key": other_key}
        assert await services.store.readers.fetch("SELECT 1 FROM users WHERE tenant_key = :tenant_key", of_other) == []
        await purge_deleted(services)
    assert (await server.user("x").get("/users/zoe")).status == 200
