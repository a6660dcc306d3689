"""From a socket's frames to the application's events: nothing twice, nothing out of order, nothing left out."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from chatapi.client.cursors import CursorBook, RoomCursor
from chatapi.client.errors import ApiError, NoAnswer, NotChatAPI
from chatapi.client.events import Event, EventPage, LogEvent, ReadyEvent
from chatapi.client.frames import is_log_event, is_page_of, is_repetition
from chatapi.client.inbox import Entry, Inbox
from chatapi.client.notification_book import NotificationBook
from chatapi.client.records import Cursors
from chatapi.client.socket import SocketEnded
from chatapi.protocol.json import dumps

logger: logging.Logger = logging.getLogger(__name__)

ACKED_ROOMS = 1000  # the most that one `ack` may name
PAGE_EVENTS = 100  # the most that the server gives at once
ANSWERS = frozenset(
    {"message.sent", "message.appended", "unsubscribed", "pong", "ready", "ready.rooms"}
)  # of no use to the application
GONE = frozenset({403, 404})

ReadLog = Callable[[str, int, int], Awaitable[EventPage]]
"""Of a room's log the events after a `seq`, at most so many. Raises ApiError, NoAnswer."""


@dataclass(frozen=True)
class FeedCallbacks:
    """Whom a feed tells what concerns the connection."""

    went_live: Callable[[], None]  # all that was missed has been handed over
    has_trouble: Callable[[Exception], None]  # a room's log cannot be read now; it is asked for again
    find_delay_s: Callable[[int, ApiError | NoAnswer], float]  # how long to wait after so many failures, and this one
    hears_unwanted: Callable[[str], None]  # the server does not know yet that this room is not wanted
    notices: Callable[[Event], None]  # an event that is about to be handed over
    loses_room: Callable[[str], None]  # nothing more will come of it


