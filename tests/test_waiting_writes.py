"""Writes that wait in the writer's queue while something is committed that forbids them: each is judged again in its
own turn, whatever it writes, and stores nothing when it is refused."""

from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import WSMsgType
from conftest import StartServer, mark_slow
from driver import HandClock, Server, Socket, User

from chatapi import housekeeping
from chatapi.banned_users import USER_BANNED
from chatapi.errors import HTTP_STATUS, Code
from chatapi.protocol.frames import CLIENT_FRAMES
from chatapi.rest import ROUTES
from chatapi.store import Transaction

# `…` stands for `/rooms/{room_id}`. The caller is a member or an admin of a group, or somebody who reads a channel.
# What comes before the write: the caller is `suspended` from the tenant, `banned` from the room, `removed` from it, or
# `muted` there; it is `closed` to all but admins; admins are `demoted`; the room is `deleted`. A cell is the status,
# for a frame that of the error's code.
TABLE = """
                                                           suspended banned removed muted closed demoted deleted
POST   …/messages                                   member 403       403    403     403   403    201     404
PUT    …/messages/{edited}                          member 403       403    403     403   403    200     404
DELETE …/messages/{deleted}                         member 403       403    403     204   204    204     404
POST   …/messages/{appended}/append                 member 403       403    403     403   403    200     404
POST   …/messages/{finished}/finish                 member 403       403    403     403   403    200     404
POST   …/messages/{cancelled}/cancel                member 403       403    403     403   403    202     404
PUT    …/messages/{message_id}/reactions/{new}      member 403       403    403     403   200    200     404
DELETE …/messages/{message_id}/reactions/{old}      member 403       403    403     204   204    204     404
POST   …/messages/{message_id}/report               member 403       403    403     202   202    202     404
POST   …/read                                       member 403       403    403     200   200    200     404
POST   /acks                                        member 403       403    403     200   200    200     404
PATCH  …/me                                         member 403       403    403     200   200    200     404
POST   /rooms                                       member 403       201    201     201   201    201     201
POST   /subscriptions                               member 403       201    201     201   201    201     201
DELETE /subscriptions/{subscription_id}             member 403       204    204     204   204    204     204
POST   /notifications/{notification_id}/ack         member 403       200    200     200   200    200     200
PUT    /users/{caller}                              member 403       200    200     200   200    200     200
PUT    /blocks/{user_id}                            member 403       200    200     200   200    200     200
DELETE /blocks/{blocked}                            member 403       204    204     204   204    204     204
FRAME  send_message                                 member 403       403    403     403   403    ok      404
FRAME  message.edit                                 member 403       403    403     403   403    ok      404
FRAME  message.delete                               member 403       403    403     ok    ok     ok      404
FRAME  message.append                               member 403       403    403     403   403    ok      404
FRAME  message.finish                               member 403       403    403     403   403    ok      404
FRAME  message.cancel                               member 403       403    403     403   403    ok      404
FRAME  reaction.add                                 member 403       403    403     403   ok     ok      404
FRAME  reaction.remove                              member 403       403    403     ok    ok     ok      404
FRAME  ack                                          member 403       403    403     ok    ok     ok      404
FRAME  read                                         member 403       403    403     ok    ok     ok      404
FRAME  notification.ack                             member 403       ok     ok      ok    ok     ok      ok
POST   …/messages/{message_id}/report               reader 403       403    202     202   202    202     404
POST   …/members                                    reader 403       403    201     201   201    201     404
PUT    …/pins/{message_id}                          admin  403       403    403     403   200    403     404
DELETE …/pins/{pinned}                              admin  403       403    403     403   204    403     404
PATCH  …                                            admin  403       403    403     200   200    403     404
POST   …/members                                    admin  403       403    403     201   201    403     404
PATCH  …/members/{user_id}                          admin  403       403    403     200   200    403     404
PUT    …/bans/{user_id}                             admin  403       403    403     200   200    403     404
DELETE …/bans/{unbanned}                            admin  403       403    403     204   204    403     404
DELETE …/members/{leaves}                           admin  403       403    403     204   204    403     404
DELETE …/members/{caller}                           member 403       403    403     204   204    204     404
DELETE …                                            admin  403       403    403     204   204    403     404
"""
END_SECONDS = 60  # of bans and mutes
CALLERS = {"member": "carol", "admin": "dora", "reader": "eve"}
SILENT_ROUTES = ("POST /tokens", "POST /ws/token", "POST /sync")  # which store nothing
PIPES = ("POST /rooms/{room_id}/messages/stream", "PUT /rooms/{room_id}/messages/stream")
"""They write several times: tests/test_piping.py has their cases."""
KEY_ROUTES = (  # on which the user id only names who acted
    "POST /notify",
    "PUT /users/{user_id}/ban",
    "DELETE /users/{user_id}/ban",
    "DELETE /users/{user_id}",
    "POST /reports/{report_id}/resolve",
)
SILENT_FRAMES = ("typing.start", "typing.stop", "subscribe", "unsubscribe", "sync", "ping")
BODIES = {
    "POST …/messages": {"content": "late"},
    "PUT …/messages/{edited}": {"content": "late"},
    "POST …/messages/{appended}/append": {"index": 1, "text": "late"},
    "POST …/messages/{finished}/finish": {"state": "done"},
    "POST …/messages/{message_id}/report": {"reason": "late"},
    "POST …/read": {"seq": 2},
    "POST /acks": {"room_id": "{room_id}", "seq": 1},
    "PATCH …/me": {"notify": "none"},
    "POST /rooms": {"type": "group"},
    "POST /subscriptions": {"topic": "late"},
    "PUT /users/{caller}": {"name": "late"},
    "PATCH …": {"name": "late"},
    "POST …/members": {"user_id": "{joins}"},
    "PATCH …/members/{user_id}": {"role": "admin"},
    "PUT …/bans/{user_id}": {},
}


