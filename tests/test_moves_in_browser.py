"""Pages go on while their tenant moves to another server: the web component, React's hooks, and the playground."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from browser_rig import DESKTOP, PaneOf, open_browser
from playwright.sync_api import Browser, BrowserContext, Page, expect
from react_app import HERE, address, build, make_project, serve
from server_process import Mover, ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # A page that the test itself answers may then call this machine.
    with open_browser("--disable-features=BlockInsecurePrivateNetworkRequests,LocalNetworkAccessChecks") as browser:
        yield browser


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """The second one allows the pages of the first one."""
    one = ServerProcess(tmp_path_factory.mktemp("one"), dev=False)
    allowed = {"server.allowed_origins": json.dumps([one.url])}
    with one, ServerProcess(tmp_path_factory.mktemp("two"), allowed, dev=False) as two:
        yield one, two


class Moving:
    """A tenant with a room of alice and bob, which begins on the first server."""

    def __init__(self, servers: tuple[ServerProcess, ServerProcess], name: str) -> None:
        self.one, self.two = self.servers = servers
        self.mover = Mover(*servers)
        made = self.one.make_tenant(name)
        self.tenant_id, self.key = made["tenant_id"], made["api_key"]
        self.at = self.one
        room = self.call("POST", "/rooms", {"type": "group", "name": "General", "members": ["alice"]})
        self.room_id = room["room_id"]
        self.token = self.call("POST", "/tokens", {"user_id": "alice"})["token"]

    def call(self, method: str, path: str, body: dict[str, object] | None = None) -> dict[str, Any]:
        return self.at.call(method, path, body, key=self.key, user="bob")

    def say(self, text: str) -> None:
        self.call("POST", f"/rooms/{self.room_id}/messages", {"content": text})

    def contents(self) -> list[str]:
        return [one["content"] for one in self.call("GET", f"/rooms/{self.room_id}/messages")["messages"]]

    def move(self) -> None:
        self.mover.move(self.tenant_id)
        self.at = self.two if self.at is self.one else self.one


@pytest.fixture
def moving(servers: tuple[ServerProcess, ServerProcess], request: pytest.FixtureRequest) -> Moving:
    return Moving(servers, request.node.name[:60])


@contextmanager
def open_context(browser: Browser) -> Iterator[BrowserContext]:
    """No page of it throws an error that nobody takes."""
    context = browser.new_context(viewport=DESKTOP)
    uncaught: list[str] = []
    context.on("weberror", lambda error: uncaught.append(str(error.error)))
    yield context
    context.close()
    assert uncaught == []


def test_the_component_goes_there_and_back(browser: Browser, moving: Moving) -> None:
    """With what was being written, and what came meanwhile; nothing twice."""
    page_of = (
        '<!doctype html><html lang="en"><title>A page</title><script type="module" src="/sdk/room.js"></script>'
        f'<chatapi-room room="{moving.room_id}" token="{moving.token}"></chatapi-room>'
    )
    with open_context(browser) as context:
        context.route("**/app/chat", lambda route: route.fulfill(body=page_of, content_type="text/html"))
        page = context.new_page()
        page.goto(f"{moving.one.url}/app/chat")
        contents, state = page.locator(".messages:not(.drafts) .message .content"), page.locator(".state")
        box = page.locator("textarea")
        expect(state).to_have_attribute("data-state", "live")
        said: list[str] = []
        for text in ("here", "there", "here again"):
            moving.say(f"bob, {text}")
            box.fill(f"alice, {text}")
            box.press("Enter")
            said += [f"bob, {text}", f"alice, {text}"]
            expect(contents).to_have_text(said)
            moving.move()
        expect(state).to_have_attribute("data-state", "live")
        assert moving.contents() == said


def test_the_component_names_the_server_that_it_cannot_reach(browser: Browser, moving: Moving) -> None:
    """The policy of the page names the old one alone."""
    page_of = (
        '<!doctype html><html lang="en"><title>A page</title>'
        f'<script type="module" src="{moving.one.url}/sdk/room.js"></script>'
        f'<chatapi-room room="{moving.room_id}" token="{moving.token}"></chatapi-room>'
    )
    policy = f"default-src 'none'; script-src {moving.one.url}; connect-src {moving.one.url} ws://{moving.one.url[7:]}"
    with open_context(browser) as context:
        headers = {"Content-Type": "text/html", "Content-Security-Policy": policy}
        context.route("**/app/chat", lambda route: route.fulfill(body=page_of, headers=headers))
        page = context.new_page()
        page.goto(f"{moving.one.url}/app/chat")
        expect(page.locator(".state")).to_have_attribute("data-state", "live")
        moving.move()
        expect(page.locator(".notice")).to_contain_text(f"No answer from {moving.two.url.removeprefix('http://')}")


def test_the_hooks_of_react_go_there_and_back(
    browser: Browser, moving: Moving, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("react")
    make_project(folder)
    (folder / "page.jsx").write_text((HERE / "page.jsx").read_text())
    dist = build(folder, "page.jsx")
    with open_context(browser) as context:
        serve(context, dist)
        page = context.new_page()
        page.goto(moving.one.url + address("page", token=moving.token, rooms=[moving.room_id]))
        texts, state = page.locator("li .text"), page.locator("output.state")
        expect(state).to_have_text("live")
        said: list[str] = []
        for text in ("here", "there", "here again"):
            moving.say(f"bob, {text}")
            page.get_by_role("button", name="send", exact=True).click()
            said += [f"bob, {text}", "mine"]
            expect(texts).to_have_text(said)
            expect(page.locator("li[data-status=sent]")).to_have_count(len(said))
            moving.move()
        expect(state).to_have_text("live")
        assert moving.contents() == said


def open_playground(context: BrowserContext, moving: Moving) -> Page:
    kept = json.dumps(json.dumps({"apiKey": moving.key, "a": "alice", "b": "bob"}))
    context.add_init_script(f"if (location.host) sessionStorage['chatapi-playground'] ??= {kept}")
    page = context.new_page()
    page.goto(f"{moving.one.url}/playground")
    return page


def test_the_playground_says_where_the_tenant_is_and_comes_back_with_it(browser: Browser, moving: Moving) -> None:
    """A page of the playground calls its own server alone. It is told over its connections, and when it begins."""
    with open_context(browser) as context:
        page = open_playground(context, moving)
        pane = PaneOf(page, "a")
        pane.expect_live()
        expect(pane.room).not_to_be_empty()  # before that, nothing can be sent
        pane.say("here")
        pane.expect_contents(["here"])
        moving.move()
        trouble = page.locator(".trouble")
        for _ in ("over its connections", "when it begins"):
            expect(trouble).to_contain_text(f"The tenant has moved to another server: {moving.two.url}")
            expect(trouble.get_by_role("link")).to_have_attribute("href", f"{moving.two.url}/playground")
            page.reload()
        with context.expect_page() as opened:
            trouble.get_by_role("link").click(modifiers=["ControlOrMeta"])
        there = PaneOf(opened.value, "a")  # which has the key already, as after it was asked for
        there.expect_contents(["here"])
        there.say("there")
        there.expect_contents(["here", "there"])
        moving.move()
        expect(opened.value.locator(".trouble")).to_contain_text(moving.one.url)
        page.evaluate("dispatchEvent(new Event('online'))")  # it tries by itself, too, the later the longer it waits
        pane.expect_contents(["here", "there"])
