"""The backend of the tenant: it is told of every event, refuses some and notes all; and the check of what it noted."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from checker.journal import Frame
from checker.truth import RoomTruth

SETTINGS = {
    "webhooks.allow_private_addresses": "true",
    "webhooks.retry_schedule_seconds": "[" + ", ".join(["0.1"] * 30) + "]",  # nothing is refused so often
}
REFUSED, CUT_OFF = 0.02, 0.01  # of the calls
MAX_DELAY_SECONDS = 0.02
TOLD = {
    "message": "message.created",
    "message.edited": "message.edited",
    "message.deleted": "message.deleted",
    "message.finished": "message.finished",
    "reaction.added": "reaction.added",
    "reaction.removed": "reaction.removed",
    "room.updated": "room.updated",
    "member.joined": "member.joined",
    "member.left": "member.left",
    "member.banned": "member.banned",
}
"""Event of the log -> event that the backend is told of."""


@dataclass(slots=True)
class Told:
    webhook_id: str
    name: str
    room_id: str
    event: Frame


@dataclass(slots=True)
class Backend:
    """`told` holds the calls about rooms in the order in which they came."""

    chance: random.Random
    secret: str = ""
    url: str = ""
    told: list[Told] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        try:
            call: dict[str, Any] = Webhook(self.secret).verify(body, dict(request.headers))
        except WebhookVerificationError as error:
            self.faults.append(f"a call is not signed: {error}")
            return web.Response(status=204)
        if "event" in call["data"] and "room" in call["data"]:
            room_id = call["data"]["room"]["room_id"]
            self.told.append(Told(request.headers["webhook-id"], call["type"], room_id, call["data"]["event"]))
        await asyncio.sleep(self.chance.random() ** 4 * MAX_DELAY_SECONDS)
        chosen = self.chance.random()
        if chosen < CUT_OFF and request.transport is not None:
            request.transport.close()
        return web.Response(status=500 if chosen < CUT_OFF + REFUSED else 204)


@asynccontextmanager
async def open_backend(seed: int) -> AsyncIterator[Backend]:
    backend = Backend(random.Random(f"{seed}/backend"))
    app = web.Application(client_max_size=2**20)
    app.router.add_post("/", backend.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    backend.url = f"http://{host}:{port}/"
    try:
        yield backend
    finally:
        await runner.cleanup()


def check_told(backend: Backend, rooms: Mapping[str, RoomTruth]) -> list[str]:
    """Each event of each log came at least once, first in the order of the log, always under one id, and nothing else
    came."""
    found = list(backend.faults)
    firsts: dict[str, dict[int, Told]] = defaultdict(dict)
    created: set[str] = set()
    keys: dict[str, tuple[str, str, int | None]] = {}
    for told in backend.told:
        seq = told.event.get("seq")
        key = (told.name, told.room_id, seq)
        if keys.setdefault(told.webhook_id, key) != key:
            found.append(f"{told.webhook_id} was {keys[told.webhook_id]}, then {key}")
        if told.name == "room.created":
            created.add(told.room_id)
        elif seq is not None:
            first = firsts[told.room_id].setdefault(seq, told)
            if first.webhook_id != told.webhook_id:
                found.append(f"{key} came as {first.webhook_id} and as {told.webhook_id}")
    for room_id, room in rooms.items():
        if room_id not in created:
            found.append(f"the backend was not told that {room_id} was made")
        found += check_room(room, firsts.pop(room_id, {}))
    return found + [f"the backend was told of {room_id}, which nobody has made" for room_id in firsts]


def check_room(room: RoomTruth, firsts: Mapping[int, Told]) -> list[str]:
    found = [f"{room.room_id}: first told of {after} before {before}" for before, after in list_inversions(firsts)]
    for seq, told in firsts.items():
        event = room.find(seq) or {"type": "nothing"}
        if TOLD.get(event["type"]) != told.name or event.get("message_id") != told.event.get("message_id"):
            found.append(f"{room.room_id}: the backend was told {told}, and the log has {event}")
    for event in room.events:
        if event["type"] in TOLD and event["seq"] not in firsts and not may_be_stream(event):
            found.append(f"{room.room_id}: the backend was not told of {event}")
    return found


def list_inversions(seqs: Iterable[int]) -> list[tuple[int, int]]:
    found, last = [], 0
    for seq in seqs:
        if seq < last:
            found.append((seq, last))
        last = max(last, seq)
    return found


def may_be_stream(event: Frame) -> bool:
    """A stream is told of by its end alone. The log does not say any more of a deleted message that it was one."""
    return event["type"] == "message" and ("stream" in event or event["deleted_at"] is not None)
