"""The operator's routes: tenants, their keys and secrets."""

from bisect import bisect_right

from chatapi.callers import read_header
from chatapi.models import TenantState, encode_time
from chatapi.protocol import operator_answers, queries
from chatapi.protocol import requests as req
from chatapi.protocol.fields import or_unset
from chatapi.protocol.json import encode
from chatapi.protocol.move_answers import TenantMove
from chatapi.protocol.move_requests import MoveTenant
from chatapi.protocol.pages import Page, SortKey, read_window
from chatapi.rest.call import NO_CONTENT, OpenCall, Response, ok
from chatapi.services import Services
from chatapi.store.tenants import KEYS_START


def tenant_record(services: Services, tenant: TenantState) -> operator_answers.Tenant:
    return operator_answers.Tenant(
        tenant_id=tenant.tenant_id,
        name=tenant.name,
        config=tenant.config,
        created_at=encode_time(tenant.created_at_us),
        move=services.departures.find_state(tenant),
    )


async def create_tenant(call: OpenCall[req.CreateTenant, None]) -> Response[operator_answers.NewTenant]:
    """Create a tenant. The answer shows its key and secrets, this once."""
    tenant, api_key = await call.services.tenants.create(call.actor, call.body)
    created = operator_answers.NewTenant(
        tenant_id=tenant.tenant_id,
        name=tenant.name,
        config=tenant.config,
        created_at=encode_time(tenant.created_at_us),
        api_key=api_key,
        token_secret=tenant.token_secret,
        webhook_secret=or_unset(tenant.webhook_secret),
    )
    return ok(created, 201)


async def list_tenants(call: OpenCall[None, queries.PageQuery]) -> Response[operator_answers.Tenants]:
    """List all tenants."""
    scope = ("tenants",)
    limit, offset, after = read_window(call.query, scope, (0,))
    tenants = call.services.tenants.all()
    first = offset if after is None else bisect_right(tenants, after, key=_sort_key_of)
    listed = tenants[first : first + limit]
    last = _sort_key_of(listed[-1]) if first + limit < len(tenants) else None
    page = Page([encode(tenant_record(call.services, tenant)) for tenant in listed], last)
    return ok(
        operator_answers.Tenants(tenants=page.join(), has_more=page.has_more, next_cursor=page.next_cursor(scope))
    )


def _sort_key_of(tenant: TenantState) -> SortKey:
    return (tenant.tenant_key,)


async def get_tenant(call: OpenCall[None, None]) -> Response[operator_answers.Tenant]:
    """Get a tenant."""
    return ok(tenant_record(call.services, call.services.tenants.get(call.path["tenant_id"])))


async def update_tenant(call: OpenCall[req.PatchTenant, None]) -> Response[operator_answers.UpdatedTenant]:
    """Change a tenant's name or config. An absent field stays; null takes the server's setting again."""
    tenant, webhook_secret = await call.services.tenants.update(call.actor, call.path["tenant_id"], call.body)
    return ok(
        operator_answers.UpdatedTenant(
            tenant_id=tenant.tenant_id,
            name=tenant.name,
            config=tenant.config,
            created_at=encode_time(tenant.created_at_us),
            webhook_secret=or_unset(webhook_secret),
        )
    )


async def delete_tenant(call: OpenCall[None, None]) -> Response[None]:
    """Delete a tenant with all its data."""
    await call.services.tenants.delete(call.actor, call.path["tenant_id"])
    return NO_CONTENT


async def move_tenant(call: OpenCall[MoveTenant, None]) -> Response[TenantMove]:
    """Move a tenant to another server, whose master key is in the header X-To-Master-Key. The answer comes once it is
    there; the same request joins a move that is under way."""
    assert call.exchange is not None  # of a route that waits
    master_key = read_header(call.exchange.request, "X-To-Master-Key") or ""
    move = await call.services.departures.move(call.actor, call.path["tenant_id"], call.body.to, master_key)
    return ok(
        TenantMove(
            tenant_id=move.tenant.tenant_id,
            state="moved",
            url=move.url,
            rows=move.rows,
            held_ms=round(move.hold_seconds * 1000),
        )
    )


async def create_key(call: OpenCall[None, None]) -> Response[operator_answers.NewKey]:
    """Add an API key to a tenant. The answer shows it, this once."""
    key_id, api_key = await call.services.tenants.create_key(call.actor, call.path["tenant_id"])
    return ok(operator_answers.NewKey(key_id=key_id, api_key=api_key), 201)


async def list_keys(call: OpenCall[None, queries.PageQuery]) -> Response[operator_answers.Keys]:
    """List a tenant's keys, without the secrets."""
    scope = ("keys", call.path["tenant_id"])
    window = read_window(call.query, scope, KEYS_START.values())
    page = await call.services.tenants.list_keys(call.path["tenant_id"], window)
    return ok(operator_answers.Keys(keys=page.join(), has_more=page.has_more, next_cursor=page.next_cursor(scope)))


async def revoke_key(call: OpenCall[None, None]) -> Response[None]:
    """Revoke a key. It stops working at once, and its connections close."""
    await call.services.tenants.revoke_key(call.actor, call.path["tenant_id"], call.path["key_id"])
    return NO_CONTENT


async def rotate_token_secret(call: OpenCall[None, None]) -> Response[operator_answers.TokenSecret]:
    """Replace the token secret. All tokens signed with the old one are invalid at once."""
    token_secret = await call.services.tenants.rotate_token_secret(call.actor, call.path["tenant_id"])
    return ok(operator_answers.TokenSecret(token_secret=token_secret), 201)


async def rotate_webhook_secret(call: OpenCall[None, None]) -> Response[operator_answers.NewWebhookSecret]:
    """Replace the webhook secret. The old one signs as well for a day."""
    webhook_secret = await call.services.tenants.rotate_webhook_secret(call.actor, call.path["tenant_id"])
    return ok(operator_answers.NewWebhookSecret(webhook_secret=webhook_secret), 201)
