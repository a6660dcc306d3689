"""The checker of moves: a short run of it, and that it would see what it looks for."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from move_checker.journal import Journal
from move_checker.run import Run
from move_checker.verdict import find_violations

ROOM, LISTENER = "room_1", "bob"
MOVES = 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_a_tenant_moves_while_servers_and_the_command_are_killed(node_packages: None, tmp_path: Path) -> None:
    report = await Run(tmp_path, secrets.randbits(32)).run(MOVES)
    print(report)
    assert report.violations == []
    assert report.counts["confirmed"] > 0


class World:
    """One room with two messages and a stream, as everybody was told of them."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.log = [event(1, "a 1"), event(2, "a 2"), event(3, ""), {**event(4, "all"), "type": "message.finished"}]
        self.log[3]["message_id"] = self.log[2]["message_id"]
        for seq in (1, 2):
            self.note("alice", "confirmed", seq=seq, text=f"a {seq}")
        self.note("alice", "streamed", message_id="msg_3", text="all")
        for seq in range(1, 5):
            self.note(LISTENER, "heard", seq=seq)

    def note(self, who: str, kind: str, **fields: Any) -> None:
        self.journal.note({"who": who, "kind": kind, "room": ROOM, **fields})

    def find_violations(self) -> list[str]:
        return find_violations(self.journal, {ROOM: self.log}, (LISTENER,))


def event(seq: int, content: str) -> dict[str, Any]:
    names = {"message_id": f"msg_{seq}", "client_message_id": f"c {seq}", "sender_id": "alice"}
    return {"type": "message", "seq": seq, "content": content, **names}


def test_a_world_without_a_fault_has_no_violations() -> None:
    assert World().find_violations() == []


def lose_a_message(world: World) -> None:
    world.log[1]["content"] = "another one"


def lose_the_end_of_a_stream(world: World) -> None:
    world.log[3]["content"] = "al"


def double_a_message(world: World) -> None:
    world.log[1]["client_message_id"] = world.log[0]["client_message_id"]


def leave_a_gap(world: World) -> None:
    del world.log[0]


def confirm_in_another_order(world: World) -> None:
    world.journal.clients["alice"].confirmed.reverse()


def deliver_nothing_of_one_event(world: World) -> None:
    world.journal.clients[LISTENER].heard[ROOM].remove(2)


def deliver_twice(world: World) -> None:
    world.note(LISTENER, "heard", seq=4)


def stop_by_itself(world: World) -> None:
    world.note("alice", "error", text="the connection is closed")


@pytest.mark.parametrize(
    "fault",
    [
        lose_a_message,
        lose_the_end_of_a_stream,
        double_a_message,
        leave_a_gap,
        confirm_in_another_order,
        deliver_nothing_of_one_event,
        deliver_twice,
        stop_by_itself,
    ],
)
def test_the_verifier_sees_every_kind_of_fault(fault: Callable[[World], None]) -> None:
    world = World()
    fault(world)
    found = world.find_violations()
    assert found, fault
    print(found)
