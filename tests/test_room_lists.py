"""`GET /rooms` against the truth in the database, whatever has happened since the order and the counts were kept."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import StartServer
from driver import Server, User, restart

from chatapi import rankings, room_lists
from chatapi import rooms as loaded_rooms
from chatapi.models import RoomKey
from chatapi.rankings import Ranking, Rankings
from chatapi.store.rooms import RankedRoom

USERS = ("alice", "bob", "carol")

# By the definition of docs/contract.md, sections 7 and 8, as simply as possible.
TRUTH = """
    SELECT r.room_id, m.last_read,
        (SELECT count(*) FROM messages WHERE room_key = r.room_key AND seq > m.last_read AND sender_id <> m.user_id
            AND content IS NOT NULL),
        coalesce((SELECT max(at) FROM (
            SELECT max(created_at_us) AS at FROM messages WHERE room_key = r.room_key
            UNION ALL SELECT max(created_at_us) FROM changes WHERE room_key = r.room_key)), r.created_at_us) AS active
    FROM members AS m JOIN rooms AS r ON r.room_key = m.room_key
    WHERE m.user_id = ? AND r.deleted_at_us IS NULL ORDER BY active DESC, r.room_id DESC
"""


class World:
    """Does something at random, as some user, that may change somebody's list."""

    def __init__(self, server: Server, seed: int) -> None:
        self.users = {name: server.user(name) for name in USERS}
        self.random = random.Random(seed)
        self.rooms: dict[str, set[str]] = {}
        self.messages: list[tuple[str, str, str]] = []

    async def act(self) -> None:
        choices = [
            self.create,
            *[self.send] * 6,
            self.edit,
            *[self.delete] * 2,
            *[self.read] * 2,
            self.join,
            self.leave,
        ]
        await self.random.choice([*choices, self.rename, self.delete_room])()

    def pick(self) -> tuple[str, User] | None:
        candidates = [(room, name) for room, members in sorted(self.rooms.items()) for name in sorted(members)]
        if not candidates:
            return None
        room_id, name = self.random.choice(candidates)
        return room_id, self.users[name]

    async def create(self) -> None:
        if len(self.rooms) < 8:
            owner, other = self.random.sample(USERS, 2)
            room_id = await self.users[owner].make_room(other, room_type="channel")
            self.rooms[room_id] = {owner, other}

    async def send(self) -> None:
        if picked := self.pick():
            room_id, user = picked
            for _ in range(self.random.choice([1, 1, 4])):
                message = await user.say(room_id)
                self.messages.append((room_id, message["message_id"], user.user_id))

    async def edit(self) -> None:
        if self.messages:
            room_id, message_id, sender = self.random.choice(self.messages)
            await self.users[sender].put(f"/rooms/{room_id}/messages/{message_id}", {"content": "edited"})

    async def delete(self) -> None:
        if self.messages:
            room_id, message_id, sender = self.random.choice(self.messages)
            await self.users[sender].delete(f"/rooms/{room_id}/messages/{message_id}")

    async def read(self) -> None:
        if picked := self.pick():
            room_id, user = picked
            last_seq = (await user.get(f"/rooms/{room_id}")).data["last_seq"]
            await user.post(f"/rooms/{room_id}/read", {"seq": self.random.randint(0, last_seq)})

    async def join(self) -> None:
        if self.rooms:
            room_id = self.random.choice(sorted(self.rooms))
            name = self.random.choice(USERS)
            await self.users[name].post(f"/rooms/{room_id}/members", {"user_id": name})
            self.rooms[room_id].add(name)

    async def leave(self) -> None:
        if picked := self.pick():
            room_id, user = picked
            await user.delete(f"/rooms/{room_id}/members/{user.user_id}")
            self.rooms[room_id].discard(user.user_id)

    async def rename(self) -> None:
        if picked := self.pick():
            await picked[1].patch(f"/rooms/{picked[0]}", {"name": str(self.random.random())})

    async def delete_room(self) -> None:
        if (picked := self.pick()) and self.random.random() < 0.3:
            room_id, user = picked
            if (await user.delete(f"/rooms/{room_id}")).status == 204:
                del self.rooms[room_id]


