"""`/dev/faults`: what each fault does to requests, event streams and WebSockets, seen by clients that do not recover.
How the SDKs recover is in test_client_faults.py."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from driver import Reply, Server, StartServer, User, eventually
from raw_websocket import PING as PING_CODE
from raw_websocket import PONG, RawSocket

from chatapi.faults import Faults
from chatapi.protocol.encoders import encode_frame
from chatapi.protocol.fault_records import FaultSet
from chatapi.protocol.json import dumps
from chatapi.protocol.server_frames import MessageSentFrame
from chatapi.protocol.wire import PING, encode_text
from chatapi.rest.faulty import cut_at_confirmation

SOON_SECONDS = 0.05  # a fault of this length is felt, and over at once


@pytest.fixture
async def server(start_server: StartServer) -> Server:
    return await start_server(dev=True)


async def set_faults(server: Server, /, **faults: object) -> None:
    reply = await operate(server, "POST", faults)
    assert reply.status == 200, reply.body


async def operate(server: Server, method: str, body: object = None) -> Reply:
    return await server.request(method, "/dev/faults", body, headers={"X-Master-Key": server.master_key})


async def faults_on(server: Server) -> dict[str, Any]:
    return dict((await operate(server, "GET")).data)


async def alice_and_room(server: Server) -> tuple[User, str]:
    alice = server.user("alice")
    return alice, await alice.make_room("bob")


async def ends_abruptly(socket: RawSocket) -> None:
    """Without a close frame."""
    with pytest.raises((EOFError, ConnectionResetError)):
        await socket.read_to_close()


async def contents(user: User, room: str) -> list[str]:
    return [message["content"] for message in (await user.get(f"/rooms/{room}/messages")).data["messages"]]


async def test_drop_cuts_all_or_some_or_those_of_a_user(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    first, second = await alice.connect_raw(ready=True), await bob.connect_raw(ready=True)
    stream = await bob.stream()
    await set_faults(server, drop=True, user_id="alice")
    await ends_abruptly(first)
    assert (await faults_on(server))["dropped"] == 1
    second.send(PING_CODE)
    assert (await second.next())[0] == PONG
    await set_faults(server, drop=True)
    await ends_abruptly(second)
    assert (await stream.response.content.read()).find(b'"type":"close"') < 0
    await eventually(lambda: not server.services.hub.connections)

    many = [await alice.connect_raw(ready=True) for _ in range(4)]
    await set_faults(server, drop=0.5)
    await eventually(lambda: len(server.services.hub.connections) == 2)
    assert (await faults_on(server))["dropped"] == 2
    await set_faults(server, drop=0.01)  # at least one
    await eventually(lambda: len(server.services.hub.connections) == 1)
    for socket in many:
        socket.abort()


@pytest.mark.slow
async def test_cut_again_and_again_until_the_faults_end(server: Server) -> None:
    alice = server.user("alice")
    await set_faults(server, cut_every_seconds=0.1)
    for _ in range(2):
        await ends_abruptly(await alice.connect_raw())
    assert (await faults_on(server))["dropped"] >= 2
    for _ in range(5):  # over a connection that is idle when the others are cut
        await operate(server, "POST", {"cut_every_seconds": 0.1})
        await asyncio.sleep(0.1)
    await set_faults(server)
    socket = await alice.connect_raw(ready=True)
    await asyncio.sleep(0.15)
    socket.send(PING_CODE)
    assert (await socket.next())[0] == PONG


async def test_delay_keeps_the_order_of_frames_and_delays_answers(server: Server) -> None:
    alice, room = await alice_and_room(server)
    socket = await alice.connect_raw(ready=True)
    clock = asyncio.get_running_loop().time
    await set_faults(server, delay_ms=100, user_id="alice")
    begun = clock()
    for number in range(5):
        socket.send_frame("send_message", room_id=room, content=str(number))
    seqs = [(await socket.expect("message"))["seq"] for _ in range(5)]
    assert seqs == [1, 2, 3, 4, 5]
    assert clock() - begun >= 0.1
    begun = clock()
    await alice.get(f"/rooms/{room}")
    assert clock() - begun >= 0.1
    begun = clock()
    await server.user("bob").get(f"/rooms/{room}")
    assert clock() - begun < 0.1
    await set_faults(server, delay_ms=60_000)
    asked = asyncio.ensure_future(alice.get(f"/rooms/{room}"))
    await asyncio.sleep(SOON_SECONDS)
    assert not asked.done()
    await set_faults(server)  # what was held back goes on
    assert (await asked).status == 200


async def test_answers_keep_the_order_of_pipelined_requests(server: Server) -> None:
    _, room = await alice_and_room(server)
    await set_faults(server, delay_ms=60_000)
    credential = f"Host: chat\r\nX-API-Key: {server.api_key}\r\nX-User-Id: alice\r\n"
    first = f"GET /rooms/{room} HTTP/1.1\r\n{credential}\r\n"
    second = f"GET /livez HTTP/1.1\r\n{credential}Connection: close\r\n\r\n"
    answers = await server.exchange((first + second).encode())
    assert 0 < answers.find(room.encode()) < answers.find(b'"status"')


async def test_delayed_answer_is_given_before_its_connection_closes(server: Server) -> None:
    _, room = await alice_and_room(server)
    await set_faults(server, delay_ms=50)
    credential = f"X-API-Key: {server.api_key}\r\nX-User-Id: alice"
    answer = await server.exchange(
        f"GET /rooms/{room} HTTP/1.1\r\nHost: chat\r\n{credential}\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["success"] is True


@pytest.mark.parametrize(
    ("status", "code"), [(429, "RATE_LIMIT_EXCEEDED"), (503, "INTERNAL_ERROR"), (418, "VALIDATION_ERROR")]
)
async def test_error_refuses_requests_handshakes_and_frames(server: Server, status: int, code: str) -> None:
    alice, room = await alice_and_room(server)
    socket = await alice.connect_raw(ready=True)
    await set_faults(server, error={"status": status}, user_id="alice")
    reply = await alice.post(f"/rooms/{room}/messages", {"content": "x"})
    assert (reply.status, reply.error["code"]) == (status, code)
    assert reply.headers["X-Request-Id"]
    assert reply.headers.get("Retry-After") == ("1" if status == 429 else None)
    assert (await server.refused_handshake(headers=alice.headers)).status == status
    socket.send_frame("send_message", room_id=room, content="x", request_id="one")
    error = await socket.expect("error")
    assert (error["code"], error["request_id"]) == (code, "one")
    assert ("retry_after_ms" in error) is (status == 429)
    socket.send_frame("ping", request_id="two")  # a light frame
    assert (await socket.expect("pong"))["request_id"] == "two"
    assert await contents(server.user("bob"), room) == []


async def test_error_at_a_rate_hits_some(server: Server) -> None:
    alice, room = await alice_and_room(server)
    await set_faults(server, error={"status": 503, "rate": 0.5})
    seen = {(await alice.get(f"/rooms/{room}")).status for _ in range(64)}
    assert seen == {200, 503}  # but once in 2^63 runs


@pytest.mark.parametrize("status", [404, 502])
async def test_broken_proxy_answers_everything_with_a_page(server: Server, status: int) -> None:
    alice, room = await alice_and_room(server)
    socket = await alice.connect_raw(ready=True)
    await set_faults(server, error={"status": status, "html": True})
    preflight = {"Origin": "http://page.test", "Access-Control-Request-Method": "GET"}
    for reply in (
        await alice.get(f"/rooms/{room}"),
        await alice.get("/events/stream"),
        await alice.post("/sync", {}),
        await server.refused_handshake(headers=alice.headers),
        await server.request("OPTIONS", f"/rooms/{room}", headers=preflight),
    ):
        assert reply.status == status
        assert reply.headers["Content-Type"].startswith("text/html")
        assert "success" not in reply.body
        assert not [name for name in reply.headers if name.startswith(("X-", "Access-Control"))]
    socket.send_frame("send_message", room_id=room, content="open already", request_id="one")
    await socket.expect("message.sent")


async def test_lost_confirmation_is_of_a_stored_message(server: Server) -> None:
    alice, room = await alice_and_room(server)
    bob = server.user("bob")
    await set_faults(server, lose_confirmations=2, user_id="alice")
    assert (await bob.say(room, "of another"))["seq"] == 1
    socket = await alice.connect_raw(ready=True)
    socket.send_frame("ack", room_id=room, seq=1, request_id="ack")
    assert (await socket.expect("ack.received"))["request_id"] == "ack"
    socket.send_frame("send_message", room_id=room, content="over the socket", request_id="one")
    with pytest.raises((EOFError, ConnectionResetError)):
        await socket.expect("message.sent")
    await alice.post("/acks", {"room_id": room, "seq": 1})
    with pytest.raises(aiohttp.ClientError):
        await alice.request("POST", f"/rooms/{room}/messages", {"content": "over REST"})
    assert (await faults_on(server))["lose_confirmations"] == 0
    await alice.say(room, "confirmed")
    assert await contents(bob, room) == ["of another", "over the socket", "over REST", "confirmed"]


async def test_lost_are_edits_deletions_and_appends_too(server: Server) -> None:
    alice, room = await alice_and_room(server)
    first, second = await alice.say(room, "first"), await alice.say(room, "second")
    stream = await alice.say(room, "", stream=True)
    writes: list[tuple[str, dict[str, Any]]] = [
        ("message.edit", {"message_id": first["message_id"], "content": "edited"}),
        ("message.delete", {"message_id": second["message_id"]}),
        ("message.append", {"message_id": stream["message_id"], "index": 1, "text": "a"}),
        ("message.finish", {"message_id": stream["message_id"], "state": "done"}),
        ("reaction.add", {"message_id": first["message_id"], "emoji": "👍"}),
    ]
    await set_faults(server, lose_confirmations=len(writes))
    for frame_type, fields in writes:
        socket = await alice.connect_raw(ready=True)
        socket.send_frame(frame_type, room_id=room, request_id="lost", **fields)
        await ends_abruptly(socket)
    assert (await faults_on(server))["lose_confirmations"] == 0
    messages = (await alice.get(f"/rooms/{room}/messages")).data["messages"]
    assert [message["content"] for message in messages] == ["edited", None, "a"]
    assert messages[2]["stream"] == {"state": "done"}
    assert messages[0]["reactions"][0]["emoji"] == "👍"


async def test_lost_are_confirmations_of_frames_without_a_request_id(server: Server) -> None:
    alice, room = await alice_and_room(server)
    stream = await alice.say(room, "", stream=True)
    frames: list[tuple[str, dict[str, Any]]] = [
        ("send_message", {"content": "sent", "client_message_id": "one"}),
        ("message.append", {"message_id": stream["message_id"], "index": 1, "text": "a"}),
    ]
    await set_faults(server, lose_confirmations=len(frames))
    for frame_type, fields in frames:
        socket = await alice.connect_raw(ready=True)
        socket.send_frame(frame_type, room_id=room, **fields)
        await ends_abruptly(socket)
    assert (await faults_on(server))["lose_confirmations"] == 0
    assert await contents(alice, room) == ["a", "sent"]


def test_frames_before_a_confirmation_are_kept() -> None:
    def sent(request_id: str) -> bytes:
        return encode_frame(
            MessageSentFrame(
                room_id="room_1", message_id="m", seq=1, client_message_id=None, created_at="", request_id=request_id
            )
        )

    pongs = [encode_text(dumps({"type": "pong", "request_id": "x" * size})) for size in (1, 200, 70_000)]
    other = b"".join(pongs) + PING
    assert cut_at_confirmation(other) == (other, False)
    assert cut_at_confirmation(other + sent("one") + sent("two")) == (other, True)


async def test_stalled_network_takes_and_gives_nothing(server: Server) -> None:
    alice, room = await alice_and_room(server)
    bob = server.user("bob")
    socket, stream = await alice.connect_raw(ready=True), await alice.stream()
    await set_faults(server, stall_seconds=600, user_id="alice")
    assert 540 < (await faults_on(server))["stall_seconds"] <= 600
    socket.send_frame("send_message", room_id=room, content="later", request_id="one")
    asked = asyncio.ensure_future(alice.get(f"/rooms/{room}"))
    connecting = asyncio.ensure_future(alice.connect_raw(ready=True))
    await bob.say(room, "meanwhile")
    came = asyncio.ensure_future(stream.expect("message"))
    await asyncio.sleep(SOON_SECONDS)
    assert not asked.done()
    assert not connecting.done()
    assert not came.done()
    assert await contents(bob, room) == ["meanwhile"]
    await set_faults(server)
    assert (await socket.expect("message"))["content"] == "meanwhile"
    assert (await socket.expect("message"))["content"] == "later"
    assert (await asked).status == 200
    assert (await came)["content"] == "meanwhile"
    await connecting
    await set_faults(server, stall_seconds=SOON_SECONDS)
    socket.send_frame("ping", request_id="after it")
    assert (await socket.expect("pong"))["request_id"] == "after it"
    assert (await faults_on(server))["stall_seconds"] == 0


@pytest.mark.slow
async def test_stall_that_was_replaced_ends_no_later_one() -> None:
    """Also if cuts came again meanwhile."""
    faults = Faults()
    faults.replace(FaultSet(cut_every_seconds=0.01, stall_seconds=SOON_SECONDS))
    await asyncio.sleep(SOON_SECONDS / 2)
    faults.replace(FaultSet(stall_seconds=600))
    await asyncio.sleep(SOON_SECONDS)
    assert faults.is_stalled(None)
    faults.end()


async def test_stalled_socket_is_dropped_when_too_much_is_held_for_it(start_server: StartServer) -> None:
    """What a fault holds back counts as unread: the bounds of slow consumers hold."""
    server = await start_server({"limits.send_buffer_bytes": 65_536, "limits.slow_consumer_seconds": 1}, dev=True)
    alice, room = await alice_and_room(server)
    await alice.connect_raw(ready=True)
    await set_faults(server, stall_seconds=600, user_id="alice")
    [connection] = server.connections_of("alice")
    for _ in range(8):
        await server.user("bob").say(room, "x" * 30_000)
    assert connection.unsent_bytes() < 2 * 65_536
    await eventually(lambda: not server.connections_of("alice"))


@pytest.mark.parametrize(
    "fault", [{"error": {"status": 502, "html": True}}, {"stall_seconds": 600}, {"delay_ms": 60_000}]
)
async def test_operator_is_spared(server: Server, fault: dict[str, object]) -> None:
    await set_faults(server, **fault)
    async with asyncio.timeout(5):
        for path in ("/playground", "/v1/playground", "/sdk/chatapi.js", "/health", "/metrics", "/openapi.json"):
            assert (await server.request("GET", path)).status == 200
        assert (await server.admin("GET", "/stats")).status == 200


async def test_user_is_known_by_every_credential(start_server: StartServer) -> None:
    server = await start_server({"auth.query_api_key": True}, dev=True)
    alice, _ = await alice_and_room(server)
    token = (await alice.post("/tokens")).data["token"]
    ticket = (await alice.post("/ws/token")).data["token"]
    opened = [
        await alice.connect(),
        await server.handshake(headers={"Authorization": f"Bearer {token}"}),
        await server.handshake(protocols=("chatapi.v1", f"bearer.{token}")),
        await server.handshake(token=token),
        await server.handshake(token=ticket),
        await server.handshake(api_key=server.api_key, user_id="alice"),
    ]
    other = await server.user("bob").connect()
    assert len(server.services.hub.connections) == len(opened) + 1
    await set_faults(server, drop=True, user_id="alice")
    await eventually(lambda: not server.connections_of("alice"))
    for socket in opened:
        assert await socket.close_code() in (None, 1006)
    await other.send("ping")
    await other.expect("pong")


async def test_set_replaces_the_last_one_and_is_told(server: Server) -> None:
    nothing = {
        "dropped": 0,
        "cut_every_seconds": None,
        "delay_ms": 0,
        "error": None,
        "lose_confirmations": 0,
        "stall_seconds": 0.0,
        "user_id": None,
    }
    assert await faults_on(server) == nothing
    reply = await operate(server, "POST", {"delay_ms": 5, "error": {"status": 503}, "user_id": "alice"})
    error = {"status": 503, "rate": 1.0, "html": False}
    assert reply.data == {**nothing, "delay_ms": 5, "error": error, "user_id": "alice"}
    assert (await operate(server, "POST", {"lose_confirmations": 3})).data == {**nothing, "lose_confirmations": 3}
    assert await faults_on(server) == {**nothing, "lose_confirmations": 3}
    assert (await operate(server, "POST", {})).data == nothing


@pytest.mark.parametrize(
    ("faults", "field"),
    [
        ({"drop": 0}, "drop"),
        ({"drop": 1.5}, "drop"),
        ({"drop": "all"}, "drop"),
        ({"cut_every_seconds": 0}, "cut_every_seconds"),
        ({"cut_every_seconds": 3601}, "cut_every_seconds"),
        ({"delay_ms": -1}, "delay_ms"),
        ({"delay_ms": 60_001}, "delay_ms"),
        ({"delay_ms": 0.5}, "delay_ms"),
        ({"error": {}}, "error.status"),
        ({"error": {"status": 200}}, "error.status"),
        ({"error": {"status": 600}}, "error.status"),
        ({"error": {"status": 503, "rate": 0}}, "error.rate"),
        ({"error": {"status": 503, "rate": 1.01}}, "error.rate"),
        ({"error": {"status": 503, "html": 1}}, "error.html"),
        ({"lose_confirmations": -1}, "lose_confirmations"),
        ({"lose_confirmations": 100_001}, "lose_confirmations"),
        ({"stall_seconds": 601}, "stall_seconds"),
        ({"user_id": ""}, "user_id"),
    ],
)
async def test_bad_set_is_refused_and_changes_nothing(server: Server, faults: dict[str, object], field: str) -> None:
    await set_faults(server, delay_ms=1)
    error = (await operate(server, "POST", faults)).error
    assert (error["code"], error["field"]) == ("VALIDATION_ERROR", field)
    assert (await faults_on(server))["delay_ms"] == 1


async def test_error_of_a_bad_user_id_describes_good_ones(server: Server) -> None:
    error = (await operate(server, "POST", {"user_id": "two words"})).error
    assert error["message"] == "Must be 1 to 128 characters of printable ASCII without spaces"


async def test_stop_ends_the_faults(server: Server) -> None:
    alice, room = await alice_and_room(server)
    socket = await alice.connect_raw(ready=True)
    await set_faults(server, stall_seconds=600, delay_ms=60_000)
    asked = asyncio.ensure_future(alice.get(f"/rooms/{room}"))
    await eventually(lambda: sum(one.is_serving() for one in server.app.server.connections) == 2)
    closing = asyncio.ensure_future(server.app.close())
    assert await socket.close_code() == 1001
    assert (await asked).status == 200
    await closing


async def test_usual_server_has_no_place_for_faults(start_server: StartServer) -> None:
    server = await start_server()
    assert server.services.dev is None
    await server.user("alice").connect()
    [connection] = server.connections_of("alice")
    assert "chatapi" not in type(connection.transport).__module__
    assert type(connection.transport.get_protocol()).__name__ == "ClientSocket"
    await server.user("alice").get("/rooms")
    [protocol] = [one for one in server.app.server.connections if one.transport is not None][-1:]
    assert type(protocol).__name__ == "EnvelopeProtocol"
    assert "chatapi" not in type(protocol.transport).__module__