@dataclass(frozen=True)
class Row:
    kind: str
    target: str
    caller: str
    cells: dict[str, str]

    @property
    def name(self) -> str:
        return f"{self.kind} {self.target}"


def read_table() -> list[Row]:
    header, *lines = TABLE.strip("\n").splitlines()
    columns = header.split()
    rows = []
    for line in lines:
        kind, target, caller, *cells = line.split()
        rows.append(Row(kind, target, caller, dict(zip(columns, cells, strict=True))))
    return rows


ROWS = read_table()


def test_every_route_and_frame_that_writes_has_a_row() -> None:
    def shape(name: str) -> str:
        """The route with all parameters alike."""
        parts = name.replace("…", "/rooms/{room_id}").split("/")
        return "/".join("{}" if part.startswith("{") else part for part in parts)

    routes = {f"{route.method} {route.path}" for route in ROUTES if route.method != "GET"}
    assert {*SILENT_ROUTES, *KEY_ROUTES, *PIPES} < routes
    writing = {name for name in routes if " /admin/" not in name} - {*SILENT_ROUTES, *KEY_ROUTES, *PIPES}
    assert {shape(row.name) for row in ROWS if row.kind != "FRAME"} == {shape(name) for name in writing}
    assert {row.target for row in ROWS if row.kind == "FRAME"} == set(CLIENT_FRAMES) - set(SILENT_FRAMES)


