"""What an erasure leaves of a user: in every table and file, in new copies, and after a server that was killed."""

import asyncio
import contextlib
import http.client
import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from conftest import StartServer
from driver import checkpoint, eventually, restart
from hooked import QUICK, Hooked, hook
from piper import open_pipe
from receiver import Receiver, answer
from server_process import ServerProcess
from stored_rows import Database

from chatapi.cli import main
from chatapi.store import search_index, user_calls
from chatapi.store.backup import back_up
from chatapi.store.check import check_database
from chatapi.store.tenant_lines import list_lines
from chatapi.store.user_check import check_user

SECRET = "Qwyjibo8842"
ALICE = "alice-qwyjibo"
ONCE = {**QUICK, "webhooks.retry_schedule_seconds": [0]}
MESSAGES = 600

# Where the id of an erased user is still, as docs/contract.md says: it is just an id there.
ID_STAYS = {
    "audit.target",
    "audit.user_id",
    "bans.created_by",
    "bans.user_id",
    "changes.frame",  # events
    "erasures.user_id",
    "members.folded_id",  # of dms
    "members.user_id",
    "mentions.sender_id",
    "mentions.user_id",
    "messages.mentions",
    "messages.sender_id",
    "reports.message",
    "reports.user_id",
    "rooms.created_by",
    "rooms.poster",
    "rooms.unique_key",
    "traces.user_id",
    "user_bans.user_id",
}


def find_files(database: Path) -> list[str]:
    """The files of the database that have a text of the user, in whatever case."""
    files = [path for path in sorted(database.parent.glob(f"{database.name}*")) if path.is_file()]
    return [path.name for path in files if SECRET.lower().encode() in path.read_bytes().lower()]


async def live(hooked: Hooked) -> str:
    """Alice does all that users do, each with a text of hers; the room."""
    alice, bob, backend = (hooked.user(name) for name in (ALICE, "bob", "backend"))
    room_id, left_id = await bob.make_room(ALICE), await alice.make_room("bob")
    dm_id = (await alice.post("/rooms", {"type": "dm", "members": ["bob"]})).data["room_id"]
    messages = f"/rooms/{room_id}/messages"
    await alice.put(f"/users/{ALICE}", {"name": SECRET, "avatar_url": f"https://a/{SECRET}", "metadata": {"a": SECRET}})
    socket = await alice.connect()
    theirs = await bob.say(room_id, "theirs", mentions=[ALICE])
    mine = await alice.say(room_id, SECRET, mentions=["bob"], meta={"m": SECRET}, client_message_id=f"{SECRET}-1")
    await alice.put(f"{messages}/{mine['message_id']}", {"content": f"edited {SECRET}"})
    await bob.say(room_id, "in the thread", thread_id=mine["message_id"])
    await alice.say(room_id, f"reply {SECRET}", thread_id=mine["message_id"], reply_to=theirs["message_id"])
    await alice.put(f"{messages}/{theirs['message_id']}/reactions/x", None)
    await bob.put(f"{messages}/{mine['message_id']}/reactions/x", None)
    for message in (mine, theirs):
        await bob.put(f"/rooms/{room_id}/pins/{message['message_id']}", None)
    await bob.post(f"{messages}/{mine['message_id']}/report", {"reason": f"they wrote {SECRET}"})
    await alice.post(f"{messages}/{theirs['message_id']}/report", {"reason": SECRET})
    stream = await alice.say(room_id, "", stream=True, client_message_id=f"{SECRET}-2", meta={"m": SECRET})
    await bob.post(f"{messages}/{stream['message_id']}/report", {"reason": "while it is written"})
    await alice.post(f"{messages}/{stream['message_id']}/append", {"index": 1, "text": f"streamed {SECRET}"})
    await alice.post(f"{messages}/{stream['message_id']}/finish", {"state": "done", "meta": {"m": SECRET}})
    failed = await alice.say(room_id, f"open {SECRET}", stream=True)
    await alice.post(f"{messages}/{failed['message_id']}/append", {"index": 1, "text": f"left open {SECRET}"})
    pipe = await open_pipe(alice, room_id, X_Client_Message_Id=f"{SECRET}-3")
    pipe.write(f"piped {SECRET}")
    pipe.end()
    assert (await pipe.read_reply()).status == 201
    await alice.post(f"/rooms/{room_id}/read", {"seq": mine["seq"]})
    await alice.say(left_id, SECRET)
    await alice.put(f"/rooms/{left_id}/bans/carol", {})
    await alice.delete(f"/rooms/{left_id}/members/{ALICE}")
    banned_id = await bob.make_room(ALICE)
    await alice.say(banned_id, SECRET)
    await bob.put(f"/rooms/{banned_id}/bans/{ALICE}", {})
    await alice.say(dm_id, SECRET)
    await alice.put("/blocks/eve", None)
    await alice.post("/subscriptions", {"topic": "news"})
    await socket.close()
    await eventually(lambda: not alice.server.services.hub.find_online(state_of(hooked).tenant_key, ALICE))
    await bob.say(dm_id, "alice is offline")
    target = {"user_ids": [ALICE, "bob"]}
    await backend.post("/notify", {"topic": "news", "payload": {"a": "for both"}, "targets": target})
    await backend.post("/notify", {"topic": "news", "payload": {"a": SECRET}, "targets": {"user_ids": [ALICE]}})
    return room_id


