"""The authorization matrix: every route and every frame, for every credential and every standing in a room.

A cell is the status of the answer; for a frame it is `ok`, or the status of the error's code. `…` stands for
`/rooms/{room_id}`. A route or a frame without a row fails. Those that name a room also have rows for the standings.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from conftest import mark_slow
from driver import Reply, Server, Socket, User

from chatapi.app import RAW_ROUTES
from chatapi.errors import HTTP_STATUS, Code
from chatapi.protocol import frames
from chatapi.protocol import requests as req
from chatapi.protocol.frames import CLIENT_FRAMES
from chatapi.protocol.moderation_requests import PatchMember, ReportMessage
from chatapi.protocol.move_requests import MoveTenant
from chatapi.protocol.stream_requests import StreamAppend, StreamEnding
from chatapi.protocol.sync_records import SyncRequest
from chatapi.protocol.user_requests import PutUser
from chatapi.rest import ROUTES

# `key` and `token`: of the tenant, for a user who is an admin of the room. `other key` and `other token`: of another
# tenant, for a user of the same id, who names all that the first one has.
BY_CREDENTIAL = """
                                                    key  token other_key other_token master none
POST   …/messages                                   201  201   404       404         401    401
POST   …/messages/stream                            201  201   404       404         401    401
PUT    …/messages/stream                            201  201   404       404         401    401
GET    …/messages                                   200  200   404       404         401    401
GET    …/messages/{message_id}                      200  200   404       404         401    401
PUT    …/messages/{message_id}                      200  200   404       404         401    401
DELETE …/messages/{message_id}                      204  204   404       404         401    401
POST   …/messages/{message_id}/append               200  200   404       404         401    401
POST   …/messages/{message_id}/finish               200  200   404       404         401    401
POST   …/messages/{message_id}/cancel               202  202   404       404         401    401
PUT    …/messages/{message_id}/reactions/{emoji}    200  200   404       404         401    401
DELETE …/messages/{message_id}/reactions/{emoji}    204  204   404       404         401    401
GET    …/messages/{message_id}/reactions            200  200   404       404         401    401
PUT    …/pins/{message_id}                          200  200   404       404         401    401
DELETE …/pins/{message_id}                          204  204   404       404         401    401
GET    …/pins                                       200  200   404       404         401    401
GET    …/events                                     200  200   404       404         401    401
POST   …/read                                       200  200   404       404         401    401
GET    …/receipts                                   200  200   404       404         401    401
POST   /acks                                        200  200   404       404         401    401
POST   /rooms                                       201  201   201       201         401    401
GET    /rooms                                       200  200   200       200         401    401
GET    …                                            200  200   404       404         401    401
PATCH  …                                            200  200   404       404         401    401
DELETE …                                            204  204   404       404         401    401
PATCH  …/me                                         200  200   404       404         401    401
GET    …/members                                    200  200   404       404         401    401
POST   …/members                                    201  201   404       404         401    401
PATCH  …/members/{user_id}                          200  200   404       404         401    401
DELETE …/members/{user_id}                          204  204   404       404         401    401
PUT    …/bans/{user_id}                             200  200   404       404         401    401
DELETE …/bans/{user_id}                             204  204   404       404         401    401
GET    …/bans                                       200  200   404       404         401    401
GET    …/presence                                   200  200   404       404         401    401
GET    /mentions                                    200  200   200       200         401    401
POST   …/messages/{message_id}/report               202  202   404       404         401    401
GET    /reports                                     200  403   200       403         401    401
POST   /reports/{report_id}/resolve                 200  403   404       403         401    401
GET    /search                                      200  200   200       200         401    401
GET    /channels                                    200  200   200       200         401    401
POST   /notify                                      202  403   404       403         401    401
GET    /notifications                               200  200   200       200         401    401
POST   /notifications/{notification_id}/ack         200  200   404       404         401    401
POST   /subscriptions                               200  200   201       201         401    401
GET    /subscriptions                               200  200   200       200         401    401
DELETE /subscriptions/{subscription_id}             204  204   404       404         401    401
GET    /users                                       200  200   200       200         401    401
GET    /users/{user_id}                             200  200   404       404         401    401
PUT    /users/{user_id}                             200  403   200       403         401    401
DELETE /users/{user_id}                             200  403   200       403         401    401
GET    /users/{user_id}/export                      200  403   200       403         401    401
GET    /users/{user_id}/ban                         404  403   404       403         401    401
PUT    /users/{user_id}/ban                         200  403   200       403         401    401
DELETE /users/{user_id}/ban                         204  403   204       403         401    401
GET    /blocks                                      200  200   200       200         401    401
PUT    /blocks/{user_id}                            200  200   200       200         401    401
DELETE /blocks/{user_id}                            204  204   204       204         401    401
POST   /sync                                        200  200   200       200         401    401
POST   /tokens                                      201  403   201       403         401    401
POST   /ws/token                                    200  200   200       200         401    401
GET    /events/stream                               200  200   200       200         401    401
GET    /ws                                          101  101   101       101         401    401
GET    /                                            200  200   200       200         200    200
GET    /livez                                       200  200   200       200         200    200
GET    /readyz                                      200  200   200       200         200    200
GET    /health                                      200  200   200       200         200    200
GET    /metrics                                     200  200   200       200         200    200
GET    /openapi.json                                200  200   200       200         200    200
GET    /asyncapi.json                               200  200   200       200         200    200
POST   /admin/tenants                               401  401   401       401         201    401
GET    /admin/tenants                               401  401   401       401         200    401
GET    /admin/tenants/{tenant_id}                   401  401   401       401         200    401
PATCH  /admin/tenants/{tenant_id}                   401  401   401       401         200    401
DELETE /admin/tenants/{tenant_id}                   401  401   401       401         204    401
POST   /admin/tenants/{tenant_id}/keys              401  401   401       401         201    401
GET    /admin/tenants/{tenant_id}/keys              401  401   401       401         200    401
DELETE /admin/tenants/{tenant_id}/keys/{key_id}     401  401   401       401         204    401
POST   /admin/tenants/{tenant_id}/move              401  401   401       401         409    401
GET    /admin/tenants/{tenant_id}/export            401  401   401       401         200    401
POST   /admin/tenants/import                        401  401   401       401         400    401
POST   /admin/tenants/{tenant_id}/token-secret      401  401   401       401         201    401
POST   /admin/tenants/{tenant_id}/webhook-secret    401  401   401       401         201    401
GET    /admin/dead-letters                          401  401   401       401         200    401
POST   /admin/dead-letters/retry                    401  401   401       401         409    401
POST   /admin/dead-letters/{dead_letter_id}/retry   401  401   401       401         404    401
GET    /admin/audit                                 401  401   401       401         200    401
GET    /admin/stats                                 401  401   401       401         200    401
POST   /admin/compact                               401  401   401       401         200    401
FRAME  send_message                                 ok   ok    404       404         401    401
FRAME  message.edit                                 ok   ok    404       404         401    401
FRAME  message.delete                               ok   ok    404       404         401    401
FRAME  message.append                               ok   ok    404       404         401    401
FRAME  message.finish                               ok   ok    404       404         401    401
FRAME  message.cancel                               ok   ok    404       404         401    401
FRAME  reaction.add                                 ok   ok    404       404         401    401
FRAME  reaction.remove                              ok   ok    404       404         401    401
FRAME  ack                                          ok   ok    404       404         401    401
FRAME  read                                         ok   ok    404       404         401    401
FRAME  typing.start                                 ok   ok    404       404         401    401
FRAME  typing.stop                                  ok   ok    404       404         401    401
FRAME  subscribe                                    ok   ok    404       404         401    401
FRAME  unsubscribe                                  ok   ok    404       404         401    401
FRAME  sync                                         ok   ok    404       404         401    401
FRAME  notification.ack                             ok   ok    404       404         401    401
FRAME  ping                                         ok   ok    ok        ok          401    401
"""

# `admin` and `member` of a group, somebody `removed` from it, a `stranger` to it, a `reader` who is no member of a
# channel, and a member of a `dm`. After the route: on the caller's own message or membership, or on another member's.
BY_STANDING = """
                                                    admin member removed stranger reader dm
