"""Exports of what is stored of one user."""

from collections import Counter
from collections.abc import AsyncGenerator

from chatapi.errors import rate_limited
from chatapi.models import Actor, TenantKey, TenantState, UserId
from chatapi.store import Store, audit
from chatapi.store.user_export import UserExport

EXPORTS_OF_TENANT = 4  # at once: each may hold some MiB, until its reader takes them
RETRY_SECONDS = 5.0


class UserExports:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._running: Counter[TenantKey] = Counter()

    def check_space(self, tenant: TenantState) -> None:
        """Raises ChatError RATE_LIMIT_EXCEEDED while too many of the tenant's run."""
        if self._running[tenant.tenant_key] >= EXPORTS_OF_TENANT:
            raise rate_limited(RETRY_SECONDS, "Too many exports are running")

    async def record(self, tenant: TenantState, actor: Actor, user_id: UserId) -> None:
        """To be called before anything is given away. Raises ChatError."""
        await self._store.writer.change(
            lambda transaction: audit.record(transaction, actor, "user.export", tenant.tenant_id, user_id)
        )

    async def read_pages(self, tenant: TenantState, user_id: UserId) -> AsyncGenerator[bytes, None]:
        """JSON lines, as they are stored at the time of each step. Raises ChatError. To be closed if it is not read to
        its end."""
        self._running[tenant.tenant_key] += 1
        try:
            export, has_more = UserExport(tenant.tenant_key, user_id), True
            while has_more:
                page, has_more = await self._store.readers.run_step(tenant.tenant_key, export.take_step)
                if page:
                    yield page
        finally:
            self._running[tenant.tenant_key] -= 1
            if not self._running[tenant.tenant_key]:
                del self._running[tenant.tenant_key]
