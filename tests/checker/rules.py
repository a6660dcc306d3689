"""Rules for those who post: mutes, slow mode and `posting`, by the order of the log; blocks. And reports."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from checker.clients import WARDEN
from checker.journal import Attempt, Frame, Journal, Outcome
from checker.streams import Contents
from checker.truth import RoomTruth, Truth


def check_rules(journal: Journal, truth: Truth) -> list[str]:
    found = [text for room in truth.rooms.values() for text in find_breaches(room)]
    return found + check_mutes(journal, truth)


def find_breaches(room: RoomTruth) -> Iterator[str]:
    """Events of users who were not allowed to make them. The warden may do everything."""
    posting, slow = "members", timedelta()
    muted: dict[str, datetime] = {}
    last: dict[str, datetime] = {}
    for event in room.events:
        kind, user_id = event["type"], event.get("sender_id", event.get("user_id"))
        if kind == "room.updated":
            posting, slow = event.get("posting", posting), timedelta(seconds=event.get("slow_mode_seconds", 0))
        elif kind == "member.updated":
            muted.pop(event["user_id"], None)
            if event["muted_until"] is not None:
                muted[event["user_id"]] = read_time(event["muted_until"])
        elif kind in ("message", "message.edited") and posting == "admins" and user_id != WARDEN:
            yield f"{event} is of a user while only admins may post"
        if kind in ("message", "reaction.added") and "created_at" in event and user_id != WARDEN:
            created_at = read_time(event["created_at"])
            if user_id in muted and created_at < muted[user_id]:
                yield f"{event} is of a user who is muted until {muted[user_id]}"
            if kind == "message":
                if user_id in last and created_at - last[user_id] < slow:
                    yield f"{event} came {created_at - last[user_id]} after the last one, in slow mode of {slow}"
                last[user_id] = created_at
        if kind == "reaction.added" and not room.is_member(event["user_id"], event["seq"]):
            yield f"{event} is of a user who was no member"


def read_time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def check_mutes(journal: Journal, truth: Truth) -> list[str]:
    """As many as were confirmed, and no more than were asked for."""
    stored: Counter[tuple[str, str]] = Counter()
    for room in truth.rooms.values():
        stored.update((room.room_id, event["user_id"]) for event in room.events if event["type"] == "member.updated")
    mutes = [attempt for attempt in journal.attempts if attempt.kind == "mute"]
    confirmed = Counter((one.room_id, one.user_id) for one in mutes if one.outcome is Outcome.CONFIRMED)
    possible = Counter((one.room_id, one.user_id) for one in mutes if one.outcome is not Outcome.REFUSED)
    return [
        f"mutes of {key}: {stored[key]} stored, {confirmed[key]} confirmed, {possible[key]} possible"
        for key in stored.keys() | possible.keys()
        if not confirmed[key] <= stored[key] <= possible[key]
    ]


def check_blocks(journal: Journal, dms: Mapping[str, str]) -> list[str]:
    """Neither writes in a dm after one of them has blocked the other, until that may have ended."""
    blocks: dict[frozenset[str], list[Attempt]] = defaultdict(list)
    for attempt in journal.attempts:
        if attempt.kind in ("block", "unblock") and attempt.outcome is not Outcome.REFUSED:
            blocks[frozenset((attempt.user_id, attempt.content or ""))].append(attempt)
    return [
        f"{attempt} was confirmed, after {block}"
        for attempt in journal.attempts
        if attempt.room_id in dms and attempt.kind in ("send", "edit", "react") and attempt.outcome is Outcome.CONFIRMED
        for block in find_blocks(attempt, blocks[frozenset((WARDEN, dms[attempt.room_id]))])
    ]


def find_blocks(attempt: Attempt, blocks: list[Attempt]) -> list[Attempt]:
    """Those that held for certain during the whole attempt."""
    return [
        block
        for block in blocks
        if block.kind == "block" and block.outcome is Outcome.CONFIRMED and block.settled < attempt.begun
        if not any(
            other.kind == "unblock"
            and other.user_id == block.user_id
            and other.begun < attempt.settled
            and not 0 < other.settled < block.begun
            for other in blocks
        )
    ]


def check_reports(journal: Journal, truth: Truth, contents: Contents) -> list[str]:
    """Each report once, with the message as it once stood, and resolved if that was asked for."""
    reports: dict[str, Frame] = {report["report_id"]: report for report in truth.reports}
    found = (
        [f"{len(truth.reports) - len(reports)} reports are listed twice"] if len(reports) < len(truth.reports) else []
    )
    made = {(report["user_id"], report["message"]["message_id"]): report for report in reports.values()}
    if len(made) < len(reports):
        found.append(f"{len(reports) - len(made)} messages were reported twice by one user")
    asked = set()
    resolved: dict[str, set[Outcome]] = {}
    for attempt in journal.attempts:
        if attempt.kind == "report":
            report = made.get((attempt.user_id, attempt.message_id or ""))
            if attempt.outcome is not Outcome.REFUSED:
                asked.add((attempt.user_id, attempt.message_id))
            if attempt.outcome is Outcome.CONFIRMED and (report is None or report["report_id"] != attempt.content):
                found.append(f"{attempt} is now {report}")
        elif attempt.kind == "resolve" and attempt.content:
            resolved.setdefault(attempt.content, set()).add(attempt.outcome)
    found += [f"nobody reported {made[key]}" for key in made.keys() - asked]
    for report_id, report in reports.items():
        outcomes = resolved.get(report_id, set())
        is_resolved = report["status"] == "resolved"
        if is_resolved and not outcomes & {Outcome.CONFIRMED, Outcome.UNKNOWN}:
            found.append(f"nobody resolved {report}")
        if not is_resolved and Outcome.CONFIRMED in outcomes:
            found.append(f"{report} was resolved")
        if report["message"]["content"] not in contents.get(report["message"]["message_id"], ()):
            found.append(f"nobody ever wrote the message of {report}")
    return found
