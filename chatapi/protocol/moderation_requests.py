"""The bodies and queries of REST that moderate a room. See `protocol.requests`."""

from enum import StrEnum
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from chatapi.errors import invalid
from chatapi.models import Role
from chatapi.protocol.queries import PageQuery
from chatapi.protocol.requests import Body

MAX_MUTE_SECONDS = 365 * 86400
MAX_BAN_SECONDS = 365 * 86400


class PatchMember(Body, frozen=True):
    """At least one of the two. An absent field stays unchanged."""

    role: Annotated[Role, Meta(examples=["admin"])] | UnsetType = UNSET
    muted_for: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=MAX_MUTE_SECONDS,
                description="seconds in which the member may read, but not post, edit, react or type; 0 ends it",
                examples=[600],
            ),
        ]
        | UnsetType
    ) = UNSET

    def check(self) -> None:
        if self.role is UNSET and self.muted_for is UNSET:
            raise invalid("Required, unless muted_for is given", "role")


class BanUser(Body, frozen=True):
    """Without `expires_in` the ban has no end."""

    reason: Annotated[str, Meta(max_length=500, examples=["spam"])] | None = None
    expires_in: Annotated[int, Meta(ge=1, le=MAX_BAN_SECONDS, description="seconds", examples=[86_400])] | None = None


class ReportMessage(Body, frozen=True):
    reason: Annotated[str, Meta(min_length=1, max_length=1000, examples=["insults me"])]


class ReportStatus(StrEnum):
    OPEN = "open"
    RESOLVED = "resolved"


class ReportsQuery(PageQuery, frozen=True):
    status: ReportStatus = ReportStatus.OPEN
