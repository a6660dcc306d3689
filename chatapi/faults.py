"""Faults that a server for tests makes on command, so that a client can show that it recovers (docs/testing.md).

Here is which faults are on and whom they strike. They act in `rest.faulty`, on requests and connections, and in
`ws.faulty_session`, on frames; both are there only in `serve --dev` and `serve --test`.
"""

import asyncio
import logging
import random
from collections.abc import Callable

from chatapi.errors import HTTP_STATUS, ChatError, Code
from chatapi.protocol.fault_records import FaultSet, FaultsNow

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 0.1  # with a 429; REST rounds it up to a whole second
_CODES = {status: code for code, status in HTTP_STATUS.items()}


class Faults:
    """One set of faults is on at a time. `cut` and `renew` are the server's."""

    def __init__(self) -> None:
        self.cut: Callable[[float], int] = _cut_nothing
        """Cuts this share of the connections that the faults strike, and returns how many."""
        self.renew: Callable[[], None] = _renew_nothing
        """Lets everything go on that was held back, and stops what is stalled from now on."""
        self._set = FaultSet()
        self._dropped = 0
        self._left_to_lose = 0
        self._stalled_until_s = 0.0  # of the loop's time
        self._is_open = asyncio.Event()  # no stall
        self._is_open.set()
        self._stall_timer: asyncio.TimerHandle | None = None
        self._cut_timer: asyncio.TimerHandle | None = None

    # The operator's

    def replace(self, faults: FaultSet) -> None:
        """Ends the faults that are on, and begins these."""
        loop = asyncio.get_running_loop()
        for timer in (self._stall_timer, self._cut_timer):
            if timer is not None:
                timer.cancel()
        self._set, self._dropped, self._left_to_lose = faults, 0, faults.lose_confirmations
        self._is_open.set()
        self._stalled_until_s = 0.0
        if faults.stall_seconds:
            self._stalled_until_s = loop.time() + faults.stall_seconds
            self._is_open.clear()
            self._stall_timer = loop.call_at(self._stalled_until_s, self._end_stall)
        self.renew()
        if faults.drop:
            self._dropped += self.cut(float(faults.drop))
        if faults.cut_every_seconds is not None:
            self._cut_timer = loop.call_later(faults.cut_every_seconds, self._cut_again, faults.cut_every_seconds)
        logger.info("faults were set", extra={"faults": self.describe()})

    def end(self) -> None:
        """As `replace` with no faults, if any are on."""
        if self._set != FaultSet():
            self.replace(FaultSet())

    def describe(self) -> FaultsNow:
        on = self._set
        return FaultsNow(
            dropped=self._dropped,
            cut_every_seconds=on.cut_every_seconds,
            delay_ms=on.delay_ms,
            error=on.error,
            lose_confirmations=self._left_to_lose,
            stall_seconds=round(self._find_stall_s(), 3),
            user_id=on.user_id,
        )

    # Asked where they act

    def strikes(self, user_id: str | None) -> bool:
        return self._set.user_id is None or self._set.user_id == user_id

    def is_stalled(self, user_id: str | None) -> bool:
        return not self._is_open.is_set() and self.strikes(user_id)

    async def outlast_stall(self, user_id: str | None) -> None:
        while self.is_stalled(user_id):
            await self._is_open.wait()

    def find_hold_s(self, user_id: str | None) -> float:
        """For how long bytes for this user are held back."""
        if not self.strikes(user_id):
            return 0.0
        return max(self._set.delay_ms / 1000, self._find_stall_s())

    def pick_error(self, user_id: str | None) -> ChatError | None:
        """The error for a request or frame of this user, if it may not be carried out."""
        fault = self._set.error
        if fault is None or not self.strikes(user_id) or random.random() >= fault.rate:  # noqa: S311 - no secret
            return None
        code = _CODES.get(fault.status, Code.VALIDATION_ERROR if fault.status < 500 else Code.INTERNAL_ERROR)
        retry_after_s = RETRY_AFTER_SECONDS if code is Code.RATE_LIMIT_EXCEEDED else None
        return ChatError(code, "A fault that /dev/faults asked for", status=fault.status, retry_after_s=retry_after_s)

    @property
    def speaks_html(self) -> bool:
        """Errors are those of a proxy that has no server behind it."""
        return self._set.error is not None and self._set.error.html

    def may_lose(self, user_id: str | None) -> bool:
        """Whether the next confirmation for this user gets lost."""
        return self._left_to_lose > 0 and self.strikes(user_id)

    def count_lost(self) -> None:
        self._left_to_lose -= 1

    def _find_stall_s(self) -> float:
        if self._is_open.is_set():
            return 0.0
        return max(0.0, self._stalled_until_s - asyncio.get_running_loop().time())

    def _end_stall(self) -> None:
        self._is_open.set()
        self.renew()

    def _cut_again(self, every_seconds: float) -> None:
        self._dropped += self.cut(1.0)
        self._cut_timer = asyncio.get_running_loop().call_later(every_seconds, self._cut_again, every_seconds)


def _cut_nothing(_share: float) -> int:
    return 0


def _renew_nothing() -> None:
    return
