"""Nothing that a client does leaves a traceback in the log, or ends the server."""

import asyncio
import contextlib
import re
from pathlib import Path

import pytest
from fuzz import Client, Fuzz, play
from server_process import ServerProcess

AT_ONCE = 40
TROUBLE = re.compile(
    r"Traceback|never retrieved|was destroyed but|Exception in|Unhandled|Fatal error|Warning:| error |cut off"
)
SETTINGS = {"limits.connections_per_user": "1000", "limits.slow_consumer_seconds": "0.5", "log.level": "info"}


async def play_all(clients: list[Client], port: int) -> None:
    slots = asyncio.Semaphore(AT_ONCE)

    async def take_turn(client: Client) -> None:
        async with slots:
            await play(client, port)

    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(take_turn(client))


def wait_for_answer(process: ServerProcess, key: str) -> None:
    """It may have many left whom it has not yet got round to."""
    for _ in range(6):
        with contextlib.suppress(TimeoutError):
            assert process.call("GET", "/rooms", key=key, user="alice")["rooms"]
            return
    raise AssertionError("no answer for a minute")


@pytest.mark.parametrize(
    ("count", "debug"),
    [
        pytest.param(250, True, id="short"),
        pytest.param(4_000, True, id="long, asyncio's checks on", marks=pytest.mark.slow),
        pytest.param(8_000, False, id="long", marks=pytest.mark.slow),
    ],
)
def test_no_client_can_put_a_traceback_into_the_log(tmp_path: Path, count: int, debug: bool) -> None:
    with ServerProcess(tmp_path, SETTINGS, debug=debug) as process:
        key = process.create_tenant("fuzz")
        room = process.call("POST", "/rooms", {"type": "group", "members": ["bob"]}, key=key, user="alice")
        fuzz = Fuzz(count, key, room["room_id"])
        asyncio.run(play_all([fuzz.make_client() for _ in range(count)], process.port))
        wait_for_answer(process, key)
        process.stop()
        lines = process.log.read_text(errors="replace").splitlines()
        assert [line for line in lines if TROUBLE.search(line)] == []
