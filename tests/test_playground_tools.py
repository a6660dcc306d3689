"""The playground's tools: copies that are true and run, raw frames, members, topics and notifications."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_rig import PaneOf, Tenant, open_browser, open_room, panes
from playwright.sync_api import Browser, Locator, Page, Route, expect
from server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

NASTY = """It's "quoted" $HOME `id` \\ !! %s {a,b} [x] #1 @file
second line\t<b>&amp;</b> 🚢 مرحبا \u2028 end'"""
NASTY_USER = "o'brien\"$x`;&/@|:"
INSECURE = "playground.test"  # a host by plain http: no secure context, as on a machine in one's own network


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser(f"--host-resolver-rules=MAP {INSECURE} 127.0.0.1") as browser:
        yield browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("tools"), dev=False) as server:
        yield server


@pytest.fixture
def tenant(server: ServerProcess, request: pytest.FixtureRequest) -> Tenant:
    return Tenant(server, request.node.name[:100])


def read_clipboard(page: Page) -> str:
    """What a person would paste."""
    page.evaluate("document.body.append(Object.assign(document.createElement('textarea'), { id: 'pasted' }))")
    pasted = page.locator("#pasted")
    pasted.press("Control+V")
    text = pasted.input_value()
    pasted.evaluate("area => area.remove()")
    return text


def copy(page: Page, button: Locator) -> str:
    """Presses what copies, and returns what is in the clipboard when that is announced."""
    toast = page.locator("#toast")
    toast.evaluate("toast => toast.replaceChildren()")  # the copy before may still be announced
    button.click()
    expect(toast).to_contain_text("copied")
    return read_clipboard(page)


def choose(page: Page, button: Locator, label: str) -> str:
    """Copies by a menu, and returns what is in the clipboard then."""
    button.click()
    return copy(page, page.get_by_role("menuitem", name=label))


@pytest.mark.parametrize("host", ["127.0.0.1", INSECURE])
def test_text_announced_as_copied_is_copied(browser: Browser, tenant: Tenant, host: str) -> None:
    with tenant.visit(browser, f"http://{host}:{tenant.server.port}") as visitor:
        page = visitor.open()
        alice, _ = panes(page)
        assert page.evaluate("isSecureContext") == (host != INSECURE)
        room = page.evaluate("sessionStorage.getItem('chatapi-playground-room')")
        assert copy(page, page.get_by_role("button", name="Copy the room's id")) == room
        alice.say("copy me")
        alice.own.hover()
        assert choose(page, alice.own.get_by_role("button", name="Copy", exact=True), "Copy the text") == "copy me"


def test_text_that_cannot_be_copied_is_shown(browser: Browser, tenant: Tenant) -> None:
    with tenant.visit(browser) as visitor:
        visitor.context.add_init_script(
            "if (navigator.clipboard) navigator.clipboard.writeText = () => Promise.reject();"
            "document.execCommand = () => false;"
        )
        page = visitor.open()
        panes(page)
        page.get_by_role("button", name="Copy the room's id").click()
        dialog = page.get_by_role("dialog", name="Copy by hand")
        expect(dialog.locator("textarea")).to_have_value(
            page.evaluate("sessionStorage.getItem('chatapi-playground-room')")
        )
        expect(page.locator("#toast")).to_be_hidden()
        dialog.get_by_role("button", name="Done").click()
        expect(dialog).to_have_count(0)