POST   …/messages                                   201   201    403     403      403    201
POST   …/messages/stream                            201   201    403     403      403    201
PUT    …/messages/stream                            201   201    403     403      403    201
GET    …/messages                                   200   200    403     403      200    200
GET    …/messages/{message_id}                      200   200    403     403      200    200
PUT    …/messages/{message_id} own                  200   200    403     403      403    200
PUT    …/messages/{message_id} other's              403   403    403     403      403    403
DELETE …/messages/{message_id} own                  204   204    403     403      403    204
DELETE …/messages/{message_id} other's              204   403    403     403      403    403
POST   …/messages/{message_id}/append own           200   200    403     403      403    200
POST   …/messages/{message_id}/append other's       403   403    403     403      403    403
POST   …/messages/{message_id}/finish own           200   200    403     403      403    200
POST   …/messages/{message_id}/finish other's       403   403    403     403      403    403
POST   …/messages/{message_id}/cancel own           202   202    403     403      403    202
POST   …/messages/{message_id}/cancel other's       202   202    403     403      403    202
PUT    …/messages/{message_id}/reactions/{emoji}    200   200    403     403      403    200
DELETE …/messages/{message_id}/reactions/{emoji}    204   204    403     403      403    204
GET    …/messages/{message_id}/reactions            200   200    403     403      200    200
PUT    …/pins/{message_id}                          200   403    403     403      403    200
DELETE …/pins/{message_id}                          204   403    403     403      403    204
GET    …/pins                                       200   200    403     403      200    200
POST   …/messages/{message_id}/report               202   202    403     403      202    202
GET    …/events                                     200   200    403     403      200    200
POST   …/read                                       200   200    403     403      403    200
GET    …/receipts                                   200   200    403     403      403    200
POST   /acks                                        200   200    403     403      403    200
GET    …                                            200   200    403     403      200    200
PATCH  …                                            200   403    403     403      403    403
DELETE …                                            204   403    403     403      403    403
PATCH  …/me                                         200   200    403     403      403    200
GET    …/members                                    200   200    403     403      200    200
POST   …/members own                                409   403    403     403      201    409
POST   …/members other's                            201   403    403     403      403    409
PATCH  …/members/{user_id} own                      200   403    403     403      403    409
PATCH  …/members/{user_id} other's                  200   403    403     403      403    409
DELETE …/members/{user_id} own                      204   204    403     403      403    409
DELETE …/members/{user_id} other's                  204   403    403     403      403    409
PUT    …/bans/{user_id} own                         409   403    403     403      403    403
PUT    …/bans/{user_id} other's                     200   403    403     403      403    403
DELETE …/bans/{user_id}                             204   403    403     403      403    403
GET    …/bans                                       200   403    403     403      403    403
GET    …/presence                                   200   200    403     403      403    200
POST   /notify                                      202   202    202     202      202    202
FRAME  send_message                                 ok    ok     403     403      403    ok
FRAME  message.edit own                             ok    ok     403     403      403    ok
FRAME  message.edit other's                         403   403    403     403      403    403
FRAME  message.delete own                           ok    ok     403     403      403    ok
FRAME  message.delete other's                       ok    403    403     403      403    403
FRAME  message.append own                           ok    ok     403     403      403    ok
FRAME  message.append other's                       403   403    403     403      403    403
FRAME  message.finish own                           ok    ok     403     403      403    ok
FRAME  message.finish other's                       403   403    403     403      403    403
FRAME  message.cancel own                           ok    ok     403     403      403    ok
FRAME  message.cancel other's                       ok    ok     403     403      403    ok
FRAME  reaction.add                                 ok    ok     403     403      403    ok
FRAME  reaction.remove                              ok    ok     403     403      403    ok
FRAME  ack                                          ok    ok     403     403      403    ok
FRAME  read                                         ok    ok     403     403      403    ok
FRAME  typing.start                                 ok    ok     403     403      403    ok
FRAME  typing.stop                                  ok    ok     403     403      403    ok
FRAME  subscribe                                    ok    ok     403     403      ok     ok
FRAME  unsubscribe                                  ok    ok     403     403      ok     ok
FRAME  sync                                         ok    ok     403     403      ok     ok
"""

# Members of a group who are `muted`, where only admins may post (`closed`), or who have just posted in `slow` mode; a
# user who is `banned` from a group, and one from a channel that they only read (`barred`); a member of a dm whom the
# other one has `blocked`, and a member of a group who is banned from the tenant (`suspended`).
BY_RULE = """
                                                    muted closed slow    banned barred blocked suspended
