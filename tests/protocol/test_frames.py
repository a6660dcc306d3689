import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from texts import CHARACTERS

from chatapi.protocol.frames import CLIENT_FRAMES, BadFrame, Ping, SendMessage, Sync, parse_frame
from chatapi.protocol.requests import Body

GOOD: dict[str, dict[str, object]] = {
    "send_message": {
        "room_id": "r",
        "content": "c",
        "meta": {"k": 1},
        "reply_to": "m",
        "client_message_id": "i",
    },
    "message.edit": {"room_id": "r", "message_id": "m", "content": "c", "meta": None},
    "message.delete": {"room_id": "r", "message_id": "m"},
    "message.append": {"room_id": "r", "message_id": "m", "index": 1, "text": "t"},
    "message.finish": {"room_id": "r", "message_id": "m", "state": "done", "meta": None},
    "message.cancel": {"room_id": "r", "message_id": "m"},
    "reaction.add": {"room_id": "r", "message_id": "m", "emoji": ":ship:"},
    "reaction.remove": {"room_id": "r", "message_id": "m", "emoji": "👍🏽"},
    "ack": {"room_id": "r", "seq": 0},
    "read": {"room_id": "r", "seq": 1},
    "typing.start": {"room_id": "r"},
    "typing.stop": {"room_id": "r"},
    "subscribe": {"room_id": "r"},
    "unsubscribe": {"room_id": "r"},
    "sync": {"epoch": "e", "rooms": {"r": 0, "s": 7}},
    "notification.ack": {"notification_id": "n"},
    "ping": {},
}


def encode(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_every_frame_is_tried_here() -> None:
    assert set(GOOD) == set(CLIENT_FRAMES)


@pytest.mark.parametrize("frame_type", GOOD)
def test_a_frame_is_the_same_flat_and_nested(frame_type: str) -> None:
    fields = GOOD[frame_type]
    flat = parse_frame(encode(type=frame_type, request_id="q", unknown=1, **fields))
    nested = parse_frame(encode(type=frame_type, request_id="q", data={**fields, "unknown": 1}))
    inner = parse_frame(encode(type=frame_type, data={**fields, "request_id": "q"}))
    assert flat == nested == inner
    assert (flat.type, flat.request_id, type(flat.body)) == (frame_type, "q", CLIENT_FRAMES[frame_type])
    for name, value in fields.items():
        assert getattr(flat.body, name) == value


@pytest.mark.parametrize("frame_type", GOOD)
def test_each_needed_field_is_missed_by_name(frame_type: str) -> None:
    optional = {"meta", "reply_to", "client_message_id", "epoch", "rooms"}
    for name in GOOD[frame_type].keys() - optional:
        fields = {key: value for key, value in GOOD[frame_type].items() if key != name}
        with pytest.raises(BadFrame) as bad:
            parse_frame(encode(type=frame_type, request_id="q", **fields))
        assert (bad.value.error.field, bad.value.request_id) == (name, "q")
        assert bad.value.error.message.startswith("Required")


@pytest.mark.parametrize("bad", ['"a\\u0000"', '"a\\ud83d"', "9007199254740992", "[" * 40 + "]" * 40])
def test_json_out_of_bounds_is_answered_with_its_request_id(bad: str) -> None:
    for payload in (
        f'{{"type":"ping","x":{bad},"request_id":"q"}}',
        f'{{"type":"ping","data":{{"request_id":"q","x":{bad}}}}}',
    ):
        with pytest.raises(BadFrame) as refusal:
            parse_frame(payload.encode())
        assert refusal.value.request_id == "q"


def test_half_a_pair_of_surrogates_is_refused_by_the_field_that_has_it() -> None:
    for payload, field, request_id in (
        (b'{"type":"message.append","request_id":"q","room_id":"r","message_id":"m","text":"\\ud83d"}', "text", "q"),
        (b'{"type":"ping","request_id":"\\ud83d"}', "request_id", None),
    ):
        with pytest.raises(BadFrame) as bad:
            parse_frame(payload)
        assert (bad.value.error.field, bad.value.request_id) == (field, request_id)


def test_optional_fields_have_their_defaults() -> None:
    assert parse_frame(encode(type="send_message", room_id="r", content="c")).body == SendMessage(
        room_id="r", content="c"
    )
    assert parse_frame(encode(type="sync")).body == Sync(epoch=None, rooms={})
    assert parse_frame(b'{"type":"ping"}').body == Ping()


@given(st.binary(max_size=80))
def test_any_bytes_are_a_frame_or_a_bad_one(payload: bytes) -> None:
    with contextlib.suppress(BadFrame):  # and nothing else is raised
        assert isinstance(parse_frame(payload).body, Body)


VALUES = (
    st.none() | st.booleans() | st.integers() | st.text(CHARACTERS, max_size=5) | st.lists(st.integers(), max_size=2)
)


@pytest.mark.slow
@given(
    st.sampled_from(sorted(GOOD)),
    st.dictionaries(st.sampled_from(["room_id", "seq", "content", "meta", "rooms", "epoch", "data"]), VALUES),
    st.text("abc", max_size=64),
)
def test_request_id_comes_back_for_any_other_fields(
    frame_type: str, fields: dict[str, object], request_id: str
) -> None:
    payload = encode(**{"type": frame_type, "request_id": request_id, **GOOD[frame_type], **fields})
    try:
        answered = parse_frame(payload).request_id
    except BadFrame as bad:
        answered = bad.request_id
    assert answered == request_id
