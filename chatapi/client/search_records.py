"""Results of a search. See `client.records`."""

from typing import NotRequired, TypedDict

from chatapi.client.records import Message


class Snippet(TypedDict):
    """A piece of a message's content. Each hit is [start, end) in code points of `text`, as Python counts."""

    text: str
    hits: list[list[int]]


class SearchResult(TypedDict):
    message: Message
    snippet: Snippet


class SearchPage(TypedDict):
    results: list[SearchResult]
    has_more: bool
    next_cursor: NotRequired[str]
