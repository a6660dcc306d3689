"""`log.requests`: a line per HTTP request, with nothing secret in it."""

import logging

import pytest
from conftest import StartServer
from driver import Server

LOGGER = "chatapi.rest.edge"


def read_lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == LOGGER and record.message == "request"]


async def test_each_request_has_its_line(start_server: StartServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = await start_server({"log.requests": True})
    caplog.clear()
    headers = {"X-Request-Id": "mine-1"}
    await server.user("alice").request("GET", "/rooms/room_0?token=secret", headers=headers)
    await server.request("GET", "/no%0Awhere")
    found, unknown = read_lines(caplog)
    assert (found.method, found.path, found.status, found.request_id) == ("GET", "/rooms/room_0", 404, "mine-1")
    assert found.ms >= 0
    assert unknown.path == "/no%0Awhere"
    assert server.api_key not in caplog.text
    assert "secret" not in caplog.text


async def test_no_line_by_default(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await server.request("GET", "/health")
    assert not read_lines(caplog)
