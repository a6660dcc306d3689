"""How far each member has got and read: monotonic, written in bulk, and told to those concerned.

An acknowledgement is confirmed once it is committed. They come often and one transaction holds many, so they wait
`FLUSH_SECONDS` for each other; others than the user itself hear of the latest only, a few times a second.
"""

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple

from chatapi.access import Access
from chatapi.errors import ChatError, forbidden, invalid
from chatapi.hub import Connection, Hub
from chatapi.models import Principal, RoomKey, UserId
from chatapi.protocol.replies import encode_error_frame, encode_receipt
from chatapi.rooms import RoomState
from chatapi.store import Change, Store, Transaction
from chatapi.store import rooms as store_rooms

FLUSH_SECONDS = 0.02
TELL_SECONDS = 0.2  # others hear at most 5 times a second (CONTRACT section 6)
MAX_TOLD_MEMBERS = 100  # in larger rooms others hear nothing: every read would go to everybody
MAX_PER_FLUSH = 2_000  # cursors in one statement

ACK = "ack.received"
READ = "read.updated"


class Answer(NamedTuple):
    """Whom to answer on a WebSocket."""

    connection: Connection
    request_id: str | None


@dataclass(slots=True)
class _Batch:
    """What waits for the same transaction. `cursors` holds the greatest seq of each kind."""

    future: asyncio.Future[None]
    cursors: dict[tuple[RoomState, UserId, str], int] = field(default_factory=dict)
    answers: dict[tuple[RoomState, UserId, str], list[Answer]] = field(default_factory=dict)


class Receipts:
    def __init__(self, store: Store, hub: Hub, access: Access) -> None:
        self._store = store
        self._hub = hub
        self._access = access
        self._batch: _Batch | None = None
        self._untold: dict[tuple[RoomState, UserId, str], int] = {}

    async def acknowledge(
        self, principal: Principal, room_id: str, seq: int, kind: str, answer: Answer | None = None
    ) -> "asyncio.Future[None]":
        """Notes that the user has got (`ACK`) or read (`READ`) everything up to `seq`.

        The future ends when that is committed; `answer` is sent then. Raises ChatError.
        """
        room = await self._access.access_member(principal, room_id)
        if seq > room.published_seq:
            raise invalid(f"Above the room's last_seq {room.published_seq}", "seq")
        if self._batch is None:
            self._batch = _Batch(asyncio.get_running_loop().create_future())
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)
        batch = self._batch
        key = (room, principal.user_id, kind)
        batch.cursors[key] = max(seq, batch.cursors.get(key, 0))
        if answer is not None:
            batch.answers.setdefault(key, []).append(answer)
        if len(batch.cursors) >= MAX_PER_FLUSH:
            self._flush()
        return batch.future

    async def acknowledge_and_wait(self, principal: Principal, room_id: str, seq: int, kind: str) -> int:
        """Where the user then stands; committed."""
        future = await self.acknowledge(principal, room_id, seq, kind)
        await asyncio.shield(future)  # others wait for it too
        room = await self._access.access_member(principal, room_id)
        member = room.members[principal.user_id]
        return member.last_ack if kind == ACK else member.last_read

    def _flush(self) -> None:
        batch, self._batch = self._batch, None
        if batch is None:  # it was full before its time
            return

        async def apply(transaction: Transaction) -> None:
            rows: list[tuple[RoomKey, UserId, int, int]] = []
            for (room, user_id, kind), seq in batch.cursors.items():
                rows.append((room.room_key, user_id, seq, seq if kind == READ else 0))
            await store_rooms.update_cursors(transaction, rows)

        change = Change(apply, lambda _: self._publish(batch), False, batch.future)
        batch.future.add_done_callback(lambda future: self._report_failure(batch, future))
        try:
            self._store.writer.submit(change)
        except ChatError as error:
            batch.future.set_exception(error)

    def _publish(self, batch: _Batch) -> None:
        for (room, user_id, kind), seq in batch.cursors.items():
            answers = batch.answers.get((room, user_id, kind), [])
            member = room.members.get(user_id)
            if member is None:  # it has left the room meanwhile
                self._refuse(answers, forbidden("Not a member of this room"))
                continue
            before = member.last_ack if kind == ACK else member.last_read
            member.last_ack = max(member.last_ack, seq)
            if kind == READ:
                member.last_read = max(member.last_read, seq)
            standing = max(before, seq)
            for answer in answers:
                frame = encode_receipt(kind, room.room_id, user_id, standing, answer.request_id)
                self._hub.send(answer.connection, frame)
            if standing > before:
                self._tell_own(room, user_id, kind, standing, {answer.connection for answer in answers})
                self._tell_others_later(room, user_id, kind, standing)

    def _tell_own(self, room: RoomState, user_id: UserId, kind: str, seq: int, answered: set[Connection]) -> None:
        frame = encode_receipt(kind, room.room_id, user_id, seq)
        for connection in self._hub.connections_of(room.tenant.tenant_key, user_id):
            if connection not in answered:
                self._hub.send_within_bound(connection, frame)

    def _tell_others_later(self, room: RoomState, user_id: UserId, kind: str, seq: int) -> None:
        if len(room.members) > MAX_TOLD_MEMBERS:
            return
        if not self._untold:
            asyncio.get_running_loop().call_later(TELL_SECONDS, self._tell_others)
        self._untold[room, user_id, kind] = seq

    def _tell_others(self) -> None:
        untold, self._untold = self._untold, {}
        for (room, user_id, kind), seq in untold.items():
            frame = encode_receipt(kind, room.room_id, user_id, seq)
            for connection in room.subscribers:
                if connection.user_id != user_id and connection.user_id in room.members:
                    self._hub.send_within_bound(connection, frame)

    def _report_failure(self, batch: _Batch, future: "asyncio.Future[None]") -> None:
        error = None if future.cancelled() else future.exception()
        if isinstance(error, ChatError):
            for answers in batch.answers.values():
                self._refuse(answers, error)

    def _refuse(self, answers: list[Answer], error: ChatError) -> None:
        for connection, request_id in answers:
            self._hub.send(connection, encode_error_frame(error, request_id))
