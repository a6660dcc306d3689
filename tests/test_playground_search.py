"""The playground's search for messages."""

from collections.abc import Iterator

import pytest
from accessibility import Inspector
from browser_rig import DESKTOP, PHONE, PaneOf, Tenant, panes
from playwright.sync_api import Browser, expect
from server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("search"), dev=False) as server:
        yield server


@pytest.fixture
def tenant(server: ServerProcess, request: pytest.FixtureRequest) -> Tenant:
    tenant = Tenant(server, request.node.name[:100])
    body: dict[str, object] = {"type": "group", "name": "Lighthouse", "members": ["bob"]}
    room = tenant.call("POST", "/rooms", body)["room_id"]
    for text in ("🚢🚢 the <b>Lamp</b> is lit", "nothing of that kind", "two lamps and a lamp"):
        tenant.call("POST", f"/rooms/{room}/messages", {"content": text})
    return tenant


def test_hits_are_marked_and_lead_to_their_message(browser: Browser, tenant: Tenant) -> None:
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, _ = panes(page)
        page.get_by_role("button", name="Search messages").click()
        dialog = page.get_by_role("dialog", name="Search messages")
        field = dialog.get_by_role("searchbox")
        expect(field).to_be_focused()
        results = dialog.locator(".result")
        while results.count() < 2:  # a message is found within 2 seconds
            field.fill("")
            field.fill("LAMP*")
            expect(dialog.get_by_role("status")).to_contain_text("ound")
        expect(results.locator(".result-text")).to_have_text(["two lamps and a lamp", "🚢🚢 the <b>Lamp</b> is lit"])
        expect(results.locator("mark")).to_have_text(["lamps", "lamp", "Lamp"])
        expect(results.locator(".result-text b")).to_have_count(0)
        expect(results.first).to_contain_text("in Lighthouse")
        field.fill("whale")
        expect(dialog.get_by_role("status")).to_have_text("Nothing found.")
        dialog.get_by_role("combobox", name="Search as").select_option("bob")
        field.fill("lit")
        expect(results).to_have_count(1)
        field.press("Tab")
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        expect(page.get_by_role("button", name="Search messages")).to_be_focused()
        page.keyboard.press("Enter")
        results.click()
        expect(alice.room).to_have_text("Lighthouse")
        expect(page.locator(".message:focus")).to_contain_text("is lit")


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE])
def test_axe_finds_nothing(browser: Browser, tenant: Tenant, axe: str, viewport: dict[str, int]) -> None:
    with tenant.visit(browser, viewport=viewport) as visitor:
        page = visitor.open()
        PaneOf(page, "a").expect_live()
        page.get_by_role("button", name="Search messages").click()
        dialog = page.get_by_role("dialog", name="Search messages")
        while dialog.locator(".result").count() < 2:
            dialog.get_by_role("searchbox").fill("")
            dialog.get_by_role("searchbox").fill("lamp*")
            expect(dialog.get_by_role("status")).to_contain_text("ound")
        inspector = Inspector(page, axe)
        inspector.look("results of a search")
        assert not inspector.found, "\n".join(inspector.found)
