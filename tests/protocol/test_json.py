import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from texts import CHARACTERS

from chatapi.errors import ChatError
from chatapi.protocol.json import MAX_DEPTH, MAX_INTEGER, convert, dumps, dumps_text, loads, loads_stored
from chatapi.protocol.queries import (
    DeadLettersQuery,
    EventsQuery,
    HistoryQuery,
    NotificationsQuery,
    PageQuery,
    parse_query,
)
from chatapi.protocol.requests import AddMember, CreateRoom, MessageEdit, MintToken, Notify, PatchRoom

TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-MAX_INTEGER, MAX_INTEGER),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5))


@given(JSON)
def test_json_within_the_bounds_comes_through_unchanged(value: object) -> None:
    assert loads(dumps(value)) == value
    assert loads(json.dumps(value).encode()) == value
    assert loads_stored(dumps_text(value)) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    with contextlib.suppress(ChatError):  # and nothing else is raised
        loads(body)


def nest(depth: int, value: object) -> tuple[object, str]:
    """The value, nested in objects and lists in turn, and its path."""
    path = ""
    for level in range(depth):
        value = {"k": value} if level % 2 else [value]
        path = (".k" if level % 2 else "[0]") + path
    return value, path.removeprefix(".")


@given(st.integers(0, MAX_DEPTH - 1), st.integers(MAX_INTEGER + 1, 2**200), st.booleans())
def test_an_integer_out_of_bounds_is_found_wherever_it_is(depth: int, number: int, is_negative: bool) -> None:
    value, path = nest(depth, -number if is_negative else number)
    with pytest.raises(ChatError) as refusal:
        loads(json.dumps(value).encode())
    assert refusal.value.field == (path or None)


@given(st.integers(0, MAX_DEPTH - 1), TEXT, TEXT)
def test_a_nul_is_found_wherever_it_is(depth: int, before: str, after: str) -> None:
    value, path = nest(depth, f"{before}\x00{after}")
    with pytest.raises(ChatError) as refusal:
        loads(json.dumps(value).encode())
    assert refusal.value.field == (path or None)


@pytest.mark.parametrize(("depth", "is_allowed"), [(MAX_DEPTH, True), (MAX_DEPTH + 1, False), (2000, False)])
def test_depth(depth: int, is_allowed: bool) -> None:
    for body in (b"[" * depth + b"]" * depth, b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)):
        if is_allowed:
            loads(body)
        else:
            with pytest.raises(ChatError):
                loads(body)


@given(st.floats(allow_nan=False, allow_infinity=False), st.text("0123456789", min_size=16, max_size=30))
def test_numbers_that_are_no_integers_are_not_bounded(number: float, digits: str) -> None:
    body = json.dumps([number, digits])
    assert loads(body.encode()) == [number, digits]


USER_ID = "1 to 128 characters of printable ASCII without spaces"

# Which field is to blame: msgspec's own words, so that a new version of it cannot change ours unnoticed.


@pytest.mark.parametrize(
    ("record", "value", "field", "message"),
    [
        (CreateRoom, {}, "type", "Required"),
        (CreateRoom, [], None, "Expected `object`, got `array`"),
        (CreateRoom, {"type": 1}, "type", "Expected `str`, got `int`"),
        (CreateRoom, {"type": "x"}, "type", "Invalid enum value 'x': must be one of dm, group, channel"),
        (AddMember, {"user_id": "a b"}, "user_id", f"Must be {USER_ID}"),
        (
            AddMember,
            {"user_id": "a", "role": "owner"},
            "role",
            "Invalid enum value 'owner': must be one of admin, member",
        ),
        (CreateRoom, {"type": "dm", "members": ["a", "é"]}, "members[1]", f"Must be {USER_ID}"),
        (
            Notify,
            {"topic": "t", "payload": 1, "targets": {"user_ids": [""]}},
            "targets.user_ids[0]",
            f"Must be {USER_ID}",
        ),
        (MintToken, {"user_id": "a\n"}, "user_id", f"Must be {USER_ID}"),
        (CreateRoom, {"type": "group", "members": ["a", 1]}, "members[1]", "Expected `str`, got `int`"),
        (Notify, {"topic": "t", "payload": 1}, "targets", "Required"),
        (Notify, {"topic": "t", "targets": {}}, "payload", "Required"),
        (
            Notify,
            {"topic": "t", "payload": 1, "targets": {"user_ids": ["a", "b", "c", 4]}},
            "targets.user_ids[3]",
            "Expected `str`, got `int`",
        ),
        (
            Notify,
            {"topic": "t", "payload": 1, "targets": {"topic_subscribers": "yes"}},
            "targets.topic_subscribers",
            "Expected `bool`, got `str`",
        ),
        (AddMember, {"user_id": None}, "user_id", "Expected `str`, got `null`"),
        (MessageEdit, {"content": ""}, "content", "Expected `str` of length >= 1"),
        (PatchRoom, {"metadata": 1}, "metadata", None),
    ],
)
def test_the_culprit_is_named(
    record: type[msgspec.Struct], value: object, field: str | None, message: str | None
) -> None:
    with pytest.raises(ChatError) as refusal:
        convert(value, record)
    assert refusal.value.field == field
    if message is not None:
        assert refusal.value.message == message


