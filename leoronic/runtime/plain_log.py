"""Log lines without structlog, which takes memory: JSON for programs, or text without colours."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from types import TracebackType
from typing import Any

import orjson

from leoronic.runtime.log import get_logger, use_loggers

_TOLD_FIRST = ("event", "level", "timestamp")


class PlainLogger:
    """Writes a line to stderr for each event: JSON, or text for a person.

    `always` are fields that an event cannot change, as it can others of the logger.
    """

    def __init__(
        self, fields: dict[str, object], *, text: bool, always: dict[str, object] | None = None
    ) -> None:
        self._fields = fields
        self._always = always or {}
        self._text = text

    def debug(self, event: str, **fields: object) -> None:
        """Not written, as nodes do not."""

    def info(self, event: str, **fields: object) -> None:
        """Write it."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Write it."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Write it; `exc_info` is an exception whose traceback is told, or None."""
        self._write("error", event, fields)

    def critical(self, event: str, **fields: object) -> None:
        """As `error`."""
        self._write("critical", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        error = fields.pop("exc_info", None)
        if isinstance(error, BaseException):
            fields["exception"] = "".join(traceback.format_exception(error)).rstrip()
        line: dict[str, object] = {"event": event, "level": level, "timestamp": _now()}
        line |= {**self._always, **self._fields, **fields, **self._always}
        sys.stderr.buffer.write((_as_text(line) if self._text else _as_json(line)) + b"\n")
        sys.stderr.buffer.flush()


def use_plain_loggers(node: str, *, text: bool) -> None:
    """For this process and its forks. `node` is in each JSON line."""
    always: dict[str, object] = {} if text else {"node": node}
    use_loggers(lambda **fields: PlainLogger(fields, text=text, always=always))
    # What asyncio and the interpreter would print: on stderr there is nothing but these lines.
    logging.basicConfig(handlers=[_Forwarding(logging.WARNING)], force=True)
    sys.excepthook = _log_uncaught


class _Forwarding(logging.Handler):
    """Hands the standard library's log records on."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log one."""
        error = record.exc_info[1] if record.exc_info else None
        write = get_logger().error if record.levelno >= logging.ERROR else get_logger().warning
        write(record.getMessage(), logger=record.name, exc_info=error)


def _log_uncaught(
    kind: type[BaseException], error: BaseException, _traceback: TracebackType | None
) -> None:
    get_logger().critical("uncaught error", reason=kind.__name__, exc_info=error)


def _now() -> str:
    now = time.time()
    second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    return f"{second}.{int(now % 1 * 1_000_000):06}Z"


def _as_json(line: dict[str, object]) -> bytes:
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # A file name that is no UTF-8, or a huge number: a log line must not end an actor.
        return json.dumps(line, default=str).encode()


def _as_text(line: dict[str, object]) -> bytes:
    told = " ".join(f"{key}={value}" for key, value in line.items() if key not in _TOLD_FIRST)
    text = f"{line['timestamp']} [{line['level']:<8}] {line['event']} {told}".rstrip()
    return text.encode(errors="backslashreplace")
