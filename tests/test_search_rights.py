"""Search within rights that change, and its promises one by one, over a real server."""

from collections.abc import Awaitable, Callable

import pytest
from conftest import MASTER_KEY
from driver import Reply, Server, User, say_many

from chatapi import housekeeping
from chatapi.housekeeping import purge_deleted
from chatapi.store import search, search_tail
from chatapi.store.search_index import MARK
from chatapi.store.transaction import SqliteConnection


@pytest.fixture(autouse=True)
def without_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "list_jobs", lambda _services: [])


async def contents(user: User, q: str = "word", **params: object) -> list[str]:
    """What is found; the same before the index has it and afterwards."""
    before = (await user.get("/search", q=q, **params)).data
    await user.server.services.indexer.update()
    assert (await user.get("/search", q=q, **params)).data == before
    return [result["message"]["content"] for result in before["results"]]


async def accept(request: Awaitable[Reply]) -> None:
    reply = await request
    assert reply.status in (200, 201, 204), reply


async def test_members_who_left_or_were_removed_find_nothing_more(server: Server) -> None:
    alice, bob, carol = server.user("alice"), server.user("bob"), server.user("carol")
    room_id = await alice.make_room("bob", "carol")
    await alice.say(room_id, "word")
    assert await contents(bob) == await contents(carol) == ["word"]
    await accept(bob.delete(f"/rooms/{room_id}/members/bob"))
    await accept(alice.delete(f"/rooms/{room_id}/members/carol"))
    for user in (bob, carol):
        assert await contents(user) == await contents(user, room_id=room_id) == []
    await accept(alice.post(f"/rooms/{room_id}/members", {"user_id": "bob"}))
    assert await contents(bob) == ["word"]  # what was written before they came, as in the history


