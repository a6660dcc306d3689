"""Reactions to messages."""

from chatapi.protocol import answers, queries
from chatapi.protocol import requests as req
from chatapi.rest.call import NO_CONTENT, Call, Response, ok


async def add_reaction(call: Call[None, None]) -> Response[answers.MessageReactions]:
    """React to a message with an emoji. Reacting again changes nothing."""
    path = call.path
    reactions = await call.services.reactions.add(
        call.principal, path["room_id"], path["message_id"], req.parse_emoji(path["emoji"])
    )
    return ok(answers.MessageReactions(reactions=reactions))


async def remove_reaction(call: Call[None, None]) -> Response[None]:
    """Take one's own reaction back. Where there is none, nothing changes."""
    path = call.path
    await call.services.reactions.remove(
        call.principal, path["room_id"], path["message_id"], req.parse_emoji(path["emoji"])
    )
    return NO_CONTENT


async def list_reactions(call: Call[None, queries.ReactionsQuery]) -> Response[answers.ReactionPage]:
    """List the reactions to a message, with any emoji or with one, in the order of reacting."""
    page, next_cursor = await call.services.reactions.list_page(
        call.principal, call.path["room_id"], call.path["message_id"], call.query
    )
    return ok(answers.ReactionPage(reactions=page.join(), has_more=page.has_more, next_cursor=next_cursor))
