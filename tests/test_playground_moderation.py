"""Mutes, rooms in which only admins post, and slow mode: the composer says why, and is free again by itself."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from browser_rig import PaneOf, Tenant, open_room, panes
from playwright.sync_api import Browser, Page, expect
from server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("moderation"), dev=False) as server:
        yield server


@pytest.fixture
def tenant(server: ServerProcess, request: pytest.FixtureRequest) -> Tenant:
    return Tenant(server, request.node.name[:100])


def make_room(tenant: Tenant, **more: object) -> str:
    body: dict[str, object] = {"type": "group", "name": "Lighthouse", "members": ["bob", "carol"], **more}
    return str(tenant.call("POST", "/rooms", body)["room_id"])


def spoken(pane: PaneOf, text: str | re.Pattern[str]) -> str:
    """What a screen reader hears, and finds again as the description of the field."""
    line = pane.root.locator(".composer [id^=obstacle]")
    expect(line).to_contain_text(text)
    expect(pane.input).to_have_attribute("aria-describedby", str(line.get_attribute("id")))
    return line.inner_text()


def expect_barred(pane: PaneOf, reason: str, *, heard: str | re.Pattern[str] = "") -> None:
    expect(pane.input).to_be_disabled()
    expect(pane.root.locator(".send")).to_be_disabled()
    expect(pane.root.locator(".obstacle")).to_contain_text(reason)
    spoken(pane, heard or reason)


def expect_free(pane: PaneOf) -> None:
    expect(pane.input).to_be_enabled()
    expect(pane.root.locator(".send")).to_be_enabled()
    expect(pane.root.locator(".obstacle")).to_be_hidden()


def choose(page: Page, user: str, choice: str) -> None:
    page.locator("#members .member").filter(has_text=user).get_by_role("button").click()
    page.get_by_role("menuitem", name=choice).click()


@pytest.mark.parametrize(("choice", "length"), [("5 minutes", 300), ("1 hour", 3600), ("1 day", 86_400)])
def test_an_admin_mutes_and_unmutes(browser: Browser, tenant: Tenant, choice: str, length: int) -> None:
    room = make_room(tenant)
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "Lighthouse")
        bob.input.fill("half a thought")
        page.get_by_role("tab", name="Members").click()
        choose(page, "bob", f"Mute bob for {choice}")
        expect_barred(bob, "You are muted until")
        expect(alice.root.locator(".note")).to_have_text("bob is muted")
        row = page.locator("#members .member").filter(has_text="bob")
        expect(row.locator("[data-role=muted]")).to_contain_text("muted until")
        (member,) = (one for one in tenant.call("GET", f"/rooms/{room}/members")["members"] if one["user_id"] == "bob")
        left = datetime.fromisoformat(member["muted_until"]) - datetime.now(UTC)
        assert timedelta(seconds=length - 60) < left <= timedelta(seconds=length)
        bob.input.focus()
        page.keyboard.press("Enter")  # nothing is sent
        page.reload()
        alice, bob = panes(page)
        expect_barred(bob, "You are muted until")
        page.get_by_role("tab", name="Members").click()
        choose(page, "bob", "Unmute bob")
        expect_free(bob)
        spoken(bob, "You may write again.")
        expect(alice.root.locator(".note").last).to_have_text("bob is no longer muted")
        expect(row.locator("[data-role=muted]")).to_have_count(0)
        bob.say("a whole thought")
        alice.expect_contents(["a whole thought"])


def test_a_mute_ends_by_itself(browser: Browser, tenant: Tenant) -> None:
    room = make_room(tenant)
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "Lighthouse")
        page.get_by_role("tab", name="Members").click()
        muted = page.locator("#members [data-role=muted]")
        bob.input.fill("half a thought")
        tenant.call("PATCH", f"/rooms/{room}/members/bob", {"muted_for": 9})
        expect_barred(bob, "You are muted until")
        expect(bob.root.locator(".obstacle-left")).to_have_text(re.compile(r"^0:0\d$"))
        expect(muted).to_have_count(1)
        expect_free(bob)
        expect(muted).to_have_count(0)
        bob.input.press("Enter")
        alice.expect_contents(["half a thought"])


def test_muted_members_react_to_nothing_and_may_take_reactions_back(browser: Browser, tenant: Tenant) -> None:
    room = make_room(tenant)
    message = tenant.call("POST", f"/rooms/{room}/messages", {"content": "tide is in"})["message_id"]
    tenant.call("PUT", f"/rooms/{room}/messages/{message}/reactions/x", user="bob")
    tenant.call("PATCH", f"/rooms/{room}/members/bob", {"muted_for": 3600})
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        _, bob = panes(page)
        open_room(page, "Lighthouse")
        bob.root.get_by_role("button", name="React", exact=True).dispatch_event("click")
        page.get_by_role("dialog").get_by_role("button", name="party").click()
        expect(page.locator("#toast")).to_contain_text("You are muted until")
        expect(bob.root.locator(".reaction")).to_have_text(["x 1"])
        bob.root.locator(".reaction").click()
        expect(bob.root.locator(".reaction")).to_have_count(0)


def test_only_admins_post(browser: Browser, tenant: Tenant) -> None:
    room = make_room(tenant, posting="admins")
    tenant.call("POST", f"/rooms/{room}/messages", {"content": "tide is in"})
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "Lighthouse")
        expect_barred(bob, "Only admins may post here")
        expect_free(alice)
        bob.root.get_by_role("button", name="React", exact=True).dispatch_event("click")  # that is no post
        page.get_by_role("dialog").get_by_role("button", name="party").click()
        expect(alice.root.locator(".reaction")).to_have_text("🎉 1")
        page.get_by_role("tab", name="Members").click()
        choose(page, "bob", "Make bob an admin")
        expect_free(bob)
        spoken(bob, "You may write again.")
        choose(page, "bob", "Make bob a member")
        expect_barred(bob, "Only admins may post here")
        page.get_by_role("combobox", name="May post").select_option("all members")
        expect_free(bob)
        for pane in (alice, bob):
            expect(pane.root.locator(".note").last).to_have_text("All members may post now")


def test_slow_mode_counts_down(browser: Browser, tenant: Tenant) -> None:
    room = make_room(tenant)
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "Lighthouse")
        page.get_by_role("tab", name="Members").click()
        page.get_by_role("combobox", name="Slow mode").select_option("30 seconds")
        expect(bob.root.locator(".note")).to_have_text("Slow mode: one message in 30 seconds")
        expect_free(bob)
        bob.say("one")
        begun = re.compile(r"Slow mode: you may write again in (30|2\d) seconds\.")  # a slow machine takes one or two
        expect_barred(bob, "Slow mode: you may write again", heard=begun)
        heard = spoken(bob, begun)
        bob.input.press("ArrowUp")  # edits pass
        expect(bob.input).to_be_enabled()
        bob.say("one, corrected")
        expect_barred(bob, "Slow mode")
        alice.expect_contents(["one, corrected"])
        expect(bob.root.locator(".obstacle-left")).to_have_text(re.compile(r"^0:[12]\d$"))
        assert spoken(bob, begun) == heard  # once, not each second
        tenant.call("PATCH", f"/rooms/{room}", {"slow_mode_seconds": 6})
        expect_free(bob)
        spoken(bob, "You may write again.")
        bob.say("two")
        expect(bob.input).to_be_disabled()
        expect_free(bob)
        bob.say("three")
        alice.say("admins do not wait")
        alice.expect_contents(["one, corrected", "two", "three", "admins do not wait"])
        expect_free(alice)
        tenant.call("PATCH", f"/rooms/{room}", {"slow_mode_seconds": 3000})
        page.reload()
        alice, bob = panes(page)
        expect_barred(bob, "Slow mode", heard="in 50 minutes")
        tenant.call("PATCH", f"/rooms/{room}", {"slow_mode_seconds": 0})
        expect_free(bob)


def test_a_refusal_tells_the_news_to_the_page(browser: Browser, tenant: Tenant) -> None:
    """The server knows more than the page has loaded: here when bob posted, before the first of the page's messages."""
    room = make_room(tenant, members=[f"a{number:03}" for number in range(120)] + ["bob"], slow_mode_seconds=600)
    tenant.call("POST", f"/rooms/{room}/messages", {"content": "long ago"}, "bob")
    for number in range(31):
        tenant.call("POST", f"/rooms/{room}/messages", {"content": f"line {number}"})
    with tenant.visit(browser, excused=("status of 403",)) as visitor:
        page = visitor.open()
        _, bob = panes(page)
        open_room(page, "Lighthouse")
        expect(bob.messages).to_have_count(30)
        bob.say("too soon")
        expect(bob.root.locator(".failed")).to_contain_text("too soon")
        expect_barred(bob, "Slow mode", heard="in 10 minutes")
        tenant.call("PATCH", f"/rooms/{room}", {"slow_mode_seconds": 0})
        expect_free(bob)


def test_a_rule_that_may_not_be_changed_stays_as_it_is(browser: Browser, tenant: Tenant) -> None:
    tenant.call("POST", "/rooms", {"type": "group", "name": "Lighthouse", "members": ["alice", "bob"]}, "zoe")
    with tenant.visit(browser, excused=("status of 403",)) as visitor:
        page = visitor.open()
        panes(page)
        open_room(page, "Lighthouse")
        page.get_by_role("tab", name="Members").click()
        posting = page.get_by_role("combobox", name="May post")
        posting.select_option("only admins")
        expect(page.locator("#toast")).to_contain_text("Not an admin")
        expect(posting).to_have_value("members")
