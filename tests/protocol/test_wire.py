import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from texts import CHARACTERS

from chatapi.errors import ChatError, Code
from chatapi.models import UserId, encode_dm_key, encode_message_id, encode_time, find_key
from chatapi.protocol.answers import History, Message
from chatapi.protocol.encoders import (
    add_request_id,
    encode_envelope,
    encode_error_envelope,
    encode_error_frame,
    encode_frame,
    encode_message_frame,
    join_json,
    message_edited_frame,
    message_frame,
)
from chatapi.protocol.json import dumps, encoded, loads_stored
from chatapi.protocol.server_frames import NotificationFrame
from chatapi.protocol.wire import decode_text, encode_close, encode_pong, encode_text

TEXT = st.text(CHARACTERS, max_size=30)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | FLOATS | TEXT
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5))


def read_frame(data: bytes) -> tuple[int, bytes, bytes]:
    """By RFC 6455, section 5.2: opcode, payload, what follows."""
    size, start = data[1], 2
    if size == 126:
        size, start = int.from_bytes(data[2:4], "big"), 4
    elif size == 127:
        size, start = int.from_bytes(data[2:10], "big"), 10
    assert data[0] & 0xF0 == 0x80
    return data[0] & 0x0F, data[start : start + size], data[start + size :]


@given(st.binary(max_size=200) | st.sampled_from([b"x" * size for size in (125, 126, 127, 65535, 65536, 200_000)]))
def test_text_frame_is_as_the_rfc_says(payload: bytes) -> None:
    assert read_frame(encode_text(payload)) == (1, payload, b"")
    assert decode_text(encode_text(payload)) == payload


def test_the_shortest_length_is_used() -> None:
    assert [len(encode_text(b"x" * size)) - size for size in (0, 125, 126, 65535, 65536)] == [2, 2, 4, 4, 10]


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_frames_that_are_joined_come_apart_again(payloads: list[bytes]) -> None:
    data, seen = b"".join(encode_text(payload) for payload in payloads), []
    while data:
        _opcode, payload, data = read_frame(data)
        seen.append(payload)
    assert seen == payloads


@given(
    st.integers(1000, 4999),
    st.text(CHARACTERS, max_size=200) | st.integers(0, 5).map(lambda size: "x" * size + "ü" * 100),
)
def test_a_close_frame_fits_its_bound(code: int, reason: str) -> None:
    opcode, payload, rest = read_frame(encode_close(code, reason))
    assert (opcode, rest) == (8, b"")
    assert len(payload) <= 125
    assert int.from_bytes(payload[:2], "big") == code
    assert reason.startswith(payload[2:].decode())  # cut between characters


@given(st.binary(max_size=125))
def test_a_pong_repeats_its_payload(payload: bytes) -> None:
    assert read_frame(encode_pong(payload)) == (10, payload, b"")


# Replies


def body_of(frame: bytes) -> dict[str, object]:
    return dict(json.loads(decode_text(frame)))


def make_message(content: str | None = None, meta: object = None) -> Message:
    return Message(
        message_id="msg_1",
        room_id="r",
        seq=3,
        sender_id="u",
        content=content,
        meta=None if meta is None else encoded(dumps(meta)),
        reply_to=None,
        client_message_id=None,
        created_at=encode_time(0),
        edited_at=encode_time(1),
        deleted_at=None,
    )


@pytest.mark.slow
@given(TEXT, JSON)
def test_a_record_is_encoded_as_the_database_encodes_loose_values(text: str, value: object) -> None:
    """So that a message is the same bytes from memory and from the database: the two encoders differ in large
    floats, which stand only in what a client made up."""
    message = make_message(text, value)
    notification = NotificationFrame(
        notification_id="n", topic=text, payload=encoded(dumps(value)), created_at=encode_time(0)
    )
    for frame in (message_frame(message), message_edited_frame(message, 7), notification):
        data = decode_text(encode_frame(frame))
        assert data == dumps(loads_stored(data))
    answer = encode_envelope(message)
    assert answer == dumps({"success": True, "data": loads_stored(answer)["data"], "error": None})


@pytest.mark.parametrize("number", [b"1e+22", b"1.5e+300", b"1e16", b"-0.0", b"5e-324", b"1e-7", b"0.1", b"100.0"])
def test_a_number_of_a_client_stays_as_it_was_stored(number: bytes) -> None:
    message = msgspec.structs.replace(make_message(meta=None), meta=encoded(b'{"n":%s}' % number))
    assert b'"meta":{"n":%s}' % number in encode_frame(message_frame(message))


