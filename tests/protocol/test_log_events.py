"""One list of the durable events, `LogEvent`: what else names each of them is held to it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from chatapi.cli.bench.scenarios import mixed
from chatapi.client import events, frames
from chatapi.protocol.server_frames import LOG_EVENTS, LOGGED, SERVER_FRAMES

ROOT = Path(__file__).parents[2]


def read(path: str, pattern: str) -> str:
    """The part of a file that the pattern's group matches."""
    found = re.search(pattern, (ROOT / path).read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None, path
    return found[1]


def list_keys(path: str, pattern: str) -> set[str]:
    return set(re.findall(r'^  "([^"]+)":', read(path, pattern), re.MULTILINE))


LISTS: dict[str, Callable[[], set[str]]] = {
    "types of the Python SDK": lambda: {
        get_args(event.__annotations__["type"])[0] for event in get_args(events.LogEvent)
    },
    "shapes of the Python SDK": lambda: set(frames._SHAPES),
    "shapes of the JavaScript SDK": lambda: list_keys("chatapi/web/sdk/chatapi.js", r"const FRAMES = {(.*?)\n};"),
    "the playground's room": lambda: set(
        re.findall(r'case "([^"]+)":', read("chatapi/web/sdk/room/pane.js", r"\n  #apply\(event\) {(.*?)\n  }"))
    ),
    "the playground's snippets": lambda: list_keys(
        "chatapi/web/playground/snippets.js", r"const RECEIVED = {(.*?)\n};"
    ),
    "the mixed load of the benchmark": lambda: {*mixed._LOGGED, "message"},
    "the contract": lambda: set(
        re.findall(r"`([a-z.]+)`", read("docs/contract.md", r"The events of a log are\n(.*? and `[a-z.]+`)\."))
    ),
}


def test_an_event_of_the_log_is_a_frame_with_a_room_and_a_seq() -> None:
    """By this rule clients tell them from others, whatever a later version adds."""
    with_both = {frame for frame in SERVER_FRAMES if {"room_id", "seq"} <= set(frame.__struct_fields__)}
    assert {frame for frame in with_both if frame.__struct_config__.tag not in frames.UNLOGGED} == set(LOG_EVENTS)


@pytest.mark.parametrize("where", LISTS)
def test_each_is_named_where_all_of_them_are(where: str) -> None:
    assert LISTS[where]() >= LOGGED
