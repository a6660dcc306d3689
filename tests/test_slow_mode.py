"""Who may post in a room, and how often: `posting` and `slow_mode_seconds`."""

from typing import Any

import pytest
from conftest import StartServer
from driver import HandClock, Reply, Server, restart

from chatapi.models import UserId, encode_time
from chatapi.rules import MIN_POSTERS, Posters
from chatapi.store import Transaction

SLOW_SECONDS = 30


class SlowRoom:
    """A room of alice, its admin, and bob, on a clock that the test moves."""

    def __init__(self, server: Server, clock: HandClock, room_id: str = "") -> None:
        self.server = server
        self.clock = clock
        self.alice, self.bob = server.user("alice"), server.user("bob")
        self.room_id = room_id

    async def set_up(self, **fields: object) -> "SlowRoom":
        self.room_id = await self.alice.make_room("bob", **fields)
        return self

    @property
    def path(self) -> str:
        return f"/rooms/{self.room_id}"

    async def change(self, **fields: object) -> Reply:
        return await self.alice.patch(self.path, fields)

    async def post(self, **fields: object) -> Reply:
        return await self.bob.post(f"{self.path}/messages", {"content": "hi", **fields})

    def end(self) -> str:
        """When a message of now lets the next one pass."""
        return encode_time(self.clock.now_us() + SLOW_SECONDS * 1_000_000)


@pytest.fixture
async def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def room(start_server: StartServer, clock: HandClock) -> SlowRoom:
    return await SlowRoom(await start_server(clock=clock), clock).set_up(slow_mode_seconds=SLOW_SECONDS)


async def test_a_member_waits_from_their_last_message(room: SlowRoom) -> None:
    until = room.end()
    assert (await room.post()).status == 201
    room.clock.set_forward(0.5)
    refusal = await room.post()
    assert (refusal.status, refusal.error["code"]) == (429, "RATE_LIMIT_EXCEEDED")
    assert refusal.error["details"] == {"slow_mode_until": until}
    assert refusal.headers["Retry-After"] == "30"
    room.clock.set_forward(SLOW_SECONDS - 0.500001)
    refusal = await room.post()
    assert (refusal.status, refusal.headers["Retry-After"]) == (429, "1")  # which changes nothing
    room.clock.set_forward(0.000001)
    assert (await room.post()).status == 201


async def test_a_frame_is_told_how_long_to_wait(room: SlowRoom) -> None:
    socket = await room.bob.connect()
    until = room.end()
    for fields in ({}, {"client_message_id": "second"}):
        await socket.send("send_message", room_id=room.room_id, content="x", request_id="r", **fields)
        answer = await socket.next()
        while answer.get("request_id") != "r":
            answer = await socket.next()
        if not fields:
            assert answer["type"] == "message.sent"
    assert answer["code"] == "RATE_LIMIT_EXCEEDED"
    assert answer["details"] == {"slow_mode_until": until}
    assert answer["retry_after_ms"] == SLOW_SECONDS * 1000


async def test_admins_do_not_wait_and_each_member_waits_alone(room: SlowRoom) -> None:
    for _ in range(3):
        await room.alice.say(room.room_id)
    assert (await room.post()).status == 201
    await room.alice.patch(f"{room.path}/members/bob", {"role": "admin"})
    assert (await room.post()).status == 201
    await room.alice.patch(f"{room.path}/members/bob", {"role": "member"})
    assert (await room.post()).status == 429  # what was posted as an admin counts


async def test_edits_pass_and_a_deletion_changes_nothing(room: SlowRoom) -> None:
    message = (await room.post()).data
    path = f"{room.path}/messages/{message['message_id']}"
    assert (await room.bob.put(path, {"content": "better"})).status == 200
    assert (await room.bob.delete(path)).status == 204
    assert (await room.post()).status == 429


@pytest.mark.parametrize("field", ["reply_to", "thread_id"])
async def test_replies_count(room: SlowRoom, field: str) -> None:
    message = await room.alice.say(room.room_id)
    assert (await room.post(**{field: message["message_id"]})).status == 201
    assert (await room.post()).status == 429
    assert (await room.post(**{field: message["message_id"]})).status == 429


async def test_two_messages_that_wait_together_are_one_too_many(room: SlowRoom) -> None:
    replies = await room.server.together(room.post(), room.post(), room.post(client_message_id="third"))
    assert sorted(reply.status for reply in replies) == [201, 429, 429]
    assert {reply.error["details"]["slow_mode_until"] for reply in replies[1:]} == {room.end()}