@pytest.fixture(params=["as it is", "little is kept", "rooms are forgotten"])
def strain(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Limits so small that each of them is met."""
    monkeypatch.setattr(room_lists, "KEPT_MESSAGES", 0)
    if request.param != "as it is":
        monkeypatch.setattr(room_lists, "EXAMINED_MESSAGES", 3)
        monkeypatch.setattr(room_lists, "RANKED_ROOMS", 2)
        monkeypatch.setattr(room_lists, "MAX_UNREAD", 5)
    if request.param == "little is kept":
        monkeypatch.setattr(rankings, "MAX_ENTRIES", 25)
        monkeypatch.setattr(rankings, "MAX_VERSIONS", 2)
        monkeypatch.setattr(room_lists, "CAUGHT_UP_ROOMS", 1)
    return str(request.param)


async def forget_rooms(server: Server) -> None:
    """All at once, between two requests: the server's own job must never do that to a room that a request holds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaded_rooms, "IDLE_ROOMS", 0)
        patch.setattr(loaded_rooms, "IDLE_SECONDS", -1.0)
        await server.services.rooms.forget_idle()
    assert len(server.services.rooms) == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 5))])
async def test_the_list_is_the_truth(server: Server, database: Path, strain: str, seed: int) -> None:
    world = World(server, seed)
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        for step in range(40 if seed == 1 else 150):
            await world.act()
            if strain == "rooms are forgotten" and step % 7 == 0:
                await forget_rooms(server)
            name = world.random.choice(USERS)
            shown = (await world.users[name].get("/rooms", limit=100)).data
            told = [(room["room_id"], room["last_read"], room["unread_count"]) for room in shown["rooms"]]
            truth = connection.execute(TRUTH, (name,)).fetchall()
            assert told == [(*row[:2], min(row[2], room_lists.MAX_UNREAD)) for row in truth], (step, name)
            offset = world.random.randint(0, len(told))
            page = (await world.users[name].get("/rooms", limit=2, offset=offset)).data
            assert [room["room_id"] for room in page["rooms"]] == [room[0] for room in told[offset : offset + 2]]
            assert page["has_more"] == (len(told) > offset + 2)


async def count_steps(server: Server, user: User, monkeypatch: pytest.MonkeyPatch, **params: object) -> tuple[int, int]:
    """What SQLite does for a list, in units of 100 steps, and in how many statements."""
    steps = 0
    statements = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def trace(_statement: str) -> None:
        nonlocal statements
        statements += 1

    for reader in server.services.store.readers._readers:
        assert reader._connection is not None
        reader._connection.set_progress_handler(count, 100)
        reader._connection.set_trace_callback(trace)
    assert (await user.get("/rooms", **params)).status == 200
    for reader in server.services.store.readers._readers:
        assert reader._connection is not None
        reader._connection.set_progress_handler(None, 0)
        reader._connection.set_trace_callback(None)
    return steps, statements


def fill(database: Path, rooms: int, messages: int) -> None:
    """Rooms of the bot's, with so many messages of its own in each."""
    numbers = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :most)"
    with closing(sqlite3.connect(database)) as connection, connection:
        for statement, most in (
            (
                f"""INSERT INTO rooms (tenant_key, room_id, type, created_by, created_at_us, updated_at_us)
                    {numbers} SELECT 1, printf('room_%06d', n), 'group', 'bot', n, n FROM numbers""",
                rooms,
            ),
            (
                f"""INSERT INTO members (room_key, user_id, tenant_key, role, joined_at_us)
                    {numbers} SELECT room_key, 'bot', 1, 'member', 1 FROM rooms WHERE :most""",
                1,
            ),
            (
                f"""INSERT INTO messages (room_key, seq, sender_id, content, created_at_us)
                    {numbers} SELECT room_key, n, 'bot', 'x', n FROM rooms CROSS JOIN numbers""",
                messages,
            ),
        ):
            connection.execute(statement, {"most": most})


