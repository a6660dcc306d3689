"""The audit: acts of operators and moderators, each written with the act itself."""

import asyncio
import json
import random
import re
import sqlite3
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from acts import ACTS, NO_ACTS
from conftest import StartServer
from driver import HandClock, Server, User, eventually
from server_process import ServerProcess
from sources import ROOT, read_text

from chatapi.errors import unavailable
from chatapi.housekeeping import expire_audit, purge_deleted
from chatapi.models import TenantKey
from chatapi.protocol.frames import CLIENT_FRAMES
from chatapi.rest import DEV_ROUTES, ROUTES
from chatapi.rest.arrivals import ARRIVAL_ROUTES
from chatapi.store import moves
from chatapi.store.check import check_database


def read_audit(path: str | Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute("SELECT * FROM audit ORDER BY audit_key")]
    return [{**row, "details": row["details"] and json.loads(row["details"])} for row in rows]


async def test_each_act_on_a_tenant_is_in_the_audit_without_secrets(server: Server, database: Path) -> None:
    before = len(read_audit(database))
    tenant = await server.make_tenant()
    tenant_id, path = tenant["tenant_id"], f"/tenants/{tenant['tenant_id']}"
    url = "https://hooks.example.com/in?key=hidden"
    hooked = (await server.admin("PATCH", path, {"name": "other", "config": {"webhook_url": url}})).data
    key = (await server.admin("POST", f"{path}/keys")).data
    await server.admin("DELETE", f"{path}/keys/{key['key_id']}")
    token = (await server.admin("POST", f"{path}/token-secret")).data
    webhook = (await server.admin("POST", f"{path}/webhook-secret")).data
    await server.admin("DELETE", path)
    entries = read_audit(database)[before:]
    assert [(entry["action"], entry["target"], entry["details"]) for entry in entries[1:]] == [
        ("tenant.update", tenant_id, {"changed": ["name", "config.webhook_url"]}),
        ("key.create", key["key_id"], None),
        ("key.revoke", key["key_id"], None),
        ("token_secret.rotate", tenant_id, None),
        ("webhook_secret.rotate", tenant_id, None),
        ("tenant.delete", tenant_id, None),
    ]
    assert (entries[0]["action"], entries[0]["target"]) == ("tenant.create", tenant_id)
    assert entries[0]["details"].keys() == {"key_id"}
    for entry in entries:
        assert (entry["kind"], entry["address"], entry["tenant_id"]) == ("master", "127.0.0.1", tenant_id)
        assert entry["key_id"] is entry["user_id"] is None
    text = repr(entries)
    for secret in (tenant["api_key"], tenant["token_secret"], key["api_key"], token["token_secret"]):
        assert secret not in text
    assert hooked["webhook_secret"] not in text
    assert webhook["webhook_secret"] not in text
    assert "hidden" not in text


async def test_an_act_that_is_refused_or_changes_nothing_is_not_in_the_audit(server: Server, database: Path) -> None:
    tenant = await server.make_tenant()
    path, before = f"/tenants/{tenant['tenant_id']}", len(read_audit(database))
    assert (await server.admin("PATCH", path, {"name": tenant["name"], "config": {}})).status == 200
    assert (await server.admin("PATCH", path, {"config": {"rate_limit": -1}})).status == 400
    assert (await server.admin("DELETE", f"{path}/keys/key_none")).status == 404
    assert (await server.admin("POST", "/tenants/tenant_none/token-secret")).status == 404
    assert (await server.request("DELETE", f"/admin{path}", headers={"X-Master-Key": "wrong"})).status == 401
    assert len(read_audit(database)) == before


async def test_the_address_is_the_clients_behind_a_trusted_proxy(start_server: StartServer, database: Path) -> None:
    server = await start_server({"server.trusted_proxies": ["127.0.0.1"]})
    headers = {"X-Master-Key": server.master_key, "X-Forwarded-For": "203.0.113.9"}
    assert (await server.request("POST", "/admin/tenants", {"name": "x"}, headers=headers)).status == 201
    assert read_audit(database)[-1]["address"] == "203.0.113.9"


