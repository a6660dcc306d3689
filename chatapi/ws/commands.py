"""Carries out a client's frames: one method for each, and the table of them at the end."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from msgspec import UNSET

from chatapi.access import check_may_type
from chatapi.committer import get_outcome
from chatapi.connection import Connection, Requester
from chatapi.errors import ChatError
from chatapi.models import make_actor
from chatapi.open_streams import AppendResult
from chatapi.protocol import frames
from chatapi.protocol.encoders import encode_error_frame, encode_frame, message_sent_frame
from chatapi.protocol.fields import or_unset
from chatapi.protocol.frames import ClientFrame
from chatapi.protocol.requests import Body
from chatapi.protocol.server_frames import (
    MessageAppendedFrame,
    PongFrame,
    ServerFrame,
    SubscribedFrame,
    UnsubscribedFrame,
)
from chatapi.receipts import ACK, READ
from chatapi.room import RoomState
from chatapi.services import Services
from chatapi.store import MessageWrite

MAX_IN_FLIGHT = 256  # messages, appends, and rooms acknowledged together, of one connection that wait for their commit:
# at so many it is not read from, since their answers are in no buffer yet


class Commands:
    __slots__ = ("_address", "_connection", "_drained", "_in_flight", "_services")

    def __init__(self, services: Services, connection: Connection, address: str) -> None:
        self._address = address
        self._services = services
        self._connection = connection
        self._in_flight = 0
        self._drained: asyncio.Future[None] | None = None

    def run(self, frame: ClientFrame) -> Awaitable[None]:
        """Carries out one frame. Raises ChatError; then it had no effect."""
        return _COMMANDS[type(frame.body)](self, frame.body, frame.request_id)

    def has_space(self) -> bool:
        """Whether nothing of this connection waits that `wait_for_space` would have to look at."""
        connection = self._connection
        return self._in_flight < MAX_IN_FLIGHT and not connection.buffered_bytes and not connection.undroppable

    async def wait_for_space(self) -> None:
        """Returns once the connection may be read from again: its own sends in flight and its unread answers are
        bounded."""
        while self._in_flight >= MAX_IN_FLIGHT:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained
        connection = self._connection
        if connection.undroppable:  # no recovery runs for one that has not asked for its backlog
            self._services.hub.flush_undroppable(connection)
        if connection.buffered_bytes and connection.unsent_bytes() > connection.buffer_limit_bytes // 2:
            await self._services.recovery.let_drain(connection)

    def _answer(self, frame: ServerFrame) -> None:
        self._services.hub.send(self._connection, encode_frame(frame))

    async def _access_member(self, room_id: str) -> RoomState:
        return await self._services.access.access_member(self._connection.principal, room_id)

    async def _send_message(self, body: frames.SendMessage, request_id: str | None) -> None:
        def confirm(write: MessageWrite) -> None:
            self._note_done(1)
            try:
                message, _is_new = get_outcome(write)
            except ChatError as error:
                self._services.hub.send(self._connection, encode_error_frame(error, request_id))
            else:
                self._answer(message_sent_frame(message, request_id))

        await self._services.chat.send_message(self._connection.principal, body.room_id, body, confirm)
        self._in_flight += 1

    def _note_done(self, count: int) -> None:
        self._in_flight -= count
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    async def _acknowledge(self, body: frames.Ack, request_id: str | None) -> None:
        receipts, connection = self._services.receipts, self._connection
        requester = Requester(connection, request_id)
        if body.rooms is UNSET:
            await receipts.acknowledge(connection.principal, *body.room_and_seq, ACK, requester)
            return
        requester = requester._replace(is_one_of_many=True)
        rooms, errors, futures = await receipts.acknowledge_rooms(connection.principal, body.rooms, requester)
        if errors:
            refusals = [encode_error_frame(error, request_id) for error in errors.values()]
            self._services.hub.send(connection, b"".join(refusals))
        if futures:
            self._in_flight += len(rooms)
            futures[-1].add_done_callback(lambda _: self._note_done(len(rooms)))

    async def _subscribe(self, body: frames.SubscribeRoom, request_id: str | None) -> None:
        room = await self._services.access.access_reader(self._connection.principal, body.room_id)
        self._services.hub.enter(self._connection, room, room.published_seq)
        last_seq = room.published_seq
        self._answer(SubscribedFrame(room_id=room.room_id, last_seq=last_seq, request_id=or_unset(request_id)))

    async def _unsubscribe(self, body: frames.UnsubscribeRoom, request_id: str | None) -> None:
        room = await self._services.access.access_reader(self._connection.principal, body.room_id)
        self._connection.unsubscribe(room)
        self._answer(UnsubscribedFrame(room_id=room.room_id, request_id=or_unset(request_id)))

    async def _edit_message(self, body: frames.EditMessage, request_id: str | None) -> None:
        requester = Requester(self._connection, request_id)
        await self._services.chat.edit_message(
            self._connection.principal, body.room_id, body.message_id, body, requester
        )

    async def _delete_message(self, body: frames.DeleteMessage, request_id: str | None) -> None:
        requester = Requester(self._connection, request_id)
        principal = self._connection.principal
        actor = make_actor(principal, self._address)
        await self._services.chat.delete_message(principal, actor, body.room_id, body.message_id, requester)

    async def _append_to_message(self, body: frames.AppendToMessage, request_id: str | None) -> None:
        message_id = body.message_id  # while it waits, its text is held by the stream alone

        def confirm(outcome: AppendResult | ChatError) -> None:
            self._note_done(1)
            if isinstance(outcome, ChatError):
                self._services.hub.send(self._connection, encode_error_frame(outcome, request_id))
            else:
                self._answer(
                    MessageAppendedFrame(
                        message_id=message_id,
                        index=outcome.index,
                        cancel_requested=True if outcome.cancel_requested else UNSET,
                        request_id=or_unset(request_id),
                    )
                )

        appends, principal = self._services.appends, self._connection.principal
        await appends.submit(principal, body.room_id, message_id, body.index, body.text, confirm)
        self._in_flight += 1

    async def _finish_message(self, body: frames.FinishMessage, request_id: str | None) -> None:
        requester = Requester(self._connection, request_id)
        await self._services.streams.finish(self._connection.principal, body.room_id, body.message_id, body, requester)

    async def _cancel_message(self, body: frames.CancelMessage, request_id: str | None) -> None:
        requester = Requester(self._connection, request_id)
        await self._services.streams.cancel(self._connection.principal, body.room_id, body.message_id, requester)

    async def _add_reaction(self, body: frames.AddReaction, request_id: str | None) -> None:
        requester = Requester(self._connection, request_id)
        await self._services.reactions.add(
            self._connection.principal, body.room_id, body.message_id, body.emoji, requester
        )

    async def _remove_reaction(self, body: frames.RemoveReaction, request_id: str | None) -> None:
        requester = Requester(self._connection, request_id)
        await self._services.reactions.remove(
            self._connection.principal, body.room_id, body.message_id, body.emoji, requester
        )

    async def _read(self, body: frames.Read, request_id: str | None) -> None:
        requester = Requester(self._connection, request_id)
        await self._services.receipts.acknowledge(self._connection.principal, body.room_id, body.seq, READ, requester)

    async def _start_typing(self, body: frames.TypingStart, _request_id: str | None) -> None:
        room = await self._access_member(body.room_id)
        check_may_type(room, self._connection.user_id)
        self._services.presence.start_typing(self._connection, room)

    async def _stop_typing(self, body: frames.TypingStop, _request_id: str | None) -> None:
        room = await self._access_member(body.room_id)
        self._services.presence.stop_typing(room, self._connection.user_id)

    async def _sync(self, body: frames.Sync, request_id: str | None) -> None:
        await self._services.recovery.sync(self._connection, body.cursors, body.epoch, request_id)

    async def _acknowledge_notification(self, body: frames.AckNotification, _request_id: str | None) -> None:
        await self._services.notifications.acknowledge(self._connection.principal, body.notification_id)

    async def _ping(self, _body: frames.Ping, request_id: str | None) -> None:
        self._answer(PongFrame(request_id=or_unset(request_id)))


BodyT = TypeVar("BodyT", bound=Body)
Command = Callable[[Commands, Any, str | None], Awaitable[None]]


def _on(
    record: type[BodyT], command: Callable[[Commands, BodyT, str | None], Awaitable[None]]
) -> tuple[type[Body], Command]:
    """mypy refuses a command that takes another record."""
    return record, command


_COMMANDS: Mapping[type[Body], Command] = dict(
    (
        _on(frames.SendMessage, Commands._send_message),
        _on(frames.EditMessage, Commands._edit_message),
        _on(frames.DeleteMessage, Commands._delete_message),
        _on(frames.AppendToMessage, Commands._append_to_message),
        _on(frames.FinishMessage, Commands._finish_message),
        _on(frames.CancelMessage, Commands._cancel_message),
        _on(frames.AddReaction, Commands._add_reaction),
        _on(frames.RemoveReaction, Commands._remove_reaction),
        _on(frames.Ack, Commands._acknowledge),
        _on(frames.Read, Commands._read),
        _on(frames.TypingStart, Commands._start_typing),
        _on(frames.TypingStop, Commands._stop_typing),
        _on(frames.SubscribeRoom, Commands._subscribe),
        _on(frames.UnsubscribeRoom, Commands._unsubscribe),
        _on(frames.Sync, Commands._sync),
        _on(frames.AckNotification, Commands._acknowledge_notification),
        _on(frames.Ping, Commands._ping),
    )
)


def check_commands(records: Iterable[type[Body]]) -> None:
    """Raises TypeError for a client frame that has no command, and for a command of no client frame."""
    unpaired = sorted(record.__name__ for record in set(records) ^ set(_COMMANDS))
    if unpaired:
        raise TypeError(f"CLIENT_FRAMES and the table of commands differ in {', '.join(unpaired)}")


check_commands(frames.CLIENT_FRAMES.values())  # else the server does not start