POST   …/messages                                   403   403    429     403    403    403     403
POST   …/messages/stream                            403   403    429     403    403    403     403
PUT    …/messages/stream                            403   403    429     403    403    403     403
GET    …/messages                                   200   200    200     403    403    200     403
GET    …/messages/{message_id}                      200   200    200     403    403    200     403
PUT    …/messages/{message_id}                      403   403    200     403    403    403     403
DELETE …/messages/{message_id}                      204   204    204     403    403    204     403
POST   …/messages/{message_id}/append               403   403    200     403    403    403     403
POST   …/messages/{message_id}/finish               403   403    200     403    403    403     403
POST   …/messages/{message_id}/cancel               403   403    202     403    403    403     403
PUT    …/messages/{message_id}/reactions/{emoji}    403   200    200     403    403    403     403
DELETE …/messages/{message_id}/reactions/{emoji}    204   204    204     403    403    204     403
GET    …/messages/{message_id}/reactions            200   200    200     403    403    200     403
PUT    …/pins/{message_id}                          403   403    403     403    403    403     403
DELETE …/pins/{message_id}                          403   403    403     403    403    403     403
GET    …/pins                                       200   200    200     403    403    200     403
POST   …/messages/{message_id}/report               202   202    202     403    403    202     403
GET    …/events                                     200   200    200     403    403    200     403
POST   …/read                                       200   200    200     403    403    200     403
GET    …/receipts                                   200   200    200     403    403    200     403
POST   /acks                                        200   200    200     403    403    200     403
GET    …                                            200   200    200     403    403    200     403
PATCH  …                                            403   403    403     403    403    403     403
DELETE …                                            403   403    403     403    403    403     403
PATCH  …/me                                         200   200    200     403    403    200     403
GET    …/members                                    200   200    200     403    403    200     403
POST   …/members                                    403   403    403     403    403    409     403
PATCH  …/members/{user_id}                          403   403    403     403    403    409     403
DELETE …/members/{user_id}                          204   204    204     403    403    409     403
PUT    …/bans/{user_id}                             403   403    403     403    403    403     403
DELETE …/bans/{user_id}                             403   403    403     403    403    403     403
GET    …/bans                                       403   403    403     403    403    403     403
GET    …/presence                                   200   200    200     403    403    200     403
POST   /notify                                      202   202    202     202    202    202     202
FRAME  send_message                                 403   403    429     403    403    403     403
FRAME  message.edit                                 403   403    ok      403    403    403     403
FRAME  message.delete                               ok    ok     ok      403    403    ok      403
FRAME  message.append                               403   403    ok      403    403    403     403
FRAME  message.finish                               403   403    ok      403    403    403     403
FRAME  message.cancel                               403   403    ok      403    403    403     403
FRAME  reaction.add                                 403   ok     ok      403    403    403     403
FRAME  reaction.remove                              ok    ok     ok      403    403    ok      403
FRAME  ack                                          ok    ok     ok      403    403    ok      403
FRAME  read                                         ok    ok     ok      403    403    ok      403
FRAME  typing.start                                 403   403    ok      403    403    403     403
FRAME  typing.stop                                  ok    ok     ok      403    403    ok      403
FRAME  subscribe                                    ok    ok     ok      403    403    ok      403
FRAME  unsubscribe                                  ok    ok     ok      403    403    ok      403
FRAME  sync                                         ok    ok     ok      403    403    ok      403
"""

QUERIES = {"GET /search": "?q=x", "GET /users": "?ids=bob"}
"""Of routes that need one."""

CODES = {str(status): code for code, status in HTTP_STATUS.items()}
BODIES_WITH_ROOM = (req.AckUpTo, req.Notify)
NO_ANSWER = ("typing.start", "typing.stop", "notification.ack")
"""Frames that are answered only if they are refused."""


@dataclass(frozen=True)
class Row:
    """One line of a table. `kind` is a method of HTTP or FRAME, `target` the path or the frame's type."""

    kind: str
    target: str
    whose: str
    cells: dict[str, str]

    @property
    def name(self) -> str:
        return f"{self.kind} {self.target}"

    @property
    def changes(self) -> bool:
        return self.kind != "GET"