async def test_the_audit_only_grows_and_only_its_beginning_goes(server: Server, database: Path) -> None:
    await server.make_tenant()
    await server.make_tenant()
    first, *_, last = [entry["audit_key"] for entry in read_audit(database)]

    def change() -> None:
        with closing(sqlite3.connect(database, isolation_level=None, timeout=60)) as connection:
            for sql in ("UPDATE audit SET user_id = 'x'", f"DELETE FROM audit WHERE audit_key = {last}"):
                with pytest.raises(sqlite3.IntegrityError):
                    connection.execute(sql)
            connection.execute(f"DELETE FROM audit WHERE audit_key = {first}")
            connection.execute("DELETE FROM audit")

    await asyncio.to_thread(change)  # a commit that is under way needs the loop
    await server.make_tenant()
    assert [entry["audit_key"] for entry in read_audit(database)] == [last + 1]


async def test_each_act_of_a_moderator_is_in_the_audit_without_contents(server: Server, database: Path) -> None:
    alice, bob, backend = server.user("alice"), server.user("bob"), server.user("backend")
    room_id = await alice.make_room("bob", "carol", room_type="channel")
    message = await bob.say(room_id, "private words")
    other = await bob.say(room_id, "private words")
    room, before = f"/rooms/{room_id}", len(read_audit(database))
    reported = (await alice.post(f"{room}/messages/{message['message_id']}/report", {"reason": "private"})).data

    async def act() -> None:
        await alice.patch(room, {"name": "private", "slow_mode_seconds": 5, "metadata": {"private": 1}})
        await alice.patch(f"{room}/members/bob", {"role": "admin", "muted_for": 60})
        await alice.patch(f"{room}/members/bob", {"role": "member", "muted_for": 0})
        await alice.post(f"{room}/members", {"user_id": "dan", "role": "admin"})
        await alice.delete(f"{room}/messages/{message['message_id']}")
        await alice.delete(f"{room}/members/carol")
        await alice.put(f"{room}/bans/bob", {"reason": "private"})
        await alice.delete(f"{room}/bans/bob")
        await backend.put("/users/bob/ban", {"reason": "private"})
        await backend.delete("/users/bob/ban")
        await backend.post(f"/reports/{reported['report_id']}/resolve")

    await act()
    socket = await alice.connect()
    await socket.send("message.delete", room_id=room_id, message_id=other["message_id"], request_id="r")
    await socket.answer_to("r")
    await alice.delete(room)
    entries = read_audit(database)[before:]
    where = {"room_id": room_id}
    muted_until = entries[2]["details"].pop("until")
    assert muted_until > "2020"
    message_of_bob = {**where, "user_id": "bob"}
    assert [(entry["action"], entry["target"], entry["details"]) for entry in entries] == [
        ("room.update", room_id, {"changed": ["name", "slow_mode_seconds"]}),
        ("member.role", "bob", {**where, "role": "admin"}),
        ("member.mute", "bob", where),
        ("member.role", "bob", {**where, "role": "member"}),
        ("member.unmute", "bob", where),
        ("member.role", "dan", {**where, "role": "admin"}),
        ("message.delete", message["message_id"], message_of_bob),
        ("member.remove", "carol", where),
        ("room.ban", "bob", {**where, "until": None}),
        ("room.unban", "bob", where),
        ("user.ban", "bob", {"until": None}),
        ("user.unban", "bob", None),
        ("report.resolve", reported["report_id"], where),
        ("message.delete", other["message_id"], message_of_bob),
        ("room.delete", room_id, None),
    ]
    assert {(entry["kind"], entry["address"]) for entry in entries} == {("key", "127.0.0.1")}
    assert all(entry["key_id"].startswith("key_") for entry in entries)
    assert [entry["user_id"] for entry in entries if entry["user_id"] != "alice"] == ["backend"] * 3
    assert "private" not in repr(entries)


