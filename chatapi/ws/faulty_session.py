"""Where faults strike frames: the session that takes the place of the usual one in `serve --dev` and `serve --test`.
See `chatapi.faults`."""

from chatapi.protocol.encoders import encode_error_frame
from chatapi.protocol.frames import LIGHT_FRAMES, BadFrame, parse_frame
from chatapi.ws.session import Session


class FaultySession(Session):
    """It answers some frames itself, with an error."""

    __slots__ = ()

    async def _take_frame(self, payload: bytes) -> None:
        answer = self._refusal_of(payload)
        if answer is None:
            await super()._take_frame(payload)
        else:
            self._services.hub.send(self._connection, answer)

    def _refusal_of(self, payload: bytes) -> bytes | None:
        """The error frame for a frame that may not be carried out. Light frames are, as under a rate limit, and so is
        `sync`, which is a part of connecting."""
        assert self._services.dev is not None
        faults = self._services.dev.faults
        if faults.speaks_html:
            return None  # a proxy that has no server does not speak in frames
        error = faults.pick_error(self._connection.user_id)
        if error is None:
            return None
        try:
            frame = parse_frame(payload)
        except BadFrame:
            return None
        if frame.type in LIGHT_FRAMES or frame.type == "sync":
            return None
        return encode_error_frame(error, frame.request_id)
