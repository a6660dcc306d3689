"""Bans of a room: a banned user is no member, may not become one, and may not read a channel."""

import asyncio
from typing import Any

import pytest
from conftest import StartServer
from driver import HandClock, Reply, Server, User, restart

from chatapi.housekeeping import purge_deleted, purge_ended_rules
from chatapi.models import encode_time

DAY_SECONDS = 86_400
BANNED = (403, "AUTHORIZATION_ERROR")


class Banning:
    """A channel of alice, its admin, with bob and carol as members, on a clock that the test moves."""

    def __init__(self, server: Server, clock: HandClock, room_id: str = "") -> None:
        self.server = server
        self.clock = clock
        self.alice, self.bob, self.eve = (server.user(name) for name in ("alice", "bob", "eve"))
        self.room_id = room_id

    async def set_up(self, room_type: str = "channel") -> "Banning":
        self.room_id = await self.alice.make_room("bob", "carol", room_type=room_type)
        return self

    @property
    def path(self) -> str:
        return f"/rooms/{self.room_id}"

    async def ban(self, user_id: str = "bob", **fields: object) -> Reply:
        return await self.alice.put(f"{self.path}/bans/{user_id}", fields)

    async def unban(self, user_id: str = "bob") -> Reply:
        return await self.alice.delete(f"{self.path}/bans/{user_id}")

    async def bans(self, **query: object) -> list[dict[str, Any]]:
        return list((await self.alice.get(f"{self.path}/bans", **query)).data["bans"])

    async def events(self) -> list[dict[str, Any]]:
        return list((await self.alice.get(f"{self.path}/events")).data["events"])

    async def member_ids(self) -> list[str]:
        members = (await self.alice.get(f"{self.path}/members")).data["members"]
        return [member["user_id"] for member in members]

    def time_in(self, seconds: float) -> str:
        return encode_time(self.clock.now_us() + round(seconds * 1_000_000))


@pytest.fixture
async def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def banning(start_server: StartServer, clock: HandClock) -> Banning:
    return await Banning(await start_server(clock=clock), clock).set_up()


def refusal(reply: Reply) -> tuple[int, str, object]:
    return reply.status, reply.error["code"], reply.error.get("details")


async def test_a_ban_is_answered_shown_and_told(banning: Banning) -> None:
    watcher = await banning.alice.connect()
    reply = await banning.ban(reason="spam", expires_in=DAY_SECONDS)
    ban = {
        "user_id": "bob",
        "reason": "spam",
        "until": banning.time_in(DAY_SECONDS),
        "created_by": "alice",
        "created_at": banning.time_in(0),
    }
    assert (reply.status, reply.data) == (200, ban)
    assert await banning.bans() == [ban]
    event = {"room_id": banning.room_id, "user_id": "bob", "reason": "spam", "until": ban["until"]}
    assert await watcher.expect("member.banned") == {"type": "member.banned", **event, "seq": 1}
    assert await banning.member_ids() == ["alice", "carol"]
    assert (await banning.alice.get(banning.path)).data["member_count"] == 2
    assert (await banning.unban()).status == 204
    assert await watcher.expect("member.unbanned") == {"type": "member.unbanned", **event, "seq": 2}
    assert await banning.bans() == []
    assert [item["type"] for item in await banning.events()] == ["member.banned", "member.unbanned"]


