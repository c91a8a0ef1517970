"""Remote functions, objects and actors on a real node, end to end; every wait has a limit."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Node, alive, wait_until

import leoronic
from leoronic.core import commands

WITHIN_S = 20.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = Node(tmp_path_factory.mktemp("remote") / "a", "--cpus", "2")
    made.start()
    leoronic.init(str(made.root))
    try:
        yield made
    finally:
        leoronic.shutdown()
        made.close()


pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("node")]


def get(refs: Any, within_s: float = WITHIN_S) -> Any:
    return leoronic.get(refs, timeout=within_s)


@leoronic.remote
def square(x: int) -> int:
    return x * x


@leoronic.remote
def pid() -> int:
    return os.getpid()


@leoronic.remote
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@leoronic.remote
class Counter:
    def __init__(self, start: int = 0) -> None:
        self.n = start

    def add(self, k: int = 1) -> int:
        self.n += k
        return self.n

    def pid(self) -> int:
        return os.getpid()

    def fail(self) -> None:
        raise KeyError("no such thing")

    def crash(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def nap(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds


# ---- functions ----


def test_functions_return_values_in_the_order_asked() -> None:
    """A list of references gives a list of values."""
    assert [x * x for x in range(100)] == get([square.remote(x) for x in range(100)])


def test_references_are_resolved_as_arguments_and_kept_inside_of_them() -> None:
    """A reference as an argument arrives as its value; inside of a list it stays one."""

    @leoronic.remote
    def kinds(plain: Any, nested: list[Any], *, named: Any) -> list[Any]:
        return [plain, type(nested[0]).__name__, leoronic.get(nested[0]), named]

    seven = leoronic.put(7)
    assert [49, "BorrowedRef", 7, 7] == get(
        kinds.remote(square.remote(seven), [seven], named=seven)
    )


def test_a_reference_to_a_reference_comes_back_as_one() -> None:
    """What a worker made is had through the reference that it returned."""

    @leoronic.remote
    def outer() -> list[Any]:
        return [square.remote(5), leoronic.put("put")]

    inner, put = get(outer.remote())
    assert [25, "put"] == get([inner, put])


def test_large_objects_travel_by_reference() -> None:
    """A large array is the same in the worker, and comes back the same."""
    import numpy as np

    array = np.arange(1_000_000)
    ref = leoronic.put(array)

    @leoronic.remote
    def twice(a: Any) -> Any:
        return a * 2

    assert (array * 2 == get(twice.remote(ref))).all()
    assert (array * 2 == get(twice.remote(array))).all()
    assert (array * 4 == get(twice.remote(twice.remote(ref)))).all()


def test_an_exception_is_raised_as_its_own_type_with_the_remote_traceback() -> None:
    """`get` raises what was raised there; the text has the traceback; dependants fail with it."""

    @leoronic.remote(max_retries=0)
    def breaks() -> None:
        raise ZeroDivisionError("by design")

    ref = breaks.remote()
    with pytest.raises(ZeroDivisionError, match="by design") as caught:
        get(ref)
    assert isinstance(caught.value, leoronic.TaskError)
    assert "in breaks" in str(caught.value)
    with pytest.raises(ZeroDivisionError):
        get(square.remote(ref))


def test_several_returns() -> None:
    """`num_returns` gives so many references; a wrong number of values fails all of them."""

    @leoronic.remote(num_returns=2)
    def pair(count: int) -> list[int]:
        return list(range(count))

    one, two = pair.remote(2)
    assert [0, 1] == get([one, two])
    for ref in pair.remote(3):
        with pytest.raises(ValueError, match="shall return 2"):
            get(ref)
    assert pair.options(num_returns=0).remote(1) is None


def test_a_generator_gives_its_items_as_they_are_made() -> None:
    """The first item is there before the last is made."""

    @leoronic.remote
    def count(n: int) -> Iterator[int]:
        for i in range(n):
            yield i
            if i == 1:
                time.sleep(0.5)

    began = time.monotonic()
    stream = count.remote(4)
    first = get(next(stream))
    first_s = time.monotonic() - began
    assert [0, 1, 2, 3] == [first, *(get(ref) for ref in stream)]
    assert first_s < time.monotonic() - began - 0.3


def test_a_generator_that_raises_gives_that_last() -> None:
    """What came before is there; then the exception; then the end."""

    @leoronic.remote(max_retries=0)
    def breaks() -> Iterator[int]:
        yield 1
        raise ValueError("enough")

    one, bad = list(breaks.remote())
    assert 1 == get(one)
    with pytest.raises(ValueError, match="enough"):
        get(bad)


def test_what_cannot_be_pickled_is_refused_at_the_call() -> None:
    """The error names the argument; nothing hangs."""
    import threading

    with pytest.raises(leoronic.NotSerializable, match="argument 1"):
        square.remote(threading.Lock())

    @leoronic.remote
    def lock() -> Any:
        import threading

        return threading.Lock()

    with pytest.raises(TypeError, match="result"):
        get(lock.remote())


def test_a_killed_worker_takes_only_its_own_call_along(tmp_path: Path) -> None:
    """The call is made again elsewhere as often as it may; the others are not touched."""
    mark = tmp_path / "tried"

    @leoronic.remote(max_retries=1)
    def dies_once() -> str:
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    others = [square.remote(x) for x in range(200)]
    again = dies_once.remote()
    others += [square.remote(x) for x in range(200)]
    assert "done" == get(again)
    assert [x * x for x in range(200)] * 2 == get(others)


def test_a_call_that_kills_its_worker_each_time_fails_and_says_how() -> None:
    """The error names the signal and the last lines."""

    @leoronic.remote(max_retries=1)
    def dies() -> None:
        os.write(2, b"last words\n")
        os.kill(os.getpid(), signal.SIGKILL)

    others = [square.remote(x) for x in range(20)]
    with pytest.raises(leoronic.WorkerCrashedError, match="signal 9") as caught:
        get(dies.remote())
    assert "last words" in str(caught.value)
    assert [x * x for x in range(20)] == get(others)


def test_exceptions_are_retried_if_asked(tmp_path: Path) -> None:
    """`retry_exceptions` makes a failing call once more, for those kinds only."""
    tries = tmp_path / "tries"

    def flaky(kind: type[Exception]) -> int:
        with tries.open("a") as file:
            file.write("x")
        if len(tries.read_text()) % 3:
            raise kind("not yet")
        return len(tries.read_text())

    remote = leoronic.remote(max_retries=5, retry_exceptions=[OSError])(flaky)
    assert 3 == get(remote.remote(ConnectionError))
    with pytest.raises(ValueError, match="not yet"):
        get(remote.remote(ValueError))
    assert "xxxx" == tries.read_text()


def test_wait_gives_what_is_ready_first() -> None:
    """`num_returns` and `timeout` bound it; the order is that of the list."""
    slow, quick = nap.remote(3), square.remote(2)
    assert ([quick], [slow]) == leoronic.wait([slow, quick], timeout=WITHIN_S)
    began = time.monotonic()
    assert ([quick], [slow]) == leoronic.wait([slow, quick], num_returns=2, timeout=0.2)
    assert 0.1 < time.monotonic() - began < 2
    leoronic.cancel(slow)


def test_get_gives_up_in_time() -> None:
    """`GetTimeoutError` is a `TimeoutError`."""
    slow = nap.remote(30)
    with pytest.raises(TimeoutError) as caught:
        leoronic.get(slow, timeout=0.1)
    assert isinstance(caught.value, leoronic.GetTimeoutError)
    leoronic.cancel(slow)
    with pytest.raises(leoronic.TaskCancelledError):
        get(slow)


def test_a_waiting_call_can_be_cancelled() -> None:
    """It never begins; those before it are not touched."""
    running = [nap.remote(1.0) for _ in range(2)]
    waiting = [square.remote(x) for x in range(5)]
    leoronic.cancel(waiting[3])
    with pytest.raises(leoronic.TaskCancelledError):
        get(waiting[3])
    assert [0, 1, 4, 16] == get([*waiting[:3], waiting[4]])
    assert [1.0, 1.0] == get(running)


def test_calls_nested_deeper_than_there_are_workers() -> None:
    """A worker that waits is stood in for, so recursion ends."""

    @leoronic.remote
    def down(depth: int) -> int:
        return 0 if not depth else 1 + leoronic.get(down.remote(depth - 1))

    assert [6, 6] == get([down.remote(6), down.remote(6)], 50)


def test_a_call_that_waits_for_one_queued_behind_it() -> None:
    """Workers that wait for a reference of the driver make room for what makes it."""

    @leoronic.remote
    def waits(refs: list[Any]) -> int:
        return leoronic.get(refs[0])

    slow = square.remote(leoronic.put(3))
    waiting = [waits.remote([nap.remote(0.3)]) for _ in range(6)]
    assert [0.3] * 6 == get(waiting)
    assert 9 == get(slow)


def test_values_can_be_awaited() -> None:
    """References work with `await`, `gather`, `wait_for`, and as futures."""

    async def main() -> list[Any]:
        one = await square.remote(2)
        more = await asyncio.gather(*[square.remote(x) for x in range(5)])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(nap.remote(1).future()), 0.05)
        return [one, more]

    assert [4, [0, 1, 4, 9, 16]] == asyncio.run(main())
    assert 9 == square.remote(3).future().result(WITHIN_S)


def test_prints_appear_at_the_driver(capfd: pytest.CaptureFixture[str]) -> None:
    """Each line with who printed it."""

    @leoronic.remote
    def says() -> None:
        print("hello from afar")

    get(says.remote())
    seen = ""

    def printed() -> bool:
        nonlocal seen
        seen += capfd.readouterr().out
        return "hello from afar" in seen

    wait_until(printed, "what was printed")
    assert "(says() pid=" in seen


# ---- actors ----


def test_an_actor_keeps_state_and_the_order_of_calls() -> None:
    """Calls of one caller are carried out in their order."""
    counter = Counter.remote(10)
    assert list(range(11, 511)) == get([counter.add.remote() for _ in range(500)])


def test_order_is_kept_while_an_argument_is_not_there_yet() -> None:
    """A later call does not overtake one that waits for its argument."""

    @leoronic.remote
    class Log:
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def note(self, what: Any) -> None:
            self.seen.append(what)

        def all(self) -> list[Any]:
            return self.seen

    log = Log.remote()
    log.note.remote(1)
    log.note.remote(nap.remote(0.3))
    log.note.remote(2)
    assert [1, 0.3, 2] == get(log.all.remote())


def test_an_actor_goes_on_after_an_exception() -> None:
    """The call fails as its own type."""
    counter = Counter.remote()
    get(counter.add.remote())
    with pytest.raises(KeyError):
        get(counter.fail.remote())
    assert 2 == get(counter.add.remote())


def test_handles_can_be_passed_on() -> None:
    """A function calls the same actor."""

    @leoronic.remote
    def adds(counter: Any, k: int) -> int:
        return leoronic.get(counter.add.remote(k))

    counter = Counter.remote()
    assert {1, 2, 3} == set(get([adds.remote(counter, 1) for _ in range(3)]))


def test_an_actor_that_was_made_by_a_function_outlives_its_worker() -> None:
    """As long as somebody has a handle."""

    @leoronic.remote
    def makes() -> list[Any]:
        return [Counter.remote(), os.getpid()]

    counter, worker = get(makes.remote())
    assert 1 == get(counter.add.remote())
    wait_until(lambda: not alive(worker), "the end of the idle worker")
    assert 2 == get(counter.add.remote())
    leoronic.kill(counter)


def test_named_actors() -> None:
    """A name is taken once, found by others, and free again after the end."""
    first = Counter.options(name="hits").remote()
    assert 1 == get(first.add.remote())
    with pytest.raises(ValueError, match="taken"):
        Counter.options(name="hits").remote()
    same = Counter.options(name="hits", get_if_exists=True).remote()
    assert 2 == get(same.add.remote())
    assert 3 == get(leoronic.get_actor("hits").add.remote())

    @leoronic.remote
    def finds() -> int:
        return leoronic.get(leoronic.get_actor("hits").add.remote())

    assert 4 == get(finds.remote())
    leoronic.kill(first)
    with pytest.raises(leoronic.ActorDiedError):
        get(first.add.remote())
    with pytest.raises(ValueError, match="no actor"):
        leoronic.get_actor("hits")
    new = Counter.options(name="hits").remote()
    assert 1 == get(new.add.remote())
    leoronic.kill(new)


def test_a_killed_actor_is_restarted_as_often_as_it_may() -> None:
    """A call in flight fails, unless it may be tried again; then the actor is gone for good."""
    counter = Counter.options(max_restarts=1).remote(5)
    assert 6 == get(counter.add.remote())
    with pytest.raises(leoronic.ActorUnavailableError):
        get(counter.crash.remote())
    assert 6 == get(counter.add.remote())
    with pytest.raises(leoronic.ActorDiedError, match="signal 9"):
        get(counter.crash.remote())
    with pytest.raises(leoronic.ActorDiedError):
        get(counter.add.remote())


def test_calls_are_tried_again_on_a_restarted_actor() -> None:
    """With `max_task_retries` the caller notices nothing but the time it takes."""
    counter = Counter.options(max_restarts=-1, max_task_retries=5).remote()
    at_work = get(counter.pid.remote())
    napping = counter.nap.remote(0.5)
    after = [counter.add.remote() for _ in range(10)]
    os.kill(at_work, signal.SIGKILL)
    assert 0.5 == get(napping)
    assert list(range(1, 11)) == get(after)


def test_kill_with_restart() -> None:
    """`no_restart=False` ends the process only."""
    counter = Counter.options(max_restarts=-1, max_task_retries=-1).remote()
    before = get(counter.pid.remote())
    leoronic.kill(counter, no_restart=False)
    wait_until(lambda: not alive(before), "the end of its process")
    assert before != get(counter.pid.remote())
    leoronic.kill(counter)


def test_a_constructor_that_raises() -> None:
    """Calls fail with its exception's text."""

    @leoronic.remote
    class Broken:
        def __init__(self) -> None:
            raise RuntimeError("cannot be made")

        def method(self) -> None:
            pass

    with pytest.raises(leoronic.ActorDiedError, match="cannot be made"):
        get(Broken.remote().method.remote())


