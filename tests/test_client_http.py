"""The Python SDK's REST calls against answers, and silences, of our own making."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from chatapi.client import AdminAPI, ApiError, ChatAPI, NoAnswer, NotChatAPI
from chatapi.client import http as client_http
from chatapi.errors import Code

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Script:
    """Answers each request with the next answer, and keeps what was asked."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, str]] = []
        self.headers: list[Any] = []
        self.bodies: list[bytes] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.raw_path))
        self.headers.append(request.headers)
        self.bodies.append(await request.read())
        return await self.answers.pop(0)(request)

    def client(self, **options: Any) -> ChatAPI:
        return ChatAPI(self.url, **{"api_key": "sk_1", "user_id": "alice", **options})


@pytest.fixture
async def script(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Script]:
    monkeypatch.setattr(client_http, "RETRY_BASE_S", 0.001)
    script = Script()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", script.handle)
    async with TestServer(app) as server:
        script.url = str(server.make_url("")).rstrip("/")
        yield script


def says(data: Any, status: int = 200) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"success": True, "data": data, "error": None}, status=status)

    return answer


def refuses(status: int, code: str, headers: dict[str, str] | None = None, **fields: object) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        error = {"code": code, "message": "no", **fields}
        body = {"success": False, "data": None, "error": error}
        return web.json_response(body, status=status, headers=headers)

    return answer


def shows(status: int, text: str = "") -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text)

    return answer


