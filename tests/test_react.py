"""The React page of docs/recipes.md: in Chromium, on a page of Django's, against a server of another origin."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from django_site import Site, make_site
from examples import example
from playwright.sync_api import Page, expect, sync_playwright
from react_app import HERE, build, make_project
from server_process import ServerProcess, free_port

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

RECIPE = example("docs/recipes.md", "jsx", "useMessages")
PAGE = """<!doctype html><title>chat</title><link rel="icon" href="data:,">{%% verbatim %%}
<script id="rooms" type="application/json">%s</script><div id="root"></div><script type="module">%s</script>
{%% endverbatim %%}"""
PATIENCE_MS = 40_000


class QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Site, str]]:
    """Django's site, and its origin."""
    site = make_site()
    listener = make_server("127.0.0.1", free_port(), site.application, ThreadingServer, QuietHandler)
    thread = Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    yield site, f"http://127.0.0.1:{listener.server_port}"
    listener.shutdown()
    listener.server_close()
    thread.join()


class Friend:
    """Bob, who chats with the page's user in two rooms."""

    def __init__(self, server: ServerProcess, key: str, user_id: str) -> None:
        self.server, self.key = server, key
        room = {"type": "group", "members": [user_id]}
        self.rooms = [str(self.call("POST", "", room)["room_id"]) for _ in range(2)]

    def call(self, method: str, path: str, body: dict[str, object] | None = None) -> dict[str, Any]:
        return self.server.call(method, f"/rooms{path}", body or {}, key=self.key, user="bob")

    def say(self, room: int, text: str) -> str:
        """Its path."""
        path = f"/{self.rooms[room]}/messages"
        return f"{path}/{self.call('POST', path, {'content': text})['message_id']}"


def bundle(folder: Path, url: str) -> str:
    make_project(folder)
    (folder / "chat.jsx").write_text(RECIPE.replace("https://chat.example.com", url))
    shutil.copy(HERE / "recipe.jsx", folder)
    [script] = (build(folder, "recipe.jsx") / "assets").glob("*.js")
    return script.read_text().replace("</script", "<\\/script")


@pytest.fixture
def opened(site: tuple[Site, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Page, Friend]]:
    """The page, logged in, and its friend."""
    django, origin = site
    with ServerProcess(tmp_path, {"server.allowed_origins": f'["{origin}"]'}, dev=False) as server:
        tenant = server.make_tenant("acme")
        monkeypatch.setenv("CHATAPI_TENANT_ID", tenant["tenant_id"])
        monkeypatch.setenv("CHATAPI_TOKEN_SECRET", tenant["token_secret"])
        friend = Friend(server, tenant["api_key"], django.user_id)
        django.template.write_text(PAGE % (json.dumps(friend.rooms), bundle(tmp_path / "page", server.url)))
        with sync_playwright() as playwright:
            executable = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"], headless=True)
            expect.set_options(timeout=PATIENCE_MS)
            page = browser.new_page()
            complaints: list[str] = []
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
            page.goto(f"{origin}/enter")
            page.goto(origin)
            yield page, friend
            browser.close()
        assert complaints == []


def test_the_recipe_shows_a_room_as_it_stands(opened: tuple[Page, Friend]) -> None:
    page, friend = opened
    expect(page.locator("main")).to_be_visible()
    shown = page.locator("li")
    first = friend.say(0, "one")
    friend.say(0, "two")
    friend.say(1, "elsewhere")
    expect(shown).to_have_text(["one", "two"])
    friend.call("PUT", first, {"content": "one, edited"})
    expect(shown).to_have_text(["one, edited", "two"])
    friend.call("DELETE", first)
    expect(shown).to_have_text(["(deleted)", "two"])
    page.get_by_role("button", name="send").click()
    expect(shown).to_have_text(["(deleted)", "two", "from the page"])
    page.get_by_role("button", name="room 1").click()
    expect(shown).to_have_text(["elsewhere"])
    page.get_by_role("button", name="room 0").click()
    expect(shown).to_have_text(["(deleted)", "two", "from the page"])
