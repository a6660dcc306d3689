"""The envelope of every answer, and the bounds that hold for every request."""

import asyncio
import json
import logging
import sqlite3

import pytest
from driver import Reply, Server, eventually
from raw_websocket import WAIT_SECONDS

from chatapi.rest import ROUTES
from chatapi.rest.call import Media
from chatapi.rest.edge import MAX_BODY_BYTES

HEAD = "HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n"


def check_error(reply: Reply, status: int, code: str, field: str | None = None) -> None:
    assert reply.status == status
    assert set(reply.body) == {"success", "data", "error"}
    assert (reply.body["success"], reply.body["data"]) == (False, None)
    error = dict(reply.body["error"])
    assert error.pop("code") == code
    assert isinstance(error.pop("message"), str)
    assert error.pop("field", None) == field
    assert not error
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    assert reply.headers["X-Request-Id"]


def parse(answer: bytes) -> Reply:
    head, _, body = answer.partition(b"\r\n\r\n")
    _version, status, *_ = head.split(b" ")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    return Reply(int(status), headers, json.loads(body) if body else None)


async def test_success(shared_server: Server) -> None:
    reply = await shared_server.user("alice").get("/rooms")
    assert reply.body == {"success": True, "data": {"rooms": [], "has_more": False}, "error": None}
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"


