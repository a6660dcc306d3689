"""What is done in the background: bounded steps, in turns, none of which keeps another job or a tenant waiting."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from conftest import StartServer
from driver import Gate, HandClock, Server, eventually, say_many, seqs

from chatapi import housekeeping, rooms
from chatapi.errors import unavailable
from chatapi.housekeeping import Retention, apply_retention, find_limit, purge_deleted, purge_old_notifications
from chatapi.models import SERVER_ACTOR, TenantState
from chatapi.store import background, handover, purge

DAY_SECONDS = 86_400
DAY_US = DAY_SECONDS * 1_000_000


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """No job runs by itself."""
    monkeypatch.setattr(housekeeping, "list_jobs", lambda _services: [])


async def count(server: Server, table: str, where: str = "1") -> int:
    rows = await server.services.store.readers.fetch(f"SELECT count(*) FROM {table} WHERE {where}", {})
    return int(rows[0][0])


async def fill(server: Server, tenant: TenantState, *, rooms: int, messages: int, age_days: float = 90) -> None:
    """Old rooms with two members and some messages each, all of one transaction."""
    at_us = server.services.clock.now_us() - int(age_days * DAY_US)
    first_key = server.services.store.writer.next_key()

    def insert(connection: Any) -> None:
        start = connection.execute("SELECT coalesce(max(room_key), 0) + 1 FROM rooms").fetchone()[0]
        for number in range(rooms):
            key = start + number
            connection.execute(
                "INSERT INTO rooms (room_key, tenant_key, room_id, type, created_by, created_at_us, updated_at_us)"
                " VALUES (?, ?, ?, 'group', 'a', ?, ?)",
                (key, tenant.tenant_key, f"room_{tenant.tenant_key:08x}{number:016x}", at_us, at_us),
            )
            for user_id in ("a", "b"):
                connection.execute(
                    "INSERT INTO members (room_key, user_id, tenant_key, role, joined_at_us)"
                    " VALUES (?, ?, ?, 'admin', ?)",
                    (key, user_id, tenant.tenant_key, at_us),
                )
            for seq in range(1, messages + 1):
                connection.execute(
                    "INSERT INTO messages (message_key, room_key, seq, sender_id, content, created_at_us)"
                    " VALUES (?, ?, ?, 'a', 'x', ?)",
                    (first_key + ((number * messages + seq) << 12), key, seq, at_us),
                )

    await server.services.store.writer.change(lambda transaction: transaction.run(insert))


async def make_tenant(server: Server, name: str, **config: object) -> tuple[TenantState, Any]:
    made = await server.make_tenant(name, **config)
    return server.services.tenants.get(made["tenant_id"]), made


# What was deleted


async def test_a_tenant_is_deleted_with_one_row_and_purged_many_rooms_at_a_time(
    by_hand: None, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    big, _ = await make_tenant(server, "big")
    await fill(server, big, rooms=200, messages=1)
    store = server.services.store
    before = store._connection.total_changes
    assert (await server.admin("DELETE", f"/tenants/{big.tenant_id}")).status == 204
    assert store._connection.total_changes - before <= 2  # however many rooms it has
    chunks: list[bool] = []
    purge_some = purge._purge_some
    monkeypatch.setattr(purge, "_purge_some", lambda *given: chunks.append(True) or purge_some(*given))
    await purge_deleted(server.services)
    assert await count(server, "rooms", f"tenant_key = {big.tenant_key}") == 0
    for table in ("messages", "members", "changes"):
        assert await count(server, table, "room_key NOT IN (SELECT room_key FROM rooms)") == 0
    assert await count(server, "tenants", f"tenant_key = {big.tenant_key}") == 0
    assert await count(server, "api_keys", f"tenant_key = {big.tenant_key}") == 0
    assert len(chunks) < 50  # for 1,000 rows


@pytest.mark.parametrize("rooms", [0, 1, purge.CHUNK_ROWS - 1, purge.CHUNK_ROWS, purge.CHUNK_ROWS + 1])
async def test_a_deleted_tenant_is_purged_however_many_rooms_it_has(server: Server, by_hand: None, rooms: int) -> None:
    small, _ = await make_tenant(server, "small")
    await fill(server, small, rooms=rooms, messages=1)
    await server.admin("DELETE", f"/tenants/{small.tenant_id}")
    await purge_deleted(server.services)
    for table in ("tenants", "api_keys", "rooms"):
        assert await count(server, table, f"tenant_key = {small.tenant_key}") == 0
    assert await count(server, "messages") == 0


async def test_the_purge_rests_while_a_tenant_arrives(server: Server, by_hand: None) -> None:
    arrivals = server.services.arrivals
    schema = await handover.get_version(server.services.store.readers)
    names = ("tenant_of_another_server", "another server", "its process")
    arriving = await arrivals.begin(SERVER_ACTOR, *names, schema, now_us=0)
    await arrivals.take_rows(*arriving, [], is_copy=True)
    small, _ = await make_tenant(server, "small")
    await fill(server, small, rooms=1, messages=1)
    await server.admin("DELETE", f"/tenants/{small.tenant_id}")
    await purge_deleted(server.services)
    assert await count(server, "messages") == 1
    await arrivals.abort(*arriving)
    await purge_deleted(server.services)
    assert await count(server, "messages") == 0


async def test_rooms_of_a_deleted_tenant_are_not_loaded_again(server: Server, by_hand: None) -> None:
    big, _ = await make_tenant(server, "big")
    await fill(server, big, rooms=1, messages=1)
    await server.admin("DELETE", f"/tenants/{big.tenant_id}")
    room_id = f"room_{big.tenant_key:08x}{0:016x}"
    await server.services.rooms.load_many(big, [room_id])  # by somebody who held the tenant already
    assert server.services.rooms.find_loaded(big.tenant_key, room_id) is None


async def test_purge_goes_on_after_a_restart(start_server: StartServer, by_hand: None) -> None:
    server = await start_server()
    big, _ = await make_tenant(server, "big")
    await fill(server, big, rooms=100, messages=5)
    await server.admin("DELETE", f"/tenants/{big.tenant_id}")
    for _ in range(3):
        await server.services.store.writer.step(lambda connection, _: purge._purge_some(connection))
    left = await count(server, "messages")
    assert 0 < left < 500
    await server.app.close()
    server = await start_server()
    assert await count(server, "messages") == left
    await purge_deleted(server.services)
    assert await count(server, "rooms", f"tenant_key = {big.tenant_key}") == 0


# Retention


async def test_old_events_go_and_the_log_begins_after_them(server: Server, by_hand: None) -> None:
    tenant, made = await make_tenant(server, "old", retention_days=30)
    await fill(server, tenant, rooms=3, messages=120)
    await fill_young(server, tenant)
    await apply_retention(server.services, tenant)
    assert await count(server, "messages") == 3
    rows = await server.services.store.readers.fetch("SELECT DISTINCT pruned_seq FROM rooms WHERE pruned_seq > 0", {})
    assert rows == [(120,)]
    a = server.user("a", made["api_key"])
    [room, *_] = (await a.get("/rooms")).data["rooms"]
    assert room["last_seq"] == 121
    assert [m["seq"] for m in (await a.get(f"/rooms/{room['room_id']}/messages")).data["messages"]] == [121]


async def fill_young(server: Server, tenant: TenantState) -> None:
    """A message of today at the end of each room's log."""
    now_us, first_key = server.services.clock.now_us(), server.services.store.writer.next_key()

    def insert(connection: Any) -> None:
        connection.execute(
            "INSERT INTO messages (message_key, room_key, seq, sender_id, content, created_at_us)"
            " SELECT ? + (room_key << 40), room_key, 121, 'a', 'young', ? FROM rooms WHERE tenant_key = ?",
            (first_key, now_us, tenant.tenant_key),
        )

    await server.services.store.writer.change(lambda transaction: transaction.run(insert))


