"""Reports: users tell the tenant of a message, once each, and its backend resolves them."""

from typing import Any

import pytest
from conftest import StartServer
from driver import HandClock, Reply, Server, User, eventually, restart
from hooked import QUICK, hook
from receiver import Receiver, answer
from standardwebhooks import Webhook

from chatapi.housekeeping import apply_retention, purge_deleted
from chatapi.models import encode_time


class Reporting:
    """A channel of alice and bob with a message of hers; `key` is the tenant's backend."""

    def __init__(self, server: Server, api_key: str = "") -> None:
        self.server = server
        self.alice, self.bob, self.eve, self.key = (
            server.user(name, api_key or None) for name in ("alice", "bob", "eve", "backend")
        )
        self.room_id = ""
        self.message: dict[str, Any] = {}

    async def set_up(self, room_type: str = "channel") -> "Reporting":
        self.room_id = await self.alice.make_room("bob", room_type=room_type)
        self.message = await self.alice.say(self.room_id, "rude words", meta={"n": 1e22})
        return self

    @property
    def path(self) -> str:
        return f"/rooms/{self.room_id}/messages/{self.message['message_id']}"

    async def report(self, user: User, reason: object = "insults me") -> Reply:
        return await user.post(f"{self.path}/report", {"reason": reason})

    async def reports(self, **query: object) -> list[dict[str, Any]]:
        return list((await self.key.get("/reports", **query)).data["reports"])

    async def resolve(self, report_id: str, user: User | None = None) -> Reply:
        return await (user or self.key).request("POST", f"/reports/{report_id}/resolve")

    async def count_rows(self) -> int:
        return (await self.server.services.store.readers.fetch("SELECT count(*) FROM reports", {}))[0][0]


@pytest.fixture
async def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def reporting(start_server: StartServer, clock: HandClock) -> Reporting:
    return await Reporting(await start_server(clock=clock)).set_up()


async def test_a_report_holds_the_message_as_it_was(reporting: Reporting, clock: HandClock) -> None:
    await reporting.bob.request("PUT", f"{reporting.path}/reactions/x")
    message = (await reporting.bob.get(reporting.path)).data
    reply = await reporting.report(reporting.bob)
    assert (reply.status, list(reply.data)) == (202, ["report_id"])
    await reporting.alice.put(reporting.path, {"content": "kind words"})
    await reporting.alice.delete(reporting.path)
    report = {
        "report_id": reply.data["report_id"],
        "status": "open",
        "room_id": reporting.room_id,
        "user_id": "bob",
        "reason": "insults me",
        "message": message,
        "created_at": encode_time(clock.now_us()),
        "resolved_by": None,
        "resolved_at": None,
    }
    assert await reporting.reports() == [report]
    assert reply.data["report_id"].startswith("report_")
    events = (await reporting.alice.get(f"/rooms/{reporting.room_id}/events")).data["events"]
    assert [event["type"] for event in events] == ["message", "reaction.added", "message.edited", "message.deleted"]


async def test_each_user_reports_a_message_once(reporting: Reporting) -> None:
    first = (await reporting.report(reporting.bob, "one")).data
    again = await reporting.report(reporting.bob, "two")
    assert (again.status, again.data) == (202, first)
    assert (await reporting.report(reporting.alice)).data != first  # one's own message, too
    both = await reporting.server.together(reporting.report(reporting.eve, "a"), reporting.report(reporting.eve, "b"))
    assert both[0].data == both[1].data
    await reporting.resolve(first["report_id"])
    assert (await reporting.report(reporting.bob)).data == first
    assert [report["reason"] for report in await reporting.reports()] == ["a", "insults me"]


