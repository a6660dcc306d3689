"""The bodies of REST that concern streams: messages that are still being written. See `protocol.requests`."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from chatapi.errors import invalid
from chatapi.protocol.json import MAX_INTEGER, check_object_bytes
from chatapi.protocol.requests import MAX_OBJECT_BYTES, Body, JsonObject

MAX_APPEND_BYTES = 16 * 1024  # of UTF-8, in one append

AppendIndex = Annotated[
    int,
    Meta(
        ge=0,
        le=MAX_INTEGER,
        description="1 for the stream's first append, then each time one more; 0 only for a sign of life before it",
        examples=[1],
    ),
]
AppendText = Annotated[
    str,
    Meta(
        max_length=MAX_APPEND_BYTES,
        description="1 byte to 16 KiB of UTF-8; empty, with the last stored index, as a sign of life",
        examples=["Hello"],
    ),
]
EndState = Annotated[Literal["done", "cancelled", "failed"], Meta(examples=["done"])]


class StreamAppend(Body, frozen=True):
    index: AppendIndex
    text: AppendText

    def check(self) -> None:
        # Only long texts need the count of bytes: a character takes at most four.
        if len(self.text) * 4 > MAX_APPEND_BYTES and len(self.text.encode()) > MAX_APPEND_BYTES:
            raise invalid(f"Must be at most {MAX_APPEND_BYTES} bytes of UTF-8", "text")


class StreamEnding(Body, frozen=True):
    """An absent field stays as it was streamed; `meta: null` clears it."""

    state: EndState
    index: (
        Annotated[int, Meta(ge=0, le=MAX_INTEGER, description="the last stored one, if it is given", examples=[7])]
        | UnsetType
    ) = UNSET
    content: Annotated[str, Meta(description="in place of what was streamed")] | UnsetType = UNSET
    meta: JsonObject | UnsetType | None = UNSET

    def check(self) -> None:
        if self.meta is not UNSET:
            check_object_bytes(self.meta, "meta", MAX_OBJECT_BYTES)
