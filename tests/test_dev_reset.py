"""`POST /dev/reset`: nothing of before is left, in the database, in memory or on a socket."""

import asyncio
import dataclasses
import gc
import sqlite3
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from blockbuster import BlockBuster
from conftest import MASTER_KEY, StartServer, make_flags
from dev_program import DevProgram, run_dev_program
from driver import Server, eventually
from raw_websocket import WAIT_SECONDS

from chatapi.app import start_app
from chatapi.config import load_config
from chatapi.dev_clock import DevClock
from chatapi.dev_tools import DevTools

LASTING = {"config", "clock", "dev", "admission"}
"""Services that outlive a reset: settings, the clock that is set back, what hangs on open connections."""
RESET_SECONDS = 0.02
BUSY_MACHINE = 5  # times as long, when other tests run beside this one


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A test server in this process."""
    dev, crashed = DevTools(DevClock(), tmp_path), []
    flags = {**make_flags(tmp_path / "0.db"), "webhooks.allow_private_addresses": True}
    app = await start_app(load_config(None, {}, flags).config, clock=dev.clock, dev=dev, on_crash=crashed.append)
    async with aiohttp.ClientSession() as session:
        server = Server(app, session, MASTER_KEY)
        key = app.services.tenants.dev_key
        assert key is not None
        server.api_key = key
        yield server
        await server.hang_up()
    await app.close()
    assert crashed == []
    assert not len(app.tasks)


async def dev(server: Server, method: str, path: str, body: object = None) -> Any:
    reply = await server.request(method, f"/dev{path}", body, headers={"X-Master-Key": server.master_key})
    assert reply.status < 300, reply
    return reply.body and reply.data


async def live(server: Server) -> None:
    """A bit of everything: rooms, messages, reactions, pins, streams, bans, reports, notifications, webhooks."""
    alice, bob = server.user("alice"), server.user("bob")
    await alice.put("/users/alice", {"name": "Alice"})
    room_id = await alice.make_room("bob", "carol")
    channel_id = await alice.make_room(room_type="channel")
    message = await alice.say(room_id, "hello @bob", mentions=["bob"])
    path = f"/rooms/{room_id}/messages/{message['message_id']}"
    await alice.say(room_id, "a reply", thread_id=message["message_id"])
    await alice.post(f"/rooms/{room_id}/messages", {"content": "so far", "stream": True})
    assert (await bob.put(f"{path}/reactions/%F0%9F%91%8D", {})).status == 200
    assert (await alice.put(f"/rooms/{room_id}/pins/{message['message_id']}", {})).status == 200
    assert (await bob.post(f"{path}/report", {"reason": "spam"})).status == 202
    assert (await alice.put(f"/rooms/{room_id}/bans/carol", {})).status == 200
    assert (await alice.put("/blocks/mallory", {})).status == 200
    assert (await alice.put("/users/eve/ban", {})).status == 200
    assert (await bob.post(f"/rooms/{room_id}/read", {"seq": 1})).status == 200
    assert (await bob.post("/subscriptions", {"topic": "news"})).status == 201
    notification = {"topic": "news", "payload": {}, "targets": {"user_ids": ["bob"]}}
    assert (await alice.post("/notify", notification)).status == 202
    assert (await alice.get(f"/rooms/{channel_id}/messages")).status == 200
    other = await server.make_tenant("other")
    await server.user("zoe", other["api_key"]).make_room("yan")


def read_rows(path: str) -> dict[str, set[Any]]:
    """Of all tables, those that hold a virtual one included."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE '%VIRTUAL%'")
        tables = [name for (name,) in found]
        rows = {table: set(connection.execute(f"SELECT * FROM {table}")) for table in tables}
        return {**rows, "epochs": set(connection.execute("SELECT epoch FROM tenants"))}


def drop_epoch(rows: dict[str, set[Any]]) -> set[Any]:
    """What is stored of the one tenant, but for its epoch."""
    [tenant], [(epoch,)] = rows["tenants"], rows["epochs"]
    return set(tenant) - {epoch}


# What is left


async def test_only_the_printed_tenant_is_left_in_the_database(server: Server) -> None:
    before = read_rows(server.services.store.writer.files.path)
    await live(server)
    extra = await server.admin("POST", "/tenants/tenant_dev/keys")
    lived = read_rows(server.services.store.writer.files.path)
    grown = {table for table in lived if lived[table] > before[table] or len(lived[table]) > len(before[table])}
    assert len(grown) > 15, grown
    await dev(server, "POST", "/reset")
    after = read_rows(server.services.store.writer.files.path)
    assert set(after) == set(before)
    changed = {table for table in after if after[table] != before[table]}
    assert not after["audit"], "acts on what is there no more"
    assert changed <= {"meta", "tenants", "epochs", "audit", "sqlite_sequence"}, {
        table: (before[table], after[table]) for table in changed
    }
    assert drop_epoch(after) == drop_epoch(before)
    await dev(server, "POST", "/reset")
    again = read_rows(server.services.store.writer.files.path)
    assert len(before["epochs"] | after["epochs"] | again["epochs"]) == 3
    assert (await server.user("alice", extra.data["api_key"]).get("/rooms")).status == 401


