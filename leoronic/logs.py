"""How a node's log lines look: JSON lines on stderr, or text where a person is watching."""

from __future__ import annotations

import json
import logging
import sys
from types import TracebackType

import orjson

from leoronic.runtime.keeper import print_on_stderr
from leoronic.runtime.log import use_loggers
from leoronic.runtime.structured import structlog
from leoronic.writing import logs_are_text


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