async def test_it_is_judged_by_the_time_with_which_messages_are_stored(room: SlowRoom) -> None:
    async def pass_time(_transaction: Transaction) -> None:
        room.clock.set_forward(SLOW_SECONDS)

    change = room.server.services.store.writer.change
    until = room.end()
    await room.post()
    room.clock.set_forward(SLOW_SECONDS - 0.000001)
    _, early = await room.server.together(change(pass_time), room.post(client_message_id="c"))
    assert early.error["details"] == {"slow_mode_until": until}
    until = room.end()
    _, fresh, late = await room.server.together(change(pass_time), room.post(), room.post())
    assert fresh.status == 201
    assert late.error["details"] == {"slow_mode_until": until}


async def test_a_refused_message_does_not_count(room: SlowRoom) -> None:
    until = room.end()
    bad = {"content": "x", "mentions": ["nobody"]}
    replies = await room.server.together(room.bob.post(f"{room.path}/messages", bad), room.post())
    assert [reply.status for reply in replies] == [400, 201]
    assert (await room.post()).error["details"] == {"slow_mode_until": until}


async def test_a_retry_of_a_known_message_is_answered(room: SlowRoom) -> None:
    first = await room.post(client_message_id="c")
    again = await room.server.together(room.post(client_message_id="c"), room.post(client_message_id="c"))
    assert [(reply.status, reply.data) for reply in again] == [(200, first.data)] * 2
    assert (await room.post(client_message_id="d")).status == 429
    room.clock.set_forward(SLOW_SECONDS)
    fresh, repeated = await room.server.together(room.post(client_message_id="e"), room.post(client_message_id="e"))
    assert (fresh.status, repeated.status) == (201, 200)


@pytest.mark.parametrize("is_split", [False, True])
async def test_a_retry_lets_the_next_message_pass(room: SlowRoom, is_split: bool) -> None:
    first = await room.post(client_message_id="c")
    room.clock.set_forward(SLOW_SECONDS)
    between = [room.alice.put(f"{room.path}/pins/{first.data['message_id']}", None)] if is_split else []
    retry, *_, fresh, again = await room.server.together(
        room.post(client_message_id="c"), *between, room.post(client_message_id="d"), room.post()
    )
    assert (retry.status, retry.data) == (200, first.data)
    assert [fresh.status, again.status] == [201, 429]


async def test_it_counts_from_before_it_was_switched_on(start_server: StartServer, clock: HandClock) -> None:
    room = await SlowRoom(await start_server(clock=clock), clock).set_up()
    until = room.end()
    for content in ("one", "two"):
        assert (await room.post(content=content)).status == 201
    await room.change(slow_mode_seconds=SLOW_SECONDS)
    assert (await room.post()).error["details"] == {"slow_mode_until": until}
    await room.change(slow_mode_seconds=0)
    assert (await room.post()).status == 201
    clock.set_forward(10)
    await room.change(slow_mode_seconds=5)
    assert (await room.post()).status == 201
    clock.set_forward(7)
    await room.change(slow_mode_seconds=SLOW_SECONDS)  # longer than what was remembered
    assert (await room.post()).status == 429


