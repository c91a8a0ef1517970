"""How a node's log lines look: JSON lines on stderr, or text where a person is watching."""

from __future__ import annotations

import io
import json
import logging
import sys
from types import TracebackType
from typing import Any

import orjson

from leoronic.runtime.keeper import print_on_stderr
from leoronic.runtime.log import use_loggers
from leoronic.runtime.structured import structlog


def logs_are_text(log_format: str | None) -> bool:
    """Whether lines are for a person. `log_format`: `json`, `text`, None to find out."""
    return log_format == "text" or (log_format is None and sys.stderr.isatty())


class _Output(io.FileIO):
    """A descriptor to write to; what it does not take is dropped.

    A terminal that was closed, a pipe nobody reads, a full disk: a node goes on without its log.
    """

    def write(self, data: Any) -> int:
        """Write some of `data`; how many bytes are done with."""
        try:
            written: int | None = super().write(data)
        except OSError:
            written = None
        return len(data) if written is None else written


def keep_writing() -> None:
    """From now on no write to stdout or stderr fails, in this process and its forks."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            continue  # It was closed before the start.
        stream.flush()
        raw = _Output(stream.fileno(), "w", closefd=False)
        lasting = io.TextIOWrapper(
            io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=True
        )
        setattr(sys, name, lasting)


def configure_logs(node: str, log_format: str | None) -> None:
    """Configure structlog for this process, and what else would write to stderr.

    JSON lines carry `event`, `level`, `timestamp` and `node`, and `task`, `attempt`, `actor`,
    `peer` where they apply.
    """
    text = logs_are_text(log_format)

    def add_node(_logger: object, _method: str, event: structlog.typing.EventDict) -> object:
        event["node"] = node
        return event

    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if text:
        processors.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
        factory: object = structlog.PrintLoggerFactory(sys.stderr)
    else:
        processors.append(add_node)  # type: ignore[arg-type]
        processors.append(structlog.processors.JSONRenderer(serializer=_to_json))
        factory = structlog.BytesLoggerFactory(sys.stderr.buffer)
    use_loggers(structlog.get_logger)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=factory,  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    # What asyncio and the interpreter would print: on stderr there is nothing but these lines.
    logging.basicConfig(handlers=[_Forwarding(logging.WARNING)], force=True)
    sys.excepthook = _log_uncaught


class _Forwarding(logging.Handler):
    """Hands the standard library's log records on."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log one."""
        structlog.get_logger().bind(logger=record.name).log(
            record.levelno, record.getMessage(), exc_info=record.exc_info
        )


def tell(log_format: str | None, line: str, story: list[str]) -> None:
    """Tell people what they must know, as the rest of stderr is told."""
    if logs_are_text(log_format):
        print_on_stderr(line, story)
    else:
        structlog.get_logger().critical(line, **({"story": story} if story else {}))


def _log_uncaught(
    kind: type[BaseException], error: BaseException, _traceback: TracebackType | None
) -> None:
    structlog.get_logger().critical("uncaught error", reason=kind.__name__, exc_info=error)


def _to_json(event: object, default: object = None, **_options: object) -> bytes:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # A file name that is no UTF-8, or a huge number: a log line must not end an actor.
        return json.dumps(event, default=str).encode()
