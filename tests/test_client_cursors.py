"""The Python SDK's bookkeeping, without a socket: what is handed over, held or asked for again."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chatapi.client.cursors import MAX_HELD, MAX_SYNC_BYTES, CursorBook, RoomCursor
from chatapi.client.notification_book import REMEMBERED, NotificationBook


def event(seq: int) -> Any:
    return {"type": "message", "room_id": "room_a", "seq": seq}


def listed(room_id: str, last_ack: int, last_seq: int = 0) -> Any:
    return {"room_id": room_id, "type": "group", "last_seq": last_seq, "last_ack": last_ack, "last_read": 0}


def page(after_seq: int, last_seq: int, limit: int = 100) -> list[Any]:
    return [event(seq) for seq in range(after_seq + 1, min(after_seq + limit, last_seq) + 1)]


# One room


def test_the_next_event_is_handed_over_and_an_old_one_is_not() -> None:
    room = RoomCursor(4, is_member=True)
    assert room.take(event(5))
    assert not room.take(event(5))
    assert not room.take(event(4))
    assert not room.is_behind


def test_unknown_room_begins_with_the_first_event() -> None:
    room = RoomCursor(None, is_member=False)
    assert room.take(event(7))
    assert room.received == 7


def test_events_after_a_hole_wait_for_it() -> None:
    room = RoomCursor(1, is_member=True)
    assert not room.take(event(4))
    assert not room.take(event(5))
    assert not room.take(event(4))
    assert room.gap_end == 3
    assert [found["seq"] for found in room.take_page(page(1, 5), has_more=False)] == [2, 3]
    assert not room.has_gap
    assert [room.take_held()["seq"], room.take_held()["seq"]] == [4, 5]
    assert room.take(event(6))


def test_no_more_than_a_bound_is_held() -> None:
    room = RoomCursor(0, is_member=True)
    for seq in range(2, MAX_HELD + 4):
        room.take(event(seq))
    assert len(room.held) <= MAX_HELD
    assert room.gap_end + len(room.held) == MAX_HELD + 3


def test_hole_among_held_events_is_read_too() -> None:
    room = RoomCursor(0, is_member=True)
    room.take(event(3))
    room.take(event(6))
    assert not room.held
    assert room.gap_end == 6


def test_held_events_are_read_again_when_the_gap_moves() -> None:
    room = RoomCursor(0, is_member=True)
    room.take(event(3))
    room.skip_to(2)
    assert room.gap_end == 3


def test_events_removed_by_retention_are_not_waited_for() -> None:
    room = RoomCursor(0, is_member=True)
    room.skip_to(10)
    assert [found["seq"] for found in room.take_page([event(8), event(9)], has_more=False)] == [8, 9]
    assert room.received == 10
    assert not room.is_behind


def test_the_end_of_a_socket_forgets_the_gap() -> None:
    room = RoomCursor(1, is_member=True)
    room.take(event(5))
    room.is_filling = True
    room.interrupt()
    assert not room.is_behind
    assert not room.is_filling
    assert room.take(event(2))


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 7), st.integers(0, 3))
def test_any_order_of_arrival_is_handed_over_once_and_in_order(seqs: list[int], limit: int, start: int) -> None:
    """Whatever a server sends, and whenever the log is read, the application gets a run without hole or repetition."""
    room = RoomCursor(start, is_member=True)
    handed: list[int] = []
    newest = start
    for seq in seqs:
        newest = max(newest, seq)
        if room.take(event(seq)):
            handed.append(seq)
        if room.has_gap and seq % 2:
            handed += _read(room, newest, limit)
    while room.is_behind:
        handed += _read(room, newest, limit)
    assert handed == list(range(start + 1, newest + 1))


def _read(room: RoomCursor, last_seq: int, limit: int) -> list[int]:
    if not room.has_gap:
        return [room.take_held()["seq"]]
    assert room.received is not None
    events = page(room.received, last_seq, limit)
    return [found["seq"] for found in room.take_page(events, has_more=room.received + limit < last_seq)]


# All rooms


def test_only_cursors_that_differ_from_last_ack_are_named() -> None:
    book = CursorBook({"epoch": "e1", "rooms": {"room_a": 5, "room_b": 7}})
    assert book.take_ready("e1", [listed("room_a", 5), listed("room_b", 9), listed("room_c", 3)]) == {"room_b": 7}
    assert book.export() == {"epoch": "e1", "rooms": {"room_a": 5, "room_b": 7, "room_c": 3}}


def test_every_cursor_of_another_database_is_named() -> None:
    book = CursorBook({"epoch": "e1", "rooms": {"room_a": 5}})
    assert book.take_ready("e2", [listed("room_a", 5), listed("room_b", 2)]) == {"room_a": 5, "room_b": 2}
    assert not book.unacked


def test_a_sync_never_grows_beyond_a_frame() -> None:
    rooms = {f"room_{number:024}": 1 for number in range(5000)}
    named = CursorBook({"epoch": "e1", "rooms": rooms}).take_ready("e1", [listed(room_id, 0) for room_id in rooms])
    assert 1000 < len(named) < 5000
    assert sum(len(f'"{room_id}":9007199254740991,') for room_id in named) <= MAX_SYNC_BYTES


def test_reset_starts_at_the_acknowledged_seq() -> None:
    book = CursorBook({"epoch": "e1", "rooms": {"room_a": 50, "channel": 4}})
    book.take_ready("e2", [listed("room_a", 10), listed("room_b", 2)])
    before = book.rooms["room_a"]
    book.reset("e2", {"room_a": 10})
    assert book.export() == {"epoch": "e2", "rooms": {"room_a": 10, "room_b": 2}}
    book.handle("room_a", before, 51)  # what the application still held of the old log
    assert book.export()["rooms"]["room_a"] == 10
    assert list(book.take_acks()) == []


def test_a_room_that_is_listed_no_more_is_forgotten() -> None:
    book = CursorBook(None)
    book.take_ready("e1", [listed("room_a", 1), listed("room_b", 1)])
    book.take_ready("e1", [listed("room_b", 1)])
    assert list(book.rooms) == ["room_b"]


def test_acks_are_of_the_newest_handled_event_of_each_room() -> None:
    book = CursorBook(None)
    book.take_ready("e1", [listed("room_a", 0), listed("room_b", 5)])
    for seq in (1, 2, 3):
        book.handle("room_a", book.rooms["room_a"], seq)
    book.handle("room_b", book.rooms["room_b"], 5)
    assert list(book.take_acks()) == [("room_a", 3)]
    assert list(book.take_acks()) == []
    book.take_ready("e1", [listed("room_a", 1), listed("room_b", 5)])
    assert list(book.take_acks()) == [("room_a", 3)]  # the server has not heard of it


def test_channels_that_are_only_read_are_not_acknowledged() -> None:
    book = CursorBook(None)
    channel = book.note_last("channel", 3)
    assert channel.take(event(4))
    book.handle("channel", channel, 4)
    assert list(book.take_acks()) == []


# Notifications


def test_a_notification_is_new_once_and_acknowledged_again_when_it_comes_again() -> None:
    notifications = NotificationBook()
    assert notifications.take("notif_1")
    assert not notifications.take("notif_1")
    assert list(notifications.take_acks(handled=True)) == []
    notifications.handle("notif_1")
    assert list(notifications.take_acks(handled=True)) == ["notif_1"]
    assert not notifications.take("notif_1")
    assert list(notifications.take_acks(handled=True)) == ["notif_1"]


def test_without_automatic_acks_only_named_events_are_acknowledged() -> None:
    notifications = NotificationBook()
    notifications.take("notif_1")
    notifications.handle("notif_1")
    assert list(notifications.take_acks(handled=False)) == []
    notifications.acknowledge("notif_1")
    assert list(notifications.take_acks(handled=False)) == ["notif_1"]


def test_a_bounded_number_of_notifications_is_remembered() -> None:
    notifications = NotificationBook()
    for number in range(REMEMBERED + 1):
        notifications.take(f"notif_{number}")
    assert not notifications.take("notif_1")
    assert notifications.take("notif_0")
