"""What has to be done now and then: forgetting idle rooms, noting when keys were used, purging what was deleted and
what is too old."""

import asyncio

from chatapi.services import Services

PAUSE_SECONDS = 5.0


async def keep_house(services: Services) -> None:
    """Runs until it is cancelled."""
    while True:
        await asyncio.sleep(PAUSE_SECONDS)
        services.rooms.forget_idle()
        await services.tenants.write_used_keys()
