"""The executor's own part: who runs, who waits, and what is told, with calls that the test ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, wait
from typing import Any

import pytest

from leoronic.remote.errors import WorkerCrashedError, failure, failure_of
from leoronic.remote.executor import CallLost, Executor
from leoronic.remote.prepared import InitializerFailed
from leoronic.remote.refs import ObjectRef

WITHIN_S = 10.0


class Begun:
    """A call that was handed over, and is over when the test says so."""

    def __init__(self, number: int, args: tuple[Any, ...]) -> None:
        self.args = args
        self.ref = ObjectRef(("n", "p", number))

    def end(self, value: object) -> None:
        self.ref.settle(True, (value,))

    def fail(self, error: BaseException) -> None:
        self.ref.settle(False, failure_of(error))


class FakeCalls:
    """In the place of `Calls`."""

    is_over = False

    def __init__(self) -> None:
        self.begun: list[Begun] = []

    def prepare(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    def start(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObjectRef:
        if args == ("bad",):
            raise TypeError("cannot be pickled")
        self.begun.append(Begun(len(self.begun), args))
        return self.begun[-1].ref

    def slots(self) -> float:
        return 1.0


class Watched(Executor):
    """An executor whose calls go nowhere."""

    def _make_calls(self, *_: Any) -> Any:
        self.calls = FakeCalls()
        return self.calls


Make = Callable[..., Watched]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes executors; ends what is left of their calls, or their threads would stay."""
    made: list[Watched] = []

    def one(*args: Any) -> Watched:
        made.append(Watched(*args))
        return made[-1]

    yield one
    for executor in made:
        executor.shutdown(wait=False, cancel_futures=True)
        for begun in executor.calls.begun:
            begun.end(None)


def over(*futures: Future[Any]) -> None:
    """Wait until they are."""
    assert not wait(futures, WITHIN_S).not_done


def test_only_so_many_are_handed_over(make: Make) -> None:
    """The next goes when one has ended; until then it waits, and can be cancelled."""
    executor = make(2)
    futures = [executor.submit(print, n) for n in range(4)]
    assert [True, True, False, False] == [future.running() for future in futures]
    assert futures[2].cancel()
    executor.calls.begun[0].end("a")
    over(futures[0])
    assert "a" == futures[0].result()
    assert [(0,), (1,), (3,)] == [begun.args for begun in executor.calls.begun]
    assert not futures[1].cancel()
    for begun in executor.calls.begun[1:]:
        begun.end(None)
    executor.shutdown()
    assert [True] * 4 == [future.done() for future in futures]


def test_a_call_that_cannot_be_sent_makes_room(make: Make) -> None:
    """It fails by itself, and those after it go."""
    executor = make(1)
    bad = executor.submit(print, "bad")
    good = executor.submit(print, "good")
    over(bad)
    assert isinstance(bad.exception(), TypeError)
    executor.calls.begun[0].end(7)
    assert 7 == good.result(WITHIN_S)


def test_errors_are_those_of_the_call(make: Make) -> None:
    """With the remote traceback as their cause; a lost worker is a broken executor's, too."""
    executor = make(2)
    wrong, lost = executor.submit(print), executor.submit(print)
    executor.calls.begun[0].fail(KeyError("k"))
    executor.calls.begun[1].ref.settle(False, failure("worker_crashed", "killed by signal 9"))
    over(wrong, lost)
    error = wrong.exception()
    assert (KeyError, ("k",)) == (type(error), error.args if error else ())
    assert "KeyError: 'k'" in str(error.__cause__ if error else "")
    assert isinstance(lost.exception(), CallLost)
    assert isinstance(lost.exception(), WorkerCrashedError)
    assert isinstance(lost.exception(), BrokenExecutor)
    # It goes on, as workers are replaced.
    assert executor.submit(print).running()


def test_a_failed_initializer_breaks_it(make: Make) -> None:
    """For those under way, those that wait, and those that come."""
    executor = make(1)
    futures = [executor.submit(print, n) for n in range(3)]
    executor.calls.begun[0].fail(InitializerFailed("no licence"))
    # The one after it may have been handed over before anybody knew.
    over(futures[0])
    for begun in executor.calls.begun[1:]:
        begun.fail(InitializerFailed("no licence"))
    over(*futures)
    assert [BrokenExecutor] * 3 == [type(future.exception()) for future in futures]
    with pytest.raises(BrokenExecutor, match="no licence"):
        executor.submit(print)
    executor.shutdown()


def test_shutdown_cancels_only_what_waits(make: Make) -> None:
    """And returns at once if it is told not to wait."""
    executor = make(1)
    runs, waits = executor.submit(print), executor.submit(print)
    executor.shutdown(wait=False, cancel_futures=True)
    assert (False, True) == (runs.done(), waits.cancelled())
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(print)
    executor.calls.begun[0].end(1)
    executor.shutdown(wait=True)
    assert 1 == runs.result(0)


def test_a_callback_may_submit(make: Make) -> None:
    """It is called on the executor's thread, without a lock that another thread could need."""
    executor = make(1)
    second: Future[Future[Any]] = Future()

    def again(_: Future[Any]) -> None:
        found: list[Future[Any]] = []
        thread = threading.Thread(target=lambda: found.append(executor.submit(print, "again")))
        thread.start()
        thread.join(WITHIN_S)
        second.set_result(found[0])

    executor.submit(print).add_done_callback(again)
    executor.calls.begun[0].end(None)
    future = second.result(WITHIN_S)
    executor.calls.begun[1].end("there")
    assert "there" == future.result(WITHIN_S)


def test_map_drops_what_nobody_waits_for(make: Make) -> None:
    """When its consumer stops, what was not handed over is cancelled."""
    executor = make(1)
    results = executor.map(print, range(5))
    executor.calls.begun[0].end("first")
    assert "first" == next(results)
    results.close()  # type: ignore[attr-defined]
    executor.calls.begun[1].end(None)
    executor.shutdown()
    assert 2 == len(executor.calls.begun)


def test_without_a_limit_it_asks_how_many_can_run(make: Make) -> None:
    """Twice as many are handed over, and the rest waits."""
    executor = make()
    futures = [executor.submit(print) for _ in range(5)]
    assert 2 == len(executor.calls.begun)
    assert [True, True, False, False, False] == [future.running() for future in futures]
    executor.shutdown(wait=False, cancel_futures=True)
    for begun in executor.calls.begun:
        begun.end(None)
    executor.shutdown()
