"""Messages and edits in the form in which the server takes them, over either transport."""

from typing import Any

from msgspec import UNSET

from chatapi.client.pending import new_id
from chatapi.client.records import Json


def given(**fields: Any) -> Json:
    """Those fields that are not UNSET."""
    return {name: value for name, value in fields.items() if value is not UNSET}


def write_flag(value: bool | None) -> str | None:
    """For a query."""
    return None if value is None else "true" if value else "false"


def draft(
    content: str,
    *,
    meta: Json | None,
    reply_to: str | None,
    client_message_id: str | None,
    mentions: list[str] | None,
    mention_room: bool,
    thread_id: str | None,
    stream: bool = False,
) -> Json:
    """A message to be sent. Fields that not every message has are there only if they say something."""
    fields: Json = {
        "content": content,
        "meta": meta,
        "reply_to": reply_to,
        "client_message_id": client_message_id or new_id(),
    }
    if mentions:
        fields["mentions"] = mentions
    if thread_id is not None:
        fields["thread_id"] = thread_id
    if mention_room:
        fields["mention_room"] = True
    if stream:
        fields["stream"] = True
    return fields
