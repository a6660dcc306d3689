"""The query strings of REST: one record for each, with its bounds, as of the bodies in `requests`."""

import re
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from typing import Annotated, ClassVar, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType, inspect

from chatapi.errors import invalid
from chatapi.protocol.json import MAX_INTEGER, convert
from chatapi.protocol.requests import (
    EmojiText,
    PublicId,
    Seq,
    TenantIdText,
    check_emoji,
)

Prefix = Annotated[str, Meta(min_length=1, max_length=100, examples=["ali"])]
Limit = Annotated[int, Meta(ge=1, le=100)]
Offset = Annotated[
    int,
    Meta(ge=0, le=MAX_INTEGER, description="number of items to pass over", extra_json_schema={"default": 0}),
]
PageCursor = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=1000,
        description="the `next_cursor` of the page before: the list goes on after its last item",
    ),
]


class Query(msgspec.Struct, frozen=True):
    """A request's query string. The parameters that `encoded` names are taken as they were sent."""

    encoded: ClassVar[frozenset[str]] = frozenset()

    def check(self) -> None:
        return


Q = TypeVar("Q", bound=Query)

_WHOLE_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,29})").fullmatch  # more digits than any bound has


def parse_query(parameters: Iterable[tuple[str, str]], record: type[Q]) -> Q:
    """The record of a query string's names and values; names that it does not know are ignored. Raises ChatError."""
    find = _find_kinds(record).get
    values: dict[str, str | int] = {}
    for name, text in parameters:
        kind = find(name)
        if kind is None:
            continue
        if name in values:
            raise invalid("Must not be given more than once", name)
        if kind is str:
            values[name] = text
        elif kind is int:
            if not _WHOLE_NUMBER(text):
                raise invalid("Must be a whole number in decimal digits", name)
            values[name] = int(text)
        elif text in _TRUTHS:
            values[name] = _TRUTHS[text]
        else:
            raise invalid("Must be true or false", name)
    query = convert(values, record)
    query.check()
    return query


_TRUTHS = {"true": True, "false": False}


@cache
def _find_kinds(record: type[Query]) -> dict[str, type]:
    """Whether each parameter is a number, true or false, or text."""
    described = inspect.type_info(record)
    assert isinstance(described, inspect.StructType)
    return {field.encode_name: _find_kind(field.type) for field in described.fields}


def _find_kind(described: inspect.Type) -> type:
    if isinstance(described, inspect.Metadata):
        return _find_kind(described.type)
    if isinstance(described, inspect.UnionType):
        return next((kind for kind in map(_find_kind, described.types) if kind is not str), str)
    return int if isinstance(described, inspect.IntType) else bool if isinstance(described, inspect.BoolType) else str


class PageQuery(Query, frozen=True):
    """`cursor` or `offset` says where the page begins; without either it is the first page."""

    limit: Limit = 50
    offset: Offset | UnsetType = UNSET
    cursor: PageCursor | UnsetType = UNSET

    def check(self) -> None:
        if self.cursor is not UNSET and self.offset is not UNSET:
            raise invalid("Give either cursor or offset, not both", "cursor")


class MembersQuery(PageQuery, frozen=True):
    q: Annotated[Prefix, Meta(description="the beginning of the user id or of the name")] | UnsetType = UNSET


class AdminPageQuery(PageQuery, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50


class RoomsQuery(PageQuery, frozen=True):
    hidden: Annotated[bool, Meta(description="true: with the rooms that the user has hidden")] = False


class MentionsQuery(Query, frozen=True):
    """`cursor` or `before` says where the page begins; without either it is the first page."""

    limit: Limit = 50
    before: Annotated[PublicId, Meta(description="a message_id: only messages before it")] | UnsetType = UNSET
    cursor: PageCursor | UnsetType = UNSET

    def check(self) -> None:
        if self.cursor is not UNSET and self.before is not UNSET:
            raise invalid("Give either cursor or before, not both", "cursor")


class HistoryQuery(Query, frozen=True):
    after_seq: Seq | None = None
    before_seq: Seq | None = None
    limit: Limit = 50
    thread_id: Annotated[PublicId, Meta(description="only the replies to this message")] | None = None
    top_level: Annotated[bool, Meta(description="true: only messages that are no replies")] | UnsetType = UNSET

    def check(self) -> None:
        if self.after_seq is not None and self.before_seq is not None:
            raise invalid("Give either after_seq or before_seq, not both", "before_seq")
        if self.thread_id is not None and self.top_level is not UNSET:
            raise invalid("Give either thread_id or top_level, not both", "top_level")


class PipeQuery(Query, frozen=True):
    reply_to: PublicId | None = None
    thread_id: Annotated[PublicId, Meta(description="a message of the room that is no reply itself")] | None = None


class ReactionsQuery(PageQuery, frozen=True):
    emoji: EmojiText | UnsetType = UNSET

    def check(self) -> None:
        super().check()
        if self.emoji is not UNSET:
            check_emoji(self.emoji)


class EventsQuery(Query, frozen=True):
    after_seq: Seq = 0
    limit: Limit = 50


class StatusFilter(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    ALL = "all"


class NotificationsQuery(PageQuery, frozen=True):
    status: StatusFilter = StatusFilter.ALL


class CompactQuery(Query, frozen=True):
    database: (
        Annotated[
            str,
            Meta(
                pattern=r"^[0-9]{1,20}:[0-9]{1,20}$(?!\n)",
                description="device and inode of the database's file: another one is left alone",
                examples=["64769:1310847"],
            ),
        ]
        | UnsetType
    ) = UNSET


class DeadLettersQuery(AdminPageQuery, frozen=True):
    tenant_id: TenantIdText | None = None
