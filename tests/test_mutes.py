"""Mutes: a muted member reads, but posts, edits and types nothing, until then and no longer."""

from functools import partial
from typing import Any

import pytest
from conftest import StartServer
from driver import HandClock, Server, User, restart

from chatapi.errors import held
from chatapi.housekeeping import purge_deleted, purge_ended_rules
from chatapi.models import encode_time
from chatapi.store.moves import drop_guard, raise_guard

MUTE_SECONDS = 600


class Muting:
    """A room of alice, its admin, and bob, with a message of his; on a clock that the test moves."""

    def __init__(self, server: Server, clock: HandClock) -> None:
        self.server = server
        self.clock = clock
        self.alice, self.bob = server.user("alice"), server.user("bob")
        self.room_id = ""
        self.message_id = ""

    async def set_up(self) -> "Muting":
        self.room_id = await self.alice.make_room("bob", "carol")
        self.message_id = (await self.bob.say(self.room_id))["message_id"]
        return self

    @property
    def path(self) -> str:
        return f"/rooms/{self.room_id}"

    async def change(self, **fields: object) -> Any:
        return await self.alice.patch(f"{self.path}/members/bob", fields)

    async def mute(self, seconds: int = MUTE_SECONDS) -> str:
        """Returns when the mute ends."""
        reply = await self.change(muted_for=seconds)
        assert reply.status == 200
        return encode_time(self.clock.now_us() + seconds * 1_000_000)

    async def post(self, **fields: object) -> Any:
        return await self.bob.post(f"{self.path}/messages", {"content": "hi", **fields})

    async def events(self) -> list[dict[str, Any]]:
        return list((await self.alice.get(f"{self.path}/events")).data["events"])

    async def member(self) -> dict[str, Any]:
        members = (await self.alice.get(f"{self.path}/members")).data["members"]
        return next(member for member in members if member["user_id"] == "bob")


@pytest.fixture
async def muting(start_server: StartServer) -> Muting:
    clock = HandClock()
    return await Muting(await start_server(clock=clock), clock).set_up()


async def count_rows(server: Server) -> int:
    return (await server.services.store.readers.fetch("SELECT count(*) FROM mutes", {}))[0][0]


async def test_a_muted_member_reads_but_posts_edits_and_types_nothing(muting: Muting) -> None:
    bob, path = muting.bob, muting.path
    socket = await bob.connect()
    until = await muting.mute()
    refused = [
        await muting.post(),
        await bob.put(f"{path}/messages/{muting.message_id}", {"content": "better"}),
    ]
    for reply in refused:
        assert (reply.status, reply.error["code"]) == (403, "AUTHORIZATION_ERROR")
        assert reply.error["details"] == {"muted_until": until}
    for frame_type, fields in (
        ("send_message", {"content": "hi"}),
        ("send_message", {"content": "hi", "client_message_id": "new"}),
        ("message.edit", {"message_id": muting.message_id, "content": "better"}),
        ("typing.start", {}),
    ):
        await socket.send(frame_type, room_id=muting.room_id, request_id="r", **fields)
        await socket.expect("error", request_id="r", code="AUTHORIZATION_ERROR", details={"muted_until": until})
    for read in ("", "/messages", "/events", "/members", "/receipts", "/presence"):
        assert (await bob.get(f"{path}{read}")).status == 200
    assert (await bob.post(f"{path}/read", {"seq": 1})).status == 200
    await socket.send("typing.stop", room_id=muting.room_id)
    await socket.expect_nothing("error")
    assert (await bob.delete(f"{path}/messages/{muting.message_id}")).status == 204  # one's own


