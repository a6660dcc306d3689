"""A message that an application keeps, after what has happened to it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from chatapi.client.records import Message, ReactionSummary, ThreadSummary

SHOWN_USERS = 20  # of one emoji
ANNOTATIONS = ("reactions", "pinned_at")  # fields that events of a message do not carry; a deletion takes them...
MENTIONS = ("mentions", "mention_room", "stream")  # ...and these
_WHOLE = frozenset({"message", "message.edited", "message.finished"})  # events that show the whole message
_OF_EVENT = frozenset({"type", "target_seq", "request_id"})  # fields that no message has


def apply_event(message: Message, event: Mapping[str, Any]) -> Message:
    """The message after an event of its room, as a new object; the same one if the event does not concern it.

    Events say what holds from now on, so that one which the message shows already does no harm: read history first,
    and apply each event that comes, in order. `user_ids` of a reaction are exact as long as it has had no more than 20
    users; for more, read the message again. `message.deleted` has no time of its own: `deleted_at` is the present.

    A stream grows by `message.delta` and `message.state`, and `message.cancel_requested` shows in its `stream`. A delta
    that does not go on where the message ends changes nothing: read the message again when its `after` is greater than
    the message's `stream["index"]`.
    """
    if event["type"] == "message.state":
        return _apply_state(message, event["message"])
    if event.get("thread_id") == message["message_id"]:
        return _apply_reply(message, event)
    if event.get("message_id") != message["message_id"]:
        return message
    kind = event["type"]
    if kind in _WHOLE:
        if _is_behind(event, message):
            return message
        names = ("thread",) if event["content"] is None else (*ANNOTATIONS, "thread")
        kept = {name: message[name] for name in names if name in message}  # type: ignore[literal-required]
        return _keep_wish(cast(Message, {**message_of(event), **kept}), message)
    if kind == "message.deleted":
        kept = {name: value for name, value in message.items() if name not in (*ANNOTATIONS, *MENTIONS)}
        deleted_at = message["deleted_at"] or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return cast(Message, {**kept, "content": None, "meta": None, "deleted_at": deleted_at})
    if message["deleted_at"] is not None:
        return message  # a deletion has taken all of that
    if kind == "message.delta":
        return _apply_delta(message, event)
    if kind == "message.cancel_requested":
        return _apply_wish(message)
    if kind in ("reaction.added", "reaction.removed"):
        return _apply_reaction(message, event)
    if kind == "message.pinned":
        return cast(Message, {**message, "pinned_at": event["pinned_at"]})
    if kind == "message.unpinned":
        return cast(Message, {name: value for name, value in message.items() if name != "pinned_at"})
    return message


def message_of(event: Mapping[str, Any]) -> Message:
    """The message that one of these events shows, or the message itself."""
    sent = {name: value for name, value in event.items() if name not in _OF_EVENT}
    return cast(Message, {**sent, "seq": event.get("target_seq", event["seq"])})


def _is_behind(shown: Mapping[str, Any], message: Message) -> bool:
    """Whether this shows an open stream as it was before."""
    before, now = shown.get("stream"), message.get("stream")
    if before is None or before["state"] != "open":
        return False
    return now is None or now["state"] != "open" or before["index"] < now["index"]


def _apply_state(message: Message, state: Message) -> Message:
    if state["message_id"] != message["message_id"] or message["deleted_at"] is not None or _is_behind(state, message):
        return message
    return _keep_wish(state, message)


def _keep_wish(shown: Message, message: Message) -> Message:
    """A wish to cancel is never taken back: a message without it was read before it came."""
    stream = message.get("stream")
    return _apply_wish(shown) if stream is not None and stream.get("cancel_requested") else shown


def _apply_wish(message: Message) -> Message:
    stream = message.get("stream")
    if stream is None or stream["state"] != "open":
        return message
    return {**message, "stream": {**stream, "cancel_requested": True}}


def _apply_delta(message: Message, event: Mapping[str, Any]) -> Message:
    stream = message.get("stream")
    if stream is None or stream["state"] != "open" or stream["index"] != event["after"]:
        return message
    content = (message["content"] or "") + event["text"]
    return {**message, "content": content, "stream": {**stream, "index": event["index"]}}


def _apply_reply(message: Message, event: Mapping[str, Any]) -> Message:
    """A reply is counted once: the thread tells up to which `seq` it has counted."""
    thread: ThreadSummary | None = message.get("thread")
    if event["type"] == "message.deleted":
        thread = event["thread"]
    elif event["type"] == "message" and event["content"] is not None:
        count, last_seq = (0, 0) if thread is None else (thread["reply_count"], thread["last_reply_seq"])
        if event["seq"] > last_seq:
            thread = {"reply_count": count + 1, "last_reply_seq": event["seq"], "last_reply_at": event["created_at"]}
    changed = cast(Message, {name: value for name, value in message.items() if name != "thread"})
    if thread is not None:
        changed["thread"] = thread
    return changed


def _apply_reaction(message: Message, event: Mapping[str, Any]) -> Message:
    emoji, count, user_id = event["emoji"], event["count"], event["user_id"]
    reactions: list[ReactionSummary] = list(message.get("reactions", ()))
    index = next((number for number, found in enumerate(reactions) if found["emoji"] == emoji), None)
    user_ids = [] if index is None else [found for found in reactions[index]["user_ids"] if found != user_id]
    if event["type"] == "reaction.added":
        if count == 1:  # a new one, also if the message showed it before: it comes last, and has this user alone
            index, user_ids = None, []
            reactions = [found for found in reactions if found["emoji"] != emoji]
        if count <= SHOWN_USERS:
            user_ids.append(user_id)
    summary: ReactionSummary = {"emoji": emoji, "count": count, "user_ids": user_ids[:SHOWN_USERS]}
    if index is not None:
        reactions[index : index + 1] = [summary] if count else []
    elif count:
        reactions.append(summary)
    changed = cast(Message, {**message, "reactions": reactions})
    if not reactions:
        del changed["reactions"]
    return changed
