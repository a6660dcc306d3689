"""`<chatapi-room>` in pages of another origin, under a content security policy that allows nothing but the server."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from accessibility import Inspector
from browser_rig import PaneOf
from examples import example
from playwright.sync_api import Browser, ConsoleMessage, Page, WebSocket, expect
from server_process import ServerProcess

PLACE = "https://chat.example.com"
HEAD = '<!doctype html><html lang="en"><meta charset="utf-8"><title>A page</title><main><h1>A page</h1>'
NARROW = {"width": 320, "height": 640}
LISTEN = """(() => {
  window.told = [];
  const nameOf = ({ code, count, content, state, name }) => code ?? count ?? content ?? state ?? name;
  for (const type of ["open", "message", "unread", "state", "error", "token"]) {
    addEventListener(`chatapi-${type}`, ({ detail }) => told.push([type, nameOf(detail)]));
  }
  addEventListener("securitypolicyviolation", ({ violatedDirective }) => told.push(["refused", violatedDirective]));
})()"""
ADOPT = """(css) => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  document.adoptedStyleSheets = [sheet];
}"""
BACKEND = """(token) => {
  let calls = 0;
  window.backend = async () => ({ ok: ++calls > 1, status: 503, text: async () => token });
}"""

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


class Host:
    """A web server of somebody else, with one page."""

    def __init__(self) -> None:
        self.page = ""
        self.policy = ""
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Security-Policy", host.policy)
                self.end_headers()
                self.wfile.write(host.page.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.listener.server_port}"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    host = Host()
    thread = Thread(target=host.listener.serve_forever, name="another origin")
    thread.start()
    yield host
    host.listener.shutdown()
    host.listener.server_close()
    thread.join()


@pytest.fixture(scope="module")
def server(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"server.allowed_origins": json.dumps([host.url])}
    with ServerProcess(tmp_path_factory.mktemp("element"), settings, dev=False) as server:
        yield server


class Chat:
    """A tenant, a room of three members, and pages of the host with a chat in it."""

    def __init__(self, browser: Browser, host: Host, server: ServerProcess, name: str) -> None:
        self.browser = browser
        self.host = host
        self.server = server
        self.key = server.create_tenant(name)
        self.room = self.make_room("Garden")
        self.sockets: list[WebSocket] = []
        policy = example("docs/web-component.md", "text", "default-src 'none'").strip()
        self.host.policy = self.localize(policy)

    def localize(self, text: str) -> str:
        """An example, for the server of this test."""
        return text.replace(PLACE, self.server.url).replace(
            "wss://chat.example.com", self.server.url.replace("http", "ws")
        )

    def call(self, method: str, path: str, body: dict[str, object] | None = None, user: str = "alice") -> Any:
        return self.server.call(method, path, body, key=self.key, user=user)

    def make_room(self, name: str) -> str:
        room = self.call("POST", "/rooms", {"type": "group", "name": name, "members": ["bob", "carol"]})
        return str(room["room_id"])

    def token_of(self, user: str) -> str:
        return str(self.call("POST", "/tokens", {"user_id": user})["token"])

    def element(self, user: str = "alice", **attributes: str) -> str:
        given = {"room": self.room, "token": self.token_of(user), **attributes}
        return (
            f"<chatapi-room {' '.join(f'{name}={json.dumps(value)}' for name, value in given.items())}></chatapi-room>"
        )

    @contextmanager
    def visit(self, body: str, *, excused: str = "no excuse", **options: Any) -> Iterator[Page]:
        """At the end: the browser has reported nothing, but what is excused."""
        context = self.browser.new_context(**options)
        page = context.new_page()
        complaints: list[str] = []

        def hear(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                complaints.append(message.text)

        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("websocket", lambda socket: self.sockets.append(socket))
        page.add_init_script(LISTEN)
        self.host.page = (
            f'{HEAD}<script type="module" src="{self.server.url}/sdk/room.js"></script>{body}</main></html>'
        )
        page.goto(self.host.url)
        yield page
        told = page.evaluate("told")
        context.close()
        assert [entry for entry in told if entry[0] == "refused"] == []
        assert [text for text in complaints if excused not in text] == []

    def expect_sockets(self, page: Page, *, opened: int, still_open: int) -> None:
        """Waits for them: the browser tells of an end later than the page."""
        while (len(self.sockets), sum(not socket.is_closed() for socket in self.sockets)) != (opened, still_open):
            page.wait_for_timeout(20)


class Pane(PaneOf):
    def __init__(self, page: Page, at: int = 0) -> None:
        super().__init__(page, "a")
        self.root = page.locator("chatapi-room").nth(at)
        for part in ("state", "input", "notice"):
            setattr(self, part, self.root.locator({"input": "textarea"}.get(part, f".{part}")))
        self.messages = self.root.locator(".messages:not(.drafts) .message")
        self.own = self.root.locator(".messages:not(.drafts) .message.own")
        self.title = self.root.get_by_role("heading").first


@pytest.fixture
def chat(browser: Browser, host: Host, server: ServerProcess, request: pytest.FixtureRequest) -> Chat:
    return Chat(browser, host, server, request.node.name[:100])


def told(page: Page, kind: str) -> list[Any]:
    return [what for type, what in page.evaluate("told") if type == kind]


def test_two_lines_are_a_chat_under_a_strict_policy(chat: Chat) -> None:
    two_lines = chat.localize(example("docs/web-component.md", "html", "<chatapi-room")).replace("room_01JY", chat.room)
    as_user = [two_lines.replace("eyJhbGciOiJI", chat.token_of(user)) for user in ("alice", "bob")]
    with chat.visit(as_user[0]) as page, chat.visit(as_user[1]) as other_page:
        alice, bob = Pane(page), Pane(other_page)
        expect(alice.title).to_have_text("Garden")
        bob.expect_live()
        alice.say("Who waters the tomatoes?")
        expect(bob.messages.locator(".content")).to_have_text("Who waters the tomatoes?")
        expect(bob.root.get_by_role("log")).to_have_attribute("aria-live", "polite")
        bob.input.press_sequentially("@al")
        bob.root.get_by_role("option", name="alice").click()
        bob.input.press_sequentially("I do")
        expect(alice.root).to_contain_text("bob is typing")
        bob.input.press("Enter")
        expect(alice.messages.locator(".content")).to_have_text(["Who waters the tomatoes?", "@alice I do"])
        expect(alice.own.locator(".mark")).to_have_attribute("aria-label", "Stored")  # carol has read nothing
        alice.messages.last.hover()
        alice.messages.last.get_by_role("button", name="React", exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name="party").click()
        expect(bob.root.locator(".reaction")).to_have_text("🎉 1")
        alice.messages.first.hover()
        alice.messages.first.get_by_role("button", name="Edit").click()
        alice.say("Who waters the beans?")
        expect(bob.messages.first).to_contain_text("Who waters the beans?")
        bob.messages.first.hover()
        bob.messages.first.get_by_role("button", name="Thread").click()
        bob.say("and the peas")
        expect(alice.messages.first).to_contain_text("1 reply")
        assert told(page, "open") == ["Garden"]
        assert told(page, "message") == ["Who waters the tomatoes?", "@alice I do", "and the peas"]
        assert told(page, "state")[-1] == "live"
        stored = chat.call("GET", f"/rooms/{chat.room}/messages")["messages"]
        assert [message.get("mentions") for message in stored] == [None, ["alice"], None]


def test_axe_finds_nothing_in_either_theme(chat: Chat, axe: str) -> None:
    long_word = "Donaudampfschifffahrtsgesellschaft" * 8
    for sender, content in (("alice", "Hello"), ("bob", long_word), ("carol", "שלום לכולם")):
        chat.call("POST", f"/rooms/{chat.room}/messages", {"content": content}, sender)
    with chat.visit(chat.element(theme="light"), viewport=NARROW) as page:
        pane = Pane(page)
        expect(pane.messages).to_have_count(3)
        inspector = Inspector(page, axe)
        backgrounds = []
        for theme in ("light", "dark"):
            page.evaluate("theme => document.querySelector('chatapi-room').setAttribute('theme', theme)", theme)
            inspector.look(theme)
            backgrounds.append(pane.root.locator(".panel").evaluate("panel => getComputedStyle(panel).backgroundColor"))
        assert inspector.found == []
        assert backgrounds == ["rgb(255, 255, 255)", "rgb(20, 24, 31)"]
        css = example("docs/web-component.md", "css", "--chatapi-accent")
        page.evaluate(ADOPT, css)
        fill = pane.own.locator(".bubble").evaluate("bubble => getComputedStyle(bubble).backgroundColor")
        assert fill == "rgb(176, 35, 95)"
        assert pane.root.bounding_box()["height"] == 384  # type: ignore[index]
        page.emulate_media(color_scheme="light")
        page.evaluate("document.querySelector('chatapi-room').setAttribute('theme', 'auto')")
        assert pane.root.locator(".panel").evaluate("panel => getComputedStyle(panel).colorScheme") == "light dark"


def test_attributes_change_and_the_element_moves_and_goes(chat: Chat) -> None:
    kitchen = chat.make_room("Kitchen")
    chat.call("POST", f"/rooms/{kitchen}/messages", {"content": "The soup is ready"}, "bob")
    with chat.visit(chat.element() + '<div id="elsewhere"></div>') as page:
        pane = Pane(page)
        expect(pane.title).to_have_text("Garden")
        pane.expect_live()
        pane.input.fill("a draft")
        page.evaluate("room => document.querySelector('chatapi-room').setAttribute('room', room)", kitchen)
        expect(pane.title).to_have_text("Kitchen")
        expect(pane.messages).to_contain_text("The soup is ready")
        expect(pane.input).to_have_value("")
        page.evaluate("document.querySelector('#elsewhere').append(document.querySelector('chatapi-room'))")
        pane.say("I am coming")
        expect(pane.own).to_contain_text("I am coming")
        assert len(chat.sockets) == 1
        page.evaluate("room => { document.querySelector('chatapi-room').room = room; }", chat.room)
        expect(pane.input).to_have_value("a draft")
        page.evaluate(
            "token => document.querySelector('chatapi-room').setAttribute('token', token)", chat.token_of("bob")
        )
        expect(pane.root.get_by_label("Message as bob")).to_be_visible()
        pane.expect_live()
        chat.expect_sockets(page, opened=2, still_open=1)
        page.evaluate("window.gone = document.querySelector('chatapi-room'); gone.remove()")
        page.wait_for_function("() => gone.shadowRoot.childElementCount === 0")
        chat.expect_sockets(page, opened=2, still_open=0)
        page.evaluate("document.querySelector('#elsewhere').append(gone)")
        expect(pane.title).to_have_text("Garden")
        pane.expect_live()


def test_one_connection_for_several_elements(chat: Chat) -> None:
    kitchen = chat.make_room("Kitchen")
    both = f'<chatapi-room room="{chat.room}"></chatapi-room><chatapi-room room="{kitchen}"></chatapi-room>'
    with chat.visit(both) as page:
        garden, soup = Pane(page), Pane(page, 1)
        expect(garden.root).to_contain_text("This chat needs a token.")
        script = chat.localize(example("docs/web-component.md", "js", "element.connection = connection"))
        module = script.split("\n")[0]
        assert module.startswith("import { ChatAPI } from ")
        body = script.replace(module, f'const {{ ChatAPI }} = await import("{chat.server.url}/sdk/chatapi.js");')
        page.evaluate(f"async (token) => {{ {body} window.connection = connection; }}", chat.token_of("alice"))
        expect(garden.title).to_have_text("Garden")
        expect(soup.title).to_have_text("Kitchen")
        garden.expect_live()
        soup.expect_live()
        garden.say("for the garden")
        soup.say("for the kitchen")
        expect(garden.messages.locator(".content")).to_have_text("for the garden")
        expect(soup.messages.locator(".content")).to_have_text("for the kitchen")
        assert len(chat.sockets) == 1
        page.evaluate("scrollTo(0, document.body.scrollHeight); document.querySelector('chatapi-room').remove()")
        last = Pane(page)
        expect(last.title).to_have_text("Kitchen")
        last.say("still here")
        expect(last.own).to_have_count(2)
        assert page.evaluate("connection.state") == "live"
        chat.expect_sockets(page, opened=1, still_open=1)


def test_messages_are_unread_until_they_are_seen(chat: Chat) -> None:
    with chat.visit(chat.element()) as page:
        pane = Pane(page)
        pane.expect_live()
        page.evaluate("document.hasFocus = () => false; dispatchEvent(new Event('blur'))")
        for content in ("one", "two"):
            chat.call("POST", f"/rooms/{chat.room}/messages", {"content": content}, "bob")
        expect(pane.root.locator(".unread")).to_have_text("2")
        assert told(page, "unread")[-1] == 2
        page.evaluate("document.hasFocus = () => true; dispatchEvent(new Event('focus'))")
        expect(pane.root.locator(".unread")).to_be_hidden()
        assert told(page, "unread")[-1] == 0
        page.wait_for_function("() => true")
        receipts = chat.call("GET", f"/rooms/{chat.room}/receipts", user="bob")["receipts"]
        assert {receipt["user_id"] for receipt in receipts} >= {"alice", "bob"}


def test_a_token_is_renewed_and_the_server_restarts(chat: Chat) -> None:
    good = chat.token_of("alice")
    bad = good[:-6] + "AAAAAA"
    with chat.visit(chat.element(token=bad), excused="") as page:
        pane = Pane(page)
        page.wait_for_function("() => told.some(([type]) => type === 'token')")
        expect(pane.root).to_be_visible()
        page.evaluate("token => document.querySelector('chatapi-room').setAttribute('token', token)", good)
        expect(pane.title).to_have_text("Garden")
        pane.expect_live()
        page.evaluate(BACKEND, good)
        script = example("docs/web-component.md", "js", "room.getToken").replace(
            'fetch("/my-backend/chat-token")', "backend()"
        )
        page.evaluate(f"() => {{ {script} }}")
        expect(pane.root).to_contain_text("This chat cannot begin: No chat token: 503.")
        pane.root.get_by_role("button", name="Try again").click()
        expect(pane.title).to_have_text("Garden")
        pane.expect_live()
        chat.server.stop()
        expect(pane.notice).to_contain_text("server is")
        pane.say("written while it is away")
        chat.server.start()
        pane.retry_now()
        pane.expect_live()
        expect(pane.own).to_contain_text("written while it is away")
        expect(pane.notice).to_be_hidden()


def test_trouble_is_told_in_words(chat: Chat) -> None:
    chat.call("PUT", f"/rooms/{chat.room}/bans/bob", {"reason": "weeds"})
    gone = chat.make_room("Gone")
    elements = chat.element("bob") + chat.element(room="room_nothing") + chat.element(room=gone)
    with chat.visit(elements + chat.element(token="nonsense"), excused="Failed to load resource") as page:
        banned, missing, deleted, nonsense = (Pane(page, at) for at in range(4))
        expect(banned.root).to_contain_text("You are banned from this room.")
        expect(missing.root).to_contain_text("This room is not there for you")
        expect(nonsense.root).to_contain_text("This chat cannot begin: the token names no user.")
        expect(deleted.title).to_have_text("Gone")
        chat.call("DELETE", f"/rooms/{gone}")
        expect(deleted.root).to_contain_text("This room is not there for you")
        expect(deleted.input).to_be_hidden()
        chat.call("DELETE", f"/rooms/{chat.room}/bans/bob")
        chat.call("POST", f"/rooms/{chat.room}/members", {"user_id": "bob"})
        expect(banned.input).to_be_visible()
        banned.say("back again")
        expect(banned.own).to_contain_text("back again")
        errors = told(page, "error")
        assert {"AUTHORIZATION_ERROR", "NOT_FOUND"} <= set(errors)
