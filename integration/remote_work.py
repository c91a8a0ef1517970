"""What tests have carried out elsewhere: well-behaved functions, and others."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import time
from pathlib import Path
from typing import Any, NoReturn

import leoronic


def square(x: int) -> int:
    return x * x


def add(a: int, b: int = 0) -> int:
    return a + b


def names(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def fail(*args: Any) -> NoReturn:
    raise RuntimeError(*args)


def fail_at_three(x: int) -> int:
    if x == 3:
        raise ValueError("three")
    return x


def leave(code: int) -> NoReturn:
    raise SystemExit(code)


def die(*args: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("alive")


def nap_and_write(seconds: float, path: str) -> None:
    time.sleep(seconds)
    Path(path).write_text("done")


def moment(seconds: float) -> tuple[float, float]:
    """When it began, and ended."""
    began = time.time()
    time.sleep(seconds)
    return began, time.time()


def wait_for_file(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.01)
    return path


class Failure(Exception):
    """Cannot be made again from its `args`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def fail_oddly() -> NoReturn:
    raise Failure(7, "odd")


# ---- initializers ----

_state = "untouched"


def set_state(value: str) -> None:
    global _state  # noqa: PLW0603 - as users of initializers do
    _state = value


def get_state(_: object = None) -> str:
    return _state


# ---- values that misbehave ----


class NoPickle:
    """Refuses to be pickled."""

    def __reduce__(self) -> NoReturn:
        raise RuntimeError("not to be pickled")


class NoLoad:
    """Is pickled, and raises when it is loaded."""

    def __reduce__(self) -> Any:
        return fail, ("not to be loaded",)


class DiesLoaded:
    """Kills the process that loads it."""

    def __reduce__(self) -> Any:
        return die, ()


class DiesPickled:
    """Kills the process that pickles it."""

    def __reduce__(self) -> Any:
        die()


class LeavesPickled:
    """Ends the process that pickles it, or would like to."""

    def __reduce__(self) -> Any:
        leave(1)


def make(kind: type) -> Any:
    return kind()


def make_big(kind: type, size: int) -> Any:
    return b"x" * size, kind()


# ---- calls that call ----


def sum_below(depth: int, how: str) -> int:
    """Calls itself, and waits for that in one of the ways of `concurrent.futures`."""
    if depth == 0:
        return 0
    with leoronic.Executor() as executor:
        future = executor.submit(sum_below, depth - 1, how)
        if how == "wait":
            concurrent.futures.wait([future])
        elif how == "as_completed":
            list(concurrent.futures.as_completed([future]))
        elif how == "map":
            return depth + next(executor.map(sum_below, [depth - 1], [how]))
        return depth + future.result()


def fan_out(width: int) -> int:
    """As many calls as there is no room for, and a wait for all."""
    with leoronic.Executor() as executor:
        return sum(executor.map(square, range(width)))
