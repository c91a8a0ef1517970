"""`leoronic.Executor` keeps what `concurrent.futures` promises; every wait has a limit."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import itertools
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Iterator
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    BrokenExecutor,
    CancelledError,
    Future,
    as_completed,
    wait,
)
from pathlib import Path
from typing import Any

import pytest
from harness import REPOSITORY, Node, wait_until

import leoronic
from integration import remote_work as work

WITHIN_S = 30.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = Node(tmp_path_factory.mktemp("executor") / "a", "--cpus", "2")
    made.start()
    leoronic.init(str(made.root))
    try:
        yield made
    finally:
        leoronic.shutdown()
        made.close()


@pytest.fixture
def executor(node: Node) -> Iterator[leoronic.Executor]:
    """One of two calls at a time, which has ended all when the test is over."""
    with leoronic.Executor(2) as made:
        yield made


pytestmark = [pytest.mark.timeout(90), pytest.mark.usefixtures("node")]


def busy(executor: leoronic.Executor, folder: Path, count: int = 2) -> Path:
    """Have all its workers wait for the file that is returned."""
    gate = folder / "gate"
    futures = [executor.submit(work.wait_for_file, str(gate)) for _ in range(count)]
    wait_until(lambda: all(future.running() for future in futures), "they run")
    return gate


# ---- submit ----


def test_a_call_returns_its_value(executor: leoronic.Executor) -> None:
    """Arguments go there, and the value comes back."""
    assert 1024 == executor.submit(pow, 2, 10).result(WITHIN_S)
    assert 7 == executor.submit(work.add, 3, b=4).result(WITHIN_S)


def test_any_name_is_free_for_keywords(executor: leoronic.Executor) -> None:
    """Those that `submit` itself has, too."""
    found = executor.submit(work.names, 1, self=2, fn=3, executor=4).result(WITHIN_S)
    assert ((1,), {"self": 2, "fn": 3, "executor": 4}) == found


def test_what_can_be_called_can_be_submitted(executor: leoronic.Executor) -> None:
    """Lambdas, closures as they are at the call, bound methods, built-ins, classes."""
    box = [1]

    def look() -> int:
        return box[0]

    first = executor.submit(look).result(WITHIN_S)
    box[0] = 2
    assert [1, 2] == [first, executor.submit(look).result(WITHIN_S)]
    assert 9 == executor.submit(lambda x: x * x, 3).result(WITHIN_S)
    assert "a-b" == executor.submit("-".join, ["a", "b"]).result(WITHIN_S)
    assert {1} == executor.submit(set, [1, 1]).result(WITHIN_S)


def test_an_exception_is_that_of_the_call(executor: leoronic.Executor) -> None:
    """Of its own class, with its arguments; its cause tells where it was raised."""
    future = executor.submit(work.fail, 123)
    with pytest.raises(RuntimeError) as caught:
        future.result(WITHIN_S)
    assert RuntimeError is type(caught.value)
    assert (123,) == caught.value.args
    assert caught.value is future.exception()
    assert "raise RuntimeError(*args)" in str(caught.value.__cause__)
    told = "".join(traceback.format_exception(caught.value))
    assert "raise RuntimeError(*args)" in told


def test_exceptions_that_do_not_load_by_themselves(executor: leoronic.Executor) -> None:
    """One whose constructor takes other arguments comes with its fields."""
    error = executor.submit(work.fail_oddly).exception(WITHIN_S)
    assert isinstance(error, work.Failure)
    assert (7, "odd") == (error.code, str(error))


def test_a_call_that_exits_leaves_the_rest_alone(executor: leoronic.Executor) -> None:
    """`SystemExit` is an exception of the future, and ends nobody."""
    assert isinstance(executor.submit(work.leave, 3).exception(WITHIN_S), SystemExit)
    assert 4 == executor.submit(work.square, 2).result(WITHIN_S)


def test_many_threads_may_submit(executor: leoronic.Executor) -> None:
    """Each gets its own."""
    found: dict[int, int] = {}

    def submit(n: int) -> None:
        futures = [executor.submit(work.square, n * 100 + i) for i in range(50)]
        found[n] = sum(future.result(WITHIN_S) for future in futures)

    threads = [threading.Thread(target=submit, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WITHIN_S)
    assert {n: sum((n * 100 + i) ** 2 for i in range(50)) for n in range(8)} == found


# ---- map ----


@pytest.mark.parametrize("chunksize", [1, 2, 3, 7, 100])
def test_map_keeps_the_order(executor: leoronic.Executor, chunksize: int) -> None:
    """Whatever travels together."""
    assert [x * x for x in range(10)] == list(
        executor.map(work.square, range(10), timeout=WITHIN_S, chunksize=chunksize)
    )


def test_map_takes_several_iterables(executor: leoronic.Executor) -> None:
    """Until the shortest ends."""
    assert [11, 22] == list(executor.map(work.add, [1, 2, 3], [10, 20], timeout=WITHIN_S))
    assert [] == list(executor.map(work.square, [], timeout=WITHIN_S))


def test_map_raises_where_it_failed(executor: leoronic.Executor) -> None:
    """What comes before is there."""
    results = executor.map(work.fail_at_three, range(10), timeout=WITHIN_S)
    assert [0, 1, 2] == [next(results) for _ in range(3)]
    with pytest.raises(ValueError, match="three"):
        next(results)
    with pytest.raises(ValueError, match="three"):
        list(executor.map(work.fail_at_three, range(10), timeout=WITHIN_S, chunksize=5))


def test_map_has_a_time_limit(executor: leoronic.Executor) -> None:
    """From the call of `map` on; what was there in time is given."""
    results = executor.map(work.nap, [0, 0, 3], timeout=1.5)
    assert [0, 0] == [next(results), next(results)]
    with pytest.raises(TimeoutError):
        next(results)


def test_map_begins_at_once(executor: leoronic.Executor, tmp_path: Path) -> None:
    """Nobody needs to ask for the first result."""
    paths = [str(tmp_path / name) for name in "ab"]
    executor.map(work.nap_and_write, [0, 0], paths)
    wait_until(lambda: all(Path(path).exists() for path in paths), "both have run")


def test_map_refuses_a_chunksize_below_one(executor: leoronic.Executor) -> None:
    """At once, not when somebody asks for a result."""
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(work.square, range(3), chunksize=0)


def test_map_lets_go_of_what_it_gave(executor: leoronic.Executor) -> None:
    """A result that the caller has dropped is nowhere else."""

    for found in executor.map(make_box, range(5), timeout=WITHIN_S):
        box = weakref.ref(found)
        del found
        gc.collect()
        wait_until(lambda box=box: box() is None, "it is gone", within_s=5)  # type: ignore[misc]


class Box:
    """Can be referred to weakly."""


def make_box(_: int) -> Box:
    return Box()


# ---- futures ----


def test_what_waits_can_be_cancelled(executor: leoronic.Executor, tmp_path: Path) -> None:
    """At once, and it never runs; what runs cannot be."""
    gate = busy(executor, tmp_path)
    path = tmp_path / "ran"
    waiting = executor.submit(work.nap_and_write, 0, str(path))
    assert (False, False) == (waiting.running(), waiting.done())
    assert waiting.cancel()
    assert (True, True) == (waiting.cancelled(), waiting.done())
    with pytest.raises(CancelledError):
        waiting.result(0)
    gate.touch()
    last = executor.submit(work.square, 3)
    assert 9 == last.result(WITHIN_S)
    assert not last.cancel()
    assert not path.exists()


def test_callbacks(executor: leoronic.Executor) -> None:
    """Are called once, with the future, also if it is over already; one that raises harms none."""
    seen: list[Any] = []
    future = executor.submit(work.square, 3)
    future.add_done_callback(lambda done: 1 / 0)
    future.add_done_callback(lambda done: seen.append(done.result()))
    future.result(WITHIN_S)
    wait_until(lambda: [9] == seen, "the callback", story=lambda: seen)
    future.add_done_callback(lambda done: seen.append("late"))
    assert [9, "late"] == seen
    assert 16 == executor.submit(work.square, 4).result(WITHIN_S)


def test_callbacks_may_wait_for_others(executor: leoronic.Executor) -> None:
    """They may submit more, and `leoronic.get` in them blocks nobody else."""
    found: Future[Any] = Future()

    def go_on(done: Future[int]) -> None:
        found.set_result(leoronic.get(leoronic.remote(work.square).remote(done.result())))

    executor.submit(work.square, 3).add_done_callback(go_on)
    assert 81 == found.result(WITHIN_S)


def test_a_result_can_be_waited_for_in_vain(executor: leoronic.Executor, tmp_path: Path) -> None:
    """A time limit that passes is a `TimeoutError`, and the call goes on."""
    gate = tmp_path / "gate"
    future = executor.submit(work.wait_for_file, str(gate))
    with pytest.raises(TimeoutError):
        future.result(0.05)
    with pytest.raises(TimeoutError):
        future.exception(0.05)
    gate.touch()
    assert str(gate) == future.result(WITHIN_S)


# ---- wait and as_completed ----


def test_wait_for_the_first(executor: leoronic.Executor, tmp_path: Path) -> None:
    """FIRST_COMPLETED ends with the first; those over before count."""
    gate = tmp_path / "gate"
    slow = executor.submit(work.wait_for_file, str(gate))
    quick = executor.submit(work.square, 3)
    assert ({quick}, {slow}) == wait([slow, quick], WITHIN_S, FIRST_COMPLETED)
    assert ({quick}, {slow}) == wait([slow, quick], 0, FIRST_COMPLETED)
    gate.touch()


def test_wait_for_the_first_exception(executor: leoronic.Executor, tmp_path: Path) -> None:
    """FIRST_EXCEPTION does not end with a success; without an exception all are waited for."""
    gate = tmp_path / "gate"
    slow = executor.submit(work.wait_for_file, str(gate))
    quick = executor.submit(work.square, 3)
    wrong = executor.submit(work.fail)
    assert ({quick, wrong}, {slow}) == wait([slow, quick, wrong], WITHIN_S, FIRST_EXCEPTION)
    gate.touch()
    assert ({quick, slow}, set()) == wait([slow, quick], WITHIN_S, FIRST_EXCEPTION)


def test_wait_for_all(executor: leoronic.Executor, tmp_path: Path) -> None:
    """ALL_COMPLETED means failed and cancelled ones too; after its time it says who is left."""
    gate = busy(executor, tmp_path)
    cancelled = executor.submit(work.square, 1)
    cancelled.cancel()
    wrong = executor.submit(work.fail)
    done, left = wait([cancelled, wrong], 0.05, ALL_COMPLETED)
    assert ({cancelled}, {wrong}) == (done, left)
    gate.touch()
    assert ({cancelled, wrong}, set()) == wait([cancelled, wrong], WITHIN_S, ALL_COMPLETED)


def test_as_completed(executor: leoronic.Executor, tmp_path: Path) -> None:
    """Each once, as they end; after the time limit it raises."""
    gate = tmp_path / "gate"
    slow = executor.submit(work.wait_for_file, str(gate))
    quick = executor.submit(work.square, 3)
    found = as_completed([slow, quick, quick], timeout=WITHIN_S)
    assert quick is next(found)
    with pytest.raises(TimeoutError):
        list(as_completed([slow, quick], timeout=0.05))
    gate.touch()
    assert [slow] == list(found)


def test_an_event_loop_may_use_it(executor: leoronic.Executor) -> None:
    """`run_in_executor` and `wrap_future` work as with any other."""

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        one = loop.run_in_executor(executor, work.square, 3)
        other = asyncio.wrap_future(executor.submit(work.square, 4))
        return await asyncio.wait_for(asyncio.gather(one, other), WITHIN_S)

    assert [9, 16] == asyncio.run(main())


# ---- shutdown ----


def test_nothing_is_taken_after_shutdown() -> None:
    """Neither after a second one."""
    executor = leoronic.Executor()
    executor.shutdown()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(work.square, 1)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.map(work.square, [1])


def test_leaving_the_block_waits_for_all() -> None:
    """All futures are over afterwards."""
    with leoronic.Executor(2) as executor:
        futures = [executor.submit(work.nap, 0.05) for _ in range(8)]
    assert [True] * 8 == [future.done() for future in futures]


def test_shutdown_need_not_wait(tmp_path: Path) -> None:
    """What was submitted is done all the same, also what still waited; nobody need hold it."""
    executor = leoronic.Executor(1)
    gate = busy(executor, tmp_path, 1)
    future = executor.submit(work.square, 5)
    began = time.monotonic()
    executor.shutdown(wait=False)
    assert time.monotonic() - began < 1
    assert not future.done()
    del executor
    gc.collect()
    gate.touch()
    assert 25 == future.result(WITHIN_S)


def test_shutdown_can_cancel_what_waits(tmp_path: Path) -> None:
    """What runs goes on to its end, and is waited for."""
    executor = leoronic.Executor(2)
    gate = busy(executor, tmp_path)
    waiting = [executor.submit(work.nap, 0.01) for _ in range(50)]
    threading.Timer(0.2, gate.touch).start()
    executor.shutdown(wait=True, cancel_futures=True)
    assert [True] * 50 == [future.cancelled() for future in waiting]
    assert gate.exists()


def test_an_idle_executor_has_no_thread() -> None:
    """So that one that is forgotten costs nothing."""
    executor = leoronic.Executor()
    executor.submit(work.square, 1).result(WITHIN_S)
    wait_until(
        lambda: not [t for t in threading.enumerate() if t.name == "leoronic executor"],
        "its thread ends",
    )
    assert 4 == executor.submit(work.square, 2).result(WITHIN_S)


def test_a_program_does_not_end_before_its_calls(node: Node, tmp_path: Path) -> None:
    """Without a shutdown, too; and an idle executor does not keep it."""
    path = tmp_path / "written"
    script = f"""
