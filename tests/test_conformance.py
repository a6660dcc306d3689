"""RFC 6455, frame by frame: what comes in, and the code of the close frame that goes out."""

import asyncio
import json
import random
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from conftest import StartServer
from driver import HandClock, Server, TlsDoor, eventually
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_websocket import BINARY, CLOSE, PING, PONG, TEXT, RawSocket, encode_frame

from chatapi.connecting import LEAVE_SECONDS
from chatapi.protocol.frames import MAX_FRAME_BYTES
from chatapi.recovery import ConnectData
from chatapi.ws.frame_reader import FrameReader, Violation

PING_FRAME = b'{"type":"ping"}'
CONTINUATION, RESERVED = 0x0, (0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF)

Frame = tuple[int, bytes, int, bool]
"""Opcode, payload, the bits beside the opcode, and whether it is masked."""


def frame(opcode: int, payload: bytes = b"", bits: int = 0x80, *, masked: bool = True) -> Frame:
    return opcode, payload, bits, masked


def closing(code: int, reason: bytes = b"") -> Frame:
    return frame(CLOSE, struct.pack("!H", code) + reason)


TABLE: list[tuple[str, list[Frame], int]] = [
    ("an unmasked text", [frame(TEXT, PING_FRAME, masked=False)], 1002),
    ("an unmasked text without payload", [frame(TEXT, masked=False)], 1002),
    ("an unmasked text of 200 bytes", [frame(TEXT, b" " * 200, masked=False)], 1002),
    ("an unmasked text of 70,000 bytes", [frame(TEXT, b" " * 70_000, masked=False)], 1002),
    ("an unmasked ping", [frame(PING, b"x", masked=False)], 1002),
    ("an unmasked close", [frame(CLOSE, b"\x03\xe8", masked=False)], 1002),
    ("an unmasked binary", [frame(BINARY, b"x", masked=False)], 1002),
    ("an unmasked frame after a masked one", [frame(TEXT, PING_FRAME), frame(TEXT, PING_FRAME, masked=False)], 1002),
    ("an unmasked fragment", [frame(TEXT, b"{", 0), frame(CONTINUATION, b"}", masked=False)], 1002),
    *[(f"opcode {opcode:x}", [frame(opcode)], 1002) for opcode in RESERVED],
    *[(f"reserved bits {bits:x}", [frame(TEXT, PING_FRAME, 0x80 | bits)], 1002) for bits in (0x40, 0x20, 0x10, 0x70)],
    ("a compressed ping", [frame(PING, b"", 0xC0)], 1002),
    ("a fragmented ping", [frame(PING, b"x", 0)], 1002),
    ("a fragmented close", [frame(CLOSE, b"\x03\xe8", 0)], 1002),
    ("a ping of 126 bytes", [frame(PING, b"x" * 126)], 1002),
    ("a close of 126 bytes", [frame(CLOSE, b"\x03\xe8" + b"x" * 124)], 1002),
    ("a continuation of nothing", [frame(CONTINUATION, b"x")], 1002),
    ("a continuation of nothing, unfinished", [frame(CONTINUATION, b"x", 0)], 1002),
    ("a text within a text", [frame(TEXT, b"{", 0), frame(TEXT, b"}")], 1002),
    ("a text within an empty beginning", [frame(TEXT, b"", 0), frame(TEXT, PING_FRAME)], 1002),
    ("a binary within a text", [frame(TEXT, b"{", 0), frame(BINARY, b"}", 0)], 1002),
    ("a binary message", [frame(BINARY, PING_FRAME)], 1003),
    ("a text that is not UTF-8", [frame(TEXT, b"\xff\xfe")], 1007),
    ("fragments that are not UTF-8", [frame(TEXT, b"\xc3", 0), frame(CONTINUATION, b"(")], 1007),
    ("a close without a code", [frame(CLOSE)], 1000),
    ("a close of one byte", [frame(CLOSE, b"\x03")], 1002),
    ("a close whose reason is not UTF-8", [closing(1000, b"\xff")], 1007),
    ("a close with a reason", [closing(1000, "tschüß".encode())], 1000),
    ("a close with the longest reason", [closing(4000, b"x" * 123)], 4000),
    *[(f"a close with {code}", [closing(code)], code) for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010)],
    *[(f"a close with {code}", [closing(code)], code) for code in (1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)],
    *[
        (f"a close with {code}", [closing(code)], 1002)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000)
    ],
    *[(f"a close with {code}", [closing(code)], 1002) for code in (2999, 5000, 9999, 65535)],
    ("a close between fragments", [frame(TEXT, b"{", 0), closing(1001)], 1001),
]


