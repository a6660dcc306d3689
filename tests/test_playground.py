"""In a real browser: the playground with two tabs, cut connections and a restarting server; pages of other origins.

Screenshots are kept where PLAYGROUND_SCREENSHOTS says, else in the test's own temporary directory.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote

import pytest
from browser_rig import PHONE, UNREACHABLE, PaneOf, Tenant, panes, visit
from playwright.sync_api import Browser, expect
from server_process import ServerProcess

import chatapi

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

WRITE_HISTORY = """async (count) => {
  const { ChatAPI } = await import("/sdk/chatapi.js");
  const { apiKey, a } = JSON.parse(sessionStorage.getItem("chatapi-playground"));
  const client = new ChatAPI({ url: location.origin, apiKey, userId: a });
  const room = sessionStorage.getItem("chatapi-playground-room");
  for (let number = 0; number < count; number++) await client.sendMessage(room, `line ${number}`);
}"""
# A page of somebody's own application: it reads its token from the address and says in its title how it went.
FOREIGN_PAGE = """<!doctype html><title>waiting</title><link rel="icon" href="data:,"><script type="module">
try {
  const { url, sdk, token, room } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
  const { ChatAPI } = await import(sdk);
  const chat = new ChatAPI({ url, token, retries: 0 });
  const connection = chat.connect({ maxDelayMs: 100 });
  const states = [];
  connection.on("state", ({ state }) => states.push(state));
  const listed = await chat.listRooms().then(({ rooms }) => rooms.length, (error) => error.code);
  const sent = connection.send(room, "from another origin").then(({ seq }) => seq, (error) => error.code);
  const waited = new Promise((resolve) => setTimeout(resolve, 10_000, "no connection"));
  document.title = JSON.stringify({ listed, sent: await Promise.race([sent, waited]), live: states.includes("live") });
} catch (error) {
  document.title = `failed: ${error}`;
}
</script>"""

SWAGGER_MS = 90_000  # it draws a hundred operations, which takes half a minute on a busy machine


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, {"limits.sync_limit": "20"}) as server:
        yield server


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("lasting"), dev=False) as server:
        yield server


@pytest.fixture
def tenant(lasting: ServerProcess, request: pytest.FixtureRequest) -> Tenant:
    return Tenant(lasting, request.node.name[:100])


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    directory = Path(os.environ.get("PLAYGROUND_SCREENSHOTS", tmp_path / "screenshots"))
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def test_works_with_no_typing_at_all(browser: Browser, server: ServerProcess, screenshots: Path) -> None:
    with visit(browser, server.url) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        expect(page.locator(".room")).to_have_count(1)

        alice.say("Hello <img src=x onerror=alert(1)> & <b>you</b>")
        expect(bob.messages.locator(".content")).to_have_text("Hello <img src=x onerror=alert(1)> & <b>you</b>")
        expect(page.locator(".content img, .content b")).to_have_count(0)

        mark = alice.own.locator(".mark")
        expect(mark).to_have_attribute("data-mark", "delivered")
        bob.input.focus()
        expect(mark).to_have_attribute("data-mark", "read")

        bob.input.press_sequentially("An ans")
        expect(alice.root.locator(".typing")).to_have_text("bob is typing")
        bob.input.press_sequentially("wer")
        bob.input.press("Enter")
        expect(alice.root.locator(".typing")).to_have_text("")
        expect(alice.messages).to_have_count(2)

        alice.input.focus()
        alice.input.press("ArrowUp")
        alice.input.fill("Hello again")
        alice.input.press("Enter")
        expect(bob.message("Hello again").locator(".meta")).to_contain_text("edited")

        bob.message("Hello again").hover()
        bob.message("Hello again").get_by_role("button", name="Reply").click()
        bob.say("A reply")
        expect(alice.message("A reply").locator(".quote")).to_contain_text("Hello again")

        bob.message("An answer").hover()
        bob.message("An answer").get_by_role("button", name="Delete").click()
        expect(alice.messages.nth(1)).to_contain_text("Message deleted")
        page.screenshot(path=screenshots / "chat-light.png")
        page.get_by_role("button", name="Switch between light and dark").click()
        page.screenshot(path=screenshots / "chat-dark.png")


def test_cut_connection_catches_up(browser: Browser, server: ServerProcess, screenshots: Path) -> None:
    with visit(browser, server.url) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        bob.cut.click()
        expect(bob.state).to_have_attribute("data-state", "paused")
        missed = [f"missed {number}" for number in range(1, 31)]  # more than sync_limit: the gap has to be read as well
        for text in missed:
            alice.say(text)
        expect(alice.own).to_have_count(30)
        bob.say("written offline")
        expect(bob.root.locator(".drafts .message")).to_have_count(1)
        page.screenshot(path=screenshots / "cut.png")
        bob.cut.click()
        bob.expect_live()
        expect(bob.root.locator(".note.recovery")).to_contain_text("30 events recovered")
        bob.expect_contents([*missed, "written offline"])
        alice.expect_contents([*missed, "written offline"])
        expect(bob.root.locator(".drafts .message")).to_have_count(0)
        page.screenshot(path=screenshots / "recovered.png")


def test_two_tabs_one_goes_offline(browser: Browser, server: ServerProcess) -> None:
    with visit(browser, server.url) as first, visit(browser, server.url, excused=UNREACHABLE) as second:
        alice, _ = panes(first.open())
        away = second.open()
        _, bob = panes(away)
        alice.say("before")
        bob.expect_contents(["before"])
        second.context.set_offline(True)
        expect(bob.state).not_to_have_attribute("data-state", "live")
        for text in ("one", "two", "three"):
            alice.say(text)
        expect(alice.own).to_have_count(4)
        bob.say("from the tunnel")
        expect(bob.messages).to_have_count(1)
        second.context.set_offline(False)
        bob.expect_live()
        everything = ["before", "one", "two", "three", "from the tunnel"]
        bob.expect_contents(everything)
        alice.expect_contents(everything)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_server_restarts_in_the_middle(browser: Browser, server: ServerProcess, how: str) -> None:
    with visit(browser, server.url, excused=UNREACHABLE) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        alice.say("before")
        bob.expect_contents(["before"])
        server.kill() if how == "kill" else server.stop()
        expect(alice.state).not_to_have_attribute("data-state", "live")
        alice.say("while it was down")
        bob.say("me too")
        server.start()
        alice.expect_live()
        bob.expect_live()
        for pane in (alice, bob):
            expect(pane.messages).to_have_count(3)
            expect(pane.root.locator(".drafts .message")).to_have_count(0)
        assert alice.contents() == bob.contents()
        assert sorted(bob.contents()) == ["before", "me too", "while it was down"]


def test_history_on_scroll(browser: Browser, tenant: Tenant) -> None:
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, _ = panes(page)
        page.evaluate(WRITE_HISTORY, 75)
        expect(alice.own).to_have_count(75)
        page.reload()
        alice, _ = panes(page)
        expect(alice.messages).to_have_count(30)
        expect(alice.message("line 74")).to_be_in_viewport()
        alice.root.locator(".log").evaluate("log => { log.scrollTop = 0; }")
        expect(alice.messages).to_have_count(60)
        alice.root.locator(".log").evaluate("log => { log.scrollTop = 0; }")
        expect(alice.messages).to_have_count(75)
        alice.expect_contents([f"line {number}" for number in range(75)])
        expect(alice.root.locator(".beginning")).to_be_attached()


def test_rooms_of_every_type(browser: Browser, tenant: Tenant, screenshots: Path) -> None:
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        dialog = page.locator("#new-room")
        page.get_by_role("button", name="New room").click()
        dialog.locator("[name=roomName]").fill("Lighthouse keepers")
        dialog.get_by_role("button", name="Create").click()
        expect(page.locator(".room[aria-current]")).to_contain_text("Lighthouse keepers")
        alice.say("in the group")
        bob.expect_contents(["in the group"])

        page.get_by_role("button", name="New room").click()
        dialog.locator("label").filter(has_text="Channel").click()
        dialog.locator("[name=roomName]").fill("harbour news")
        dialog.locator("[name=members]").fill("")
        page.screenshot(path=screenshots / "new-room.png")
        dialog.get_by_role("button", name="Create").click()
        expect(page.locator(".room[aria-current]")).to_contain_text("harbour news")
        alice.say("in the channel")
        bob.expect_contents(["in the channel"])
        expect(bob.input).to_be_hidden()
        bob.root.get_by_role("button", name="Join to write").click()
        bob.say("now a member")
        expect(alice.messages).to_have_count(2)

        page.locator(".room").filter(has_text="alice & bob").click()
        expect(alice.messages).to_have_count(0)


def test_frames_are_filtered_paused_and_opened(browser: Browser, tenant: Tenant, screenshots: Path) -> None:
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        alice.say("look at this")
        bob.expect_contents(["look at this"])
        frames = page.locator("#frames")
        rows = frames.locator(".frame-list > li > details")
        frames.get_by_role("searchbox").fill("look at this")
        expect(rows).to_have_count(3)  # out as send_message, in to each of the two
        frames.get_by_role("button", name="bob", exact=True).click()
        expect(rows).to_have_count(2)
        rows.first.locator("summary").first.click()
        expect(rows.first.locator(".tree")).to_contain_text('content: "look at this"')
        page.screenshot(path=screenshots / "frames.png")
        frames.get_by_role("button", name="Pause the list").click()
        alice.say("look at this too")
        bob.expect_contents(["look at this", "look at this too"])
        expect(rows).to_have_count(2)
        frames.get_by_role("button", name="Continue the list").click()
        expect(rows).to_have_count(4)


def test_rest_is_authorized_and_filled_in(browser: Browser, tenant: Tenant, screenshots: Path) -> None:
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, _ = panes(page)
        page.get_by_role("button", name="REST").click()
        rest = page.frame_locator("#rest iframe")
        operation = rest.locator(".opblock-post").filter(has=rest.locator('[data-path="/rooms/{room_id}/messages"]'))
        operation.locator(".opblock-summary-control").click(timeout=SWAGGER_MS)
        expect(operation.locator("input[placeholder^=room_id]")).to_have_value(
            page.evaluate("sessionStorage.getItem('chatapi-playground-room')")
        )
        operation.locator("textarea.body-param__text").fill('{"content": "sent from Swagger UI"}')
        operation.locator("button.execute").click()
        expect(operation.locator(".live-responses-table .response .response-col_status").first).to_contain_text("201")
        expect(page.locator("#frames .frame-gist").filter(has_text="sent from Swagger UI").first).to_be_visible()
        page.screenshot(path=screenshots / "rest-light.png")
        page.get_by_role("button", name="Chat", exact=True).click()
        alice.expect_contents(["sent from Swagger UI"])


def test_without_dev_it_asks(browser: Browser, tmp_path: Path, screenshots: Path) -> None:
    with (
        ServerProcess(tmp_path, dev=False) as server,
        visit(browser, server.url, excused=("status of 401",)) as visitor,
    ):
        page = visitor.open()
        form = page.locator("#setup form")
        form.locator("[name=apiKey]").fill("sk_wrong")
        form.get_by_role("button", name="Connect").click()
        expect(form.get_by_role("alert")).to_contain_text("401")
        page.screenshot(path=screenshots / "setup.png")
        form.locator("[name=apiKey]").fill(server.create_tenant("playground"))
        form.locator("[name=b]").fill("carol")
        form.get_by_role("button", name="Connect").click()
        panes(page)
        expect(page.locator(".pane h2")).to_have_text(["alice", "carol"])
        page.reload()
        panes(page)
        assert page.evaluate("JSON.stringify(localStorage)").count("sk_") == 0
        fresh = visitor.open()
        expect(fresh.locator("#setup")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(browser: Browser, tenant: Tenant, screenshots: Path, scheme: str) -> None:
    phone = {"viewport": PHONE, "color_scheme": scheme, "is_mobile": True, "has_touch": True}
    with tenant.visit(browser, device_scale_factor=2, **phone) as visitor:
        page = visitor.open()
        alice, bob = PaneOf(page, "a"), PaneOf(page, "b")
        alice.expect_live()
        expect(alice.room).to_have_text("alice & bob")  # before that, nothing can be sent
        alice.say("From a phone")
        expect(page.locator(".room-last")).to_have_text("alice: From a phone")
        for view in ("b", "rooms", "frames", "a"):
            page.locator(f".views [data-view={view}]").tap()
            page.screenshot(path=screenshots / f"phone-{scheme}-{view}.png")
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        expect(alice.own.locator(".mark")).to_have_attribute("data-mark", "read")  # bob's view was in front for a while
        assert not bob.root.is_visible()


def test_policy_and_other_headers(browser: Browser, server: ServerProcess) -> None:
    with visit(browser, server.url) as visitor:
        page = visitor.context.new_page()
        answer = page.goto(f"{server.url}/playground")
        assert answer is not None
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        inside = page.goto(f"{server.url}/playground/rest.html")
        assert inside is not None
        directives = dict(part.strip().split(" ", 1) for part in inside.headers["content-security-policy"].split(";"))
        assert [name for name, value in directives.items() if "unsafe" in value] == ["style-src-attr"]


@contextmanager
def foreign_origin(sdk: bytes) -> Iterator[str]:
    """A page on a port of its own, with a copy of the SDK beside it."""
    files = {"/": ("text/html", FOREIGN_PAGE.encode()), "/chatapi.js": ("text/javascript", sdk)}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content_type, body = files[self.path]
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=listener.serve_forever, name="foreign origin")
    thread.start()
    yield f"http://127.0.0.1:{listener.server_port}"
    listener.shutdown()
    listener.server_close()
    thread.join()


@pytest.mark.parametrize("allowed", [True, False])
def test_page_of_another_origin(browser: Browser, tmp_path: Path, allowed: bool) -> None:
    sdk = (Path(chatapi.__file__).parent / "web" / "sdk" / "chatapi.js").read_bytes()
    with foreign_origin(sdk) as origin:
        settings = {"server.allowed_origins": json.dumps([origin] if allowed else ["http://elsewhere.example"])}
        with ServerProcess(tmp_path, settings, dev=False) as server:
            key = server.create_tenant("foreign")
            token = server.call("POST", "/tokens", {"user_id": "alice"}, key=key, user="alice")["token"]
            room = server.call("POST", "/rooms", {"type": "group"}, key=key, user="alice")["room_id"]
            given = {"url": server.url, "token": token, "room": room}
            given["sdk"] = f"{server.url}/sdk/chatapi.js" if allowed else f"{origin}/chatapi.js"
            context = browser.new_context()
            page = context.new_page()
            page.goto(f"{origin}/#{quote(json.dumps(given))}")
            outcome = {"listed": 1, "sent": 1, "live": True}
            refusal = {"listed": "NETWORK_ERROR", "sent": "AUTHORIZATION_ERROR", "live": False}
            expect(page).to_have_title(json.dumps(outcome if allowed else refusal, separators=(",", ":")))
            stored = server.call("GET", f"/rooms/{room}/messages", key=key, user="alice")["messages"]
            assert [message["content"] for message in stored] == (["from another origin"] if allowed else [])
            context.close()
