"""The call that catches up over HTTP alone."""

from collections.abc import Mapping
from typing import cast

from chatapi.client.envelope import Shape
from chatapi.client.events import Synced
from chatapi.client.http import RestClient

_SYNCED: Shape = {"epoch": str, "events": list, "rooms": dict, "has_more": bool}


class SyncCalls(RestClient):
    """Long polls: a part of `ChatAPI`."""

    async def sync(
        self,
        *,
        epoch: str | None = None,
        rooms: Mapping[str, int] | None = None,
        wait: int = 0,
        limit: int | None = None,
        after_notification: str | None = None,
    ) -> Synced:
        """The events after the cursors in `rooms`, `{room_id: seq}`; after `last_ack` in rooms that it does not name.
        At once, or as soon as there is one, within `wait` seconds (0 to 60). Give the `epoch` and the `rooms` of the
        answer with the next call. `limit`: 1 to 1,000 events (100). `after_notification`: the newest notification that
        is known; at most 25 come. Raises ApiError: 429 if the user has too many connections."""
        body = {"epoch": epoch, "rooms": rooms, "wait": wait, "limit": limit, "after_notification": after_notification}
        given = {name: value for name, value in body.items() if value is not None}
        return cast(
            Synced, await self.call("POST", "/sync", body=given, is_idempotent=True, shape=_SYNCED, wait_s=wait)
        )