def read_table(text: str) -> list[Row]:
    header, *lines = text.strip("\n").splitlines()
    columns = header.split()
    rows = []
    for line in lines:
        words = line.replace("…", "/rooms/{room_id}").split()
        kind, target, *whose = words[: -len(columns)]
        rows.append(Row(kind, target, " ".join(whose), dict(zip(columns, words[-len(columns) :], strict=True))))
    return rows


CREDENTIALS = read_table(BY_CREDENTIAL)
STANDINGS = read_table(BY_STANDING)
RULES = read_table(BY_RULE)

IN_A_ROOM = {
    f"{route.method} {route.path}" for route in ROUTES if "{room_id}" in route.path or route.body in BODIES_WITH_ROOM
} | {f"FRAME {name}" for name, body in CLIENT_FRAMES.items() if {"room_id", "rooms"} & set(body.__struct_fields__)}


def test_every_route_and_every_frame_has_its_rows() -> None:
    routes = [f"{route.method} {route.path}" for route in (*ROUTES, *RAW_ROUTES)]
    assert [row.name for row in CREDENTIALS if row.whose] == []
    assert sorted(row.name for row in CREDENTIALS) == sorted([*routes, *(f"FRAME {name}" for name in CLIENT_FRAMES)])
    assert {row.name for row in STANDINGS} == {row.name for row in RULES} == IN_A_ROOM
    labels = [(row.name, row.whose) for row in STANDINGS]
    assert len(set(labels)) == len(labels)


