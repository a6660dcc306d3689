"""The index of search over time: kills, copies, imports, compaction, and changes while it catches up."""

import asyncio
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster
from conftest import StartServer
from driver import HandClock, Server, User, eventually, restart, say_many
from go_database import KEYS, make_go_database
from server_process import ServerProcess

from chatapi import housekeeping, indexer
from chatapi.clock import Clock
from chatapi.housekeeping import apply_retention
from chatapi.indexer import LEAST_REST, MERGED_CHUNKS, REST, Indexer
from chatapi.store import background, search, search_few, search_index, search_tail
from chatapi.store.backup import back_up
from chatapi.store.check import check_database
from chatapi.store.compact import compact_database
from chatapi.store.importer import CredentialMakers, import_go_database
from chatapi.tenant_secrets import hash_key, make_key_id, make_secret

OLD_MESSAGES = 60_000  # more than a search reads of those that are not in the index
KILLS = 5


async def contents(user: User, q: str, **params: object) -> list[str]:
    found = (await user.get("/search", q=q, limit=100, **params)).data["results"]
    return [result["message"]["content"] for result in found]


async def check(database: Path) -> None:
    assert (await asyncio.to_thread(check_database, str(database))).findings == []


def query(database: Path, sql: str) -> Any:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchone()


@pytest.fixture
def in_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index takes two messages at a time, when a test says so, and a search finds what is in it."""
    monkeypatch.setattr(housekeeping, "list_jobs", lambda _services: [])
    monkeypatch.setattr(search_index, "LONG_TAIL", 5)
    monkeypatch.setattr(search_tail, "LONG_TAIL", 0)
    monkeypatch.setattr(indexer, "LEAST_ROWS", 2)
    monkeypatch.setattr(indexer, "MOST_ROWS", 2)
    for name in ("IDLE_STEP_SECONDS", "LIGHT_STEP_SECONDS", "STEP_SECONDS"):
        monkeypatch.setattr(background, name, 0.0)


async def start_behind(start_server: StartServer, texts: int, **settings: Any) -> tuple[Server, str, list[str]]:
    """A server with as many messages that are not in the index; the room, and their ids."""
    server = await start_server({"search.enabled": False, **settings})
    alice = server.user("alice")
    room_id = await alice.make_room()
    ids = await say_many(alice, room_id, texts)
    return await restart(start_server, server, settings), room_id, ids


async def fill(server: Server, steps: int) -> None:
    """The first steps of catching up."""
    await server.services.indexer._step(search_index.skip_long_tail)
    for _ in range(steps):
        assert await server.services.indexer._fill() >= 0


async def test_changes_while_the_index_catches_up(
    in_small_steps: None, start_server: StartServer, database: Path
) -> None:
    server, room_id, ids = await start_behind(start_server, 20)
    alice = server.user("alice")
    await fill(server, 4)
    assert (await server.request("GET", "/health")).data["search"]["lag"] == 12
    # Of eight messages that are in the index, and of twelve that are not.
    await alice.put(f"/rooms/{room_id}/messages/{ids[2]}", {"content": "alice edited early"})
    await alice.put(f"/rooms/{room_id}/messages/{ids[12]}", {"content": "alice edited late"})
    await alice.delete(f"/rooms/{room_id}/messages/{ids[3]}")
    await alice.delete(f"/rooms/{room_id}/messages/{ids[13]}")
    await alice.say(room_id, "alice new")
    await server.services.indexer._fill()
    await alice.put(f"/rooms/{room_id}/messages/{ids[2]}", {"content": "alice edited again"})
    await server.services.indexer.update()
    wanted = [f"alice {number}" for number in range(20)]
    wanted[2], wanted[12] = "alice edited again", "alice edited late"
    del wanted[13], wanted[3]
    assert await contents(alice, "alice") == ["alice new", *reversed(wanted)]
    assert await contents(alice, "early") == []
    assert await contents(alice, "edited") == ["alice edited late", "alice edited again"]
    await server.app.close()
    await check(database)


async def test_a_few_messages_wait_for_more_and_an_edit_does_not(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "list_jobs", lambda _services: [])
    server = await start_server()
    alice, service = server.user("alice"), server.services.indexer
    room_id = await alice.make_room()

    async def find_lag() -> int:
        await service.tend()
        return await search_tail.count_lag(server.services.store.readers)

    ids = await say_many(alice, room_id, 1)
    assert await find_lag() == 0  # the first time
    ids += await say_many(alice, room_id, 3)
    assert await find_lag() == 3
    assert await contents(alice, "alice") == ["alice 2", "alice 1", "alice 0", "alice 0"]  # found all the same
    await alice.put(f"/rooms/{room_id}/messages/{ids[0]}", {"content": "edited"})
    assert await find_lag() == 0
    assert await contents(alice, "edited") == ["edited"]
    await say_many(alice, room_id, 3)
    assert await find_lag() == 3
    monkeypatch.setattr(indexer, "FEW_MESSAGES", 4)
    await say_many(alice, room_id, 1)
    assert await find_lag() == 0
    await say_many(alice, room_id, 1)
    assert await find_lag() == 1
    service._gathers_until_s = 0.0
    assert await find_lag() == 0


async def test_the_index_rests_for_others_unless_much_of_it_is_outdated(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "list_jobs", lambda _services: [])
    monkeypatch.setattr(indexer, "MOST_REST_SECONDS", 0.0)
    monkeypatch.setattr(search_index, "OUTDATED_ROWS", 1)
    for name in ("IDLE_STEP_SECONDS", "LIGHT_STEP_SECONDS", "STEP_SECONDS"):
        monkeypatch.setattr(background, name, 0.0)
    rests: list[float] = []
    find_rest = Indexer._find_rest

    def note(service: Indexer) -> float:
        rests.append(find_rest(service))
        return rests[-1]

    monkeypatch.setattr(Indexer, "_find_rest", note)
    server = await start_server()
    alice, service = server.user("alice"), server.services.indexer
    room_id = await alice.make_room()
    ids = await say_many(alice, room_id, 4)
    monkeypatch.setattr(background.Background, "is_loaded", False)
    await service.update()
    assert rests == []
    for message_id in ids:
        await alice.put(f"/rooms/{room_id}/messages/{message_id}", {"content": "edited"})
    monkeypatch.setattr(background.Background, "is_loaded", True)
    await service.update()
    assert rests.count(LEAST_REST) >= 4
    assert rests[-1] == REST


async def test_the_index_is_merged_into_few_segments(
    in_small_steps: None, start_server: StartServer, database: Path
) -> None:
    server = await start_server()
    alice = server.user("alice")
    room_id = await alice.make_room()
    for _ in range(20):
        await say_many(alice, room_id, 2)
        await server.services.indexer.update()
    await server.app.close()
    (segments,) = query(database, "SELECT count(DISTINCT segid) FROM search_index_idx")
    assert segments <= MERGED_CHUNKS  # of 20 chunks


async def test_messages_that_expire_while_the_index_catches_up(
    in_small_steps: None, start_server: StartServer, database: Path
) -> None:
    clock = HandClock()
    server = await start_server({"search.enabled": False}, clock=clock)
    alice = server.user("alice")
    rooms = [await alice.make_room() for _ in range(2)]
    await say_many(alice, rooms[0], 12)
    gone = await alice.make_room()
    await say_many(alice, gone, 6)
    clock.advance(20 * 86_400)
    await say_many(alice, rooms[1], 8)
    await server.app.close()
    server = await start_server({"retention.days": 10}, clock=clock)
    alice = server.user("alice")
    await fill(server, 3)
    await alice.delete(f"/rooms/{gone}")
    await apply_retention(server.services, server.services.tenants.all()[0])
    await server.services.indexer._fill()
    await housekeeping.purge_deleted(server.services)
    await server.services.indexer.update()
    assert await contents(alice, "alice") == [f"alice {number}" for number in reversed(range(8))]
    await server.app.close()
    assert query(database, "SELECT count(*) FROM search_outdated") == (0,)
    await check(database)


async def test_a_backup_is_searched_as_the_database_was(
    in_small_steps: None, start_server: StartServer, database: Path, tmp_path: Path
) -> None:
    server, room_id, ids = await start_behind(start_server, 20)
    await fill(server, 4)
    await server.user("alice").put(f"/rooms/{room_id}/messages/{ids[2]}", {"content": "alice edited"})
    copy = tmp_path / "copy.db"
    await asyncio.to_thread(back_up, str(database), str(copy))
    await check(copy)
    await server.app.close()
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    shutil.copy(copy, database)
    server = await start_server()
    await server.services.indexer.update()
    assert len(await contents(server.user("alice"), "alice")) == 20
    assert await contents(server.user("alice"), "edited") == ["alice edited"]
    await server.app.close()
    await check(database)


async def test_compaction_takes_outdated_rows_out_of_the_index(
    in_small_steps: None, start_server: StartServer, database: Path
) -> None:
    server, room_id, ids = await start_behind(start_server, 20)
    alice = server.user("alice")
    await server.services.indexer.update()
    for message_id in ids[:10]:
        await alice.delete(f"/rooms/{room_id}/messages/{message_id}")
    await alice.put(f"/rooms/{room_id}/messages/{ids[10]}", {"content": "alice edited"})
    await server.app.close()
    assert query(database, "SELECT count(*) FROM search_outdated") == (11,)
    await asyncio.to_thread(compact_database, str(database), lambda _usage: None)
    assert query(database, "SELECT count(*) FROM search_outdated") == (0,)
    await check(database)
    server = await start_server()
    assert len(await contents(server.user("alice"), "alice")) == 10
    assert await contents(server.user("alice"), "edited") == ["alice edited"]


@pytest.mark.parametrize("is_used", [False, True])
async def test_an_imported_database_is_searched(
    in_small_steps: None,
    start_server: StartServer,
    blocking: BlockBuster,
    database: Path,
    tmp_path: Path,
    is_used: bool,
) -> None:
    """Also one in which newer messages were indexed before: the imported ones are as old as they were."""
    if is_used:
        server = await start_server()
        alice = server.user("alice")
        await say_many(alice, await alice.make_room(), 3)
        await server.services.indexer.update()
        await server.app.close()
    old = make_go_database(tmp_path / "go.db")
    blocking.deactivate()  # the command has a loop of its own
    credentials = CredentialMakers(make_key_id, make_secret, hash_key)
    report = await asyncio.to_thread(
        lambda: import_go_database(str(old), str(database), clock=Clock(), credentials=credentials)
    )
    assert report.counts["messages"].imported == 5
    await check(database)
    server = await start_server()
    await server.services.indexer.update()
    imported = server.user("alice", KEYS["tenant_one"])
    assert await contents(imported, "third") == ["third"]
    assert len(await contents(server.user("alice"), "alice")) == (3 if is_used else 0)
    await server.app.close()
    await check(database)


@pytest.fixture
def prefilled(tmp_path: Path) -> Iterator[ServerProcess]:
    """Stopped, with messages that are not in the index."""
    made = [sys.executable, "-m", "chatapi.store.prefill", str(tmp_path / "chatapi.db"), str(OLD_MESSAGES)]
    subprocess.run(made, check=True)
    server = ServerProcess(tmp_path)
    yield server
    if server._process is not None:
        server.kill()


@pytest.mark.slow
async def test_the_index_is_whole_after_kills_while_it_was_built(prefilled: ServerProcess, tmp_path: Path) -> None:
    database, server = tmp_path / "chatapi.db", prefilled
    (last_key,) = query(database, "SELECT max(message_key) FROM messages")
    (first_key,) = query(database, "SELECT min(message_key) FROM messages")
    await asyncio.to_thread(server.start)
    key = await asyncio.to_thread(server.create_tenant, "acme")
    alice = {"key": key, "user": "alice"}
    room = await asyncio.to_thread(lambda: server.call("POST", "/rooms", {"type": "group"}, **alice))
    path = f"/rooms/{room['room_id']}/messages"
    sent: list[str] = []
    stops: list[int] = []
    for kill in range(KILLS):
        for _ in range(20):
            sent.append(f"word {len(sent)}")
            await asyncio.to_thread(lambda: server.call("POST", path, {"content": sent[-1]}, **alice))
        until_key = first_key + (last_key - first_key) * kill // KILLS
        await eventually(lambda key=until_key: read_done(database) > key)
        await asyncio.sleep(random.uniform(0.0, 0.02))  # so that the kill hits anything, not a wait for something
        await asyncio.to_thread(server.kill)
        stops.append(read_done(database))
        await check(database)
        await asyncio.to_thread(server.start)
    assert stops[0] < last_key  # it was not done yet
    await eventually(lambda: server_lag(server) == 0)
    page = await asyncio.to_thread(lambda: server.call("GET", "/search?q=word&limit=100", **alice))
    found = [result["message"]["content"] for result in page["results"]]
    assert found == list(reversed(sent))
    await asyncio.to_thread(server.stop)
    await check(database)
    (indexed,) = query(database, "SELECT max(doc) FROM search_vocabulary WHERE term LIKE 'xxx%'")
    assert indexed == OLD_MESSAGES


def read_done(database: Path) -> int:
    return int(query(database, "SELECT done_key FROM search_progress")[0])


def server_lag(server: ServerProcess) -> int:
    health = server._call("GET", "/health", None, {})
    return int(health["search"]["lag"])


FILL_ROOM = """
    WITH RECURSIVE numbers (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM numbers WHERE n < {last})
    INSERT INTO messages (message_key, room_key, seq, sender_id, content, created_at_us)
    SELECT m.message_key + n, m.room_key, n, m.sender_id, 'alice ' || n, m.created_at_us
    FROM numbers CROSS JOIN messages AS m WHERE m.seq = 1
