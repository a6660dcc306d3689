"""Where faults strike frames: the socket that takes the place of the usual one in `serve --dev` and `serve --test`. See
`chatapi.faults`."""

from aiohttp import WSMessage, WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from chatapi.faults import Faults
from chatapi.protocol.encoders import encode_error_frame
from chatapi.protocol.frames import LIGHT_FRAMES, BadFrame, parse_frame
from chatapi.ws.handshake import ClientSocket


class FaultySocket(ClientSocket):
    """It answers some frames itself, with an error."""

    _faults: Faults

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        self._faults = request.protocol.faults  # type: ignore[attr-defined]  # what a server with faults makes
        return await super().prepare(request)

    async def receive(self, timeout: float | None = None) -> WSMessage:  # noqa: ASYNC109 - aiohttp's own
        while True:
            message: WSMessage = await super().receive(timeout)
            answer = self._refuse(message.data) if message.type is WSMsgType.TEXT else None
            if answer is None:
                return message
            assert self._req is not None
            if self._req.transport is not None:
                self._req.transport.write(answer)

    def _refuse(self, payload: bytes) -> bytes | None:
        """The error frame for a frame that may not be carried out. Light frames are, as under a rate limit, and so is
        `sync`, which is a part of connecting."""
        assert self._req is not None
        if self._faults.speaks_html:
            return None  # a proxy that has no server does not speak in frames
        error = self._faults.pick_error(self._req.protocol.user_id)  # type: ignore[attr-defined]  # as above
        if error is None:
            return None
        try:
            frame = parse_frame(payload)
        except BadFrame:
            return None
        if frame.type in LIGHT_FRAMES or frame.type == "sync":
            return None
        return encode_error_frame(error, frame.request_id)