async def test_a_banned_user_may_do_nothing_in_the_room(banning: Banning) -> None:
    message = await banning.bob.say(banning.room_id)
    await banning.ban()
    path, mine = banning.path, f"{banning.path}/messages/{message['message_id']}"
    calls = [
        ("GET", f"{path}{part}", None) for part in ("", "/members", "/messages", "/events", "/receipts", "/presence")
    ]
    calls += [
        ("GET", mine, None),
        ("POST", f"{path}/messages", {"content": "x"}),
        ("PUT", mine, {"content": "x"}),
        ("DELETE", mine, None),
        ("POST", f"{path}/read", {"seq": 1}),
        ("POST", "/acks", {"room_id": banning.room_id, "seq": 1}),
        ("POST", f"{path}/members", {"user_id": "bob"}),
        ("DELETE", f"{path}/members/bob", None),
        ("GET", f"{path}/bans", None),
    ]
    for method, called, body in calls:
        assert refusal(await banning.bob.request(method, called, body)) == (*BANNED, {"banned_until": None}), called
    socket = await banning.bob.connect()
    for frame_type, fields in (
        ("send_message", {"content": "x"}),
        ("message.edit", {"message_id": message["message_id"], "content": "x"}),
        ("message.delete", {"message_id": message["message_id"]}),
        ("subscribe", {}),
        ("typing.start", {}),
        ("ack", {"seq": 1}),
        ("read", {"seq": 1}),
    ):
        await socket.send(frame_type, room_id=banning.room_id, request_id="r", **fields)
        await socket.expect("error", request_id="r", code=BANNED[1], details={"banned_until": None})
    await socket.send("sync", rooms={banning.room_id: 0}, request_id="s")
    await socket.expect("error", request_id="s", code=BANNED[1], field=f"rooms.{banning.room_id}")
    assert [room["room_id"] for room in (await banning.bob.get("/channels")).data["rooms"]] == [banning.room_id]
    assert (await banning.bob.get("/rooms")).data["rooms"] == []


async def test_being_added_is_a_conflict(banning: Banning) -> None:
    await banning.ban()
    reply = await banning.alice.post(f"{banning.path}/members", {"user_id": "bob"})
    assert refusal(reply)[:2] == (409, "CONFLICT")
    carol = banning.server.user("carol")
    assert (await carol.post(f"{banning.path}/members", {"user_id": "bob"})).status == 403  # is no admin
    await banning.unban()
    assert (await banning.bob.post(f"{banning.path}/members", {"user_id": "bob"})).status == 201


async def test_a_room_that_everybody_left_stays_closed_to_the_banned(banning: Banning) -> None:
    await banning.ban()
    for name in ("carol", "alice"):
        await banning.server.user(name).delete(f"{banning.path}/members/{name}")
    assert refusal(await banning.bob.post(f"{banning.path}/members", {"user_id": "bob"}))[:2] == BANNED
    assert (await banning.eve.post(f"{banning.path}/members", {"user_id": "bob"})).status == 409
    assert (await banning.eve.post(f"{banning.path}/members", {"user_id": "eve"})).data["role"] == "admin"


async def test_connections_get_it_as_their_last_event_of_the_room(banning: Banning) -> None:
    await banning.bob.say(banning.room_id)
    spectator = await banning.eve.connect()
    await spectator.send("subscribe", room_id=banning.room_id, request_id="s")
    await spectator.expect("subscribed")
    sockets = [await banning.bob.connect(), await banning.bob.connect(), spectator]
    paused = await banning.bob.connect(sync="none", ready=False)
    await paused.expect("ready")
    for user_id in ("bob", "eve"):
        await banning.ban(user_id)
    await banning.alice.say(banning.room_id, "without them")
    for socket in sockets:
        await socket.expect("member.banned", user_id="bob")
        if socket is spectator:
            await socket.expect("member.banned", user_id="eve")
        await socket.expect_nothing("message", "member.banned", "typing")
    await paused.send("sync")
    got = await paused.collect("sync.complete")
    assert [frame["type"] for frame in got] == ["message", "member.banned"]
    await spectator.send("sync", rooms={banning.room_id: 0}, request_id="again")
    await spectator.expect("error", request_id="again", code="AUTHORIZATION_ERROR")


@pytest.mark.parametrize("is_member", [True, False])
async def test_the_same_again_is_no_event_and_another_one_is(banning: Banning, is_member: bool) -> None:
    user_id = "bob" if is_member else "eve"
    await banning.alice.post(f"{banning.path}/members", {"user_id": "dave", "role": "admin"})
    first = (await banning.ban(user_id, reason="spam")).data
    assert (await banning.ban(user_id, reason="spam")).data == first
    banning.clock.set_forward(5)
    dave = banning.server.user("dave")
    other = (await dave.put(f"{banning.path}/bans/{user_id}", {"reason": "rude", "expires_in": 60})).data
    assert other == {**first, "reason": "rude", "until": banning.time_in(60)}
    assert (await banning.ban(user_id)).data == {**first, "reason": None}
    told = [(event["type"], event["user_id"], event.get("reason")) for event in await banning.events()]
    assert told[1:] == [("member.banned", user_id, reason) for reason in ("spam", "rude", None)]
    for _ in range(2):
        assert (await banning.unban(user_id)).status == 204
    assert len(await banning.events()) == 5
    assert len((await banning.events())[-1]) == len((await banning.events())[-2])


