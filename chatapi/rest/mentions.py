"""Messages that mention the user."""

from chatapi.mentions import MENTIONS_START
from chatapi.protocol import answers, queries
from chatapi.protocol.pages import read_keyed_window
from chatapi.rest.call import Call, Response, ok


async def list_mentions(call: Call[None, queries.MentionsQuery]) -> Response[answers.MentionPage]:
    """List the messages that mention the user, in all of their rooms, the newest first."""
    principal, query = call.principal, call.query
    scope = ("mentions", principal.tenant.tenant_id, principal.user_id)
    window = read_keyed_window(query.limit, query.cursor, scope, MENTIONS_START)
    before = query.before if isinstance(query.before, str) else None
    page = await call.services.mentions.list_page(principal, window, before)
    return ok(answers.MentionPage(messages=page.join(), has_more=page.has_more, next_cursor=page.next_cursor(scope)))
