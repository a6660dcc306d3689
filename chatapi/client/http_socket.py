"""Stands in for a WebSocket over HTTP alone: a frame becomes a call, and its answer the frame that answers it."""

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from chatapi.client.errors import ApiError, NoAnswer
from chatapi.client.paths import room_path
from chatapi.client.socket import CallAnswer, Socket, SocketEnded, now_s

if TYPE_CHECKING:
    from chatapi.client.api import ChatAPI

EVENT_S = 2.0  # for the event of a change to come, once the call is answered
QUEUED = 100  # frames that wait for the session: beyond that nothing more is read

Json = dict[str, Any]
_OF_FRAME = frozenset({"type", "request_id", "room_id", "message_id"})  # these are not in the body of a call


class HttpSocket(Socket):
    """`typing` is not told: it has no call."""

    ack_delay_s: float = 0.5  # an ack is a call here, and takes a token

    def __init__(self, client: "ChatAPI") -> None:
        super().__init__()
        self._client = client
        self._queue: asyncio.Queue[tuple[Json, int] | SocketEnded] = asyncio.Queue(QUEUED)
        self._tasks: set[asyncio.Task[None]] = set()
        self._close_code: int | None = None
        self._looking: dict[asyncio.Future[Json], Json] = {}  # those who wait for an event, and its fields

    @property
    def close_code(self) -> int | None:
        return self._close_code

    async def _receive(self) -> tuple[Json, int]:
        entry = await self._queue.get()
        if isinstance(entry, SocketEnded):
            raise entry
        return entry

    async def put(self, frame: Json, size_bytes: int = 0) -> None:
        for found, fields in self._looking.items():
            if not found.done() and all(frame.get(name) == value for name, value in fields.items()):
                found.set_result(frame)
        await self._queue.put((frame, size_bytes))

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """As long as the socket lives. A failure ends it."""
        task = asyncio.create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # a task that is cancelled at once has not begun to await it

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except SocketEnded as ended:
            await self._queue.put(ended)
        except (ApiError, NoAnswer) as error:
            await self._queue.put(SocketEnded(error=error))

    async def send(self, frame: Mapping[str, Any]) -> None:
        frame_type = frame["type"]
        if frame_type == "sync":
            self.begin(dict(frame))
        elif frame_type in ("ack", "notification.ack") and "request_id" not in frame:
            await self._guard(self._answer(frame))  # also the last ones, before the socket is closed
        elif not frame_type.startswith("typing."):
            self.run(self._answer(frame))

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    @abstractmethod
    def begin(self, sync: Json) -> None:
        """Everything since these cursors, then `sync.complete`, then what is live."""

    @abstractmethod
    async def follow(self, room_id: str, last_seq: int) -> None:
        """From now on also the events of this channel."""

    async def _answer(self, frame: Mapping[str, Any]) -> None:
        try:
            answer: Json = {"type": frame["type"], **await self._carry_out(frame)}
        except ApiError as error:
            if error.status == 401:
                raise
            answer = _describe(error)
        if "request_id" in frame:
            await self.put(CallAnswer({**answer, "request_id": frame["request_id"]}))

    async def _carry_out(self, frame: Mapping[str, Any]) -> Json:
        client, room_id, message_id = self._client, frame.get("room_id", ""), frame.get("message_id", "")
        ids = {"room_id": room_id, "message_id": message_id}
        fields = {name: value for name, value in frame.items() if name not in _OF_FRAME}
        match frame["type"]:
            case "send_message":
                path = f"{room_path(room_id)}/messages"
                sent = await client.call("POST", path, body=fields, is_idempotent=True, shape={"message_id": str})
                names = ("room_id", "message_id", "seq", "client_message_id", "created_at", "stream")
                return {"type": "message.sent", **{name: sent[name] for name in names if name in sent}}
            case "message.edit":
                editing = client.edit_message(room_id, message_id, **fields)
                message, event = await self._change(editing, type="message.edited", **ids)
                return event or {**message, "type": "message.edited", "target_seq": message["seq"]}
            case "message.delete":
                deleting = client.delete_message(room_id, message_id)
                _, event = await self._change(deleting, type="message.deleted", **ids)
                if event is not None:
                    return event
                seq = await self._find_seq(room_id, message_id)
                return {**ids, "type": "message.deleted", "seq": seq, "target_seq": seq}
            case "message.append" | "message.finish" | "message.cancel":
                return await self._carry_out_for_stream(frame["type"], ids, fields)
            case "reaction.add":
                return await self._react(
                    client.add_reaction(room_id, message_id, frame["emoji"]), "reaction.added", frame
                )
            case "reaction.remove":
                return await self._react(
                    client.remove_reaction(room_id, message_id, frame["emoji"]), "reaction.removed", frame
                )
            case "read":
                return {
                    "type": "read.updated",
                    "user_id": self._user_id,
                    **await client.mark_read(room_id, fields["seq"]),
                }
            case "ack" if "rooms" in fields:
                await client.ack_rooms(fields["rooms"])
                return {}
            case "ack":
                return {"type": "ack.received", "user_id": self._user_id, **await client.ack(room_id, fields["seq"])}
            case "notification.ack":
                await client.ack_notification(fields["notification_id"])
                return {}
            case "subscribe":
                return await self._subscribe(room_id)
            case "unsubscribe":
                return {"type": "unsubscribed", "room_id": room_id}
            case "ping":
                await client.livez()
                return {"type": "pong"}
        raise AssertionError(f"no call for {frame['type']}")

    async def _carry_out_for_stream(self, frame_type: str, ids: dict[str, str], fields: Json) -> Json:
        room_id, message_id = ids["room_id"], ids["message_id"]
        if frame_type == "message.append":
            appended = await self._client.append_to_message(room_id, message_id, **fields)
            return {"type": "message.appended", **ids, **appended}
        if frame_type == "message.cancel":
            await self._client.cancel_message(room_id, message_id)
            return {"type": "message.cancel_requested", **ids, "user_id": self._user_id}
        finishing = self._client.finish_message(room_id, message_id, **fields)
        message, event = await self._change(finishing, type="message.finished", **ids)
        return event or {**message, "type": "message.finished", "target_seq": message["seq"]}

    async def _find_seq(self, room_id: str, message_id: str) -> int:
        return (await self._client.get_message(room_id, message_id))["seq"]

    async def _change(self, call: Awaitable[Any], **fields: str) -> tuple[Any, Json | None]:
        """Makes a change. Returns the answer of the call, and the change's event; None if none comes, since nothing has
        changed, or the room is not followed."""
        found: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._looking[found] = fields
        try:
            answer = await call
            await asyncio.wait([found], timeout=EVENT_S)
            return answer, found.result() if found.done() else None
        finally:
            del self._looking[found]

    async def _react(self, call: Awaitable[Any], event_type: str, frame: Mapping[str, Any]) -> Json:
        fields = {"type": event_type, "user_id": self._user_id}
        fields |= {name: frame[name] for name in ("room_id", "message_id", "emoji")}
        _, event = await self._change(call, **fields)
        if event is not None:
            return event
        message: Any = await self._client.get_message(frame["room_id"], frame["message_id"])
        counts = {one["emoji"]: one["count"] for one in message.get("reactions", ())}
        return {**fields, "count": counts.get(frame["emoji"], 0), "target_seq": message["seq"]}

    async def _subscribe(self, room_id: str) -> Json:
        last_seq = (await self._client.get_room(room_id))["last_seq"]
        await self._client.list_events(room_id, after_seq=last_seq, limit=1)  # whether the user may read it
        await self.follow(room_id, last_seq)
        return {"type": "subscribed", "room_id": room_id, "last_seq": last_seq}

    @property
    def _user_id(self) -> str:
        assert self.ready is not None  # frames are sent after it
        return self.ready["user_id"]

    def heard(self) -> None:
        self.heard_at_s: float = now_s()


def _describe(error: ApiError) -> Json:
    """As a frame has it."""
    frame: Json = {"type": "error", "code": error.raw_code, "message": error.message}
    if error.field is not None:
        frame["field"] = error.field
    if error.details is not None:
        frame["details"] = error.details
    if error.retry_after_s is not None:
        frame["retry_after_ms"] = round(error.retry_after_s * 1000)
    return frame
