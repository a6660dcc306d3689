"""Pinned messages."""

from chatapi.protocol import answers, queries
from chatapi.rest.call import NO_CONTENT, Call, Response, ok


async def pin_message(call: Call[None, None]) -> Response[answers.Message]:
    """Pin a message. For the room's admins, in a dm for both. Pinning it again changes nothing."""
    message = await call.services.pins.pin(call.principal, call.path["room_id"], call.path["message_id"])
    return ok(message)


async def unpin_message(call: Call[None, None]) -> Response[None]:
    """Unpin a message. For the room's admins, in a dm for both. Where it is not pinned, nothing changes."""
    await call.services.pins.unpin(call.principal, call.path["room_id"], call.path["message_id"])
    return NO_CONTENT


async def list_pins(call: Call[None, queries.PageQuery]) -> Response[answers.PinnedMessages]:
    """List a room's pinned messages, the newest pin first."""
    page, next_cursor = await call.services.pins.list_page(call.principal, call.path["room_id"], call.query)
    return ok(answers.PinnedMessages(messages=page.join(), has_more=page.has_more, next_cursor=next_cursor))