async def test_moderation_that_changes_nothing_and_acts_of_users_are_not_in_the_audit(
    server: Server, database: Path
) -> None:
    alice, bob, backend = server.user("alice"), server.user("bob"), server.user("backend")
    room_id = await alice.make_room("bob", "carol", room_type="channel")
    message = await alice.say(room_id)
    room, own = f"/rooms/{room_id}", f"/rooms/{room_id}/messages/{message['message_id']}"
    report = f"/reports/{(await bob.post(f'{own}/report', {'reason': 'x'})).data['report_id']}/resolve"
    for _ in range(2):
        await alice.patch(room, {"name": "x", "metadata": {"n": 1}})
        await alice.put(f"{room}/bans/carol", {})
        await backend.put("/users/eve/ban", {})
        await backend.post(report)
    await alice.patch(room, {"metadata": {"n": 2}})
    await bob.delete(own)  # refused
    assert [(await user.delete(own)).status for user in (bob, alice, alice)] == [403, 204, 204]
    await bob.delete(f"{room}/members/bob")  # leaves
    await bob.delete(f"{room}/bans/carol")  # refused
    await alice.delete(f"{room}/bans/bob")  # is none
    await backend.delete("/users/bob/ban")  # the same
    actions = [entry["action"] for entry in read_audit(database) if entry["user_id"]]
    assert actions == ["room.update", "room.ban", "user.ban", "report.resolve"]


async def test_acts_that_a_hold_refuses_are_not_in_the_audit(server: Server, database: Path) -> None:
    """The guard of a move ends a change at its first statement that writes a row of the tenant."""
    alice, bob, backend = server.user("alice"), server.user("bob"), server.user("backend")
    room_id, other_id = await alice.make_room("bob", "carol", room_type="channel"), await alice.make_room()
    message = await bob.say(room_id)
    room = f"/rooms/{room_id}"
    report = (await bob.post(f"{room}/messages/{message['message_id']}/report", {"reason": "x"})).data["report_id"]
    await alice.put(f"{room}/bans/dan", {})
    await backend.put("/users/eve/ban", {})
    tenant = server.services.tenants.find_by_key(TenantKey(1))
    assert tenant is not None
    before = len(read_audit(database))
    guard = partial(moves.raise_guard, tenant_key=tenant.tenant_key)
    await server.services.store.writer.change(lambda transaction: transaction.run(guard))
    path = f"/tenants/{tenant.tenant_id}"
    [key] = (await server.admin("GET", f"{path}/keys")).data["keys"]
    replies = [
        await alice.patch(room, {"name": "x"}),
        await alice.patch(f"{room}/members/bob", {"role": "admin"}),
        await alice.patch(f"{room}/members/bob", {"muted_for": 60}),
        await alice.post(f"{room}/members", {"user_id": "dora", "role": "admin"}),
        await alice.delete(f"{room}/messages/{message['message_id']}"),
        await alice.delete(f"{room}/members/carol"),
        await alice.put(f"{room}/bans/bob", {}),
        await alice.delete(f"{room}/bans/dan"),
        await alice.delete(f"/rooms/{other_id}"),
        await backend.put("/users/bob/ban", {}),
        await backend.delete("/users/eve/ban"),
        await backend.post(f"/reports/{report}/resolve"),
        await backend.delete("/users/carol"),
        await server.admin("PATCH", path, {"name": "x"}),
        await server.admin("POST", f"{path}/keys"),
        await server.admin("DELETE", f"{path}/keys/{key['key_id']}"),
        await server.admin("POST", f"{path}/token-secret"),
        await server.admin("POST", f"{path}/webhook-secret"),
        await server.admin("DELETE", path),
    ]
    assert [reply.status for reply in replies] == [503] * len(replies)
    assert len(read_audit(database)) == before


