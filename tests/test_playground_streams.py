"""Messages in the playground that are still being written, and the agent of `serve --dev`."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from accessibility import Inspector
from browser_rig import PHONE, PaneOf, Tenant, open_room, panes, visit
from playwright.sync_api import Browser, Locator, Page, expect
from proxy import FOREIGN_ANSWERS, Proxy
from server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

LINES = "".join(f"line {number}\n" for number in range(60))
SCROLL = (
    "(log, top) => new Promise((done) => { log.onscrollend = done; log.scrollTop = top; }).then(() => log.scrollTop)"
)
NEXT_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("streams")) as server:
        yield server


@pytest.fixture
def tenant(server: ServerProcess, request: pytest.FixtureRequest) -> Tenant:
    return Tenant(server, request.node.name[:100])


class Stream:
    """One that bob writes by REST, in a room of his and alice's."""

    def __init__(self, tenant: Tenant, content: str = "", room: str = "", **fields: object) -> None:
        self._tenant = tenant
        self.room = room or make_room(tenant)
        draft = {"content": content, "stream": True, **fields}
        self.id = tenant.call("POST", f"/rooms/{self.room}/messages", draft, "bob")["message_id"]
        self._index = 0

    def append(self, text: str) -> dict[str, Any]:
        self._index += 1
        return self._post("append", {"index": self._index, "text": text})

    def finish(self, state: str = "done", **fields: object) -> None:
        self._post("finish", {"state": state, **fields})

    def _post(self, action: str, body: dict[str, object]) -> dict[str, Any]:
        return self._tenant.call("POST", f"/rooms/{self.room}/messages/{self.id}/{action}", body, "bob")

    def at(self, pane: PaneOf, timeline: str = ".timeline:not([hidden])") -> Locator:
        return pane.root.locator(f"{timeline} [data-message={self.id}]")


def make_room(tenant: Tenant) -> str:
    body: dict[str, object] = {"type": "group", "name": "Lighthouse", "members": ["bob"]}
    return str(tenant.call("POST", "/rooms", body)["room_id"])


def open_lighthouse(page: Page) -> tuple[PaneOf, PaneOf]:
    both = panes(page)
    open_room(page, "Lighthouse")
    return both


def state_of(message: Locator) -> Locator:
    return message.locator(".stream-state")


def place_of(message: Locator) -> float:
    """How far down the page it stands, in pixels."""
    return float(message.evaluate("(element) => element.getBoundingClientRect().top"))


def test_a_message_grows(browser: Browser, tenant: Tenant, axe: str) -> None:
    stream = Stream(tenant)
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = open_lighthouse(page)
        message, text = stream.at(alice), stream.at(alice).locator(".content")
        expect(state_of(message)).to_have_text("writing")
        expect(text).to_have_attribute("aria-busy", "true")
        expect(text).to_have_attribute("aria-live", "off")
        expect(page.locator(".room-last").filter(has_text="bob is writing …")).to_be_visible()
        expect(stream.at(bob).get_by_role("button", name="Edit")).to_have_count(0)
        bob.input.press("ArrowUp")
        expect(bob.root.locator(".hint")).to_be_hidden()
        text.evaluate("(element) => { element.isTheSame = true; }")
        stream.append("See https://exam")
        expect(text).to_have_text("See https://exam")
        stream.append("ple.org <b>& more</b>")
        tenant.call("PUT", f"/rooms/{stream.room}/pins/{stream.id}")
        expect(text).to_have_text("See https://example.org <b>& more</b>")
        expect(alice.root.locator(".pin")).to_contain_text("more</b> … (being written)")
        inspector = Inspector(page, axe)
        inspector.look("growing")

        page.reload()
        alice, bob = panes(page)
        expect(text).to_have_text("See https://example.org <b>& more</b>")
        alice.cut.click()
        expect(alice.state).to_have_attribute("data-state", "paused")
        stream.append(" that")
        expect(stream.at(bob).locator(".content")).to_contain_text("more</b> that")
        stream.append(" was missed")
        alice.cut.click()
        expect(text).to_have_text("See https://example.org <b>& more</b> that was missed")
        stream.append(".")
        stream.finish()
        expect(state_of(message)).to_have_text("done")
        expect(text).to_have_text("See https://example.org <b>& more</b> that was missed.")
        expect(text.get_by_role("link")).to_have_attribute("href", "https://example.org/")
        expect(message.locator(".stop, .growing")).to_have_count(0)
        expect(stream.at(bob).get_by_role("button", name="Edit")).to_have_count(1)
        page.set_viewport_size(PHONE)
        inspector.look("done, on a phone")
        assert inspector.found == []


