"""How a node's log lines look: JSON lines on stderr, or text where a person is watching."""

from __future__ import annotations

import logging
import sys

from leoronic.runtime.keeper import print_on_stderr
from leoronic.runtime.log import get_logger, use_loggers
from leoronic.runtime.plain_log import use_plain_loggers
from leoronic.writing import logs_are_text


def configure_logs(node: str, log_format: str | None) -> None:
    """Configure the logs of this process and its forks, and what else would write to stderr.

    JSON lines carry `event`, `level`, `timestamp` and `node`, and `task`, `attempt`, `actor`,
    `peer` where they apply.
    """
    text = logs_are_text(log_format)
    use_plain_loggers(node, text=text)
    if text:
        _use_structlog()


def _use_structlog() -> None:
    """For a person. It takes 2 MiB, which a node that runs unwatched does without."""
    from leoronic.runtime.structured import structlog  # noqa: PLC0415

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    use_loggers(structlog.get_logger)


def tell(log_format: str | None, line: str, story: list[str]) -> None:
    """Tell people what they must know, as the rest of stderr is told."""
    if logs_are_text(log_format):
        print_on_stderr(line, story)
    else:
        get_logger().critical(line, **({"story": story} if story else {}))