"""


async def test_the_newest_come_first_also_if_they_were_indexed_first(
    start_server: StartServer, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index has the messages of a room in blocks of 1,024, whose order is that of the room."""
    last = 2_060
    for module, name in ((search_few, "FEW"), (search_few, "FEW_IN_ROOMS"), (search, "SAMPLE"), (search, "MOST_READ")):
        monkeypatch.setattr(module, name, 0)  # it is the index that is asked, from the third message on
    monkeypatch.setattr(search, "MOST_READ_PER_ROOM", 0)
    monkeypatch.setattr(search, "CANDIDATES", 2)
    monkeypatch.setattr(housekeeping, "list_jobs", lambda _services: [])
    monkeypatch.setattr(search_index, "LONG_TAIL", 5)
    server = await start_server({"search.enabled": False})
    room_id = await server.user("alice").make_room()
    await server.user("alice").say(room_id, "alice 1")
    await server.app.close()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(FILL_ROOM.format(last=last))
    server = await start_server()
    alice = server.user("alice")
    await server.services.indexer._step(search_index.skip_long_tail)
    await alice.say(room_id, f"alice {last + 1}")
    await server.services.indexer.update()
    assert query(database, "SELECT count(*) FROM search_blocks") == (3,)
    expected = [f"alice {number}" for number in range(last + 1, 0, -1)]
    for first in (0, 980):
        found = (await alice.get("/search", q="alice", limit=100, offset=first)).data["results"]
        assert [result["message"]["content"] for result in found] == expected[first : first + 100]


async def test_newer_messages_wait_for_the_next_look(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many at once take the index a fraction of what one by one would."""
    monkeypatch.setattr(housekeeping, "list_jobs", lambda _services: [])
    monkeypatch.setattr(indexer, "PAUSE_SECONDS", 3600.0)
    server = await start_server()
    alice, service = server.user("alice"), server.services.indexer
    room_id, step, texts = await alice.make_room(), service._step, []

    async def say_and_step(work: Any) -> Any:
        texts.append(f"alice {len(texts)}")
        assert len(texts) < 20
        await alice.say(room_id, texts[-1])
        return await step(work)

    await alice.say(room_id, "alice first")
    monkeypatch.setattr(service, "_step", say_and_step)
    await service.update()
    assert sorted(await contents(alice, "alice")) == sorted(["alice first", *texts])
