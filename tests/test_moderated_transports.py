"""Bans, mutes, blocks and rules of posting on event streams, long polls and pipes, and on streams that are open."""

import base64
import json
from collections.abc import Coroutine
from typing import Any

import pytest
from driver import EventStream, Reply, Server, User, eventually
from piper import get_message, open_pipe, wait_for_content
from polls import waiting

from chatapi.rest import ROUTES
from chatapi.rest.call import Credential


async def make_bearer(server: Server, user_id: str) -> User:
    return server.bearer(user_id, (await server.user("backend").post("/tokens", {"user_id": user_id})).data["token"])


def refusal(reply: Reply) -> tuple[int, Any]:
    return reply.status, reply.error.get("details")


async def open_with(server: Server, **params: str) -> Reply:
    """What an event stream is answered that is refused."""
    return await server.request("GET", "/events/stream", params=params)


# Banned from the tenant


async def test_a_banned_users_event_streams_and_polls_end_with_the_reason(shared_server: Server) -> None:
    server, backend = shared_server, shared_server.user("backend")
    bob, token = server.user("bob"), await make_bearer(server, "bob")
    await bob.make_room("carol")
    streams = [await bob.stream(), await token.stream()]
    async with waiting(server, bob) as poll:
        until = (await backend.put("/users/bob/ban", {"expires_in": 100})).data["banned_until"]
        assert refusal(await poll) == (403, {"banned_until": until})
    for stream in streams:
        assert (await stream.expect("error"))["details"] == {"banned_until": until}
        assert await stream.close_code() == 4003
    await eventually(lambda: not server.connections_of("bob"))


async def test_a_banned_user_opens_no_event_stream_and_no_poll(shared_server: Server) -> None:
    server, backend = shared_server, shared_server.user("backend")
    bob, bearer = server.user("bob"), await make_bearer(server, "bob")
    token = bearer.headers["Authorization"].removeprefix("Bearer ")
    ticket = (await bob.post("/ws/token")).data["token"]
    await backend.put("/users/bob/ban", {})
    forever = (403, {"banned_until": None})
    for user in (bob, bearer):
        assert refusal(await user.request("GET", "/events/stream")) == forever
        assert refusal(await user.post("/sync", {"wait": 60})) == forever
        assert refusal(await user.post("/sync")) == forever
    for one in (token, ticket):
        assert refusal(await open_with(server, token=one)) == forever
    await backend.delete("/users/bob/ban")
    response = await server.session.get(f"{server.url}/events/stream", params={"token": ticket})
    await server.keep(EventStream(response)).expect("ready")  # it holds again


async def test_a_banned_users_pipe_and_appends_are_refused(shared_server: Server) -> None:
    server, backend = shared_server, shared_server.user("backend")
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    opened = await bob.say(room_id, "", stream=True)
    path = f"/rooms/{room_id}/messages/{opened['message_id']}"
    pipe = await open_pipe(bob, room_id)
    pipe.write("x")
    piped = await wait_for_content(alice, room_id, "x")
    await backend.put("/users/bob/ban", {})
    forever = {"banned_until": None}
    assert refusal(await bob.post(f"{path}/append", {"index": 1, "text": "late"})) == (403, forever)
    assert refusal(await bob.post(f"{path}/finish", {"state": "done"})) == (403, forever)
    assert refusal(await bob.post(f"{path}/cancel")) == (403, forever)
    pipe.write("y")
    assert refusal(await pipe.read_reply()) == (403, {**forever, "message_id": piped["message_id"]})
    other = await open_pipe(bob, room_id)
    assert refusal(await other.read_reply()) == (403, forever)
    for message, content in ((opened, ""), (piped, "x")):
        kept = await get_message(alice, room_id, message["message_id"])
        assert (kept["content"], kept["stream"]["state"]) == (content, "open")


