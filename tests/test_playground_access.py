"""The playground for everybody: axe-core in every state, the keyboard alone, and what is read out."""

from collections.abc import Iterator

import pytest
from accessibility import Inspector
from browser_rig import DESKTOP, PHONE, UNREACHABLE, PaneOf, Tenant, panes
from playwright.sync_api import Browser, Locator, Page, expect
from server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("access"), dev=False) as server:
        yield server


@pytest.fixture
def tenant(server: ServerProcess, request: pytest.FixtureRequest) -> Tenant:
    tenant = Tenant(server, request.node.name[:100])
    fill(tenant)
    return tenant


def fill(tenant: Tenant) -> None:
    """Something of everything that can be seen."""
    name = "A channel whose name is too long for wherever it may stand"
    news = {"type": "channel", "name": name, "members": ["carol"]}
    tenant.call("POST", "/rooms", news, "zoe")
    for number in range(8):
        tenant.call("POST", "/rooms", {"type": "group", "name": f"Room {number}", "members": ["bob"]})
    direct = tenant.call("POST", "/rooms", {"type": "dm", "members": ["bob"]})["room_id"]
    first = tenant.call("POST", f"/rooms/{direct}/messages", {"content": "See https://example.com for more"})
    reply = {"content": "long " * 600, "reply_to": first["message_id"]}
    tenant.call("POST", f"/rooms/{direct}/messages", reply, "bob")
    gone = tenant.call("POST", f"/rooms/{direct}/messages", {"content": "gone"})["message_id"]
    tenant.call("DELETE", f"/rooms/{direct}/messages/{gone}")
    tenant.call("PUT", f"/rooms/{direct}/messages/{first['message_id']}", {"content": "See https://example.com"})
    tenant.call("POST", "/subscriptions", {"topic": "order.shipped"})
    for number in range(3):
        shipped = {"topic": "order.shipped", "payload": {"n": number}, "targets": {"user_ids": ["alice"]}}
        tenant.call("POST", "/notify", shipped)


def test_every_state_at_a_desk(browser: Browser, tenant: Tenant, server: ServerProcess, axe: str) -> None:
    with tenant.visit(browser, excused=(*UNREACHABLE, "status of 403")) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        inspector = Inspector(page, axe)
        inspector.look("chat")
        alice.own.first.hover()
        alice.own.first.get_by_role("button", name="Copy", exact=True).click()
        inspector.look("menu")
        page.keyboard.press("Escape")
        bob.cut.click()
        alice.input.fill("typing")
        alice.message("long").first.get_by_role("button", name="Reply").dispatch_event("click")
        bob.say("a draft")
        inspector.look("cut, reply and draft")
        bob.cut.click()
        page.get_by_role("tab", name="Members").click()
        expect(page.locator("#members .member")).to_have_count(2)
        inspector.look("members")
        page.get_by_role("tab", name="Notifications").click()
        expect(page.locator("#topics .notification").first).to_be_visible()
        inspector.look("notifications")
        page.get_by_role("tab", name="Frames").click()
        page.locator("#frames .raw summary").first.click()
        page.get_by_role("button", name="Send frame").click()
        expect(page.locator(".raw-answer")).to_contain_text("pong")
        page.locator(".frame-list summary").last.click()
        inspector.look("raw frame")
        page.get_by_role("searchbox", name="Find a room").fill("channel whose")
        page.locator(".room").first.click()
        expect(alice.root.locator(".outside")).to_be_visible()
        inspector.look("a channel, not joined")
        page.get_by_role("searchbox", name="Find a room").fill("nothing like this")
        expect(page.locator(".room")).to_have_count(0)
        inspector.look("nothing found")
        for button, state in (("New room", "new room"), ("Key and users", "key and users")):
            page.get_by_role("button", name=button).click()
            inspector.look(state)
            page.keyboard.press("Escape")
        server.kill()
        try:
            expect(alice.notice).to_be_visible()
            inspector.look("the server is dead")
        finally:
            server.start()
        bob.expect_live()
        page.route("**/v1/**", lambda route: route.abort())
        page.reload()
        expect(page.locator(".trouble")).to_be_visible()
        inspector.look("a page that cannot begin")
        assert not inspector.found, "\n".join(inspector.found)


def test_every_state_on_a_phone(browser: Browser, tenant: Tenant, server: ServerProcess, axe: str) -> None:
    phone = {"viewport": PHONE, "is_mobile": True, "has_touch": True}
    with tenant.visit(browser, excused=UNREACHABLE, **phone) as visitor:
        page = visitor.open()
        alice = PaneOf(page, "a")
        alice.expect_live()
        inspector = Inspector(page, axe)
        for view in ("a", "b", "rooms", "frames"):
            page.locator(f".views [data-view={view}]").tap()
            inspector.look(view)
        for tab in ("Members", "Notifications"):
            page.get_by_role("tab", name=tab).tap()
            inspector.look(tab)
        server.kill()
        try:
            page.locator(".views [data-view=a]").tap()
            expect(alice.notice).to_be_visible()
            inspector.look("the server is dead")
        finally:
            server.start()
        alice.expect_live()
        page.route("**/v1/**", lambda route: route.abort())
        page.reload()
        expect(page.locator(".trouble")).to_be_visible()
        inspector.look("a page that cannot begin")
        assert not inspector.found, "\n".join(inspector.found)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE])
