"""The operator's routes: tenants, their settings, their keys and secrets."""

import hashlib
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from conftest import StartServer
from driver import Reply, Server, Socket

TENANT_FIELDS = {"tenant_id", "name", "config", "created_at"}


async def ended(socket: Socket) -> bool:
    """Whether it was told why, and closed with 4001."""
    error = await socket.expect("error")
    assert error["code"] == "AUTHENTICATION_ERROR"
    return await socket.close_code() == 4001


async def alive(socket: Socket) -> bool:
    await socket.send("ping")
    return bool(await socket.expect("pong"))


# Who may


async def test_only_the_master_key_opens_them(server: Server) -> None:
    tenant = await server.make_tenant()
    token = (await server.user("alice").post("/tokens")).data["token"]
    for headers in (
        {},
        {"X-Master-Key": ""},
        {"X-Master-Key": "wrong"},
        {"X-Master-Key": server.master_key + "x"},
        {"X-Master-Key": server.master_key[:-1]},
        server.user("alice").headers,
        {"Authorization": f"Bearer {token}"},
        {"Authorization": f"Bearer {server.master_key}"},
    ):
        for method, path in (("GET", "/tenants"), ("DELETE", f"/tenants/{tenant['tenant_id']}"), ("POST", "/tenants")):
            reply = await server.request(method, f"/admin{path}", headers=headers)
            assert (reply.status, reply.error["code"]) == (401, "AUTHENTICATION_ERROR")
    assert (await server.request("GET", "/rooms", headers={"X-Master-Key": server.master_key})).status == 401
    assert len((await server.admin("GET", "/tenants")).data["tenants"]) == 2


async def test_without_a_master_key_they_are_closed_to_all(start_server: StartServer) -> None:
    server = await start_server()
    await server.app.close()
    server = await start_server({"auth.master_key": ""})
    for key in ("", "x", server.master_key):
        reply = await server.request("GET", "/admin/tenants", headers={"X-Master-Key": key})
        assert (reply.status, reply.error["code"]) == (401, "AUTHENTICATION_ERROR")
    assert (await server.request("GET", "/admin/tenants")).status == 401
    assert (await server.user("alice").get("/rooms")).status == 200


# Tenants


async def test_a_tenants_life(server: Server) -> None:
    reply = await server.admin("POST", "/tenants", {"name": "Übermut & Co", "config": {"rate_limit": 7}})
    assert reply.status == 201
    made = dict(reply.data)
    assert set(made) == TENANT_FIELDS | {"api_key", "token_secret"}
    assert re.fullmatch(r"tenant_[0-9a-z]+", made["tenant_id"])
    assert re.fullmatch(rf"sk_{made['tenant_id']}_[0-9a-f]{{64}}", made["api_key"])  # 32 bytes
    assert len(made["token_secret"]) >= 43
    path = f"/tenants/{made['tenant_id']}"
    shown = {name: made[name] for name in TENANT_FIELDS}
    assert (await server.admin("GET", path)).data == shown
    listed = (await server.admin("GET", "/tenants")).data
    assert listed["tenants"][-1] == shown
    assert listed["has_more"] is False
    assert (await server.admin("PATCH", path, {"name": "Other"})).data == {**shown, "name": "Other"}
    assert (await server.admin("DELETE", path)).status == 204
    for method in ("GET", "DELETE"):
        assert (await server.admin(method, path)).status == 404
    assert (await server.admin("PATCH", path, {"name": "x"})).status == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "n" * 201}, "name"),
        ({"name": 7}, "name"),
        ({"name": "x", "config": []}, "config"),
        ({"name": "x", "config": {"unknown": 1}}, "config.unknown"),
        ({"name": "x", "config": {"rate_limit": "fast"}}, "config.rate_limit"),
        ({"name": "x", "config": {"rate_limit": 0}}, "config.rate_limit"),
        ({"name": "x", "config": {"rate_limit": True}}, "config.rate_limit"),
        ({"name": "x", "config": {"rate_burst": -1}}, "config.rate_burst"),
        ({"name": "x", "config": {"rate_burst": 1.5}}, "config.rate_burst"),
        ({"name": "x", "config": {"connections_per_user": 0}}, "config.connections_per_user"),
        ({"name": "x", "config": {"max_message_bytes": 0}}, "config.max_message_bytes"),
        ({"name": "x", "config": {"webhook_url": "ftp://example.com"}}, "config.webhook_url"),
        ({"name": "x", "config": {"retention_days": -1}}, "config.retention_days"),
    ],
)
async def test_a_bad_tenant_is_refused(shared_server: Server, body: dict[str, object], field: str) -> None:
    tenant = await shared_server.make_tenant()
    path = f"/tenants/{tenant['tenant_id']}"
    replies = [await shared_server.admin("POST", "/tenants", body)]
    if body:  # an empty PATCH changes nothing
        replies.append(await shared_server.admin("PATCH", path, body))
    for reply in replies:
        assert (reply.status, reply.error["code"], reply.error["field"]) == (400, "VALIDATION_ERROR", field)
    assert (await shared_server.admin("GET", path)).data["config"] == {}


