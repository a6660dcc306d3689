"""The command line: one module per command, each with `add_parser`."""

import argparse
import sys
from collections.abc import Sequence

import chatapi
from chatapi.cli import backup, bench, check, config, import_, key, serve, tenant
from chatapi.cli.errors import CliError
from chatapi.config import ConfigError

INTERRUPTED = 128 + 2  # as a shell spells the end by SIGINT

COMMANDS = (serve, tenant, key, backup, check, import_, bench, config)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status. What goes wrong is one line on stderr."""
    parser = argparse.ArgumentParser(prog="chatapi", description="A self-hosted chat backend in one process.")
    parser.add_argument("--version", action="version", version=f"chatapi {chatapi.__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    args = parser.parse_args(arguments)
    try:
        return int(args.run(args))
    except (CliError, ConfigError) as error:
        print(f"chatapi: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("chatapi: interrupted", file=sys.stderr)
        return INTERRUPTED
