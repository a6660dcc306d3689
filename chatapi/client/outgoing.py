"""The requests of a connection: frames that need an answer, and calls over HTTP for contents that fit no frame."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from chatapi.client.backoff import full_jitter
from chatapi.client.errors import ApiError, Closed, NoAnswer
from chatapi.client.pending import Pending, RoomLocks, new_id
from chatapi.client.records import Json
from chatapi.client.socket import Socket
from chatapi.protocol.frames import MAX_FRAME_BYTES
from chatapi.protocol.json import dumps

FRAME_MARGIN_BYTES = 100  # of the server's bound, for the request_id
ATTEMPTS = 5  # of a frame that is not a message; a message is tried until it is confirmed or refused
RETRY_BASE_S = 0.1  # of a frame that may pass at another try
RETRY_CAP_S = 10.0

T = TypeVar("T")


class Outgoing:
    def __init__(self, wake: Callable[[], None], *, can_renew: bool) -> None:
        """`wake`: called when answers have to be read although the application is slow."""
        self._wake = wake
        self._can_renew = can_renew
        self.pending: Pending = Pending()  # frames whose answers the application waits for
        self.own: Pending = Pending()  # frames whose answers the connection itself waits for
        self.room_locks: RoomLocks = RoomLocks()
        self.socket: Socket | None = None
        self._is_closed = False
        self._resumed = asyncio.Event()  # HTTP waits for it as frames wait for a socket
        self._resumed.set()
        self._calls: set[asyncio.Timeout] = set()

    async def request(self, fields: Json, *, attempts: int | None = ATTEMPTS, pending: Pending | None = None) -> Any:
        """Sends a frame now or when there is a socket, again on the next one if the answer got lost, and returns the
        answer. `attempts` bounds the refusals that may pass; None sets no bound."""
        pending = self.pending if pending is None else pending
        frame = {**fields, "request_id": new_id()}
        attempt = 0
        while True:
            self.check_open(fields)
            answer = pending.add(frame)
            self._wake()
            try:
                if self.socket is not None:
                    await self.socket.send(frame)
                return await answer
            except ApiError as error:
                attempt += 1
                if not error.may_pass or (attempts is not None and attempt >= attempts):
                    raise
                delay_s = max(error.retry_after_s or 0.0, full_jitter(attempt, RETRY_BASE_S, RETRY_CAP_S))
            finally:
                pending.remove(frame["request_id"])
            await asyncio.sleep(delay_s)

    async def call(self, fields: Json, call: Callable[[], Awaitable[T]]) -> T:
        """As patient as `request` without a bound, for what `fits` in no frame: tried until the server has done or
        refused it. Raises ApiError, Closed."""
        attempt = 0
        while True:
            self.check_open(fields)
            try:
                async with asyncio.timeout(None) as until_closed:
                    self._calls.add(until_closed)
                    try:
                        await self._resumed.wait()
                        return await call()
                    except NoAnswer as error:
                        retry_after_s = error.retry_after_s
                    except ApiError as error:
                        if not error.may_pass and not (error.status == 401 and self._can_renew):
                            raise
                        retry_after_s = error.retry_after_s or 0.0
                    await asyncio.sleep(max(min(retry_after_s, 60.0), full_jitter(attempt, RETRY_BASE_S, RETRY_CAP_S)))
                    attempt += 1
            except TimeoutError:
                self.check_open(fields)
                raise
            finally:
                self._calls.discard(until_closed)

    def check_open(self, fields: Json | None = None) -> None:
        if self._is_closed:
            raise Closed(client_message_id=(fields or {}).get("client_message_id"))

    def hold_calls(self, *, hold: bool) -> None:
        if hold:
            self._resumed.clear()
        else:
            self._resumed.set()

    def end(self, error: BaseException | None) -> None:
        self._is_closed = True
        self.pending.end(error)
        self.own.end(error)
        for until_closed in self._calls:
            until_closed.reschedule(0.0)


def fits(frame: Json) -> bool:
    """Quotes and the like grow in JSON, beyond what a frame may hold; HTTP has room for them."""
    return len(dumps(frame)) <= MAX_FRAME_BYTES - FRAME_MARGIN_BYTES