async def test_settings_are_changed_one_by_one(server: Server) -> None:
    tenant = await server.make_tenant("own", rate_limit=5)
    path = f"/tenants/{tenant['tenant_id']}"

    async def patch(**config: object) -> Any:
        return (await server.admin("PATCH", path, {"config": config})).data["config"]

    assert await patch(rate_burst=9) == {"rate_limit": 5, "rate_burst": 9}
    assert await patch(rate_limit=None) == {"rate_burst": 9}
    assert await patch() == {"rate_burst": 9}


async def test_settings_that_are_changed_together_do_not_undo_each_other(server: Server) -> None:
    tenant = await server.make_tenant("own")
    path = f"/tenants/{tenant['tenant_id']}"
    await server.together(
        server.admin("PATCH", path, {"config": {"rate_limit": 5}}),
        server.admin("PATCH", path, {"name": "new"}),
        server.admin("PATCH", path, {"config": {"rate_burst": 9}}),
    )
    shown = (await server.admin("GET", path)).data
    assert (shown["name"], shown["config"]) == ("new", {"rate_limit": 5, "rate_burst": 9})
    assert (await server.user("a", tenant["api_key"]).get("/rooms")).headers["X-RateLimit-Limit"] == "9"


async def test_tenants_are_paged(server: Server) -> None:
    names = [f"tenant-{n}" for n in range(4)]
    for name in names:
        await server.make_tenant(name)
    page = (await server.admin("GET", "/tenants?limit=2&offset=1")).data
    assert ([tenant["name"] for tenant in page["tenants"]], page["has_more"]) == (names[:2], True)
    page = (await server.admin("GET", "/tenants?limit=100&offset=3")).data
    assert ([tenant["name"] for tenant in page["tenants"]], page["has_more"]) == (names[2:], False)
    assert (await server.admin("GET", "/tenants?limit=0")).error["field"] == "limit"


async def test_tenants_and_their_settings_survive_a_restart(start_server: StartServer) -> None:
    server = await start_server()
    tenant = await server.make_tenant("lasting", rate_limit=5, rate_burst=9)
    room_id = await server.user("alice", tenant["api_key"]).make_room()
    key = (await server.admin("POST", f"/tenants/{tenant['tenant_id']}/keys")).data
    shown = (await server.admin("GET", "/tenants")).data
    await server.app.close()
    server = await start_server()
    assert (await server.admin("GET", "/tenants")).data == shown
    for api_key in (tenant["api_key"], key["api_key"]):
        reply = await server.user("alice", api_key).get(f"/rooms/{room_id}")
        assert (reply.status, reply.headers["X-RateLimit-Limit"]) == (200, "9")


async def test_a_deleted_tenant_is_gone_at_once(start_server: StartServer) -> None:
    server = await start_server()
    tenant = await server.make_tenant("doomed")
    alice, bystander = server.user("alice", tenant["api_key"]), server.user("alice")
    room_id = await alice.make_room("bob")
    token = (await alice.post("/tokens")).data["token"]
    doomed = [await alice.connect(), await server.bearer("bob", token).connect()]
    spared = await bystander.connect()
    assert (await server.admin("DELETE", f"/tenants/{tenant['tenant_id']}")).status == 204
    for socket in doomed:
        assert await ended(socket)
    assert await alive(spared)
    await spared.close()

    async def check(server: Server) -> None:
        for user in (server.user("alice", tenant["api_key"]), server.bearer("alice", token)):
            for reply in (await user.get(f"/rooms/{room_id}"), await user.post("/rooms", {"type": "group"})):
                assert (reply.status, reply.error["code"]) == (401, "AUTHENTICATION_ERROR")

    await check(server)
    await server.app.close()
    server = await start_server()
    await check(server)
    assert (await server.user("alice").get("/rooms")).status == 200


