"""All that is stored of one user."""

import contextlib

from aiohttp import web

from chatapi.models import encode_time
from chatapi.peer_transport import PeerTransport
from chatapi.protocol.json import dumps
from chatapi.protocol.requests import parse_user_id
from chatapi.protocol.user_answers import Erased
from chatapi.rest.call import Call, Media, Response, ok

SILENT_SECONDS = 60.0  # that a reader may take nothing


async def export_user(call: Call[None, None]) -> Response[None]:
    """Get all that is stored of a user, as JSON lines with a `type`. Its last line has the type `end`."""
    assert call.exchange is not None
    request, headers = call.exchange
    services, tenant = call.services, call.principal.tenant
    user_id = parse_user_id(call.path["user_id"])
    services.user_exports.check_space(tenant)
    response = web.StreamResponse(headers={**headers, "Content-Type": Media.LINES.value, "Cache-Control": "no-store"})
    if request.method == "HEAD":
        return Response(200, b"", lasting=response)
    await services.user_exports.record(tenant, call.actor, user_id)
    peer: PeerTransport = request.protocol.peer  # type: ignore[attr-defined]  # what our own server makes
    peer.limit_silence(SILENT_SECONDS)
    first = {"type": "user", "user_id": user_id, "exported_at": encode_time(services.clock.now_us())}
    async with contextlib.aclosing(services.user_exports.read_pages(tenant, user_id)) as pages:
        await response.prepare(request)
        try:
            await response.write(dumps(first) + b"\n")
            async for page in pages:
                await response.write(page)
            await response.write(dumps({"type": "end"}) + b"\n")
        except BaseException:
            # The head is sent: only a body that is cut off can tell that something is missing.
            if request.transport is not None:
                request.transport.abort()
            raise
    await response.write_eof()
    return Response(200, b"", lasting=response)


async def erase_user(call: Call[None, None]) -> Response[Erased]:
    """Erase a user's data. Repeat it until `erased` is true: until then all that the user asks for is refused."""
    user_id = parse_user_id(call.path["user_id"])
    is_erased = await call.services.erasures.erase(call.principal.tenant, call.actor, user_id)
    return ok(Erased(erased=is_erased), 200 if is_erased else 202)
