"""The longest pause of the server's loop, as a client sees it: how long the cheapest request has to wait."""

import socket
import time
from threading import Event, Thread

from chatapi.cli.bench.http import encode_request
from chatapi.cli.bench.target import Target

INTERVAL_SECONDS = 0.01  # about 1 % of the server's time; a pause longer than that is seen, less at most that much
TIMEOUT_SECONDS = 60.0
ANSWER_BYTES = 4096  # holds the answer whole


class PauseProbe:
    """Asks for `/livez` again and again from a thread, while the command has nothing to do but wait."""

    def __init__(self, target: Target) -> None:
        self._address = target.address
        self._request = encode_request("GET", "/livez", target.host, "")
        self._stop = Event()
        self._thread = Thread(target=self._run, name="pause probe", daemon=True)
        self.longest_s = 0.0
        self.failure = ""

    def __enter__(self) -> "PauseProbe":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        family, socket_address = self._address
        try:
            with socket.socket(family, socket.SOCK_STREAM) as connection:
                connection.settimeout(TIMEOUT_SECONDS)
                connection.connect(socket_address)
                while not self._stop.wait(INTERVAL_SECONDS):
                    asked_s = time.monotonic()
                    connection.sendall(self._request)
                    if not connection.recv(ANSWER_BYTES).startswith(b"HTTP/1.1 200 "):
                        raise OSError("not alive")
                    self.longest_s = max(self.longest_s, time.monotonic() - asked_s)
        except OSError as error:
            self.failure = f"/livez was not answered: {error}"
