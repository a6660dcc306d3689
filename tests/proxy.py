"""A proxy between a client and the server, which answers some requests itself, as proxies do."""

import contextlib
import json
import re
import socket
import socketserver
from collections import deque
from pathlib import Path
from threading import Lock, Thread

CALL_SECONDS = 30.0
HEAD_END = b"\r\n\r\n"

FOREIGN_ANSWERS: dict[str, str] = json.loads((Path(__file__).parent / "sdk_cases.json").read_text())["foreign_answers"]
"""What comes from something that is not ChatAPI, by name: whole HTTP answers, after which the connection ends."""


class Proxy:
    """Everything is passed on but for what it was told to answer itself; `path` is a regular expression, found anywhere
    in the request's address."""

    def __init__(self, port: int) -> None:
        self._rules: list[tuple[str, str, deque[str]]] = []
        self._lock = Lock()
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                proxy._serve(self.request)

        class Listener(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._target = ("127.0.0.1", port)
        self._listener = Listener(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._listener.server_address[1]}"

    def __enter__(self) -> "Proxy":
        self._thread = Thread(target=self._listener.serve_forever, args=(0.02,), name="proxy", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, answers: list[str]) -> None:
        """The next requests of this kind get these answers, each one."""
        with self._lock:
            self._rules.append((method, path, deque(answers)))

    @property
    def left(self) -> int:
        """Answers that nobody has asked for yet."""
        with self._lock:
            return sum(len(answers) for _, _, answers in self._rules)

    def _find_answer(self, method: str, address: str) -> str | None:
        with self._lock:
            for wanted, path, answers in self._rules:
                if answers and method == wanted and re.search(path, address):
                    return answers.popleft()
        return None

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(CALL_SECONDS)
        received = b""
        while HEAD_END not in received:
            chunk = client.recv(65536)
            if not chunk:
                return
            received += chunk
        head, _, body = received.partition(HEAD_END)
        method, address, _ = head.decode("latin-1").split(" ", 2)
        answer = self._find_answer(method, address)
        if answer is None:
            self._pass_on(client, head, body)
            return
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        while length is not None and len(body) < int(length[1]):
            body += client.recv(65536)
        client.sendall(answer.encode())

    def _pass_on(self, client: socket.socket, head: bytes, body: bytes) -> None:
        if b"upgrade: websocket" not in head.lower():  # one request for each connection, so that each is looked at
            head = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head) + b"\r\nConnection: close"
        try:
            server = socket.create_connection(self._target)
        except OSError:
            return
        with server:
            server.sendall(head + HEAD_END + body)
            client.settimeout(None)
            back = Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
    for side in (source, target):
        with contextlib.suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)