async def test_no_content_is_empty(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    reply = await alice.delete(f"/rooms/{await alice.make_room()}")
    assert (reply.status, reply.body) == (204, None)
    assert "Content-Type" not in reply.headers
    assert reply.headers["X-Request-Id"]


# Routes


@pytest.mark.parametrize("path", ["/nowhere", "/rooms/", "/v2/rooms", "/v1", "/v1/v1/rooms", "/V1/rooms", "//rooms"])
async def test_unknown_routes(shared_server: Server, path: str) -> None:
    for method in ("GET", "POST", "PROPFIND"):
        reply = parse(await shared_server.exchange(f"{method} {path} {HEAD}\r\n".encode()))
        check_error(reply, 404, "NOT_FOUND")
        assert not [name for name in reply.headers if name.startswith("X-RateLimit")]


async def test_bytes_that_are_no_text_name_nothing(shared_server: Server) -> None:
    credentials = f"X-API-Key: {shared_server.api_key}\r\nX-User-Id: alice\r\n"
    answer = await shared_server.exchange(b"GET /rooms/\xff " + f"{HEAD}{credentials}\r\n".encode())
    assert parse(answer).status in (400, 404)
    check_error(
        parse(await shared_server.exchange(f"GET /rooms/%FF {HEAD}{credentials}\r\n".encode())), 404, "NOT_FOUND"
    )


async def test_every_route_refuses_other_methods_and_names_its_own(shared_server: Server) -> None:
    by_path: dict[str, set[str]] = {"/ws": {"GET", "HEAD"}}
    for route in ROUTES:
        by_path.setdefault(route.path, set()).update(
            {route.method, "HEAD"} if route.method == "GET" else {route.method}
        )
    for path, methods in by_path.items():
        for prefix in ("", "/v1"):
            for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - methods:
                reply = await shared_server.request(method, prefix + path.replace("{", "").replace("}", ""))
                check_error(reply, 405, "NOT_FOUND")
                assert set(reply.headers["Allow"].split(", ")) == methods, path


async def test_v1_is_the_same_as_no_prefix(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room_id = (await alice.post("/v1/rooms", {"type": "group"})).data["room_id"]
    assert (await alice.get(f"/v1/rooms/{room_id}")).data == (await alice.get(f"/rooms/{room_id}")).data
    for route in ROUTES:
        if route.method == "GET" and route.media not in (Media.EVENTS, Media.LINES):
            path = route.path.replace("{", "").replace("}", "")
            with_prefix, without = await alice.get(f"/v1{path}"), await alice.get(path)
            assert with_prefix.status == without.status, path


# Request ids


async def test_a_sane_request_id_is_kept(shared_server: Server) -> None:
    for request_id in ("a", "Az09._-", "x" * 128):
        for path in ("/livez", "/rooms", "/nowhere"):
            reply = await shared_server.request("GET", path, headers={"X-Request-Id": request_id})
            assert reply.headers["X-Request-Id"] == request_id


async def test_any_other_is_replaced(shared_server: Server) -> None:
    seen = set()
    for request_id in (None, "", "a b", "x" * 129, "ü", "a/b", '"'):
        headers = {} if request_id is None else {"X-Request-Id": request_id}
        seen.add((await shared_server.request("GET", "/livez", headers=headers)).headers["X-Request-Id"])
    assert len(seen) == 7
    assert not seen & {"", "a b", "x" * 129, "ü", "a/b", '"'}


# Bodies


async def send(server: Server, body: bytes, path: str = "/rooms", **headers: str) -> Reply:
    given = {**server.user("alice").headers, "Content-Type": "application/json", **headers}
    return await server.request("POST", path, body, headers={name: value for name, value in given.items() if value})


def padded(size_bytes: int) -> bytes:
    return b'{"type":"group","ignored":"' + b"x" * (size_bytes - 29) + b'"}'


async def test_a_body_may_have_256_kib(shared_server: Server) -> None:
    assert len(padded(MAX_BODY_BYTES)) == MAX_BODY_BYTES == 256 * 1024
    assert (await send(shared_server, padded(MAX_BODY_BYTES))).status == 201
    check_error(await send(shared_server, padded(MAX_BODY_BYTES + 1)), 413, "VALIDATION_ERROR")
    # The bound comes first.
    reply = await send(shared_server, b"\xff" * (MAX_BODY_BYTES + 1), **{"Content-Type": "text/plain"})
    check_error(reply, 413, "VALIDATION_ERROR")


async def test_the_bound_holds_for_a_body_of_unknown_length(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    headers = {**alice.headers, "Content-Type": "application/json"}

    async def post(size_bytes: int) -> Reply:
        async def chunks():
            body = padded(size_bytes)
            for start in range(0, len(body), 10_000):
                yield body[start : start + 10_000]

        async with shared_server.session.post(f"{shared_server.url}/rooms", data=chunks(), headers=headers) as answer:
            return Reply(answer.status, answer.headers, await answer.json())

    assert (await post(MAX_BODY_BYTES)).status == 201
    check_error(await post(MAX_BODY_BYTES + 1), 413, "VALIDATION_ERROR")


async def test_a_huge_body_is_refused_before_it_is_sent(shared_server: Server) -> None:
    head = f"POST /rooms {HEAD}X-API-Key: {shared_server.api_key}\r\nX-User-Id: a\r\nContent-Type: application/json\r\n"
    reader, writer = await shared_server.open()
    writer.write(f"{head}Content-Length: {MAX_BODY_BYTES + 1}\r\n\r\n".encode())
    check_error(parse(await reader.readuntil(b"}}")), 413, "VALIDATION_ERROR")
    writer.write(padded(MAX_BODY_BYTES + 1))
    assert await reader.read() == b""


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "Send the header Content-Type: application/json"),
        ({"Content-Type": "text/plain"}, "with the header Content-Type: application/json, not text/plain"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, "without Content-Encoding"),
        ({"Content-Encoding": "identity"}, "without Content-Encoding"),
    ],
)
async def test_refused_content_type_names_the_accepted_one(
    shared_server: Server, headers: dict[str, str], message: str
) -> None:
    credential = "".join(
        f"{name}: {value}\r\n" for name, value in {**shared_server.user("alice").headers, **headers}.items()
    )
    request = f"POST /rooms HTTP/1.0\r\n{credential}Content-Length: 2\r\n\r\n{{}}"
    answer = await shared_server.exchange(request.encode())
    assert answer.split()[1] == b"415"
    assert message.encode() in answer


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": ""},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/jsonx"},
        {"Content-Type": "application/merge-patch+json"},
        {"Content-Type": "nonsense"},
        {"Content-Encoding": "gzip"},
        {"Content-Encoding": "identity"},
    ],
)
async def test_other_types_and_encodings_are_415(shared_server: Server, headers: dict[str, str]) -> None:
    skip = ["Content-Type"] if headers.get("Content-Type") == "" else []
    reply = await shared_server.request(
        "POST",
        "/rooms",
        headers={
            **shared_server.user("alice").headers,
            **({} if skip else {"Content-Type": "application/json"}),
            **{name: value for name, value in headers.items() if value},
        },
        data=b'{"type":"group"}',
        skip_auto_headers=skip,
    )
    check_error(reply, 415, "VALIDATION_ERROR")


