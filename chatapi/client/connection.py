"""One user's live connection: it comes back by itself, and hands over each event of a room once and in order."""

import asyncio
import logging
from collections.abc import AsyncIterable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import aiohttp
from msgspec import UNSET, UnsetType

from chatapi.client.attempts import Attempts
from chatapi.client.carrier import Carrier
from chatapi.client.credentials import Credentials
from chatapi.client.drafts import draft, given
from chatapi.client.errors import ApiError, Closed, NoAnswer
from chatapi.client.events import (
    AckReceivedEvent,
    Event,
    EventPage,
    MessageDeletedEvent,
    MessageEditedEvent,
    ReactionAddedEvent,
    ReactionRemovedEvent,
    ReadUpdatedEvent,
    ReadyEvent,
)
from chatapi.client.feed import Feed, FeedCallbacks
from chatapi.client.growing import GrowingMessage, Growth
from chatapi.client.http import Http
from chatapi.client.inbox import Ended
from chatapi.client.options import Options, State, Transport
from chatapi.client.outgoing import Outgoing, fits
from chatapi.client.records import AppendAnswer, Cursors, Json, Message, MessageFields, Sent, Subscribed
from chatapi.client.replay import ANNOTATIONS, message_of
from chatapi.client.session import SocketSession, forget_cancellation, is_set_within
from chatapi.client.socket import Socket, SocketEnded, now_s
from chatapi.client.typist import Typist
from chatapi.client.writing import StreamTransport, StreamWriter

if TYPE_CHECKING:
    from chatapi.client.api import ChatAPI

logger: logging.Logger = logging.getLogger(__name__)