def test_reactions_and_obstacles(browser: Browser, tenant: Tenant, axe: str, viewport: dict[str, int]) -> None:
    body: dict[str, object] = {"type": "group", "name": "Lighthouse", "members": ["bob"]}
    room = tenant.call("POST", "/rooms", body)["room_id"]
    tenant.call("PUT", f"/rooms/{room}/bans/carol", {"reason": "shouting"})
    tenant.call("PUT", "/users/alice", {"name": "Alice of a name that is longer than what can be shown of it"})
    tenant.call("POST", f"/rooms/{room}/messages", {"content": "@bob", "mentions": ["bob"]})
    message = (
        f"/rooms/{room}/messages/" + tenant.call("POST", f"/rooms/{room}/messages", {"content": "x"})["message_id"]
    )
    for emoji, user in (("x", "alice"), ("x", "bob"), (":a-name-that-is-longer-than-it-may-be-shown:", "bob")):
        tenant.call("PUT", f"{message}/reactions/{emoji}", user=user)
    with tenant.visit(browser, viewport=viewport) as visitor:
        visitor.context.add_init_script(f"if (location.host) sessionStorage['chatapi-playground-room'] = '{room}'")
        page = visitor.open()
        bob = PaneOf(page, "b")
        bob.expect_live()
        if viewport is PHONE:
            page.locator(".views [data-view=b]").click()
        inspector = Inspector(page, axe)
        expect(bob.messages.locator(".reaction")).to_have_count(2)
        bob.messages.last.get_by_role("button", name="React", exact=True).dispatch_event("click")
        expect(page.get_by_role("dialog", name="React to Alice")).to_be_visible()
        inspector.look("reactions and their picker")
        page.keyboard.press("Escape")
        bob.input.press_sequentially("@")
        expect(bob.root.get_by_role("option")).to_have_count(1)
        inspector.look("members to mention")
        page.keyboard.press("Escape")
        for change, line in (({"slow_mode_seconds": 600}, "Slow mode"), ({"posting": "admins"}, "Only admins")):
            if "slow_mode_seconds" in change:
                bob.say("before")
                expect(bob.own).to_have_count(1)
            tenant.call("PATCH", f"/rooms/{room}", change)
            expect(bob.root.locator(".obstacle")).to_contain_text(line)
            inspector.look(line)
        tenant.call("PATCH", f"/rooms/{room}/members/bob", {"muted_for": 3600})
        expect(bob.root.locator(".obstacle")).to_contain_text("You are muted")
        inspector.look("muted")
        if viewport is PHONE:
            page.locator(".views [data-view=frames]").click()
        page.get_by_role("tab", name="Members").click()
        expect(page.locator("#members [data-role=muted]")).to_be_visible()
        expect(page.get_by_role("region", name="Bans")).to_be_visible()
        inspector.look("a muted member, a banned user and the room's rules")
        assert not inspector.found, "\n".join(inspector.found)


def test_by_keyboard_alone(browser: Browser, tenant: Tenant) -> None:
    with tenant.visit(browser, viewport=DESKTOP) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        find = page.get_by_role("searchbox", name="Find a room")
        tab_to(page, find)
        page.keyboard.type("room 7")
        expect(page.locator(".room")).to_have_count(1)
        tab_to(page, page.locator(".room").first)
        page.keyboard.press("Enter")
        expect(alice.room).to_have_text("Room 7")
        tab_to(page, alice.input)
        page.keyboard.type("by keyboard")
        page.keyboard.press("Enter")
        expect(bob.message("by keyboard")).to_have_count(1)
        tools = alice.own.get_by_role("button", name="Copy", exact=True)
        tab_to(page, tools, back=True)
        expect(alice.own.locator(".tools")).to_have_css("opacity", "1")
        page.keyboard.press("Enter")
        expect(page.get_by_role("menuitem", name="Copy as curl")).to_be_focused()
        page.keyboard.press("ArrowDown")
        expect(page.get_by_role("menuitem", name="Copy as Python")).to_be_focused()
        page.keyboard.press("Escape")
        expect(tools).to_be_focused()
        tab_to(page, page.get_by_role("tab", name="Frames"))
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("tab", name="Members")).to_be_focused()
        expect(page.locator("#members .member")).to_have_count(2)


def tab_to(page: Page, target: Locator, *, back: bool = False) -> None:
    """Every stop on the way shows that it has the focus."""
    for _ in range(150):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        unmarked = page.evaluate(
            """() => {
              let element = document.activeElement;
              while (element.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
              const { outlineStyle, outlineWidth } = getComputedStyle(element);
              const outlined = outlineStyle !== "none" && parseFloat(outlineWidth) >= 1;
              return element === document.body || outlined ? "" : element.outerHTML.slice(0, 200);
            }"""
        )
        assert not unmarked, unmarked
        if target.evaluate("element => element.matches(':focus')"):
            return
    raise AssertionError(f"{target} cannot be reached by Tab")


def test_news_are_read_out_and_history_is_not(browser: Browser, tenant: Tenant) -> None:
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        expect(bob.root.get_by_role("log")).to_have_attribute("aria-live", "polite")
        alice.say("news")
        expect(bob.root.get_by_role("log")).to_contain_text("news")
        bob.cut.click()
        expect(bob.root.get_by_role("status")).to_have_text("bob: cut")
        bob.cut.click()
        expect(bob.root.get_by_role("status")).to_have_text("bob: live")
