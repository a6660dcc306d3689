"""Threads and mentions: roots and lists of rooms show what the messages themselves say."""

from collections import defaultdict
from typing import Any

from checker.clients import WARDEN
from checker.journal import Attempt, Frame, Journal, Outcome
from checker.settings import find_last
from checker.truth import RoomTruth, Truth


def check_threads(journal: Journal, truth: Truth) -> list[str]:
    messages = {message["message_id"]: message for room in truth.rooms.values() for message in room.messages}
    edits: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in journal.attempts:
        if attempt.kind == "edit" and attempt.mentions is not None:
            edits[attempt.message_id or ""].append(attempt)
    found = [text for room in truth.rooms.values() for text in (*check_roots(room), *check_unread(room, truth))]
    for attempt in journal.attempts:
        if attempt.kind == "send" and attempt.outcome is Outcome.CONFIRMED:
            message = messages.get(attempt.message_id or "")
            if message is None:
                continue  # another check tells
            if message.get("thread_id") != attempt.thread_id:
                found.append(f"{attempt} is now {message}")
            if message["deleted_at"] is None and not shows_mentions(message, attempt, edits[message["message_id"]]):
                found.append(f"{attempt} is now {message}, after {edits[message['message_id']]}")
    return found + check_mentions(truth)


def shows_mentions(message: Frame, sent: Attempt, edits: list[Attempt]) -> bool:
    """Whether they are those that were written last."""
    possible = find_last([(one, " ".join(dict.fromkeys(one.mentions or ()))) for one in (sent, *edits)], "")
    return " ".join(message.get("mentions", ())) in possible and message.get("mention_room", False) is sent.mention_room


def check_mentions(truth: Truth) -> list[str]:
    """The warden, who is in every room, finds each mention once."""
    wanted = {
        message["message_id"]
        for room in truth.rooms.values()
        for message in room.messages
        if message["deleted_at"] is None and mentions(message, WARDEN)
    }
    listed = [message["message_id"] for message in truth.mentions]
    if sorted(wanted) != sorted(listed):
        return [
            f"the list of mentions has {len(listed)}, of {len(wanted)}: {sorted(wanted.symmetric_difference(listed))}"
        ]
    return []


def mentions(message: Frame, user_id: str) -> bool:
    """Those of oneself included; but nobody mentions themselves by mentioning the room."""
    if user_id in message.get("mentions", ()):
        return True
    return message.get("mention_room", False) and message["sender_id"] != user_id


def check_roots(room: RoomTruth) -> list[str]:
    threads: dict[str, list[Frame]] = defaultdict(list)
    for message in room.messages:
        if "thread_id" in message and message["deleted_at"] is None:
            threads[message["thread_id"]].append(message)
    found = []
    for message in room.messages:
        replies = threads.get(message["message_id"], [])
        if message.get("thread") != sum_up(replies):
            found.append(f"{message} has the replies {[reply['seq'] for reply in replies]}")
    return found


def sum_up(replies: list[Frame]) -> Any:
    if not replies:
        return None
    return {
        "reply_count": len(replies),
        "last_reply_seq": replies[-1]["seq"],
        "last_reply_at": replies[-1]["created_at"],
    }


def check_unread(room: RoomTruth, truth: Truth) -> list[str]:
    """Those of every member. What was written before they joined is below their `last_read`."""
    found = []
    for user_id, user in truth.users.items():
        if (own := user.rooms.get(room.room_id)) is not None:
            unread = [
                message["seq"]
                for message in room.messages
                if mentions(message, user_id) and message["sender_id"] != user_id and message["seq"] > own["last_read"]
            ]
            if own["unread_mentions"] != min(len(unread), 1000):
                shown = own["unread_mentions"]
                found.append(f"{room.room_id} shows {user_id} {shown} unread mentions, of {len(unread)}: {unread}")
    return found
