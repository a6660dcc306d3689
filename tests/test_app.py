"""The composition root: a start that fails leaves nothing open."""

import asyncio
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import CodeType, FrameType

import pytest
from raw_websocket import WAIT_SECONDS

import chatapi
from chatapi import app as app_module
from chatapi import store as store_module
from chatapi import world as world_module
from chatapi.config import load_config
from chatapi.dev_clock import DevClock
from chatapi.dev_tools import DevTools
from chatapi.rest.listener import Listener
from chatapi.store.lock import DatabaseLock

PACKAGE = str(Path(chatapi.__file__).parent)
STARTING: set[CodeType] = {
    app_module.start_app.__code__,
    app_module.App.start.__code__,
    app_module.App._open_world.__code__,
    app_module.App._prepare_resets.__code__,
    app_module._listen.__code__,
    world_module.open_world.__code__,
    world_module._build_services.__code__,
    store_module.open_store.__code__,
    store_module._open_parts.__code__,
    Listener.listen_on_host.__code__,
    Listener.listen_at_path.__code__,
}
Step = tuple[str, int, str]
"""Something of ours that is called at a start: the starter, its line, and the name of what it calls."""


class Broken(Exception):
    """What the test makes a step raise."""


class Steps:
    """Notes the steps of a start as they come, and makes one of them fail."""

    def __init__(self, broken: Step | None = None) -> None:
        self.broken = broken
        self.seen: list[Step] = []

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        starter = frame.f_back
        if event != "call" or starter is None or starter.f_code not in STARTING:
            return
        step = (starter.f_code.co_name, starter.f_lineno, frame.f_code.co_name)
        if not frame.f_code.co_filename.startswith(PACKAGE) or step in self.seen:
            return
        self.seen.append(step)
        if step == self.broken:
            raise Broken


@pytest.fixture(params=["port", "unix socket"])
def flags(request: pytest.FixtureRequest, database: Path, tmp_path: Path) -> dict[str, object]:
    where = {"server.port": 0} if request.param == "port" else {"server.unix_socket": str(tmp_path / "sock")}
    return {"database.path": str(database), "database.readers": 1, **where}


async def start(flags: dict[str, object]) -> app_module.App:
    dev = DevTools(DevClock())
    config = load_config(None, {}, {**flags, "webhooks.allow_private_addresses": True}).config
    return await app_module.start_app(config, clock=dev.clock, dev=dev, on_crash=pytest.fail)


def list_descriptors() -> set[str]:
    descriptors = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            descriptors.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except FileNotFoundError:  # that of the listing itself
            continue
    return descriptors


@asynccontextmanager
async def nothing_left(database: str, what: object = None) -> AsyncIterator[None]:
    before, threads = list_descriptors(), set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - threads:
        if not thread.name.startswith("asyncio_"):  # the loop's own, which wait for more work
            thread.join(WAIT_SECONDS)  # aiosqlite's thread ends by itself once its connection is closed
            assert not thread.is_alive(), (what, thread)
    assert list_descriptors() == before, what
    assert asyncio.all_tasks() == {asyncio.current_task()}, what
    with DatabaseLock(database):
        pass


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's list of open files")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # a task that failed to start
async def test_a_start_that_fails_at_any_step_leaves_nothing_open(flags: dict[str, object]) -> None:
    database = str(flags["database.path"])
    steps = Steps()
    async with nothing_left(database):
        sys.setprofile(steps)
        try:
            app = await start(flags)
        finally:
            sys.setprofile(None)
        await app.close()
    called = {name for _starter, _line, name in steps.seen}
    assert called > {"open_store", "migrate", "_build_services", "load", "resume", "start_housekeeping", "_resume"}
    is_at_port = "server.port" in flags
    for step in [step for step in steps.seen if is_at_port or step[0] in ("_listen", "listen_at_path")]:
        async with nothing_left(database, step):
            sys.setprofile(Steps(step))
            try:
                with pytest.raises(Broken):
                    await start(flags)
            finally:
                sys.setprofile(None)


async def test_a_start_at_a_port_that_is_in_use_leaves_nothing_open(database: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        async with nothing_left(str(database)):
            with pytest.raises(OSError, match=f"port {port}: Address already in use"):
                await start({"database.path": str(database), "server.port": port})