def test_new_text_is_added_to_the_paragraph(browser: Browser, tenant: Tenant) -> None:
    stream = Stream(tenant, "a")
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, _bob = open_lighthouse(page)
        text = stream.at(alice).locator(".content")
        expect(text).to_have_text("a")
        text.evaluate("(element) => { element.isTheSame = true; }")
        for number in range(3):
            stream.append(str(number) * 3000)
        expect(text).to_have_text(f"a{'0' * 3000}{'1' * 3000}{'2' * 3000}")
        assert text.evaluate("(element) => element.isTheSame")
        assert text.evaluate("(element) => element.childNodes.length") == 2
        stream.finish()
        expect(state_of(stream.at(alice))).to_have_text("done")
        assert len(text.inner_text()) == 9001  # it grew before the reader's eyes, and is not folded now
        stream.at(alice).get_by_role("button", name="Show less").click()
        assert len(text.inner_text()) < 2000


def test_the_stop_button_asks_the_writer(browser: Browser, tenant: Tenant) -> None:
    stream = Stream(tenant, "and then")
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = open_lighthouse(page)
        message = stream.at(alice)
        message.get_by_role("button", name="Stop", exact=True).focus()
        page.keyboard.press("Enter")
        expect(state_of(message)).to_have_text("asked to stop")
        expect(message).to_be_focused()
        expect(message.locator(".stop")).to_be_hidden()
        expect(state_of(stream.at(bob))).to_have_text("asked to stop")
        page.reload()
        expect(state_of(message)).to_have_text("asked to stop")
        assert stream.append(" a last word")["cancel_requested"] is True
        expect(message.locator(".content")).to_have_text("and then a last word")
        expect(state_of(message)).to_have_text("asked to stop")
        stream.finish("cancelled")
        expect(state_of(message)).to_have_text("cancelled")

        tenant.call("PATCH", f"/rooms/{stream.room}/members/bob", {"muted_for": 3600})
        spoken = tenant.call("POST", f"/rooms/{stream.room}/messages", {"content": "", "stream": True})["message_id"]
        for pane, may_stop in ((alice, True), (bob, False)):
            stop = pane.root.locator(f"[data-message={spoken}] .stop")
            expect(stop).to_be_visible() if may_stop else expect(stop).to_be_hidden()


def test_the_stop_button_where_no_websockets_pass(browser: Browser, tenant: Tenant, server: ServerProcess) -> None:
    stream = Stream(tenant, "and then")
    with Proxy(server.port) as proxy:
        proxy.answer("GET", "^/(v1/)?ws", [FOREIGN_ANSWERS["text_426"]] * 1000)
        with tenant.visit(browser, proxy.url, excused=("WebSocket connection to", "status of 426")) as visitor:
            page = visitor.open()
            for pane in (PaneOf(page, "a"), PaneOf(page, "b")):
                expect(pane.state).to_have_text("live over SSE", timeout=30_000)
            alice, bob = open_lighthouse(page)
            stream.append(" more")
            message = stream.at(alice)
            expect(message.locator(".content")).to_have_text("and then more")
            message.get_by_role("button", name="Stop", exact=True).click()
            for pane in (alice, bob):
                expect(state_of(stream.at(pane))).to_have_text("asked to stop")
            assert stream.append(", a last word")["cancel_requested"] is True
            expect(message.locator(".content")).to_have_text("and then more, a last word")
            stream.finish("cancelled")
            expect(state_of(message)).to_have_text("cancelled")


@pytest.mark.parametrize(("state", "shown"), [("failed", "failed"), ("deleted", None)])
def test_a_stream_that_ends_without_text(browser: Browser, tenant: Tenant, state: str, shown: str | None) -> None:
    stream = Stream(tenant)
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, _bob = open_lighthouse(page)
        message = stream.at(alice)
        expect(state_of(message)).to_have_text("writing")
        if shown:
            stream.finish(state, meta={"error": "no more <b>tokens</b>"})
            expect(state_of(message)).to_have_text(shown)
            expect(message.locator(".stream-reason")).to_have_text("no more <b>tokens</b>")
            expect(message.locator(".content")).to_have_text("no text")
        else:
            tenant.call("DELETE", f"/rooms/{stream.room}/messages/{stream.id}", user="bob")
            expect(message.locator(".content")).to_have_text("Message deleted")
            expect(state_of(message)).to_have_count(0)


