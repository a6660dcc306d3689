"""Old state + events = new state: what a client keeps from history and events is what it would read afresh."""

import random
from typing import Any

import pytest
from conftest import StartServer
from driver import Server, Socket, User, restart

from chatapi.client import replay

USERS = ("alice", "bob", "carol", "dave")
STEPS = 120
SETTINGS = ("name", "metadata", "posting", "slow_mode_seconds")
LOOKS = 4  # of the state, on the way and at the end


class Replica:
    """What a client of one user keeps of its rooms. It reads a room when it learns of it, and then only listens."""

    def __init__(self, user: User, socket: Socket) -> None:
        self.user = user
        self.socket = socket
        self.rooms: dict[str, dict[str, Any]] = {}

    async def catch_up(self, server: Server) -> None:
        """Applies all that has come up to now. Receipts of others may be on their way: they are told of in turns."""
        while server.services.receipts._untold:
            await self._apply_until("turn")
        await self._apply_until("now")

    async def _apply_until(self, request_id: str) -> None:
        await self.socket.send("ping", request_id=request_id)
        while (frame := await self.socket.next()).get("request_id") != request_id:
            await self.apply(frame)

    async def apply(self, frame: dict[str, Any]) -> None:
        kind, room_id = frame["type"], frame.get("room_id", "")
        if kind == "room.created":
            self.rooms[room_id] = await read_state(self.user, room_id)
            return
        room = self.rooms.get(room_id)
        if room is None:
            return
        if frame.get("seq", 1 << 53) <= room["last_seq"] and kind not in ("ack.received", "read.updated"):
            return  # in what was read already
        is_removal = kind in ("member.left", "member.banned") and frame["user_id"] == self.user.user_id
        if kind == "room.deleted" or is_removal:
            del self.rooms[room_id]
            return
        apply_event(room, frame)

    async def check(self) -> None:
        fresh = [room["room_id"] for room in (await self.user.get("/rooms", limit=100)).data["rooms"]]
        assert set(self.rooms) == set(fresh)
        for room_id in fresh:
            assert self.rooms[room_id] == await read_state(self.user, room_id)


def apply_event(room: dict[str, Any], frame: dict[str, Any]) -> None:
    kind = frame["type"]
    user_id = frame.get("user_id", "")
    root = room["messages"].get(frame.get("thread_id"))
    if root is not None:
        root["thread"] = replay.apply_event({"message_id": root["message_id"], **thread_of(root)}, frame).get("thread")
    if kind == "message":
        room["messages"][frame["message_id"]] = message_of(frame)
    elif kind in ("message.edited", "message.finished"):
        before, edited = room["messages"][frame["message_id"]], message_of(frame)
        kept = {} if edited["is_deleted"] else {name: before[name] for name in ("reactions", "pinned_at")}
        shown_seq, thread = frame["target_seq"], before["thread"]
        room["messages"][frame["message_id"]] = {**edited, "seq": shown_seq, "thread": thread, **kept}
    elif kind == "message.deleted":
        message = room["messages"][frame["message_id"]]
        message.update(content=None, meta=None, is_deleted=True, reactions=[], pinned_at=None, mentions=([], False))
        message.update(stream=None)
    elif kind == "message.delta":
        message = room["messages"][frame["message_id"]]
        if message["stream"] == ("open", frame["after"]):
            message.update(content=message["content"] + frame["text"], stream=("open", frame["index"]))
    elif kind == "message.state":
        room["messages"][frame["message"]["message_id"]] = message_of(frame["message"])
    elif kind in ("reaction.added", "reaction.removed", "message.pinned", "message.unpinned"):
        message = room["messages"][frame["message_id"]]
        shown: Any = {**message, "deleted_at": "then" if message["is_deleted"] else None}
        shown = replay.apply_event(shown, frame)
        message.update(reactions=shown.get("reactions", []), pinned_at=shown.get("pinned_at"))
    elif kind in ("member.joined", "member.updated"):
        room["members"][user_id] = (frame["role"], frame.get("muted_until"))
        if kind == "member.joined":
            room["receipts"][user_id] = (frame["seq"], frame["seq"])
    elif kind in ("member.left", "member.banned"):
        room["members"].pop(user_id, None)
        room["receipts"].pop(user_id, None)
    elif kind == "room.updated":
        for name in SETTINGS:
            room[name] = frame[name]
    elif kind in ("ack.received", "read.updated") and user_id in room["receipts"]:
        acked, read = room["receipts"][user_id]
        read = frame["seq"] if kind == "read.updated" else read
        room["receipts"][user_id] = (max(acked, frame["seq"]), read)
    if "seq" in frame and kind not in ("ack.received", "read.updated"):
        assert frame["seq"] == room["last_seq"] + 1
        room["last_seq"] = frame["seq"]


