"""A page of history is the same from memory and from the store."""

import json
import random

import pytest
from driver import Server

from chatapi.protocol.json import MAX_INTEGER
from chatapi.rooms import RING_EVENTS, RoomState
from chatapi.store import log


async def read_page(
    server: Server, room: RoomState, after_seq: int | None, before_seq: int | None, limit: int
) -> tuple[list[object], bool]:
    seq = after_seq if after_seq is not None else MAX_INTEGER if before_seq is None else before_seq
    want = log.HistoryWant(room.room_key, room.tenant.tenant_key, after_seq is not None, seq, limit)
    [(items, has_more)] = await log.history_pages(server.services.store.readers, [want])
    return json.loads(items), has_more


@pytest.mark.parametrize("seed", range(3))
async def test_memory_and_store_agree(server: Server, seed: int) -> None:
    chance = random.Random(seed)
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    room = server.services.rooms.find_loaded(server.services.tenants.all()[0].tenant_key, room_id)
    assert room is not None
    sent: list[str] = []
    for step in range(60):
        match chance.randrange(6):
            case 0 if sent:
                await alice.put(f"/rooms/{room_id}/messages/{chance.choice(sent)}", {"content": f"edit {step}"})
            case 1 if sent:
                await alice.delete(f"/rooms/{room_id}/messages/{chance.choice(sent)}")
            case 2:
                await alice.patch(f"/rooms/{room_id}", {"name": f"name {step}"})
            case _:
                fields = {"meta": {"n": step}} if chance.random() < 0.5 else {}
                sent.append((await alice.say(room_id, f'"type":"message", {step}', **fields))["message_id"])
    in_memory = 0
    for _ in range(60):
        limit = chance.randint(1, 60)
        kind, seq = chance.choice(("after_seq", "before_seq", "limit")), chance.randint(0, room.published_seq + 2)
        after_seq, before_seq = seq if kind == "after_seq" else None, seq if kind == "before_seq" else None
        in_memory += room.find_messages(after_seq, before_seq, limit) is not None
        asked = {kind: seq} if kind != "limit" else {}
        found = (await alice.get(f"/rooms/{room_id}/messages", **{**asked, "limit": limit})).data
        assert (found["messages"], found["has_more"]) == await read_page(server, room, after_seq, before_seq, limit)
    assert in_memory > 50


async def test_the_newest_page_is_read_into_memory_once(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    for number in range(60):
        await alice.say(room_id, str(number))
    [room] = server.services.rooms.of_tenant(server.services.tenants.all()[0].tenant_key)
    room.ring.clear()
    first = await alice.get(f"/rooms/{room_id}/messages", limit=50)
    assert len(room.ring) == 60 < RING_EVENTS
    assert (await alice.get(f"/rooms/{room_id}/messages", limit=50)).data == first.data
    assert [message["content"] for message in first.data["messages"]] == [str(n) for n in range(10, 60)]
    assert first.data["has_more"] is True


async def test_what_retention_has_removed_is_not_shown_from_memory(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    for number in range(10):
        await alice.say(room_id, str(number))
    [room] = server.services.rooms.of_tenant(server.services.tenants.all()[0].tenant_key)
    room.pruned_seq = 4
    page = (await alice.get(f"/rooms/{room_id}/messages")).data
    assert [message["seq"] for message in page["messages"]] == [5, 6, 7, 8, 9, 10]
    assert page["has_more"] is False
