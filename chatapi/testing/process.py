"""`chatapi serve --test` as a process that can be killed and comes back with its data.

A process, not a thread: a test that holds up its own event loop, or the interpreter, does not hold up the server;
coverage, warnings and signals of the application are none of its own; and it can be killed as in real life.
"""

import http.client
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chatapi.protocol.json import dumps, loads_stored

START_S = 60.0  # a machine that is busy may take its time
STOP_S = 15.0  # more than shutdown_grace_seconds
CALL_S = 30.0
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - only a folder of our own is made in it
COMMAND = (sys.executable, "-P", "-m", "chatapi", "serve", "--test")  # -P: a chatapi.py of the project is not ours
NO_AUTHORITIES = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
"""To load the system's takes a tenth of a start, and only webhooks over https need them: those who test these set the
variables themselves."""
DATABASE = re.compile(r"(\d+)\.db(.*)")
LOG = "server.log"
LOG_END = 4000  # bytes of it that a failure shows


class ServerProcess:
    """`printed`: the line that the server printed. Settings are those of chatapi.toml, `{"limits.rate_limit": 5}`."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        self.printed: dict[str, str] = {}
        in_memory = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK | os.X_OK) else None
        self._scratch = Path(tempfile.mkdtemp(prefix="chatapi-pytest-", dir=in_memory))
        self._process: subprocess.Popen[bytes] | None = None
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CHATAPI_")}
        self._environment = {
            **NO_AUTHORITIES,
            **inherited,
            **{f"CHATAPI_{name.replace('.', '_').upper()}": _write(value) for name, value in settings.items()},
        }

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        path = self._scratch / LOG
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Returns when requests are answered: at the address and with the keys that it had before. Raises
        RuntimeError, with the end of the log, if it does not start."""
        assert not self.is_running, "the server is running"
        self._keep_newest_database()
        options, environment = ["--scratch", str(self._scratch)], dict(self._environment)
        if self.printed:
            options += ["--port", str(urlsplit(self.printed["url"]).port)]
            environment["CHATAPI_AUTH_MASTER_KEY"] = self.printed["master_key"]
        with (self._scratch / LOG).open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a command of our own
                [*COMMAND, *options], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        output = self._process.stdout
        assert output is not None
        readable, _, _ = select.select([output], [], [], START_S)
        line = output.readline() if readable else b""
        if not line:
            self.kill()
            raise RuntimeError(f"the ChatAPI server did not start:\n{self.log[-LOG_END:]}")
        self.printed = loads_stored(line)

    def kill(self) -> None:
        """SIGKILL: nothing is finished, as in a crash."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def stop(self) -> None:
        """SIGTERM: connections are told, what is under way is finished."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(STOP_S)
            self._reap()

    def close(self) -> None:
        """The end, also of its data."""
        process = self._process
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
            self._reap()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def ask(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Any:
        """The answer's `data`. Raises ApiError for what the server refuses, OSError if it does not run."""
        connection = http.client.HTTPConnection(urlsplit(self.printed["url"]).netloc, timeout=CALL_S)
        try:
            connection.request(
                method,
                path,
                None if body is None else dumps(body),
                {"Content-Type": "application/json", **(headers or {"X-Master-Key": self.printed["master_key"]})},
            )
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        envelope: dict[str, Any] = loads_stored(text) if text else {}
        if answer.status >= HTTPStatus.BAD_REQUEST:
            from chatapi.client.errors import parse_error  # with all of the client, which takes a fifth of a second

            raise parse_error(envelope["error"], status=answer.status)
        return envelope.get("data")

    def _reap(self) -> None:
        assert self._process is not None
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process = None

    def _keep_newest_database(self) -> None:
        """A server begins with `0.db`, and each reset makes the next one, while the one before is being removed."""
        found = [(int(match[1]), match[2], path) for path in self._scratch.iterdir() if (match := _match(path))]
        newest = max((number for number, _, _ in found), default=0)
        for number, suffix, path in sorted(found):
            if number != newest:
                path.unlink()
            elif number:
                path.rename(self._scratch / f"0.db{suffix}")


def _match(path: Path) -> re.Match[str] | None:
    return DATABASE.fullmatch(path.name)


def _write(value: object) -> str:
    """As a variable has it, which is TOML."""
    return value if isinstance(value, str) else dumps(value).decode()
