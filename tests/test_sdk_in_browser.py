"""What a page in Chromium learns of a handshake that is refused, of which a browser shows it nothing."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Browser
from server_process import ServerProcess

pytestmark = pytest.mark.browser

CONNECT = """
async ([url, token]) => {
  const { ChatAPI } = await import(`${url}/sdk/chatapi.js`);
  const connection = new ChatAPI({ url, token }).connect({ minDelayMs: 10, maxDelayMs: 50 });
  const told = [];
  connection.on("error", (error) => { told.push(error.code); });
  const [state, error] = await new Promise((resolve) => {
    connection.on("state", ({ state, error }) => { if (error?.status || state === "live") resolve([state, error]); });
  });
  connection.close();
  return [state, error?.code, error?.status, told];
}
"""


class Pages:
    """An empty page for any path, of the origins `known` and `foreign`."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.known = f"http://127.0.0.1:{self._listener.server_port}"
        self.foreign = f"http://localhost:{self._listener.server_port}"

    def __enter__(self) -> "Pages":
        self._thread = Thread(target=self._listener.serve_forever, name="pages", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()


@pytest.fixture
def pages() -> Iterator[Pages]:
    with Pages() as pages:
        yield pages


@pytest.fixture
def server(pages: Pages, tmp_path: Path) -> Iterator[ServerProcess]:
    settings = {"server.allowed_origins": f'["{pages.known}"]', "limits.connections_per_user": "1"}
    with ServerProcess(tmp_path, settings, dev=False) as server:
        yield server


def test_a_page_learns_why_its_handshake_is_refused(browser: Browser, pages: Pages, server: ServerProcess) -> None:
    key = server.create_tenant("pages")
    token = server.call("POST", "/tokens", {"user_id": "alice"}, key=key, user="backend")["token"]

    def connect(origin: str) -> Any:
        page = browser.new_page()
        page.goto(origin)
        return page, page.evaluate(CONNECT, [server.url, token])

    page, outcome = connect(pages.foreign)
    assert outcome == ["closed", "AUTHORIZATION_ERROR", 403, ["AUTHORIZATION_ERROR"]]
    page.close()
    page, outcome = connect(pages.known)
    assert outcome == ["live", None, None, []]
    page.evaluate(CONNECT.replace("connection.close();", ""), [server.url, token])  # this one stays
    other, outcome = connect(pages.known)
    assert outcome == ["waiting", "RATE_LIMIT_EXCEEDED", 429, ["RATE_LIMIT_EXCEEDED"]]
    for opened in (page, other):
        opened.close()
