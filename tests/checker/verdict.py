"""Holds everything that the clients were told against what the server holds at the end."""

from collections import Counter, defaultdict
from collections.abc import Mapping

from checker.annotations import check_annotations
from checker.growing import check_frames, check_growing
from checker.journal import Attempt, Frame, Journal, Outcome, Page
from checker.pipes import check_pipes
from checker.pollers import check_poll
from checker.rules import check_blocks, check_reports, check_rules
from checker.search import check_search
from checker.settings import check_hidden, check_settings
from checker.streams import Contents, Said, StreamCheck, find_differences
from checker.threads import check_threads
from checker.truth import RoomTruth, Truth

Rooms = dict[str, RoomTruth]


def find_violations(journal: Journal, truth: Truth, dms: Mapping[str, str]) -> list[str]:
    """Everything that is wrong. `dms` of the warden: by room, the other user."""
    rooms = truth.rooms
    contents = collect_contents(journal, rooms)
    found = list(journal.faults)
    for room in rooms.values():
        found += check_log(room)
        found += check_search(room)
    for stream in journal.streams:
        found += StreamCheck(stream, journal, rooms, contents).run()
        found += check_frames(stream, journal, rooms)
    for page in journal.pages:
        found += check_page(page, rooms, contents)
    for poll in journal.polls:
        found += check_poll(poll, journal, rooms, contents)
    found += check_messages(journal, rooms)
    found += check_revisions(journal, rooms)
    found += check_annotations(journal, rooms)
    found += check_growing(journal, rooms)
    found += check_pipes(journal, rooms)
    found += check_members(journal, rooms)
    found += check_receipts(journal, rooms)
    found += check_threads(journal, truth)
    found += check_settings(journal, truth)
    found += check_hidden(journal, truth)
    found += check_rules(journal, truth)
    found += check_blocks(journal, dms)
    return found + check_reports(journal, truth, contents)


def collect_contents(journal: Journal, truth: Rooms) -> Contents:
    by_identity = {attempt.client_message_id: attempt.content for attempt in of_kind(journal, "send")}
    contents: Contents = defaultdict(Said)
    for room in truth.values():
        for event in room.events:
            if event["type"] == "message":
                contents[event["message_id"]].add(by_identity.get(event["client_message_id"], "not sent by anybody"))
                if (pipe := journal.pipes.get(event["client_message_id"])) is not None:
                    contents[event["message_id"]].piped = pipe.text
    for attempt in journal.attempts:
        if attempt.kind in ("edit", "delete") and attempt.message_id is not None:
            contents[attempt.message_id].add(attempt.content)
        elif attempt.kind == "finish" and attempt.content is not None:
            contents[attempt.message_id or ""].add(attempt.content)
    for growing in journal.growing.values():
        contents[growing.message_id].update(growing.list_contents())
    return contents


def of_kind(journal: Journal, *kinds: str) -> list[Attempt]:
    return [attempt for attempt in journal.attempts if attempt.kind in kinds]


def check_log(room: RoomTruth) -> list[str]:
    seqs = [event["seq"] for event in room.events]
    if seqs != list(range(1, room.last_seq + 1)):
        return [f"the log of {room.room_id} is not 1..{room.last_seq}: {seqs}"]
    return []


def check_page(page: Page, truth: Rooms, contents: Contents) -> list[str]:
    """What was read meanwhile is in the log, without a gap, and went as far as anybody knew."""
    room = truth.get(page.room_id)
    first, last = page.after_seq + 1, page.after_seq + len(page.events)
    where = f"the page of {page.room_id} after {page.after_seq} that {page.user_id} read"
    if room is None or [event["seq"] for event in page.events] != list(range(first, last + 1)):
        return [f"{where} has a gap"]
    if len(page.events) < 100 and last < page.known_seq:
        return [f"{where} ends at {last}, but {page.known_seq} was known"]
    found = []
    for event in page.events:
        logged = room.find(event["seq"])
        wrong = ["not in the log"] if logged is None else find_differences(event, logged, contents)
        found += [f"{where} holds {event}: {text}" for text in wrong]
    return found


def check_messages(journal: Journal, truth: Rooms) -> list[str]:
    """Confirmed ones are there, refused ones are not, and none is there twice."""
    found = []
    stored: dict[tuple[str, str], list[Frame]] = defaultdict(list)
    for room in truth.values():
        for event in room.events:
            if event["type"] == "message":
                stored[room.room_id, event["client_message_id"]].append(event)
    for attempt in of_kind(journal, "send"):
        copies = stored.pop((attempt.room_id, attempt.client_message_id or ""), [])
        if len(copies) > 1:
            found.append(f"{attempt} is stored {len(copies)} times: {copies}")
        if attempt.outcome is Outcome.CONFIRMED and [
            (copy["message_id"], copy["seq"], copy["sender_id"]) for copy in copies
        ] != [(attempt.message_id, attempt.seq, attempt.user_id)]:
            found.append(f"{attempt} was confirmed, and the log holds {copies}")
        if attempt.outcome is Outcome.REFUSED and copies:
            found.append(f"{attempt} was refused, and the log holds {copies}")
    return found + [f"nobody sent {events}" for events in stored.values()]


