"""That the checker sees each fault of the calls for the backend."""

import dataclasses
import random
from collections.abc import Callable

import pytest
from checker.backend import TOLD, Backend, Told, check_told
from checker.sample import ROOM, World
from checker.truth import RoomTruth


def told_in_order(room: RoomTruth) -> Backend:
    backend = Backend(random.Random(0))
    backend.told = [Told("id_0", "room.created", room.room_id, {"type": "room.created"})]
    backend.told += [
        Told(f"id_{event['seq']}", TOLD[event["type"]], room.room_id, dict(event)) for event in room.events
    ]
    return backend


def lose(told: list[Told]) -> None:
    del told[2]


def lose_creation(told: list[Told]) -> None:
    del told[0]


def swap(told: list[Told]) -> None:
    told[2], told[3] = told[3], told[2]


def rename(told: list[Told]) -> None:
    told[2].name = "message.edited"


def tell_of_another_message(told: list[Told]) -> None:
    told[2].event["message_id"] = "msg_9"


def use_two_ids(told: list[Told]) -> None:
    told.append(dataclasses.replace(told[2], webhook_id="id_9"))


def use_one_id(told: list[Told]) -> None:
    told[3].webhook_id = told[2].webhook_id


def invent(told: list[Told]) -> None:
    told.append(dataclasses.replace(told[2], room_id="room_9"))


@pytest.mark.parametrize(
    "fault", [lose, lose_creation, swap, rename, tell_of_another_message, use_two_ids, use_one_id, invent]
)
def test_each_fault_of_the_calls_for_the_backend_is_seen(fault: Callable[[list[Told]], None]) -> None:
    events = World().events
    rooms = {ROOM: RoomTruth(ROOM, len(events), events, {}, [])}
    backend = told_in_order(rooms[ROOM])
    backend.told.append(backend.told[2])  # a repeated call is none
    assert check_told(backend, rooms) == []
    fault(backend.told)
    assert check_told(backend, rooms)
