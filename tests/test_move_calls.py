"""The calls of a move, one by one: what the target refuses, and what the source takes for an answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from driver import Reply, Server

from chatapi.moving import peer
from chatapi.moving.peer import PeerError, TargetServer
from chatapi.store import handover, purge
from chatapi.store.tenant_tables import TENANT_TABLES


class Arrival:
    """A tenant whose rows come, from a server that the test plays."""

    def __init__(self, server: Server, begun: dict[str, Any]) -> None:
        self._server = server
        self._path = f"/admin/arrivals/{begun['arrival_id']}"
        self._headers = {"Authorization": f"Bearer {begun['secret']}"}

    async def send(self, action: str, **body: object) -> Reply:
        return await self._server.request("POST", f"{self._path}/{action}", body, headers=self._headers)

    async def send_rows(self, table: str, row: dict[str, object], *, is_copy: bool = False) -> Reply:
        changes = [[table, list(row), [list(row.values())], []]]
        return await self.send("rows", is_copy=is_copy, changes=changes)


async def ask_to_begin(server: Server, tenant_id: str, *, ahead_s: float = 0.0) -> Reply:
    """`ahead_s`: of this server's clock the source's is."""
    schema = await handover.get_version(server.services.store.readers)
    now_us = server.services.clock.now_us() + int(ahead_s * 1_000_000)
    body = {"tenant_id": tenant_id, "source": "other", "instance": "other", "schema": schema, "now_us": now_us}
    return await server.admin("POST", "/arrivals", body)


async def begin_arrival(server: Server, tenant_id: str, **how: float) -> Arrival:
    return Arrival(server, (await ask_to_begin(server, tenant_id, **how)).data)


async def read_row(server: Server, table: str) -> dict[str, Any]:
    """The last one, with the columns that a move has."""
    [columns] = [found.columns for found in TENANT_TABLES if found.name == table]
    sql = f"SELECT {', '.join(columns)} FROM {table} ORDER BY rowid DESC"
    row = await server.services.store.readers.fetch_one(sql, {})
    assert row is not None
    return dict(zip(columns, row, strict=True))


async def test_refusals_name_the_tables_that_they_are_about(server: Server) -> None:
    arrival = await begin_arrival(server, "tenant_other")
    own = await server.user("alice").post("/subscriptions", {"topic": "news"})
    assert own.status == 201
    taken = await read_row(server, "subscriptions")
    refused = await arrival.send_rows("subscriptions", {**taken, "topic": None})
    assert (refused.status, refused.error["message"]) == (
        409,
        "Rows of subscriptions do not fit: ids may be taken here by other rows",
    )
    arrival = await begin_arrival(server, "tenant_other")
    assert (await arrival.send_rows("subscriptions", taken, is_copy=True)).status == 200  # it is left out
    counts = {"subscriptions": 1, "users": 2}
    refused = await arrival.send("seal", identity={"tenant": {}, "keys": []}, counts=counts)
    assert refused.status == 409
    assert {"subscriptions", "users"} <= set(refused.error["details"])
    names = ", ".join(sorted(refused.error["details"]))
    assert refused.error["message"] == f"The copy differs in {names}: ids may be taken here by rows of other tenants"
    refused = await arrival.send_rows("subscriptions", {**taken, "more": 1})
    assert refused.error["message"] == "The table 'subscriptions' is not the same here"


async def test_a_move_to_a_clock_that_is_behind_keeps_the_order_of_rooms(server: Server) -> None:
    """Lists are paged by when rooms were active: between two clocks a room could fall out of a page."""
    refused = await ask_to_begin(server, "tenant_other", ahead_s=5.5)
    assert (refused.status, refused.error["message"]) == (
        409,
        "This server's clock is 5 s behind the other's: set them first",
    )
    await server.user("alice").make_room("bob")
    room = await read_row(server, "rooms")
    identity = await server.services.store.writer.change(
        lambda transaction: transaction.run(lambda connection: handover.read_identity(connection, room["tenant_key"]))
    )
    arrival = await begin_arrival(server, "tenant_other", ahead_s=0.5)
    later_us = server.services.clock.now_us() + 100_000
    room |= {"room_id": "room_other", "created_at_us": later_us, "unique_key": None}
    assert (await arrival.send_rows("rooms", room, is_copy=True)).status == 200
    wrong = await arrival.send("seal", identity={**identity, "keys": []}, counts={})
    counts = {name: count["here"] for name, count in wrong.error["details"].items()}
    assert counts["rooms"] == 1
    assert (await arrival.send("seal", identity={**identity, "keys": []}, counts=counts)).status == 200
    # Until then it counts as deleted, and the purge, which a restart begins with, leaves it alone.
    assert len((await server.admin("GET", "/tenants")).data["tenants"]) == 1
    while await server.services.store.writer.step(purge.purge_deleted):
        pass
    assert (await arrival.send("live")).status == 200
    assert server.services.clock.now_us() > later_us
    stats = (await server.admin("GET", "/stats")).data["tenants"]
    assert {tenant["tenant_id"]: tenant["rooms"] for tenant in stats}["tenant_other"] == 1


@asynccontextmanager
async def target_that_sends(size_bytes: int, **headers: str) -> AsyncIterator[tuple[TargetServer, asyncio.Event]]:
    """A target whose answer is as large, and goes on for ever if it is larger than that of any server; and the event
    that somebody has ended the connection."""
    is_cut = asyncio.Event()

    async def handle(_request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers=headers)
        await answer.prepare(_request)
        start, end = b'{"success": true, "data": {"arrival_id": "', b'", "secret": "s"}, "error": null}'
        try:
            await answer.write(start + b"x" * (size_bytes - len(start) - len(end)))
            while size_bytes > peer.MAX_ANSWER_BYTES:
                await answer.write(b"x" * 4096)
            await answer.write(end)
        finally:
            is_cut.set()
        return answer

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    async with TestServer(app) as server:
        target = TargetServer(str(server.make_url("")).rstrip("/"))
        try:
            yield target, is_cut
        finally:
            await target.close()


async def test_no_answer_of_a_target_takes_more_memory_than_one_of_a_server() -> None:
    async with target_that_sends(peer.MAX_ANSWER_BYTES) as (target, _):
        _, secret = await target.begin("key", {})
        assert secret == "s"
    async with target_that_sends(peer.MAX_ANSWER_BYTES + 1) as (target, is_cut):
        with pytest.raises(PeerError, match="HTTP 200, and not from ChatAPI") as refused:
            await target.begin("key", {})
        assert refused.value.status == 502
        await is_cut.wait()
    async with target_that_sends(100, **{"Content-Encoding": "gzip"}) as (target, _):
        _, secret = await target.begin("key", {})  # nothing is unpacked
        assert secret == "s"
