"""The playground with large rooms and many of them: nothing takes a first page for the whole."""

from collections.abc import Iterator

import pytest
from browser_rig import PHONE, PaneOf, Tenant, open_room, panes
from playwright.sync_api import Browser, Page, Route, expect
from server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

MANY = [f"a{number:03}" for number in range(130)]  # before alice and bob in any order by name


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("rooms"), dev=False) as server:
        yield server


@pytest.fixture
def tenant(server: ServerProcess, request: pytest.FixtureRequest) -> Tenant:
    return Tenant(server, request.node.name[:100])


def test_messages_that_come_again_are_unread_once(browser: Browser, tenant: Tenant) -> None:
    """The connection streams what bob has never acknowledged, also what is in the page and in the list of rooms."""
    room = tenant.call("POST", "/rooms", {"type": "group", "name": "Harbour", "members": ["bob"]})["room_id"]
    for number in range(45):
        tenant.call("POST", f"/rooms/{room}/messages", {"content": f"line {number}"})
    with tenant.visit(browser) as visitor:
        visitor.context.add_init_script(f"if (location.host) sessionStorage['chatapi-playground-room'] = '{room}'")
        page = visitor.open()
        _, bob = panes(page)
        expect(page.locator("#frames .frame-type").filter(has_text="ack.received").first).to_be_attached()
        expect(bob.root.locator(".unread")).to_have_text("45")
        tenant.call("POST", f"/rooms/{room}/messages", {"content": "one more"})
        expect(bob.root.locator(".unread")).to_have_text("46")
        tenant.call("POST", f"/rooms/{room}/read", {"seq": 44}, "bob")  # on another device
        expect(bob.root.locator(".unread")).to_have_text("2")
        tenant.call("POST", f"/rooms/{room}/read", {"seq": 46}, "bob")
        expect(bob.root.locator(".unread")).to_be_hidden()


@pytest.mark.parametrize("kind", ["group", "channel"])
def test_members_of_a_large_room_write(browser: Browser, tenant: Tenant, kind: str) -> None:
    room = tenant.call("POST", "/rooms", {"type": kind, "name": "Assembly", "members": MANY}, "a000")["room_id"]
    tenant.call("POST", f"/rooms/{room}/members", {"user_id": "alice"}, "a000")
    tenant.call("POST", f"/rooms/{room}/members", {"user_id": "bob"}, "a000")
    for number in range(40):
        tenant.call("POST", f"/rooms/{room}/messages", {"content": f"before {number}"}, "a001")
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "Assembly")
        expect(bob.root.locator(".unread")).to_have_text("40")  # more than the page of messages that is shown
        expect(alice.root).not_to_contain_text("Following without being a member")
        alice.say("from alice")
        expect(bob.message("from alice")).to_have_count(1)
        bob.say("from bob")
        expect(alice.message("from bob")).to_have_count(1)
        expect(bob.root.locator(".unread")).to_be_hidden()
        # That the others of the first page have read says nothing of all.
        expect(alice.own.locator(".mark")).to_have_attribute("data-mark", "stored")
        expect(alice.root.locator(".others")).to_contain_text("+129")
        page.reload()
        alice, bob = panes(page)
        expect(alice.input).to_be_visible()
        expect(bob.input).to_be_visible()


def test_in_a_large_channel_others_only_follow(browser: Browser, tenant: Tenant) -> None:
    room = tenant.call("POST", "/rooms", {"type": "channel", "name": "News", "members": [*MANY, "alice"]}, "a000")[
        "room_id"
    ]
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "News")
        expect(alice.input).to_be_visible()
        expect(bob.root.locator(".outside")).to_contain_text("Following without being a member")
        alice.say("for everybody")
        bob.expect_contents(["for everybody"])
        bob.root.get_by_role("button", name="Join to write").click()
        bob.say("now I may")
        expect(alice.message("now I may")).to_have_count(1)
        # What happens while the page is away is known from the connection, too.
        tenant.call("DELETE", f"/rooms/{room}/members/bob", user="a000")
        expect(bob.root.locator(".outside")).to_contain_text("Following without being a member")


def test_a_large_channel_opens_for_a_user_who_is_removed_meanwhile(browser: Browser, tenant: Tenant) -> None:
    members = [*MANY, "alice", "bob"]
    body: dict[str, object] = {"type": "channel", "name": "News", "members": members}
    room = tenant.call("POST", "/rooms", body, "a000")["room_id"]

    def remove_first(route: Route) -> None:
        tenant.call("DELETE", f"/rooms/{room}/members/bob", user="a000")
        route.continue_()

    with tenant.visit(browser, excused=("403",)) as visitor:
        page = visitor.open()
        _alice, bob = panes(page)
        # The members' list does not get as far as bob, who asks for presence since he was a member.
        page.route(
            lambda url: url.endswith("/presence") and room in url,
            lambda route: remove_first(route) if route.request.headers.get("x-user-id") == "bob" else route.continue_(),
        )
        open_room(page, "News")
        expect(bob.root.locator(".outside")).to_contain_text("Following without being a member")


def test_the_members_come_page_by_page(browser: Browser, tenant: Tenant) -> None:
    tenant.call("POST", "/rooms", {"type": "group", "name": "Assembly", "members": [*MANY, "bob"]})
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        panes(page)
        open_room(page, "Assembly")
        PaneOf(page, "a").room.click()
        members = page.locator("#members .member")
        more = page.locator("#members").get_by_role("button", name="More members")
        expect(members).to_have_count(50)
        more.click()
        expect(members).to_have_count(100)
        more.click()
        expect(members).to_have_count(132)
        expect(more).to_be_hidden()
        assert len(set(members.evaluate_all("rows => rows.map(row => row.dataset.user)"))) == 132


