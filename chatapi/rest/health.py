"""Is it alive, does it take requests, can it write."""

import contextlib

import msgspec

import chatapi
from chatapi.errors import ChatError, Code
from chatapi.protocol import answers
from chatapi.protocol.fields import SearchHealth
from chatapi.rest.call import OpenCall, Response, ok
from chatapi.search import Search


async def livez(_call: OpenCall[None, None]) -> Response[answers.Status]:
    """Tell whether the process is alive, without a look at the database."""
    return ok(answers.Status(status="ok"))


async def readyz(call: OpenCall[None, None]) -> Response[answers.Status]:
    """Tell whether the server takes requests: 503 while it stops or cannot write."""
    obstacle = call.services.health.find_obstacle()
    if obstacle is not None:
        raise ChatError(Code.INTERNAL_ERROR, obstacle, status=503)
    return ok(answers.Status(status="ok"))


async def health(call: OpenCall[None, None]) -> Response[answers.Health]:
    """Tell whether the server can write. It tries a real write, at most once a second."""
    state = call.services.health
    writable = await state.probe()
    uptime_s = state.uptime_seconds
    answer = answers.Health(
        status="ok",
        service="chatapi",
        version=chatapi.__version__,
        uptime=_format_duration(uptime_s),
        uptime_seconds=uptime_s,
        db_writable=True,
        search=await _describe_search(call.services.search),
    )
    if not writable:
        details = {**msgspec.structs.asdict(answer), "status": "error", "db_writable": False}
        raise ChatError(Code.INTERNAL_ERROR, "The database cannot accept writes", status=503, details=details)
    return ok(answer)


async def _describe_search(search: Search) -> SearchHealth:
    """Health does not depend on it: where the read fails, the lag is unknown."""
    lag = None
    with contextlib.suppress(ChatError):
        lag = await search.count_lag()
    return SearchHealth(enabled=search.is_enabled, lag=lag)


def _format_duration(seconds: int) -> str:
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    parts = [f"{days}d"] if days else []
    return " ".join([*parts, f"{hour}h {minute}m {second}s"])
