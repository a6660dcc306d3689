"""One WebSocket from `ready` to its end: takes frames one by one, and answers every frame that it cannot carry out with
an error."""

import asyncio
import logging

from chatapi.connecting import end_connection, send_ready
from chatapi.connection import Connection, ConnectionState, OnlineUser
from chatapi.errors import ChatError, Code, rate_limited
from chatapi.protocol.encoders import encode_error_frame
from chatapi.protocol.frames import LIGHT_FRAMES, TYPING_FRAMES, BadFrame, parse_frame
from chatapi.protocol.wire import encode_close, encode_pong, may_be_sent
from chatapi.services import Services
from chatapi.ws.commands import Commands
from chatapi.ws.frame_reader import BINARY, CLOSE, PING, PROTOCOL_ERROR, TEXT, Frame, Violation

logger = logging.getLogger(__name__)

BINARY_FRAME = 1003
NOT_UTF8 = 1007
TOO_MANY_BAD_FRAMES = 4029

MAX_BAD_FRAMES = 100  # in BAD_FRAMES_SECONDS (docs/contract.md, section 13)
BAD_FRAMES_SECONDS = 60.0
FRAMES_AT_A_STRETCH = 32  # then others have their turn: a flood of small frames never starves the loop


class Session:
    __slots__ = ("_commands", "_connection", "_is_sync_due", "_services", "_stretch", "_user")

    def __init__(self, services: Services, connection: Connection, user: OnlineUser, address: str) -> None:
        """`address` is the client's."""
        self._services = services
        self._connection = connection
        self._user = user
        self._commands = Commands(services, connection, address)
        # Under `?sync=none`, until the first: it belongs to the handshake, which took a token.
        self._is_sync_due = False
        self._stretch = 0  # frames since others had their turn

    async def open(self, *, wants_sync: bool) -> None:
        """Sends `ready`; the backlog follows, or waits for a `sync`."""
        self._is_sync_due = not wants_sync
        await self._services.recovery.enter_rooms(self._connection)
        await send_ready(self._services, self._connection, self._user)
        if wants_sync and self._connection.state is ConnectionState.PAUSED:
            self._services.recovery.begin(self._connection, None)

    def note_heard(self) -> None:
        """A sign of life."""
        self._connection.heard_at_s = self._services.clock.machine_s()

    async def take(self, frame: Frame) -> bool:
        """Returns once the next one may be taken; False if this was the last one. Raises Violation."""
        self.note_heard()
        opcode, payload = frame
        if opcode == TEXT:
            if self._connection.state is not ConnectionState.CLOSED:
                await self._take_frame(payload)
        elif opcode == PING:
            self._services.hub.send(self._connection, encode_pong(payload))
        elif opcode == BINARY:
            self._services.hub.close(self._connection, BINARY_FRAME, reason="frames are text")
        elif opcode == CLOSE:
            self._take_close(payload)
            return False
        if not self._commands.has_space():
            await self._commands.wait_for_space()
        self._stretch += 1
        if self._stretch == FRAMES_AT_A_STRETCH:
            self._stretch = 0
            await asyncio.sleep(0)
        return True

    def end(self) -> None:
        """After the last frame, and once the connection is lost."""
        end_connection(self._services, self._connection)

    async def refuse(self, code: int) -> None:
        """After a Violation; returns when the client has read why, and has ended the connection."""
        self._services.hub.close(self._connection, code, reason="violates RFC 6455")
        self._services.hub.flush()
        await self._connection.peer.close_gently()

    def _take_close(self, payload: bytes) -> None:
        """Repeats the peer's code, if there is one. Raises Violation."""
        hub, connection = self._services.hub, self._connection
        code = int.from_bytes(payload[:2], "big")
        if payload and not may_be_sent(code):  # half of a code is none either
            raise Violation(PROTOCOL_ERROR)
        if not _is_utf8(payload[2:]):
            raise Violation(NOT_UTF8)
        if connection.close_code is None:
            hub.send(connection, encode_close(code if payload else 1000, ""))

    async def _take_frame(self, payload: bytes) -> None:
        connection, services = self._connection, self._services
        request_id = None
        services.counters.frames += 1
        try:
            try:
                frame = parse_frame(payload)
            except BadFrame as bad:
                self._count_bad_frame(payload)
                request_id = bad.request_id
                if self._take_token(bad.frame_type) or await self._wait_for_token(bad.frame_type):
                    raise bad.error from None
                return
            request_id = frame.request_id
            if self._take_token(frame.type) or await self._wait_for_token(frame.type):
                await self._commands.run(frame)
        except ChatError as error:
            services.hub.send(connection, encode_error_frame(error, request_id))
        except Exception:
            logger.exception("frame failed", extra={"connection_id": connection.connection_id})
            internal = ChatError(Code.INTERNAL_ERROR, "Internal error")
            services.hub.send(connection, encode_error_frame(internal, request_id))

    def _take_token(self, frame_type: str | None) -> bool:
        """Takes a token as a request does, for all but light frames: for those it returns False. Raises ChatError."""
        if frame_type in LIGHT_FRAMES:
            return False
        if self._is_sync_due and frame_type == "sync":
            self._is_sync_due = False
            return True
        is_append = frame_type == "message.append"
        retry_after_s = self._services.tenants.take_token(self._connection.principal, is_append=is_append)
        if retry_after_s:
            self._services.counters.limited_frames += 1
            raise rate_limited(retry_after_s)
        return True

    async def _wait_for_token(self, frame_type: str | None) -> bool:
        """Takes one of the connection's own tokens, for light frames. False for a typing frame when there is none."""
        connection, clock = self._connection, self._services.clock
        retry_after_s = connection.take_small_frame_token(clock.monotonic_s())
        while retry_after_s:
            if frame_type in TYPING_FRAMES:
                return False
            # Reading stops meanwhile, which is all the pressure that an eager client needs.
            await clock.sleep(retry_after_s)
            retry_after_s = connection.take_small_frame_token(clock.monotonic_s())
        return True

    def _count_bad_frame(self, payload: bytes) -> None:
        connection, hub = self._connection, self._services.hub
        self._services.counters.bad_frames += 1
        if not _is_utf8(payload):
            hub.close(connection, NOT_UTF8, reason="not UTF-8")
            return
        now_s = self._services.clock.machine_s()
        if now_s - connection.bad_since_s > BAD_FRAMES_SECONDS:
            connection.bad_since_s, connection.bad_frames = now_s, 0
        connection.bad_frames += 1
        if connection.bad_frames > MAX_BAD_FRAMES:
            hub.close(connection, TOO_MANY_BAD_FRAMES, reason="too many invalid frames")


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
