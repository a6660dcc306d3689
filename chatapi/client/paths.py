"""The paths of REST calls, escaped."""

from urllib.parse import quote


def escape(part: str) -> str:
    """One part of a path."""
    return quote(part, safe="")


def room_path(room_id: str) -> str:
    return f"/rooms/{escape(room_id)}"


def member_path(room_id: str, user_id: str) -> str:
    return f"{room_path(room_id)}/members/{escape(user_id)}"


def message_path(room_id: str, message_id: str) -> str:
    return f"{room_path(room_id)}/messages/{escape(message_id)}"


def reaction_path(room_id: str, message_id: str, emoji: str) -> str:
    return f"{message_path(room_id, message_id)}/reactions/{escape(emoji)}"


def pin_path(room_id: str, message_id: str) -> str:
    return f"{room_path(room_id)}/pins/{escape(message_id)}"


def ban_path(room_id: str, user_id: str) -> str:
    return f"{room_path(room_id)}/bans/{escape(user_id)}"
