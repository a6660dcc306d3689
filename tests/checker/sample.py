"""A small world without a fault, for tests that break it.

Alice and bob are in a room from the start; alice sends three messages and edits the first one, bob leaves; bob's one
connection has got all of it.
"""

import copy
from typing import Any

from checker.journal import Frame, Growing, Journal, Outcome, Pipe, Poll, Stream
from checker.truth import RoomTruth, Truth, UserTruth, find_stays
from checker.verdict import find_violations

ROOM = "room_1"


def message(seq: int, **fields: Any) -> Frame:
    return {
        "type": "message",
        "room_id": ROOM,
        "message_id": f"msg_{seq}",
        "seq": seq,
        "sender_id": "alice",
        "content": f"m-{seq}",
        "client_message_id": f"m-{seq}",
        "deleted_at": None,
        **fields,
    }


class World:
    def __init__(self) -> None:
        self.journal = journal = Journal()
        edited = message(4, type="message.edited", message_id="msg_1", content="edited", client_message_id="m-1")
        edited["target_seq"] = 1
        left = {"type": "member.left", "room_id": ROOM, "user_id": "bob", "seq": 5}
        self.events = [message(1, content="edited"), message(2), message(3), edited, left]
        for seq in (1, 2, 3):
            attempt = journal.begin("send", "alice", ROOM, client_message_id=f"m-{seq}", content=f"m-{seq}")
            journal.settle(attempt, Outcome.CONFIRMED, message_id=f"msg_{seq}", seq=seq)
        attempt = journal.begin("edit", "alice", ROOM, message_id="msg_1", content="edited", mentions=None)
        journal.settle(attempt, Outcome.CONFIRMED, seq=4)
        self.ack = journal.begin("ack", "alice", ROOM, seq=2)
        journal.settle(self.ack, Outcome.CONFIRMED)
        journal.settle(journal.begin("leave", "bob", ROOM), Outcome.CONFIRMED)
        self.stream = Stream("bob", "backlog", 0)
        journal.streams.append(self.stream)
        self.receive(
            {"type": "ready", "rooms": [{"room_id": ROOM, "last_seq": 2, "last_ack": 0}]},
            message(1),
            message(2),
            {"type": "sync.complete", "rooms": {ROOM: 2}},
            *self.events[2:],
        )
        journal.note_page("alice", ROOM, 1, 3, copy.deepcopy(self.events[1:4]))
        self.receipts: dict[str, Frame] = {"alice": {"last_ack": 2}}
        self.messages = [message(1, content="edited"), message(2), message(3)]
        self.own = {"last_read": 0, "unread_mentions": 0, "notify": "all", "hidden": False}
        self.own |= {"posting": "members", "slow_mode_seconds": 0}
        self.users = {"alice": UserTruth(), "warden": UserTruth(rooms={ROOM: self.own})}
        self.is_dm = False  # of alice and the warden
        self.reports: list[Frame] = []
        self.mentions: list[Frame] = []
        self.found: dict[str, list[Frame]] = {"m-2": [message(2)], "edited": [message(1, content="edited")]}

    def react(self, *, is_stored: bool = True, is_shown: bool = True) -> None:
        """Alice reacts to the second message, after bob has left."""
        attempt = self.journal.begin("react", "alice", ROOM, message_id="msg_2", content="👍")
        self.journal.settle(attempt, Outcome.CONFIRMED)
        fields = {"room_id": ROOM, "message_id": "msg_2", "user_id": "alice", "emoji": "👍", "count": 1, "seq": 6}
        if is_stored:
            self.events.append({"type": "reaction.added", **fields})
        if is_shown:
            self.messages[1]["reactions"] = [{"emoji": "👍", "count": 1, "user_ids": ["alice"]}]

    def confirm(self, kind: str, user_id: str, content: str | None = None, **fields: Any) -> None:
        attempt = self.journal.begin(kind, user_id, ROOM, content=content, **fields)
        self.journal.settle(attempt, Outcome.CONFIRMED)

    def store(self, kind: str, user_id: str, **fields: Any) -> None:
        self.events.append({"type": kind, "room_id": ROOM, "user_id": user_id, "seq": len(self.events) + 1, **fields})

    def say(self, created_at: str) -> None:
        """Alice sends one more message."""
        seq = len(self.events) + 1
        attempt = self.journal.begin("send", "alice", ROOM, client_message_id=f"m-{seq}", content=f"m-{seq}")
        self.journal.settle(attempt, Outcome.CONFIRMED, message_id=f"msg_{seq}", seq=seq)
        self.events.append(message(seq, created_at=created_at))
        self.messages.append(message(seq, created_at=created_at))

    def grow(self, content: str = "m-2 and more", state: str | None = "done") -> None:
        """The second message was written bit by bit, of which bob's connection has seen a part."""
        self.journal.growing["msg_2"] = Growing(ROOM, "msg_2", "m-2", [" and", " more"], confirmed=2)
        self.confirm("finish", "alice", message_id="msg_2", state="done")
        for shown in (self.events[1], self.messages[1]):
            shown.update(content=content, stream={"state": state, "index": 2})
        self.found["m-2"] = [self.messages[1]]
        seq = len(self.events) + 1
        ended = message(seq, type="message.finished", target_seq=2, message_id="msg_2", content=content)
        self.events.append(ended | {"client_message_id": "m-2", "stream": self.events[1]["stream"]})
        delta = {"type": "message.delta", "room_id": ROOM, "message_id": "msg_2"}
        self.receive(
            {"type": "message.state", "room_id": ROOM, "message": message(2, stream={"state": "open", "index": 0})},
            {**delta, "after": 0, "index": 2, "text": " and more"},
            {**delta, "after": 1, "index": 2, "text": " more"},
        )

    def pipe(self, content: str = "m-3 and more", state: str = "done", **fields: Any) -> Pipe:
        """The third message was written through a pipe, of which bob's connection has seen a part."""
        pipe = self.journal.pipes["m-3"] = Pipe(ROOM, "m-3", "done", "m-3 and more", is_whole=True, **fields)
        pipe.message_id = "msg_3"
        for shown in (self.events[2], self.messages[2]):
            shown.update(content=content, stream={"state": state})
        opened = message(3, content="", stream={"state": "open", "index": 0})
        delta = {"type": "message.delta", "room_id": ROOM, "message_id": "msg_3"}
        self.receive(
            {"type": "message.state", "room_id": ROOM, "message": opened},
            {**delta, "after": 0, "index": 1, "text": "m-3"},
            {**delta, "after": 1, "index": 2, "text": " and"},
        )
        return pipe

    def poll(self) -> Frame:
        """The answer to a long poll of alice, who had the first event."""
        answer = {"events": copy.deepcopy(self.events[1:]), "rooms": {ROOM: len(self.events)}, "has_more": False}
        answer |= {"reset": {}, "gaps": [], "errors": {}}
        self.journal.polls.append(Poll("alice", self.journal.tick(), {ROOM: 1}, 100, False, answer))
        return answer

    def report(self, **fields: Any) -> None:
        """Alice reports the second message."""
        self.confirm("report", "alice", "rep_1", message_id="msg_2")
        report = {"report_id": "rep_1", "status": "open", "user_id": "alice", "message": message(2), **fields}
        self.reports.append(report)

    def receive(self, *frames: Frame) -> None:
        self.stream.entries += [(self.journal.tick(), False, copy.deepcopy(frame)) for frame in frames]

    def frames(self) -> list[Frame]:
        return [frame for _, _, frame in self.stream.entries]

    def forget(self, index: int) -> None:
        del self.stream.entries[index]

    def find_violations(self) -> list[str]:
        truth = RoomTruth(ROOM, len(self.events), self.events, self.receipts, self.messages)
        truth.own = self.own
        truth.found = self.found
        truth.stays = find_stays(["alice", "bob"], self.events)
        dms = {ROOM: "alice"} if self.is_dm else {}
        return find_violations(self.journal, Truth({ROOM: truth}, self.users, self.reports, self.mentions), dms)
