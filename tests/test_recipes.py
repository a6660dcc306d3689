"""The recipes of docs/recipes.md for backends, as they stand, under Django and FastAPI."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import uvicorn
from conftest import StartServer
from django.test import Client
from django_site import Site, make_site
from driver import Server, Socket, eventually
from examples import example

from chatapi.client import ChatAPI

pytestmark = pytest.mark.slow  # also because each process that collects it imports for 0.2 s

SHIPPING = example("docs/recipes.md", "python", "def tell_of_shipping")
FASTAPI = example("docs/recipes.md", "python", "FastAPI(lifespan=lifespan)")
LARGE = "x" * 65_530  # its echo is longer than a message may be


@pytest.fixture
async def tenant(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    server = await start_server()
    made = await server.make_tenant("shop")
    monkeypatch.setenv("CHATAPI_URL", server.url)
    monkeypatch.setenv("CHATAPI_KEY", made["api_key"])
    monkeypatch.setenv("CHATAPI_TENANT_ID", made["tenant_id"])
    monkeypatch.setenv("CHATAPI_TOKEN_SECRET", made["token_secret"])
    return SimpleNamespace(server=server, key=made["api_key"], tenant_id=made["tenant_id"])


@pytest.fixture(scope="session")
def site() -> Site:
    """Made outside the loop: Django insists."""
    site = make_site()
    site.template.write_text("the page")
    return site


async def test_django_gives_a_token_to_its_own_page_only(tenant: SimpleNamespace, site: Site) -> None:

    def visit() -> tuple[int, int, int, dict[str, str]]:
        browser = Client(enforce_csrf_checks=True)
        stranger = browser.post("/chat-token").status_code
        browser.force_login(site.user)
        assert browser.get("/").content == b"the page"
        foreign = browser.post("/chat-token").status_code
        read = browser.get("/chat-token").status_code
        own = browser.post("/chat-token", headers={"X-CSRFToken": browser.cookies["csrftoken"].value})
        return stranger, foreign, read, own.json()

    stranger, foreign, read, answer = await asyncio.to_thread(visit)
    assert (stranger, foreign, read) == (403, 403, 405)
    async with ChatAPI(tenant.server.url, token=answer["token"]) as chat:
        room = await chat.create_room("group")
    assert room["created_by"] == site.user_id


async def test_django_tells_of_an_order_once(tenant: SimpleNamespace) -> None:
    room_id = await tenant.server.user("shop", tenant.key).make_room("alice")
    names: dict[str, Any] = {}
    exec(SHIPPING, names)
    for _ in range(2):
        await asyncio.to_thread(names["tell_of_shipping"], SimpleNamespace(pk=7), room_id)
    history = await tenant.server.user("alice", tenant.key).get(f"/rooms/{room_id}/messages")
    assert [message["content"] for message in history.data["messages"]] == ["Order 7 is on its way"]


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's own module."""
    module = ModuleType("accounts")
    module.current_user_id = lambda: "carol"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "accounts", module)


@asynccontextmanager
async def serving_fastapi() -> AsyncIterator[str]:
    names: dict[str, Any] = {"__name__": "main"}
    exec(FASTAPI, names)
    web = uvicorn.Server(uvicorn.Config(names["app"], log_config=None, ws="none"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        running = asyncio.create_task(web.serve(sockets=[listening]))
        await eventually(lambda: web.started)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        web.should_exit = True
        await running


async def next_answer(alice: Socket) -> tuple[str, str | None]:
    while (frame := await alice.expect("message"))["sender_id"] != "helper":
        pass
    return frame["content"], frame["reply_to"]


@pytest.mark.usefixtures("accounts")
async def test_the_bot_of_fastapi_outlives_every_message(
    tenant: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    server: Server = tenant.server
    alice = server.user("alice", tenant.key)
    room_id, other_id = await alice.make_room("helper"), await alice.make_room("helper")
    listening = await alice.connect()
    async with serving_fastapi() as url:
        async with server.session.post(f"{url}/chat-token") as reply:
            assert (await reply.json())["user_id"] == "carol"
        large = await alice.say(room_id, LARGE)
        assert await next_answer(listening) == (f"You said: {LARGE[:200]}", large["message_id"])
        await server.admin("PATCH", f"/tenants/{tenant.tenant_id}", {"config": {"max_message_bytes": 20}})
        refused = await alice.say(room_id, "fifteen letters")  # the answer is too long
        small = await alice.say(other_id, "Hello")
        assert await next_answer(listening) == ("You said: Hello", small["message_id"])
    assert f"no answer to {refused['message_id']}" in caplog.messages


@pytest.mark.usefixtures("accounts")
async def test_a_bot_that_has_stopped_is_in_the_log(
    tenant: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(os.environ, "CHATAPI_KEY", "sk_wrong")
    async with serving_fastapi():
        await eventually(lambda: "the bot has stopped" in caplog.messages)