async def test_a_ban_ends_silently_and_to_the_microsecond(banning: Banning) -> None:
    until = (await banning.ban(expires_in=1)).data["until"]
    banning.clock.set_forward(0.999999)
    assert refusal(await banning.bob.get(banning.path)) == (*BANNED, {"banned_until": until})
    assert len(await banning.bans()) == 1
    before = await banning.events()
    banning.clock.set_forward(0.000001)
    assert await banning.bans() == []
    assert (await banning.bob.get(banning.path)).status == 200
    assert (await banning.unban()).status == 204
    assert await banning.events() == before
    assert (await banning.bob.post(f"{banning.path}/members", {"user_id": "bob"})).status == 201
    again = await banning.ban(expires_in=31_536_000)
    assert again.data["created_at"] == banning.time_in(0)  # another ban than the one that has ended
    banning.clock.set_forward(31_536_000)
    assert (await banning.ban()).data["created_at"] == banning.time_in(0)


async def test_a_body_may_be_absent_and_needs_no_content_type(banning: Banning) -> None:
    reply = await banning.alice.request("PUT", f"{banning.path}/bans/bob")
    assert (reply.status, reply.data["reason"], reply.data["until"]) == (200, None, None)
    assert (await banning.alice.request("PUT", f"{banning.path}/bans/eve", b"")).status == 200
    assert (await banning.alice.request("POST", "/tokens")).status == 201
    assert (await banning.alice.request("PATCH", f"{banning.path}/members/carol")).error["field"] == "role"
    assert (await banning.alice.request("POST", f"{banning.path}/members")).status == 415


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"reason": "x" * 501}, "reason"),
        ({"reason": 1}, "reason"),
        ({"expires_in": 0}, "expires_in"),
        ({"expires_in": 31_536_001}, "expires_in"),
        ({"expires_in": 1.5}, "expires_in"),
    ],
)
async def test_a_ban_out_of_bounds_is_refused(banning: Banning, fields: dict[str, object], field: str) -> None:
    reply = await banning.ban(**fields)
    assert (reply.status, reply.error["field"]) == (400, field)
    assert await banning.bans() == []


async def test_a_ban_at_its_bounds_is_taken(banning: Banning) -> None:
    assert (await banning.ban(reason="ü" * 500, expires_in=31_536_000)).status == 200
    for user_id in ("x" * 128, "a%7Cb%2Fc"):
        assert (await banning.ban(user_id)).status == 200
    for user_id in ("x" * 129, "a%20b", "%C3%BC"):
        assert (await banning.ban(user_id)).error["field"] == "user_id"
    assert {ban["user_id"] for ban in await banning.bans()} == {"bob", "x" * 128, "a|b/c"}


async def test_nobody_bans_themselves_and_admins_may_ban_admins(banning: Banning) -> None:
    assert refusal(await banning.ban("alice"))[:2] == (409, "CONFLICT")
    carol = banning.server.user("carol")
    assert (await carol.put(f"{banning.path}/bans/carol", {})).status == 403
    await banning.alice.patch(f"{banning.path}/members/carol", {"role": "admin"})
    assert (await carol.put(f"{banning.path}/bans/alice", {})).status == 200
    assert (await banning.alice.get(banning.path)).status == 403
    assert (await carol.get(banning.path)).data["member_count"] == 2


async def test_nobody_is_banned_from_a_dm(banning: Banning) -> None:
    room_id = await banning.alice.make_room("bob", room_type="dm")
    for method, path in (("PUT", "/bans/bob"), ("DELETE", "/bans/bob"), ("GET", "/bans"), ("PUT", "/bans/alice")):
        assert refusal(await banning.alice.request(method, f"/rooms/{room_id}{path}"))[:2] == BANNED


