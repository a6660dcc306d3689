"""The page Faults of the playground: it makes the server misbehave, and shows how the two connections recover."""

from collections.abc import Iterator

import pytest
from accessibility import Inspector
from browser_rig import PHONE, UNREACHABLE, Tenant, panes
from playwright.sync_api import Browser, Page, expect
from server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

EXCUSED = (*UNREACHABLE, "status of 401", "status of 404", "status of 502", "status of 503", "EventSource")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("faults")) as server:
        yield server


def start(page: Page, label: str, **fields: str) -> None:
    form = page.get_by_role("form", name=label, exact=True)
    for name, value in fields.items():
        form.get_by_label(name.replace("_", " ")).fill(value)
    form.get_by_role("button").click()


def test_one_sees_the_connections_recover(browser: Browser, server: ServerProcess, axe: str) -> None:
    tenant = Tenant(server, "faults")
    with tenant.visit(browser, excused=EXCUSED) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        page.get_by_role("tab", name="Faults").click()
        faults, log = page.locator("#faults"), page.get_by_role("log", name="What the connections do")
        on, outcome = faults.get_by_role("list", name="Faults that are on"), faults.locator(".outcome")
        expect(faults.get_by_role("button", name="End all faults")).to_be_hidden()
        inspector = Inspector(page, axe)
        inspector.look("without a key")
        key = faults.get_by_label("Master key")
        key.fill("mk_wrong")
        key.press("Enter")
        expect(outcome).to_have_text("Invalid credentials")
        expect(key).to_be_focused()
        key.fill(server.master_key)
        key.press("Enter")
        expect(on).to_have_text("No faults are on.")
        expect(outcome).to_be_hidden()
        expect(log.locator("[data-slot=a][data-kind=back]").last).to_contain_text("live")

        start(page, "Cut all connections")
        expect(outcome).to_contain_text("connections were cut.")
        for slot in ("a", "b"):
            lines = log.locator(f"[data-slot={slot}]")
            expect(lines.filter(has_text="lost")).to_contain_text("the next try in")
            expect(lines.filter(has_text="recovered after")).to_have_count(1)

        faults.get_by_label("Whom the faults strike").select_option("alice")
        start(page, "Lose the next", How_many_confirmations="1")
        expect(on).to_contain_text("The next confirmation is lost")
        expect(on).to_contain_text("Only for alice.")
        expect(page.locator("#tab-faults .badge")).to_have_text("1")
        alice.say("once")
        expect(log.locator("[data-slot=a]").filter(has_text="sent again: a message")).to_have_count(1)
        expect(log.locator("[data-slot=a]").filter(has_text="confirmed: a message, stored once")).to_have_count(1)
        expect(on).to_have_text("No faults are on.")  # it was lost, and the page looks again
        bob.expect_contents(["once"])

        start(page, "Delay answers by", Milliseconds_of_delay="300")
        start(page, "Cut them every", Seconds_between_two_cuts="30")
        expect(on.get_by_role("listitem")).to_contain_text(
            ["Connections are cut every 30 s", "Answers come 300 ms late", "Only for alice."]
        )
        inspector.look("with faults")
        on.get_by_role("button", name="End: Answers come 300 ms late").click()
        expect(on.get_by_role("listitem")).to_contain_text(["Connections are cut every 30 s", "Only for alice."])
        start(page, "Stall the network for", Seconds_of_silence="601")
        expect(on).not_to_contain_text("stands still")  # the field itself refuses it

        faults.get_by_label("The answer").select_option("503")
        start(page, "Answer", Percent_of_the_requests="100")
        expect(on).to_contain_text("100 % of the requests get 503")
        alice.say("at last")
        expect(log.locator("[data-slot=a]").filter(has_text="refused with INTERNAL_ERROR").first).to_be_visible()
        faults.get_by_role("button", name="End all faults").click()
        expect(on).to_have_text("No faults are on.")
        expect(outcome).to_have_text("All faults have ended.")
        bob.expect_contents(["once", "at last"])
        page.set_viewport_size(PHONE)
        page.locator(".views [data-view=frames]").click()
        inspector.look("on a phone")
        assert inspector.found == []


def test_usual_server_offers_no_faults(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        ServerProcess(tmp_path_factory.mktemp("usual"), dev=False) as server,
        Tenant(server, "usual").visit(browser) as visitor,
    ):
        page = visitor.open()
        panes(page)
        expect(page.get_by_role("tab", name="Faults")).to_have_count(0)
        page.get_by_role("tab", name="Admin").press("ArrowRight")
        expect(page.get_by_role("tab", name="Frames")).to_be_focused()
