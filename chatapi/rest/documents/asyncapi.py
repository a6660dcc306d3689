"""AsyncAPI 3.0 for the WebSocket, made from the records of its frames."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

import chatapi
from chatapi.protocol.fields import RequestIdText
from chatapi.protocol.frames import CLIENT_FRAMES, LIGHT_FRAMES, MAX_FRAME_BYTES
from chatapi.protocol.server_frames import SERVER_FRAMES, ServerFrame
from chatapi.rest.documents.schemas import Schema, Schemas, get_type

Json = dict[str, Any]

CLOSE_CODES: Mapping[int, str] = {
    1000: "the client closed",
    1001: "the server is stopping: reconnect after `reconnect_after_ms` of `server.shutdown`",
    1002: "not as RFC 6455 defines it, such as a frame without a mask",
    1003: "a binary frame: frames are text",
    1007: "not UTF-8",
    1008: "against the policy",
    1009: f"a frame of more than {MAX_FRAME_BYTES} bytes",
    1011: "a failure of the server",
    4001: "the credential is wrong, has expired or was revoked, or the tenant was deleted: get a new credential first",
    4003: "the user is banned from the tenant",
    4009: "the client was too slow: nothing is lost, it continues where it stopped when it reconnects",
    4029: "more than 100 invalid frames in a minute",
}

# The frames that answer each client frame that was carried out. The others are answered with `error`.
ANSWERS: Mapping[str, tuple[str, ...]] = {
    "send_message": ("message.sent",),
    "message.edit": ("message.edited",),
    "message.delete": ("message.deleted",),
    "message.append": ("message.appended",),
    "message.finish": ("message.finished",),
    "message.cancel": ("message.cancel_requested",),
    "reaction.add": ("reaction.added",),
    "reaction.remove": ("reaction.removed",),
    "ack": ("ack.received",),
    "read": ("read.updated",),
    "typing.start": (),
    "typing.stop": (),
    "subscribe": ("subscribed",),
    "unsubscribe": ("unsubscribed",),
    "sync": ("sync.reset", "sync.gap", "sync.complete"),
    "notification.ack": (),
    "ping": ("pong",),
}

# Where a frame's example is not that of its fields alone: the fields are a message's, and this one was edited.
EXAMPLES: Mapping[str, Json] = {
    "message.edited": {"content": "Hello, Bobby", "edited_at": "2025-12-13T12:00:07.654321Z"},
}

_CLOSE_CODE_LINES = "\n".join(f"- {code}: {meaning}" for code, meaning in CLOSE_CODES.items())
DESCRIPTION = f"""\
Frames are JSON text, one object each; a client's has at most {MAX_FRAME_BYTES} bytes. The fields of a client's frame
may also be nested in `data`. The answer repeats its `request_id`.

The server first sends `ready` (in parts if there are many rooms: with `more`, `ready.rooms` follows), then, room by
room, the events that the user has not acknowledged, then pending notifications, then `sync.complete`. All events of a
room come in the order of `seq`, and none is left out.

Credentials, in this order: the headers of REST; the subprotocols `chatapi.v1` and `bearer.<user token>`; `?token=`
with a user token or a ticket of `POST /ws/token`. The answer to wrong ones in headers is 401; the answer to others is
an `error` frame and the close code 4001.

Close codes:

