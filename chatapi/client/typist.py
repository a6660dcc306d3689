"""Tells the server, and so the others, when the user types: over one socket, and no more often than it has to."""

from chatapi.client.socket import Socket, now_s

TYPING_REPEAT_S = 3.0  # the server forgets a typist after 6 s


class Typist:
    def __init__(self) -> None:
        self._told_at_s: dict[str, float] = {}  # by room: when the server was told last

    def forget(self, room_id: str) -> None:
        """A message has ended the typing, here as on the server."""
        self._told_at_s.pop(room_id, None)

    def forget_all(self) -> None:
        """Another socket begins."""
        self._told_at_s.clear()

    async def tell(self, socket: Socket, room_id: str, *, active: bool) -> None:
        """Call it on every key: it sends no more than it has to."""
        last_s = self._told_at_s.get(room_id)
        if not active:
            if self._told_at_s.pop(room_id, None) is not None:
                await socket.send({"type": "typing.stop", "room_id": room_id})
        elif last_s is None or now_s() - last_s > TYPING_REPEAT_S:
            self._told_at_s[room_id] = now_s()
            await socket.send({"type": "typing.start", "room_id": room_id})