# What is asked for


@dataclass
class Stage:
    """A caller, and everything that the table's routes name. `owner` sees all of the room."""

    caller: User
    owner: User
    ids: dict[str, str]
    own: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)

    def names(self, row: Row) -> dict[str, str]:
        names = self.ids | (self.others if row.whose == "other's" else self.own)
        is_of_stream = row.target.endswith(("append", "finish", "cancel"))
        return names | ({"message_id": names["stream_id"]} if is_of_stream else {})

    def path(self, row: Row) -> str:
        return row.target.format(**self.names(row)) + QUERIES.get(row.name, "")

    def body(self, row: Row) -> dict[str, object] | None:
        """One that would be right for somebody who may do it."""
        record = next(route.body for route in ROUTES if (route.method, route.path) == (row.kind, row.target))
        ids = self.names(row)
        bodies: dict[type[req.Body], dict[str, object]] = {
            req.CreateRoom: {"type": "group"},
            req.PatchRoom: {"name": "renamed"},
            req.PatchOwnView: {"notify": "mentions"},
            req.AddMember: {"user_id": ids["joins"]},
            PutUser: {"name": "Bob B"},
            ReportMessage: {"reason": "rude"},
            PatchMember: {"role": "member" if row.whose == "own" else "admin"},
            req.MessageDraft: {"content": "hi"},
            req.MessageEdit: {"content": "better"},
            StreamAppend: {"index": 1, "text": "more"},
            StreamEnding: {"state": "done"},
            req.ReadUpTo: {"seq": 1},
            req.AckUpTo: {"room_id": ids["room_id"], "seq": 1},
            req.Notify: {"topic": "news", "payload": 1, "targets": {"room_id": ids["room_id"]}},
            req.Subscribe: {"topic": "news"},
            SyncRequest: {"rooms": {}},
            req.CreateTenant: {"name": "new"},
            req.PatchTenant: {"name": "renamed"},
            req.RetryDeadLetters: {"tenant_id": ids["tenant_id"]},
            MoveTenant: {"to": self.caller.server.url},
        }
        return None if record is None else bodies.get(record, {})

    def frame(self, row: Row) -> dict[str, object]:
        """The fields of one that would be right for somebody who may send it."""
        ids = self.names(row)
        values: dict[str, object] = {
            "room_id": ids["room_id"],
            "message_id": ids["message_id"],
            "notification_id": ids["notification_id"],
            "content": "hi",
            "index": 0 if row.target == "message.finish" else 1,
            "text": "more",
            "state": "done",
            "emoji": ids["emoji"],
            "seq": 1,
        }
        record = CLIENT_FRAMES[row.target]
        if record is frames.Sync:
            return {"rooms": {ids["room_id"]: 0}}
        return {name: value for name, value in values.items() if name in record.__struct_fields__}

    async def look(self) -> list[Any]:
        """The room as its owner sees it."""
        paths = ("", "/members", "/messages", "/events", "/receipts")
        return [(await self.owner.get(f"/rooms/{self.ids['room_id']}{path}")).data for path in paths]


