"""Notifications of very many recipients: stored in steps beside the writes of others, and complete in the end."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import StartServer
from driver import Reply, Server, Socket, User, eventually
from hooked import QUICK, hook
from receiver import Receiver
from sample_database import damage, query
from server_process import ServerProcess

from chatapi import notifications
from chatapi.errors import unavailable
from chatapi.housekeeping import purge_deleted
from chatapi.store import notifications as store_notifications
from chatapi.store import purge
from chatapi.store.check import check_database

ADD_MEMBERS = """
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8000)
        INSERT INTO members (room_key, user_id, tenant_key, role, joined_at_us)
        SELECT r.room_key, printf('user%05d', n.i), r.tenant_key, 'member', 1 FROM n, rooms AS r
        WHERE r.type = 'group';
"""
USERS = [f"user{number:02}" for number in range(11)]


class Obstacle:
    """Steps are refused while it is there, as by a full disk; `after` of them are taken before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.after = 99
        self.taken = 0
        self.error: Exception = unavailable("The database cannot accept writes")
        self._step = store_notifications.insert_more_recipients
        monkeypatch.setattr(store_notifications, "insert_more_recipients", self._take)

    def _take(self, *args: Any) -> Any:
        if self.taken >= self.after:
            raise self.error
        self.taken += 1
        return self._step(*args)


