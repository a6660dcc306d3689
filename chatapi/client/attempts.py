"""One try to connect after the other: how long to wait in between, what the application is told, when to give up."""

import logging

from chatapi.client.backoff import full_jitter
from chatapi.client.credentials import Credentials
from chatapi.client.errors import ApiError, NotChatAPI, NoToken
from chatapi.client.http import MAX_HOPS
from chatapi.client.options import OnError

logger: logging.Logger = logging.getLogger(__name__)

STABLE_S = 5.0  # a connection that lived this long resets the back-off
NEW_TOKENS = 2  # tried in a row when the server refuses them, unless they have only expired
MAX_RETRY_AFTER_S = 300.0  # however long a wait was asked for: the obstacle may be gone earlier
PASSING_STATUSES = frozenset({408, 426, 429})  # 426: a proxy does not pass the upgrade on


class Attempts:
    def __init__(
        self, credentials: Credentials, min_delay_s: float, max_delay_s: float, on_error: OnError | None
    ) -> None:
        self._credentials = credentials
        self._min_delay_s = min_delay_s
        self._max_delay_s = max_delay_s
        self._on_error = on_error
        self._failed = 0
        self._refusals = 0
        self._moves = 0
        self._told = ""
        self.error: Exception | None = None  # the reason why the newest try failed
        self.next_delay_s: float | None = None  # where it is not the back-off's to say

    def succeeded(self) -> None:
        """`ready` has come."""
        self._refusals = 0
        self._told = ""
        self.error = None

    def fail(self, error: Exception) -> None:
        """Raises the error where another try is pointless: a refusal that will not pass, which no new token changes."""
        self.error = error
        if isinstance(error, ApiError) and self._is_final(error):
            self.tell(error)
            raise error
        self.note(error)

    def note(self, error: Exception) -> None:
        """Notes the failure that ended a socket. The next socket may do better."""
        self.error = error
        logger.info("no connection", extra={"error": type(error).__name__})
        if isinstance(error, ApiError | NotChatAPI | NoToken):
            self.tell(error)

    def tell(self, error: Exception) -> None:
        """Once, until something else is in the way or there was a connection."""
        text = f"{type(error).__name__} {error}"
        if self._on_error is None or text == self._told:
            return
        self._told = text
        try:
            self._on_error(error)
        except Exception:
            logger.exception("on_error failed")

    def take_delay_s(self, lived_s: float) -> float:
        """Before the next try, after one that has lived so long."""
        if lived_s > STABLE_S:
            self._failed = self._moves = 0
        if self.next_delay_s is not None:
            delay_s, self.next_delay_s = self.next_delay_s, None
            return delay_s
        delay_s = self.find_delay_s(self._failed, self.error)
        self._failed += 1
        return delay_s

    def find_delay_s(self, failed: int, error: Exception | None) -> float:
        """The delay that a proxy asks for is advice, which counts up to the longest of our own delays."""
        longest_s = MAX_RETRY_AFTER_S if isinstance(error, ApiError) else self._max_delay_s
        asked_s = min(getattr(error, "retry_after_s", None) or 0.0, longest_s)
        return max(full_jitter(failed, self._min_delay_s, self._max_delay_s), asked_s)

    def expect_shutdown(self, delay_s: float) -> None:
        """The server is going away, and says when to come back."""
        self.next_delay_s = delay_s
        self._failed = 0

    def expect_move(self, delay_s: float) -> None:
        """Another server has the tenant. After some moves in a row the back-off decides: two may name each other."""
        self._moves += 1
        if self._moves <= MAX_HOPS:
            self.next_delay_s = delay_s

    def _is_final(self, error: ApiError) -> bool:
        if error.status == 401 and self._credentials.is_renewable:
            if not self._credentials.has_expired():
                self._refusals += 1
            self._credentials.renew()
            return self._refusals > NEW_TOKENS
        return 400 <= error.status < 500 and error.status not in PASSING_STATUSES
