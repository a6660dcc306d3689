"""The options of a connection, and the callbacks by which it reports."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["connecting", "syncing", "live", "waiting", "paused", "closed"]
OnState = Callable[[State], None]
OnError = Callable[[Exception], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """See `ChatAPI.connect`."""

    auto_ack: bool = True
    auto_ack_notifications: bool = True
    min_delay_s: float = 0.5
    max_delay_s: float = 30.0
    max_pending: int = 1000
    on_state: OnState | None = None
    on_error: OnError | None = None

    def __post_init__(self) -> None:
        if self.max_pending < 1:
            raise ValueError("max_pending must be at least 1")