class Feed:
    def __init__(self, read_log: ReadLog, cursors: Cursors | None, max_pending: int, callbacks: FeedCallbacks) -> None:
        self._read_log = read_log
        self._callbacks = callbacks
        self.book: CursorBook = CursorBook(cursors)
        self.notifications: NotificationBook = NotificationBook()
        self.inbox: Inbox = Inbox(max_pending)
        self.acks_due: asyncio.Event = asyncio.Event()
        self.ready: ReadyEvent | None = None  # of the newest socket
        self._in_hand: Entry | None = None  # the event that the application is handling

        # Of the present socket
        self._group: asyncio.TaskGroup | None = None
        self._fills = 0  # rooms whose gap is being read
        self._complete: Event | None = None  # a sync.complete that waits for the gaps
        self._is_returning = False  # a notification was let go: a new socket brings it again

    # The application's side

    async def next(self) -> Event:
        """Raises Ended."""
        self.finish()
        self._in_hand = await self.inbox.get()
        return self._in_hand.event

    def finish(self) -> None:
        """The application is done with the event that it was given last."""
        entry, self._in_hand = self._in_hand, None
        if entry is None:
            return
        event = entry.event
        if entry.room is not None:
            logged = cast(LogEvent, event)
            self.book.handle(logged["room_id"], entry.room, logged["seq"])
        elif event["type"] == "notification":
            self.notifications.handle(event["notification_id"])
        self.acks_due.set()

    def forget(self) -> None:
        """The application failed at the event that it was given last."""
        self._in_hand = None

    def take_acks(self, *, rooms: bool, notifications: bool) -> Iterator[dict[str, Any]]:
        """Frames for what was handled, taken as they are sent."""
        for acked in self._take_batches() if rooms else ():
            if len(acked) == 1:
                [(room_id, seq)] = acked
                yield {"type": "ack", "room_id": room_id, "seq": seq}
            else:
                yield {"type": "ack", "rooms": dict(acked)}
        for notification_id in self.notifications.take_acks(handled=notifications):
            yield {"type": "notification.ack", "notification_id": notification_id}

    def repeat_acks(self) -> None:
        """The server has refused acks of this socket for now."""
        self.book.repeat_acks()
        self.acks_due.set()

    def _take_batches(self) -> Iterator[list[tuple[str, int]]]:
        acks = self.book.take_acks()
        while batch := list(islice(acks, ACKED_ROOMS)):
            yield batch

    # The socket's side

    def start(self, group: asyncio.TaskGroup, ready: ReadyEvent) -> dict[str, Any]:
        """A new socket, whose tasks live in `group`. Returns the `sync` that says where this connection stopped."""
        self._group = group
        self.ready = ready
        sync = {"type": "sync", "rooms": self.book.take_ready(ready["epoch"], ready["rooms"])}
        if self.book.epoch is None:
            self.book.epoch = ready["epoch"]
        else:
            sync["epoch"] = self.book.epoch
        self._put(ready)
        self.acks_due.set()
        return sync

    def stop(self) -> None:
        """The socket is gone, and so are the tasks of its group."""
        self._group = None
        self._fills = 0
        self._complete = None
        self._is_returning = False
        self.book.interrupt()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """As long as the present socket lives."""
        assert self._group is not None  # there is one
        self._group.create_task(work)

    def lose_room(self, room_id: str) -> None:
        """The server says that the user may not read it any more."""
        logger.warning("a room's log can no longer be read", extra={"room_id": room_id})
        self.book.wanted.pop(room_id, None)
        self.book.drop(room_id)
        self._callbacks.loses_room(room_id)

    def receive(self, frame: dict[str, Any], size_bytes: int) -> None:
        frame_type = frame["type"]
        if is_log_event(frame):
            self._receive_logged(frame, size_bytes)
        elif frame_type == "notification":
            self._receive_notification(frame, size_bytes)
        elif frame_type == "ack.received":
            self.book.note_acked(frame["room_id"], frame["seq"])
            self._receive_news(frame_type, frame, size_bytes)
        elif frame_type == "subscribed":
            self._fill_if_behind(frame["room_id"], self.book.note_last(frame["room_id"], frame["last_seq"]))
        elif frame_type == "sync.gap":
            room = self.book.get(frame["room_id"])
            room.skip_to(frame["to_seq"])
            self._fill_if_behind(frame["room_id"], room)
        elif frame_type == "sync.complete":
            self._receive_complete(cast(Event, frame), frame["rooms"])
        elif frame_type not in ANSWERS and not is_repetition(frame):
            self._receive_news(frame_type, frame, size_bytes)

    def _receive_news(self, frame_type: str, frame: dict[str, Any], size_bytes: int) -> None:
        """Hands over an event that belongs to no room's log."""
        if frame_type == "sync.reset":
            self.book.reset(frame["epoch"], frame["rooms"])
        elif frame_type == "room.created":
            self.book.join(frame["room_id"], frame["last_seq"])
        elif frame_type == "room.deleted":
            self.book.wanted.pop(frame["room_id"], None)
            self.book.drop(frame["room_id"])
        elif frame_type == "typing" and frame.get("room_id") in self.book.unwanted:
            self._callbacks.hears_unwanted(frame["room_id"])
            return
        elif frame_type != "server.shutdown" and self.inbox.is_full:
            return  # presence, typing, receipts: they may be dropped when the application is slow
        self._put(cast(Event, frame), size_bytes=size_bytes)

    def _receive_notification(self, frame: dict[str, Any], size_bytes: int) -> None:
        if self.inbox.is_full:
            if not self._is_returning and self._group is not None:
                self._is_returning = True
                self._group.create_task(self._return_when_drained())
        elif self.notifications.take(frame["notification_id"]):
            self._put(cast(Event, frame), size_bytes=size_bytes)
        else:
            self.acks_due.set()

    async def _return_when_drained(self) -> None:
        while not self.inbox.free_items:
            await self.inbox.changed()
        raise SocketEnded(delay_s=0.0)

    def _receive_logged(self, event: LogEvent, size_bytes: int) -> None:
        room_id = event["room_id"]
        if room_id in self.book.unwanted:
            self._callbacks.hears_unwanted(room_id)
            return
        room = self.book.get(room_id)
        if self.inbox.is_full and not room.is_behind and event["seq"] > (room.received or 0):
            room.skip_to(event["seq"])  # it is read from the log when there is space
        elif room.take(event):
            self._put_logged(event, room, size_bytes)
        self._fill_if_behind(room_id, room)

    def _put_logged(self, event: LogEvent, room: RoomCursor, size_bytes: int) -> None:
        self._put(event, room, size_bytes)
        is_removal = event["type"] == "member.left" or event["type"] == "member.banned"
        if is_removal and self.ready is not None and event.get("user_id") == self.ready["user_id"]:
            self.book.leave(event["room_id"], room, event["seq"])
            self._callbacks.loses_room(event["room_id"])

    def _put(self, event: Event, room: RoomCursor | None = None, size_bytes: int = 0) -> None:
        self._callbacks.notices(event)
        self.inbox.put(Entry(event, room, size_bytes))

    # Gaps

    def _fill_if_behind(self, room_id: str, room: RoomCursor) -> None:
        if room.is_behind and not room.is_filling and self._group is not None:
            room.is_filling = True
            self._fills += 1
            self._group.create_task(self._fill(room_id, room))

    async def _fill(self, room_id: str, room: RoomCursor) -> None:
        """Hands over what is missing, read from the log, and then what came meanwhile."""
        try:
            while room.is_behind and self.book.is_current(room_id, room):
                if room.has_gap:
                    await self._fill_page(room_id, room)
                    continue
                await self._wait_for_space()
                if room.held and not room.has_gap:
                    self._put_logged(room.take_held(), room, 0)
        finally:
            room.is_filling = False
        self._fills -= 1
        self._complete_sync()

    async def _fill_page(self, room_id: str, room: RoomCursor) -> None:
        page = await self._read_page(room_id, room)
        if not self.book.is_current(room_id, room):
            return
        if page is None:
            self.lose_room(room_id)
            return
        size_bytes = len(dumps(page["events"])) // max(1, len(page["events"]))
        for event in room.take_page(page["events"], has_more=page["has_more"]):
            self._put_logged(event, room, size_bytes)

    async def _read_page(self, room_id: str, room: RoomCursor) -> EventPage | None:
        """Asked for until the server has answered. None when it says that the user may not read this room any more.
        The other rooms go on meanwhile. Raises SocketEnded where a new `sync` may do better."""
        attempt = 0
        while True:
            while not (free_items := self.inbox.free_items):
                await self.inbox.changed()
            after_seq, member_at = room.received or 0, room.member_at
            try:
                page = await self._read_log(room_id, after_seq, min(free_items, PAGE_EVENTS))
                if is_page_of(room_id, after_seq, cast(dict[str, Any], page)):
                    return page
                trouble: ApiError | NoAnswer = NotChatAPI("a page of other events than those asked for")
            except NoAnswer as error:
                trouble = error
            except ApiError as error:
                if error.status in GONE and room.member_at == member_at:  # and not back again meanwhile
                    return None
                if error.status < 500 and error.status not in {*GONE, 429}:
                    raise SocketEnded(error=error) from error
                trouble = error
            self._callbacks.has_trouble(trouble)
            await asyncio.sleep(self._callbacks.find_delay_s(attempt, trouble))
            attempt += 1

    async def _wait_for_space(self) -> None:
        while self.inbox.is_full:
            await self.inbox.changed()

    def _receive_complete(self, event: Event, last_seqs: dict[str, int]) -> None:
        for room_id, last_seq in last_seqs.items():
            if room_id not in self.book.unwanted and room_id in self.book.rooms:
                self._fill_if_behind(room_id, self.book.note_last(room_id, last_seq))
        self._complete = event
        self._complete_sync()

    def _complete_sync(self) -> None:
        """The application hears that it is up to date once the last gap is filled."""
        if self._complete is None or self._fills > 0:
            return
        event, self._complete = self._complete, None
        if self.ready is not None:
            self.book.epoch = self.ready["epoch"]
        self._callbacks.went_live()
        self._put(event)
