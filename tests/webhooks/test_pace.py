"""How many calls the backends get while others need the server."""

import pytest

from chatapi.webhooks import pace
from chatapi.webhooks.pace import LEAST, MOST, PERIOD_SECONDS, Pace


class Machine:
    """A server that works as a test says."""

    def __init__(self) -> None:
        self.now_s = self.worked_s = 0.0
        self.writes = 0
        self.pace = Pace(lambda: self.writes, lambda: self.now_s, lambda: self.worked_s)

    def pass_periods(self, count: int, share: float) -> int:
        """So many periods, of a part of which the server worked; the calls that may be made now."""
        for _ in range(count):
            self.now_s += PERIOD_SECONDS * 1.01
            self.worked_s += share * PERIOD_SECONDS
            left = self.pace.left
        return left


def test_a_busy_server_makes_few_calls_and_one_that_is_not_busy_many() -> None:
    machine = Machine()
    assert machine.pace.left == MOST
    assert machine.pass_periods(1, 0.9) == MOST // 2
    assert machine.pass_periods(20, 0.9) == LEAST
    assert LEAST / PERIOD_SECONDS >= 500
    assert LEAST < machine.pass_periods(3, 0.5) < MOST
    assert machine.pass_periods(30, 0.5) == MOST


def test_writes_that_wait_show_a_busy_machine() -> None:
    machine = Machine()
    machine.writes = pace.BUSY_WRITES
    assert machine.pass_periods(20, 0.1) == LEAST
    machine.writes -= 1
    assert machine.pass_periods(30, 0.1) == MOST


def test_those_that_were_taken_are_not_given_again_in_their_period() -> None:
    machine = Machine()
    machine.pass_periods(20, 0.9)
    machine.pace.take(LEAST - 1)
    assert machine.pace.left == 1
    machine.pace.take(8)
    assert machine.pace.left == 0
    assert machine.pace.wait_s == pytest.approx(PERIOD_SECONDS)
    machine.now_s += PERIOD_SECONDS / 2
    assert machine.pace.wait_s == pytest.approx(PERIOD_SECONDS / 2)
    assert machine.pace.left == 0
    assert machine.pass_periods(1, 1.5) == LEAST
