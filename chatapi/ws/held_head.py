"""The head of a handshake's response goes out in one write with `ready`: the write by itself would be a tenth of what a
handshake costs."""

import asyncio

from chatapi.connection import Connection

HEAD_SECONDS = 0.25  # then it goes out by itself: a client gets an answer while its rooms are looked up


class HeldHead:
    """The outlet of a connection until its first frames come, whatever they are. Then the transport takes its place."""

    __slots__ = ("_connection", "_head", "_timer", "_transport")

    def __init__(self, connection: Connection, transport: asyncio.Transport, head: bytes) -> None:
        """Takes the place of the connection's transport."""
        self._connection = connection
        self._transport = transport
        self._head = head
        self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self.write, b"")
        connection.transport = self

    def write(self, data: bytes) -> None:
        """The last call: later ones are the transport's."""
        self._timer.cancel()
        self._connection.transport = self._transport
        self._transport.write(self._head + data)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self.write(b"")
        self._transport.close()
