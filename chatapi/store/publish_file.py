"""Gives a file that was made under another name its own, once it is complete."""

import os
from contextlib import suppress
from pathlib import Path


def publish(partial: Path, final: Path) -> None:
    """Raises FileExistsError if somebody else has taken the name meanwhile."""
    try:
        os.link(partial, final)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(final):
            raise FileExistsError(str(final)) from None
        partial.rename(final)
    with suppress(OSError):  # not every file system can sync a folder
        folder = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
