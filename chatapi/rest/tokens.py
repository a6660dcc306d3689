"""User tokens, and tickets for one WebSocket."""

from chatapi.auth import TICKET_SECONDS
from chatapi.models import UserId, encode_time
from chatapi.protocol import requests as req
from chatapi.protocol import responses as res
from chatapi.rest.call import Call, Reply, ok


async def mint_token(call: Call[req.MintToken, None]) -> Reply[res.UserToken]:
    """Make a user token, for a browser or an app."""
    user_id = call.principal.user_id if call.body.user_id is None else UserId(call.body.user_id)
    token, expires_at_us = call.services.auth.mint_token(call.principal.tenant, user_id, call.body.expires_in)
    return ok(res.UserToken(token=token, user_id=user_id, expires_at=encode_time(expires_at_us)), 201)


async def mint_ticket(call: Call[None, None]) -> Reply[res.Ticket]:
    """Make a single-use ticket for one WebSocket."""
    ticket = call.services.auth.mint_ticket(call.principal)
    return ok(res.Ticket(token=ticket, expires_in=TICKET_SECONDS))
