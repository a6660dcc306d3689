"""OpenAPI 3.1, made from the route table."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from msgspec import Meta

import chatapi
from chatapi.config.kinds import Flag, ListOf, Number, OneOf, Text, ValueKind, Whole
from chatapi.config.tenant import TENANT_KINDS
from chatapi.errors import Code
from chatapi.protocol import answers, fields, webhook_calls
from chatapi.protocol import requests as req
from chatapi.rest.call import OF_USERS, Credential, Media, Route
from chatapi.rest.documents.schemas import Schema, Schemas, get_type
from chatapi.rest.incoming_text import EVENT_STREAM, PLAIN

Json = dict[str, Any]

_PARAMETER = re.compile(r"{(\w+)}")


class PathParameters(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters in paths, by name."""

    room_id: req.RoomIdText
    user_id: Annotated[req.UserIdText, Meta(examples=["bob"])]  # somebody else than X-User-Id
    message_id: req.MessageIdText
    emoji: Annotated[req.EmojiText, Meta(description="percent-encoded")]
    notification_id: req.NotificationIdText
    subscription_id: fields.SubscriptionIdText
    report_id: fields.ReportIdText
    tenant_id: req.TenantIdText
    key_id: fields.KeyIdText
    dead_letter_id: fields.DeadLetterIdText


DESCRIPTION = """\
Rooms, messages in one gap-free order, delivery until acknowledged, presence, notifications and webhooks. Live events
come over the WebSocket `/ws`, which `/asyncapi.json` describes.

Every JSON answer is `{"success": true, "data": {…}, "error": null}` or `{"success": false, "data": null, "error":
{"code", "message", "field", "details"}}`. The server ignores unknown fields in requests, and later versions may add
fields to answers. All routes are also served under `/v1`, and every route that answers GET answers HEAD.

A wrong method on a known path is 405 with `Allow`. A body has at most 256 KiB of JSON that nests at most 32 levels
deep, with integers below 2^53 and without U+0000.
"""

# By the module of the handlers.
TAGS = {
    "rooms": ("Rooms", "Rooms and their members"),
    "messages": ("Messages", "Messages, the room's log, and its members' acks and reads"),
    "reactions": ("Messages", "Messages, the room's log, and its members' acks and reads"),
    "pipe": ("Messages", "Messages, the room's log, and its members' acks and reads"),
    "pins": ("Messages", "Messages, the room's log, and its members' acks and reads"),
    "streams": ("Messages", "Messages, the room's log, and its members' acks and reads"),
    "mentions": ("Messages", "Messages, the room's log, and its members' acks and reads"),
    "moderation": ("Moderation", "Bans of a room, and reports of messages"),
    "reports": ("Moderation", "Bans of a room, and reports of messages"),
    "search": ("Messages", "Messages, the room's log, and its members' acks and reads"),
    "notifications": ("Notifications", "Durable notifications, and the topics that users subscribe to"),
    "events": ("Events", "Live events over HTTP alone"),
    "tokens": ("Tokens", "Credentials for browsers and apps"),
    "users": ("Users", "Profiles, and when users were last online"),
    "user_data": ("Data protection", "What is stored of one user: exported, and erased"),
    "health": ("Server", "Whether it is alive, ready and able to write"),
    "transfers": ("Tenants", "For the operator: tenants, their keys and secrets"),
    "tenants": ("Tenants", "For the operator: tenants, their keys and secrets"),
    "audit": ("Audit", "For the operator: acts of operators and moderators"),
    "dead_letters": ("Queues", "For the operator: webhook calls that failed for good, and figures"),
    "database": ("Database", "For the operator: the database's free space"),
    "rest": ("Documents", "These descriptions"),
    "documents": ("Documents", "These descriptions"),
    "metrics": ("Server", "Whether it is alive, ready and able to write"),
    "dev": ("Development", "For tests: the clock, faults, a reset, and an inbox of webhooks"),
    "faults": ("Development", "For tests: the clock, faults, a reset, and an inbox of webhooks"),
}