def test_a_query_is_read_from_text() -> None:
    assert parse_query([("limit", "7"), ("other", "x"), ("other", "y")], PageQuery) == PageQuery(limit=7)
    assert parse_query([("after_seq", "3")], HistoryQuery) == HistoryQuery(after_seq=3)
    assert parse_query([("tenant_id", "7"), ("offset", "-0")], DeadLettersQuery) == DeadLettersQuery(
        tenant_id="7", offset=0
    )
    assert parse_query([("after_seq", str(MAX_INTEGER))], EventsQuery) == EventsQuery(after_seq=MAX_INTEGER)


NO_NUMBERS = [
    "",
    "x",
    "7.5",
    "7.0",
    "1e1",
    "1E1",
    "+5",
    " 5",
    "5 ",
    "5\n",
    "0x5",
    "0b1",
    "1_0",
    "007",
    "--5",
    "-",
    "true",
    "null",
    "NaN",
    "Infinity",
    "5,5",
    "5;",
    "0.5e1",
]
OTHER_DIGITS = [
    "\N{ARABIC-INDIC DIGIT FIVE}",
    "\N{FULLWIDTH DIGIT FIVE}",
    "\N{SUPERSCRIPT TWO}",
    "\N{ROMAN NUMERAL FIVE}",
]


@pytest.mark.parametrize(
    "text", [*NO_NUMBERS, *OTHER_DIGITS, "-1", "0", "101", str(MAX_INTEGER + 1), "9" * 40, "1" * 5_000]
)
def test_a_number_of_a_query_is_decimal_and_within_its_bounds(text: str) -> None:
    with pytest.raises(ChatError) as refusal:
        parse_query([("limit", text)], PageQuery)
    assert (refusal.value.status, refusal.value.field) == (400, "limit")
    if text != "0":
        with pytest.raises(ChatError) as refusal:
            parse_query([("after_seq", text if text != "101" else "-101")], HistoryQuery)
        assert (refusal.value.status, refusal.value.field) == (400, "after_seq")


def test_a_parameter_is_given_once() -> None:
    for values in (("7", "8"), ("7", "7"), ("7", "")):
        with pytest.raises(ChatError) as refusal:
            parse_query([("limit", value) for value in values], PageQuery)
        assert refusal.value.field == "limit"


@pytest.mark.parametrize("status", ["", "All", "all\n", " all", "none"])
def test_a_word_of_a_query_is_one_of_those_that_there_are(status: str) -> None:
    with pytest.raises(ChatError) as refusal:
        parse_query([("status", status)], NotificationsQuery)
    assert refusal.value.field == "status"


@given(st.text(CHARACTERS, max_size=130))
def test_user_ids_are_printable_ascii_without_spaces(user_id: str) -> None:
    is_good = 1 <= len(user_id) <= 128 and all("!" <= character <= "~" for character in user_id)
    with contextlib.nullcontext() if is_good else pytest.raises(ChatError, match=r"^Must be 1 to 128 characters"):
        convert({"user_id": user_id}, AddMember)
