"""`chatapi-js/react`: its hooks on a page of vite's, in StrictMode, in Chromium, against a real server."""

import http.client
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from browser_rig import UNREACHABLE, Tenant, open_browser, visit
from examples import example
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, WebSocketRoute, expect
from react_app import HERE, address, build, make_project, serve
from server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

EXAMPLE = example("docs/react.md", "jsx", "useMessages")
ADDRESS = example("docs/react.md", "sh", "TOKEN=")
MAIN = """
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import App from "./App.jsx";
createRoot(document.getElementById("root")).render(<StrictMode><App /></StrictMode>);
"""  # which `npm create vite` has made
WINDOW, SLACK = 500, 100
MARK_ROWS = """
window.marked = 0;
new MutationObserver((changes) => { for (const { addedNodes } of changes) window.marked += addedNodes.length; })
  .observe(document.querySelector("ol"), { childList: true });
"""
COUNT_FRAMES = """
window.before = window.commits.room;
window.frames = 0;
(function count() { window.frames++; requestAnimationFrame(count); })();
"""
TWO_FRAMES = "new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))"
REFUSED = ("the server responded with a status of 403",)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # A page that the test itself answers may then open WebSockets to this machine.
    with open_browser("--disable-features=BlockInsecurePrivateNetworkRequests,LocalNetworkAccessChecks") as browser:
        yield browser


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("react")
    make_project(folder)
    for name in ("page.jsx", "server.mjs"):
        (folder / name).write_text((HERE / name).read_text())
    return folder


@pytest.fixture(scope="module")
def dist(project: Path) -> Path:
    """With the example of docs/react.md as a second page."""
    (project / "App.jsx").write_text(EXAMPLE)
    (project / "example.jsx").write_text(MAIN)
    return build(project, "page.jsx", "example.jsx")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server"), {"websocket.presence_grace_seconds": "1"}) as server:
        yield server