async def test_a_user_token_is_named_as_a_user(server: Server, database: Path) -> None:
    token = (await server.user("alice").post("/tokens")).data["token"]
    room_id = await server.user("alice").make_room("bob")
    assert (await server.bearer("alice", token).put(f"/rooms/{room_id}/bans/bob", {})).status == 200
    last = read_audit(database)[-1]
    assert (last["kind"], last["key_id"], last["user_id"]) == ("user", None, "alice")


def note(entry: dict[str, Any]) -> tuple[Any, ...]:
    return entry["action"], entry["target"], (entry["details"] or {}).get("outcome"), entry["kind"]


async def test_data_that_leaves_comes_or_goes_is_in_the_audit(server: Server, database: Path) -> None:
    tenant = await server.make_tenant()
    tenant_id, before = tenant["tenant_id"], len(read_audit(database))
    alice, backend = server.user("alice", tenant["api_key"]), server.user("backend", tenant["api_key"])
    await alice.say(await alice.make_room("bob"), "private words")
    path, master = f"{server.url}/admin/tenants", {"X-Master-Key": server.master_key}
    for method in ("HEAD", "GET"):
        async with server.session.request(method, f"{path}/{tenant_id}/export", headers=master) as response:
            file = await response.read()
        async with server.session.request(
            method, f"{server.url}/users/alice/export", headers=backend.headers
        ) as response:
            assert response.status == 200
            await response.read()
    await eventually_erased(backend, "alice")
    await server.admin("DELETE", f"/tenants/{tenant_id}")
    await purge_deleted(server.services)
    for expected in (201, 409):
        async with server.session.post(f"{path}/import", headers=master, data=file) as response:
            assert response.status == expected
    entries = read_audit(database)[before:]
    assert [note(entry) for entry in entries] == [
        ("tenant.export", tenant_id, None, "master"),
        ("user.export", "alice", None, "key"),
        ("user.erase", "alice", "begun", "key"),
        ("user.erase", "alice", "done", "server"),
        ("tenant.delete", tenant_id, None, "master"),
        ("tenant.import", tenant_id, None, "master"),
    ]
    assert {entry["tenant_id"] for entry in entries} == {tenant_id}
    assert {entry["user_id"] for entry in entries if entry["kind"] == "key"} == {"backend"}
    assert [entry["address"] for entry in entries if entry["kind"] != "server"] == ["127.0.0.1"] * 5


async def eventually_erased(backend: User, user_id: str) -> None:
    async with asyncio.timeout(60):
        while (reply := await backend.delete(f"/users/{user_id}")).status == 202:
            assert reply.data == {"erased": False}
            await asyncio.sleep(0.02)


async def test_an_export_that_cannot_be_recorded_gives_nothing_away(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_arguments: object, **_details: object) -> None:
        raise unavailable("The disk is full")

    monkeypatch.setattr("chatapi.store.audit.record", refuse)
    tenant_id = next(iter(server.services.tenants.all())).tenant_id
    for path, headers in (
        (f"/admin/tenants/{tenant_id}/export", {"X-Master-Key": server.master_key}),
        ("/users/alice/export", server.user("backend").headers),
    ):
        async with server.session.get(server.url + path, headers=headers) as response:
            assert (response.status, (await response.json())["error"]["message"]) == (503, "The disk is full")


# A killed server


ACTED = {
    "bans": ("SELECT user_id FROM user_bans", "user.ban"),
    "deletions": (
        "SELECT printf('msg_%016x', message_key) FROM messages WHERE deleted_at_us IS NOT NULL",
        "message.delete",
    ),
}


