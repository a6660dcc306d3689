"""The transport beneath HTTP and WebSocket: whether its peer takes what is written, and its end by force.

aiohttp's own `drain` shares one future among all who wait: a deadline that cancels one breaks the others, and the next
one too. Here nothing is ever cancelled: a timer wakes those who wait, and they look at what the peer has taken.
"""

import asyncio
import fcntl
import socket
import struct
import termios

LOOKS_PER_GRACE = 8  # a peer that takes nothing is given up at most a quarter of its grace late

_TCP_INFO_BYTES = 128
_read_bytes_acked = struct.Struct("@Q").unpack_from
_BYTES_ACKED_AT = 120  # `tcpi_bytes_acked` in Linux's `struct tcp_info`


class PeerTransport:
    """The way to one client, from `connection_made` to `connection_lost`. Its protocol tells it what asyncio says."""

    __slots__ = ("_cut_off", "_is_paused", "_stall", "_transport", "_unread_seconds", "_waiters")

    def __init__(self, transport: asyncio.Transport | None, unread_seconds: float) -> None:
        """A peer that takes nothing for `unread_seconds` while much is unread is cut off, until `release`. Without a
        transport the way is lost from the start."""
        self._transport = transport
        self._unread_seconds: float | None = unread_seconds
        self._is_paused = False
        self._waiters: list[asyncio.Future[None]] = []
        self._cut_off: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    @property
    def is_lost(self) -> bool:
        return self._transport is None

    @property
    def is_paused(self) -> bool:
        """Much of what was written is unread."""
        return self._is_paused

    def release(self) -> None:
        """From now on it judges no more: a WebSocket has bounds and a grace of its own (`Hub`, `Recovery`)."""
        self._unread_seconds = None
        self._stop_looking()

    def limit_buffer(self, size: int) -> None:
        """It counts as paused while more than this is unsent."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(size)

    def limit_silence(self, seconds: float) -> None:
        """From now on the kernel ends the connection when it has something to send, and the peer's system has taken
        nothing for so long (TCP_USER_TIMEOUT)."""
        beneath = self._find_socket()
        if beneath is None:
            return
        if beneath.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
            beneath.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(seconds * 1000)))

    # Told by the protocol

    def pause(self) -> None:
        self._is_paused = True
        self.look_for_stall()

    def resume(self) -> None:
        self._is_paused = False
        self._wake()
        if self._transport is not None and not self._transport.is_closing():
            self._stop_looking()

    def lose(self) -> None:
        """The transport is gone: it must not be called any more, not even to be aborted."""
        _break_cycle(self._transport)
        self._transport = None
        self._stop_looking()
        if self._cut_off is not None:
            self._cut_off.cancel()
            self._cut_off = None
        self._wake()

    # Reading peers

    async def wait_for_space(self, grace_seconds: float) -> bool:
        """True once the peer has taken most of what was written, or is gone; False when it has taken nothing for
        `grace_seconds`."""
        loop = asyncio.get_running_loop()
        progress: _Progress | None = None
        while self._is_paused and self._transport is not None:
            if progress is None:
                progress = _Progress(self.count_taken())
            elif progress.is_stalled(self.count_taken()):
                return False
            waiter = loop.create_future()
            self._waiters.append(waiter)
            timer = loop.call_later(grace_seconds / LOOKS_PER_GRACE, _complete, waiter)
            try:
                await waiter
            finally:
                timer.cancel()
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        return True

    def count_taken(self) -> int:
        """A number that grows with each byte that the peer's system has acknowledged. It counts from anywhere.

        The size of the transport's buffer alone would not do: beneath it the kernel holds so much that at 1 KB/s
        nothing moves for a minute.
        """
        beneath = self._find_socket()
        if beneath is None:
            return 0
        if beneath.family != socket.AF_UNIX and hasattr(socket, "TCP_INFO"):
            try:
                info = beneath.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
            except OSError:
                return 0  # it has just been closed
            if len(info) == _TCP_INFO_BYTES:
                return int(_read_bytes_acked(info, _BYTES_ACKED_AT)[0])
        return -self.count_untaken()

    def count_untaken(self) -> int:
        """Bytes that were written and that the peer's system has not acknowledged."""
        beneath = self._find_socket()
        if self._transport is None or beneath is None:
            return 0
        try:
            [in_kernel] = struct.unpack("@i", fcntl.ioctl(beneath.fileno(), termios.TIOCOUTQ, bytes(4)))
        except OSError:
            in_kernel = 0
        return self._transport.get_write_buffer_size() + int(in_kernel)

    def _find_socket(self) -> socket.socket | None:
        """None once it is gone: of TLS, that is one turn of the loop before the protocol is told."""
        return None if self._transport is None else self._transport.get_extra_info("socket")

    def look_for_stall(self) -> None:
        """Begins to look now and then whether the peer takes anything; ends when it has taken most of it."""
        if self._unread_seconds is None or self._transport is None or self._stall is not None:
            return
        self._look_later(_Progress(self.count_taken()), self._unread_seconds)

    # The end

    async def close_gently(self) -> None:
        """Sends what is written and an end of file, and returns when the peer has ended the connection too: closed at
        once, bytes of the peer that nobody has read would reset it, and with it what is on its way. `cut_off_later`
        bounds the wait."""
        transport = self._transport
        if transport is None or not transport.can_write_eof() or transport.get_write_buffer_size():
            return
        try:
            transport.write_eof()
        except OSError:
            return  # the peer has gone
        await self.wait_until_lost()

    def watch(self, waiter: asyncio.Future[None]) -> None:
        """This is completed when the connection has ended, perhaps earlier."""
        if self._transport is None:
            _complete(waiter)
        else:
            self._waiters.append(waiter)

    def unwatch(self, waiter: asyncio.Future[None]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    async def wait_until_lost(self) -> None:
        """Returns once the connection has ended, by either side."""
        while self._transport is not None:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def cut_off(self) -> None:
        """Ends the connection without waiting for the peer to read the rest."""
        if self._transport is not None:
            self._transport.abort()

    def cut_off_later(self, seconds: float) -> None:
        """As `cut_off`, unless the connection ends by itself before that."""
        if self._transport is not None and self._cut_off is None:
            self._cut_off = asyncio.get_running_loop().call_later(seconds, self.cut_off)

    def _look_later(self, progress: "_Progress", grace_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._stall = loop.call_later(grace_seconds / LOOKS_PER_GRACE, self._look, progress, grace_seconds)

    def _look(self, progress: "_Progress", grace_seconds: float) -> None:
        if progress.is_stalled(self.count_taken()):
            self._stall = None
            self.cut_off()
        else:
            self._look_later(progress, grace_seconds)

    def _stop_looking(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            _complete(waiter)


class _Progress:
    """Judges whether a peer takes anything, by looking `LOOKS_PER_GRACE` times during its grace. The looks are counted,
    not timed: while this process itself stands still, the grace of a peer does not pass."""

    __slots__ = ("_looks_in_vain", "_taken")

    def __init__(self, taken: int) -> None:
        self._taken = taken
        self._looks_in_vain = 0

    def is_stalled(self, taken: int) -> bool:
        self._looks_in_vain = 0 if taken > self._taken else self._looks_in_vain + 1
        self._taken = taken
        return self._looks_in_vain >= LOOKS_PER_GRACE


def _complete(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _break_cycle(transport: asyncio.Transport | None) -> None:
    """asyncio's transport holds a method of its own, and so itself: each that has lived for a while would stay, with
    1.7 KB, until the collector looks at what is old. It reads no more."""
    if transport is not None and hasattr(transport, "_read_ready_cb"):
        transport._read_ready_cb = None
