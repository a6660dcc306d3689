"""Who is online, and who is typing: told to those concerned, never stored.

A user is online from its first connection on, and offline only a grace after its last one ended, so that a reconnect
is no event. Frames of both kinds may be dropped.
"""

import asyncio
from collections.abc import Iterable

from chatapi.hub import Connection, Hub, UserSessions
from chatapi.models import UserId
from chatapi.protocol.replies import encode_frame
from chatapi.rooms import RoomState

MAX_PRESENCE_MEMBERS = 200  # presence in larger rooms would be mostly noise, and a storm at each restart
TOLD_AT_A_STRETCH = 1_000  # frames: about 5 ms of the loop's time
STRETCH_SECONDS = 0.01  # between two stretches of a storm, for everything else
ANNOUNCE_SECONDS = 0.25  # those who come online together are told of in one turn, to those who are there by then


class Presence:
    def __init__(self, hub: Hub, *, grace_seconds: float, typing_seconds: float) -> None:
        self._hub = hub
        self._grace_seconds = grace_seconds
        self._typing_seconds = typing_seconds
        self._arrivals: dict[UserSessions, list[RoomState]] = {}

    # Online and offline

    def connected(self, connection: Connection, sessions: UserSessions) -> None:
        """A connection of this user was told `ready`."""
        if sessions.offline_timer is not None:
            sessions.offline_timer.cancel()
            sessions.offline_timer = None
        if sessions.announced:
            return
        sessions.announced = True
        if not self._arrivals:
            asyncio.get_running_loop().call_later(ANNOUNCE_SECONDS, self._announce)
        self._arrivals[sessions] = list(connection.rooms)

    def disconnected(self, sessions: UserSessions, rooms: list[RoomState]) -> None:
        """A connection of this user, which was in these rooms, has ended."""
        if sessions.connections:
            return
        for room in list(sessions.typing):
            self._stop_typing(sessions, room)
        if sessions.announced:
            if sessions.offline_timer is not None:
                return  # this one was never told `ready`: the grace after the one before goes on
            loop = asyncio.get_running_loop()
            sessions.offline_timer = loop.call_later(self._grace_seconds, self._leave, sessions, rooms)
        else:
            self._hub.forget(sessions)

    def online_in(self, room: RoomState) -> list[UserId]:
        """The members who are online, the longest-standing first; one within its grace is online."""
        tenant_key = room.tenant.tenant_key
        return [user_id for user_id in room.members if self._hub.find_sessions(tenant_key, user_id) is not None]

    def _announce(self) -> None:
        told = 0
        while self._arrivals and told < TOLD_AT_A_STRETCH:
            sessions = next(iter(self._arrivals))
            told += 1 + self._tell(sessions, self._arrivals.pop(sessions), "online")
        if self._arrivals:
            asyncio.get_running_loop().call_later(STRETCH_SECONDS, self._announce)

    def _leave(self, sessions: UserSessions, rooms: list[RoomState]) -> None:
        sessions.offline_timer = None
        if sessions.connections:  # one that has not been told `ready` yet: the user stays online
            return
        self._hub.forget(sessions)
        if self._arrivals.pop(sessions, None) is None:  # else nobody was told of the arrival
            self._tell(sessions, rooms, "offline")

    def _tell(self, sessions: UserSessions, rooms: Iterable[RoomState], status: str) -> int:
        """Tells each connection of those who share a room once, however many rooms they share; returns how many."""
        concerned: dict[Connection, None] = {}
        for room in rooms:
            if len(room.members) <= MAX_PRESENCE_MEMBERS and sessions.user_id in room.members:
                concerned.update((connection, None) for connection in _members_in(room, sessions.user_id))
        frame = encode_frame("presence.update", {"user_id": sessions.user_id, "status": status})
        for connection in concerned:
            self._hub.send_ephemeral(connection, frame)
        return len(concerned)

    # Typing

    def start_typing(self, connection: Connection, room: RoomState) -> None:
        sessions = self._hub.find_sessions(connection.tenant.tenant_key, connection.user_id)
        assert sessions is not None  # it has this connection
        timer = sessions.typing.pop(room, None)
        if timer is None:
            self._tell_typing(room, sessions.user_id, "start")
        else:
            timer.cancel()
        loop = asyncio.get_running_loop()
        sessions.typing[room] = loop.call_later(self._typing_seconds, self._stop_typing, sessions, room)

    def stop_typing(self, room: RoomState, user_id: UserId) -> None:
        """It said so, sent its message or left the room; nothing if it was not typing."""
        sessions = self._hub.find_sessions(room.tenant.tenant_key, user_id)
        if sessions is not None and room in sessions.typing:
            self._stop_typing(sessions, room)

    def _stop_typing(self, sessions: UserSessions, room: RoomState) -> None:
        sessions.typing.pop(room).cancel()
        self._tell_typing(room, sessions.user_id, "stop")

    def _tell_typing(self, room: RoomState, user_id: UserId, action: str) -> None:
        frame = encode_frame("typing", {"room_id": room.room_id, "user_id": user_id, "action": action})
        for connection in _members_in(room, user_id):
            self._hub.send_ephemeral(connection, frame)


def _members_in(room: RoomState, but: UserId) -> list[Connection]:
    """The listening members, but one: those who merely read a channel are told of nobody."""
    return [
        connection
        for connection in room.subscribers
        if connection.user_id != but and connection.user_id in room.members
    ]