async def test_nothing_in_memory_is_from_before(server: Server) -> None:
    await live(server)
    services = server.services
    kept = {field.name for field in dataclasses.fields(services)} & LASTING
    assert kept == LASTING
    old = {field.name: getattr(services, field.name) for field in dataclasses.fields(services)}
    await dev(server, "POST", "/reset")
    new = server.services
    assert {name for name, was in old.items() if getattr(new, name) is was} == LASTING - {"config"}
    assert new.config.database.path != services.config.database.path
    # Of the objects that stay, none holds what clients have made.
    assert new.dev is not None
    assert (len(new.dev.inbox), new.dev.inbox._bytes) == (0, 0)
    for names in ("_by_id", "_keys"):
        assert len(getattr(new.tenants, names)) == 1
    assert not new.hub.connections


async def test_the_world_before_is_given_back(server: Server) -> None:
    await live(server)
    old = weakref.ref(server.services.hub), weakref.ref(server.services.rooms)
    before = server.services.config.database.path
    await dev(server, "POST", "/reset")
    await eventually(lambda: not server.app._ending)
    assert not list(Path(before).parent.glob(f"{Path(before).name}*")) or before.endswith("0.db")

    def is_gone() -> bool:
        gc.collect()
        return all(reference() is None for reference in old)

    gc.unfreeze()
    await eventually(is_gone)


async def test_clients_from_before_find_nothing(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    await alice.say(room_id)
    socket, stream = await alice.connect(), await bob.stream()
    synced = (await bob.post("/sync", {})).data
    epoch = synced["epoch"]
    waiting = asyncio.create_task(bob.post("/sync", {"rooms": synced["rooms"], "wait": 30}))
    ticket = (await alice.post("/ws/token")).data["token"]
    await eventually(lambda: len(server.services.hub.connections) == 3)
    await dev(server, "POST", "/clock", {"advance": 3600})
    await dev(server, "POST", "/reset")
    assert await socket.close_code() == 1001
    assert await stream.close_code() == 1001
    assert (await waiting).status in (200, 404)
    assert (await alice.get("/rooms")).data["rooms"] == []
    assert (await alice.get(f"/rooms/{room_id}")).status == 404
    assert (await alice.post("/sync", {})).data["epoch"] != epoch
    assert await (await server.handshake(token=ticket)).close_code() == 4001
    assert (await dev(server, "GET", "/clock"))["advanced"] == 0
    assert (await dev(server, "GET", "/webhooks"))["calls"] == []
    # The same room again, without a trace of the first.
    assert (await alice.say(await alice.make_room("bob")))["seq"] == 1


async def test_the_printed_tenant_is_as_it_was_printed(server: Server) -> None:
    tenants = server.services.tenants
    printed, hook = tenants.get("tenant_dev"), f"{server.url}/dev/hook"
    secrets = printed.token_secret, printed.webhook_secret
    await server.admin("POST", "/tenants/tenant_dev/token-secret")
    await server.admin("POST", "/tenants/tenant_dev/webhook-secret")
    await server.admin("PATCH", "/tenants/tenant_dev", {"name": "changed", "config": {"webhook_url": None}})
    [key] = (await server.admin("GET", "/tenants/tenant_dev/keys")).data["keys"]
    await server.admin("DELETE", f"/tenants/tenant_dev/keys/{key['key_id']}")
    assert (await server.user("alice").get("/rooms")).status == 401
    for _ in range(2):
        await dev(server, "POST", "/reset")
        restored = server.services.tenants.get("tenant_dev")
        assert (restored.token_secret, restored.webhook_secret) == secrets
        assert (restored.name, restored.config) == ("dev", {"webhook_url": hook})
        assert (await server.user("alice").get("/rooms")).status == 200
        await server.admin("DELETE", "/tenants/tenant_dev")


async def test_requests_that_are_under_way_end(server: Server) -> None:
    """They belong to the world before, and are answered, whatever they find there."""
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    reader, writer = await server.open()
    head = f"POST /rooms/{room_id}/messages/stream HTTP/1.1\r\nHost: chat\r\nX-User-Id: alice\r\n"
    writer.write(f"{head}X-API-Key: {server.api_key}\r\nContent-Length: 1000\r\n\r\nbegun".encode())
    await eventually(lambda: len(server.services.rooms.streams))
    sending = [asyncio.create_task(alice.post(f"/rooms/{room_id}/messages", {"content": "x"})) for _ in range(20)]
    await asyncio.sleep(0)
    await dev(server, "POST", "/reset")
    assert {reply.status for reply in await asyncio.gather(*sending)} <= {201, 404, 503}
    await eventually(lambda: not server.app._ending)
    writer.write(b"more")
    async with asyncio.timeout(WAIT_SECONDS):
        assert b" 503 " in await reader.readline()
    assert (await alice.get("/rooms")).data["rooms"] == []


async def test_a_body_that_ends_after_a_reset_changes_nothing(server: Server) -> None:
    """Its tenant is gone, and the next one has the same number in the database."""
    tenant = (await server.admin("POST", "/tenants", {"name": "one"})).data
    body = b'{"type": "group", "members": ["bob"]}'
    head = f"POST /rooms HTTP/1.1\r\nHost: chat\r\nX-User-Id: alice\r\nX-API-Key: {tenant['api_key']}\r\n"
    reader, writer = await server.open()
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[:1])
    await asyncio.sleep(0.05)
    await dev(server, "POST", "/reset")
    key = (await server.admin("POST", "/tenants", {"name": "two"})).data["api_key"]
    await eventually(lambda: not server.app._ending)
    writer.write(body[1:])
    async with asyncio.timeout(WAIT_SECONDS):
        assert b" 503 " in await reader.readline()
    assert (await server.user("alice", key).get("/rooms")).data["rooms"] == []


