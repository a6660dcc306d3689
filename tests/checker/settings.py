"""Settings, of which the last one counts: profiles, blocks, views of rooms, and rules for those who post."""

from collections import defaultdict
from collections.abc import Iterable

from checker.journal import Attempt, Journal, Outcome
from checker.truth import Truth

Write = tuple[Attempt, str]
"""An attempt, and the value that it sets."""


def find_last(writes: Iterable[Write], initial: str) -> set[str]:
    """Values of which each may be the last one. A write is not the last if a confirmed one began after its end."""
    possible = [write for write in writes if write[0].outcome is not Outcome.REFUSED]
    confirmed = [attempt.begun for attempt, _ in possible if attempt.outcome is Outcome.CONFIRMED]
    latest = max(confirmed, default=0)
    values = {value for attempt, value in possible if not attempt.settled or attempt.settled > latest}
    return values if confirmed else values | {initial}


def check_settings(journal: Journal, truth: Truth) -> list[str]:
    writes: dict[tuple[str, str, str], list[Write]] = defaultdict(list)
    for attempt in journal.attempts:
        for key, value in list_writes(attempt):
            writes[key].append((attempt, value))
    found = []
    shown = list_shown(truth)
    for key, (value, initial) in shown.items():
        if value not in (possible := find_last(writes[key], initial)):
            found.append(f"{key} is {value!r}, and can be {sorted(possible)}: {[one for one, _ in writes[key]][-5:]}")
    return found + [f"{key} is not shown" for key in writes.keys() - shown.keys() if key[0] in ("profile", "blocked")]


def list_writes(attempt: Attempt) -> list[tuple[tuple[str, str, str], str]]:
    """The settings that it makes: each its key and value. Leaving a room forgets the view of it."""
    content = attempt.content or ""
    if attempt.kind in ("block", "unblock"):
        return [(("blocked", attempt.user_id, content), str(attempt.kind == "block"))]
    if attempt.kind == "profile":
        return [(("profile", attempt.user_id, ""), content)]
    if attempt.kind in ("posting", "slow_mode_seconds"):
        return [((attempt.kind, "", attempt.room_id), content)]
    if attempt.kind == "notify":
        return [(("notify", attempt.user_id, attempt.room_id), content)]
    if attempt.kind in ("join", "leave", "ban"):
        return [(("notify", attempt.user_id, attempt.room_id), "all")]
    return []


def list_shown(truth: Truth) -> dict[tuple[str, str, str], tuple[str, str]]:
    """By key: the value at the end, and the one that was there before all writes."""
    shown = {}
    for user_id, user in truth.users.items():
        shown["profile", user_id, ""] = (user.name or "", "")
        for other_id in truth.users:
            shown["blocked", user_id, other_id] = (str(other_id in user.blocked), "False")
        for room_id, room in user.rooms.items():
            shown["notify", user_id, room_id] = (room["notify"], "all")
    for room_id, room in truth.rooms.items():
        if room.own:
            shown["posting", "", room_id] = (room.own["posting"], "members")
            shown["slow_mode_seconds", "", room_id] = (str(room.own["slow_mode_seconds"]), "0")
    return shown


def check_hidden(journal: Journal, truth: Truth) -> list[str]:
    """A hidden room is one that the user hid, and in which nobody else has posted since; and the other way round."""
    hides: dict[tuple[str, str], list[Write]] = defaultdict(list)
    sends: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in journal.attempts:
        if attempt.kind == "hide":
            hides[attempt.user_id, attempt.room_id].append((attempt, attempt.content or ""))
        elif attempt.kind in ("join", "leave", "ban"):
            hides[attempt.user_id, attempt.room_id].append((attempt, "False"))
        elif attempt.kind == "send" and attempt.outcome is not Outcome.REFUSED:
            sends[attempt.room_id].append(attempt)
    found = []
    for user_id, user in truth.users.items():
        for room_id, room in user.rooms.items():
            others = [attempt for attempt in sends[room_id] if attempt.user_id != user_id]
            possible = find_hidden(hides[user_id, room_id], others)
            if str(room["hidden"]) not in possible:
                last = [attempt for attempt, _ in hides[user_id, room_id]][-3:]
                found.append(f"{room_id} hidden from {user_id}: {room['hidden']}, after {last} and {others[-3:]}")
    return found


def find_hidden(hides: list[Write], posts: list[Attempt]) -> set[str]:
    """The answers that may be right. `posts` are those of others."""
    possible = find_last(hides, "False")
    begun = max((attempt.begun for attempt, value in hides if value == "True"), default=0)
    ended = [attempt.settled for attempt, value in hides if value == "True" and attempt.outcome is not Outcome.REFUSED]
    if all(ended) and any(post.outcome is Outcome.CONFIRMED and post.begun > max(ended, default=0) for post in posts):
        possible.discard("True")
        possible.add("False")
    elif any(not post.settled or post.settled > begun for post in posts):
        possible.add("False")
    return possible
