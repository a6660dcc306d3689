"""How long to wait before the next try."""

import random
from collections.abc import Callable

_uniform = random.SystemRandom().uniform


def full_jitter(
    attempt: int, base_s: float, cap_s: float, uniform: Callable[[float, float], float] = _uniform
) -> float:
    """Seconds before the try after `attempt` failed ones, anywhere below a bound that doubles with each: those who
    failed together then do not return together."""
    return uniform(0.0, min(cap_s, base_s * 2.0 ** min(attempt, 32)))
