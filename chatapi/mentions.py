"""Mentions: whom a message may mention."""

from collections.abc import Collection

from chatapi.errors import forbidden, invalid
from chatapi.models import NO_OPTIONAL_FIELDS, OptionalFields, Role, RoomType, UserId
from chatapi.room import RoomState


def check_mentions(
    room: RoomState,
    sender_id: UserId,
    given: Collection[str],
    optional: OptionalFields,
    before: OptionalFields = NO_OPTIONAL_FIELDS,
) -> None:
    """Judges the mentions that are written now; those that the message had `before` stay as they are.

    `given` is what the sender wrote, whose indexes an error names. Raises ChatError.
    """
    for index, user_id in enumerate(given):
        if user_id not in room.members and user_id not in before.mentions:
            raise invalid("Not a member of this room", f"mentions[{index}]")
    if optional.mention_room and not before.mention_room and not _may_mention_room(room, sender_id):
        raise forbidden("Only room admins may mention the whole room")


def _may_mention_room(room: RoomState, user_id: UserId) -> bool:
    return room.type is RoomType.DM or room.members[user_id].role is Role.ADMIN
