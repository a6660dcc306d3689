"""Readers that ask for events again and again (long polls), from their own cursors, and what is wrong with answers."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress

from checker.clients import World
from checker.journal import Frame, Journal, Poll, is_leaving
from checker.streams import Contents, find_differences
from checker.truth import RoomTruth
from checker.wire import Unreachable

LIMITS = (5, 100, 1000)
MAX_WAIT_SECONDS = 1
MAX_PAUSE_SECONDS = 0.3  # between two polls


class Poller:
    """It goes on while the others pause."""

    def __init__(self, world: World, user_id: str) -> None:
        self.world = world
        self.user_id = user_id
        self.cursors: dict[str, int] = {}
        self.is_over = False
        self._random = random.Random(f"{world.seed}/{user_id}.poll")
        self._epoch: str | None = None

    async def run(self) -> None:
        while not self.world.ending:
            with suppress(Unreachable):
                await self._poll()
            await asyncio.sleep(self._random.uniform(0, MAX_PAUSE_SECONDS))
        self.is_over = True

    async def _poll(self) -> None:
        journal, begun = self.world.journal, self.world.journal.tick()
        limit, wait = self._random.choice(LIMITS), self._random.randint(0, MAX_WAIT_SECONDS)
        epoch = "another" if self._random.random() < 0.02 else self._epoch
        body = {"epoch": epoch, "rooms": dict(self.cursors), "limit": limit, "wait": wait}
        reply = await self.world.wire.call(self.user_id, "POST", "/sync", body)
        journal.counts[f"polls answered {reply.status}"] += 1
        if reply.status != 200:
            if reply.status not in (403, 429, 503):  # banned, too many, or it shuts down
                journal.fault(f"{self.user_id}'s poll {body} was answered {reply}")
            raise Unreachable
        poll = Poll(self.user_id, begun, dict(self.cursors), limit, epoch == "another", reply.data)
        journal.polls.append(poll)
        self._epoch, self.cursors = reply.data["epoch"], reply.data["rooms"]
        for event in reply.data["events"]:
            journal.learn(event["room_id"], event["seq"])

    def find_missing(self, seqs: dict[str, int]) -> str:
        """What it has not got of its rooms up to these seqs; empty when nothing."""
        behind = {
            room_id: f"{seq} of {seqs[room_id]}"
            for room_id, seq in self.cursors.items()
            if seq < seqs.get(room_id, 0) and not self.is_over
        }
        return f"it has got {behind}" if behind else ""


def check_poll(poll: Poll, journal: Journal, truth: dict[str, RoomTruth], contents: Contents) -> list[str]:
    return [
        f"a poll of {poll.user_id} begun at tick {poll.begun}: {text}"
        for text in find_wrong(poll, journal, truth, contents)
    ]


def find_wrong(poll: Poll, journal: Journal, truth: dict[str, RoomTruth], contents: Contents) -> Iterator[str]:
    answer = poll.answer
    events: dict[str, list[Frame]] = defaultdict(list)
    for event in answer["events"]:
        events[event["room_id"]].append(event)
    if len(answer["events"]) > poll.limit:
        yield f"{len(answer['events'])} events, of {poll.limit} at most"
    left = {room_id for room_id, part in events.items() if is_leaving(part[-1], poll.user_id)}
    refused = answer["errors"].keys()  # also rooms that the user has left since their events were read
    if not events.keys() - left - refused <= answer["rooms"].keys() or answer["gaps"]:
        yield f"{answer['rooms']}, {answer['errors']}, {answer['gaps']} for events of {sorted(events)}"
    for room_id in events.keys() & refused:
        seqs = [event["seq"] for event in events[room_id]]
        start = poll.cursors.get(room_id, seqs[0] - 1)
        if seqs != list(range(start + 1, start + 1 + len(seqs))):
            yield f"{room_id} after {start}, then refused: {seqs}"
    if lost := poll.cursors.keys() - answer["rooms"].keys() - answer["errors"].keys():
        yield f"{lost} are not answered"
    if both := answer["rooms"].keys() & answer["errors"].keys():
        yield f"{both} are answered and refused"
    if bool(answer["reset"]) and not poll.is_foreign:
        yield f"it was set back: {answer['reset']}"
    for room_id, last_seq in answer["rooms"].items():
        seqs = [event["seq"] for event in events[room_id]]
        acked_seq = journal.acked_seq(poll.user_id, room_id, poll.begun)
        is_own = room_id in poll.cursors and room_id not in answer["reset"]
        start = poll.cursors[room_id] if is_own else answer["reset"].get(room_id, seqs[0] - 1 if seqs else last_seq)
        if seqs != list(range(start + 1, last_seq + 1)) or (not is_own and start < acked_seq):
            yield f"{room_id} after {start}, with {acked_seq} acknowledged, up to {last_seq}: {seqs}"
        known_seq = journal.known_seq(room_id, poll.begun)
        if not answer["has_more"] and last_seq < known_seq:
            yield f"{room_id} ends at {last_seq}, and {known_seq} was known"
    for event in answer["events"]:
        room = truth.get(event["room_id"])
        logged = room.find(event["seq"]) if room is not None else None
        wrong = ["not in the log"] if logged is None else find_differences(event, logged, contents)
        yield from (f"{text}: {event}" for text in wrong)
