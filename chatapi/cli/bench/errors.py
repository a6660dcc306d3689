"""The error that ends a run."""

from chatapi.cli.errors import CliError


class BenchError(CliError):
    """The run could not be carried out. A wrong result of a run that could is a `Check` that is not ok."""
