"""Mentions in the playground, names and pictures of profiles, and bans."""

import re
from collections.abc import Iterator

import pytest
from browser_rig import PaneOf, Tenant, open_room, panes
from playwright.sync_api import Browser, expect
from server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("mentions"), dev=False) as server:
        yield server


@pytest.fixture
def tenant(server: ServerProcess, request: pytest.FixtureRequest) -> Tenant:
    return Tenant(server, request.node.name[:100])


def make_room(tenant: Tenant, *members: str, creator: str = "alice") -> str:
    body: dict[str, object] = {"type": "group", "name": "Lighthouse", "members": ["alice", "bob", *members]}
    return str(tenant.call("POST", "/rooms", body, creator)["room_id"])


def newest(tenant: Tenant, room: str) -> tuple[str, list[str], bool]:
    message = tenant.call("GET", f"/rooms/{room}/messages?limit=1")["messages"][-1]
    return message["content"], message.get("mentions", []), message.get("mention_room", False)


def expect_options(pane: PaneOf, names: list[str]) -> None:
    expect(pane.root.get_by_role("listbox")).to_be_visible()
    expect(pane.root.locator(".mention-option .member-name")).to_have_text(names)


def test_a_member_is_picked_and_sees_it(browser: Browser, tenant: Tenant) -> None:
    tenant.call("PUT", "/users/bob", {"name": "Robert"}, "bob")
    tenant.call("PUT", "/users/carol", {"name": "Caroline"}, "carol")
    room = make_room(tenant, "carol", "dave")
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "Lighthouse")
        alice.input.focus()
        page.keyboard.type("mail me@bo")  # no mention begins within a word
        expect(alice.root.get_by_role("listbox")).to_be_hidden()
        alice.input.fill("")
        page.keyboard.type("Hey @rob")
        expect(alice.root.get_by_role("option")).to_have_text([re.compile(r"Robert\s*bob")])
        first = alice.root.get_by_role("option").first
        expect(first).to_have_attribute("aria-selected", "true")
        expect(alice.input).to_have_attribute("aria-activedescendant", str(first.get_attribute("id")))
        expect(alice.root.locator(".composer [aria-live]").first).to_have_text(
            "1 to mention. Arrows choose, Enter takes."
        )
        page.keyboard.press("Enter")
        expect(alice.input).to_have_value("Hey @bob ")
        expect(alice.root.get_by_role("listbox")).to_be_hidden()
        page.keyboard.type("look")
        page.keyboard.press("Enter")
        expect(bob.messages.locator("mark.mention")).to_have_text("@bob")
        expect(bob.messages.locator(".called-mark")).to_contain_text("mentions you")
        expect(alice.messages.locator("span.mention")).to_have_attribute("title", "Robert")
        expect(alice.messages.locator("mark, .called-mark")).to_have_count(0)
        assert newest(tenant, room) == ("Hey @bob look", ["bob"], False)


def test_the_list_is_left_with_the_keyboard(browser: Browser, tenant: Tenant) -> None:
    make_room(tenant, "carol")
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "Lighthouse")
        alice.input.focus()
        page.keyboard.type("@")
        expect_options(alice, ["bob", "carol", "room"])
        for key, at in (("ArrowDown", 1), ("ArrowDown", 2), ("ArrowDown", 0), ("ArrowUp", 2)):
            page.keyboard.press(key)
            expect(alice.root.get_by_role("option").nth(at)).to_have_attribute("aria-selected", "true")
        page.keyboard.press("Escape")
        expect(alice.root.get_by_role("listbox")).to_be_hidden()
        expect(alice.input).to_be_focused()
        expect(alice.input).not_to_have_attribute("aria-activedescendant", re.compile("."))
        page.keyboard.type("r")
        expect(alice.root.get_by_role("option")).to_have_count(1)
        page.keyboard.press("Tab")
        expect(alice.input).to_have_value("@room ")
        expect(alice.input).to_be_focused()
        page.keyboard.type("@nobody")
        expect(alice.root.get_by_role("listbox")).to_be_hidden()
        page.keyboard.press("Enter")
        expect(bob.messages.locator("mark.mention")).to_have_text("@room")
        bob.input.focus()
        page.keyboard.type("@")
        expect_options(bob, ["alice", "carol"])  # members do not call everybody
        bob.root.get_by_role("option").nth(1).click()
        expect(bob.input).to_have_value("@carol ")


@pytest.mark.parametrize(
    ("text", "mentions", "everybody"),
    [
        ("@bob, @carol: hello (@dave)", ["bob", "carol", "dave"], False),
        ("@bobby @bob.smith x@bob @@bob", ["bob.smith"], False),
        ("@BOB and @a+b-c? too", ["bob", "a+b-c?"], False),
        ("https://example.com/@bob", [], False),
        ("@room: storm", [], True),
        ("@nobody", [], False),
    ],
)
def test_text_after_an_at_sign_is_a_mention(
    browser: Browser, tenant: Tenant, text: str, mentions: list[str], everybody: bool
) -> None:
    room = make_room(tenant, "carol", "dave", "bob.smith", "a+b-c?")
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "Lighthouse")
        alice.say(text)
        bob.expect_contents([text])
        assert newest(tenant, room) == (text, mentions, everybody)