async def test_nothing_is_given_to_a_tenant_that_is_being_deleted(server: Server) -> None:
    tenant = await server.make_tenant("doomed")
    path = f"/tenants/{tenant['tenant_id']}"
    replies = await server.together(
        server.admin("DELETE", path),
        server.admin("POST", f"{path}/keys"),
        server.admin("PATCH", path, {"name": "x"}),
        server.admin("POST", f"{path}/webhook-secret"),
        server.admin("POST", f"{path}/token-secret"),
        server.admin("DELETE", path),
    )
    assert [reply.status for reply in replies] == [204, 404, 404, 404, 404, 404]
    assert len((await server.admin("GET", "/tenants")).data["tenants"]) == 1


# Keys


async def keys_of(server: Server, tenant_id: str) -> list[dict[str, Any]]:
    return list((await server.admin("GET", f"/tenants/{tenant_id}/keys")).data["keys"])


async def test_keys_are_rotated_with_no_downtime(server: Server) -> None:
    tenant = await server.make_tenant("rotating")
    path = f"/tenants/{tenant['tenant_id']}/keys"
    [first] = await keys_of(server, tenant["tenant_id"])
    reply = await server.admin("POST", path)
    assert (reply.status, set(reply.data)) == (201, {"key_id", "api_key"})
    old, new = (server.user("alice", key) for key in (tenant["api_key"], reply.data["api_key"]))
    room_id = await old.make_room()
    assert (await new.say(room_id))["seq"] == 1
    token = (await old.post("/tokens")).data["token"]
    by_old, by_new = await old.connect(), await new.connect()
    by_token = await server.bearer("alice", token).connect()
    by_ticket = await server.handshake(token=(await old.post("/ws/token")).data["token"])
    assert (await server.admin("DELETE", f"{path}/{first['key_id']}")).status == 204
    assert await ended(by_old)
    assert await ended(by_ticket)
    assert await alive(by_new)
    assert await alive(by_token)
    assert (await old.get("/rooms")).status == 401
    assert (await new.get("/rooms")).status == 200
    assert (await server.admin("DELETE", f"{path}/{first['key_id']}")).status == 404
    assert [key["key_id"] for key in await keys_of(server, tenant["tenant_id"])] == [reply.data["key_id"]]


async def test_a_revoked_key_stays_revoked(start_server: StartServer) -> None:
    server = await start_server()
    tenant = await server.make_tenant("rotating")
    [key] = await keys_of(server, tenant["tenant_id"])
    await server.admin("DELETE", f"/tenants/{tenant['tenant_id']}/keys/{key['key_id']}")
    await server.app.close()
    server = await start_server()
    assert (await server.user("alice", tenant["api_key"]).get("/rooms")).status == 401
    assert await keys_of(server, tenant["tenant_id"]) == []


async def test_the_list_of_keys_tells_no_secret(start_server: StartServer) -> None:
    server = await start_server()
    tenant = await server.make_tenant("own")
    extra = (await server.admin("POST", f"/tenants/{tenant['tenant_id']}/keys")).data["key_id"]
    await server.user("alice", tenant["api_key"]).get("/rooms")
    await server.services.tenants.write_used_keys()
    used, unused = await keys_of(server, tenant["tenant_id"])
    assert set(used) == {"key_id", "created_at", "last_used_at"}
    assert used["last_used_at"] >= used["created_at"]
    assert (unused["key_id"], unused["last_used_at"]) == (extra, None)
    page = (await server.admin("GET", f"/tenants/{tenant['tenant_id']}/keys?limit=1")).data
    assert (page["keys"], page["has_more"]) == ([used], True)


async def test_secrets_are_shown_once_only(server: Server) -> None:
    tenant = await server.make_tenant("quiet")
    path = f"/tenants/{tenant['tenant_id']}"
    replies: list[Reply] = [
        await server.admin("GET", path),
        await server.admin("GET", "/tenants"),
        await server.admin("GET", f"{path}/keys"),
        await server.admin("PATCH", path, {"name": "x"}),
    ]
    for reply in replies:
        assert tenant["api_key"] not in str(reply.body)
        assert tenant["token_secret"] not in str(reply.body)


