"""Token buckets, with the time passed in: nothing here reads a clock."""

import math
from collections import OrderedDict
from itertools import islice
from typing import NamedTuple

MAX_USERS = 20_000  # with a bucket, of one tenant: some 5 MB; those who were not here for longest are forgotten first
FORGOTTEN_AT_ONCE = 2  # full buckets, for each new one: so their number falls once they are not used


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

    def find_wait(self, now_s: float) -> float:
        """The seconds until there is a token; 0 if there is one. Takes none."""
        self._fill(now_s)
        return max(0.0, 1.0 - self._tokens) / self.rate_per_s

    def is_full(self, now_s: float) -> bool:
        self._fill(now_s)
        return self._tokens >= self.burst

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


class UserBuckets:
    """A bucket for each user of a tenant: `rate_per_s`, and twice that at once; a rate of 0 means none.

    A full bucket tells nothing that a new one does not, so full ones are forgotten.
    """

    __slots__ = ("_buckets", "rate_per_s")

    def __init__(self, rate_per_s: float) -> None:
        self.rate_per_s = rate_per_s
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()  # those not used for longest come first

    def __len__(self) -> int:
        return len(self._buckets)

    def set_rate(self, rate_per_s: float) -> None:
        """With another rate, all users begin with a full bucket."""
        if rate_per_s != self.rate_per_s:
            self.rate_per_s = rate_per_s
            self._buckets.clear()

    def get(self, user_id: str, now_s: float) -> TokenBucket:
        """The user's bucket. Only for a rate above 0."""
        bucket = self._buckets.get(user_id)
        if bucket is not None:
            self._buckets.move_to_end(user_id)
            return bucket
        self._forget(now_s)
        bucket = TokenBucket(self.rate_per_s, max(1, math.ceil(2 * self.rate_per_s)), now_s)
        self._buckets[user_id] = bucket
        return bucket

    def _forget(self, now_s: float) -> None:
        """Makes room for one more."""
        for user_id in list(islice(self._buckets, FORGOTTEN_AT_ONCE)):
            if len(self._buckets) >= MAX_USERS or self._buckets[user_id].is_full(now_s):
                del self._buckets[user_id]


class TenantBuckets:
    """The bucket of a tenant, which all its users share, and one of each user's own."""

    __slots__ = ("shared", "users")

    def __init__(self, rate_per_s: float, burst: int, user_rate_per_s: float, now_s: float) -> None:
        self.shared = TokenBucket(rate_per_s, burst, now_s)
        self.users = UserBuckets(user_rate_per_s)

    def set_rates(self, rate_per_s: float, burst: int, user_rate_per_s: float) -> None:
        self.shared.rate_per_s, self.shared.burst = rate_per_s, burst
        self.users.set_rate(user_rate_per_s)

    def take(self, user_id: str, now_s: float) -> float:
        """Takes one token of the tenant's and of this user's, or none of either. Returns as `TokenBucket.take`."""
        if not self.users.rate_per_s:
            return self.shared.take(now_s)
        return take_of_both(self.users.get(user_id, now_s), self.shared, now_s)

    def find_level(self, user_id: str, now_s: float) -> BucketLevel:
        """The level after the last `take`, of the bucket that has less left."""
        if not self.users.rate_per_s:
            return self.shared.level()
        return find_lower(self.users.get(user_id, now_s), self.shared)


def take_of_both(own: TokenBucket, shared: TokenBucket, now_s: float) -> float:
    """Takes one token of each bucket, or none of either. Returns as `TokenBucket.take`; `own` refuses first."""
    return own.find_wait(now_s) or shared.take(now_s) or own.take(now_s)


def find_lower(own: TokenBucket, shared: TokenBucket) -> BucketLevel:
    """The level of the bucket that has fewer tokens left."""
    own_level, shared_level = own.level(), shared.level()
    return own_level if own_level.remaining <= shared_level.remaining else shared_level
