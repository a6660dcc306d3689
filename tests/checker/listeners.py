"""Devices that at times listen to Server-Sent Events instead of a WebSocket, and say all else over REST."""

import base64
import json

from checker.clients import Action, World
from checker.journal import Frame
from checker.pipers import Piper
from checker.wire import Source

EVENT_STREAMS = 0.3  # of the connections


class Listener(Piper):
    def __init__(self, world: World, user_id: str, number: int) -> None:
        super().__init__(world, user_id, number)
        self._asked: Frame | None = None  # the cursors of its event stream
        self._frames_alone = (self._send_burst, self._subscribe_or_not, self._sync, self._type)

    async def _connect(self, mode: str) -> Source:
        self._asked = None
        if self.random.random() >= EVENT_STREAMS:
            return await super()._connect(mode)
        params = self._name_cursors() if mode == "cursors" else {}
        source = await self.world.wire.listen(self.user_id, **params)
        self.journal.counts["event streams"] += 1
        return source

    def _name_cursors(self) -> dict[str, str]:
        rooms = {room_id: seq for room_id, seq in self.cursors.items() if self.random.random() < 0.9}
        self._asked = {"type": "sync", "request_id": "cursors", "epoch": self._epoch, "rooms": rooms}
        return {"cursors": base64.urlsafe_b64encode(json.dumps(self._asked).encode()).decode()}

    def _take(self, frame: Frame) -> None:
        super()._take(frame)
        if frame["type"] == "ready" and self._asked is not None and self.stream is not None:
            self.journal.keep(self.stream, self._asked, is_sent=True)

    async def _sync(self) -> None:
        if self._websocket is not None:
            await super()._sync()

    def _pick(self) -> Action:
        action = super()._pick()
        return self._post_message if self._websocket is None and action in self._frames_alone else action