class Stage:
    """A group with its admins alice and dora, and with bob, carol and frank; a channel that eve reads."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.alice = server.user("alice")
        self.sockets: dict[str, Socket] = {}

    async def set_up(self) -> "Stage":
        alice, carol = self.alice, self.server.user("carol")
        self.group = await alice.make_room("bob", "carol", "dora", "frank")
        self.channel = await alice.make_room(room_type="channel")
        await alice.patch(f"/rooms/{self.group}/members/dora", {"role": "admin"})
        await alice.put(f"/rooms/{self.group}/bans/gina", {})
        self.in_channel = (await alice.say(self.channel))["message_id"]
        names = ("message_id", "pinned", "edited", "deleted", "edited_by_frame", "deleted_by_frame")
        self.ids = {name: (await carol.say(self.group))["message_id"] for name in names}
        streams = ("appended", "finished", "cancelled", "appended_by_frame", "finished_by_frame", "cancelled_by_frame")
        for name in streams:
            self.ids[name] = (await carol.say(self.group, "", stream=True))["message_id"]
        await alice.request("PUT", f"/rooms/{self.group}/pins/{self.ids['pinned']}")
        for emoji in ("old", "older"):
            await carol.request("PUT", f"/rooms/{self.group}/messages/{self.ids['message_id']}/reactions/{emoji}")
        await carol.request("PUT", "/blocks/gina")
        subscription = await carol.post("/subscriptions", {"topic": "news"})
        self.ids["subscription_id"] = subscription.data["subscription_id"]
        to_carol = {"topic": "x", "payload": 1, "targets": {"user_ids": ["carol"]}}
        for name in ("notification_id", "notification_by_frame"):
            self.ids[name] = (await alice.post("/notify", to_carol)).data["notification_id"]
        for row in ROWS:
            if row.kind == "FRAME":  # a connection waits for most answers before it takes the next frame
                self.sockets[row.target] = await carol.connect()
        return self

    def fill(self, text: str, row: Row) -> str:
        is_reader = row.caller == "reader"
        values = {
            **self.ids,
            "room_id": self.channel if is_reader else self.group,
            "message_id": self.in_channel if is_reader else self.ids["message_id"],
            "caller": CALLERS[row.caller],
            "joins": "eve" if is_reader else "hugo",
            "user_id": "bob",
            "leaves": "frank",
            "unbanned": "gina",
            "blocked": "gina",
            "new": "new",
            "old": "old",
        }
        return text.replace("…", "/rooms/{room_id}").format(**values)

    async def forbid(self, column: str) -> list[Any]:
        """The requests that forbid what the table says."""
        backend, alice = self.server.user("backend"), self.alice
        group, channel = f"/rooms/{self.group}", f"/rooms/{self.channel}"
        ban, mute = {"expires_in": END_SECONDS}, {"muted_for": END_SECONDS}
        if column == "suspended":
            return [backend.put(f"/users/{user_id}/ban", ban) for user_id in CALLERS.values()]
        if column == "banned":
            return [
                *(alice.put(f"{group}/bans/{user_id}", ban) for user_id in ("carol", "dora")),
                alice.put(f"{channel}/bans/eve", ban),
            ]
        if column == "removed":
            return [alice.delete(f"{group}/members/{user_id}") for user_id in ("carol", "dora")]
        if column == "muted":
            return [alice.patch(f"{group}/members/{user_id}", mute) for user_id in ("carol", "dora")]
        if column == "demoted":
            return [alice.patch(f"{group}/members/dora", {"role": "member"})]
        if column == "deleted":
            return [alice.delete(group), alice.delete(channel)]
        return [alice.patch(group, {"posting": "admins"})]

    async def call(self, row: Row) -> str:
        if row.kind == "FRAME":
            return await self.send(row.target)
        body = BODIES.get(row.name)
        if body is not None:
            body = {name: self.fill(value, row) if isinstance(value, str) else value for name, value in body.items()}
        caller = User(self.server, self.server.api_key, CALLERS[row.caller])
        return str((await caller.request(row.kind, self.fill(row.target, row), body)).status)

    async def send(self, frame_type: str) -> str:
        fields: dict[str, dict[str, object]] = {
            "send_message": {"content": "late"},
            "message.edit": {"message_id": self.ids["edited_by_frame"], "content": "late"},
            "message.delete": {"message_id": self.ids["deleted_by_frame"]},
            "message.append": {"message_id": self.ids["appended_by_frame"], "index": 1, "text": "late"},
            "message.finish": {"message_id": self.ids["finished_by_frame"], "state": "done"},
            "message.cancel": {"message_id": self.ids["cancelled_by_frame"]},
            "reaction.add": {"message_id": self.ids["message_id"], "emoji": "newer"},
            "reaction.remove": {"message_id": self.ids["message_id"], "emoji": "older"},
            "ack": {"seq": 3},
            "read": {"seq": 4},
        }
        socket = self.sockets[frame_type]
        if frame_type == "notification.ack":  # it is answered only if it is refused
            await socket.send(frame_type, notification_id=self.ids["notification_by_frame"], request_id="asked")
            await socket.send("ping", request_id="asked")
        else:
            await socket.send(frame_type, room_id=self.group, request_id="asked", **fields[frame_type])
        while (message := await socket.websocket.receive()).type is WSMsgType.TEXT:
            frame = message.json()
            if frame.get("request_id") == "asked":
                return str(HTTP_STATUS[Code(frame["code"])]) if frame["type"] == "error" else "ok"
        assert socket.websocket.close_code == USER_BANNED
        return "403"

    async def pass_time(self, clock: HandClock) -> None:
        """The writer's turn takes as long as bans and mutes last."""

        async def wait(_transaction: Transaction) -> None:
            clock.set_forward(END_SECONDS)

        await self.server.services.store.writer.change(wait)

    async def look(self) -> dict[str, list[Any]]:
        """Every row of the database, in the writer's own turn."""

        async def read(transaction: Transaction) -> dict[str, list[Any]]:
            tables = await transaction.fetch("SELECT name FROM sqlite_master WHERE type = 'table'", {})
            names = [name for (name,) in tables if "search" not in name]
            return {name: list(await transaction.fetch(f"SELECT * FROM {name}", {})) for name in names}

        return await self.server.services.store.writer.change(read)


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """No job writes beside the requests."""
    monkeypatch.setattr(housekeeping, "list_jobs", lambda _services: [])


