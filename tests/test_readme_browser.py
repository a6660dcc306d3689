"""README in a browser: the picture of the playground, and the JavaScript example.

`PLAYGROUND_SCREENSHOTS=docs python -m pytest -m browser tests/test_readme_browser.py` takes docs/playground.png again.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_rig import Browser, Tenant, expect, open_room, panes
from examples import example
from server_process import ServerProcess

EXAMPLE = example("README.md", "js")
IMPORT = 'import { ChatAPI } from "/sdk/chatapi.js";'
WINDOW = {"width": 1280, "height": 760}

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    with ServerProcess(tmp_path) as server:
        yield Tenant(server, "readme")


def test_two_users_chat(browser: Browser, tenant: Tenant, tmp_path: Path) -> None:
    for name in ("Launch", "Support"):
        tenant.call("POST", "/rooms", {"type": "group", "members": ["bob"], "name": name})
    tenant.call("POST", "/rooms", {"type": "dm", "members": ["bob"]})
    with tenant.visit(browser, viewport=WINDOW) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "Launch")
        lines = ["Hi Bob, is the release ready?", "Wheels and the tarball are built.", "CI is green as well."]
        for number, (pane, line) in enumerate(zip((alice, bob, bob), lines, strict=True), 1):
            pane.say(line)
            expect(alice.messages).to_have_count(number)
            expect(bob.messages).to_have_count(number)
        alice.expect_contents(lines)
        bob.expect_contents(lines)
        alice.messages.nth(1).get_by_role("button", name="React", exact=True).dispatch_event("click")
        page.get_by_role("dialog").get_by_role("button", name="party").click()
        expect(bob.root.locator(".reaction")).to_have_text("🎉 1")
        alice.input.fill("Great, then let us ship it")
        expect(page.locator(".room[aria-current] .badge")).to_have_count(0)
        expect(bob.root).to_contain_text("alice is typing")
        page.screenshot(path=Path(os.environ.get("PLAYGROUND_SCREENSHOTS", tmp_path)) / "playground.png")


def test_the_example_for_a_page(browser: Browser, tenant: Tenant) -> None:
    room_id = tenant.call("POST", "/rooms", {"type": "dm", "members": ["bob"]})["room_id"]
    token = tenant.call("POST", "/tokens", {"user_id": "bob"})["token"]
    body = EXAMPLE.replace(IMPORT, 'const { ChatAPI } = await import("/sdk/chatapi.js");')
    assert body != EXAMPLE
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        page.evaluate(f"(token) => {{ (async () => {{ {body} }})(); }}", token)
        with page.expect_console_message(lambda message: "Hello from the room" in str(message.args[0].json_value())):
            tenant.call("POST", f"/rooms/{room_id}/messages", {"content": "Hello from the room"})