def test_an_edit_takes_mentions_and_keeps_those_beside_the_text(browser: Browser, tenant: Tenant) -> None:
    room = make_room(tenant, "carol", "dave")
    body: dict[str, object] = {"content": "@bob look", "mentions": ["bob", "carol"]}
    tenant.call("POST", f"/rooms/{room}/messages", body)
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "Lighthouse")
        expect(bob.messages.locator("mark.mention")).to_have_text("@bob")
        alice.expect_contents(["@bob look"])  # each pane loads the room by itself
        alice.input.press("ArrowUp")
        alice.say("@dave look")
        bob.expect_contents(["@dave look"])
        expect(bob.messages.locator("mark, .called-mark")).to_have_count(0)
        assert newest(tenant, room) == ("@dave look", ["dave", "carol"], False)


def test_unread_mentions_are_told_in_the_list(browser: Browser, tenant: Tenant) -> None:
    room = make_room(tenant)
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        panes(page)
        badge = page.locator(".room").filter(has_text="Lighthouse").locator(".badge[data-slot=b]")
        tenant.call("POST", f"/rooms/{room}/messages", {"content": "plain"})
        expect(badge).to_have_text(re.compile("^1 unread by bob$"))
        tenant.call("POST", f"/rooms/{room}/messages", {"content": "@bob", "mentions": ["bob"]})
        expect(badge).to_have_text("@ 2 unread by bob, 1 with a mention")


def test_names_and_pictures_follow_the_profile(browser: Browser, tenant: Tenant) -> None:
    room = make_room(tenant, "carol")
    message = tenant.call("POST", f"/rooms/{room}/messages", {"content": "tide is in"}, "carol")["message_id"]
    tenant.call("PUT", f"/rooms/{room}/messages/{message}/reactions/x", user="carol")
    nasty, turning = "<b>Carol</b>", "\u202e\u2067"  # what turns the direction of writing is left out
    with tenant.visit(
        browser, excused=("Refused to load", "violates the following Content Security", "404")
    ) as visitor:
        page = visitor.open()
        alice, _ = panes(page)
        open_room(page, "Lighthouse")
        page.get_by_role("tab", name="Members").click()
        sender, member = alice.messages.locator(".sender"), page.locator("#members .member[data-user=carol]")
        expect(sender).to_have_text("carol")
        expect(member.locator("[data-id-of]")).to_be_hidden()
        tenant.call(
            "PUT",
            "/users/carol",
            {"name": turning + nasty, "avatar_url": f"{tenant.server.url}/playground/icon.svg"},
            "carol",
        )
        for name in (sender, member.locator("[data-name-of]")):
            expect(name).to_have_text(nasty)
        expect(sender.locator("b")).to_have_count(0)
        expect(sender.locator("[title=carol]")).to_have_count(1)
        expect(member.locator("[data-id-of]")).to_have_text("carol")
        expect(alice.root.locator(".others")).to_contain_text(nasty)
        expect(alice.messages.locator(".reaction")).to_have_attribute("aria-label", f"x 1: {nasty}")
        expect(alice.messages.locator(".avatar img")).to_have_js_property("complete", True)
        tenant.call("PUT", "/users/carol", {"avatar_url": f"{tenant.server.url}/nothing.png"}, "carol")
        expect(alice.messages.locator(".avatar img")).to_have_count(0)  # the letter stands in its place
        expect(alice.messages.locator(".avatar")).to_have_text("<")
        tenant.call("PUT", "/users/carol", {"name": None, "avatar_url": None}, "carol")
        expect(sender).to_have_text("carol")


def test_an_admin_bans_and_lifts_bans(browser: Browser, tenant: Tenant) -> None:
    make_room(tenant, "carol")
    with tenant.visit(browser, excused=("status of 403",)) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "Lighthouse")
        page.get_by_role("tab", name="Members").click()
        bans = page.get_by_role("region", name="Bans")
        for choice, text in (
            ("for 1 day", "bob is banned from this room until"),
            ("for good", "bob is banned from this room."),
        ):
            page.locator("#members .member[data-user=bob]").get_by_role("button").click()
            page.get_by_role("menuitem", name=f"Ban bob {choice}").click()
            expect(bob.root.locator(".log")).to_contain_text(text)
            expect(bob.root.locator(".outside")).to_be_hidden()  # adding them is refused, too
            expect(alice.root.locator(".note").last).to_have_text("bob is banned")
            expect(page.locator("#members ul").first.locator(".member[data-user=bob]")).to_have_count(0)
            bans.get_by_role("button", name="Lift the ban of bob").click()
            expect(bans).to_have_count(0)
            expect(alice.root.locator(".note").last).to_have_text("bob is no longer banned")
            bob.root.get_by_role("button", name="Add bob").click()
            expect(bob.input).to_be_visible()
