"""Explains to the people who sent a body why its record refuses it. msgspec gives the path and the reason only inside
its message. This is the one spot that reads it, pinned by tests."""

import re

import msgspec
from msgspec import inspect

from chatapi.errors import ChatError, invalid

_AT_PATH = re.compile(r" - at `(?P<path>[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<name>[^`]*)`")
_STEP = re.compile(r"\[[^\]]*\]|\.?(?P<name>[^.\[]+)")


def explain_refusal(error: msgspec.ValidationError, record: type) -> ChatError:
    """VALIDATION_ERROR with `field` naming the culprit, as in `targets.user_ids[3]`."""
    text, path = str(error), ""
    if at_path := _AT_PATH.search(text):
        path = at_path["path"].removeprefix("$").removeprefix(".")
        text = text[: at_path.start()]
    if missing := _MISSING.match(text):
        path = f"{path}.{missing['name']}" if path else missing["name"]
        text = "Required"
    elif text.startswith("Invalid enum value"):
        text = f"{text}: must be one of {', '.join(_list_options(record, path))}"
    elif " matching regex " in text:
        text = f"Must be {_find_description(record, path)}"
    return invalid(text, path or None)


def _list_options(record: type, path: str) -> list[str]:
    found = _find_types(record, path)
    return [str(option.value) for a_type in found if isinstance(a_type, inspect.EnumType) for option in a_type.cls]


def _find_description(record: type, path: str) -> str:
    """That of the field's own type: a pattern is nothing to show to people."""
    schemas = (found.extra_json_schema for found in _find_types(record, path) if isinstance(found, inspect.Metadata))
    return str(next(schema["description"] for schema in schemas if schema is not None))


def _find_types(record: type, path: str) -> list[inspect.Type]:
    """All that the record says of the field at this path: its alternatives, each with its metadata."""
    found = _unwrap(inspect.type_info(record))
    for step in _STEP.finditer(path):
        inner = [_step_into(outer, step["name"]) for outer in found]
        found = [a_type for types in inner for a_type in types]
    return found


def _step_into(outer: inspect.Type, name: str | None) -> list[inspect.Type]:
    if isinstance(outer, inspect.StructType) and name is not None:
        return [a_type for field in outer.fields if field.encode_name == name for a_type in _unwrap(field.type)]
    return _unwrap(outer.item_type) if isinstance(outer, inspect.ListType) and name is None else []


def _unwrap(outer: inspect.Type) -> list[inspect.Type]:
    if isinstance(outer, inspect.Metadata):
        return [outer, *_unwrap(outer.type)]
    if isinstance(outer, inspect.UnionType):
        return [a_type for alternative in outer.types for a_type in _unwrap(alternative)]
    return [outer]
