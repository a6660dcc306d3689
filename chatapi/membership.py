"""Rooms and their members: creating, changing, joining and leaving."""

import secrets
from collections.abc import Callable
from typing import NamedTuple

from msgspec import UNSET

from chatapi.access import (
    Access,
    check_admin,
    check_alive,
    check_member,
    check_not_dm,
    refuse_blocked,
)
from chatapi.banned_users import check_not_erasing, check_user_not_banned, is_banned
from chatapi.errors import ChatError, Code, conflict, forbidden, not_found
from chatapi.hub import Hub
from chatapi.joining import check_may_add, list_founders
from chatapi.models import (
    Actor,
    MemberState,
    Posting,
    Principal,
    Role,
    RoomId,
    RoomType,
    UserId,
    WebhookEvent,
    encode_dm_key,
    encode_time,
)
from chatapi.presence import Presence
from chatapi.protocol.answers import Member
from chatapi.protocol.encoders import encode_frame, member_record
from chatapi.protocol.json import dumps_text, encoded, is_same_json
from chatapi.protocol.moderation_requests import PatchMember
from chatapi.protocol.requests import AddMember, CreateRoom, PatchRoom, check_settings_of_dm
from chatapi.protocol.server_frames import (
    LogEvent,
    MemberJoinedFrame,
    MemberLeftFrame,
    MemberUpdatedFrame,
    RoomCreatedFrame,
    RoomDeletedFrame,
    RoomUpdatedFrame,
)
from chatapi.room import RoomState
from chatapi.room_log import RoomLog
from chatapi.rooms import Rooms
from chatapi.store import Store, Transaction, audit, blocks, moderation
from chatapi.store import rooms as store_rooms
from chatapi.webhooks.queue import WebhookQueue


class _Update(NamedTuple):
    """How a room is after a change."""

    name: str | None
    metadata: str | None  # as JSON
    posting: Posting
    slow_mode_seconds: int
    updated_at_us: int
    frame: RoomUpdatedFrame


class _MemberChange(NamedTuple):
    """How a member is after a change."""

    frame: MemberUpdatedFrame
    muted_until_us: int | None
    is_quiet: bool  # it does not count as activity of the room


