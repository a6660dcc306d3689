"""What a client may do over both transports gives one result over both."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from driver import Server, Socket, User

Outcome = tuple[str, dict[str, Any]]
"""What the caller was told: the kind of answer, and what of it does not differ from run to run."""


class OverRest:
    def __init__(self, user: User) -> None:
        self._user = user

    async def __call__(self, name: str, room_id: str, **fields: Any) -> Outcome:
        message_id = fields.pop("message_id", "")
        messages = f"/rooms/{room_id}/messages"
        reply = await {
            "send": lambda: self._user.post(messages, fields),
            "edit": lambda: self._user.put(f"{messages}/{message_id}", fields),
            "delete": lambda: self._user.delete(f"{messages}/{message_id}"),
            "ack": lambda: self._user.post("/acks", {"room_id": room_id, **fields}),
            "read": lambda: self._user.post(f"/rooms/{room_id}/read", fields),
        }[name]()
        if reply.status >= 400:
            return "error", {name: value for name, value in reply.error.items() if name != "details"}
        return "done", reply.data if reply.body else {}


class OverWebSocket:
    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    async def __call__(self, name: str, room_id: str, **fields: Any) -> Outcome:
        frame_type = {"send": "send_message", "edit": "message.edit", "delete": "message.delete"}.get(name, name)
        await self._socket.send(frame_type, room_id=room_id, request_id="asked", **fields)
        while (frame := await self._socket.next()).get("request_id") != "asked":
            pass
        kind = "error" if frame.pop("type") == "error" else "done"
        del frame["request_id"]
        frame.pop("details", None)
        return kind, frame


Call = Callable[..., Awaitable[Outcome]]


class Stage:
    """Two rooms, and a caller who is a member of one."""

    def __init__(self, caller: Call, owner: User, room_id: str, foreign_id: str, mine: str, theirs: str) -> None:
        self.call = caller
        self.owner = owner
        self.room_id = room_id
        self.foreign_id = foreign_id
        self.mine = mine
        self.theirs = theirs

    async def log(self) -> list[tuple[Any, ...]]:
        events = (await self.owner.get(f"/rooms/{self.room_id}/events", limit=100)).data["events"]
        return [(event["seq"], event["type"], event.get("content"), event.get("meta")) for event in events]

    async def cursors(self) -> list[tuple[str, int, int]]:
        receipts = (await self.owner.get(f"/rooms/{self.room_id}/receipts")).data["receipts"]
        return [(receipt["user_id"], receipt["last_ack"], receipt["last_read"]) for receipt in receipts]


async def set_up(server: Server, transport: str) -> Stage:
    owner, caller = server.user(f"owner-{transport}"), server.user(f"caller-{transport}")
    room_id, foreign_id = await owner.make_room(caller.user_id), await owner.make_room()
    mine, theirs = await caller.say(room_id, "mine"), await owner.say(room_id, "theirs")
    call = OverRest(caller) if transport == "rest" else OverWebSocket(await caller.connect())
    return Stage(call, owner, room_id, foreign_id, mine["message_id"], theirs["message_id"])


Case = Callable[[Stage], list[tuple[str, dict[str, Any]]]]

CASES: dict[str, Case] = {
    "send": lambda stage: [("send", {"content": "hi", "meta": {"k": 1}, "reply_to": stage.theirs})],
    "send the smallest and the largest": lambda _: [("send", {"content": "x"}), ("send", {"content": "ü" * 32768})],
    "send nothing": lambda _: [("send", {"content": ""})],
    "send too much": lambda _: [("send", {"content": "ü" * 32769})],
    "send no content": lambda _: [("send", {})],
    "send a number": lambda _: [("send", {"content": 7})],
    "send bad meta": lambda _: [("send", {"content": "x", "meta": [1]})],
    "send large meta": lambda _: [("send", {"content": "x", "meta": {"k": "v" * 16384}})],
    "send a nul": lambda _: [("send", {"content": "a\x00b"})],
    "send a big integer": lambda _: [("send", {"content": "x", "meta": {"k": 2**53}})],
    "send a bad id": lambda _: [("send", {"content": "x", "client_message_id": "i" * 65})],
    "send to a stranger's room": lambda stage: [("send", {"room_id": stage.foreign_id, "content": "x"})],
    "send to no room": lambda _: [("send", {"room_id": "room_x", "content": "x"})],
    "reply to nothing": lambda _: [("send", {"content": "x", "reply_to": "msg_x"})],
    "send twice": lambda _: [("send", {"content": "x", "client_message_id": "i"})] * 2,
    "send another one with the same id": lambda _: [
        ("send", {"content": "x", "client_message_id": "i"}),
        ("send", {"content": "y", "client_message_id": "i"}),
    ],
    "edit": lambda stage: [("edit", {"message_id": stage.mine, "content": "better", "meta": {"k": 1}})],
    "edit without meta": lambda stage: [
        ("edit", {"message_id": stage.mine, "content": "a", "meta": {"k": 1}}),
        ("edit", {"message_id": stage.mine, "content": "b"}),
        ("edit", {"message_id": stage.mine, "content": "c", "meta": None}),
    ],
    "edit to nothing": lambda stage: [("edit", {"message_id": stage.mine, "content": ""})],
    "edit to too much": lambda stage: [("edit", {"message_id": stage.mine, "content": "x" * 65537})],
    "edit another's": lambda stage: [("edit", {"message_id": stage.theirs, "content": "x"})],
    "edit what is not there": lambda _: [("edit", {"message_id": "msg_x", "content": "x"})],
    "edit what was deleted": lambda stage: [
        ("delete", {"message_id": stage.mine}),
        ("edit", {"message_id": stage.mine, "content": "x"}),
    ],
    "delete twice": lambda stage: [("delete", {"message_id": stage.mine})] * 2,
    "delete another's": lambda stage: [("delete", {"message_id": stage.theirs})],
    "delete what is not there": lambda _: [("delete", {"message_id": "msg_x"})],
    "acknowledge": lambda _: [("ack", {"seq": 2}), ("ack", {"seq": 1}), ("ack", {"seq": 0})],
    "acknowledge too much": lambda _: [("ack", {"seq": 3})],
    "acknowledge nonsense": lambda _: [("ack", {"seq": "1"}), ("ack", {"seq": -1}), ("ack", {}), ("ack", {"seq": 1.5})],
    "acknowledge elsewhere": lambda stage: [
        ("ack", {"room_id": stage.foreign_id, "seq": 0}),
        ("ack", {"room_id": "room_x", "seq": 0}),
    ],
    "read": lambda _: [("read", {"seq": 1}), ("ack", {"seq": 0}), ("read", {"seq": 0}), ("read", {"seq": 2})],
    "read too much": lambda _: [("read", {"seq": 3})],
    "read elsewhere": lambda stage: [("read", {"room_id": stage.foreign_id, "seq": 0})],
}

# What differs by its nature: ids, times, who asked, and that an answer over REST has the whole message.
DIFFERENT = {"message_id", "room_id", "created_at", "edited_at", "sender_id", "reply_to", "user_id"}
ONLY_ONE_HAS = {"content", "meta", "deleted_at", "target_seq"}


def comparable(outcome: Outcome, name: str) -> Outcome:
    kind, fields = outcome
    if kind == "done" and name in ("edit", "delete"):
        return kind, {}  # REST answers with the message, or with nothing, a WebSocket with the event
    return kind, {key: value for key, value in fields.items() if key not in DIFFERENT | ONLY_ONE_HAS}


@pytest.mark.parametrize("case", CASES)
async def test_both_transports_give_one_result(server: Server, case: str) -> None:
    results = []
    for transport in ("rest", "websocket"):
        stage = await set_up(server, transport)
        outcomes = []
        for name, fields in CASES[case](stage):
            outcomes.append(comparable(await stage.call(name, **{"room_id": stage.room_id, **fields}), name))
        cursors = [standing[1:] for standing in await stage.cursors()]
        results.append((outcomes, await stage.log(), cursors))
    assert results[0] == results[1]
