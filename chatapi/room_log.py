"""The one way to add an event to a room's log that is not a message: with the call that tells the tenant's backend of
it."""

from chatapi.models import WebhookEvent
from chatapi.protocol.server_frames import LogEvent
from chatapi.room import RoomState
from chatapi.store import Store, Transaction, log
from chatapi.webhooks.events import EVENT_OF_LOG
from chatapi.webhooks.queue import WebhookQueue


class RoomLog:
    def __init__(self, store: Store, webhook_queue: WebhookQueue) -> None:
        self._store = store
        self._webhook_queue = webhook_queue

    async def append(
        self,
        transaction: Transaction,
        room: RoomState,
        seq: int,
        frame: LogEvent | None,
        message_key: int | None,
        *,
        is_quiet: bool = False,
        last_index: int | None = None,
    ) -> None:
        """As `log.append_change`."""
        await log.append_change(
            transaction, room.counter, seq, frame, message_key, is_quiet=is_quiet, last_index=last_index
        )
        if room.tenant.settings.webhook_events:
            event = EVENT_OF_LOG[type(frame)] if frame is not None else _name_change(last_index)
            await self._webhook_queue.queue_event(transaction, room, event, self._store.writer.next_key(), seq=seq)


def _name_change(last_index: int | None) -> WebhookEvent:
    return WebhookEvent.MESSAGE_EDITED if last_index is None else WebhookEvent.MESSAGE_FINISHED
