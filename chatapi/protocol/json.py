"""JSON in and out, with the bounds that hold for every body and frame (docs/contract.md, section 2).

`encode` makes the JSON of records, which is all that clients get; `dumps` that of loose values, which the database and
the documents are given. JSON that is made already stands in a record as `Encoded`.
"""

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import msgspec
import orjson

from chatapi.errors import invalid
from chatapi.protocol.refusals import explain_refusal

MAX_DEPTH = 32  # the body itself counts as 1
MAX_INTEGER = 2**53 - 1  # the largest integer that a JavaScript number holds exactly
MAX_KEY = 2**63 - 1  # of the database: no client sees one as a number

# 2**53 has 16 digits: shorter runs need no look. With all digits made alike, a run of them is found without a regular
# expression, in a fifth of its time.
_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"000000000")
_LONG_INTEGER = b"0" * 16
# orjson reads an integer beyond 64 bits, which has 19 digits or more, as a float.
_HUGE_INTEGER = re.compile(rb"(?<![0-9.eE+-])-?[0-9]{19,}(?![0-9.eE])")
_SURROGATE = re.compile(rb"(?i)\\ud[89a-f]")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')

T = TypeVar("T")
_encoder = msgspec.json.Encoder()

if TYPE_CHECKING:

    class Encoded(Generic[T]):
        """JSON of a T that is made already, and goes into an answer or frame as it stands."""

        def __bytes__(self) -> bytes: ...

else:

    class Encoded:
        def __class_getitem__(cls, item: Any) -> Any:
            return item  # to the documents, and to what decodes the record, the field is a T


@overload
def encoded(text: bytes | str) -> Encoded[Any]: ...
@overload
def encoded(text: None) -> None: ...
@overload
def encoded(text: bytes | str | None) -> Encoded[Any] | None: ...
def encoded(text: bytes | str | None) -> Encoded[Any] | None:
    """JSON, by `dumps` or the database, for a field of a record."""
    return None if text is None else msgspec.Raw(text)  # type: ignore[return-value]  # which is all it is at run time


def text_of(json: Encoded[Any]) -> str:
    return bytes(json).decode()


def encode(record: msgspec.Struct | Sequence[msgspec.Struct]) -> bytes:
    """The record as it is, unchecked: mypy checks the code that builds it. A field into which clients may put any
    number is `Encoded`: this would write 1e22 where `dumps`, and so the database, has 1e+22."""
    return _encoder.encode(record)


def dumps(value: object) -> bytes:
    """Compact JSON in UTF-8. Raises TypeError for values that JSON does not have."""
    return orjson.dumps(value)


def dumps_text(value: object) -> str:
    return orjson.dumps(value).decode()


def dumps_canonical(value: object) -> bytes:
    """The form in which two values are compared (docs/contract.md, section 2): keys are sorted, and 1, 1.0 and true
    are three values, which are equal for Python's `==`."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def loads(body: bytes) -> Any:
    """Parse what a client sent.

    Raises ChatError (VALIDATION_ERROR) when it is not JSON, not UTF-8, nested too deep, or holds an integer of 2^53
    or more, a U+0000 or half a pair of surrogates.
    """
    value = loads_unchecked(body)
    check_bounds(body, value)
    return value


def loads_unchecked(body: bytes) -> Any:
    """As `loads`, without `check_bounds`, which is called once the value has been looked at."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if _SURROGATE.search(body):
            value = _find_surrogates(body)
            if value is not None:
                return value
        raise invalid(f"Malformed JSON: {error.msg} at line {error.lineno} column {error.colno}") from None


def _find_surrogates(body: bytes) -> Any:
    """The value, if halves of surrogate pairs are all that orjson has against it: the check names their field."""
    try:
        value = json.loads(body.decode())
        return None if is_unicode(json.dumps(value, ensure_ascii=False, allow_nan=False)) else value
    except (ValueError, RecursionError):
        return None


def check_bounds(body: bytes, value: object) -> None:
    """Raises ChatError, as `loads` does, for the value of this body."""
    # A look at the bytes rules out all of them for nearly every body; only a suspect is walked.
    deep = body.count(b"{") + body.count(b"[") > MAX_DEPTH
    if deep or b"\\u" in body or _LONG_INTEGER in body.translate(_DIGITS_ALIKE):
        is_huge = _HUGE_INTEGER.search(_STRING.sub(b'""', body)) is not None
        _check(value, "", 1, float if is_huge else int)


def is_unicode(text: str) -> bool:
    """Whether UTF-8 has it: half a pair of surrogates, which JSON can escape, it has not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def loads_stored(text: str | bytes) -> Any:
    """Parse what this server wrote itself."""
    return orjson.loads(text)


def _check(value: object, path: str, depth: int, bounded: type[float] | type[int]) -> None:
    if isinstance(value, str):
        if "\x00" in value:
            raise invalid("Strings must not contain U+0000", path or None)
        if not is_unicode(value):
            raise invalid("Strings must not contain half a pair of surrogates", path or None)
    elif isinstance(value, int | bounded):
        if abs(value) > MAX_INTEGER:
            raise invalid("Integers must be below 2^53", path or None)
    elif isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            raise invalid(f"JSON must not nest deeper than {MAX_DEPTH} levels")
        if isinstance(value, list):
            for index, item in enumerate(value):
                _check(item, f"{path}[{index}]", depth + 1, bounded)
        else:
            for key, item in value.items():
                _check(key, path, depth + 1, bounded)
                _check(item, f"{path}.{key}" if path else key, depth + 1, bounded)


def convert(value: object, record: type[T]) -> T:
    """A typed record from parsed JSON; unknown fields are ignored.

    Raises ChatError (VALIDATION_ERROR) with `field` naming the culprit, as in `targets.user_ids[3]`.
    """
    try:
        return msgspec.convert(value, record)
    except msgspec.ValidationError as error:
        raise explain_refusal(error, record) from None


def is_same_json(one: str | None, other: str | None) -> bool:
    """Whether both texts are the same JSON value, or are both absent."""
    if one is None or other is None:
        return one is other
    return dumps_canonical(loads_stored(one)) == dumps_canonical(loads_stored(other))


def check_object_bytes(value: dict[str, object] | None, field: str, max_bytes: int) -> None:
    """Raises ChatError when the object takes more than `max_bytes` as JSON."""
    if value is not None and len(orjson.dumps(value)) > max_bytes:
        raise invalid(f"Must be at most {max_bytes} bytes as JSON", field)