async def test_the_order_of_commits_decides(banning: Banning) -> None:
    """Nothing of the user comes after their `member.banned`, whatever waited for the disk."""
    bob, path = banning.bob, banning.path
    message = await bob.say(banning.room_id)
    replies = await banning.server.together(
        bob.post(f"{path}/messages", {"content": "before", "client_message_id": "c"}),
        banning.ban(),
        bob.post(f"{path}/messages", {"content": "after"}),
        bob.post(f"{path}/messages", {"content": "before", "client_message_id": "c"}),
        bob.put(f"{path}/messages/{message['message_id']}", {"content": "after"}),
        bob.delete(f"{path}/messages/{message['message_id']}"),
        bob.post(f"{path}/members", {"user_id": "bob"}),
        banning.unban(),
        bob.post(f"{path}/members", {"user_id": "bob"}),
        bob.post(f"{path}/messages", {"content": "again"}),
    )
    assert [reply.status for reply in replies] == [201, 200, 403, 403, 403, 403, 403, 204, 201, 201]
    kinds = [event["type"] for event in await banning.events()]
    assert kinds == ["message", "message", "member.banned", "member.unbanned", "member.joined", "message"]


async def test_a_request_that_is_under_way_is_refused_by_then(banning: Banning) -> None:
    ban, added = await banning.server.together(
        banning.ban("eve"), banning.alice.post(f"{banning.path}/members", {"user_id": "eve"})
    )
    assert (ban.status, added.status) == (200, 409)


async def test_bans_are_listed_in_pages_the_newest_first(banning: Banning) -> None:
    names = [f"user{number}" for number in range(5)]
    for name in names:
        banning.clock.set_forward(1)
        await banning.ban(name, expires_in=2 if name == "user2" else DAY_SECONDS)
    banning.clock.set_forward(2)
    await banning.ban("zoe")
    expected = ["zoe", "user4", "user3", "user1", "user0"]
    assert [ban["user_id"] for ban in await banning.bans()] == expected
    found: list[str] = []
    page = (await banning.alice.get(f"{banning.path}/bans", limit=2)).data
    while True:
        found += [ban["user_id"] for ban in page["bans"]]
        if not page["has_more"]:
            break
        page = (await banning.alice.get(f"{banning.path}/bans", limit=2, cursor=page["next_cursor"])).data
    assert found == expected
    assert [ban["user_id"] for ban in await banning.bans(offset=3)] == expected[3:]


async def test_bans_survive_a_restart(
    start_server: StartServer, banning: Banning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatapi.rules.ROWS_PER_STEP", 2)
    names = ["bob", *(f"user{number}" for number in range(4))]
    for name in names:
        await banning.ban(name)
    again = Banning(await restart(start_server, banning.server), banning.clock, banning.room_id)
    for name in names:
        user = User(again.server, again.server.api_key, name)
        assert refusal(await user.get(again.path)) == (*BANNED, {"banned_until": None})
    assert (await again.unban()).status == 204
    assert (await again.bob.get(again.path)).status == 200


async def test_rows_of_bans_go_with_their_time_and_with_the_room(banning: Banning) -> None:
    async def count_rows() -> int:
        return (await banning.server.services.store.readers.fetch("SELECT count(*) FROM bans", {}))[0][0]

    await banning.ban("bob", expires_in=60)
    await banning.ban("eve")
    banning.clock.advance(60)
    await purge_ended_rules(banning.server.services)
    assert await count_rows() == 1
    await banning.alice.delete(banning.path)
    await purge_deleted(banning.server.services)
    assert await count_rows() == 0


async def test_a_slow_connection_gets_the_ban_after_its_backlog(banning: Banning) -> None:
    """It is served from the log up to the ban, and no further."""
    socket = await banning.bob.connect_raw(ready=True, is_narrow=True)
    contents = ["x" * 60_000] * 40
    await asyncio.gather(*(banning.alice.say(banning.room_id, content) for content in contents))
    await banning.ban()
    await banning.alice.say(banning.room_id, "after")
    frames = [await socket.expect("message") for _ in contents]
    assert [frame["seq"] for frame in frames] == list(range(1, 41))
    assert (await socket.expect("member.banned"))["seq"] == 41
