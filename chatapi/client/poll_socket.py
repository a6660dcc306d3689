"""A connection by long polls: one call after the other, each for what comes after the cursors."""

import asyncio
from typing import TYPE_CHECKING, Any, cast

from chatapi.client.credentials import Credentials
from chatapi.client.events import ReadyEvent, Synced
from chatapi.client.http_socket import HttpSocket, Json
from chatapi.client.socket import CONNECT_TIMEOUT_S

if TYPE_CHECKING:
    from chatapi.client.api import ChatAPI

WAIT_S = 25  # of one call: less than proxies wait for an answer
PAGE_EVENTS = 500


class PollSocket(HttpSocket):
    """Brings events of logs and notifications, and no other frames."""

    def __init__(self, client: "ChatAPI") -> None:
        super().__init__(client)
        self._cursors: dict[str, int] = {}
        self._polling: asyncio.Task[Synced] | None = None

    async def open(self, user_id: str) -> None:
        """Raises ApiError, NoAnswer."""
        epoch = (await self._client.sync(limit=1))["epoch"]
        rooms: list[Json] = []
        cursor: str | None = None
        while True:
            page: Any = await self._client.list_rooms(hidden=True, limit=100, cursor=cursor)
            rooms += page["rooms"]
            cursor = page.get("next_cursor")
            if cursor is None:
                break
        names = ("room_id", "type", "last_seq", "last_ack", "last_read", "unread_mentions", "notify", "hidden")
        listed = [{name: room.get(name) for name in names} for room in rooms]
        ready = {"type": "ready", "connection_id": "", "user_id": user_id, "epoch": epoch, "server_time": "",
                 "heartbeat_seconds": 2 * WAIT_S, "rooms": listed}  # fmt: skip
        self.ready: ReadyEvent = cast(ReadyEvent, ready)
        self.heartbeat_s: float = 2.0 * WAIT_S
        self.heard()

    def begin(self, sync: Json) -> None:
        self.run(self._poll(sync))

    async def follow(self, room_id: str, last_seq: int) -> None:
        self._cursors[room_id] = last_seq
        if self._polling is not None:
            self._polling.cancel()  # its events come with the next one

    async def _poll(self, sync: Json) -> None:
        assert self.ready is not None
        self._cursors = {**sync["rooms"]}
        request_id: str | None = sync.get("request_id")
        epoch = sync.get("epoch")
        notification_id: str | None = None
        while True:
            synced = await self._ask(epoch, 0 if request_id else WAIT_S, notification_id)
            if synced is None:
                continue
            self.heard()
            if synced["reset"] or epoch not in (None, synced["epoch"]):
                await self.put({"type": "sync.reset", "epoch": synced["epoch"], "rooms": synced["reset"]})
            epoch = synced["epoch"]
            await self._hand_over(synced, request_id)
            if synced["notifications"]:
                notification_id = synced["notifications"][-1]["notification_id"]
            if request_id and not synced["has_more"]:
                complete = {"type": "sync.complete", "rooms": dict(self._cursors), "request_id": request_id}
                await self.put(complete)
                request_id = None

    async def _ask(self, epoch: str | None, wait_s: int, notification_id: str | None) -> Synced | None:
        """None if the connection follows another channel from now on."""
        call = self._client.sync(
            epoch=epoch, rooms=self._cursors, wait=wait_s, limit=PAGE_EVENTS, after_notification=notification_id
        )
        self._polling = asyncio.ensure_future(call)
        try:
            await asyncio.wait([self._polling])
        except asyncio.CancelledError:
            self._polling.cancel()
            raise
        return None if self._polling.cancelled() else self._polling.result()

    async def _hand_over(self, synced: Synced, request_id: str | None) -> None:
        for gap in synced["gaps"]:
            await self.put({"type": "sync.gap", **gap})
        for event in synced["events"]:
            await self.put({**event})
        for room_id, error in synced["errors"].items():
            self._cursors.pop(room_id, None)
            if request_id is None and error["code"] == "NOT_FOUND":
                await self.put({"type": "room.deleted", "room_id": room_id})
            else:
                asked = {} if request_id is None else {"request_id": request_id}
                await self.put({"type": "error", **asked, **error, "field": f"rooms.{room_id}"})
        for notification in synced["notifications"]:
            await self.put({**notification})
        self._cursors |= synced["rooms"]


async def open_poll(client: "ChatAPI", credentials: Credentials) -> PollSocket:
    """As `open_socket`."""
    socket = PollSocket(client)
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        await socket.open(await credentials.find_user_id())
    return socket