async def test_it_counts_across_a_restart(
    start_server: StartServer, room: SlowRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatapi.rules.POSTS_PER_STEP", 2)
    until = room.end()
    await room.post()
    for _ in range(5):
        await room.alice.say(room.room_id)
    await room.server.app.close()
    again = SlowRoom(await start_server(clock=room.clock), room.clock, room.room_id)
    assert (await again.post()).error["details"] == {"slow_mode_until": until}
    room.clock.set_forward(SLOW_SECONDS)
    assert (await again.post()).status == 201


async def test_a_change_holds_for_messages_that_wait(room: SlowRoom) -> None:
    await room.change(slow_mode_seconds=0)
    replies = await room.server.together(
        room.post(),
        room.change(slow_mode_seconds=SLOW_SECONDS),
        room.post(),
        room.change(slow_mode_seconds=0),
        room.post(),
        room.change(posting="admins"),
        room.post(),
        room.change(posting="members"),
        room.post(),
    )
    assert [reply.status for reply in replies] == [201, 200, 429, 200, 201, 200, 403, 200, 201]


async def test_only_admins_post_where_that_is_the_rule(start_server: StartServer, clock: HandClock) -> None:
    room = await SlowRoom(await start_server(clock=clock), clock).set_up(room_type="channel")
    mine = (await room.post()).data["message_id"]
    socket = await room.bob.connect()
    assert (await room.change(posting="admins")).data["posting"] == "admins"
    await socket.expect("room.updated", posting="admins", slow_mode_seconds=0)
    edit = {"content": "better"}
    for reply in (await room.post(), await room.bob.put(f"{room.path}/messages/{mine}", edit)):
        assert (reply.status, reply.error["code"]) == (403, "AUTHORIZATION_ERROR")
        assert "details" not in reply.error
    for frame_type, fields in (("send_message", {"content": "x"}), ("typing.start", {})):
        await socket.send(frame_type, room_id=room.room_id, request_id="r", **fields)
        await socket.expect("error", request_id="r", code="AUTHORIZATION_ERROR")
    await room.alice.say(room.room_id)
    assert (await room.bob.delete(f"{room.path}/messages/{mine}")).status == 204
    await room.alice.patch(f"{room.path}/members/bob", {"role": "admin"})
    assert (await room.post()).status == 201


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("posting", None),
        ("posting", "nobody"),
        ("posting", 1),
        ("slow_mode_seconds", None),
        ("slow_mode_seconds", -1),
        ("slow_mode_seconds", 21_601),
        ("slow_mode_seconds", 1.0),
    ],
)
async def test_settings_out_of_bounds_are_refused(
    shared_server: Server, method: str, field: str, value: object
) -> None:
    alice = shared_server.user("alice")
    path = "/rooms" if method == "POST" else f"/rooms/{await alice.make_room()}"
    reply = await alice.request(method, path, {"type": "group", field: value})
    assert (reply.status, reply.error["code"], reply.error["field"]) == (400, "VALIDATION_ERROR", field)


async def test_a_room_always_shows_its_settings(start_server: StartServer, server: Server) -> None:
    alice = server.user("alice")
    socket = await alice.connect()

    def shown(room: dict[str, Any]) -> tuple[object, object]:
        return room["posting"], room["slow_mode_seconds"]

    made = await alice.post("/rooms", {"type": "channel", "posting": "admins", "slow_mode_seconds": 21_600})
    path = f"/rooms/{made.data['room_id']}"
    assert shown(made.data) == shown(await socket.expect("room.created")) == ("admins", 21_600)
    await socket.close()
    server = await restart(start_server, server)
    alice = server.user("alice")
    for reply in (
        (await alice.get(path)).data,
        (await alice.get("/rooms")).data["rooms"][0],
        (await alice.get("/channels")).data["rooms"][0],
        (await alice.patch(path, {"name": "named"})).data,
        (await alice.get(f"{path}/events")).data["events"][0],
    ):
        assert shown(reply) == ("admins", 21_600)
    assert shown((await alice.patch(path, {"posting": "members", "slow_mode_seconds": 0})).data) == ("members", 0)
    again = await alice.patch(path, {"posting": "members", "slow_mode_seconds": 0})
    assert again.data["last_seq"] == 2  # it changed nothing


async def test_a_dm_has_the_defaults_alone(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    for field, value in (("posting", "admins"), ("slow_mode_seconds", 1)):
        reply = await alice.post("/rooms", {"type": "dm", "members": ["bob"], field: value})
        assert (reply.status, reply.error["field"]) == (400, field)
    settings = {"posting": "members", "slow_mode_seconds": 0}
    reply = await alice.post("/rooms", {"type": "dm", "members": ["bob"], **settings})
    assert {name: reply.data[name] for name in settings} == settings
    path = f"/rooms/{reply.data['room_id']}"
    assert (await alice.patch(path, settings)).status == 403
    for field, value in (("posting", "admins"), ("slow_mode_seconds", 1)):
        reply = await alice.patch(path, {**settings, field: value})
        assert (reply.status, reply.error["field"]) == (400, field)
        assert (await shared_server.user("eve").patch(path, {field: value})).status == 403


async def test_a_change_that_meets_the_end_of_slow_mode_is_refused(room: SlowRoom) -> None:
    ended, changed = await room.server.together(room.change(slow_mode_seconds=0), room.change(slow_mode_seconds=9))
    assert (ended.status, changed.status, changed.error["code"]) == (200, 409, "CONFLICT")
    assert (await room.change(slow_mode_seconds=9)).status == 200


def test_users_who_posted_long_ago_are_forgotten() -> None:
    posters = Posters()
    posters.window_us = 100
    for number in range(3 * MIN_POSTERS):
        posters.note(UserId(f"user{number}"), number)
    assert len(posters) < 1.2 * MIN_POSTERS
    assert posters.find(UserId(f"user{3 * MIN_POSTERS - 90}")) == 3 * MIN_POSTERS - 90
