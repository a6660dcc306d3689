"""The records with which a client catches up over HTTP alone: the cursors of an event stream, and long polls."""

import base64
import binascii
from typing import Annotated

import msgspec
from msgspec import Meta

from chatapi.errors import ChatError, invalid
from chatapi.protocol.answers import Answer, ErrorBody
from chatapi.protocol.fields import Epoch, HasMore, Position
from chatapi.protocol.frames import BadFrame, Sync, parse_frame
from chatapi.protocol.json import Encoded, dumps, loads
from chatapi.protocol.queries import Query
from chatapi.protocol.requests import NotificationIdText, RoomIdText
from chatapi.protocol.server_frames import LogEvent, NotificationFrame

EXAMPLE_ROOM = "room_5f3a9c0e71b24d6688aa10cf"
MAX_WAIT_SECONDS = 60  # a proxy's usual idle timeout is not shorter
MAX_CURSORS_CHARACTERS = 8 * 1024  # in a URL: about 150 rooms


class EventStreamQuery(Query, frozen=True):
    cursors: (
        Annotated[
            str,
            Meta(
                max_length=MAX_CURSORS_CHARACTERS,
                description="The client's own cursors: the JSON of a `sync` frame in base64url, padded or not. Rooms"
                " that it does not name begin at `last_ack`.",
                examples=["eyJ0eXBlIjoic3luYyIsInJvb21zIjp7fX0"],
            ),
        ]
        | None
    ) = None

    def read_cursors(self) -> tuple[Sync, str | None] | None:
        """The frame and its `request_id`, or None without one. Raises ChatError if there is another thing in it."""
        if self.cursors is None:
            return None
        try:
            text = self.cursors.encode("ascii").rstrip(b"=")
            fields = loads(base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True))
            if not isinstance(fields, dict) or fields.setdefault("type", "sync") != "sync":
                raise invalid("Must be the JSON of a sync frame")
            frame = parse_frame(dumps(fields))
        except (binascii.Error, UnicodeEncodeError):
            raise invalid("Must be base64url", "cursors") from None
        except BadFrame as bad:
            raise invalid(_explain(bad.error), "cursors") from None
        except ChatError as error:
            raise invalid(_explain(error), "cursors") from None
        assert isinstance(frame.body, Sync)
        return frame.body, frame.request_id


def _explain(error: ChatError) -> str:
    return error.message if error.field is None else f"{error.field}: {error.message}"


class SyncRequest(Sync, frozen=True):
    """`rooms` holds the client's own cursors: the last `seq` that it has seen in each room. Rooms that it does not name
    begin at `last_ack`."""

    wait: Annotated[
        int, Meta(ge=0, le=MAX_WAIT_SECONDS, description="seconds to wait for an event if there is none", examples=[0])
    ] = 0
    limit: Annotated[int, Meta(ge=1, le=1000, examples=[100])] = 100
    after_notification: NotificationIdText | None = None


class SkippedEvents(msgspec.Struct, frozen=True, kw_only=True):
    """Events that retention has removed, both ends included."""

    room_id: RoomIdText
    from_seq: Annotated[int, Meta(ge=1, examples=[1])]
    to_seq: Annotated[int, Meta(ge=1, examples=[40])]


class Synced(Answer, frozen=True, kw_only=True):
    """Events after the cursors, in order in each room, each in the shape of its frame. `rooms` is what to ask with next
    time: the rooms of the request, and those that had events."""

    epoch: Epoch
    events: Encoded[list[LogEvent]]
    rooms: Annotated[dict[RoomIdText, Position], Meta(examples=[{EXAMPLE_ROOM: 42}])]
    reset: Annotated[
        dict[RoomIdText, Position],
        Meta(description="rooms whose cursors cannot be right, and where they begin instead", examples=[{}]),
    ]
    gaps: list[SkippedEvents]
    notifications: Encoded[list[NotificationFrame]]
    errors: Annotated[dict[str, ErrorBody], Meta(description="rooms that the user may not read", examples=[{}])]
    has_more: HasMore
