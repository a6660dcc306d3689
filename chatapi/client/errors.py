"""What can go wrong for a caller: the server refused (`ApiError`), or there was no answer (`NoAnswer`, `Closed`)."""

from collections.abc import Mapping

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
    in its log."""

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
    ) -> None:
        super().__init__(code, message, field=field, status=status, details=details, retry_after_s=retry_after_s)
        self.request_id = request_id

    def __str__(self) -> str:
        where = "" if self.field is None else f" ({self.field})"
        return f"{self.code}: {self.message}{where}"


class NoAnswer(ConnectionError):
    """The server could not be reached, or did not answer in time, on every try."""


class Closed(ConnectionError):
    """The connection was closed before the answer came. What was asked for may have been done: a `send` is safe to
    repeat with this `client_message_id`."""

    def __init__(self, message: str = "the connection is closed", client_message_id: str | None = None) -> None:
        super().__init__(message)
        self.client_message_id = client_message_id


def parse_error(
    error: object, *, status: int | None = None, retry_after_s: float | None = None, request_id: str | None = None
) -> ApiError:
    """The error of an envelope or of an `error` frame; of anything else, such as a proxy's page, what `status` says."""
    fields = error if isinstance(error, dict) else {}
    details = fields.get("details")
    return ApiError(
        _parse_code(fields.get("code"), status),
        str(fields.get("message", f"HTTP {status} without an answer of ChatAPI")),
        field=fields.get("field"),
        status=status,
        details=details if isinstance(details, dict) else None,
        retry_after_s=retry_after_s,
        request_id=request_id,
    )


def _parse_code(code: object, status: int | None) -> Code:
    if isinstance(code, str) and code in Code.__members__:
        return Code(code)
    known = _SPECIAL_STATUS.get(status or 0) or _CODE_OF_STATUS.get(status or 0)
    return known or Code.INTERNAL_ERROR
