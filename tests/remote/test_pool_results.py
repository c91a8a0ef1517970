"""What a pool's calls give back, with futures that the test settles."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Future
from typing import Any

import pytest

from leoronic.remote.pool_results import AsTheyCome, AsyncResult, Ordered, Results, gathered


class Source:
    """Chunks that are begun, up to `count`."""

    def __init__(self, count: int) -> None:
        self.begun: list[Future[list[Any]]] = []
        self._count = count

    def __call__(self) -> Future[list[Any]] | None:
        if len(self.begun) == self._count:
            return None
        self.begun.append(Future())
        return self.begun[-1]


def test_async_result() -> None:
    """Not ready, then ready with its value, and its callback told once."""
    future: Future[int] = Future()
    told: list[Any] = []
    result = AsyncResult(future, told.append, lambda error: told.append(("error", error)))
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0)
    future.set_result(7)
    assert (7, True, [7]) == (result.get(), result.successful(), told)


def test_async_result_that_fails() -> None:
    """The other callback is told."""
    future: Future[int] = Future()
    told: list[Any] = []
    result = AsyncResult(future, None, told.append)
    error = KeyError("k")
    future.set_exception(error)
    assert [error] == told
    assert not result.successful()
    with pytest.raises(KeyError):
        result.get()


def test_gathered() -> None:
    """In order, however they end; the first exception in order, once all have ended."""
    chunks: list[Future[list[int]]] = [Future() for _ in range(3)]
    whole = gathered(chunks)
    chunks[2].set_result([4])
    chunks[0].set_result([1, 2])
    assert not whole.done()
    chunks[1].set_result([3])
    assert [1, 2, 3, 4] == whole.result(0)
    assert [] == gathered([]).result(0)
    wrong: list[Future[list[int]]] = [Future() for _ in range(2)]
    whole = gathered(wrong)
    wrong[1].set_exception(ValueError("second"))
    assert not whole.done()
    wrong[0].set_exception(ValueError("first"))
    assert "first" == str(whole.exception(0))


def test_ordered() -> None:
    """In the order of begin, a few ahead; an exception takes the place of its chunk."""
    source = Source(3)
    results = Ordered(source, ahead=2)
    assert 2 == len(source.begun)
    source.begun[1].set_exception(KeyError("k"))
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(0)
    source.begun[0].set_result([1, 2])
    assert [1, 2] == [results.next(0), results.next(0)]
    assert 3 == len(source.begun)
    with pytest.raises(KeyError):
        results.next(0)
    source.begun[2].set_result([3])
    assert [3] == list(results)
    with pytest.raises(StopIteration):
        results.next(0)


def test_as_they_come() -> None:
    """Whoever ends first is first; the next begins when one was taken."""
    source = Source(3)
    results = AsTheyCome(source, ahead=2)
    source.begun[1].set_result(["b"])
    assert "b" == results.next(0)
    assert 3 == len(source.begun)
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(0)
    source.begun[2].set_exception(KeyError("k"))
    source.begun[0].set_result(["a"])
    with pytest.raises(KeyError):
        results.next(0)
    assert ["a"] == list(results)


@pytest.mark.parametrize("kind", [Ordered, AsTheyCome])
def test_a_failure_makes_room_too(kind: type[Results]) -> None:
    """The chunk after the one that failed is begun."""
    source = Source(2)
    results = kind(source, ahead=1)
    source.begun[0].set_exception(KeyError("k"))
    with pytest.raises(KeyError):
        results.next(0)
    assert 2 == len(source.begun)
