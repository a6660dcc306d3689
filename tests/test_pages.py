"""Lists page by page: with a cursor nothing is skipped that was there all along, whatever comes and goes meanwhile."""

import base64
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import StartServer
from driver import Reply, Server, User

from chatapi.clock import Clock
from chatapi.protocol import pages
from chatapi.protocol.pages import encode_cursor

Ask = Callable[[dict[str, object]], Awaitable[Reply]]


class List:
    """A list of the server's: how it is asked for, what it holds, and how items come and go."""

    name = ""
    key = ""
    field = ""
    oldest_first = False

    def __init__(self, server: Server) -> None:
        self.server = server
        self.alice = server.user("alice")

    async def set_up(self) -> None:
        return

    async def add(self, number: int) -> str:
        raise NotImplementedError

    async def remove(self, item: str) -> None:
        raise NotImplementedError

    async def get(self, **params: object) -> Reply:
        return await self.alice.get(self.name, **params)

    def read(self, reply: Reply) -> list[str]:
        return [item[self.field] for item in reply.data[self.key]]


class RoomsList(List):
    name, key, field = "/rooms", "rooms", "room_id"

    async def add(self, number: int) -> str:
        return await self.alice.make_room(room_type="channel")

    async def remove(self, item: str) -> None:
        await self.alice.delete(f"/rooms/{item}")


class ChannelsList(RoomsList):
    name = "/channels"


class MembersList(List):
    key, field, oldest_first = "members", "user_id", True

    async def set_up(self) -> None:
        self.room_id = await self.server.user("owner").make_room(room_type="channel")
        self.name = f"/rooms/{self.room_id}/{self.key}"
        self.alice = self.server.user("owner")

    async def add(self, number: int) -> str:
        # The ids do not grow with the standing.
        user_id = f"user{number * 7919 % 1000:03}"
        assert (await self.alice.post(f"/rooms/{self.room_id}/members", {"user_id": user_id})).status == 201
        return user_id

    async def remove(self, item: str) -> None:
        assert (await self.alice.delete(f"/rooms/{self.room_id}/members/{item}")).status == 204

    def read(self, reply: Reply) -> list[str]:
        return [item for item in super().read(reply) if item != "owner"]


class ReceiptsList(MembersList):
    key = "receipts"


class NotificationsList(List):
    name, key, field = "/notifications", "notifications", "notification_id"

    async def add(self, number: int) -> str:
        body = {"topic": "t", "payload": number, "targets": {"user_ids": ["alice"]}}
        return str((await self.alice.post("/notify", body)).data["notification_id"])

    async def remove(self, item: str) -> None:
        await self.alice.post(f"/notifications/{item}/ack")

    async def get(self, **params: object) -> Reply:
        return await super().get(status="pending", **params)


class DeliveredList(NotificationsList):
    async def add(self, number: int) -> str:
        item = await super().add(number)
        await super().remove(item)
        return item

    async def remove(self, item: str) -> None:
        return  # what was delivered stays

    async def get(self, **params: object) -> Reply:
        return await self.alice.get(self.name, status="delivered", **params)


class SubscriptionsList(List):
    name, key, field, oldest_first = "/subscriptions", "subscriptions", "subscription_id", True

    async def add(self, number: int) -> str:
        return str((await self.alice.post("/subscriptions", {"topic": f"t{number}"})).data["subscription_id"])

    async def remove(self, item: str) -> None:
        await self.alice.delete(f"/subscriptions/{item}")


class TenantsList(List):
    key, field, oldest_first = "tenants", "tenant_id", True

    async def add(self, number: int) -> str:
        return str((await self.server.make_tenant(f"t{number}"))["tenant_id"])

    async def remove(self, item: str) -> None:
        await self.server.admin("DELETE", f"/tenants/{item}")

    async def get(self, **params: object) -> Reply:
        return await self.server.admin("GET", "/tenants", params={name: str(value) for name, value in params.items()})

    def read(self, reply: Reply) -> list[str]:
        return [item["tenant_id"] for item in reply.data["tenants"] if item["name"] != "acme"]