WEBHOOKS = ("Webhooks", "What the server calls, for users who are offline")

SECURITY_SCHEMES: Json = {
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The tenant's key, for its backend only; together with X-User-Id.",
    },
    "userId": {
        "type": "apiKey",
        "in": "header",
        "name": "X-User-Id",
        "description": "The user for whom the backend acts: 1 to 128 characters of printable ASCII without spaces.",
    },
    "userToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The token of one user, from POST /tokens, for browsers and apps.",
    },
    "urlToken": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "A user token, or a ticket from POST /ws/token, for connections of browsers.",
    },
    "masterKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Master-Key",
        "description": "The operator's key.",
    },
}
# It stands among the credentials too; but many tools send one credential at a time, and without it every call of a
# backend is refused.
USER_HEADER: Json = {
    "name": "X-User-Id",
    "in": "header",
    "required": False,
    "description": "The user for whom the backend acts. Required with X-API-Key, ignored with a user token.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"},
    "example": "alice",
}
CLIENT_MESSAGE_ID_HEADER: Json = {
    "name": "X-Client-Message-Id",
    "in": "header",
    "required": False,
    "description": "The message's client_message_id: who wants its message_id at once opens the stream of that name.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 64},
    "example": "answer-7",
}
TEXT_BODIES: Json = {
    PLAIN: {"schema": {"type": "string", "minLength": 1}, "example": "Hello, Bob"},
    EVENT_STREAM: {
        "schema": {"type": "string", "minLength": 1},
        "example": 'data: {"choices": [{"index": 0, "delta": {"content": "Hello, Bob"}}]}\n\ndata: [DONE]\n\n',
    },
}
_AS_BACKEND: Json = {"apiKey": [], "userId": []}
SECURITY: dict[Credential, list[Json]] = {
    Credential.NONE: [],
    Credential.USER: [_AS_BACKEND, {"userToken": []}],
    Credential.CONNECTION: [_AS_BACKEND, {"userToken": []}, {"urlToken": []}],
    Credential.API_KEY: [_AS_BACKEND],
    Credential.MASTER: [{"masterKey": []}],
}

# By status: the code, when it is, and the rest of an example.
ERRORS: dict[int, tuple[Code, str, Json]] = {
    400: (
        Code.VALIDATION_ERROR,
        "Invalid parameters; `field` names the culprit.",
        {"message": "Expected `int` >= 1", "field": "limit"},
    ),
    401: (Code.AUTHENTICATION_ERROR, "Missing or invalid credentials.", {"message": "Invalid credentials"}),
    403: (
        Code.AUTHORIZATION_ERROR,
        "The user is known, but may not do this: not a member, not the sender, not a room admin.",
        {"message": "Not a member of this room"},
    ),
    404: (Code.NOT_FOUND, "There is no such thing in this tenant.", {"message": "Room not found"}),
    408: (Code.VALIDATION_ERROR, "The body did not arrive in time.", {"message": "The body did not arrive in time"}),
    409: (
        Code.CONFLICT,
        "The dm exists already, the user is a member already, an id was reused with another body, or there are as many"
        " of a kind as there may be.",
        {"message": "This dm exists already", "details": {"room_id": "room_5f3a9c0e71b24d6688aa10cf"}},
    ),
    421: (
        Code.TENANT_MOVED,
        "The tenant has moved to another server: go on there. Only valid credentials are told.",
        {"message": "The tenant has moved to another server", "details": {"url": "https://chat2.example.com"}},
    ),
    413: (Code.VALIDATION_ERROR, "The body is too large.", {"message": "The body is larger than 262144 bytes"}),
    415: (
        Code.VALIDATION_ERROR,
        "The body is not application/json, or is encoded.",
        {"message": "Send the header Content-Type: application/json"},
    ),
    429: (
        Code.RATE_LIMIT_EXCEEDED,
        "Too many requests; `Retry-After` says when to try again.",
        {"message": "Rate limit exceeded"},
    ),
    500: (Code.INTERNAL_ERROR, "A failure of the server.", {"message": "Internal error"}),
    503: (
        Code.INTERNAL_ERROR,
        "The database accepts no writes, too much waits, the tenant is being moved, or the server is starting or"
        " stopping.",
        {"message": "The database cannot accept writes"},
    ),
}