@pytest.mark.slow
async def test_search_blocks_go_with_their_events(server: Server, by_hand: None) -> None:
    tenant, _ = await make_tenant(server, "acme", retention_days=30)
    await fill(server, tenant, rooms=1, messages=2_100)
    await server.services.indexer.update()
    assert await count(server, "search_blocks") == 3
    await apply_retention(server.services, tenant)
    assert await count(server, "messages") == 0
    rows = await server.services.store.readers.fetch("SELECT number FROM search_blocks", {})
    assert rows == [(2,)]  # in which the next event is


async def test_a_tenant_with_much_to_remove_keeps_no_other_waiting(
    server: Server, by_hand: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "TURN_STEPS", 1)
    monkeypatch.setattr(background, "STEP_SECONDS", 0)
    monkeypatch.setattr(background, "IDLE_STEP_SECONDS", 0)
    big, _ = await make_tenant(server, "big", retention_days=30)
    small, _ = await make_tenant(server, "small", retention_days=30)
    await fill(server, big, rooms=6, messages=150)
    await fill(server, small, rooms=1, messages=1)
    of_small = f"room_key IN (SELECT room_key FROM rooms WHERE tenant_key = {small.tenant_key})"
    left_of_big = []
    work = asyncio.ensure_future(Retention(server.services).take_round())
    while await count(server, "messages", of_small):
        left_of_big.append(await count(server, "messages"))
    assert left_of_big[-1] > 450
    await work
    assert await count(server, "messages") == 0


