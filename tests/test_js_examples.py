"""The JavaScript of README and of the SDK's own page, as it stands: in Chromium and under Node."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from examples import ROOT, example
from playwright.sync_api import Browser, Page, sync_playwright
from server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

FIRST = example("README.md", "js")
IN_A_PAGE = example("chatapi/web/sdk/README.md", "js", "getToken")
IN_NODE = example("chatapi/web/sdk/README.md", "js", "WebSocket from")
JS = Path(__file__).parent / "js"
ORIGIN = "https://app.example.com"
LARGE = "x" * 65_530
PATIENCE_MS = 40_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, {"server.allowed_origins": f'["{ORIGIN}"]'}, dev=False) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    # A page of https may then use the server of http on this machine, as one behind a proxy is used.
    flags = ["--no-sandbox", "--disable-features=BlockInsecurePrivateNetworkRequests,LocalNetworkAccessChecks"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=flags, headless=True)
        yield browser
        browser.close()


class Talk:
    """Bob, and the page's user carol, in one room."""

    def __init__(self, server: ServerProcess) -> None:
        self.server, self.key = server, server.create_tenant("acme")
        room = {"type": "group", "members": ["carol", "support-bot"]}
        self.room_id = server.call("POST", "/rooms", room, key=self.key, user="bob")["room_id"]
        self.token = server.call("POST", "/tokens", {"user_id": "carol"}, key=self.key, user="bob")["token"]

    def say(self, text: str) -> None:
        path = f"/rooms/{self.room_id}/messages"
        self.server.call("POST", path, {"content": text}, key=self.key, user="bob")

    def history(self) -> list[dict[str, Any]]:
        path = f"/rooms/{self.room_id}/messages"
        return list(self.server.call("GET", path, key=self.key, user="bob")["messages"])


def open_page(browser: Browser, origin: str, script: str, token: str) -> tuple[Page, list[str]]:
    """A page of this origin with the script in it, and what that logs. No request leaves this machine."""
    page = browser.new_page()
    lines: list[str] = []
    page.on("console", lambda message: lines.append(message.text))
    page.on("pageerror", lambda error: lines.append(f"uncaught: {error}"))
    html = f'<!doctype html><link rel="icon" href="data:,"><script type="module">{script}</script>'
    page.route(f"{origin}/", lambda route: route.fulfill(body=html, content_type="text/html"))
    page.route(f"{origin}/my-backend/chat-token", lambda route: route.fulfill(body=token))
    page.goto(f"{origin}/")
    return page, lines


def wait_for(page: Page, lines: list[str], text: str) -> None:
    while not any(text in line for line in lines):
        lines_before = len(lines)
        page.wait_for_event("console", timeout=PATIENCE_MS)
        assert len(lines) > lines_before


def test_readmes_first_lines_in_a_page_of_the_server(browser: Browser, server: ServerProcess) -> None:
    talk = Talk(server)
    script = FIRST.replace(", token }", f', token: "{talk.token}" }}').replace(
        "console.log(event)", "console.log(JSON.stringify(event))"
    )
    page, lines = open_page(browser, server.url, script, talk.token)
    talk.say("Hello, Carol")
    wait_for(page, lines, "Hello, Carol")


def test_the_sdks_page_of_another_origin(browser: Browser, server: ServerProcess) -> None:
    talk = Talk(server)
    page, lines = open_page(browser, ORIGIN, IN_A_PAGE.replace("https://chat.example.com", server.url), talk.token)
    wait_for(page, lines, "carol Hello")
    talk.say("Hello, Carol")
    wait_for(page, lines, "bob Hello, Carol")
    assert any(line.startswith("live") for line in lines)


@pytest.mark.usefixtures("node_packages")
def test_the_bot_under_node(server: ServerProcess, tmp_path: Path) -> None:
    talk = Talk(server)
    modules = tmp_path / "node_modules"
    modules.mkdir()
    (modules / "ws").symlink_to(JS / "node_modules" / "ws")
    (modules / "chatapi-js").symlink_to(ROOT / "chatapi/web/sdk")
    (tmp_path / "bot.mjs").write_text(IN_NODE.replace("http://127.0.0.1:8080", server.url))
    bot = subprocess.Popen(["node", "bot.mjs"], cwd=tmp_path, env={**os.environ, "CHATAPI_KEY": talk.key})
    try:
        talk.say(LARGE)  # whose echo would be too long
        talk.say("Hello?")
        while len(answers := [one["content"] for one in talk.history() if one["sender_id"] == "support-bot"]) < 2:
            assert bot.poll() is None
    finally:
        bot.kill()
        bot.wait()
    assert answers == [f"You said: {LARGE[:200]}", "You said: Hello?"]
