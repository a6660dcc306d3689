"""Every route has its method in the Python SDK, every method its documentation; tests/js/routes.test.mjs is the same
for JavaScript."""

import inspect
import re
import types
import typing
from collections.abc import AsyncIterator, Mapping
from io import BytesIO
from typing import Any, BinaryIO, NamedTuple

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from driver import Server
from scripted_server import refusal

from chatapi.client import AdminAPI, ApiError, ChatAPI, Connection
from chatapi.client.http import RestClient

ANY_ROUTE = {"call", "read_text", "close"}
METHODS = ("get", "post", "put", "patch", "delete")

Route = tuple[str, str]
"""Method and path, as the document has them."""


class Call(NamedTuple):
    method: str
    path: str
    query: frozenset[str]


class Recorder:
    """Answers every request with a refusal, and keeps what was asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Call] = []

    async def serve(self, request: web.Request) -> web.Response:
        self.asked.append(Call(request.method.lower(), request.path.removeprefix("/v1"), frozenset(request.query)))
        return refusal(404, "NOT_FOUND")


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    recorder = Recorder()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", recorder.serve)
    async with TestServer(app) as server:
        recorder.url = str(server.make_url("")).rstrip("/")
        yield recorder


def public(kind: type) -> dict[str, Any]:
    return {name: value for name, value in inspect.getmembers(kind) if not name.startswith("_")}


def make_arguments(method: Any) -> dict[str, Any]:
    """Of each parameter something of its type."""
    hints = typing.get_type_hints(method)
    return {name: make_value(hints[name]) for name in inspect.signature(method).parameters}


def make_value(hint: Any) -> Any:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return make_value(typing.get_args(hint)[0])
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)[0]
    if typing.get_origin(hint) is Mapping:
        return {"x": 1}
    if hint is BinaryIO:
        return BytesIO(b"x")
    return {str: "x", int: 1}.get(hint, {})


async def find_call(recorder: Recorder, client: RestClient, name: str) -> Call:
    """The one request that a method makes."""
    recorder.asked.clear()
    method = getattr(client, name)
    with pytest.raises(ApiError):
        await method(**make_arguments(method))
    [call] = recorder.asked
    return call


def find_route(paths: Mapping[str, Any], call: Call) -> Route:
    """A path without a parameter comes first."""
    for path in sorted(paths, key=lambda path: path.count("{")):
        pattern = re.sub(r"\\\{.*?\\\}", "[^/]+", re.escape(path))
        if re.fullmatch(pattern, call.path) and call.method in paths[path]:
            return call.method, path
    raise AssertionError(f"no route is {call}")


async def test_every_route_has_its_method(server: Server, recorder: Recorder) -> None:
    async with ChatAPI(server.url, api_key=server.api_key, user_id="alice") as client:
        paths = (await client.openapi())["paths"]
    routes = {(method, path) for path, entry in paths.items() for method in METHODS if method in entry}
    # Pipes are for programs without a library: with one, `stream` does the same and survives a lost connection.
    routes = {(method, path) for method, path in routes if not path.endswith("/messages/stream")}
    found: dict[Route, set[str]] = {}
    clients = (ChatAPI(recorder.url, api_key="k", user_id="u"), AdminAPI(recorder.url, "m"))
    for client in clients:
        async with client:
            for name, method in public(type(client)).items():
                if inspect.iscoroutinefunction(method) and name not in ANY_ROUTE:
                    call = await find_call(recorder, client, name)
                    found.setdefault(find_route(paths, call), set()).update(call.query)
    assert set(found) == routes - {("get", "/events/stream")}  # which is a connection, as `/ws` is
    for (method, path), query in found.items():
        parameters = paths[path][method].get("parameters", [])
        assert query == {one["name"] for one in parameters if one.get("in") == "query"}, (method, path)


@pytest.mark.parametrize("kind", [ChatAPI, AdminAPI, Connection])
def test_every_method_has_a_docstring(kind: type) -> None:
    silent = [name for name, value in public(kind).items() if not inspect.getdoc(value)]
    assert not silent
    for name, value in public(kind).items():
        bounded = inspect.isfunction(value) and "limit" in inspect.signature(value).parameters
        assert not bounded or re.search(r"`limit`: 1 to", inspect.getdoc(value) or ""), name