class KeysList(List):
    key, field, oldest_first = "keys", "key_id", True

    async def set_up(self) -> None:
        tenant = await self.server.make_tenant("with keys")
        self.path = f"/tenants/{tenant['tenant_id']}/keys"
        [first] = (await self.server.admin("GET", self.path)).data["keys"]
        self.first = first["key_id"]

    async def add(self, number: int) -> str:
        return str((await self.server.admin("POST", self.path)).data["key_id"])

    async def remove(self, item: str) -> None:
        await self.server.admin("DELETE", f"{self.path}/{item}")

    async def get(self, **params: object) -> Reply:
        return await self.server.admin("GET", self.path, params={name: str(value) for name, value in params.items()})

    def read(self, reply: Reply) -> list[str]:
        return [item for item in super().read(reply) if item != self.first]


LISTS: tuple[type[List], ...] = (
    RoomsList,
    ChannelsList,
    MembersList,
    ReceiptsList,
    NotificationsList,
    DeliveredList,
    SubscriptionsList,
    TenantsList,
    KeysList,
)


async def page_through(found: List, limit: int) -> AsyncIterator[list[str]]:
    params: dict[str, object] = {"limit": limit}
    while True:
        reply = await found.get(**params)
        yield found.read(reply)
        assert reply.data["has_more"] == ("next_cursor" in reply.data)
        if not reply.data["has_more"]:
            return
        params["cursor"] = reply.data["next_cursor"]


async def make(server: Server, kind: type[List], count: int) -> tuple[List, list[str]]:
    found = kind(server)
    await found.set_up()
    return found, [await found.add(number) for number in range(count)]


@pytest.mark.parametrize("kind", LISTS)
async def test_nothing_is_skipped_while_items_come_and_go(shared_server: Server, kind: type[List]) -> None:
    found, items = await make(shared_server, kind, 9)
    staying, going = items[::2], items[1::2]
    seen: list[str] = []
    number = 100
    async for page in page_through(found, 2):
        assert len(page) <= 2
        seen += page
        if going:
            await found.remove(going.pop(0))
            number += 1
            await found.add(number)
    assert not set(staying) - set(seen)
    if kind is not RoomsList:
        assert len(seen) == len(set(seen))
        assert [item for item in seen if item in staying] == (staying if kind.oldest_first else staying[::-1])


@pytest.mark.parametrize("kind", LISTS)
async def test_pages_by_cursor_and_by_offset_are_the_same(server: Server, kind: type[List]) -> None:
    found, items = await make(server, kind, 5)
    in_order = items if kind.oldest_first else items[::-1]
    whole = (await found.get(limit=100)).data
    assert whole["has_more"] is False
    assert "next_cursor" not in whole
    assert found.read(await found.get(limit=100)) == in_order
    by_cursor = [item async for page in page_through(found, 2) for item in page]
    by_offset: list[str] = []
    offset = 0
    while (reply := await found.get(limit=2, offset=offset)).data[kind.key]:
        by_offset += found.read(reply)
        offset += len(reply.data[kind.key])
    assert by_cursor == by_offset == in_order
    assert (await found.get(limit=100, offset=2**53 - 1)).data[kind.key] == []


@pytest.mark.parametrize("kind", LISTS)
async def test_a_cursor_that_is_none_is_refused(shared_server: Server, kind: type[List]) -> None:
    found, _ = await make(shared_server, kind, 3)
    cursor = (await found.get(limit=1)).data["next_cursor"]
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    altered = [
        base64.urlsafe_b64encode(raw[:index] + bytes((raw[index] ^ 1,)) + raw[index + 1 :]).rstrip(b"=").decode()
        for index in range(len(raw))
    ]
    wrong = ["x", "!", "ü", "====", cursor[:-1], cursor + "A", f"{cursor}=", f" {cursor}", cursor + "\n", "A" * 1000]
    for text in [*wrong, *altered, "", "A" * 1001]:
        reply = await found.get(cursor=text)
        assert (reply.status, reply.error["code"], reply.error["field"]) == (400, "VALIDATION_ERROR", "cursor"), text
    reply = await found.get(cursor=cursor, offset=0)
    assert (reply.status, reply.error["field"]) == (400, "cursor")


