"""The export of all that is stored of one user."""

import json
from typing import Any

import aiohttp
import pytest
from driver import Server

from chatapi.store import user_export


async def read_lines(server: Server, user_id: str, **headers: str) -> tuple[int, list[dict[str, Any]]]:
    keys = headers or {"X-API-Key": server.api_key, "X-User-Id": "backend"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{server.url}/users/{user_id}/export", headers=keys) as got,
    ):
        text = await got.text()
        if got.status == 200:
            assert got.headers["Content-Type"] == "application/x-ndjson"
        return got.status, [json.loads(line) for line in text.splitlines()]


async def test_all_that_is_of_a_user_is_in_it_and_nothing_of_others(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_export, "WINDOW", 3)
    monkeypatch.setattr(user_export, "PAGE_LINES", 2)
    monkeypatch.setattr(user_export, "ROOMS_PER_PAGE", 1)
    alice, bob, backend = (server.user(name) for name in ("alice", "bob", "backend"))
    room_id = await alice.make_room("bob")
    left_id = await bob.make_room("alice")
    messages = f"/rooms/{room_id}/messages"
    sent = [(await alice.post(messages, {"content": f"mine {n}"})).data for n in range(7)]
    other = (await bob.post(messages, {"content": "theirs", "mentions": ["alice"]})).data
    await alice.put(f"{messages}/{sent[1]['message_id']}", {"content": "edited"})
    await alice.delete(f"{messages}/{sent[2]['message_id']}")
    await alice.put(f"{messages}/{other['message_id']}/reactions/%F0%9F%91%8D", {})
    await bob.put(f"{messages}/{other['message_id']}/reactions/%F0%9F%91%8E", {})
    await alice.put(f"/rooms/{room_id}/pins/{other['message_id']}", {})
    await alice.post(f"{messages}/{other['message_id']}/report", {"reason": "rude"})
    await alice.post(f"/rooms/{left_id}/messages", {"content": "before I left"})
    await alice.delete(f"/rooms/{left_id}/members/alice")
    await alice.put("/users/alice", {"name": "Alice"})
    await alice.request("PUT", "/blocks/eve")
    await alice.post("/subscriptions", {"topic": "news"})
    await backend.post("/notify", {"topic": "news", "payload": {"a": 1}, "targets": {"user_ids": ["alice", "bob"]}})
    status, lines = await read_lines(server, "alice")
    assert status == 200
    kinds: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        kinds.setdefault(line["type"], []).append(line)
    assert (lines[0]["type"], lines[0]["user_id"], lines[-1]) == ("user", "alice", {"type": "end"})
    by_room = {line["content"]: line["room_id"] for line in kinds["message"]}
    texts = {"mine 0", "edited", "mine 3", "mine 4", "mine 5", "mine 6", None}
    assert by_room == {**dict.fromkeys(texts, room_id), "before I left": left_id}
    assert {line["sender_id"] for line in kinds["message"]} == {"alice"}
    assert len(kinds["message"]) == 8
    assert (kinds["profile"][0]["name"], [line["role"] for line in kinds["membership"]]) == ("Alice", ["admin"])
    assert [(line["emoji"], line["target_seq"]) for line in kinds["reaction"]] == [("👍", other["seq"])]
    assert (
        kinds["pin"][0]["target_seq"] == kinds["report"][0]["target_seq"] == kinds["mention"][0]["seq"] == other["seq"]
    )
    assert (kinds["block"][0]["user_id"], kinds["subscription"][0]["topic"]) == ("eve", "news")
    assert [line["payload"] for line in kinds["notification"]] == [{"a": 1}]
    assert [line["room_id"] for line in kinds["room"]] == [room_id]
    assert "theirs" not in json.dumps(lines)


async def test_only_the_key_exports_and_only_some_at_once(
    shared_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [line["type"] for line in (await read_lines(shared_server, "nobody"))[1]] == ["user", "end"]
    backend = shared_server.user("backend")
    token = (await backend.post("/tokens", {"user_id": "alice"})).data["token"]
    status, [refusal] = await read_lines(shared_server, "alice", Authorization=f"Bearer {token}")
    assert (status, refusal["error"]["code"]) == (403, "AUTHORIZATION_ERROR")
    assert (await backend.get("/users/a%20b/export")).status == 400
    monkeypatch.setattr("chatapi.user_exports.EXPORTS_OF_TENANT", 0)
    refused = await backend.get("/users/alice/export")
    assert (refused.status, int(refused.headers["Retry-After"])) == (429, 5)
