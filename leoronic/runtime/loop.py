"""Runs a process's one coroutine: on uvloop where it can be imported, else on asyncio's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


_plain: list[bool] = []


def use_plain_loop() -> None:
    """From now on, asyncio's own in this process and its forks: uvloop takes memory."""
    _plain.append(True)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop of the better kind, unless `use_plain_loop` said otherwise."""
    if _plain:
        return asyncio.new_event_loop()
    try:
        import uvloop  # noqa: PLC0415 - 32-bit machines do not have it
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main()` to its end on a fresh loop and return its result."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main())
