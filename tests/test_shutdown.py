"""The end: everybody is told, what was taken is finished, and nothing confirmed is lost."""

import asyncio
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import server_process
from conftest import StartServer
from driver import Server, eventually
from raw_websocket import WAIT_SECONDS
from server_process import ServerProcess

from chatapi.errors import ChatError
from chatapi.store import Transaction, Write


async def test_everybody_is_told_when_to_come_back_and_closed_with_1001(server: Server) -> None:
    sockets = [await server.user(f"user{number}").connect() for number in range(20)]

    async def take_leave(number: int) -> int:
        frame = await sockets[number].expect("server.shutdown")
        assert await sockets[number].close_code() == 1001
        return int(frame["reconnect_after_ms"])

    async with asyncio.TaskGroup() as group:
        delays = [group.create_task(take_leave(number)) for number in range(20)]
        group.create_task(server.app.close())
    spread = {task.result() for task in delays}
    assert len(spread) > 10  # at random, so that they do not come back all at once
    assert min(spread) >= 0
    assert max(spread) <= 1000


async def test_nobody_new_is_let_in(server: Server) -> None:
    server.services.health.is_draining = True
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await server.user("alice").connect()
    assert refused.value.status == 503
    server.services.health.is_draining = False


async def test_readyz_is_503_meanwhile_over_a_kept_connection(server: Server) -> None:
    """A load balancer's own connection is still open: it has to hear of it there."""
    reader, writer = await server.open()

    async def ask() -> tuple[int, Any]:
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: test\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert (b"connection: close" in head.lower()) is server.services.health.is_draining
        length = next(int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-len"))
        return int(head.split()[1]), json.loads(await reader.readexactly(length))

    assert (await ask())[0] == 200
    stays = await server.user("alice").connect()  # does not read, so that the shutdown waits for it
    closing = asyncio.create_task(server.app.close())
    await eventually(lambda: server.services.health.is_draining)
    status, body = await ask()
    assert (status, body["success"], body["error"]["code"]) == (503, False, "INTERNAL_ERROR")
    assert await stays.close_code() == 1001
    await closing
    writer.close()
    await writer.wait_closed()


async def test_queued_writes_are_written_and_confirmed(start_server: StartServer) -> None:
    server = await start_server()
    alice = server.user("alice")
    room_id = await alice.make_room()
    socket = await alice.connect()
    for number in range(200):
        await socket.send("send_message", room_id=room_id, content=str(number), request_id=str(number))
    closing = asyncio.create_task(server.app.close())
    confirmed, refused = [], []
    while (frame := await socket.next())["type"] != "server.shutdown":
        if frame["type"] == "message.sent":
            confirmed.append(frame["seq"])
        elif frame["type"] == "error":
            refused.append(frame["request_id"])
    await socket.close_code()
    await closing
    server = await start_server()
    stored = (await server.user("alice").get(f"/rooms/{room_id}")).data["last_seq"]
    assert stored >= len(confirmed)
    assert confirmed == list(range(1, len(confirmed) + 1))


async def test_writer_finishes_writes_that_it_has_taken(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    socket = await alice.connect()
    writer = server.services.store.writer
    async with server.hold_writer():
        for _ in range(3):
            await socket.send("send_message", room_id=room_id, content="taken")
        await eventually(lambda: len(writer) == 3)
        writer.close()
    for seq in (1, 2, 3):
        await socket.expect("message.sent", seq=seq)
    assert (await alice.post(f"/rooms/{room_id}/messages", {"content": "too late"})).status == 503


async def test_a_request_that_is_being_served_is_answered(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    async with server.hold_writer():
        sending = asyncio.create_task(alice.say(room_id, "in time"))
        await eventually(lambda: server.services.store.writer)
        closing = asyncio.create_task(server.app.close())
        await eventually(lambda: server.services.health.is_draining)
    assert (await sending)["seq"] == 1
    await closing


async def begin_request(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """All of a request but the second half of its body, which is returned."""
    alice = server.user("alice")
    room_id = await alice.make_room()
    reader, writer = await server.open()
    body = b'{"content": "in two halves"}'
    lines = "".join(f"{name}: {value}\r\n" for name, value in alice.headers.items())
    head = f"POST /rooms/{room_id}/messages HTTP/1.1\r\nHost: chat\r\n{lines}Content-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:10])
    await eventually(lambda: any(protocol.is_serving() for protocol in server.app.server._list_open()))
    return reader, writer, body[10:]


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes, Any]:
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    return int(head.split()[1]), head.lower(), json.loads(body)


async def test_a_request_whose_body_is_still_arriving_is_answered(server: Server) -> None:
    reader, writer, rest = await begin_request(server)
    closing = asyncio.create_task(server.app.close())
    await eventually(lambda: server.services.health.is_draining)
    for byte in rest:
        await asyncio.sleep(0.002)
        writer.write(bytes((byte,)))
    status, head, body = await read_answer(reader)
    assert (status, body["data"]["content"]) == (201, "in two halves")
    assert b"connection: close" in head
    await closing


async def test_one_whose_body_does_not_arrive_is_told_before_the_end(start_server: StartServer) -> None:
    server = await start_server({"server.shutdown_grace_seconds": 0.5})
    reader, _, _ = await begin_request(server)
    await server.app.close()
    status, head, body = await read_answer(reader)
    assert (status, body["error"]["code"]) == (503, "INTERNAL_ERROR")
    assert b"connection: close" in head


@pytest.mark.slow
async def test_an_answer_that_is_being_read_is_sent_whole(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room()
    for _ in range(15):
        await alice.say(room_id, "x" * 60_000)
    reader, writer = await server.open_narrow()
    lines = "".join(f"{name}: {value}\r\n" for name, value in alice.headers.items())
    writer.write(f"GET /rooms/{room_id}/messages HTTP/1.1\r\nHost: chat\r\n{lines}\r\n".encode())
    assert await reader.readexactly(13) == b"HTTP/1.1 200 "
    closing = asyncio.create_task(server.app.close())
    await eventually(lambda: server.services.health.is_draining)
    received = len(await reader.read())
    assert received > 15 * 60_000
    await closing
    writer.close()


# As a process


@pytest.fixture
def process(tmp_path: Path) -> ServerProcess:
    return ServerProcess(tmp_path)


def send_message(process: ServerProcess, key: str, path: str, body: object) -> Any:
    request = urllib.request.Request(
        f"{process.url}{path}",
        data=json.dumps(body).encode(),
        headers={"X-API-Key": key, "X-User-Id": "alice", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=40) as answer:
        return json.load(answer)["data"]


# Each signal by itself is in test_serve.py.


@pytest.mark.slow
def test_under_nohup_it_outlives_its_terminal(tmp_path: Path) -> None:
    process = ServerProcess(tmp_path, command=("nohup", sys.executable, "-m", "chatapi"))
    process.start()
    running = process._process
    assert running is not None
    running.send_signal(signal.SIGHUP)
    assert process.create_tenant("acme")
    process.stop()


@pytest.mark.slow
@pytest.mark.slow
def test_a_stop_as_soon_as_it_answers_is_graceful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--dev` it writes to the database between the first answer and the end of its start."""
    monkeypatch.setattr(server_process, "POLL_SECONDS", 0.001)
    server = ServerProcess(tmp_path)
    for _ in range(4):
        server.start()
        server.stop()


def test_it_ends_within_its_grace_though_a_client_does_not_go(tmp_path: Path) -> None:
    process = ServerProcess(tmp_path, {"server.shutdown_grace_seconds": "0.5"})
    process.start()
    running = process._process
    assert running is not None
    with process.open_websocket(process.create_tenant("acme")):
        running.send_signal(signal.SIGTERM)
        assert running.wait(4) == 0  # less than the linger of a connection that was told to go


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once_and_loses_nothing(process: ServerProcess) -> None:
    process.start()
    key = process.create_tenant("acme")
    room_id = send_message(process, key, "/rooms", {"type": "group"})["room_id"]
    send_message(process, key, f"/rooms/{room_id}/messages", {"content": "confirmed"})
    running = process._process
    assert running is not None
    with process.open_websocket(key) as stuck:
        running.send_signal(signal.SIGTERM)
        while b"server.shutdown" not in stuck.recv(65536):
            pass
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(0.2)
        running.send_signal(signal.SIGTERM)
        assert running.wait(4) == 1  # less than the grace
    process._process = None
    assert process.read_stored() == {"confirmed"}


async def test_a_writer_that_crashes_keeps_nobody_waiting(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shutdown that follows notes when keys were last used: it waited for the writer, forever."""
    crashed: list[str] = []
    monkeypatch.setattr(server.services.tasks, "_on_crash", crashed.append)
    writer = server.services.store.writer

    def fail(_batch: Sequence[Write]) -> None:
        raise RuntimeError

    monkeypatch.setattr(server.services.committer, "publish", fail)
    writing = [asyncio.ensure_future(writer.change(nothing, barrier=True)) for _ in range(2)]
    with pytest.raises(ChatError, match="shutting down"):
        await writing[1]
    assert crashed == ["writer"]
    assert (await server.user("alice").get("/rooms")).status == 200
    async with asyncio.timeout(WAIT_SECONDS):
        await server.app.close()
    writing[0].cancel()


async def nothing(_transaction: Transaction) -> None:
    """A change that changes nothing."""
