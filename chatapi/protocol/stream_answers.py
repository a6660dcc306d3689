"""The answers of REST that concern streams. See `protocol.answers`."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from chatapi.protocol.answers import Answer
from chatapi.protocol.fields import CancelRequested, StreamIndex
from chatapi.protocol.requests import MessageIdText


class Appended(Answer, frozen=True, kw_only=True):
    """Everything up to `index` is on disk."""

    index: StreamIndex
    cancel_requested: CancelRequested | UnsetType = UNSET


class CancelAccepted(Answer, frozen=True, kw_only=True):
    """The sender has been told, and decides."""

    message_id: MessageIdText
    cancel_requested: Annotated[bool, Meta(description="true", examples=[True])]
