"""Finding users and members by the beginning of their id or name: against a plain model, and in large tenants."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from driver import Server, User

from chatapi.folding import LAST, end_prefix, fold
from chatapi.protocol.pages import Window
from chatapi.store import prefixes
from chatapi.store.users import make_sort_name

# Folding


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Zoë", "zoe"),
        ("ÅNGSTRÖM", "angstrom"),
        ("Straße", "strasse"),
        ("İstanbul \u0131I", "istanbul ii"),
        ("Łódź Søren Đuro", "lodz soren duro"),
        ("ﬁsh \uff26\uff55\uff4c\uff4c", "fish full"),
        ("ΘΉ\u03c3ς", "θη\u03c3\u03c3"),
        ("Ёлка Й", "елка и"),
        ("שָׁלוֹם", "שלום"),
        ("가각 がか", "가각 がか"),
        ("เที่ยว हिन्दी", "เที่ยว हिन्दी"),
        ("\u0301", ""),
        (LAST, ""),
    ],
)
def test_folding(text: str, folded: str) -> None:
    assert fold(text) == folded
    assert fold(folded) == folded


def test_the_end_of_a_prefix() -> None:
    assert end_prefix("ab") == "ac"
    assert end_prefix("a\ud7ff") == "a\ue000"
    assert end_prefix("\U0010fffe") == LAST


# Against a model


NAMES = ["Anna", "anna b", "ÄNNE", "Bo", "bob", "Zoë", "zoe", "ザ", "\uff41\uff4e", None, None, "\u0301"]
IDS = ["anna", "ANNA", "an-1", "b", "Bo", "bo2", "z%_", "u{n}", "U{n}", "an{n}"]


def make_users(count: int) -> dict[str, str | None]:
    dice = random.Random(5)
    users = {}
    while len(users) < count:
        users[dice.choice(IDS).replace("{n}", str(dice.randrange(300)))] = dice.choice(NAMES)
    return users


def expected(users: dict[str, str | None], q: str) -> list[str]:
    prefix = fold(q)
    found = [
        (make_sort_name(name), user_id.lower(), user_id)
        for user_id, name in users.items()
        if prefix and (user_id.lower().startswith(prefix) or (name and fold(name).startswith(prefix)))
    ]
    return [key[-1] for key in sorted(found)]


QUERIES = ["AN", "änn", "bo", "u", "U1", "z", "z%", "x", "ザ", "\u0301", "anna b", LAST]


async def page_through(user: User, path: str, items: str, **params: object) -> list[str]:
    found, cursor = [], {}
    for _ in range(1_000):
        data = (await user.get(path, **params, **cursor)).data
        found += [item["user_id"] for item in data[items]]
        if not data["has_more"]:
            return found
        cursor = {"cursor": data["next_cursor"]}
    raise AssertionError("the list does not end")


@pytest.fixture(params=[False, True], ids=["usual bounds", "tiny bounds"])
def bounds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tiny ones each way of finding is taken."""
    if request.param:
        monkeypatch.setattr(prefixes, "WALKED", 7)
        monkeypatch.setattr(prefixes, "SORTED_IDS", 3)
        monkeypatch.setattr(prefixes, "SMALL_ROOM", 0)


async def test_users_are_found_in_order(server: Server, bounds: None) -> None:
    users = make_users(60)
    alice = server.user("alice")
    for user_id, name in users.items():
        await alice.put(f"/users/{user_id.replace('%', '%25')}", {"name": name})
    for q in QUERIES:
        for limit in (7, 100):
            assert await page_through(alice, "/users", "users", q=q, limit=limit) == expected(users, q), (q, limit)
    assert (await alice.get("/users", q="an", offset=3, limit=2)).data["users"] is not None
    page = (await alice.get("/users", q="a", limit=1)).data
    assert (await alice.get("/users", q="b", cursor=page["next_cursor"])).error["field"] == "cursor"


async def test_members_are_found_in_order(server: Server, bounds: None) -> None:
    users = make_users(60)
    alice = server.user("alice")
    members = {user_id: name for number, (user_id, name) in enumerate(users.items()) if number % 3}
    bare = {"an-bare": None, "Bo-bare": None, "zo-bare": None}
    room_id = await alice.make_room(*members, *bare)
    for user_id, name in users.items():
        await alice.put(f"/users/{user_id.replace('%', '%25')}", {"name": name})
    members |= {**bare, "alice": None}
    path = f"/rooms/{room_id}/members"
    for q in QUERIES:
        for limit in (7, 100):
            assert await page_through(alice, path, "members", q=q, limit=limit) == expected(members, q), (q, limit)
    found = (await alice.get(path, q="Zoë", limit=1)).data["members"]
    assert set(found[0]) >= {"user_id", "role", "joined_at", "name"}
    for wrong in ("", "x" * 101):
        assert (await alice.get(path, q=wrong)).error["field"] == "q"


