"""The command line: one module per command, each with `add_arguments`."""

import argparse
import gc
import importlib
import keyword
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Never

import chatapi
from chatapi.cli.errors import CliError
from chatapi.config import ConfigError

WRONG_USAGE = 2  # as argparse has it
INTERRUPTED = 128 + 2  # as a shell reports an end by SIGINT
LOADING = (10_000, 1_000, 1_000)  # thresholds of the collector: each new object is looked at once

COMMANDS = {
    "serve": "run the server",
    "tenant": "create, list, show, change and delete tenants",
    "key": "create, list and revoke API keys",
    "audit": "show the acts of operators and moderators",
    "backup": "copy the database while the server runs",
    "check": "check the database or a copy of it for damage",
    "compact": "give free space of the database back while the server runs",
    "import": "import a database of the Go ChatAPI v0.1",
    "seed": "write rooms and messages from a file",
    "agent": "put a language model into rooms",
    "bench": "measure a server from this machine",
    "config": "show the settings in force and where each comes from",
}


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments, as for all failures. Subcommands have the same class."""

    def error(self, message: str) -> Never:
        self.exit(WRONG_USAGE, f"{self.prog}: {' '.join(message.split())}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status. A failure prints one line on stderr."""
    if arguments is None:
        arguments = sys.argv[1:]
    parser = Parser(prog="chatapi", description="A self-hosted chat backend in one process.")
    parser.add_argument("--version", action="version", version=f"chatapi {chatapi.__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, does in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=does)
        if name in arguments:
            load_command(name).add_arguments(subparser)
    args = parser.parse_args(arguments)
    try:
        return int(args.run(args))
    except (CliError, ConfigError) as error:
        print(f"chatapi: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("chatapi: interrupted", file=sys.stderr)
        return INTERRUPTED


def load_command(name: str) -> ModuleType:
    """Loaded only when it is given: a server needs none of the others, nor the memory that they take.

    Nearly all that modules make stays. So the collector looks at an object once, when it is new, and never again, which
    would take a seventh of a server's start.
    """
    usual = gc.get_threshold()
    gc.set_threshold(*LOADING)
    try:
        return importlib.import_module(f"chatapi.cli.{name}_" if keyword.iskeyword(name) else f"chatapi.cli.{name}")
    finally:
        gc.freeze()
        gc.set_threshold(*usual)