def run(command: list[str], key: str, directory: Path) -> str:
    environment = {**os.environ, "KEY": key}
    done = subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_copied_message_runs(browser: Browser, tenant: Tenant, tmp_path: Path) -> None:
    tenant.users["a"] = NASTY_USER
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        nasty, bob = panes(page)
        nasty.say(NASTY)
        expect(bob.messages).to_have_count(1)
        button = nasty.own.get_by_role("button", name="Copy", exact=True)
        snippets = {}
        for label in ("Copy as curl", "Copy as Python", "Copy as JavaScript"):
            nasty.own.hover()
            snippets[label] = choose(page, button, label)
            assert tenant.key not in snippets[label]
        for shell in filter(shutil.which, ("bash", "zsh", "dash")):
            assert json.loads(run([shell, "-c", snippets["Copy as curl"]], tenant.key, tmp_path))["success"] is True
        written = [("copied.py", sys.executable, "Copy as Python"), ("copied.mjs", "node", "Copy as JavaScript")]
        for name, program, label in written:
            (tmp_path / name).write_text(snippets[label])
            assert run([program, name], tenant.key, tmp_path).startswith("201 ")
        count = bob.messages.count()
        assert count >= 4
        room = page.evaluate("sessionStorage.getItem('chatapi-playground-room')")
        stored = tenant.call("GET", f"/rooms/{room}/messages", user="bob")["messages"]
        assert {(message["content"], message["sender_id"]) for message in stored} == {(NASTY.strip(), NASTY_USER)}


def test_every_frame_is_copied_as_a_call_that_answers(browser: Browser, tenant: Tenant, tmp_path: Path) -> None:
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        frames = listen(page)
        page.reload()
        alice, bob = panes(page)
        alice.input.press_sequentially(NASTY.splitlines()[0])
        alice.input.press("Enter")
        bob.input.focus()
        expect(alice.own.locator(".mark")).to_have_attribute("data-mark", "read")
        room = page.evaluate("sessionStorage.getItem('chatapi-playground-room')")
        tenant.call("POST", "/notify", {"topic": "t", "payload": 1, "targets": {"user_ids": ["alice"]}})
        group = tenant.call("POST", "/rooms", {"type": "group", "members": ["bob"]})["room_id"]
        tenant.call("PATCH", f"/rooms/{group}", {"name": "x"})
        tenant.call("PATCH", f"/rooms/{group}/members/bob", {"role": "admin"})
        expect(page.locator("#frames .frame-type").filter(has_text="member.updated").first).to_be_visible()
        message = alice.own.get_attribute("data-message")
        for raw, answer in (
            ({"type": "subscribe", "data": {"room_id": room}}, "subscribed"),
            ({"type": "message.edit", "room_id": room, "message_id": message, "content": "x'"}, "message.edited"),
            ({"type": "nonsense"}, "error"),
        ):
            send_raw(page, json.dumps(raw))
            expect(page.locator(".raw-answer")).to_contain_text(f'type: "{answer}"')
        snippets = page.evaluate(
            """async (frames) => {
              const { deedOf, snippetsOf } = await import("/playground/snippets.js");
              const snippets = ({ direction, frame }) => snippetsOf(deedOf(frame, direction), "alice");
              return frames.map((one) => snippets(one).map(({ text }) => text));
            }""",
            frames,
        )
        seen = {frame["frame"].get("type") for frame in frames}
        assert {
            "ready",
            "sync",
            "ack",
            "message",
            "message.sent",
            "typing.start",
            "typing",
            "read",
            "room.updated",
        } <= seen
        assert {"member.updated", "notification", "subscribe", "message.edit", "message.edited", "error"} <= seen
        curls = sorted({curl for curl, _python, _javascript in snippets})
        script = "\n".join(f"{curl}; echo" for curl in curls)
        answers = [json.loads(line) for line in run(["bash", "-c", script], tenant.key, tmp_path).splitlines()]
        assert len(answers) == len(curls)
        assert [answer for answer in answers if not answer["success"]] == []
        for _curl, python, javascript in snippets:
            compile(python, "copied", "exec")
            assert tenant.key not in python + javascript
        for number, javascript in enumerate({javascript for _curl, _python, javascript in snippets}):
            (tmp_path / f"{number}.mjs").write_text(javascript)
            run(["node", "--check", f"{number}.mjs"], tenant.key, tmp_path)


def test_python_snippet_of_a_frame_without_a_route_runs(browser: Browser, tenant: Tenant, tmp_path: Path) -> None:
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        panes(page)
        text = page.evaluate(
            """async () => {
              const { deedOf, snippetsOf } = await import("/playground/snippets.js");
              return snippetsOf(deedOf({ type: "ping", request_id: "r-1" }, "out"), "alice")[1].text;
            }"""
        )
        until_pong = text.replace("        print(answer)", "        print(answer)\n        if 'pong' in answer: break")
        (tmp_path / "copied.py").write_text(until_pong)
        answers = run([sys.executable, "copied.py"], tenant.key, tmp_path).splitlines()
        assert json.loads(answers[-1]) == {"type": "pong", "request_id": "r-1"}