def compare_acts_with_audit(path: Path, confirmed: set[str]) -> int:
    """Each act that is stored has its entry, and each entry its act; what was confirmed is among them."""
    entries = read_audit(path)
    targets = {
        action: {entry["target"] for entry in entries if entry["action"] == action}
        for action in ("key.create", "key.revoke", "user.ban", "message.delete", "tenant.create")
    }
    made = {entry["details"]["key_id"] for entry in entries if entry["action"] == "tenant.create"}
    with closing(sqlite3.connect(path)) as connection:
        keys = {key_id for (key_id,) in connection.execute("SELECT key_id FROM api_keys")}
        assert (targets["key.create"] | made) - targets["key.revoke"] == keys
        for sql, action in ACTED.values():
            assert {target for (target,) in connection.execute(sql)} == targets[action]
        # In the same transaction, which has one time.
        times = {
            entry["target"]: entry["at_us"] for entry in entries if entry["action"] in ("key.create", "message.delete")
        }
        made_at = connection.execute("SELECT key_id, created_at_us FROM api_keys").fetchall()
        made_at += connection.execute(
            "SELECT printf('msg_%016x', message_key), deleted_at_us FROM messages WHERE deleted_at_us IS NOT NULL"
        ).fetchall()
        assert all(times[target] == at_us for target, at_us in made_at if target not in made)
    assert confirmed <= {f"{entry['action']} {entry['target']}" for entry in entries}
    return len(entries)


@pytest.mark.slow
async def test_acts_and_their_entries_survive_kills_together(tmp_path: Path) -> None:
    confirmed: set[str] = set()
    server = ServerProcess(tmp_path, dev=False)
    await asyncio.to_thread(server.start)
    try:
        tenant = await asyncio.to_thread(server.make_tenant, "acme")
        headers = {"X-API-Key": tenant["api_key"], "X-User-Id": "alice"}
        keys = f"{server.url}/admin/tenants/{tenant['tenant_id']}/keys"
        made = await asyncio.to_thread(
            server.call, "POST", "/rooms", {"type": "group", "members": ["bob"]}, key=tenant["api_key"], user="alice"
        )
        messages = f"{server.url}/rooms/{made['room_id']}/messages"

        async def call(session: aiohttp.ClientSession, method: str, url: str, **options: Any) -> Any:
            async with session.request(method, url, **options) as answer:
                assert answer.status in (200, 201, 204), await answer.text()
                return None if answer.status == 204 else (await answer.json())["data"]

        async def rotate_keys(session: aiohttp.ClientSession) -> None:
            master = {"X-Master-Key": server.master_key}
            while True:
                key_id = (await call(session, "POST", keys, headers=master))["key_id"]
                confirmed.add(f"key.create {key_id}")
                await call(session, "DELETE", f"{keys}/{key_id}", headers=master)
                confirmed.add(f"key.revoke {key_id}")

        async def ban(session: aiohttp.ClientSession) -> None:
            while True:
                user_id = f"user-{random.randrange(1 << 40)}"
                await call(session, "PUT", f"{server.url}/users/{user_id}/ban", json={}, headers=headers)
                confirmed.add(f"user.ban {user_id}")

        async def delete(session: aiohttp.ClientSession) -> None:
            as_bob = {**headers, "X-User-Id": "bob"}
            while True:
                said = await call(session, "POST", messages, json={"content": "x"}, headers=as_bob)
                await call(session, "DELETE", f"{messages}/{said['message_id']}", headers=headers)
                confirmed.add(f"message.delete {said['message_id']}")

        for _ in range(4):
            enough = len(confirmed) + 40
            async with aiohttp.ClientSession() as session:
                acting = [asyncio.ensure_future(act(session)) for act in (rotate_keys, ban, delete) for _ in range(3)]
                await eventually(lambda enough=enough: len(confirmed) > enough)
                await asyncio.to_thread(server.kill)
                outcomes = await asyncio.gather(*acting, return_exceptions=True)
            assert all(isinstance(outcome, (aiohttp.ClientError, ConnectionError)) for outcome in outcomes), outcomes
            await asyncio.to_thread(compare_acts_with_audit, tmp_path / "chatapi.db", confirmed)
            report = await asyncio.to_thread(check_database, str(tmp_path / "chatapi.db"))
            assert report.findings == []
            await asyncio.to_thread(server.start)
        await asyncio.to_thread(server.stop)
    finally:
        with suppress(AssertionError):
            server.kill()