import leoronic
from integration import remote_work as work
leoronic.init({str(node.root)!r})
idle = leoronic.Executor()
idle.submit(work.square, 1).result(30)
leoronic.Executor(1).submit(work.nap_and_write, 0.5, {str(path)!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, timeout=WITHIN_S, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert (0, "") == (done.returncode, done.stderr)
    assert "done" == path.read_text()


def test_it_ends_with_the_session(node: Node) -> None:
    """After `leoronic.shutdown` its calls fail; none hangs, and no new session is begun."""
    script = f"""
import concurrent.futures, leoronic
from integration import remote_work as work
leoronic.init({str(node.root)!r})
executor = leoronic.Executor(1)
futures = [executor.submit(work.nap, 60) for _ in range(3)]
leoronic.shutdown()
done, left = concurrent.futures.wait(futures, 20)
assert not left, left
assert all(future.exception() is not None for future in futures)
assert not leoronic.is_initialized()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, timeout=WITHIN_S, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert (0, "") == (done.returncode, done.stderr)


# ---- workers ----


def test_wrong_arguments_are_refused() -> None:
    """As the standard library does."""
    for count in (0, -1):
        with pytest.raises(ValueError, match="max_workers"):
            leoronic.Executor(count)
    with pytest.raises(TypeError, match="initializer"):
        leoronic.Executor(initializer=7)
    with pytest.raises(ValueError, match="num_cpu"):
        leoronic.Executor(num_cpu=2)


def test_max_workers_bounds_what_runs_at_a_time() -> None:
    """One at a time means one after the other."""
    with leoronic.Executor(1, num_cpus=0.1) as executor:
        times = sorted(executor.map(work.moment, [0.02] * 10, timeout=WITHIN_S))
    for (_, ended), (began, _) in itertools.pairwise(times):
        assert ended <= began


def test_without_a_limit_the_cluster_is_used() -> None:
    """Two calls run beside each other on two processors."""
    with leoronic.Executor() as executor:
        list(executor.map(work.nap, [0.3] * 2, timeout=WITHIN_S))
        (began, _), (_, ended) = executor.map(work.moment, [0.5] * 2, timeout=WITHIN_S)
    assert ended - began < 0.95


def test_the_initializer_runs_first() -> None:
    """In each worker, with its arguments; other executors do not get such workers."""
    with leoronic.Executor(2, initializer=work.set_state, initargs=("ready",)) as executor:
        assert {"ready"} == set(executor.map(work.get_state, range(20), timeout=WITHIN_S))
        assert "ready" == next(executor.map(work.get_state, [0], timeout=WITHIN_S, chunksize=3))
    with leoronic.Executor(2) as executor:
        assert {"untouched"} == set(executor.map(work.get_state, range(20), timeout=WITHIN_S))


def test_an_initializer_that_fails_breaks_the_executor() -> None:
    """What is under way and what waits fails, and more is refused; each says why."""
    with leoronic.Executor(1, initializer=work.fail, initargs=("no licence",)) as executor:
        futures = [executor.submit(work.square, n) for n in range(5)]
        for future in futures:
            with pytest.raises(BrokenExecutor, match="no licence"):
                future.result(WITHIN_S)
        with pytest.raises(BrokenExecutor, match="no licence"):
            executor.submit(work.square, 1)


# ---- no deadlocks, whatever dies ----

BAD = [
    pytest.param(work.square, work.NoPickle(), TypeError, id="argument is not pickled"),
    pytest.param(work.names, work.NoLoad(), RuntimeError, id="argument does not load"),
    pytest.param(work.names, work.DiesLoaded(), BrokenExecutor, id="argument kills who loads it"),
    pytest.param(work.die, 0, BrokenExecutor, id="the call kills its process"),
    pytest.param(work.make, work.NoPickle, Exception, id="result is not pickled"),
    pytest.param(work.make, work.NoLoad, RuntimeError, id="result does not load"),
    pytest.param(work.make, work.DiesPickled, BrokenExecutor, id="result kills who pickles it"),
    pytest.param(work.make, work.LeavesPickled, BaseException, id="result exits when pickled"),
]


@pytest.mark.parametrize(("function", "argument", "kind"), BAD)
@pytest.mark.parametrize("chunksize", [1, 2])
def test_a_bad_value_spoils_its_own_call(
    function: Any, argument: Any, kind: type[BaseException], chunksize: int
) -> None:
    """It fails in time, the others' results are there, and the executor can go on and end."""
    with leoronic.Executor(2, max_retries=1) as executor:
        before = executor.map(work.square, range(10), chunksize=chunksize, timeout=WITHIN_S)
        if chunksize == 1:
            bad: Any = executor.submit(function, argument)
            assert isinstance(bad.exception(WITHIN_S), kind)
        else:
            with pytest.raises(kind):
                list(executor.map(function, [argument] * 3, chunksize=2, timeout=WITHIN_S))
        after = executor.submit(work.square, 11)
        assert [x * x for x in range(10)] == list(before)
        assert 121 == after.result(WITHIN_S)


def test_a_dead_worker_is_named() -> None:
    """The error says what killed it, and is one that users of process pools catch."""
    with leoronic.Executor(1, max_retries=0) as executor:
        error = executor.submit(work.die).exception(WITHIN_S)
    assert isinstance(error, BrokenExecutor)
    assert isinstance(error, leoronic.WorkerCrashedError)
    assert "signal 9" in str(error)


def test_retries_of_a_call_that_lost_its_worker(tmp_path: Path) -> None:
    """A call whose worker was killed is tried again."""
    path = str(tmp_path / "tries")

    def die_twice() -> str:
        with Path(path).open("a") as file:
            file.write("x")
        if len(Path(path).read_text()) < 3:
            work.die()
        return Path(path).read_text()

    with leoronic.Executor(1) as executor:
        assert "xxx" == executor.submit(die_twice).result(WITHIN_S)


def test_large_results_of_workers_that_die() -> None:
    """What was under way to a dead worker, or from it, hangs nobody."""
    with leoronic.Executor(2, max_retries=0) as executor:
        big = [executor.submit(work.make_big, work.DiesPickled, 4 << 20) for _ in range(4)]
        fine = [executor.submit(work.names, b"y" * (4 << 20)) for _ in range(4)]
        for future in big:
            assert isinstance(future.exception(WITHIN_S), BrokenExecutor)
        done, left = wait(fine, WITHIN_S)
        assert set() == left
        for future in done:
            assert future.exception() is None or isinstance(future.exception(), BrokenExecutor)


def test_shutdown_with_calls_that_cannot_be_sent() -> None:
    """It ends, though nothing of it ever ran."""
    executor = leoronic.Executor(1)
    futures = [executor.submit(work.square, work.NoPickle()) for _ in range(10)]
    executor.shutdown(wait=True)
    assert [TypeError] * 10 == [
        TypeError if isinstance(future.exception(0), TypeError) else None for future in futures
    ]


@pytest.mark.parametrize("how", ["result", "wait", "as_completed", "map"])
def test_calls_that_wait_for_calls(how: str) -> None:
    """Deeper than there are processors: who waits lets others run."""
    # Not in a block: leaving it would wait for ever if this fails.
    assert 21 == leoronic.Executor().submit(work.sum_below, 6, how).result(60)


def test_many_calls_that_wait_for_many() -> None:
    """Both processors are taken by calls that each wait for more than fits."""
    found = list(leoronic.Executor().map(work.fan_out, [20] * 6, timeout=60))
    assert [sum(x * x for x in range(20))] * 6 == found


def test_the_base_class_is_kept() -> None:
    """Whoever asks for an executor gets one."""
    assert issubclass(leoronic.Executor, concurrent.futures.Executor)
    with leoronic.Executor() as executor:
        assert isinstance(executor.submit(work.square, 1), Future)
