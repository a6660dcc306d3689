"""The answers of REST that are about bans and reports. See `protocol.answers`."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from chatapi.protocol.answers import Answer, Message
from chatapi.protocol.fields import BanEnd, BanReason, HasMore, Never, NextCursor, ReportIdText, Time
from chatapi.protocol.json import Encoded
from chatapi.protocol.requests import RoomIdText, UserIdText


class Ban(Answer, frozen=True, kw_only=True):
    user_id: UserIdText
    reason: BanReason
    until: BanEnd
    created_by: UserIdText
    created_at: Time


class Bans(Answer, frozen=True, kw_only=True):
    """Those that are in force, the newest first."""

    bans: Encoded[list[Ban]]
    has_more: HasMore
    next_cursor: NextCursor | UnsetType = UNSET


class Reported(Answer, frozen=True, kw_only=True):
    report_id: ReportIdText


class Report(Answer, frozen=True, kw_only=True):
    """A user's report of a message, with the message as it was then."""

    report_id: ReportIdText
    status: Annotated[Literal["open", "resolved"], Meta(examples=["open"])]
    room_id: RoomIdText
    user_id: Annotated[UserIdText, Meta(description="the user who reported it", examples=["bob"])]
    reason: Annotated[str, Meta(examples=["insults me"])]
    message: Encoded[Message]
    created_at: Time
    resolved_by: Annotated[UserIdText | None, Meta(examples=[None])]
    resolved_at: Never


class ReportPage(Answer, frozen=True, kw_only=True):
    """The newest first."""

    reports: Encoded[list[Report]]
    has_more: HasMore
    next_cursor: NextCursor | UnsetType = UNSET