async def test_a_tenant_whose_rooms_cannot_be_read_stops_no_other(
    server: Server, by_hand: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, _ = await make_tenant(server, "bad", retention_days=30)
    good, _ = await make_tenant(server, "good", retention_days=30)
    await fill(server, good, rooms=1, messages=1)
    list_rooms = purge.list_rooms

    async def refuse(readers: Any, tenant_key: Any, *rest: Any) -> Any:
        if tenant_key == bad.tenant_key:
            raise unavailable("The database cannot be read")
        return await list_rooms(readers, tenant_key, *rest)

    monkeypatch.setattr(purge, "list_rooms", refuse)
    with pytest.raises(type(unavailable("")), match="cannot be read"):
        await Retention(server.services).take_round()
    assert await count(server, "messages") == 0


async def test_old_notifications_go_with_their_recipients(
    start_server: StartServer, by_hand: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "CHUNK_ROWS", 4)
    clock = HandClock()
    server = await start_server(clock=clock)
    tenant, made = await make_tenant(server, "old", retention_days=30)
    _, other = await make_tenant(server, "forever")
    clock.set_forward(-31 * DAY_SECONDS)
    body = {"topic": "t", "payload": 1, "targets": {"user_ids": [f"u{n}" for n in range(10)]}}
    for key in (made["api_key"], other["api_key"]):
        for _ in range(3):
            await server.user("app", key).post("/notify", body)
    clock.set_forward(31 * DAY_SECONDS)
    await server.user("app", made["api_key"]).post("/notify", body)
    await purge_old_notifications(server.services)
    for table, left in (("notifications", 1), ("notification_recipients", 10)):
        assert await count(server, table, f"tenant_key = {tenant.tenant_key}") == left
        assert await count(server, table, f"tenant_key <> {tenant.tenant_key}") == 3 * left


async def test_a_clock_that_is_wrong_for_a_while_removes_nothing(start_server: StartServer, by_hand: None) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    tenant, _ = await make_tenant(server, "old", retention_days=30)
    limit_us = find_limit(server.services, tenant)
    clock.set_forward(400 * DAY_SECONDS)
    assert find_limit(server.services, tenant) == limit_us
    clock.set_forward(-401 * DAY_SECONDS)
    assert find_limit(server.services, tenant) == limit_us - DAY_US


# The jobs


async def test_no_job_keeps_another_waiting_or_stops_it(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[str] = []

    async def hang() -> None:
        await asyncio.Event().wait()

    async def fail() -> None:
        ran.append("failing")
        raise unavailable("The database cannot be read")

    async def work() -> None:
        ran.append("working")

    jobs = [
        housekeeping.Job("hanging", 0.0, hang),
        housekeeping.Job("failing", 0.0, fail),
        housekeeping.Job("working", 0.0, work),
    ]
    monkeypatch.setattr(housekeeping, "list_jobs", lambda _services: jobs)
    await start_server()
    await eventually(lambda: ran.count("failing") >= 3 and ran.count("working") >= 3)
    assert caplog.text.count("housekeeping has to wait: The database cannot be read") == 1


async def test_every_job_has_its_turn_within_a_minute(server: Server) -> None:
    jobs = housekeeping.list_jobs(server.services)
    assert len({job.name for job in jobs}) == len(jobs) >= 7
    assert all(job.pause_seconds <= 30 for job in jobs)
    # Rounds that could take longer end by themselves.
    assert housekeeping.ROUND_SECONDS + max(job.pause_seconds for job in jobs if "retention" in job.name) <= 90


async def test_retention_reaches_a_room_that_is_being_loaded(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was read before and kept after, so that its beginning was looked for and not found, over and over."""
    clock = HandClock()
    server = await start_server(clock=clock)
    room_id = await server.user("alice").make_room("bob")
    await say_many(server.user("alice"), room_id, 250)
    clock.advance(2 * 86_400)
    await say_many(server.user("alice"), room_id, 150)
    await server.app.close()
    server = await start_server(clock=clock)
    [tenant] = server.services.tenants.all()
    tenant.settings = replace(tenant.settings, retention_days=1)
    gate = Gate(rooms.store_rooms.load_members)
    monkeypatch.setattr(rooms.store_rooms, "load_members", gate)
    connecting = asyncio.ensure_future(server.user("bob").connect(ready=False))
    await gate.arrived.wait()
    await apply_retention(server.services, tenant)
    gate.open()
    bob = await connecting
    frames = await bob.collect("sync.complete")
    gap = next(frame for frame in frames if frame["type"] == "sync.gap")
    assert (gap["from_seq"], gap["to_seq"]) == (1, 250)
    assert seqs(frames, room_id) == list(range(251, 401))


async def test_retention_shows_nothing_new_to_a_member_removed_while_behind(start_server: StartServer) -> None:
    """The cursor was moved past the member's own leaving, and what came after was counted from there."""
    clock = HandClock()
    server = await start_server(clock=clock)
    alice, bob = server.user("alice"), server.user("bob")
    clock.set_forward(-2 * 86_400)  # two days ago
    room_id = await alice.make_room("bob")
    behind = await bob.connect(sync="none", ready=False)
    await behind.expect("ready")
    await alice.delete(f"/rooms/{room_id}/members/bob")
    for _ in range(5):
        await alice.say(room_id, "secret")
    clock.set_forward(2 * 86_400)
    for _ in range(20):
        await alice.say(room_id, "secret")
    [tenant] = server.services.tenants.all()
    tenant.settings = replace(tenant.settings, retention_days=1)
    await apply_retention(server.services, tenant)
    await behind.send("sync", rooms={})
    frames = await behind.collect("sync.complete")
    assert [(frame["type"], frame["from_seq"], frame["to_seq"]) for frame in frames] == [("sync.gap", 1, 1)]
