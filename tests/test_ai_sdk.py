"""`chatapi-js/ai`: docs/agents.md's page with `useChat` in Chromium, and its agent under Node."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_rig import PATIENCE_MS, open_browser
from examples import ROOT, example
from playwright.sync_api import Browser, BrowserContext, Page, expect
from server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600), pytest.mark.usefixtures("node_packages")]

PAGE = example("docs/agents.md", "tsx")
AGENT = example("docs/agents.md", "js", "streamText")
MODULES = Path(__file__).parent / "js" / "node_modules"
ORIGIN = "https://app.example.com"
SCRIPT = '<script type="module" src="/page.js"></script>'
HTML = f'<!doctype html><link rel="icon" href="data:,"><div id="root"></div>{SCRIPT}'
BUNDLED = ["--bundle", "--format=esm", "--jsx=automatic", '--define:process.env.NODE_ENV="development"']
CHECKED = ["--strict", "--noEmit", "--skipLibCheck", "--ignoreConfig", "--jsx", "react-jsx", "--types", "react"]
MODERN = ["--target", "es2022", "--module", "es2022", "--moduleResolution", "bundler"]
MOCK = """
import { MockLanguageModelV4, simulateReadableStream } from "ai/test";
const parts = (deltas) => deltas.map((delta) => ({ type: "text-delta", id: "1", delta }));
const usage = { inputTokens: { total: 1 }, outputTokens: { total: 1 } };
export const model = new MockLanguageModelV4({
  doStream: async ({ prompt }) => {
    if (prompt.at(-1).content[0].text.includes("Break")) throw new Error("no model");
    return { stream: simulateReadableStream({ chunks: [
      { type: "stream-start", warnings: [] },
      { type: "text-start", id: "1" }, ...parts(["Hel", "lo"]), { type: "text-end", id: "1" },
      { type: "finish", finishReason: { unified: "stop", raw: "stop" }, usage },
    ] }) };
  },
});
"""


def make_project(folder: Path) -> None:
    """With the packages, and with the SDK as one of them."""
    folder.mkdir(exist_ok=True)
    modules = folder / "node_modules"
    modules.mkdir()
    for package in ("@ai-sdk", "@types", "ai", "react", "react-dom", "ws"):
        (modules / package).symlink_to(MODULES / package)
    sdk = modules / "chatapi-js"
    shutil.copytree(ROOT / "chatapi" / "web" / "sdk", sdk)
    (sdk / "node_modules").mkdir()
    (sdk / "node_modules" / "ai").symlink_to(MODULES / "ai")


def run_package(name: str, *options: str, cwd: Path) -> None:
    run = subprocess.run([MODULES / ".bin" / name, *options], cwd=cwd, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # A page of https may then use the server of http on this machine, as one behind a proxy is used.
    with open_browser("--disable-features=BlockInsecurePrivateNetworkRequests,LocalNetworkAccessChecks") as browser:
        yield browser


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    make_project(folder)
    (folder / "page.tsx").write_text(PAGE)
    run_package("esbuild", "page.tsx", *BUNDLED, "--outfile=page.js", cwd=folder)
    return (folder / "page.js").read_text()


class Talk:
    """Alice, who has the page, and an agent who is played by the test."""

    def __init__(self, server: ServerProcess) -> None:
        self.server, self.key = server, server.create_tenant("acme")
        self.uncaught: list[str] = []
        room = {"type": "group", "members": ["assistant"]}
        self.room_id = self.call("POST", "/rooms", room, user="alice")["room_id"]
        self.token = self.call("POST", "/tokens", {"user_id": "alice"})["token"]

    def call(self, method: str, path: str, body: dict[str, object] | None = None, user: str = "assistant") -> Any:
        return self.server.call(method, path, body, key=self.key, user=user)

    def wait_for(self, count: int) -> list[Any]:
        """All messages, once there are so many."""
        rooms = {self.room_id: 0}
        while True:
            messages = self.call("GET", f"/rooms/{self.room_id}/messages")["messages"]
            if len(messages) >= count:
                return list(messages)
            rooms = self.call("POST", "/sync", {"rooms": rooms, "wait": 10})["rooms"]

    def open_answer(self, question: Any) -> "Answer":
        return Answer(self, {"content": "", "stream": True, "reply_to": question["message_id"]})

    def open_page(self, context: BrowserContext, bundle: str) -> Page:
        page = context.new_page()
        script = bundle.replace("https://chat.example.com", self.server.url)
        page.on("pageerror", lambda error: self.uncaught.append(str(error)))
        page.route(f"{ORIGIN}/?*", lambda route: route.fulfill(body=HTML, content_type="text/html"))
        page.route(f"{ORIGIN}/page.js", lambda route: route.fulfill(body=script, content_type="text/javascript"))
        page.route(f"{ORIGIN}/my-backend/chat-token", lambda route: route.fulfill(body=self.token))
        page.goto(f"{ORIGIN}/?room={self.room_id}")
        return page


class Answer:
    def __init__(self, talk: Talk, draft: dict[str, object]) -> None:
        self._talk = talk
        self._messages = f"/rooms/{talk.room_id}/messages"
        self._path = f"{self._messages}/{talk.call('POST', self._messages, draft)['message_id']}"
        self._index = 0

    def append(self, text: str) -> bool:
        """Whether somebody wants it to end."""
        self._index += 1
        told = self._talk.call("POST", f"{self._path}/append", {"index": self._index, "text": text})
        return bool(told.get("cancel_requested"))

    def finish(self, state: str, **end: object) -> None:
        self._talk.call("POST", f"{self._path}/finish", {"state": state, **end})


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    with ServerProcess(tmp_path, {"server.allowed_origins": f'["{ORIGIN}"]'}, dev=False) as server:
        talk = Talk(server)
        yield talk
        assert talk.uncaught == []


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 640, "height": 360})
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


def ask(page: Page, text: str) -> None:
    page.get_by_role("textbox").fill(text)
    page.get_by_role("button", name="Send").click()


def expect_shown(page: Page, *texts: str, status: str = "Send") -> None:
    expect(page.locator("main > p:not([role])")).to_have_text(texts)
    expect(page.locator("form button")).to_have_text(status)


def test_an_answer_grows_outlives_a_reload_and_shows_in_a_second_tab(
    talk: Talk, context: BrowserContext, bundle: str, tmp_path: Path
) -> None:
    page = talk.open_page(context, bundle)
    ask(page, "Why is the sea blue?")
    [question] = talk.wait_for(1)
    assert (question["sender_id"], question["mentions"]) == ("alice", ["assistant"])
    expect_shown(page, "Why is the sea blue?", status="Stop")
    answer = talk.open_answer(question)
    answer.append("Because")
    expect_shown(page, "Why is the sea blue?", "Because", status="Stop")
    answer.append(" of the water")
    expect_shown(page, "Why is the sea blue?", "Because of the water", status="Stop")
    page.screenshot(path=Path(os.environ.get("AI_SDK_SCREENSHOTS", tmp_path)) / "growing.png")
    page.reload()
    expect_shown(page, "Why is the sea blue?", "Because of the water", status="Stop")
    tab = talk.open_page(context, bundle)
    assert not answer.append(", which takes red light away")  # neither the reload nor StrictMode has stopped it
    for each in (page, tab):
        expect_shown(each, "Why is the sea blue?", "Because of the water, which takes red light away", status="Stop")
    answer.finish("done", content="Because water takes red light away.")
    for each in (page, tab):
        expect_shown(each, "Why is the sea blue?", "Because water takes red light away.")
    page.screenshot(path=Path(os.environ.get("AI_SDK_SCREENSHOTS", tmp_path)) / "done.png")
    page.reload()
    expect_shown(page, "Why is the sea blue?", "Because water takes red light away.")


def test_the_stop_button_cancels_and_a_failure_is_told(talk: Talk, context: BrowserContext, bundle: str) -> None:
    page = talk.open_page(context, bundle)
    ask(page, "Count")
    answer = talk.open_answer(talk.wait_for(1)[0])
    answer.append("1")
    expect_shown(page, "Count", "1", status="Stop")
    page.get_by_role("button", name="Stop").click()
    expect_shown(page, "Count", "1")
    while not answer.append("."):
        pass
    answer.finish("cancelled", content="1")
    page.reload()
    expect_shown(page, "Count", "1 (stopped)")
    ask(page, "Go on")
    answer = talk.open_answer(talk.wait_for(3)[2])
    answer.finish("failed", meta={"error": "no more tokens"})
    expect(page.get_by_role("alert")).to_contain_text("no more tokens")
    page.get_by_role("button", name="Try again").click()
    asked = talk.wait_for(5)[4]
    assert asked["content"] == "Go on"
    answer = talk.open_answer(asked)
    answer.append("2")
    answer.finish("done")
    expect_shown(page, "Count", "1 (stopped)", "Go on", "2")


def test_the_page_holds_its_types(tmp_path: Path) -> None:
    make_project(tmp_path)
    (tmp_path / "page.tsx").write_text(PAGE)
    run_package("tsc", *CHECKED, *MODERN, "--lib", "es2022,dom,dom.iterable", "page.tsx", cwd=tmp_path)


def test_the_agent_answers_with_a_model_of_the_package(talk: Talk, tmp_path: Path) -> None:
    project = tmp_path / "agent"
    make_project(project)
    (project / "model.mjs").write_text(MOCK)
    agent = 'import { model } from "./model.mjs";\n' + AGENT.replace('model: "openai/gpt-5"', "model")
    (project / "agent.mjs").write_text(agent.replace("http://127.0.0.1:8080", talk.server.url))
    messages = f"/rooms/{talk.room_id}/messages"
    for content in ("Hi", "Break"):
        talk.call("POST", messages, {"content": content, "mentions": ["assistant"]}, user="alice")
    process = subprocess.Popen(["node", "agent.mjs"], cwd=project, env={**os.environ, "CHATAPI_KEY": talk.key})
    try:
        while any(one.get("stream", {}).get("state") == "open" for one in talk.wait_for(4)):
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    hi, broken, *answers = talk.wait_for(4)
    shown = {one["reply_to"]: (one["content"], one["stream"]["state"]) for one in answers}
    assert shown == {hi["message_id"]: ("Hello", "done"), broken["message_id"]: ("", "failed")}