@pytest.mark.parametrize("comes_by", ["key", "token"])
async def test_no_route_of_users_serves_one_who_is_banned(shared_server: Server, comes_by: str) -> None:
    server = shared_server
    bob = server.user("bob") if comes_by == "key" else await make_bearer(server, "bob")
    room_id = await server.user("bob").make_room("carol")
    message_id = (await server.user("bob").say(room_id, "", stream=True))["message_id"]
    names = {"room_id": room_id, "message_id": message_id, "user_id": "bob", "emoji": ":ship:"}
    await server.user("backend").put("/users/bob/ban", {})
    served = [route for route in ROUTES if route.credential in (Credential.USER, Credential.CONNECTION)]
    assert len(served) > 45
    for route in served:
        path = route.path.format(**names, subscription_id="sub_1", notification_id="notif_1")
        reply = await bob.request(route.method, path, None if route.method == "GET" else {})
        assert (route.path, *refusal(reply)) == (route.path, 403, {"banned_until": None})


# Banned from a room


async def test_a_ban_from_a_room_is_the_last_of_it(shared_server: Server) -> None:
    server = shared_server
    alice, bob = server.user("alice"), server.user("bob")
    room_id, other = await alice.make_room("bob"), await alice.make_room("bob")
    stream = await bob.stream()
    opened = await alice.say(room_id, "", stream=True)
    await stream.expect("message")
    async with waiting(server, bob, rooms={room_id: 1, other: 0}) as poll:
        await alice.put(f"/rooms/{room_id}/bans/bob", {"reason": "spam"})
        answer = (await poll).data
    assert [(event["type"], event["seq"]) for event in answer["events"]] == [("member.banned", 2)]
    await alice.post(f"/rooms/{room_id}/messages/{opened['message_id']}/append", {"index": 1, "text": "late"})
    await alice.say(room_id, "late")
    await alice.say(other, "on")
    frames = await stream.collect("message")
    assert [frame["type"] for frame in frames] == ["member.banned"]
    again = (await bob.post("/sync", {"rooms": {room_id: 1, other: 0}})).data
    assert again["errors"][room_id]["details"] == {"banned_until": None}
    assert [(event["room_id"], event["content"]) for event in again["events"]] == [(other, "on")]


async def test_a_ban_from_a_channel_ends_its_subscriptions(shared_server: Server) -> None:
    server = shared_server
    alice, eve = server.user("alice"), server.user("eve")
    channel, other = [await alice.make_room(room_type="channel") for _ in range(2)]
    epoch = (await eve.post("/sync")).data["epoch"]
    cursors = json.dumps({"epoch": epoch, "rooms": {channel: 0, other: 0}}).encode()
    stream = await eve.stream(cursors=base64.urlsafe_b64encode(cursors).decode())
    async with waiting(server, eve, rooms={channel: 0}) as poll:
        await alice.put(f"/rooms/{channel}/bans/eve", {})
        answer = (await poll).data
    assert [(event["type"], event["seq"]) for event in answer["events"]] == [("member.banned", 1)]
    await alice.say(channel, "late")
    await alice.say(other, "on")
    assert [frame["type"] for frame in await stream.collect("message")] == ["member.banned"]
    errors = (await eve.post("/sync", {"rooms": {channel: 0}})).data["errors"]
    assert errors[channel]["details"] == {"banned_until": None}


async def ban(alice: User, room_id: str) -> object:
    await alice.put(f"/rooms/{room_id}/bans/bob", {"expires_in": 1000})
    [ban] = (await alice.get(f"/rooms/{room_id}/bans")).data["bans"]
    return {"banned_until": ban["until"]}


async def mute(alice: User, room_id: str) -> object:
    member = await alice.patch(f"/rooms/{room_id}/members/bob", {"muted_for": 1000})
    return {"muted_until": member.data["muted_until"]}


async def close(alice: User, room_id: str) -> object:
    await alice.patch(f"/rooms/{room_id}", {"posting": "admins"})
    return None


async def limit(alice: User, room_id: str) -> object:
    await alice.patch(f"/rooms/{room_id}", {"slow_mode_seconds": 1000})
    return None


async def block(alice: User, _room_id: str) -> object:
    await alice.request("PUT", "/blocks/bob")
    return None


