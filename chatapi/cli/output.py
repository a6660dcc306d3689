"""The output of commands, for people and for scripts."""

import sys
from collections.abc import Mapping, Sequence

from chatapi.protocol.json import dumps_text


def print_json(data: object) -> None:
    """One line, so that scripts can read the output line by line."""
    print(dumps_text(data))


def print_fields(fields: Mapping[str, object]) -> None:
    """A line each, the names in one column and the values in another."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        print(f"{name:{width}}  {show(value)}")


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Numbers to the right, all else to the left."""
    cells = [list(header), *([show(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [bool(rows) and all(isinstance(row[index], int) for row in rows) for index in range(len(header))]
    for line in cells:
        columns = zip(line, widths, numeric, strict=True)
        print("  ".join(f"{text:>{width}}" if right else f"{text:<{width}}" for text, width, right in columns).rstrip())


def show(value: object) -> str:
    """A mapping as `key=value` pairs; None and whatever is empty as `-`."""
    if isinstance(value, Mapping) and value:
        return " ".join(f"{key}={show(item)}" for key, item in value.items())
    return str(value) if value or value in (0, False) else "-"


class Progress:
    """One line on stderr that changes on a terminal; elsewhere a line per step."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._step = ""

    def step(self, text: str) -> None:
        """The next step of the run, which later `show`s belong to."""
        self._step = text
        self._write(text)

    def show(self, text: str) -> None:
        """How far the step has come, on a terminal only."""
        if self._is_terminal:
            self._write(f"{self._step}: {text}")

    def end(self) -> None:
        """Clears the line."""
        if self._is_terminal:
            sys.stderr.write("\r\x1b[K")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}" if self._is_terminal else f"{text}\n")
        sys.stderr.flush()