async def test_an_admin_may_be_muted_and_deletes_others_messages_all_the_same(muting: Muting) -> None:
    await muting.change(role="admin", muted_for=MUTE_SECONDS)
    message = await muting.alice.say(muting.room_id)
    assert (await muting.post()).status == 403
    assert (await muting.bob.delete(f"{muting.path}/messages/{message['message_id']}")).status == 204
    assert (await muting.bob.patch(f"{muting.path}/members/bob", {"muted_for": 0})).status == 200
    assert (await muting.post()).status == 201


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "role"),
        ({"muted_for": -1}, "muted_for"),
        ({"muted_for": 31_536_001}, "muted_for"),
        ({"muted_for": 1.5}, "muted_for"),
        ({"muted_for": None}, "muted_for"),
        ({"muted_for": True}, "muted_for"),
        ({"role": None, "muted_for": 1}, "role"),
    ],
)
async def test_a_mute_out_of_bounds_is_refused(muting: Muting, fields: dict[str, object], field: str) -> None:
    reply = await muting.change(**fields)
    assert (reply.status, reply.error["code"], reply.error["field"]) == (400, "VALIDATION_ERROR", field)
    assert (await muting.post()).status == 201


@pytest.mark.parametrize("seconds", [1, 31_536_000])
async def test_a_mute_ends_to_the_microsecond(muting: Muting, seconds: int) -> None:
    until = await muting.mute(seconds)
    assert (await muting.member())["muted_until"] == until
    muting.clock.set_forward(seconds - 0.000001)
    assert (await muting.post()).error["details"] == {"muted_until": until}
    before = await muting.events()
    muting.clock.set_forward(0.000001)
    assert "muted_until" not in await muting.member()
    assert await muting.events() == before  # the end is no event
    assert (await muting.post()).status == 201


async def test_each_change_is_one_event_and_no_change_is_none(muting: Muting) -> None:
    socket = await muting.bob.connect()
    seq = 1
    for fields, role, is_muted in (
        ({"muted_for": 60}, "member", True),
        ({"role": "admin"}, "admin", True),
        ({"role": "member", "muted_for": 0}, "member", False),
        ({"role": "admin", "muted_for": 61}, "admin", True),
        ({"muted_for": 0}, "admin", False),
    ):
        seconds = fields.get("muted_for", 60)
        until = encode_time(muting.clock.now_us() + seconds * 1_000_000) if is_muted else None
        reply = await muting.change(**fields)
        seq += 1
        shown = {"user_id": "bob", "role": role, "muted_until": until}
        assert await socket.expect("member.updated") == {
            "type": "member.updated",
            "room_id": muting.room_id,
            "seq": seq,
            **shown,
        }
        assert (reply.data["role"], reply.data.get("muted_until")) == (role, until)
    await muting.change(muted_for=0)
    await muting.change(role="admin")
    await muting.change(role="admin", muted_for=0)
    assert len(await muting.events()) == seq


async def test_an_ended_mute_is_not_ended_again(muting: Muting) -> None:
    await muting.mute(60)
    muting.clock.set_forward(60)
    before = await muting.events()
    await muting.change(muted_for=0)
    assert await muting.events() == before
    await muting.change(role="admin")
    assert (await muting.events())[-1]["muted_until"] is None


async def test_a_mute_outlives_leaving_and_a_restart(start_server: StartServer, muting: Muting) -> None:
    until = await muting.mute()

    async def leave_and_come_back(muting: Muting) -> None:
        assert (await muting.bob.delete(f"{muting.path}/members/bob")).status == 204
        reply = await muting.alice.post(f"{muting.path}/members", {"user_id": "bob"})
        assert reply.data["muted_until"] == (await muting.events())[-1]["muted_until"] == until
        assert (await muting.post()).error["details"] == {"muted_until": until}

    await leave_and_come_back(muting)
    again = Muting(await restart(start_server, muting.server), muting.clock)
    again.room_id = muting.room_id
    await leave_and_come_back(again)
    assert (await again.change(muted_for=0)).status == 200
    assert (await again.post()).status == 201


async def test_a_mute_is_no_matter_of_a_dm(muting: Muting) -> None:
    room_id = await muting.alice.make_room("bob", room_type="dm")
    for fields in ({"muted_for": 60}, {"muted_for": 0}, {"role": "admin", "muted_for": 60}):
        reply = await muting.alice.patch(f"/rooms/{room_id}/members/bob", fields)
        assert (reply.status, reply.error["code"]) == (403, "AUTHORIZATION_ERROR")


async def test_a_mute_of_somebody_who_is_no_member_is_not_found(muting: Muting) -> None:
    assert (await muting.alice.patch(f"{muting.path}/members/nobody", {"muted_for": 60})).status == 404


