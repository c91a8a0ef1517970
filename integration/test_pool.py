"""The calls of `multiprocessing.Pool`, on the cluster; every wait has a limit."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from harness import Node, wait_until

import leoronic
from integration import remote_work as work

WITHIN_S = 30.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = Node(tmp_path_factory.mktemp("pool") / "a", "--cpus", "2")
    made.start()
    leoronic.init(str(made.root))
    try:
        yield made
    finally:
        leoronic.shutdown()
        made.close()


pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("node")]


def test_apply() -> None:
    """Waits, and returns or raises what the function does."""
    assert 7 == leoronic.apply(work.add, (3,), {"b": 4})
    assert 9 == leoronic.apply(work.square, (3,), num_cpus=0.5, memory="32MiB")
    with pytest.raises(RuntimeError, match="why"):
        leoronic.apply(work.fail, ("why",))


def test_apply_async(tmp_path: Path) -> None:
    """What it returns is multiprocessing's: ready, successful, wait, get with a time limit."""
    gate = tmp_path / "gate"
    result = leoronic.apply_async(work.wait_for_file, (str(gate),))
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0.05)
    with pytest.raises(TimeoutError):
        result.get(timeout=0.05)
    gate.touch()
    assert str(gate) == result.get(WITHIN_S)
    result.wait()
    assert (True, True) == (result.ready(), result.successful())


def test_callbacks() -> None:
    """One is told the value, the other what was raised."""
    values: list[Any] = []
    errors: list[Any] = []
    told = {"callback": values.append, "error_callback": errors.append}
    leoronic.apply_async(work.square, (3,), **told)  # type: ignore[arg-type]
    failed = leoronic.apply_async(work.fail, ("why",), **told)  # type: ignore[arg-type]
    leoronic.map_async(work.square, [1, 2], **told)  # type: ignore[arg-type]
    wait_until(lambda: len(values) == 2 and errors, "all are told", story=lambda: (values, errors))
    assert 9 in values
    assert [1, 4] in values
    assert [("why",)] == [error.args for error in errors]
    assert not failed.successful()


@pytest.mark.parametrize("chunksize", [None, 1, 3, 1000])
def test_map(chunksize: int | None) -> None:
    """In order, however it is cut."""
    assert [x * x for x in range(100)] == leoronic.map(work.square, range(100), chunksize)
    assert [] == leoronic.map(work.square, [], chunksize)


def test_map_fails_as_a_whole() -> None:
    """Once all is over, with the first exception in order."""
    result = leoronic.map_async(work.fail_at_three, range(10), 2)
    with pytest.raises(ValueError, match="three"):
        result.get(WITHIN_S)
    assert not result.successful()


def test_starmap() -> None:
    """Each item is the arguments of a call."""
    assert [3, 7] == leoronic.starmap(work.add, [(1, 2), (3, 4)])
    assert [3, 7] == leoronic.starmap_async(work.add, iter([[1, 2], [3, 4]])).get(WITHIN_S)


@pytest.mark.parametrize("chunksize", [1, 3])
def test_imap(chunksize: int) -> None:
    """One by one, in order; what fails is raised in its place, and the next may be asked for."""
    assert [x * x for x in range(10)] == list(leoronic.imap(work.square, range(10), chunksize))
    results = leoronic.imap(work.fail_at_three, range(5))
    assert [0, 1, 2] == [results.next(WITHIN_S) for _ in range(3)]
    with pytest.raises(ValueError, match="three"):
        results.next(WITHIN_S)
    assert 4 == results.next(WITHIN_S)
    with pytest.raises(StopIteration):
        results.next(WITHIN_S)


def test_imap_of_something_endless() -> None:
    """It is read a little ahead of what is taken."""
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for n in count():
            read.append(n)
            yield n

    results = leoronic.imap(work.square, numbers())
    assert [0, 1, 4] == [next(results) for _ in range(3)]
    assert len(read) < 1100


def test_imap_has_a_time_limit(tmp_path: Path) -> None:
    """What is not there yet can be asked for again."""
    gate = tmp_path / "gate"
    for kind in (leoronic.imap, leoronic.imap_unordered):
        gate.unlink(missing_ok=True)
        results = kind(work.wait_for_file, [str(gate)])
        with pytest.raises(multiprocessing.TimeoutError):
            results.next(0.05)
        gate.touch()
        assert str(gate) == results.next(WITHIN_S)


def test_imap_unordered(tmp_path: Path) -> None:
    """Who is first comes first."""
    gate = tmp_path / "gate"
    results = leoronic.imap_unordered(work.wait_for_file, [str(gate), "/"])
    assert "/" == results.next(WITHIN_S)
    gate.touch()
    assert [str(gate)] == list(results)
    assert set(range(0, 100, 10)) == set(leoronic.imap_unordered(ten_times, range(10), 3))


def ten_times(x: int) -> int:
    return x * 10


def test_a_pool_of_its_own(tmp_path: Path) -> None:
    """With a limit, an initializer, and an end."""
    gate = tmp_path / "gate"
    with leoronic.Pool(1, work.set_state, ("ready",)) as pool:
        assert ["ready"] * 5 == pool.map(work.get_state, range(5))
        pool.apply_async(work.wait_for_file, (str(gate),))
        late = pool.apply_async(work.square, (3,))
    # Leaving the block is `terminate`: what was not begun is dropped.
    gate.touch()
    with pytest.raises(CancelledError):
        late.get(WITHIN_S)
    with pytest.raises(ValueError, match="not running"):
        pool.apply(work.square, (3,))
    pool.join()


def test_close_and_join() -> None:
    """Nothing more is taken; all that was is done."""
    pool = leoronic.Pool(2)
    results = [pool.apply_async(work.nap, (0.1,)) for _ in range(4)]
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    pool.close()
    pool.join()
    assert [True] * 4 == [result.successful() for result in results]
    with pytest.raises(ValueError, match="not running"):
        pool.map(work.square, [1])


def test_requirements_hold_for_each_call() -> None:
    """Two that want both processors each run one after the other."""
    leoronic.apply(work.square, (1,), num_cpus=2)
    results = [leoronic.apply_async(work.moment, (0.3,), num_cpus=2) for _ in range(2)]
    (_, ended), (began, _) = sorted(result.get(WITHIN_S) for result in results)
    assert ended <= began


def test_many_threads_share_the_pool() -> None:
    """As with multiprocessing's."""
    found: list[list[int]] = []

    def run() -> None:
        found.append(leoronic.map(work.square, range(50)))

    threads = [threading.Thread(target=run) for _ in range(6)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WITHIN_S)
    assert time.monotonic() - began < WITHIN_S
    assert [[x * x for x in range(50)]] * 6 == found
