"""What the tests of the playground share: a browser, a server with a tenant for each test, and a pane's parts."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Locator, Page, TimeoutError, expect, sync_playwright
from server_process import ServerProcess

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
PATIENCE_MS = 40_000  # a restart of the server and the back-off included
GONE_MS = 3_000  # a part of the page that may have gone by itself is waited for
# What the browser itself says of a server that is away; 426 when it is back as the page asks why its WebSocket failed.
UNREACHABLE = ("net::ERR_", "WebSocket connection to", "status of 426")


@contextmanager
def open_browser(*flags: str) -> Iterator[Browser]:
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    assert executable, "these tests need Chromium"
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=[*FLAGS, *flags], headless=True)
        yield browser
        browser.close()


class Visitor:
    """A person with a browser profile of their own. What must never happen in any of its tabs is collected."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self.url = url
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        context.on("page", self._watch)

    def open(self, path: str = "/playground") -> Page:
        page = self.context.new_page()
        page.goto(self.url + path)
        return page

    def _watch(self, page: Page) -> None:
        page.on("console", lambda message: self._hear(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.on("websocket", lambda socket: self.hosts.add(urlsplit(socket.url).netloc))

    def _hear(self, kind: str, text: str) -> None:
        if kind == "error":
            self.complaints.append(text)


@contextmanager
def visit(browser: Browser, url: str, *, excused: tuple[str, ...] = (), **options: object) -> Iterator[Visitor]:
    """At the end: no request went elsewhere, and no error on the console but those whose text is `excused`."""
    context = browser.new_context(**{"viewport": DESKTOP, **options})  # type: ignore[arg-type]
    visitor = Visitor(context, url)
    yield visitor
    context.close()
    complaints = [text for text in visitor.complaints if not any(excuse in text for excuse in excused)]
    assert not complaints, complaints
    assert visitor.hosts == {urlsplit(url).netloc}


class Tenant:
    """A tenant of its own for one test: a server for each of them would take longer than the test."""

    def __init__(self, server: ServerProcess, name: str, a: str = "alice", b: str = "bob") -> None:
        self.server = server
        self.key = server.create_tenant(name)
        self.users = {"a": a, "b": b}

    def call(
        self, method: str, path: str, body: dict[str, object] | None = None, user: str = "alice"
    ) -> dict[str, Any]:
        return self.server.call(method, path, body, key=self.key, user=user)

    @contextmanager
    def visit(self, browser: Browser, url: str = "", **options: Any) -> Iterator[Visitor]:
        """With this tenant's key in every tab."""
        with visit(browser, url or self.server.url, **options) as visitor:
            kept = json.dumps(json.dumps({"apiKey": self.key, **self.users}))
            visitor.context.add_init_script(f"if (location.host) sessionStorage['chatapi-playground'] ??= {kept}")
            yield visitor


class PaneOf:
    def __init__(self, page: Page, slot: str) -> None:
        self.root = page.locator(f".pane[data-slot={slot}]")
        self.state = self.root.locator(".state")
        self.input = self.root.locator("textarea")
        self.own = self.root.locator(".messages:not(.drafts) .message.own")
        self.messages = self.root.locator(".messages:not(.drafts) .message")
        self.cut = self.root.locator(".pane-head .button")
        self.room = self.root.locator(".pane-room")
        self.notice = self.root.locator(".notice")

    def say(self, text: str) -> None:
        self.input.fill(text)
        self.input.press("Enter")

    def expect_live(self) -> None:
        expect(self.state).to_have_attribute("data-state", "live")

    def expect_contents(self, texts: list[str]) -> None:
        expect(self.messages.locator(".content")).to_have_text(texts)

    def contents(self) -> list[str]:
        return self.messages.locator(".content").all_inner_texts()

    def retry_now(self) -> None:
        """Presses the button, unless the page has tried again by itself before."""
        with suppress(TimeoutError):
            self.notice.get_by_role("button", name="Retry now").click(timeout=GONE_MS)

    def message(self, text: str) -> Locator:
        return self.messages.filter(has_text=text)


def panes(page: Page) -> tuple[PaneOf, PaneOf]:
    both = PaneOf(page, "a"), PaneOf(page, "b")
    for pane in both:
        pane.expect_live()
    expect(page.locator(".room[aria-current]")).to_have_count(1)
    return both


def open_room(page: Page, name: str) -> None:
    page.locator(".room").filter(has_text=name).click()
    expect(page.locator(".pane-room")).to_have_text([name, name])
