import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapi.models import RoomType
from chatapi.store.go.values import (
    encode_object,
    is_public_id,
    is_user_id,
    parse_key_hash,
    parse_role,
    parse_room_type,
    parse_time,
    split_config,
)

EPOCH = datetime.datetime(1970, 1, 1)  # noqa: DTZ001 - written without a zone, which means UTC


@pytest.mark.parametrize(
    ("text", "time_us"),
    [
        ("1970-01-01 00:00:00", 0),
        ("2024-03-01 10:00:00", 1709287200000000),
        ("2024-03-01T10:00:00Z", 1709287200000000),
        ("2024-03-01T10:00:00.123456789Z", 1709287200123456),
        ("2024-03-01 10:00:00.5", 1709287200500000),
        ("2024-03-01T12:00:00+02:00", 1709287200000000),
        ("2024-03-01 05:30:00.000001-0430", 1709287200000001),
        ("2024-03-01 10:00:00.123456789 +0000 UTC", 1709287200123456),
        ("2024-03-01 11:00:00 +0100 CET m=+0.000012345", 1709287200000000),
        ("0001-01-01T00:00:00Z", None),
        ("2024-13-01 10:00:00", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (1709287200, None),
        (b"2024-03-01 10:00:00", None),
    ],
)
def test_times(text, time_us):
    assert parse_time(text) == time_us


@given(st.datetimes(min_value=EPOCH))
def test_any_time_is_read_as_it_was_written(moment):
    time_us = parse_time(moment.isoformat(" ", "microseconds"))
    assert time_us is not None
    assert EPOCH + datetime.timedelta(microseconds=time_us) == moment


@pytest.mark.parametrize(
    ("text", "stored", "is_wrapped"),
    [
        (None, None, False),
        ("", None, False),
        ("null", None, False),
        ("{}", "{}", False),
        ('{"a": [1, {"b": null}]}', '{"a":[1,{"b":null}]}', False),
        ("[1]", '{"imported":[1]}', True),
        ("12", '{"imported":12}', True),
        ("{not JSON", '{"imported":"{not JSON"}', True),
    ],
)
def test_objects(text, stored, is_wrapped):
    assert encode_object(text) == (stored, is_wrapped)


def test_ids():
    assert [is_user_id(user_id) for user_id in (b"a", b"a:|@/", b"x" * 128)] == [True] * 3
    assert [is_user_id(user_id) for user_id in (b"", b"a b", b"x" * 129, b"a\n", "é".encode(), b"\xff", None)] == [
        False
    ] * 7
    assert [is_public_id(text) for text in ("room", "x" * 200, "", "x" * 201, "a\0b", None)] == [True, True] + [
        False
    ] * 4


def test_hashes():
    assert parse_key_hash("ab" * 32) == bytes.fromhex("ab" * 32)
    assert [parse_key_hash(text) for text in ("ab" * 31, "sk_plain", "zz" * 32, "", None)] == [None] * 5


def test_roles_and_types():
    assert [parse_role(role) for role in ("admin", "owner", "member", "guest", None)] == [
        "admin",
        "admin",
        "member",
        "member",
        "member",
    ]
    assert [parse_room_type(text) for text in ("dm", "group", "channel", "thread", None)] == [*RoomType, None, None]


def test_config_keeps_the_keys_that_hold_here():
    kept, dropped = split_config(
        '{"rate_limit": 5, "max_message_bytes": -1, "webhook_url": "https://a.example", "x": null}'
    )
    assert kept == {"rate_limit": 5}
    assert dropped == ["max_message_bytes", "webhook_url"]
    assert split_config(None) == ({}, [])
    assert split_config("[]") == ({}, ["config"])
    assert split_config("not JSON") == ({}, ["config"])
