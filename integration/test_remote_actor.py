"""A real process that is an actor: its state, its order, and how it ends."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator

import cloudpickle
import pytest
from worker_harness import Boss, boss, wait_for

from leoronic.remote.errors import ActorDiedError, TaskCancelledError

# The worker process cannot import this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def actors() -> Iterator[Boss]:
    """A party whose actor is still to be started."""
    with boss() as made:
        yield made


class Counter:
    def __init__(self, start: int = 0) -> None:
        self.n = start

    def add(self, k: int = 1) -> int:
        self.n += k
        return self.n

    def leave(self, status: int) -> None:
        sys.exit(status)


def test_an_actor_keeps_state_and_order(actors: Boss) -> None:
    """Calls of one caller are carried out in the order in which they were made."""
    actors.start("actor", Counter, (10,))
    numbers = [actors.call("add", 1) for _ in range(500)]
    assert list(range(11, 511)) == [actors.get(number) for number in numbers]
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        actors.get(actors.call("missing"))
    assert 511 == actors.get(actors.call("add"))
    assert actors.get(actors.call("__leoronic_ready__"))
    assert 512 == actors.get(actors.call("__leoronic_call__", lambda self: self.add()))


@pytest.mark.parametrize("status", [0, 3])
def test_an_actor_that_exits(actors: Boss, status: int) -> None:
    """The call with which it does so fails, and those behind it are given back."""
    actors.start("actor", Counter)
    first = actors.call("leave", status)
    with pytest.raises(ActorDiedError, match="Counter"):
        actors.get(first)
    assert status == actors.exit_status()


def test_an_actor_that_cannot_be_made(actors: Boss) -> None:
    """Whoever calls it gets the traceback of its constructor; it exits with 1."""

    class Broken:
        def __init__(self) -> None:
            raise ValueError("no way")

        def hello(self) -> str:
            return "hello"

    actors.start("actor", Broken)
    with pytest.raises(ActorDiedError, match="no way"):
        actors.get(actors.call("hello"))
    assert 1 == actors.exit_status()
    assert b"ValueError: no way" in actors.written()


class Saving(Counter):
    __leoronic_save_s__ = 0

    def __leoronic_save__(self) -> int:
        if self.n < 0:
            raise ValueError("not below zero")
        return self.n

    def __leoronic_restore__(self, state: int) -> None:
        self.n = state + 1000


@pytest.mark.parametrize("lost", ["nothing", "file", "maker's"])
def test_the_state_of_an_actor_outlives_it(actors: Boss, lost: str) -> None:
    """It is in a file, and with the process that made it: either will do."""
    actors.start("actor", Saving)
    assert 5 == actors.get(actors.call("add", 5))
    file = actors.root / ".leoronic" / "states" / "task-1"
    # Told before the answer.
    assert file.exists()
    actors.kill()
    if lost == "file":
        file.unlink()
    elif lost == "maker's":
        actors.keeper._saved.clear()
    actors.start("actor", Saving, attempt=2)
    wait_for(lambda: actors.attempt == 2, "its next life", actors.story)
    assert 1006 == actors.get(actors.call("add"))
    # At an end for good nobody needs it any more.
    actors.call("leave", 0)
    assert 0 == actors.exit_status()
    assert not file.exists()


def test_the_state_is_saved_a_while_after_a_call(actors: Boss) -> None:
    """Not for each call, if the class does not ask for that."""

    class Lazy(Saving):
        __leoronic_save_s__ = 0.2

    actors.start("actor", Lazy)
    numbers = [actors.call("add") for _ in range(50)]
    assert 50 == [actors.get(number) for number in numbers][-1]
    saved = actors.keeper._saved
    wait_for(lambda: "task-1" in saved, "the state", actors.story)
    assert (1, 1) == saved["task-1"][:2]


def test_a_state_that_cannot_be_saved(actors: Boss) -> None:
    """The actor goes on; why is printed once."""
    actors.start("actor", Saving)
    for n in (-1, -2, -3):
        assert n == actors.get(actors.call("add", -1))
    assert 1 == actors.written().count(b"the state was not saved")


class Asynchronous:
    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.most = self.now = 0

    async def wait(self) -> str:
        await self.event.wait()
        return "woken"

    async def set(self) -> None:
        self.event.set()

    async def overlap(self) -> int:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.05)
        self.now -= 1
        return self.most

    async def items(self, n: int) -> AsyncIterator[int]:
        for index in range(n):
            await asyncio.sleep(0)
            yield index

    def plain(self) -> str:
        return "plain"

    async def sleep(self) -> None:
        await asyncio.sleep(60)


def test_an_asynchronous_actor(actors: Boss) -> None:
    """Its calls overlap, generators stream, plain methods work, and calls can be cancelled."""
    actors.start("actor", Asynchronous)
    waiting = actors.call("wait")
    assert "plain" == actors.get(actors.call("plain"))
    actors.get(actors.call("set"))
    assert "woken" == actors.get(waiting)
    number = actors.call("items", 20, n_returns=-1)
    wait_for(lambda: number in actors.results, "its end", actors.story)
    assert list(range(20)) == actors.items[number]
    number = actors.call("sleep")
    actors.get(actors.call("plain"))
    actors.cancel(number)
    with pytest.raises(TaskCancelledError):
        actors.get(number)


def test_an_asynchronous_actor_bounds_its_calls(actors: Boss) -> None:
    """Not more run at once than max_concurrency."""
    actors.start("actor", Asynchronous, max_concurrency=3)
    numbers = [actors.call("overlap") for _ in range(9)]
    assert 3 == max(actors.get(number) for number in numbers)


class Threaded:
    def __init__(self) -> None:
        self.barrier = threading.Barrier(2)

    def meet(self) -> str:
        self.barrier.wait(10)
        return threading.current_thread().name

    def who(self) -> str:
        return threading.current_thread().name


def test_an_actor_with_threads(actors: Boss) -> None:
    """Calls run at once; a concurrency group has threads of its own."""
    actors.start("actor", Threaded, max_concurrency=2, groups={"io": 1})
    numbers = [actors.call("meet") for _ in range(2)]
    assert 2 == len({actors.get(number) for number in numbers})
    assert actors.get(actors.call("who", group="io")).startswith("io")