def test_every_room_can_be_found(browser: Browser, tenant: Tenant) -> None:
    for number in range(230):
        kind = "channel" if number % 3 == 0 else "group"
        members: list[object] = ["bob"] if number % 2 else []
        tenant.call("POST", "/rooms", {"type": kind, "name": f"Room {number:03}", "members": members})
    tenant.call("POST", "/rooms", {"type": "channel", "name": "Nobody here is in it"}, "zoe")
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        panes(page)
        rows = page.locator(".room")
        expect(page.locator(".room-count")).to_contain_text("+ rooms")
        find = page.get_by_role("searchbox", name="Find a room")
        find.fill("room 00")  # the oldest ten, on the last page of each list
        expect(rows).to_have_count(10)
        expect(page.locator(".room-count")).to_have_text("10 of 232 rooms")
        open_room(page, "Room 001")
        find.fill("nobody here")
        expect(rows).to_have_count(1)
        find.fill("no such room")
        expect(rows).to_have_count(0)
        find.fill("")
        scroll_through(page)
        expect(rows).to_have_count(232)
        page.reload()  # the open room is on no first page
        panes(page)
        expect(PaneOf(page, "a").room).to_have_text("Room 001")


def scroll_through(page: Page) -> None:
    more = page.locator(".room-more")
    while more.is_visible():
        more.scroll_into_view_if_needed()
        page.wait_for_timeout(50)


def test_a_room_is_found_by_its_id(browser: Browser, tenant: Tenant) -> None:
    oldest = tenant.call("POST", "/rooms", {"type": "group", "name": "Oldest", "members": ["bob"]})["room_id"]
    for number in range(55):
        tenant.call("POST", "/rooms", {"type": "group", "name": f"Room {number}"})
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        panes(page)
        page.get_by_role("searchbox", name="Find a room").fill(oldest)
        open_room(page, "Oldest")


def test_a_room_that_is_gone_leaves_the_list(browser: Browser, tenant: Tenant) -> None:
    room = tenant.call("POST", "/rooms", {"type": "group", "name": "Short-lived", "members": ["bob"]})["room_id"]
    left = tenant.call("POST", "/rooms", {"type": "group", "name": "To be left", "members": ["bob", "carol"]})[
        "room_id"
    ]
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        panes(page)
        expect(page.locator(".room")).to_have_count(3)
        tenant.call("DELETE", f"/rooms/{room}")
        expect(page.locator(".room").filter(has_text="Short-lived")).to_have_count(0)
        for user in ("alice", "bob"):
            tenant.call("DELETE", f"/rooms/{left}/members/{user}", user=user)
        expect(page.locator(".room")).to_have_count(1)


NAME = "The harbour's committee for lamps, lenses, bells, fog signals and everything else that shines or sounds"


@pytest.mark.parametrize("viewport", [{"width": 1440, "height": 900}, PHONE])
def test_each_pane_names_its_room(browser: Browser, tenant: Tenant, viewport: dict[str, int]) -> None:
    tenant.call("POST", "/rooms", {"type": "group", "name": NAME, "members": ["bob"]})
    with tenant.visit(browser, viewport=viewport) as visitor:
        page = visitor.open()
        alice = PaneOf(page, "a")
        alice.expect_live()
        expect(alice.room).to_have_text("alice & bob")
        if viewport == PHONE:
            page.locator(".views [data-view=rooms]").click()
        page.locator(".room").filter(has_text=NAME).click()
        expect(alice.room).to_be_visible()
        expect(alice.room).to_have_text(NAME)
        expect(alice.room).to_have_attribute("title", f"{NAME}: show its members")
        expect(page.locator(".room[aria-current]")).to_have_attribute("title", f"{NAME} (group)\nno messages")
        expect(alice.root).to_have_attribute("aria-label", f"alice in {NAME}")
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        room = page.evaluate("sessionStorage.getItem('chatapi-playground-room')")
        tenant.call("PATCH", f"/rooms/{room}", {"name": "Short"})
        expect(alice.room).to_have_text("Short")


WRITE = """async (count) => {
  const { ChatAPI } = await import("/sdk/chatapi.js");
  const { apiKey, a } = JSON.parse(sessionStorage["chatapi-playground"]);
  const client = new ChatAPI({ url: location.origin, apiKey, userId: a });
  const room = sessionStorage["chatapi-playground-room"];
  await Promise.all(Array.from({ length: count }, (_, number) => client.sendMessage(room, `line ${number}`)));
}"""


def test_a_page_of_a_long_session_stays_small(browser: Browser, tenant: Tenant) -> None:
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        page.evaluate(WRITE, 700)
        expect(alice.messages.last.locator(".seq")).to_have_text("#700")
        assert alice.messages.count() <= 600
        expect(bob.messages.last.locator(".seq")).to_have_text("#700")
        before = bob.messages.count()
        bob.root.locator(".log").evaluate("log => { log.scrollTop = 0; }")  # and what was let go of comes back
        expect(bob.messages).not_to_have_count(before)
        numbers = [int(text.removeprefix("#")) for text in bob.messages.locator(".seq").all_inner_texts()]
        assert numbers == list(range(numbers[0], 701))
