"""`chatapi serve`: the server, until SIGTERM, SIGINT or SIGHUP."""

import argparse
import asyncio
import contextlib
import dataclasses
import faulthandler
import logging
import os
import secrets
import shutil
import signal
import ssl
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import chatapi
from chatapi.app import App, start_app
from chatapi.cli import systemd
from chatapi.cli.errors import CliError
from chatapi.clock import Clock
from chatapi.config import Config, LimitsConfig, load_config
from chatapi.dev_clock import DevClock
from chatapi.dev_tools import DevTools
from chatapi.log_lines import set_up_logging
from chatapi.protocol.json import dumps_text
from chatapi.store import StoreError
from chatapi.store.lock import DatabaseInUse, DatabaseLock
from chatapi.tenants import DEV_TENANT_ID

logger = logging.getLogger("chatapi")

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - only a folder of our own is made in it
SCRATCH_PREFIX = "chatapi-test-"
STDERR = 2
FIRST_DATABASE = "0.db"  # of a test server; its lock is held until the process ends
LEFTOVER_SECONDS = 60.0  # by then a server that is starting has its lock
TEST_RATE = 10_000  # requests per second, of a tenant and of a user


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
    parser.add_argument(
        "--test",
        action="store_true",
        help="for tests: a temporary database and a free port; the first line on stdout is JSON with the address and"
        " keys; ends with its standard input, if that is a pipe",
    )
    parser.add_argument("--scratch", help=argparse.SUPPRESS)  # for chatapi.testing: see `_open_scratch`
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    faulthandler.enable(STDERR)  # systemd's watchdog sends SIGABRT: the log then says where each thread was
    if args.test:
        return run_test_server(args)
    flags = {"server.host": args.host, "server.port": args.port, "database.path": args.db}
    loaded = load_config(args.config, os.environ, flags)
    config = loaded.config
    set_up_logging(config.log)
    dev = DevTools(DevClock()) if args.dev else None
    if dev is not None:
        config = _loosen(config)
    with asyncio.Runner(loop_factory=_find_loop_factory()) as runner:
        return runner.run(_serve(config, loaded.file, dev))


def run_test_server(args: argparse.Namespace) -> int:
    """`serve --test`. No configuration file is read unless `--config` names it: a test is the same on every machine."""
    if args.dev or args.db:
        raise CliError("--test makes a database and a tenant of its own: it goes with neither --dev nor --db")
    with _open_scratch(args.scratch) as scratch:
        flags = {
            "server.host": args.host,
            "server.port": args.port or 0,
            "server.unix_socket": "",
            "server.tls_cert": "",
            "server.tls_key": "",
            "database.path": str(Path(scratch) / FIRST_DATABASE),
            "database.synchronous": "normal",  # it is lost anyway when the machine stops
        }
        loaded = load_config(args.config or os.devnull, os.environ, flags)
        config = _loosen_limits(_loosen(loaded.config))
        set_up_logging(config.log)
        dev = DevTools(DevClock(), Path(scratch))
        with asyncio.Runner(loop_factory=_find_loop_factory()) as runner:
            return runner.run(_serve(config, Path(args.config) if args.config else None, dev))


@contextlib.contextmanager
def _open_scratch(given: str | None) -> Iterator[str]:
    """A temporary directory. One that is given is kept, so that a test can stop the server and start it again with its
    data, but not when the test's own process has ended, and nobody else would remove it."""
    if given is None:
        parent = _find_scratch()
        _remove_leftovers(parent)
        with tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=parent) as scratch:
            yield scratch
        return
    try:
        yield given
    finally:
        if _has_stdin_ended():
            shutil.rmtree(given, ignore_errors=True)


def _has_stdin_ended() -> bool:
    os.set_blocking(0, False)
    try:
        return os.read(0, 1) == b""
    except BlockingIOError:
        return False


def _find_scratch() -> str:
    """In memory, where Linux has it; else where temporary files are."""
    return SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK | os.X_OK) else tempfile.gettempdir()


