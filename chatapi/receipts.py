"""Stores how far each member has acknowledged and read, in bulk, and tells the user's other connections and the
members.

An acknowledgement is confirmed once it is committed. They come often and one transaction holds many, so they wait
`FLUSH_SECONDS` for each other; other users hear of the latest one only, a few times a second.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chatapi.access import Access, check_alive, check_member
from chatapi.clock import Clock
from chatapi.connection import Connection, FrameKey, Requester
from chatapi.errors import ChatError, invalid
from chatapi.hub import Hub
from chatapi.models import MemberState, Principal, RoomKey, UserId
from chatapi.protocol.encoders import encode_error_frame, encode_frame
from chatapi.protocol.fields import or_unset
from chatapi.protocol.requests import parse_seq
from chatapi.protocol.server_frames import AckReceivedFrame, ReadUpdatedFrame, ReceiptFrame
from chatapi.room import RoomState
from chatapi.store import Change, Store, Transaction
from chatapi.store import rooms as store_rooms

FLUSH_SECONDS = 0.02
TELL_SECONDS = 0.2  # others hear at most 5 times a second (docs/contract.md, section 9)
MAX_TOLD_MEMBERS = 100  # in larger rooms others hear nothing: every read would go to everybody
TOLD_AT_A_STRETCH = 1_000  # frames: about 2 ms of the loop's time
STRETCH_SECONDS = 0.01  # between two stretches, for everything else
MAX_PER_FLUSH = 1_000  # cursors in one statement

ReceiptKind = type[ReceiptFrame]
ACK: ReceiptKind = AckReceivedFrame
READ: ReceiptKind = ReadUpdatedFrame


CursorKey = tuple[RoomState, UserId, ReceiptKind]
"""The room, the user, and which of their cursors moves: `ACK` or `READ`."""
Refusals = Mapping[CursorKey, ChatError]
"""Why cursors of a batch may not move any more, which the write found in its own turn."""


@dataclass(slots=True)
class _Batch:
    """Cursors that wait for the same transaction. `cursors` holds the greatest seq of each."""

    future: asyncio.Future[Refusals]
    cursors: dict[CursorKey, int] = field(default_factory=dict)
    requesters: dict[CursorKey, list[Requester]] = field(default_factory=dict)


class Receipts:
    """How far the members have got. In a room of more than `MAX_TOLD_MEMBERS` only the user's own connections hear of
    it."""

    def __init__(self, store: Store, hub: Hub, access: Access, clock: Clock) -> None:
        self._store = store
        self._hub = hub
        self._access = access
        self._clock = clock
        self._batch: _Batch | None = None
        self._untold: dict[CursorKey, None] = {}  # moves that the other members will hear of next
        self._telling: dict[CursorKey, None] = {}  # moves that they are hearing of now

    async def acknowledge(
        self, principal: Principal, room_id: str, seq: int, kind: ReceiptKind, requester: Requester | None = None
    ) -> asyncio.Future[Refusals]:
        """Notes that the user has got (`ACK`) or read (`READ`) everything up to `seq`.

        The future ends when that is committed; the requester gets its answer then. Raises ChatError.
        """
        room = await self._access.access_member(principal, room_id)
        _check_exists(room, seq, "seq")
        return self._note(room, principal.user_id, seq, kind, requester)

    async def acknowledge_and_wait(self, principal: Principal, room_id: str, seq: int, kind: ReceiptKind) -> int:
        """How far the user then has got; committed."""
        future = await self.acknowledge(principal, room_id, seq, kind)
        refused = await asyncio.shield(future)  # others wait for it too
        room = await self._access.access_member(principal, room_id)
        if (error := refused.get((room, principal.user_id, kind))) is not None:
            raise error
        return _standing(room.members[principal.user_id], kind)

    async def acknowledge_rooms(
        self, principal: Principal, seqs: Mapping[str, object], requester: Requester | None = None
    ) -> tuple[dict[str, RoomState], dict[str, ChatError], list[asyncio.Future[Refusals]]]:
        """As `acknowledge` with `ACK`, for many rooms, each judged on its own. Returns the rooms whose ack was noted,
        the errors of the others, and the futures of the noted ones, in the order in which they end.

        The requester gets an answer for each room whose ack was noted. The caller has to send it the errors.
        """
        rooms, refused = await self._access.access_members(principal, seqs)
        errors = {room_id: error.at(f"rooms.{room_id}") for room_id, error in refused.items()}
        noted: dict[str, RoomState] = {}
        futures: dict[asyncio.Future[Refusals], None] = {}
        for room_id, room in rooms.items():
            try:
                seq = parse_seq(seqs[room_id], f"rooms.{room_id}")
                _check_exists(room, seq, f"rooms.{room_id}")
            except ChatError as error:
                errors[room_id] = error
            else:
                futures[self._note(room, principal.user_id, seq, ACK, requester)] = None
                noted[room_id] = room
        return noted, errors, list(futures)

    async def acknowledge_rooms_and_wait(
        self, principal: Principal, seqs: Mapping[str, object]
    ) -> tuple[dict[str, int], dict[str, ChatError]]:
        """How far the user then has got in each room, committed, and the errors of the others. Raises ChatError if the
        tenant is held for a move: then it is the error of all of them."""
        if principal.tenant.hold is not None:
            raise principal.tenant.hold
        rooms, errors, futures = await self.acknowledge_rooms(principal, seqs)
        refused: dict[CursorKey, ChatError] = {}
        for future in futures:
            refused.update(await asyncio.shield(future))
        standings: dict[str, int] = {}
        for room_id, room in rooms.items():
            try:
                if (error := refused.get((room, principal.user_id, ACK))) is not None:
                    raise error
                check_alive(room)
                check_member(room, principal.user_id)
            except ChatError as error:  # the user left the room meanwhile, or it was deleted
                errors[room_id] = error.at(f"rooms.{room_id}")
            else:
                standings[room_id] = _standing(room.members[principal.user_id], ACK)
        return standings, errors

    def _note(
        self, room: RoomState, user_id: UserId, seq: int, kind: ReceiptKind, requester: Requester | None
    ) -> asyncio.Future[Refusals]:
        if self._batch is None:
            self._batch = _Batch(asyncio.get_running_loop().create_future())
            self._clock.call_later(FLUSH_SECONDS, self._flush)
        batch = self._batch
        key = (room, user_id, kind)
        batch.cursors[key] = max(seq, batch.cursors.get(key, 0))
        if requester is not None:
            batch.requesters.setdefault(key, []).append(requester)
        if len(batch.cursors) >= MAX_PER_FLUSH:
            self._flush()
        return batch.future

    def _flush(self) -> None:
        batch, self._batch = self._batch, None
        if batch is None:  # it was full before its time
            return

        async def apply(transaction: Transaction) -> Refusals:
            refused: dict[CursorKey, ChatError] = {}
            rows: list[tuple[RoomKey, UserId, int, int]] = []
            for key, seq in batch.cursors.items():
                room, user_id, kind = key
                try:
                    check_alive(room)
                    check_member(room, user_id)
                except ChatError as error:  # the user has left the room meanwhile or is banned, or it was deleted
                    refused[key] = error
                else:
                    rows.append((room.room_key, user_id, seq, seq if kind == READ else 0))
            await store_rooms.update_cursors(transaction, rows)
            return refused

        change = Change(apply, lambda refused: self._publish(batch, refused), False, batch.future)
        batch.future.add_done_callback(lambda future: self._report_failure(batch, future))
        try:
            self._store.writer.submit(change)
        except ChatError as error:
            batch.future.set_exception(error)

    def _publish(self, batch: _Batch, refused: Refusals) -> None:
        # All answers to one connection go out as one: an ack of many rooms has many answers.
        answers: dict[Connection, list[bytes]] = {}
        news: dict[Connection, dict[FrameKey, bytes]] = {}
        for key, seq in batch.cursors.items():
            room, user_id, kind = key
            requesters = batch.requesters.get(key, ())
            error = refused.get(key)
            if error is not None:
                self._refuse(requesters, room, error)
                continue
            is_new = _move(room.members[user_id], seq, kind)
            standing = _standing(room.members[user_id], kind)
            for requester in requesters:
                frame = _encode_receipt(kind, room, user_id, standing, requester.request_id)
                answers.setdefault(requester.connection, []).append(frame)
            if is_new:
                frame = _encode_receipt(kind, room, user_id, standing)
                answered = {requester.connection for requester in requesters}
                for connection in self._hub.connections_of(room.tenant.tenant_key, user_id):
                    if connection not in answered:
                        news.setdefault(connection, {})[room, kind] = frame
                self._tell_others_later(key)
        for connection, frames in answers.items():
            self._hub.send(connection, b"".join(frames))
        for connection, told in news.items():
            self._hub.send_undroppable(connection, told)

    def _tell_others_later(self, key: CursorKey) -> None:
        if len(key[0].members) > MAX_TOLD_MEMBERS:
            return
        if not self._untold and not self._telling:
            self._clock.call_later(TELL_SECONDS, self._tell_others)
        self._untold[key] = None

    def _tell_others(self) -> None:
        """Tells the members bit by bit: an ack of 1,000 rooms of 100 members each concerns 100,000."""
        if not self._telling:
            self._telling, self._untold = self._untold, {}
        told = 0
        while self._telling and told < TOLD_AT_A_STRETCH:
            key = next(iter(self._telling))
            del self._telling[key]
            told += 1 + self._tell_members(*key)
        if self._telling:
            self._clock.call_later(STRETCH_SECONDS, self._tell_others)
        elif self._untold:
            self._clock.call_later(TELL_SECONDS, self._tell_others)

    def _tell_members(self, room: RoomState, user_id: UserId, kind: ReceiptKind) -> int:
        """Tells the other members who listen how far the user has got. Returns how many frames that took."""
        member = room.members.get(user_id)
        if member is None or len(room.members) > MAX_TOLD_MEMBERS:
            return 0
        frame = _encode_receipt(kind, room, user_id, _standing(member, kind))
        told = 0
        # Goes through the members, who are few: a channel may have any number of other listeners.
        for other_id in room.members:
            if other_id != user_id:
                for connection in self._hub.connections_of(room.tenant.tenant_key, other_id):
                    if room in connection.rooms:
                        self._hub.send_within_bound(connection, frame)
                        told += 1
        return told

    def _report_failure(self, batch: _Batch, future: asyncio.Future[Refusals]) -> None:
        error = None if future.cancelled() else future.exception()
        if isinstance(error, ChatError):
            for (room, _user_id, _kind), requesters in batch.requesters.items():
                self._refuse(requesters, room, error)

    def _refuse(self, requesters: Sequence[Requester], room: RoomState, error: ChatError) -> None:
        for requester in requesters:
            refusal = error.at(f"rooms.{room.room_id}") if requester.is_one_of_many else error
            self._hub.send(requester.connection, encode_error_frame(refusal, requester.request_id))


def _encode_receipt(
    kind: ReceiptKind, room: RoomState, user_id: UserId, seq: int, request_id: str | None = None
) -> bytes:
    return encode_frame(kind(room_id=room.room_id, seq=seq, user_id=user_id, request_id=or_unset(request_id)))


def _check_exists(room: RoomState, seq: int, field: str) -> None:
    if seq > room.published_seq:
        raise invalid(f"Must not be above the room's last_seq, {room.published_seq}", field)


def _move(member: MemberState, seq: int, kind: ReceiptKind) -> bool:
    """Moves the member's cursors. Whether `seq` is further than they had got."""
    before = _standing(member, kind)
    member.last_ack = max(member.last_ack, seq)
    if kind == READ:
        member.last_read = max(member.last_read, seq)
    return seq > before


def _standing(member: MemberState, kind: ReceiptKind) -> int:
    return member.last_ack if kind == ACK else member.last_read
