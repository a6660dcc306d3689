"""Tells users who is online and who is typing. Nothing of it is stored, except when users were last online.

A user is online from their first connection on, and offline only a grace after the last one ended, so that others do
not see a reconnect. Frames of both kinds may be dropped.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from chatapi.access import check_may_type
from chatapi.clock import Clock
from chatapi.connection import Connection, OnlineUser
from chatapi.errors import ChatError
from chatapi.hub import Hub
from chatapi.last_seen import LastSeen
from chatapi.models import TenantKey, TenantState, UserId
from chatapi.protocol.encoders import encode_frame
from chatapi.protocol.server_frames import PresenceStatus, PresenceUpdateFrame, TypingAction, TypingFrame
from chatapi.room import RoomState

MAX_PRESENCE_MEMBERS = 200  # presence in larger rooms would be mostly noise, and a storm at each restart
TOLD_AT_A_STRETCH = 1_000  # rooms and frames: about 5 ms of the loop's time
STRETCH_SECONDS = 0.01  # between two stretches of a storm, for everything else
LOOKED_AT_A_STRETCH = 10_000  # users: about 1 ms of the loop's time
ANNOUNCE_SECONDS = 0.25  # users who come online within it are announced together, to all who are connected by then


class _News:
    """Something about a user, and the rooms in which that is still to be told."""

    __slots__ = ("frame", "rooms", "send", "told", "user_id")

    def __init__(
        self, user_id: UserId, rooms: list[RoomState], frame: bytes, send: Callable[[Connection, bytes], None]
    ) -> None:
        self.user_id = user_id
        self.rooms = rooms
        self.frame = frame
        self.send = send
        self.told: set[Connection] = set()


class Presence:
    """`grace_seconds` after the last connection has ended the user is offline; `typing_seconds` after `typing.start`
    the server tells the others that the user has stopped."""

    def __init__(
        self, hub: Hub, last_seen: LastSeen, clock: Clock, *, grace_seconds: float, typing_seconds: float
    ) -> None:
        self._hub = hub
        self._clock = clock
        self._last_seen = last_seen
        self._grace_seconds = grace_seconds
        self._typing_seconds = typing_seconds
        self._arrivals: dict[OnlineUser, list[RoomState]] = {}  # not told of yet
        self._due_arrivals: dict[OnlineUser, list[RoomState]] = {}  # the same, sorted: these are next
        self._news: deque[_News] = deque()  # being told, the oldest first
        self._is_due = False  # there is a timer for the next stretch
        self._typists: dict[RoomState, set[OnlineUser]] = {}
        self.tell_backend: Callable[[TenantState, UserId, PresenceStatus], None] | None = None
        self._is_ending = False  # the backends were told that all have gone

    # Online and offline

    def connected(self, connection: Connection, user: OnlineUser) -> None:
        """A connection of this user was told `ready`."""
        if user.offline_timer is not None:
            user.offline_timer.cancel()
            user.offline_timer = None
        user.last_rooms = []
        if user.announced:
            return
        user.announced = True
        self._announce_in(ANNOUNCE_SECONDS)
        self._arrivals[user] = list(connection.rooms)

    def disconnected(self, user: OnlineUser, rooms: list[RoomState], *, has_grace: bool = True) -> None:
        """A connection of this user, which was in these rooms, has ended. Without a grace they are offline at once."""
        if user.connections:
            return
        self._stop_all_typing(user)
        if user.announced:
            if user.offline_timer is not None:
                return  # this one was never told `ready`: the grace after the one before goes on
            grace_seconds = self._grace_seconds if has_grace else 0.0
            user.offline_timer = self._clock.call_later(grace_seconds, self._leave, user)
            user.last_rooms += rooms
        else:
            self._hub.forget(user)

    def joined(self, room: RoomState, user_id: UserId) -> None:
        """The other members see a user within their grace as online, so they must hear later that the user is
        offline."""
        user = self._hub.find_online(room.tenant.tenant_key, user_id)
        if user is not None and user.offline_timer is not None:
            user.last_rooms.append(room)

    async def list_online(self, room: RoomState) -> list[UserId]:
        """The members who are online, the longest-standing first. A user within their grace is online.

        Looks at the fewer of both, the members and the users online in the tenant, and lets others have their turn.
        """
        online, members = self._hub.online_of_tenant(room.tenant.tenant_key), room.members
        candidates, others = (list(online), members) if len(online) < len(members) else (list(members), online)
        found: list[UserId] = []
        for start in range(0, len(candidates), LOOKED_AT_A_STRETCH):
            if start:
                await asyncio.sleep(0)
            found += [user_id for user_id in candidates[start : start + LOOKED_AT_A_STRETCH] if user_id in others]
        standing = [member for user_id in found if (member := members.get(user_id)) is not None]
        standing.sort(key=lambda member: (member.joined_at_us, member.user_id))
        return [member.user_id for member in standing]

    def _announce(self) -> None:
        """Tells some of the news, in the order in which it happened; that of arrivals room by room, since a listener
        gets all of a stretch in one write."""
        self._is_due = False
        cost = 0
        while (self._news or self._due_arrivals or self._arrivals) and cost < TOLD_AT_A_STRETCH:
            if not self._news:
                if not self._due_arrivals:
                    self._due_arrivals = dict(sorted(self._arrivals.items(), key=_find_first_room))
                    self._arrivals.clear()
                user = next(iter(self._due_arrivals))
                self._tell_backend(user, "online")
                self._news.append(self._make_news(user, "online", self._due_arrivals.pop(user)))
            cost += 1 + self._tell(self._news[0], TOLD_AT_A_STRETCH - cost)
            if not self._news[0].rooms:
                self._news.popleft()
        if self._news or self._due_arrivals or self._arrivals:
            self._announce_in(STRETCH_SECONDS)

    def _announce_in(self, seconds: float) -> None:
        if not self._is_due:
            self._is_due = True
            self._clock.call_later(seconds, self._announce)

    def _leave(self, user: OnlineUser) -> None:
        user.offline_timer = None
        if user.connections:  # one that has not been told `ready` yet: the user stays online
            return
        rooms = user.last_rooms
        self._note_seen(user)
        self._hub.forget(user)
        if not self._forget_arrival(user):
            self._tell_backend(user, "offline")
            self._news.append(self._make_news(user, "offline", rooms))
            self._announce_in(0)

    def _forget_arrival(self, user: OnlineUser) -> bool:
        """Whether nobody was told of it yet."""
        arrivals = self._arrivals if user in self._arrivals else self._due_arrivals
        return arrivals.pop(user, None) is not None

    def _tell_backend(self, user: OnlineUser, status: PresenceStatus) -> None:
        if self.tell_backend is not None and not self._is_ending:
            self.tell_backend(user.tenant, user.user_id, status)

    def _make_news(self, user: OnlineUser, status: PresenceStatus, rooms: list[RoomState]) -> _News:
        frame = encode_frame(PresenceUpdateFrame(user_id=user.user_id, status=status))
        return _News(user.user_id, rooms, frame, self._hub.send_ephemeral)

    def tell_sharers(self, user_id: UserId, rooms: list[RoomState], frame: bytes) -> None:
        """Tells those who share one of these rooms with the user, as they hear of the user's presence."""
        self._news.append(_News(user_id, rooms, frame, self._hub.send_within_bound))
        self._announce_in(0)

    def note_all(self) -> None:
        """The server ends: everybody was online until now, or until their grace began."""
        for user in self._hub.list_online():
            if user.announced:
                self._note_seen(user)
                if user not in self._arrivals and user not in self._due_arrivals:
                    self._tell_backend(user, "offline")
        self._is_ending = True

    def _note_seen(self, user: OnlineUser) -> None:
        seconds_ago = 0.0 if user.connections else self._grace_seconds
        self._last_seen.note(user.tenant.tenant_key, user.user_id, seconds_ago)

    def _tell(self, news: "_News", most: int) -> int:
        """Tells those who share a room, each connection once, however many rooms they share; the rest of the rooms
        comes later. Returns the cost in rooms and connections looked at, `most` or somewhat more."""
        user_id = news.user_id
        cost = 0
        while news.rooms and cost < most:
            room = news.rooms.pop()
            cost += 1
            if len(room.members) > MAX_PRESENCE_MEMBERS or user_id not in room.members:
                continue
            for connection in [*self._listeners(room, user_id), *room.unsubscribed]:
                cost += 1
                if connection not in news.told and connection.user_id != user_id:
                    news.told.add(connection)
                    news.send(connection, news.frame)
        return cost

    def _listeners(self, room: RoomState, except_id: UserId) -> list[Connection]:
        """The members who listen, except one. Users who only read a channel hear of nobody. Looks at the fewer of both,
        the members and the listeners."""
        members, subscribers = room.members, room.subscribers
        if len(members) < len(subscribers):
            tenant_key = room.tenant.tenant_key
            return [
                connection
                for user_id in members
                if user_id != except_id
                for connection in self._hub.connections_of(tenant_key, user_id)
                if connection in subscribers
            ]
        return [
            connection
            for connection in subscribers
            if connection.user_id != except_id and connection.user_id in members
        ]

    # Typing

    def start_typing(self, connection: Connection, room: RoomState) -> None:
        """The others hear of it once; each further call only puts off the server's own stop."""
        user = self._hub.find_online(connection.tenant.tenant_key, connection.user_id)
        assert user is not None  # it has this connection
        timer = user.typing.pop(room, None)
        if timer is None:
            self._typists.setdefault(room, set()).add(user)
            self._tell_typing(room, user.user_id, "start")
        else:
            timer.cancel()
        user.typing[room] = self._clock.call_later(self._typing_seconds, self._stop_typing, user, room)

    def stop_typing(self, room: RoomState, user_id: UserId) -> None:
        """The user stopped, sent a message or left the room. Does nothing if they were not typing."""
        user = self._hub.find_online(room.tenant.tenant_key, user_id)
        if user is not None and room in user.typing:
            self._stop_typing(user, room)

    def stop_all_typing(self, tenant_key: TenantKey, user_id: UserId) -> None:
        """The user was banned from the tenant."""
        user = self._hub.find_online(tenant_key, user_id)
        if user is not None:
            self._stop_all_typing(user)

    def stop_forbidden_typing(self, room: RoomState) -> None:
        """After a change of the room's rules: those who may not post any more have stopped. If they are very many, the
        others hear of some of them a moment later."""
        told = 0
        for user in list(self._typists.get(room, ())):
            try:
                check_may_type(room, user.user_id)
            except ChatError:
                if told >= TOLD_AT_A_STRETCH:
                    self._clock.call_later(STRETCH_SECONDS, self.stop_forbidden_typing, room)
                    return
                told += 1 + self._stop_typing(user, room)

    def _stop_all_typing(self, user: OnlineUser) -> None:
        for room in list(user.typing):
            self._stop_typing(user, room)

    def _stop_typing(self, user: OnlineUser, room: RoomState) -> int:
        user.typing.pop(room).cancel()
        typists = self._typists[room]
        typists.remove(user)
        if not typists:
            del self._typists[room]
        return self._tell_typing(room, user.user_id, "stop")

    def _tell_typing(self, room: RoomState, user_id: UserId, action: TypingAction) -> int:
        """Returns how many connections were told."""
        frame = encode_frame(TypingFrame(room_id=room.room_id, user_id=user_id, action=action))
        listeners = self._listeners(room, user_id)
        for connection in listeners:
            self._hub.send_ephemeral(connection, frame)
        return len(listeners)


def _find_first_room(arrival: tuple[OnlineUser, list[RoomState]]) -> int:
    _, rooms = arrival
    return rooms[0].room_key if rooms else 0
