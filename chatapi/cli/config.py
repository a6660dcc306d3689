"""`chatapi config`: prints the settings in force, and where each comes from, as TOML."""

import argparse
import os
import textwrap
from collections.abc import Callable, Iterable
from itertools import groupby

from chatapi.config import SECTION_DOCS, SETTINGS, LoadedConfig, Setting, load_config

COMMENT_COLUMNS = 116
MASK = "********"  # of a fixed length: it tells nothing about the secret's
PREAMBLE = """\
# ChatAPI's settings. Each is shown with its default: to change one, remove the "#" before it.
#
# The server reads --config FILE, else $CHATAPI_CONFIG, else ./chatapi.toml, else /etc/chatapi/chatapi.toml. A variable
# CHATAPI_<SECTION>_<KEY> (CHATAPI_SERVER_PORT=9000) overrides the file, and a flag overrides both. The value of a
# variable is TOML too ([0, 5], true); a bare word is a string, and an empty variable counts as unset. The server does
# not start with unknown keys, wrong types or values out of bounds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="read this file (default: as chatapi serve)")
    parser.add_argument("--default", action="store_true", help="print a commented chatapi.toml with all defaults")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Raises ConfigError."""
    if args.default:
        print(default_toml(), end="")
    else:
        print(effective_toml(load_config(args.config, os.environ, {})), end="")
    return 0


def default_toml() -> str:
    """The text of the repository's chatapi.toml."""
    return _sections(PREAMBLE, _documented)


def effective_toml(loaded: LoadedConfig) -> str:
    """Every setting with its source; secrets are masked."""

    def line(setting: Setting) -> Iterable[str]:
        value = loaded.value(setting)
        shown = _toml(MASK if setting.secret and value else value)
        yield f"{setting.key} = {shown}  # {loaded.sources[setting.name]}"

    return _sections(f"# file: {loaded.file or 'none'}", line)


def _sections(preamble: str, lines: Callable[[Setting], Iterable[str]]) -> str:
    text = [preamble]
    for section, settings in groupby(SETTINGS.values(), key=lambda setting: setting.section):
        text += ["", f"[{section}]  # {SECTION_DOCS[section]}"]
        for setting in settings:
            text += lines(setting)
    return "\n".join(text) + "\n"


def _documented(setting: Setting) -> Iterable[str]:
    yield ""
    for paragraph in (setting.doc, f"Expected: {setting.kind.expected}."):
        yield from textwrap.wrap(paragraph, COMMENT_COLUMNS, initial_indent="# ", subsequent_indent="# ")
    yield f"#{setting.key} = {_toml(setting.default)}"


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return '"' + "".join(map(_escaped, value)) + '"'
        case tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case _:
            return str(value)


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"