def _remove_leftovers(parent: str) -> None:
    """The folders of test servers that were killed: they may be in memory."""
    for scratch in Path(parent).glob(f"{SCRATCH_PREFIX}*"):
        with contextlib.suppress(OSError, DatabaseInUse):
            if time.time() - scratch.stat().st_mtime > LEFTOVER_SECONDS:
                with DatabaseLock(str(scratch / FIRST_DATABASE)):
                    shutil.rmtree(scratch)


def _loosen_limits(config: Config) -> Config:
    """Tests are faster than people: the rates are in nobody's way unless they were set."""
    usual, limits = LimitsConfig(), config.limits
    rate = TEST_RATE if limits.rate_limit == usual.rate_limit else limits.rate_limit
    user_rate = TEST_RATE if limits.user_rate_limit == usual.user_rate_limit else limits.user_rate_limit
    return dataclasses.replace(config, limits=dataclasses.replace(limits, rate_limit=rate, user_rate_limit=user_rate))


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
    """Applies what `--dev` and `--test` switch on."""
    return dataclasses.replace(
        config,
        server=dataclasses.replace(config.server, allowed_origins=("*",)),
        webhooks=dataclasses.replace(config.webhooks, allow_private_addresses=True),
        auth=dataclasses.replace(
            config.auth,
            query_api_key=True,
            master_key=config.auth.master_key or f"mk_{secrets.token_urlsafe(32)}",
        ),
    )


async def _serve(config: Config, file: Path | None, dev: DevTools | None) -> int:
    stop = asyncio.Event()
    crashed: list[str] = []

    def on_crash(task: str) -> None:
        crashed.append(task)
        stop.set()

    try:
        clock = Clock() if dev is None else dev.clock
        with systemd.starting():
            app = await start_app(
                config, clock=clock, dev=dev, on_crash=on_crash, on_listening=lambda: _stop_on_signals(stop)
            )
    except (StoreError, DatabaseInUse) as error:
        raise CliError(str(error)) from error
    except ssl.SSLError as error:
        raise CliError(f"cannot load the TLS certificate and key: {error}") from error
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise CliError(f"cannot start: {what}") from error
    _log_start(config, file)
    for address in app.addresses:
        logger.info("listening on %s", address)
    systemd.tell_ready()
    with systemd.watched():
        echo = None
        if dev is not None and dev.scratch is None:
            echo = _start_echo(app)
            _print_first_steps(app, config)
        elif dev is not None:
            print(describe_server(app), flush=True)
            _stop_with_stdin(stop)
        await stop.wait()
        logger.info("shutting down")
        systemd.tell_stopping(config.server.shutdown_grace_seconds)
        if echo is not None:
            echo.cancel()
            await asyncio.wait([echo])
        await app.close()
    return 1 if crashed else 0


def _start_echo(app: App) -> asyncio.Task[None] | None:
    from chatapi.cli.echo import run_echo  # a client, which a server for real use does not load

    key = app.services.tenants.dev_key
    return None if key is None else app.tasks.spawn("echo", run_echo(app.addresses[0], key))


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


def describe_server(app: App) -> str:
    """One line of JSON, for tests."""
    tenants = app.services.tenants
    tenant = tenants.get(DEV_TENANT_ID)
    return dumps_text(
        {
            "url": app.addresses[0],
            "master_key": app.services.config.auth.master_key,
            "tenant_id": tenant.tenant_id,
            "api_key": tenants.dev_key,
            "token_secret": tenant.token_secret,
            "webhook_secret": tenant.webhook_secret,
        }
    )


def _stop_with_stdin(stop: asyncio.Event) -> None:
    """If standard input is a pipe, or a socket as Node makes them, its end is that of the program which runs the tests,
    however that ended. From a terminal, a file or /dev/null nothing is read."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:  # there is none
        return
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return
    loop = asyncio.get_running_loop()
    os.set_blocking(0, False)

    def on_input() -> None:
        try:
            if os.read(0, 4096):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        loop.remove_reader(0)
        logger.info("standard input has ended")
        stop.set()

    loop.add_reader(0, on_input)


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