async def test_keys_are_stored_as_their_digest_only(server: Server, database: Path) -> None:
    tenant = await server.make_tenant("stored")
    connection = sqlite3.connect(database)
    rows = connection.execute("SELECT key_hash, shown_key FROM api_keys").fetchall()
    connection.close()
    assert (hashlib.sha256(tenant["api_key"].encode()).digest(), None) in rows
    assert all(shown is None for _, shown in rows)
    files = [path.read_bytes() for path in database.parent.iterdir()]
    assert not any(tenant["api_key"].encode() in content for content in files)


async def test_the_dev_tenant_has_one_key_that_is_shown_again(start_server: StartServer) -> None:
    async def start() -> tuple[Server, str]:
        server = await start_server(dev=True)
        key = server.services.tenants.dev_key
        assert key is not None
        assert (await server.user("alice", key).get("/rooms")).status == 200
        return server, key

    server, first = await start()
    await server.app.close()
    server, second = await start()
    assert second == first
    [key] = await keys_of(server, "tenant_dev")
    await server.admin("DELETE", f"/tenants/tenant_dev/keys/{key['key_id']}")
    await server.app.close()
    server, third = await start()
    assert third != first
    assert (await server.user("alice", first).get("/rooms")).status == 401
    await server.app.close()
    _server, fourth = await start()
    assert fourth == third


# Secrets


async def test_a_replaced_token_secret_dies_at_once(server: Server) -> None:
    tenant = await server.make_tenant("careful")
    backend = server.user("alice", tenant["api_key"])
    token = (await backend.post("/tokens")).data["token"]
    alice = server.bearer("alice", token)
    assert (await alice.get("/rooms")).status == 200
    by_token, by_key = await alice.connect(), await backend.connect()
    reply = await server.admin("POST", f"/tenants/{tenant['tenant_id']}/token-secret")
    assert (reply.status, set(reply.data)) == (201, {"token_secret"})
    assert reply.data["token_secret"] != tenant["token_secret"]
    assert await ended(by_token)
    assert await alive(by_key)
    assert (await alice.get("/rooms")).status == 401
    fresh = (await backend.post("/tokens")).data["token"]
    assert (await server.bearer("alice", fresh).get("/rooms")).status == 200


async def test_tenants_that_do_not_exist_are_not_found(server: Server) -> None:
    path = "/tenants/tenant_x"
    for method, suffix, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("DELETE", "", None),
        ("GET", "/keys", None),
        ("POST", "/keys", None),
        ("DELETE", "/keys/key_x", None),
        ("POST", "/token-secret", None),
        ("POST", "/webhook-secret", None),
    ):
        reply = await server.admin(method, path + suffix, body)
        assert (reply.status, reply.error["code"]) == (404, "NOT_FOUND"), (method, suffix)


async def test_a_webhook_secret_is_shown_once(server: Server) -> None:
    """By whatever shows it first: the answer that sets the address, or its own route before that."""
    url = {"config": {"webhook_url": "https://example.com/hook"}}
    plain = await server.make_tenant("plain")
    assert "webhook_secret" not in plain
    path = f"/tenants/{plain['tenant_id']}"
    assert "webhook_secret" not in (await server.admin("PATCH", path, {"config": {"webhook_url": ""}})).data
    first = (await server.admin("PATCH", path, url)).data
    assert first["webhook_secret"].startswith("whsec_")
    for cleared in (None, ""):
        reply = await server.admin("PATCH", path, {"config": {"webhook_url": cleared}})
        assert "webhook_url" not in reply.data["config"]
        assert "webhook_secret" not in reply.data
        assert "webhook_secret" not in (await server.admin("PATCH", path, url)).data
    asked = await server.make_tenant("asked")
    path = f"/tenants/{asked['tenant_id']}"
    assert (await server.admin("POST", f"{path}/webhook-secret")).data["webhook_secret"]
    assert "webhook_secret" not in (await server.admin("PATCH", path, url)).data
    assert "webhook_secret" in await server.make_tenant("set", **url["config"])
    assert "webhook_secret" not in await server.make_tenant("empty", webhook_url="")
