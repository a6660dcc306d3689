"""What the log says, and what it never says."""

import contextlib
import io
import json
import logging
import math
from collections.abc import Iterator

import pytest
from conftest import StartServer
from driver import HandClock, Server

from chatapi.config import LogConfig
from chatapi.log_lines import set_up_logging


class Log:
    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    def use(self, log_format: str = "text", level: str = "debug") -> None:
        """What is logged goes here from now on."""
        with contextlib.redirect_stderr(self._stream):
            set_up_logging(LogConfig(level=level, format=log_format))

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


@pytest.fixture
def log() -> Iterator[Log]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    log = Log(io.StringIO())
    log.use()
    yield log
    root.handlers[:] = handlers
    root.setLevel(level)


async def explode(*_: object, **__: object) -> None:
    raise RuntimeError("a bug")


@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_no_key_token_or_content_is_in_any_line(
    start_server: StartServer, log: Log, monkeypatch: pytest.MonkeyPatch, log_format: str
) -> None:
    log.use(log_format)
    settings: dict[str, object] = {"log.requests": True, "auth.query_api_key": True}
    server = await start_server(settings, clock=HandClock())
    tenant = await server.make_tenant("own")
    alice = server.user("alice", tenant["api_key"])
    token = (await alice.post("/tokens")).data["token"]
    ticket = (await alice.post("/ws/token")).data["token"]
    room_id = await alice.make_room(name="SECRET-NAME", metadata={"k": "SECRET-METADATA"})
    await alice.say(room_id, "SECRET-CONTENT", meta={"k": "SECRET-META"}, client_message_id="c")
    await alice.post(f"/rooms/{room_id}/messages", {"content": "SECRET-OTHER", "client_message_id": "c"})
    await alice.request("POST", "/rooms", b'{"type": "SECRET-BODY')
    await server.exchange(b"GET / HTTP/1.1\r\nHost: a\r\nX-API-Key : SECRET-HEADER\r\n\r\n")
    for path in ("/ws", "/rooms"):
        await server.refused_handshake(path, headers={"X-API-Key": "SECRET-KEY", "X-User-Id": "alice"})
        await server.refused_handshake(path, headers={"Authorization": "Bearer SECRET-BEARER"})
    await server.refused_handshake(
        "/ws", params={"api_key": "SECRET-QUERY"}, headers={"Origin": "https://evil.example"}
    )
    await server.request("GET", "/rooms", params={"token": "SECRET-QUERY"})
    for socket in (
        await server.handshake(protocols=("chatapi.v1", "bearer.SECRET-PROTOCOL")),
        await server.handshake(protocols=("bearer.SECRET-PROTOCOL",)),
        await server.handshake(protocols=("chatapi.v1", f"bearer.{token}")),
        await server.handshake(token=ticket),
        await server.handshake(token="SECRET-QUERY"),
        await server.handshake(api_key=tenant["api_key"], user_id="alice"),
    ):
        await socket.next()
    socket = await alice.connect()
    await socket.websocket.send_str('{"type": "SECRET-FRAME"')
    await socket.send("send_message", room_id=room_id, content="SECRET-CONTENT", meta="SECRET-META")
    with monkeypatch.context() as patch:
        patch.setattr(server.services.store.readers, "fetch", explode)
        await alice.get("/rooms")
        await socket.send("send_message", room_id=room_id, content="SECRET-CONTENT", reply_to="msg_x", request_id="r")
        while (frame := await socket.next()).get("request_id") != "r":
            pass
        assert frame["code"] == "INTERNAL_ERROR"
        patch.setattr("chatapi.store.log.append_change", explode)
        await alice.patch(f"/rooms/{room_id}", {"name": "SECRET-OTHER-NAME"})
    await server.admin("POST", f"/tenants/{tenant['tenant_id']}/token-secret")
    text = log.text
    assert "request failed" in text
    assert "frame failed" in text
    assert "write failed" in text
    for secret in (
        "SECRET",
        tenant["api_key"],
        tenant["token_secret"],
        token,
        ticket,
        server.master_key,
        server.api_key,
    ):
        assert secret not in text, next(line for line in log.lines if secret in line)


async def test_a_failure_names_the_request_that_was_answered(
    server: Server, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = server.user("alice")
    socket = await alice.connect(ready=False)
    connection_id = (await socket.next())["connection_id"]
    monkeypatch.setattr(server.services.store.readers, "fetch", explode)
    reply = await alice.get("/rooms")
    assert reply.status == 500
    [line] = [line for line in log.lines if "request failed" in line]
    assert f"request_id={reply.headers['X-Request-Id']}" in line
    await socket.send("subscribe", room_id="room_x")
    await socket.expect("error")
    [line] = [line for line in log.lines if "frame failed" in line]
    assert f"connection_id={connection_id}" in line


async def test_each_request_has_a_line_where_that_is_switched_on(start_server: StartServer, log: Log) -> None:
    log.use("json")
    server = await start_server({"log.requests": True})
    alice = server.user("alice")
    await alice.request("GET", "/rooms?limit=7", headers={"X-Request-Id": "mine"})
    await alice.request("GET", "/nowhere", headers={"X-Request-Id": "other"})
    lines = {line["request_id"]: line for line in map(json.loads, log.lines) if "request_id" in line}
    assert (lines["mine"]["status"], lines["other"]["status"]) == (200, 404)
    assert "limit=7" not in log.text


async def test_nothing_is_said_of_a_request_otherwise(server: Server, log: Log) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    for _ in range(3):
        await alice.say(room_id)
    await alice.get("/nowhere")
    assert log.lines == []


async def test_a_path_cannot_forge_a_line(start_server: StartServer, log: Log) -> None:
    server = await start_server({"log.requests": True})
    await server.exchange(b"GET /%0Aforged%0D%20line HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert not [line for line in log.lines if line.startswith("forged")]


def test_a_line_of_text(log: Log) -> None:
    logging.getLogger("chatapi.x").warning("it happened", extra={"room_id": "r", "count": 3})
    [line] = log.lines
    assert line.endswith("Z warning it happened room_id=r count=3")


def test_a_line_of_json(log: Log) -> None:
    log.use("json")
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("chatapi.x").exception("it\nhappened", extra={"room_id": "r"})
    [text] = log.lines
    line = json.loads(text)
    assert line["time"].endswith("Z")
    assert (line["level"], line["logger"], line["event"], line["room_id"]) == (
        "error",
        "chatapi.x",
        "it\nhappened",
        "r",
    )
    assert line["traceback"].endswith("ValueError: why")


@pytest.mark.parametrize(("level", "expected"), [("debug", 5), ("info", 4), ("warning", 3), ("error", 2)])
def test_the_level_is_obeyed(log: Log, level: str, expected: int) -> None:
    log.use(level=level)
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logging.getLogger("chatapi.x").log(number, "line")
    assert len(log.lines) == expected


async def test_numbers_stay_numbers_in_json(log: Log) -> None:
    log.use("json")
    fields = {
        "whole": 7,
        "float": 1.5,
        "flag": True,
        "none": None,
        "text": "7",
        "huge": 2**60,
        "nan": math.nan,
        "list": [1],
    }
    logging.getLogger("chatapi").info("event", extra=fields)
    line = json.loads(log.lines[-1])
    shown = {name: line[name] for name in fields}
    assert shown == {**fields, "huge": str(2**60), "nan": "nan", "list": "[1]"}
    assert shown["flag"] is True
