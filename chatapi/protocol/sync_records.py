"""The records with which a client catches up over HTTP alone: the cursors of an event stream."""

import base64
import binascii
from typing import Annotated

from msgspec import Meta

from chatapi.errors import ChatError, invalid
from chatapi.protocol.frames import BadFrame, Sync, parse_frame
from chatapi.protocol.json import dumps, loads
from chatapi.protocol.requests import Query

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
