"""What a client may do over both transports gives one result over both."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

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
            "reaction.add": lambda: self._user.request("PUT", react(messages, message_id, **fields)),
            "reaction.remove": lambda: self._user.request("DELETE", react(messages, message_id, **fields)),
            "ack": lambda: self._user.post("/acks", {"room_id": room_id, **fields}),
            "read": lambda: self._user.post(f"/rooms/{room_id}/read", fields),
        }[name]()
        if reply.status >= 400:
            return "error", show_error(reply.error)
        return "done", reply.data if reply.body else {}


def react(messages: str, message_id: str, emoji: str = "") -> str:
    return f"{messages}/{message_id}/reactions/{quote(emoji, safe='')}"


class OverWebSocket:
    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    async def __call__(self, name: str, room_id: str, **fields: Any) -> Outcome:
        frame_type = {"send": "send_message", "edit": "message.edit", "delete": "message.delete"}.get(name, name)
        await self._socket.send(frame_type, room_id=room_id, request_id="asked", **fields)
        while (frame := await self._socket.next()).get("request_id") != "asked":
            pass
        del frame["request_id"]
        if frame.pop("type") == "error":
            return "error", show_error(frame)
        return "done", frame


def show_error(error: dict[str, Any]) -> dict[str, Any]:
    """Without `retry_after_ms`, a header over REST, and without the times and ids in `details` and in some messages."""
    shown = {name: error[name] for name in ("code", "field", "message") if name in error}
    if "details" in error:
        shown |= {"message": "", "details": sorted(error["details"])}
    return shown


Call = Callable[..., Awaitable[Outcome]]


class TwoRooms:
    """Two rooms, and a caller who is a member of one."""

    def __init__(
        self, call: Call, caller: User, owner: User, room_id: str, foreign_id: str, mine: str, theirs: str
    ) -> None:
        self.call = call
        self.caller = caller
        self.owner = owner
        self.room_id = room_id
        self.foreign_id = foreign_id
        self.mine = mine
        self.theirs = theirs

    async def log(self) -> list[tuple[Any, ...]]:
        events = (await self.owner.get(f"/rooms/{self.room_id}/events", limit=100)).data["events"]
        return [
            (event["seq"], event["type"], *map(event.get, ("content", "meta", "mentions", "emoji", "count")))
            for event in events
        ]

    async def cursors(self) -> list[tuple[str, int, int]]:
        receipts = (await self.owner.get(f"/rooms/{self.room_id}/receipts")).data["receipts"]
        return [(receipt["user_id"], receipt["last_ack"], receipt["last_read"]) for receipt in receipts]


async def set_up(server: Server, transport: str, room_type: str = "group") -> TwoRooms:
    owner, caller = server.user(f"owner-{transport}"), server.user(f"caller-{transport}")
    members = (caller.user_id,) if room_type == "dm" else (caller.user_id, "bob")
    room_id, foreign_id = await owner.make_room(*members, room_type=room_type), await owner.make_room()
    mine, theirs = await caller.say(room_id, "mine"), await owner.say(room_id, "theirs")
    call = OverRest(caller) if transport == "rest" else OverWebSocket(await caller.connect())
    return TwoRooms(call, caller, owner, room_id, foreign_id, mine["message_id"], theirs["message_id"])


Case = Callable[[TwoRooms], list[tuple[str, dict[str, Any]]]]

CASES: dict[str, Case] = {
    "send": lambda rooms: [("send", {"content": "hi", "meta": {"k": 1}, "reply_to": rooms.theirs})],
    "send the smallest and the largest": lambda _: [("send", {"content": "x"}), ("send", {"content": "ü" * 32768})],
    "send nothing": lambda _: [("send", {"content": ""})],
    "send too much": lambda _: [("send", {"content": "ü" * 32769})],
    "send no content": lambda _: [("send", {})],
    "send a number": lambda _: [("send", {"content": 7})],
    "send bad meta": lambda _: [("send", {"content": "x", "meta": [1]})],
    "send large meta": lambda _: [("send", {"content": "x", "meta": {"k": "v" * 16384}})],
    "send a nul": lambda _: [("send", {"content": "a\x00b"})],
    "send a big integer": lambda _: [("send", {"content": "x", "meta": {"k": 2**53}})],
    "mention": lambda rooms: [
        ("send", {"content": "x", "mentions": ["bob", "bob"], "client_message_id": "i"}),
        ("send", {"content": "x", "mentions": ["bob"], "client_message_id": "i"}),
        ("send", {"content": "x", "client_message_id": "i"}),
        ("edit", {"message_id": rooms.mine, "content": "x", "mentions": ["bob"]}),
        ("edit", {"message_id": rooms.mine, "content": "x", "mentions": None}),
    ],
    "mention a stranger": lambda _: [("send", {"content": "x", "mentions": ["nobody"]})],
    "mention the room": lambda rooms: [
        ("send", {"content": "x", "mention_room": True}),
        ("edit", {"message_id": rooms.mine, "content": "x", "mention_room": True}),
    ],
    "send a bad id": lambda _: [("send", {"content": "x", "client_message_id": "i" * 65})],
    "send to a stranger's room": lambda rooms: [("send", {"room_id": rooms.foreign_id, "content": "x"})],
    "send to no room": lambda _: [("send", {"room_id": "room_x", "content": "x"})],
    "reply to nothing": lambda _: [("send", {"content": "x", "reply_to": "msg_x"})],
    "send twice": lambda _: [("send", {"content": "x", "client_message_id": "i"})] * 2,
    "send another one with the same id": lambda _: [
        ("send", {"content": "x", "client_message_id": "i"}),
        ("send", {"content": "y", "client_message_id": "i"}),
    ],
    "edit": lambda rooms: [("edit", {"message_id": rooms.mine, "content": "better", "meta": {"k": 1}})],
    "edit without meta": lambda rooms: [
        ("edit", {"message_id": rooms.mine, "content": "a", "meta": {"k": 1}}),
        ("edit", {"message_id": rooms.mine, "content": "b"}),
        ("edit", {"message_id": rooms.mine, "content": "c", "meta": None}),
    ],
    "edit to nothing": lambda rooms: [("edit", {"message_id": rooms.mine, "content": ""})],
    "edit to too much": lambda rooms: [("edit", {"message_id": rooms.mine, "content": "x" * 65537})],
    "edit another's": lambda rooms: [("edit", {"message_id": rooms.theirs, "content": "x"})],
    "edit what is not there": lambda _: [("edit", {"message_id": "msg_x", "content": "x"})],
    "edit what was deleted": lambda rooms: [
        ("delete", {"message_id": rooms.mine}),
        ("edit", {"message_id": rooms.mine, "content": "x"}),
    ],
    "delete twice": lambda rooms: [("delete", {"message_id": rooms.mine})] * 2,
    "delete another's": lambda rooms: [("delete", {"message_id": rooms.theirs})],
    "delete what is not there": lambda _: [("delete", {"message_id": "msg_x"})],
    "react": lambda rooms: [
        ("reaction.add", {"message_id": rooms.theirs, "emoji": "👍"}),
        ("reaction.add", {"message_id": rooms.theirs, "emoji": "👍"}),
        ("reaction.add", {"message_id": rooms.theirs, "emoji": "e" * 64}),
        ("reaction.remove", {"message_id": rooms.theirs, "emoji": "👍"}),
        ("reaction.remove", {"message_id": rooms.theirs, "emoji": "👍"}),
    ],
    "react too much": lambda rooms: [
        ("reaction.add", {"message_id": rooms.theirs, "emoji": f"e{number}"}) for number in range(21)
    ],
    "react with no emoji": lambda rooms: [
        (name, {"message_id": rooms.theirs, "emoji": emoji})
        for name in ("reaction.add", "reaction.remove")
        for emoji in ("a b", "a\x7f", "e" * 65, "€" * 22, "\u3000")
    ],
    "react to a tombstone": lambda rooms: [
        ("reaction.add", {"message_id": rooms.mine, "emoji": "👍"}),
        ("delete", {"message_id": rooms.mine}),
        ("reaction.add", {"message_id": rooms.mine, "emoji": "👍"}),
        ("reaction.remove", {"message_id": rooms.mine, "emoji": "👍"}),
    ],
    "react elsewhere": lambda rooms: [
        ("reaction.add", {"room_id": rooms.foreign_id, "message_id": rooms.mine, "emoji": "👍"}),
        ("reaction.add", {"room_id": "room_x", "message_id": rooms.mine, "emoji": "👍"}),
        ("reaction.remove", {"message_id": "msg_x", "emoji": "👍"}),
    ],
    "acknowledge": lambda _: [("ack", {"seq": 2}), ("ack", {"seq": 1}), ("ack", {"seq": 0})],
    "acknowledge too much": lambda _: [("ack", {"seq": 3})],
    "acknowledge nonsense": lambda _: [("ack", {"seq": "1"}), ("ack", {"seq": -1}), ("ack", {}), ("ack", {"seq": 1.5})],
    "acknowledge elsewhere": lambda rooms: [
        ("ack", {"room_id": rooms.foreign_id, "seq": 0}),
        ("ack", {"room_id": "room_x", "seq": 0}),
    ],
    "read": lambda _: [("read", {"seq": 1}), ("ack", {"seq": 0}), ("read", {"seq": 0}), ("read", {"seq": 2})],
    "read too much": lambda _: [("read", {"seq": 3})],
    "read elsewhere": lambda rooms: [("read", {"room_id": rooms.foreign_id, "seq": 0})],
}

# What differs by its nature: ids, times, who asked, and that an answer over REST has the whole message.
DIFFERENT = {"message_id", "room_id", "created_at", "edited_at", "sender_id", "reply_to", "user_id"}
ONLY_ONE_HAS = {"mentions", "mention_room", "content", "meta", "deleted_at", "target_seq"}


def comparable(outcome: Outcome, name: str) -> Outcome:
    kind, fields = outcome
    if kind == "done" and name in ("edit", "delete", "reaction.add", "reaction.remove"):
        return kind, {}  # REST answers with the message, or with nothing, a WebSocket with the event
    return kind, {key: value for key, value in fields.items() if key not in DIFFERENT | ONLY_ONE_HAS}


@pytest.mark.parametrize("case", CASES)
async def test_both_transports_give_one_result(shared_server: Server, case: str) -> None:
    results = []
    for transport in ("rest", "websocket"):
        rooms = await set_up(shared_server, transport)
        outcomes = []
        for name, fields in CASES[case](rooms):
            outcomes.append(comparable(await rooms.call(name, **{"room_id": rooms.room_id, **fields}), name))
        cursors = [standing[1:] for standing in await rooms.cursors()]
        results.append((outcomes, await rooms.log(), cursors))
    assert results[0] == results[1]


# Rules of a room


async def put_in_force(rooms: TwoRooms, rule: str) -> None:
    path, caller_id = f"/rooms/{rooms.room_id}", rooms.caller.user_id
    made = await {
        "muted": lambda: rooms.owner.patch(f"{path}/members/{caller_id}", {"muted_for": 600}),
        "closed": lambda: rooms.owner.patch(path, {"posting": "admins"}),
        "slow": lambda: rooms.owner.patch(path, {"slow_mode_seconds": 600}),
        "banned": lambda: rooms.owner.put(f"{path}/bans/{caller_id}", {"expires_in": 600}),
        "blocked": lambda: rooms.owner.put(f"/blocks/{caller_id}", {}),
    }[rule]()
    assert made.status == 200


REFUSED = {
    "muted": ["send", "edit", "reaction.add"],
    "closed": ["send", "edit"],
    "slow": ["send"],
    "banned": ["send", "edit", "reaction.add", "reaction.remove", "ack", "read", "delete"],
    "blocked": ["send", "edit", "reaction.add"],
}
DETAILS = {"muted": "muted_until", "slow": "slow_mode_until", "banned": "banned_until"}


@pytest.mark.parametrize("rule", REFUSED)
async def test_both_transports_refuse_alike_by_a_rule(shared_server: Server, rule: str) -> None:
    results = []
    for transport in ("rest", "websocket"):
        rooms = await set_up(shared_server, transport, "dm" if rule == "blocked" else "group")
        await rooms.caller.request("PUT", react(f"/rooms/{rooms.room_id}/messages", rooms.theirs, "x"))
        await put_in_force(rooms, rule)
        mine, theirs = {"message_id": rooms.mine}, {"message_id": rooms.theirs}
        calls = {
            "send": {"content": "new"},
            "edit": {**mine, "content": "other"},
            "reaction.add": {**theirs, "emoji": "y"},
            "reaction.remove": {**theirs, "emoji": "x"},
            "ack": {"seq": 1},
            "read": {"seq": 1},
            "delete": mine,
        }
        outcomes = {
            name: comparable(await rooms.call(name, room_id=rooms.room_id, **fields), name)
            for name, fields in calls.items()
        }
        assert [name for name, (kind, _) in outcomes.items() if kind == "error"] == REFUSED[rule]
        for name in REFUSED[rule]:
            error = outcomes[name][1]
            assert error["code"] == ("RATE_LIMIT_EXCEEDED" if rule == "slow" else "AUTHORIZATION_ERROR")
            assert error.get("details") == ([DETAILS[rule]] if rule in DETAILS else None)
        results.append((outcomes, await rooms.log()))
    assert results[0] == results[1]
