"""Full-text search over real messages: what is found, where, in which order, and from when on."""

import asyncio
import sqlite3
from contextlib import closing
from functools import partial
from typing import Any

import pytest
from conftest import StartServer
from driver import HandClock, Reply, Server, User, restart, say_many

from chatapi import housekeeping, indexer
from chatapi.housekeeping import apply_retention, purge_deleted
from chatapi.indexer import LEAST_REST, REST, Indexer
from chatapi.search import MAX_SECONDS
from chatapi.store import background, search, search_few, search_index, search_tail
from chatapi.store.check import check_database


async def find(user: User, q: str, **params: object) -> dict[str, Any]:
    """One page, once the index has all that was written."""
    await user.server.services.indexer.update()
    return dict((await user.get("/search", q=q, **params)).data)


async def contents(user: User, q: str, **params: object) -> list[str]:
    return [result["message"]["content"] for result in (await find(user, q, **params))["results"]]


async def refused(user: User, **params: object) -> Any:
    reply: Reply = await user.get("/search", **params)
    assert reply.status == 400, reply
    return reply.error["field"]


@pytest.fixture(autouse=True)
def without_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index takes in messages when a test says so, and nothing else runs meanwhile."""
    monkeypatch.setattr(housekeeping, "list_jobs", lambda _services: [])


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that looks at row after row, as tests make it do, takes longer than it may on a busy machine."""
    monkeypatch.setattr("chatapi.search.MAX_SECONDS", 60.0)


