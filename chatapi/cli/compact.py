"""`chatapi compact`: gives free space of the database back to the file system, also while the server runs."""

import argparse
import signal
import time
from types import FrameType

from chatapi.cli import database
from chatapi.cli.admin import add_options, ask
from chatapi.cli.errors import CliError
from chatapi.cli.output import Progress, print_json
from chatapi.client import AdminAPI
from chatapi.store import StoreError
from chatapi.store.compact import Rewriting, compact_database
from chatapi.store.file import name_identity
from chatapi.store.free_space import CompactionStage, SpaceUsage
from chatapi.store.lock import DatabaseInUse
from chatapi.store.standalone import UnusableDatabase

SHOW_SECONDS = 1.0  # between two lines of progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Removes what was deleted, and gives free space of the database back to the file system. Where a server has"
        " the database it does that while it serves; else this command does it. A database of an earlier version has"
        " to be compacted once while no server runs. It can be interrupted at any moment, and be run again."
    )
    parser.add_argument(
        "--db",
        metavar="FILE",
        help="the database (default: the configured one); with --url the server's: it leaves another one alone",
    )
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Raises CliError and ConfigError."""
    signal.signal(signal.SIGTERM, _stop)
    report = _ProgressReport(args.url or database.find_path(args))
    try:
        if args.url:
            _ask_server(args, report, _identify(args.db) if args.db else None)
        else:
            _compact(args, report)
    except KeyboardInterrupt:
        raise CliError(f"interrupted{report.describe() or '; nothing was given back'}") from None
    except CliError as error:
        raise CliError(f"{error}{report.describe()}") from error
    finally:
        report.end()
    report.print_result(as_json=args.json)
    return 0


def _compact(args: argparse.Namespace, report: "_ProgressReport") -> None:
    """Here, or by the server that has the database."""
    try:
        report.show(compact_database(report.name, report.show))
    except DatabaseInUse as in_use:
        try:
            _ask_server(args, report, _identify(report.name))
        except CliError as error:
            holder = "(a server, another `compact` or an `import`)"  # the lock does not tell which
            raise CliError(f"{in_use} {holder}; the server did not do it: {error}") from error
    except (UnusableDatabase, StoreError) as error:
        raise CliError(str(error)) from error
    except OSError as error:
        raise CliError(f"{error.filename or report.name}: {error.strerror}") from error


def _identify(path: str) -> str:
    """For the server, which is to leave another database alone."""
    try:
        return name_identity(path)
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from error


def _ask_server(args: argparse.Namespace, report: "_ProgressReport", identity: str | None) -> None:
    async def follow(api: AdminAPI) -> None:
        while True:
            told = await api.compact(database=identity)
            report.begin(told["before_bytes"])
            space = SpaceUsage(told["file_bytes"], told["free_bytes"], CompactionStage(told["stage"]))
            report.show(space)
            if space.stage is CompactionStage.DONE:
                return

    ask(args, follow)


class _ProgressReport:
    """How it goes, told on stderr while it does."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._progress = Progress()
        self._before_bytes: int | None = None
        self._last: SpaceUsage | None = None
        self._shown_s = float("-inf")

    def begin(self, file_bytes: int) -> None:
        """With a file of this size. Does nothing when it has begun."""
        if self._before_bytes is None:
            self._before_bytes = file_bytes

    def show(self, state: SpaceUsage | Rewriting) -> None:
        if isinstance(state, SpaceUsage):
            self.begin(state.file_bytes)
            self._last = state
            if state.stage is CompactionStage.DONE and state.file_bytes == self._before_bytes:
                return  # there was nothing to do
        now_s = time.monotonic()
        is_last = isinstance(state, SpaceUsage) and state.stage is CompactionStage.DONE
        if is_last or now_s - self._shown_s >= SHOW_SECONDS:
            self._shown_s = now_s
            self._progress.step(_describe_state(state))

    def end(self) -> None:
        self._progress.end()

    def describe(self) -> str:
        """How far it got, for the end of a line that says why it ended there."""
        if self._last is None or self._last.file_bytes == self._before_bytes:
            return ""
        return f"; {self._describe_change(self._last)}, {database.describe_size(self._last.free_bytes)} of it free"

    def print_result(self, *, as_json: bool) -> None:
        last = self._last
        assert last is not None  # it has come to its end
        if as_json:
            print_json({"before_bytes": self._before_bytes, "file_bytes": last.file_bytes})
        elif last.file_bytes == self._before_bytes:
            print(f"{self.name}: {database.describe_size(last.file_bytes)}, none of it free")
        else:
            print(f"{self.name}: {self._describe_change(last)}")

    def _describe_change(self, last: SpaceUsage) -> str:
        before_bytes = self._before_bytes or 0
        return f"{database.describe_size(before_bytes)} before, {database.describe_size(last.file_bytes)} now"


def _describe_state(state: SpaceUsage | Rewriting) -> str:
    if isinstance(state, Rewriting):
        total = database.describe_size(state.total_bytes)
        if state.written_bytes is None:
            return f"rewriting it, at most {total}"
        return f"rewriting it: {database.describe_size(state.written_bytes)} of at most {total}"
    text = f"{database.describe_size(state.file_bytes)}, {database.describe_size(state.free_bytes)} of it free"
    if state.stage is CompactionStage.WAITING:
        text += "; waiting for a backup, a check or a long read that needs it as it was"
    return text


def _stop(_number: int, _frame: FrameType | None) -> None:
    """As Ctrl-C does."""
    raise KeyboardInterrupt
