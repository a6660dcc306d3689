"""Which side was the limit of a measurement: whose process had no time left.

A process is busy while its threads run, and while its main thread, which is its event loop, waits for a core. They are
added up: the server's loop and the threads of its database mostly take turns, as Python has them do. The waiting of the
latter is not counted, since it overlaps with the loop's. In each slice of the measurement both sides are looked at:

- If a server was busy for `BUSY_SHARE` of it or more, the server was the limit, whatever the generator did: a faster
  one would have brought little.
- Otherwise, if a process of the generator was, the generator was.
- Otherwise neither was: both waited for the disk, for their turns, or for the time that `--rate` sets.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread

SLICE_SECONDS = 0.25  # the kernel counts a running thread's time every few milliseconds: 2 % of a slice
BUSY_SHARE = 0.9


class LimitProbe:
    """Looks at both sides' processes from a thread, while the command has nothing to do but wait. `shares` says how
    often each side was the limit, unless one of them is unknown: it has no processes on this machine, or the kernel
    does not count."""

    def __init__(self, server: Sequence[int], generator: Sequence[int]) -> None:
        self._server = server
        self._generator = generator
        self._stop = Event()
        self._thread = Thread(target=self._run, name="limit probe", daemon=True)
        self._slices: list[tuple[float, float]] = []  # the busiest process of the server, and of the generator

    def __enter__(self) -> "LimitProbe":
        if self._server and self._generator:
            self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def shares(self) -> tuple[float, float] | None:
        """Of the server and of the generator, each from 0 to 1."""
        return find_limits(self._slices) if self._slices else None

    def _run(self) -> None:
        pids = [*self._server, *self._generator]
        from_s, before = time.monotonic(), read_busy_seconds(pids)
        is_over = False
        while before and not is_over:
            is_over = self._stop.wait(max(0.0, from_s + SLICE_SECONDS - time.monotonic()))
            now_s, after = time.monotonic(), read_busy_seconds(pids)
            if not after:  # a thread ended meanwhile
                continue
            if is_over and self._slices:  # the rest of a slice says little; it is better than nothing
                return
            busy = [(end - begin) / (now_s - from_s) for begin, end in zip(before, after, strict=True)]
            self._slices.append((max(busy[: len(self._server)]), max(busy[len(self._server) :])))
            from_s, before = now_s, after


def find_limits(slices: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The shares of the slices in which the server was the limit, and in which the generator was."""
    server = sum(ours >= BUSY_SHARE for ours, _ in slices)
    generator = sum(ours < BUSY_SHARE <= theirs for ours, theirs in slices)
    return server / len(slices), generator / len(slices)


def read_busy_seconds(pids: Sequence[int]) -> list[float]:
    """For how long each one's threads, of those that live, have run, and its main thread has waited for a core. Empty
    if that is not known of all."""
    try:
        return [_read_process_seconds(Path(f"/proc/{pid}")) for pid in pids]
    except (OSError, ValueError):  # one has ended, or the kernel does not count
        return []


def _read_process_seconds(process: Path) -> float:
    threads = [_read_nanoseconds(thread) for thread in (process / "task").iterdir()]
    _, loop_waited = _read_nanoseconds(process)
    return (sum(ran for ran, _ in threads) + loop_waited) / 1e9


def _read_nanoseconds(thread: Path) -> tuple[int, int]:
    """On a core, and waiting for one: https://docs.kernel.org/scheduler/sched-stats.html"""
    ran, waited, _ = (thread / "schedstat").read_text(encoding="ascii").split()
    return int(ran), int(waited)