async def test_a_page_costs_its_own_rooms(
    start_server: StartServer, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = []
    for rooms, messages in ((30, 40), (300, 400)):
        server = await start_server()
        await server.app.close()
        with closing(sqlite3.connect(database)) as connection, connection:
            for table in ("messages", "members", "rooms"):
                connection.execute(f"DELETE FROM {table}")
        fill(database, rooms, messages)
        server = await start_server()
        bot = server.user("bot")
        first = (await bot.get("/rooms", limit=20)).data["rooms"]
        assert [(room["unread_count"], room["last_seq"]) for room in first] == [(0, messages)] * 20
        costs.append(await count_steps(server, bot, monkeypatch, limit=20))
        await server.app.close()
    (small, one), (large, also_one) = costs
    assert large <= small * 1.2 + 2
    assert one == also_one == 1


async def test_the_first_list_is_made_in_small_steps(
    start_server: StartServer, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_lists, "EXAMINED_MESSAGES", 2_000)
    server = await start_server()
    await server.app.close()
    fill(database, 20, 1_000)
    server = await start_server()
    steps: list[int] = []
    for reader in server.services.store.readers._readers:
        assert reader._connection is not None
        reader._connection.set_trace_callback(lambda _: steps.append(0))
        reader._connection.set_progress_handler(lambda: steps.append(steps.pop() + 1) if steps else None, 100)
    [room, *_] = (await server.user("bot").get("/rooms")).data["rooms"]
    assert room["unread_count"] == 0
    assert len(steps) >= 10
    assert max(steps) < 2_000 * 30 / 100


# Rankings by themselves


def test_any_items_put_into_an_order_are_sorted() -> None:
    ranking = Ranking(0)
    dice = random.Random(4)
    truth: dict[RoomKey, RankedRoom] = {}
    for at in range(1, 500):
        room_key = RoomKey(dice.randint(1, 40))
        room_id = f"room_{room_key * 7 % 41:02d}"
        now = RankedRoom(at // 3, room_id, room_key)
        if dice.random() < 0.2:
            ranking.drop(room_key)
            truth.pop(room_key, None)
        elif dice.random() < 0.5:
            ranking.put(now)
            truth[room_key] = now
        else:
            ranking.put_all([now._replace(active_us=at // 3 - 10), now])
            truth[room_key] = now
        assert ranking.ranked == sorted(truth.values())
    newest = ranking.ranked[::-1]
    assert ranking.latest(0, 5) == newest[:5]
    assert ranking.latest(7, 5) == newest[7:12]
    assert ranking.latest(1000, 5) == []
    assert ranking.before(newest[3].active_us, newest[3].room_id, 4) == newest[4:8]
    moved = sorted((room for room in newest if room.active_us > newest[6].active_us), key=lambda room: room.room_id)
    assert len(moved) > 4
    assert ranking.active_after(newest[6].active_us, "", 4) == moved[:4]
    assert ranking.active_after(newest[6].active_us, moved[3].room_id, 9) == moved[4:]


async def test_reactions_pins_mutes_and_bans_are_no_activity(start_server: StartServer) -> None:
    server = await start_server()
    alice = server.user("alice")
    old, new = await alice.make_room("bob"), await alice.make_room("bob")
    message_id = (await alice.say(old))["message_id"]
    await alice.say(new)

    async def listed(user: User) -> list[str]:
        return [room["room_id"] for room in (await user.get("/rooms")).data["rooms"]]

    assert await listed(alice) == [new, old]  # from here on its order is kept in memory
    room = f"/rooms/{old}"
    changes: list[tuple[str, str, object]] = [
        ("PUT", f"{room}/messages/{message_id}/reactions/x", None),
        ("DELETE", f"{room}/messages/{message_id}/reactions/x", None),
        ("PUT", f"{room}/pins/{message_id}", None),
        ("DELETE", f"{room}/pins/{message_id}", None),
        ("PATCH", f"{room}/members/bob", {"muted_for": 60}),
        ("PATCH", f"{room}/members/bob", {"muted_for": 0}),
        ("PUT", f"{room}/bans/bob", None),
        ("DELETE", f"{room}/bans/bob", None),
    ]
    for method, path, body in changes:
        await alice.request(method, path, body)
        assert await listed(alice) == [new, old], (method, path)
    alice = (await restart(start_server, server)).user("alice")
    assert await listed(alice) == [new, old]
    assert (await alice.get(room)).data["last_seq"] == 1 + len(changes)
    await alice.post(f"{room}/members", {"user_id": "carol"})
    assert await listed(alice) == [old, new]


def list_kept(found: Rankings) -> Iterator[str]:
    return (user_id for _, user_id in found._of_users)


def test_the_orders_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rankings, "MAX_ENTRIES", 100)
    kept = Rankings()

    def make(user_id: str, rooms: int) -> None:
        ranking = kept.begin(1, user_id, 0)  # type: ignore[arg-type]
        ranking.put_all([RankedRoom(number, f"room_{number}", RoomKey(number)) for number in range(rooms)])
        kept.complete(ranking)

    for number in range(5):
        make(f"user{number}", 20)
    assert list(list_kept(kept)) == ["user2", "user3", "user4"]
    assert kept.find(1, "user2") is not None  # type: ignore[arg-type]
    make("user5", 20)
    assert list(list_kept(kept)) == ["user4", "user2", "user5"]
    make("large", 1000)
    assert list(list_kept(kept)) == ["large"]
    make("large", 5)
    make("large", 5)
    assert kept._size == 15
    kept.drop_tenant(2)  # type: ignore[arg-type]
    assert kept._size == 15
    kept.drop_tenant(1)  # type: ignore[arg-type]
    assert kept._size == 0
