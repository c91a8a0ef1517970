"""Loggers: structlog's, unless the process has said otherwise.

structlog costs 5 MiB, which a ghost does not have to spare; see `plain_log.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Logger = Any
"""A bound logger; `info(event, **fields)` and so on, as structlog's."""

_makers: list[Callable[..., Logger]] = []


def use_loggers(make: Callable[..., Logger]) -> None:
    """From now on `make(**fields)` makes this process's loggers."""
    _makers[:] = [make]


def get_logger(**fields: object) -> Logger:
    """A logger that adds `fields` to each line."""
    if not _makers:
        from leoronic.runtime.structured import structlog  # noqa: PLC0415 - see the module

        use_loggers(structlog.get_logger)
    return _makers[0](**fields)