async def call(stage: Stage, row: Row) -> str:
    """The cell that the server gives."""
    if row.kind == "FRAME" or row.target == "/ws":
        return await call_over_websocket(stage, row)
    if row.name == "GET /events/stream" or row.target.endswith(("/export", "/import")):
        return await call_plainly(stage, row)
    if row.target.endswith("/messages/stream"):
        reply = await stage.caller.request(row.kind, stage.path(row), b"hi", headers={"Content-Type": "text/plain"})
    else:
        reply = await stage.caller.request(row.kind, stage.path(row), stage.body(row))
    if reply.status >= 400:
        assert reply.error["code"] == CODES[str(reply.status)], (row, reply.error)
    return str(reply.status)


async def call_over_websocket(stage: Stage, row: Row) -> str:
    try:
        socket = await stage.caller.connect()
    except aiohttp.WSServerHandshakeError as refusal:
        return str(refusal.status)
    outcome = "101" if row.target == "/ws" else await send_frame(socket, row.target, stage.frame(row))
    await socket.close()
    return outcome


async def call_plainly(stage: Stage, row: Row) -> str:
    caller, path = stage.caller, stage.path(row)
    async with caller.server.session.request(row.kind, caller.server.url + path, headers=caller.headers) as response:
        return str(response.status)  # an answer of 200 does not end by itself, or is no JSON


async def send_frame(socket: Socket, frame_type: str, fields: dict[str, object]) -> str:
    await socket.send(frame_type, request_id="asked", **fields)
    if frame_type in NO_ANSWER:
        await socket.send("ping", request_id="asked")
    while (frame := await socket.next()).get("request_id") != "asked":
        pass
    return str(HTTP_STATUS[Code(frame["code"])]) if frame["type"] == "error" else "ok"


