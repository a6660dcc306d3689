"""Threads, pins, and each user's own view of a room in the playground."""

from collections.abc import Iterator

import pytest
from accessibility import Inspector
from browser_rig import DESKTOP, PHONE, PaneOf, Tenant, open_room, panes
from playwright.sync_api import Browser, expect
from server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("threads"), dev=False) as server:
        yield server


@pytest.fixture
def tenant(server: ServerProcess, request: pytest.FixtureRequest) -> Tenant:
    return Tenant(server, request.node.name[:100])


def make_room(tenant: Tenant) -> str:
    body: dict[str, object] = {"type": "group", "name": "Lighthouse", "members": ["bob"]}
    return str(tenant.call("POST", "/rooms", body)["room_id"])


def write(tenant: Tenant, room: str, text: str, user: str = "alice", **more: object) -> str:
    return str(tenant.call("POST", f"/rooms/{room}/messages", {"content": text, **more}, user)["message_id"])


def thread_of(pane: PaneOf) -> PaneOf:
    """The same parts, within the thread."""
    inner = PaneOf(pane.root.page, str(pane.root.get_attribute("data-slot")))
    inner.root = pane.root.locator(".thread")
    inner.messages = inner.root.locator(".messages:not(.drafts) .message")
    return inner


def test_a_thread_by_keyboard(browser: Browser, tenant: Tenant) -> None:
    room = make_room(tenant)
    root = write(tenant, room, "who keeps the lamp?")
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "Lighthouse")
        flow = bob.root.locator("> .timeline .message")
        link = alice.root.locator(f"> .timeline [data-message={root}] .thread-link")
        expect(link).to_be_hidden()
        bob.messages.get_by_role("button", name="Thread", exact=True).focus()
        page.keyboard.press("Enter")
        thread = thread_of(bob)
        expect(thread.root.get_by_role("heading")).to_have_text("Thread: 0 replies")
        expect(thread.root.get_by_role("heading")).to_be_focused()
        thread.expect_contents(["who keeps the lamp?"])
        bob.say("I do")
        thread.expect_contents(["who keeps the lamp?", "I do"])
        expect(thread.root.get_by_role("heading")).to_have_text("Thread: 1 reply")
        expect(link).to_have_text("1 reply")
        replies = tenant.call("GET", f"/rooms/{room}/messages?thread_id={root}")["messages"]
        assert [(one["content"], one["thread_id"]) for one in replies] == [("I do", root)]
        reply = write(tenant, room, "and I", thread_id=root)
        thread.expect_contents(["who keeps the lamp?", "I do", "and I"])
        expect(link).to_have_text("2 replies")
        tenant.call("DELETE", f"/rooms/{room}/messages/{reply}")
        expect(link).to_have_text("1 reply")
        expect(thread.root.get_by_role("heading")).to_have_text("Thread: 1 reply")
        bob.input.focus()
        page.keyboard.press("ArrowUp")  # an edit: Escape leaves it, and only then the thread
        page.keyboard.press("Escape")
        expect(thread.root).to_be_visible()
        page.keyboard.press("Escape")
        expect(thread.root).to_be_hidden()
        expect(bob.root.get_by_role("log")).to_be_focused()
        expect(flow.locator(".thread-link:visible")).to_have_text(["1 reply", "in a thread", "in a thread"])
        bob.say("not in the thread")
        expect(alice.root.locator("> .timeline").get_by_text("not in the thread")).to_be_visible()
        assert len(tenant.call("GET", f"/rooms/{room}/messages?thread_id={root}")["messages"]) == 2
        alice.message("I do").locator(".thread-link").click()  # of a reply: its root's thread
        expect(thread_of(alice).messages).to_have_count(3)
        page.reload()
        alice, _ = panes(page)
        expect(alice.message("who keeps").locator(".thread-link")).to_have_text("1 reply")


def test_a_long_thread_comes_page_by_page(browser: Browser, tenant: Tenant) -> None:
    room = make_room(tenant)
    root = write(tenant, room, "root")
    for number in range(70):
        write(tenant, room, f"line {number}", thread_id=root)
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, _ = panes(page)
        open_room(page, "Lighthouse")
        alice.messages.last.locator(".thread-link").click()  # its root is not among the page's messages
        thread = thread_of(alice)
        expect(thread.root.get_by_role("heading")).to_have_text("Thread: 70 replies")
        for count in (61, 71):
            thread.root.locator(".log").evaluate("log => { log.scrollTop = 0; }")
            expect(thread.messages).to_have_count(count)
        assert thread.contents() == ["root", *(f"line {number}" for number in range(70))]


