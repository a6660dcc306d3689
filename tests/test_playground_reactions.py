"""Reactions in the playground: the picker, the chips below a message, and what of it is read out."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from browser_rig import PaneOf, Tenant, open_room, panes
from playwright.sync_api import Browser, Locator, Page, expect
from server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("reactions"), dev=False) as server:
        yield server


@pytest.fixture
def tenant(server: ServerProcess, request: pytest.FixtureRequest) -> Tenant:
    return Tenant(server, request.node.name[:100])


def make_room(tenant: Tenant, *members: str) -> str:
    body: dict[str, object] = {"type": "group", "name": "Lighthouse", "members": ["bob", *members]}
    return str(tenant.call("POST", "/rooms", body)["room_id"])


def write(tenant: Tenant, room: str, text: str, user: str = "alice") -> str:
    """Returns the path of the message."""
    message = tenant.call("POST", f"/rooms/{room}/messages", {"content": text}, user)
    return f"/rooms/{room}/messages/{message['message_id']}"


def react(tenant: Tenant, message: str, emoji: str, user: str) -> None:
    tenant.call("PUT", f"{message}/reactions/{quote(emoji)}", user=user)


def read_reactions(tenant: Tenant, message: str) -> list[tuple[str, list[str]]]:
    found: dict[str, Any] = tenant.call("GET", message)
    return [(one["emoji"], one["user_ids"]) for one in found.get("reactions", [])]


def chips(pane: PaneOf, text: str) -> Locator:
    return pane.message(text).locator(".reaction")


def test_reactions_are_picked_shown_and_taken_back(browser: Browser, tenant: Tenant) -> None:
    room = make_room(tenant)
    message = write(tenant, room, "tide is in")
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "Lighthouse")
        bob.message("tide is in").hover()
        bob.message("tide is in").get_by_role("button", name="React", exact=True).click()
        page.get_by_role("dialog", name="React to alice").get_by_role("button", name="thumbs up").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        for pane, pressed, who in ((alice, "false", "bob"), (bob, "true", "you")):
            expect(chips(pane, "tide is in")).to_have_text(["👍 1"])
            expect(chips(pane, "tide is in")).to_have_attribute("aria-pressed", pressed)
            expect(chips(pane, "tide is in")).to_have_attribute("aria-label", f"thumbs up 1: {who}")
        chips(alice, "tide is in").click()
        expect(chips(bob, "tide is in")).to_have_attribute("aria-label", "thumbs up 2: you, alice")
        expect(chips(bob, "tide is in")).to_have_attribute("title", "you, alice reacted with 👍")
        assert read_reactions(tenant, message) == [("👍", ["bob", "alice"])]
        for pane in (bob, alice):
            chips(pane, "tide is in").click()
        for pane in (alice, bob):
            expect(chips(pane, "tide is in")).to_have_count(0)
        assert read_reactions(tenant, message) == []


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        (":ship:", True),
        ("👩‍👩‍👧‍👦", True),
        ("<b>", True),
        ("\u202eabc", True),
        ("two words", False),
        ("x" * 65, False),
        ("⚓" * 22, False),
    ],
)
def test_any_other_emoji(browser: Browser, tenant: Tenant, text: str, taken: bool) -> None:
    message = write(tenant, make_room(tenant), "tide is in")
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, _ = panes(page)
        open_room(page, "Lighthouse")
        alice.own.hover()
        alice.own.get_by_role("button", name="React", exact=True).click()
        other = page.get_by_role("textbox", name="Another emoji")
        other.fill(text)
        other.press("Enter")
        if taken:
            expect(chips(alice, "tide is in").locator("bdi")).to_have_text(text)
            assert read_reactions(tenant, message) == [(text, ["alice"])]
        else:
            expect(other).to_be_visible()
            assert other.evaluate("input => input.validationMessage") != ""
            assert read_reactions(tenant, message) == []


def test_reactions_of_many_and_of_before(browser: Browser, tenant: Tenant) -> None:
    """What is read with the page, the first 20 users of an emoji, and one's own beyond them."""
    users = [f"user-{number:02}" for number in range(25)]
    room = make_room(tenant, *users)
    message = write(tenant, room, "tide is in")
    for user in [*users, "bob"]:
        react(tenant, message, "🎉", user)
    react(tenant, message, "👀", "bob")
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        _, bob = panes(page)
        open_room(page, "Lighthouse")
        expect(chips(bob, "tide is in")).to_have_text(["🎉 26", "👀 1"])
        party = chips(bob, "tide is in").first
        expect(party).to_have_attribute("aria-label", f"party 26: {', '.join(users[:20])} and 6 more")
        expect(party).to_have_attribute("aria-pressed", "false")  # nothing says that it is bob's, too
        party.click()
        expect(party).to_have_attribute("aria-pressed", "true")  # the server's answer did
        party.click()
        expect(party).to_have_text("🎉 25")
        react(tenant, message, "⚓", "alice")
        expect(chips(bob, "tide is in")).to_have_text(["🎉 25", "👀 1", "⚓ 1"])


