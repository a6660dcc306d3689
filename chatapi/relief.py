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
from chatapi.memory_watch import TIGHT_BYTES, MemoryWatch, out_of_memory
from chatapi.services import Services

logger = logging.getLogger(__name__)

FORGETTING_SECONDS = 0.5  # between two times that caches are emptied
COLLECTING_SECONDS = 5.0  # the same of garbage in cycles: it takes 80 ms with 2,000 connections on a quarter of a core
CALM_LOOKS = 25  # in which no more is taken, and no more freed, while memory is scarce or nearly so
SHED_AT_A_LOOK = 32  # idle connections of REST


async def keep_memory(
    memory: MemoryWatch, get_services: Callable[[], Services], refuse_bodies: Callable[[ChatError], None]
) -> None:
    """Runs until it is cancelled."""
    relief = _Relief(memory, refuse_bodies)
    while True:
        await asyncio.sleep(memory.pause_seconds)
        memory.look()
        if not memory.lacking_bytes:
            memory.resume_paused()
        await relief.bring(get_services())


class _Relief:
    def __init__(self, memory: MemoryWatch, refuse_bodies: Callable[[ChatError], None]) -> None:
        self._memory = memory
        self._refuse_bodies = refuse_bodies
        self._loop = asyncio.get_running_loop()
        self._seldom = Seldom(logger)
        self._was_low = False
        self._lacked_bytes = 0  # at the last look
        self._calm_looks = 0
        self._forgot_s = self._collected_s = float("-inf")

    async def bring(self, services: Services) -> None:
        memory = self._memory
        if memory.is_low:
            self._tell(services)
            services.admission.shed_idle(SHED_AT_A_LOOK)
            if memory.is_tight or not self._was_low:
                await self._forget(services)
        if memory.lacking_bytes or (memory.is_tight and self._calm_looks < CALM_LOOKS):
            self._cut_off(services)
        if memory.lacking_bytes:
            self._refuse_bodies(out_of_memory())
        self._note_calm()
        self._was_low, self._lacked_bytes = memory.is_low, memory.lacking_bytes

    def _tell(self, services: Services) -> None:
        limit_mb = (self._memory.limit_bytes or 0) // MIB
        event = "memory is low: no more connections are let in beside %d (limit: %d MB, or server.memory_limit_mb)"
        self._seldom.warning(event, len(services.hub.connections), limit_mb)

    async def _forget(self, services: Services) -> None:
        now_s = self._loop.time()
        if now_s - self._forgot_s < FORGETTING_SECONDS:
            return
        self._forgot_s = now_s
        services.history.clear()
        services.rooms.empty_rings()
        if now_s - self._collected_s >= COLLECTING_SECONDS:
            self._collected_s = now_s
            gc.collect()
        await give_back_memory(0)
        self._memory.look()

    def _cut_off(self, services: Services) -> None:
        count = services.admission.cut_off_heaviest(self._memory.lacking_bytes + TIGHT_BYTES)
        if count:
            event = "memory is low: %d clients that read too little, or send too much, are cut off"
            self._seldom.warning(event, count)

    def _note_calm(self) -> None:
        """Memory that stays scarce although nobody takes more is in pieces of the heap, which are used again: no client
        has to go for it any more."""
        memory = self._memory
        is_calm = memory.is_tight and memory.lacking_bytes <= self._lacked_bytes
        self._calm_looks = self._calm_looks + 1 if is_calm else 0
        if memory.lacking_bytes and self._calm_looks >= CALM_LOOKS:
            self._calm_looks = 0
            memory.lower_line()
            memory.resume_paused()