# Which acts


def test_each_route_and_frame_is_in_the_table_of_acts() -> None:
    routes = {f"{route.method} {route.path}" for route in (*ROUTES, *DEV_ROUTES, *ARRIVAL_ROUTES)}
    acting = {route for route in routes if not route.startswith("GET ") or route.endswith("/export")}
    assert {*ACTS, *NO_ACTS} == acting | {f"FRAME {name}" for name in CLIENT_FRAMES}
    assert not set(ACTS) & set(NO_ACTS)


def test_the_table_has_the_actions_of_the_code_and_of_the_document() -> None:
    named = {action for actions in ACTS.values() for action in actions}
    found: set[str] = set()
    for path in (ROOT / "chatapi").rglob("*.py"):
        for call in re.findall(r"(?:audit\.record|self\._record)\((.*?)\n", read_text(path).replace("(\n", "(")):
            found.update(re.findall(r'"(\w+\.\w+)"', call))
    assert found == named
    section = read_text(ROOT / "docs/operations.md").partition("\n## Audit\n")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+\.\w+)`", section, re.M)
    assert sorted(documented) == sorted(named)


# Reading it


async def read_all(server: Server, **query: object) -> list[dict[str, Any]]:
    """Page by page."""
    entries: list[dict[str, Any]] = []
    while True:
        after = {"after": entries[-1]["id"]} if entries else {}
        params = {"limit": "2", **{name: str(value) for name, value in query.items()}, **after}
        page = (await server.admin("GET", "/audit", params=params)).data
        assert len(page["entries"]) == 2 or not page["has_more"]
        entries += page["entries"]
        if not page["has_more"]:
            return entries


async def test_the_audit_is_read_page_by_page_also_of_a_deleted_tenant(server: Server) -> None:
    first, second = await server.make_tenant(), await server.make_tenant()
    for tenant in (first, second, first):
        await server.admin("POST", f"/tenants/{tenant['tenant_id']}/token-secret")
    await server.admin("DELETE", f"/tenants/{first['tenant_id']}")
    await purge_deleted(server.services)
    entries = await read_all(server, tenant_id=first["tenant_id"])
    rotated = "token_secret.rotate"
    assert [entry["action"] for entry in entries] == ["tenant.create", rotated, rotated, "tenant.delete"]
    assert entries[1] == {
        "id": entries[1]["id"],
        "at": entries[1]["at"],
        "actor": {"kind": "master"},
        "address": "127.0.0.1",
        "action": rotated,
        "tenant_id": first["tenant_id"],
        "target": first["tenant_id"],
    }
    everything = [entry["id"] for entry in await read_all(server)]
    assert everything == sorted(set(everything))
    assert {entry["id"] for entry in entries} < set(everything)
    assert await read_all(server, tenant_id="tenant_none") == []
    for name, value in (("after", "audit_1"), ("after", "x"), ("limit", "0"), ("limit", "101")):
        reply = await server.admin("GET", "/audit", params={name: value})
        assert (reply.status, reply.error["field"]) == (400, name)
    assert (await server.admin("GET", "/audit", params={"after": "audit_00000000000fffff"})).data["entries"] == []


async def test_entries_expire_from_the_beginning_after_their_days(start_server: StartServer, database: Path) -> None:
    clock = HandClock()
    server = await start_server({"audit.days": 2}, clock=clock)
    for _ in range(60):
        await server.admin("POST", "/tenants", {"name": "x"})
    clock.advance(1.5 * 86_400)
    late = await server.make_tenant()
    await expire_audit(server.services)
    count = len(read_audit(database))
    assert count >= 61
    clock.advance(86_400)
    await expire_audit(server.services)
    assert [entry["target"] for entry in read_audit(database)] == [late["tenant_id"]]
    await server.make_tenant()
    assert read_audit(database)[-1]["audit_key"] == read_audit(database)[0]["audit_key"] + 1
