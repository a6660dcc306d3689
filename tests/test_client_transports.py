"""The Python client where WebSockets do not pass: it takes Server-Sent Events, then long polls, and comes back."""

import asyncio
import inspect
from pathlib import Path

import pytest
from client_rig import PATIENCE_S, contents, make_rig
from driver import Server
from nginx import open_nginx
from proxy import FOREIGN_ANSWERS, Proxy

from chatapi.client import ChatAPI
from chatapi.client.poll_socket import PollSocket

REFUSED = FOREIGN_ANSWERS["text_426"]
QUICK = {"min_delay_s": 0.01, "max_delay_s": 0.05}


@pytest.mark.parametrize(("is_stream_refused", "transport"), [(False, "sse"), (True, "poll")])
async def test_it_falls_back_after_three_refused_upgrades_and_returns(
    server: Server, is_stream_refused: bool, transport: str
) -> None:
    with Proxy(server.port) as proxy:
        proxy.answer("GET", "/v1/ws", [REFUSED] * 3)
        if is_stream_refused:
            proxy.answer("GET", "/v1/events/stream", [FOREIGN_ANSWERS["html_502"]])
        async with make_rig(server.url, server.master_key) as rig:
            room = await rig.group("alice", "bob")
            transports: list[str] = []
            async with ChatAPI(proxy.url, api_key=rig.api_key, user_id="bob") as bob:
                connection = bob.connect(
                    **QUICK,  # type: ignore[arg-type]
                    on_state=lambda state: transports.append(connection.transport) if state == "live" else None,
                )
                async with connection:
                    events = aiter(connection)
                    seen: list[str] = []
                    async with asyncio.timeout(20):
                        while len(seen) < 2:
                            event = await anext(events)
                            if event["type"] == "sync.complete" and not seen:
                                await rig.client("alice").send_message(room, "one")
                                sent = await connection.send(room, "two")
                                assert sent["seq"] == 2
                            if event["type"] == "message":
                                seen.append(event["content"])
                        while connection.transport != "websocket" or connection.state != "live":
                            await anext(events)
                    assert seen == ["one", "two"]
            assert transports[0] == transport
            assert transports[-1] == "websocket"
        assert proxy.left == 0


@pytest.mark.parametrize(("upgrades", "calls"), [(6, 20), (3, 2)], ids=["away", "restarting"])
async def test_a_server_that_is_away_is_no_reason_to_change(server: Server, upgrades: int, calls: int) -> None:
    async with make_rig(server.url, server.master_key) as rig:
        with Proxy(server.port) as proxy:
            proxy.answer("GET", "/v1/ws", [REFUSED] * upgrades)
            proxy.answer("GET", "/v1/livez", [FOREIGN_ANSWERS["html_502"]] * calls)
            async with (
                asyncio.timeout(20),
                ChatAPI(proxy.url, api_key=rig.api_key, user_id="bob", retries=0) as bob,
                bob.connect(**QUICK) as connection,  # type: ignore[arg-type]
            ):
                assert connection.transport == "websocket"


async def test_only_known_transports_are_taken(server: Server) -> None:
    async with ChatAPI(server.url, api_key="k", user_id="u") as client:
        for transports in ((), ("carrier pigeon",)):
            with pytest.raises(ValueError, match="transports"):
                client.connect(transports=transports)  # type: ignore[arg-type]


async def test_a_call_that_is_cancelled_before_it_begins_leaves_nothing(server: Server) -> None:
    async def work() -> None: ...

    async with ChatAPI(server.url, api_key="k", user_id="u") as client:
        socket, call = PollSocket(client), work()
        socket.run(call)
        await socket.close()
        assert inspect.getcoroutinestate(call) == inspect.CORO_CLOSED


async def test_long_polls_tell_of_a_room_that_is_gone(server: Server) -> None:
    """Its streams are followed to the end of what can be heard of them."""
    async with asyncio.timeout(PATIENCE_S), make_rig(server.url, server.master_key) as rig:
        alice, rooms = rig.client("alice"), [await rig.group("alice", "bob") for _ in range(2)]
        inbox = await rig.connect("bob", transports=("poll",))
        growing = []
        for room in rooms:
            await alice.call("POST", f"/rooms/{room}/messages", body={"content": "x", "stream": True})
            growing.append(inbox.connection.follow((await inbox.messages(room, 1))[0]))
        await alice.delete_room(rooms[0])
        await inbox.until("room.deleted", room_id=rooms[0])
        await alice.remove_member(rooms[1], "bob")
        await inbox.until("member.left", room_id=rooms[1])
        for message in growing:
            assert (await message.finished())["stream"]["state"] == "open"
        assert not inbox.connection.cursors["rooms"].keys() & set(rooms)


@pytest.mark.deploy
async def test_behind_an_nginx_that_passes_no_upgrade_on(server: Server, tmp_path: Path) -> None:
    async with open_nginx(tmp_path, server.port) as url, make_rig(server.url, server.master_key) as rig:
        room = await rig.group("alice", "bob")
        async with ChatAPI(url, api_key=rig.api_key, user_id="bob") as bob:
            inbox = await rig.attach(bob, **QUICK)
            await rig.client("alice").send_message(room, "to bob")
            await inbox.messages(room, 1)
            assert (await inbox.connection.send(room, "from bob"))["seq"] == 2
            assert contents(await inbox.messages(room, 2)) == ["to bob", "from bob"]
            assert inbox.connection.transport == "sse"
            await inbox.connection.close()
