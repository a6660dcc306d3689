"""What waits for the disk is bounded in size, whatever kind of write it is; what does not fit is refused with 503."""

import asyncio
from typing import Any

import pytest
from driver import Reply, Server, eventually

from chatapi.store import writer

BOUND_CHARACTERS = 100_000
TEXT = "x" * 60_000
OBJECT = {"text": "x" * 16_000}


@pytest.mark.parametrize("kind", ["messages", "meta", "edits", "notifications", "rooms", "names"])
async def test_write_queue_is_bounded_in_characters_for_every_kind_of_write(
    server: Server, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(writer, "MAX_QUEUED_CHARACTERS", BOUND_CHARACTERS)
    alice = server.user("alice")
    room_id = await alice.make_room()
    message_id = (await alice.say(room_id))["message_id"]
    messages = f"/rooms/{room_id}/messages"
    target = {"user_ids": ["bob"]}
    calls: dict[str, tuple[str, str, dict[str, Any]]] = {
        "messages": ("POST", messages, {"content": TEXT}),
        "meta": ("POST", messages, {"content": "x", "meta": OBJECT}),
        "edits": ("PUT", f"{messages}/{message_id}", {"content": TEXT}),
        "notifications": ("POST", "/notify", {"topic": "t", "payload": TEXT, "targets": target}),
        "rooms": ("POST", "/rooms", {"type": "group", "metadata": OBJECT}),
        "names": ("PATCH", f"/rooms/{room_id}", {"metadata": OBJECT}),
    }
    method, path, body = calls[kind]
    waiting = server.services.store.writer
    replies: list[asyncio.Future[Reply]] = []
    async with server.hold_writer():
        while waiting._queued_characters < BOUND_CHARACTERS:
            before = waiting._queued_characters  # the times when keys were used may be queued as well: a few characters
            replies.append(asyncio.ensure_future(alice.request(method, path, body)))
            await eventually(lambda before=before: waiting._queued_characters > before + BOUND_CHARACTERS / 10)
            assert len(replies) < 20
        refused = await alice.request(method, path, body)
        assert (refused.status, refused.error["code"]) == (503, "INTERNAL_ERROR")
    assert all(reply.status < 300 for reply in await asyncio.gather(*replies))
    assert waiting._queued_characters == 0
    assert (await alice.request(method, path, body)).status < 300