class Chat(Tenant):
    """Bob's rooms with alice, whose pages they are."""

    def __init__(self, server: ServerProcess, name: str, dist: Path, rooms: int = 1) -> None:
        super().__init__(server, name)
        self.dist = dist
        self.rooms = [str(self.make_room(f"room {index}")["room_id"]) for index in range(rooms)]
        self.token = self.call("POST", "/tokens", {"user_id": "alice"})["token"]

    def make_room(self, name: str, kind: str = "group") -> dict[str, Any]:
        members = ["alice"] if kind == "group" else []
        return self.call("POST", "/rooms", {"type": kind, "name": name, "members": members}, user="bob")

    def say(self, text: str, room: int = 0, **fields: object) -> str:
        """The message's path."""
        path = f"/rooms/{self.rooms[room]}/messages"
        return f"{path}/{self.call('POST', path, {'content': text, **fields}, user='bob')['message_id']}"

    def say_many(self, count: int) -> None:
        """The numbers from 0 on."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port)
        headers = {"X-API-Key": self.key, "X-User-Id": "bob", "Content-Type": "application/json"}
        for number in range(count):
            path = f"/v1/rooms/{self.rooms[0]}/messages"
            connection.request("POST", path, json.dumps({"content": str(number)}), headers)
            answer = connection.getresponse()
            assert answer.status == 201, answer.read()
            answer.read()
        connection.close()

    def contents(self, room: int = 0) -> list[str]:
        return [one["content"] for one in self.call("GET", f"/rooms/{self.rooms[room]}/messages")["messages"]]

    @contextmanager
    def open(self, browser: Browser, *excused: str) -> Iterator["Tab"]:
        with visit(browser, self.server.url, excused=excused) as visitor:
            serve(visitor.context, self.dist)
            yield Tab(self, visitor.context, visitor.open(address("page", token=self.token, rooms=self.rooms)))

    def open_another(self, tab: "Tab") -> "Tab":
        page = tab.context.new_page()
        page.goto(tab.page.url)
        page.reload()  # `goto` would only change the hash of a page that is the same
        return Tab(self, tab.context, page)


class Tab:
    def __init__(self, chat: Chat, context: BrowserContext, page: Page) -> None:
        self.chat, self.context, self.page = chat, context, page
        self.room = page.locator("main")
        self.rows = page.locator("li")
        self.texts = page.locator("li .text")
        expect(self.output("state")).to_have_text("live")

    def output(self, name: str) -> Locator:
        return self.page.locator(f"output.{name}")

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def show(self, room: int) -> None:
        self.page.evaluate("(room) => window.show(room)", room)

    def expect_texts(self, *texts: str) -> None:
        expect(self.texts).to_have_text(list(texts))

    def expect_sent(self, *texts: str) -> None:
        """These messages, all of which the server has confirmed."""
        expect(self.page.locator("li[data-status=sent]")).to_have_count(len(texts))
        self.expect_texts(*texts)


@pytest.fixture
def chat(server: ServerProcess, dist: Path, request: pytest.FixtureRequest) -> Chat:
    return Chat(server, request.node.name[:60], dist)


def test_two_tabs_show_a_room_as_it_stands(browser: Browser, chat: Chat) -> None:
    first = chat.say("one")
    sockets: list[str] = []
    with chat.open(browser) as tab:
        tab.page.on("websocket", lambda socket: sockets.append(socket.url))
        tab.page.reload()
        tab.expect_texts("one")
        other = chat.open_another(tab)
        chat.say("two")
        for each in (tab, other):
            each.expect_texts("one", "two")
        # A message of the page's own is one row from the click on, and stays the same element.
        tab.page.evaluate(MARK_ROWS)
        tab.press("send")
        for each in (tab, other):
            each.expect_sent("one", "two", "mine")
        assert tab.page.evaluate("window.marked") == 1
        tab.press("like")
        for each in (tab, other):
            expect(each.rows.nth(2)).to_contain_text("👍1")
        tab.press("edit")
        for each in (tab, other):
            expect(each.rows.nth(2)).to_contain_text("mine, changed (edited)")
        tab.press("delete")
        chat.call("DELETE", first, user="bob")
        chat.call("PATCH", f"/rooms/{chat.rooms[0]}", {"name": "renamed"}, user="bob")
        chat.call("POST", f"/rooms/{chat.rooms[0]}/members", {"user_id": "carol"}, user="bob")
        for each in (tab, other):
            each.expect_sent("(deleted)", "two", "(deleted)")
            expect(each.page.locator("h1")).to_have_text("renamed")
            expect(each.output("members")).to_have_text("3")
        tab.page.evaluate("window.remount()")
        tab.expect_sent("(deleted)", "two", "(deleted)")
        chat.say("after it")
        tab.expect_sent("(deleted)", "two", "(deleted)", "after it")
        assert len(sockets) == 1  # StrictMode mounts everything twice
        expect(tab.output("total")).to_have_text("2")
        tab.page.evaluate(TWO_FRAMES)
        renders = tab.page.evaluate("window.commits.room")
        chat.call("POST", f"/rooms/{chat.make_room('elsewhere')['room_id']}/messages", {"content": "x"}, user="bob")
        expect(tab.output("total")).to_have_text("3")
        assert tab.page.evaluate("window.commits.room") - renders <= 1  # the page around it counts the unread ones
        assert tab.page.evaluate("window.mixed") == 0


def test_a_refused_message_can_be_sent_again_or_dropped(browser: Browser, chat: Chat) -> None:
    member = f"/rooms/{chat.rooms[0]}/members/alice"
    with chat.open(browser) as tab:
        chat.call("PATCH", member, {"muted_for": 600}, user="bob")
        tab.press("send")
        failed = tab.page.locator("li[data-status=failed]")
        expect(failed).to_have_attribute("data-error", "AUTHORIZATION_ERROR")
        tab.press("send")
        expect(failed).to_have_count(2)
        chat.call("PATCH", member, {"muted_for": 0}, user="bob")
        tab.rows.first.get_by_role("button", name="retry").click()
        tab.expect_texts("mine", "mine")
        expect(failed).to_have_count(1)
        tab.press("discard")
        tab.expect_sent("mine")
        assert chat.contents() == ["mine"]


def test_messages_wait_for_the_network_and_the_server(browser: Browser, chat: Chat, server: ServerProcess) -> None:
    sending, sent = ("li[data-status=sending]", "li[data-status=sent]")
    with chat.open(browser, *UNREACHABLE) as tab:
        chat.say("before")
        tab.expect_texts("before")
        tab.context.set_offline(True)
        tab.press("send")
        expect(tab.page.locator(sending)).to_have_count(1)
        chat.say("meanwhile")
        tab.context.set_offline(False)
        tab.expect_sent("before", "meanwhile", "mine")
        # The server stores a message, and ends before it has said so.
        tab.page.evaluate("(room) => { window.api.send('first'); }", chat.rooms[0])
        server.kill()
        tab.page.evaluate("(room) => { window.api.send('second'); }", chat.rooms[0])
        expect(tab.page.locator(sending).last).to_have_text("second")
        server.start()
        tab.expect_sent("before", "meanwhile", "mine", "first", "second")
        expect(tab.page.locator(sent)).to_have_count(5)
        assert chat.contents() == ["before", "meanwhile", "mine", "first", "second"]


@pytest.mark.parametrize("lost", ["message.sent", "message"])
def test_either_of_confirmation_and_event_is_enough(browser: Browser, chat: Chat, lost: str) -> None:
    def carry(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        server.on_message(lambda frame: None if json.loads(frame)["type"] == lost else socket.send(frame))

    with chat.open(browser) as tab:
        tab.page.route_web_socket("**/ws?*", carry)
        tab.page.reload()
        expect(tab.output("state")).to_have_text("live")
        tab.press("send")
        tab.expect_sent("mine")


def wait_for_one(page: Page, held: list[Route]) -> None:
    """The page asks some time before the test is told so."""
    while not held:
        page.wait_for_timeout(20)


def test_rooms_that_change_fast(browser: Browser, server: ServerProcess, dist: Path) -> None:
    chat = Chat(server, "fast", dist, rooms=30)
    for room in range(30):
        chat.say(f"of {room}", room)
    reads: list[str] = []
    held: list[Route] = []
    with chat.open(browser) as tab:
        tab.expect_texts("of 0")
        tab.page.on("request", lambda request: reads.append(request.url) if "/messages?" in request.url else None)
        tab.page.route(f"**/rooms/{chat.rooms[1]}/messages*", lambda route: held.append(route))
        tab.page.evaluate(
            "(async () => { for (let i = 0; i < 200; i++) { window.show(i % 30); await null; } window.show(1); })()"
        )
        tab.show(1)
        expect(tab.room).to_have_attribute("data-room", chat.rooms[1])
        tab.page.wait_for_function("document.querySelector('main').dataset.loading === 'true'")
        wait_for_one(tab.page, held)
        tab.show(0)
        tab.expect_texts("of 0")
        stale = [route.fetch() for route in held]
        chat.say("later", 1)
        for route, answer in zip(held, stale, strict=True):
            route.fulfill(response=answer)
        chat.say("later", 0)
        tab.expect_texts("of 0", "later")
        tab.page.unroute(f"**/rooms/{chat.rooms[1]}/messages*")
        # A room that was shown a moment ago is there at once, and one of those that no longer are is read again.
        reads.clear()
        tab.show(1)
        tab.expect_texts("of 1", "later")
        assert [url for url in reads if chat.rooms[1] in url] == []
        for room in range(2, 30):
            tab.show(room)
            tab.expect_texts(f"of {room}")
        reads.clear()
        tab.show(29)
        tab.show(0)
        tab.expect_texts("of 0", "later")
        assert [chat.rooms[0] in url for url in reads] == [True]
        assert tab.page.evaluate("window.mixed") == 0


def test_unread_presence_and_typing(browser: Browser, server: ServerProcess, dist: Path) -> None:
    chat = Chat(server, "signals", dist, rooms=2)
    chat.say("before")
    with chat.open(browser) as tab:
        expect(tab.output("unread")).to_have_text("1 0")
        chat.say("@alice", mentions=["alice"])
        listen = "window.heard = new Promise((resolve) => window.connection.on('read.updated', resolve))"
        tab.page.evaluate(f"() => {{ {listen}; }}")
        newest = chat.call("GET", f"/rooms/{chat.rooms[0]}")["last_seq"]
        chat.call("POST", f"/rooms/{chat.rooms[0]}/read", {"seq": newest}, user="bob")  # which is nothing to alice
        tab.page.evaluate("window.heard")
        second = chat.say("again", mentions=["alice"])
        chat.say("elsewhere", 1)
        expect(tab.output("unread")).to_have_text("3 2")
        expect(tab.output("total")).to_have_text("4")
        chat.call("DELETE", second, user="bob")
        expect(tab.output("unread")).to_have_text("2 1")
        tab.press("read")
        expect(tab.output("unread")).to_have_text("0 0")
        expect(tab.output("total")).to_have_text("1")
        seq = chat.call("GET", f"/rooms/{chat.rooms[1]}")["last_seq"]
        chat.call("POST", f"/rooms/{chat.rooms[1]}/read", {"seq": seq})  # as another device
        expect(tab.output("total")).to_have_text("0")

        expect(tab.output("online")).to_have_text("alice")
        commits = tab.page.evaluate("window.commits.room")
        bob = tab.context.new_page()
        token = chat.call("POST", "/tokens", {"user_id": "bob"})["token"]
        bob.goto(server.url + address("page", token=token, rooms=chat.rooms))
        expect(tab.output("online")).to_have_text("alice bob")
        expect(tab.output("typists")).to_have_text("")
        bob.get_by_label("type").press("x")
        expect(tab.output("typists")).to_have_text("bob")
        assert tab.page.evaluate("window.commits.room") - commits <= 2
        bob.get_by_role("button", name="send").click()
        expect(tab.output("typists")).to_have_text("")
        bob.close()
        expect(tab.output("online")).to_have_text("alice")

        # Somebody comes online who is in another room of alice's: this one is asked for, and renders nothing.
        chat.call("POST", f"/rooms/{chat.rooms[1]}/members", {"user_id": "carol"}, user="bob")
        tab.page.evaluate(TWO_FRAMES)
        commits = tab.page.evaluate("window.commits.room")
        with tab.page.expect_response(f"**/rooms/{chat.rooms[0]}/presence"):
            carol = chat.server.open_websocket(chat.key, "carol")
        tab.page.evaluate(TWO_FRAMES)
        assert tab.page.evaluate("window.commits.room") == commits
        carol.close()


def test_a_page_of_history_that_is_older_than_an_event(browser: Browser, server: ServerProcess, dist: Path) -> None:
    chat = Chat(server, "late", dist, rooms=2)
    message = chat.say("old", 1)
    held: list[Route] = []
    with chat.open(browser) as tab:
        tab.page.route(f"**/rooms/{chat.rooms[1]}/messages*", lambda route: held.append(route))
        with tab.page.expect_request(f"**/rooms/{chat.rooms[1]}/messages*"):
            tab.show(1)
        expect(tab.room).to_have_attribute("data-loading", "true")
        wait_for_one(tab.page, held)
        stale = [route.fetch() for route in held]  # as the server has it now; the page gets it later
        chat.call("PUT", message, {"content": "new"}, user="bob")
        chat.say("after it", 1)
        tab.expect_texts("after it")
        for route, answer in zip(held, stale, strict=True):
            route.fulfill(response=answer)
        tab.expect_texts("new", "after it")


def test_the_example_of_the_document(browser: Browser, chat: Chat) -> None:
    script = ADDRESS.replace("http://localhost:8080", chat.server.url)
    run = subprocess.run(["sh", "-euc", script], env={**os.environ, "KEY": chat.key}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    query = run.stdout.strip().removeprefix("http://localhost:5173/")
    [room_id] = parse_qs(query.removeprefix("?"))["room"]
    with visit(browser, chat.server.url, excused=("Only admins may post in this room",)) as visitor:
        serve(visitor.context, chat.dist)
        page = visitor.open(f"/app/example.html{query}")
        expect(page.get_by_role("heading")).to_have_text("Tea")
        expect(page.get_by_text("online: alice")).to_be_visible()
        page.get_by_label("message").fill("Hello, Bob")
        page.get_by_label("message").press("Enter")
        chat.call("POST", f"/rooms/{room_id}/messages", {"content": "Hello, Alice"}, user="bob")
        expect(page.locator("li")).to_have_text(["alice: Hello, Bob", "bob: Hello, Alice"])
        page.get_by_role("button", name="1 unread").click()
        expect(page.get_by_role("button", name="unread")).to_have_count(0)
        chat.call("PATCH", f"/rooms/{room_id}", {"posting": "admins"})
        chat.call("PATCH", f"/rooms/{room_id}/members/bob", {"role": "admin"})
        chat.call("PATCH", f"/rooms/{room_id}/members/alice", {"role": "member"}, user="bob")
        page.get_by_label("message").fill("may I?")
        page.get_by_label("message").press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("send again")
        page.get_by_role("button", name="drop").click()
        expect(page.locator("li")).to_have_count(2)


def test_a_stream_grows_with_at_most_one_render_a_frame(browser: Browser, chat: Chat) -> None:
    path = f"/rooms/{chat.rooms[0]}/messages"
    with chat.open(browser, *UNREACHABLE) as tab:
        opened = chat.call("POST", path, {"content": "", "stream": True}, user="bob")["message_id"]
        tab.expect_texts("")
        tab.page.evaluate(COUNT_FRAMES)
        for index in range(1, 41):
            body: dict[str, object] = {"index": index, "text": f"{index} "}
            chat.call("POST", f"{path}/{opened}/append", body, user="bob")
            if index % 8 == 0:  # a slow page shows these at least
                expect(tab.texts).to_have_text(" ".join(str(number) for number in range(1, index + 1)))
        whole = "".join(f"{index} " for index in range(1, 41))
        chat.call("POST", f"{path}/{opened}/finish", {"state": "done"}, user="bob")
        chat.say("after it")
        tab.expect_texts(whole.strip(), "after it")
        # Events come faster still after an interruption.
        tab.context.set_offline(True)
        expect(tab.output("state")).not_to_have_text("live")
        tab.page.evaluate(COUNT_FRAMES)
        chat.say_many(200)
        tab.context.set_offline(False)
        expect(tab.texts.last).to_have_text("199")
        commits, frames = tab.page.evaluate("[window.commits.room - window.before, window.frames]")
        assert commits <= frames + 2
        shown = [text for text in tab.page.evaluate("window.texts") if text]
        grown = [text for text in shown if text.startswith("1 ")]
        assert len(set(grown)) > 3
        assert all(whole.startswith(text) for text in grown)


def test_a_window_moves_over_a_long_room(browser: Browser, chat: Chat) -> None:
    total = WINDOW + SLACK + 150
    chat.say_many(total)
    with chat.open(browser) as tab:
        expect(tab.rows).to_have_count(50)
        calls = "Promise.all([window.api.loadOlder(), window.api.loadOlder()])"  # one page, although asked for twice
        tab.page.evaluate(calls)
        expect(tab.rows).to_have_count(100)
        while tab.room.get_attribute("data-older") == "true":
            first = tab.texts.first.inner_text()
            tab.page.evaluate("window.api.loadOlder()")
            expect(tab.texts.first).not_to_have_text(first)
        expect(tab.rows).to_have_count(WINDOW)
        assert tab.texts.all_inner_texts() == [str(number) for number in range(WINDOW)]
        expect(tab.room).to_have_attribute("data-newer", "true")
        chat.say("new")
        tab.page.evaluate("window.api.loadNewer()")
        expect(tab.texts.last).to_have_text(str(WINDOW + 49))
        expect(tab.rows).to_have_count(WINDOW)
        tab.press("send")  # which shows the end again
        expect(tab.page.locator("li[data-status=sent] .text").last).to_have_text("mine")
        expect(tab.texts.nth(-2)).to_have_text("new")
        expect(tab.room).to_have_attribute("data-newer", "false")
        chat.say("newest")
        expect(tab.texts.last).to_have_text("newest")


def test_a_channel_that_the_user_only_reads(browser: Browser, chat: Chat) -> None:
    channel = chat.make_room("news", "channel")["room_id"]
    private = chat.call("POST", "/rooms", {"type": "group"}, user="bob")["room_id"]
    chat.rooms += [channel, private, *(chat.make_room(f"other {number}")["room_id"] for number in range(3, 10))]
    chat.say("old", 1)
    with chat.open(browser, *REFUSED) as tab:
        tab.show(1)
        tab.expect_texts("old")
        chat.say("new", 1)
        tab.expect_texts("old", "new")
        expect(tab.output("total")).to_have_text("0")  # only rooms that the user has joined have unread messages
        for room in range(3, len(chat.rooms)):
            tab.show(room)
            expect(tab.page.locator("h1")).to_have_text(f"other {room}")
        chat.call("POST", f"/rooms/{channel}/members", {"user_id": "alice"})
        chat.say("to members", 1)
        expect(tab.output("total")).to_have_text("1")
        chat.say("to them again", 1)
        expect(tab.output("total")).to_have_text("2")
        tab.show(1)
        chat.say("while shown", 1)
        tab.expect_texts("old", "new", "to members", "to them again", "while shown")
        tab.show(2)
        expect(tab.output("error")).to_have_text("AUTHORIZATION_ERROR AUTHORIZATION_ERROR")
        chat.call("POST", f"/rooms/{private}/members", {"user_id": "alice"}, user="bob")
        chat.say("welcome", 2)
        tab.expect_texts("welcome")
        expect(tab.output("error")).to_have_text("")
        chat.call("DELETE", f"/rooms/{private}", user="bob")
        expect(tab.output("error")).to_have_text("NOT_FOUND NOT_FOUND")


def test_a_server_renders_the_hooks_without_a_window(project: Path) -> None:
    run = subprocess.run(["node", "server.mjs"], cwd=project, capture_output=True, text=True, timeout=250)
    assert run.returncode == 0, run.stderr
    shown = [json.loads(text) for text in re.findall("<p>(.*?)</p>", run.stdout)]
    assert shown == [[[], True, None, [], [], 0, "connecting"], [[], False, None, [], [], 0, "connecting"]]
