"""Makes the calls of events that have many recipients, bit by bit."""

from collections import OrderedDict

from chatapi.models import TenantKey
from chatapi.store import Store, webhooks
from chatapi.store.webhooks import ExcludedUsers, Expansion

EXPAND_ROWS = 1_000  # recipients of an event looked at in one step: about 5 ms of the writer's time
MOST_LISTS = 8  # of tenants whose events go on at the same time; each has some MB for 100,000 users


class Expander:
    """Keeps the long lists of those who get no call while their events go on: to read such a list takes 100 times as
    long as the rest of a step, and is left to a reader."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._excluded: OrderedDict[TenantKey, ExcludedUsers] = OrderedDict()  # the longest not used first

    async def take_step(self, tenant_key: TenantKey) -> bool:
        """Makes the next calls of the tenant's oldest event. False when there was no event."""
        expansion = await self._expand(tenant_key)
        if expansion is Expansion.NEEDS_LIST:
            excluded = await webhooks.read_excluded(self._store.readers, tenant_key)
            if excluded is None:
                return True  # the event has gone meanwhile, but there may be another one
            self._excluded[tenant_key] = excluded
            if len(self._excluded) > MOST_LISTS:
                self._excluded.popitem(last=False)
            expansion = await self._expand(tenant_key)
        if expansion in (Expansion.NO_EVENT, Expansion.DONE):
            self.forget(tenant_key)
        return expansion is not Expansion.NO_EVENT

    async def _expand(self, tenant_key: TenantKey) -> Expansion:
        excluded = self._excluded.get(tenant_key)
        if excluded is not None:
            self._excluded.move_to_end(tenant_key)
        return await self._store.writer.change(
            lambda transaction: webhooks.expand_event(transaction, tenant_key, EXPAND_ROWS, excluded)
        )

    def forget(self, tenant_key: TenantKey) -> None:
        """The tenant's event is done, or was dropped."""
        self._excluded.pop(tenant_key, None)
