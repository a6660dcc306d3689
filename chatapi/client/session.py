"""The session over one socket: says where the connection stopped, reads, acknowledges, and sees whether the server is
there."""

import asyncio
import logging
from collections.abc import Iterator

from chatapi.client.attempts import Attempts
from chatapi.client.backoff import full_jitter
from chatapi.client.carrier import Carrier
from chatapi.client.errors import ApiError, parse_error
from chatapi.client.feed import GONE, Feed
from chatapi.client.frames import find_number
from chatapi.client.options import Options
from chatapi.client.outgoing import Outgoing
from chatapi.client.records import Json
from chatapi.client.socket import CallAnswer, Socket, SocketEnded, now_s

logger: logging.Logger = logging.getLogger(__name__)

ACKS_PER_SECOND = 15  # the server delays acks above 20, and drops typing with them
ACK_RETRY_S = 1.0  # at least, after the server could store none, as of a tenant that is held for a move
CLOSING_ACKS = 40  # the server's burst: more would keep the goodbye waiting


class SocketSession:
    def __init__(
        self,
        socket: Socket,
        *,
        feed: Feed,
        out: Outgoing,
        attempts: Attempts,
        carrier: Carrier,
        options: Options,
        interrupted: asyncio.Event,
    ) -> None:
        """`interrupted` ends the socket: the application has paused or closed the connection."""
        self.socket = socket
        self._feed = feed
        self._out = out
        self._attempts = attempts
        self._carrier = carrier
        self._options = options
        self._interrupted = interrupted
        self._is_repeating = False  # acks will be sent again
        self._is_blocked = False  # not read, since the application is slow
        self._silenced: set[str] = set()  # rooms that the server was told not to send

    def start(self, group: asyncio.TaskGroup, sync: Json) -> None:
        """Its tasks raise SocketEnded."""
        group.create_task(self._greet(sync, self._out.pending.frames()))
        group.create_task(self._read())
        group.create_task(self._keep_alive())
        group.create_task(self._flush_acks())

    def silence(self, room_id: str) -> None:
        """Asks the server for no more of this room, once."""
        if room_id not in self._silenced:
            self._silenced.add(room_id)
            self._feed.run(self.socket.send({"type": "unsubscribe", "room_id": room_id}))

    async def send_last_acks(self) -> None:
        """The connection is about to be closed."""
        for _count, frame in zip(range(CLOSING_ACKS), self._take_acks(), strict=False):
            await self.socket.send(frame)

    async def _greet(self, sync: Json, waiting: list[Json]) -> None:
        """Says where this connection stopped, and then sends again what got no answer on the last socket."""
        asked = {frame["room_id"] for frame in waiting if frame["type"] == "subscribe"}
        async with asyncio.TaskGroup() as group:  # each sends its frame when it starts, so these stay in order
            group.create_task(self._sync(sync))
            for room_id in self._feed.book.wanted:
                if room_id not in sync["rooms"] and room_id not in asked:
                    group.create_task(self._follow(room_id))
            group.create_task(self._repeat(waiting))

    async def _sync(self, sync: Json) -> None:
        try:
            await self._out.request(sync, attempts=None, pending=self._out.own)
        except ApiError as error:
            logger.warning("the sync was refused", extra={"code": str(error.code)})
            raise SocketEnded(error=error) from error

    async def _follow(self, room_id: str) -> None:
        """A channel of which nothing has come yet: no `sync` can name it."""
        try:
            await self._out.request({"type": "subscribe", "room_id": room_id}, attempts=None, pending=self._out.own)
        except ApiError as error:
            logger.warning("a channel can no longer be followed", extra={"code": str(error.code)})
            self._feed.book.wanted.pop(room_id, None)

    async def _repeat(self, waiting: list[Json]) -> None:
        for frame in waiting:
            await self.socket.send(frame)

    async def _read(self) -> None:
        while True:
            frame, size_bytes = await self.socket.receive()
            if self._feed.inbox.is_full and not self._out.pending:
                await self._wait_for_application()
            if frame["type"] == "error":
                self._receive_error(frame)
                continue
            if "request_id" in frame:
                self._out.pending.resolve(frame)
                self._out.own.resolve(frame)
            if isinstance(frame, CallAnswer):
                continue
            if frame["type"] == "server.shutdown":
                self._expect_end(frame)
            self._feed.receive(frame, size_bytes)

    def _expect_end(self, shutdown: Json) -> None:
        delay_s = find_number(shutdown, "reconnect_after_ms", 0.0) / 1000
        if "url" in shutdown and self._carrier.move_to(shutdown["url"]):
            self._attempts.expect_move(delay_s)
        else:
            self._attempts.expect_shutdown(delay_s)

    async def _wait_for_application(self) -> None:
        """Until the inbox has space, or the application waits for an answer, which has to be read."""
        self._is_blocked = True
        while self._feed.inbox.is_full and not self._out.pending:
            await self._feed.inbox.changed()
        self._is_blocked = False
        self.socket.heard_at_s = now_s()

    def _receive_error(self, frame: Json) -> None:
        retry_after_s = find_number(frame, "retry_after_ms", 0.0) / 1000
        error = parse_error(frame, retry_after_s=retry_after_s or None)
        request_id = frame.get("request_id")
        if self._is_of_one_room(error) and (request_id is None or self._out.own.expects(request_id)):
            self._feed.lose_room(str(error.field).removeprefix("rooms."))  # the others are served
        elif not self._out.pending.refuse(request_id, error) and not self._out.own.refuse(request_id, error):
            self.socket.refusal = error
            if request_id is None and error.status >= 500 and not self._is_repeating:
                self._is_repeating = True
                self._feed.run(self._repeat_acks(error.retry_after_s or 0.0))
            logger.warning("the server refused a frame", extra={"code": str(error.code), "field": error.field})

    def _is_of_one_room(self, error: ApiError) -> bool:
        return error.status in GONE and error.field is not None and error.field.startswith("rooms.")

    async def _keep_alive(self) -> None:
        """Ends a socket on which the server fell silent, and speaks up while the application is too slow for it."""
        heartbeat_s = self.socket.heartbeat_s
        while True:
            if await is_set_within(self._interrupted, heartbeat_s / 2):
                raise SocketEnded
            silent_s = now_s() - self.socket.heard_at_s
            if not self._is_blocked and silent_s > 2 * heartbeat_s:
                raise SocketEnded
            if self._is_blocked or silent_s > 0.75 * heartbeat_s:
                await self.socket.send({"type": "ping"})

    async def _flush_acks(self) -> None:
        while True:
            await self._feed.acks_due.wait()
            await asyncio.sleep(self.socket.ack_delay_s)
            self._feed.acks_due.clear()
            for count, frame in enumerate(self._take_acks(), start=1):
                await self.socket.send(frame)
                if count % ACKS_PER_SECOND == 0:
                    await asyncio.sleep(1.0)

    async def _repeat_acks(self, wait_s: float) -> None:
        """A frame that asks for no answer was refused, and the server does not say which. Acks may come twice."""
        await asyncio.sleep(max(wait_s, ACK_RETRY_S) + full_jitter(0, ACK_RETRY_S, ACK_RETRY_S))
        self._is_repeating = False
        self._feed.repeat_acks()

    def _take_acks(self) -> Iterator[Json]:
        return self._feed.take_acks(rooms=self._options.auto_ack, notifications=self._options.auto_ack_notifications)


async def is_set_within(event: asyncio.Event, delay_s: float) -> bool:
    try:
        async with asyncio.timeout(delay_s):
            await event.wait()
    except TimeoutError:
        return False
    return True


def forget_cancellation() -> None:
    """A task group of which a task fails cancels its parent, and until Python 3.13 may leave it marked as cancelled. In
    a task that is marked, no timeout ends as one in the first Pythons 3.11, Debian 12's among them."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
