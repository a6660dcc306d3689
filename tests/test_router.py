"""The router's memory of matches: that it is bounded, and changes nothing about which route a request finds."""

import asyncio

from aiohttp import web
from driver import Server, eventually
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from chatapi.rest.router import KEPT_MATCHES, KEPT_PATH_CHARACTERS, Router


async def read(*_: object) -> None: ...


async def delete(*_: object) -> None: ...


class Request:
    """As much of one as the router reads."""

    def __init__(self, method: str, path: str) -> None:
        self.method = method
        self.rel_url = URL(path, encoded=True)
        self.headers = CIMultiDictProxy(CIMultiDict[str]())


async def find(router: Router, method: str, path: str) -> tuple[str, dict[str, str], object]:
    """The route that the router finds, which is the one that it has kept, if any."""
    request: web.BaseRequest = Request(method, path)  # type: ignore[assignment]
    before, found, after = router.find_kept(request), await router.find(request), router.find_kept(request)
    assert before in (found, None)
    assert after in (found, None)
    return found.path, dict(found.values), found.handler


def list_kept(router: Router, paths: list[str]) -> list[str]:
    return [path for path in paths if router.find_kept(Request("GET", path)) is not None]  # type: ignore[arg-type]


async def test_a_match_is_kept_by_its_method_and_its_whole_path() -> None:
    router = Router()
    router.add("GET", "/rooms/{room_id}", read)
    router.add("DELETE", "/rooms/{room_id}", delete)
    router.add("GET", "/rooms/{room_id}/messages/{message_id}", read)
    router.add("POST", "/rooms/{room_id}/messages/stream", delete)
    for _ in range(2):
        assert await find(router, "GET", "/rooms/a") == ("/rooms/{room_id}", {"room_id": "a"}, read)
        assert await find(router, "HEAD", "/rooms/a") == ("/rooms/{room_id}", {"room_id": "a"}, read)
        assert await find(router, "DELETE", "/rooms/a") == ("/rooms/{room_id}", {"room_id": "a"}, delete)
        assert await find(router, "GET", "/rooms/%61%2Fb") == ("/rooms/{room_id}", {"room_id": "a/b"}, read)
        assert (await find(router, "POST", "/rooms/a/messages/stream"))[2] is delete
        assert await find(router, "GET", "/rooms/a/messages/m?after_seq=5") == (
            "/rooms/{room_id}/messages/{message_id}",
            {"room_id": "a", "message_id": "m"},
            read,
        )


async def test_memory_of_matches_is_bounded() -> None:
    router = Router()
    router.add("GET", "/rooms/{room_id}", read)
    longest = "/rooms/" + "x" * (KEPT_PATH_CHARACTERS - len("/rooms/"))
    numbered = [f"/rooms/{number}" for number in range(KEPT_MATCHES + 1)]
    for path in ["/rooms/first", longest, longest + "x", *numbered[:-2]]:
        await find(router, "GET", path)
    # One is too long, and the first one has made room.
    assert list_kept(router, ["/rooms/first", longest, longest + "x", *numbered]) == [longest, *numbered[:-2]]
    await find(router, "GET", numbered[-1])
    assert list_kept(router, [longest, *numbered]) == [*numbered[:-2], numbered[-1]]


async def test_a_request_is_served_in_the_task_of_its_connection(server: Server) -> None:
    """A task for each would be 1 KB more for every poll that waits, and two turns of the loop for every request."""
    before = asyncio.all_tasks()
    _reader, writer = await server.open()
    head = f"POST /rooms HTTP/1.1\r\nHost: a\r\nX-API-Key: {server.api_key}\r\nX-User-Id: a\r\nContent-Length: 9\r\n"
    writer.write(f"{head}Content-Type: application/json\r\n\r\n{{".encode())
    await eventually(lambda: server.app.server.connections)
    [connection] = server.app.server.connections
    await eventually(lambda: connection.is_serving() and connection.is_waited_for())  # for the rest of its body
    assert asyncio.all_tasks() - before == {connection._task_handler}
    writer.write(b'"a": 1}\n')
    await eventually(lambda: not connection.is_serving())
    assert len(asyncio.all_tasks() - before) == 1  # also while it waits for the next one


async def test_requests_that_come_together_on_one_connection_let_others_have_their_turn(server: Server) -> None:
    count = 300
    noted: list[str] = []
    handle = server.app.server.request_handler

    async def note(request: web.BaseRequest) -> web.StreamResponse:
        noted.append(request.path)
        return await handle(request)

    _reader, eager = await server.open()
    reader, other = await server.open()
    await eventually(lambda: len(server.app.server.connections) == 2)
    for connection in server.app.server.connections:
        connection._request_handler = note
    eager.write(b"GET /eager HTTP/1.1\r\nHost: a\r\n\r\n" * count)
    other.write(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 404")
    await eventually(lambda: len(noted) == count + 1)
    assert noted.index("/other") < count // 2
