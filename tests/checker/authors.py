"""Devices that also write messages bit by bit: they open, append, end, and ask others to end."""

from typing import Any

from checker.clients import WORDS, Action, Device, World
from checker.growing import Replica
from checker.journal import Attempt, Frame, Growing, Outcome, Stream
from checker.wire import Unreachable

MAX_OPEN = 3  # of one device
MAX_APPENDS = 8  # sent without waiting for the first one's answer
STATES = ("done", "done", "cancelled", "failed")


class Author(Device):
    def __init__(self, world: World, user_id: str, number: int) -> None:
        super().__init__(world, user_id, number)
        self.replica = Replica(user_id)
        self._own: list[Growing] = []  # that it goes on with
        self._late: set[str] = set()
        self._actions += [(3, self._open), (16, self._append), (3, self._finish), (1, self._cancel)]

    async def live(self, mode: str, act: Action) -> None:
        self.replica = Replica(self.user_id)
        await super().live(mode, act)

    def _take(self, frame: Frame) -> None:
        super()._take(frame)
        self.replica.take(frame)

    def find_missing(self, stream: Stream, seqs: dict[str, int]) -> str:
        found = super().find_missing(stream, seqs)
        if found or not self.is_reading(stream):
            return found
        for message_id in self.replica.list_open():
            growing = self.journal.growing.get(message_id)
            if growing is None or growing.room_id not in self.room_ids or message_id in self._late:
                continue
            if found := self.replica.find_behind(growing):
                if self.replica.is_late(growing):
                    self._late.add(message_id)
                    got = [(tick, frame) for tick, is_sent, frame in stream.entries if names(frame, message_id)]
                    where = f"{self.name}'s stream begun at tick {stream.begun} ({stream.mode})"
                    self.journal.fault(f"{where} stays behind: {found}, after {got}")
                return found
        return ""

    async def finish_all(self) -> None:
        """As far as it may."""
        for growing in list(self._own):
            await self._end(growing, over_rest=True)

    # Actions

    async def _open(self) -> None:
        room_id = self._pick_room()
        if room_id is None or len(self._own) >= MAX_OPEN:
            return
        attempt = self._write_message(room_id)
        attempt.state, attempt.mentions, attempt.mention_room = "open", (), False
        attempt.content = f"{attempt.client_message_id} {WORDS[0]}"
        if self._websocket is None or self.random.random() < 0.5:
            await self._post(attempt, was_tried_before=False)
            return
        frame = await self._answer(await self._ask("send_message", room_id=room_id, **attempt.draft), "an opening")
        self._settle_message(attempt, frame if frame["type"] == "message.sent" else None)

    def _settle_message(self, attempt: Attempt, confirmation: Frame | None, *, was_tried_before: bool = False) -> None:
        super()._settle_message(attempt, confirmation, was_tried_before=was_tried_before)
        if attempt.state is not None and attempt.message_id is not None:
            growing = Growing(attempt.room_id, attempt.message_id, attempt.content or "")
            self.journal.growing[attempt.message_id] = growing
            self._own.append(growing)

    async def _append(self) -> None:
        """What comes next, as far as this device knows, or what would come if all was stored that it has sent."""
        if not self._own:
            return
        growing = self.random.choice(self._own)
        first = (len(growing.texts) if self.random.random() < 0.2 else growing.confirmed) + 1
        if self._websocket is None or self.random.random() < 0.4:
            body = {"index": first, "text": self._write(growing, first)}
            wants_end = growing.is_cancel_stored
            reply = await self._call("POST", f"{path_of(growing)}/append", body)
            self._take_append(growing, first, reply.data, reply.details, reply.status, wants_end=wants_end)
            return
        waiting = []
        ids = {"room_id": growing.room_id, "message_id": growing.message_id}
        for index in range(first, first + self.random.randint(1, MAX_APPENDS)):
            wants_end = growing.is_cancel_stored
            text = self._write(growing, index)
            waiting.append((index, wants_end, await self._ask("message.append", **ids, index=index, text=text)))
        for index, wants_end, future in waiting:
            frame = await self._answer(future, "message.append")
            if frame["type"] == "message.appended":
                self._take_append(growing, index, frame, None, 200, wants_end=wants_end)
            else:
                status = {"CONFLICT": 409, "NOT_FOUND": 404}.get(frame["code"], 403)
                self._take_append(growing, index, None, frame.get("details"), status, wants_end=wants_end)

    def _write(self, growing: Growing, index: int) -> str:
        """The text of an append: the same each time."""
        while len(growing.texts) < index:
            filler = "." * self.random.choice((0, 0, self.random.randrange(200)))
            growing.texts.append(f" {len(growing.texts) + 1}{filler}é")
        return growing.texts[index - 1]

    def _take_append(
        self, growing: Growing, index: int, answer: Any, details: Any, status: int, *, wants_end: bool
    ) -> None:
        if status == 200:
            if answer["index"] < index:
                self.journal.fault(f"{self.name}: append {index} of {growing.message_id} was answered {answer}")
            if wants_end and not answer.get("cancel_requested"):
                self.journal.fault(f"{self.name}: append {index} of {growing.message_id} tells of no wish: {answer}")
            growing.confirmed = max(growing.confirmed, index)
            self.journal.counts["appends confirmed"] += 1
        elif status == 409:
            self._take_conflict(growing, details)
        elif status == 404:
            self._give_up(growing)
        self.journal.counts[f"appends answered {status}"] += 1

    def _take_conflict(self, growing: Growing, details: Any) -> None:
        """The server says where to go on, or that the message has ended."""
        index = details["index"]
        if index is not None and not growing.confirmed <= index <= len(growing.texts):
            self.journal.fault(f"{self.name}: {growing} ends with {details}")
        if details["state"] != "open":
            self._give_up(growing)
        elif index is not None:
            growing.confirmed = max(growing.confirmed, index)

    def _give_up(self, growing: Growing) -> None:
        if growing in self._own:
            self._own.remove(growing)

    async def _finish(self) -> None:
        if self._own:
            await self._end(
                self.random.choice(self._own), over_rest=self._websocket is None or self.random.random() < 0.5
            )

    async def _end(self, growing: Growing, *, over_rest: bool) -> None:
        self._numbers += 1
        body: dict[str, Any] = {"state": self.random.choice(STATES)}
        if self.random.random() < 0.3:
            body["content"] = f"{growing.opening} at the end {self._numbers}"
        if growing.confirmed == len(growing.texts):
            body["index"] = growing.confirmed
        ids = {"room_id": growing.room_id, "message_id": growing.message_id}
        fields = {"content": body.get("content"), "state": body["state"]}
        attempt = self.journal.begin("finish", self.user_id, **ids, **fields)
        if over_rest:
            try:
                reply = await self._call("POST", f"{path_of(growing)}/finish", body)
            except Unreachable:
                self.journal.settle(attempt, Outcome.UNKNOWN)
                raise
            status, details, seq = reply.status, reply.details, None
        else:
            frame = await self._answer(await self._ask("message.finish", **ids, **body), "message.finish")
            status = 200 if frame["type"] == "message.finished" else 409 if frame["code"] == "CONFLICT" else 403
            details, seq = frame.get("details"), frame.get("seq")
        self.journal.settle(attempt, Outcome.CONFIRMED if status == 200 else Outcome.REFUSED, seq=seq)
        if status == 409:
            self._take_conflict(growing, details)
        elif status in (200, 404):
            self._give_up(growing)

    async def _cancel(self) -> None:
        """Of anybody's message; the sender decides."""
        newest = list(self.journal.growing.values())[-20:]
        if not newest:
            return
        growing = self.random.choice(newest)
        reply = await self._call("POST", f"{path_of(growing)}/cancel")
        if reply.status == 202:
            growing.is_cancel_stored = True
        self.journal.counts[f"cancels answered {reply.status}"] += 1


def names(frame: Frame, message_id: str) -> bool:
    """Whether it is about this message, or a mark of catching up."""
    message = frame["message"] if frame["type"] == "message.state" else frame
    return message.get("message_id") == message_id or frame["type"].startswith(("sync", "room.created", "subscribed"))


def path_of(growing: Growing) -> str:
    return f"/rooms/{growing.room_id}/messages/{growing.message_id}"