def check_revisions(journal: Journal, truth: Rooms) -> list[str]:
    """Confirmed edits and deletions are in the log, and a message says what the last one of them made it say."""
    found = []
    messages: dict[str, Frame] = {}
    changes: Counter[tuple[str, str]] = Counter()
    for room in truth.values():
        for event in room.events:
            if event["type"] == "message":
                messages[event["message_id"]] = event
            elif event["type"] in ("message.edited", "message.deleted"):
                changes[event["type"], event["message_id"]] += 1
    by_message: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in of_kind(journal, "edit", "delete"):
        by_message[attempt.message_id or ""].append(attempt)
    for message_id, attempts in by_message.items():
        message = messages.get(message_id)
        if message is None:
            found.append(f"{attempts} are of a message that is not there")
            continue
        edits = [attempt for attempt in attempts if attempt.kind == "edit"]
        possible = [attempt for attempt in edits if attempt.outcome is not Outcome.REFUSED]
        confirmed = [attempt for attempt in edits if attempt.outcome is Outcome.CONFIRMED]
        if not len(confirmed) <= changes["message.edited", message_id] <= len(possible):
            found.append(f"{changes['message.edited', message_id]} edits of {message_id} are stored: {attempts}")
        deletions = [attempt for attempt in attempts if attempt.kind == "delete"]
        found += check_final(message, possible, deletions, changes["message.deleted", message_id])
    return found


def check_final(message: Frame, edits: list[Attempt], deletions: list[Attempt], deleted_events: int) -> list[str]:
    """`edits` are those that may have happened: one device's, one after the other."""
    found = []
    is_deleted = message["deleted_at"] is not None
    if is_deleted != (deleted_events == 1) or is_deleted != (message["content"] is None):
        found.append(f"{message} has {deleted_events} deletions in the log")
    outcomes = {attempt.outcome for attempt in deletions}
    if Outcome.CONFIRMED in outcomes and not is_deleted:
        found.append(f"{message} was deleted: {deletions}")
    if is_deleted and not outcomes & {Outcome.CONFIRMED, Outcome.UNKNOWN}:
        found.append(f"{message} was not deleted by anybody")
    if not is_deleted and edits:
        confirmed = [index for index, attempt in enumerate(edits) if attempt.outcome is Outcome.CONFIRMED]
        last = confirmed[-1] if confirmed else 0
        if message["content"] not in {attempt.content for attempt in edits[last:]} and confirmed:
            found.append(f"{message} does not show its last edit: {edits[last:]}")
    return found


MEMBER_EVENTS = {"member.joined": "join", "member.left": "leave", "member.banned": "ban", "member.unbanned": "unban"}


def check_members(journal: Journal, truth: Rooms) -> list[str]:
    """As many comings, goings and bans as were confirmed, and no more than were asked for. Lifting a ban that is not
    there is confirmed, too. Nothing of a user follows their ban until they have joined again."""
    found = []
    stored: Counter[tuple[str, str, str]] = Counter()
    for room in truth.values():
        for event in room.events:
            if event["type"] in MEMBER_EVENTS:
                stored[MEMBER_EVENTS[event["type"]], room.room_id, event["user_id"]] += 1
            elif event["type"] == "message" and not room.is_member(event["sender_id"], event["seq"]):
                found.append(f"{event} is of a user who was no member")
    confirmed: Counter[tuple[str, str, str]] = Counter()
    possible: Counter[tuple[str, str, str]] = Counter()
    for attempt in of_kind(journal, *MEMBER_EVENTS.values()):
        key = (attempt.kind, attempt.room_id, attempt.user_id)
        confirmed[key] += attempt.outcome is Outcome.CONFIRMED and attempt.kind != "unban"
        possible[key] += attempt.outcome is not Outcome.REFUSED
    for key in stored.keys() | possible.keys():
        if not confirmed[key] <= stored[key] <= possible[key]:
            found.append(f"{key}: {stored[key]} stored, {confirmed[key]} confirmed, {possible[key]} possible")
    return found


def check_receipts(journal: Journal, truth: Rooms) -> list[str]:
    """Nobody stands lower than confirmed, nor higher than anybody asked for."""
    found = []
    asked: dict[tuple[str, str], int] = defaultdict(int)
    confirmed: dict[tuple[str, str], int] = defaultdict(int)
    for attempt in of_kind(journal, "ack", "read"):
        key = (attempt.room_id, attempt.user_id)
        asked[key] = max(asked[key], attempt.seq or 0)
        if attempt.outcome is Outcome.CONFIRMED:
            confirmed[key] = max(confirmed[key], attempt.seq or 0)
    for room in truth.values():
        for user_id, receipt in room.receipts.items():
            key = (room.room_id, user_id)
            joined = max(room.joined(user_id), default=0)
            if not max(confirmed[key], joined) <= receipt["last_ack"] <= max(asked[key], joined):
                found.append(f"{key}: last_ack is {receipt}, confirmed {confirmed[key]}, asked {asked[key]}")
    return found
