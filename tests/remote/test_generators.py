"""Generators of remote calls: items as they arrive, the end, and failures."""

from __future__ import annotations

import gc
import threading

import pytest

from leoronic.remote.errors import failure_of
from leoronic.remote.generators import ObjectRefGenerator
from leoronic.remote.remote_call import STREAM, RemoteCall

WITHIN_S = 10.0


class Bench:
    """One call whose items a test sends."""

    def __init__(self) -> None:
        self.call = RemoteCall(1, ("n", "d-1"), "f", ((),), STREAM, label="f()")
        self.taken: list[int] = []
        self.forgotten = 0
        self.stream = ObjectRefGenerator(self.call, self.taken.append, self._forget, None)

    def _forget(self) -> None:
        self.forgotten += 1

    def item(self, index: int, value: object) -> None:
        self.call.stream.item(index, True, (value,))

    def end(self, count: int) -> None:
        self.call.settle(True, (count,))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_items_that_are_there_before_somebody_asks(bench: Bench) -> None:
    """Each is told to be taken when it is."""
    bench.item(0, "a")
    bench.item(1, "b")
    bench.end(2)
    assert ["a", "b"] == [ref.value() for ref in bench.stream]
    assert [1, 2] == bench.taken
    assert [] == list(bench.stream)


def test_items_that_come_while_somebody_waits(bench: Bench) -> None:
    """And the end, too."""
    found: list[object] = []

    def read() -> None:
        found.extend(ref.value() for ref in bench.stream)

    reader = threading.Thread(target=read)
    reader.start()
    bench.item(0, "a")
    bench.item(1, "b")
    bench.end(2)
    reader.join(WITHIN_S)
    assert ["a", "b"] == found


def test_a_failure_is_the_last_item(bench: Bench) -> None:
    """What came before it is there."""
    bench.item(0, "a")
    bench.call.settle(False, failure_of(ValueError("enough")))
    one, bad = list(bench.stream)
    assert "a" == one.value()
    with pytest.raises(ValueError, match="enough"):
        bad.value()
    with pytest.raises(ValueError, match="enough"):
        bench.stream.completed().value()


def test_items_that_are_made_again_are_not_given_twice(bench: Bench) -> None:
    """After a crash the generator begins anew."""
    bench.item(0, "a")
    first = next(bench.stream)
    bench.item(0, "again")
    bench.item(1, "b")
    bench.end(2)
    assert ["a", "b"] == [first.value(), *(ref.value() for ref in bench.stream)]


def test_a_failure_of_the_second_try_comes_after_what_the_first_gave(bench: Bench) -> None:
    """Nothing that has arrived is lost by it."""
    bench.item(0, "a")
    bench.item(1, "b")
    bench.item(0, "again")
    bench.call.settle(False, failure_of(ValueError("enough")))
    assert [True, True, False] == [ref.ok for ref in bench.stream]


async def test_asynchronously(bench: Bench) -> None:
    """As `async for`."""
    threading.Thread(target=lambda: (bench.item(0, "a"), bench.item(1, "b"), bench.end(2))).start()
    assert ["a", "b"] == [ref.value() async for ref in bench.stream]


def test_one_that_nobody_reads_is_cancelled(bench: Bench) -> None:
    """Unless it has ended by itself."""
    other = Bench()
    other.end(0)
    del bench.stream, other.stream
    gc.collect()
    assert (1, 0) == (bench.forgotten, other.forgotten)