def state_of(hooked: Hooked) -> Any:
    return hooked.server.services.tenants.get(hooked.tenant_id)


@pytest.mark.slow
async def test_no_text_of_a_user_is_left_in_any_file(
    start_server: StartServer, database: Path, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_calls, "PAGE_ROWS", 2)
    server = await start_server({**ONCE, "websocket.presence_grace_seconds": 0.1})
    receiver.behave = answer(500)
    hooked = await hook(server, receiver.url, webhook_events=["*"])
    await live(hooked)
    await hooked.is_settled()
    dead = await hooked.dead_letters()
    assert {kind for kind, letters in dead.items() if letters} >= {"failed_messages", "failed_notifications"}
    assert SECRET not in str(dead), "the error of a call holds no text of its body"
    assert any(letter["user_id"] == ALICE for letter in dead["failed_messages"])
    await server.services.indexer.update()
    found = await asyncio.to_thread(check_user, str(database), hooked.tenant_id, ALICE, ())
    assert any(line.startswith("webhook calls: ") for line in found), found
    assert find_files(database)

    await server.erase(ALICE, hooked.api_key)
    assert ALICE not in str((await hooked.dead_letters())["failed_messages"])
    await checkpoint(server)
    assert not find_files(database)
    assert await asyncio.to_thread(check_user, str(database), hooked.tenant_id, ALICE, ()) == []
    with closing(sqlite3.connect(database)) as connection:
        assert Database(connection).find_text(ALICE) - ID_STAYS == set()
    exported = tmp_path / "tenant.db"
    async with server.session.get(
        f"{server.url}/admin/tenants/{hooked.tenant_id}/export", headers={"X-Master-Key": server.master_key}
    ) as response:
        assert response.status == 200
        await asyncio.to_thread(exported.write_bytes, await response.read())
    backup = tmp_path / "backup.db"
    await asyncio.to_thread(back_up, str(database), str(backup))
    for copy in (exported, backup):
        assert not find_files(copy)
    assert SECRET not in "".join(await asyncio.to_thread(lambda: list(list_lines(str(exported)))))


async def test_an_index_that_this_sqlite_cannot_read_is_emptied(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, database: Path
) -> None:
    server = await start_server()
    alice, bob = server.user(ALICE), server.user("bob")
    room_id = await bob.make_room(ALICE)
    await alice.say(room_id, SECRET)
    await bob.say(room_id, "other")
    await server.services.indexer.update()
    with monkeypatch.context() as patch:
        patch.setattr(search_index, "_HAS_FTS5", "SELECT 1 WHERE 0")
        server = await restart(start_server, server)
        await server.erase(ALICE)
        await checkpoint(server)
        assert not find_files(database)
        await server.user("bob").say(room_id, "newer")
    assert (await asyncio.to_thread(check_database, str(database))).findings == []  # by a command with FTS5
    server = await restart(start_server, server)
    await server.services.indexer.update()
    found = (await server.user("bob").get("/search", q="other")).data["results"]
    assert len(found) == 1


@pytest.mark.slow
def test_an_erasure_goes_on_after_kills(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ServerProcess(tmp_path, dev=False) as server:
        tenant = server.make_tenant("acme")
        key = str(tenant["api_key"])
        room: dict[str, object] = {"type": "group", "members": [ALICE]}
        messages = f"/rooms/{server.call('POST', '/rooms', room, key=key, user='bob')['room_id']}/messages"
        for number in range(MESSAGES):
            server.call("POST", messages, {"content": f"{SECRET} {number}"}, key=key, user=ALICE)
        note = {"topic": "t", "payload": SECRET, "targets": {"user_ids": [ALICE]}}
        server.call("POST", "/notify", note, key=key, user="bob")
        asked = Thread(target=lambda: suppress_all(server.call, "DELETE", f"/users/{ALICE}", key=key, user="bob"))
        asked.start()  # answered after a second, if it is not killed before
        left = MESSAGES
        for _ in range(3):  # only the first was asked for it
            wait_for_fewer(tmp_path, left - 1)
            server.kill()
            left = count_left(tmp_path)
            assert left > 0, "the kill came too late to show anything"
            server.start()
        asked.join()
        wait_for_fewer(tmp_path, 1)
        while not server.call("DELETE", f"/users/{ALICE}", key=key, user="bob")["erased"]:
            pass  # each waits for a second
        server.stop()
    database = tmp_path / "chatapi.db"
    assert not find_files(database)
    export = tmp_path / "alice.ndjson"
    lines = [{"type": "message", "content": f"{SECRET} {number}"} for number in range(MESSAGES)]
    export.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    command = ["check", str(database), "--user", str(tenant["tenant_id"]), ALICE, "--export", str(export)]
    assert main(command) == 0
    assert f"nothing of {ALICE} is left, texts looked for: {MESSAGES}" in capsys.readouterr().out


def suppress_all(call: Callable[..., object], *arguments: str, **others: str) -> None:
    """Of a server that is killed."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        call(*arguments, **others)


def count_left(folder: Path) -> int:
    with closing(sqlite3.connect(f"file:{folder / 'chatapi.db'}?mode=ro", uri=True)) as connection:
        [(count,)] = connection.execute("SELECT count(*) FROM messages WHERE content IS NOT NULL")
        return int(count)


def wait_for_fewer(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while count_left(folder) >= count:
        assert time.monotonic() < deadline
        time.sleep(0.005)