async def test_those_who_can_read_a_message_report_it(reporting: Reporting) -> None:
    assert (await reporting.report(reporting.eve)).status == 202  # reads the channel
    await reporting.alice.patch(f"/rooms/{reporting.room_id}/members/bob", {"muted_for": 60})
    assert (await reporting.report(reporting.bob)).status == 202
    carol = reporting.server.user("carol")
    ban, late = await reporting.server.together(
        reporting.alice.put(f"/rooms/{reporting.room_id}/bans/carol", {}), reporting.report(carol)
    )
    assert (ban.status, late.status, late.error["details"]) == (200, 403, {"banned_until": None})
    group = await Reporting(reporting.server).set_up("group")
    assert [(await group.report(user)).status for user in (group.bob, group.eve)] == [202, 403]
    dm = await Reporting(reporting.server).set_up("dm")
    assert (await dm.report(dm.bob)).status == 202


async def test_only_messages_that_are_there_are_reported(reporting: Reporting) -> None:
    await reporting.alice.delete(reporting.path)
    assert (await reporting.report(reporting.bob)).status == 404
    other = await reporting.alice.make_room("bob")
    gone = f"/rooms/{other}/messages/{reporting.message['message_id']}/report"
    for path in (gone, f"/rooms/{reporting.room_id}/messages/msg_x/report", "/rooms/room_x/messages/msg_x/report"):
        assert (await reporting.bob.post(path, {"reason": "x"})).status == 404
    assert await reporting.reports() == []


@pytest.mark.parametrize("reason", ["", "x" * 1001, None, 1])
async def test_a_reason_out_of_bounds_is_refused(reporting: Reporting, reason: object) -> None:
    reply = await reporting.report(reporting.bob, reason)
    assert (reply.status, reply.error["field"]) == (400, "reason")
    assert (await reporting.bob.post(f"{reporting.path}/report", {})).error["field"] == "reason"


@pytest.mark.parametrize("reason", ["x", "ü" * 1000])
async def test_a_reason_at_its_bounds_is_taken(reporting: Reporting, reason: str) -> None:
    await reporting.report(reporting.bob, reason)
    assert [report["reason"] for report in await reporting.reports()] == [reason]


async def test_resolving_moves_a_report_and_may_be_repeated(reporting: Reporting, clock: HandClock) -> None:
    report_id = (await reporting.report(reporting.bob)).data["report_id"]
    [opened] = await reporting.reports(status="open")
    first = await reporting.resolve(report_id)
    resolved = {**opened, "status": "resolved", "resolved_by": "backend", "resolved_at": encode_time(clock.now_us())}
    assert (first.status, first.data) == (200, resolved)
    clock.set_forward(5)
    again = await reporting.resolve(report_id, reporting.alice)
    assert (again.status, again.data) == (200, resolved)
    assert await reporting.reports() == []
    assert await reporting.reports(status="resolved") == [resolved]
    for unknown in ("report_x", "report_0000000000000001", "msg_0000000000000001"):
        assert (await reporting.resolve(unknown)).status == 404
    assert (await reporting.key.get("/reports", status="all")).error["field"] == "status"


async def test_reports_are_for_the_tenants_key_alone(reporting: Reporting) -> None:
    report_id = (await reporting.report(reporting.bob)).data["report_id"]
    token = (await reporting.bob.post("/tokens")).data["token"]
    bob = reporting.server.bearer("bob", token)
    assert (await bob.get("/reports")).status == (await reporting.resolve(report_id, bob)).status == 403
    other = Reporting(reporting.server, (await reporting.server.make_tenant("other"))["api_key"])
    assert await other.reports() == []
    assert (await other.resolve(report_id)).status == 404
    assert (await reporting.report(bob)).status == 202


async def test_reports_are_listed_in_pages_the_newest_first(reporting: Reporting) -> None:
    names = [f"user{number}" for number in range(5)]
    for name in names:
        await reporting.report(reporting.server.user(name), name)
    found: list[str] = []
    page = (await reporting.key.get("/reports", limit=2)).data
    while True:
        found += [report["reason"] for report in page["reports"]]
        if not page["has_more"]:
            break
        page = (await reporting.key.get("/reports", limit=2, cursor=page["next_cursor"])).data
    assert found == names[::-1]
    assert [report["reason"] for report in await reporting.reports(offset=3)] == ["user1", "user0"]


