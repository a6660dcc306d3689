"""The OpenAPI document against the route table, the specification, the server's own answers and other tools."""

import dataclasses
import json
import re
from typing import Any

import msgspec
import pytest
from conftest import StartServer
from driver import Reply, Server
from receiver import Receiver

from chatapi.config import TenantSettings
from chatapi.errors import HTTP_STATUS, Code
from chatapi.models import WebhookEvent
from chatapi.protocol.requests import Body
from chatapi.protocol.webhook_calls import EVENT_CALLS, WEBHOOK_CALLS
from chatapi.rest import ROUTES, documents
from chatapi.rest.call import OF_USERS, Call, Credential, OpenCall, Response, Route
from chatapi.rest.documents import MAX_COMPRESSED
from chatapi.rest.documents.openapi import ERRORS, HEADERS, build_openapi, list_successes
from chatapi.rest.documents.schemas import Schemas, get_type

DOCUMENT = build_openapi(ROUTES, "http://localhost:8080")
OPERATIONS = {
    (method.upper(), path): operation for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
}


def name_route(route: Route) -> str:
    return f"{route.method} {route.path}"


def resolve(part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        found: Any = DOCUMENT
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


@pytest.mark.slow
def test_it_is_valid() -> None:
    from openapi_spec_validator import validate  # which takes 0.4 s, in each process that collects the tests

    validate(DOCUMENT)


def test_every_route_is_in_it_and_back() -> None:
    assert set(OPERATIONS) == {(route.method, route.path) for route in ROUTES}
    assert len(ROUTES) == len(OPERATIONS)


def test_everything_in_its_components_is_used() -> None:
    text = msgspec.json.encode(DOCUMENT).decode()
    for kind, parts in DOCUMENT["components"].items():
        if kind != "securitySchemes":
            unused = [name for name in parts if f'"#/components/{kind}/{name}"' not in text]
            assert not unused, kind


def test_every_error_code_is_documented() -> None:
    codes = {code for code, _, _ in ERRORS.values()}
    assert codes == set(Code)
    for code, status in HTTP_STATUS.items():
        assert ERRORS[status][0] is code
    used = {status for operation in OPERATIONS.values() for status in operation["responses"]}
    assert {str(status) for status in ERRORS} <= used


def test_reads_too_may_be_refused_for_a_while() -> None:
    # Reads too: while the tenant is being moved, when too many of them wait, and at a stop.
    of_callers = [operation for operation in OPERATIONS.values() if operation["security"]]
    assert not [operation["operationId"] for operation in of_callers if "503" not in operation["responses"]]
    assert "Retry-After" in DOCUMENT["components"]["responses"]["Error503"]["headers"]


@pytest.mark.parametrize("path", ["/acks", "/sync"])
async def test_errors_of_rooms_have_the_names_that_were_asked_for(shared_server: Server, path: str) -> None:
    asked = {"": 1, "x" * 201: 1}
    reply = await shared_server.user("alice").post(path, {"rooms": asked})
    [route] = [route for route in ROUTES if (route.method, route.path) == ("POST", path)]
    assert msgspec.convert(reply.data, route.answer).errors.keys() == asked.keys()


async def test_the_redirect_of_a_browser_is_documented(shared_server: Server) -> None:
    reply = await shared_server.request("GET", "/", headers={"Accept": "text/html"}, allow_redirects=False)
    documented = OPERATIONS["GET", "/"]["responses"][str(reply.status)]
    assert reply.status == 302
    assert {name for name in HEADERS if name in reply.headers} == set(documented["headers"])


def test_a_handler_that_wants_a_user_is_refused_for_a_route_without_one() -> None:
    async def get(call: Call[None, None]) -> Response[None]:
        raise NotImplementedError

    async def get_openly(call: OpenCall[None, None]) -> Response[None]:
        raise NotImplementedError

    for handler, credential in ((get, Credential.NONE), (get, Credential.MASTER), (get_openly, Credential.USER)):
        with pytest.raises(TypeError, match="credential of GET /x do not fit"):
            Route("GET", "/x", handler, 200, credential)


@pytest.mark.parametrize("route", ROUTES, ids=name_route)
def test_each_route_states_its_body_and_query(route: Route) -> None:
    operation = OPERATIONS[route.method, route.path]
    assert operation["summary"] != route.path
    parameters = [resolve(parameter) for parameter in operation.get("parameters", [])]
    in_path = [parameter["name"] for parameter in parameters if parameter["in"] == "path"]
    assert in_path == re.findall(r"{(\w+)}", route.path)
    in_query = {parameter["name"] for parameter in parameters if parameter["in"] == "query"}
    assert in_query == set(route.query.__struct_fields__ if route.query else ())
    assert ("requestBody" in operation) is (route.body is not None or route.reads_text or route.takes is not None)


@pytest.mark.parametrize("route", [route for route in ROUTES if route.body], ids=name_route)
def test_each_example_of_a_body_is_taken(route: Route) -> None:
    assert route.body is not None
    content = OPERATIONS[route.method, route.path]["requestBody"]["content"]["application/json"]
    assert content["example"]
    body: Body = msgspec.convert(content["example"], route.body)
    body.check()


@pytest.mark.parametrize("route", [route for route in ROUTES if route.answer], ids=name_route)
def test_each_example_of_an_answer_is_one(route: Route) -> None:
    for status in list_successes(route):
        answer = OPERATIONS[route.method, route.path]["responses"][str(status)]
        data = answer["content"]["application/json"]["example"]["data"]
        assert msgspec.to_builtins(msgspec.convert(data, route.answer)) == data


def test_bounds_are_stated() -> None:
    limit = next(p for p in OPERATIONS["GET", "/rooms"]["parameters"] if p.get("name") == "limit")
    assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 100, "default": 50}
    name = DOCUMENT["components"]["schemas"]["CreateRoom"]["properties"]["name"]["anyOf"][0]
    assert (name["minLength"], name["maxLength"]) == (1, 200)