async def compare(rows: list[Row], column: str, set_up: Callable[[], Awaitable[Stage]]) -> None:
    """Calls everything as this column says. What is refused may change nothing; each other change has a stage of its
    own."""
    stage = await set_up()
    before = await stage.look()
    differences = []
    for row in sorted(rows, key=lambda row: row.cells[column] < "400" or row.cells[column] == "ok"):
        is_refused = "400" <= row.cells[column] < "ok"
        if not is_refused and before:
            assert await stage.look() == before
            before = []
        outcome = await call(stage, row)
        if outcome != row.cells[column]:
            differences.append((row.name, row.whose, f"{column}: {outcome}"))
        if row.changes and not is_refused:
            stage = await set_up()
    assert not differences


# The credentials


class Tenants:
    """Two tenants, with `carol` in each, and stages on which she is the admin of a channel of the first one."""

    def __init__(self, server: Server, other_key: str) -> None:
        self._server = server
        self._carol = server.user("carol")
        self._other = server.user("carol", other_key)

    async def caller(self, credential: str) -> User:
        carol = self._other if credential.startswith("other") else self._carol
        if credential.endswith("token"):
            return self._server.bearer("carol", (await carol.post("/tokens")).data["token"])
        if credential in ("master", "none"):
            nobody = User(self._server, "", "")
            nobody.headers = {"X-Master-Key": self._server.master_key} if credential == "master" else {}
            return nobody
        return carol

    async def set_up(self, caller: User, *, is_for_operator: bool) -> Stage:
        carol = self._carol
        room_id = await carol.make_room("bob", room_type="channel")
        message = await carol.say(room_id)
        await carol.put("/users/bob", {"name": "Bob"})
        subscription = await carol.post("/subscriptions", {"topic": "news"})
        report = await carol.post(f"/rooms/{room_id}/messages/{message['message_id']}/report", {"reason": "rude"})
        to_carol = {"topic": "news", "payload": 1, "targets": {"user_ids": ["carol"]}}
        ids = {
            "room_id": room_id,
            "message_id": message["message_id"],
            "stream_id": (await carol.say(room_id, "", stream=True))["message_id"],
            "user_id": "bob",
            "joins": "dave",
            "emoji": ":ship:",
            "subscription_id": subscription.data["subscription_id"],
            "notification_id": (await carol.post("/notify", to_carol)).data["notification_id"],
            "tenant_id": "tenant_x",
            "key_id": "key_x",
            "report_id": report.data["report_id"],
            "dead_letter_id": "dlv_x",
        }
        if is_for_operator:
            ids["tenant_id"] = (await self._server.make_tenant("brief"))["tenant_id"]
            keys = await self._server.admin("GET", f"/tenants/{ids['tenant_id']}/keys")
            ids["key_id"] = keys.data["keys"][0]["key_id"]
        return Stage(caller, carol, ids)


@pytest.fixture
async def tenants(server: Server) -> Tenants:
    return Tenants(server, (await server.make_tenant("other"))["api_key"])


@pytest.mark.parametrize("credential", mark_slow(CREDENTIALS[0].cells, but={"key", "other_token", "none"}))
async def test_a_credential_may_do_as_the_table_says(tenants: Tenants, credential: str) -> None:
    caller = await tenants.caller(credential)
    await compare(CREDENTIALS, credential, lambda: tenants.set_up(caller, is_for_operator=credential == "master"))


async def test_another_tenants_ids_are_answered_like_made_up_ones(tenants: Tenants) -> None:
    stage = await tenants.set_up(await tenants.caller("other_key"), is_for_operator=False)
    nothing = Stage(stage.caller, stage.owner, {name: "x" * len(value) for name, value in stage.ids.items()})

    async def ask(of: Stage, row: Row) -> Reply:
        return await of.caller.request(row.kind, of.path(row), of.body(row))

    refused = [row for row in CREDENTIALS if row.cells["other_key"] == "404" and row.kind != "FRAME"]
    assert len(refused) >= 19
    for row in refused:
        reply, other = await ask(stage, row), await ask(nothing, row)
        assert (reply.status, reply.body) == (other.status, other.body), row.name
        assert "details" not in reply.error, row.name


