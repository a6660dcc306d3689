"""The REST calls of a tenant's backend or of one user."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Literal, cast

import aiohttp
from msgspec import UNSET, UnsetType

from chatapi.client.connection import Connection
from chatapi.client.credentials import Credentials, GetToken, is_token
from chatapi.client.drafts import draft, given, write_flag
from chatapi.client.envelope import Shape
from chatapi.client.events import EventPage
from chatapi.client.feed import ACKED_ROOMS
from chatapi.client.http import RETRIES, TIMEOUT_S, Http
from chatapi.client.moderation import ModerationCalls
from chatapi.client.options import OnError, OnState, Options, Transport
from chatapi.client.paths import escape, member_path, message_path, room_path
from chatapi.client.records import (
    AckedNotification,
    Cursors,
    Json,
    Member,
    MemberPage,
    MentionPage,
    Message,
    MessagePage,
    NotificationPage,
    Notified,
    NotifyLevel,
    OwnRoomPage,
    OwnView,
    Position,
    Posting,
    Presence,
    ReceiptPage,
    Role,
    Room,
    RoomAcks,
    RoomPage,
    RoomType,
    Subscription,
    SubscriptionPage,
    Targets,
    Ticket,
    UserToken,
)
from chatapi.client.streams import StreamCalls
from chatapi.client.syncing import SyncCalls
from chatapi.client.users import UserCalls

_ROOM: Shape = {"room_id": str}
_ROOMS: Shape = {"rooms": list}
_MEMBER: Shape = {"user_id": str}
_MESSAGE: Shape = {"message_id": str}
_POSITION: Shape = {"seq": int}
_ACKS: Shape = {"rooms": dict, "errors": dict}


class ChatAPI(StreamCalls, ModerationCalls, SyncCalls, UserCalls):
    """A client of one server: a tenant's backend acting as a user (`api_key` and `user_id`), or a user (`token`, or
    `get_token`, which returns a token at first, and again when the server refuses the last one).

    Every call raises ApiError when the server refuses, NoAnswer when it cannot be reached, and NotChatAPI, which is a
    NoAnswer too, when something else answers; NoToken when `get_token` fails. The calls name those refusals that are
    their own: beside them there are 400 (`field` says of what), 401, 429 and 5xx. A call that may be repeated is tried
    again up to `retries` times, and anything after a 429 of the server's.

    Lists come in pages: `offset` passes over as many items, or `cursor`, the `next_cursor` of the page before, goes on
    where that ended. Times are RFC 3339 in UTC, as text.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        user_id: str | None = None,
        token: str | None = None,
        get_token: GetToken | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        session: aiohttp.ClientSession | None = None,
        _shared: Http | None = None,
    ) -> None:
        """`timeout_s`: of one try. The application closes a `session` that it gives; its connector bounds the number of
        connections. Raises ValueError for an address without http:// or https://, and for credentials that are not
        of one kind."""
        credentials = _choose_credentials(api_key, user_id, token, get_token, timeout_s)
        http = _shared or Http(url, timeout_s=timeout_s, retries=retries, session=session)
        super().__init__(http, credentials, owns_http=_shared is None)
        self._api_key = api_key

    def as_user(self, user_id: str) -> "ChatAPI":
        """The same tenant as another user, over the same sockets; with an API key only. Raises ValueError without
        one."""
        if self._api_key is None:
            raise ValueError("only an API key can act as another user")
        return ChatAPI(self.url, api_key=self._api_key, user_id=user_id, _shared=self._http)

    def connect(
        self,
        cursors: Cursors | None = None,
        *,
        auto_ack: bool = True,
        auto_ack_notifications: bool = True,
        min_delay_s: float = Options.min_delay_s,
        max_delay_s: float = Options.max_delay_s,
        max_pending: int = Options.max_pending,
        on_state: OnState | None = None,
        on_error: OnError | None = None,
        transports: Sequence[Transport] = Options.transports,
    ) -> Connection:
        """A connection that comes back by itself, for `async with`.

        `cursors`: where this device stopped; without it the server continues from what the user acknowledged.
        `auto_ack`, `auto_ack_notifications`: acknowledge what the application has handled. `min_delay_s` and
        `max_delay_s`: bounds of the first and of any later wait before a reconnect, of which a random part is waited.
        `max_pending`: events that wait for the application before the socket is read no further. `on_error` is told,
        once each, what keeps the connection from coming up although the network is there: ApiError, NotChatAPI,
        NoToken; see `error`. `transports`: those to use, the best first. Where WebSockets do not pass (three tries
        failed, and REST answers), Server-Sent Events stand in for them, then long polls.
        """
        options = Options(
            auto_ack=auto_ack,
            auto_ack_notifications=auto_ack_notifications,
            min_delay_s=min_delay_s,
            max_delay_s=max_delay_s,
            max_pending=max_pending,
            on_state=on_state,
            on_error=on_error,
            transports=tuple(transports),
        )
        return Connection(self, self._http, self._credentials, cursors, options)

    # Rooms

    async def create_room(
        self,
        room_type: RoomType,
        members: list[str] | None = None,
        *,
        name: str | None = None,
        metadata: Json | None = None,
        posting: Posting = "members",
        slow_mode_seconds: int = 0,
    ) -> Room:
        """Creates a room; the caller becomes its first admin.

        `room_type`: `dm` (two users, forever; with one member given the caller is the other), `group` (private) or
        `channel` (each user of the tenant may read it). `members`: up to 1,000 user ids; ids that are given twice count
        once. `name`: 1 to 200 characters. `metadata`: an object of at most 16 KiB as JSON. `posting`: the members who
        may post, all or `admins`. `slow_mode_seconds`: from a member's message to their next one, 0 to 21,600; not for
        admins. A dm has neither. Not tried again after a lost answer. Raises ApiError: 409 when the dm exists, with its
        `room_id` in `details`; 400.
        """
        body = {
            "type": room_type,
            "members": members or [],
            "name": name,
            "metadata": metadata,
            "posting": posting,
            "slow_mode_seconds": slow_mode_seconds,
        }
        return cast(Room, await self.call("POST", "/rooms", body=body, shape=_ROOM))

    async def list_rooms(
        self,
        *,
        hidden: bool | None = None,
        limit: int | None = None,
        offset: int | None = None,
        cursor: str | None = None,
    ) -> OwnRoomPage:
        """The caller's rooms, the most recently active first, each with the caller's role, receipts and view of it,
        counts of unread messages and mentions (up to 1,000) and the last message. `hidden`: True for those too that
        the caller has hidden. `limit`: 1 to 100 (50); a page may hold less, see `has_more`."""
        query = {"limit": limit, "offset": offset, "cursor": cursor, "hidden": write_flag(hidden)}
        return cast(OwnRoomPage, await self.call("GET", "/rooms", query=query, shape=_ROOMS))

    async def list_channels(
        self, *, limit: int | None = None, offset: int | None = None, cursor: str | None = None
    ) -> RoomPage:
        """The tenant's channels, the caller's own and others. `limit`: 1 to 100 (50)."""
        return cast(
            RoomPage,
            await self.call(
                "GET", "/channels", query={"limit": limit, "offset": offset, "cursor": cursor}, shape=_ROOMS
            ),
        )

    async def get_room(self, room_id: str) -> Room:
        """Raises ApiError: 404, or 403 when the caller is not a member and it is not a channel."""
        return cast(Room, await self.call("GET", room_path(room_id), shape=_ROOM))

    async def update_room(
        self,
        room_id: str,
        *,
        name: str | UnsetType | None = UNSET,
        metadata: Json | UnsetType | None = UNSET,
        posting: Posting | UnsetType = UNSET,
        slow_mode_seconds: int | UnsetType = UNSET,
    ) -> Room:
        """Changes what is given; None clears a name or metadata. `name`: 1 to 200 characters; `metadata`: at most 16
        KiB, replaced as a whole; `posting`, `slow_mode_seconds`: as in `create_room`. For admins of the room. Raises
        ApiError: 403, 404."""
        body = given(name=name, metadata=metadata, posting=posting, slow_mode_seconds=slow_mode_seconds)
        return cast(Room, await self.call("PATCH", room_path(room_id), body=body, shape=_ROOM))

    async def delete_room(self, room_id: str) -> None:
        """Deletes a room and everything in it. For its admins. Raises ApiError: 403, also of a dm; 404."""
        await self.call("DELETE", room_path(room_id))

    async def update_view(
        self, room_id: str, *, notify: NotifyLevel | UnsetType = UNSET, hidden: bool | UnsetType = UNSET
    ) -> OwnView:
        """Changes the caller's own view of a room, and returns it; an argument that is not given changes nothing.
        `notify`: of which messages the backend is told while the caller is offline. `hidden`: leaves the room out of
        `list_rooms` until somebody else posts. Raises ApiError: 403, 404."""
        body = given(notify=notify, hidden=hidden)
        return cast(OwnView, await self.call("PATCH", f"{room_path(room_id)}/me", body=body, shape=_ROOM))

    async def list_members(
        self,
        room_id: str,
        *,
        q: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
        cursor: str | None = None,
    ) -> MemberPage:
        """The room's members, the longest-standing first; with `q` those whose name or id begins so (1 to 100
        characters, without case and diacritics), by name. `limit`: 1 to 100 (50). Raises ApiError: 403, 404."""
        query = {"q": q, "limit": limit, "offset": offset, "cursor": cursor}
        return cast(
            MemberPage, await self.call("GET", f"{room_path(room_id)}/members", query=query, shape={"members": list})
        )

    async def add_member(self, room_id: str, user_id: str, role: Role = "member") -> Member:
        """Adds a user. For admins of the room; in a channel users may add themselves, as `member`. Not tried again
        after a lost answer. Raises ApiError: 409 for a member or a dm, 403, 404."""
        body = {"user_id": user_id, "role": role}
        return cast(Member, await self.call("POST", f"{room_path(room_id)}/members", body=body, shape=_MEMBER))

    async def update_member(
        self, room_id: str, user_id: str, role: Role | UnsetType = UNSET, *, muted_for: int | UnsetType = UNSET
    ) -> Member:
        """Gives a member another role, or mutes them: they may read, but not post, edit, react or type. `muted_for`:
        seconds, up to 31,536,000; 0 ends it. For admins of the room. Raises ApiError: 409 for the last admin or the
        role in a dm, 403, also for a mute in a dm, 404."""
        body = given(role=role, muted_for=muted_for)
        return cast(Member, await self.call("PATCH", member_path(room_id, user_id), body=body, shape=_MEMBER))

    async def remove_member(self, room_id: str, user_id: str) -> None:
        """Removes a member, or leaves the room. For admins; anybody may leave. When the last admin leaves, the member
        who has been there longest becomes admin. Raises ApiError: 409 for a dm, 403, 404."""
        await self.call("DELETE", member_path(room_id, user_id))

    # Messages

    async def send_message(
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
    ) -> Message:
        """Stores a message and returns it. Stored once, however often the call has to be tried: a `client_message_id`
        is made where none is given.

        `content`: up to 64 KiB of UTF-8, or the tenant's own bound. `meta`: an object of at most 16 KiB as JSON.
        `reply_to`: a message of the same room. `client_message_id`: up to 64 characters; given again, the message is
        returned as it now stands. `thread_id`: the message to which it is a reply, no reply itself. `mentions`: up to
        50 members. `mention_room`: mentions every member, for the room's admins, in a dm for both. Raises ApiError: 409
        when that id had another body, 400 (`field` says of what), 403 for those who are not members, 404.
        """
        body = draft(
            content,
            meta=meta,
            reply_to=reply_to,
            client_message_id=client_message_id,
            mentions=mentions,
            mention_room=mention_room,
            thread_id=thread_id,
        )
        path = f"{room_path(room_id)}/messages"
        return cast(Message, await self.call("POST", path, body=body, is_idempotent=True, shape=_MESSAGE))

    async def list_messages(
        self,
        room_id: str,
        *,
        after_seq: int | None = None,
        before_seq: int | None = None,
        limit: int | None = None,
        thread_id: str | None = None,
        top_level: bool | None = None,
    ) -> MessagePage:
        """A page of the room's history, ascending by `seq`, edits and deletions applied: messages after `after_seq`,
        messages before `before_seq`, or the newest ones. `thread_id`: only the replies to that message. `top_level`:
        True for all but replies. `limit`: 1 to 100 (50). Raises ApiError: 400 for both bounds or both choices, 403,
        404."""
        query: Json = {"after_seq": after_seq, "before_seq": before_seq, "limit": limit}
        query |= {"thread_id": thread_id, "top_level": write_flag(top_level)}
        return cast(
            MessagePage, await self.call("GET", f"{room_path(room_id)}/messages", query=query, shape={"messages": list})
        )

    async def list_mentions(
        self, *, before: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> MentionPage:
        """The messages that mention the caller, in all rooms that they are in, the newest first; deleted ones are left
        out. `before`: the id of a message, perhaps a deleted one. `limit`: 1 to 100 (50). Raises ApiError: 400 for a
        `before` that the caller cannot read."""
        query = {"before": before, "limit": limit, "cursor": cursor}
        return cast(MentionPage, await self.call("GET", "/mentions", query=query, shape={"messages": list}))

    async def get_message(self, room_id: str, message_id: str) -> Message:
        """A message as it now stands. Raises ApiError: 403, 404."""
        return cast(Message, await self.call("GET", message_path(room_id, message_id), shape=_MESSAGE))

    async def edit_message(
        self,
        room_id: str,
        message_id: str,
        content: str,
        *,
        meta: Json | UnsetType | None = UNSET,
        mentions: list[str] | UnsetType | None = UNSET,
        mention_room: bool | UnsetType | None = UNSET,
    ) -> Message:
        """Replaces a message's content. `meta`, `mentions` and `mention_room` stay when they are not given, None clears
        them; bounds as in `send_message`. For its sender. Raises ApiError: 403, 404, also of a deleted message."""
        body = given(content=content, meta=meta, mentions=mentions, mention_room=mention_room)
        return cast(Message, await self.call("PUT", message_path(room_id, message_id), body=body, shape=_MESSAGE))

    async def delete_message(self, room_id: str, message_id: str) -> None:
        """Deletes a message's content and leaves a tombstone; deleting it again changes nothing. For its sender and the
        room's admins. Raises ApiError: 403, 404."""
        await self.call("DELETE", message_path(room_id, message_id))

    async def list_events(self, room_id: str, *, after_seq: int = 0, limit: int | None = None) -> EventPage:
        """A page of the room's log after `after_seq`, ascending: messages, edits, deletions, reactions, pins, changes
        of the room and its members, and what a newer server adds. Messages are shown as they now stand. `limit`: 1 to
        100 (50). Raises ApiError: 403, 404."""
        query = {"after_seq": after_seq, "limit": limit}
        return cast(
            EventPage,
            await self.call(
                "GET", f"{room_path(room_id)}/events", query=query, shape={"events": list, "has_more": bool}
            ),
        )

    async def mark_read(self, room_id: str, seq: int) -> Position:
        """Marks the room as read up to `seq`, which acknowledges as far; a lower one than before changes nothing.
        Returns where the caller now stands. Raises ApiError: 400 above the room's `last_seq`, 403, 404."""
        path = f"{room_path(room_id)}/read"
        return cast(Position, await self.call("POST", path, body={"seq": seq}, is_idempotent=True, shape=_POSITION))

    async def ack(self, room_id: str, seq: int) -> Position:
        """Acknowledges the room's events up to `seq`; a lower one than before changes nothing. Returns where the caller
        now stands. Raises ApiError: 400 above the room's `last_seq`, 403, 404."""
        body = {"room_id": room_id, "seq": seq}
        return cast(Position, await self.call("POST", "/acks", body=body, is_idempotent=True, shape=_POSITION))

    async def ack_rooms(self, seqs: Mapping[str, int]) -> RoomAcks:
        """Acknowledges many rooms, `{room_id: seq}`, in calls of 1,000 each. Each room is judged on its own: returns
        where the caller now stands, and for each room that was refused why."""
        stand: RoomAcks = {"rooms": {}, "errors": {}}
        rooms = iter(seqs.items())
        while part := dict(islice(rooms, ACKED_ROOMS)):
            data = await self.call("POST", "/acks", body={"rooms": part}, is_idempotent=True, shape=_ACKS)
            stand["rooms"] |= data["rooms"]
            stand["errors"] |= data["errors"]
        return stand

    async def list_receipts(
        self, room_id: str, *, limit: int | None = None, offset: int | None = None, cursor: str | None = None
    ) -> ReceiptPage:
        """Each member's `last_ack` and `last_read`. `limit`: 1 to 100 (50). For members. Raises ApiError: 403, 404."""
        query = {"limit": limit, "offset": offset, "cursor": cursor}
        return cast(
            ReceiptPage, await self.call("GET", f"{room_path(room_id)}/receipts", query=query, shape={"receipts": list})
        )

    async def get_presence(self, room_id: str) -> Presence:
        """The user ids of those members who are online. For members. Raises ApiError: 403, 404."""
        return cast(Presence, await self.call("GET", f"{room_path(room_id)}/presence", shape={"online": list}))

    # Notifications and topics

    async def notify(self, topic: str, payload: Any, targets: Targets) -> Notified:
        """Stores a notification for every user that `targets` names, each once, and returns how many these are. With an
        API key only. `topic`: 1 to 200 characters; `payload`: any JSON of at most 64 KiB; `targets`: at most 1,000
        `user_ids`. Not tried again after a lost answer, as it could then arrive twice. Raises ApiError: 400, 403 with a
        user token, 404 of a room."""
        body = {"topic": topic, "payload": payload, "targets": targets}
        return cast(Notified, await self.call("POST", "/notify", body=body, shape={"notification_id": str}))

    async def list_notifications(
        self,
        status: Literal["pending", "delivered", "all"] | None = None,
        *,
        limit: int | None = None,
        offset: int | None = None,
        cursor: str | None = None,
    ) -> NotificationPage:
        """The caller's notifications, the newest first; all of them, unless a `status` is given. `limit`: 1 to 100
        (50)."""
        query = {"status": status, "limit": limit, "offset": offset, "cursor": cursor}
        return cast(
            NotificationPage, await self.call("GET", "/notifications", query=query, shape={"notifications": list})
        )

    async def ack_notification(self, notification_id: str) -> AckedNotification:
        """Acknowledges a notification, which is then `delivered` and not sent again; once more changes nothing. Raises
        ApiError: 404."""
        path = f"/notifications/{escape(notification_id)}/ack"
        shape: Shape = {"notification_id": str}
        return cast(AckedNotification, await self.call("POST", path, is_idempotent=True, shape=shape))

    async def subscribe_topic(self, topic: str) -> Subscription:
        """Subscribes the caller to notifications of a topic (1 to 200 characters). Subscribing twice is the same
        subscription."""
        body = {"topic": topic}
        return cast(
            Subscription,
            await self.call("POST", "/subscriptions", body=body, is_idempotent=True, shape={"subscription_id": str}),
        )

    async def list_subscriptions(
        self, *, limit: int | None = None, offset: int | None = None, cursor: str | None = None
    ) -> SubscriptionPage:
        """The caller's subscriptions to topics. `limit`: 1 to 100 (50)."""
        query = {"limit": limit, "offset": offset, "cursor": cursor}
        shape: Shape = {"subscriptions": list}
        return cast(SubscriptionPage, await self.call("GET", "/subscriptions", query=query, shape=shape))

    async def unsubscribe_topic(self, subscription_id: str) -> None:
        """Ends a subscription, by its `subscription_id`. Raises ApiError: 404."""
        await self.call("DELETE", f"/subscriptions/{escape(subscription_id)}")

    # Credentials

    async def create_token(self, user_id: str | None = None, *, expires_in_s: int | None = None) -> UserToken:
        """A user token, for a page or an app, of the caller or another user. With an API key only. `expires_in_s`: 1 to
        86,400 seconds (3,600). Raises ApiError: 403 with a user token."""
        body = {
            name: value for name, value in (("user_id", user_id), ("expires_in", expires_in_s)) if value is not None
        }
        return cast(UserToken, await self.call("POST", "/tokens", body=body, is_idempotent=True, shape={"token": str}))

    async def create_ticket(self) -> Ticket:
        """A ticket for one WebSocket, good for `expires_in` seconds (60)."""
        return cast(Ticket, await self.call("POST", "/ws/token", is_idempotent=True, shape={"token": str}))


def _choose_credentials(
    api_key: str | None,
    user_id: str | None,
    token: str | None = None,
    get_token: GetToken | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Credentials:
    if api_key is not None and user_id is not None and token is None and get_token is None:
        return Credentials({"X-API-Key": api_key, "X-User-Id": user_id})
    if api_key is None and token is not None and get_token is None:
        if not is_token(token):
            raise ValueError("token holds characters that no user token has")
        return Credentials({"Authorization": f"Bearer {token}"})
    if api_key is None and get_token is not None and token is None:
        return Credentials({}, get_token, timeout_s)
    raise ValueError("give api_key and user_id, or token, or get_token")
