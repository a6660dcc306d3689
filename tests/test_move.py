"""A tenant moves between two running servers: nothing is lost or doubled, and exactly one of them serves it."""

import contextlib
import sqlite3
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from move_rig import MOVED, UNKNOWN, Gate, Pair, eventually_true, read_log

from chatapi.store.check import check_database


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.kill()


@pytest.mark.slow
def test_a_tenant_moves_there_and_back(pair: Pair) -> None:
    room = pair.call(pair.source, "POST", "/rooms", {"type": "group", "members": ["bob"]})
    path = f"/rooms/{room['room_id']}"
    for number in range(20):
        pair.call(
            pair.source, "POST", f"{path}/messages", {"content": f"m {number}", "client_message_id": f"c{number}"}
        )
    log = read_log(pair, pair.source, room["room_id"])
    here, there = pair.source, pair.target
    for round_number in range(4):
        status, moved = pair.move(here, there)
        assert (status, moved.get("state")) == (200, "moved"), moved
        assert pair.status(here) == MOVED
        assert read_log(pair, there, room["room_id"]) == log
        sent = pair.call(there, "POST", f"{path}/messages", {"content": f"after move {round_number}"}, user="bob")
        log.append({**read_log(pair, there, room["room_id"])[-1]})
        assert sent["seq"] == len(log)
        assert [event["seq"] for event in log] == list(range(1, len(log) + 1))
        here, there = there, here
    for server in pair.servers:
        server.stop()
    there_and_back = ["move begun", "move done", "arrive begun", "arrive done"] * 2
    assert read_acts(pair, "a") == there_and_back
    assert read_acts(pair, "b") == there_and_back[2:] + there_and_back[:2]
    for name in ("a", "b"):
        assert check_database(str(pair.directory / name / "chatapi.db")).findings == []


def read_acts(pair: Pair, name: str) -> list[str]:
    """What a server's audit says of moves. The server has ended."""
    with contextlib.closing(sqlite3.connect(pair.directory / name / "chatapi.db")) as connection:
        rows = connection.execute(
            "SELECT substr(action, 8) || ' ' || (details ->> 'outcome'), kind, target FROM audit"
            " WHERE action IN ('tenant.move', 'tenant.arrive') ORDER BY audit_key"
        ).fetchall()
    assert {target for _, _, target in rows} <= {pair.tenant_id}
    assert {kind for act, kind, _ in rows if act.startswith("move") or act.endswith("begun")} <= {"master"}
    assert {kind for act, kind, _ in rows if act in ("arrive done", "arrive given_up")} <= {"server"}
    return [act for act, _, _ in rows]


STEPS = [
    # The request between two durable writes, and whether S1 is on disk at that moment.
    ("/admin/arrivals", "before", False),
    ("/admin/arrivals", "after", False),
    ("/rows", "before", False),
    ("/rows", "after", False),
    ("/seal", "before", False),
    ("/seal", "after", False),
    ("/live", "before", True),
    ("/live", "after", True),
]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["source", "target", "network"])
@pytest.mark.parametrize(("action", "when", "is_moved"), STEPS)
def test_a_break_at_each_step_leaves_one_that_serves(
    pair: Pair, action: str, when: str, is_moved: bool, victim: str
) -> None:
    room = pair.call(pair.source, "POST", "/rooms", {"type": "group", "members": ["bob"]})
    path = f"/rooms/{room['room_id']}"
    for number in range(3):
        pair.call(
            pair.source, "POST", f"{path}/messages", {"content": f"m {number}", "client_message_id": f"c{number}"}
        )
    log = read_log(pair, pair.source, room["room_id"])
    killed = None if victim == "network" else pair.source if victim == "source" else pair.target
    with Gate(pair.target, action, when, killed.kill if killed is not None else lambda: None) as gate:
        moving = threading.Thread(target=lambda: pair.try_move(gate.url), daemon=True)
        moving.start()
        assert gate.stopped.wait(60), pair.answer
        if killed is not None:
            eventually_true(lambda: killed._process is None)
            killed.start()
        if is_moved:  # it goes on by itself
            eventually_true(lambda: pair.status(pair.source) == MOVED)
            assert read_log(pair, pair.target, room["room_id"]) == log
        else:
            eventually_true(lambda: pair.can_write(pair.source, path))
            assert pair.status(pair.target) == UNKNOWN
            log = read_log(pair, pair.source, room["room_id"])
            # The same again ends it.
            eventually_true(lambda: pair.try_move(gate.url) == 200, about=pair)
            assert pair.status(pair.source) == MOVED
            assert read_log(pair, pair.target, room["room_id"]) == log
        moving.join(60)
    pair.call(pair.target, "POST", f"{path}/messages", {"content": "goes on"}, user="bob")
    for server in pair.servers:
        server.stop()
    left, came = read_acts(pair, "a"), read_acts(pair, "b")
    assert left[-2:] == ["move begun", "move done"]
    assert came[-2:] == ["arrive begun", "arrive done"]
    assert came[:-2] == ["arrive begun", "arrive given_up"] * (len(came) // 2 - 1)
    assert len(left) == 2 or not is_moved
    if victim != "source":  # a source that is killed writes no end
        assert left[:-2] == ["move begun", "move given_up"] * (len(left) // 2 - 1)
    for name in ("a", "b"):
        assert check_database(str(pair.directory / name / "chatapi.db")).findings == []


ODD_ADDRESSES = (
    ("ftp://a", ""),
    ("http://a@b", ""),
    ("http://a", "?"),
    ("http://a", "#"),
    ("http://a", "/b c"),
    ("http://a", "\\"),
)


@pytest.mark.slow
def test_a_tenant_that_cannot_move_stays(pair: Pair) -> None:
    tenant_id = pair.tenant_id
    refused = [
        *(pair.move(pair.source, pair.target, f"{part}.example.com{rest}") for part, rest in ODD_ADDRESSES),
        pair.move(pair.source, pair.target, "http://127.0.0.1:1"),
        pair.move(pair.source, pair.source),
        pair.move(pair.source, pair.target, **{"X-To-Master-Key": "wrong"}),
    ]
    assert [status for status, _ in refused] == [400] * len(ODD_ADDRESSES) + [503, 409, 409]
    pair.tenant_id = "tenant_unknown"
    assert pair.move(pair.source, pair.target)[0] == 404
    pair.tenant_id = tenant_id
    assert pair.status(pair.source) == 200
    for path, secret in (("/admin/arrivals", ""), ("/admin/arrivals/arrival_0/live", "Bearer x")):
        headers = {"Authorization": secret, "Content-Type": "application/json"}
        request = urllib.request.Request(pair.target.url + path, b"{}", headers, method="POST")
        with pytest.raises(urllib.error.HTTPError, match=r"401|404"):
            urllib.request.urlopen(request, timeout=60)
    assert pair.move(pair.source, pair.target)[0] == 200
    assert pair.move(pair.source, pair.target)[0] == 200  # the same again
    status, error = pair.move(pair.source, pair.target, "http://elsewhere.example.com")
    assert (status, error["details"]) == (409, {"url": pair.target.url})
    made = pair.target.make_tenant("another")
    assert made["tenant_id"] != tenant_id