def test_an_async_actor_runs_its_calls_at_once() -> None:
    """Ten calls that sleep take about as long as one."""

    @leoronic.remote
    class Sleeper:
        async def nap(self, seconds: float) -> float:
            await asyncio.sleep(seconds)
            return seconds

    sleeper = Sleeper.remote()
    get(sleeper.nap.remote(0))
    began = time.monotonic()
    assert [0.5] * 10 == get([sleeper.nap.remote(0.5) for _ in range(10)])
    assert time.monotonic() - began < 3


def test_threads_in_an_actor() -> None:
    """`max_concurrency` runs so many calls at once."""
    counter = Counter.options(max_concurrency=4).remote()
    get(counter.add.remote())
    began = time.monotonic()
    get([counter.nap.remote(0.5) for _ in range(4)])
    assert time.monotonic() - began < 1.9


def test_an_actor_ends_with_its_last_handle(node: Node) -> None:
    """Its process is gone soon after."""
    counter = Counter.remote()
    process = get(counter.pid.remote())
    del counter
    wait_until(lambda: not alive(process), "the end of its process")


def test_an_actor_whose_handle_is_dropped_at_once(node: Node) -> None:
    """Its calls are carried out, then it ends."""
    ref = Counter.options(num_cpus=0.001).remote().add.remote(3)
    Counter.options(num_cpus=0.002).remote()
    assert 3 == get(ref)

    def left() -> list[Any]:
        tasks = node.ask(commands.List(limit=1000))["tasks"]
        return [
            task["state"]
            for task in tasks
            if task["cpus"] in (0.001, 0.002) and task["state"] not in ("succeeded", "cancelled")
        ]

    wait_until(lambda: not left(), "the end of both")


