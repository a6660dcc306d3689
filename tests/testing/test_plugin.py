"""The pytest plugin, in runs of pytest of its own: the examples of docs/testing.md, each way of writing a test, and the
cost for those that do not use it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from examples import example, examples

EXAMPLES = examples("docs/testing.md", "python")
INI = example("docs/testing.md", "ini")
NEW_SITE = example("docs/testing.md", "sh", "startproject")
FILE = re.compile(r"^# (\S+)\n")
NOT_LOADED = ("cacheprovider", "schemathesis")  # the last takes 2 s to import; `chatapi` is, as an entry point
OTHER_PLUGINS = ("asyncio", "aiohttp", "anyio", "django", "hypothesispytest", "xdist", "pytest_cov")

OTHERS = """
import anyio
import pytest
from aiohttp import web

from chatapi.client import ChatAPI


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.anyio
async def test_with_anyio(chatapi):
    async with chatapi.client("alice") as alice, anyio.create_task_group() as tasks:
        tasks.start_soon(alice.create_room, "group")
    assert len(chatapi.user("alice").list_rooms()["rooms"]) == 1  # which holds this loop up, but not the server


async def say_hello(request):
    async with ChatAPI(request.app["url"], token=request.app["token"]) as chat:
        return web.json_response(await chat.send_message(request.match_info["room_id"], "Hello"))


@pytest.mark.asyncio
async def test_with_aiohttp(aiohttp_client, chatapi):
    app = web.Application()
    app["url"], app["token"] = chatapi.url, chatapi.token("alice")
    app.router.add_post("/{room_id}", say_hello)
    client = await aiohttp_client(app)
    async with chatapi.client("alice") as alice:
        room = await alice.create_room("group")
        answer = await client.post(f"/{room['room_id']}")
        [message] = (await alice.list_messages(room["room_id"]))["messages"]
    assert message == await answer.json()


SEEN = []


@pytest.mark.parametrize("number", range(4))
def test_each_worker_has_a_server_that_is_empty(chatapi, number, worker_id, record_testsuite_property):
    assert chatapi.user("alice").list_rooms()["rooms"] == []
    chatapi.user("alice").create_room("group")
    SEEN.append(chatapi.url)
    assert len(set(SEEN)) == 1
    print("server", worker_id, chatapi.url)
"""

OPTIONS = (
    "asyncio_mode=strict",
    "asyncio_default_fixture_loop_scope=function",
    "filterwarnings=error\nignore::aiohttp.web_exceptions.NotAppKeyWarning",
)

WRONG_SETTINGS = """
import pytest


@pytest.fixture(scope="session")
def chatapi_settings():
    return {"limits.rate_limit": "x"}
"""

UNUSED = """
import sys


def test_without_the_server():
    loaded = {name for name in sys.modules if name.partition(".")[0] == "chatapi"}
    assert loaded == {"chatapi", "chatapi.testing", "chatapi.testing.plugin"}
    assert not {"aiohttp", "msgspec", "orjson", "ssl"} & sys.modules.keys()
"""


def run_pytest(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_CORE_"))}
    plugins = [f"-pno:{name}" for name in NOT_LOADED]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, *arguments],
        cwd=directory,
        env=inherited,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


@pytest.mark.slow
def test_each_kind_of_test_has_a_server(tmp_path: Path) -> None:
    """All in one run, in two workers: the examples of the page, and the plugins that it names."""
    for command in NEW_SITE.splitlines()[1:]:
        words = shlex.split(command.replace("django-admin", "python -m django"))
        subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, check=True)
    for text in (*EXAMPLES, INI):
        [name] = FILE.findall(text)
        (tmp_path / name).write_text(text)
    (tmp_path / "test_others.py").write_text(OTHERS)
    ran = run_pytest(tmp_path, "-n", "2", "-rP", *(f"-o{option}" for option in OPTIONS))
    written = sum(text.count("def test_") for text in (*EXAMPLES, OTHERS)) + 3  # one has four numbers
    assert f"{written} passed" in ran.stdout, ran.stdout + ran.stderr
    assert ran.returncode == 0, ran.stdout
    servers = dict(re.findall(r"^server (gw\d) (\S+)$", ran.stdout, re.MULTILINE))
    assert len(set(servers.values())) == len(servers)


@pytest.mark.slow
def test_a_run_without_the_server_loads_nothing_for_it(tmp_path: Path) -> None:
    (tmp_path / "test_unused.py").write_text(UNUSED)
    ran = run_pytest(tmp_path, *(f"-pno:{name}" for name in OTHER_PLUGINS), "-q")
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow
def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(WRONG_SETTINGS)
    (tmp_path / "test_none.py").write_text("def test_none(chatapi):\n    pass\n")
    ran = run_pytest(tmp_path, "-q")
    assert ran.returncode == 1
    assert "the ChatAPI server did not start" in ran.stdout
    assert "CHATAPI_LIMITS_RATE_LIMIT" in ran.stdout
