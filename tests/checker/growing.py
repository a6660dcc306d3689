"""Messages that are written bit by bit: what a reader keeps of them, and what they have to say at the end."""

import time
from collections import defaultdict
from collections.abc import Iterator

from checker.journal import Attempt, Frame, Growing, Journal, Outcome, Stream, is_leaving
from checker.truth import RoomTruth

IDLE_SECONDS = 30
"""After which the server ends what nobody goes on with."""
LATE_SECONDS = 20.0  # a reader that is still behind then would only be saved by the message's end


class Replica:
    """What one connection's client keeps of the messages that grow, as the contract tells it to. Of those whose end it
    may have missed it keeps nothing: it is shown the ones that are still open."""

    def __init__(self, user_id: str) -> None:
        self._user_id = user_id
        self._texts: dict[str, tuple[int, str]] = {}
        self._rooms: dict[str, str] = {}
        self._behind: dict[str, float] = {}  # since when

    def take(self, frame: Frame) -> None:
        kind = frame["type"]
        message = frame["message"] if kind == "message.state" else frame
        message_id = message.get("message_id", "")
        if kind in ("message", "message.state"):
            stream = message.get("stream") or {}
            if stream.get("state") == "open":
                self._texts[message_id] = stream["index"], message["content"]
                self._rooms[message_id] = message["room_id"]
        elif kind in ("message.finished", "message.deleted"):
            self._forget(message_id)
        elif kind == "message.delta":
            index, text = self._texts.get(message_id, (-1, ""))
            if frame["after"] == index:
                self._texts[message_id] = frame["index"], text + frame["text"]
        elif kind in ("unsubscribed", "sync.gap") or is_leaving(frame, self._user_id):
            for message_id in [one for one, room_id in self._rooms.items() if room_id == frame["room_id"]]:
                self._forget(message_id)

    def _forget(self, message_id: str) -> None:
        for kept in (self._texts, self._rooms, self._behind):
            kept.pop(message_id, None)

    def find(self, message_id: str) -> tuple[int, str] | None:
        """The index and the text that it has of an open message."""
        return self._texts.get(message_id)

    def list_open(self) -> list[str]:
        return list(self._texts)

    def find_behind(self, growing: Growing) -> str:
        """What it lacks of this message, or has wrong; empty when nothing."""
        index, text = self._texts[growing.message_id]
        if index <= len(growing.texts) and text != growing.read(index):
            return f"{growing.message_id} says {text!r} after append {index}"
        if index >= growing.confirmed:
            self._behind.pop(growing.message_id, None)
            return ""
        return f"{growing.message_id} is at append {index} of {growing.confirmed}"

    def is_late(self, growing: Growing) -> bool:
        """It was found behind long ago, each time since then."""
        since_s = self._behind.setdefault(growing.message_id, time.monotonic())
        return time.monotonic() - since_s > LATE_SECONDS


def check_growing(journal: Journal, truth: dict[str, RoomTruth]) -> list[str]:
    """Each message that grew has ended, and says all that was confirmed, and nothing that its sender did not write."""
    messages = {message["message_id"]: message for room in truth.values() for message in room.messages}
    endings: dict[str, list[Attempt]] = defaultdict(list)
    edited = set()
    for attempt in journal.attempts:
        if attempt.outcome is Outcome.REFUSED:
            continue
        if attempt.kind == "finish":
            endings[attempt.message_id or ""].append(attempt)
        elif attempt.kind == "edit":
            edited.add(attempt.message_id)
    found = []
    for growing in journal.growing.values():
        message = messages.get(growing.message_id)
        if message is None or message["deleted_at"] is not None:
            continue  # another check tells
        possible = endings[growing.message_id]
        confirmed = [attempt for attempt in possible if attempt.outcome is Outcome.CONFIRMED]
        state = message.get("stream", {}).get("state")
        states = {attempt.state for attempt in confirmed} or {"failed", *(attempt.state for attempt in possible)}
        if state not in states:
            found.append(f"{message} is {state}, and can be {sorted(map(str, states))}: {possible}")
        if growing.message_id not in edited and message["content"] not in list_final(growing, possible):
            found.append(f"{message} does not say what {growing} confirmed: {possible}")
    return found


def list_final(growing: Growing, endings: list[Attempt]) -> set[str | None]:
    """What it may say, if one of these ended it, or none of them that is not confirmed. An end without content is also
    confirmed where one before it, of which nothing was heard, has replaced the content."""
    given = [attempt for attempt in endings if attempt.content is not None]
    certain: set[str | None] = {attempt.content for attempt in given if attempt.outcome is Outcome.CONFIRMED}
    return certain or {*(attempt.content for attempt in given), *growing.list_contents(growing.confirmed)}


def check_frames(stream: Stream, journal: Journal, truth: dict[str, RoomTruth]) -> list[str]:
    """What one connection was told of messages that grow is what their senders wrote."""
    found = []
    for tick, is_sent, frame in stream.entries:
        wrong = () if is_sent else find_wrong(frame, journal, truth)
        found += [
            f"{stream.user_id}'s stream begun at tick {stream.begun}, at {tick}: {text}: {frame}" for text in wrong
        ]
    return found


def find_wrong(frame: Frame, journal: Journal, truth: dict[str, RoomTruth]) -> Iterator[str]:
    kind = frame["type"]
    message = frame["message"] if kind == "message.state" else frame
    growing = journal.growing.get(message.get("message_id", ""))
    if growing is None:
        return  # not one of them, or one of which its sender never heard
    if kind == "message.delta":
        if frame["text"] != "".join(growing.texts[frame["after"] : frame["index"]]):
            yield f"its sender wrote {growing.texts[frame['after'] : frame['index']]}"
    elif kind in ("message", "message.state") and message.get("stream", {}).get("state") == "open":
        if message["content"] != growing.read(message["stream"]["index"]):
            yield f"its sender wrote {growing.read(message['stream']['index'])!r}"
    elif kind == "message.state":
        yield "it is not open"
    elif kind == "message.finished" and "seq" in frame:
        room = truth.get(frame["room_id"])
        logged = room.find(frame["seq"]) if room else None
        if room and logged and logged["content"] != frame["content"] and not was_changed(room, message["message_id"]):
            yield f"the log holds {logged['content']!r}"


def was_changed(room: RoomTruth, message_id: str) -> bool:
    """An end shows the message as it now stands."""
    kinds = {event["type"] for event in room.events if event.get("message_id") == message_id}
    return bool(kinds & {"message.edited", "message.deleted"})
