"""The operator's calls."""

from typing import cast

import aiohttp
from msgspec import UNSET, UnsetType

from chatapi.client.credentials import Credentials
from chatapi.client.envelope import Shape
from chatapi.client.http import RETRIES, TIMEOUT_S, Caller, Http, escape
from chatapi.client.records import (
    ChangedTenant,
    DeadLetters,
    Json,
    KeyPage,
    NewKey,
    NewTenant,
    NewTokenSecret,
    NewWebhookSecret,
    Stats,
    Tenant,
    TenantPage,
)

_TENANT: Shape = {"tenant_id": str}


class AdminAPI(Caller):
    """Tenants, their keys and secrets, dead letters. Raises ApiError, NoAnswer, NotChatAPI."""

    def __init__(
        self,
        url: str,
        master_key: str,
        *,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        http = Http(url, timeout_s=timeout_s, retries=retries, session=session)
        super().__init__(http, Credentials({"X-Master-Key": master_key}))

    async def create_tenant(self, name: str, config: Json | None = None) -> NewTenant:
        return cast(
            NewTenant,
            await self.call("POST", "/admin/tenants", body={"name": name, "config": config or {}}, shape=_TENANT),
        )

    async def list_tenants(
        self, *, limit: int | None = None, offset: int | None = None, cursor: str | None = None
    ) -> TenantPage:
        return cast(
            TenantPage,
            await self.call(
                "GET",
                "/admin/tenants",
                query={"limit": limit, "offset": offset, "cursor": cursor},
                shape={"tenants": list},
            ),
        )

    async def get_tenant(self, tenant_id: str) -> Tenant:
        return cast(Tenant, await self.call("GET", _tenant(tenant_id), shape=_TENANT))

    async def update_tenant(
        self, tenant_id: str, *, name: str | UnsetType = UNSET, config: Json | UnsetType = UNSET
    ) -> ChangedTenant:
        """Of `config`, keys that are not given stay, and None takes the tenant's own figure back."""
        body = {key: value for key, value in (("name", name), ("config", config)) if value is not UNSET}
        return cast(ChangedTenant, await self.call("PATCH", _tenant(tenant_id), body=body, shape=_TENANT))

    async def delete_tenant(self, tenant_id: str) -> None:
        """Removes all data of the tenant."""
        await self.call("DELETE", _tenant(tenant_id))

    async def create_key(self, tenant_id: str) -> NewKey:
        return cast(NewKey, await self.call("POST", f"{_tenant(tenant_id)}/keys", shape={"api_key": str}))

    async def list_keys(
        self, tenant_id: str, *, limit: int | None = None, offset: int | None = None, cursor: str | None = None
    ) -> KeyPage:
        query = {"limit": limit, "offset": offset, "cursor": cursor}
        return cast(KeyPage, await self.call("GET", f"{_tenant(tenant_id)}/keys", query=query, shape={"keys": list}))

    async def revoke_key(self, tenant_id: str, key_id: str) -> None:
        await self.call("DELETE", f"{_tenant(tenant_id)}/keys/{escape(key_id)}")

    async def rotate_token_secret(self, tenant_id: str) -> NewTokenSecret:
        """All user tokens of the tenant die at once."""
        return cast(
            NewTokenSecret, await self.call("POST", f"{_tenant(tenant_id)}/token-secret", shape={"token_secret": str})
        )

    async def rotate_webhook_secret(self, tenant_id: str) -> NewWebhookSecret:
        """The old one signs along for 24 h."""
        return cast(
            NewWebhookSecret,
            await self.call("POST", f"{_tenant(tenant_id)}/webhook-secret", shape={"webhook_secret": str}),
        )

    async def list_dead_letters(
        self,
        *,
        tenant_id: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
        cursor: str | None = None,
    ) -> DeadLetters:
        query = {"tenant_id": tenant_id, "limit": limit, "offset": offset, "cursor": cursor}
        return cast(
            DeadLetters, await self.call("GET", "/admin/dead-letters", query=query, shape={"failed_messages": list})
        )

    async def retry_dead_letter(self, dead_letter_id: str) -> Json:
        """Back into the queue."""
        return cast(Json, await self.call("POST", f"/admin/dead-letters/{escape(dead_letter_id)}/retry"))

    async def get_stats(self) -> Stats:
        """Per tenant: rooms, messages, connections, queue lengths."""
        return cast(Stats, await self.call("GET", "/admin/stats", shape={"tenants": list}))


def _tenant(tenant_id: str) -> str:
    return f"/admin/tenants/{escape(tenant_id)}"
