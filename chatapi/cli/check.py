"""`chatapi check`: whether a database, or a copy of one, is sound; or whether a user whose data was erased is gone."""

import argparse

from chatapi.cli import database
from chatapi.cli.errors import CliError
from chatapi.store.check import check_database
from chatapi.store.standalone import UnusableDatabase
from chatapi.store.user_check import check_user, read_texts


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
    parser.add_argument(
        "--user",
        nargs=2,
        metavar=("TENANT", "USER"),
        help="look instead for what is left of a user whose data was erased",
    )
    parser.add_argument(
        "--export",
        metavar="NDJSON",
        help="with --user: the export that was made before, whose texts are looked for in all bytes of the files",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Raises CliError and ConfigError."""
    if args.file and (args.db or args.config):
        raise CliError("name the database once: as FILE, with --db or with --config")
    if args.export and not args.user:
        raise CliError("--export goes with --user")
    path = args.file or database.find_path(args)
    if args.user:
        tenant_id, user_id = args.user
        return _check_user(path, tenant_id, user_id, args.export)
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


def _check_user(path: str, tenant_id: str, user_id: str, export: str | None) -> int:
    texts: set[str] = set()
    try:
        if export:
            with open(export, "rb") as lines:
                texts.update(read_texts(lines))
        findings = check_user(path, tenant_id, user_id, texts)
    except (OSError, ValueError) as error:
        raise CliError(f"{export}: {error}") from error
    except UnusableDatabase as error:
        raise CliError(str(error)) from error
    for finding in findings:
        print(finding)
    if findings:
        raise CliError(f"{path}: data of {user_id} is left, findings: {len(findings)}")
    print(f"{path}: nothing of {user_id} is left, texts looked for: {len(texts)}")
    return 0
