"""The picture that readers have of a room from its events, compared with the confirmations and the server's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chatapi.cli.bench.result import Check

SHOWN_USERS = 20  # of each emoji, where a message is read

Frame = Mapping[str, Any]
EventName = tuple[str, ...]
"""An event's type and the message and user that it concerns. Its content is left out: the log shows the newest one."""


def name_event(event: Frame) -> EventName:
    kind = event["type"]
    if kind == "message":
        return (kind, event["client_message_id"], event.get("thread_id", ""))
    return (kind, event["message_id"], *(event[name] for name in ("user_id", "emoji") if name in event))


@dataclass(slots=True)
class Replica:
    """The edits, reactions and threads that one reader knows from events alone, by message id."""

    edits: dict[str, str] = field(default_factory=dict)
    reactions: dict[str, dict[str, list[str]]] = field(default_factory=dict)  # emoji → users, in their order
    threads: dict[str, tuple[int, int]] = field(default_factory=dict)  # number of replies, seq of the last one

    def take(self, event: Frame) -> None:
        kind, message_id = event["type"], event["message_id"]
        if kind == "message":
            if root_id := event.get("thread_id"):
                replies, _ = self.threads.get(root_id, (0, 0))
                self.threads[root_id] = (replies + 1, event["seq"])
        elif kind == "message.edited":
            self.edits[message_id] = event["content"]
        elif kind == "reaction.added":
            self.reactions.setdefault(message_id, {}).setdefault(event["emoji"], []).append(event["user_id"])
        elif kind == "reaction.removed":
            self._remove_reaction(message_id, event["emoji"], event["user_id"])

    def _remove_reaction(self, message_id: str, emoji: str, user_id: str) -> None:
        users = self.reactions.get(message_id, {}).get(emoji, [])
        if user_id in users:  # else its `reaction.added` was missing, which another check tells
            users.remove(user_id)
        if not users:
            self.reactions.get(message_id, {}).pop(emoji, None)

    def show(self) -> dict[str, dict[str, Any]]:
        """As `show_messages` gives it of the same messages."""
        shown: dict[str, dict[str, Any]] = {}
        for message_id, content in self.edits.items():
            shown.setdefault(message_id, {})["content"] = content
        for message_id, emojis in self.reactions.items():
            if emojis:
                shown.setdefault(message_id, {})["reactions"] = [
                    {"emoji": emoji, "count": len(users), "user_ids": users[:SHOWN_USERS]}
                    for emoji, users in emojis.items()
                ]
        for message_id, thread in self.threads.items():
            shown.setdefault(message_id, {})["thread"] = thread
        return shown


def show_messages(messages: Sequence[Frame]) -> dict[str, dict[str, Any]]:
    """Contents that were edited, reactions and threads, by message id. Plain messages are left out."""
    shown: dict[str, dict[str, Any]] = {}
    for message in messages:
        found: dict[str, Any] = {}
        if message["edited_at"] is not None:
            found["content"] = message["content"]
        if "reactions" in message:
            found["reactions"] = message["reactions"]
        if "thread" in message:
            found["thread"] = (message["thread"]["reply_count"], message["thread"]["last_reply_seq"])
        if found:
            shown[message["message_id"]] = found
    return shown


@dataclass(slots=True)
class ConversationRecord:
    """A room as its members have it, all of whom are of one process."""

    confirmed: dict[int, EventName] = field(default_factory=dict)  # by seq
    seen: dict[int, EventName] = field(default_factory=dict)  # by seq, as the first member got it
    shown: dict[str, dict[str, Any]] = field(default_factory=dict)  # at the end

    @property
    def last_seq(self) -> int:
        return max(self.confirmed, default=0)


def check_room(
    check: Check, room_id: str, record: ConversationRecord, events: Sequence[Frame], messages: Sequence[Frame]
) -> None:
    """`events` and `messages` are the room's log and its history, as they are read at the end."""
    check.confirmed += len(record.confirmed)
    check.stored += len(events)
    if [event["seq"] for event in events] != list(range(1, len(events) + 1)):
        check.problems.append(f"{room_id}: the seqs of the log are not 1 to {len(events)}")
    if record.seen != record.confirmed:
        check.problems.append(f"{room_id}: the events that came are not those that were confirmed")
    if {event["seq"]: name_event(event) for event in events} != record.confirmed:
        check.problems.append(f"{room_id}: the log differs from what was confirmed")
    read = show_messages(messages)
    for message_id in sorted(read.keys() | record.shown.keys()):
        if (stands := read.get(message_id)) != (known := record.shown.get(message_id)):
            check.problems.append(f"{room_id}: {message_id} reads {stands}, its events give {known}")