def message_of(found: dict[str, Any]) -> dict[str, Any]:
    fields = ("message_id", "seq", "sender_id", "content", "meta", "reply_to", "created_at")
    return {
        **{name: found[name] for name in fields},
        "is_edited": found["edited_at"] is not None,
        "is_deleted": found["deleted_at"] is not None,
        "reactions": found.get("reactions", []),
        "pinned_at": found.get("pinned_at"),
        "thread_id": found.get("thread_id"),
        "thread": found.get("thread"),
        "mentions": (found.get("mentions", []), found.get("mention_room", False)),
        "stream": (found["stream"]["state"], found["stream"].get("index")) if "stream" in found else None,
    }


def thread_of(message: dict[str, Any]) -> Any:
    return {} if message["thread"] is None else {"thread": message["thread"]}


async def read_state(user: User, room_id: str) -> dict[str, Any]:
    """One room as REST shows it."""
    room = (await user.get(f"/rooms/{room_id}")).data
    messages: list[dict[str, Any]] = []
    has_more = True
    while has_more:
        after_seq = messages[-1]["seq"] if messages else 0
        page = (await user.get(f"/rooms/{room_id}/messages", after_seq=after_seq, limit=100)).data
        messages += page["messages"]
        has_more = page["has_more"]
    members = (await user.get(f"/rooms/{room_id}/members", limit=100)).data["members"]
    receipts = (await user.get(f"/rooms/{room_id}/receipts", limit=100)).data["receipts"]
    return {
        "last_seq": room["last_seq"],
        **{name: room[name] for name in SETTINGS},
        "messages": {message["message_id"]: message_of(message) for message in messages},
        "members": {member["user_id"]: (member["role"], member.get("muted_until")) for member in members},
        "receipts": {receipt["user_id"]: (receipt["last_ack"], receipt["last_read"]) for receipt in receipts},
    }


