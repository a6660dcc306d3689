"""HAProxy's map of tenants to servers: changed in the running HAProxy, and in the file that its next start reads."""

import fcntl
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chatapi.cli.errors import CliError
from chatapi.tenant_secrets import encode_routing_name

MAP_NAME = "chatapi-tenants.map"  # of the file, as docs/operations.md has it
ANSWER_SECONDS = 5.0  # of HAProxy, which answers at once
MAX_ANSWER_BYTES = 1 << 20  # the names of 10,000 servers

_SERVER = re.compile(r"[A-Za-z0-9_.:-]+")  # of which HAProxy makes its names


@dataclass(frozen=True, slots=True)
class ProxyRoute:
    """The way to one server through one HAProxy. Made before a tenant is moved, it tells early what is missing."""

    admin_socket: str
    map_file: str
    server: str

    def send(self, tenant_id: str) -> None:
        """The tenant's requests and connections go to the server from now on, also after a reload. Those that are open
        stay. Raises CliError."""
        name = encode_routing_name(tenant_id)
        with _locked(Path(self.map_file).resolve()) as path:
            # The file first: if HAProxy is reloaded in between, it reads the new entry.
            _write_entry(path, name, self.server)
            if ask_haproxy(self.admin_socket, f"set map {self.map_file} {name} {self.server}"):
                ask_haproxy(self.admin_socket, f"add map {self.map_file} {name} {self.server}")
            found = ask_haproxy(self.admin_socket, f"get map {self.map_file} {name}")
        if f'value="{self.server}"' not in found:
            raise CliError(
                f"{self.map_file} sends {tenant_id} to {self.server}, but HAProxy at {self.admin_socket} does not:"
                f" {found or 'no answer'}; reload HAProxy, or run the command again"
            )


def find_route(admin_socket: str, server: str) -> ProxyRoute:
    """Raises CliError if HAProxy has no such server or no map of tenants, or does not let this user change it."""
    if not _SERVER.fullmatch(server):
        raise CliError(f"HAProxy can have no backend {server!r}")
    if server not in ask_haproxy(admin_socket, "show backend").split():
        raise CliError(f"HAProxy at {admin_socket} has no backend {server}")
    files = re.findall(r"^\d+ \((\S+)\)", ask_haproxy(admin_socket, "show map"), re.MULTILINE)
    named = [file for file in files if Path(file).name == MAP_NAME]
    if not named:
        raise CliError(f"HAProxy at {admin_socket} uses no map {MAP_NAME}: see docs/operations.md")
    path = Path(named[0]).resolve()
    if not path.is_file() or not os.access(path.parent, os.W_OK):
        raise CliError(f"{path} has to be changed too, and this user cannot: run the command on HAProxy's machine")
    return ProxyRoute(admin_socket, named[0], server)


def ask_haproxy(admin_socket: str, command: str) -> str:
    """The answer to one command, empty for most that succeed. Raises CliError."""
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(admin_socket)
            connection.sendall(command.encode() + b"\n")
            while received := connection.recv(65536):
                answer += received
                if len(answer) > MAX_ANSWER_BYTES:
                    raise CliError(f"HAProxy at {admin_socket} answers too much")
    except TimeoutError as error:
        raise CliError(f"HAProxy at {admin_socket} does not answer") from error
    except OSError as error:
        raise CliError(f"HAProxy's socket {admin_socket}: {error.strerror or error}") from error
    return answer.decode("utf-8", "replace").strip()


@contextmanager
def _locked(path: Path) -> Iterator[Path]:
    """Only one command at a time changes a map: each replaces the file."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(folder)


def _write_entry(path: Path, name: str, server: str) -> None:
    """Replaces the file, so that a crash leaves the old one or the new one. Other lines stay. Raises CliError."""
    try:
        lines = [line for line in path.read_text().splitlines() if line.split()[:1] != [name]]
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as file:
            try:
                file.write("\n".join([*lines, f"{name} {server}"]) + "\n")
                file.flush()
                os.fsync(file.fileno())
                shutil.copymode(path, file.name)
                old = path.stat()
                os.chown(file.name, old.st_uid, old.st_gid)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise CliError(f"{path}: {error.strerror or error}") from error
