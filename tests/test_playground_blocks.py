"""The playground's blocks between users, and when members were last online."""

import re
from collections.abc import Iterator

import pytest
from accessibility import Inspector
from browser_rig import DESKTOP, PHONE, PaneOf, Tenant, open_room, panes
from move_rig import eventually_true
from playwright.sync_api import Browser, Page, expect
from server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

REFUSED = ("status of 403", "status of 404")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("blocks"), dev=False) as server:
        yield server


@pytest.fixture
def tenant(server: ServerProcess, request: pytest.FixtureRequest) -> Tenant:
    return Tenant(server, request.node.name[:100])


def choose(page: Page, user: str, choice: str) -> None:
    page.locator(f"#members .member[data-user={user}]").get_by_role("button", name=f"Change {user}").click()
    page.get_by_role("menuitem", name=choice).click()


def expect_barred(pane: PaneOf, reason: str) -> None:
    expect(pane.root.locator(".obstacle")).to_contain_text(reason.removesuffix("."))
    expect(pane.root.locator(".composer [id^=obstacle]")).to_contain_text(reason)
    expect(pane.input).to_be_disabled()


def test_a_block_is_shown_to_both_and_ended_where_it_is_shown(browser: Browser, tenant: Tenant) -> None:
    with tenant.visit(browser, excused=REFUSED) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        alice.say("before")
        page.get_by_role("tab", name="Members").click()
        choose(page, "bob", "Block bob as alice")
        expect(page.get_by_role("button", name="Change bob")).to_be_focused()
        for _ in range(2):
            expect_barred(alice, "You have blocked bob.")
            expect_barred(bob, "alice has blocked you.")
            expect(page.locator("#members .member[data-user=bob] [data-role=blocked]")).to_have_text("blocked by alice")
            expect(bob.root.get_by_role("button", name="Unblock")).to_have_count(0)
            page.reload()
            alice, bob = panes(page)
            page.get_by_role("tab", name="Members").click()
        bob.messages.get_by_role("button", name="React", exact=True).dispatch_event("click")
        page.get_by_role("dialog").get_by_role("button", name="party").click()
        expect(page.locator("#toast")).to_have_text("alice has blocked you.")
        alice.root.get_by_role("button", name="Unblock").click()
        for pane in (alice, bob):
            expect(pane.input).to_be_enabled()
            expect(pane.root.locator(".obstacle")).to_be_hidden()
        expect(alice.input).to_be_focused()
        bob.say("after")
        alice.expect_contents(["before", "after"])


def test_a_block_that_was_made_elsewhere_is_learned_from_a_refusal(browser: Browser, tenant: Tenant) -> None:
    with tenant.visit(browser, excused=REFUSED) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        tenant.call("PUT", "/blocks/alice", user="bob")
        alice.say("are you there?")
        expect(alice.root.locator(".failed")).to_contain_text("blocked")
        expect_barred(alice, "bob has blocked you.")
        expect_barred(bob, "You have blocked alice.")
        tenant.call("DELETE", "/blocks/alice", user="bob")
        alice.root.get_by_role("button", name="Check again").click()
        expect(alice.input).to_be_enabled()
        tenant.call("PUT", "/blocks/alice", user="bob")
        alice.root.locator(".failed").get_by_role("button", name="Try again").click()
        expect_barred(alice, "bob has blocked you.")
        tenant.call("DELETE", "/blocks/alice", user="bob")
        alice.root.locator(".failed").get_by_role("button", name="Try again").click()
        bob.expect_contents(["are you there?"])  # so the block has ended
        for pane in (alice, bob):
            expect(pane.input).to_be_enabled()


def test_the_page_begins_without_a_dm_that_may_not_be_opened(browser: Browser, tenant: Tenant) -> None:
    tenant.call("PUT", "/blocks/bob")
    with tenant.visit(browser, excused=REFUSED) as visitor:
        page = visitor.open()
        for pane in (PaneOf(page, "a"), PaneOf(page, "b")):
            pane.expect_live()
            expect(pane.root.locator(".log")).to_contain_text("No room is open.")
            expect(pane.input).to_be_hidden()
        tenant.call("POST", "/rooms", {"type": "group", "name": "Lighthouse", "members": ["bob"]})
        page.reload()
        panes(page)
        expect(page.locator(".room[aria-current]")).to_contain_text("Lighthouse")


def test_a_block_leaves_groups_as_they_are(browser: Browser, tenant: Tenant) -> None:
    tenant.call("POST", "/rooms", {"type": "group", "name": "Lighthouse", "members": ["bob", "carol"]})
    with tenant.visit(browser, excused=REFUSED) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "Lighthouse")
        page.get_by_role("tab", name="Members").click()
        choose(page, "carol", "Block carol as bob")
        expect(page.locator("#members .member[data-user=carol] [data-role=blocked]")).to_have_text("blocked by bob")
        assert [block["user_id"] for block in tenant.call("GET", "/blocks", user="bob")["blocks"]] == ["carol"]
        bob.say("all the same")
        alice.expect_contents(["all the same"])
        choose(page, "carol", "Unblock carol as bob")
        expect(page.locator("#members [data-role=blocked]")).to_have_count(0)


def test_members_who_are_offline_were_last_seen(browser: Browser, tenant: Tenant) -> None:
    tenant.call("POST", "/rooms", {"type": "group", "name": "Lighthouse", "members": ["bob", "carol", "dave"]})
    carol = tenant.server.open_websocket(tenant.key, "carol")
    with tenant.visit(browser, excused=REFUSED) as visitor:
        page = visitor.open()
        panes(page)
        open_room(page, "Lighthouse")
        page.get_by_role("tab", name="Members").click()
        presence = page.locator("#members .member[data-user=carol] .presence")
        expect(presence).to_have_text("online")
        expect(page.locator("#members .member[data-user=dave] .presence")).to_have_text("offline")  # never was
        carol.close()
        expect(presence).to_have_text("last seen just now")
        # It is written within a second; a user of whom nothing is known yet has no profile.
        eventually_true(lambda: tenant.call("GET", "/users?ids=carol")["users"] != [])
        page.reload()
        panes(page)
        page.get_by_role("tab", name="Members").click()
        expect(presence).to_have_text("last seen just now")
        expect(presence).to_have_attribute("title", re.compile(r"^\d{4}-.*Z$"))
        page.clock.install()
        page.reload()
        panes(page)
        page.get_by_role("tab", name="Members").click()
        expect(presence).to_have_text("last seen just now")
        page.clock.fast_forward("03:00:01")
        expect(presence).to_have_text("last seen 3 hours ago")


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE])
def test_axe_finds_nothing(browser: Browser, tenant: Tenant, axe: str, viewport: dict[str, int]) -> None:
    tenant.call("POST", "/rooms", {"type": "dm", "members": ["bob"]})
    tenant.call("PUT", "/blocks/bob")
    with tenant.visit(browser, viewport=viewport, excused=REFUSED) as visitor:
        page = visitor.open()
        alice = PaneOf(page, "a")
        alice.expect_live()
        inspector = Inspector(page, axe)
        expect_barred(alice, "You have blocked bob.")
        inspector.look("blocked")
        if viewport is PHONE:
            page.locator(".views [data-view=frames]").click()
        page.get_by_role("tab", name="Members").click()
        expect(page.locator("#members [data-role=blocked]")).to_be_visible()
        expect(page.locator("#members .presence[data-online]").first).to_be_visible()
        page.get_by_role("button", name="Change bob").click()
        inspector.look("members and the menu of one")
        assert not inspector.found, "\n".join(inspector.found)
