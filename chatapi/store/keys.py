"""Keys of messages, notifications and subscriptions, made from the time."""

import secrets

from chatapi.clock import Clock

KEY_EPOCH_US = 1_577_836_800_000_000  # 2020-01-01: 51 bits of microseconds from there last until 2091


def find_key_time(key: int) -> int:
    """When a key was made, in microseconds since the Unix epoch."""
    return (key >> 12) + KEY_EPOCH_US


class KeyMaker:
    """Time-ordered 63-bit keys: microseconds, then 12 bits that differ between processes. Never the same twice, also
    when the clock steps back: `last_key` is the greatest one in the database at start."""

    def __init__(self, clock: Clock, last_key: int) -> None:
        self._clock = clock
        self._last_key = last_key
        self._suffix = secrets.randbits(12)

    def note(self, key: int) -> None:
        """A greatest key that came from elsewhere."""
        self._last_key = max(self._last_key, key | self._suffix)

    def next_key(self) -> int:
        key = self._clock.now_us() - KEY_EPOCH_US << 12 | self._suffix
        if key <= self._last_key:
            key = self._last_key + (1 << 12)
        self._last_key = key
        return key