@pytest.fixture(autouse=True)
def obstacle(monkeypatch: pytest.MonkeyPatch) -> Obstacle:
    monkeypatch.setattr(notifications, "LARGE_RECIPIENTS", 3)
    monkeypatch.setattr(notifications, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(store_notifications, "RECIPIENTS_AT_ONCE", 3)
    return Obstacle(monkeypatch)


async def notify(caller: User, payload: object = None, **targets: object) -> dict[str, Any]:
    reply = await caller.post("/notify", {"topic": "news", "payload": payload, "targets": targets})
    assert reply.status == 202, reply.body
    return dict(reply.data)


async def ask(caller: User, **targets: object) -> Reply:
    return await caller.post("/notify", {"topic": "news", "payload": None, "targets": targets})


async def begin(server: Server, obstacle: Obstacle, caller: User, **targets: object) -> asyncio.Task[Reply]:
    """Returns after the first step, the next one is refused."""
    obstacle.after = 1
    asked = asyncio.create_task(ask(caller, **targets))
    await eventually(lambda: obstacle.taken)
    return asked


async def make_targets(find_user: Callable[[str], User]) -> str:
    """A room of eleven users, and three subscribers to the topic `news`, one of whom is in the room; the room."""
    for user_id in ("sub1", "sub2", USERS[4]):
        await find_user(user_id).post("/subscriptions", {"topic": "news"})
    return await find_user(USERS[0]).make_room(*USERS[1:])


async def payloads(socket: Socket, count: int) -> list[object]:
    return [(await socket.expect("notification"))["payload"] for _ in range(count)]


async def test_each_recipient_is_stored_once_in_steps(server: Server, obstacle: Obstacle) -> None:
    room_id = await make_targets(server.user)
    sockets = [await server.user(name).connect() for name in (USERS[0], USERS[10], "sub2")]
    app = server.user("app")
    sent = await notify(app, 1, user_ids=["named", USERS[2]], room_id=room_id, topic_subscribers=True)
    assert sent["recipients"] == len(USERS) + 2 + 1
    assert obstacle.taken == 6  # of eleven members 3, 3, 3, 2 and of three subscribers 3, and then none
    for socket in sockets:
        frame = await socket.expect("notification")
        assert (frame["payload"], frame["notification_id"]) == (1, sent["notification_id"])
        await socket.expect_nothing("notification")
    for name in [*USERS, "sub1", "named"]:
        [found] = (await server.user(name).get("/notifications")).data["notifications"]
        assert found["created_at"] == sent["created_at"]
    assert (await notify(app, topic_subscribers=True))["recipients"] == 3  # a small one, in one transaction
    assert obstacle.taken == 6


async def test_meanwhile_others_go_on_and_the_tenants_own_wait(server: Server, obstacle: Obstacle) -> None:
    other = (await server.make_tenant("other"))["api_key"]
    room_id = await make_targets(server.user)
    socket = await server.user(USERS[0]).connect()
    obstacle.after = 1
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        app = server.user("app")
        answers = [group.create_task(notify(app, 1, room_id=room_id))]
        await eventually(lambda: bool(server.services.notifications._under_way))
        answers += [group.create_task(notify(app, number, user_ids=[USERS[0]])) for number in (2, 3)]
        answers += [group.create_task(notify(app, 4, room_id=room_id))]
        assert (await notify(server.user("app", other), user_ids=["bob"]))["recipients"] == 1
        await server.user(USERS[0]).say(room_id, "meanwhile")
        await socket.expect("message")
        late = await server.user(USERS[10]).connect()
        assert not any(answer.done() for answer in answers)
        obstacle.after = 99
    assert [answer.result()["recipients"] for answer in answers] == [11, 1, 1, 11]
    got = await payloads(socket, 4)
    assert got[0] == 1
    assert sorted(map(str, got)) == ["1", "2", "3", "4"]
    assert await payloads(late, 2) == [1, 4]
    for each in (socket, late):
        await each.expect_nothing("notification")
    assert not server.services.notifications._under_way


@pytest.mark.parametrize("after", [0, 2])
async def test_one_that_a_stop_has_interrupted_goes_on(
    start_server: StartServer, receiver: Receiver, obstacle: Obstacle, after: int
) -> None:
    server = await start_server({**QUICK, "server.shutdown_grace_seconds": 0})
    hooked = await hook(server, receiver.url)
    room_id = await make_targets(hooked.user)
    obstacle.after = after
    asked = asyncio.create_task(notify(hooked.user("app"), 1, room_id=room_id, topic_subscribers=True))
    await eventually(lambda: bool(server.services.notifications._under_way))
    asked.add_done_callback(lambda task: task.exception())  # it is cut off
    await server.app.close()
    obstacle.after = 99
    server = await start_server(QUICK)
    await eventually(lambda: not server.services.notifications._under_way)
    rows = await server.services.store.readers.fetch("SELECT user_id FROM notification_recipients ORDER BY 1", {})
    assert [row[0] for row in rows] == ["sub1", "sub2", *USERS]
    assert await server.services.store.readers.fetch("SELECT * FROM unfinished_notifications", {}) == []
    calls = await receiver.wait_for(13)
    assert {call.user_id for call in calls} == {"sub1", "sub2", *USERS}
    socket = await server.user(USERS[10], hooked.api_key).connect(ready=False)
    assert await payloads(socket, 1) == [1]


async def test_deleting_its_tenant_ends_it_at_once_unconfirmed(server: Server, obstacle: Obstacle) -> None:
    doomed = await server.make_tenant("doomed")
    room_id = await make_targets(lambda name: server.user(name, doomed["api_key"]))
    asked = await begin(server, obstacle, server.user("app", doomed["api_key"]), room_id=room_id)
    await server.admin("DELETE", f"/tenants/{doomed['tenant_id']}")
    obstacle.after = 99
    reply = await asked
    assert (reply.status, reply.error["code"]) == (404, "NOT_FOUND")
    assert obstacle.taken == 1  # though nothing is purged yet
    assert not server.services.notifications._under_way
    await purge_deleted(server.services)
    for table in ("notifications", "notification_recipients", "unfinished_notifications"):
        assert await server.services.store.readers.fetch(f"SELECT * FROM {table}", {}) == []


async def test_retention_keeps_recipients_from_being_added_first(
    server: Server, obstacle: Obstacle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "CHUNK_ROWS", 2)
    room_id = await make_targets(server.user)
    asked = await begin(server, obstacle, server.user("app"), room_id=room_id)
    [delivery] = server.services.notifications._under_way.values()
    step = partial(purge.purge_old_notifications, delivery.tenant.tenant_key, delivery.created_at_us + 1_000_000)
    store = server.services.store
    assert await store.writer.change(
        lambda transaction: transaction.run(lambda connection: step(connection, lambda: True))
    )
    assert await store.readers.fetch("SELECT count(*) FROM notification_recipients", {}) == [(2,)]
    obstacle.after = 99
    reply = await asked
    assert (reply.status, reply.error["code"]) == (404, "NOT_FOUND")
    assert await store.readers.fetch("SELECT count(*) FROM notification_recipients", {}) == [(2,)]


async def test_a_database_that_refuses_is_503_for_all_at_once_and_it_goes_on_later(
    server: Server, database: Path, obstacle: Obstacle
) -> None:
    room_id = await make_targets(server.user)
    socket = await server.user(USERS[0]).connect()
    app = server.user("app")
    await server.services.store._connection.execute("PRAGMA busy_timeout = 0")
    asked = [await begin(server, obstacle, app, room_id=room_id)]
    asked.append(asyncio.create_task(ask(app, user_ids=[USERS[0]])))
    [delivery] = server.services.notifications._under_way.values()
    await eventually(lambda: len(delivery._waiting) == 2)
    locker = await asyncio.to_thread(sqlite3.connect, database, isolation_level=None, check_same_thread=False)
    await asyncio.to_thread(locker.execute, "BEGIN IMMEDIATE")
    obstacle.after = 99
    asked.append(asyncio.create_task(ask(app, user_ids=[USERS[0]])))
    own, *others = await asyncio.gather(*asked)
    for reply in (own, *others):
        assert (reply.status, reply.error["message"]) == (503, "The database cannot accept writes")
    # The first is stored, and goes on: sent again, it would be doubled.
    assert own.error["details"]["notification_id"].startswith("notif_")
    assert not any("details" in reply.error for reply in others)
    assert (await ask(app, user_ids=[USERS[0]])).status == 503
    await asyncio.to_thread(locker.close)
    assert (await socket.expect("notification"))["topic"] == "news"
    await eventually(lambda: not server.services.notifications._under_way)
    [(count,)] = await server.services.store.readers.fetch("SELECT count(*) FROM notification_recipients", {})
    assert count == len(USERS)
    assert (await ask(app, user_ids=[USERS[0]])).status == 202


async def test_one_that_fails_is_given_up_and_takes_no_other_with_it(server: Server, obstacle: Obstacle) -> None:
    room_id = await make_targets(server.user)
    app = server.user("app")
    obstacle.error = ValueError("a fault of the server")
    failed = asyncio.create_task(ask(app, room_id=room_id))
    obstacle.after = 1
    assert (await failed).status == 500
    assert not server.services.notifications._under_way
    readers = server.services.store.readers
    assert await readers.fetch("SELECT * FROM unfinished_notifications", {}) == []
    assert await readers.fetch("SELECT count(*) FROM notification_recipients", {}) == [(3,)]
    obstacle.after = 99
    assert (await notify(app, room_id=room_id))["recipients"] == 11
    assert await readers.fetch("SELECT count(*) FROM notification_recipients", {}) == [(3 + 11,)]


async def test_only_so_many_of_a_tenant_wait(
    server: Server, obstacle: Obstacle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "MAX_WAITING", 3)
    room_id = await make_targets(server.user)
    app = server.user("app")
    asked = [await begin(server, obstacle, app, room_id=room_id)]
    [delivery] = server.services.notifications._under_way.values()
    asked += [asyncio.create_task(ask(app, user_ids=["bob"])) for _ in range(2)]
    await eventually(lambda: len(delivery._waiting) == 3)
    refused = await ask(app, user_ids=["bob"])
    assert (refused.status, refused.error["message"]) == (503, "Too many notifications are waiting")
    monkeypatch.setattr(notifications, "MAX_WAITING", 9)
    monkeypatch.setattr(notifications, "MAX_WAITING_CHARACTERS", 10)
    assert (await ask(app, user_ids=["bob"])).status == 503
    obstacle.after = 99
    assert [reply.status for reply in await asyncio.gather(*asked)] == [202, 202, 202]


async def test_one_that_has_become_large_while_it_waited_is_stored_in_steps(server: Server, obstacle: Obstacle) -> None:
    room_id = await make_targets(server.user)
    app, owner = server.user("app"), server.user(USERS[0])
    small = await owner.make_room(USERS[1])
    asked = [await begin(server, obstacle, app, room_id=room_id)]
    [delivery] = server.services.notifications._under_way.values()
    asked.append(asyncio.create_task(ask(app, room_id=small)))
    await eventually(lambda: len(delivery._waiting) == 2)
    for name in USERS[2:]:
        assert (await owner.post(f"/rooms/{small}/members", {"user_id": name})).status == 201
    obstacle.after = 99
    assert [reply.data["recipients"] for reply in await asyncio.gather(*asked)] == [11, 11]
    assert obstacle.taken == 8


@pytest.mark.slow
@pytest.mark.timeout(600)  # of dozens of starts
def test_after_a_kill_at_any_moment_all_recipients_get_it_once(tmp_path: Path) -> None:
    database = tmp_path / "chatapi.db"
    with ServerProcess(tmp_path) as server:
        key = server.create_tenant("acme")
        room = server.call("POST", "/rooms", {"type": "group"}, key=key, user="app")["room_id"]
        server.stop()
        damage(database, ADD_MEMBERS)
        server.start()
        body: dict[str, object] = {"topic": "news", "payload": 1, "targets": {"room_id": room}}
        confirmed = unfinished = 0
        for number in range(40):
            if unfinished and number >= 8:
                break  # how soon it is in the middle of one depends on the machine
            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(server.call, "POST", "/notify", body, key=key, user="app")
                wait((asked,), 0.05 * number if number < 8 else 0.01 * (number - 8))
                server.kill()
                confirmed += asked.exception() is None
            unfinished += len(query(database, "SELECT * FROM unfinished_notifications"))
            assert check_database(str(database)).findings == []
            server.start()
            wait_until(lambda: query(database, "SELECT * FROM unfinished_notifications") == [])
            counts = query(database, "SELECT count(*) FROM notification_recipients GROUP BY notification_key")
            assert set(counts) <= {(8_001,)}
            assert len(counts) >= confirmed
        assert unfinished


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