def test_a_field_must_have_an_example() -> None:
    class Bare(msgspec.Struct):
        name: str

    schemas = Schemas([Bare])
    with pytest.raises(ValueError, match="no example"):
        schemas.example_of(schemas.get(Bare))


def test_a_tenants_settings_are_stated() -> None:
    schema = DOCUMENT["components"]["schemas"]["TenantConfig"]
    assert set(schema["properties"]) == {field.name for field in dataclasses.fields(TenantSettings)}
    assert schema["additionalProperties"] is False
    own = schema["properties"]["connections_per_user"]["anyOf"][0]
    assert (own["type"], own["minimum"], own["maximum"]) == ("integer", 1, 100_000)


def test_servers_are_where_clients_reach_it() -> None:
    assert [server["url"] for server in DOCUMENT["servers"]] == ["http://localhost:8080", "http://localhost:8080/v1"]
    behind_proxy = build_openapi(ROUTES, "https://chat.example.com/")
    urls = [server["url"] for server in behind_proxy["servers"]]
    assert urls == ["https://chat.example.com", "https://chat.example.com/v1"]


async def test_it_is_served_the_same_under_both_prefixes(server: Server) -> None:
    plain, prefixed = await server.request("GET", "/openapi.json"), await server.request("GET", "/v1/openapi.json")
    assert plain.status == 200
    assert plain.body == prefixed.body == msgspec.to_builtins(build_openapi(ROUTES, server.url))
    assert plain.headers["Content-Type"].startswith("application/json")
    assert "X-Request-Id" in plain.headers
    assert "X-RateLimit-Limit" not in plain.headers


async def test_webhooks_are_called_as_documented(start_server: StartServer, receiver: Receiver) -> None:
    server = await start_server({"webhooks.allow_private_addresses": True})
    events = ["message.created", "message.reported", "room.created"]
    hooked = await server.make_tenant("hooked", webhook_url=receiver.url, webhook_events=events)
    alice = server.user("alice", hooked["api_key"])
    room_id = await alice.make_room("bob", metadata={"a": 1})
    message = await alice.say(room_id)
    await alice.post(f"/rooms/{room_id}/messages/{message['message_id']}/report", {"reason": "rude"})
    await alice.post("/notify", {"topic": "t", "payload": [1], "targets": {"user_ids": ["bob"]}})
    assert {get_type(record) for record in EVENT_CALLS} == set(WebhookEvent)
    for call in await receiver.wait_for(5):
        body = json.loads(call.body)
        documented = DOCUMENT["webhooks"][body["type"]]["post"]
        [record] = [record for record in WEBHOOK_CALLS if get_type(record) == body["type"]]
        assert msgspec.to_builtins(msgspec.convert(body, record)) == body
        assert all(parameter["name"] in call.headers for parameter in documented["parameters"])


