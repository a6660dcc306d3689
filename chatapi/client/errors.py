"""The errors of a call: the server refused it (`ApiError`), or there was no answer of the server (`NoAnswer`,
`NotChatAPI`, `NoToken`, `Closed`)."""

from collections.abc import Mapping
from typing import Any

from chatapi.errors import HTTP_STATUS, ChatError, Code

_CODE_OF_STATUS = {status: code for code, status in HTTP_STATUS.items()}
_SPECIAL_STATUS = {
    405: Code.NOT_FOUND,
    413: Code.VALIDATION_ERROR,
    415: Code.VALIDATION_ERROR,
    426: Code.VALIDATION_ERROR,
}


class ApiError(ChatError):
    """The server's refusal: `code`, `status`, `field`, `details`, `retry_after_s`, and the `request_id` to look for
    in its log. `raw_code` is the code as it came: a newer server may have codes that this SDK does not know, for which
    `code` is the nearest one that it does."""

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        field: str | None = None,
        status: int | None = None,
        details: Mapping[str, object] | None = None,
        retry_after_s: float | None = None,
        request_id: str | None = None,
        raw_code: str | None = None,
    ) -> None:
        super().__init__(code, message, field=field, status=status, details=details, retry_after_s=retry_after_s)
        self.request_id = request_id
        self.raw_code: str = raw_code or str(code)

    @property
    def may_pass(self) -> bool:
        """Whether the same is worth another try soon: a limit, or a fault of the server's. A user in slow mode has to
        hear of it instead."""
        is_slow_mode = self.details is not None and "slow_mode_until" in self.details
        return (self.status == 429 and not is_slow_mode) or self.status >= 500

    def __str__(self) -> str:
        where = "" if self.field is None else f" ({self.field})"
        return f"{self.raw_code}: {self.message}{where}"


class NoAnswer(ConnectionError):
    """The server could not be reached, or did not answer in time, on every try."""

    retry_after_s: float = 0.0  # as a proxy asked


class NotChatAPI(NoAnswer):
    """Something else answered, such as a proxy with a page of its own. Whether the server has done what it was asked is
    not known. `http_status` is what that answer said; it says nothing about rooms or messages."""

    def __init__(self, message: str, *, http_status: int | None = None, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.retry_after_s = retry_after_s


class NoToken(NoAnswer):
    """`get_token` raised (`__cause__` is what), took too long, or returned what cannot be a token. Nothing was sent."""


class StreamFailed(Exception):
    """For a source of `stream` to raise: the stream ends `failed`, and its `meta` tells everybody in the room why, as
    `error`: `reason`, of which 1,000 characters are told."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Closed(ConnectionError):
    """The connection was closed before the answer came. The server may have carried out the request: a `send` is safe
    to repeat with this `client_message_id`."""

    def __init__(self, message: str = "the connection is closed", client_message_id: str | None = None) -> None:
        super().__init__(message)
        self.client_message_id = client_message_id


def parse_error(
    fields: Mapping[str, Any],
    *,
    status: int | None = None,
    retry_after_s: float | None = None,
    request_id: str | None = None,
) -> ApiError:
    """The error of an envelope, or an `error` frame, whose code has the status that it has over HTTP. A frame of an
    unknown code was refused for good (400), unless the server says when to try again (429)."""
    details = fields.get("details")
    field = fields.get("field")
    raw_code = fields.get("code")
    if status is None and raw_code not in Code.__members__:
        status = 400 if retry_after_s is None else 429
    return ApiError(
        _parse_code(raw_code, status),
        str(fields.get("message", "")),
        field=field if isinstance(field, str) else None,
        status=status,
        details=details if isinstance(details, dict) else None,
        retry_after_s=retry_after_s,
        request_id=request_id,
        raw_code=raw_code if isinstance(raw_code, str) else None,
    )


def _parse_code(code: object, status: int | None) -> Code:
    """A code that this SDK does not know yet is the nearest one that it does."""
    if isinstance(code, str) and code in Code.__members__:
        return Code(code)
    known = _SPECIAL_STATUS.get(status or 0) or _CODE_OF_STATUS.get(status or 0)
    return known or Code.INTERNAL_ERROR
