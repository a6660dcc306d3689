"""Profiles of users: reading, writing and finding them, and telling those who see them."""

from collections.abc import Sequence

from msgspec import UNSET

from chatapi.access import check_own_or_key
from chatapi.banned_users import check_not_erasing, check_user_not_banned
from chatapi.errors import forbidden, not_found
from chatapi.hub import Hub
from chatapi.models import Principal, Scope, TenantKey, TenantState, UserId
from chatapi.presence import MAX_PRESENCE_MEMBERS, Presence
from chatapi.protocol.answers import User
from chatapi.protocol.encoders import encode_frame
from chatapi.protocol.json import dumps_text, is_same_json
from chatapi.protocol.pages import Page, SortKey, Window
from chatapi.protocol.server_frames import UserUpdatedFrame
from chatapi.protocol.user_requests import PutUser
from chatapi.room import RoomState
from chatapi.rooms import Rooms
from chatapi.store import Store, Transaction, prefixes
from chatapi.store import rooms as store_rooms
from chatapi.store import users as store_users
from chatapi.store.readers import Rows
from chatapi.store.users import StoredUser
from chatapi.tasks import Tasks

MAX_UNTOLD = 10_000  # users whose change waits to be told: beyond that changes are told to nobody


class Profiles:
    """The operations on profiles. Each raises ChatError."""

    def __init__(self, store: Store, rooms: Rooms, hub: Hub, presence: Presence, tasks: Tasks) -> None:
        self._store = store
        self._rooms = rooms
        self._hub = hub
        self._presence = presence
        self._tasks = tasks
        self._untold: dict[tuple[TenantKey, UserId], None] = {}  # the first to change comes first
        self._is_telling = False

    # Reading

    async def get_user(self, principal: Principal, user_id: str) -> User:
        """NOT_FOUND for a user of whom the caller may know nothing."""
        tenant_key = principal.tenant.tenant_key
        found = await store_users.find_user(self._store.readers, tenant_key, user_id)
        if found is not None:
            shows_last_seen = user_id in await self._find_visible(principal, [user_id])
            if shows_last_seen or found.created_at_us is not None:
                return found.record(shows_last_seen=shows_last_seen)
        raise not_found("User")

    async def list_users(self, principal: Principal, user_ids: Sequence[str], window: Window) -> Page:
        """Those of the given users of whom the caller may know something, in the order in which they are given."""
        first = window.offset if window.after is None else int(window.after[0]) + 1
        wanted = user_ids[first : first + window.limit]
        visible = await self._find_visible(principal, wanted)
        flags = [(user_id, user_id in visible) for user_id in wanted]
        rows, was_full = await store_users.read_users(self._store.readers, principal.tenant.tenant_key, flags)
        end = first + (int(rows[-1][0]) + 1 if was_full else len(wanted))
        return Page([row[-1] for row in rows], (end - 1,) if end < len(user_ids) else None)

    async def search_users(self, principal: Principal, q: str, window: Window) -> Page:
        """For the API key: users whose id or name begins so, by name, then id."""
        if principal.scope is not Scope.API_KEY:
            raise forbidden("Only the tenant's API key may search for users")
        readers, tenant_key = self._store.readers, principal.tenant.tenant_key
        found = await prefixes.find_users(readers, tenant_key, q, window)
        rows = await store_users.read_users(readers, tenant_key, [(str(key[-1]), True) for key in found.keys])
        return _make_page(found, rows)

    async def search_members(self, room: RoomState, q: str, now_us: int, window: Window) -> Page:
        """As `search_users`, of a room that the caller may read."""
        readers, tenant_key, room_key = self._store.readers, room.tenant.tenant_key, room.room_key
        found = await prefixes.find_members(readers, tenant_key, room_key, len(room.members), q, window)
        user_ids = [str(key[-1]) for key in found.keys]
        return _make_page(found, await store_rooms.read_members(readers, tenant_key, room_key, now_us, user_ids))

    async def find_face(self, tenant: TenantState, user_id: str) -> tuple[str | None, str | None]:
        """The name and the avatar of a member."""
        found = await store_users.find_user(self._store.readers, tenant.tenant_key, user_id)
        return (None, None) if found is None else (found.name, found.avatar_url)

    async def _find_visible(self, principal: Principal, user_ids: Sequence[str]) -> set[str]:
        """Those of whom the caller may know when they were last online: the key of all, users of themselves and of
        those who hear of their presence."""
        if principal.scope is Scope.API_KEY:
            return set(user_ids)
        others = [user_id for user_id in user_ids if user_id != principal.user_id]
        if not others:
            return set(user_ids)
        found = await store_users.find_sharers(
            self._store.readers, principal.tenant.tenant_key, principal.user_id, others, MAX_PRESENCE_MEMBERS
        )
        return found | {principal.user_id}

    # Writing

    async def put_user(self, principal: Principal, user_id: UserId, body: PutUser) -> User:
        """The user afterwards. Nobody is told of a body that changes nothing."""
        check_own_or_key(principal, user_id)
        tenant_key = principal.tenant.tenant_key

        async def apply(transaction: Transaction) -> tuple[StoredUser, bool]:
            check_user_not_banned(principal.tenant, principal.user_id)
            check_not_erasing(principal.tenant, user_id)
            before = await store_users.find_user(transaction, tenant_key, user_id)
            if before is None:
                before = StoredUser(user_id, None, None, None, None, None, None)
            after = _apply_body(before, body)
            if before.created_at_us is not None and after == before:
                return before, False
            return await store_users.put_user(transaction, tenant_key, after), True

        def publish(result: tuple[StoredUser, bool]) -> None:
            if result[1]:
                self._announce(tenant_key, user_id)

        stored, _is_new = await self._store.writer.change(apply, publish, characters=body.count_characters())
        return stored.record(shows_last_seen=True)

    # Telling

    def _announce(self, tenant_key: TenantKey, user_id: UserId) -> None:
        """Tells those who hear of the user's presence, and the user's own connections."""
        if not self._hub.online_of_tenant(tenant_key) or len(self._untold) >= MAX_UNTOLD:
            return
        self._untold[tenant_key, user_id] = None
        if not self._is_telling:
            self._is_telling = True
            self._tasks.spawn("news of profiles", self._tell())

    async def _tell(self) -> None:
        """Tells one user's change after the other, as the profile is by then: two changes may be one."""
        try:
            while self._untold:
                tenant_key, user_id = next(iter(self._untold))
                del self._untold[tenant_key, user_id]
                await self._tell_one(tenant_key, user_id)
        finally:
            self._is_telling = False

    async def _tell_one(self, tenant_key: TenantKey, user_id: UserId) -> None:
        readers = self._store.readers
        room_ids = await store_users.list_small_rooms(readers, tenant_key, user_id, MAX_PRESENCE_MEMBERS)
        found = await store_users.find_user(readers, tenant_key, user_id)
        if found is None:  # the tenant was deleted
            return
        # Nobody listens in a room that is not loaded.
        rooms = [room for room_id in room_ids if (room := self._rooms.find_loaded(tenant_key, room_id)) is not None]
        frame = encode_frame(UserUpdatedFrame(user=found.record(shows_last_seen=True)))
        for connection in self._hub.connections_of(tenant_key, user_id):
            self._hub.send_within_bound(connection, frame)
        self._presence.tell_sharers(user_id, rooms, frame)


def _apply_body(before: StoredUser, body: PutUser) -> StoredUser:
    """The profile after the change; `before` itself if nothing changes."""
    name = before.name if body.name is UNSET else body.name
    avatar_url = before.avatar_url if body.avatar_url is UNSET else body.avatar_url
    metadata = before.metadata
    if body.metadata is not UNSET:
        given = None if body.metadata is None else dumps_text(body.metadata)
        metadata = metadata if is_same_json(given, metadata) else given
    return before._replace(name=name, avatar_url=avatar_url, metadata=metadata)


def _make_page(found: prefixes.FoundUsers, rows: Rows) -> Page:
    """The page of what was found, as far as it fits."""
    last: SortKey | None = found.resume
    if rows.has_more:
        last = found.keys[int(rows.rows[-1][0])]
    return Page([row[-1] for row in rows.rows], last)