def listen(page: Page) -> list[dict[str, Any]]:
    """Every frame of the page's sockets from its next load on."""
    frames: list[dict[str, Any]] = []

    def keep(direction: str, payload: str | bytes) -> None:
        frames.append({"direction": direction, "frame": json.loads(payload)})

    def watch(socket: Any) -> None:
        socket.on("framesent", lambda payload: keep("out", payload))
        socket.on("framereceived", lambda payload: keep("in", payload))

    page.on("websocket", watch)
    return frames


def send_raw(page: Page, text: str) -> None:
    box = page.locator("#frames .raw")
    if box.get_attribute("open") is None:
        box.locator("summary").first.click()
    written = box.get_by_role("textbox", name="The frame, as JSON")
    expect(written).not_to_have_value("")  # the sample comes a moment after it was opened
    written.fill(text)
    box.get_by_role("button", name="Send frame").click()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"type": "ping"}', 'type: "pong"'),
        ('{"type": "ping", "request_id": "mine"}', 'request_id: "mine"'),
        ('{"type": "ping", "data": {}}', 'type: "pong"'),
        ("{}", "VALIDATION_ERROR"),
        ('{"type": "nonsense"}', "Unknown frame type"),
        ('{"type": "send_message", "room_id": "room_0", "content": "x"}', "NOT_FOUND"),
        ("not JSON", "VALIDATION_ERROR"),
        ("[1, 2]", "VALIDATION_ERROR"),
        ('"text"', "VALIDATION_ERROR"),
    ],
)
def test_a_raw_frame_and_its_answer(raw_page: Page, text: str, answer: str) -> None:
    send_raw(raw_page, text)
    expect(raw_page.locator(".raw-answer")).to_contain_text(answer)
    expect(raw_page.locator("#toast")).to_be_hidden()  # it is answered where it was sent


@pytest.fixture(scope="module")
def raw_page(browser: Browser, server: ServerProcess) -> Iterator[Page]:
    with Tenant(server, "raw").visit(browser) as visitor:
        page = visitor.open()
        panes(page)
        yield page


def test_text_that_was_written_before_there_is_a_room_waits(browser: Browser, server: ServerProcess) -> None:
    held: list[Route] = []
    with Tenant(server, "early").visit(browser) as visitor:
        creation = re.compile(r"/rooms$")
        visitor.context.route(creation, lambda route: held.append(route) if is_post(route) else route.continue_())
        page = visitor.open()
        alice = PaneOf(page, "a")
        alice.expect_live()
        alice.input.fill("Early")
        alice.input.press("Enter")
        expect(alice.input).to_have_value("Early")
        while not held:
            page.wait_for_timeout(20)
        held.pop().continue_()
        expect(alice.root).to_have_attribute("aria-label", re.compile(" in "))
        expect(alice.input).to_have_value("Early")
        alice.input.press("Enter")
        alice.expect_contents(["Early"])


def is_post(route: Route) -> bool:
    return route.request.method == "POST"


def test_a_raw_frame_from_a_sample(browser: Browser, tenant: Tenant) -> None:
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        box = page.locator("#frames .raw")
        box.locator("summary").first.click()
        box.get_by_role("combobox", name="Send as").select_option("bob")
        box.get_by_role("combobox", name="Start from").select_option("send_message")
        box.get_by_role("button", name="Send frame").click()
        expect(page.locator(".raw-answer")).to_contain_text("message.sent")
        alice.expect_contents(["Hello from a raw frame"])
        expect(bob.own).to_have_count(1)
        sent = page.locator(".frame-list details[data-direction=out]").filter(has_text="Hello from a raw frame")
        expect(sent).to_have_count(1)
        bob.cut.click()
        box.get_by_role("button", name="Send frame").click()
        expect(page.locator(".raw-answer")).to_contain_text("has no WebSocket")