def test_messages_are_pinned_and_unpinned(browser: Browser, tenant: Tenant) -> None:
    room = make_room(tenant)
    first, second = write(tenant, room, "<b>first</b>"), write(tenant, room, "second", "bob")
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "Lighthouse")
        expect(bob.root.get_by_role("button", name="Pin", exact=True)).to_have_count(0)
        for text in ("<b>first</b>", "second"):
            alice.message(text).get_by_role("button", name="Pin", exact=True).focus()
            page.keyboard.press("Enter")
            expect(bob.message(text).locator(".pinned")).to_have_count(1)
        for pane in (alice, bob):
            expect(pane.root.locator(".pins summary")).to_have_text("2 pinned messages")
        bob.root.locator(".pins summary").focus()
        page.keyboard.press("Enter")
        expect(bob.root.locator(".pin .quote > span:last-child")).to_have_text(["second", "<b>first</b>"])
        expect(bob.root.get_by_role("button", name="Unpin")).to_have_count(0)
        bob.root.locator(".pin button").last.click()
        expect(bob.message("<b>first</b>")).to_be_focused()
        alice.message("second").get_by_role("button", name="Unpin", exact=True).dispatch_event("click")
        expect(bob.root.locator(".pins summary")).to_have_text("1 pinned message")
        expect(bob.message("second").locator(".pinned")).to_have_count(0)
        tenant.call("DELETE", f"/rooms/{room}/messages/{first}")
        expect(bob.root.locator(".pins")).to_be_hidden()
        tenant.call("PATCH", f"/rooms/{room}/members/bob", {"role": "admin"})
        bob.message("second").get_by_role("button", name="Pin", exact=True).dispatch_event("click")
        expect(alice.root.locator(".pins summary")).to_have_text("1 pinned message")
        assert [one["message_id"] for one in tenant.call("GET", f"/rooms/{room}/pins")["messages"]] == [second]


def test_each_user_has_a_view_of_the_room(browser: Browser, tenant: Tenant) -> None:
    room = make_room(tenant)
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        panes(page)
        open_room(page, "Lighthouse")
        row = page.locator(".room").filter(has_text="Lighthouse")
        page.get_by_role("button", name="Hide the room from bob").click()
        expect(row).to_contain_text("hidden from bob")
        assert room not in [one["room_id"] for one in tenant.call("GET", "/rooms", user="bob")["rooms"]]
        notify = page.get_by_role("combobox", name="Notify bob of")
        notify.select_option("mentions")
        expect(page.get_by_role("button", name="Show the room to bob")).to_be_visible()
        write(tenant, room, "hello")
        expect(row).not_to_contain_text("hidden")  # somebody else posted
        expect(page.get_by_role("combobox", name="Notify bob of")).to_have_value("mentions")
        (mine,) = (one for one in tenant.call("GET", "/rooms", user="bob")["rooms"] if one["room_id"] == room)
        assert (mine["notify"], mine["hidden"]) == ("mentions", False)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE])
def test_axe_finds_nothing(browser: Browser, tenant: Tenant, axe: str, viewport: dict[str, int]) -> None:
    room = make_room(tenant)
    root = write(tenant, room, "root")
    write(tenant, room, "reply", "bob", thread_id=root)
    tenant.call("PUT", f"/rooms/{room}/pins/{root}")
    with tenant.visit(browser, viewport=viewport) as visitor:
        visitor.context.add_init_script(f"if (location.host) sessionStorage['chatapi-playground-room'] = '{room}'")
        page = visitor.open()
        alice = PaneOf(page, "a")
        alice.expect_live()
        inspector = Inspector(page, axe)
        alice.root.locator(".pins summary").click()
        inspector.look("pins and replies")
        alice.messages.last.locator(".thread-link").click()
        expect(thread_of(alice).messages).to_have_count(2)
        inspector.look("a thread")
        if viewport is PHONE:
            page.locator(".views [data-view=rooms]").click()
            inspector.look("views of a room")
        assert not inspector.found, "\n".join(inspector.found)