async def test_a_cursor_of_another_list_is_refused(shared_server: Server) -> None:
    lists = [(await make(shared_server, kind, 3))[0] for kind in LISTS]
    cursors = [(await found.get(limit=1)).data["next_cursor"] for found in lists]
    for index, found in enumerate(lists):
        for other, cursor in enumerate(cursors):
            assert (await found.get(limit=1, cursor=cursor)).status == (200 if index == other else 400)


async def test_a_cursor_of_another_user_room_or_tenant_is_refused(shared_server: Server) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    rooms = [await alice.make_room("bob", "carol", room_type="channel") for _ in range(3)]
    cursor = (await alice.get("/rooms", limit=1)).data["next_cursor"]
    assert (await bob.get("/rooms", cursor=cursor)).status == 400
    cursor = (await alice.get(f"/rooms/{rooms[0]}/members", limit=1)).data["next_cursor"]
    assert (await alice.get(f"/rooms/{rooms[1]}/members", cursor=cursor)).status == 400
    assert (await bob.get(f"/rooms/{rooms[0]}/members", cursor=cursor)).status == 200
    cursor = (await alice.get("/channels", limit=1)).data["next_cursor"]
    stranger = shared_server.user("alice", (await shared_server.make_tenant("other"))["api_key"])
    assert (await stranger.get("/channels", cursor=cursor)).status == 400


@pytest.mark.parametrize(
    "sort_key",
    [[], [1, 2], [1, 0, 2, 3], [1, 0, "2", "3"], [1, 0, 2.5, "3"], [1, 0, True, "3"], [1, 0, 2, None], {"a": 1}],
)
async def test_a_sort_key_of_another_shape_is_refused_even_with_its_digest(server: Server, sort_key: Any) -> None:
    alice = server.user("alice")
    await alice.make_room()
    [tenant] = server.services.tenants.all()
    for path, scope in (
        ("/rooms", ("rooms", tenant.tenant_id, "alice")),
        ("/channels", ("channels", tenant.tenant_id)),
    ):
        cursor = encode_cursor(sort_key, scope)
        assert (await alice.get(path, cursor=cursor)).status == 400


@pytest.mark.parametrize("text", [b"", b"{", b"[1", b'["\xff"]', b"[18446744073709551615]", b"[1e400]", b"[ 1]"])
async def test_cursor_with_a_valid_digest_but_no_valid_sort_key_is_refused(server: Server, text: bytes) -> None:
    [tenant] = server.services.tenants.all()
    digest = pages._digest(text, ("channels", tenant.tenant_id))
    cursor = base64.urlsafe_b64encode(digest + text).rstrip(b"=").decode()
    assert (await server.user("alice").get("/channels", cursor=cursor)).status == 400


