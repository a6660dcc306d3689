"""The playground's list of mentions, and the way to a message wherever in its room it is."""

from collections.abc import Iterator

import pytest
from accessibility import Inspector
from browser_rig import DESKTOP, PHONE, PaneOf, Tenant, open_room, panes
from playwright.sync_api import Browser, expect
from server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("found"), dev=False, settings={"limits.rate_limit": "10000"}) as server:
        yield server


@pytest.fixture
def tenant(server: ServerProcess, request: pytest.FixtureRequest) -> Tenant:
    return Tenant(server, request.node.name[:100])


def make_room(tenant: Tenant) -> str:
    body: dict[str, object] = {"type": "group", "name": "Lighthouse", "members": ["bob", "carol"]}
    return str(tenant.call("POST", "/rooms", body)["room_id"])


def mention(tenant: Tenant, room: str, text: str, **more: object) -> str:
    return str(tenant.call("POST", f"/rooms/{room}/messages", {"content": text, **more}, "carol")["message_id"])


def test_mentions_are_listed_and_lead_to_their_message(browser: Browser, tenant: Tenant) -> None:
    room = make_room(tenant)
    mention(tenant, room, "<b>@bob</b> look", mentions=["bob"])
    for number in range(60):  # two pages of history later
        mention(tenant, room, f"line {number}")
    for number in range(21):
        mention(tenant, room, f"@alice {number}", mentions=["alice"])
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        _, bob = panes(page)
        page.get_by_role("button", name="Mentions").click()
        dialog = page.get_by_role("dialog", name="Mentions")
        results, status = dialog.locator(".result"), dialog.get_by_role("status")
        expect(status).to_have_text("20+ messages mention alice")
        dialog.get_by_role("button", name="More").click()
        expect(status).to_have_text("21 messages mention alice")
        expect(results.first.locator("mark")).to_have_text("@alice")
        dialog.get_by_role("combobox", name="Mentions of").select_option("bob")
        expect(status).to_have_text("1 message mentions bob")
        expect(results.locator(".result-text")).to_have_text("<b>@bob</b> look")
        expect(results).to_contain_text("in Lighthouse")
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="Mentions")).to_be_focused()
        page.keyboard.press("Enter")
        results.click()
        expect(bob.room).to_have_text("Lighthouse")
        expect(bob.root.locator(".message:focus")).to_contain_text("@bob")
        expect(bob.root.locator(".message:focus")).to_be_in_viewport()


def test_without_mentions_the_list_says_so(browser: Browser, tenant: Tenant) -> None:
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        panes(page)
        page.get_by_role("button", name="Mentions").click()
        expect(page.get_by_role("dialog").get_by_role("status")).to_have_text("Nobody has mentioned alice yet.")


def test_quotes_and_pins_lead_to_messages_far_back(browser: Browser, tenant: Tenant) -> None:
    room = make_room(tenant)
    first = tenant.call("POST", f"/rooms/{room}/messages", {"content": "long ago"})["message_id"]
    tenant.call("PUT", f"/rooms/{room}/pins/{first}")
    for number in range(250):
        tenant.call("POST", f"/rooms/{room}/messages", {"content": f"line {number}"})
    tenant.call("POST", f"/rooms/{room}/messages", {"content": "as I said", "reply_to": first})
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "Lighthouse")
        for pane in (alice, bob):
            expect(pane.messages).to_have_count(30)
        bob.root.locator(".messages .quote").click()
        expect(bob.root.locator(".message:focus")).to_contain_text("long ago")
        expect(bob.root.locator(".message:focus")).to_be_in_viewport()
        alice.root.locator(".pins summary").click()
        alice.root.locator(".pins .quote").click()
        expect(alice.root.locator(".message:focus")).to_contain_text("long ago")
        alice.say("news")  # it is not taken away from where it is
        expect(bob.root.locator(".newer")).to_be_visible()
        expect(bob.message("long ago").first).to_be_in_viewport()


def test_a_message_is_shown_although_a_thread_is_open(browser: Browser, tenant: Tenant) -> None:
    room = make_room(tenant)
    root = mention(tenant, room, "root")
    mention(tenant, room, "@alice", mentions=["alice"])
    mention(tenant, room, "reply", thread_id=root)
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, _ = panes(page)
        open_room(page, "Lighthouse")
        alice.message("root").get_by_role("button", name="1 reply").click()
        expect(alice.root.locator(".thread .message")).to_have_count(2)
        page.get_by_role("button", name="Mentions").click()
        page.get_by_role("dialog").locator(".result").click()
        expect(alice.root.locator(".message:focus")).to_contain_text("@alice")
        expect(alice.root.locator(".thread")).to_have_count(0)


def test_a_message_that_is_gone_is_said_to_be(browser: Browser, tenant: Tenant) -> None:
    """As retention leaves it: a reply whose message is no longer there."""
    room = make_room(tenant)
    first = mention(tenant, room, "first")
    for number in range(40):
        mention(tenant, room, f"line {number}")
    mention(tenant, room, "last", reply_to=first)
    with tenant.visit(browser, excused=("status of 404",)) as visitor:
        page = visitor.open()
        alice, _ = panes(page)
        open_room(page, "Lighthouse")
        page.route(
            f"**/messages/{first}",
            lambda route: route.fulfill(
                status=404,
                json={"success": False, "data": None, "error": {"code": "NOT_FOUND", "message": "No such message"}},
            ),
        )
        alice.root.locator(".messages .quote").click()
        expect(page.locator("#toast")).to_contain_text("It cannot be shown")


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE])
def test_axe_finds_nothing(browser: Browser, tenant: Tenant, axe: str, viewport: dict[str, int]) -> None:
    room = make_room(tenant)
    mention(tenant, room, "@alice " + "long " * 200, mentions=["alice"])
    with tenant.visit(browser, viewport=viewport) as visitor:
        page = visitor.open()
        alice = PaneOf(page, "a")
        alice.expect_live()
        if viewport is PHONE:
            page.locator(".views [data-view=rooms]").click()
        page.get_by_role("button", name="Mentions").click()
        expect(page.get_by_role("dialog").locator(".result")).to_be_visible()
        inspector = Inspector(page, axe)
        inspector.look("mentions")
        page.get_by_role("dialog").locator(".result").click()
        expect(alice.root.locator(".message:focus")).to_be_visible()  # on a phone the pane is shown, too
        inspector.look("a message that was found")
        assert not inspector.found, "\n".join(inspector.found)
