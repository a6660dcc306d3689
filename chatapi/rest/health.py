"""Is it alive, does it take requests, can it write."""

import asyncio

import chatapi
from chatapi.errors import ChatError, Code
from chatapi.rest.call import Call, Reply, ok
from chatapi.services import Services
from chatapi.store import meta

WRITE_TIMEOUT_SECONDS = 5.0
PROBE_SECONDS = 1.0  # a real write at most once in this time, however many ask


async def livez(_call: Call) -> Reply:
    """Whether the process is alive; touches no database."""
    return ok({"status": "ok"})


async def readyz(call: Call) -> Reply:
    """Whether it takes requests: 503 while it starts, drains, or cannot write."""
    services = call.services
    if services.is_draining or not services.store.writer.writable:
        why = "Shutting down" if services.is_draining else "The database cannot accept writes"
        raise ChatError(Code.INTERNAL_ERROR, why, status=503)
    return ok({"status": "ok"})


async def health(call: Call) -> Reply:
    """Whether it can write; a real write is tried, at most once a second."""
    services = call.services
    writable = await _probe(services)
    uptime_s = int(services.clock.monotonic_s() - services.started_at_s)
    fields = {
        "status": "ok" if writable else "error",
        "service": "chatapi",
        "version": chatapi.__version__,
        "uptime": _spell_duration(uptime_s),
        "uptime_seconds": uptime_s,
        "db_writable": writable,
    }
    if not writable:
        message = "The database cannot accept writes"
        raise ChatError(Code.INTERNAL_ERROR, message, status=503, details=fields)
    return ok(fields)


async def _probe(services: Services) -> bool:
    """Whether a real write goes through; a recent answer serves for a moment."""
    now_s = services.clock.monotonic_s()
    if now_s - services.probed_at_s >= PROBE_SECONDS:
        services.probed_at_s = now_s
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_SECONDS):
                await services.store.writer.change(meta.write_heartbeat)
        except TimeoutError:
            services.store.writer.give_up_waiting()
        except ChatError:
            return False
    return services.store.writer.writable


def _spell_duration(seconds: int) -> str:
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    parts = [f"{days}d"] if days else []
    return " ".join([*parts, f"{hour}h {minute}m {second}s"])
