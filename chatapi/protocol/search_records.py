"""The query and the answer of a search. See `protocol.requests` and `protocol.answers`."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from chatapi.protocol.answers import Answer, Message
from chatapi.protocol.fields import HasMore, NextCursor
from chatapi.protocol.json import Encoded
from chatapi.protocol.queries import PageQuery
from chatapi.protocol.requests import RoomIdText, UserIdText

MAX_SEARCH_CHARACTERS = 256
MAX_SEARCH_OFFSET = 1000  # each result that is passed over has to be looked at; a cursor passes over none

Hit = Annotated[list[int], Meta(min_length=2, max_length=2)]

SearchTime = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        description="any time of RFC 3339; a message of exactly then is not found",
        examples=["2025-12-13T12:00:00Z"],
        extra_json_schema={"format": "date-time"},
    ),
]


class SearchQuery(PageQuery, frozen=True, kw_only=True):
    q: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MAX_SEARCH_CHARACTERS,
            description='words, "phrases" and prefix*: a message is found if it has all of them, at most 16',
            examples=['lighthouse "next week" keep*'],
        ),
    ]
    room_id: RoomIdText | None = None
    sender_id: UserIdText | None = None
    after: SearchTime | None = None
    before: SearchTime | None = None
    offset: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=MAX_SEARCH_OFFSET,
                description="number of results to pass over",
                extra_json_schema={"default": 0},
            ),
        ]
        | UnsetType
    ) = UNSET


class Snippet(Answer, frozen=True, kw_only=True):
    """An unchanged piece of the content, of at most 240 code points, and where in it the hits are."""

    text: Annotated[str, Meta(examples=["The lighthouse is open next week"])]
    hits: Annotated[
        list[Hit],
        Meta(description="[start, end) in code points of `text`, in their order", examples=[[[4, 14]]]),
    ]


class SearchResult(Answer, frozen=True, kw_only=True):
    message: Encoded[Message]
    snippet: Snippet


class SearchResults(Answer, frozen=True, kw_only=True):
    """The newest message first."""

    results: list[SearchResult]
    has_more: HasMore
    next_cursor: NextCursor | UnsetType = UNSET
