"""A member's own view of a room: `notify` and `hidden`."""

from typing import Any

import pytest
from conftest import StartServer
from driver import HandClock, Server, User, restart
from hooked import QUICK, hook
from receiver import Receiver

from chatapi.webhooks import expansion, queue


async def view_of(user: User, room_id: str) -> tuple[str, bool]:
    """As `GET /rooms` and `ready` agree upon."""
    rooms = (await user.get("/rooms", hidden="true", limit=100)).data["rooms"]
    socket = await user.connect(ready=False)
    ready = (await socket.expect("ready"))["rooms"]
    await socket.close()
    [found] = {
        (room["notify"], room["hidden"]) for shown in (rooms, ready) for room in shown if room["room_id"] == room_id
    }
    return found


async def shown(user: User, **query: object) -> list[str]:
    return [room["room_id"] for room in (await user.get("/rooms", **query)).data["rooms"]]


async def test_a_view_is_changed_in_part_and_told_to_all_devices(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")
    mine = [await bob.connect(), await bob.connect()]
    others = await alice.connect()
    path = f"/rooms/{room_id}/me"
    assert await view_of(bob, room_id) == ("all", False)
    steps: list[tuple[dict[str, object], dict[str, object]]] = [
        ({"notify": "mentions"}, {"notify": "mentions", "hidden": False}),
        ({"hidden": True}, {"notify": "mentions", "hidden": True}),
        ({"notify": "none"}, {"notify": "none", "hidden": True}),
        ({"notify": "all", "hidden": False}, {"notify": "all", "hidden": False}),
    ]
    for body, expected in steps:
        reply = await bob.patch(path, body)
        assert (reply.status, reply.data) == (200, {"room_id": room_id, **expected})
        for socket in mine:
            assert await socket.expect("room.me") == {"type": "room.me", "room_id": room_id, **expected}
        assert await view_of(bob, room_id) == (expected["notify"], expected["hidden"])
    assert await view_of(alice, room_id) == ("all", False)
    assert (await bob.patch(path, {"hidden": False})).data["hidden"] is False
    assert (await bob.patch(path, {})).data == {"room_id": room_id, "notify": "all", "hidden": False}
    await mine[0].expect_nothing("room.me")
    await others.expect_nothing("room.me")
    assert (await alice.get(f"/rooms/{room_id}")).data["last_seq"] == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"notify": None}, "notify"),
        ({"notify": "some"}, "notify"),
        ({"hidden": None}, "hidden"),
        ({"hidden": 1}, "hidden"),
    ],
)
async def test_a_bad_view_is_refused(shared_server: Server, body: dict[str, object], field: str) -> None:
    alice = shared_server.user("alice")
    refused = await alice.patch(f"/rooms/{await alice.make_room()}/me", body)
    assert (refused.status, refused.error["field"]) == (400, field)


async def test_a_reader_of_a_channel_has_no_view(shared_server: Server) -> None:
    room_id = await shared_server.user("alice").make_room(room_type="channel")
    assert (await shared_server.user("eve").patch(f"/rooms/{room_id}/me", {"hidden": True})).status == 403


