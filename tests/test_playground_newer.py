"""The playground before a server of a later 1.x, with events, frames and values that it does not know."""

from pathlib import Path

import pytest
from browser_rig import Tenant, open_room, panes
from newer import NEWS, NewerServerThread
from playwright.sync_api import Browser, expect
from server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

TRIES = 200  # 10 s


def test_unknown_events_are_listed_and_disturb_no_pane(browser: Browser, tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, NewerServerThread(server.url) as newer:
        tenant = Tenant(server, "newer")
        room = tenant.call("POST", "/rooms", {"type": "group", "members": ["bob"]})["room_id"]
        with tenant.visit(browser, newer.url) as visitor:
            page = visitor.open()
            alice, bob = panes(page)
            open_room(page, "Room of 2")
            alice.say("before")
            bob.expect_contents(["before"])
            tenant.call("POST", f"/rooms/{room}/members", {"user_id": "carol"})
            tenant.call("PATCH", f"/rooms/{room}", {"metadata": {"quiet": True}})
            frames = page.locator(".frame-list details")
            for kind in ("huddle.joined", "poll.closed", *(frame["type"] for frame in NEWS["frames"])):
                expect(frames.locator(".frame-type").get_by_text(kind, exact=True).first).to_be_attached()

            def last_acks() -> set[int]:
                receipts = tenant.call("GET", f"/rooms/{room}/receipts")["receipts"]
                return {receipt["last_ack"] for receipt in receipts if receipt["user_id"] != "carol"}

            for _ in range(TRIES):
                if last_acks() == {3}:
                    break
                page.wait_for_timeout(50)
            assert last_acks() == {3}  # what is new was acknowledged
            bob.say("after")
            for pane in (alice, bob):
                pane.expect_live()
                pane.expect_contents(["before", "after"])