@pytest.mark.parametrize("happens", [ban, mute, close, block])
async def test_a_writer_who_may_not_post_any_more_is_told_why(shared_server: Server, happens: Any) -> None:
    server = shared_server
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob", room_type="dm" if happens is block else "group")
    opened = await bob.say(room_id, "so", stream=True)
    path = f"/rooms/{room_id}/messages/{opened['message_id']}"
    socket, reader = await bob.connect(), await alice.stream()
    pipe = await open_pipe(bob, room_id)
    pipe.write("x")
    piped = await wait_for_content(alice, room_id, "x")
    details = await happens(alice, room_id)
    assert refusal(await bob.post(f"{path}/append", {"index": 1, "text": "late"})) == (403, details)
    assert refusal(await bob.post(f"{path}/finish", {"state": "done"})) == (403, details)
    await socket.send("message.append", room_id=room_id, message_id=opened["message_id"], index=1, text="l")
    assert (await socket.expect("error")).get("details") == details
    pipe.write("y")
    named = {**(details or {}), "message_id": piped["message_id"]}  # type: ignore[dict-item]
    assert refusal(await pipe.read_reply()) == (403, named)
    other = await open_pipe(bob, room_id)
    assert refusal(await other.read_reply()) == (403, details)
    await alice.put("/users/alice", {"name": "A"})
    frames = await reader.collect("user.updated")
    assert [frame["text"] for frame in frames if frame["type"] == "message.delta"] == ["x"]
    assert "message.finished" not in [frame["type"] for frame in frames]
    kept = await get_message(alice, room_id, opened["message_id"])
    assert (kept["content"], kept["stream"]) == ("so", {"state": "open", "index": 0})


async def test_slow_mode_counts_pipes_and_lets_appends_pass(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")
    await alice.patch(f"/rooms/{room_id}", {"slow_mode_seconds": 1000})
    pipe = await open_pipe(bob, room_id)
    pipe.write("x")
    await wait_for_content(alice, room_id, "x")
    for attempt in (await open_pipe(bob, room_id), None):
        reply = (
            await attempt.read_reply()
            if attempt
            else await bob.post(f"/rooms/{room_id}/messages", {"content": "", "stream": True})
        )
        assert (reply.status, list(reply.error["details"])) == (429, ["slow_mode_until"])
        assert "retry-after" in {name.lower() for name in reply.headers}
    pipe.write("y")
    pipe.end()
    assert (await pipe.read_reply()).data["content"] == "xy"


# Users


async def test_a_changed_profile_is_told_over_event_streams(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    await alice.make_room("bob")
    streams = [await alice.stream(), await bob.stream(), await alice.connect()]
    user = (await alice.put("/users/alice", {"name": "Ålice"})).data
    for stream in streams:
        assert (await stream.expect("user.updated"))["user"] == user


@pytest.mark.parametrize("happens", [mute, close, limit])
async def test_a_pipe_that_is_known_is_answered_before_such_a_rule(shared_server: Server, happens: Any) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    room_id = await alice.make_room("bob")
    pipe = await open_pipe(bob, room_id, X_Client_Message_Id="answer-7")
    pipe.write("x")
    pipe.end()
    message_id = (await pipe.read_reply()).data["message_id"]
    await happens(alice, room_id)
    again, other = [await open_pipe(bob, room_id, X_Client_Message_Id=name) for name in ("answer-7", "answer-8")]
    for pipe in (again, other):
        pipe.write("y")
    assert refusal(await again.read_reply()) == (409, {"message_id": message_id})
    assert (await other.read_reply()).status == (429 if happens is limit else 403)


async def test_appends_that_wait_for_the_disk_are_judged_by_then(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    reader = await alice.connect()
    path = f"/rooms/{room_id}/messages/{(await bob.say(room_id, '', stream=True))['message_id']}"

    def append(text: str) -> Coroutine[Any, Any, Reply]:
        return bob.post(f"{path}/append", {"index": 1, "text": text})

    muted, refused = await server.together(
        alice.patch(f"/rooms/{room_id}/members/bob", {"muted_for": 100}), append("late")
    )
    assert refusal(refused) == (403, {"muted_until": muted.data["muted_until"]})
    await alice.patch(f"/rooms/{room_id}/members/bob", {"muted_for": 0})
    _, refused = await server.together(alice.put("/users/bob/ban", {}), append("late"))
    assert refusal(refused) == (403, {"banned_until": None})
    await alice.delete("/users/bob/ban")
    await reader.expect_nothing("message.delta")
    assert (await append("on")).status == 200  # its index was not used
    assert (await reader.expect("message.delta"))["text"] == "on"
