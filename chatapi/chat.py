"""Messages: the one way to send, read, edit and delete them."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from chatapi.access import Access, check_may_edit, check_may_post, claim_message
from chatapi.batching import Batcher
from chatapi.committer import Committer, get_outcome
from chatapi.connection import Requester
from chatapi.errors import ChatError, forbidden, invalid, not_found
from chatapi.history import HistoryCache
from chatapi.hub import Hub
from chatapi.mentions import check_mentions, note_changed_mentions
from chatapi.models import Actor, OptionalFields, Principal, Role, UserId, encode_time
from chatapi.open_streams import check_ended, is_open
from chatapi.protocol.answers import Message
from chatapi.protocol.encoders import (
    encode_frame,
    join_json,
    join_messages,
    message_deleted_frame,
    message_edited_frame,
)
from chatapi.protocol.fields import fields_of, optional_fields_of
from chatapi.protocol.json import MAX_INTEGER, dumps_canonical, dumps_text, encoded, text_of
from chatapi.protocol.queries import HistoryQuery
from chatapi.protocol.requests import MessageDraft, MessageEdit
from chatapi.room import RoomState
from chatapi.room_log import RoomLog
from chatapi.rooms import Rooms
from chatapi.store import MessageWrite, Store, Transaction, audit, erasures, log, pins, reactions, streams, threads
from chatapi.store.mentions import Mentioning, replace_mentions

PAGES_PER_QUERY = 8  # about 1 ms of a reader's time; later ones share the next trip to its thread

ERASE_SECONDS = 0.004  # of the writer in one change: others wait for it


class _Deletion(NamedTuple):
    message: Message  # the tombstone
    root: Message | None  # of a reply
    seq: int
    is_new: bool


class _Targets(NamedTuple):
    """The messages that a draft refers to, by their ids as they are stored."""

    reply_to: str | None
    optional: OptionalFields | None
    root_seq: int  # of a reply in a thread


class Chat:
    """The operations on messages. Each passes a gate of `Access` first, and raises ChatError when that refuses."""

    def __init__(
        self,
        store: Store,
        rooms: Rooms,
        history: HistoryCache,
        hub: Hub,
        committer: Committer,
        access: Access,
        room_log: RoomLog,
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._history = history
        self._hub = hub
        self._committer = committer
        self._access = access
        self._room_log = room_log
        self._pages: Batcher[log.HistoryWant, tuple[log.Messages, bool]] = Batcher(
            partial(log.history_pages, store.readers), PAGES_PER_QUERY, lambda want: want.tenant_key
        )

    # Sending

    async def send_message(
        self, principal: Principal, room_id: str, draft: MessageDraft, confirm: Callable[[MessageWrite], None]
    ) -> None:
        """Queues a message. Once it is committed, or cannot be, `confirm` is called; see `get_outcome`.

        Raises ChatError, and never calls `confirm`, if the user may not send it, the draft is invalid, or the writer
        takes no more.
        """
        room = await self._access.access_member(principal, room_id)
        optional = draft.optional
        targets, refusal = _Targets(draft.reply_to, optional, 0), None
        try:
            check_content(draft.content, principal.tenant.settings.max_message_bytes)
            if draft.client_message_id is None:  # else it may be a retry: the writer judges it
                check_may_post(room, principal.user_id)
            if draft.reply_to is not None or optional is not None:
                targets = await self._find_targets(room, draft.reply_to, optional)
        except ChatError as error:
            if draft.client_message_id is None:
                raise
            refusal = error  # unless it is a retry, which is answered whatever holds now
        self._store.writer.submit(
            MessageWrite(
                room=room,
                sender_id=principal.user_id,
                content=draft.content,
                meta=draft.meta,
                reply_to=targets.reply_to,
                client_message_id=draft.client_message_id,
                body_digest=None if draft.client_message_id is None else digest_body(draft, optional),
                confirm=confirm,
                optional=targets.optional,
                mentioned=draft.mentions or (),
                refusal=refusal,
                root_seq=targets.root_seq,
            )
        )

    async def send_and_wait(self, principal: Principal, room_id: str, draft: MessageDraft) -> tuple[Message, bool]:
        """The committed and published message, and whether it is new. Raises ChatError."""
        future: asyncio.Future[MessageWrite] = asyncio.get_running_loop().create_future()

        def confirm(write: MessageWrite) -> None:
            if not future.done():  # the request may have been cancelled
                future.set_result(write)

        await self.send_message(principal, room_id, draft, confirm)
        return get_outcome(await future)

    async def _find_targets(self, room: RoomState, reply_to: str | None, optional: OptionalFields | None) -> "_Targets":
        """Raises ChatError for one that is not there."""
        root_seq = 0
        if reply_to is not None:
            found = await self._find_message(room, reply_to)
            if found is None:
                raise invalid("No such message in this room", "reply_to")
            reply_to = found.message_id
        if optional is not None and optional.thread_id is not None:
            root = await self._find_message(room, optional.thread_id)
            if root is None or root.thread_id is not UNSET:
                raise invalid("Must be a message in this room that is not a reply itself", "thread_id")
            optional, root_seq = optional._replace(thread_id=root.message_id), root.seq
        return _Targets(reply_to, optional, root_seq)

    async def _find_message(self, room: RoomState, message_id: str) -> Message | None:
        found = await log.find_message(
            self._store.readers, room.tenant.tenant_key, room.room_key, room.room_id, message_id
        )
        return None if found is None else found.message

    # Reading

    async def list_messages(self, principal: Principal, room_id: str, query: HistoryQuery) -> tuple[log.Messages, bool]:
        """A page of history, ascending, and whether there are more in the direction asked for.

        From memory where it can be: the newest page, which everybody opens a room with, from the room's ring; older
        ones from blocks that somebody has read before.
        """
        room = await self._access.access_reader(principal, room_id)
        if query.thread_id is not None or query.top_level is True:
            return await self._list_part(room, query)
        after_seq, before_seq, limit = query.after_seq, query.before_seq, query.limit
        found = room.find_messages(after_seq, before_seq, limit)
        if found is None and after_seq is None and before_seq is None:
            await self._rooms.fill_ring(room)
            found = room.find_messages(after_seq, before_seq, limit)
        if found is not None:
            return join_messages(found[0]), found[1]
        is_after = after_seq is not None
        seq = after_seq if after_seq is not None else MAX_INTEGER if before_seq is None else before_seq
        find = self._history.find_after if is_after else self._history.find_before
        kept = await find(room, seq, limit)
        if kept is not None:
            return join_json(kept[0]), kept[1]
        return await self._pages.get(log.HistoryWant(room.room_key, room.tenant.tenant_key, is_after, seq, limit))

    async def _list_part(self, room: RoomState, query: HistoryQuery) -> tuple[log.Messages, bool]:
        """As `list_messages`: one thread's replies, or the room without replies."""
        readers, tenant_key = self._store.readers, room.tenant.tenant_key
        seq = query.after_seq if query.after_seq is not None else query.before_seq
        span = threads.Span(query.after_seq is not None, MAX_INTEGER if seq is None else seq, query.limit)
        if query.thread_id is None:
            return await threads.list_top_level(readers, tenant_key, room.room_key, span)
        root = await self._find_message(room, query.thread_id)
        thread_id = query.thread_id if root is None else root.message_id
        # Replies outlive their root when retention takes that.
        if root is None and not await threads.has_replies(readers, tenant_key, room.room_key, thread_id):
            raise not_found("Message")
        return await threads.list_replies(readers, tenant_key, room.room_key, thread_id, span)

    async def get_message(self, principal: Principal, room_id: str, message_id: str) -> Message:
        """The message as it is now; a deleted one is its tombstone. Raises ChatError NOT_FOUND."""
        room = await self._access.access_reader(principal, room_id)
        found = await self._find_message(room, message_id)
        if found is None:
            raise not_found("Message")
        return found

    # Editing and deleting

    async def edit_message(
        self,
        principal: Principal,
        room_id: str,
        message_id: str,
        edit: MessageEdit,
        requester: Requester | None = None,
    ) -> Message:
        """Returns the edited message, once the event is committed and published."""
        room = await self._access.access_member(principal, room_id)
        check_may_edit(room, principal.user_id)
        check_content(edit.content, principal.tenant.settings.max_message_bytes)

        async def apply(transaction: Transaction) -> tuple[Message, int, bool]:
            found = await claim_message(transaction, principal, room, message_id)
            message_key, message = found
            check_may_edit(room, principal.user_id)
            if message.deleted_at is not None:
                raise not_found("Message")
            if message.sender_id != principal.user_id:
                raise forbidden("Only the sender may edit a message")
            check_ended(message)
            meta = _edit_meta(message, edit)
            before = optional_fields_of(message)
            optional = edit.apply_to(before)
            check_mentions(room, principal.user_id, edit.mentions or (), optional, before)
            edited = msgspec.structs.replace(
                message,
                content=edit.content,
                meta=encoded(meta),
                edited_at=encode_time(transaction.now_us),
                **fields_of(optional),
            )
            seq = transaction.take_seq(room.counter)
            await log.update_content(
                transaction, room.tenant.tenant_key, room.room_key, message_key, edit.content, meta
            )
            await self._replace_mentions(transaction, room, found, optional)
            await self._room_log.append(transaction, room, seq, None, message_key)
            return edited, seq, optional != before

        def publish(result: tuple[Message, int, bool]) -> None:
            edited, seq, has_other_mentions = result
            if has_other_mentions:
                note_changed_mentions(room, edited)
            self._committer.publish_message_change(room, edited, message_edited_frame(edited, seq), requester)

        edited, *_ = await self._store.writer.change(apply, publish, characters=edit.count_characters())
        return edited

    async def delete_message(
        self, principal: Principal, actor: Actor, room_id: str, message_id: str, requester: Requester | None = None
    ) -> None:
        """Leaves a tombstone. Deleting a message again changes nothing. Of others' messages it is in the audit."""
        room = await self._access.access_member(principal, room_id)

        async def apply(transaction: Transaction) -> _Deletion:
            found = await claim_message(transaction, principal, room, message_id)
            message = found.message
            if message.sender_id != principal.user_id and room.members[principal.user_id].role is not Role.ADMIN:
                raise forbidden("Only the sender or a room admin may delete a message")
            if message.deleted_at is not None:
                seq = await log.get_deletion_seq(transaction, room.tenant.tenant_key, room.room_key, found)
                return _Deletion(message, await self._find_root(transaction, room, message), seq, False)
            deletion = await self._delete(transaction, room, found)
            if message.sender_id != principal.user_id:
                await _record_deletion(transaction, actor, room, message)
            return deletion

        await self._store.writer.change(apply, lambda deletion: self._publish_deletion(room, deletion, requester))

    async def erase_messages(self, room: RoomState, user_id: UserId, message_ids: Sequence[str]) -> int:
        """Leaves tombstones of the first of these that the user has sent, without the client's own ids; nobody asks for
        it. Returns how many it has looked at: it ends soon after `ERASE_SECONDS` of the writer's time."""
        tenant_key, room_key = room.tenant.tenant_key, room.room_key

        async def apply(transaction: Transaction) -> tuple[int, list[_Deletion]]:
            deletions: list[_Deletion] = []
            end_s = time.perf_counter() + ERASE_SECONDS
            for done, message_id in enumerate([] if room.gone else message_ids):
                if deletions and time.perf_counter() >= end_s:
                    return done, deletions
                found = await log.find_message(transaction, tenant_key, room_key, room.room_id, message_id)
                if found is None or found.message.sender_id != user_id or found.message.deleted_at is not None:
                    continue
                nameless = found._replace(message=msgspec.structs.replace(found.message, client_message_id=None))
                await erasures.free_client_id(transaction, tenant_key, room_key, found.message_key)
                deletions.append(await self._delete(transaction, room, nameless))
            return len(message_ids), deletions

        def publish(result: tuple[int, list[_Deletion]]) -> None:
            for deletion in result[1]:
                self._publish_deletion(room, deletion, None)

        done, _ = await self._store.writer.change(apply, publish)
        return done

    async def _delete(self, transaction: Transaction, room: RoomState, found: log.StoredMessage) -> _Deletion:
        """Of a message that is not deleted."""
        message_key, message = found
        deleted_at = encode_time(transaction.now_us)
        optional = optional_fields_of(message)._replace(mentions=(), mention_room=False)
        deleted = msgspec.structs.replace(
            message,
            content=None,
            meta=None,
            deleted_at=deleted_at,
            **fields_of(optional),
            stream=UNSET,
            reactions=UNSET,
            pinned_at=UNSET,
        )
        seq = transaction.take_seq(room.counter)
        await self._replace_mentions(transaction, room, found, optional)
        await log.mark_message_deleted(transaction, room.tenant.tenant_key, room.room_key, message_key)
        if is_open(message):
            await streams.remove(transaction, room.tenant.tenant_key, room.room_key, message.seq)
        if message.reactions is not UNSET:
            await reactions.remove_all(transaction, room.tenant.tenant_key, room.room_key, message.seq)
        if message.pinned_at is not UNSET:
            await pins.delete(transaction, room.tenant.tenant_key, room.room_key, message.seq)
        root = await self._take_reply(transaction, room, deleted)
        frame = message_deleted_frame(deleted, seq, root)
        await self._room_log.append(transaction, room, seq, frame, message_key)
        return _Deletion(deleted, root, seq, True)

    def _publish_deletion(self, room: RoomState, deletion: _Deletion, requester: Requester | None) -> None:
        deleted, root, seq, is_new = deletion
        event = message_deleted_frame(deleted, seq, root)
        if is_new:
            note_changed_mentions(room, deleted)
            self._rooms.end_stream(room, deleted, not_found("Message"))
            if root is not None:
                self._committer.tell_annotations(room, root)
            self._committer.publish_message_change(room, deleted, event, requester)
        elif requester is not None:
            self._hub.answer_with_past_event(requester, room, seq, encode_frame(event))

    async def _take_reply(self, transaction: Transaction, room: RoomState, deleted: Message) -> Message | None:
        """The root of a reply that was deleted, as it is without it; None for other messages, and for a root that
        retention has removed."""
        root = await self._find_root(transaction, room, deleted)
        if root is None:
            return None
        await threads.take_reply(transaction, room.tenant.tenant_key, room.room_key, root.message_id, root.seq)
        return await self._find_root(transaction, room, deleted)

    async def _find_root(self, transaction: Transaction, room: RoomState, message: Message) -> Message | None:
        if message.thread_id is UNSET:
            return None
        found = await log.find_message(
            transaction, room.tenant.tenant_key, room.room_key, room.room_id, message.thread_id
        )
        return None if found is None else found.message

    async def _replace_mentions(
        self, transaction: Transaction, room: RoomState, found: log.StoredMessage, optional: OptionalFields
    ) -> None:
        before, message = optional_fields_of(found.message), found.message
        if optional != before:
            mentioning = Mentioning(room.room_key, found.message_key, message.seq, message.sender_id, optional)
            await replace_mentions(transaction, room.tenant.tenant_key, mentioning, before)


