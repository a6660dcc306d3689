"""What the server holds at the end: every room's log, and who was in the room at each of its seqs."""

from dataclasses import dataclass, field

from checker.clients import Warden
from checker.journal import Frame


@dataclass(slots=True)
class RoomTruth:
    room_id: str
    last_seq: int
    events: list[Frame]
    receipts: dict[str, Frame]
    messages: list[Frame] = field(default_factory=list)
    """The room's history, as it is read."""
    own: Frame = field(default_factory=dict)
    """The room as the warden's list of rooms shows it."""
    stays: dict[str, list[tuple[int, int | None]]] = field(default_factory=dict)
    """By user: the seqs of joining (0 for a founder) and of leaving."""

    def find(self, seq: int) -> Frame | None:
        return self.events[seq - 1] if 0 < seq <= len(self.events) else None

    def joined(self, user_id: str) -> set[int]:
        return {first for first, _ in self.stays.get(user_id, [])}

    def is_member(self, user_id: str, seq: int) -> bool:
        """After the event `seq`."""
        return any(first <= seq and (last is None or seq < last) for first, last in self.stays.get(user_id, []))


async def read_truth(warden: Warden) -> dict[str, RoomTruth]:
    found = {}
    for room in await warden.list_rooms():
        room_id = room["room_id"]
        receipts = {receipt["user_id"]: receipt for receipt in await warden.list_receipts(room_id)}
        truth = RoomTruth(room_id, room["last_seq"], await warden.read_log(room_id), receipts)
        truth.own = room
        truth.messages = await warden.read_messages(room_id)
        truth.stays = find_stays(room["metadata"]["founders"], truth.events)
        found[room_id] = truth
    return found


def find_stays(founders: list[str], events: list[Frame]) -> dict[str, list[tuple[int, int | None]]]:
    stays: dict[str, list[tuple[int, int | None]]] = {user_id: [(0, None)] for user_id in founders}
    for event in events:
        if event["type"] == "member.joined":
            stays.setdefault(event["user_id"], []).append((event["seq"], None))
        elif event["type"] in ("member.left", "member.banned") and stays.get(event["user_id"]):
            first, last = stays[event["user_id"]][-1]
            if last is None:  # else it is a ban of a user who was not a member
                stays[event["user_id"]][-1] = (first, event["seq"])
    return stays