def test_members_and_roles(browser: Browser, tenant: Tenant) -> None:
    tenant.call("POST", "/rooms", {"type": "group", "name": "Keepers", "members": ["bob", "carol"]})
    with tenant.visit(browser, excused=("status of 403",)) as visitor:
        page = visitor.open()
        _, bob = panes(page)
        open_room(page, "Keepers")
        page.get_by_role("tab", name="Members").click()
        members = page.locator("#members .member")
        expect(members).to_have_count(3)
        row = members.filter(has_text="bob")
        expect(row.locator(".role")).to_have_text("member")
        row.get_by_role("button", name="Change bob").click()
        page.get_by_role("menuitem", name="Make bob an admin").click()
        expect(row.locator(".role")).to_have_text("admin")
        expect(bob.root.locator(".note")).to_contain_text("bob is now admin")
        members.filter(has_text="carol").get_by_role("button").click()
        page.get_by_role("menuitem", name="Remove carol").click()
        expect(members).to_have_count(2)
        page.get_by_role("textbox", name="User id to add").fill("dave")
        page.locator("#members").get_by_role("button", name="Add").click()
        expect(members.filter(has_text="dave")).to_have_count(1)
        members.filter(has_text="bob").get_by_role("button").click()
        page.get_by_role("menuitem", name="Remove bob").click()
        expect(bob.root.locator(".outside")).to_be_visible()
        bob.root.get_by_role("button", name="Add bob").click()
        expect(bob.input).to_be_visible()


def test_topics_and_notifications(browser: Browser, tenant: Tenant) -> None:
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        panes(page)
        page.get_by_role("tab", name="Notifications").click()
        inbox = page.get_by_role("region", name="Notifications of bob")
        inbox.get_by_role("textbox", name="Topic for bob").fill("order.shipped")
        inbox.get_by_role("button", name="Subscribe").click()
        expect(inbox.locator(".topic")).to_have_text("order.shipped")
        page.locator("#topics").get_by_role("button", name="Notify", exact=True).click()
        expect(page.locator("#topics .outcome")).to_have_text("Stored for 1 recipient.")
        notification = inbox.locator(".notification")
        expect(notification).to_have_attribute("data-status", "pending")
        expect(notification).to_contain_text("order: 42")
        expect(page.get_by_role("tab", name="Notifications").locator(".badge")).to_have_text("1")
        assert len(tenant.call("GET", "/notifications?status=pending", user="bob")["notifications"]) == 1
        notification.get_by_role("button", name="Ack").click()
        expect(notification).to_have_attribute("data-status", "delivered")
        assert tenant.call("GET", "/notifications?status=pending", user="bob")["notifications"] == []
        inbox.get_by_role("button", name="Remove the topic order.shipped").click()
        expect(inbox.locator(".topic")).to_have_count(0)
        page.get_by_role("textbox", name="Payload, as JSON").fill("{")
        page.locator("#topics").get_by_role("button", name="Notify", exact=True).click()
        expect(page.locator("#topics .outcome")).to_contain_text("payload")


def test_notifications_come_page_by_page(browser: Browser, tenant: Tenant) -> None:
    for number in range(45):
        tenant.call("POST", "/notify", {"topic": "t", "payload": number, "targets": {"user_ids": ["bob"]}})
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        panes(page)
        page.get_by_role("tab", name="Notifications").click()
        inbox = page.get_by_role("region", name="Notifications of bob")
        expect(inbox.locator(".notification")).to_have_count(20)
        for count in (40, 45):
            inbox.get_by_role("button", name="Older ones").click()
            expect(inbox.locator(".notification")).to_have_count(count)
        expect(inbox.locator(".notification-payload")).to_have_text([str(number) for number in reversed(range(45))])


def test_the_numbers_stand_beside_the_messages(browser: Browser, tenant: Tenant) -> None:
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        alice.say("one")
        alice.say("two")
        for pane in (alice, bob):
            expect(pane.messages.locator(".seq")).to_have_text(["#1", "#2"])
