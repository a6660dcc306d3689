"""Erasing all that is stored of one user."""

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import StartServer
from driver import HandClock, Server, User, restart
from examples import example
from hooked import QUICK, hook
from receiver import Receiver, answer

from chatapi.cli import main
from chatapi.housekeeping import purge_old_notifications
from chatapi.store import erasures
from chatapi.store.user_check import check_user, read_texts

SECRET = "Zyzzyva7731"
ANSWER_A_REQUEST = example("docs/operations.md", "sh", "AS=(")
CHECK_THEM = example("docs/operations.md", "sh", "check --user").removeprefix("runuser -u chatapi -- ")


async def read_events(user: User, room_id: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = (await user.get(f"/rooms/{room_id}/events", after_seq=0, limit=100)).data["events"]
    return events


async def test_all_of_a_user_goes_and_each_step_is_an_event(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasures, "WINDOW", 3)
    monkeypatch.setattr(erasures, "ROOMS_PER_PAGE", 2)
    alice, bob, backend = (server.user(name) for name in ("alice", "bob", "backend"))
    room_id, left_id = await alice.make_room("bob"), await bob.make_room("alice")
    dm_id = (await alice.post("/rooms", {"type": "dm", "members": ["bob"]})).data["room_id"]
    messages = f"/rooms/{room_id}/messages"
    draft = {"content": SECRET, "meta": {"k": SECRET}, "client_message_id": "c-1"}
    mine = (await alice.post(messages, draft)).data
    gone = (await alice.post(messages, {"content": "x", "client_message_id": "c-2"})).data
    await alice.delete(f"{messages}/{gone['message_id']}")
    theirs = (await bob.post(messages, {"content": "theirs"})).data
    await alice.put(f"{messages}/{theirs['message_id']}/reactions/%F0%9F%91%8D", {})
    await bob.put(f"{messages}/{theirs['message_id']}/reactions/%F0%9F%91%8D", {})
    await bob.post(f"{messages}/{mine['message_id']}/report", {"reason": f"they wrote {SECRET}"})
    await alice.post(f"{messages}/{theirs['message_id']}/report", {"reason": SECRET})
    stream = (await alice.post(messages, {"content": "", "stream": True})).data
    await alice.post(f"{messages}/{stream['message_id']}/append", {"index": 1, "text": SECRET})
    await alice.post(f"/rooms/{left_id}/messages", {"content": SECRET})
    await alice.delete(f"/rooms/{left_id}/members/alice")
    await alice.post(f"/rooms/{dm_id}/messages", {"content": SECRET})
    await alice.put("/users/alice", {"name": SECRET})
    await alice.request("PUT", "/blocks/eve")
    await alice.post("/subscriptions", {"topic": "news"})
    target = {"user_ids": ["alice"]}
    await backend.post("/notify", {"topic": "news", "payload": {"a": SECRET}, "targets": target})
    await server.erase("alice")
    events = await read_events(bob, room_id)
    steps = [event["type"] for event in events if event["seq"] > stream["seq"]]
    assert steps[:2] == ["member.left", "member.updated"]
    assert sorted(steps[2:]) == ["message.deleted", "message.deleted", "reaction.removed"]
    assert [(event["user_id"], event["role"]) for event in events if event["type"] == "member.updated"] == [
        ("bob", "admin")
    ]
    assert SECRET not in str([await read_events(bob, room) for room in (room_id, left_id, dm_id)])
    shown = (await bob.get(f"{messages}/{theirs['message_id']}")).data
    assert shown["reactions"] == [{"emoji": "👍", "count": 1, "user_ids": ["bob"]}]
    reports = (await backend.get("/reports")).data["reports"]
    assert [report["reason"] for report in reports] == ["", ""]
    assert SECRET not in str(reports)
    members = (await bob.get(f"/rooms/{dm_id}/members")).data["members"]
    assert [member["user_id"] for member in members] == ["alice", "bob"]
    kinds = {json.loads(line)["type"] for line in str((await backend.get("/users/alice/export")).body).splitlines()}
    assert kinds == {"user", "membership", "message", "report", "room", "end"}
    again = (await backend.delete("/users/alice")).data
    assert again == {"erased": True}
    await bob.post(f"/rooms/{room_id}/members", {"user_id": "alice"})
    assert (await alice.post(messages, {**draft, "content": "new"})).status == 201
    assert (await alice.post(messages, {"content": "new", "client_message_id": "c-2"})).status == 201
    await server.erase("alice")
    assert SECRET not in str(await read_events(bob, room_id))


async def test_a_slow_writer_erases_one_message_at_a_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatapi.chat.ERASE_SECONDS", 0.0)
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    for number in range(5):
        await alice.say(room_id, f"{SECRET} {number}")
        await bob.say(room_id, "theirs")
    await server.erase("alice")
    events = await read_events(bob, room_id)
    assert SECRET not in str(events)
    assert [event["type"] for event in events].count("message.deleted") == 5


async def test_an_unknown_user_is_erased_at_once(shared_server: Server) -> None:
    backend = shared_server.user("backend")
    for _ in range(2):
        reply = await backend.delete("/users/nobody")
        assert (reply.status, reply.data) == (200, {"erased": True})
    assert (await backend.delete("/users/a%20b")).error["field"] == "user_id"


async def test_dead_letters_alone_make_a_user_known(start_server: StartServer, receiver: Receiver) -> None:
    """Those of a notification that retention has removed, and again for a user who was erased before."""
    clock = HandClock()
    server = await start_server({**QUICK, "webhooks.retry_schedule_seconds": [0]}, clock=clock)
    hooked = await hook(server, receiver.url, retention_days=1)
    receiver.behave = answer(500)
    backend = hooked.user("backend")
    for _ in range(2):
        for user_id in ("ghost", "other"):
            await backend.post("/notify", {"topic": "t", "payload": 1, "targets": {"user_ids": [user_id]}})
        await hooked.is_settled()
        clock.advance(2 * 86_400.0)
        await purge_old_notifications(server.services)
        assert {letter["user_id"] for letter in (await hooked.dead_letters())["failed_notifications"]} >= {"ghost"}
        await server.erase("ghost", hooked.api_key)
        assert {letter["user_id"] for letter in (await hooked.dead_letters())["failed_notifications"]} == {"other"}


async def test_an_unknown_user_waits_for_no_other_erasure(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor for a walk through the tenant's rooms: one that reads or writes anything shows in `_erase_all`."""
    server = await start_server()
    bob, backend = server.user("bob"), server.user("backend")
    room_id = await bob.make_room("left", room_type="channel")
    await server.user("left").delete(f"/rooms/{room_id}/members/left")
    message = await bob.say(room_id, "x")
    report = f"/rooms/{room_id}/messages/{message['message_id']}/report"
    assert (await server.user("reader").post(report, {"reason": SECRET})).status == 202
    socket = await server.user("online").connect()
    monkeypatch.setattr("chatapi.erasures.ANSWER_SECONDS", 0.01)
    monkeypatch.setattr("chatapi.erasures.Erasures._erase_all", lambda *_: asyncio.Event().wait())
    for known in ("bob", "left", "reader", "online"):
        assert (await backend.delete(f"/users/{known}")).status == 202, known
    assert await socket.close_code() == 4001
    monkeypatch.setattr("chatapi.erasures.MOST_OF_TENANT", 4)
    for _ in range(2):
        assert (await backend.delete("/users/unknown")).data == {"erased": True}
    await backend.put("/users/fifth", {"name": "fifth"})
    assert (await backend.delete("/users/fifth")).error["code"] == "RATE_LIMIT_EXCEEDED"
    assert (await backend.delete("/users/bob")).status == 202


async def test_a_user_is_refused_while_they_are_erased_and_a_restart_goes_on(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server()
    alice, bob, backend = (server.user(name) for name in ("alice", "bob", "backend"))
    room_id = await bob.make_room("alice")
    await alice.post(f"/rooms/{room_id}/messages", {"content": SECRET})
    socket = await alice.connect()
    monkeypatch.setattr("chatapi.erasures.ANSWER_SECONDS", 0.01)
    monkeypatch.setattr("chatapi.erasures.Erasures._erase_all", lambda *_: asyncio.Event().wait())
    assert (await backend.delete("/users/alice")).status == 202
    assert await socket.close_code() == 4001
    refused = await alice.get("/rooms")
    assert (refused.status, refused.error["message"]) == (403, "This user's data is being erased")
    member = {"user_id": "alice"}
    for reply in (
        await bob.post(f"/rooms/{await bob.make_room()}/members", member),
        await bob.post("/rooms", {"type": "group", "members": ["alice"]}),
        await backend.put("/users/alice", {"name": "x"}),
    ):
        assert (reply.status, reply.error["code"]) == (409, "CONFLICT")
    monkeypatch.undo()
    server = await restart(start_server, server)
    assert (await server.user("alice").get("/rooms")).status in {200, 403}
    await server.erase("alice")
    assert SECRET not in str(await read_events(server.user("bob"), room_id))


@pytest.mark.slow
async def test_a_data_protection_request_is_answered_as_documented(
    server: Server, database: Path, tmp_path: Path
) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    await alice.post(f"/rooms/{room_id}/messages", {"content": SECRET})
    environment = {**os.environ, "API_KEY": server.api_key, "CHATAPI_URL": server.url}
    output = await run_shell(ANSWER_A_REQUEST, environment, tmp_path)
    assert output.splitlines()[0] == '{"type":"end"}'
    assert '"erased":true' in output
    assert SECRET in (tmp_path / "alice.ndjson").read_text()
    assert SECRET not in str(await read_events(server.user("bob"), room_id))
    [tenant_id] = [tenant.tenant_id for tenant in server.services.tenants.all()]
    await server.app.close()
    environment |= {"CHATAPI_DATABASE_PATH": str(database), "TENANT_ID": tenant_id}
    assert "nothing of alice is left, texts looked for: 1" in await run_shell(CHECK_THEM, environment, tmp_path)


async def run_shell(script: str, environment: dict[str, str], folder: Path) -> str:
    async with asyncio.timeout(20):
        shell = await asyncio.create_subprocess_exec(
            "bash", "-ec", script, env=environment, cwd=folder, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await shell.communicate()
    assert shell.returncode == 0
    return output.decode()


async def test_the_bytes_of_a_text_are_gone_after_a_checkpoint(
    start_server: StartServer, database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = await start_server()
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await bob.make_room("alice")
    messages = f"/rooms/{room_id}/messages"
    for size in (1, 100, 1_000):  # in a page, and in pages of their own
        made = (await alice.post(messages, {"content": SECRET * size, "meta": {"m": SECRET}})).data
        await alice.put(f"{messages}/{made['message_id']}", {"content": f"{SECRET}2" * size})
        await bob.post(f"{messages}/{made['message_id']}/report", {"reason": SECRET})
    await alice.put("/users/alice", {"name": SECRET, "metadata": {"m": SECRET}})
    stream = (await alice.post(messages, {"content": "", "stream": True})).data
    await alice.post(f"{messages}/{stream['message_id']}/append", {"index": 1, "text": f"{SECRET}3"})
    gone = (await alice.post(messages, {"content": "x", "client_message_id": f"{SECRET}5"})).data
    await alice.delete(f"{messages}/{gone['message_id']}")
    await server.user("backend").post(
        "/notify", {"topic": "news", "payload": {"a": f"{SECRET}4"}, "targets": {"user_ids": ["alice"]}}
    )
    await server.services.indexer.update()
    export = (await server.user("backend").get("/users/alice/export")).body
    texts = set(read_texts(str(export).encode().splitlines()))
    assert {SECRET, f"{SECRET}2", f"{SECRET}3", f"{SECRET}4"} <= texts
    [tenant_id] = [tenant.tenant_id for tenant in server.services.tenants.all()]
    found = await asyncio.to_thread(check_user, str(database), tenant_id, "alice", texts)
    assert {line.partition(":")[0] for line in found} >= {
        "profiles",
        "memberships of other rooms than dms",
        "messages that are no tombstones",
        "tombstones with content or a client_message_id",
        "notifications",
        "texts of reports",
        "rows of the search index",
        f"{database}-wal",
    }
    assert find_bytes(database)
    await server.erase("alice")
    await server.app.close()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert not find_bytes(database)
        copy = database.with_name("copy.db")
        connection.execute("VACUUM INTO ?", (str(copy),))
    kept = tmp_path / "alice.ndjson"
    kept.write_text(str(export))
    for path in (database, copy):
        command = ["check", str(path), "--user", tenant_id, "alice", "--export", str(kept)]
        assert await asyncio.to_thread(main, command) == 0
        assert capsys.readouterr().out == f"{path}: nothing of alice is left, texts looked for: {len(texts)}\n"
    assert not find_bytes(copy)
    kept.write_text("[]")
    assert await asyncio.to_thread(main, command) == 1
    assert capsys.readouterr().err == f"chatapi: {kept}: a line is no object\n"
    kept.write_text("[server]\n")
    assert await asyncio.to_thread(main, command) == 1
    assert capsys.readouterr().err.startswith(f"chatapi: {kept}: unexpected character")


def find_bytes(database: Path) -> bool:
    files = [path for path in database.parent.glob(f"{database.name}*") if path.is_file()]
    return any(SECRET.lower().encode() in path.read_bytes().lower() for path in files)
