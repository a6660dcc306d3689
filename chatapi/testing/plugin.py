"""The fixtures. pytest finds them by the entry point `chatapi`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chatapi.testing.server import Server


@pytest.fixture(scope="session")
def chatapi_settings() -> dict[str, object]:
    """Settings of the server, as in chatapi.toml: `{"limits.rate_limit": 5}`. Override it in your conftest.py."""
    return {}


@pytest.fixture(scope="session")
def chatapi_server(chatapi_settings: dict[str, object]) -> Iterator[Server]:
    """The process behind `chatapi`, one for each worker of pytest-xdist. It keeps what was done from test to test."""
    from chatapi.testing.server import Server

    server = Server(chatapi_settings)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def chatapi(chatapi_server: Server) -> Iterator[Server]:
    """A ChatAPI server of this test's own: real, empty, with one tenant. See docs/testing.md."""
    chatapi_server.reset()
    yield chatapi_server
    chatapi_server.hang_up()
