"""Which answers are the server's own, and what they say. Anything may stand between it and a client: a proxy's 404 says
nothing about a room, and its 200 nothing about a message."""

from collections.abc import Mapping
from typing import Any, TypeGuard

from chatapi.client.errors import NotChatAPI, parse_error
from chatapi.protocol.json import loads_stored

Shape = Mapping[str, type]
"""Fields without which `data` is not what was asked for, and their types."""


def parse_response(
    call: str, status: int, headers: Mapping[str, str], body: bytes, shape: Shape | None = None
) -> dict[str, Any] | None:
    """The `data` of the envelope, None for the 204 of a deletion. `call` is method and path.

    Raises ApiError for what the server refuses, and NotChatAPI for every answer that is not the server's.
    """
    is_deletion = call.startswith("DELETE ") and not shape
    if status == 204 and is_deletion:
        return None
    envelope = _parse_object(body)
    is_success, data, error = (envelope.get(name) for name in ("success", "data", "error"))
    has_worked = is_success is True and 200 <= status < 300 and error is None and not is_deletion
    if has_worked and is_shaped(data, shape or {}):
        return data
    if is_success is False and status >= 400 and not data and is_shaped(error, {"code": str, "message": str}):
        request_id = headers.get("X-Request-Id")
        raise parse_error(error, status=status, retry_after_s=parse_retry_after(headers), request_id=request_id)
    raise NotChatAPI(
        f"{call}: HTTP {status} without ChatAPI's envelope",
        http_status=status,
        retry_after_s=parse_retry_after(headers) or 0.0,
    )


def parse_text(call: str, status: int, headers: Mapping[str, str], body: bytes) -> str:
    """The text of a route without an envelope. Raises ApiError, NotChatAPI."""
    if status == 200:
        try:
            return body.decode()
        except UnicodeDecodeError:
            raise NotChatAPI(f"{call}: no text", http_status=status) from None
    parse_response(call, status, headers, body)
    raise NotChatAPI(f"{call}: HTTP {status} without a text", http_status=status)


def parse_json(call: str, status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """A JSON document, served without an envelope. Raises ApiError, NotChatAPI."""
    document = _parse_object(parse_text(call, status, headers, body).encode())
    if not document:
        raise NotChatAPI(f"{call}: no JSON document", http_status=status)
    return document


def _parse_object(body: bytes) -> dict[str, Any]:
    try:
        value = loads_stored(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def is_shaped(value: object, shape: Shape) -> TypeGuard[dict[str, Any]]:
    """Whether it is an object that has at least these fields. `True` does not count as a number."""
    return isinstance(value, dict) and all(type(value.get(name)) is expected for name, expected in shape.items())


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds; None unless it is a whole number, as ChatAPI sends it."""
    text = headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None
