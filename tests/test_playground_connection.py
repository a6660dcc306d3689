"""The playground says why it has no connection, and tries again when told to, looked at, or online again."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from browser_rig import UNREACHABLE, PaneOf, Tenant, panes
from playwright.sync_api import Browser, Page, Route, expect
from server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

TICKET = "**/v1/ws/token"
FAR_SECONDS = "50"  # far longer than any test waits: a connection that is back by then was told to try


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"limits.connections_per_user": "2"}
    with ServerProcess(tmp_path_factory.mktemp("connection"), settings, dev=False) as server:
        yield server


@pytest.fixture
def tenant(server: ServerProcess, request: pytest.FixtureRequest) -> Tenant:
    return Tenant(server, request.node.name[:100])


def refuse(status: int, code: str, message: str, **headers: str) -> Callable[[Route], None]:
    """Answers as the server does."""
    error = {"code": code, "message": message}
    body = json.dumps({"success": False, "data": None, "error": error})
    given = {"Content-Type": "application/json", "X-Request-Id": "test", **headers}
    return lambda route: route.fulfill(status=status, headers=given, body=body)


def answer_as_proxy(status: int) -> Callable[[Route], None]:
    return lambda route: route.fulfill(status=status, content_type="text/html", body="<h1>Bad gateway</h1>")


def reconnect(pane: PaneOf) -> None:
    pane.cut.click()
    expect(pane.state).to_have_attribute("data-state", "paused")
    pane.cut.click()


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (lambda route: route.abort(), "No answer from 127.0.0.1"),
        (answer_as_proxy(502), "Something other than ChatAPI answered"),
        (
            refuse(429, "RATE_LIMIT_EXCEEDED", "Too many requests", **{"Retry-After": FAR_SECONDS}),
            "A limit is reached (429)",
        ),
        (
            refuse(503, "INTERNAL_ERROR", "The server is shutting down"),
            "cannot serve this now (503): The server is shutting",
        ),
    ],
)
def test_the_reason_is_told(browser: Browser, tenant: Tenant, handler: Callable[[Route], None], reason: str) -> None:
    with tenant.visit(browser, excused=("net::ERR_", "status of")) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        page.route(TICKET, handler)
        reconnect(alice)
        expect(alice.notice).to_contain_text(reason)
        expect(alice.root.get_by_role("status").filter(has_text=reason)).to_have_count(1)  # and read out
        bob.expect_live()
        page.unroute(TICKET)
        alice.retry_now()
        alice.expect_live()
        expect(alice.notice).to_be_hidden()


@pytest.mark.parametrize("event", ["focus", "online"])
def test_it_tries_again_when_somebody_looks(browser: Browser, tenant: Tenant, event: str) -> None:
    with tenant.visit(browser, excused=("status of 429",)) as visitor:
        page = visitor.open()
        alice, _ = panes(page)
        page.route(TICKET, refuse(429, "RATE_LIMIT_EXCEEDED", "Too many", **{"Retry-After": FAR_SECONDS}))
        reconnect(alice)
        expect(alice.state).to_have_attribute("data-state", "waiting")
        expect(alice.notice).to_contain_text("Next try in")
        page.unroute(TICKET)
        page.evaluate("event => dispatchEvent(new Event(event))", event)
        alice.expect_live()


def test_a_connection_beyond_the_limit_says_so(browser: Browser, tenant: Tenant) -> None:
    with tenant.visit(browser, excused=("WebSocket connection to", "status of 4")) as visitor:
        for _ in range(2):
            panes(visitor.open())
        page = visitor.open()
        alice = PaneOf(page, "a")
        expect(alice.state).to_have_attribute("data-state", "waiting")
        expect(alice.notice).to_contain_text("A user may hold 2 connections")
        expect(alice.messages).to_have_count(0)  # REST works: the room is shown
        expect(alice.input).to_be_visible()


class HalfProxy(BaseHTTPRequestHandler):
    """Passes everything on but WebSockets, as a proxy does that was set up for web pages."""

    target = ""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "upgrade")}
        request = urllib.request.Request(self.target + self.path, body, headers, method=self.command)
        try:
            answer = urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            answer = error
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def half_proxy(server: ServerProcess) -> Iterator[str]:
    listener = ThreadingHTTPServer(("127.0.0.1", 0), type("Proxy", (HalfProxy,), {"target": server.url}))
    listener.daemon_threads = True
    thread = Thread(target=listener.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listener.server_port}"
    listener.shutdown()
    listener.server_close()
    thread.join()


def test_a_proxy_that_passes_no_websockets_on(browser: Browser, tenant: Tenant, half_proxy: str) -> None:
    with tenant.visit(browser, half_proxy, excused=("WebSocket connection to", "status of 426")) as visitor:
        page = visitor.open()
        alice = PaneOf(page, "a")
        expect(alice.notice).to_contain_text("a proxy in between passes no WebSockets on")
        expect(alice.notice).to_contain_text(half_proxy)
        expect(page.locator("#toast")).to_be_hidden()  # it is said once


def test_a_revoked_key_is_asked_for_again(browser: Browser, tenant: Tenant, server: ServerProcess) -> None:
    with tenant.visit(browser, excused=("status of 401",)) as visitor:
        page = visitor.open()
        alice, _ = panes(page)
        page.route(TICKET, refuse(401, "AUTHENTICATION_ERROR", "Invalid API key"))
        reconnect(alice)
        expect(page.locator("#setup")).to_be_visible()
        expect(page.locator("#setup").get_by_role("alert")).to_contain_text("refused this key (401)")


def begin_without(page: Page, handler: Callable[[Route], None]) -> None:
    page.route("**/v1/**", handler)
    page.reload()


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (lambda route: route.abort(), "No answer from 127.0.0.1"),
        (answer_as_proxy(404), "Something other than ChatAPI answered"),
        (refuse(503, "INTERNAL_ERROR", "The database cannot be written"), "The database cannot be written"),
    ],
)
def test_a_page_that_cannot_begin_says_why(
    browser: Browser, tenant: Tenant, handler: Callable[[Route], None], reason: str
) -> None:
    with tenant.visit(browser, excused=("net::ERR_", "status of")) as visitor:
        page = visitor.open()
        panes(page)
        begin_without(page, handler)
        expect(page.locator(".trouble").get_by_role("alert")).to_contain_text(reason)
        page.unroute("**/v1/**")
        page.locator(".trouble").get_by_role("button", name="Retry now").click()
        panes(page)
        expect(page.locator(".trouble")).to_have_count(0)


def test_the_server_is_shown(browser: Browser, tenant: Tenant, server: ServerProcess) -> None:
    with tenant.visit(browser, excused=UNREACHABLE) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        health = page.locator("#server")
        expect(health).to_contain_text("healthy")
        version = page.evaluate("fetch('/health').then(answer => answer.json()).then(({ data }) => data.version)")
        expect(health).to_contain_text(version)
        server.kill()
        try:
            expect(health).to_contain_text("no answer")
            expect(alice.notice).to_contain_text("No answer from")
            alice.say("while it was away")
        finally:
            server.start()
        alice.retry_now()
        bob.expect_live()
        bob.expect_contents(["while it was away"])
        expect(health).to_contain_text("healthy")