async def test_rooms_that_become_active_are_not_skipped(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    rooms = [await alice.make_room() for _ in range(12)]
    seen: list[str] = []
    async for page in page_through(RoomsList(shared_server), 2):
        seen += page
        # The oldest unseen room jumps ahead of the page, and so does one that was seen.
        unseen = [room_id for room_id in rooms if room_id not in seen]
        for room_id in (*unseen[:1], seen[0]):
            await alice.say(room_id)
        assert len(seen) < 60
    assert set(seen) == set(rooms)


async def test_a_room_that_never_rests_ends_the_paging_all_the_same(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    rooms = [await alice.make_room() for _ in range(5)]
    count = 0
    async for _ in page_through(RoomsList(shared_server), 1):
        count += 1
        assert count < 30
        for room_id in rooms:
            await alice.say(room_id)
    assert count >= len(rooms)


async def test_a_cursor_outlives_a_restart(start_server: StartServer) -> None:
    server = await start_server()
    alice = server.user("alice")
    rooms = [await alice.make_room() for _ in range(6)]
    await alice.get("/rooms")  # from here on its order is kept in memory
    await alice.patch(f"/rooms/{rooms[0]}", {"name": "renamed"})
    for room_id in rooms[2::2]:
        await alice.say(room_id)
    first = (await alice.get("/rooms", limit=3)).data
    await server.app.close()
    server = await start_server()
    alice = server.user("alice")
    await alice.say(rooms[1])
    rest = (await alice.get("/rooms", cursor=first["next_cursor"])).data
    shown = [room["room_id"] for room in first["rooms"] + rest["rooms"]]
    assert shown == [rooms[4], rooms[2], rooms[0], rooms[5], rooms[3], rooms[1]]


async def test_dead_letters_are_paged(start_server: StartServer, database: Path) -> None:
    server = await start_server()
    tenant = await server.make_tenant("other")
    await server.app.close()
    with sqlite3.connect(database) as connection:
        connection.executemany(
            """INSERT INTO webhook_deliveries (event_key, ordinal, tenant_key, room_key, user_id, attempts,
                   next_attempt_at_us, last_attempt_at_us, error)
               SELECT :n, 1, tenant_key, iif(:n % 2, 1, NULL), 'u', 8, NULL, :now_us + :n / 3, 'HTTP 503'
               FROM tenants WHERE name = iif(:n % 4 = 3, 'other', 'acme')""",
            [{"n": n, "now_us": Clock().now_us()} for n in range(1, 13)],
        )
    connection.close()
    server = await start_server()

    async def page_through_dead(**params: object) -> list[int]:
        seen: list[int] = []
        while True:
            query = {name: str(value) for name, value in params.items()}
            data = (await server.admin("GET", "/dead-letters", params=query)).data
            assert len(data["failed_messages"] + data["failed_notifications"]) <= 2
            # Within a page each kind has a list of its own.
            both = data["failed_messages"] + data["failed_notifications"]
            seen += sorted((int(item["id"].removeprefix("dlv_")[:16], 16) for item in both), reverse=True)
            assert data["has_more"] == ("next_cursor" in data)
            if not data["has_more"]:
                return seen
            params["cursor"] = data["next_cursor"]

    assert await page_through_dead(limit=2) == list(range(12, 0, -1))
    assert await page_through_dead(limit=2, tenant_id=tenant["tenant_id"]) == [11, 7, 3]


# A page ends early at 1 MiB


async def whole_pages(user: User, path: str, key: str) -> tuple[list[Any], int]:
    """All items, each page of which has at most 1 MiB."""
    items: list[Any] = []
    params: dict[str, object] = {"limit": 100}
    count = 0
    while True:
        reply = await user.get(path, **params)
        count += 1
        assert len(json.dumps(reply.body, separators=(",", ":"), ensure_ascii=False).encode()) <= 1024 * 1024
        items += reply.data[key]
        if not reply.data["has_more"]:
            return items, count
        assert reply.data[key]
        params["cursor"] = reply.data["next_cursor"]


@pytest.mark.slow
async def test_large_items_make_short_pages(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    rooms = []
    for number in range(40):
        body = {"type": "channel", "metadata": {"x": "é" * 8_000}, "name": f"{number}"}
        rooms.append((await alice.post("/rooms", body)).data["room_id"])
        await alice.say(rooms[-1], "ü" * 30_000)
        body = {"topic": "t", "payload": "ö" * 30_000, "targets": {"user_ids": ["alice"]}}
        assert (await alice.post("/notify", body)).status == 202
    channels, count = await whole_pages(alice, "/channels", "rooms")
    assert [room["room_id"] for room in channels] == rooms[::-1]
    assert count == 1
    listed, count = await whole_pages(alice, "/rooms", "rooms")
    assert [room["room_id"] for room in listed] == rooms[::-1]
    assert 3 <= count <= 5
    notifications, count = await whole_pages(alice, "/notifications", "notifications")
    assert len({item["notification_id"] for item in notifications}) == 40
    assert 3 <= count <= 4