async def test_messages_and_edits_that_wait_behind_a_mute_are_refused(muting: Muting) -> None:
    edit = {"content": "better"}
    replies = await muting.server.together(
        muting.post(content="before"),
        muting.change(muted_for=MUTE_SECONDS),
        muting.post(content="after"),
        muting.bob.put(f"{muting.path}/messages/{muting.message_id}", edit),
        muting.change(muted_for=0),
        muting.post(content="at last"),
    )
    assert [reply.status for reply in replies] == [201, 200, 403, 403, 200, 201]
    assert [event.get("content") for event in await muting.events()] == ["hello", "before", None, None, "at last"]


async def test_a_known_message_is_answered_to_a_muted_sender(muting: Muting) -> None:
    first = await muting.post(client_message_id="c")
    await muting.mute()
    again, other, new = await muting.server.together(
        muting.post(client_message_id="c"),
        muting.post(client_message_id="c", content="another"),
        muting.post(client_message_id="d"),
    )
    assert (again.status, again.data) == (200, first.data)
    assert (other.status, new.status) == (409, 403)
    await muting.alice.delete(f"{muting.path}/members/bob")
    assert (await muting.post(client_message_id="c")).error.get("details") is None  # membership comes first


async def test_a_room_without_rules_keeps_nothing_in_memory(muting: Muting) -> None:
    tenant = muting.server.services.tenants.all()[0]
    room = muting.server.services.rooms.find_loaded(tenant.tenant_key, muting.room_id)
    assert room is not None
    assert room.rules is None
    await muting.mute(60)
    assert list(room.rules.muted) == ["bob"]
    muting.clock.set_forward(60)
    await muting.alice.patch(f"{muting.path}/members/carol", {"muted_for": 60})
    assert list(room.rules.muted) == ["carol"]


async def test_rows_of_mutes_go_with_their_time_and_with_the_room(muting: Muting) -> None:
    server = muting.server
    await muting.mute(60)
    await muting.alice.patch(f"{muting.path}/members/carol", {"muted_for": 120})
    await purge_ended_rules(server.services)
    assert await count_rows(server) == 2
    muting.clock.set_forward(60)  # a wrong clock: nothing is over before the steady one says so too
    await purge_ended_rules(server.services)
    assert await count_rows(server) == 2
    muting.clock._monotonic_s += 60
    await purge_ended_rules(server.services)
    assert await count_rows(server) == 1
    await muting.alice.delete(muting.path)
    await purge_deleted(server.services)
    assert await count_rows(server) == 0


async def test_rows_of_a_held_tenant_keep_no_others(muting: Muting) -> None:
    """Its guard would have the statement refused for all."""
    server = muting.server
    await muting.mute(60)
    made = await server.make_tenant("moving")
    moving = server.user("alice", made["api_key"])
    room_id = await moving.make_room("bob")
    await moving.patch(f"/rooms/{room_id}/members/bob", {"muted_for": 60})
    tenant = server.services.tenants.get(made["tenant_id"])
    tenant.hold = held("The tenant is on its way to another server")
    writer = server.services.store.writer
    await writer.change(lambda transaction: transaction.run(partial(raise_guard, tenant_key=tenant.tenant_key)))
    muting.clock.advance(60)
    await purge_ended_rules(server.services)
    assert await count_rows(server) == 1
    tenant.hold = None
    await writer.change(lambda transaction: transaction.run(partial(drop_guard, tenant_key=tenant.tenant_key)))
    await purge_ended_rules(server.services)
    assert await count_rows(server) == 0


async def test_many_mutes_are_loaded(
    start_server: StartServer, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatapi.rules.ROWS_PER_STEP", 2)
    names = [f"user{number}" for number in range(5)]
    alice = server.user("alice")
    room_id = await alice.make_room(*names)
    for name in names:
        await alice.patch(f"/rooms/{room_id}/members/{name}", {"muted_for": 60})
    again = await restart(start_server, server)
    replies = [
        await User(again, server.api_key, name).post(f"/rooms/{room_id}/messages", {"content": "x"}) for name in names
    ]
    assert {reply.status for reply in replies} == {403}
