"""`chatapi backup`: a consistent copy of the database, also while the server runs."""

import argparse
import os
import signal
from types import FrameType

from chatapi.cli import database
from chatapi.cli.errors import CliError
from chatapi.store.backup import back_up
from chatapi.store.standalone import UnusableDatabase


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Copies the database as it stands at this moment into one new file, while the server runs."
    database.add_options(parser)
    parser.add_argument("target", metavar="TARGET", help="path of the copy, which must not exist")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Raises CliError and ConfigError."""
    path = database.find_path(args)
    signal.signal(signal.SIGTERM, _stop)
    try:
        size_bytes = back_up(path, args.target)
    except UnusableDatabase as error:
        raise CliError(str(error)) from error
    except FileExistsError as error:
        raise CliError(f"{args.target}: exists already") from error
    except OSError as error:
        raise CliError(f"cannot write {args.target}: {os.strerror(error.errno or 0)}") from error
    except KeyboardInterrupt:
        raise CliError("interrupted; nothing was left behind") from None
    print(f"{args.target}: {database.describe_size(size_bytes)}")
    return 0


def _stop(_number: int, _frame: FrameType | None) -> None:
    """As Ctrl-C does: the unfinished copy is removed."""
    raise KeyboardInterrupt