@pytest.mark.parametrize(
    ("settings", "headers", "url"),
    [
        ({}, {"Host": "chat.example.com"}, "http://chat.example.com"),
        ({}, {"Host": "[2001:DB8::1]:8080"}, "http://[2001:db8::1]:8080"),
        ({}, {"Host": "chat.example.com", "X-Forwarded-Proto": "https"}, "http://chat.example.com"),
        ({}, {"Host": 'a"b'}, "http://localhost:"),
        (
            {"server.trusted_proxies": ["127.0.0.1"]},
            {"Host": "chat.example.com:443", "X-Forwarded-Proto": "HTTPS"},
            "https://chat.example.com",
        ),
        ({"server.public_url": "https://a.example/base/"}, {"Host": "upstream"}, "https://a.example/base"),
    ],
)
async def test_the_documents_name_the_address_that_the_client_used(
    start_server: StartServer, settings: dict[str, object], headers: dict[str, str], url: str
) -> None:
    server = await start_server(settings)
    reply = await server.request("GET", "/openapi.json", headers=headers)
    served = reply.body["servers"][0]["url"]
    assert served.startswith(url) if url.endswith(":") else served == url
    chat = (await server.request("GET", "/asyncapi.json", headers=headers)).body["servers"]["chat"]
    assert f"{chat['protocol']}://{chat['host']}{chat.get('pathname', '')}" == served.replace("http", "ws", 1)


async def test_made_up_hosts_do_not_pile_up(server: Server) -> None:
    for number in range(MAX_COMPRESSED + 4):
        headers = {"Host": f"made-up-{number}.example", "Accept-Encoding": "gzip"}
        reply = await server.request("GET", "/openapi.json", headers=headers)
        assert reply.body["servers"][0]["url"] == f"http://made-up-{number}.example"
    document = documents._make_openapi(ROUTES, f"http://{documents.ANY_HOST}")
    assert len(document._compressed) == MAX_COMPRESSED


def test_a_backends_user_is_a_header_beside_the_credential() -> None:
    for route in ROUTES:
        parameters = [resolve(part) for part in OPERATIONS[route.method, route.path].get("parameters", [])]
        users = [part for part in parameters if part["name"] == "X-User-Id"]
        needs_user = route.credential in OF_USERS
        assert [part["example"] for part in users] == (["alice"] if needs_user else [])


def test_no_body_has_a_default_and_no_query_takes_null() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert not [part for part in schema.get("properties", {}).values() if "default" in part], name
    for operation in OPERATIONS.values():
        for part in map(resolve, operation.get("parameters", [])):
            assert "null" not in json.dumps(part["schema"])
    assert DOCUMENT["components"]["schemas"]["AddMember"]["properties"]["role"]["description"] == 'default: "member"'