INDEXED = ["few", "few of all", "some rooms", "many", "many words", "index"]
WAYS = [*INDEXED, "few are indexed", "many are indexed", "older are indexed", "none is indexed"]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the ways in which a search looks for messages."""
    if "few" not in request.param:
        monkeypatch.setattr(search_few, "FEW", 0)
        monkeypatch.setattr(search_few, "FEW_IN_ROOMS", 0)
    if request.param == "few of all":
        monkeypatch.setattr(search_few, "MANY_ROOMS", 0)
        monkeypatch.setattr(search_few, "MOST_ROOMS", 0)
    if request.param == "some rooms":
        monkeypatch.setattr(search_few, "MANY_ROOMS", 0)
        monkeypatch.setattr(search_few, "FEW", 2)
        monkeypatch.setattr(search_few, "FEW_IN_ROOMS", 3)
        monkeypatch.setattr(search_few, "ROOMS_TRIED", 1)
    if request.param == "older are indexed":
        monkeypatch.setattr(search_few, "MANY_ROOMS", 0)
        monkeypatch.setattr(search_few, "MOST_ROOMS", 0)
        monkeypatch.setattr(search_few, "FEW", 5)
        monkeypatch.setattr(search_few, "FEW_ROOMS", 1)
    if request.param == "many words":
        monkeypatch.setattr(search_few, "FEW_WORDS", 0)
    monkeypatch.setattr(search_few, "WORDS_COUNTED", 1)
    if "index" in request.param:
        monkeypatch.setattr(search, "SAMPLE", 0)
        monkeypatch.setattr(search, "MOST_READ", 0)
        monkeypatch.setattr(search, "MOST_READ_PER_ROOM", 0)
    if "indexed" in request.param:
        monkeypatch.setattr(Indexer, "update", _update_none if request.param == "none is indexed" else _update_some)
        for name in ("IDLE_STEP_SECONDS", "LIGHT_STEP_SECONDS", "STEP_SECONDS"):
            monkeypatch.setattr(background, name, 0.0)
        monkeypatch.setattr(search_tail, "TAIL_PER_QUERY", 3)
    monkeypatch.setattr(search, "ROOMS_PER_QUERY", 2)
    monkeypatch.setattr(search_few, "ROOMS_TOGETHER", 2)
    monkeypatch.setattr(search, "CANDIDATES", 2)


async def _update_none(_indexer: Indexer) -> None:
    return


async def _update_some(indexer: Indexer) -> None:
    await indexer._step(partial(search_index.add_newest, 2))


async def test_a_result_is_a_message_and_a_snippet(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    message = await alice.say(room_id, "Das Café 😀 im Hof, das café!", meta={"k": 1})
    page = await find(bob, "CAFE")
    assert page == {
        "results": [{"message": message, "snippet": {"text": message["content"], "hits": [[4, 8], [23, 27]]}}],
        "has_more": False,
    }


async def test_words_phrases_and_prefixes_in_any_script(way: None, server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    texts = ["the lighthouse keeper", "keeper of the light", "我的iPhone手机壳", "สวัสดีครับ", "Ünïted keepers"]
    for text in texts:
        await alice.say(room_id, text)
    for query, found in {
        "light": [1],
        "light*": [1, 0],
        "keep* the": [1, 0],
        '"the light"': [1],
        '"the light"*': [1, 0],
        "手机": [2],
        "机": [],
        "iphone": [2],
        "phone": [],
        "สวัส": [3],
        "united": [4],
        "the keeper": [1, 0],
        "the 手机": [],
        "k* k*": [4, 1, 0],
    }.items():
        assert await contents(alice, query) == [texts[index] for index in found], query


async def test_only_rooms_of_the_caller_or_one_that_they_may_read(way: None, server: Server) -> None:
    alice, eve = server.user("alice"), server.user("eve")
    group, channel = await alice.make_room("bob"), await alice.make_room(room_type="channel")
    await alice.say(group, "word group")
    await alice.say(channel, "word channel")
    other = await server.make_tenant("other")
    stranger = server.user("alice", other["api_key"])
    await stranger.say(await stranger.make_room(), "word other")
    assert await contents(alice, "word") == ["word channel", "word group"]
    assert await contents(server.user("bob"), "word") == ["word group"]
    assert await contents(eve, "word") == []
    assert await contents(eve, "word", room_id=channel) == ["word channel"]
    for room_id in (group, "room_unknown", channel + "x"):
        assert await find(eve, "word", room_id=room_id) == {"results": [], "has_more": False}
    assert await contents(stranger, "word") == ["word other"]
    assert await contents(stranger, "word", room_id=channel) == []
    await alice.delete(f"/rooms/{group}/members/bob")
    assert await contents(server.user("bob"), "word") == []


@pytest.mark.slow
async def test_the_newest_come_first_and_pages_are_stable(way: None, server: Server) -> None:
    alice = server.user("alice")
    rooms = [await alice.make_room() for _ in range(5)]
    for number in range(30):
        await alice.say(rooms[number * 7 % 5], f"word {number}")
        await alice.say(rooms[0], "something else")
    wanted = [f"word {number}" for number in reversed(range(30))]
    assert await contents(alice, "word", limit=100) == wanted
    assert await contents(alice, "wor*", limit=7, offset=5) == wanted[5:12]
    assert await contents(alice, "word", room_id=rooms[1], limit=100) == [
        text for text in wanted if int(text[5:]) * 7 % 5 == 1
    ]
    seen: list[str] = []
    page = await find(alice, "word", limit=4)
    while True:
        seen += [result["message"]["content"] for result in page["results"]]
        if not page["has_more"]:
            break
        await alice.say(rooms[2], "word new")
        page = await find(alice, "word", limit=4, cursor=page["next_cursor"])
    assert seen == wanted
    assert "next_cursor" not in page


async def test_sender_and_times_narrow_a_search(start_server: StartServer, way: None) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    alice, bob = server.user("alice"), server.user("Alice")
    rooms = [await alice.make_room("Alice") for _ in range(2)]
    sent = []
    for number in range(8):
        clock.advance(60)
        sent.append(await (bob if number % 2 else alice).say(rooms[number // 2 % 2], f"word {number}"))
    assert await contents(alice, "word", sender_id="Alice") == ["word 7", "word 5", "word 3", "word 1"]
    assert await contents(alice, "word", sender_id="nobody") == []
    times = [message["created_at"] for message in sent]
    assert await contents(alice, "word", after=times[2], before=times[5]) == ["word 4", "word 3"]
    assert await contents(alice, "word", after=times[2][:-1] + "9z", before=times[4][:-1] + "9+00:00") == [
        "word 4",
        "word 3",
    ]
    assert await contents(alice, "word", before=times[0]) == []
    assert await contents(alice, "word", after=times[7]) == []
    assert await contents(alice, "word", after="2020-01-01T23:59:60.5-23:59", limit=1) == ["word 7"]
    assert await contents(alice, "word", before="2020-01-01t00:00:00 02:00") == []  # a `+` that was not escaped
    for bad in ("", "yesterday", "2025-01-01", "2025-13-01T00:00:00Z", "2025-01-01T00:00:00", "0000-01-01T00:00:00Z"):
        assert await refused(alice, q="word", after=bad) == "after"
        assert await refused(alice, q="word", before=bad) == "before"


async def test_bounds_of_a_query(server: Server) -> None:
    alice = server.user("alice")
    for q in ("", " ", '"', "***", "x" * 257, " ".join("abcdefghijklmnopq"), "😀"):
        assert await refused(alice, q=q) == "q", q
    assert await refused(alice) == "q"
    for q in ("x" * 256, " ".join("abcdefghijklmnop"), 'a"b"*c" d*" AND (NEAR -x col:y ^z', "\x00a", "'; DROP", "手"):
        assert await contents(alice, q) == []
    assert await refused(alice, q="x", offset=1001) == "offset"
    assert await contents(alice, "x", offset=1000) == []
    assert await refused(alice, q="x", limit=101) == "limit"
    cursor = "x" * 20
    assert await refused(alice, q="x", cursor=cursor) == "cursor"
    assert await refused(alice, q="x", cursor=cursor, offset=1) == "cursor"
    assert await refused(alice, q="x", sender_id="a b") == "sender_id"


async def test_a_cursor_is_of_one_search(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    await say_many(alice, room_id, 3)
    cursor = (await find(alice, "alice", limit=1))["next_cursor"]
    assert await contents(alice, "alice", cursor=cursor, limit=1) == ["alice 1"]
    for changed in ({"q": "alic*"}, {"room_id": room_id}, {"sender_id": "alice"}, {"after": "2020-01-01T00:00:00Z"}):
        assert await refused(alice, **{"q": "alice", "cursor": cursor, **changed}) == "cursor"
    assert await refused(server.user("bob"), q="alice", cursor=cursor) == "cursor"


@pytest.mark.parametrize("way", INDEXED, indirect=True)
async def test_edits_are_found_instead_of_the_text_before(way: None, server: Server, database: Any) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    message = await alice.say(room_id, "first text")
    assert await contents(alice, "first") == ["first text"]
    path = f"/rooms/{room_id}/messages/{message['message_id']}"
    await alice.put(path, {"content": "second text"})
    assert (await alice.get("/search", q="first")).data["results"] == []  # at once, whatever the index still has
    assert await contents(alice, "second") == ["second text"]
    await alice.put(path, {"content": "third"})
    await alice.put(path, {"content": "fourth"})
    assert await contents(alice, "second") == await contents(alice, "third") == []
    assert await contents(alice, "fourth") == ["fourth"]
    await alice.delete(path)
    assert (await alice.get("/search", q="fourth")).data["results"] == []
    assert await contents(alice, "fourth") == []
    await server.app.close()
    assert (await asyncio.to_thread(check_database, str(database))).findings == []


@pytest.mark.parametrize("way", INDEXED, indirect=True)
async def test_purged_and_expired_messages_leave_the_index(start_server: StartServer, way: None, database: Any) -> None:
    clock = HandClock()
    server = await start_server({"retention.days": 10}, clock=clock)
    alice = server.user("alice")
    deleted, kept = await alice.make_room(), await alice.make_room()
    await alice.say(deleted, "word deleted")
    await alice.say(kept, "word old")
    clock.advance(20 * 86_400)
    await alice.say(kept, "word young")
    assert await contents(alice, "word") == ["word young", "word old", "word deleted"]
    await alice.delete(f"/rooms/{deleted}")
    assert (await alice.get("/search", q="word deleted")).data["results"] == []
    [tenant] = server.services.tenants.all()
    await apply_retention(server.services, tenant)
    await purge_deleted(server.services)
    assert await contents(alice, "word") == ["word young"]
    fetch = server.services.store.readers.fetch
    assert await fetch("SELECT term, doc FROM search_vocabulary WHERE term IN ('deleted', 'old')", {}) == []
    assert await fetch("SELECT count(*) FROM search_outdated", {}) == [(0,)]
    assert await fetch("SELECT count(*) FROM search_blocks", {}) == [(1,)]
    # A room's key may be used again, the keys of its rows in the index not.
    again = await alice.make_room()
    await alice.say(again, "word again")
    assert await contents(alice, "word") == ["word again", "word young"]
    await server.app.close()
    assert (await asyncio.to_thread(check_database, str(database))).findings == []


async def test_the_index_goes_on_where_it_stopped(start_server: StartServer, database: Any) -> None:
    server = await start_server({"search.enabled": False})
    alice = server.user("alice")
    room_id = await alice.make_room()
    await alice.say(room_id, "word 1")
    assert (await alice.get("/search", q="word")).status == 404
    assert (await server.request("GET", "/health")).data["search"] == {"enabled": False, "lag": 0}
    server = await restart(start_server, server)
    alice = server.user("alice")
    message = await alice.say(room_id, "word 2")
    assert await contents(alice, "word") == ["word 2", "word 1"]
    assert (await server.request("GET", "/health")).data["search"] == {"enabled": True, "lag": 0}
    server = await restart(start_server, server, {"search.enabled": False})
    alice = server.user("alice")
    await alice.say(room_id, "word 3")
    await alice.put(f"/rooms/{room_id}/messages/{message['message_id']}", {"content": "changed"})
    await server.services.indexer.update()  # takes out what is outdated, and puts in nothing
    assert await server.services.store.readers.fetch("SELECT count(*) FROM search_outdated", {}) == [(0,)]
    server = await restart(start_server, server)
    assert await contents(server.user("alice"), "word") == ["word 3", "word 1"]
    assert await contents(server.user("alice"), "changed") == ["changed"]
    await server.app.close()
    assert (await asyncio.to_thread(check_database, str(database))).findings == []


async def test_without_fts5_search_is_off_and_then_built_again(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, database: Any
) -> None:
    server = await start_server()
    alice = server.user("alice")
    room_id = await alice.make_room()
    message, pending = [await alice.say(room_id, f"{name} before") for name in ("word", "pending")]
    assert await contents(alice, "before") == ["pending before", "word before"]
    await alice.put(f"/rooms/{room_id}/messages/{pending['message_id']}", {"content": "changed"})
    with monkeypatch.context() as patch:
        patch.setattr(search_index, "_HAS_FTS5", "SELECT 1 WHERE 0")
        server = await restart(start_server, server)
        assert "search is off: this SQLite has no FTS5" in caplog.text
        alice = server.user("alice")
        assert (await alice.get("/search", q="word")).status == 404
        assert (await server.request("GET", "/health")).data["search"] == {"enabled": False, "lag": 0}
        await alice.put(f"/rooms/{room_id}/messages/{message['message_id']}", {"content": "other"})
        await alice.say(room_id, "word after")
        await server.services.indexer.update()
        assert await server.services.store.readers.fetch("SELECT count(*) FROM search_outdated", {}) == [(0,)]
    server = await restart(start_server, server)
    assert await contents(server.user("alice"), "word") == ["word after"]
    assert await contents(server.user("alice"), "other") == ["other"]
    assert await contents(server.user("alice"), "changed") == ["changed"]
    await server.user("alice").say(await server.user("alice").make_room(), "in a new room")
    await server.services.indexer.update()
    assert await contents(server.user("alice"), "new") == ["in a new room"]
    assert await server.services.store.readers.fetch("SELECT is_stale FROM search_progress", {}) == [(0,)]
    await server.app.close()
    assert (await asyncio.to_thread(check_database, str(database))).findings == []


async def test_a_check_compares_the_index_with_the_messages(server: Server, database: Any) -> None:
    alice = server.user("alice")
    rooms = [await alice.make_room() for _ in range(3)]
    for room_id in rooms:
        await alice.say(room_id, "some Wörds 手机 here, some")
    assert await contents(alice, "words") == ["some Wörds 手机 here, some"] * 3
    await server.app.close()

    def spoil(sql: str) -> list[str]:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("DROP TRIGGER IF EXISTS search_edited")
            connection.execute(sql)
            connection.commit()
        return check_database(str(database)).findings

    assert await asyncio.to_thread(spoil, "SELECT 1") == []
    wrong = await asyncio.to_thread(spoil, "UPDATE messages SET content = 'some' WHERE room_key = 1")
    assert wrong == [f"{rooms[0]}: the search index does not agree with its messages"]
    wrong = await asyncio.to_thread(spoil, "INSERT INTO search_index (rowid, words) VALUES (5, 'stray')")
    assert "a room that is gone: the search index does not agree with its messages" in wrong


async def test_a_word_that_sqlite_cuts_spoils_neither_a_search_nor_a_check(server: Server, database: Any) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    texts = ["x" * 40_000, "a" + "ж" * 20_000, "aж", "ж" * 17_000 + " end"]  # two of them are cut inside a character
    sent = [await alice.say(room_id, text) for text in texts]
    for prefix, found in (("x*", texts[:1]), ("aж*", texts[2:0:-1]), ("жж* end", texts[3:])):
        assert await contents(alice, prefix) == found
    stranger = server.user("alice", (await server.make_tenant("other"))["api_key"])
    assert await contents(stranger, "a*") == []
    await alice.delete(f"/rooms/{room_id}/messages/{sent[1]['message_id']}")
    assert await contents(alice, "aж*") == ["aж"]
    await server.app.close()
    assert (await asyncio.to_thread(check_database, str(database))).findings == []


async def test_new_messages_are_found_before_all_old_ones_are(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, database: Any
) -> None:
    monkeypatch.setattr(search_index, "LONG_TAIL", 5)
    monkeypatch.setattr(search_tail, "LONG_TAIL", 0)  # what is not in the index is not found here
    monkeypatch.setattr(indexer, "LEAST_ROWS", 2)
    monkeypatch.setattr(indexer, "MOST_ROWS", 2)
    monkeypatch.setattr(indexer, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(background, "IDLE_STEP_SECONDS", 0.0)
    monkeypatch.setattr(background, "LIGHT_STEP_SECONDS", 0.0)
    monkeypatch.setattr(background, "STEP_SECONDS", 0.0)
    server = await start_server({"search.enabled": False})
    alice = server.user("alice")
    room_id = await alice.make_room()
    ids = await say_many(alice, room_id, 21)
    server = await restart(start_server, server)
    alice, service = server.user("alice"), server.services.indexer
    step = service._step
    seen: list[int] = []

    async def watch(work: Any) -> Any:
        outcome = await step(work)
        if len(seen) == 3:
            await alice.say(room_id, "alice new")
            await alice.put(f"/rooms/{room_id}/messages/{ids[-1]}", {"content": "alice edited"})
        found = (await alice.get("/search", q="alice", limit=100)).data["results"]
        seen.append(len(found))
        if len(seen) == 8:
            assert found[0]["message"]["content"] == "alice new"
            assert len(found) < 22
        return outcome

    monkeypatch.setattr(service, "_step", watch)
    await service.update()
    assert len(seen) > 8
    assert len(await contents(alice, "alice", limit=100)) == 22
    assert (await contents(alice, "alice"))[1] == "alice edited"
    await server.app.close()
    assert (await asyncio.to_thread(check_database, str(database))).findings == []


async def test_a_tenant_may_have_no_search(server: Server) -> None:
    made = await server.make_tenant("quiet", search=False)
    alice = server.user("alice", made["api_key"])
    room_id = await alice.make_room()
    await alice.say(room_id, "word")
    reply = await alice.get("/search", q="word")
    assert (reply.status, reply.error["code"]) == (404, "NOT_FOUND")
    await server.admin("PATCH", f"/tenants/{made['tenant_id']}", {"config": {"search": None}})
    assert await contents(alice, "word") == ["word"]


async def test_a_search_that_takes_too_long_is_503(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    await alice.say(room_id, "word")
    assert MAX_SECONDS == 2.0
    monkeypatch.setattr("chatapi.search.MAX_SECONDS", -1.0)
    monkeypatch.setattr(search, "STEP_SECONDS", -1.0)
    reply = await alice.get("/search", q="word")
    assert (reply.status, reply.error["code"]) == (503, "INTERNAL_ERROR")
    # A statement under way is ended too, and its reader serves others.
    monkeypatch.setattr(
        search_few,
        "_FIND_ROWS",
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
    )
    monkeypatch.setattr("chatapi.search.MAX_SECONDS", 0.05)
    assert (await alice.get("/search", q="word")).status == 503
    assert (await alice.get("/rooms")).status == 200


async def test_one_step_of_all_searches_is_under_way_at_a_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    await alice.say(room_id, "word")
    await server.services.indexer.update()
    running: list[int] = []
    take_step = search.SearchRun.take_step

    def watch(run: Any, deadline_s: float, connection: Any) -> bool:
        running.append(1)
        assert len(running) == 1
        try:
            return take_step(run, deadline_s, connection)
        finally:
            running.pop()

    monkeypatch.setattr(search.SearchRun, "take_step", watch)
    monkeypatch.setattr(search, "STEP_SECONDS", 0.0)
    replies = await asyncio.gather(*(alice.get("/search", q="word") for _ in range(8)))
    assert [len(reply.data["results"]) for reply in replies] == [1] * 8


@pytest.mark.parametrize("way", ["few are indexed", "many are indexed", "older are indexed"], indirect=True)
async def test_a_message_indexed_during_a_search_is_found_once(
    way: None, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = server.user("alice")
    rooms = [await alice.make_room() for _ in range(3)]
    for number in range(24):
        await alice.say(rooms[number % 3], f"word {number}")
    for _ in range(3):
        assert len(await contents(alice, "word", limit=100)) == 24
    monkeypatch.setattr(search, "STEP_SECONDS", -1.0)
    run_step, indexer = server.services.store.readers.run_step, server.services.indexer
    indexed: list[int] = []

    async def index_and_run(*args: Any) -> Any:
        outcome = await run_step(*args)
        indexed.append((await indexer._step(partial(search_index.add_newest, 1))).rows)
        return outcome

    monkeypatch.setattr(server.services.store.readers, "run_step", index_and_run)
    found = (await alice.get("/search", q="word", limit=100)).data["results"]
    assert [result["message"]["content"] for result in found] == [f"word {number}" for number in reversed(range(24))]
    assert indexed[:8] == [1] * 8


async def test_the_index_leaves_the_writer_to_others_until_its_tail_is_long(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server()
    alice, indexer = server.user("alice"), server.services.indexer
    room_id = await alice.make_room()
    monkeypatch.setattr(background.Background, "is_loaded", True)
    await say_many(alice, room_id, 10)
    await indexer.update()
    assert indexer._find_rest() == REST
    monkeypatch.setattr("chatapi.indexer.LONG_TAIL", 8)
    rests = []
    for _ in range(10):
        await alice.say(room_id, "word")
        rests.append(indexer._find_rest())
    assert rests[:4] == [REST] * 4
    assert rests[3:8] == sorted(set(rests[3:8]), reverse=True)
    assert rests[7:] == [LEAST_REST] * 3


async def test_a_search_that_turns_to_the_index_finds_each_message_once(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read the newest ones in the logs of its rooms by then, and the index has them, too."""
    for name, value in (("FEW", 5), ("FEW_IN_ROOMS", 0), ("MANY_ROOMS", 0), ("MOST_ROOMS", 0), ("FEW_ROOMS", 1)):
        monkeypatch.setattr(search_few, name, value)
    for name, value in (("SAMPLE", 0), ("MOST_READ", 0), ("MOST_READ_PER_ROOM", 0), ("CANDIDATES", 2)):
        monkeypatch.setattr(search, name, value)
    alice = server.user("alice")
    rooms = [await alice.make_room() for _ in range(4)]
    for number in range(16):
        await alice.say(rooms[number % 4], f"word {number}")
    await server.services.indexer.update()
    assert await contents(alice, "word") == [f"word {number}" for number in reversed(range(16))]
