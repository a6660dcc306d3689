"""The warden: an admin of every room, who decides who is in it and what they may do there."""

import asyncio
import time

from checker.clients import WARDEN, Device, World
from checker.journal import Frame

RULE_SECONDS = 0.3  # for which only admins may post, or slow mode is on
TENANT_BAN_SECONDS = 2
MAX_ROOMS = 15


class Warden(Device):
    """A device of the user who is the admin of all rooms."""

    def __init__(self, world: World) -> None:
        super().__init__(world, WARDEN, 0)
        self._rules: dict[tuple[str, str], object] = {}  # kind and room: the value that was there before
        # It chats a little, as the others do, but what nobody else may do takes most of its time.
        self._actions = [(1, action) for _, action in self._actions] + [
            (25, self._move_member),
            (6, self._rename),
            (6, self._delete_any),
            (6, self._pin),
            (5, self._ban_or_unban),
            (5, self._mute),
            (2, self._ban_from_tenant),
            (4, self._close),
            (4, self._slow_down),
            (8, self._lift_rules),
            (4, self._resolve),
            (1, self._make_room),
        ]

    async def make_rooms(self, groups: int, channels: int, dms: int) -> None:
        for _ in range(groups):
            await self._make_room()
        for _ in range(channels):
            await self._make_room("channel")
        for user_id in self.world.user_ids[:dms]:
            body = {"type": "dm", "members": [user_id], "metadata": {"founders": [WARDEN, user_id]}}
            room_id = (await self._call("POST", "/rooms", body)).data["room_id"]
            self.world.room_ids.append(room_id)
            self.world.dm_ids[room_id] = user_id

    def _pick_ruled_room(self) -> str:
        """One that has admins, who set its rules."""
        return self.random.choice([one for one in self.world.room_ids if one not in self.world.dm_ids])

    async def _make_room(self, kind: str = "group") -> None:
        if len(self.world.room_ids) > MAX_ROOMS:
            return
        members = [user_id for user_id in self.world.user_ids if self.random.random() < 0.6]
        body = {"type": kind, "members": members, "metadata": {"founders": [WARDEN, *members]}}
        reply = await self._call("POST", "/rooms", body)
        self.world.room_ids.append(reply.data["room_id"])
        if kind == "channel":
            self.world.channel_ids.append(reply.data["room_id"])

    async def _join_or_leave(self) -> None:
        await self._move_member()

    async def _move_member(self) -> None:
        room_id = self.random.choice(self.world.room_ids)
        user_id = self.random.choice(self.world.user_ids)
        path = f"/rooms/{room_id}/members"
        if self.random.random() < 0.6:
            await self._do("join", room_id, "POST", path, {"user_id": user_id}, user_id=user_id)
        else:
            await self._do("leave", room_id, "DELETE", f"{path}/{user_id}", user_id=user_id)

    async def _ban_or_unban(self) -> None:
        """Each ban has a reason of its own: the same one again would be no event."""
        room_id = self.random.choice(self.world.room_ids)
        user_id = self.random.choice(self.world.user_ids)
        self._numbers += 1
        path = f"/rooms/{room_id}/bans/{user_id}"
        if self.random.random() < 0.4:
            reason = f"reason {self._numbers}"
            await self._do("ban", room_id, "PUT", path, {"reason": reason}, user_id=user_id, content=reason)
        else:
            await self._do("unban", room_id, "DELETE", path, user_id=user_id)

    async def _ban_from_tenant(self) -> None:
        """The user's devices are closed and come back when it has ended."""
        user_id = self.random.choice(self.world.user_ids)
        begun_s = time.monotonic()
        body = {"reason": "a break", "expires_in": TENANT_BAN_SECONDS}
        await self._do("tenant ban", "", "PUT", f"/users/{user_id}/ban", body, user_id=user_id)
        status = (await self.world.wire.call(user_id, "GET", "/rooms")).status
        if status == 200 and time.monotonic() < begun_s + TENANT_BAN_SECONDS:
            self.journal.fault(f"{user_id} is banned, and lists their rooms")

    async def _mute(self) -> None:
        """For a second, so that most messages still get through."""
        room_id = self.random.choice(self.world.room_ids)
        user_id = self.random.choice(self.world.user_ids)
        path = f"/rooms/{room_id}/members/{user_id}"
        await self._do("mute", room_id, "PATCH", path, {"muted_for": 1}, user_id=user_id)

    async def _rename(self) -> None:
        self._numbers += 1
        await self._change("rename", self._pick_ruled_room(), "name", f"name {self._numbers}")

    async def _close(self) -> None:
        await self._set_rule("posting", "admins", "members")

    async def _slow_down(self) -> None:
        await self._set_rule("slow_mode_seconds", 1, 0)

    async def _set_rule(self, name: str, value: object, usual: object) -> None:
        """For a moment; after a kill until `_lift_rules` has its turn."""
        room_id = self._pick_ruled_room()
        self._rules[name, room_id] = usual
        await self._change(name, room_id, name, value)
        await asyncio.sleep(self.random.uniform(0, RULE_SECONDS))
        await self._lift_rules()

    async def _lift_rules(self) -> None:
        for (name, room_id), usual in list(self._rules.items()):
            await self._change(name, room_id, name, usual)
            del self._rules[name, room_id]

    async def _change(self, kind: str, room_id: str, name: str, value: object) -> None:
        await self._do(kind, room_id, "PATCH", f"/rooms/{room_id}", {name: value}, content=str(value))

    async def _resolve(self) -> None:
        reports = [one for one in self.journal.attempts[-1000:] if one.kind == "report" and one.content]
        if reports:
            report = self.random.choice(reports)
            path = f"/reports/{report.content}/resolve"
            await self._do("resolve", report.room_id, "POST", path, content=report.content)

    async def _delete_any(self) -> None:
        message = self._pick_message()
        if message is not None:
            await self._bury(message)

    async def _pin(self) -> None:
        message = self._pick_message()
        if message is not None:
            kind, method = self.random.choice((("pin", "PUT"), ("unpin", "DELETE")))
            path = f"/rooms/{message.room_id}/pins/{message.message_id}"
            await self._do(kind, message.room_id, method, path, message_id=message.message_id)

    async def read_messages(self, room_id: str) -> list[Frame]:
        """All of its history."""
        messages: list[Frame] = []
        has_more = True
        while has_more:
            after_seq = messages[-1]["seq"] if messages else 0
            reply = await self._call("GET", f"/rooms/{room_id}/messages", after_seq=after_seq, limit=100)
            messages += reply.data["messages"]
            has_more = reply.data["has_more"]
        return messages

    async def read_log(self, room_id: str) -> list[Frame]:
        """All of it."""
        events: list[Frame] = []
        has_more = True
        while has_more:
            after_seq = events[-1]["seq"] if events else 0
            reply = await self._call("GET", f"/rooms/{room_id}/events", after_seq=after_seq, limit=100)
            events += reply.data["events"]
            has_more = reply.data["has_more"]
        return events

    async def read_search_lag(self) -> int:
        reply = await self._call("GET", "/health")
        return int(reply.data["search"]["lag"] or 0)

    async def list_receipts(self, room_id: str) -> list[Frame]:
        reply = await self._call("GET", f"/rooms/{room_id}/receipts", limit=100)
        return list(reply.data["receipts"])

    async def greet(self, room_id: str) -> None:
        """A message that everybody in the room has to get."""
        await self._post(self._write_message(room_id), was_tried_before=False)