_Tokens = Annotated[int, Meta(ge=0)]
HEADERS: dict[str, tuple[Any, str, Any]] = {
    "X-Request-Id": (
        Annotated[str, Meta(pattern="^[A-Za-z0-9._-]{1,128}$")],
        "The id of the request, if it sent one of this form, else a new one; the same id is in the server's log.",
        "2f1c9a6be0d34875",
    ),
    "X-RateLimit-Limit": (_Tokens, "The size of the tenant's bucket; only if the request took a token.", 100),
    "X-RateLimit-Remaining": (_Tokens, "Tokens left in it.", 99),
    "X-RateLimit-Reset": (_Tokens, "Unix time, in seconds, when it is full again.", 1_765_627_201),
    "Retry-After": (Annotated[int, Meta(ge=1)], "Seconds to wait.", 1),
    "Location": (str, "The playground.", "/playground"),
}
_RATE_HEADERS = tuple(name for name in HEADERS if name.startswith("X-RateLimit"))


def build_openapi(routes: Sequence[Route], base_url: str) -> Json:
    """The document. `base_url` is where clients reach the server: tools that import a file take no relative address."""
    return _OpenApi(routes, base_url.rstrip("/")).build()


def _find_module(route: Route) -> str:
    return route.handler.__module__.rpartition(".")[2]