async def test_reports_survive_a_restart_and_go_with_their_room(
    start_server: StartServer, reporting: Reporting
) -> None:
    await reporting.report(reporting.bob)
    before = await reporting.reports()
    again = Reporting(await restart(start_server, reporting.server))
    again.room_id, again.message = reporting.room_id, reporting.message
    assert await again.reports() == before
    await again.alice.delete(f"/rooms/{again.room_id}")
    assert await again.reports() == []
    assert (await again.resolve(before[0]["report_id"])).status == 404
    await purge_deleted(again.server.services)
    assert await again.count_rows() == 0


async def test_retention_takes_reports_along(reporting: Reporting, clock: HandClock) -> None:
    [tenant] = reporting.server.services.tenants.all()
    await reporting.report(reporting.bob)
    clock.advance(2 * 86_400)
    await reporting.server.admin("PATCH", f"/tenants/{tenant.tenant_id}", {"config": {"retention_days": 1}})
    await apply_retention(reporting.server.services, tenant)
    assert await reporting.count_rows() == 0


async def test_the_tenants_webhook_is_told(start_server: StartServer, receiver: Receiver) -> None:
    server = await start_server(QUICK)
    hooked = await hook(server, receiver.url, webhook_events=["message.reported"])
    reporting = await Reporting(server, hooked.api_key).set_up()
    for user in (reporting.alice, reporting.bob):
        await user.connect()  # nobody is offline
    await reporting.report(reporting.eve)
    await reporting.report(reporting.eve)
    calls = await receiver.wait_for(2)  # the message for bob, who was offline then
    [event] = [Webhook(hooked.secret).verify(call.body, call.headers) for call in calls if b"reported" in call.body]
    [report] = await reporting.reports()
    room = {"room_id": reporting.room_id, "type": "channel", "name": None, "metadata": None}
    assert event == {
        "type": "message.reported",
        "timestamp": report["created_at"],
        "data": {"tenant_id": hooked.tenant_id, "event": report, "room": room},
    }
    await hooked.is_settled()
    assert len(receiver.calls) == 2


async def test_a_call_that_fails_for_good_is_a_dead_letter(start_server: StartServer, receiver: Receiver) -> None:
    server = await start_server(QUICK)
    hooked = await hook(server, receiver.url, webhook_events=["message.reported"])
    reporting = await Reporting(server, hooked.api_key).set_up("group")
    await receiver.wait_for(1)
    receiver.behave = answer(410)
    report_id = (await reporting.report(reporting.bob)).data["report_id"]
    await eventually(lambda: server.services.webhooks.dead)
    await hooked.is_settled()
    page = await hooked.dead_letters()
    [dead] = page["failed_events"]
    assert (page["failed_messages"], page["failed_notifications"]) == ([], [])
    assert (dead["event"], dead["report_id"], dead["attempts"]) == ("message.reported", report_id, 1)
    receiver.behave = answer(200)
    assert (await server.admin("POST", f"/dead-letters/{dead['id']}/retry")).status == 202
    await eventually(lambda: server.services.webhooks.delivered == 2)
    assert receiver.calls[-1].webhook_id == receiver.calls[-2].webhook_id == dead["id"]


async def test_no_call_is_made_for_a_room_that_is_gone(start_server: StartServer, receiver: Receiver) -> None:
    server = await start_server({**QUICK, "webhooks.retry_schedule_seconds": [0.2, 0.2]})
    hooked = await hook(server, receiver.url, webhook_events=["message.reported"])
    reporting = Reporting(server, hooked.api_key)
    reporting.room_id = await reporting.alice.make_room()
    reporting.message = await reporting.alice.say(reporting.room_id)
    await reporting.report(reporting.alice)
    await reporting.alice.delete(f"/rooms/{reporting.room_id}")
    await eventually(lambda: server.services.webhooks.dropped)
    assert receiver.calls == []
