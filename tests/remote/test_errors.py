"""Exceptions of remote code, as they reach whoever waits for the call."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest

from leoronic.errors import LeoronicError
from leoronic.remote import causes
from leoronic.remote.errors import (
    ActorDiedError,
    GetTimeoutError,
    TaskError,
    error_of,
    failure,
    failure_of,
)


class OddError(Exception):
    """Pickles, but does not unpickle: `args` is not what `__init__` takes."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")
        self.a = a


class SlottedError(ValueError):
    __slots__ = ("extra",)


class FinalError(Exception):
    """Wants no subclasses."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        raise TypeError("final")


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def raised(error: BaseException, where: str = "f() failed in worker t:") -> Any:
    """What the caller gets when remote code raises `error`."""
    try:
        raise error
    except BaseException as caught:
        said = failure_of(caught, where)
    return error_of(pickle.loads(pickle.dumps(said, 5)))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyError("k"),
        OddError(1, 2),
        FileNotFoundError(2, "no such file", "name"),
        UnicodeDecodeError("utf8", b"a", 0, 1, "reason"),
        StopIteration(3),
        ImportError("m", name="n"),
        SlottedError("s"),
    ],
)
def test_it_is_an_instance_of_what_was_raised(error: Exception) -> None:
    """`except` finds it by the class of the cause; its args and attributes are there."""
    got = raised(error)
    assert isinstance(got, type(error))
    assert isinstance(got, TaskError)
    assert error.args == got.args
    assert type(error) is type(got.cause)
    assert str(got).startswith("f() failed in worker t:\nTraceback")
    for name, value in vars(error).items():
        assert value == getattr(got, name)


def test_fields_of_operating_system_errors() -> None:
    """As one would use them."""
    got = raised(FileNotFoundError(2, "no such file", "name"))
    assert (2, "name") == (got.errno, got.cause.filename)


def test_a_class_that_refuses() -> None:
    """Without a common class, the cause is there by itself."""
    got = raised(FinalError("x"))
    assert type(got) is TaskError
    assert isinstance(got.cause, FinalError)
    group = raised(ExceptionGroup("g", [ValueError(1)]))
    assert type(group) is TaskError
    assert isinstance(group.cause, ExceptionGroup)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_ends_processes_does_not_end_the_reader(error: BaseException) -> None:
    """A remote exit is an ordinary error here."""
    got = raised(error)
    assert type(got) is TaskError
    assert isinstance(got, Exception)
    assert type(got.cause) is type(error)


def test_attributes_that_cannot_travel_are_left_out() -> None:
    """The rest of the exception arrives."""
    error = ValueError("holds", threading.Lock())
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    error.number = 3  # type: ignore[attr-defined]
    got = raised(error)
    assert isinstance(got, ValueError)
    assert "holds" == got.args[0]
    assert "lock" in got.args[1]
    assert 3 == got.number  # type: ignore[attr-defined]
    assert "lock" not in vars(got.cause)


def test_huge_exceptions_are_shortened() -> None:
    """Neither text nor cause fill the memory of the reader."""
    error = ValueError("x" * 10_000_000)
    error.big = b"x" * 10_000_000  # type: ignore[attr-defined]
    try:
        raise error
    except ValueError as caught:
        said = failure_of(caught)
    assert len(pickle.dumps(said)) < 200_000
    assert "characters left out" in str(error_of(said))
    assert isinstance(error_of(said), ValueError)


def test_an_exception_without_a_text() -> None:
    """Its own `__str__` raises: its class is told."""
    assert "MuteError" in str(raised(MuteError()))


def test_a_class_that_is_not_here() -> None:
    """The text still tells all, and says why there is no more."""
    try:
        raise OddError(1, 2)
    except OddError as caught:
        code, text, (form, data), about = failure_of(caught)
    assert "parts" == form
    got = error_of((code, text, (form, data.replace(b"OddError", b"NotError")), about))
    assert type(got) is TaskError
    assert got.cause is None
    assert "1 and 2" in str(got)
    assert "cannot be loaded here" in str(got)


def test_errors_pass_through_several_calls() -> None:
    """A call that fails because one that it made has failed raises the same, with both texts."""
    got = raised(raised(KeyError("k"), "inner failed:"), "outer failed:")
    assert isinstance(got, KeyError)
    assert type(got.cause) is KeyError
    assert "inner failed:" in str(got)
    assert "outer failed:" in str(got)


def test_errors_of_ours_stay_what_they_are() -> None:
    """An actor that died is that for every caller, not an error of the code in between."""
    got = raised(ActorDiedError("it is gone"))
    assert type(got) is ActorDiedError
    assert "it is gone" == got.message


def test_what_is_raised_can_be_pickled_again() -> None:
    """As users do that keep results."""
    again = pickle.loads(pickle.dumps(raised(KeyError("k"))))
    assert isinstance(again, KeyError)
    assert isinstance(again, TaskError)


def test_failures_of_machines() -> None:
    """A code and a text become the class of that code."""
    got = error_of(failure("actor_died", "why"))
    assert (ActorDiedError, "why") == (type(got), str(got))
    assert issubclass(GetTimeoutError, TimeoutError)
    assert issubclass(TaskError, LeoronicError)


def test_no_frames_of_this_package() -> None:
    """The traceback begins where the user's code does."""
    assert "remote/errors.py" not in str(raised(ValueError("x")))
    assert "in raised" in str(raised(ValueError("x")))


def test_what_is_no_exception() -> None:
    """Something else where a cause should be: told, not raised."""
    assert (None, "what it raised is no exception here") == causes.load_cause(
        ("whole", pickle.dumps(3))
    )
