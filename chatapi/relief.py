"""Relief for a server whose memory is low: caches are emptied, since they can be read again, idle connections go, and
at last the clients for whom most is kept. Nothing is lost: a client that comes back goes on where it stopped, and sends
again what was not confirmed. New connections are refused meanwhile (`Admission.check_memory`)."""

import asyncio
import gc
import logging
from collections.abc import Callable

from chatapi.errors import ChatError
from chatapi.log_lines import Seldom
from chatapi.memory import give_back_memory
from chatapi.memory_left import MIB
from chatapi.memory_watch import MemoryWatch, out_of_memory
from chatapi.services import Services

logger = logging.getLogger(__name__)

FORGETTING_SECONDS = 5.0  # between two times that caches are emptied: they fill again at once
FORGETTING_AGAIN_SECONDS = 0.5  # the same, while memory is scarce
SHED_AT_A_LOOK = 32  # idle connections of REST


async def keep_memory(
    memory: MemoryWatch, get_services: Callable[[], Services], refuse_bodies: Callable[[ChatError], None]
) -> None:
    """Runs until it is cancelled."""
    loop = asyncio.get_running_loop()
    seldom = Seldom(logger)
    forgot_s = -FORGETTING_SECONDS
    lacked_bytes = 0
    while True:
        await asyncio.sleep(memory.pause_seconds)
        memory.look()
        if memory.lacking_bytes <= lacked_bytes:  # also when it is scarce, as long as no more is taken
            memory.resume_paused()
        lacked_bytes = memory.lacking_bytes
        if not memory.is_low:
            continue
        services = get_services()
        mb = round((memory.limit_bytes or 0) / MIB)
        seldom.warning(
            "memory is low: no more connections are let in beside %d (limit: %d MB)", len(services.hub.connections), mb
        )
        services.admission.shed_idle(SHED_AT_A_LOOK)
        if memory.lacking_bytes:
            refuse_bodies(out_of_memory())
            count = services.admission.cut_off_heaviest(memory.lacking_bytes)
            if count:
                seldom.warning("memory is low: %d clients that read too little, or send too much, are cut off", count)
        pause_seconds = FORGETTING_AGAIN_SECONDS if memory.lacking_bytes else FORGETTING_SECONDS
        if loop.time() - forgot_s >= pause_seconds:
            await _forget(services)
            forgot_s = loop.time()
            memory.look()
            memory.lower_line()


async def _forget(services: Services) -> None:
    services.history.clear()
    services.rooms.empty_rings()
    gc.collect()
    await give_back_memory(0)