def _edit_meta(message: Message, edit: MessageEdit) -> str | None:
    """The `meta` after the edit, as JSON."""
    if edit.meta is UNSET:
        return None if message.meta is None else text_of(message.meta)
    return None if edit.meta is None else dumps_text(edit.meta)


def check_content(content: str, max_bytes: int) -> None:
    # Only long contents need the count of bytes: a character takes at most four.
    if len(content) * 4 > max_bytes and len(content.encode()) > max_bytes:
        raise invalid(f"Must be at most {max_bytes} bytes of UTF-8", "content")


async def _record_deletion(transaction: Transaction, actor: Actor, room: RoomState, message: Message) -> None:
    """Of another user's message."""
    details = {"room_id": room.room_id, "user_id": message.sender_id}
    await audit.record(transaction, actor, "message.delete", room.tenant.tenant_id, message.message_id, details)


def digest_body(draft: MessageDraft, optional: OptionalFields | None) -> int:
    """A digest that tells two bodies apart, of 63 bits, which SQLite holds as an integer: a clash is likely only after
    2^31 bodies."""
    fields: list[object] = [draft.content, draft.meta, draft.reply_to]
    if optional is not None:  # the digest of a plain message is what it was before there were others
        fields += optional if optional.stream else optional[:-1]
    body = dumps_canonical(fields)
    return int.from_bytes(hashlib.blake2b(body, digest_size=8).digest(), "big") >> 1
