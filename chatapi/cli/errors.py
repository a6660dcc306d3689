"""The error that stops a command."""


class CliError(Exception):
    """One line for the operator, printed on stderr; the command exits with 1. It never shows a secret."""