class Membership:
    """The operations on rooms and members. When one returns, the change is committed and published.

    Permissions are checked within the writer's transaction, since they may change while a write waits.
    """

    def __init__(
        self,
        store: Store,
        rooms: Rooms,
        hub: Hub,
        presence: Presence,
        access: Access,
        webhook_queue: WebhookQueue,
        room_log: RoomLog,
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._hub = hub
        self._presence = presence
        self._access = access
        self._webhook_queue = webhook_queue
        self._room_log = room_log

    # Rooms

    async def create_room(self, principal: Principal, body: CreateRoom) -> RoomState:
        """Raises ChatError; CONFLICT with `details.room_id` when the dm exists already."""
        tenant = principal.tenant
        members = list_founders(principal, body)
        unique_key = encode_dm_key(*members) if body.type is RoomType.DM else None
        metadata = _encode_metadata(body.metadata)
        room_id = RoomId(f"room_{secrets.token_hex(12)}")

        async def apply(transaction: Transaction) -> RoomState:
            check_user_not_banned(tenant, principal.user_id)
            for user_id in members:
                check_not_erasing(tenant, user_id)
            if unique_key is not None:
                existing = await store_rooms.find_dm(transaction, tenant.tenant_key, unique_key)
                if existing is not None:
                    raise conflict("This dm exists already", {"room_id": existing})
                if await blocks.is_blocked(transaction, tenant.tenant_key, unique_key):
                    raise refuse_blocked()
            room_key = await store_rooms.insert_room(
                transaction,
                tenant.tenant_key,
                room_id=room_id,
                room_type=body.type,
                unique_key=unique_key,
                name=body.name,
                metadata=metadata,
                created_by=principal.user_id,
                posting=body.posting,
                slow_mode_seconds=body.slow_mode_seconds,
            )
            now_key = self._store.writer.next_key()
            await store_rooms.insert_members(transaction, tenant.tenant_key, room_key, members.items(), 0, now_key)
            room = RoomState(
                tenant=tenant,
                room_key=room_key,
                room_id=room_id,
                room_type=body.type,
                unique_key=unique_key,
                name=body.name,
                metadata=metadata,
                created_by=principal.user_id,
                created_at_us=transaction.now_us,
                updated_at_us=transaction.now_us,
            )
            await self._webhook_queue.queue_event(transaction, room, WebhookEvent.ROOM_CREATED, now_key)
            return room

        def publish(room: RoomState) -> None:
            for user_id, role in sorted(members.items()):  # they joined together: in the order of a load
                room.add_member(MemberState(user_id, role, room.created_at_us, 0, 0))
            self._rooms.set_posting(room, body.posting, body.slow_mode_seconds)
            room = self._rooms.add(room)
            for user_id in members:
                self._welcome(room, user_id, 0)

        return await self._store.writer.change(apply, publish, characters=body.count_characters())

    async def update_room(self, principal: Principal, actor: Actor, room_id: str, body: PatchRoom) -> RoomState:
        """The room afterwards. A body that changes nothing makes no event. Raises ChatError."""
        room = await self._access.access_member(principal, room_id)
        if room.type is RoomType.DM:
            check_settings_of_dm(body)
        check_admin(room, principal.user_id)
        if body.slow_mode_seconds:
            await self._rooms.load_posters(room, body.slow_mode_seconds)

        async def apply(transaction: Transaction) -> _Update | None:
            check_alive(room)
            check_admin(room, principal.user_id)
            update = _find_update(room, body, transaction)
            if update is not None:
                await store_rooms.update_room(
                    transaction,
                    room.tenant.tenant_key,
                    room.room_key,
                    name=update.name,
                    metadata=update.metadata,
                    posting=update.posting,
                    slow_mode_seconds=update.slow_mode_seconds,
                )
                await self._room_log.append(transaction, room, update.frame.seq, update.frame, None)
                if changed := _list_rules(room, update):
                    await self._record(transaction, actor, "room.update", room, room.room_id, changed=changed)
            return update

        def publish(update: _Update | None) -> None:
            if update is not None:
                room.name, room.metadata, room.updated_at_us = update.name, update.metadata, update.updated_at_us
                self._rooms.set_posting(room, update.posting, update.slow_mode_seconds)
                self.publish(room, update.frame)
                self._presence.stop_forbidden_typing(room)

        await self._store.writer.change(apply, publish, barrier=True, characters=body.count_characters())
        return room

    async def delete_room(self, principal: Principal, actor: Actor, room_id: str) -> None:
        """The room is gone for everybody at once; its rows are purged afterwards."""
        room = await self._access.access_admin(principal, room_id)

        async def apply(transaction: Transaction) -> None:
            check_alive(room)
            check_admin(room, principal.user_id)
            await store_rooms.mark_room_deleted(transaction, room.tenant.tenant_key, room.room_key)
            deleted = room.frame(RoomDeletedFrame)  # its rows will be gone when the backend is told
            key = self._store.writer.next_key()
            await self._webhook_queue.queue_event(transaction, room, WebhookEvent.ROOM_DELETED, key, frame=deleted)
            await self._record(transaction, actor, "room.delete", room, room.room_id)

        await self._store.writer.change(apply, lambda _: self.discard(room), barrier=True)

    def discard(self, room: RoomState) -> None:
        """Tells those who listen that the room is deleted, and forgets it."""
        self._rooms.drop(room)
        self._hub.discard(room, encode_frame(room.frame(RoomDeletedFrame)))

    # Members

    async def add_member(self, principal: Principal, actor: Actor, room_id: str, body: AddMember) -> Member:
        """The new member, whose `last_ack` is the `seq` of their own `member.joined`. Raises ChatError; CONFLICT for a
        user who is a member already."""
        room = await self._access.access_any(principal, room_id)
        user_id = UserId(body.user_id)

        async def apply(transaction: Transaction) -> tuple[MemberState, MemberJoinedFrame]:
            check_alive(room)
            role = check_may_add(principal, room, user_id, body.role)
            seq = transaction.take_seq(room.counter)
            now_key = self._store.writer.next_key()
            await store_rooms.insert_members(
                transaction, room.tenant.tenant_key, room.room_key, [(user_id, role)], seq, now_key
            )
            muted_until_us = _find_mute(room, user_id)
            muted_until = UNSET if muted_until_us is None else encode_time(muted_until_us)
            frame = MemberJoinedFrame(
                room_id=room.room_id, user_id=user_id, role=role, muted_until=muted_until, seq=seq
            )
            await self._room_log.append(transaction, room, seq, frame, None)
            if role is Role.ADMIN and user_id != principal.user_id:
                await self._record(transaction, actor, "member.role", room, user_id, role=role)
            return MemberState(user_id, role, transaction.now_us, seq, seq), frame

        def publish(result: tuple[MemberState, MemberJoinedFrame]) -> None:
            member, frame = result
            room.add_member(member)
            self.publish(room, frame)
            self._welcome(room, user_id, member.last_ack)

        member, _frame = await self._store.writer.change(apply, publish, barrier=True)
        return member_record(member, _find_mute(room, user_id))

    async def update_member(
        self, principal: Principal, actor: Actor, room_id: str, user_id: UserId, body: PatchMember
    ) -> Member:
        """The member afterwards. If nothing changes there is no event. Raises ChatError; CONFLICT if the last admin
        would lose the role."""
        room = await self._access.access_any(principal, room_id)

        async def apply(transaction: Transaction) -> _MemberChange | None:
            check_alive(room)
            check_member(room, principal.user_id)
            if body.muted_for is not UNSET and room.type is RoomType.DM:
                raise forbidden("Nobody is muted in a dm")
            check_not_dm(room)
            check_admin(room, principal.user_id)
            member = room.members.get(user_id)
            if member is None:
                raise not_found("Member")
            change = await self._change_member(transaction, room, member, body)
            if change is not None:
                await self._record_change(transaction, actor, room, member, change)
            return change

        def publish(change: _MemberChange | None) -> None:
            if change is not None:
                self._publish_member(room, change)

        await self._store.writer.change(apply, publish, barrier=True)
        return member_record(room.members[user_id], _find_mute(room, user_id))

    async def remove_member(self, principal: Principal, actor: Actor, room_id: str, user_id: UserId) -> None:
        """Members may leave, and admins remove others. When the last admin leaves, the longest-standing member becomes
        one. Raises ChatError."""
        room = await self._access.access_any(principal, room_id)

        def check() -> None:
            check_alive(room)
            check_member(room, principal.user_id)
            check_not_dm(room)
            if user_id != principal.user_id:
                check_admin(room, principal.user_id)
            if user_id not in room.members:
                raise not_found("Member")

        await self._end_membership(room, user_id, check, None if user_id == principal.user_id else actor)

    async def erase_member(self, room: RoomState, user_id: UserId) -> None:
        """As if the user left, if they are a member. Of a dm they stay one: its members are fixed."""

        def check() -> None:
            if room.gone or user_id not in room.members:
                raise not_found("Member")

        if room.type is RoomType.DM:
            return
        try:
            await self._end_membership(room, user_id, check)
        except ChatError as error:
            if error.code is not Code.NOT_FOUND:
                raise

    async def _end_membership(
        self, room: RoomState, user_id: UserId, check: Callable[[], None], actor: Actor | None = None
    ) -> None:
        """`check` is called in the writer's own turn. The audit names the actor, if there is one but the user."""

        async def apply(transaction: Transaction) -> tuple[MemberLeftFrame, _MemberChange | None]:
            check()
            seq = transaction.take_seq(room.counter)
            left = MemberLeftFrame(room_id=room.room_id, user_id=user_id, seq=seq)
            await store_rooms.delete_member(transaction, room.tenant.tenant_key, room.room_key, user_id)
            await self._room_log.append(transaction, room, seq, left, None)
            if actor is not None:
                await self._record(transaction, actor, "member.remove", room, user_id)
            return left, await self._promote_heir(transaction, room, user_id)

        def publish(result: tuple[MemberLeftFrame, _MemberChange | None]) -> None:
            left, promoted = result
            self.publish_removal(room, user_id, left)
            if promoted is not None:
                self._publish_member(room, promoted)

        await self._store.writer.change(apply, publish, barrier=True)

    async def _promote_heir(
        self, transaction: Transaction, room: RoomState, leaving_id: UserId
    ) -> "_MemberChange | None":
        """If the last admin leaves, the longest-standing of the others becomes one."""
        if room.has_other_admin(leaving_id) and not _are_banned(room, leaving_id):
            return None
        others = (member for member in room.members.values() if member.user_id != leaving_id)
        heir = next((member for member in others if not is_banned(room.tenant, member.user_id)), None)
        return None if heir is None else await self._change_member(transaction, room, heir, PatchMember(Role.ADMIN))

    async def replace_banned_admin(self, room: RoomState, user_id: UserId) -> None:
        """If the last admin is banned from the tenant, the longest-standing of the others becomes one."""
        if user_id not in room.admins or not _are_banned(room, user_id):
            return

        async def apply(transaction: Transaction) -> _MemberChange | None:
            is_still_due = not room.gone and user_id in room.admins and is_banned(room.tenant, user_id)
            return await self._promote_heir(transaction, room, user_id) if is_still_due else None

        def publish(promoted: _MemberChange | None) -> None:
            if promoted is not None:
                self._publish_member(room, promoted)

        await self._store.writer.change(apply, publish, barrier=True)

    async def _change_member(
        self, transaction: Transaction, room: RoomState, member: MemberState, body: PatchMember
    ) -> "_MemberChange | None":
        """Writes the change and its event; None if it changes nothing."""
        tenant_key, room_key, user_id = room.tenant.tenant_key, room.room_key, member.user_id
        role = member.role if body.role is UNSET else body.role
        muted_until_us = was_muted_until_us = _find_mute(room, user_id)
        if body.muted_for is not UNSET:
            muted_until_us = transaction.now_us + body.muted_for * 1_000_000 if body.muted_for else None
        if role is member.role and muted_until_us == was_muted_until_us:
            return None
        if role is not member.role:
            if role is Role.MEMBER and not room.has_other_admin(user_id):
                raise conflict("The last admin cannot be demoted")
            await store_rooms.update_role(transaction, tenant_key, room_key, user_id, role)
        if muted_until_us != was_muted_until_us:
            await moderation.write_mute(transaction, tenant_key, room_key, user_id, muted_until_us)
        seq = transaction.take_seq(room.counter)
        muted_until = None if muted_until_us is None else encode_time(muted_until_us)
        frame = MemberUpdatedFrame(room_id=room.room_id, user_id=user_id, role=role, muted_until=muted_until, seq=seq)
        is_quiet = role is member.role
        await self._room_log.append(transaction, room, seq, frame, None, is_quiet=is_quiet)
        return _MemberChange(frame, muted_until_us, is_quiet)

    async def _record_change(
        self, transaction: Transaction, actor: Actor, room: RoomState, member: MemberState, change: "_MemberChange"
    ) -> None:
        """A change of the role and one of the mute are two acts."""
        frame, user_id = change.frame, member.user_id
        if frame.role is not member.role:
            await self._record(transaction, actor, "member.role", room, user_id, role=frame.role)
        if change.muted_until_us != _find_mute(room, user_id):
            until = {} if frame.muted_until is None else {"until": frame.muted_until}
            await self._record(transaction, actor, "member.mute" if until else "member.unmute", room, user_id, **until)

    async def _record(
        self, transaction: Transaction, actor: Actor, action: str, room: RoomState, target: str, **details: object
    ) -> None:
        if target != room.room_id:
            details["room_id"] = room.room_id
        await audit.record(transaction, actor, action, room.tenant.tenant_id, target, details)

    # Publication

    def publish(self, room: RoomState, frame: LogEvent, *, is_quiet: bool = False) -> None:
        """Publishes the next event of the room. A quiet one does not count as activity."""
        data = encode_frame(frame)
        if is_quiet:
            self._rooms.remember_quiet(room, data)
        else:
            self._rooms.remember(room, data)
        self._hub.publish(room, [data])

    def publish_removal(self, room: RoomState, user_id: UserId, event: LogEvent, *, is_quiet: bool = False) -> None:
        """As `publish`, of an event by which the user, a member or not, can no longer follow the room. It is the last
        one of the room that their connections get."""
        self._presence.stop_typing(room, user_id)
        if user_id in room.members:
            room.remove_member(user_id)
            self._rooms.rankings.leave(room.tenant.tenant_key, user_id, room.room_key)
        self.publish(room, event, is_quiet=is_quiet)
        for connection in list(self._hub.connections_of(room.tenant.tenant_key, user_id)):
            connection.leave(room, last_seq=room.published_seq)

    def _publish_member(self, room: RoomState, change: "_MemberChange") -> None:
        frame = change.frame
        user_id = UserId(frame.user_id)
        room.set_role(user_id, frame.role)
        if change.muted_until_us is not None:
            self._rooms.rules_of(room).mute(user_id, change.muted_until_us)
        elif room.rules is not None:
            room.rules.unmute(user_id)
        self.publish(room, frame, is_quiet=change.is_quiet)
        self._presence.stop_forbidden_typing(room)

    def _welcome(self, room: RoomState, user_id: UserId, cursor: int) -> None:
        """A user who is in the room from now on gets the room at once, on all their connections."""
        ranked = store_rooms.RankedRoom(room.active_us, room.room_id, room.room_key)
        self._rooms.rankings.join(room.tenant.tenant_key, user_id, ranked)
        frame = encode_frame(room.frame(RoomCreatedFrame))
        for connection in self._hub.connections_of(room.tenant.tenant_key, user_id):
            self._hub.send_undroppable(connection, {(room, RoomCreatedFrame): frame})
            self._hub.enter(connection, room, cursor)
        self._presence.joined(room, user_id)


def _find_update(room: RoomState, body: PatchRoom, transaction: Transaction) -> _Update | None:
    """How the room is after this change, whose `seq` is taken; None if it changes nothing."""
    name = room.name if body.name is UNSET else body.name
    metadata = room.metadata if body.metadata is UNSET else _encode_metadata(body.metadata)
    posting = room.posting if body.posting is UNSET else body.posting
    seconds = room.slow_mode_seconds if body.slow_mode_seconds is UNSET else body.slow_mode_seconds
    is_same = (name, posting, seconds) == (room.name, room.posting, room.slow_mode_seconds)
    if is_same and is_same_json(metadata, room.metadata):
        return None
    if seconds and (room.rules is None or room.rules.posters is None):
        raise conflict("Another change has just ended slow mode")  # and forgot the posters that this one has read
    seq = transaction.take_seq(room.counter)
    frame = room.frame(
        RoomUpdatedFrame,
        name=name,
        metadata=encoded(metadata),
        posting=posting,
        slow_mode_seconds=seconds,
        last_seq=seq,
        updated_at=encode_time(transaction.now_us),
        seq=seq,
    )
    return _Update(name, metadata, posting, seconds, transaction.now_us, frame)


def _list_rules(room: RoomState, update: _Update) -> list[str]:
    """The names of what an admin decides for the others. Metadata is the application's own, and may change often."""
    before = {"name": room.name, "posting": room.posting, "slow_mode_seconds": room.slow_mode_seconds}
    return [name for name, value in before.items() if getattr(update, name) != value]


def _are_banned(room: RoomState, except_id: UserId) -> bool:
    """Whether all admins, except perhaps that one, are banned from the tenant."""
    return all(is_banned(room.tenant, user_id) for user_id in room.admins if user_id != except_id)


def _find_mute(room: RoomState, user_id: UserId) -> int | None:
    return None if room.rules is None else room.rules.find_mute(user_id)


def _encode_metadata(metadata: dict[str, object] | None) -> str | None:
    return None if metadata is None else dumps_text(metadata)
