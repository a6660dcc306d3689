"""A page of history is the same from memory and from the store."""

import json
import random
from typing import Any

import pytest
from conftest import StartServer
from driver import Server, User, say_many

from chatapi.history import BLOCK_BYTES, BLOCK_EVENTS, ENTRY_BYTES, MAX_BLOCKS
from chatapi.protocol.json import MAX_INTEGER
from chatapi.ring import RING_BYTES, RING_EVENTS
from chatapi.room import RoomState
from chatapi.store import log


async def read_page(
    server: Server, room: RoomState, after_seq: int | None, before_seq: int | None, limit: int
) -> tuple[list[Any], bool]:
    seq = after_seq if after_seq is not None else MAX_INTEGER if before_seq is None else before_seq
    want = log.HistoryWant(room.room_key, room.tenant.tenant_key, after_seq is not None, seq, limit)
    [(items, has_more)] = await log.history_pages(server.services.store.readers, [want])
    return json.loads(bytes(items)), has_more


@pytest.mark.slow
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


async def test_messages_removed_by_retention_are_not_shown_from_memory(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    for number in range(10):
        await alice.say(room_id, str(number))
    [room] = server.services.rooms.of_tenant(server.services.tenants.all()[0].tenant_key)
    room.pruned_seq = 4
    page = (await alice.get(f"/rooms/{room_id}/messages")).data
    assert [message["seq"] for message in page["messages"]] == [5, 6, 7, 8, 9, 10]
    assert page["has_more"] is False


async def make_long_room(server: Server, messages: int) -> tuple[User, str, RoomState, list[str]]:
    alice = server.user("alice")
    room_id = await alice.make_room()
    sent = await say_many(alice, room_id, messages)
    [room] = server.services.rooms.of_tenant(server.services.tenants.all()[0].tenant_key)
    return alice, room_id, room, sent


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
async def test_blocks_and_store_agree(server: Server, seed: int) -> None:
    chance = random.Random(seed)
    alice, room_id, room, sent = await make_long_room(server, 3 * BLOCK_EVENTS + 10)
    for step in range(150):
        match chance.randrange(8):
            case 0:
                await alice.put(f"/rooms/{room_id}/messages/{chance.choice(sent)}", {"content": f"edit {step}"})
            case 1:
                await alice.delete(f"/rooms/{room_id}/messages/{chance.choice(sent)}")
            case 2:
                room.pruned_seq = min(room.pruned_seq + 1, 20)
        room.ring.clear()
        limit, seq = chance.randint(1, 100), chance.randint(0, room.published_seq + 2)
        kind = chance.choice(("after_seq", "before_seq"))
        after_seq, before_seq = (seq, None) if kind == "after_seq" else (None, seq)
        found = (await alice.get(f"/rooms/{room_id}/messages", **{kind: seq, "limit": limit})).data
        wanted, has_more = await read_page(server, room, after_seq, before_seq, 100)
        kept = [message for message in wanted if message["seq"] > room.pruned_seq]
        page = kept[:limit] if kind == "after_seq" else kept[-limit:]
        assert found["messages"] == page
        assert found["has_more"] is (len(kept) > limit or (has_more and len(kept) == 100))
    assert len(server.services.chat._history._blocks) >= 2


async def test_an_edit_while_a_block_is_read_is_not_lost(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, room_id, room, sent = await make_long_room(server, BLOCK_EVENTS)
    readers = server.services.store.readers
    fetch = readers.fetch_pages

    async def fetch_then_edit(*args: Any) -> Any:
        rows = await fetch(*args)
        monkeypatch.setattr(readers, "fetch_pages", fetch)
        await alice.put(f"/rooms/{room_id}/messages/{sent[3]}", {"content": "edited"})
        return rows

    room.ring.clear()
    monkeypatch.setattr(readers, "fetch_pages", fetch_then_edit)
    await alice.get(f"/rooms/{room_id}/messages", before_seq=30)
    room.ring.clear()
    page = (await alice.get(f"/rooms/{room_id}/messages", before_seq=30)).data["messages"]
    assert page[3]["content"] == "edited"


LONG = "ü" * 30_000  # 60 kB: 17 of them fill a page


async def make_heavy_room(server: Server) -> tuple[User, str, list[int]]:
    """Long messages among short ones and among other events, and the seqs of all messages."""
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    seqs = []
    for number in range(120):
        if number % 10 == 9:
            await alice.patch(f"/rooms/{room_id}", {"name": f"name {number}"})
        else:
            seqs.append((await alice.say(room_id, LONG if number % 3 else "short"))["seq"])
    return alice, room_id, seqs


async def walk(user: User, path: str, key: str, *, backwards: bool = False) -> tuple[list[int], int]:
    """All seqs, page by page of at most 1 MiB; and how many pages that were."""
    seqs: list[int] = []
    params: dict[str, object] = {"limit": 100} if backwards else {"limit": 100, "after_seq": 0}
    pages = 0
    while True:
        reply = await user.get(path, **params)
        pages += 1
        assert len(json.dumps(reply.body, ensure_ascii=False, separators=(",", ":")).encode()) <= 1024 * 1024
        page = [item["seq"] for item in reply.data[key]]
        assert page
        assert page == sorted(page)
        seqs = [*page, *seqs] if backwards else [*seqs, *page]
        if not reply.data["has_more"]:
            return seqs, pages
        params.update({"before_seq": page[0]} if backwards else {"after_seq": page[-1]})


@pytest.mark.slow
async def test_pages_of_long_messages_end_early(start_server: StartServer) -> None:
    server = await start_server()
    alice, room_id, seqs = await make_heavy_room(server)
    for is_cold in (False, True):
        if is_cold:
            await server.app.close()
            server = await start_server()
            alice = server.user("alice")
        for _ in range(2):  # the second time what can be kept is kept
            for backwards in (False, True):
                found, pages = await walk(alice, f"/rooms/{room_id}/messages", "messages", backwards=backwards)
                assert found == seqs
                assert 4 < pages < 12
            events, pages = await walk(alice, f"/rooms/{room_id}/events", "events")
            assert events == list(range(1, 121))
            assert 4 < pages < 12
    [room] = server.services.rooms.of_tenant(server.services.tenants.all()[0].tenant_key)
    assert room.ring.size_bytes <= 2 * RING_BYTES
    assert server.services.chat._history._size_bytes < 2 * BLOCK_BYTES
    socket = await server.user("bob").connect(ready=False)
    assert [frame["seq"] for frame in (await socket.collect("sync.complete"))[1:]] == list(range(1, 121))


@pytest.mark.slow
async def test_sparse_messages_are_found_by_their_index(server: Server) -> None:
    alice, room_id, room, _sent = await make_long_room(server, 3)
    for number in range((MAX_BLOCKS + 1) * BLOCK_EVENTS):
        await alice.patch(f"/rooms/{room_id}", {"name": f"name {number}"})
    room.ring.clear()
    assert await server.services.chat._history.find_before(room, room.published_seq, 50) is None
    page = (await alice.get(f"/rooms/{room_id}/messages", before_seq=room.published_seq)).data
    assert [message["seq"] for message in page["messages"]] == [1, 2, 3]
    assert page["has_more"] is False


async def test_the_blocks_are_bounded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, room_id, room, _sent = await make_long_room(server, 3 * BLOCK_EVENTS)
    history = server.services.chat._history
    monkeypatch.setattr("chatapi.history.CACHE_BYTES", 30_000)
    for number in (1, 2, 3, 1, 2):
        room.ring.clear()
        await alice.get(f"/rooms/{room_id}/messages", before_seq=number * BLOCK_EVENTS, limit=50)
        sizes = [ENTRY_BYTES + sum(len(item) for _, item in block or ()) for block in history._blocks.values()]
        assert history._size_bytes == sum(sizes) <= 30_000
    assert len(history._blocks) == 1
