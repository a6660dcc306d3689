"""The state behind `/dev`, which only `serve --dev` and `--test` have."""

from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from chatapi.dev_clock import DevClock
from chatapi.faults import Faults

MAX_CALLS = 10_000
MAX_CALL_BYTES = 32 * 1024 * 1024


class InboxCall(NamedTuple):
    """A webhook call as it came. `is_valid`: its signature is right, and its timestamp the clock's to 5 minutes."""

    webhook_id: str
    type: str
    body: bytes
    is_valid: bool
    at_us: int


class WebhookInbox:
    """The newest calls; the oldest are dropped when they are more than the bounds."""

    def __init__(self) -> None:
        self._calls: deque[InboxCall] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: InboxCall) -> None:
        self._calls.append(call)
        self._bytes += len(call.body)
        while len(self._calls) > MAX_CALLS or self._bytes > MAX_CALL_BYTES:
            self._bytes -= len(self._calls.popleft().body)

    def clear(self) -> None:
        self._calls.clear()
        self._bytes = 0

    def list_calls(self) -> list[InboxCall]:
        """The oldest first."""
        return list(self._calls)


class DevTools:
    """Made once by `start_app`, under `--dev` and `--test` alone."""

    def __init__(self, clock: DevClock, scratch: Path | None = None) -> None:
        """`scratch` is a temporary directory, for databases that nobody looks at after a reset."""
        self.clock = clock
        self.scratch = scratch
        self.inbox = WebhookInbox()
        self.faults = Faults()
        self.reset: Callable[[], Awaitable[None]]
        """Removes everything but the printed tenant. Set by `start_app`."""
