"""Threads and mentions: roots and lists of rooms show what the messages themselves say."""

from collections import defaultdict
from typing import Any

from checker.clients import WARDEN
from checker.journal import Frame, Journal, Outcome
from checker.truth import RoomTruth


def check_threads(journal: Journal, truth: dict[str, RoomTruth]) -> list[str]:
    messages = {message["message_id"]: message for room in truth.values() for message in room.messages}
    found = [text for room in truth.values() for text in (*check_roots(room), *check_unread(room))]
    for attempt in journal.attempts:
        if attempt.kind == "send" and attempt.outcome is Outcome.CONFIRMED:
            message = messages.get(attempt.message_id or "")
            if message is None:
                continue  # another check tells
            if message.get("thread_id") != attempt.thread_id:
                found.append(f"{attempt} is now {message}")
            if message["deleted_at"] is None and message.get("mentions", []) != list(dict.fromkeys(attempt.mentions)):
                found.append(f"{attempt} is now {message}")
    return found


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


def check_unread(room: RoomTruth) -> list[str]:
    """Those of the warden, who is in every room."""
    unread = [
        message["seq"]
        for message in room.messages
        if WARDEN in message.get("mentions", ())
        and message["sender_id"] != WARDEN
        and message["seq"] > room.own["last_read"]
    ]
    shown = room.own["unread_mentions"]
    return [] if shown == min(len(unread), 1000) else [f"{room.room_id} shows {shown} unread mentions of {unread}"]