def test_reactions_outlive_a_cut_an_edit_and_end_with_the_message(browser: Browser, tenant: Tenant) -> None:
    message = write(tenant, make_room(tenant), "tide is in")
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "Lighthouse")
        bob.cut.click()
        react(tenant, message, "👍", "alice")
        react(tenant, message, "👀", "alice")
        tenant.call("PUT", message, {"content": "tide is out"})
        expect(chips(alice, "tide is out")).to_have_text(["👍 1", "👀 1"])
        bob.cut.click()
        bob.expect_live()
        expect(chips(bob, "tide is out")).to_have_text(["👍 1", "👀 1"])
        tenant.call("DELETE", message)
        for pane in (alice, bob):
            expect(pane.messages).to_contain_text("Message deleted")
            expect(pane.messages.locator(".reaction")).to_have_count(0)


KEYS = [
    ("ArrowRight", "thumbs down"),
    ("ArrowDown", "in love"),
    ("ArrowUp", "thumbs down"),
    ("End", "coffee"),
    ("ArrowRight", "thumbs up"),
    ("ArrowLeft", "coffee"),
    ("Home", "thumbs up"),
]


def test_by_keyboard(browser: Browser, tenant: Tenant) -> None:
    message = write(tenant, make_room(tenant), "tide is in")
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        open_room(page, "Lighthouse")
        button = alice.own.get_by_role("button", name="React", exact=True)
        button.focus()
        page.keyboard.press("Enter")
        expect(button).to_have_attribute("aria-expanded", "true")
        expect_focus(page, "thumbs up")
        for key, name in KEYS:
            page.keyboard.press(key)
            expect_focus(page, name)
        page.keyboard.press("Escape")
        expect(button).to_be_focused()
        expect(button).to_have_attribute("aria-expanded", "false")
        for emoji in ("👍", "👀"):
            react(tenant, message, emoji, "bob")
            expect(chips(alice, "tide is in").filter(has_text=emoji)).to_have_count(1)
        tab_stops = chips(alice, "tide is in").evaluate_all("all => all.filter(one => one.tabIndex === 0).length")
        assert tab_stops == 1
        chips(alice, "tide is in").first.focus()
        page.keyboard.press("ArrowRight")
        expect(chips(alice, "tide is in").nth(1)).to_be_focused()
        page.keyboard.press("Enter")
        expect(chips(alice, "tide is in").nth(1)).to_have_text("👀 2")
        expect(chips(alice, "tide is in").nth(1)).to_be_focused()
        tenant.call("DELETE", f"{message}/reactions/{quote('👀')}", user="bob")
        expect(chips(alice, "tide is in").nth(1)).to_have_text("👀 1")
        page.keyboard.press("Enter")  # the chip goes away under the focus
        expect(chips(alice, "tide is in")).to_have_text(["👍 1"])
        expect(chips(alice, "tide is in").first).to_be_focused()
        expect(chips(bob, "tide is in").first).to_have_attribute("aria-pressed", "true")


def expect_focus(page: Page, name: str) -> None:
    expect(page.get_by_role("dialog").get_by_role("button", name=name)).to_be_focused()


def test_a_reaction_is_read_out_and_its_message_is_not(browser: Browser, tenant: Tenant) -> None:
    message = write(tenant, make_room(tenant), "tide is in")
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, _ = panes(page)
        open_room(page, "Lighthouse")
        alice.own.evaluate("element => { element.dataset.same = 'yes'; }")
        spoken = alice.root.locator("> [aria-live=polite]")
        react(tenant, message, "👍", "bob")
        expect(spoken).to_have_text("bob reacted with thumbs up to “tide is in”")
        tenant.call("DELETE", f"{message}/reactions/{quote('👍')}", user="bob")
        expect(spoken).to_have_text("bob took thumbs up back from “tide is in”")
        expect(alice.own).to_have_attribute("data-same", "yes")  # the log would have it read again
        expect(alice.own.locator(".reactions")).to_have_attribute("aria-live", "off")


def test_a_reaction_as_a_call(browser: Browser, tenant: Tenant) -> None:
    make_room(tenant)
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        panes(page)
        frame = {"type": "reaction.add", "room_id": "room_1", "message_id": "msg_1", "emoji": "👍/'"}
        edited = {"type": "message.edit", "room_id": "r", "message_id": "m", "content": "x", "mentions": ["bob"]}
        sent = {"type": "send_message", "room_id": "r", "content": "x", "mentions": ["bob"], "mention_room": True}
        calls = page.evaluate(
            """async (frames) => {
              const { deedOf } = await import("/playground/snippets.js");
              return frames.map((frame) => deedOf(frame, "out").call);
            }""",
            [frame, edited, sent],
        )
        assert calls[0]["route"] == f"/rooms/room_1/messages/msg_1/reactions/{quote('👍', safe='')}%2F%27"
        assert calls[1]["body"] == {"content": "x", "mentions": ["bob"]}
        assert json.dumps(calls[2]["body"]) == '{"content": "x", "mentions": ["bob"], "mention_room": true}'