class _OpenApi:
    def __init__(self, routes: Sequence[Route], base_url: str) -> None:
        self._routes = routes
        self._base_url = base_url
        records = [record for route in routes for record in (route.body, route.answer) if record]
        annotated = [header[0] for header in HEADERS.values()]
        queries = [route.query for route in routes if route.query]
        apart: list[type] = [PathParameters, webhook_calls.WebhookHeaders, *queries]
        self._apart = {record.__name__ for record in apart}
        self._schemas = Schemas([*records, *annotated, *apart, *webhook_calls.WEBHOOK_CALLS, answers.ErrorBody])

    def build(self) -> Json:
        paths: Json = {}
        for route in self._routes:
            paths.setdefault(route.path, {})[route.method.lower()] = self._describe(route)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "ChatAPI",
                "version": chatapi.__version__,
                "description": DESCRIPTION,
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "servers": [
                {"url": self._base_url, "description": "v1, as it is without a prefix"},
                {"url": f"{self._base_url}/v1", "description": "v1"},
            ],
            "tags": self._list_tags(),
            "paths": paths,
            "webhooks": {get_type(call): {"post": self._describe_call(call)} for call in webhook_calls.WEBHOOK_CALLS},
            "components": {
                "schemas": self._list_schemas(),
                "parameters": {**self._list_path_parameters(), "X-User-Id": USER_HEADER},
                "headers": {name: self._describe_header(name) for name in HEADERS},
                "responses": {_name_error(status): self._describe_error(status) for status in ERRORS},
                "securitySchemes": SECURITY_SCHEMES,
            },
        }

    def _list_tags(self) -> list[Json]:
        modules = {_find_module(route) for route in self._routes}
        used = dict(tag for module, tag in TAGS.items() if module in modules) | dict([WEBHOOKS])
        return [{"name": name, "description": text} for name, text in used.items()]

    def _list_schemas(self) -> Json:
        """The schemas that something refers to. Queries and paths are taken apart into parameters."""
        schemas = {name: schema for name, schema in self._schemas.components.items() if name not in self._apart}
        return {**schemas, "TenantConfig": _describe_tenant_config()}

    def _list_path_parameters(self) -> Json:
        used = {name for route in self._routes for name in _PARAMETER.findall(route.path)}
        return {
            name: {
                "name": name,
                "in": "path",
                "required": True,
                "schema": schema,
                "example": self._schemas.example_of(schema),
            }
            for name, schema in self._schemas.properties_of(PathParameters).items()
            if name in used
        }

    def _describe(self, route: Route) -> Json:
        operation: Json = {
            "operationId": route.handler.__name__.lstrip("_"),
            "summary": summarize(route),
            "tags": [TAGS[_find_module(route)][0]],
            "security": SECURITY[route.credential],
        }
        names = [*_PARAMETER.findall(route.path), *(["X-User-Id"] if route.credential in OF_USERS else [])]
        parameters = [
            *([CLIENT_MESSAGE_ID_HEADER] if route.reads_text else ()),
            *({"$ref": f"#/components/parameters/{name}"} for name in names),
            *self._list_query_parameters(route),
        ]
        if parameters:
            operation["parameters"] = parameters
        if route.body is not None:
            content = {"application/json": self._show(route.body)}
            operation["requestBody"] = {"required": not req.may_be_absent(route.body), "content": content}
        elif route.reads_text:
            operation["requestBody"] = {"required": True, "content": TEXT_BODIES}
        elif route.takes is not None:
            content = {route.takes.value: {"schema": _MEDIA_SCHEMAS[route.takes]}}
            operation["requestBody"] = {"required": True, "content": content}
        operation["responses"] = self._list_responses(route)
        return operation

    def _describe_call(self, call: type[webhook_calls.WebhookCall]) -> Json:
        schema = self._schemas.get(call)
        return {
            "operationId": get_type(call).replace(".", "_"),
            "summary": self._schemas.resolve(schema)["description"].removesuffix("."),
            "description": "Made at least once, to the `webhook_url` of the tenant's config.",
            "tags": ["Webhooks"],
            "security": [],
            "parameters": [
                {"name": name, "in": "header", "required": True, "schema": header, "example": header["examples"][0]}
                for name, header in self._schemas.properties_of(webhook_calls.WebhookHeaders).items()
            ],
            "requestBody": {"required": True, "content": {"application/json": self._show(call)}},
            "responses": {
                "2XX": {"description": "Accepted: the server does not call again."},
                "410": {"description": "Refused for good: the server does not try again."},
                "default": {"description": "The server tries again later, and obeys a `Retry-After`."},
            },
        }

    def _list_query_parameters(self, route: Route) -> list[Json]:
        if route.query is None:
            return []
        return [
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in self._schemas.properties_of(route.query).items()
        ]

    def _show(self, body: Any) -> Json:
        schema = self._schemas.get(body)
        example = self._schemas.example_of(schema)
        # Insomnia's importer looks for the example in the schema, where it is deprecated.
        return {"schema": {**schema, "example": example}, "example": example}

    def _list_responses(self, route: Route) -> Json:
        responses: Json = {str(status): self._describe_success(route, status) for status in list_successes(route)}
        for status in route.also:
            if 300 <= status < 400:
                headers = _refer_to_headers(["X-Request-Id", "Location"])
                responses[str(status)] = {"description": HTTPStatus(status).phrase, "headers": headers}
        for status in list_errors(route):
            responses[str(status)] = {"$ref": f"#/components/responses/{_name_error(status)}"}
        return responses

    def _describe_success(self, route: Route, status: int) -> Json:
        headers = ["X-Request-Id", *(_RATE_HEADERS if route.credential in OF_USERS else ())]
        response: Json = {"description": HTTPStatus(status).phrase, "headers": _refer_to_headers(headers)}
        if route.answer is not None:
            data = self._schemas.get(route.answer)
            schema = _describe_envelope(True, data, {"type": "null"})
            example = {"success": True, "data": self._schemas.example_of(data), "error": None}
            response["content"] = {"application/json": {"schema": schema, "example": example}}
        elif route.media is not None:
            response["content"] = {route.media.value: {"schema": _MEDIA_SCHEMAS[route.media]}}
        return response

    def _describe_error(self, status: int) -> Json:
        code, when, error = ERRORS[status]
        headers = ["X-Request-Id", *_RATE_HEADERS, *(["Retry-After"] if status in (429, 503) else [])]
        return {
            "description": when,
            "headers": _refer_to_headers(headers),
            "content": {
                "application/json": {
                    "schema": _describe_envelope(False, {"type": "null"}, self._schemas.get(answers.ErrorBody)),
                    "example": {"success": False, "data": None, "error": {"code": code, **error}},
                }
            },
        }

    def _describe_header(self, name: str) -> Json:
        annotated, text, example = HEADERS[name]
        return {"description": text, "schema": self._schemas.get(annotated), "example": example}


