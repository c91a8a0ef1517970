"""What an executor sends, and how many of it fit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from leoronic.remote import prepared
from leoronic.remote.prepared import Calls, InitializerFailed, Setup, after, apply, chunked


@pytest.fixture
def have(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What the cluster has; the test fills it."""
    found: dict[str, float] = {}
    here = SimpleNamespace()
    monkeypatch.setattr(prepared.context, "current", lambda: here)
    monkeypatch.setattr(prepared.context, "current_or_none", lambda: here)
    monkeypatch.setattr(prepared, "cluster_resources", lambda: found)
    return found


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 8.0),
        ({"num_cpus": 0.5}, 16.0),
        ({"num_cpus": 3}, 8 / 3),
        ({"num_cpus": 16}, 1.0),
        ({"num_cpus": 0}, 8.0),
        ({"memory": "2GiB"}, 2.0),
        ({"resources": {"gpu": 0.5}}, 3.0),
        ({"resources": {"none": 1}}, 1.0),
    ],
)
def test_slots(have: dict[str, float], options: dict[str, Any], expected: float) -> None:
    """The scarcest of what a call needs decides; one may always be tried."""
    have.update(CPU=8.0, memory=float(4 << 30), gpu=1.5)
    assert expected == pytest.approx(Calls(options, None, ()).slots())


def test_after_the_session_nothing_begins(
    have: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No new session is begun for what was left."""
    calls = Calls({}, None, ())
    assert not calls.is_over
    monkeypatch.setattr(prepared.context, "current_or_none", lambda: None)
    assert calls.is_over
    with pytest.raises(RuntimeError, match="shutdown"):
        calls.start(print, (), {})


def test_the_initializer_runs_once() -> None:
    """Before the first call of each executor."""
    told: list[str] = []
    setup = Setup("one", told.append, ("ready",))
    call = after(setup, lambda: list(told))
    assert [["ready"], ["ready"]] == [call(), call()]
    after(Setup("two", told.append, ("again",)), lambda: None)()
    assert ["ready", "again"] == told


def test_an_initializer_that_fails_fails_each_call() -> None:
    """It is not tried again, and says what it raised."""
    tries: list[int] = []

    def wrong() -> None:
        tries.append(1)
        raise KeyError("licence")

    call = after(Setup("wrong", wrong, ()), lambda: None)
    for _ in range(2):
        with pytest.raises(InitializerFailed, match="licence"):
            call()
    assert [1] == tries


def test_chunks_and_applications() -> None:
    """Many calls in one, and what came as an argument."""
    assert [3, 7] == chunked(lambda a, b: a + b)([(1, 2), (3, 4)])
    assert (1, 2) == apply(lambda a, function: (a, function), 1, function=2)
