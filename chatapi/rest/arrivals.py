"""The routes by which another server of the same version hands a tenant over (docs/design.md, section 13). They are
between servers, and do not belong to the API for clients."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from chatapi.callers import client_address, read_header
from chatapi.errors import ChatError, Code, invalid, unauthenticated
from chatapi.models import make_actor
from chatapi.protocol import answers
from chatapi.protocol.encoders import encode_envelope
from chatapi.protocol.json import loads_unchecked
from chatapi.protocol.move_answers import ArrivalNamed, NewArrival
from chatapi.rest.call import RawRoute
from chatapi.rest.incoming_text import ask_for_body
from chatapi.services import Services
from chatapi.store.moves import TableChange

MAX_BYTES = 64 * 1024 * 1024  # of a page of rows: one of them may be as large as a message may be
BODY_SECONDS = 30.0
JSON = "application/json; charset=utf-8"


async def begin(
    services: Services, request: web.BaseRequest, _path: Mapping[str, str], headers: dict[str, str]
) -> web.StreamResponse:
    """Takes the master key, and answers with a secret for this arrival alone."""
    address = client_address(request, services.config.server.trusted_proxies)
    services.auth.check_master_key(read_header(request, "X-Master-Key"), address)
    body = await _read_object(request)
    arrival_id, secret = await services.arrivals.begin(
        make_actor(None, address),
        _read(body, "tenant_id", str),
        _read(body, "source", str),
        _read(body, "instance", str),
        _read(body, "schema", int),
        _read(body, "now_us", int),
    )
    return _answer(NewArrival(arrival_id=arrival_id, secret=secret), headers, 201)


async def take(
    services: Services, request: web.BaseRequest, path: Mapping[str, str], headers: dict[str, str]
) -> web.StreamResponse:
    """All that the source asks of an arrival: rows, seal, live, abort."""
    scheme, _, secret = (read_header(request, "Authorization") or "").partition(" ")
    if scheme.lower() != "bearer":
        raise unauthenticated("The secret of the arrival is required")
    arrivals, arrival_id = services.arrivals, path["arrival_id"]
    await arrivals.check(arrival_id, secret)  # before a large body
    body = await _read_object(request)
    match path["action"]:
        case "rows":
            changes = [_read_change(change) for change in _read(body, "changes", list)]
            await arrivals.take_rows(arrival_id, secret, changes, is_copy=_read(body, "is_copy", bool))
        case "seal":
            await arrivals.seal(arrival_id, secret, _read(body, "identity", dict), _read(body, "counts", dict))
        case "live":
            await arrivals.go_live(arrival_id, secret)
        case _:
            await arrivals.abort(arrival_id, secret)
    return _answer(ArrivalNamed(arrival_id=arrival_id), headers)


def _answer(data: answers.Answer, headers: dict[str, str], status: int = 200) -> web.Response:
    return web.Response(body=encode_envelope(data), status=status, headers={**headers, "Content-Type": JSON})


def _read(body: dict[str, Any], name: str, kind: type[Any]) -> Any:
    value = body.get(name)
    if type(value) is not kind:
        raise invalid(f"Must be of the type {kind.__name__}", name)
    return value


def _read_change(change: object) -> TableChange:
    match change:
        case [str(table), list(columns), list(rows), list(gone)]:
            return TableChange(table, tuple(map(str, columns)), rows, gone)
    raise invalid("Must be a table's rows", "changes")


async def _read_object(request: web.BaseRequest) -> dict[str, Any]:
    """Rows may hold what no client may send: integers of 63 bits among them."""
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            await ask_for_body(request)
            while chunk := await request.content.readany():
                chunks.append(chunk)
                size += len(chunk)
                if size > MAX_BYTES:
                    raise ChatError(Code.VALIDATION_ERROR, f"The body is larger than {MAX_BYTES} bytes", status=413)
    except TimeoutError:
        raise ChatError(Code.VALIDATION_ERROR, "The body did not arrive in time", status=408) from None
    body = loads_unchecked(b"".join(chunks))
    if not isinstance(body, dict):
        raise invalid("Must be an object")
    return body


ARRIVAL_ROUTES = (
    RawRoute("POST", "/admin/arrivals", begin),
    RawRoute("POST", "/admin/arrivals/{arrival_id}/{action:rows|seal|live|abort}", take),
)