async def test_resets_that_come_together_are_all_carried_out(server: Server) -> None:
    await server.user("alice").make_room("bob")
    await asyncio.gather(*[dev(server, "POST", "/reset") for _ in range(10)])
    assert (await server.user("alice").get("/rooms")).data["rooms"] == []
    await eventually(lambda: not server.app._ending)
    assert sorted(path.name for path in server.app._dev.scratch.glob("*.db")) == ["10.db", "blank.db"]


async def test_a_client_that_reads_nothing_holds_up_no_reset(start_server: StartServer, blocking: BlockBuster) -> None:
    server = await start_server(dev=True)
    blocking.deactivate()  # a reset is a start, which may wait for files
    await server.user("alice", server.services.tenants.dev_key).connect_raw(ready=True)
    began_s = time.monotonic()
    await dev(server, "POST", "/reset")
    assert time.monotonic() - began_s < WAIT_SECONDS / 4
    assert not server.services.hub.connections


async def test_with_dev_the_developers_own_database_is_emptied(
    start_server: StartServer, blocking: BlockBuster
) -> None:
    server = await start_server(dev=True)
    blocking.deactivate()  # a reset is a start, which may wait for files
    path = server.services.config.database.path
    shell = sqlite3.connect(path)  # of the developer, who has the database open
    assert shell.execute("SELECT count(*) FROM rooms").fetchone() == (0,)
    key = server.services.tenants.dev_key
    alice = server.user("alice", key)
    await server.user("zoe").make_room("yan")  # of another tenant, which the database had before
    room_id = await alice.make_room("bob")
    socket = await alice.connect()
    await dev(server, "POST", "/reset")
    assert await socket.close_code() == 1001
    assert (await alice.get(f"/rooms/{room_id}")).status == 404
    assert (await server.user("zoe").get("/rooms")).status == 401
    assert (await alice.get("/rooms")).data["rooms"] == []
    new_id = await alice.make_room("bob")
    assert shell.execute("SELECT room_id FROM rooms").fetchall() == [(new_id,)]
    shell.close()
    assert {row[1] for row in read_rows(path)["tenants"]} == {"tenant_dev"}
    await server.app.close()
    again = await start_server(dev=True)
    assert again.services.tenants.dev_key == key
    assert [room["room_id"] for room in (await again.user("alice", key).get("/rooms")).data["rooms"]] == [new_id]
    assert not list(Path(path).parent.glob("*.reset*"))


# How long it takes


@pytest.mark.slow
def test_a_reset_after_a_test_takes_less_than_20_ms() -> None:
    with run_dev_program() as program:
        took = sorted(measure_reset(program) for _ in range(10))
    assert took[5] < RESET_SECONDS * BUSY_MACHINE, took


def measure_reset(program: DevProgram) -> float:
    """The seconds that a reset takes after a few rooms and messages."""
    for _ in range(4):
        room_id = program.make_room("bob")
        for number in range(5):
            assert program.user("POST", f"/rooms/{room_id}/messages", {"content": f"message {number}"})[0] == 201
    began_s = time.perf_counter()
    program.reset()
    return time.perf_counter() - began_s