{_CLOSE_CODE_LINES}
"""


class _RequestId(msgspec.Struct, frozen=True):
    request_id: RequestIdText


def build_asyncapi(base_url: str) -> Json:
    """The document. `base_url` is where clients reach the server."""
    schemas = Schemas([*CLIENT_FRAMES.values(), *SERVER_FRAMES, _RequestId])
    client = {frame_type: _describe_client_frame(schemas, frame_type) for frame_type in CLIENT_FRAMES}
    server = {get_type(record): _describe_server_frame(schemas, record) for record in SERVER_FRAMES}
    messages = {_name(frame_type): message for frame_type, message in (*client.items(), *server.items())}
    apart = {_RequestId.__name__, *(record.__name__ for record in CLIENT_FRAMES.values())}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ChatAPI WebSocket",
            "version": chatapi.__version__,
            "description": DESCRIPTION,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {"chat": _describe_server(base_url)},
        "channels": {
            "ws": {
                "address": "/ws",
                "title": "The WebSocket",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET", "query": _QUERY, "bindingVersion": "0.1.0"}},
                "x-close-codes": {str(code): meaning for code, meaning in CLOSE_CODES.items()},
            }
        },
        "operations": {
            **{_name(frame_type): _describe_operation(frame_type) for frame_type in client},
            "events": {
                "action": "send",
                "channel": {"$ref": "#/channels/ws"},
                "summary": "Frames of the server: answers and events",
                "messages": [_refer_to_message(frame_type) for frame_type in server],
            },
        },
        "components": {
            "messages": messages,
            "schemas": {name: schema for name, schema in schemas.components.items() if name not in apart},
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


_QUERY: Schema = {
    "type": "object",
    "properties": {
        "token": {"type": "string", "description": "a user token, or a ticket of POST /ws/token"},
        "sync": {"enum": ["none"], "description": "no backlog until the client sends `sync`"},
    },
}
_SECURITY_SCHEMES: Json = {
    "apiKey": {
        "type": "httpApiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The tenant's key, together with X-User-Id.",
    },
    "userToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "queryToken": {
        "type": "httpApiKey",
        "in": "query",
        "name": "token",
        "description": "A user token, or a single-use ticket.",
    },
}


def _describe_server(base_url: str) -> Json:
    parts = urlsplit(base_url)
    server: Json = {
        "host": parts.netloc,
        "protocol": "wss" if parts.scheme == "https" else "ws",
        "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in _SECURITY_SCHEMES],
    }
    if path := parts.path.rstrip("/"):
        server["pathname"] = path
    return server


def _describe_client_frame(schemas: Schemas, frame_type: str) -> Json:
    record = schemas.resolve(schemas.get(CLIENT_FRAMES[frame_type]))
    payload = {
        "type": "object",
        "required": ["type", *record.get("required", ())],
        "properties": {
            "type": {"const": frame_type},
            **schemas.properties_of(_RequestId),
            **record["properties"],
        },
    }
    bucket = "of the connection's own" if frame_type in LIGHT_FRAMES else "of the tenant's"
    text = f"Takes a token {bucket} bucket."
    return _describe_message(
        frame_type, payload, schemas.example_of(payload), f"{record.get('description', '')} {text}"
    )


def _describe_server_frame(schemas: Schemas, record: type[ServerFrame]) -> Json:
    schema = schemas.get(record)
    text = schemas.resolve(schema).get("description", "")
    frame_type = get_type(record)
    example = {**schemas.example_of(schema), **EXAMPLES.get(frame_type, {})}
    return _describe_message(frame_type, schema, example, text)


def _describe_message(frame_type: str, payload: Schema, example: Json, text: str) -> Json:
    message: Json = {
        "name": frame_type,
        "contentType": "application/json",
        "payload": payload,
        "examples": [{"name": _name(frame_type), "payload": example}],
    }
    if text.strip():
        message["description"] = text.strip()
    return message


def _describe_operation(frame_type: str) -> Json:
    operation: Json = {
        "action": "receive",
        "channel": {"$ref": "#/channels/ws"},
        "messages": [_refer_to_message(frame_type)],
    }
    if answers := ANSWERS[frame_type]:
        operation["reply"] = {
            "channel": {"$ref": "#/channels/ws"},
            "messages": [_refer_to_message(answer) for answer in (*answers, "error")],
        }
    return operation


def _refer_to_message(frame_type: str) -> Json:
    return {"$ref": f"#/channels/ws/messages/{_name(frame_type)}"}


def _name(frame_type: str) -> str:
    """A frame's type as a key that every tool takes: `message.sent` is `message_sent`."""
    return frame_type.replace(".", "_")
