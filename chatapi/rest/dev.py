"""The routes of `serve --dev` and `--test`, for those who test against the server (docs/testing.md)."""

import asyncio
from collections.abc import Mapping

from aiohttp import web

from chatapi.dev_tools import DevTools, InboxCall
from chatapi.errors import ChatError, Code, invalid
from chatapi.models import encode_time
from chatapi.protocol import dev_records as dev
from chatapi.protocol.json import encoded, loads
from chatapi.rest.call import NO_CONTENT, OpenCall, RawRoute, Response, ok
from chatapi.services import Services
from chatapi.tenants import DEV_TENANT_ID
from chatapi.webhooks.signing import list_secrets, verify

HOOK = "/dev/hook"
BODY_SECONDS = 10.0  # for a call to arrive: the server sends it itself


def _tools(services: Services) -> DevTools:
    assert services.dev is not None  # else no such route is served
    return services.dev


def _show_time(services: Services) -> Response[dev.DevTime]:
    clock = _tools(services).clock
    return ok(dev.DevTime(now=encode_time(clock.now_us()), advanced=clock.advanced_s))


async def get_clock(call: OpenCall[None, None]) -> Response[dev.DevTime]:
    """Get the server's time."""
    return _show_time(call.services)


async def advance_clock(call: OpenCall[dev.AdvanceClock, None]) -> Response[dev.DevTime]:
    """Advance the clock. All that is due within that time has happened, in order, when the answer comes."""
    clock = _tools(call.services).clock
    if clock.advanced_s + call.body.advance > dev.MAX_ADVANCE_SECONDS:
        years = dev.MAX_ADVANCE_SECONDS // (365 * 86_400)
        raise invalid(f"The clock would be more than {years} years ahead: a reset sets it back", "advance")
    await clock.advance(call.body.advance)
    return _show_time(call.services)


async def reset(call: OpenCall[None, None]) -> Response[None]:
    """Remove everything but the printed tenant and its keys. The clock is set back, and connections close with 1001."""
    await _tools(call.services).reset()
    return NO_CONTENT


async def list_webhooks(call: OpenCall[None, None]) -> Response[dev.WebhookCallsTaken]:
    """List the webhook calls that `/dev/hook` has taken, the oldest first."""
    return ok(
        dev.WebhookCallsTaken(
            calls=[
                dev.WebhookCallTaken(
                    id=taken.webhook_id,
                    type=taken.type,
                    body=encoded(taken.body),
                    valid=taken.is_valid,
                    at=encode_time(taken.at_us),
                )
                for taken in _tools(call.services).inbox.list_calls()
            ]
        )
    )


async def take_webhook(
    services: Services, request: web.BaseRequest, _path: Mapping[str, str], headers: dict[str, str]
) -> web.StreamResponse:
    """Keeps a webhook call, and says of it whether the printed tenant's secret signed it. Raises ChatError if the body
    is not that of a webhook."""
    body = await _read(request)
    call = loads(body)
    call_type = call.get("type") if isinstance(call, dict) else None
    if not isinstance(call_type, str):
        raise invalid("Must be the name of an event", "type")
    now_us = services.clock.now_us()
    tenant = services.tenants.find(DEV_TENANT_ID)
    secrets = [] if tenant is None else list_secrets(tenant, now_us)
    is_valid = verify(secrets, request.headers, body, now_us // 1_000_000)
    webhook_id = request.headers.get("webhook-id", "")
    _tools(services).inbox.add(InboxCall(webhook_id, call_type, body, is_valid, now_us))
    return web.Response(status=204, headers=headers)


async def _read(request: web.BaseRequest) -> bytes:
    """The body, as long as aiohttp's own bound allows."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise ChatError(Code.VALIDATION_ERROR, "The body did not arrive in time", status=408) from None


HOOK_ROUTE = RawRoute("POST", HOOK, take_webhook)
