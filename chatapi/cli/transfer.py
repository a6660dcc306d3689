"""`chatapi tenant export` and `chatapi tenant import`: a tenant of a running server as a file."""

import argparse
import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from types import FrameType
from typing import BinaryIO

import aiohttp

from chatapi.cli.admin import find_server, make_options
from chatapi.cli.database import describe_size
from chatapi.cli.errors import CliError
from chatapi.cli.output import print_json
from chatapi.client.paths import escape
from chatapi.config import load_config
from chatapi.store.publish_file import publish
from chatapi.store.standalone import UnusableDatabase
from chatapi.store.tenant_lines import list_lines

CHUNK_BYTES = 256 * 1024
SYNC_BYTES = 1024 * 1024  # else a server on the same disk would wait behind one long flush at the end
CONNECT_SECONDS = 10.0
# Without a byte. A server answers an export once it has made it, and an import once the tenant is stored.
SILENCE_SECONDS = 3600.0

_Asking = AbstractAsyncContextManager[aiohttp.ClientResponse]


def add_export(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    export = actions.add_parser(
        "export",
        parents=[make_options(with_json=False)],
        help="copy a tenant into a file",
        description="Copies everything of a tenant, as it stands at this moment, into a database of its own, which"
        " chatapi serve, chatapi check and chatapi tenant import take.",
    )
    export.add_argument("tenant_id", metavar="TENANT")
    export.add_argument("file", metavar="FILE", help="must not exist")
    export.add_argument(
        "--json",
        action="store_true",
        help="JSON lines for people instead, without keys and secrets; no import takes them",
    )
    return export


def add_import(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    taking = actions.add_parser(
        "import",
        parents=[make_options()],
        help="take a tenant from a file",
        description="Takes a tenant from a database that chatapi tenant export has made, into a running server.",
    )
    taking.add_argument("file", metavar="FILE")
    return taking


def run_export(args: argparse.Namespace) -> int:
    """Raises CliError and ConfigError."""
    final = Path(args.file)
    if os.path.lexists(final):
        raise CliError(f"{final}: exists already")
    partial = final.with_name(f"{final.name}.{secrets.token_hex(4)}.partial")
    signal.signal(signal.SIGTERM, _stop)
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            asyncio.run(_download(args, file))
        if args.json:
            _turn_into_lines(partial)
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
            size_bytes = os.fstat(file.fileno()).st_size
        publish(partial, final)
    except UnusableDatabase as error:
        raise CliError(f"the server's copy cannot be read: {error}") from error
    except FileExistsError as error:
        raise CliError(f"{final}: exists already") from error
    except OSError as error:
        raise CliError(f"cannot write {final}: {os.strerror(error.errno or 0)}") from error
    except KeyboardInterrupt:
        raise CliError("interrupted; nothing was left behind") from None
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()
    print(f"{final}: {describe_size(size_bytes)}")
    return 0


def _turn_into_lines(path: Path) -> None:
    """Raises UnusableDatabase and OSError."""
    lines = path.with_name(f"{path.name}.lines")
    try:
        descriptor = os.open(lines, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in list_lines(str(path)))
        lines.replace(path)
    finally:
        lines.unlink(missing_ok=True)


def run_import(args: argparse.Namespace) -> int:
    """Raises CliError and ConfigError."""
    try:
        with open(args.file, "rb") as file:
            tenant = asyncio.run(_upload(args, file))
    except OSError as error:
        raise CliError(f"cannot read {args.file}: {os.strerror(error.errno or 0)}") from error
    except KeyboardInterrupt:
        raise CliError("interrupted: chatapi tenant list tells whether the tenant is there") from None
    if args.json:
        print_json(tenant)
    else:
        print(f"{tenant['tenant_id']}: imported")
    return 0


async def _download(args: argparse.Namespace, file: BinaryIO) -> None:
    async with _Operator(args) as operator:
        path = f"/admin/tenants/{escape(args.tenant_id)}/export"
        print("the server makes the copy", file=sys.stderr)
        async with operator.request("GET", path) as response:
            await operator.check(response)
            total = response.content_length
            progress = _TransferProgress("received", total)
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                file.write(chunk)
                if progress.bytes // SYNC_BYTES < (progress.bytes + len(chunk)) // SYNC_BYTES:
                    file.flush()
                    os.fdatasync(file.fileno())
                progress.add(len(chunk))
            if total is None or progress.bytes != total:
                raise CliError("the server broke off; nothing was left behind")


async def _upload(args: argparse.Namespace, file: BinaryIO) -> dict[str, object]:
    async def read() -> AsyncIterator[bytes]:
        while chunk := file.read(CHUNK_BYTES):
            progress.add(len(chunk))
            yield chunk
        print("the server stores the tenant", file=sys.stderr)

    progress = _TransferProgress("sent", os.fstat(file.fileno()).st_size)
    async with _Operator(args) as operator, operator.request("POST", "/admin/tenants/import", read()) as response:
        await operator.check(response)
        return dict((await response.json())["data"])


class _Operator:
    """The server, and the operator's right to ask it. Raises CliError for all that keeps it from an answer."""

    def __init__(self, args: argparse.Namespace) -> None:
        config = load_config(args.config, os.environ, {"auth.master_key": args.master_key}).config
        if not config.auth.master_key:
            raise CliError("no master key: set auth.master_key to the server's, or give --master-key")
        found: tuple[str, str] = (args.url, "") if args.url else find_server(config.server)
        self._url, self._unix_socket = found
        self._where = self._unix_socket or self._url
        self._headers = {"X-Master-Key": config.auth.master_key}

    async def __aenter__(self) -> "_Operator":
        connector = aiohttp.UnixConnector(self._unix_socket) if self._unix_socket else aiohttp.TCPConnector()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=self._headers)
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, _traceback: object) -> None:
        await self._session.close()
        if isinstance(error, aiohttp.ClientConnectorError):
            raise CliError(f"no answer from {self._where}: {error.strerror}; is the server running?") from error
        if isinstance(error, aiohttp.ClientError | TimeoutError):
            raise CliError(f"{self._where} broke off: {type(error).__name__}; nothing was left behind") from error

    def request(self, method: str, path: str, body: AsyncIterator[bytes] | None = None) -> _Asking:
        return self._session.request(method, self._url.rstrip("/") + path, data=body)

    async def check(self, response: aiohttp.ClientResponse) -> None:
        if response.status < 300:
            return
        try:
            message = (await response.json())["error"]["message"]
        except (aiohttp.ClientError, ValueError, KeyError, TypeError):
            raise CliError(f"{self._where} answered {response.status}: is it ChatAPI?") from None
        raise CliError(f"{self._where} refused the request: {message}")


class _TransferProgress:
    """On stderr, in steps of a tenth, where somebody looks at it."""

    def __init__(self, verb: str, total: int | None) -> None:
        self._verb = verb
        self._total = total or 1
        self._shown = 0
        self.bytes = 0

    def add(self, size_bytes: int) -> None:
        self.bytes += size_bytes
        tenths = 10 * self.bytes // self._total
        if tenths > self._shown:
            self._shown = tenths
            print(f"{self._verb} {describe_size(self.bytes)} of {describe_size(self._total)}", file=sys.stderr)


def _stop(_number: int, _frame: FrameType | None) -> None:
    """As Ctrl-C does: the unfinished copy is removed."""
    raise KeyboardInterrupt
