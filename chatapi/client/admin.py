"""The operator's calls."""

from typing import BinaryIO, cast

import aiohttp
from msgspec import UNSET, UnsetType

from chatapi.client.credentials import Credentials
from chatapi.client.envelope import Shape
from chatapi.client.http import RETRIES, TIMEOUT_S, Http, RestClient
from chatapi.client.operator_records import (
    AuditPage,
    ChangedTenant,
    Compacted,
    DeadLetters,
    KeyPage,
    NewKey,
    NewTenant,
    NewTokenSecret,
    NewWebhookSecret,
    RetriedAll,
    RetriedOne,
    Stats,
    Tenant,
    TenantMove,
    TenantPage,
)
from chatapi.client.paths import escape
from chatapi.client.records import Json

MOVE_SECONDS = 3600.0  # that a move may take: then the call may be made again, and joins it
TRANSFER_SECONDS = 3600.0  # without a byte: an export is made first, and an import is stored before the answer
DATABASE = "application/octet-stream"
_TENANT: Shape = {"tenant_id": str}


class AdminAPI(RestClient):
    """Tenants, their keys and secrets, dead letters. Every call raises ApiError when the server refuses (401 for a
    wrong master key), NoAnswer when it cannot be reached, and NotChatAPI when something else answers; tries and pages
    are as in `ChatAPI`."""

    def __init__(
        self,
        url: str,
        master_key: str,
        *,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        """`timeout_s` and `session` as in `ChatAPI`. Raises ValueError for an address without http:// or https://."""
        http = Http(url, timeout_s=timeout_s, retries=retries, session=session, follows_moves=False)
        super().__init__(http, Credentials({"X-Master-Key": master_key}))
        self._master_key = master_key

    async def create_tenant(self, name: str, config: Json | None = None) -> NewTenant:
        """Creates a tenant. Its API key and secrets are shown this once. `name`: 1 to 200 characters; `config`: its own
        limits, webhook URL and retention, as the OpenAPI document's `TenantConfig` has them. Not tried again after a
        lost answer. Raises ApiError: 400 (`field`: `config.…`)."""
        return cast(
            NewTenant,
            await self.call("POST", "/admin/tenants", body={"name": name, "config": config or {}}, shape=_TENANT),
        )

    async def list_tenants(
        self, *, limit: int | None = None, offset: int | None = None, cursor: str | None = None
    ) -> TenantPage:
        """All tenants, the oldest first. `limit`: 1 to 100 (50)."""
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
        """A tenant with its config, without keys and secrets. Raises ApiError: 404."""
        return cast(Tenant, await self.call("GET", _tenant(tenant_id), shape=_TENANT))

    async def update_tenant(
        self, tenant_id: str, *, name: str | UnsetType = UNSET, config: Json | UnsetType = UNSET
    ) -> ChangedTenant:
        """Changes what is given. Of `config`, keys that are not given stay, and None takes the server's own setting.
        The answer has a `webhook_secret` when `webhook_url` is set for the first time. Raises ApiError: 400, 404."""
        body = {key: value for key, value in (("name", name), ("config", config)) if value is not UNSET}
        return cast(ChangedTenant, await self.call("PATCH", _tenant(tenant_id), body=body, shape=_TENANT))

    async def delete_tenant(self, tenant_id: str) -> None:
        """Deletes a tenant and all its data; its connections end. Raises ApiError: 404."""
        await self.call("DELETE", _tenant(tenant_id))

    async def move_tenant(self, tenant_id: str, to: str, to_master_key: str) -> TenantMove:
        """Moves a tenant to another server, at `to`, and returns once that serves it, which takes as long as its data
        take to be copied. The same call goes on where a move was broken off. Raises ApiError: 400, 404, 409 with what
        the other server objects, 503 when the move was given up and this server goes on."""
        return cast(
            TenantMove,
            await self._http.call(
                Credentials({"X-Master-Key": self._master_key, "X-To-Master-Key": to_master_key}),
                "POST",
                f"/v1{_tenant(tenant_id)}/move",
                body={"to": to},
                is_idempotent=True,
                shape={"state": str},
                wait_s=MOVE_SECONDS,
            ),
        )

    async def export_tenant(self, tenant_id: str, file: BinaryIO) -> int:
        """Writes everything of a tenant, as it stands at this moment, to `file`, which is open for binary writing:
        a ChatAPI database with its secrets, for `import_tenant`. Returns its bytes. It goes piece by piece, so that it
        takes little memory, and is not tried again: throw the file away after an error. Raises ApiError: 404, 421, 503
        while others are under way; and what writing raises."""
        path = f"/v1{_tenant(tenant_id)}/export"
        return await self._http.download(self._credentials, path, file, wait_s=TRANSFER_SECONDS)

    async def import_tenant(self, file: BinaryIO) -> Tenant:
        """Takes a tenant from a database that `export_tenant` has made, `file` being open for binary reading, and
        returns it once the server serves it. It goes piece by piece, and is not tried again: after a lost answer
        `get_tenant` tells. Raises ApiError: 400 with the reason for any other file, 409 when the tenant is there, 503;
        and what reading raises."""
        return cast(
            Tenant,
            await self._http.upload(
                self._credentials, "/v1/admin/tenants/import", file, DATABASE, shape=_TENANT, wait_s=TRANSFER_SECONDS
            ),
        )

    async def create_key(self, tenant_id: str) -> NewKey:
        """Adds an API key, which is shown this once. Not tried again after a lost answer. Raises ApiError: 404."""
        return cast(NewKey, await self.call("POST", f"{_tenant(tenant_id)}/keys", shape={"api_key": str}))

    async def list_keys(
        self, tenant_id: str, *, limit: int | None = None, offset: int | None = None, cursor: str | None = None
    ) -> KeyPage:
        """The tenant's API keys, without their secrets: when each was made, and last used. `limit`: 1 to 100 (50).
        Raises ApiError: 404."""
        query = {"limit": limit, "offset": offset, "cursor": cursor}
        return cast(KeyPage, await self.call("GET", f"{_tenant(tenant_id)}/keys", query=query, shape={"keys": list}))

    async def revoke_key(self, tenant_id: str, key_id: str) -> None:
        """Revokes an API key at once; its connections end. Raises ApiError: 404."""
        await self.call("DELETE", f"{_tenant(tenant_id)}/keys/{escape(key_id)}")

    async def rotate_token_secret(self, tenant_id: str) -> NewTokenSecret:
        """Replaces the secret that signs user tokens, and returns the new one, this once. All user tokens of the tenant
        die at once. Not tried again after a lost answer. Raises ApiError: 404."""
        return cast(
            NewTokenSecret, await self.call("POST", f"{_tenant(tenant_id)}/token-secret", shape={"token_secret": str})
        )

    async def rotate_webhook_secret(self, tenant_id: str) -> NewWebhookSecret:
        """Replaces the secret that signs webhook calls, and returns the new one, this once. The old one signs along for
        24 h. Not tried again after a lost answer. Raises ApiError: 404."""
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
        """Webhook calls that failed for good, the latest first; of one tenant or of all. `limit`: 1 to 1,000 (50).
        Raises ApiError: 404 of an unknown tenant."""
        query = {"tenant_id": tenant_id, "limit": limit, "offset": offset, "cursor": cursor}
        return cast(
            DeadLetters, await self.call("GET", "/admin/dead-letters", query=query, shape={"failed_messages": list})
        )

    async def retry_dead_letter(self, dead_letter_id: str) -> RetriedOne:
        """Puts a webhook call that failed for good back into the queue, by its `id`. Not tried again after a lost
        answer. Raises ApiError: 404, 409 when the tenant has no `webhook_url`."""
        path = f"/admin/dead-letters/{escape(dead_letter_id)}/retry"
        return cast(RetriedOne, await self.call("POST", path, shape={"id": str}))

    async def retry_dead_letters(self, tenant_id: str) -> RetriedAll:
        """Puts all of a tenant's dead letters back into the queue, and returns how many. Not tried again after a lost
        answer, since the count would be another one. Raises ApiError: 404, 409 when the tenant has no `webhook_url`."""
        body = {"tenant_id": tenant_id}
        return cast(RetriedAll, await self.call("POST", "/admin/dead-letters/retry", body=body, shape={"retried": int}))

    async def compact(self, *, database: str | None = None) -> Compacted:
        """Gives free space of the server's database back to the file system, for about a second: call it until `stage`
        is "done". It is "waiting" while a backup, a check or a long read needs the file as it was. `database`: device
        and inode of its file (`"64769:1310847"`). Not tried again after a lost answer. Raises ApiError: 409 for a
        database that cannot do it while the server runs, and where the server has another one."""
        shape: Shape = {"stage": str, "before_bytes": int, "file_bytes": int, "free_bytes": int}
        return cast(Compacted, await self.call("POST", "/admin/compact", query={"database": database}, shape=shape))

    async def list_audit(
        self, *, tenant_id: str | None = None, after: str | None = None, limit: int | None = None
    ) -> AuditPage:
        """Acts of operators and moderators, the oldest first; of one tenant, deleted or not, or of all. `after`: the
        `id` of an entry. `limit`: 1 to 100 (50). Raises ApiError: 400 for a wrong `after`."""
        query = {"tenant_id": tenant_id, "after": after, "limit": limit}
        return cast(AuditPage, await self.call("GET", "/admin/audit", query=query, shape={"entries": list}))

    async def get_stats(self) -> Stats:
        """For each tenant, rooms, messages, connections and what waits in its queues; and the queues of all."""
        return cast(Stats, await self.call("GET", "/admin/stats", shape={"tenants": list}))


def _tenant(tenant_id: str) -> str:
    return f"/admin/tenants/{escape(tenant_id)}"
