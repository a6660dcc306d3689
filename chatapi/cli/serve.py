"""`chatapi serve`: the server, until SIGTERM, SIGINT or SIGHUP."""

import argparse
import asyncio
import contextlib
import dataclasses
import logging
import os
import secrets
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

import chatapi
from chatapi.app import App, start_app
from chatapi.cli.errors import CliError
from chatapi.clock import Clock
from chatapi.config import Config, load_config
from chatapi.log_lines import set_up_logging
from chatapi.store import StoreError
from chatapi.store.lock import DatabaseInUse

logger = logging.getLogger("chatapi")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run the server."
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="read the settings from this file (default: $CHATAPI_CONFIG, else ./chatapi.toml, else"
        " /etc/chatapi/chatapi.toml)",
    )
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="TCP port to listen on; 0 picks a free one (default: 8080)")
    parser.add_argument("--db", metavar="FILE", help="path of the database (default: ./chatapi.db)")
    parser.add_argument(
        "--dev",
        action="store_true",
        help="for developers: make a tenant and print its key, allow credentials in the query and pages of all origins",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    flags = {"server.host": args.host, "server.port": args.port, "database.path": args.db}
    loaded = load_config(args.config, os.environ, flags)
    config = loaded.config
    set_up_logging(config.log)
    if args.dev:
        config = _loosen(config)
    with asyncio.Runner(loop_factory=_find_loop_factory()) as runner:
        return runner.run(_serve(config, loaded.file, dev=args.dev))


def _log_start(config: Config, file: Path | None) -> None:
    fields = {
        "version": chatapi.__version__,
        "database": str(Path(config.database.path).absolute()),
        "config": str(file.absolute()) if file else "none: only defaults, variables and flags",
    }
    logger.info("started", extra=fields)
    if not config.auth.master_key:
        logger.warning(
            "no master key is set, so nobody can create or change tenants: set auth.master_key or the variable"
            " CHATAPI_AUTH_MASTER_KEY, with a key from `openssl rand -hex 32`"
        )


def _find_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed (the extra `uvloop`), else the standard library's loop."""
    try:
        import uvloop
    except ImportError:
        return None
    make_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return make_loop


def _loosen(config: Config) -> Config:
    """Applies what `--dev` switches on."""
    return dataclasses.replace(
        config,
        server=dataclasses.replace(config.server, allowed_origins=("*",)),
        auth=dataclasses.replace(
            config.auth,
            query_api_key=True,
            master_key=config.auth.master_key or f"mk_{secrets.token_urlsafe(32)}",
        ),
    )


async def _serve(config: Config, file: Path | None, *, dev: bool) -> int:
    stop = asyncio.Event()
    crashed: list[str] = []

    def on_crash(task: str) -> None:
        crashed.append(task)
        stop.set()

    try:
        app = await start_app(config, clock=Clock(), dev=dev, on_crash=on_crash)
    except (StoreError, DatabaseInUse) as error:
        raise CliError(str(error)) from error
    except ssl.SSLError as error:
        raise CliError(f"cannot load the TLS certificate and key: {error}") from error
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise CliError(f"cannot start: {what}") from error
    _stop_on_signals(stop)
    _log_start(config, file)
    for address in app.addresses:
        logger.info("listening on %s", address)
    _tell_systemd("READY=1")
    echo = _start_echo(app) if dev else None
    if dev:
        _print_first_steps(app, config)
    await stop.wait()
    logger.info("shutting down")
    _tell_systemd("STOPPING=1")
    if echo is not None:
        echo.cancel()
        await asyncio.wait([echo])
    await app.close()
    return 1 if crashed else 0


def _start_echo(app: App) -> asyncio.Task[None] | None:
    from chatapi.cli.echo import run_echo  # a client, which a server for real use does not load

    key = app.services.tenants.dev_key
    return None if key is None else app.services.tasks.spawn("echo", run_echo(app.addresses[0], key))


def _stop_on_signals(stop: asyncio.Event) -> None:
    """The first signal stops gracefully; the second ends the process at once: nothing confirmed needs more."""

    def on_signal() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue  # `nohup`: the terminal may close
        asyncio.get_running_loop().add_signal_handler(number, on_signal)


def _tell_systemd(state: str) -> None:
    """To a unit of `Type=notify`: `systemctl start` then returns once requests are answered, or fails.

    The protocol is that of sd_notify(3). Somebody who is not there any more need not hear it.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.setblocking(False)
        told.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)


def _print_first_steps(app: App, config: Config) -> None:
    url = next((address for address in app.addresses if address.startswith("http")), "http://localhost")
    key = app.services.tenants.dev_key
    headers = f"-H 'X-API-Key: {key}' -H 'X-User-Id: alice' -H 'Content-Type: application/json'"
    print(
        f"""
This is the tenant dev, for trying things out. Do not use it in production: everyone who has this key can do
everything in the tenant.

  API key     {key}
  Master key  {config.auth.master_key}
  Playground  {url}/playground

In the playground, "Talk to echo" shows a message that grows: the user echo says back what mentions them.

These commands create a group of alice and bob, and send alice's first message to it:

ROOM=$(curl -s {url}/rooms {headers} -d '{{"type": "group", "members": ["bob"]}}' | grep -oE 'room_[0-9a-f]{{24}}')
curl -s {url}/rooms/$ROOM/messages {headers} -d '{{"content": "Hello, Bob"}}'
""",
        file=sys.stdout,
        flush=True,
    )
