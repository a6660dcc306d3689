"""The random clients. Each device acts on its own, notes what it does in the journal, and always comes back."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp

from chatapi.protocol.server_frames import LOGGED
from checker.journal import Attempt, Frame, Journal, Outcome, Stream, is_leaving
from checker.wire import CALL_SECONDS, Reply, Source, Unreachable, Wire, hang_up, receive, send

WARDEN = "warden"
"""The user who is an admin of every room and never leaves one."""

WORDS = ("said", "edited")
"""Each message has the first one, and the second one after an edit: a search finds all of them by these."""

MAX_PAUSE_SECONDS = 0.06  # between two actions of a device: with all its frames it stays below the limit for acks
MAX_ABSENCE_SECONDS = 0.25
MAX_STALL_SECONDS = 1.5  # of a device that does not read
MAX_BURST = 12  # messages sent without waiting for the first one's answer
EMOJI = ("👍", ":ship:", "❤️")
NOTIFY_LEVELS = ("all", "mentions", "none")
MAX_FILLER = 3_000  # characters: a stalled device's buffers have to overflow

Action = Callable[[], Awaitable[None]]


@dataclass
class World:
    """What the clients share. `acting` is cleared to make all of them pause, `ending` set to make them stop."""

    journal: Journal
    wire: Wire
    seed: int
    user_ids: list[str]
    acting: asyncio.Event = field(default_factory=asyncio.Event)
    ending: bool = False
    busy: int = 0  # devices in the middle of an action
    room_ids: list[str] = field(default_factory=list)
    channel_ids: list[str] = field(default_factory=list)
    dm_ids: dict[str, str] = field(default_factory=dict)  # of the warden: by room, the other user


class Device:
    def __init__(self, world: World, user_id: str, number: int) -> None:
        self.world = world
        self.journal = world.journal
        self.user_id = user_id
        self.name = f"{user_id}.{number}"
        self.random = random.Random(f"{world.seed}/{self.name}")
        self.stream: Stream | None = None
        self.room_ids: set[str] = set()  # that the connection streams
        self.cursors: dict[str, int] = {}  # what this device has seen
        self._epoch: str | None = None
        self._websocket: aiohttp.ClientWebSocketResponse | None = None  # None also when something else carries it
        self._reading: asyncio.Task[None] | None = None
        self._answers: dict[str, asyncio.Future[Frame]] = {}
        self._ready = asyncio.Event()
        self._complete = asyncio.Event()
        self._stall_seconds = 0.0
        self._numbers = 0
        self._sent: list[Attempt] = []  # its own messages that are confirmed, the newest last
        self._unanswered: list[Attempt] = []  # its own messages of which it does not know
        self._actions: list[tuple[int, Action]] = [
            (30, self._send_burst),
            (12, self._post_message),
            (8, self._retry),
            (8, self._edit),
            (4, self._delete),
            (8, self._react),
            (2, self._set_profile),
            (3, self._set_view),
            (2, self._block_or_unblock),
            (2, self._report),
            (10, self._acknowledge),
            (4, self._join_or_leave),
            (3, self._subscribe_or_not),
            (3, self._sync),
            (3, self._stall),
            (3, self._read_page),
            (3, self._type),
            (3, self._disconnect),
        ]

    # Its life

    async def run(self) -> None:
        while not self.world.ending:
            if self.random.random() < 0.1:
                await self._act_offline()
            await self.live(self.random.choice(("backlog", "cursors")), self._act)
            await asyncio.sleep(self.random.uniform(0, MAX_ABSENCE_SECONDS))

    async def live(self, mode: str, act: Action) -> None:
        """One connection, to its end."""
        stream = Stream(self.user_id, mode, self.journal.tick())
        try:
            source = await self._connect(mode)
        except Unreachable:
            return
        self.journal.streams.append(stream)
        self.stream = stream
        self._ready.clear()
        self._complete.clear()
        self._reading = asyncio.create_task(self._read(stream, source))
        try:
            await self._wait_until_ready(self._reading)
            if mode == "cursors":
                await self._sync()
            await act()
        except Unreachable:
            pass
        finally:
            self.stream = self._websocket = None
            self._reading.cancel()
            await asyncio.wait([self._reading])
            await hang_up(source, politely=self.random.random() < 0.5)

    async def _connect(self, mode: str) -> Source:
        """Raises Unreachable."""
        params = {"sync": "none"} if mode == "cursors" else {}
        self._websocket = await self.world.wire.connect(self.user_id, **params)
        return self._websocket

    async def listen(self) -> None:
        """What the last connection does."""
        await self.world.acting.wait()

    def is_reading(self, stream: Stream) -> bool:
        """Whether this connection is still there: the server may have closed it, and nobody acts who would notice."""
        return self.stream is stream and self._reading is not None and not self._reading.done()

    def find_missing(self, stream: Stream, seqs: dict[str, int]) -> str:
        """What this connection, if it is still there, has not got of its rooms up to these seqs; empty when nothing."""
        if not self.is_reading(stream):
            return ""
        if not self._complete.is_set():
            return "its sync is not complete"
        behind = {
            room_id: f"{self.cursors.get(room_id)} of {seqs[room_id]}"
            for room_id in self.room_ids & seqs.keys()
            if self.cursors.get(room_id, 0) < seqs[room_id]
        }
        return f"it has got {behind}" if behind else ""

    async def _act(self) -> None:
        while not self.world.ending:
            await self.world.acting.wait()
            await self._do_one(self._pick())
            await asyncio.sleep(self.random.uniform(0, MAX_PAUSE_SECONDS))

    async def _act_offline(self) -> None:
        for action in (self._post_message, self._edit, self._retry):
            await self.world.acting.wait()
            try:
                await self._do_one(action)
            except Unreachable:
                return

    async def _do_one(self, action: Action) -> None:
        self.world.busy += 1
        try:
            await action()
        finally:
            self.world.busy -= 1

    def _pick(self) -> Action:
        weights = [weight for weight, _ in self._actions]
        return self.random.choices([action for _, action in self._actions], weights)[0]

    # What comes in

    async def _read(self, stream: Stream, source: Source) -> None:
        try:
            while (text := await receive(source)) is not None:
                frame = self.journal.read(text)
                self.journal.keep(stream, frame)
                self._take(frame)
                if self._stall_seconds:
                    await asyncio.sleep(self._stall_seconds)
                    self._stall_seconds = 0.0
        finally:
            self._abandon()

    def _take(self, frame: Frame) -> None:
        kind, room_id = frame["type"], frame.get("room_id")
        future = self._answers.pop(frame.get("request_id") or "", None)
        if future is not None and not future.done():
            future.set_result(frame)
        if kind == "ready":
            self._epoch = frame["epoch"]
            self.room_ids = {room["room_id"] for room in frame["rooms"]}
            self._ready.set()
        elif kind == "sync.complete":
            self._complete.set()
        elif kind in ("room.created", "subscribed"):
            self.room_ids.add(frame["room_id"])
        elif kind == "unsubscribed":
            self.room_ids.discard(frame["room_id"])
        elif kind == "sync.gap":
            self.cursors[frame["room_id"]] = max(frame["to_seq"], self.cursors.get(frame["room_id"], 0))
        elif kind == "error" and frame["code"] == "INTERNAL_ERROR":
            self.journal.fault(f"{self.name} got {frame}")
        if kind in LOGGED and room_id is not None and "seq" in frame:
            self.journal.counts["events received"] += 1
            self.journal.learn(room_id, frame["seq"])
            self.cursors[room_id] = max(frame["seq"], self.cursors.get(room_id, 0))
            if is_leaving(frame, self.user_id):
                self.room_ids.discard(room_id)

    def _abandon(self) -> None:
        """Nobody answers any more."""
        for future in self._answers.values():
            if not future.done():
                future.set_exception(Unreachable())
                future.exception()  # seen: perhaps nobody waits for it
        self._answers.clear()

    async def _wait_until_ready(self, reading: asyncio.Task[None]) -> None:
        waiting = asyncio.create_task(self._ready.wait())
        await asyncio.wait([waiting, reading], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not self._ready.is_set():
            raise Unreachable

    # What goes out

    async def _ask(self, kind: str, *, note: bool = False, **fields: Any) -> "asyncio.Future[Frame]":
        """Sends a frame; the future gets the one that answers it."""
        assert self._websocket is not None
        assert self._reading is not None
        if self._reading.done():
            raise Unreachable
        self._numbers += 1
        request_id = f"r{self._numbers}"
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._answers[request_id] = future
        frame = {"type": kind, "request_id": request_id, **fields}
        if note and self.stream is not None:
            self.journal.keep(self.stream, frame, is_sent=True)
        await send(self._websocket, frame)
        return future

    async def _answer(self, future: "asyncio.Future[Frame]", what: str) -> Frame:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await future
        except TimeoutError:
            self.journal.fault(f"{self.name} got no answer to {what}")
            raise Unreachable from None

    async def _call(self, method: str, path: str, body: object = None, **params: object) -> Reply:
        reply = await self.world.wire.call(self.user_id, method, path, body, **params)
        if reply.status == 503:
            raise Unreachable  # it shuts down
        if reply.status >= 500 or reply.status == 400:
            self.journal.fault(f"{self.name}: {method} {path} {body} answered {reply}")
        return reply

    async def _do(self, kind: str, room_id: str, method: str, path: str, body: object = None, **fields: Any) -> Reply:
        """A call that is noted with its outcome. `fields` are the attempt's."""
        attempt = self.journal.begin(kind, fields.pop("user_id", self.user_id), room_id, **fields)
        try:
            reply = await self._call(method, path, body)
        except Unreachable:
            self.journal.settle(attempt, Outcome.UNKNOWN)
            raise
        self.journal.settle(attempt, Outcome.CONFIRMED if reply.status < 400 else Outcome.REFUSED)
        return reply

    async def read_list(self, path: str, name: str, **params: object) -> list[Frame]:
        """All of it."""
        items: list[Frame] = []
        while True:
            reply = await self._call("GET", path, limit=100, **params)
            items += reply.data[name]
            if not reply.data["has_more"]:
                return items
            params["cursor"] = reply.data["next_cursor"]

    async def read_profiles(self) -> dict[str, str]:
        """The names of all users who have one."""
        reply = await self._call("GET", "/users", ids=",".join([WARDEN, *self.world.user_ids]))
        return {profile["user_id"]: profile["name"] for profile in reply.data["users"]}

    def _pick_room(self) -> str | None:
        return self.random.choice(sorted(self.room_ids)) if self.room_ids else None

    def _write_message(self, room_id: str) -> Attempt:
        self._numbers += 1
        identity = f"{self.name}.{self._numbers}"
        content = f"{identity} {WORDS[0]}" + " " * self.random.choice((0, 0, self.random.randrange(MAX_FILLER)))
        fields: dict[str, Any] = {"client_message_id": identity, "content": content}
        roots = [sent for sent in self._sent if sent.room_id == room_id and sent.thread_id is None]
        if roots and self.random.random() < 0.2:
            fields["thread_id"] = self.random.choice(roots).message_id
        fields["mentions"] = (WARDEN, self.user_id) if self.random.random() < 0.2 else ()
        fields["mention_room"] = self.user_id == WARDEN and self.random.random() < 0.2
        attempt = self.journal.begin("send", self.user_id, room_id, **fields)
        self._unanswered.append(attempt)
        return attempt

    def _settle_message(self, attempt: Attempt, confirmation: Frame | None, *, was_tried_before: bool = False) -> None:
        """`confirmation` is None when the server refused it."""
        if confirmation is None:
            # What was tried before may have been stored then, though now the sender is not in the room any more.
            self._unanswered.remove(attempt)
            self.journal.settle(attempt, Outcome.UNKNOWN if was_tried_before else Outcome.REFUSED)
            return
        self._unanswered.remove(attempt)
        self.journal.settle(attempt, Outcome.CONFIRMED, message_id=confirmation["message_id"], seq=confirmation["seq"])
        if confirmation["client_message_id"] != attempt.client_message_id:
            self.journal.fault(f"{self.name}: {attempt} was confirmed as {confirmation}")
        self._sent.append(attempt)
        del self._sent[:-20]

    # Actions

    async def _send_burst(self) -> None:
        room_id = self._pick_room()
        if room_id is None:
            return
        waiting = []
        for _ in range(self.random.randint(1, MAX_BURST)):
            attempt = self._write_message(room_id)
            waiting.append((attempt, await self._ask("send_message", room_id=room_id, **attempt.draft)))
        for attempt, future in waiting:
            frame = await self._answer(future, "send_message")
            self._settle_message(attempt, frame if frame["type"] == "message.sent" else None)

    async def _post_message(self) -> None:
        room_id = self.random.choice(self.world.room_ids)  # its own or not
        await self._post(self._write_message(room_id), was_tried_before=False)

    async def _retry(self) -> None:
        """Sends again what was not answered, over the other transport as it comes."""
        if not self._unanswered:
            return
        attempt = self._unanswered[0]
        if self._websocket is None or self.random.random() < 0.5:
            await self._post(attempt, was_tried_before=True)
            return
        frame = await self._answer(await self._ask("send_message", room_id=attempt.room_id, **attempt.draft), "a retry")
        self._settle_message(attempt, frame if frame["type"] == "message.sent" else None, was_tried_before=True)
        self.journal.counts["retries"] += 1

    async def _post(self, attempt: Attempt, *, was_tried_before: bool) -> None:
        reply = await self._call("POST", f"/rooms/{attempt.room_id}/messages", attempt.draft)
        if was_tried_before:
            self.journal.counts["retries"] += 1
        elif reply.status == 200:
            self.journal.fault(f"{self.name}: {attempt} was answered 200, as if it had been sent before")
        if reply.status == 409:
            self.journal.fault(f"{self.name}: {attempt} met a message with another body")
        self._settle_message(attempt, reply.data, was_tried_before=was_tried_before)

    async def retry_all(self) -> None:
        """Until there is nothing of which the outcome is not known."""
        while self._unanswered:
            await self._post(self._unanswered[0], was_tried_before=True)

    async def _edit(self) -> None:
        if not self._sent:
            return
        message = self.random.choice(self._sent)
        self._numbers += 1
        content = f"{message.client_message_id} {WORDS[0]} {WORDS[1]} {self._numbers}"
        mentions = self.random.choice((None, None, (), (WARDEN,), (self.user_id, WARDEN)))
        ids = {"room_id": message.room_id, "message_id": message.message_id}
        attempt = self.journal.begin("edit", self.user_id, **ids, content=content, mentions=mentions)
        body = {"content": content} if mentions is None else {"content": content, "mentions": list(mentions)}
        if self._websocket is None or self.random.random() < 0.5:
            reply = await self._call("PUT", f"/rooms/{message.room_id}/messages/{message.message_id}", body)
            self.journal.settle(attempt, Outcome.CONFIRMED if reply.status == 200 else Outcome.REFUSED)
            return
        frame = await self._answer(await self._ask("message.edit", **ids, **body), "message.edit")
        if frame["type"] == "message.edited":
            self.journal.settle(attempt, Outcome.CONFIRMED, seq=frame["seq"])
        else:
            self.journal.settle(attempt, Outcome.REFUSED)

    async def _delete(self) -> None:
        if self._sent:
            await self._bury(self._sent.pop(self.random.randrange(len(self._sent))))

    async def _bury(self, message: Attempt) -> None:
        attempt = self.journal.begin("delete", self.user_id, message.room_id, message_id=message.message_id)
        if self._websocket is None or self.random.random() < 0.5:
            reply = await self._call("DELETE", f"/rooms/{message.room_id}/messages/{message.message_id}")
            self.journal.settle(attempt, Outcome.CONFIRMED if reply.status == 204 else Outcome.REFUSED)
            return
        ids = {"room_id": message.room_id, "message_id": message.message_id}
        frame = await self._answer(await self._ask("message.delete", **ids), "message.delete")
        if frame["type"] == "message.deleted":
            self.journal.settle(attempt, Outcome.CONFIRMED, seq=frame["seq"])
        else:
            self.journal.settle(attempt, Outcome.REFUSED)

    async def _react(self) -> None:
        """To somebody's message, with an emoji that others use too, or the reaction is taken back."""
        message = self._pick_message()
        if message is None:
            return
        emoji = self.random.choice(EMOJI)
        kind = self.random.choice(("react", "react", "unreact"))
        ids = {"room_id": message.room_id, "message_id": message.message_id}
        attempt = self.journal.begin(kind, self.user_id, **ids, content=emoji)
        if self._websocket is None or self.random.random() < 0.5:
            path = f"/rooms/{message.room_id}/messages/{message.message_id}/reactions/{quote(emoji)}"
            reply = await self._call("PUT" if kind == "react" else "DELETE", path)
            self.journal.settle(attempt, Outcome.CONFIRMED if reply.status in (200, 204) else Outcome.REFUSED)
            return
        frame_type = "reaction.add" if kind == "react" else "reaction.remove"
        frame = await self._answer(await self._ask(frame_type, **ids, emoji=emoji), frame_type)
        if frame["type"] == "error":
            self.journal.settle(attempt, Outcome.REFUSED)
        else:
            self.journal.settle(attempt, Outcome.CONFIRMED, seq=frame.get("seq"))

    async def _set_profile(self) -> None:
        self._numbers += 1
        name = f"{self.name} {self._numbers}"
        await self._do("profile", "", "PUT", f"/users/{self.user_id}", {"name": name}, content=name)

    async def _set_view(self) -> None:
        room_id = self._pick_room()
        if room_id is None:
            return
        if self.random.random() < 0.5:
            level = self.random.choice(NOTIFY_LEVELS)
            await self._do("notify", room_id, "PATCH", f"/rooms/{room_id}/me", {"notify": level}, content=level)
        else:
            await self._hide(room_id, is_hidden=self.random.random() < 0.7)

    async def _hide(self, room_id: str, *, is_hidden: bool) -> None:
        body = {"hidden": is_hidden}
        await self._do("hide", room_id, "PATCH", f"/rooms/{room_id}/me", body, content=str(is_hidden))

    async def hide_some(self) -> None:
        """When nobody posts any more: so it stays."""
        for room_id in self.world.room_ids:
            if self.random.random() < 0.5:
                await self._hide(room_id, is_hidden=True)

    async def _block_or_unblock(self) -> None:
        others = [user_id for user_id in self.world.user_ids if user_id != self.user_id]
        if self.user_id != WARDEN and self.random.random() < 0.5:
            others = [WARDEN]
        other_id = self.random.choice(others)
        kind, method = self.random.choice((("block", "PUT"), ("unblock", "DELETE")))
        await self._do(kind, "", method, f"/blocks/{other_id}", content=other_id)

    async def _report(self) -> None:
        message = self._pick_message()
        if message is None:
            return
        attempt = self.journal.begin("report", self.user_id, message.room_id, message_id=message.message_id)
        path = f"/rooms/{message.room_id}/messages/{message.message_id}/report"
        reply = await self._call("POST", path, {"reason": "a word"})
        if reply.status == 202:
            self.journal.settle(attempt, Outcome.CONFIRMED, content=reply.data["report_id"])
        else:
            self.journal.settle(attempt, Outcome.REFUSED)

    def _pick_message(self) -> Attempt | None:
        """One of the newest that were confirmed."""
        sends = [attempt for attempt in self.journal.attempts[-300:] if attempt.kind == "send" and attempt.message_id]
        return self.random.choice(sends) if sends else None

    async def _acknowledge(self) -> None:
        room_id = self._pick_room()
        if room_id is None or room_id not in self.cursors:
            return
        seq = self.random.randint(max(0, self.cursors[room_id] - 5), self.cursors[room_id])
        kind = self.random.choice(("ack", "ack", "read"))
        attempt = self.journal.begin(kind, self.user_id, room_id, seq=seq)
        if self._websocket is not None and self.random.random() < 0.5:
            frame = await self._answer(await self._ask(kind, room_id=room_id, seq=seq), kind)
            standing = frame["seq"] if frame["type"] in ("ack.received", "read.updated") else None
        else:
            body = {"room_id": room_id, "seq": seq} if kind == "ack" else {"seq": seq}
            reply = await self._call("POST", "/acks" if kind == "ack" else f"/rooms/{room_id}/read", body)
            standing = reply.data["seq"] if reply.status == 200 else None
        self.journal.settle(attempt, Outcome.REFUSED if standing is None else Outcome.CONFIRMED)
        if standing is not None and standing < seq:
            self.journal.fault(f"{self.name}: {kind} of {seq} was answered {standing}")

    async def _join_or_leave(self) -> None:
        if self.random.random() < 0.5:
            room_id = self.random.choice(self.world.channel_ids)
            await self._do("join", room_id, "POST", f"/rooms/{room_id}/members", {"user_id": self.user_id})
        else:
            room_id = self.random.choice(self.world.room_ids)
            await self._do("leave", room_id, "DELETE", f"/rooms/{room_id}/members/{self.user_id}")

    async def _subscribe_or_not(self) -> None:
        """Only channels: what a member of a group has unsubscribed from would be lost to this test."""
        room_id = self.random.choice(self.world.channel_ids)
        kind = self.random.choice(("subscribe", "subscribe", "unsubscribe"))
        await self._answer(await self._ask(kind, room_id=room_id, note=True), kind)

    async def _sync(self) -> None:
        """From the device's own cursors, as far as it has one, its former rooms included."""
        rooms = {room_id: seq for room_id, seq in self.cursors.items() if self.random.random() < 0.9}
        epoch = "another" if self.random.random() < 0.05 else self._epoch
        await self._ask("sync", note=True, epoch=epoch, rooms=rooms)

    async def _stall(self) -> None:
        self._stall_seconds = self.random.uniform(0, MAX_STALL_SECONDS)

    async def _read_page(self) -> None:
        room_id = self._pick_room()
        if room_id is None:
            return
        known_seq = self.journal.known_seq(room_id)
        after_seq = self.random.choice((0, max(0, known_seq - 1), self.random.randint(0, known_seq)))
        reply = await self._call("GET", f"/rooms/{room_id}/events", after_seq=after_seq, limit=100)
        if reply.status == 200:
            self.journal.note_page(self.user_id, room_id, after_seq, known_seq, reply.data["events"])

    async def _type(self) -> None:
        room_id = self._pick_room()
        if room_id is not None:
            assert self._websocket is not None
            await send(self._websocket, {"type": "typing.start", "room_id": room_id})

    async def _disconnect(self) -> None:
        raise Unreachable
