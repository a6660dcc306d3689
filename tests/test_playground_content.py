"""What people write, as the playground shows it: links, directions, days, and long texts."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from browser_rig import Tenant, open_room, panes
from playwright.sync_api import Browser, Page, Route, expect
from server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("content"), dev=False) as server:
        yield server


@pytest.fixture(scope="module")
def page(browser: Browser, server: ServerProcess) -> Iterator[Page]:
    with Tenant(server, "texts").visit(browser) as visitor:
        page = visitor.open()
        panes(page)
        yield page


@pytest.fixture
def tenant(server: ServerProcess, request: pytest.FixtureRequest) -> Tenant:
    return Tenant(server, request.node.name[:100])


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("see https://example.com.", ["https://example.com"]),
        ("http://example.com/a?b=c&d=e#f, and", ["http://example.com/a?b=c&d=e#f"]),
        ("(https://example.com/a_(b))", ["https://example.com/a_(b)"]),
        ("[x](https://example.com/y)", ["https://example.com/y"]),
        ("<https://example.com>", ["https://example.com"]),
        ('"https://example.com/it\'s"', ["https://example.com/it's"]),
        ("https://example.com/a!?… 'https://b.example'", ["https://example.com/a", "https://b.example"]),
        ("HTTPS://Example.COM/Path", ["HTTPS://Example.COM/Path"]),
        ("https://münchen.example/straße。", ["https://münchen.example/straße"]),
        ("https://[::1]:8080/x", ["https://[::1]:8080/x"]),
        ("http://127.0.0.1:8080", ["http://127.0.0.1:8080"]),
        ("https://a.example\nhttps://b.example", ["https://a.example", "https://b.example"]),
        ("javascript:alert(1) data:text/html,x ftp://a.example mailto:a@b.example file:///etc/passwd //a.example", []),
        ("https://", []),
        ("https://.", []),
        ("http://[", []),
        ("http://a b", ["http://a"]),
        ("https://bank.example@evil.example/ https://user:secret@a.example", []),
        ("xhttps://a.example", []),
        ("https://a.example/\u202egnp.exe", ["https://a.example/"]),
        ("https://a.example/\u0000x", ["https://a.example/"]),
        ('https://a.example/"onmouseover="alert(1)', ["https://a.example/"]),
        ("https://a.example/" + "(" * 5000 + ")" * 4000, None),
        ("https://" * 3000, None),
    ],
)
def test_links(page: Page, text: str, links: list[str] | None) -> None:
    found = page.evaluate(
        """async (text) => {
          const { partsOf } = await import("/sdk/room/content.js");
          const started = performance.now();
          const parts = partsOf(text);
          return { parts, whole: parts.map(part => part.text).join(""), ms: performance.now() - started };
        }""",
        text,
    )
    assert found["whole"] == text
    assert found["ms"] < 1000, "it takes time by the square"
    named = [part for part in found["parts"] if "href" in part]
    assert all(part["href"].startswith(("http://", "https://")) for part in named)
    if links is not None:
        assert [part["text"] for part in named] == links


def test_a_link_in_a_message(browser: Browser, tenant: Tenant) -> None:
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        text = "<a href='javascript:alert(1)'>x</a> https://münchen.example/ende."
        alice.say(text)
        bob.expect_contents([text])
        link = bob.messages.locator("a")
        expect(link).to_have_text("https://münchen.example/ende")
        expect(link).to_have_attribute("href", "https://xn--mnchen-3ya.example/ende")
        expect(link).to_have_attribute("rel", "noopener noreferrer nofollow")
        expect(link).to_have_attribute("target", "_blank")


def test_each_text_has_its_own_direction(browser: Browser, tenant: Tenant) -> None:
    name = "غرفة المنارة"
    tenant.call("POST", "/rooms", {"type": "group", "name": name, "members": ["bob"]})
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        page.locator(".room").filter(has_text=name).click()
        expect(alice.room).to_have_text(name)
        direction = "element => getComputedStyle(element).direction"
        assert alice.room.evaluate(direction) == "rtl"
        alice.input.fill("مرحبا")
        assert alice.input.evaluate(direction) == "rtl"
        alice.input.press("Enter")
        bob.say("hello")
        expect(alice.messages).to_have_count(2)
        directions = alice.messages.locator(".content").evaluate_all(
            "all => all.map(one => getComputedStyle(one).direction)"
        )
        assert directions == ["rtl", "ltr"]


def test_long_texts_are_folded(browser: Browser, tenant: Tenant) -> None:
    long = "🚢" * 3000 + " https://example.com/the-end"
    lines = "\n".join(f"line {number}" for number in range(40))
    cut = "x" * 1190 + " https://example.com/" + "y" * 60
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        for text in (long, lines, cut):
            alice.say(text)
        expect(bob.messages).to_have_count(3)
        shown = bob.contents()
        assert shown[0] == "🚢" * 600 + "…"
        assert shown[1] == "\n".join(f"line {number}" for number in range(16)) + "…"
        assert shown[2] == "x" * 1190 + " …"  # half a link would lead elsewhere
        expect(bob.messages.nth(2).locator("a")).to_have_count(0)
        for number, text in enumerate((long, lines, cut)):
            button = bob.messages.nth(number).get_by_role("button", name="Show all")
            expect(button).to_have_attribute("aria-expanded", "false")
            button.click()
            assert bob.contents()[number] == text
            bob.messages.nth(number).get_by_role("button", name="Show less").click()
            assert bob.contents()[number] == shown[number]
        alice.say("not long")
        expect(bob.messages.nth(3).get_by_role("button", name="Show all")).to_have_count(0)


DATES = [
    "2026-03-01T10:00:00.000000Z",
    "2026-03-01T22:59:00.000000Z",
    "2026-03-01T23:01:00.000000Z",
]  # the last is the next day in Berlin


def test_days_stand_between_messages(browser: Browser, tenant: Tenant) -> None:
    with tenant.visit(browser, timezone_id="Europe/Berlin", locale="en-GB") as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        for number in range(60):
            tenant.call("POST", f"/rooms/{room_of(page)}/messages", {"content": f"line {number}"})
        expect(alice.message("line 59")).to_have_count(1)
        page.wait_for_function(ALL_ACKED)  # so that the connection brings none of them again
        page.route("**/messages?*", write_dates)  # what was written long ago cannot be written now
        page.reload()
        alice, bob = panes(page)
        expect(alice.messages).to_have_count(30)
        days = alice.root.locator(".day")
        expect(days).to_have_text(["Sunday, 1 March 2026", "Monday, 2 March 2026"])
        alice.root.locator(".log").evaluate("log => { log.scrollTop = 0; }")
        expect(alice.messages).to_have_count(60)
        expect(days).to_have_text(["Sunday, 1 March 2026", "Monday, 2 March 2026"])
        order = alice.root.locator(".messages").first.evaluate(
            "list => [...list.children].map(line => line.className.split(' ')[0])"
        )
        assert order == ["day", *["message"] * 40, "day", *["message"] * 20]
        bob.say("today")
        expect(days).to_have_count(3)


ALL_ACKED = """async () => {
  const { ChatAPI } = await import("/sdk/chatapi.js");
  const { apiKey, a } = JSON.parse(sessionStorage["chatapi-playground"]);
  const client = new ChatAPI({ url: location.origin, apiKey, userId: a });
  const { receipts } = await client.listReceipts(sessionStorage["chatapi-playground-room"]);
  return receipts.every(({ last_ack }) => last_ack === 60);
}"""


def room_of(page: Page) -> str:
    return str(page.evaluate("sessionStorage.getItem('chatapi-playground-room')"))


def write_dates(route: Route) -> None:
    answer: dict[str, Any] = route.fetch().json()
    for message in answer["data"]["messages"]:
        message["created_at"] = DATES[(message["seq"] - 1) // 20]
    route.fulfill(status=200, content_type="application/json", body=json.dumps(answer))


def test_the_field_grows_with_its_text_and_scrolls_beyond(browser: Browser, tenant: Tenant) -> None:
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, _ = panes(page)
        expect(alice.input).to_have_css("overflow-y", "hidden")
        alice.input.fill("\n".join("four"))
        expect(alice.input).to_have_css("overflow-y", "hidden")
        alice.input.fill("\n".join("more than four lines"))
        expect(alice.input).to_have_css("overflow-y", "auto")
        expect(alice.input).to_have_css("height", "160px")


def test_a_draft_stays_in_its_room_and_outlasts_a_reload(browser: Browser, tenant: Tenant) -> None:
    tenant.call("POST", "/rooms", {"type": "group", "name": "Harbour", "members": ["bob"]})
    with tenant.visit(browser) as visitor:
        page = visitor.open()
        alice, bob = panes(page)
        direct = alice.room.inner_text()
        alice.input.fill("half a thought\nof alice")
        bob.input.fill("and one of bob")
        open_room(page, "Harbour")
        for pane in (alice, bob):
            expect(pane.input).to_have_value("")
        alice.say("to the harbour")
        alice.input.fill("another one")
        alice.own.hover()
        alice.own.get_by_role("button", name="Edit").click()
        expect(alice.input).to_have_value("to the harbour")
        alice.input.fill("what is edited is no draft")
        page.reload()
        alice, bob = panes(page)
        expect(alice.input).to_have_value("another one")
        alice.own.hover()
        alice.own.get_by_role("button", name="Edit").click()
        alice.say("to the whole harbour")
        expect(alice.message("to the whole harbour")).to_have_count(1)
        expect(alice.input).to_have_value("another one")
        open_room(page, direct)
        expect(bob.input).to_have_value("and one of bob")
        expect(alice.input).to_have_value("half a thought\nof alice")
        alice.input.press("Enter")
        expect(bob.message("half a thought")).to_have_count(1)
        bob.input.fill("")
        page.reload()
        for pane in panes(page):
            expect(pane.input).to_have_value("")
