"""Logging: the standard library's, as text for people or as JSON for collectors."""

import logging
import math
import sys
import time
from typing import Any

from chatapi.config import LogConfig
from chatapi.models import encode_time
from chatapi.protocol.json import MAX_INTEGER, dumps_text

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def set_up_logging(config: LogConfig) -> None:
    """Everything to stderr, from the level of the configuration on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if config.format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.level.upper())
    for noisy in ("aiosqlite", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _extra_fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _extra_fields(record).items())
        line = f"{encode_time(int(record.created * 1e6))} {record.levelname.lower()} {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": encode_time(int(record.created * 1e6)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update((name, _as_json(value)) for name, value in _extra_fields(record).items())
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return dumps_text(line)


def _as_json(value: object) -> object:
    """Numbers, true, false and null as themselves; anything else, a number that JSON cannot hold included, as text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= MAX_INTEGER else str(value)
    return value if isinstance(value, float) and math.isfinite(value) else str(value)


SELDOM_SECONDS = 60.0


class Seldom:
    """Lines for what may happen ten thousand times a second: each event is logged at most once a minute, and the next
    line of it says how many were left out."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._logged: dict[str, tuple[float, int]] = {}  # by event: when it was logged last, how often it came since

    def error(self, event: str, *arguments: object) -> None:
        """`event` is a constant of the code: its entry stays forever."""
        self._log(logging.ERROR, event, *arguments)

    def warning(self, event: str, *arguments: object) -> None:
        self._log(logging.WARNING, event, *arguments)

    def _log(self, level: int, event: str, *arguments: object) -> None:
        now_s = time.monotonic()
        logged_s, omitted = self._logged.get(event, (-SELDOM_SECONDS, 0))
        if now_s - logged_s < SELDOM_SECONDS:
            self._logged[event] = (logged_s, omitted + 1)
            return
        self._logged[event] = (now_s, 0)
        self._logger.log(level, event, *arguments, extra={"omitted": omitted} if omitted else {})
