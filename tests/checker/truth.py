"""What the server holds at the end: every room's log, who was in the room at each of its seqs, and each user's own."""

import asyncio
import time
from dataclasses import dataclass, field

from checker.clients import WORDS, Device
from checker.journal import Frame
from checker.warden import Warden

INDEX_SECONDS = 30.0  # for the search index to catch up
POLL_SECONDS = 0.1
END_SECONDS = 120.0  # for the server to end what has been idle
END_POLL_SECONDS = 2.0


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
    found: dict[str, list[Frame]] = field(default_factory=dict)
    """By word: the messages that a search finds."""

    def find(self, seq: int) -> Frame | None:
        return self.events[seq - 1] if 0 < seq <= len(self.events) else None

    def joined(self, user_id: str) -> set[int]:
        return {first for first, _ in self.stays.get(user_id, [])}

    def is_member(self, user_id: str, seq: int) -> bool:
        """After the event `seq`."""
        return any(first <= seq and (last is None or seq < last) for first, last in self.stays.get(user_id, []))


@dataclass(slots=True)
class UserTruth:
    name: str | None = None
    """That of the profile."""
    blocked: set[str] = field(default_factory=set)
    rooms: dict[str, Frame] = field(default_factory=dict)
    """As the user's own list shows them, the hidden ones included."""


@dataclass(slots=True)
class Truth:
    rooms: dict[str, RoomTruth]
    users: dict[str, UserTruth] = field(default_factory=dict)
    reports: list[Frame] = field(default_factory=list)
    mentions: list[Frame] = field(default_factory=list)
    """The messages that mention the warden."""


async def read_truth(warden: Warden, devices: list[Device]) -> Truth:
    """`devices`: one of each user, the warden's too."""
    await wait_for_ends(warden)
    await wait_for_index(warden)
    truth = Truth({}, {device.user_id: await read_user(device) for device in devices})
    for room_id, room in truth.users[warden.user_id].rooms.items():
        truth.rooms[room_id] = await read_room(warden, room)
    for status in ("open", "resolved"):
        truth.reports += await warden.read_list("/reports", "reports", status=status)
    truth.mentions = await warden.read_list("/mentions", "messages")
    return truth


async def wait_for_ends(warden: Warden) -> None:
    """Of messages that nobody goes on with."""
    deadline_s = time.monotonic() + END_SECONDS
    while is_open := [
        message
        for room in await warden.read_list("/rooms", "rooms", hidden="true")
        for message in await warden.read_messages(room["room_id"])
        if message.get("stream", {}).get("state") == "open"
    ]:
        if time.monotonic() > deadline_s:
            warden.journal.fault(f"messages that do not end: {is_open}")
            return
        await asyncio.sleep(END_POLL_SECONDS)


async def wait_for_index(warden: Warden) -> None:
    deadline_s = time.monotonic() + INDEX_SECONDS
    while lag := await warden.read_search_lag():
        if time.monotonic() > deadline_s:
            warden.journal.fault(f"{lag} messages are not in the search index")
            return
        await asyncio.sleep(POLL_SECONDS)


async def read_room(warden: Warden, room: Frame) -> RoomTruth:
    room_id = room["room_id"]
    receipts = {receipt["user_id"]: receipt for receipt in await warden.list_receipts(room_id)}
    truth = RoomTruth(room_id, room["last_seq"], await warden.read_log(room_id), receipts)
    truth.own = room
    truth.messages = await warden.read_messages(room_id)
    truth.stays = find_stays(room["metadata"]["founders"], truth.events)
    for word in WORDS:
        results = await warden.read_list("/search", "results", q=word, room_id=room_id)
        truth.found[word] = [result["message"] for result in results]
    return truth


async def read_user(device: Device) -> UserTruth:
    profiles = await device.read_profiles()
    blocks = await device.read_list("/blocks", "blocks")
    rooms = await device.read_list("/rooms", "rooms", hidden="true")
    return UserTruth(
        profiles.get(device.user_id),
        {block["user_id"] for block in blocks},
        {room["room_id"]: room for room in rooms},
    )


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
