import pytest
from conftest import StartServer
from driver import HandClock, Server, eventually

from chatapi import __version__


async def test_they_are_open(server: Server) -> None:
    for prefix in ("", "/v1"):
        for path in ("/livez", "/readyz"):
            reply = await server.request("GET", prefix + path)
            assert (reply.status, reply.data) == (200, {"status": "ok"})


async def test_health_tells_version_and_uptime(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    clock.advance(3 * 86_400 + 4 * 3600 + 5 * 60 + 6)
    assert (await server.request("GET", "/health")).data == {
        "status": "ok",
        "service": "chatapi",
        "version": __version__,
        "uptime": "3d 4h 5m 6s",
        "uptime_seconds": 273_906,
        "db_writable": True,
        "search": {"enabled": True, "lag": 0},
    }


async def count_writes(server: Server) -> int:
    rows = await server.services.store.readers.fetch("SELECT value FROM meta WHERE name = 'heartbeat'", {})
    return int(rows[0][0]) if rows else 0


async def test_a_real_write_is_tried_once_a_second(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    written = [await count_writes(server)]
    for step_seconds in (0, 0.5, 0.6, 0.5):
        clock.advance(step_seconds)
        assert (await server.request("GET", "/health")).status == 200
        written.append(await count_writes(server))
    assert written[0] == 0
    assert written[1] == written[2] < written[3] == written[4]


async def test_health_notices_a_database_that_refuses_and_one_that_heals(start_server: StartServer) -> None:
    clock = HandClock()
    server = await start_server(clock=clock)
    store = server.services.store
    await store.writer.change(lambda transaction: transaction.fetch("PRAGMA query_only = ON", {}))
    reply = await server.request("GET", "/health")
    assert (reply.status, reply.error["code"]) == (503, "INTERNAL_ERROR")
    assert (reply.error["details"]["status"], reply.error["details"]["db_writable"]) == ("error", False)
    assert (await server.request("GET", "/health")).status == 503
    assert (await server.request("GET", "/readyz")).status == 503
    assert (await server.request("GET", "/livez")).status == 200
    await store._connection.execute_fetchall("PRAGMA query_only = OFF")
    clock.advance(1)
    assert (await server.request("GET", "/health")).data["db_writable"] is True
    assert (await server.request("GET", "/readyz")).status == 200


async def test_a_database_that_heals_is_noticed_though_nobody_comes(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("chatapi.housekeeping.HEARTBEAT_SECONDS", 0.01)
    server = await start_server()
    store = server.services.store
    await store.writer.change(lambda transaction: transaction.fetch("PRAGMA query_only = ON", {}))
    assert (await server.user("alice").post("/rooms", {"type": "group"})).status == 503
    await eventually(lambda: "housekeeping has to wait" in caplog.text)
    assert (await server.request("GET", "/readyz")).status == 503
    await store._connection.execute_fetchall("PRAGMA query_only = OFF")
    await eventually(lambda: store.writer.writable)
    assert (await server.request("GET", "/readyz")).status == 200


async def test_server_that_is_closing_is_not_ready(start_server: StartServer) -> None:
    server = await start_server()
    server.services.health.is_draining = True
    reply = await server.request("GET", "/readyz")
    assert (reply.status, reply.error["code"]) == (503, "INTERNAL_ERROR")
    assert (await server.request("GET", "/livez")).status == 200
    reply = await server.refused_handshake(headers=server.user("alice").headers)
    assert (reply.status, reply.error["code"]) == (503, "INTERNAL_ERROR")
    server.services.health.is_draining = False
