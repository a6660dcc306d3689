"""Converts single values of the Go ChatAPI v0.1, which it hardly checked, to the form in which this server stores
them."""

import datetime
import re
from collections.abc import Mapping
from functools import lru_cache

from chatapi.config.tenant import TENANT_KINDS
from chatapi.models import Role, RoomType
from chatapi.protocol.json import dumps_text, loads_stored

MAX_ID_CHARS = 200  # of a room's or a tenant's id: longer ones cannot be asked for

_USER_ID = re.compile(rb"[!-~]{1,128}")
_HASH = re.compile(r"[0-9a-fA-F]{64}")

# SQLite's CURRENT_TIMESTAMP, RFC 3339, and how Go prints a time: `2025-01-02 03:04:05.123456789 +0100 CET m=+0.1`.
_TIME = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[T ](?P<time>\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d+))?"
    r" ?(?:Z|(?P<sign>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d))?(?: .*)?"
)


@lru_cache(maxsize=4096)  # many rows share a second
def parse_time(text: object) -> int | None:
    """Microseconds since the Unix epoch, or None if the text is not a time since then. Without a zone it is UTC."""
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(f"{match['date']}T{match['time']}+00:00")
    except ValueError:
        return None
    offset_s = 0
    if match["sign"]:
        offset_s = int(f"{match['sign']}1") * (int(match["hours"]) * 3600 + int(match["minutes"]) * 60)
    fraction_us = int((match["fraction"] or "0")[:6].ljust(6, "0"))
    time_us = (int(moment.timestamp()) - offset_s) * 1_000_000 + fraction_us
    return time_us if time_us >= 0 else None


def is_user_id(user_id: bytes | None) -> bool:
    return user_id is not None and _USER_ID.fullmatch(user_id) is not None


def is_public_id(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= MAX_ID_CHARS and "\0" not in text


def clean_text(text: object) -> str:
    """No string here contains U+0000."""
    return ("" if text is None else str(text)).replace("\0", "\ufffd")


def parse_key_hash(text: object) -> bytes | None:
    return bytes.fromhex(text) if isinstance(text, str) and _HASH.fullmatch(text) else None


def parse_role(text: object) -> Role:
    return Role.ADMIN if text in ("admin", "owner") else Role.MEMBER


def parse_room_type(text: object) -> RoomType | None:
    return RoomType(text) if isinstance(text, str) and text in RoomType.__members__.values() else None


def parse_json(text: object) -> object:
    """The value, or the text itself where that is not JSON."""
    try:
        return loads_stored(str(text))
    except ValueError:
        return clean_text(text)


def encode_object(text: object) -> tuple[str | None, bool]:
    """The JSON object to store, and whether it had to be wrapped: a value that is not an object is kept under the key
    `imported`."""
    if text is None or text == "":
        return None, False
    value = parse_json(text)
    if value is None:
        return None, False
    is_object = isinstance(value, dict)
    return dumps_text(value if is_object else {"imported": value}), not is_object


def split_config(text: object) -> tuple[dict[str, object], list[str]]:
    """The settings of a tenant's config that this server has, and the keys that it does not have.

    A webhook needs a secret that is shown when its URL is set, so that the operator has to do it.
    """
    config = parse_json(text or "{}")
    if not isinstance(config, Mapping):
        return {}, ["config"]
    known = {
        key: value
        for key, value in config.items()
        if key in TENANT_KINDS and key != "webhook_url" and TENANT_KINDS[key].accepts(value)
    }
    return known, [str(key) for key, value in config.items() if key not in known and value not in (None, "")]