@pytest.mark.parametrize("column", mark_slow(ROWS[0].cells, but={"removed", "muted"}))
async def test_a_write_that_waits_is_judged_in_its_own_turn(start_server: StartServer, column: str) -> None:
    server = await start_server({"limits.connections_per_user": 20})
    stage = await Stage(server).set_up()
    rows = [row for row in ROWS if row.target != "message.append"]
    refused = [row for row in rows if row.cells[column] in ("403", "404")]
    rest = [row for row in rows if row not in refused]
    before = await stage.forbid(column)
    outcomes: list[Any] = await server.together(
        *before, stage.look(), *map(stage.call, refused), stage.look(), *map(stage.call, rest)
    )
    forbidden, (first, *refusals), (second, *others) = (
        outcomes[: len(before)],
        outcomes[len(before) : len(before) + 1 + len(refused)],
        outcomes[len(before) + 1 + len(refused) :],
    )
    assert all(reply.status in (200, 204) for reply in forbidden)
    found = {(row.name, row.caller): cell for row, cell in zip([*refused, *rest], [*refusals, *others], strict=True)}
    assert found == {(row.name, row.caller): row.cells[column] for row in rows}
    assert {name for name in first if first[name] != second[name]} == set()


@pytest.mark.parametrize("column", mark_slow(["suspended", "banned", "muted"], but={"muted"}))
async def test_a_rule_that_ends_during_a_turn_holds_to_its_end(start_server: StartServer, column: str) -> None:
    """All that a turn stores has the time at which it began."""
    clock = HandClock()
    stage = await Stage(await start_server({"limits.connections_per_user": 20}, clock=clock)).set_up()
    parts = ("/messages", "/pins", "/read", "/acks")  # most others end their turn: they are barriers
    rows = [
        row
        for row in ROWS
        if row.cells[column] == "403"
        and row.target != "message.append"  # appends that wait share a commit
        and (row.kind == "FRAME" or any(part in row.target for part in parts))
    ]
    before = await stage.forbid(column)
    ack = stage.server.user("carol").post("/acks", {"rooms": {stage.group: 3}})
    outcomes: list[Any] = await stage.server.together(
        *before, stage.pass_time(clock), stage.look(), *map(stage.call, rows), stage.look(), ack
    )
    first, *found, last, acked = outcomes[len(before) + 1 :]
    assert found == ["403"] * len(rows)
    assert first == last
    assert stage.group in acked.data["rooms" if column == "muted" else "errors"]


@pytest.mark.parametrize("column", ["muted", "demoted", "deleted"])
async def test_an_append_over_a_websocket_is_judged_when_it_is_committed(
    start_server: StartServer, column: str
) -> None:
    """Appends that wait share a commit, so that it does not wait beside that over REST."""
    server = await start_server({"limits.connections_per_user": 20})
    stage = await Stage(server).set_up()
    [row] = [row for row in ROWS if row.target == "message.append"]
    *_, outcome = await server.together(*await stage.forbid(column), stage.call(row))
    assert outcome == row.cells[column]
