"""Token buckets, with the time passed in: nothing here reads a clock."""

from typing import NamedTuple


class BucketLevel(NamedTuple):
    limit: int  # the bucket's size
    remaining: int  # whole tokens
    full_after_s: float  # seconds until it is full again


class TokenBucket:
    """`rate_per_s` tokens flow in each second, `burst` fit in; both may be changed while it is in use."""

    __slots__ = ("_filled_at_s", "_tokens", "burst", "rate_per_s")

    def __init__(self, rate_per_s: float, burst: int, now_s: float) -> None:
        self.rate_per_s = rate_per_s
        self.burst = burst
        self._tokens = float(burst)
        self._filled_at_s = now_s

    def take(self, now_s: float) -> float:
        """Takes one token. Returns 0, or the seconds until there is one; then none was taken."""
        self._fill(now_s)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self.rate_per_s

    def level(self) -> BucketLevel:
        """The bucket's level after the last `take`."""
        missing = max(0.0, self.burst - self._tokens)
        return BucketLevel(self.burst, int(self._tokens), missing / self.rate_per_s)

    def _fill(self, now_s: float) -> None:
        # A clock that stands still or steps back adds nothing.
        elapsed_s = now_s - self._filled_at_s
        if elapsed_s > 0:
            self._tokens = min(float(self.burst), self._tokens + elapsed_s * self.rate_per_s)
            self._filled_at_s = now_s
        else:
            self._tokens = min(float(self.burst), self._tokens)
