"""What the tenant's backend does, in the playground: it reads reports, and bans users from the tenant."""

from collections.abc import Iterator

import pytest
from accessibility import Inspector
from browser_rig import DESKTOP, PHONE, PaneOf, Tenant, open_room, panes
from playwright.sync_api import Browser, Page, expect
from server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

BANNED = ("status of 403", "status of 404")  # what the browser says of refusals, and of users who are not banned


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("admin"), dev=False) as server:
        yield server


@pytest.fixture
def tenant(server: ServerProcess, request: pytest.FixtureRequest) -> Tenant:
    return Tenant(server, request.node.name[:100])


def make_room(tenant: Tenant, *members: str) -> str:
    body: dict[str, object] = {"type": "group", "name": "Lighthouse", "members": ["bob", *members]}
    return str(tenant.call("POST", "/rooms", body)["room_id"])


def choose(page: Page, user: str, choice: str) -> None:
    page.locator(f"#members .member[data-user={user}]").get_by_role("button", name=f"Change {user}").click()
    page.get_by_role("menuitem", name=choice).click()


def test_a_message_is_reported_and_the_report_is_resolved(browser: Browser, tenant: Tenant) -> None:
    room = make_room(tenant)
    insult = "<b>you</b> are a gull"
    message = tenant.call("POST", f"/rooms/{room}/messages", {"content": insult})["message_id"]
    with tenant.visit(browser, excused=("status of 404",)) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "Lighthouse")
        expect(alice.own.get_by_role("button", name="Report")).to_have_count(0)
        button = bob.messages.get_by_role("button", name="Report")
        button.focus()
        page.keyboard.press("Enter")
        form = page.get_by_role("dialog", name="Report this message of alice")
        expect(form.get_by_role("textbox", name="Reason")).to_be_focused()
        page.keyboard.press("Escape")
        expect(form).to_have_count(0)
        expect(button).to_be_focused()
        page.keyboard.press("Enter")
        form.get_by_role("button", name="Report").click()
        expect(form).to_be_visible()  # nothing is reported without a reason
        form.get_by_role("textbox").fill("  insults me  ")
        form.get_by_role("button", name="Report").click()
        expect(page.locator("#toast")).to_contain_text("bob: reported")
        expect(page.locator("#tab-admin .badge")).to_have_text("1")
        tenant.call("PUT", f"/rooms/{room}/messages/{message}", {"content": "nothing was said"})
        page.get_by_role("tab", name="Admin").click()
        report = page.locator("#admin .report")
        expect(report.locator(".report-head > span")).to_have_text("bob reports a message of alice")
        expect(report.locator(".report-reason")).to_have_text("insults me")
        expect(report.locator("blockquote")).to_have_text(insult)  # as it was when it was reported
        page.locator(".room").filter(has_text="alice & bob").click()
        report.get_by_role("button", name="Show the message").click()
        expect(page.locator(".message:focus")).to_contain_text("nothing was said")
        report.get_by_role("button", name="Resolve").focus()
        page.keyboard.press("Enter")
        expect(report).to_have_count(0)
        expect(page.locator("#admin h2").first).to_be_focused()
        expect(page.get_by_role("region", name="Reports").get_by_role("status")).to_have_text("No open reports.")
        expect(page.locator("#tab-admin .badge")).to_be_hidden()
        page.get_by_role("combobox", name="Reports that are").select_option("resolved")
        expect(report).to_contain_text("resolved by playground at")
        expect(report.get_by_role("button", name="Resolve")).to_have_count(0)


@pytest.mark.parametrize(("choice", "end"), [("for 1 day", " until "), ("for good", r"")])
def test_a_user_is_banned_from_the_tenant_and_comes_back(
    browser: Browser, tenant: Tenant, choice: str, end: str
) -> None:
    make_room(tenant)
    with tenant.visit(browser, excused=BANNED) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "Lighthouse")
        bob.input.fill("half a thought")
        page.get_by_role("tab", name="Members").click()
        choose(page, "bob", f"Ban bob from the tenant {choice}")
        for _ in range(2):
            expect(bob.state).to_have_text("banned")
            expect(bob.notice).to_contain_text(f"This user is banned from the tenant{end}")
            expect(bob.notice).to_contain_text("(403)")
            expect(page.locator("#members .member[data-user=bob] [data-role=banned]")).to_be_visible()
            alice.expect_live()
            page.reload()  # the page begins all the same, and shows it
            expect(alice.room).to_have_text("Lighthouse")
            expect(bob.root.locator(".log")).to_contain_text(f"bob is banned from the tenant{end}")
            page.get_by_role("tab", name="Members").click()
        expect(page.locator("#toast")).to_be_hidden()
        alice.say("while bob is away")
        choose(page, "bob", "Lift the ban of bob from the tenant")
        bob.expect_live()
        bob.expect_contents(["while bob is away"])
        expect(page.locator("#members [data-role=banned]")).to_have_count(0)
        bob.say("back")
        expect(alice.message("back")).to_have_count(1)