async def test_a_compressed_body_is_not_unpacked(shared_server: Server) -> None:
    bomb = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + b"\x00" * 100
    check_error(await send(shared_server, bomb, **{"Content-Encoding": "gzip"}), 415, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;x=y"]
)
async def test_json_by_any_spelling_is_taken(shared_server: Server, content_type: str) -> None:
    assert (await send(shared_server, b'{"type":"group"}', **{"Content-Type": content_type})).status == 201


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{'type': 'group'}",
        b'{"type":"group",}',
        b'{"type":"group"} x',
        b'{"type":"group"}{}',
        b'{"type":NaN}',
        b'{"type":"group","x":1e999}',
        b'{"type":"group","x":' + b"9" * 400 + b"}",
        b'{"type":"group","x":01}',
        b'{"type":"group","x":"\xff"}',
        b'{"type":"group","x":"\xc3"}',
        b'{"type":"group","x":"\xed\xa0\x80"}',
        b'{"type":"group","x":"\\ud800","y":NaN}',
        b'{"type":"group","x":"\\ud83d\\ude00","y":NaN}',
        b'{"type":"group","x":"\x00"}',
        b'{"type":"group","x":"\n"}',
        b"\xef\xbb\xbf{}",
        '{"type":"group"}'.encode("utf-16"),
        b"[" * 100_000,
        b"null",
        b"[]",
        b'"text"',
        b"7",
    ],
)
async def test_body_that_is_no_json_object_is_refused(shared_server: Server, body: bytes) -> None:
    check_error(await send(shared_server, body), 400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"type":"group","x":9007199254740992}', "x"),
        (b'{"type":"group","x":-9007199254740992}', "x"),
        (b'{"type":"group","x":18446744073709551616}', "x"),
        (b'{"type":"group","x":[1,{"y":9007199254740992}]}', "x[1].y"),
        (b'{"type":"group","metadata":{"k":9007199254740992}}', "metadata.k"),
        (b'{"type":"group","x":"a\\u0000b"}', "x"),
        (b'{"type":"group","x":["\\u0000"]}', "x[0]"),
        (b'{"type":"group","name":"\\u0000"}', "name"),
        (b'{"type":"group","metadata":{"a\\u0000b":1}}', "metadata"),
        (b'{"type":"group","x":"\\ud800"}', "x"),
        (b'{"type":"group","name":"a\\uDC00b"}', "name"),
        (b'{"type":"group","name":"\\ude00\\ud83d"}', "name"),
        (b'{"type":"group","metadata":{"k":["\\ud83d\\ude00","\\ud83d"]}}', "metadata.k[1]"),
        (b'{"type":"group","metadata":{"\\ud800":1}}', "metadata"),
        (b'{"\\ud800":1}', None),
    ],
)
async def test_big_integers_and_bad_text_are_refused_in_ignored_fields_too(
    shared_server: Server, body: bytes, field: str | None
) -> None:
    check_error(await send(shared_server, body), 400, "VALIDATION_ERROR", field)


