"""Runs in chatapi.pyz before anything that is packed in it.

Some of its parts are compiled, for one version of Python on one kind of machine. Elsewhere their import would fail with
an error that says nothing of that.
"""

import sys
import sysconfig
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path


def find_foreign_suffix(folder: Path, own_suffixes: list[str]) -> str | None:
    """How the compiled parts in this folder end, if this Python cannot load them."""
    suffixes = {"." + file.name.split(".", 1)[1] for pattern in ("*.so", "*.pyd") for file in folder.rglob(pattern)}
    foreign = suffixes.difference(own_suffixes)
    return min(foreign) if foreign else None


foreign_suffix = find_foreign_suffix(Path(globals()["site_packages"]), EXTENSION_SUFFIXES)
if foreign_suffix is not None:
    sys.exit(
        f"chatapi: this file was made for Pythons that load `{foreign_suffix}`, and this one is"
        f" {sys.version.split()[0]} on {sysconfig.get_platform()}. Start it with a fitting one"
        " (`python3.11 chatapi.pyz …`), or make one with this Python: `.ci/release` in a checkout."
    )
