"""Full-text search."""

from chatapi.protocol import search_records as records
from chatapi.protocol.fields import or_unset
from chatapi.protocol.json import encoded
from chatapi.protocol.pages import encode_cursor, read_window
from chatapi.rest.call import Call, Response, ok

START = (0,)
"""A sort key: a message's key."""


async def search_messages(call: Call[None, records.SearchQuery]) -> Response[records.SearchResults]:
    """Search messages, the newest first: in the caller's rooms, or in one that they may read."""
    query = call.query
    narrowed = (query.room_id or "", query.sender_id or "", query.after or "", query.before or "")
    scope = ("search", call.principal.tenant.tenant_id, call.principal.user_id, query.q, *narrowed)
    page = await call.services.search.find(call.principal, query, read_window(query, scope, START))
    cursor = encode_cursor((page.found[-1].message_key,), scope) if page.has_more and page.found else None
    return ok(
        records.SearchResults(
            results=[
                records.SearchResult(
                    message=encoded(found.message),
                    snippet=records.Snippet(text=found.snippet.text, hits=[list(hit) for hit in found.snippet.hits]),
                )
                for found in page.found
            ],
            has_more=cursor is not None,
            next_cursor=or_unset(cursor),
        )
    )