async def test_a_hidden_room_is_listed_on_request_until_somebody_else_posts(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    hidden, other = await alice.make_room("bob", "carol"), await alice.make_room("bob")
    for user in (bob, shared_server.user("carol")):
        await user.patch(f"/rooms/{hidden}/me", {"hidden": True})
    listening = await bob.connect()
    assert await shown(bob) == [other]
    assert await shown(bob, hidden="false") == [other]
    assert sorted(await shown(bob, hidden="true")) == sorted([hidden, other])
    assert (await bob.get("/rooms", hidden="yes")).error["field"] == "hidden"
    await bob.say(hidden, "it stays hidden by one's own words")
    await alice.patch(f"/rooms/{hidden}", {"name": "and by what is no message"})
    assert await shown(bob) == [other]
    assert await shown(shared_server.user("carol")) == [hidden]  # to whom bob is somebody else
    message = await alice.say(hidden)
    frames = await listening.collect("room.me")
    assert [frame["seq"] for frame in frames if frame["type"] == "message"] == [1]
    await listening.expect("message", seq=message["seq"])
    assert await shown(bob) == [hidden, other]
    assert await view_of(bob, hidden) == ("all", False)
    await alice.say(hidden)
    await listening.expect_nothing("room.me")


@pytest.mark.parametrize("poster", ["alice", "bob"])
async def test_hiding_outlives_a_restart(server: Server, start_server: StartServer, poster: str) -> None:
    """The messages of the user themselves, before and after it, do not show the room again."""
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    await alice.say(room_id)
    await bob.patch(f"/rooms/{room_id}/me", {"hidden": True, "notify": "mentions"})
    await alice.patch(f"/rooms/{room_id}/me", {"hidden": True})
    server = await restart(start_server, server)
    assert await shown(server.user("bob")) == []
    await server.user(poster).say(room_id)
    await server.user(poster).say(room_id)
    server = await restart(start_server, server)
    for name in ("alice", "bob"):
        assert await shown(server.user(name)) == ([] if name == poster else [room_id])
        assert (await view_of(server.user(name), room_id))[1] is (name == poster)
    assert (await view_of(server.user("bob"), room_id))[0] == "mentions"


async def test_hiding_and_a_message_in_one_batch_are_judged_in_their_order(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")

    def hide() -> Any:
        return bob.patch(f"/rooms/{room_id}/me", {"hidden": True})

    def say() -> Any:
        return alice.post(f"/rooms/{room_id}/messages", {"content": "x"})

    await server.together(hide(), say())
    assert await shown(bob) == [room_id]
    await server.together(hide(), say(), hide())
    assert await shown(bob) == []
    await server.together(say(), hide(), say())
    assert await shown(bob) == [room_id]


async def test_a_page_of_shown_rooms_is_full(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_ids = [await alice.make_room() for _ in range(9)]
    for room_id in room_ids[::2]:
        await alice.patch(f"/rooms/{room_id}/me", {"hidden": True})
    expected = room_ids[1::2][::-1]
    first = (await alice.get("/rooms", limit=3)).data
    assert [room["room_id"] for room in first["rooms"]] == expected[:3]
    assert (await alice.get("/rooms", limit=3, hidden="true", cursor=first["next_cursor"])).status == 400
    rest = (await alice.get("/rooms", limit=3, cursor=first["next_cursor"])).data
    assert [room["room_id"] for room in rest["rooms"]] == expected[3:]
    assert rest["has_more"] is False
    assert await shown(alice, offset=1, limit=2) == expected[1:3]
    assert await shown(alice, hidden="true") == room_ids[::-1]


async def test_leaving_forgets_the_view(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob", room_type="channel")
    await bob.patch(f"/rooms/{room_id}/me", {"hidden": True, "notify": "none"})
    await bob.delete(f"/rooms/{room_id}/members/bob")
    await bob.post(f"/rooms/{room_id}/members", {"user_id": "bob"})
    assert await view_of(bob, room_id) == ("all", False)
    assert await shown(bob) == [room_id]


# Webhooks


@pytest.mark.parametrize("is_large", [False, True], ids=["small room", "large room"])
async def test_a_webhook_tells_each_member_as_they_want(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, is_large: bool
) -> None:
    monkeypatch.setattr(queue, "DIRECT_RECIPIENTS", 0 if is_large else 100)
    monkeypatch.setattr(expansion, "EXPAND_ROWS", 2)
    server = await start_server(QUICK)
    hooked = await hook(server, receiver.url)
    alice = hooked.user("alice")
    names = ["all", "all2", "mentions", "mentions2", "none", "none2"]
    room_id = await alice.make_room(*names)
    for name in names:
        await hooked.user(name).patch(f"/rooms/{room_id}/me", {"notify": name.removesuffix("2")})

    async def tell(**fields: object) -> dict[str, bool]:
        await alice.say(room_id, **fields)
        await hooked.is_settled()
        calls = [call.event["data"] for call in receiver.calls]
        receiver.calls.clear()
        return {call["user_id"]: call["mentioned"] for call in calls}

    assert await tell() == {"all": False, "all2": False}
    assert await tell(mentions=["all", "mentions", "none", "alice"]) == {"all": True, "all2": False, "mentions": True}
    assert await tell(mention_room=True) == {"all": True, "all2": True, "mentions": True, "mentions2": True}


@pytest.mark.parametrize("is_large", [False, True], ids=["small room", "large room"])
async def test_a_webhook_goes_by_the_moment_of_the_commit(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, is_large: bool
) -> None:
    """An endpoint that is slow: what the members want, and what the message mentions, has changed by the call."""
    monkeypatch.setattr(queue, "DIRECT_RECIPIENTS", 0 if is_large else 100)
    clock = HandClock()
    server = await start_server({**QUICK, "webhooks.retry_schedule_seconds": [5]}, clock=clock)
    hooked = await hook(server, receiver.url)
    alice = hooked.user("alice")
    room_id = await alice.make_room("late", "early", "added")
    await hooked.user("late").patch(f"/rooms/{room_id}/me", {"notify": "none"})
    await hooked.user("added").patch(f"/rooms/{room_id}/me", {"notify": "mentions"})
    held = hooked.server.services.webhooks._expand
    monkeypatch.setattr(hooked.server.services.webhooks, "_expand", _do_nothing)
    message = await alice.say(room_id)
    await hooked.user("late").patch(f"/rooms/{room_id}/me", {"notify": "all"})
    await hooked.user("early").patch(f"/rooms/{room_id}/me", {"notify": "none"})
    path = f"/rooms/{room_id}/messages/{message['message_id']}"
    await alice.put(path, {"content": "x", "mentions": ["added"]})
    monkeypatch.setattr(hooked.server.services.webhooks, "_expand", held)
    clock.advance(6)  # the schedule's 5 and its jitter: until then nobody is called, however long the above takes
    hooked.server.services.webhooks.wake(server.services.tenants.get(hooked.tenant_id))
    await receiver.wait_for(1)
    await hooked.is_settled()
    [call] = [call.event["data"] for call in receiver.calls]
    assert (call["user_id"], call["mentioned"], call["message"]["mentions"]) == ("early", False, ["added"])


async def _do_nothing(lane: object) -> None:
    return
