"""Tenants as files: `GET /admin/tenants/{tenant_id}/export` and `POST /admin/tenants/import`."""

import asyncio
import logging
import os
from functools import partial
from typing import BinaryIO

from aiohttp import web

from chatapi.errors import ChatError, Code, unavailable
from chatapi.protocol.operator_answers import Tenant
from chatapi.rest.call import Media, OpenCall, Response, ok
from chatapi.rest.incoming_text import ask_for_body
from chatapi.rest.tenants import tenant_record
from chatapi.store.tenant_export import SPARE_BYTES

logger = logging.getLogger(__name__)

CHUNK_BYTES = 256 * 1024
SYNC_BYTES = 1024 * 1024  # of an arriving file: a commit of the server would wait behind one long flush
STALL_SECONDS = 30.0  # in which the peer takes, or sends, no chunk at all


async def export_tenant(call: OpenCall[None, None]) -> Response[None]:
    """Get everything of a tenant, as it stands at this moment: a ChatAPI database of its own."""
    # It is made beside the live one first: so the read transaction lasts no longer than the disk needs, however slow
    # the client is. Once it can be opened it has no name, so that nothing is left of it wherever the server ends.
    assert call.exchange is not None
    request, headers = call.exchange
    services = call.services
    tenant = services.tenants.get(call.path["tenant_id"])
    response = web.StreamResponse(headers={**headers, "Content-Type": Media.DATABASE.value})
    if request.method == "HEAD":
        return Response(200, b"", lasting=response)
    services.admission.memory.check()
    with services.transfers.hold_copy():
        async with services.transfers.make_path("export") as target:
            await services.transfers.export(call.actor, tenant.tenant_id, target, lambda: request.transport is None)
            file = await asyncio.to_thread(open, target, "rb")
        try:
            response.content_length = os.fstat(file.fileno()).st_size
            await response.prepare(request)
            await _send(file, response, request)
        finally:
            await asyncio.to_thread(file.close)
    return Response(200, b"", lasting=response)


async def _send(file: BinaryIO, response: web.StreamResponse, request: web.BaseRequest) -> None:
    try:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            async with asyncio.timeout(STALL_SECONDS):
                await response.write(chunk)
        await response.write_eof()
    except TimeoutError:
        logger.warning("an export was cut off: its client takes no more of it")
        if request.transport is not None:
            request.transport.abort()


async def import_tenant(call: OpenCall[None, None]) -> Response[Tenant]:
    """Take a tenant from the database that an export has made. Nobody sees it before it is whole."""
    assert call.exchange is not None
    request, _ = call.exchange
    services = call.services
    services.admission.memory.check()
    with services.transfers.take_turn():
        async with services.transfers.make_path("import") as target:
            await ask_for_body(request)
            file = await asyncio.to_thread(_create, target)
            try:
                await _receive(request, file)
            finally:
                await asyncio.to_thread(file.close)
            tenant = await services.transfers.import_file(call.actor, target)
    return ok(tenant_record(services, tenant), 201)


def _create(path: str) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


async def _receive(request: web.BaseRequest, file: BinaryIO) -> None:
    """Raises ChatError: 408 for a client that sends nothing, 503 for a disk that is too full."""
    pending = bytearray()
    while True:
        try:
            async with asyncio.timeout(STALL_SECONDS):
                data = await request.content.readany()
        except TimeoutError:
            raise ChatError(Code.VALIDATION_ERROR, "The body did not arrive in time", status=408) from None
        pending += data
        if len(pending) >= CHUNK_BYTES or not data:
            try:
                await asyncio.to_thread(partial(_write, file, bytes(pending)))
            except OSError as error:
                raise unavailable(f"The file could not be stored: {error.strerror}") from error
            pending.clear()
        if not data and request.content.at_eof():
            return


def _write(file: BinaryIO, data: bytes) -> None:
    disk = os.fstatvfs(file.fileno())
    if disk.f_bavail * disk.f_frsize < SPARE_BYTES:
        raise unavailable("There is too little space on the disk")
    before = file.tell()
    file.write(data)
    file.flush()
    if before // SYNC_BYTES < file.tell() // SYNC_BYTES:
        os.fdatasync(file.fileno())
