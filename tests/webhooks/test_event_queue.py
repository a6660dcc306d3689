"""The events of a tenant that are in memory: in order, whichever runs they are in."""

import random
from collections import defaultdict, deque
from typing import Any

import pytest

from chatapi.models import RoomKey, UserId
from chatapi.store.backend_events import WaitingEvent
from chatapi.store.webhooks import WaitingDelivery
from chatapi.webhooks.tenant_queues import EventQueue

TENANT: Any = None  # the queue only keeps it


def make_events(rooms: list[int], step: int = 0) -> list[WaitingEvent]:
    return [WaitingEvent(key, RoomKey(room), UserId(""), 0, step, 0) for key, room in enumerate(rooms, start=1)]


def test_a_run_is_a_part_of_the_rooms_in_order() -> None:
    queue = EventQueue(TENANT)
    queue.add(make_events([1, 1, 1, 1, 2, 3, 3, 4]))
    first = queue.take_run(8, 2)  # of two runs
    assert [call.key.event_key for call in first] == [1, 2, 3, 4, 5]
    assert [call.key.event_key for call in queue.take_run(8, 1)] == [6, 7, 8]
    assert not queue.has_ready


def test_retries_wait_for_nothing() -> None:
    queue = EventQueue(TENANT)
    queue.add(make_events([1, 1], step=1))
    assert [len(queue.take_run(8, 5)) for _ in range(2)] == [1, 1]


@pytest.mark.parametrize("seed", range(20))
def test_each_room_is_told_in_its_order_one_call_at_a_time(seed: int) -> None:
    chance = random.Random(seed)
    events = make_events([chance.randrange(6) for _ in range(120)])
    room_of = {event.event_key: event.room_key for event in events}
    queue = EventQueue(TENANT)
    runs: list[deque[WaitingDelivery]] = []
    calling: list[tuple[WaitingDelivery, deque[WaitingDelivery]]] = []
    told = defaultdict(list)
    while events or queue.known:
        act = chance.randrange(5)
        if act == 0:
            queue.add(events[:10])
            events = events[10:]
        elif act == 1 and queue.has_ready and len(runs) < 4:
            runs.append(queue.take_run(chance.randint(1, 8), chance.randint(1, 5)))
        elif act == 2 and runs:
            run = runs.pop(chance.randrange(len(runs)))
            if run:
                delivery = run.popleft()
                told[room_of[delivery.key.event_key]].append(delivery.key.event_key)
                calling.append((delivery, run))
                rooms = [room_of[one.key.event_key] for one, _ in calling]
                assert len(set(rooms)) == len(rooms)
        elif act == 3 and calling:
            delivery, run = calling.pop(chance.randrange(len(calling)))
            queue.answered(delivery)
            queue.stored(delivery.key)
            runs.append(run)
        elif act == 4 and (runs or calling) and chance.random() < 0.3:
            queue.give_back(chance.choice([*runs, *(run for _, run in calling)]))
    assert sum(map(len, told.values())) == 120
    assert all(keys == sorted(keys) for keys in told.values())
    assert not queue.chains
    assert not queue.taken
    assert not queue.busy
    assert not queue.under_way
