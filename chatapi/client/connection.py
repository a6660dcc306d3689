"""One user's live connection: it comes back by itself, and hands over each event of a room once and in order."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import aiohttp
from msgspec import UNSET, UnsetType

from chatapi.client.backoff import full_jitter
from chatapi.client.errors import ApiError, Closed, NoAnswer, parse_error
from chatapi.client.events import (
    AckReceivedEvent,
    Event,
    EventPage,
    MessageDeletedEvent,
    MessageEditedEvent,
    ReadUpdatedEvent,
    ReadyEvent,
)
from chatapi.client.feed import Feed
from chatapi.client.http import Credentials, Http
from chatapi.client.inbox import Ended
from chatapi.client.pending import Lanes, Pending, new_id
from chatapi.client.records import Cursors, Json, Sent, Subscribed
from chatapi.client.socket import Socket, SocketEnded, now_s, open_socket
from chatapi.errors import Code
from chatapi.protocol.frames import MAX_FRAME_BYTES
from chatapi.protocol.json import dumps, loads_stored

if TYPE_CHECKING:
    from chatapi.client.api import ChatAPI

logger = logging.getLogger(__name__)

State = Literal["connecting", "syncing", "live", "waiting", "paused", "closed"]
OnState = Callable[[State], None]

STABLE_S = 5.0  # a connection that lived this long starts the back-off anew
FRAME_MARGIN_BYTES = 100  # of the server's bound, for the request_id
ACK_DELAY_S = 0.1  # so that a burst of messages is one ack
ACKS_PER_TURN = 15  # a second: the server delays acks above 20, and drops typing with them
CLOSING_ACKS = 40  # the server's burst: more would keep the goodbye waiting
TYPING_REPEAT_S = 3.0  # the server forgets a typist after 6 s
ATTEMPTS = 5  # of a frame that is not a message; a message is tried until it is confirmed or refused
RETRY_BASE_S = 0.1  # of a frame that was refused for now
RETRY_CAP_S = 10.0
PASSING = frozenset({Code.RATE_LIMIT_EXCEEDED, Code.INTERNAL_ERROR})  # refusals that may not be the last word
NEW_TOKENS = 2  # tried in a row when the server refuses them


@dataclass(frozen=True, kw_only=True)
class Options:
    """See `ChatAPI.connect`."""

    auto_ack: bool = True
    auto_ack_notifications: bool = True
    min_delay_s: float = 0.5
    max_delay_s: float = 30.0
    max_pending: int = 1000
    on_state: OnState | None = None

    def __post_init__(self) -> None:
        if self.max_pending < 1:
            raise ValueError("max_pending must be at least 1")


class Connection:
    """For `async with`, and `async for event in connection`: one loop at a time.

    An event counts as handled, and is acknowledged, when the loop asks for the next one, or when the connection is
    closed without an exception. What fails for good (the server refuses the credential) ends the loop with ApiError.
    """

    def __init__(
        self, client: "ChatAPI", http: Http, credentials: Credentials, cursors: Cursors | None, options: Options
    ) -> None:
        self._client = client
        self._http = http
        self._credentials = credentials
        self._options = options
        self._state: State = "connecting"
        self._runner: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[None] | None = None
        self._is_paused = False
        self._interrupted = asyncio.Event()

        self._feed = Feed(self._read_log, cursors, options.max_pending, lambda: self._set_state("live"))
        self._pending = Pending()  # what the caller waits for
        self._own = Pending()  # what the connection itself waits for
        self._lanes = Lanes()

        # Of the present socket
        self._socket: Socket | None = None
        self._is_blocked = False  # not read, since the caller is slow
        self._typing: dict[str, float] = {}

        # Of the next one
        self._attempt = 0
        self._refusals = 0
        self._next_delay_s: float | None = None  # where it is not the back-off's to say

    # Life

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, _exc: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if exc_type is not None:
            self._feed.forget()
        await self.close()

    async def open(self) -> Self:
        """Returns when the server has said `ready`, however long that takes: give it a deadline of your own. Raises
        ApiError when the server refuses, Closed after `close`."""
        self._check_open()
        if self._runner is None:
            self._opened = asyncio.get_running_loop().create_future()
            self._runner = asyncio.create_task(self._run(), name="chatapi connection")
            self._runner.add_done_callback(self._run_ended)
        assert self._opened is not None  # with the runner
        try:
            await asyncio.shield(self._opened)
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Acknowledges what was handled, and ends the connection; whoever waits for an answer gets Closed."""
        self._feed.settle()
        socket = self._socket
        if socket is not None and self._state != "closed":
            for _count, frame in zip(range(CLOSING_ACKS), self._take_acks(), strict=False):
                await socket.send(frame)
        self._finish(None, discard=True)
        if socket is not None:
            await socket.close()  # before the reader is cancelled: aiohttp would not wait for the server's goodbye
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner])

    async def pause(self) -> None:
        """Drops the socket until `resume`; what is sent meanwhile waits."""
        self._is_paused = True
        self._interrupted.set()
        while self._state not in ("paused", "closed"):
            await self._feed.inbox.changed()

    async def resume(self) -> None:
        self._is_paused = False
        self._interrupted.clear()
        self._feed.inbox.wake()

    @property
    def state(self) -> State:
        return self._state

    @property
    def ready(self) -> ReadyEvent:
        """What the server said at the newest connect. Raises Closed before the first one."""
        if self._feed.ready is None:
            raise Closed("the connection has not been open yet")
        return self._feed.ready

    @property
    def cursors(self) -> Cursors:
        """How far the caller has handled events: plain JSON, a copy, to be kept and given to `connect`."""
        return self._feed.book.export()

    @property
    def unconfirmed(self) -> int:
        """Messages that the server has not confirmed yet."""
        return self._lanes.waiting

    # Events

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self._feed.next()
        except Ended as ended:
            if ended.__cause__ is not None:
                raise ended.__cause__ from None
            raise StopAsyncIteration from None

    # What the caller does

    async def send(
        self,
        room_id: str,
        content: str,
        *,
        meta: Json | None = None,
        reply_to: str | None = None,
        client_message_id: str | None = None,
    ) -> Sent:
        """Sends a message and returns when it is stored. Tried, across reconnects and restarts, until the server has
        confirmed or refused it; stored once in any case. Messages to one room are stored in the order of the calls.

        Raises ApiError when it is refused, Closed when the connection is closed first.
        """
        self._typing.pop(room_id, None)  # a message ends the typing, here as on the server
        fields = {
            "room_id": room_id,
            "content": content,
            "meta": meta,
            "reply_to": reply_to,
            "client_message_id": client_message_id or new_id(),
        }
        frame = {"type": "send_message", **fields}
        async with self._lanes.turn(room_id):
            # Quotes and the like grow in JSON, beyond what a frame may hold; HTTP has the room.
            if len(dumps(frame)) > MAX_FRAME_BYTES - FRAME_MARGIN_BYTES:
                return await self._send_over_http(fields)
            return cast(Sent, await self._request(frame, attempts=None))

    async def _send_over_http(self, fields: dict[str, Any]) -> Sent:
        attempt = 0
        while True:
            self._check_open()
            try:
                return cast(Sent, await self._client.send_message(**fields))
            except NoAnswer:
                await asyncio.sleep(full_jitter(attempt, self._options.min_delay_s, self._options.max_delay_s))
                attempt += 1

    async def edit(
        self, room_id: str, message_id: str, content: str, *, meta: Json | UnsetType | None = UNSET
    ) -> MessageEditedEvent:
        """`meta` stays when it is not given, None clears it."""
        frame: Json = {"type": "message.edit", "room_id": room_id, "message_id": message_id, "content": content}
        if meta is not UNSET:
            frame["meta"] = meta
        return cast(MessageEditedEvent, await self._request(frame))

    async def delete(self, room_id: str, message_id: str) -> MessageDeletedEvent:
        frame = {"type": "message.delete", "room_id": room_id, "message_id": message_id}
        return cast(MessageDeletedEvent, await self._request(frame))

    async def read(self, room_id: str, seq: int) -> ReadUpdatedEvent:
        """Marks as read up to `seq`."""
        return cast(ReadUpdatedEvent, await self._request({"type": "read", "room_id": room_id, "seq": seq}))

    async def ack(self, room_id: str, seq: int) -> AckReceivedEvent:
        """For those who switched `auto_ack` off."""
        return cast(AckReceivedEvent, await self._request({"type": "ack", "room_id": room_id, "seq": seq}))

    async def ack_notification(self, notification_id: str) -> None:
        """For those who switched `auto_ack_notifications` off. Sent soon."""
        self._feed.notices.acknowledge(notification_id)
        self._feed.acks_due.set()

    async def typing(self, room_id: str, active: bool = True) -> None:
        """Tells the others that the user is typing; call it on every key. Lost when there is no socket."""
        if self._socket is None:
            return
        last_s = self._typing.get(room_id)
        if not active:
            if self._typing.pop(room_id, None) is not None:
                await self._socket.send({"type": "typing.stop", "room_id": room_id})
        elif last_s is None or now_s() - last_s > TYPING_REPEAT_S:
            self._typing[room_id] = now_s()
            await self._socket.send({"type": "typing.start", "room_id": room_id})

    async def subscribe(self, room_id: str) -> Subscribed:
        """Receives a channel's events without joining it, from now on and across reconnects. A channel that this
        connection, or its cursors, knows already is caught up first."""
        self._feed.book.unwanted.discard(room_id)
        self._feed.book.wanted[room_id] = None
        try:
            return cast(Subscribed, await self._request({"type": "subscribe", "room_id": room_id}))
        except ApiError:
            self._feed.book.wanted.pop(room_id, None)
            raise

    async def unsubscribe(self, room_id: str) -> None:
        """Receives no more of this room on this connection."""
        self._feed.book.wanted.pop(room_id, None)
        self._feed.book.unwanted.add(room_id)
        await self._request({"type": "unsubscribe", "room_id": room_id})

    async def ping(self) -> float:
        """Seconds to the server and back."""
        started_at_s = now_s()
        await self._request({"type": "ping"})
        return now_s() - started_at_s

    def _check_open(self) -> None:
        if self._state == "closed":
            raise Closed

    async def _request(self, fields: Json, *, attempts: int | None = ATTEMPTS, pending: Pending | None = None) -> Any:
        """Sends a frame now or when there is a socket, again on the next one if the answer got lost, and returns the
        answer. `attempts` bounds the refusals that may pass; None is no bound."""
        pending = self._pending if pending is None else pending
        frame = {**fields, "request_id": new_id()}
        attempt = 0
        while True:
            self._check_open()
            answer = pending.add(frame)
            self._feed.inbox.wake()  # answers are read even when the inbox is full
            try:
                if self._socket is not None:
                    await self._socket.send(frame)
                return await answer
            except ApiError as error:
                attempt += 1
                if error.code not in PASSING or (attempts is not None and attempt >= attempts):
                    raise
                delay_s = max(error.retry_after_s or 0.0, full_jitter(attempt, RETRY_BASE_S, RETRY_CAP_S))
            finally:
                pending.remove(frame["request_id"])
            await asyncio.sleep(delay_s)

    async def _read_log(self, room_id: str, after_seq: int, limit: int) -> EventPage:
        return await self._client.list_events(room_id, after_seq=after_seq, limit=limit)

    # One socket after the other

    async def _run(self) -> None:
        # Not left to the cancellation alone: a task group that fails at the same moment swallows it.
        while self._state != "closed":
            await self._wait_until_wanted()
            self._set_state("connecting")
            started_at_s = now_s()
            least_s = await self._live_once()
            if now_s() - started_at_s > STABLE_S:
                self._attempt = 0
            if self._is_paused:
                continue  # a resume waits for nothing
            if self._next_delay_s is None:
                backoff_s = full_jitter(self._attempt, self._options.min_delay_s, self._options.max_delay_s)
                delay_s = max(backoff_s, least_s)
                self._attempt += 1
            else:
                delay_s, self._next_delay_s = self._next_delay_s, None
            self._set_state("waiting")
            await self._is_interrupted_within(delay_s)

    async def _wait_until_wanted(self) -> None:
        inbox = self._feed.inbox
        while self._state != "closed" and (self._is_paused or (inbox.is_full and not self._pending)):
            self._set_state("paused" if self._is_paused else "waiting")
            await inbox.changed()

    async def _live_once(self) -> float:
        """One socket from its handshake to its end. Returns the seconds that the server asks to stay away at least;
        raises what makes another try pointless."""
        socket = None
        try:
            socket = await open_socket(self._http, self._credentials)
            await self._serve(socket)
            if (refusal := socket.find_refusal()) is not None:
                raise refusal
        except ApiError as error:
            self._consider_refusal(error)
            return error.retry_after_s or 0.0
        except (aiohttp.ClientError, OSError, TimeoutError, SocketEnded) as error:
            logger.debug("no connection", extra={"error": type(error).__name__})
        finally:
            if socket is not None:
                await socket.close()
        return 0.0

    def _consider_refusal(self, error: ApiError) -> None:
        """Raises the refusal, unless it may pass, or a new token may change the server's mind."""
        if error.status == 401 and self._refusals < NEW_TOKENS and self._credentials.renew():
            self._refusals += 1
        elif 400 <= error.status < 500 and error.status != 429:
            raise error
        logger.info("connection refused", extra={"status": error.status})

    async def _serve(self, socket: Socket) -> None:
        self._refusals = 0
        try:
            async with asyncio.TaskGroup() as group:
                sync = self._feed.start(group, socket.ready)
                self._socket = socket
                self._set_state("syncing")
                group.create_task(self._greet(socket, sync, self._pending.frames()))
                group.create_task(self._read(socket))
                group.create_task(self._keep_alive(socket))
                group.create_task(self._flush_acks(socket))
                if self._opened is not None and not self._opened.done():
                    self._opened.set_result(None)
        except* SocketEnded as ended:
            self._next_delay_s = _find_delay_s(ended, self._next_delay_s)
        finally:
            self._socket = None
            self._is_blocked = False
            self._typing.clear()
            self._feed.stop()

    async def _greet(self, socket: Socket, sync: Json, waiting: list[Json]) -> None:
        """Says where this connection stopped, and then sends again what got no answer on the last socket."""
        book = self._feed.book
        async with asyncio.TaskGroup() as group:  # each sends its frame when it starts, so these stay in order
            for room_id in book.unwanted:
                group.create_task(self._insist({"type": "unsubscribe", "room_id": room_id}))
            group.create_task(self._insist(sync))
            for room_id in book.wanted:
                group.create_task(self._insist({"type": "subscribe", "room_id": room_id}))
            group.create_task(self._repeat(socket, waiting))

    async def _insist(self, frame: Json) -> None:
        """For frames of the connection's own, which a rate limit must not lose."""
        try:
            await self._request(frame, attempts=None, pending=self._own)
        except ApiError as error:
            logger.warning("refused at the reconnect", extra={"frame": frame["type"], "code": str(error.code)})
            if frame["type"] == "sync":
                raise SocketEnded from error
            self._feed.book.wanted.pop(frame["room_id"], None)

    async def _repeat(self, socket: Socket, waiting: list[Json]) -> None:
        for frame in waiting:
            await socket.send(frame)

    async def _read(self, socket: Socket) -> None:
        while True:
            data = await socket.receive()
            if self._feed.inbox.is_full and not self._pending:
                await self._wait_for_caller(socket)
            frame = loads_stored(data)
            if frame["type"] == "error":
                self._receive_error(socket, frame)
                continue
            if "request_id" in frame:
                self._pending.settle(frame)
                self._own.settle(frame)
            if frame["type"] == "server.shutdown":
                self._next_delay_s = frame["reconnect_after_ms"] / 1000
                self._attempt = 0
            self._feed.receive(frame, len(data))

    async def _wait_for_caller(self, socket: Socket) -> None:
        """Until the inbox has space, or the caller waits for an answer, which has to be read."""
        self._is_blocked = True
        while self._feed.inbox.is_full and not self._pending:
            await self._feed.inbox.changed()
        self._is_blocked = False
        socket.heard_at_s = now_s()

    def _receive_error(self, socket: Socket, frame: Json) -> None:
        retry_after_ms = frame.get("retry_after_ms")
        error = parse_error(frame, retry_after_s=None if retry_after_ms is None else retry_after_ms / 1000)
        request_id = frame.get("request_id")
        if not self._pending.refuse(request_id, error) and not self._own.refuse(request_id, error):
            socket.refusal = error
            logger.warning("the server refused a frame", extra={"code": str(error.code), "field": error.field})

    async def _keep_alive(self, socket: Socket) -> None:
        """Ends a socket on which the server fell silent, and speaks up while the caller is too slow for it."""
        heartbeat_s = socket.ready["heartbeat_seconds"]
        while True:
            if await self._is_interrupted_within(heartbeat_s / 2):
                raise SocketEnded
            silent_s = now_s() - socket.heard_at_s
            if not self._is_blocked and silent_s > 2 * heartbeat_s:
                raise SocketEnded
            if self._is_blocked or silent_s > 0.75 * heartbeat_s:
                await socket.send({"type": "ping"})

    async def _flush_acks(self, socket: Socket) -> None:
        while True:
            await self._feed.acks_due.wait()
            await asyncio.sleep(ACK_DELAY_S)
            self._feed.acks_due.clear()
            for count, frame in enumerate(self._take_acks(), start=1):
                await socket.send(frame)
                if count % ACKS_PER_TURN == 0:
                    await asyncio.sleep(1.0)

    def _take_acks(self) -> Iterator[Json]:
        return self._feed.take_acks(rooms=self._options.auto_ack, notifications=self._options.auto_ack_notifications)

    async def _is_interrupted_within(self, delay_s: float) -> bool:
        try:
            async with asyncio.timeout(delay_s):
                await self._interrupted.wait()
        except TimeoutError:
            return False
        return True

    def _set_state(self, state: State) -> None:
        if state != self._state and self._state != "closed":
            self._state = state
            self._feed.inbox.wake()
            if self._options.on_state is not None:
                self._options.on_state(state)

    def _run_ended(self, runner: asyncio.Task[None]) -> None:
        self._finish(None if runner.cancelled() else runner.exception())

    def _finish(self, error: BaseException | None, *, discard: bool = False) -> None:
        self._set_state("closed")
        self._interrupted.set()
        self._feed.inbox.end(error, discard=discard)
        self._pending.end(error)
        self._own.end(error)
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(error or Closed())
            self._opened.exception()  # seen: whoever waits for it gets it all the same


def _find_delay_s(ended: ExceptionGroup[SocketEnded], known_s: float | None) -> float | None:
    for end in ended.exceptions:
        if isinstance(end, SocketEnded):
            known_s = known_s if end.delay_s is None else end.delay_s
    return known_s
