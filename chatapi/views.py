"""A member's own view of a room, which is in no log: whether they are told of it while they are offline, and whether
they have hidden it."""

from msgspec import UNSET

from chatapi.access import Access, check_alive, check_member
from chatapi.hub import Hub
from chatapi.models import Principal, UserId
from chatapi.protocol.encoders import encode_frame
from chatapi.protocol.requests import PatchOwnView
from chatapi.protocol.server_frames import RoomMeFrame
from chatapi.room import RoomState
from chatapi.rooms import Rooms
from chatapi.store import Store, Transaction
from chatapi.store import views as store
from chatapi.store.views import View


class Views:
    def __init__(self, store: Store, rooms: Rooms, hub: Hub, access: Access) -> None:
        self._store = store
        self._rooms = rooms
        self._hub = hub
        self._access = access

    async def change(self, principal: Principal, room_id: str, body: PatchOwnView) -> RoomMeFrame:
        """The caller's view of the room afterwards. The user's connections hear of a change. Raises ChatError."""
        room = await self._access.access_member(principal, room_id)
        tenant_key, room_key, user_id = room.tenant.tenant_key, room.room_key, principal.user_id

        async def apply(transaction: Transaction) -> tuple[View, View]:
            check_alive(room)
            check_member(room, user_id)
            before = await store.get_view(transaction, tenant_key, room_key, user_id)
            view = View(
                before.notify if body.notify is UNSET else body.notify,
                before.hidden if body.hidden is UNSET else body.hidden,
            )
            if view.notify is not before.notify:
                now_key = self._store.writer.next_key()
                await store.set_notify(transaction, tenant_key, room_key, user_id, view.notify, now_key)
            if view.hidden is not before.hidden:
                hidden_seq = room.counter.last_seq if view.hidden else None
                await store.set_hidden(transaction, tenant_key, room_key, user_id, hidden_seq)
            return before, view

        def publish(result: tuple[View, View]) -> None:
            before, view = result
            room.members[user_id].notify = view.notify
            room.set_hidden(user_id, view.hidden)
            self._rooms.rankings.set_hidden(tenant_key, user_id, room_key, view.hidden)
            if view != before:
                tell_view(self._hub, room, user_id)

        # A barrier: later writes in the queue look at the member in memory.
        _before, view = await self._store.writer.change(apply, publish, barrier=True)
        return RoomMeFrame(room_id=room.room_id, notify=view.notify, hidden=view.hidden)


def unhide(rooms: Rooms, hub: Hub, room: RoomState, sender_id: UserId) -> None:
    """A message has come: everybody but its sender sees the room again."""
    shown = room.hidden_by - {sender_id}
    if not shown:
        return
    room.hidden_by = room.hidden_by - shown
    rooms.rankings.show(room.tenant.tenant_key, room.room_key, shown)
    for user_id in hub.list_connected(room.tenant.tenant_key, shown):
        tell_view(hub, room, user_id)


def tell_view(hub: Hub, room: RoomState, user_id: UserId) -> None:
    """Tells the user's connections how the user sees the room now."""
    member = room.members[user_id]
    frame = RoomMeFrame(room_id=room.room_id, notify=member.notify, hidden=user_id in room.hidden_by)
    encoded = encode_frame(frame)
    for connection in hub.connections_of(room.tenant.tenant_key, user_id):
        hub.send_undroppable(connection, {(room, RoomMeFrame): encoded})