async def test_offsets_pass_over_users_that_are_found(shared_server: Server) -> None:
    users = make_users(60)
    alice = shared_server.user("alice")
    for user_id, name in users.items():
        await alice.put(f"/users/{user_id.replace('%', '%25')}", {"name": name})
    for offset in (0, 3, 1_000):
        data = (await alice.get("/users", q="an", offset=offset, limit=4)).data
        wanted = expected(users, "an")
        assert [user["user_id"] for user in data["users"]] == wanted[offset : offset + 4]
        assert data["has_more"] is (len(wanted) > offset + 4)


async def test_users_who_may_search(shared_server: Server) -> None:
    alice, eve = shared_server.user("alice"), shared_server.user("eve")
    room_id = await alice.make_room("bob")
    token = (await alice.post("/tokens", {"user_id": "alice"})).data["token"]
    bearer = shared_server.bearer("alice", token)
    assert (await bearer.get("/users", q="a")).error["code"] == "AUTHORIZATION_ERROR"
    assert (await bearer.get(f"/rooms/{room_id}/members", q="b")).data["members"][0]["user_id"] == "bob"
    assert (await eve.get(f"/rooms/{room_id}/members", q="b")).status == 403
    channel = await alice.make_room("bob", room_type="channel")
    assert (await eve.get(f"/rooms/{channel}/members", q="b")).data["members"][0]["user_id"] == "bob"
    other = await shared_server.make_tenant("other")
    await alice.put("/users/bob", {"name": "Bob"})
    assert (await shared_server.user("x", other["api_key"]).get("/users", q="bob")).data["users"] == []


# Large tenants: what a search looks at, in steps of SQLite, is bounded

USERS = 6_000
BOUNDS = {"WALKED": 200, "SORTED_IDS": 200}  # a tenth of the usual ones
STEPS = 20_000  # the usual ones take ten times as many: 2 to 3 ms


@pytest.fixture(scope="module")
def large(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """`user-…` have names in another order; `m…` and `zz…` are called nearly as their ids; room 1 has all of
    them and as many without a profile, room 2 every 50th."""
    with closing(sqlite3.connect(tmp_path_factory.mktemp("large") / "chatapi.db", isolation_level=None)) as connection:
        with closing(sqlite3.connect(migrated_database)) as template:
            template.backup(connection)
        connection.execute("PRAGMA foreign_keys = OFF")
        dice = random.Random(7)
        third = USERS // 3
        users = [(f"user-{n:06}", f"{dice.randrange(10**8):08x}") for n in range(third)]
        users += [(f"m{n:06}", f"m{n:06}") for n in range(third)]
        users += [(f"zz{n:06}", f"zb{n:06}") for n in range(third)]
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO users (tenant_key, user_id, folded_id, name, sort_name, created_at_us)"
            " VALUES (1, ?1, ?1, ?2, ?2, 1)",
            users,
        )
        for key, members in ((1, [*users, *((f"bare-{n:06}",) for n in range(third))]), (2, users[::50])):
            connection.executemany(
                "INSERT INTO members (room_key, user_id, tenant_key, role, joined_at_us) VALUES (?, ?, 1, 'member', 1)",
                [(key, member[0]) for member in members],
            )
        connection.execute("COMMIT")
        yield connection


def search(connection: sqlite3.Connection, q: str, room: dict[str, int] | None, window: Window) -> tuple[int, Any]:
    """The steps that it takes, and what it finds."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 100
        return 0

    scope = {**(room or {}), "tenant_key": 1, "low": fold(q), "high": end_prefix(fold(q)), "most": prefixes.SORTED_IDS}
    searching = prefixes._Search(connection, scope, window)
    connection.set_progress_handler(count, 100)
    found = searching.find_members() if room else searching.find_users()
    connection.set_progress_handler(None, 0)
    return steps, found


QUERIES_OF_LARGE = ["u", "user-0", "user-001234", "m", "m0012", "z", "zb", "bare-", "b", "nobody", "0"]
ROOMS = {"tenant": None, "large room": {"room_key": 1}, "small room": {"room_key": 2}}


@pytest.mark.parametrize("room", ROOMS.values(), ids=ROOMS)
def test_a_search_in_a_large_tenant_is_bounded(
    large: sqlite3.Connection, room: dict[str, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in BOUNDS.items():
        monkeypatch.setattr(prefixes, name, value)
    for q in QUERIES_OF_LARGE:
        found, after = 0, None
        for _ in range(40):
            steps, page = search(large, q, room, Window(50, after=after))
            assert steps < STEPS, q
            found += len(page.keys)
            after = page.resume
            if after is None or found >= 50:
                break
        matches = (q != "nobody") if room == ROOMS["large room"] else q not in ("nobody", "bare-", "b")
        assert bool(found) is matches or room == ROOMS["small room"], q


@pytest.mark.parametrize("room", [ROOMS["tenant"], ROOMS["large room"]], ids=["tenant", "large room"])
@pytest.mark.parametrize("q", ["u", "m", "m0", "z", "zb"])
def test_the_first_page_is_full_if_very_many_match(
    large: sqlite3.Connection, room: dict[str, int] | None, monkeypatch: pytest.MonkeyPatch, q: str
) -> None:
    for name, value in BOUNDS.items():
        monkeypatch.setattr(prefixes, name, value)
    assert len(search(large, q, room, Window(50))[1].keys) == 50
