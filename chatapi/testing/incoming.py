"""Waiting for what comes: webhooks, and the events of a connection."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

WAIT_S = 5.0
LOOK_S = 0.005  # between two looks
SHOWN = 10  # in the message when nothing came

T = TypeVar("T")


class Incoming(ABC, Generic[T]):
    """In the order in which they came."""

    def __init__(self) -> None:
        self._given: set[int] = set()

    @abstractmethod
    def look(self) -> Sequence[T]:
        """All that have come so far."""

    @abstractmethod
    def read_type(self, item: T) -> str: ...

    @abstractmethod
    def has(self, item: T, fields: dict[str, object]) -> bool:
        """Whether it has these values."""

    def check(self) -> None:
        """Raises what keeps more from coming."""
        return

    def wait_for(self, wanted: str, *, timeout_s: float = WAIT_S, **fields: object) -> T:
        """The first of this type with these fields that it has not returned before, past or future. Raises
        AssertionError, which says what came instead."""
        end_s = time.monotonic() + timeout_s
        while True:
            items = self.look()
            for number, item in enumerate(items):
                if number not in self._given and self.read_type(item) == wanted and self.has(item, fields):
                    self._given.add(number)
                    return item
            self.check()
            if time.monotonic() >= end_s:
                raise AssertionError(self._tell(wanted, timeout_s, fields, items))
            time.sleep(LOOK_S)

    def _tell(self, wanted: str, timeout_s: float, fields: dict[str, object], items: Sequence[T]) -> str:
        with_fields = "".join(f" {name}={value!r}" for name, value in fields.items())
        came = ", ".join(self.read_type(item) for item in items[-SHOWN:]) or "nothing"
        taken = f"; {len(self._given)} of them were waited for before" if self._given else ""
        return f"no {wanted}{with_fields} within {timeout_s:g} s; there came: {came}{taken}"
