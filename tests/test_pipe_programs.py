"""Pipes of other programs: curl, and a proxy in between."""

import asyncio
import re
import shutil
from pathlib import Path

import pytest
from driver import Server
from examples import example
from nginx import open_nginx
from piper import AS_EVENTS, CHUNK, Piper, list_messages, wait_for_content

NGINX = example("docs/operations.md", "nginx", "upstream")


@pytest.fixture
async def room_id(server: Server) -> str:
    return await server.user("alice").make_room("bob")


async def run_curl(stdin: bytes, *arguments: str) -> tuple[int, bytes]:
    curl = shutil.which("curl")
    assert curl is not None
    process = await asyncio.create_subprocess_exec(
        curl, "-sN", *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    for start in range(0, len(stdin), 7):
        process.stdin.write(stdin[start : start + 7])
        await process.stdin.drain()
    process.stdin.close()
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out


@pytest.mark.parametrize("arguments", [["-T", "-"], ["-X", "POST", "-T", "-"]], ids=["PUT", "POST"])
async def test_curl_pipes(server: Server, room_id: str, arguments: list[str]) -> None:
    alice = server.user("alice")
    headers = [part for name, value in alice.headers.items() for part in ("-H", f"{name}: {value}")]
    text = "Die Größe der Wörter, 👩‍🚀, in kleinen Stücken."
    code, out = await run_curl(
        text.encode(), *arguments, *headers, "-w", "%{http_code}", f"{server.url}/rooms/{room_id}/messages/stream"
    )
    assert (code, out[-3:]) == (0, b"201")
    [message] = await list_messages(alice, room_id)
    assert (message["content"], message["stream"]) == (text, {"state": "done"})


@pytest.mark.deploy
async def test_nginx_passes_a_pipe_on_while_it_is_written(server: Server, room_id: str, tmp_path: Path) -> None:
    """With what docs/operations.md has for it."""
    alice = server.user("alice")
    shared, pipes = re.findall(r"proxy_http_version .*?(?=\n\n)|(?<=messages/stream\$ \{\n).*?(?=\})", NGINX, re.DOTALL)
    settings = shared.replace("$connection_upgrade", "''") + pipes.replace("proxy_pass http://chatapi;", "")
    async with open_nginx(tmp_path, server.port, settings) as url:
        pipe = Piper(*await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2])))
        pipe.send_head(alice, f"/rooms/{room_id}/messages/stream", **AS_EVENTS)
        pipe.write(CHUNK % "x")
        message = await wait_for_content(alice, room_id, "x")
        for _ in range(40):
            pipe.write(b": " + b"x" * 50_000 + b"\n")  # nginx itself takes 1 MiB
            await pipe.writer.drain()
        assert (await alice.post(f"/rooms/{room_id}/messages/{message['message_id']}/cancel")).status == 202
        reply = await pipe.read_reply()
        assert (reply.status, reply.data["stream"]) == (201, {"state": "cancelled"})
        pipe.leave()
