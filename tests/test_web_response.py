"""The head that is written for a whole response is aiohttp's own, whatever version of aiohttp is installed."""

import asyncio
import itertools

import pytest
from aiohttp import web

from chatapi.rest.web_response import WholeResponse

BODIES = {200: b"{}", 201: b"", 204: b"", 302: b"", 304: b"", 404: b"no", 503: b"x" * 70_000}


async def answer(request: web.BaseRequest) -> web.Response:
    """With the class, the status and the end of the connection that the request names."""
    _, kind, status, ends = request.path.split("/")
    headers = {"X-Request-Id": "r"}
    if body := BODIES[int(status)]:
        headers["Content-Type"] = "application/json; charset=utf-8"
    response = (WholeResponse if kind == "whole" else web.Response)(body=body, status=int(status), headers=headers)
    if ends == "ends":
        response.force_close()
    return response


async def exchange(port: int, request: str) -> tuple[str, dict[str, str], bytes, bool]:
    """The status line, the headers without those of the time and of aiohttp, the body, and whether the server takes
    another request on this connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status, *fields = head.removesuffix("\r\n\r\n").split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    has_body = not request.startswith("HEAD")
    body = await reader.readexactly(int(headers.get("Content-Length", 0)) if has_body else 0)
    writer.write(request.encode())
    try:
        is_open = bool(await reader.read(1))
    except ConnectionError:
        is_open = False
    writer.close()
    assert headers.pop("Date").endswith(" GMT")
    headers.pop("Server", None)
    return status, headers, body, is_open


@pytest.mark.parametrize(
    "method", ["GET", *(pytest.param(method, marks=pytest.mark.slow) for method in ("HEAD", "POST"))]
)
async def test_the_head_is_that_of_aiohttp(method: str) -> None:
    server = await asyncio.get_running_loop().create_server(web.Server(answer), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        connections = ("", "Connection: close\r\n", "Connection: keep-alive\r\n")
        for status, version, connection, ends in itertools.product(BODIES, ("1.0", "1.1"), connections, ("", "ends")):
            whole, own = [
                await exchange(port, f"{method} /{kind}/{status}/{ends} HTTP/{version}\r\nHost: a\r\n{connection}\r\n")
                for kind in ("whole", "own")
            ]
            assert whole == own, (status, version, connection, ends)
