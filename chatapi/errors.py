"""The one exception type for a client's mistake and for the store's refusal.

A `ChatError` holds all that the client is told. REST makes the envelope from it and a WebSocket the `error` frame
(docs/contract.md, section 3), each in one function: `protocol.encoders.encode_error_envelope` and `encode_error_frame`.
"""

from collections.abc import Mapping
from enum import StrEnum

HELD_RETRY_SECONDS = 0.1  # most holds take some 20 ms


class Code(StrEnum):
    VALIDATION_ERROR = "VALIDATION_ERROR"
    AUTHENTICATION_ERROR = "AUTHENTICATION_ERROR"
    AUTHORIZATION_ERROR = "AUTHORIZATION_ERROR"
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"
    TENANT_MOVED = "TENANT_MOVED"
    RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"
    INTERNAL_ERROR = "INTERNAL_ERROR"


HTTP_STATUS: Mapping[Code, int] = {
    Code.VALIDATION_ERROR: 400,
    Code.AUTHENTICATION_ERROR: 401,
    Code.AUTHORIZATION_ERROR: 403,
    Code.NOT_FOUND: 404,
    Code.CONFLICT: 409,
    Code.TENANT_MOVED: 421,
    Code.RATE_LIMIT_EXCEEDED: 429,
    Code.INTERNAL_ERROR: 500,
}


class ChatError(Exception):
    """A refusal that the client is told of. `status` differs from the code's usual one only for 405, 408, 413, 415, 426
    and 503."""

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        field: str | None = None,
        status: int | None = None,
        details: Mapping[str, object] | None = None,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.status: int = HTTP_STATUS[code] if status is None else status
        self.details = details
        self.retry_after_s = retry_after_s
        self.headers = headers

    def at(self, field: str) -> "ChatError":
        """The same error, for one part of the request."""
        return ChatError(
            self.code,
            self.message,
            field=field,
            status=self.status,
            details=self.details,
            retry_after_s=self.retry_after_s,
            headers=self.headers,
        )


def invalid(message: str, field: str | None = None) -> ChatError:
    return ChatError(Code.VALIDATION_ERROR, message, field=field)


def unauthenticated(message: str) -> ChatError:
    return ChatError(Code.AUTHENTICATION_ERROR, message)


def forbidden(message: str, details: Mapping[str, object] | None = None) -> ChatError:
    return ChatError(Code.AUTHORIZATION_ERROR, message, details=details)


def not_found(what: str) -> ChatError:
    """`what` is the thing's name, as the message begins: "Room"."""
    return ChatError(Code.NOT_FOUND, f"{what} not found")


def conflict(message: str, details: Mapping[str, object] | None = None) -> ChatError:
    return ChatError(Code.CONFLICT, message, details=details)


def rate_limited(
    retry_after_s: float, message: str = "Rate limit exceeded", details: Mapping[str, object] | None = None
) -> ChatError:
    """REST rounds `retry_after_s` up to whole seconds, a frame to milliseconds."""
    return ChatError(Code.RATE_LIMIT_EXCEEDED, message, details=details, retry_after_s=retry_after_s)


def tenant_moved(url: str) -> ChatError:
    """Another server has the tenant: clients go on there."""
    return ChatError(Code.TENANT_MOVED, "The tenant has moved to another server", details={"url": url})


def held(message: str) -> ChatError:
    """503 for a tenant that is on its way to another server: it is served again in a moment, here or there."""
    return ChatError(Code.INTERNAL_ERROR, message, status=503, retry_after_s=HELD_RETRY_SECONDS)


def unavailable(message: str, details: Mapping[str, object] | None = None) -> ChatError:
    """The store cannot take writes (disk full, read-only), or the server is going away."""
    return ChatError(Code.INTERNAL_ERROR, message, status=503, details=details)
