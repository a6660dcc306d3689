"""A tenant with a webhook, as the tests of webhooks share it."""

import asyncio
from typing import Any

from driver import Server, User
from raw_websocket import WAIT_SECONDS

QUICK = {
    "webhooks.allow_private_addresses": True,
    "webhooks.retry_schedule_seconds": [0, 0.05, 0.1],
    "webhooks.timeout_seconds": 2,
}


class Hooked:
    """A tenant with a webhook at the receiver."""

    def __init__(self, server: Server, made: dict[str, Any]) -> None:
        self.server = server
        self.tenant_id: str = made["tenant_id"]
        self.secret: str = made["webhook_secret"]
        self.api_key: str = made["api_key"]

    def user(self, user_id: str) -> User:
        return self.server.user(user_id, self.api_key)

    async def stats(self) -> Any:
        return await find_stats(self.server, self.tenant_id)

    async def queues(self) -> Any:
        return (await self.stats())["queues"]

    async def is_settled(self) -> None:
        """Returns once no call is waiting any more."""
        async with asyncio.timeout(WAIT_SECONDS):
            while (await self.queues())["webhooks"]:  # noqa: ASYNC110 - asked from outside, as an operator would
                await asyncio.sleep(0.01)

    async def dead_letters(self) -> Any:
        return (await self.server.admin("GET", "/dead-letters", params={"tenant_id": self.tenant_id})).data


async def find_stats(server: Server, tenant_id: str) -> Any:
    tenants = (await server.admin("GET", "/stats")).data["tenants"]
    return next(tenant for tenant in tenants if tenant["tenant_id"] == tenant_id)


async def hook(server: Server, url: str, **config: object) -> Hooked:
    made = await server.make_tenant("hooked", webhook_url=url, **config)
    return Hooked(server, made)