class Recorder:
    """Calls routes, and compares each answer with the document, field by field."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.seen: set[tuple[str, str]] = set()

    async def call(
        self,
        method: str,
        path: str,
        expected: int,
        body: object = None,
        *,
        user: str | None = "alice",
        query: str = "",
        media: str = "application/json",
        **names: str,
    ) -> Any:
        """`names` fill the path; `user` None calls as the operator."""
        route = next(route for route in ROUTES if (route.method, route.path) == (method, path))
        self.seen.add((method, path))
        filled = path.format(**names) + query
        headers = {"X-API-Key": self._server.api_key, "X-User-Id": user} if user else {}
        headers["Content-Type"] = media
        if user is None:
            headers["X-Master-Key"] = self._server.master_key
        reply = await self._server.request(method, filled, body, headers=headers)
        assert reply.status == expected, reply
        self._compare(route, reply)
        return reply.data if route.answer is not None and reply.status < 400 else None

    def _compare(self, route: Route, reply: Reply) -> None:
        answer = resolve(OPERATIONS[route.method, route.path]["responses"][str(reply.status)])
        documented = set(answer["headers"])
        assert {name for name in HEADERS if name in reply.headers} <= documented
        if reply.status >= 400:
            assert resolve(answer)["content"]["application/json"]["example"]["error"]["code"] == reply.error["code"]
            assert set(reply.error) <= {"code", "message", "field", "details"}
            return
        assert not [name for name in documented if name not in reply.headers]
        if route.answer is None:
            assert route.media is not None or reply.body is None
            return
        # Through the record and back: a field that it does not know would be lost, one that it lacks is an error.
        record = msgspec.convert(reply.data, route.answer)
        assert msgspec.to_builtins(record) == reply.data


async def check_moderation(recorder: Recorder, one: dict[str, str]) -> None:
    call, room_id = recorder.call, one["room_id"]
    members, bans = "/rooms/{room_id}/members", "/rooms/{room_id}/bans"
    await call("PATCH", f"{members}/{{user_id}}", 200, {"muted_for": 60}, room_id=room_id, user_id="bob")
    await call("GET", members, 200, room_id=room_id)
    await call("PUT", f"{bans}/{{user_id}}", 200, {"reason": "x"}, room_id=room_id, user_id="carol")
    await call("PUT", f"{bans}/{{user_id}}", 409, {}, room_id=room_id, user_id="alice")
    await call("GET", bans, 200, room_id=room_id)
    await call("DELETE", f"{bans}/{{user_id}}", 204, room_id=room_id, user_id="carol")
    made = await call("POST", "/rooms/{room_id}/messages/{message_id}/report", 202, {"reason": "rude"}, **one)
    await call("GET", "/reports", 200)
    await call("POST", "/reports/{report_id}/resolve", 200, report_id=made["report_id"])


async def test_every_route_answers_as_documented(server: Server) -> None:
    recorder = Recorder(server)
    call = recorder.call
    room_id = (
        await call("POST", "/rooms", 201, {"type": "group", "name": "x", "metadata": {"a": 1}, "members": ["bob"]})
    )["room_id"]
    dm = {"type": "dm", "members": ["bob"]}
    await call("POST", "/rooms", 201, dm)
    await call("POST", "/rooms", 409, dm)
    await call("POST", "/rooms", 400, {"type": "attic"})
    await call("POST", "/rooms", 201, {"type": "channel"})
    await call("GET", "/channels", 200)
    await call("GET", "/rooms/{room_id}", 200, room_id=room_id)
    await call("GET", "/rooms/{room_id}", 404, room_id="room_0")
    await call("GET", "/rooms/{room_id}", 403, room_id=room_id, user="eve")
    await call("PATCH", "/rooms/{room_id}", 200, {"name": "y"}, room_id=room_id)
    messages = "/rooms/{room_id}/messages"
    draft = {"content": "hi", "meta": {"k": [1]}, "client_message_id": "c-1"}
    message = await call("POST", messages, 201, draft, room_id=room_id)
    await call("POST", messages, 200, draft, room_id=room_id)
    for method in ("POST", "PUT"):
        await call(method, f"{messages}/stream", 201, b"hi", media="text/plain", room_id=room_id)
        await call(method, f"{messages}/stream", 415, {}, room_id=room_id)
    await call("POST", messages, 409, {**draft, "content": "other"}, room_id=room_id)
    one = {"room_id": room_id, "message_id": message["message_id"]}
    await call("GET", "/rooms", 200)
    await call("PATCH", "/rooms/{room_id}/me", 200, {"notify": "mentions"}, room_id=room_id)
    await call("POST", messages, 201, {"content": "x", "mentions": ["alice"], "mention_room": True}, room_id=room_id)
    await call("GET", "/mentions", 200)
    await server.services.indexer.update()
    assert (await call("GET", "/search", 200, query="?q=x"))["results"]
    await call("GET", "/search", 400, query="?q=%22")
    await call("GET", f"{messages}/{{message_id}}", 200, **one)
    await call("PUT", f"{messages}/{{message_id}}", 200, {"content": "ho"}, **one)
    await check_streams(recorder, room_id)
    await check_reactions_and_pins(recorder, one)
    await check_moderation(recorder, one)
    await call("DELETE", f"{messages}/{{message_id}}", 204, **one)
    await call("GET", messages, 200, room_id=room_id)
    members = "/rooms/{room_id}/members"
    await call("POST", members, 201, {"user_id": "carol"}, room_id=room_id)
    await call("POST", members, 409, {"user_id": "carol"}, room_id=room_id)
    await call("PATCH", f"{members}/{{user_id}}", 200, {"role": "admin"}, room_id=room_id, user_id="carol")
    await call("DELETE", f"{members}/{{user_id}}", 204, room_id=room_id, user_id="carol")
    user = "/users/{user_id}"
    await call("GET", user, 404, user_id="bob")
    await call("PUT", user, 200, {"name": "Bob", "avatar_url": "https://a/b", "metadata": {"a": 1}}, user_id="bob")
    await call("GET", user, 200, user_id="bob")
    await call("GET", "/users", 200, query="?ids=bob")
    await call("PUT", "/blocks/{user_id}", 200, user_id="eve")
    await call("GET", "/blocks", 200)
    await call("DELETE", "/blocks/{user_id}", 204, user_id="eve")
    await call("GET", f"{user}/ban", 404, user_id="eve")
    await call("PUT", f"{user}/ban", 200, {"reason": "spam", "expires_in": 60}, user_id="eve")
    await call("GET", f"{user}/ban", 200, user_id="eve")
    await call("DELETE", f"{user}/ban", 204, user_id="eve")
    await call("GET", f"{user}/export", 200, user_id="bob")
    await call("DELETE", user, 200, user_id="nobody")
    await call("GET", "/users", 200, query="?q=b")
    await call("GET", members, 200, room_id=room_id)
    await call("GET", "/rooms/{room_id}/events", 200, room_id=room_id)
    await call("POST", "/rooms/{room_id}/read", 200, {"seq": 2}, room_id=room_id)
    await call("POST", "/acks", 200, {"room_id": room_id, "seq": 3})
    await call("POST", "/acks", 200, {"rooms": {room_id: 3, "room_0": 1}})
    await call("GET", "/rooms/{room_id}/receipts", 200, room_id=room_id)
    await call("GET", "/rooms/{room_id}/presence", 200, room_id=room_id)
    note = {"topic": "t", "payload": [1], "targets": {"user_ids": ["alice", "bob"]}}
    notification_id = (await call("POST", "/notify", 202, note))["notification_id"]
    await call("GET", "/notifications", 200)
    await call("POST", "/notifications/{notification_id}/ack", 200, notification_id=notification_id)
    await call("GET", "/notifications", 200)
    topic = await call("POST", "/subscriptions", 201, {"topic": "t"})
    await call("POST", "/subscriptions", 200, {"topic": "t"})
    await call("GET", "/subscriptions", 200)
    await call("DELETE", "/subscriptions/{subscription_id}", 204, subscription_id=topic["subscription_id"])
    await call("POST", "/tokens", 201, {"user_id": "bob"})
    await call("POST", "/ws/token", 200)
    await call("GET", "/events/stream", 400, query="?cursors=*")
    synced = await call("POST", "/sync", 200, {"rooms": {room_id: 0, "room_0": 0}})
    assert [name for name in ("events", "errors") if not synced[name]] == []
    for path in ("/", "/livez", "/readyz", "/health", "/metrics", "/openapi.json", "/asyncapi.json"):
        await call("GET", path, 200)
    await call("DELETE", "/rooms/{room_id}", 204, room_id=room_id)
    await check_operators_routes(server, recorder)
    assert recorder.seen == set(OPERATIONS)


async def check_streams(recorder: Recorder, room_id: str) -> None:
    draft = {"stream": True, "meta": {"model": "small"}}
    opened = await recorder.call("POST", "/rooms/{room_id}/messages", 201, draft, room_id=room_id)
    one = {"room_id": room_id, "message_id": opened["message_id"]}
    message = "/rooms/{room_id}/messages/{message_id}"
    await recorder.call("POST", f"{message}/append", 200, {"index": 1, "text": "Once"}, **one)
    await recorder.call("POST", f"{message}/append", 409, {"index": 1, "text": "Twice"}, **one)
    await recorder.call("GET", message, 200, **one)
    await recorder.call("POST", f"{message}/cancel", 202, **one)
    await recorder.call("POST", f"{message}/append", 200, {"index": 2, "text": " upon a time"}, **one)
    await recorder.call("PUT", message, 409, {"content": "too early"}, **one)
    await recorder.call("POST", f"{message}/finish", 200, {"state": "cancelled", "index": 2, "meta": None}, **one)
    await recorder.call("POST", f"{message}/finish", 409, {"state": "done"}, **one)
    await recorder.call("POST", f"{message}/cancel", 409, **one)


async def check_reactions_and_pins(recorder: Recorder, one: dict[str, str]) -> None:
    message = "/rooms/{room_id}/messages/{message_id}"
    reaction = {**one, "emoji": "%F0%9F%91%8D"}
    await recorder.call("PUT", f"{message}/reactions/{{emoji}}", 200, **reaction)
    await recorder.call("GET", f"{message}/reactions", 200, **one)
    await recorder.call("PUT", "/rooms/{room_id}/pins/{message_id}", 200, **one)
    await recorder.call("GET", message, 200, **one)
    await recorder.call("GET", "/rooms/{room_id}/pins", 200, room_id=one["room_id"])
    await recorder.call("DELETE", "/rooms/{room_id}/pins/{message_id}", 204, **one)
    await recorder.call("DELETE", f"{message}/reactions/{{emoji}}", 204, **reaction)


async def check_operators_routes(server: Server, recorder: Recorder) -> None:
    async def call(method: str, path: str, expected: int, body: object = None, **names: str) -> Any:
        return await recorder.call(method, f"/admin{path}", expected, body, user=None, **names)

    with_webhook = {"webhook_url": "https://example.com/hook"}
    made = await call("POST", "/tenants", 201, {"name": "other"})
    await call("POST", "/tenants", 201, {"name": "third", "config": with_webhook})
    tenant = {"tenant_id": made["tenant_id"]}
    await call("GET", "/tenants", 200)
    await call("GET", "/tenants/{tenant_id}", 200, **tenant)
    await call("PATCH", "/tenants/{tenant_id}", 200, {"config": with_webhook}, **tenant)
    await call("PATCH", "/tenants/{tenant_id}", 200, {"name": "renamed"}, **tenant)
    key = await call("POST", "/tenants/{tenant_id}/keys", 201, **tenant)
    await server.request("GET", "/rooms", headers={"X-API-Key": key["api_key"], "X-User-Id": "alice"})
    await server.services.tenants.write_used_keys()
    await call("GET", "/tenants/{tenant_id}/keys", 200, **tenant)
    await call("DELETE", "/tenants/{tenant_id}/keys/{key_id}", 204, **tenant, key_id=key["key_id"])
    await call("POST", "/tenants/{tenant_id}/token-secret", 201, **tenant)
    await call("POST", "/tenants/{tenant_id}/webhook-secret", 201, **tenant)
    await call("POST", "/tenants/{tenant_id}/move", 409, {"to": server.url}, **tenant)  # to itself
    await call("GET", "/tenants/{tenant_id}/export", 200, **tenant)
    await call("POST", "/tenants/import", 400, b"no database")
    await call("GET", "/dead-letters", 200)
    await call("POST", "/dead-letters/retry", 202, tenant)
    await call("POST", "/dead-letters/{dead_letter_id}/retry", 404, dead_letter_id="dlv_0")
    await call("GET", "/audit", 200)
    await call("GET", "/stats", 200)
    await call("POST", "/compact", 200)
    await call("DELETE", "/tenants/{tenant_id}", 204, **tenant)
    await call("GET", "/tenants/{tenant_id}", 404, **tenant)