def test_a_reader_who_has_scrolled_up_stays_there(browser: Browser, tenant: Tenant) -> None:
    room = make_room(tenant)
    tenant.call("POST", f"/rooms/{room}/messages", {"content": "the first"})
    stream = Stream(tenant, "start\n", room)
    for number in range(20):
        tenant.call("POST", f"/rooms/{room}/messages", {"content": f"after it {number}"}, "bob")
    last = Stream(tenant, "the last\n", room)
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = open_lighthouse(page)
        logs = {pane: pane.root.locator(".timeline .log") for pane in (alice, bob)}
        expect(last.at(alice)).to_be_in_viewport()
        end = logs[alice].evaluate("(log) => log.scrollTop")
        top = logs[alice].evaluate(SCROLL, end - 30)
        last.append(LINES)
        for pane in (alice, bob):
            expect(last.at(pane).locator(".content")).to_contain_text("line 59")
        page.evaluate(NEXT_FRAMES)
        assert logs[alice].evaluate("(log) => log.scrollTop") == top
        assert logs[bob].evaluate("(log) => log.scrollHeight - log.scrollTop - log.clientHeight") <= 1

        shown = bob.message("after it 15")
        shown.evaluate("(element) => element.scrollIntoView({ block: 'center' })")
        page.evaluate(NEXT_FRAMES)
        before = place_of(shown)
        stream.append(LINES)
        expect(stream.at(bob).locator(".content")).to_contain_text("line 59")
        page.evaluate(NEXT_FRAMES)
        assert place_of(shown) == pytest.approx(before, abs=1)  # though a message above it has grown
        stream.finish()
        expect(state_of(stream.at(bob))).to_have_text("done")
        page.evaluate(NEXT_FRAMES)
        assert place_of(shown) == pytest.approx(before, abs=1)


def test_a_reply_grows_in_its_thread_and_in_the_room(browser: Browser, tenant: Tenant) -> None:
    room = make_room(tenant)
    root = tenant.call("POST", f"/rooms/{room}/messages", {"content": "a question"})["message_id"]
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = open_lighthouse(page)
        alice.messages.get_by_role("button", name="Thread", exact=True).click()
        expect(alice.root.locator(".thread .message")).to_have_count(1)
        stream = Stream(tenant, "", room, thread_id=root)
        inside = stream.at(alice, ".thread .timeline")
        expect(inside.get_by_role("button", name="Stop", exact=True)).to_be_visible()
        stream.append("an ")
        expect(inside.locator(".content")).to_have_text("an")
        stream.append("answer")
        for message in (inside, stream.at(bob, "> .timeline"), stream.at(alice, "> .timeline")):
            expect(message.locator(".content")).to_have_text("an answer")
        inside.get_by_role("button", name="Stop", exact=True).click()
        expect(state_of(inside)).to_have_text("asked to stop")
        stream.finish(content="another answer")
        expect(state_of(inside)).to_have_text("done")
        expect(inside.locator(".content")).to_have_text("another answer")


def test_a_copied_pipe_writes_the_stream_again(browser: Browser, tenant: Tenant, tmp_path: Path) -> None:
    stream = Stream(tenant, "it's $HOME, 100 %\n`second` line ⚓")
    stream.finish()
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, _bob = open_lighthouse(page)
        stream.at(alice).hover()
        stream.at(alice).get_by_role("button", name="Copy", exact=True).click()
        expect(page.get_by_role("menuitem", name="Copy as a pipe")).to_be_visible()
        messages = f"/rooms/{stream.room}/messages"
        message = tenant.call("GET", f"{messages}/{stream.id}")
        text = page.evaluate(
            """async (message) => {
              const { pipeOf } = await import("/playground/snippets.js");
              return pipeOf(message, "alice").text;
            }""",
            message,
        )
    subprocess.run(["sh", "-c", text], env={**os.environ, "KEY": tenant.key}, cwd=tmp_path, check=True, timeout=250)
    again = tenant.call("GET", messages)["messages"][-1]
    assert (again["content"], again["sender_id"], again["stream"]) == (message["content"], "alice", {"state": "done"})


def test_the_agent_of_a_developers_server_answers_word_by_word(browser: Browser, server: ServerProcess) -> None:
    with visit(browser, server.url) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        alice.root.get_by_role("button", name="Talk to echo").click()
        expect(alice.input).to_be_focused()
        expect(alice.messages.first.locator(".content")).to_contain_text("Hello, I am echo")
        alice.input.press_sequentially("say this")
        alice.input.press("Enter")
        for pane in (alice, bob):
            expect(pane.messages.nth(2).locator(".content")).to_have_text("say this")
        expect(page.locator(".room-list").get_by_text("Talk to echo")).to_have_count(1)
        alice.say("@echo " + "ab " * 6000)  # that takes half a minute
        answer = bob.messages.nth(4)
        expect(answer.locator(".growing")).to_contain_text("ab ab")
        answer.get_by_role("button", name="Stop", exact=True).click()
        expect(state_of(alice.messages.nth(4))).to_have_text("cancelled")
