"""Holds reactions and pins, as they are read at the end, against the log and against what was confirmed."""

from collections import defaultdict

from chatapi.client.replay import ANNOTATIONS, apply_event
from checker.journal import Attempt, Frame, Journal, Outcome
from checker.truth import RoomTruth

OF_REACTIONS = ("react", "unreact")
OF_PINS = ("pin", "unpin")


def check_annotations(journal: Journal, truth: dict[str, RoomTruth]) -> list[str]:
    found = []
    messages = {message["message_id"]: message for room in truth.values() for message in room.messages}
    for room in truth.values():
        found += check_replay(room)
    attempts: dict[tuple[str, ...], list[Attempt]] = defaultdict(list)
    for attempt in journal.attempts:
        if attempt.kind in OF_REACTIONS:
            attempts[attempt.message_id or "", attempt.user_id, attempt.content or ""].append(attempt)
        elif attempt.kind in OF_PINS:
            attempts[attempt.message_id or "",].append(attempt)
    for (message_id, *reaction), of_one in attempts.items():
        message = messages.get(message_id)
        if message is None:
            found.append(f"{of_one} are of a message that is not there")
        elif message["deleted_at"] is None:
            found += check_outcome(message, of_one, is_there=has_reaction(message, *reaction))
    return found


def check_replay(room: RoomTruth) -> list[str]:
    """The log alone gives the reactions and pins that are read."""
    kept: dict[str, Frame] = {}
    for event in room.events:
        if event["type"] == "message":
            kept[event["message_id"]] = {name: value for name, value in event.items() if name != "type"}
        elif event.get("message_id") in kept:
            kept[event["message_id"]] = apply_event(kept[event["message_id"]], event)  # type: ignore[arg-type, assignment]
    found = []
    for message in room.messages:
        replayed = kept.get(message["message_id"], {})
        for name in ANNOTATIONS:
            if message.get(name) != replayed.get(name):
                found.append(f"{message} shows other {name} than its log gives: {replayed.get(name)}")
    return found


def has_reaction(message: Frame, user_id: str = "", emoji: str = "") -> bool:
    """Whether the user has reacted so; without a user, whether the message is pinned."""
    if not user_id:
        return "pinned_at" in message
    return any(one["emoji"] == emoji and user_id in one["user_ids"] for one in message.get("reactions", ()))


def check_outcome(message: Frame, attempts: list[Attempt], *, is_there: bool) -> list[str]:
    """All that somebody did about one reaction or pin. Two devices of a user may have done both at a time."""
    possible = {attempt.kind for attempt in attempts if attempt.outcome is not Outcome.REFUSED}
    confirmed = {attempt.kind for attempt in attempts if attempt.outcome is Outcome.CONFIRMED}
    adding, removing = ("pin", "unpin") if attempts[0].kind in OF_PINS else ("react", "unreact")
    if is_there and adding not in possible:
        return [f"{message} has what nobody added: {attempts}"]
    if not is_there and adding in confirmed and removing not in possible:
        return [f"{message} has lost what was confirmed: {attempts}"]
    last = attempts[-1]
    is_last = all(attempt.settled and attempt.settled < last.begun for attempt in attempts[:-1])
    if is_last and last.outcome is Outcome.CONFIRMED and is_there is not (last.kind == adding):
        return [f"{message} does not show what was done last: {attempts}"]
    return []