async def breaks(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def test_an_error_carries_all_that_the_server_said(script: Script) -> None:
    script.answers = [
        refuses(409, "CONFLICT", {"X-Request-Id": "r1"}, field="members[1]", details={"room_id": "room_1"})
    ]
    async with script.client() as client:
        with pytest.raises(ApiError) as caught:
            await client.create_room("dm", ["bob"])
    error = caught.value
    assert (error.code, error.status, error.field) == (Code.CONFLICT, 409, "members[1]")
    assert (error.details, error.request_id) == ({"room_id": "room_1"}, "r1")
    assert str(error) == "CONFLICT: no (members[1])"


async def test_a_code_that_is_not_known_yet_is_the_nearest_one(script: Script) -> None:
    script.answers = [refuses(418, "TEAPOT"), refuses(404, "LOST")]
    async with script.client(retries=0) as client:
        for status, code in ((418, Code.INTERNAL_ERROR), (404, Code.NOT_FOUND)):
            with pytest.raises(ApiError) as caught:
                await client.list_rooms()
            assert (caught.value.status, caught.value.code) == (status, code)


async def test_repeatable_call_is_tried_again(script: Script) -> None:
    script.answers = [breaks, shows(503), says({"rooms": [], "has_more": False})]
    async with script.client() as client:
        assert await client.list_rooms() == {"rooms": [], "has_more": False}
    assert len(script.requests) == 3


async def test_a_message_is_repeated_with_its_id(script: Script) -> None:
    script.answers = [breaks, says({"message_id": "msg_1"}, 201)]
    async with script.client() as client:
        assert (await client.send_message("room_1", "hello"))["message_id"] == "msg_1"
    assert script.bodies[0] == script.bodies[1]
    assert b"client_message_id" in script.bodies[0]


async def test_call_that_must_not_be_repeated_is_not_tried_again(script: Script) -> None:
    script.answers = [breaks, shows(503), shows(429), refuses(503, "INTERNAL_ERROR")]
    async with script.client() as client:
        for expected in (NoAnswer, NotChatAPI, NotChatAPI, ApiError):
            with pytest.raises(expected):
                await client.notify("news", 1, {"user_ids": ["bob"]})


async def test_the_tries_are_bounded(script: Script) -> None:
    script.answers = [breaks] * 3
    async with script.client(retries=2) as client:
        with pytest.raises(NoAnswer):
            await client.list_rooms()
    assert not script.answers


async def test_a_deletion_whose_answer_got_lost_has_worked(script: Script) -> None:
    script.answers = [breaks, refuses(404, "NOT_FOUND"), refuses(404, "NOT_FOUND")]
    async with script.client() as client:
        await client.delete_room("room_1")
        with pytest.raises(ApiError):
            await client.delete_room("room_1")


@pytest.mark.slow
async def test_retry_after_is_obeyed(script: Script) -> None:
    script.answers = [refuses(429, "RATE_LIMIT_EXCEEDED", {"Retry-After": "1"}), says({"rooms": []})]
    loop = asyncio.get_running_loop()
    async with script.client() as client:
        started_at_s = loop.time()
        await client.list_rooms()
        assert loop.time() - started_at_s >= 1.0


async def test_a_long_retry_after_is_for_the_application_to_decide(script: Script) -> None:
    script.answers = [refuses(429, "RATE_LIMIT_EXCEEDED", {"Retry-After": "3600"})]
    async with script.client() as client:
        with pytest.raises(ApiError) as caught:
            await client.list_rooms()
    assert caught.value.retry_after_s == 3600


async def test_a_proxys_retry_after_is_advice(script: Script) -> None:
    async def busy(request: web.Request) -> web.StreamResponse:
        return web.Response(status=503, headers={"Retry-After": "0" if len(script.requests) < 3 else "soon"})

    script.answers = [busy, busy, busy, says({"rooms": []})]
    async with script.client() as client:
        await client.list_rooms()


async def test_value_that_a_header_cannot_carry_is_refused_at_once() -> None:
    for options in ({"api_key": "sk\n1", "user_id": "a"}, {"api_key": "sk", "user_id": "a\r\nX: 1"}, {"token": "a b"}):
        with pytest.raises(ValueError, match="characters"):
            ChatAPI("http://127.0.0.1", **options)
    with pytest.raises(ValueError, match="characters"):
        ChatAPI("http://127.0.0.1", api_key="sk", user_id="a").as_user("b\n")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(script: Script, status: int) -> None:
    async def redirect(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": "/v1/rooms"})

    script.answers = [redirect, says({"rooms": [], "has_more": False})]
    async with script.client(retries=0) as client:
        with pytest.raises(NotChatAPI) as caught:
            await client.list_rooms()
    assert caught.value.http_status == status
    assert len(script.requests) == 1  # the credential went nowhere else


async def test_a_session_of_the_application_keeps_its_own_rules_to_itself(script: Script) -> None:
    script.answers = [refuses(404, "NOT_FOUND")]
    async with aiohttp.ClientSession(raise_for_status=True) as session, script.client(session=session) as client:
        with pytest.raises(ApiError):
            await client.get_room("room_1")


async def test_a_token_is_asked_for_once_and_renewed_once(script: Script) -> None:
    tokens = iter(["first", "second", "third"])
    script.answers = [
        says({"online": []}),
        says({"online": []}),
        refuses(401, "AUTHENTICATION_ERROR"),
        says({"online": []}),
        refuses(401, "AUTHENTICATION_ERROR"),
        refuses(401, "AUTHENTICATION_ERROR"),
    ]
    async with script.client(api_key=None, user_id=None, get_token=lambda: next(tokens)) as client:
        async with asyncio.TaskGroup() as calls:
            calls.create_task(client.get_presence("room_1"))
            calls.create_task(client.get_presence("room_1"))
        await client.get_presence("room_1")
        with pytest.raises(ApiError):
            await client.get_presence("room_1")
    used = [headers["Authorization"].removeprefix("Bearer ") for headers in script.headers]
    assert used == ["first", "first", "first", "second", "second", "third"]


async def test_the_parts_of_a_path_are_escaped(script: Script) -> None:
    script.answers = [shows(204), says({"members": [], "has_more": False})]
    async with script.client() as client:
        await client.remove_member("room_1", "a/b?c:d|e@f")
        await client.list_members("room_1", limit=5)
    assert script.requests == [
        ("DELETE", "/v1/rooms/room_1/members/a%2Fb%3Fc%3Ad%7Ce%40f"),
        ("GET", "/v1/rooms/room_1/members?limit=5"),
    ]


async def test_only_given_fields_are_changed(script: Script) -> None:
    script.answers = [
        says({"room_id": "r"}),
        says({"room_id": "r"}),
        says({"message_id": "m"}),
        says({"tenant_id": "t"}),
    ]
    async with script.client() as client:
        await client.update_room("room_1", name=None)
        await client.update_room("room_1", metadata={"a": 1})
        await client.edit_message("room_1", "msg_1", "new")
    async with AdminAPI(script.url, "mk") as admin:
        await admin.update_tenant("tenant_1", config={"rate_limit": None})
    assert script.bodies == [
        b'{"name":null}',
        b'{"metadata":{"a":1}}',
        b'{"content":"new"}',
        b'{"config":{"rate_limit":null}}',
    ]


async def test_silence_has_an_end(script: Script) -> None:
    async def sleep(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    script.answers = [sleep]
    async with script.client(timeout_s=0.05, retries=0) as client:
        with pytest.raises(NoAnswer, match="TimeoutError"):
            await client.list_rooms()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"api_key": "sk_1"},
        {"user_id": "alice"},
        {"api_key": "sk_1", "user_id": "alice", "token": "t"},
        {"token": "t", "get_token": lambda: "t"},
    ],
)
def test_credentials_are_of_one_kind(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give api_key and user_id"):
        ChatAPI("http://127.0.0.1", **options)


def test_the_address_and_the_acting_user_are_checked() -> None:
    with pytest.raises(ValueError, match="http://"):
        ChatAPI("127.0.0.1:8080", token="t")
    with pytest.raises(ValueError, match="API key"):
        ChatAPI("http://127.0.0.1", token="t").as_user("bob")
    with pytest.raises(ValueError, match="max_pending"):
        ChatAPI("http://127.0.0.1", token="t").connect(max_pending=0)


async def test_an_answer_that_never_ends_is_not_the_servers(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_http, "MAX_ANSWER_BYTES", 100_000)

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 4096)

    script.answers = [answer, answer]
    async with script.client(retries=0) as client:
        for ask in (client.list_rooms, client.openapi):
            with pytest.raises(NotChatAPI, match="an answer of more than 100000 bytes"):
                await ask()
