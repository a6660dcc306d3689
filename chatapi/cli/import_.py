"""`chatapi import`: takes over the database of the Go ChatAPI v0.1."""

import argparse

from chatapi.cli import database
from chatapi.cli.errors import CliError
from chatapi.cli.output import print_table
from chatapi.clock import Clock
from chatapi.store.importer import CredentialMakers, ImportReport, import_go_database
from chatapi.store.standalone import UnusableDatabase
from chatapi.tenant_secrets import hash_key, make_key_id, make_secret


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Takes over the database of the Go ChatAPI v0.1: tenants with their keys, rooms, members, messages,"
        " acknowledgements, subscriptions and pending notifications. All of it or nothing, and it can be run again."
        " Stop both servers first. FILE is only read."
    )
    database.add_options(parser)
    parser.add_argument("file", metavar="FILE", help="path of the Go ChatAPI's database")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Raises CliError and ConfigError."""
    target = database.find_path(args)
    credentials = CredentialMakers(make_key_id, make_secret, hash_key)
    try:
        report = import_go_database(args.file, target, clock=Clock(), credentials=credentials)
    except UnusableDatabase as error:
        raise CliError(str(error)) from error
    except KeyboardInterrupt:
        raise CliError("interrupted; nothing was imported") from None
    _print_report(report)
    return 0


def _print_report(report: ImportReport) -> None:
    print_table(
        ("", "found", "imported", "here already", "skipped"),
        [(kind, count.found, count.imported, count.present, count.skipped) for kind, count in report.counts.items()],
    )
    for (kind, what), number in report.remarks.items():
        print(f"{kind}: {number} {what}")