def test_an_open_composer_says_that_the_user_is_banned(browser: Browser, tenant: Tenant) -> None:
    make_room(tenant)
    with tenant.visit(browser, excused=BANNED) as visitor:
        page = visitor.open()
        _, bob = panes(page)
        open_room(page, "Lighthouse")
        bob.input.fill("half a thought")
        tenant.call("PUT", "/users/bob/ban", {"expires_in": 8})
        expect(bob.root.locator(".obstacle")).to_contain_text("You are banned from the tenant until")
        expect(bob.input).to_be_disabled()
        bob.expect_live()  # the end is silent, and the page knows it
        expect(bob.input).to_have_value("half a thought")
        expect(bob.input).to_be_enabled()
        bob.input.press("Enter")
        bob.expect_contents(["half a thought"])


def test_both_users_may_be_banned(browser: Browser, tenant: Tenant) -> None:
    make_room(tenant)
    for user in ("alice", "bob"):
        tenant.call("PUT", f"/users/{user}/ban", {"reason": "spam"}, "backend")
    with tenant.visit(browser, excused=BANNED) as visitor:
        page = visitor.open()
        for pane in (PaneOf(page, "a"), PaneOf(page, "b")):
            expect(pane.state).to_have_text("banned")
        page.get_by_role("tab", name="Admin").click()
        bans = page.get_by_role("region", name="Bans from the tenant")
        expect(bans.locator(".member")).to_have_text(["Aalicefor good: spam", "Bbobfor good: spam"])
        for user in ("alice", "bob"):
            bans.get_by_role("button", name=f"Lift the ban of {user} from the tenant").click()
            expect(bans.get_by_role("status")).to_have_text(f"{user} is no longer banned.")
        expect(bans.locator(".member")).to_have_count(0)
        panes(page)
        open_room(page, "Lighthouse")


def test_others_are_banned_by_their_id(browser: Browser, tenant: Tenant) -> None:
    with tenant.visit(browser, excused=BANNED) as visitor:
        page = visitor.open()
        panes(page)
        page.get_by_role("tab", name="Admin").click()
        bans = page.get_by_role("region", name="Bans from the tenant")
        bans.get_by_role("textbox", name="User id").fill("mallory")
        bans.get_by_role("button", name="Look up").click()
        expect(bans.get_by_role("status")).to_have_text("mallory is not banned.")
        bans.get_by_role("textbox", name="Reason").fill("spam")
        bans.get_by_role("combobox").select_option("for 1 hour")
        bans.get_by_role("button", name="Ban", exact=True).click()
        expect(bans.get_by_role("status")).to_have_text("mallory is banned from the tenant.")
        expect(bans.locator(".member small")).to_contain_text("spam")
        assert tenant.call("GET", "/users/mallory/ban")["reason"] == "spam"
        bans.get_by_role("button", name="Lift the ban of mallory from the tenant").click()
        expect(bans.locator(".member")).to_have_count(0)
        expect(bans.locator("h2")).to_be_focused()


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE])
def test_axe_finds_nothing(browser: Browser, tenant: Tenant, axe: str, viewport: dict[str, int]) -> None:
    room = make_room(tenant)
    message = tenant.call("POST", f"/rooms/{room}/messages", {"content": "x" * 500})["message_id"]
    tenant.call("POST", f"/rooms/{room}/messages/{message}/report", {"reason": "y" * 1000}, "bob")
    tenant.call("PUT", "/users/bob", {"name": "Bob of a name that is longer than what can be shown of it"})
    with tenant.visit(browser, viewport=viewport, excused=BANNED) as visitor:
        visitor.context.add_init_script(f"if (location.host) sessionStorage['chatapi-playground-room'] = '{room}'")
        page = visitor.open()
        bob = PaneOf(page, "b")
        bob.expect_live()
        inspector = Inspector(page, axe)
        if viewport is PHONE:
            page.locator(".views [data-view=b]").click()
        bob.messages.get_by_role("button", name="Report").dispatch_event("click")
        expect(page.get_by_role("dialog")).to_be_visible()
        inspector.look("a report's form")
        page.keyboard.press("Escape")
        tenant.call("PUT", "/users/bob/ban", {"reason": "z" * 500}, "backend")
        expect(bob.root.locator(".obstacle")).to_be_visible()
        inspector.look("banned from the tenant")
        if viewport is PHONE:
            page.locator(".views [data-view=frames]").click()
        page.get_by_role("tab", name="Admin").click()
        expect(page.locator("#admin .report")).to_be_visible()
        expect(page.locator("#admin .member")).to_be_visible()
        inspector.look("reports and bans")
        assert not inspector.found, "\n".join(inspector.found)
