"""Regressions that fit no other file: what a review of the whole core has found."""

import asyncio

import pytest
from conftest import StartServer
from driver import eventually


async def test_who_fails_to_come_back_is_told_offline_once(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that ends before its `ready` left two graces running; the second one forgot a newer session."""
    server = await start_server({"websocket.presence_grace_seconds": 0.3})
    alice, bob = server.user("alice"), server.user("bob")
    await bob.make_room("alice")
    watcher = await bob.connect()
    socket = await alice.connect()
    await watcher.expect("presence.update", status="online")
    await socket.close()
    await eventually(lambda: not server.connections_of("alice"))
    await asyncio.sleep(0.1)

    async def fail(_connection: object) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr(server.services.recovery, "enter_rooms", fail)
        await (await alice.connect(ready=False)).close_code()
    await watcher.expect("presence.update", status="offline")
    socket = await alice.connect()
    await watcher.expect("presence.update", status="online")
    await asyncio.sleep(0.3)
    await watcher.expect_nothing("presence.update")
    await socket.close()
