"""Messages to systemd, from a server in a unit of `Type=notify`.

The protocol is that of sd_notify(3) and sd_watchdog_enabled(3): each message is one datagram to $NOTIFY_SOCKET.
Elsewhere nothing is sent.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator

START_SECONDS = 60.0  # a start whose loop is blocked for longer has failed
START_INTERVAL_SECONDS = 10.0
STOP_SECONDS = 10.0  # after the grace, to commit what is queued and close the database


def tell(*assignments: str) -> None:
    """Somebody who is not there any more need not hear it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.setblocking(False)
        told.sendto("\n".join(assignments).encode(), f"\0{address[1:]}" if address.startswith("@") else address)


def tell_ready() -> None:
    """`systemctl start` then returns, and units that are ordered after this one start."""
    tell("READY=1")


def tell_stopping(grace_seconds: float) -> None:
    """The unit's own timeout holds if it is longer."""
    tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={_to_microseconds(grace_seconds + STOP_SECONDS)}")


def starting() -> contextlib.AbstractContextManager[None]:
    """A start takes as long as it needs, such as for the migration of a large database, while its loop is alive."""
    return _telling(f"EXTEND_TIMEOUT_USEC={_to_microseconds(START_SECONDS)}", START_INTERVAL_SECONDS)


def watched() -> contextlib.AbstractContextManager[None]:
    """A unit with `WatchdogSec=` ends and restarts a server whose loop is blocked for so long."""
    interval_seconds = _find_watchdog_seconds() / 2
    return _telling("WATCHDOG=1", interval_seconds) if interval_seconds else contextlib.nullcontext()


@contextlib.contextmanager
def _telling(assignment: str, interval_seconds: float) -> Iterator[None]:
    """At once, and again by the loop itself: one that is blocked is silent."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def repeat() -> None:
        nonlocal timer
        tell(assignment)
        timer = loop.call_later(interval_seconds, repeat)

    repeat()
    try:
        yield
    finally:
        timer.cancel()


def _find_watchdog_seconds() -> float:
    """0.0 if nobody watches this process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000
    except ValueError:
        return 0.0


def _to_microseconds(seconds: float) -> int:
    return int(seconds * 1_000_000)
