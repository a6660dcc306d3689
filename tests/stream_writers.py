"""The sender of streams, over either transport."""

from dataclasses import dataclass, field
from typing import Any

from driver import Server, Socket, User


@dataclass(frozen=True)
class Outcome:
    """`code` is `ok`, or the error's; `data` what the answer holds."""

    code: str
    data: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)

    @property
    def details(self) -> object:
        return self.error.get("details")


class Writer:
    """A user who writes into one room. `is_rest`, or else over a WebSocket."""

    def __init__(self, user: User, room_id: str, *, is_rest: bool) -> None:
        self.user = user
        self.room_id = room_id
        self._is_rest = is_rest
        self.socket: Socket | None = None
        self._asked = 0

    async def open(self, **fields: object) -> dict[str, Any]:
        """The message, as it is read then."""
        opened = await self.draft(stream=True, **fields)
        assert opened.code == "ok", opened.error
        return await self.read(opened.data["message_id"])

    async def draft(self, **fields: object) -> Outcome:
        if self._is_rest:
            return await self._post("", fields)
        return await self._send("send_message", fields)

    async def append(self, message_id: str, index: object, text: object) -> Outcome:
        fields = {"index": index, "text": text}
        if self._is_rest:
            return await self._post(f"/{message_id}/append", fields)
        return await self._send("message.append", {"message_id": message_id, **fields})

    async def append_all(self, message_id: str, *texts: str) -> None:
        for index, text in enumerate(texts, start=1):
            assert (await self.append(message_id, index, text)).code == "ok"

    async def finish(self, message_id: str, state: str = "done", **fields: object) -> Outcome:
        """`data` is the message."""
        fields = {"state": state, **fields}
        if self._is_rest:
            return await self._post(f"/{message_id}/finish", fields)
        outcome = await self._send("message.finish", {"message_id": message_id, **fields})
        if outcome.code != "ok":
            return outcome
        event = dict(outcome.data)
        assert event.pop("type") == "message.finished"
        event["seq"] = event.pop("target_seq")
        return Outcome("ok", event)

    async def cancel(self, message_id: str) -> Outcome:
        if self._is_rest:
            return await self._post(f"/{message_id}/cancel", {})
        return await self._send("message.cancel", {"message_id": message_id})

    async def read(self, message_id: str) -> dict[str, Any]:
        return dict((await self.user.get(f"/rooms/{self.room_id}/messages/{message_id}")).data)

    async def _post(self, path: str, body: dict[str, object]) -> Outcome:
        reply = await self.user.post(f"/rooms/{self.room_id}/messages{path}", body)
        if reply.status >= 400:
            return Outcome(reply.error["code"], error=reply.error)
        return Outcome("ok", dict(reply.data))

    async def _send(self, frame_type: str, fields: dict[str, object]) -> Outcome:
        if self.socket is None:
            self.socket = await self.user.connect()
        self._asked += 1
        request_id = f"asked-{self._asked}"
        await self.socket.send(frame_type, room_id=self.room_id, request_id=request_id, **fields)
        answer = await self.socket.answer_to(request_id)
        del answer["request_id"]
        if answer["type"] == "error":
            del answer["type"]
            return Outcome(answer["code"], error=answer)
        return Outcome("ok", answer)


async def make_writer(server: Server, transport: str, user_id: str = "alice", **room: Any) -> Writer:
    """In a new room, with bob."""
    user = server.user(user_id)
    room_id = await user.make_room("bob", **room)
    return Writer(user, room_id, is_rest=transport == "rest")
