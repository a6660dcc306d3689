"""Holds what the clients were told against the rooms' logs, as the last server has them."""

from collections import Counter
from typing import Any

from move_checker.journal import Journal

Log = list[dict[str, Any]]


def find_violations(journal: Journal, logs: dict[str, Log], listening: tuple[str, ...]) -> list[str]:
    found = list(journal.faults)
    for room, log in logs.items():
        found += _check_log(room, log)
        for who in listening:
            found += _check_heard(who, room, journal.clients[who].heard[room], len(log))
    for who, notes in journal.clients.items():
        stored = {room: {event["seq"]: event for event in log} for room, log in logs.items()}
        for room, seq, text in notes.confirmed:
            if stored[room].get(seq, {}).get("content") != text:
                found.append(f"lost: {who} was told that {text!r} is {seq} in {room}, which is {stored[room].get(seq)}")
        for room, message_id, text in notes.streamed:
            ends = [event for event in logs[room] if event["message_id"] == message_id]
            if not ends or ends[-1]["content"] != text:
                found.append(f"lost: {who}'s stream {message_id} in {room} reads {ends[-1:]}")
        found += _check_order(who, notes.confirmed)
    return found


def _check_log(room: str, log: Log) -> list[str]:
    found = []
    if [event["seq"] for event in log] != list(range(1, len(log) + 1)):
        found.append(f"the log of {room} has gaps: {[event['seq'] for event in log]}")
    names = Counter(
        (event["sender_id"], event["client_message_id"])
        for event in log
        if event["type"] == "message" and event.get("client_message_id")
    )
    found += [f"doubled: {name} stands {count} times in {room}" for name, count in names.items() if count > 1]
    return found


def _check_heard(who: str, room: str, heard: list[int], last: int) -> list[str]:
    """Each event once, in order."""
    if heard == list(range(1, last + 1)):
        return []
    missing = sorted(set(range(1, last + 1)) - set(heard))
    twice = [seq for seq, count in Counter(heard).items() if count > 1]
    return [f"{who} heard {len(heard)} of {last} events of {room}: missing {missing[:10]}, twice {twice[:10]}"]


def _check_order(who: str, confirmed: list[tuple[str, int, str]]) -> list[str]:
    """Each message of a client follows the one before it in the same room."""
    last: dict[str, int] = {}
    found = []
    for room, seq, text in confirmed:
        if seq <= last.get(room, 0):
            found.append(f"{who}'s {text!r} is {seq} in {room}, after {last[room]}")
        last[room] = seq
    return found