@pytest.mark.parametrize("delivery", ["whole", "byte by byte", pytest.param("over TLS", marks=pytest.mark.slow)])
async def test_each_way_of_breaking_the_protocol_has_its_code(
    start_server: StartServer, certificate: tuple[str, str], delivery: str
) -> None:
    server = await start_server({"limits.connections_per_user": 1000})
    door = TlsDoor(server, certificate) if delivery == "over TLS" else None

    async def judge(name: str, frames: list[Frame]) -> tuple[str, int]:
        alice = server.user("alice")
        socket = await (door.connect(alice, "?sync=none") if door else alice.connect_raw("?sync=none"))
        data = b"".join(encode_frame(bits | opcode, payload, masked=masked) for opcode, payload, bits, masked in frames)
        size = 1 if delivery == "byte by byte" and len(data) <= 1000 else len(data)
        for start in range(0, len(data), size):
            socket.writer.write(data[start : start + size])
            if size == 1:
                await asyncio.sleep(0)
        return name, await socket.close_code()

    async with asyncio.TaskGroup() as group:
        judged = [group.create_task(judge(name, frames)) for name, frames, _ in TABLE]
    assert [task.result() for task in judged] == [(name, code) for name, _, code in TABLE]
    await eventually(lambda: not server.services.hub.connections)
    if door:
        door.close()


async def test_all_that_the_rfc_allows_is_served(server: Server) -> None:
    socket = await server.user("alice").connect_raw(ready=True)
    payload = json.dumps({"type": "ping", "request_id": "grün"}, ensure_ascii=False).encode()
    middle = payload.index("ü".encode()) + 1
    socket.send(TEXT, payload[:middle], first_byte=0)  # ends within a character
    socket.send(PING, b"between")
    socket.send(CONTINUATION, b"", first_byte=0)
    socket.send(PONG, b"x" * 125)
    socket.send(CONTINUATION, payload[middle:])
    assert await socket.next() == (PONG, b"between")
    assert (await socket.expect("pong"))["request_id"] == "grün"
    socket.send(TEXT, b"", first_byte=0)
    socket.send(CONTINUATION, PING_FRAME)
    await socket.expect("pong")
    socket.send(PING, b"x" * 125)
    assert await socket.next() == (PONG, b"x" * 125)


@pytest.mark.parametrize("size", [MAX_FRAME_BYTES + 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
async def test_size_is_refused_before_the_bytes_come(shared_server: Server, size: int) -> None:
    socket = await shared_server.user("alice").connect_raw("?sync=none")
    socket.writer.write(encode_frame(0x81, b"{", size=size))
    assert await socket.close_code() == 1009


async def test_large_frame_that_comes_before_ready_is_read_to_its_end(server: Server) -> None:
    """Nothing is read while much waits: here the last byte of the only frame."""
    connects = server.services.recovery._connects
    load_many, release = connects._load_many, asyncio.Event()

    async def load_slowly(keys: Sequence[Any]) -> Sequence[ConnectData]:
        await release.wait()
        return await load_many(keys)

    connects._load_many = load_slowly
    socket = await server.user("alice").connect_raw()
    [connection] = server.connections_of("alice")
    transport: Any = connection.transport
    largest = encode_frame(0x80 | TEXT, PING_FRAME + b" " * (MAX_FRAME_BYTES - len(PING_FRAME)))
    socket.writer.write(largest[:-1])
    await eventually(lambda: not transport.is_reading())
    release.set()
    await socket.expect("ready")
    socket.writer.write(largest[-1:])
    socket.send_frame("ping", request_id="after")
    assert [(await socket.expect("pong")).get("request_id") for _ in range(2)] == [None, "after"]
    assert transport.is_reading()


async def test_frame_before_an_illegal_one_is_answered_first(server: Server) -> None:
    socket = await server.user("alice").connect_raw("?sync=none")
    socket.send_frame("ping", request_id="before")
    socket.send(TEXT, PING_FRAME, masked=False)
    socket.send_frame("ping", request_id="after")
    assert (await socket.expect("pong"))["request_id"] == "before"
    assert await socket.close_code() == 1002


async def test_frames_sent_together_with_the_handshake_are_checked_too(server: Server) -> None:
    reader, writer = await server.open()
    lines = "".join(f"{name}: {value}\r\n" for name, value in server.user("alice").headers.items())
    handshake = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    head = f"GET /ws HTTP/1.1\r\nHost: chat\r\n{lines}{handshake}{'A' * 22}==\r\n\r\n".encode()
    writer.write(head + b"\x81\x0f" + PING_FRAME)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    assert await RawSocket(reader, writer).close_code() == 1002


async def test_a_client_that_is_still_sending_hears_why(server: Server) -> None:
    """Closed at once, what it goes on to send would reset the connection, and the close frame with it."""
    socket = await server.user("alice").connect_raw("?sync=none")
    socket.send(TEXT, b" " * (1 << 20))
    assert await socket.close_code() == 1009
    async with asyncio.timeout(LEAVE_SECONDS - 1):  # it hears that the client has gone, behind all that was sent
        await eventually(lambda: not server.app.server._successors)


lengths = st.one_of(st.integers(0, 130), st.sampled_from([125, 126, 127, 65535, 65536, 70_000]))


def encode(payload: bytes, first_byte: int, mask: bytes) -> bytes:
    """As `encode_frame`, with a mask that changes something."""
    head = encode_frame(first_byte, size=len(payload))[:-4]
    return head + mask + bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))


