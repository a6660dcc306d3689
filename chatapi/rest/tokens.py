"""User tokens, and tickets for one WebSocket."""

from chatapi.auth import TICKET_SECONDS
from chatapi.models import UserId, encode_time
from chatapi.protocol import answers
from chatapi.protocol import requests as req
from chatapi.rest.call import Call, Response, ok


async def mint_token(call: Call[req.MintToken, None]) -> Response[answers.UserToken]:
    """Make a user token, for a browser or an app."""
    user_id = call.principal.user_id if call.body.user_id is None else UserId(call.body.user_id)
    token, expires_at_us = call.services.auth.mint_token(call.principal.tenant, user_id, call.body.expires_in)
    return ok(answers.UserToken(token=token, user_id=user_id, expires_at=encode_time(expires_at_us)), 201)


async def mint_ticket(call: Call[None, None]) -> Response[answers.Ticket]:
    """Make a single-use ticket for one WebSocket."""
    ticket = call.services.auth.mint_ticket(call.principal)
    return ok(answers.Ticket(token=ticket, expires_in=TICKET_SECONDS))