class Crowd:
    """Random operations of everybody; which of them are refused does not matter."""

    def __init__(self, server: Server, seed: int, movable: tuple[str, ...] = USERS) -> None:
        self.movable = movable  # those who come and go
        self.random = random.Random(seed)
        self.users = [server.user(name) for name in USERS]
        self.room_ids: list[str] = []
        self.messages: list[tuple[str, str]] = []
        self.streams: dict[str, int] = {}  # the last index of each that was opened, by its message

    async def step(self) -> None:
        user = self.random.choice(self.users)
        if len(self.room_ids) < 2 or self.random.random() < 0.04:
            others = self.random.sample(USERS, 2)
            self.room_ids.append(await user.make_room(*others, room_type=self.random.choice(("group", "channel"))))
            return
        room_id = self.random.choice(self.room_ids)
        other = self.random.choice(self.movable)
        seq = self.random.randint(0, 30)
        operations = [
            (14, lambda: self._say(user, room_id)),
            (4, lambda: self._say(user, room_id, stream=True)),
            (12, lambda: self._write()),
            (6, lambda: self._revise(user)),
            (12, lambda: self._react(user)),
            (5, lambda: self._pin(user)),
            (3, lambda: user.post(f"/rooms/{room_id}/members", {"user_id": other, "role": "member"})),
            (2, lambda: user.post(f"/rooms/{room_id}/members", {"user_id": user.user_id})),
            (2, lambda: user.delete(f"/rooms/{room_id}/members/{other}")),
            (2, lambda: user.patch(f"/rooms/{room_id}/members/{other}", {"role": "admin"})),
            (2, lambda: user.patch(f"/rooms/{room_id}", {"name": f"name {seq}", "metadata": {"k": seq}})),
            (1, lambda: user.put(f"/rooms/{room_id}/bans/{other}", {"reason": f"reason {seq}"})),
            (2, lambda: user.delete(f"/rooms/{room_id}/bans/{other}")),
            (2, lambda: user.patch(f"/rooms/{room_id}/members/{other}", {"muted_for": 3600 * (seq % 3)})),
            (1, lambda: user.patch(f"/rooms/{room_id}", {"posting": "admins" if seq % 4 == 0 else "members"})),
            (1, lambda: user.patch(f"/rooms/{room_id}", {"slow_mode_seconds": int(seq % 5 == 0)})),
            (4, lambda: user.post("/acks", {"room_id": room_id, "seq": seq})),
            (4, lambda: user.post(f"/rooms/{room_id}/read", {"seq": seq})),
            (1, lambda: self._delete_room(user, room_id)),
        ]
        [operation] = self.random.choices([made for _, made in operations], [weight for weight, _ in operations])
        await operation()

    async def _say(self, user: User, room_id: str, *, stream: bool = False) -> None:
        body: dict[str, Any] = {"content": f"said {self.random.random()}", "meta": {"n": self.random.random()}}
        if stream:
            body["stream"] = True
        in_room = [message_id for found, message_id in self.messages if found == room_id]
        if in_room and self.random.random() < 0.3:
            body[self.random.choice(("reply_to", "thread_id"))] = self.random.choice(in_room)
        if self.random.random() < 0.3:
            body["mentions"] = self.random.sample(USERS, 2)
        if self.random.random() < 0.1:
            body["mention_room"] = True
        reply = await user.post(f"/rooms/{room_id}/messages", body)
        if reply.status == 201:
            self.messages.append((room_id, reply.data["message_id"]))
            if stream:
                self.streams[reply.data["message_id"]] = 0

    async def _write(self) -> None:
        """In one of the newest streams, whoever has opened it."""
        opened = [found for found in self.messages if found[1] in self.streams][-3:]
        if not opened:
            return
        room_id, message_id = self.random.choice(opened)
        path = f"/rooms/{room_id}/messages/{message_id}"
        message = await self.users[0].get(path)
        if message.status != 200:
            return
        sender = next(user for user in self.users if user.user_id == message.data["sender_id"])
        chance = self.random.random()
        if chance < 0.6:
            index = self.streams[message_id] + 1
            reply = await sender.post(f"{path}/append", {"index": index, "text": f" {self.random.random()}"})
            self.streams[message_id] += reply.status == 200
        elif chance < 0.7:
            await self.random.choice(self.users).post(f"{path}/cancel")
        else:
            end = {"state": self.random.choice(("done", "failed", "cancelled"))}
            await sender.post(f"{path}/finish", end if chance < 0.9 else {**end, "content": "other", "meta": None})

    async def _revise(self, user: User) -> None:
        if not self.messages:
            return
        room_id, message_id = self.random.choice(self.messages)
        path = f"/rooms/{room_id}/messages/{message_id}"
        if self.random.random() < 0.6:
            body: dict[str, Any] = {"content": f"edited {self.random.random()}"}
            if self.random.random() < 0.3:
                body["mentions"] = self.random.sample(USERS, self.random.randint(0, 2))
            await user.put(path, body if self.random.random() < 0.5 else {**body, "meta": None})
        else:
            await user.delete(path)

    async def _react(self, user: User) -> None:
        """Most of the newest messages, so that several users meet on one."""
        if self.messages:
            room_id, message_id = self.random.choice(self.messages[-4:])
            path = f"/rooms/{room_id}/messages/{message_id}/reactions/{self.random.choice(('a', 'b', 'c'))}"
            await user.request("DELETE" if self.random.random() < 0.4 else "PUT", path)

    async def _pin(self, user: User) -> None:
        if self.messages:
            room_id, message_id = self.random.choice(self.messages[-4:])
            method = "DELETE" if self.random.random() < 0.4 else "PUT"
            await user.request(method, f"/rooms/{room_id}/pins/{message_id}")

    async def _delete_room(self, user: User, room_id: str) -> None:
        if self.movable == USERS and (await user.delete(f"/rooms/{room_id}")).status == 204:
            self.room_ids.remove(room_id)


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Appends, which are few here, do not wait to share a commit."""
    monkeypatch.setattr("chatapi.appends.JOIN_SECONDS", 0.0)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 4))])
async def test_history_and_events_give_the_state_that_is_read_afresh(server: Server, seed: int) -> None:
    crowd = Crowd(server, seed)
    for _ in range(STEPS // LOOKS):
        await crowd.step()
    replicas = []
    for user in crowd.users:
        replica = Replica(user, await user.connect(ready=False))
        for room in (await replica.socket.expect("ready"))["rooms"]:
            replica.rooms[room["room_id"]] = await read_state(user, room["room_id"])
        await replica.catch_up(server)
        replicas.append(replica)
    for _ in range(LOOKS):
        for _ in range(STEPS // LOOKS):
            await crowd.step()
        for replica in replicas:
            await replica.catch_up(server)
        for replica in replicas:
            await replica.check()


@pytest.mark.slow
async def test_the_log_alone_gives_it_too(start_server: StartServer) -> None:
    """A client that was away the whole time builds a room from its log, read from the store or as it was streamed."""
    server = await start_server()
    crowd = Crowd(server, 99, USERS[1:])
    alice = server.user("alice")
    room_id = await alice.make_room(*USERS)
    founders = {name: ("admin" if name == "alice" else "member", None) for name in USERS}
    for _ in range(STEPS):
        crowd.room_ids = [room_id, room_id]
        await crowd.step()
    socket = await alice.connect(sync="none", ready=False)
    await socket.expect("ready")
    await socket.send("sync", rooms={room_id: 0})
    state: dict[str, Any] = {
        "last_seq": 0,
        "name": None,
        "metadata": None,
        "posting": "members",
        "slow_mode_seconds": 0,
        "messages": {},
        "members": founders,
        "receipts": dict.fromkeys(USERS, (0, 0)),
    }
    for frame in await socket.collect("sync.complete"):
        if frame.get("room_id") == room_id:
            apply_event(state, frame)
    fresh = await read_state(alice, room_id)
    assert {**state, "receipts": None} == {**fresh, "receipts": None}


async def test_the_log_has_nothing_about_users(start_server: StartServer) -> None:
    """Views, profiles, blocks, bans from the tenant, and reports."""
    server = await start_server()
    alice, bob, backend = server.user("alice"), server.user("bob"), server.user("backend")
    room_id = await alice.make_room("bob", "carol")
    await alice.patch(f"/rooms/{room_id}/members/bob", {"role": "admin"})
    dm_id = (await alice.post("/rooms", {"type": "dm", "members": ["bob"]})).data["room_id"]
    message_id = (await alice.say(room_id))["message_id"]
    await alice.say(dm_id)

    async def read_logs(user: User) -> list[Any]:
        return [(await user.get(f"/rooms/{one}/events")).data for one in (room_id, dm_id)]

    before = await read_logs(alice)
    await bob.patch(f"/rooms/{room_id}/me", {"notify": "none", "hidden": True})
    await bob.put("/users/bob", {"name": "Bob"})
    await bob.request("PUT", "/blocks/alice")
    report = await bob.post(f"/rooms/{room_id}/messages/{message_id}/report", {"reason": "rude"})
    await backend.post(f"/reports/{report.data['report_id']}/resolve")
    await backend.request("PUT", "/users/bob/ban")
    assert (await backend.get("/users/bob")).data["name"] == "Bob"
    assert (await backend.get("/users/bob/ban")).status == 200
    await backend.delete("/users/bob/ban")
    assert [block["user_id"] for block in (await bob.get("/blocks")).data["blocks"]] == ["alice"]
    await bob.delete("/blocks/alice")
    assert await read_logs(alice) == before
    again = await restart(start_server, server)
    assert await read_logs(again.user("alice")) == before