# The standings in a room


async def set_up_standing(server: Server, standing: str) -> Stage:
    owner, carol, bob = (server.user(name) for name in ("owner", "carol", "bob"))
    if standing == "dm":
        owner, room_id = bob, await find_dm(carol, "bob")
    else:
        room_type = "channel" if standing == "reader" else "group"
        members = ["bob"] if standing in ("stranger", "reader") else ["bob", "carol"]
        room_id = await owner.make_room(*members, room_type=room_type)
    bobs = (await bob.say(room_id))["message_id"]
    is_member = standing not in ("stranger", "reader")
    carols = (await carol.say(room_id))["message_id"] if is_member else bobs
    bobs_stream = (await bob.say(room_id, "", stream=True))["message_id"]
    carols_stream = (await carol.say(room_id, "", stream=True))["message_id"] if is_member else bobs_stream
    if standing == "admin":
        await owner.patch(f"/rooms/{room_id}/members/carol", {"role": "admin"})
    if standing == "removed":
        await owner.delete(f"/rooms/{room_id}/members/carol")
    return Stage(
        carol,
        owner,
        {"room_id": room_id, "tenant_id": "tenant_x", "notification_id": "notif_x", "emoji": ":ship:"},
        own={"message_id": carols, "stream_id": carols_stream, "user_id": "carol", "joins": "carol"},
        others={"message_id": bobs, "stream_id": bobs_stream, "user_id": "bob", "joins": "dave"},
    )


async def find_dm(user: User, other: str) -> str:
    """A dm is there once: the first stage makes it."""
    reply = await user.post("/rooms", {"type": "dm", "members": [other]})
    return str(reply.data["room_id"] if reply.status == 201 else reply.error["details"]["room_id"])


@pytest.mark.parametrize("standing", mark_slow(STANDINGS[0].cells, but={"member", "removed", "stranger"}))
async def test_a_standing_may_do_as_the_table_says(server: Server, standing: str) -> None:
    await compare(STANDINGS, standing, lambda: set_up_standing(server, standing))


@pytest.mark.parametrize("rule", mark_slow(RULES[0].cells, but={"muted"}))
async def test_rules_of_a_room_allow_as_the_table_says(server: Server, rule: str) -> None:
    async def set_up() -> Stage:
        backend, bob = server.user("backend"), server.user("bob")
        await backend.delete("/users/carol/ban")  # those of the stage before
        await bob.delete("/blocks/carol")
        stage = await set_up_standing(server, {"barred": "reader", "blocked": "dm"}.get(rule, "member"))
        room = f"/rooms/{stage.ids['room_id']}"
        if rule == "blocked":
            await bob.request("PUT", "/blocks/carol")
        elif rule == "suspended":
            await backend.request("PUT", "/users/carol/ban")
        elif rule == "muted":
            await stage.owner.patch(f"{room}/members/carol", {"muted_for": 60})
        elif rule in ("banned", "barred"):
            await stage.owner.put(f"{room}/bans/carol", {})
        else:
            await stage.owner.patch(room, {"posting": "admins"} if rule == "closed" else {"slow_mode_seconds": 60})
        return stage

    await compare(RULES, rule, set_up)


def test_the_tables_are_lined_up() -> None:
    for text in (BY_CREDENTIAL, BY_STANDING, BY_RULE):
        header, *lines = text.strip("\n").splitlines()
        starts = [match.start() for match in re.finditer(r"\S+", header)]
        for line in lines:
            found = [match.start() for match in re.finditer(r"\S+", line)]
            assert found[-len(starts) :] == starts, line