def read_all(reader: FrameReader, parts: list[bytes]) -> tuple[list[tuple[int, bytes]], int | None]:
    """What comes out when these bytes go in, signs of life aside, and the code of what breaks the protocol."""
    frames: list[tuple[int, bytes]] = []
    try:
        for part in parts:
            reader.feed(part)
            while (one := reader.next()) is not None:
                if one != (CONTINUATION, b""):
                    frames.append(one)
    except Violation as violation:
        return frames, violation.code
    return frames, None


@settings(max_examples=60)
@given(
    sizes=st.lists(lengths, max_size=6),
    cuts=st.lists(st.integers(0, 1 << 20), max_size=12),
    mask=st.binary(min_size=4, max_size=4),
    bad=st.sampled_from(["", "unmasked", "nested"]),
)
def test_however_the_bytes_arrive_legal_frames_pass_and_others_do_not(
    sizes: list[int], cuts: list[int], mask: bytes, bad: str
) -> None:
    data, expected = b"", []
    for size in sizes:
        payload = random.Random(size).randbytes(size)
        if size % 2:
            data += encode(payload, 0x81, mask)
        else:
            ping = encode(b"now", 0x89, mask)
            thirds = payload[: size // 3], payload[size // 3 : size // 2], payload[size // 2 :]
            first, second, third = (encode(*one, mask) for one in zip(thirds, (0x01, 0x00, 0x80), strict=True))
            data += first + second + ping + third
            expected.append((PING, b"now"))
        expected.append((TEXT, payload))
    if bad:
        data += encode_frame(0x81, bytes(130), masked=False) if bad == "unmasked" else encode(b"x", 0x01, mask) * 2
        data += encode(b"after", 0x81, mask)
    ends = sorted({cut % (len(data) + 1) for cut in cuts} | {len(data)})
    parts = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    reader = FrameReader()
    assert read_all(reader, parts) == (expected, 1002 if bad else None)
    assert bad or reader.waiting_bytes == 0


# What a bad frame costs


@pytest.mark.parametrize("payload", [b"nonsense", b"{}", b'{"type":"bogus"}', b'{"type":"send_message"}', b"[1]"])
async def test_a_bad_frame_takes_a_token_too(start_server: StartServer, payload: bytes) -> None:
    """Else it would be the cheapest way to keep the server busy. Over REST a request that is 400 takes one as well."""
    server = await start_server({"limits.rate_limit": 1, "limits.rate_burst": 5}, clock=HandClock())
    socket = await server.user("alice").connect_raw("?sync=none")
    for _ in range(4):  # the handshake has taken one
        socket.send(TEXT, payload)
        assert (await socket.expect("error"))["code"] == "VALIDATION_ERROR"
    socket.send(TEXT, payload)
    refusal = await socket.expect("error")
    assert (refusal["code"], refusal["retry_after_ms"] > 0) == ("RATE_LIMIT_EXCEEDED", True)
    socket.send_frame("unsubscribe", room_id="room_x", request_id="r-1")
    assert (await socket.expect("error"))["request_id"] == "r-1"


async def test_a_bad_light_frame_takes_one_of_the_connections_own(start_server: StartServer) -> None:
    server = await start_server({"limits.rate_limit": 1, "limits.rate_burst": 2}, clock=HandClock())
    socket = await server.user("alice").connect_raw("?sync=none")
    for number in range(40):
        socket.send_frame("typing.start", request_id=f"{number}")
    socket.send_frame("typing.start", request_id="over")  # dropped: no answer
    socket.send_frame("unsubscribe", room_id="room_x", request_id="last")  # takes the one that is left of the tenant's
    answers = [(await socket.expect("error"))["request_id"] for _ in range(40)]
    assert answers == [f"{number}" for number in range(40)]
    answer = await socket.expect("error")
    assert (answer["request_id"], answer["code"]) == ("last", "NOT_FOUND")


async def test_a_request_that_is_refused_takes_one_and_a_wrong_credential_none(start_server: StartServer) -> None:
    server = await start_server({"limits.rate_limit": 1, "limits.rate_burst": 3}, clock=HandClock())
    alice = server.user("alice")
    for status, left in ((400, "2"), (400, "1")):
        reply = await alice.post("/rooms", {"type": "nonsense"})
        assert (reply.status, reply.headers["X-RateLimit-Remaining"]) == (status, left)
    wrong = await server.request("GET", "/rooms", headers={"X-API-Key": "sk_wrong", "X-User-Id": "alice"})
    assert wrong.status == 401
    assert (await alice.get("/rooms")).headers["X-RateLimit-Remaining"] == "0"
