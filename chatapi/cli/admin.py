"""The common part of the commands that use the admin routes of a running server."""

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp

from chatapi.cli.errors import CliError
from chatapi.client import AdminAPI, ApiError, NoAnswer, NotChatAPI
from chatapi.config import ServerConfig, load_config

Json = dict[str, Any]

PAGE = 100  # the most that one answer holds
EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where a server that listens on all can be reached


def make_options(*, with_json: bool = True) -> argparse.ArgumentParser:
    """The parent of each such command's parser."""
    options = argparse.ArgumentParser(add_help=False)
    add_options(options, with_json=with_json)
    return options


def add_options(options: argparse.ArgumentParser, *, with_json: bool = True) -> None:
    options.add_argument(
        "--config", metavar="FILE", help="read the settings from this file (default: as chatapi serve)"
    )
    options.add_argument("--url", help="address of the server (default: the one in the settings)")
    options.add_argument(
        "--master-key",
        metavar="KEY",
        help="the master key (default: the one in the settings); others on this machine can see it in the list of"
        " processes: CHATAPI_AUTH_MASTER_KEY is safer",
    )
    if with_json:
        options.add_argument("--json", action="store_true", help="print the answer's data as JSON, for scripts")


def ask(args: argparse.Namespace, question: Callable[[AdminAPI], Awaitable[Any]]) -> Json:
    """The answer's `data`, empty for a 204. Raises CliError and ConfigError."""
    return asyncio.run(_ask(args, question))


async def _ask(args: argparse.Namespace, question: Callable[[AdminAPI], Awaitable[Any]]) -> Json:
    config = load_config(args.config, os.environ, {"auth.master_key": args.master_key}).config
    if not config.auth.master_key:
        raise CliError("no master key: set auth.master_key to the server's, or give --master-key")
    url, unix_socket = (args.url, "") if args.url else find_server(config.server)
    connector = aiohttp.UnixConnector(unix_socket) if unix_socket else aiohttp.TCPConnector()
    where = unix_socket or url
    async with aiohttp.ClientSession(connector=connector) as session:
        try:
            # Once is enough for somebody who waits and can ask again.
            api = AdminAPI(url, config.auth.master_key, retries=0, session=session)
        except ValueError as error:
            raise CliError(f"--url {url}: {error}") from error
        with explaining_failures(where):
            return await question(api) or {}


@contextmanager
def explaining_failures(where: str) -> Iterator[None]:
    """Raises CliError for the failures of calls to the server there."""
    try:
        yield
    except NotChatAPI as error:
        raise CliError(f"the server at {where} is not ChatAPI: {error}") from error
    except NoAnswer as error:
        raise CliError(f"no answer from {where}: {_explain(error.__cause__)}; is the server running?") from error
    except ApiError as error:
        raise CliError(f"{where} refused the request: {error}") from error


def find_server(server: ServerConfig) -> tuple[str, str]:
    """A URL, and the Unix socket if the server is reached through one. Raises CliError."""
    scheme = "https" if server.tls_cert else "http"
    if server.unix_socket:
        return f"{scheme}://localhost", server.unix_socket
    # A certificate is for the public name, not for the address listened on.
    if server.public_url and (server.tls_cert or server.port == 0):
        return server.public_url, ""
    if server.port == 0:
        raise CliError("the settings do not say which port the server uses (server.port is 0): give --url")
    host = EVERY_ADDRESS.get(server.host, server.host)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{server.port}", ""


async def list_all(read_page: Callable[[int, int], Awaitable[Any]], name: str) -> Json:
    """Every page as if it were one; `read_page` takes a limit and an offset."""
    items: list[Json] = []
    while True:
        page = await read_page(PAGE, len(items))
        items += page[name]
        if not page["has_more"] or not page[name]:
            return {name: items, "has_more": False}


def _explain(cause: BaseException | None) -> str:
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        return str(cause.certificate_error)
    if isinstance(cause, aiohttp.ClientConnectorError):
        return os.strerror(cause.os_error.errno) if cause.os_error.errno else str(cause.os_error)
    return "it took too long" if isinstance(cause, TimeoutError) else type(cause).__name__
