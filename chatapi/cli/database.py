"""The database of a command that needs no server."""

import argparse
import os

from chatapi.config import load_config


def add_options(parser: argparse.ArgumentParser) -> None:
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--config", metavar="FILE", help="read database.path from this file (default: as chatapi serve)"
    )
    choice.add_argument("--db", metavar="FILE", help="path of the database")


def find_path(args: argparse.Namespace) -> str:
    """Raises ConfigError."""
    return load_config(args.config, os.environ, {"database.path": args.db}).config.database.path


def describe_size(size_bytes: int) -> str:
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1000:.0f} kB"
    return f"{size_bytes / 1_000_000:.1f} MB"
