import asyncio
import contextlib
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio
from blockbuster import BlockBuster
from driver import Server, StartServer, eventually
from hypothesis import HealthCheck, settings
from npm import install_packages
from receiver import Receiver, open_receiver

from chatapi.app import start_app
from chatapi.clock import Clock
from chatapi.config import load_config
from chatapi.dev_clock import DevClock
from chatapi.dev_tools import DevTools
from chatapi.store import open_store

if TYPE_CHECKING:
    from installation import Installation
    from playwright.sync_api import Browser

# Python keeps compiled modules, also if the environment says otherwise, as in many containers: the tests start about
# fifty servers as processes, and each would spend most of its time on compiling the package.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A busy machine is no bug of ours. `.ci/run` chooses "ci", which tries many more examples.
settings.register_profile("chatapi", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=30)
settings.register_profile("ci", settings.get_profile("chatapi"), max_examples=100)
settings.load_profile("chatapi")

TESTS = Path(__file__).parent
LEFT_OUT = re.compile(r"^pytestmark = .*\bmark\.(?:slow|bench|browser|deploy|release)\b", re.MULTILINE)
OLDEST_NODE = 20  # that the JavaScript SDK promises to run on

MEMORY = "/dev/shm"
"""Where the commits of the default tests wait for no disk. Slow tests use a real one, and so do those that measure."""
ROOM_BYTES = 1 << 28  # the default tests hold up to 60 MB at a time

MASTER_KEY = "master-key-of-the-tests-0123456789"


def mark_slow(values: Iterable[str], *, but: Collection[str]) -> list[Any]:
    """The values as parameters, those that are not in `but` slow."""
    return [pytest.param(value, marks=() if value in but else pytest.mark.slow) for value in values]


def pytest_configure() -> None:
    """A run in the background, or under nohup, begins with signals ignored, and so would the servers that it starts."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads it
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Shares the default run among processes, and keeps its files in memory. Tests that are named, and those of another
    marker, which may measure or drive a browser, have the machine for themselves; `-n` says otherwise. pytest-cov has
    to be told on the command line: it has looked already."""
    if hasattr(config, "workerinput"):  # a worker reads these lines too: it must not have workers of its own
        return
    if is_default(config) and has_space(MEMORY):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)
    is_whole = config.args_source is not pytest.Config.ArgsSource.ARGS and not config.option.keyword
    is_open = config.getoption("numprocesses", 0) is None and not config.getoption("cov_source", None)
    if is_default(config) and is_whole and is_open:
        config.option.numprocesses = "auto"
        config.option.dist = "worksteal"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """One more for the default run than there are processors: its tests wait about a third of their time."""
    return (os.cpu_count() or 1) + 1 if is_default(config) else None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Modules of which the default run leaves out all tests are not even imported: Playwright, Django and the like take
    a second in each worker."""
    return True if is_default(config) and is_left_out(collection_path) else None


@cache
def is_left_out(module: Path) -> bool:
    return module.suffix == ".py" and bool(LEFT_OUT.search(module.read_text(encoding="utf-8")))


def pytest_collectstart(collector: pytest.Collector) -> None:
    """In a fresh checkout pytest compiles every test module, and would in each worker. Each begins at another one, and
    finds those compiled that the others began with: a third of the work. One that cannot be imported is reported when
    its tests are collected."""
    worker = getattr(collector.config, "workerinput", None)
    if worker is None or collector.path != TESTS:
        return
    modules = sorted(TESTS.rglob("test_*.py"))
    first = len(modules) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
    for module in (*modules[first:], *modules[:first]):
        if is_default(collector.config) and is_left_out(module):
            continue
        if str(module.parent) not in sys.path:
            sys.path.insert(0, str(module.parent))
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(module.stem)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test with `shared_server` runs in that server's event loop."""
    for item in items:
        if "shared_server" in getattr(item, "fixturenames", ()):
            item.add_marker(
                pytest.mark.asyncio(loop_scope="session"), append=False
            )  # before that of the automatic mode


def is_default(config: pytest.Config) -> bool:
    return config.option.markexpr in config.getini("addopts")


def has_space(directory: str) -> bool:
    """Containers often have 64 MB there, in which no program can be run."""
    try:
        system = os.statvfs(directory)
    except OSError:  # only Linux has it
        return False
    return system.f_bavail * system.f_frsize >= ROOM_BYTES and not system.f_flag & os.ST_NOEXEC


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, migrated once: a copy takes a fraction of the time of the migrations."""
    path = tmp_path_factory.mktemp("template") / "chatapi.db"

    async def make() -> None:
        store = await open_store(str(path), synchronous="full", readers=1, clock=Clock())
        await store.close()

    asyncio.run(make())
    return path


@dataclass(frozen=True)
class Template:
    path: Path
    api_key: str


@pytest.fixture(scope="session")
def template(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Template:
    """A database with the tenant that every test has. A server has made it, as each test's own would: 6 ms a test."""
    path = tmp_path_factory.mktemp("tenant") / "chatapi.db"
    shutil.copy(migrated_database, path)

    async def make() -> str:
        async with aiohttp.ClientSession() as session:
            flags = {"server.port": 0, "database.path": str(path), "auth.master_key": MASTER_KEY}
            app = await start_app(load_config(None, {}, flags).config, clock=Clock(), dev=None, on_crash=pytest.fail)
            tenant = await Server(app, session, MASTER_KEY).make_tenant()
        await app.close()
        return str(tenant["api_key"])

    template = Template(path, asyncio.run(make()))
    assert [file.name for file in path.parent.iterdir() if file.name.startswith(path.name + "-")] == []
    return template