_MEDIA_SCHEMAS: dict[Media, Schema] = {
    Media.JSON: {"type": "object"},
    Media.METRICS: {"type": "string"},
    Media.LINES: {
        "type": "string",
        "description": "Each line is an object with a `type`: `user` in the first one, `end` in the last one.",
    },
    Media.DATABASE: {"type": "string", "format": "binary", "description": "A ChatAPI database of one tenant."},
    Media.EVENTS: {
        "type": "string",
        "description": "The `data` of each event is one frame of the server, as `/asyncapi.json` describes them; that"
        " of the last one is `close {code, reason}`.",
    },
}


def summarize(route: Route) -> str:
    return (route.handler.__doc__ or route.path).removesuffix(".")


def list_successes(route: Route) -> list[int]:
    return sorted({route.status, *(status for status in route.also if status < 300)})


def list_errors(route: Route) -> list[int]:
    """The statuses with which the route may fail: its own, and those that follow from what it takes."""
    statuses = {500, *(status for status in route.also if status >= 400)}
    if route.credential is not Credential.NONE:
        statuses |= {401, 429}
    if route.credential in OF_USERS:
        statuses |= {400, 403, 421}  # X-User-Id; a user who is banned from the tenant; a tenant that has moved
    if route.body is not None or route.reads_text:
        statuses |= {400, 408, 413, 415}
    if route.query is not None:
        statuses |= {400}
    if _PARAMETER.search(route.path):
        statuses |= {404}
    if route.method != "GET" or route.credential is not Credential.NONE:
        statuses |= {503}  # reads too: too many of them wait, the tenant is being moved, the server stops
    return sorted(statuses)


def _describe_tenant_config() -> Schema:
    return {
        "type": "object",
        "title": "TenantConfig",
        "description": "A tenant's own settings; the server's settings hold for those that are null or absent.",
        "additionalProperties": False,
        "properties": {
            name: {"anyOf": [_describe_kind(kind), {"type": "null"}]} for name, kind in TENANT_KINDS.items()
        },
    }


def _describe_kind(kind: ValueKind) -> Schema:
    described: Schema = {"description": kind.expected}
    if isinstance(kind, Whole):
        return {**described, "type": "integer", "minimum": kind.low, "maximum": kind.high}
    if isinstance(kind, Number):
        return {**described, "type": "number", "minimum": kind.low, "maximum": kind.high}
    if isinstance(kind, Flag):
        return {**described, "type": "boolean"}
    if isinstance(kind, ListOf):
        return {**described, "type": "array", "items": _describe_kind(kind.item), "maxItems": kind.high}
    if isinstance(kind, OneOf):
        return {"type": "string", "enum": list(kind.options)}
    assert isinstance(kind, Text), kind
    return {**described, "type": "string"}


def _describe_envelope(is_success: bool, data: Schema, error: Schema) -> Schema:
    return {
        "type": "object",
        "required": ["success", "data", "error"],
        "properties": {"success": {"const": is_success}, "data": data, "error": error},
    }


def _refer_to_headers(names: Sequence[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _name_error(status: int) -> str:
    return f"Error{status}"
