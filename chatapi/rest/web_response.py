"""The HTTP response whose body is whole, as nearly all are, and the one that lasts as long as its connection."""

from collections.abc import Mapping
from typing import Any

from aiohttp import HttpVersion10, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time


class WholeResponse(web.Response):
    """Its body is in memory, and neither compressed nor sent in chunks here."""

    def __init__(self, *, body: bytes, status: int, headers: Mapping[str, str]) -> None:
        """aiohttp's own looks for text, charsets and files."""
        web.StreamResponse.__init__(self, status=status, headers=headers)
        self._body = body

    async def _start(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Writes the head. aiohttp's own method prepares streams, compression and cookies too, in five coroutines: a
        fortieth of what a send costs."""
        headers, body, version = self._headers, self._body, request.version
        self._req = request
        writer = self._payload_writer = request._payload_writer
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive
        if body or not self._must_be_empty_body:  # RFC 9110, section 8.6: never for 204, with HEAD that of the body
            headers["Content-Length"] = str(len(body)) if isinstance(body, bytes) else "0"
        headers["Date"] = rfc822_formatted_time()
        if not self._keep_alive:
            if version != HttpVersion10:
                headers["Connection"] = "close"
        elif version == HttpVersion10:
            headers["Connection"] = "keep-alive"
        await writer.write_headers(f"HTTP/{version.major}.{version.minor} {self._status} {self._reason}", headers)
        return writer

    async def write_eof(self, data: bytes = b"") -> None:
        """As aiohttp's own two, for a body that is bytes or nothing."""
        writer = self._payload_writer
        if self._eof_sent or writer is None:
            return
        body = self._body
        await writer.write_eof(body if isinstance(body, bytes) and not self._must_be_empty_body else b"")
        self._eof_sent = True
        self._req = self._payload_writer = None
        self._body_length = writer.output_size


class LastingResponse(web.StreamResponse):
    """Only its head is written here. Its body ends with the connection, in HTTP/1.1 too: chunks would give each reader
    other bytes."""

    async def _start(self, request: web.BaseRequest) -> AbstractStreamWriter:
        version = request.version
        self._req = request
        writer = self._payload_writer = request._payload_writer
        self._headers["Date"] = rfc822_formatted_time()
        self._headers["Connection"] = "close"
        self.force_close()
        await writer.write_headers(f"HTTP/{version.major}.{version.minor} 200 OK", self._headers)
        writer.send_headers()
        return writer

    async def write_eof(self, data: Any = b"") -> None:
        return