@pytest.fixture
def database(template: Template, tmp_path: Path) -> Path:
    path = tmp_path / "chatapi.db"
    shutil.copy(template.path, path)
    return path


def make_flags(database: Path) -> dict[str, object]:
    """Settings of a server whose limits are in no test's way."""
    return {
        "server.port": 0,
        "database.path": str(database),
        "auth.master_key": MASTER_KEY,
        "limits.rate_limit": 100_000,
        "limits.user_rate_limit": 100_000,
        "websocket.presence_grace_seconds": 0.1,
    }


@pytest.fixture(scope="session")
def blocking() -> BlockBuster:
    """While it is active, a call of ours that blocks the loop raises in it."""
    blocking = BlockBuster(["chatapi"])
    blocking.functions["os.stat"].can_block_in("chatapi/store/file.py", {"is_there"})
    for name in ("io.BufferedReader.read", "io.FileIO.read", "os.read"):  # the kernel has it in memory
        if name in blocking.functions:
            blocking.functions[name].can_block_in("chatapi/memory_left.py", {"_read_limit", "read", "_read_machine"})
    return blocking


@pytest.fixture
async def start_server(database: Path, template: Template, blocking: BlockBuster) -> AsyncIterator[StartServer]:
    """Starts servers in this process: `await start_server({"limits.sync_limit": 2}, dev=True, clock=...)`.

    Each uses the test's database, in which a tenant is, so the last one must be closed (`await server.app.close()`)
    before another starts.
    """
    async with aiohttp.ClientSession() as session:
        servers: list[Server] = []
        crashed: list[str] = []

        async def start(
            settings: dict[str, object] | None = None, *, dev: bool = False, clock: Clock | None = None
        ) -> Server:
            flags = {**make_flags(database), "webhooks.allow_private_addresses": dev, **(settings or {})}
            tools = DevTools(DevClock()) if dev else None
            clock = tools.clock if tools else clock or Clock()
            blocking.deactivate()  # active since the start of the server before
            config = load_config(os.devnull, {}, flags).config  # else it would read chatapi.toml of the source tree
            app = await start_app(config, clock=clock, dev=tools, on_crash=crashed.append)
            blocking.activate()
            server = Server(app, session, MASTER_KEY)
            server.api_key = template.api_key
            servers.append(server)
            return server

        yield start
        await session.close()
        for server in servers:
            await server.hang_up()
        blocking.deactivate()  # the start and the end may wait for files
        for server in servers:
            await _close(server)
        assert not crashed
        # What aiohttp has cancelled may need a turn to end.
        await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def lasting_server(template: Template, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """For `shared_server` alone."""
    path = tmp_path_factory.mktemp("shared") / "chatapi.db"
    shutil.copy(template.path, path)
    config = load_config(os.devnull, {}, make_flags(path)).config
    crashed: list[str] = []
    async with aiohttp.ClientSession() as session:
        app = await start_app(config, clock=Clock(), dev=None, on_crash=crashed.append)
        yield Server(app, session, MASTER_KEY)
        await session.close()
        await app.close()
    assert not crashed


@pytest_asyncio.fixture(loop_scope="session")
async def shared_server(lasting_server: Server, blocking: BlockBuster) -> AsyncIterator[Server]:
    """A tenant of the test's own, on a server that many tests share: for those that ask it something, such as what it
    refuses, and neither set it up nor look into it. To start one takes longer than most of them."""
    server = Server(lasting_server.app, lasting_server.session, MASTER_KEY)
    server.api_key = str((await server.make_tenant())["api_key"])
    server.services.auth._wrong_keys.clear()  # those of the tests before: their address has only 20 a minute
    blocking.activate()
    yield server
    await server.leave()
    await eventually(lambda: not server.services.hub.connections)
    blocking.deactivate()


async def _close(server: Server) -> None:
    """Guards for every test: nothing is left behind."""
    services = server.services
    if not services.health.is_draining:
        await eventually(lambda: not services.store.writer and not services.store._connection.in_transaction)
        await server.app.close()
    assert not services.hub.connections
    assert not len(services.tasks)
    assert not len(server.app.tasks)


@pytest.fixture
async def server(start_server: StartServer) -> Server:
    """A server with one tenant."""
    return await start_server()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """An endpoint for webhooks."""
    async with open_receiver() as opened:
        yield opened


@pytest.fixture(scope="session")
def document_tools() -> None:
    """The packages of tests/documents/package.json."""
    install_packages(TESTS / "documents")


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Installation"]:
    from installation import install  # which reads the document, and only tests of it need

    with install(tmp_path_factory.mktemp("machine"), tmp_path_factory.mktemp("shared")) as installation:
        yield installation


@pytest.fixture
def installed(installation: "Installation") -> Iterator["Installation"]:
    """A server that was installed as docs/operations.md says, on a machine of its own."""
    yield installation
    installation.start_over()


@pytest.fixture(scope="session")
def node_packages() -> None:
    """The packages of tests/js/package.json."""
    version = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout
    assert int(re.match(r"v(\d+)", version)[1]) >= OLDEST_NODE, f"the SDK needs Node {OLDEST_NODE}, this is {version}"
    install_packages(TESTS / "js")


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from browser_rig import open_browser  # which imports Playwright, and only tests in a browser need

    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def axe() -> str:
    from accessibility import read_axe  # as above

    return read_axe()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate of `localhost` and its key, as files."""
    directory = tmp_path_factory.mktemp("tls")
    names = str(directory / "cert.pem"), str(directory / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    subprocess.run([*command, *subject, "-out", names[0], "-keyout", names[1]], check=True, capture_output=True)
    return names