async def test_only_integers_are_bounded_not_other_numbers(shared_server: Server) -> None:
    for metadata in (b'{"a":1.5e300}', b'{"a":1e17,"b":"1234567890123456"}', b'{"a":1e17,"b":12345678901234567890.5}'):
        assert (await send(shared_server, b'{"type":"group","metadata":' + metadata + b"}")).status == 201
    body = b'{"type":"group","x":1e17,"y":123456789012345678901234}'
    assert (await send(shared_server, body)).status == 400


async def test_json_within_the_bounds_is_kept_exactly(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    metadata = {
        "max": 2**53 - 1,
        "min": -(2**53) + 1,
        "digits": "12345678901234567890",
        "fraction": 0.12345678901234567,
        "large": 1.5e300,
        "escaped": "\\u0000",
        "low": "\x01",
        "pair": "😀",
    }
    room = (await alice.post("/rooms", {"type": "group", "metadata": metadata})).data
    assert room["metadata"] == metadata
    assert (await alice.get("/rooms")).data["rooms"][0]["metadata"] == metadata


def nested(depth: int, opening: bytes = b'{"a":', closing: bytes = b"}") -> bytes:
    """A body of this depth: itself is 1."""
    inner = opening * (depth - 1) + b"1" + closing * (depth - 1)
    return b'{"type":"group","x":' + inner + b"}"


async def test_json_nests_32_deep_at_most(shared_server: Server) -> None:
    for opening, closing in ((b'{"a":', b"}"), (b"[", b"]")):
        assert (await send(shared_server, nested(32, opening, closing))).status == 201
        check_error(await send(shared_server, nested(33, opening, closing)), 400, "VALIDATION_ERROR")
        check_error(await send(shared_server, nested(5000, opening, closing)), 400, "VALIDATION_ERROR")
    flat = b'{"type":"group","x":[' + b",".join([b"[]"] * 1000) + b"]}"
    assert (await send(shared_server, flat)).status == 201


async def test_unknown_fields_are_ignored_and_the_last_of_a_name_counts(shared_server: Server) -> None:
    reply = await send(shared_server, b'{"type":"party","type":"group","name":"a","unknown":[1],"limit":"x"}')
    assert (reply.status, reply.data["type"]) == (201, "group")
    assert (await shared_server.user("alice").get("/rooms", unknown="x")).status == 200


async def test_a_route_without_a_body_takes_any(shared_server: Server) -> None:
    reply = await shared_server.request("POST", "/ws/token", b"anything", headers=shared_server.user("alice").headers)
    assert reply.status == 200


# What is not even HTTP


@pytest.mark.parametrize(
    "request_text",
    [
        "nonsense\r\n\r\n",
        "GET /rooms HTTP/9.9\r\n\r\n",
        "GET /rooms HTTP/1.1\r\nbad header\r\n\r\n",
        "GET /rooms HTTP/1.1\r\nHost: a\r\nX-API-Key : sk_secret\r\n\r\n",
        "GET /rooms HTTP/1.1\r\nHost: a\r\nX: " + "x" * 20_000 + "\r\n\r\n",
        "GET /" + "x" * 20_000 + " HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /rooms HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        "POST /rooms HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_malformed_http_gets_the_envelope_too(shared_server: Server, request_text: str) -> None:
    answer = await shared_server.exchange(request_text.encode())
    check_error(parse(answer), 400, "VALIDATION_ERROR")
    assert b"sk_secret" not in answer


async def test_the_answer_to_a_head_that_is_far_too_long_is_not_lost(shared_server: Server) -> None:
    reader, writer = await shared_server.open()
    writer.write(
        b"GET /livez HTTP/1.1\r\n" + b"".join(b"H%d: %s\r\n" % (number, b"v" * 500) for number in range(8_000))
    )
    assert (await reader.read()).startswith(b"HTTP/1.0 400 Bad Request\r\n")
    writer.close()
    await writer.wait_closed()


async def test_a_malformed_body_gets_the_envelope_too(shared_server: Server) -> None:
    head = f"POST /rooms {HEAD}X-API-Key: {shared_server.api_key}\r\nX-User-Id: a\r\nContent-Type: application/json\r\n"
    answer = await shared_server.exchange(f"{head}Transfer-Encoding: chunked\r\n\r\nnot a chunk\r\n".encode())
    check_error(parse(answer), 400, "VALIDATION_ERROR")


async def test_a_client_that_leaves_in_its_body_harms_nobody(shared_server: Server) -> None:
    head = f"POST /rooms {HEAD}X-API-Key: {shared_server.api_key}\r\nX-User-Id: a\r\nContent-Type: application/json\r\n"
    _reader, writer = await shared_server.open()
    writer.write(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
    await writer.drain()
    writer.transport.abort()
    assert (await shared_server.user("a").get("/rooms")).data["rooms"] == []


async def test_a_body_whose_chunks_are_broken_is_refused_at_once(shared_server: Server) -> None:
    head = f"POST /rooms {HEAD}X-API-Key: {shared_server.api_key}\r\nX-User-Id: a\r\nContent-Type: application/json\r\n"
    chunked = f"{head}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n".encode()
    for together in (True, False):
        reader, writer = await shared_server.open()
        writer.write(chunked)
        if not together:
            await writer.drain()
            await shared_server.user("a").get("/rooms")  # it waits for the rest meanwhile
        writer.write(b"no length\r\n")
        check_error(parse(await reader.readuntil(b"}}")), 400, "VALIDATION_ERROR")
        assert await reader.read() == b""


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_body_that_breaks_after_its_answer_is_not_waited_for(server: Server, leaves: bool) -> None:
    """aiohttp waits 10 s for the rest of a body that was answered, and so did a stop of the server."""
    reader, writer = await server.open()
    writer.write(f"POST /nowhere {HEAD}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n".encode())
    check_error(parse(await reader.readuntil(b"}}")), 404, "NOT_FOUND")
    writer.write(b"no length\r\n")
    if leaves:
        writer.transport.abort()
    async with asyncio.timeout(5):
        await eventually(lambda: not server.app.server.connections)


async def test_a_body_that_does_not_come_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatapi.rest.edge.BODY_SECONDS", 0.05)
    head = f"POST /rooms {HEAD}X-API-Key: {server.api_key}\r\nX-User-Id: a\r\nContent-Type: application/json\r\n"
    reader, writer = await server.open()
    writer.write(f"{head}Content-Length: 5\r\n\r\n{{".encode())
    check_error(parse(await reader.readuntil(b"}}")), 408, "VALIDATION_ERROR")
    writer.write(b"    ")
    assert await reader.read() == b""


async def test_requests_in_one_packet_are_answered_in_order(shared_server: Server) -> None:
    first = "GET /livez HTTP/1.1\r\nHost: a\r\nX-Request-Id: first\r\n\r\n"
    last = "GET /nowhere HTTP/1.1\r\nHost: a\r\nX-Request-Id: last\r\nConnection: close\r\n\r\n"
    answer = (await shared_server.exchange((first + last).encode())).decode()
    assert answer.index("X-Request-Id: first") < answer.index("X-Request-Id: last")


# What goes wrong on our side


async def test_a_bug_is_a_500_that_tells_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def explode(*_: object) -> None:
        raise RuntimeError("SELECT secret FROM somewhere")

    alice = server.user("alice")
    socket = await alice.connect()
    monkeypatch.setattr(server.services.store.readers, "fetch", explode)
    reply = await alice.request("GET", "/rooms", headers={"X-Request-Id": "trace-me"})
    check_error(reply, 500, "INTERNAL_ERROR")
    assert "SELECT" not in json.dumps(reply.body)
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.request_id == "trace-me"
    assert record.exc_info is not None
    caplog.clear()
    await socket.send("subscribe", room_id="room_x", request_id="r-1")
    frame = await socket.expect("error", request_id="r-1", code="INTERNAL_ERROR")
    assert "SELECT" not in json.dumps(frame)
    monkeypatch.undo()
    await socket.send("ping")
    await socket.expect("pong")
    assert (await alice.get("/rooms")).status == 200
    caplog.clear()


async def test_a_bug_in_a_write_is_a_500_and_leaves_no_trace_of_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def explode(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("no such table: secrets")

    alice = server.user("alice")
    room_id = await alice.make_room()
    with monkeypatch.context() as patch:
        patch.setattr("chatapi.store.log.append_change", explode)
        reply = await alice.patch(f"/rooms/{room_id}", {"name": "x"})
    check_error(reply, 500, "INTERNAL_ERROR")
    assert "secrets" not in json.dumps(reply.body)
    assert "write failed" in caplog.text
    room = (await alice.get(f"/rooms/{room_id}")).data
    assert (room["name"], room["last_seq"]) == (None, 0)
    assert (await alice.say(room_id))["seq"] == 1
    assert (await server.request("GET", "/readyz")).status == 200


async def refuse_writes(server: Server) -> None:
    """From here on the database is as read-only as on a disk that is mounted so."""
    await server.services.store.writer.change(lambda transaction: transaction.fetch("PRAGMA query_only = ON", {}))


async def accept_writes(server: Server) -> None:
    await server.services.store._connection.execute_fetchall("PRAGMA query_only = OFF")


async def test_a_read_only_database_is_503_for_writes_and_serves_reads(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    message = await alice.say(room_id, "kept")
    socket = await alice.connect()
    await refuse_writes(server)
    for reply in (
        await alice.post(f"/rooms/{room_id}/messages", {"content": "lost"}),
        await alice.post("/rooms", {"type": "group"}),
        await alice.patch(f"/rooms/{room_id}", {"name": "x"}),
        await alice.delete(f"/rooms/{room_id}/messages/{message['message_id']}"),
        await alice.post("/acks", {"room_id": room_id, "seq": 1}),
        await server.admin("POST", "/tenants", {"name": "x"}),
        await server.request("GET", "/readyz"),
    ):
        check_error(reply, 503, "INTERNAL_ERROR")
    await socket.send("send_message", room_id=room_id, content="lost", request_id="r-1")
    await socket.expect("error", request_id="r-1", code="INTERNAL_ERROR")
    await socket.send("ack", room_id=room_id, seq=1, request_id="r-2")
    await socket.expect("error", request_id="r-2", code="INTERNAL_ERROR")
    assert (await alice.get(f"/rooms/{room_id}/messages")).data["messages"] == [message]
    assert (await server.request("GET", "/livez")).status == 200
    await accept_writes(server)
    assert (await alice.say(room_id, "again"))["seq"] == 2  # what was refused took no seq
    assert (await server.request("GET", "/readyz")).status == 200
    await socket.expect("message", seq=2)


async def test_concurrent_writes_are_all_refused_alike(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    await refuse_writes(server)
    replies = await asyncio.gather(
        *(alice.post(f"/rooms/{room_id}/messages", {"content": "x", "client_message_id": f"{n}"}) for n in range(20))
    )
    assert {reply.status for reply in replies} == {503}
    await accept_writes(server)
    replies = await asyncio.gather(
        *(alice.post(f"/rooms/{room_id}/messages", {"content": "x", "client_message_id": f"{n}"}) for n in range(20))
    )
    assert sorted(reply.data["seq"] for reply in replies) == list(range(1, 21))


async def test_client_that_expects_100_continue_gets_it(shared_server: Server) -> None:
    reader, writer = await shared_server.open()
    body = b'{"type":"group"}'
    head = ["POST /rooms HTTP/1.1", "Host: chat", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    credential = [f"{name}: {value}" for name, value in shared_server.user("alice").headers.items()]
    writer.write("\r\n".join([*head, *credential, "Expect: 100-continue", "Connection: close", "", ""]).encode())
    async with asyncio.timeout(WAIT_SECONDS):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.read()).startswith(b"HTTP/1.1 201 Created")
    writer.close()