@given(TEXT, JSON, st.sampled_from([msgspec.UNSET, ["bob"]]), st.sampled_from([msgspec.UNSET, True]))
def test_the_frame_of_a_new_message_is_that_of_its_record(
    text: str, value: object, mentions: Any, mention_room: Any
) -> None:
    message = make_message(text, value)
    for new in (message, msgspec.structs.replace(message, mentions=mentions, mention_room=mention_room)):
        assert encode_message_frame(new) == encode_frame(message_frame(new))


def test_the_copy_with_a_request_id_is_otherwise_the_same() -> None:
    frame = encode_frame(message_frame(make_message("ü" * 100)))
    assert add_request_id(frame, None) is frame
    assert body_of(add_request_id(frame, "r")) == {**body_of(frame), "request_id": "r"}


def test_error_has_no_empty_fields() -> None:
    plain = ChatError(Code.NOT_FOUND, "Room not found")
    assert json.loads(encode_error_envelope(plain)) == {
        "success": False,
        "data": None,
        "error": {"code": "NOT_FOUND", "message": "Room not found"},
    }
    full = ChatError(Code.CONFLICT, "m", field="f", details={"room_id": "r"}, retry_after_s=0.0001)
    error = {"code": "CONFLICT", "message": "m", "field": "f", "details": {"room_id": "r"}}
    assert json.loads(encode_error_envelope(full))["error"] == error
    assert body_of(encode_error_frame(full, "q")) == {
        "type": "error",
        **error,
        "retry_after_ms": 1,
        "request_id": "q",
    }


def test_a_page_is_put_together_from_json() -> None:
    for items in ([], [b'{"a":1}', b"2"]):
        page = json.loads(encode_envelope(History(messages=join_json(items), has_more=bool(items))))
        assert page == {
            "success": True,
            "data": {"messages": [json.loads(item) for item in items], "has_more": bool(items)},
            "error": None,
        }


def test_a_message_has_every_field() -> None:
    assert body_of(encode_frame(message_frame(make_message()))) == {
        "type": "message",
        "message_id": "msg_1",
        "room_id": "r",
        "seq": 3,
        "sender_id": "u",
        "content": None,
        "meta": None,
        "reply_to": None,
        "client_message_id": None,
        "created_at": "1970-01-01T00:00:00.000000Z",
        "edited_at": "1970-01-01T00:00:00.000001Z",
        "deleted_at": None,
    }


# Ids and times


@given(st.integers(0, 2**63 - 1))
def test_an_id_is_found_again(key: int) -> None:
    assert find_key("msg_", encode_message_id(key)) == key
    assert find_key("notif_", encode_message_id(key)) is None


@given(st.text(CHARACTERS, max_size=24))
def test_nothing_else_is_an_id(text: str) -> None:
    for public_id in (text, f"msg_{text}"):
        key = find_key("msg_", public_id)
        assert key is None or encode_message_id(key) == public_id


def test_other_spellings_are_no_ids() -> None:
    for digits in (
        "+00000000000000f",
        "0000_00000000000",
        "000000000000000F",
        "f" * 16,
        " 00000000000000f",
        "\u0660" * 16,
    ):
        assert find_key("msg_", f"msg_{digits}") is None


@given(st.integers(0, 4_102_444_800_000_000))
def test_times_sort_as_text(time_us: int) -> None:
    earlier, later = encode_time(time_us), encode_time(time_us + 1)
    assert earlier < later
    assert len(earlier) == len("2025-12-13T12:00:00.123456Z")


USER_IDS = st.text("ab:|1/", min_size=1, max_size=6)


@given(USER_IDS, USER_IDS, USER_IDS, USER_IDS)
def test_two_dms_have_one_key_only_when_they_are_one(a: str, b: str, c: str, d: str) -> None:
    keys = encode_dm_key(UserId(a), UserId(b)), encode_dm_key(UserId(c), UserId(d))
    assert (keys[0] == keys[1]) is (sorted((a, b)) == sorted((c, d)))
    assert encode_dm_key(UserId(a), UserId(b)) == encode_dm_key(UserId(b), UserId(a))
