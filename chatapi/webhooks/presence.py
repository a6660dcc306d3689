"""Tells the tenants' backends who comes online and who goes: as well as it can, without holding up anybody."""

import logging
from collections import deque
from itertools import islice

from chatapi.errors import ChatError
from chatapi.models import TenantState, UserId
from chatapi.protocol.server_frames import PresenceStatus
from chatapi.store import Store, Transaction
from chatapi.tasks import Tasks
from chatapi.webhooks.events import EVENT_OF_PRESENCE, wants
from chatapi.webhooks.queue import WebhookQueue

logger = logging.getLogger(__name__)

MOST_WAITING = 100_000  # changes that the writer has not taken yet; of more the oldest are not told
ROWS_PER_CHANGE = 1_000  # a few ms of the writer's time

_Status = tuple[TenantState, UserId, PresenceStatus]


class PresenceEvents:
    def __init__(self, store: Store, tasks: Tasks, queue: WebhookQueue) -> None:
        self._store = store
        self._tasks = tasks
        self._queue = queue
        self._waiting: deque[_Status] = deque(maxlen=MOST_WAITING)
        self._is_writing = False

    def note(self, tenant: TenantState, user_id: UserId, status: PresenceStatus) -> None:
        """Those that are noted together are stored together."""
        if not wants(tenant, EVENT_OF_PRESENCE[status]):
            return
        self._waiting.append((tenant, user_id, status))
        if not self._is_writing:
            self._is_writing = True
            self._tasks.spawn("presence for the backends", self._write_all())

    async def write_all(self) -> None:
        """Returns once all that was noted is stored, or could not be: at the end of the server."""
        if self._waiting:
            await self._write_all()

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                some = list(islice(self._waiting, ROWS_PER_CHANGE))
                for _ in some:
                    self._waiting.popleft()
                await self._write(some)
        finally:
            self._is_writing = False

    async def _write(self, some: list[_Status]) -> None:
        async def apply(transaction: Transaction) -> None:
            changes = [one for one in some if not one[0].gone and one[0].hold is None]
            await self._queue.queue_presence(transaction, changes, self._store.writer.next_key)

        try:
            await self._store.writer.change(apply)
        except ChatError as error:
            logger.debug("presence was not told: %s", error.message, extra={"users": len(some)})
