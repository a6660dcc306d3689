"""Clients that keep to no rule, made from a seed: what they send, and how they leave in the middle of it."""

import asyncio
import contextlib
import json
import random
import socket
import struct
from dataclasses import dataclass, field
from enum import Enum, auto

from raw_websocket import HANDSHAKE, encode_frame

MOMENT_SECONDS = 0.003
PATIENCE_SECONDS = 0.15  # for an answer: most of what is sent gets none


class Leaving(Enum):
    CLOSE = auto()
    HALF_CLOSE = auto()  # no more is sent; what comes is read
    RESET = auto()
    STAY = auto()  # until the server ends it, or for a while


@dataclass
class Client:
    """What it sends, in parts with a moment between them."""

    name: str
    parts: list[bytes] = field(default_factory=list)
    leaving: Leaving = Leaving.CLOSE
    reads: bool = True


class Fuzz:
    def __init__(self, seed: int, key: str, room_id: str) -> None:
        self._random = random.Random(seed)
        self._room_id = room_id
        self._credential = {"X-API-Key": key, "X-User-Id": "alice"}

    def make_client(self) -> Client:
        make = self._random.choice([self._make_http, self._make_http, self._make_websocket, self._make_websocket])
        client = make()
        if self._random.random() < 0.3:
            client.parts = [self._spoil(part) for part in client.parts]
        if self._random.random() < 0.4:
            client.parts = self._cut(b"".join(client.parts))
        if self._random.random() < 0.3:
            client.parts = client.parts[: self._random.randint(0, len(client.parts))]
        client.leaving = self._random.choice(list(Leaving))
        client.reads = self._random.random() < 0.7
        return client

    # HTTP

    def _make_http(self) -> Client:
        names = [name for name in dir(self) if name.startswith("_http_")]
        name = self._random.choice(names)
        data = getattr(self, name)()
        return Client(name, [data] if isinstance(data, bytes) else data)

    def _head(self, method: str, target: str, headers: dict[str, str] | None = None, version: str = "1.1") -> bytes:
        given = {"Host": "chat", **self._credential, **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        return f"{method} {target} HTTP/{version}\r\n{lines}\r\n".encode("utf-8", "surrogateescape")

    def _http_anything(self) -> bytes:
        return self._random.randbytes(self._random.choice([1, 20, 300, 70_000]))

    def _http_other_protocols(self) -> bytes:
        return self._random.choice(
            [
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)),
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + self._random.randbytes(500),
                b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + self._head("GET", "/livez"),
                b"SSH-2.0-OpenSSH_9.6\r\n",
                b"GET /\r\n\r\n",
                b"\r\n\r\n\r\n" + self._head("GET", "/livez"),
                b"\x00" * 50,
            ]
        )

    def _http_targets(self) -> bytes:
        targets = [
            "*",
            "/",
            "//",
            "///",
            "/rooms?%",
            "/rooms?limit=%ff",
            "/%00",
            "/%ff%fe",
            "/rooms/%2e%2e/x",
            "x",
            "?",
        ]
        targets += [
            "http://chat/rooms",
            "http://[::1/rooms",
            "http://chat:99999/",
            "http://a b/",
            "ws://chat/ws",
            "/#f",
        ]
        targets += [
            "chat:443",
            "/" + "a" * 9_000,
            "/rooms/" + "%F0%9F%98%80" * 40,
            "/\udcff\udcfe",
            "/rooms/\udc80/messages",
        ]
        targets += [
            f"/rooms/{self._room_id}/messages?limit={value}" for value in ("1e1", "\u0663", "-0", "9" * 400, "")
        ]
        methods = ["GET", "OPTIONS", "CONNECT", "HEAD", "TRACE", "DELETE", "get", "G€T", "M-SEARCH", "PURGE", "A" * 300]
        return self._head(self._random.choice(methods), self._random.choice(targets))

    def _http_headers(self) -> bytes:
        name, value = self._random.choice(
            [
                ("X-Big", "x" * self._random.choice([8_000, 9_000, 200_000])),
                ("X-Utf8", "é\udcff\udcfe"),
                ("X-Request-Id", "é" * 10),
                ("X-User-Id", "\udcff"),
                ("X-API-Key", "é"),
                ("X-API-Key", ""),
                ("Authorization", "Bearer é"),
                ("Authorization", "Bearer a.b.c"),
                ("Authorization", "é"),
                ("Host", "é"),
                ("Host", "[::1"),
                ("Host", "a:b:c"),
                ("Host", ""),
                ("Origin", "http://[x"),
                ("Origin", "null"),
                ("Origin", "é://x:99999999"),
                ("Cookie", "a=\x01"),
                ("X-Forwarded-For", "1.2.3.4:x, [::1]:80, é"),
                ("Accept-Encoding", ";;q=,,*;q=x"),
                ("If-None-Match", '"' * 50),
                ("Range", "bytes=9-1"),
                ("Connection", "close, keep-alive, upgrade"),
                ("Upgrade", "h2c"),
                ("Date", "x"),
                ("bad name", "x"),
                ("X-Fold", "a\r\n b"),
                ("X-Nul", "a\x00b"),
                ("X-Cr", "a\rb"),
                (":path", "/"),
            ]
        )
        target = self._random.choice(["/rooms", "/livez", "/openapi.json", "/playground", "/ws", "/"])
        return self._head(self._random.choice(["GET", "HEAD", "OPTIONS"]), target, {name: value})

    def _http_many_headers(self) -> bytes:
        return self._head("GET", "/livez", {f"X-{number}": "x" for number in range(self._random.choice([120, 2_000]))})

    def _http_lengths(self) -> list[bytes]:
        length = self._random.choice(["0", "5", "100", "-1", "+5", "5, 5", "9" * 30, "0x5", "\u0665", "", "300000"])
        head = {"Content-Length": length, "Content-Type": "application/json"}
        return [self._head("POST", "/rooms", head), b'{"type":', b'"group"}']

    def _http_chunked(self) -> list[bytes]:
        head = {
            "Transfer-Encoding": self._random.choice(["chunked", "CHUNKED", "gzip, chunked", "x", "chunked, chunked"])
        }
        head["Content-Type"] = "application/json"
        if self._random.random() < 0.3:
            head["Content-Length"] = "3"
        chunks = [
            b"5\r\nhello\r\n",
            b"ffffffffffffffff1\r\n",
            b"-1\r\n",
            b"5;x=y\r\nhel",
            b"zz\r\n",
            b"0\r\n\r\n",
            b"0\r\nX: y\r\n\r\n",
        ]
        return [self._head("POST", "/rooms", head), *self._random.choices(chunks, k=3)]

    def _http_bodies(self) -> list[bytes]:
        body = self._random.choice(
            [
                b"{}",
                b"\xff\xfe",
                b'{"type":"group","name":"\xed\xa0\x80"}',
                b'{"type":"group","members":["\\ud800"]}',
                b"[" * 20_000,
                b'{"a":' * 20_000,
                b'{"type":' + b"9" * 5_000 + b"}",
                b"1e999",
                b'{"type":"group"}' + b" " * 270_000,
                json.dumps({"type": "group", "metadata": {"x": "\x00"}}).encode(),
            ]
        )
        kind = self._random.choice(["application/json", "text/plain", "application/json; charset=é", ""])
        encoding = self._random.choice(
            [{}, {}, {"Content-Encoding": "gzip"}, {"Expect": "100-continue"}, {"Expect": "x"}]
        )
        paths = [
            "/rooms",
            f"/rooms/{self._room_id}/messages",
            "/acks",
            "/notify",
            "/tokens",
            "/admin/tenants",
            "/nowhere",
        ]
        head = {"Content-Type": kind, "Content-Length": str(len(body)), **encoding}
        return [
            self._head(self._random.choice(["POST", "PUT", "PATCH", "GET"]), self._random.choice(paths), head),
            body,
        ]

    def _http_pipelined(self) -> bytes:
        one = self._head("GET", self._random.choice(["/rooms", "/livez", "/openapi.json", "/nowhere"]))
        return one * self._random.choice([2, 20, 300]) + self._random.choice(
            [b"", self._upgrade(), b"\x01garbage\r\n\r\n"]
        )

    def _http_versions(self) -> bytes:
        version = self._random.choice(["1.0", "0.9", "2.0", "1.2", "9" * 50, "x", ""])
        return self._head("GET", "/rooms", {"Connection": "keep-alive"}, version)

    def _http_old_bodies(self) -> bytes:
        return self._head("POST", "/rooms", {"Content-Type": "application/json"}, "1.0") + b'{"type":"group"}'

    # WebSockets

    def _upgrade(self, **headers: str) -> bytes:
        given = {**HANDSHAKE, **{name.replace("_", "-"): value for name, value in headers.items()}}
        query = self._random.choice(["", "?sync=none", "?sync=none&sync=x", "?token=é", "?api_key=x&user_id=%00"])
        return self._head("GET", f"/ws{query}", given)

    def _make_websocket(self) -> Client:
        protocols = self._random.choice(["", "chatapi.v1", "chatapi.v1, bearer.é", "bearer.", ",,", "x" * 3_000])
        odd = {"Sec_WebSocket_Protocol": protocols} if protocols else {}
        if self._random.random() < 0.1:
            odd["Sec_WebSocket_Key"] = self._random.choice(["", "é", "=" * 24, "A" * 23 + "="])
        parts = [self._upgrade(**odd)]
        parts += [self._make_frame() for _ in range(self._random.randint(0, 8))]
        return Client("websocket", parts)

    def _make_frame(self) -> bytes:
        kind = self._random.random()
        if kind < 0.5:
            return encode_frame(0x81, self._make_payload())
        first = self._random.choice([0x01, 0x00, 0x80, 0x82, 0x88, 0x89, 0x8A, 0x08, 0x09, 0xC1, 0xB1, 0x83, 0x8F])
        size = self._random.choice([0, 1, 2, 125, 126, 200, 70_000, 140_000])
        payload = self._random.choice([self._random.randbytes(size), b"\x03\xe8" + b"x" * size, b"\xff\xff\xff"])
        is_masked, lies = self._random.random() < 0.9, self._random.random() < 0.1
        return encode_frame(first, payload, masked=is_masked, size=len(payload) + 1_000 * lies)

    def _make_payload(self) -> bytes:
        frames: list[dict[str, object]] = [
            {"type": "send_message", "room_id": self._room_id, "content": "x" * self._random.choice([1, 100, 60_000])},
            {"type": "send_message", "room_id": self._room_id, "content": "\ud800"},
            {"type": "ack", "room_id": self._room_id, "seq": self._random.choice([0, 1, -1, 2**53, 1e300, True, "1"])},
            {"type": "ack", "rooms": {self._room_id: 1, "x" * 500: 1}},
            {"type": "read", "room_id": self._room_id, "seq": 1},
            {"type": "sync", "rooms": {self._room_id: 0, "room_x": 5}, "epoch": "é"},
            {"type": "sync", "rooms": {"\x00": 10**400}},
            {"type": "subscribe", "room_id": "room_x"},
            {"type": "unsubscribe", "room_id": self._room_id},
            {"type": "typing.start", "room_id": self._room_id},
            {"type": "message.edit", "room_id": self._room_id, "message_id": "msg_x", "content": "x"},
            {"type": "reaction.add", "room_id": self._room_id, "message_id": "msg_x", "emoji": "\ud800"},
            {"type": "reaction.remove", "room_id": self._room_id, "message_id": "msg_x", "emoji": "👍" * 17},
            {"type": "notification.ack", "notification_id": "notif_x"},
            {"type": "ping", "request_id": self._random.choice(["a", "x" * 65, 5, None, "\ud800"])},
            {"type": ["list"], "data": 5},
            {"data": {"type": "ping"}},
        ]
        return json.dumps(self._random.choice(frames)).encode()

    # Spoiling

    def _spoil(self, part: bytes) -> bytes:
        changed = bytearray(part)
        for _ in range(self._random.randint(1, 3)):
            if changed:
                at = self._random.randrange(len(changed))
                how = self._random.random()
                if how < 0.5:
                    changed[at] = self._random.randrange(256)
                elif how < 0.75:
                    del changed[at : at + self._random.randint(1, 20)]
                else:
                    changed[at:at] = self._random.choice([b"\r\n", b"\x00", b": ", b"\xff", b"\r", b" "])
        return bytes(changed)

    def _cut(self, data: bytes) -> list[bytes]:
        ends = sorted(self._random.sample(range(len(data) + 1), min(len(data), self._random.randint(1, 6))))
        return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


async def play(client: Client, port: int) -> None:
    """Whatever the server does is right here: what it logs is looked at afterwards."""
    loop = asyncio.get_running_loop()
    with socket.socket() as opened:
        opened.setblocking(False)
        if not client.reads:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with contextlib.suppress(OSError, TimeoutError):
            await loop.sock_connect(opened, ("127.0.0.1", port))
            for part in client.parts:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await loop.sock_sendall(opened, part)
                await asyncio.sleep(MOMENT_SECONDS)
            if client.leaving is Leaving.HALF_CLOSE:
                opened.shutdown(socket.SHUT_WR)
            if client.reads and client.leaving is not Leaving.RESET:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while await loop.sock_recv(opened, 65536):
                        pass
            if client.leaving is Leaving.STAY:
                await asyncio.sleep(PATIENCE_SECONDS)
        if client.leaving is Leaving.RESET:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