def test_an_actor_may_end_itself() -> None:
    """`exit_actor` is no crash, and it is not restarted."""

    @leoronic.remote(max_restarts=-1)
    class Leaves:
        def go(self) -> None:
            leoronic.exit_actor()

    leaves = Leaves.remote()
    with pytest.raises(leoronic.ActorDiedError):
        get(leaves.go.remote())
    with pytest.raises(leoronic.ActorDiedError):
        get(leaves.go.remote())


def test_pending_calls_can_be_limited() -> None:
    """The call that is too many is refused at once."""
    counter = Counter.options(max_pending_calls=2).remote()
    get(counter.add.remote())
    calls = [counter.nap.remote(0.5) for _ in range(2)]
    with pytest.raises(leoronic.PendingCallsLimitExceeded):
        counter.add.remote()
    get(calls)
    assert 2 == get(counter.add.remote())


# ---- the cluster ----


def test_what_the_cluster_is_made_of(node: Node) -> None:
    """Ray's names for it."""
    assert [node.status()["node"]["id"]] == [one["NodeID"] for one in leoronic.nodes()]
    assert 2.0 == leoronic.cluster_resources()["CPU"]
    assert set(leoronic.available_resources()) >= {"CPU", "memory"}
    assert leoronic.is_initialized()


def test_the_runtime_context() -> None:
    """A call knows where it runs."""

    @leoronic.remote
    def where() -> tuple[str, str]:
        context = leoronic.get_runtime_context()
        return context.get_job_id(), context.get_node_id()

    own = leoronic.get_runtime_context()
    assert (own.get_job_id(), own.get_node_id()) == get(where.remote())


def test_leases_are_given_back(node: Node) -> None:
    """Workers without work end; nothing of a driver is left after its shutdown."""
    get([pid.remote() for _ in range(4)])

    def running() -> list[Any]:
        tasks = node.ask(commands.List(state="running", limit=1000))["tasks"]
        return [task for task in tasks if task["labels"].get("leoronic.kind") == "worker"]

    wait_until(lambda: not running(), "the end of idle workers", within_s=15)
