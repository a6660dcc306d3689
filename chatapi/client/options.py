"""The options of a connection, and the callbacks by which it reports."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["connecting", "syncing", "live", "waiting", "paused", "closed"]
Transport = Literal["websocket", "sse", "poll"]
TRANSPORTS: tuple[Transport, ...] = ("websocket", "sse", "poll")
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
    transports: tuple[Transport, ...] = TRANSPORTS

    def __post_init__(self) -> None:
        if self.max_pending < 1:
            raise ValueError("max_pending must be at least 1")
        if not self.transports or not set(self.transports) <= set(TRANSPORTS):
            raise ValueError("transports must be some of websocket, sse and poll")