class Connection:
    """For `async with`, and `async for event in connection`: one loop at a time.

    An event counts as handled, and is acknowledged, when the loop asks for the next one, or when the connection is
    closed without an exception. A failure that is final (the server refuses the credential) ends the loop with
    ApiError.
    """

    def __init__(
        self, client: "ChatAPI", http: Http, credentials: Credentials, cursors: Cursors | None, options: Options
    ) -> None:
        self._client = client
        self._carrier = Carrier(client, http, credentials, options)
        self._options = options
        self._state: State = "connecting"
        self._runner: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[None] | None = None
        self._is_paused = False
        self._interrupted = asyncio.Event()

        self._attempts = Attempts(credentials, options.min_delay_s, options.max_delay_s, options.on_error)
        callbacks = FeedCallbacks(
            lambda: self._set_state("live"),
            self._attempts.tell,
            self._attempts.find_delay_s,
            self._silence,
            self._notice,
            lambda room_id: self._growth.lose_room(room_id),
        )
        self._growth = Growth(client.get_message, self._run_while_open)
        self._writers: dict[str, StreamWriter] = {}  # streams of this connection, by message
        self._feed = Feed(self._read_log, cursors, options.max_pending, callbacks)
        self._out = Outgoing(self._feed.inbox.wake, can_renew=credentials.is_renewable)
        self._unconfirmed = 0

        self._typist = Typist()
        self._session: SocketSession | None = None  # over the present socket

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
        self._out.check_open()
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
        """Acknowledges the events that were handled, and ends the connection; calls that wait for an answer raise
        Closed."""
        self._feed.finish()
        session = self._session
        if session is not None and self._state != "closed":
            await session.send_last_acks()
        self._finish(None, discard=True)
        if session is not None:
            # Before the reader is cancelled: aiohttp would not wait for the server's goodbye.
            await session.socket.close()
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner])

    async def pause(self) -> None:
        """Drops the socket until `resume`; frames sent meanwhile wait."""
        self._is_paused = True
        self._out.hold_calls(hold=True)
        self._interrupted.set()
        while self._state not in ("paused", "closed"):
            await self._feed.inbox.changed()

    async def resume(self) -> None:
        """Connects again after `pause`, and at once where the connection waits for its next try."""
        self._is_paused = False
        self._out.hold_calls(hold=False)
        if self._state == "waiting":
            self._interrupted.set()
        elif self._state == "paused":
            self._interrupted.clear()
        self._feed.inbox.wake()

    @property
    def state(self) -> State:
        """`connecting`, `syncing` (what was missed is coming), `live`, `waiting` (for the next try), `paused`,
        `closed`."""
        return self._state

    @property
    def transport(self) -> Transport:
        """The transport that carries the connection now, or is tried next: `websocket`, `sse` or `poll`."""
        return self._carrier.transport

    @property
    def _is_closed(self) -> bool:
        return self._state == "closed"

    @property
    def error(self) -> Exception | None:
        """Why the newest try to connect failed, or what ended the connection: ApiError when the server refused,
        NotChatAPI when something else answered, NoToken, NoAnswer. None while there is a socket."""
        return self._attempts.error

    @property
    def ready(self) -> ReadyEvent:
        """The `ready` frame of the newest connect. Raises Closed before the first one."""
        if self._feed.ready is None:
            raise Closed("the connection has not been open yet")
        return self._feed.ready

    @property
    def cursors(self) -> Cursors:
        """How far the application has handled events: plain JSON, a copy, to be kept and given to `connect`."""
        return self._feed.book.export()

    @property
    def unconfirmed(self) -> int:
        """Messages that the server has not confirmed yet."""
        return self._unconfirmed

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

    # For the application

    async def send(
        self,
        room_id: str,
        content: str,
        *,
        meta: Json | None = None,
        reply_to: str | None = None,
        client_message_id: str | None = None,
        mentions: list[str] | None = None,
        mention_room: bool = False,
        thread_id: str | None = None,
    ) -> Sent:
        """Sends a message and returns when it is stored. Tried, across reconnects and restarts, until the server has
        confirmed or refused it; stored once in any case. Messages to one room are stored in the order of the calls.

        `content`: up to 64 KiB of UTF-8, or the tenant's own bound. `meta`: an object of at most 16 KiB as JSON.
        `reply_to`: a message of the same room. `client_message_id`: up to 64 characters; one is made where none is
        given. `thread_id`: the message to which it is a reply, no reply itself. `mentions`: up to 50 members.
        `mention_room`: mentions every member, for the room's admins, in a dm for both. Raises ApiError when it is
        refused: 409 when that id had another body, 400 (`field` says of what), 403 for those who are not members, 404;
        Closed when the connection is closed first.
        """
        optional: Json = {"meta": meta, "reply_to": reply_to, "mentions": mentions, "mention_room": mention_room}
        optional["thread_id"] = thread_id
        return await self._send(room_id, draft(content, client_message_id=client_message_id, **optional))

    async def _send(self, room_id: str, fields: Json) -> Sent:
        self._typist.forget(room_id)
        frame = {"type": "send_message", "room_id": room_id, **fields}
        self._unconfirmed += 1
        try:
            async with self._out.room_locks.hold(room_id):
                if fits(frame):
                    return cast(Sent, await self._out.request(frame, attempts=None))
                return cast(Sent, await self._out.call(frame, lambda: self._client.send_message(room_id, **fields)))
        finally:
            self._unconfirmed -= 1

    async def edit(
        self,
        room_id: str,
        message_id: str,
        content: str,
        *,
        meta: Json | UnsetType | None = UNSET,
        mentions: list[str] | UnsetType | None = UNSET,
        mention_room: bool | UnsetType | None = UNSET,
    ) -> MessageEditedEvent:
        """Replaces a message's content; bounds as in `send`. `meta`, `mentions` and `mention_room` stay when they are
        not given, None clears them. In order with the other messages, edits and deletions of the room. Returns the
        event; of an edit that is too long for a frame and goes over HTTP, `seq` is the message's own. Raises ApiError:
        403 for all but its sender, 404, also of a deleted message; Closed."""
        fields = given(content=content, meta=meta, mentions=mentions, mention_room=mention_room)
        frame: Json = {"type": "message.edit", "room_id": room_id, "message_id": message_id, **fields}
        async with self._out.room_locks.hold(room_id):
            if fits(frame):
                return cast(MessageEditedEvent, await self._out.request(frame))
            message = await self._out.call(frame, lambda: self._client.edit_message(room_id, message_id, **fields))
        sent = {name: value for name, value in message.items() if name not in ANNOTATIONS}
        return cast(MessageEditedEvent, {**sent, "type": "message.edited", "target_seq": message["seq"]})

    async def delete(self, room_id: str, message_id: str) -> MessageDeletedEvent:
        """Deletes a message's content and leaves a tombstone, in order with the other messages, edits and deletions of
        the room. Returns the event. Raises ApiError: 403 for all but its sender and the room's admins, 404; Closed."""
        frame = {"type": "message.delete", "room_id": room_id, "message_id": message_id}
        async with self._out.room_locks.hold(room_id):
            return cast(MessageDeletedEvent, await self._out.request(frame))

    async def stream(
        self,
        room_id: str,
        chunks: AsyncIterable[str],
        *,
        meta: Json | None = None,
        reply_to: str | None = None,
        client_message_id: str | None = None,
        mentions: list[str] | None = None,
        mention_room: bool = False,
        thread_id: str | None = None,
    ) -> Message:
        """As `ChatAPI.stream`, over this connection: it goes on after each reconnect, however long that takes, and
        hears at once of a member who wants it to end. Raises Closed, too: then the stream is `cancelled`."""
        optional: Json = {"meta": meta, "reply_to": reply_to, "mentions": mentions, "mention_room": mention_room}
        fields = draft("", client_message_id=client_message_id, thread_id=thread_id, stream=True, **optional)

        async def open_stream() -> Json:
            return cast(Json, await self._send(room_id, fields))

        async def append(message_id: str, index: int, text: str) -> AppendAnswer:
            frame: Json = {"type": "message.append", "room_id": room_id, "message_id": message_id}
            return cast(AppendAnswer, await self._out.request({**frame, "index": index, "text": text}, attempts=None))

        async def finish(message_id: str, end: Json) -> Message:
            if self._state == "closed":
                return await self._client.finish_message(room_id, message_id, **end)
            frame = {"type": "message.finish", "room_id": room_id, "message_id": message_id, **end}
            return message_of(cast(Json, await self._out.request(frame, attempts=None)))

        writer = StreamWriter(StreamTransport(open_stream, append, finish), chunks, meta)
        try:
            return await writer.run(lambda: self._writers.update({writer.message_id: writer}))
        finally:
            self._writers.pop(writer.message_id, None)

    async def cancel(self, room_id: str, message_id: str) -> None:
        """Asks the sender of a stream to end it, who decides. For all who may post. Raises ApiError: 409 when it has
        ended, 403, 404; Closed."""
        await self._out.request({"type": "message.cancel", "room_id": room_id, "message_id": message_id})

    def follow(self, message: Message | MessageFields) -> GrowingMessage:
        """A message of an event, or one that was read, which grows from now on as long as it is being written:
        `async for text in connection.follow(event).text()` gives the whole text so far, each time. The connection has
        to be read meanwhile."""
        return self._growth.follow(message_of(message))

    async def react(self, room_id: str, message_id: str, emoji: str) -> ReactionAddedEvent:
        """Reacts to a message, in order with the messages, edits and deletions of the room. `emoji`: 1 to 64 bytes of
        UTF-8 without white space and control characters, kept byte for byte. Returns the event; it has no `seq` if the
        user had reacted so already. Raises ApiError: 409 for more than 20 emoji of the user, or 50 of all, on one
        message; 400, 403 for those who are not members, 404, also of a deleted message; Closed."""
        frame = {"type": "reaction.add", "room_id": room_id, "message_id": message_id, "emoji": emoji}
        async with self._out.room_locks.hold(room_id):
            return cast(ReactionAddedEvent, await self._out.request(frame))

    async def unreact(self, room_id: str, message_id: str, emoji: str) -> ReactionRemovedEvent:
        """Takes a reaction of the user back, in the same order. Returns the event; it has no `seq` if there was none.
        Raises ApiError: 400, 403, 404; Closed."""
        frame = {"type": "reaction.remove", "room_id": room_id, "message_id": message_id, "emoji": emoji}
        async with self._out.room_locks.hold(room_id):
            return cast(ReactionRemovedEvent, await self._out.request(frame))

    async def read(self, room_id: str, seq: int) -> ReadUpdatedEvent:
        """Marks the room as read up to `seq`, which acknowledges as far; a lower one than before changes nothing.
        Returns where the user now stands. Raises ApiError: 400 above the room's newest event, 403, 404; Closed."""
        return cast(ReadUpdatedEvent, await self._out.request({"type": "read", "room_id": room_id, "seq": seq}))

    async def ack(self, room_id: str, seq: int) -> AckReceivedEvent:
        """Acknowledges the room's events up to `seq`, for those who switched `auto_ack` off. Returns where the user now
        stands. Raises ApiError: 400 above the room's newest event, 403, 404; Closed."""
        return cast(AckReceivedEvent, await self._out.request({"type": "ack", "room_id": room_id, "seq": seq}))

    async def ack_notification(self, notification_id: str) -> None:
        """Acknowledges a notification, for those who switched `auto_ack_notifications` off. Returns at once; it is sent
        soon, and once more when the notification comes again."""
        self._feed.notifications.acknowledge(notification_id)
        self._feed.acks_due.set()

    async def typing(self, room_id: str, active: bool = True) -> None:
        """Tells the others that the user is typing; call it on every key. Lost when there is no socket."""
        if self._session is not None:
            await self._typist.tell(self._session.socket, room_id, active=active)

    async def subscribe(self, room_id: str) -> Subscribed:
        """Receives a channel's events without joining it, from now on and across reconnects. A channel that this
        connection, or its cursors, knows already is caught up first. Returns its `last_seq`. Raises ApiError: 403 when
        it is not a channel, 404; Closed."""
        self._feed.book.unwanted.discard(room_id)
        self._feed.book.wanted[room_id] = None
        try:
            return cast(Subscribed, await self._out.request({"type": "subscribe", "room_id": room_id}))
        except ApiError:
            self._feed.book.wanted.pop(room_id, None)
            raise

    async def unsubscribe(self, room_id: str) -> None:
        """Receives no more of this room on this connection. Raises ApiError: 404; Closed."""
        self._feed.book.wanted.pop(room_id, None)
        self._feed.book.unwanted.add(room_id)
        await self._out.request({"type": "unsubscribe", "room_id": room_id})

    async def ping(self) -> float:
        """Seconds to the server and back. Raises Closed."""
        started_at_s = now_s()
        await self._out.request({"type": "ping"})
        return now_s() - started_at_s

    async def _read_log(self, room_id: str, after_seq: int, limit: int) -> EventPage:
        return await self._client.list_events(room_id, after_seq=after_seq, limit=limit)

    # One socket after the other

    async def _run(self) -> None:
        # Not left to the cancellation alone: a task group that fails at the same moment swallows it.
        while not self._is_closed:
            await self._wait_until_wanted()
            if not self._is_paused and not self._is_closed:
                self._interrupted.clear()  # `resume` has cut the wait short
            self._set_state("connecting")
            started_at_s = now_s()
            await self._live_once()
            if self._is_paused:
                continue  # a resume waits for nothing
            delay_s = self._attempts.take_delay_s(now_s() - started_at_s)
            self._set_state("waiting")
            await is_set_within(self._interrupted, delay_s)

    async def _wait_until_wanted(self) -> None:
        inbox = self._feed.inbox
        while self._state != "closed" and (self._is_paused or (inbox.is_full and not self._out.pending)):
            self._set_state("paused" if self._is_paused else "waiting")
            await inbox.changed()

    async def _live_once(self) -> None:
        """One socket from its handshake to its end. Raises what makes another try pointless."""
        socket = None
        try:
            socket = await self._carrier.open()
            await self._serve(socket)
            if (refusal := socket.find_refusal()) is not None:
                raise refusal
        except (ApiError, NoAnswer) as error:
            self._attempts.fail(error)
        except SocketEnded as ended:
            self._attempts.fail(ended.error or NoAnswer("the connection ended before it was ready"))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._attempts.fail(NoAnswer(f"the handshake: {type(error).__name__}"))
        finally:
            if socket is not None:
                await socket.close()

    async def _serve(self, socket: Socket) -> None:
        assert socket.ready is not None  # `open_socket` has waited for it
        self._attempts.succeeded()
        session = SocketSession(
            socket,
            feed=self._feed,
            out=self._out,
            attempts=self._attempts,
            carrier=self._carrier,
            options=self._options,
            interrupted=self._interrupted,
        )
        try:
            async with asyncio.TaskGroup() as group:
                sync = self._feed.start(group, socket.ready)
                self._session, self._out.socket = session, socket
                self._set_state("syncing")
                session.start(group, sync)
                group.create_task(self._carrier.return_to_websocket())
                if self._opened is not None and not self._opened.done():
                    self._opened.set_result(None)
        except* SocketEnded as ended:
            forget_cancellation()
            self._note_end(ended)
        finally:
            self._session = self._out.socket = None
            self._typist.forget_all()
            self._feed.stop()

    def _run_while_open(self, work: Coroutine[Any, Any, None]) -> bool:
        if self._session is not None:
            self._feed.run(work)
        return self._session is not None

    def _notice(self, event: Event) -> None:
        """Every event on its way to the application."""
        if event["type"] == "message.cancel_requested" and event["message_id"] in self._writers:
            self._writers[event["message_id"]].cancel()
        self._growth.receive(event)

    def _silence(self, room_id: str) -> None:
        if self._session is not None:
            self._session.silence(room_id)

    def _note_end(self, ended: ExceptionGroup[SocketEnded]) -> None:
        for end in ended.exceptions:
            if isinstance(end, SocketEnded):
                if end.delay_s is not None:
                    self._attempts.next_delay_s = end.delay_s
                if end.error is not None:
                    self._attempts.note(end.error)

    def _set_state(self, state: State) -> None:
        if state != self._state and self._state != "closed":
            self._state = state
            self._feed.inbox.wake()
            if self._options.on_state is not None:
                try:
                    self._options.on_state(state)
                except Exception:
                    logger.exception("on_state failed")

    def _run_ended(self, runner: asyncio.Task[None]) -> None:
        self._finish(None if runner.cancelled() else runner.exception())

    def _finish(self, error: BaseException | None, *, discard: bool = False) -> None:
        self._set_state("closed")
        self._interrupted.set()
        self._feed.inbox.end(error, discard=discard)
        self._growth.end()
        self._out.end(error)
        for writer in self._writers.values():
            writer.cut_off()
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(error or Closed())
            self._opened.exception()  # seen; a task that waits for it gets it all the same
