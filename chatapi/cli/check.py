"""`chatapi check`: whether a database, or a copy of one, is sound."""

import argparse

from chatapi.cli import database
from chatapi.cli.errors import CliError
from chatapi.store.check import check_database
from chatapi.store.standalone import UnusableDatabase


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Checks a database, also while the server runs. It runs SQLite's integrity check, and looks for gaps in the"
        " logs"
        " of rooms and for rows that refer to missing ones. It prints a line for each finding, and exits with 1 if"
        " there"
        " is one."
    )
    database.add_options(parser)
    parser.add_argument("file", metavar="FILE", nargs="?", help="the database (default: the configured one)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Raises CliError and ConfigError."""
    if args.file and (args.db or args.config):
        raise CliError("name the database once: as FILE, with --db or with --config")
    path = args.file or database.find_path(args)
    try:
        report = check_database(path)
    except UnusableDatabase as error:
        raise CliError(str(error)) from error
    for finding in report.findings:
        print(finding)
    if report.findings:
        raise CliError(f"{path}: damaged, findings: {len(report.findings)}")
    print(f"{path}: ok: " + ", ".join(f"{count} {name}" for name, count in report.counts.items()))
    return 0