async def test_a_ban_from_a_room_is_one_from_its_search(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    group, channel = await alice.make_room("bob"), await alice.make_room("bob", room_type="channel")
    for room_id in (group, channel):
        await bob.say(room_id, f"word {room_id}")
    assert await contents(bob) == [f"word {channel}", f"word {group}"]
    for room_id in (group, channel):
        await accept(alice.put(f"/rooms/{room_id}/bans/bob", {}))
        assert await contents(bob, room_id=room_id) == []
    assert await contents(bob) == []
    assert await contents(alice, sender_id="bob") == [f"word {channel}", f"word {group}"]
    for room_id in (group, channel):
        await accept(alice.delete(f"/rooms/{room_id}/bans/bob"))
    assert await contents(bob) == await contents(bob, room_id=group) == []
    assert await contents(bob, room_id=channel) == [f"word {channel}"]  # a channel is read without being a member


async def test_a_ban_from_the_tenant_refuses_the_users_own_search(server: Server) -> None:
    alice, backend = server.user("alice"), server.user("backend")
    room_id = await alice.make_room("bob")
    await alice.say(room_id, "word")
    bob = server.bearer("bob", (await backend.post("/tokens", {"user_id": "bob"})).data["token"])
    assert await contents(bob) == ["word"]
    await accept(backend.put("/users/bob/ban", {}))
    reply = await bob.get("/search", q="word")
    assert (reply.status, reply.error["code"]) == (403, "AUTHORIZATION_ERROR")
    await accept(backend.delete("/users/bob/ban"))
    assert await contents(bob) == ["word"]


async def test_rooms_that_are_hidden_and_users_who_are_blocked_are_searched(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    dm, group = await alice.make_room("bob", room_type="dm"), await alice.make_room("bob")
    await bob.say(dm, "word dm")
    await bob.say(group, "word group")
    await accept(alice.patch(f"/rooms/{group}/me", {"hidden": True}))
    await accept(alice.put("/blocks/bob", {}))
    assert await contents(alice) == await contents(bob) == ["word group", "word dm"]


async def test_a_deleted_room_and_its_messages_are_not_found(server: Server) -> None:
    alice = server.user("alice")
    rooms = [await alice.make_room(room_type="channel") for _ in range(2)]
    for room_id in rooms:
        await alice.say(room_id, f"word {room_id}")
    assert len(await contents(alice)) == 2
    await accept(alice.delete(f"/rooms/{rooms[1]}"))
    for _ in range(2):
        assert await contents(alice, limit=1) == [f"word {rooms[0]}"]
        assert await contents(alice, room_id=rooms[1]) == []
        await purge_deleted(server.services)


async def test_pages_end_at_a_number_of_bytes(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PAGE_BYTES", 4_000)
    alice = server.user("alice")
    room_id = await alice.make_room()
    texts = [f"word {number} {'x' * 400}" for number in range(8)]
    for text in texts:
        await alice.say(room_id, text)
    pages = [(await alice.get("/search", q="word")).data]
    while pages[-1]["has_more"]:
        pages.append((await alice.get("/search", q="word", cursor=pages[-1]["next_cursor"])).data)
    assert [result["message"]["content"] for page in pages for result in page["results"]] == texts[::-1]
    assert [len(page["results"]) for page in pages] == [2, 2, 2, 2]


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_a_cursor_outlives_edits_and_deletions(server: Server, limit: int) -> None:
    alice = server.user("alice")
    kept, left = await alice.make_room(), await alice.make_room("bob")
    ids = await say_many(alice, kept, 10)
    await alice.say(left, "alice left")
    first = (await alice.get("/search", q="alice", limit=limit)).data
    shown = [result["message"] for result in first["results"]]
    # The page is edited and deleted, older messages too, a newer one comes, and its room is left.
    for message in shown[1:]:
        await accept(alice.delete(f"/rooms/{kept}/messages/{message['message_id']}"))
    await accept(alice.put(f"/rooms/{kept}/messages/{ids[1]}", {"content": "other"}))
    await accept(alice.delete(f"/rooms/{kept}/messages/{ids[2]}"))
    await accept(alice.put(f"/rooms/{kept}/messages/{ids[0]}", {"content": "alice edited"}))
    await alice.say(kept, "alice new")
    await accept(alice.delete(f"/rooms/{left}"))
    wanted = [f"alice {number}" for number in reversed(range(3, 11 - limit))] + ["alice edited"]
    seen: list[str] = []
    page = first
    while page["has_more"]:
        page = (await alice.get("/search", q="alice", limit=limit, cursor=page["next_cursor"])).data
        seen += [result["message"]["content"] for result in page["results"]]
        await server.services.indexer.update()
        assert page["results"]
    assert seen == wanted


async def test_only_contents_are_searched_and_no_mark_of_the_index(server: Server) -> None:
    alice, eve = server.user("alice"), server.user("eve")
    rooms = [await alice.make_room() for _ in range(12)]
    sent = await alice.say(rooms[0], "plain", meta={"note": "inmeta"}, client_message_id="inclientid")
    private = await eve.make_room()
    for key in range(1, 14):  # as the index marks tenants, rooms and senders
        await eve.say(private, f"\ue000t1 \ue000r{key} \ue000u{b'alice'.hex()} plain secret{key}")
    assert await contents(alice, "plain") == ["plain"]
    assert await contents(alice, "plain", sender_id="alice") == ["plain"]
    for q in ("inmeta", "inclientid", "alice", sent["message_id"], rooms[0], "secret*", "\ue000t1", f"\ue000r{1}"):
        assert await contents(alice, q) == [], q
    assert len(await contents(eve, "t1 plain")) == 13


async def test_a_row_of_the_index_gives_nobody_a_right(server: Server) -> None:
    """Even if the index said that a message is in a room of the caller."""
    alice, eve = server.user("alice"), server.user("eve")
    await alice.make_room()
    await eve.say(await eve.make_room(), "word secret")
    await server.services.indexer.update()

    def mark(connection: SqliteConnection, _is_over: Callable[[], bool]) -> None:
        [(row_key,)] = connection.execute("SELECT rowid FROM search_index WHERE search_index MATCH 'secret'").fetchall()
        for room_key in (1, 2):
            words = f"{MARK}t1 {MARK}r{room_key} secret"
            connection.execute("INSERT INTO search_index (rowid, words) VALUES (?, ?)", (row_key, words))

    await server.services.store.writer.step(mark, is_repeatable=True)
    assert await contents(eve, "secret") == ["word secret"]
    assert await contents(alice, "secret") == []


@pytest.mark.parametrize(
    ("content", "q", "hits"),
    [
        ("👩‍👩‍👧 family 👍🏽 word", "WORD", ["word"]),
        ("𠮷野家の𠮷野", "𠮷野", ["𠮷野", "𠮷野"]),
        ("กล่าวสวัสดีครับ 😀 สวัสดี", "สวัสดี", ["สวัสดี", "สวัสดี"]),
        ("e\u0301te\u0301 ÉTÉ ete", "été", ["e\u0301te\u0301", "ÉTÉ", "ete"]),
        ("😀 한국어와 한국", "한국", ["한국", "한국"]),
        ('say "Au Lait" 🎉 now', '"au lait"', ["Au Lait"]),
        ("🎉 Laitier lait", "lai*", ["Laitier", "lait"]),
    ],
)
async def test_hits_are_code_points_of_an_unchanged_piece(
    shared_server: Server, content: str, q: str, hits: list[str]
) -> None:
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    await alice.say(room_id, content)
    [result] = (await alice.get("/search", q=q, room_id=room_id)).data["results"]
    snippet = result["snippet"]
    assert snippet["text"] == content
    assert [snippet["text"][start:end] for start, end in snippet["hits"]] == hits
    assert snippet["hits"] == sorted(snippet["hits"])


async def test_the_lag_is_told_everywhere(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    ids = await say_many(alice, room_id, 3)
    await server.services.indexer.update()
    await accept(alice.put(f"/rooms/{room_id}/messages/{ids[0]}", {"content": "edited"}))
    await alice.say(room_id, "new")
    for lag in (2, 0):
        assert (await server.request("GET", "/health")).data["search"] == {"enabled": True, "lag": lag}
        metrics = (await server.request("GET", "/metrics", headers={"X-Master-Key": MASTER_KEY})).body
        assert f"\nchatapi_search_lag {lag}" in metrics
        await server.services.indexer.update()


async def test_the_lag_is_counted_to_a_bound(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_tail, "MAX_LAG", 3)
    alice = server.user("alice")
    room_id = await alice.make_room()
    ids = await say_many(alice, room_id, 2)
    await server.services.indexer.update()
    for message_id in ids:
        await alice.put(f"/rooms/{room_id}/messages/{message_id}", {"content": "edited"})
    await say_many(alice, room_id, 2)
    assert (await server.request("GET", "/health")).data["search"]["lag"] == 3  # of two edits and two messages


async def test_a_lag_that_cannot_be_read_is_no_fault_of_the_server(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_tail, "_COUNT_LAG", "SELECT 1 FROM a_table_that_is_gone")
    reply = await server.request("GET", "/health")
    assert (reply.status, reply.data["search"]) == (200, {"enabled": True, "lag": None})
