"""The bodies and queries of REST that are about users. See `protocol.requests`."""

from typing import Annotated, ClassVar
from urllib.parse import unquote, unquote_plus

from msgspec import UNSET, Meta, UnsetType

from chatapi.errors import invalid
from chatapi.models import UserId
from chatapi.protocol.json import check_object_bytes
from chatapi.protocol.queries import Limit, Offset, PageCursor, PageQuery, Prefix, Query
from chatapi.protocol.requests import MAX_OBJECT_BYTES, Body, JsonObject, parse_user_id

MAX_USER_IDS = 100  # of one look at profiles

UserName = Annotated[str, Meta(min_length=1, max_length=200, examples=["Alice Archer"])]
AvatarUrl = Annotated[
    str,
    Meta(
        pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s/?#][^\s]*$(?!\n)",
        max_length=2048,
        description="an http or https URL",
        examples=["https://cdn.example.com/alice.png"],
    ),
]


class PutUser(Body, frozen=True):
    """An absent field stays unchanged, null clears it."""

    name: UserName | UnsetType | None = UNSET
    avatar_url: AvatarUrl | UnsetType | None = UNSET
    metadata: JsonObject | UnsetType | None = UNSET

    def check(self) -> None:
        if self.metadata is not UNSET:
            check_object_bytes(self.metadata, "metadata", MAX_OBJECT_BYTES)


class UsersQuery(Query, frozen=True):
    """Either `ids`, each of them percent-encoded before they are joined with commas, or `q`."""

    encoded: ClassVar = frozenset(("ids",))

    limit: Annotated[Limit, Meta(description="with ids 100 by default, with q 50")] | UnsetType = UNSET
    offset: Offset | UnsetType = UNSET
    cursor: PageCursor | UnsetType = UNSET
    ids: Annotated[str, Meta(description="up to 100 user ids", examples=["alice,bob"])] | UnsetType = UNSET
    q: Annotated[Prefix, Meta(description="the beginning of the name or of the user id")] | UnsetType = UNSET

    def check(self) -> None:
        self.page(MAX_USER_IDS).check()
        if (self.ids is UNSET) is (self.q is UNSET):
            raise invalid("Give either ids or q", "ids" if self.q is UNSET else "q")

    def page(self, default_limit: int) -> PageQuery:
        limit = self.limit if isinstance(self.limit, int) else default_limit
        return PageQuery(limit=limit, offset=self.offset, cursor=self.cursor)

    def parse_ids(self) -> list[UserId]:
        """The ids, each once, in their order. Raises ChatError, which names `ids[i]`."""
        text = str(self.ids)  # as it was sent: many clients encode the whole once more, commas included
        parts = [unquote_plus(part) for part in text.split(",")] if "," in text else unquote_plus(text).split(",")
        if len(parts) > MAX_USER_IDS:
            raise invalid(f"Must name at most {MAX_USER_IDS} users", "ids")
        ids = [parse_user_id(unquote(part), f"ids[{index}]") for index, part in enumerate(parts)]
        return list(dict.fromkeys(ids))
